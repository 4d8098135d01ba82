//! The parser on frames made by hand.

#[expect(dead_code, reason = "the kernel's tests use the rest")]
mod frames;

use frames::*;
use proptest::prelude::*;
use weir_common::flow::{A_TO_B, B_TO_A, VLAN_NONE};
use weir_common::parse::{Depth, MAX_EXTENSIONS, NotParsed, Offload, PacketMeta, parse, parse_ip_into};

fn look(frame: &[u8]) -> Result<PacketMeta, NotParsed> {
    parse(frame, frame.len() as u32, 0)
}

fn t() -> Vec<u8> {
    tcp(40_000, 443, SYN | ACK, 7, 8, 5)
}

fn four(proto: u8, l4: &[u8], how: &V4) -> Vec<u8> {
    frame(&[], &ipv4_with("192.0.2.1".parse().unwrap(), "198.51.100.7".parse().unwrap(), proto, l4, how))
}

fn six(headers: &[(u8, Vec<u8>)], proto: u8, l4: &[u8]) -> Vec<u8> {
    frame(&[], &ipv6_with("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap(), headers, proto, l4))
}

#[test]
fn a_plain_segment_says_everything() {
    let m = look(&four(TCP, &t(), &V4::default())).unwrap();
    assert_eq!((m.src.bytes(), m.dst.bytes()), (mapped(v4("192.0.2.1")), mapped(v4("198.51.100.7"))));
    assert_eq!((m.src_port, m.dst_port, m.proto, m.family), (40_000, 443, TCP, 4));
    assert_eq!((m.ip_len, m.l3_len, m.l4_len, m.seq, m.ack, m.tcp_flags), (45, 20, 20, 7, 8, SYN | ACK));
    assert_eq!((m.depth, m.vlan_outer, m.vlan_inner, m.fragment), (Depth::Full, 0, 0, 0));
    let m = look(&six(&[], UDP, &udp(5353, 53, 9))).unwrap();
    assert_eq!((m.src_port, m.dst_port, m.proto, m.family, m.ip_len, m.l4_len), (5353, 53, UDP, 6, 57, 8));
}

#[test]
fn padding_of_short_frames_is_not_counted_and_a_longer_claim_is_cut_to_the_frame() {
    let mut f = four(TCP, &t(), &V4::default());
    f.resize(80, 0);
    assert_eq!(look(&f).unwrap().ip_len, 45);
    f[16..18].copy_from_slice(&60_000u16.to_be_bytes());
    assert_eq!(look(&f).unwrap().ip_len, 66);
    // A super-packet too long for the field says 0.
    f[16..18].copy_from_slice(&[0, 0]);
    assert_eq!(parse(f.as_slice(), 100_014, 0).unwrap().ip_len, 100_000);
    let mut f = six(&[], TCP, &t());
    f[18..20].copy_from_slice(&[0, 0]);
    assert_eq!(parse(f.as_slice(), 100_014, 0).unwrap().ip_len, 100_000);
    // Not so for what has no payload at all.
    assert_eq!(look(&six(&[], 59, &[])).unwrap().ip_len, 40);
}

#[test]
fn up_to_two_tags_in_the_data_or_one_beside_it() {
    let p = ip(v4("10.0.0.1"), v4("10.0.0.2"), TCP, &t());
    let vlans = |f: &[u8], beside| parse(f, f.len() as u32, beside).map(|m| (m.vlan_outer, m.vlan_inner, m.dst_port));
    assert_eq!(vlans(&frame(&[(0x8100, 0xe005)], &p), 0), Ok((5, 0, 443)), "priority bits are no identifier");
    assert_eq!(vlans(&frame(&[(0x88a8, 100), (0x8100, 5)], &p), 0), Ok((100, 5, 443)));
    assert_eq!(vlans(&frame(&[(0x9100, 100), (0x8100, 5)], &p), 0), Ok((100, 5, 443)));
    assert_eq!(vlans(&frame(&[(0x88a8, 1), (0x8100, 2), (0x8100, 3)], &p), 0), Err(NotParsed::NotIp));
    // Egress: the outer tag lies in the metadata.
    assert_eq!(vlans(&frame(&[], &p), 77), Ok((77, 0, 443)));
    assert_eq!(vlans(&frame(&[(0x8100, 5)], &p), 77), Ok((77, 5, 443)));
    assert_eq!(vlans(&frame(&[(0x8100, 5), (0x8100, 6)], &p), 77), Err(NotParsed::NotIp));
}

#[test]
fn ipv4_options_and_header_lengths_that_are_none() {
    for words in 0..=10 {
        let m = look(&four(TCP, &t(), &V4 { options: vec![1; words * 4], fragment: 0 })).unwrap();
        assert_eq!((m.dst_port, m.l3_len, m.depth), (443, 20 + words as u32 * 4, Depth::Full));
    }
    for ihl in 0..5 {
        let mut f = four(TCP, &t(), &V4::default());
        f[14] = 0x40 | ihl;
        let m = look(&f).unwrap();
        assert_eq!(
            (m.depth, m.src_port, m.dst_port, m.src.bytes()),
            (Depth::AddressOnly, 0, 0, mapped(v4("192.0.2.1")))
        );
    }
    // The version is not what the EtherType says.
    let mut f = four(TCP, &t(), &V4::default());
    f[14] = 0x65;
    assert_eq!(look(&f), Err(NotParsed::Malformed));
    let mut f = six(&[], TCP, &t());
    f[14] = 0x45;
    assert_eq!(look(&f), Err(NotParsed::Malformed));
}

#[test]
fn fragments() {
    // The first has its ports, the others have none, whatever their payload looks like.
    let first = look(&four(TCP, &t(), &V4 { fragment: 0x2000, ..V4::default() })).unwrap();
    assert_eq!((first.dst_port, first.fragment), (443, 0));
    let later = look(&four(TCP, &t(), &V4 { fragment: 0x2001, ..V4::default() })).unwrap();
    assert_eq!((later.src_port, later.dst_port, later.fragment, later.depth), (0, 0, 1, Depth::Full));
    assert_eq!((later.tcp_flags, later.packet(Offload::default()).payload), (0, 25), "all of it is payload");
    let first = look(&six(&[(44, fragment_header(0, true))], UDP, &udp(1, 2, 3))).unwrap();
    assert_eq!((first.src_port, first.dst_port, first.fragment, first.l3_len), (1, 2, 0, 48));
    let later = look(&six(&[(44, fragment_header(1, false))], UDP, &udp(1, 2, 3))).unwrap();
    assert_eq!((later.src_port, later.dst_port, later.fragment, later.proto), (0, 0, 1, UDP));
    // What a fragment header of a later fragment says next is not followed.
    let later = look(&six(&[(44, fragment_header(1, false))], 60, &[0; 16])).unwrap();
    assert_eq!((later.proto, later.depth), (60, Depth::Full));
}

#[test]
fn every_extension_header_is_passed() {
    for kind in [0u8, 43, 60, 135, 139, 140] {
        for units in [0, 1, 31, 255] {
            let m = look(&six(&[(kind, extension(units))], TCP, &t())).unwrap();
            assert_eq!((m.dst_port, m.proto, m.depth), (443, TCP, Depth::Full), "{kind} {units}");
            assert_eq!(m.l3_len, 40 + 8 * (1 + u32::from(units)));
        }
    }
    // The length of an authentication header counts in other units.
    let m =
        look(&six(&[(51, vec![0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])], TCP, &t()));
    assert_eq!(m.map(|m| (m.dst_port, m.l3_len)), Ok((443, 64)));
}

#[test]
fn more_extension_headers_than_anybody_needs_count_by_their_addresses() {
    let many = |n| look(&six(&vec![(60, extension(0)); n], TCP, &t())).unwrap();
    assert_eq!((many(MAX_EXTENSIONS).depth, many(MAX_EXTENSIONS).dst_port), (Depth::Full, 443));
    for n in [MAX_EXTENSIONS + 1, 100] {
        let m = many(n);
        assert_eq!((m.depth, m.src_port, m.dst_port), (Depth::AddressOnly, 0, 0));
        assert_eq!(m.src.bytes(), mapped(v6("2001:db8::1")));
    }
}

#[test]
fn icmp_types_meet_their_answers_in_one_flow() {
    let key4 = |kind, from, to| look(&frame(&[], &ip(v4(from), v4(to), ICMP, &icmp(kind, 0)))).unwrap().key();
    for (question, answer) in [(8, 0), (13, 14), (15, 16), (17, 18), (10, 9)] {
        let (a, there) = key4(question, "10.0.0.1", "10.0.0.2");
        let (b, back) = key4(answer, "10.0.0.2", "10.0.0.1");
        assert_eq!(a, b);
        assert_ne!(there, back);
    }
    assert_ne!(key4(3, "10.0.0.1", "10.0.0.2").0, key4(11, "10.0.0.1", "10.0.0.2").0);
    let key6 = |kind, from, to| look(&frame(&[], &ip(v6(from), v6(to), ICMPV6, &icmp(kind, 0)))).unwrap().key();
    for (question, answer) in [(128, 129), (133, 134), (135, 136), (130, 131), (139, 140), (144, 145)] {
        assert_eq!(key6(question, "fe80::1", "fe80::2").0, key6(answer, "fe80::2", "fe80::1").0);
    }
    // The other family's protocol has no ports.
    let m = look(&four(ICMPV6, &icmp(128, 0), &V4::default())).unwrap();
    assert_eq!((m.src_port, m.dst_port, m.depth), (0, 0, Depth::Full));
}

#[test]
fn both_directions_have_one_key() {
    let m = look(&four(TCP, &t(), &V4::default())).unwrap();
    let back = PacketMeta { src: m.dst, dst: m.src, src_port: m.dst_port, dst_port: m.src_port, ..m };
    let ((k, there), (l, here)) = (m.key(), back.key());
    assert_eq!((k, there as usize, here as usize), (l, A_TO_B, B_TO_A));
    // Of one address with itself, the port decides.
    let own = PacketMeta { dst: m.src, ..m };
    let (k, dir) = own.key();
    assert_eq!((k.port_a, k.port_b, dir as usize), (443, 40_000, B_TO_A));
}

#[test]
fn a_super_packet_goes_out_as_its_segments() {
    let m = look(&four(TCP, &tcp(1, 2, ACK, 1, 1, 3500), &V4::default())).unwrap();
    let p = |gso_size, gso_segs| m.packet(Offload { gso_size, gso_segs });
    let shape = |q: weir_common::flow::Packet| (q.segs, q.seg_len, q.last_len, q.payload, q.bytes());
    // Headers are replicated.
    assert_eq!(shape(p(1000, 4)), (4, 1040, 540, 3500, 3500 + 4 * 40));
    // The kernel has not counted.
    assert_eq!(shape(p(1000, 0)), shape(p(1000, 4)));
    // An exact multiple has a full last one.
    assert_eq!(shape(p(700, 5)), (5, 740, 740, 3500, 3700));
    // Not segmented at all.
    for (size, segs) in [(0, 0), (0, 1), (3500, 1), (9000, 0)] {
        assert_eq!(shape(p(size, segs)), (1, 3540, 3540, 3500, 3540), "{size} {segs}");
    }
    // A count that does not fit the sizes: bytes as they are, nothing wraps.
    for segs in [9, 1000, u32::MAX] {
        let q = p(1000, segs);
        assert_eq!((q.segs, q.payload), (segs, 3500));
        assert_eq!(q.bytes(), 3540, "{segs}");
    }
}

/// Frames of all shapes, for cutting and guessing.
fn shapes() -> Vec<Vec<u8>> {
    let mut auth = extension(1);
    auth[1] = 2;
    let chain: Vec<(u8, Vec<u8>)> =
        vec![(0, extension(0)), (43, extension(1)), (51, auth), (44, fragment_header(0, true)), (60, extension(0))];
    vec![
        four(TCP, &t(), &V4 { options: vec![1; 8], fragment: 0 }),
        four(UDP, &udp(1, 2, 3), &V4::default()),
        four(ICMP, &icmp(8, 0), &V4::default()),
        six(&chain, TCP, &t()),
        six(&chain, ICMPV6, &icmp(128, 0)),
        frame(&[(0x88a8, 1), (0x8100, 2)], &six(&chain, UDP, &udp(1, 2, 3))[14..]),
    ]
}

#[test]
fn cut_short_anywhere_a_frame_says_less_and_never_something_else() {
    for whole in shapes() {
        let all = look(&whole).unwrap();
        assert_eq!(all.depth, Depth::Full);
        let mut depth = 0;
        for n in 0..=whole.len() {
            // As a capture cut it, its length on the wire known.
            match parse(&whole[..n], whole.len() as u32, 0) {
                Err(e) => assert!(depth == 0 && e == NotParsed::Malformed, "{n}"),
                Ok(m) if m.depth == Depth::AddressOnly => {
                    assert!(depth <= 1, "{n}");
                    depth = 1;
                    assert_eq!((m.src, m.dst, m.ip_len), (all.src, all.dst, all.ip_len));
                    assert_eq!((m.src_port, m.dst_port), (0, 0));
                }
                Ok(m) => {
                    depth = 2;
                    assert_eq!(m, all, "{n}");
                }
            }
        }
        assert_eq!(depth, 2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 10 } else { 20_000 }, ..ProptestConfig::default() })]

    #[test]
    fn no_frame_is_too_odd(
        which in 0..6usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        len in any::<prop::sample::Index>(),
        wire_len in any::<u32>(),
        beside in any::<u16>(),
        (gso_size, gso_segs) in (any::<u32>(), 0..70_000u32),
    ) {
        let mut f = shapes().swap_remove(which);
        for (at, byte) in changes {
            let at = at.index(f.len());
            f[at] = byte;
        }
        let f = &f[..len.index(f.len() + 1)];
        if let Ok(m) = parse(f, wire_len, beside) {
            prop_assert!(m.family == 4 || m.family == 6);
            prop_assert!(m.ip_len <= wire_len.saturating_sub(14).max(40));
            let p = m.packet(Offload { gso_size, gso_segs });
            prop_assert!(p.segs >= 1);
            let _ = m.key();
        }
    }

    #[test]
    fn no_packet_without_ethernet_is_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..120), at in 0..20usize) {
        for ether_type in [0x0800, 0x86dd] {
            let mut m = PacketMeta::EMPTY;
            if parse_ip_into(bytes.as_slice(), at, ether_type, bytes.len() as u32, &mut m).is_ok() {
                prop_assert!(m.ip_len as usize <= bytes.len().max(40));
            }
        }
    }
}

#[test]
fn a_frame_of_several_buffers_has_the_length_of_all_of_them() {
    // 1,000 bytes of an IPv4 packet that claims 3,000, read first, and 2,100 more in the next buffer.
    let mut first = vec![0u8; 14];
    first[12..14].copy_from_slice(&[0x08, 0x00]);
    let mut ip = vec![0x45, 0, 0x0b, 0xb8, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 0, 53, 0, 53];
    ip.resize(1000, 0);
    first.extend(ip);
    let mut m = parse(&first[..], first.len() as u32, VLAN_NONE).unwrap();
    assert!(m.goes_on());
    assert_eq!(m.ip_len, 1000);
    m.extend(2100);
    assert_eq!(m.ip_len, 3000, "what is behind the packet is padding");
    let whole = parse(&first[..], 14 + 3100, VLAN_NONE).unwrap();
    assert_eq!((whole.ip_len, whole.goes_on()), (3000, false));
}
