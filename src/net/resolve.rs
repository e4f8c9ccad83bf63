//! Names to addresses. getaddrinfo(3) has no deadline and may need a large stack, so it runs in threads of its
//! own, which live only as long as a look-up; who asks waits by a deadline, and most are answered from a cache.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long an answer holds.
const TTL: Duration = Duration::from_secs(30);
/// How long a failure holds, and how long an old answer is used again after a look-up has failed.
const FAILURE_TTL: Duration = Duration::from_secs(2);
/// Most names in the cache; they come from the configuration only, so this is a bound, not a target.
const MOST_NAMES: usize = 1024;
/// Most look-ups at a time.
const MOST_LOOKUPS: usize = 4;
/// The C library's look-up may need more than a worker's stack.
const LOOKUP_STACK: usize = 1 << 20;

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolveError {
    /// The system's resolver said so.
    Failed(String),
    /// No answer in time.
    Deadline,
    /// The server is stopping.
    Closed,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => f.write_str(why),
            Self::Deadline => f.write_str("timed out"),
            Self::Closed => f.write_str("the server is stopping"),
        }
    }
}

impl std::error::Error for ResolveError {}

/// The addresses of a name, in the order in which they are to be tried.
pub type Addresses = Arc<[IpAddr]>;

type Lookup = dyn Fn(&str) -> Result<Vec<IpAddr>, String> + Send + Sync;

/// A resolver with a bounded cache. Its clones share it.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    lookup: Box<Lookup>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    names: HashMap<String, Name>,
    lookups: usize,
    closed: bool,
}

struct Name {
    /// What is known; nothing while the first look-up runs.
    answer: Option<Result<Addresses, String>>,
    /// When to ask again.
    until: Instant,
    looking_up: bool,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::with(system_lookup)
    }
}

impl Resolver {
    /// A resolver that asks `lookup`.
    fn with(lookup: impl Fn(&str) -> Result<Vec<IpAddr>, String> + Send + Sync + 'static) -> Self {
        let shared = Shared {
            lookup: Box::new(lookup),
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The addresses of `host`, a name or an address in text.
    ///
    /// # Errors
    /// [`ResolveError`]. A name that was known stays known when a later look-up fails.
    pub fn resolve(&self, host: &str, deadline: Instant) -> Result<Addresses, ResolveError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Arc::new([address]));
        }
        let mut state = self.shared.lock();
        loop {
            if state.closed {
                return Err(ResolveError::Closed);
            }
            let now = Instant::now();
            let known = state.names.get(host);
            if let Some(Name {
                answer: Some(answer),
                until,
                looking_up,
            }) = known
                && (*until > now
                    || answer.is_ok() && (*looking_up || state.lookups >= MOST_LOOKUPS))
            {
                return answer.clone().map_err(ResolveError::Failed);
            }
            if known.is_none_or(|name| !name.looking_up) && state.lookups < MOST_LOOKUPS {
                let stale = known.and_then(|name| name.answer.clone()?.ok());
                match self.shared.start_lookup(&mut state, host, now) {
                    Ok(()) => continue,
                    Err(error) => return stale.ok_or(error),
                }
            }
            let left = deadline.saturating_duration_since(now);
            if left.is_zero() {
                return Err(ResolveError::Deadline);
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Ends all waits: those who ask get [`ResolveError::Closed`].
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What the lock guards is whole between statements, whatever became of another thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_lookup(
        self: &Arc<Self>,
        state: &mut State,
        host: &str,
        now: Instant,
    ) -> Result<(), ResolveError> {
        if !state.names.contains_key(host) && state.names.len() >= MOST_NAMES {
            state
                .names
                .retain(|_, name| name.looking_up || name.until > now);
            if state.names.len() >= MOST_NAMES {
                return Err(ResolveError::Failed(
                    "too many names are being looked up".to_owned(),
                ));
            }
        }
        let name = host.to_owned();
        let shared = Arc::clone(self);
        thread::Builder::new()
            .name("resolver".to_owned())
            .stack_size(LOOKUP_STACK)
            .spawn(move || {
                let found = (shared.lookup)(&name);
                shared.finish_lookup(&name, found);
            })
            .map_err(|error| {
                ResolveError::Failed(format!("cannot start a resolver thread: {error}"))
            })?;
        state.lookups += 1;
        state
            .names
            .entry(host.to_owned())
            .or_insert(Name {
                answer: None,
                until: now,
                looking_up: true,
            })
            .looking_up = true;
        Ok(())
    }

    fn finish_lookup(&self, host: &str, found: Result<Vec<IpAddr>, String>) {
        let mut state = self.lock();
        state.lookups -= 1;
        if let Some(name) = state.names.get_mut(host) {
            name.looking_up = false;
            name.until = Instant::now() + if found.is_ok() { TTL } else { FAILURE_TTL };
            // A name server that is down for a while does not take the backends with it.
            if found.is_ok() || !matches!(name.answer, Some(Ok(_))) {
                name.answer = Some(found.map(Into::into));
            }
        }
        self.changed.notify_all();
    }
}

fn system_lookup(host: &str) -> Result<Vec<IpAddr>, String> {
    let found = (host, 0)
        .to_socket_addrs()
        .map_err(|error| error.to_string())?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    if addresses.is_empty() {
        return Err("the name has no address".to_owned());
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn an_address_in_text_is_not_looked_up() {
        let resolver = Resolver::with(|_| Err("asked".to_owned()));
        assert_eq!(
            *resolver.resolve("::1", soon()).unwrap(),
            ["::1".parse::<IpAddr>().unwrap()]
        );
    }

    #[test]
    fn a_second_question_is_answered_from_the_cache() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let resolver = Resolver::with(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(vec![[127, 0, 0, 1].into()])
        });
        for _ in 0..3 {
            resolver.resolve("a", soon()).unwrap();
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_look_up_that_hangs_holds_the_asker_only_to_its_deadline() {
        let (release, hang) = mpsc::channel::<()>();
        let hang = Mutex::new(hang);
        let resolver = Resolver::with(move |_| {
            let _ = hang.lock().unwrap().recv();
            Ok(vec![[127, 0, 0, 1].into()])
        });
        let deadline = Instant::now() + Duration::from_millis(5);
        assert_eq!(
            resolver.resolve("slow", deadline),
            Err(ResolveError::Deadline)
        );
        drop(release);
        assert!(resolver.resolve("slow", soon()).is_ok());
    }

    #[test]
    fn closing_ends_a_wait() {
        let (release, hang) = mpsc::channel::<()>();
        let (started, begun) = mpsc::channel::<()>();
        let hang = Mutex::new(hang);
        let resolver = Arc::new(Resolver::with(move |_| {
            started.send(()).unwrap();
            let _ = hang.lock().unwrap().recv();
            Err(String::new())
        }));
        let asker = {
            let resolver = Arc::clone(&resolver);
            thread::spawn(move || resolver.resolve("slow", soon()))
        };
        begun.recv().unwrap();
        resolver.close();
        assert_eq!(asker.join().unwrap(), Err(ResolveError::Closed));
        drop(release);
    }

    #[test]
    fn a_known_name_stays_known_when_a_later_look_up_fails() {
        let resolver = Resolver::with(|_| Err("no name server".to_owned()));
        let address: IpAddr = [10, 0, 0, 1].into();
        resolver.shared.lock().names.insert(
            "a".to_owned(),
            Name {
                answer: Some(Ok([address].into())),
                until: Instant::now(),
                looking_up: false,
            },
        );
        assert_eq!(*resolver.resolve("a", soon()).unwrap(), [address]);
    }
}
