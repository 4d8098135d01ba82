//! The web page: agent/dashboard, built by npm and Vite into agent/dashboard/dist, which the agent's build embeds.

use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::host::Host;
use crate::needs::Use;
use crate::sh::{Sh, root, sh, target_dir};

/// The oldest Node that Vite runs on: major and minor.
const NODE: (u32, u32) = (20, 19);
pub const NODE_WORDS: &str = "20.19";

/// What the page is made of; other files of its folder do not end up in it.
const SOURCES: [&str; 5] = ["src", "index.html", "vite.config.ts", "tsconfig.json", LOCK];
/// What npm installs by.
const LOCK: &str = "package-lock.json";

pub fn folder() -> PathBuf {
    root().join("agent/dashboard")
}

/// What was found of Node and npm, or why they are of no use.
pub fn node(host: &Host) -> Result<String> {
    let version = host.says("node", &["--version"])?;
    if too_old(&version) {
        bail!("node is {version}, wanted {NODE_WORDS} or later");
    }
    Ok(format!("node {version}, npm {}", host.says("npm", &["--version"])?))
}

/// Of `v20.19.2`, `18.20.4+dfsg-1` or `(none)`.
pub fn too_old(version: &str) -> bool {
    let mut parts = version.trim_start_matches('v').split(['.', '-', '+', '~']).map(|p| p.parse::<u32>().ok());
    let (Some(Some(major)), minor) = (parts.next(), parts.next()) else { return true };
    (major, minor.flatten().unwrap_or_default()) < NODE
}

/// `cargo xtask dashboard`
pub fn run() -> Result<()> {
    crate::setup::ensure(&[Use::Dashboard])?;
    match build()? {
        Built::Done => Ok(()),
        Built::Without(why) => bail!("the web page was not built: {why}"),
    }
}

/// The same before the agent is built: without npm, or without a network for it, the agent is built without the page.
pub fn build_or_say() -> Result<()> {
    if let Built::Without(why) = build()? {
        eprintln!("dashboard: SKIPPED: {why}");
        let old = folder().join("dist/index.html").exists();
        eprintln!(
            "dashboard: the agent is built {}; `cargo xtask dashboard` builds the page",
            if old { "with the page that was built before" } else { "without the web page and says so at /" }
        );
    }
    Ok(())
}

/// Types, lints and the tests of the page's logic; or why they cannot run here.
pub fn check() -> Result<Result<(), String>> {
    if let Err(why) = ready()? {
        return Ok(Err(why));
    }
    npm(&["run", "check"])?.loud().run()?;
    npm(&["test"])?.loud().run()?;
    Ok(Ok(()))
}

enum Built {
    Done,
    Without(String),
}

fn build() -> Result<Built> {
    let (stamp, dist) = (target_dir().join("dashboard.stamp"), folder().join("dist/index.html"));
    let now = hash(&SOURCES.map(|s| folder().join(s)))?;
    if dist.exists() && std::fs::read_to_string(&stamp).is_ok_and(|s| s == now) {
        eprintln!("dashboard: agent/dashboard/dist is up to date");
        return Ok(Built::Done);
    }
    if let Err(why) = ready()? {
        return Ok(Built::Without(why));
    }
    npm(&["run", "build"])?.loud().run().context("the web page did not build")?;
    // A folder that was not there before is not watched: by this file the agent's build knows of the new page.
    let told = std::fs::File::options().append(true).open(folder().join("package.json"));
    told.and_then(|f| f.set_modified(std::time::SystemTime::now())).context("cannot touch package.json")?;
    std::fs::create_dir_all(target_dir()).context("cannot make the target folder")?;
    std::fs::write(&stamp, now).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(Built::Done)
}

/// Node is there, and what the lock names is installed; or why not.
pub fn ready() -> Result<Result<(), String>> {
    if let Err(e) = node(&Host::this()) {
        return Ok(Err(format!("no Node and npm: {e:#}")));
    }
    let stamp = folder().join("node_modules/.weir-lock");
    let now = hash(&[folder().join(LOCK)])?;
    if std::fs::read_to_string(&stamp).is_ok_and(|s| s == now) {
        return Ok(Ok(()));
    }
    // Where it fails, it is the network nearly always; the lock itself is checked by npm.
    if let Err(e) = npm(&["ci", "--no-audit", "--no-fund"])?.loud().run() {
        return Ok(Err(format!("{e:#}; is there a network, or a mirror in npm's configuration?")));
    }
    std::fs::write(&stamp, now).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(Ok(()))
}

fn npm(words: &[&str]) -> Result<Sh> {
    let host = Host::this();
    Ok(sh(host.which("npm")?, words).dir(folder()))
}

/// One word for the contents of files and folders, whatever their times are.
fn hash(paths: &[PathBuf]) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        feed(path, &mut hasher)?;
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn feed(path: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    hasher.write(path.as_os_str().as_encoded_bytes());
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut inside = entries.map(|e| e.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>()?;
        inside.sort();
        return inside.iter().try_for_each(|p| feed(p, hasher));
    }
    hasher.write(&std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_too_old_or_none_is_told_from_one_that_will_do() {
        for old in ["v18.20.4", "18.20.4+dfsg-1~deb12u3", "20.18.9", "(none)", ""] {
            assert!(too_old(old), "{old}");
        }
        for good in ["v20.19.0", "20.20.2-1nodesource1+repack1", "v22.0.0", "24"] {
            assert!(!too_old(good), "{good}");
        }
    }

    #[test]
    fn the_page_is_built_again_where_a_source_has_changed_and_only_then() {
        let dir = std::env::temp_dir().join(format!("weir-page-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("src/deep")).unwrap();
        std::fs::write(dir.join("src/deep/a.ts"), "1").unwrap();
        let all = || hash(&[dir.join("src")]).unwrap();
        let before = all();
        std::fs::write(dir.join("src/deep/a.ts"), "1").unwrap();
        assert_eq!(all(), before);
        std::fs::write(dir.join("src/deep/a.ts"), "2").unwrap();
        assert_ne!(all(), before);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
