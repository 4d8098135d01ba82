//! The rows of one profile, prepared; and its entry in the manifest, made of them and of two models.

use std::collections::{BTreeMap, HashSet};

use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;
use weir_core::role::Role;

use super::split::Part;
use super::{ForeignModels, TrainError, TrainSet, fit_normaliser};
use crate::bundle::{
    BundleError, FeatureEntry, Golden, Models, ProfileEntry, ProfileModels, RawRow, TrainingSummary, Usual,
};
use crate::calibrate::{Raw, Weights, calibrate};
use crate::normalise::Normaliser;
use crate::rng::Rng;

/// Golden vectors per profile: the strangest and most ordinary calibration rows and some between, and as many with gaps.
const GOLDEN: usize = 8;

/// Rows by part; `fit` and `stop` without duplicates.
pub(super) struct Prepared<'a> {
    pub(super) profile: ProfileId,
    pub(super) set: &'a TrainSet,
    pub(super) fit: Vec<usize>,
    pub(super) stop: Vec<usize>,
    pub(super) normaliser: Normaliser,
    usual: Vec<Usual>,
    calibration: [Vec<usize>; 2],
}

impl<'a> Prepared<'a> {
    pub(super) fn new(
        set: &'a TrainSet,
        parts: &[Part],
        block_us: u64,
        max_fit: usize,
        seed: u64,
    ) -> Result<(Self, TrainingSummary), TrainError> {
        let profile = set.matrix.profile();
        let of = |part: Part| (0..parts.len()).filter(|i| parts[*i] == part).collect::<Vec<usize>>();
        let (fit, stop) = (of(Part::Fit), of(Part::EarlyStop));
        let calibration = [of(Part::Calibration1), of(Part::Calibration2)];
        for (part, rows) in [
            ("fit", &fit),
            ("early-stop", &stop),
            ("first calibration", &calibration[0]),
            ("second calibration", &calibration[1]),
        ] {
            // A part far below its share says that the rows came in too few lumps, not that there were few.
            let share = if part == "fit" { 5 } else { 40 };
            if rows.len() * share < parts.len() || rows.is_empty() {
                let cell = |r: &super::RowInfo| (r.time_us / block_us.max(1), r.group);
                let alone = set.rows.iter().filter(|r| r.is_none()).count();
                return Err(TrainError::TooFewBlocks {
                    profile,
                    rows: parts.len(),
                    blocks: set.rows.iter().flatten().map(cell).collect::<HashSet<_>>().len() + alone,
                    seconds: block_us / 1_000_000,
                    part,
                    got: rows.len(),
                });
            }
        }
        let usual = usual(&set.matrix, &fit);
        let (fit_rows, early_stop_rows) = (fit.len(), stop.len());
        let mut fit = distinct(&set.matrix, fit);
        let fit_duplicates = fit_rows - fit.len();
        let mut recurring = 0;
        if let Some(new) = unseen_later(&set.matrix, &fit, [&stop, &calibration[0], &calibration[1]]) {
            recurring = fit.len() - new.len();
            fit = new;
        }
        let distinct_rows = fit.len();
        if distinct_rows > max_fit {
            let mut rng = Rng::new(seed, &format!("fit sample {profile}"));
            fit = rng.sample(distinct_rows, max_fit).into_iter().map(|i| fit[i]).collect();
        }
        let mut roles: BTreeMap<Role, u64> = BTreeMap::new();
        for i in 0..set.matrix.len() {
            *roles.entry(set.matrix.role(i)).or_default() += 1;
        }
        let summary = TrainingSummary {
            rows: parts.len() as u64,
            fit_rows: fit_rows as u64,
            early_stop_rows: early_stop_rows as u64,
            calibration_1_rows: calibration[0].len() as u64,
            calibration_2_rows: calibration[1].len() as u64,
            fit_duplicates: fit_duplicates as u64,
            fit_recurring: recurring as u64,
            rows_alone: set.rows.iter().filter(|r| r.is_none()).count() as u64,
            fit_left_out: (distinct_rows - fit.len()) as u64,
            epochs: 0,
            early_stop_loss: 0.0,
            roles,
        };
        let normaliser = fit_normaliser(set, &fit);
        let stop = distinct(&set.matrix, stop);
        Ok((Self { profile, set, fit, stop, normaliser, usual, calibration }, summary))
    }

