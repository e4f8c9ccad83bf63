//! What ordinary exchanges on `http://` routes mean on the wire.

mod down;
mod expect;
mod failures;
mod up;

use crate::support::http::{Message, Origin, Reply};
use crate::support::{Backend, Client, Proxy, client};

/// What a client gets for these bytes; the connection stays.
#[track_caller]
fn asked(client: &mut Client, request: &str) -> Message {
    client.send(request);
    client.answer_to(request.split(' ').next().unwrap())
}

#[test]
fn every_method_goes_to_the_backend_as_it_is() {
    let origin = Origin::telling();
    let proxy = origin.behind("");
    let mut client = Client::connect(proxy.address());
    for method in [
        "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "TRACE", "foo",
        "get",
    ] {
        let answer = asked(
            &mut client,
            &format!("{method} /a?b HTTP/1.1\r\nHost: front\r\n\r\n"),
        );
        let answer = answer.expect_status(200);
        let body = format!("{method} /a?b");
        assert_eq!(
            answer.framing(),
            format!("length {}", body.len()),
            "{method}"
        );
        let expected = if method == "HEAD" { "" } else { &body };
        assert_eq!(String::from_utf8_lossy(&answer.body), expected);
        let request = origin.request();
        assert_eq!(request.line(), format!("{method} /a?b HTTP/1.1"));
        assert_eq!(request.framing(), "none");
    }
    // All of them over one connection.
    assert_eq!(origin.backend.count(), 1);
}

#[test]
fn connect_is_refused_and_no_backend_hears_of_it() {
    let origin = Origin::telling();
    let proxy = origin.behind("");
    let mut client = Client::sending(
        &proxy,
        "CONNECT front:443 HTTP/1.1\r\nHost: front:443\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: front\r\n\r\n",
    );
    let answer = client.last_answer().expect_status(405);
    assert!(answer.field("Allow").is_some(), "{answer:?}");
    assert_eq!(origin.backend.count(), 0);
}

#[test]
fn trace_passes_as_trace_enable_says() {
    let origin = Origin::telling();
    let bare = "TRACE / HTTP/1.1\r\nHost: front\r\n\r\n";
    let full = "TRACE / HTTP/1.1\r\nHost: front\r\nContent-Length: 2\r\n\r\nhi";
    for (directive, request, status) in [
        ("", bare, 200),
        ("TraceEnable on", bare, 200),
        ("TraceEnable on", full, 413),
        ("TraceEnable off", bare, 405),
        ("TraceEnable off", full, 405),
        ("TraceEnable extended", bare, 200),
        ("TraceEnable extended", full, 200),
    ] {
        let proxy = origin.behind(directive);
        let mut client = Client::connect(proxy.address());
        asked(&mut client, request).expect_status(status);
        if status == 200 {
            let body = origin.request().body;
            assert_eq!(body.is_empty(), request == bare, "{directive}");
        }
        assert!(origin.others().is_empty(), "{directive}: {request}");
    }
}

#[test]
fn hops_are_counted() {
    let origin = Origin::telling();
    for (directive, sent, expected) in [
        ("", None, Ok(None)),
        ("", Some("5"), Ok(Some("4"))),
        ("", Some("1"), Ok(Some("0"))),
        ("", Some("0"), Err("has come to 0")),
        ("", Some("x"), Err("\"Max-Forwards: x\" is no number")),
        ("", Some("-1"), Err("is no number")),
        ("", Some("4294967296"), Err("is no number")),
        ("ProxyMaxForwards 10", None, Ok(Some("10"))),
        ("ProxyMaxForwards 10", Some("3"), Ok(Some("2"))),
        ("ProxyMaxForwards -1", None, Ok(None)),
    ] {
        let proxy = origin.behind(directive);
        let field = sent.map(|value| format!("Max-Forwards: {value}\r\n"));
        let field = field.unwrap_or_default();
        for method in ["GET", "OPTIONS", "TRACE"] {
            let mut client = Client::connect(proxy.address());
            let answer = asked(
                &mut client,
                &format!("{method} / HTTP/1.1\r\nHost: front\r\n{field}\r\n"),
            );
            match expected {
                Ok(value) => {
                    answer.expect_status(200);
                    assert_eq!(origin.request().field("Max-Forwards").as_deref(), value);
                }
                Err(why) => {
                    answer.expect_status(400);
                    proxy.wait_for_log(why);
                }
            }
        }
        assert!(origin.others().is_empty(), "{directive} {sent:?}");
    }
}

