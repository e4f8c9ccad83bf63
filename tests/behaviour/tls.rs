//! `wss://`: names, trust, stalls.

use crate::support::certs::Identity;
use crate::support::client::{frame, switch};
use crate::support::wire::End;
use crate::support::{
    BOUND, Backend, Certs, Client, Proxy, TempDir, each_mode, pattern, wait_until,
};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A proxy that trusts `certs` and has `/wss/` mapped to the backend as `localhost`.
#[track_caller]
fn start(certs: &Certs, backend: &Backend, more: &str) -> Proxy {
    let directory = TempDir::new();
    directory.write("ca.pem", certs.pem());
    let config = format!(
        "SSLProxyCACertificateFile ca.pem\nProxyPass /wss/ wss://localhost:{}/ timeout=5\n{more}",
        backend.port()
    );
    Proxy::start_in(directory, config, "")
}

/// A backend that tries a TLS handshake with everybody and then echoes.
fn serve(identity: &Identity) -> Backend {
    Backend::echo_tls(identity)
}

#[test]
fn the_first_byte_on_the_wire_is_tls_and_the_name_is_sent() {
    let certs = Certs::new();
    let backend = Backend::listen();
    let proxy = start(&certs, &backend, "");
    let _client = Client::asking(&proxy, "/wss/");
    let mut tcp = backend.accept_tcp();
    let mut hello = vec![0; 5];
    tcp.read_exact(&mut hello).unwrap();
    assert_eq!(hello[..2], [0x16, 3], "a TLS handshake record");
    let mut rest = vec![0; usize::from(hello[3]) << 8 | usize::from(hello[4])];
    tcp.read_exact(&mut rest).unwrap();
    let name = b"\0\x09localhost";
    assert!(
        rest.windows(name.len()).any(|window| window == name),
        "no server name in the client hello"
    );
}

#[test]
fn no_name_is_sent_where_the_backend_is_an_address() {
    let certs = Certs::new();
    let identity = certs.server("127.0.0.1");
    let backend = Backend::listen();
    let directory = TempDir::new();
    directory.write("ca.pem", certs.pem());
    let config = format!(
        "SSLProxyCACertificateFile ca.pem\nProxyPass /wss/ wss://{}/",
        backend.address()
    );
    let proxy = Proxy::start_in(directory, config, "");
    let mut client = Client::asking(&proxy, "/wss/");
    let mut peer = backend.accept_tls(&identity);
    let name = peer
        .tls()
        .ssl()
        .servername(openssl::ssl::NameType::HOST_NAME);
    assert_eq!(name, None, "RFC 6066 section 3 knows no addresses");
    peer.head();
    peer.send(switch());
    client.switched();
}

each_mode! {
    fn messages_pass_through_tls_both_ways(mode: Mode) {
        let certs = Certs::new();
        let identity = certs.server("localhost");
        let backend = Backend::listen();
        let proxy = start(&certs, &backend, mode.directives());
        let mut client = Client::asking(&proxy, "/wss/");
        let mut peer = backend.accept_tls(&identity);
        assert_eq!(
            peer.tls().ssl().servername(openssl::ssl::NameType::HOST_NAME),
            Some("localhost")
        );
        peer.head();
        // In one TLS record with the 101: decrypted, and never announced by the socket again.
        let mut bytes = switch().into_bytes();
        bytes.extend_from_slice(&frame(b"at once", None));
        peer.send(bytes);
        client.switched();
        client.expect(frame(b"at once", None));
        for round in 0..50_u8 {
            let there = frame(&[round; 100], Some([round; 4]));
            client.send(&there);
            peer.expect(&there);
            let back = frame(&vec![round; 20_000], None);
            peer.send(&back);
            client.expect(&back);
        }
    }

    fn much_data_passes_through_tls_both_ways_at_once(mode: Mode) {
        let certs = Certs::new();
        let identity = certs.server("localhost");
        let backend = Backend::listen();
        let proxy = start(&certs, &backend, mode.directives());
        let mut client = Client::asking(&proxy, "/wss/");
        let mut peer = backend.accept_tls(&identity);
        peer.head();
        peer.send(switch());
        client.switched();
        let size = 4_000_000;
        let (there, back) = (pattern(3, size), pattern(5, size));
        // One thread holds the backend's TLS: it writes and reads in turns.
        let (sent, expected) = (back.clone(), there.clone());
        let backend_side = std::thread::spawn(move || {
            for (out, into) in sent.chunks(16_000).zip(expected.chunks(16_000)) {
                peer.send(out);
                peer.expect(into);
            }
            peer
        });
        let mut writer = crate::support::Wire::new(client.tcp().try_clone().unwrap());
        let client_writes = std::thread::spawn(move || writer.send(there));
        client.expect(&back);
        client_writes.join().unwrap();
        drop(backend_side.join().unwrap());
    }

    fn the_end_of_either_side_passes_through_tls(mode: Mode) {
        let certs = Certs::new();
        let identity = certs.server("localhost");
        let backend = Backend::listen();
        let proxy = start(&certs, &backend, mode.directives());
        for client_first in [true, false] {
            let mut client = Client::asking(&proxy, "/wss/");
            let mut peer = backend.accept_tls(&identity);
            peer.head();
            peer.send(switch());
            client.switched();
            if client_first {
                client.send("last");
                client.finish();
                peer.expect("last");
                peer.expect_end();
                peer.send("answer");
                peer.finish();
                client.expect("answer");
                client.expect_end();
            } else {
                peer.send("last");
                peer.finish();
                client.expect("last");
                client.expect_end();
                client.send("answer");
                client.finish();
                peer.expect("answer");
                peer.expect_end();
            }
        }
    }

    fn an_end_without_close_notify_is_an_end(mode: Mode) {
        let certs = Certs::new();
        let identity = certs.server("localhost");
        let backend = Backend::listen();
        let proxy = start(&certs, &backend, mode.directives());
        let mut client = Client::asking(&proxy, "/wss/");
        let mut peer = backend.accept_tls(&identity);
        peer.head();
        peer.send(switch());
        client.switched();
        peer.send("last");
        client.expect("last");
        peer.tcp().shutdown(std::net::Shutdown::Both).unwrap();
        client.expect_cut();
    }
}

