//! What the error log says: one line for each failure, with all that the operator needs.

use crate::support::backend::nobody;
use crate::support::client::{request, request_with, switch};
use crate::support::proxy::{root, run};
use crate::support::{Backend, Client, Proxy, TempDir};
use proxy_wstunnel::ids::Id;
use rustix::process::Signal;

/// The one line about a failure of the backend.
#[track_caller]
fn failure(proxy: &Proxy) -> String {
    proxy.wait_for_log("ProxyPass \"/ws/\"");
    let lines = proxy.log_lines("ProxyPass \"/ws/\"");
    assert_eq!(lines.len(), 1, "one line for one failure: {lines:#?}");
    lines.into_iter().next().unwrap()
}

/// Number of the message, mapping, backend, step, cause, status and remedy, behind level, number and peer.
#[track_caller]
fn expect_parts(line: &str, client: &Client, backend: &str, step: &str, status: u16) {
    assert!(line.contains("WARN"), "{line}");
    let peer = client.local().to_string();
    let (_, said) = line.split_once(&format!("] {peer} ")).expect(line);
    let (id, said) = said.split_once(' ').expect(line);
    let id = Id::all().find(|known| known.code() == id).expect(line);
    let begin = format!("ProxyPass \"/ws/\": {backend}: {step}: ");
    let rest = said
        .strip_prefix(&begin)
        .unwrap_or_else(|| panic!("not {begin:?}: {line}"));
    let end = format!(" ({status}); {}", id.remedy());
    let cause = rest.strip_suffix(&end).expect(line);
    assert!(!cause.is_empty(), "{line}");
}

#[test]
fn each_failure_of_a_backend_is_one_line_that_names_mapping_backend_step_and_cause() {
    let refused = format!("ws://{}/", nobody());
    let proxy = Proxy::start(format!("LogLevel warn\nProxyPass /ws/ {refused}"));
    let mut client = Client::asking(&proxy, "/ws/");
    client.answer().expect_status(503);
    let line = failure(&proxy);
    expect_parts(&line, &client, &refused, "connect", 503);
    assert!(line.to_lowercase().contains("refused"), "{line}");

    let proxy = Proxy::start("LogLevel warn\nProxyPass /ws/ ws://no-such-host.invalid/ timeout=15");
    let mut client = Client::asking(&proxy, "/ws/");
    client.answer().expect_status(502);
    let line = failure(&proxy);
    expect_parts(&line, &client, "ws://no-such-host.invalid/", "resolve", 502);

    for (answer, status) in [
        ("", 502),
        ("HTTP/1.1 1", 502),
        ("garbage\r\n\r\n", 502),
        ("HTTP/1.1 101 Switching\r\n\r\n", 502),
    ] {
        let backend = Backend::answering(answer);
        let url = format!("{}/", backend.url());
        let proxy = Proxy::start(format!("LogLevel warn\nProxyPass /ws/ {url}"));
        let mut client = Client::asking(&proxy, "/ws/");
        client.answer().expect_status(status);
        expect_parts(&failure(&proxy), &client, &url, "handshake", status);
    }

    let backend = Backend::listen();
    let url = format!("{}/", backend.url());
    let proxy = Proxy::start(format!("LogLevel warn\nProxyPass /ws/ {url} timeout=300ms"));
    let mut client = Client::asking(&proxy, "/ws/");
    client.answer().expect_status(504);
    expect_parts(&failure(&proxy), &client, &url, "handshake", 504);
}

#[cfg(feature = "tls")]
#[test]
fn a_failure_of_tls_is_a_line_of_the_same_kind() {
    use crate::support::certs::Identity;
    let backend = Backend::echo_tls(&Identity::self_signed("localhost"));
    let url = format!("wss://localhost:{}/", backend.port());
    let proxy = Proxy::start(format!("LogLevel warn\nProxyPass /ws/ {url}"));
    let mut client = Client::asking(&proxy, "/ws/");
    client.answer().expect_status(502);
    expect_parts(&failure(&proxy), &client, &url, "tls", 502);
}

