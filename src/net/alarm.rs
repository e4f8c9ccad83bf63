//! A timer that is a descriptor, and is waited for beside the sockets.
//!
//! A wait with a timeout arms a timer of the kernel each time, for each message anew. This one is armed again only
//! when it has rung, or for something earlier; so where deadlines move on with each message, nothing is armed at all.

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// A timer, and when it rings.
#[derive(Debug)]
pub struct Alarm {
    timer: OwnedFd,
    /// When it rings next.
    rings_at: Option<Instant>,
}

impl Alarm {
    /// An alarm that does not ring. Takes a descriptor.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self {
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            rings_at: None,
        })
    }

    /// Makes sure that it rings at `deadline` at the latest. It may ring earlier, for what is no longer awaited.
    ///
    /// # Errors
    /// None that a valid timer can have.
    pub fn ring_by(&mut self, deadline: Instant) -> io::Result<()> {
        if self.rings_at.is_some_and(|rings_at| rings_at <= deadline) {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let value = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            // All zero would mean never.
            tv_nsec: i64::from(left.subsec_nanos()).max(1),
        };
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        self.rings_at = Some(deadline);
        Ok(())
    }

    /// When it is going to ring.
    pub fn rings_at(&self) -> Option<Instant> {
        self.rings_at
    }

    /// Notes that it has rung. It stays readable until it is armed again.
    pub fn has_rung(&mut self) {
        self.rings_at = None;
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
