//! The measured part of a run: after the warm-up, for as long as was asked.

use crate::client::Target;
use crate::cpu::Sample;
use crate::json::Object;
use std::time::{Duration, Instant};

pub struct Window<'a> {
    target: &'a Target,
    begin: Instant,
    end: Instant,
    first: Option<Sample>,
    last: Option<Sample>,
}

impl<'a> Window<'a> {
    pub fn new(target: &'a Target) -> Self {
        let begin = Instant::now() + target.warmup;
        Self {
            target,
            begin,
            end: begin + target.window,
            first: None,
            last: None,
        }
    }

    /// Takes the samples when they are due. Says whether the window begins with this step.
    pub fn step(&mut self) -> bool {
        let now = Instant::now();
        if self.first.is_none() && now >= self.begin {
            self.first = Some(Sample::now(&self.target.watches));
            // Sampling takes a moment, which does not count.
            self.begin = Instant::now();
            self.end = self.begin + self.target.window;
            return true;
        }
        if self.first.is_some() && self.last.is_none() && now >= self.end {
            self.last = Some(Sample::now(&self.target.watches));
        }
        false
    }

    pub fn is_over(&self) -> bool {
        self.last.is_some()
    }

    /// Whether what happens now counts.
    pub fn holds(&self, now: Instant) -> bool {
        self.first.is_some() && now < self.end
    }

    /// How much of it has passed.
    pub fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    pub fn cpu(&self) -> Object {
        match (&self.first, &self.last) {
            (Some(first), Some(last)) => first.until(last, &self.target.watches),
            _ => Object::default(),
        }
    }
}
