//! The common packet, read at once: untagged Ethernet, IPv4 without options or IPv6 without extension headers, TCP or UDP, its
//! layer-4 header captured. It takes a third of the work of the general way, and hardly a branch that depends on who sent it.
//!
//! All others go the general way, through the parser that the kernel runs. Of what is read here that one says the same
//! (`what_is_read_at_once_is_what_the_parser_reads`).

use weir_common::address::Address;
use weir_common::flow::{KeyWords, Packet, ip_proto};

/// Where the network layer begins.
const IP: usize = 14;
/// Bytes of the layer-4 header that are read, of UDP's too: short frames are padded.
const LAYER4: usize = 14;
const V4: usize = IP + 20;
const V6: usize = IP + 40;

/// EtherType, version and header length.
const IPV4: u32 = 0x0008_0045;
/// EtherType and version.
const IPV6: u32 = 0x0008_6dd6;

/// The upper half of the lower half of `::ffff:0:0`.
const MAPPED: u64 = 0xffff_0000_0000;

/// Sets the flow, and the packet but for its time. `false` where it is not a common one: then what they hold means nothing.
#[inline(always)]
pub(super) fn read(data: &[u8], wire_len: u32, key: &mut KeyWords, packet: &mut Packet) -> bool {
    let Some(h) = data.first_chunk::<{ V4 + LAYER4 }>() else { return false };
    let on_wire = wire_len.saturating_sub(IP as u32);
    let kind = be32(h, 12);
    let (l4, proto, claimed, header) = if kind >> 8 == IPV4 {
        // The middle of something has no ports.
        if be16(h, 20) & 0x1fff != 0 {
            return false;
        }
        let address = |at| Address::new(0, MAPPED | u64::from(be32(h, at)));
        let l4: &[u8; LAYER4] = part(h, V4);
        packet.dir = ends(key, address(26), address(30), l4, h[23], 4);
        (l4, h[23], u32::from(be16(h, 16)), 20)
    } else if kind >> 12 == IPV6 {
        let Some(h) = data.first_chunk::<{ V6 + LAYER4 }>() else { return false };
        let address = |at| Address::new(be64(h, at), be64(h, at + 8));
        let l4: &[u8; LAYER4] = part(h, V6);
        packet.dir = ends(key, address(22), address(38), l4, h[20], 6);
        let payload = u32::from(be16(h, 18));
        // None said: a super-packet.
        (l4, h[20], if payload == 0 { 0 } else { payload + 40 }, 40)
    } else {
        return false;
    };
    let tcp = proto == ip_proto::TCP;
    let words = u32::from(l4[12] >> 4);
    if !(tcp & (words >= 5) | (proto == ip_proto::UDP)) {
        return false;
    }
    let len = if claimed == 0 || claimed > on_wire { on_wire } else { claimed };
    let of_tcp = |v: u32| if tcp { v } else { 0 };
    packet.segs = 1;
    packet.seg_len = len;
    packet.last_len = len;
    packet.payload = len.saturating_sub(header + if tcp { words * 4 } else { 8 });
    packet.seq = of_tcp(be32(l4, 4));
    packet.ack = of_tcp(be32(l4, 8));
    packet.tcp_flags = of_tcp(l4[13].into()) as u8;
    packet.fragment = 0;
    packet.from_outside = 0;
    true
}

#[inline(always)]
fn ends(key: &mut KeyWords, src: Address, dst: Address, l4: &[u8; LAYER4], proto: u8, family: u8) -> u32 {
    key.set_ends(&src, &dst, [be16(l4, 0), be16(l4, 2)], proto, family)
}

/// Cut out of the middle of `b`, which is longer.
#[inline(always)]
fn part<const N: usize, const M: usize>(b: &[u8; M], at: usize) -> &[u8; N] {
    b.get(at..).and_then(|b| b.first_chunk()).unwrap_or(&[0; N])
}

#[inline(always)]
fn be16<const M: usize>(b: &[u8; M], at: usize) -> u16 {
    u16::from_be_bytes(*part(b, at))
}

#[inline(always)]
fn be32<const M: usize>(b: &[u8; M], at: usize) -> u32 {
    u32::from_be_bytes(*part(b, at))
}

