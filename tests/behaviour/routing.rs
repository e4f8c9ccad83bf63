//! Which request meets which backend URL.

use crate::support::client::{request, switch};
use crate::support::{Backend, Client, Proxy};

/// What the backend is asked for when the client asks for `target`.
#[track_caller]
fn asked(proxy: &Proxy, backend: &Backend, target: &str) -> String {
    let mut client = Client::asking(proxy, target);
    let mut peer = backend.accept();
    let head = peer.head();
    peer.send(switch());
    client.switched();
    let line = head.split_once("\r\n").unwrap().0;
    let line = line.strip_prefix("GET ").expect(line);
    line.strip_suffix(" HTTP/1.1").expect(line).to_owned()
}

#[track_caller]
fn status(proxy: &Proxy, target: &str) -> u16 {
    Client::asking(proxy, target).answer().status
}

/// Reference 3.2 and 3.6, beginning with the table of the former.
#[test]
fn prefixes_match_at_segments_and_the_rest_is_appended() {
    let backend = Backend::listen();
    let url = backend.url();
    let proxy = Proxy::start(format!(
        "ProxyPass /slashed/ {url}/\nProxyPass /deep/ {url}/a/b/\nProxyPass /bare {url}/base\n"
    ));
    for (target, expected) in [
        ("/slashed/", "/"),
        ("/slashed/a", "/a"),
        ("/slashed/a/", "/a/"),
        ("/slashed//a", "/a"),
        ("//slashed///a//b", "/a/b"),
        ("/deep/c", "/a/b/c"),
        ("/bare", "/base"),
        ("/bare/", "/base/"),
        ("/bare/c", "/base/c"),
        // The query is the client's, to the byte.
        ("/slashed/?", "/?"),
        ("/slashed/?a=1&b=%20/../?%zz;", "/?a=1&b=%20/../?%zz;"),
        ("/slashed/a?x//y", "/a?x//y"),
        // Decoded once, encoded anew.
        ("/slashed/a%20b", "/a%20b"),
        ("/slashed/%61%2d%7E", "/a-~"),
        ("/slashed/%2B%3B%26%40%3A", "/+;&@:"),
        (
            "/slashed/%3f%23%22%5b%5D%7c%5e%5c%25",
            "/%3F%23%22%5B%5D%7C%5E%5C%25",
        ),
        ("/slashed/%252e%252E/", "/%252e%252E/"),
        ("/slashed/%c3%a9%ff", "/%C3%A9%FF"),
        ("/slashed/%0d%0aX-Injected:%201", "/%0D%0AX-Injected:%201"),
        ("/slashed/;jsessionid=1;a", "/;jsessionid=1;a"),
        ("/%73lashed/a", "/a"),
        // Dot segments are gone before anything is matched.
        ("/slashed/./a/../b", "/b"),
        ("/slashed/a/%2e%2e/b", "/b"),
        ("/slashed/a/.%2E/b/.", "/b/"),
        ("/other/../slashed/c", "/c"),
    ] {
        assert_eq!(asked(&proxy, &backend, target), expected, "for {target}");
    }
    for target in ["/slashed", "/barer", "/Slashed/", "/bar", "/"] {
        assert_eq!(status(&proxy, target), 404, "for {target}");
    }
    backend.expect_untouched();
}

#[test]
fn the_first_mapping_that_matches_is_taken() {
    let one = Backend::listen();
    let two = Backend::listen();
    let proxy = Proxy::start(format!(
        "ProxyPass /a/b/ {}/\nProxyPass /a/ {}/\nProxyPass /a/b/c/ {}/never/",
        one.url(),
        two.url(),
        one.url()
    ));
    assert_eq!(asked(&proxy, &one, "/a/b/x"), "/x");
    assert_eq!(asked(&proxy, &two, "/a/x"), "/x");
    assert_eq!(asked(&proxy, &one, "/a/b/c/x"), "/c/x");
}

