//! Ethernet to layer 4, the same code in XDP, in TC, on capture files and under test.
//!
//! Reads through [`Bytes`], so that each side brings its own bounds check. Nothing here panics or loops unbounded.

use crate::address::Address;
use crate::bytes::{Bytes, Header};
use crate::flow::{FlowKey, KeyWords, Packet, VLAN_NONE, ip_proto};

mod ether_type {
    pub const IPV4: u16 = 0x0800;
    pub const IPV6: u16 = 0x86dd;
    pub const VLAN: u16 = 0x8100;
    pub const QINQ: u16 = 0x88a8;
    /// Pre-standard QinQ, still met.
    pub const QINQ_OLD: u16 = 0x9100;
}

/// IPv6 extension headers (RFC 8200, RFC 4302, RFC 6275, RFC 7401, RFC 5533).
mod ext {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTH: u8 = 51;
    pub const DEST_OPTIONS: u8 = 60;
    pub const MOBILITY: u8 = 135;
    pub const HIP: u8 = 139;
    pub const SHIM6: u8 = 140;
}

/// Extension headers followed before the packet counts by its addresses alone. RFC 8200 wants each at most once (one
/// twice), which makes seven.
pub const MAX_EXTENSIONS: usize = 8;

/// How far parsing came.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Everything that the protocol has. A non-first fragment, and a protocol without ports, has ports 0.
    Full,
    /// Addresses are right; what follows is cut short, malformed or too deep. Ports 0.
    AddressOnly,
}

/// Why a packet has no [`PacketMeta`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotParsed {
    /// No IP inside (or more than two VLAN tags).
    NotIp,
    /// Ended before both addresses, or the IP version is not what the EtherType says.
    Malformed,
}

/// What one frame says about its flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketMeta {
    /// IPv4 as IPv4-mapped.
    pub src: Address,
    pub dst: Address,
    pub src_port: u16,
    pub dst_port: u16,
    pub vlan_outer: u16,
    pub vlan_inner: u16,
    /// IP-layer bytes of the frame (of an offloaded super-packet: as it is, before segmentation).
    pub ip_len: u32,
    /// What the IP header says of it; 0 where it says nothing.
    pub claimed: u32,
    /// Bytes of the IP header and its extensions, and of the layer-4 header.
    pub l3_len: u32,
    pub l4_len: u32,
    pub seq: u32,
    pub ack: u32,
    pub depth: Depth,
    pub proto: u8,
    pub family: u8,
    pub tcp_flags: u8,
    /// 1 for a non-first fragment.
    pub fragment: u8,
}

/// Offload metadata of an egress packet; all zero for a packet that goes out as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Payload bytes per segment, 0 where the packet is not segmented.
    pub gso_size: u32,
    /// Number of segments; 0 where the kernel has not counted them.
    pub gso_segs: u32,
}

impl PacketMeta {
    /// Nothing known.
    pub const EMPTY: Self = Self {
        src: Address::UNSPECIFIED,
        dst: Address::UNSPECIFIED,
        src_port: 0,
        dst_port: 0,
        vlan_outer: VLAN_NONE,
        vlan_inner: VLAN_NONE,
        ip_len: 0,
        claimed: 0,
        l3_len: 0,
        l4_len: 0,
        seq: 0,
        ack: 0,
        depth: Depth::AddressOnly,
        proto: 0,
        family: 0,
        tcp_flags: 0,
        fragment: 0,
    };

    /// Whether the packet may go on behind the bytes that `wire_len` told of.
    #[inline(always)]
    pub const fn goes_on(&self) -> bool {
        self.claimed == 0 || self.claimed > self.ip_len
    }

    /// It does, by so many bytes. Only for one that [`PacketMeta::goes_on`].
    #[inline(always)]
    pub const fn extend(&mut self, bytes: u32) {
        self.ip_len = ip_len(self.claimed, self.ip_len + bytes);
    }

    /// The flow and the direction ([`crate::flow::A_TO_B`] or [`crate::flow::B_TO_A`]).
    pub fn key(&self) -> (FlowKey, u32) {
        let mut words = KeyWords::default();
        let dir = self.key_into(&mut words);
        (*words.key(), dir)
    }

