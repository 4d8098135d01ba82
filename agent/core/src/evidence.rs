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
mod sum;

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::addr::{Addr, Prefix};
use crate::decision;
use crate::drift::Place;
use crate::event::Anomaly;
use crate::profile::ProfileId;
use crate::record::{EndReason, FlowRecord, TimeUs};
use crate::role::{Direction, Role};
use crate::window::SourceWindow;
use sum::Sum;

pub use crate::addr::NET6_LEN;
pub use calibrate::{CalibrationConfig, MAX_ALLOWANCE, MIN_ALERT, MIN_ALLOWANCE, MIN_DROP, Thresholds, calibrate};
pub use looks::{SURPRISE_CAP, SURPRISE_FLOOR, surprise};
pub use sum::{FAST_HALF_LIFE_US, SLOW_HALF_LIFE_US, SLOW_WEIGHT};

/// Flows per source whose contribution is remembered, so that later records of them do not count again.
const REMEMBERED_FLOWS: usize = 128;
/// Addresses of a /64 that are told apart.
const MEMBERS: usize = 16;
/// What an address of a /64 must have contributed to count as an offender of its own, nats.
const MEMBER_OFFENDS: f64 = 2.0;
const TOP_PORTS: usize = 16;
/// Features that are remembered of a source: those that its observations were strange by the most.
const STRANGE: usize = 16;
/// Below this, a source starts afresh: what it did before is no part of new evidence.
const FORGOTTEN: f64 = 0.05;
/// A worst observation this old is replaced by the next surprising one, µs.
const WORST_AGE_US: u64 = 3_600_000_000;

/// No protocol, but several.
const SEVERAL: u16 = 256;

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

/// Whose an observation is, seen from the source that takes it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Host,
    /// A host of this network.
    Member,
    /// This network as a whole.
    Net,
}

#[derive(Clone, Copy)]
struct Counted {
    flow_id: u64,
    window: u64,
    /// Largest surprise so far in the sums [all, proven].
    best: [f64; 2],
}

#[derive(Default)]
struct Source {
    sums: [Sum; 2],
    counted: VecDeque<Counted>,
    since_us: TimeUs,
    last_us: TimeUs,
    flows: u64,
    remote: bool,
    ports: Vec<(u16, u32)>,
    /// Of the flows; [`SEVERAL`] where they differ.
    proto: Option<u16>,
    worst: Option<(TimeUs, Box<Anomaly>)>,
    proven_by: Option<(TimeUs, f32, Place)>,
    strange: Vec<&'static str>,
    /// By its number, see [`Level::going_on`].
    going_on: [Option<(u64, decision::Flow)>; 2],
    /// Contributions of the addresses of a prefix to the sums [all, proven], nats.
    members: Vec<(Addr, [f64; 2])>,
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
        (s.values(now, self.config.allowance)[ALL] >= threshold).then_some(s.since_us)
    }

    /// The features that the observations of a source were strange by the most, since its evidence began.
    pub fn strange(&self, source: Addr) -> &[&'static str] {
        self.hosts.get(&source).map_or(&[], |s| &s.strange)
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
            host.remote |= remote;
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
        self.hosts.iter().map(|(a, s)| (*a, [ALL, PROVEN].map(|i| s.sums[i].mean_shown()))).collect()
    }
}

fn make_room(sources: &mut HashMap<Addr, Source>, config: &EvidenceConfig, now: TimeUs, wanted: Addr) -> u64 {
    if sources.len() < config.max_sources || sources.contains_key(&wanted) {
        return 0;
    }
    let mut by_weight: Vec<(f64, TimeUs, Addr)> = sources
        .iter()
        .map(|(a, s)| {
            let [all, proven] = s.values(now, config.allowance);
            // Proven evidence is what cannot be had for free: it must not be flooded out by forged sources.
            (all + 8.0 * proven, s.since_us, *a)
        })
        .collect();
    by_weight.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let out = (sources.len() / 8).max(1);
    for (_, _, addr) in &by_weight[..out] {
        sources.remove(addr);
    }
    out as u64
}

