//! Pipes through which the kernel passes bulk data from socket to socket without copying it: splice(2).
//!
//! The headers of its frames have to be seen all the same. They are found in a copy of the pipe, which tee(2) makes
//! without copying a byte; what is payload there is thrown away unread.

use super::scratch::SEGMENT;
use crate::frame::{FrameTracker, LONGEST_HEADER};
use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice, tee};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Most pipes at a time: streams beyond them are copied. Each takes five descriptors. A reader that has stopped keeps
/// its pipe, so that many of them leave none for others, which then cost what they would cost without.
const MOST: usize = 32;
/// Payload in a row that is worth a system call of its own to be skipped; what is shorter is read.
const SKIPPED: u64 = 8 * 1024;

/// Where flows of bulk borrow their pipes. It waits for nobody.
#[derive(Debug)]
pub(super) struct Pipes {
    put: Sender<Box<Pipe>>,
    take: Receiver<Box<Pipe>>,
    /// Copied into each pipe, and so counted by its own count.
    permits: Arc<()>,
}

impl Default for Pipes {
    fn default() -> Self {
        let (put, take) = bounded(MOST);
        Self {
            put,
            take,
            permits: Arc::default(),
        }
    }
}

impl Pipes {
    /// An empty pipe; none where the system or the bound has no more.
    pub(super) fn take(&self) -> Option<Box<Pipe>> {
        if let Ok(pipe) = self.take.try_recv() {
            return Some(pipe);
        }
        // Two threads may pass here at the same moment: then it is one more.
        let may_be_made = Arc::strong_count(&self.permits) <= MOST;
        may_be_made
            .then(|| Pipe::new(Arc::clone(&self.permits)).ok())
            .flatten()
            .map(Box::new)
    }

    /// Whether there has been a pipe that came back.
    #[cfg(test)]
    pub(super) fn were_used(&self) -> bool {
        !self.take.is_empty()
    }

    /// Takes a pipe back, if nothing is left in it.
    pub(super) fn give_back(&self, pipe: Box<Pipe>) {
        if pipe.held == 0 {
            // One that does not fit is one less.
            let _ = self.put.try_send(pipe);
        }
    }
}

/// A pipe, and a second one for the copy.
#[derive(Debug)]
pub(super) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    /// Bytes in it.
    held: usize,
    copy_out: OwnedFd,
    copy_into: OwnedFd,
    nowhere: File,
    _permit: Arc<()>,
}

impl Pipe {
    fn new(permit: Arc<()>) -> io::Result<Self> {
        let flags = PipeFlags::NONBLOCK | PipeFlags::CLOEXEC;
        let (out, into) = pipe_with(flags)?;
        let (copy_out, copy_into) = pipe_with(flags)?;
        let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
        Ok(Self {
            out,
            into,
            held: 0,
            copy_out,
            copy_into,
            nowhere,
            _permit: permit,
        })
    }

    /// How many bytes are in it.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Moves what there is from a socket into the pipe, which is empty.
    pub(super) fn fill(&mut self, from: BorrowedFd<'_>) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let filled = splice(from, None, &self.into, None, SEGMENT, flags)?;
        self.held += filled;
        Ok(filled)
    }

    /// Moves as much to a socket as that takes.
    pub(super) fn drain(&mut self, to: BorrowedFd<'_>) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let drained = splice(&self.out, None, to, None, self.held, flags)?;
        self.held = self.held.saturating_sub(drained);
        Ok(drained)
    }

    /// Has `frames` follow what is in the pipe. Says how many times something had to be read for that.
    ///
    /// # Errors
    /// When no copy can be had. `frames` and the copy are then worth nothing; the pipe is as it was.
    pub(super) fn follow(
        &self,
        frames: &mut FrameTracker,
        scratch: &mut [u8],
    ) -> io::Result<usize> {
        let held = self.held as u64;
        if frames.unseen() >= held {
            frames.pass_unseen(held);
            return Ok(0);
        }
        // The first header is often the only one: then the copy need not go further.
        let as_far = held.min(frames.unseen() + LONGEST_HEADER as u64);
        self.copy(as_far)?;
        let mut reads = self.follow_copy(frames, as_far, scratch)?;
        let left = held - as_far;
        if frames.unseen() >= left {
            frames.pass_unseen(left);
        } else {
            self.copy(held)?;
            self.skip(as_far)?;
            reads += self.follow_copy(frames, left, scratch)?;
        }
        Ok(reads)
    }

    fn follow_copy(
        &self,
        frames: &mut FrameTracker,
        mut left: u64,
        scratch: &mut [u8],
    ) -> io::Result<usize> {
        let (mut reads, mut reads_in_a_row) = (0, 0);
        while left > 0 {
            let unseen = frames.unseen().min(left);
            if unseen >= SKIPPED {
                self.skip(unseen)?;
                frames.pass_unseen(unseen);
                left -= unseen;
                reads_in_a_row = 0;
                continue;
            }
            // Where headers are close to each other, the next are read along with this one.
            let wanted = if reads_in_a_row > 0 {
                SKIPPED
            } else {
                unseen + LONGEST_HEADER as u64
            };
            let wanted = left.min(wanted);
            let wanted = usize::try_from(wanted)
                .unwrap_or(usize::MAX)
                .min(scratch.len());
            let buffer = scratch.get_mut(..wanted).unwrap_or_default();
            let read = rustix::io::read(&self.copy_out, &mut *buffer)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            frames.pass(buffer.get(..read).unwrap_or_default());
            left -= read as u64;
            reads += 1;
            reads_in_a_row += 1;
        }
        Ok(reads)
    }

    /// Copies the first `count` bytes of the pipe.
    fn copy(&self, count: u64) -> io::Result<()> {
        let wanted = usize::try_from(count).unwrap_or(usize::MAX);
        let copied = tee(&self.out, &self.copy_into, wanted, SpliceFlags::NONBLOCK)?;
        // Both pipes have the same number of places, so that it fits; but nobody promises that.
        if copied < wanted {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(())
    }

    /// Throws the next `count` bytes of the copy away.
    fn skip(&self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let wanted = usize::try_from(count).unwrap_or(usize::MAX);
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            let skipped = splice(&self.copy_out, None, &self.nowhere, None, wanted, flags)?;
            if skipped == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            count = count.saturating_sub(skipped as u64);
        }
        Ok(())
    }

    /// Fills the copy, so that nothing can be copied any more.
    #[cfg(test)]
    pub(super) fn block_copy(&self) {
        while rustix::io::write(&self.copy_into, &[0; 4096]).is_ok() {}
    }

    /// Reads all that is in the pipe, which is then of no more use.
    pub(super) fn into_bytes(mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(self.held)?;
        bytes.resize(self.held, 0);
        let mut read = 0;
        while self.held > 0 {
            match rustix::io::read(&self.out, bytes.get_mut(read..).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => {
                    read += more;
                    self.held = self.held.saturating_sub(more);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_only_so_many_pipes_and_those_given_back_are_used_again() {
        let pipes = Pipes::default();
        let mut taken: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!(taken.len(), MOST);
        pipes.give_back(taken.pop().unwrap());
        assert!(pipes.take().is_some());
        taken.clear();
        assert!(pipes.take().is_some(), "what was dropped may be made anew");
    }
}
