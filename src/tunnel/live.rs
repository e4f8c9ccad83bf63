//! What others may know of a tunnel while it runs, and how they have it end. The thread that runs it publishes what has
//! moved once in a turn, without a lock; the rest is looked at under one that nobody holds for long.

use super::inbox::Lobby;
use crate::transaction::{CloseReason, Transaction};
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Who is told how a tunnel fares. Called in the thread that runs it, so that nothing in here may wait.
pub trait Observer: fmt::Debug + Send + Sync {
    /// So many bytes were delivered to the backend and taken from it since the last call. Called at most once in a
    /// turn, never for nothing, and for the last time before the [`end`](Self::ended): the sums are then
    /// [`Transaction::to_backend`] and [`Transaction::from_backend`].
    fn moved(&self, to_backend: u64, from_backend: u64) {
        let _ = (to_backend, from_backend);
    }

    /// The name of the balancer that has chosen its backend.
    fn balancer(&self) -> Option<Arc<str>> {
        None
    }

    /// The connection has come to its end, `took` after it was accepted. Called once, however that came, and never while
    /// a loop is locked. `live` is what the tunnel was known by.
    fn ended(&self, live: &Live, transaction: &Transaction, took: Duration);
}

impl<T: Observer + ?Sized> Observer for Arc<T> {
    fn moved(&self, to_backend: u64, from_backend: u64) {
        self.as_ref().moved(to_backend, from_backend);
    }

    fn balancer(&self) -> Option<Arc<str>> {
        self.as_ref().balancer()
    }

    fn ended(&self, live: &Live, transaction: &Transaction, took: Duration) {
        self.as_ref().ended(live, transaction, took);
    }
}

/// All of a tunnel that is not needed to move its bytes: one piece of memory for who is told of it and for who asks.
#[derive(Debug)]
pub struct Live<O: ?Sized = dyn Observer> {
    /// When the connection was accepted.
    began: Instant,
    /// Bytes that were delivered to the backend, and taken from it.
    moved: [AtomicU64; 2],
    /// Messages from the client and from the backend; with [`LOST`] where it is not made of frames, or no more.
    messages: [AtomicU64; 2],
    /// When bytes moved last, in nanoseconds since [`EPOCH`].
    moved_at: AtomicU64,
    /// The same, and not moved on by anything else.
    last_byte: AtomicU64,
    /// For who keeps a list of tunnels.
    seat: AtomicU32,
    state: Mutex<State>,
    observer: O,
}

/// What changes seldom.
#[derive(Debug)]
struct State {
    /// Nothing when it has ended.
    transaction: Option<Transaction>,
    /// Where it runs, or lies until it does.
    place: Option<Place>,
    /// Why it shall end, if somebody has said so.
    told: Option<Box<CloseReason>>,
}

#[derive(Debug, Clone)]
struct Place {
    lobby: Arc<Lobby>,
    index: usize,
}

/// How a tunnel fares at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Since its connection was accepted.
    pub age: Duration,
    /// Since bytes moved last.
    pub idle: Duration,
    /// Bytes that were delivered to the backend.
    pub to_backend: u64,
    /// Bytes that were taken from the backend.
    pub from_backend: u64,
    /// Messages from the client and from the backend; none where there are no frames.
    pub messages: [Option<u64>; 2],
    /// A reactor runs it, and no worker.
    pub is_in_reactor: bool,
    /// It has been told to end.
    pub is_ending: bool,
}

impl<O: Observer + 'static> Live<O> {
    /// Of a tunnel that begins to move bytes now, and whose connection was accepted when it `began`.
    pub fn new(transaction: Transaction, began: Instant, observer: O) -> Arc<Self> {
        let now = since_epoch();
        Arc::new(Self {
            began,
            moved: Default::default(),
            messages: Default::default(),
            moved_at: AtomicU64::new(now),
            last_byte: AtomicU64::new(now),
            seat: AtomicU32::new(0),
            state: Mutex::new(State {
                transaction: Some(transaction),
                place: None,
                told: None,
            }),
            observer,
        })
    }
}

impl Live {
    /// The number of the connection, as log lines name it; nothing when it has ended.
    pub fn id(&self) -> Option<u64> {
        Some(self.state().transaction.as_ref()?.id)
    }

    /// When its request began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// What logs begin their lines with.
    pub fn name(&self) -> String {
        match &self.state().transaction {
            Some(transaction) => format!("[{}] {}", transaction.id, transaction.client()),
            None => String::new(),
        }
    }

    /// Where who keeps a list of tunnels has this one.
    pub fn seat(&self) -> u32 {
        self.seat.load(Relaxed)
    }

    /// Notes where it is kept in a list.
    pub fn take_seat(&self, seat: u32) {
        self.seat.store(seat, Relaxed);
    }

