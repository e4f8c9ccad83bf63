//! The heads as the other side sees them, to the byte.

use crate::support::client::{KEY, request_with, switch, switch_with};
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

/// What people do with header fields at a proxy, on the way to the backend.
#[test]
fn requestheader_changes_what_the_backend_sees() {
    let lines = "RequestHeader set X-Forwarded-Proto \"https\"\nRequestHeader unset Accept-Encoding\n\
                 RequestHeader append X-List two\nRequestHeader add X-More b\nRequestHeader merge X-Merged one\n\
                 RequestHeader setifempty X-Given default\nRequestHeader setifempty X-Missing default\n\
                 RequestHeader edit Origin ^https?://(.*)$ http://$1.inside\n\
                 RequestHeader set X-Env %{none}e env=none\nRequestHeader set X-Not yes env=!none\n\
                 <Location /ws/deep>\nRequestHeader set X-Deep 1\nRequestHeader unset X-More\n</Location>";
    let fields = "Accept-Encoding: gzip\r\nX-List: one\r\nX-More: a\r\nX-Merged: zero, one\r\nX-Given: own\r\n\
                  Origin: https://o.example\r\nx-forwarded-proto: http\r\n";
    let head = forwarded(&format!("{lines}\n{PLAIN}"), &request_with("/ws/", fields));
    let lower = head.to_lowercase();
    for (name, value) in [
        ("X-Forwarded-Proto", Some("https")),
        ("Accept-Encoding", None),
        ("X-List", Some("one, two")),
        ("X-Merged", Some("zero, one")),
        ("X-Given", Some("own")),
        ("X-Missing", Some("default")),
        ("Origin", Some("http://o.example.inside")),
        ("X-Env", None),
        ("X-Not", Some("yes")),
        ("X-Deep", None),
    ] {
        assert_eq!(field(&head, name).as_deref(), value, "{name}: {head}");
    }
    assert_eq!(lower.matches("x-forwarded-proto").count(), 1, "{head}");
    assert_eq!(head.matches("X-More: ").count(), 2, "{head}");
    let head = forwarded(
        &format!("{lines}\n{PLAIN}"),
        &request_with("/ws/deep", fields),
    );
    assert_eq!(field(&head, "X-Deep").as_deref(), Some("1"));
    assert_eq!(field(&head, "X-More"), None);
}

#[test]
fn requestheader_may_set_the_host_that_is_preserved() {
    let lines = format!("ProxyPreserveHost On\nRequestHeader set Host inner.example:81\n{PLAIN}");
    let head = forwarded(&lines, &request_with("/ws/", ""));
    assert_eq!(field(&head, "Host").as_deref(), Some("inner.example:81"));
}

/// `Header` applies to the 101 and to answers of the backend; with `always` also to our own.
#[test]
fn header_changes_what_the_client_gets() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!(
        "Header always set Strict-Transport-Security max-age=1\nHeader unset X-Powered-By\n\
         Header add Set-Cookie \"ROUTE=a; path=/\"\nHeader set Server hidden\n\
         ProxyPass /ws/ {}/",
        backend.url()
    ));
    let mut client = Client::asking(&proxy, "/ws/");
    let mut peer = backend.accept();
    peer.head();
    peer.send(switch_with(
        "X-Powered-By: me\r\nServer: it\r\nSet-Cookie: b=c\r\n",
    ));
    let answer = client.switched();
    assert_eq!(
        answer.field("Strict-Transport-Security").as_deref(),
        Some("max-age=1")
    );
    assert_eq!(answer.field("X-Powered-By"), None);
    assert_eq!(answer.field("Server").as_deref(), Some("hidden"));
    assert_eq!(
        answer.head.matches("Set-Cookie: ").count(),
        2,
        "{}",
        answer.head
    );

    let mut client = Client::asking(&proxy, "/ws/");
    let mut peer = backend.accept();
    peer.head();
    peer.send("HTTP/1.1 403 Forbidden\r\nX-Powered-By: me\r\nContent-Length: 0\r\n\r\n");
    let answer = client.answer().expect_status(403);
    assert_eq!(answer.field("X-Powered-By"), None);
    assert_eq!(answer.field("Server").as_deref(), Some("hidden"));

    let own = Client::asking(&proxy, "/nothing")
        .answer()
        .expect_status(404);
    assert_eq!(
        own.field("Strict-Transport-Security").as_deref(),
        Some("max-age=1")
    );
    assert_eq!(own.field("Set-Cookie"), None);
}

#[test]
fn via_tells_that_a_message_came_through_here() {
    let backend = Backend::listen();
    for (via, request, answer) in [
        ("Off", Some("1.1 cdn"), Some("1.0 deep")),
        (
            "On",
            Some("1.1 cdn, 1.1 proxy.example:PORT"),
            Some("1.0 deep, 1.1 proxy.example:PORT"),
        ),
        ("Block", None, Some("1.0 deep")),
    ] {
        let proxy = Proxy::start(format!(
            "ServerName proxy.example\nProxyVia {via}\nProxyPass /ws/ {}/",
            backend.url()
        ));
        let port = proxy.address().port().to_string();
        let expected = |text: Option<&str>| text.map(|text| text.replace("PORT", &port));
        let mut client = Client::sending(&proxy, request_with("/ws/", "Via: 1.1 cdn\r\n"));
        let mut peer = backend.accept();
        assert_eq!(field(&peer.head(), "Via"), expected(request), "{via}");
        peer.send(switch_with("Via: 1.0 deep\r\n"));
        assert_eq!(client.switched().field("Via"), expected(answer), "{via}");
    }
}

/// `early`: rules see what it has left.
#[test]
fn an_early_requestheader_holds_before_the_rules() {
    let lines = "RequestHeader unset X-Mode early\nRequestHeader set X-Kind plain early\nRewriteEngine On\n\
                 RewriteCond %{HTTP:X-Mode} . [OR]\nRewriteCond %{HTTP:X-Kind} !^plain$\nRewriteRule . - [F]";
    let fields = "X-Mode: odd\r\nX-Kind: odd\r\n";
    let head = forwarded(&format!("{lines}\n{PLAIN}"), &request_with("/ws/", fields));
    assert_eq!(field(&head, "X-Mode"), None);
    assert_eq!(field(&head, "X-Kind").as_deref(), Some("plain"));
}

/// httpd: named groups of a location are variables.
#[test]
fn the_named_groups_of_a_location_are_variables() {
    let lines = "<LocationMatch \"^/ws/(?<room>[^/]+)/(?<seat>[0-9]*)\">\nRequestHeader set X-Room %{MATCH_ROOM}e\n\
                 RequestHeader set X-Seat \"<%{MATCH_SEAT}e>\"\n</LocationMatch>";
    let head = forwarded(
        &format!("{lines}\n{PLAIN}"),
        &request_with("/ws/blue%0d%0aX:%20y/", ""),
    );
    assert_eq!(field(&head, "X-Seat").as_deref(), Some("<>"));
    assert_eq!(field(&head, "X"), None, "{head}");
    let head = forwarded(
        &format!("{lines}\n{PLAIN}"),
        &request_with("/ws/blue/7", ""),
    );
    assert_eq!(field(&head, "X-Room").as_deref(), Some("blue"));
    assert_eq!(field(&head, "X-Seat").as_deref(), Some("<7>"));
}
