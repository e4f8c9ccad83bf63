//! Buffers that are borrowed for one turn. An idle tunnel has none, and a few serve all that are busy.

use crossbeam_channel::{Receiver, Sender, bounded};

/// Bytes in one buffer: what one read takes at the most, and so what a tunnel holds at the most for a slow reader.
const SCRATCH: usize = 64 * 1024;
/// Buffers that are kept while nobody needs them.
const KEPT: usize = 4;

/// A pool of buffers of 64 KiB each. It waits for nobody: when it is empty, a buffer is made.
#[derive(Debug, Clone)]
pub struct ScratchPool {
    put: Sender<Box<[u8]>>,
    take: Receiver<Box<[u8]>>,
}

impl Default for ScratchPool {
    fn default() -> Self {
        let (put, take) = bounded(KEPT);
        Self { put, take }
    }
}

impl ScratchPool {
    /// Takes a buffer out, for as long as bytes are moved.
    pub(super) fn take(&self) -> Box<[u8]> {
        self.take
            .try_recv()
            .unwrap_or_else(|_| vec![0; SCRATCH].into_boxed_slice())
    }

    /// Puts a buffer back.
    pub(super) fn give_back(&self, buffer: Box<[u8]>) {
        // Where there are enough of them, it is one less.
        let _ = self.put.try_send(buffer);
    }
}
