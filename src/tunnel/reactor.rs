//! The shared threads that run tunnels with `ProxyWebsocketAsync On`.

use super::event_loop::{EventLoop, Size};
use super::inbox::{Door, Inbox};
use super::{ScratchPool, Tunnel};
use crate::ids::Id;
use crate::net::alarm::Alarm;
use crate::transaction::CloseReason;
use crossbeam_channel::{Receiver, bounded};
use log::error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// The stack of a reactor: it only moves bytes.
const STACK: usize = 256 * 1024;

/// Why no reactor takes a tunnel.
#[derive(Debug)]
pub enum Refused {
    /// They run as many as they may.
    Limit(usize),
    /// The one whose turn it is cannot.
    Failed(io::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(limit) => write!(f, "the reactor runs {limit} tunnels, as many as it may"),
            Self::Failed(error) => write!(f, "the reactor cannot take it: {error}"),
        }
    }
}

/// One or more reactors. A tunnel stays with the one that adopted it.
#[derive(Debug)]
pub struct Reactors {
    reactors: Vec<Reactor>,
    /// Most tunnels of all together.
    limit: AtomicUsize,
    ended: Receiver<()>,
}

#[derive(Debug)]
struct Reactor {
    door: Door,
    inbox: Inbox,
    load: Arc<AtomicUsize>,
}

impl Reactors {
    /// Starts `threads` reactors, which run up to `limit` tunnels together. Each takes four descriptors.
    ///
    /// # Errors
    /// When the system has no thread or no descriptor left.
    pub fn start(threads: usize, limit: usize, scratch: &Arc<ScratchPool>) -> io::Result<Self> {
        let (alive, ended) = bounded(0);
        let start_one = |number| {
            let mut alarm = Alarm::new()?;
            let mut event_loop = EventLoop::new(Arc::clone(scratch), &alarm, Size::MANY)?;
            let reactor = Reactor {
                door: event_loop.door()?,
                inbox: event_loop.inbox(),
                load: event_loop.load(),
            };
            let alive = alive.clone();
            thread::Builder::new()
                .name(format!("reactor {number}"))
                .stack_size(STACK)
                .spawn(move || {
                    if let Err(error) = event_loop.run_many(&mut alarm) {
                        let id = Id::CannotWait;
                        error!(
                            "{id} a reactor cannot wait for events: {error}; its tunnels were cut"
                        );
                    }
                    drop(alive);
                })?;
            Ok(reactor)
        };
        let reactors = (0..threads).map(start_one).collect::<io::Result<_>>()?;
        Ok(Self {
            reactors,
            limit: limit.into(),
            ended,
        })
    }

    /// From now on they take up to so many tunnels together; those that they have they keep.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Hands a tunnel over to the reactor that has the fewest.
    ///
    /// # Errors
    /// The tunnel, unharmed, and why nobody takes it.
    pub fn adopt(&self, tunnel: Box<Tunnel>) -> Result<(), (Box<Tunnel>, Refused)> {
        let Some(reactor) = self.reactors.iter().min_by_key(|reactor| reactor.load()) else {
            return Err((tunnel, Refused::Limit(0)));
        };
        // Counted first: of two that come at once for the last place, at most one gets it.
        reactor.load.fetch_add(1, Ordering::Relaxed);
        let limit = self.limit.load(Ordering::Relaxed);
        let outcome = if self.load() > limit {
            Err((tunnel, Refused::Limit(limit)))
        } else {
            let outcome = reactor.door.adopt(tunnel);
            outcome.map_err(|(tunnel, error)| (tunnel, Refused::Failed(error)))
        };
        if outcome.is_err() {
            reactor.load.fetch_sub(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Tells all to end their tunnels in order.
    pub fn end(&self, reason: &CloseReason) {
        for reactor in &self.reactors {
            reactor.inbox.end(reason.clone());
        }
    }

    /// Waits until all that were told to end have, up to `limit`. Says how many tunnels are left.
    pub fn wait(&self, limit: Duration) -> usize {
        // Nobody ever sends: this ends when the last reactor has dropped its end.
        let _ = self.ended.recv_timeout(limit);
        self.load()
    }

    /// How many tunnels they have.
    pub fn load(&self) -> usize {
        self.reactors.iter().map(Reactor::load).sum()
    }
}

impl Reactor {
    fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }
}
