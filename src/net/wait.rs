//! Waiting for sockets by a deadline, over poll(2): all waiting that is done before the tunnel.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// What a socket is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Bytes, or the end of the stream.
    Read,
    /// Room for bytes, or the outcome of a connect.
    Write,
}

/// Why a wait, or what waited, came to nothing.
#[derive(Debug)]
pub enum Interrupted {
    /// The deadline passed.
    Deadline,
    /// [`Cancel::cancel`] was called.
    Cancelled,
    /// The system refused.
    Failed(io::Error),
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline => f.write_str("timed out"),
            Self::Cancelled => f.write_str("the server is stopping"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Interrupted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Deadline | Self::Cancelled => None,
        }
    }
}

impl From<io::Error> for Interrupted {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Ends all waits at once, those of the past and those to come.
#[derive(Debug)]
pub struct Cancel {
    // An eventfd that is written once and never read: readable for ever, in every poll.
    flag: OwnedFd,
}

impl Cancel {
    /// A flag that is not raised yet.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            flag: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Raises the flag.
    pub fn cancel(&self) {
        // The only failure is a counter at its maximum, and then the flag is up.
        let _ = rustix::io::write(&self.flag, &1_u64.to_ne_bytes());
    }
}

/// Most sockets in one [`wait`]: the client and the backend.
const MOST: usize = 2;

/// Waits until one of up to two sockets is ready, or has failed, which reading or writing it will tell.
/// The answer says which, in the order of `sockets`. No deadline means to wait for ever.
///
/// # Errors
/// [`Interrupted`], also at once when the deadline has passed already and nothing is ready.
pub fn wait<const N: usize>(
    sockets: [(BorrowedFd<'_>, Want); N],
    deadline: Option<Instant>,
    cancel: &Cancel,
) -> Result<[bool; N], Interrupted> {
    const { assert!(N <= MOST) };
    let mut polled: [PollFd<'_>; MOST + 1] = std::array::from_fn(|i| match sockets.get(i) {
        Some((fd, Want::Read)) => PollFd::from_borrowed_fd(*fd, PollFlags::IN | PollFlags::RDHUP),
        Some((fd, Want::Write)) => PollFd::from_borrowed_fd(*fd, PollFlags::OUT),
        None => PollFd::from_borrowed_fd(cancel.flag.as_fd(), PollFlags::IN),
    });
    let polled = &mut polled[..=N];
    loop {
        let timeout = deadline.map(|at| timespec(at.saturating_duration_since(Instant::now())));
        match poll(polled, timeout.as_ref()) {
            Ok(0) => return Err(Interrupted::Deadline),
            Ok(_) if !polled[N].revents().is_empty() => return Err(Interrupted::Cancelled),
            Ok(_) => return Ok(std::array::from_fn(|i| !polled[i].revents().is_empty())),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Interrupted::Failed(error.into())),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_past_deadline_still_reports_what_is_ready() {
        let (a, mut b) = UnixStream::pair().unwrap();
        b.write_all(b"x").unwrap();
        let cancel = Cancel::new().unwrap();
        let woken = wait([(a.as_fd(), Want::Read)], Some(Instant::now()), &cancel).unwrap();
        assert_eq!(woken, [true]);
    }

    #[test]
    fn the_deadline_ends_a_wait_for_a_silent_peer() {
        let (a, _b) = UnixStream::pair().unwrap();
        let cancel = Cancel::new().unwrap();
        let deadline = Some(Instant::now() + Duration::from_millis(1));
        let ended = wait([(a.as_fd(), Want::Read)], deadline, &cancel);
        assert!(matches!(ended, Err(Interrupted::Deadline)));
    }

    #[test]
    fn cancelling_ends_each_wait_from_then_on() {
        let (a, _b) = UnixStream::pair().unwrap();
        let cancel = Cancel::new().unwrap();
        cancel.cancel();
        for _ in 0..2 {
            let ended = wait([(a.as_fd(), Want::Read)], None, &cancel);
            assert!(matches!(ended, Err(Interrupted::Cancelled)));
        }
    }

    #[test]
    fn it_says_which_of_two_is_ready() {
        let (a, _a) = UnixStream::pair().unwrap();
        let (b, b_peer) = UnixStream::pair().unwrap();
        drop(b_peer);
        let cancel = Cancel::new().unwrap();
        let woken = wait(
            [(a.as_fd(), Want::Read), (b.as_fd(), Want::Read)],
            None,
            &cancel,
        )
        .unwrap();
        assert_eq!(woken, [false, true]);
    }
}
