//! What a decision or an alert rests on, as one document that stands on its own: the rows with their features and scores, the models by
//! their hashes, thresholds and policy. Whoever has the same models can compute the scores again.

pub mod gather;
mod verify;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use weir_core::addr::Addr;
use weir_core::decision::Decision;
use weir_core::event::{Alert, Event};
use weir_core::evidence::Thresholds;
use weir_core::profile::ProfileId;
use weir_core::record::TimeUs;
use weir_core::render::{Context, Rfc3339, eve_flow, json};
use weir_models::Manifest;

use crate::config::Config;
use crate::pipeline::{ANOMALY_P, Model};
use gather::{Exhibit, Shown, What};
pub use verify::{Judged, Refused, Report, judge};

/// What the file says it is.
pub const FORMAT: &str = "weir-evidence";
/// Raised when the meaning of a field changes.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    pub format: String,
    pub version: u32,
    pub weir_version: String,
    /// RFC 3339.
    pub time: String,
    pub source: Addr,
    pub mode: String,
    /// As in the event log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    pub models: Models,
    pub thresholds: Values,
    pub policy: Policy,
    /// In the order of their times.
    pub rows: Vec<Row>,
    /// Rows that were evidence too and are not here.
    pub rows_left_out: u64,
    /// Of the document as it is written, with this field empty. It comes last.
    pub sha256: String,
}

/// Which models scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Models {
    /// The bundle's id, which its contents give.
    pub bundle: String,
    /// It came with the program.
    pub default_bundle: bool,
    pub weir_version: String,
    pub trained_on: String,
    pub profiles: Vec<ProfileModels>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfileModels {
    pub profile: String,
    pub autoencoder_sha256: String,
    pub isolation_forest_sha256: String,
}

/// Nats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Values {
    pub alert: f64,
    pub drop: f64,
    /// Per active window, over all flows and over proven flows.
    pub allowance: [f64; 2],
    pub benign_windows: u64,
    pub benign_sources: u64,
}

/// The configuration that was in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Of the whole configuration as `weir config show` writes it.
    pub config_sha256: String,
    /// What decides, of it.
    pub settings: serde_json::Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// "flow" or "window".
    pub kind: String,
    pub time: String,
    pub source: Addr,
    pub profile: String,
    /// As the row named it.
    pub role: String,
    /// In the order of the profile; null is a missing value.
    pub features: Vec<Feature>,
    pub scores: Scores,
    /// What was strange, in words.
    pub reasons: Vec<String>,
    /// The flow or the window.
    pub record: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    pub name: String,
    pub value: Option<f32>,
}

/// P-values, and whom the row was compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    pub p_value: f32,
    pub autoencoder: f32,
    pub isolation_forest: f32,
    pub compared_with: String,
    pub actionable: bool,
    pub extrapolated: bool,
}

/// What a document is made of.
pub struct Case<'a> {
    pub now: TimeUs,
    pub source: Addr,
    pub mode: &'a str,
    pub alert: Option<&'a Alert>,
    pub decision: Option<&'a Decision>,
    pub model: &'a Model,
    pub config: &'a Config,
    pub shown: Shown,
}

