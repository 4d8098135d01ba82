//! Templates: how the records of a data set are laid out.

use super::bytes::Bytes;
use super::field::Field;

/// Length of a field that says its own length in every record (RFC 7011, section 7).
const VARIABLE: u16 = 65_535;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Flows,
    Options,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spec {
    /// Where the field lies, in templates of fixed length.
    at: u16,
    /// Bytes, or [`VARIABLE`].
    len: u16,
    field: Field,
    reverse: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Template {
    pub kind: Kind,
    /// When it was last announced, µs.
    pub announced_us: u64,
    /// A record has at least so many bytes; exactly so many where `variable` is unset. Never 0.
    min_len: usize,
    variable: bool,
    /// In templates of fixed length only the fields that are used.
    fields: Box<[Spec]>,
}

/// Why a template is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// More fields than allowed.
    Fields,
    /// Its records have no bytes, or more than a datagram holds.
    Length,
}

/// Collects the fields of a template while they are read.
pub(super) struct Builder {
    fields: Vec<Spec>,
    len: usize,
    variable: bool,
}

impl Builder {
    pub fn new() -> Self {
        Self { fields: Vec::new(), len: 0, variable: false }
    }

    pub fn field(&mut self, len: u16, (field, reverse): (Field, bool)) {
        // A template that grows beyond a datagram is refused in the end: offsets need not be right then.
        let at = u16::try_from(self.len).unwrap_or(u16::MAX);
        self.variable |= len == VARIABLE;
        self.len += if len == VARIABLE { 1 } else { usize::from(len) };
        self.fields.push(Spec { at, len, field, reverse });
    }

    pub fn build(mut self, kind: Kind, announced_us: u64) -> Result<Template, Refused> {
        if self.len == 0 || self.len > usize::from(u16::MAX) {
            return Err(Refused::Length);
        }
        if !self.variable {
            self.fields.retain(|f| f.field != Field::Skip && f.len > 0);
        }
        Ok(Template {
            kind,
            announced_us,
            min_len: self.len,
            variable: self.variable,
            fields: self.fields.into_boxed_slice(),
        })
    }
}

impl Template {
    /// Bytes of memory.
    pub fn cost(&self) -> usize {
        // The map that holds it keeps up to twice the room it needs.
        2 * (size_of::<(u16, Template)>() + 1) + self.fields.len() * size_of::<Spec>()
    }

    /// Reads one record off the front of `set` and gives each field that is used to `each`, with whether it counts the
    /// reverse direction. `false` where what is left is padding, or cut.
    #[inline]
    pub fn record<'a>(&self, set: &mut Bytes<'a>, mut each: impl FnMut(Field, bool, &'a [u8])) -> bool {
        if !self.variable {
            let Some(record) = set.take(self.min_len) else { return false };
            for f in &self.fields {
                let at = usize::from(f.at);
                if let Some(bytes) = record.get(at..at + usize::from(f.len)) {
                    each(f.field, f.reverse, bytes);
                }
            }
            return true;
        }
        if set.len() < self.min_len {
            return false;
        }
        let mut rest = *set;
        for f in &self.fields {
            let len = match f.len {
                VARIABLE => variable_len(&mut rest),
                len => Some(usize::from(len)),
            };
            let Some(bytes) = len.and_then(|len| rest.take(len)) else { return false };
            if f.field != Field::Skip {
                each(f.field, f.reverse, bytes);
            }
        }
        *set = rest;
        true
    }

    pub fn min_len(&self) -> usize {
        self.min_len
    }
}

/// One byte, or 255 and two more (RFC 7011, section 7).
fn variable_len(bytes: &mut Bytes<'_>) -> Option<usize> {
    match bytes.u8()? {
        255 => bytes.u16().map(usize::from),
        n => Some(usize::from(n)),
    }
}
