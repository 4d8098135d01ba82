//! Parquet with the columns of `SCHEMA.md`, in any order, whatever else is beside them: what other tools have filtered and
//! written again reads as well.

use std::fs::File;

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::guard::guarded;
use super::metadata;
use crate::columns::{Cell, Column, Draft, Kind, Words, columns};
use crate::report::{Halt, Report, SourceError};
use crate::sink::Sink;
use crate::write::physical_type;

/// Rows decoded at once.
const BATCH: usize = 1024;
/// Largest column of a row group, bytes unpacked. Weir's own are below 64 MiB.
const MAX_CHUNK: i64 = 1 << 30;

/// A column that is read, and where it lies in this file.
struct Place {
    column: Column,
    leaf: usize,
    /// Rows may be without a value.
    optional: bool,
}

fn places(file: &SerializedFileReader<File>) -> Result<Vec<Place>, SourceError> {
    let schema = file.metadata().file_metadata().schema_descr();
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for column in columns(false).into_iter().filter(Column::is_read) {
        let leaf = schema.columns().iter().position(|c| *c.path().parts() == [column.name.as_ref()]);
        let Some(leaf) = leaf else {
            missing.push(column.name.into_owned());
            continue;
        };
        let there = schema.column(leaf);
        let wanted = physical_type(column.kind);
        if there.physical_type() != wanted || there.max_rep_level() != 0 || there.max_def_level() > 1 {
            return Err(SourceError::Unknown(format!(
                "column `{}` is {}, expected {wanted}; write it with the types of agent/source/SCHEMA.md",
                column.name,
                there.physical_type(),
            )));
        }
        found.push(Place { column, leaf, optional: there.max_def_level() == 1 });
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let (n, some) = (missing.len(), missing.iter().take(5).cloned().collect::<Vec<_>>().join(", "));
    Err(SourceError::Unknown(format!(
        "is Parquet, but not of `weir flows`: {n} columns are missing ({some}{})",
        if n > 5 { ", ..." } else { "" }
    )))
}

pub(super) fn read(file: File, report: &mut Report, sink: &mut dyn Sink) -> Result<(), Halt> {
    let length = file.metadata()?.len();
    metadata::footer(&file, length)?;
    let bytes = file.try_clone()?;
    let file = guarded(|| SerializedFileReader::new(file))?;
    let places = places(&file)?;
    let mut words = Words::default();
    for g in 0..file.num_row_groups() {
        let group = guarded(|| file.get_row_group(g))?;
        let mut readers = Vec::with_capacity(places.len());
        for p in &places {
            let chunk = group.metadata().column(p.leaf);
            let (start, end) = within(chunk, length)?;
            metadata::pages(&bytes, start, end)?;
            let size = chunk.uncompressed_size();
            if !(0..=MAX_CHUNK).contains(&size) {
                let why = format!(
                    "column `{}` of a row group says it has {size} bytes; at most {MAX_CHUNK} are read",
                    p.column.name
                );
                return Err(SourceError::Unknown(why).into());
            }
            readers.push(Values { reader: guarded(|| group.get_column_reader(p.leaf))?, present: Vec::new() });
        }
        let mut left = usize::try_from(group.metadata().num_rows())
            .map_err(|_| SourceError::Unknown("is a damaged Parquet file: a row group of less than no rows".into()))?;
        while left > 0 {
            let n = left.min(BATCH);
            left -= n;
            let mut drafts: Vec<_> = (0..n).map(|_| (Draft::new(words.clone()), Ok(()))).collect();
            for (place, values) in places.iter().zip(&mut readers) {
                guarded(|| values.read(place, &mut drafts))?;
            }
            for (draft, fine) in drafts {
                report.read += 1;
                if let Err(why) = fine {
                    report.leave_out(why);
                    continue;
                }
                let flow;
                (flow, words) = draft.finish();
                if let Err(why) = super::sound(&flow) {
                    report.leave_out(why);
                    continue;
                }
                report.flows += 1;
                sink.flow(flow)?;
            }
        }
    }
    Ok(())
}

/// Where the pages of a column begin and end, which is in the file: the crate takes that for granted.
fn within(chunk: &ColumnChunkMetaData, length: u64) -> Result<(u64, u64), SourceError> {
    let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
    let place = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
    let place = place.and_then(|(start, size)| Some((start, start.checked_add(size)?)));
    if let Some((start, end)) = place.filter(|(_, end)| *end <= length) {
        return Ok((start, end));
    }
    let size = chunk.compressed_size();
    let why = format!("is a damaged Parquet file: {size} bytes of a column at {start}, the file has {length}");
    Err(SourceError::Unknown(why))
}

type Drafts = [(Draft, Result<(), &'static str>)];

struct Values {
    reader: ColumnReader,
    /// Definition levels: 1 where a row has a value.
    present: Vec<i16>,
}

impl Values {
    /// Sets this column of as many rows as there are drafts.
    fn read(&mut self, place: &Place, drafts: &mut Drafts) -> Result<(), ParquetError> {
        let present = &mut self.present;
        match &mut self.reader {
            ColumnReader::BoolColumnReader(r) => each(r, place, present, drafts, |v| Some(Cell::Bool(*v))),
            ColumnReader::Int32ColumnReader(r) => each(r, place, present, drafts, |v| {
                let v = u64::from(*v as u32);
                // Narrower types lie in 32 bits; a value beyond them is refused when it is set.
                Some(Cell::Int(v))
            }),
            ColumnReader::Int64ColumnReader(r) if place.column.kind == Kind::Time => {
                each(r, place, present, drafts, |v| u64::try_from(*v).ok().map(Cell::Time))
            }
            ColumnReader::Int64ColumnReader(r) => each(r, place, present, drafts, |v| Some(Cell::Int(*v as u64))),
            ColumnReader::DoubleColumnReader(r) => each(r, place, present, drafts, |v| Some(Cell::Real(*v))),
            ColumnReader::ByteArrayColumnReader(r) => each(r, place, present, drafts, text),
            _ => Err(ParquetError::General(format!(
                "column `{}` has another type than the schema says",
                place.column.name
            ))),
        }
    }
}

fn text(v: &ByteArray) -> Option<Cell<'_>> {
    std::str::from_utf8(v.data()).ok().map(|t| Cell::Text(t.into()))
}

fn each<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    place: &Place,
    present: &mut Vec<i16>,
    drafts: &mut Drafts,
    cell: fn(&T::T) -> Option<Cell<'_>>,
) -> Result<(), ParquetError> {
    present.clear();
    let mut values = Vec::with_capacity(drafts.len());
    let (rows, _, _) = reader.read_records(drafts.len(), Some(present), None, &mut values)?;
    if rows != drafts.len() {
        let (name, wanted) = (&place.column.name, drafts.len());
        return Err(ParquetError::General(format!("column `{name}` ends early: {rows} of {wanted} rows")));
    }
    let mut values = values.iter();
    for (i, (draft, fine)) in drafts.iter_mut().enumerate() {
        let there = !place.optional || present.get(i) == Some(&1);
        let cell = match there.then(|| values.next()).flatten().map(cell) {
            None => Cell::Null,
            Some(Some(cell)) => cell,
            Some(None) => {
                *fine = Err("row with a value out of range");
                continue;
            }
        };
        if let Err(why) = place.column.set(draft, &cell) {
            *fine = fine.and(Err(why));
        }
    }
    Ok(())
}
