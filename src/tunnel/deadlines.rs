//! When to look at which tunnel. Pure: the time comes from the caller.

use std::collections::BTreeSet;
use std::time::Instant;

/// Deadlines of things that are known by a number.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    // A set and no heap: who ends takes its entry along, and short lives leave nothing behind.
    entries: BTreeSet<(Instant, usize)>,
}

impl Deadlines {
    pub(super) fn insert(&mut self, at: Instant, index: usize) {
        self.entries.insert((at, index));
    }

    pub(super) fn remove(&mut self, at: Instant, index: usize) {
        self.entries.remove(&(at, index));
    }

    pub(super) fn earliest(&self) -> Option<Instant> {
        self.entries.first().map(|(at, _)| *at)
    }

    /// Takes the earliest out, if it is not later than `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<usize> {
        if self.earliest()? > now {
            return None;
        }
        self.entries.pop_first().map(|(_, index)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn they_come_in_the_order_of_time_and_not_before_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut deadlines = Deadlines::default();
        for (seconds, index) in [(3, 30), (1, 10), (2, 20), (1, 11)] {
            deadlines.insert(at(seconds), index);
        }
        deadlines.remove(at(1), 10);
        assert_eq!(deadlines.earliest(), Some(at(1)));
        assert_eq!(deadlines.take_due(at(0)), None);
        let due: Vec<_> = std::iter::from_fn(|| deadlines.take_due(at(2))).collect();
        assert_eq!(due, [11, 20]);
        assert_eq!(deadlines.earliest(), Some(at(3)));
    }
}
