//! What a bundle's scores come to: false alarms on benign rows and detection per label, at thresholds that were frozen when
//! the bundle was calibrated. Nothing is chosen by the labels.

use std::collections::BTreeMap;

use serde::Serialize;
use weir_models::Scored;
use weir_models::metrics::{Curve, wilson};

/// False-alarm rates that are asked for: a row is an alarm where its p-value is at most this.
pub const RATES: [f64; 3] = [1e-2, 1e-3, 1e-4];
/// By what a row is judged.
pub const DETECTORS: [&str; 3] = ["fused", "autoencoder", "isolation_forest"];

/// Scores of the rows of one kind, per detector.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// How strange: the detectors' own scores; of the fused p-value, its negative.
    strangeness: [Vec<f32>; 3],
    p: [Vec<f32>; 3],
}

impl Scores {
    pub fn push(&mut self, s: &Scored) {
        let strangeness = [-s.p, s.raw_autoencoder, s.raw_isolation_forest];
        let p = [s.p, s.p_autoencoder, s.p_isolation_forest];
        for k in 0..DETECTORS.len() {
            self.strangeness[k].push(strangeness[k]);
            self.p[k].push(p[k]);
        }
    }

    pub fn len(&self) -> usize {
        self.p[0].len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How strange a detector finds each row; higher is stranger.
    pub fn strangeness(&self, detector: usize) -> &[f32] {
        &self.strangeness[detector]
    }

    /// The detector's p-value of each row.
    pub fn p(&self, detector: usize) -> &[f32] {
        &self.p[detector]
    }

    fn alarms(&self, detector: usize, rate: f64) -> usize {
        // As `weir replay` compares.
        self.p[detector].iter().filter(|p| **p <= rate as f32).count()
    }

    fn extend(&mut self, other: &Scores) {
        for k in 0..DETECTORS.len() {
            self.strangeness[k].extend(&other.strangeness[k]);
            self.p[k].extend(&other.p[k]);
        }
    }
}

/// Benign rows, and attacks by label.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    pub benign: Scores,
    pub attacks: BTreeMap<String, Scores>,
    /// How many benign rows of the input each one of `benign` stands for.
    pub benign_weight: f64,
    /// The smallest false-alarm rate that each role's benign rows can show; the largest of these.
    pub certified: f64,
}

impl Judged {
    /// All attacks as one.
    pub fn pooled(&self) -> Scores {
        let mut pooled = Scores::default();
        self.attacks.values().for_each(|s| pooled.extend(s));
        pooled
    }
}

/// False alarms at one rate. Means over the runs where there are several.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FalseAlarms {
    pub asked: f64,
    pub realised: f64,
    /// 95% interval of one run's rows.
    pub low: f64,
    pub high: f64,
    pub alarms: f64,
    pub benign: f64,
    /// Whether the calibration rows can show this rate; a smaller one follows a fitted tail.
    pub certified: bool,
}

/// How well the rows of a label are told from benign ones. Means over the runs where there are several.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Detection {
    pub label: String,
    pub flows: usize,
    pub roc_auc: f64,
    /// Average precision, benign rows counting as often as in the input.
    pub pr_auc: f64,
    /// Share of the rows with a p-value of at most each of [`RATES`].
    pub tpr: [f64; 3],
    /// Standard deviation of `roc_auc` and `tpr[0]` over the runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<[f64; 2]>,
}

/// One detector's part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    pub detector: &'static str,
    pub false_alarms: Vec<FalseAlarms>,
    /// Of each label, in order; then `(pooled)`, all attacks as one, and `(macro)`, the mean over the labels.
    pub detection: Vec<Detection>,
}

/// Measures every detector.
pub fn measure(judged: &Judged) -> Vec<Measured> {
    (0..DETECTORS.len()).map(|k| measure_one(judged, k)).collect()
}

fn measure_one(judged: &Judged, k: usize) -> Measured {
    let benign = judged.benign.len() as f64;
    let false_alarms = RATES.map(|rate| {
        let alarms = judged.benign.alarms(k, rate) as f64;
        let (low, high) = wilson(alarms, benign);
        let realised = if benign > 0.0 { alarms / benign } else { 0.0 };
        let certified = judged.certified <= rate;
        FalseAlarms { asked: rate, realised, low, high, alarms, benign, certified }
    });
    let detect = |label: &str, attacks: &Scores| {
        let curve = Curve::new(&judged.benign.strangeness[k], &attacks.strangeness[k], judged.benign_weight);
        let share = |rate| attacks.alarms(k, rate) as f64 / attacks.len() as f64;
        Detection {
            label: label.to_owned(),
            flows: attacks.len(),
            roc_auc: curve.as_ref().map_or(0.0, Curve::roc_auc),
            pr_auc: curve.as_ref().map_or(0.0, Curve::average_precision),
            tpr: RATES.map(share),
            spread: None,
        }
    };
    // Without benign rows there is no curve, and nothing to say.
    let comparable = !judged.benign.is_empty();
    let mut detection: Vec<_> =
        judged.attacks.iter().filter(|_| comparable).map(|(label, scores)| detect(label, scores)).collect();
    if !detection.is_empty() {
        let pooled = judged.pooled();
        let labels = detection.len() as f64;
        let mean = |of: &dyn Fn(&Detection) -> f64| detection.iter().map(of).sum::<f64>() / labels;
        let macro_mean = Detection {
            label: "(macro)".to_owned(),
            flows: pooled.len(),
            roc_auc: mean(&|d| d.roc_auc),
            pr_auc: mean(&|d| d.pr_auc),
            tpr: [0, 1, 2].map(|i| mean(&|d| d.tpr[i])),
            spread: None,
        };
        detection.push(detect("(pooled)", &pooled));
        detection.push(macro_mean);
    }
    Measured { detector: DETECTORS[k], false_alarms: false_alarms.into(), detection }
}

