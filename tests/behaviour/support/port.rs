//! Ports for programs that cannot say which one the kernel chose.

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};
use std::net::{IpAddr, SocketAddr};

/// A port that is kept free: bound, and not listened on. A program that sets `SO_REUSEADDR`, as servers do, can listen
/// there; nobody gets it from the kernel as long as this lives.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _socket: OwnedFd,
}

impl Port {
    /// A port of this address of the machine.
    pub fn at(ip: IpAddr) -> Self {
        let family = match ip {
            IpAddr::V4(_) => AddressFamily::INET,
            IpAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = socket(family, SocketType::STREAM, None).expect("a socket");
        sockopt::set_socket_reuseaddr(&socket, true).expect("SO_REUSEADDR");
        bind(&socket, &SocketAddr::new(ip, 0)).expect("a port");
        let address = getsockname(&socket).expect("an address");
        Self {
            address: address.try_into().expect("an address"),
            _socket: socket,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
