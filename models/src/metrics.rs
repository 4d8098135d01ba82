//! How well scores tell attacks from benign rows. Pure; thresholds never come from here, only what they lead to.

/// Counts at every distinct score, the strangest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    steps: Vec<Step>,
    benign: f64,
    attacks: f64,
}

/// How many rows are at least as strange as a score.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    benign: f64,
    attacks: f64,
}

impl Curve {
    /// Of scores where higher is stranger. `benign_weight` is how many benign rows each one stands for, where only a part of
    /// them is there: precision depends on how common attacks are. `None` where either side is empty.
    pub fn new(benign: &[f32], attacks: &[f32], benign_weight: f64) -> Option<Self> {
        if benign.is_empty() || attacks.is_empty() {
            return None;
        }
        let mut all: Vec<(f32, bool)> = benign.iter().map(|s| (*s, false)).collect();
        all.extend(attacks.iter().map(|s| (*s, true)));
        all.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let mut at = Step { benign: 0.0, attacks: 0.0 };
        // Rows of one score are not told apart: they are one step.
        let steps = all.chunk_by(|a, b| a.0 == b.0).map(|tied| {
            let attacks = tied.iter().filter(|(_, attack)| *attack).count();
            at.attacks += attacks as f64;
            at.benign += (tied.len() - attacks) as f64 * benign_weight;
            at
        });
        let steps = steps.collect();
        Some(Self { steps, benign: benign.len() as f64 * benign_weight, attacks: attacks.len() as f64 })
    }

    /// False-alarm rate and detection rate at every threshold, from (0, 0) to (1, 1).
    pub fn roc(&self) -> impl Iterator<Item = (f64, f64)> {
        [(0.0, 0.0)].into_iter().chain(self.steps.iter().map(|s| (s.benign / self.benign, s.attacks / self.attacks)))
    }

    /// Recall and precision at every threshold.
    pub fn precision_recall(&self) -> impl Iterator<Item = (f64, f64)> {
        self.steps.iter().map(|s| (s.attacks / self.attacks, s.attacks / (s.attacks + s.benign)))
    }

    /// Area under the ROC curve: how often an attack is stranger than a benign row, ties counting half (Mann and Whitney).
    pub fn roc_auc(&self) -> f64 {
        let mut before = (0.0, 0.0);
        self.roc()
            .map(|(x, y)| {
                let area = (x - before.0) * (y + before.1) / 2.0;
                before = (x, y);
                area
            })
            .sum()
    }

    /// Area under the precision-recall curve as average precision: precision weighted by the recall that each threshold adds.
    /// Nothing is interpolated.
    pub fn average_precision(&self) -> f64 {
        let mut before = 0.0;
        self.precision_recall()
            .map(|(recall, precision)| {
                let area = (recall - before) * precision;
                before = recall;
                area
            })
            .sum()
    }
}

/// 95% interval of a proportion of which `k` of `n` were seen (Wilson 1927): right also near 0, where the usual one is not.
/// Everything from 0 to 1 where nothing was seen.
pub fn wilson(k: f64, n: f64) -> (f64, f64) {
    const Z: f64 = 1.959_963_984_540_054;
    if n <= 0.0 {
        return (0.0, 1.0);
    }
    let (p, zz) = (k / n, Z * Z);
    let middle = (p + zz / (2.0 * n)) / (1.0 + zz / n);
    let half = Z / (1.0 + zz / n) * (p * (1.0 - p) / n + zz / (4.0 * n * n)).sqrt();
    let low = if k <= 0.0 { 0.0 } else { (middle - half).max(0.0) };
    let high = if k >= n { 1.0 } else { (middle + half).min(1.0) };
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROC_AUC: f64 = 0.7291666666666667;
    const AVERAGE_PRECISION: f64 = 0.6666666666666666;
    const AVERAGE_PRECISION_4: f64 = 0.43333333333333335;
    const WILSON: [((f64, f64), (f64, f64)); 4] = [
        ((0.0, 1000.0), (4.980866207572224e-43, 0.0038267584855551217)),
        ((13.0, 1250.0), (0.006087811837467801, 0.017712213764462473)),
        ((1.0, 1250.0), (0.0001412336052889719, 0.004517616028051699)),
        ((10.0, 10.0), (0.7224672001371109, 1.0)),
    ];

    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-9, "{got}, expected {expected}");
    }

    // What scikit-learn 1 gives (`roc_auc_score`, `average_precision_score`, the latter with a `sample_weight` of 4 for benign
    // rows too); and the roots of Wilson's equation (p - x)^2 = z^2 x (1 - x) / n, in 40 digits.

    #[test]
    fn areas_are_those_of_scikit_learn() {
        let benign = [0.1, 0.4, 0.35, 0.8, 0.2, 0.4];
        let attacks = [0.9, 0.4, 0.7, 0.35];
        let c = Curve::new(&benign, &attacks, 1.0).unwrap();
        close(c.roc_auc(), ROC_AUC);
        close(c.average_precision(), AVERAGE_PRECISION);
        let weighted = Curve::new(&benign, &attacks, 4.0).unwrap();
        close(weighted.roc_auc(), ROC_AUC);
        close(weighted.average_precision(), AVERAGE_PRECISION_4);
    }

    #[test]
    fn the_extremes_are_what_they_should_be() {
        let perfect = Curve::new(&[0.0, 0.1], &[0.2, 0.3, 0.4], 1.0).unwrap();
        assert_eq!((perfect.roc_auc(), perfect.average_precision()), (1.0, 1.0));
        let blind = Curve::new(&[0.5; 30], &[0.5; 10], 1.0).unwrap();
        assert_eq!((blind.roc_auc(), blind.average_precision()), (0.5, 0.25), "ties tell nothing");
        let wrong = Curve::new(&[1.0], &[0.0], 1.0).unwrap();
        assert_eq!((wrong.roc_auc(), wrong.average_precision()), (0.0, 0.5));
        assert_eq!(Curve::new(&[], &[1.0], 1.0), None);
        assert_eq!(Curve::new(&[1.0], &[], 1.0), None);
        assert_eq!(wrong.roc().last(), Some((1.0, 1.0)));
    }

    #[test]
    fn intervals_are_wilsons() {
        for ((k, n), (low, high)) in WILSON {
            let got = wilson(k, n);
            close(got.0, low);
            close(got.1, high);
        }
        assert_eq!(wilson(0.0, 0.0), (0.0, 1.0));
    }
}
