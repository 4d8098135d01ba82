//! One epoch, from drained statistics to verdicts: the pure parts of weir-core and the models, put together. It does no I/O
//! and reads no clock.

mod weighing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_common::flow::{FlowKey, FlowStats};
use weir_core::addr::{Addr, Prefix};
use weir_core::busy::Busy;
use weir_core::decisions::Decisions;
use weir_core::drift::{Drift, DriftChange, DriftConfig, UsualRange};
use weir_core::event::{Anomaly, Event};
use weir_core::evidence::{Evidence, EvidenceConfig, Thresholds};
use weir_core::home::Home;
use weir_core::matrix::FeatureMatrix;
use weir_core::policy::{Policy, PolicyConfig, Verdict};
use weir_core::profile::ProfileId;
use weir_core::record::{EndReason, FlowRecord, TimeUs};
use weir_core::suppression::Suppressions;
use weir_core::table::{EpochOutput, FlowTable, Part, SeenTwice, TableConfig, Touched};
use weir_core::window::{SourceWindow, SourceWindows, WindowCaps};
use weir_models::{Bundle, ScoreError, Usual};
use weir_source::Observation;

use crate::evidence::gather::Exhibits;
use crate::exported::{Exported, SCORED};
use crate::learn::{Recorder, thresholds_of};
use crate::live::gauge::Gauge;
use crate::metrics::PValues;
use crate::places::Places;
pub use crate::scoring::ANOMALY_P;
use crate::scoring::{anomalies, housekeeping};

/// What scores, and the thresholds that go with it.
#[derive(Clone)]
pub struct Model {
    pub bundle: Arc<Bundle>,
    pub thresholds: Thresholds,
    /// It came with the program and was not learned here.
    pub is_default: bool,
}

impl Model {
    pub fn new(bundle: Bundle) -> Self {
        let thresholds = thresholds_of(&bundle);
        Self { bundle: Arc::new(bundle), thresholds, is_default: false }
    }

    /// The bundle that came with the program.
    pub fn built_in(bundle: Bundle) -> Self {
        Self { is_default: true, ..Self::new(bundle) }
    }

    /// An anomaly for every row, in order, without reasons.
    pub fn anomalies(&self, matrix: &FeatureMatrix) -> Result<Vec<Anomaly>, ScoreError> {
        let mut all = anomalies(&self.bundle, matrix)?;
        all.iter_mut().for_each(|a| a.default_bundle = self.is_default);
        Ok(all)
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
    /// What people said is normal.
    pub suppressions: Suppressions,
    /// What would be held against sources without them.
    silenced: Evidence,
    drift: Drift,
    drift_seed: u64,
    /// End of the epoch before.
    since: TimeUs,
    /// Why this epoch does not hold all that there was, as far as the caller knows.
    pub degraded: Option<String>,
    /// Flows and windows are handed back, to be recorded.
    pub keep: bool,
    /// Where the kernel's flows are seen.
    pub places: Places,
    /// Every flow becomes an event, not only anomalous ones.
    pub all_flows: bool,
    /// What was scored is given in [`Outcome::scored`]: for who compares it with another model's scores.
    pub tap: bool,
    /// What evidence rests on, where that is to be shown.
    pub exhibits: Option<Exhibits>,
    /// What scores are like, where that is to be shown.
    pub gauge: Option<Gauge>,
    /// Since any moment: what [`Outcome::took`] is measured by. Nothing else may depend on it.
    pub stopwatch: fn() -> Duration,
    /// Of everything that was scored.
    pub p_values: PValues,
}

/// How long the parts of an epoch took, and rows that were scored. Times are 0 without a [`Pipeline::stopwatch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Took {
    pub rows: usize,
    pub features: Duration,
    /// With explanations.
    pub scoring: Duration,
    /// Evidence, drift and policy.
    pub policy: Duration,
}

impl Took {
    /// A matrix of so many rows was begun, made and scored at these times.
    fn add(&mut self, rows: usize, [begun, made, scored]: [Duration; 3]) {
        self.rows += rows;
        self.features += made.saturating_sub(begun);
        self.scoring += scored.saturating_sub(made);
    }
}

/// What a model has scored in one epoch: rows, and an anomaly for each, in order.
#[derive(Clone, Debug, Default)]
pub struct Scored {
    pub records: Vec<FlowRecord>,
    pub flows: Vec<Anomaly>,
    pub rows: Vec<SourceWindow>,
    pub windows: Vec<Anomaly>,
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
    /// Where [`Pipeline::tap`] asks for it, and all could be scored.
    pub scored: Option<Box<Scored>>,
    /// Flows and windows of the epoch, where they are to be kept.
    pub kept: Vec<Observation>,
    pub windows: Vec<SourceWindow>,
    /// Sources with evidence that is worth an alert, and what there is over all and over proven flows.
    pub against: Vec<(Addr, [f64; 2])>,
    /// Roles that drifted, or recovered.
    pub drift: Vec<DriftChange>,
    pub took: Took,
    /// End of the epoch before.
    pub since: TimeUs,
    /// Why the epoch does not hold all that there was.
    pub degraded: Option<String>,
}

