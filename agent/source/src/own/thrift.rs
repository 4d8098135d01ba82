//! Thrift's compact protocol, walked along the shapes of Parquet's metadata before the parquet crate sees it.
//!
//! The crate takes counts at their word: it passes over a list of booleans one by one, in no bytes, as often as the list claims
//! to have any, and it reads fields by their number, whatever type they say they are. Along here every element takes a byte or
//! more of what is there, and every field is what the crate will take it for: so the crate's work is bounded by the length.

/// What a field holds.
pub(super) enum Shape {
    Bool,
    Byte,
    /// An integer of any width but a byte, or an enumeration.
    Int,
    /// Such an integer, kept under this index.
    Kept(usize),
    Double,
    Binary,
    List(&'static Shape),
    Struct(&'static Fields),
    /// A list of such structures, each followed by as many children as its integer kept under 0 says.
    Tree(&'static Fields),
}

pub(super) struct Fields {
    pub known: &'static [(i16, Shape)],
    pub required: &'static [i16],
}

/// Why something is no metadata.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It goes on where the bytes end.
    End,
    Other(String),
}

type Result<T> = std::result::Result<T, Fault>;

/// Nesting of what is not known and passed over.
const MAX_DEPTH: u8 = 32;
/// Nesting of a tree.
const MAX_GENERATIONS: usize = 64;

mod wire {
    pub const STOP: u8 = 0;
    pub const TRUE: u8 = 1;
    pub const FALSE: u8 = 2;
    pub const BYTE: u8 = 3;
    pub const I16: u8 = 4;
    pub const I64: u8 = 6;
    pub const DOUBLE: u8 = 7;
    pub const BINARY: u8 = 8;
    pub const LIST: u8 = 9;
    pub const SET: u8 = 10;
    pub const MAP: u8 = 11;
    pub const STRUCT: u8 = 12;
    pub const UUID: u8 = 13;
}

pub(super) struct Walk<'a> {
    left: &'a [u8],
    /// The last integers met that are [`Shape::Kept`].
    pub kept: [i64; 3],
}

impl<'a> Walk<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes, kept: [0; 3] }
    }

    /// Bytes that are not walked yet.
    pub(super) fn left(&self) -> usize {
        self.left.len()
    }

    fn byte(&mut self) -> Result<u8> {
        let (&b, rest) = self.left.split_first().ok_or(Fault::End)?;
        self.left = rest;
        Ok(b)
    }

    fn pass(&mut self, n: u64) -> Result<()> {
        let rest = usize::try_from(n).ok().and_then(|n| self.left.get(n..));
        self.left = rest.ok_or(Fault::End)?;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64> {
        let mut v = 0;
        for shift in (0..64).step_by(7) {
            let b = self.byte()?;
            v |= u64::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                return Ok(v);
            }
        }
        Err(Fault::Other("it has a number of more than 64 bits".into()))
    }

    fn zigzag(&mut self) -> Result<i64> {
        let v = self.varint()?;
        Ok((v >> 1) as i64 ^ -((v & 1) as i64))
    }

    /// The type of the next field, and its number. `None` at the end of the structure.
    fn field(&mut self, last: i16) -> Result<Option<(u8, i16)>> {
        let head = self.byte()?;
        let (delta, wire) = (head >> 4, head & 0x0f);
        if wire == wire::STOP {
            return Ok(None);
        }
        let id = match delta {
            0 => self.zigzag()? as i16,
            _ => last
                .checked_add(i16::from(delta))
                .ok_or_else(|| Fault::Other(format!("it has a field {delta} after {last}")))?,
        };
        Ok(Some((wire, id)))
    }

    /// The type and the number of the elements of a list or set.
    pub(super) fn list(&mut self) -> Result<(u8, u64)> {
        let head = self.byte()?;
        // Some writers give empty lists no type.
        if head == 0 {
            return Ok((wire::BYTE, 0));
        }
        let n = match head >> 4 {
            15 => self.varint()?,
            n => u64::from(n),
        };
        self.holds(n)?;
        Ok((head & 0x0f, n))
    }

    /// Every element takes a byte at least.
    fn holds(&self, n: u64) -> Result<()> {
        let left = self.left.len() as u64;
        if n <= left {
            return Ok(());
        }
        Err(Fault::Other(format!("it claims {n} elements in {left} bytes")))
    }

    pub(super) fn structure(&mut self, fields: &Fields) -> Result<()> {
        let (mut seen, mut last) = (0u32, 0);
        while let Some((wire, id)) = self.field(last)? {
            match fields.known.iter().find(|(known, _)| *known == id) {
                None => self.skip(wire, MAX_DEPTH)?,
                Some((_, shape)) => self.value(wire, shape, false)?,
            }
            seen |= 1u32.checked_shl(u32::try_from(id).unwrap_or(u32::MAX)).unwrap_or(0);
            last = id;
        }
        match fields.required.iter().find(|id| seen & 1 << **id == 0) {
            None => Ok(()),
            Some(id) => Err(Fault::Other(format!("field {id} of a structure is missing"))),
        }
    }

    /// A value of a known shape. As an element, a boolean takes a byte.
    fn value(&mut self, wire: u8, shape: &Shape, element: bool) -> Result<()> {
        match (shape, wire) {
            (Shape::Bool, wire::TRUE | wire::FALSE) if !element => Ok(()),
            (Shape::Byte, wire::BYTE) => self.pass(1),
            (Shape::Int, wire::I16..=wire::I64) => self.varint().map(drop),
            (Shape::Kept(at), wire::I16..=wire::I64) => {
                let v = self.zigzag()?;
                if let Some(place) = self.kept.get_mut(*at) {
                    *place = v;
                }
                Ok(())
            }
            (Shape::Double, wire::DOUBLE) => self.pass(8),
            (Shape::Binary, wire::BINARY) => {
                let n = self.varint()?;
                self.pass(n)
            }
            (Shape::List(shape), wire::LIST) => {
                let (wire, n) = self.list()?;
                (0..n).try_for_each(|_| self.value(wire, shape, true))
            }
            (Shape::Struct(fields), wire::STRUCT) => self.structure(fields),
            (Shape::Tree(fields), wire::LIST) => self.tree(fields),
            _ => Err(Fault::Other(format!("it has a value of type {wire} where the format has another"))),
        }
    }

    fn tree(&mut self, fields: &'static Fields) -> Result<()> {
        let (wire, mut left) = self.list()?;
        // How many children are to come, for each that is not complete.
        let mut open: Vec<u64> = Vec::new();
        while left > 0 {
            left -= 1;
            self.kept = [0; 3];
            self.value(wire, &Shape::Struct(fields), true)?;
            while open.last() == Some(&0) {
                open.pop();
            }
            if let Some(children) = open.last_mut() {
                *children -= 1;
            }
            let children = self.kept.first().map_or(0, |n| u64::try_from(*n).unwrap_or(u64::MAX));
            if children > left {
                return Err(Fault::Other(format!("a column of it claims {children} others, and {left} follow")));
            }
            open.push(children);
            if open.len() > MAX_GENERATIONS {
                return Err(Fault::Other(format!("its columns lie more than {MAX_GENERATIONS} deep in one another")));
            }
        }
        Ok(())
    }

    fn skip(&mut self, wire: u8, depth: u8) -> Result<()> {
        let depth = depth.checked_sub(1).ok_or_else(|| Fault::Other("it is nested too deeply".into()))?;
        match wire {
            wire::TRUE | wire::FALSE => Ok(()),
            wire::BYTE => self.pass(1),
            wire::I16..=wire::I64 => self.varint().map(drop),
            wire::DOUBLE => self.pass(8),
            wire::BINARY => {
                let n = self.varint()?;
                self.pass(n)
            }
            wire::LIST | wire::SET => {
                let (wire, n) = self.list()?;
                (0..n).try_for_each(|_| self.skip_element(wire, depth))
            }
            wire::MAP => {
                let n = self.varint()?;
                self.holds(n)?;
                if n == 0 {
                    return Ok(());
                }
                let types = self.byte()?;
                (0..n).try_for_each(|_| {
                    self.skip_element(types >> 4, depth)?;
                    self.skip_element(types & 0x0f, depth)
                })
            }
            wire::STRUCT => {
                while let Some((wire, _)) = self.field(0)? {
                    self.skip(wire, depth)?;
                }
                Ok(())
            }
            wire::UUID => self.pass(16),
            _ => Err(Fault::Other(format!("it has a value of type {wire}, which there is not"))),
        }
    }

    /// The crate takes booleans to have no bytes here too, and would read on in another place.
    fn skip_element(&mut self, wire: u8, depth: u8) -> Result<()> {
        if matches!(wire, wire::TRUE | wire::FALSE) {
            return Err(Fault::Other("it has booleans in a field that is not known".into()));
        }
        self.skip(wire, depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: Fields = Fields {
        known: &[(1, Shape::Kept(0)), (2, Shape::List(&Shape::Int)), (3, Shape::Tree(&NODE))],
        required: &[1],
    };
    static NODE: Fields = Fields { known: &[(1, Shape::Kept(0))], required: &[] };

    fn walk(bytes: &[u8]) -> Result<i64> {
        let mut walk = Walk::new(bytes);
        walk.structure(&POINT)?;
        assert_eq!(walk.left(), 0);
        Ok(walk.kept[0])
    }

    fn other(bytes: &[u8]) -> String {
        match walk(bytes) {
            Err(Fault::Other(why)) => why,
            v => panic!("{bytes:?}: {v:?}"),
        }
    }

    #[test]
    fn integers_are_kept_and_what_is_not_known_is_passed_over() {
        assert_eq!(walk(&[0x15, 0x07, 0x19, 0x25, 1, 2, 0]), Ok(-4));
        // A map of strings, a set of doubles and a structure in a structure, under numbers that nobody knows.
        let mut odd = vec![0x15, 0x02, 0x9b, 0x01, 0x85, 1, b'k', 8, 0x1a, 0x17];
        odd.extend([0; 8]);
        odd.extend([0x1c, 0x1c, 0x13, 5, 0, 0, 0]);
        assert_eq!(walk(&odd), Ok(1));
    }

    #[test]
    fn counts_beyond_the_bytes_are_refused_wherever_they_stand() {
        let many = [0xff, 0xff, 0xff, 0xff, 0x07];
        let list = |head: u8, element: u8| [&[head, 0xf0 | element][..], &many].concat();
        assert_eq!(other(&list(0x29, 5)), "it claims 2147483647 elements in 0 bytes");
        assert_eq!(other(&list(0x99, 2)), "it claims 2147483647 elements in 0 bytes");
        assert_eq!(other(&[&[0x9b][..], &many].concat()), "it claims 2147483647 elements in 0 bytes");
        assert_eq!(walk(&[&[0x98][..], &many].concat()), Err(Fault::End));
        assert_eq!(other(&[0x99, 0x22, 1, 1, 0]), "it has booleans in a field that is not known");
    }

    #[test]
    fn other_types_missing_fields_and_deep_nesting_are_refused() {
        assert_eq!(other(&[0x19, 0x05]), "it has a value of type 9 where the format has another");
        assert_eq!(other(&[0x29, 0x18, 0]), "it has a value of type 8 where the format has another");
        assert_eq!(other(&[0]), "field 1 of a structure is missing");
        assert_eq!(other(&[0x9c; 100]), "it is nested too deeply");
        let long = [&[0x15][..], &[0xff; 11]].concat();
        assert_eq!(other(&long), "it has a number of more than 64 bits");
        assert_eq!(walk(&[0x15]), Err(Fault::End));
    }

    #[test]
    fn a_tree_has_the_children_that_it_claims_and_is_not_deep() {
        let tree = |children: &[u8]| {
            let mut b = vec![0x39, 0xfc, children.len() as u8];
            children.iter().for_each(|n| b.extend([0x15, 2 * n, 0]));
            // Field 1 behind field 3, by its whole number.
            b.extend([0x05, 0x02, 0x02, 0x00]);
            b
        };
        assert_eq!(walk(&tree(&[2, 1, 0, 0])), Ok(1));
        assert_eq!(other(&tree(&[2, 3, 0])), "a column of it claims 3 others, and 1 follow");
        let deep: Vec<u8> = (0..100).map(|i| u8::from(i < 99)).collect();
        assert_eq!(other(&tree(&deep)), "its columns lie more than 64 deep in one another");
    }
}
