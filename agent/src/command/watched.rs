//! What the agent has recorded and noticed: the record of flows, alerts, drift.

use serde::{Deserialize, Serialize};
use weir_core::addr::Addr;
use weir_core::drift::{DriftReport, DriftState};
use weir_core::record::TimeUs;

/// The record of flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecordReport {
    pub enabled: bool,
    pub dir: String,
    pub files: u64,
    pub bytes: u64,
    pub max_bytes: u64,
    pub max_age_us: u64,
    /// `None`: nothing is recorded.
    pub oldest_us: Option<TimeUs>,
    pub newest_us: Option<TimeUs>,
    /// What the files hold.
    pub flows: u64,
    pub windows: u64,
    /// Records that were not written since the start.
    pub lost: u64,
    /// Why nothing can be written; empty where it can.
    pub failing: String,
}

/// An alert as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AlertReport {
    pub id: u64,
    pub time_us: TimeUs,
    pub source: Addr,
    /// "low", "medium", "high".
    pub severity: String,
    /// Nats; the thresholds are those that were in force.
    pub evidence: f64,
    pub evidence_proven: f64,
    pub alert_threshold: f64,
    pub drop_threshold: f64,
    /// Of the most anomalous observation behind it.
    pub profile: String,
    pub role: String,
    pub p_value: f32,
    /// Server ports, most used first.
    pub ports: Vec<u16>,
    pub flows: u64,
    /// First flow of the source in the evidence.
    pub since_us: TimeUs,
    /// What was done, in words.
    pub outcome: String,
    pub mode: String,
    /// The most telling first.
    pub reasons: Vec<AlertReason>,
    /// Which change would have kept the observation below the threshold, in words; empty where none is known.
    #[serde(default)]
    pub unless: String,
    /// Evidence from the alert on, as far as it is known.
    #[serde(default)]
    pub history: Vec<EvidencePoint>,
    /// The alert as the event log has it.
    pub json: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AlertReason {
    pub feature: String,
    pub words: String,
    /// Raw values.
    pub observed: f32,
    pub usual_low: f32,
    pub usual_high: f32,
    /// Of the anomaly, 0 to 1.
    pub share: f32,
    /// With its unit; empty where what was observed is usual.
    #[serde(default)]
    pub nearest_usual: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvidencePoint {
    pub time_us: TimeUs,
    /// Over all and over proven flows, nats.
    pub all: f64,
    pub proven: f64,
}

/// Whether what is seen is still what the bundle was calibrated on.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DriftStatus {
    /// `None`: none serves.
    pub bundle: Option<String>,
    pub roles: Vec<RoleDriftReport>,
    pub features: Vec<FeatureDriftReport>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RoleDriftReport {
    pub profile: String,
    pub role: String,
    /// "unknown", "fine", "bad".
    pub state: String,
    pub voters: u64,
    pub withheld: u64,
    pub effect: f64,
    /// From this effect on it is drift.
    pub too_much: f64,
    pub at_5_percent: f64,
    pub leads_to_drops: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FeatureDriftReport {
    pub profile: String,
    pub feature: String,
    pub words: String,
    pub moved: bool,
    pub voters: u64,
    pub below_usual: f64,
    pub above_usual: f64,
    pub below_median: f64,
    pub above_median: f64,
    pub effect: f64,
}

impl DriftStatus {
    pub fn new(bundle: Option<String>, drift: &DriftReport) -> Self {
        let state = |s: DriftState| match s {
            DriftState::Unknown => "unknown",
            DriftState::Fine => "fine",
            DriftState::Bad => "bad",
        };
        let roles = drift.roles.iter().map(|r| RoleDriftReport {
            profile: r.place.profile.name().to_owned(),
            role: r.place.role.to_string(),
            state: state(r.state).to_owned(),
            voters: r.voters,
            withheld: r.withheld,
            effect: r.effect,
            at_5_percent: r.at_5_percent,
            too_much: r.too_much,
            leads_to_drops: r.leads_to_drops,
        });
        let features = drift.features.iter().map(|f| FeatureDriftReport {
            profile: f.profile.to_owned(),
            feature: f.feature.to_owned(),
            words: f.words.to_owned(),
            moved: f.moved,
            voters: f.voters,
            below_usual: f.below_usual,
            above_usual: f.above_usual,
            below_median: f.below_median,
            above_median: f.above_median,
            effect: f.effect,
        });
        Self { bundle, roles: roles.collect(), features: features.collect() }
    }
}
