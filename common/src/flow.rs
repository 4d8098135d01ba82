//! Flow identity and flow statistics.
//!
//! [`FlowStats`] is a monoid over time: for any contiguous split of a packet sequence,
//! `fold(xs).merge(fold(ys)) == fold(xs ++ ys)`. Times are microseconds.

use crate::address::Address;
pub use crate::update::{Cells, Plain, update_cells};
use crate::update::{gap, update_dirs};

/// Protocol numbers (IANA) that Weir treats by name.
pub mod ip_proto {
    pub const ICMP: u8 = 1;
    pub const IGMP: u8 = 2;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMPV6: u8 = 58;
}

/// TCP header flags (RFC 9293, RFC 3168), as in byte 13 of the header.
pub mod tcp_flag {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
}

/// No VLAN tag. (Tag 0 is a priority tag and means no VLAN as well.)
pub const VLAN_NONE: u16 = 0;

/// A bidirectional conversation. Endpoint `a` is the bytewise smaller of the two (address, port) pairs,
/// so that both directions meet in one record. IPv4 addresses are IPv4-mapped (`::ffff:a.b.c.d`).
///
/// 44 bytes, no padding: the kernel hashes it as eleven words.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct FlowKey {
    pub addr_a: [u8; 16],
    pub addr_b: [u8; 16],
    /// Host byte order. For ICMP the type and code as Community ID v1 maps them; 0 for non-first fragments.
    pub port_a: u16,
    pub port_b: u16,
    /// VLAN identifiers (12 bits), 0 where absent.
    pub vlan_outer: u16,
    pub vlan_inner: u16,
    /// IP protocol number of the layer-4 header.
    pub proto: u8,
    /// 4 or 6.
    pub family: u8,
    pub reserved: u16,
}

#[cfg(feature = "user")]
impl FlowKey {
    /// All of it in three words that overlap, for hashing and comparing: field by field is several times the work.
    #[inline(always)]
    pub fn words(&self) -> [u128; 3] {
        const LAST: usize = size_of::<FlowKey>() - 16;
        let bytes = bytemuck::bytes_of(self);
        [0, 16, LAST].map(|at| bytes[at..].first_chunk().map_or(0, |b| u128::from_ne_bytes(*b)))
    }

    /// `==`, by words.
    #[inline(always)]
    pub fn is(&self, other: &Self) -> bool {
        let ([a, b, c], [x, y, z]) = (self.words(), other.words());
        (a ^ x) | (b ^ y) | (c ^ z) == 0
    }
}

/// A [`FlowKey`] as six words: written, hashed and compared by words (see [`Address`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct KeyWords {
    /// Two addresses of two words, ports and VLANs, and protocol and family with four bytes of nothing behind them.
    words: [u64; 6],
}

const _: () = {
    use core::mem::{align_of, offset_of};
    assert!(size_of::<KeyWords>() >= size_of::<FlowKey>() && align_of::<KeyWords>() >= align_of::<FlowKey>());
    assert!(offset_of!(FlowKey, addr_b) == 16 && offset_of!(FlowKey, port_a) == 32);
    assert!(offset_of!(FlowKey, vlan_inner) == 38);
    assert!(offset_of!(FlowKey, proto) == 40 && offset_of!(FlowKey, family) == 41);
};

impl KeyWords {
    /// `shorts` are `port_a`, `port_b`, `vlan_outer` and `vlan_inner`.
    #[inline(always)]
    pub const fn set(&mut self, a: &Address, b: &Address, shorts: [u16; 4], proto: u8, family: u8) {
        let ([a0, a1], [b0, b1], [s0, s1, s2, s3]) = (a.words(), b.words(), shorts);
        let (shorts, last) = if cfg!(target_endian = "little") {
            (s0 as u64 | (s1 as u64) << 16 | (s2 as u64) << 32 | (s3 as u64) << 48, proto as u64 | (family as u64) << 8)
        } else {
            (
                (s0 as u64) << 48 | (s1 as u64) << 32 | (s2 as u64) << 16 | s3 as u64,
                (proto as u64) << 56 | (family as u64) << 48,
            )
        };
        self.words = [a0, a1, b0, b1, shorts, last];
    }

