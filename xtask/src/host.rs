//! Looking at a machine without changing it. Every probe goes through [`Host`], so that tests can put an empty one in.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::sh::{Sh, sh};

/// Where programs and files are looked for.
pub struct Host {
    /// The folders of PATH.
    path: Vec<PathBuf>,
    /// `/`, except in tests.
    root: PathBuf,
    /// The workspace, for what lives in its target folder.
    workspace: PathBuf,
}

impl Host {
    /// This machine. Debian's folders for administration belong to it even where PATH leaves them out.
    pub fn this() -> Self {
        let mut path: Vec<PathBuf> =
            std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).filter(|p| p.is_absolute()).collect();
        for dir in ["/usr/sbin", "/sbin"] {
            if !path.iter().any(|p| p == Path::new(dir)) {
                path.push(dir.into());
            }
        }
        Self { path, root: "/".into(), workspace: crate::sh::root().to_owned() }
    }

    #[cfg(test)]
    pub fn at(root: &Path, path: Vec<PathBuf>) -> Self {
        Self { path, root: root.to_owned(), workspace: root.join("workspace") }
    }

    /// The program of that name, as PATH would find it.
    pub fn which(&self, name: &str) -> Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt as _;
        self.path
            .iter()
            .map(|dir| dir.join(name))
            .find(|p| p.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
            .with_context(|| format!("no `{name}` in PATH"))
    }

    /// A file or folder below `/`.
    pub fn file(&self, path: &str) -> Result<PathBuf> {
        let p = self.root.join(path.trim_start_matches('/'));
        if !p.exists() {
            bail!("no {}", p.display());
        }
        Ok(p)
    }

    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// A command of this host, ready to run, away from the environment of an outer cargo.
    pub fn command(&self, name: &str, args: &[&str]) -> Result<Sh> {
        let program = self.which(name)?;
        let path = std::env::join_paths(&self.path).context("a folder in PATH contains a colon")?;
        Ok(sh(program, args).env("PATH", path).without_cargo_env())
    }

    /// The first line that a program of this host prints.
    pub fn says(&self, name: &str, args: &[&str]) -> Result<String> {
        Ok(self.command(name, args)?.output()?.lines().next().unwrap_or_default().to_owned())
    }
}
