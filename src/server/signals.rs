//! Signals: the only file that knows how they come in. httpd: "Stopping and Restarting".

use log::info;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// What the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// TERM, INT
    Stop,
    /// WINCH, where no terminal controls the process: the terminal sends it when its size changes.
    GracefulStop,
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
        let signals = [SIGTERM, SIGINT, SIGUSR1, SIGHUP, SIGWINCH];
        Ok(Self {
            delivery: SignalDelivery::with_pipe(read, write, SignalOnly, signals)?,
            waiting: VecDeque::new(),
            has_told_of_terminal: false,
        })
    }

    /// Waits for the next, until `deadline` if there is one: then there may be none.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> Option<Request> {
        loop {
            if let Some(request) = self.waiting.pop_front() {
                return Some(request);
            }
            let signals: Vec<_> = self.delivery.pending().collect();
            for signal in signals {
                let request = match signal {
                    SIGUSR1 | SIGHUP => Request::Reload,
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
            // Whatever it says, what has come is seen above: it may have been interrupted by the very signal.
            let _ = poll(
                &mut [PollFd::new(self.delivery.get_read(), PollFlags::IN)],
                limit.as_ref(),
            );
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
