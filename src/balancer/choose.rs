//! The choice: sessions first, then sets, roles and the method.

use super::member::Member;
use super::session::Session;
use super::status::{Flag, Role};
use super::{Balancer, Choice, Method, Tried, Why};
use std::cmp::Reverse;
use std::sync::PoisonError;
use std::time::Instant;

/// How often one `redirect` may lead to the next.
///
/// httpd: as often as there are members. Here the chain is on a thread's stack, which may be small.
const LONGEST_CHAIN: usize = 16;

/// How many rounds of turns its sessions may put a member ahead of the others.
///
/// httpd: there is no bound. Who names one member's route in a flood of requests has everybody without a session stay away
/// from it, for as many requests as the flood had.
const MOST_AHEAD: i64 = 100;

/// A member and its index.
type Candidate<'a> = (usize, &'a Member);

impl Balancer {
    /// Chooses the member for a request that asks for `asked` and failed at those that it has `tried`.
    ///
    /// Errors are forgotten that are old enough, or all of them if nobody is without one. The member that the session
    /// belongs to comes first; else the method decides. Where `max=` is reached, a member gets only what belongs to its
    /// sessions, and other members do its work as if it could not be used.
    ///
    /// httpd: there, `max=` has no say in the choice, and a request waits for the member that it was given while another
    /// one is free. Here that is only so where all are full and [`super::Settings::timeout`] is zero.
    ///
    /// # Errors
    /// There is none now.
    pub fn choose<'a>(
        &'a self,
        asked: &Session<'a>,
        tried: &Tried,
        now: Instant,
    ) -> Result<Choice<'a>, Why> {
        let claim = self.settings.sticky.claim(asked);
        // What is done under the lock cannot leave it half done.
        let choosing = self.choosing.lock();
        let _choosing = choosing.unwrap_or_else(PoisonError::into_inner);
        self.force_recovery(tried, now);
        let route = claim.map(|claim| claim.route);
        let mut redirects = self.members.len();
        let by_session = route.and_then(|route| self.routed(route, tried, now, 0, &mut redirects));
        let (index, member) = if let Some(candidate) = by_session {
            self.count_session(candidate.1);
            candidate
        } else if self.settings.sticky.no_failover && self.knows(route) {
            return Err(Why::SessionBound);
        } else {
            self.by_method(tried, now)?
        };
        let is_sticky = by_session.is_some();
        let is_known = is_sticky && route.is_some_and(|route| has_route(member, route));
        Ok(Choice {
            index,
            member,
            lease: member.lease(),
            claim,
            is_sticky,
            route_changed: self.settings.sticky.names.is_some() && !is_known,
            balancer: &self.name,
        })
    }

    /// When every member has an error, none is worse than the others. httpd: `force_recovery`.
    fn force_recovery(&self, tried: &Tried, now: Instant) {
        let mut members = self.members.iter().enumerate();
        let all_fail = members.all(|(index, member)| {
            let _ = tried.has(index) || member.is_usable(now);
            member.status().has(Flag::Error)
        });
        // Where this request has seen all of them fail, it is for the next one to hope.
        if all_fail && self.settings.force_recovery && tried.count() < self.members.len() {
            self.members.iter().for_each(Member::bring_back);
        }
    }

    /// The member that a session's route leads to. httpd: `find_route_worker`.
    ///
    /// `redirects` is how many may still be followed in all, so that members that send sessions round in a circle cost no
    /// more than others.
    fn routed(
        &self,
        route: &[u8],
        tried: &Tried,
        now: Instant,
        depth: usize,
        redirects: &mut usize,
    ) -> Option<Candidate<'_>> {
        for seeks_standby in [false, true] {
            for (index, member) in self.members.iter().enumerate() {
                let is_standby = member.status().has(Flag::Standby);
                if is_standby != seeks_standby || !has_route(member, route) {
                    continue;
                }
                if !tried.has(index) && member.is_usable(now) {
                    return Some((index, member));
                }
                let Some(redirect) = &member.terms.redirect else {
                    continue;
                };
                if depth < LONGEST_CHAIN && *redirects > 0 {
                    *redirects -= 1;
                    let redirect = redirect.as_bytes();
                    let found = self.routed(redirect, tried, now, depth + 1, redirects);
                    if found.is_some() {
                        return found;
                    }
                }
            }
        }
        None
    }

    /// Whether any member has this route.
    fn knows(&self, route: Option<&[u8]>) -> bool {
        let mut members = self.members.iter();
        route.is_some_and(|route| members.any(|member| has_route(member, route)))
    }

    /// Counts a session's request among the turns of those who would have competed for it.
    ///
    /// httpd: it lets all members gain that are usable, of all sets and roles. A spare or standby that gains for weeks and
    /// never pays gets everything at once on the day it is needed; and so do its own sessions starve a member that drains.
    fn count_session(&self, chosen: &Member) {
        let competes = |member: &&Member| {
            let status = member.status();
            member.terms.lbset == chosen.terms.lbset
                && status.is_usable()
                && status.role() == Role::Ordinary
                && !status.has(Flag::Drain)
        };
        let competitors = || self.members.iter().filter(competes);
        let total: i64 = competitors().map(Member::factor).sum();
        if competes(&chosen) && chosen.turn() > -MOST_AHEAD * total {
            for member in competitors() {
                member.gain_turn();
            }
            chosen.pay_turn(total);
        }
    }

    fn by_method(&self, tried: &Tried, now: Instant) -> Result<Candidate<'_>, Why> {
        let mut met_full = false;
        let mut chosen = self.best(tried, now, |member| {
            let is_full = member.is_full();
            met_full |= is_full;
            !is_full
        });
        if chosen.is_none() && met_full && self.settings.timeout.is_zero() {
            chosen = self.best(tried, now, |_| true);
        }
        chosen.ok_or(if met_full { Why::Full } else { Why::Unusable })
    }

    /// The best of the first set that has one. httpd: `proxy_balancer_get_best_worker`.
    fn best(
        &self,
        tried: &Tried,
        now: Instant,
        mut has_room: impl FnMut(&Member) -> bool,
    ) -> Option<Candidate<'_>> {
        // What no set yields, nobody has paid for.
        self.sets.iter().find_map(|set| {
            let mut contest = Contest::new(self.settings.method);
            let mut unusable = 0;
            let members = || {
                let all = self.members.iter().enumerate();
                all.filter(|(_, member)| member.terms.lbset == *set)
            };
            let mut may_enter = |(index, member): Candidate<'_>| {
                !tried.has(index) && member.is_usable(now) && has_room(member)
            };
            for candidate in members() {
                let status = candidate.1.status();
                if status.role() != Role::Ordinary {
                    continue;
                }
                if !status.has(Flag::Drain) && may_enter(candidate) {
                    contest.enter(candidate);
                } else {
                    unusable += 1;
                }
            }
            let in_role = |role| {
                members().filter(move |(_, member)| {
                    let status = member.status();
                    status.role() == role && !status.has(Flag::Drain)
                })
            };
            in_role(Role::Spare)
                .filter(|spare| may_enter(*spare))
                .take(unusable)
                .for_each(|spare| contest.enter(spare));
            if contest.leader.is_none() {
                in_role(Role::Standby)
                    .filter(|standby| may_enter(*standby))
                    .for_each(|standby| contest.enter(standby));
            }
            contest.end()
        })
    }
}

