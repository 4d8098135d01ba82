//! `cargo xtask eval`: detection on public data sets by `weir eval`, beside what others reach on them and beside our own floors.
//!
//! Models are trained on a part of the benign rows and judged by the others and all attacks, at p-values frozen at calibration.

mod scenarios;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::sh::{corpus, root, sh, target_dir};

#[derive(Args)]
pub struct Options {
    /// How often to divide and train; figures are means over all
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Share of the benign rows that models are trained on
    #[arg(long, default_value_t = 0.75)]
    train_share: f64,
    /// By which the models of the scenarios are trained
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only the scenarios with this in their name, and no data sets
    #[arg(long, value_name = "WORD")]
    scenario: Option<String>,
}

/// A figure of a run: of which rows, and which of its columns.
#[derive(Clone, Copy)]
enum Figure {
    RocAuc(&'static str),
    PrAuc(&'static str),
    /// At a false-alarm rate of 1%.
    Tpr(&'static str),
    /// The realised false-alarm rate, for 1% and for 0.1%.
    Fpr(usize),
}

/// What is asked of a figure.
#[derive(Clone, Copy)]
enum Floor {
    AtLeast(f64),
    /// The realised rate lies within a factor of 2 of what was asked for.
    WithinTwice(f64),
    /// The 95% interval of the realised rate overlaps this range.
    Overlaps(f64, f64),
}

struct Set {
    name: &'static str,
    files: &'static [&'static str],
    columns: &'static [(&'static str, Figure, Floor)],
    /// What others reach, in the order of the columns; a dash where nobody says.
    anchors: &'static [(&'static str, &'static [&'static str])],
}

const SETS: [Set; 2] = [
    Set {
        name: "CIC-IDS2017 improved (means over the attacks)",
        files: &[
            "cicids2017-improved/BENIGN_5000.csv",
            "cicids2017-improved/DDoS_2500.csv",
            "cicids2017-improved/DoS_Hulk_2500.csv",
            "cicids2017-improved/FTP-Patator_2500.csv",
            "cicids2017-improved/Portscan_2500.csv",
        ],
        columns: &[
            ("ROC AUC", Figure::RocAuc("(macro)"), Floor::AtLeast(0.96)),
            ("TPR at 1 %", Figure::Tpr("(macro)"), Floor::AtLeast(0.60)),
            ("FPR at 1 %", Figure::Fpr(0), Floor::WithinTwice(1e-2)),
            ("FPR at 0.1 %", Figure::Fpr(1), Floor::Overlaps(5e-4, 2e-3)),
        ],
        anchors: &[
            ("scikit-learn, isolation forest", &[".93", ".10", "-", "-"]),
            ("scikit-learn, autoencoder", &[".93", ".27", "-", "-"]),
            ("published, isolation forest", &[".839", "-", "-", "-"]),
            ("published, autoencoder", &[".833", "-", "-", "-"]),
            ("published, best", &[".959", "-", "-", "-"]),
        ],
    },
    Set {
        name: "UNSW-NB15, 45 columns, without TTL (all attacks as one)",
        files: &["unsw-nb15/unsw_nb15_45col_dedup.csv"],
        columns: &[
            ("ROC AUC", Figure::RocAuc("(pooled)"), Floor::AtLeast(0.93)),
            ("PR AUC", Figure::PrAuc("(pooled)"), Floor::AtLeast(0.947)),
            ("FPR at 1 %", Figure::Fpr(0), Floor::WithinTwice(1e-2)),
        ],
        anchors: &[],
    },
];

/// Detectors as `weir eval` names them; the floors are for the first.
const DETECTORS: [(&str, &str); 3] = [
    ("fused", "Weir"),
    ("autoencoder", "Weir, autoencoder alone"),
    ("isolation_forest", "Weir, isolation forest alone"),
];

pub fn run(options: &Options) -> Result<()> {
    let corpus = corpus();
    sh("cargo", ["build", "--workspace", "--bin", "weir"]).dir(root()).loud().run()?;
    let weir = target_dir().join("debug/weir");
    println!(
        "Trained on {} of the benign rows, judged by the others and all attacks; means of {} seeds, profile core.\n\
         Thresholds are p-values frozen at calibration. PR AUC is at the set's own share of attacks.",
        options.train_share, options.seeds
    );
    let (mut judged, mut missed) = (0, 0);
    let sets: &[Set] = if options.scenario.is_some() { &[] } else { &SETS };
    for set in sets {
        let files: Vec<PathBuf> = set.files.iter().map(|f| corpus.join(f)).collect();
        if let Some(absent) = files.iter().find(|f| !f.exists()) {
            println!("\nSKIP {}: {} is not there; WEIR_CORPUS names the folder of corpora", set.name, absent.display());
            continue;
        }
        judged += 1;
        missed += print(set, &evaluate(&weir, &files, options)?)?;
    }
    let (met, scenarios) = scenarios::run(&weir, &corpus, options.scenario.as_deref(), options.seed)?;
    missed += met;
    if judged + scenarios == 0 {
        bail!("no data set is in {}", corpus.display());
    }
    println!("\n{missed} floors are missed");
    Ok(())
}