/// The mean of several runs on the same input, which have the same labels.
pub fn mean(runs: &[Vec<Measured>]) -> Vec<Measured> {
    let Some(first) = runs.first() else { return Vec::new() };
    let n = runs.len() as f64;
    let mut out = first.clone();
    for (k, measured) in out.iter_mut().enumerate() {
        for (i, f) in measured.false_alarms.iter_mut().enumerate() {
            let all = || runs.iter().map(|r| &r[k].false_alarms[i]);
            f.alarms = all().map(|f| f.alarms).sum::<f64>() / n;
            f.benign = all().map(|f| f.benign).sum::<f64>() / n;
            f.realised = all().map(|f| f.realised).sum::<f64>() / n;
            // Runs share rows: together they are no larger sample than one of them.
            (f.low, f.high) = wilson(f.alarms, f.benign);
            f.certified = all().all(|f| f.certified);
        }
        for (i, d) in measured.detection.iter_mut().enumerate() {
            let over = |of: &dyn Fn(&Detection) -> f64| runs.iter().map(|r| of(&r[k].detection[i])).sum::<f64>() / n;
            d.roc_auc = over(&|d| d.roc_auc);
            d.pr_auc = over(&|d| d.pr_auc);
            d.tpr = [0, 1, 2].map(|t| over(&|d| d.tpr[t]));
            let (auc, tpr) = (d.roc_auc, d.tpr[0]);
            let spread = |of: &dyn Fn(&Detection) -> f64| (over(of) / (n - 1.0).max(1.0) * n).sqrt();
            d.spread = (runs.len() > 1)
                .then(|| [spread(&|d| (d.roc_auc - auc).powi(2)), spread(&|d| (d.tpr[0] - tpr).powi(2))]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::role::Role;

    fn scored(p: f32, raw: f32) -> Scored {
        Scored {
            p,
            p_autoencoder: p,
            p_isolation_forest: 1.0,
            raw_autoencoder: raw,
            raw_isolation_forest: 0.5,
            role: Role::All,
            actionable: true,
            extrapolated: false,
        }
    }

    fn judged(caught: usize) -> Judged {
        let mut j = Judged { benign_weight: 1.0, certified: 2e-3, ..Judged::default() };
        for i in 0..1_000 {
            let p = (i + 1) as f32 / 1_000.0;
            j.benign.push(&scored(p, 1.0 - p));
        }
        for (label, n) in [("scan", caught), ("flood", 10)] {
            for i in 0..10 {
                let p = if i < n { 5e-4 } else { 0.5 };
                j.attacks.entry(label.to_owned()).or_default().push(&scored(p, 1.0 - p));
            }
        }
        j
    }

    #[test]
    fn rates_are_those_at_the_frozen_thresholds() {
        let all = measure(&judged(4));
        assert_eq!(all.iter().map(|m| m.detector).collect::<Vec<_>>(), DETECTORS);
        let fused = &all[0];
        let f = &fused.false_alarms;
        assert_eq!((f[0].alarms, f[1].alarms, f[2].alarms), (10.0, 1.0, 0.0));
        assert_eq!([f[0].certified, f[1].certified], [true, false]);
        assert!(f[0].low < 0.01 && f[0].high > 0.01 && f[2].high > 0.0);
        let by: Vec<_> = fused.detection.iter().map(|d| (d.label.as_str(), d.flows, d.tpr[0], d.tpr[2])).collect();
        assert_eq!(by[0], ("flood", 10, 1.0, 0.0));
        assert_eq!(by[1], ("scan", 10, 0.4, 0.0));
        assert_eq!(by[2], ("(pooled)", 20, 0.7, 0.0));
        assert_eq!(by[3], ("(macro)", 20, 0.7, 0.0));
        assert!(fused.detection[0].roc_auc > 0.999, "{}", fused.detection[0].roc_auc);
        // A detector that gives all rows the same is worth nothing, whatever the others do.
        assert_eq!((all[2].detection[2].roc_auc, all[2].detection[2].tpr[0]), (0.5, 0.0));
    }

    #[test]
    fn the_mean_of_runs_claims_no_larger_sample() {
        let runs = [measure(&judged(2)), measure(&judged(6))];
        let mean = mean(&runs);
        let scan = &mean[0].detection[1];
        assert_eq!((scan.label.as_str(), scan.tpr[0]), ("scan", 0.4));
        assert!((scan.spread.unwrap()[1] - 0.08f64.sqrt()).abs() < 1e-12, "{:?}", scan.spread);
        assert_eq!(mean[0].false_alarms[0], runs[0][0].false_alarms[0]);
    }

    #[test]
    fn without_benign_rows_nothing_is_compared() {
        let none = Judged { attacks: judged(1).attacks, benign_weight: 1.0, ..Judged::default() };
        let fused = &measure(&none)[0];
        assert!(fused.detection.is_empty());
        assert_eq!((fused.false_alarms[0].low, fused.false_alarms[0].high), (0.0, 1.0));
    }
}
