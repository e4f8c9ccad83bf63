//! Workers: threads that serve one connection at a time. There are as many as are needed, up to
//! `MaxRequestWorkers`, and those that find nothing to do end.
//!
//! A connection goes to the worker that became free last: its stack and its caches are warm, and those at the
//! bottom of the stack get old and end. Where no worker is free it waits in a bounded channel.

mod load;
mod seat;

use super::Shared;
use super::acceptor::{Accepted, Told, is_exhaustion};
use super::clients::IdleClients;
use super::connection::{self, Worker};
use crate::ids::Id;
use crate::transaction::CloseReason;
use crate::tunnel::inbox::Inbox;
use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError, bounded, select};
use load::Load;
use log::{error, warn};
use seat::{Order, Seat};
use std::any::Any;
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Handshakes that go on at a time before a further connection waits a moment instead of getting a worker of its
/// own: most take less than that moment, and a crowd that arrives together does not leave hundreds of threads.
const HANDSHAKES: usize = 16;
/// That moment.
const PATIENCE: Duration = Duration::from_millis(2);
/// In how many such moments all who wait have to be served at the present pace, or more workers are started.
const LOOKS: usize = 50;
/// How many such moments a look at the pace takes for each [`HANDSHAKES`] that go on: many move on together, and seem to
/// stand still in between. For a crowd in TLS workers would be started that help nobody, as processors are short.
const LONGER: usize = 4;
/// How long to wait before a worker is started again that could not be.
const RETRY: Duration = Duration::from_secs(1);
/// How long a worker is free until it is sent home.
const IDLE_WORKER: Duration = Duration::from_secs(5);
/// Free workers that are enough: who becomes free beside so many goes home after [`SURPLUS_WORKER`].
const SPARE: usize = HANDSHAKES;
/// How long a worker more than enough is free. A crowd that was served in a moment leaves no threads behind.
const SURPLUS_WORKER: Duration = Duration::from_millis(100);

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
    /// Moments since the last look at the pace.
    moments: usize,
    /// Of those that had to wait, how many had been taken at the last look.
    taken: usize,
    /// None had been taken then.
    is_stuck: bool,
    load: Load,
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
pub(super) struct Workers {
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
    /// Workers that have been started and do not run yet.
    starting: usize,
    is_stopping: bool,
    /// Connections that had to wait and were taken.
    taken: usize,
}

