//! What is borrowed for one turn: an idle tunnel has no buffer, and a few serve all that are busy.

use super::pipe::Pipes;
use crate::sys;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io;
use std::num::NonZero;
use std::thread;

/// What leaves as one segment over loopback, whose segments hold 65,483 bytes: a small second one would double what
/// TCP spends.
pub(super) const SEGMENT: usize = 64 * 1024 - 64;
/// Bytes in one buffer: what one read takes at the most, and so what a tunnel holds at the most for a slow reader.
const SCRATCH: usize = 2 * SEGMENT;
/// Bytes in a buffer for who is out of memory: bytes move still.
const MEAGRE: usize = 4 * 1024;
/// Buffers that are kept for each processor while nobody needs them: for a thread that runs, and for one that was
/// interrupted in the midst of its turn. Who finds none pays for a new one with each message.
const KEPT: usize = 2;

/// A pool of buffers of nearly 128 KiB each, and of pipes. It waits for nobody: when it is empty, a buffer is made.
#[derive(Debug)]
pub struct ScratchPool {
    put: Sender<Box<[u8]>>,
    take: Receiver<Box<[u8]>>,
    pipes: Pipes,
}

/// What a turn works with.
#[derive(Debug)]
pub(super) struct Scratch<'a> {
    pub(super) buffer: Box<[u8]>,
    pub(super) pipes: &'a Pipes,
}

impl Default for ScratchPool {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let (put, take) = bounded(KEPT * processors);
        Self {
            put,
            take,
            pipes: Pipes::default(),
        }
    }
}

impl ScratchPool {
    /// Takes a buffer out, for as long as bytes are moved.
    ///
    /// # Errors
    /// Out of memory.
    pub(super) fn take(&self) -> io::Result<Scratch<'_>> {
        let buffer = match self.take.try_recv() {
            Ok(buffer) => buffer,
            Err(_) => sys::zeros(SCRATCH).or_else(|_| sys::zeros(MEAGRE))?,
        };
        let pipes = &self.pipes;
        Ok(Scratch { buffer, pipes })
    }

    /// Puts a buffer back.
    pub(super) fn give_back(&self, buffer: Box<[u8]>) {
        if buffer.len() == SCRATCH {
            // Where there are enough of them, it is one less.
            let _ = self.put.try_send(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_turns_for_each_processor_find_a_buffer_that_was_there() {
        let pool = ScratchPool::default();
        let at_once = 2 * thread::available_parallelism().unwrap().get();
        let mut borrowed: Vec<_> = (0..at_once).map(|_| pool.take().unwrap().buffer).collect();
        for mut buffer in borrowed.drain(..) {
            // A new one would be zero.
            buffer[0] = 1;
            pool.give_back(buffer);
        }
        borrowed.extend((0..at_once).map(|_| pool.take().unwrap().buffer));
        assert!(borrowed.iter().all(|buffer| buffer[0] == 1));
    }
}
