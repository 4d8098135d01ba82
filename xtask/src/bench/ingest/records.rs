//! How many records a second one thread reads of each format but captures.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::measure::measure;
use crate::sh::{corpus, root, sh, target_dir};

/// Formats of text that the example `records` makes.
const KINDS: [&str; 7] = ["zeek", "zeek-json", "zeek-csv", "eve", "cic-ids2017", "cic-ids2017-91", "unsw-nb15"];
/// Datagrams of the corpus, by version.
const DATAGRAMS: [(&str, &str); 3] =
    [("NetFlow v5", "synscan.v5.dgrams"), ("NetFlow v9", "synscan.v9.dgrams"), ("IPFIX", "synscan.v10.dgrams")];

pub fn run(rows: u64, rounds: u32, dir: &Path) -> Result<()> {
    let examples = target_dir().join("release/examples");
    println!("\n{:<14} {:>12} {:>16}  best of {rounds}, {rows} rows each", "", "records/s", "per CPU second");
    for kind in KINDS {
        let file = dir.join(format!("records-{kind}.txt"));
        // Made once for all rounds, and gone after them: half a gigabyte each.
        let made = std::fs::File::create(&file).with_context(|| format!("cannot write {}", file.display()))?;
        let mut maker = sh(examples.join("records"), ["--make", kind, &rows.to_string()]).into_command();
        let status = maker.stdout(made).status().context("cannot start the example `records`")?;
        if !status.success() {
            bail!("the example `records` could not make `{kind}` ({status})");
        }
        let best = best(rounds, || Ok(measure(sh(examples.join("records"), [&file]))?.said));
        std::fs::remove_file(&file)?;
        let (said, wall, cpu) = best?;
        if !said.contains(&format!(" {rows} flows,")) {
            bail!("{kind}: not all of {rows} rows became flows: {said}");
        }
        println!("{kind:<14} {wall:>12.0} {cpu:>16.0}");
    }
    for (name, file) in DATAGRAMS {
        let file = corpus().join("netflow/from-attacks").join(file);
        if !file.exists() {
            println!("SKIP {name}: {} is not there (WEIR_CORPUS says where the corpus is)", file.display());
            continue;
        }
        let (_, wall, cpu) = best(rounds, || Ok(measure(sh(examples.join("netflow_rate"), [&file]))?.said))?;
        println!("{name:<14} {wall:>12.0} {cpu:>16.0}");
    }
    Ok(())
}

pub fn build() -> Result<()> {
    let words = ["build", "--release", "-p", "weir-source", "--example", "records", "--example", "netflow_rate"];
    sh("cargo", words).dir(root()).loud().run()
}

/// What was said last, and the best rates of several runs.
fn best(rounds: u32, mut run: impl FnMut() -> Result<String>) -> Result<(String, f64, f64)> {
    let (mut last, mut wall, mut cpu) = (String::new(), 0.0_f64, 0.0_f64);
    for _ in 0..rounds.max(1) {
        last = run()?;
        let (w, c) = rates(&last).with_context(|| format!("no rate in `{last}`"))?;
        (wall, cpu) = (wall.max(w), cpu.max(c));
    }
    Ok((last, wall, cpu))
}

/// `... 2800000 records/s (2900000 per second of CPU), ...`
fn rates(said: &str) -> Option<(f64, f64)> {
    let before = |word: &str| said.split_once(word)?.0.rsplit([' ', '(']).next()?.parse().ok();
    Some((before(" records/s")?, before(" per second of CPU")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_found_in_what_the_examples_print() {
        let said =
            "x: zeek, 9 read\n  9 flows, 1 packets, 2 bytes\n  2800000 records/s (2900000 per second of CPU), 9 MB/s";
        assert_eq!(rates(said), Some((2_800_000.0, 2_900_000.0)));
        assert_eq!(
            rates("f: 5 records, 5 flows in 0.1 s: 50 records/s (60 per second of CPU), 0.1 MB held"),
            Some((50.0, 60.0))
        );
        assert_eq!(rates("nothing"), None);
    }
}
