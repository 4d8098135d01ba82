//! Exporters' clocks, held against ours: what comes over a socket was exported just now, whatever its header says.

use std::collections::BTreeMap;

use super::record::ExportedFlow;

/// A header may differ so much from the time of arrival before its clock is taken to be wrong, µs.
const TOLERATED_US: u64 = 300_000_000;
/// A flow may reach so far back from its export, µs. What is further away, or in the future, is no time.
const REACH_US: u64 = 31 * 86_400_000_000;

/// What was not taken as it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// Records of exporters whose clocks are wrong by more than 5 minutes: moved by the difference.
    pub moved: u64,
    /// Records whose times lie in the future, or more than 31 days before their export: their times are given up.
    pub absurd: u64,
}

/// How far off exporters' clocks are.
#[derive(Debug, Default)]
pub(super) struct Settler {
    pub counts: Clocks,
    /// Of each exporter whose clock is wrong, µs. Kept as it was first seen, so that what it tells in several datagrams stays
    /// together.
    offsets: BTreeMap<u32, i64>,
}

/// Datagrams may be so much sooner or later than others, and headers so much rounded, without any step of the clock, µs.
const JITTER_US: u64 = 10_000_000;
/// Exporters whose offset is kept; of more, those that came last.
const MAX_OFFSETS: usize = 4096;

impl Settler {
    /// Makes the times of a record that came at `now_us` (wall clock) times that can be: none is later than
    /// `now_us` + 5 minutes, none more than 31 days before it. What a record's times say of each other stays.
    pub(super) fn settle(&mut self, flow: &mut ExportedFlow, now_us: u64) {
        let signed = |us: u64| i64::try_from(us).unwrap_or(i64::MAX);
        let off = signed(now_us).saturating_sub(signed(flow.exported_us));
        if off.unsigned_abs() > TOLERATED_US {
            let off = self.offset(flow.exporter, off);
            flow.start_us = flow.start_us.map(|us| us.saturating_add_signed(off));
            flow.end_us = flow.end_us.map(|us| us.saturating_add_signed(off));
            flow.exported_us = now_us;
            self.counts.moved += 1;
        }
        let possible = |us: u64| us <= now_us.saturating_add(TOLERATED_US) && us >= now_us.saturating_sub(REACH_US);
        let times = [flow.start_us, flow.end_us];
        if times.iter().flatten().any(|us| !possible(*us)) {
            (flow.start_us, flow.end_us) = (None, None);
            self.counts.absurd += 1;
        }
        flow.duration_us = flow.duration_us.filter(|us| *us <= REACH_US);
    }

    /// The offset that is kept, unless the clock has stepped since.
    fn offset(&mut self, exporter: u32, seen: i64) -> i64 {
        if let Some(kept) = self.offsets.get(&exporter)
            && kept.abs_diff(seen) <= JITTER_US
        {
            return *kept;
        }
        if self.offsets.len() >= MAX_OFFSETS {
            self.offsets.pop_first();
        }
        self.offsets.insert(exporter, seen);
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netflow::{Opener, Way};

    const NOW: u64 = 1_800_000_000_000_000;
    const S: u64 = 1_000_000;

    fn flow(exported_us: u64, start_us: u64, end_us: u64) -> ExportedFlow {
        ExportedFlow {
            exporter: 1,
            seen_at: None,
            source: None,
            destination: None,
            source_port: None,
            destination_port: None,
            proto: None,
            vlan_outer: 0,
            vlan_inner: 0,
            start_us: Some(start_us),
            end_us: Some(end_us),
            duration_us: end_us.checked_sub(start_us),
            there: Way::default(),
            back: None,
            opener: Opener::Unknown,
            sampling: 1,
            exported_us,
        }
    }

    #[test]
    fn a_clock_that_is_a_little_off_is_believed() {
        let mut clocks = Settler::default();
        let told = flow(NOW - 200 * S, NOW - 3600 * S, NOW - 260 * S);
        let mut settled = told.clone();
        clocks.settle(&mut settled, NOW);
        assert_eq!((settled, clocks.counts), (told, Clocks::default()));
    }

    #[test]
    fn an_exporter_without_a_clock_keeps_what_its_times_say_of_each_other() {
        for exported_us in [0, 40 * S, NOW + 3_000_000_000 * S] {
            let mut clocks = Settler::default();
            let mut f = flow(exported_us, exported_us.saturating_sub(30 * S), exported_us.saturating_sub(10 * S));
            let lasted = f.end_us.unwrap() - f.start_us.unwrap();
            clocks.settle(&mut f, NOW);
            assert_eq!((f.exported_us, clocks.counts), (NOW, Clocks { moved: 1, absurd: 0 }));
            assert_eq!(f.end_us.unwrap() - f.start_us.unwrap(), lasted);
            assert!(f.end_us.unwrap() <= NOW && f.start_us.unwrap() >= NOW - 30 * S);
            // The same flow, told again in a datagram that took a little longer.
            let mut again = flow(exported_us, exported_us.saturating_sub(30 * S), exported_us.saturating_sub(10 * S));
            clocks.settle(&mut again, NOW + 3 * S);
            assert_eq!((again.start_us, again.end_us), (f.start_us, f.end_us));
            // A clock that steps is taken anew.
            let mut stepped = flow(exported_us, exported_us, exported_us);
            clocks.settle(&mut stepped, NOW + 3600 * S);
            assert_eq!(stepped.end_us, Some(NOW + 3600 * S));
        }
    }

    #[test]
    fn times_that_cannot_be_are_given_up() {
        for (start_us, end_us) in [(NOW, u64::MAX), (0, NOW), (NOW + 400 * S, NOW + 500 * S), (u64::MAX, 0)] {
            let mut clocks = Settler::default();
            let mut f = flow(NOW, start_us, end_us);
            clocks.settle(&mut f, NOW);
            assert_eq!((f.start_us, f.end_us, clocks.counts.absurd), (None, None, 1), "{start_us} {end_us}");
            assert!(f.duration_us.is_none_or(|us| us <= REACH_US));
        }
    }
}
