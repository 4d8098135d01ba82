//! `cargo xtask fuzz`: libFuzzer over whatever reads what others wrote, seeded with real files.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use crate::needs::Use;
use crate::sh::{corpus, root, sh, sh_as_root, target_dir};

#[derive(clap::Args)]
pub struct Options {
    /// A target: a format as `weir flows --format` names it, such as pcap, or another parser, such as grpc or config
    #[arg(required_unless_present_any = ["all", "packets"])]
    target: Option<String>,
    /// Every target, as many at once as there are processors
    #[arg(long, conflicts_with = "target")]
    all: bool,
    /// How long for each target
    #[arg(long, value_name = "N", default_value_t = 60, conflicts_with = "hours")]
    seconds: u64,
    /// How long for all of them together
    #[arg(long, value_name = "N", requires = "all")]
    hours: Option<f64>,
    /// Where chance begins; 0: elsewhere each time
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// Instead: so many mutated packets through the XDP program, the shared parser and the reference, which must agree
    #[arg(long, value_name = "N", conflicts_with_all = ["target", "all"])]
    packets: Option<usize>,
}

impl Options {
    /// Every target for so many seconds, from the same beginning each time: what a change breaks shows, what chance finds is for
    /// longer runs.
    pub fn all(seconds: u64) -> Self {
        Self { target: None, all: true, seconds, hours: None, seed: 1, packets: None }
    }

    /// Seconds for each of so many targets, as many of them at once as there are `workers`.
    fn seconds_each(&self, targets: usize, workers: usize) -> u64 {
        match self.hours {
            Some(hours) => (hours * 3600.0 * workers.min(targets) as f64 / targets as f64).max(1.0) as u64,
            None => self.seconds,
        }
    }
}

/// Files that fuzzing starts from: folders with endings.
type Seeds = &'static [(&'static str, &'static [&'static str])];

struct Target {
    name: &'static str,
    /// Of the corpus.
    corpus: Seeds,
    /// Of the repository.
    own: Seeds,
    /// A first byte chooses among what a person may choose.
    choice: bool,
}

impl Target {
    /// An input format: the reader's cases are seeds too.
    const fn format(name: &'static str, corpus: Seeds) -> Self {
        Self { name, corpus, own: &[], choice: true }
    }

    const fn other(name: &'static str, own: Seeds) -> Self {
        Self { name, corpus: &[], own, choice: false }
    }
}

const TARGETS: &[Target] = &[
    Target::format("pcap", &[("pcap/ndpi/pcap", &["pcap", "cap"]), ("pcap/zeek-btest", &["pcap", "trace"])]),
    Target::format("pcapng", &[("pcap/ndpi/pcap", &["pcapng"]), ("pcap/arkime", &["pcapng"])]),
    Target::format("zeek", &[("zeek/slips", &["log"]), ("zeek/rita-format", &["log"])]),
    Target::format("zeek-json", &[("zeek/slips", &["log"]), ("zeek/rita-format", &["log", "json"])]),
    Target::format("zeek-csv", &[("zeek/iot23-csv", &["csv"])]),
    Target::format("netflow", &[("netflow/datagrams", &["dat"]), ("netflow/from-attacks", &[""])]),
    Target::format("eve", &[]),
    Target::format(
        "cic-ids2017",
        &[
            ("cicids2017-improved", &["csv"]),
            ("cicids2017-mlcve79", &["csv"]),
            ("cicids2017-trafficlabelling85", &["csv"]),
        ],
    ),
    Target::format("unsw-nb15", &[("unsw-nb15", &["csv"])]),
    Target::format("weir-json", &[]),
    Target::format("weir-parquet", &[]),
    Target::other("packet", &[]),
    Target::other("grpc", &[]),
    Target::other("rest", &[]),
    Target::other("config", &[("deploy", &["yaml"])]),
    Target { choice: true, ..Target::other("list", &[]) },
    Target::other("crowdsec", &[]),
    Target::other("kafka", &[]),
    Target::other("certificate", &[]),
    Target::other("manifest", &[("models/default/bundle", &["yaml"])]),
    Target::other("onnx", &[("models/default/bundle", &["onnx"])]),
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
    if let Some(packets) = options.packets {
        return mutated_packets(packets, options.seed);
    }
    let targets: Vec<&Target> = match &options.target {
        Some(name) => vec![TARGETS.iter().find(|t| t.name == name).with_context(|| {
            let names: Vec<_> = TARGETS.iter().map(|t| t.name).collect();
            format!("no target {name:?}; there are: {}", names.join(", "))
        })?],
        None => TARGETS.iter().collect(),
    };
    crate::setup::ensure(&[Use::Fuzz])?;
    let program = build()?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(targets.len());
    let seconds = options.seconds_each(targets.len(), workers);
    println!("fuzz: {} targets for {seconds} s each, {workers} at once", targets.len());
    let (queue, crashed) = (Mutex::new(targets.into_iter()), Mutex::new(Vec::new()));
    let next = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(target) = next() {
                    let stood = fuzz(&program, target, seconds, options.seed).unwrap_or_else(|e| {
                        println!("fuzz {:<13} could not run: {e:#}", target.name);
                        false
                    });
                    if !stood {
                        crashed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(target.name);
                    }
                }
            });
        }
    });
    let crashed = crashed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !crashed.is_empty() {
        bail!(
            "fuzzing failed for {}: mend it, and keep the input as a named case (agent/source/tests/cases for formats, else \
             agent/fuzz/seeds and a test beside what broke)",
            crashed.join(", ")
        );
    }
    Ok(())
}

