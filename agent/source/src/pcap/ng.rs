//! The pcapng format (draft-ietf-opsawg-pcapng): sections in either byte order, several interfaces, unknown blocks skipped.

use std::io::Read;

use super::link::LinkType;
use super::packets::{MAX_PACKET, Next, Order, Record, corrupt, longest, part};
use super::window::{ROOM, Window};
use crate::report::SourceError;

mod block {
    pub const SECTION: u32 = 0x0a0d_0d0a;
    pub const INTERFACE: u32 = 1;
    /// Obsolete.
    pub const PACKET: u32 = 2;
    pub const SIMPLE: u32 = 3;
    pub const ENHANCED: u32 = 6;
}

/// Everything of a packet block but the packet, without options.
pub(super) const PACKET_BLOCK_REST: usize = 32;
/// Interfaces that one section may describe: memory is bounded.
const MAX_INTERFACES: usize = 65_536;

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: LinkType,
    /// 0: unlimited.
    snaplen: u32,
    unit: Unit,
    offset_us: i64,
}

/// What one tick of an interface's clock is (`if_tsresol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// So many µs.
    Micros(u64),
    /// So many make a µs.
    PerMicro(u64),
    /// 2^-n s.
    Binary(u32),
}

impl Unit {
    fn new(resolution: u8) -> Self {
        let n = u32::from(resolution & 0x7f);
        if resolution & 0x80 != 0 {
            Unit::Binary(n)
        } else if n <= 6 {
            Unit::Micros(10u64.saturating_pow(6 - n))
        } else {
            // Finer than 64 bits of ticks make a µs of: 0.
            10u64.checked_pow(n - 6).map_or(Unit::Micros(0), Unit::PerMicro)
        }
    }

    #[inline]
    fn micros(self, ticks: u64) -> u64 {
        match self {
            Unit::Micros(n) => ticks.saturating_mul(n),
            Unit::PerMicro(n) => ticks / n,
            Unit::Binary(n) => u64::try_from((u128::from(ticks) * 1_000_000) >> n).unwrap_or(u64::MAX),
        }
    }
}

#[derive(Default)]
pub(super) struct Ng {
    order: Order,
    interfaces: Vec<Interface>,
    last_us: u64,
    /// Packets without a time.
    pub untimed: u64,
}

impl Ng {
    #[inline]
    pub(super) fn next<R: Read>(&mut self, window: &mut Window<R>) -> Next {
        loop {
            if !window.fill(12)? {
                return Ok(None);
            }
            let Some(h) = window.array::<12>(0) else { return Ok(None) };
            let offset = window.offset();
            let kind = u32::from_be_bytes(part(&h, 0));
            if kind == block::SECTION {
                self.section(&h, offset)?;
            }
            let kind = self.order.u32(part(&h, 0));
            let total = self.order.u32(part(&h, 4));
            if total < 12 || !total.is_multiple_of(4) {
                return Err(corrupt("the block", offset, format!("claims {total} bytes: not 12 or more, by fours")));
            }
            let held = total as usize <= ROOM;
            if held && !window.fill(total as usize)? {
                return Ok(None);
            }
            if held {
                self.check_end(window, offset, total)?;
            }
            let mut record = None;
            match kind {
                block::SECTION => self.version(window, offset, total)?,
                block::INTERFACE => self.interface(window, offset, total)?,
                block::ENHANCED | block::PACKET | block::SIMPLE => {
                    if !held && !window.fill(PACKET_BLOCK_REST)? {
                        return Ok(None);
                    }
                    record = Some(self.packet(window, kind, offset, total)?);
                }
                _ => {}
            }
            if held {
                let from = window.consume(total as usize);
                if let Some(record) = &mut record {
                    record.from += from;
                }
            } else {
                if !window.skip(u64::from(total) - 4)? || !window.fill(4)? {
                    return Ok(None);
                }
                check(offset, total, self.order.u32(window.array(0).unwrap_or_default()))?;
                window.consume(4);
            }
            if record.is_some() {
                return Ok(record);
            }
        }
    }

    /// Byte order of the section that begins. Its length is written in it.
    fn section(&mut self, h: &[u8; 12], offset: u64) -> Result<(), SourceError> {
        self.order = match u32::from_be_bytes(part(h, 8)) {
            0x1a2b_3c4d => Order::Big,
            0x4d3c_2b1a => Order::Little,
            m => return Err(corrupt("the section", offset, format!("has byte-order magic {m:08x}"))),
        };
        self.interfaces.clear();
        Ok(())
    }

