//! Bodies of requests.

use super::asked;
use crate::support::http::{Origin, Reply, Witness, chunked};
use crate::support::{Backend, Client, Proxy, pattern};
use std::io::Write;
use std::thread;
use std::time::Duration;

const K16: usize = 16 * 1024;

/// A backend that says how many bytes it got.
fn counting() -> Origin {
    Origin::new(|request| Reply::ok(request.body.len().to_string()))
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /up HTTP/1.1\r\nHost: front\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn in_chunks(body: &[u8], size: usize) -> Vec<u8> {
    let head =
        "POST /up HTTP/1.1\r\nHost: front\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
    let body = chunked(body, size, ";a=\"b;c\";d", "X-Sum: 1\r\nX-Other: \t2\r\n");
    [head.as_bytes(), &body].concat()
}

#[test]
fn bodies_arrive_byte_for_byte() {
    let origin = counting();
    let proxy = origin.behind("");
    let mut client = Client::connect(proxy.address());
    for size in [0, 1, 1000, K16 - 1, K16, K16 + 1, 100_000, 3 << 20] {
        let body = pattern(7, size);
        // What is known as a whole goes out with its length.
        for (request, framing) in [
            (with_length(&body), format!("length {size}")),
            (
                in_chunks(&body, 5000),
                if size <= K16 {
                    format!("length {size}")
                } else {
                    "chunked".to_owned()
                },
            ),
        ] {
            // In one piece, where that is short; else the sockets cut it as they like.
            client.send(&request);
            let answer = client.answer_to("POST").expect_status(200);
            assert_eq!(answer.body, size.to_string().as_bytes());
            let seen = origin.request();
            assert!(seen.body == body, "{framing}: another body");
            assert_eq!(seen.framing(), framing);
            assert_eq!(seen.trailers, "");
            assert_eq!(seen.field("Trailer"), None);
        }
    }
    assert_eq!(origin.backend.count(), 1);
}

#[test]
fn a_request_without_a_body_says_nothing_of_one() {
    let origin = counting();
    let proxy = origin.behind("");
    let mut client = Client::connect(proxy.address());
    asked(&mut client, "POST / HTTP/1.1\r\nHost: front\r\n\r\n").expect_status(200);
    assert_eq!(origin.request().framing(), "none");
    asked(
        &mut client,
        "POST / HTTP/1.1\r\nHost: front\r\nContent-Length: 0\r\n\r\n",
    )
    .expect_status(200);
    assert_eq!(origin.request().framing(), "length 0");
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let origin = counting();
    let proxy = origin.behind("");
    let body = pattern(3, 60);
    for request in [with_length(&body), in_chunks(&body, 7)] {
        let mut client = Client::connect(proxy.address());
        for byte in &request {
            client.send([*byte]);
        }
        client.answer_to("POST").expect_status(200);
        let seen = origin.request();
        assert_eq!(seen.body, body);
        assert_eq!(seen.framing(), "length 60");
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let origin = counting();
    let proxy = origin.behind("");
    let bodies = [
        pattern(1, 300),
        pattern(2, 40_000),
        Vec::new(),
        pattern(4, 30_000),
        pattern(5, 9),
    ];
    let mut requests = Vec::new();
    for (index, body) in bodies.iter().enumerate() {
        requests.extend(if index % 2 == 0 {
            with_length(body)
        } else {
            in_chunks(body, 4096)
        });
    }
    requests.extend_from_slice(b"GET /last HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n");
    let mut client = Client::sending(&proxy, requests);
    for body in &bodies {
        let answer = client.answer_to("POST").expect_status(200);
        assert_eq!(answer.body, body.len().to_string().as_bytes());
        assert!(origin.request().body == *body, "another body");
    }
    client.last_answer().expect_status(200);
    assert_eq!(origin.request().target(), "/last");
    assert!(origin.others().is_empty());
}

#[test]
fn variables_choose_the_framing() {
    let origin = counting();
    let short = pattern(1, 100);
    let long = pattern(2, 50_000);
    for (variable, request, line, framing) in [
        (
            "proxy-sendchunked",
            with_length(&short),
            "HTTP/1.1",
            Ok("chunked"),
        ),
        (
            "proxy-sendchunked",
            with_length(&long),
            "HTTP/1.1",
            Ok("chunked"),
        ),
        (
            "proxy-sendchunked",
            with_length(b""),
            "HTTP/1.1",
            Ok("length 0"),
        ),
        (
            "proxy-sendchunked",
            in_chunks(&short, 9),
            "HTTP/1.1",
            Ok("chunked"),
        ),
        (
            "proxy-sendcl",
            in_chunks(&short, 9),
            "HTTP/1.1",
            Ok("length 100"),
        ),
        (
            "proxy-sendcl",
            with_length(&long),
            "HTTP/1.1",
            Ok("length 50000"),
        ),
        ("proxy-sendcl", in_chunks(&long, 9999), "", Err(411)),
        (
            "force-proxy-request-1.0",
            in_chunks(&short, 9),
            "HTTP/1.0",
            Ok("length 100"),
        ),
        (
            "force-proxy-request-1.0",
            with_length(&long),
            "HTTP/1.0",
            Ok("length 50000"),
        ),
        (
            "force-proxy-request-1.0",
            in_chunks(&long, 9999),
            "",
            Err(411),
        ),
    ] {
        let proxy = origin.behind(&format!(
            "RewriteEngine On\nRewriteRule .* - [E={variable}:1]"
        ));
        let mut client = Client::connect(proxy.address());
        client.send_if_taken(&request);
        match framing {
            Ok(framing) => {
                client.answer_to("POST").expect_status(200);
                let seen = origin.request();
                assert_eq!(seen.framing(), framing, "{variable}");
                assert_eq!(seen.line(), format!("POST /up {line}"));
                let old = line == "HTTP/1.0";
                assert_eq!(seen.field("Connection").as_deref() == Some("close"), old);
                assert!(seen.body == short || seen.body == long || seen.body.is_empty());
            }
            Err(status) => {
                client.last_answer().expect_status(status);
                assert!(origin.others().is_empty(), "{variable}");
                proxy.wait_for_log(
                    "PW113 \"POST /up HTTP/1.1\" refused: the backend has to know the length",
                );
            }
        }
    }
}

#[test]
fn a_body_has_a_longest_length() {
    let origin = counting();
    let backend = origin.url();
    let proxy = Proxy::start(format!(
        "LimitRequestBody 1000\nProxyPass / {backend}/\n<Location /large/>\nLimitRequestBody 60000\n</Location>\n\
         <Location /any/>\nLimitRequestBody 0\n</Location>"
    ));
    // What was refused when it had grown too long, of which a backend may have got the beginning.
    let whole = || loop {
        match origin.next() {
            Ok(request) => return request,
            Err(problem) => assert!(problem.contains("inside a body"), "{problem}"),
        }
    };
    for (path, most) in [("/", 1000), ("/large/", 60_000), ("/any/", usize::MAX)] {
        for size in [999, 1000, 1001, 59_999, 60_000, 60_001, 200_000] {
            let body = pattern(1, size);
            for request in [with_length(&body), in_chunks(&body, 700)] {
                let request = [
                    b"POST ".as_slice(),
                    path.as_bytes(),
                    &request["POST /up".len()..],
                ]
                .concat();
                let mut client = Client::connect(proxy.address());
                client.send_if_taken(&request);
                if size <= most {
                    client.answer_to("POST").expect_status(200);
                    assert!(whole().body == body);
                } else {
                    client.last_answer().expect_status(413);
                }
            }
        }
    }
    let problems = origin.others();
    assert!(problems.iter().all(Result::is_err), "{problems:?}");
    proxy.wait_for_log("refused: the body is larger than 60000 bytes (413) on the way to ");
}

#[test]
fn a_length_that_is_too_large_is_refused_before_anything_is_sent() {
    let origin = counting();
    let proxy = origin.behind("LimitRequestBody 10");
    for fields in ["", "Expect: 100-continue\r\n"] {
        let mut client = Client::sending(
            &proxy,
            format!("PUT / HTTP/1.1\r\nHost: front\r\nContent-Length: 11\r\n{fields}\r\n"),
        );
        client.last_answer().expect_status(413);
    }
    assert_eq!(origin.backend.count(), 0);
}

#[test]
fn an_answer_that_comes_early_ends_the_upload() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!("ProxyPass / http://{}/", backend.address()));
    for (stays, framed) in [
        (true, "Content-Length: 9\r\n"),
        (false, "Connection: close\r\n"),
    ] {
        let head = "POST /up HTTP/1.1\r\nHost: front\r\nContent-Length: 1000000000\r\n\r\n";
        let mut client = Client::sending(&proxy, [head.as_bytes(), &pattern(1, 100_000)].concat());
        let mut peer = backend.accept();
        assert_eq!(peer.head().split(' ').next(), Some("POST"));
        peer.send(format!("HTTP/1.1 403 Forbidden\r\n{framed}\r\ntoo large"));
        if !stays {
            peer.finish();
        }
        // It has not read the whole body, so there is no next request.
        let answer = client.last_answer().expect_status(403);
        assert_eq!(answer.body, b"too large");
        assert_eq!(answer.field("Connection").as_deref(), Some("close"));
        drop(peer);
    }
    // The first connection was not kept: what is left of a body would have been read as a request.
    assert_eq!(backend.count(), 2);
}

