//! Listening sockets.

use rustix::net::{
    AddressFamily, SocketAddrAny, SocketFlags, SocketType, acceptfrom_with, bind, getsockname,
    listen, socket_with, sockopt,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Keep-alive probes of a silent connection begin after this, so that a dead peer is found within two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Time between probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered probes until the peer counts as dead.
const KEEPALIVE_PROBES: u32 = 4;

/// What every leg's TCP socket is: small messages leave at once, and with `keepalive` a peer that is gone is found.
pub(super) fn set_leg_options(socket: &OwnedFd, keepalive: bool) -> io::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    // Urgent data is a byte of the stream like any other; else it would be taken out of it.
    sockopt::set_socket_oobinline(socket, true)?;
    if !keepalive {
        return Ok(());
    }
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    Ok(())
}

/// A bound socket that listens.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    address: SocketAddr,
    asked: Asked,
}

/// What was to be listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// None: every address of the machine, IPv6 and IPv4 alike.
    pub address: Option<IpAddr>,
    /// 0: the kernel chooses one.
    pub port: u16,
}

/// A connection as accepted.
#[derive(Debug)]
pub struct Connection {
    /// The client's socket, non-blocking.
    pub stream: TcpStream,
    /// The client's address.
    pub client: SocketAddr,
    /// Our address, as the client reached it.
    pub local: SocketAddr,
}

impl Listener {
    /// Binds and listens; without an address on IPv4 alone where the system has no IPv6. httpd: `Listen`,
    /// `ListenBacklog`.
    ///
    /// `going`: listeners that are soon to be closed, and do not keep this one from the same port.
    ///
    /// # Errors
    /// What the system said: the address is in use, is not ours, or takes a privilege.
    pub fn bind(asked: Asked, backlog: i32, going: &[Arc<Self>]) -> io::Result<Self> {
        let is_near = |listener: &&Arc<Self>| listener.address.port() == asked.port;
        let going: Vec<&Arc<Self>> = going.iter().filter(is_near).collect();
        let share = |is_shared| {
            let mut going = going.iter();
            going.try_for_each(|it| sockopt::set_socket_reuseport(&it.socket, is_shared))
        };
        let bind_to =
            |address| Self::bind_to(asked, SocketAddr::new(address, asked.port), backlog, &going);
        share(true)?;
        let bound = match asked.address {
            Some(address) => bind_to(address),
            None => bind_to(Ipv6Addr::UNSPECIFIED.into()).or_else(|error| {
                if matches!(error.raw_os_error(), Some(code) if no_ipv6(code)) {
                    return bind_to(Ipv4Addr::UNSPECIFIED.into());
                }
                Err(error)
            }),
        };
        // Something else may fail, and then they stay.
        share(false)?;
        bound
    }

    fn bind_to(
        asked: Asked,
        address: SocketAddr,
        backlog: i32,
        going: &[&Arc<Self>],
    ) -> io::Result<Self> {
        let family = if address.is_ipv6() {
            AddressFamily::INET6
        } else {
            AddressFamily::INET
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        // Connections of a predecessor that still close do not keep us from starting.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        sockopt::set_socket_reuseport(&socket, !going.is_empty())?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
        }
        // Accepted sockets inherit these: six system calls less for each.
        set_leg_options(&socket, true)?;
        bind(&socket, &address)?;
        listen(&socket, backlog)?;
        // Nobody else is to share it.
        sockopt::set_socket_reuseport(&socket, false)?;
        let address = getsockname(&socket)?.try_into()?;
        Ok(Self {
            socket,
            address,
            asked,
        })
    }

    /// Where somebody else's socket listens.
    ///
    /// # Errors
    /// Why it is none of ours: it does not listen for TCP connections.
    pub fn address_of(socket: &OwnedFd) -> io::Result<SocketAddr> {
        if sockopt::socket_type(socket)? != SocketType::STREAM {
            return Err(io::Error::other("it is not a stream socket"));
        }
        if !sockopt::socket_acceptconn(socket)? {
            return Err(io::Error::other("it does not listen"));
        }
        let address = getsockname(socket)?.try_into();
        address.map_err(|_| io::Error::other("it has no IP address"))
    }

    /// Takes over a socket that listens already, for what was `asked` for: it may be bound to something else.
    ///
    /// # Errors
    /// What the system said, or why it is none of ours.
    pub fn adopt(asked: Asked, socket: OwnedFd, backlog: i32) -> io::Result<Self> {
        let address = Self::address_of(&socket)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        set_leg_options(&socket, true)?;
        listen(&socket, backlog)?;
        Ok(Self {
            socket,
            address,
            asked,
        })
    }

    /// What it was bound for.
    pub fn asked(&self) -> Asked {
        self.asked
    }

    /// Lets so many connections wait from now on that nobody has accepted. httpd: `ListenBacklog`.
    ///
    /// # Errors
    /// As listen(2) has them.
    pub fn set_backlog(&self, backlog: i32) -> io::Result<()> {
        Ok(listen(&self.socket, backlog)?)
    }

    /// The address with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the next connection.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; others as accept(2) has them.
    pub fn accept(&self) -> io::Result<Connection> {
        let (socket, peer) =
            acceptfrom_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
        let client = peer.map(SocketAddr::try_from).transpose()?.map(unmapped);
        // Where we listen on one address it is the local one; only a wildcard has to ask.
        let local = if self.address.ip().is_unspecified() {
            getsockname(&socket).and_then(|a: SocketAddrAny| SocketAddr::try_from(a))?
        } else {
            self.address
        };
        Ok(Connection {
            stream: socket.into(),
            client: client.unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into()),
            local: unmapped(local),
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The IPv4 address of a client that came in through an IPv6 socket.
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn no_ipv6(code: i32) -> bool {
    [
        rustix::io::Errno::AFNOSUPPORT,
        rustix::io::Errno::ADDRNOTAVAIL,
    ]
    .map(rustix::io::Errno::raw_os_error)
    .contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_was_to_go_stays_as_it_was() {
        let bind = |address: &str, port, going: &[Arc<Listener>]| {
            let address = Some(address.parse().unwrap());
            Listener::bind(Asked { address, port }, 8, going)
        };
        let is_shared = |it: &Listener| sockopt::socket_reuseport(&it.socket).unwrap();
        let one = Arc::new(bind("127.0.0.1", 0, &[]).unwrap());
        let port = one.address().port();
        assert!(bind("0.0.0.0", port, &[]).is_err());
        let all = bind("0.0.0.0", port, std::slice::from_ref(&one)).unwrap();
        assert!(!is_shared(&one) && !is_shared(&all));
        // 192.0.2.0/24 is nobody's: RFC 5737.
        assert!(bind("192.0.2.1", port, std::slice::from_ref(&one)).is_err());
        assert!(!is_shared(&one));
    }
}
