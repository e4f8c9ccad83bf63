//! A member of a balancer: what the configuration says about it, and what is known of it while it is used.

use super::health::Check;
use super::status::{Change, Flag, Status};
use crate::route::backend::Backend;
use std::fmt;
use std::sync::atomic::{
    AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed,
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// A backend in a balancer.
#[derive(Debug)]
pub struct Member {
    /// Where it is, and how it is dealt with. `max=` of its parameters counts here too.
    pub backend: Arc<Backend>,
    /// On which terms it takes part.
    pub terms: Terms,
    name: String,
    /// Its own, or that of the same member before a reload, with which it is shared.
    live: OnceLock<Arc<Live>>,
}

/// The parameters of a `BalancerMember` that only a balancer knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// `loadfactor=`: how much of the work it gets beside the others.
    pub load_factor: LoadFactor,
    /// `lbset=`, 0 to 99: a set is used only where all with lower numbers have nobody left.
    pub lbset: u8,
    /// `route=`: the name that sessions know it by; never empty.
    pub route: Option<String>,
    /// `redirect=`: the route of who takes its sessions when it cannot be used; never empty.
    pub redirect: Option<String>,
    /// `retry=`: how long it is left alone after an error; 60 s where nothing is said, 0: not at all.
    pub retry: Duration,
    /// `status=`: what it begins with.
    pub status: Status,
    /// Where it was configured: `file:line`.
    pub origin: String,
    /// How its health is checked, where it is; `hcmethod=` and what belongs to it.
    pub check: Option<Check>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            load_factor: LoadFactor::default(),
            lbset: 0,
            route: None,
            redirect: None,
            retry: Duration::from_secs(60),
            status: Status::default(),
            origin: String::new(),
            check: None,
        }
    }
}

/// `loadfactor=`: 0.01 to 100, in hundredths.
///
/// httpd: it wants at least 1. Here a member may get less than the usual share without a change to all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadFactor(u16);

impl Default for LoadFactor {
    fn default() -> Self {
        Self(100)
    }
}

impl LoadFactor {
    /// From hundredths; `None` unless 1 to 10,000.
    pub fn from_hundredths(hundredths: u16) -> Option<Self> {
        (1..=10_000)
            .contains(&hundredths)
            .then_some(Self(hundredths))
    }

    /// Parses a number with at most two decimals.
    ///
    /// # Errors
    /// A sentence that says what was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let hundredths = || {
            let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            if !digits(whole) || !digits(decimals) || !(1..=2).contains(&decimals.len()) {
                return None;
            }
            let scale = if decimals.len() == 1 { 10 } else { 1 };
            let whole = whole.parse::<u16>().ok()?.checked_mul(100)?;
            let decimals = decimals.parse::<u16>().ok()?.checked_mul(scale)?;
            Self::from_hundredths(whole.checked_add(decimals)?)
        };
        hundredths().ok_or_else(|| {
            format!("{text:?}: expected a number from 0.01 to 100, with at most two decimals")
        })
    }

    /// In hundredths, 1 to 10,000.
    pub fn hundredths(self) -> u16 {
        self.0
    }
}

impl fmt::Display for LoadFactor {
    /// As it is configured, with as few decimals as can be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, decimals) = (self.0 / 100, self.0 % 100);
        match (decimals, decimals % 10) {
            (0, _) => write!(f, "{whole}"),
            (_, 0) => write!(f, "{whole}.{}", decimals / 10),
            _ => write!(f, "{whole}.{decimals:02}"),
        }
    }
}

/// What is known of a member at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Its flags.
    pub status: Status,
    /// Requests and tunnels that are open.
    pub busy: usize,
    /// How often it was chosen.
    pub elected: u64,
    /// Bytes that went to it. httpd: `transferred`.
    pub sent: u64,
    /// Bytes that came from it. httpd: `read`.
    pub received: u64,
    /// How far it is ahead of its share (below 0) or behind (above), in hundredths of a choice. httpd: `lbstatus`.
    pub turn: i64,
    /// When its last error was; `None` if a connection came about since.
    pub error_at: Option<Instant>,
    /// How often it was tried again since then.
    pub retries: u32,
}

/// What threads share. Each figure stands for itself, so none has to be seen together with another.
#[derive(Debug, Default)]
struct Live {
    status: AtomicU8,
    busy: AtomicUsize,
    elected: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    turn: AtomicI64,
    /// Whoever sets or clears [`Flag::Error`] or [`Flag::Unhealthy`] holds this, so that a flag and its time or count belong
    /// together.
    error: Mutex<Error>,
    /// Checks of its health in a row that speak against what is thought of it: that it is well, or not. Written under the
    /// same lock.
    streak: AtomicU32,
}