#[test]
fn a_client_that_goes_on_sending_still_reads_an_early_answer() {
    let backend = Backend::serve(|mut wire| {
        if wire.try_head().is_ok()
            && wire.send_if_taken("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!")
        {
            wire.finish();
            wire.rest();
        }
    });
    let proxy = Proxy::start(format!("ProxyPass / http://{}/", backend.address()));
    let head = "POST /up HTTP/1.1\r\nHost: front\r\nContent-Length: 100000000\r\n\r\n";
    let mut client = Client::sending(&proxy, head);
    let mut sending = client.tcp().try_clone().unwrap();
    let sender = thread::spawn(move || {
        let piece = [b'x'; 4096];
        while sending.write_all(&piece).is_ok() {}
    });
    let answer = client.answer_to("POST").expect_status(413);
    assert_eq!(answer.body, b"no!");
    // Sooner or later nothing more is taken.
    client.rest();
    sender.join().unwrap();
}

#[test]
fn a_backend_that_closes_inside_the_upload_may_have_said_why() {
    for (said, status) in [
        ("", 502),
        ("HTTP/1.1 507 Full\r\nContent-Length: 4\r\n\r\nfull", 507),
        ("HTTP/1.1 507 Full\r\n\r\nfull", 507),
    ] {
        let backend = Backend::listen();
        let proxy = Proxy::start(format!("ProxyPass / http://{}/", backend.address()));
        let head = "POST /up HTTP/1.1\r\nHost: front\r\nContent-Length: 50000000\r\n\r\n";
        let mut client = Client::sending(&proxy, [head.as_bytes(), &pattern(1, 200_000)].concat());
        let mut peer = backend.accept();
        peer.head();
        peer.receive(1000);
        peer.send(said);
        if said.is_empty() {
            // With unread bytes: a reset.
            drop(peer);
            client.last_answer().expect_status(status);
            let line = proxy.wait_for_log(": answer: ");
            assert!(line.contains("PW408") && line.contains("(502)"), "{line}");
        } else {
            peer.finish();
            let answer = client.last_answer().expect_status(status);
            assert_eq!(answer.body, b"full");
        }
    }
}

