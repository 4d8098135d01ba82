//! Who was alerted about or stopped in a replay: a line each, in the order of time.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use weir_core::decision::{Action, Decision};
use weir_core::event::{Alert, DecisionChange, Event, Severity};
use weir_core::record::TimeUs;
use weir_core::render::{Context, Rfc3339, json};
use weir_core::table::Touched;
use weir_source::Stop;

use super::Watcher;
use crate::scoring::ANOMALY_P;

/// Lines kept; more are counted.
const MOST: usize = 100_000;

/// An alert, and what was done about its source; or a decision that followed an alert of before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    pub timestamp: Rfc3339,
    /// Address or prefix.
    pub source: String,
    /// `alert` (and nothing else), `drop`, `limit` or `shadow`.
    pub action: &'static str,
    pub severity: Option<Severity>,
    /// How long it was decided to hold, extensions included, s; for what ended early, how long it did.
    pub seconds: Option<u64>,
    /// How often it was extended.
    pub extended: u32,
    /// Proven flows alone would have led to it.
    pub proven: bool,
    pub evidence: Option<f64>,
    pub evidence_proven: Option<f64>,
    /// Of the source since its evidence began.
    pub flows: Option<u64>,
    pub since: Option<Rfc3339>,
    pub ports: String,
    /// Packets that the entry met.
    pub packets_met: u64,
    pub reasons: String,
    pub outcome: String,
    /// What was entered.
    #[serde(skip)]
    pub acted: Option<Action>,
    #[serde(skip)]
    decision: Option<u64>,
    #[serde(skip)]
    created_us: TimeUs,
}

impl Line {
    /// Something was entered, not only said.
    pub fn is_entry(&self) -> bool {
        self.decision.is_some()
    }

    /// The decision that was entered.
    pub fn decision(&self) -> Option<u64> {
        self.decision
    }
}

/// Collects lines, and events as JSON where these are wanted.
#[derive(Default)]
pub struct Book {
    pub lines: Vec<Line>,
    /// Lines that found no room.
    pub left_out: u64,
    /// An event each; empty unless wanted.
    pub json: Vec<String>,
    wants_json: bool,
    by_decision: BTreeMap<u64, usize>,
    last_alert: Option<(u64, usize)>,
}

impl Book {
    pub fn new(wants_json: bool) -> Self {
        Self { wants_json, ..Self::default() }
    }

    fn put(&mut self, line: Line) -> Option<usize> {
        if self.lines.len() >= MOST {
            self.left_out += 1;
            return None;
        }
        self.lines.push(line);
        Some(self.lines.len() - 1)
    }

    fn alert(&mut self, a: &Alert) {
        let words: Vec<&str> = a.anomaly.reasons.iter().map(|r| r.words.as_str()).collect();
        let ports: Vec<String> = a.ports.iter().map(u16::to_string).collect();
        let place = self.put(Line {
            timestamp: Rfc3339(a.time_us),
            source: a.source.to_string(),
            action: "alert",
            severity: Some(a.severity),
            seconds: None,
            extended: 0,
            proven: a.evidence_proven >= a.drop_threshold,
            evidence: Some(a.evidence),
            evidence_proven: Some(a.evidence_proven),
            flows: Some(a.flows),
            since: Some(Rfc3339(a.since_us)),
            ports: ports.join(" "),
            packets_met: 0,
            reasons: words.join("; "),
            outcome: a.outcome.clone(),
            acted: None,
            decision: None,
            created_us: a.time_us,
        });
        self.last_alert = place.map(|at| (a.id, at));
    }

    fn added(&mut self, d: &Decision, note: &str) {
        let of_alert = self.last_alert.filter(|(id, at)| {
            let line = self.lines.get(*at);
            d.alert_id == Some(*id) && line.is_some_and(|l| l.created_us == d.created_us && l.decision.is_none())
        });
        let place = of_alert.map(|(_, at)| at).or_else(|| {
            self.put(Line {
                timestamp: Rfc3339(d.created_us),
                source: String::new(),
                action: "",
                severity: None,
                seconds: None,
                extended: 0,
                proven: false,
                evidence: None,
                evidence_proven: None,
                flows: None,
                since: None,
                ports: String::new(),
                packets_met: 0,
                reasons: d.reason.clone(),
                outcome: note.to_owned(),
                acted: None,
                decision: None,
                created_us: d.created_us,
            })
        });
        let Some(line) = place.and_then(|at| self.lines.get_mut(at)) else { return };
        line.source = d.target.to_string();
        line.action = match d.action {
            Action::Drop => "drop",
            Action::Limit => "limit",
            Action::Shadow => "shadow",
        };
        line.proven = d.action == Action::Drop || d.instead_of == Some(Action::Drop);
        line.seconds = lasts(d, None);
        line.acted = Some(d.action);
        line.decision = Some(d.id);
        self.by_decision.extend(place.map(|at| (d.id, at)));
    }

    fn decided(&mut self, now: TimeUs, change: DecisionChange, d: &Decision, note: &str) {
        if change == DecisionChange::Added {
            return self.added(d, note);
        }
        let Some(line) = self.by_decision.get(&d.id).and_then(|at| self.lines.get_mut(*at)) else { return };
        match change {
            DecisionChange::Extended => {
                line.extended += 1;
                line.seconds = lasts(d, None);
            }
            DecisionChange::Expired | DecisionChange::Deleted | DecisionChange::Superseded => {
                line.seconds = lasts(d, Some(now));
            }
            DecisionChange::Added | DecisionChange::Enforced | DecisionChange::Refused => {}
        }
    }

    /// What the entries met in all.
    pub fn met(&mut self, met: &BTreeMap<u64, u64>) {
        for (id, packets) in met {
            if let Some(line) = self.by_decision.get(id).and_then(|at| self.lines.get_mut(*at)) {
                line.packets_met = *packets;
            }
        }
    }

    /// Distinct sources alerted about, and dropped.
    pub fn sources(&self) -> (usize, usize) {
        let distinct = |of: &dyn Fn(&&Line) -> bool| {
            self.lines.iter().filter(of).map(|l| l.source.as_str()).collect::<std::collections::BTreeSet<_>>().len()
        };
        (distinct(&|_| true), distinct(&|l| l.action == "drop"))
    }
}

/// How long a decision holds, or held, s.
fn lasts(d: &Decision, ended_us: Option<TimeUs>) -> Option<u64> {
    let until = match (d.expires_us, ended_us) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    until.map(|until| until.saturating_sub(d.created_us) / 1_000_000)
}

impl Watcher for Book {
    fn began(&mut self, _: TimeUs, _: &Touched, _: Option<&Arc<str>>) {}

    fn happened(&mut self, now: TimeUs, event: Event) -> Result<(), Stop> {
        if matches!(event, Event::Flow { .. } | Event::Hits { .. }) {
            return Ok(());
        }
        if self.wants_json {
            self.json.push(json(&event, &Context { anomaly_p: ANOMALY_P, ..Context::default() }));
        }
        match &event {
            Event::Alert(a) => self.alert(a),
            Event::Decision { change, decision, note, .. } => self.decided(now, *change, decision, note),
            _ => {}
        }
        Ok(())
    }
}
