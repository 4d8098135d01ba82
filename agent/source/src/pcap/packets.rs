//! Captured packets, one after the other, from either format.
//!
//! Our own reader, because the crates fall short: `pcap-parser` 0.17 has to hold any block, also one that it skips, and
//! loses the cause of a failed read; `pcap-file` 2 stops at a packet longer than the file's snaplen (which tools write)
//! and allocates for each packet.

use std::io::Read;

use super::classic::{self, Classic};
use super::link::LinkType;
use super::ng::{self, Ng};
use super::window::Window;
use crate::report::SourceError;

/// The latest time that is kept, µs: the end of the year 9999. What claims to be later is set to it.
pub const LATEST_US: u64 = 253_402_300_799_999_999;

/// Longest packet of a link type that is read, as in libpcap (`MAXIMUM_SNAPLEN`).
pub(super) const MAX_PACKET: u32 = 262_144;
/// Longest packet of any link type (libpcap: USB and D-Bus).
pub(super) const MAX_ANY_PACKET: u32 = 128 * 1024 * 1024;

/// One captured packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Time since the Unix epoch, µs (finer resolutions rounded down), at most [`LATEST_US`]. A Simple Packet Block has no
    /// time and gets that of the packet before.
    pub at_us: u64,
    pub link: LinkType,
    /// As captured: may end before the packet does. Empty for a packet of more than 256 KiB (of link types that are not
    /// networks), or in a block of more than 512 KiB.
    pub data: &'a [u8],
    /// Length on the wire, link header included; never less than was captured.
    pub wire_len: u32,
    /// Where the packet's record or block begins in the (decompressed) file.
    pub offset: u64,
}

/// A packet whose bytes lie in the window.
#[derive(Clone, Copy)]
pub(super) struct Record {
    pub at_us: u64,
    pub link: LinkType,
    pub from: usize,
    pub len: usize,
    pub wire_len: u32,
    pub offset: u64,
}

enum Kind {
    Classic(Classic),
    Ng(Ng),
}

/// The packets of a capture file, pcap or pcapng by what it begins with.
///
/// Memory is fixed, whatever the file claims. The file may end anywhere: every complete packet comes, and
/// [`Packets::truncated`] tells. Packets come in the file's order, which need not be that of their times.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use weir_source::pcap::{Layers, Packets};
///
/// let mut packets = Packets::new(std::fs::File::open("export.pcap")?)?;
/// while let Some(packet) = packets.next_packet()? {
///     let Ok(layers) = Layers::of(&packet) else { continue };
///     if layers.meta.proto == 17 {
///         println!("{} bytes to port {}", layers.payload(&packet).len(), layers.meta.dst_port);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Packets<R> {
    window: Window<R>,
    kind: Option<Kind>,
    truncated: bool,
    untimed: u64,
}

impl<R: Read> Packets<R> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// [`SourceError::Unknown`] where it is no capture, [`SourceError::Corrupt`] for a version that is not known.
    pub fn new(reader: R) -> Result<Self, SourceError> {
        let mut window = Window::new(reader);
        window.fill(4)?;
        let kind = match window.bytes() {
            [0x0a, 0x0d, 0x0d, 0x0a, ..] => Some(Kind::Ng(Ng::default())),
            [a, b, c, d, ..] => Classic::new([*a, *b, *c, *d], &mut window)?.map(Kind::Classic),
            _ => None,
        };
        Ok(Self { truncated: kind.is_none(), window, kind, untimed: 0 })
    }

    /// The next packet, `None` at the end of the file, also where it is cut short.
    ///
    /// # Errors
    /// [`SourceError::Corrupt`] where lengths make no sense: nothing can be read behind that. [`SourceError::Io`].
    #[inline(always)]
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, SourceError> {
        if let Some(Kind::Classic(c)) = &self.kind
            && let Some(record) = c.near(&mut self.window)
        {
            return Ok(Some(self.packet(record)));
        }
        self.next_from_afar()
    }

    #[inline(always)]
    fn packet(&self, record: Record) -> Packet<'_> {
        Packet {
            at_us: record.at_us.min(LATEST_US),
            link: record.link,
            data: self.window.taken(record.from, record.len),
            wire_len: record.wire_len,
            offset: record.offset,
        }
    }

    #[inline(never)]
    fn next_from_afar(&mut self) -> Result<Option<Packet<'_>>, SourceError> {
        let next = match &mut self.kind {
            None => Ok(None),
            Some(Kind::Classic(c)) => c.next(&mut self.window),
            Some(Kind::Ng(n)) => n.next(&mut self.window),
        };
        let record = match next {
            Ok(Some(record)) => record,
            Ok(None) => {
                self.truncated |= self.window.cut();
                self.close();
                return Ok(None);
            }
            Err(e) => {
                self.close();
                return Err(e);
            }
        };
        Ok(Some(self.packet(record)))
    }

    fn close(&mut self) {
        if let Some(Kind::Ng(n)) = &self.kind {
            self.untimed = n.untimed;
        }
        self.kind = None;
    }

    /// The file ended in the middle of a header, packet or block. Known once [`Packets::next_packet`] gave `None`.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// Packets without a time of their own (Simple Packet Blocks). Known at the end.
    pub fn untimed(&self) -> u64 {
        self.untimed
    }

    /// Bytes of the (decompressed) file read so far.
    pub fn offset(&self) -> u64 {
        self.window.offset()
    }
}

pub(super) fn corrupt(what: &'static str, offset: u64, why: String) -> SourceError {
    SourceError::Corrupt { what, offset, why }
}

/// Byte order of a file or section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    Little,
    Big,
}

impl Order {
    #[inline(always)]
    pub(super) fn u16(self, b: [u8; 2]) -> u16 {
        match self {
            Order::Little => u16::from_le_bytes(b),
            Order::Big => u16::from_be_bytes(b),
        }
    }
    #[inline(always)]
    pub(super) fn u32(self, b: [u8; 4]) -> u32 {
        match self {
            Order::Little => u32::from_le_bytes(b),
            Order::Big => u32::from_be_bytes(b),
        }
    }
    #[inline(always)]
    pub(super) fn u64(self, b: [u8; 8]) -> u64 {
        match self {
            Order::Little => u64::from_le_bytes(b),
            Order::Big => u64::from_be_bytes(b),
        }
    }
}

/// Cut out of the middle of `b`, which is longer.
#[inline(always)]
pub(super) fn part<const N: usize, const M: usize>(b: &[u8; M], at: usize) -> [u8; N] {
    b.get(at..).and_then(|b| b.first_chunk()).copied().unwrap_or([0; N])
}

/// Longest packet that `link` may have.
pub(super) fn longest(link: LinkType) -> u32 {
    if link.is_read() { MAX_PACKET } else { MAX_ANY_PACKET }
}

pub(super) type Next = Result<Option<Record>, SourceError>;

const _: () = assert!(MAX_PACKET as usize + classic::MAX_RECORD_HEADER <= super::window::ROOM);
const _: () = assert!(MAX_PACKET as usize + ng::PACKET_BLOCK_REST <= super::window::ROOM);
