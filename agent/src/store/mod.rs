//! What the agent remembers: `state.json` with decisions and the allow list, and the model bundles.
//!
//! Everything here survives a kill at any moment: files are replaced as a whole, and a file that cannot be read is set
//! aside, never deleted.

mod alerts;
mod bundles;
pub(crate) mod file;
mod review;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weir_core::decisions::Snapshot;
use weir_core::record::TimeUs;

use crate::lock::{Lock, LockError};
pub use alerts::{Alerts, MAX_ALERTS};
pub use bundles::{BundleDir, Bundles, MAX_STEPS, Step, check_id};
pub use review::ReviewState;

/// Raised when the meaning of [`State`] changes.
pub const SCHEMA: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    InUse(#[from] LockError),
    #[error("cannot {doing} {}: {cause}", path.display())]
    Io { doing: &'static str, path: PathBuf, cause: io::Error },
    #[error(
        "{} was written by a newer Weir (schema {found}, this one knows {SCHEMA}); install that version, or move the \
         file away to start without its decisions",
        path.display()
    )]
    Newer { path: PathBuf, found: u32 },
    #[error(
        "`{0}` is no bundle id: letters, digits, `.`, `_` and `-`, not starting with a dot, and not `default`, which came with the \
         program: `default_model` says what that may lead to"
    )]
    BundleId(String),
    #[error("there is no bundle `{id}`; there {}", name_known(known))]
    NoBundle { id: String, known: Vec<String> },
    #[error("the bundle `{0}` exists already")]
    BundleExists(String),
    #[error(
        "there is no way back by {asked} steps: {there} bundles are remembered that served before this one; `weir model list` \
         shows what there is, and `weir model promote ID` chooses any of it"
    )]
    NoStep { asked: usize, there: usize },
}

fn name_known(ids: &[String]) -> String {
    if ids.is_empty() { "are none yet: `weir learn` makes one".into() } else { format!("are {}", ids.join(", ")) }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |cause| StoreError::Io { doing, path, cause }
}

/// What is kept over restarts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The boot in which the rest was true, and when in it.
    pub saved: Saved,
    /// Decisions with their lifetimes, the next free id, and the allow entries that were added by command.
    pub table: Snapshot,
    /// Ids are never used twice.
    pub next_alert_id: u64,
    /// Questions to people, what they answered, and what they said about alerts.
    #[serde(default)]
    pub review: ReviewState,
}

impl State {
    /// Nothing decided yet; ids begin at `first_id`.
    pub fn fresh(first_id: u64, now_us: TimeUs) -> State {
        State {
            saved: Saved::default(),
            table: Snapshot { taken_us: now_us, next_id: first_id, decisions: Vec::new(), allow: Vec::new() },
            next_alert_id: first_id,
            review: ReviewState::default(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    pub boot_id: String,
    pub boottime_us: u64,
}

impl Saved {
    /// Now, in this boot.
    pub fn now() -> Result<Saved, StoreError> {
        Ok(Saved { boot_id: boot_id()?, boottime_us: crate::clock::boottime_us() })
    }

    /// Time from this moment to `later` by a clock that nobody can set; `None` across a reboot.
    pub fn elapsed_us(&self, later: &Saved) -> Option<u64> {
        (!self.boot_id.is_empty() && self.boot_id == later.boot_id)
            .then(|| later.boottime_us.saturating_sub(self.boottime_us))
    }
}

/// The file: the state with the schema it is written in.
#[derive(Serialize, Deserialize)]
struct Document<S> {
    schema: u32,
    #[serde(flatten)]
    state: S,
}

#[derive(Deserialize)]
struct SchemaOnly {
    schema: u32,
}

/// What [`Store::open`] found.
#[derive(Debug)]
pub struct Opened {
    pub store: Store,
    pub state: State,
    /// Something the operator must know: a file had to be set aside.
    pub warning: Option<String>,
}

/// The state directory of one agent, locked.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    bundles: Bundles,
    _lock: Lock,
}

impl Store {
    /// Opens or creates the directory (mode 0700) and reads what is there. `now_us` only makes ids that follow a lost
    /// state distinct from all before.
    pub fn open(dir: &Path, now_us: TimeUs) -> Result<Opened, StoreError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error("create", dir))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(io_error("set the mode of", dir))?;
        let lock = Lock::acquire(&dir.join("agent.lock"), &format!("the state directory {}", dir.display()))?;
        let bundles = Bundles::open(dir)?;
        let path = dir.join("state.json");
        let (state, warning) = match fs::read(&path) {
            Ok(bytes) => match decode(&path, &bytes)? {
                Ok(state) => (state, None),
                Err(why) => {
                    let aside = file::set_aside(&path).map_err(io_error("set aside", &path))?;
                    let warning = format!(
                        "{} cannot be read ({why}); it was moved to {} and the agent starts without the decisions and \
                         allow-list entries in it. The allow list of the configuration and the models are not affected",
                        path.display(),
                        aside.display()
                    );
                    // Ids that were given before the loss lie below.
                    (State::fresh(now_us / 1_000_000, now_us), Some(warning))
                }
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => (State::fresh(1, now_us), None),
            Err(e) => return Err(io_error("read", &path)(e)),
        };
        Ok(Opened { store: Store { path, bundles, _lock: lock }, state, warning })
    }

    /// Replaces the stored state, waiting for the disk.
    pub fn save(&self, state: &State) -> Result<(), StoreError> {
        let mut text = serde_json::to_vec_pretty(&Document { schema: SCHEMA, state })
            .map_err(|e| io_error("encode", &self.path)(e.into()))?;
        text.push(b'\n');
        file::replace(&self.path, &text).map_err(io_error("write", &self.path))
    }

    pub fn bundles(&self) -> &Bundles {
        &self.bundles
    }
}

/// The state; inside, why it is none. A newer schema is an error of its own: it is not damaged.
fn decode(path: &Path, bytes: &[u8]) -> Result<Result<State, String>, StoreError> {
    match serde_json::from_slice::<SchemaOnly>(bytes) {
        Ok(SchemaOnly { schema }) if schema > SCHEMA => {
            return Err(StoreError::Newer { path: path.to_owned(), found: schema });
        }
        Ok(_) => {}
        Err(e) => return Ok(Err(e.to_string())),
    }
    Ok(serde_json::from_slice::<Document<State>>(bytes).map(|d| d.state).map_err(|e| e.to_string()))
}

/// One agent per interface: the lock `<network namespace>-<ifindex>.lock` in `run_dir`, whatever its state directory.
pub fn lock_interface(run_dir: &Path, interface: &str, ifindex: u32) -> Result<Lock, StoreError> {
    let netns = fs::metadata("/proc/self/ns/net").map_err(io_error("look at", Path::new("/proc/self/ns/net")))?.ino();
    fs::create_dir_all(run_dir).map_err(io_error("create", run_dir))?;
    let path = run_dir.join(format!("{netns}-{ifindex}.lock"));
    Ok(Lock::acquire(&path, &format!("interface {interface}"))?)
}

/// The id of this boot: a different one means that the kernel's entries are gone.
pub fn boot_id() -> Result<String, StoreError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(fs::read_to_string(path).map_err(io_error("read", path))?.trim().to_owned())
}

#[cfg(test)]
mod tests;