    fn check_end<R: Read>(&self, window: &Window<R>, offset: u64, total: u32) -> Result<(), SourceError> {
        let again = self.order.u32(window.array(total as usize - 4).unwrap_or_default());
        check(offset, total, again)
    }

    fn version<R: Read>(&self, window: &Window<R>, offset: u64, total: u32) -> Result<(), SourceError> {
        let Some(h) = window.array::<24>(0).filter(|_| total >= 28) else {
            return Err(corrupt("the section", offset, format!("has a header of {total} bytes, and 28 are the least")));
        };
        match (self.order.u16(part(&h, 12)), self.order.u16(part(&h, 14))) {
            (1, _) => Ok(()),
            (major, minor) => {
                let why = format!("has version {major}.{minor}, and only 1.x is known");
                Err(corrupt("the section", offset, why))
            }
        }
    }

    fn interface<R: Read>(&mut self, window: &Window<R>, offset: u64, total: u32) -> Result<(), SourceError> {
        let Some(h) = window.array::<16>(0).filter(|_| total >= 20 && total as usize <= ROOM) else {
            let why = format!("is described in {total} bytes, which cannot be");
            return Err(corrupt("the interface", offset, why));
        };
        if self.interfaces.len() >= MAX_INTERFACES {
            let why = format!("is one more than the {MAX_INTERFACES} that a section may describe");
            return Err(corrupt("the interface", offset, why));
        }
        let mut interface = Interface {
            link: LinkType(u32::from(self.order.u16(part(&h, 8)))),
            snaplen: self.order.u32(part(&h, 12)),
            unit: Unit::Micros(1),
            offset_us: 0,
        };
        let mut options = window.bytes().get(16..total as usize - 4).unwrap_or_default();
        while let Some((&[a, b, c, d], rest)) = options.split_first_chunk() {
            let (code, length) = (self.order.u16([a, b]), usize::from(self.order.u16([c, d])));
            let Some(value) = rest.get(..length) else { break };
            match code {
                0 => break,
                9 => {
                    if let [resolution] = value {
                        interface.unit = Unit::new(*resolution);
                    }
                }
                14 => {
                    if let Ok(seconds) = <[u8; 8]>::try_from(value) {
                        interface.offset_us = (self.order.u64(seconds) as i64).saturating_mul(1_000_000);
                    }
                }
                _ => {}
            }
            options = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        self.interfaces.push(interface);
        Ok(())
    }

    /// The packet of a block that is held, or whose header is; `from` counts from the block's first byte.
    #[inline]
    fn packet<R: Read>(
        &mut self,
        window: &Window<R>,
        kind: u32,
        offset: u64,
        total: u32,
    ) -> Result<Record, SourceError> {
        let order = self.order;
        let simple = kind == block::SIMPLE;
        let (header, rest) = if simple { (12, 16) } else { (28, PACKET_BLOCK_REST as u32) };
        let Some(room) = total.checked_sub(rest) else {
            return Err(corrupt("the packet block", offset, format!("is of {total} bytes, and {rest} are the least")));
        };
        let field = |at: usize| order.u32(window.array(at).unwrap_or_default());
        let index = match kind {
            block::SIMPLE => 0,
            block::PACKET => u32::from(order.u16(window.array(8).unwrap_or_default())),
            _ => field(8),
        };
        let Some(&interface) = self.interfaces.get(index as usize) else {
            let why = format!("is of interface {index}, and {} were described", self.interfaces.len());
            return Err(corrupt("the packet block", offset, why));
        };
        let (captured, wire_len) = if simple {
            let wire_len = field(8);
            let limit = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
            (wire_len.min(limit).min(room), wire_len)
        } else {
            (field(20), field(24))
        };
        if captured > room || captured > longest(interface.link) {
            let why = format!("claims {captured} bytes in a block that has room for {room}");
            return Err(corrupt("the packet", offset, why));
        }
        if simple {
            self.untimed += 1;
        } else {
            let ticks = u64::from(field(12)) << 32 | u64::from(field(16));
            self.last_us = interface.unit.micros(ticks).saturating_add_signed(interface.offset_us);
        }
        let held = total as usize <= ROOM && captured <= MAX_PACKET;
        Ok(Record {
            at_us: self.last_us,
            link: interface.link,
            from: header,
            len: if held { captured as usize } else { 0 },
            wire_len: wire_len.max(captured),
            offset,
        })
    }
}

fn check(offset: u64, total: u32, again: u32) -> Result<(), SourceError> {
    if total == again {
        return Ok(());
    }
    Err(corrupt("the block", offset, format!("begins with the length {total} and ends with {again}")))
}
