//! What happened is kept for a time and up to a size. What enforces is never removed here.

use std::time::Duration;

use rusqlite::Connection;
use weir_core::record::TimeUs;

/// Rows that are removed in one go, so that others come to write in between.
const AT_ONCE: usize = 500;
/// Pages that are given back to the file system in one go.
const PAGES: u32 = 256;

/// How long, and how much, is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub max_age: Duration,
    /// Bytes of the file, as far as it is in use, without what enforces.
    pub max_size: u64,
}

/// Tables of what happened, and what identifies their rows.
const TABLES: [(&str, &str); 4] = [("alert", "id"), ("history", "seq"), ("audit", "seq"), ("evidence", "id")];

/// Removes what is too old, then the oldest until the rest fits, and gives the room back.
pub fn prune(db: &Connection, bounds: Bounds, now: TimeUs) -> rusqlite::Result<()> {
    let age = u64::try_from(bounds.max_age.as_micros()).unwrap_or(u64::MAX);
    let limit = now.saturating_sub(age);
    for (table, id) in TABLES {
        while oldest(db, table)?.is_some_and(|time| time < limit) {
            remove(db, table, id, limit)?;
        }
    }
    if used(db)? > bounds.max_size {
        shrink(db, bounds.max_size.saturating_add(enforcing(db)?))?;
    }
    give_back(db)
}

/// Removes the oldest until the file is in use for no more than `most` bytes.
fn shrink(db: &Connection, most: u64) -> rusqlite::Result<()> {
    while used(db)? > most {
        let mut first = None::<(TimeUs, (&str, &str))>;
        for at in TABLES {
            if let Some(time) = oldest(db, at.0)?
                && first.is_none_or(|(least, _)| time < least)
            {
                first = Some((time, at));
            }
        }
        // What is left is what enforces.
        let Some((_, (table, id))) = first else { break };
        remove(db, table, id, TimeUs::MAX)?;
    }
    Ok(())
}

/// About the bytes that what enforces takes, indices included.
fn enforcing(db: &Connection) -> rusqlite::Result<u64> {
    const ROW: &str = "24";
    let bytes: i64 = db.query_row(
        &format!(
            "SELECT (SELECT total(length(body) + length(target) + {ROW}) FROM decision) \
             + (SELECT total(length(body) + 2 * length(subject) + 2 * {ROW}) FROM document)"
        ),
        [],
        |r| r.get::<_, f64>(0).map(|n| n as i64),
    )?;
    Ok(bytes as u64)
}

fn oldest(db: &Connection, table: &str) -> rusqlite::Result<Option<TimeUs>> {
    let time: Option<i64> = db.query_row(&format!("SELECT min(time_us) FROM {table}"), [], |r| r.get(0))?;
    Ok(time.map(|t| t as u64))
}

/// The oldest rows, as far as they are from before `limit`.
fn remove(db: &Connection, table: &str, id: &str, limit: TimeUs) -> rusqlite::Result<()> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    db.execute_batch("BEGIN IMMEDIATE")?;
    let removed = db
        .execute(
            &format!(
                "DELETE FROM {table} WHERE {id} IN \
                 (SELECT {id} FROM {table} WHERE time_us < ?1 ORDER BY time_us LIMIT {AT_ONCE})"
            ),
            [limit],
        )
        .and_then(|_| match table {
            "alert" => db.execute("DELETE FROM course WHERE alert_id NOT IN (SELECT id FROM alert)", []),
            _ => Ok(0),
        });
    match removed {
        Ok(_) => db.execute_batch("COMMIT"),
        Err(e) => {
            // What failed is what is told of; the connection is closed then.
            let _ = db.execute_batch("ROLLBACK");
            Err(e)
        }
    }
}

fn pages(db: &Connection, name: &str) -> rusqlite::Result<u64> {
    db.query_row(&format!("PRAGMA {name}"), [], |r| r.get::<_, i64>(0)).map(|n| n as u64)
}

/// Bytes of pages that hold something.
fn used(db: &Connection) -> rusqlite::Result<u64> {
    Ok((pages(db, "page_count")? - pages(db, "freelist_count")?) * pages(db, "page_size")?)
}

fn give_back(db: &Connection) -> rusqlite::Result<()> {
    let mut free = pages(db, "freelist_count")?;
    // Some room is kept: it will be needed again soon.
    while free > u64::from(PAGES) {
        let mut step = db.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
        let mut rows = step.query([])?;
        while rows.next()?.is_some() {}
        drop(rows);
        let rest = pages(db, "freelist_count")?;
        if rest >= free {
            break;
        }
        free = rest;
    }
    Ok(())
}
