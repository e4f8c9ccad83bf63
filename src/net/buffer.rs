//! Bytes of a head as they come in, and what is behind it.

use super::stream::Stream;
use super::wait::{Interrupted, Waiter};
use std::io::{self, Read};
use std::time::Instant;

/// First size of the buffer; most heads fit.
const HEAD: usize = 2048;

/// Bytes of a head as they come in. Its bound is the parser's: it refuses a head that is too long.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            filled: bytes.len(),
            bytes,
        }
    }
}

impl Buffer {
    /// What has come.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    /// Whether nothing has come that was not taken.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Makes room for so many bytes at a time.
    pub fn reserve(&mut self, bytes: usize) {
        if self.bytes.len() < bytes {
            self.bytes.resize(bytes, 0);
        }
    }

    /// Room for more, where there is none left.
    fn room(&mut self) -> &mut [u8] {
        if self.filled == self.bytes.len() {
            self.bytes.resize((2 * self.filled).max(HEAD), 0);
        }
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }

    /// As [`Stream::receive`], behind the bytes that are there.
    ///
    /// # Errors
    /// As there.
    pub fn receive(
        &mut self,
        stream: &mut Stream,
        deadline: Option<Instant>,
        waiter: &mut Waiter,
    ) -> Result<usize, Interrupted> {
        let received = stream.receive(self.room(), deadline, waiter)?;
        self.filled += received;
        Ok(received)
    }

    /// Reads once, without waiting.
    ///
    /// # Errors
    /// As [`Read::read`].
    pub fn fill(&mut self, stream: &mut Stream) -> io::Result<usize> {
        let received = stream.read(self.room())?;
        self.filled += received;
        Ok(received)
    }

    /// Drops the first `used` bytes.
    pub fn discard(&mut self, used: usize) {
        let used = used.min(self.filled);
        self.bytes.copy_within(used..self.filled, 0);
        self.filled -= used;
    }

    /// Takes all, and leaves no memory behind.
    pub fn take(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(self).into_bytes();
        bytes.shrink_to_fit();
        bytes
    }

    fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.filled);
        self.bytes
    }

    /// Takes what is behind the first `used` bytes.
    pub fn split_off(&mut self, used: usize) -> Vec<u8> {
        self.bytes
            .get(used..self.filled)
            .unwrap_or_default()
            .to_vec()
    }
}