/// What the checks of a member's health have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nobody is sent to it any more.
    Unhealthy,
    /// It is used again.
    Healthy,
}

#[derive(Debug, Default)]
struct Error {
    at: Option<Instant>,
    retries: u32,
}

impl Member {
    /// A member that nothing is known of yet.
    pub fn new(backend: Arc<Backend>, terms: Terms) -> Self {
        Self {
            name: backend.url.to_string(),
            backend,
            terms,
            live: OnceLock::new(),
        }
    }

    /// Its URL as text. httpd: `BALANCER_WORKER_NAME`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its flags.
    pub fn status(&self) -> Status {
        Status(self.live().status.load(Relaxed))
    }

    /// What is known of it.
    pub fn figures(&self) -> Figures {
        let live = self.live();
        let error = live.error();
        Figures {
            status: self.status(),
            busy: live.busy.load(Relaxed),
            elected: live.elected.load(Relaxed),
            sent: live.sent.load(Relaxed),
            received: live.received.load(Relaxed),
            turn: live.turn.load(Relaxed),
            error_at: error.at,
            retries: error.retries,
        }
    }

    /// It could not be connected to, or TLS with it failed: it is set aside from `now` on, unless it ignores errors.
    /// Whether it was not set aside already, for the log.
    pub fn failed(&self, now: Instant) -> bool {
        let live = self.live();
        let mut error = live.error();
        if self.status().has(Flag::IgnoreErrors) {
            return false;
        }
        error.at = Some(now);
        !live
            .change(Change::default().set(Flag::Error))
            .has(Flag::Error)
    }

    /// A connection to it came about: its errors are forgotten.
    ///
    /// Not so while it is set aside: somebody else's request met an error meanwhile, and perhaps one that
    /// `failonstatus` names, where connections say nothing. Whether there were any errors, for the log.
    /// httpd: `ap_proxy_connect_backend`.
    pub fn succeeded(&self) -> bool {
        let live = self.live();
        let mut error = live.error();
        let forgets = self.status().is_usable() && error.at.is_some();
        if forgets {
            *error = Error::default();
        }
        forgets
    }

    /// Its health was checked, with this outcome; says whether that is news. As many checks in a row as [`Check::fails`] take
    /// it out, as many as [`Check::passes`] bring it back, and then it is no longer set aside for an error either. Where its
    /// health is not to be checked, nothing is done. httpd: `hc_check`.
    // httpd: counts checks of one outcome, not such in a row, which is what its manual promises.
    pub fn checked(&self, passed: bool, now: Instant) -> Option<News> {
        let check = self.terms.check.as_ref()?;
        let live = self.live();
        let mut error = live.error();
        if passed != self.status().has(Flag::Unhealthy) {
            live.streak.store(0, Relaxed);
            return None;
        }
        let streak = live.streak.load(Relaxed).saturating_add(1);
        let (needed, change, news) = if passed {
            let change = Change::default().clear(Flag::Unhealthy).clear(Flag::Error);
            (check.passes, change, News::Healthy)
        } else {
            // One that is set aside stays so for longer.
            if self.status().has(Flag::Error) {
                error.at = Some(now);
            }
            let change = Change::default().set(Flag::Unhealthy);
            (check.fails, change, News::Unhealthy)
        };
        if streak < needed {
            live.streak.store(streak, Relaxed);
            return None;
        }
        live.streak.store(0, Relaxed);
        live.change(change);
        if passed {
            *error = Error::default();
        }
        Some(news)
    }

    /// Changes its flags while it runs. A flag for an error that is set counts from `now`.
    pub fn set_status(&self, change: Change, now: Instant) {
        let live = self.live();
        let mut error = live.error();
        if change.sets(Flag::Error) {
            error.at = Some(now);
        } else if change.clears(Flag::Error) {
            *error = Error::default();
        }
        live.change(change);
    }

    /// Takes over what is known of `old`, which is the same backend, unless somebody has already used this one. They
    /// share it from then on: leases of the old one count here. What the two configurations say of the status in
    /// different words is done as the new one says; the rest stays as it is at run time. Only what a check has found out is
    /// forgotten where none is made any more, since nobody would ever say otherwise.
    pub(super) fn carry_over(&self, old: &Self) {
        if self.live.set(Arc::clone(old.live())).is_ok() {
            let live = self.live();
            // For the sake of the error's flag.
            let _error = live.error();
            live.change(self.terms.status.since(old.terms.status));
            if self.terms.check.is_none() {
                live.change(Change::default().clear(Flag::Unhealthy));
            }
        }
    }

