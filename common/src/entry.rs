//! Entries: decisions as they lie in kernel maps, and the structures that make looking for them cheap.
//!
//! Most packets belong to nobody on a list. A bitmap with two bits per IPv4 /24 (IPv6: per hashed /48) says whether any
//! block or allow entry touches that neighbourhood; only then is one hash searched, once per prefix length in use.

/// What an entry does. The order is the order of strength: when several entries match, the strongest decides, and among
/// equals the narrowest is credited.
pub mod action {
    pub const SHADOW: u8 = 1;
    pub const DROP: u8 = 3;
}

/// Which packets an entry means: bits of [`Entry::sides`].
pub mod side {
    /// Ingress packets, by source address.
    pub const IN: u8 = 1;
    /// Egress packets, by destination address.
    pub const OUT: u8 = 2;
}

/// Who made an entry.
pub mod origin {
    pub const MANUAL: u8 = 1;
    pub const AUTOMATIC: u8 = 2;
    /// The automatic safe set (allow entries only).
    pub const SAFE_SET: u8 = 3;
}

/// Never expires.
pub const FOREVER: u64 = u64::MAX;

/// No hit counter.
pub const NO_SLOT: u32 = u32::MAX;

/// Value of the block and allow hashes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Entry {
    /// CLOCK_MONOTONIC, ns; [`FOREVER`] for none. Checked in the kernel with the coarse clock.
    pub expires_ns: u64,
    /// Index into the hit counters, [`NO_SLOT`] for none.
    pub slot: u32,
    /// Reserved for a code of the reason.
    pub reason: u16,
    /// One of [`action`]; ignored in allow hashes.
    pub action: u8,
    /// Bits of [`side`].
    pub sides: u8,
    /// One of [`origin`].
    pub origin: u8,
    pub reserved: [u8; 7],
}

/// Hits of one entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Hits {
    pub packets: u64,
    /// IP-layer bytes.
    pub bytes: u64,
}

/// Key of the IPv4 hashes: address in network byte order with host bits zero, and prefix length.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct V4Key {
    pub addr: [u8; 4],
    pub len: u32,
}

/// Key of the IPv6 hashes, like [`V4Key`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct V6Key {
    pub addr: [u8; 16],
    pub len: u32,
}

/// Key of the host + protocol + port hash. The port is the protected side's.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct PortKey {
    /// The remote host; IPv4 as IPv4-mapped.
    pub addr: [u8; 16],
    pub port: u16,
    pub proto: u8,
    pub reserved: u8,
}

/// Different prefix lengths that may be in use at once, per list and family. Enough for every IPv4 length.
pub const MAX_LENGTHS: usize = 33;

/// Prefix lengths in use in one hash, narrowest (longest) first.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Lengths {
    pub count: u32,
    /// Whether a prefix wider than the bitmap's cells is on the list, so that a clear bit says nothing.
    pub wide: u32,
    pub len: [u8; MAX_LENGTHS],
    pub reserved: [u8; 7],
}

impl Lengths {
    pub const NONE: Self = Self { count: 0, wide: 0, len: [0; MAX_LENGTHS], reserved: [0; 7] };
}

/// What lists are in use. Two of these lie in the kernel, one live: a change is written to the idle one, then switched.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Lists {
    pub v4_block: Lengths,
    pub v4_allow: Lengths,
    pub v6_block: Lengths,
    pub v6_allow: Lengths,
    /// Entries in the host + protocol + port hash.
    pub ports: u32,
    pub reserved: u32,
}

impl Lists {
    pub const NONE: Self = Self {
        v4_block: Lengths::NONE,
        v4_allow: Lengths::NONE,
        v6_block: Lengths::NONE,
        v6_allow: Lengths::NONE,
        ports: 0,
        reserved: 0,
    };
}

/// Bits of a cell of the neighbourhood bitmaps.
pub mod cell {
    pub const BLOCK: u64 = 1;
    pub const ALLOW: u64 = 2;
}

