//! What profile `full` costs per flow in userspace: `cargo run --release -p weir-kernel --example full_rate`.
//!
//! A million flows in twenty epochs go through two flow tables in turn, one that keeps contexts and one that does not; the
//! difference is what the five context features cost. Then the rows of `core` and `full` of the same records. The best of
//! several rounds counts, since others may share the machine.

use std::time::Instant;

use weir_common::flow::{FlowKey, FlowStats, Packet, ip_proto, tcp_flag, v4_mapped};
use weir_core::feature::{core_row, full_matrix, full_row};
use weir_core::record::{EndReason, FlowRecord};
use weir_core::table::{EpochOutput, FlowTable, TableConfig};

const FLOWS: u32 = 1_000_000;
const EPOCHS: u32 = 20;
const ROUNDS: usize = 3;
const SECOND_US: u64 = 1_000_000;

/// Flow `i`: a refused connection of one of 5,000 clients to one of 200 servers and 50 ports.
fn flow(i: u32, at_us: u64) -> (FlowKey, FlowStats) {
    let client = v4_mapped([11, 0, (i / 7 % 20) as u8, (i / 140 % 250) as u8]);
    let server = v4_mapped([192, 168, 0, (i % 200) as u8]);
    let key = FlowKey {
        addr_a: client,
        addr_b: server,
        port_a: 1024 + (i % 60_000) as u16,
        port_b: (i / 11 % 50) as u16,
        vlan_outer: (i / 60_000) as u16,
        proto: ip_proto::TCP,
        family: 4,
        ..FlowKey::default()
    };
    let packet = Packet { segs: 1, seg_len: 60, last_len: 60, ..Packet::default() };
    let mut stats = FlowStats::EMPTY;
    stats.update(&Packet { now_us: at_us, dir: 0, tcp_flags: tcp_flag::SYN, ..packet });
    stats.update(&Packet { now_us: at_us + 90, dir: 1, tcp_flags: tcp_flag::RST | tcp_flag::ACK, ..packet });
    (key, stats)
}

/// Seconds that the epochs took, and the records.
fn run(config: TableConfig) -> (f64, Vec<FlowRecord>) {
    let mut table = FlowTable::new(config);
    let (mut records, mut out, mut seconds) = (Vec::with_capacity(FLOWS as usize), EpochOutput::default(), 0.0);
    for epoch in 0..EPOCHS {
        let each = FLOWS / EPOCHS;
        let begin = u64::from(epoch) * SECOND_US;
        let drained: Vec<_> = (0..each).map(|i| flow(epoch * each + i, begin + u64::from(i))).collect();
        let start = Instant::now();
        table.epoch(begin + SECOND_US, 0, drained.into_iter(), &mut out);
        seconds += start.elapsed().as_secs_f64();
        records.append(&mut out.records);
        out.clear();
    }
    table.flush(EndReason::Flushed, &mut out);
    records.append(&mut out.records);
    (seconds, records)
}

fn main() {
    let ns = |seconds: f64| seconds * 1e9 / f64::from(FLOWS);
    let (mut with, mut without, mut core, mut full, mut matrix) = (f64::MAX, f64::MAX, f64::MAX, f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        without = without.min(run(TableConfig { context: None, ..TableConfig::default() }).0);
        let (seconds, records) = run(TableConfig::default());
        with = with.min(seconds);
        assert_eq!(records.len(), FLOWS as usize);
        let known = records.iter().filter(|r| r.context.is_some_and(|c| c.flows > 1)).count();
        assert_eq!(known, records.len(), "every flow has a context");
        let timed = |f: &dyn Fn() -> usize| {
            let start = Instant::now();
            std::hint::black_box(f());
            start.elapsed().as_secs_f64()
        };
        core = core.min(timed(&|| records.iter().map(|r| core_row(r).iter().flatten().count()).sum()));
        full = full.min(timed(&|| records.iter().map(|r| full_row(r).iter().flatten().count()).sum()));
        matrix = matrix.min(timed(&|| full_matrix(&records).len()));
    }
    println!("{FLOWS} flows, ns per flow, best of {ROUNDS}");
    println!("flow table without contexts   {:>6.0}", ns(without));
    println!("flow table with contexts      {:>6.0}", ns(with));
    println!("contexts                      {:>6.0}", ns(with - without));
    println!("row of core                   {:>6.0}", ns(core));
    println!("row of full                   {:>6.0}", ns(full));
    println!("rows of full, in a matrix     {:>6.0}", ns(matrix));
}
