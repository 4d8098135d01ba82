//! Tab- or otherwise separated, with lines of directives (`#separator`, `#fields`, ...) anywhere in the file.

use std::io::BufRead;

use super::conn::{Conn, Field, counts, field};
use crate::report::{Halt, SourceError};
use crate::text::fields::Cutter;
use crate::text::lines::{Line, each_line};
use crate::text::rows::{Bad, Rows};

/// Longest separator, bytes.
const MAX_SEPARATOR: usize = 16;

/// What the directives say of the rows that follow.
struct Header {
    cutter: Cutter,
    told_separator: bool,
    unset: Vec<u8>,
    empty: Vec<u8>,
    path: Vec<u8>,
    state: Columns,
}

enum Columns {
    /// No `#fields` yet.
    Unknown,
    /// Those of another log.
    Other,
    Conn {
        width: usize,
        fields: Vec<(usize, Field)>,
    },
}

pub(super) fn read(reader: &mut dyn BufRead, mut rows: Rows<'_>) -> Result<(), Halt> {
    let mut header = Header {
        cutter: Cutter::new(b"\t", false),
        told_separator: false,
        unset: b"-".to_vec(),
        empty: b"(empty)".to_vec(),
        path: Vec::new(),
        state: Columns::Unknown,
    };
    let mut scratch = Vec::new();
    let mut any_conn = false;
    let mut nameless = 0_u64;
    each_line(reader, |line| {
        if !rows.readable(&line) {
            return Ok(());
        }
        if let Some(at) = line.text.iter().position(|b| !b.is_ascii_whitespace())
            && line.text[at] == b'#'
        {
            let directive = &line.text[at + 1..];
            let fields = header.take(directive, &mut rows, &line);
            any_conn |= matches!(header.state, Columns::Conn { .. });
            if fields && matches!(header.state, Columns::Other) && !any_conn {
                return Err(header.not_conn().into());
            }
            return Ok(());
        }
        rows.report.read += 1;
        nameless += u64::from(matches!(header.state, Columns::Unknown));
        match header.row(&line) {
            Ok(conn) => {
                if let Err(bad) = conn.hand_on(&mut rows, &mut scratch)? {
                    rows.leave_out(&line, bad);
                }
            }
            Err(bad) => rows.leave_out(&line, bad),
        }
        Ok(())
    })?;
    if nameless > 0 && !any_conn {
        return Err(SourceError::Unknown(
            "has no line `#fields`, so that nothing tells its columns; take the log with its header".into(),
        )
        .into());
    }
    Ok(())
}

impl Header {
    /// Takes a directive (without `#`) and says whether it was `#fields`.
    fn take(&mut self, directive: &[u8], rows: &mut Rows<'_>, line: &Line<'_>) -> bool {
        if let Some(text) = directive.strip_prefix(b"separator") {
            match unescape(text.trim_ascii()) {
                Some(s) if !s.is_empty() && s.len() <= MAX_SEPARATOR && !s.contains(&b'\n') => {
                    self.cutter = Cutter::new(&s, false);
                    self.told_separator = true;
                }
                _ => {
                    let shown = String::from_utf8_lossy(text);
                    rows.report.warn(format!("line {}: `#separator{shown}` is none; going on without", line.number));
                }
            }
            return false;
        }
        let end = directive.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_').unwrap_or(directive.len());
        let (name, rest) = directive.split_at(end);
        if name == b"fields"
            && !self.told_separator
            && let Some(&b) = rest.first()
        {
            self.cutter = Cutter::new(&[b], false);
        }
        let value = rest.strip_prefix(self.cutter.separator()).unwrap_or(rest);
        match name {
            b"unset_field" => self.unset = value.to_vec(),
            b"empty_field" => self.empty = value.to_vec(),
            b"path" => {
                self.path = value.trim_ascii().to_vec();
            }
            b"fields" => {
                self.state = self.columns(value);
                return true;
            }
            // #set_separator (no sets are read), #types, #open, #close and remarks.
            _ => {}
        }
        false
    }

    fn columns(&mut self, names: &[u8]) -> Columns {
        let Ok(by_separator) = self.cutter.cut(names) else { return Columns::Other };
        // IoT-23 wrote its labels behind blanks into the last column, names and values alike.
        let flat: Vec<&[u8]> =
            by_separator.iter().flat_map(|n| n.split(|b| b.is_ascii_whitespace()).filter(|n| !n.is_empty())).collect();
        let fields: Vec<(usize, Field)> =
            flat.iter().enumerate().filter_map(|(i, name)| Some((i, field(name)?))).collect();
        let known: Vec<Field> = fields.iter().map(|(_, f)| *f).collect();
        // `conn`, and names that people and tools derive from it: `conn_long`, `open_conn`.
        let path = self.path.is_empty() || memchr::memmem::find(&self.path, b"conn").is_some();
        if path && counts(&known) { Columns::Conn { width: flat.len(), fields } } else { Columns::Other }
    }

    fn not_conn(&self) -> SourceError {
        let path = String::from_utf8_lossy(&self.path);
        SourceError::Unknown(if path.is_empty() {
            "has none of conn.log's columns `conn_state`, `orig_pkts` and `orig_bytes`; flows are in conn.log".into()
        } else {
            format!("is Zeek's log `{path}`; flows are in conn.log")
        })
    }

    fn row<'a>(&'a mut self, line: &Line<'a>) -> Result<Conn<'a>, Bad<'a>> {
        let text = line.text;
        let (width, columns) = match &self.state {
            Columns::Unknown => return Err(Bad::new("row before a line `#fields`", text)),
            Columns::Other => return Err(Bad::new("row of another Zeek log", text)),
            Columns::Conn { width, fields } => (*width, fields),
        };
        let found = self.cutter.cut(text).map_err(|_| Bad::new("row with too many columns", text))?.len();
        if found != width && !(found <= width && self.cutter.cut_last(text, width)) {
            let reason = if found > width {
                "row with more columns than #fields"
            } else {
                "row with fewer columns than #fields"
            };
            return Err(Bad::new(reason, text));
        }
        let fields = self.cutter.fields(text);
        let mut conn = Conn::EMPTY;
        for &(column, field) in columns {
            let value = fields.get(column).unwrap_or_default();
            let missing = value == self.unset || value == self.empty;
            // Sets tell their labels apart from Zeek's own fields, and write `-` and `(empty)` there whatever Zeek does.
            let missing =
                missing || (matches!(field, Field::Label | Field::Detail) && matches!(value, b"-" | b"(empty)"));
            conn.set(field, if missing { &[] } else { value });
        }
        Ok(conn)
    }
}

/// `\x09` and the like as bytes; `None` where an escape is broken.
fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'\\' {
            let hex = std::str::from_utf8(after.strip_prefix(b"x")?.get(..2)?).ok()?;
            out.push(u8::from_str_radix(hex, 16).ok()?);
            rest = after.get(3..)?;
        } else {
            out.push(*first);
        }
    }
    Some(out)
}
