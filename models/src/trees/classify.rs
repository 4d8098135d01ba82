//! What `TreeEnsembleClassifier` makes of the classes' sums: a label and a score per class, as onnxruntime computes them.

use super::TreeError;

/// Transform of the scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Post {
    None,
    Logistic,
    Softmax,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Classifier {
    labels: Vec<i64>,
    post: Post,
    base: Vec<f32>,
    /// The only class of two that leaves have weights for.
    only: Option<usize>,
    /// No weight is below 0, so the sums are probabilities.
    probabilities: bool,
}

impl Classifier {
    pub(super) fn new(
        labels: Vec<i64>,
        post: Post,
        base: Vec<f32>,
        ids: &[i64],
        weights: &[f32],
    ) -> Result<Self, TreeError> {
        let unsupported = |attribute, value: usize, supported| {
            Err(TreeError::Unsupported { attribute, value: format!("{value} values"), supported })
        };
        if labels.len() < 2 {
            return unsupported("classlabels_int64s", labels.len(), "two labels or more, as integers");
        }
        let zero = ids.iter().all(|i| *i == 0);
        let only = if labels.len() > 2 {
            None
        } else if zero {
            Some(0)
        } else {
            ids.iter().all(|i| *i == 1).then_some(1)
        };
        let fits = match (labels.len(), only) {
            // Runtimes disagree on what two base values of one sum, or one of two sums, are for.
            (2, Some(_)) => base.len() <= 1,
            (n, _) => base.is_empty() || base.len() == n,
        };
        if !fits {
            return unsupported("base_values", base.len(), "none, or one for each class that leaves have weights for");
        }
        if let Some(value) = base.iter().copied().find(|v| !v.is_finite()) {
            return Err(TreeError::NotFinite { tree: 0, node: 0, what: "the base value", value });
        }
        Ok(Self { probabilities: weights.iter().all(|w| *w >= 0.0), labels, post, base, only })
    }

    pub(super) fn classes(&self) -> usize {
        self.labels.len()
    }

    /// Turns the sums of one row, one per class, into scores; returns the label.
    pub(super) fn finish(&self, row: &mut [f32]) -> i64 {
        let Some(only) = self.only else {
            for (v, base) in row.iter_mut().zip(&self.base) {
                *v += base;
            }
            let mut best = 0;
            for i in 1..row.len() {
                if row[i] > row[best] {
                    best = i;
                }
            }
            self.transform(row);
            return self.labels[best];
        };
        let base = self.base.first().copied().unwrap_or(0.0);
        if only == 1 {
            row[0] += base;
            let positive = row[1] > self.threshold();
            self.transform(row);
            return self.labels[usize::from(positive)];
        }
        let sum = row[0] + base;
        let positive = sum > self.threshold();
        let scores = match (self.probabilities, self.post) {
            (true, _) => [1.0 - sum, sum],
            (false, Post::Logistic) => [logistic(-sum), logistic(sum)],
            (false, _) if positive => [-sum, sum],
            (false, _) => [sum, -sum],
        };
        row.copy_from_slice(&scores);
        self.labels[usize::from(positive)]
    }

    /// What a sum must exceed for the second label.
    fn threshold(&self) -> f32 {
        if self.probabilities { 0.5 } else { 0.0 }
    }

    fn transform(&self, row: &mut [f32]) {
        match self.post {
            Post::None => {}
            Post::Logistic => row.iter_mut().for_each(|v| *v = logistic(*v)),
            Post::Softmax => {
                let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                row.iter_mut().for_each(|v| *v = (*v - max).exp());
                let sum: f32 = row.iter().sum();
                row.iter_mut().for_each(|v| *v /= sum);
            }
        }
    }
}

/// Without overflow at either end.
fn logistic(v: f32) -> f32 {
    let p = 1.0 / (1.0 + (-v.abs()).exp());
    if v < 0.0 { 1.0 - p } else { p }
}
