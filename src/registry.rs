//! The tunnels that are open, for who wants to see them or to end one. A list in shards: each is locked when a tunnel opens
//! and closes, and while it is copied, so that nobody waits for a look at all of them.

use crate::route::backend::Backend;
use crate::transaction::CloseReason;
use crate::tunnel::Live;
use crate::tunnel::live::Figures;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// So many that of 20,000 tunnels a few hundred are copied at a time.
const SHARDS: usize = 64;
/// Room that a shard gets more when it is full.
const STEP: usize = 8;

/// All tunnels that are open.
#[derive(Debug)]
pub struct Registry {
    shards: [Mutex<Shard>; SHARDS],
}

/// Those whose numbers leave the same remainder.
#[derive(Debug, Default)]
struct Shard {
    seats: Vec<Seat>,
    /// The first of the vacant seats, each of which knows the next.
    vacant: Option<u32>,
    /// Seats that are taken.
    taken: usize,
    /// Of those that have ended.
    ended: Sums,
}

#[derive(Debug)]
enum Seat {
    Taken(Arc<Live>),
    Vacant(Option<u32>),
}

/// What tunnels come to together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// How many they are.
    pub tunnels: u64,
    /// Bytes that were delivered to backends.
    pub to_backend: u64,
    /// Bytes that were taken from backends.
    pub from_backend: u64,
    /// Messages of WebSockets to backends and from them.
    pub messages: [u64; 2],
}

impl Sums {
    fn of(live: &Live) -> Self {
        let [to_backend, from_backend] = live.moved();
        Self {
            tunnels: 1,
            to_backend,
            from_backend,
            messages: live.counted_messages(),
        }
    }

    /// Adds those of others.
    pub fn add(&mut self, more: Self) {
        self.tunnels += more.tunnels;
        self.to_backend += more.to_backend;
        self.from_backend += more.from_backend;
        for (sum, more) in self.messages.iter_mut().zip(more.messages) {
            *sum += more;
        }
    }
}

/// What is known of a tunnel at one moment.
#[derive(Debug, Clone)]
pub struct View {
    /// The number of its connection, as log lines name it.
    pub id: u64,
    /// The client, as far as it is known.
    pub client: SocketAddr,
    /// The name of its virtual host.
    pub host: Arc<str>,
    /// The line of the configuration that it met: `ProxyPass "/ws/"`.
    pub mapping: Option<Arc<str>>,
    /// The backend that it leads to; the member that its balancer has chosen, where there is one.
    pub backend: Option<Arc<Backend>>,
    /// The balancer that has chosen it.
    pub balancer: Option<Arc<str>>,
    /// How it fares.
    pub figures: Figures,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl Registry {
    /// Takes in a tunnel that opens. It stays until it is [closed](Self::close).
    pub fn open(&self, live: Arc<Live>) {
        if let Some(id) = live.id() {
            self.shard_of(id).take_in(live);
        }
    }

    /// Takes out the tunnel of this number, which has ended. Who has not been taken in is not taken out.
    pub fn close(&self, id: u64, live: &Live) {
        // What is dropped here is dropped without the lock.
        let gone = self.shard_of(id).take_out(live);
        drop(gone);
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        (0..SHARDS).map(|shard| self.shard(shard).taken).sum()
    }

    /// All that are open, in no order, and the sums of all that ever were, those among them. They are copied shard by shard,
    /// each when those before it have been taken. No byte is ever missing in the sums that was in them before.
    pub fn views(&self) -> impl Iterator<Item = (Vec<View>, Sums)> {
        (0..SHARDS).map(|shard| self.shard(shard).views())
    }

    /// The tunnel of this number.
    pub fn find(&self, id: u64) -> Option<View> {
        let shard = self.shard_of(id);
        let live = shard.find(id)?;
        view(live, Instant::now())
    }

    /// Has the tunnel of this number end in order, and waits for nobody. Whether there is one; of several reasons the first
    /// stands.
    pub fn end(&self, id: u64, reason: CloseReason) -> bool {
        let told = {
            let shard = self.shard_of(id);
            shard.find(id).map(|live| live.end(reason))
        };
        let is_open = told.is_some();
        if let Some(ending) = told.flatten() {
            ending.carry_out();
        }
        is_open
    }

    fn shard_of(&self, id: u64) -> MutexGuard<'_, Shard> {
        let shards = SHARDS as u64;
        self.shard(usize::try_from(id % shards).unwrap_or_default())
    }

