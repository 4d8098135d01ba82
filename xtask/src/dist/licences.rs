//! The licences of everything that is linked in, with the texts that these ask to be passed on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Made, Release, crates, write};

/// How the files begin that hold a licence or say whose work it is.
const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

pub fn make(release: &Release) -> Result<Made> {
    let packages = crates::all()?;
    let mut table = String::from("What Weir is linked with, beside its own crates: name, version, licence.\n\n");
    // Many have the very same text.
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut without = Vec::new();
    for p in packages.iter().filter(|p| !p.ours) {
        let who = format!("{} {}", p.name, p.version);
        let _ = writeln!(table, "{who:<44} {}", p.licence);
        let found = files(&p.folder)?;
        if found.is_empty() {
            without.push(who.clone());
        }
        for text in found {
            texts.entry(text).or_default().push(who.clone());
        }
    }
    if !without.is_empty() {
        let _ = writeln!(table, "\nTheir archives hold no text of a licence, only its name: {}.", without.join(", "));
    }
    for (text, who) in &texts {
        let _ = write!(table, "\n{}\n{}\n\n{}\n", "=".repeat(80), who.join(", "), text.trim_end());
    }
    let path = release.out.join("THIRD-PARTY-LICENCES");
    write(&path, &table)?;
    println!("{} texts; {} packages come without one", texts.len(), without.len());
    Ok(Made::Files(vec![path]))
}

fn files(folder: &Path) -> Result<Vec<String>> {
    // A package of the page that was not installed here.
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if entry.path().is_file() && NAMES.iter().any(|n| name.starts_with(n)) {
            let bytes =
                std::fs::read(entry.path()).with_context(|| format!("cannot read {}", entry.path().display()))?;
            found.push((name, String::from_utf8_lossy(&bytes).replace("\r\n", "\n")));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, text)| text).collect())
}
