//! What has to be asked and answered before a tunnel begins; answers that are none.

use crate::support::backend::nobody;
use crate::support::client::{ACCEPT, frame, request, request_with, switch, switch_with};
use crate::support::{Backend, Client, Proxy, each_mode};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

/// The example of the documents, with a host and ports that exist.
#[cfg(feature = "tls")]
#[test]
fn both_lines_of_the_first_example_carry_messages() {
    use crate::support::{Certs, TempDir, client::echoes};
    use tungstenite::Message;

    let certs = Certs::new();
    let plain = Backend::echo();
    let secure = Backend::echo_tls(&certs.server("localhost"));
    let directory = TempDir::new();
    directory.write("ca.pem", certs.pem());
    let proxy = Proxy::start_in(
        directory,
        format!(
            "SSLProxyCACertificateFile ca.pem\n\
             ProxyPass \"/ws2/\"  \"ws://localhost:{}/\"\n\
             ProxyPass \"/wss2/\" \"wss://localhost:{}/\"\n",
            plain.port(),
            secure.port()
        ),
        "",
    );
    for path in ["/ws2/", "/wss2/"] {
        let mut socket = Client::messages(&proxy, path);
        echoes(&mut socket, &Message::text("a greeting"));
        echoes(&mut socket, &Message::binary(vec![0, 255, 10, 13]));
        socket.close(None).unwrap();
        while socket.read().is_ok() {}
    }
    assert_eq!((plain.count(), secure.count()), (1, 1));
}

each_mode! {
    fn early_client_bytes_arrive_once_and_behind_the_101(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let early = frame(b"too eager", Some([9, 8, 7, 6]));
        let mut bytes = request("/ws/").into_bytes();
        bytes.extend_from_slice(&early);
        let mut client = Client::sending(&proxy, bytes);
        let mut peer = backend.accept();
        peer.head();
        peer.expect_quiet(Duration::from_millis(200));
        peer.send(switch());
        client.switched();
        // Without any further word of the client.
        peer.expect(&early);
        peer.expect_quiet(Duration::from_millis(100));
        client.send(frame(b"more", Some([1, 1, 1, 1])));
        peer.expect(frame(b"more", Some([1, 1, 1, 1])));
    }

    fn more_early_bytes_than_the_bound_wait_in_the_kernel_and_are_not_lost(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let early = frame(&crate::support::pattern(1, 3_000_000), Some([0; 4]));
        let mut client = Client::asking(&proxy, "/ws/");
        let mut peer = backend.accept();
        peer.head();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                client.send(&early);
            });
            peer.expect_quiet(Duration::from_millis(300));
            peer.send(switch());
            peer.expect(&early);
        });
        client.switched();
    }

    fn bytes_behind_the_101_reach_the_client(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let mut client = Client::asking(&proxy, "/ws/");
        let mut peer = backend.accept();
        peer.head();
        let mut bytes = switch().into_bytes();
        bytes.extend_from_slice(&frame(b"hello at once", None));
        peer.send(bytes);
        client.switched();
        client.expect(frame(b"hello at once", None));
    }

    fn a_101_and_the_end_in_one_go_reach_the_client(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let mut client = Client::asking(&proxy, "/ws/");
        let mut peer = backend.accept();
        peer.head();
        peer.send(switch() + "\u{1}\u{2}\u{3}");
        peer.finish();
        client.switched();
        client.expect([1, 2, 3]);
        client.expect_end();
    }

    fn a_101_that_comes_byte_by_byte_is_a_101(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let mut client = Client::asking(&proxy, "/ws/");
        let mut peer = backend.accept();
        peer.head();
        for byte in switch().bytes() {
            peer.send([byte]);
        }
        client.switched();
        client.send("x");
        peer.expect("x");
    }

    fn interim_answers_are_not_the_answer(mode: Mode) {
        let backend = Backend::listen();
        let proxy = start(mode, &backend, "");
        let mut client = Client::asking(&proxy, "/ws/");
        let mut peer = backend.accept();
        peer.head();
        peer.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        peer.send(switch());
        client.switched();
        client.send("x");
        peer.expect("x");
    }
}

