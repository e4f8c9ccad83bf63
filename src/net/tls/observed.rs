//! The socket below a session: what the library cannot be asked, and fewer system calls than it would make.
//!
//! The library reads the five bytes in front of a record, and then the record, and each from the socket. While it is lent
//! a buffer it has what comes in one read, for as many records as there are. It writes record by record; where it is
//! told that another one follows, the kernel is too, and sends them together.

use super::TlsError;
use super::lent::{Lent, RECORD};
use crate::net::stream::Socket;
use crate::net::wait::{Waiter, Want};
use rustix::net::{SendFlags, send};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

/// A socket that remembers what it last waited for, and whether it has ended. What was read from it already, the library
/// reads first.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) socket: Socket,
    read_already: Vec<u8>,
    lent: Option<Lent>,
    pub(super) blocked_on: Want,
    pub(super) ended: bool,
    /// What is written next is not the last.
    more_follows: bool,
    /// The kernel may wait with what it has until more follows.
    is_held_back: bool,
}

impl Observed {
    /// It is lent a buffer for the handshake.
    pub(super) fn new(socket: Socket, read_already: Vec<u8>) -> Self {
        Self {
            socket,
            read_already,
            lent: Lent::new(RECORD),
            blocked_on: Want::Read,
            ended: false,
            more_follows: false,
            is_held_back: false,
        }
    }

    /// Waits for what the library waits for.
    pub(super) fn wait(
        &mut self,
        deadline: Option<Instant>,
        waiter: &mut Waiter,
    ) -> Result<(), TlsError> {
        self.take_back();
        let socket = (self.socket.as_fd(), self.blocked_on);
        let woken = waiter.wait([socket], deadline);
        self.lend(RECORD);
        woken.map(drop).map_err(TlsError::Interrupted)
    }

    /// From now on, until it is taken back, there is a buffer for what comes and is read into `room` bytes. Where memory is
    /// short there is none, and the library asks the socket itself.
    pub(super) fn lend(&mut self, room: usize) {
        match &mut self.lent {
            Some(kept) => kept.asks_no_more = false,
            None => self.lent = Lent::new(room),
        }
    }

    /// Takes the buffer back. What is in it will be read first; where no memory is left for that, it is not taken back.
    pub(super) fn take_back(&mut self) {
        let Some(lent) = self.lent.take() else { return };
        match self.read_already.try_reserve_exact(lent.bytes().len()) {
            Ok(()) => self.read_already.extend_from_slice(lent.bytes()),
            Err(_) => self.lent = Some(lent),
        }
    }

    /// From now on the socket is not asked for more than is here, until the buffer is taken back: it would block.
    pub(super) fn ask_no_more(&mut self) {
        if let Some(lent) = &mut self.lent {
            lent.asks_no_more = true;
        }
    }

    /// Whether nothing is left here.
    pub(super) fn is_empty(&self) -> bool {
        let is_empty = self
            .lent
            .as_ref()
            .is_none_or(|lent| lent.bytes().is_empty());
        is_empty && self.read_already.is_empty()
    }

    /// Whether the last read through the buffer has taken all that the socket had.
    pub(super) fn is_dry(&self) -> bool {
        self.lent.as_ref().is_some_and(Lent::is_dry)
    }

    /// Whether what is written from now on is to be sent together with what follows it.
    pub(super) fn hold_back(&mut self, more_follows: bool) {
        self.more_follows = more_follows;
    }

    fn note(&mut self, want: Want, outcome: io::Result<usize>) -> io::Result<usize> {
        if let Err(error) = &outcome
            && error.kind() == io::ErrorKind::WouldBlock
        {
            self.blocked_on = want;
        }
        outcome
    }
}

impl Read for Observed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.read_already.is_empty() {
            let length = self.read_already.as_slice().read(buffer)?;
            self.read_already.drain(..length);
            if self.read_already.is_empty() {
                self.read_already = Vec::new();
            }
            return Ok(length);
        }
        let outcome = match &mut self.lent {
            Some(lent) => lent.read(&mut self.socket, buffer),
            None => self.socket.read(buffer),
        };
        self.ended |= matches!(outcome, Ok(0)) && !buffer.is_empty();
        self.note(Want::Read, outcome)
    }
}

impl Write for Observed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = match &self.socket {
            Socket::Tcp(tcp) if self.more_follows => {
                send(tcp, bytes, SendFlags::MORE | SendFlags::NOSIGNAL).map_err(io::Error::from)
            }
            _ => self.socket.write(bytes),
        };
        match (&outcome, &self.socket) {
            (Ok(_), _) => self.is_held_back = self.more_follows,
            // Nothing follows for now, and nothing of what is there may wait for it.
            (Err(_), Socket::Tcp(tcp)) if self.is_held_back => {
                self.is_held_back = false;
                let _ = tcp.set_nodelay(true);
            }
            _ => {}
        }
        self.note(Want::Write, outcome)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
