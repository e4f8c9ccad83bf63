//! Connecting to a backend by a deadline.

use super::listen::set_leg_options;
use super::resolve::{ResolveError, Resolver, TTL};
use super::wait::{Interrupted, Waiter, Want};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect as start, getpeername,
    socket_with, sockopt,
};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait at first before a Unix socket whose queue is full is asked again.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The longest such wait: it doubles each time.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How a TCP connection to a backend is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Whether a silent connection is probed, so that a backend that is gone is found. httpd: `keepalive=`.
    pub keepalive: bool,
    /// What the kernel may hold of what the backend has sent, in bytes; unset: it decides for itself, and adapts. It takes
    /// no more than `net.core.rmem_max`. httpd: `receivebuffersize=`.
    pub receive_buffer: Option<usize>,
    /// Our own address; unset: the kernel chooses it. Addresses of the other family are not tried. httpd:
    /// `ProxySourceAddress`.
    pub source: Option<IpAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keepalive: true,
            receive_buffer: None,
            source: None,
        }
    }
}

/// Where a backend is: a name, or an address in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// What is looked up.
    pub host: &'a str,
    /// At all of its addresses.
    pub port: u16,
    /// How long what its name leads to holds, in place of [`TTL`]. httpd: `addressttl=`.
    pub address_ttl: Option<Duration>,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// The name leads nowhere.
    Resolve(ResolveError),
    /// Nobody could be reached there.
    Connect(Interrupted),
}

/// Connects to a backend by its name. Where nobody can be reached at the addresses that are known, those are tried as well
/// to which the name has moved since. httpd: `ap_proxy_connect_backend`.
///
/// # Errors
/// What the last attempt came to.
pub fn connect_host(
    resolver: &Resolver,
    place: Place<'_>,
    options: Options,
    deadline: Instant,
    waiter: &mut Waiter,
) -> Result<TcpStream, ConnectError> {
    let Place { host, port, .. } = place;
    let addresses = resolver
        .resolve(host, place.address_ttl.unwrap_or(TTL), deadline)
        .map_err(ConnectError::Resolve)?;
    connect(&addresses, port, options, deadline, waiter)
        .or_else(|failure| {
            if !is_of_address(&failure) {
                return Err(failure);
            }
            match resolver.others(host, &addresses, deadline) {
                Some(others) => connect(&others, port, options, deadline, waiter),
                None => Err(failure),
            }
        })
        .map_err(ConnectError::Connect)
}

/// Whether it might be otherwise at another address.
fn is_of_address(failure: &Interrupted) -> bool {
    match failure {
        Interrupted::Deadline => true,
        Interrupted::Cancelled => false,
        Interrupted::Failed(error) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::TimedOut
        ),
    }
}

/// Connects to the first of `addresses` that answers. Each gets an equal share of the time that is left, so
/// that one that swallows packets does not use up the time of the others.
///
/// # Errors
/// Why the last address failed, or that there was none to try.
fn connect(
    addresses: &[IpAddr],
    port: u16,
    options: Options,
    deadline: Instant,
    waiter: &mut Waiter,
) -> Result<TcpStream, Interrupted> {
    let fits = |address: &&IpAddr| {
        let source = options.source.as_ref();
        source.is_none_or(|source| source.is_ipv4() == address.is_ipv4())
    };
    let count = addresses.iter().filter(fits).count();
    let mut failure = None;
    for (address, left) in addresses.iter().filter(fits).zip((1..=count).rev()) {
        let now = Instant::now();
        let share =
            deadline.saturating_duration_since(now) / u32::try_from(left).unwrap_or(u32::MAX);
        let address = SocketAddr::new(*address, port);
        match connect_to(address, options, now + share, waiter) {
            Ok(stream) => return Ok(stream),
            Err(Interrupted::Cancelled) => return Err(Interrupted::Cancelled),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| {
        let why = match options.source.filter(|_| !addresses.is_empty()) {
            None => "the name has no address".to_owned(),
            Some(source) => {
                let (wanted, other) = if source.is_ipv4() { (4, 6) } else { (6, 4) };
                format!(
                    "the backend has addresses of IPv{other} only, and from {source} (ProxySourceAddress) only those of \
                     IPv{wanted} can be reached"
                )
            }
        };
        Interrupted::Failed(io::Error::new(io::ErrorKind::NotFound, why))
    }))
}

