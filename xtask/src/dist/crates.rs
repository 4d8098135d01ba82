//! What the release is made of, as cargo and npm know it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::sh::{root, sh};

/// One package that ends up in the program, or makes what does.
pub struct Package {
    pub name: String,
    pub version: String,
    /// SPDX expression.
    pub licence: String,
    /// `pkg:cargo/serde@1.0.0`: names it everywhere.
    pub purl: String,
    /// Of the archive in the registry, where it comes from one: algorithm as CycloneDX names it, hexadecimal digits.
    pub hash: Option<(String, String)>,
    /// Where its sources lie here.
    pub folder: PathBuf,
    /// Names of what it uses, as `purl`.
    pub uses: Vec<String>,
    pub ours: bool,
}

/// Everything that is linked into the program: crates of the agent, crates of the kernel programs, packages of the page.
pub fn all() -> Result<Vec<Package>> {
    let mut all = BTreeMap::new();
    for (folder, top) in [(root().to_owned(), "weir-agent"), (root().join("ebpf"), "weir-ebpf")] {
        for package in of_workspace(&folder, top)? {
            all.entry(package.purl.clone()).or_insert(package);
        }
    }
    for package in of_page()? {
        all.entry(package.purl.clone()).or_insert(package);
    }
    Ok(all.into_values().collect())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What the crate `top` needs when it runs, on Linux; nothing that only builds or tests it.
fn of_workspace(folder: &Path, top: &str) -> Result<Vec<Package>> {
    let words = ["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"];
    let said = sh("cargo", words).dir(folder).without_cargo_env().output()?;
    let metadata: Value = serde_json::from_str(&said).context("what cargo metadata says is no JSON")?;
    let hashes = locked(&folder.join("Cargo.lock"))?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let nodes = metadata["resolve"]["nodes"].as_array().context("cargo metadata resolves nothing")?;
    let by_id: BTreeMap<&str, &Value> = packages.iter().filter_map(|p| Some((p["id"].as_str()?, p))).collect();
    let linked: BTreeMap<&str, Vec<&str>> = nodes
        .iter()
        .filter_map(|n| {
            let normal = |d: &&Value| d["dep_kinds"].as_array().is_some_and(|k| k.iter().any(|k| k["kind"].is_null()));
            let uses = n["deps"].as_array()?.iter().filter(normal).filter_map(|d| d["pkg"].as_str()).collect();
            Some((n["id"].as_str()?, uses))
        })
        .collect();
    let first = packages.iter().find(|p| p["name"] == top).and_then(|p| p["id"].as_str());
    let first = first.with_context(|| format!("{} has no crate {top}", folder.display()))?;
    let (mut seen, mut open) = (BTreeMap::new(), vec![first]);
    while let Some(id) = open.pop() {
        let uses = linked.get(id).cloned().unwrap_or_default();
        if seen.insert(id, uses.clone()).is_none() {
            open.extend(uses);
        }
    }
    let purl = |id: &str| by_id.get(id).map(|p| format!("pkg:cargo/{}@{}", text(&p["name"]), text(&p["version"])));
    seen.iter()
        .map(|(id, uses)| {
            let p = by_id.get(id).with_context(|| format!("cargo metadata does not describe {id}"))?;
            let (name, version) = (text(&p["name"]), text(&p["version"]));
            let manifest = PathBuf::from(text(&p["manifest_path"]));
            Ok(Package {
                purl: format!("pkg:cargo/{name}@{version}"),
                // What the old way of writing it meant.
                licence: text(&p["license"]).replace('/', " OR "),
                hash: hashes.get(&(name.clone(), version.clone())).map(|h| ("SHA-256".to_owned(), h.clone())),
                folder: manifest.parent().map(Path::to_owned).unwrap_or_default(),
                uses: uses.iter().filter_map(|id| purl(id)).collect(),
                ours: p["source"].is_null(),
                name,
                version,
            })
        })
        .collect()
}

/// Checksums of a lock file by name and version.
fn locked(path: &Path) -> Result<BTreeMap<(String, String), String>> {
    let lock = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(" = \""));
        line.and_then(|v| v.strip_suffix('"')).map(str::to_owned)
    };
    let blocks = lock.split("[[package]]").skip(1);
    Ok(blocks.filter_map(|b| Some(((value(b, "name")?, value(b, "version")?), value(b, "checksum")?))).collect())
}

/// What the page is bundled from.
fn of_page() -> Result<Vec<Package>> {
    let path = crate::dashboard::folder().join("package-lock.json");
    let lock = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lock: Value = serde_json::from_str(&lock).with_context(|| format!("{} is no JSON", path.display()))?;
    let packages = lock["packages"].as_object().with_context(|| format!("{} names no packages", path.display()))?;
    let bundled = packages
        .iter()
        .filter(|(at, p)| !at.is_empty() && p["dev"] != true && p["optional"] != true && p["peer"] != true);
    let purl = |name: &str, version: &str| format!("pkg:npm/{}@{version}", name.replace('@', "%40"));
    Ok(bundled
        .map(|(at, p)| {
            let name = at.rsplit("node_modules/").next().unwrap_or(at).to_owned();
            let version = text(&p["version"]);
            let uses = p["dependencies"].as_object().into_iter().flatten().filter_map(|(name, _)| {
                Some(purl(name, packages.get(&format!("node_modules/{name}"))?["version"].as_str()?))
            });
            Package {
                purl: purl(&name, &version),
                licence: text(&p["license"]),
                hash: None,
                folder: crate::dashboard::folder().join(at),
                uses: uses.collect(),
                ours: false,
                name,
                version,
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_linked_is_named_and_what_only_builds_or_tests_is_not() {
        let all = super::all().unwrap();
        let has = |name: &str| all.iter().any(|p| p.name == name);
        for linked in ["weir-agent", "weir-ebpf", "aya", "aya-ebpf", "tract-onnx", "rusqlite", "preact"] {
            assert!(has(linked), "{linked} is missing");
        }
        for other in ["proptest", "protox", "vite", "xtask"] {
            assert!(!has(other), "{other} is not in the program");
        }
        for p in &all {
            assert!(!p.licence.is_empty(), "{} has no licence", p.purl);
            assert!(p.ours || p.purl.starts_with("pkg:npm") || p.hash.is_some(), "{} has no hash", p.purl);
            assert!(p.uses.iter().all(|u| all.iter().any(|o| o.purl == *u)), "{} uses what is not named", p.purl);
        }
    }
}
