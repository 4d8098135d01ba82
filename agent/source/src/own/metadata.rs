//! Parquet's metadata, looked through before the parquet crate reads it: the footer, and the headers of the pages.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::thrift::{Fault, Fields, Shape, Walk};
use crate::report::SourceError;

/// Longest footer, bytes. Weir's own takes some 8 KiB for each 65,536 flows.
const MAX_FOOTER: u64 = 64 << 20;
/// Longest header of a page, bytes. Some writers put the least and the greatest value there.
const MAX_HEADER: usize = 16 << 20;
/// Largest page, bytes unpacked.
const MAX_PAGE: i64 = 256 << 20;

const TAIL: u64 = 8;

const INTS: Shape = Shape::List(&Shape::Int);
const fn fields(known: &'static [(i16, Shape)], required: &'static [i16]) -> Fields {
    Fields { known, required }
}

// The structures of parquet.thrift, as far as the crate reads them.
static EMPTY: Fields = fields(&[], &[]);
static UNIT: Fields =
    fields(&[(1, Shape::Struct(&EMPTY)), (2, Shape::Struct(&EMPTY)), (3, Shape::Struct(&EMPTY))], &[]);
static DECIMAL: Fields = fields(&[(1, Shape::Int), (2, Shape::Int)], &[]);
static TIME: Fields = fields(&[(1, Shape::Bool), (2, Shape::Struct(&UNIT))], &[]);
static INTEGER: Fields = fields(&[(1, Shape::Byte), (2, Shape::Bool)], &[]);
static VARIANT: Fields = fields(&[(1, Shape::Byte)], &[]);
static GEOGRAPHY: Fields = fields(&[(1, Shape::Binary), (2, Shape::Int)], &[]);
static LOGICAL_TYPE: Fields = fields(
    &[
        (1, Shape::Struct(&EMPTY)),
        (2, Shape::Struct(&EMPTY)),
        (3, Shape::Struct(&EMPTY)),
        (4, Shape::Struct(&EMPTY)),
        (5, Shape::Struct(&DECIMAL)),
        (6, Shape::Struct(&EMPTY)),
        (7, Shape::Struct(&TIME)),
        (8, Shape::Struct(&TIME)),
        (10, Shape::Struct(&INTEGER)),
        (11, Shape::Struct(&EMPTY)),
        (12, Shape::Struct(&EMPTY)),
        (13, Shape::Struct(&EMPTY)),
        (14, Shape::Struct(&EMPTY)),
        (15, Shape::Struct(&EMPTY)),
        (16, Shape::Struct(&VARIANT)),
        (17, Shape::Struct(&GEOGRAPHY)),
        (18, Shape::Struct(&GEOGRAPHY)),
        (19, Shape::Struct(&EMPTY)),
    ],
    &[],
);
/// Kept: the number of children.
static SCHEMA_ELEMENT: Fields = fields(
    &[
        (1, Shape::Int),
        (2, Shape::Int),
        (3, Shape::Int),
        (4, Shape::Binary),
        (5, Shape::Kept(0)),
        (6, Shape::Int),
        (7, Shape::Int),
        (8, Shape::Int),
        (9, Shape::Int),
        (10, Shape::Struct(&LOGICAL_TYPE)),
    ],
    &[4],
);
static STATISTICS: Fields = fields(
    &[
        (1, Shape::Binary),
        (2, Shape::Binary),
        (3, Shape::Int),
        (4, Shape::Int),
        (5, Shape::Binary),
        (6, Shape::Binary),
        (7, Shape::Bool),
        (8, Shape::Bool),
        (9, Shape::Int),
    ],
    &[],
);
static ENCODING_STATS: Fields = fields(&[(1, Shape::Int), (2, Shape::Int), (3, Shape::Int)], &[1, 2, 3]);
static SIZE_STATISTICS: Fields = fields(&[(1, Shape::Int), (2, INTS), (3, INTS)], &[]);
static BOX: Fields = fields(
    &[
        (1, Shape::Double),
        (2, Shape::Double),
        (3, Shape::Double),
        (4, Shape::Double),
        (5, Shape::Double),
        (6, Shape::Double),
        (7, Shape::Double),
        (8, Shape::Double),
    ],
    &[],
);
static GEOSPATIAL: Fields = fields(&[(1, Shape::Struct(&BOX)), (2, INTS)], &[]);
static COLUMN: Fields = fields(
    &[
        (1, Shape::Int),
        (2, INTS),
        (4, Shape::Int),
        (5, Shape::Int),
        (6, Shape::Int),
        (7, Shape::Int),
        (9, Shape::Int),
        (10, Shape::Int),
        (11, Shape::Int),
        (12, Shape::Struct(&STATISTICS)),
        (13, Shape::List(&Shape::Struct(&ENCODING_STATS))),
        (14, Shape::Int),
        (15, Shape::Int),
        (16, Shape::Struct(&SIZE_STATISTICS)),
        (17, Shape::Struct(&GEOSPATIAL)),
    ],
    &[1, 2, 4, 5, 6, 7, 9],
);
static CHUNK: Fields = fields(
    &[
        (1, Shape::Binary),
        (2, Shape::Int),
        (3, Shape::Struct(&COLUMN)),
        (4, Shape::Int),
        (5, Shape::Int),
        (6, Shape::Int),
        (7, Shape::Int),
    ],
    &[2, 3],
);
static SORTING: Fields = fields(&[(1, Shape::Int), (2, Shape::Bool), (3, Shape::Bool)], &[1, 2, 3]);
static GROUP: Fields = fields(
    &[
        (1, Shape::List(&Shape::Struct(&CHUNK))),
        (2, Shape::Int),
        (3, Shape::Int),
        (4, Shape::List(&Shape::Struct(&SORTING))),
        (5, Shape::Int),
        (7, Shape::Int),
    ],
    &[1, 2, 3],
);
static KEY_VALUE: Fields = fields(&[(1, Shape::Binary), (2, Shape::Binary)], &[1]);
static ORDER: Fields =
    fields(&[(1, Shape::Struct(&EMPTY)), (2, Shape::Struct(&EMPTY)), (3, Shape::Struct(&EMPTY))], &[]);
