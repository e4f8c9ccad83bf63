//! Who may connect, and who it is that connects: `Require`, `Order`, `RemoteIPHeader`.

use crate::support::client::{request_with, switch};
use crate::support::wire::field;
use crate::support::{Backend, Client, Proxy, TempDir};

#[track_caller]
fn status(proxy: &Proxy, backend: &Backend, path: &str, fields: &str) -> u16 {
    let mut client = Client::sending(proxy, request_with(path, fields));
    let seen = backend.count();
    let answer = client.answer_head();
    if answer.status != 101 {
        assert_eq!(backend.count(), seen, "a backend was asked for {path}");
    }
    answer.status
}

fn echoing(config: &str) -> (Proxy, Backend) {
    let backend = Backend::echo();
    let proxy = Proxy::start(format!("{config}\nProxyPass / {}/", backend.url()));
    (proxy, backend)
}

#[test]
fn a_location_permits_whom_it_says() {
    let (proxy, backend) = echoing(
        "<Location /none>\nRequire all denied\n</Location>\n\
         <Location /none/but>\nRequire all granted\n</Location>\n\
         <Location /local>\nRequire local\n</Location>\n\
         <Location /ip>\nRequire ip 10.0.0.0/8 127.0.0\n</Location>\n\
         <Location /other>\nRequire ip 10.0.0.0/8\nRequire ip 192.0.2.1\n</Location>\n\
         <Location /all>\n<RequireAll>\nRequire all granted\nRequire not ip 127.0.0.1\n</RequireAll>\n</Location>\n\
         <Location /post>\nRequire method POST\n</Location>\n\
         <Location /old>\nOrder deny,allow\nDeny from all\nAllow from 127.0.0.1\n</Location>\n\
         <Location /older>\nOrder allow,deny\nAllow from all\nDeny from 127\n</Location>\n\
         <Location /both>\nRequire all granted\nOrder allow,deny\n</Location>\n",
    );
    for (path, expected) in [
        ("/", 101),
        ("/none", 403),
        ("/none/x", 403),
        ("/no%6ee/x", 403),
        ("//none", 403),
        ("/x/../none", 403),
        ("/none/but", 101),
        ("/local", 101),
        ("/ip", 101),
        ("/other", 403),
        ("/all", 403),
        ("/post", 403),
        ("/old", 101),
        ("/older", 403),
        ("/both", 403),
    ] {
        assert_eq!(status(&proxy, &backend, path, ""), expected, "{path}");
    }
}

#[test]
fn a_proxy_section_permits_for_all_that_leads_to_its_backends() {
    let (proxy, backend) = echoing(
        "<Proxy *>\nOrder deny,allow\nDeny from all\n</Proxy>\n\
         <Location /open>\nOrder allow,deny\nAllow from all\n</Location>\n",
    );
    assert_eq!(status(&proxy, &backend, "/x", ""), 403);
    assert_eq!(status(&proxy, &backend, "/open", ""), 101);
}

#[test]
fn who_is_not_permitted_does_not_learn_what_is_mapped() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!(
        "ProxyPass /a/ {}/\n<Location />\nRequire all denied\n</Location>",
        backend.url()
    ));
    for path in ["/a/", "/nothing"] {
        let answer = Client::asking(&proxy, path).answer().expect_status(403);
        let text = String::from_utf8(answer.body).unwrap();
        assert!(text.contains("[PW205]"), "{text}");
    }
    backend.expect_untouched();
}

#[test]
fn a_trusted_proxy_names_the_client_for_rules_logs_and_the_backend() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!(
        "RemoteIPHeader X-Forwarded-For\nRemoteIPInternalProxy 127.0.0.0/8 10.0.0.0/8\n\
         <Location /deny>\nRequire ip 192.0.2.7\n</Location>\n\
         CustomLog access.log \"%a %{{c}}a %h\"\nProxyPass / {}/",
        backend.url()
    ));
    let ask = |path: &str, forwarded: &str| {
        let fields = format!("X-Forwarded-For: {forwarded}\r\n");
        Client::sending(&proxy, request_with(path, &fields))
    };
    let mut client = ask("/deny", "203.0.113.1, 192.0.2.7, 10.1.2.3");
    let mut peer = backend.accept();
    let head = peer.head();
    // What the client claimed stays in front of what is known.
    assert_eq!(
        field(&head, "X-Forwarded-For").as_deref(),
        Some("203.0.113.1, 192.0.2.7")
    );
    peer.send(switch());
    client.switched();
    drop((client, peer));
    proxy.wait_for_lines("access.log", 1);
    // A client cannot put itself into the list from behind.
    ask("/deny", "192.0.2.7, 203.0.113.9")
        .answer()
        .expect_status(403);
    let lines = proxy.wait_for_lines("access.log", 2);
    assert_eq!(
        lines,
        [
            "192.0.2.7 127.0.0.1 192.0.2.7",
            "203.0.113.9 127.0.0.1 203.0.113.9"
        ]
    );
    assert!(
        proxy
            .log_lines("192.0.2.7:")
            .iter()
            .all(|line| !line.contains("WARN"))
    );
}

#[test]
fn without_a_trusted_proxy_nobody_names_another_client() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!(
        "RemoteIPHeader X-Forwarded-For\nRemoteIPTrustedProxy 192.0.2.1\n\
         <Location />\n<RequireAll>\nRequire all granted\nRequire not ip 127.0.0.1\n</RequireAll>\n</Location>\n\
         ProxyPass / {}/",
        backend.url()
    ));
    let fields = "X-Forwarded-For: 203.0.113.1\r\n";
    Client::sending(&proxy, request_with("/", fields))
        .answer()
        .expect_status(403);
    backend.expect_untouched();
}

#[test]
fn a_list_of_proxies_is_read_from_its_file() {
    let directory = TempDir::new();
    directory.write("proxies", "# ours\n127.0.0.1 10.0.0.0/8\n");
    let backend = Backend::listen();
    let proxy = Proxy::start_in(
        directory,
        format!(
            "RemoteIPHeader X-Real-IP\nRemoteIPInternalProxyList proxies\nCustomLog access.log %a\nProxyPass / {}/",
            backend.url()
        ),
        "",
    );
    let mut client = Client::sending(&proxy, request_with("/", "X-Real-IP: 192.0.2.9\r\n"));
    let mut peer = backend.accept();
    let head = peer.head();
    assert_eq!(field(&head, "X-Real-IP"), None);
    assert_eq!(
        field(&head, "X-Forwarded-For").as_deref(),
        Some("192.0.2.9")
    );
    peer.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    client.answer().expect_status(403);
    assert_eq!(proxy.wait_for_lines("access.log", 1), ["192.0.2.9"]);
}

/// `Host` is the client's word; with `UseCanonicalName On` it is `ServerName`.
#[test]
fn a_redirection_names_this_server_as_usecanonicalname_says() {
    for (mode, configured, expected) in [
        ("Off", "www.example", "http://front.example/new"),
        ("On", "www.example:81", "http://www.example:81/new"),
        ("On", "www.example:80", "http://www.example/new"),
    ] {
        let proxy = Proxy::start(format!(
            "ServerName {configured}\nUseCanonicalName {mode}\nRewriteEngine On\nRewriteRule ^/old$ /new [R=301]\n\
             ProxyPass / ws://127.0.0.1:9/"
        ));
        let answer = Client::asking(&proxy, "/old").answer().expect_status(301);
        assert_eq!(
            answer.field("Location").as_deref(),
            Some(expected),
            "{mode} {configured}"
        );
    }
}
