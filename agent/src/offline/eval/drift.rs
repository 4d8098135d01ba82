//! How benign flows differ from those that a bundle was fitted to, feature by feature, as far as its manifest tells of these.

use serde::Serialize;
use weir_core::matrix::FeatureMatrix;
use weir_core::profile::{ProfileId, Transform};
use weir_models::{Bundle, FeatureEntry};

/// Shares of the fit rows that lie at or below the quantiles of the manifest.
const LEVELS: [f64; 3] = [0.01, 0.5, 0.99];

#[derive(Clone, Debug)]
struct Column {
    entry: FeatureEntry,
    rows: f64,
    sum: f64,
    squares: f64,
    below: [f64; 3],
    at_most: [f64; 3],
}

/// Looks at rows as they come.
#[derive(Clone, Debug, Default)]
pub struct DriftGauge {
    columns: Vec<Column>,
    rows: f64,
}

/// How a feature has moved.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drift {
    pub feature: &'static str,
    /// The two distributions differ by at least this share somewhere (Kolmogorov and Smirnov's distance, of which the
    /// manifest's quantiles show a lower bound; of flags it is the distance itself). Ties at a quantile count for neither side.
    pub distance: f64,
    /// Of the mean, in standard deviations of the fit rows.
    pub shift: f64,
    /// Standard deviation, as a multiple of that of the fit rows.
    pub spread: f64,
    /// Share of the rows that have the feature.
    pub present: f64,
}

impl DriftGauge {
    pub fn new(bundle: &Bundle, profile: ProfileId) -> Self {
        let entries = bundle.manifest().profiles.iter().filter(|p| p.name == profile.name()).flat_map(|p| &p.features);
        let column = |entry: &FeatureEntry| Column {
            entry: entry.clone(),
            rows: 0.0,
            sum: 0.0,
            squares: 0.0,
            below: [0.0; 3],
            at_most: [0.0; 3],
        };
        Self { columns: entries.map(column).collect(), rows: 0.0 }
    }

    pub fn add(&mut self, matrix: &FeatureMatrix, row: usize) {
        self.rows += 1.0;
        let (values, present) = (matrix.row(row), matrix.present(row));
        for (j, (c, value)) in self.columns.iter_mut().zip(values).enumerate() {
            if present >> j & 1 == 0 {
                continue;
            }
            let v = match c.entry.transform {
                Transform::Identity => f64::from(*value),
                Transform::Log1p => f64::from(value.max(0.0)).ln_1p(),
            };
            c.rows += 1.0;
            c.sum += v;
            c.squares += v * v;
            let u = &c.entry.usual;
            for (k, quantile) in [u.low, u.median, u.high].into_iter().enumerate() {
                c.below[k] += f64::from(u8::from(*value < quantile));
                c.at_most[k] += f64::from(u8::from(*value <= quantile));
            }
        }
    }

    /// Of every feature, the most moved first.
    pub fn drifts(&self, profile: ProfileId) -> Vec<Drift> {
        let of = |(c, f): (&Column, &weir_core::profile::Feature)| {
            let n = c.rows.max(1.0);
            let (mean, std) = (c.sum / n, f64::from(c.entry.std).max(f64::MIN_POSITIVE));
            let deviation = (c.squares / n - mean * mean).max(0.0).sqrt();
            let distance = (0..LEVELS.len())
                .map(|k| (LEVELS[k] - c.at_most[k] / n).max(c.below[k] / n - LEVELS[k]))
                .fold(0.0, f64::max);
            // Of flags the manifest tells all: their mean is the share of the rows that have them.
            let distance = if f.unit == "flag" { (mean - f64::from(c.entry.mean)).abs() } else { distance };
            let known = c.rows > 0.0;
            Drift {
                feature: f.name,
                distance: if known { distance } else { 0.0 },
                shift: if known { (mean - f64::from(c.entry.mean)) / std } else { 0.0 },
                spread: if known { deviation / std } else { 0.0 },
                present: if self.rows > 0.0 { c.rows / self.rows } else { 0.0 },
            }
        };
        let mut all: Vec<Drift> = self.columns.iter().zip(profile.features()).map(of).collect();
        all.sort_by(|a, b| b.distance.total_cmp(&a.distance));
        all
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use weir_models::Usual;

    fn gauge(median: f32, mean: f32) -> DriftGauge {
        let column = |name: &str, usual: Usual, mean: f32| Column {
            entry: FeatureEntry {
                name: name.to_owned(),
                transform: Transform::Identity,
                mean,
                std: 0.5,
                fill: 0.0,
                usual,
            },
            rows: 0.0,
            sum: 0.0,
            squares: 0.0,
            below: [0.0; 3],
            at_most: [0.0; 3],
        };
        let flag = column("proto_tcp", Usual { low: 0.0, median, high: 1.0 }, mean);
        DriftGauge { columns: vec![flag], rows: 0.0 }
    }

    #[test]
    fn ties_are_no_drift_and_flags_move_by_their_share() {
        let mut still = gauge(1.0, 0.75);
        let mut moved = gauge(1.0, 0.75);
        for i in 0..100 {
            for (g, on) in [(&mut still, i % 4 != 0), (&mut moved, i % 4 == 0)] {
                let c = &mut g.columns[0];
                let v = f64::from(u8::from(on));
                (c.rows, c.sum, c.squares) = (c.rows + 1.0, c.sum + v, c.squares + v * v);
                g.rows += 1.0;
            }
        }
        let of = |g: &DriftGauge| g.drifts(ProfileId::Core)[0].clone();
        assert!(of(&still).distance < 1e-9, "{:?}", of(&still));
        let m = of(&moved);
        assert!((m.distance - 0.5).abs() < 1e-9 && (m.shift + 1.0).abs() < 1e-9 && m.present == 1.0, "{m:?}");
    }
}