fn start(mode: crate::support::Mode, backend: &Backend, more: &str) -> Proxy {
    Proxy::start(format!(
        "{}\nProxyPass /ws/ {}/ {more}",
        mode.directives(),
        backend.url()
    ))
}

#[test]
fn the_101_reaches_the_client_in_the_order_and_case_of_the_backend() {
    let backend = Backend::listen();
    let proxy = start(crate::support::Mode::Worker, &backend, "");
    let fields = "Sec-WebSocket-Protocol: chat, superchat\r\n\
                  Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let mut client = Client::sending(&proxy, request_with("/ws/", fields));
    let mut peer = backend.accept();
    peer.head();
    peer.send(format!(
        "HTTP/1.1 101 Off We Go\r\nset-cookie: a=1\r\nUPGRADE: WebSocket\r\nKeep-Alive: 5\r\nX-Hop: 1\r\n\
         Connection: x-hop, upgrade\r\nSet-Cookie: b=2\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\
         Sec-WebSocket-Protocol: superchat\r\nSec-WebSocket-Extensions: permessage-deflate\r\nServer: theirs\r\n\r\n"
    ));
    let head = client.switched().head;
    let lines: Vec<&str> = head.trim_end().split("\r\n").collect();
    let position = |line: &str| {
        let found = lines.iter().position(|found| *found == line);
        found.unwrap_or_else(|| panic!("no {line} in {head}"))
    };
    assert_eq!(position("HTTP/1.1 101 Off We Go"), 0);
    assert!(position("set-cookie: a=1") < position("Set-Cookie: b=2"));
    assert!(position("Set-Cookie: b=2") < position(&format!("Sec-WebSocket-Accept: {ACCEPT}")));
    position("Sec-WebSocket-Protocol: superchat");
    position("Sec-WebSocket-Extensions: permessage-deflate");
    position("Server: theirs");
    let lower = head.to_lowercase();
    assert!(lower.contains("\r\nconnection: upgrade\r\n"), "{head}");
    assert!(lower.contains("\r\nupgrade: websocket\r\n"), "{head}");
    assert!(!lower.contains("keep-alive"), "{head}");
    assert!(!lower.contains("x-hop"), "{head}");
}

