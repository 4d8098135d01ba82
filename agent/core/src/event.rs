//! The one form in which everything that happens leaves the agent: log, API and page render the same [`Event`].

use std::sync::Arc;

use serde::Serialize;

use crate::addr::Addr;
use crate::decision::{Action, Decision, Target};
use crate::question::{Question, QuestionChange};
use crate::record::{FlowRecord, TimeUs};
use crate::role::Role;

/// One reason of an alert: a feature, how it was and how it usually is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reason {
    pub feature: &'static str,
    /// "distinct ports contacted 47 (usually 1 to 3)".
    pub words: String,
    pub observed: f32,
    pub usual_low: f32,
    pub usual_high: f32,
    /// The usual value that is nearest to the observed one.
    pub nearest_usual: f32,
    /// Share of the anomaly that this feature explains, 0 to 1.
    pub share: f32,
    /// Not empty in the last of an anomaly's reasons, where one was found: the smallest change of one or two features that would
    /// have made it no anomaly; `words` says it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unless: Vec<Otherwise>,
}

/// A feature's value as it would have had to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Otherwise {
    pub feature: &'static str,
    pub value: f32,
}

/// Calibrated result for one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    pub profile: &'static str,
    /// Fused conformal p-value, in (0, 1]. The score is `1 - p_value`.
    pub p_value: f32,
    pub autoencoder: f32,
    pub isolation_forest: f32,
    pub role: Role,
    /// Whether calibration was large enough for the p-value to lead to an action.
    pub actionable: bool,
    /// The p-value lies below what the calibration rows can show, and follows a fitted tail.
    pub extrapolated: bool,
    /// By the bundle that came with the program, not by one that was learned here.
    pub default_bundle: bool,
    pub reasons: Vec<Reason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Low,
    Medium,
    High,
}

impl Severity {
    pub const NAMES: [(&'static str, Severity); 3] =
        [("low", Self::Low), ("medium", Self::Medium), ("high", Self::High)];
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, s)| *s == self).map_or("?", |(n, _)| n)
    }
}

/// A source has gathered enough evidence that a person should know.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub id: u64,
    pub time_us: TimeUs,
    /// The offender, seen from home.
    pub source: Addr,
    pub severity: Severity,
    /// Evidence over all flows, and over proven flows alone.
    pub evidence: f64,
    pub evidence_proven: f64,
    /// The thresholds that were in force.
    pub alert_threshold: f64,
    pub drop_threshold: f64,
    /// The most anomalous observation behind it.
    pub anomaly: Anomaly,
    /// Server ports it went for, most used first (at most 8).
    pub ports: Vec<u16>,
    pub flows: u64,
    /// First flow of the source in the evidence.
    pub since_us: TimeUs,
    /// What is done about it, in words.
    pub outcome: String,
    /// The mode under which it was raised.
    pub mode: Mode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// No entries at all.
    Observe,
    /// Entries count what they would have dropped.
    #[default]
    Shadow,
    /// What people decide is enforced; what the agent would drop it asks about, and counts meanwhile.
    Review,
    Enforce,
}

impl Mode {
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Shadow => "shadow",
            Mode::Review => "review",
            Mode::Enforce => "enforce",
        }
    }

    /// Whether entries stop packets at all, whoever decided them.
    pub const fn enforces(self) -> bool {
        matches!(self, Mode::Review | Mode::Enforce)
    }

    /// How much it may do, the least first.
    pub const fn strength(self) -> u8 {
        self as u8
    }
}

/// What happened to a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionChange {
    Added,
    /// Read back from the kernel.
    Enforced,
    Extended,
    Expired,
    Deleted,
    /// A stronger one on its target took its place.
    Superseded,
    /// Not taken: see the note.
    Refused,
}

impl DecisionChange {
    /// As JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            DecisionChange::Added => "added",
            DecisionChange::Enforced => "enforced",
            DecisionChange::Extended => "extended",
            DecisionChange::Expired => "expired",
            DecisionChange::Deleted => "deleted",
            DecisionChange::Superseded => "superseded",
            DecisionChange::Refused => "refused",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Flow {
        record: Box<FlowRecord>,
        /// The exporter that told of it; `None`: its packets were seen here.
        seen_at: Option<Arc<str>>,
        anomaly: Option<Anomaly>,
    },
    /// One window of one source, only where it is anomalous.
    Source {
        time_us: TimeUs,
        source: Addr,
        proven: bool,
        flows: u64,
        anomaly: Anomaly,
    },
    Alert(Box<Alert>),
    Decision {
        time_us: TimeUs,
        change: DecisionChange,
        decision: Box<Decision>,
        mode: Mode,
        note: String,
    },
    /// First packets that an entry stopped (or, for a shadow entry, would have stopped), and totals as they grow.
    Hits {
        time_us: TimeUs,
        decision_id: u64,
        target: Target,
        action: Action,
        packets: u64,
        bytes: u64,
    },
    /// A person is asked, or what became of that.
    Question {
        time_us: TimeUs,
        change: QuestionChange,
        question: Box<Question>,
        note: String,
    },
    /// Progress of learning, loading, promotion, lost epochs, and other news of the agent itself.
    Agent {
        time_us: TimeUs,
        level: Level,
        kind: &'static str,
        message: String,
    },
}

impl Event {
    /// When it happened: at the end of its epoch.
    pub fn time_us(&self) -> TimeUs {
        match self {
            Event::Flow { record, .. } => record.end_us,
            Event::Alert(a) => a.time_us,
            Event::Source { time_us, .. }
            | Event::Decision { time_us, .. }
            | Event::Hits { time_us, .. }
            | Event::Question { time_us, .. }
            | Event::Agent { time_us, .. } => *time_us,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Info,
    Warning,
    Error,
}
