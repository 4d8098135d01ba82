//! The fields of `conn.log` as CSV with a header row.

use std::io::BufRead;

use super::conn::{Conn, Field, counts, field};
use crate::report::{Halt, SourceError};
use crate::text::rows::{Bad, Rows, each_row};

pub(super) fn read(reader: &mut dyn BufRead, mut rows: Rows<'_>) -> Result<(), Halt> {
    let mut scratch = Vec::new();
    let mut width = 0_usize;
    let mut columns: Vec<(usize, Field)> = Vec::new();
    each_row(reader, &mut rows, |rows, line, row| {
        let is_header = row.get(0).is_some_and(|name| field(name).is_some());
        if columns.is_empty() || is_header {
            width = row.len();
            columns = row.iter().enumerate().filter_map(|(i, name)| Some((i, field(name)?))).collect();
            let known: Vec<Field> = columns.iter().map(|(_, f)| *f).collect();
            if !counts(&known) {
                let why = "has no header row with conn.log's columns `conn_state`, `orig_pkts` or `orig_bytes`";
                return Err(SourceError::Unknown(why.into()).into());
            }
            return Ok(());
        }
        rows.report.read += 1;
        if row.len() != width {
            let reason = if row.len() < width {
                "row with fewer columns than the header"
            } else {
                "row with more columns than the header"
            };
            rows.leave_out(line, Bad::new(reason, line.text));
            return Ok(());
        }
        let mut conn = Conn::EMPTY;
        for &(column, field) in &columns {
            let value = row.get(column).unwrap_or_default();
            conn.set(field, if matches!(value, b"-" | b"(empty)") { &[] } else { value });
        }
        if let Err(bad) = conn.hand_on(rows, &mut scratch)? {
            rows.leave_out(line, bad);
        }
        Ok(())
    })
}
