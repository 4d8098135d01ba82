//! The wanted state as rows: what changed is written, and nothing else, so that one decision among a million costs one row.
//!
//! Ends are stored on the boot-time clock. `meta.saved` says which boot that is, and when in it the last change was written: after a
//! reboot, what was left then is what is stored of a lifetime.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use weir_core::decisions::{Decisions, Snapshot, Stored};
use weir_core::guard::Allow;
use weir_core::record::TimeUs;

use super::{Saved, State};

/// Keys of `meta`.
const SAVED: &str = "saved";
const TAKEN: &str = "taken_us";
const NEXT_ID: &str = "next_id";
const REST: &str = "state";

/// What of a state is in its own tables or keys.
const APART: [&str; 2] = ["saved", "table"];

fn json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))
}

fn parsed<T: DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    let read = serde_json::from_str(text);
    read.map_err(|e| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, e.into()))
}

fn get<T: DeserializeOwned>(db: &Connection, key: &str) -> rusqlite::Result<Option<T>> {
    let text = db.query_row("SELECT value FROM meta WHERE key = ?1", [key], |r| r.get::<_, String>(0)).optional()?;
    text.as_deref().map(parsed).transpose()
}

fn put<T: Serialize>(db: &Connection, key: &str, value: &T) -> rusqlite::Result<()> {
    put_text(db, key, &json(value)?)
}

fn put_text(db: &Connection, key: &str, text: &str) -> rusqlite::Result<()> {
    let mut put = db.prepare_cached("INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2")?;
    put.execute(params![key, text]).map(drop)
}

/// What is left of a lifetime that ends at `ends_us`, at `at`.
fn left(ends_us: Option<i64>, at: &Saved) -> Option<u64> {
    ends_us.map(|end| (end as u64).saturating_sub(at.boottime_us))
}

/// The stored state; `None`: none was stored yet.
pub fn read(db: &Connection) -> rusqlite::Result<Option<State>> {
    let Some(saved) = get::<Saved>(db, SAVED)? else { return Ok(None) };
    let mut decisions = Vec::new();
    let mut rows = db.prepare("SELECT ends_us, body FROM decision ORDER BY id")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let stored: Stored = parsed(&row.get::<_, String>(1)?)?;
        decisions.push(Stored { remaining_us: left(row.get(0)?, &saved), ..stored });
    }
    let taken_us: TimeUs = get(db, TAKEN)?.unwrap_or_default();
    let mut allow = Vec::new();
    let mut rows = db.prepare("SELECT ends_us, body FROM allow ORDER BY prefix")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let entry: Allow = parsed(&row.get::<_, String>(1)?)?;
        let left = left(row.get(0)?, &saved);
        allow.push(Allow { expires_us: left.map(|l| taken_us.saturating_add(l)), ..entry });
    }
    let table = Snapshot { taken_us, next_id: get(db, NEXT_ID)?.unwrap_or(1), decisions, allow };
    let mut whole: Value = get(db, REST)?.unwrap_or_else(|| Value::Object(Default::default()));
    let in_json =
        |e: serde_json::Error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, e.into());
    whole["saved"] = serde_json::to_value(&saved).map_err(in_json)?;
    // A million decisions need not take the way through JSON once more.
    whole["table"] = serde_json::to_value(nothing(0, 1)).map_err(in_json)?;
    let state: State = serde_json::from_value(whole).map_err(in_json)?;
    Ok(Some(State { table, ..state }))
}

pub fn nothing(taken_us: TimeUs, next_id: u64) -> Snapshot {
    Snapshot { taken_us, next_id, decisions: Vec::new(), allow: Vec::new() }
}

/// What the file holds, as far as it takes to know what is not written again.
#[derive(Debug, Default)]
pub struct Written {
    /// The boot that ends are stored in.
    boot_id: String,
    rest: String,
    allow: Vec<Allow>,
    /// The two above are known.
    known: bool,
}

impl Written {
    /// What was just read.
    pub fn of(state: &State) -> Self {
        Self { boot_id: state.saved.boot_id.clone(), ..Self::default() }
    }