#[test]
fn an_ordinary_life_is_no_warning() {
    let backend = Backend::echo();
    let mut proxy = Proxy::start(format!("LogLevel warn\nProxyPass /ws/ {}/", backend.url()));
    for _ in 0..3 {
        let mut client = Client::tunnel(&proxy, "/ws/");
        client.echo("x");
        client.finish();
        client.rest();
    }
    Client::sending(&proxy, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .answer()
        .expect_status(404);
    proxy.stop();
    let log = proxy.log();
    let complaints: Vec<_> = log
        .iter()
        .filter(|line| line.contains("[WARN]") || line.contains("[ERROR]"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(
        log.iter().any(|line| line.contains("ready: listening on ")),
        "whatever the level"
    );
}

#[test]
fn lines_about_a_connection_begin_with_its_number_and_its_peer() {
    let backend = Backend::echo();
    let proxy = Proxy::start(format!("LogLevel debug\nProxyPass /ws/ {}/", backend.url()));
    let mut client = Client::tunnel(&proxy, "/ws/");
    client.echo("x");
    let peer = client.local().to_string();
    client.finish();
    client.rest();
    let line = proxy.wait_for_log(&peer);
    let before = line.split(&format!(" {peer}")).next().unwrap();
    let number = before.rsplit_once('[').expect(&line).1;
    let number = number.strip_suffix(']').expect(&line);
    number.parse::<u64>().expect(&line);
}

/// Debug is safe to switch on; only trace may show what clients sent (house rule of the man page).
#[test]
fn secrets_do_not_reach_the_log_below_trace() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!("LogLevel debug\nProxyPass /ws/ {}/", backend.url()));
    let fields = "Authorization: Basic c2VjcmV0LTE=\r\nCookie: id=secret-2\r\nSec-WebSocket-Protocol: secret-3\r\n";
    let mut client = Client::sending(&proxy, request_with("/ws/", fields));
    let mut peer = backend.accept();
    peer.head();
    peer.send(switch().replace("\r\n\r\n", "\r\nSet-Cookie: id=secret-4\r\n\r\n"));
    client.switched();
    client.finish();
    peer.expect_end();
    drop(peer);
    client.rest();
    proxy.wait_for_log("closed");
    let told = proxy.log().join("\n");
    assert!(
        !told.contains("secret") && !told.contains("c2VjcmV0"),
        "{told}"
    );
}

#[test]
fn errorlog_names_a_file() {
    let directory = TempDir::new();
    let proxy = Proxy::start_in(
        directory,
        "ErrorLog error.log\nLogLevel warn\nProxyPass /ws/ ws://127.0.0.1:9/",
        "",
    );
    Client::sending(&proxy, request("/ws/"))
        .answer()
        .expect_status(503);
    let lines = proxy.wait_for_lines("error.log", 2);
    assert!(lines[0].contains("ready: listening on "), "{lines:?}");
    assert!(lines[1].contains("ProxyPass \"/ws/\""), "{lines:?}");
    assert!(
        proxy.log().is_empty(),
        "stderr is silent: {:?}",
        proxy.log()
    );
}

#[test]
fn loglevel_decides_how_much_is_said() {
    let refused = format!("ws://{}/", nobody());
    for (level, said) in [("error", false), ("warn", true), ("info", true)] {
        let mut proxy = Proxy::start(format!("LogLevel {level}\nProxyPass /ws/ {refused}"));
        Client::asking(&proxy, "/ws/").answer().expect_status(503);
        proxy.stop();
        let found = !proxy.log_lines("ProxyPass \"/ws/\"").is_empty();
        assert_eq!(found, said, "LogLevel {level}: {:#?}", proxy.log());
    }
}

#[test]
fn pidfile_holds_the_number_of_the_process_while_it_runs() {
    let mut proxy = Proxy::start("PidFile proxy.pid");
    let file = proxy.directory().join("proxy.pid");
    let content = std::fs::read_to_string(&file).expect("the PidFile");
    assert_eq!(content.trim(), proxy.id().to_string());
    proxy.stop();
    assert!(!file.exists(), "the PidFile is left behind");
}

#[test]
fn what_was_logged_before_a_failed_start_is_written() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let directives = [
        format!("Listen {}", taken.local_addr().unwrap()),
        "ProxyPass /a/ ws://127.0.0.1:9".to_owned(),
    ];
    let [listen, pass] = &directives;
    let said = run(&["-c", listen, "-c", pass, "-c", root()])
        .expect_status(1)
        .stderr;
    assert!(said.contains("cannot bind"), "{said}");
    assert!(said.contains("[WARN] -c:2: warning: ProxyPass"), "{said}");
}

