//! Deadlines of flows: work per epoch in proportion to what is due, not to what exists.

use std::collections::BTreeMap;

/// Width of one bucket, µs. Deadlines are exact: a bucket only says when to look.
pub(super) const TICK_US: u64 = 250_000;

/// A queue of (slot, generation) by the time they must be looked at. The owner keeps, per slot, the tick it is queued
/// under ([`Timers::queue`] returns it) and ignores entries that no longer match: a deadline that moves later costs
/// nothing until it comes up, one that moves earlier leaves one stale entry behind.
#[derive(Debug, Default)]
pub(super) struct Timers {
    buckets: BTreeMap<u64, Vec<(u32, u32)>>,
}

impl Timers {
    pub(super) fn tick_of(deadline_us: u64) -> u64 {
        deadline_us / TICK_US
    }

    pub(super) fn queue(&mut self, deadline_us: u64, slot: u32, generation: u32) -> u64 {
        let tick = Self::tick_of(deadline_us);
        self.buckets.entry(tick).or_default().push((slot, generation));
        tick
    }

    /// The earliest bucket, if it is due at `now_us`.
    pub(super) fn pop_due(&mut self, now_us: u64) -> Option<(u64, Vec<(u32, u32)>)> {
        let (&tick, _) = self.buckets.first_key_value()?;
        if tick > Self::tick_of(now_us) {
            return None;
        }
        self.buckets.pop_first()
    }

    /// The entry that comes up first, whenever that is. For making room.
    pub(super) fn pop_first(&mut self) -> Option<(u64, u32, u32)> {
        loop {
            let mut first = self.buckets.first_entry()?;
            let tick = *first.key();
            let bucket = first.get_mut();
            if bucket.is_empty() {
                first.remove();
                continue;
            }
            let (slot, generation) = bucket.swap_remove(0);
            return Some((tick, slot, generation));
        }
    }
}