    /// Sets the flow of a packet between two ends without VLANs, in whichever order they belong: without a branch, since the
    /// direction of a packet is a guess. Returns the direction ([`A_TO_B`] or [`B_TO_A`]).
    #[cfg(feature = "user")]
    #[inline(always)]
    pub fn set_ends(&mut self, src: &Address, dst: &Address, ports: [u16; 2], proto: u8, family: u8) -> u32 {
        let ((sh, sl), (dh, dl), [sp, dp]) = (src.halves(), dst.halves(), ports);
        let whole = |h: u64, l: u64| u128::from(h) << 64 | u128::from(l);
        let (s, d) = (whole(sh, sl), whole(dh, dl));
        let back = (d < s) | ((s == d) & (dp < sp));
        let turn = u64::from(back).wrapping_neg();
        let (h, l, p) = ((sh ^ dh) & turn, (sl ^ dl) & turn, (sp ^ dp) & turn as u16);
        let (a, b) = (Address::new(sh ^ h, sl ^ l), Address::new(dh ^ h, dl ^ l));
        self.set(&a, &b, [sp ^ p, dp ^ p, VLAN_NONE, VLAN_NONE], proto, family);
        u32::from(back)
    }

    #[inline(always)]
    pub const fn words(&self) -> &[u64; 6] {
        &self.words
    }

    /// The key that these words make.
    #[inline(always)]
    pub const fn key(&self) -> &FlowKey {
        // SAFETY: as large and as aligned, with the same fields at the same places (asserted above); every bit pattern is
        // a `FlowKey`.
        unsafe { &*core::ptr::from_ref(self).cast::<FlowKey>() }
    }
}

/// A flow as it lies in the kernel. A packet of either direction meets four of the six cache lines: its direction's begin with
/// one of their own, and the key shares one with the end of the first direction.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct FlowRecord {
    pub a_to_b: DirStats,
    pub key: KeyWords,
    pub b_to_a: DirStats,
    pub reserved: [u64; 6],
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<FlowRecord>() == 384 && offset_of!(FlowRecord, b_to_a).is_multiple_of(64));
    // Nothing of the key lies in another line.
    assert!(offset_of!(FlowRecord, key) / 64 == (offset_of!(FlowRecord, b_to_a) - 1) / 64);
};

impl FlowRecord {
    pub const fn stats(&self) -> FlowStats {
        FlowStats { dir: [self.a_to_b.completed(), self.b_to_a.completed()] }
    }

    /// Adds a packet to the statistics.
    ///
    /// # Safety
    /// As for [`update_cells`].
    #[inline(always)]
    pub unsafe fn update<C: Cells>(record: *mut Self, p: &Packet) {
        const APART: usize = core::mem::offset_of!(FlowRecord, b_to_a);
        let at = (p.dir & 1) as usize * APART;
        // SAFETY: the directions lie at 0 and `APART`.
        unsafe {
            let base = record.cast::<u8>();
            update_dirs::<C>(base.add(at).cast(), base.add(APART - at).cast(), p);
        }
    }
}

/// Index into [`FlowStats::dir`]: packets from endpoint `a` to `b`.
pub const A_TO_B: usize = 0;
/// Index into [`FlowStats::dir`]: packets from endpoint `b` to `a`.
pub const B_TO_A: usize = 1;

/// The prefix of IPv4-mapped IPv6 addresses (RFC 4291, 2.5.5.2).
pub const V4_MAPPED_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// `addr` as an IPv4-mapped IPv6 address.
#[inline(always)]
pub const fn v4_mapped(addr: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, addr[0], addr[1], addr[2], addr[3]]
}

/// Bits of [`DirStats::seen`]: what this direction has shown.
pub mod seen {
    /// The low eight bits are the union of all TCP flags.
    pub const TCP_FLAGS: u32 = 0xff;
    /// A SYN without ACK.
    pub const SYN_ONLY: u32 = 1 << 8;
    /// A SYN with ACK.
    pub const SYN_ACK: u32 = 1 << 9;
    /// A SYN with ACK that did not come from outside: `syn_ack_seq` is valid.
    pub const SYN_ACK_SENT: u32 = 1 << 14;
    /// An ACK (no SYN, no RST) came before any sent SYN-ACK of the other direction: `ack_first` is valid.
    pub const ACKED: u32 = 1 << 10;
    /// This direction acknowledged the other direction's SYN-ACK (sequence number plus one): proof that it hears us.
    pub const PROVEN: u32 = 1 << 11;
    /// At least one non-first fragment.
    pub const FRAGMENT: u32 = 1 << 12;
    /// The first packet of the record came from this direction.
    pub const OPENER: u32 = 1 << 13;
    /// The other direction has [`SYN_ACK_SENT`]. Only among what cells count that several share.
    pub const ANSWERED: u32 = 1 << 15;
}