/// `/ws/` onto a URL without a path would glue the client's words onto the host name.
#[test]
fn no_request_reaches_scheme_host_or_port_of_a_url() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!(
        "ProxyPass /glued/ {}\nProxyPass /bare {}\n",
        backend.url(),
        backend.url()
    ));
    for (target, expected) in [
        ("/glued/a", "/a"),
        ("/glued/", "/"),
        ("/glued/@other.example/", "/@other.example/"),
        ("/glued/:99/", "/:99/"),
        ("/glued/unix:/tmp/x|ws://h/", "/unix:/tmp/x%7Cws://h/"),
        ("/bare", "/"),
        ("/bare/a", "/a"),
    ] {
        let mut client = Client::asking(&proxy, target);
        let mut peer = backend.accept();
        let head = peer.head();
        let expected = expected.replace("ws://h/", "ws:/h/");
        assert!(
            head.starts_with(&format!("GET {expected} HTTP/1.1\r\n")),
            "{target}: {head}"
        );
        let host = format!("\r\nHost: {}\r\n", backend.address());
        assert!(head.contains(&host), "{target}: {head}");
        peer.send(switch());
        client.switched();
    }
    // httpd: the prefix ends within a segment.
    assert_eq!(status(&proxy, "/bare@other.example/"), 404);
    assert_eq!(status(&proxy, "/bare:99/"), 404);
}

/// A query is never decoded, so what must not stand in a request line has no business there (reference 3.6).
#[test]
fn nothing_gets_into_the_request_line_of_the_backend() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!("ProxyPass /ws/ {}/", backend.url()));
    for target in [
        "/ws/?a\tb",
        "/ws/?a\x0bb",
        "/ws/?a\x7fb",
        "/ws/\x7f",
        "/ws/\x01",
    ] {
        let mut client = Client::asking(&proxy, target);
        let status = client.answer().status;
        assert!(matches!(status, 400 | 403), "{status} for {target:?}");
    }
    backend.expect_untouched();
}

#[test]
fn a_virtual_host_is_chosen_by_name_and_else_the_first_of_its_address() {
    let main = Backend::listen();
    let one = Backend::listen();
    let two = Backend::listen();
    let proxy = Proxy::start(format!(
        "ServerName main.example\nProxyPass /main/ {}/\n\
         <VirtualHost *:*>\nServerName one.example\nProxyPass /ws/ {}/\n</VirtualHost>\n\
         <VirtualHost *:*>\nServerName two.example\nServerAlias *.two.example\nProxyPass /ws/ {}/\n</VirtualHost>\n",
        main.url(),
        one.url(),
        two.url()
    ));
    for (host, backend) in [
        ("one.example", &one),
        ("ONE.example:8080", &one),
        ("two.example", &two),
        ("deep.two.example", &two),
        ("unknown.example", &one),
    ] {
        let text = request("/ws/").replace("front.example", host);
        let mut client = Client::sending(&proxy, text);
        let mut peer = backend.accept();
        let head = peer.head();
        let server = if std::ptr::eq(backend, &one) {
            "one"
        } else {
            "two"
        };
        let field = format!("X-Forwarded-Server: {server}.example\r\n");
        assert!(head.contains(&field), "{host}: {head}");
        peer.send(switch());
        client.switched();
    }
}

#[test]
fn a_host_in_the_target_overrides_the_host_field() {
    let one = Backend::listen();
    let two = Backend::listen();
    let proxy = Proxy::start(format!(
        "<VirtualHost *:*>\nServerName one.example\nProxyPass /ws/ {}/\n</VirtualHost>\n\
         <VirtualHost *:*>\nServerName two.example\nProxyPreserveHost On\nProxyPass /ws/ {}/\n</VirtualHost>\n",
        one.url(),
        two.url()
    ));
    let text = request("http://two.example/ws/x").replace("front.example", "one.example");
    let mut client = Client::sending(&proxy, text);
    let mut peer = two.accept();
    let head = peer.head();
    assert!(
        head.starts_with("GET /x HTTP/1.1\r\nHost: two.example\r\n"),
        "{head}"
    );
    peer.send(switch());
    client.switched();
    one.expect_untouched();
}
