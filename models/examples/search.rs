//! The search for the size of the models: accuracy against microseconds per row.
//!
//! ```text
//! cargo run --release -p weir-models --example search -- ../shared/data
//! ```
//! Each size is trained on three quarters of the benign rows of CIC-IDS2017 and UNSW-NB15 in `core`, for three seeds, and judged by
//! the rest and all attacks, as `weir eval` does: `AUC` is the mean over the attacks, `TPR` and `FPR` are at a p-value of 1%, frozen at
//! calibration, of the fused p-value and of each detector alone. `small`: with 250 rows to learn from. Choosing takes no
//! figure that attacks have a part in: `loss` is what the early-stop rows say.

use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use weir_core::feature::core_matrix;
use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;
use weir_core::record::Have;
use weir_models::metrics::Curve;
use weir_models::{AutoencoderConfig, Bundle, ForestConfig, RowInfo, Scored, TrainConfig, TrainSet, Weights, train};
use weir_source::label::{Verdict, verdict};
use weir_source::{Flows, Input, Observation, Options};

const SEEDS: u64 = 3;
const TRAIN_SHARE: f64 = 0.75;
/// Rows of one source within this, µs, are on one side.
const BLOCK_US: u64 = 600_000_000;

struct Data {
    benign: TrainSet,
    attacks: Vec<(String, FeatureMatrix)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let corpus = PathBuf::from(args.next().ok_or("usage: search CORPUS [DESIGN...]")?);
    let wanted: Vec<String> = args.collect();
    let cic = ["BENIGN_5000", "DDoS_2500", "DoS_Hulk_2500", "FTP-Patator_2500", "Portscan_2500"];
    let cic: Vec<PathBuf> = cic.iter().map(|f| corpus.join(format!("cicids2017-improved/{f}.csv"))).collect();
    let sets =
        [("CIC-IDS2017", read(&cic)?), ("UNSW-NB15", read(&[corpus.join("unsw-nb15/unsw_nb15_45col_dedup.csv")])?)];
    for (name, data) in &sets {
        for few in [None, Some(250)] {
            println!("\n{name}{}", if few.is_some() { ", small" } else { "" });
            println!(
                "{:<26}{:>7}{:>8} | {:>6}{:>7}{:>8} | {:>6}{:>7} | {:>6}{:>7}",
                "", "loss", "us/row", "AUC", "TPR", "FPR", "AUC", "TPR", "AUC", "TPR"
            );
            for (design, config) in designs().into_iter().filter(|(d, _)| wanted.is_empty() || wanted.contains(d)) {
                measure(&design, &config, data, few)?;
            }
        }
    }
    Ok(())
}

/// What is compared; the first is the default.
fn designs() -> Vec<(String, TrainConfig)> {
    let base = TrainConfig { source: "a search".to_owned(), min_rows: 100, ..TrainConfig::default() };
    let a = base.autoencoder;
    let with = |autoencoder| TrainConfig { autoencoder, ..base.clone() };
    let mut all = vec![("default".to_owned(), base.clone())];
    for parts in [1, 4, 8, 16, 24, 32, 48, 64] {
        all.push((format!("parts {parts}"), with(AutoencoderConfig { parts, ..a })));
    }
    for rows_per_part in [10, 20, 80] {
        all.push((format!("rows per part {rows_per_part}"), with(AutoencoderConfig { rows_per_part, ..a })));
    }
    for floor in [1e-3, 3e-3, 1e-2, 3e-2, 1e-1] {
        all.push((format!("floor {floor}"), with(AutoencoderConfig { floor, ..a })));
    }
    for shrinkage in [2.0, 5.0, 20.0, 50.0] {
        all.push((format!("shrinkage {shrinkage}"), with(AutoencoderConfig { shrinkage, ..a })));
    }
    for (trees, samples) in [(50, 256), (100, 1024), (200, 256)] {
        let forest = ForestConfig { trees, samples };
        all.push((format!("forest {trees} x {samples}"), TrainConfig { forest, ..base.clone() }));
    }
    for forest in [0.02, 0.05, 0.2, 0.5] {
        let weights = Weights { autoencoder: 1.0 - forest, isolation_forest: forest };
        all.push((format!("forest's weight {forest}"), TrainConfig { weights, ..base.clone() }));
    }
    all
}

fn read(files: &[PathBuf]) -> Result<Data, Box<dyn Error>> {
    let core = || FeatureMatrix::new(ProfileId::Core);
    let mut data = Data { benign: TrainSet { matrix: core(), rows: vec![] }, attacks: vec![] };
    for file in files {
        let options = Options::default();
        let mut take = |flow: Observation| {
            let r = &flow.record;
            if !r.have.has(ProfileId::Core.needs()) {
                return Ok(());
            }
            let row = core_matrix([r]);
            if verdict(flow.label.as_deref()) == Verdict::Attack {
                // UNSW-NB15's are judged as one, as others do.
                let label = if file.ends_with("unsw_nb15_45col_dedup.csv") {
                    "attack"
                } else {
                    flow.label.as_deref().unwrap_or("")
                };
                let at = data.attacks.iter().position(|(l, _)| l == label);
                let at = at.unwrap_or_else(|| {
                    data.attacks.push((label.to_owned(), core()));
                    data.attacks.len() - 1
                });
                data.attacks[at].1.push_from(&row, 0);
            } else {
                data.benign.matrix.push_from(&row, 0);
                let placed = r.have.has(Have::TIME.with(Have::ADDRESSES));
                data.benign.rows.push(placed.then(|| RowInfo { time_us: r.end_us, group: number(r.client) }));
            }
            Ok(())
        };
        let (_, read) = Input::open(Path::new(file), &options)?
            .read(&options, &mut Flows::new(Default::default(), false, &mut take));
        read?;
    }
    Ok(data)
}

