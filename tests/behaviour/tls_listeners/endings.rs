//! How connections end: TLS is told before TCP is, so that nobody takes the end for a cut.

use super::{NAME, client, dial, exactly, s_client, secure, start, visit};
use crate::support::client::{close_frame, request, switch};
use crate::support::http::{Origin, Reply};
use crate::support::wire::End;
use crate::support::{Backend, Certs, Client, Wire, each_mode, missing, pattern, tree};
use openssl::ssl::SslVersion;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::process::Signal;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

#[track_caller]
fn accept(backend: &Backend) -> Wire {
    let mut peer = backend.accept();
    peer.head();
    peer.send(switch());
    peer
}

/// Each of these ends the connection; an end that TLS was not told of would fail in `answer`.
#[test]
fn the_last_answer_is_followed_by_a_close_notify() {
    let certs = Certs::new();
    let origin = Origin::new(|_| Reply::ok(pattern(1, 3_000_000)));
    let proxy = start(
        &certs,
        format!(
            "KeepAliveTimeout 100ms\nProxyPass /page/ {}/\nProxyPass /gone/ http://127.0.0.1:1/",
            origin.url()
        ),
    );
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        for (request, status) in [
            (
                "GET /page/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                200,
            ),
            ("GET /page/ HTTP/1.0\r\n\r\n", 200),
            // The time of a kept connection is over.
            ("GET /page/ HTTP/1.1\r\nHost: a\r\n\r\n", 200),
            ("GET /none HTTP/1.1\r\nHost: a\r\n\r\n", 404),
            ("GET /gone/ HTTP/1.1\r\nHost: a\r\n\r\n", 503),
            ("nonsense\r\n\r\n", 400),
            (
                "POST /page/ HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
                400,
            ),
        ] {
            let mut visitor = dial(proxy.address(), &client(exactly(version)), Some(NAME));
            visitor.send(request);
            let answer = visitor.answer().expect_status(status);
            assert!(
                status != 200 || answer.body == pattern(1, 3_000_000),
                "{request}"
            );
        }
    }
}

/// What ends with the connection is whole only if TLS says so.
#[test]
fn an_answer_that_was_cut_is_followed_by_no_close_notify() {
    let certs = Certs::new();
    let heads = ["Content-Length: 100", "Transfer-Encoding: chunked"];
    for (head, version) in heads
        .into_iter()
        .flat_map(|head| [(head, "1.0"), (head, "1.1")])
    {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n");
        let backend = Backend::answering(answer);
        let proxy = start(&certs, format!("ProxyPass / http://{}/", backend.address()));
        let mut visitor = visit(&proxy);
        visitor.send(format!(
            "GET / HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n"
        ));
        let (answer, end) = visitor.rest();
        assert!(
            String::from_utf8(answer).unwrap().contains("hello"),
            "{head}"
        );
        assert_ne!(end, End::Orderly, "{head} {version}");
    }
}

#[test]
fn openssl_sees_no_unexpected_end() {
    let certs = Certs::new();
    let origin = Origin::telling();
    let proxy = start(&certs, format!("ProxyPass / {}/", origin.url()));
    for version in ["-tls1_2", "-tls1_3"] {
        let request = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let Some(told) = s_client(proxy.address(), &[version, "-ign_eof"], request) else {
            return;
        };
        assert!(told.contains("GET /a"), "{told}");
        // Its way to say that all went well.
        assert!(told.contains("closed\n"), "{told}");
        assert!(!told.contains("unexpected eof"), "{told}");
    }
}

#[test]
fn python_sees_no_violation_of_the_protocol() {
    let certs = Certs::new();
    let origin = Origin::telling();
    let backend = Backend::echo();
    let proxy = start(
        &certs,
        format!(
            "KeepAliveTimeout 100ms\nProxyPass /page/ {}/\nProxyPass /ws/ {}/",
            origin.url(),
            backend.url()
        ),
    );
    let script = tree().join("tests/behaviour/tls_listeners/ends.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(proxy.address().port().to_string())
        .arg(proxy.directory().join("ca.pem"))
        .output();
    let Ok(output) = output else {
        missing("python3");
        return;
    };
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let parts = String::from_utf8_lossy(&output.stdout).lines().count();
    assert_eq!(parts, 12, "{told}");
}

each_mode! {
    /// To a client that takes its time: the end has to wait for room as well.
    fn what_was_sent_before_an_end_arrives_before_the_end(mode: Mode) {
        let certs = Certs::new();
        let backend = Backend::listen();
        let proxy = start(&certs, format!("{}\nProxyPass /ws/ {}/", mode.directives(), backend.url()));
        for size in [0, 1, 16_384, 16_385, 200_000, 3_000_000] {
            let tcp = TcpStream::connect(proxy.address()).unwrap();
            set_socket_recv_buffer_size(&tcp, 100_000).unwrap();
            let mut visitor = secure(tcp, &client(|_| ()), Some(NAME)).unwrap();
            visitor.send(request("/ws/"));
            let mut peer = accept(&backend);
            visitor.switched();
            let bytes = [pattern(1, size), close_frame(None)].concat();
            std::thread::scope(|scope| {
                let bytes = &bytes;
                scope.spawn(move || {
                    peer.send(bytes);
                    peer.finish();
                    peer.rest();
                });
                std::thread::sleep(Duration::from_millis(20));
                assert!(visitor.rest_in_order() == *bytes, "of {size} bytes");
                visitor.finish();
            });
        }
    }

    fn each_end_of_a_tunnel_is_told_in_tls(mode: Mode) {
        let certs = Certs::new();
        let backend = Backend::listen();
        let lines = format!(
            "{}\nProxyPass /ws/ {}/\nProxyPass /idle/ {}/\n\
             <Location /idle/>\nProxyWebsocketIdleTimeout 300ms\n</Location>",
            mode.directives(), backend.url(), backend.url()
        );
        let mut proxy = start(&certs, lines);
        let open = |path: &str| {
            let mut visitor: Client = visit(&proxy);
            visitor.send(request(path));
            let peer = accept(&backend);
            visitor.switched();
            (visitor, peer)
        };
        // The backend has said that it ends, and has not, and has broken off.
        let (mut visitor, mut peer) = open("/ws/");
        peer.send(close_frame(None));
        peer.finish();
        visitor.expect(close_frame(None));
        visitor.expect_end();
        let (mut visitor, mut peer) = open("/ws/");
        peer.finish();
        visitor.expect_end();
        let (mut visitor, peer) = open("/ws/");
        peer.reset();
        visitor.expect_end();
        // Nothing has moved.
        let (mut visitor, mut peer) = open("/idle/");
        visitor.expect_end();
        peer.expect_end();
        // The proxy stops.
        let (mut visitor, mut peer) = open("/ws/");
        proxy.signal(Signal::TERM);
        visitor.expect_end();
        peer.expect_end();
        drop((visitor, peer));
        proxy.await_exit();
    }
}
