//! Whatever the client speaks, and whatever the backend: plain, TLS 1.2 or TLS 1.3.

use super::{NAME, certificate, client, dial, directory, exactly};
use crate::support::certs::Identity;
use crate::support::client::{close_frame, echoes, frame, request, switch};
use crate::support::{
    BOUND, Backend, Certs, Client, Mode, Proxy, TempDir, Wire, each_mode, missing, pattern, tree,
};
use openssl::ssl::SslVersion;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tungstenite::Message;
use tungstenite::protocol::Role;

/// What is spoken; nothing is plain.
type Speech = Option<SslVersion>;

const ALL: [Speech; 3] = [None, Some(SslVersion::TLS1_2), Some(SslVersion::TLS1_3)];

/// A proxy that listens for plain HTTP and for TLS, and that has backends of both kinds.
struct Stage {
    backend: Backend,
    identity: Identity,
    proxy: Proxy,
}

/// A proxy that listens for plain HTTP first, and then for TLS.
#[track_caller]
fn listen_for_both(mode: Mode, directory: TempDir, routes: &str) -> Proxy {
    let config = format!(
        "{}\nListen 127.0.0.1:0\nListen 127.0.0.2:0 https\n{routes}\n<VirtualHost 127.0.0.2>\n{}</VirtualHost>",
        mode.directives(),
        certificate(NAME),
    );
    Proxy::start_in(directory, config, "")
}

impl Stage {
    #[track_caller]
    fn new(mode: Mode) -> Self {
        let certs = Certs::new();
        let backend = Backend::listen();
        let port = backend.port();
        let routes = format!(
            "SSLProxyCACertificateFile ca.pem\nProxyPass /plain/ ws://127.0.0.1:{port}/\n\
             ProxyPass /tls/ wss://localhost:{port}/\nCustomLog access.log \"%>s %{{close-reason}}n\""
        );
        Self {
            identity: certs.server("localhost"),
            proxy: listen_for_both(mode, directory(&certs, &[NAME]), &routes),
            backend,
        }
    }

    /// A tunnel: the client's end and the backend's.
    #[track_caller]
    fn open(&self, client_speaks: Speech, backend_speaks: Speech) -> (Client, Wire) {
        let [plain, tls] = self.proxy.addresses() else {
            panic!("two addresses");
        };
        let mut visitor = match client_speaks {
            None => Client::connect(*plain),
            Some(version) => dial(*tls, &client(exactly(version)), Some(NAME)),
        };
        let path = if backend_speaks.is_some() {
            "/tls/"
        } else {
            "/plain/"
        };
        visitor.send(request(path));
        let mut peer = match backend_speaks {
            None => self.backend.accept(),
            Some(version) => {
                let acceptor = self.identity.acceptor_of(version);
                let tls = acceptor.accept(self.backend.accept_tcp());
                Wire::new_tls(tls.expect("a TLS handshake"))
            }
        };
        peer.head();
        peer.send(switch());
        visitor.switched();
        (visitor, peer)
    }

    /// Calls `look` with a tunnel for each pair of what can be spoken, and holds all of them to their line in the access
    /// log.
    #[track_caller]
    fn each(mode: Mode, line: &str, mut look: impl FnMut(Client, Wire)) {
        let stage = Self::new(mode);
        for client_speaks in ALL {
            for backend_speaks in ALL {
                println!("client: {client_speaks:?}, backend: {backend_speaks:?}");
                let (client, peer) = stage.open(client_speaks, backend_speaks);
                look(client, peer);
            }
        }
        for found in stage.proxy.wait_for_lines("access.log", ALL.len().pow(2)) {
            assert!(found.starts_with(line), "{found}");
        }
    }
}

