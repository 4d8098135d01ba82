//! nDPI's `ndpiReader` over its own captures: every flow with frames and bytes of frames each way.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use weir_common::flow::ip_proto;
use weir_common::parse::PacketMeta;
use weir_core::addr::Addr;
use weir_core::record::FlowRecord;
use weir_source::pcap::Layers;

use crate::capture::{Capture, Packet, corpus, files, key_of, tag, text};
use crate::engine::{Counted, End, Flow, Reading, Rule, Sent, Tool};
use crate::inside::{Inside, look};
use crate::table::Table;

const TUNNELS: Rule = "looks into tunnels (as --decap does)";
const FRAGMENTS: Rule = "leaves out fragments but the first";
const CUT: Rule = "leaves out packets that the capture holds less of than their header says";
const SHORT: Rule = "leaves out frames of under 28 bytes";
const CAPTURED: Rule = "counts the bytes captured, not those on the wire";
const MORE_TUNNELS: Rule = "looks into TZSP and CAPWAP";
const NOT_IP: Rule = "leaves out data in CAPWAP that is not IP";
const MALFORMED: Rule = "takes ports behind a header that is malformed";
const NO_HEADER: Rule = "gives no ports to a packet whose IP length leaves no room for a TCP or UDP header";
const ICMP: Rule = "keeps all ICMP between two hosts in one flow";

struct Ndpi;

impl Tool for Ndpi {
    const NAME: &'static str = "nDPI";
    const VLAN: bool = true;
    const CLIENT_RULE: Rule = "takes who sent the first packet for the client";

    /// Over a file it has no timeouts.
    fn records(&self, capture: &Capture) -> Vec<FlowRecord> {
        capture.records(|_| u64::MAX / 4)
    }

    fn size(&self, packet: &Packet, _: &PacketMeta) -> u64 {
        packet.wire_len.into()
    }

    fn read(&self, capture: &Capture, _: usize) -> Vec<Reading> {
        capture.packets.iter().map(|p| read(p, self.plain(p))).collect()
    }

    fn client(&self, _: &Flow, packets: &[(&Packet, Counted)]) -> Option<usize> {
        packets.first().map(|(_, c)| c.sender)
    }
}

fn read(p: &Packet, plain: Option<Counted>) -> Reading {
    let out = |rule| Reading { counted: Vec::new(), rules: vec![rule], ..Reading::default() };
    let seen = look(p, &[Inside::Tzsp, Inside::Capwap]);
    let Some(inner) = seen.last() else {
        return Reading { counted: plain.into_iter().collect(), ..Reading::default() };
    };
    if p.data.len() < 28 {
        return out(SHORT);
    }
    if Inside::Capwap.behind(p, Some(inner)).is_some_and(|(at, _)| at < p.data.len()) {
        return out(NOT_IP);
    }
    let mut m = inner.meta;
    if m.fragment != 0 {
        return out(FRAGMENTS);
    }
    let end = claimed_end(p, inner);
    let Some(end) = end.filter(|end| *end <= p.data.len()) else { return out(CUT) };

    let mut rules = Vec::new();
    let outer = p.outer.ok();
    if p.inner.ok().is_none_or(|i| i.ip_at != inner.ip_at) {
        rules.push(MORE_TUNNELS);
    } else if outer.is_none_or(|o| o.ip_at != inner.ip_at) {
        rules.push(TUNNELS);
    }
    // Ports are where the length of the IP header puts them, whatever else is wrong.
    let l4 = match m.family {
        4 => p.byte(inner.ip_at).map(|b| inner.ip_at + usize::from(b & 0x0f) * 4),
        _ => (m.l3_len > 0).then_some(inner.ip_at + m.l3_len as usize),
    };
    if matches!(m.proto, ip_proto::ICMP | ip_proto::ICMPV6) {
        (m.src_port, m.dst_port) = (0, 0);
        rules.push(ICMP);
    } else if let (ip_proto::TCP | ip_proto::UDP, Some(l4)) = (m.proto, l4) {
        let header = if m.proto == ip_proto::TCP { 20 } else { 8 };
        let there = end.saturating_sub(l4) >= header;
        let ports = if there { (p.be16(l4), p.be16(l4 + 2)) } else { (Some(0), Some(0)) };
        if let (Some(from), Some(to)) = ports
            && (from, to) != (m.src_port, m.dst_port)
        {
            (m.src_port, m.dst_port) = (from, to);
            rules.push(if there { MALFORMED } else { NO_HEADER });
        }
    }
    if p.cut() {
        rules.push(CAPTURED);
    }
    // A frame within a tunnel may have no tag of its own.
    let vlan = if tag(&m) != 0 { tag(&m) } else { outer.map_or(0, |o| tag(&o.meta)) };
    let (key, sender) = key_of(&m, vlan);
    Reading { counted: vec![Counted { key, sender, bytes: p.data.len() as u64 }], rules, ..Reading::default() }
}

