//! Signals: the only file that knows how they come in. httpd: "Stopping and Restarting".

use log::info;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// What the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// TERM, INT
    Stop,
    /// WINCH, where no terminal controls the process: the terminal sends it when its size changes.
    GracefulStop,
    /// USR2
    Upgrade,
    /// No signal asks for it: the process that an upgrade has started serves.
    GiveWay,
    /// USR1, HUP: httpd cuts its clients for HUP, and not for USR1. Here nobody is ever cut.
    Reload,
}

/// The signals that the process takes, from when this is made.
#[derive(Debug)]
pub(super) struct Requests {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    /// Came together with one that has been told. There is one of each signal at most.
    waiting: VecDeque<Request>,
    has_told_of_terminal: bool,
}

impl Requests {
    pub(super) fn new() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let signals = [SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGHUP, SIGWINCH];
        Ok(Self {
            delivery: SignalDelivery::with_pipe(read, write, SignalOnly, signals)?,
            waiting: VecDeque::new(),
            has_told_of_terminal: false,
        })
    }

    /// Waits for the next, until `deadline` if there is one, and until `other` is readable: then there may be none.
    pub(super) fn next(
        &mut self,
        deadline: Option<Instant>,
        other: Option<BorrowedFd<'_>>,
    ) -> Option<Request> {
        loop {
            if let Some(request) = self.waiting.pop_front() {
                return Some(request);
            }
            let signals: Vec<_> = self.delivery.pending().collect();
            for signal in signals {
                let request = match signal {
                    SIGUSR1 | SIGHUP => Request::Reload,
                    SIGUSR2 => Request::Upgrade,
                    SIGWINCH if self.is_about_a_window() => continue,
                    SIGWINCH => Request::GracefulStop,
                    _ => Request::Stop,
                };
                // Who wants an end now does not wait for what else was asked for.
                match request {
                    Request::Stop => self.waiting.push_front(request),
                    _ => self.waiting.push_back(request),
                }
            }
            if !self.waiting.is_empty() {
                continue;
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            let limit = left.and_then(|left| Timespec::try_from(left).ok());
            let signals = PollFd::new(self.delivery.get_read(), PollFlags::IN);
            let other = other.map(|other| PollFd::from_borrowed_fd(other, PollFlags::IN));
            let mut awaited = vec![signals];
            awaited.extend(other);
            // Whatever it says of signals, what has come is seen above: it may have been interrupted by the very signal.
            let _ = poll(&mut awaited, limit.as_ref());
            if awaited
                .get(1)
                .is_some_and(|other| !other.revents().is_empty())
            {
                return None;
            }
        }
    }

    fn is_about_a_window(&mut self) -> bool {
        // tty(4): it can be opened by those who have one.
        let has_terminal = File::open("/dev/tty").is_ok();
        if has_terminal && !std::mem::replace(&mut self.has_told_of_terminal, true) {
            info!("WINCH is ignored while a terminal controls the process");
        }
        has_terminal
    }
}

/// As if the operator had asked for it.
pub(super) fn ask_to_stop() {
    // It fails for numbers that are no signals only.
    let _ = signal_hook::low_level::raise(SIGTERM);
}
