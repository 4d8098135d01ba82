//! Alerts that can be looked up, and drift.

use std::collections::BTreeSet;

use weir_core::addr::{Addr, Prefix};
use weir_core::drift::Place;
use weir_core::event::{Alert, Event, Level, Reason};
use weir_core::profile::ProfileId;
use weir_core::record::TimeUs;
use weir_core::render::{Context, json};
use weir_models::amount;

use super::Agent;
use crate::command::{AlertReason, AlertReport, CommandError, DriftStatus, Reply};
use crate::pipeline::{ANOMALY_P, Outcome};
use crate::store::{MAX_ALERTS, read};

/// What chooses which sources are looked at for drift: different at each start.
pub(super) fn drift_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// Whether a reason names a change that would have made the observation none.
fn says_unless(r: &Reason) -> bool {
    let unless = serde_json::to_value(r).ok().and_then(|v| Some(!v.get("unless")?.as_array()?.is_empty()));
    unless.unwrap_or(false)
}

/// As it is kept.
pub(super) fn kept(a: &Alert) -> AlertReport {
    let event = Event::Alert(Box::new(a.clone()));
    let profile = ProfileId::from_name(a.anomaly.profile);
    // The reason that says what would have made it none is no reason for it.
    let (unless, reasons): (Vec<&Reason>, Vec<&Reason>) = a.anomaly.reasons.iter().partition(|r| says_unless(r));
    let reasons = reasons.into_iter().map(|r| {
        let feature = profile.and_then(|p| p.features().iter().find(|f| f.name == r.feature));
        let nearest = r.observed.clamp(r.usual_low.min(r.usual_high), r.usual_high.max(r.usual_low));
        AlertReason {
            feature: r.feature.to_owned(),
            words: r.words.clone(),
            observed: r.observed,
            usual_low: r.usual_low,
            usual_high: r.usual_high,
            share: r.share,
            nearest_usual: feature.filter(|_| nearest != r.observed).map(|f| amount(f, nearest)).unwrap_or_default(),
        }
    });
    AlertReport {
        id: a.id,
        time_us: a.time_us,
        source: a.source,
        severity: a.severity.name().to_owned(),
        evidence: a.evidence,
        evidence_proven: a.evidence_proven,
        alert_threshold: a.alert_threshold,
        drop_threshold: a.drop_threshold,
        profile: a.anomaly.profile.to_owned(),
        role: a.anomaly.role.to_string(),
        p_value: a.anomaly.p_value,
        ports: a.ports.clone(),
        flows: a.flows,
        since_us: a.since_us,
        outcome: a.outcome.clone(),
        mode: a.mode.name().to_owned(),
        reasons: reasons.collect(),
        unless: unless.first().map(|r| r.words.clone()).unwrap_or_default(),
        history: Vec::new(),
        json: json(&event, &Context { anomaly_p: ANOMALY_P, ..Context::default() }),
    }
}

impl Agent {
    pub(super) fn keep_alert(&mut self, alert: &Alert) {
        self.alerts.push(kept(alert));
    }

    pub(super) fn note_evidence(&mut self, now: TimeUs, against: &[(Addr, [f64; 2])]) {
        for (source, values) in against {
            self.alerts.note(*source, now, *values);
        }
    }

    /// From memory as far as that goes: also a store that cannot be read keeps nobody from seeing the last ones.
    pub(super) fn list_alerts(
        &self,
        within: Option<Prefix>,
        since_us: TimeUs,
        limit: usize,
        reply: Reply<Vec<AlertReport>>,
    ) {
        let (last, more) = self.alerts.list(within, since_us, limit);
        if !more {
            return drop(reply.send(Ok(last)));
        }
        self.store.journal().ask(move |db| {
            let all = db.and_then(|db| read::alerts(db, within, since_us, limit).map_err(|e| e.to_string()));
            let all = all.unwrap_or_else(|why| {
                log::warn!("alerts of before cannot be read: {why}");
                last
            });
            drop(reply.send(Ok(all)));
        });
    }

    /// One of the last, which are in memory.
    pub(super) fn alert_at_hand(&self, id: u64) -> Result<AlertReport, CommandError> {
        let none = || {
            CommandError::NotFound(format!(
                "there is no alert {id} among the last; `weir alerts list` shows what is kept, and the last {MAX_ALERTS} can be answered"
            ))
        };
        self.alerts.get(id).cloned().ok_or_else(none)
    }

