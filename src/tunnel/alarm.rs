//! A timer that is a descriptor. A wait with a timeout arms a timer of the kernel each time, and that costs more
//! than the message it waits for (a quarter of a worker's CPU, measured); this one is armed again only when it
//! has rung, or for something earlier.

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

#[derive(Debug)]
pub(super) struct Alarm {
    timer: OwnedFd,
    /// When it rings next.
    rings_at: Option<Instant>,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self {
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            rings_at: None,
        })
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.timer.as_raw_fd()
    }

    /// Makes sure that it rings at `deadline` at the latest. It may ring earlier, for what is no longer awaited.
    pub(super) fn ring_by(&mut self, deadline: Instant) -> io::Result<()> {
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

    /// Notes that it has rung.
    pub(super) fn has_rung(&mut self) {
        self.rings_at = None;
    }
}
