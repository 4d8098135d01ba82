//! What sources have accumulated against them.
//!
//! Every source has two sums: over everything done in its name, and over proven flows alone, which nobody can forge.
//! Time is cut into windows. In a window that a source is active in, each sum grows by what the window shows and
//! shrinks by an *allowance*, never below zero:
//!
//! - flows: the surprise `max(0, -ln p - 3)` of its flows' p-values **taken together** by Simes' inequality, so that
//!   neither a busy source is convicted by the many looks it gets, nor many flows to one host:port count more than
//!   once. The flows of one window never count more than one flow can ([`SURPRISE_CAP`]);
//! - a flow counts once: a later record of a flow adds only what exceeds its earlier ones;
//! - window rows: the larger of the early and the final row, per role.
//!
//! IPv6 /64s have sums of their own, over what their hosts do, and over the rows of the network as a whole
//! ([`crate::window`]).
//!
//! Without the allowance a sum would grow with activity alone; with it, the sum of a benign source keeps returning to
//! zero however long it is watched, and a minute of calibration says something about a day. P-values that are not
//! actionable contribute nothing.
//!
//! Each sum has two memories (half-lives of 10 minutes and 24 hours) of the same growth. Its level is the larger of the
//! fast one and half the slow one ([`SLOW_WEIGHT`]).
//!
//! Memory: [`EvidenceConfig::max_sources`] hosts and as many IPv6 /64s, about 0.8 KiB each, and the worst
//! observation's explanation for those that have any evidence. When full, the eighth with the least evidence goes, and
//! is counted.

mod calibrate;
mod looks;
mod source;
mod sum;

use std::collections::{BTreeSet, HashMap};

use crate::addr::{Addr, Prefix};
use crate::decision;
use crate::drift::Place;
use crate::event::Anomaly;
use crate::record::{FlowRecord, TimeUs};
use crate::role::{Direction, Role};
use crate::window::SourceWindow;
use source::{FORGOTTEN, Of, Source, make_room};

pub use crate::addr::NET6_LEN;
pub use calibrate::{CalibrationConfig, MAX_ALLOWANCE, MIN_ALERT, MIN_ALLOWANCE, MIN_DROP, Thresholds, calibrate};
pub use looks::{SURPRISE_CAP, SURPRISE_FLOOR, surprise};
pub use sum::{FAST_HALF_LIFE_US, SLOW_HALF_LIFE_US, SLOW_WEIGHT};

const ALL: usize = 0;
const PROVEN: usize = 1;

#[derive(Clone, Debug, PartialEq)]
pub struct EvidenceConfig {
    /// Length of a window, µs; the same as that of the source windows.
    pub window_us: u64,
    /// Allowance per active window of the sums [all, proven], nats: see [`Thresholds::allowance`].
    pub allowance: [f64; 2],
    pub max_sources: usize,
}

impl EvidenceConfig {
    pub fn new(window_us: u64, thresholds: &Thresholds) -> Self {
        Self { window_us: window_us.max(1_000), allowance: thresholds.allowance, max_sources: 65_536 }
    }
}

/// One p-value about a source.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// When it became known, wall clock: the end of the epoch.
    pub time_us: TimeUs,
    pub source: Addr,
    /// Fused p-value.
    pub p: f64,
    /// Whether calibration was large enough for the p-value to lead to an action.
    pub actionable: bool,
    pub kind: ObservationKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservationKind {
    Flow { flow_id: u64, proto: u8, port: u16, proven: bool, first_record: bool },
    Window { role: Role, start_us: TimeUs, early: bool },
}

impl Observation {
    pub fn of_flow(time_us: TimeUs, r: &FlowRecord, p: f64, actionable: bool) -> Self {
        let kind = ObservationKind::Flow {
            flow_id: r.flow_id,
            proto: r.proto,
            port: r.server_port,
            proven: r.proven,
            first_record: r.first_record,
        };
        Self { time_us, source: r.client, p, actionable, kind }
    }

