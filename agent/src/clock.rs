//! The two clocks of the edge. Everything inside takes time as an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use weir_core::record::TimeUs;

/// Wall clock: can be set, so nothing is measured with it.
pub fn wall_us() -> TimeUs {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, whole_us)
}

/// Time since boot, suspended time included.
pub fn boottime_us() -> u64 {
    // Every kernel that runs the programs has this clock.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |t| whole_us(Duration::from(t)))
}

fn whole_us(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
