//! One leg's byte stream, plain or in TLS, and what is done with it before the tunnel.

use super::tls::TlsStream;
use super::wait::{Interrupted, Waiter, Want};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a closing connection may still send what nobody will read. httpd: lingering close, 2 s of silence.
pub const LINGER: Duration = Duration::from_secs(2);

/// A connected, non-blocking socket.
#[derive(Debug)]
pub enum Socket {
    /// Of TCP.
    Tcp(TcpStream),
    /// Of the Unix domain.
    Unix(UnixStream),
}

/// Who is at the other end of a socket, for people and for comparing.
#[derive(Debug)]
pub struct Peer<'a>(&'a Socket);

impl Socket {
    /// Who is at the other end.
    pub fn peer(&self) -> Peer<'_> {
        Peer(self)
    }

    /// Ends our direction.
    ///
    /// # Errors
    /// As shutdown(2) has them.
    pub fn shut_down_writing(&self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.shutdown(Shutdown::Write),
            Self::Unix(unix) => unix.shutdown(Shutdown::Write),
        }
    }
}

impl fmt::Display for Peer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Socket::Tcp(tcp) => match tcp.peer_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => Ok(()),
            },
            Socket::Unix(unix) => match unix.peer_addr() {
                Ok(address) => write!(f, "{address:?}"),
                Err(_) => Ok(()),
            },
        }
    }
}

impl From<TcpStream> for Socket {
    fn from(tcp: TcpStream) -> Self {
        Self::Tcp(tcp)
    }
}

impl From<UnixStream> for Socket {
    fn from(unix: UnixStream) -> Self {
        Self::Unix(unix)
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.read(buffer),
            Self::Unix(unix) => unix.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.write(bytes),
            Self::Unix(unix) => unix.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Unix(unix) => unix.as_fd(),
        }
    }
}

/// A non-blocking byte stream.
#[derive(Debug)]
pub enum Stream {
    /// The bare socket.
    Plain(Socket),
    /// TLS over a socket.
    Tls(Box<TlsStream>),
}

impl<S: Into<Socket>> From<S> for Stream {
    fn from(socket: S) -> Self {
        Self::Plain(socket.into())
    }
}

impl Stream {
    /// Whether no bytes wait inside of this program, where no event tells of them.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Whether a read that has filled only a part of the buffer has taken all there was. In the Unix domain it may also have
    /// stopped at bytes that a descriptor came with.
    pub fn short_read_drains(&self) -> bool {
        match self {
            Self::Plain(socket) => matches!(socket, Socket::Tcp(_)),
            Self::Tls(tls) => tls.is_drained(),
        }
    }

    /// The socket, where its bytes are the stream's bytes.
    pub fn plain_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Plain(socket) => Some(socket.as_fd()),
            Self::Tls(_) => None,
        }
    }

    /// The bare socket once more, for who speaks over it from now on.
    ///
    /// # Errors
    /// Where the stream is none, or no descriptor is left.
    pub fn plain_clone(&self) -> io::Result<Socket> {
        match self {
            Self::Plain(Socket::Tcp(tcp)) => tcp.try_clone().map(Socket::Tcp),
            Self::Plain(Socket::Unix(unix)) => unix.try_clone().map(Socket::Unix),
            Self::Tls(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// The address of the other side, where it has one.
    pub fn peer(&self) -> Option<IpAddr> {
        match self.socket() {
            Socket::Tcp(tcp) => Some(tcp.peer_addr().ok()?.ip()),
            Socket::Unix(_) => None,
        }
    }

    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.socket(),
        }
    }

    /// What the last operation that would have blocked waits for: a TLS read may wait for room to write.
    fn blocked_on(&self, operation: Want) -> Want {
        match self {
            Self::Plain(_) => operation,
            Self::Tls(tls) => tls.blocked_on(),
        }
    }

    /// What to wait for before the next read.
    pub fn waits_to_read(&self) -> (BorrowedFd<'_>, Want) {
        (self.as_fd(), self.blocked_on(Want::Read))
    }

    /// What to wait for before the next write.
    pub fn waits_to_write(&self) -> (BorrowedFd<'_>, Want) {
        (self.as_fd(), self.blocked_on(Want::Write))
    }

    /// What to wait for where a read, and behind it a write, would have blocked.
    pub fn waits_for_both(&self) -> (BorrowedFd<'_>, Want) {
        match self.waits_to_write() {
            (fd, Want::Write | Want::Either) => (fd, Want::Either),
            // In TLS a write may wait for what the peer has to say; room to write would wake nobody but us.
            waits_for_peer => waits_for_peer,
        }
    }

    /// Whether the stream has ended without the peer having said so in TLS: anybody on the way may have ended it.
    pub fn was_cut(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.was_cut(),
        }
    }

    /// Says that nothing more comes, where the end of the connection alone does not: in TLS.
    pub fn take_leave(&mut self) {
        // Who has no room for this either will not wait for it.
        let _ = self.say_end();
    }

    fn say_end(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.close_notify(),
        }
    }

    /// Ends the direction towards the peer: its reads come to an end, ours do not.
    ///
    /// # Errors
    /// It would block, in TLS, as there is no room to say so. Nothing has been ended then.
    pub fn finish(&mut self) -> io::Result<()> {
        self.say_end()?;
        // A peer that has already gone cannot be told.
        let _ = self.socket().shut_down_writing();
        Ok(())
    }

    /// The same, and waits for room until `deadline`, after which the peer sees an end that it was not told of.
    pub fn finish_by(&mut self, deadline: Instant, waiter: &mut Waiter) {
        while self.finish().is_err() {
            if waiter
                .wait([self.waits_to_write()], Some(deadline))
                .is_err()
            {
                return self.cut();
            }
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// [`Interrupted`]; how much was written before is then unknown.
    pub fn send_all(
        &mut self,
        mut bytes: &[u8],
        deadline: Instant,
        waiter: &mut Waiter,
    ) -> Result<(), Interrupted> {
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(0) => return Err(Interrupted::Failed(io::ErrorKind::WriteZero.into())),
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    waiter.wait([self.waits_to_write()], Some(deadline))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Interrupted::Failed(error)),
            }
        }
        Ok(())
    }

    /// Reads what there is, and waits for it if need be. 0 is the end of the stream.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        deadline: Option<Instant>,
        waiter: &mut Waiter,
    ) -> Result<usize, Interrupted> {
        loop {
            match self.read(buffer) {
                Ok(received) => return Ok(received),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    waiter.wait([self.waits_to_read()], deadline)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Interrupted::Failed(error)),
            }
        }
    }

    /// As [`finish`](Self::finish), but that what was sent is not whole: in TLS the peer can tell by what it is not told.
    pub fn cut(&mut self) {
        let _ = self.socket().shut_down_writing();
    }

    /// Closes once it has been said that nothing more comes: discards input until the peer has closed too, for at most
    /// `limit`. To close with unread input would reset the connection, and what was sent last with it.
    pub fn close_lingering(mut self, limit: Duration, waiter: &mut Waiter) {
        let deadline = Instant::now() + limit;
        // Not on the stack: each worker would pay for it with pages that it never uses again.
        let mut discarded = vec![0; 2048];
        while Instant::now() < deadline {
            match self.receive(&mut discarded, Some(deadline), waiter) {
                Ok(received) if received > 0 => {}
                _ => break,
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}
