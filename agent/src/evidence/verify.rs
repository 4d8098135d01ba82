//! Computing the scores of a document again.

use std::collections::BTreeMap;

use serde::Serialize;
use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;
use weir_core::role::Role;
use weir_models::Bundle;

use super::{Document, Feature, Models, Row, Scores};

/// Relative difference that other processors and other numbers of rows explain.
const CLOSE: f32 = 1e-3;

/// Why a document cannot be judged by a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(
        "the evidence was scored by bundle {wanted}, and this is bundle {given}: {profile}'s {model} is another one (SHA-256 {given_hash}, \
         not {wanted_hash})"
    )]
    OtherModel {
        wanted: Box<str>,
        given: Box<str>,
        profile: Box<str>,
        model: &'static str,
        given_hash: Box<str>,
        wanted_hash: Box<str>,
    },
    #[error("the evidence was scored by bundle {wanted}, and this is bundle {given}, with other calibration")]
    OtherBundle { wanted: String, given: String },
    #[error("row {row} cannot be scored: {why}")]
    Row { row: usize, why: String },
}

/// One row, told and computed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// From 1.
    pub row: usize,
    pub kind: String,
    pub profile: String,
    pub agrees: bool,
    pub told: Scores,
    pub computed: Scores,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub bundle: String,
    /// The document is as it was sealed.
    pub intact: bool,
    pub rows: Vec<Judged>,
}

impl Report {
    pub fn agrees(&self) -> bool {
        self.intact && self.rows.iter().all(|r| r.agrees)
    }
}

/// Scores every row again. Only the models that the document names will do. `intact`: see [`Document::is_intact`].
pub fn judge(document: &Document, intact: bool, bundle: &Bundle) -> Result<Report, Refused> {
    same_models(&document.models, bundle)?;
    let mut matrices: BTreeMap<ProfileId, (FeatureMatrix, Vec<usize>)> = BTreeMap::new();
    for (n, row) in document.rows.iter().enumerate() {
        let refused = |why: String| Refused::Row { row: n + 1, why };
        let profile = ProfileId::from_name(&row.profile)
            .ok_or_else(|| refused(format!("this version knows no profile `{}`", row.profile)))?;
        let role: Role = row.role.parse().map_err(|_| refused(format!("there is no role `{}`", row.role)))?;
        let values = in_order(profile, &row.features).map_err(refused)?;
        let (matrix, rows) = matrices.entry(profile).or_insert_with(|| (FeatureMatrix::new(profile), Vec::new()));
        matrix.push(&values, role).map_err(|e| refused(e.to_string()))?;
        rows.push(n);
    }
    let mut judged = Vec::with_capacity(document.rows.len());
    for (matrix, rows) in matrices.values() {
        let scored = bundle.score(matrix).map_err(|e| Refused::Row { row: rows[0] + 1, why: e.to_string() })?;
        for (n, s) in rows.iter().zip(scored) {
            let computed = Scores {
                p_value: s.p,
                autoencoder: s.p_autoencoder,
                isolation_forest: s.p_isolation_forest,
                compared_with: s.role.to_string(),
                actionable: s.actionable,
                extrapolated: s.extrapolated,
            };
            let row = &document.rows[*n];
            judged.push(Judged {
                row: n + 1,
                kind: row.kind.clone(),
                profile: row.profile.clone(),
                agrees: agree(row, &computed, steps(bundle, row, s.role)),
                told: row.scores.clone(),
                computed,
            });
        }
    }
    judged.sort_by_key(|j| j.row);
    Ok(Report { bundle: bundle.id().to_owned(), intact, rows: judged })
}

fn same_models(wanted: &Models, bundle: &Bundle) -> Result<(), Refused> {
    let given = Models::of(bundle.id(), bundle.manifest(), wanted.default_bundle);
    for w in &wanted.profiles {
        let other = |model, given_hash: &str, wanted_hash: &str| Refused::OtherModel {
            wanted: wanted.bundle.as_str().into(),
            given: given.bundle.as_str().into(),
            profile: w.profile.as_str().into(),
            model,
            given_hash: given_hash.into(),
            wanted_hash: wanted_hash.into(),
        };
        let Some(g) = given.profiles.iter().find(|g| g.profile == w.profile) else {
            return Err(other("autoencoder", "none", &w.autoencoder_sha256));
        };
        if g.autoencoder_sha256 != w.autoencoder_sha256 {
            return Err(other("autoencoder", &g.autoencoder_sha256, &w.autoencoder_sha256));
        }
        if g.isolation_forest_sha256 != w.isolation_forest_sha256 {
            return Err(other("isolation forest", &g.isolation_forest_sha256, &w.isolation_forest_sha256));
        }
    }
    // The id is a hash of the manifest, and with it of what p-values are calibrated by.
    if given.bundle != wanted.bundle {
        return Err(Refused::OtherBundle { wanted: wanted.bundle.clone(), given: given.bundle });
    }
    Ok(())
}

/// The values as the profile wants them.
fn in_order(profile: ProfileId, told: &[Feature]) -> Result<Vec<Option<f32>>, String> {
    let features = profile.features();
    if told.len() != features.len() {
        return Err(format!("it has {} features, and profile `{profile}` has {}", told.len(), features.len()));
    }
    let find = |name: &str| told.iter().find(|f| f.name == name).ok_or_else(|| format!("feature `{name}` is missing"));
    features.iter().map(|f| find(f.name).map(|f| f.value)).collect()
}

/// By how much each p-value moves when a raw score moves by its last bits: one row of the calibration.
fn steps(bundle: &Bundle, row: &Row, role: Role) -> [f32; 3] {
    let calibration = bundle.manifest().profiles.iter().find(|p| p.name == row.profile);
    let calibration = calibration.and_then(|p| p.calibration.iter().find(|c| c.role == role));
    let one = |rows: usize| 1.0 / (rows + 1) as f32;
    calibration.map_or([0.0; 3], |c| [one(c.fused.len()), one(c.autoencoder.len()), one(c.isolation_forest.len())])
}

fn agree(row: &Row, computed: &Scores, [fused, autoencoder, forest]: [f32; 3]) -> bool {
    let told = &row.scores;
    // A fitted tail has no steps.
    let fused = if told.extrapolated && computed.extrapolated { 0.0 } else { fused };
    let close = |a: f32, b: f32, step: f32| {
        let apart = (a - b).abs();
        apart.is_finite() && (apart <= CLOSE * a.max(b) || apart <= 1.01 * step)
    };
    close(told.p_value, computed.p_value, fused)
        && close(told.autoencoder, computed.autoencoder, autoencoder)
        && close(told.isolation_forest, computed.isolation_forest, forest)
        && (&told.compared_with, told.actionable) == (&computed.compared_with, computed.actionable)
}