fn has_route(member: &Member, route: &[u8]) -> bool {
    let own = member.terms.route.as_ref();
    own.is_some_and(|own| own.as_bytes() == route)
}

/// The smaller, the better; equals are in the order of the configuration.
type Rank = (u64, Reverse<i64>);

/// The comparison of those who may have the request. httpd: `is_best_byrequests`, `is_best_bytraffic`,
/// `is_best_bybusyness`.
struct Contest<'a> {
    method: Method,
    leader: Option<(Rank, Candidate<'a>)>,
    /// What all who entered have gained together.
    total: i64,
}

impl<'a> Contest<'a> {
    fn new(method: Method) -> Self {
        Self {
            method,
            leader: None,
            total: 0,
        }
    }

    fn enter(&mut self, candidate: Candidate<'a>) {
        let (_, member) = candidate;
        let mut turn = || {
            self.total = self.total.saturating_add(member.factor());
            Reverse(member.gain_turn())
        };
        let rank = match self.method {
            Method::ByRequests => (0, turn()),
            Method::ByBusyness => (u64::try_from(member.busy()).unwrap_or(u64::MAX), turn()),
            Method::ByTraffic => (member.weighed_traffic(), Reverse(0)),
        };
        if self.leader.is_none_or(|(best, _)| rank < best) {
            self.leader = Some((rank, candidate));
        }
    }