/// Reference 12.4 item 2: none of these begins a tunnel.
#[test]
fn a_101_that_is_not_the_one_asked_for_is_a_502() {
    let good = switch();
    let cases = [
        ("no Upgrade", good.replace("Upgrade: websocket\r\n", "")),
        ("another protocol", good.replace("websocket", "h2c")),
        ("no Connection", good.replace("Connection: Upgrade\r\n", "")),
        (
            "a Connection without Upgrade",
            good.replace("Connection: Upgrade", "Connection: keep-alive"),
        ),
        (
            "another Accept",
            good.replace(ACCEPT, "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ),
        (
            "an Accept in another case",
            good.replace(ACCEPT, &ACCEPT.to_lowercase()),
        ),
        (
            "no Accept",
            good.replace(&format!("Sec-WebSocket-Accept: {ACCEPT}\r\n"), ""),
        ),
        ("HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0")),
        (
            "a subprotocol that was not offered",
            switch_with("Sec-WebSocket-Protocol: chat\r\n"),
        ),
        (
            "an extension that was not offered",
            switch_with("Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        ),
    ];
    let backend = Backend::listen();
    let proxy = start(crate::support::Mode::Worker, &backend, "");
    for (name, bytes) in cases {
        let mut sent = request("/ws/").into_bytes();
        sent.extend_from_slice(b"early");
        let mut client = Client::sending(&proxy, sent);
        let mut peer = backend.accept();
        peer.head();
        peer.send(bytes);
        let answer = client.answer();
        assert_eq!(answer.status, 502, "{name}: {}", answer.head);
        let (bytes, _) = peer.rest();
        assert!(bytes.is_empty(), "{name}: the backend received {bytes:?}");
    }
}

#[test]
fn a_subprotocol_and_an_extension_other_than_those_offered_are_a_502() {
    let backend = Backend::listen();
    let proxy = start(crate::support::Mode::Worker, &backend, "");
    let offers = "Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
    for fields in [
        "Sec-WebSocket-Protocol: Chat\r\n",
        "Sec-WebSocket-Protocol: chat, superchat\r\n",
        "Sec-WebSocket-Protocol: other\r\n",
        "Sec-WebSocket-Extensions: x-webkit-deflate-frame\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate, other\r\n",
    ] {
        let mut client = Client::sending(&proxy, request_with("/ws/", offers));
        let mut peer = backend.accept();
        peer.head();
        peer.send(switch_with(fields));
        let answer = client.answer();
        assert_eq!(answer.status, 502, "{fields}");
    }
}

/// Whatever frames its body, an answer other than 101 is one ordinary answer, and then both connections end.
#[test]
fn an_answer_other_than_101_is_relayed_as_one_response() {
    let long = "b".repeat(100_000);
    let chunked_long = format!("186a0\r\n{long}\r\n0\r\n\r\n");
    let cases: Vec<(u16, String, &str)> = vec![
        (200, "Content-Length: 5\r\n\r\nhello".into(), "hello"),
        (200, "Content-Length: 0\r\n\r\n".into(), ""),
        (
            302,
            "Location: /login\r\nContent-Length: 2\r\n\r\nno".into(),
            "no",
        ),
        (
            401,
            "WWW-Authenticate: Basic realm=x\r\nContent-Length: 4\r\n\r\nwho?".into(),
            "who?",
        ),
        (
            403,
            "Transfer-Encoding: chunked\r\n\r\n3\r\nfor\r\n5;a=b\r\nbidde\r\n1\r\nn\r\n0\r\n\r\n"
                .into(),
            "forbidden",
        ),
        (404, "\r\nuntil the end".into(), "until the end"),
        (
            426,
            "Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n".into(),
            "",
        ),
        (
            500,
            format!("Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n{chunked_long}"),
            &long,
        ),
        (
            503,
            format!("Content-Length: 100000\r\nRetry-After: 5\r\n\r\n{long}"),
            &long,
        ),
        (204, "\r\n".into(), ""),
        (304, "Content-Length: 500\r\n\r\n".into(), ""),
    ];
    let backend = Backend::listen();
    let proxy = start(crate::support::Mode::Worker, &backend, "");
    for (status, rest, body) in cases {
        // Early bytes that would be a second request, were the connections glued together (CVE-2019-17567).
        let smuggled = request("/ws/") + "GET /admin HTTP/1.1\r\nHost: backend\r\n\r\n";
        let mut client = Client::sending(&proxy, smuggled);
        let mut peer = backend.accept();
        peer.head();
        peer.send(format!(
            "HTTP/1.1 {status} Because\r\nX-Own: kept\r\n{rest}"
        ));
        if status == 404 {
            peer.finish();
        }
        let answer = client.answer();
        assert_eq!(answer.status, status, "{}", answer.head);
        assert!(answer.head.contains(" Because\r\n"), "{}", answer.head);
        assert!(answer.head.contains("X-Own: kept\r\n"), "{}", answer.head);
        let connection = answer.field("Connection").unwrap_or_default();
        assert!(connection.contains("close"), "{}", answer.head);
        if status == 426 {
            assert_eq!(answer.field("Upgrade").as_deref(), Some("h2c"));
        }
        let found = if answer.field("Transfer-Encoding").is_some() {
            unchunk(&answer.body)
        } else {
            answer.body
        };
        assert_eq!(String::from_utf8(found).unwrap(), body, "of {status}");
        let (bytes, _) = peer.rest();
        assert!(bytes.is_empty(), "{status}: the backend received {bytes:?}");
    }
    backend.expect_untouched();
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = std::str::from_utf8(&bytes[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        payload.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        assert_eq!(&bytes[end + 2 + size..end + 4 + size], b"\r\n");
        bytes = &bytes[end + 4 + size..];
        if size == 0 {
            assert!(bytes.is_empty(), "behind the last chunk: {bytes:?}");
            return payload;
        }
    }
}

#[test]
fn what_a_client_sends_behind_its_request_is_never_seen_by_a_backend_that_refuses() {
    let backend = Backend::listen();
    let proxy = start(crate::support::Mode::Worker, &backend, "");
    let mut client = Client::asking(&proxy, "/ws/");
    let mut peer = backend.accept();
    peer.head();
    // The answer's head is on its way, its body is not: the moment at which httpd 2.4.46 was a plain pipe.
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    client.answer_head().expect_status(200);
    client.send("GET /admin HTTP/1.1\r\nHost: backend\r\n\r\n");
    peer.expect_quiet(Duration::from_millis(200));
    peer.send("hello");
    client.expect("hello");
    client.expect_end();
    let (bytes, _) = peer.rest();
    assert!(bytes.is_empty(), "the backend received {bytes:?}");
}

#[test]
fn an_answer_whose_framing_is_ambiguous_is_a_502() {
    let backend = Backend::listen();
    let proxy = start(crate::support::Mode::Worker, &backend, "");
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 5x\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
    ] {
        let mut client = Client::asking(&proxy, "/ws/");
        let mut peer = backend.accept();
        peer.head();
        peer.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\nhello"));
        peer.finish();
        let answer = client.answer();
        assert_eq!(answer.status, 502, "{fields}");
    }
}

#[test]
fn an_answer_cut_short_does_not_look_complete() {
    let backend = Backend::listen();
    let proxy = start(crate::support::Mode::Worker, &backend, "");
    for (fields, body, rest) in [
        ("Content-Length: 50\r\n", "not all", ""),
        ("Transfer-Encoding: chunked\r\n", "7\r\nnot all\r\n", ""),
        (
            "Transfer-Encoding: chunked\r\n",
            "7\r\nnot all\r\n",
            "zz\r\n",
        ),
    ] {
        let mut client = Client::asking(&proxy, "/ws/");
        let mut peer = backend.accept();
        peer.head();
        peer.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}"));
        client.answer_head().expect_status(200);
        peer.send(rest);
        peer.finish();
        let (bytes, _) = client.rest();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("not all"), "{text}");
        assert!(!text.contains("\r\n0\r\n"), "ended as if complete: {text}");
    }
}

#[test]
fn garbage_instead_of_a_head_is_a_502() {
    let backend = Backend::listen();
    let proxy = start(crate::support::Mode::Worker, &backend, "");
    for bytes in [
        "",
        "HTTP/1.1 101",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\n\n",
        "HTTP/1.1 99 Less\r\n\r\n",
        "HTTP/1.1 1010 More\r\n\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Field : v\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Field: one\r\n two\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Field: one\rSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Field: one\0two\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let mut client = Client::asking(&proxy, "/ws/");
        let mut peer = backend.accept();
        peer.head();
        peer.send(bytes);
        peer.finish();
        let answer = client.answer();
        assert_eq!(answer.status, 502, "{bytes:?}");
    }
}

#[test]
fn an_answer_head_without_end_is_a_502() {
    let backend = Backend::listen();
    let proxy = start(crate::support::Mode::Worker, &backend, "");
    let mut client = Client::asking(&proxy, "/ws/");
    let mut peer = backend.accept();
    peer.head();
    peer.send("HTTP/1.1 101 Switching Protocols\r\nX-Field: ");
    let flood = "x".repeat(10_000);
    while peer.send_if_taken(&flood) {}
    client.answer().expect_status(502);
}

#[test]
fn interim_answers_without_end_are_a_502() {
    let backend = Backend::listen();
    let proxy = start(crate::support::Mode::Worker, &backend, "");
    let mut client = Client::asking(&proxy, "/ws/");
    let mut peer = backend.accept();
    peer.head();
    for _ in 0..50 {
        if !peer.send_if_taken("HTTP/1.1 100 Continue\r\n\r\n") {
            break;
        }
    }
    client.answer().expect_status(502);
}

#[test]
fn a_backend_that_resets_before_its_answer_is_a_502() {
    let backend = Backend::listen();
    let proxy = start(crate::support::Mode::Worker, &backend, "");
    let mut client = Client::asking(&proxy, "/ws/");
    let mut peer = backend.accept();
    peer.head();
    peer.reset();
    client.answer().expect_status(502);
}

#[test]
fn a_backend_that_refuses_the_connection_is_a_503() {
    let proxy = Proxy::start(format!("ProxyPass /ws/ ws://{}/", nobody()));
    Client::asking(&proxy, "/ws/").answer().expect_status(503);
}

#[test]
fn a_backend_that_never_answers_is_a_504() {
    let backend = Backend::listen();
    let proxy = start(crate::support::Mode::Worker, &backend, "timeout=400ms");
    let begun = Instant::now();
    let mut client = Client::asking(&proxy, "/ws/");
    let mut peer = backend.accept();
    peer.head();
    client.answer().expect_status(504);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(400), "{took:?}");
    peer.expect_cut();
}

