//! Parquet, by the crate's column writers: row groups of a bounded size, columns as `SCHEMA.md` lists them.
//!
//! What comes in many rows at once goes column by column: each column's values are then near each other, and how it is taken
//! from a row is compiled into its loop.

mod values;

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, Type, TypePtr};

use super::{Row, Shape, Writer};
use crate::columns::{Column, Kind, columns};
pub(crate) use values::Values;

/// Rows of a row group: they wait in memory, about 700 bytes each, until it is written.
const GROUP_ROWS: usize = 1 << 16;
/// Text that waits at most, bytes, whatever the number of rows.
const GROUP_TEXT: usize = 32 << 20;
/// Rows that are taken column by column: they stay in the nearest caches meanwhile.
const BLOCK: usize = 64;

/// A column of texts in which hardly one occurs twice: a dictionary would be made and thrown away.
const UNIQUE: &str = "community_id";
/// Columns by which readers pass over row groups, which takes their smallest and largest values.
const RANGES: [&str; 2] = ["start", "end"];

pub(super) struct Parquet<W: Write + Send> {
    /// `None` once finished.
    out: Option<SerializedFileWriter<W>>,
    columns: Vec<(Column, Values)>,
    rows: usize,
}

/// The physical and the logical type of a column.
fn types(kind: Kind) -> (Physical, Option<LogicalType>) {
    match kind {
        Kind::Bool => (Physical::BOOLEAN, None),
        Kind::U8 => (Physical::INT32, Some(LogicalType::integer(8, false))),
        Kind::U16 => (Physical::INT32, Some(LogicalType::integer(16, false))),
        Kind::U32 => (Physical::INT32, Some(LogicalType::integer(32, false))),
        Kind::U64 => (Physical::INT64, Some(LogicalType::integer(64, false))),
        Kind::F64 => (Physical::DOUBLE, None),
        Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
    }
}

/// The physical type of a column.
pub(crate) fn physical_type(kind: Kind) -> Physical {
    types(kind).0
}

fn schema(columns: &[Column]) -> Result<TypePtr, ParquetError> {
    let fields = columns.iter().map(|c| {
        let (physical, logical) = types(c.kind);
        let repetition = if c.nullable { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        Type::primitive_type_builder(&c.name, physical)
            .with_repetition(repetition)
            .with_logical_type(logical)
            .build()
            .map(Arc::new)
    });
    Ok(Arc::new(Type::group_type_builder("flow").with_fields(fields.collect::<Result<_, _>>()?).build()?))
}

/// An error of the file below keeps its kind: a closed pipe is none to a person.
pub(super) fn io_error(e: ParquetError) -> io::Error {
    match e {
        ParquetError::External(e) => match e.downcast::<io::Error>() {
            Ok(e) => *e,
            Err(e) => io::Error::other(e),
        },
        e => io::Error::other(e),
    }
}

impl<W: Write + Send> Parquet<W> {
    pub(super) fn new(out: W, shape: Shape) -> io::Result<Self> {
        let columns = columns(shape.scored);
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).map_err(io_error)?))
            .set_statistics_enabled(EnabledStatistics::None)
            .set_created_by(format!("weir {}", env!("CARGO_PKG_VERSION")));
        for c in &columns {
            let path = ColumnPath::from(c.name.as_ref());
            let number = matches!(types(c.kind).0, Physical::INT32 | Physical::INT64);
            // A dictionary of numbers costs a look-up for each, and takes no less room than packed differences.
            if number || c.name == UNIQUE {
                properties = properties.set_column_dictionary_enabled(path.clone(), false);
            }
            if number {
                properties = properties.set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
            }
            if RANGES.contains(&c.name.as_ref()) {
                properties = properties.set_column_statistics_enabled(path, EnabledStatistics::Chunk);
            }
        }
        let schema = schema(&columns).map_err(io_error)?;
        let out = SerializedFileWriter::new(out, schema, Arc::new(properties.build())).map_err(io_error)?;
        let columns = columns.into_iter().map(|c| {
            let values = Values::new(c.nullable, c.name == UNIQUE);
            (c, values)
        });
        Ok(Self { out: Some(out), columns: columns.collect(), rows: 0 })
    }

    fn group(&mut self) -> Result<(), ParquetError> {
        if std::mem::take(&mut self.rows) == 0 {
            return Ok(());
        }
        let Some(out) = &mut self.out else { return Ok(()) };
        let mut group = out.next_row_group()?;
        for (column, values) in &mut self.columns {
            let Some(mut to) = group.next_column()? else {
                return Err(ParquetError::General(format!("no place for column `{}`", column.name)));
            };
            values.write(to.untyped())?;
            to.close()?;
        }
        group.close()?;
        Ok(())
    }
}

impl<W: Write + Send> Writer for Parquet<W> {
    fn write(&mut self, row: &Row<'_>) -> io::Result<()> {
        self.write_all(std::slice::from_ref(row))
    }

    fn write_all(&mut self, rows: &[Row<'_>]) -> io::Result<()> {
        for block in rows.chunks(BLOCK) {
            // Blocks have no say in where a row group ends.
            let (now, later) = block.split_at(block.len().min(GROUP_ROWS - self.rows));
            for part in [now, later].into_iter().filter(|part| !part.is_empty()) {
                for (column, values) in &mut self.columns {
                    column.fill(part, values);
                }
                self.rows += part.len();
                let text = || self.columns.iter().map(|(_, v)| v.held()).sum::<usize>();
                if self.rows >= GROUP_ROWS || text() >= GROUP_TEXT {
                    self.group().map_err(io_error)?;
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.group().map_err(io_error)?;
        let Some(out) = self.out.take() else { return Ok(()) };
        out.into_inner().map_err(io_error)?.flush()
    }
}
