//! The measured part of a run: after the warm-up, for as long as was asked.

use crate::client::Target;
use crate::cpu::Sample;
use crate::json::Object;
use std::time::{Duration, Instant};

/// A window in which nothing has come through stays open for so much longer: what is slow is no fault, what stands
/// still is.
const GRACE: Duration = Duration::from_secs(10);

pub struct Window<'a> {
    target: &'a Target,
    /// When it begins; then, when it has begun.
    begin: Instant,
    end: Option<Instant>,
    first: Option<Sample>,
    last: Option<Sample>,
}

impl<'a> Window<'a> {
    pub fn new(target: &'a Target) -> Self {
        Self {
            target,
            begin: Instant::now() + target.warmup,
            end: None,
            first: None,
            last: None,
        }
    }

    /// Begins and ends the window when it is time, with `units` of work having come through in it. Says whether it
    /// begins with this step.
    pub fn step(&mut self, units: u64) -> bool {
        let now = Instant::now();
        if self.first.is_none() {
            if now < self.begin {
                return false;
            }
            self.first = Some(Sample::now(&self.target.watches));
            // Sampling takes a moment, which does not count.
            self.begin = Instant::now();
            return true;
        }
        let grace = if units == 0 { GRACE } else { Duration::ZERO };
        if self.end.is_none() && now >= self.begin + self.target.window + grace {
            self.end = Some(now);
            self.last = Some(Sample::now(&self.target.watches));
        }
        false
    }

    /// Whether what happens now counts.
    pub fn is_open(&self) -> bool {
        self.first.is_some() && !self.is_over()
    }

    pub fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// How long it was.
    pub fn seconds(&self) -> f64 {
        let end = self.end.unwrap_or_else(Instant::now);
        end.saturating_duration_since(self.begin).as_secs_f64()
    }

    /// What was used in it.
    pub fn cpu(&self) -> Object {
        match (&self.first, &self.last) {
            (Some(first), Some(last)) => first.until(last, &self.target.watches),
            _ => Object::default(),
        }
    }
}
