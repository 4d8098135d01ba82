//! The entries of a replay: what is in force, what it meets, and what of that it would cut.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;
use weir_core::addr::{Addr, Prefix};
use weir_core::decision::{Action, Flow, Sides, Target};
use weir_core::decisions::Decisions;
use weir_core::rate::{RateLimit, RateUnit};
use weir_core::record::{FlowRecord, TimeUs};
use weir_source::label::Verdict;

/// Flows of packets that are told apart; of more, only the packets are counted.
const MAX_SEEN: usize = 1_000_000;

/// An entry in force.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// Of its decision.
    pub id: u64,
    pub action: Action,
    limit: Option<RateLimit>,
}

/// Entries in force against what comes in, the strictest on each target.
#[derive(Debug, Default)]
pub struct Entries {
    nets: HashMap<Prefix, Entry>,
    /// Lengths in use, longest first, IPv4 and IPv6.
    lens: [BTreeSet<std::cmp::Reverse<u8>>; 2],
    ports: HashMap<(Addr, u8, u16), Entry>,
    flows: HashMap<Flow, Entry>,
}

impl Entries {
    pub fn of(decisions: &Decisions, now: TimeUs) -> Self {
        let mut all = Self::default();
        for w in decisions.wanted(now).filter(|w| w.decision.sides != Sides::Out) {
            let entry = Entry { id: w.decision.id, action: w.decision.action, limit: w.decision.limit };
            match w.target {
                Target::Net(p) => {
                    all.nets.insert(p, entry);
                    all.lens[usize::from(!p.is_v4())].insert(std::cmp::Reverse(p.len()));
                }
                Target::Port { host, proto, port } => drop(all.ports.insert((host, proto, port), entry)),
                Target::Flow(flow) => drop(all.flows.insert(flow, entry)),
                // People alone decide about these, and in a replay there are none.
                Target::FarPort { .. } => {}
            }
        }
        all
    }

    pub fn is_empty(&self) -> bool {
        self.nets.is_empty() && self.ports.is_empty() && self.flows.is_empty()
    }

    /// The entry that meets what the remote end of a flow sends: the strongest, and of equal ones the narrowest.
    pub fn on(&self, flow: &Flow) -> Option<Entry> {
        let from = flow.remote;
        let lens = &self.lens[usize::from(!from.is_v4())];
        let nets = lens.iter().filter_map(|len| self.nets.get(&Prefix::new(from, len.0)));
        let port = self.ports.get(&(from, flow.proto, flow.port));
        let all = self.flows.get(flow).into_iter().chain(port).chain(nets);
        all.copied().reduce(|best, e| if e.action > best.action { e } else { best })
    }
}

/// What one decision's entry met, and cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// Packets that it met.
    pub packets: u64,
    /// Of these, so many would have been stopped: all by a drop, those beyond the rate by a limit, none by a shadow entry.
    pub stopped: u64,
    /// Flows that it met.
    pub flows: u64,
    /// Of these, those in which both sides took part.
    pub established: u64,
    /// Those whose label says that they are benign, or an attack; the others have none.
    pub benign: u64,
    pub attacks: u64,
}

impl Cut {
    pub fn add(&mut self, other: &Cut) {
        self.packets += other.packets;
        self.stopped += other.stopped;
        self.flows += other.flows;
        self.established += other.established;
        self.benign += other.benign;
        self.attacks += other.attacks;
    }
}

/// What is left of a limit's burst.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at_us: TimeUs,
}

/// What entries met so far.
#[derive(Debug, Default)]
pub struct Ledger {
    cuts: BTreeMap<u64, Cut>,
    buckets: HashMap<u64, Bucket>,
    seen: HashSet<u64>,
}

impl Ledger {
    /// An entry met a flow that another tool counted.
    pub fn told(&mut self, e: Entry, r: &FlowRecord, said: Verdict, established: bool, now: TimeUs) {
        let stopped = self.stops(e, [r.fwd.packets, r.fwd.bytes], now);
        let cut = self.cuts.entry(e.id).or_default();
        cut.packets += r.fwd.packets;
        cut.stopped += stopped;
        cut.flows += 1;
        cut.established += u64::from(established);
        cut.benign += u64::from(said == Verdict::Benign);
        cut.attacks += u64::from(said == Verdict::Attack);
    }

    /// An entry met packets and bytes of a flow; `flow` tells flows apart.
    pub fn packets(&mut self, e: Entry, flow: &impl Hash, met: [u64; 2], established: bool, now: TimeUs) {
        let mut hasher = DefaultHasher::new();
        (e.id, flow).hash(&mut hasher);
        let new = self.seen.len() < MAX_SEEN && self.seen.insert(hasher.finish());
        let stopped = self.stops(e, met, now);
        let cut = self.cuts.entry(e.id).or_default();
        cut.packets += met[0];
        cut.stopped += stopped;
        cut.flows += u64::from(new);
        cut.established += u64::from(new && established);
    }

