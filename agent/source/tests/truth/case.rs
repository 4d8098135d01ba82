//! One 5-tuple as Weir and as a tool has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use weir_common::flow::FlowKey;
use weir_common::parse::PacketMeta;

use crate::capture::{Capture, key_of};
use crate::engine::{Counted, Flow, Key, Reading, Rule, Sent, Tool};

/// Each of the tool's flows of a 5-tuple is a run of its packets, one after the other without a gap.
const CUT_ELSEWHERE: Rule = "cuts the packets of a 5-tuple into flows at other places";
const KEPT_TOGETHER: Rule = "keeps a 5-tuple in one flow where Weir sees it end and begin again";

/// A record of Weir's and the packets in it.
pub struct Ours {
    pub flow: Flow,
    pub packets: Vec<usize>,
}

/// One 5-tuple on both sides.
pub struct Case<'a, T> {
    pub tool: &'a T,
    pub capture: &'a Capture,
    pub readings: &'a [Reading],
    pub plain: &'a [Option<Counted>],
    pub key: Key,
    pub ours: Vec<Ours>,
    pub told: Vec<&'a Flow>,
    /// What the tool reads of it, by its rules.
    pub packets: Vec<(usize, Counted)>,
    /// Which of `packets` are in each flow of `told`: found once, empty where they do not come out.
    pub runs: Vec<Range<usize>>,
    pub all: bool,
}

impl<T: Tool> Case<'_, T> {
    pub fn equal_pairs(&self) -> Vec<(usize, usize)> {
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        for (i, t) in self.told.iter().enumerate() {
            let same =
                self.ours.iter().enumerate().find(|(j, o)| {
                    o.flow.sent == t.sent && o.flow.client == t.client && pairs.iter().all(|p| p.1 != *j)
                });
            pairs.extend(same.map(|(j, _)| (i, j)));
        }
        pairs
    }

    /// The flows told must be the packets, in their order, one flow after the other; packets in none only where the tool
    /// has not told all flows.
    pub fn find_runs(&mut self) {
        let mut runs = vec![0..0; self.told.len()];
        let mut open: Vec<usize> = (0..self.told.len()).collect();
        if let [only] = self.told.as_slice()
            && only.stopped
        {
            // Its first packets.
            let n = only.sent.iter().map(|s| s.packets).sum::<u64>() as usize;
            if self.packets.get(..n).is_some_and(|first| sum_of_packets(first) == only.sent) {
                self.runs.push(0..n);
            }
        } else if self.search(0, &mut open, &mut runs, &mut 100_000) {
            self.runs = runs;
        }
    }

    fn search(&self, at: usize, open: &mut Vec<usize>, runs: &mut [Range<usize>], tries: &mut u32) -> bool {
        if open.is_empty() {
            return at == self.packets.len() || !self.all;
        }
        *tries = tries.saturating_sub(1);
        if *tries == 0 {
            return false;
        }
        for k in 0..open.len() {
            let i = open[k];
            if open[..k].iter().any(|&j| self.told[j].sent == self.told[i].sent) {
                continue;
            }
            let n = self.told[i].sent.iter().map(|s| s.packets).sum::<u64>() as usize;
            let Some(run) = self.packets.get(at..at.saturating_add(n)) else { continue };
            if sum_of_packets(run) == self.told[i].sent {
                open.remove(k);
                runs[i] = at..at + n;
                if self.search(at + n, open, runs, tries) {
                    return true;
                }
                open.insert(k, i);
            }
        }
        !self.all && at < self.packets.len() && self.search(at + 1, open, runs, tries)
    }

    /// Why the flow `i` that the tool tells is none of Weir's.
    pub fn rules(&self, i: usize) -> Result<BTreeSet<Rule>, &'static str> {
        let (flow, run) = (self.told[i], self.runs.get(i).ok_or("other packets or bytes")?.clone());
        let packets = self.packets.get(run).unwrap_or_default();
        let mut rules: BTreeSet<Rule> = packets.iter().flat_map(|(i, _)| &self.readings[*i].rules).copied().collect();
        // Packets that went elsewhere.
        for (p, r) in self.plain.iter().zip(self.readings) {
            if p.is_some_and(|p| p.key == self.key && !r.counted.contains(&p)) || r.left_out.contains(&self.key) {
                rules.extend(&r.rules);
            }
        }
        if flow.stopped {
            rules.insert(T::STOP_RULE);
        }
        if self.told.len() > 1 {
            rules.insert(CUT_ELSEWHERE);
        } else if self.ours.len() > 1 {
            rules.insert(KEPT_TOGETHER);
        }
        // Who is the client must be foretold like everything else. A flow that was cut may go on as it began.
        let client = |packets: &[(usize, Counted)]| {
            let packets: Vec<_> = packets.iter().map(|(i, c)| (&self.capture.packets[*i], *c)).collect();
            self.tool.client(flow, &packets)
        };
        let foretold = [client(packets), client(&self.packets)];
        if !packets.is_empty() && !foretold.contains(&Some(flow.client)) {
            return Err("another client");
        }
        if !self.ours.is_empty() && self.ours.iter().all(|o| o.flow.client != flow.client) {
            rules.insert(T::CLIENT_RULE);
        }
        if rules.is_empty() { Err("differs without a rule") } else { Ok(rules) }
    }

    /// Why Weir's flow `i` is none of the tool's: every packet of it went elsewhere by a rule, and what the tool has is
    /// accounted for.
    pub fn absent(&self, i: usize) -> Option<BTreeSet<Rule>> {
        let mut rules = BTreeSet::new();
        for &p in &self.ours[i].packets {
            let (r, p) = (&self.readings[p], self.plain[p]?);
            if r.counted.contains(&p) {
                return None;
            }
            rules.extend(&r.rules);
        }
        Some(rules)
    }

    pub fn show(&self, name: &str, what: &str) -> String {
        let told: Vec<_> = self.told.iter().map(|t| (t.sent, t.client)).collect();
        let ours: Vec<_> = self.ours.iter().map(|o| (o.flow.sent, o.flow.client)).collect();
        let by_rule = sum_of_packets(&self.packets);
        format!(
            "{name}: {:?}: {what}\n    {} says {told:?}\n    Weir says {ours:?}\n    by rule   {by_rule:?}",
            self.key,
            T::NAME
        )
    }
}

