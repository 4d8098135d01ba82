//! Writing flows: a table for people, JSON lines, CSV and Parquet.

mod csv;
mod features;
mod json;
mod parquet;
mod table;

use std::io::{self, Write};

pub use crate::columns::Row;
pub use features::FeatureWriter;
pub(crate) use parquet::{Values, physical_type};

/// How flows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    Table,
    Json,
    Csv,
    Parquet,
}

/// What the rows have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// They were scored.
    pub scored: bool,
    /// Anomalies come with reasons. Only the table asks.
    pub explained: bool,
}

/// Takes rows in order. Memory is bounded whatever their number.
pub trait Writer {
    fn write(&mut self, row: &Row<'_>) -> io::Result<()>;

    /// Many rows at once, as one by one; some forms take them faster so.
    fn write_all(&mut self, rows: &[Row<'_>]) -> io::Result<()> {
        rows.iter().try_for_each(|row| self.write(row))
    }

    /// Writes what is left; without it the output is not whole.
    fn finish(&mut self) -> io::Result<()>;
}

/// A writer onto `out`, which it buffers itself.
pub fn writer<W: Write + Send + 'static>(form: Form, shape: Shape, out: W) -> io::Result<Box<dyn Writer>> {
    Ok(match form {
        Form::Table => Box::new(table::Table::new(out, shape)),
        Form::Json => Box::new(json::Json::new(out)),
        Form::Csv => Box::new(csv::Csv::new(out, shape)?),
        Form::Parquet => Box::new(parquet::Parquet::new(out, shape)?),
    })
}

#[cfg(test)]
mod tests;
