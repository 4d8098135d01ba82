//! `cargo xtask sanitize`: the tests of unsafe code, watched by what sees a wrong access where a test would not.
//!
//! AddressSanitizer needs flags that a stable compiler takes with `RUSTC_BOOTSTRAP=1`, and a runtime that rustup's toolchains come with. Miri is a
//! component of rustup's nightly; it knows no system calls of BPF. Those, netlink, ioctl and mapped memory are watched by valgrind's memcheck, which
//! knows what the kernel reads and writes, in the test program as `cargo test` builds it.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::host::Host;
use crate::needs::Use;
use crate::sh::{root, sh, target_dir};

#[derive(clap::Args)]
pub struct Options {
    /// Only this one
    #[arg(long, value_enum)]
    only: Option<Watcher>,
}

impl Options {
    pub const ALL: Options = Options { only: None };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Watcher {
    /// AddressSanitizer with its leak detector, over `common/`: accesses beyond what is there, after it is gone, and what is never freed
    Address,
    /// Miri, over `common/`: undefined behaviour of any kind
    Miri,
    /// Valgrind's memcheck, over the system calls and the mapped memory of `agent/kernel`
    Memcheck,
}

impl fmt::Display for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "address",
            Self::Miri => "miri",
            Self::Memcheck => "memcheck",
        })
    }
}

/// A compiler with AddressSanitizer's runtime beside its libraries.
#[derive(Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Before cargo's verb.
    plus: Option<&'static str>,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the runtime of {}", if self.plus.is_some() { "rustup's nightly" } else { "the compiler in use" })
    }
}

impl Toolchain {
    /// The compiler in use, or rustup's nightly.
    pub fn find(host: &Host) -> Result<Self> {
        let mut why = Vec::new();
        for plus in [None, Some("+nightly")] {
            let words: Vec<&str> = plus.into_iter().chain(["--print", "sysroot"]).collect();
            match host.says("rustc", &words) {
                Ok(sysroot) if has_runtime(Path::new(&sysroot)) => return Ok(Self { plus }),
                Ok(sysroot) => {
                    why.push(format!("{sysroot} has no runtime of AddressSanitizer, as rustup's toolchains have"))
                }
                Err(e) => why.push(format!("{e:#}")),
            }
        }
        bail!("{}", why.join("; "))
    }
}

fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

fn has_runtime(sysroot: &Path) -> bool {
    let lib = sysroot.join("lib/rustlib").join(target()).join("lib");
    let files = std::fs::read_dir(lib).into_iter().flatten().flatten();
    files.map(|f| f.file_name()).any(|name| name.to_string_lossy().ends_with("_rt.asan.a"))
}

/// What happened: what passed, and what was skipped with the reason.
#[derive(Default)]
pub struct Tally {
    pub passed: Vec<String>,
    pub skips: Vec<String>,
    pub failed: Vec<String>,
}

/// Why a watcher does not watch here, apart from what it found.
enum Missing {
    Skip(anyhow::Error),
    Failed(anyhow::Error),
}

/// Runs what can be run, and says what cannot.
pub fn run_all(options: &Options) -> Result<Tally> {
    crate::setup::ensure(&[Use::Sanitize])?;
    let host = Host::this();
    let mut tally = Tally::default();
    for watcher in [Watcher::Address, Watcher::Miri, Watcher::Memcheck] {
        if options.only.is_some_and(|only| only != watcher) {
            continue;
        }
        let done = match watcher {
            Watcher::Address => address(&host),
            Watcher::Miri => miri(&host),
            Watcher::Memcheck => memcheck(&host),
        };
        match done {
            Ok(()) => tally.passed.push(format!("sanitize {watcher}")),
            Err(Missing::Skip(e)) => tally.skips.push(format!("sanitize {watcher}: {e:#}")),
            Err(Missing::Failed(e)) => tally.failed.push(format!("sanitize {watcher}: {e:#}")),
        }
    }
    Ok(tally)
}

