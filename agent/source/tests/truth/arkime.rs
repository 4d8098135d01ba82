//! Arkime over its own captures: sessions with frames and bytes of frames each way, in JSON.

use std::collections::HashMap;

use serde_json::Value;
use weir_common::flow::ip_proto;
use weir_common::parse::PacketMeta;
use weir_core::record::FlowRecord;
use weir_source::pcap::Layers;

use crate::capture::{Capture, Packet, Piece, corpus, files, key_of, pieces, text};
use crate::engine::{Counted, Flow, Key, Reading, Rule, Sent, Tool};
use crate::inside::{Inside, look};
use crate::table::Table;

const TUNNELS: Rule = "looks into tunnels (as --decap does)";
const MORE_TUNNELS: Rule = "looks into ERSPAN, Geneve, VXLAN-GPE, NSH and Cisco MetaData";
const DHCP: Rule = "keeps the messages of a DHCP transaction in one session, whoever sent them";
const FRAGMENTS: Rule = "puts fragments together and counts the datagram";
const SCTP_PORTS: Rule = "tells SCTP flows apart by ports";
const SHARED: Rule = "keeps all IGMP in one session, and all PIM";
const SCTP: u8 = 132;
const IGMP: u8 = 2;
const PIM: u8 = 103;
const ICMP: Rule = "keeps all ICMP between two hosts in one session";

struct Arkime;

impl Tool for Arkime {
    const NAME: &'static str = "Arkime";
    const VLAN: bool = false;
    const CLIENT_RULE: Rule = "takes who sent the first packet for the client";

    /// `tcpTimeout`, `udpTimeout`, `icmpTimeout` of its configuration for tests.
    fn records(&self, capture: &Capture) -> Vec<FlowRecord> {
        capture.records(|proto| match proto {
            ip_proto::TCP => 600_000_000,
            ip_proto::UDP => 60_000_000,
            _ => 10_000_000,
        })
    }

    fn size(&self, packet: &Packet, _: &PacketMeta) -> u64 {
        packet.wire_len.into()
    }

    fn read(&self, capture: &Capture, _: usize) -> Vec<Reading> {
        read(capture, |p| self.plain(p))
    }

    fn client(&self, _: &Flow, packets: &[(&Packet, Counted)]) -> Option<usize> {
        packets.first().map(|(_, c)| c.sender)
    }
}

/// What it looks into besides what Weir knows.
const KNOWN: [Inside; 5] = [Inside::Erspan, Inside::Geneve, Inside::VxlanGpe, Inside::Nsh, Inside::MetaData];