    /// Counts a choice, and the request that came of it.
    pub(super) fn lease(&self) -> Lease {
        let live = self.live();
        live.elected.fetch_add(1, Relaxed);
        live.busy.fetch_add(1, Relaxed);
        Lease(Meter(Arc::clone(live)))
    }

    pub(super) fn busy(&self) -> usize {
        self.live().busy.load(Relaxed)
    }

    /// Whether it has as many requests and tunnels as `max=` allows.
    pub(super) fn is_full(&self) -> bool {
        let max = self.backend.parameters.max;
        max.is_some_and(|max| self.busy() >= max)
    }

    /// What `bytraffic` compares. httpd: `is_best_bytraffic`.
    pub(super) fn weighed_traffic(&self) -> u64 {
        let (live, factor) = (self.live(), u64::from(self.terms.load_factor.0));
        let part = |bytes: &AtomicU64| bytes.load(Relaxed) / factor;
        part(&live.sent).saturating_add(part(&live.received))
    }

    pub(super) fn turn(&self) -> i64 {
        self.live().turn.load(Relaxed)
    }

    /// Moves its turn nearer by its factor: where it is then.
    pub(super) fn gain_turn(&self) -> i64 {
        let factor = self.factor();
        let before = self.live().turn.fetch_add(factor, Relaxed);
        before.wrapping_add(factor)
    }

    /// Moves its turn away by what all gained who competed.
    pub(super) fn pay_turn(&self, total: i64) {
        self.live().turn.fetch_sub(total, Relaxed);
    }

    pub(super) fn factor(&self) -> i64 {
        i64::from(self.terms.load_factor.0)
    }

    /// Whether it may be used. One that is set aside is brought back if its time has come. httpd: `ap_proxy_retry_worker`.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        let status = self.status();
        if !status.has(Flag::Error) {
            return status.is_usable();
        }
        let is_early = |at| now.saturating_duration_since(at) < self.terms.retry;
        let is_held = !status.has(Flag::IgnoreErrors) && self.error_at().is_some_and(is_early);
        if status.has(Flag::Stopped) || is_held {
            return false;
        }
        self.bring_back();
        self.status().is_usable()
    }

    /// No longer set aside.
    pub(super) fn bring_back(&self) {
        let live = self.live();
        let mut error = live.error();
        let before = live.change(Change::default().clear(Flag::Error));
        error.retries = error
            .retries
            .saturating_add(u32::from(before.has(Flag::Error)));
    }

    fn error_at(&self) -> Option<Instant> {
        self.live().error().at
    }

    fn live(&self) -> &Arc<Live> {
        self.live.get_or_init(|| {
            Arc::new(Live {
                status: AtomicU8::new(self.terms.status.0),
                ..Live::default()
            })
        })
    }
}

impl Live {
    fn error(&self) -> MutexGuard<'_, Error> {
        // What is done under the lock cannot leave it half done.
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the flags: what they were.
    fn change(&self, change: Change) -> Status {
        let change = |status| Some(Status(status).with(change).0);
        let before = self.status.fetch_update(Relaxed, Relaxed, change);
        Status(before.unwrap_or_else(|status| status))
    }
}

/// One request or tunnel at a member. It counts as busy until this is dropped, by whichever thread and for whatever
/// reason, a panic among them.
#[derive(Debug)]
pub struct Lease(Meter);

impl Lease {
    /// For who moves bytes.
    pub fn meter(&self) -> &Meter {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.0.busy.fetch_sub(1, Relaxed);
    }
}

/// Counts the bytes of a member while they move, heads among them: only then does `bytraffic` see a tunnel before it
/// ends. httpd: it does not count tunnels at all.
#[derive(Debug, Clone)]
pub struct Meter(Arc<Live>);

impl Meter {
    /// So many bytes went to the member.
    pub fn sent(&self, bytes: u64) {
        self.0.sent.fetch_add(bytes, Relaxed);
    }

