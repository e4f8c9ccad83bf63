//! Who has how many tunnels, and who has asked too often: plain counters, whose clock comes from the caller.
//!
//! An entry is there only while an address, a host or a backend has tunnels, or while the bucket of an address is not full.
//! So there are no more entries than tunnels, and [`MOST_DEBTS`] of those that have asked.

use crate::config::Rate;
use crate::route::url::BackendUrl;
use std::collections::hash_map::Entry as Place;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Most addresses of which it is known how often they have asked; a hundred bytes each. Who has a network of more has more
/// than any such rate can hold off.
const MOST_DEBTS: usize = 65_536;
/// Most buckets that one handshake clears away, so that none pays for a flood that was before it. They are cleared faster
/// than they come.
const SWEPT_AT_ONCE: usize = 16;
/// What is kept of the room for the busiest hour.
const LEAST_ROOM: usize = 64;

/// Whose tunnels are counted together: an IPv4 address, also in the form of an IPv6 one, or the first 64 bits of an IPv6
/// address, which is what one customer has at least (RFC 6177).
///
/// An IPv4 address is kept as the first bits of IPv6 addresses that nobody has (0:1::/32, of what RFC 4291 section 4 leaves
/// unassigned): each tunnel has one of these, and is to be small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Address(u64);

const OF_IPV4: u64 = 1;

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(OF_IPV4 << 32 | u64::from(address.to_bits())),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                let bits = [a, b, c, d].map(u64::from);
                Self(bits.into_iter().fold(0, |all, part| all << 16 | part))
            }
        }
    }
}

/// What a handshake is held to. None: there is no such bound.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::server) struct Bounds {
    pub(in crate::server) total: Option<usize>,
    pub(in crate::server) per_host: Option<usize>,
    pub(in crate::server) per_address: Option<usize>,
    pub(in crate::server) rate: Option<Rate>,
}

/// The bound that a handshake would break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Reached {
    /// As many tunnels as there may be.
    Total(usize),
    /// As many as the host may have.
    Host(usize),
    /// As many as the backend may have.
    Backend(usize),
    /// As many as the address may have.
    Address(usize),
    /// The address has asked too often; it may ask again after this time.
    Rate(Duration),
}

/// All that is counted. The tunnels include handshakes that may become some.
#[derive(Debug)]
pub(super) struct Table {
    tunnels: usize,
    addresses: HashMap<Address, Account>,
    hosts: Tally<Arc<str>>,
    backends: Tally<BackendUrl>,
    /// The addresses whose bucket is not full, by when it will be.
    debts: BTreeSet<(u64, Address)>,
    most_debts: usize,
    /// Addresses whose debt was forgotten, since there were too many.
    forgotten: u64,
}

/// Of one address.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    tunnels: usize,
    /// When its bucket is full again, as a time of the table; 0: it is.
    full_at: u64,
}

impl Default for Table {
    fn default() -> Self {
        Self::with_room_for(MOST_DEBTS)
    }
}

impl Table {
    fn with_room_for(most_debts: usize) -> Self {
        Self {
            tunnels: 0,
            addresses: HashMap::new(),
            hosts: Tally::default(),
            backends: Tally::default(),
            debts: BTreeSet::new(),
            most_debts,
            forgotten: 0,
        }
    }