    /// [`PacketMeta::key`] into a caller's key, by words and without copies: BPF stacks hold few of either. Returns the
    /// direction.
    #[inline(always)]
    pub fn key_into(&self, key: &mut KeyWords) -> u32 {
        let ((sh, sl), (dh, dl)) = (self.src.halves(), self.dst.halves());
        let forward = sh < dh || (sh == dh && (sl < dl || (sl == dl && self.src_port <= self.dst_port)));
        let (a, b, port_a, port_b) = if forward {
            (&self.src, &self.dst, self.src_port, self.dst_port)
        } else {
            (&self.dst, &self.src, self.dst_port, self.src_port)
        };
        key.set(a, b, [port_a, port_b, self.vlan_outer, self.vlan_inner], self.proto, self.family);
        !forward as u32
    }

    /// The packet as [`crate::flow::update_cells`] takes it, time and direction still to be set. Segments have the headers
    /// of the whole replicated.
    #[inline(always)]
    pub fn packet(&self, offload: Offload) -> Packet {
        let headers = self.l3_len + self.l4_len;
        let payload = self.ip_len.saturating_sub(headers);
        let mut packet = Packet {
            now_us: 0,
            dir: 0,
            segs: 1,
            seg_len: self.ip_len,
            last_len: self.ip_len,
            payload: if self.fragment != 0 { self.ip_len.saturating_sub(self.l3_len) } else { payload },
            seq: self.seq,
            ack: self.ack,
            tcp_flags: self.tcp_flags,
            fragment: self.fragment,
            from_outside: 0,
            reserved: 0,
        };
        let size = offload.gso_size & 0xffff;
        if size != 0 && payload > size {
            let segs = if offload.gso_segs != 0 { offload.gso_segs } else { payload.div_ceil(size) };
            // A count that does not fit the sizes belongs to a tunnel, whose inner headers are not known here.
            let before_last = segs.wrapping_sub(1).saturating_mul(size);
            if payload > before_last {
                packet.segs = segs;
                packet.seg_len = headers + size;
                packet.last_len = headers + (payload - before_last);
            } else {
                packet.segs = segs;
                packet.seg_len = self.ip_len.checked_div(segs).unwrap_or(self.ip_len);
                packet.last_len = self.ip_len - packet.seg_len * (segs - 1);
            }
        }
        packet
    }
}

/// The lower half of `::ffff:0:0`.
const V4_MAPPED: u64 = 0xffff_0000_0000;

/// Parses an Ethernet frame of `wire_len` bytes (of which `bytes` may hold fewer).
///
/// `outer_tag` is a VLAN identifier that lies beside the data (egress `vlan_tci`), or [`VLAN_NONE`].
pub fn parse<B: Bytes + ?Sized>(bytes: &B, wire_len: u32, outer_tag: u16) -> Result<PacketMeta, NotParsed> {
    let mut meta = PacketMeta::EMPTY;
    parse_into(bytes, wire_len, outer_tag, &mut meta)?;
    Ok(meta)
}

/// [`parse`] into a caller's `meta`, which must be [`PacketMeta::EMPTY`]: BPF stacks hold few copies of anything.
#[inline(always)]
pub fn parse_into<B: Bytes + ?Sized>(
    bytes: &B,
    wire_len: u32,
    outer_tag: u16,
    meta: &mut PacketMeta,
) -> Result<(), NotParsed> {
    let Some(h) = Header::<B, 14>::new(bytes, 0) else { return Err(NotParsed::Malformed) };
    let mut ether_type = h.be16::<12>();
    meta.vlan_outer = outer_tag & 0xfff;
    let mut offset = 14usize;
    let mut tags = (outer_tag != VLAN_NONE) as usize;
    #[expect(clippy::explicit_counter_loop, reason = "the count begins with the tag beside the data")]
    for _ in 0..2 {
        if !matches!(ether_type, ether_type::VLAN | ether_type::QINQ | ether_type::QINQ_OLD) {
            break;
        }
        if tags == 2 {
            return Err(NotParsed::NotIp);
        }
        let Some(h) = Header::<B, 4>::new(bytes, offset) else { return Err(NotParsed::Malformed) };
        let id = h.be16::<0>() & 0xfff;
        if tags == 0 {
            meta.vlan_outer = id;
        } else {
            meta.vlan_inner = id;
        }
        ether_type = h.be16::<2>();
        tags += 1;
        offset += 4;
    }
    parse_ip_into(bytes, offset, ether_type, wire_len, meta)
}

