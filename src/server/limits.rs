//! How many tunnels there may be: in all, of an address, of a host, to a backend; and how fast an address may ask for them.
//!
//! What is counted lives as long as the process. The bounds come with each handshake, from the configuration that it finds,
//! so that a reload changes these alone. A handshake counts from the moment at which it is known what it asks for, and what
//! has become of it until its end: it is counted and held to the bounds in one step, so that there is never one too many.

mod table;

pub(super) use table::{Bounds, Reached};

use crate::route::url::BackendUrl;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use table::{Address, Number, Table};

/// How often the log may say that the same bound is reached. Who is refused in a flood must not fill it.
const QUIET: Duration = Duration::from_secs(60);
/// When to ask again where nobody knows when a tunnel ends: soon enough for people, and not worth a flood.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What is counted of tunnels, over all configurations.
#[derive(Debug)]
pub(super) struct Limits {
    state: Mutex<State>,
    began: Instant,
    random: RandomState,
    pub(super) counts: Counts,
}

/// What was counted since the start; for who looks at the server as it runs.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Tunnels now, and handshakes that may become some.
    pub(super) tunnels: AtomicUsize,
    /// Refused by `ProxyWebsocketMaxTunnels`.
    pub(super) refused_total: AtomicU64,
    /// Refused by `ProxyWebsocketMaxTunnelsPerHost`.
    pub(super) refused_host: AtomicU64,
    /// Refused by `ProxyWebsocketMaxTunnelsPerBackend`, where no other member took them.
    pub(super) refused_backend: AtomicU64,
    /// Refused by `ProxyWebsocketMaxTunnelsPerAddress`.
    pub(super) refused_address: AtomicU64,
    /// Refused by `ProxyWebsocketHandshakeRate`.
    pub(super) refused_rate: AtomicU64,
    /// Addresses of which it was forgotten how often they had asked, since there were too many.
    pub(super) forgotten: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    table: Table,
    notices: Notices,
}

/// When the log was last told of each bound. Pure: the time comes from the caller.
#[derive(Debug, Default)]
struct Notices([Notice; 5]);

#[derive(Debug, Default)]
struct Notice {
    /// When it is worth a line again.
    next: u64,
    /// Refusals since the last line.
    unsaid: u64,
}

/// How the log is told that a handshake was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// It is worth a line that everybody sees, and so many were not, since the last one.
    After(u64),
    /// The log has been told a moment ago.
    Known,
}

/// What one tunnel is counted by, from its handshake on; given back at its [end](Self::end), or when this is dropped, by
/// whichever thread ends it and however.
#[derive(Debug)]
pub(super) struct Place {
    limits: Arc<Limits>,
    address: Address,
    /// [`NOWHERE`] when it is over.
    host: AtomicU32,
    /// [`NOWHERE`] where it is at none.
    backend: Number,
}

/// No host, and no backend. Each tunnel has a place, which is to be small.
const NOWHERE: Number = Number::MAX;

impl Counts {
    /// Tunnels that were refused, by the bound that was reached.
    pub(super) fn refused(&self) -> [(&'static str, u64); 5] {
        [
            ("total", &self.refused_total),
            ("host", &self.refused_host),
            ("backend", &self.refused_backend),
            ("address", &self.refused_address),
            ("rate", &self.refused_rate),
        ]
        .map(|(bound, count)| (bound, count.load(Relaxed)))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            began: Instant::now(),
            random: RandomState::new(),
            counts: Counts::default(),
        }
    }
}

impl Limits {
    /// A place for a tunnel of `client` at `host`, which is its [identity](crate::config::VirtualHost::identity).
    ///
    /// # Errors
    /// The bound that is reached.
    pub(super) fn enter(
        self: &Arc<Self>,
        client: IpAddr,
        host: &Arc<str>,
        bounds: &Bounds,
        now: Instant,
    ) -> Result<Place, Reached> {
        let address = Address::from(client);
        let mut state = self.state();
        let outcome = state.table.enter(address, host, bounds, self.time_of(now));
        self.show(&state);
        drop(state);
        outcome.map(|host| Place {
            limits: Arc::clone(self),
            address,
            host: host.into(),
            backend: NOWHERE,
        })
    }

