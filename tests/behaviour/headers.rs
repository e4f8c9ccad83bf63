//! The heads as the other side sees them, to the byte.

use crate::support::client::{KEY, request_with, switch};
use crate::support::wire::field;
use crate::support::{Backend, Client, Proxy};

/// The head that reaches the backend for this one.
#[track_caller]
fn forwarded(config: &str, sent: &str) -> String {
    let backend = Backend::listen();
    let config = config.replace("BACKEND", &backend.address().to_string());
    let proxy = Proxy::start(config);
    let mut client = Client::sending(&proxy, sent);
    let mut peer = backend.accept();
    let head = peer.head();
    peer.send(switch());
    client.switched();
    head.replace(&backend.address().to_string(), "BACKEND")
}

const PLAIN: &str = "ServerName proxy.example\nProxyPass /ws/ ws://BACKEND/";

/// Reference 5.2: request line, Host, the client's fields in their order, ours, Upgrade, Connection.
#[test]
fn the_request_that_the_backend_sees_is_this_to_the_byte() {
    let sent = format!(
        "GET /ws/chat?room=1 HTTP/1.1\r\nUser-Agent: Test\r\nHost: front.example:81\r\n\
         Upgrade: WebSocket\r\naccept:  */*  \r\nConnection: keep-alive, Upgrade, X-Hop\r\nX-Hop: 1\r\n\
         Cookie: a=1\r\nX-Twice: 1\r\nSec-WebSocket-Key: {KEY}\r\nX-Twice: 2\r\n\
         ORIGIN: http://front.example\r\nSec-WebSocket-Version: 13\r\nKeep-Alive: 300\r\nTE: trailers\r\n\
         Trailer: X-T\r\nProxy-Connection: keep-alive\r\nContent-Length: 0\r\nVia: 1.1 cdn\r\nExpect: 100-continue\r\n\
         Authorization: Basic eDp5\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
    let expected = format!(
        "GET /chat?room=1 HTTP/1.1\r\nHost: BACKEND\r\nUser-Agent: Test\r\naccept: */*\r\n\
         Cookie: a=1\r\nX-Twice: 1\r\nSec-WebSocket-Key: {KEY}\r\nX-Twice: 2\r\n\
         ORIGIN: http://front.example\r\nSec-WebSocket-Version: 13\r\nVia: 1.1 cdn\r\n\
         Authorization: Basic eDp5\r\nSec-WebSocket-Protocol: chat\r\n\
         X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: front.example:81\r\nX-Forwarded-Server: proxy.example\r\n\
         Upgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n"
    );
    assert_eq!(forwarded(PLAIN, &sent), expected);
}

#[test]
fn what_was_forwarded_before_is_appended_to() {
    let fields = "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Host: outer.example\r\nX-Forwarded-Server: cdn\r\n";
    let head = forwarded(PLAIN, &request_with("/ws/", fields));
    let value = |name| field(&head, name).unwrap_or_default();
    assert_eq!(value("X-Forwarded-For"), "10.0.0.1, 127.0.0.1");
    assert_eq!(value("X-Forwarded-Host"), "outer.example, front.example");
    assert_eq!(value("X-Forwarded-Server"), "cdn, proxy.example");
}

/// CVE-2022-31813: a client could have the proxy's own words removed.
#[test]
fn connection_cannot_take_away_what_the_backend_relies_on() {
    let kept = [
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Server",
        "Authorization",
        "Cookie",
        "Origin",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Host",
    ];
    let named = kept.join(", ");
    let fields = "Authorization: Basic eDp5\r\nCookie: a=1\r\nOrigin: http://front.example\r\n\
         Sec-WebSocket-Protocol: chat\r\nX-Gone: 1\r\n";
    let sent = request_with("/ws/", fields).replace(
        "Connection: Upgrade\r\n",
        &format!("Connection: Upgrade, {named}, x-gone, close\r\n"),
    );
    let head = forwarded(PLAIN, &sent);
    for name in kept {
        assert!(field(&head, name).is_some(), "{name} is missing: {head}");
    }
    assert_eq!(field(&head, "X-Gone"), None, "{head}");
    assert_eq!(
        field(&head, "X-Forwarded-For").as_deref(),
        Some("127.0.0.1")
    );
    assert_eq!(field(&head, "Connection").as_deref(), Some("Upgrade"));
}

#[test]
fn expect_is_dropped() {
    let head = forwarded(PLAIN, &request_with("/ws/", "Expect: 100-continue\r\n"));
    assert_eq!(field(&head, "Expect"), None, "{head}");
}

#[test]
fn proxypreservehost_hands_on_the_host_of_the_client() {
    let config = format!("{PLAIN}\nProxyPreserveHost On");
    let sent = request_with("/ws/", "").replace("front.example", "Front.Example:8080");
    let head = forwarded(&config, &sent);
    assert!(
        head.starts_with("GET / HTTP/1.1\r\nHost: Front.Example:8080\r\n"),
        "{head}"
    );
}

#[test]
fn proxyaddheaders_off_adds_nothing_and_takes_nothing_away() {
    let config = format!("{PLAIN}\nProxyAddHeaders Off");
    let head = forwarded(
        &config,
        &request_with("/ws/", "X-Forwarded-For: 10.0.0.1\r\n"),
    );
    assert_eq!(field(&head, "X-Forwarded-For").as_deref(), Some("10.0.0.1"));
    assert_eq!(field(&head, "X-Forwarded-Host"), None);
    assert_eq!(field(&head, "X-Forwarded-Server"), None);
}

#[test]
fn a_name_of_a_backend_is_its_host_in_lower_case() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!("ProxyPass /ws/ WS://LOCALHOST:{}/", backend.port()));
    let mut client = Client::asking(&proxy, "/ws/");
    let mut peer = backend.accept();
    let head = peer.head();
    let host = format!("\r\nHost: localhost:{}\r\n", backend.port());
    assert!(head.contains(&host), "{head}");
    peer.send(switch());
    client.switched();
}
