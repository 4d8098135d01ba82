//! Wall clocks are set; lifetimes go on as they were.
//!
//! Ends of decisions, allow entries, questions and suppressions are told as wall time. Whenever that is compared with a time to come, it is first looked whether the wall clock has
//! stepped against the boot-time clock since the last look; if so, all ends move with it.

use weir_core::event::Level;
use weir_core::record::TimeUs;

use super::Agent;
use crate::clock::{boottime_us, monotonic_ns, wall_us};
use crate::drain::Epoch;
use crate::human;

/// Less than this is a clock that is slewed, or two clocks read one after the other, µs. It adds up until it is this much.
const STEP_US: u64 = 1_000_000;

/// By how much the wall clock is ahead of the boot-time clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct WallClock {
    ahead_us: i64,
}

fn ahead(wall_us: TimeUs, boottime_us: u64) -> i64 {
    (wall_us as i64).wrapping_sub(boottime_us as i64)
}

impl WallClock {
    pub fn new(wall_us: TimeUs, boottime_us: u64) -> Self {
        Self { ahead_us: ahead(wall_us, boottime_us) }
    }

    /// By how much the clock was set since the last time; 0: it was not.
    pub fn step(&mut self, wall_us: TimeUs, boottime_us: u64) -> i64 {
        let ahead_us = ahead(wall_us, boottime_us);
        let step = ahead_us.wrapping_sub(self.ahead_us);
        if step.unsigned_abs() < STEP_US {
            return 0;
        }
        self.ahead_us = ahead_us;
        step
    }
}

impl Agent {
    /// Now by the wall clock, with all ends in its terms.
    pub(super) fn now(&mut self) -> TimeUs {
        let (now, boottime) = (wall_us(), boottime_us());
        self.follow_clock(now, boottime);
        now
    }

    /// The end of an epoch likewise. The clock may have been set since: then ends move back for as long as the epoch is looked at, so that
    /// what is left is right at every moment.
    pub(super) fn at_epoch(&mut self, epoch: &Epoch) -> TimeUs {
        let end_us = epoch.report.end_us;
        // The boot-time clock goes on in suspend, the kernel's monotonic one does not.
        let suspended = boottime_us().saturating_sub(monotonic_ns() / 1000);
        let now = end_us.saturating_add_signed(epoch.wall_offset_us);
        self.follow_clock(now, end_us.saturating_add(suspended));
        now
    }

    fn follow_clock(&mut self, now: TimeUs, boottime_us: u64) {
        let step = self.wall.step(now, boottime_us);
        if step == 0 {
            return;
        }
        self.decisions.clock_stepped(step);
        self.review.questions.clock_stepped(step);
        self.pipeline.suppressions.clock_stepped(step);
        self.pipeline.policy.clock_stepped(step);
        (self.unsaved, self.unwritten) = (true, true);
        let way = if step > 0 { "forward" } else { "back" };
        // Two clocks are read one after the other: whole seconds are what can be told.
        let by = human::rough(human::micros((step.unsigned_abs() + 500_000) / 1_000_000 * 1_000_000));
        let level = if self.decisions.is_empty() { Level::Info } else { Level::Warning };
        self.news(now, level, "clock", format!("the wall clock was set {way} by {by}; lifetimes go on as they were"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_seen_once_and_slewing_adds_up() {
        const DAY: u64 = 86_400_000_000;
        let (wall, boot) = (1_800_000_000_000_000, 5_000_000);
        let mut clock = WallClock::new(wall, boot);
        assert_eq!(clock.step(wall + 7_000_000, boot + 7_000_400), 0, "both went on");
        assert_eq!(clock.step(wall + DAY + 8_000_000, boot + 8_000_000), DAY as i64);
        assert_eq!(clock.step(wall + DAY + 9_000_000, boot + 9_000_000), 0);
        assert_eq!(clock.step(wall + 10_000_000, boot + 10_000_000), -(DAY as i64));
        for n in 1..10 {
            assert_eq!(clock.step(wall + 10_000_000 + n * 1_100_000, boot + 10_000_000 + n * 1_000_000), 0);
        }
        assert_eq!(clock.step(wall + 21_000_000, boot + 20_000_000), 1_000_000);
    }
}
