//! Normalisation: transform, standardise, clip; a missing value becomes the mean.

use weir_core::profile::{Feature, ProfileId, Transform};

/// Normalised values are clipped to `-CLIP..=CLIP`, so that no single feature decides alone.
pub const CLIP: f32 = 10.0;

/// Smallest standard deviation, in transformed units. A benign column that never varies would otherwise turn the first other
/// value into an infinite distance. Times are in seconds and mostly far below one, so theirs is smaller.
fn std_floor(feature: &Feature) -> f64 {
    match feature.unit {
        "s" => 1e-3,
        _ => 0.02,
    }
}

/// `Log1p` is `ln(1 + max(x, 0))` in single precision, as in the exported graphs.
pub(crate) fn transform(t: Transform, x: f32) -> f32 {
    match t {
        Transform::Identity => x,
        Transform::Log1p => (1.0 + x.max(0.0)).ln(),
    }
}

/// The raw value whose transformed value is `v`.
pub(crate) fn inverse(t: Transform, v: f64) -> f64 {
    match t {
        Transform::Identity => v,
        Transform::Log1p => v.exp_m1(),
    }
}

/// The constants of one profile, one entry per feature in each list.
#[derive(Clone, Debug, PartialEq)]
pub struct Normaliser {
    pub transforms: Vec<Transform>,
    /// Mean and floored standard deviation of the transformed value over the fit part.
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
    /// The raw value that stands in for a missing one: its normalised value is 0.
    pub fill: Vec<f32>,
}

impl Normaliser {
    /// Learns the constants from raw rows, row-major, with presence bits. A feature that is never present gets mean 0.
    pub(crate) fn fit(profile: ProfileId, data: &[f32], present: &[u64]) -> Self {
        let features = profile.features();
        let width = features.len();
        let mut out = Self {
            transforms: features.iter().map(|f| f.transform).collect(),
            mean: Vec::with_capacity(width),
            std: Vec::with_capacity(width),
            fill: Vec::with_capacity(width),
        };
        for (j, feature) in features.iter().enumerate() {
            let values = || {
                present
                    .iter()
                    .enumerate()
                    .filter(|(_, p)| *p >> j & 1 == 1)
                    .map(|(i, _)| f64::from(transform(feature.transform, data[i * width + j])))
            };
            let n = values().count().max(1) as f64;
            let mean = values().sum::<f64>() / n;
            let var = values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
            out.mean.push(mean as f32);
            out.std.push(var.sqrt().max(std_floor(feature)) as f32);
            out.fill.push(inverse(feature.transform, mean) as f32);
        }
        out
    }

    pub(crate) fn width(&self) -> usize {
        self.mean.len()
    }

    /// Appends the normalised row to `out`; missing values become 0.
    pub(crate) fn apply(&self, row: &[f32], present: u64, out: &mut Vec<f32>) {
        for (j, x) in row.iter().enumerate() {
            let z = if present >> j & 1 == 1 {
                ((transform(self.transforms[j], *x) - self.mean[j]) / self.std[j]).clamp(-CLIP, CLIP)
            } else {
                0.0
            };
            out.push(z);
        }
    }

    /// Appends the raw row to `out`, missing values replaced.
    pub(crate) fn fill(&self, row: &[f32], present: u64, out: &mut Vec<f32>) {
        out.extend(row.iter().enumerate().map(|(j, x)| if present >> j & 1 == 1 { *x } else { self.fill[j] }));
    }
}