    /// How many of these packets the entry lets nobody have.
    fn stops(&mut self, e: Entry, [packets, bytes]: [u64; 2], now: TimeUs) -> u64 {
        let limit = match (e.action, e.limit) {
            (Action::Drop, _) => return packets,
            (Action::Limit, Some(limit)) => limit,
            _ => return 0,
        };
        let asked = if limit.unit() == RateUnit::Packets { packets } else { bytes } as f64;
        let (rate, burst) = (limit.per_second() as f64, limit.burst() as f64);
        let b = self.buckets.entry(e.id).or_insert(Bucket { left: burst, at_us: now });
        b.left = (b.left + rate * (now.saturating_sub(b.at_us) as f64 / 1e6)).min(burst);
        b.at_us = b.at_us.max(now);
        let passed = asked.min(b.left);
        b.left -= passed;
        if asked > 0.0 { (packets as f64 * (1.0 - passed / asked)).round() as u64 } else { 0 }
    }

    /// What each decision met in all, by its number.
    pub fn close(self) -> BTreeMap<u64, Cut> {
        self.cuts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::decision::Origin;
    use weir_core::decisions::{Limits, NewDecision};
    use weir_core::guard::Guard;

    const S: u64 = 1_000_000;

    fn entries(all: &[(&str, Action)]) -> Entries {
        let mut d = Decisions::new(Limits::default(), Guard::default(), 1);
        for (target, action) in all {
            let limit = (*action == Action::Limit).then(|| "10pps".parse().unwrap());
            let new = NewDecision {
                target: target.parse().unwrap(),
                action: *action,
                limit,
                sides: Sides::In,
                origin: Origin::Automatic,
                ttl_us: Some(60 * S),
                reason: String::new(),
                instead_of: None,
                alert_id: None,
                confirm_within_us: None,
            };
            d.add(new, S).unwrap();
        }
        Entries::of(&d, 2 * S)
    }

    fn flow(from: &str, proto: u8, port: u16) -> Flow {
        let ours = "198.51.100.1".parse().unwrap();
        Flow { proto, remote: from.parse().unwrap(), remote_port: 40_000, ours, port }
    }

    #[test]
    fn an_entry_on_a_flow_meets_that_flow_alone() {
        let e = entries(&[("tcp:203.0.113.9:40000-198.51.100.1:22", Action::Drop)]);
        assert!(!e.is_empty() && e.on(&flow("203.0.113.9", 6, 22)).is_some_and(|e| e.action == Action::Drop));
        let other = Flow { remote_port: 40_001, ..flow("203.0.113.9", 6, 22) };
        assert!([other, flow("203.0.113.9", 6, 80), flow("203.0.113.9", 17, 22)].iter().all(|f| e.on(f).is_none()));
    }

    #[test]
    fn the_strongest_then_narrowest_entry_meets_and_the_neighbour_meets_none() {
        let all =
            [("203.0.113.0/24", Action::Limit), ("203.0.113.9", Action::Shadow), ("203.0.113.9/tcp/22", Action::Drop)];
        let e = entries(&all);
        let on = |a: &str, port| e.on(&flow(a, 6, port)).map(|e| e.action);
        assert_eq!((on("203.0.113.9", 22), on("203.0.113.9", 80)), (Some(Action::Drop), Some(Action::Limit)));
        assert_eq!((on("203.0.113.8", 22), on("203.0.114.8", 22)), (Some(Action::Limit), None));
        assert!(e.on(&flow("203.0.113.9", 17, 22)).is_some_and(|e| e.action == Action::Limit));
    }

    #[test]
    fn a_limit_stops_what_is_beyond_its_rate_and_a_shadow_entry_nothing() {
        let e = entries(&[("203.0.113.9", Action::Limit), ("203.0.113.10", Action::Shadow)]);
        let of = |a: &str| e.on(&flow(a, 6, 80)).unwrap();
        let mut ledger = Ledger::default();
        // A burst of ten, ten a second.
        for s in 1..=3 {
            ledger.packets(of("203.0.113.9"), &1, [25, 2_500], true, s * S);
            ledger.packets(of("203.0.113.10"), &s, [25, 2_500], false, s * S);
        }
        let cuts = ledger.close();
        assert_eq!(cuts[&1], Cut { packets: 75, stopped: 45, flows: 1, established: 1, ..Cut::default() });
        assert_eq!(cuts[&2], Cut { packets: 75, flows: 3, ..Cut::default() });
    }
}
