//! Signals: the only file that knows how they come in. httpd: "Stopping and Restarting".

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::io;

/// What the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// TERM, INT
    Stop,
    /// USR1, HUP
    Reload,
}

/// The signals that the process takes, from when this is made.
#[derive(Debug)]
pub(super) struct Requests {
    signals: Signals,
}

impl Requests {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            signals: Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP])?,
        })
    }

    /// Waits for the next.
    pub(super) fn next(&mut self) -> Request {
        match self.signals.forever().next() {
            Some(SIGUSR1 | SIGHUP) => Request::Reload,
            // The iterator ends only if its handle were closed, and nobody has that.
            _ => Request::Stop,
        }
    }
}

/// As if the operator had asked for it.
pub(super) fn ask_to_stop() {
    // It fails for numbers that are no signals only.
    let _ = signal_hook::low_level::raise(SIGTERM);
}
