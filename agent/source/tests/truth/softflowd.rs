//! softflowd over a port scan, exported as NetFlow v5, v9 and IPFIX and read back by Weir. (The corpus has exports of a
//! second capture, but not that capture: its hosts are in none.)

use weir_common::parse::PacketMeta;
use weir_core::record::FlowRecord;
use weir_source::{Flows, Input, Observation, Options};

use crate::capture::{Capture, Packet, corpus, key_of};
use crate::engine::{Counted, Flow, Reading, Rule, Sent, Tool};
use crate::table::Table;

const PADDING: Rule = "counts the padding of short frames as IP bytes";

struct Softflowd;

impl Tool for Softflowd {
    const NAME: &'static str = "softflowd";
    const VLAN: bool = false;
    const CLIENT_RULE: Rule = "takes who sent the first packet for the client";

    /// Over a file, `maxlife` and its timeouts are longer than this capture.
    fn records(&self, capture: &Capture) -> Vec<FlowRecord> {
        capture.records(|_| u64::MAX / 4)
    }

    fn size(&self, _: &Packet, meta: &PacketMeta) -> u64 {
        meta.ip_len.into()
    }

    fn read(&self, capture: &Capture, _: usize) -> Vec<Reading> {
        let read = |p: &Packet| {
            let (Ok(outer), Some(plain)) = (p.outer, self.plain(p)) else { return Reading::default() };
            let bytes = u64::from(p.wire_len) - outer.ip_at as u64;
            let rules = if bytes == plain.bytes { Vec::new() } else { vec![PADDING] };
            Reading { counted: vec![Counted { bytes, ..plain }], rules, ..Reading::default() }
        };
        capture.packets.iter().map(read).collect()
    }

    fn client(&self, _: &Flow, packets: &[(&Packet, Counted)]) -> Option<usize> {
        packets.first().map(|(_, c)| c.sender)
    }
}

fn told(path: &std::path::Path) -> Vec<Flow> {
    let options = Options::default();
    let mut flows = Vec::new();
    let input = Input::open(path, &options).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut sink = Flows::new(Default::default(), false, |o: Observation| {
        let r = o.record;
        let opening = PacketMeta {
            src: r.client.0.into(),
            dst: r.server.0.into(),
            src_port: r.client_port,
            dst_port: r.server_port,
            proto: r.proto,
            ..PacketMeta::EMPTY
        };
        let (key, client) = key_of(&opening, 0);
        let [forth, back] = [r.fwd, r.bwd].map(|t| Sent { packets: t.packets, bytes: t.bytes });
        let sent = if client == 0 { [forth, back] } else { [back, forth] };
        flows.push(Flow { key, sent, client, turned: false, stopped: false });
        Ok(())
    });
    input.read(&options, &mut sink).1.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    flows
}

#[test]
fn softflowd_exports_the_same_flows() {
    let Some(root) = corpus("softflowd_exports_the_same_flows", "netflow/from-attacks") else { return };
    let capture = Capture::open(&root.join("../../pcap/ndpi/pcap/synscan.pcap"));
    let mut table = Table::default();
    for version in ["v5", "v9", "v10"] {
        table.compare(&Softflowd, &capture, &told(&root.join(format!("synscan.{version}.dgrams"))));
    }
    table.finish(Softflowd::NAME);
}