/// Parses an IP packet that begins at `offset` of a frame, for link types that name the IP version otherwise.
#[inline(always)]
pub fn parse_ip_into<B: Bytes + ?Sized>(
    bytes: &B,
    offset: usize,
    ether_type: u16,
    wire_len: u32,
    meta: &mut PacketMeta,
) -> Result<(), NotParsed> {
    meta.ip_len = wire_len.saturating_sub(offset as u32);
    let l4 = match ether_type {
        ether_type::IPV4 => ipv4(bytes, offset, meta)?,
        ether_type::IPV6 => ipv6(bytes, offset, meta)?,
        _ => return Err(NotParsed::NotIp),
    };
    if let Some(l4) = l4
        && layer4(bytes, l4, meta)
    {
        meta.depth = Depth::Full;
    }
    Ok(())
}

/// Length by the header, within what the wire carried. 0 stands for a super-packet too long for its field (RFC 2675,
/// Linux BIG TCP).
#[inline(always)]
const fn ip_len(claimed: u32, on_wire: u32) -> u32 {
    if claimed == 0 || claimed > on_wire { on_wire } else { claimed }
}

/// Returns where layer 4 begins, `None` where only the addresses can be used.
#[inline(always)]
fn ipv4<B: Bytes + ?Sized>(bytes: &B, offset: usize, meta: &mut PacketMeta) -> Result<Option<usize>, NotParsed> {
    let Some(h) = Header::<B, 20>::new(bytes, offset) else { return Err(NotParsed::Malformed) };
    let first = h.byte::<0>();
    if first >> 4 != 4 {
        return Err(NotParsed::Malformed);
    }
    meta.family = 4;
    meta.src = Address::new(0, V4_MAPPED | u64::from(h.be32::<12>()));
    meta.dst = Address::new(0, V4_MAPPED | u64::from(h.be32::<16>()));
    meta.claimed = u32::from(h.be16::<2>());
    meta.ip_len = ip_len(meta.claimed, meta.ip_len);
    meta.proto = h.byte::<9>();
    let header = ((first & 0x0f) as usize) * 4;
    if header < 20 {
        return Ok(None);
    }
    meta.l3_len = header as u32;
    meta.fragment = (h.be16::<6>() & 0x1fff != 0) as u8;
    Ok(Some(offset + header))
}

#[inline(always)]
fn ipv6<B: Bytes + ?Sized>(bytes: &B, offset: usize, meta: &mut PacketMeta) -> Result<Option<usize>, NotParsed> {
    let Some(h) = Header::<B, 40>::new(bytes, offset) else { return Err(NotParsed::Malformed) };
    if h.byte::<0>() >> 4 != 6 {
        return Err(NotParsed::Malformed);
    }
    meta.family = 6;
    meta.src = Address::new(h.be64::<8>(), h.be64::<16>());
    meta.dst = Address::new(h.be64::<24>(), h.be64::<32>());
    let next = h.byte::<6>();
    let claimed = u32::from(h.be16::<4>());
    // A zero payload length is a jumbogram (RFC 2675) only behind a hop-by-hop header, or a super-packet of TCP or UDP.
    meta.claimed = if claimed != 0 {
        claimed + 40
    } else if matches!(next, ext::HOP_BY_HOP | ip_proto::TCP | ip_proto::UDP) {
        0
    } else {
        40
    };
    meta.ip_len = ip_len(meta.claimed, meta.ip_len);
    meta.proto = next;
    meta.l3_len = 40;
    if !is_extension(meta.proto) {
        return Ok(Some(offset + 40));
    }
    let mut walk = Walk { at: (offset + 40) as u64, proto: meta.proto.into(), fragment: 0, state: WALKING };
    for _ in 0..MAX_EXTENSIONS {
        if !walk.step(bytes) {
            break;
        }
    }
    let at = (bytes.opaque(walk.at) & OFFSET_MASK) as usize;
    meta.proto = walk.proto as u8;
    meta.fragment = (walk.fragment & 1) as u8;
    meta.l3_len = at.saturating_sub(offset) as u32;
    Ok(if walk.state == ARRIVED { Some(at) } else { None })
}

/// Offsets stay below this, which eight extension headers of 2,040 bytes do. (The verifier wants to see it.)
const OFFSET_MASK: u64 = 0x7fff;

