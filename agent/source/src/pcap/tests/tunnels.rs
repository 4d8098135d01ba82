//! Tunnels: outer flow by default, innermost with `decap`.

use super::*;

/// Protocol and server port of the one flow, and its IP bytes.
fn flow(packet: &[u8], decap: bool) -> (u8, u16, u64) {
    let (records, report, result) = read_file(&pcap(1, &[packet.to_vec()]), decap);
    result.unwrap();
    assert_eq!(records.len(), 1, "{report:?}");
    let r = &records[0].record;
    (r.proto, r.server_port, r.fwd.bytes)
}

fn gre(flags: u16, protocol: u16, inside: &[u8]) -> Vec<u8> {
    let mut header = [flags.to_be_bytes(), protocol.to_be_bytes()].concat();
    for flag in [0x8000, 0x2000, 0x1000, 0x0080] {
        if flags & flag != 0 {
            header.extend([0xaa; 4]);
        }
    }
    [header, inside.to_vec()].concat()
}

/// A G-PDU with these flags; `extensions` begin with the type of the first.
fn gtp(flags: u8, extensions: &[u8], inside: &[u8]) -> Vec<u8> {
    let mut options = Vec::new();
    if flags & 7 != 0 {
        options.extend([0, 1, 0]);
        options.extend(extensions);
        options.resize(options.len().max(4), 0);
    }
    let length = (options.len() + inside.len()) as u16;
    let header = [[0x30 | flags, 0xff].as_slice(), &length.to_be_bytes(), &[0, 0, 0, 9]].concat();
    udp(2152, 2152, &[header, options, inside.to_vec()].concat())
}