static FILE: Fields = fields(
    &[
        (1, Shape::Int),
        (2, Shape::Tree(&SCHEMA_ELEMENT)),
        (3, Shape::Int),
        (4, Shape::List(&Shape::Struct(&GROUP))),
        (5, Shape::List(&Shape::Struct(&KEY_VALUE))),
        (6, Shape::Binary),
        (7, Shape::List(&Shape::Struct(&ORDER))),
    ],
    &[1, 2, 3, 4],
);
static DATA_PAGE: Fields = fields(&[(1, Shape::Int), (2, Shape::Int), (3, Shape::Int), (4, Shape::Int)], &[1, 2, 3, 4]);
/// Kept: the number of values.
static DICTIONARY_PAGE: Fields = fields(&[(1, Shape::Kept(2)), (2, Shape::Int), (3, Shape::Bool)], &[1, 2]);
static DATA_PAGE_2: Fields = fields(
    &[
        (1, Shape::Int),
        (2, Shape::Int),
        (3, Shape::Int),
        (4, Shape::Int),
        (5, Shape::Int),
        (6, Shape::Int),
        (7, Shape::Bool),
    ],
    &[1, 2, 3, 4, 5, 6],
);
/// Kept: the sizes unpacked and packed, and the values of a dictionary.
static PAGE: Fields = fields(
    &[
        (1, Shape::Int),
        (2, Shape::Kept(0)),
        (3, Shape::Kept(1)),
        (4, Shape::Int),
        (5, Shape::Struct(&DATA_PAGE)),
        (6, Shape::Struct(&EMPTY)),
        (7, Shape::Struct(&DICTIONARY_PAGE)),
        (8, Shape::Struct(&DATA_PAGE_2)),
    ],
    &[1, 2, 3],
);

fn damaged(why: impl std::fmt::Display) -> SourceError {
    SourceError::Unknown(format!("is a damaged Parquet file: {why}"))
}

/// Whether the footer of a file of so many bytes can be what it claims.
pub(super) fn footer(file: &File, length: u64) -> Result<(), SourceError> {
    let Some(behind) = length.checked_sub(TAIL) else {
        return Err(damaged(format!("it has {length} bytes")));
    };
    let mut tail = [0; TAIL as usize];
    file.read_exact_at(&mut tail, behind)?;
    let [a, b, c, d, magic @ ..] = tail;
    if magic != *b"PAR1" {
        return Err(damaged("it does not end with PAR1: it is cut, or encrypted, which is not read"));
    }
    let n = u64::from(u32::from_le_bytes([a, b, c, d]));
    if n > behind {
        return Err(damaged(format!("it claims a footer of {n} bytes, and has {behind}")));
    }
    if n > MAX_FOOTER {
        return Err(damaged(format!("its footer has {n} bytes, and {MAX_FOOTER} are the most that is read")));
    }
    let mut bytes = vec![0; n as usize];
    file.read_exact_at(&mut bytes, behind - n)?;
    Walk::new(&bytes).structure(&FILE).map_err(|e| match e {
        Fault::End => damaged("its footer ends too early"),
        Fault::Other(why) => damaged(format!("its footer is none: {why}")),
    })
}

