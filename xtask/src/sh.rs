//! Running other programs, with errors that say which command failed and how.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The workspace's root folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// The folder of public captures and data sets.
pub fn corpus() -> PathBuf {
    std::env::var_os("WEIR_CORPUS").map_or_else(|| root().join("../shared/data"), PathBuf::from)
}

/// Cargo's target folder for the workspace, as the caller set it.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => std::env::current_dir().unwrap_or_else(|_| root().to_owned()).join(dir),
        _ => root().join("target"),
    }
}

pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A command with its words, for running and for showing.
pub struct Sh {
    command: Command,
    /// Shown before it runs.
    loud: bool,
}

/// `sh("cargo", ["fmt"])`
pub fn sh<I, S>(program: impl AsRef<OsStr>, args: I) -> Sh
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    // What cargo says of xtask itself: build scripts that look at it would run again, and all that hangs on them.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|n| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|p| n.starts_with(p))) {
            command.env_remove(name);
        }
    }
    Sh { command, loud: false }
}

/// The same as root: directly, or through sudo with the caller's PATH.
pub fn sh_as_root<I, S>(program: &str, args: I) -> Sh
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    if is_root() {
        return sh(program, args);
    }
    let mut all: Vec<OsString> = sudo_words();
    all.push(program.into());
    all.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
    let mut made = sh(&all[0], &all[1..]);
    // sudo may ask for a password.
    made.command.stdin(Stdio::inherit());
    made
}

/// What stands before a command that needs root; empty when we are root.
pub fn sudo_words() -> Vec<OsString> {
    if is_root() {
        return Vec::new();
    }
    let mut path = OsString::from("PATH=");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    vec!["sudo".into(), "-E".into(), "env".into(), path]
}

impl Sh {
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Print the command before it runs.
    pub fn loud(mut self) -> Self {
        self.loud = true;
        self
    }

    /// Takes away what an outer cargo or rustup put into the environment and what would change another build: a
    /// toolchain chosen by the rustup proxy, flags for the host's compiler, its target folder.
    pub fn without_cargo_env(mut self) -> Self {
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(belongs_to_outer_cargo) {
                self.command.env_remove(name);
            }
        }
        self
    }

    /// The command as one would type it.
    pub fn words(&self) -> String {
        let mut out = self.command.get_program().to_string_lossy().into_owned();
        for arg in self.command.get_args() {
            let arg = arg.to_string_lossy();
            out.push(' ');
            if arg.contains(' ') { out.push_str(&format!("'{arg}'")) } else { out.push_str(&arg) }
        }
        out
    }

    /// Runs it with our standard output and error; an exit status other than 0 is an error.
    pub fn run(mut self) -> Result<()> {
        if self.loud {
            eprintln!("+ {}", self.words());
        }
        let status = self.command.status().with_context(|| not_started(&self.words()))?;
        if !status.success() {
            bail!("`{}` failed ({status})", self.words());
        }
        Ok(())
    }

    /// Runs it and returns its standard output, trimmed; what it said on standard error goes into the error.
    pub fn output(mut self) -> Result<String> {
        let out = self.command.output().with_context(|| not_started(&self.words()))?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            bail!("`{}` failed ({}): {}", self.words(), out.status, said.trim());
        }
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }

    pub fn into_command(self) -> Command {
        self.command
    }
}

fn not_started(words: &str) -> String {
    format!("cannot start `{words}`; is the program installed and in PATH?")
}

/// Whether a variable is one that cargo or rustup sets for the programs they start, or one that would steer a build
/// other than the one it was meant for. Where the registry and the tools live is kept.
fn belongs_to_outer_cargo(name: &str) -> bool {
    const KEPT: [&str; 9] = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_TERM_",
        "CARGO_BUILD_JOBS",
        "RUSTUP_HOME",
        "RUSTUP_AUTO_INSTALL",
        "RUST_BACKTRACE",
    ];
    if KEPT.iter().any(|kept| name.starts_with(kept)) {
        return false;
    }
    name == "CARGO"
        || ["CARGO_", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_", "RUST_"].iter().any(|p| name.starts_with(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_build_does_not_leak_and_the_rest_does() {
        for leaks in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTC_BOOTSTRAP",
            "CARGO",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_MANIFEST_DIR",
        ] {
            assert!(belongs_to_outer_cargo(leaks), "{leaks} would reach the eBPF build");
        }
        for kept in
            ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_PROXY", "RUST_BACKTRACE"]
        {
            assert!(!belongs_to_outer_cargo(kept), "{kept} must reach the eBPF build");
        }
    }

    #[test]
    fn a_failing_command_is_named_with_what_it_said() {
        let e = sh("sh", ["-c", "echo broken pipe organ >&2; exit 3"]).output().unwrap_err().to_string();
        assert!(e.contains("broken pipe organ") && e.contains('3') && e.contains("sh -c"), "{e}");
        let e = sh("weir-no-such-program", ["x"]).run().unwrap_err().to_string();
        assert!(e.contains("weir-no-such-program x") && e.contains("PATH"), "{e}");
    }
}
