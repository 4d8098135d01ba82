//! Two bundles over the same traffic: what would be different if the other one served.
//!
//! Both sides are whole pipelines of their own behind the flow table: evidence, standing, policy and a table of decisions, which
//! no kernel ever sees. Both begin with nothing held against anyone when the comparison begins, and are taken as promoted in mode
//! enforce, so that what differs is due to the bundles alone. What people called normal is so for both. Nothing here writes entries or
//! events.
//!
//! Memory: evidence of each side as that of the agent, and [`MAX_SOURCES`] sources that something was decided about.

pub mod challenger;
mod outcome;
pub(crate) mod spread;

use std::collections::{BTreeMap, HashMap, HashSet};

use nix::time::{ClockId, clock_gettime};
use weir_core::addr::Addr;
use weir_core::decisions::{Decisions, Limits};
use weir_core::event::{Anomaly, Event, Mode};
use weir_core::guard::Guard;
use weir_core::policy::PolicyConfig;
use weir_core::profile::ProfileId;
use weir_core::record::{FlowRecord, TimeUs};
use weir_core::role::Role;
use weir_core::suppression::Suppressions;
use weir_core::table::TableConfig;
use weir_core::window::SourceWindow;

use crate::pipeline::{Model, Outcome, Pipeline, PipelineConfig, Scored};
use crate::proto as pb;
use outcome::{Kind, Told, differing};
use spread::Spread;

/// Sources that something was decided about are told apart up to this many.
pub const MAX_SOURCES: usize = 20_000;
/// Differences that a report tells of, what is worst first.
pub const MAX_DIFFERENCES: usize = 100;
/// Sources of flows that a label calls attacks.
const MAX_ATTACKERS: usize = 65_536;

/// What both sides have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    pub window_us: u64,
    /// As the agent has it; promoted and in mode enforce here.
    pub policy: PolicyConfig,
    pub guard: Guard,
    /// What people called normal is held against nobody on either side.
    pub suppressions: Suppressions,
}

/// What one epoch brought. Records are [`crate::pipeline::scorable`].
#[derive(Debug, Default)]
pub struct Epoch {
    pub now: TimeUs,
    pub records: Vec<FlowRecord>,
    pub rows: Vec<SourceWindow>,
    /// The anomalies of records and rows, where A has given them already.
    pub scored: Option<[Vec<Anomaly>; 2]>,
    /// Which of the records a label calls attacks; empty where there are no labels.
    pub attacks: Vec<bool>,
}

impl Epoch {
    /// What a pipeline that serves has scored.
    pub fn of(now: TimeUs, scored: Scored) -> Self {
        Self {
            now,
            records: scored.records,
            rows: scored.rows,
            scored: Some([scored.flows, scored.windows]),
            attacks: Vec::new(),
        }
    }
}

/// One bundle's side.
struct Side {
    model: Model,
    pipeline: Pipeline,
    decisions: Decisions,
    alerts: u64,
    alerts_high: u64,
    drops: u64,
    limits: u64,
    shadows: u64,
    /// Alerts that were not raised because people called normal what they were about.
    suppressed: u64,
    cpu_us: u64,
}

/// See the module.
pub struct Comparison {
    sides: [Side; 2],
    first_us: TimeUs,
    last_us: TimeUs,
    spreads: BTreeMap<&'static str, Spread>,
    told: HashMap<Addr, [Told; 2]>,
    left_out: u64,
    attackers: HashSet<Addr>,
    cpu_us: u64,
}

/// Processor time of this thread, µs.
fn cpu_us() -> u64 {
    let used = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    used.map_or(0, |t| t.tv_sec() as u64 * 1_000_000 + t.tv_nsec() as u64 / 1000)
}

impl Side {
    fn new(model: Model, settings: &Settings) -> Self {
        let mut pipeline = Pipeline::new(PipelineConfig {
            // No packets come this way.
            table: TableConfig { max_flows: 1, ..TableConfig::default() },
            window_us: settings.window_us,
            policy: PolicyConfig { mode: Mode::Enforce, promoted: true, ..settings.policy.clone() },
            next_alert_id: 1,
            drift_seed: 1,
        });
        pipeline.tap = true;
        pipeline.serve(model.clone());
        pipeline.suppressions.follow(&settings.suppressions);
        Self {
            model,
            pipeline,
            decisions: Decisions::new(Limits::default(), settings.guard.clone(), 1),
            alerts: 0,
            alerts_high: 0,
            drops: 0,
            limits: 0,
            shadows: 0,
            suppressed: 0,
            cpu_us: 0,
        }
    }

