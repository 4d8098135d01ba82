//! The search for the size of the models: accuracy against microseconds per row.
//!
//! ```text
//! cargo run --release -p weir-models --example search -- ../shared/data
//! cargo run --release -p weir-models --example search -- ../shared/data parts=16 parts=64,floor=0.1
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
use weir_models::{Bundle, RowInfo, Scored, TrainConfig, TrainSet, Weights, train};
use weir_source::label::{Verdict, verdict};
use weir_source::{Flows, Input, Observation, Options};

const SEEDS: u64 = 5;
const TRAIN_SHARE: f64 = 0.75;
/// Rows of one source within this, µs, are on one side.
const BLOCK_US: u64 = 600_000_000;

struct Data {
    benign: TrainSet,
    attacks: Vec<(String, FeatureMatrix)>,
}

/// A number of a score.
type Number = fn(&Scored) -> f32;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let corpus = PathBuf::from(args.next().ok_or("usage: search CORPUS [DESIGN...]")?);
    let mut designs = args.map(|d| Ok((d.clone(), design(&d)?))).collect::<Result<Vec<_>, String>>()?;
    if designs.is_empty() {
        designs = all_designs();
    }
    let cic = ["BENIGN_5000", "DDoS_2500", "DoS_Hulk_2500", "FTP-Patator_2500", "Portscan_2500"];
    let cic: Vec<PathBuf> = cic.iter().map(|f| corpus.join(format!("cicids2017-improved/{f}.csv"))).collect();
    let sets =
        [("CIC-IDS2017", read(&cic)?), ("UNSW-NB15", read(&[corpus.join("unsw-nb15/unsw_nb15_45col_dedup.csv")])?)];
    for (name, data) in &sets {
        for few in [None, Some(250)] {
            println!("\n{name}{}", if few.is_some() { ", small" } else { "" });
            println!(
                "{:<26}{:>7}{:>8} | {:>6}{:>7}{:>8}{:>8} | {:>6}{:>7}{:>8} | {:>6}{:>7}{:>8}",
                "", "loss", "us/row", "AUC", "TPR", "FPR", "at 0.1%", "AUC", "TPR", "FPR", "AUC", "TPR", "FPR"
            );
            for (design, config) in &designs {
                measure(design, config, data, few)?;
            }
        }
    }
    Ok(())
}

/// `KEY=VALUE,...` on top of what is the default.
fn design(words: &str) -> Result<TrainConfig, String> {
    let mut config = TrainConfig { source: "a search".to_owned(), min_rows: 100, ..TrainConfig::default() };
    for word in words.split(',').filter(|w| *w != "default") {
        let (key, value) = word.split_once('=').ok_or_else(|| format!("`{word}` is no KEY=VALUE"))?;
        let v: f64 = value.parse().map_err(|_| format!("`{value}` is no number"))?;
        let a = &mut config.autoencoder;
        match key {
            "parts" => a.parts = v as usize,
            "rows" => a.rows_per_part = v as usize,
            "shrinkage" => a.shrinkage = v,
            "steadiness" => a.steadiness = v,
            "floor" => a.floor = v,
            "trees" => config.forest.trees = v as usize,
            "samples" => config.forest.samples = v as usize,
            "forest" => config.weights = Weights { autoencoder: 1.0 - v, isolation_forest: v },
            _ => {
                return Err(format!(
                    "`{key}` is unknown, expected parts, rows, shrinkage, steadiness, floor, trees, samples or forest"
                ));
            }
        }
    }
    Ok(config)
}

/// What is compared unless something else is asked for.
fn all_designs() -> Vec<(String, TrainConfig)> {
    let words = "default parts=1 parts=4 parts=8 parts=16 parts=32 parts=48 parts=96 rows=10 rows=40 floor=0.01 floor=0.03 floor=0.2 \
        shrinkage=5 shrinkage=20 shrinkage=100 steadiness=3 steadiness=30 steadiness=1000000 trees=50 samples=1024 trees=200 \
        forest=0.02 forest=0.2 forest=0.5";
    words.split_whitespace().filter_map(|w| Some((w.to_owned(), design(w).ok()?))).collect()
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
    /// Of the fused p-value at 0.1%.
    rare: f64,
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
        let by: [(Number, Number); 3] = [
            (|s| -s.p, |s| s.p),
            (|s| s.raw_autoencoder, |s| s.p_autoencoder),
            (|s| s.raw_isolation_forest, |s| s.p_isolation_forest),
        ];
        for (k, (strange, p)) in by.into_iter().enumerate() {
            let of = |rows: &[Scored]| rows.iter().map(strange).collect::<Vec<f32>>();
            let at =
                |rate: f32, rows: &[Scored]| rows.iter().filter(|s| p(s) <= rate).count() as f64 / rows.len() as f64;
            let alarms = |rows: &[Scored]| at(0.01, rows);
            let known = of(&benign);
            let n = attacks.len() as f64;
            let auc = |rows: &Vec<Scored>| Curve::new(&known, &of(rows), 1.0).map_or(0.0, |c| c.roc_auc());
            sums.auc[k] += attacks.iter().map(auc).sum::<f64>() / n;
            sums.tpr[k] += attacks.iter().map(|rows| alarms(rows)).sum::<f64>() / n;
            sums.fpr[k] += alarms(&benign);
            sums.rare += if k == 0 { at(0.001, &benign) } else { 0.0 };
        }
    }
    let mean = |v: f64| v / SEEDS as f64;
    print!("{design:<26}{:>7.3}{:>8.3}", mean(sums.loss), mean(sums.us));
    for k in 0..3 {
        print!(" | {:>6.3}{:>7.3}{:>7.2}%", mean(sums.auc[k]), mean(sums.tpr[k]), 100.0 * mean(sums.fpr[k]));
        if k == 0 {
            print!("{:>7.2}%", 100.0 * mean(sums.rare));
        }
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
