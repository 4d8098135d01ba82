//! What an epoch's flows and windows are worth: scored, explained, added to the evidence against their sources, and judged.

use weir_core::decisions::Decisions;
use weir_core::event::{Anomaly, Event, Level};
use weir_core::evidence::{Thresholds, surprise};
use weir_core::feature::{core_matrix, source_matrix};
use weir_core::matrix::FeatureMatrix;
use weir_core::policy::{Case, Verdict};
use weir_core::profile::ProfileId;
use weir_core::record::{EndReason, TimeUs};
use weir_core::role::{Direction, Role};
use weir_core::suppression::Seen;
use weir_models::ScoreError;

use super::{ANOMALY_P, Model, Outcome, Pipeline, Scored, flow_event};
use crate::explaining::{self, Rows};
use crate::exported::ACCOUNTABLE;

/// Proven evidence that a source must have at least to count as suspicious, nats: what two windows in a thousand would show.
const SUSPICIOUS: f64 = 5.0;

impl Pipeline {
    /// Scores and judges what the epoch gave.
    pub(super) fn weigh(
        &mut self,
        now: TimeUs,
        scored: Option<[Vec<Anomaly>; 2]>,
        decisions: &Decisions,
        outcome: &mut Outcome,
    ) {
        match self.model.clone() {
            Some(model) => {
                let began = (self.stopwatch)();
                if let Err(e) = self.score(now, &model, scored, outcome) {
                    // Scoring the same rows again would fail again: this epoch goes without.
                    outcome.failed = Some(e.to_string());
                }
                self.count_busy(now, &model.thresholds);
                // Nothing was learned here yet that could have changed since.
                if !model.is_default {
                    self.look_for_drift(now, &model.thresholds, outcome);
                }
                self.judge(now, &model, decisions, outcome);
                let took = &mut outcome.took;
                let all = (self.stopwatch)().saturating_sub(began);
                took.policy = all.saturating_sub(took.features + took.scoring);
            }
            None if self.all_flows => {
                let events = self.out.records.iter().map(|r| flow_event(&self.exported, &self.places, r.clone(), None));
                outcome.events.extend(events);
            }
            None => {}
        }
    }

    fn score(
        &mut self,
        now: TimeUs,
        model: &Model,
        given: Option<[Vec<Anomaly>; 2]>,
        outcome: &mut Outcome,
    ) -> Result<(), ScoreError> {
        let (matrices, [flows, windows]) = match given {
            Some(given) => (None, given),
            None => {
                let (matrices, scored) = self.score_here(now, model, outcome)?;
                (Some(matrices), scored)
            }
        };
        let mut tapped = self.tap.then(Box::<Scored>::default);
        if let Some(t) = &mut tapped {
            (t.records, t.flows) = (self.out.records.clone(), flows.clone());
        }
        for (i, (record, anomaly)) in self.out.records.iter().zip(flows).enumerate() {
            if let Some(gauge) = &mut self.gauge {
                gauge.flow(now, record, &anomaly);
            }
            self.p_values.add(ProfileId::Core, anomaly.role, anomaly.p_value);
            // Nobody answers for a flow of which only a guess says that it was theirs.
            if record.have.has(ACCOUNTABLE) {
                let (source, ports) = (record.client, [record.server_port]);
                let seen = Seen { source, ports: Some(&ports), anomaly: &anomaly, explained_p: ANOMALY_P };
                let silent = surprising(&anomaly) && self.suppressions.covers(&seen, now);
                let evidence = if silent { &mut self.silenced } else { &mut self.evidence };
                evidence.add_flow(now, record, &anomaly);
                if let Some(recorder) = self.recorder.as_mut().filter(|_| silent && !model.is_default) {
                    recorder.leave_out(source);
                }
                if let Some([core, _]) = &matrices {
                    let (p, role) = (anomaly.p_value, anomaly.role);
                    self.drift.flow(now, record, ProfileId::Core, role, p, core.row(i), core.present(i));
                    if let Some(exhibits) = &mut self.exhibits {
                        exhibits.flow(now, record, &anomaly, core, i);
                    }
                }
            }
            if record.proven && record.direction == Direction::In && record.end_reason != EndReason::Checkpoint {
                self.busy.add(now, record.client);
            }
            if self.all_flows || anomaly.p_value <= ANOMALY_P {
                outcome.events.push(flow_event(&self.exported, &self.places, record.clone(), Some(anomaly)));
            }
        }
        if let Some(t) = &mut tapped {
            (t.rows, t.windows) = (self.rows.clone(), windows.clone());
        }
        outcome.scored = tapped;
        for (i, (window, anomaly)) in self.rows.iter().zip(windows).enumerate() {
            if let Some(gauge) = &mut self.gauge {
                gauge.count(now, window.source, &anomaly);
            }
            self.p_values.add(ProfileId::Source, anomaly.role, anomaly.p_value);
            let seen = Seen::window(window, &anomaly, ANOMALY_P);
            let silent = surprising(&anomaly) && self.suppressions.covers(&seen, now);
            let evidence = if silent { &mut self.silenced } else { &mut self.evidence };
            evidence.add_window(now, window, &anomaly);
            if let Some([_, source]) = &matrices {
                self.drift.window(now, window, anomaly.role, anomaly.p_value, source.row(i), source.present(i));
                if let Some(exhibits) = &mut self.exhibits {
                    exhibits.window(now, window, &anomaly, source, i);
                }
            }
            if anomaly.p_value <= ANOMALY_P {
                outcome.events.push(Event::Source {
                    time_us: window.end_us,
                    source: window.source,
                    proven: window.role == Role::SourceProven,
                    flows: window.summary.flows,
                    anomaly,
                });
            }
        }
        Ok(())
    }

