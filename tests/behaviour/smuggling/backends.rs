//! Answers that two readers could read in two ways, and what follows an answer.

use super::{BROKEN, holds};
use crate::support::http::{Message, Origin, Reply};
use crate::support::{BOUND, Backend, Client, Proxy, wait_until};

/// What a client gets of a backend that says this, and then ends or waits.
#[track_caller]
fn answered(answer: &'static [u8]) -> Vec<Message> {
    let origin = Origin::new(move |_| Reply::last(answer));
    let proxy = origin.behind("");
    let mut client = Client::sending(
        &proxy,
        "GET /x HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n",
    );
    let mut answers = vec![client.answer_to("GET")];
    while answers.last().is_some_and(|answer| answer.status() < 200) {
        answers.push(client.answer_to("GET"));
    }
    client.expect_end();
    answers
}

const ANSWERS: &[(&str, &[u8])] = &[
    (
        "LF in a value",
        b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "CR in a value",
        b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "CR CR LF",
        b"HTTP/1.1 200 OK\r\nX: a\r\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "NUL in a value",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "another control in a value",
        b"HTTP/1.1 200 OK\r\nX: a\x08b\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "DEL in a value",
        b"HTTP/1.1 200 OK\r\nX: a\x7fb\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "LF in a name",
        b"HTTP/1.1 200 OK\r\nX\nY: a\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "NUL in a name",
        b"HTTP/1.1 200 OK\r\nX\0: a\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "a blank in a name",
        b"HTTP/1.1 200 OK\r\nX Y: a\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "a blank behind a name",
        b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    ),
    (
        "no name",
        b"HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "no colon",
        b"HTTP/1.1 200 OK\r\nX\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "a folded value",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "folded at once",
        b"HTTP/1.1 200 OK\r\n X: a\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "a control in the reason",
        b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "CR in the reason",
        b"HTTP/1.1 200 OK\rX: y\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "LF behind the status line",
        b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    ),
    (
        "LF ends the head",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n",
    ),
    ("LF alone", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    ("HTTP/0.9", b"<html>hello</html>\r\n\r\n"),
    (
        "an empty line first",
        b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "lower case",
        b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ),
    ("HTTP/1.2", b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n"),
    (
        "HTTP/11.1",
        b"HTTP/11.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ),
    ("two digits", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
    (
        "four digits",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "two blanks",
        b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "a status below 100",
        b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "101",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    ),
    (
        "both",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "two lengths",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    ),
    (
        "two lengths that are the same",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
    ),
    (
        "a list of lengths",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab",
    ),
    ("a plus", b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab"),
    (
        "a minus",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab",
    ),
    (
        "gzip, chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "identity",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
    ),
    (
        "chunks in HTTP/1.0",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "an interim answer with a body",
        b"HTTP/1.1 103 Hints\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\n",
    ),
    (
        "an interim answer that is broken",
        b"HTTP/1.1 103 Hints\r\nX: a\nb\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ),
];

/// [CVE-2022-37436, CVE-2023-27522, CVE-2023-38709, CVE-2024-24795, CVE-2024-42516]: nothing that a backend puts into its
/// head ends a line, or the head, or the answer.
#[test]
fn an_answer_that_could_be_split_is_a_502() {
    for (name, answer) in ANSWERS.iter().copied() {
        let answers = answered(answer);
        let last = answers.last().unwrap();
        assert_eq!(last.status(), 502, "{name}: {answers:?}");
        for text in ["Set-Cookie", "smuggled", "<html>"] {
            assert!(
                !last.head.contains(text) && !holds(&last.body, text),
                "{name}: {last:?}"
            );
        }
    }
    // The first chunk alone decides, as long as nothing is out.
    for (name, chunks) in BROKEN {
        if chunks.starts_with("2\r\n") || chunks.starts_with('0') && chunks.contains(": ") {
            continue;
        }
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let answers = answered(answer.leak().as_bytes());
        assert_eq!(answers[0].status(), 502, "{name}");
    }
}

#[test]
fn bytes_behind_an_answer_never_reach_another_client() {
    const NEXT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Poison: 1\r\n\r\npoison";
    for (name, method, answer) in [
        (
            "a length",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ),
        (
            "no length",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            "chunks",
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        ("204", "GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            "204 with a length",
            "GET",
            "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n",
        ),
        (
            "304 with a length",
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n",
        ),
        (
            "HEAD",
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n",
        ),
        (
            "HEAD of chunks",
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
    ] {
        for (gap, behind) in [(false, NEXT), (true, NEXT), (false, "x"), (true, "\r\n")] {
            let backend = Backend::listen();
            let proxy = Proxy::start(format!("ProxyPass / http://{}/", backend.address()));
            let mut client = Client::sending(
                &proxy,
                format!("{method} /x HTTP/1.1\r\nHost: front\r\n\r\n"),
            );
            let mut peer = backend.accept();
            peer.request();
            // In one piece with the answer, or once it is through.
            if gap {
                peer.send(answer);
                client.answer_to(method);
                peer.send(behind);
            } else {
                peer.send(format!("{answer}{behind}"));
                client.answer_to(method);
            }
            // What came is there when the next is asked: it went over the same host before.
            let mut other = Client::sending(&proxy, "GET /y HTTP/1.1\r\nHost: front\r\n\r\n");
            let mut fresh = backend.accept();
            assert_eq!(fresh.request().target(), "/y", "{name}");
            fresh.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfresh");
            let got = other.answer_to("GET").expect_status(200);
            assert_eq!(got.body, b"fresh", "{name}: {got:?}");
            // The first connection has ended, and nothing was asked over it.
            let (rest, _) = peer.rest();
            assert_eq!(rest, b"", "{name}");
            // Nor does the first client get any of it.
            client.send("GET /z HTTP/1.1\r\nHost: front\r\n\r\n");
            assert_eq!(fresh.request().target(), "/z");
            fresh.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthird");
            assert_eq!(client.answer_to("GET").body, b"third", "{name}");
        }
    }
}

#[test]
fn an_answer_that_nobody_has_asked_for_ends_its_connection() {
    for said in [
        "HTTP/1.1 408 Request Timeout\r\nContent-Length: 6\r\nConnection: close\r\n\r\npoison",
        "HTTP/1.1 200 OK\r\n",
        "\0",
    ] {
        let backend = Backend::listen();
        let proxy = Proxy::start(format!("ProxyPass / http://{}/", backend.address()));
        let mut client = Client::sending(&proxy, "GET /x HTTP/1.1\r\nHost: front\r\n\r\n");
        let mut peer = backend.accept();
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        client.answer_to("GET").expect_status(200);
        wait_until("the connection to be kept", BOUND, || {
            proxy.connections() >= 2
        });
        peer.send(said);
        client.send("GET /y HTTP/1.1\r\nHost: front\r\n\r\n");
        let mut fresh = backend.accept();
        assert_eq!(fresh.request().target(), "/y");
        fresh.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfresh");
        assert_eq!(client.answer_to("GET").body, b"fresh");
        assert_eq!(peer.rest().0, b"");
    }
}

#[test]
fn a_backend_that_says_that_it_closes_is_not_asked_again() {
    for fields in [
        "Connection: close\r\n",
        "Connection: x\r\nConnection: keep-alive, Close\r\n",
    ] {
        let backend = Backend::listen();
        let proxy = Proxy::start(format!("ProxyPass / http://{}/", backend.address()));
        let mut client = Client::connect(proxy.address());
        for _ in 0..2 {
            client.send("GET /x HTTP/1.1\r\nHost: front\r\n\r\n");
            let mut peer = backend.accept();
            peer.request();
            peer.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n"
            ));
            client.answer_to("GET").expect_status(200);
            peer.expect_end();
        }
    }
}

/// An answer in place of the body that the backend's answer has, which nobody then reads.
#[test]
fn a_replaced_answer_leaves_nothing_on_its_connection() {
    for (answer, rest, stays) in [
        (
            "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops",
            "",
            true,
        ),
        (
            "HTTP/1.1 500 Oops\r\nContent-Length: 400\r\n\r\noops",
            "more",
            false,
        ),
        (
            "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noopsHTTP/1.1 200 OK\r\n\r\n",
            "",
            false,
        ),
        (
            "HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n4\r\noops\r\nzz",
            "",
            false,
        ),
        ("HTTP/1.1 500 Oops\r\n\r\noops", "", false),
    ] {
        let backend = Backend::listen();
        let proxy = Proxy::start(format!(
            "ProxyErrorOverride On\nProxyPass / http://{}/",
            backend.address()
        ));
        let mut client = Client::sending(&proxy, "GET /x HTTP/1.1\r\nHost: front\r\n\r\n");
        let mut peer = backend.accept();
        peer.request();
        peer.send(answer);
        let got = client.answer_to("GET").expect_status(500);
        assert!(!holds(&got.body, "oops"), "{got:?}");
        peer.send_if_taken(rest);
        let mut other = Client::sending(&proxy, "GET /y HTTP/1.1\r\nHost: front\r\n\r\n");
        let mut next = if stays { peer } else { backend.accept() };
        assert_eq!(next.request().target(), "/y");
        next.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(other.answer_to("GET").body, b"ok");
    }
}
