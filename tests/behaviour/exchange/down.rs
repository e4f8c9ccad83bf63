//! Answers, and what the client gets of them.

use crate::support::http::{Origin, Reply, chunked};
use crate::support::{Backend, Client, Proxy, pattern};

/// The answer of a backend, what is asked, and what the client then has on its wire.
struct Case {
    name: &'static str,
    answer: &'static str,
    /// Whether the backend closes behind it.
    closes: bool,
    /// What stands behind the method and the path.
    request: &'static str,
    expected: &'static str,
    /// Whether the client's connection stays.
    stays: bool,
}

const CASES: &[Case] = &[
    Case {
        name: "a length",
        answer: "HTTP/1.1 200 Fine\r\nContent-Length: 0005\r\nDate: D\r\n\r\nhello",
        closes: false,
        request: "GET HTTP/1.1",
        expected: "HTTP/1.1 200 Fine\r\nDate: D\r\nContent-Length: 5\r\n\r\nhello",
        stays: true,
    },
    Case {
        name: "nothing",
        answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: D\r\n\r\n",
        closes: false,
        request: "GET HTTP/1.1",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 0\r\n\r\n",
        stays: true,
    },
    Case {
        name: "no reason",
        answer: "HTTP/1.1 299\r\nContent-Length: 0\r\nDate: D\r\n\r\n",
        closes: false,
        request: "GET HTTP/1.1",
        expected: "HTTP/1.1 299 \r\nDate: D\r\nContent-Length: 0\r\n\r\n",
        stays: true,
    },
    Case {
        name: "chunks",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\nTransfer-Encoding: Chunked\r\n\r\n005;x=\"y\"\r\nhello\r\n0;z\r\nX-T: 1\r\n\r\n",
        closes: false,
        request: "GET HTTP/1.1",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        stays: true,
    },
    Case {
        name: "chunks of nothing",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        closes: false,
        request: "GET HTTP/1.1",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        stays: true,
    },
    Case {
        name: "chunks for HTTP/1.0",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
        closes: false,
        request: "GET HTTP/1.0\r\nTE: trailers",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nConnection: close\r\n\r\nhello",
        stays: false,
    },
    Case {
        name: "chunks for HTTP/1.0 that would stay",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        closes: false,
        request: "GET HTTP/1.0\r\nConnection: keep-alive",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nConnection: close\r\n\r\nhello",
        stays: false,
    },
    Case {
        name: "a length for HTTP/1.0",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 5\r\n\r\nhello",
        closes: false,
        request: "GET HTTP/1.0",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        stays: false,
    },
    Case {
        name: "a length for HTTP/1.0 that stays",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 5\r\nKeep-Alive: 99\r\nConnection: Keep-Alive\r\n\r\nhello",
        closes: false,
        request: "GET HTTP/1.0\r\nConnection: Keep-Alive",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 5\r\nKeep-Alive: timeout=5, max=99\r\n\
                   Connection: Keep-Alive\r\n\r\nhello",
        stays: true,
    },
    Case {
        name: "a client that says that it stays",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 5\r\n\r\nhello",
        closes: false,
        request: "GET HTTP/1.1\r\nConnection: Keep-Alive",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 5\r\nKeep-Alive: timeout=5, max=99\r\n\
                   Connection: Keep-Alive\r\n\r\nhello",
        stays: true,
    },
    Case {
        name: "a client that closes",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 5\r\n\r\nhello",
        closes: false,
        request: "GET HTTP/1.1\r\nConnection: foo, Close",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        stays: false,
    },
    Case {
        name: "a backend that closes has no say about the client's connection",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        closes: true,
        request: "GET HTTP/1.1",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 5\r\n\r\nhello",
        stays: true,
    },
    Case {
        name: "until the end",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\n\r\nhello",
        closes: true,
        request: "GET HTTP/1.1",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        stays: true,
    },
    Case {
        name: "until the end, for HTTP/1.0",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\n\r\nhello",
        closes: true,
        request: "GET HTTP/1.0\r\nConnection: keep-alive",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nConnection: close\r\n\r\nhello",
        stays: false,
    },
    Case {
        name: "nothing until the end",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\n\r\n",
        closes: true,
        request: "GET HTTP/1.1",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        stays: true,
    },
    Case {
        name: "HTTP/1.0",
        answer: "HTTP/1.0 200 OK\r\nDate: D\r\n\r\nhello",
        closes: true,
        request: "GET HTTP/1.1",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        stays: true,
    },
    Case {
        name: "HTTP/1.0 with a length",
        answer: "HTTP/1.0 200 OK\r\nDate: D\r\nContent-Length: 5\r\n\r\nhello",
        closes: true,
        request: "GET HTTP/1.1",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 5\r\n\r\nhello",
        stays: true,
    },
    Case {
        name: "HEAD with a length",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 1234\r\n\r\n",
        closes: false,
        request: "HEAD HTTP/1.1",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 1234\r\n\r\n",
        stays: true,
    },
    Case {
        name: "HEAD of chunks",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\nTransfer-Encoding: chunked\r\n\r\n",
        closes: false,
        request: "HEAD HTTP/1.1",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\n\r\n",
        stays: true,
    },
    Case {
        name: "HEAD for HTTP/1.0",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\n\r\n",
        closes: false,
        request: "HEAD HTTP/1.0\r\nConnection: keep-alive",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nKeep-Alive: timeout=5, max=99\r\nConnection: Keep-Alive\r\n\r\n",
        stays: true,
    },
    Case {
        name: "204",
        answer: "HTTP/1.1 204 No Content\r\nDate: D\r\nContent-Length: 7\r\n\r\n",
        closes: false,
        request: "GET HTTP/1.1",
        expected: "HTTP/1.1 204 No Content\r\nDate: D\r\n\r\n",
        stays: true,
    },
    Case {
        name: "304 with a length",
        answer: "HTTP/1.1 304 Not Modified\r\nDate: D\r\nETag: \"x\"\r\nContent-Length: 7\r\n\r\n",
        closes: false,
        request: "GET HTTP/1.1",
        expected: "HTTP/1.1 304 Not Modified\r\nDate: D\r\nETag: \"x\"\r\nContent-Length: 7\r\n\r\n",
        stays: true,
    },
    Case {
        name: "205 with a body, as it is",
        answer: "HTTP/1.1 205 Reset Content\r\nDate: D\r\nContent-Length: 0\r\n\r\n",
        closes: false,
        request: "GET HTTP/1.1",
        expected: "HTTP/1.1 205 Reset Content\r\nDate: D\r\nContent-Length: 0\r\n\r\n",
        stays: true,
    },
    Case {
        name: "trailers that nobody wants",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-T: 1\r\n\r\n",
        closes: false,
        request: "GET HTTP/1.1\r\nTE: gzip",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        stays: true,
    },
    Case {
        name: "trailers",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-T: 1\r\n\
                 X-u:2\r\n\r\n",
        closes: false,
        request: "GET HTTP/1.1\r\nTE: gzip, Trailers\r\nConnection: TE",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\
                   X-T: 1\r\nX-u: 2\r\n\r\n",
        stays: true,
    },
    Case {
        name: "trailers that are none",
        answer: "HTTP/1.1 200 OK\r\nDate: D\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nContent-Length: 9\r\n\
                 transfer-encoding: chunked\r\nSet-Cookie: a\r\nLocation: /\r\nHost: x\r\nX-T: 1\r\nConnection: X-T\r\n\
                 Content-Type: a\r\nX-Forwarded-For: a\r\nAuthorization: b\r\nUpgrade: x\r\n\r\n",
        closes: false,
        request: "GET HTTP/1.1\r\nTE: trailers",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-T: 1\r\n\r\n",
        stays: true,
    },
    Case {
        name: "interim answers",
        answer: "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X\r\nX: 1\r\n\
                 Content-Length: 5\r\n\r\nHTTP/1.1 199 Odd\r\n\r\nHTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 1\r\n\r\nx",
        closes: false,
        request: "GET HTTP/1.1",
        expected: "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 199 Odd\r\n\r\n\
                   HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 1\r\n\r\nx",
        stays: true,
    },
    Case {
        name: "interim answers for HTTP/1.0",
        answer: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nDate: D\r\n\
                 Content-Length: 1\r\n\r\nx",
        closes: false,
        request: "GET HTTP/1.0",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx",
        stays: false,
    },
    Case {
        name: "a 100 that nobody has asked for",
        answer: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 1\r\n\r\nx",
        closes: false,
        request: "GET HTTP/1.1",
        expected: "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 1\r\n\r\nx",
        stays: true,
    },
    Case {
        name: "426 keeps its Upgrade",
        answer: "HTTP/1.1 426 Upgrade Required\r\nDate: D\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n",
        closes: false,
        request: "GET HTTP/1.1",
        expected: "HTTP/1.1 426 Upgrade Required\r\nDate: D\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\
                   Connection: Upgrade\r\n\r\n",
        stays: true,
    },
];

