//! The two formats.

use super::*;

const ORDERS: [End; 2] = [Little, Big];

#[test]
fn both_byte_orders_and_both_resolutions_give_the_same_packets() {
    let data = ethernet(0x0800, &small(10));
    for end in ORDERS {
        for (nanos, fraction) in [(false, 123_456), (true, 123_456_999)] {
            let mut file = pcap_header(end, nanos, 1);
            file.extend(pcap_record(end, 1_700_000_000, fraction, &data, 1500));
            let (packets, truncated) = packets_of(&file).unwrap();
            assert_eq!(packets, [(1_700_000_000_123_456, 1, data.clone(), 1500)], "{end:?} {nanos}");
            assert!(!truncated);
        }
    }
}

#[test]
fn clocks_of_interfaces_are_read_each_by_its_own_options() {
    let s = 1_700_000_000u64;
    // (if_tsresol, ticks, µs)
    let cases: [(Option<u8>, u64, u64); 7] = [
        (None, s * 1_000_000 + 7, s * 1_000_000 + 7),
        (Some(6), s * 1_000_000 + 7, s * 1_000_000 + 7),
        (Some(9), s * 1_000_000_000 + 7_999, s * 1_000_000 + 7),
        (Some(3), s * 1000 + 7, s * 1_000_000 + 7000),
        (Some(0), s, s * 1_000_000),
        (Some(0x80 | 20), (s << 20) + (1 << 19), s * 1_000_000 + 500_000),
        (Some(127), u64::MAX, 0),
    ];
    for end in ORDERS {
        let mut file = section(end);
        let mut expected = Vec::new();
        for (resolution, _, _) in cases {
            let value = resolution.map(|r| [r]);
            let options: Vec<(u16, &[u8])> = value.iter().map(|v| (9, v.as_slice())).collect();
            file.extend(interface(end, 1, 0, &options));
        }
        for (i, (_, ticks, us)) in cases.iter().enumerate() {
            file.extend(enhanced(end, i as u32, *ticks, b"abcde", 5));
            expected.push((*us, 1, b"abcde".to_vec(), 5));
        }
        assert_eq!(packets_of(&file).unwrap(), (expected, false), "{end:?}");
    }
}

#[test]
fn the_offset_of_a_clock_is_added_also_where_it_is_negative() {
    for end in ORDERS {
        let mut file = section(end);
        for offset in [3600i64, -10] {
            let value = if end == Little { offset.to_le_bytes() } else { offset.to_be_bytes() };
            file.extend(interface(end, 1, 0, &[(2, b"eth0"), (14, &value)]));
        }
        file.extend(enhanced(end, 0, 5, b"", 0));
        file.extend(enhanced(end, 1, 10_000_005, b"", 0));
        file.extend(enhanced(end, 1, 5, b"", 0));
        let times: Vec<u64> = packets_of(&file).unwrap().0.iter().map(|p| p.0).collect();
        assert_eq!(times, [3_600_000_005, 5, 0]);
    }
}

#[test]
fn sections_begin_anew_also_in_the_other_byte_order() {
    let mut file = Vec::new();
    for (i, end) in [Little, Big, Little].into_iter().enumerate() {
        file.extend(section(end));
        file.extend(interface(end, if i == 1 { 101 } else { 1 }, 0, &[]));
        file.extend(enhanced(end, 0, 10 + i as u64, b"xyz", 60));
    }
    let (packets, _) = packets_of(&file).unwrap();
    let x = b"xyz".to_vec();
    assert_eq!(packets, [(10, 1, x.clone(), 60), (11, 101, x.clone(), 60), (12, 1, x, 60)]);
}

