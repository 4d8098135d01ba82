//! Writing to stdout: aligned tables, JSON lines, relative times.

use std::io::{self, Write};

use serde::Serialize;
use weir_core::record::TimeUs;

use super::args::Format;
use crate::human;

/// Rows under a header; the last column is not padded.
pub struct Table {
    header: Vec<&'static str>,
    /// Columns with figures, right-aligned.
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A name that starts with `>` heads a column of figures.
    pub fn new(columns: &[&'static str]) -> Self {
        Self {
            header: columns.iter().map(|c| c.trim_start_matches('>')).collect(),
            right: columns.iter().map(|c| c.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.header.len());
        self.rows.push(cells.into_iter().map(|c| clean(&c)).collect());
    }

    pub fn render(&self) -> String {
        let width = |i: usize| {
            let cells = self.rows.iter().map(|r| r[i].chars().count());
            cells.chain([self.header[i].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.header.len()).map(width).collect();
        let mut out = String::new();
        let mut line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut text = String::new();
            for (i, cell) in cells.enumerate() {
                let w = widths[i];
                if i > 0 {
                    text.push_str("  ");
                }
                text += &if self.right[i] { format!("{cell:>w$}") } else { format!("{cell:<w$}") };
            }
            out.push_str(text.trim_end());
            out.push('\n');
        };
        line(&mut self.header.iter().copied());
        for row in &self.rows {
            line(&mut row.iter().map(String::as_str));
        }
        out
    }
}

/// Without control characters: what a terminal shows must not be steered by a comment or reason, nor look like something else.
pub fn clean(s: &str) -> String {
    s.chars().map(|c| if c.is_control() || is_unseen(c) { '\u{fffd}' } else { c }).collect()
}

/// What turns the direction of writing around, or takes no place.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// "in 59m", "3s ago", "now".
pub fn relative(at: TimeUs, now: TimeUs) -> String {
    let distance = human::rough(human::micros(at.abs_diff(now) / 1_000_000 * 1_000_000));
    match at.cmp(&now) {
        _ if distance == "0s" => "now".into(),
        std::cmp::Ordering::Greater => format!("in {distance}"),
        _ => format!("{distance} ago"),
    }
}

/// Where results go. Errors (a closed pipe) end the command.
pub struct Output {
    pub format: Format,
}

impl Output {
    pub fn json(&self) -> bool {
        self.format == Format::Json
    }

    /// Text as it is.
    pub fn text(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// One object on one line.
    pub fn object(&self, value: &impl Serialize) -> io::Result<()> {
        self.text(&(serde_json::to_string(value)? + "\n"))
    }

    /// Objects line by line as JSON, rows of CSV with the same keys, or what `table` makes of them.
    pub fn list<T: Serialize>(&self, items: &[T], table: impl FnOnce(&[T]) -> String) -> io::Result<()> {
        match self.format {
            Format::Csv => return self.text(&csv(items)?),
            Format::Json => {}
            Format::Table | Format::Parquet => return self.text(&table(items)),
        }
        let mut text = String::new();
        for item in items {
            text += &serde_json::to_string(item)?;
            text.push('\n');
        }
        self.text(&text)
    }
}

/// The objects as CSV (RFC 4180): a column for each key of their JSON, sorted; what is no plain value as JSON.
pub fn csv<T: Serialize>(items: &[T]) -> io::Result<String> {
    use serde_json::Value;
    let mut rows = Vec::with_capacity(items.len());
    let mut keys = std::collections::BTreeSet::new();
    for item in items {
        if let Value::Object(row) = serde_json::to_value(item)? {
            keys.extend(row.keys().cloned());
            rows.push(row);
        }
    }
    let mut out = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    if !keys.is_empty() {
        out.write_record(&keys)?;
    }
    for row in &rows {
        let cells = keys.iter().map(|k| match row.get(k) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(s)) => s.clone(),
            Some(v) => v.to_string(),
        });
        out.write_record(cells)?;
    }
    let bytes = out.into_inner().map_err(|e| io::Error::other(e.to_string()))?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_cannot_steer_the_terminal() {
        let mut t = Table::new(&["NAME", ">PACKETS", "NOTE"]);
        t.row(vec!["blocked".into(), "1,234".into(), "a\x1b[2Jb".into()]);
        t.row(vec!["é".into(), "7".into(), String::new()]);
        assert_eq!(t.render(), "NAME     PACKETS  NOTE\nblocked    1,234  a\u{fffd}[2Jb\né              7\n");
    }

    #[test]
    fn what_is_shown_reads_as_it_is_written() {
        assert_eq!(clean("203.0.113.7\u{202e}66\u{200b}!"), "203.0.113.7\u{fffd}66\u{fffd}!");
        assert_eq!(clean("né ünïcode 日本"), "né ünïcode 日本");
    }

    #[test]
    fn times_are_relative_to_now() {
        let now = 10_000_000_000;
        assert_eq!(relative(now + 3_599_900_000, now), "in 59m");
        assert_eq!(relative(now - 3_000_000, now), "3s ago");
        assert_eq!(relative(now + 900_000, now), "now");
    }
}
