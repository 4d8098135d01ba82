//! From raw scores to p-values: split conformal prediction (Vovk, Gammerman, Shafer 2005), per role.
//!
//! The p-value of a score is `(1 + benign scores at least as strange) / (n + 1)`, which is below `a` for at most a share `a` of
//! benign observations, whatever the detector. The two detectors are correlated, so their p-values are not combined by a formula
//! that assumes otherwise: the smaller one, each weighed by how much its detector's word counts (Genovese, Roeder, Wasserman:
//! "False discovery control with p-value weighting", 2006), is a statistic like any other and is calibrated again, on rows that
//! neither the models nor the first calibration saw. So the weights, whatever they are, change no false-alarm rate.

use std::collections::BTreeMap;

use weir_core::role::Role;

use crate::bundle::RoleCalibration;
use crate::rng::Rng;

/// Roles with fewer calibration rows, in either part, use their parent.
pub const ROLE_MIN_ROWS: usize = 1_000;
/// With fewer calibration rows in all, in either part, no p-value may lead to an action.
pub const ACTIONABLE_MIN_ROWS: usize = 200;
/// Most scores kept per role and part; a random sample of more is as valid and leaves p-values down to 1/20,001.
pub const MAX_ROLE_ROWS: usize = 20_000;
/// Benign scores this much below a score (relative) count as equal to it: the batch size may change the last bits of a score,
/// and benign traffic repeats itself exactly.
pub const TIE_TOLERANCE: f32 = 1e-5;

/// Largest benign scores that the tail of a table is fitted to: this share of them, and at least [`TAIL_MIN`].
const TAIL_SHARE: usize = 20;
const TAIL_MIN: usize = FEW;
/// Smallest tail index. Benign scores of little spread must not make a slightly larger one look impossible.
const TAIL_MIN_INDEX: f64 = 0.25;
/// Benign scores as strange as an observation, fewer than which are too few to count by: the count's own error is then over
/// 30%, and one odd row of a short baseline would hide every attack that is less odd. The fitted tail is used instead.
const FEW: usize = 10;
/// No p-value is extrapolated below this: it would say more about the fit than about the observation.
const TAIL_FLOOR: f64 = 1e-6;
/// Powers that are believed of the fused statistic's tail. A larger one would make small statistics still less probable than the
/// tail of the detector's own scores does, which was fitted to other rows.
const POWERS: (f64, f64) = (0.25, 1.25);
/// By how much, at most, the larger p-value raises the statistic.
const TIE_BREAK: f64 = 0.1;

/// How much the word of each detector counts; together 1.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    pub autoencoder: f64,
    pub isolation_forest: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { autoencoder: 0.9, isolation_forest: 0.1 }
    }
}

/// Raw scores of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Raw {
    pub(crate) autoencoder: f32,
    pub(crate) isolation_forest: f32,
}

/// Calibrated values of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Calibrated {
    pub(crate) p: f32,
    pub(crate) autoencoder: f32,
    pub(crate) isolation_forest: f32,
    /// `p` lies below what the calibration rows can show: it follows the fitted tail.
    pub(crate) extrapolated: bool,
}

/// The tables of one role.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    autoencoder: Vec<f32>,
    isolation_forest: Vec<f32>,
    fused: Vec<f32>,
    weights: Weights,
    /// Of the autoencoder's scores, and of the fused statistics.
    tail: Option<Tail>,
    fused_tail: Option<FusedTail>,
}

/// A Pareto tail of the autoencoder's benign scores (Hill 1975). Its errors are unbounded, and among the largest benign ones the
/// count of larger ones says little about how much larger this one is. The forest's scores are bounded: they have none.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tail {
    /// Fewer than [`FEW`] benign scores are larger.
    start: f64,
    /// The p-value there, from where the tail falls.
    p: f64,
    /// Hill's estimate, raised by its standard error: the heavier tail is the more cautious one.
    index: f64,
}

/// How many of the outermost of `n` values a tail is fitted to; `None` if `n` are too few to have one.
fn tail_rows(n: usize) -> Option<usize> {
    let k = (n / TAIL_SHARE).max(TAIL_MIN);
    (n >= ACTIONABLE_MIN_ROWS && n > k).then_some(k)
}

impl Tail {
    fn fit(sorted: &[f32]) -> Option<Self> {
        let n = sorted.len();
        let k = tail_rows(n)?;
        let (base, top) = (f64::from(sorted[n - k - 1]), &sorted[n - k..]);
        if base <= 0.0 {
            return None;
        }
        let hill = top.iter().map(|s| (f64::from(*s) / base).ln()).sum::<f64>() / k as f64;
        Some(Self {
            start: f64::from(top[k - FEW]),
            p: (FEW + 1) as f64 / (n + 1) as f64,
            index: (hill * (1.0 + 1.0 / (k as f64).sqrt())).max(TAIL_MIN_INDEX),
        })
    }