impl Workers {
    /// How many workers there are, how many connections wait for one, and how many may.
    pub(super) fn figures(&self) -> (usize, usize, usize) {
        let started = self.state().inboxes.len();
        let room = self.waiting.capacity().unwrap_or_default();
        (started, self.waiting.len(), room)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What the lock guards is whole between statements, whatever became of another thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that waits. With the state locked, so that it is no longer crowded when nobody waits.
    fn take(&self, clients: &IdleClients) -> Option<Accepted> {
        let accepted = self.waiting.try_recv().ok()?;
        clients.relax(self.waiting.len());
        Some(accepted)
    }

    /// The next connection for the worker of `seat`, or nothing when it is to end. `is_starting`: it is its first, and now no
    /// longer one that does not run yet.
    fn next(
        &self,
        seat: &Arc<Seat>,
        clients: &IdleClients,
        is_starting: &Cell<bool>,
    ) -> Option<Accepted> {
        let is_surplus = {
            let mut state = self.state();
            // Not before it takes what waits: nobody is to be called away for that.
            if is_starting.replace(false) {
                state.starting -= 1;
            }
            if state.is_stopping {
                return None;
            }
            if let Some(accepted) = self.take(clients) {
                state.taken = state.taken.wrapping_add(1);
                return Some(accepted);
            }
            let is_surplus = state.free.len() >= SPARE;
            state.free.push_back((Arc::clone(seat), Instant::now()));
            is_surplus
        };
        let told = seat
            .wait(is_surplus.then_some(SURPLUS_WORKER))
            // Who has just been found has been told as well.
            .or_else(|| self.take_off(seat).then_some(Order::Leave))
            .or_else(|| seat.wait(None));
        match told {
            Some(Order::Serve(accepted)) => Some(*accepted),
            Some(Order::Leave) | None => self.leave(seat, clients),
        }
    }

    /// Takes the worker of `seat` off the list of those who are free. Says whether it was on it.
    fn take_off(&self, seat: &Seat) -> bool {
        let mut state = self.state();
        let place = state.free.iter().position(|(free, _)| free.id == seat.id);
        place.and_then(|place| state.free.remove(place)).is_some()
    }

    /// Takes the worker of `seat` out, unless a connection has come since it was sent home, which may have found
    /// the pool as large as it may be.
    fn leave(&self, seat: &Seat, clients: &IdleClients) -> Option<Accepted> {
        let mut state = self.state();
        let accepted = self.take(clients);
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
        let (queue, waiting) = bounded(shared.most_workers.load(Ordering::Relaxed));
        let (alive, ended) = bounded(0);
        let workers = Arc::new(Workers {
            state: Mutex::default(),
            waiting,
        });
        // There is one pool.
        let _ = shared.crew.set(Arc::clone(&workers));
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
                moments: 0,
                taken: 0,
                is_stuck: false,
                load: Load::default(),
                next_worker: 0,
            },
            team,
        )
    }

    /// Hands over a connection, and waits for room in the queue if need be, until it is `told` to stop.
    pub(super) fn offer(&mut self, accepted: Accepted, told: &Told) -> Result<(), Stopped> {
        self.shared.counters.connections.count();
        let mut state = self.workers.state();
        if let Some((seat, _)) = state.free.pop_back() {
            drop(state);
            self.is_short = false;
            seat.tell(Order::Serve(Box::new(accepted)));
            return Ok(());
        }
        let refused = self.queue.try_send(accepted);
        let all_are_busy = state.inboxes.len() >= self.most();
        let starting = state.starting;
        if all_are_busy {
            self.shared.clients.crowd();
        }
        drop(state);
        if all_are_busy {
            self.say_all_are_busy();
        } else if self.shared.handshakes.load(Ordering::Relaxed) + starting < HANDSHAKES {
            self.add_worker();
        }
        match refused {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Stopped),
            Err(TrySendError::Full(accepted)) => {
                self.wait_for_room(accepted, told)?;
                self.serve_who_waits();
                Ok(())
            }
        }
    }

    fn say_all_are_busy(&mut self) {
        if !std::mem::replace(&mut self.is_short, true) {
            let id = Id::WorkersBusy;
            warn!(
                "{id} all {} workers are busy; new connections wait: {}",
                self.most(),
                id.remedy()
            );
        }
    }

    /// Waits until the queue has room. Whoever waits here has to look after the pool meanwhile.
    fn wait_for_room(&mut self, mut accepted: Accepted, told: &Told) -> Result<(), Stopped> {
        while self.has_room() {
            match self.queue.send_timeout(accepted, PATIENCE) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Disconnected(_)) => return Err(Stopped),
                Err(SendTimeoutError::Timeout(refused)) => accepted = refused,
            }
            if told.is_stopped() {
                return Err(Stopped);
            }
            self.relieve();
        }
        loop {
            select! {
                send(self.queue, accepted) -> sent => return sent.map_err(|_| Stopped),
                recv(told.questions()) -> question => told.answer(question)?,
            }
        }
    }

    /// Workers may have become free while the acceptor waited for room in the queue.
    fn serve_who_waits(&self) {
        let mut state = self.workers.state();
        while !state.free.is_empty() {
            let Some(accepted) = self.workers.take(&self.shared.clients) else {
                return;
            };
            if let Some((seat, _)) = state.free.pop_back() {
                seat.tell(Order::Serve(Box::new(accepted)));
            }
        }
        drop(state);
        // One that has waited outside came into the queue when nobody was missing any more.
        if !self.shared.clients.is_crowded() {
            self.call_for_who_waits();
        }
    }

    /// Calls workers away from idle clients for those who wait in the queue, where no further worker may be started.
    fn call_for_who_waits(&self) {
        let state = self.workers.state();
        if state.inboxes.len() < self.most() {
            return;
        }
        let waiting = self.workers.waiting.len();
        for _ in state.starting..waiting {
            self.shared.clients.crowd();
        }
    }

    /// Puts an end to what has been idle for too long: workers, and connections to backends. Says when to look again.
    pub(super) fn tidy(&self) -> Option<Instant> {
        let of_workers = self.send_idle_home();
        of_workers
            .into_iter()
            .chain(self.shared.in_force.get().kept.sweep())
            .min()
    }

    /// Closes all connections to backends that nobody uses. Says whether there were any.
    pub(super) fn close_kept(&self) -> bool {
        self.shared.in_force.get().kept.clear()
    }

    /// Sends home who has been free for [`IDLE_WORKER`]. Says when the next will have been.
    fn send_idle_home(&self) -> Option<Instant> {
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

    /// Starts workers where those who wait do not get on, and not for lack of processors, which more workers would
    /// not mend: for half of them, since the others' turn may come meanwhile, and no more than there are already.
    pub(super) fn relieve(&mut self) {
        let (taken, workers) = {
            let state = self.workers.state();
            (state.taken, state.inboxes.len())
        };
        let handshakes = self.shared.handshakes.load(Ordering::Relaxed);
        self.moments += 1;
        if self.moments < handshakes / HANDSHAKES * LONGER {
            return;
        }
        let moments = std::mem::take(&mut self.moments);
        let moved = taken.wrapping_sub(std::mem::replace(&mut self.taken, taken));
        let is_computing = self
            .load
            .is_high(moments, handshakes, self.shared.processors);
        let waiting = self.workers.waiting.len();
        let was_stuck = std::mem::replace(&mut self.is_stuck, moved == 0);
        let lacks_workers = !is_computing || moved == 0 && was_stuck;
        if moved * LOOKS < waiting * moments && lacks_workers {
            for _ in 0..waiting.div_ceil(2).min(workers.max(1)) {
                self.add_worker();
            }
        }
    }

    fn lacks_a_worker(&self) -> bool {
        !self.workers.waiting.is_empty() && self.has_room()
    }

    /// `MaxRequestWorkers`, which a reload may change. As many may wait as at the start.
    fn most(&self) -> usize {
        self.shared.most_workers.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.workers.state().inboxes.len() < self.most()
    }

    /// Starts a worker for a connection that waits.
    fn add_worker(&mut self) {
        if !self.lacks_a_worker() {
            return;
        }
        if let Err(error) = self.start_worker() {
            let state = self.workers.state();
            if !self.workers.waiting.is_empty() {
                self.shared.clients.crowd();
            }
            drop(state);
            if !std::mem::replace(&mut self.is_short, true) {
                let id = Id::NoWorker;
                warn!(
                    "{id} cannot start a worker: {error}; new connections wait for the workers there are; {}",
                    id.remedy()
                );
            }
        } else {
            // It may have been the last, and not enough.
            self.call_for_who_waits();
        }
    }

    fn start_worker(&mut self) -> io::Result<()> {
        let worker = match Worker::new(&self.shared) {
            Err(error) if is_exhaustion(&error) && self.close_kept() => Worker::new(&self.shared),
            outcome => outcome,
        }?;
        // On its way to the thread it would be copied from frame to frame, and each is part of that thread's stack.
        let worker = Box::new(worker);
        let id = self.next_worker;
        self.next_worker += 1;
        let membership = Membership::new(id, &self.workers, worker.inbox(), self.alive.clone());
        let shared = Arc::clone(&self.shared);
        thread::Builder::new()
            .name(format!("worker {id}"))
            .stack_size(self.shared.in_force.get().config.thread_stack_size)
            .spawn(move || membership.serve(&shared, worker))?;
        Ok(())
    }
}

