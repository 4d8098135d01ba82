//! Rules that no other tool knows: no path of one person's machine in the repository, pure crates that stay pure, tests
//! that documents name and that exist, and no overlong files.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Outcome, documents, purity};
use crate::sh::{root, sh};

/// A file's part that is not tests may have so many lines before it is named.
const LONG: usize = 500;

pub fn check() -> Result<Outcome> {
    let listed = sh("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).dir(root()).output()?;
    let mut broken = Vec::new();
    let mut long = Vec::new();
    let mut sources = Vec::new();
    for name in listed.split('\0').filter(|n| !n.is_empty()) {
        let path = root().join(name);
        // Deleted and not yet committed, a link, or a folder of its own.
        if !path.is_file() {
            continue;
        }
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {name}"))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(found) = machine_path(line) {
                broken.push(format!("{name}:{}: {found} exists on one machine only", number + 1));
            }
        }
        if purity::concerns(name) {
            let crossed = purity::breaches(&text);
            broken.extend(crossed.iter().map(|(l, what)| format!("{name}:{l}: {what} in a crate that is to be pure")));
        }
        if Path::new(name).extension().is_some_and(|e| e == "rs") {
            let lines = lines_without_tests(&text);
            if lines > LONG && !name.ends_with("tests.rs") {
                long.push(format!("{name} has {lines} lines without its tests"));
            }
            sources.push(text);
        }
    }
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).context("cannot read ARCHITECTURE.md")?;
    let named = documents::named_tests(&page);
    let gone = documents::missing(&named, &sources);
    broken.extend(gone.iter().map(|n| format!("ARCHITECTURE.md names the test {n}, which does not exist")));
    for line in &long {
        eprintln!("warning: {line}; over {LONG} is more than one reads at once");
    }
    if !broken.is_empty() {
        bail!("{} rules are broken:\n{}", broken.len(), broken.join("\n"));
    }
    Ok(if long.is_empty() { Outcome::Passed } else { Outcome::Warned(long) })
}

/// A path that exists on one person's machine only, if the line has one.
fn machine_path(line: &str) -> Option<&str> {
    // Put together, so that this file obeys its own rule.
    const ROOTS: [&str; 4] =
        [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
    ROOTS.iter().find_map(|prefix| {
        line.match_indices(prefix).find_map(|(at, _)| {
            // Part of a longer relative path or of an address of the web otherwise.
            let inside = line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "._-~}{)".contains(c));
            let rest = &line[at..];
            let end = rest.find(|c: char| c.is_whitespace() || "\"'`)>,;".contains(c)).unwrap_or(rest.len());
            // `/home/` itself, or with a placeholder after it, names no one's machine.
            let named = rest[prefix.len()..end].starts_with(|c: char| c.is_alphanumeric() || c == '.');
            (!inside && named).then_some(&rest[..end])
        })
    })
}

/// Lines up to the test module.
fn lines_without_tests(text: &str) -> usize {
    text.lines().take_while(|l| l.trim_end() != "#[cfg(test)]").count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_paths_are_found_and_others_are_not() {
        let work = concat!("/wo", "rk/main/x.rs");
        assert_eq!(machine_path(&format!("see `{work}`.")), Some(work));
        assert_eq!(
            machine_path(&format!("open(\"{}\")", concat!("/ho", "me/ann/a"))),
            Some(concat!("/ho", "me/ann/a"))
        );
        for fine in [
            concat!("https://example.org/wo", "rk/x"),
            concat!("target/wo", "rk/x"),
            "/var/lib/weir",
            concat!("/ho", "me/<user>/"),
            "../shared/data",
        ] {
            assert_eq!(machine_path(fine), None, "{fine}");
        }
    }

    #[test]
    fn tests_do_not_count_as_length() {
        let text = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "x\n".repeat(10), "y\n".repeat(900));
        assert_eq!(lines_without_tests(&text), 10);
    }
}
