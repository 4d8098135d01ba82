//! Two sets of flows of one capture, Weir's and another tool's: equal, different by a rule, or unexplained.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::net::IpAddr;
use std::ops::Range;

use weir_common::flow::FlowKey;
use weir_common::parse::PacketMeta;
use weir_core::addr::Addr;
use weir_core::record::FlowRecord;
use weir_source::pcap::LeftOut;

use crate::capture::{Capture, Packet, key_of, tag};

/// What a tool does otherwise than Weir, in words.
pub type Rule = &'static str;

/// Each of the tool's flows of a 5-tuple is a run of its packets, one after the other without a gap.
const CUT_ELSEWHERE: Rule = "cuts the packets of a 5-tuple into flows at other places";
const KEPT_TOGETHER: Rule = "keeps a 5-tuple in one flow where Weir sees it end and begin again";
const LINK_TYPE: Rule = "reads a link type that Weir does not read (and reports)";

pub type End = (IpAddr, u16);

/// What tools tell flows apart by. Ends in ascending order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub proto: u8,
    pub ends: [End; 2],
    /// 0 where there is none, or the tool does not tell.
    pub vlan: u16,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(a, p), (b, q)] = self.ends;
        write!(f, "{} {a} {p} / {b} {q}", self.proto)?;
        if self.vlan != 0 { write!(f, " vlan {}", self.vlan) } else { Ok(()) }
    }
}

/// Both ends in order, and which of them is `first`.
pub fn order(first: End, second: End) -> ([End; 2], usize) {
    let sort = |(ip, port): End| (Addr::from(ip), port);
    if sort(first) <= sort(second) { ([first, second], 0) } else { ([second, first], 1) }
}

/// What one end sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub packets: u64,
    pub bytes: u64,
}

impl Sent {
    fn add(&mut self, other: Sent) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

#[derive(Clone, Debug)]
pub struct Flow {
    pub key: Key,
    /// By end, as in `key`.
    pub sent: [Sent; 2],
    /// The end that is said to be the client.
    pub client: usize,
    /// The tool says that it turned the flow around.
    pub turned: bool,
    /// The tool says what makes it stop counting.
    pub stopped: bool,
}

impl Flow {
    /// A flow as a tool tells it: client first.
    pub fn told(proto: u8, client: End, server: End, vlan: u16, to_server: Sent, to_client: Sent) -> Self {
        let (ends, at) = order(client, server);
        let sent = if at == 0 { [to_server, to_client] } else { [to_client, to_server] };
        Self { key: Key { proto, ends, vlan }, sent, client: at, turned: false, stopped: false }
    }
}

/// A packet as a tool counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub key: Key,
    pub sender: usize,
    pub bytes: u64,
}

/// What a tool does with a packet: where it counts it, and by which rules that is not what Weir does.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    pub counted: Vec<Counted>,
    /// Flows that it belongs to and is not counted in.
    pub left_out: Vec<Key>,
    pub rules: Vec<Rule>,
}

/// How a tool goes about it.
pub trait Tool {
    const NAME: &'static str;
    /// Who it says is the client, where that is not what Weir says.
    const CLIENT_RULE: Rule;
    /// What makes it stop counting a flow.
    const STOP_RULE: Rule = "stops counting";

    /// Weir's records with the tool's timeouts.
    fn records(&self, capture: &Capture) -> Vec<FlowRecord>;
    /// Bytes of a packet as the tool measures them. `ip_len` is what Weir counts.
    fn size(&self, packet: &Packet, meta: &PacketMeta) -> u64;
    /// Ways in which it may have been run, which its results do not tell: all flows of a capture are read in one.
    const VARIANTS: usize = 1;
    /// What the tool does with each packet.
    fn read(&self, capture: &Capture, variant: usize) -> Vec<Reading>;
    /// The end that the tool takes for the client of `flow`, which has these packets.
    fn client(&self, flow: &Flow, packets: &[(&Packet, Counted)]) -> Option<usize>;
    /// Its flows are told apart by their VLAN.
    const VLAN: bool;

    fn tag(&self, meta: &PacketMeta) -> u16 {
        if Self::VLAN { tag(meta) } else { 0 }
    }

    /// A packet as Weir counts it, in the tool's measure.
    fn plain(&self, packet: &Packet) -> Option<Counted> {
        let meta = packet.outer.ok()?.meta;
        let (key, sender) = key_of(&meta, self.tag(&meta));
        Some(Counted { key, sender, bytes: self.size(packet, &meta) })
    }
}

/// A record of Weir's and the packets in it.
struct Ours {
    flow: Flow,
    packets: Vec<usize>,
}

