//! `cargo xtask fuzz`: libFuzzer over the input formats, seeded with real files.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::needs::Use;
use crate::sh::{corpus, root, sh, target_dir};

#[derive(clap::Args)]
pub struct Options {
    /// A format as `weir flows --format` names it, such as pcap or netflow
    #[arg(required_unless_present = "all")]
    format: Option<String>,
    /// Every format, one after the other
    #[arg(long, conflicts_with = "format")]
    all: bool,
    /// How long for each format
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Where chance begins; 0: elsewhere each time
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
}

impl Options {
    /// Every format for so many seconds, from the same beginning each time: what a change breaks shows, what chance finds is for
    /// longer runs.
    pub fn all(seconds: u64) -> Self {
        Self { format: None, all: true, seconds, seed: 1 }
    }
}

/// A format, and the files of the corpus that fuzzing starts from: folders with endings.
struct Target {
    format: &'static str,
    seeds: &'static [(&'static str, &'static [&'static str])],
}

impl Target {
    const fn new(format: &'static str, seeds: &'static [(&'static str, &'static [&'static str])]) -> Self {
        Self { format, seeds }
    }
}

const TARGETS: &[Target] = &[
    Target::new("pcap", &[("pcap/ndpi/pcap", &["pcap", "cap"]), ("pcap/zeek-btest", &["pcap", "trace"])]),
    Target::new("pcapng", &[("pcap/ndpi/pcap", &["pcapng"]), ("pcap/arkime", &["pcapng"])]),
    Target::new("zeek", &[("zeek/slips", &["log"]), ("zeek/rita-format", &["log"])]),
    Target::new("zeek-json", &[("zeek/slips", &["log"]), ("zeek/rita-format", &["log", "json"])]),
    Target::new("zeek-csv", &[("zeek/iot23-csv", &["csv"])]),
    Target::new("netflow", &[("netflow/datagrams", &["dat"]), ("netflow/from-attacks", &[""])]),
    Target::new("eve", &[]),
    Target::new(
        "cic-ids2017",
        &[
            ("cicids2017-improved", &["csv"]),
            ("cicids2017-mlcve79", &["csv"]),
            ("cicids2017-trafficlabelling85", &["csv"]),
        ],
    ),
    Target::new("unsw-nb15", &[("unsw-nb15", &["csv"])]),
    Target::new("weir-json", &[]),
    Target::new("weir-parquet", &[]),
];

/// Longest input, bytes, and the part of a seed file that is taken.
const MAX_LEN: usize = 32 << 10;
const MAX_SEEDS: usize = 200;
/// libFuzzer's limits: beyond them an input counts as a crash.
const RSS_MB: u32 = 1024;
const TIMEOUT_S: u32 = 10;

/// Instrumentation that libFuzzer reads, as cargo-fuzz sets it. It takes no nightly compiler.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];

pub fn run(options: &Options) -> Result<()> {
    let targets: Vec<&Target> = match &options.format {
        Some(name) => vec![TARGETS.iter().find(|t| t.format == name).with_context(|| {
            let names: Vec<_> = TARGETS.iter().map(|t| t.format).collect();
            format!("no format {name:?}; there are: {}", names.join(", "))
        })?],
        None => TARGETS.iter().collect(),
    };
    crate::setup::ensure(&[Use::Fuzz])?;
    let program = build()?;
    let mut crashed = Vec::new();
    for target in targets {
        if !fuzz(&program, target, options)? {
            crashed.push(target.format);
        }
    }
    if !crashed.is_empty() {
        bail!(
            "fuzzing failed for {}: keep each input as a named case in agent/source/tests/cases, and mend it",
            crashed.join(", ")
        );
    }
    Ok(())
}

fn build() -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let dir = target_dir().join("fuzz");
    // A target of its own keeps the flags away from build scripts.
    sh("cargo", ["build", "--release", "--target", &target])
        .dir(root().join("agent/source/fuzz"))
        .without_cargo_env()
        .env("CARGO_TARGET_DIR", &dir)
        .env("RUSTFLAGS", FLAGS.join(" "))
        .loud()
        .run()?;
    Ok(dir.join(target).join("release/weir-source-fuzz"))
}

/// Whether the format stood it.
fn fuzz(program: &Path, target: &Target, options: &Options) -> Result<bool> {
    let seconds = options.seconds;
    let base = target_dir().join("fuzz");
    let (seeds, found, crashes) =
        (base.join("seeds").join(target.format), base.join("corpus").join(target.format), base.join("crashes"));
    for dir in [&seeds, &found, &crashes] {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let n = plant(target, &seeds)?;
    if n == 0 && !target.seeds.is_empty() {
        println!("SKIP seeds of {}: no corpus at {} (WEIR_CORPUS names it)", target.format, corpus().display());
    }
    let log = base.join(format!("{}.log", target.format));
    let said = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = sh(program, [&found, &seeds])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={MAX_LEN}"))
        .arg(format!("-rss_limit_mb={RSS_MB}"))
        .arg(format!("-timeout={TIMEOUT_S}"))
        .arg(format!("-artifact_prefix={}/{}-", crashes.display(), target.format))
        .arg(format!("-seed={}", options.seed))
        .arg("-print_final_stats=1")
        .env("WEIR_FUZZ_FORMAT", target.format)
        .into_command();
    let status = command.stderr(said).status().context("cannot start the fuzzer")?;
    let said = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    if status.success() {
        let stat =
            |name: &str| said.lines().rev().find_map(|l| l.strip_prefix("stat::")?.strip_prefix(name)).map(str::trim);
        println!(
            "fuzz {:<13} ok: {} inputs in {seconds} s from {n} seeds, peak {} MiB",
            target.format,
            stat("number_of_executed_units:").unwrap_or("?"),
            stat("peak_rss_mb:").unwrap_or("?")
        );
        return Ok(true);
    }
    let lines: Vec<&str> = said.lines().collect();
    println!("fuzz {:<13} FAILED ({status}), all of it in {}:", target.format, log.display());
    lines[lines.len().saturating_sub(40)..].iter().for_each(|l| println!("  {l}"));
    Ok(false)
}

/// Copies the beginnings of corpus files, and the cases kept by the tests, behind a byte of choices.
fn plant(target: &Target, into: &Path) -> Result<usize> {
    let mut files = Vec::new();
    for (folder, endings) in target.seeds {
        collect(&corpus().join(folder), endings, &mut files);
    }
    files.sort();
    // Small ones first: they are mutated faster.
    files.sort_by_key(|f| f.metadata().map_or(u64::MAX, |m| m.len()));
    files.truncate(MAX_SEEDS);
    collect(&root().join("agent/source/tests/cases").join(target.format), &[""], &mut files);
    for (i, file) in files.iter().enumerate() {
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut seed = vec![(i % 4) as u8];
        seed.extend(&bytes[..bytes.len().min(MAX_LEN - 1)]);
        std::fs::write(into.join(format!("{i:03}")), seed)?;
    }
    Ok(files.len())
}

/// Files below `folder` with one of the endings; an empty ending is any.
fn collect(folder: &Path, endings: &[&str], out: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|e| e.path()) {
        if path.is_dir() {
            collect(&path, endings, out);
        } else if endings.iter().any(|e| e.is_empty() || path.extension().is_some_and(|x| x == *e)) {
            out.push(path);
        }
    }
}
