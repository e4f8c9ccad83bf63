//! Which member of a balancer gets a request, and what is known of its members. httpd: `mod_proxy_balancer`,
//! `mod_lbmethod_byrequests`, `mod_lbmethod_bytraffic`, `mod_lbmethod_bybusyness`.
//!
//! Nothing here connects, waits or looks at a clock. Who serves a request asks [`Balancer::choose`], tries the member,
//! tells it what came of that ([`Member::failed`], [`Member::succeeded`]), and asks again with the members that it has
//! [`Tried`], at most [`Balancer::max_attempts`] times. The [`Lease`] goes with the request, or with its tunnel, to its
//! end.
//!
//! Beside the requests, [`health`] says what members are asked from time to time, and [`Member::checked`] is told what came of
//! that.
//!
//! A choice is one step for all who choose at once, under a lock that nobody holds any longer. Everything else is atomics.

#![deny(clippy::indexing_slicing)]

mod choose;
pub mod health;
mod member;
mod session;
mod status;

pub use member::{Figures, Lease, LoadFactor, Member, Meter, News, Terms};
pub use session::{Claim, Names, Session, Sticky, separator};
pub use status::{Change, Flag, Status};

use crate::handshake::Upgrade;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// `lbmethod=`: how members are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Each gets its share of the requests.
    #[default]
    ByRequests,
    /// Each gets its share of the bytes, both ways.
    ByTraffic,
    /// The one with the fewest open requests and tunnels gets the next; among equals, each its share.
    ByBusyness,
}

impl Method {
    /// Parses its name.
    ///
    /// # Errors
    /// A sentence that says what was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected byrequests, bytraffic or bybusyness";
        match text {
            "byrequests" => Ok(Self::ByRequests),
            "bytraffic" => Ok(Self::ByTraffic),
            "bybusyness" => Ok(Self::ByBusyness),
            "heartbeat" => Err(format!(
                "\"heartbeat\" needs reports that members send by multicast, which nobody takes in here; {EXPECTED}"
            )),
            _ => Err(format!("unknown method {text:?}; {EXPECTED}")),
        }
    }

    /// As it is configured.
    pub fn name(self) -> &'static str {
        match self {
            Self::ByRequests => "byrequests",
            Self::ByTraffic => "bytraffic",
            Self::ByBusyness => "bybusyness",
        }
    }
}

/// The parameters of a balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `lbmethod=`
    pub method: Method,
    /// `stickysession=` and what belongs to it.
    pub sticky: Sticky,
    /// `forcerecovery=`, On by default: whether errors are forgotten when every member has one.
    pub force_recovery: bool,
    /// `timeout=`: how long a request may wait for a member; zero, the default: not at all.
    pub timeout: Duration,
    /// `maxattempts=`: how often another member is tried; unset: until each was.
    pub max_attempts: Option<usize>,
    /// `failonstatus=`: the statuses of answers that set a member aside.
    pub fail_on_status: Vec<u16>,
    /// `failontimeout=`, Off by default: whether a member is set aside that took too long to answer.
    pub fail_on_timeout: bool,
    /// Where it was configured: `file:line`.
    pub origin: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            method: Method::default(),
            sticky: Sticky::default(),
            force_recovery: true,
            timeout: Duration::ZERO,
            max_attempts: None,
            fail_on_status: Vec::new(),
            fail_on_timeout: false,
            origin: String::new(),
        }
    }
}

/// A named set of members.
#[derive(Debug)]
pub struct Balancer {
    name: Arc<str>,
    /// Its parameters.
    pub settings: Settings,
    members: Vec<Member>,
    /// The numbers of its `lbset`s, each once and in order.
    sets: Vec<u8>,
    /// Held for one choice.
    choosing: Mutex<()>,
}

/// The members that failed within one request; it gets none of them again, whatever is said of them elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Tried(Vec<bool>);

impl Tried {
    /// The member with this index failed.
    pub fn add(&mut self, index: usize) {
        if self.0.len() <= index {
            self.0.resize(index + 1, false);
        }
        if let Some(is_tried) = self.0.get_mut(index) {
            *is_tried = true;
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.iter().filter(|is_tried| **is_tried).count()
    }

    fn has(&self, index: usize) -> bool {
        self.0.get(index).is_some_and(|is_tried| *is_tried)
    }
}

/// The member that gets a request.
#[derive(Debug)]
pub struct Choice<'a> {
    /// Its place in [`Balancer::members`], for [`Tried`].
    pub index: usize,
    /// The member.
    pub member: &'a Member,
    /// What counts it as busy.
    pub lease: Lease,
    /// What the request said of its session; not always about this member.
    pub claim: Option<Claim<'a>>,
    /// Whether the session led here.
    pub is_sticky: bool,
    /// Whether the client has to be told the member's route, as it does not know it.
    pub route_changed: bool,
    balancer: &'a str,
}

