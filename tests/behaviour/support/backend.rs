//! A backend that does exactly what it is told to.

use super::BOUND;
use super::client::switch;
use super::wire::Wire;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use tungstenite::Message;

/// A listening socket, on a port that the kernel chose or at a path. The test accepts for itself, step by step, or lets
/// it be served.
#[derive(Debug)]
pub struct Backend {
    place: Place,
    arrived: Receiver<TcpStream>,
    count: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Backend {
    /// Listens; the test takes each connection by [`Backend::accept`].
    pub fn listen() -> Self {
        Self::listen_on(Ipv4Addr::LOCALHOST.into())
    }

    /// Listens on this address.
    pub fn listen_on(ip: IpAddr) -> Self {
        let (place, connections) = tcp((ip, 0));
        Self::handing_over(place, connections)
    }

    /// As [`Backend::listen`], at a Unix socket, which is made. The connections pose as ones of TCP.
    pub fn listen_unix(path: &Path) -> Self {
        let (place, connections) = unix(path);
        Self::handing_over(place, connections)
    }

    fn handing_over(place: Place, connections: Connections) -> Self {
        let (sender, arrived) = channel();
        let count = accept_all(connections, move |stream| {
            // The test may be over.
            drop(sender.send(stream));
        });
        Self {
            place,
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
        let (place, connections) = tcp((Ipv4Addr::LOCALHOST, 0));
        Self::serving(place, connections, script)
    }

    /// As [`Backend::serve`], on this address.
    pub fn serve_on(ip: IpAddr, script: impl Fn(Wire) + Send + Sync + 'static) -> Self {
        let (place, connections) = tcp((ip, 0));
        Self::serving(place, connections, move |tcp| script(Wire::new(tcp)))
    }

    /// As [`Backend::serve`], at an address that nobody listens at: one that was kept free by a [`super::Port`].
    pub fn serve_at(address: SocketAddr, script: impl Fn(Wire) + Send + Sync + 'static) -> Self {
        let (place, connections) = tcp(address);
        Self::serving(place, connections, move |tcp| script(Wire::new(tcp)))
    }

    /// As [`Backend::serve`], at a Unix socket.
    pub fn serve_unix(path: &Path, script: impl Fn(Wire) + Send + Sync + 'static) -> Self {
        let (place, connections) = unix(path);
        Self::serving(place, connections, move |socket| script(Wire::new(socket)))
    }

    fn serving(
        place: Place,
        connections: Connections,
        script: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let script = Arc::new(script);
        let (_, arrived): (Sender<TcpStream>, _) = channel();
        let count = accept_all(connections, move |stream| {
            let script = Arc::clone(&script);
            thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn(move || script(stream))
                .expect("a thread");
        });
        Self {
            place,
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

    /// As [`Backend::echo`], at a Unix socket.
    pub fn echo_unix(path: &Path) -> Self {
        let (place, connections) = unix(path);
        Self::serving(place, connections, |socket| echo(Wire::new(socket)))
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

    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        match &self.place {
            Place::Tcp(address) => *address,
            Place::Unix(path) => panic!("{} has no address", path.display()),
        }
    }

    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// `ws://127.0.0.1:port`, or `unix:path|ws://localhost`
    pub fn url(&self) -> String {
        match &self.place {
            Place::Tcp(address) => format!("ws://{address}"),
            Place::Unix(path) => format!("unix:{}|ws://localhost", path.display()),
        }
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

    /// The next connection, if it has come already.
    pub fn try_accept(&self) -> Option<Wire> {
        self.arrived.try_recv().ok().map(Wire::new)
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
        let mut ours = self.connect();
        ours.write_all(OURS).unwrap();
        let mut first = [0; OURS.len()];
        let read = self.accept().read(&mut first).unwrap_or(0);
        assert_eq!(
            &first[..read],
            OURS,
            "the proxy has connected to the backend"
        );
    }

    /// Sends these bytes in a connection of our own, and waits for the first byte of an answer: whoever connected before is
    /// counted by then.
    #[track_caller]
    pub fn greet(&self, bytes: &str) {
        let mut ours = Wire::new(self.connect());
        ours.send(bytes);
        ours.receive(1);
    }

    #[track_caller]
    fn connect(&self) -> TcpStream {
        let ours: OwnedFd = match &self.place {
            Place::Tcp(address) => TcpStream::connect(address).map(Into::into),
            Place::Unix(path) => UnixStream::connect(path).map(Into::into),
        }
        .expect("to connect to the backend");
        ours.into()
    }
}

/// What no proxy of ours begins with.
const OURS: &[u8] = b"\0ours";

type Connections = Box<dyn Iterator<Item = TcpStream> + Send>;

fn tcp(address: impl Into<SocketAddr>) -> (Place, Connections) {
    let listener = TcpListener::bind(address.into()).expect("a port for the backend");
    let place = Place::Tcp(listener.local_addr().unwrap());
    let connections =
        std::iter::repeat_with(move || listener.accept()).filter_map(|it| Some(it.ok()?.0));
    (place, Box::new(connections))
}

fn unix(path: &Path) -> (Place, Connections) {
    let listener = UnixListener::bind(path).expect("a socket for the backend");
    let connections =
        std::iter::repeat_with(move || listener.accept()).filter_map(|it| Some(it.ok()?.0));
    let connections = connections.map(|unix| OwnedFd::from(unix).into());
    (Place::Unix(path.to_owned()), Box::new(connections))
}

/// Gives every connection to `take`, in a thread that lives as long as the test binary.
fn accept_all(
    connections: Connections,
    mut take: impl FnMut(TcpStream) + Send + 'static,
) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    thread::spawn(move || {
        for stream in connections {
            counter.fetch_add(1, Ordering::SeqCst);
            take(stream);
        }
    });
    count
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