const WALKING: u64 = 0;
const ARRIVED: u64 = 1;
const CUT_SHORT: u64 = 2;

/// A walk along IPv6 extension headers.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Walk {
    at: u64,
    proto: u64,
    fragment: u64,
    state: u64,
}

const fn is_extension(proto: u8) -> bool {
    matches!(
        proto,
        ext::HOP_BY_HOP
            | ext::ROUTING
            | ext::FRAGMENT
            | ext::AUTH
            | ext::DEST_OPTIONS
            | ext::MOBILITY
            | ext::HIP
            | ext::SHIM6
    )
}

impl Walk {
    /// Passes one header. `false` at the end of the walk.
    #[inline(always)]
    fn step<B: Bytes + ?Sized>(&mut self, bytes: &B) -> bool {
        let at = (bytes.opaque(self.at) & OFFSET_MASK) as usize;
        let Some(e) = Header::<B, 4>::new(bytes, at) else {
            self.state = CUT_SHORT;
            return false;
        };
        let (next, units) = (e.byte::<0>(), u64::from(e.byte::<1>()));
        let length = match self.proto as u8 {
            ext::FRAGMENT => 8,
            ext::AUTH => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        let fragment = self.proto as u8 == ext::FRAGMENT && e.be16::<2>() & 0xfff8 != 0;
        self.at = at as u64 + length;
        self.proto = u64::from(next);
        // What follows a non-first fragment's header is the middle of something.
        self.fragment = u64::from(fragment);
        if fragment || !is_extension(next) {
            self.state = ARRIVED;
            return false;
        }
        true
    }
}

/// Ports, TCP fields and header length. `false` where the layer-4 header is cut short or malformed.
#[inline(always)]
fn layer4<B: Bytes + ?Sized>(bytes: &B, at: usize, meta: &mut PacketMeta) -> bool {
    if meta.fragment != 0 {
        return true;
    }
    match meta.proto {
        ip_proto::TCP => {
            let Some(h) = Header::<B, 14>::new(bytes, at) else { return false };
            let header = u32::from(h.byte::<12>() >> 4) * 4;
            if header < 20 {
                return false;
            }
            (meta.src_port, meta.dst_port) = (h.be16::<0>(), h.be16::<2>());
            (meta.seq, meta.ack) = (h.be32::<4>(), h.be32::<8>());
            meta.tcp_flags = h.byte::<13>();
            meta.l4_len = header;
        }
        ip_proto::UDP => {
            let Some(h) = Header::<B, 8>::new(bytes, at) else { return false };
            (meta.src_port, meta.dst_port) = (h.be16::<0>(), h.be16::<2>());
            meta.l4_len = 8;
        }
        ip_proto::ICMP if meta.family == 4 => {
            let Some(h) = Header::<B, 4>::new(bytes, at) else { return false };
            (meta.src_port, meta.dst_port) = icmp_ports(h.byte::<0>(), h.byte::<1>());
            meta.l4_len = 8;
        }
        ip_proto::ICMPV6 if meta.family == 6 => {
            let Some(h) = Header::<B, 4>::new(bytes, at) else { return false };
            (meta.src_port, meta.dst_port) = icmpv6_ports(h.byte::<0>(), h.byte::<1>());
            meta.l4_len = 8;
        }
        _ => {}
    }
    true
}

/// Type and code as ports (Community ID v1): a type that has a counterpart meets it in one flow, others are one-way.
#[inline(always)]
pub const fn icmp_ports(kind: u8, code: u8) -> (u16, u16) {
    let other = match kind {
        0 => 8,
        8 => 0,
        9 => 10,
        10 => 9,
        13 => 14,
        14 => 13,
        15 => 16,
        16 => 15,
        17 => 18,
        18 => 17,
        _ => return (kind as u16, code as u16),
    };
    (kind as u16, other)
}

/// [`icmp_ports`] for ICMPv6.
#[inline(always)]
pub const fn icmpv6_ports(kind: u8, code: u8) -> (u16, u16) {
    let other = match kind {
        128 => 129,
        129 => 128,
        130 => 131,
        131 => 130,
        133 => 134,
        134 => 133,
        135 => 136,
        136 => 135,
        139 => 140,
        140 => 139,
        144 => 145,
        145 => 144,
        _ => return (kind as u16, code as u16),
    };
    (kind as u16, other)
}
