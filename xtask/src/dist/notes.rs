//! Release notes: the section of CHANGELOG.md about this version, else what is unreleased.

use anyhow::{Context, Result};

use super::{Made, Release, write};
use crate::sh::root;

pub fn make(release: &Release) -> Result<Made> {
    let changelog = std::fs::read_to_string(root().join("CHANGELOG.md")).context("cannot read CHANGELOG.md")?;
    let (title, body) = section(&changelog, &release.version)
        .or_else(|| section(&changelog, "Unreleased"))
        .context("CHANGELOG.md has neither a section about this version nor one with what is unreleased")?;
    if title.contains("Unreleased") {
        println!("CHANGELOG.md has no section {} yet: these are the unreleased changes", release.version);
    }
    let path = release.out.join("RELEASE-NOTES.md");
    write(&path, &format!("# Weir {}\n\n{}\n", release.version, body.trim()))?;
    Ok(Made::Files(vec![path]))
}

/// Title and text of the section of the second level whose title names `what`.
fn section<'a>(changelog: &'a str, what: &str) -> Option<(&'a str, &'a str)> {
    let names = |title: &str| title.split([' ', '[', ']']).any(|w| w == what);
    let mut rest = changelog;
    while let Some(at) = rest
        .find("## ")
        .filter(|at| *at == 0 || rest[..*at].ends_with('\n'))
        .or_else(|| rest.find("\n## ").map(|at| at + 1))
    {
        let (title, after) = rest[at + 3..].split_once('\n').unwrap_or((&rest[at + 3..], ""));
        let body = after.find("\n## ").map_or(after, |end| &after[..=end]);
        if names(title) {
            return Some((title, body));
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::section;

    #[test]
    fn a_section_ends_where_the_next_begins() {
        let log = "# Changes\n\n## Unreleased\n\n- a\n### b\n- c\n\n## [0.2.0] 2026-01-02\n- d\n\n## 0.1.0\n- e\n";
        assert_eq!(section(log, "Unreleased").unwrap().1.trim(), "- a\n### b\n- c");
        assert_eq!(section(log, "0.2.0").unwrap().1.trim(), "- d");
        assert_eq!(section(log, "0.1.0").unwrap().1.trim(), "- e");
        assert_eq!(section(log, "0.3.0"), None);
    }
}