impl Team {
    /// How many connections workers have, or will have: who has been handed over is with them, if it has not ended.
    pub(super) fn connections(&self) -> usize {
        let state = self.workers.state();
        // A worker that is free is found and told in one step.
        let busy = state.inboxes.len().saturating_sub(state.free.len());
        busy + self.workers.waiting.len()
    }

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
    is_starting: Cell<bool>,
    /// Dropped last: who waits for it then finds the counts up to date.
    _alive: Sender<()>,
}

impl Membership {
    fn new(id: u64, workers: &Arc<Workers>, inbox: Inbox, alive: Sender<()>) -> Self {
        let mut state = workers.state();
        state.inboxes.insert(id, inbox);
        state.starting += 1;
        drop(state);
        Self {
            id,
            workers: Arc::clone(workers),
            is_starting: Cell::new(true),
            _alive: alive,
        }
    }

    fn serve(&self, shared: &Shared, mut worker: Box<Worker>) {
        let seat = Arc::new(Seat::here(self.id));
        while let Some(accepted) = self.workers.next(&seat, &shared.clients, &self.is_starting) {
            let (id, client) = (accepted.id, accepted.connection.client);
            // What a worker has is used again only when the connection has come to its end.
            let served = catch_unwind(AssertUnwindSafe(|| {
                connection::serve(accepted, &mut worker, shared);
            }));
            if let Err(panic) = served {
                error!(
                    "[{id}] {client} {} the worker panicked, which is a bug: {}",
                    Id::Panicked,
                    said(panic.as_ref())
                );
                drop(worker);
                worker = make_anew(shared);
                self.workers.state().inboxes.insert(self.id, worker.inbox());
            }
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut state = self.workers.state();
        // Not every one has ever run: the system may refuse a thread.
        if self.is_starting.replace(false) {
            state.starting -= 1;
        }
        state.inboxes.remove(&self.id);
        let is_last_of_a_crowd = state.inboxes.len() == SPARE;
        drop(state);
        if is_last_of_a_crowd {
            crate::sys::trim_memory();
        }
    }
}

/// A worker in place of one that was lost, and whose descriptors are free again.
#[cold]
#[inline(never)]
fn make_anew(shared: &Shared) -> Box<Worker> {
    loop {
        match Worker::new(shared) {
            Ok(worker) => return Box::new(worker),
            Err(error) => {
                error!("{} cannot make a worker anew: {error}", Id::NoWorker);
                thread::sleep(IDLE_WORKER);
            }
        }
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
    use crate::net::listen::{Asked, Connection, Listener};
    use std::net::{Ipv4Addr, TcpStream};

    fn connection() -> Accepted {
        let listener = {
            let address = Some(Ipv4Addr::LOCALHOST.into());
            Listener::bind(Asked { address, port: 0 }, 1, &[]).unwrap()
        };
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
        let seat = Seat::here(1);
        queue.send(connection()).unwrap();
        let clients = IdleClients::default();
        clients.crowd();
        let served = workers.leave(&seat, &clients);
        assert_eq!(served.map(|accepted| accepted.id), Some(7));
        assert!(!clients.is_crowded());
        assert!(workers.leave(&seat, &clients).is_none());
    }
}
