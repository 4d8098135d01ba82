//! `cargo xtask vm`: Debian's kernels in qemu, and the tests that make sense there.

mod initramfs;
mod packages;
mod plan;
mod qemu;
mod report;
mod verified;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::host::Host;
use crate::needs::Use;
use crate::sh::{root, sh};

use initramfs::Program;
use plan::{KERNELS, Kernel, Test};
use qemu::Guest;
use report::Line;

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Kernels, such as `6.1`; all of the matrix in README where none is named
    #[arg(value_name = "KERNEL")]
    kernels: Vec<String>,
    /// Only the tests that `cargo xtask test` runs as well
    #[arg(long)]
    short: bool,
    /// Only tests with this in their name
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// Ask apt for newer packages of the kernels
    #[arg(long)]
    update: bool,
    /// Write the numbers of verified instructions down, for later runs to be held against
    #[arg(long)]
    record: bool,
    /// Print the matrix that README has, and boot nothing
    #[arg(long)]
    matrix: bool,
}

/// What `cargo xtask test` runs, the setup behind it. What cannot be had is a skip.
pub fn short() -> Result<Tally> {
    let mut missing = Tally::default();
    if !cfg!(target_arch = "x86_64") {
        missing.skips.push("vm: the guests are x86-64, and this machine's programs are not".to_owned());
        return Ok(missing);
    }
    for program in ["qemu-system-x86_64", "strip", "apt-get", "dpkg-deb"] {
        if let Err(e) = Host::this().which(program) {
            missing.skips.push(format!("vm: {e:#}"));
            return Ok(missing);
        }
    }
    let options = Options { kernels: Vec::new(), short: true, only: None, update: false, record: false, matrix: false };
    boot_all(&options, &named(&[])?)
}

pub fn run(options: &Options) -> Result<()> {
    if options.matrix {
        print!("{}", plan::matrix()?);
        return Ok(());
    }
    let kernels = named(&options.kernels)?;
    crate::setup::ensure(&[Use::Vm])?;
    crate::ebpf::build(crate::ebpf::Choice::Auto)?;
    let tally = boot_all(options, &kernels)?;
    println!("\n{}", tally.closing());
    if tally.failed > 0 || tally.passed == 0 {
        bail!("not every kernel passed; consoles are in {}", packages::folder().display());
    }
    Ok(())
}

fn named(names: &[String]) -> Result<Vec<&'static Kernel>> {
    if names.is_empty() {
        return Ok(KERNELS.iter().collect());
    }
    let one = |name: &String| {
        let known = || KERNELS.iter().map(|k| k.version).collect::<Vec<_>>().join(", ");
        KERNELS
            .iter()
            .find(|k| k.version == name)
            .with_context(|| format!("no kernel `{name}` here; there are {}", known()))
    };
    names.iter().map(one).collect()
}

/// What came of all tests.
#[derive(Debug, Default)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skips: Vec<String>,
}

impl Tally {
    pub fn closing(&self) -> String {
        let mut text = String::new();
        for skip in &self.skips {
            text.push_str(&format!("SKIP {skip}\n"));
        }
        text + &format!("vm: {} passed, {} failed, {} skipped", self.passed, self.failed, self.skips.len())
    }
}

/// Boots the kernels one after the other, printing a line for each test.
fn boot_all(options: &Options, kernels: &[&Kernel]) -> Result<Tally> {
    let mut tally = Tally::default();
    let programs = programs()?;
    let busybox = match packages::busybox() {
        Ok(busybox) => busybox,
        Err(e) => {
            tally.skips.push(format!("vm: {e:#}"));
            return Ok(tally);
        }
    };
    println!("{:<6} {:<92} {:>8} {:>8}", "kernel", "test", "result", "seconds");
    for kernel in kernels {
        let tests: Vec<&Test> = plan::tests(kernel, options.short)
            .filter(|t| options.only.as_ref().is_none_or(|word| t.name.contains(word.as_str())))
            .collect();
        let unpacked = match packages::kernel(kernel.version, kernel.suite, options.update) {
            Ok(unpacked) => unpacked,
            Err(e) => {
                tally.skips.push(format!("vm {}: {e:#}", kernel.version));
                continue;
            }
        };
        let initramfs = packages::folder().join(format!("initramfs-{}", kernel.version));
        initramfs::write(&initramfs, &unpacked, &busybox, &programs, &plan::lines(&tests))?;
        let console = packages::folder().join(format!("console-{}.log", kernel.version));
        let begin = Instant::now();
        let ended = Guest::boot(&unpacked, kernel.boots_with, &initramfs, &console)
            .and_then(|mut guest| follow(&mut guest, kernel, tests.len(), options, &mut tally));
        std::fs::remove_file(&initramfs)?;
        if let Err(e) = ended {
            tally.failed += 1;
            println!("{:<6} {e:#}; its console: {}", kernel.version, console.display());
        }
        println!(
            "{:<6} {:<92} {:>8} {:>8.1}",
            kernel.version,
            unpacked.release,
            "in all",
            begin.elapsed().as_secs_f64()
        );
    }
    Ok(tally)
}

