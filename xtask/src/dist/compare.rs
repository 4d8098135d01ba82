//! Whether a build tells where it was made: another one of a clean clone, elsewhere, and where the two differ.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Release, binary, sha256};
use crate::sh::{root, sh, target_dir};

pub fn run(release: &Release) -> Result<()> {
    let changed = sh("git", ["status", "--porcelain"]).dir(root()).output()?;
    if !changed.is_empty() {
        bail!("there are changes that are not committed, so that a clone is something else:\n{changed}");
    }
    eprintln!("\n=== dist: another build, of a clean clone");
    let place = release.scratch("compare")?.join("another/place");
    sh("git", ["clone", "--quiet", "--local"]).arg(root()).arg(&place).loud().run()?;
    // Its own kernel programs and page, built by its own tasks.
    for task in ["build-ebpf", "dashboard"] {
        let cargo = sh("cargo", ["run", "--quiet", "--package", "xtask", "--", task]).dir(&place).without_cargo_env();
        let done = cargo.env("CARGO_TARGET_DIR", target_dir().join("dist-xtask")).loud().run();
        match (task, done) {
            ("dashboard", Err(e)) => eprintln!("the clone is built without the page: {e:#}"),
            (_, done) => done?,
        }
    }
    let other = binary::build(&place, &place.join("target"))?;
    sh("strip", ["--strip-all"]).arg(&other).run()?;
    let (here, there) = (sha256(&release.binary())?, sha256(&other)?);
    println!("\n{here}  {}\n{there}  {}", release.binary().display(), other.display());
    if here == there {
        println!("the two builds are equal");
        return Ok(());
    }
    // The linker counts its identifier over the symbols, too, which are taken off afterwards.
    let without = |program: &Path, name: &str| -> Result<String> {
        let bare = release.out.join("work/compare").join(name);
        sh("objcopy", ["--remove-section=.note.gnu.build-id"]).arg(program).arg(&bare).run()?;
        sha256(&bare)
    };
    let (here, there) = (without(&release.binary(), "here")?, without(&other, "there")?);
    println!("without .note.gnu.build-id:\n{here}\n{there}");
    if here == there {
        println!("the two builds are equal but for the 20 bytes of the linker's identifier");
        return Ok(());
    }
    let difference =
        sh("sh", ["-c", "cmp -l \"$0\" \"$1\" | awk 'END {print NR, \"bytes differ\"}'; cmp \"$0\" \"$1\" || true"])
            .arg(release.binary())
            .arg(&other)
            .output();
    let words = difference.context("cannot compare")?;
    bail!("the two builds differ: {words}; `diffoscope {} {}` shows where", release.binary().display(), other.display())
}