    /// P-value of a score beyond all but a few benign ones.
    fn p_value(&self, score: f32) -> Option<f64> {
        let score = f64::from(score);
        (score > self.start).then(|| (self.p * (score / self.start).powf(-1.0 / self.index)).max(TAIL_FLOOR))
    }
}

/// The lower tail of the fused statistics: a power of the statistic, which is about a p-value already, so that the power is
/// about 1.
#[derive(Clone, Copy, Debug, PartialEq)]
struct FusedTail {
    /// Below this the tail holds.
    start: f64,
    /// The p-value there.
    p: f64,
    power: f64,
}

impl FusedTail {
    fn fit(sorted: &[f32]) -> Option<Self> {
        let n = sorted.len();
        let k = tail_rows(n)?;
        let start = f64::from(sorted[k]);
        if start <= 0.0 {
            return None;
        }
        let least = f64::from(f32::MIN_POSITIVE);
        let fall = sorted[..k].iter().map(|t| (start / f64::from(*t).max(least)).ln()).sum::<f64>() / k as f64;
        Some(Self { start, p: (k + 1) as f64 / (n + 1) as f64, power: (1.0 / fall).clamp(POWERS.0, POWERS.1) })
    }

    fn p_value(&self, t: f64) -> Option<f64> {
        (t < self.start).then(|| (self.p * (t / self.start).powf(self.power)).max(TAIL_FLOOR))
    }
}

/// Share of `sorted` that is at least `score`, never 0.
fn p_value(sorted: &[f32], score: f32) -> f64 {
    let tied = score - score.abs() * TIE_TOLERANCE;
    let as_strange = sorted.len() - sorted.partition_point(|c| *c < tied);
    (1 + as_strange) as f64 / (sorted.len() + 1) as f64
}

impl Table {
    /// From sorted scores; `fused` may be empty as long as it is not known.
    fn new(autoencoder: Vec<f32>, isolation_forest: Vec<f32>, weights: Weights) -> Self {
        let tail = Tail::fit(&autoencoder);
        Self { autoencoder, isolation_forest, fused: Vec::new(), weights, tail, fused_tail: None }
    }

    fn with_fused(mut self, fused: Vec<f32>) -> Self {
        self.fused_tail = FusedTail::fit(&fused);
        self.fused = fused;
        self
    }

    fn detectors(&self, raw: Raw) -> (f64, f64) {
        (p_value(&self.autoencoder, raw.autoencoder), p_value(&self.isolation_forest, raw.isolation_forest))
    }

    /// The smaller p-value, weighed. Ties, common at the smallest possible p-value of the forest, are broken by the larger one.
    fn statistic(&self, raw: Raw) -> f32 {
        let (counted, f) = self.detectors(raw);
        let a = self.tail.as_ref().and_then(|t| t.p_value(raw.autoencoder)).unwrap_or(counted);
        let smaller = (a / self.weights.autoencoder).min(f / self.weights.isolation_forest);
        (smaller * (1.0 + TIE_BREAK * a.max(f))) as f32
    }

    pub(crate) fn calibrated(&self, raw: Raw) -> Calibrated {
        let (a, b) = self.detectors(raw);
        let t = self.statistic(raw);
        let tail = self.fused_tail.as_ref().and_then(|tail| tail.p_value(f64::from(t)));
        let shown = || {
            // A score's last bits may move its place in the tail.
            let as_strange = self.fused.partition_point(|c| *c <= t * (1.0 + 10.0 * TIE_TOLERANCE));
            (1 + as_strange) as f64 / (self.fused.len() + 1) as f64
        };
        Calibrated {
            p: tail.unwrap_or_else(shown) as f32,
            autoencoder: a as f32,
            isolation_forest: b as f32,
            extrapolated: tail.is_some(),
        }
    }

    /// Rows of the smaller part.
    pub(crate) fn rows(&self) -> usize {
        self.autoencoder.len().min(self.fused.len())
    }
}

/// The calibration of one profile.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Calibration {
    tables: BTreeMap<Role, Table>,
}

