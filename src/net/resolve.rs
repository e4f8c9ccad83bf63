//! Names to addresses. getaddrinfo(3) has no deadline and may need a large stack, so it runs in threads of its
//! own, which live only as long as a look-up; who asks waits by a deadline, and most are answered from a cache.
//!
//! The rule for names that move: an answer holds for a time that the asker says. The next to ask has the name looked up
//! again, and goes on with what is known; an answer that is twice as old is rather waited for. And where nobody can be
//! reached at any of the addresses, the name is looked up at once ([`Resolver::others`]). What was known stays known as long
//! as look-ups fail.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long an answer holds where nobody says anything else.
// httpd: as long as the program runs, unless `addressttl=` says so.
pub const TTL: Duration = Duration::from_secs(30);
/// How long a failure holds, and how long an old answer is used again after a look-up has failed.
const FAILURE_TTL: Duration = Duration::from_secs(2);
/// How long those wait for a look-up who could also go on without.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often at most a name is looked up because nobody can be reached at its addresses: a backend that is down must not
/// keep the name servers busy.
const AGAIN: Duration = Duration::from_secs(1);
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
    /// When that was said.
    said: Instant,
    /// When the last look-up ended, or the first one began.
    looked: Instant,
    /// The last look-up failed, although there is an answer.
    is_doubtful: bool,
    /// Since when one runs.
    looking_since: Option<Instant>,
}

/// What is to be done with what is known of a name.
enum Known {
    /// Use it.
    Holds(Result<Addresses, String>),
    /// Use it, and ask again for those who come later.
    Ages(Addresses),
    /// Ask again; where no answer comes soon, this will do.
    Old(Addresses),
    /// Ask.
    Nothing,
}