fn connect_to(
    address: SocketAddr,
    options: Options,
    deadline: Instant,
    waiter: &mut Waiter,
) -> Result<TcpStream, Interrupted> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None).map_err(io::Error::from)?;
    set_leg_options(&socket, options.keepalive)?;
    if let Some(bytes) = options.receive_buffer {
        // Before the connection is made, which settles how large the window can become.
        sockopt::set_socket_recv_buffer_size(&socket, bytes).map_err(io::Error::from)?;
    }
    if let Some(source) = options.source {
        bind_from(&socket, source)?;
    }
    match start(&socket, &address) {
        Ok(()) => {}
        // An interrupted connect goes on by itself.
        Err(Errno::INPROGRESS | Errno::INTR) => {
            // On this machine and near it the answer is there already, and need not be waited for.
            if getpeername(&socket).is_ok() {
                return Ok(socket.into());
            }
            waiter.wait([(socket.as_fd(), Want::Write)], Some(deadline))?;
            sockopt::socket_error(&socket)
                .map_err(io::Error::from)?
                .map_err(io::Error::from)?;
        }
        Err(error) => return Err(Interrupted::Failed(error.into())),
    }
    Ok(socket.into())
}

fn bind_from(socket: &OwnedFd, source: IpAddr) -> io::Result<()> {
    bind(socket, &SocketAddr::new(source, 0)).map_err(|error| {
        let error = io::Error::from(error);
        let why = format!("cannot connect from {source} (ProxySourceAddress): {error}");
        io::Error::new(error.kind(), why)
    })
}

/// Connects to the Unix socket at `path`, which is done at once or not at all, but for a backend that has too many
/// connections to accept: nothing tells when it has room again, so it is asked again and again until the deadline.
///
/// # Errors
/// As the system says them: nobody listens there, or it may not be used; or the deadline has passed.
pub fn connect_unix(
    path: &Path,
    deadline: Instant,
    waiter: &mut Waiter,
) -> Result<UnixStream, Interrupted> {
    let address = SocketAddrUnix::new(path).map_err(io::Error::from)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(io::Error::from)?;
    let mut pause = FIRST_PAUSE;
    loop {
        match start(&socket, &address) {
            Ok(()) => return Ok(socket.into()),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let until = deadline.min(Instant::now() + pause);
                match waiter.wait([], Some(until)) {
                    Err(Interrupted::Deadline) if until < deadline => {}
                    Err(why) => return Err(why),
                    Ok([]) => {}
                }
                pause = LONGEST_PAUSE.min(2 * pause);
            }
            Err(error) => return Err(Interrupted::Failed(explained(error.into()))),
        }
    }
}