    /// Writes what changed since the last time.
    pub fn save(&mut self, db: &mut Connection, now: TimeUs, state: &State, table: &Decisions) -> rusqlite::Result<()> {
        let change = db.transaction()?;
        let at = &state.saved;
        let anew = self.boot_id != at.boot_id;
        if anew {
            // Another boot, another clock.
            change.execute("DELETE FROM decision", [])?;
            let all: Vec<u64> = table.iter().map(|d| d.id).collect();
            decisions(&change, now, at, table, all.into_iter())?;
        } else {
            decisions(&change, now, at, table, table.unstored())?;
        }
        let allow = table.guard().allow();
        if anew || !self.known || self.allow != allow {
            change.execute("DELETE FROM allow", [])?;
            let mut add = change.prepare_cached("INSERT OR REPLACE INTO allow VALUES (?1, ?2, ?3)")?;
            for a in allow {
                let end = end(a.expires_us.map(|e| e.saturating_sub(now)), at);
                add.execute(params![a.prefix.to_string(), end, json(a)?])?;
            }
        }
        put(&change, SAVED, at)?;
        put(&change, TAKEN, &now)?;
        put(&change, NEXT_ID, &table.next_id())?;
        let rest = rest(state)?;
        if rest != self.rest {
            put_text(&change, REST, &rest)?;
        }
        change.commit()?;
        *self = Self { boot_id: at.boot_id.clone(), rest, allow: allow.to_vec(), known: true };
        Ok(())
    }
}

/// Writes a state as it is, in the terms of its own boot; what was there is replaced.
pub fn write_whole(db: &mut Connection, state: &State) -> rusqlite::Result<()> {
    let change = db.transaction()?;
    change.execute_batch("DELETE FROM decision; DELETE FROM allow;")?;
    let (at, table) = (&state.saved, &state.table);
    {
        let mut add = change.prepare_cached("INSERT OR REPLACE INTO decision VALUES (?1, ?2, ?3, ?4)")?;
        for s in &table.decisions {
            let d = &s.decision;
            add.execute(params![d.id as i64, d.target.to_string(), end(s.remaining_us, at), json(s)?])?;
        }
        let mut add = change.prepare_cached("INSERT OR REPLACE INTO allow VALUES (?1, ?2, ?3)")?;
        for a in &table.allow {
            let left = a.expires_us.map(|e| e.saturating_sub(table.taken_us));
            add.execute(params![a.prefix.to_string(), end(left, at), json(a)?])?;
        }
    }
    put(&change, SAVED, at)?;
    put(&change, TAKEN, &table.taken_us)?;
    put(&change, NEXT_ID, &table.next_id)?;
    put_text(&change, REST, &rest(state)?)?;
    change.commit()
}

fn end(remaining_us: Option<u64>, at: &Saved) -> Option<i64> {
    remaining_us.map(|r| i64::try_from(at.boottime_us.saturating_add(r)).unwrap_or(i64::MAX))
}

fn decisions(
    change: &Transaction<'_>,
    now: TimeUs,
    at: &Saved,
    table: &Decisions,
    ids: impl Iterator<Item = u64>,
) -> rusqlite::Result<()> {
    let mut put = change.prepare_cached("INSERT OR REPLACE INTO decision VALUES (?1, ?2, ?3, ?4)")?;
    let mut delete = change.prepare_cached("DELETE FROM decision WHERE id = ?1")?;
    for id in ids {
        match table.stored(id, now) {
            Some(s) => {
                let target = s.decision.target.to_string();
                put.execute(params![id as i64, target, end(s.remaining_us, at), json(&s)?])?
            }
            None => delete.execute([id as i64])?,
        };
    }
    Ok(())
}

/// Everything of the state that has no table of its own.
fn rest(state: &State) -> rusqlite::Result<String> {
    let mut whole = serde_json::to_value(state).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
    if let Value::Object(fields) = &mut whole {
        APART.iter().for_each(|name| drop(fields.remove(*name)));
    }
    json(&whole)
}
