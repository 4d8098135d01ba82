//! What a bundle is, for people and programs: read, never run.

use std::path::Path;

use weir_core::busy::Carrier;
use weir_core::profile::{ProfileId, Transform};
use weir_models::{
    ACTIONABLE_MIN_ROWS, BundleError, FeatureEntry, FileState, Inspected, ProfileEntry, Provenance, RoleCalibration,
    TrainingSummary,
};

use crate::proto as pb;

/// Reads the bundle in `dir`.
pub fn inspect(dir: &Path) -> Result<pb::BundleDetail, BundleError> {
    Ok(detail(&Inspected::read(dir)?))
}

fn detail(found: &Inspected) -> pb::BundleDetail {
    let m = &found.manifest;
    let p = &m.provenance;
    pb::BundleDetail {
        hash: found.id.clone(),
        bundle_version: m.bundle_version,
        weir_version: p.weir_version.clone(),
        seed: p.seed,
        source: p.source.clone(),
        trained_at_us: p.trained_at_us,
        first_us: p.first_us,
        last_us: p.last_us,
        window_us: p.window_us,
        bytes: found.bytes(),
        corpora: corpora(p),
        evidence: m.evidence.as_ref().map(|e| pb::EvidenceDetail {
            alert: e.alert,
            drop: e.drop,
            allowance: e.allowance.to_vec(),
            budget_per_day: e.budget_per_day,
            certified: e.certified,
            benign_windows: e.benign_windows,
            benign_sources: e.benign_sources,
            strange: e.strange.iter().map(ToString::to_string).collect(),
            note: e.note.clone(),
            carriers: e.carriers.iter().map(carrier).collect(),
        }),
        profiles: m.profiles.iter().enumerate().map(|(i, p)| profile(found, i, p)).collect(),
        unfit: unfit(found),
    }
}

fn carrier(c: &Carrier) -> pb::CarrierDetail {
    pb::CarrierDetail { net: c.net.to_string(), share: c.share }
}

/// The collections of data that a manifest names, with their licences, where its version has them.
fn corpora(p: &Provenance) -> Vec<pb::CorpusDetail> {
    let Ok(all) = serde_json::to_value(p) else { return Vec::new() };
    let named = all["corpora"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
    let detail = |c: &serde_json::Value| pb::CorpusDetail {
        name: text(&c["name"]),
        from: text(&c["from"]),
        licence: text(&c["licence"]),
        rows: c["rows"].as_u64().unwrap_or(0),
    };
    named.iter().map(detail).collect()
}

/// Why an agent could not serve it, as far as that can be seen.
fn unfit(found: &Inspected) -> String {
    let lacks = |p: &ProfileId| !found.manifest.profiles.iter().any(|has| has.name == p.name());
    let lacks: Vec<_> = [ProfileId::Core, ProfileId::Source].into_iter().filter(lacks).map(ProfileId::name).collect();
    if !lacks.is_empty() {
        return format!("it has no profile {}, which an agent scores by", lacks.join(" and no profile "));
    }
    let damaged = found.files.iter().find(|f| f.state != FileState::Matches);
    damaged.map_or_else(String::new, |f| format!("{}: {}", f.file, problem(&f.state)))
}

fn problem(state: &FileState) -> String {
    match state {
        FileState::Matches => String::new(),
        FileState::Differs(found) => format!("it has SHA-256 {found}, which is not the manifest's"),
        FileState::Unreadable(why) => why.clone(),
    }
}

fn profile(found: &Inspected, index: usize, p: &ProfileEntry) -> pb::ProfileDetail {
    let files = found.files.iter().filter(|f| f.profile == index);
    let models = files.map(|f| {
        let entry = if f.detector == "autoencoder" { &p.models.autoencoder } else { &p.models.isolation_forest };
        pb::ModelFile {
            detector: f.detector.to_owned(),
            file: f.file.clone(),
            sha256: entry.sha256.clone(),
            bytes: f.bytes,
            opset: entry.opset,
            problem: problem(&f.state),
        }
    });
    pb::ProfileDetail {
        name: p.name.clone(),
        features: p.features.iter().map(feature).collect(),
        models: models.collect(),
        training: Some(training(&p.training)),
        roles: p.calibration.iter().map(role).collect(),
        golden_vectors: p.golden.len() as u32,
    }
}

fn feature(f: &FeatureEntry) -> pb::FeatureDetail {
    pb::FeatureDetail {
        name: f.name.clone(),
        transform: match f.transform {
            Transform::Identity => "identity",
            Transform::Log1p => "log1p",
        }
        .to_owned(),
        usual_low: f.usual.low,
        usual_median: f.usual.median,
        usual_high: f.usual.high,
    }
}

fn training(t: &TrainingSummary) -> pb::TrainingDetail {
    pb::TrainingDetail {
        rows: t.rows,
        fit_rows: t.fit_rows,
        early_stop_rows: t.early_stop_rows,
        calibration_1_rows: t.calibration_1_rows,
        calibration_2_rows: t.calibration_2_rows,
        fit_duplicates: t.fit_duplicates,
        fit_recurring: t.fit_recurring,
        fit_left_out: t.fit_left_out,
        rows_alone: t.rows_alone,
        epochs: t.epochs,
        early_stop_loss: t.early_stop_loss,
    }
}

fn role(c: &RoleCalibration) -> pb::RoleDetail {
    pb::RoleDetail {
        role: c.role.to_string(),
        calibration_1: c.autoencoder.len() as u64,
        calibration_2: c.fused.len() as u64,
        smallest_rate: c.certified_rate(),
        actionable: c.autoencoder.len().min(c.fused.len()) >= ACTIONABLE_MIN_ROWS,
    }
}
