//! Requests that two readers could read in two ways.

use super::{BROKEN, holds};
use crate::support::http::{Origin, Witness, chunked};
use crate::support::wire::{End, brief};
use crate::support::{Client, Proxy, pattern};

/// What no backend may see as a request.
const SECOND: &str = "GET /smuggled HTTP/1.1\r\nHost: front\r\n\r\n";

/// A backend that reads strictly, one that only looks at the bytes, and a proxy in front of both.
struct Stage {
    origin: Origin,
    witness: Witness,
    proxy: Proxy,
}

impl Stage {
    fn new() -> Self {
        let (origin, witness) = (Origin::telling(), Witness::new());
        let proxy = Proxy::start(format!(
            "ProxyPass /strict/ {}/\nProxyPass /raw/ {}/",
            origin.url(),
            witness.url()
        ));
        Self {
            origin,
            witness,
            proxy,
        }
    }

    /// What a client gets for a request to each of the backends, up to the end of its connection.
    #[track_caller]
    fn refused(&self, name: &str, request: &[u8]) {
        for path in ["/strict/", "/raw/"] {
            let mut client = Client::connect(self.proxy.address());
            client.send_if_taken(at(path, request));
            let answer = client.answer_to("GET");
            assert_eq!(answer.status(), 400, "{name}: {answer:?}");
            assert_eq!(
                answer.field("Connection").as_deref(),
                Some("close"),
                "{name}"
            );
            // Whatever else it has sent, there is no other answer.
            let (rest, end) = client.rest();
            assert_eq!(
                (rest.as_slice(), end),
                (&b""[..], End::Orderly),
                "{name}: {}",
                brief(&rest)
            );
        }
    }

    /// Neither backend has been asked for anything, nor will be.
    #[track_caller]
    fn expect_untouched(&self) {
        assert_eq!(
            (self.origin.backend.count(), self.witness.backend.count()),
            (0, 0)
        );
    }
}

/// A request of a test, to another path.
fn at(path: &str, request: &[u8]) -> Vec<u8> {
    let place = request
        .windows(3)
        .position(|window| window == b" /x")
        .unwrap();
    [&request[..=place], path.as_bytes(), &request[place + 2..]].concat()
}

