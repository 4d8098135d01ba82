//! Loading: nothing in the directory is believed before it was checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};
use weir_core::busy::MAX_CARRIERS;
use weir_core::profile::ProfileId;
use weir_core::role::Role;

use super::error::BundleError;
use super::manifest::{BUNDLE_VERSION, Manifest, ModelEntry, ProfileEntry};
use super::models::{ProfileModels, RawRow};
use crate::calibrate::{Calibration, MAX_ROLE_ROWS};
use crate::onnx::MAX_MODEL_BYTES;

/// Name of the manifest in a bundle.
pub const MANIFEST_FILE: &str = "manifest.yaml";
/// Largest manifest.
pub const MAX_MANIFEST_BYTES: u64 = 64 << 20;
/// Largest relative difference between a golden vector's score and the expected one: processors with and without fused
/// multiply-add differ in the last digits.
pub const GOLDEN_TOLERANCE: f32 = 1e-4;
const MAX_GOLDEN: usize = 1_000;
const MAX_ROLES: usize = 256;

/// A loaded bundle: checked, compiled, ready to score. Immutable and shareable between threads.
#[derive(Debug)]
pub struct Bundle {
    id: String,
    pub(super) manifest: Manifest,
    pub(crate) profiles: BTreeMap<ProfileId, LoadedProfile>,
}

#[derive(Debug)]
pub(crate) struct LoadedProfile {
    pub(crate) models: ProfileModels,
    pub(crate) calibration: Calibration,
    /// Index in the manifest.
    pub(crate) entry: usize,
}

impl Bundle {
    /// Reads and checks the bundle in `dir`. Models from elsewhere should be checked by [`super::verify_in_child`] first: what a
    /// model costs to compile and run shows only when it runs.
    pub fn load(dir: &Path) -> Result<Bundle, BundleError> {
        let manifest = read(dir, MANIFEST_FILE, MAX_MANIFEST_BYTES)?;
        let parsed = parse_manifest(&manifest)?;
        let mut files = BTreeMap::new();
        for (i, profile) in parsed.profiles.iter().enumerate() {
            for entry in [&profile.models.autoencoder, &profile.models.isolation_forest] {
                check_file_name(i, entry)?;
                files.insert(entry.file.clone(), read(dir, &entry.file, MAX_MODEL_BYTES)?);
            }
        }
        Self::from_parts(&manifest, &files)
    }

    /// Like [`Bundle::load`], from memory: the manifest's text and the model files by name.
    pub fn from_parts(manifest: &[u8], files: &BTreeMap<String, Vec<u8>>) -> Result<Bundle, BundleError> {
        let id = id_of(manifest);
        let manifest = parse_manifest(manifest)?;
        let mut profiles = BTreeMap::new();
        for (i, entry) in manifest.profiles.iter().enumerate() {
            let (id, loaded) = load_profile(i, entry, files)?;
            profiles.insert(id, loaded);
        }
        Ok(Bundle { id, manifest, profiles })
    }

    /// Short hash of the manifest, which names the hashes of the models: two bundles with one id are the same.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The profiles that this bundle can score.
    pub fn profiles(&self) -> impl Iterator<Item = ProfileId> + '_ {
        self.profiles.keys().copied()
    }

    pub(crate) fn replace_manifest(&mut self, text: &[u8], manifest: Manifest) {
        self.id = id_of(text);
        self.manifest = manifest;
    }
}

