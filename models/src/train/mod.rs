//! Training a bundle from benign rows: split, normalise, fit, export, calibrate.

mod assemble;
mod error;
mod split;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

use ndarray::Array2;
use sha2::{Digest, Sha256};
use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;

pub use crate::autoencoder::AutoencoderConfig;
pub use crate::isolation::ForestConfig;
pub use error::TrainError;
pub use split::Part;

use crate::autoencoder::{Autoencoder, Fitted};
use crate::bundle::{
    self, BUNDLE_VERSION, Bundle, BundleError, Corpus, EvidenceThresholds, Manifest, Provenance, TrainingSummary,
};
use crate::calibrate::Weights;
use crate::normalise::Normaliser;
use crate::rng::Rng;
use crate::{isolation, onnx};
use assemble::Prepared;

/// Where a row comes from. Rows of one source in one block of time are never on both sides of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowInfo {
    /// Any clock that all sets of one training share.
    pub time_us: u64,
    /// The source, as a number.
    pub group: u64,
}

/// Benign rows of one profile. `rows[i]` describes row `i` of `matrix`; `None` where its time or source is not known: such rows
/// are dealt out one by one, at random.
#[derive(Clone, Debug)]
pub struct TrainSet {
    pub matrix: FeatureMatrix,
    pub rows: Vec<Option<RowInfo>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// The same rows, configuration and seed give the same bytes on the same processor.
    pub seed: u64,
    /// Fewest rows of a set.
    pub min_rows: usize,
    /// Length of the source windows.
    pub window_us: u64,
    /// What the rows are, in words, for the manifest.
    pub source: String,
    /// For the manifest; microseconds since the Unix epoch.
    pub trained_at_us: Option<u64>,
    pub autoencoder: AutoencoderConfig,
    pub forest: ForestConfig,
    pub weights: Weights,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            min_rows: 200,
            window_us: 10_000_000,
            source: String::new(),
            trained_at_us: None,
            autoencoder: AutoencoderConfig::default(),
            forest: ForestConfig::default(),
            weights: Weights::default(),
        }
    }
}

/// What training is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Autoencoder,
    IsolationForest,
    Calibration,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Autoencoder => "autoencoder",
            Stage::IsolationForest => "isolation forest",
            Stage::Calibration => "calibration",
        })
    }
}

/// How far a stage is; `done` may end below `total` when training stops early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainProgress {
    pub profile: ProfileId,
    pub stage: Stage,
    pub done: usize,
    pub total: usize,
}

/// Model files of a profile that were made elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignModels {
    pub autoencoder: Vec<u8>,
    pub isolation_forest: Vec<u8>,
}

/// Most distinct rows that models are fitted to; a random sample of more adds time, not knowledge.
const MAX_FIT_ROWS: usize = 200_000;

/// Trains models for every set, one profile each, and calibrates them.
pub fn train(
    sets: &[TrainSet],
    cfg: &TrainConfig,
    progress: &mut dyn FnMut(TrainProgress),
) -> Result<TrainedBundle, TrainError> {
    build(sets, cfg, progress, &mut |prepared, summary, progress| {
        let profile = prepared.profile;
        let mut rng = Rng::new(cfg.seed, &format!("autoencoder {profile}"));
        let (fit, stop) = (prepared.normalised(&prepared.fit), prepared.normalised(&prepared.stop));
        let stage = Stage::Autoencoder;
        let mut round = |done, total| progress(TrainProgress { profile, stage, done, total });
        let (net, Fitted { rounds, loss }) = Autoencoder::fit(&fit, &stop, &cfg.autoencoder, &mut rng, &mut round);
        if !loss.is_finite() {
            return Err(TrainError::Diverged { profile, loss });
        }
        (summary.epochs, summary.early_stop_loss) = (rounds as u64, loss);
        let autoencoder = onnx::export_autoencoder(&prepared.normaliser, &net);

        let mut rng = Rng::new(cfg.seed, &format!("isolation forest {profile}"));
        let stage = Stage::IsolationForest;
        progress(TrainProgress { profile, stage, done: 0, total: 1 });
        let rows = prepared.filled(&prepared.fit);
        let forest = isolation::grow(&rows, &prepared.normaliser.transforms, cfg.forest, &mut rng);
        let isolation_forest = onnx::export_forest(&prepared.normaliser, &forest);
        progress(TrainProgress { profile, stage, done: 1, total: 1 });
        Ok(ForeignModels { autoencoder, isolation_forest })
    })
}