/// What is wrong with the backend's certificate, and what the log has to say of it.
#[test]
fn a_certificate_that_proves_nothing_is_a_502() {
    let certs = Certs::new();
    for (identity, what) in [
        (Identity::self_signed("localhost"), "self-signed"),
        (Certs::new().server("localhost"), "of an unknown authority"),
        (certs.server("other.example"), "for another name"),
        (certs.expired("localhost"), "expired"),
    ] {
        let backend = serve(&identity);
        let proxy = start(&certs, &backend, "");
        let answer = Client::asking(&proxy, "/wss/").answer();
        assert_eq!(answer.status, 502, "{what}: {}", answer.head);
        let line = proxy.wait_for_log("ProxyPass \"/wss/\"");
        assert!(line.contains("tls"), "{what}: {line}");
        assert!(line.contains("502"), "{what}: {line}");
        assert!(
            line.to_lowercase().contains("certificate") || line.contains("verif"),
            "{what}: {line}"
        );
    }
}

#[test]
fn without_a_ca_file_the_authorities_of_the_system_are_asked() {
    let certs = Certs::new();
    let backend = serve(&certs.server("localhost"));
    let proxy = Proxy::start(format!(
        "ProxyPass /wss/ wss://localhost:{}/",
        backend.port()
    ));
    Client::asking(&proxy, "/wss/").answer().expect_status(502);
}

#[test]
fn sslproxyverify_none_takes_what_nobody_vouches_for_and_warns_at_start() {
    for identity in [
        Identity::self_signed("localhost"),
        Certs::new().server("localhost"),
    ] {
        let backend = serve(&identity);
        let proxy = Proxy::start(format!(
            "SSLProxyVerify none\nProxyPass /wss/ wss://localhost:{}/",
            backend.port()
        ));
        proxy.wait_for_log("SSLProxyVerify");
        Client::tunnel(&proxy, "/wss/").echo("unverified");
    }
}

#[test]
fn a_backend_that_stalls_in_the_tls_handshake_is_a_504() {
    let certs = Certs::new();
    let backend = Backend::listen();
    let directory = TempDir::new();
    directory.write("ca.pem", certs.pem());
    let config = format!(
        "SSLProxyCACertificateFile ca.pem\nProxyPass /wss/ wss://localhost:{}/ timeout=500ms",
        backend.port()
    );
    let proxy = Proxy::start_in(directory, config, "");
    let begun = Instant::now();
    let mut client = Client::asking(&proxy, "/wss/");
    let _stalled = backend.accept_tcp();
    client.answer().expect_status(504);
    assert!(begun.elapsed() < Duration::from_secs(10));
    let line = proxy.wait_for_log("ProxyPass \"/wss/\"");
    assert!(line.contains("tls"), "{line}");
}