    pub(super) fn get_alert(&self, id: u64, reply: Reply<AlertReport>) {
        let none = match self.alerts.numbers() {
            None => format!("there is no alert {id}: none was raised yet"),
            Some((_, last)) => {
                format!("there is no alert {id}; the last one is {last}, and `weir alerts list` shows what is kept")
            }
        };
        match self.alerts.get(id) {
            Some(alert) => drop(reply.send(Ok(alert.clone()))),
            None if self.alerts.may_be_stored(id) => {
                self.ask_store(reply, move |db| Ok(read::get_alert(db, id)?.ok_or(CommandError::NotFound(none))))
            }
            None => drop(reply.send(Err(CommandError::NotFound(none)))),
        }
    }

    /// Tells of roles that drifted, and of those that are fine again; also where a new model ended it.
    pub(super) fn tell_of_drift(&mut self, now: TimeUs, outcome: &Outcome) {
        let bad: BTreeSet<Place> = self.pipeline.drift().bad().collect();
        if bad == self.drifted {
            return;
        }
        for change in &outcome.drift {
            let level = if change.bad { Level::Warning } else { Level::Info };
            self.news(now, level, "drift", change.words.clone());
        }
        let told = |place: &Place| outcome.drift.iter().any(|c| c.place == *place);
        let gone: Vec<Place> = self.drifted.difference(&bad).filter(|p| !told(p)).copied().collect();
        for place in gone {
            self.news(now, Level::Info, "drift", format!("role {place} begins anew: another model serves"));
        }
        self.drifted = bad;
        self.warnings.remove("model drift");
        if self.drifted.is_empty() {
            return;
        }
        let roles: Vec<String> = self.drifted.iter().map(Place::to_string).collect();
        let message = format!(
            "what is normal has drifted in {}: no new automatic drops by {}; see `weir model drift`, and learn anew with \
             `weir learn`",
            roles.join(", "),
            if roles.len() == 1 { "it" } else { "them" }
        );
        // Each role was told of already.
        self.warnings.insert("model drift", message);
    }

    pub(super) fn drift_status(&self) -> DriftStatus {
        let bundle = self.pipeline.model().map(|m| m.bundle.id().to_owned());
        DriftStatus::new(bundle, self.pipeline.drift().report())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::event::{Anomaly, Mode, Severity};
    use weir_core::role::Role;

    #[test]
    fn a_kept_alert_has_the_nearest_usual_values_and_the_object_of_the_event_log() {
        let reason = |feature, observed| Reason {
            feature,
            words: "in words".into(),
            observed,
            usual_low: 1.0,
            usual_high: 1500.0,
            nearest_usual: 1500.0,
            share: 0.5,
            unless: Vec::new(),
        };
        let alert = Alert {
            id: 7,
            time_us: 1_700_000_000_000_000,
            source: "203.0.113.66".parse().unwrap(),
            severity: Severity::High,
            evidence: 20.0,
            evidence_proven: 16.0,
            alert_threshold: 10.0,
            drop_threshold: 15.0,
            anomaly: Anomaly {
                profile: "source",
                p_value: 0.001,
                autoencoder: 0.002,
                isolation_forest: 0.001,
                role: Role::SourceProven,
                actionable: true,
                extrapolated: false,
                default_bundle: false,
                reasons: vec![reason("bytes_mean", 4e6), reason("ports", 47.0)],
            },
            ports: vec![22],
            flows: 31,
            since_us: 1_699_999_940_000_000,
            outcome: "blocked for 1h".into(),
            mode: Mode::Enforce,
        };
        let kept = kept(&alert);
        assert_eq!(
            (kept.severity.as_str(), kept.role.as_str(), kept.mode.as_str()),
            ("high", "source-proven", "enforce")
        );
        let nearest: Vec<&str> = kept.reasons.iter().map(|r| r.nearest_usual.as_str()).collect();
        assert_eq!(nearest, ["1.5 kB", ""], "what was observed is usual where there is none nearer");
        let object: serde_json::Value = serde_json::from_str(&kept.json).unwrap();
        assert_eq!((&object["event_type"], &object["alert"]["id"]), (&"alert".into(), &7.into()));
        assert_eq!(kept.unless, "");
    }
}