/// Many backends compare `Origin` with `Host`, and answer 403 without a word.
#[test]
fn a_403_to_an_origin_that_differs_from_the_host_gets_a_hint_once_for_each_mapping() {
    let backend = Backend::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    let url = backend.url();
    let mut proxy = Proxy::start(format!(
        "LogLevel warn\nProxyPass /a/ {url}/\nProxyPass /b/ {url}/\n\
         <Location /kept/>\nProxyPass {url}/\nProxyPreserveHost On\n</Location>"
    ));
    let ask = |path: &str, origin: &str| {
        let fields = format!("Origin: {origin}\r\n");
        let mut client = Client::sending(&proxy, request_with(path, &fields));
        client.answer().expect_status(403);
    };
    ask("/a/", &format!("http://{}", backend.address()));
    ask("/kept/", "https://front.example");
    ask("/a/", "https://front.example");
    ask("/a/", "https://front.example");
    ask("/b/", "https://front.example");
    ask("/kept/", "https://other.example");
    proxy.stop();
    let hints = proxy.log_lines("PW413");
    let of = |mapping: &str| hints.iter().filter(|line| line.contains(mapping)).count();
    assert_eq!(hints.len(), 3, "{hints:#?}");
    assert_eq!(of("ProxyPass \"/a/\""), 1, "{hints:#?}");
    assert_eq!(of("ProxyPass \"/b/\""), 1, "{hints:#?}");
    assert!(hints[0].contains("ProxyPreserveHost On"), "{hints:#?}");
}

#[test]
fn a_request_line_stays_in_its_quotes_and_is_what_was_sent() {
    let proxy = Proxy::start("LogLevel info");
    let text = "GET /a\"_\u{202e}_\x1b[1m HTTP/1.1\r\n\r\n";
    Client::sending(&proxy, text).answer().expect_status(400);
    let line = proxy.wait_for_log(" refused: ");
    let quoted = r#"PW101 "GET /a\"_\xe2\x80\xae_\x1b[1m HTTP/1.1" refused: "#;
    assert!(line.contains(quoted), "{line}");
}

#[test]
fn a_version_that_is_not_spoken_is_logged_as_any_other_refusal() {
    let proxy = Proxy::start("LogLevel info");
    let mut client = Client::sending(&proxy, "GET / HTTP/2.0\r\nHost: a\r\n\r\n");
    client.answer().expect_status(505);
    let line = proxy.wait_for_log(" refused: ");
    assert!(
        line.contains("PW104 \"GET / HTTP/2.0\" refused: "),
        "{line}"
    );
    assert_eq!(proxy.log_lines("refused").len(), 1);
}

#[test]
fn a_virtual_host_may_have_an_error_log_and_a_level_of_its_own() {
    let dead = format!("ws://{}/", nobody());
    let proxy = Proxy::start(format!(
        "LogLevel warn\nProxyPass /ws/ {dead}\n\
         <VirtualHost *>\nServerName first.example\nErrorLog first.log\nLogLevel info\n</VirtualHost>\n\
         <VirtualHost *>\nServerName second.example\nLogLevel info\n</VirtualHost>\n\
         <VirtualHost *>\nServerName third.example\nErrorLog first.log\nLogLevel error\n</VirtualHost>\n"
    ));
    let ask = |host: &str, path: &str, status: u16| {
        let text = request(path).replace("front.example", host);
        Client::sending(&proxy, text).answer().expect_status(status);
    };
    ask("third.example", "/ws/", 503);
    ask("first.example", "/ws/", 503);
    ask("first.example", "/none", 404);
    ask("second.example", "/none2", 404);
    let own = proxy.wait_for_lines("first.log", 2);
    assert!(
        own[0].contains("PW404") && own[1].contains("\"/none\""),
        "{own:#?}"
    );
    proxy.wait_for_log("/none2");
    assert!(proxy.log_lines("PW404").is_empty(), "{:#?}", proxy.log());
    proxy.signal(Signal::HUP);
    proxy.wait_for_log("reloaded");
    ask("first.example", "/again", 404);
    assert_eq!(proxy.wait_for_lines("first.log", 3).len(), 3);
}
