//! Entries: decisions as they lie in kernel maps, and the structures that make looking for them cheap.
//!
//! Most packets belong to nobody on a list. A bitmap with two bits per IPv4 /24 (IPv6: per hashed /48) says whether any
//! block or allow entry touches that neighbourhood; only then is the table of entries searched ([`crate::table`]), once per
//! prefix length in use.

use crate::limit::{self, Limit};

/// What an entry does. The order is the order of strength: when several entries match, the strongest decides, and among
/// equals the narrowest is credited.
pub mod action {
    pub const SHADOW: u8 = 1;
    /// Drops what is beyond [`super::Entry::limit`].
    pub const LIMIT: u8 = 2;
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

/// An entry, apart from what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// CLOCK_MONOTONIC, ns; [`FOREVER`] for none. Checked in the kernel with the coarse clock, and kept to 256 ns, rounded
    /// up: see [`Entry::kept`].
    pub expires_ns: u64,
    /// Reserved for a code of the reason.
    pub reason: u16,
    /// One of [`action`]; ignored on allow lists.
    pub action: u8,
    /// Bits of [`side`].
    pub sides: u8,
    /// One of [`origin`].
    pub origin: u8,
    /// For [`action::LIMIT`].
    pub limit: Limit,
}

impl Entry {
    /// The entry as it comes back from a kernel that it was written to.
    pub const fn kept(self) -> Self {
        Self { expires_ns: verdict::expires_ns(verdict::of(&self)), ..self }
    }
}

/// All that decides a packet, in one word, so that an entry changes at once for whoever reads it: the action in bits 0 to 3,
/// the sides in bits 4 to 7, the expiry in units of 256 ns above.
pub mod verdict {
    use super::{Entry, FOREVER};

    const UNIT_BITS: u32 = 8;
    const NEVER: u64 = u64::MAX >> UNIT_BITS;

    pub const fn of(entry: &Entry) -> u64 {
        let unit = 1 << UNIT_BITS;
        let expires = if entry.expires_ns > u64::MAX - unit { NEVER } else { entry.expires_ns.div_ceil(unit) };
        expires << UNIT_BITS | (entry.sides as u64 & 15) << 4 | (entry.action as u64 & 15)
    }

    #[inline(always)]
    pub const fn action(verdict: u64) -> u32 {
        verdict as u32 & 15
    }

    #[inline(always)]
    pub const fn sides(verdict: u64) -> u8 {
        (verdict >> 4) as u8 & 15
    }

    pub const fn expires_ns(verdict: u64) -> u64 {
        if never_expires(verdict) { FOREVER } else { verdict >> UNIT_BITS << UNIT_BITS }
    }

    #[inline(always)]
    pub const fn never_expires(verdict: u64) -> bool {
        verdict >> UNIT_BITS == NEVER
    }

    /// Whether it has, at this time.
    #[inline(always)]
    pub const fn expired(verdict: u64, now_ns: u64) -> bool {
        now_ns >> UNIT_BITS >= verdict >> UNIT_BITS
    }
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

/// Hits as programs count them: both numbers in one word, which one atomic addition a packet moves on. Whoever makes a number
/// reach half of its room moves that half over to `folded`, so that none is ever lost.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct HitCells {
    /// Packets in the low 26 bits, bytes above.
    pub recent: u64,
    /// Halves moved over: of packets (2^25 each) in the low 32 bits, of bytes (2^37 each) above.
    pub folded: u64,
}

impl HitCells {
    const BYTES_AT: u32 = 26;
    const PACKETS_HALF: u32 = Self::BYTES_AT - 1;
    const BYTES_HALF: u32 = 63;

    /// What a packet adds to `recent`; at most 2^25 packets and 2^37 bytes.
    #[inline(always)]
    pub const fn addend(packets: u32, bytes: u32) -> u64 {
        packets as u64 | (bytes as u64) << Self::BYTES_AT
    }

    /// What the one whose addition made `before` into `after` has to take from `recent` and to add to `folded` (first), so that
    /// there is room again. 0 and 0 for all but one of millions of packets.
    #[inline(always)]
    pub const fn fold(before: u64, after: u64) -> (u64, u64) {
        let reached = !before & after;
        let packets = reached >> Self::PACKETS_HALF & 1;
        let bytes = reached >> Self::BYTES_HALF & 1;
        (packets << Self::PACKETS_HALF | bytes << Self::BYTES_HALF, packets | bytes << 32)
    }

    /// Whether somebody is about to move a half over: then the two words do not belong together.
    pub const fn in_motion(&self) -> bool {
        (self.recent >> Self::PACKETS_HALF | self.recent >> Self::BYTES_HALF) & 1 != 0
    }

