//! Backends that fail, and clients: the answer, and the one line that says why.

use crate::support::http::{Origin, Reply};
use crate::support::wire::End;
use crate::support::{BOUND, Backend, Client, Proxy, backend, wait_until};

/// Lines of the log that a request caused, and the operator has to see.
fn warnings(proxy: &Proxy) -> Vec<String> {
    let mut lines = proxy.log_lines(" PW");
    lines.retain(|line| !line.contains("ready"));
    lines
}

#[track_caller]
fn expect_one_line(proxy: &Proxy, texts: &[&str]) {
    let line = proxy.wait_for_log(texts[0]);
    for text in texts {
        assert!(line.contains(text), "{text:?} in {line:?}");
    }
    let lines = warnings(proxy);
    assert_eq!(lines.len(), 1, "{lines:#?}");
}

#[test]
fn an_answer_that_is_none_becomes_a_502_with_one_line() {
    for (answer, code, why) in [
        ("", "PW408", "closed before its answer was complete"),
        (
            "HTTP/1.1 200 OK\r\nContent-Le",
            "PW408",
            "closed before its answer was complete",
        ),
        ("SSH-2.0-x\r\n", "PW409", "the status line is not"),
        ("HTTP/2 200 OK\r\n\r\n", "PW409", "the status line is not"),
        ("HTTP/1.1 20x OK\r\n\r\n", "PW409", "the status line is not"),
        ("HTTP/1.1 099 OK\r\n\r\n", "PW409", "the status line is not"),
        (
            "HTTP/1.1 200 OK\r\nX Y: 1\r\n\r\n",
            "PW409",
            "is not a token",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "PW409",
            "both Content-Length and Transfer-Encoding",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "PW409",
            "a chunk does not begin with its size",
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            "PW411",
            "it answered 101 to a request that asked for no upgrade",
        ),
    ] {
        let origin = Origin::new(move |_| Reply::last(answer));
        let proxy = origin.behind("CustomLog access.log \"%>s %B\"");
        let mut client = Client::sending(&proxy, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        let got = client.answer_to("GET").expect_status(502);
        let body = String::from_utf8_lossy(&got.body).into_owned();
        assert!(!body.contains(&origin.backend.port().to_string()), "{body}");
        let url = origin.url();
        expect_one_line(
            &proxy,
            &[
                why,
                code,
                "ProxyPass \"/\": ",
                &url,
                ": answer: ",
                "(502); ",
            ],
        );
        let logged = proxy.wait_for_lines("access.log", 1);
        assert_eq!(logged, [format!("502 {}", got.body.len())]);
        // The client's connection stays: it has done nothing wrong.
        assert_eq!(got.field("Connection"), None, "{answer:?}");
        client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        client.answer_to("GET").expect_status(502);
    }
}

#[test]
fn nobody_there_is_a_503() {
    let nobody = backend::nobody();
    let proxy = Proxy::start(format!("ProxyPass / http://{nobody}/"));
    let mut client = Client::sending(&proxy, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    client.last_answer().expect_status(503);
    let url = format!("http://{nobody}");
    expect_one_line(
        &proxy,
        &[
            ": connect: ",
            "PW404",
            "ProxyPass \"/\": ",
            &url,
            "refused",
            "(503); ",
        ],
    );
}

#[test]
fn a_backend_that_is_silent_is_a_504() {
    let backend = Backend::listen();
    let url = format!("http://{}", backend.address());
    for (request, said) in [
        ("GET /x HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        (
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-",
        ),
        (
            "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
            "",
        ),
        (
            "PUT /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
            "",
        ),
    ] {
        let proxy = Proxy::start(format!("ProxyPass / {url}/ timeout=300ms"));
        let mut client = Client::sending(&proxy, request);
        let mut peer = backend.accept();
        peer.head();
        peer.send(said);
        client.answer_to("GET").expect_status(504);
        expect_one_line(
            &proxy,
            &[": answer: ", "PW410", "ProxyPass \"/\": ", &url, "(504); "],
        );
        peer.rest();
    }
}

#[test]
fn a_backend_that_reads_nothing_is_a_504() {
    let backend = Backend::listen();
    let url = format!("http://{}", backend.address());
    let proxy = Proxy::start(format!("ProxyPass / {url}/ timeout=300ms"));
    let mut client = Client::sending(
        &proxy,
        "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n",
    );
    let mut sending = client.tcp().try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let piece = [b'x'; 65536];
        while std::io::Write::write_all(&mut sending, &piece).is_ok() {}
    });
    let peer = backend.accept_tcp();
    client.answer_to("PUT").expect_status(504);
    expect_one_line(
        &proxy,
        &[": request: ", "PW410", "ProxyPass \"/\": ", &url, "(504); "],
    );
    client.rest();
    sender.join().unwrap();
    drop(peer);
}