    pub(super) fn tunnels(&self) -> usize {
        self.tunnels
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Counts one more, unless that would break one of `bounds`. `now` is in nanoseconds since some moment before.
    ///
    /// Who asks too often has not asked: a client that tries again and again gets in as soon as one that waits. All others
    /// have asked, whatever comes of it.
    pub(super) fn enter(
        &mut self,
        address: Address,
        host: &Arc<str>,
        bounds: &Bounds,
        now: u64,
    ) -> Result<Number, Reached> {
        self.sweep(now);
        if let Some(rate) = &bounds.rate {
            self.ask(address, rate, now)?;
        }
        let account = self.addresses.get(&address);
        let of_address = account.map_or(0, |account| account.tunnels);
        let of_host = self.hosts.count(host);
        // Who may have no more is told so rather than that the house is full.
        is_below(of_address, bounds.per_address).map_err(Reached::Address)?;
        is_below(of_host, bounds.per_host).map_err(Reached::Host)?;
        is_below(self.tunnels, bounds.total).map_err(Reached::Total)?;
        self.addresses.entry(address).or_default().tunnels += 1;
        self.tunnels += 1;
        Ok(self.hosts.add(host))
    }

    /// One that was counted by [`Self::enter`] is over.
    pub(super) fn leave(&mut self, address: Address, host: Number) {
        debug_assert!(self.tunnels > 0, "more left than came");
        self.tunnels = self.tunnels.saturating_sub(1);
        if let Some(account) = self.addresses.get_mut(&address) {
            account.tunnels = account.tunnels.saturating_sub(1);
        }
        self.forget_if_idle(address);
        self.hosts.take(host);
    }

    /// Counts one more at a backend, if `most` allows that.
    pub(super) fn enter_backend(
        &mut self,
        url: &BackendUrl,
        most: Option<usize>,
    ) -> Result<Number, Reached> {
        is_below(self.backends.count(url), most).map_err(Reached::Backend)?;
        Ok(self.backends.add(url))
    }

    /// One that was counted by [`Self::enter_backend`] is over.
    pub(super) fn leave_backend(&mut self, backend: Number) {
        self.backends.take(backend);
    }

    /// Takes one out of the bucket of `address`. What is kept is when the bucket will be full: then nothing has to fall
    /// into it, and a rate that a reload has changed holds from the next one on.
    fn ask(&mut self, address: Address, rate: &Rate, now: u64) -> Result<(), Reached> {
        let interval = nanoseconds(rate.interval);
        let most = interval.saturating_mul(u64::from(rate.burst));
        let full_at = self.addresses.get(&address).map_or(0, |it| it.full_at);
        // Under a rate that was slower, it may have been more.
        let debt = full_at.saturating_sub(now).min(most) + interval;
        if debt > most {
            return Err(Reached::Rate(Duration::from_nanos(debt - most)));
        }
        self.debts.remove(&(full_at, address));
        let full_at = now.saturating_add(debt);
        self.addresses.entry(address).or_default().full_at = full_at;
        self.debts.insert((full_at, address));
        while self.debts.len() > self.most_debts {
            // The one that is nearest to being full has the least to be forgotten. Nobody is refused for others.
            self.forgotten += 1;
            self.forget_first();
        }
        Ok(())
    }

    /// Clears away what is full again.
    fn sweep(&mut self, now: u64) {
        for _ in 0..SWEPT_AT_ONCE {
            match self.debts.first() {
                Some((full_at, _)) if *full_at <= now => self.forget_first(),
                _ => return,
            }
        }
    }

    fn forget_first(&mut self) {
        let Some((_, address)) = self.debts.pop_first() else {
            return;
        };
        if let Some(account) = self.addresses.get_mut(&address) {
            account.full_at = 0;
        }
        self.forget_if_idle(address);
    }

    fn forget_if_idle(&mut self, address: Address) {
        if let Place::Occupied(place) = self.addresses.entry(address)
            && place.get().tunnels == 0
            && place.get().full_at == 0
        {
            place.remove();
            give_room_back(&mut self.addresses);
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether there is one below `most`, which else is what comes back.
fn is_below(count: usize, most: Option<usize>) -> Result<(), usize> {
    most.filter(|most| count >= *most).map_or(Ok(()), Err)
}

/// How many there are of each key. Who is counted is told a number, which is small, and finds the count without the key.
#[derive(Debug)]
struct Tally<K> {
    numbers: HashMap<K, Number>,
    /// By their numbers.
    counts: Vec<Option<(K, usize)>>,
    vacant: Vec<Number>,
}

/// Of a key that is counted.
pub(super) type Number = u32;

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            counts: Vec::new(),
            vacant: Vec::new(),
        }
    }
}

impl<K: Hash + Eq + Clone> Tally<K> {
    fn count(&self, key: &K) -> usize {
        let number = self.numbers.get(key);
        let place = number.and_then(|number| self.counts.get(*number as usize)?.as_ref());
        place.map_or(0, |(_, count)| *count)
    }

