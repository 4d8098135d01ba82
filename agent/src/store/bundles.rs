//! Where model bundles lie: `bundles/<id>/`, and `models.json` that says which of them serves, which served before it, and which
//! one a challenger is. The link `current` follows that file, for people and for commands that run without an agent.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use weir_core::record::TimeUs;

use super::{StoreError, file, io_error};
use crate::clock::wall_us;

/// Steps that are remembered: as often one can go back, less one.
pub const MAX_STEPS: usize = 9;

#[derive(Clone, Debug)]
pub struct Bundles {
    root: PathBuf,
}

/// One bundle on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleDir {
    pub id: String,
    pub path: PathBuf,
    /// A person let it lead to actions when it served last.
    pub promoted: bool,
    pub current: bool,
    /// How many steps back it serves again; 0 for the current one, `None` where no step leads to it.
    pub steps_back: Option<usize>,
    /// It scores silently beside the current one.
    pub challenger: bool,
    /// When it began to serve, the last time.
    pub since_us: Option<TimeUs>,
}

/// A time that a bundle served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub id: String,
    /// A person let it lead to actions.
    pub promoted: bool,
    pub since_us: TimeUs,
}

/// What `models.json` holds. It is replaced as a whole: after a kill at any moment the old or the new bundle serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Served {
    /// The oldest first; the last one serves.
    steps: Vec<Step>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    challenger: Option<String>,
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
        let path = bundles.served_file();
        if fs::read(&path).is_ok_and(|bytes| serde_json::from_slice::<Served>(&bytes).is_err()) {
            let aside = file::set_aside(&path).map_err(io_error("set aside", &path))?;
            log::warn!(
                "{} cannot be read and was moved to {}: no model counts as promoted",
                path.display(),
                aside.display()
            );
        }
        // A kill between the two leaves the link behind the file.
        bundles.link(bundles.served().steps.last())?;
        Ok(bundles)
    }

    fn folder(&self) -> PathBuf {
        self.root.join("bundles")
    }
    fn current_link(&self) -> PathBuf {
        self.root.join("current")
    }
    fn served_file(&self) -> PathBuf {
        self.root.join("models.json")
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

    /// What serves and served. A file that cannot be read counts as none, and so does that of a store without one: the link
    /// then says what served, and nothing counts as promoted but what the file of earlier versions names.
    fn served(&self) -> Served {
        let read = fs::read(self.served_file()).ok().and_then(|bytes| serde_json::from_slice::<Served>(&bytes).ok());
        let mut served = read.unwrap_or_else(|| {
            let id = fs::read_link(self.current_link()).ok().and_then(|t| Some(t.file_name()?.to_str()?.to_owned()));
            let named = fs::read_to_string(self.root.join("promoted")).ok().map(|s| s.trim().to_owned());
            let step = |id: String| Step { promoted: named.as_ref() == Some(&id), id, since_us: 0 };
            Served { steps: id.map(step).into_iter().collect(), challenger: None }
        });
        served.steps.retain(|s| check_id(&s.id).is_ok());
        served
    }

    fn write(&self, served: &Served) -> Result<(), StoreError> {
        let path = self.served_file();
        let text = serde_json::to_vec_pretty(served).map_err(|e| io_error("encode", &path)(e.into()))?;
        file::replace(&path, &text).map_err(io_error("write", &path))?;
        self.link(served.steps.last())
    }

    /// Makes the link follow the file.
    fn link(&self, last: Option<&Step>) -> Result<(), StoreError> {
        let Some(step) = last else { return Ok(()) };
        let (link, new) = (self.current_link(), self.root.join("current.tmp"));
        let target = Path::new("bundles").join(&step.id);
        if fs::read_link(&link).is_ok_and(|t| t == target) {
            return Ok(());
        }
        let swap = || {
            match fs::remove_file(&new) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            symlink(&target, &new)?;
            fs::rename(&new, &link)?;
            file::sync_parent(&link)
        };
        swap().map_err(io_error("set the link", &link))
    }

    fn describe(&self, id: String, served: &Served) -> BundleDir {
        let last = served.steps.iter().rev().find(|s| s.id == id);
        BundleDir {
            path: self.folder().join(&id),
            promoted: last.is_some_and(|s| s.promoted),
            current: served.steps.last().is_some_and(|s| s.id == id),
            steps_back: served.steps.iter().rev().position(|s| s.id == id),
            challenger: served.challenger.as_deref() == Some(&id),
            since_us: last.map(|s| s.since_us),
            id,
        }
    }

    /// The current one first, then by name.
    pub fn list(&self) -> Result<Vec<BundleDir>, StoreError> {
        let served = self.served();
        let mut all: Vec<_> = self
            .entries()?
            .into_iter()
            .filter(|p| p.is_dir())
            .filter_map(|p| Some(p.file_name()?.to_str()?.to_owned()))
            .filter(|id| check_id(id).is_ok())
            .map(|id| self.describe(id, &served))
            .collect();
        all.sort_by(|a, b| (!a.current, &a.id).cmp(&(!b.current, &b.id)));
        Ok(all)
    }

    /// The bundle that serves, if there is one.
    pub fn current(&self) -> Option<BundleDir> {
        let id = self.served().steps.last()?.id.clone();
        self.get(&id).ok()
    }

    /// The one that scores silently, if there is one.
    pub fn challenger(&self) -> Option<BundleDir> {
        self.get(&self.served().challenger?).ok()
    }

    pub fn get(&self, id: &str) -> Result<BundleDir, StoreError> {
        check_id(id)?;
        if self.folder().join(id).is_dir() {
            Ok(self.describe(id.to_owned(), &self.served()))
        } else {
            Err(self.missing(id))
        }
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
        self.install_from(&self.folder().join(format!(".new-{id}")), id)
    }

    /// Moves a bundle from a folder of the store, made by [`Bundles::stage`] under any name, into place.
    pub fn install_from(&self, staged: &Path, id: &str) -> Result<BundleDir, StoreError> {
        check_id(id)?;
        let path = self.folder().join(id);
        if path.exists() {
            return Err(StoreError::BundleExists(id.to_owned()));
        }
        sync_files(staged).and_then(|()| fs::rename(staged, &path)).map_err(io_error("put into place", &path))?;
        file::sync_parent(&path).map_err(io_error("write", &path))?;
        Ok(self.describe(id.to_owned(), &self.served()))
    }

    /// Makes the bundle the one that serves. It is not promoted by that, unless it serves already and was.
    pub fn activate(&self, id: &str) -> Result<BundleDir, StoreError> {
        self.step(id, false)
    }

    /// Makes the bundle the one that serves, and records that a person lets it lead to actions.
    pub fn promote(&self, id: &str) -> Result<BundleDir, StoreError> {
        self.step(id, true)
    }

    fn step(&self, id: &str, promoted: bool) -> Result<BundleDir, StoreError> {
        self.get(id)?;
        let mut served = self.served();
        match served.steps.last_mut() {
            Some(last) if last.id == id => last.promoted |= promoted,
            _ => served.steps.push(Step { id: id.to_owned(), promoted, since_us: wall_us() }),
        }
        let surplus = served.steps.len().saturating_sub(MAX_STEPS);
        served.steps.drain(..surplus);
        // What serves challenges nobody.
        served.challenger.take_if(|c| c == id);
        self.write(&served)?;
        self.get(id)
    }

    /// The step that [`Bundles::roll_back`] would lead to.
    pub fn back(&self, steps: usize) -> Result<Step, StoreError> {
        let served = self.served();
        let there = served.steps.len().saturating_sub(1);
        if steps == 0 || steps > there {
            return Err(StoreError::NoStep { asked: steps, there });
        }
        Ok(served.steps[there - steps].clone())
    }

    /// Makes the bundle that served `steps` steps ago serve again, promoted if it was then. The steps in between are forgotten,
    /// their bundles stay.
    pub fn roll_back(&self, steps: usize) -> Result<BundleDir, StoreError> {
        let to = self.back(steps)?;
        self.get(&to.id)?;
        let mut served = self.served();
        served.steps.truncate(served.steps.len() - steps);
        if let Some(last) = served.steps.last_mut() {
            last.since_us = wall_us();
        }
        served.challenger.take_if(|c| *c == to.id);
        self.write(&served)?;
        self.get(&to.id)
    }

    /// Records which bundle scores silently; `None`: none does.
    pub fn set_challenger(&self, id: Option<&str>) -> Result<(), StoreError> {
        if let Some(id) = id {
            self.get(id)?;
        }
        let mut served = self.served();
        if served.challenger.as_deref() != id {
            served.challenger = id.map(str::to_owned);
            self.write(&served)?;
        }
        Ok(())
    }

    /// Removes all but those that serve, served within the remembered steps or challenge, `spare`, and the `keep` newest others;
    /// returns what went.
    pub fn prune(&self, keep: usize, spare: Option<&str>) -> Result<Vec<String>, StoreError> {
        let spared: HashSet<&str> = spare.into_iter().collect();
        let age = |b: &BundleDir| fs::metadata(&b.path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let wanted = |b: &BundleDir| b.steps_back.is_some() || b.challenger || spared.contains(b.id.as_str());
        let mut old: Vec<_> = self.list()?.into_iter().filter(|b| !wanted(b)).map(|b| (age(&b), b)).collect();
        old.sort_by(|a, b| (b.0, &b.1.id).cmp(&(a.0, &a.1.id)));
        let gone = old.split_off(keep.min(old.len()));
        for (_, bundle) in &gone {
            fs::remove_dir_all(&bundle.path).map_err(io_error("remove", &bundle.path))?;
        }
        Ok(gone.into_iter().map(|(_, b)| b.id).collect())
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