impl<'a> Choice<'a> {
    /// The names of all that [`Self::variables`] may tell.
    pub const VARIABLES: [&'static str; 6] = [
        "BALANCER_NAME",
        "BALANCER_WORKER_NAME",
        "BALANCER_WORKER_ROUTE",
        "BALANCER_SESSION_STICKY",
        "BALANCER_SESSION_ROUTE",
        "BALANCER_ROUTE_CHANGED",
    ];

    /// What httpd has in a request's environment: names and values of those variables that are set. A member without a
    /// route has an empty one.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &'a [u8])> + use<'a> {
        let route = self.member.terms.route.as_deref().unwrap_or_default();
        let changed: Option<&[u8]> = self.route_changed.then_some(b"1");
        [
            ("BALANCER_NAME", Some(self.balancer.as_bytes())),
            ("BALANCER_WORKER_NAME", Some(self.member.name().as_bytes())),
            ("BALANCER_WORKER_ROUTE", Some(route.as_bytes())),
            (
                "BALANCER_SESSION_STICKY",
                self.claim.map(|claim| claim.name.as_bytes()),
            ),
            (
                "BALANCER_SESSION_ROUTE",
                self.claim.map(|claim| claim.route),
            ),
            ("BALANCER_ROUTE_CHANGED", changed),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// Why there is no member for a request now; it is a 503 unless it waits, up to [`Settings::timeout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// None may be used: they are set aside, disabled, draining, or were tried for this request.
    Unusable,
    /// Some may, and each of these has as many requests and tunnels as its `max=` allows.
    Full,
    /// The session's own member may not be used, and `nofailover` forbids any other. To wait is of no use.
    SessionBound,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unusable => "no member can be used",
            Self::Full => "each member that can be used has as many requests as its max= allows",
            Self::SessionBound => {
                "the member of the session cannot be used, and nofailover=On forbids another one"
            }
        })
    }
}

impl Balancer {
    /// `name` is what stands behind `balancer://`, in lower case.
    pub fn new(name: &str, settings: Settings, members: Vec<Member>) -> Self {
        let mut sets: Vec<u8> = members.iter().map(|member| member.terms.lbset).collect();
        sets.sort_unstable();
        sets.dedup();
        Self {
            name: format!("balancer://{name}").into(),
            settings,
            members,
            sets,
            choosing: Mutex::default(),
        }
    }

    /// The name without `balancer://`.
    pub fn bare_name(&self) -> &str {
        self.name.trim_start_matches("balancer://")
    }

    /// Whether requests become tunnels at its members; they are all alike.
    pub fn is_tunnel(&self) -> bool {
        let mut members = self.members.iter();
        members.any(|member| member.backend.url.scheme.is_tunnel())
    }

    /// What its members are asked for where requests become tunnels.
    pub fn upgrades(&self) -> impl Iterator<Item = &Upgrade> {
        let members = self.members.iter();
        members.map(|member| member.backend.parameters.upgrade())
    }

    /// `balancer://name`
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its members, in the order of the configuration.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// How often another member may be tried for a request whose first one failed.
    pub fn max_attempts(&self) -> usize {
        let others = self.members.len().saturating_sub(1);
        let allowed = self.settings.max_attempts.unwrap_or(others);
        // Nobody is tried twice.
        allowed.min(others)
    }

    /// Sets a member aside for what came of a request at it: an answer of this status, or one that did not come in time.
    /// Whether it was not set aside already, for the log. httpd: `balancer_post_request`.
    pub fn judge(
        &self,
        member: &Member,
        status: Option<u16>,
        timed_out: bool,
        now: Instant,
    ) -> bool {
        let is_named = status.is_some_and(|status| self.settings.fail_on_status.contains(&status));
        let fails = is_named || timed_out && self.settings.fail_on_timeout;
        fails && member.failed(now)
    }

