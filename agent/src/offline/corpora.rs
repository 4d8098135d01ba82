//! A list of collections of data, with where each comes from and under which terms: which of their files are read follows
//! from rules that give a reason.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use weir_models::Corpus;

/// Folders below folders, at most.
const MAX_DEPTH: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum CorporaError {
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: std::io::Error },
    #[error("{} is no list of corpora: {cause}", path.display())]
    Yaml { path: PathBuf, cause: serde_yaml::Error },
    #[error(
        "corpus `{name}` has {found}: give either `folder` and `files`, or `left_out` with the reason why nothing of it is used"
    )]
    Neither { name: String, found: &'static str },
    #[error("corpus `{name}`: {} has no file that ends in {}", folder.display(), endings.join(", "))]
    Empty { name: String, folder: PathBuf, endings: Vec<String> },
}

/// The list as it is written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corpora {
    pub corpora: Vec<Entry>,
    /// For the files of every corpus.
    #[serde(default)]
    pub leave_out: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub name: String,
    /// Where it is published.
    pub from: String,
    pub licence: String,
    /// Below the folder of all corpora.
    #[serde(default)]
    pub folder: Option<PathBuf>,
    /// Endings of the names of its files.
    #[serde(default)]
    pub files: Vec<String>,
    #[serde(default)]
    pub leave_out: Vec<Rule>,
    /// Why nothing of it is used.
    #[serde(default)]
    pub left_out: Option<String>,
}

/// Files are left out whose names hold one of the words, in letters of any case.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub why: String,
    pub words: Vec<String>,
}

impl Rule {
    fn concerns(&self, name: &str) -> bool {
        self.words.iter().any(|w| name.contains(&w.to_lowercase()))
    }
}

/// A corpus whose files were looked up.
#[derive(Debug)]
pub struct Found {
    pub entry: Entry,
    pub files: usize,
    /// Files left out, by the reason.
    pub left_out: Vec<(String, usize)>,
}

/// What is to be read.
#[derive(Debug)]
pub struct Resolved {
    pub corpora: Vec<Found>,
    /// With the number of the corpus that each is of, in an order that mixes them: what comes early makes the models, what
    /// comes late the thresholds.
    pub inputs: Vec<(usize, PathBuf)>,
}

impl Corpora {
    pub fn read(path: &Path) -> Result<Self, CorporaError> {
        let text = std::fs::read_to_string(path).map_err(|cause| CorporaError::Io { path: path.to_owned(), cause })?;
        serde_yaml::from_str(&text).map_err(|cause| CorporaError::Yaml { path: path.to_owned(), cause })
    }

    /// Looks the files up below `root`. The order does not depend on where that is.
    pub fn resolve(&self, root: &Path) -> Result<Resolved, CorporaError> {
        let (mut corpora, mut ordered) = (Vec::new(), Vec::new());
        for (number, entry) in self.corpora.iter().enumerate() {
            let mut found = Found { entry: entry.clone(), files: 0, left_out: Vec::new() };
            let neither = |found| Err(CorporaError::Neither { name: entry.name.clone(), found });
            match (&entry.folder, &entry.left_out) {
                (Some(_), Some(_)) => return neither("both"),
                (None, None) => return neither("neither"),
                (Some(_), None) if entry.files.is_empty() => return neither("no `files`"),
                (None, Some(_)) => {}
                (Some(folder), None) => {
                    for relative in self.files(root, folder, entry)? {
                        match self.why_not(entry, &relative) {
                            Some(why) => match found.left_out.iter_mut().find(|(w, _)| w == why) {
                                Some((_, n)) => *n += 1,
                                None => found.left_out.push((why.to_owned(), 1)),
                            },
                            None => {
                                found.files += 1;
                                let mut h = DefaultHasher::new();
                                relative.hash(&mut h);
                                ordered.push((h.finish(), relative, number));
                            }
                        }
                    }
                }
            }
            corpora.push(found);
        }
        ordered.sort();
        let inputs = ordered.into_iter().map(|(_, relative, number)| (number, root.join(relative))).collect();
        Ok(Resolved { corpora, inputs })
    }