#[test]
fn answers_are_framed_anew_for_the_client() {
    let origin = Origin::new(|request| {
        let case = request.target().trim_start_matches('/');
        match case
            .parse::<usize>()
            .ok()
            .and_then(|index| CASES.get(index))
        {
            Some(case) if case.closes => Reply::last(case.answer),
            Some(case) => Reply::staying(case.answer),
            None => Reply::ok("next"),
        }
    });
    let proxy = origin.behind("");
    for (index, case) in CASES.iter().enumerate() {
        let (method, rest) = case.request.split_once(' ').unwrap();
        let mut client = Client::sending(
            &proxy,
            format!("{method} /{index} {rest}\r\nHost: front\r\n\r\n"),
        );
        let found = client.receive(case.expected.len());
        let found = String::from_utf8_lossy(&found);
        assert_eq!(found, case.expected, "{}", case.name);
        if case.stays {
            client.send("GET /next HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n");
            assert_eq!(
                client.last_answer().expect_status(200).body,
                b"next",
                "{}",
                case.name
            );
        } else {
            client.expect_end();
        }
    }
}

#[test]
fn trailers_are_asked_for_where_the_client_takes_them() {
    let origin = Origin::new(|_| Reply::ok(""));
    let proxy = origin.behind("");
    for (version, fields, te, connection) in [
        (
            "1.1",
            "TE: trailers\r\n",
            Some("trailers"),
            "Keep-Alive, TE",
        ),
        (
            "1.1",
            "TE: gzip;q=0.1, trailers\r\nConnection: TE\r\n",
            Some("trailers"),
            "Keep-Alive, TE",
        ),
        ("1.1", "TE: gzip\r\n", None, "Keep-Alive"),
        ("1.0", "TE: trailers\r\n", None, "Keep-Alive"),
    ] {
        let mut client = Client::sending(
            &proxy,
            format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n"),
        );
        client.answer_to("GET").expect_status(200);
        let request = origin.request();
        assert_eq!(request.field("TE").as_deref(), te, "{fields}");
        assert_eq!(request.field("Connection").as_deref(), Some(connection));
    }
}

