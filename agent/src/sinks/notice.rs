//! What a sink sends: an event with what receivers ask about it, and its form in the queue.

use serde::{Deserialize, Serialize};
use weir_core::decision::Action;
use weir_core::event::{DecisionChange, Event, Level, Severity};
use weir_core::question::QuestionChange;
use weir_core::record::TimeUs;

use crate::sink::Render;

/// Kinds of events, as `event_type` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Flow,
    Source,
    Alert,
    Decision,
    Hits,
    Question,
    Agent,
}

impl Kind {
    pub const ALL: &[(&str, Kind)] = &[
        ("flow", Kind::Flow),
        ("source", Kind::Source),
        ("alert", Kind::Alert),
        ("decision", Kind::Decision),
        ("hits", Kind::Hits),
        ("question", Kind::Question),
        ("agent", Kind::Agent),
    ];
    /// What people are told of where a sink names no kinds.
    pub const USUAL: &[Kind] = &[Kind::Alert, Kind::Decision, Kind::Question, Kind::Agent];

    pub fn of(event: &Event) -> Kind {
        match event {
            Event::Flow { .. } => Kind::Flow,
            Event::Source { .. } => Kind::Source,
            Event::Alert(_) => Kind::Alert,
            Event::Decision { .. } => Kind::Decision,
            Event::Hits { .. } => Kind::Hits,
            Event::Question { .. } => Kind::Question,
            Event::Agent { .. } => Kind::Agent,
        }
    }

    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }

    /// As one bit, for sets of kinds.
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// How much an event matters, whatever its kind: alerts say so themselves; a decision that stops packets and a question to a person are
/// medium; errors of the agent are high and its warnings medium; everything else is low.
pub fn severity(event: &Event) -> Severity {
    match event {
        Event::Alert(a) => a.severity,
        Event::Decision { change: DecisionChange::Added | DecisionChange::Refused, decision, .. }
            if decision.action != Action::Shadow =>
        {
            Severity::Medium
        }
        Event::Question { change: QuestionChange::Asked, .. } => Severity::Medium,
        Event::Agent { level: Level::Error, .. } => Severity::High,
        Event::Agent { level: Level::Warning, .. } => Severity::Medium,
        _ => Severity::Low,
    }
}

/// `kind` of the events that a test of a sink sends.
pub const TEST: &str = "sink_test";

#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    pub head: Head,
    /// One line for a person, without control characters.
    pub line: String,
    /// One JSON object, without line breaks.
    pub event: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    pub time_us: TimeUs,
    pub kind: Kind,
    #[serde(with = "severity_word")]
    pub severity: Severity,
    /// Whom it is about: an address, a prefix, or nobody.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// What it is about, the same whenever it happens again.
    pub reason: String,
    /// It stands for so many more of the same source and reason that were not sent.
    #[serde(default)]
    pub repeated: u64,
}

mod severity_word {
    use serde::{Deserialize, Deserializer, Serializer};
    use weir_core::event::Severity;

    pub fn serialize<S: Serializer>(s: &Severity, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(s.name())
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Severity, D::Error> {
        let word = String::deserialize(from)?;
        Ok(Severity::NAMES.into_iter().find(|(name, _)| *name == word).map_or(Severity::Low, |(_, s)| s))
    }
}

impl Notice {
    pub fn new(event: &Event, render: &dyn Render) -> Self {
        let (source, reason) = about(event);
        let head = Head {
            time_us: event.time_us(),
            kind: Kind::of(event),
            severity: severity(event),
            source,
            reason,
            repeated: 0,
        };
        Self { head, line: render.line(event), event: render.json(event) }
    }

    /// The same, standing for `n` more that were not sent.
    pub fn repeated(mut self, n: u64) -> Self {
        self.head.repeated = n;
        self.line += &format!(" (and {n} more of the same)");
        if let Some(open) = self.event.strip_suffix('}') {
            self.event = format!("{open},\"repeated\":{n}}}");
        }
        self
    }

    /// Source and reason, as one.
    pub fn key(&self) -> String {
        format!("{}\n{}\n{}", self.head.kind.name(), self.head.source, self.head.reason)
    }

    /// The bytes that stand in the queue.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = serde_json::to_vec(&self.head).expect("a head is plain fields");
        for part in [&self.line, &self.event] {
            out.push(b'\n');
            // Neither has a line break; one that had would take the parts apart wrongly.
            out.extend(part.bytes().map(|b| if b == b'\n' { b' ' } else { b }));
        }
        out
    }

    /// `None`: no notice of a version that is known.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, rest) = text.split_once('\n')?;
        let (line, event) = rest.split_once('\n')?;
        Some(Self { head: serde_json::from_str(head).ok()?, line: line.to_owned(), event: event.to_owned() })
    }
}

/// Whom an event is about, and what.
fn about(event: &Event) -> (String, String) {
    match event {
        Event::Flow { record, .. } => {
            (record.client.to_string(), format!("flow to {} {}", record.server, record.server_port))
        }
        Event::Source { source, anomaly, .. } => (source.to_string(), main_feature(anomaly)),
        Event::Alert(a) => (a.source.to_string(), main_feature(&a.anomaly)),
        Event::Decision { change, decision, .. } => {
            (decision.target.to_string(), format!("decision {} {:?}", change.name(), decision.action).to_lowercase())
        }
        Event::Hits { decision_id, target, .. } => (target.to_string(), format!("hits of decision {decision_id}")),
        Event::Question { change, question, .. } => {
            (question.source.to_string(), format!("question {} {}", question.id, change.name()))
        }
        Event::Agent { kind, message, .. } => (String::new(), format!("{kind}: {message}")),
    }
}

/// The feature that explains most: its values differ each time, its name does not.
fn main_feature(a: &weir_core::event::Anomaly) -> String {
    a.reasons.first().map_or_else(|| "anomaly".to_owned(), |r| r.feature.to_owned())
}
