//! Zeek over its own captures: `conn.log` as its own tests expect it.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;

use weir_common::flow::ip_proto;
use weir_common::parse::PacketMeta;
use weir_core::record::FlowRecord;
use weir_source::pcap::Layers;

use crate::capture::{Capture, Packet, Piece, bad_checksum, corpus, key_of, pieces, text};
use crate::engine::{Counted, Flow, Reading, Rule, Sent, Tool};
use crate::inside::{Inside, look};
use crate::table::Table;

const TUNNELS: Rule =
    "logs tunnels over UDP and what is in them; of IP in IP and GRE only what is in them (as --decap)";

const CUT: Rule = "leaves out packets whose TCP header was not captured to its end";
const CHECKSUM: Rule = "leaves out packets with a wrong checksum, unless it is told not to";
const FRAGMENTS: Rule = "puts fragments together and counts the datagram";

struct Zeek;

impl Tool for Zeek {
    const NAME: &'static str = "Zeek";
    const VLAN: bool = false;
    /// With and without `-C`, which its tests use where a capture was taken before the network card set checksums.
    const VARIANTS: usize = 2;
    const CLIENT_RULE: Rule =
        "takes who sent the first packet for the client, or turns it around and says so (^ in its history)";

    const STOP_RULE: Rule = "stops counting a connection that it finds to carry GridFTP data";

    /// `tcp_inactivity_timeout`, `udp_inactivity_timeout`, `icmp_inactivity_timeout`.
    fn records(&self, capture: &Capture) -> Vec<FlowRecord> {
        capture.records(|proto| if proto == ip_proto::TCP { 300_000_000 } else { 60_000_000 })
    }

    fn size(&self, _: &Packet, meta: &PacketMeta) -> u64 {
        meta.ip_len.into()
    }

    fn read(&self, capture: &Capture, variant: usize) -> Vec<Reading> {
        read(capture, variant == 0, |p| self.plain(p))
    }

    fn client(&self, flow: &Flow, packets: &[(&Packet, Counted)]) -> Option<usize> {
        let first = packets.first()?.1.sender;
        Some(if flow.turned { 1 - first } else { first })
    }
}

/// What it looks into besides what Weir knows.
const KNOWN: [Inside; 8] = [
    Inside::GreInUdp,
    Inside::FabricPath,
    Inside::Pbb,
    Inside::VnTag,
    Inside::Erspan,
    Inside::Geneve,
    Inside::Teredo,
    Inside::Ayiya,
];

fn read(capture: &Capture, checksums: bool, plain: impl Fn(&Packet) -> Option<Counted>) -> Vec<Reading> {
    let seen: Vec<Vec<Layers>> = capture.packets.iter().map(|p| look(p, &KNOWN)).collect();
    let innermost: Vec<Option<Layers>> = seen.iter().map(|s| s.last().copied()).collect();
    let pieces = pieces(&capture.packets, &innermost);
    let mut readings = Vec::new();
    for ((p, seen), piece) in capture.packets.iter().zip(&seen).zip(&pieces) {
        let mut read = Reading::default();
        if seen.is_empty() {
            readings.push(Reading { counted: plain(p).into_iter().collect(), ..Reading::default() });
            continue;
        }
        if seen.len() > 1 || p.outer.is_err() {
            read.rules.push(TUNNELS);
        }
        // The innermost layer is counted, and each one of UDP that carries another.
        let carriers = seen.len() - 1;
        let (mut layers_here, mut from) = (seen.clone(), p);
        match piece {
            Piece::Whole => {}
            Piece::Part => {
                read.rules.push(FRAGMENTS);
                layers_here.truncate(carriers);
            }
            Piece::Last(datagram) => {
                read.rules.push(FRAGMENTS);
                layers_here.truncate(carriers);
                for l in &layers_here {
                    count(&mut read, p, l, checksums, true);
                }
                (layers_here, from) = (look(datagram, &KNOWN), datagram);
            }
        }
        let ends_here = !matches!(piece, Piece::Part);
        let last = layers_here.len();
        for (i, l) in layers_here.iter().enumerate() {
            count(&mut read, from, l, checksums, !ends_here || i + 1 < last);
        }
        readings.push(read);
    }
    readings
}

fn count(read: &mut Reading, p: &Packet, l: &Layers, checksums: bool, carries: bool) {
    if carries && l.meta.proto != ip_proto::UDP {
        return;
    }
    let (key, sender) = key_of(&l.meta, 0);
    let cut = l.meta.proto == ip_proto::TCP
        && l.meta.fragment == 0
        && p.data.len() < l.ip_at + (l.meta.l3_len + l.meta.l4_len) as usize;
    if cut || (checksums && bad_checksum(p, l)) {
        read.rules.push(if cut { CUT } else { CHECKSUM });
        read.left_out.push(key);
        return;
    }
    read.counted.push(Counted { key, sender, bytes: l.meta.ip_len.into() });
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
                // GridFTP's data is skipped once it is seen to be that.
                let stopped = cell(&["service"])?.split(',').any(|s| s == "gridftp-data");
                let turned = cell(&["history"])?.starts_with('^');
                Some(Flow {
                    turned,
                    stopped,
                    ..Flow::told(proto, (client, client_port), (server, server_port), 0, there, back)
                })
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
    let mut dropping = 0;
    let packets = |flows: &[Flow]| flows.iter().flat_map(|f| f.sent).map(|s| s.packets).sum::<u64>();
    for line in text(&root.join("MAP.tsv")).lines() {
        let Some((capture, log)) = line.split_once('\t') else { continue };
        // A test in which a script drops packets while Zeek reads says nothing of the capture.
        if log.contains(".frameworks.netcontrol.") {
            dropping += 1;
            continue;
        }
        let told = flows(&text(&root.join(log.strip_prefix("testing/btest/").unwrap_or(log))));
        let fullest = logs.entry(capture.to_string()).or_insert_with(|| told.clone());
        if packets(&told) > packets(fullest) {
            *fullest = told;
        }
    }
    let _ = writeln!(
        std::io::stderr(),
        "Zeek: {dropping} logs of tests in which its netcontrol framework drops packets are set aside"
    );
    for (capture, told) in logs {
        table.compare(&Zeek, &Capture::open(&root.join("Traces").join(capture)), &told);
    }
    table.finish(Zeek::NAME);
}
