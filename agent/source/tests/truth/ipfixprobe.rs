//! CESNET's ipfixprobe over its own captures: biflows with IP bytes each way.

use std::collections::BTreeSet;

use weir_common::flow::ip_proto;
use weir_common::parse::PacketMeta;
use weir_core::record::FlowRecord;

use crate::capture::{Capture, Packet, corpus, key_of, text};
use crate::engine::{Counted, Flow, Reading, Rule, Sent, Tool};
use crate::table::Table;

const ICMP: Rule = "keeps all ICMP between two hosts in one flow";

/// Which output is of which input, as its `tests/functional/CMakeLists.txt` says, and whether it has every flow: most
/// plugins tell only the flows that they know something of.
const OUTPUTS: [(&str, &str, bool); 23] = [
    ("basic", "mixed.pcap", true),
    ("basicplus", "http.pcap", true),
    ("bstats", "bstats.pcap", false),
    ("dns", "dns.pcap", false),
    ("dnssd", "dnssd.pcap", false),
    ("http", "http.pcap", false),
    ("idpcontent", "idpcontent.pcap", false),
    ("mqtt", "mqtt.pcap", false),
    ("netbios", "netbios.pcap", false),
    ("nettisa", "mixed.pcap", false),
    ("ntp", "ntp.pcap", false),
    ("ovpn", "ovpn.pcap", false),
    ("phists", "mixed.pcap", true),
    ("pstats", "mixed.pcap", true),
    ("quic", "quic_initial-sample.pcap", false),
    ("rtsp", "rtsp.pcap", false),
    ("sip", "sip.pcap", false),
    ("smtp", "smtp.pcap", false),
    ("ssadetector", "ovpn.pcap", false),
    ("ssdp", "ssdp.pcap", false),
    ("tls", "tls.pcap", false),
    ("vlan", "vlan.pcap", true),
    ("wg", "wg.pcap", false),
];

struct Ipfixprobe;

impl Tool for Ipfixprobe {
    const NAME: &'static str = "ipfixprobe";
    const VLAN: bool = true;
    const CLIENT_RULE: Rule = "takes who sent the first packet for the client";

    /// `inactive=30`, the default of its cache.
    fn records(&self, capture: &Capture) -> Vec<FlowRecord> {
        capture.records(|_| 30_000_000)
    }

    fn size(&self, _: &Packet, meta: &PacketMeta) -> u64 {
        meta.ip_len.into()
    }

    fn read(&self, capture: &Capture, _: usize) -> Vec<Reading> {
        capture.packets.iter().map(|p| read(self, p)).collect()
    }

    fn client(&self, _: &Flow, packets: &[(&Packet, Counted)]) -> Option<usize> {
        packets.first().map(|(_, c)| c.sender)
    }
}

fn read(tool: &Ipfixprobe, p: &Packet) -> Reading {
    let (Ok(outer), Some(plain)) = (p.outer, tool.plain(p)) else { return Reading::default() };
    let mut m = outer.meta;
    if matches!(m.proto, ip_proto::ICMP | ip_proto::ICMPV6) {
        (m.src_port, m.dst_port) = (0, 0);
        let (key, sender) = key_of(&m, tool.tag(&m));
        return Reading { counted: vec![Counted { key, sender, ..plain }], rules: vec![ICMP], ..Reading::default() };
    }
    Reading { counted: vec![plain], rules: Vec::new(), ..Reading::default() }
}

/// Rows behind a header of `type NAME` columns, which sorting has put anywhere.
fn flows(text: &str) -> Option<Vec<Flow>> {
    let header = text.lines().find(|l| l.starts_with("ipaddr "))?;
    let names: Vec<&str> = header.split(',').filter_map(|c| Some(c.split_once(' ')?.1)).collect();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        let cell = |name: &str| cells.get(names.iter().position(|n| *n == name)?).copied();
        let number = |name: &str| cell(name)?.parse::<u64>().ok();
        let end = |ip: &str, port: &str| Some((cell(ip)?.parse().ok()?, u16::try_from(number(port)?).ok()?));
        Some(Flow::told(
            u8::try_from(number("PROTOCOL")?).ok()?,
            end("SRC_IP", "SRC_PORT")?,
            end("DST_IP", "DST_PORT")?,
            number("VLAN_ID").map_or(Some(0), |v| u16::try_from(v).ok())?,
            Sent { packets: number("PACKETS")?, bytes: number("BYTES")? },
            Sent { packets: number("PACKETS_REV")?, bytes: number("BYTES_REV")? },
        ))
    };
    // A plugin that exports a flow before its end has it told again when it ends: one flow where nothing else differs.
    let mut seen = BTreeSet::new();
    let times = ["TIME_FIRST", "TIME_LAST"].map(|n| names.iter().position(|c| *c == n));
    let mut flows = Vec::new();
    for line in text.lines().filter(|l| *l != header) {
        let flow = row(line).unwrap_or_else(|| panic!("not understood: {line}"));
        let cells: Vec<&str> = line.split(',').collect();
        let when = times.map(|t| t.and_then(|t| cells.get(t)).copied().unwrap_or_default());
        if seen.insert((flow.key, when, flow.sent.map(|s| (s.packets, s.bytes)))) {
            flows.push(flow);
        }
    }
    Some(flows)
}

#[test]
fn ipfixprobe_counts_the_same_biflows() {
    let part = "pcap/ipfixprobe/tests/functional";
    let Some(root) = corpus("ipfixprobe_counts_the_same_biflows", part) else { return };
    let mut table = Table::default();
    for (output, input, all) in OUTPUTS {
        let told = flows(&text(&root.join("outputs").join(output))).unwrap_or_else(|| panic!("{output}: no header"));
        table.compare_told(&Ipfixprobe, &Capture::open(&root.join("inputs").join(input)), &told, all);
    }
    table.finish(Ipfixprobe::NAME);
}
