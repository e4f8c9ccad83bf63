//! A backend that does exactly what it is told to.

use super::BOUND;
use super::client::switch;
use super::wire::Wire;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use tungstenite::Message;

/// A listening socket on a port that the kernel chose. The test accepts for itself, step by step, or lets it be served.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    arrived: Receiver<TcpStream>,
    count: Arc<AtomicUsize>,
}

impl Backend {
    /// Listens; the test takes each connection by [`Backend::accept`].
    pub fn listen() -> Self {
        Self::listen_on(Ipv4Addr::LOCALHOST.into())
    }

    /// Listens on this address.
    pub fn listen_on(ip: IpAddr) -> Self {
        let (sender, arrived) = channel();
        let (address, count) = accept_all(ip, move |stream| {
            // The test may be over.
            drop(sender.send(stream));
        });
        Self {
            address,
            arrived,
            count,
        }
    }

    /// Serves each connection by `script` in a thread of its own.
    pub fn serve(script: impl Fn(Wire) + Send + Sync + 'static) -> Self {
        Self::serve_tcp(move |tcp| script(Wire::new(tcp)))
    }

    /// As [`Backend::serve`], before anything was set up.
    pub fn serve_tcp(script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let script = Arc::new(script);
        let (_, arrived): (Sender<TcpStream>, _) = channel();
        let (address, count) = accept_all(Ipv4Addr::LOCALHOST.into(), move |stream| {
            let script = Arc::clone(&script);
            thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn(move || script(stream))
                .expect("a thread");
        });
        Self {
            address,
            arrived,
            count,
        }
    }

    /// Reads a head, answers with these bytes and ends; reads on until the other side ends as well.
    pub fn answering(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self::serve(move |mut wire| {
            if wire.try_head().is_ok() && wire.send_if_taken(bytes.as_ref()) {
                wire.finish();
                wire.rest();
            }
        })
    }

    /// Switches, and sends every message back.
    pub fn echo() -> Self {
        Self::serve(echo)
    }

    /// Switches, and sends every message back, in TLS.
    #[cfg(feature = "tls")]
    pub fn echo_tls(identity: &super::certs::Identity) -> Self {
        let acceptor = identity.acceptor();
        Self::serve_tcp(move |tcp| {
            if let Ok(tls) = acceptor.accept(tcp) {
                echo(Wire::new_tls(tls));
            }
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `ws://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// How many connections have arrived so far.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// The next connection.
    #[track_caller]
    pub fn accept(&self) -> Wire {
        Wire::new(self.accept_tcp())
    }

    /// The next connection as a bare socket.
    #[track_caller]
    pub fn accept_tcp(&self) -> TcpStream {
        self.arrived
            .recv_timeout(BOUND)
            .expect("the proxy to connect to the backend")
    }

    /// The next connection, its TLS handshake done.
    #[cfg(feature = "tls")]
    #[track_caller]
    pub fn accept_tls(&self, identity: &super::certs::Identity) -> Wire {
        let tls = identity
            .acceptor()
            .accept(self.accept_tcp())
            .expect("a TLS handshake");
        Wire::new_tls(tls)
    }

    /// The next connection, its head read and answered with a 101.
    #[track_caller]
    pub fn accept_tunnel(&self) -> Wire {
        let mut wire = self.accept();
        wire.head();
        wire.send(switch());
        wire
    }

    /// Fails if anybody has connected that the test did not take: a connection of our own must be the next.
    #[track_caller]
    pub fn expect_untouched(&self) {
        let ours = TcpStream::connect(self.address).expect("to connect to the backend");
        let next = self.accept_tcp();
        assert_eq!(
            next.peer_addr().unwrap(),
            ours.local_addr().unwrap(),
            "the proxy has connected to the backend"
        );
    }
}

/// Gives every connection to `take`, in a thread that lives as long as the test binary.
fn accept_all(
    ip: IpAddr,
    mut take: impl FnMut(TcpStream) + Send + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((ip, 0)).expect("a port for the backend");
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::SeqCst);
            take(stream);
        }
    });
    (address, count)
}

/// An address where nobody listens.
pub fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().unwrap()
}

/// Switches, and sends every message back until the other side closes.
pub fn echo(wire: Wire) {
    // A tunnel of a test may rest for as long as it likes.
    wire.tcp().set_read_timeout(None).unwrap();
    let Ok(mut socket) = tungstenite::accept(wire) else {
        return;
    };
    loop {
        match socket.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                if socket.send(message).is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