#[test]
fn simple_and_obsolete_packet_blocks_are_read_and_unknown_ones_skipped() {
    for end in ORDERS {
        let mut file = section(end);
        file.extend(block(end, 0x0bad, &[1; 40]));
        file.extend(interface(end, 1, 6, &[]));
        file.extend(enhanced(end, 0, 77, b"first", 5));
        // A simple packet of 10 bytes, of which the interface keeps 6.
        file.extend(block(end, 3, &[end.u32(10).as_slice(), b"simple"].concat()));
        let short = [end.u16(0), end.u16(3)].concat();
        let long = [end.u32(0), end.u32(99), end.u32(3), end.u32(60)].concat();
        file.extend(block(end, 2, &[short, long, b"old".to_vec()].concat()));
        // Larger than what is held at once.
        file.extend(block(end, 0x4000_0bad, &vec![7; 3 << 20]));
        file.extend(enhanced(end, 0, 100, b"last", 4));
        let mut packets = Packets::new(file.as_slice()).unwrap();
        let mut found = Vec::new();
        while let Some(p) = packets.next_packet().unwrap() {
            found.push((p.at_us, String::from_utf8_lossy(p.data).into_owned(), p.wire_len));
        }
        let expected = [(77, "first", 5), (77, "simple", 10), (99, "old", 60), (100, "last", 4)];
        assert_eq!(found, expected.map(|(t, d, n)| (t, d.to_string(), n)));
        assert_eq!(packets.untimed(), 1);
        let (_, report, result) = read_file(&file, false);
        result.unwrap();
        assert!(report.warnings.iter().any(|w| w.contains("no time of their own")), "{report:?}");
    }
}

/// What must hold for every prefix of `file`, whose packets end at `ends`.
fn cut_anywhere(file: &[u8], ends: &[usize]) {
    for cut in 4..=file.len() {
        let complete = ends.iter().filter(|e| **e <= cut).count();
        let (packets, truncated) = packets_of(&file[..cut]).unwrap();
        assert_eq!(packets.len(), complete, "cut at {cut}");
        let (records, report, result) = read_file(&file[..cut], false);
        result.unwrap();
        assert_eq!((report.read as usize, report.truncated), (complete, truncated), "cut at {cut}");
        assert_eq!(report.warnings.iter().filter(|w| w.contains("cut short")).count(), usize::from(truncated));
        let counted: u64 = records.iter().map(|o| o.record.fwd.packets + o.record.bwd.packets).sum();
        assert_eq!(counted as usize, complete, "cut at {cut}");
    }
}

#[test]
fn a_pcap_cut_at_any_byte_keeps_every_complete_packet() {
    let mut file = pcap_header(Big, false, 1);
    let mut ends = Vec::new();
    for i in 0..4 {
        file.extend(pcap_record(Big, 50 + i, 0, &ethernet(0x0800, &small(i as usize)), 90));
        ends.push(file.len());
    }
    cut_anywhere(&file, &ends);
    let whole = |n: usize| packets_of(&file[..n]).unwrap().1;
    assert_eq!((whole(24), whole(ends[0]), whole(ends[0] + 1), whole(ends[3])), (false, false, true, false));
    assert!(whole(23));
}

#[test]
fn a_pcapng_cut_at_any_byte_keeps_every_complete_packet() {
    let mut file = [section(Little), interface(Little, 1, 0, &[(9, &[9])])].concat();
    let mut ends = Vec::new();
    for i in 0..4 {
        file.extend(enhanced(Little, 0, i * 1_000_000, &ethernet(0x0800, &small(i as usize)), 90));
        ends.push(file.len());
        file.extend(block(Little, 0x55, &[0; 8]));
    }
    cut_anywhere(&file, &ends);
    assert!(!packets_of(&file).unwrap().1);
}

