//! The rows that models are made of, as files: for whoever fits models elsewhere.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use weir_core::profile::{ProfileId, Transform};
use weir_models::Part;
use weir_source::write::FeatureWriter;

use super::signals;
use crate::learn::{Baseline, Dealt, Rows};

/// A file that was written.
pub struct Written {
    pub profile: ProfileId,
    pub path: PathBuf,
    /// Name of the division of its rows: see [`weir_models::split_id`].
    pub split: String,
    /// Rows by what they are for.
    pub parts: BTreeMap<&'static str, u64>,
}

fn part_name(part: Option<Part>) -> &'static str {
    match part {
        Some(Part::Fit) => "fit",
        Some(Part::EarlyStop) => "early_stop",
        Some(Part::Calibration1) => "calibration_1",
        Some(Part::Calibration2) => "calibration_2",
        // Held back for the thresholds on evidence.
        None => "thresholds",
    }
}

/// Writes `NAME.parquet` for every profile into a folder, each row with what `weir model calibrate` will use it for.
pub fn write(baseline: &Baseline, seed: u64, dir: &Path) -> anyhow::Result<Vec<Written>> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let dealt = baseline.deal(seed)?;
    baseline.profiles.iter().zip(dealt).map(|(rows, dealt)| one(rows, &dealt, seed, dir)).collect()
}

fn one(rows: &Rows, dealt: &Dealt, seed: u64, dir: &Path) -> anyhow::Result<Written> {
    let profile = rows.profile();
    let path = dir.join(format!("{profile}.parquet"));
    let said = || format!("cannot write {}", path.display());
    let file = tempfile::Builder::new()
        .prefix(".weir-")
        .suffix(".tmp")
        // As any new file: the umask takes from it.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(dir)
        .with_context(said)?;
    signals::unfinished(Some(file.path().to_owned()));
    let transforms: Vec<_> = profile.features().iter().map(|f| transform_name(f.transform)).collect();
    let about = [
        ("weir.profile", profile.name().to_owned()),
        ("weir.split", dealt.id.clone()),
        ("weir.seed", seed.to_string()),
        ("weir.transforms", transforms.join(",")),
    ];
    let mut out = FeatureWriter::new(file.as_file().try_clone()?, profile, &about).with_context(said)?;
    let mut parts = BTreeMap::new();
    for (i, (origin, part)) in rows.origins.iter().zip(&dealt.parts).enumerate() {
        let part = part_name(*part);
        *parts.entry(part).or_default() += 1;
        out.write(&rows.matrix, i, part, origin.place.map(|p| p.time_us)).with_context(said)?;
    }
    out.finish().with_context(said)?;
    file.persist(&path).map_err(|e| e.error).with_context(said)?;
    signals::unfinished(None);
    Ok(Written { profile, path, split: dealt.id.clone(), parts })
}

fn transform_name(transform: Transform) -> &'static str {
    match transform {
        Transform::Identity => "identity",
        Transform::Log1p => "log1p",
    }
}
