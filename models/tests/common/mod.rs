//! Synthetic traffic: two kinds of benign flows and source windows, and strange ones.
#![allow(dead_code, reason = "each test file uses a part of it")]

use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;
use weir_core::role::{Direction, ProtoClass, Role, ServiceClass};
use weir_models::{RowInfo, TrainConfig, TrainSet, TrainedBundle, train};

/// SplitMix64, so that the data never change.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
    pub fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }
    /// Roughly normal.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }
    pub fn log_normal(&mut self, median: f32, spread: f32) -> f32 {
        median * (self.normal() * spread).exp()
    }
    pub fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }
}

pub const WEB: Role = Role::Flow(ProtoClass::Tcp, Direction::Out, ServiceClass::Web);
pub const NAME: Role = Role::Flow(ProtoClass::Udp, Direction::Out, ServiceClass::Name);

/// A benign flow: a web session, or a name query.
pub fn core_row(d: &mut Dice) -> (Vec<Option<f32>>, Role) {
    let web = d.chance(0.7);
    let (fwd, bwd, size_f, size_b, duration) = if web {
        let fwd = d.log_normal(12.0, 0.5).round().max(3.0);
        let bwd = (fwd * d.log_normal(1.4, 0.15)).round().max(2.0);
        (fwd, bwd, d.log_normal(120.0, 0.2), d.log_normal(800.0, 0.25), d.log_normal(0.8, 0.6))
    } else {
        (1.0, 1.0, d.log_normal(64.0, 0.1), d.log_normal(160.0, 0.2), d.log_normal(0.02, 0.5))
    };
    let (bytes_f, bytes_b) = (fwd * size_f, bwd * size_b);
    let floor = duration.max(0.001);
    let mut row = vec![
        Some(f32::from(u8::from(web))),
        Some(f32::from(u8::from(!web))),
        Some(0.0),
        Some(duration),
        Some(fwd),
        Some(bwd),
        Some(bytes_f),
        Some(bytes_b),
        Some(size_f),
        Some(size_b),
        Some((fwd + bwd) / floor),
        Some((bytes_f + bytes_b) / floor),
        Some(bwd / fwd),
        Some(bytes_b / bytes_f),
        Some(duration / (fwd + bwd - 1.0)),
        Some(if web { 2.0 } else { 1.0 }),
    ];
    if d.chance(0.03) {
        row[14] = None;
    }
    (row, if web { WEB } else { NAME })
}

/// A benign flow with what only its packets tell.
pub fn full_row(d: &mut Dice) -> (Vec<Option<f32>>, Role) {
    let (mut row, role) = core_row(d);
    let web = role == WEB;
    let v = |i: usize| row[i].unwrap_or(0.0);
    let (duration, fwd, bwd) = (v(3), v(4), v(5));
    let (payload_f, payload_b) = ((v(6) - 52.0 * fwd).max(0.0), (v(7) - 52.0 * bwd).max(0.0));
    let (gaps_f, gaps_b) = (duration / (fwd - 1.0).max(1.0), duration / (bwd - 1.0).max(1.0));
    let small = if web { 0.3 + 0.2 * d.unit() } else { 0.5 };
    let flows = d.log_normal(4.0, 0.6).round().max(1.0);
    let web_only = |x: f32| web.then_some(x);
    row.extend([
        Some(payload_f),
        Some(payload_b),
        Some((fwd * 0.4).ceil()),
        Some((bwd * 0.8).ceil()),
        Some(if web { d.log_normal(90.0, 0.2) } else { 0.0 }),
        Some(if web { d.log_normal(500.0, 0.2) } else { 0.0 }),
        Some(if web { 52.0 } else { 60.0 }),
        Some(if web { 1500.0 } else { d.log_normal(160.0, 0.2) }),
        Some(small),
        Some(if web { 0.2 } else { 0.5 }),
        Some(0.0),
        Some(if web { 0.8 - small } else { 0.0 }),
        web_only(gaps_f),
        web_only(gaps_f * d.log_normal(1.5, 0.2)),
        web_only(gaps_b),
        web_only(gaps_b * d.log_normal(1.5, 0.2)),
        web_only(d.log_normal(0.0002, 0.4)),
        web_only(duration * (0.3 + 0.4 * d.unit())),
        Some(if web { 2.0 } else { 0.0 }),
        Some(if web { 2.0 } else { 0.0 }),
        Some(0.0),
        Some(0.0),
        web_only(d.log_normal(0.01, 0.3)),
        Some(flows),
        Some(if d.chance(0.8) { 1.0 } else { 2.0 }),
        Some((flows * 0.6).ceil()),
        Some(if d.chance(0.1) { d.unit() * 0.2 } else { 0.0 }),
        Some((flows * d.unit()).ceil()),
    ]);
    (row, role)
}

