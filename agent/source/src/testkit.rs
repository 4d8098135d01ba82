//! Flows of any kind, for tests.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use weir_common::flow::{FlowKey, FlowStats, ip_proto};
use weir_core::addr::Addr;
use weir_core::context::Context;
use weir_core::record::{EndReason, FlowState, Have};
use weir_core::role::Direction;
use weir_core::stat_fields::STAT_FIELDS;

use crate::columns::blank;
use crate::report::{Report, SourceError};
use crate::sink::{Observation, Sink, Stop};
use crate::write::{Form, Row, Shape, writer};
use crate::{Input, Options};

/// A file in memory that outlives its writer.
#[derive(Clone, Default)]
pub(crate) struct Memory(pub Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn written(form: Form, shape: Shape, rows: &[Row<'_>]) -> Vec<u8> {
    let memory = Memory::default();
    let mut out = writer(form, shape, memory.clone()).unwrap();
    for row in rows {
        out.write(row).unwrap();
    }
    out.finish().unwrap();
    drop(out);
    memory.0.lock().unwrap().clone()
}

pub(crate) fn flows(form: Form, flows: &[Observation]) -> Vec<u8> {
    let rows: Vec<_> = flows.iter().map(|flow| Row { flow, anomaly: None, anomaly_p: 0.01 }).collect();
    written(form, Shape::default(), &rows)
}

/// Keeps what comes.
#[derive(Default)]
pub(crate) struct Kept(pub Vec<Observation>);

impl Sink for Kept {
    fn epoch(&mut self, _: u64, _: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), Stop> {
        panic!("flows come as flows");
    }
    fn flow(&mut self, flow: Observation) -> Result<(), Stop> {
        self.0.push(flow);
        Ok(())
    }
    fn end(&mut self) -> Result<(), Stop> {
        Ok(())
    }
}

/// As from a pipe, recognised by its contents.
pub(crate) fn read_back(bytes: &[u8]) -> (Vec<Observation>, Report, Result<(), SourceError>) {
    let mut kept = Kept::default();
    let stream = io::Cursor::new(bytes.to_vec());
    match Input::new(stream, "test".into(), None, &Options::default()) {
        Ok(input) => {
            let (report, result) = input.read(&Options::default(), &mut kept);
            (kept.0, report, result)
        }
        Err(e) => (Vec::new(), Report::default(), Err(e)),
    }
}

fn addr() -> impl Strategy<Value = Addr> {
    prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(|a| std::net::IpAddr::V4(a).into()),
        any::<[u8; 16]>().prop_map(Addr),
    ]
}

/// Any packet statistics, those of no packet among them.
fn stats() -> impl Strategy<Value = FlowStats> {
    let number = prop_oneof![Just(0), Just(u64::MAX), 0..2_000_u64, any::<u64>()];
    proptest::option::of(proptest::collection::vec(proptest::option::of(number), 2 * STAT_FIELDS.len())).prop_map(|v| {
        let mut stats = FlowStats::EMPTY;
        for (i, value) in v.into_iter().flatten().enumerate() {
            let f = &STAT_FIELDS[i % STAT_FIELDS.len()];
            if let Some(value) = value {
                let value = if f.narrow { value & u64::from(u32::MAX) } else { value };
                (f.set)(&mut stats.dir[i / STAT_FIELDS.len()], value).unwrap();
            }
        }
        stats
    })
}

fn text() -> impl Strategy<Value = Option<Arc<str>>> {
    proptest::option::of(prop_oneof![Just("Benign".to_owned()), ".*"].prop_map(Arc::from))
}

/// What any source may hand on: what it cannot tell is 0 (see [`Have`]). Times reach to the year 294246, which is as far as
/// Parquet's type does.
pub(crate) fn observation() -> impl Strategy<Value = Observation> {
    let time = prop_oneof![0..2_000_000_000_000_000_u64, 0..=i64::MAX as u64];
    let proto = prop_oneof![Just(ip_proto::TCP), Just(ip_proto::ICMP), Just(ip_proto::ICMPV6), any::<u8>()];
    let sides = (addr(), addr(), any::<[u16; 2]>(), proto, (0..4096_u16, 0..4096_u16), any::<u64>());
    let totals = any::<[u64; 6]>();
    let names = (
        proptest::sample::select(EndReason::NAMES.to_vec()),
        proptest::sample::select(FlowState::NAMES.to_vec()),
        proptest::sample::select(vec!["in", "out", "lateral"]),
    );
    let rest = (any::<u16>(), any::<bool>(), any::<bool>(), text(), text(), 1..u32::MAX);
    let context = proptest::option::of(any::<[u32; 5]>());
    (sides, (time.clone(), time), totals, stats(), names, rest, context).prop_map(
        |((client, server, ports, proto, vlan, flow_id), (t1, t2), totals, stats, names, rest, context)| {
            let have = Have::from_bits(rest.0);
            let has = |what| have.has(what);
            let mut o = blank();
            (o.label, o.seen_at, o.sampling) = (rest.3, rest.4, rest.5);
            let r = &mut o.record;
            r.flow_id = flow_id;
            r.have = have;
            if has(Have::ADDRESSES) {
                (r.client, r.server) = (client, server);
            }
            r.client_port = if has(Have::CLIENT_PORT) { ports[0] } else { 0 };
            r.server_port = if has(Have::SERVER_PORT) { ports[1] } else { 0 };
            r.proto = if has(Have::PROTO) { proto } else { 0 };
            (r.vlan_outer, r.vlan_inner) = (vlan.0.saturating_sub(2048), vlan.1.saturating_sub(2048));
            let (start, end) = (t1.min(t2), t1.max(t2));
            r.start_us = start;
            r.end_us = if has(Have::TIME) || has(Have::DURATION) { end } else { start };
            let told = |what, v| if has(what) { v } else { 0 };
            r.fwd.packets = told(Have::PACKETS, totals[0]);
            r.bwd.packets = told(Have::PACKETS, totals[1]);
            r.fwd.bytes = told(Have::BYTES, totals[2]);
            r.bwd.bytes = told(Have::BYTES, totals[3]);
            r.fwd.payload = told(Have::PAYLOAD, totals[4]);
            r.bwd.payload = told(Have::PAYLOAD, totals[5]);
            r.stats = stats;
            r.end_reason = names.0.1;
            if has(Have::STATE) {
                r.state = names.1.1;
            }
            r.direction = Direction::from_name(names.2).unwrap();
            (r.proven, r.first_record) = (rest.1, rest.2);
            r.context = context.map(|[flows, ports, hosts, unanswered, same_service]| Context {
                flows,
                ports,
                hosts,
                unanswered,
                same_service,
            });
            o
        },
    )
}

/// A plain flow that has everything.
pub(crate) fn plain(n: u64) -> Observation {
    let mut o = blank();
    o.label = Some("Benign".into());
    let r = &mut o.record;
    r.flow_id = n;
    r.have = Have::ALL;
    r.client = "192.0.2.7".parse().unwrap();
    r.server = "10.0.0.1".parse().unwrap();
    (r.client_port, r.server_port, r.proto) = (40_000, 443, ip_proto::TCP);
    (r.start_us, r.end_us) = (1_735_689_600_000_000 + n, 1_735_689_601_500_000 + n);
    (r.fwd.packets, r.bwd.packets, r.fwd.bytes, r.bwd.bytes) = (3, 2, 400, 3000);
    r.state = FlowState::Closed;
    r.end_reason = EndReason::Ended;
    r.stats
        .dir
        .iter_mut()
        .zip([3, 2])
        .for_each(|(d, n)| (d.packets, d.first_us, d.last_us) = (n, 1_735_689_600_000_000, 1_735_689_601_000_000));
    o
}
