//! Two sets of flows of one capture, Weir's and another tool's: equal, different by a rule, or unexplained.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::net::IpAddr;

use weir_common::flow::FlowKey;
use weir_common::parse::PacketMeta;
use weir_core::addr::Addr;
use weir_core::record::FlowRecord;

use crate::capture::{Capture, Packet, key_of, tag};

/// What a tool does otherwise than Weir, in words.
pub type Rule = &'static str;

/// Flows of one 5-tuple are cut from its packets elsewhere, and hold the same packets together.
pub const CUT_ELSEWHERE: Rule = "cuts the packets of a 5-tuple into flows at other times (sums are equal)";
pub const LINK_TYPE: Rule = "reads a link type that Weir does not read (and reports)";

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
}

impl Flow {
    /// A flow as a tool tells it: client first.
    pub fn told(proto: u8, client: End, server: End, vlan: u16, to_server: Sent, to_client: Sent) -> Self {
        let (ends, at) = order(client, server);
        let sent = if at == 0 { [to_server, to_client] } else { [to_client, to_server] };
        Self { key: Key { proto, ends, vlan }, sent, client: at, turned: false }
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
    pub rules: Vec<Rule>,
}

/// How a tool goes about it.
pub trait Tool {
    const NAME: &'static str;
    /// Who it says is the client, where that is not what Weir says.
    const CLIENT_RULE: Rule;

    /// Weir's records with the tool's timeouts.
    fn records(&self, capture: &Capture) -> Vec<FlowRecord>;
    /// Bytes of a packet as the tool measures them. `ip_len` is what Weir counts.
    fn size(&self, packet: &Packet, meta: &PacketMeta) -> u64;
    /// What the tool does with each packet.
    fn read(&self, capture: &Capture) -> Vec<Reading>;
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
            "captures", "flows", "equal", "by rule", "unexplained", "", self.captures, self.flows, self.equal,
            self.by_rule, self.unexplained
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
        self.captures += 1;
        let name = capture.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let plain: Vec<Option<Counted>> = capture.packets.iter().map(|p| tool.plain(p)).collect();
        let readings = tool.read(capture);
        assert_eq!(readings.len(), plain.len());
        for ((p, r), packet) in plain.iter().zip(&readings).zip(&capture.packets) {
            let same = r.counted.as_slice() == p.as_slice();
            let why = packet.outer.err();
            assert!(!r.rules.is_empty() || same, "{name}: {p:?} as {r:?} without a rule ({why:?})");
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
        let only_unread = capture.packets.iter().all(|p| p.outer.err() == Some(weir_source::pcap::LeftOut::LinkType));

        let keys: BTreeSet<Key> = ours.keys().chain(told.keys()).copied().collect();
        for key in keys {
            let mut o = ours.remove(&key).unwrap_or_default();
            let mut t = told.remove(&key).unwrap_or_default();
            let p = read.remove(&key).unwrap_or_default();
            let case = Case { key, told: t.len(), kept: o.len(), sums: sum(t.iter().map(|t| t.sent)), packets: &p };
            // Equal outright.
            t.retain(|t| {
                let same = o.iter().position(|o| o.flow.sent == t.sent && o.flow.client == t.client);
                if let Some(at) = same {
                    o.remove(at);
                    self.flows += 1;
                    self.equal += 1;
                }
                same.is_none()
            });
            let show = |what: &str| {
                let left: Vec<_> = o.iter().map(|o| (o.flow.sent, o.flow.client)).collect();
                let missing: Vec<_> = t.iter().map(|t| (t.sent, t.client)).collect();
                format!(
                    "{name}: {key:?}: {what}\n    {} says {missing:?}\n    Weir says {left:?}\n    by rule   {:?}",
                    T::NAME,
                    sum_of_packets(&p)
                )
            };
            if t.is_empty() && !all && case.told == 0 {
                continue;
            }
            if t.is_empty() {
                // Weir has flows that the tool has not.
                for left in &o {
                    let mut rules = BTreeSet::new();
                    let all = left.packets.iter().all(|&i| {
                        rules.extend(&readings[i].rules);
                        !readings[i].rules.is_empty()
                    });
                    if all && case.sums == sum_of_packets(&p) {
                        self.explained(&rules);
                    } else {
                        self.unexplained(|| show("only Weir"));
                    }
                }
                continue;
            }
            if only_unread {
                t.iter().for_each(|_| self.explained(&BTreeSet::from([LINK_TYPE])));
                continue;
            }
            let rules = case.rules(tool, capture, &readings, &plain, &t, &o);
            for _ in &t {
                match &rules {
                    Ok(rules) => self.explained(rules),
                    Err(why) => self.unexplained(|| show(why)),
                }
            }
        }
    }
}

/// One 5-tuple on both sides.
struct Case<'a> {
    key: Key,
    told: usize,
    kept: usize,
    sums: [Sent; 2],
    /// What the tool reads of it, by its rules.
    packets: &'a [(usize, Counted)],
}

impl Case<'_> {
    /// Why the flows `t` that the tool tells differ from those `o` that Weir has.
    fn rules<T: Tool>(
        &self,
        tool: &T,
        capture: &Capture,
        readings: &[Reading],
        plain: &[Option<Counted>],
        t: &[&Flow],
        o: &[Ours],
    ) -> Result<BTreeSet<Rule>, &'static str> {
        if sum_of_packets(self.packets) != self.sums {
            return Err("other packets or bytes");
        }
        let mut rules: BTreeSet<Rule> =
            self.packets.iter().flat_map(|(i, _)| &readings[*i].rules).copied().collect();
        for (i, p) in plain.iter().enumerate() {
            if p.is_some_and(|p| p.key == self.key) {
                rules.extend(&readings[i].rules);
            }
        }
        if self.told > 1 || self.kept > 1 {
            rules.insert(CUT_ELSEWHERE);
        }
        let packets: Vec<_> = self.packets.iter().map(|(i, c)| (&capture.packets[*i], *c)).collect();
        for flow in t {
            if o.iter().any(|o| o.flow.client == flow.client) {
                continue;
            }
            if tool.client(flow, &packets) != Some(flow.client) && self.told == 1 {
                return Err("another client");
            }
            if !o.is_empty() {
                rules.insert(T::CLIENT_RULE);
            }
        }
        if rules.is_empty() { Err("differs without a rule") } else { Ok(rules) }
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
        all.push(Ours { flow: Flow { key, sent, client, turned: false }, packets });
    }
    match of_key.into_iter().find(|(_, left)| !left.is_empty()) {
        Some((key, left)) => Err(format!("{key:?}: {} packets are in no record", left.len())),
        None => Ok(all),
    }
}