    fn add(&mut self, key: &K) -> Number {
        if let Some(number) = self.numbers.get(key)
            && let Some(Some((_, count))) = self.counts.get_mut(*number as usize)
        {
            *count += 1;
            return *number;
        }
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.counts.push(None);
            // There are no more of them than tunnels, each of which has descriptors.
            Number::try_from(self.counts.len() - 1).unwrap_or(Number::MAX)
        });
        if let Some(place) = self.counts.get_mut(number as usize) {
            *place = Some((key.clone(), 1));
        }
        self.numbers.insert(key.clone(), number);
        number
    }

    fn take(&mut self, number: Number) {
        let Some(place @ Some(_)) = self.counts.get_mut(number as usize) else {
            debug_assert!(false, "more left than came");
            return;
        };
        if let Some((_, count)) = place
            && *count > 1
        {
            *count -= 1;
        } else if let Some((key, _)) = place.take() {
            self.numbers.remove(&key);
            self.vacant.push(number);
            if self.numbers.is_empty() {
                // Nothing is kept of the busiest hour.
                *self = Self::default();
            }
        }
    }
}

/// Of the room that a map once needed, most is given back; seldom enough that it costs nothing.
fn give_room_back<K: Hash + Eq, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > LEAST_ROOM && map.len() < map.capacity() / 8 {
        map.shrink_to(map.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn numbered(number: u32) -> Address {
        IpAddr::from(std::net::Ipv4Addr::from_bits(number)).into()
    }

    fn host(name: &str) -> Arc<str> {
        name.into()
    }

    fn rate(interval: Duration, burst: u32) -> Bounds {
        Bounds {
            rate: Some(Rate { interval, burst }),
            ..Bounds::default()
        }
    }

    /// One that comes and goes.
    #[track_caller]
    fn visit(table: &mut Table, address: Address, bounds: &Bounds, now: u64) {
        let number = table.enter(address, &host("one"), bounds, now).unwrap();
        table.leave(address, number);
    }

    /// Nothing is left of anybody.
    fn is_empty(table: &Table) -> bool {
        table.tunnels == 0
            && table.addresses.is_empty()
            && table.hosts.numbers.is_empty()
            && table.backends.numbers.is_empty()
            && table.debts.is_empty()
    }

    #[test]
    fn addresses_are_those_of_one_customer() {
        for (one, other, is_same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("2001:db8:0:1::1", "2001:db9:0:1::1", false),
            // One that was meant to be IPv4 and is none.
            ("::192.0.2.1", "192.0.2.1", false),
            ("::", "0.0.0.0", false),
            ("::1", "0.0.0.1", false),
        ] {
            assert_eq!(address(one) == address(other), is_same, "{one} {other}");
        }
    }

    #[test]
    fn each_bound_is_kept_to_the_last_place() {
        let (a, b) = (address("192.0.2.1"), address("192.0.2.2"));
        let (one, two) = (host("one"), host("two"));
        let mut table = Table::default();
        let mut inside = Vec::new();
        let mut enter = |address, host, bounds: &Bounds| {
            let number = table.enter(address, host, bounds, 0)?;
            inside.push((address, number));
            Ok(())
        };
        let per_address = Bounds {
            per_address: Some(2),
            ..Bounds::default()
        };
        assert_eq!(enter(a, &one, &per_address), Ok(()));
        assert_eq!(enter(a, &two, &per_address), Ok(()), "at any host");
        assert_eq!(enter(a, &two, &per_address), Err(Reached::Address(2)));
        assert_eq!(enter(b, &one, &per_address), Ok(()));
        let per_host = Bounds {
            per_host: Some(2),
            ..Bounds::default()
        };
        assert_eq!(enter(a, &one, &per_host), Err(Reached::Host(2)));
        assert_eq!(enter(a, &two, &per_host), Ok(()));
        let total = |most| Bounds {
            total: Some(most),
            ..Bounds::default()
        };
        assert_eq!(enter(b, &two, &total(4)), Err(Reached::Total(4)));
        assert_eq!(enter(b, &two, &total(5)), Ok(()));
        // A reload may have lowered it below what there is.
        assert_eq!(enter(b, &two, &total(1)), Err(Reached::Total(1)));
        for (address, host) in inside {
            assert!(!is_empty(&table));
            table.leave(address, host);
        }
        assert!(is_empty(&table), "{table:?}");
    }

    #[test]
    fn who_is_refused_by_one_bound_is_counted_for_none() {
        let (a, one) = (address("192.0.2.1"), host("one"));
        let mut table = Table::default();
        for bounds in [
            Bounds {
                total: Some(0),
                ..Bounds::default()
            },
            Bounds {
                per_host: Some(0),
                ..Bounds::default()
            },
            Bounds {
                per_address: Some(0),
                ..Bounds::default()
            },
        ] {
            for _ in 0..3 {
                assert!(table.enter(a, &one, &bounds, 0).is_err());
            }
            assert!(is_empty(&table));
        }
    }

    #[test]
    fn backends_are_counted_by_their_urls() {
        let url = |text| BackendUrl::parse(text).unwrap();
        let (a, b) = (url("ws://a.example/"), url("ws://b.example/"));
        let mut table = Table::default();
        let mut enter = |url, most| table.enter_backend(url, most);
        let at_a = [enter(&a, Some(2)), enter(&a, Some(2))].map(Result::unwrap);
        assert_eq!(enter(&a, Some(2)), Err(Reached::Backend(2)));
        let at_b = enter(&b, Some(2)).unwrap();
        assert_ne!(at_b, at_a[0]);
        let third = enter(&a, None).unwrap();
        assert_eq!(at_a, [third; 2]);
        table.leave_backend(third);
        assert!(table.enter_backend(&a, Some(2)).is_err());
        for number in [at_a[0], at_a[1], at_b] {
            assert!(!is_empty(&table));
            table.leave_backend(number);
        }
        assert!(is_empty(&table), "{table:?}");
        assert!(table.enter_backend(&a, Some(1)).is_ok());
    }

    /// A number that is free again is the next one's.
    #[test]
    fn keys_that_come_and_go_take_no_more_room_than_there_were_at_a_time() {
        let mut tally = Tally::default();
        let first = tally.add(&"first");
        for _ in 0..1000 {
            let other = tally.add(&"other");
            assert_ne!(first, other);
            assert_eq!(tally.add(&"other"), other);
            tally.take(other);
            assert_eq!(tally.count(&"other"), 1);
            tally.take(other);
            assert_eq!(tally.count(&"other"), 0);
        }
        assert_eq!(tally.count(&"first"), 1);
        assert_eq!(tally.counts.len(), 2);
        tally.take(first);
        assert!(tally.counts.is_empty() && tally.vacant.is_empty());
    }

    #[test]
    fn a_bucket_gives_what_is_in_it_and_then_what_falls_into_it() {
        let (a, one) = (address("192.0.2.1"), host("one"));
        let bounds = rate(Duration::from_secs(1), 3);
        let mut table = Table::default();
        let mut ask = |now| {
            let number = table.enter(a, &one, &bounds, now)?;
            table.leave(a, number);
            Ok(())
        };
        let wait = |nanoseconds| Err(Reached::Rate(Duration::from_nanos(nanoseconds)));
        let start = 7;
        for _ in 0..3 {
            assert_eq!(ask(start), Ok(()));
        }
        assert_eq!(ask(start), wait(SECOND));
        // Who asks too often does not wait longer for that.
        assert_eq!(ask(start + SECOND - 1), wait(1));
        assert_eq!(ask(start + SECOND), Ok(()));
        assert_eq!(ask(start + SECOND), wait(SECOND));
        assert_eq!(ask(start + SECOND * 5 / 2), Ok(()));
        assert_eq!(ask(start + SECOND * 5 / 2), wait(SECOND / 2));
        // It never holds more than it can.
        let late = start + SECOND * 1000;
        for _ in 0..3 {
            assert_eq!(ask(late), Ok(()));
        }
        assert_eq!(ask(late), wait(SECOND));
    }

    #[test]
    fn a_rate_that_has_changed_holds_from_the_next_handshake_on() {
        let (a, one) = (address("192.0.2.1"), host("one"));
        let slow = rate(Duration::from_secs(3600), 2);
        let fast = rate(Duration::from_millis(1), 2);
        let mut table = Table::default();
        let mut ask = |bounds: &Bounds, now| table.enter(a, &one, bounds, now);
        assert!(ask(&slow, 0).is_ok());
        assert!(ask(&slow, 0).is_ok());
        assert!(ask(&slow, SECOND).is_err());
        let wait = Duration::from_millis(1);
        assert_eq!(ask(&fast, SECOND), Err(Reached::Rate(wait)));
        assert!(ask(&Bounds::default(), SECOND).is_ok(), "and none is none");
    }

    #[test]
    fn the_largest_rate_and_the_longest_time_do_not_overflow() {
        let (a, one) = (address("192.0.2.1"), host("one"));
        let bounds = rate(Duration::from_secs(3600), 1_000_000);
        let mut table = Table::default();
        for now in [0, u64::MAX - 1, u64::MAX] {
            let _ = table.enter(a, &one, &bounds, now);
        }
    }

    #[test]
    fn what_is_full_again_is_cleared_away_as_others_come() {
        let bounds = rate(Duration::from_secs(1), 1);
        let mut table = Table::default();
        for number in 0..1000_u32 {
            visit(&mut table, numbered(number), &bounds, 1);
        }
        assert_eq!(table.addresses.len(), 1000);
        let room = table.addresses.capacity();
        let other = address("2001:db8::1");
        for step in 1..=100 {
            let now = 10 * SECOND * step;
            visit(&mut table, other, &bounds, now);
        }
        assert_eq!(table.addresses.len(), 1);
        assert_eq!(table.debts.len(), 1);
        assert!(table.addresses.capacity() < room / 4);
        assert_eq!(table.forgotten, 0);
    }

    #[test]
    fn where_there_is_no_room_the_bucket_that_is_nearest_to_full_is_forgotten() {
        let one = host("one");
        let bounds = rate(Duration::from_secs(1), 2);
        let mut table = Table::with_room_for(3);
        // The first has a tunnel, and the second has asked twice.
        table.enter(numbered(1), &one, &bounds, 1).unwrap();
        for now in [2, 3] {
            visit(&mut table, numbered(2), &bounds, now);
        }
        for number in 3..=100 {
            visit(&mut table, numbered(number), &bounds, u64::from(number));
            assert!(table.debts.len() <= 3);
            assert!(table.addresses.len() <= 4);
        }
        assert_eq!(table.forgotten, 97);
        let (empty, again) = (numbered(2), numbered(1));
        assert!(table.enter(empty, &one, &bounds, 200).is_err(), "known yet");
        // What has a tunnel is counted on, and begins with a full bucket.
        let per_address = Bounds {
            per_address: Some(1),
            ..Bounds::default()
        };
        let outcome = table.enter(again, &one, &per_address, 200);
        assert_eq!(outcome, Err(Reached::Address(1)));
        assert!(table.enter(again, &one, &bounds, 200).is_ok());
    }

    /// Whoever comes and goes in whichever order, nothing is left, and no bound is broken.
    #[test]
    fn random_crowds_leave_nothing_behind() {
        let mut state = 42_u64;
        let mut draw = move |most: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005);
            state = state.wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % most
        };
        let hosts = ["one", "two", "three"].map(host);
        let bounds = Bounds {
            total: Some(40),
            per_host: Some(20),
            per_address: Some(3),
            rate: Some(Rate {
                interval: Duration::from_millis(10),
                burst: 5,
            }),
        };
        let mut table = Table::with_room_for(8);
        let mut inside: Vec<(Address, Number)> = Vec::new();
        let mut now = 0;
        for _ in 0..20_000 {
            now += draw(20_000_000);
            if draw(3) > 0 {
                let address = numbered(u32::try_from(draw(25)).unwrap());
                let host = hosts.get(usize::try_from(draw(3)).unwrap()).unwrap();
                if let Ok(number) = table.enter(address, host, &bounds, now) {
                    inside.push((address, number));
                }
            } else if !inside.is_empty() {
                let index = usize::try_from(draw(inside.len() as u64)).unwrap();
                let (address, host) = inside.swap_remove(index);
                table.leave(address, host);
            }
            assert_eq!(table.tunnels, inside.len());
            assert!(table.tunnels <= 40 && table.debts.len() <= 8);
            let mut counts = table.hosts.counts.iter().flatten();
            assert!(counts.all(|(_, count)| *count <= 20));
            let mut accounts = table.addresses.values();
            assert!(accounts.all(|account| account.tunnels <= 3));
        }
        assert!(inside.len() > 20, "{}", inside.len());
        for (address, host) in inside {
            table.leave(address, host);
        }
        for _ in 0..2 {
            table.sweep(u64::MAX);
        }
        assert!(is_empty(&table), "{table:?}");
    }
}