#[test]
fn the_backend_sees_the_head_in_this_order() {
    let origin = Origin::telling();
    let proxy = Proxy::start(format!(
        "ServerName www.example\nProxyVia On\nProxyPass /app/ {}/inner/",
        origin.url()
    ));
    let mut client = Client::connect(proxy.address());
    asked(
        &mut client,
        "POST /app/x%20y?q=a%2fb HTTP/1.1\r\nhOST: front:8080\r\nX-One: 1\r\nContent-Length: 2\r\nCookie: a=b\r\n\
         User-Agent: test\r\nCookie: c=d\r\nX-Forwarded-For: 192.0.2.1\r\n\r\nhi",
    )
    .expect_status(200);
    let port = proxy.address().port();
    let expected = format!(
        "POST /inner/x%20y?q=a%2fb HTTP/1.1\r\nHost: {}\r\nX-One: 1\r\nCookie: a=b\r\nUser-Agent: test\r\nCookie: c=d\r\n\
         Via: 1.1 www.example:{port}\r\nX-Forwarded-For: 192.0.2.1, 127.0.0.1\r\nX-Forwarded-Host: front:8080\r\n\
         X-Forwarded-Server: www.example\r\nContent-Length: 2\r\nConnection: Keep-Alive\r\n\r\n",
        origin.backend.address(),
    );
    assert_eq!(origin.request().head, expected);
}

#[test]
fn settings_change_what_the_backend_sees() {
    let origin = Origin::telling();
    let own = origin.backend.address().to_string();
    for (directives, parameters, version, fields, expected) in [
        (
            "",
            "",
            "1.1",
            "",
            &[("Host", Some(own.as_str())), ("Via", None)][..],
        ),
        (
            "ProxyPreserveHost On",
            "",
            "1.1",
            "",
            &[("Host", Some("front"))],
        ),
        (
            "ProxyAddHeaders Off",
            "",
            "1.1",
            "",
            &[
                ("X-Forwarded-For", None),
                ("X-Forwarded-Host", None),
                ("X-Forwarded-Server", None),
            ],
        ),
        // CVE-2022-31813: what we say of the client cannot be named away.
        (
            "",
            "",
            "1.1",
            "Connection: X-Forwarded-For, X-Forwarded-Host, Host, Cookie\r\nCookie: a\r\n",
            &[
                ("X-Forwarded-For", Some("127.0.0.1")),
                ("X-Forwarded-Host", Some("front")),
                ("Cookie", Some("a")),
            ],
        ),
        (
            "ProxyVia Block",
            "",
            "1.1",
            "Via: 1.1 a\r\n",
            &[("Via", None)],
        ),
        (
            "ProxyVia Off",
            "",
            "1.1",
            "Via: 1.1 a\r\n",
            &[("Via", Some("1.1 a"))],
        ),
        ("", "", "1.0", "", &[("Connection", Some("Keep-Alive"))]),
        (
            "",
            "",
            "1.1",
            "Connection: close\r\n",
            &[("Connection", Some("Keep-Alive"))],
        ),
        (
            "",
            "disablereuse=On",
            "1.1",
            "",
            &[("Connection", Some("close"))],
        ),
        (
            "RewriteEngine On\nRewriteRule .* - [E=proxy-nokeepalive:1]",
            "",
            "1.1",
            "",
            &[("Connection", Some("close"))],
        ),
    ] {
        let proxy = Proxy::start(format!(
            "{directives}\nProxyPass / http://{own}/ {parameters}"
        ));
        let mut client = Client::connect(proxy.address());
        asked(
            &mut client,
            &format!("GET / HTTP/{version}\r\nHost: front\r\n{fields}\r\n"),
        )
        .expect_status(200);
        let request = origin.request();
        assert_eq!(request.line(), "GET / HTTP/1.1");
        for (name, value) in expected {
            assert_eq!(
                request.field(name).as_deref(),
                *value,
                "{directives} {fields}: {name}"
            );
        }
    }
}

