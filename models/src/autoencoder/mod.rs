//! The autoencoder: a mixture of linear autoencoders (Hinton, Revow, Dayan: "Recognizing handwritten digits using mixtures of linear
//! models", 1995; Tipping, Bishop: "Mixtures of probabilistic principal component analysers", 1999).
//!
//! Each part is a place in the space of normalised features with the correlations found there. It encodes a row by what its
//! principal directions say of it, and errors are weighed by how much normal rows vary along each direction, so that what is
//! hard to predict does not drown the rest. The score is the error of the part that takes a row best. Traffic is of many kinds
//! that have little to do with each other (a name query, a download, a login), each almost linear by itself, which is why parts
//! tell more than one network of the same cost, and their best weights follow from counting rows rather than from descent.
//!
//! Rows that no part was fitted to say how large errors are: a part that fits its own rows alone is widened, one that rows
//! are never far from is narrowed. What a part's share of the rows is has no say: rare traffic is no more an attack than common.

mod fit;
mod linear;

use linear::Lower;

/// Size and training of the autoencoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AutoencoderConfig {
    /// Most parts.
    pub parts: usize,
    /// Distinct rows per part: fewer rows get fewer parts.
    pub rows_per_part: usize,
    /// Most rounds of expectation and maximisation.
    pub rounds: usize,
    /// Rounds without a better early-stop loss before training ends.
    pub patience: usize,
    /// Most weights of all parts, of which each has one for every pair of features: they are what a row costs.
    pub weights: usize,
    /// How many rows the variances of all parts together count for in the covariance of each one.
    pub shrinkage: f64,
    /// How many early-stop rows the mean error of all parts counts for in that of each one.
    pub steadiness: f64,
    /// Added to each variance, in squared standard deviations of the feature.
    pub floor: f64,
}

impl Default for AutoencoderConfig {
    fn default() -> Self {
        Self {
            parts: 64,
            rows_per_part: 20,
            rounds: 30,
            patience: 2,
            weights: 32_000,
            shrinkage: 50.0,
            steadiness: 10.0,
            floor: 0.1,
        }
    }
}

/// One linear autoencoder.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) mean: Vec<f64>,
    /// Whitens what is left after the mean: the inverse of the covariance's Cholesky factor.
    pub(crate) whiten: Lower,
    /// What being of this part costs while training: `ln det covariance - 2 ln share`, less the least of all parts.
    offset: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Autoencoder {
    pub(crate) parts: Vec<Part>,
    width: usize,
    /// What the offsets are less by.
    base: f64,
}

/// What training took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fitted {
    pub(crate) rounds: usize,
    /// Mean negative log-likelihood of the early-stop rows per feature, in nats.
    pub(crate) loss: f32,
}

impl Autoencoder {
    /// Weights `[width, width * parts]` and biases `[width * parts]` of all parts, the parts innermost: what a row becomes in each
    /// part, whitened.
    pub(crate) fn arrays(&self) -> (Vec<f32>, Vec<f32>) {
        let (width, parts) = (self.width, self.parts.len());
        let mut weights = vec![0.0; width * width * parts];
        let mut bias = vec![0.0; width * parts];
        for (k, part) in self.parts.iter().enumerate() {
            for f in 0..width {
                let mut shift = 0.0;
                for i in 0..=f {
                    let w = part.whiten.at(f, i);
                    weights[(i * width + f) * parts + k] = w as f32;
                    shift -= w * part.mean[i];
                }
                bias[f * parts + k] = shift as f32;
            }
        }
        (weights, bias)
    }

    /// Weights `[width * parts, width]` that turn a whitened row of a part, zeros for the others, into how far each feature lies
    /// from what the part expects of it given all others, in standard deviations of that: with the inverse covariance `P`,
    /// `(P d)_j / sqrt(P_jj)`.
    pub(crate) fn residual_weights(&self) -> Vec<f32> {
        let (width, parts) = (self.width, self.parts.len());
        let mut out = vec![0.0; width * parts * width];
        for (k, part) in self.parts.iter().enumerate() {
            for j in 0..width {
                let precision: f64 = (j..width).map(|f| part.whiten.at(f, j).powi(2)).sum();
                for f in j..width {
                    out[(f * parts + k) * width + j] = (part.whiten.at(f, j) / precision.sqrt()) as f32;
                }
            }
        }
        out
    }

    /// Score and squared errors of one normalised row, straight from the definition.
    #[cfg(test)]
    pub(crate) fn score(&self, z: &[f32], present: u64) -> (f64, Vec<f64>) {
        let whitened = |p: &Part| -> Vec<f64> {
            let d = |i: usize| f64::from(z[i]) - p.mean[i];
            (0..self.width).map(|f| (0..=f).map(|i| p.whiten.at(f, i) * d(i)).sum()).collect()
        };
        let distance = |p: &Part| whitened(p).iter().map(|y| y * y).sum::<f64>();
        let nearest = self.parts.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).expect("a part");
        let y = whitened(nearest);
        let error = |j: usize| {
            let (mut pull, mut precision) = (0.0, 0.0);
            for (f, y) in y.iter().enumerate().skip(j) {
                pull += nearest.whiten.at(f, j) * y;
                precision += nearest.whiten.at(f, j).powi(2);
            }
            if present >> j & 1 == 1 { pull * pull / precision } else { 0.0 }
        };
        (distance(nearest), (0..self.width).map(error).collect())
    }
}
