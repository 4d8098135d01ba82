//! Records of NetFlow v5, whose layout is fixed (Cisco, "NetFlow Export Datagram Formats", table B-4).

use super::bytes::Bytes;
use super::field::Field;
use super::record::{Clock, Raw};

/// More do not fit into a datagram of 1,500 bytes.
pub(super) const MAX_RECORDS: u16 = 30;
pub(super) const RECORD: usize = 48;

/// Where each field lies, and its length.
const FIELDS: [(usize, usize, Field); 10] = [
    (0, 4, Field::Source4),
    (4, 4, Field::Destination4),
    (16, 4, Field::Packets),
    (20, 4, Field::Octets),
    (24, 4, Field::StartUptime),
    (28, 4, Field::EndUptime),
    (32, 2, Field::SourcePort),
    (34, 2, Field::DestinationPort),
    (37, 1, Field::TcpFlags),
    (38, 1, Field::Protocol),
];

pub(super) fn record(body: &mut Bytes<'_>, clock: &Clock) -> Option<Raw> {
    let record = body.take(RECORD)?;
    let mut raw = Raw::default();
    for (at, len, field) in FIELDS {
        raw.set(field, false, record.get(at..at + len)?, clock);
    }
    Some(raw)
}
