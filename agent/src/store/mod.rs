//! What the agent remembers, in its state directory: `weir.db` (SQLite) with what enforces and what happened, and the model bundles.
//!
//! Everything here survives a kill at any moment, and a file that cannot be read is set aside, never deleted. What enforces is on the
//! disk before it is confirmed ([`table`]); what happened goes through a bounded queue ([`journal`]), so that no disk holds up the event
//! loop.

mod alerts;
mod bundles;
mod db;
mod documents;
pub(crate) mod file;
mod journal;
mod legacy;
mod retention;
mod review;
mod rows;
mod table;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use weir_core::decisions::{Decisions, Snapshot};
use weir_core::record::TimeUs;

use crate::command::AlertReport;
use crate::lock::{Lock, LockError};
pub use alerts::{Alerts, MAX_ALERTS};
pub use bundles::{BundleDir, Bundles, MAX_STEPS, Step, check_id};
use db::{Db, Durability, Unusable};
pub use documents::{Document, Kind};
pub use journal::Journal;
pub use retention::Bounds;
pub use review::ReviewState;
pub use rows::{AuditLine, Audited, Happened, HistoryLine, Proof, ProofLine, Row, Which};
/// What is asked of [`Journal::ask`].
pub mod read {
    pub use super::rows::{alerts, audit, get_alert, history, proof, proofs};
}