/// Cells of two bits in one bitmap word.
pub const CELLS_PER_WORD: u32 = 32;
/// One cell per IPv4 /24.
pub const V4_CELLS: u32 = 1 << 24;
/// Bits of the hash of an IPv6 /48.
pub const V6_CELL_BITS: u32 = 22;
pub const V6_CELLS: u32 = 1 << V6_CELL_BITS;
/// Prefixes shorter than this cover several IPv6 cells that no hash can enumerate.
pub const V6_CELL_PREFIX: u8 = 48;
/// Prefixes shorter than this cover several IPv4 cells.
pub const V4_CELL_PREFIX: u8 = 24;

/// Cell of an IPv4 address, as a number.
#[inline(always)]
pub const fn v4_cell(addr: u32) -> u32 {
    addr >> 8
}

/// Cell of an IPv6 address, from its upper half: multiplicative hash of its /48 (Knuth, TAOCP 3, 6.4).
#[inline(always)]
pub const fn v6_cell(hi: u64) -> u32 {
    ((hi >> 16).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - V6_CELL_BITS)) as u32
}

/// `addr` with all but the first `len` bits zero.
#[inline(always)]
pub const fn v4_masked(addr: [u8; 4], len: u32) -> [u8; 4] {
    let mask = if len == 0 { 0 } else { u32::MAX << ((32 - len) & 31) };
    (u32::from_be_bytes(addr) & mask).to_be_bytes()
}

/// `addr` (two big-endian halves) with all but the first `len` bits zero.
#[inline(always)]
pub const fn v6_masked(hi: u64, lo: u64, len: u32) -> (u64, u64) {
    if len == 0 {
        (0, 0)
    } else if len <= 64 {
        (hi & (u64::MAX << ((64 - len) & 63)), 0)
    } else {
        (hi, lo & (u64::MAX << ((128 - len) & 63)))
    }
}

/// Whether the packet is one that no entry drops: DHCP (RFC 2131), DHCPv6 (RFC 8415), ICMPv6 neighbour discovery
/// (RFC 4861, types 133 to 137).
#[inline(always)]
pub const fn exempt(proto: u8, family: u8, src_port: u16, dst_port: u16, fragment: bool) -> bool {
    use crate::flow::ip_proto::{ICMPV6, UDP};
    if fragment {
        return false;
    }
    if proto == UDP {
        if family == 4 {
            matches!((src_port, dst_port), (67, 67) | (67, 68) | (68, 67) | (68, 68))
        } else {
            matches!((src_port, dst_port), (546, 546) | (546, 547) | (547, 546) | (547, 547))
        }
    } else {
        // Sender's port of an ICMP packet is its type.
        proto == ICMPV6 && family == 6 && src_port >= 133 && src_port <= 137
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_at_their_edges() {
        assert_eq!(v4_masked([255; 4], 0), [0; 4]);
        assert_eq!(v4_masked([255; 4], 32), [255; 4]);
        assert_eq!(v4_masked([10, 1, 2, 3], 23), [10, 1, 2, 0]);
        assert_eq!(v6_masked(u64::MAX, u64::MAX, 0), (0, 0));
        assert_eq!(v6_masked(u64::MAX, u64::MAX, 64), (u64::MAX, 0));
        assert_eq!(v6_masked(u64::MAX, u64::MAX, 65), (u64::MAX, 1 << 63));
        assert_eq!(v6_masked(u64::MAX, u64::MAX, 128), (u64::MAX, u64::MAX));
    }

    #[test]
    fn cells_lie_in_the_bitmap_and_follow_the_48() {
        assert!(v4_cell(u32::MAX) < V4_CELLS && v6_cell(u64::MAX) < V6_CELLS);
        let c = v6_cell(0x2001_0db8_0001_0000);
        assert_eq!(v6_cell(0x2001_0db8_0001_0900), c);
        assert_ne!(v6_cell(0x2001_0db8_0002_0000), c);
    }
}
