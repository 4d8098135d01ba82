//! One epoch, from drained statistics to verdicts: the pure parts of weir-core and the models, put together. It does no I/O
//! and reads no clock.

use std::sync::Arc;

use weir_common::flow::{FlowKey, FlowStats};
use weir_core::addr::Addr;
use weir_core::busy::Busy;
use weir_core::decisions::Decisions;
use weir_core::event::{Anomaly, Event};
use weir_core::evidence::{Evidence, EvidenceConfig, Thresholds};
use weir_core::feature::{core_matrix, source_matrix};
use weir_core::home::Home;
use weir_core::policy::{Case, Policy, PolicyConfig, Verdict};
use weir_core::record::{EndReason, FlowRecord, TimeUs};
use weir_core::role::{Direction, Role};
use weir_core::table::{EpochOutput, FlowTable, TableConfig};
use weir_core::window::{SourceWindow, SourceWindows, WindowCaps};
use weir_models::{Bundle, ScoreError};
use weir_source::Observation;

use crate::exported::{ACCOUNTABLE, Exported, SCORED};
use crate::learn::{Recorder, thresholds_of};
pub use crate::scoring::ANOMALY_P;
use crate::scoring::{Explain, anomalies, housekeeping};

/// Explanations per epoch: each takes a run of both models.
const MAX_EXPLAINED: usize = 256;
/// Of these, those told what would have made them no anomaly.
const MAX_UNLESS: usize = 32;

/// What scores, and the thresholds that go with it.
#[derive(Clone)]
pub struct Model {
    pub bundle: Arc<Bundle>,
    pub thresholds: Thresholds,
}

impl Model {
    pub fn new(bundle: Bundle) -> Self {
        let thresholds = thresholds_of(&bundle);
        Self { bundle: Arc::new(bundle), thresholds }
    }
}

pub struct Pipeline {
    table: FlowTable,
    windows: SourceWindows,
    evidence: Evidence,
    busy: Busy,
    pub policy: Policy,
    model: Option<Model>,
    recorder: Option<Recorder>,
    window_us: u64,
    out: EpochOutput,
    exported: Exported,
    rows: Vec<SourceWindow>,
    /// Every flow becomes an event, not only anomalous ones.
    pub all_flows: bool,
}

/// What follows from an epoch, to be carried out by the caller.
#[derive(Debug, Default)]
pub struct Outcome {
    pub events: Vec<Event>,
    pub verdicts: Vec<(Addr, Verdict)>,
    pub flows: usize,
    pub records: usize,
    /// Flows that were ended early because the table was full.
    pub evicted: u64,
    /// A profile could not be scored: with the reason.
    pub failed: Option<String>,
}

/// Settings of the pipeline that a restart sets.
#[derive(Clone, Debug)]
pub struct PipelineConfig {
    pub table: TableConfig,
    pub window_us: u64,
    pub policy: PolicyConfig,
    pub next_alert_id: u64,
}

impl Pipeline {
    pub fn new(config: PipelineConfig) -> Self {
        let none = Thresholds::uncalibrated();
        Self {
            exported: Exported::new(config.table.first_flow_id),
            table: FlowTable::new(config.table),
            windows: SourceWindows::new(config.window_us, WindowCaps::default()),
            evidence: Evidence::new(EvidenceConfig::new(config.window_us, &none)),
            busy: Busy::new(),
            policy: Policy::new(config.policy, config.next_alert_id),
            model: None,
            recorder: None,
            window_us: config.window_us,
            out: EpochOutput::default(),
            rows: Vec::new(),
            all_flows: false,
        }
    }