#[test]
fn a_backend_that_drips_its_head_does_not_extend_its_time() {
    let backend = Backend::listen();
    let proxy = start(crate::support::Mode::Worker, &backend, "timeout=1");
    let begun = Instant::now();
    let mut client = Client::asking(&proxy, "/ws/");
    let mut peer = backend.accept();
    peer.head();
    let drip = std::thread::spawn(move || {
        peer.send("HTTP/1.1 101 Switching Protocols\r\nX-Field: ");
        while peer.send_if_taken("x") && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    client.answer().expect_status(504);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    drip.join().unwrap();
}

#[test]
fn the_time_for_an_answer_is_timeout_else_proxytimeout_else_timeout() {
    let backend = Backend::listen();
    let url = backend.url();
    for config in [
        format!("ProxyPass /ws/ {url}/ timeout=500ms\nProxyTimeout 60\nTimeout 60"),
        format!("ProxyPass /ws/ {url}/\nProxyTimeout 500ms\nTimeout 60"),
        format!("ProxyPass /ws/ {url}/\nTimeout 500ms"),
    ] {
        let proxy = Proxy::start(config);
        let begun = Instant::now();
        Client::asking(&proxy, "/ws/").answer().expect_status(504);
        let took = begun.elapsed();
        let expected = Duration::from_millis(500)..Duration::from_secs(10);
        assert!(expected.contains(&took), "{took:?}");
        drop(backend.accept());
    }
}

/// A listener whose queue is full answers no more connects: to the client of such a host it looks like a firewall.
#[test]
fn a_connect_that_gets_no_answer_ends_by_connectiontimeout() {
    use rustix::net::{AddressFamily, SocketType, bind, connect, getsockname, listen, socket};
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let full = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&full, &any).unwrap();
    listen(&full, 0).unwrap();
    let address = SocketAddr::try_from(getsockname(&full).unwrap()).unwrap();
    let fillers: Vec<_> = (0..8)
        .map(|_| {
            let filler = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            rustix::io::ioctl_fionbio(&filler, true).unwrap();
            // In progress for ever, from the second or third on.
            let _in_progress = connect(&filler, &address);
            filler
        })
        .collect();

    let proxy = Proxy::start(format!(
        "ProxyPass /ws/ ws://{address}/ connectiontimeout=500ms timeout=60"
    ));
    let begun = Instant::now();
    let answer = Client::asking(&proxy, "/ws/").answer();
    let took = begun.elapsed();
    assert_eq!(answer.status, 503, "{}", answer.head);
    assert!(took >= Duration::from_millis(500), "{took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    drop(fillers);
}

#[test]
fn a_name_that_does_not_resolve_is_a_502() {
    let proxy = Proxy::start("ProxyPass /ws/ ws://no-such-host.invalid/ timeout=15");
    Client::asking(&proxy, "/ws/").answer().expect_status(502);
}

/// Whichever family the resolver names first: where nobody listens, the next address is tried.
#[test]
fn every_address_of_a_name_is_tried() {
    let families: Vec<bool> = ("localhost", 80)
        .to_socket_addrs()
        .expect("localhost")
        .map(|address| address.is_ipv6())
        .collect();
    for (ip, six) in [
        (Ipv4Addr::LOCALHOST.into(), false),
        (Ipv6Addr::LOCALHOST.into(), true),
    ] {
        if !families.contains(&six) {
            println!("skipped: localhost has no address of the family of {ip} here");
            continue;
        }
        let backend = Backend::listen_on(ip);
        let proxy = Proxy::start(format!("ProxyPass /ws/ ws://localhost:{}/", backend.port()));
        let mut client = Client::asking(&proxy, "/ws/");
        let _peer = backend.accept_tunnel();
        client.switched();
    }
}

#[test]
fn a_backend_and_a_client_may_be_ipv6() {
    let backend = Backend::listen_on(Ipv6Addr::LOCALHOST.into());
    let proxy = Proxy::start(format!(
        "Listen [::1]:0\nProxyPass /ws/ ws://[::1]:{}/",
        backend.port()
    ));
    assert!(proxy.address().is_ipv6());
    let mut client = Client::asking(&proxy, "/ws/");
    let mut peer = backend.accept();
    let head = peer.head();
    assert!(head.contains("X-Forwarded-For: ::1\r\n"), "{head}");
    assert!(
        head.contains(&format!("Host: [::1]:{}\r\n", backend.port())),
        "{head}"
    );
    peer.send(switch());
    client.switched();
}

#[test]
fn upgrade_any_asks_for_what_the_client_names() {
    let backend = Backend::listen();
    let proxy = start(crate::support::Mode::Worker, &backend, "upgrade=ANY");
    let ask = "GET /ws/ HTTP/1.1\r\nHost: a\r\nUpgrade: telnet/2\r\nConnection: Upgrade\r\n\r\n";
    let mut client = Client::sending(&proxy, ask);
    let mut peer = backend.accept();
    let head = peer.head();
    assert!(
        head.ends_with("Upgrade: telnet/2\r\nConnection: Upgrade\r\n\r\n"),
        "{head}"
    );
    peer.send("HTTP/1.1 101 Switching\r\nUpgrade: telnet/2\r\nConnection: Upgrade\r\n\r\n");
    client.answer_head().expect_status(101);
    client.send("x");
    peer.expect("x");

    let mut client = Client::sending(&proxy, ask);
    let mut peer = backend.accept();
    peer.head();
    peer.send("HTTP/1.1 101 Switching\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n");
    client.answer().expect_status(502);

    let mut client = Client::sending(&proxy, "GET /ws/ HTTP/1.1\r\nHost: a\r\n\r\n");
    client.answer().expect_status(426);
    backend.expect_untouched();
}

#[test]
fn upgrade_none_asks_for_a_websocket_whatever_the_client_says() {
    let backend = Backend::listen();
    let proxy = start(crate::support::Mode::Worker, &backend, "upgrade=NONE");
    proxy.wait_for_log("upgrade=NONE");
    let mut client = Client::sending(&proxy, "GET /ws/ HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut peer = backend.accept();
    let head = peer.head();
    assert!(
        head.to_lowercase().contains("\r\nupgrade: websocket\r\n"),
        "{head}"
    );
    peer.send("HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    client.answer_head().expect_status(101);

    let mut client = Client::sending(&proxy, "GET /ws/ HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut peer = backend.accept();
    peer.head();
    peer.send("HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\n\r\n");
    client.answer().expect_status(502);
}

#[test]
fn upgrade_names_another_protocol() {
    let backend = Backend::listen();
    let proxy = start(crate::support::Mode::Worker, &backend, "upgrade=telnet");
    let ask = "GET /ws/ HTTP/1.1\r\nHost: a\r\nUpgrade: telnet\r\nConnection: Upgrade\r\n\r\n";
    let mut client = Client::sending(&proxy, ask);
    let mut peer = backend.accept();
    peer.head();
    peer.send("HTTP/1.1 101 Switching\r\nUpgrade: telnet\r\nConnection: Upgrade\r\n\r\n");
    client.answer_head().expect_status(101);
    let answer = Client::asking(&proxy, "/ws/").answer().expect_status(426);
    assert_eq!(answer.field("Upgrade").as_deref(), Some("telnet"));
}

#[test]
fn every_listener_serves() {
    let backend = Backend::echo();
    let proxy = Proxy::start(format!(
        "Listen 127.0.0.1:0\nListen [::1]:0\nListen 127.0.0.1:0\nProxyPass /ws/ {}/",
        backend.url()
    ));
    assert_eq!(proxy.addresses().len(), 3);
    for address in proxy.addresses() {
        let mut client = Client::connect(*address);
        client.send(request("/ws/"));
        client.switched();
        client.echo("heard");
    }
}