/// Settings of the pipeline that a restart sets.
#[derive(Clone, Debug)]
pub struct PipelineConfig {
    pub table: TableConfig,
    pub window_us: u64,
    pub policy: PolicyConfig,
    pub next_alert_id: u64,
    /// Nobody should be able to foretell it: see [`DriftConfig::seed`].
    pub drift_seed: u64,
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
            suppressions: Suppressions::default(),
            silenced: silenced(config.window_us, &none),
            drift: Drift::new(DriftConfig::default(), BTreeMap::new()),
            drift_seed: config.drift_seed,
            since: 0,
            degraded: None,
            keep: false,
            places: Places::default(),
            all_flows: false,
            tap: false,
            exhibits: None,
            gauge: None,
            stopwatch: || Duration::ZERO,
            p_values: PValues::default(),
        }
    }

    pub fn live_flows(&self) -> usize {
        self.table.len()
    }
    /// Flows that may be alive at once.
    pub fn max_flows(&self) -> usize {
        self.table.max_flows()
    }
    /// Flows that the packets made, so far.
    pub fn opened(&self) -> u64 {
        self.table.counts().opened
    }
    /// Packets that an interface counted which another had counted, so far.
    pub fn seen_twice(&self) -> SeenTwice {
        self.table.seen_twice()
    }
    /// An interface is gone: its flows belong to whoever counts them next.
    pub fn forget_interface(&mut self, interface: u32) {
        self.table.forget_interface(interface);
        self.places.leave(interface);
    }
    /// No flow is alive and no window open: time alone brings nothing new about anyone.
    pub fn is_quiet(&self) -> bool {
        self.table.is_empty() && self.windows.is_idle()
    }
    /// Nothing waits for a time to come, not even to be counted as usual.
    pub fn is_idle(&self) -> bool {
        self.is_quiet() && self.busy.is_idle()
    }
    /// The flows that had packets in the last epoch, as sources answer for them.
    pub fn touched(&self) -> &[Touched] {
        &self.out.touched
    }
    /// Flows of exporters that told too little to be scored.
    pub fn unscored(&self) -> u64 {
        self.exported.unscored
    }
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }
    /// What serves, where it was learned here or loaded by a person.
    pub fn model(&self) -> Option<&Model> {
        self.model.as_ref().filter(|m| !m.is_default)
    }
    /// What came with the program, where that serves.
    pub fn default_model(&self) -> Option<&Model> {
        self.model.as_ref().filter(|m| m.is_default)
    }
    /// What serves, whatever it is.
    pub fn serving(&self) -> Option<&Model> {
        self.model.as_ref()
    }
    pub fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }
    pub fn drift(&self) -> &Drift {
        &self.drift
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
        self.silenced = silenced(self.window_us, &model.thresholds);
        let calibrated_on = model.thresholds.benign_sources;
        let config = DriftConfig { seed: self.drift_seed, calibrated_on, ..DriftConfig::default() };
        self.drift = Drift::new(config, usual(&model.bundle));
        self.policy.suspend(Vec::new());
        self.busy.set_carriers(model.thresholds.carriers.clone());
        self.exhibits.iter_mut().for_each(Exhibits::clear);
        self.gauge.iter_mut().for_each(Gauge::begin_anew);
        self.model = Some(model);
    }

    /// Takes the model out of service: nothing is scored until the next one.
    pub fn withdraw(&mut self) {
        self.evidence = Evidence::new(EvidenceConfig::new(self.window_us, &Thresholds::uncalibrated()));
        self.model = None;
    }

    /// Share of the sources of a network in what is normal, 0 to 1: [`Busy::share_within`].
    pub fn share_within(&self, net: Prefix) -> f64 {
        self.busy.share_within(net)
    }

    /// A person decided about this source, or it was released: what it did before is no longer held against it.
    pub fn forgive(&mut self, source: Addr) {
        self.evidence.forget(source);
        self.exhibits.iter_mut().for_each(|e| e.forget(source));
    }

    /// A person said what is normal, or took that back: what the sources in there did before counts neither way.
    pub fn begin_anew(&mut self, within: Prefix) {
        self.evidence.forget_all(within);
        self.silenced.forget_all(within);
        self.policy.forget_alerts(within);
    }

    /// Nothing of this source is learned from the recording under way, if there is one.
    pub fn leave_out(&mut self, source: Addr) {
        if let Some(recorder) = &mut self.recorder {
            recorder.leave_out(source);
        }
    }

    /// The flows that are alive, as they stand.
    pub fn live(&self) -> impl Iterator<Item = Touched> {
        self.table.live()
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
        self.epoch_on(drained, &[], exported, end_us, wall_offset_us, decisions)
    }

    /// [`Pipeline::epoch`] where it is told which interface has counted what: see [`FlowTable::epoch_on`].
    pub fn epoch_on(
        &mut self,
        drained: &[(FlowKey, FlowStats)],
        parts: &[Part],
        exported: Vec<Observation>,
        end_us: u64,
        wall_offset_us: i64,
        decisions: &Decisions,
    ) -> Outcome {
        let now = end_us.saturating_add_signed(wall_offset_us);
        let flows = drained.len() + exported.len();
        self.out.clear();
        self.rows.clear();
        self.table.epoch_on(end_us, wall_offset_us, drained, parts, &mut self.out);
        self.places.note(now, self.window_us, &self.out.touched);
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

    /// Takes what another pipeline has made of an epoch that ended at `now`, which must be [`scorable`]. `scored`: the anomalies
    /// of the records and of the rows where this pipeline's model has given them already.
    pub fn observe(
        &mut self,
        now: TimeUs,
        records: Vec<FlowRecord>,
        rows: Vec<SourceWindow>,
        scored: Option<[Vec<Anomaly>; 2]>,
        decisions: &Decisions,
    ) -> Outcome {
        (self.out.records, self.rows) = (records, rows);
        let mut outcome = Outcome { records: self.out.records.len(), ..Outcome::default() };
        self.weigh(now, scored, decisions, &mut outcome);
        outcome
    }

    /// One epoch of flows that a file tells of: `ended` in it, and `begun` in it. They keep their times and what was found
    /// proven; a window holds the flows that began in it, as they ended.
    pub fn told(
        &mut self,
        ended: Vec<FlowRecord>,
        begun: Vec<Touched>,
        end_us: TimeUs,
        decisions: &Decisions,
    ) -> Outcome {
        self.out.clear();
        self.rows.clear();
        let flows = begun.len();
        (self.out.records, self.out.touched) = (ended, begun);
        self.out.touched.retain(|t| !housekeeping(t.client, t.proto, t.client_port, t.server_port));
        self.windows.epoch(end_us, &self.out.touched, &mut self.rows);
        Outcome { flows, ..self.take(end_us, decisions) }
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
        outcome.since = std::mem::replace(&mut self.since, now);
        if outcome.since == 0 || outcome.since > now {
            outcome.since = now.saturating_sub(self.window_us);
        }
        if self.out.evicted > 0 {
            let words = format!("{} flows ended early because the table was full", self.out.evicted);
            self.degraded = Some(self.degraded.take().map_or(words.clone(), |other| format!("{other}; {words}")));
        }
        outcome.degraded = self.degraded.take();
        let plain: Vec<FlowRecord> = self.out.records.extract_if(.., |r| !scorable(r)).collect();
        if self.all_flows {
            outcome.events.extend(plain.iter().map(|r| flow_event(&self.exported, &self.places, r.clone(), None)));
        }
        if let Some(recorder) = &mut self.recorder {
            if outcome.degraded.is_some() {
                recorder.degraded(outcome.since, now);
            }
            recorder.add(now, &self.out.records, &self.rows);
        }
        self.weigh(now, None, decisions, &mut outcome);
        if self.keep {
            let (exported, places) = (&self.exported, &self.places);
            let all = plain.into_iter().chain(self.out.records.drain(..));
            outcome.kept.extend(all.map(|r| {
                let here = places.of(r.seen_at);
                exported.observation(r, here)
            }));
            outcome.windows.append(&mut self.rows);
        }
        self.out.records.clear();
        outcome
    }
}