/// What one direction of a flow has carried. Byte counts are IP-layer bytes (header and payload).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct DirStats {
    /// Packets on the wire (a TSO super-packet counts as its segments).
    pub packets: u64,
    /// IP-layer bytes.
    pub bytes: u64,
    /// Layer-4 payload bytes.
    pub payload: u64,
    /// Packets with layer-4 payload.
    pub data_packets: u64,
    /// Sum of squares of IP-layer packet sizes, bytes².
    pub size_sq: u64,
    /// Packets of at most 128, 129 to 512, and 513 to 1024 IP-layer bytes; the rest is larger.
    pub size_bins: [u64; 3],
    /// Time of the first and of the last packet, in order of arrival, µs. `first_us` is `u64::MAX` while there is none.
    pub first_us: u64,
    pub last_us: u64,
    /// Packets beyond one per arrival: an offloaded super-packet of n segments arrives once and adds n - 1.
    pub extra_segs: u64,
    /// Sum of squares of the gaps between arrivals, µs². Their number is [`DirStats::gaps`], their sum
    /// `last_us - first_us`.
    pub gap_sq: u64,
    /// Time of the first SYN of this direction (with or without ACK), µs; `u64::MAX` where there was none.
    pub syn_us: u64,
    /// Smallest and largest gap, µs (saturating); `gap_min` is `u32::MAX` while there is no gap.
    pub gap_min: u32,
    pub gap_max: u32,
    /// Smallest and largest IP-layer packet size, bytes; `size_min` is `u32::MAX` while there is no packet.
    pub size_min: u32,
    pub size_max: u32,
    /// Packets with SYN, FIN and RST.
    pub syn: u32,
    pub fin: u32,
    pub rst: u32,
    /// Bits of [`seen`].
    pub seen: u32,
    /// Sequence number of the latest SYN-ACK of this direction.
    pub syn_ack_seq: u32,
    /// Acknowledgement number of the first ACK (no SYN, no RST) of this direction, where it came before any SYN-ACK of
    /// the other: the handshake lies across a split in time, and `merge` compares the two.
    pub ack_first: u32,
}

/// Statistics of one flow over one span of time.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct FlowStats {
    /// By direction: [`A_TO_B`], [`B_TO_A`].
    pub dir: [DirStats; 2],
}

/// One packet (or offloaded super-packet) as [`FlowStats::update`] takes it.
///
/// `segs` packets go over the wire: all but the last have `seg_len` IP-layer bytes, the last has `last_len`.
/// An ordinary packet has `segs == 1` and `seg_len == last_len`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Arrival, µs.
    pub now_us: u64,
    /// [`A_TO_B`] or [`B_TO_A`].
    pub dir: u32,
    pub segs: u32,
    pub seg_len: u32,
    pub last_len: u32,
    /// Layer-4 payload bytes of all segments together.
    pub payload: u32,
    pub seq: u32,
    pub ack: u32,
    /// TCP flags, 0 for other protocols.
    pub tcp_flags: u8,
    /// Non-zero for a non-first fragment.
    pub fragment: u8,
    /// Non-zero where the packet came from outside (XDP): then a SYN-ACK is no proof of anything, because whoever forges the
    /// client's packets can forge our SYN-ACK as well. At egress, and in captures of both directions, 0.
    pub from_outside: u8,
    pub reserved: u8,
}

impl Packet {
    /// IP-layer bytes on the wire.
    #[inline(always)]
    pub const fn bytes(&self) -> u32 {
        (self.segs - 1) * self.seg_len + self.last_len
    }
}

impl DirStats {
    pub const EMPTY: Self = Self {
        packets: 0,
        bytes: 0,
        payload: 0,
        data_packets: 0,
        size_sq: 0,
        size_bins: [0; 3],
        first_us: u64::MAX,
        last_us: 0,
        extra_segs: 0,
        gap_sq: 0,
        syn_us: u64::MAX,
        gap_min: u32::MAX,
        gap_max: 0,
        size_min: u32::MAX,
        size_max: 0,
        syn: 0,
        fin: 0,
        rst: 0,
        seen: 0,
        syn_ack_seq: 0,
        ack_first: 0,
    };

