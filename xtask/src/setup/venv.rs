//! Python virtual environments below `target`, with the packages that a file of requirements names.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::Apt;
use crate::host::Host;
use crate::sh::sh;

/// One environment.
#[derive(Debug)]
pub struct Venv {
    /// Below the workspace.
    dir: &'static str,
    requirements: &'static str,
}

/// Judges of models, of files and of what sinks send.
pub const MODELS: Venv = Venv { dir: "target/venv", requirements: "models/python/requirements.txt" };
/// Judges of what is deployed.
pub const DEPLOY: Venv = Venv { dir: "target/venv-deploy", requirements: "deploy/python/requirements.txt" };

impl Venv {
    fn wanted(&self, host: &Host) -> PathBuf {
        host.workspace().join(self.requirements)
    }

    /// A copy of the requirements that were installed, written last.
    fn stamp(&self, host: &Host) -> PathBuf {
        host.workspace().join(self.dir).join("requirements.installed")
    }

    /// The interpreter of the virtual environment.
    pub fn python(&self, host: &Host) -> PathBuf {
        host.workspace().join(self.dir).join("bin/python")
    }

    pub fn probe(&self, host: &Host) -> Result<String> {
        let path = self.wanted(host);
        let wanted = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let python = self.python(host);
        if !python.exists() {
            bail!("no {}", python.display());
        }
        if std::fs::read_to_string(self.stamp(host)).ok().as_ref() != Some(&wanted) {
            bail!("{} was not made from the present {}", self.dir, self.requirements);
        }
        sh(&python, ["--version"]).output()
    }

    pub fn install(&self, host: &Host, apt: &mut Apt) -> Result<()> {
        let python = self.python(host);
        if host.says("python3", &["-c", "import ensurepip, venv"]).is_err() {
            apt.install(host, &["python3", "python3-venv"])?;
        }
        let dir = host.workspace().join(self.dir);
        if !python.exists() {
            Host::this().command("python3", &["-m", "venv"])?.arg(&dir).loud().run()?;
        }
        let requirements = self.wanted(host);
        sh(&python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&requirements)
            .loud()
            .run()?;
        std::fs::copy(&requirements, self.stamp(host))
            .with_context(|| format!("cannot note that {} is complete", self.dir))?;
        Ok(())
    }
}
