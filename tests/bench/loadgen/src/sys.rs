//! Thin wrappers over the few system calls that std does not offer.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

pub use libc::epoll_event;

/// One registration per socket for its whole life: edge triggered, both ways.
pub const EDGE: u32 = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
pub const READABLE: u32 = libc::EPOLLIN as u32;
pub const WRITABLE: u32 = libc::EPOLLOUT as u32;
/// The peer has finished (or broken) the connection: read on until its end.
pub const HANGUP: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

pub struct Epoll(OwnedFd);

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Self(owned(fd)))
    }

    pub fn add(&self, fd: RawFd, token: u64, events: u32) -> io::Result<()> {
        let mut event = epoll_event { events, u64: token };
        // SAFETY: the event lives for the length of the call, and the kernel copies it.
        check(unsafe {
            libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event)
        })?;
        Ok(())
    }

    /// Number of events stored in `events`; 0 when the time is up (`None`: it never is), or on a signal.
    pub fn wait(&self, events: &mut [epoll_event], timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.map_or(-1, |timeout| timeout.as_millis() as i32);
        let room = events.len() as i32;
        // SAFETY: the kernel writes at most `room` events to where that many lie.
        let n = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), room, timeout) };
        match check(n) {
            Ok(n) => Ok(n as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// Room for the events of one wait.
pub fn no_events() -> Vec<epoll_event> {
    vec![epoll_event { events: 0, u64: 0 }; 512]
}

/// Starts a non-blocking connection from `source` (any port: it is chosen late, so that each source address has the
/// whole range of ephemeral ports to itself).
pub fn connect(source: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream> {
    let fd = socket()?;
    set_option(&fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    set_option(&fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    bind(&fd, SocketAddrV4::new(source, 0))?;
    let (address, length) = sockaddr(to);
    // SAFETY: the address lives for the length of the call, and `length` is its size.
    let result =
        check(unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), length) });
    match result {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from(fd)),
    }
}

/// A non-blocking listener with a deep accept queue; `share`: one of several on its address.
pub fn listen(address: SocketAddrV4, share: bool) -> io::Result<TcpListener> {
    let fd = socket()?;
    set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, share.into())?;
    bind(&fd, address)?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::listen(fd.as_raw_fd(), 4096) })?;
    Ok(TcpListener::from(fd))
}

/// Accepts one connection, non-blocking and without Nagle's delay.
pub fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (socket, _) = listener.accept()?;
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Raises the limit of open files as far as this process may.
pub fn raise_limit_of_files() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit lives for the length of the call.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as before; the kernel only reads it.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}

/// CPU time that a process has used in all its threads, those that have ended included; 0 if there is none.
pub fn process_time(pid: i32) -> Duration {
    // clock_getcpuclockid, which is defined to be this on Linux.
    const CPUCLOCK_SCHED: i32 = 2;
    let clock = ((!pid) << 3) | CPUCLOCK_SCHED;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the time lives for the length of the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Duration::ZERO;
    }
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The unit of times in /proc.
pub fn tick() -> Duration {
    // SAFETY: no memory is passed.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs(1) / per_second as u32
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: each caller has just got it from the kernel, and keeps no copy.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is passed.
    Ok(owned(check(unsafe {
        libc::socket(libc::AF_INET, kind, 0)
    })?))
}

fn set_option(fd: &OwnedFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: the value lives for the length of the call, and `length` is its size.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            length,
        )
    })?;
    Ok(())
}

fn bind(fd: &OwnedFd, address: SocketAddrV4) -> io::Result<()> {
    let (address, length) = sockaddr(address);
    // SAFETY: the address lives for the length of the call, and `length` is its size.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(())
}

fn sockaddr(address: SocketAddrV4) -> (libc::sockaddr_in, libc::socklen_t) {
    let sockaddr = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(address.ip().octets()),
        },
        sin_zero: [0; 8],
    };
    (sockaddr, mem::size_of_val(&sockaddr) as libc::socklen_t)
}