impl Document {
    pub fn new(case: Case<'_>) -> Self {
        let alert = case.alert.map(|a| {
            let event = Event::Alert(Box::new(a.clone()));
            let text = json(&event, &Context { anomaly_p: ANOMALY_P, ..Context::default() });
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        });
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            weir_version: env!("CARGO_PKG_VERSION").to_owned(),
            time: Rfc3339(case.now).to_string(),
            source: case.source,
            mode: case.mode.to_owned(),
            alert,
            decision: case.decision.cloned(),
            models: Models::of(case.model.bundle.id(), case.model.bundle.manifest(), case.model.is_default),
            thresholds: Values::of(&case.model.thresholds),
            policy: Policy::of(case.config),
            rows: case.shown.rows.iter().map(Row::of).collect(),
            rows_left_out: case.shown.left_out,
            sha256: String::new(),
        }
    }

    /// As it is written, with its hash.
    pub fn seal(self) -> String {
        let mut text = serde_json::to_string(&Self { sha256: String::new(), ..self }).unwrap_or_default();
        let hash = sha256(&text);
        text.truncate(text.len().saturating_sub(END.len()));
        text + &hash + END
    }

    /// Whether a text is as it was sealed, byte by byte.
    pub fn is_intact(text: &str) -> bool {
        let text = text.trim_end();
        let Some(head) = text.strip_suffix(END) else { return false };
        let Some((whole, hash)) = head.len().checked_sub(HASH_LEN).and_then(|at| head.split_at_checked(at)) else {
            return false;
        };
        whole.ends_with(FIELD) && sha256(&format!("{whole}{END}")) == hash
    }
}

/// What is before the hash, and behind it.
const FIELD: &str = "\"sha256\":\"";
const END: &str = "\"}";
const HASH_LEN: usize = 64;

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

impl Models {
    pub fn of(id: &str, manifest: &Manifest, default_bundle: bool) -> Self {
        let profiles = manifest.profiles.iter().map(|p| ProfileModels {
            profile: p.name.clone(),
            autoencoder_sha256: p.models.autoencoder.sha256.clone(),
            isolation_forest_sha256: p.models.isolation_forest.sha256.clone(),
        });
        Self {
            bundle: id.to_owned(),
            default_bundle,
            weir_version: manifest.provenance.weir_version.clone(),
            trained_on: manifest.provenance.source.clone(),
            profiles: profiles.collect(),
        }
    }
}

impl Values {
    fn of(t: &Thresholds) -> Self {
        Self {
            alert: t.alert,
            drop: t.drop,
            allowance: t.allowance,
            benign_windows: t.benign_windows,
            benign_sources: t.benign_sources,
        }
    }
}

impl Policy {
    fn of(config: &Config) -> Self {
        // Secrets may stand in other sections: of those the hash alone.
        const DECIDES: [&str; 5] = ["alert_budget_per_day", "default_model", "mode", "policy", "window"];
        let mut settings = match config.to_json() {
            Value::Object(all) => all,
            _ => serde_json::Map::new(),
        };
        settings.retain(|key, _| DECIDES.contains(&key.as_str()));
        Self { config_sha256: sha256(&config.to_yaml()), settings }
    }
}

impl Row {
    fn of(e: &Exhibit) -> Self {
        let names = ProfileId::from_name(e.anomaly.profile).map(ProfileId::features).unwrap_or_default();
        let features = names.iter().zip(&e.features).enumerate().map(|(i, (f, value))| Feature {
            name: f.name.to_owned(),
            value: (e.present & (1 << i) != 0).then_some(*value),
        });
        let (kind, record) = match &e.what {
            What::Flow(r) => ("flow", serde_json::to_value(eve_flow(r, None, &Context::default())).unwrap_or_default()),
            What::Window { start_us, end_us, flows, proven } => (
                "window",
                serde_json::json!({
                    "start": Rfc3339(*start_us), "end": Rfc3339(*end_us), "flows": flows, "proven": proven
                }),
            ),
        };
        Self {
            kind: kind.to_owned(),
            time: Rfc3339(e.time_us).to_string(),
            source: e.source,
            profile: e.anomaly.profile.to_owned(),
            role: e.role.to_string(),
            features: features.collect(),
            scores: Scores {
                p_value: e.anomaly.p_value,
                autoencoder: e.anomaly.autoencoder,
                isolation_forest: e.anomaly.isolation_forest,
                compared_with: e.anomaly.role.to_string(),
                actionable: e.anomaly.actionable,
                extrapolated: e.anomaly.extrapolated,
            },
            reasons: e.anomaly.reasons.iter().map(|r| r.words.clone()).collect(),
            record,
        }
    }
}