/// Number of the schema that this version writes.
pub const SCHEMA: u32 = db::MIGRATIONS.len() as u32;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    InUse(#[from] LockError),
    #[error("cannot {doing} {}: {cause}{}", path.display(), room(cause.sqlite_error_code() == Some(ErrorCode::DiskFull)))]
    Sql { doing: &'static str, path: PathBuf, cause: rusqlite::Error },
    #[error("cannot {doing} {}: {cause}{}", path.display(), room(cause.kind() == io::ErrorKind::StorageFull))]
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

/// What to do about a full disk.
pub(crate) fn room(is_full: bool) -> &'static str {
    if is_full { "; make room there: meanwhile the kernel goes on with what it holds, until it expires" } else { "" }
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

impl State {
    /// The decisions and allow entries, for [`Decisions::restore`]; from then on they are in the table that it gives.
    pub fn take_table(&mut self, now_us: TimeUs) -> Snapshot {
        let next_id = self.table.next_id;
        std::mem::replace(&mut self.table, table::nothing(now_us, next_id))
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

/// What [`Store::open`] found.
#[derive(Debug)]
pub struct Opened {
    pub store: Store,
    pub state: State,
    /// Something the operator must know: a file had to be set aside.
    pub warning: Option<String>,
    /// Nothing says what was decided before, or not everything: there was no store, or it was damaged. What the kernel holds is then
    /// all there is.
    pub incomplete: bool,
    /// The last ones, the latest first.
    pub alerts: Vec<AlertReport>,
}

/// The state directory of one agent, locked.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    bundles: Bundles,
    db: Db,
    written: table::Written,
    // Before the lock is given up, what happened is written.
    writer: journal::Writer,
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
        let path = dir.join(db::FILE);
        let mut found = Found::read(&path, now_us)?;
        found.import(dir, &path, now_us)?;
        let alerts = rows::alerts(&found.db, None, 0, MAX_ALERTS).map_err(sql_error("read", &path))?;
        drop(found.db);
        let writer = journal::Writer::start(&path).map_err(io_error("start the thread that writes", &path))?;
        let state = found.state.unwrap_or_else(|| State::fresh(1, now_us));
        // Ends that were imported are not in the table yet.
        let written = if found.stored { table::Written::of(&state) } else { table::Written::default() };
        let db = Db::new(&path, Durability::Full);
        let store = Store { path, bundles, db, written, writer, _lock: lock };
        let warning = (!found.warnings.is_empty()).then(|| found.warnings.join("; "));
        Ok(Opened { store, state, warning, incomplete: found.incomplete, alerts })
    }

    /// Writes what changed in the state and the table since the last time, and waits for the disk. [`State::table`] is left as it
    /// is: `table` says what holds.
    pub fn save(&mut self, state: &State, table: &mut Decisions, now: TimeUs) -> Result<(), StoreError> {
        let Self { db, written, path, .. } = self;
        db.with(|db| written.save(db, now, state, table)).map_err(sql_error("write", path))?;
        table.note_stored();
        Ok(())
    }

    /// Adds a document, or replaces the one of its id, and waits for the disk.
    pub fn put<T: Serialize + DeserializeOwned>(&mut self, kind: Kind<T>, d: &Document<T>) -> Result<(), StoreError> {
        self.db.with(|db| kind.put(db, d)).map_err(sql_error("write", &self.path))
    }

    /// Removes a document, and waits for the disk. Whether there was one.
    pub fn remove<T: Serialize + DeserializeOwned>(&mut self, kind: Kind<T>, id: u64) -> Result<bool, StoreError> {
        self.db.with(|db| kind.remove(db, id)).map_err(sql_error("write", &self.path))
    }

    /// Every document of a kind, by id.
    pub fn all<T: Serialize + DeserializeOwned>(&mut self, kind: Kind<T>) -> Result<Vec<Document<T>>, StoreError> {
        self.db.with(|db| kind.all(db)).map_err(sql_error("read", &self.path))
    }

    /// Where what happened is handed over.
    pub fn journal(&self) -> &Journal {
        self.writer.journal()
    }

    pub fn bundles(&self) -> &Bundles {
        &self.bundles
    }
}

/// What there is at the start.
struct Found {
    db: Connection,
    state: Option<State>,
    /// The state comes from the table.
    stored: bool,
    incomplete: bool,
    warnings: Vec<String>,
}

impl Found {
    fn read(path: &Path, now_us: TimeUs) -> Result<Self, StoreError> {
        // SQLite takes the mode of its other files from this one.
        make(path);
        let (why, saved) = match db::open(path).and_then(|db| Ok((table::read(&db).map_err(unreadable)?, db))) {
            Ok((state, db)) => {
                let (stored, incomplete) = (state.is_some(), state.is_none());
                return Ok(Self { db, state, stored, incomplete, warnings: Vec::new() });
            }
            Err(Unusable::Newer(found)) => return Err(StoreError::Newer { path: path.to_owned(), found }),
            Err(Unusable::Denied(cause)) => {
                return Err(StoreError::Sql { doing: "open", path: path.to_owned(), cause });
            }
            // A page that is damaged may be one of the record.
            Err(Unusable::Damaged(why)) => (why, salvage(path)),
        };
        let mut aside = None;
        for file in db::beside(path) {
            if file.exists() {
                let to = file::set_aside(&file).map_err(io_error("set aside", &file))?;
                aside.get_or_insert(to);
            }
        }
        let aside = aside.unwrap_or_else(|| path.to_owned());
        let words = match &saved {
            Some(_) => {
                "the decisions and allow-list entries in it could be read and hold on; alerts, history and audit of before are in \
                        that file alone"
            }
            None => {
                "the agent starts without the decisions and allow-list entries in it, other than those that the kernel still holds. \
                     The allow list of the configuration and the models are not affected"
            }
        };
        let warning =
            format!("{} cannot be used ({why}); it was moved to {}: {words}", path.display(), aside.display());
        make(path);
        let db = db::open(path).map_err(|e| match e {
            Unusable::Newer(found) => StoreError::Newer { path: path.to_owned(), found },
            Unusable::Denied(cause) => StoreError::Sql { doing: "create", path: path.to_owned(), cause },
            Unusable::Damaged(why) => io_error("create", path)(io::Error::other(why)),
        })?;
        // Ids that were given before the loss lie below.
        let state = saved.unwrap_or_else(|| State::fresh(now_us / 1_000_000, now_us));
        Ok(Self { db, state: Some(state), stored: false, incomplete: true, warnings: vec![warning] })
    }

    /// Takes over what versions before kept in files, once.
    fn import(&mut self, dir: &Path, path: &Path, now_us: TimeUs) -> Result<(), StoreError> {
        if self.state.is_none() {
            match legacy::state(dir)? {
                Some(Ok(state)) => (self.state, self.incomplete) = (Some(state), false),
                Some(Err(why)) => {
                    let old = dir.join("state.json");
                    let aside = file::set_aside(&old).map_err(io_error("set aside", &old))?;
                    self.warnings.push(format!(
                        "{} cannot be read ({why}); it was moved to {} and the agent starts without the decisions and allow-list \
                         entries in it, other than those that the kernel still holds. The allow list of the configuration and the \
                         models are not affected",
                        old.display(),
                        aside.display()
                    ));
                    self.state = Some(State::fresh(now_us / 1_000_000, now_us));
                }
                None => {}
            }
        }
        let alerts = legacy::alerts(dir).unwrap_or_else(|e| {
            self.warnings.push(format!("alerts of before are missing: alerts.jsonl cannot be read: {e}"));
            Vec::new()
        });
        let change = self.db.transaction().map_err(sql_error("write", path))?;
        for alert in alerts {
            Row::Alert(Box::new(alert)).write(&change).map_err(sql_error("write", path))?;
        }
        change.commit().map_err(sql_error("write", path))?;
        legacy::imported(dir, "alerts.jsonl")?;
        if let Some(state) = self.state.as_ref().filter(|_| !self.stored) {
            table::write_whole(&mut self.db, state).map_err(sql_error("write", path))?;
            self.stored = true;
        }
        legacy::imported(dir, "state.json")?;
        Ok(())
    }
}

/// Makes an empty file; opening it tells why there is none, if there is none then.
fn make(path: &Path) {
    let _ = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
}

/// A state that cannot be read is a damaged one, where it is not the file system that fails.
fn unreadable(e: rusqlite::Error) -> Unusable {
    match e {
        rusqlite::Error::SqliteFailure(..) => e.into(),
        e => Unusable::Damaged(e.to_string()),
    }
}

/// The state of a damaged file, where that part of it can be read.
fn salvage(path: &Path) -> Option<State> {
    let db = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    table::read(&db).ok().flatten()
}

fn sql_error(doing: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |cause| StoreError::Sql { doing, path, cause }
}

/// Where the lock of an interface lies: by the inode of its network namespace, and its index in it.
pub fn interface_lock(run_dir: &Path, netns: u64, ifindex: u32) -> PathBuf {
    run_dir.join(format!("{netns}-{ifindex}.lock"))
}

/// One agent per interface: the lock `<network namespace>-<ifindex>.lock` in `run_dir`, whatever its state directory.
pub fn lock_interface(run_dir: &Path, interface: &str, ifindex: u32) -> Result<Lock, StoreError> {
    let netns = fs::metadata("/proc/self/ns/net").map_err(io_error("look at", Path::new("/proc/self/ns/net")))?.ino();
    fs::create_dir_all(run_dir).map_err(io_error("create", run_dir))?;
    let path = interface_lock(run_dir, netns, ifindex);
    Ok(Lock::acquire(&path, &format!("interface {interface}"))?)
}

/// The id of this boot: a different one means that the kernel's entries are gone.
pub fn boot_id() -> Result<String, StoreError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(fs::read_to_string(path).map_err(io_error("read", path))?.trim().to_owned())
}

#[cfg(test)]
mod tests;