/// Where the IP packet ends by its own header; the frame's end where it does not say.
fn claimed_end(p: &Packet, l: &Layers) -> Option<usize> {
    let at = l.ip_at;
    Some(match l.meta.family {
        4 => match p.be16(at + 2)? {
            0 => p.data.len(),
            n => at + usize::from(n),
        },
        _ => at + 40 + usize::from(p.be16(at + 4)?),
    })
}

fn protocol(name: &str) -> Option<u8> {
    Some(match name {
        "TCP" => 6,
        "UDP" => 17,
        "ICMP" => 1,
        "ICMPV6" => 58,
        "IGMP" => 2,
        "IPIP" => 4,
        "GRE" => 47,
        "ESP" => 50,
        "AH" => 51,
        "OSPF" => 89,
        "PIM" => 103,
        "VRRP" => 112,
        "PGM" => 113,
        "SCTP" => 132,
        number => return number.parse().ok(),
    })
}

fn end(text: &str, known: &BTreeSet<IpAddr>) -> Option<End> {
    let (ip, port) = text.rsplit_once(':')?;
    Some((address(ip.trim_matches(['[', ']']), known)?, port.parse().ok()?))
}

/// It writes `::` for `:0:`, which may leave two of them, of which one is what it was: which, the capture tells.
fn address(text: &str, known: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let at = text.match_indices("::").map(|(i, _)| i);
    let zeros: Vec<IpAddr> = at.filter_map(|i| format!("{}:0:{}", &text[..i], &text[i + 2..]).parse().ok()).collect();
    let seen = zeros.iter().find(|ip| known.contains(ip)).or(zeros.first()).copied();
    text.parse().ok().or(seen)
}

/// `12 pkts/3456 bytes`
fn sent(text: &str) -> Option<Sent> {
    let (packets, bytes) = text.trim_matches(['[', ']']).split_once(" pkts/")?;
    Some(Sent { packets: packets.parse().ok()?, bytes: bytes.strip_suffix(" bytes")?.parse().ok()? })
}

/// `<tab>1<tab>TCP 1.2.3.4:5 <-> 6.7.8.9:10 [...][VLAN: 7][...][1 pkts/60 bytes <-> 2 pkts/120 bytes][...]`
fn flow(line: &str, known: &BTreeSet<IpAddr>) -> Option<Flow> {
    let (_, line) = line.strip_prefix('\t')?.split_once('\t')?;
    let mut words = line.split(' ');
    let proto = protocol(words.next()?)?;
    let source = end(words.next()?, known)?;
    let ("<->" | "->", destination) = (words.next()?, end(words.next()?, known)?) else { return None };
    let vlan = match line.split_once("[VLAN: ") {
        Some((_, rest)) => rest.split_once(']')?.0.parse().ok()?,
        None => 0,
    };
    let counts = line.split("][").find(|part| part.contains(" pkts/") && part.contains(" bytes "))?;
    let (forth, back) = counts.split_once(" <-> ").or_else(|| counts.split_once(" -> "))?;
    Some(Flow::told(proto, source, destination, vlan, sent(forth)?, sent(back)?))
}

fn flows(path: &Path, capture: &Capture) -> Vec<Flow> {
    let text = text(path);
    let layers = capture.packets.iter().flat_map(|p| [p.outer, p.inner]).flatten();
    let known = layers.flat_map(|l| [Addr(l.meta.src.bytes()).ip(), Addr(l.meta.dst.bytes()).ip()]).collect();
    let lines = text.lines().filter(|l| l.contains(" pkts/") && l.contains(" bytes"));
    lines.map(|l| flow(l, &known).unwrap_or_else(|| panic!("{}: not understood: {l}", path.display()))).collect()
}

#[test]
fn ndpi_counts_the_same_flows() {
    let Some(root) = corpus("ndpi_counts_the_same_flows", "pcap/ndpi") else { return };
    let mut table = Table::default();
    for path in files(&root.join("pcap")) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let result = root.join("result").join(format!("{name}.out"));
        if result.is_file() {
            let capture = Capture::open(&path);
            table.compare(&Ndpi, &capture, &flows(&result, &capture));
        }
    }
    table.finish("nDPI");
}