fn number(of: impl Hash) -> u64 {
    let mut h = DefaultHasher::new();
    of.hash(&mut h);
    h.finish()
}

/// Sums over the seeds.
#[derive(Default)]
struct Sums {
    loss: f64,
    us: f64,
    auc: [f64; 3],
    tpr: [f64; 3],
    fpr: [f64; 3],
}

fn measure(design: &str, config: &TrainConfig, data: &Data, few: Option<usize>) -> Result<(), Box<dyn Error>> {
    let mut sums = Sums::default();
    for seed in 1..=SEEDS {
        let place =
            |i: usize| data.benign.rows[i].map_or(number((seed, i)), |r| number((seed, r.group, r.time_us / BLOCK_US)));
        let (mut learned, mut judged) = (Vec::new(), FeatureMatrix::new(ProfileId::Core));
        for i in 0..data.benign.matrix.len() {
            if (place(i) >> 11) as f64 / (1u64 << 53) as f64 <= TRAIN_SHARE {
                learned.push(i);
            } else {
                judged.push_from(&data.benign.matrix, i);
            }
        }
        if let Some(few) = few {
            learned.sort_by_key(|i| number((seed, "few", *i)));
            learned.truncate(few);
        }
        let mut set = TrainSet { matrix: FeatureMatrix::new(ProfileId::Core), rows: vec![] };
        for i in learned {
            set.matrix.push_from(&data.benign.matrix, i);
            // Few rows at random are alone in their blocks anyway.
            set.rows.push(data.benign.rows[i].filter(|_| few.is_none()));
        }
        let trained = train(&[set], &TrainConfig { seed, ..config.clone() }, &mut |_| {})?;
        sums.loss += f64::from(trained.manifest().profiles[0].training.early_stop_loss);
        let bundle = trained.bundle();
        let benign = bundle.score(&judged)?;
        sums.us += microseconds(bundle, &data.attacks[0].1)?;
        let attacks: Vec<Vec<Scored>> = data.attacks.iter().map(|(_, m)| bundle.score(m)).collect::<Result<_, _>>()?;
        let by: [(fn(&Scored) -> f32, fn(&Scored) -> f32); 3] = [
            (|s| -s.p, |s| s.p),
            (|s| s.raw_autoencoder, |s| s.p_autoencoder),
            (|s| s.raw_isolation_forest, |s| s.p_isolation_forest),
        ];
        for (k, (strange, p)) in by.into_iter().enumerate() {
            let of = |rows: &[Scored]| rows.iter().map(strange).collect::<Vec<f32>>();
            let alarms = |rows: &[Scored]| rows.iter().filter(|s| p(s) <= 0.01).count() as f64 / rows.len() as f64;
            let known = of(&benign);
            let n = attacks.len() as f64;
            let auc = |rows: &Vec<Scored>| Curve::new(&known, &of(rows), 1.0).map_or(0.0, |c| c.roc_auc());
            sums.auc[k] += attacks.iter().map(auc).sum::<f64>() / n;
            sums.tpr[k] += attacks.iter().map(|rows| alarms(rows)).sum::<f64>() / n;
            sums.fpr[k] += alarms(&benign);
        }
    }
    let mean = |v: f64| v / SEEDS as f64;
    print!("{design:<26}{:>7.3}{:>8.3}", mean(sums.loss), mean(sums.us));
    print!(" | {:>6.3}{:>7.3}{:>7.2}%", mean(sums.auc[0]), mean(sums.tpr[0]), 100.0 * mean(sums.fpr[0]));
    for k in 1..3 {
        print!(" | {:>6.3}{:>7.3}", mean(sums.auc[k]), mean(sums.tpr[k]));
    }
    println!();
    Ok(())
}

/// Of both detectors and their p-values, the best of many.
fn microseconds(bundle: &Bundle, rows: &FeatureMatrix) -> Result<f64, Box<dyn Error>> {
    let mut some = FeatureMatrix::new(rows.profile());
    (0..1024).for_each(|i| some.push_from(rows, i % rows.len()));
    let (mut best, begin) = (Duration::MAX, Instant::now());
    while begin.elapsed() < Duration::from_millis(100) {
        let start = Instant::now();
        bundle.score(&some)?;
        best = best.min(start.elapsed());
    }
    Ok(best.as_secs_f64() * 1e6 / 1024.0)
}