#[test]
fn a_backend_that_does_not_speak_tls_is_a_502() {
    let certs = Certs::new();
    let backend = Backend::serve(|mut wire| {
        wire.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        wire.rest();
    });
    let proxy = start(&certs, &backend, "");
    Client::asking(&proxy, "/wss/").answer().expect_status(502);
}

#[test]
fn a_backend_that_closes_in_the_tls_handshake_is_a_502() {
    let certs = Certs::new();
    let backend = Backend::serve_tcp(drop);
    let proxy = start(&certs, &backend, "");
    Client::asking(&proxy, "/wss/").answer().expect_status(502);
}

#[test]
fn an_ordinary_answer_comes_through_tls_whole() {
    let certs = Certs::new();
    let identity = certs.server("localhost");
    let backend = Backend::listen();
    let proxy = start(&certs, &backend, "");
    let body = "b".repeat(200_000);
    let mut client = Client::asking(&proxy, "/wss/");
    let mut peer = backend.accept_tls(&identity);
    peer.head();
    peer.send(format!(
        "HTTP/1.1 403 No\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let answer = client.answer().expect_status(403);
    assert!(answer.body == body.as_bytes());
}

#[test]
fn an_answer_until_the_end_comes_through_tls_whole() {
    let certs = Certs::new();
    let identity = certs.server("localhost");
    let backend = Backend::listen();
    let proxy = start(&certs, &backend, "");
    let mut client = Client::asking(&proxy, "/wss/");
    let mut peer = backend.accept_tls(&identity);
    peer.head();
    peer.send("HTTP/1.1 200 OK\r\n\r\nall of it");
    peer.finish();
    let text = String::from_utf8(client.answer().expect_status(200).body).unwrap();
    assert!(text.contains("all of it"), "{text}");
}

/// Anybody on the way can end a TCP connection; only the backend can say in TLS that it has ended.
#[test]
fn an_answer_that_is_cut_inside_tls_is_not_passed_on_as_a_whole_one() {
    let certs = Certs::new();
    let identity = certs.server("localhost");
    let backend = Backend::listen();
    let proxy = start(&certs, &backend, "");
    let mut client = Client::asking(&proxy, "/wss/");
    let mut peer = backend.accept_tls(&identity);
    peer.head();
    peer.send("HTTP/1.1 200 OK\r\n\r\nonly a part");
    peer.tcp().shutdown(std::net::Shutdown::Write).unwrap();
    let answer = String::from_utf8(client.rest().0).unwrap();
    assert!(answer.contains("only a part"), "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    proxy.wait_for_log("relay: ");
}

/// The least stack that can be configured carries a name look-up, a TLS handshake with verification, and every log line.
#[test]
fn the_smallest_stack_is_large_enough() {
    let certs = Certs::new();
    let backend = Backend::echo_tls(&certs.server("localhost"));
    let proxy = start(&certs, &backend, "ThreadStackSize 65536\nLogLevel trace8");
    for _ in 0..3 {
        Client::tunnel(&proxy, "/wss/").echo("x");
    }
}

#[test]
fn a_stalled_reader_stalls_a_tls_backend() {
    const CHUNKS: usize = 1024;
    let certs = Certs::new();
    let identity = certs.server("localhost");
    let backend = Backend::listen();
    let proxy = start(&certs, &backend, "");
    let mut client = Client::asking(&proxy, "/wss/");
    let mut peer = backend.accept_tls(&identity);
    peer.head();
    peer.send(switch());
    client.switched();
    let before = proxy.figures().resident;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let writer = std::thread::spawn(move || {
        let chunk = vec![7; 65_536];
        for _ in 0..CHUNKS {
            peer.send(&chunk);
            counter.fetch_add(1, Ordering::SeqCst);
        }
        peer
    });
    let mut last = (0, Instant::now());
    wait_until("the backend to be held", BOUND, || {
        let now = sent.load(Ordering::SeqCst);
        if now != last.0 {
            last = (now, Instant::now());
        }
        now > 0 && last.1.elapsed() > Duration::from_millis(300)
    });
    assert!(last.0 < CHUNKS, "the proxy took everything");
    let grown = proxy.figures().resident.saturating_sub(before);
    assert!(grown < 1 << 20, "the proxy has grown by {grown} bytes");
    assert!(
        client
            .receive(CHUNKS * 65_536)
            .iter()
            .all(|byte| *byte == 7)
    );
    let mut peer = writer.join().unwrap();
    peer.finish();
    assert_eq!(client.rest(), (Vec::new(), End::Orderly));
}
