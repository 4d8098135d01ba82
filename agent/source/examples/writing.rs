//! What writing flows takes: processor time and bytes per row, by form.
//!
//! ```text
//! cargo run --release -p weir-source --example writing -- [FLOWS] [FORM...]
//! ```
//! The rows are web requests as the flow table makes records of them, some probes among them.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use weir_common::flow::{FlowKey, FlowStats, Packet, ip_proto, tcp_flag, v4_mapped};
use weir_core::home::Home;
use weir_core::record::EndReason;
use weir_core::table::{EpochOutput, FlowTable, TableConfig};
use weir_source::Observation;
use weir_source::write::{Form, Row, Shape, writer};

const S: u64 = 1_000_000;
/// The wall clock begins here, µs.
const WALL: i64 = 1_700_000_000 * S as i64;

/// Different and without a pattern, but the same each time.
fn dice(n: u64, k: u64) -> u64 {
    let h = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ k.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (h ^ (h >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 40
}

/// Flow `n`: a web request of one of 5,000 clients, or (one in ten) a SYN that nobody answers.
fn flow(n: u64, at: u64) -> (FlowKey, FlowStats) {
    let client = dice(n, 7) % 5_000;
    let key = FlowKey {
        addr_a: v4_mapped([11, 0, (client / 250) as u8, (client % 250) as u8]),
        addr_b: v4_mapped([192, 168, 0, 1 + (n % 8) as u8]),
        port_a: 1024 + (n % 60_000) as u16,
        port_b: 443,
        proto: ip_proto::TCP,
        family: 4,
        ..FlowKey::default()
    };
    let mut stats = FlowStats::EMPTY;
    let mut now_us = at;
    let mut packet = |dir, tcp_flags, seq, ack, payload: u32| {
        now_us += 200 + dice(n, u64::from(seq)) % 4_000;
        let len = 52 + payload;
        let shape = Packet { segs: 1, seg_len: len, last_len: len, ..Packet::default() };
        stats.update(&Packet { now_us, dir, tcp_flags, seq, ack, payload, ..shape });
    };
    let seq = dice(n, 8) as u32;
    packet(0, tcp_flag::SYN, seq, 0, 0);
    if !dice(n, 9).is_multiple_of(10) {
        packet(1, tcp_flag::SYN | tcp_flag::ACK, 90, seq + 1, 0);
        packet(0, tcp_flag::ACK, seq + 1, 91, 100 + (dice(n, 1) % 400) as u32);
        for i in 0..1 + dice(n, 2) % 4 {
            packet(1, tcp_flag::ACK, 91 + i as u32 * 1400, 300, 400 + (dice(n, 3 + i) % 1000) as u32);
        }
        packet(1, tcp_flag::FIN | tcp_flag::ACK, 9000, 300, 0);
        packet(0, tcp_flag::FIN | tcp_flag::ACK, 300, 9001, 0);
    }
    (key, stats)
}

fn rows(n: u64) -> Vec<Observation> {
    const RATE: u64 = 10_000;
    let home = Home::new(["192.168.0.0/16".parse().expect("a prefix")]);
    let mut table = FlowTable::new(TableConfig { home, max_flows: n as usize + 1, ..TableConfig::default() });
    let (mut out, mut all) = (EpochOutput::default(), Vec::new());
    let seen_at: Arc<str> = "eth0".into();
    let mut take = |out: &mut EpochOutput| {
        all.extend(out.records.drain(..).map(|r| Observation { seen_at: Some(seen_at.clone()), ..r.into() }));
    };
    for e in 1..=n.div_ceil(RATE) {
        let drained: Vec<_> = (0..RATE).map(|i| flow(e * RATE + i, e * S + i * 90)).collect();
        out.clear();
        table.epoch_of((e + 1) * S, WALL, &drained, &mut out);
        take(&mut out);
    }
    out.clear();
    table.flush(EndReason::Flushed, &mut out);
    take(&mut out);
    all
}

/// Counts what it takes.
struct Counted(Arc<AtomicU64>);

impl Write for Counted {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(buf.len() as u64, Ordering::Relaxed);
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What this thread has had of the CPU, s (Linux): on a busy machine the clock on the wall measures the neighbours.
fn cpu_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    told.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).map_or(f64::NAN, |ns| ns / 1e9)
}

fn main() -> io::Result<()> {
    let n = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(200_000);
    let rows = rows(n);
    let wanted: Vec<String> = std::env::args().skip(2).collect();
    for (name, form) in [("parquet", Form::Parquet), ("json", Form::Json), ("csv", Form::Csv)] {
        if !wanted.is_empty() && !wanted.iter().any(|w| w == name) {
            continue;
        }
        let bytes = Arc::new(AtomicU64::new(0));
        let before = cpu_seconds();
        let mut to = writer(form, Shape::default(), Counted(bytes.clone()))?;
        for flows in rows.chunks(1024) {
            let together: Vec<Row<'_>> = flows.iter().map(|flow| Row { flow, anomaly: None, anomaly_p: 0.0 }).collect();
            to.write_all(&together)?;
        }
        to.finish()?;
        let per = |v: f64| v / rows.len() as f64;
        let (us, size) = (per(1e6 * (cpu_seconds() - before)), per(bytes.load(Ordering::Relaxed) as f64));
        println!("{name}: {us:.2} us and {size:.1} bytes per row, {} rows", rows.len());
    }
    Ok(())
}
