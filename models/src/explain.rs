//! Explanations: which features made an observation strange, and in words how.

use weir_core::profile::{Feature, ProfileId};
use weir_core::role::Role;
use weir_core::suppose::suppose;

use crate::bundle::{Bundle, RawRow};
use crate::normalise::{inverse, transform};
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

impl Contribution {
    /// The usual value (quantiles 1% to 99% of benign data) that is nearest to the observed one.
    pub fn nearest_usual(&self) -> f32 {
        self.observed.clamp(self.usual_low, self.usual_high)
    }

    /// Whether the observed value by itself is not usual.
    pub fn is_unusual(&self) -> bool {
        self.observed < self.usual_low || self.observed > self.usual_high
    }
}

/// One feature's part of what would have had to be otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Index in the profile.
    pub feature: usize,
    pub observed: f32,
    /// With this value, or one beyond it as seen from the observed one, the row would have passed.
    pub to: f32,
}

/// The smallest change found that would have kept a row's p-value above a threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct Unless {
    /// One feature, or two where no single one would have been enough.
    pub changes: Vec<Change>,
    /// The p-value that the row would have had.
    pub p: f32,
}

/// Features that are tried alone, those that contributed most first.
const TRIED_ALONE: usize = 8;
/// Features that are tried two at a time.
const TRIED_IN_PAIRS: usize = 5;
/// Values tried on the way from what was observed to what is usual.
const STEPS: usize = 12;
/// The same of two features together.
const PAIR_STEPS: usize = 6;
/// Values tried between the last that is not enough and the first that is.
const FINER_STEPS: usize = 12;

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
        let errors = loaded.models.errors(row).map_err(|e| self.run_error(profile, e))?;
        let (mut a, mut f) = (1.0, 1.0);
        if let Some((_, table)) = loaded.calibration.resolve(Role::All) {
            let c = table.calibrated(scores[0]);
            (a, f) = (-c.autoencoder.ln(), -c.isolation_forest.ln());
        }
        let mut shares = vec![0.0f32; width];
        add_shares(&mut shares, &errors, a.max(1e-3));
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

/// A change that is tried: each feature with its value.
#[derive(Clone, Debug)]
struct Trial {
    features: Vec<(usize, f32)>,
    /// How far that is from the observed row, in standard deviations of the features.
    cost: f64,
}

impl Bundle {
    /// The smallest change of one feature, else of two, with which the row's p-value would have been above `threshold`: what hangs
    /// together with them changes with them ([`suppose`]), all else stays. `contributions` are those of [`Bundle::explain`], `role`
    /// is the row's. Scores some hundred rows; `None` where nothing tried is enough.
    pub fn unless(
        &self,
        profile: ProfileId,
        row: &[f32],
        present: u64,
        role: Role,
        threshold: f32,
        contributions: &[Contribution],
    ) -> Result<Option<Unless>, ScoreError> {
        let search = Search { bundle: self, profile, row, present, role, threshold };
        // The protocol is what a flow is, not how it went.
        let movable = |c: &&Contribution| profile.features()[c.feature].unit != "flag";
        let candidates: Vec<&Contribution> = contributions.iter().filter(movable).take(TRIED_ALONE).collect();
        let mut trials = Vec::new();
        for c in &candidates {
            for to in goals(c) {
                trials.extend((1..=STEPS).filter_map(|k| search.trial(&[(*c, to)], k as f64 / STEPS as f64)));
            }
        }
        let mut found = search.cheapest(trials)?;
        if found.is_none() {
            let mut trials = Vec::new();
            let pairs = &candidates[..candidates.len().min(TRIED_IN_PAIRS)];
            for (i, a) in pairs.iter().enumerate() {
                for b in &pairs[i + 1..] {
                    for (to_a, to_b) in goals(a).flat_map(|to_a| goals(b).map(move |to_b| (to_a, to_b))) {
                        let both = [(*a, to_a), (*b, to_b)];
                        trials
                            .extend((1..=PAIR_STEPS).filter_map(|k| search.trial(&both, k as f64 / PAIR_STEPS as f64)));
                    }
                }
            }
            found = search.cheapest(trials)?;
        }
        let Some((trial, _)) = found else { return Ok(None) };
        let goal: Vec<(&Contribution, f32)> = trial
            .features
            .iter()
            .filter_map(|(j, v)| Some((*candidates.iter().find(|c| c.feature == *j)?, *v)))
            .collect();
        // Less of the same may be enough.
        let finer = (1..FINER_STEPS).filter_map(|k| search.trial(&goal, k as f64 / FINER_STEPS as f64));
        let mut all: Vec<Trial> = finer.collect();
        // What can be said in round numbers should be.
        all.extend(all.clone().iter().chain([&trial]).map(|t| search.rounded(t)));
        all.push(trial);
        Ok(search.cheapest(all)?.map(|(t, p)| Unless {
            changes: t.features.iter().map(|(j, to)| Change { feature: *j, observed: row[*j], to: *to }).collect(),
            p,
        }))
    }
}