    /// Calibrates the models, adds their files, returns the manifest entry.
    pub(super) fn assemble(
        &self,
        files_of: ForeignModels,
        training: TrainingSummary,
        weights: Weights,
        seed: u64,
        files: &mut BTreeMap<String, Vec<u8>>,
    ) -> Result<ProfileEntry, TrainError> {
        let name = self.profile.name();
        let (a, f) = (format!("{name}.autoencoder.onnx"), format!("{name}.isolation_forest.onnx"));
        let (models, [autoencoder, isolation_forest]) = ProfileModels::compile(
            (&a, &files_of.autoencoder),
            (&f, &files_of.isolation_forest),
            &self.normaliser.fill,
        )?;
        let scored = |rows: &[usize]| -> Result<Vec<(Role, Raw)>, TrainError> {
            let m = &self.set.matrix;
            let raw = run(&models, rows.iter().map(|i| RawRow { features: m.row(*i), present: m.present(*i) }))?;
            Ok(rows.iter().map(|i| m.role(*i)).zip(raw).collect())
        };
        let (one, two) = (scored(&self.calibration[0])?, scored(&self.calibration[1])?);
        let calibration = calibrate(&one, &two, weights, &mut Rng::new(seed, &format!("calibration {name}")));
        let golden = self.golden(&models, &one)?;
        files.insert(a, files_of.autoencoder);
        files.insert(f, files_of.isolation_forest);
        let n = &self.normaliser;
        let features = self.profile.features().iter().enumerate().map(|(j, f)| FeatureEntry {
            name: f.name.to_owned(),
            transform: f.transform,
            mean: n.mean[j],
            std: n.std[j],
            fill: n.fill[j],
            usual: self.usual[j],
        });
        Ok(ProfileEntry {
            name: name.to_owned(),
            features: features.collect(),
            models: Models { autoencoder, isolation_forest },
            training,
            weights,
            calibration,
            golden,
        })
    }

    fn golden(&self, models: &ProfileModels, one: &[(Role, Raw)]) -> Result<Vec<Golden>, TrainError> {
        let rows = &self.calibration[0];
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|a, b| one[*a].1.autoencoder.total_cmp(&one[*b].1.autoencoder).then(a.cmp(b)));
        let picked: Vec<usize> = (0..GOLDEN).map(|k| rows[order[k * (order.len() - 1) / (GOLDEN - 1)]]).collect();
        let m = &self.set.matrix;
        let mut out = Vec::new();
        for (k, &i) in picked.iter().chain(&picked).enumerate() {
            let gap = if k < GOLDEN { 0 } else { 0b101u64 << (k % m.profile().width()) };
            let present = m.present(i) & !gap;
            let value = |(j, x): (usize, &f32)| if present >> j & 1 == 1 { *x } else { 0.0 };
            out.push((m.row(i).iter().enumerate().map(value).collect::<Vec<f32>>(), present));
        }
        let raw = run(models, out.iter().map(|(f, p)| RawRow { features: f, present: *p }))?;
        let golden = out.into_iter().zip(raw).map(|((features, present), r)| Golden {
            features,
            present,
            autoencoder: r.autoencoder,
            isolation_forest: r.isolation_forest,
        });
        Ok(golden.collect())
    }
}

fn run<'a>(models: &ProfileModels, rows: impl Iterator<Item = RawRow<'a>>) -> Result<Vec<Raw>, BundleError> {
    models.run(rows).map_err(|(m, source)| BundleError::Run { file: models.files[m].clone(), source })
}

/// The values of a row, to be compared bit for bit.
fn bits(m: &FeatureMatrix, i: usize) -> (Vec<u32>, u64) {
    (m.row(i).iter().map(|v| v.to_bits()).collect(), m.present(i))
}

/// The first of each set of rows that are equal bit for bit.
fn distinct(m: &FeatureMatrix, mut rows: Vec<usize>) -> Vec<usize> {
    let mut seen = HashSet::with_capacity(rows.len());
    rows.retain(|i| seen.insert(bits(m, *i)));
    rows
}

/// The rows of `fit` whose values do not come again in a later part: what a model knows by heart says nothing about how it
/// takes what is new. `None` where less than half would be left: traffic that hardly varies is learned from what recurs.
fn unseen_later(m: &FeatureMatrix, fit: &[usize], later: [&[usize]; 3]) -> Option<Vec<usize>> {
    let later: HashSet<_> = later.into_iter().flatten().map(|i| bits(m, *i)).collect();
    let left: Vec<usize> = fit.iter().copied().filter(|i| !later.contains(&bits(m, *i))).collect();
    (2 * left.len() >= fit.len()).then_some(left)
}

/// Quantiles of each feature where it is present; zeros where it never is.
fn usual(m: &FeatureMatrix, rows: &[usize]) -> Vec<Usual> {
    (0..m.profile().width())
        .map(|j| {
            let mut v: Vec<f32> = rows.iter().filter(|i| m.present(**i) >> j & 1 == 1).map(|i| m.row(*i)[j]).collect();
            v.sort_by(f32::total_cmp);
            let at = |q: f64| v.get((q * v.len().saturating_sub(1) as f64).round() as usize).copied().unwrap_or(0.0);
            Usual { low: at(0.01), median: at(0.5), high: at(0.99) }
        })
        .collect()
}