/// A benign source window.
pub fn source_row(d: &mut Dice) -> (Vec<Option<f32>>, Role) {
    let flows = d.log_normal(8.0, 0.6).round().max(1.0);
    let hosts = (flows * (0.3 + 0.3 * d.unit())).ceil();
    let ports = if d.chance(0.8) { 1.0 } else { 1.0 + (d.unit() * 3.0).floor() };
    let bytes = d.log_normal(9_000.0, 0.5);
    let packets = bytes / d.log_normal(600.0, 0.2);
    let row = vec![
        Some(flows),
        Some(hosts),
        Some(ports),
        Some(hosts + ports - 1.0),
        Some(if d.chance(0.1) { d.unit() * 0.2 } else { 0.0 }),
        Some(0.0),
        Some(d.unit() * 0.3),
        Some(bytes),
        (flows > 1.0).then_some(bytes * 0.8),
        Some(packets),
        (flows > 1.0).then_some(packets * 0.7),
        Some(d.log_normal(6.0, 0.4)),
        Some(1.0 / hosts),
        (flows > 1.0).then_some(10.0 / flows),
        (flows > 2.0).then_some(0.5 + d.unit()),
        Some(0.0),
        Some(0.0),
        Some(d.log_normal(0.7, 0.5)),
    ];
    (row, if d.chance(0.5) { Role::SourceAll } else { Role::SourceProven })
}

/// `rows` benign rows of 20 sources over two hours.
pub fn benign(profile: ProfileId, rows: usize, seed: u64) -> TrainSet {
    let mut d = Dice::new(seed);
    let mut matrix = FeatureMatrix::new(profile);
    let mut infos = Vec::new();
    for i in 0..rows {
        let (row, role) = match profile {
            ProfileId::Core => core_row(&mut d),
            ProfileId::Full => full_row(&mut d),
            ProfileId::Source => source_row(&mut d),
        };
        matrix.push(&row, role).expect("finite rows of the right width");
        let time_us = 1_000_000 + (i as u64 * 7_200_000_000) / rows as u64;
        infos.push(Some(RowInfo { time_us, group: (d.unit() * 20.0) as u64 }));
    }
    TrainSet { matrix, rows: infos }
}

/// Port scans: many ports, no answers, one packet each.
pub fn scans(rows: usize, seed: u64) -> FeatureMatrix {
    let mut d = Dice::new(seed);
    let mut matrix = FeatureMatrix::new(ProfileId::Source);
    for _ in 0..rows {
        let n = d.log_normal(300.0, 0.4).round();
        let row = [n, 1.0, n, n, 0.1, 0.9, 1.0, 54.0, 3.0, 1.1, 0.2, 0.8, 1.0 / n, 10.0 / n, 0.2, 1.0, 0.0, 0.001];
        matrix.push(&row.map(Some), Role::SourceAll).expect("finite rows of the right width");
    }
    matrix
}

pub fn config() -> TrainConfig {
    TrainConfig { source: "synthetic rows".to_owned(), ..TrainConfig::default() }
}

/// What [`trained`] trains: the profiles that are learned in place.
pub const TRAINED: [ProfileId; 2] = [ProfileId::Core, ProfileId::Source];

pub fn trained(rows: usize) -> TrainedBundle {
    let sets = [benign(ProfileId::Core, rows, 11), benign(ProfileId::Source, rows, 12)];
    train(&sets, &config(), &mut |_| {}).expect("enough rows")
}
