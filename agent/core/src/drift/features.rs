//! On which side of the usual the features of the voters' rows lie.

use super::{FeatureDrift, MIN_VOTERS, SIGNIFICANT, UsualRange};
use crate::profile::{Feature, ProfileId};

/// A feature has moved from this effect on.
const MOVED_EFFECT: f64 = 0.35;

/// Where a row lies, a bit for each feature.
#[derive(Clone, Copy, Default)]
pub(super) struct Sides {
    present: u64,
    low: u64,
    below: u64,
    above: u64,
    high: u64,
}

pub(super) fn sides(usual: &[UsualRange], row: &[f32], present: u64) -> Sides {
    let mut s = Sides { present, ..Sides::default() };
    for (j, (v, u)) in row.iter().zip(usual).enumerate().filter(|(j, _)| present >> j & 1 == 1) {
        let bit = 1u64 << j;
        for (mask, set) in [
            (&mut s.low, *v < u.low),
            (&mut s.below, *v < u.median),
            (&mut s.above, *v > u.median),
            (&mut s.high, *v > u.high),
        ] {
            *mask |= if set { bit } else { 0 };
        }
    }
    s
}

pub(super) fn moved(profile: ProfileId, votes: &[(Sides, f64)]) -> Vec<FeatureDrift> {
    let feature = |(j, f): (usize, &Feature)| {
        let has = |mask: u64| mask >> j & 1 == 1;
        let there: Vec<&(Sides, f64)> = votes.iter().filter(|(s, _)| has(s.present)).collect();
        let sum: f64 = there.iter().map(|(_, w)| w).sum();
        let squares: f64 = there.iter().map(|(_, w)| w * w).sum();
        let share = |side: fn(&Sides) -> u64| {
            let of: f64 = there.iter().filter(|(s, _)| has(side(s))).map(|(_, w)| w).sum();
            if sum > 0.0 { of / sum } else { 0.0 }
        };
        let (low, high) = (share(|s| s.low), share(|s| s.high));
        let (below, above) = (share(|s| s.below), share(|s| s.above));
        let effect = [below - 0.5, above - 0.5, low + high - 0.02].into_iter().fold(0.0, f64::max);
        let sources = if squares > 0.0 { sum * sum / squares } else { 0.0 };
        let enough = there.len() >= MIN_VOTERS && 2.0 * sources * effect * effect >= SIGNIFICANT;
        FeatureDrift {
            profile: profile.name(),
            feature: f.name,
            words: f.words,
            moved: enough && effect >= MOVED_EFFECT,
            voters: there.len() as u64,
            below_usual: low,
            above_usual: high,
            below_median: below,
            above_median: above,
            effect,
        }
    };
    let mut all: Vec<FeatureDrift> = profile.features().iter().enumerate().map(feature).collect();
    all.sort_by(|a, b| b.effect.total_cmp(&a.effect).then(a.feature.cmp(b.feature)));
    all
}
