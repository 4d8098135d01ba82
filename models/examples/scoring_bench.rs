//! What scoring costs per row, on one thread: `cargo xtask bench scoring` runs this beside onnxruntime and scikit-learn.
//!
//! Usage: scoring_bench DIRECTORY, where models/python/bench_scoring.py has put forests. Trains a bundle of synthetic flows there, for
//! it to run too. Prints JSON, one measurement per line, in microseconds per row, the best of many.

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use weir_common::flow::{FlowStats, Packet, tcp_flag};
use weir_core::addr::Addr;
use weir_core::context::Context;
use weir_core::event::Anomaly;
use weir_core::evidence::{Evidence, EvidenceConfig, Thresholds};
use weir_core::feature::{core_matrix, full_matrix};
use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;
use weir_core::record::{EndReason, FlowRecord, FlowState, Have, Totals};
use weir_core::role::Direction;
use weir_models::{Bundle, OUTPUT_ERRORS, OUTPUT_SCORE, RowInfo, Scorer, TrainConfig, TrainSet, train};

/// Flows that are scored at once, as a drain gives them.
const FLOWS: usize = 8192;
const TRAINING_FLOWS: usize = 6000;
/// For each measurement.
const SPEND: Duration = Duration::from_millis(400);

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).ok_or("usage: scoring_bench DIRECTORY")?;
    let dir = Path::new(&dir);
    for name in ["flows", "uniform"] {
        let (width, rows) = read_rows(&dir.join(format!("{name}.rows")))?;
        let forest =
            Scorer::load(&fs::read(dir.join(format!("{name}.onnx")))?, &vec![0.0; width], &[(OUTPUT_SCORE, 1)])?;
        for batch in [64, 4096] {
            let x = &rows[..batch * width];
            let present = vec![1.0; x.len()];
            let scores = forest.run(x, &present)?;
            let expected = floats(&dir.join(format!("{name}.scores")))?;
            let off = scores[0].iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // Other rows each time: a branch predictor learns the way of few rows by heart.
            let mut windows = rows.chunks_exact(batch * width).cycle();
            let us = best(batch, || forest.run(windows.next().unwrap_or(x), &present).map(drop))?;
            println!(r#"{{"tool":"weir","what":"forest, {name}","batch":{batch},"us":{us},"off":{off}}}"#);
        }
    }
    let bundle = bundle(&dir.join("bundle"))?;
    let records = flows(FLOWS, 7);
    for profile in [ProfileId::Core, ProfileId::Full] {
        stages(dir, &bundle, profile, &records)?;
    }
    Ok(())
}