/// Whether the pages of a column, the bytes from `start` to `end`, can be what they claim.
pub(super) fn pages(file: &File, start: u64, end: u64) -> Result<(), SourceError> {
    let (mut at, mut bytes) = (start, Vec::new());
    while at < end {
        let [unpacked, packed, values] = header(file, &mut at, end, &mut bytes)?;
        if !(0..=MAX_PAGE).contains(&unpacked) {
            return Err(damaged(format!("a page claims {unpacked} bytes, and {MAX_PAGE} are the most that is read")));
        }
        // A value has a byte at least, but for booleans, of which nobody makes a dictionary.
        if values > unpacked {
            return Err(damaged(format!("a dictionary claims {values} values in {unpacked} bytes")));
        }
        let next = u64::try_from(packed).ok().and_then(|n| at.checked_add(n)).filter(|next| *next <= end);
        at = next.ok_or_else(|| damaged(format!("a page claims {packed} bytes, where {} are left", end - at)))?;
    }
    Ok(())
}

/// What is kept of the header of a page at `at`, which is moved behind it.
fn header(file: &File, at: &mut u64, end: u64, bytes: &mut Vec<u8>) -> Result<[i64; 3], SourceError> {
    const FIRST: usize = 256;
    let most = usize::try_from(end - *at).unwrap_or(usize::MAX).min(MAX_HEADER);
    let mut n = FIRST.min(most);
    loop {
        bytes.resize(n, 0);
        file.read_exact_at(bytes, *at)?;
        let mut walk = Walk::new(bytes);
        match walk.structure(&PAGE) {
            Ok(()) => {
                *at += (n - walk.left()) as u64;
                return Ok(walk.kept);
            }
            Err(Fault::End) if n < most => n = n.saturating_mul(8).min(most),
            Err(Fault::End) => return Err(damaged("the header of a page ends too early")),
            Err(Fault::Other(why)) => return Err(damaged(format!("the header of a page is none: {why}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn looked_at(bytes: &[u8]) -> String {
        pages(&file(bytes), 0, bytes.len() as u64).map_or_else(|e| e.to_string(), |()| "fine".into())
    }

    /// A page of `packed` bytes that is `unpacked` large, with `more` in its header.
    fn page(unpacked: &[u8], packed: u8, more: &[u8]) -> Vec<u8> {
        [&[0x15, 0, 0x15][..], unpacked, &[0x15, packed * 2], more, &[0], &vec![7; packed.into()][..]].concat()
    }

    #[test]
    fn pages_are_what_they_claim_to_be() {
        let many = [0xfe, 0xff, 0xff, 0xff, 0x0f];
        // Behind field 3: the header of a dictionary, and a field that is not known.
        let dictionary = |values: &[u8]| [&[0x4c, 0x15][..], values, &[0x15, 0, 0]].concat();
        let list = [&[0x69, 0xf2][..], &many].concat();
        let fine = [page(&[20], 9, &dictionary(&[10])), page(&[0xc8, 1], 60, b"")].concat();
        assert_eq!(looked_at(&fine), "fine");
        for (bytes, why) in [
            (&fine[..fine.len() - 1], "a page claims 60 bytes, where 59 are left"),
            (&fine[..fine.len() - 61], "the header of a page ends too early"),
            (&page(&[20], 9, &dictionary(&many)), "a dictionary claims 2147483647 values in 10 bytes"),
            (&page(&many, 9, b""), "a page claims 2147483647 bytes, and 268435456 are the most that is read"),
            (&page(&[20], 9, &list), "the header of a page is none: it claims 4294967294 elements in 10 bytes"),
            (&[0xff; 9], "the header of a page is none: it has a value of type 15, which there is not"),
        ] {
            assert_eq!(looked_at(bytes), format!("is a damaged Parquet file: {why}"), "{bytes:?}");
        }
    }

    #[test]
    fn a_footer_is_in_the_file_and_not_beyond_reason() {
        let look = |bytes: &[u8], length: u64| footer(&file(bytes), length).unwrap_err().to_string();
        let cases: [(&[u8], &str); 4] = [
            (b"PAR1", "it has 4 bytes"),
            (b"\x01\0\0\0PARE", "it does not end with PAR1: it is cut, or encrypted, which is not read"),
            (b"abc\x04\0\0\0PAR1", "it claims a footer of 4 bytes, and has 3"),
            (b"\x15\x02\0\x03\0\0\0PAR1", "its footer is none: field 2 of a structure is missing"),
        ];
        for (bytes, why) in cases {
            assert_eq!(look(bytes, bytes.len() as u64), format!("is a damaged Parquet file: {why}"));
        }
        let large = file(b"");
        large.set_len(MAX_FOOTER + 9).unwrap();
        large.write_all_at(&((MAX_FOOTER + 1) as u32).to_le_bytes(), MAX_FOOTER + 1).unwrap();
        large.write_all_at(b"PAR1", MAX_FOOTER + 5).unwrap();
        let said = footer(&large, MAX_FOOTER + 9).unwrap_err().to_string();
        assert!(said.contains("its footer has 67108865 bytes, and 67108864 are the most"), "{said}");
    }
}