/// Sends so many bytes of the one pattern and receives as many of the other at the same time, in one thread, as TLS wants
/// it. Bytes that are not those of the pattern fail where they are.
#[track_caller]
fn stream(wire: &mut Wire, out: &[u8], into: &[u8], size: usize) {
    let (mut sent, mut received) = (0, 0);
    let mut chunk = vec![0; 256 * 1024];
    wire.tcp().set_nonblocking(true).unwrap();
    while sent < size || received < size {
        let mut has_moved = false;
        let ahead = &out[sent % out.len()..];
        let ahead = &ahead[..ahead.len().min(size - sent)];
        if !ahead.is_empty()
            && let Some(count) = unless_blocked(wire.write(ahead))
        {
            sent += count;
            has_moved = true;
        }
        if received < size
            && let Some(count) = unless_blocked(wire.read(&mut chunk))
        {
            assert!(count > 0, "the end after {received} bytes");
            let mut found = &chunk[..count];
            while !found.is_empty() {
                let expected = &into[received % into.len()..];
                let length = expected.len().min(found.len());
                assert!(found[..length] == expected[..length], "behind {received}");
                found = &found[length..];
                received += length;
            }
            has_moved = true;
        }
        if !has_moved {
            let writing = if sent < size {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
            let bound = Timespec::try_from(BOUND).unwrap();
            let mut sockets = [PollFd::new(wire.tcp(), PollFlags::IN | writing)];
            let ready = poll(&mut sockets, Some(&bound)).unwrap();
            assert!(ready > 0, "stuck at {sent} sent, {received} received");
        }
    }
    wire.tcp().set_nonblocking(false).unwrap();
}

#[track_caller]
fn unless_blocked(outcome: std::io::Result<usize>) -> Option<usize> {
    match outcome {
        Ok(count) => Some(count),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

each_mode! {
    fn python_speaks_with_python(mode: Mode) {
        let certs = Certs::new();
        let directory = directory(&certs, &[NAME, "localhost"]);
        let file = |name: &str| directory.path().join(name);
        let script = Command::new("python3")
            .arg(tree().join("tests/behaviour/tls_listeners/matrix.py"))
            .args([file("ca.pem"), file("localhost.pem"), file("localhost.key")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut script) = script else {
            missing("python3");
            return;
        };
        let mut lines = BufReader::new(script.stdout.take().unwrap()).lines();
        let ports = lines.next().unwrap().unwrap();
        let [plain, old, new] = ports.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{ports}");
        };
        let routes = format!(
            "SSLProxyCACertificateFile ca.pem\nProxyPass /plain/ ws://127.0.0.1:{plain}/\n\
             ProxyPass /1.2/ wss://localhost:{old}/\nProxyPass /1.3/ wss://localhost:{new}/"
        );
        let proxy = listen_for_both(mode, directory, &routes);
        let ports = proxy.addresses().iter().map(|address| address.port().to_string());
        let ports = ports.collect::<Vec<_>>().join(" ") + "\n";
        script.stdin.take().unwrap().write_all(ports.as_bytes()).unwrap();
        let parts: Vec<_> = lines.map_while(Result::ok).collect();
        let output = script.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{parts:#?}{told}");
        assert_eq!(parts.len(), 9 * 5, "{parts:#?}");
    }

    fn messages_pass_both_ways(mode: Mode) {
        // Who ends the connection behind the Close frames is open.
        Stage::each(mode, "101 ", |client, peer| {
            let backend = thread::spawn(move || {
                let mut socket = tungstenite::WebSocket::from_raw_socket(peer, Role::Server, None);
                while let Ok(message) = socket.read() {
                    if !message.is_close() {
                        socket.send(message).unwrap();
                    }
                }
            });
            let mut socket = tungstenite::WebSocket::from_raw_socket(client, Role::Client, None);
            for size in [0, 1, 125, 126, 16_383, 16_384, 16_385, 65_536, 1_000_000] {
                echoes(&mut socket, &Message::binary(pattern(size as u64, size)));
            }
            socket.close(None).unwrap();
            while socket.read().is_ok() {}
            drop(socket);
            backend.join().unwrap();
        });
    }

    fn sixty_four_mib_pass_both_ways_at_once(mode: Mode) {
        const SIZE: usize = 64 << 20;
        let (there, back) = (pattern(3, 1_000_003), pattern(5, 1_000_033));
        Stage::each(mode, "101 client closed", |mut client, mut peer| {
            thread::scope(|scope| {
                scope.spawn(|| {
                    stream(&mut peer, &back, &there, SIZE);
                    peer.expect_end();
                    peer.finish();
                });
                stream(&mut client, &there, &back, SIZE);
                client.finish();
                client.expect_end();
            });
        });
    }

    fn a_client_that_says_that_it_has_ended_hears_the_rest(mode: Mode) {
        let (there, back) = (pattern(7, 300_000), pattern(11, 300_000));
        // With, and without, the end of the TCP connection behind that of TLS.
        for is_cut in [false, true] {
            Stage::each(mode, "101 client closed", |mut client, mut peer| {
                client.send(&there);
                client.finish();
                if is_cut {
                    client.tcp().shutdown(Shutdown::Write).unwrap();
                }
                peer.expect(&there);
                peer.expect_end();
                peer.send(&back);
                client.expect(&back);
                peer.send("and more");
                peer.finish();
                client.expect("and more");
                client.expect_end();
            });
        }
    }

    fn a_backend_that_says_that_it_has_ended_hears_the_rest(mode: Mode) {
        let (there, back) = (pattern(13, 300_000), pattern(17, 300_000));
        for is_cut in [false, true] {
            Stage::each(mode, "101 backend closed", |mut client, mut peer| {
                peer.send(frame(&back, None));
                peer.send(close_frame(None));
                peer.finish();
                if is_cut {
                    peer.tcp().shutdown(Shutdown::Write).unwrap();
                }
                client.expect(frame(&back, None));
                client.expect(close_frame(None));
                client.expect_end();
                client.send(&there);
                peer.expect(&there);
                client.send("and more");
                client.finish();
                peer.expect("and more");
                peer.expect_end();
            });
        }
    }

    fn a_reset_of_the_client_ends_the_backend(mode: Mode) {
        Stage::each(mode, "101 client", |client, mut peer| {
            client.reset();
            peer.expect_cut();
        });
    }

    fn a_reset_of_the_backend_ends_the_client(mode: Mode) {
        Stage::each(mode, "101 backend", |mut client, peer| {
            peer.reset();
            client.expect_cut();
        });
    }

    fn a_reset_in_a_stream_ends_the_other_side(mode: Mode) {
        let much = pattern(19, 100_000);
        Stage::each(mode, "101 client", |mut client, mut peer| {
            let is_over = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    while peer.send_if_taken(&much) {
                        if is_over.load(Ordering::SeqCst) {
                            break;
                        }
                    }
                    peer.expect_cut();
                });
                client.receive(3 * much.len());
                client.reset();
                is_over.store(true, Ordering::SeqCst);
            });
        });
    }
}
