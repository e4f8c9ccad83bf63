//! Connecting to a backend by a deadline.

use super::listen::set_leg_options;
use super::wait::{Interrupted, Waiter, Want};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, connect as start, getpeername, socket_with, sockopt,
};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Instant;

/// Connects to the first of `addresses` that answers. Each gets an equal share of the time that is left, so
/// that one that swallows packets does not use up the time of the others.
///
/// # Errors
/// Why the last address failed.
pub fn connect(
    addresses: &[IpAddr],
    port: u16,
    deadline: Instant,
    waiter: &mut Waiter,
) -> Result<TcpStream, Interrupted> {
    let mut failure = Interrupted::Failed(io::Error::new(
        io::ErrorKind::NotFound,
        "the name has no address",
    ));
    for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let now = Instant::now();
        let share =
            deadline.saturating_duration_since(now) / u32::try_from(left).unwrap_or(u32::MAX);
        match connect_to(SocketAddr::new(*address, port), now + share, waiter) {
            Ok(stream) => return Ok(stream),
            Err(Interrupted::Cancelled) => return Err(Interrupted::Cancelled),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn connect_to(
    address: SocketAddr,
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
    set_leg_options(&socket)?;
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
