//! Workers: threads that serve one connection at a time. There are as many as are needed, up to
//! `MaxRequestWorkers`, and those that find nothing to do end.
//!
//! A connection goes to the worker that became free last: its stack and its caches are warm, and those at the
//! bottom of the stack get old and end. Where no worker is free it waits in a bounded channel.

use super::Shared;
use super::acceptor::Accepted;
use super::connection::{self, Worker};
use crate::transaction::CloseReason;
use crate::tunnel::inbox::Inbox;
use crossbeam_channel::{
    Receiver, SendTimeoutError, Sender, TryRecvError, TrySendError, bounded, select,
};
use log::{error, warn};
use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Handshakes that go on at a time before a further connection waits a moment instead of getting a worker of its
/// own: most take less than that moment, and a crowd that arrives together does not leave hundreds of threads.
const HANDSHAKES: usize = 16;
/// That moment.
const PATIENCE: Duration = Duration::from_millis(2);
/// How long to wait before a worker is started again that could not be.
const RETRY: Duration = Duration::from_secs(1);
/// How long a worker is free until it is sent home.
const IDLE_WORKER: Duration = Duration::from_secs(5);

/// The acceptor's side: connections go in here.
#[derive(Debug)]
pub(super) struct Pool {
    queue: Sender<Accepted>,
    workers: Arc<Workers>,
    /// A copy is held by each worker, so that their end can be waited for.
    alive: Sender<()>,
    shared: Arc<Shared>,
    /// All workers are busy, and the operator has been told.
    is_short: bool,
    /// Of those that had to wait, how many had been taken at the last look.
    taken: usize,
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
    /// Those who wait for a connection, and since when; the last has waited the shortest.
    free: VecDeque<(Arc<Seat>, Instant)>,
    /// How each worker's loop is told to end.
    inboxes: HashMap<u64, Inbox>,
    is_stopping: bool,
    /// Connections that had to wait and were taken.
    taken: usize,
}

/// Where a free worker waits.
#[derive(Debug)]
struct Seat {
    id: u64,
    worker: Thread,
    told: Mutex<Option<Order>>,
}

/// What a free worker is told.
#[derive(Debug)]
enum Order {
    Serve(Box<Accepted>),
    Leave,
}

impl Seat {
    fn tell(&self, order: Order) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(order);
        self.worker.unpark();
    }

    /// Waits for an order. There is no timeout: it would cost a timer for each connection.
    fn wait(&self) -> Order {
        // On a busy machine the next connection is a moment away, and the acceptor may hand it over meanwhile:
        // that spares a sleep and a wake-up.
        thread::yield_now();
        loop {
            let told = self
                .told
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            match told {
                Some(order) => return order,
                None => thread::park(),
            }
        }
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
                state.taken = state.taken.wrapping_add(1);
                return Some(accepted);
            }
            state.free.push_back((Arc::clone(seat), Instant::now()));
        }
        match seat.wait() {
            Order::Serve(accepted) => Some(*accepted),
            Order::Leave => self.leave(seat),
        }
    }

    /// Takes the worker of `seat` out, unless a connection has come since it was sent home, which may have found
    /// the pool as large as it may be.
    fn leave(&self, seat: &Seat) -> Option<Accepted> {
        let mut state = self.state();
        let accepted = self.waiting.try_recv().ok();
        if accepted.is_none() {
            state.inboxes.remove(&seat.id);
        }
        accepted
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
                taken: 0,
                next_worker: 0,
            },
            team,
        )
    }

    /// Hands over a connection, and waits for room in the queue if need be, until `stop` is disconnected.
    pub(super) fn offer(&mut self, accepted: Accepted, stop: &Receiver<()>) -> Result<(), Stopped> {
        let mut state = self.workers.state();
        if let Some((seat, _)) = state.free.pop_back() {
            drop(state);
            self.is_short = false;
            seat.tell(Order::Serve(Box::new(accepted)));
            return Ok(());
        }
        let refused = self.queue.try_send(accepted);
        let all_are_busy = state.inboxes.len() >= self.shared.config.max_request_workers;
        drop(state);
        if !all_are_busy {
            if self.shared.handshakes.load(Ordering::Relaxed) < HANDSHAKES {
                self.add_worker();
            }
        } else if !std::mem::replace(&mut self.is_short, true) {
            warn!(
                "all {} workers are busy; new connections wait: raise MaxRequestWorkers",
                self.shared.config.max_request_workers
            );
        }
        match refused {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Stopped),
            Err(TrySendError::Full(accepted)) => {
                self.wait_for_room(accepted, stop)?;
                self.serve_who_waits();
                Ok(())
            }
        }
    }

    /// Waits until the queue has room. Whoever waits here has to look after the pool meanwhile.
    fn wait_for_room(
        &mut self,
        mut accepted: Accepted,
        stop: &Receiver<()>,
    ) -> Result<(), Stopped> {
        while self.has_room() {
            match self.queue.send_timeout(accepted, PATIENCE) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Disconnected(_)) => return Err(Stopped),
                Err(SendTimeoutError::Timeout(refused)) => accepted = refused,
            }
            if stop.try_recv() == Err(TryRecvError::Disconnected) {
                return Err(Stopped);
            }
            self.relieve();
        }
        select! {
            send(self.queue, accepted) -> sent => sent.map_err(|_| Stopped),
            recv(stop) -> _ => Err(Stopped),
        }
    }

    /// Workers may have become free while the acceptor waited for room in the queue.
    fn serve_who_waits(&self) {
        let mut state = self.workers.state();
        while !state.free.is_empty() {
            let Ok(accepted) = self.workers.waiting.try_recv() else {
                return;
            };
            if let Some((seat, _)) = state.free.pop_back() {
                seat.tell(Order::Serve(Box::new(accepted)));
            }
        }
    }

    /// Sends home who has been free for [`IDLE_WORKER`]. Says when the next will have been.
    pub(super) fn send_idle_home(&self) -> Option<Instant> {
        let mut state = self.workers.state();
        let now = Instant::now();
        while let Some((seat, since)) = state.free.front() {
            if *since + IDLE_WORKER > now {
                return Some(*since + IDLE_WORKER);
            }
            seat.tell(Order::Leave);
            state.free.pop_front();
        }
        // Those who are busy now may be free in a while.
        (!state.inboxes.is_empty()).then(|| now + IDLE_WORKER)
    }

    /// When to [`relieve`](Self::relieve) those who wait for a worker that may still be started.
    pub(super) fn patience(&self) -> Option<Duration> {
        let patience = if self.is_short { RETRY } else { PATIENCE };
        self.lacks_a_worker().then_some(patience)
    }

    /// Starts workers where those who wait do not get on: for half of them, since the others' turn may come meanwhile.
    pub(super) fn relieve(&mut self) {
        let taken = self.workers.state().taken;
        let moved = taken.wrapping_sub(std::mem::replace(&mut self.taken, taken));
        if moved < HANDSHAKES {
            for _ in 0..self.workers.waiting.len().div_ceil(2) {
                self.add_worker();
            }
        }
    }

    fn lacks_a_worker(&self) -> bool {
        !self.workers.waiting.is_empty() && self.has_room()
    }

    fn has_room(&self) -> bool {
        self.workers.state().inboxes.len() < self.shared.config.max_request_workers
    }

    /// Starts a worker for a connection that waits.
    fn add_worker(&mut self) {
        if self.lacks_a_worker()
            && let Err(error) = self.start_worker()
            && !std::mem::replace(&mut self.is_short, true)
        {
            warn!("cannot start a worker: {error}; new connections wait for the workers there are");
        }
    }

    fn start_worker(&mut self) -> io::Result<()> {
        let worker = Worker::new(&self.shared)?;
        let id = self.next_worker;
        self.next_worker += 1;
        let membership = Membership::new(id, &self.workers, worker.inbox(), self.alive.clone());
        let shared = Arc::clone(&self.shared);
        thread::Builder::new()
            .name(format!("worker {id}"))
            .stack_size(self.shared.config.thread_stack_size)
            .spawn(move || membership.serve(&shared, worker))?;
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
                inbox.end(CloseReason::Stopping);
            }
            for (seat, _) in state.free.drain(..) {
                seat.tell(Order::Leave);
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
    /// Dropped last: who waits for it then finds the counts up to date.
    _alive: Sender<()>,
}