/// What a comparison over many captures came to.
#[derive(Default)]
pub struct Table {
    pub captures: u64,
    pub flows: u64,
    pub equal: u64,
    pub by_rule: u64,
    pub unexplained: u64,
    /// Flows that the tool tells and that were equal or explained, link types apart.
    held: u64,
    /// The same after every one of them was told wrong.
    held_wrong: u64,
    rules: BTreeMap<Rule, u64>,
    examples: Vec<String>,
}

/// The share of flows that must be equal or different by a rule.
pub const FLOOR_PERCENT: u64 = 99;

impl Table {
    /// Prints it, whatever the test harness captures, and fails below the floor.
    pub fn finish(self, tool: &str) {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{tool:<10} {:>8} {:>8} {:>8} {:>8} {:>11}\n{:<10} {:>8} {:>8} {:>8} {:>8} {:>11}",
            "captures",
            "flows",
            "equal",
            "by rule",
            "unexplained",
            "",
            self.captures,
            self.flows,
            self.equal,
            self.by_rule,
            self.unexplained
        );
        for (rule, n) in &self.rules {
            let _ = writeln!(text, "{n:>19} {tool} {rule}");
        }
        if std::env::var_os("WEIR_TRUTH").is_some() {
            for e in &self.examples {
                let _ = writeln!(text, "{e}");
            }
        }
        let _ = std::io::stderr().write_all(text.as_bytes());
        assert!(self.flows > 0, "{tool}: nothing was compared");
        assert!(self.held > 0 && self.held_wrong == 0, "{tool}: {} wrong counts were excused", self.held_wrong);
        assert_eq!(self.equal + self.by_rule + self.unexplained, self.flows, "{tool}: every flow counts once");
        assert!(
            (self.equal + self.by_rule) * 100 >= self.flows * FLOOR_PERCENT,
            "{tool}: {} of {} flows are unexplained (WEIR_TRUTH=1 shows some)",
            self.unexplained,
            self.flows
        );
    }

    fn explained(&mut self, rules: &BTreeSet<Rule>) {
        self.flows += 1;
        self.by_rule += 1;
        for r in rules {
            *self.rules.entry(r).or_default() += 1;
        }
    }

    fn unexplained(&mut self, what: impl FnOnce() -> String) {
        self.flows += 1;
        self.unexplained += 1;
        if self.examples.len() < 200 {
            self.examples.push(what());
        }
    }

    /// Compares one capture.
    pub fn compare<T: Tool>(&mut self, tool: &T, capture: &Capture, theirs: &[Flow]) {
        self.compare_told(tool, capture, theirs, true);
    }

    /// Compares one capture; where the tool has not told `all` of its flows, only those it told.
    pub fn compare_told<T: Tool>(&mut self, tool: &T, capture: &Capture, theirs: &[Flow], all: bool) {
        let tries = (0..T::VARIANTS).map(|v| {
            let mut table = Table::default();
            table.compare_as(tool, capture, theirs, all, v);
            table
        });
        if let Some(best) = tries.min_by_key(|t| t.unexplained) {
            self.take(best);
        }
        // No rule may excuse a count that is wrong.
        const OFF: u64 = 1_000_003;
        let wrong = theirs.iter().cloned().map(|mut f| {
            f.sent[0].bytes += OFF;
            f
        });
        let wrong: Vec<Flow> = wrong.collect();
        for v in 0..T::VARIANTS {
            let mut table = Table::default();
            table.compare_as(tool, capture, &wrong, all, v);
            self.held_wrong += table.held;
        }
    }

    fn take(&mut self, other: Table) {
        self.captures += 1;
        self.flows += other.flows;
        self.equal += other.equal;
        self.by_rule += other.by_rule;
        self.unexplained += other.unexplained;
        self.held += other.held;
        for (rule, n) in other.rules {
            *self.rules.entry(rule).or_default() += n;
        }
        self.examples.extend(other.examples);
    }

    fn compare_as<T: Tool>(&mut self, tool: &T, capture: &Capture, theirs: &[Flow], all: bool, variant: usize) {
        let name = capture.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let plain: Vec<Option<Counted>> = capture.packets.iter().map(|p| tool.plain(p)).collect();
        let readings = tool.read(capture, variant);
        assert_eq!(readings.len(), plain.len());
        for (p, r) in plain.iter().zip(&readings) {
            let same = r.counted.as_slice() == p.as_slice();
            assert!(!r.rules.is_empty() || same, "{name}: {p:?} as {r:?} without a rule");
        }

        let mut ours: BTreeMap<Key, Vec<Ours>> = BTreeMap::new();
        match with_packets(tool, capture, &plain) {
            Ok(all) => all.into_iter().for_each(|o| ours.entry(o.flow.key).or_default().push(o)),
            Err(why) => self.unexplained(|| format!("{name}: {why}")),
        }
        let mut told: BTreeMap<Key, Vec<&Flow>> = BTreeMap::new();
        for t in theirs {
            told.entry(t.key).or_default().push(t);
        }
        let mut read: BTreeMap<Key, Vec<(usize, Counted)>> = BTreeMap::new();
        for (i, r) in readings.iter().enumerate() {
            for c in &r.counted {
                read.entry(c.key).or_default().push((i, *c));
            }
        }
        let only_unread = capture.packets.iter().all(|p| p.outer.err() == Some(LeftOut::LinkType));

        let keys: BTreeSet<Key> = ours.keys().chain(told.keys()).copied().collect();
        for key in keys {
            let told = told.remove(&key).unwrap_or_default();
            let case = Case {
                tool,
                capture,
                readings: &readings,
                plain: &plain,
                key,
                ours: ours.remove(&key).unwrap_or_default(),
                runs: Vec::new(),
                packets: read.remove(&key).unwrap_or_default(),
                told,
                all,
            };
            if only_unread {
                case.told.iter().for_each(|_| self.explained(&BTreeSet::from([LINK_TYPE])));
            } else {
                self.decide(&name, case);
            }
        }
    }

    fn decide<T: Tool>(&mut self, name: &str, mut case: Case<'_, T>) {
        case.find_runs();
        let pairs = case.equal_pairs();
        self.flows += pairs.len() as u64;
        self.equal += pairs.len() as u64;
        self.held += pairs.len() as u64;
        let left = |n: usize, taken: &dyn Fn(usize) -> bool| (0..n).filter(|i| !taken(*i)).collect::<Vec<_>>();
        let mut both: BTreeSet<Rule> = BTreeSet::new();
        for i in left(case.told.len(), &|i| pairs.iter().any(|p| p.0 == i)) {
            match case.rules(i) {
                Ok(rules) => {
                    both.extend(&rules);
                    self.held += 1;
                    self.explained(&rules);
                }
                Err(why) => self.unexplained(|| case.show(name, why)),
            }
        }
        if std::env::var("WEIR_TRUTH").is_ok_and(|v| v.len() > 2 && (both.iter().any(|r| r.contains(&v)) || name == v))
        {
            self.examples.push(case.show(name, &both.into_iter().collect::<Vec<_>>().join(" + ")));
        }
        if case.told.len() > pairs.len() || (case.told.is_empty() && !case.all) {
            // What Weir has of this 5-tuple is in the tool's flows, by the same runs of packets; or the tool tells less.
            return;
        }
        for i in left(case.ours.len(), &|i| pairs.iter().any(|p| p.1 == i)) {
            match case.absent(i) {
                Some(rules) => self.explained(&rules),
                None => self.unexplained(|| case.show(name, "only Weir")),
            }
        }
    }
}

