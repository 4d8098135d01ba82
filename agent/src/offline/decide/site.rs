//! An agent without a kernel and a clock: the same pipeline, policy and decisions, driven by the times of what is replayed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use weir_common::flow::{A_TO_B, B_TO_A, FlowKey, FlowStats};
use weir_core::addr::Addr;
use weir_core::decision::{Action, Flow};
use weir_core::decisions::{Decisions, Limits};
use weir_core::event::Event;
use weir_core::guard::{Allow, Guard, Safe};
use weir_core::policy::{PolicyConfig, Verdict};
use weir_core::record::{FlowRecord, TimeUs};
use weir_core::table::{TableConfig, Touched};

use super::entries::{Entries, Ledger};
use crate::deciding::{self, Acted, Moment};
use crate::pipeline::{Model, Outcome, Pipeline, PipelineConfig};

/// Length of an epoch, µs: that of the agent, unless it is configured otherwise.
pub const EPOCH_US: u64 = 1_000_000;

/// What an agent would be told by its configuration.
#[derive(Clone)]
pub struct Settings {
    pub table: TableConfig,
    pub policy: PolicyConfig,
    pub allow: Vec<Allow>,
    pub safe: Vec<Safe>,
    pub max_decisions: usize,
}

/// Packets that each decision met, by its number.
pub type Met = BTreeMap<u64, u64>;

/// What the rules came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// How often each rule matched; behind the last, how often none did.
    pub matches: Vec<u64>,
    /// Alerts by the rule that matched.
    pub alerts: Vec<u64>,
    /// Sources that a person would have been asked about, each with the rule, at most [`MAX_ASKED`].
    pub asked: BTreeSet<(usize, Addr)>,
    /// The rule that led to a decision.
    pub rule_of: BTreeMap<u64, usize>,
}

/// Questions that are told apart.
pub const MAX_ASKED: usize = 100_000;

impl Judged {
    fn add(&mut self, rules: usize, source: Addr, v: &Verdict) -> usize {
        let rule = v.rule.unwrap_or(rules);
        self.matches.resize(rules + 1, 0);
        self.alerts.resize(rules + 1, 0);
        self.matches[rule] += 1;
        self.alerts[rule] += u64::from(v.alert.is_some());
        if v.question.is_some() && self.asked.len() < MAX_ASKED {
            self.asked.insert((rule, source));
        }
        rule
    }

    /// Takes what another timeline came to.
    pub fn join(&mut self, other: Judged) {
        for (all, more) in [(&mut self.matches, other.matches), (&mut self.alerts, other.alerts)] {
            all.resize(all.len().max(more.len()), 0);
            all.iter_mut().zip(more).for_each(|(a, b)| *a += b);
        }
        self.asked.extend(other.asked);
        self.rule_of.extend(other.rule_of);
    }
}

pub struct Site {
    pub pipeline: Pipeline,
    decisions: Decisions,
    /// End of the last epoch; 0: there was none.
    pub now_us: TimeUs,
    /// Epochs that could not be scored, with the last reason.
    pub failed: Option<(u64, String)>,
    /// What each decision met in all.
    pub met: Met,
    pub judged: Judged,
    pub ledger: Ledger,
    /// In force since the end of the last epoch.
    pub entries: Entries,
    rules: usize,
}

impl Site {
    /// `first_ids` are the numbers that flows and alerts begin with, and decisions.
    pub fn new(settings: &Settings, model: Model, first_flow_id: u64, first_ids: [u64; 2]) -> Self {
        let window_us = model.bundle.manifest().provenance.window_us;
        let mut pipeline = Pipeline::new(PipelineConfig {
            table: TableConfig { first_flow_id, ..settings.table.clone() },
            window_us,
            policy: settings.policy.clone(),
            next_alert_id: first_ids[0],
            drift_seed: 1,
        });
        pipeline.serve(model);
        let guard = Guard::new(settings.allow.clone(), settings.safe.clone());
        let limits = Limits { max: settings.max_decisions, ..Limits::default() };
        Self {
            pipeline,
            decisions: Decisions::new(limits, guard, first_ids[1]),
            now_us: 0,
            failed: None,
            met: Met::new(),
            judged: Judged::default(),
            ledger: Ledger::default(),
            entries: Entries::default(),
            rules: settings.policy.rules_in_force().len(),
        }
    }

    pub fn next_ids(&self) -> [u64; 2] {
        [self.pipeline.policy.next_alert_id(), self.decisions.next_id()]
    }