impl Name {
    /// For one who came at `came`; what was said since then is new to him, however short `ttl` is.
    fn known(&self, ttl: Duration, came: Instant, now: Instant) -> Known {
        let age = now.saturating_duration_since(self.said);
        let since_look = now.saturating_duration_since(self.looked);
        match &self.answer {
            Some(Ok(addresses)) => {
                let addresses = Arc::clone(addresses);
                let is_new = age < ttl || self.said >= came;
                if is_new || self.is_doubtful && since_look < FAILURE_TTL {
                    Known::Holds(Ok(addresses))
                } else if self.is_doubtful || age < ttl.saturating_mul(2) {
                    Known::Ages(addresses)
                } else {
                    Known::Old(addresses)
                }
            }
            Some(Err(why)) if since_look < FAILURE_TTL => Known::Holds(Err(why.clone())),
            Some(Err(_)) | None => Known::Nothing,
        }
    }
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
    pub(super) fn with(
        lookup: impl Fn(&str) -> Result<Vec<IpAddr>, String> + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared {
            lookup: Box::new(lookup),
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The addresses of `host`, a name or an address in text, as they were said within `ttl` or twice that.
    ///
    /// # Errors
    /// [`ResolveError`]. A name that was known stays known when a later look-up fails.
    pub fn resolve(
        &self,
        host: &str,
        ttl: Duration,
        deadline: Instant,
    ) -> Result<Addresses, ResolveError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Arc::new([address]));
        }
        let came = Instant::now();
        let mut state = self.shared.lock();
        loop {
            if state.closed {
                return Err(ResolveError::Closed);
            }
            let now = Instant::now();
            let name = state.names.get(host);
            let since = name.and_then(|name| name.looking_since);
            let known = name.map_or(Known::Nothing, |name| name.known(ttl, came, now));
            if let Known::Holds(answer) = known {
                return answer.map_err(ResolveError::Failed);
            }
            let has_begun = self.shared.begin_lookup(&mut state, host, now);
            let old = match known {
                Known::Ages(addresses) => return Ok(addresses),
                Known::Old(addresses) => Some(addresses),
                Known::Holds(_) | Known::Nothing => None,
            };
            match has_begun {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => return old.ok_or(error),
            }
            let until = match &old {
                Some(_) => deadline.min(since.unwrap_or(came) + PATIENCE),
                None => deadline,
            };
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                return old.ok_or(ResolveError::Deadline);
            }
            state = self.shared.wait(state, left);
        }
    }

    /// The addresses of `host` beyond those that were `tried`, where nobody could be reached at any of these: it may have
    /// moved since its name was looked up. So it is looked up again, if that was not just done, which is waited for by the
    /// deadline, and no longer than 2 seconds.
    pub fn others(&self, host: &str, tried: &[IpAddr], deadline: Instant) -> Option<Addresses> {
        let came = Instant::now();
        let mut state = self.shared.lock();
        loop {
            let now = Instant::now();
            // An address in text is no name.
            let name = state.names.get(host).filter(|_| !state.closed)?;
            if let Some(Ok(addresses)) = &name.answer {
                let others = addresses.iter().filter(|address| !tried.contains(address));
                let others: Addresses = others.copied().collect();
                if !others.is_empty() {
                    return Some(others);
                }
            }
            let since = name.looking_since;
            if since.is_none() && now.saturating_duration_since(name.looked) < AGAIN {
                return None;
            }
            if self.shared.begin_lookup(&mut state, host, now).ok()? {
                continue;
            }
            let until = deadline.min(since.unwrap_or(came) + PATIENCE);
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                return None;
            }
            state = self.shared.wait(state, left);
        }
    }

    /// Whether `host` still has this address, as far as is known; an answer that has held for `ttl` is asked for again
    /// meanwhile. Never waits.
    pub fn still_has(&self, host: &str, address: IpAddr, ttl: Duration) -> bool {
        let now = Instant::now();
        let mut state = self.shared.lock();
        let Some(name) = state.names.get(host) else {
            return true;
        };
        let has = match &name.answer {
            Some(Ok(addresses)) => addresses.contains(&address),
            _ => true,
        };
        if !matches!(name.known(ttl.max(AGAIN), now, now), Known::Holds(_)) {
            // If it cannot be done now, the next one does it.
            let _ = self.shared.begin_lookup(&mut state, host, now);
        }
        has
    }

    /// Ends all waits: those who ask get [`ResolveError::Closed`].
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
impl Resolver {
    /// Makes what is known of a name, and its last look-up, older by this.
    pub(super) fn age(&self, host: &str, by: Duration) {
        if let Some(name) = self.shared.lock().names.get_mut(host) {
            name.said = name.said.checked_sub(by).unwrap_or(name.said);
            name.looked = name.looked.checked_sub(by).unwrap_or(name.looked);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What the lock guards is whole between statements, whatever became of another thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, left: Duration) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// Has a name looked up, unless somebody has, or too many are. Whether it was begun.
    fn begin_lookup(
        self: &Arc<Self>,
        state: &mut State,
        host: &str,
        now: Instant,
    ) -> Result<bool, ResolveError> {
        let known = state.names.get(host);
        if known.is_some_and(|name| name.looking_since.is_some()) || state.lookups >= MOST_LOOKUPS {
            return Ok(false);
        }
        if known.is_none() && state.names.len() >= MOST_NAMES {
            state.names.retain(|_, name| {
                name.looking_since.is_some() || now.saturating_duration_since(name.looked) < TTL
            });
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
        let unknown = Name {
            answer: None,
            said: now,
            looked: now,
            is_doubtful: false,
            looking_since: None,
        };
        let name = state.names.entry(host.to_owned()).or_insert(unknown);
        name.looking_since = Some(now);
        Ok(true)
    }

    fn finish_lookup(&self, host: &str, found: Result<Vec<IpAddr>, String>) {
        let mut state = self.lock();
        state.lookups -= 1;
        if let Some(name) = state.names.get_mut(host) {
            name.looking_since = None;
            name.looked = Instant::now();
            // A name server that is down for a while does not take the backends with it.
            name.is_doubtful = found.is_err() && matches!(name.answer, Some(Ok(_)));
            if !name.is_doubtful {
                name.said = name.looked;
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
            *resolver.resolve("::1", TTL, soon()).unwrap(),
            ["::1".parse::<IpAddr>().unwrap()]
        );
    }

    const NEVER: Duration = Duration::MAX;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    /// A resolver whose look-ups say what comes out of the channel, and hang where nothing does; and how many there were.
    fn scripted() -> (Resolver, mpsc::Sender<Vec<IpAddr>>, Arc<AtomicUsize>) {
        let (say, said) = mpsc::channel::<Vec<IpAddr>>();
        let said = Mutex::new(said);
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let resolver = Resolver::with(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            let said = said.lock().unwrap().recv().unwrap_or_default();
            if said.is_empty() {
                return Err("no name server".to_owned());
            }
            Ok(said)
        });
        (resolver, say, asked)
    }

    fn age(resolver: &Resolver, by: Duration) {
        resolver.age("a", by);
    }

    /// Waits for the look-up that runs.
    fn settle(resolver: &Resolver) {
        let mut state = resolver.shared.lock();
        while state.lookups > 0 {
            state = resolver.shared.wait(state, Duration::from_secs(20));
        }
    }

    fn resolved(resolver: &Resolver, ttl: Duration) -> Vec<IpAddr> {
        resolver.resolve("a", ttl, soon()).unwrap().to_vec()
    }

    #[test]
    fn a_second_question_is_answered_from_the_cache() {
        let (resolver, say, asked) = scripted();
        say.send(vec![address(1)]).unwrap();
        for _ in 0..3 {
            assert_eq!(resolved(&resolver, TTL), [address(1)]);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn who_asks_after_its_time_gets_the_old_answer_and_those_after_him_the_new_one() {
        let (resolver, say, asked) = scripted();
        say.send(vec![address(1)]).unwrap();
        resolved(&resolver, TTL);
        age(&resolver, TTL);
        for _ in 0..3 {
            assert_eq!(resolved(&resolver, TTL), [address(1)], "nobody waits");
        }
        say.send(vec![address(2)]).unwrap();
        settle(&resolver);
        assert_eq!(resolved(&resolver, TTL), [address(2)]);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn an_answer_of_twice_its_time_is_waited_for() {
        let (resolver, say, asked) = scripted();
        for (last, ttl) in [(2, TTL), (3, Duration::ZERO), (4, Duration::ZERO)] {
            say.send(vec![address(last - 1)]).unwrap();
            resolved(&resolver, ttl);
            age(&resolver, 2 * TTL);
            say.send(vec![address(last)]).unwrap();
            assert_eq!(resolved(&resolver, ttl), [address(last)], "{ttl:?}");
            age(&resolver, 2 * TTL);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 6);
        say.send(vec![address(9)]).unwrap();
        age(&resolver, 2 * TTL);
        assert_eq!(resolved(&resolver, NEVER), [address(4)]);
        assert_eq!(asked.load(Ordering::SeqCst), 6, "it holds for ever");
    }

    #[test]
    fn name_servers_that_hang_hold_up_nobody_for_long_who_can_go_on() {
        let (resolver, say, asked) = scripted();
        say.send(vec![address(1)]).unwrap();
        resolved(&resolver, TTL);
        age(&resolver, 2 * TTL);
        let began = Instant::now();
        let deadline = began + Duration::from_millis(20);
        let found = resolver.resolve("a", TTL, deadline).unwrap();
        assert_eq!(*found, [address(1)], "rather the old one than none");
        assert!(Instant::now() >= deadline);
        // Once the look-up has taken all patience, nobody waits for it.
        let long_ago = began.checked_sub(PATIENCE).unwrap();
        resolver
            .shared
            .lock()
            .names
            .get_mut("a")
            .unwrap()
            .looking_since = Some(long_ago);
        assert_eq!(resolved(&resolver, TTL), [address(1)]);
        assert!(began.elapsed() < PATIENCE);
        // It fails, which is doubtful for a while: nobody asks, and then nobody waits.
        say.send(Vec::new()).unwrap();
        settle(&resolver);
        assert_eq!(resolved(&resolver, TTL), [address(1)]);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        age(&resolver, FAILURE_TTL);
        assert_eq!(resolved(&resolver, TTL), [address(1)]);
        say.send(vec![address(2)]).unwrap();
        settle(&resolver);
        assert_eq!(resolved(&resolver, TTL), [address(2)]);
    }

    #[test]
    fn a_name_whose_addresses_fail_is_looked_up_at_once_but_not_all_the_time() {
        let (resolver, say, asked) = scripted();
        let others = |tried: &[IpAddr]| {
            let others = resolver.others("a", tried, soon());
            others.map(|found| found.to_vec())
        };
        assert_eq!(others(&[address(1)]), None, "nobody has asked for it");
        say.send(vec![address(1)]).unwrap();
        resolved(&resolver, NEVER);
        assert_eq!(others(&[address(1)]), None, "it was looked up just now");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        age(&resolver, AGAIN);
        say.send(vec![address(1), address(2), address(3)]).unwrap();
        let found = Some(vec![address(2), address(3)]);
        assert_eq!(others(&[address(1)]), found);
        assert_eq!(others(&[address(1)]), found, "from the cache");
        assert_eq!(resolved(&resolver, NEVER).len(), 3);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        // It has not moved, or nobody knows.
        let all = [address(1), address(2), address(3)];
        for answer in [all.to_vec(), Vec::new()] {
            age(&resolver, AGAIN);
            say.send(answer).unwrap();
            assert_eq!(others(&all), None);
            assert_eq!(others(&all), None);
            assert_eq!(resolved(&resolver, NEVER), all);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 4);
        // One that hangs is for the next request.
        age(&resolver, AGAIN);
        let deadline = Instant::now() + Duration::from_millis(5);
        assert_eq!(resolver.others("a", &all, deadline), None);
        say.send(vec![address(4)]).unwrap();
        settle(&resolver);
        assert_eq!(resolved(&resolver, NEVER), [address(4)]);
        assert_eq!(resolver.others("10.0.0.1", &[address(1)], soon()), None);
    }

    #[test]
    fn what_is_connected_is_told_when_its_address_is_gone() {
        let (resolver, say, asked) = scripted();
        let has = |last| resolver.still_has("a", address(last), TTL);
        assert!(has(1), "nothing is known of it");
        say.send(vec![address(1), address(2)]).unwrap();
        resolved(&resolver, TTL);
        assert!(has(1) && has(2) && !has(3));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        age(&resolver, TTL);
        assert!(has(1), "as far as is known");
        say.send(vec![address(2)]).unwrap();
        settle(&resolver);
        assert!(!has(1) && has(2));
        // Not more often than once in a second, however short the time is.
        assert!(resolver.still_has("a", address(2), Duration::ZERO));
        assert_eq!(asked.load(Ordering::SeqCst), 2);
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
            resolver.resolve("slow", TTL, deadline),
            Err(ResolveError::Deadline)
        );
        drop(release);
        assert!(resolver.resolve("slow", TTL, soon()).is_ok());
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
            thread::spawn(move || resolver.resolve("slow", TTL, soon()))
        };
        begun.recv().unwrap();
        resolver.close();
        assert_eq!(asker.join().unwrap(), Err(ResolveError::Closed));
        drop(release);
    }
}
