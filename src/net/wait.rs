//! Waiting for sockets by a deadline, over poll(2): all waiting that is done before the tunnel.

use super::alarm::Alarm;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// What a socket is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Bytes, or the end of the stream.
    Read,
    /// Room for bytes, or the outcome of a connect.
    Write,
    /// One of both.
    Either,
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

/// Whether an operation that failed so only has to be tried again, now or when its socket is ready.
pub fn is_momentary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
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

/// Most sockets in one wait: the client and the backend.
const MOST: usize = 2;

/// Waits for sockets, in one thread.
#[derive(Debug)]
pub struct Waiter {
    /// Rings at deadlines. Between waits it is free for others to use.
    pub alarm: Alarm,
    /// Lets other threads run before it sleeps. Where there are more of them than processors, what is waited for is
    /// often there when they have, and nobody has to be woken; alone it costs a system call for nothing.
    pub yields: bool,
    /// They have run since the last wait.
    has_yielded: bool,
    cancel: Arc<Cancel>,
}

impl Waiter {
    /// A waiter whose waits `cancel` ends. Takes a descriptor.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn new(cancel: Arc<Cancel>) -> io::Result<Self> {
        Ok(Self {
            alarm: Alarm::new()?,
            yields: false,
            has_yielded: false,
            cancel,
        })
    }

    /// Does now what the next wait would do first: others run, where there are more of them than processors. Says
    /// whether: what would be waited for is often there then, and a look at it cheaper than the wait.
    pub fn let_others_run(&mut self) -> bool {
        if self.yields {
            thread::yield_now();
        }
        self.has_yielded = self.yields;
        self.yields
    }

    /// Waits until one of up to two sockets is ready, or has failed, which reading or writing it will tell.
    /// The answer says which, in the order of `sockets`. No deadline means to wait for ever.
    ///
    /// # Errors
    /// [`Interrupted`]. Where something is ready, a deadline that has passed does not count.
    pub fn wait<const N: usize>(
        &mut self,
        sockets: [(BorrowedFd<'_>, Want); N],
        deadline: Option<Instant>,
    ) -> Result<[bool; N], Interrupted> {
        const { assert!(N <= MOST) };
        loop {
            if let Some(deadline) = deadline {
                self.alarm.ring_by(deadline)?;
            }
            if !self.has_yielded {
                self.let_others_run();
            }
            self.has_yielded = false;
            let mut polled: [PollFd<'_>; MOST + 2] =
                std::array::from_fn(|i| match sockets.get(i) {
                    Some((fd, Want::Read)) => {
                        PollFd::from_borrowed_fd(*fd, PollFlags::IN | PollFlags::RDHUP)
                    }
                    Some((fd, Want::Write)) => PollFd::from_borrowed_fd(*fd, PollFlags::OUT),
                    Some((fd, Want::Either)) => PollFd::from_borrowed_fd(
                        *fd,
                        PollFlags::IN | PollFlags::RDHUP | PollFlags::OUT,
                    ),
                    None if i == N => PollFd::new(&self.cancel.flag, PollFlags::IN),
                    None => PollFd::new(&self.alarm, PollFlags::IN),
                });
            // An alarm that may still be readable from a deadline of the past is not listened to.
            let count = if deadline.is_some() { N + 2 } else { N + 1 };
            match poll(polled.get_mut(..count).unwrap_or_default(), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Interrupted::Failed(error.into())),
            }
            let [cancelled, rung] = [N, N + 1].map(|i| is_ready(polled.get(i)));
            let ready = std::array::from_fn(|i| is_ready(polled.get(i)));
            if rung {
                self.alarm.has_rung();
            }
            if cancelled {
                return Err(Interrupted::Cancelled);
            }
            if ready.contains(&true) {
                return Ok(ready);
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(Interrupted::Deadline);
            }
        }
    }
}

fn is_ready(polled: Option<&PollFd<'_>>) -> bool {
    polled.is_some_and(|polled| !polled.revents().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    fn waiter() -> Waiter {
        Waiter::new(Arc::new(Cancel::new().unwrap())).unwrap()
    }

    #[test]
    fn what_is_ready_counts_more_than_a_deadline_that_has_passed() {
        let (a, mut b) = UnixStream::pair().unwrap();
        b.write_all(b"x").unwrap();
        let woken = waiter()
            .wait([(a.as_fd(), Want::Read)], Some(Instant::now()))
            .unwrap();
        assert_eq!(woken, [true]);
    }

    #[test]
    fn the_deadline_ends_a_wait_for_a_silent_peer_each_time() {
        let (a, _b) = UnixStream::pair().unwrap();
        let mut waiter = waiter();
        for _ in 0..3 {
            let deadline = Some(Instant::now() + Duration::from_millis(1));
            let ended = waiter.wait([(a.as_fd(), Want::Read)], deadline);
            assert!(matches!(ended, Err(Interrupted::Deadline)));
            assert!(deadline <= Some(Instant::now()));
        }
    }

    #[test]
    fn an_alarm_for_an_earlier_deadline_does_not_end_a_later_wait() {
        let (a, _b) = UnixStream::pair().unwrap();
        let mut waiter = waiter();
        let now = Instant::now();
        waiter.alarm.ring_by(now).unwrap();
        let deadline = now + Duration::from_millis(5);
        let ended = waiter.wait([(a.as_fd(), Want::Read)], Some(deadline));
        assert!(matches!(ended, Err(Interrupted::Deadline)));
        assert!(deadline <= Instant::now());
    }

    #[test]
    fn cancelling_ends_each_wait_from_then_on() {
        let (a, _b) = UnixStream::pair().unwrap();
        let mut waiter = waiter();
        waiter.cancel.cancel();
        for _ in 0..2 {
            let ended = waiter.wait([(a.as_fd(), Want::Read)], None);
            assert!(matches!(ended, Err(Interrupted::Cancelled)));
        }
    }

    #[test]
    fn it_says_which_of_two_is_ready() {
        let (a, _a) = UnixStream::pair().unwrap();
        let (b, b_peer) = UnixStream::pair().unwrap();
        drop(b_peer);
        let woken = waiter()
            .wait([(a.as_fd(), Want::Read), (b.as_fd(), Want::Read)], None)
            .unwrap();
        assert_eq!(woken, [false, true]);
    }
}