#[inline(always)]
fn be64<const M: usize>(b: &[u8; M], at: usize) -> u64 {
    u64::from_be_bytes(*part(b, at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_common::flow::VLAN_NONE;
    use weir_common::parse::{Depth, Offload, parse};

    use super::*;

    /// Frames of both families, with everything about them that decides, bytes changed here and there, cut anywhere.
    fn frame() -> impl Strategy<Value = (Vec<u8>, u32)> {
        let kind = prop_oneof![8 => Just(4u8), 4 => Just(6)];
        let proto = prop_oneof![4 => Just(6u8), 4 => Just(17), 1 => any::<u8>()];
        let ends = ((0..3u8, 0..3u8), (0..3u16, 0..3u16));
        let changes = proptest::collection::vec((0..90usize, any::<u8>()), 0..3);
        let lengths = (prop_oneof![Just(None), (0..200u16).prop_map(Some)], 0..100usize, 0..100u32);
        (kind, proto, ends, any::<[u8; 12]>(), 4..16u8, changes, lengths).prop_map(
            |(family, proto, ((a, b), (p, q)), fields, words, changes, (claimed, payload, beyond))| {
                let mut l4 = [p.to_be_bytes(), q.to_be_bytes()].concat();
                l4.extend(&fields[..8]);
                l4.extend([words << 4, fields[8]]);
                l4.resize(20 + payload, 7);
                let mut f = vec![0; 12];
                if family == 4 {
                    let length = claimed.unwrap_or(20 + l4.len() as u16);
                    f.extend([0x08, 0, 0x45, 0]);
                    f.extend(length.to_be_bytes());
                    f.extend([0, 1, fields[9] & 0x40, 0, 64, proto, 0, 0, 10, 0, 0, a, 10, 0, 0, b]);
                } else {
                    let length = claimed.unwrap_or(l4.len() as u16);
                    f.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                    f.extend(length.to_be_bytes());
                    f.extend([proto, 64]);
                    f.extend([&[0xfd; 15][..], &[a], &[0xfd; 15], &[b]].concat());
                }
                f.extend(l4);
                for (at, byte) in changes {
                    if let Some(b) = f.get_mut(at) {
                        *b = byte;
                    }
                }
                let wire_len = f.len() as u32 + beyond;
                (f, wire_len)
            },
        )
    }

    fn at_once(data: &[u8], wire_len: u32) -> Option<(KeyWords, Packet)> {
        // What was there before is not to show through.
        let mut packet = Packet { seq: 9, ack: 9, tcp_flags: 9, fragment: 9, from_outside: 9, ..Packet::default() };
        let mut key = KeyWords::default();
        key.set(&Address::new(9, 9), &Address::new(9, 9), [9; 4], 9, 9);
        read(data, wire_len, &mut key, &mut packet).then_some((key, packet))
    }

    fn generally(data: &[u8], wire_len: u32) -> Option<(KeyWords, Packet)> {
        let meta = parse(data, wire_len, VLAN_NONE).ok()?;
        let (mut packet, mut key) = (meta.packet(Offload::default()), KeyWords::default());
        packet.dir = meta.key_into(&mut key);
        Some((key, packet))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn what_is_read_at_once_is_what_the_parser_reads((data, wire_len) in frame(), keep in 0..200usize) {
            let data = &data[..keep.min(data.len())];
            if let Some(found) = at_once(data, wire_len) {
                prop_assert_eq!(Some(found), generally(data, wire_len));
            }
        }

        /// Or nothing would be gained.
        #[test]
        fn what_is_common_is_read_at_once((data, wire_len) in frame()) {
            let Ok(meta) = parse(data.as_slice(), wire_len, VLAN_NONE) else { return Ok(()) };
            let tcp_or_udp = matches!(meta.proto, ip_proto::TCP | ip_proto::UDP);
            let plain = meta.depth == Depth::Full && meta.fragment == 0 && meta.vlan_outer == VLAN_NONE;
            let short = if meta.family == 4 { 20 } else { 40 };
            let untagged = matches!(data[12..14], [0x08, 0x00] | [0x86, 0xdd]);
            if tcp_or_udp && plain && untagged && meta.l3_len == short {
                prop_assert!(at_once(&data, wire_len).is_some());
            }
        }
    }
}
