//! `cargo xtask bench scoring`: the same models through Weir, onnxruntime and scikit-learn, in turn on one thread, and what each
//! step from a flow's record to evidence takes.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::host::Host;
use crate::needs::Use;
use crate::setup::venv;
use crate::sh::{Sh, root, sh, target_dir};

/// Least microseconds per row of each tool, by what was measured and the rows at once.
type Table = BTreeMap<(String, u64), BTreeMap<String, f64>>;

pub fn run(rounds: u32) -> Result<()> {
    crate::setup::ensure(&[Use::Test])?;
    let dir = target_dir().join("bench-scoring");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let python = venv::MODELS.python(&Host::this());
    let script = root().join("models/python/bench_scoring.py");
    let theirs = |task: &str| sh(&python, [script.as_os_str(), task.as_ref()]).arg(&dir);
    let example = ["run", "--release", "--quiet", "-p", "weir-models", "--example", "scoring_bench", "--"];
    let others = python.exists();
    if !others {
        bail!("{} is missing, and with it the forests to measure: `cargo xtask setup` makes it", python.display());
    }
    theirs("make").loud().run()?;
    let mut table = Table::new();
    let mut off = 0.0f64;
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        off = off.max(read(sh("cargo", example).arg(&dir), &mut table)?);
        read(theirs("run"), &mut table)?;
    }
    print(&table, off);
    Ok(())
}

/// Takes in what a program measured; returns the largest difference that it saw.
fn read(program: Sh, table: &mut Table) -> Result<f64> {
    let mut off = 0.0f64;
    for line in program.output()?.lines() {
        let v: Value = serde_json::from_str(line).with_context(|| format!("not a measurement: {line}"))?;
        let (Some(tool), Some(what), Some(batch), Some(us)) =
            (v["tool"].as_str(), v["what"].as_str(), v["batch"].as_u64(), v["us"].as_f64())
        else {
            bail!("not a measurement: {line}");
        };
        let least = table.entry((what.to_owned(), batch)).or_default().entry(tool.to_owned()).or_insert(f64::INFINITY);
        *least = least.min(us);
        off = off.max(v["off"].as_f64().unwrap_or(0.0));
    }
    Ok(off)
}

fn print(table: &Table, off: f64) {
    println!("{:<52} {:>6} {:>8} {:>20} {:>20}", "us per row, best", "rows", "weir", "onnxruntime", "scikit-learn");
    for ((what, batch), tools) in table {
        let weir = tools.get("weir").copied();
        let beside = |tool: &str| match (tools.get(tool), weir) {
            (Some(us), Some(weir)) => format!("{us:.3} ({:.1} x)", us / weir),
            _ => String::new(),
        };
        let weir = weir.map_or_else(String::new, |us| format!("{us:.3}"));
        println!("{what:<52} {batch:>6} {weir:>8} {:>20} {:>20}", beside("onnxruntime"), beside("scikit-learn"));
    }
    println!("largest difference between the scores of Weir's forests and onnxruntime's: {off:e}");
}