/// Reads a guest's report to its end.
fn follow(guest: &mut Guest, kernel: &Kernel, tests: usize, options: &Options, tally: &mut Tally) -> Result<()> {
    let (mut now, mut said, mut ended) = (String::new(), Vec::new(), 0);
    let row = |test: &str, result: &str, seconds: f64| {
        println!("{:<6} {test:<92} {result:>8} {seconds:>8.1}", kernel.version);
    };
    while let Some(line) = guest.next()? {
        match line {
            Line::Kernel(release) if !release.starts_with(&format!("{}.", kernel.version)) => {
                bail!("{release} runs, and {} was to be booted", kernel.version)
            }
            Line::Kernel(_) => {}
            Line::Test { program, name } => (now, said) = (format!("{program} {name}"), Vec::new()),
            Line::Said(line) => said.push(line),
            Line::Verified(numbers) => {
                if options.record {
                    verified::record(kernel.version, numbers)?;
                }
                println!("{:<6}   verified instructions: XDP {}, TC {}", kernel.version, numbers[0], numbers[1]);
            }
            // It is held against the numbers that these replace.
            Line::Failed(seconds, _) | Line::Skipped(seconds, _) if options.record && now.contains("verifier::") => {
                ended += 1;
                tally.passed += 1;
                row(&now, "recorded", seconds);
            }
            Line::Passed(seconds) => {
                ended += 1;
                tally.passed += 1;
                row(&now, "passed", seconds);
            }
            Line::Failed(seconds, why) => {
                ended += 1;
                tally.failed += 1;
                row(&now, "FAILED", seconds);
                println!("{}\n{why}", said.join("\n"));
            }
            // A guest has all that its tests need.
            Line::Skipped(seconds, why) => {
                ended += 1;
                tally.failed += 1;
                row(&now, "SKIPPED", seconds);
                println!("       {why}");
            }
            Line::Done => {}
        }
    }
    if ended != tests {
        bail!("{ended} of {tests} tests were reported on");
    }
    Ok(())
}

/// The agent, where its tests look for it, and the test programs.
fn programs() -> Result<Vec<Program>> {
    let mut words = vec!["test", "--workspace", "--no-run", "--message-format", "json-render-diagnostics"];
    words.extend(plan::PROGRAMS.iter().flat_map(|p| ["--test", p]));
    let said = sh("cargo", words).dir(root()).loud().into_command().stderr(std::process::Stdio::inherit()).output()?;
    if !said.status.success() {
        bail!("the tests did not build ({})", said.status);
    }
    let built = executables(&String::from_utf8_lossy(&said.stdout));
    let mut programs = Vec::new();
    for name in plan::PROGRAMS {
        let from = built.get(*name).with_context(|| format!("cargo built no test program `{name}`"))?.clone();
        programs.push(Program { at: format!("tests/{name}"), from });
    }
    let weir = built.get("weir").cloned().unwrap_or_else(|| crate::sh::target_dir().join("debug/weir"));
    programs.push(Program { at: weir.to_string_lossy().into_owned(), from: weir });
    Ok(programs)
}

/// Targets that cargo says it has built, and their files.
fn executables(messages: &str) -> BTreeMap<String, PathBuf> {
    let built = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let name = message["target"]["name"].as_str()?.to_owned();
        let kind = message["target"]["kind"][0].as_str()?;
        // The unit tests of a binary bear its name too.
        let wanted = kind == "test" || kind == "bin" && message["profile"]["test"] == false;
        wanted.then_some((name, PathBuf::from(message["executable"].as_str()?)))
    };
    messages.lines().filter_map(built).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_built_is_found_and_unit_tests_are_not_taken_for_the_agent() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"weir"},"profile":{"test":true},"executable":"/t/weir-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"weir"},"profile":{"test":false},"executable":"/t/weir"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"live"},"profile":{"test":true},"executable":"/t/live-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"weir_core"},"profile":{"test":false},"executable":null}"#,
            "\nnoise\n",
        );
        let built = executables(messages);
        assert_eq!(built.len(), 2, "{built:?}");
        assert_eq!((&built["weir"], &built["live"]), (&"/t/weir".into(), &"/t/live-1".into()));
    }

    #[test]
    fn an_unknown_kernel_is_named_with_those_there_are() {
        let e = named(&["4.19".into()]).unwrap_err().to_string();
        assert!(e.contains("`4.19`") && e.contains("6.1, 6.12"), "{e}");
        assert_eq!(named(&["6.12".into()]).unwrap()[0].version, "6.12");
    }
}