    /// After a reload and before the first choice: members whose URL has stayed keep their errors, counts, traffic and
    /// status. What the two configurations say of a status in different words is done as the new one says.
    ///
    /// `old` goes on to serve the requests that it has; the two share what they know of these members.
    pub fn carry_over(&self, old: &Self) {
        for (index, member) in self.members.iter().enumerate() {
            let is_same = |other: &&Member| other.backend.url == member.backend.url;
            // One that stands there twice is two members.
            let twins = self.members.iter().take(index).filter(is_same).count();
            if let Some(before) = old.members.iter().filter(is_same).nth(twins) {
                member.carry_over(before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::headers::Headers;
    use crate::route::backend::{Backend, Parameters};
    use crate::route::url::BackendUrl;
    use std::sync::Arc;

    /// A balancer `balancer://set` of one member for each line: its name, which is its host and its route, then
    /// parameters.
    pub(super) fn balancer(method: Method, members: &[&str]) -> Balancer {
        let members = members.iter().map(|text| member(text)).collect();
        let settings = Settings {
            method,
            ..Settings::default()
        };
        Balancer::new("set", settings, members)
    }

    fn member(text: &str) -> Member {
        let mut words = text.split(' ');
        let name = words.next().unwrap();
        let mut parameters = Parameters::default();
        let mut terms = Terms {
            route: Some(name.to_owned()),
            ..Terms::default()
        };
        for word in words {
            let (key, value) = word.split_once('=').unwrap();
            match key {
                "loadfactor" => terms.load_factor = LoadFactor::parse(value).unwrap(),
                "lbset" => terms.lbset = value.parse().unwrap(),
                "route" => terms.route = Some(value.to_owned()).filter(|route| !route.is_empty()),
                "redirect" => terms.redirect = Some(value.to_owned()),
                "retry" => terms.retry = Duration::from_secs(value.parse().unwrap()),
                "status" => terms.status = terms.status.with(Change::parse(value).unwrap()),
                "max" => parameters.max = Some(value.parse().unwrap()),
                _ => panic!("{word}"),
            }
        }
        let url = BackendUrl::parse(&format!("ws://{name}.example")).unwrap();
        Member::new(Arc::new(Backend { url, parameters }), terms)
    }

    /// Asks for a member without a session.
    pub(super) fn any<'a>(
        balancer: &'a Balancer,
        tried: &Tried,
        now: Instant,
    ) -> Result<Choice<'a>, Why> {
        static NO_FIELDS: std::sync::LazyLock<Headers> = std::sync::LazyLock::new(Headers::default);
        let asked = Session {
            target: "/",
            headers: &NO_FIELDS,
        };
        balancer.choose(&asked, tried, now)
    }

    /// The letter of the member.
    pub(super) fn letter(member: &Member) -> &str {
        member.backend.url.host.trim_end_matches(".example")
    }

    #[test]
    fn methods_are_known_by_name_and_heartbeat_is_refused_by_its_own() {
        for method in [Method::ByRequests, Method::ByTraffic, Method::ByBusyness] {
            assert_eq!(Method::parse(method.name()), Ok(method));
        }
        let refusal = Method::parse("heartbeat").unwrap_err();
        assert!(refusal.contains("multicast"), "{refusal}");
        let refusal = Method::parse("random").unwrap_err();
        assert!(refusal.contains("unknown method \"random\""), "{refusal}");
    }

    #[test]
    fn attempts_are_as_many_as_there_are_others() {
        for (members, configured, attempts) in [
            (3, None, 2),
            (3, Some(1), 1),
            (3, Some(0), 0),
            (3, Some(9), 2),
            (1, None, 0),
            (1, Some(1), 0),
            (0, None, 0),
        ] {
            let names = ["a", "b", "c"];
            let mut balancer = balancer(Method::ByRequests, names.get(..members).unwrap());
            balancer.settings.max_attempts = configured;
            assert_eq!(
                balancer.max_attempts(),
                attempts,
                "{members} {configured:?}"
            );
        }
    }

    #[test]
    fn answers_are_judged_by_failonstatus_and_failontimeout() {
        let now = Instant::now();
        for (statuses, on_timeout, status, timed_out, sets_aside) in [
            (&[][..], false, Some(503), true, false),
            (&[500, 503], false, Some(503), false, true),
            (&[500, 503], false, Some(502), false, false),
            (&[500, 503], false, None, true, false),
            (&[], true, None, true, true),
            (&[], true, Some(504), false, false),
            (&[504], true, Some(504), true, true),
        ] {
            let mut balancer = balancer(Method::ByRequests, &["a", "b status=+I"]);
            balancer.settings.fail_on_status = statuses.to_vec();
            balancer.settings.fail_on_timeout = on_timeout;
            let [a, b] = balancer.members() else { panic!() };
            let is_news = balancer.judge(a, status, timed_out, now);
            assert_eq!(is_news, sets_aside, "{statuses:?} {status:?} {timed_out}");
            assert_eq!(a.status().has(Flag::Error), sets_aside);
            assert!(!balancer.judge(a, status, timed_out, now), "not news");
            balancer.judge(b, status, timed_out, now);
            assert!(!b.status().has(Flag::Error), "it ignores errors");
        }
    }

    #[test]
    fn a_reload_keeps_what_is_known_of_members_that_stay() {
        let now = Instant::now();
        let old = balancer(Method::ByRequests, &["a", "b", "c", "d status=+D"]);
        let lease = any(&old, &Tried::default(), now).unwrap().lease;
        let [a, b, c, d] = old.members() else {
            panic!()
        };
        b.failed(now);
        c.set_status(Change::parse("+N").unwrap(), now);
        lease.meter().received(5);
        // c is drained by hand, which the new text says nothing about; d is said to be back; e is new; b has gone.
        let new = balancer(
            Method::ByTraffic,
            &["e", "d", "c status=+H", "b loadfactor=2", "a retry=1"],
        );
        new.carry_over(&old);
        let statuses = new
            .members()
            .iter()
            .map(|member| member.status().to_string());
        assert_eq!(statuses.collect::<Vec<_>>(), ["-", "-", "HN", "E", "-"]);
        let [e, _, _, new_b, new_a] = new.members() else {
            panic!()
        };
        assert_eq!(new_b.figures().error_at, Some(now));
        assert_eq!(new_a.figures(), a.figures());
        assert_eq!((new_a.figures().busy, new_a.figures().received), (1, 5));
        assert_eq!(e.figures().elected, 0);
        assert!(
            !d.status().has(Flag::Disabled),
            "requests of the old one know it too"
        );
        drop(lease);
        assert_eq!((a.figures().busy, new_a.figures().busy), (0, 0));
        // Whoever was asked already has a life of its own.
        let third = balancer(Method::ByRequests, &["a"]);
        drop(any(&third, &Tried::default(), now).unwrap());
        third.carry_over(&old);
        assert_eq!(third.members()[0].figures().received, 0);
    }

    #[test]
    fn members_with_one_url_are_carried_over_in_their_order() {
        let now = Instant::now();
        let old = balancer(Method::ByRequests, &["a", "b", "a"]);
        let mut second = Tried::default();
        second.add(0);
        second.add(1);
        let lease = any(&old, &second, now).unwrap().lease;
        let new = balancer(Method::ByRequests, &["b", "a", "a", "a"]);
        new.carry_over(&old);
        let busy = new.members().iter().map(|member| member.figures().busy);
        assert_eq!(busy.collect::<Vec<_>>(), [0, 0, 1, 0]);
        drop(lease);
    }

    #[test]
    fn many_threads_leave_nothing_behind() {
        for method in [Method::ByRequests, Method::ByTraffic, Method::ByBusyness] {
            let old = balancer(method, &["a", "b loadfactor=2", "c max=5", "d status=+R"]);
            let new = balancer(method, &["d", "c", "b", "a"]);
            new.carry_over(&old);
            let (start, chosen) = (Instant::now(), std::sync::atomic::AtomicU64::new(0));
            let serve = |number: u64| {
                let mut held = std::collections::VecDeque::new();
                for round in 0..2_000 {
                    let now = start + Duration::from_secs(round);
                    let balancer = if (round + number).is_multiple_of(2) {
                        &old
                    } else {
                        &new
                    };
                    let Ok(choice) = any(balancer, &Tried::default(), now) else {
                        continue;
                    };
                    chosen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    match round % 7 {
                        0 => drop(choice.member.failed(now)),
                        1 => choice.member.set_status(Change::parse("+N").unwrap(), now),
                        2 => choice.member.set_status(Change::parse("-N").unwrap(), now),
                        _ => drop(choice.member.succeeded()),
                    }
                    choice.lease.meter().sent(round);
                    held.push_back(choice.lease);
                    if held.len() > 10 {
                        held.pop_front();
                    }
                }
            };
            std::thread::scope(|scope| {
                for number in 0..8 {
                    scope.spawn(move || serve(number));
                }
            });
            let figures = |balancer: &Balancer| -> Vec<Figures> {
                balancer.members().iter().map(Member::figures).collect()
            };
            let elected: u64 = figures(&old).iter().map(|figures| figures.elected).sum();
            assert_eq!(elected, chosen.into_inner(), "{method:?}");
            for figures in figures(&old).iter().chain(&figures(&new)) {
                assert_eq!(figures.busy, 0, "{method:?}");
            }
        }
    }
}