    pub fn of_window(time_us: TimeUs, w: &SourceWindow, p: f64, actionable: bool) -> Self {
        let kind = ObservationKind::Window { role: w.role, start_us: w.start_us, early: w.early };
        Self { time_us, source: w.source, p, actionable, kind }
    }
}

/// Evidence against a source at some time.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// Over everything done in its name, nats.
    pub all: f64,
    /// Over its proven flows alone, nats.
    pub proven: f64,
    /// First observation of the evidence.
    pub since_us: TimeUs,
    /// The latest observation, strange or not.
    pub last_us: TimeUs,
    /// Distinct flows since then.
    pub flows: u64,
    /// Flows came from a remote host towards home.
    pub remote: bool,
    /// Server ports, most used first, at most 8.
    pub ports: Vec<u16>,
    /// The protocol of its flows, where all have the same.
    pub proto: Option<u8>,
    /// The most anomalous observation of late.
    pub worst: Option<Anomaly>,
    /// By which calibration the most anomalous proven observation of late was judged.
    pub proven_by: Option<Place>,
    /// The latest strange flow that was still going on when it was looked at, of all flows and of proven ones.
    pub going_on: [Option<decision::Flow>; 2],
    /// For a /64: addresses in it that gave evidence of their own, over all and over proven flows. What the network did as a
    /// whole counts for two: at least as many had a part in it, and none did most of it.
    pub offenders: [usize; 2],
}

/// See the module.
pub struct Evidence {
    config: EvidenceConfig,
    hosts: HashMap<Addr, Source>,
    /// By the /64's network address.
    nets: HashMap<Addr, Source>,
    changed: BTreeSet<Addr>,
    evicted: u64,
}

impl Evidence {
    pub fn new(config: EvidenceConfig) -> Self {
        let config =
            EvidenceConfig { window_us: config.window_us.max(1), max_sources: config.max_sources.max(8), ..config };
        Self { config, hosts: HashMap::new(), nets: HashMap::new(), changed: BTreeSet::new(), evicted: 0 }
    }

    /// Sources that something is known of.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }
    /// Sources forgotten to make room.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
    /// Takes the allowances of new thresholds; evidence is kept.
    pub fn set_allowance(&mut self, allowance: [f64; 2]) {
        self.config.allowance = allowance;
    }

    /// A scored flow record that left the table at `now`.
    pub fn add_flow(&mut self, now: TimeUs, record: &FlowRecord, anomaly: &Anomaly) {
        let o = Observation::of_flow(now, record, f64::from(anomaly.p_value), anomaly.actionable);
        let from_remote = record.direction == Direction::In;
        self.take(&o, from_remote, Some(anomaly), &[]);
        if from_remote {
            let nets = record.client.net6().and_then(|n| self.nets.get_mut(&n));
            for source in self.hosts.get_mut(&record.client).into_iter().chain(nets) {
                source.note_flow(record, o.actionable && surprise(o.p) > 0.0);
            }
        }
    }

    /// A scored source window that was given at `now`.
    pub fn add_window(&mut self, now: TimeUs, window: &SourceWindow, anomaly: &Anomaly) {
        let o = Observation::of_window(now, window, f64::from(anomaly.p_value), anomaly.actionable);
        self.take(&o, window.remote, Some(anomaly), &window.ports);
    }

    /// An observation without its explanation: what calibration replays.
    pub fn observe(&mut self, o: &Observation) {
        self.take(o, true, None, &[]);
    }

    /// The sources that evidence was added to since the last call, in ascending order. Ask for their levels once all
    /// observations of an epoch are in: what a window shows depends on all of them.
    pub fn take_changed(&mut self) -> Vec<Addr> {
        std::mem::take(&mut self.changed).into_iter().collect()
    }