impl Membership {
    fn new(id: u64, workers: &Arc<Workers>, inbox: Inbox, alive: Sender<()>) -> Self {
        workers.state().inboxes.insert(id, inbox);
        Self {
            id,
            workers: Arc::clone(workers),
            _alive: alive,
        }
    }

    fn serve(&self, shared: &Shared, mut worker: Worker) {
        let seat = Arc::new(Seat {
            id: self.id,
            worker: thread::current(),
            told: Mutex::default(),
        });
        while let Some(accepted) = self.workers.next(&seat) {
            let (id, client) = (accepted.id, accepted.connection.client);
            // What a worker has is used again only when the connection has come to its end.
            let served = catch_unwind(AssertUnwindSafe(|| {
                connection::serve(accepted, &mut worker, shared);
            }));
            if let Err(panic) = served {
                error!(
                    "[{id}] {client} the worker panicked, which is a bug: {}",
                    said(panic.as_ref())
                );
                // The descriptors of the lost one are free again.
                worker = loop {
                    match Worker::new(shared) {
                        Ok(fresh) => break fresh,
                        Err(error) => {
                            error!("cannot make a worker anew: {error}");
                            thread::sleep(IDLE_WORKER);
                        }
                    }
                };
                self.workers.state().inboxes.insert(self.id, worker.inbox());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::listen::{Connection, Listener};
    use std::net::{Ipv4Addr, TcpStream};

    fn connection() -> Accepted {
        let listener = Listener::bind(Some(Ipv4Addr::LOCALHOST.into()), 0, 1).unwrap();
        let stream = TcpStream::connect(listener.address()).unwrap();
        let local = listener.address();
        Accepted {
            id: 7,
            connection: Connection {
                stream,
                client: local,
                local,
            },
            at: Instant::now(),
        }
    }

    #[test]
    fn a_worker_that_is_leaving_serves_who_came_meanwhile() {
        let (queue, waiting) = bounded(1);
        let workers = Workers {
            state: Mutex::default(),
            waiting,
        };
        let seat = Seat {
            id: 1,
            worker: thread::current(),
            told: Mutex::default(),
        };
        queue.send(connection()).unwrap();
        assert_eq!(workers.leave(&seat).map(|accepted| accepted.id), Some(7));
        assert!(workers.leave(&seat).is_none());
    }
}