    fn epoch(
        &mut self,
        now: TimeUs,
        records: Vec<FlowRecord>,
        rows: Vec<SourceWindow>,
        scored: Option<[Vec<Anomaly>; 2]>,
    ) -> Outcome {
        let before = cpu_us();
        self.decisions.expire(now);
        let outcome = self.pipeline.observe(now, records, rows, scored, &self.decisions);
        let suppressed = |e: &&Event| matches!(e, Event::Agent { kind: "suppressed", .. });
        self.suppressed += outcome.events.iter().filter(suppressed).count() as u64;
        self.cpu_us += cpu_us().saturating_sub(before);
        outcome
    }

    /// Carries the verdicts out on paper.
    fn decide(
        &mut self,
        now: TimeUs,
        verdicts: Vec<(Addr, weir_core::policy::Verdict)>,
        each: &mut dyn FnMut(Addr, Told),
    ) {
        for (source, verdict) in verdicts {
            let told = Told::of(now, &verdict);
            if let Some(alert) = &verdict.alert {
                self.alerts += 1;
                self.alerts_high += u64::from(alert.severity == weir_core::event::Severity::High);
            }
            if let Some(new) = verdict.decision {
                let (action, target) = (new.action, new.target);
                // What the guard protects was not decided; what there is no room for is none either.
                if self.decisions.add(new, now).is_ok() {
                    self.decisions.remove_weaker(target, action);
                }
            }
            self.drops += u64::from(told.kind == Kind::Drop);
            self.limits += u64::from(told.kind == Kind::Limit);
            self.shadows += u64::from(told.kind == Kind::Shadow);
            each(source, told);
        }
    }

    fn compared(&self) -> pb::ComparedBundle {
        pb::ComparedBundle {
            id: self.model.bundle.id().to_owned(),
            alerts: self.alerts,
            alerts_high: self.alerts_high,
            drops: self.drops,
            limits: self.limits,
            shadows: self.shadows,
            evidence_sources: self.pipeline.evidence().len() as u64,
            cpu_us: self.cpu_us,
            alert_threshold: self.model.thresholds.alert,
            drop_threshold: self.model.thresholds.drop,
        }
    }

    /// The smallest false-alarm rate that the benign rows of a profile can show.
    fn certified(&self, profile: &str) -> f64 {
        certified(&self.model, profile)
    }
}

/// The smallest false-alarm rate that the benign rows of a profile of a bundle can show.
pub(crate) fn certified(model: &Model, profile: &str) -> f64 {
    let profiles = &model.bundle.manifest().profiles;
    let tables = profiles.iter().filter(|p| p.name == profile).flat_map(|p| &p.calibration);
    tables.filter(|c| c.role == Role::All).map(|c| c.certified_rate()).fold(0.0, f64::max)
}

impl Comparison {
    pub fn new(a: Model, b: Model, settings: &Settings) -> Self {
        Self {
            sides: [Side::new(a, settings), Side::new(b, settings)],
            first_us: 0,
            last_us: 0,
            spreads: BTreeMap::new(),
            told: HashMap::new(),
            left_out: 0,
            attackers: HashSet::new(),
            cpu_us: 0,
        }
    }

    /// Who must never be stopped, from now on.
    pub fn set_guard(&mut self, guard: &Guard) {
        for side in &mut self.sides {
            for allow in guard.allow() {
                // The list was taken whole elsewhere: it is not longer than it may be.
                let _ = side.decisions.allow(allow.clone());
            }
            let gone: Vec<_> = side.decisions.guard().allow().iter().map(|a| a.prefix).collect();
            for prefix in gone.into_iter().filter(|p| !guard.allow().iter().any(|a| a.prefix == *p)) {
                side.decisions.unallow(prefix);
            }
            side.decisions.set_safe(guard.safe().to_vec());
        }
    }