    /// Counts a refusal. Says how the log is to be told of it.
    pub(super) fn refused(&self, reached: Reached, now: Instant) -> News {
        let counts = &self.counts;
        let count = match reached {
            Reached::Total(_) => &counts.refused_total,
            Reached::Host(_) => &counts.refused_host,
            Reached::Backend(_) => &counts.refused_backend,
            Reached::Address(_) => &counts.refused_address,
            Reached::Rate(_) => &counts.refused_rate,
        };
        count.fetch_add(1, Relaxed);
        let now = self.time_of(now);
        self.state().notices.refused(reached, now)
    }

    /// A number for the connection `id` that nobody can tell beforehand.
    pub(super) fn draw(&self, id: u64) -> u32 {
        u32::try_from(self.random.hash_one(id) >> 32).unwrap_or_default()
    }

    fn time_of(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Lets those see it who do not wait for the lock.
    fn show(&self, state: &State) {
        self.counts.tunnels.store(state.table.tunnels(), Relaxed);
        self.counts
            .forgotten
            .store(state.table.forgotten(), Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is done under the lock cannot leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notices {
    fn refused(&mut self, reached: Reached, now: u64) -> News {
        let [total, host, backend, address, rate] = &mut self.0;
        let notice = match reached {
            Reached::Total(_) => total,
            Reached::Host(_) => host,
            Reached::Backend(_) => backend,
            Reached::Address(_) => address,
            Reached::Rate(_) => rate,
        };
        if now < notice.next {
            notice.unsaid += 1;
            return News::Known;
        }
        let quiet = u64::try_from(QUIET.as_nanos()).unwrap_or(u64::MAX);
        notice.next = now.saturating_add(quiet);
        News::After(std::mem::take(&mut notice.unsaid))
    }
}

impl Place {
    /// Takes one of the places at `backend`, of which there are `most`, and gives the one back that it has at another.
    ///
    /// # Errors
    /// None is left.
    pub(super) fn enter_backend(
        &mut self,
        backend: &BackendUrl,
        most: Option<usize>,
    ) -> Result<(), Reached> {
        self.leave_backend();
        self.backend = self.limits.state().table.enter_backend(backend, most)?;
        Ok(())
    }

    /// The tunnel is over: somebody may still look at it, but its place is free.
    pub(super) fn end(&self) {
        let host = self.host.swap(NOWHERE, Relaxed);
        if host == NOWHERE {
            return;
        }
        let mut state = self.limits.state();
        if self.backend != NOWHERE {
            state.table.leave_backend(self.backend);
        }
        state.table.leave(self.address, host);
        self.limits.show(&state);
    }

    /// Gives back what it has at a backend, if it is at one.
    pub(super) fn leave_backend(&mut self) {
        let backend = std::mem::replace(&mut self.backend, NOWHERE);
        if backend != NOWHERE {
            self.limits.state().table.leave_backend(backend);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.end();
    }
}

impl Reached {
    /// When the client may ask again, in whole seconds, as Retry-After takes it.
    pub(super) fn retry_after(self) -> u64 {
        let wait = match self {
            Self::Rate(wait) => wait,
            _ => RETRY_AFTER,
        };
        let begun = u64::from(wait.subsec_nanos() > 0);
        (wait.as_secs() + begun).max(1)
    }
}

impl fmt::Display for Reached {
    /// In the words of who may read them: `Address` and `Rate` go to the client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Total(most) => write!(f, "there are as many tunnels as there may be: {most}"),
            Self::Host(most) => write!(f, "the host has as many tunnels as it may: {most}"),
            Self::Backend(most) => write!(f, "the backend has as many tunnels as it may: {most}"),
            Self::Address(most) => write!(f, "this address has as many tunnels as it may: {most}"),
            Self::Rate(_) => f.write_str("this address asks for tunnels too often"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::panic::catch_unwind;
    use std::thread;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn at_most(total: usize) -> Bounds {
        Bounds {
            total: Some(total),
            ..Bounds::default()
        }
    }

    fn enter(limits: &Arc<Limits>, bounds: &Bounds) -> Result<Place, Reached> {
        limits.enter(CLIENT, &"host".into(), bounds, Instant::now())
    }

    fn backend(url: &str) -> BackendUrl {
        BackendUrl::parse(url).unwrap()
    }

    #[test]
    fn a_place_is_given_back_however_its_holder_ends() {
        let limits = Arc::<Limits>::default();
        let place = enter(&limits, &at_most(1)).unwrap();
        assert_eq!(
            enter(&limits, &at_most(1)).unwrap_err(),
            Reached::Total(1),
            "and none is counted twice"
        );
        assert_eq!(limits.counts.tunnels.load(Relaxed), 1);
        place.end();
        assert_eq!(limits.counts.tunnels.load(Relaxed), 0);
        let next = enter(&limits, &at_most(1)).unwrap();
        drop(place);
        assert_eq!(limits.counts.tunnels.load(Relaxed), 1, "once");
        drop(next);
        assert_eq!(limits.counts.tunnels.load(Relaxed), 0);
        let panicking = Arc::clone(&limits);
        let outcome = catch_unwind(move || {
            let mut place = enter(&panicking, &at_most(1)).unwrap();
            place
                .enter_backend(&backend("ws://a.example/"), Some(1))
                .unwrap();
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(outcome.is_err());
        let mut place = enter(&limits, &at_most(1)).unwrap();
        let outcome = place.enter_backend(&backend("ws://a.example/"), Some(1));
        assert_eq!(outcome, Ok(()));
    }

    #[test]
    fn who_goes_on_to_another_backend_leaves_the_first() {
        let limits = Arc::<Limits>::default();
        let [a, b] = ["ws://a.example/", "ws://b.example/"].map(backend);
        let mut first = enter(&limits, &Bounds::default()).unwrap();
        let mut second = enter(&limits, &Bounds::default()).unwrap();
        first.enter_backend(&a, Some(1)).unwrap();
        let full = Err(Reached::Backend(1));
        assert_eq!(second.enter_backend(&a, Some(1)), full);
        second.enter_backend(&b, Some(1)).unwrap();
        assert_eq!(first.enter_backend(&b, Some(1)), full, "and is nowhere");
        assert_eq!(second.enter_backend(&a, Some(1)), Ok(()));
        assert_eq!(first.enter_backend(&b, Some(1)), Ok(()));
        // Its own place is free for itself.
        assert_eq!(first.enter_backend(&b, Some(1)), Ok(()));
        drop((first, second));
        let mut third = enter(&limits, &Bounds::default()).unwrap();
        assert_eq!(third.enter_backend(&b, Some(1)), Ok(()));
    }

    #[test]
    fn threads_that_come_at_once_never_get_one_place_too_many() {
        const MOST: usize = 10;
        let limits = Arc::<Limits>::default();
        let inside = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5000 {
                        let places: Vec<_> = (0..4)
                            .filter_map(|_| enter(&limits, &at_most(MOST)).ok())
                            .inspect(|_| {
                                let others = inside.fetch_add(1, Relaxed);
                                assert!(others < MOST, "{others}");
                            })
                            .collect();
                        inside.fetch_sub(places.len(), Relaxed);
                    }
                });
            }
        });
        assert_eq!(limits.counts.tunnels.load(Relaxed), 0);
    }

    #[test]
    fn the_log_hears_of_a_bound_once_in_a_while_and_of_how_many_there_were() {
        let mut notices = Notices::default();
        let quiet = u64::try_from(QUIET.as_nanos()).unwrap();
        let total = Reached::Total(1);
        assert_eq!(notices.refused(total, 5), News::After(0));
        for now in [5, 6, quiet, quiet + 4] {
            assert_eq!(notices.refused(total, now), News::Known);
        }
        let other = Reached::Rate(Duration::ZERO);
        assert_eq!(notices.refused(other, 6), News::After(0), "each by itself");
        assert_eq!(notices.refused(total, quiet + 5), News::After(4));
        assert_eq!(notices.refused(total, quiet + 6), News::Known);
    }

    #[test]
    fn a_client_is_told_to_wait_whole_seconds_and_not_none() {
        let milliseconds = |count| Reached::Rate(Duration::from_millis(count));
        for (reached, seconds) in [
            (milliseconds(0), 1),
            (milliseconds(1), 1),
            (milliseconds(1000), 1),
            (milliseconds(1001), 2),
            (milliseconds(3_600_000), 3600),
            (Reached::Total(5), 10),
            (Reached::Address(5), 10),
        ] {
            assert_eq!(reached.retry_after(), seconds, "{reached:?}");
        }
    }

    #[test]
    fn draws_differ_from_connection_to_connection() {
        let limits = Limits::default();
        let mut draws: Vec<_> = (0..1000).map(|id| limits.draw(id) >> 22).collect();
        draws.sort_unstable();
        draws.dedup();
        assert!(draws.len() > 500, "{} of 1024 parts", draws.len());
    }
}
