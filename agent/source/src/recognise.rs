//! Which format the first bytes of an input show.

use crate::input::Format;
use crate::report::SourceError;

/// The format of an input that begins with `head` (decompressed; up to 64 KiB of it).
pub fn recognise(head: &[u8]) -> Result<Format, SourceError> {
    let found = match head {
        [] => return Err(SourceError::Unknown("is empty".into())),
        [0xa1, 0xb2, 0xc3 | 0x3c, 0xd4 | 0x4d, ..] | [0xd4 | 0x4d, 0xc3 | 0x3c, 0xb2, 0xa1, ..] => Some(Format::Pcap),
        [0x0a, 0x0d, 0x0d, 0x0a, ..] => Some(Format::PcapNg),
        [b'P', b'A', b'R', b'1', ..] => Some(Format::WeirParquet),
        _ => text(head).or_else(|| length_before_netflow(head)),
    };
    found.ok_or_else(|| {
        let names: Vec<_> = Format::ALL.iter().map(|(_, n)| *n).collect();
        SourceError::Unknown(format!("is none of the formats {} (name one with --format)", names.join(", ")))
    })
}

fn text(head: &[u8]) -> Option<Format> {
    let first = head.split(|b| *b == b'\n').find(|l| !l.trim_ascii().is_empty())?;
    crate::own::is_ours(first).then_some(Format::WeirJson)
}

/// A length that fits, and behind it version 5, 9 or 10.
fn length_before_netflow(head: &[u8]) -> Option<Format> {
    let [a, b, c, d, 0, version, ..] = *head else { return None };
    let length = u32::from_be_bytes([a, b, c, d]);
    ((4..=65_535).contains(&length) && matches!(version, 5 | 9 | 10)).then_some(Format::NetFlow)
}
