//! Workers: threads that serve one connection at a time. There are as many as are needed, up to
//! `MaxRequestWorkers`, and those that find nothing to do end.
//!
//! A connection goes to the worker that became free last: its stack and its caches are warm, and those at the
//! bottom of the stack get old and end. Where no worker is free it waits in a bounded channel.

use super::Shared;
use super::acceptor::Accepted;
use super::connection;
use crate::transaction::CloseReason;
use crate::tunnel::event_loop::{Command, EventLoop, Inbox};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use log::{error, warn};
use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long a worker waits for a connection until it ends.
const IDLE_WORKER: Duration = Duration::from_secs(5);

/// The acceptor's side: connections go in here.
#[derive(Debug)]
pub(super) struct Pool {
    queue: Sender<Accepted>,
    workers: Arc<Workers>,
    /// Held by each worker, so that their end can be waited for.
    alive: Sender<()>,
    shared: Arc<Shared>,
    /// All workers are busy, and the operator has been told.
    is_short: bool,
    next_worker: u64,
}

/// The server's side: how workers are told to end.
#[derive(Debug)]
pub(super) struct Team {
    workers: Arc<Workers>,
    ended: Receiver<()>,
}

/// What the threads share.
#[derive(Debug)]
struct Workers {
    state: Mutex<State>,
    /// Connections for which no worker was free. Taken from and put into with the state locked, so that no
    /// worker lies down beside a connection that waits; only where it is full the acceptor waits outside.
    waiting: Receiver<Accepted>,
}

#[derive(Debug, Default)]
struct State {
    /// Those who wait for a connection; the last has waited the shortest.
    free: Vec<Arc<Seat>>,
    /// How each worker's loop is told to end.
    inboxes: HashMap<u64, Inbox>,
    is_stopping: bool,
}

/// Where a free worker waits.
#[derive(Debug)]
struct Seat {
    worker: Thread,
    given: Mutex<Option<Accepted>>,
}

impl Seat {
    fn give(&self, accepted: Accepted) {
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) = Some(accepted);
        self.worker.unpark();
    }

    fn take(&self) -> Option<Accepted> {
        self.given
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl Workers {
    fn state(&self) -> MutexGuard<'_, State> {
        // What the lock guards is whole between statements, whatever became of another thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next connection for the worker of `seat`, or nothing when it is to end.
    fn next(&self, seat: &Arc<Seat>) -> Option<Accepted> {
        {
            let mut state = self.state();
            if state.is_stopping {
                return None;
            }
            if let Ok(accepted) = self.waiting.try_recv() {
                return Some(accepted);
            }
            state.free.push(Arc::clone(seat));
        }
        let until = Instant::now() + IDLE_WORKER;
        loop {
            thread::park_timeout(until.saturating_duration_since(Instant::now()));
            if let Some(accepted) = seat.take() {
                return Some(accepted);
            }
            let mut state = self.state();
            if state.is_stopping || Instant::now() >= until {
                let place = state.free.iter().position(|free| Arc::ptr_eq(free, seat));
                match place {
                    Some(place) => {
                        state.free.remove(place);
                        return None;
                    }
                    // It has been chosen, and the connection is on its way; or has come just now.
                    None => thread::yield_now(),
                }
            }
        }
    }
}

/// The server is stopping.
#[derive(Debug)]
pub(super) struct Stopped;

impl Pool {
    /// A pool without workers yet.
    pub(super) fn new(shared: Arc<Shared>) -> (Self, Team) {
        // As many may wait as are served; behind them the kernel's backlog fills.
        let (queue, waiting) = bounded(shared.config.max_request_workers);
        let (alive, ended) = bounded(0);
        let workers = Arc::new(Workers {
            state: Mutex::default(),
            waiting,
        });
        let team = Team {
            workers: Arc::clone(&workers),
            ended,
        };
        (
            Self {
                queue,
                workers,
                alive,
                shared,
                is_short: false,
                next_worker: 0,
            },
            team,
        )
    }

    /// Hands over a connection, and waits for room in the queue if need be, until `stop` is disconnected.
    pub(super) fn offer(&mut self, accepted: Accepted, stop: &Receiver<()>) -> Result<(), Stopped> {
        let mut state = self.workers.state();
        if let Some(seat) = state.free.pop() {
            drop(state);
            self.is_short = false;
            seat.give(accepted);
            return Ok(());
        }
        let refused = self.queue.try_send(accepted);
        drop(state);
        if !self.add_worker() && !std::mem::replace(&mut self.is_short, true) {
            warn!(
                "all {} workers are busy; new connections wait: raise MaxRequestWorkers",
                self.shared.config.max_request_workers
            );
        }
        match refused {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Stopped),
            Err(TrySendError::Full(accepted)) => {
                select! {
                    send(self.queue, accepted) -> sent => sent.map_err(|_| Stopped)?,
                    recv(stop) -> _ => return Err(Stopped),
                }
                self.serve_who_waits();
                Ok(())
            }
        }
    }

    /// Workers may have become free while the acceptor waited for room in the queue.
    fn serve_who_waits(&self) {
        let mut state = self.workers.state();
        while !state.free.is_empty() {
            let Ok(accepted) = self.workers.waiting.try_recv() else {
                return;
            };
            if let Some(seat) = state.free.pop() {
                seat.give(accepted);
            }
        }
    }

    /// Whether a connection waits for a worker that may still be started.
    pub(super) fn lacks_a_worker(&self) -> bool {
        !self.workers.waiting.is_empty()
            && self.workers.state().inboxes.len() < self.shared.config.max_request_workers
    }

    /// Starts a worker for a connection that waits. Says whether there is one more.
    pub(super) fn add_worker(&mut self) -> bool {
        if !self.lacks_a_worker() {
            return false;
        }
        match self.start_worker() {
            Ok(()) => true,
            Err(error) => {
                if !std::mem::replace(&mut self.is_short, true) {
                    warn!(
                        "cannot start a worker: {error}; new connections wait for the workers there are"
                    );
                }
                false
            }
        }
    }

    fn start_worker(&mut self) -> io::Result<()> {
        let event_loop = EventLoop::new(self.shared.scratch.clone())?;
        let id = self.next_worker;
        self.next_worker += 1;
        let membership = Membership::new(id, &self.workers, event_loop.inbox());
        let (shared, alive) = (Arc::clone(&self.shared), self.alive.clone());
        thread::Builder::new()
            .name(format!("worker {id}"))
            .stack_size(self.shared.config.thread_stack_size)
            .spawn(move || {
                let _alive = alive;
                membership.serve(&shared, event_loop);
            })?;
        Ok(())
    }
}

