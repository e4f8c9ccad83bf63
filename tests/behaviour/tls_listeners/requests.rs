//! Ordinary requests in TLS: several on a connection, whatever size, and what is said of them.

use super::{NAME, start, visit};
use crate::support::client::request;
use crate::support::http::{Origin, Reply, chunked};
use crate::support::{Backend, Certs, Client, each_mode, pattern};

#[test]
fn a_connection_has_several_requests_and_a_tunnel_behind_them() {
    let certs = Certs::new();
    let origin = Origin::telling();
    let backend = Backend::echo();
    let proxy = start(
        &certs,
        format!(
            "ProxyPass /ws/ {}/\nProxyPass / {}/",
            backend.url(),
            origin.url()
        ),
    );
    let mut visitor = visit(&proxy);
    for number in 0..20 {
        visitor.send(format!("GET /{number} HTTP/1.1\r\nHost: {NAME}\r\n\r\n"));
        let answer = visitor.answer_to("GET").expect_status(200);
        assert_eq!(answer.body, format!("GET /{number}").into_bytes());
    }
    visitor.send(request("/ws/"));
    visitor.switched();
    visitor.echo("and on");
}

/// The library has decrypted them all when the first is read: no event tells of the others.
#[test]
fn requests_in_one_record_are_all_answered() {
    let certs = Certs::new();
    let origin = Origin::new(|request| Reply::ok(request.body.len().to_string()));
    let proxy = start(
        &certs,
        format!("KeepAliveTimeout 60\nProxyPass / {}/", origin.url()),
    );
    let mut visitor = visit(&proxy);
    // The first ends on this and on that side of where a read may end: with its head, or with its body.
    for size in [
        200, 2047, 2048, 2049, 4095, 4096, 4097, 8191, 8192, 8193, 14_000,
    ] {
        let mut firsts = vec![(padded("POST", 200, size - 200), size - 200)];
        if size < 8000 {
            firsts.push((padded("GET", size, 0), 0));
        }
        for (mut bytes, body) in firsts {
            assert_eq!(bytes.len(), size);
            bytes.extend_from_slice(&padded("GET", 200, 0).repeat(2));
            visitor.send(bytes);
            for expected in [body, 0, 0] {
                let answer = visitor.answer_to("GET").expect_status(200);
                assert_eq!(answer.body, expected.to_string().into_bytes(), "{size}");
            }
        }
    }
}

#[test]
fn what_is_no_request_is_logged_with_its_tls() {
    let certs = Certs::new();
    let log = "CustomLog access.log \"%{SSL_PROTOCOL}x %{SSL_TLS_SNI}x %>s\"";
    let proxy = start(&certs, format!("{log}\nProxyPass / http://127.0.0.1:9/"));
    let mut visitor = visit(&proxy);
    visitor.send(format!(
        "GET / HTTP/1.1\r\nHost: {NAME}\r\nno field\r\n\r\n"
    ));
    assert_eq!(visitor.answer_to("GET").status(), 400);
    let lines = proxy.wait_for_lines("access.log", 1);
    assert_eq!(lines, [format!("TLSv1.3 {NAME} 400")]);
}

/// A request whose head and body are so long.
fn padded(method: &str, head: usize, body: usize) -> Vec<u8> {
    let start = format!("{method} / HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {body}\r\nX: ");
    let fill = "x".repeat(head - start.len() - 4);
    [start, fill, "\r\n\r\n".to_owned(), "b".repeat(body)]
        .concat()
        .into_bytes()
}

