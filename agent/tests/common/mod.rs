//! Running the binary, and flows to run it on.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod crafted;

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output, Stdio};

use weir_common::flow::FlowStats;
use weir_core::record::{EndReason, FlowRecord, FlowState, Have, Totals};
use weir_core::role::Direction;
use weir_source::Observation;
use weir_source::write::{Form, Row, Shape, writer};

pub const WEIR: &str = env!("CARGO_BIN_EXE_weir");

pub fn run(args: &[&str]) -> Output {
    Process::new(WEIR).args(args).stdin(Stdio::null()).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
pub fn ok(out: &Output) -> String {
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    text(&out.stdout)
}

/// A web request like many others, the `n`th of them.
pub fn usual(n: u64) -> Observation {
    // Different and without a pattern, but the same each time.
    let dice = |k: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ k.wrapping_mul(0xbf58_476d_1ce4_e5b9)) >> 40;
    let (fwd, bwd) = (6 + dice(1) % 10, 8 + dice(2) % 14);
    let start_us = 1_735_689_600_000_000 + n * 20_000;
    let record = FlowRecord {
        flow_id: n + 1,
        client: format!("192.0.2.{}", n % 250).parse().unwrap(),
        server: "10.0.0.1".parse().unwrap(),
        client_port: 40_000 + (n % 20_000) as u16,
        server_port: 443,
        proto: 6,
        vlan_outer: 0,
        vlan_inner: 0,
        start_us,
        end_us: start_us + 200_000 + dice(3) % 900_000,
        fwd: Totals { packets: fwd, bytes: fwd * (90 + dice(4) % 60), payload: fwd * 50 },
        bwd: Totals { packets: bwd, bytes: bwd * (700 + dice(5) % 400), payload: bwd * 660 },
        stats: FlowStats::EMPTY,
        state: FlowState::Closed,
        end_reason: EndReason::Ended,
        have: Have::ALL.without(Have::STATS),
        direction: Direction::In,
        proven: true,
        first_record: true,
        context: None,
        seen_at: 0,
    };
    Observation { label: Some("Benign".into()), ..record.into() }
}

/// A flow that does not tell everything.
pub fn without(what: Have) -> Observation {
    let mut flow = usual(1);
    flow.record.have = flow.record.have.without(what);
    flow
}

/// What is neither learned nor held against anyone.
pub fn dhcp() -> Observation {
    let mut flow = usual(2);
    (flow.record.proto, flow.record.client_port, flow.record.server_port) = (17, 68, 67);
    flow
}

/// A flood.
pub fn strange(n: u64) -> Observation {
    let mut o = usual(n);
    o.label = Some("Flood".into());
    o.record.fwd = Totals { packets: 900_000, bytes: 1_300_000_000, payload: 1_200_000_000 };
    o.record.bwd = Totals::default();
    o.record.state = FlowState::Unanswered;
    o.record.end_us = o.record.start_us + 3_000_000;
    o
}

pub fn file(dir: &Path, name: &str, form: Form, flows: impl IntoIterator<Item = Observation>) -> PathBuf {
    let path = dir.join(name);
    let mut out = writer(form, Shape::default(), std::fs::File::create(&path).unwrap()).unwrap();
    for flow in flows {
        out.write(&Row { flow: &flow, anomaly: None, anomaly_p: 0.0 }).unwrap();
    }
    out.finish().unwrap();
    path
}

pub fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}
