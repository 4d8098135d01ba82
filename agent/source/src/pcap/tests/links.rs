//! What lies below IP.

use super::*;

/// The one flow of a capture with one packet: addresses, ports, IP bytes, VLANs.
fn one(link: u32, packet: Vec<u8>) -> (String, u16, String, u16, u64, [u16; 2]) {
    let (records, report, result) = read_file(&pcap(link, &[packet]), false);
    result.unwrap();
    assert_eq!((records.len(), report.left_out.len(), report.warnings.len()), (1, 0, 0), "link {link}: {report:?}");
    let r = &records[0].record;
    let name = |a: weir_core::addr::Addr| a.ip().to_string();
    (name(r.client), r.client_port, name(r.server), r.server_port, r.fwd.bytes, [r.vlan_outer, r.vlan_inner])
}

#[test]
fn each_link_type_leads_to_the_same_flow() {
    let (v4, v6) = (small(5), ipv6(17, &udp(1111, 53, b"hello")));
    let before = |header: &[u8], ip: &[u8]| [header, ip].concat();
    let mut sll = vec![0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
    sll.extend([0x08, 0x00]);
    let mut sll_v6 = sll.clone();
    sll_v6[14..].copy_from_slice(&[0x86, 0xdd]);
    let sll2 = |ether_type: [u8; 2]| [ether_type.as_slice(), &[0; 18]].concat();
    let cases: Vec<(u32, Vec<u8>, bool)> = vec![
        (1, ethernet(0x0800, &v4), false),
        (1, ethernet(0x86dd, &v6), true),
        (101, v4.clone(), false),
        (101, v6.clone(), true),
        (12, v4.clone(), false),
        (14, v6.clone(), true),
        (228, v4.clone(), false),
        (229, v6.clone(), true),
        (113, before(&sll, &v4), false),
        (113, before(&sll_v6, &v6), true),
        (276, before(&sll2([0x08, 0x00]), &v4), false),
        (276, before(&sll2([0x86, 0xdd]), &v6), true),
        (0, before(&[2, 0, 0, 0], &v4), false),
        (0, before(&[0, 0, 0, 2], &v4), false),
        (0, before(&[24, 0, 0, 0], &v6), true),
        (0, before(&[0, 0, 0, 28], &v6), true),
        (0, before(&[30, 0, 0, 0], &v6), true),
        (108, before(&[0, 0, 0, 2], &v4), false),
        (108, before(&[0, 0, 0, 24], &v6), true),
        (9, before(&[0xff, 0x03, 0x00, 0x21], &v4), false),
        (9, before(&[0x00, 0x57], &v6), true),
        (9, before(&[0x21], &v4), false),
        (9, before(&[0x0f, 0x00, 0x08, 0x00], &v4), false),
        (50, before(&[0xff, 0x03, 0x00, 0x21], &v4), false),
        (50, before(&[0x0f, 0x00, 0x08, 0x00], &v4), false),
        (104, before(&[0x0f, 0x00, 0x86, 0xdd], &v6), true),
        (1, ethernet(0x8864, &before(&[0x11, 0, 0, 7, 0, 35, 0x00, 0x21], &v4)), false),
        (1, ethernet(0x8864, &before(&[0x11, 0, 0, 7, 0, 55, 0x00, 0x57], &v6)), true),
    ];
    for (link, packet, is_v6) in cases {
        let expected = if is_v6 {
            ("fd00::1".to_string(), 1111, "fd00::2".to_string(), 53, 53, [0, 0])
        } else {
            ("10.0.0.1".to_string(), 1111, "10.0.0.2".to_string(), 53, 33, [0, 0])
        };
        assert_eq!(one(link, packet.clone()), expected, "link {link}: {packet:02x?}");
    }
}

#[test]
fn tags_are_part_of_the_flow_on_each_link_that_carries_them() {
    let v4 = small(5);
    let tag = |id: u16, next: u16, inside: &[u8]| [&id.to_be_bytes(), &next.to_be_bytes(), inside].concat();
    let pppoe = [&[0x11, 0, 0, 7, 0, 35, 0x00, 0x21], v4.as_slice()].concat();
    let cases: Vec<(u32, Vec<u8>, [u16; 2])> = vec![
        // Priority bits are no part of the identifier.
        (1, ethernet(0x8100, &tag(0xe005, 0x0800, &v4)), [5, 0]),
        (1, ethernet(0x88a8, &tag(7, 0x8100, &tag(8, 0x0800, &v4))), [7, 8]),
        (1, ethernet(0x9100, &tag(7, 0x8100, &tag(8, 0x0800, &v4))), [7, 8]),
        (1, ethernet(0x8100, &tag(9, 0x8864, &pppoe)), [9, 0]),
        (113, [&[0u8; 14], [0x81, 0x00].as_slice(), &tag(5, 0x0800, &v4)].concat(), [5, 0]),
        (276, [[0x81, 0x00].as_slice(), &[0; 18], &tag(7, 0x8100, &tag(8, 0x0800, &v4))].concat(), [7, 8]),
    ];
    for (link, packet, vlans) in cases {
        assert_eq!(one(link, packet).5, vlans);
    }
}

#[test]
fn a_link_type_that_is_not_read_is_named_and_its_packets_are_counted_beside_the_others() {
    let mut file = [section(Little), interface(Little, 1, 0, &[]), interface(Little, 127, 0, &[])].concat();
    file.extend(interface(Little, 4321, 0, &[]));
    let packet = ethernet(0x0800, &small(5));
    for i in [0, 1, 1, 2, 0] {
        file.extend(enhanced(Little, i, 1_000_000, &packet, packet.len() as u32));
    }
    let (records, report, result) = read_file(&file, false);
    result.unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].record.fwd.packets, 2);
    assert_eq!((report.read, report.left_out.values().sum::<u64>()), (5, 3));
    assert_eq!(
        report.warnings,
        [
            "link type 127 (802.11 with radiotap header) is not read: its packets are left out",
            "link type 4321 is not read: its packets are left out"
        ]
    );
}

