//! Whatever has an identifier, a time and a subject, as typed documents: one row each, written one by one.

use std::marker::PhantomData;

use rusqlite::{Connection, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_core::record::TimeUs;

/// One document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document<T> {
    pub id: u64,
    pub time_us: TimeUs,
    /// What it is about: an address, a target, ...
    pub subject: String,
    pub body: T,
}

/// The documents of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Kind<T> {
    name: &'static str,
    body: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Kind<T> {
    /// `name` never changes: documents are stored under it.
    pub const fn new(name: &'static str) -> Self {
        Self { name, body: PhantomData }
    }

    /// Adds a document; one of the same id is replaced.
    pub(super) fn put(self, db: &Connection, d: &Document<T>) -> rusqlite::Result<()> {
        let body = serde_json::to_string(&d.body).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
        db.prepare_cached("INSERT OR REPLACE INTO document VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![self.name, d.id as i64, d.time_us as i64, d.subject, body])
            .map(drop)
    }

    /// Whether there was one.
    pub(super) fn remove(self, db: &Connection, id: u64) -> rusqlite::Result<bool> {
        let mut delete = db.prepare_cached("DELETE FROM document WHERE kind = ?1 AND id = ?2")?;
        delete.execute(params![self.name, id as i64]).map(|n| n > 0)
    }

    /// Every document, by id.
    pub(super) fn all(self, db: &Connection) -> rusqlite::Result<Vec<Document<T>>> {
        let mut rows =
            db.prepare_cached("SELECT id, time_us, subject, body FROM document WHERE kind = ?1 ORDER BY id")?;
        let rows = rows.query_map([self.name], |r| {
            let body = r.get::<_, String>(3)?;
            let body = serde_json::from_str(&body)
                .map_err(|e| rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, e.into()))?;
            Ok(Document {
                id: r.get::<_, i64>(0)? as u64,
                time_us: r.get::<_, i64>(1)? as u64,
                subject: r.get(2)?,
                body,
            })
        })?;
        rows.collect()
    }
}
