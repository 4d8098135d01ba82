//! `cargo xtask train-default`: the bundle that comes with the program, from the corpora that `models/default/corpora.yaml` lists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::sh::{corpus, root, sh, target_dir};

#[derive(Args)]
pub struct Options {
    /// Change nothing; exit 1 unless the committed bundle is, byte by byte, what the corpora give on this processor
    #[arg(long)]
    check: bool,
}

/// Data that nothing in the bundle was made of: names and files.
const UNSEEN: [(&str, &[&str]); 5] = [
    ("Stratosphere 008", &["zeek/stratosphere/008-zeek-mixed/data/conn.log.labeled"]),
    ("Stratosphere 010", &["zeek/stratosphere/010-zeek-mixed/data/conn.log.labeled"]),
    (
        "IoT-23, honeypots",
        &[
            "zeek/iot23-csv/CTU-Honeypot-Capture-4-1-labeled.csv",
            "zeek/iot23-csv/CTU-Honeypot-Capture-5-1-labeled.csv",
            "zeek/iot23-csv/CTU-Honeypot-Capture-7-1-labeled.csv",
        ],
    ),
    (
        "CIC-IDS2017 improved",
        &[
            "cicids2017-improved/BENIGN_5000.csv",
            "cicids2017-improved/DDoS_2500.csv",
            "cicids2017-improved/DoS_Hulk_2500.csv",
            "cicids2017-improved/FTP-Patator_2500.csv",
            "cicids2017-improved/Portscan_2500.csv",
        ],
    ),
    ("UNSW-NB15", &["unsw-nb15/unsw_nb15_45col_dedup.csv"]),
];

pub fn run(options: &Options) -> Result<()> {
    let (corpus, committed) = (corpus(), root().join("models/default/bundle"));
    if !corpus.is_dir() {
        bail!("{} is not there; WEIR_CORPUS names the folder of corpora", corpus.display());
    }
    sh("cargo", ["build", "--workspace", "--bin", "weir"]).dir(root()).loud().run()?;
    let weir = target_dir().join("debug/weir");
    let fresh = target_dir().join("default-bundle");
    let to = if options.check { &fresh } else { &committed };
    let list = root().join("models/default/corpora.yaml");
    sh(&weir, ["train", "--checkpoints", "--corpora"]).arg(list).arg("--out").arg(to).arg(&corpus).loud().run()?;
    if options.check {
        let differ = differences(&files(&committed)?, &files(&fresh)?);
        if !differ.is_empty() {
            bail!(
                "models/default/bundle is not what the corpora give here: {}; another processor may round otherwise, else run \
                 `cargo xtask train-default`",
                differ.join(", ")
            );
        }
        println!("models/default/bundle is, byte by byte, what the corpora give");
        return Ok(());
    }
    let bytes: usize = files(&committed)?.values().map(Vec::len).sum();
    println!("\nmodels/default/bundle: {} kB", bytes / 1000);
    println!("\nOn data that it has not seen, flow by flow, profile core, at p-values of 1 %:");
    println!("  {:<24}{:>22}{:>34}", "", "false alarms", "attacks found (mean over labels)");
    for (name, list) in UNSEEN {
        let paths: Vec<PathBuf> = list.iter().map(|f| corpus.join(f)).collect();
        if let Some(absent) = paths.iter().find(|p| !p.exists()) {
            println!("  SKIP {name}: {} is not there", absent.display());
            continue;
        }
        println!("  {name:<24}{}", judged(&weir, &committed, &paths)?);
    }
    Ok(())
}

fn files(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let said = || format!("cannot read {}", dir.display());
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).with_context(said)? {
        let entry = entry.with_context(said)?;
        let bytes = std::fs::read(entry.path()).with_context(said)?;
        all.insert(entry.file_name().to_string_lossy().into_owned(), bytes);
    }
    Ok(all)
}

/// Files that are not the same on both sides.
fn differences(committed: &BTreeMap<String, Vec<u8>>, fresh: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let mut out = Vec::new();
    for (name, bytes) in committed {
        match fresh.get(name) {
            None => out.push(format!("{name} is no longer made")),
            Some(other) if other != bytes => out.push(format!("{name} differs")),
            Some(_) => {}
        }
    }
    out.extend(fresh.keys().filter(|n| !committed.contains_key(*n)).map(|n| format!("{n} is missing")));
    out
}

fn judged(weir: &Path, bundle: &Path, inputs: &[PathBuf]) -> Result<String> {
    let mut command = sh(weir, ["eval", "-o", "json", "--profile", "core", "--bundle"]).arg(bundle);
    for input in inputs {
        command = command.arg(input);
    }
    let said: Value = serde_json::from_str(&command.output()?).context("`weir eval -o json` gave no JSON")?;
    row(&said).context("`weir eval` says nothing of the fused p-value")
}

fn row(said: &Value) -> Option<String> {
    let fused = said["detectors"].as_array()?.iter().find(|d| d["detector"] == "fused")?;
    let alarms = fused["false_alarms"].get(0)?;
    let percent = |v: &Value| v.as_f64().map_or("-".to_owned(), |v| format!("{:.2} %", 100.0 * v));
    let found = fused["detection"].as_array()?.iter().find(|d| d["label"] == "(macro)");
    let found = found.map_or("-".to_owned(), |d| percent(&d["tpr"][0]));
    let of = format!("{} of {}", percent(&alarms["realised"]), said["benign_judged"]);
    Some(format!("{of:>22}{found:>34}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_difference_between_bundles_is_named() {
        let of = |list: &[(&str, &[u8])]| list.iter().map(|(n, b)| ((*n).to_owned(), b.to_vec())).collect();
        let committed = of(&[("a.onnx", b"1"), ("b.onnx", b"2"), ("manifest.yaml", b"x")]);
        assert!(differences(&committed, &committed).is_empty());
        let fresh = of(&[("a.onnx", b"1"), ("c.onnx", b"2"), ("manifest.yaml", b"y")]);
        assert_eq!(
            differences(&committed, &fresh),
            ["b.onnx is no longer made", "manifest.yaml differs", "c.onnx is missing"]
        );
    }

    #[test]
    fn what_weir_eval_says_becomes_a_row() {
        let said = serde_json::json!({ "benign_judged": 200, "detectors": [{
            "detector": "fused", "false_alarms": [{ "realised": 0.015 }],
            "detection": [{ "label": "(macro)", "tpr": [0.5, 0.4, 0.3] }] }] });
        assert_eq!(
            row(&said).unwrap().split_whitespace().collect::<Vec<_>>(),
            ["1.50", "%", "of", "200", "50.00", "%"]
        );
        assert!(row(&serde_json::json!({ "detectors": [] })).is_none());
    }
}