/// Makes a bundle of models that were trained elsewhere: calibrates them on held-back rows of `sets`, as [`train`] does for its own.
/// What the models must look like is in this crate's README.
pub fn calibrate_foreign(
    sets: &[TrainSet],
    models: &BTreeMap<ProfileId, ForeignModels>,
    cfg: &TrainConfig,
    progress: &mut dyn FnMut(TrainProgress),
) -> Result<TrainedBundle, TrainError> {
    build(sets, cfg, progress, &mut |prepared, _, _| {
        let profile = prepared.profile;
        models.get(&profile).cloned().ok_or(TrainError::NoModels { profile })
    })
}

type MakeModels<'a> = dyn FnMut(&Prepared<'_>, &mut TrainingSummary, &mut dyn FnMut(TrainProgress)) -> Result<ForeignModels, TrainError>
    + 'a;

fn build(
    sets: &[TrainSet],
    cfg: &TrainConfig,
    progress: &mut dyn FnMut(TrainProgress),
    make: &mut MakeModels<'_>,
) -> Result<TrainedBundle, TrainError> {
    check(sets, cfg)?;
    let Span { first_us, last_us, block_us } = Span::of(sets, cfg);
    let mut files = BTreeMap::new();
    let mut entries = Vec::new();
    let mut parts = BTreeMap::new();
    for set in sets {
        let profile = set.matrix.profile();
        let part = deal(set, first_us, block_us, cfg.seed);
        let (prepared, mut summary) = Prepared::new(set, &part, block_us, MAX_FIT_ROWS, cfg.seed)?;
        let models = make(&prepared, &mut summary, progress)?;
        progress(TrainProgress { profile, stage: Stage::Calibration, done: 0, total: 1 });
        entries.push(prepared.assemble(models, summary, cfg.weights, cfg.seed, &mut files)?);
        progress(TrainProgress { profile, stage: Stage::Calibration, done: 1, total: 1 });
        parts.insert(profile, part);
    }
    let manifest = Manifest {
        bundle_version: BUNDLE_VERSION,
        provenance: Provenance {
            weir_version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: cfg.seed,
            source: cfg.source.clone(),
            trained_at_us: cfg.trained_at_us,
            first_us,
            last_us,
            window_us: cfg.window_us,
            block_us,
            corpora: Vec::new(),
        },
        evidence: None,
        profiles: entries,
    };
    let text = to_yaml(&manifest)?;
    // As a reader would load it, so that nothing is written that would be refused later.
    let bundle = Bundle::from_parts(&text, &files)?;
    Ok(TrainedBundle { text, files, parts, bundle })
}

/// Times of all rows, and how long a block of them is, microseconds.
struct Span {
    first_us: u64,
    last_us: u64,
    block_us: u64,
}

impl Span {
    fn of(sets: &[TrainSet], cfg: &TrainConfig) -> Self {
        let times = || sets.iter().flat_map(|s| &s.rows).flatten().map(|r| r.time_us);
        let (first_us, last_us) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
        Self { first_us, last_us, block_us: split::block_length(last_us - first_us, cfg.window_us) }
    }
}

fn deal(set: &TrainSet, first_us: u64, block_us: u64, seed: u64) -> Vec<Part> {
    let mut rng = Rng::new(seed, &format!("split {}", set.matrix.profile()));
    split::split(&set.rows, first_us, block_us, &mut rng)
}

/// What [`train`] and [`calibrate_foreign`] use each row of each set for. Whoever fits models elsewhere keeps to the rows of
/// [`Part::Fit`] and [`Part::EarlyStop`]: calibration is to judge them by rows that they have not seen.
pub fn parts(sets: &[TrainSet], cfg: &TrainConfig) -> Result<Vec<Vec<Part>>, TrainError> {
    check(sets, cfg)?;
    let Span { first_us, block_us, .. } = Span::of(sets, cfg);
    Ok(sets.iter().map(|set| deal(set, first_us, block_us, cfg.seed)).collect())
}

/// A short hash of the rows of a set and of what each is used for. Models that name it ([`crate::METADATA_SPLIT`]) were fitted
/// to this very division.
pub fn split_id(set: &TrainSet, parts: &[Part]) -> String {
    let mut hash = Sha256::new_with_prefix(set.matrix.profile().name());
    let mut row = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        row.clear();
        row.push(*part as u8);
        row.extend(set.matrix.present(i).to_le_bytes());
        row.extend(set.matrix.row(i).iter().flat_map(|v| v.to_le_bytes()));
        hash.update(&row);
    }
    hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
}