    /// Who leads has won, and pays for its turn what all have gained.
    fn end(self) -> Option<Candidate<'a>> {
        let (_, winner) = self.leader?;
        winner.1.pay_turn(self.total);
        Some(winner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{any, balancer, letter};
    use super::super::{Change, Lease, Names};
    use super::*;
    use crate::http::headers::Headers;
    use crate::http::noise::Noise;
    use std::time::Duration;

    const METHODS: [Method; 3] = [Method::ByRequests, Method::ByTraffic, Method::ByBusyness];

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Who is chosen by so many requests, each of which ends at once.
    fn picks(balancer: &Balancer, count: usize, now: Instant) -> String {
        let pick = |_| match any(balancer, &Tried::default(), now) {
            Ok(choice) => letter(choice.member).to_owned(),
            Err(_) => "-".to_owned(),
        };
        (0..count).map(pick).collect()
    }

    fn sticky(members: &[&str]) -> Balancer {
        let mut balancer = balancer(Method::ByRequests, members);
        balancer.settings.sticky.names = Some(Names::parse("S").unwrap());
        balancer
    }

    /// Who is chosen for a session of this route: the letter, `*` if the session led there, `!` if the route changed.
    fn session(balancer: &Balancer, route: &str, tried: &[usize], now: Instant) -> String {
        let mut headers = Headers::default();
        headers.push("Cookie", format!("S=id.{route}").as_bytes());
        let asked = Session {
            target: "/",
            headers: &headers,
        };
        let mut failed = Tried::default();
        tried.iter().for_each(|index| failed.add(*index));
        match balancer.choose(&asked, &failed, now) {
            Ok(choice) => {
                let is_sticky = if choice.is_sticky { "*" } else { "" };
                let changed = if choice.route_changed { "!" } else { "" };
                format!("{}{is_sticky}{changed}", letter(choice.member))
            }
            Err(why) => format!("{why:?}"),
        }
    }

    fn fail(balancer: &Balancer, letters: &str, now: Instant) {
        for member in balancer.members() {
            if letters.contains(letter(member)) {
                member.failed(now);
            }
        }
    }

    #[test]
    fn requests_go_round_by_their_factors() {
        let now = Instant::now();
        for (members, expected) in [
            (&["a", "b", "c", "d loadfactor=2"][..], "dabcddabcddabcd"),
            (&["a", "b", "c"], "abcabcabc"),
            (&["a loadfactor=3", "b"], "aabaaaba"),
            (&["a loadfactor=1.5", "b"], "ababaab"),
            (&["a"], "aaa"),
            (&[], "---"),
        ] {
            let balancer = balancer(Method::ByRequests, members);
            assert_eq!(picks(&balancer, expected.len(), now), expected);
        }
    }

    #[test]
    fn shares_of_requests_are_those_of_the_factors() {
        let now = Instant::now();
        let members = [
            "a",
            "b loadfactor=2.5",
            "c loadfactor=0.5",
            "d loadfactor=6",
        ];
        for method in [Method::ByRequests, Method::ByBusyness] {
            let balancer = balancer(method, &members);
            picks(&balancer, 10_000, now);
            for (member, share) in balancer.members().iter().zip([1_000, 2_500, 500, 6_000]) {
                let elected = i64::try_from(member.figures().elected).unwrap();
                assert!(
                    (elected - share).abs() <= share / 100,
                    "{method:?}: {elected}, {share}"
                );
            }
        }
    }

    #[test]
    fn shares_of_bytes_are_those_of_the_factors() {
        let now = Instant::now();
        let members = ["a", "b loadfactor=2", "c loadfactor=3", "d loadfactor=4"];
        let balancer = balancer(Method::ByTraffic, &members);
        let mut noise = Noise::new(5);
        for _ in 0..10_000 {
            let choice = any(&balancer, &Tried::default(), now).unwrap();
            let meter = choice.lease.meter();
            meter.sent(noise.below(2_000) as u64);
            meter.received(noise.below(20_000) as u64);
        }
        let bytes: Vec<u64> = balancer
            .members()
            .iter()
            .map(|member| member.figures().sent + member.figures().received)
            .collect();
        let total: u64 = bytes.iter().sum();
        for (bytes, tenths) in bytes.into_iter().zip(1..) {
            let share = total * tenths / 10;
            assert!(bytes.abs_diff(share) <= share / 100, "{bytes}, {share}");
        }
    }

    #[test]
    fn tunnels_of_any_length_keep_members_equally_busy() {
        let now = Instant::now();
        let balancer = balancer(Method::ByBusyness, &["a", "b", "c", "d"]);
        let mut noise = Noise::new(6);
        let mut open: Vec<(usize, Lease)> = Vec::new();
        for round in 0..10_000 {
            open.retain(|(end, _)| *end > round);
            let least = balancer.members().iter().map(Member::busy).min();
            let choice = any(&balancer, &Tried::default(), now).unwrap();
            assert_eq!(Some(choice.member.busy() - 1), least);
            // Half of them end at once. Who got those that stay long gets fewer: over many, that evens out.
            let span = if noise.below(2) == 0 {
                1
            } else {
                noise.below(20)
            };
            open.push((round + span, choice.lease));
        }
        let elected: Vec<u64> = balancer
            .members()
            .iter()
            .map(|m| m.figures().elected)
            .collect();
        let share = elected.iter().sum::<u64>() / 4;
        for elected in elected {
            assert!(elected.abs_diff(share) <= share / 100, "{elected}, {share}");
        }
        drop(open);
        assert!(balancer.members().iter().all(|member| member.busy() == 0));
    }

    #[test]
    fn busyness_goes_before_turns_and_turns_decide_among_equals() {
        let now = Instant::now();
        let balancer = balancer(Method::ByBusyness, &["a", "b", "c loadfactor=5"]);
        let held: Vec<_> = (0..7)
            .map(|_| any(&balancer, &Tried::default(), now).unwrap())
            .collect();
        let order: String = held.iter().map(|choice| letter(choice.member)).collect();
        // Each round begins with everybody equally busy.
        let mut rounds = [&order[..3], &order[3..6]].map(|round| {
            let mut letters: Vec<char> = round.chars().collect();
            letters.sort_unstable();
            letters
        });
        assert_eq!(rounds.each_mut(), [&['a', 'b', 'c'], &['a', 'b', 'c']]);
        assert!(order.starts_with('c'), "{order}");
    }

    #[test]
    fn traffic_is_weighed_when_it_moves_and_the_first_of_equals_wins() {
        let now = Instant::now();
        let balancer = balancer(Method::ByTraffic, &["a", "b loadfactor=2"]);
        let tunnel = any(&balancer, &Tried::default(), now).unwrap();
        assert_eq!(letter(tunnel.member), "a");
        assert_eq!(picks(&balancer, 2, now), "aa", "nothing has moved");
        tunnel.lease.meter().received(1_000);
        assert_eq!(picks(&balancer, 2, now), "bb", "the tunnel is still open");
        let other = any(&balancer, &Tried::default(), now).unwrap();
        other.lease.meter().sent(1_999);
        assert_eq!(picks(&balancer, 1, now), "b");
        other.lease.meter().sent(1);
        assert_eq!(picks(&balancer, 1, now), "a", "10 and 10");
    }

    #[test]
    fn roles_and_sets() {
        let now = Instant::now();
        for (members, failed, expected) in [
            // A set is used when those before it have nobody left.
            (&["a lbset=7", "b lbset=2", "c lbset=2"][..], "", "bcbc"),
            (&["a lbset=7", "b lbset=2", "c lbset=2"], "b", "cccc"),
            (&["a lbset=7", "b lbset=2", "c lbset=2"], "bc", "aaaa"),
            // As many spares as members are missing, the first ones first.
            (&["a", "b", "c status=+R", "d status=+R"], "", "abab"),
            (&["a", "b", "c status=+R", "d status=+R"], "a", "bcbc"),
            (&["a", "b", "c status=+R", "d status=+R"], "ac", "bdbd"),
            (&["a", "b", "c status=+R", "d status=+R"], "ab", "cdcd"),
            (
                &["a", "b status=+D", "c status=+R", "d status=+R"],
                "",
                "acac",
            ),
            (&["a", "b status=+S", "c status=+R"], "", "acac"),
            (&["a", "b status=+N", "c status=+R"], "", "acac"),
            (&["c status=+R"], "", "----"),
            // Spares stay in their set.
            (&["a", "b lbset=1", "c status=+R lbset=1"], "a", "bbbb"),
            // A standby only when nobody else is there.
            (&["a", "h status=+H", "b"], "a", "bbbb"),
            (&["a", "h status=+H", "b"], "ab", "hhhh"),
            (&["a", "h status=+H", "i status=+H"], "a", "hihi"),
            (&["a", "h status=+H", "r status=+R"], "a", "rrrr"),
            (&["a", "h status=+H", "r status=+R"], "ar", "hhhh"),
            (&["h status=+H"], "", "hhhh"),
            // Before the next set.
            (&["a", "h status=+H", "b lbset=1"], "a", "hhhh"),
            (&["a", "h status=+H", "b lbset=1"], "ah", "bbbb"),
            // Draining and disabled ones get nothing, whatever they are.
            (&["a status=+N", "b"], "", "bbbb"),
            (&["a status=+N"], "", "----"),
            (
                &["a", "h status=+HN", "r status=+RN", "s status=+R"],
                "a",
                "ssss",
            ),
            (&["a", "h status=+HN", "b lbset=1"], "a", "bbbb"),
            (&["a", "h status=+HD", "b lbset=1"], "a", "bbbb"),
        ] {
            let balancer = balancer(Method::ByRequests, members);
            fail(&balancer, failed, now);
            assert_eq!(
                picks(&balancer, 4, now),
                expected,
                "{members:?} without {failed:?}"
            );
        }
    }

    #[test]
    fn who_does_not_compete_is_owed_nothing_on_its_return() {
        let now = Instant::now();
        let balancer = balancer(Method::ByRequests, &["a retry=10", "b retry=10"]);
        fail(&balancer, "a", now);
        assert_eq!(picks(&balancer, 100, now), "b".repeat(100));
        assert_eq!(picks(&balancer, 6, now + seconds(10)), "ababab");
    }

    #[test]
    fn an_error_is_forgotten_when_its_time_is_over() {
        let now = Instant::now();
        for method in METHODS {
            let balancer = balancer(method, &["a retry=10", "b"]);
            fail(&balancer, "a", now);
            assert_eq!(
                picks(&balancer, 2, now + Duration::from_millis(9_999)),
                "bb"
            );
            let choice = any(&balancer, &Tried::default(), now + seconds(10)).unwrap();
            assert!(
                !balancer.members()[0].status().has(Flag::Error),
                "{method:?}"
            );
            drop(choice);
        }
    }

    #[test]
    fn errors_are_forgotten_when_everybody_has_one() {
        let now = Instant::now();
        let recovering = balancer(Method::ByRequests, &["a", "b", "h status=+H"]);
        fail(&recovering, "ab", now);
        assert_eq!(picks(&recovering, 2, now), "hh", "one is left");
        fail(&recovering, "h", now);
        assert_eq!(picks(&recovering, 2, now), "ab");
        let retries = recovering.members().iter().map(|m| m.figures().retries);
        assert_eq!(retries.collect::<Vec<_>>(), [1, 1, 1]);

        let mut strict = balancer(Method::ByRequests, &["a retry=9", "b retry=5"]);
        strict.settings.force_recovery = false;
        fail(&strict, "ab", now);
        assert_eq!(picks(&strict, 1, now), "-");
        assert_eq!(picks(&strict, 2, now + seconds(5)), "bb");
        assert_eq!(picks(&strict, 2, now + seconds(9)), "ab");
    }

    #[test]
    fn nothing_is_forgotten_early_while_the_time_of_one_is_over() {
        let now = Instant::now();
        let balancer = balancer(Method::ByRequests, &["a retry=9", "b retry=5", "c"]);
        fail(&balancer, "abc", now);
        assert_eq!(picks(&balancer, 3, now + seconds(5)), "bbb");
    }

    #[test]
    fn threads_that_choose_at_once_choose_one_after_the_other() {
        let now = Instant::now();
        for method in [Method::ByRequests, Method::ByBusyness] {
            let balancer = balancer(method, &["a", "b", "c", "d"]);
            let gate = std::sync::Barrier::new(4);
            // Each of four chooses once in each round, so each member is chosen once.
            let choose = |looks: bool| {
                let mut held = Vec::new();
                let mut is_fair = true;
                for round in 1..=2_000 {
                    held.push(any(&balancer, &Tried::default(), now).unwrap().lease);
                    gate.wait();
                    let all_equal = || balancer.members().iter().all(|m| m.busy() == round);
                    is_fair &= !looks || all_equal();
                    gate.wait();
                }
                is_fair
            };
            std::thread::scope(|scope| {
                (0..3).for_each(|_| drop(scope.spawn(|| choose(false))));
                assert!(choose(true), "{method:?}");
            });
        }
    }

    #[test]
    fn a_member_without_an_error_forbids_the_recovery_of_others_even_if_it_is_disabled() {
        let now = Instant::now();
        let balancer = balancer(Method::ByRequests, &["a", "b status=+D"]);
        fail(&balancer, "a", now);
        assert_eq!(picks(&balancer, 1, now), "-");
    }

    #[test]
    fn nobody_is_tried_twice_for_a_request() {
        let now = Instant::now();
        let balancer = balancer(Method::ByRequests, &["a retry=0", "b status=+I", "c"]);
        let mut tried = Tried::default();
        for (expected, count) in [("a", 0), ("b", 1), ("c", 2)] {
            assert_eq!(tried.count(), count);
            let choice = any(&balancer, &tried, now).unwrap();
            assert_eq!(letter(choice.member), expected);
            choice.member.failed(now);
            tried.add(choice.index);
        }
        let refusal = any(&balancer, &tried, now).unwrap_err();
        assert_eq!(refusal, Why::Unusable);
        assert!(balancer.members().iter().all(|member| member.busy() == 0));
        // The next request has its own luck.
        assert_eq!(picks(&balancer, 2, now).len(), 2);
    }

    #[test]
    fn a_request_that_saw_all_fail_does_not_forget_it_and_one_that_did_not_may_hope() {
        let now = Instant::now();
        let balancer = balancer(Method::ByRequests, &["a", "b"]);
        fail(&balancer, "ab", now);
        let mut tried = Tried::default();
        tried.add(0);
        tried.add(1);
        assert!(any(&balancer, &tried, now).is_err());
        assert!(
            balancer
                .members()
                .iter()
                .all(|m| m.status().has(Flag::Error))
        );
        let mut tried = Tried::default();
        tried.add(1);
        assert_eq!(letter(any(&balancer, &tried, now).unwrap().member), "a");
    }

    #[test]
    fn a_full_member_is_passed_over() {
        let now = Instant::now();
        let mut limited = balancer(
            Method::ByRequests,
            &["a max=1", "b max=2", "s status=+R max=1"],
        );
        limited.settings.timeout = seconds(1);
        let mut held = Vec::new();
        let mut order = String::new();
        for _ in 0..4 {
            let choice = any(&limited, &Tried::default(), now).unwrap();
            order.push_str(letter(choice.member));
            held.push(choice.lease);
        }
        assert_eq!(order, "absb");
        let refusal = any(&limited, &Tried::default(), now).unwrap_err();
        assert_eq!(refusal, Why::Full);
        // A place that is given back is there at once.
        held.remove(0);
        assert_eq!(picks(&limited, 2, now), "aa");
        // Without a time to wait in, they queue at the members.
        held.push(any(&limited, &Tried::default(), now).unwrap().lease);
        limited.settings.timeout = Duration::ZERO;
        assert!(!picks(&limited, 4, now).contains(['-', 's']));
        fail(&limited, "ab", now);
        limited.settings.timeout = seconds(1);
        let refusal = any(&limited, &Tried::default(), now).unwrap_err();
        assert_eq!(refusal, Why::Full);
    }

    #[test]
    fn sessions_go_where_they_belong() {
        let now = Instant::now();
        for (members, failed, route, expected) in [
            (&["a", "b"][..], "", "b", "b*"),
            (&["a", "b"], "", "c", "a!"),
            (&["a", "b"], "", "B", "a!"),
            (&["a", "b"], "", "", "a!"),
            (&["a", "b"], "b", "b", "a!"),
            (&["a route=", "b"], "", "", "a!"),
            // Even where the method would not look.
            (&["a", "b lbset=9"], "", "b", "b*"),
            (&["a", "b status=+N"], "", "b", "b*"),
            (&["a", "b status=+R"], "", "b", "b*"),
            (&["a", "b status=+H"], "", "b", "b*"),
            (&["a", "b status=+D"], "", "b", "a!"),
            (&["a", "b status=+S"], "", "b", "a!"),
            // Ordinary ones and spares before standbys.
            (&["h status=+H route=x", "a route=x"], "", "x", "a*"),
            (
                &["h status=+H route=x", "r status=+R route=x", "a route=x"],
                "",
                "x",
                "r*",
            ),
            (&["h status=+H route=x", "a route=x"], "a", "x", "h*"),
            // Redirects, while the member cannot be used.
            (&["a redirect=b", "b", "c"], "", "a", "a*"),
            (&["a redirect=c", "b", "c"], "a", "a", "c*!"),
            (&["a redirect=b", "b redirect=c", "c"], "ab", "a", "c*!"),
            (&["a status=+D redirect=c", "b", "c"], "", "a", "c*!"),
            (&["a status=+N redirect=c", "b", "c"], "", "a", "a*"),
            (&["a redirect=c", "b", "c"], "ac", "a", "b!"),
            (&["a redirect=x", "b"], "a", "a", "b!"),
            (&["a redirect=h", "b", "h status=+H"], "a", "a", "h*!"),
            // The redirect goes before a standby of the same route, which goes before nobody.
            (
                &["a redirect=b", "b", "h status=+H route=a"],
                "a",
                "a",
                "b*!",
            ),
            (
                &["a redirect=b", "b", "c", "h status=+H route=a"],
                "ab",
                "a",
                "h*",
            ),
            // Round in a circle.
            (&["a redirect=a", "b"], "a", "a", "b!"),
            (&["a redirect=b", "b redirect=a", "c"], "ab", "a", "c!"),
        ] {
            let balancer = sticky(members);
            fail(&balancer, failed, now);
            let found = session(&balancer, route, &[], now);
            assert_eq!(
                found, expected,
                "{members:?} without {failed:?} for {route:?}"
            );
        }
    }

    #[test]
    fn a_session_brings_its_member_back_when_its_time_is_over() {
        let now = Instant::now();
        let balancer = sticky(&["a retry=10", "b retry=10"]);
        fail(&balancer, "b", now);
        assert_eq!(session(&balancer, "b", &[], now), "a!");
        assert_eq!(session(&balancer, "b", &[], now + seconds(10)), "b*");
    }

    #[test]
    fn a_session_whose_member_failed_it_goes_on_elsewhere() {
        let now = Instant::now();
        let balancer = sticky(&["a", "b status=+I redirect=c", "c", "d"]);
        assert_eq!(session(&balancer, "b", &[], now), "b*");
        assert_eq!(session(&balancer, "b", &[1], now), "c*!");
        assert_eq!(session(&balancer, "b", &[1, 2, 0], now), "d!");
        assert_eq!(session(&balancer, "b", &[0, 1, 2, 3], now), "Unusable");
    }

    #[test]
    fn without_failover_a_session_has_its_own_member_or_none() {
        let now = Instant::now();
        let mut balancer = sticky(&["a", "b", "c redirect=a"]);
        balancer.settings.sticky.no_failover = true;
        fail(&balancer, "bc", now);
        assert_eq!(session(&balancer, "b", &[], now), "SessionBound");
        assert_eq!(
            session(&balancer, "c", &[], now),
            "a*!",
            "that is what redirect is for"
        );
        assert_eq!(session(&balancer, "x", &[], now), "a!", "nobody's session");
        assert_eq!(session(&balancer, "a", &[0], now), "SessionBound");
        assert_eq!(picks(&balancer, 1, now), "a");
    }

    #[test]
    fn a_session_goes_to_its_member_even_if_that_is_full() {
        let now = Instant::now();
        let mut balancer = sticky(&["a max=1", "b"]);
        balancer.settings.timeout = seconds(1);
        let held = any(&balancer, &Tried::default(), now).unwrap();
        assert_eq!(letter(held.member), "a");
        assert_eq!(session(&balancer, "a", &[], now), "a*");
        assert_eq!(picks(&balancer, 2, now), "bb");
    }

    #[test]
    fn sessions_count_among_the_turns_of_those_who_compete_with_their_member() {
        let now = Instant::now();
        let balancer = sticky(&["a", "b", "r status=+R", "x lbset=1"]);
        for _ in 0..3 {
            assert_eq!(session(&balancer, "a", &[], now), "a*");
        }
        assert_eq!(picks(&balancer, 6, now), "bbbaba");
        for route in ["r", "x"] {
            for _ in 0..100 {
                assert_eq!(session(&balancer, route, &[], now), format!("{route}*"));
            }
        }
        assert_eq!(picks(&balancer, 4, now), "baba");
        fail(&balancer, "b", now);
        assert_eq!(
            picks(&balancer, 4, now),
            "rara",
            "the spare is owed nothing"
        );

        let balancer = sticky(&["a", "b"]);
        for _ in 0..100_000 {
            assert_eq!(session(&balancer, "a", &[], now), "a*");
        }
        assert_eq!(picks(&balancer, 200, now), "b".repeat(200));
        let shares = picks(&balancer, 10, now);
        assert_eq!(
            shares.matches('a').count(),
            5,
            "a flood is forgotten: {shares}"
        );

        let balancer = sticky(&["a", "d status=+N"]);
        for _ in 0..100 {
            assert_eq!(session(&balancer, "d", &[], now), "d*");
        }
        let back = Change::parse("-N").unwrap();
        balancer.members()[1].set_status(back, now);
        assert_eq!(picks(&balancer, 4, now), "adad");
    }

    #[test]
    fn the_environment_is_that_of_httpd() {
        let now = Instant::now();
        let told = |balancer: &Balancer, target: &str| {
            let headers = Headers::default();
            let asked = Session {
                target,
                headers: &headers,
            };
            let choice = balancer.choose(&asked, &Tried::default(), now).unwrap();
            let text = |(name, value)| {
                let name = str::trim_start_matches(name, "BALANCER_");
                format!("{name}={}", String::from_utf8_lossy(value))
            };
            choice.variables().map(text).collect::<Vec<_>>()
        };
        let balancer = sticky(&["a", "b route="]);
        let (name, worker) = ("NAME=balancer://set", "WORKER_NAME=ws://a.example");
        assert_eq!(
            told(&balancer, "/?S=1.a"),
            [
                name,
                worker,
                "WORKER_ROUTE=a",
                "SESSION_STICKY=S",
                "SESSION_ROUTE=a"
            ]
        );
        let worker = "WORKER_NAME=ws://b.example";
        assert_eq!(
            told(&balancer, "/"),
            [name, worker, "WORKER_ROUTE=", "ROUTE_CHANGED=1"]
        );
        let without = super::super::tests::balancer(Method::ByRequests, &["b route="]);
        assert_eq!(told(&without, "/?S=1.a"), [name, worker, "WORKER_ROUTE="]);
    }

    #[test]
    fn redirects_of_every_kind_cost_no_more_than_their_number() {
        let now = Instant::now();
        // All lead to all: followed to the end, that would be a hundred ways at each of a hundred steps.
        let members = vec!["a route=x redirect=x"; 100];
        let mut balancer = sticky(&members);
        balancer.settings.force_recovery = false;
        fail(&balancer, "a", now);
        assert_eq!(session(&balancer, "x", &[], now), "Unusable");
    }

    /// What must be true of every choice, in thousands of balancers that nobody thought of.
    #[test]
    fn noise_finds_no_choice_that_is_forbidden() {
        let mut noise = Noise::new(7);
        let start = Instant::now();
        for round in 0..500 {
            let letters = ["a", "b", "c", "d", "e", "f"];
            let members: Vec<String> = (0..noise.below(7))
                .map(|index| {
                    let status =
                        noise.pick(&["+I", "+D", "+S", "+R", "+H", "+N", "+E", "-D", "-D", "-D"]);
                    format!(
                        "{} status={status} lbset={} loadfactor={} redirect={} max={} retry={}",
                        letters[index],
                        noise.below(3),
                        noise.below(99) + 1,
                        noise.pick(&letters),
                        noise.below(3) + 1,
                        noise.below(20),
                    )
                })
                .collect();
            let members: Vec<&str> = members.iter().map(String::as_str).collect();
            let mut balancer = sticky(&members);
            balancer.settings.method = METHODS[round % 3];
            balancer.settings.force_recovery = noise.below(2) == 0;
            balancer.settings.sticky.no_failover = noise.below(2) == 0;
            balancer.settings.timeout = seconds(noise.below(2) as u64);
            let mut held = Vec::new();
            for step in 0..100 {
                let now = start + seconds(step);
                let mut tried = Tried::default();
                (0..noise.below(3)).for_each(|_| tried.add(noise.below(6)));
                let target = format!("/?S=1.{}", noise.pick(&letters));
                let headers = Headers::default();
                let asked = Session {
                    target: &target,
                    headers: &headers,
                };
                let elected =
                    |b: &Balancer| b.members().iter().map(|m| m.figures().elected).sum::<u64>();
                let before = elected(&balancer);
                match balancer.choose(&asked, &tried, now) {
                    Ok(choice) => {
                        assert_eq!(elected(&balancer), before + 1);
                        let status = choice.member.status();
                        assert!(
                            status.is_usable() && !tried.has(choice.index),
                            "{members:?}"
                        );
                        assert!(choice.is_sticky || !status.has(Flag::Drain), "{members:?}");
                        if choice.route_changed {
                            let is_own = has_route(choice.member, choice.claim.unwrap().route);
                            assert!(!choice.is_sticky || !is_own, "{members:?}");
                        }
                        choice.lease.meter().sent(noise.below(5_000) as u64);
                        if noise.below(3) == 0 {
                            choice.member.failed(now);
                        }
                        held.push(choice.lease);
                    }
                    Err(_) => assert_eq!(elected(&balancer), before),
                }
                if held.len() > noise.below(12) {
                    held.swap_remove(noise.below(held.len()));
                }
            }
            let busy: usize = balancer.members().iter().map(Member::busy).sum();
            assert_eq!(busy, held.len());
            held.clear();
            assert!(balancer.members().iter().all(|member| member.busy() == 0));
        }
    }
}