#[test]
fn lengths_that_cannot_be_are_an_error_with_the_place_and_all_before_is_kept() {
    let good = ethernet(0x0800, &small(4));
    let mut classic = pcap_header(Little, false, 1);
    classic.extend(pcap_record(Little, 1, 0, &good, 60));
    let mut ng = [section(Big), interface(Big, 1, 0, &[])].concat();
    ng.extend(enhanced(Big, 0, 1_000_000, &good, 60));
    let begun = |file: &[u8], then: &[u8]| [file, then, &[0; 64]].concat();
    let claims = |captured: u32| [Little.u32(2), Little.u32(0), Little.u32(captured), Little.u32(captured)].concat();
    let epb = |interface: u32, captured: u32| {
        block(Big, 6, &[Big.u32(interface), [0; 4], [0; 4], Big.u32(captured), Big.u32(60)].concat())
    };
    let mut ends_otherwise = block(Big, 0x77, &[0; 8]);
    *ends_otherwise.last_mut().unwrap() ^= 4;
    let cases = [
        ("4 GiB", classic.clone(), claims(u32::MAX)),
        ("more than a packet may have", classic.clone(), claims(262_145)),
        ("a block of 4 GiB - 1", ng.clone(), [Big.u32(6), Big.u32(u32::MAX)].concat()),
        ("a block of 8", ng.clone(), [Big.u32(6), Big.u32(8)].concat()),
        ("a packet longer than its block", ng.clone(), epb(0, 4)),
        ("an interface that nobody described", ng.clone(), epb(7, 0)),
        ("a packet block without a header", ng.clone(), block(Big, 6, &[])),
        ("lengths that differ", ng.clone(), ends_otherwise),
        ("a byte-order magic that is none", ng.clone(), block(Big, 0x0a0d_0d0a, &[0; 16])),
        (
            "another version",
            ng.clone(),
            block(Big, 0x0a0d_0d0a, &[Big.u32(0x1a2b_3c4d), [0, 9, 0, 0], [0; 4], [0; 4]].concat()),
        ),
    ];
    for (what, before, bad) in cases {
        let (records, report, result) = read_file(&begun(&before, &bad), false);
        match result {
            Err(SourceError::Corrupt { offset, .. }) => assert_eq!(offset, before.len() as u64, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!((report.read, records.len()), (1, 1), "{what}");
    }
    // A block of 4 GiB that may be skipped is only cut short.
    let skipped = begun(&ng, &[Big.u32(0x77), Big.u32(u32::MAX - 3)].concat());
    let (_, report, result) = read_file(&skipped, false);
    result.unwrap();
    assert!(report.truncated);
}

#[test]
fn what_is_no_capture_is_said_to_be_none() {
    let options = Options { format: Some(Format::Pcap), ..Options::default() };
    let input = Input::new(b"GIF89a, and more".as_slice(), "x".into(), None, &options).unwrap();
    let mut sink = Flows::new(TableConfig::default(), false, |_| Ok(()));
    let (_, result) = input.read(&options, &mut sink);
    assert!(matches!(result, Err(SourceError::Unknown(why)) if why.contains("47494638")));
}

#[test]
fn old_files_with_their_lengths_the_other_way_round_and_long_record_headers_are_read() {
    let mut old = pcap_header(Big, false, 1);
    old[4..8].copy_from_slice(&[0, 2, 0, 1]);
    old.extend([Big.u32(9), Big.u32(1), Big.u32(60), Big.u32(3), *b"abc\0"].concat());
    old.pop();
    assert_eq!(packets_of(&old).unwrap(), (vec![(9_000_001, 1, b"abc".to_vec(), 60)], false));
    let mut kuznetsov = pcap_header(Little, false, 1);
    kuznetsov[..4].copy_from_slice(&Little.u32(0xa1b2_cd34));
    kuznetsov.extend([Little.u32(9), Little.u32(1), Little.u32(3), Little.u32(60), [0; 4], [0; 4]].concat());
    kuznetsov.extend(b"abc");
    assert_eq!(packets_of(&kuznetsov).unwrap(), (vec![(9_000_001, 1, b"abc".to_vec(), 60)], false));
}

#[test]
fn what_is_too_large_to_be_a_network_packet_is_passed_over_without_holding_it() {
    // USB: 20 MiB in one packet.
    let mut file = pcap_header(Little, false, 189);
    file.extend(pcap_record(Little, 1, 0, &vec![1; 20 << 20], 20 << 20));
    file.extend(pcap_record(Little, 2, 0, b"next", 4));
    let (packets, truncated) = packets_of(&file).unwrap();
    assert_eq!(packets, [(1_000_000, 189, vec![], 20 << 20), (2_000_000, 189, b"next".to_vec(), 4)]);
    assert!(!truncated);
    let (_, report, result) = read_file(&file, false);
    result.unwrap();
    assert_eq!(report.left_out.values().sum::<u64>(), 2);
    assert_eq!(report.warnings, ["link type 189 (USB) is not read: its packets are left out"]);
}

#[test]
fn a_wire_length_below_what_was_captured_is_raised_to_it() {
    let mut file = pcap_header(Little, false, 1);
    file.extend(pcap_record(Little, 1, 0, b"abcdef", 2));
    assert_eq!(packets_of(&file).unwrap().0[0].3, 6);
}

#[test]
fn a_compressed_capture_that_is_cut_gives_its_complete_packets() {
    use std::io::Write as _;
    // Bytes that do not compress, so that the cut falls among the packets.
    let mut noise = 1u32;
    let mut byte = || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    };
    let packets: Vec<Vec<u8>> = (0..40u8)
        .map(|i| {
            let udp: Vec<u8> = [[0x10, i, 0, 53].as_slice(), &[0, 208, 0, 0]].concat();
            ethernet(0x0800, &ipv4(17, &udp.into_iter().chain((0..200).map(|_| byte())).collect::<Vec<_>>()))
        })
        .collect();
    let file = pcap(1, &packets);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&file).unwrap();
    let whole = gzip.finish().unwrap();
    let (all, report, result) = read_file(&whole, false);
    assert!(result.is_ok() && !report.truncated);
    assert_eq!(all.len(), 40);
    let (some, report, result) = read_file(&whole[..whole.len() / 2], false);
    assert!(report.truncated || result.is_err(), "a cut is not passed over in silence");
    assert!((5..40).contains(&some.len()), "{} of 40 flows, {report}, {result:?}", some.len());
}