impl Source {
    fn values(&self, now: TimeUs, allowance: [f64; 2]) -> [f64; 2] {
        [ALL, PROVEN].map(|i| self.sums[i].level(now, allowance[i]))
    }

    fn level(&self, now: TimeUs, allowance: [f64; 2]) -> Level {
        let [all, proven] = self.values(now, allowance);
        let mut ports = self.ports.clone();
        ports.sort_unstable_by_key(|&(port, n)| (std::cmp::Reverse(n), port));
        Level {
            all,
            proven,
            since_us: self.since_us,
            last_us: self.last_us,
            flows: self.flows,
            remote: self.remote,
            ports: ports.into_iter().take(8).map(|(port, _)| port).collect(),
            worst: self.worst.as_ref().map(|(_, a)| (**a).clone()),
            proven_by: self.proven_by.map(|(_, _, place)| place),
            proto: self.proto.and_then(|p| u8::try_from(p).ok()),
            going_on: self.going_on.map(|f| f.map(|(_, flow)| flow)),
            offenders: [ALL, PROVEN].map(|i| {
                let offending = self.members.iter().filter(|(_, c)| c[i] >= MEMBER_OFFENDS);
                offending.map(|(a, _)| if a.net6() == Some(*a) { 2 } else { 1 }).sum()
            }),
        }
    }

    /// Whether the observation is evidence at all.
    fn take(
        &mut self,
        config: &EvidenceConfig,
        o: &Observation,
        remote: bool,
        anomaly: Option<&Anomaly>,
        ports: &[u16],
        of: Of,
    ) -> bool {
        let now = o.time_us;
        // An epoch that ends with a window belongs to that window.
        let window = now.saturating_sub(1) / config.window_us;
        let mut added = [0.0; 2];
        let s = surprise(o.p);
        // What a source has is asked for only where something is added: most observations say nothing.
        if s > 0.0 && self.values(now, config.allowance)[ALL] < FORGOTTEN {
            self.since_us = now;
            self.flows = 0;
            self.ports.clear();
            self.proto = None;
            self.members.clear();
            self.worst = None;
            self.proven_by = None;
            self.strange.clear();
            self.going_on = [None; 2];
        }
        match o.kind {
            ObservationKind::Flow { flow_id, proto, port, proven, first_record } => {
                let proto = u16::from(proto);
                self.proto = Some(self.proto.filter(|p| *p != proto).map_or(proto, |_| SEVERAL));
                self.flows += u64::from(first_record || self.flows == 0);
                for sum in if proven { &[ALL, PROVEN][..] } else { &[ALL] } {
                    self.sums[*sum].enter(now, window, config.allowance[*sum]);
                    added[*sum] = self.count_flow(*sum, flow_id, window, s);
                }
                if s > 0.0 {
                    self.note_port(port);
                }
            }
            ObservationKind::Window { role, start_us, early } => {
                let sum = if role == Role::SourceProven { PROVEN } else { ALL };
                self.sums[sum].enter(now, window, config.allowance[sum]);
                if of != Of::Member {
                    self.sums[sum].row(start_us, s);
                    added[sum] = s;
                } else if !early {
                    self.sums[sum].member_rows.add(s);
                    added[sum] = s;
                }
                if s > 0.0 {
                    ports.iter().for_each(|&p| self.note_port(p));
                }
            }
        }
        self.remote |= remote;
        self.last_us = now;
        if s <= 0.0 {
            return false;
        }
        if of != Of::Host {
            self.note_member(o.source, added);
        }
        let reasons = anomaly.map_or(&[][..], |a| &a.reasons).iter().filter(|r| r.unless.is_empty());
        if let Some(r) = reasons.max_by(|x, y| x.share.total_cmp(&y.share))
            && self.strange.len() < STRANGE
            && !self.strange.contains(&r.feature)
        {
            self.strange.push(r.feature);
        }
        let proven = match o.kind {
            ObservationKind::Flow { proven, .. } => proven,
            ObservationKind::Window { role, .. } => role == Role::SourceProven,
        };
        if let Some((a, profile)) = anomaly.filter(|_| proven).and_then(|a| Some((a, ProfileId::from_name(a.profile)?)))
            && self.proven_by.is_none_or(|(at, p, _)| a.p_value <= p || now.saturating_sub(at) > WORST_AGE_US)
        {
            self.proven_by = Some((now, a.p_value, Place { profile, role: a.role }));
        }
        if let Some(a) = anomaly
            && self
                .worst
                .as_ref()
                // Of two as strange the one that somebody can read.
                .is_none_or(|(at, w)| {
                    let as_clear = !a.reasons.is_empty() || w.reasons.is_empty();
                    a.p_value < w.p_value
                        || a.p_value == w.p_value && as_clear
                        || now.saturating_sub(*at) > WORST_AGE_US
                })
        {
            self.worst = Some((now, Box::new(a.clone())));
        }
        true
    }

