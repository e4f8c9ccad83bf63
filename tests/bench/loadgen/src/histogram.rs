//! A log-linear histogram of durations, exact to about 1 %.

use std::time::Duration;

/// Values below twice as many have a place each; above, each power of two has as many places.
const SUB: u64 = 64;

#[derive(Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: u64,
}

impl Histogram {
    pub fn record(&mut self, duration: Duration) {
        let value = duration.as_nanos() as u64;
        let place = place_of(value);
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += 1;
        self.total += 1;
        self.longest = self.longest.max(value);
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The duration below which the share `q` of the records lies, in µs.
    pub fn quantile_us(&self, q: f64) -> f64 {
        let rank = (q * self.total as f64).ceil() as u64;
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank && *count > 0 {
                return middle_of(place).min(self.longest) as f64 / 1e3;
            }
        }
        0.0
    }
}

fn place_of(value: u64) -> usize {
    if value < 2 * SUB {
        return value as usize;
    }
    let shift = u64::from(value.ilog2() - SUB.ilog2());
    (shift * SUB + (value >> shift)) as usize
}

/// The middle of the values that have this place.
fn middle_of(place: usize) -> u64 {
    let place = place as u64;
    if place < 2 * SUB {
        return place;
    }
    let shift = place / SUB - 1;
    let lowest = (place - shift * SUB) << shift;
    lowest + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_hold_their_values() {
        for value in (0..200).chain([1000, 12_345, 1 << 20, 987_654_321]) {
            let near = middle_of(place_of(value)) as f64;
            let off = (near - value as f64).abs();
            assert!(off <= value as f64 / 64.0 + 1.0, "{value} -> {near}");
        }
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|us| histogram.record(Duration::from_micros(us)));
        assert!((histogram.quantile_us(0.5) - 500.0).abs() < 10.0);
        assert!((histogram.quantile_us(0.99) - 990.0).abs() < 18.0);
    }
}
