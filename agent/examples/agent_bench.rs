//! What the agent takes at a given rate of new flows: `cargo xtask bench agent`.
//!
//! A model is trained on ordinary traffic first. Then, once a second of wall time, an epoch of new flows goes the agent's way:
//! flow table, windows, features, both detectors, evidence, policy, drift, and the record on its thread. What the flows are
//! made of is made before and not counted. The drain itself is measured by `cargo xtask bench datapath`.

use std::time::{Duration, Instant};

use weir_agent::archive::{Archive, Batch};
use weir_agent::config::Config;
use weir_agent::learn::{LearnConfig, Recorder};
use weir_agent::pipeline::{Model, Outcome, Pipeline, PipelineConfig};
use weir_common::flow::{FlowKey, FlowStats, Packet, ip_proto, tcp_flag, v4_mapped};
use weir_core::decisions::{Decisions, Limits};
use weir_core::guard::Guard;
use weir_core::home::Home;
use weir_core::policy::PolicyConfig;
use weir_core::table::TableConfig;
use weir_models::Bundle;

const S: u64 = 1_000_000;
/// Clients of the new flows.
const CLIENTS: u64 = 5_000;

/// Different and without a pattern, but the same each time.
fn dice(n: u64, k: u64) -> u64 {
    let mut h = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ k.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h >> 40
}

/// Flow `n`: a web request of one of the clients, whole and proven.
fn flow(n: u64, at: u64) -> (FlowKey, FlowStats) {
    let client = n % CLIENTS;
    let key = FlowKey {
        addr_a: v4_mapped([11, 0, (client / 250) as u8, (client % 250) as u8]),
        addr_b: v4_mapped([192, 168, 0, 1 + (n % 8) as u8]),
        port_a: 1024 + (n / CLIENTS % 60_000) as u16,
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
    packet(0, tcp_flag::SYN, 10, 0, 0);
    packet(1, tcp_flag::SYN | tcp_flag::ACK, 90, 11, 0);
    packet(0, tcp_flag::ACK, 11, 91, 0);
    packet(0, tcp_flag::ACK, 11, 91, 100 + (dice(n, 1) % 400) as u32);
    for i in 0..1 + dice(n, 2) % 4 {
        packet(1, tcp_flag::ACK, 91 + i as u32 * 1400, 300, 400 + (dice(n, 3 + i) % 1000) as u32);
    }
    packet(1, tcp_flag::FIN | tcp_flag::ACK, 9000, 300, 0);
    packet(0, tcp_flag::FIN | tcp_flag::ACK, 300, 9001, 0);
    (key, stats)
}

fn seconds(who: i32) -> f64 {
    // SAFETY: the structure is plain numbers, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(who, &raw mut usage);
        usage
    };
    [usage.ru_utime, usage.ru_stime].iter().map(|t| t.tv_sec as f64 + t.tv_usec as f64 / 1e6).sum()
}