fn evaluate(weir: &Path, files: &[PathBuf], options: &Options) -> Result<Value> {
    let words = ["eval", "-o", "json", "--flows-only", "--profile", "core", "--train-share"].map(String::from);
    let numbers = [options.train_share.to_string(), "--seeds".to_owned(), options.seeds.to_string()];
    let mut command = sh(weir, words.into_iter().chain(numbers));
    for file in files {
        command = command.arg(file);
    }
    let said = command.output()?;
    serde_json::from_str(&said).context("`weir eval -o json` gave no JSON")
}

/// Prints the table of a set; gives how many floors were missed.
fn print(set: &Set, said: &Value) -> Result<usize> {
    let flows = &said["flows"];
    println!("\n{}: {} benign rows, of which {} are judged", set.name, flows["benign"], said["benign_judged"]);
    let row = |name: &str, cells: &[String]| {
        println!("  {name:<32}{}", cells.iter().map(|c| format!("{c:>26}")).collect::<String>().trim_end());
    };
    row("", &set.columns.iter().map(|(name, ..)| (*name).to_owned()).collect::<Vec<_>>());
    let mut missed = 0;
    for (k, (key, name)) in DETECTORS.iter().enumerate() {
        let detector = said["detectors"]
            .as_array()
            .and_then(|all| all.iter().find(|d| d["detector"] == *key))
            .with_context(|| format!("`weir eval` says nothing of {key}"))?;
        let mut cells = Vec::new();
        for (column, figure, floor) in set.columns {
            let value = Shown::of(detector, *figure).with_context(|| format!("`weir eval` gives no {column}"))?;
            cells.push(value.shown());
            missed += usize::from(k == 0 && !floor.met(&value));
        }
        row(name, &cells);
    }
    row("asked for", &set.columns.iter().map(|(.., floor)| floor.shown()).collect::<Vec<_>>());
    for (name, cells) in set.anchors {
        row(name, &cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>());
    }
    Ok(missed)
}

/// A value with its 95% interval, where it has one.
#[derive(Clone, Copy)]
struct Shown {
    value: f64,
    interval: Option<(f64, f64)>,
}

impl Shown {
    fn of(detector: &Value, figure: Figure) -> Option<Self> {
        let label = |wanted: &str| detector["detection"].as_array()?.iter().find(|d| d["label"] == wanted);
        let plain = |value: Option<f64>| Some(Self { value: value?, interval: None });
        match figure {
            Figure::RocAuc(l) => plain(label(l)?["roc_auc"].as_f64()),
            Figure::PrAuc(l) => plain(label(l)?["pr_auc"].as_f64()),
            Figure::Tpr(l) => plain(label(l)?["tpr"][0].as_f64()),
            Figure::Fpr(k) => {
                let f = &detector["false_alarms"][k];
                Some(Self { value: f["realised"].as_f64()?, interval: Some((f["low"].as_f64()?, f["high"].as_f64()?)) })
            }
        }
    }

    fn shown(&self) -> String {
        match self.interval {
            None => format!("{:.3}", self.value),
            Some((low, high)) => {
                let [v, l, h] = [self.value, low, high].map(|v| 100.0 * v);
                format!("{v:.2} % ({l:.2} to {h:.2})")
            }
        }
    }
}

impl Floor {
    fn met(self, v: &Shown) -> bool {
        match self {
            Floor::AtLeast(floor) => v.value >= floor,
            Floor::WithinTwice(asked) => (asked / 2.0..=asked * 2.0).contains(&v.value),
            Floor::Overlaps(from, to) => v.interval.is_some_and(|(low, high)| low <= to && high >= from),
        }
    }

    fn shown(self) -> String {
        match self {
            Floor::AtLeast(floor) => format!("at least {floor}"),
            Floor::WithinTwice(asked) => format!("{} to {} %", asked * 50.0, asked * 200.0),
            Floor::Overlaps(from, to) => format!("overlaps {} to {} %", from * 100.0, to * 100.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_are_judged_by_values_and_intervals() {
        let plain = |value| Shown { value, interval: None };
        assert!(Floor::AtLeast(0.96).met(&plain(0.96)) && !Floor::AtLeast(0.96).met(&plain(0.959)));
        assert!(Floor::WithinTwice(0.01).met(&plain(0.02)) && Floor::WithinTwice(0.01).met(&plain(0.005)));
        assert!(!Floor::WithinTwice(0.01).met(&plain(0.0201)) && !Floor::WithinTwice(0.01).met(&plain(0.004)));
        let between = |low, high| Shown { value: 0.0, interval: Some((low, high)) };
        assert!(Floor::Overlaps(5e-4, 2e-3).met(&between(0.0, 6e-4)));
        assert!(!Floor::Overlaps(5e-4, 2e-3).met(&between(2.1e-3, 9e-3)));
        assert!(!Floor::Overlaps(5e-4, 2e-3).met(&plain(1e-3)), "without an interval nothing is shown");
    }

    #[test]
    fn figures_are_found_in_what_weir_says() {
        let said = serde_json::json!({
            "detector": "fused",
            "false_alarms": [{ "realised": 0.011, "low": 0.008, "high": 0.015 }],
            "detection": [{ "label": "(macro)", "roc_auc": 0.9, "pr_auc": 0.8, "tpr": [0.5, 0.4, 0.3] }],
        });
        assert_eq!(Shown::of(&said, Figure::Tpr("(macro)")).unwrap().shown(), "0.500");
        assert_eq!(Shown::of(&said, Figure::Fpr(0)).unwrap().shown(), "1.10 % (0.80 to 1.50)");
        assert!(Shown::of(&said, Figure::RocAuc("(pooled)")).is_none());
    }
}
