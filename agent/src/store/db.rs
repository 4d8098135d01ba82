//! The file `weir.db`: opening it, its schema, and what to do when it cannot be used.
//!
//! Two connections are in use: one that the event loop writes decisions with, each waiting for the disk, and one of the thread that
//! writes all else. Either is closed when the disk fails and opened again with the next attempt: nothing here holds on to a file system
//! that an operator has to repair.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

pub const FILE: &str = "weir.db";

/// "WEIR": says whose file it is.
const APPLICATION_ID: i64 = 0x5745_4952;
/// The other connection never holds the lock for longer than one batch.
const BUSY: Duration = Duration::from_secs(5);
/// The log of changes is cut back to this after it was worked in, bytes.
const WAL_LIMIT: u64 = 16 << 20;

/// What takes a file from the version before to the next one; never changed once released, only appended to.
pub const MIGRATIONS: &[&str] = &[include_str!("schema/1.sql")];

/// Why the file cannot be used.
#[derive(Debug)]
pub enum Unusable {
    /// Another version wrote it.
    Newer(u32),
    /// It is no store, or damaged: in words.
    Damaged(String),
    /// The file system does not let us, for now.
    Denied(rusqlite::Error),
}

impl From<rusqlite::Error> for Unusable {
    fn from(e: rusqlite::Error) -> Self {
        match e.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(e.to_string()),
            _ => Self::Denied(e),
        }
    }
}

/// How far a commit is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It is on the disk.
    Full,
    /// It survives the end of this process; a power cut may take the last ones.
    Normal,
}

fn connect(path: &Path, durability: Durability) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    // Before anything is created: later it takes a rewrite of the whole file.
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    let level = if durability == Durability::Full { "FULL" } else { "NORMAL" };
    db.pragma_update(None, "synchronous", level)?;
    db.pragma_update(None, "journal_size_limit", WAL_LIMIT as i64)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "trusted_schema", false)?;
    Ok(db)
}

/// Opens the file, or makes it, and brings it to this version's schema.
pub fn open(path: &Path) -> Result<Connection, Unusable> {
    let mut db = connect(path, Durability::Full)?;
    migrate(&mut db, MIGRATIONS)?;
    let said: String = db.query_row("PRAGMA quick_check(1)", [], |r| r.get(0))?;
    if said == "ok" { Ok(db) } else { Err(Unusable::Damaged(said)) }
}

pub fn migrate(db: &mut Connection, migrations: &[&str]) -> Result<(), Unusable> {
    let number = |name| db.query_row(&format!("PRAGMA {name}"), [], |r| r.get::<_, i64>(0));
    let (version, whose) = (number("user_version")?, number("application_id")?);
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
    if tables > 0 && whose != APPLICATION_ID {
        return Err(Unusable::Damaged("it is another program's database".into()));
    }
    let known = migrations.len();
    let done = usize::try_from(version).map_err(|_| Unusable::Damaged(format!("its version is {version}")))?;
    if done > known {
        return Err(Unusable::Newer(version as u32));
    }
    for (n, step) in migrations.iter().enumerate().skip(done) {
        let change = db.transaction()?;
        change.execute_batch(step)?;
        change.pragma_update(None, "application_id", APPLICATION_ID)?;
        change.pragma_update(None, "user_version", n as i64 + 1)?;
        change.commit()?;
    }
    Ok(())
}

/// The mode of the file and of what SQLite keeps beside it.
pub fn beside(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|end| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        name.into()
    })
}

/// A connection that comes back by itself.
#[derive(Debug)]
pub struct Db {
    path: PathBuf,
    durability: Durability,
    open: Option<Connection>,
}

impl Db {
    pub fn new(path: &Path, durability: Durability) -> Self {
        Self { path: path.to_owned(), durability, open: None }
    }

    /// Works with the file; a failure closes it until the next time.
    pub fn with<T>(&mut self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let mut db = match self.open.take() {
            Some(db) => db,
            None => connect(&self.path, self.durability)?,
        };
        let done = work(&mut db);
        if done.is_ok() {
            self.open = Some(db);
        }
        done
    }

    pub fn close(&mut self) {
        self.open = None;
    }
}