    pub const fn hits(&self) -> Hits {
        let packets = (self.recent & ((1 << Self::BYTES_AT) - 1)) + ((self.folded & 0xffff_ffff) << Self::PACKETS_HALF);
        let bytes = (self.recent >> Self::BYTES_AT) + ((self.folded >> 32) << (Self::BYTES_HALF - Self::BYTES_AT));
        Hits { packets, bytes }
    }

    /// Cells that tell of these hits.
    pub const fn of(hits: Hits) -> Self {
        let (packets, bytes) = (1_u64 << Self::PACKETS_HALF, 1_u64 << (Self::BYTES_HALF - Self::BYTES_AT));
        Self {
            recent: (hits.packets % packets) | ((hits.bytes % bytes) << Self::BYTES_AT),
            folded: (hits.packets / packets) | ((hits.bytes / bytes) << 32),
        }
    }
}

/// What an entry is about, as it is hashed and compared: the remote address as two numbers ([`crate::address::Address::halves`];
/// IPv4 as IPv4-mapped, host bits zero), then the list, the kind of target and what belongs to that kind.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct EntryKey {
    words: [u64; 3],
}

/// Kinds of targets.
pub mod kind {
    pub const V4: u64 = 4;
    pub const V6: u64 = 6;
    /// One protocol and port of ours, for one remote host.
    pub const PORT: u64 = 1;
    /// One protocol and port of the remote host's own.
    pub const FAR_PORT: u64 = 2;
    /// One flow.
    pub const FLOW: u64 = 3;
    /// Added to the kind: the allow list.
    pub const ALLOW: u64 = 128;
}

impl EntryKey {
    /// A prefix, its length counted in 128 bits. `kind` is [`kind::V4`] or [`kind::V6`], on the allow list with
    /// [`kind::ALLOW`] added.
    #[inline(always)]
    pub const fn net(hi: u64, lo: u64, kind: u64, len: u32) -> Self {
        Self { words: [hi, lo, kind | (len as u64) << 8] }
    }

    #[inline(always)]
    pub const fn port(hi: u64, lo: u64, proto: u8, port: u16) -> Self {
        Self { words: [hi, lo, kind::PORT | (proto as u64) << 8 | (port as u64) << 16] }
    }

    #[inline(always)]
    pub const fn far_port(hi: u64, lo: u64, proto: u8, port: u16) -> Self {
        Self { words: [hi, lo, kind::FAR_PORT | (proto as u64) << 8 | (port as u64) << 16] }
    }

    /// One flow with a remote host. A key has no room for our address as well: it lies under the number `end` in an array
    /// beside the records ([`FlowEnd`]). A packet is looked for with 0.
    #[inline(always)]
    pub const fn flow(hi: u64, lo: u64, proto: u8, far_port: u16, port: u16, end: u16) -> Self {
        let what = kind::FLOW | (proto as u64) << 8 | (far_port as u64) << 16 | (port as u64) << 32;
        Self { words: [hi, lo, what | (end as u64) << FLOW_END_AT] }
    }

    #[inline(always)]
    pub const fn words(&self) -> &[u64; 3] {
        &self.words
    }

    /// The address's halves.
    pub const fn halves(&self) -> (u64, u64) {
        (self.words[0], self.words[1])
    }

    /// Kind, prefix length or protocol, and port (of a flow: the remote host's).
    pub const fn parts(&self) -> (u64, u8, u16) {
        let w = self.words[2];
        (w & 0xff, (w >> 8) as u8, (w >> 16) as u16)
    }

    /// Our port of a flow.
    pub const fn flow_port(&self) -> u16 {
        (self.words[2] >> 32) as u16
    }

    /// Where our address of a flow lies.
    #[inline(always)]
    pub const fn flow_end(&self) -> u32 {
        (self.words[2] >> FLOW_END_AT) as u32
    }

    pub const fn is_flow(&self) -> bool {
        self.parts().0 == kind::FLOW
    }

    /// The key of a flow without the number of its end: what a packet tells.
    pub const fn without_end(&self) -> Self {
        let [hi, lo, what] = self.words;
        Self { words: [hi, lo, if self.is_flow() { what & FLOW_MASK } else { what }] }
    }

    /// The key of a flow with the number of its end.
    pub const fn with_end(&self, end: u16) -> Self {
        let [hi, lo, what] = self.words;
        Self { words: [hi, lo, (what & FLOW_MASK) | (end as u64) << FLOW_END_AT] }
    }

    /// What a flow is hashed by.
    #[inline(always)]
    pub const fn flow_words(&self, ours: FlowEnd) -> [u64; 5] {
        let [hi, lo, what] = self.words;
        [hi, lo, what & FLOW_MASK, ours.words[0], ours.words[1]]
    }
}

/// Bits of a flow's key that a packet tells.
pub const FLOW_MASK: u64 = (1 << FLOW_END_AT) - 1;
const FLOW_END_AT: u32 = 48;

