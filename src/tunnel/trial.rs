//! Which way bulk takes, found by trying. Pure: what it cost is told by the caller.
//!
//! Copying touches each byte twice, splicing handles each page instead. Which is cheaper depends upon the machine's
//! memory, its kernel, and on how warm the caches are for this very stream; so both are tried on it.

use std::fmt;
use std::time::Duration;

/// Bytes for which a way is tried.
const TRIED: u64 = 8 * 1024 * 1024;
/// Bytes for which the result holds.
const SETTLED: u64 = 1024 * 1024 * 1024;

/// How bytes get from a socket to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Through a buffer of ours.
    Copy,
    /// Through a pipe in the kernel.
    Splice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The way is tried, and its cost measured.
    Trying(Way),
    Settled(Way),
}

/// What both ways have cost on one stream, for as many bytes as are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    copying: Duration,
    splicing: Duration,
}

impl Outcome {
    fn cheaper(self) -> Way {
        if self.splicing < self.copying {
            Way::Splice
        } else {
            Way::Copy
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_gib = |spent: Duration| spent.as_secs_f64() * (1_u64 << 30) as f64 / TRIED as f64;
        write!(
            f,
            "copying takes {:.3} s of processor time for a GiB, splicing {:.3} s",
            per_gib(self.copying),
            per_gib(self.splicing)
        )
    }
}

/// One stream's trial of both ways.
#[derive(Debug)]
pub(super) struct Trial {
    phase: Phase,
    /// Bytes moved in this phase.
    moved: u64,
    /// Processor time of this phase.
    spent: Duration,
    /// What copying cost when it was last tried.
    copying: Duration,
}

impl Default for Trial {
    fn default() -> Self {
        Self {
            phase: Phase::Trying(Way::Copy),
            moved: 0,
            spent: Duration::ZERO,
            copying: Duration::MAX,
        }
    }
}

impl Trial {
    /// The way to take now.
    pub(super) fn way(&self) -> Way {
        match self.phase {
            Phase::Trying(way) | Phase::Settled(way) => way,
        }
    }

    /// Whether [`note`](Self::note) has to be told the processor time.
    pub(super) fn is_measured(&self) -> bool {
        matches!(self.phase, Phase::Trying(_))
    }

    /// Takes note of `bytes` that went this [`way`](Self::way), and of what that cost. The result, when both have been
    /// tried.
    pub(super) fn note(&mut self, bytes: u64, spent: Duration) -> Option<Outcome> {
        self.moved += bytes;
        self.spent += spent;
        match self.phase {
            Phase::Trying(Way::Copy) if self.moved >= TRIED => {
                self.copying = self.cost();
                self.enter(Phase::Trying(Way::Splice));
            }
            Phase::Trying(Way::Splice) if self.moved >= TRIED => {
                let outcome = Outcome {
                    copying: self.copying,
                    splicing: self.cost(),
                };
                self.enter(Phase::Settled(outcome.cheaper()));
                return Some(outcome);
            }
            Phase::Settled(_) if self.moved >= SETTLED => self.enter(Phase::Trying(Way::Copy)),
            _ => {}
        }
        None
    }

    /// Splicing does not suit this stream now: its frames are too small, or no pipe is to be had.
    pub(super) fn copy_for_a_while(&mut self) {
        self.enter(Phase::Settled(Way::Copy));
    }

    /// Processor time of as many bytes as are tried.
    fn cost(&self) -> Duration {
        self.spent.mul_f64(TRIED as f64 / self.moved as f64)
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.moved = 0;
        self.spent = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moves bulk until the trial has settled. Each way costs as much for a MiB, in microseconds.
    fn settle(trial: &mut Trial, copying: u64, splicing: u64) -> Way {
        while trial.is_measured() {
            let cost = match trial.way() {
                Way::Copy => copying,
                Way::Splice => splicing,
            };
            trial.note(1024 * 1024, Duration::from_micros(cost));
        }
        trial.way()
    }

    #[test]
    fn the_way_that_was_cheaper_is_kept_and_tried_again_later() {
        let mut trial = Trial::default();
        assert_eq!(trial.way(), Way::Copy, "a short stream never needs a pipe");
        assert_eq!(settle(&mut trial, 300, 200), Way::Splice);
        trial.note(SETTLED - 1, Duration::ZERO);
        assert!(!trial.is_measured());
        trial.note(1, Duration::ZERO);
        assert_eq!(settle(&mut trial, 200, 300), Way::Copy);
    }

    #[test]
    fn what_both_cost_is_told_once() {
        let mut trial = Trial::default();
        assert_eq!(trial.note(TRIED, Duration::from_millis(4)), None);
        let outcome = trial.note(TRIED, Duration::from_millis(2)).unwrap();
        assert_eq!(
            outcome.to_string(),
            "copying takes 0.512 s of processor time for a GiB, splicing 0.256 s"
        );
        assert_eq!(trial.note(TRIED, Duration::ZERO), None);
    }

    #[test]
    fn a_stream_of_small_frames_is_copied_until_the_next_trial() {
        let mut trial = Trial::default();
        settle(&mut trial, 300, 200);
        trial.copy_for_a_while();
        assert_eq!((trial.way(), trial.is_measured()), (Way::Copy, false));
        trial.note(SETTLED, Duration::ZERO);
        assert_eq!(settle(&mut trial, 300, 200), Way::Splice);
    }
}