fn sum(sent: impl Iterator<Item = [Sent; 2]>) -> [Sent; 2] {
    sent.fold([Sent::default(); 2], |mut all, s| {
        all[0].add(s[0]);
        all[1].add(s[1]);
        all
    })
}

fn sum_of_packets(packets: &[(usize, Counted)]) -> [Sent; 2] {
    sum(packets.iter().map(|(_, c)| {
        let mut sent = [Sent::default(); 2];
        sent[c.sender] = Sent { packets: 1, bytes: c.bytes };
        sent
    }))
}

/// The packets of each record: those of its key, in the file's order, as many as it has. What the record counts must be
/// what they carry. Its bytes become those of the tool's measure.
pub fn with_packets<T: Tool>(tool: &T, capture: &Capture, plain: &[Option<Counted>]) -> Result<Vec<Ours>, String> {
    let mut of_key: BTreeMap<FlowKey, VecDeque<usize>> = BTreeMap::new();
    for (i, packet) in capture.packets.iter().enumerate() {
        if let Ok(outer) = packet.outer {
            of_key.entry(outer.meta.key().0).or_default().push_back(i);
        }
    }
    let mut records = tool.records(capture);
    records.sort_by_key(|r| r.flow_id);
    let mut all = Vec::new();
    for r in records {
        // The record's key, from a packet that would open it.
        let opening = PacketMeta {
            src: r.client.0.into(),
            dst: r.server.0.into(),
            src_port: r.client_port,
            dst_port: r.server_port,
            vlan_outer: r.vlan_outer,
            vlan_inner: r.vlan_inner,
            family: if r.client.is_v4() { 4 } else { 6 },
            proto: r.proto,
            ..PacketMeta::EMPTY
        };
        let (key, client) = key_of(&opening, tool.tag(&opening));
        let queue = of_key.entry(opening.key().0).or_default();
        let n = (r.fwd.packets + r.bwd.packets).min(queue.len() as u64) as usize;
        let packets: Vec<usize> = queue.drain(..n).collect();
        let (mut ip, mut sent) = ([Sent::default(); 2], [Sent::default(); 2]);
        for &i in &packets {
            let (Some(p), Ok(outer)) = (plain[i], capture.packets[i].outer) else { continue };
            ip[p.sender].add(Sent { packets: 1, bytes: u64::from(outer.meta.ip_len) });
            sent[p.sender].add(Sent { packets: 1, bytes: p.bytes });
        }
        let counted = [r.fwd, r.bwd].map(|t| Sent { packets: t.packets, bytes: t.bytes });
        if [ip[client], ip[1 - client]] != counted {
            return Err(format!("{key:?}: the record has {counted:?}, its packets {ip:?}"));
        }
        all.push(Ours { flow: Flow { key, sent, client, turned: false, stopped: false }, packets });
    }
    match of_key.into_iter().find(|(_, left)| !left.is_empty()) {
        Some((key, left)) => Err(format!("{key:?}: {} packets are in no record", left.len())),
        None => Ok(all),
    }
}
