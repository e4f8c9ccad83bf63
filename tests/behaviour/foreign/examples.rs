//! The three examples of httpd's manual page of mod_proxy_wstunnel, to the letter but for hosts and ports, with other
//! people's clients and servers.

use super::browser::browser;
use super::{Maker, go_through, go_through_all, serve};
use crate::support::{Client, Proxy, TempDir, each_mode, tree};

/// An example as it stands among the configurations of applications, with a backend of ours in place of the one in there.
pub(super) fn example(name: &str, theirs: &str, port: u16) -> String {
    let file = tree().join(format!(
        "tests/data/config/accepted/applications/{name}.conf"
    ));
    let text = std::fs::read_to_string(file).unwrap();
    let is_own = |line: &&str| !line.starts_with('#') && !line.starts_with("Listen ");
    let lines: Vec<&str> = text.lines().filter(is_own).collect();
    let text = lines.join("\n");
    assert!(text.contains(theirs), "{text}");
    text.replace(theirs, &format!("127.0.0.1:{port}"))
}

/// The second one: URLs that are only for WebSocket, beside pages.
pub(super) fn with_pattern(port: u16) -> String {
    example("manual-pattern", "backend.example.com:9080", port)
}

/// The third one, the mixed application: URLs of both kinds, told apart by the request.
pub(super) fn with_rules(port: u16) -> String {
    example("manual-rules", "example.com:9080", port)
}

/// The first one: in the clear, and in TLS.
#[test]
fn a_browser_exchanges_messages() {
    let Some(browser) = browser() else { return };
    let backend = crate::support::Backend::echo();
    let first = example("manual-wstunnel", "ws://echo.websocket.org", backend.port());
    let first = first.replace(" \"127.0.0.1", " \"ws://127.0.0.1");
    let directory = TempDir::new();
    #[cfg(feature = "tls")]
    let (_secure, config, paths) = {
        let certs = crate::support::Certs::new();
        directory.write("ca.pem", certs.pem());
        let secure = crate::support::Backend::echo_tls(&certs.server("localhost"));
        let own = format!("wss://localhost:{}", secure.port());
        let config = first.replace("wss://echo.websocket.org", &own);
        let config = format!("SSLProxyCACertificateFile ca.pem\n{config}");
        (secure, config, "'/ws2/', '/wss2/'")
    };
    #[cfg(not(feature = "tls"))]
    let (config, paths) = (first.lines().next().unwrap(), "'/ws2/'");
    let proxy = Proxy::start_in(directory, config, "");
    let page = include_str!("page.html")
        .replace("PROXY", &proxy.address().to_string())
        .replace("PATHS", paths);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len()
    );
    let site = crate::support::Backend::answering(answer);
    let title = browser.title_of(&format!("http://{}/", site.address()), "running");
    assert_eq!(title, "all exchanged");
}

each_mode! {
    fn urls_for_websockets_stand_beside_pages(mode: Mode) {
        let Some((_app, port)) = serve(Maker::Node, "app") else { return };
        let proxy = Proxy::start(format!("{}\n{}", mode.directives(), with_pattern(port)));
        let url = format!("ws://{}/myApp/ws", proxy.address());
        go_through(Maker::Python, &url);
        go_through(Maker::Node, &url);
        // Anywhere else it is a page that is asked for, and an upgrade goes nowhere.
        let mut client = Client::asking(&proxy, "/elsewhere");
        let answer = client.answer_head().expect_status(404);
        assert_eq!(answer.field("Upgrade"), None);
    }

    fn the_same_urls_are_for_websockets_and_for_pages(mode: Mode) {
        let Some((_app, port)) = serve(Maker::Node, "app") else { return };
        let proxy = Proxy::start(format!("{}\n{}", mode.directives(), with_rules(port)));
        go_through(Maker::Python, &format!("ws://{}/echo", proxy.address()));
        go_through(Maker::Node, &format!("ws://{}/", proxy.address()));
    }
}

#[test]
fn python_asks_for_pages_and_for_a_websocket() {
    let Some((_app, port)) = serve(Maker::Node, "app") else {
        return;
    };
    let reverse = format!("ProxyPassReverse / http://127.0.0.1:{port}/");
    let proxy = Proxy::start(format!("{}\n{reverse}", with_rules(port)));
    let url = format!("http://{}", proxy.address());
    go_through_all(Maker::Python, "pages", &[&url], 7);
}

#[test]
fn a_browser_runs_the_mixed_applications() {
    let Some((_app, port)) = serve(Maker::Node, "app") else {
        return;
    };
    let Some(browser) = browser() else { return };
    for (config, query) in [
        (with_pattern(port), "?socket=/myApp/ws&io=no"),
        (with_rules(port), ""),
    ] {
        let proxy = Proxy::start(config);
        let url = format!("http://{}/{query}", proxy.address());
        let title = browser.title_of(&url, "running");
        assert_eq!(title, "all exchanged", "{query}");
    }
}
