//! Messages that two readers could read in two ways, from clients and from backends: nothing that anybody could take for
//! another message ever comes out on the other side. The names in brackets are those of faults that httpd has had.

use crate::support::http::{Message, Origin, Reply, Witness, chunked};
use crate::support::wire::{End, brief};
use crate::support::{BOUND, Backend, Client, Proxy, pattern, wait_until};

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

#[test]
fn a_head_that_can_be_read_in_two_ways_is_refused() {
    let stage = Stage::new();
    for (name, fields, body) in [
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
    ] {
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

/// What goes wrong in chunks, where a chunk begins or ends.
const BROKEN: [(&str, &str); 22] = [
    ("0x", "0x2\r\nhi\r\n0\r\n\r\n"),
    ("a blank in front of the size", " 2\r\nhi\r\n0\r\n\r\n"),
    ("a blank behind the size", "2 \r\nhi\r\n0\r\n\r\n"),
    (
        "a blank in front of an extension",
        "2 ;x\r\nhi\r\n0\r\n\r\n",
    ),
    ("a plus", "+2\r\nhi\r\n0\r\n\r\n"),
    ("a minus", "-2\r\nhi\r\n0\r\n\r\n"),
    ("no size", "\r\nhi\r\n0\r\n\r\n"),
    ("an extension without a size", ";x\r\nhi\r\n0\r\n\r\n"),
    ("17 digits", "10000000000000002\r\nhi\r\n0\r\n\r\n"),
    ("LF behind the size", "2\nhi\r\n0\r\n\r\n"),
    ("CR behind the size", "2\rhi\r\n0\r\n\r\n"),
    ("no line end behind the data", "2\r\nhi0\r\n\r\n"),
    ("LF behind the data", "2\r\nhi\n0\r\n\r\n"),
    ("more data than the size says", "2\r\nhi there\r\n0\r\n\r\n"),
    ("LF in an extension", "2;x\ny\r\nhi\r\n0\r\n\r\n"),
    ("CR in an extension", "2;x\ry\r\nhi\r\n0\r\n\r\n"),
    ("LF in a quoted extension", "2;x=\"\n\"\r\nhi\r\n0\r\n\r\n"),
    ("NUL in an extension", "2;\0\r\nhi\r\n0\r\n\r\n"),
    ("LF behind the last size", "0\n\r\n"),
    ("LF at the end", "0\r\n\n"),
    ("LF behind a trailer", "0\r\nX: y\n\r\n"),
    ("a folded trailer", "0\r\nX: y\r\n z\r\n\r\n"),
];

#[test]
fn broken_chunks_are_refused_before_a_backend_is_asked() {
    let stage = Stage::new();
    for (name, chunks) in BROKEN {
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
    for (name, chunks) in BROKEN {
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

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
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

/// What a client gets of a backend that says this, and then ends or waits.
#[track_caller]
fn answered(answer: &'static [u8], method: &str) -> (Vec<Message>, Origin) {
    let origin = Origin::new(move |_| Reply::last(answer));
    let proxy = origin.behind("");
    let mut client = Client::sending(
        &proxy,
        format!("{method} /x HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n"),
    );
    let mut answers = vec![client.answer_to(method)];
    while answers.last().is_some_and(|answer| answer.status() < 200) {
        answers.push(client.answer_to(method));
    }
    client.expect_end();
    (answers, origin)
}

/// [CVE-2022-37436, CVE-2023-27522, CVE-2023-38709, CVE-2024-24795, CVE-2024-42516]: nothing that a backend puts into its
/// head ends a line, or the head, or the answer.
#[test]
fn an_answer_that_could_be_split_is_a_502() {
    for (name, answer) in [
        (
            "LF in a value",
            &b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n"[..],
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
    ] {
        let (answers, _) = answered(answer, "GET");
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
        let (answers, _) = answered(answer.leak().as_bytes(), "GET");
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
