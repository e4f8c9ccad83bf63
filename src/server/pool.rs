//! Workers: threads that serve one connection at a time. There are as many as are needed, up to
//! `MaxRequestWorkers`, and those that find nothing to do end.

use super::Shared;
use super::acceptor::Accepted;
use super::connection;
use crate::transaction::CloseReason;
use crate::tunnel::event_loop::{Command, EventLoop, Inbox};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded, select};
use log::{error, warn};
use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a worker waits for a connection until it ends.
const IDLE_WORKER: Duration = Duration::from_secs(5);

/// The acceptor's side: connections go in here.
#[derive(Debug)]
pub(super) struct Pool {
    queue: Sender<Accepted>,
    /// Given to each new worker.
    waiting: Receiver<Accepted>,
    /// Held by each worker, so that their end can be waited for.
    alive: Sender<()>,
    shared: Arc<Shared>,
    workers: Arc<Workers>,
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

#[derive(Debug, Default)]
struct Workers {
    /// Threads.
    count: AtomicUsize,
    /// Workers that wait for a connection less connections that wait for a worker. It is moved only where
    /// one of the two begins to wait, or a waiting worker ends; when they meet, both stop.
    balance: AtomicIsize,
    inboxes: Mutex<HashMap<u64, Inbox>>,
}

impl Workers {
    fn inboxes(&self) -> MutexGuard<'_, HashMap<u64, Inbox>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one waiting worker out of the balance, unless a connection has been promised to it.
    fn may_leave(&self) -> bool {
        let leave = |balance: isize| (balance > 0).then_some(balance - 1);
        self.balance
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, leave)
            .is_ok()
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
        let workers = Arc::<Workers>::default();
        let team = Team {
            workers: Arc::clone(&workers),
            ended,
        };
        (
            Self {
                queue,
                waiting,
                alive,
                shared,
                workers,
                is_short: false,
                next_worker: 0,
            },
            team,
        )
    }

    /// Hands over a connection, and waits for room in the queue if need be, until `stop` is disconnected.
    pub(super) fn offer(&mut self, accepted: Accepted, stop: &Receiver<()>) -> Result<(), Stopped> {
        if self.workers.balance.fetch_sub(1, Ordering::AcqRel) > 0 {
            self.is_short = false;
        } else if !self.add_worker() && !std::mem::replace(&mut self.is_short, true) {
            warn!(
                "all {} workers are busy; new connections wait: raise MaxRequestWorkers",
                self.workers.count.load(Ordering::Relaxed)
            );
        }
        match self.queue.try_send(accepted) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Stopped),
            Err(TrySendError::Full(accepted)) => select! {
                send(self.queue, accepted) -> sent => sent.map_err(|_| Stopped),
                recv(stop) -> _ => Err(Stopped),
            },
        }
    }

    /// Whether a connection waits for a worker that may still be started.
    pub(super) fn lacks_a_worker(&self) -> bool {
        self.workers.balance.load(Ordering::Acquire) < 0 && self.has_room()
    }

    fn has_room(&self) -> bool {
        self.workers.count.load(Ordering::Acquire) < self.shared.config.max_request_workers
    }

    /// Starts a worker for a connection that waits. Says whether there is one more.
    pub(super) fn add_worker(&mut self) -> bool {
        if !self.lacks_a_worker() {
            return false;
        }
        match self.start_worker() {
            Ok(()) => true,
            Err(error) => {
                if !self.is_short {
                    warn!(
                        "cannot start a worker: {error}; new connections wait for the workers there are"
                    );
                }
                self.is_short = true;
                false
            }
        }
    }

    fn start_worker(&mut self) -> io::Result<()> {
        let event_loop = EventLoop::new(self.shared.scratch.clone())?;
        let id = self.next_worker;
        self.next_worker += 1;
        let membership = Membership::new(id, &self.workers, event_loop.inbox());
        let (waiting, shared, alive) = (
            self.waiting.clone(),
            Arc::clone(&self.shared),
            self.alive.clone(),
        );
        thread::Builder::new()
            .name(format!("worker {id}"))
            .stack_size(self.shared.config.thread_stack_size)
            .spawn(move || {
                let _alive = alive;
                membership.serve(&waiting, &shared, event_loop);
            })?;
        Ok(())
    }
}

impl Team {
    /// Tells all workers to end their tunnels, and waits for them up to `limit`. No connection may be offered
    /// any more. Says how many are left.
    pub(super) fn stop(&self, limit: Duration) -> usize {
        for inbox in self.workers.inboxes().values() {
            inbox.tell(Command::End(CloseReason::Stopping));
        }
        // Nobody ever sends: this ends when the last worker has dropped its end.
        let _ = self.ended.recv_timeout(limit);
        self.workers.count.load(Ordering::Acquire)
    }
}

/// A worker's place in the counts, given back however it ends.
struct Membership {
    id: u64,
    workers: Arc<Workers>,
}

impl Membership {
    fn new(id: u64, workers: &Arc<Workers>, inbox: Inbox) -> Self {
        workers.count.fetch_add(1, Ordering::AcqRel);
        workers.inboxes().insert(id, inbox);
        Self {
            id,
            workers: Arc::clone(workers),
        }
    }

    fn serve(&self, waiting: &Receiver<Accepted>, shared: &Shared, mut event_loop: EventLoop) {
        loop {
            self.workers.balance.fetch_add(1, Ordering::AcqRel);
            let accepted = loop {
                match waiting.recv_timeout(IDLE_WORKER) {
                    Ok(accepted) => break accepted,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) if self.workers.may_leave() => return,
                    Err(RecvTimeoutError::Timeout) => {}
                }
            };
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
                        self.workers.inboxes().insert(self.id, fresh.inbox());
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
        self.workers.inboxes().remove(&self.id);
        self.workers.count.fetch_sub(1, Ordering::AcqRel);
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
