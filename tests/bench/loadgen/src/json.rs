//! Results as JSON objects of one line.

use crate::histogram::Histogram;
use std::fmt::Display;

/// An object that is being written.
#[derive(Default)]
pub struct Object(Vec<String>);

impl Object {
    /// A member whose value is JSON already: a number, or an object.
    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        let name = name.replace(['"', '\\'], "'");
        self.0.push(format!("\"{name}\":{value}"));
        self
    }

    /// How long things took.
    pub fn latency(self, histogram: &Histogram) -> Self {
        [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)]
            .into_iter()
            .fold(self, |object, (name, q)| {
                object.with(name, format_args!("{:.1}", histogram.quantile_us(q)))
            })
    }
}

impl Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{{}}}", self.0.join(","))
    }
}