    /// Makes the features of this epoch's flows and windows, scores them, and explains those that somebody may read.
    fn score_here(
        &self,
        now: TimeUs,
        model: &Model,
        outcome: &mut Outcome,
    ) -> Result<([FeatureMatrix; 2], [Vec<Anomaly>; 2]), ScoreError> {
        let (records, rows) = (&self.out.records, &self.rows);
        let begun = (self.stopwatch)();
        let matrices = [core_matrix(records), source_matrix(rows)];
        let made = (self.stopwatch)();
        let [core, source] = &matrices;
        let [mut flows, mut windows] = [model.anomalies(core)?, model.anomalies(source)?];
        let mut strange = [
            Rows { matrix: core, anomalies: &mut flows, sources: &|i| records[i].client },
            Rows { matrix: source, anomalies: &mut windows, sources: &|i| rows[i].source },
        ];
        explaining::explain(&model.bundle, &mut strange, |source| self.evidence.values(source, now)[0])?;
        outcome.took.add(flows.len() + windows.len(), [begun, made, (self.stopwatch)()]);
        Ok((matrices, [flows, windows]))
    }

    fn count_busy(&mut self, now: TimeUs, thresholds: &Thresholds) {
        let evidence = &self.evidence;
        // However little is enough for an alert: a busy source shows some surprise now and then.
        let suspicious = (thresholds.alert / 2.0).max(SUSPICIOUS);
        self.busy.advance(now, |source| evidence.values(source, now)[1] > suspicious);
    }

    /// Votes are counted before anybody is judged by what they say.
    fn look_for_drift(&mut self, now: TimeUs, thresholds: &Thresholds, outcome: &mut Outcome) {
        if !self.drift.is_due(now) {
            return;
        }
        let evidence = &self.evidence;
        outcome.drift = self.drift.count(now, |source| evidence.since(source, now, thresholds.alert));
        if !outcome.drift.is_empty() {
            self.policy.suspend(self.drift.bad().collect());
        }
    }

    /// Alerts that were not raised are counted, and told of.
    fn count_suppressed(&mut self, now: TimeUs, thresholds: &Thresholds, outcome: &mut Outcome) {
        for source in self.silenced.take_changed() {
            let [all, proven] = self.silenced.values(source, now);
            if all < thresholds.alert && proven < thresholds.alert {
                continue;
            }
            let Some(s) = self.suppressions.alert(source, now) else { continue };
            let message = format!(
                "{source}: an alert (evidence {all:.1}) was not raised: suppression {} of {}, by {}",
                s.id, s.scope.prefix, s.by
            );
            outcome.events.push(Event::Agent { time_us: now, level: Level::Info, kind: "suppressed", message });
        }
    }

    fn judge(&mut self, now: TimeUs, model: &Model, decisions: &Decisions, outcome: &mut Outcome) {
        let thresholds = &model.thresholds;
        self.count_suppressed(now, thresholds, outcome);
        for source in self.evidence.take_changed() {
            let Some(level) = self.evidence.level(source, now) else { continue };
            if level.all < thresholds.alert && level.proven < thresholds.alert && source.is_v4() {
                continue;
            }
            let net = self.evidence.net_level(source, now);
            let case = Case {
                source,
                level: &level,
                net: net.as_ref(),
                busy_share: self.busy.share(source),
                busy: Some(&self.busy),
                interface: self.places.source(source).map(|name| &**name),
            };
            let verdict = self.policy.judge(now, &case, thresholds, decisions);
            // What a network did as a whole stands in its own sums.
            let own = if source.subject().is_host() { &level } else { net.as_ref().unwrap_or(&level) };
            if own.all >= thresholds.alert {
                outcome.against.push((source, [own.all, own.proven]));
                if let Some(gauge) = &mut self.gauge {
                    gauge.suspect(source, now);
                }
                // What is strange elsewhere may be normal here: that is what is being learned.
                if let Some(recorder) = self.recorder.as_mut().filter(|_| !model.is_default) {
                    recorder.leave_out(source);
                }
            }
            if verdict != Verdict::default() {
                outcome.verdicts.push((source, verdict));
            }
        }
    }
}

/// It would add to the evidence against its source.
fn surprising(anomaly: &Anomaly) -> bool {
    anomaly.actionable && surprise(f64::from(anomaly.p_value)) > 0.0
}