/// The way of a flow's record to evidence, step by step.
fn stages(dir: &Path, bundle: &Bundle, profile: ProfileId, records: &[FlowRecord]) -> Result<(), Box<dyn Error>> {
    let features = || if profile == ProfileId::Core { core_matrix(records) } else { full_matrix(records) };
    let matrix = features();
    let width = profile.width();
    let present = (0..matrix.len()).flat_map(|i| (0..width).map(move |j| (i, j)));
    let present: Vec<f32> = present.map(|(i, j)| (matrix.present(i) >> j & 1) as f32).collect();
    let head = [matrix.len() as f32, width as f32];
    let all = head.iter().chain(matrix.data()).chain(&present);
    fs::write(dir.join(format!("{profile}.rows")), all.flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())?;

    let entry =
        bundle.manifest().profiles.iter().find(|p| p.name == profile.name()).ok_or("the profile was trained")?;
    let fill: Vec<f32> = entry.features.iter().map(|f| f.fill).collect();
    let load = |name: &str, outputs: &[(&str, usize)]| -> Result<Scorer, Box<dyn Error>> {
        let file = dir.join("bundle").join(format!("{profile}.{name}.onnx"));
        Ok(Scorer::load(&fs::read(file)?, &fill, outputs)?)
    };
    let autoencoder = load("autoencoder", &[(OUTPUT_SCORE, 1)])?;
    // With its errors per feature it runs as the graph says, operator by operator.
    let explaining = load("autoencoder", &[(OUTPUT_SCORE, 1), (OUTPUT_ERRORS, width)])?;
    let forest = load("isolation_forest", &[(OUTPUT_SCORE, 1)])?;
    let say = |what: &str, batch: usize, us: f64| {
        println!(r#"{{"tool":"weir","what":"{what}, {profile}","batch":{batch},"us":{us},"off":0}}"#);
    };
    for batch in [1, 64, 1024] {
        let (x, present) = (&matrix.data()[..batch * width], &present[..batch * width]);
        say("autoencoder", batch, best(batch, || autoencoder.run(black_box(x), present).map(drop))?);
        say("autoencoder with errors", batch, best(batch, || explaining.run(black_box(x), present).map(drop))?);
    }
    let n = records.len();
    let made = best(n, || {
        black_box(features());
        Ok::<_, String>(())
    })?;
    say("stage 1: features", n, made);
    let a = best(n, || autoencoder.run(matrix.data(), &present).map(drop))?;
    say("stage 2: autoencoder", n, a);
    let f = best(n, || forest.run(matrix.data(), &present).map(drop))?;
    say("stage 3: forest", n, f);
    let scored = best(n, || bundle.score(black_box(&matrix)).map(drop))?;
    say("stage 4: p-values and the rest of scoring", n, (scored - a - f).max(0.0));
    let anomalies: Vec<Anomaly> = bundle
        .score(&matrix)?
        .into_iter()
        .map(|s| Anomaly {
            profile: profile.name(),
            p_value: s.p,
            autoencoder: s.p_autoencoder,
            isolation_forest: s.p_isolation_forest,
            role: s.role,
            actionable: s.actionable,
            extrapolated: s.extrapolated,
            default_bundle: false,
            reasons: vec![],
        })
        .collect();
    let mut evidence = Evidence::new(EvidenceConfig::new(10_000_000, &Thresholds::uncalibrated()));
    let mut now = records[0].end_us;
    let kept = best(n, || {
        now += 1_000_000;
        for (r, a) in records.iter().zip(&anomalies) {
            evidence.add_flow(now, r, a);
        }
        black_box(evidence.take_changed());
        Ok::<_, String>(())
    })?;
    say("stage 5: evidence", n, kept);
    say("all stages", n, made + scored + kept);
    Ok(())
}

/// Microseconds per row.
fn best<E>(rows: usize, mut f: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let mut best = Duration::MAX;
    let begin = Instant::now();
    while begin.elapsed() < SPEND {
        let start = Instant::now();
        f()?;
        best = best.min(start.elapsed());
    }
    Ok(best.as_secs_f64() * 1e6 / rows as f64)
}

fn floats(path: &Path) -> Result<Vec<f32>, Box<dyn Error>> {
    Ok(fs::read(path)?.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// Number of columns, and the rows.
fn read_rows(path: &Path) -> Result<(usize, Vec<f32>), Box<dyn Error>> {
    let mut all = floats(path)?;
    Ok((all[1] as usize, all.split_off(2)))
}

/// The bundle in `dir`, trained if there is none.
fn bundle(dir: &Path) -> Result<Bundle, Box<dyn Error>> {
    if !dir.exists() {
        let records = flows(TRAINING_FLOWS, 3);
        let info =
            |r: &FlowRecord| RowInfo { time_us: r.start_us, group: r.client.0.iter().map(|b| u64::from(*b)).sum() };
        let rows: Vec<RowInfo> = records.iter().map(info).collect();
        let set = |matrix: FeatureMatrix| TrainSet { matrix, rows: rows.iter().copied().map(Some).collect() };
        let sets = [set(core_matrix(&records)), set(full_matrix(&records))];
        let config = TrainConfig { source: "synthetic flows of the benchmark".to_owned(), ..TrainConfig::default() };
        train(&sets, &config, &mut |_| {})?.write(dir)?;
    }
    Ok(Bundle::load(dir)?)
}

struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1u64 << 31) as f64
    }
    /// Log-normal around `median`.
    fn around(&mut self, median: f64, spread: f64) -> f64 {
        let normal = (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        median * (spread * normal).exp()
    }
}

/// Flows of 200 clients over two hours: web, names, mail.
fn flows(n: usize, seed: u64) -> Vec<FlowRecord> {
    let mut d = Dice(seed);
    (0..n).map(|i| flow(&mut d, i as u64, 1_700_000_000_000_000 + i as u64 * 7_200_000_000 / n as u64)).collect()
}

fn flow(d: &mut Dice, flow_id: u64, start_us: u64) -> FlowRecord {
    let name = d.unit() < 0.3;
    let (proto, server_port) = if name { (17, 53) } else { (6, if d.unit() < 0.8 { 443 } else { 993 }) };
    let client: [u8; 4] = [198, 51, 100, (d.unit() * 200.0) as u8];
    let packets = if name { 2 } else { d.around(24.0, 0.8).clamp(6.0, 2000.0) as u64 };
    let gap = d.around(4_000.0, 1.0).max(20.0);
    let mut stats = FlowStats::EMPTY;
    let mut at = start_us;
    for i in 0..packets {
        let dir = if name || i < 4 { (i % 2) as u32 } else { u32::from(d.unit() < 0.6) };
        let data = !name && i > 3;
        let len = match (name, data, dir) {
            (true, _, 0) => d.around(70.0, 0.2),
            (true, _, _) => d.around(140.0, 0.4),
            (_, false, _) => 60.0,
            (_, true, 0) => d.around(180.0, 0.9),
            _ => d.around(1100.0, 0.4),
        }
        .clamp(40.0, 1500.0) as u32;
        let last = i + 2 >= packets;
        let tcp_flags = match (name, i) {
            (true, _) => 0,
            (_, 0) => tcp_flag::SYN,
            (_, 1) => tcp_flag::SYN | tcp_flag::ACK,
            _ if last => tcp_flag::FIN | tcp_flag::ACK,
            _ => tcp_flag::ACK,
        };
        stats.update(&Packet {
            now_us: at,
            dir,
            segs: 1,
            seg_len: len,
            last_len: len,
            payload: len.saturating_sub(40),
            tcp_flags,
            ..Packet::default()
        });
        at += d.around(gap, 0.7) as u64;
    }
    let total =
        |i: usize| Totals { packets: stats.dir[i].packets, bytes: stats.dir[i].bytes, payload: stats.dir[i].payload };
    FlowRecord {
        flow_id,
        client: Addr::from(std::net::IpAddr::from(client)),
        server: Addr::from(std::net::IpAddr::from([203, 0, 113, 1 + (d.unit() * 20.0) as u8])),
        client_port: 1024 + (d.unit() * 60_000.0) as u16,
        server_port,
        proto,
        vlan_outer: 0,
        vlan_inner: 0,
        start_us,
        end_us: at,
        fwd: total(0),
        bwd: total(1),
        stats,
        state: if name { FlowState::Established } else { FlowState::Closed },
        end_reason: EndReason::Ended,
        have: Have::ALL,
        direction: Direction::In,
        proven: !name,
        first_record: true,
        context: Some(Context {
            flows: 1 + (d.unit() * 6.0) as u32,
            ports: 1 + (d.unit() * 2.0) as u32,
            hosts: 1 + (d.unit() * 4.0) as u32,
            unanswered: 0,
            same_service: 1 + (d.unit() * 3.0) as u32,
        }),
        seen_at: 0,
    }
}