#[test]
fn no_upgrade_passes_on_an_http_route() {
    let origin = Origin::telling();
    let proxy = origin.behind("");
    for fields in [
        "Upgrade: websocket\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        "Connection: Upgrade\r\n",
        "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings\r\n",
        // Whether it is named or not.
        "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade\r\n",
        "Upgrade: h2c, websocket\r\nConnection: keep-alive, Upgrade\r\n",
        "Upgrade: TLS/1.0\r\nConnection: upgrade\r\nconnection: UPGRADE\r\n",
    ] {
        let mut client = Client::connect(proxy.address());
        let answer = asked(
            &mut client,
            &format!("GET /x HTTP/1.1\r\nHost: front\r\n{fields}\r\n"),
        );
        assert_eq!(answer.expect_status(200).body, b"GET /x", "{fields}");
        let request = origin.request();
        for name in ["Upgrade", "HTTP2-Settings"] {
            assert_eq!(request.field(name), None, "{fields}");
        }
        assert_eq!(request.field("Connection").as_deref(), Some("Keep-Alive"));
    }
    // A whole handshake gets the plain answer, too.
    let mut client = Client::connect(proxy.address());
    let answer = asked(&mut client, &client::request("/y")).expect_status(200);
    assert_eq!(answer.body, b"GET /y");
    let request = origin.request();
    assert_eq!(request.field("Upgrade"), None);
    assert!(request.field("Sec-WebSocket-Key").is_some());
}

#[test]
fn fields_of_a_hop_stay_there_both_ways() {
    let origin = Origin::new(|_| {
        Reply::staying(
            "HTTP/1.1 200 OK\r\nDate: now\r\nConnection: X-Hop, keep-alive\r\nKeep-Alive: timeout=9\r\nX-Hop: 1\r\n\
             Proxy-Connection: x\r\nProxy-Authenticate: Basic\r\nTE: x\r\nTrailer: X\r\nUpgrade: h2c\r\nX-Kept: 1\r\n\
             Content-Length: 2\r\n\r\nok",
        )
    });
    let proxy = origin.behind("");
    let mut client = Client::connect(proxy.address());
    client.send(
        "GET / HTTP/1.1\r\nHost: front\r\nConnection: x-hop, TE\r\nConnection: close;, X-Other, \"x\"\r\nX-Hop: 1\r\n\
         X-Other: 1\r\nTE: gzip, deflate;q=0.5\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\nTrailer: X\r\n\
         Proxy-Authorization: kept\r\nX-Kept: 1\r\n\r\n",
    );
    let answer = client.answer_to("GET");
    assert_eq!(
        answer.head,
        "HTTP/1.1 200 OK\r\nDate: now\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\n"
    );
    let request = origin.request();
    for name in [
        "X-Hop",
        "X-Other",
        "TE",
        "Keep-Alive",
        "Proxy-Connection",
        "Trailer",
    ] {
        assert_eq!(request.field(name), None, "{name}");
    }
    assert_eq!(request.field("X-Kept").as_deref(), Some("1"));
    assert_eq!(
        request.field("Proxy-Authorization").as_deref(),
        Some("kept")
    );
    assert_eq!(request.field("Connection").as_deref(), Some("Keep-Alive"));
}

/// A backend that takes whoever has proved who he is for the one that all further requests of the connection come from.
#[test]
fn a_backend_connection_that_knows_somebody_is_for_nobody_else() {
    let backend = Backend::serve(|mut wire| {
        let mut known = "nobody".to_owned();
        while let Ok(Some(request)) = Message::request(&mut wire) {
            let credentials = request.field("Authorization");
            let token = credentials.as_deref().and_then(|text| text.split_once(' '));
            if let Some(("Negotiate" | "NTLM", name)) = token {
                known = name.to_owned();
            }
            let length = known.len();
            wire.send_if_taken(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{known}"
            ));
        }
    });
    let proxy = Proxy::start(format!("ProxyPass / http://{}/", backend.address()));
    let [mut alice, mut bob, mut carol] = [(); 3].map(|()| Client::connect(proxy.address()));
    let says = |client: &mut Client, fields: &str, expected: &str| {
        let answer = asked(
            client,
            &format!("GET / HTTP/1.1\r\nHost: front\r\n{fields}\r\n"),
        );
        assert_eq!(String::from_utf8_lossy(&answer.body), expected);
    };
    says(&mut carol, "", "nobody");
    // Over the connection that carol has left behind.
    says(&mut alice, "Authorization: Negotiate alice\r\n", "alice");
    assert_eq!(backend.count(), 1);
    for _ in 0..2 {
        says(&mut bob, "", "nobody");
        says(&mut carol, "", "nobody");
        says(&mut alice, "", "alice");
    }
    assert_eq!(backend.count(), 2);
    says(&mut bob, "Authorization: NTLM bob\r\n", "bob");
    says(&mut carol, "", "nobody");
    says(&mut alice, "", "alice");
    says(&mut bob, "", "bob");
    assert_eq!(backend.count(), 3);
    // Others have it no more when its owner has gone.
    drop(alice);
    says(&mut carol, "Authorization: Basic alice\r\n", "nobody");
}
