//! Building the kernel programs: crate `ebpf/`, its own workspace, target bpfel-unknown-none.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::host::Host;
use crate::sh::{Sh, root, sh};

const TARGET: &str = "bpfel-unknown-none";

/// Flags of the linker and of code generation: BTF into the object, line information for the verifier's messages, and
/// the instruction set of Linux 5.1 and later (32-bit jumps, atomics).
const RUSTFLAGS: [&str; 4] = ["-Clinker=bpf-linker", "-Clink-arg=--btf", "-Cdebuginfo=2", "-Ctarget-cpu=v3"];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// rustup's nightly if it has rust-src, else Debian's
    #[default]
    Auto,
    /// rustup's nightly with the rust-src component
    Nightly,
    /// Debian's packages rustc-web and rust-web-src
    Debian,
}

/// A compiler that has the source of `core` beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    Nightly { version: String },
    Debian { rustc: PathBuf, version: String },
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nightly { version } => write!(f, "{version}, of rustup, with rust-src"),
            Self::Debian { rustc, version } => write!(f, "{version}, {}, with rust-web-src", rustc.display()),
        }
    }
}

/// Where `core` lies below a sysroot.
const CORE: &str = "lib/rustlib/src/rust/library/core/src/lib.rs";

pub fn find_compiler(host: &Host, choice: Choice) -> Result<Compiler> {
    match choice {
        Choice::Nightly => nightly(host),
        Choice::Debian => debian(host),
        Choice::Auto => nightly(host).or_else(|first| {
            debian(host).map_err(|second| anyhow::anyhow!("rustup's nightly: {first:#}; Debian's: {second:#}"))
        }),
    }
}

fn nightly(host: &Host) -> Result<Compiler> {
    let version = host.says("rustc", &["+nightly", "--version"])?;
    let sysroot = host.says("rustc", &["+nightly", "--print", "sysroot"])?;
    if !Path::new(&sysroot).join(CORE).exists() {
        bail!("{version} lacks the rust-src component (`rustup component add rust-src --toolchain nightly`)");
    }
    Ok(Compiler::Nightly { version })
}

fn debian(host: &Host) -> Result<Compiler> {
    let rustc = host.file("/usr/bin/rustc").context("package rustc-web is not installed")?;
    host.file(&format!("/usr/{CORE}")).context("package rust-web-src is not installed")?;
    let version = sh(&rustc, ["--version"]).without_cargo_env().output()?;
    Ok(Compiler::Debian { rustc, version })
}

/// A cargo command in `ebpf/` that only sees what this build is to see.
fn cargo(compiler: &Compiler, verb: &str) -> Result<Sh> {
    let host = Host::this();
    // LLVM writes BTF's types that are only pointed to in the order of their addresses in its memory. Where a container does not let
    // these be the same each time, the object may differ in a few bytes each time.
    let same_addresses = sh("setarch", ["-R", "true"]).output().is_ok();
    let mut words = if same_addresses { vec!["-R", "cargo"] } else { Vec::new() };
    if matches!(compiler, Compiler::Nightly { .. }) {
        words.push("+nightly");
    }
    words.extend([verb, "-Z", "build-std=core", "--target", TARGET, "--release"]);
    if std::env::var_os("CI").is_some() {
        words.push("--locked");
    }
    let command = host
        .command(if same_addresses { "setarch" } else { "cargo" }, &words)?
        .dir(root().join("ebpf"))
        .env("CARGO_TARGET_DIR", target_dir(compiler))
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    let sysroot = match compiler {
        Compiler::Nightly { .. } => host.says("rustc", &["+nightly", "--print", "sysroot"])?,
        Compiler::Debian { rustc, .. } => sh(rustc, ["--print", "sysroot"]).without_cargo_env().output()?,
    };
    // The object names its sources for the verifier's messages; it is to be the same wherever it is built.
    let command =
        crate::remap::here(command, &sysroot, &target_dir(compiler)).env("WEIR_REMAP_NAMES", "weir_common weir_ebpf");
    Ok(match compiler {
        Compiler::Nightly { .. } => command,
        Compiler::Debian { rustc, .. } => command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1"),
    })
}

