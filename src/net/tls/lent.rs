//! Buffers for what comes from sockets in TLS: lent for as long as a session reads, so that an idle one holds none.

use crate::net::stream::Socket;
use crate::sys;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io::{self, Read};
use std::num::NonZero;
use std::ops::Range;
use std::sync::LazyLock;
use std::thread;

/// The bytes of a full record, in plain text.
pub(super) const RECORD: usize = 16 * 1024;
/// Bytes in one buffer: what one read takes at the most.
const SIZE: usize = 4 * RECORD;
/// Buffers that are kept for each processor while nobody needs them: for a thread that runs, and for one that was
/// interrupted in the midst of its read.
const KEPT: usize = 2;

/// Those that nobody needs now.
static SHELF: LazyLock<Shelf> = LazyLock::new(|| {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let (put, take) = bounded(KEPT * processors);
    Shelf { put, take }
});

struct Shelf {
    put: Sender<Box<[u8]>>,
    take: Receiver<Box<[u8]>>,
}

/// A buffer, and what of it is filled. It goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Lent {
    buffer: Box<[u8]>,
    filled: Range<usize>,
    /// Bytes that a read takes at the most.
    most: usize,
    /// The last read has taken all that there was.
    is_dry: bool,
    pub(super) asks_no_more: bool,
}

impl Drop for Lent {
    fn drop(&mut self) {
        // One that was made for less room stays with nobody. Where there are enough of them, it is one less.
        if self.buffer.len() == SIZE {
            let _ = SHELF.put.try_send(std::mem::take(&mut self.buffer));
        }
    }
}

impl Lent {
    /// For a read into `room` bytes: takes no more than what becomes of it has room for, beside a record whose beginning is
    /// there already; so that, as a rule, nothing is left over. None is to be had where memory is short.
    pub(super) fn new(room: usize) -> Option<Self> {
        let most = if room > 2 * RECORD {
            room - RECORD
        } else {
            room
        };
        let most = most.min(SIZE);
        let buffer = match SHELF.take.try_recv() {
            Ok(buffer) => buffer,
            Err(_) => sys::zeros(most).ok()?,
        };
        Some(Self {
            buffer,
            filled: 0..0,
            most,
            is_dry: false,
            asks_no_more: false,
        })
    }

    /// What has come and was not yet given.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.filled.clone()).unwrap_or_default()
    }

    /// Whether the last read has taken all that there was.
    pub(super) fn is_dry(&self) -> bool {
        self.is_dry
    }

    /// As [`Read::read`] of the socket, through the buffer.
    pub(super) fn read(&mut self, socket: &mut Socket, buffer: &mut [u8]) -> io::Result<usize> {
        if self.filled.is_empty() {
            if self.asks_no_more {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let room = self.buffer.get_mut(..self.most).unwrap_or_default();
            let length = socket.read(room)?;
            // An end is told as often as it is asked for. In the Unix domain a read may also have stopped at bytes that a
            // descriptor came with.
            let is_short = (1..room.len()).contains(&length);
            self.is_dry = is_short && matches!(socket, Socket::Tcp(_));
            self.filled = 0..length;
        }
        let length = self.bytes().read(buffer)?;
        self.filled.start += length;
        Ok(length)
    }
}