/// The test that compares the kernel's parser with the reference, with another number of frames.
fn mutated_packets(packets: usize, seed: u32) -> Result<()> {
    const TEST: &str = "xdp_parses_a_million_mutated_frames_as_the_reference_does";
    crate::setup::ensure(&[Use::Test])?;
    crate::ebpf::build(crate::ebpf::Choice::Auto)?;
    let words = ["test", "--workspace", "--test", "kernel", TEST, "--", "--nocapture"];
    let mut command = sh_as_root("cargo", words).dir(root()).env("WEIR_PACKETS", packets.to_string());
    if seed != 0 {
        command = command.env("WEIR_PACKETS_SEED", seed.to_string());
    }
    command.loud().run()
}

fn build() -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let dir = target_dir().join("fuzz");
    // A target of its own keeps the flags away from build scripts.
    let mut words = vec!["build", "--release", "--target", &target];
    if std::env::var_os("CI").is_some() {
        words.push("--locked");
    }
    sh("cargo", words)
        .dir(root().join("agent/fuzz"))
        .without_cargo_env()
        .env("CARGO_TARGET_DIR", &dir)
        .env("RUSTFLAGS", FLAGS.join(" "))
        .loud()
        .run()?;
    Ok(dir.join(target).join("release/weir-fuzz"))
}

/// Whether the target stood it.
fn fuzz(program: &Path, target: &Target, seconds: u64, seed: u32) -> Result<bool> {
    let name = target.name;
    let base = target_dir().join("fuzz");
    let (seeds, found, crashes) = (base.join("seeds").join(name), base.join("corpus").join(name), base.join("crashes"));
    for dir in [&seeds, &found, &crashes] {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let n = plant(target, &seeds)? + grow(program, name, &seeds)?;
    if n == 0 && !target.corpus.is_empty() {
        println!("SKIP seeds of {name}: no corpus at {} (WEIR_CORPUS names it)", corpus().display());
    }
    let log = base.join(format!("{name}.log"));
    let said = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = sh(program, [&found, &seeds])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={MAX_LEN}"))
        .arg(format!("-rss_limit_mb={RSS_MB}"))
        .arg(format!("-timeout={TIMEOUT_S}"))
        .arg(format!("-artifact_prefix={}/{name}-", crashes.display()))
        .arg(format!("-seed={seed}"))
        .arg("-print_final_stats=1")
        .env("WEIR_FUZZ_TARGET", name)
        .into_command();
    let status = command.stderr(said).status().context("cannot start the fuzzer")?;
    let said = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    if status.success() {
        let stat =
            |name: &str| said.lines().rev().find_map(|l| l.strip_prefix("stat::")?.strip_prefix(name)).map(str::trim);
        println!(
            "fuzz {name:<13} ok: {} inputs in {seconds} s from {n} seeds, peak {} MiB",
            stat("number_of_executed_units:").unwrap_or("?"),
            stat("peak_rss_mb:").unwrap_or("?")
        );
        return Ok(true);
    }
    let lines: Vec<&str> = said.lines().collect();
    println!("fuzz {name:<13} FAILED ({status}), all of it in {}:", log.display());
    lines[lines.len().saturating_sub(40)..].iter().for_each(|l| println!("  {l}"));
    Ok(false)
}

/// Lets the program write the inputs that it makes itself; how many there are.
fn grow(program: &Path, name: &str, into: &Path) -> Result<usize> {
    let command = sh(program, [""; 0]).env("WEIR_FUZZ_TARGET", name).env("WEIR_FUZZ_PLANT", into);
    command.run().with_context(|| format!("seeds of {name} could not be written into {}", into.display()))?;
    let made = std::fs::read_dir(into)?.flatten().filter(|e| e.file_name().to_string_lossy().starts_with("sample-"));
    Ok(made.count())
}

/// Copies the beginnings of corpus files, of files of the repository, and of the cases kept by the tests.
fn plant(target: &Target, into: &Path) -> Result<usize> {
    let mut files = Vec::new();
    for (folder, endings) in target.corpus {
        collect(&corpus().join(folder), endings, &mut files);
    }
    files.sort();
    // Small ones first: they are mutated faster.
    files.sort_by_key(|f| f.metadata().map_or(u64::MAX, |m| m.len()));
    files.truncate(MAX_SEEDS);
    for (folder, endings) in target.own {
        collect(&root().join(folder), endings, &mut files);
    }
    collect(&root().join("agent/fuzz/seeds").join(target.name), &[""], &mut files);
    collect(&root().join("agent/source/tests/cases").join(target.name), &[""], &mut files);
    for (i, file) in files.iter().enumerate() {
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut seed = if target.choice { vec![(i % 4) as u8] } else { Vec::new() };
        seed.extend(&bytes[..bytes.len().min(MAX_LEN - seed.len())]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_those_of_the_whole_run_however_many_targets_there_are() {
        let options = |hours| Options { hours, ..Options::all(10) };
        assert_eq!(options(None).seconds_each(22, 2), 10);
        // An hour on two processors, ten targets: two at once for 720 s, five times.
        assert_eq!(options(Some(1.0)).seconds_each(10, 2), 720);
        assert_eq!(options(Some(1.0)).seconds_each(1, 8), 3600);
        assert_eq!(options(Some(0.0)).seconds_each(10, 2), 1);
    }

    #[test]
    fn every_format_that_is_read_has_a_target_and_names_are_given_once() {
        let formats = std::fs::read_to_string(root().join("agent/source/src/input.rs")).unwrap();
        let names: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
        let pair = |line: &'static str| line.trim().strip_prefix("(Format::")?.split('"').nth(1);
        let known: Vec<&str> = formats.leak().lines().filter_map(pair).collect();
        assert!(known.len() > 5, "{known:?}");
        for format in &known {
            assert!(names.contains(format), "{format} is read and not fuzzed");
        }
        assert!(names.iter().all(|n| names.iter().filter(|m| m == &n).count() == 1));
    }
}