/// The id of the bundle with this manifest.
pub(super) fn id_of(manifest: &[u8]) -> String {
    sha256_hex(manifest)[..12].to_owned()
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Reads a regular file of at most `max` bytes.
pub(super) fn read(dir: &Path, file: &str, max: u64) -> Result<Vec<u8>, BundleError> {
    let path = dir.join(file);
    let io = |source| BundleError::Io { path: path.clone(), source };
    // Opening a FIFO would wait for a writer.
    let meta = std::fs::metadata(&path).map_err(io)?;
    if !meta.is_file() {
        return Err(BundleError::NotAFile { path });
    }
    let mut bytes = Vec::new();
    File::open(&path).map_err(io)?.take(max + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > max {
        return Err(BundleError::TooLarge { file: file.to_owned(), found: meta.len().max(max + 1), max });
    }
    Ok(bytes)
}

fn mismatch(place: &str, what: &'static str, found: impl ToString, expected: impl ToString) -> BundleError {
    BundleError::Mismatch { place: place.to_owned(), what, found: found.to_string(), expected: expected.to_string() }
}

impl Manifest {
    /// Reads and checks the manifest of a bundle without its models: to describe it, not to trust it.
    pub fn read(dir: &Path) -> Result<Manifest, BundleError> {
        parse_manifest(&read(dir, MANIFEST_FILE, MAX_MANIFEST_BYTES)?)
    }

    /// The same of its text.
    pub fn parse(text: &[u8]) -> Result<Manifest, BundleError> {
        parse_manifest(text)
    }
}

pub(super) fn parse_manifest(bytes: &[u8]) -> Result<Manifest, BundleError> {
    #[derive(serde::Deserialize)]
    struct VersionOnly {
        bundle_version: u32,
    }
    let broken = |e: serde_yaml::Error| BundleError::Manifest(e.to_string());
    let text = std::str::from_utf8(bytes).map_err(|e| BundleError::Manifest(e.to_string()))?;
    let manifest: Manifest = match serde_yaml::from_str(text) {
        Ok(m) => m,
        // A manifest of another version may have other keys: say so rather than complain about the keys.
        Err(e) => match serde_yaml::from_str::<VersionOnly>(text) {
            Ok(v) if v.bundle_version != BUNDLE_VERSION => {
                return Err(BundleError::Version { found: v.bundle_version, expected: BUNDLE_VERSION });
            }
            _ => return Err(broken(e)),
        },
    };
    if manifest.bundle_version != BUNDLE_VERSION {
        return Err(BundleError::Version { found: manifest.bundle_version, expected: BUNDLE_VERSION });
    }
    if manifest.profiles.is_empty() {
        return Err(mismatch("profiles", "the list", "empty", "at least one profile"));
    }
    let mut names = BTreeSet::new();
    for p in &manifest.profiles {
        if !names.insert(p.name.as_str()) {
            return Err(mismatch(&format!("profile {}", p.name), "the name", "given twice", "once"));
        }
    }
    if let Some(e) = &manifest.evidence {
        for (what, v) in [
            ("alert", e.alert),
            ("drop", e.drop),
            ("allowance", e.allowance[0]),
            ("allowance", e.allowance[1]),
            ("budget_per_day", e.budget_per_day),
        ] {
            if !(v.is_finite() && v >= 0.0) {
                return Err(mismatch("evidence", what, v, "a finite number, not below 0"));
            }
        }
        if e.carriers.len() > MAX_CARRIERS {
            let most = format!("at most {MAX_CARRIERS}");
            return Err(mismatch("evidence", "the number of carriers", e.carriers.len(), most));
        }
        if let Some(c) = e.carriers.iter().find(|c| !(0.0..=1.0).contains(&c.share)) {
            return Err(mismatch(&format!("evidence, carrier {}", c.net), "the share", c.share, "0 to 1"));
        }
    }
    Ok(manifest)
}

/// A file name, not a path: a manifest must not make the agent read elsewhere.
pub(super) fn check_file_name(profile: usize, entry: &ModelEntry) -> Result<(), BundleError> {
    let f = &entry.file;
    let fine = !f.is_empty()
        && f.len() <= 128
        && !f.starts_with('.')
        && f != MANIFEST_FILE
        && f.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if fine {
        return Ok(());
    }
    let expected = "a plain file name of letters, digits, `.`, `_` and `-`";
    Err(mismatch(&format!("profiles[{profile}].models"), "file", format!("`{f}`"), expected))
}

fn load_profile(
    index: usize,
    entry: &ProfileEntry,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<(ProfileId, LoadedProfile), BundleError> {
    let place = format!("profile {}", entry.name);
    let known = ProfileId::ALL.map(ProfileId::name).join(", ");
    let id = ProfileId::from_name(&entry.name).ok_or_else(|| mismatch(&place, "the name", &entry.name, known))?;
    check_features(&place, id, entry)?;
    check_calibration(&place, entry)?;
    check_golden(&place, id, entry)?;

    let file = |e: &ModelEntry| -> Result<_, BundleError> {
        check_file_name(index, e)?;
        let bytes = files.get(&e.file).ok_or_else(|| mismatch(&place, "file", &e.file, "a file of the bundle"))?;
        let found = sha256_hex(bytes);
        if found != e.sha256 {
            return Err(BundleError::Hash { file: e.file.clone(), found, expected: e.sha256.clone() });
        }
        Ok(bytes.as_slice())
    };
    let (a, f) = (&entry.models.autoencoder, &entry.models.isolation_forest);
    let (a_bytes, f_bytes) = (file(a)?, file(f)?);
    let fill: Vec<f32> = entry.features.iter().map(|f| f.fill).collect();
    let (models, found) = ProfileModels::compile((&a.file, a_bytes), (&f.file, f_bytes), &fill)?;
    for (expected, found) in [a, f].into_iter().zip(&found) {
        let place = format!("{place}, {}", expected.file);
        if expected.opset != found.opset {
            return Err(mismatch(&place, "opset", expected.opset, format!("{} as in the file", found.opset)));
        }
        if expected.outputs != found.outputs {
            let in_file = format!("[{}] as in the file", found.outputs.join(", "));
            return Err(mismatch(&place, "outputs", format!("[{}]", expected.outputs.join(", ")), in_file));
        }
    }
    run_golden(entry, &models)?;
    let calibration = Calibration::from_manifest(&entry.calibration, entry.weights);
    Ok((id, LoadedProfile { models, calibration, entry: index }))
}

fn check_features(place: &str, id: ProfileId, entry: &ProfileEntry) -> Result<(), BundleError> {
    if entry.features.len() != id.width() {
        return Err(mismatch(place, "the number of features", entry.features.len(), id.width()));
    }
    for (i, (expected, found)) in id.features().iter().zip(&entry.features).enumerate() {
        let place = format!("{place}, feature {i}");
        if found.name != expected.name {
            return Err(mismatch(&place, "the name", &found.name, expected.name));
        }
        if found.transform != expected.transform {
            let (f, e) = (format!("{:?}", found.transform), format!("{:?}", expected.transform));
            return Err(mismatch(&place, "transform", f.to_lowercase(), e.to_lowercase()));
        }
        let u = found.usual;
        for (what, v) in [
            ("mean", found.mean),
            ("std", found.std),
            ("fill", found.fill),
            ("usual.low", u.low),
            ("usual.median", u.median),
            ("usual.high", u.high),
        ] {
            if !v.is_finite() {
                return Err(mismatch(&place, what, v, "a finite number"));
            }
        }
        if found.std <= 0.0 {
            return Err(mismatch(&place, "std", found.std, "a number above 0"));
        }
        if u.low > u.median || u.median > u.high {
            let found = format!("{}, {}, {}", u.low, u.median, u.high);
            return Err(mismatch(&place, "usual", found, "low, median, high in ascending order"));
        }
    }
    Ok(())
}

fn check_calibration(place: &str, entry: &ProfileEntry) -> Result<(), BundleError> {
    if entry.calibration.len() > MAX_ROLES {
        return Err(mismatch(place, "the number of calibrated roles", entry.calibration.len(), "at most 256"));
    }
    let mut roles = BTreeSet::new();
    for c in &entry.calibration {
        let place = format!("{place}, calibration of {}", c.role);
        if !roles.insert(c.role) {
            return Err(mismatch(&place, "the role", "given twice", "once"));
        }
        if c.autoencoder.len() != c.isolation_forest.len() {
            let found = format!("{} and {}", c.autoencoder.len(), c.isolation_forest.len());
            return Err(mismatch(&place, "the number of scores of the two detectors", found, "equal numbers"));
        }
        for (what, scores) in
            [("autoencoder", &c.autoencoder), ("isolation_forest", &c.isolation_forest), ("fused", &c.fused)]
        {
            if scores.is_empty() || scores.len() > MAX_ROLE_ROWS {
                let expected = format!("1 to {MAX_ROLE_ROWS} scores");
                return Err(mismatch(&place, what, format!("{} scores", scores.len()), expected));
            }
            if let Some(v) = scores.iter().find(|v| !v.is_finite()) {
                return Err(mismatch(&place, what, v, "finite numbers"));
            }
            if let Some(w) = scores.windows(2).find(|w| w[0] > w[1]) {
                return Err(mismatch(&place, what, format!("{} before {}", w[0], w[1]), "ascending scores"));
            }
        }
    }
    let w = entry.weights;
    let fine = |v: f64| v > 0.0 && v < 1.0;
    if !fine(w.autoencoder) || !fine(w.isolation_forest) || (w.autoencoder + w.isolation_forest - 1.0).abs() > 1e-6 {
        let found = format!("{} and {}", w.autoencoder, w.isolation_forest);
        return Err(mismatch(place, "weights", found, "two numbers above 0 that sum to 1"));
    }
    if !roles.contains(&Role::All) {
        return Err(mismatch(place, "calibration", "without the role `all`", "one for the role `all`"));
    }
    Ok(())
}

fn check_golden(place: &str, id: ProfileId, entry: &ProfileEntry) -> Result<(), BundleError> {
    if entry.golden.is_empty() || entry.golden.len() > MAX_GOLDEN {
        return Err(mismatch(place, "the number of golden vectors", entry.golden.len(), "1 to 1000"));
    }
    for (i, g) in entry.golden.iter().enumerate() {
        let place = format!("{place}, golden vector {i}");
        if g.features.len() != id.width() {
            return Err(mismatch(&place, "the number of features", g.features.len(), id.width()));
        }
        let scores = [g.autoencoder, g.isolation_forest];
        if let Some(v) = g.features.iter().chain(&scores).find(|v| !v.is_finite()) {
            return Err(mismatch(&place, "a value", v, "finite numbers"));
        }
    }
    Ok(())
}

fn run_golden(entry: &ProfileEntry, models: &ProfileModels) -> Result<(), BundleError> {
    let rows = entry.golden.iter().map(|g| RawRow { features: &g.features, present: g.present });
    let scores = models.run(rows).map_err(|(m, source)| BundleError::Run { file: models.files[m].clone(), source })?;
    for (index, (g, s)) in entry.golden.iter().zip(&scores).enumerate() {
        let pairs = [(g.autoencoder, s.autoencoder), (g.isolation_forest, s.isolation_forest)];
        for (file, (expected, found)) in models.files.iter().zip(pairs) {
            if (expected - found).abs() > GOLDEN_TOLERANCE * expected.abs().max(1e-3) {
                let tolerance = GOLDEN_TOLERANCE;
                return Err(BundleError::Golden { file: file.clone(), index, found, expected, tolerance });
            }
        }
    }
    Ok(())
}