/// Flows that may be entries at once: their ends are numbered in 16 bits.
pub const MAX_FLOW_TARGETS: u32 = 1 << 16;

/// Our address of a flow that is an entry, as two numbers ([`crate::address::Address::halves`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct FlowEnd {
    words: [u64; 2],
}

impl FlowEnd {
    #[inline(always)]
    pub const fn new(hi: u64, lo: u64) -> Self {
        Self { words: [hi, lo] }
    }

    #[inline(always)]
    pub const fn halves(&self) -> (u64, u64) {
        (self.words[0], self.words[1])
    }
}

/// An entry as it lies in the kernel: one cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct EntryRecord {
    /// Written before the record can be found, and not again before nobody can find it any more.
    pub key: EntryKey,
    /// See [`verdict`].
    pub verdict: u64,
    pub hits: HitCells,
    /// The limit in bits 24 to 63; below it what the kernel programs do not look at: the reason, and in bits 16 to 23 the origin.
    pub note: u64,
    /// The state of the limit, which a change leaves alone.
    pub limit_state: u64,
}

impl EntryRecord {
    pub const fn new(key: EntryKey, entry: &Entry, hits: Hits) -> Self {
        Self { key, verdict: verdict::of(entry), hits: HitCells::of(hits), note: Self::note(entry), limit_state: 0 }
    }

    pub const fn note(entry: &Entry) -> u64 {
        entry.reason as u64 | (entry.origin as u64) << 16 | entry.limit.bits() << LIMIT_AT
    }

    /// The limit in a note.
    #[inline(always)]
    pub const fn limit(note: u64) -> Limit {
        Limit::from_bits(note >> LIMIT_AT)
    }

    pub const fn entry(verdict: u64, note: u64) -> Entry {
        Entry {
            expires_ns: verdict::expires_ns(verdict),
            reason: note as u16,
            action: verdict::action(verdict) as u8,
            sides: verdict::sides(verdict),
            origin: (note >> 16) as u8,
            limit: Self::limit(note),
        }
    }
}

const LIMIT_AT: u32 = 24;
const _: () = assert!(size_of::<EntryRecord>() == 64 && LIMIT_AT + limit::BITS == 64);

/// An IPv4 prefix: address in network byte order with host bits zero, and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct V4Key {
    pub addr: [u8; 4],
    pub len: u32,
}

/// An IPv6 prefix, like [`V4Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct V6Key {
    pub addr: [u8; 16],
    pub len: u32,
}

/// Host, protocol and port. The port is the protected side's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortKey {
    /// The remote host; IPv4 as IPv4-mapped.
    pub addr: [u8; 16],
    pub port: u16,
    pub proto: u8,
}

/// One flow with a remote host, whatever its VLAN: where tags are stripped on one side alone, a key with them would miss half of
/// the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowTarget {
    /// IPv4 as IPv4-mapped.
    pub remote: [u8; 16],
    pub ours: [u8; 16],
    /// Ports as in flow keys: of ICMP the type and code as Community ID v1 maps them.
    pub far_port: u16,
    pub port: u16,
    pub proto: u8,
}

/// Different prefix lengths that may be in use at once, per list and family. Enough for every IPv4 length.
pub const MAX_LENGTHS: usize = 33;

/// Prefix lengths in use on one list, narrowest (longest) first, counted in 128 bits.
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

/// What lists are in use, and which part of the index says where their entries are.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Lists {
    pub v4_block: Lengths,
    pub v4_allow: Lengths,
    pub v6_block: Lengths,
    pub v6_allow: Lengths,
    /// Kinds of entries in use that are narrower than a host: bits of [`narrow`].
    pub narrow: u32,
    /// The part of the index in use: its first line, and how many.
    pub first: u32,
    pub lines: u32,
    /// 0.
    pub nought: u32,
    /// Families whose entries are looked for whatever the bitmap says: bits of [`direct`].
    pub direct: u32,
    pub reserved: u32,
}

impl Lists {
    pub const NONE: Self = Self {
        v4_block: Lengths::NONE,
        v4_allow: Lengths::NONE,
        v6_block: Lengths::NONE,
        v6_allow: Lengths::NONE,
        narrow: 0,
        first: 0,
        lines: 0,
        nought: 0,
        direct: 0,
        reserved: 0,
    };
}

/// Bits of [`Lists::narrow`]. None is looked for before one is there.
pub mod narrow {
    pub const PORT: u32 = 1;
    pub const FAR_PORT: u32 = 2;
    pub const FLOW: u32 = 4;
}

/// Bits of [`Lists::direct`]. Where an index is small and one or two look-ups settle a packet, asking the bitmap first costs
/// more than it saves.
pub mod direct {
    pub const V4: u32 = 1;
    pub const V6: u32 = 2;
}