#[test]
fn a_client_that_goes_away_inside_its_body_leaves_no_whole_request() {
    let witness = Witness::new();
    let proxy = Proxy::start(format!("ProxyPass / {}/", witness.url()));
    for request in [
        with_length(&pattern(1, 60_000)),
        in_chunks(&pattern(1, 60_000), 4096),
    ] {
        let mut client = Client::sending(&proxy, &request[..50_000]);
        client.finish();
        let (answer, _) = client.rest();
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{answer:?}");
        let bytes = witness.bytes();
        assert!(bytes.starts_with(b"POST /up HTTP/1.1\r\n") && bytes.len() < 60_000);
        assert!(!bytes.ends_with(b"0\r\n\r\n"));
    }
    // Short ones never get to a backend.
    let mut client = Client::sending(&proxy, &with_length(b"hello")[..56]);
    client.finish();
    client.rest();
    assert_eq!(witness.backend.count(), 2);
}

#[test]
fn who_has_to_wait_for_the_backend_has_all_its_time_for_the_body() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!(
        "RequestReadTimeout body=1\nProxyPass / http://{}/",
        backend.address()
    ));
    let mut client = Client::sending(
        &proxy,
        "POST / HTTP/1.1\r\nHost: front\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    );
    let mut peer = backend.accept();
    peer.head();
    // Longer than a client may take.
    thread::sleep(Duration::from_millis(1300));
    peer.send("HTTP/1.1 100 Continue\r\n\r\n");
    client.expect("HTTP/1.1 100 Continue\r\n\r\n");
    thread::sleep(Duration::from_millis(100));
    client.send("hi");
    peer.expect("hi");
    peer.send("HTTP/1.1 204 No Content\r\n\r\n");
    client.answer_to("POST").expect_status(204);
}