    pub fn live_flows(&self) -> usize {
        self.table.len()
    }
    /// Flows of exporters that told too little to be scored.
    pub fn unscored(&self) -> u64 {
        self.exported.unscored
    }
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }
    pub fn model(&self) -> Option<&Model> {
        self.model.as_ref()
    }
    pub fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }
    pub fn set_home(&mut self, home: Home) {
        self.table.set_home(home);
    }
    /// Begins a recording; one under way is given up.
    pub fn record(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }
    pub fn take_recorder(&mut self) -> Option<Recorder> {
        self.recorder.take()
    }

    /// Puts a model into service. Evidence by another model's p-values does not count on.
    pub fn serve(&mut self, model: Model) {
        self.evidence = Evidence::new(EvidenceConfig::new(self.window_us, &model.thresholds));
        self.model = Some(model);
    }

    /// A person decided about this source, or it was released: what it did before is no longer held against it.
    pub fn forgive(&mut self, source: Addr) {
        self.evidence.forget(source);
    }

    /// Takes one epoch: what the kernel counted, and what exporters told of until its end. `end_us` is monotonic; wall
    /// times are that plus `wall_offset_us`.
    pub fn epoch(
        &mut self,
        drained: &[(FlowKey, FlowStats)],
        exported: Vec<Observation>,
        end_us: u64,
        wall_offset_us: i64,
        decisions: &Decisions,
    ) -> Outcome {
        let now = end_us.saturating_add_signed(wall_offset_us);
        let flows = drained.len() + exported.len();
        self.out.clear();
        self.rows.clear();
        self.table.epoch(end_us, wall_offset_us, drained.iter().copied(), &mut self.out);
        self.exported.take(exported, now, &mut self.out.records);
        for touched in [&mut self.out.touched, &mut self.exported.touched] {
            touched.retain(|t| !housekeeping(t.client, t.proto, t.client_port, t.server_port));
        }
        self.windows.epoch_with(now, &self.out.touched, &self.exported.touched, &mut self.rows);
        let mut outcome = self.take(now, decisions);
        outcome.flows = flows;
        outcome.evicted = self.out.evicted;
        outcome
    }

    /// The agent stops: what is alive gives its last record, and exporters had their last word.
    pub fn flush(&mut self, exported: Vec<Observation>, now: TimeUs, decisions: &Decisions) -> Outcome {
        self.out.clear();
        self.rows.clear();
        self.table.flush(EndReason::Flushed, &mut self.out);
        self.exported.take(exported, now, &mut self.out.records);
        self.take(now, decisions)
    }

    fn take(&mut self, now: TimeUs, decisions: &Decisions) -> Outcome {
        let mut outcome = Outcome { records: self.out.records.len(), ..Outcome::default() };
        let (plain, scored) = std::mem::take(&mut self.out.records)
            .into_iter()
            .partition(|r| !r.have.has(SCORED) || housekeeping(r.client, r.proto, r.client_port, r.server_port));
        self.out.records = scored;
        if self.all_flows {
            outcome.events.extend(plain.into_iter().map(|r| flow_event(&self.exported, r, None)));
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.add(now, &self.out.records, &self.rows);
        }
        match self.model.clone() {
            Some(model) => {
                if let Err(e) = self.score(now, &model, &mut outcome) {
                    // Scoring the same rows again would fail again: this epoch goes without.
                    outcome.failed = Some(e.to_string());
                }
                self.count_busy(now, &model.thresholds);
                self.judge(now, &model.thresholds, decisions, &mut outcome);
            }
            None if self.all_flows => {
                let events = self.out.records.drain(..).map(|r| flow_event(&self.exported, r, None));
                outcome.events.extend(events);
            }
            None => {}
        }
        outcome
    }

    fn score(&mut self, now: TimeUs, model: &Model, outcome: &mut Outcome) -> Result<(), ScoreError> {
        let core = core_matrix(&self.out.records);
        let mut explain = Explain { up_to: ANOMALY_P, left: MAX_EXPLAINED, unless_left: MAX_UNLESS };
        let scored = anomalies(&model.bundle, &core, &mut explain)?;
        for (record, anomaly) in self.out.records.drain(..).zip(scored) {
            // Nobody answers for a flow of which only a guess says that it was theirs.
            if record.have.has(ACCOUNTABLE) {
                self.evidence.add_flow(now, &record, &anomaly);
            }
            if record.proven && record.direction == Direction::In && record.end_reason != EndReason::Checkpoint {
                self.busy.add(now, record.client);
            }
            if self.all_flows || anomaly.p_value <= ANOMALY_P {
                outcome.events.push(flow_event(&self.exported, record, Some(anomaly)));
            }
        }
        let source = source_matrix(&self.rows);
        let scored = anomalies(&model.bundle, &source, &mut explain)?;
        for (window, anomaly) in self.rows.iter().zip(scored) {
            self.evidence.add_window(now, window, &anomaly);
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

    fn count_busy(&mut self, now: TimeUs, thresholds: &Thresholds) {
        let evidence = &self.evidence;
        let suspicious = thresholds.alert / 2.0;
        self.busy.advance(now, |source| evidence.values(source, now)[1] > suspicious);
    }

    fn judge(&mut self, now: TimeUs, thresholds: &Thresholds, decisions: &Decisions, outcome: &mut Outcome) {
        for source in self.evidence.take_changed() {
            let Some(level) = self.evidence.level(source, now) else { continue };
            if level.all < thresholds.alert && level.proven < thresholds.alert && source.is_v4() {
                continue;
            }
            let net = self.evidence.net_level(source, now);
            let case = Case { source, level: &level, net: net.as_ref(), busy_share: self.busy.share(source) };
            let verdict = self.policy.judge(now, &case, thresholds, decisions);
            if let Some(recorder) = &mut self.recorder
                && level.all >= thresholds.alert
            {
                recorder.leave_out(source);
            }
            if verdict != Verdict::default() {
                outcome.verdicts.push((source, verdict));
            }
        }
    }
}

fn flow_event(exported: &Exported, record: FlowRecord, anomaly: Option<Anomaly>) -> Event {
    Event::Flow { seen_at: exported.seen_at(record.flow_id), record: Box::new(record), anomaly }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
