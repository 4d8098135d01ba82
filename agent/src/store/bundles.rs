//! Where model bundles lie: `bundles/<id>/`, the link `current` to the one that serves, and `promoted` with the id of
//! the one that a person promoted.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{StoreError, file, io_error};

#[derive(Clone, Debug)]
pub struct Bundles {
    root: PathBuf,
}

/// One bundle on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleDir {
    pub id: String,
    pub path: PathBuf,
    pub promoted: bool,
    pub current: bool,
}

/// Letters, digits, `.`, `_` and `-`; a name in a folder and nothing more. `default` is that of the built-in bundle.
pub fn check_id(id: &str) -> Result<(), StoreError> {
    let plain = id.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if plain && !id.is_empty() && !id.starts_with('.') && id.len() <= 100 && id != crate::default_bundle::ID {
        return Ok(());
    }
    Err(StoreError::BundleId(id.to_owned()))
}

impl Bundles {
    pub(super) fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let bundles = Self { root: state_dir.to_owned() };
        fs::create_dir_all(bundles.folder()).map_err(io_error("create", &bundles.folder()))?;
        bundles.sweep()?;
        Ok(bundles)
    }

    fn folder(&self) -> PathBuf {
        self.root.join("bundles")
    }
    fn current_link(&self) -> PathBuf {
        self.root.join("current")
    }
    fn promoted_file(&self) -> PathBuf {
        self.root.join("promoted")
    }

    /// What an agent that was killed left half-made.
    fn sweep(&self) -> Result<(), StoreError> {
        for path in self.entries()? {
            if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
                fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<PathBuf>, StoreError> {
        let read = || fs::read_dir(self.folder())?.map(|e| e.map(|e| e.path())).collect::<io::Result<Vec<_>>>();
        read().map_err(io_error("read", &self.folder()))
    }

    fn current_id(&self) -> Option<String> {
        let target = fs::read_link(self.current_link()).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// The id of the promoted bundle.
    pub fn promoted_id(&self) -> Option<String> {
        fs::read_to_string(self.promoted_file()).ok().map(|s| s.trim().to_owned()).filter(|s| !s.is_empty())
    }

    fn describe(&self, id: String) -> BundleDir {
        BundleDir {
            path: self.folder().join(&id),
            promoted: self.promoted_id().as_deref() == Some(&id),
            current: self.current_id().as_deref() == Some(&id),
            id,
        }
    }

    /// The current one first, then by name.
    pub fn list(&self) -> Result<Vec<BundleDir>, StoreError> {
        let mut all: Vec<_> = self
            .entries()?
            .into_iter()
            .filter(|p| p.is_dir())
            .filter_map(|p| Some(p.file_name()?.to_str()?.to_owned()))
            .filter(|id| check_id(id).is_ok())
            .map(|id| self.describe(id))
            .collect();
        all.sort_by(|a, b| (!a.current, &a.id).cmp(&(!b.current, &b.id)));
        Ok(all)
    }

    /// The bundle that serves, if there is one.
    pub fn current(&self) -> Option<BundleDir> {
        let id = self.current_id()?;
        check_id(&id).ok()?;
        self.folder().join(&id).is_dir().then(|| self.describe(id))
    }

    pub fn get(&self, id: &str) -> Result<BundleDir, StoreError> {
        check_id(id)?;
        if self.folder().join(id).is_dir() { Ok(self.describe(id.to_owned())) } else { Err(self.missing(id)) }
    }

    fn missing(&self, id: &str) -> StoreError {
        let known: Vec<_> = self.list().unwrap_or_default().into_iter().map(|b| b.id).collect();
        StoreError::NoBundle { id: id.to_owned(), known }
    }

    /// An empty folder to write a new bundle into; [`Bundles::install`] makes it one.
    pub fn stage(&self, id: &str) -> Result<PathBuf, StoreError> {
        check_id(id)?;
        let path = self.folder().join(format!(".new-{id}"));
        match fs::remove_dir_all(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", &path)(e)),
            _ => {}
        }
        fs::create_dir(&path).map_err(io_error("create", &path))?;
        Ok(path)
    }

    /// Moves a staged bundle into place. An installed bundle is never overwritten.
    pub fn install(&self, id: &str) -> Result<BundleDir, StoreError> {
        check_id(id)?;
        let (staged, path) = (self.folder().join(format!(".new-{id}")), self.folder().join(id));
        if path.exists() {
            return Err(StoreError::BundleExists(id.to_owned()));
        }
        sync_files(&staged).and_then(|()| fs::rename(&staged, &path)).map_err(io_error("put into place", &path))?;
        file::sync_parent(&path).map_err(io_error("write", &path))?;
        Ok(self.describe(id.to_owned()))
    }

    /// Makes the bundle the one that serves.
    pub fn activate(&self, id: &str) -> Result<BundleDir, StoreError> {
        self.get(id)?;
        let (link, new) = (self.current_link(), self.root.join("current.tmp"));
        let swap = || {
            match fs::remove_file(&new) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            symlink(Path::new("bundles").join(id), &new)?;
            fs::rename(&new, &link)?;
            file::sync_parent(&link)
        };
        swap().map_err(io_error("set the link", &link))?;
        self.get(id)
    }

    /// Records that a person promoted the bundle.
    pub fn promote(&self, id: &str) -> Result<BundleDir, StoreError> {
        self.get(id)?;
        let path = self.promoted_file();
        file::replace(&path, format!("{id}\n").as_bytes()).map_err(io_error("write", &path))?;
        self.get(id)
    }

    /// Removes all but the current, the promoted and the `keep` last ones by name; returns what went.
    pub fn prune(&self, keep: usize) -> Result<Vec<String>, StoreError> {
        let mut old: Vec<_> = self.list()?.into_iter().filter(|b| !b.current && !b.promoted).collect();
        old.sort_by(|a, b| b.id.cmp(&a.id));
        let gone = old.split_off(keep.min(old.len()));
        for bundle in &gone {
            fs::remove_dir_all(&bundle.path).map_err(io_error("remove", &bundle.path))?;
        }
        Ok(gone.into_iter().map(|b| b.id).collect())
    }
}

/// Everything in the folder on the disk, so that a link never points to empty files after a power cut.
fn sync_files(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_files(&entry.path())?;
        } else {
            fs::File::open(entry.path())?.sync_all()?;
        }
    }
    fs::File::open(folder)?.sync_all()
}