    /// The levels [all, proven] of a source, nats.
    pub fn values(&self, source: Addr, now: TimeUs) -> [f64; 2] {
        self.hosts.get(&source).map_or([0.0; 2], |s| s.values(now, self.config.allowance))
    }

    /// The levels [all, proven] of the /64 of an IPv6 source, nats.
    pub fn net_values(&self, source: Addr, now: TimeUs) -> [f64; 2] {
        source.net6().and_then(|n| self.nets.get(&n)).map_or([0.0; 2], |s| s.values(now, self.config.allowance))
    }

    /// Since when there is evidence against a source, where it has reached `threshold` nats over all its flows.
    pub fn since(&self, source: Addr, now: TimeUs, threshold: f64) -> Option<TimeUs> {
        let s = self.hosts.get(&source)?;
        (s.values(now, self.config.allowance)[ALL] >= threshold).then_some(s.since_us())
    }

    /// The features that the observations of a source were strange by the most, since its evidence began.
    pub fn strange(&self, source: Addr) -> &[&'static str] {
        self.hosts.get(&source).map_or(&[], |s| s.strange())
    }

    /// `None` for a source that nothing is known of.
    pub fn level(&self, source: Addr, now: TimeUs) -> Option<Level> {
        self.hosts.get(&source).map(|s| s.level(now, self.config.allowance))
    }

    /// The level of the /64 that an IPv6 source lies in.
    pub fn net_level(&self, source: Addr, now: TimeUs) -> Option<Level> {
        source.net6().and_then(|n| self.nets.get(&n)).map(|s| s.level(now, self.config.allowance))
    }

    /// Forgets a source (and its /64): a person said that this is normal.
    pub fn forget(&mut self, source: Addr) {
        self.hosts.remove(&source);
        self.changed.remove(&source);
        if let Some(net) = source.net6() {
            self.nets.remove(&net);
        }
    }

    /// [`Evidence::forget`] for every source in a prefix.
    pub fn forget_all(&mut self, within: Prefix) {
        let sources: Vec<Addr> = self.hosts.keys().filter(|a| within.contains(**a)).copied().collect();
        sources.into_iter().for_each(|s| self.forget(s));
    }

    /// Sources in descending order of evidence, at most `n`.
    pub fn top(&self, n: usize, now: TimeUs) -> Vec<(Addr, [f64; 2])> {
        let mut all: Vec<_> = self.hosts.iter().map(|(a, s)| (*a, s.values(now, self.config.allowance))).collect();
        all.retain(|(_, v)| v[ALL] > FORGOTTEN);
        all.sort_by(|a, b| b.1[ALL].total_cmp(&a.1[ALL]).then(a.0.cmp(&b.0)));
        all.truncate(n);
        all
    }

    fn take(&mut self, o: &Observation, remote: bool, anomaly: Option<&Anomaly>, ports: &[u16]) {
        if !o.actionable {
            return;
        }
        let Evidence { config, hosts, nets, .. } = self;
        self.evicted += make_room(hosts, config, o.time_us, o.source);
        let net = o.source.net6();
        let whole = net == Some(o.source) && matches!(o.kind, ObservationKind::Window { .. });
        let host = hosts.entry(o.source).or_default();
        let mut added = false;
        if whole {
            host.seen_from(remote);
        } else {
            added = host.take(config, o, remote, anomaly, ports, Of::Host);
        }
        if let Some(net) = net {
            self.evicted += make_room(nets, config, o.time_us, net);
            let of = if whole { Of::Net } else { Of::Member };
            added |= nets.entry(net).or_default().take(config, o, remote, anomaly, ports, of) && whole;
        }
        if added {
            self.changed.insert(o.source);
        }
    }

    /// What the windows of each source show on average, per sum; for calibration.
    fn means(&self) -> Vec<(Addr, [f64; 2])> {
        self.hosts.iter().map(|(a, s)| (*a, s.means())).collect()
    }
}

#[cfg(test)]
mod tests;