/// Sources that are told apart of those with something suppressed.
const MAX_SILENCED: usize = 4096;

fn silenced(window_us: u64, thresholds: &Thresholds) -> Evidence {
    Evidence::new(EvidenceConfig { max_sources: MAX_SILENCED, ..EvidenceConfig::new(window_us, thresholds) })
}

/// Whether flows like this are scored at all.
pub fn scorable(r: &FlowRecord) -> bool {
    r.have.has(SCORED) && !housekeeping(r.client, r.proto, r.client_port, r.server_port)
}

/// What the bundle's benign rows looked like.
fn usual(bundle: &Bundle) -> BTreeMap<ProfileId, Vec<UsualRange>> {
    let profiles = bundle.manifest().profiles.iter().filter_map(|p| {
        let range = |u: Usual| UsualRange { low: u.low, median: u.median, high: u.high };
        Some((ProfileId::from_name(&p.name)?, p.features.iter().map(|f| range(f.usual)).collect()))
    });
    profiles.collect()
}

fn flow_event(exported: &Exported, places: &Places, record: FlowRecord, anomaly: Option<Anomaly>) -> Event {
    let seen_at = exported.seen_at(record.flow_id).or_else(|| places.told(record.seen_at).cloned());
    Event::Flow { seen_at, record: Box::new(record), anomaly }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
