//! Parquet, by the crate's column writers: row groups of a bounded size, columns as `SCHEMA.md` lists them.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, Type, TypePtr};

use super::{Row, Shape, Writer};
use crate::columns::{Cell, Column, Kind, columns};

/// Rows of a row group: they wait in memory, about 700 bytes each, until it is written.
const GROUP_ROWS: usize = 1 << 16;
/// Text that waits at most, bytes, whatever the number of rows.
const GROUP_TEXT: usize = 32 << 20;
/// Texts of one column that are kept to be shared.
const SHARED_TEXTS: usize = 4096;

/// Columns in which hardly a value occurs twice: a dictionary would be made and thrown away.
const UNIQUE: [&str; 4] = ["flow_id", "start", "end", "community_id"];

pub(super) struct Parquet<W: Write + Send> {
    /// `None` once finished.
    out: Option<SerializedFileWriter<W>>,
    columns: Vec<(Column, Waiting)>,
    rows: usize,
    text: usize,
}

/// Values of a column that are not written yet, and for each row whether it has one.
#[derive(Default)]
struct Waiting {
    present: Vec<i16>,
    bools: Vec<bool>,
    ints: Vec<i32>,
    longs: Vec<i64>,
    reals: Vec<f64>,
    texts: Vec<ByteArray>,
    shared: HashMap<String, ByteArray, foldhash::fast::RandomState>,
    /// Hardly a value occurs twice: none is kept to be shared.
    unique: bool,
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
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_created_by(format!("weir {}", env!("CARGO_PKG_VERSION")));
        for name in UNIQUE {
            let path = ColumnPath::from(name);
            properties = properties.set_column_dictionary_enabled(path.clone(), false);
            if name != "community_id" {
                properties = properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
            }
        }
        let schema = schema(&columns).map_err(io_error)?;
        let out = SerializedFileWriter::new(out, schema, Arc::new(properties.build())).map_err(io_error)?;
        let waiting = |c: &Column| Waiting { unique: UNIQUE.contains(&c.name.as_ref()), ..Waiting::default() };
        let columns = columns.into_iter().map(|c| (waiting(&c), c)).map(|(w, c)| (c, w)).collect();
        Ok(Self { out: Some(out), columns, rows: 0, text: 0 })
    }

    fn group(&mut self) -> Result<(), ParquetError> {
        self.text = 0;
        if std::mem::take(&mut self.rows) == 0 {
            return Ok(());
        }
        let Some(out) = &mut self.out else { return Ok(()) };
        let mut group = out.next_row_group()?;
        for (column, waiting) in &mut self.columns {
            let Some(mut to) = group.next_column()? else {
                return Err(ParquetError::General(format!("no place for column `{}`", column.name)));
            };
            waiting.write(to.untyped())?;
            to.close()?;
        }
        group.close()?;
        Ok(())
    }
}

impl Waiting {
    /// Takes a value; returns the bytes of text that it holds on to.
    fn push(&mut self, kind: Kind, cell: &Cell<'_>) -> usize {
        self.present.push(i16::from(*cell != Cell::Null));
        match (kind, cell) {
            (_, Cell::Null) => {}
            (_, Cell::Bool(b)) => self.bools.push(*b),
            (_, Cell::Real(v)) => self.reals.push(*v),
            // Unsigned values lie in signed ones, bit by bit (the format's INTEGER type).
            (Kind::U8 | Kind::U16 | Kind::U32, Cell::Int(v) | Cell::Time(v)) => self.ints.push(*v as u32 as i32),
            (Kind::Time, Cell::Int(v) | Cell::Time(v)) => self.longs.push(i64::try_from(*v).unwrap_or(i64::MAX)),
            (_, Cell::Int(v) | Cell::Time(v)) => self.longs.push(*v as i64),
            (_, Cell::Text(t)) if self.unique => {
                self.texts.push(ByteArray::from(t.as_bytes().to_vec()));
                return t.len();
            }
            (_, Cell::Text(t)) => {
                if let Some(same) = self.shared.get(t.as_ref()) {
                    self.texts.push(same.clone());
                    return 0;
                }
                let text = ByteArray::from(t.as_bytes().to_vec());
                if self.shared.len() < SHARED_TEXTS {
                    self.shared.insert(t.as_ref().to_owned(), text.clone());
                }
                self.texts.push(text);
                return 2 * t.len();
            }
        }
        0
    }

    fn write(&mut self, to: &mut ColumnWriter<'_>) -> Result<(), ParquetError> {
        let present = Some(self.present.as_slice());
        match to {
            ColumnWriter::BoolColumnWriter(to) => to.write_batch(&self.bools, present, None)?,
            ColumnWriter::Int32ColumnWriter(to) => to.write_batch(&self.ints, present, None)?,
            ColumnWriter::Int64ColumnWriter(to) => to.write_batch(&self.longs, present, None)?,
            ColumnWriter::DoubleColumnWriter(to) => to.write_batch(&self.reals, present, None)?,
            ColumnWriter::ByteArrayColumnWriter(to) => to.write_batch(&self.texts, present, None)?,
            _ => return Err(ParquetError::General("a column of a type that Weir does not write".into())),
        };
        self.present.clear();
        self.bools.clear();
        self.ints.clear();
        self.longs.clear();
        self.reals.clear();
        self.texts.clear();
        self.shared.clear();
        Ok(())
    }
}

impl<W: Write + Send> Writer for Parquet<W> {
    fn write(&mut self, row: &Row<'_>) -> io::Result<()> {
        for (column, waiting) in &mut self.columns {
            self.text += waiting.push(column.kind, &column.get(row));
        }
        self.rows += 1;
        if self.rows >= GROUP_ROWS || self.text >= GROUP_TEXT { self.group().map_err(io_error) } else { Ok(()) }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.group().map_err(io_error)?;
        let Some(out) = self.out.take() else { return Ok(()) };
        out.into_inner().map_err(io_error)?.flush()
    }
}