    /// Names below `root` of the files of a corpus.
    fn files(&self, root: &Path, folder: &Path, entry: &Entry) -> Result<Vec<String>, CorporaError> {
        let mut files = Vec::new();
        walk(&root.join(folder), MAX_DEPTH, &mut |path| {
            let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
            if entry.files.iter().any(|e| name.ends_with(&e.to_lowercase())) {
                files.extend(path.strip_prefix(root).ok().map(|p| p.to_string_lossy().into_owned()));
            }
        })?;
        if files.is_empty() {
            return Err(CorporaError::Empty {
                name: entry.name.clone(),
                folder: root.join(folder),
                endings: entry.files.clone(),
            });
        }
        files.sort();
        Ok(files)
    }

    fn why_not<'r>(&'r self, entry: &'r Entry, relative: &str) -> Option<&'r str> {
        let name = relative.rsplit('/').next().unwrap_or(relative).to_lowercase();
        entry.leave_out.iter().chain(&self.leave_out).find(|r| r.concerns(&name)).map(|r| r.why.as_str())
    }
}

/// Every file below a folder. Links are not followed: one could lead back.
fn walk(folder: &Path, depth: usize, each: &mut dyn FnMut(&Path)) -> Result<(), CorporaError> {
    let io = |cause| CorporaError::Io { path: folder.to_owned(), cause };
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let kind = entry.file_type().map_err(io)?;
        if kind.is_dir() && depth > 0 {
            walk(&entry.path(), depth - 1, each)?;
        } else if kind.is_file() {
            each(&entry.path());
        }
    }
    Ok(())
}

impl Found {
    /// For the manifest, with the number of flows that were used.
    pub fn described(&self, rows: u64) -> Corpus {
        let e = &self.entry;
        let left_out: Vec<_> = self.left_out.iter().map(|(why, n)| format!("{n} files of {why}")).collect();
        let note = match &e.left_out {
            Some(why) => Some(format!("left out: {why}")),
            None if left_out.is_empty() => None,
            None => Some(format!("left out: {}", left_out.join(", "))),
        };
        Corpus { name: e.name.clone(), from: e.from.clone(), licence: e.licence.clone(), rows, note }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "
corpora:
  - name: A
    from: https://example.org/a
    licence: BSD-3-Clause
    folder: a
    files: [.pcap]
    leave_out:
      - why: guessing
        words: [ssh]
  - name: B
    from: a paper
    licence: research only
    left_out: its terms do not let others pass it on
leave_out:
  - why: attacks
    words: [Scan, exploit]
";

    #[test]
    fn files_follow_from_the_rules_wherever_the_folder_is() {
        let list: Corpora = serde_yaml::from_str(LIST).unwrap();
        let names = ["x.pcap", "deep/er/y.PCAP", "portSCAN.pcap", "ssh.pcap", "notes.txt"];
        let folder = || {
            let dir = tempfile::tempdir().unwrap();
            for name in names {
                let path = dir.path().join("a").join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "").unwrap();
            }
            dir
        };
        let (one, two) = (folder(), folder());
        let read = |dir: &tempfile::TempDir| -> Vec<_> {
            let all = list.resolve(dir.path()).unwrap();
            all.inputs.into_iter().map(|(n, p)| (n, p.strip_prefix(dir.path()).unwrap().to_owned())).collect()
        };
        assert_eq!(read(&one), read(&two));
        assert_eq!(read(&one).len(), 2, "{:?}", read(&one));
        let corpora = list.resolve(one.path()).unwrap().corpora;
        let described: Vec<_> = corpora.iter().map(|c| c.described(7).note.unwrap()).collect();
        assert_eq!(
            described,
            ["left out: 1 files of attacks, 1 files of guessing", "left out: its terms do not let others pass it on"]
        );
        std::fs::remove_dir_all(one.path().join("a")).unwrap();
        std::fs::create_dir(one.path().join("a")).unwrap();
        let said = list.resolve(one.path()).unwrap_err().to_string();
        assert!(said.contains("no file that ends in .pcap"), "{said}");
    }

    #[test]
    fn a_corpus_is_used_or_left_out_for_a_reason() {
        for more in ["", "    folder: a\n", "    folder: a\n    files: [x]\n    left_out: why\n"] {
            let text = format!("corpora:\n  - name: C\n    from: here\n    licence: MIT\n{more}");
            let list: Corpora = serde_yaml::from_str(&text).unwrap();
            let said = list.resolve(Path::new("/")).unwrap_err().to_string();
            assert!(said.contains("corpus `C` has") && said.contains("`left_out`"), "{said}");
        }
        assert!(serde_yaml::from_str::<Corpora>("corpora: []\nmore: 1\n").is_err());
    }
}