/// Usual values to move a feature to.
fn goals(c: &Contribution) -> impl Iterator<Item = f32> + use<> {
    let (nearest, median) = (c.nearest_usual(), c.usual_median);
    [Some(nearest), (median != nearest).then_some(median)].into_iter().flatten()
}

/// Whether values of a feature are whole numbers.
fn is_count(f: &Feature) -> bool {
    ["packets", "flows", "ports", "hosts", "pairs", "bytes", "ordinal"].contains(&f.unit)
        && !["mean", "std"].iter().any(|w| f.name.contains(w))
}

/// The nearest round number on the far side of `from`: whole where it counts something, else of two digits.
fn rounded(f: &Feature, from: f32, to: f32) -> f32 {
    let v = f64::from(to);
    let digit = if is_count(f) { 1.0 } else { 10f64.powf(v.abs().max(1e-9).log10().floor() - 1.0) };
    let steps = v / digit;
    let steps = if to < from { (steps + 1e-6).floor() } else { (steps - 1e-6).ceil() };
    let out = (steps * digit) as f32;
    if f.unit == "ratio" && f.name.ends_with("_share") { out.clamp(0.0, 1.0) } else { out }
}

struct Search<'a> {
    bundle: &'a Bundle,
    profile: ProfileId,
    row: &'a [f32],
    present: u64,
    role: Role,
    threshold: f32,
}

impl Search<'_> {
    /// The features, moved this part of the way to their values, in the units that models see. `None` where that is no way.
    fn trial(&self, to: &[(&Contribution, f32)], part: f64) -> Option<Trial> {
        let entries = &self.bundle.manifest().profiles[self.bundle.profile(self.profile).ok()?.entry].features;
        let mut trial = Trial { features: Vec::with_capacity(to.len()), cost: 0.0 };
        for (c, goal) in to {
            let t = entries[c.feature].transform;
            let (from, goal) = (f64::from(transform(t, c.observed)), f64::from(transform(t, *goal)));
            let mut v = inverse(t, from + (goal - from) * part) as f32;
            if part >= 1.0 {
                v = inverse(t, goal) as f32;
            }
            let f = &self.profile.features()[c.feature];
            if is_count(f) {
                v = if goal < from { (v + 1e-3).floor() } else { (v - 1e-3).ceil() };
            }
            if v == c.observed {
                return None;
            }
            trial.cost += (f64::from(transform(t, v)) - from).abs() / f64::from(entries[c.feature].std);
            trial.features.push((c.feature, v));
        }
        Some(trial)
    }

    fn rounded(&self, t: &Trial) -> Trial {
        let features = t.features.iter().map(|(j, v)| (*j, rounded(&self.profile.features()[*j], self.row[*j], *v)));
        // Costs a little more than what it was made of, or nothing would be gained by it.
        Trial { features: features.collect(), cost: t.cost * 0.999 }
    }

    /// The cheapest change that is enough, and the p-value with it.
    fn cheapest(&self, mut trials: Vec<Trial>) -> Result<Option<(Trial, f32)>, ScoreError> {
        let mut rows: Vec<Vec<f32>> = Vec::with_capacity(trials.len());
        trials.retain(|t| {
            let mut row = self.row.to_vec();
            let told = t.features.iter().all(|(j, v)| suppose(self.profile, &mut row, self.present, *j, *v));
            if told && row.iter().all(|v| v.is_finite()) {
                rows.push(row);
                return true;
            }
            false
        });
        let loaded = self.bundle.profile(self.profile)?;
        let given = rows.iter().map(|features| RawRow { features, present: self.present });
        let raw = loaded.models.run(given).map_err(|e| self.bundle.run_error(self.profile, e))?;
        let Some((_, table)) = loaded.calibration.resolve(self.role) else { return Ok(None) };
        let enough = trials.into_iter().zip(raw).map(|(t, raw)| (t, table.calibrated(raw).p));
        Ok(enough.filter(|(_, p)| *p > self.threshold).min_by(|(a, _), (b, _)| a.cost.total_cmp(&b.cost)))
    }
}

/// A change in words: "with at most 14 distinct ports contacted it would not have been an anomaly".
pub fn unless_words(unless: &Unless, profile: ProfileId) -> String {
    let with = |c: &Change| {
        let Some(f) = profile.features().get(c.feature) else { return String::new() };
        let bound = if c.to < c.observed { "at most" } else { "at least" };
        match f.unit {
            "packets" | "flows" | "ports" | "hosts" | "pairs" => format!("{bound} {} {}", amount(f, c.to), f.words),
            "ordinal" => format!("{}: {}", f.words, amount(f, c.to)),
            _ => format!("{} of {bound} {}", f.words, amount(f, c.to)),
        }
    };
    let all: Vec<String> = unless.changes.iter().map(with).collect();
    format!("with {} it would not have been an anomaly", all.join(" and "))
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
