//! CSV (RFC 4180): a header row, then a row per flow. Without the packet statistics: those are in Parquet and JSON.

use std::io::{self, Write};

use weir_core::render::Rfc3339;

use super::{Row, Shape, Writer};
use crate::columns::{Cell, Column, columns};

pub(super) struct Csv<W: Write> {
    out: csv::Writer<W>,
    columns: Vec<Column>,
    text: String,
}

impl<W: Write> Csv<W> {
    pub(super) fn new(out: W, shape: Shape) -> io::Result<Self> {
        let columns: Vec<_> = columns(shape.scored).into_iter().filter(|c| !c.is_statistic()).collect();
        let mut out =
            csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).buffer_capacity(1 << 16).from_writer(out);
        out.write_record(columns.iter().map(|c| c.name.as_bytes())).map_err(io_error)?;
        Ok(Self { out, columns, text: String::new() })
    }
}

/// An error of the file below keeps its kind: a closed pipe is none to a person.
fn io_error(e: csv::Error) -> io::Error {
    match e.into_kind() {
        csv::ErrorKind::Io(e) => e,
        e => io::Error::other(format!("{e:?}")),
    }
}

impl<W: Write> Writer for Csv<W> {
    fn write(&mut self, row: &Row<'_>) -> io::Result<()> {
        use std::fmt::Write as _;
        for column in &self.columns {
            self.text.clear();
            let text = &mut self.text;
            // Writing to a string cannot fail.
            let _ = match column.get(row) {
                Cell::Null => Ok(()),
                Cell::Bool(b) => write!(text, "{b}"),
                Cell::Int(v) => write!(text, "{v}"),
                Cell::Real(v) => write!(text, "{v}"),
                Cell::Time(v) => write!(text, "{}", Rfc3339(v)),
                Cell::Text(t) => text.write_str(&t),
                Cell::Ip(addr) => write!(text, "{addr}"),
            };
            self.out.write_field(text.as_bytes()).map_err(io_error)?;
        }
        self.out.write_record(None::<&[u8]>).map_err(io_error)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