#[test]
fn a_client_that_is_slow_with_its_body_gets_a_408() {
    let origin = Origin::telling();
    let long = format!(
        "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\n{}",
        "x".repeat(100_000)
    );
    for request in [
        "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhi",
        "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        &long,
    ] {
        let proxy = origin.behind("RequestReadTimeout body=1");
        let mut client = Client::sending(&proxy, request);
        client.last_answer().expect_status(408);
        expect_one_line(
            &proxy,
            &[
                "the body took longer than RequestReadTimeout allows (408)",
                "PW111",
                "\"PUT /x HTTP/1.1\" refused",
                " on the way to http://127.0.0.1:",
                "by ProxyPass \"/\", step request; raise RequestReadTimeout",
            ],
        );
    }
    let others = origin.others();
    assert!(others.iter().all(Result::is_err), "{others:?}");
}

#[test]
fn what_a_client_does_wrong_has_its_line_too() {
    let origin = Origin::telling();
    for (request, status, line) in [
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            400,
            "PW109 \"PUT / HTTP/1.1\" refused: a chunk does not begin with its size (400)",
        ),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n",
            413,
            "PW110 \"PUT / HTTP/1.1\" refused: the body is larger than 10 bytes (413)",
        ),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 1\r\n\r\nx",
            417,
            "PW112 \"PUT / HTTP/1.1\" refused: \"Expect: x\" is not known (417)",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
            400,
            "PW115 \"GET / HTTP/1.1\" refused: Max-Forwards has come to 0",
        ),
    ] {
        let proxy = origin.behind("LimitRequestBody 10");
        let mut client = Client::sending(&proxy, request);
        client.last_answer().expect_status(status);
        expect_one_line(&proxy, &[line, " by ProxyPass \"/\", step request; "]);
    }
    assert_eq!(origin.backend.count(), 0);
}

#[test]
fn an_answer_that_is_cut_is_cut_for_the_client() {
    let head = "HTTP/1.1 200 OK\r\nDate: D\r\n";
    for (name, answer, request, expected) in [
        (
            "a length",
            "Content-Length: 10\r\n\r\nhello",
            "HTTP/1.1",
            "Content-Length: 10\r\n\r\nhello",
        ),
        (
            "inside a chunk",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nxy",
            "HTTP/1.1",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n2\r\nxy\r\n",
        ),
        (
            "between chunks",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "HTTP/1.1",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ),
        (
            "before the last line end",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            "HTTP/1.1",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ),
        (
            "a length, for HTTP/1.0",
            "Content-Length: 10\r\n\r\nhello",
            "HTTP/1.0",
            "Content-Length: 10\r\nConnection: close\r\n\r\nhello",
        ),
    ] {
        let backend = Backend::listen();
        let proxy = Proxy::start(format!("ProxyPass / http://{}/", backend.address()));
        for resets in [false, true] {
            let mut client =
                Client::sending(&proxy, format!("GET /x {request}\r\nHost: a\r\n\r\n"));
            let mut peer = backend.accept();
            peer.head();
            peer.send(format!("{head}{answer}"));
            let expected = format!("{head}{expected}");
            client.expect(&expected);
            if resets {
                peer.reset();
            } else {
                drop(peer);
            }
            let (rest, _) = client.rest();
            assert_eq!(rest, b"", "{name}");
        }
        wait_until("both lines", BOUND, || warnings(&proxy).len() == 2);
        for line in warnings(&proxy) {
            assert!(
                line.contains(": relay: ") && line.contains("cut short"),
                "{line}"
            );
        }
    }
}

