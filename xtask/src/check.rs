//! `cargo xtask check`: everything about the code that can be judged without running it.

mod documents;
mod purity;
mod rules;

use anyhow::{Result, bail};

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
    Step { name: "formatting", run: format },
    Step { name: "formatting of ebpf", run: format_ebpf },
    Step { name: "clippy", run: clippy },
    Step { name: "clippy of ebpf", run: clippy_ebpf },
    Step { name: "dependencies: licences, sources, bans", run: deny },
    Step { name: "dependencies: advisories", run: advisories },
    Step { name: "documentation", run: docs },
    Step { name: "book", run: book },
    Step { name: "web page: types, lints, tests of its logic", run: dashboard },
];

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

fn format() -> Result<Outcome> {
    sh("cargo", ["fmt", "--all", "--check"]).dir(root()).loud().run()?;
    Ok(Outcome::Passed)
}

fn format_ebpf() -> Result<Outcome> {
    sh("cargo", ["fmt", "--check"]).dir(root().join("ebpf")).loud().run()?;
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
    for manifest in ["Cargo.toml", "ebpf/Cargo.toml"] {
        deny_command(manifest, &["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]).run()?;
    }
    Ok(Outcome::Passed)
}

fn deny_command(manifest: &str, verb: &[&str]) -> crate::sh::Sh {
    let before = ["--manifest-path", manifest, "--config", "deny.toml"];
    sh("cargo-deny", before.iter().chain(verb)).dir(root()).loud()
}

/// The database of advisories is a git repository elsewhere; without a network its check is left out, and says so.
fn advisories() -> Result<Outcome> {
    if let Err(e) = deny_command("Cargo.toml", &["fetch", "db"]).output() {
        let said = e.to_string();
        let cause = said.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("no network?");
        return Ok(Outcome::Skipped(format!("the advisory database could not be fetched ({})", cause.trim())));
    }
    for manifest in ["Cargo.toml", "ebpf/Cargo.toml"] {
        deny_command(manifest, &["check", "--disable-fetch", "--hide-inclusion-graph", "advisories"]).run()?;
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
