//! What is borrowed for one turn: an idle tunnel has no buffer, and a few serve all that are busy.

use super::pipe::Pipes;
use crossbeam_channel::{Receiver, Sender, bounded};

/// What leaves as one segment over loopback, whose segments hold 65,483 bytes: a small second one would double what
/// TCP spends.
pub(super) const SEGMENT: usize = 64 * 1024 - 64;
/// Bytes in one buffer: what one read takes at the most, and so what a tunnel holds at the most for a slow reader.
const SCRATCH: usize = 2 * SEGMENT;
/// Buffers that are kept while nobody needs them.
const KEPT: usize = 4;

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
        let (put, take) = bounded(KEPT);
        Self {
            put,
            take,
            pipes: Pipes::default(),
        }
    }
}

impl ScratchPool {
    /// Takes a buffer out, for as long as bytes are moved.
    pub(super) fn take(&self) -> Scratch<'_> {
        let buffer = self.take.try_recv();
        Scratch {
            buffer: buffer.unwrap_or_else(|_| vec![0; SCRATCH].into_boxed_slice()),
            pipes: &self.pipes,
        }
    }

    /// Puts a buffer back.
    pub(super) fn give_back(&self, buffer: Box<[u8]>) {
        // Where there are enough of them, it is one less.
        let _ = self.put.try_send(buffer);
    }
}