#[test]
fn much_is_passed_on_both_ways() {
    let certs = Certs::new();
    let origin = Origin::new(|request| Reply::ok(&request.body));
    let proxy = start(
        &certs,
        format!("Proxy100Continue Off\nProxyPass / {}/", origin.url()),
    );
    let mut visitor = visit(&proxy);
    for size in [1, 16_384, 100_000, 3_000_000] {
        let body = pattern(size as u64, size);
        visitor.send(format!(
            "POST / HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {size}\r\n\r\n"
        ));
        visitor.send(&body);
        assert!(
            visitor.answer_to("POST").expect_status(200).body == body,
            "{size}"
        );
        visitor.send(format!(
            "POST / HTTP/1.1\r\nHost: {NAME}\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        visitor.send(chunked(&body, 10_000, "", ""));
        assert!(
            visitor.answer_to("POST").expect_status(200).body == body,
            "{size} in chunks"
        );
    }
    visitor.send(format!(
        "POST / HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    ));
    visitor.answer_to("POST").expect_status(100);
    visitor.send("hello");
    assert_eq!(visitor.answer_to("POST").expect_status(200).body, b"hello");
}

#[test]
fn a_backend_is_told_the_same_as_of_a_plain_request() {
    let certs = Certs::new();
    let origin = Origin::telling();
    let lines = format!("ProxyPass / {}/", origin.url());
    let secure = start(&certs, &lines);
    let plain = origin.behind("");
    let bytes = format!("GET /a HTTP/1.1\r\nHost: {NAME}\r\nCookie: a=b\r\n\r\n");
    let mut heads = Vec::new();
    for mut visitor in [visit(&secure), Client::connect(plain.address())] {
        visitor.send(&bytes);
        visitor.answer_to("GET").expect_status(200);
        heads.push(origin.request().head);
    }
    assert_eq!(heads[0], heads[1]);
    assert!(
        heads[0].contains("\r\nX-Forwarded-For: 127.0.0.1\r\n"),
        "{heads:?}"
    );
    assert!(
        heads[0].contains("\r\nX-Forwarded-Host: front.example\r\n"),
        "{heads:?}"
    );
}

each_mode! {
    fn rules_and_fields_know_that_it_is_tls(mode: Mode) {
        let certs = Certs::new();
        let backend = Backend::listen();
        let proxy = start(
            &certs,
            format!(
                "{}\nRewriteEngine On\nRewriteCond %{{HTTPS}} =on\nRewriteCond %{{REQUEST_SCHEME}} =https\n\
                 RewriteCond %{{SERVER_PORT}} !=0\nRewriteRule ^/(.*) {}/secure/$1 [P]\n\
                 RequestHeader set X-Forwarded-Proto %{{REQUEST_SCHEME}}s\nRequestHeader set X-Https %{{HTTPS}}s\n\
                 CustomLog access.log \"%{{SSL_PROTOCOL}}x %{{SSL_CIPHER_USEKEYSIZE}}x %>s\"",
                mode.directives(), backend.url()
            ),
        );
        let mut visitor = visit(&proxy);
        visitor.send(request("/a"));
        let head = backend.accept().head();
        assert!(head.starts_with("GET /secure/a HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nX-Forwarded-Proto: https\r\n"), "{head}");
        assert!(head.contains("\r\nX-Https: on\r\n"), "{head}");
        drop(visitor);
        let line = proxy.wait_for_lines("access.log", 1).remove(0);
        assert!(line.starts_with("TLSv1.3 256 "), "{line}");
    }
}

#[test]
fn addresses_in_answers_become_those_that_the_client_knows() {
    let certs = Certs::new();
    let origin = Origin::new(|request| {
        let host = request.field("Host").unwrap();
        Reply::staying(format!(
            "HTTP/1.1 302 Found\r\nLocation: http://{host}/there\r\nContent-Length: 0\r\n\r\n"
        ))
    });
    let proxy = start(
        &certs,
        format!(
            "ProxyPass /app/ {0}/\nProxyPassReverse /app/ {0}/",
            origin.url()
        ),
    );
    let port = proxy.address().port();
    let mut visitor = visit(&proxy);
    for (host, location) in [
        (
            format!("{NAME}:{port}"),
            format!("https://{NAME}:{port}/app/there"),
        ),
        (
            format!("{NAME}:8443"),
            format!("https://{NAME}:8443/app/there"),
        ),
        (format!("{NAME}:443"), format!("https://{NAME}/app/there")),
        (NAME.to_owned(), format!("https://{NAME}/app/there")),
    ] {
        visitor.send(format!("GET /app/ HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let answer = visitor.answer_to("GET").expect_status(302);
        assert_eq!(answer.field("Location"), Some(location), "{host}");
    }
}

#[test]
fn both_sides_may_speak_tls() {
    let certs = Certs::new();
    let acceptor = certs.server("localhost").acceptor();
    let backend = Backend::serve_tcp(move |tcp| {
        let mut wire = crate::support::Wire::new_tls(acceptor.accept(tcp).unwrap());
        while wire.try_head().is_ok() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        }
    });
    let proxy = start(
        &certs,
        format!(
            "SSLProxyCACertificateFile ca.pem\nProxyPass / https://localhost:{}/",
            backend.port()
        ),
    );
    let mut visitor = visit(&proxy);
    for _ in 0..5 {
        visitor.send(format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n"));
        assert_eq!(visitor.answer_to("GET").expect_status(200).body, b"hello");
    }
    assert_eq!(backend.count(), 1, "its connection is kept");
}
