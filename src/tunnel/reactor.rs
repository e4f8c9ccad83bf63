//! The shared threads that run tunnels with `ProxyWebsocketAsync On`: an inbox and a waker around an event loop.

use super::event_loop::{Command, EventLoop, Inbox, Size};
use super::{ScratchPool, Tunnel};
use crate::net::alarm::Alarm;
use crate::transaction::CloseReason;
use crossbeam_channel::{Receiver, bounded};
use log::error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The stack of a reactor: it only moves bytes.
const STACK: usize = 256 * 1024;
/// How long a stopping server tries to reach a reactor whose inbox is full.
const REACH: Duration = Duration::from_millis(500);

/// Why no reactor takes a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// They run as many as they may.
    Limit(usize),
    /// The one whose turn it is has not taken the last ones yet, or is gone.
    Inbox,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(limit) => write!(f, "the reactor runs {limit} tunnels, as many as it may"),
            Self::Inbox => f.write_str("the reactor does not keep up"),
        }
    }
}

/// One or more reactors. A tunnel stays with the one that adopted it.
#[derive(Debug)]
pub struct Reactors {
    reactors: Vec<Reactor>,
    /// Most tunnels of all together.
    limit: usize,
    ended: Receiver<()>,
}

#[derive(Debug)]
struct Reactor {
    inbox: Inbox,
    load: Arc<AtomicUsize>,
}

impl Default for Reactors {
    /// None, for a server without asynchronous tunnels.
    fn default() -> Self {
        let (_, ended) = bounded(0);
        Self {
            reactors: Vec::new(),
            limit: 0,
            ended,
        }
    }
}

impl Reactors {
    /// Starts `threads` reactors, which run up to `limit` tunnels together. Each takes three descriptors.
    ///
    /// # Errors
    /// When the system has no thread or no descriptor left.
    pub fn start(threads: usize, limit: usize, scratch: &ScratchPool) -> io::Result<Self> {
        let (alive, ended) = bounded(0);
        let start_one = |number| {
            let mut alarm = Alarm::new()?;
            let mut event_loop = EventLoop::new(scratch.clone(), &alarm, Size::MANY)?;
            let reactor = Reactor {
                inbox: event_loop.inbox(),
                load: event_loop.load(),
            };
            let alive = alive.clone();
            thread::Builder::new()
                .name(format!("reactor {number}"))
                .stack_size(STACK)
                .spawn(move || {
                    if let Err(error) = event_loop.run_many(&mut alarm) {
                        error!("a reactor cannot wait for events: {error}; its tunnels were cut");
                    }
                    drop(alive);
                })?;
            Ok(reactor)
        };
        let reactors = (0..threads).map(start_one).collect::<io::Result<_>>()?;
        Ok(Self {
            reactors,
            limit,
            ended,
        })
    }

    /// Hands a tunnel over to the reactor that has the fewest.
    ///
    /// # Errors
    /// The tunnel, unharmed, and why nobody takes it.
    pub fn adopt(&self, tunnel: Box<Tunnel>) -> Result<(), (Box<Tunnel>, Refused)> {
        let load = |reactor: &Reactor| reactor.load.load(Ordering::Relaxed);
        if self.reactors.iter().map(load).sum::<usize>() >= self.limit {
            return Err((tunnel, Refused::Limit(self.limit)));
        }
        let Some(reactor) = self.reactors.iter().min_by_key(|reactor| load(reactor)) else {
            return Err((tunnel, Refused::Inbox));
        };
        match reactor.inbox.tell(Command::Adopt(tunnel)) {
            Ok(()) => Ok(()),
            Err(Command::Adopt(tunnel)) => Err((tunnel, Refused::Inbox)),
            // What comes back is what was sent.
            Err(Command::End(_)) => Ok(()),
        }
    }

    /// Ends all tunnels in order, and waits for that up to `limit`. Says how many are left.
    pub fn stop(&self, limit: Duration) -> usize {
        let until = Instant::now() + REACH;
        for reactor in &self.reactors {
            while let Err(_) = reactor.inbox.tell(Command::End(CloseReason::Stopping))
                && Instant::now() < until
            {
                thread::yield_now();
            }
        }
        // Nobody ever sends: this ends when the last reactor has dropped its end.
        let _ = self.ended.recv_timeout(limit);
        let load = |reactor: &Reactor| reactor.load.load(Ordering::Relaxed);
        self.reactors.iter().map(load).sum()
    }
}