fn read(capture: &Capture, plain: impl Fn(&Packet) -> Option<Counted>) -> Vec<Reading> {
    let layers: Vec<Option<Layers>> = capture.packets.iter().map(|p| look(p, &KNOWN).pop()).collect();
    let pieces = pieces(&capture.packets, &layers);
    // Groups that all share a session: the ends are those of its first packet.
    let mut shared: HashMap<u8, Key> = HashMap::new();
    let mut readings = Vec::new();
    let mut dhcp: HashMap<Vec<u8>, (Key, usize)> = HashMap::new();
    for ((p, piece), l) in capture.packets.iter().zip(&pieces).zip(&layers) {
        let Some(inner) = l else {
            readings.push(Reading { counted: plain(p).into_iter().collect(), ..Reading::default() });
            continue;
        };
        let mut rules = Vec::new();
        if p.inner.ok().is_none_or(|i| i.ip_at != inner.ip_at) {
            rules.push(MORE_TUNNELS);
        } else if p.outer.ok().is_none_or(|o| o.ip_at != inner.ip_at) {
            rules.push(TUNNELS);
        }
        let (mut m, mut bytes) = (inner.meta, u64::from(p.wire_len));
        match piece {
            Piece::Whole => {}
            Piece::Part => {
                readings.push(Reading { counted: Vec::new(), rules: vec![FRAGMENTS], ..Reading::default() });
                continue;
            }
            Piece::Last(datagram) => {
                rules.push(FRAGMENTS);
                m = datagram.outer.map_or(m, |l| l.meta);
                bytes = inner.ip_at as u64 + u64::from(datagram.wire_len);
            }
        }
        let l4 = inner.ip_at + m.l3_len as usize;
        match m.proto {
            ip_proto::ICMP | ip_proto::ICMPV6 => {
                (m.src_port, m.dst_port) = (0, 0);
                rules.push(ICMP);
            }
            SCTP => {
                if let (Some(from), Some(to)) = (p.be16(l4), p.be16(l4 + 2)) {
                    (m.src_port, m.dst_port) = (from, to);
                    rules.push(SCTP_PORTS);
                }
            }
            _ => {}
        }
        let (mut key, mut sender) = key_of(&m, 0);
        if let IGMP | PIM = m.proto {
            let first = *shared.entry(m.proto).or_insert(key);
            (key, sender) = (first, if first == key { sender } else { 0 });
            rules.push(SHARED);
        }
        if let Some((transaction, from_client)) = transaction(p, inner) {
            let (first, client) = *dhcp.entry(transaction).or_insert((key, sender));
            (key, sender) = (first, if from_client { client } else { 1 - client });
            rules.push(DHCP);
        }
        readings.push(Reading { counted: vec![Counted { key, sender, bytes }], rules, ..Reading::default() });
    }
    readings
}

/// Which exchange a DHCP (RFC 2131) or DHCPv6 (RFC 8415) message belongs to, and whether a client sent it.
fn transaction(p: &Packet, l: &Layers) -> Option<(Vec<u8>, bool)> {
    let m = &l.meta;
    if m.proto != ip_proto::UDP || m.fragment != 0 {
        return None;
    }
    let at = l.ip_at + m.l3_len as usize + 8;
    let kind = p.byte(at)?;
    match (m.src_port, m.dst_port) {
        (67 | 68, 67 | 68) => Some((p.data.get(at + 4..at + 8)?.to_vec(), kind == 1)),
        (546 | 547, 546 | 547) => Some((p.data.get(at + 1..at + 4)?.to_vec(), !matches!(kind, 2 | 7 | 10 | 13))),
        _ => None,
    }
}

/// `None`: not of IP.
fn flow(session: &Value) -> Option<Flow> {
    let body = &session["body"];
    let number = |v: &Value| v.as_u64();
    let end = |v: &Value| Some((v["ip"].as_str()?.parse().ok()?, u16::try_from(number(&v["port"])?).ok()?));
    let sent = |v: &Value| Some(Sent { packets: number(&v["packets"])?, bytes: number(&v["bytes"])? });
    let (source, destination) = (&body["source"], &body["destination"]);
    source.get("ip")?;
    let flow = || {
        let proto = u8::try_from(number(&body["ipProtocol"])?).ok()?;
        Some(Flow::told(proto, end(source)?, end(destination)?, 0, sent(source)?, sent(destination)?))
    };
    Some(flow().unwrap_or_else(|| panic!("not understood: {source} {destination}")))
}

#[test]
fn arkime_counts_the_same_sessions() {
    let Some(root) = corpus("arkime_counts_the_same_sessions", "pcap/arkime/tests/pcap") else { return };
    let mut table = Table::default();
    for path in files(&root).into_iter().filter(|p| p.extension().is_some_and(|e| e == "test")) {
        let told: Value = serde_json::from_str(&text(&path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // An older version's name.
        let sessions = told.get("sessions3").or(told.get("sessions2")).and_then(Value::as_array);
        let sessions = sessions.unwrap_or_else(|| panic!("{}: no sessions", path.display()));
        let flows: Vec<Flow> = sessions.iter().filter_map(flow).collect();
        let capture = path.with_extension("pcap");
        if capture.is_file() {
            table.compare(&Arkime, &Capture::open(&capture), &flows);
        }
    }
    table.finish(Arkime::NAME);
}