#[test]
fn framing_that_breaks_late_cuts_the_answer() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!("ProxyPass / http://{}/", backend.address()));
    for broken in [
        "zz\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX",
        "0\r\nX: \u{1}\r\n\r\n",
    ] {
        let mut client = Client::sending(&proxy, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut peer = backend.accept();
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nDate: D\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
        client.expect("HTTP/1.1 200 OK\r\nDate: D\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
        peer.send(broken);
        let (rest, _) = client.rest();
        let rest = String::from_utf8(rest).unwrap();
        assert!(
            !rest.contains("0\r\n") && !rest.contains("HTTP/1.1"),
            "{rest:?}"
        );
        peer.rest();
    }
}

/// What is left to be sent when the framing breaks is as long as the head, which the client has already.
#[test]
fn there_is_no_second_answer_inside_of_one() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!("ProxyPass / http://{}/", backend.address()));
    let mut client = Client::sending(&proxy, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut peer = backend.accept();
    peer.head();
    let head = "HTTP/1.1 200 OK\r\nDate: D\r\nTransfer-Encoding: chunked\r\n\r\n";
    peer.send(head);
    client.expect(head);
    let payload = "x".repeat(head.len() - "xx\r\n\r\n".len());
    let chunk = format!("{:x}\r\n{payload}\r\n", payload.len());
    assert_eq!(chunk.len(), head.len());
    peer.send(format!("{chunk}zz\r\n"));
    let (rest, _) = client.rest();
    assert_eq!(String::from_utf8_lossy(&rest), chunk);
    peer.rest();
}

#[test]
fn a_backend_that_stalls_inside_its_answer_cuts_it() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!(
        "ProxyPass / http://{}/ timeout=300ms",
        backend.address()
    ));
    let mut client = Client::sending(&proxy, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut peer = backend.accept();
    peer.head();
    peer.send("HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 10\r\n\r\nhello");
    client.expect("HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 10\r\n\r\nhello");
    client.expect_cut();
    expect_one_line(&proxy, &[": relay: ", "cut short"]);
}

#[test]
fn a_kept_connection_that_has_ended_is_not_the_client_s_fault() {
    // Each connection gives one answer, and ends when the next request has come.
    let origin = Backend::serve(|mut wire| {
        if wire.try_head().is_ok()
            && wire.send_if_taken("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
        {
            drop(wire.try_head());
        }
    });
    let proxy = Proxy::start(format!("ProxyPass / http://{}/", origin.address()));
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        // It may have been done already.
        ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", 502),
        ("PATCH / HTTP/1.1\r\nHost: a\r\n\r\n", 502),
        ("foo / HTTP/1.1\r\nHost: a\r\n\r\n", 502),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
            502,
        ),
    ] {
        let mut client = Client::connect(proxy.address());
        let method = request.split(' ').next().unwrap();
        // Whatever is kept is used up, and one connection is kept anew.
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.answer_to("GET").expect_status(200);
        client.send(request);
        client.answer_to(method).expect_status(status);
    }
    proxy.wait_for_log("answer: the kept connection was closed before its answer had begun (502)");
}

#[test]
fn a_client_that_goes_away_frees_the_backend() {
    let backend = Backend::listen();
    let proxy = Proxy::start(format!("ProxyPass / http://{}/", backend.address()));
    let mut client = Client::sending(&proxy, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut peer = backend.accept();
    peer.head();
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
    client.head();
    client.reset();
    // Nobody reads it, so it is not taken any more.
    let piece = vec![b'x'; 65536];
    wait_until("the backend to be told", BOUND, || {
        !peer.send_if_taken(&piece)
    });
    assert!(matches!(peer.rest(), (_, End::Reset | End::Orderly)));
}