    /// What people call normal, from now on. What was held against whom a change is about counts on neither side, as in the agent.
    pub fn set_suppressions(&mut self, wanted: &Suppressions) {
        for side in &mut self.sides {
            for prefix in side.pipeline.suppressions.follow(wanted) {
                side.pipeline.begin_anew(prefix);
            }
        }
    }

    /// Takes an epoch; the reason where a bundle cannot score it.
    pub fn epoch(&mut self, epoch: Epoch) -> Result<(), String> {
        let before = cpu_us();
        let Epoch { now, records, rows, scored, attacks } = epoch;
        self.first_us = if self.first_us == 0 { now } else { self.first_us.min(now) };
        self.last_us = self.last_us.max(now);
        let wrong: Vec<Addr> = records.iter().zip(&attacks).filter(|(_, a)| **a).map(|(r, _)| r.client).collect();
        for source in wrong {
            if self.attackers.len() < MAX_ATTACKERS {
                self.attackers.insert(source);
            }
        }
        let row_attacks: Vec<bool> = rows.iter().map(|r| self.attackers.contains(&r.source)).collect();
        let [one, other] = &mut self.sides;
        let outcomes = [one.epoch(now, records.clone(), rows.clone(), scored), other.epoch(now, records, rows, None)];
        let mut scored = Vec::with_capacity(2);
        for (side, outcome) in outcomes.into_iter().enumerate() {
            let id = self.sides[side].model.bundle.id();
            if let Some(why) = outcome.failed {
                return Err(format!("bundle {id} cannot score this traffic: {why}"));
            }
            scored.push(outcome.scored.unwrap_or_default());
            let (told, left_out) = (&mut self.told, &mut self.left_out);
            self.sides[side].decide(now, outcome.verdicts, &mut |source, new| {
                if told.len() >= MAX_SOURCES && !told.contains_key(&source) {
                    *left_out += 1;
                    return;
                }
                told.entry(source).or_default()[side].join(new);
            });
        }
        let p = |all: &[Anomaly]| all.iter().map(|a| a.p_value).collect::<Vec<f32>>();
        for (profile, a, b, attacks) in [
            (ProfileId::Core, p(&scored[0].flows), p(&scored[1].flows), &attacks),
            (ProfileId::Source, p(&scored[0].windows), p(&scored[1].windows), &row_attacks),
        ] {
            self.spreads.entry(profile.name()).or_default().add(&a, &b, attacks);
        }
        self.cpu_us += cpu_us().saturating_sub(before);
        Ok(())
    }

    /// Flow records that both have scored.
    pub fn flows(&self) -> u64 {
        self.spreads.get(ProfileId::Core.name()).map_or(0, Spread::rows)
    }

    pub fn cpu_us(&self) -> u64 {
        self.cpu_us
    }

    /// Sources about which the two differ.
    pub fn differing(&self) -> u64 {
        self.told.values().filter(|t| differing(t)).count() as u64
    }

    /// Alerts that suppressions kept from being raised, in words.
    fn suppressed(&self) -> Option<String> {
        let [a, b] = self.sides.each_ref().map(|s| s.suppressed);
        let words =
            || format!("suppressions hold for both: {a} alerts of A and {b} of B were not raised because of them");
        (a + b > 0).then(words)
    }

    pub fn report(&self, over: &str) -> pb::Comparison {
        let profiles = self.spreads.iter().map(|(name, spread)| {
            let certified = [self.sides[0].certified(name), self.sides[1].certified(name)];
            spread.report(name, certified)
        });
        let (sources, differences, more_differences) = outcome::report(&self.told, MAX_DIFFERENCES);
        pb::Comparison {
            over: over.to_owned(),
            first_us: self.first_us,
            last_us: self.last_us,
            a: Some(self.sides[0].compared()),
            b: Some(self.sides[1].compared()),
            profiles: profiles.collect(),
            sources: Some(sources),
            differences,
            more_differences,
            sources_left_out: self.left_out,
            epochs_left_out: 0,
            cpu_us: self.cpu_us,
            notes: self.suppressed().into_iter().collect(),
        }
    }
}
