//! `Expect: 100-continue`.

use crate::support::http::{Origin, Reply};
use crate::support::{Backend, Client, Proxy};
use std::time::Duration;

const ASKING: &str =
    "PUT /x HTTP/1.1\r\nHost: front\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const DONE: &str = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";

/// How long it takes to see that nothing comes.
const MOMENT: Duration = Duration::from_millis(150);

fn proxy(backend: &Backend, directives: &str) -> Proxy {
    Proxy::start(format!(
        "{directives}\nProxyPass / http://{}/",
        backend.address()
    ))
}

#[test]
fn the_backend_is_asked_and_its_word_passed_on() {
    let backend = Backend::listen();
    let proxy = proxy(&backend, "");
    for framing in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let is_chunked = framing.starts_with('T');
        let mut client = Client::sending(&proxy, ASKING.replace("Content-Length: 5", framing));
        let mut peer = backend.accept();
        let head = peer.head();
        assert!(head.contains("\r\nExpect: 100-continue\r\n"), "{head}");
        assert!(head.contains(framing), "{head}");
        client.expect_quiet(MOMENT);
        peer.send(CONTINUE);
        client.expect(CONTINUE);
        client.send(if is_chunked {
            "5\r\nhello\r\n0\r\n\r\n"
        } else {
            "hello"
        });
        peer.expect(if is_chunked {
            "5\r\nhello\r\n0\r\n\r\n"
        } else {
            "hello"
        });
        peer.send(DONE);
        client.answer_to("PUT").expect_status(201);
        // The connection is good for another.
        client.send("GET /y HTTP/1.1\r\nHost: front\r\n\r\n");
        assert_eq!(peer.request().target(), "/y");
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        client.answer_to("GET").expect_status(200);
        peer.expect_end();
    }
}

#[test]
fn we_tell_the_client_to_go_on_where_the_backend_is_not_asked() {
    let backend = Backend::listen();
    let proxy = proxy(&backend, "Proxy100Continue Off");
    let mut client = Client::sending(&proxy, ASKING);
    client.expect(CONTINUE);
    client.send("hello");
    let mut peer = backend.accept();
    let request = peer.request();
    assert_eq!(request.field("Expect"), None);
    assert_eq!(request.body, b"hello");
    peer.send(DONE);
    client.answer_to("PUT").expect_status(201);
}

#[test]
fn a_client_that_does_not_wait_is_not_kept_waiting() {
    let backend = Backend::listen();
    for directives in ["", "Proxy100Continue Off"] {
        let proxy = proxy(&backend, directives);
        // With the head.
        let mut client = Client::sending(&proxy, ASKING.to_owned() + "hello");
        let mut peer = backend.accept();
        assert_eq!(peer.request().body, b"hello");
        peer.send(DONE);
        let answer = client.answer_to("PUT");
        let answer = if answer.status() == 100 {
            client.answer_to("PUT")
        } else {
            answer
        };
        answer.expect_status(201);
    }
    // After a while, in which the backend has said nothing.
    let proxy = proxy(&backend, "");
    let mut client = Client::sending(&proxy, ASKING);
    let mut peer = backend.accept();
    peer.head();
    client.send("hello");
    peer.expect("hello");
    // A 100 that nobody waits for any more is not passed on.
    peer.send(CONTINUE);
    peer.send(DONE);
    client.answer_to("PUT").expect_status(201);
}

#[test]
fn a_backend_may_refuse_a_body_at_once() {
    let backend = Backend::listen();
    let proxy = proxy(&backend, "");
    for status in [417, 413, 401, 200] {
        let mut client = Client::sending(&proxy, ASKING);
        let mut peer = backend.accept();
        peer.head();
        peer.send(format!(
            "HTTP/1.1 {status} So\r\nContent-Length: 4\r\n\r\nwhy?"
        ));
        // The body may still come, or may not: neither connection has a next request.
        let answer = client.last_answer().expect_status(status);
        assert_eq!(answer.field("Connection").as_deref(), Some("close"));
        assert_eq!(answer.body, b"why?");
        peer.expect_end();
    }
}

#[test]
fn an_unknown_expectation_is_refused() {
    let origin = Origin::new(|_| Reply::ok(""));
    let proxy = origin.behind("");
    for (fields, status) in [
        ("Expect: x", 417),
        ("Expect: 100-continue, x", 417),
        ("Expect: 100-continue\r\nExpect: 200-ok", 417),
        ("Expect: 100-Continue", 200),
    ] {
        let mut client = Client::sending(
            &proxy,
            format!("GET / HTTP/1.1\r\nHost: front\r\n{fields}\r\n\r\n"),
        );
        let answer = client.answer_to("GET").expect_status(status);
        if status == 417 {
            assert!(origin.others().is_empty(), "{answer:?}");
        } else {
            // There is no body to expect anything about.
            assert_eq!(origin.request().field("Expect"), None);
        }
    }
    proxy.wait_for_log(
        "PW112 \"GET / HTTP/1.1\" refused: \"Expect: x\" is not known (417) on the way to ",
    );
}

#[test]
fn http_1_0_knows_no_expectations() {
    let backend = Backend::listen();
    let proxy = proxy(&backend, "");
    for value in ["100-continue", "x"] {
        let request = ASKING
            .replace("HTTP/1.1", "HTTP/1.0")
            .replace("100-continue", value);
        let mut client = Client::sending(&proxy, request + "hello");
        let mut peer = backend.accept();
        let request = peer.request();
        assert_eq!(request.field("Expect"), None);
        assert_eq!(request.body, b"hello");
        peer.send(DONE.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
        client.answer_to("PUT").expect_status(201);
    }
}

#[test]
fn a_backend_that_knows_no_expectations_is_not_asked() {
    let backend = Backend::listen();
    let proxy = proxy(
        &backend,
        "RewriteEngine On\nRewriteRule .* - [E=force-proxy-request-1.0:1]",
    );
    let mut client = Client::sending(&proxy, ASKING);
    client.expect(CONTINUE);
    client.send("hello");
    let mut peer = backend.accept();
    let request = peer.request();
    assert_eq!(request.line(), "PUT /x HTTP/1.0");
    assert_eq!(request.field("Expect"), None);
    assert_eq!(request.body, b"hello");
    peer.send("HTTP/1.0 201 Created\r\nContent-Length: 0\r\n\r\n");
    client.answer_to("PUT").expect_status(201);
}

#[test]
fn a_variable_chooses_the_framing_of_an_expected_body_too() {
    let backend = Backend::listen();
    let proxy = proxy(
        &backend,
        "RewriteEngine On\nRewriteRule .* - [E=proxy-sendchunked:1]",
    );
    let mut client = Client::sending(&proxy, ASKING);
    let mut peer = backend.accept();
    let head = peer.head();
    assert!(
        head.contains("\r\nTransfer-Encoding: chunked\r\n"),
        "{head}"
    );
    peer.send(CONTINUE);
    client.expect(CONTINUE);
    client.send("hello");
    peer.expect("5\r\nhello\r\n0\r\n\r\n");
    peer.send(DONE);
    client.answer_to("PUT").expect_status(201);
}

#[test]
fn a_refused_chunk_behind_a_100_ends_both_connections() {
    let backend = Backend::listen();
    let proxy = proxy(&backend, "");
    let mut client = Client::sending(
        &proxy,
        ASKING.replace("Content-Length: 5", "Transfer-Encoding: chunked"),
    );
    let mut peer = backend.accept();
    peer.head();
    peer.send(CONTINUE);
    client.expect(CONTINUE);
    client.send("zz\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n");
    client.last_answer().expect_status(400);
    peer.expect_end();
}
