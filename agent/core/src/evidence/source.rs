//! What one source, a host or an IPv6 /64, has accumulated.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};

use super::looks::surprise;
use super::sum::Sum;
use super::{ALL, EvidenceConfig, Level, Observation, ObservationKind, PROVEN};
use crate::addr::Addr;
use crate::decision;
use crate::drift::Place;
use crate::event::Anomaly;
use crate::profile::ProfileId;
use crate::record::{EndReason, FlowRecord, TimeUs};
use crate::role::Role;

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
pub(super) const FORGOTTEN: f64 = 0.05;
/// A worst observation this old is replaced by the next surprising one, µs.
const WORST_AGE_US: u64 = 3_600_000_000;
/// No protocol, but several.
const SEVERAL: u16 = 256;

/// Whose an observation is, seen from the source that takes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
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
pub(super) struct Source {
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

pub(super) fn make_room(
    sources: &mut HashMap<Addr, Source>,
    config: &EvidenceConfig,
    now: TimeUs,
    wanted: Addr,
) -> u64 {
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
    /// First observation of the evidence.
    pub(super) fn since_us(&self) -> TimeUs {
        self.since_us
    }

    /// The features that its observations were strange by the most, since its evidence began.
    pub(super) fn strange(&self) -> &[&'static str] {
        &self.strange
    }

    /// What its windows show on average, per sum.
    pub(super) fn means(&self) -> [f64; 2] {
        [ALL, PROVEN].map(|i| self.sums[i].mean_shown())
    }

    /// Its /64 did something as a whole, from afar or not.
    pub(super) fn seen_from(&mut self, remote: bool) {
        self.remote |= remote;
    }

    pub(super) fn values(&self, now: TimeUs, allowance: [f64; 2]) -> [f64; 2] {
        [ALL, PROVEN].map(|i| self.sums[i].level(now, allowance[i]))
    }

    pub(super) fn level(&self, now: TimeUs, allowance: [f64; 2]) -> Level {
        let [all, proven] = self.values(now, allowance);
        let mut ports = self.ports.clone();
        ports.sort_unstable_by_key(|&(port, n)| (Reverse(n), port));
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
    pub(super) fn take(
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
    pub(super) fn note_flow(&mut self, r: &FlowRecord, strange: bool) {
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
