//! The clocks of the edge. Everything inside takes time as an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use weir_core::record::TimeUs;

/// Wall clock: can be set, so nothing is measured with it.
pub fn wall_us() -> TimeUs {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, whole_us) + passed_us()
}

/// Time since boot, suspended time included.
pub fn boottime_us() -> u64 {
    // Every kernel that runs the programs has this clock.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |t| whole_us(Duration::from(t))) + passed_us()
}

/// The clock of epochs and of entries, nanoseconds: CLOCK_MONOTONIC, as the kernel programs read it.
pub fn monotonic_ns() -> u64 {
    weir_kernel::sys::monotonic_ns() + passed_us() * 1000
}

fn whole_us(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(not(test))]
const fn passed_us() -> u64 {
    0
}

#[cfg(test)]
fn passed_us() -> u64 {
    PASSED_US.load(std::sync::atomic::Ordering::Relaxed)
}

#[cfg(test)]
static PASSED_US: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// So much time passes at once, by all clocks: for tests that have a process to themselves.
#[cfg(test)]
pub fn pass(time: Duration) {
    PASSED_US.fetch_add(whole_us(time), std::sync::atomic::Ordering::Relaxed);
}
