//! Values of one column that wait for their row group.

use std::collections::HashMap;

use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use weir_core::addr::Addr;

use crate::columns::{Cell, Kind};

/// Texts of one column that are kept to be shared.
const SHARED_TEXTS: usize = 4096;
/// The first few of them are found by looking at each: words such as states are no more.
const FEW: usize = 6;

type Known<T> = HashMap<T, ByteArray, foldhash::fast::RandomState>;

/// Values, and for each row whether it has one.
#[derive(Default)]
pub(crate) struct Values {
    /// Empty where every row has a value.
    present: Vec<i16>,
    nullable: bool,
    bools: Vec<bool>,
    ints: Vec<i32>,
    longs: Vec<i64>,
    reals: Vec<f64>,
    texts: Vec<ByteArray>,
    few: Vec<ByteArray>,
    shared: Known<Box<[u8]>>,
    addresses: Known<Addr>,
    /// Hardly a value occurs twice: none is kept to be shared.
    unique: bool,
    /// Bytes of text that are held on to.
    held: usize,
}

impl Values {
    pub(super) fn new(nullable: bool, unique: bool) -> Self {
        Self { nullable, unique, ..Self::default() }
    }

    /// Takes a value. `kind` is the column's: known where this is compiled for a column, most of it then falls away.
    #[inline(always)]
    pub(crate) fn push(&mut self, kind: Kind, cell: Cell<'_>) {
        if self.nullable {
            self.present.push(i16::from(!matches!(cell, Cell::Null)));
        }
        match (kind, cell) {
            (_, Cell::Null) => {}
            (_, Cell::Bool(b)) => self.bools.push(b),
            (_, Cell::Real(v)) => self.reals.push(v),
            // Unsigned values lie in signed ones, bit by bit (the format's INTEGER type).
            (Kind::U8 | Kind::U16 | Kind::U32, Cell::Int(v) | Cell::Time(v)) => self.ints.push(v as u32 as i32),
            (Kind::Time, Cell::Int(v) | Cell::Time(v)) => self.longs.push(i64::try_from(v).unwrap_or(i64::MAX)),
            (_, Cell::Int(v) | Cell::Time(v)) => self.longs.push(v as i64),
            (_, Cell::Text(t)) if self.unique => {
                self.held += t.len();
                self.texts.push(ByteArray::from(t.into_owned().into_bytes()));
            }
            (_, Cell::Text(t)) => {
                let text = self.text(t.as_bytes());
                self.texts.push(text);
            }
            (_, Cell::Ip(addr)) => {
                let text = self.address(addr);
                self.texts.push(text);
            }
        }
    }

    fn text(&mut self, t: &[u8]) -> ByteArray {
        if let Some(same) = self.few.iter().find(|f| f.data() == t) {
            return same.clone();
        }
        if let Some(same) = self.shared.get(t) {
            return same.clone();
        }
        let text = ByteArray::from(t.to_vec());
        self.held += t.len();
        if self.few.len() < FEW {
            self.few.push(text.clone());
        } else if self.shared.len() < SHARED_TEXTS {
            self.held += t.len();
            self.shared.insert(t.into(), text.clone());
        }
        text
    }

    fn address(&mut self, addr: Addr) -> ByteArray {
        if let Some(same) = self.addresses.get(&addr) {
            return same.clone();
        }
        let text = ByteArray::from(addr.to_string().into_bytes());
        self.held += text.len();
        if self.addresses.len() < SHARED_TEXTS {
            self.addresses.insert(addr, text.clone());
        }
        text
    }

    /// Bytes of text that are held on to.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Writes what waits, and begins anew.
    pub(super) fn write(&mut self, to: &mut ColumnWriter<'_>) -> Result<(), ParquetError> {
        let present = self.nullable.then_some(self.present.as_slice());
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
        self.few.clear();
        self.shared.clear();
        self.addresses.clear();
        self.held = 0;
        Ok(())
    }
}