    /// Decisions that hold.
    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// An epoch of packets that ends at `end_us`.
    pub fn packets(&mut self, end_us: TimeUs, drained: &[(FlowKey, FlowStats)]) -> Vec<Event> {
        let (passing, met) = self.filter(end_us, drained);
        let outcome = self.pipeline.epoch(&passing, Vec::new(), end_us, 0, &self.decisions);
        self.carry_out(end_us, outcome, met)
    }

    /// An epoch of flows that a file tells of: those that ended and those that began in it.
    pub fn told(&mut self, end_us: TimeUs, ended: Vec<FlowRecord>, begun: Vec<Touched>, met: Met) -> Vec<Event> {
        let outcome = self.pipeline.told(ended, begun, end_us, &self.decisions);
        self.carry_out(end_us, outcome, met)
    }

    /// Time passes without packets, until `until_us` (not included): flows, windows and decisions end at their time. Where
    /// nothing waits any more, it is passed over.
    pub fn pass(&mut self, until_us: TimeUs, told: &mut dyn FnMut(Vec<Event>)) {
        while self.now_us > 0 && self.now_us.saturating_add(EPOCH_US) < until_us {
            let mut next = self.now_us + EPOCH_US;
            if self.pipeline.is_idle() {
                let ends = self.decisions.iter().filter_map(|d| d.expires_us).min();
                let due = ends.map(|at| at.div_ceil(EPOCH_US) * EPOCH_US).filter(|at| *at < until_us);
                let Some(due) = due else { return };
                next = next.max(due);
            }
            told(self.packets(next, &[]));
        }
    }

    /// The input has ended: what it began is followed to its end, as long as that takes.
    pub fn finish(&mut self, told: &mut dyn FnMut(Vec<Event>)) {
        /// Longer than any timeout of a flow is worth waiting for.
        const MOST: u64 = 86_400;
        for _ in 0..MOST {
            if self.now_us == 0 || self.pipeline.is_quiet() {
                return;
            }
            told(self.packets(self.now_us + EPOCH_US, &[]));
        }
    }

    /// As the agent does it at the end of an epoch.
    fn carry_out(&mut self, now: TimeUs, outcome: Outcome, met: Met) -> Vec<Event> {
        self.now_us = now;
        if let Some(why) = outcome.failed {
            let n = self.failed.as_ref().map_or(0, |(n, _)| *n);
            self.failed = Some((n + 1, why));
        }
        let at = Moment { now, mode: self.pipeline.policy.config().effective_mode() };
        let mut events = Vec::new();
        events.extend(outcome.events.into_iter().filter(|e| matches!(e, Event::Source { .. })));
        let mut follow = |acted: Acted| events.extend(acted.events);
        for (source, verdict) in outcome.verdicts {
            let rule = self.judged.add(self.rules, source, &verdict);
            let acted = deciding::act(&mut self.decisions, at, source, verdict);
            self.judged.rule_of.extend(acted.new.iter().map(|id| (*id, rule)));
            follow(acted);
        }
        follow(deciding::expire(&mut self.decisions, at));
        for (id, packets) in met {
            *self.met.entry(id).or_default() += packets;
            follow(deciding::met(&mut self.decisions, at, id, packets));
        }
        self.entries = Entries::of(&self.decisions, now);
        events
    }

    /// What the entries in force leave of an epoch's packets, and what they met. With the packets of a blocked address, its
    /// whole flow is gone: nobody would have answered.
    fn filter<'d>(
        &mut self,
        end_us: TimeUs,
        drained: &'d [(FlowKey, FlowStats)],
    ) -> (Cow<'d, [(FlowKey, FlowStats)]>, Met) {
        let mut met = Met::new();
        if self.entries.is_empty() || drained.is_empty() {
            return (Cow::Borrowed(drained), met);
        }
        let mut stopped = vec![false; drained.len()];
        for ((key, stats), stopped) in drained.iter().zip(&mut stopped) {
            let both = stats.dir.iter().all(|d| d.packets > 0);
            let [remote, ours] = [key.addr_a, key.addr_b].map(Addr);
            let from_a = Flow { proto: key.proto, remote, remote_port: key.port_a, ours, port: key.port_b };
            for (flow, dir) in [(from_a, A_TO_B), (from_a.reversed(), B_TO_A)] {
                let sent = &stats.dir[dir];
                let entry = self.entries.on(&flow).filter(|_| sent.packets > 0);
                if let Some(e) = entry {
                    *met.entry(e.id).or_default() += sent.packets;
                    *stopped |= e.action == Action::Drop;
                    self.ledger.packets(e, key, [sent.packets, sent.bytes], both, end_us);
                }
            }
        }
        let passing = drained.iter().zip(stopped).filter(|(_, stopped)| !stopped).map(|(d, _)| *d);
        (Cow::Owned(passing.collect()), met)
    }
}
