//! Zeek over its own captures: `conn.log` as its own tests expect it.

use std::collections::{BTreeMap, HashMap};

use weir_common::flow::ip_proto;
use weir_common::parse::PacketMeta;
use weir_core::record::FlowRecord;
use weir_source::pcap::Layers;

use crate::capture::{Capture, Packet, Piece, corpus, key_of, pieces, text};
use crate::engine::{Counted, Flow, Reading, Rule, Sent, Table, Tool};
use crate::inside::{Inside, look};

const TUNNELS: Rule = "logs tunnels over UDP and what is in them; of IP in IP and GRE only what is in them (as --decap)";

const FRAGMENTS: Rule = "puts fragments together and counts the datagram";

struct Zeek;

impl Tool for Zeek {
    const NAME: &'static str = "Zeek";
    const VLAN: bool = false;
    const CLIENT_RULE: Rule = "takes who sent the first packet for the client, or turns it around and says so (^ in its history)";

    /// `tcp_inactivity_timeout`, `udp_inactivity_timeout`, `icmp_inactivity_timeout`.
    fn records(&self, capture: &Capture) -> Vec<FlowRecord> {
        capture.records(|proto| if proto == ip_proto::TCP { 300_000_000 } else { 60_000_000 })
    }

    fn size(&self, _: &Packet, meta: &PacketMeta) -> u64 {
        meta.ip_len.into()
    }

    fn read(&self, capture: &Capture) -> Vec<Reading> {
        read(capture, |p| self.plain(p))
    }

    fn client(&self, flow: &Flow, packets: &[(&Packet, Counted)]) -> Option<usize> {
        let first = packets.first()?.1.sender;
        Some(if flow.turned { 1 - first } else { first })
    }
}

/// What it looks into besides what Weir knows.
const KNOWN: [Inside; 7] = [
    Inside::FabricPath,
    Inside::Pbb,
    Inside::VnTag,
    Inside::Erspan,
    Inside::Geneve,
    Inside::Teredo,
    Inside::Ayiya,
];

fn read(capture: &Capture, plain: impl Fn(&Packet) -> Option<Counted>) -> Vec<Reading> {
    // Every IP packet that it meets on its way in; the innermost may be a fragment.
    let seen: Vec<Vec<Layers>> = capture
        .packets
        .iter()
        .map(|p| {
            let mut all = look(p, &KNOWN);
            if let Ok(outer) = p.outer
                && all.first().is_none_or(|l| l.ip_at != outer.ip_at)
            {
                all.insert(0, outer);
            }
            all
        })
        .collect();
    let layers: Vec<Option<Layers>> = seen.iter().map(|s| s.last().copied()).collect();
    let pieces = pieces(&capture.packets, &layers);
    let mut readings = Vec::new();
    for ((p, seen), piece) in capture.packets.iter().zip(&seen).zip(&pieces) {
        let mut read = Reading::default();
        let Some((inner, carriers)) = seen.split_last() else {
            readings.push(Reading { counted: plain(p).into_iter().collect(), rules: Vec::new() });
            continue;
        };
        if !carriers.is_empty() || p.outer.is_err() {
            read.rules.push(TUNNELS);
        }
        for l in carriers.iter().filter(|l| l.meta.proto == ip_proto::UDP) {
            let (key, sender) = key_of(&l.meta, 0);
            read.counted.push(Counted { key, sender, bytes: l.meta.ip_len.into() });
        }
        let (mut m, mut bytes) = (inner.meta, u64::from(inner.meta.ip_len));
        match *piece {
            Piece::Whole => {}
            Piece::Part => {
                read.rules.push(FRAGMENTS);
                readings.push(read);
                continue;
            }
            Piece::Last { first, ip_len } => {
                read.rules.push(FRAGMENTS);
                m = layers[first].map_or(m, |l| l.meta);
                bytes = ip_len;
            }
        }
        let (key, sender) = key_of(&m, 0);
        read.counted.push(Counted { key, sender, bytes });
        readings.push(read);
    }
    readings
}

/// Rows under `#fields`; `#separator` is a tab throughout. Scripts rename columns: both ends are found by any of the
/// names in use.
fn flows(log: &str) -> Vec<Flow> {
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut flows = Vec::new();
    for line in log.lines() {
        if let Some(fields) = line.strip_prefix("#fields\t") {
            names = fields.split('\t').enumerate().map(|(i, n)| (n, i)).collect();
        } else if !line.starts_with('#') {
            let cells: Vec<&str> = line.split('\t').collect();
            let cell = |any: &[&str]| cells.get(*any.iter().find_map(|n| names.get(n))?).copied();
            let number = |name: &str| cell(&[name])?.parse::<u64>().ok();
            let flow = || {
                let proto = match cell(&["proto"])? {
                    "tcp" => ip_proto::TCP,
                    "udp" => ip_proto::UDP,
                    _ => u8::try_from(number("ip_proto")?).ok()?,
                };
                let client = cell(&["id.orig_h", "id_orig_h", "src", "src_ip"])?.parse().ok()?;
                let server = cell(&["id.resp_h", "id_resp_h", "dst", "dst_ip"])?.parse().ok()?;
                let client_port = cell(&["id.orig_p", "id_orig_p", "src_port"])?.parse().ok()?;
                let server_port = cell(&["id.resp_p", "id_resp_p", "dst_port"])?.parse().ok()?;
                let there = Sent { packets: number("orig_pkts")?, bytes: number("orig_ip_bytes")? };
                let back = Sent { packets: number("resp_pkts")?, bytes: number("resp_ip_bytes")? };
                let turned = cell(&["history"])?.starts_with('^');
                Some(Flow { turned, ..Flow::told(proto, (client, client_port), (server, server_port), 0, there, back) })
            };
            flows.push(flow().unwrap_or_else(|| panic!("not understood: {line}")));
        }
    }
    flows
}

#[test]
fn zeek_counts_the_same_connections() {
    let Some(root) = corpus("zeek_counts_the_same_connections", "pcap/zeek-btest") else { return };
    let mut table = Table::default();
    // Some captures have several logs. Scripts under test filter and shunt: the log with the most packets is Zeek's own.
    let mut logs: BTreeMap<String, Vec<Flow>> = BTreeMap::new();
    let packets = |flows: &[Flow]| flows.iter().flat_map(|f| f.sent).map(|s| s.packets).sum::<u64>();
    for line in text(&root.join("MAP.tsv")).lines() {
        let Some((capture, log)) = line.split_once('\t') else { continue };
        let told = flows(&text(&root.join(log.strip_prefix("testing/btest/").unwrap_or(log))));
        let fullest = logs.entry(capture.to_string()).or_default();
        if packets(&told) > packets(fullest) {
            *fullest = told;
        }
    }
    for (capture, told) in logs {
        table.compare(&Zeek, &Capture::open(&root.join("Traces").join(capture)), &told);
    }
    table.finish(Zeek::NAME);
}