/// Fields of a request, and what stands behind its head.
const FIELDS: &[(&str, &str, &str)] = &[
    // [CVE-2020-13950, CVE-2022-36760]
    (
        "both",
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "both, the other way round",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "0\r\n\r\n",
    ),
    (
        "both, the length none",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "0\r\n\r\n",
    ),
    (
        "both, the coding empty",
        "Transfer-Encoding:\r\nContent-Length: 2\r\n",
        "hi",
    ),
    (
        "two lengths",
        "Content-Length: 2\r\nContent-Length: 40\r\n",
        "hi",
    ),
    (
        "two lengths that are the same",
        "Content-Length: 2\r\nContent-Length: 2\r\n",
        "hi",
    ),
    (
        "two lengths in other case",
        "Content-Length: 0\r\ncontent-length: 40\r\n",
        "",
    ),
    ("a list of lengths", "Content-Length: 2, 2\r\n", "hi"),
    ("a list of other lengths", "Content-Length: 0, 40\r\n", ""),
    ("a plus", "Content-Length: +2\r\n", "hi"),
    ("a minus", "Content-Length: -2\r\n", ""),
    ("minus nothing", "Content-Length: -0\r\n", ""),
    ("hexadecimal", "Content-Length: 0x2\r\n", "hi"),
    ("a fraction", "Content-Length: 2.0\r\n", "hi"),
    ("a blank inside", "Content-Length: 2 0\r\n", "hi"),
    ("no digits", "Content-Length:\r\n", ""),
    (
        "digits of another script",
        "Content-Length: \u{ff12}\r\n",
        "hi",
    ),
    (
        "beyond 64 bits",
        "Content-Length: 18446744073709551618\r\n",
        "hi",
    ),
    ("a blank before the colon", "Content-Length : 2\r\n", "hi"),
    (
        "a tab before the colon",
        "Transfer-Encoding\t: chunked\r\n",
        "0\r\n\r\n",
    ),
    ("identity", "Transfer-Encoding: identity\r\n", ""),
    (
        "chunked, identity",
        "Transfer-Encoding: chunked, identity\r\n",
        "0\r\n\r\n",
    ),
    (
        "identity, chunked",
        "Transfer-Encoding: identity, chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "gzip, chunked",
        "Transfer-Encoding: gzip, chunked\r\n",
        "0\r\n\r\n",
    ),
    ("xchunked", "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
    ("chunkedx", "Transfer-Encoding: chunkedx\r\n", "0\r\n\r\n"),
    ("quoted", "Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"),
    (
        "with a parameter",
        "Transfer-Encoding: chunked;x=1\r\n",
        "0\r\n\r\n",
    ),
    (
        "twice in one",
        "Transfer-Encoding: chunked, chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "twice",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "twice, one unknown",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
        "0\r\n\r\n",
    ),
    (
        "a vertical tab",
        "Transfer-Encoding: \x0bchunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "a form feed",
        "Transfer-Encoding: chunked\x0c\r\n",
        "0\r\n\r\n",
    ),
    ("NUL", "Transfer-Encoding: chunked\0\r\n", "0\r\n\r\n"),
    ("folded", "Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
    (
        "folded into another",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "folded at once",
        " Transfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "LF in front of a field",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "CR in front of a field",
        "X: y\rTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    ),
    ("LF behind a field", "Content-Length: 2\n", "hi"),
    ("a field without a colon", "Content-Length 2\r\n", "hi"),
    ("a name in quotes", "\"Content-Length\": 2\r\n", "hi"),
    ("no name", ": x\r\n", ""),
    ("two hosts", "Host: other\r\n", ""),
    ("a list of hosts", "X: y\r\nHost: other, front\r\n", ""),
];

#[test]
fn a_head_that_can_be_read_in_two_ways_is_refused() {
    let stage = Stage::new();
    for (name, fields, body) in FIELDS.iter().copied() {
        let request = format!("POST /x HTTP/1.1\r\nHost: front\r\n{fields}\r\n{body}{SECOND}");
        stage.refused(name, request.as_bytes());
    }
    for (name, request) in [
        (
            "chunks in HTTP/1.0",
            "POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunks in HTTP/1.0 that stays",
            "POST /x HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "LF alone",
            "POST /x HTTP/1.1\nHost: front\nContent-Length: 2\n\nhi",
        ),
        (
            "LF behind the request line",
            "POST /x HTTP/1.1\nHost: front\r\n\r\n",
        ),
        (
            "CR inside the request line",
            "POST /x\r HTTP/1.1\r\nHost: front\r\n\r\n",
        ),
        ("LF ends the head", "POST /x HTTP/1.1\r\nHost: front\r\n\n"),
        ("two blanks", "POST  /x HTTP/1.1\r\nHost: front\r\n\r\n"),
        (
            "a request line in the target",
            "GET /x HTTP/1.1 HTTP/1.1\r\nHost: front\r\n\r\n",
        ),
        ("no host", "GET /x HTTP/1.1\r\n\r\n"),
        ("no version", "GET /x\r\n\r\n"),
    ] {
        stage.refused(name, format!("{request}{SECOND}").as_bytes());
    }
    stage.expect_untouched();
}

#[test]
fn broken_chunks_are_refused_before_a_backend_is_asked() {
    let stage = Stage::new();
    for (name, chunks) in BROKEN.iter().copied() {
        for before in ["", "3\r\nabc\r\n"] {
            // A chunk that has ended well in front of it makes no difference.
            let request = format!(
                "POST /x HTTP/1.1\r\nHost: front\r\nTransfer-Encoding: chunked\r\n\r\n{before}{chunks}{SECOND}"
            );
            stage.refused(name, request.as_bytes());
        }
    }
    let zeros = "0".repeat(9000);
    let long = "x".repeat(9000);
    for (name, chunks) in [
        ("a size without end", format!("{zeros}2\r\nhi\r\n0\r\n\r\n")),
        (
            "an extension without end",
            format!("2;{long}\r\nhi\r\n0\r\n\r\n"),
        ),
        ("a trailer without end", format!("0\r\nX: {long}\r\n\r\n")),
    ] {
        let request = format!(
            "POST /x HTTP/1.1\r\nHost: front\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{SECOND}"
        );
        stage.refused(name, request.as_bytes());
    }
    stage.expect_untouched();
}

/// [CVE-2022-22720]: a body that cannot be read to its end leaves no connection behind.
#[test]
fn chunks_that_break_late_leave_half_a_request() {
    let stage = Stage::new();
    let good = chunked(&pattern(5, 40_000), 3000, "", "");
    let good = &good[..good.len() - "000\r\n\r\n".len()];
    for (name, chunks) in BROKEN.iter().copied() {
        let head = "POST /x HTTP/1.1\r\nHost: front\r\nTransfer-Encoding: chunked\r\n\r\n";
        let request = [head.as_bytes(), good, chunks.as_bytes(), SECOND.as_bytes()].concat();
        stage.refused(name, &request);
        let problem = stage.origin.next().expect_err(name);
        assert!(problem.contains("inside a body"), "{name}: {problem}");
        let bytes = stage.witness.bytes();
        assert!(
            !holds(&bytes, "smuggled") && !bytes.ends_with(b"0\r\n\r\n"),
            "{name}"
        );
    }
    assert!(stage.origin.others().is_empty());
}

#[test]
fn a_body_that_looks_like_a_request_stays_a_body() {
    let stage = Stage::new();
    let length = SECOND.len();
    for (request, framing) in [
        (
            format!("GET /x HTTP/1.1\r\nHost: front\r\nContent-Length: {length}\r\n\r\n{SECOND}"),
            "length",
        ),
        (
            format!(
                "DELETE /x HTTP/1.1\r\nHost: front\r\nContent-Length: {length}\r\n\r\n{SECOND}"
            ),
            "length",
        ),
        (
            format!(
                "HEAD /x HTTP/1.1\r\nHost: front\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{SECOND}\r\n0\r\n\r\n"
            ),
            "length",
        ),
        (
            // What a client asks for beside it changes nothing.
            format!(
                "GET /x HTTP/1.1\r\nHost: front\r\nUpgrade: websocket\r\nConnection: Upgrade, Content-Length, Host\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                 Content-Length: {length}\r\n\r\n{SECOND}"
            ),
            "length",
        ),
        (
            format!(
                "POST /x HTTP/1.1\r\nHost: front\r\nConnection: Transfer-Encoding, close\r\nTransfer-Encoding: chunked\r\n\r\n\
                 {length:x}\r\n{SECOND}\r\n0\r\nContent-Length: 5\r\nHost: other\r\nTransfer-Encoding: gzip\r\n\r\n"
            ),
            "length",
        ),
        (
            format!(
                "OPTIONS /x HTTP/1.1\r\nHost: front\r\nUpgrade: h2c\r\nContent-Length: 0{length}\r\n\r\n{SECOND}"
            ),
            "length",
        ),
    ] {
        let method = request.split(' ').next().unwrap();
        let mut client = Client::sending(&stage.proxy, at("/strict/", request.as_bytes()));
        client.answer_to(method).expect_status(200);
        let seen = stage.origin.request();
        assert_eq!(seen.body, SECOND.as_bytes(), "{request}");
        assert_eq!(seen.framing(), format!("{framing} {length}"), "{request}");
        assert_eq!(seen.trailers, "");
        // The other backend sees the same bytes, and none behind them.
        Client::sending(&stage.proxy, at("/raw/", request.as_bytes()))
            .answer_to(method)
            .expect_status(200);
        let bytes = stage.witness.bytes();
        assert!(bytes.ends_with(format!("\r\nConnection: Keep-Alive\r\n\r\n{SECOND}").as_bytes()));
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("\r\nHost: ").count(), 2, "{text}");
    }
    assert!(stage.origin.others().is_empty());
}

#[test]
fn trailers_of_a_request_go_nowhere() {
    let stage = Stage::new();
    let trailers = "Content-Length: 5\r\nHost: other\r\nTransfer-Encoding: chunked\r\nX-Forwarded-For: 1.1.1.1\r\n";
    for size in [10, 50_000] {
        let body = chunked(&pattern(1, size), 4000, "", trailers);
        let head =
            "POST /x HTTP/1.1\r\nHost: front\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n";
        let request = [head.as_bytes(), &body].concat();
        Client::sending(&stage.proxy, at("/strict/", &request))
            .answer_to("POST")
            .expect_status(200);
        let seen = stage.origin.request();
        assert_eq!((seen.trailers.as_str(), seen.body.len()), ("", size));
        Client::sending(&stage.proxy, at("/raw/", &request))
            .answer_to("POST")
            .expect_status(200);
        assert!(!holds(&stage.witness.bytes(), "1.1.1.1"));
    }
}

/// Also [CVE-2023-25690]: nothing of a target can end the request line.
#[test]
fn nothing_in_a_target_or_a_field_becomes_a_line() {
    let origin = Origin::telling();
    let proxy = Proxy::start(format!(
        "RewriteEngine On\nRewriteRule ^/decoded/(.*)$ {url}/$1 [P,NE]\nProxyPassMatch ^/match/(.*)$ {url}/$1\nProxyPass / {url}/",
        url = origin.url()
    ));
    for path in [
        "/decoded/a%20HTTP/1.1%0d%0aX:%20y",
        "/decoded/a%0d%0a%0d%0aGET%20/smuggled",
        "/decoded/a%0ab",
        "/match/a%20HTTP/1.1%0d%0aHost:%20b",
        "/a%20HTTP/1.1%0d%0a%0d%0aGET%20/smuggled",
    ] {
        let mut client = Client::sending(
            &proxy,
            format!("GET {path} HTTP/1.1\r\nHost: front\r\n\r\n"),
        );
        let status = client.answer_to("GET").status();
        match status {
            200 => {
                let seen = origin.request();
                assert_eq!(seen.line().split(' ').count(), 3, "{path}: {}", seen.head);
                assert_eq!(seen.head.matches("\r\nHost:").count(), 1, "{}", seen.head);
            }
            status => assert_eq!(status, 403, "{path}"),
        }
    }
    assert!(origin.others().is_empty());
}
