//! Kernels and busybox out of Debian's packages, unpacked below `target/vm` and kept there. Nothing is installed.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::sh::{Sh, sh};

/// Where everything lies.
pub fn folder() -> PathBuf {
    crate::sh::target_dir().join("vm")
}

/// An unpacked kernel.
#[derive(Debug)]
pub struct Unpacked {
    /// As `uname -r` says: `6.1.0-56-cloud-amd64`.
    pub release: String,
    pub image: PathBuf,
    pub modules: PathBuf,
}

/// Debian's cloud kernel of a version such as `6.1`. `suite` is asked where the machine's own sources have none.
pub fn kernel(version: &str, suite: &str, update: bool) -> Result<Unpacked> {
    let dir = folder().join(format!("linux-{version}"));
    if update || unpacked(&dir).is_err() {
        let is_it = |name: &str| name.starts_with(&format!("linux-image-{version}.")) && ends_well(name);
        let (apt, name) =
            find(suite, is_it).with_context(|| format!("no package of Debian's cloud kernel {version}"))?;
        apt.unpack(&name, &dir)?;
    }
    unpacked(&dir)
}

fn ends_well(name: &str) -> bool {
    name.ends_with("-cloud-amd64")
}

/// The statically linked busybox.
pub fn busybox() -> Result<PathBuf> {
    let dir = folder().join("busybox");
    let program = dir.join("bin/busybox");
    if !program.exists() {
        Apt::of_this_machine().unpack("busybox-static", &dir)?;
    }
    // Debian moves `/bin` into `/usr/bin` release by release.
    [program, dir.join("usr/bin/busybox")].into_iter().find(|p| p.exists()).context("busybox-static has no busybox")
}

fn unpacked(dir: &Path) -> Result<Unpacked> {
    let boot = std::fs::read_dir(dir.join("boot")).with_context(|| format!("nothing lies in {}", dir.display()))?;
    let image = boot
        .filter_map(|e| Some(e.ok()?.path()))
        .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz-")))
        .with_context(|| format!("no vmlinuz in {}/boot", dir.display()))?;
    let release = image.to_string_lossy().rsplit_once("/vmlinuz-").map(|(_, r)| r.to_owned()).unwrap_or_default();
    let modules = ["lib", "usr/lib"].map(|lib| dir.join(lib).join("modules").join(&release));
    let modules = modules.into_iter().find(|p| p.exists()).with_context(|| format!("no modules of {release}"))?;
    Ok(Unpacked { release, image, modules })
}

/// The newest package that `is_it`, of this machine's own sources or of `suite`.
fn find(suite: &str, is_it: impl Fn(&str) -> bool) -> Result<(Apt, String)> {
    let own = Apt::of_this_machine();
    if let Some(name) = own.newest(&is_it)? {
        return Ok((own, name));
    }
    let other = Apt::of_suite(suite)?;
    let name = other.newest(&is_it)?.with_context(|| format!("neither this machine's sources nor {suite} have one"))?;
    Ok((other, name))
}

/// apt with certain sources.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn of_this_machine() -> Self {
        // What is downloaded lies in the workspace, where apt's own user may not write.
        let root = ["-o", "APT::Sandbox::User=root"].map(str::to_owned);
        Self { options: if crate::sh::is_root() { root.to_vec() } else { Vec::new() } }
    }

    /// Another suite of the mirror that this machine uses, with lists of its own below `target/vm`.
    fn of_suite(suite: &str) -> Result<Self> {
        let targets = sh("apt-get", ["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Identifier: Packages"]);
        let targets = targets.output().context("cannot ask apt for its sources")?;
        let mirror = mirror_of(&targets, suite)
            .with_context(|| format!("apt here has no source of Debian's security updates, so none for {suite}"))?;
        let dir = folder().join("apt").join(suite);
        for part in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(dir.join(part))?;
        }
        let list = dir.join("sources.list");
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        std::fs::write(&list, format!("deb [signed-by={keys}] {mirror} {suite} main\n"))?;
        let mut apt = Self::of_this_machine();
        let options = [
            format!("Dir::Etc::sourcelist={}", list.display()),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={}/lists", dir.display()),
            format!("Dir::Cache={}/cache", dir.display()),
        ];
        apt.options.extend(options.into_iter().flat_map(|o| ["-o".to_owned(), o]));
        apt.run("apt-get", ["update", "-qq"]).loud().run()?;
        Ok(apt)
    }

    fn run<const N: usize>(&self, program: &str, args: [&str; N]) -> Sh {
        sh(program, self.options.iter().map(String::as_str).chain(args))
    }

    fn newest(&self, is_it: impl Fn(&str) -> bool) -> Result<Option<String>> {
        let names = self.run("apt-cache", ["pkgnames", "linux-image-"]).output().context("cannot ask apt-cache")?;
        Ok(names.lines().filter(|n| is_it(n)).max_by(|a, b| by_numbers(a, b)).map(str::to_owned))
    }

    /// Downloads a package and puts what is in it into `dir`, in place of what was there.
    fn unpack(&self, name: &str, dir: &Path) -> Result<()> {
        let packages = folder().join("packages");
        if packages.exists() {
            std::fs::remove_dir_all(&packages)?;
        }
        std::fs::create_dir_all(&packages)?;
        self.run("apt-get", ["download", name]).dir(&packages).loud().run()?;
        let Some(file) = std::fs::read_dir(&packages)?.filter_map(|e| Some(e.ok()?.path())).next() else {
            bail!("apt-get downloaded no {name}");
        };
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        std::fs::create_dir_all(dir)?;
        sh("dpkg-deb", ["-x".as_ref(), file.as_os_str(), dir.as_os_str()]).run()?;
        std::fs::remove_dir_all(&packages)?;
        Ok(())
    }
}

/// Lines of a repository's address and a suite of it: where `suite` is to be had.
fn mirror_of(targets: &str, suite: &str) -> Option<String> {
    let kind = suite.rsplit_once('-').map(|(_, kind)| kind)?;
    targets
        .lines()
        .filter_map(|l| l.split_once(' '))
        .find(|(_, s)| s.ends_with(&format!("-{kind}")))
        .map(|(uri, _)| uri.to_owned())
}

/// Names as their numbers are, not as their digits: 9 before 10.
fn by_numbers(a: &str, b: &str) -> Ordering {
    let parts =
        |s: &str| -> Vec<u64> { s.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect() };
    parts(a).cmp(&parts(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_found_by_its_numbers() {
        let mut names =
            ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-12-cloud-amd64"];
        names.sort_by(|a, b| by_numbers(a, b));
        assert_eq!(names[2], "linux-image-6.1.0-56-cloud-amd64");
        assert!(ends_well(names[0]) && !ends_well("linux-image-6.1.0-56-cloud-amd64-dbg"));
    }

    #[test]
    fn another_suite_comes_from_the_mirror_that_has_its_sister() {
        let targets = "http://mirror/debian/ new\nhttp://mirror/debian-security/ new-security\nhttp://mirror/debian/ new-updates\n";
        assert_eq!(mirror_of(targets, "old-security").as_deref(), Some("http://mirror/debian-security/"));
        assert_eq!(mirror_of("http://mirror/other/ new\n", "old-security"), None);
    }
}
