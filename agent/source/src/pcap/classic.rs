//! The pcap format (draft-ietf-opsawg-pcap), with what older tools wrote.

use std::io::Read;

use super::link::LinkType;
use super::packets::{MAX_PACKET, Next, Order, Record, corrupt, longest, part};
use super::window::Window;
use crate::report::SourceError;

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// With interface, protocol and packet type behind (Kuznetzov's tcpdump, Red Hat 6).
pub(super) const MAX_RECORD_HEADER: usize = 24;

pub(super) struct Classic {
    order: Order,
    nanos: bool,
    record_header: usize,
    link: LinkType,
    /// Longest packet that the link type may have.
    longest: u32,
    /// Before version 2.4 the two lengths stood in either order.
    old: bool,
}

impl Classic {
    /// Reads the file's header, which begins with `magic`. `None` where the file ends in it.
    pub(super) fn new<R: Read>(magic: [u8; 4], window: &mut Window<R>) -> Result<Option<Self>, SourceError> {
        let (order, nanos, record_header) = match magic {
            [0xd4, 0xc3, 0xb2, 0xa1] => (Order::Little, false, RECORD_HEADER),
            [0xa1, 0xb2, 0xc3, 0xd4] => (Order::Big, false, RECORD_HEADER),
            [0x4d, 0x3c, 0xb2, 0xa1] => (Order::Little, true, RECORD_HEADER),
            [0xa1, 0xb2, 0x3c, 0x4d] => (Order::Big, true, RECORD_HEADER),
            [0x34, 0xcd, 0xb2, 0xa1] => (Order::Little, false, MAX_RECORD_HEADER),
            [0xa1, 0xb2, 0xcd, 0x34] => (Order::Big, false, MAX_RECORD_HEADER),
            m => {
                let m = u32::from_be_bytes(m);
                return Err(SourceError::Unknown(format!("is no capture: it begins with {m:08x}")));
            }
        };
        if !window.fill(FILE_HEADER)? {
            return Ok(None);
        }
        let Some(h) = window.array::<FILE_HEADER>(0) else { return Ok(None) };
        let version = (order.u16(part(&h, 4)), order.u16(part(&h, 6)));
        if version.0 != 2 {
            let why = format!("is {}.{}, and only 2.x is known", version.0, version.1);
            return Err(corrupt("the version of the capture format", 4, why));
        }
        // Above the link type lies what is known of frame check sequences.
        let link = LinkType(order.u32(part(&h, 20)) & 0x03ff_ffff);
        window.consume(FILE_HEADER);
        Ok(Some(Self { order, nanos, record_header, link, longest: longest(link), old: version.1 < 4 }))
    }

    /// [`Classic::next`] where the whole packet is in the window and nothing is the matter with it, which is nearly always.
    #[inline(always)]
    pub(super) fn near<R: Read>(&self, window: &mut Window<R>) -> Option<Record> {
        let h = window.bytes().first_chunk::<RECORD_HEADER>()?;
        let [seconds, fraction, captured, wire_len] = self.fields(h);
        let whole = self.record_header + captured as usize;
        if captured > self.longest.min(MAX_PACKET) || captured > wire_len || window.bytes().len() < whole {
            return None;
        }
        let (at_us, offset) = (self.at_us(seconds, fraction), window.offset());
        let from = window.consume(whole) + self.record_header;
        Some(Record { at_us, link: self.link, from, len: captured as usize, wire_len, offset })
    }

    #[inline(always)]
    fn fields(&self, h: &[u8; RECORD_HEADER]) -> [u32; 4] {
        let fields = [0, 4, 8, 12].map(|at| u32::from_le_bytes(part(h, at)));
        if self.order == Order::Big { fields.map(u32::swap_bytes) } else { fields }
    }

    #[inline(always)]
    fn at_us(&self, seconds: u32, fraction: u32) -> u64 {
        let micros = if self.nanos { fraction / 1000 } else { fraction };
        u64::from(seconds) * 1_000_000 + u64::from(micros)
    }

    pub(super) fn next<R: Read>(&mut self, window: &mut Window<R>) -> Next {
        if !window.fill(self.record_header)? {
            return Ok(None);
        }
        let Some(h) = window.array::<RECORD_HEADER>(0) else { return Ok(None) };
        let offset = window.offset();
        let [seconds, fraction, mut captured, mut wire_len] = self.fields(&h);
        if self.old && captured > wire_len {
            (captured, wire_len) = (wire_len, captured);
        }
        if captured > self.longest {
            let why = format!("claims {captured} bytes, and {} is the most", self.longest);
            return Err(corrupt("the packet", offset, why));
        }
        let mut record = Record {
            at_us: self.at_us(seconds, fraction),
            link: self.link,
            from: 0,
            len: captured as usize,
            wire_len: wire_len.max(captured),
            offset,
        };
        if record.len > MAX_PACKET as usize {
            if !window.skip((self.record_header + record.len) as u64)? {
                return Ok(None);
            }
            record.len = 0;
            return Ok(Some(record));
        }
        if !window.fill(self.record_header + record.len)? {
            return Ok(None);
        }
        record.from = window.consume(self.record_header + record.len) + self.record_header;
        Ok(Some(record))
    }
}