/// With what to do about it, where the system's words do not say it.
fn explained(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    let remedy = "this program's user has to have write permission for the socket, and for its folders the permission \
                  to search them";
    io::Error::new(error.kind(), format!("{error}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::wait::Cancel;
    use rustix::net::listen;
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::{Arc, Mutex};

    fn waiter() -> (Waiter, Arc<Cancel>) {
        let cancel = Arc::new(Cancel::new().unwrap());
        (Waiter::new(Arc::clone(&cancel)).unwrap(), cancel)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_connection_has_the_options_that_it_was_given() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let connect = |options| {
            let addresses = [Ipv4Addr::LOCALHOST.into()];
            connect(&addresses, port, options, soon(), &mut waiter().0).unwrap()
        };
        let usual = connect(Options::default());
        assert!(sockopt::socket_keepalive(&usual).unwrap());
        assert!(usual.nodelay().unwrap());
        let other = connect(Options {
            keepalive: false,
            receive_buffer: Some(20_000),
            source: None,
        });
        assert!(!sockopt::socket_keepalive(&other).unwrap());
        assert!(other.nodelay().unwrap());
        // socket(7): the kernel doubles it, for what it needs itself.
        assert_eq!(sockopt::socket_recv_buffer_size(&other).unwrap(), 40_000);
    }

    #[test]
    fn a_connection_comes_from_the_address_that_it_was_given() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let from = |source: &str, addresses: &[&str]| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
            let options = Options {
                source: Some(source.parse().unwrap()),
                ..Options::default()
            };
            connect(&addresses, port, options, soon(), &mut waiter().0)
        };
        let stream = from("127.0.0.2", &["::1", "127.0.0.1"]).unwrap();
        assert_eq!(stream.local_addr().unwrap().ip().to_string(), "127.0.0.2");
        for (source, addresses, why) in [
            ("127.0.0.2", &["::1"][..], "addresses of IPv6 only"),
            ("::1", &["127.0.0.1"], "addresses of IPv4 only"),
            ("127.0.0.2", &[], "has no address"),
            ("192.0.2.1", &["127.0.0.1"], "cannot connect from 192.0.2.1"),
        ] {
            match from(source, addresses) {
                Err(Interrupted::Failed(error)) => {
                    assert!(error.to_string().contains(why), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// An address where somebody listens, and one where nobody does, at the same port.
    fn somebody_and_nobody() -> (TcpListener, IpAddr, IpAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let nobody = Ipv4Addr::new(127, 0, 0, 77);
        (listener, Ipv4Addr::LOCALHOST.into(), nobody.into())
    }

    #[test]
    fn the_next_address_is_tried_where_one_refuses() {
        let (listener, somebody, nobody) = somebody_and_nobody();
        let port = listener.local_addr().unwrap().port();
        let options = Options::default();
        let addresses = [nobody, somebody];
        let stream = connect(&addresses, port, options, soon(), &mut waiter().0).unwrap();
        assert_eq!(stream.peer_addr().unwrap().ip(), somebody);
    }

    #[test]
    fn a_name_that_has_moved_is_found_where_it_is_now() {
        let (listener, somebody, nobody) = somebody_and_nobody();
        let answers = Mutex::new(vec![vec![nobody, somebody], vec![nobody]]);
        let resolver = Resolver::with(move |_| Ok(answers.lock().unwrap().pop().unwrap()));
        let connect = |address_ttl| {
            let place = Place {
                host: "moving",
                port: listener.local_addr().unwrap().port(),
                address_ttl,
            };
            let options = Options::default();
            connect_host(&resolver, place, options, soon(), &mut waiter().0)
        };
        match connect(Some(Duration::MAX)) {
            Err(ConnectError::Connect(Interrupted::Failed(error))) => {
                let expected = io::ErrorKind::ConnectionRefused;
                assert_eq!(error.kind(), expected, "it was looked up just now");
            }
            other => panic!("{other:?}"),
        }
        resolver.age("moving", Duration::from_secs(1));
        let stream = connect(Some(Duration::MAX)).unwrap();
        assert_eq!(stream.peer_addr().unwrap().ip(), somebody);
    }

    /// A Unix socket that listens, and takes this many connections before it is full.
    fn listener(backlog: i32) -> (OwnedFd, std::path::PathBuf) {
        let path = std::env::temp_dir().join(format!(
            "proxy-wstunnel-{}-{backlog}.sock",
            std::process::id()
        ));
        let _ = std::fs::remove_file(&path);
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&socket, backlog).unwrap();
        (socket, path)
    }

    #[test]
    fn a_unix_socket_that_is_full_is_waited_for_until_it_has_room() {
        let (listener, path) = listener(0);
        let (mut waiter, _) = waiter();
        let first = connect_unix(&path, soon(), &mut waiter).unwrap();
        assert_eq!(first.peer_addr().unwrap().as_pathname(), Some(&*path));
        let began = Instant::now();
        let too_late = began + Duration::from_millis(5);
        let outcome = connect_unix(&path, too_late, &mut waiter);
        assert!(matches!(outcome, Err(Interrupted::Deadline)), "{outcome:?}");
        assert!(Instant::now() >= too_late);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| connect_unix(&path, soon(), &mut waiter).is_ok());
            std::thread::sleep(Duration::from_millis(5));
            rustix::net::accept(&listener).unwrap();
            assert!(waits.join().unwrap());
        });
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn who_waits_for_a_unix_socket_is_told_to_stop() {
        let (_listener, path) = listener(1);
        let (mut waiter, cancel) = waiter();
        let _taken: Vec<UnixStream> = (0..2)
            .map(|_| connect_unix(&path, soon(), &mut waiter).unwrap())
            .collect();
        cancel.cancel();
        let outcome = connect_unix(&path, soon(), &mut waiter);
        assert!(
            matches!(outcome, Err(Interrupted::Cancelled)),
            "{outcome:?}"
        );
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_unix_socket_that_is_not_there_is_said_at_once() {
        let (mut waiter, _) = waiter();
        let mut failed = |path: &str| match connect_unix(Path::new(path), soon(), &mut waiter) {
            Err(Interrupted::Failed(error)) => error,
            other => panic!("{other:?}"),
        };
        assert_eq!(failed("/nowhere/app.sock").kind(), io::ErrorKind::NotFound);
        assert_eq!(failed("/dev/null").kind(), io::ErrorKind::ConnectionRefused);
        let long = format!("/{}", "x".repeat(108));
        assert!(failed(&long).raw_os_error().is_some());
    }
}
