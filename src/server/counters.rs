//! What is counted over the life of the process, across reloads. Each number stands for itself, so none has to be seen
//! together with another.

use crate::transaction::{CloseReason, Transaction};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Problems of one reload that are kept and shown: a file that is none has one in every line.
const MOST_PROBLEMS: usize = 100;

/// A number that grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub(super) fn count(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What a request for a tunnel came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handshake {
    /// Both sides agreed.
    Switched,
    /// We refused what the client asked for.
    Refused,
    /// The backend gave another answer than 101, and the client got that or ours in its place.
    Declined,
    /// No backend gave an answer.
    Failed,
    /// The client went away meanwhile.
    Gone,
}

impl Handshake {
    pub(super) const ALL: [Self; 5] = [
        Self::Switched,
        Self::Refused,
        Self::Declined,
        Self::Failed,
        Self::Gone,
    ];

    /// The word for it in a status.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Switched => "switched",
            Self::Refused => "refused",
            Self::Declined => "declined",
            Self::Failed => "failed",
            Self::Gone => "gone",
        }
    }
}

/// The words of [`CloseReason::who`].
pub(super) const ENDED_BY: [&str; 9] = [
    "client",
    "backend",
    "idle",
    "lifetime",
    "drain",
    "administrator",
    "reload",
    "stop",
    "fault",
];

/// The classes of statuses.
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// All that is counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Connections accepted.
    pub(super) connections: Counter,
    answers: [Counter; CLASSES.len()],
    /// Bytes to clients, heads included, but for those through tunnels.
    pub(super) bytes_out: Counter,
    handshakes: [Counter; Handshake::ALL.len()],
    ended: [Counter; ENDED_BY.len()],
    /// Faults of ours, each of which cost a request or a tunnel, or worse.
    pub(super) panics: Counter,
    reloads: Reloads,
}

/// Reloads, good and failed, and how the last one went.
#[derive(Debug, Default)]
struct Reloads {
    good: Counter,
    failed: Counter,
    last: Mutex<Option<Reload>>,
}

/// How a reload went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reload {
    pub(super) at: SystemTime,
    /// Why the configuration from before stayed in force: each problem with its file and line. Empty if all went well.
    pub(super) problems: Vec<String>,
}

impl Counters {
    /// A request was answered as far as its transaction says, perhaps not at all; or it has become a tunnel.
    pub(super) fn answered(&self, transaction: &Transaction) {
        self.bytes_out.add(transaction.bytes_out);
        let class = usize::from(transaction.status / 100);
        if let Some(counter) = class
            .checked_sub(1)
            .and_then(|class| self.answers.get(class))
        {
            counter.count();
        }
    }

    /// Answers so far, by the class of their status, with the names of [`CLASSES`].
    pub(super) fn answers(&self) -> [(&'static str, u64); CLASSES.len()] {
        named(CLASSES, &self.answers)
    }

    pub(super) fn handshake(&self, outcome: Handshake) {
        if let Some(counter) = self.handshakes.get(outcome as usize) {
            counter.count();
        }
    }

    /// Requests for tunnels, by what they came to.
    pub(super) fn handshakes(&self) -> [(&'static str, u64); Handshake::ALL.len()] {
        named(Handshake::ALL.map(Handshake::word), &self.handshakes)
    }

    /// A tunnel has ended.
    pub(super) fn ended(&self, reason: Option<&CloseReason>) {
        // Who was dropped before he had begun to end was ours.
        let who = reason.map_or("fault", CloseReason::who);
        let place = ENDED_BY.iter().position(|word| *word == who);
        if let Some(counter) = place.and_then(|place| self.ended.get(place)) {
            counter.count();
        }
    }

    /// Tunnels that have ended, by who or what ended them.
    pub(super) fn ends(&self) -> [(&'static str, u64); ENDED_BY.len()] {
        named(ENDED_BY, &self.ended)
    }

    /// A reload has put another configuration in force, or has failed for these problems.
    pub(super) fn reloaded(&self, at: SystemTime, mut problems: Vec<String>) {
        let Reloads { good, failed, last } = &self.reloads;
        if problems.is_empty() { good } else { failed }.count();
        let more = problems.len().saturating_sub(MOST_PROBLEMS);
        if more > 0 {
            problems.truncate(MOST_PROBLEMS);
            problems.push(format!("and {more} more; the log has them all"));
            problems.shrink_to_fit();
        }
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Reload { at, problems });
    }

    /// Good and failed reloads, and the last one.
    pub(super) fn reloads(&self) -> (u64, u64, Option<Reload>) {
        let Reloads { good, failed, last } = &self.reloads;
        let last = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (good.get(), failed.get(), last)
    }
}

fn named<const N: usize>(
    names: [&'static str; N],
    counters: &[Counter; N],
) -> [(&'static str, u64); N] {
    let mut values = counters.iter().map(Counter::get);
    names.map(|name| (name, values.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::Side;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    #[test]
    fn statuses_are_counted_by_their_class_and_what_is_none_is_not() {
        let counters = Counters::default();
        let address = (Ipv4Addr::LOCALHOST, 1).into();
        let mut transaction = Transaction::new(1, address, address, SystemTime::UNIX_EPOCH);
        for status in [0, 99, 101, 200, 204, 426, 503, 600, 999] {
            transaction.status = status;
            transaction.bytes_out = 10;
            counters.answered(&transaction);
        }
        assert_eq!(counters.bytes_out.get(), 90);
        let expected = [("1xx", 1), ("2xx", 2), ("3xx", 0), ("4xx", 1), ("5xx", 1)];
        assert_eq!(counters.answers(), expected);
    }

    #[test]
    fn every_way_to_end_has_its_word() {
        let counters = Counters::default();
        let reasons = [
            CloseReason::Closed(Side::Client),
            CloseReason::Died(None),
            CloseReason::Idle(Duration::ZERO),
            CloseReason::Lifetime(Duration::ZERO),
            CloseReason::Drained,
            CloseReason::Administrator { code: None },
            CloseReason::Removed,
            CloseReason::Stopping,
            CloseReason::Fault(String::new()),
        ];
        for reason in &reasons {
            counters.ended(Some(reason));
        }
        assert_eq!(counters.ends(), ENDED_BY.map(|word| (word, 1)));
        counters.ended(None);
        assert!(counters.ends().contains(&("fault", 2)));
    }

    #[test]
    fn the_last_reload_is_known_with_its_problems() {
        let counters = Counters::default();
        assert_eq!(counters.reloads(), (0, 0, None));
        let at = SystemTime::UNIX_EPOCH;
        counters.reloaded(at, vec!["a.conf:1: no".to_owned()]);
        counters.reloaded(at, Vec::new());
        let last = Reload {
            at,
            problems: Vec::new(),
        };
        assert_eq!(counters.reloads(), (1, 1, Some(last)));
        counters.reloaded(at, vec!["a.conf:1: no".to_owned(); 5000]);
        let problems = counters.reloads().2.unwrap().problems;
        let last = problems.last().unwrap();
        assert_eq!(
            (problems.len(), &**last),
            (101, "and 4900 more; the log has them all")
        );
    }
}
