//! Pages of the book: blocks, links, headings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub struct Block {
    pub line: usize,
    /// What stands behind the fence: `sh,background`.
    pub info: String,
    pub text: String,
}

impl Block {
    pub fn language(&self) -> &str {
        self.info.split(',').next().unwrap_or_default()
    }
    pub fn words(&self) -> Vec<&str> {
        self.info.split(',').skip(1).collect()
    }
}

pub struct Page {
    /// Below `docs/src`.
    pub name: String,
    pub text: String,
    pub blocks: Vec<Block>,
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn source() -> PathBuf {
    repository().join("docs/src")
}

impl Page {
    pub fn all() -> Vec<Page> {
        fn below(folder: &Path, into: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { below(&path, into) } else { into.push(path) }
            }
        }
        let mut files = Vec::new();
        below(&source(), &mut files);
        files.sort();
        let read = |path: &PathBuf| {
            let name = path.strip_prefix(source()).unwrap().to_str().unwrap();
            assert!(name.ends_with(".md"), "docs/src/{name} is no page");
            Page::parse(name, &std::fs::read_to_string(path).unwrap())
        };
        files.iter().map(read).collect()
    }

    pub fn parse(name: &str, text: &str) -> Page {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (n, line) in text.lines().enumerate() {
            match (line.strip_prefix("```"), open.take()) {
                (Some(info), None) => {
                    open = Some(Block { line: n + 1, info: info.to_owned(), text: String::new() });
                }
                (Some(rest), Some(block)) => {
                    assert!(rest.is_empty(), "{name}:{}: a block within a block", n + 1);
                    blocks.push(block);
                }
                (None, Some(mut block)) => {
                    block.text += line;
                    block.text.push('\n');
                    open = Some(block);
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{name}: a block is not closed");
        Page { name: name.to_owned(), text: text.to_owned(), blocks }
    }

    /// What the test is to have ready, from the comment in the page's first line.
    pub fn needs(&self) -> BTreeSet<&str> {
        let words = self.text.lines().next().and_then(|l| l.strip_prefix("<!-- book: ")?.strip_suffix(" -->"));
        words.map(|w| w.split(", ").collect()).unwrap_or_default()
    }

    /// Lines outside of blocks.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut inside = false;
        self.text.lines().enumerate().filter_map(move |(n, l)| {
            let fence = l.starts_with("```");
            inside ^= fence;
            (!inside && !fence).then_some((n + 1, l))
        })
    }

    /// Line and target of every link.
    pub fn links(&self) -> Vec<(usize, String)> {
        let of = |(n, line): (usize, &str)| {
            // What is quoted is no link.
            let bare: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
            let targets = bare.split("](").skip(1).filter_map(|r| Some((n, r.split_once(')')?.0.to_owned())));
            targets.collect::<Vec<_>>()
        };
        self.prose().flat_map(of).collect()
    }

    pub fn includes(&self) -> Vec<String> {
        let of = |(_, l): (usize, &str)| Some(l.split_once("{{#include ")?.1.split_once("}}")?.0.to_owned());
        self.prose().filter_map(of).collect()
    }

    /// What is quoted in running text.
    pub fn inline(&self) -> Vec<String> {
        let prose: Vec<&str> = self.prose().map(|(_, l)| l).collect();
        // Quotes go on over the ends of lines, not over paragraphs.
        let all = prose.join("\n");
        let paragraphs = all.split("\n\n");
        paragraphs.flat_map(|p| p.split('`').skip(1).step_by(2).map(|w| w.replace('\n', " "))).collect()
    }

    /// The page that a link of this one names.
    pub fn beside(&self, path: &str) -> String {
        let mut parts: Vec<&str> = self.name.split('/').collect();
        parts.pop();
        for part in path.split('/') {
            if part == ".." {
                assert!(parts.pop().is_some(), "{}: {path} leaves the book", self.name);
            } else {
                parts.push(part);
            }
        }
        parts.join("/")
    }
}

/// Names of headings, as mdBook makes them.
pub fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines().filter(|l| l.starts_with('#')) {
        let words = line.trim_start_matches('#').trim();
        let keep = |c: char| match c {
            c if c.is_alphanumeric() || c == '_' || c == '-' => Some(c.to_ascii_lowercase()),
            c if c.is_whitespace() => Some('-'),
            _ => None,
        };
        let id: String = words.chars().filter_map(keep).collect();
        let mut unique = id.clone();
        for n in 1.. {
            if found.insert(unique.clone()) {
                break;
            }
            unique = format!("{id}-{n}");
        }
    }
    found
}
