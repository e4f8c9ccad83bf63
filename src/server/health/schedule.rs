//! What is due next, for threads that take turns.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Things by number, each at its time. One thread at a time sleeps until the earliest is due, and the others until they are
/// called: nobody looks in vain.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Somebody sleeps until then at the latest.
    watched: Option<Instant>,
    is_closed: bool,
}

impl Schedule {
    /// Puts a thing in. Who does that while others wait asks for the [`Self::next`] one right after it.
    pub(super) fn put(&self, thing: usize, due: Instant) {
        self.state().due.push(Reverse((due, thing)));
    }

    /// Takes out the thing that is due first, when it is. Nothing once the schedule is closed.
    pub(super) fn next(&self) -> Option<usize> {
        let mut state = self.state();
        loop {
            if state.is_closed {
                return None;
            }
            let Some(Reverse((due, thing))) = state.due.peek().copied() else {
                state = self.wait(state);
                continue;
            };
            let now = Instant::now();
            if due <= now {
                state.due.pop();
                if !state.due.is_empty() {
                    // Who comes back from this one may come too late for the next.
                    self.changed.notify_one();
                }
                return Some(thing);
            }
            if state.watched.is_some_and(|watched| watched <= due) {
                state = self.wait(state);
                continue;
            }
            state.watched = Some(due);
            let woken = self.changed.wait_timeout(state, due - now);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            if state.watched == Some(due) {
                state.watched = None;
            }
        }
    }

    /// Ends all waits, those to come among them.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let woken = self.changed.wait(state);
        woken.unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What the lock guards is whole between statements, whatever became of another thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::thread::{self, JoinHandle};
    use std::time::Duration;

    const BOUND: Duration = Duration::from_secs(20);

    /// Takes one thing after the other, each when the one before it was received.
    fn taker(schedule: &Arc<Schedule>) -> (Receiver<usize>, JoinHandle<()>) {
        let (sender, taken) = sync_channel(0);
        let schedule = Arc::clone(schedule);
        let thread = thread::spawn(move || {
            while let Some(thing) = schedule.next() {
                sender.send(thing).unwrap();
            }
        });
        (taken, thread)
    }

    #[test]
    fn things_come_in_the_order_of_their_times_and_not_before() {
        let schedule = Schedule::default();
        let now = Instant::now();
        let last = now + Duration::from_millis(20);
        schedule.put(1, last);
        schedule.put(2, now);
        schedule.put(3, now + Duration::from_millis(5));
        assert_eq!([(); 3].map(|()| schedule.next()), [2, 3, 1].map(Some));
        assert!(Instant::now() >= last);
    }

    #[test]
    fn who_is_busy_leaves_what_is_due_to_others() {
        let schedule = Arc::new(Schedule::default());
        schedule.put(9, Instant::now() + Duration::from_secs(1_000));
        let (taken, other) = taker(&schedule);
        // The other one sleeps for long. Each takes one of two that are due earlier, and then asks for no more.
        let soon = Instant::now() + Duration::from_millis(5);
        schedule.put(1, soon);
        schedule.put(2, soon + Duration::from_millis(5));
        let ours = schedule.next().unwrap();
        let mut both = [ours, taken.recv_timeout(BOUND).unwrap()];
        both.sort_unstable();
        assert_eq!(both, [1, 2]);
        schedule.close();
        other.join().unwrap();
    }

    #[test]
    fn closing_ends_those_who_sleep_and_those_who_wait_to_be_called() {
        let schedule = Arc::new(Schedule::default());
        schedule.put(1, Instant::now() + Duration::from_secs(1_000));
        let takers: Vec<_> = (0..3).map(|_| taker(&schedule)).collect();
        schedule.close();
        for (taken, thread) in takers {
            thread.join().unwrap();
            assert_eq!(taken.try_recv().ok(), None);
        }
        assert_eq!(schedule.next(), None);
    }
}
