//! `cargo xtask check`: everything about the code that can be judged without running it.

mod documents;
mod purity;
mod rules;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::needs::Use;
use crate::sh::{root, sh};

/// How a step ended, besides failing.
enum Outcome {
    Passed,
    Warned(Vec<String>),
    Skipped(String),
}

struct Step {
    name: &'static str,
    run: fn() -> Result<Outcome>,
}

const STEPS: &[Step] = &[
    Step { name: "rules of the repository", run: rules::check },
    Step { name: "lock files", run: lock_files },
    Step { name: "formatting", run: format },
    Step { name: "clippy", run: clippy },
    Step { name: "clippy of ebpf", run: clippy_ebpf },
    Step { name: "dependencies: licences, sources, bans", run: deny },
    Step { name: "dependencies: advisories", run: advisories },
    Step { name: "documentation", run: docs },
    Step { name: "book", run: book },
    Step { name: "web page: types, lints, tests of its logic", run: dashboard },
];

/// The folders with a `Cargo.lock` of their own, the root among them.
fn workspaces() -> Result<Vec<PathBuf>> {
    let listed = sh("git", ["ls-files", "-z", "Cargo.lock", "*/Cargo.lock"]).dir(root()).output()?;
    Ok(listed.split('\0').filter_map(|lock| Path::new(lock).parent()).map(|folder| root().join(folder)).collect())
}

/// Runs every step, so that one run shows all that is wrong.
pub fn run(only: Option<&str>) -> Result<()> {
    let steps: Vec<&Step> = STEPS.iter().filter(|s| only.is_none_or(|o| s.name.contains(o))).collect();
    if steps.is_empty() {
        let names: Vec<&str> = STEPS.iter().map(|s| s.name).collect();
        bail!("no check has {:?} in its name; there are: {}", only.unwrap_or_default(), names.join("; "));
    }
    crate::setup::ensure(&[Use::Check, Use::BuildEbpf])?;
    let mut lines = Vec::new();
    let mut failed = 0;
    for step in &steps {
        eprintln!("\n=== check: {}", step.name);
        lines.push(match (step.run)() {
            Ok(Outcome::Passed) => format!("ok    {}", step.name),
            Ok(Outcome::Warned(what)) => format!("warn  {}: {}", step.name, what.join("; ")),
            Ok(Outcome::Skipped(why)) => format!("SKIP  {}: {why}", step.name),
            Err(e) => {
                failed += 1;
                eprintln!("{e:#}");
                format!("FAIL  {}: {}", step.name, e.to_string().lines().next().unwrap_or_default())
            }
        });
    }
    println!("\n=== check");
    for line in &lines {
        println!("{line}");
    }
    if failed > 0 {
        bail!("{failed} of {} checks failed", steps.len());
    }
    Ok(())
}

/// Builds for release and for CI take each lock file as it is: one that lags behind its manifests would stop them late.
fn lock_files() -> Result<Outcome> {
    for folder in workspaces()? {
        let words = ["metadata", "--locked", "--format-version", "1"];
        let command = sh("cargo", words).dir(&folder).without_cargo_env();
        command.output().with_context(|| {
            let lock = folder.join("Cargo.lock");
            format!(
                "{} is not what the manifests ask for: run `cargo update --workspace` beside it and commit it",
                lock.display()
            )
        })?;
    }
    Ok(Outcome::Passed)
}

/// Without `--all`, which also formats what a folder's packages depend on by path.
fn format() -> Result<Outcome> {
    for folder in workspaces()? {
        sh("cargo", ["fmt", "--check"]).dir(&folder).loud().run()?;
    }
    Ok(Outcome::Passed)
}

fn clippy() -> Result<Outcome> {
    // Built first: what embeds the kernel programs has other code with them than without.
    crate::ebpf::build(crate::ebpf::Choice::Auto)?;
    let words = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-Dwarnings"];
    sh("cargo", words).dir(root()).loud().run()?;
    Ok(Outcome::Passed)
}

fn clippy_ebpf() -> Result<Outcome> {
    Ok(match crate::ebpf::clippy()? {
        Ok(()) => Outcome::Passed,
        Err(why) => Outcome::Skipped(why),
    })
}

fn deny() -> Result<Outcome> {
    for folder in workspaces()? {
        deny_command(&folder, &["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]).run()?;
    }
    Ok(Outcome::Passed)
}

fn deny_command(folder: &Path, verb: &[&str]) -> crate::sh::Sh {
    let manifest = folder.join("Cargo.toml");
    let before = [OsStr::new("--manifest-path"), manifest.as_os_str(), OsStr::new("--config"), OsStr::new("deny.toml")];
    sh("cargo-deny", before.into_iter().chain(verb.iter().map(OsStr::new))).dir(root()).loud()
}

/// The database of advisories is a git repository elsewhere; without a network its check is left out, and says so.
fn advisories() -> Result<Outcome> {
    if let Err(e) = deny_command(root(), &["fetch", "db"]).output() {
        let said = e.to_string();
        let cause = said.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("no network?");
        return Ok(Outcome::Skipped(format!("the advisory database could not be fetched ({})", cause.trim())));
    }
    for folder in workspaces()? {
        deny_command(&folder, &["check", "--disable-fetch", "--hide-inclusion-graph", "advisories"]).run()?;
    }
    Ok(Outcome::Passed)
}

fn dashboard() -> Result<Outcome> {
    Ok(match crate::dashboard::check()? {
        Ok(()) => Outcome::Passed,
        Err(why) => Outcome::Skipped(why),
    })
}

/// Its links, commands and generated pages are held by the test `book`; this is whether mdBook makes pages of it.
fn book() -> Result<Outcome> {
    if sh("mdbook", ["--version"]).output().is_err() {
        return Ok(Outcome::Skipped("no mdbook in PATH".into()));
    }
    sh("mdbook", ["build", "docs"]).dir(root()).loud().run()?;
    Ok(Outcome::Passed)
}

fn docs() -> Result<Outcome> {
    sh("cargo", ["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"])
        .dir(root())
        .env("RUSTDOCFLAGS", "-Dwarnings -Arustdoc::private_intra_doc_links")
        .loud()
        .run()?;
    Ok(Outcome::Passed)
}