    /// So many bytes came from the member.
    pub fn received(&self, bytes: u64) {
        self.0.received.fetch_add(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::backend::Parameters;
    use crate::route::url::BackendUrl;

    fn member(status: &str) -> Member {
        let backend = Backend {
            url: BackendUrl::parse("ws://a.example:9000/chat").unwrap(),
            parameters: Parameters::default(),
        };
        let mut terms = Terms {
            retry: Duration::from_secs(5),
            ..Terms::default()
        };
        if !status.is_empty() {
            terms.status = terms.status.with(Change::parse(status).unwrap());
        }
        Member::new(Arc::new(backend), terms)
    }

    #[test]
    fn load_factors_are_hundredths() {
        for (text, hundredths) in [
            ("1", 100),
            ("100", 10_000),
            ("100.00", 10_000),
            ("0.01", 1),
            ("0.5", 50),
            ("2.5", 250),
            ("2.05", 205),
            ("001", 100),
        ] {
            let factor = LoadFactor::parse(text).map(LoadFactor::hundredths);
            assert_eq!(factor.unwrap_or(0), hundredths, "{text}");
        }
        for text in [
            "",
            "0",
            "0.00",
            "100.01",
            "101",
            "-1",
            "+1",
            "1.",
            ".5",
            ".",
            "1.234",
            "1,5",
            "1e1",
            "655.36",
            "99999999999999999999",
            "1.\u{663}",
        ] {
            let refusal = LoadFactor::parse(text).unwrap_err();
            assert!(refusal.contains("from 0.01 to 100"), "{text}: {refusal}");
        }
        assert_eq!(LoadFactor::from_hundredths(0), None);
        for text in ["1", "100", "0.01", "0.5", "2.05", "99.99"] {
            assert_eq!(LoadFactor::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(LoadFactor::parse("002.50").unwrap().to_string(), "2.5");
    }

    #[test]
    fn an_error_sets_aside_until_its_time_is_over() {
        let (member, now) = (member(""), Instant::now());
        assert!(member.is_usable(now));
        assert!(member.failed(now));
        assert!(!member.failed(now + Duration::from_secs(1)), "not news");
        assert!(!member.is_usable(now + Duration::from_millis(5_999)));
        assert_eq!(
            member.figures().error_at,
            Some(now + Duration::from_secs(1))
        );
        assert!(member.is_usable(now + Duration::from_secs(6)));
        assert_eq!(member.figures().retries, 1);
        assert!(
            member.figures().error_at.is_some(),
            "nobody was connected yet"
        );
        member.succeeded();
        assert_eq!(member.figures().retries, 0);
        assert_eq!(member.figures().error_at, None);
    }

    #[test]
    fn a_connection_says_nothing_against_an_error_that_came_meanwhile() {
        let (member, now) = (member(""), Instant::now());
        member.failed(now);
        member.succeeded();
        assert!(!member.is_usable(now));
        assert_eq!(member.figures().error_at, Some(now));
    }

    #[test]
    fn a_clock_that_stands_still_or_steps_back_keeps_it_aside() {
        let (member, now) = (member(""), Instant::now() + Duration::from_secs(100));
        member.failed(now);
        assert!(!member.is_usable(now));
        assert!(!member.is_usable(now.checked_sub(Duration::from_secs(50)).unwrap()));
    }

    #[test]
    fn a_retry_may_be_at_once_or_never() {
        let mut member = member("");
        let now = Instant::now();
        member.terms.retry = Duration::MAX;
        member.failed(now);
        assert!(!member.is_usable(now + Duration::from_secs(1_000_000)));
        member.terms.retry = Duration::ZERO;
        assert!(member.is_usable(now));
    }

    #[test]
    fn flags_and_errors_beside_each_other() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        for (status, at_once, after_retry) in [
            ("", false, true),
            ("D", false, false),
            ("S", false, false),
            ("N", false, true),
            ("H", false, true),
        ] {
            let member = member(status);
            member.failed(now);
            assert_eq!(member.is_usable(now), at_once, "{status}");
            assert_eq!(member.is_usable(later), after_retry, "{status}");
        }
        let stopped = member("S");
        stopped.failed(now);
        assert!(!stopped.is_usable(later));
        assert!(stopped.status().has(Flag::Error), "it is not looked at");
        let ignoring = member("I");
        assert!(!ignoring.failed(now));
        assert!(ignoring.is_usable(now));
        // One that is configured with an error has no time of it, so it is tried at once, as httpd does.
        assert!(member("E").is_usable(now));
    }

    #[test]
    fn flags_change_while_it_runs() {
        let (member, now) = (member("D"), Instant::now());
        let change = |text: &str| member.set_status(Change::parse(text).unwrap(), now);
        assert!(!member.is_usable(now));
        change("-D+N");
        assert_eq!(member.status().to_string(), "N");
        change("+E");
        assert!(!member.is_usable(now));
        assert_eq!(member.figures().error_at, Some(now));
        change("-E");
        assert!(member.is_usable(now));
        assert_eq!(member.figures().error_at, None);
        assert_eq!(member.figures().retries, 0);
        // Who begins to ignore errors is no longer held up by an old one.
        change("+E+I");
        assert!(member.is_usable(now));
    }

    fn checked_member(passes: u32, fails: u32) -> Member {
        let mut member = member("");
        let check = Check::by(super::super::health::Method::Tcp);
        member.terms.check = Some(Check {
            passes,
            fails,
            ..check
        });
        member
    }

    #[test]
    fn checks_in_a_row_take_a_member_out_and_bring_it_back() {
        let (member, now) = (checked_member(3, 2), Instant::now());
        let told = |outcomes: &str| -> Vec<Option<News>> {
            let outcomes = outcomes.chars();
            outcomes.map(|c| member.checked(c == '+', now)).collect()
        };
        let (quiet, out, back) = (None, Some(News::Unhealthy), Some(News::Healthy));
        assert_eq!(told("++-+-+"), [quiet; 6], "none in a row");
        assert!(member.is_usable(now));
        assert_eq!(told("--"), [quiet, out]);
        assert!(!member.is_usable(now + Duration::from_secs(1_000_000)));
        assert!(member.status().has(Flag::Unhealthy));
        assert_eq!(told("--++-++"), [quiet; 7], "none in a row");
        assert!(!member.is_usable(now));
        assert_eq!(told("+"), [back]);
        assert!(member.is_usable(now));
        assert_eq!(told("+-"), [quiet; 2]);
    }

    #[test]
    fn who_is_well_again_is_no_longer_set_aside_and_who_never_was_ill_is() {
        let (member, now) = (checked_member(1, 1), Instant::now());
        member.failed(now);
        assert_eq!(member.checked(true, now), None);
        assert!(member.status().has(Flag::Error), "it is not ill");
        let later = now + Duration::from_secs(4);
        member.checked(false, later);
        assert_eq!(member.figures().error_at, Some(later));
        assert_eq!(member.checked(true, later), Some(News::Healthy));
        assert!(member.is_usable(later));
        assert_eq!(member.figures().error_at, None);
    }

    #[test]
    fn whose_health_nobody_checks_nobody_doubts() {
        let (member, now) = (member(""), Instant::now());
        assert_eq!(member.checked(false, now), None);
        assert!(member.is_usable(now));
        let ill = checked_member(1, 2);
        ill.checked(false, now);
        ill.checked(false, now);
        let still_checked = checked_member(1, 2);
        still_checked.carry_over(&ill);
        assert!(still_checked.status().has(Flag::Unhealthy));
        assert_eq!(still_checked.checked(true, now), Some(News::Healthy));
        ill.checked(false, now);
        let half_way = checked_member(1, 2);
        half_way.carry_over(&ill);
        assert_eq!(half_way.checked(false, now), Some(News::Unhealthy));
        let not_checked = self::member("");
        not_checked.carry_over(&ill);
        assert!(not_checked.is_usable(now));
    }

    #[test]
    fn a_lease_counts_until_it_is_dropped_and_meters_outlive_it() {
        let member = member("");
        let (one, two) = (member.lease(), member.lease());
        assert_eq!(member.figures().busy, 2);
        let meter = one.meter().clone();
        drop(one);
        std::thread::spawn(move || drop(two)).join().unwrap();
        assert_eq!((member.figures().busy, member.figures().elected), (0, 2));
        meter.sent(300);
        meter.received(250);
        meter.clone().received(1);
        assert_eq!(
            (member.figures().sent, member.figures().received),
            (300, 251)
        );
        // Each part is divided for itself: 3 + 2.
        assert_eq!(member.weighed_traffic(), 5);
    }

    #[test]
    fn a_panic_gives_the_lease_back() {
        let member = Arc::new(member(""));
        let inside = Arc::clone(&member);
        let end = std::thread::spawn(move || {
            let _lease = inside.lease();
            assert_eq!(inside.figures().busy, 1);
            std::panic::resume_unwind(Box::new("worker"));
        });
        assert!(end.join().is_err());
        assert_eq!(member.figures().busy, 0);
    }
}