pub fn main(options: &Options) -> Result<()> {
    let tally = run_all(options)?;
    for line in &tally.passed {
        println!("ok    {line}");
    }
    for line in &tally.skips {
        println!("SKIP  {line}");
    }
    if !tally.failed.is_empty() {
        bail!("{}", tally.failed.join("\n"));
    }
    Ok(())
}

/// Both sides of the kernel boundary: parser, statistics, entries, the table of numbers.
const COMMON: [&str; 4] = ["-p", "weir-common", "--features", "user"];

fn address(host: &Host) -> Result<(), Missing> {
    let toolchain = Toolchain::find(host).map_err(Missing::Skip)?;
    let target = target();
    // A target of its own keeps the flags away from build scripts and macros.
    let words = toolchain.plus.into_iter().chain(["test"]).chain(COMMON).chain(["--target", &target]);
    let words: Vec<&str> = words.collect();
    let run = || {
        host.command("cargo", &words)?
            .dir(root())
            .env("CARGO_TARGET_DIR", target_dir().join("sanitize/address"))
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", "-Zsanitizer=address -Cforce-frame-pointers=yes")
            .loud()
            .run()
    };
    run().map_err(Missing::Failed)
}

fn miri(host: &Host) -> Result<(), Missing> {
    host.says("cargo", &["+nightly", "miri", "--version"]).map_err(Missing::Skip)?;
    let words: Vec<&str> = ["+nightly", "miri", "test"].into_iter().chain(COMMON).chain(["--lib"]).collect();
    let run = || {
        host.command("cargo", &words)?
            .dir(root())
            .env("CARGO_TARGET_DIR", target_dir().join("sanitize/miri"))
            .loud()
            .run()
    };
    run().map_err(Missing::Failed)
}

fn memcheck(host: &Host) -> Result<(), Missing> {
    host.which("valgrind").map_err(Missing::Skip)?;
    let run = || {
        let program = kernel_tests()?;
        let how = ["--quiet", "--error-exitcode=1", "--leak-check=full", "--show-leak-kinds=definite"];
        sh("valgrind", how)
            .arg("--errors-for-leak-kinds=definite")
            .arg(program)
            .arg("--test-threads=1")
            .dir(root().join("agent/kernel"))
            .loud()
            .run()
    };
    run().map_err(Missing::Failed)
}

/// The test program of `agent/kernel`'s library, built as `cargo xtask test` builds it.
fn kernel_tests() -> Result<PathBuf> {
    let words = ["test", "--workspace", "--lib", "--no-run"];
    let out = sh("cargo", words).dir(root()).into_command().output().context("cannot start cargo")?;
    let said = String::from_utf8_lossy(&out.stderr);
    let found = said.lines().find_map(executable).map(|path| root().join(path));
    found.with_context(|| format!("`cargo {}` names no test program of weir-kernel: {}", words.join(" "), said.trim()))
}

/// `  Executable unittests src/lib.rs (target/debug/deps/weir_kernel-3f5b9f88f7c1accb)`
fn executable(line: &str) -> Option<&str> {
    let path = line.trim().strip_prefix("Executable unittests")?.split_once('(')?.1.strip_suffix(')')?;
    path.contains("/weir_kernel-").then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolchain_counts_only_with_the_runtime_beside_its_libraries() {
        let dir = std::env::temp_dir().join(format!("weir-sanitize-{}", std::process::id()));
        let lib = dir.join("lib/rustlib").join(target()).join("lib");
        std::fs::create_dir_all(&lib).unwrap();
        std::fs::write(lib.join("librustc-nightly_rt.lsan.a"), "").unwrap();
        assert!(!has_runtime(&dir));
        std::fs::write(lib.join("librustc-nightly_rt.asan.a"), "").unwrap();
        assert!(has_runtime(&dir));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_program_is_found_among_what_cargo_says() {
        let line = "  Executable unittests src/lib.rs (target/debug/deps/weir_kernel-3f5b9f88f7c1accb)";
        assert_eq!(executable(line), Some("target/debug/deps/weir_kernel-3f5b9f88f7c1accb"));
        assert_eq!(executable("  Executable unittests src/lib.rs (target/debug/deps/weir_core-3f5b)"), None);
        assert_eq!(executable("    Finished `test` profile"), None);
    }
}