#[test]
fn a_packet_that_the_snaplen_cut_counts_with_its_length_on_the_wire() {
    let whole = ethernet(0x0800, &small(1000));
    for kept in [42, 60, whole.len()] {
        let mut file = pcap_header(Little, false, 1);
        file.extend(pcap_record(Little, 5, 0, &whole[..kept], whole.len() as u32));
        let (records, _, result) = read_file(&file, false);
        result.unwrap();
        let r = &records[0].record;
        assert_eq!((r.fwd.packets, r.fwd.bytes, r.fwd.payload, r.server_port), (1, 1028, 1000, 53), "{kept} kept");
    }
    // Cut inside the addresses: in no flow, and said so.
    let mut file = pcap_header(Little, false, 1);
    file.extend(pcap_record(Little, 5, 0, &whole[..30], whole.len() as u32));
    let (records, report, _) = read_file(&file, false);
    assert_eq!((records.len(), report.left_out.values().sum::<u64>()), (0, 1));
}

#[test]
fn no_link_header_cut_short_or_made_of_noise_breaks_anything() {
    let mut seed = 1u64;
    for link in [0, 1, 9, 12, 50, 101, 104, 108, 113, 228, 229, 276] {
        let mut packets = Vec::new();
        for n in 0..120usize {
            let noise: Vec<u8> = (0..n)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    [0x08, 0x00, 0x45, 0x81, 0x60, (seed >> 33) as u8][(seed >> 60) as usize % 6]
                })
                .collect();
            packets.push(noise);
            packets.push(ethernet(0x8864, &small(5))[..n.min(47)].to_vec());
        }
        for decap in [false, true] {
            let (records, report, result) = read_file(&pcap(link, &packets), decap);
            result.unwrap();
            let counted: u64 = records.iter().map(|o| o.record.fwd.packets + o.record.bwd.packets).sum();
            assert_eq!(counted + report.left_out.values().sum::<u64>(), report.read);
            assert_eq!(report.read as usize, packets.len());
        }
    }
}
