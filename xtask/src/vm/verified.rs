//! How much the verifier looked at, per program and kernel: `agent/kernel/tests/kernel/verified.txt`, which a kernel test is
//! held against.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::sh::root;

fn file() -> PathBuf {
    root().join("agent/kernel/tests/kernel/verified.txt")
}

/// Lines of a kernel and the instructions of XDP and TC; the rest are comments.
fn parse(text: &str) -> Vec<(String, [u32; 2])> {
    let line = |l: &str| {
        let mut words = l.split_whitespace();
        let kernel = words.next().filter(|w| !w.starts_with('#'))?;
        Some((kernel.to_owned(), [words.next()?.parse().ok()?, words.next()?.parse().ok()?]))
    };
    text.lines().filter_map(line).collect()
}

/// What is written down.
pub fn recorded() -> Result<Vec<(String, [u32; 2])>> {
    let path = file();
    Ok(parse(&std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?))
}

/// Puts the numbers of a kernel in the place of those that were there.
pub fn record(kernel: &str, numbers: [u32; 2]) -> Result<()> {
    let old = std::fs::read_to_string(file()).with_context(|| format!("cannot read {}", file().display()))?;
    std::fs::write(file(), replaced(&old, kernel, numbers))
        .with_context(|| format!("cannot write {}", file().display()))
}

fn replaced(text: &str, kernel: &str, [xdp, tc]: [u32; 2]) -> String {
    let new = format!("{kernel:<8}{xdp:<9}{tc}\n");
    let mut out = String::new();
    let mut done = false;
    for line in text.lines() {
        if line.split_whitespace().next() == Some(kernel) {
            out.push_str(&new);
            done = true;
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    if !done {
        out.push_str(&new);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_put_in_place_of_the_old_ones_and_comments_stay() {
        let old = "# kernel XDP TC\n6.1     10       20\n";
        let new = replaced(old, "6.1", [11, 21]);
        assert_eq!(new, "# kernel XDP TC\n6.1     11       21\n");
        let more = replaced(&new, "6.12", [1, 2]);
        assert_eq!(parse(&more), [("6.1".to_owned(), [11, 21]), ("6.12".to_owned(), [1, 2])]);
    }
}