    fn shard(&self, number: usize) -> MutexGuard<'_, Shard> {
        #[expect(clippy::indexing_slicing, reason = "there is one for every remainder")]
        let shard = &self.shards[number % SHARDS];
        // What the lock guards is whole between statements, whatever became of another thread.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn views(&self) -> (Vec<View>, Sums) {
        let now = Instant::now();
        let mut views = Vec::with_capacity(self.taken);
        let mut sums = self.ended;
        for live in self.open() {
            // One that has just ended is counted here until it is taken out.
            sums.add(Sums::of(live));
            views.extend(view(live, now));
        }
        (views, sums)
    }

    fn take_in(&mut self, live: Arc<Live>) {
        if self.seats.len() == self.seats.capacity() {
            // A quarter more, and not twice as many: there may be thousands.
            self.seats.reserve_exact(self.seats.len() / 4 + STEP);
        }
        let next = u32::try_from(self.seats.len()).unwrap_or(u32::MAX);
        let number = self.vacant.unwrap_or(next);
        live.take_seat(number);
        match self.seats.get_mut(number as usize) {
            Some(seat) => {
                if let Seat::Vacant(next) = std::mem::replace(seat, Seat::Taken(live)) {
                    self.vacant = next;
                }
            }
            None => self.seats.push(Seat::Taken(live)),
        }
        self.taken += 1;
    }

    fn take_out(&mut self, live: &Live) -> Option<Arc<Live>> {
        let number = live.seat();
        let seat = self.seats.get_mut(number as usize)?;
        let is_its =
            matches!(seat, Seat::Taken(other) if std::ptr::addr_eq(Arc::as_ptr(other), live));
        if !is_its {
            return None;
        }
        let seat = std::mem::replace(seat, Seat::Vacant(self.vacant));
        self.vacant = Some(number);
        self.taken -= 1;
        self.ended.add(Sums::of(live));
        if self.taken == 0 {
            // Nothing else is kept of the busiest hour.
            *self = Self {
                ended: self.ended,
                ..Self::default()
            };
        }
        match seat {
            Seat::Taken(live) => Some(live),
            Seat::Vacant(_) => None,
        }
    }

    fn open(&self) -> impl Iterator<Item = &Live> {
        self.seats.iter().filter_map(|seat| match seat {
            Seat::Taken(live) => Some(live.as_ref()),
            Seat::Vacant(_) => None,
        })
    }

    fn find(&self, id: u64) -> Option<&Live> {
        self.open().find(|live| live.id() == Some(id))
    }
}

fn view(live: &Live, now: Instant) -> Option<View> {
    live.look(now, |transaction, figures| View {
        id: transaction.id,
        client: transaction.client(),
        host: Arc::clone(&transaction.server_name),
        mapping: transaction.mapping.clone(),
        backend: transaction.backend.clone(),
        balancer: live.balancer(),
        figures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::Transaction;
    use crate::tunnel::Observer;
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;
    use std::time::{Duration, UNIX_EPOCH};

    #[derive(Debug)]
    struct Nobody;

    impl Observer for Nobody {
        fn ended(&self, _: &Live, _: &Transaction, _: Duration) {}
    }

    fn live(id: u64) -> Arc<Live> {
        let address = (Ipv4Addr::LOCALHOST, 1).into();
        let transaction = Transaction::new(id, address, address, UNIX_EPOCH);
        Live::new(transaction, Instant::now(), Nobody)
    }

    #[test]
    fn who_has_been_taken_in_is_there_until_he_is_taken_out() {
        let registry = Registry::default();
        let tunnels: Vec<_> = (1..=1000).map(live).collect();
        for live in &tunnels {
            registry.open(Arc::clone(live));
        }
        let ids = || {
            let views = registry.views().flat_map(|(views, _)| views);
            views.map(|view| view.id).collect::<BTreeSet<u64>>()
        };
        assert_eq!(ids(), (1..=1000).collect());
        for live in tunnels.iter().filter(|live| live.id().unwrap() % 3 > 0) {
            registry.close(live.id().unwrap(), live);
        }
        let left: BTreeSet<u64> = (1..=1000).filter(|id| id % 3 == 0).collect();
        assert_eq!(ids(), left);
        assert_eq!(registry.count(), left.len());
        assert_eq!(registry.find(999).map(|view| view.id), Some(999));
        assert!(registry.find(1000).is_none());
        // Their seats are used again, and one that was never taken in takes nobody's.
        let more: Vec<_> = (1001..=2000).map(live).collect();
        for live in &more {
            registry.open(Arc::clone(live));
        }
        registry.close(999, &tunnels[0]);
        assert_eq!(registry.count(), left.len() + 1000);
        for live in tunnels.iter().chain(&more) {
            registry.close(live.id().unwrap(), live);
        }
        assert_eq!(registry.count(), 0);
        assert!(registry.shards.iter().all(|shard| {
            let shard = shard.lock().unwrap();
            shard.seats.capacity() == 0 && shard.vacant.is_none()
        }));
        assert!(more.iter().all(|live| Arc::strong_count(live) == 1));
        let ever: u64 = registry.views().map(|(_, sums)| sums.tunnels).sum();
        assert_eq!(ever, 2000, "they have been there");
    }

    #[test]
    fn one_that_is_ended_knows_it_and_nobody_else_does() {
        let registry = Registry::default();
        for id in [7, 8, 7 + SHARDS as u64] {
            registry.open(live(id));
        }
        assert!(!registry.end(9, CloseReason::Administrator { code: None }));
        assert!(registry.end(7, CloseReason::Administrator { code: None }));
        assert!(registry.end(7, CloseReason::Stopping), "it is still there");
        let views = registry.views().flat_map(|(views, _)| views);
        let ending: Vec<u64> = views
            .filter(|view| view.figures.is_ending)
            .map(|view| view.id)
            .collect();
        assert_eq!(ending, [7]);
    }
}