/// MiB, of `/proc/self/status`.
fn memory(field: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = text.lines().find_map(|l| l.strip_prefix(field)?.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

struct Run {
    pipeline: Pipeline,
    decisions: Decisions,
    wall_offset_us: i64,
}

impl Run {
    fn epoch(&mut self, drained: &[(FlowKey, FlowStats)], end_us: u64) -> Outcome {
        self.pipeline.epoch(drained, Vec::new(), end_us, self.wall_offset_us, &self.decisions)
    }
}

/// Trains on ordinary traffic; gives the time from which the rest goes on.
fn trained(run: &mut Run, dir: &std::path::Path) -> anyhow::Result<u64> {
    const EPOCHS: u64 = 120;
    let config = LearnConfig {
        duration: Duration::ZERO,
        min_flows: 0,
        min_windows: 0,
        window_us: 10 * S,
        alert_budget_per_day: 10.0,
    };
    run.pipeline.record(Recorder::new(config, run.wall_offset_us as u64));
    for e in 0..EPOCHS {
        let drained: Vec<_> = (0..200).map(|i| flow(e * 211 + i * 37, e * S + i * 4_000)).collect();
        run.epoch(&drained, (e + 1) * S);
    }
    let recorder = run.pipeline.take_recorder().ok_or_else(|| anyhow::anyhow!("nothing was recorded"))?;
    let recording = recorder.close(run.wall_offset_us as u64 + (EPOCHS + 1) * S);
    let learned = recording.train(dir.to_owned(), 1)?;
    println!("model: {}", learned.summary);
    run.pipeline.serve(Model::new(Bundle::load(dir)?));
    Ok((EPOCHS + 130) * S)
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<u64>());
    let rate = args.next().transpose()?.unwrap_or(100_000);
    let epochs = args.next().transpose()?.unwrap_or(30);
    let dir = tempfile::tempdir()?;
    let wall_offset_us = weir_agent::clock::wall_us() as i64;
    let home = Home::new(["192.168.0.0/16".parse()?]);
    let capacity = Config::default().capacity.flows as usize;
    // As many flows linger as came within 5 s.
    let table = TableConfig { home, max_flows: 2 * capacity.max(4 * rate as usize), ..TableConfig::default() };
    let config =
        PipelineConfig { table, window_us: 10 * S, policy: PolicyConfig::default(), next_alert_id: 1, drift_seed: 1 };
    let decisions = Decisions::new(Limits::default(), Guard::default(), 1);
    let mut run = Run { pipeline: Pipeline::new(config), decisions, wall_offset_us };
    let begin = trained(&mut run, &dir.path().join("bundle"))?;
    let mut archive = Archive::start(dir.path(), Config::default().record)?;
    run.pipeline.keep = true;
    run.pipeline.places = weir_agent::places::Places::only(Some("bench"));
    println!("memory before: {:.0} MiB", memory("VmRSS:"));

    let (mut records, mut alerts) = (0, 0);
    let (mut made, mut scored, mut longest) = (0.0, 0.0, 0.0f64);
    let (all_before, start) = (seconds(libc::RUSAGE_SELF), Instant::now());
    for e in 0..epochs {
        let before = seconds(libc::RUSAGE_THREAD);
        let at = begin + e * S;
        let drained: Vec<_> = (0..rate).map(|i| flow(e * rate + i, at + i * (S - 100_000) / rate)).collect();
        let ready = seconds(libc::RUSAGE_THREAD);
        made += ready - before;
        let mut outcome = run.epoch(&drained, at + S);
        records += outcome.records;
        alerts += outcome.verdicts.iter().filter(|(_, v)| v.alert.is_some()).count();
        archive.add(Batch {
            since: outcome.since,
            now: (at + S).saturating_add_signed(wall_offset_us),
            flows: std::mem::take(&mut outcome.kept),
            windows: std::mem::take(&mut outcome.windows),
            ..Batch::default()
        });
        drop(outcome);
        let took = seconds(libc::RUSAGE_THREAD) - ready;
        scored += took;
        longest = longest.max(took);
        std::thread::sleep(Duration::from_secs(e + 1).saturating_sub(start.elapsed()));
    }
    let flushed = archive.flusher().flush();
    let (all, wall) = (seconds(libc::RUSAGE_SELF) - all_before - made, start.elapsed().as_secs_f64());
    let report = archive.report();
    let per = |seconds: f64| seconds / epochs as f64;
    println!("{rate} new flows a second, {epochs} epochs in {wall:.0} s: {records} records, {alerts} alerts");
    println!(
        "CPU seconds per epoch of 1 s: pipeline {:.3} (longest {longest:.3}), record {:.3}, in all {:.3}",
        per(scored),
        per(all - scored),
        per(all)
    );
    let (now, most) = (memory("VmRSS:"), memory("VmHWM:"));
    println!("memory: {now:.0} MiB, at most {most:.0} MiB; {} flows live", run.pipeline.live_flows());
    println!(
        "record: {} flows in {} files, {:.0} MB, {:.0} bytes a flow, {} lost{}",
        report.flows,
        report.files,
        report.bytes as f64 / 1e6,
        report.bytes as f64 / report.flows.max(1) as f64,
        report.lost,
        flushed.err().map(|e| format!("; {e}")).unwrap_or_default(),
    );
    Ok(())
}