impl Team {
    /// Tells all workers to end their tunnels, and waits for them up to `limit`. No connection may be offered
    /// any more. Says how many are left.
    pub(super) fn stop(&self, limit: Duration) -> usize {
        {
            let mut state = self.workers.state();
            state.is_stopping = true;
            for inbox in state.inboxes.values() {
                inbox.tell(Command::End(CloseReason::Stopping));
            }
            for seat in &state.free {
                seat.worker.unpark();
            }
        }
        // Nobody ever sends: this ends when the last worker has dropped its end.
        let _ = self.ended.recv_timeout(limit);
        self.workers.state().inboxes.len()
    }
}

/// A worker's place among the others, given back however it ends.
struct Membership {
    id: u64,
    workers: Arc<Workers>,
}

impl Membership {
    fn new(id: u64, workers: &Arc<Workers>, inbox: Inbox) -> Self {
        workers.state().inboxes.insert(id, inbox);
        Self {
            id,
            workers: Arc::clone(workers),
        }
    }

    fn serve(&self, shared: &Shared, mut event_loop: EventLoop) {
        let seat = Arc::new(Seat {
            worker: thread::current(),
            given: Mutex::default(),
        });
        while let Some(accepted) = self.workers.next(&seat) {
            let (id, client) = (accepted.id, accepted.connection.client);
            // The loop is used again only when the connection has come to its end.
            let served = catch_unwind(AssertUnwindSafe(|| {
                connection::serve(accepted, &mut event_loop, shared)
            }));
            if let Err(panic) = served {
                error!(
                    "[{id}] {client} the worker panicked, which is a bug: {}",
                    said(panic.as_ref())
                );
                match EventLoop::new(shared.scratch.clone()) {
                    Ok(fresh) => {
                        self.workers.state().inboxes.insert(self.id, fresh.inbox());
                        event_loop = fresh;
                    }
                    Err(_) => return,
                }
            }
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.workers.state().inboxes.remove(&self.id);
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
