//! Which sources carry a good part of what is normal here: a proxy, a NAT, a crawler one wants.

use std::collections::{HashMap, VecDeque};

use crate::addr::{Addr, Prefix};
use crate::record::TimeUs;

/// How long a proven flow waits before it counts as benign, µs: 5 minutes. It counts only if its source has no
/// evidence against it by then, so that an attack cannot make itself indispensable.
pub const DELAY_US: u64 = 300_000_000;
/// Half-life of what counts as recent, µs: 1 hour.
pub const RECENT_HALF_LIFE_US: u64 = 3_600_000_000;
/// Flows a source must have among the recent benign ones before a share means anything.
pub const MIN_FLOWS: f64 = 50.0;
/// Sources that are counted apart; more than 20 of them cannot have over 5%.
pub const MAX_SOURCES: usize = 4096;
/// Span that waiting flows are gathered over, µs.
const SPAN_US: u64 = 10_000_000;

#[derive(Debug, Default)]
struct Waiting {
    span: u64,
    sources: HashMap<Addr, u64>,
    /// Flows of sources beyond the cap: they count in the total alone.
    others: u64,
}

/// Recent benign proven flows per source. At most [`MAX_SOURCES`] sources per 10 s of waiting flows, and as many that
/// are counted.
#[derive(Debug, Default)]
pub struct Busy {
    waiting: VecDeque<Waiting>,
    counted: HashMap<Addr, f64>,
    total: f64,
    at_us: TimeUs,
}

impl Busy {
    pub fn new() -> Self {
        Self::default()
    }

    /// A proven flow of `source` gave its last record at `now`.
    pub fn add(&mut self, now: TimeUs, source: Addr) {
        let span = now / SPAN_US;
        if self.waiting.back().is_none_or(|w| w.span < span) {
            self.waiting.push_back(Waiting { span, ..Waiting::default() });
        }
        let Some(w) = self.waiting.back_mut() else { return };
        if w.sources.len() >= MAX_SOURCES && !w.sources.contains_key(&source) {
            w.others += 1;
        } else {
            *w.sources.entry(source).or_default() += 1;
        }
    }

    /// Counts the flows that have waited long enough, but those of sources that `suspicious` says have evidence against
    /// them. (Ask for the proven sum: forged traffic must not make an honest source lose its standing.)
    pub fn advance(&mut self, now: TimeUs, mut suspicious: impl FnMut(Addr) -> bool) {
        let age = now.saturating_sub(self.at_us);
        if age >= SPAN_US {
            let keep = (-(age as f64) / RECENT_HALF_LIFE_US as f64).exp2();
            self.total *= keep;
            self.counted.values_mut().for_each(|n| *n *= keep);
            self.counted.retain(|_, n| *n >= 0.5);
            self.at_us = now;
        }
        while self.waiting.front().is_some_and(|w| (w.span + 1) * SPAN_US + DELAY_US <= now) {
            let Some(w) = self.waiting.pop_front() else { break };
            self.total += w.others as f64;
            for (source, n) in w.sources {
                if !suspicious(source) {
                    self.total += n as f64;
                    *self.counted.entry(source).or_default() += n as f64;
                }
            }
        }
        if self.counted.len() > MAX_SOURCES {
            let mut counts: Vec<f64> = self.counted.values().copied().collect();
            counts.sort_unstable_by(f64::total_cmp);
            // Half of them at once, so that the sort is paid rarely; ties go together.
            let least = counts[counts.len() / 2];
            self.counted.retain(|_, n| *n > least);
        }
    }

    /// No flow waits to be counted.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Share of `source` in the recent benign proven flows, 0 to 1; 0 for one with fewer than [`MIN_FLOWS`] of them.
    pub fn share(&self, source: Addr) -> f64 {
        match self.counted.get(&source) {
            Some(&n) if n >= MIN_FLOWS && self.total > 0.0 => (n / self.total).min(1.0),
            _ => 0.0,
        }
    }

    /// Share of all sources in a network, 0 to 1: of those with fewer than [`MIN_FLOWS`] flows together, 0.
    pub fn share_within(&self, net: Prefix) -> f64 {
        let n: f64 = self.counted.iter().filter(|(a, _)| net.contains(**a)).map(|(_, n)| n).sum();
        if n >= MIN_FLOWS && self.total > 0.0 { (n / self.total).min(1.0) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    fn a(i: u8) -> Addr {
        format!("192.0.2.{i}").parse().unwrap()
    }

    #[test]
    fn a_source_becomes_busy_only_after_the_delay() {
        let mut busy = Busy::new();
        for s in 0..100 {
            busy.add(s * S, a(1));
            busy.add(s * S, a(2));
        }
        busy.advance(100 * S, |_| false);
        assert_eq!(busy.share(a(1)), 0.0);
        busy.advance(500 * S, |_| false);
        assert!((busy.share(a(1)) - 0.5).abs() < 1e-9);
        assert_eq!(busy.share(a(3)), 0.0);
    }

    #[test]
    fn a_flood_cannot_make_itself_busy() {
        let mut busy = Busy::new();
        for s in 0..100 {
            busy.add(s * S, a(1));
            (0..100).for_each(|_| busy.add(s * S, a(66)));
        }
        busy.advance(500 * S, |s| s == a(66));
        assert_eq!(busy.share(a(66)), 0.0);
        assert_eq!(busy.share(a(1)), 1.0);
    }

    #[test]
    fn a_few_flows_on_a_quiet_network_are_no_standing() {
        let mut busy = Busy::new();
        (0..20).for_each(|s| busy.add(s * S, a(66)));
        busy.advance(500 * S, |_| false);
        assert_eq!(busy.share(a(66)), 0.0);
    }

    #[test]
    fn memory_stays_bounded() {
        let mut busy = Busy::new();
        for i in 0..50_000u32 {
            busy.add(0, Addr(u128::from(i).to_be_bytes()));
        }
        busy.advance(1000 * S, |_| false);
        assert!(busy.counted.len() <= MAX_SOURCES);
        assert_eq!(busy.total, 50_000.0);
    }
}
