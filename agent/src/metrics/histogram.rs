//! Counts of values by size.

use std::collections::BTreeMap;

use weir_core::profile::ProfileId;
use weir_core::role::Role;

/// Seconds that something of an epoch takes.
pub const SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// P-values, at rates that people ask for.
pub const P_VALUES: &[f64] = &[0.001, 0.01, 0.05, 0.25, 0.5];

/// How many values were at most as large as each of some bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    pub bounds: &'static [f64],
    /// Values up to each bound and above the one before; the last are those above all.
    counts: Vec<u64>,
    pub sum: f64,
}

impl Histogram {
    /// `bounds` ascend.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Of lengths of time.
    pub fn seconds() -> Self {
        Self::new(SECONDS)
    }

    pub fn add(&mut self, value: f64) {
        self.counts[self.bounds.partition_point(|b| *b < value)] += 1;
        self.sum += value;
    }

    /// Values up to each bound, and all.
    pub fn cumulative(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().scan(0, |sum, n| {
            *sum += n;
            Some(*sum)
        })
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// P-values as they came, by the calibration that gave them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PValues(BTreeMap<(ProfileId, Role), Histogram>);

impl PValues {
    pub fn add(&mut self, profile: ProfileId, role: Role, p: f32) {
        self.0.entry((profile, role)).or_insert_with(|| Histogram::new(P_VALUES)).add(f64::from(p));
    }

    pub fn iter(&self) -> impl Iterator<Item = (ProfileId, Role, &Histogram)> {
        self.0.iter().map(|((profile, role), h)| (*profile, *role, h))
    }

    /// Rows of a profile that were scored.
    pub fn rows(&self, profile: ProfileId) -> u64 {
        self.iter().filter(|(p, ..)| *p == profile).map(|(.., h)| h.count()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_at_every_bound_that_it_does_not_exceed() {
        let mut h = Histogram::new(&[1.0, 2.0]);
        [0.5, 1.0, 1.5, 2.0, 9.0].into_iter().for_each(|v| h.add(v));
        assert_eq!(h.cumulative().collect::<Vec<_>>(), [2, 4, 5]);
        assert_eq!((h.count(), h.sum), (5, 14.0));
    }
}
