//! What a client has not taken yet of an answer.

use crate::http::body;
use crate::http::headers::Headers;
use crate::net::wait::is_momentary;
use std::io::{self, ErrorKind, Write};
use std::time::Instant;

/// How many bytes that a client has not taken are held while the backend goes on; then it waits, too.
pub(super) const HELD: usize = 64 * 1024;

/// Bytes for a client, in their order.
#[derive(Debug)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// The client has got some, so that there can be no other answer.
    has_begun: bool,
    /// When the client last took something, or had nothing to take.
    moved: Instant,
}

impl Outgoing {
    /// What begins with these.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            sent: 0,
            has_begun: false,
            moved: Instant::now(),
        }
    }

    /// Whether the client has got some of it.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Since when the client has taken nothing of what there is.
    pub(super) fn stands_since(&self) -> Instant {
        self.moved
    }

    /// What waits.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// How much that is.
    pub(super) fn waiting(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Adds a piece of a body as it is.
    pub(super) fn hold(&mut self, payload: &[u8]) {
        self.begin_to_wait();
        self.bytes.extend_from_slice(payload);
    }

    /// Adds one as a chunk.
    pub(super) fn hold_chunk(&mut self, payload: &[u8]) {
        self.begin_to_wait();
        body::push_chunk(payload, &mut self.bytes);
    }

    /// Adds what ends chunks.
    pub(super) fn hold_end(&mut self, trailers: &Headers) {
        self.begin_to_wait();
        body::push_end(trailers, &mut self.bytes);
    }

    fn begin_to_wait(&mut self) {
        if self.waiting() == 0 {
            self.moved = Instant::now();
        }
    }

    /// Writes what is taken at once. Says how much that was, also where it then failed.
    pub(super) fn write_to(&mut self, client: &mut impl Write) -> (u64, io::Result<()>) {
        let mut total = 0;
        while let Some(rest @ [_, ..]) = self.bytes.get(self.sent..) {
            match client.write(rest) {
                Ok(written) => {
                    self.sent += written;
                    total += written as u64;
                    self.took();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // A client that never quite catches up must not have us hold all that it has taken.
                    if self.sent >= HELD {
                        self.bytes.drain(..self.sent);
                        self.sent = 0;
                    }
                    return (total, Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (total, Err(error)),
            }
        }
        self.bytes.clear();
        self.sent = 0;
        (total, Ok(()))
    }

    /// Writes `payload` behind what waits, and holds only what is not taken at once. Says what [`Self::write_to`] says.
    pub(super) fn write_through(
        &mut self,
        payload: &[u8],
        client: &mut impl Write,
    ) -> (u64, io::Result<()>) {
        let (total, outcome) = self.write_to(client);
        if outcome.is_err() || self.waiting() > 0 {
            self.hold(payload);
            return (total, outcome);
        }
        let written = match client.write(payload) {
            Ok(written) => {
                self.took();
                written
            }
            Err(error) if is_momentary(&error) => 0,
            Err(error) => return (total, Err(error)),
        };
        self.hold(payload.get(written..).unwrap_or_default());
        (total + written as u64, Ok(()))
    }

    fn took(&mut self) {
        self.has_begun = true;
        self.moved = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, and then none until it is asked again.
    struct Slow {
        takes: usize,
        taken: Vec<u8>,
        is_full: bool,
    }

    impl Slow {
        fn taking(takes: usize) -> Self {
            Self {
                takes,
                taken: Vec::new(),
                is_full: false,
            }
        }
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.is_full = !self.is_full;
            if !self.is_full {
                return Err(ErrorKind::WouldBlock.into());
            }
            let taken = bytes.get(..self.takes).unwrap_or(bytes);
            self.taken.extend_from_slice(taken);
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_client_has_taken_is_not_held_although_it_never_catches_up() {
        const PIECE: usize = 1000;
        let mut expected = vec![0; HELD - PIECE];
        let mut out = Outgoing::new(expected.clone());
        let mut client = Slow::taking(PIECE);
        for round in 0..1000_u32 {
            let piece = round.to_le_bytes().repeat(PIECE / 4);
            out.hold(&piece);
            expected.extend_from_slice(&piece);
            let (written, outcome) = out.write_to(&mut client);
            assert_eq!(written, PIECE as u64);
            assert!(outcome.is_ok() && out.has_begun());
            assert!(out.bytes.len() <= 2 * HELD, "{} bytes", out.bytes.len());
        }
        client.takes = usize::MAX;
        assert!(out.write_to(&mut client).1.is_ok());
        assert!(client.taken == expected, "in order, and each once");
    }

    #[test]
    fn what_is_written_through_stays_in_its_order() {
        for takes in [1, 3, 7, 100] {
            let mut out = Outgoing::new(b"head".to_vec());
            let mut client = Slow::taking(takes);
            let mut expected = b"head".to_vec();
            for round in 0..50_u8 {
                let payload = [round; 5];
                expected.extend_from_slice(&payload);
                assert!(out.write_through(&payload, &mut client).1.is_ok());
                assert_eq!(client.taken.len() + out.waiting(), expected.len());
            }
            let rest = out.rest().to_vec();
            assert_eq!([client.taken, rest].concat(), expected, "{takes} at a time");
        }
    }

    #[test]
    fn nothing_has_begun_before_the_first_byte_is_taken() {
        let mut out = Outgoing::new(b"head".to_vec());
        let mut client = Slow::taking(1);
        client.is_full = true;
        assert_eq!(out.write_to(&mut client).0, 0);
        assert!(!out.has_begun());
        assert_eq!(out.write_to(&mut client).0, 1);
        assert!(out.has_begun());
    }
}