    /// Adds a flow's p-value to the window; returns what it adds over the flow's earlier records.
    fn count_flow(&mut self, sum: usize, flow_id: u64, window: u64, s: f64) -> f64 {
        let looks = &mut self.sums[sum].flows;
        if let Some(c) = self.counted.iter_mut().find(|c| c.flow_id == flow_id) {
            let before = c.best[sum];
            if before > 0.0 {
                if s > before {
                    if c.window == window {
                        looks.replace(before, s)
                    } else {
                        looks.add(s - before)
                    }
                    c.best[sum] = s;
                }
                return (s - before).max(0.0);
            }
            looks.add(s);
            if s > 0.0 {
                c.best[sum] = s;
                c.window = window;
            }
            return s;
        }
        looks.add(s);
        if s > 0.0 {
            if self.counted.len() >= REMEMBERED_FLOWS {
                self.counted.pop_front();
            }
            let mut best = [0.0; 2];
            best[sum] = s;
            self.counted.push_back(Counted { flow_id, window, best });
        }
        s
    }

    fn note_port(&mut self, port: u16) {
        if let Some((_, n)) = self.ports.iter_mut().find(|(p, _)| *p == port) {
            *n = n.saturating_add(1);
        } else if self.ports.len() < TOP_PORTS {
            self.ports.push((port, 1));
        } else if let Some(least) = self.ports.iter_mut().min_by_key(|(_, n)| *n) {
            // Space-saving: the newcomer inherits the count that it displaces.
            *least = (port, least.1.saturating_add(1));
        }
    }

    /// A record of a flow from a remote host: whether there is still something to stop.
    fn note_flow(&mut self, r: &FlowRecord, strange: bool) {
        for held in &mut self.going_on {
            held.take_if(|(id, _)| *id == r.flow_id && r.end_reason != EndReason::Checkpoint);
        }
        if strange && r.end_reason == EndReason::Checkpoint {
            let flow = decision::Flow::of(r);
            for sum in if r.proven { &[ALL, PROVEN][..] } else { &[ALL] } {
                self.going_on[*sum] = Some((r.flow_id, flow));
            }
        }
    }

    fn note_member(&mut self, addr: Addr, added: [f64; 2]) {
        if let Some((_, c)) = self.members.iter_mut().find(|(a, _)| *a == addr) {
            c[ALL] += added[ALL];
            c[PROVEN] += added[PROVEN];
        } else if self.members.len() < MEMBERS {
            self.members.push((addr, added));
        } else if let Some(least) = self.members.iter_mut().min_by(|a, b| a.1[PROVEN].total_cmp(&b.1[PROVEN]))
            && least.1[PROVEN] <= added[PROVEN]
        {
            *least = (addr, added);
        }
    }
}

#[cfg(test)]
mod tests;