impl Calibration {
    /// From a manifest that was checked: sorted, finite, with a table for [`Role::All`].
    pub(crate) fn from_manifest(entries: &[RoleCalibration], weights: Weights) -> Self {
        let table = |e: &RoleCalibration| {
            Table::new(e.autoencoder.clone(), e.isolation_forest.clone(), weights).with_fused(e.fused.clone())
        };
        Self { tables: entries.iter().map(|e| (e.role, table(e))).collect() }
    }

    /// The narrowest table for `role`. `None` if there is none at all.
    pub(crate) fn resolve(&self, role: Role) -> Option<(Role, &Table)> {
        role.ancestry().find_map(|r| Some((r, self.tables.get(&r)?)))
    }
}

/// Builds the tables of every role that has enough rows, and of [`Role::All`] in any case. `one` and `two` are the benign rows of
/// the two calibration parts.
pub(crate) fn calibrate(
    one: &[(Role, Raw)],
    two: &[(Role, Raw)],
    weights: Weights,
    rng: &mut Rng,
) -> Vec<RoleCalibration> {
    let mut pools: BTreeMap<Role, (Vec<Raw>, Vec<Raw>)> = BTreeMap::new();
    pools.entry(Role::All).or_default();
    for (role, raw) in one {
        for r in role.ancestry() {
            pools.entry(r).or_default().0.push(*raw);
        }
    }
    for (role, raw) in two {
        for r in role.ancestry() {
            pools.entry(r).or_default().1.push(*raw);
        }
    }
    pools.retain(|role, (one, two)| *role == Role::All || one.len().min(two.len()) >= ROLE_MIN_ROWS);
    let sorted = |mut v: Vec<f32>| {
        v.sort_by(f32::total_cmp);
        v
    };
    pools
        .into_iter()
        .map(|(role, (one, two))| {
            let mut thin = |rows: Vec<Raw>| -> Vec<Raw> {
                rng.sample(rows.len(), MAX_ROLE_ROWS).into_iter().map(|i| rows[i]).collect()
            };
            let (one, two) = (thin(one), thin(two));
            let table = Table::new(
                sorted(one.iter().map(|r| r.autoencoder).collect()),
                sorted(one.iter().map(|r| r.isolation_forest).collect()),
                weights,
            );
            let fused = sorted(two.iter().map(|r| table.statistic(*r)).collect());
            let Table { autoencoder, isolation_forest, .. } = table;
            RoleCalibration { role, autoencoder, isolation_forest, fused }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores whose tail is Pareto with index 0.5: `P(S > s) = s^-2`.
    fn pareto(n: usize) -> Vec<f32> {
        let mut v: Vec<f32> = (0..n).map(|i| ((i as f32 + 0.5) / n as f32).powf(-0.5)).collect();
        v.sort_by(f32::total_cmp);
        v
    }

    #[test]
    fn a_fitted_tail_is_cautious_and_falls_with_the_score() {
        let scores = pareto(1000);
        let tail = Tail::fit(&scores).unwrap();
        let mut before = 1.0;
        for s in [60.0f32, 100.0, 300.0, 3000.0] {
            let p = tail.p_value(s).unwrap();
            let truth = f64::from(s).powi(-2);
            assert!(p >= truth.max(TAIL_FLOOR), "{s}: {p} is bolder than the truth, {truth}");
            assert!(p < before && p < 0.01, "{s}: {p}");
            before = p;
        }
        assert_eq!(tail.p_value(scores[scores.len() - FEW]), None, "enough to count by");
        assert_eq!(tail.p_value(f32::MAX), Some(TAIL_FLOOR));
    }

    #[test]
    fn one_odd_row_of_a_short_baseline_does_not_hide_what_is_less_odd() {
        // A tail of index 0.25, as benign errors of an autoencoder have: `P(S > s) = s^-4`.
        let mut scores: Vec<f32> = pareto(300).into_iter().map(f32::sqrt).collect();
        let strange = 2.0 * scores.last().unwrap();
        scores.push(2.0 * strange);
        let (counted, tail) = (p_value(&scores, strange), Tail::fit(&scores).unwrap().p_value(strange).unwrap());
        assert!(tail < 0.75 * counted, "{tail} against {counted}");
        assert!(tail > f64::from(strange).powi(-4), "{tail} is bolder than the truth");
    }

    #[test]
    fn few_or_constant_scores_have_no_bold_tail() {
        assert_eq!(Tail::fit(&pareto(ACTIONABLE_MIN_ROWS - 1)), None);
        assert_eq!(Tail::fit(&[0.0; 500]), None);
        // No spread at all: a score twice as large is not called impossible.
        let p = Tail::fit(&[1.0; 500]).unwrap().p_value(2.0).unwrap();
        assert!(p > 1e-3, "{p}");
    }
}