#[test]
fn an_answer_without_a_date_gets_one() {
    let origin = Origin::new(|_| Reply::staying("HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n"));
    let proxy = origin.behind("");
    let mut client = Client::sending(&proxy, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.answer_to("GET");
    let date = answer.field("Date").unwrap();
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    assert_eq!(answer.field("Server").as_deref(), Some("x"));
}

#[test]
fn interim_answers_can_be_suppressed() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!(
        "RewriteEngine On\nRewriteRule .* - [E=proxy-interim-response:Suppress]\nProxyPass / http://{}/",
        backend.address()
    ));
    let mut client = Client::sending(
        &proxy,
        "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
    );
    let mut peer = backend.accept();
    peer.head();
    peer.send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
    // But not the one that it waits for.
    client.expect("HTTP/1.1 100 Continue\r\n\r\n");
    client.send("x");
    peer.expect("x");
    peer.send("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    client.answer_to("PUT").expect_status(200);
}

#[test]
fn ten_interim_answers_are_enough() {
    let origin = Origin::new(|request| {
        let count = request.target()[1..].parse().unwrap();
        let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(count);
        Reply::staying(interim + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let proxy = origin.behind("");
    for (count, status) in [(10, 200), (11, 502), (50, 502)] {
        let mut client =
            Client::sending(&proxy, format!("GET /{count} HTTP/1.1\r\nHost: a\r\n\r\n"));
        for _ in 0..10 {
            client.answer_to("GET").expect_status(102);
        }
        client.answer_to("GET").expect_status(status);
    }
    proxy.wait_for_log("answer: more than 10 interim answers (502)");
}

#[test]
fn long_answers_arrive_byte_for_byte() {
    let body = pattern(11, 5 << 20);
    let sent = body.clone();
    let origin = Origin::new(move |request| {
        let head = "HTTP/1.1 200 OK\r\n";
        match request.target() {
            "/length" => Reply::ok(&sent),
            "/chunks" => {
                let chunks = chunked(&sent, 70_001, ";x", "X-T: 1\r\n");
                let head = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
                Reply::staying([head.as_bytes(), &chunks].concat())
            }
            _ => Reply::last([head.as_bytes(), b"\r\n", &sent].concat()),
        }
    });
    let proxy = origin.behind("");
    let mut client = Client::connect(proxy.address());
    for path in ["/length", "/chunks", "/end", "/length"] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = client.answer_to("GET").expect_status(200);
        assert!(answer.body == body, "{path}: another body");
        assert_eq!(answer.framing() == "chunked", path != "/length");
    }
    for path in ["/length", "/chunks", "/end"] {
        let mut client = Client::sending(&proxy, format!("GET {path} HTTP/1.0\r\nHost: a\r\n\r\n"));
        let answer = client.last_answer().expect_status(200);
        assert!(answer.body == body, "{path}: another body");
        assert_ne!(answer.framing(), "chunked");
    }
}

#[test]
fn a_client_gets_as_many_answers_as_keep_alive_allows() {
    let origin = Origin::telling();
    for (directives, most) in [("MaxKeepAliveRequests 3", 3), ("KeepAlive Off", 1)] {
        let proxy = origin.behind(directives);
        let mut client = Client::connect(proxy.address());
        for count in 1..=most {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let answer = client.answer_to("GET").expect_status(200);
            let is_last = answer.field("Connection").as_deref() == Some("close");
            assert_eq!(is_last, count == most, "{directives}");
        }
        client.expect_end();
    }
}

#[test]
fn variables_say_how_a_client_is_answered() {
    let origin = Origin::new(|request| match request.target() {
        "/chunks" => Reply::staying(
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nok\r\n0\r\nX: 1\r\n\r\n",
        ),
        "/none" => Reply::last(""),
        _ => Reply::ok("ok"),
    });
    for (variable, path, status, framing, stays) in [
        ("other", "/chunks", 103, "none", true),
        ("downgrade-1.0", "/chunks", 200, "none", false),
        ("downgrade-1.0", "/length", 200, "length 2", true),
        ("nokeepalive", "/length", 200, "length 2", false),
        ("other", "/none", 502, "", true),
        ("nokeepalive", "/none", 502, "", false),
    ] {
        let proxy = origin.behind(&format!(
            "RewriteEngine On\nRewriteRule .* - [E={variable}:1]"
        ));
        let mut client = Client::sending(
            &proxy,
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"),
        );
        let mut answer = client.answer_to("GET").expect_status(status);
        if status == 502 {
            assert!(answer.framing().starts_with("length "));
        } else {
            assert_eq!(answer.framing(), framing, "{variable} {path}");
        }
        if status == 103 {
            answer = client.answer_to("GET").expect_status(200);
            assert_eq!(answer.trailers, "X: 1\r\n");
        } else {
            assert_eq!(answer.field("Trailer"), None);
        }
        let closes = answer.field("Connection").as_deref() == Some("close");
        assert_eq!(closes, !stays, "{variable} {path}: {answer:?}");
        if closes {
            client.expect_end();
        }
    }
}