#[test]
fn each_tunnel_gives_its_outer_flow_and_with_decap_what_it_carries() {
    let (v4, v6) = (small(5), ipv6(17, &udp(1111, 53, b"hello")));
    let frame = ethernet(0x0800, &v4);
    let vxlan = [&[0x08, 0, 0, 0, 0, 0, 42, 0], frame.as_slice()].concat();
    let ip4 = |proto: u8, inside: &[u8]| ethernet(0x0800, &ipv4(proto, inside));
    let ip6 = |next: u8, inside: &[u8]| ethernet(0x86dd, &ipv6(next, inside));
    let pptp = |flags: u16, ppp: &[u8]| gre(flags, 0x880b, ppp);
    // (name, packet, outer protocol and port, inner IP bytes)
    type Case = (&'static str, Vec<u8>, (u8, u16), u64);
    let cases: Vec<Case> = vec![
        ("4in4", ip4(4, &v4), (4, 0), 33),
        ("6in4", ip4(41, &v6), (41, 0), 53),
        ("4in6", ip6(4, &v4), (4, 0), 33),
        ("6in6", ip6(41, &v6), (41, 0), 53),
        ("GRE", ip4(47, &gre(0, 0x0800, &v4)), (47, 0), 33),
        ("GRE with checksum", ip4(47, &gre(0x8000, 0x0800, &v4)), (47, 0), 33),
        ("GRE with key", ip4(47, &gre(0x2000, 0x86dd, &v6)), (47, 0), 53),
        ("GRE with all", ip4(47, &gre(0xb000, 0x0800, &v4)), (47, 0), 33),
        ("GRE with frames", ip4(47, &gre(0x2000, 0x6558, &frame)), (47, 0), 33),
        ("GRE with MPLS", ip4(47, &gre(0, 0x8847, &[&[0, 1, 0x01, 64], v4.as_slice()].concat())), (47, 0), 33),
        ("PPTP", ip4(47, &pptp(0x3081, &[&[0xff, 0x03, 0x00, 0x21], v4.as_slice()].concat())), (47, 0), 33),
        ("PPTP, no framing", ip4(47, &pptp(0x3001, &[&[0x21], v4.as_slice()].concat())), (47, 0), 33),
        ("VXLAN", ip4(17, &udp(5000, 4789, &vxlan)), (17, 4789), 33),
        ("GTP-U", ip4(17, &gtp(0, &[], &v4)), (17, 2152), 33),
        ("GTP-U with sequence", ip4(17, &gtp(2, &[0], &v4)), (17, 2152), 33),
        ("GTP-U with extension", ip4(17, &gtp(4, &[0x85, 1, 0x10, 9, 0], &v6)), (17, 2152), 53),
        ("GTP-U with two", ip4(17, &gtp(7, &[0x85, 1, 0, 9, 0xc0, 2, 0, 0, 0, 0, 0, 0, 0], &v4)), (17, 2152), 33),
        ("in a tunnel in a tunnel", ip4(4, &ipv4(41, &ipv6(47, &gre(0, 0x0800, &v4)))), (4, 0), 33),
    ];
    for (what, packet, outer, inner_bytes) in cases {
        let bytes = packet.len() as u64 - 14;
        assert_eq!(flow(&packet, false), (outer.0, outer.1, bytes), "{what}");
        assert_eq!(flow(&packet, true), (17, 53, inner_bytes), "{what}");
    }
}

#[test]
fn labels_hide_the_flow_without_decap_and_it_is_said() {
    let v4 = small(5);
    let frame = ethernet(0x0800, &v4);
    let label = |bottom: bool| [0, 1, u8::from(bottom), 64];
    let inside: [Vec<u8>; 5] = [
        [label(true).as_slice(), &v4].concat(),
        [label(false).as_slice(), &label(false), &label(true), &v4].concat(),
        [label(true).as_slice(), &ipv6(17, &udp(1111, 53, b"hello"))].concat(),
        [label(true).as_slice(), &[0; 4], &frame].concat(),
        [label(true).as_slice(), &frame].concat(),
    ];
    for packet in inside {
        for ether_type in [0x8847, 0x8848] {
            let packet = ethernet(ether_type, &packet);
            assert_eq!(flow(&packet, true).1, 53);
            let (records, report, _) = read_file(&pcap(1, &[packet]), false);
            assert!(records.is_empty());
            assert_eq!(
                report.left_out.into_iter().collect::<Vec<_>>(),
                [("MPLS (what it carries is read with --decap)", 1)]
            );
        }
    }
}

#[test]
fn what_is_no_tunnel_or_cannot_be_read_stays_the_outer_flow() {
    let v4 = small(5);
    let mut fragment = ipv4(4, &v4);
    fragment[7] = 10;
    let mut first_fragment = ipv4(4, &v4);
    first_fragment[6] = 0x20;
    let first_v6 = |more: u8| ipv6(44, &[&[4, 0, 0, more, 0, 0, 0, 1], v4.as_slice()].concat());
    let e4 = |ip: &[u8]| ethernet(0x0800, ip);
    let stay: Vec<(&str, Vec<u8>)> = vec![
        ("a later fragment", e4(&fragment)),
        ("a first fragment", e4(&first_fragment)),
        ("a first fragment, IPv6", ethernet(0x86dd, &first_v6(1))),
        ("IPv4 said, IPv6 there", e4(&ipv4(4, &ipv6(17, &udp(1, 2, b""))))),
        ("nothing inside", e4(&ipv4(4, &[]))),
        ("source routes", e4(&ipv4(47, &gre(0x4000, 0x0800, &v4)))),
        ("GRE of another kind", e4(&ipv4(47, &gre(0, 0x1234, &v4)))),
        (
            "VXLAN without a network",
            e4(&ipv4(17, &udp(1, 4789, &[&[0; 8], ethernet(0x0800, &v4).as_slice()].concat()))),
        ),
        ("a GTP-U echo", e4(&ipv4(17, &udp(2152, 2152, &[0x32, 1, 0, 4, 0, 0, 0, 0, 0, 1, 0, 0])))),
        ("extensions of no length", e4(&ipv4(17, &gtp(4, &[0x85, 0, 0, 0, 0x85], &v4)))),
    ];
    for (what, packet) in stay {
        assert_eq!(flow(&packet, true), flow(&packet, false), "{what}");
    }
    // The last and only fragment is a whole packet (RFC 6946).
    assert_eq!(flow(&ethernet(0x86dd, &first_v6(0)), true).1, 53);
}

#[test]
fn nesting_has_a_bound() {
    let mut packet = small(5);
    for _ in 0..8 {
        packet = ipv4(4, &packet);
    }
    assert_eq!(flow(&ethernet(0x0800, &packet), true).1, 53);
    let one_more = ipv4(4, &packet);
    assert_eq!(flow(&ethernet(0x0800, &one_more), true), (4, 0, 53));
}

#[test]
fn a_cut_packet_counts_inside_as_on_the_wire_and_padding_does_not() {
    let frame = ethernet(
        0x0800,
        &ipv4(17, &udp(1, 4789, &[&[8, 0, 0, 0, 0, 0, 1, 0], ethernet(0x0800, &small(1000)).as_slice()].concat())),
    );
    let mut file = pcap_header(Little, false, 1);
    file.extend(pcap_record(Little, 1, 0, &frame[..100], frame.len() as u32));
    let (records, ..) = read_file(&file, true);
    assert_eq!((records[0].record.server_port, records[0].record.fwd.bytes), (53, 1028));
    // An inner length beyond the outer packet is no longer than that.
    let mut lying = small(5);
    lying[2..4].copy_from_slice(&60_000u16.to_be_bytes());
    let mut padded = ethernet(0x0800, &ipv4(4, &lying));
    padded.extend([0; 30]);
    assert_eq!(flow(&padded, true).2, 33);
}

#[test]
fn inside_frames_bring_their_own_tags_and_inside_packets_keep_those_outside() {
    let tagged = |id: u8, ether_type: u16, inside: &[u8]| {
        ethernet(0x8100, &[[0, id].as_slice(), &ether_type.to_be_bytes(), inside].concat())
    };
    let vxlan = |frame: &[u8]| ipv4(17, &udp(1, 4789, &[&[8, 0, 0, 0, 0, 0, 1, 0], frame].concat()));
    let vlan = |packet: Vec<u8>| read_file(&pcap(1, &[packet]), true).0[0].record.vlan_outer;
    assert_eq!(vlan(tagged(5, 0x0800, &vxlan(&tagged(6, 0x0800, &small(1))))), 6);
    assert_eq!(vlan(tagged(5, 0x0800, &vxlan(&ethernet(0x0800, &small(1))))), 0);
    assert_eq!(vlan(tagged(5, 0x0800, &ipv4(4, &small(1)))), 5);
}

#[test]
fn payloads_are_found_in_each_layer() {
    let inner = ethernet(0x0800, &ipv4(17, &udp(9, 2055, b"export")));
    let packet = ethernet(0x0800, &ipv4(17, &udp(1, 4789, &[&[8, 0, 0, 0, 0, 0, 1, 0], inner.as_slice()].concat())));
    let mut padded = packet.clone();
    padded.extend([0; 9]);
    let file = pcap(1, &[packet, padded]);
    let mut packets = Packets::new(file.as_slice()).unwrap();
    while let Some(p) = packets.next_packet().unwrap() {
        assert_eq!(Layers::of(&p).unwrap().payload(&p).len(), 8 + 14 + 34);
        assert_eq!(Layers::innermost(&p).unwrap().payload(&p), b"export");
    }
}