/// One 5-tuple on both sides.
struct Case<'a, T> {
    tool: &'a T,
    capture: &'a Capture,
    readings: &'a [Reading],
    plain: &'a [Option<Counted>],
    key: Key,
    ours: Vec<Ours>,
    told: Vec<&'a Flow>,
    /// What the tool reads of it, by its rules.
    packets: Vec<(usize, Counted)>,
    /// Which of `packets` are in each flow of `told`: found once, empty where they do not come out.
    runs: Vec<Range<usize>>,
    all: bool,
}

impl<T: Tool> Case<'_, T> {
    fn equal_pairs(&self) -> Vec<(usize, usize)> {
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
    fn find_runs(&mut self) {
        let mut runs = vec![0..0; self.told.len()];
        let mut open: Vec<usize> = (0..self.told.len()).collect();
        if let [only] = self.told.as_slice()
            && only.stopped
        {
            // Its first packets.
            let n = only.sent.iter().map(|s| s.packets).sum::<u64>() as usize;
            if self.packets.get(..n).is_some_and(|first| sum_of_packets(first) == only.sent) {
                self.runs = vec![0..n];
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
    fn rules(&self, i: usize) -> Result<BTreeSet<Rule>, &'static str> {
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
        if self.ours.iter().all(|o| o.flow.client != flow.client) {
            let packets: Vec<_> = packets.iter().map(|(i, c)| (&self.capture.packets[*i], *c)).collect();
            if !packets.is_empty() && self.tool.client(flow, &packets) != Some(flow.client) {
                return Err("another client");
            }
            if !self.ours.is_empty() {
                rules.insert(T::CLIENT_RULE);
            }
        }
        if rules.is_empty() { Err("differs without a rule") } else { Ok(rules) }
    }

    /// Why Weir's flow `i` is none of the tool's: every packet of it went elsewhere by a rule, and what the tool has is
    /// accounted for.
    fn absent(&self, i: usize) -> Option<BTreeSet<Rule>> {
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

    fn show(&self, name: &str, what: &str) -> String {
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
fn with_packets<T: Tool>(tool: &T, capture: &Capture, plain: &[Option<Counted>]) -> Result<Vec<Ours>, String> {
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
            src: r.client.0,
            dst: r.server.0,
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