#[test]
fn options_of_blocks_that_never_end_or_go_nowhere_are_passed_over_and_the_packets_read() {
    for end in ORDERS {
        // No end of options; thousands without a value; a value longer than the block; a clock after all of them.
        let endless: Vec<(u16, &[u8])> = vec![(2, b""); 5000];
        let mut of_clock = endless.clone();
        of_clock.push((9, &[9]));
        let mut cut = interface(end, 1, 0, &endless);
        let place = cut.len() - 12;
        cut[place..place + 4].copy_from_slice(&[end.u16(2), end.u16(0xffff)].concat());
        let mut long = [end.u16(1).as_slice(), &[0, 0], &end.u32(0)].concat();
        (0..5000).for_each(|_| long.extend([end.u16(0x0bad), end.u16(0)].concat()));
        let mut file = section(end);
        file.extend(interface(end, 1, 0, &of_clock));
        file.extend(cut);
        file.extend(block(end, 1, &long));
        // A packet block whose options never end either.
        let mut body = [end.u32(0), end.u32(0), end.u32(1_999), end.u32(5), end.u32(5)].concat();
        body.extend(b"abcde\0\0\0");
        (0..10_000).for_each(|_| body.extend([end.u16(1), end.u16(0)].concat()));
        file.extend(block(end, 6, &body));
        for interface in 1..3 {
            file.extend(enhanced(end, interface, 7, b"fghij", 5));
        }
        let packet = |us, data: &[u8]| (us, 1, data.to_vec(), 5);
        let expected = vec![packet(1, b"abcde"), packet(7, b"fghij"), packet(7, b"fghij")];
        assert_eq!(packets_of(&file).unwrap(), (expected, false), "{end:?}");
    }
}
