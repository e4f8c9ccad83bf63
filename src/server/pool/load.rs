//! Whether the processors are busy: more workers would not mend that.

use super::PATIENCE;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// How much of the processors' time this process gets.
#[derive(Debug)]
pub(super) struct Load {
    looked_at: Instant,
    /// Processor time of the process until then.
    used: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            looked_at: Instant::now(),
            used: processor_time(),
        }
    }
}

impl Load {
    /// Whether since the last look so many threads have rather computed than waited, as far as there are processors
    /// for them. A quarter of the time is enough: whoever is on the other side, on this machine, needs some as well.
    /// A look that is longer past than so many moments says nothing; then it is taken for high, and the next will tell.
    pub(super) fn is_high(&mut self, moments: usize, threads: usize, processors: usize) -> bool {
        let (now, used) = (Instant::now(), processor_time());
        let passed = now - std::mem::replace(&mut self.looked_at, now);
        let spent = used.saturating_sub(std::mem::replace(&mut self.used, used));
        let at_once = u32::try_from(threads.clamp(1, processors)).unwrap_or(u32::MAX);
        let moments = u32::try_from(moments).unwrap_or(u32::MAX);
        passed > PATIENCE.saturating_mul(moments.saturating_add(3))
            || spent > passed.saturating_mul(at_once) / 4
    }
}

fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}
