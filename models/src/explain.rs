//! Explanations: which features made an observation strange, and in words how.

use weir_core::profile::{Feature, ProfileId};
use weir_core::role::Role;

use crate::bundle::{Bundle, RawRow};
use crate::score::ScoreError;

/// What one feature contributed to an observation's strangeness.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contribution {
    /// Index in the profile.
    pub feature: usize,
    /// Share of the whole; the shares of all features sum to 1.
    pub share: f32,
    /// Raw value observed, and quantiles 1%, 50% and 99% of it in benign data.
    pub observed: f32,
    pub usual_low: f32,
    pub usual_median: f32,
    pub usual_high: f32,
}

impl Bundle {
    /// The contributions of all present features, largest first. `row` is raw, as wide as the profile; bit `j` of `present` is set
    /// where feature `j` is present.
    ///
    /// The autoencoder's share of a feature is its squared error against its benign variance, the forest's is how much its splits
    /// shortened the paths; each detector counts by how surprised it was (`-ln p`).
    pub fn explain(&self, profile: ProfileId, row: &[f32], present: u64) -> Result<Vec<Contribution>, ScoreError> {
        let loaded = self.profile(profile)?;
        let width = profile.width();
        if row.len() != width {
            return Err(ScoreError::Width { profile, got: row.len(), expected: width });
        }
        let row = RawRow { features: row, present };
        let scores = loaded.models.run([row].into_iter()).map_err(|e| self.run_error(profile, e))?;
        let (mut a, mut f) = (1.0, 1.0);
        if let Some((_, table)) = loaded.calibration.resolve(Role::All) {
            let c = table.calibrated(scores.rows[0]);
            (a, f) = (-c.autoencoder.ln(), -c.isolation_forest.ln());
        }
        let mut shares = vec![0.0f32; width];
        add_shares(&mut shares, &scores.errors, a.max(1e-3));
        if let Some(shortening) = loaded.models.shortening(row) {
            add_shares(&mut shares, &shortening, f.max(1e-3));
        }
        let total: f32 = shares.iter().sum();
        let entries = &self.manifest().profiles[loaded.entry].features;
        let mut out: Vec<Contribution> = (0..width)
            .filter(|j| present >> j & 1 == 1)
            .map(|j| Contribution {
                feature: j,
                share: if total > 0.0 { shares[j] / total } else { 1.0 / present.count_ones() as f32 },
                observed: row.features[j],
                usual_low: entries[j].usual.low,
                usual_median: entries[j].usual.median,
                usual_high: entries[j].usual.high,
            })
            .collect();
        out.sort_by(|a, b| b.share.total_cmp(&a.share).then(a.feature.cmp(&b.feature)));
        Ok(out)
    }
}

/// Adds `parts`, scaled to sum to `weight`.
fn add_shares(shares: &mut [f32], parts: &[f32], weight: f32) {
    let total: f32 = parts.iter().sum();
    if total > 0.0 && total.is_finite() {
        for (s, p) in shares.iter_mut().zip(parts) {
            *s += p / total * weight;
        }
    }
}

/// A contribution in words: "distinct ports contacted 47 (usually 1 to 3)". Empty for a feature that the profile doesn't have.
pub fn words(c: &Contribution, profile: ProfileId) -> String {
    let Some(f) = profile.features().get(c.feature) else { return String::new() };
    if f.unit == "flag" {
        let usual = if c.usual_median >= 0.5 { "yes" } else { "no" };
        let observed = if c.observed >= 0.5 { "yes" } else { "no" };
        return format!("{} {observed} (usually {usual})", f.words);
    }
    let (low, high) = (amount(f, c.usual_low), amount(f, c.usual_high));
    let usual = if low == high { low } else { format!("{low} to {high}") };
    format!("{} {} (usually {usual})", f.words, amount(f, c.observed))
}

/// A raw value of a feature with its unit, as [`words`] has it.
pub fn amount(f: &Feature, v: f32) -> String {
    let v = f64::from(v);
    match f.unit {
        "s" if v == 0.0 => "0 s".to_owned(),
        "s" if v < 1e-3 => format!("{} µs", short(v * 1e6)),
        "s" if v < 1.0 => format!("{} ms", short(v * 1e3)),
        "s" => format!("{} s", short(v)),
        "bytes" => bytes(v),
        "bytes/s" => format!("{}/s", bytes(v)),
        "1/s" => format!("{}/s", short(v)),
        "ratio" if f.name.ends_with("_share") => format!("{} %", short(v * 100.0)),
        "ordinal" => end_state(f, v),
        _ => short(v),
    }
}

/// An ordinal by its name, where the feature's description lists them as `name number, ...`.
fn end_state(f: &Feature, v: f64) -> String {
    let number = format!("{}", v.round());
    let mut names = f.source.split(", ").filter_map(|part| part.rsplit_once(' '));
    names.find(|(_, n)| *n == number).map_or_else(|| short(v), |(name, _)| name.to_owned())
}

fn bytes(v: f64) -> String {
    match v.abs() {
        b if b < 1e3 => format!("{} bytes", short(v)),
        b if b < 1e6 => format!("{} kB", short(v / 1e3)),
        b if b < 1e9 => format!("{} MB", short(v / 1e6)),
        _ => format!("{} GB", short(v / 1e9)),
    }
}

/// About three digits, without trailing zeros.
fn short(v: f64) -> String {
    let a = v.abs();
    let text = match a {
        _ if a >= 100.0 || v == v.round() => return format!("{v:.0}"),
        _ if a >= 10.0 => format!("{v:.1}"),
        _ if a >= 0.01 => format!("{v:.2}"),
        _ => return format!("{v:.1e}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
