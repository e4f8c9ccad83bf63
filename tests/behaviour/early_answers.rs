//! Answers that begin before the backend has all of the request.

use crate::support::{Backend, Client, Proxy, pattern};

fn proxy(backend: &Backend, directives: &str) -> Proxy {
    let address = backend.address();
    Proxy::start(format!(
        "{directives}\nProxyPass / http://{address}/\nCustomLog access.log \"%>s %I\""
    ))
}

#[test]
fn the_rest_of_a_request_goes_on_while_it_is_answered() {
    let backend = Backend::listen();
    let proxy = proxy(&backend, "");
    let content = pattern(5, 100_000);
    let head = "POST / HTTP/1.1\r\nHost: front\r\nContent-Length: 100000\r\n\r\n";
    let mut client = Client::sending(&proxy, [head.as_bytes(), &content[..40_000]].concat());
    let mut peer = backend.accept();
    peer.head();
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    let answer = client.answer_head().expect_status(200);
    // What it says now it cannot take back, and the rest may never come.
    assert_eq!(answer.field("Connection").as_deref(), Some("close"));
    // From here on each waits for the other.
    for (is_there, part) in [
        (true, 0..40_000),
        (false, 40_000..99_999),
        (false, 99_999..100_000),
    ] {
        let part = &content[part];
        if !is_there {
            client.send(part);
        }
        peer.expect(part);
        peer.send(part);
        client.expect(part);
    }
    client.expect_end();
    peer.expect_end();
    drop(client);
    let line = proxy.wait_for_lines("access.log", 1).remove(0);
    assert_eq!(line, format!("200 {}", head.len() + content.len()));
}

/// The client has its answer already, and the backend sees that the request has no end.
#[test]
fn what_is_wrong_with_the_rest_is_no_second_answer() {
    for (directives, rest) in [
        ("", "no chunk\r\n".to_owned()),
        (
            "LimitRequestBody 30000",
            format!("4e20\r\n{}\r\n0\r\n\r\n", "x".repeat(20_000)),
        ),
    ] {
        let backend = Backend::listen();
        let proxy = proxy(&backend, directives);
        let first = "x".repeat(20_000);
        let mut client = Client::sending(
            &proxy,
            format!(
                "POST / HTTP/1.1\r\nHost: front\r\nTransfer-Encoding: chunked\r\n\r\n4e20\r\n{first}\r\n"
            ),
        );
        let mut peer = backend.accept();
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nbegun ");
        client.answer_head().expect_status(200);
        client.expect("begun ");
        client.send(rest);
        peer.send("ended.");
        client.expect("ended.");
        client.expect_end();
        let (found, _) = peer.rest();
        assert!(!found.ends_with(b"0\r\n\r\n"), "{directives}");
    }
}