/// One folder per compiler, so that changing between them does not rebuild `core`.
fn target_dir(compiler: &Compiler) -> PathBuf {
    crate::sh::target_dir().join(match compiler {
        Compiler::Nightly { .. } => "kernel-nightly",
        Compiler::Debian { .. } => "kernel-debian",
    })
}

/// Where the agent's build script looks for the object.
pub fn object() -> PathBuf {
    root().join("target/bpf/weir-ebpf.o")
}

pub fn build(choice: Choice) -> Result<()> {
    let compiler = find_compiler(&Host::this(), choice)?;
    eprintln!("build-ebpf: {compiler}");
    cargo(&compiler, "build")?.run().context(
        "the kernel programs did not build; `cargo xtask build-ebpf --compiler debian|nightly` takes the other compiler",
    )?;
    let built = target_dir(&compiler).join(TARGET).join("release/weir-ebpf");
    let changed = copy_if_changed(&built, &object())?;
    let size = std::fs::metadata(object())?.len();
    let state = if changed { "new" } else { "unchanged" };
    eprintln!("build-ebpf: {} ({size} bytes, {state})", object().strip_prefix(root())?.display());
    Ok(())
}

/// Lints of the kernel programs, or why they cannot run here.
pub fn clippy() -> Result<Result<(), String>> {
    match find_compiler(&Host::this(), Choice::Nightly) {
        Err(e) => Ok(Err(format!("clippy of ebpf/ needs rustup's nightly with rust-src and clippy: {e:#}"))),
        Ok(_) if Host::this().says("cargo", &["+nightly", "clippy", "--version"]).is_err() => {
            Ok(Err("rustup's nightly has no clippy component".to_owned()))
        }
        Ok(compiler) => cargo(&compiler, "clippy")?.arg("--").arg("-Dwarnings").run().map(Ok),
    }
}

/// An object that stayed the same keeps its time, so that what embeds it is not built again.
fn copy_if_changed(from: &Path, to: &Path) -> Result<bool> {
    let new = std::fs::read(from).with_context(|| format!("the build left no {}", from.display()))?;
    if !new.starts_with(b"\x7fELF") {
        bail!("{} is no ELF object; did another linker than bpf-linker write it?", from.display());
    }
    if std::fs::read(to).is_ok_and(|old| old == new) {
        return Ok(false);
    }
    let dir = to.parent().context("the object needs a folder")?;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    // Renamed into place: a build that reads it at this moment sees the old or the new object, never a part.
    let part = to.with_extension("part");
    std::fs::write(&part, &new).with_context(|| format!("cannot write {}", part.display()))?;
    std::fs::rename(&part, to).with_context(|| format!("cannot move the object to {}", to.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_object_keeps_its_time_and_a_changed_one_is_replaced() {
        let dir = std::env::temp_dir().join(format!("weir-object-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (from, to) = (dir.join("built"), dir.join("deep/object.o"));
        std::fs::write(&from, b"\x7fELF one").unwrap();
        assert!(copy_if_changed(&from, &to).unwrap());
        let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        std::fs::File::options().append(true).open(&to).unwrap().set_modified(long_ago).unwrap();
        assert!(!copy_if_changed(&from, &to).unwrap());
        assert_eq!(to.metadata().unwrap().modified().unwrap(), long_ago);
        std::fs::write(&from, b"\x7fELF two").unwrap();
        assert!(copy_if_changed(&from, &to).unwrap());
        assert_eq!(std::fs::read(&to).unwrap(), b"\x7fELF two");
        std::fs::write(&from, b"!<arch>").unwrap();
        assert!(copy_if_changed(&from, &to).unwrap_err().to_string().contains("ELF"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