    /// Looks at it as it is at `now`; nothing when it has ended. It cannot end meanwhile, so that this is to be short.
    pub fn look<T>(
        &self,
        now: Instant,
        look: impl FnOnce(&Transaction, Figures) -> T,
    ) -> Option<T> {
        let state = self.state();
        let transaction = state.transaction.as_ref()?;
        let [to_backend, from_backend] = self.moved();
        let figures = Figures {
            age: now.saturating_duration_since(self.began),
            idle: now.saturating_duration_since(moment(&self.last_byte)),
            to_backend,
            from_backend,
            messages: self.messages(),
            is_in_reactor: state.place.as_ref().is_some_and(|p| p.lobby.is_shared()),
            is_ending: state.told.is_some(),
        };
        Some(look(transaction, figures))
    }

    /// Tells it to end: in order, and wherever it is, also on its way from a worker to a reactor. What has to be carried out
    /// then; nothing if it has been told before, since the first reason stands.
    pub fn end(&self, reason: CloseReason) -> Option<Ending> {
        let mut state = self.state();
        if state.told.is_some() {
            return None;
        }
        state.told = Some(Box::new(reason));
        Some(Ending(state.place.clone()))
    }

    /// Why it shall end, if somebody has said so.
    pub(super) fn told(&self) -> Option<CloseReason> {
        self.state().told.as_deref().cloned()
    }

    /// From now on it is to be found there. Says whether it has been told to end.
    // Who tells it looks for its place after that, and who brings it here looks after that whether it was told: one of
    // them finds the other.
    pub(super) fn is_at(&self, lobby: &Arc<Lobby>, index: usize) -> bool {
        let lobby = Arc::clone(lobby);
        let mut state = self.state();
        state.place = Some(Place { lobby, index });
        state.told.is_some()
    }

    /// Publishes how many bytes went to the backend and came from it so far, and messages.
    pub(super) fn publish(&self, moved: [u64; 2], messages: [Option<u64>; 2]) {
        for (place, count) in self.messages.iter().zip(messages) {
            match count {
                Some(count) => place.store(count, Relaxed),
                None => _ = place.fetch_or(LOST, Relaxed),
            }
        }
        let known = self.moved();
        if moved != known {
            for (place, bytes) in self.moved.iter().zip(moved) {
                place.store(bytes, Relaxed);
            }
            let [to_backend, from_backend] = [moved[0] - known[0], moved[1] - known[1]];
            self.observer.moved(to_backend, from_backend);
        }
    }

    /// The name of the balancer that has chosen its backend.
    pub fn balancer(&self) -> Option<Arc<str>> {
        self.observer.balancer()
    }

    /// Bytes that were delivered to the backend and taken from it so far.
    pub fn moved(&self) -> [u64; 2] {
        self.moved.each_ref().map(|bytes| bytes.load(Relaxed))
    }

    /// Messages that have come from the client and from the backend so far; none where it is not made of frames.
    pub fn messages(&self) -> [Option<u64>; 2] {
        let counts = self.messages.each_ref().map(|count| count.load(Relaxed));
        counts.map(|count| (count & LOST == 0).then_some(count))
    }

    /// Those that were counted, also where it was made of frames no more after them: for sums, which never grow less.
    pub fn counted_messages(&self) -> [u64; 2] {
        let counts = self.messages.each_ref().map(|count| count.load(Relaxed));
        counts.map(|count| count & !LOST)
    }

    /// When bytes moved last, or it was given time anew for another reason.
    pub(super) fn moved_at(&self) -> Instant {
        moment(&self.moved_at)
    }

    /// Notes that it moves bytes now.
    pub(super) fn moves_bytes(&self) {
        let now = since_epoch();
        self.moved_at.store(now, Relaxed);
        self.last_byte.store(now, Relaxed);
    }

    /// Notes that it is given time anew.
    pub(super) fn moves(&self) {
        self.moved_at.store(since_epoch(), Relaxed);
    }

    /// How long no byte has moved.
    pub(super) fn silence(&self) -> Duration {
        moment(&self.last_byte).elapsed()
    }

    /// Tells the observer that it has ended, once. `complete` adds to the transaction what the tunnel knows.
    pub(super) fn finish(&self, complete: impl FnOnce(&mut Transaction)) {
        let transaction = {
            let mut state = self.state();
            state.place = None;
            state.transaction.take()
        };
        if let Some(mut transaction) = transaction {
            complete(&mut transaction);
            self.observer
                .ended(self, &transaction, self.began.elapsed());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What the lock guards is whole between statements, whatever became of another thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left to do for a tunnel to end that has been told so.
// Apart from the telling: it locks a loop, which must not wait for who keeps a list of tunnels.
#[derive(Debug)]
#[must_use]
pub struct Ending(Option<Place>);

impl Ending {
    /// Has the loop that it is in look at it. It waits for nobody.
    pub fn carry_out(self) {
        // Where it is nowhere yet, it is found out by the loop that it comes to.
        if let Some(Place { lobby, index }) = self.0 {
            lobby.look_at(index);
        }
    }
}

/// Beside a count that does not go on.
const LOST: u64 = 1 << 63;

/// What moments are counted from, so that one fits into an atomic number.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

fn moment(since_epoch: &AtomicU64) -> Instant {
    *EPOCH + Duration::from_nanos(since_epoch.load(Relaxed))
}

/// Nanoseconds until now: those of 584 years.
fn since_epoch() -> u64 {
    let epoch = *EPOCH;
    u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