/// Two descriptions of the lists, one live: a change is written to the idle one, then switched.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct LiveLists {
    /// Which one is live (lowest bit).
    pub live: u64,
    pub lists: [Lists; 2],
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

/// An address (two halves) with all but the first `len` of its 128 bits zero.
#[inline(always)]
pub const fn masked(hi: u64, lo: u64, len: u32) -> (u64, u64) {
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
        assert_eq!(masked(u64::MAX, u64::MAX, 0), (0, 0));
        assert_eq!(masked(u64::MAX, u64::MAX, 64), (u64::MAX, 0));
        assert_eq!(masked(u64::MAX, u64::MAX, 65), (u64::MAX, 1 << 63));
        assert_eq!(masked(u64::MAX, u64::MAX, 128), (u64::MAX, u64::MAX));
    }

    #[test]
    fn a_flows_key_tells_all_but_our_address_and_keys_of_other_kinds_stay_as_they_are() {
        let key = EntryKey::flow(1, 2, 17, 53, 40_000, 65_535);
        assert_eq!(
            (key.halves(), key.parts(), key.flow_port(), key.flow_end()),
            ((1, 2), (kind::FLOW, 17, 53), 40_000, 65_535)
        );
        assert_eq!(key.without_end(), EntryKey::flow(1, 2, 17, 53, 40_000, 0));
        assert_eq!(key.flow_words(FlowEnd::new(3, 4)), key.without_end().flow_words(FlowEnd::new(3, 4)));
        assert_eq!(key.flow_words(FlowEnd::new(3, 4))[3..], [3, 4]);
        for other in
            [EntryKey::port(1, 2, 6, 443), EntryKey::far_port(1, 2, 6, 443), EntryKey::net(1, 2, kind::V6, 128)]
        {
            assert!(!other.is_flow() && other.without_end() == other);
        }
        assert_ne!(EntryKey::port(1, 2, 6, 443), EntryKey::far_port(1, 2, 6, 443));
    }

    #[test]
    fn cells_lie_in_the_bitmap_and_follow_the_48() {
        assert!(v4_cell(u32::MAX) < V4_CELLS && v6_cell(u64::MAX) < V6_CELLS);
        let c = v6_cell(0x2001_0db8_0001_0000);
        assert_eq!(v6_cell(0x2001_0db8_0001_0900), c);
        assert_ne!(v6_cell(0x2001_0db8_0002_0000), c);
    }

    #[test]
    #[cfg_attr(miri, ignore = "no unsafe code; too long for Miri")]
    fn hits_in_one_word_are_exact_however_many_they_are() {
        let mut cells = HitCells::default();
        let (mut packets, mut bytes) = (0_u64, 0_u64);
        for n in 0..200_000_u32 {
            let (p, b) = (1 + n * 7919 % 40_000, n.wrapping_mul(2_654_435_761) >> 8);
            (packets, bytes) = (packets + u64::from(p), bytes + u64::from(b));
            let before = cells.recent;
            cells.recent = before.wrapping_add(HitCells::addend(p, b));
            let (less, more) = HitCells::fold(before, cells.recent);
            assert_eq!(less != 0, cells.in_motion());
            cells.folded += more;
            cells.recent = cells.recent.wrapping_sub(less);
        }
        assert!(cells.folded & 0xffff_ffff > 100 && cells.folded >> 32 > 10, "both were folded: {cells:?}");
        assert_eq!(cells.hits(), Hits { packets, bytes });
        assert_eq!(HitCells::of(cells.hits()), cells);
    }

    #[test]
    fn a_verdict_keeps_what_decides_and_ends_no_sooner_than_told() {
        let limit = Limit::new(crate::limit::Unit::Bytes, 12_500, 100_000).unwrap();
        let entry =
            |expires_ns| Entry { expires_ns, reason: 7, action: action::DROP, sides: side::OUT, origin: 2, limit };
        for at in [0, 1, 255, 256, 257, 1 << 62, FOREVER - 1, FOREVER] {
            let e = entry(at);
            let v = verdict::of(&e);
            let kept = EntryRecord::entry(v, EntryRecord::note(&e));
            assert_eq!(kept, e.kept());
            assert_eq!(kept.kept(), kept);
            assert!(kept.expires_ns >= at && kept.expires_ns - at < 256, "{at}");
            assert_eq!((kept.action, kept.sides, kept.reason, kept.origin), (action::DROP, side::OUT, 7, 2));
            assert!(verdict::expired(v, kept.expires_ns) || at >= FOREVER - 256);
            assert!(kept.expires_ns < 257 || !verdict::expired(v, kept.expires_ns.saturating_sub(257)));
        }
        assert!(verdict::never_expires(verdict::of(&entry(FOREVER))));
        assert!(!verdict::never_expires(verdict::of(&entry(1 << 62))));
    }
}
