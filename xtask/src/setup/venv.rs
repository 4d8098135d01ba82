//! The Python virtual environment in `target/venv`, with the packages that models/python/requirements.txt names.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::Apt;
use crate::host::Host;
use crate::sh::sh;

fn requirements(host: &Host) -> PathBuf {
    host.workspace().join("models/python/requirements.txt")
}

/// A copy of the requirements that were installed, written last.
fn stamp(host: &Host) -> PathBuf {
    host.workspace().join("target/venv/requirements.installed")
}

/// The interpreter of the virtual environment.
pub fn python(host: &Host) -> PathBuf {
    host.workspace().join("target/venv/bin/python")
}

pub fn probe(host: &Host) -> Result<String> {
    let path = requirements(host);
    let wanted = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let python = python(host);
    if !python.exists() {
        bail!("no {}", python.display());
    }
    if std::fs::read_to_string(stamp(host)).ok().as_ref() != Some(&wanted) {
        bail!("target/venv was not made from the present models/python/requirements.txt");
    }
    sh(&python, ["--version"]).output()
}

pub fn install(host: &Host, apt: &mut Apt) -> Result<()> {
    let python = python(host);
    if host.says("python3", &["-c", "import ensurepip, venv"]).is_err() {
        apt.install(host, &["python3", "python3-venv"])?;
    }
    let dir = host.workspace().join("target/venv");
    if !python.exists() {
        Host::this().command("python3", &["-m", "venv"])?.arg(&dir).loud().run()?;
    }
    let requirements = requirements(host);
    sh(&python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(&requirements)
        .loud()
        .run()?;
    std::fs::copy(&requirements, stamp(host)).context("cannot note that target/venv is complete")?;
    Ok(())
}