    pub const fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// What was counted by cells that several share ([`Cells::OWNED`]), with the counts that they leave out.
    pub const fn completed(self) -> Self {
        let [small, middle, large] = self.size_bins;
        let packets = self.packets.saturating_add(small).saturating_add(middle).saturating_add(large);
        let data_packets = packets.saturating_sub(self.data_packets);
        Self { packets, data_packets, seen: self.seen & !seen::ANSWERED, ..self }
    }

    /// Number of gaps between arrivals.
    pub const fn gaps(&self) -> u64 {
        self.packets.saturating_sub(self.extra_segs).saturating_sub(1)
    }

    /// `later_seen`: what of `later.seen` still holds behind a split.
    #[inline]
    fn merge(&mut self, later: &Self, later_seen: u32) {
        if later.is_empty() {
            return;
        }
        let ack_first = if later_seen & seen::ACKED != 0 { later.ack_first } else { 0 };
        if self.is_empty() {
            *self = Self { seen: later_seen, ack_first, ..*later };
            return;
        }
        let g = gap(self.last_us, later.first_us);
        self.gap_sq = self.gap_sq.saturating_add(later.gap_sq).saturating_add(u64::from(g) * u64::from(g));
        self.gap_min = self.gap_min.min(later.gap_min).min(g);
        self.gap_max = self.gap_max.max(later.gap_max).max(g);
        self.last_us = later.last_us;
        self.packets = self.packets.saturating_add(later.packets);
        self.bytes = self.bytes.saturating_add(later.bytes);
        self.payload = self.payload.saturating_add(later.payload);
        self.data_packets = self.data_packets.saturating_add(later.data_packets);
        self.size_sq = self.size_sq.saturating_add(later.size_sq);
        for (a, b) in self.size_bins.iter_mut().zip(later.size_bins) {
            *a = a.saturating_add(b);
        }
        self.extra_segs = self.extra_segs.saturating_add(later.extra_segs);
        self.size_min = self.size_min.min(later.size_min);
        self.size_max = self.size_max.max(later.size_max);
        self.syn = self.syn.saturating_add(later.syn);
        self.fin = self.fin.saturating_add(later.fin);
        self.rst = self.rst.saturating_add(later.rst);
        if self.syn_us == u64::MAX {
            self.syn_us = later.syn_us;
        }
        if later_seen & seen::SYN_ACK_SENT != 0 {
            self.syn_ack_seq = later.syn_ack_seq;
        }
        if later_seen & seen::ACKED != 0 {
            self.ack_first = ack_first;
        }
        self.seen |= later_seen;
    }
}

impl FlowStats {
    /// No packet yet: the neutral element of [`FlowStats::merge`].
    pub const EMPTY: Self = Self { dir: [DirStats::EMPTY; 2] };

    pub const fn is_empty(&self) -> bool {
        self.dir[0].is_empty() && self.dir[1].is_empty()
    }

    /// Packets of both directions.
    pub const fn packets(&self) -> u64 {
        self.dir[0].packets.saturating_add(self.dir[1].packets)
    }

    /// Adds one packet.
    #[inline]
    pub fn update(&mut self, p: &Packet) {
        // SAFETY: `self` is exclusively borrowed.
        unsafe { update_cells::<Plain>(self, p) }
    }

    /// Appends what came later: `fold(xs).merge(&fold(ys)) == fold(xs ++ ys)`, gaps across the split included.
    ///
    /// One thing can be missed, and never invented: a proof whose SYN-ACK lies before the split and whose ACK lies
    /// behind it *and* behind a wrong ACK of the same direction. Only the first ACK behind a split is kept.
    pub fn merge(&mut self, later: &Self) {
        if later.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = *later;
            return;
        }
        // What the two directions say of each other is read from both before either changes.
        let mut seen = [0; 2];
        for d in [A_TO_B, B_TO_A] {
            let (server, client) = (&self.dir[1 - d], &later.dir[d]);
            let seen = &mut seen[d];
            *seen = client.seen & !seen::OPENER;
            let answered = server.seen & seen::SYN_ACK_SENT != 0;
            let acked = client.seen & seen::ACKED != 0;
            if answered && acked && client.ack_first == server.syn_ack_seq.wrapping_add(1) {
                *seen |= seen::PROVEN;
            }
            // Only the first ACK before any SYN-ACK waits for one.
            if answered || self.dir[d].seen & seen::ACKED != 0 {
                *seen &= !seen::ACKED;
            }
        }
        self.dir[A_TO_B].merge(&later.dir[A_TO_B], seen[A_TO_B]);
        self.dir[B_TO_A].merge(&later.dir[B_TO_A], seen[B_TO_A]);
    }
}
