//! Rows of features as Parquet, for whoever fits models elsewhere: see `SCHEMA.md`.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;

use super::parquet::io_error;

const GROUP_ROWS: usize = 1 << 16;

/// Writes the rows of one profile. Memory is bounded by a row group.
pub struct FeatureWriter<W: Write + Send> {
    out: SerializedFileWriter<W>,
    rows: FeatureMatrix,
    parts: Vec<ByteArray>,
    times: Vec<Option<i64>>,
}

impl<W: Write + Send> FeatureWriter<W> {
    /// `about` goes into the file's metadata.
    pub fn new(out: W, profile: ProfileId, about: &[(&str, String)]) -> io::Result<Self> {
        Self::open(out, profile, about).map_err(io_error)
    }

    fn open(out: W, profile: ProfileId, about: &[(&str, String)]) -> Result<Self, ParquetError> {
        let text = |name: &'static str| {
            Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
                .with_repetition(Repetition::REQUIRED)
                .with_logical_type(Some(LogicalType::String))
        };
        let time = Type::primitive_type_builder("time", Physical::INT64)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(Some(LogicalType::timestamp(true, TimeUnit::MICROS)));
        let mut fields = vec![text("part").build()?, text("role").build()?, time.build()?];
        for f in profile.features() {
            let column = Type::primitive_type_builder(f.name, Physical::FLOAT).with_repetition(Repetition::OPTIONAL);
            fields.push(column.build()?);
        }
        let schema = Type::group_type_builder("row").with_fields(fields.into_iter().map(Arc::new).collect()).build()?;
        let about = about.iter().map(|(k, v)| KeyValue::new((*k).to_owned(), v.clone())).collect();
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_created_by(format!("weir {}", env!("CARGO_PKG_VERSION")))
            .set_key_value_metadata(Some(about));
        let out = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties.build()))?;
        Ok(Self { out, rows: FeatureMatrix::new(profile), parts: Vec::new(), times: Vec::new() })
    }

    /// Row `i` of a matrix of the profile, what it is for, and when it became known, microseconds since the Unix epoch.
    pub fn write(&mut self, matrix: &FeatureMatrix, i: usize, part: &str, time_us: Option<u64>) -> io::Result<()> {
        self.rows.push_from(matrix, i);
        self.parts.push(part.into());
        self.times.push(time_us.and_then(|t| i64::try_from(t).ok()));
        if self.parts.len() >= GROUP_ROWS { self.group().map_err(io_error) } else { Ok(()) }
    }

    fn group(&mut self) -> Result<(), ParquetError> {
        let profile = self.rows.profile();
        let rows = std::mem::replace(&mut self.rows, FeatureMatrix::new(profile));
        let (parts, times) = (std::mem::take(&mut self.parts), std::mem::take(&mut self.times));
        if parts.is_empty() {
            return Ok(());
        }
        let mut group = self.out.next_row_group()?;
        let roles: Vec<ByteArray> = (0..rows.len()).map(|i| rows.role(i).to_string().as_str().into()).collect();
        let mut column = 0;
        while let Some(mut to) = group.next_column()? {
            match (column, to.untyped()) {
                (0, ColumnWriter::ByteArrayColumnWriter(to)) => to.write_batch(&parts, None, None)?,
                (1, ColumnWriter::ByteArrayColumnWriter(to)) => to.write_batch(&roles, None, None)?,
                (2, ColumnWriter::Int64ColumnWriter(to)) => {
                    let present: Vec<i16> = times.iter().map(|t| i16::from(t.is_some())).collect();
                    let known: Vec<i64> = times.iter().flatten().copied().collect();
                    to.write_batch(&known, Some(&present), None)?
                }
                (n, ColumnWriter::FloatColumnWriter(to)) if n >= 3 => {
                    let j = n - 3;
                    let there = |i: &usize| rows.present(*i) >> j & 1 == 1;
                    let present: Vec<i16> = (0..rows.len()).map(|i| i16::from(there(&i))).collect();
                    let known: Vec<f32> = (0..rows.len()).filter(there).map(|i| rows.row(i)[j]).collect();
                    to.write_batch(&known, Some(&present), None)?
                }
                (n, _) => return Err(ParquetError::General(format!("column {n} is of another type than its schema"))),
            };
            to.close()?;
            column += 1;
        }
        group.close()?;
        Ok(())
    }

    /// Writes what is left; without it the file is not whole.
    pub fn finish(mut self) -> io::Result<()> {
        self.group().map_err(io_error)?;
        self.out.into_inner().map_err(io_error)?.flush()
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;
    use weir_core::role::Role;

    use super::*;

    #[test]
    fn rows_read_back_with_their_parts_and_gaps() {
        let mut matrix = FeatureMatrix::new(ProfileId::Source);
        let mut row = vec![Some(2.5); ProfileId::Source.width()];
        matrix.push(&row, Role::SourceAll).unwrap();
        row[3] = None;
        matrix.push(&row, Role::SourceProven).unwrap();
        let file = tempfile::tempfile().unwrap();
        let about = [("weir.split", "0123".to_owned())];
        let mut out = FeatureWriter::new(file.try_clone().unwrap(), ProfileId::Source, &about).unwrap();
        out.write(&matrix, 0, "fit", Some(1_700_000_000_000_001)).unwrap();
        out.write(&matrix, 1, "thresholds", None).unwrap();
        out.finish().unwrap();

        let file = SerializedFileReader::new(file).unwrap();
        let told = file.metadata().file_metadata().key_value_metadata().unwrap();
        assert!(told.iter().any(|k| k.key == "weir.split" && k.value.as_deref() == Some("0123")));
        let rows: Vec<Vec<(String, Field)>> =
            file.get_row_iter(None).unwrap().map(|r| r.unwrap().into_columns()).collect();
        let cell = |i: usize, name: &str| rows[i].iter().find(|(n, _)| n == name).unwrap().1.clone();
        assert_eq!(rows.len(), 2);
        assert_eq!((cell(0, "part"), cell(1, "part")), (Field::Str("fit".into()), Field::Str("thresholds".into())));
        assert_eq!((cell(0, "role"), cell(1, "time")), (Field::Str("source".into()), Field::Null));
        assert_eq!(cell(0, "time"), Field::TimestampMicros(1_700_000_000_000_001));
        let name = ProfileId::Source.features()[3].name;
        assert_eq!((cell(0, name), cell(1, name)), (Field::Float(2.5), Field::Null));
    }
}
