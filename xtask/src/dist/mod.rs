//! `cargo xtask dist`: what a release is made of, in `target/dist`. One module per artefact; what cannot be made here is skipped with
//! what was missing, and stands in the table.

mod binary;
mod compare;
mod container;
mod crates;
mod deb;
mod helm;
mod licences;
mod notes;
mod sbom;
mod trial;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::needs::Use;
use crate::sh::{root, sh, target_dir};

#[derive(clap::Args)]
pub struct Options {
    /// Only the artefacts with this in their name, such as `deb`; the binary of a run before is used where it is there
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// Build a clean clone in another folder as well and compare: the same, or shows where they differ. Takes a second build
    #[arg(long)]
    compare: bool,
    /// Install, run, upgrade under traffic, remove and purge the Debian package in a booted container of its own. Needs root
    #[arg(long = "try")]
    try_package: bool,
}

/// What was made.
pub enum Made {
    Files(Vec<PathBuf>),
    Skipped(String),
}

struct Artefact {
    name: &'static str,
    make: fn(&Release) -> Result<Made>,
}

/// In the order in which they need each other.
const ARTEFACTS: &[Artefact] = &[
    Artefact { name: "binary", make: binary::make },
    Artefact { name: "sbom", make: sbom::make },
    Artefact { name: "licences", make: licences::make },
    Artefact { name: "notes", make: notes::make },
    Artefact { name: "deb", make: deb::make },
    Artefact { name: "helm", make: helm::make },
    Artefact { name: "container", make: container::make },
];

/// What all artefacts have in common.
pub struct Release {
    pub version: String,
    /// Time of the last commit, seconds since the Unix epoch: what is packed carries this time, whenever it was packed.
    pub epoch: u64,
    /// `target/dist`.
    pub out: PathBuf,
}

impl Release {
    fn here() -> Result<Self> {
        let text = std::fs::read_to_string(root().join("Cargo.toml")).context("cannot read Cargo.toml")?;
        let version = text.lines().find_map(|l| l.strip_prefix("version = \"")).and_then(|v| v.strip_suffix('"'));
        let version = version.context("Cargo.toml names no version of the workspace")?.to_owned();
        let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(given) => given.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {given:?}, not seconds"))?,
            // An archive of the sources has no commits.
            Err(_) => sh("git", ["log", "-1", "--format=%ct"])
                .dir(root())
                .output()
                .ok()
                .and_then(|t| t.parse().ok())
                .unwrap_or(0),
        };
        let out = target_dir().join("dist");
        std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
        Ok(Self { version, epoch, out })
    }

    pub fn binary(&self) -> PathBuf {
        self.out.join("weir")
    }

    /// An empty folder below `target/dist/work`.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let dir = self.out.join("work").join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
        }
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(dir)
    }
}

pub fn run(options: &Options) -> Result<()> {
    crate::setup::ensure(&[Use::Dist])?;
    let release = Release::here()?;
    let wanted = |a: &&Artefact| options.only.as_ref().is_none_or(|o| a.name.contains(o.as_str()));
    let wanted: Vec<&Artefact> = ARTEFACTS.iter().filter(wanted).collect();
    if wanted.is_empty() {
        let names: Vec<&str> = ARTEFACTS.iter().map(|a| a.name).collect();
        bail!(
            "no artefact has {:?} in its name; there are: {}",
            options.only.as_deref().unwrap_or_default(),
            names.join(", ")
        );
    }
    let mut rows = Vec::new();
    let mut failed = 0;
    for artefact in wanted {
        eprintln!("\n=== dist: {}", artefact.name);
        match (artefact.make)(&release) {
            Ok(Made::Files(files)) => {
                for file in files {
                    rows.push(row(artefact.name, &file)?);
                }
            }
            Ok(Made::Skipped(why)) => rows.push(format!("SKIP  {:<10} {why}", artefact.name)),
            Err(e) => {
                failed += 1;
                eprintln!("{e:#}");
                rows.push(format!("FAIL  {:<10} {}", artefact.name, e.to_string().lines().next().unwrap_or_default()));
            }
        }
    }
    println!("\n=== dist: weir {}", release.version);
    rows.iter().for_each(|row| println!("{row}"));
    if failed > 0 {
        bail!("{failed} artefacts could not be made");
    }
    if options.compare {
        compare::run(&release)?;
    }
    if options.try_package {
        trial::run(&release)?;
    }
    Ok(())
}

fn row(artefact: &str, file: &Path) -> Result<String> {
    let size = std::fs::metadata(file).with_context(|| format!("{artefact}: no {}", file.display()))?.len();
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("ok    {artefact:<10} {name:<44} {size:>11} bytes  sha256 {}", sha256(file)?))
}

pub fn sha256(file: &Path) -> Result<String> {
    let said = sh("sha256sum", ["-b"]).arg(file).output()?;
    Ok(said.split_whitespace().next().unwrap_or_default().trim_start_matches('\\').to_owned())
}

/// Gives every file below `dir` the time of the release, so that archives of it do not tell when they were made.
pub fn same_times(release: &Release, dir: &Path) -> Result<()> {
    let time = format!("@{}", release.epoch);
    sh("find", [dir.as_os_str()]).arg("-exec").arg("touch").arg("-h").arg("-d").arg(&time).arg("{}").arg("+").run()
}

pub fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Copies with a mode.
pub fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if let Some(dir) = to.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    std::fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", to.display()))
}