fn check(sets: &[TrainSet], cfg: &TrainConfig) -> Result<(), TrainError> {
    if sets.is_empty() {
        return Err(TrainError::NoSets);
    }
    let mut seen = HashSet::new();
    for set in sets {
        let profile = set.matrix.profile();
        if !seen.insert(profile) {
            return Err(TrainError::ProfileTwice { profile });
        }
        if set.rows.len() != set.matrix.len() {
            return Err(TrainError::RowInfo { profile, rows: set.matrix.len(), infos: set.rows.len() });
        }
        if set.matrix.len() < cfg.min_rows {
            return Err(TrainError::TooFewRows { profile, rows: set.matrix.len(), min: cfg.min_rows });
        }
    }
    let (a, f) = (&cfg.autoencoder, &cfg.forest);
    for (what, value) in [
        ("autoencoder.parts", a.parts),
        ("autoencoder.rows_per_part", a.rows_per_part),
        ("autoencoder.rounds", a.rounds),
        ("forest.trees", f.trees),
        ("forest.samples", f.samples),
    ] {
        if !(1..=10_000).contains(&value) {
            return Err(TrainError::Config { what, value, expected: "1 to 10000" });
        }
    }
    Ok(())
}

fn to_yaml(manifest: &Manifest) -> Result<Vec<u8>, BundleError> {
    serde_yaml::to_string(manifest).map(String::into_bytes).map_err(|e| BundleError::Manifest(e.to_string()))
}

/// A trained bundle in memory: it scores as it will after [`TrainedBundle::write`] and [`Bundle::load`].
#[derive(Debug)]
pub struct TrainedBundle {
    text: Vec<u8>,
    files: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<ProfileId, Vec<Part>>,
    bundle: Bundle,
}

impl TrainedBundle {
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    pub fn into_bundle(self) -> Bundle {
        self.bundle
    }

    pub fn manifest(&self) -> &Manifest {
        self.bundle.manifest()
    }

    /// What each row of the profile's set was used for; empty for a profile that wasn't trained. Rows of
    /// [`Part::Calibration2`] were seen by no model and no detector's calibration: thresholds on evidence come from them.
    pub fn parts(&self, profile: ProfileId) -> &[Part] {
        self.parts.get(&profile).map_or(&[], Vec::as_slice)
    }

    /// Rows used per part, duplicates dropped and rows per role, by profile.
    pub fn summary(&self) -> impl Iterator<Item = (&str, &TrainingSummary)> {
        self.manifest().profiles.iter().map(|p| (p.name.as_str(), &p.training))
    }

    /// Puts the thresholds into the manifest; the bundle's id changes with it.
    pub fn set_evidence(&mut self, evidence: Option<EvidenceThresholds>) -> Result<(), BundleError> {
        self.replace(Manifest { evidence, ..self.manifest().clone() })
    }

    /// Says in the manifest which collections of data it was trained on; the bundle's id changes with it.
    pub fn set_corpora(&mut self, corpora: Vec<Corpus>) -> Result<(), BundleError> {
        let provenance = Provenance { corpora, ..self.manifest().provenance.clone() };
        self.replace(Manifest { provenance, ..self.manifest().clone() })
    }

    fn replace(&mut self, manifest: Manifest) -> Result<(), BundleError> {
        self.text = to_yaml(&manifest)?;
        self.bundle.replace_manifest(&self.text, manifest);
        Ok(())
    }

    /// Writes the bundle to `dir`, which is absent, empty, or a bundle that is replaced in one step.
    pub fn write(&self, dir: &Path) -> Result<(), BundleError> {
        bundle::write(dir, &self.text, &self.files)
    }
}

impl Prepared<'_> {
    fn normalised(&self, rows: &[usize]) -> Array2<f32> {
        let width = self.normaliser.width();
        let mut data = Vec::with_capacity(rows.len() * width);
        for &i in rows {
            self.normaliser.apply(self.set.matrix.row(i), self.set.matrix.present(i), &mut data);
        }
        Array2::from_shape_fn((rows.len(), width), |(i, j)| data[i * width + j])
    }

    fn filled(&self, rows: &[usize]) -> Vec<f32> {
        let mut data = Vec::with_capacity(rows.len() * self.normaliser.width());
        for &i in rows {
            self.normaliser.fill(self.set.matrix.row(i), self.set.matrix.present(i), &mut data);
        }
        data
    }
}

/// Fits the normaliser to the given rows of a set.
fn fit_normaliser(set: &TrainSet, rows: &[usize]) -> Normaliser {
    let data: Vec<f32> = rows.iter().flat_map(|i| set.matrix.row(*i)).copied().collect();
    let present: Vec<u64> = rows.iter().map(|i| set.matrix.present(*i)).collect();
    Normaliser::fit(set.matrix.profile(), &data, &present)
}
