//! A million mutated frames: the XDP program does what the shared parser says, and the shared parser what etherparse says.

use std::collections::HashMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use weir_common::counters::Reason;
use weir_common::flow::{FlowKey, FlowStats};
use weir_common::parse::{Depth, NotParsed, Offload, parse};
use weir_kernel::Options;
use weir_kernel::pins::Capacity;

use crate::frames::*;
use crate::reference::{self, ByDefinition, Seen};
use crate::support::*;

const FRAMES: usize = 1_000_000;
const BATCH: usize = 20_000;
const SEED: u64 = 0x5eed_0001;

/// Valid frames of every shape that the parser knows.
fn base() -> Vec<Vec<u8>> {
    let (a4, b4) = ("192.0.2.1".parse().unwrap(), "198.51.100.7".parse().unwrap());
    let (a6, b6) = ("2001:db8::1".parse().unwrap(), "2001:db8:1::7".parse().unwrap());
    let t = tcp(40_000, 443, SYN | ACK, 7, 8, 20);
    let u = udp(5353, 53, 30);
    let mut packets = Vec::new();
    for (proto, l4) in [(TCP, &t), (UDP, &u), (ICMP, &icmp(8, 0)), (ICMP, &icmp(3, 1)), (47, &vec![0; 12]), (132, &u)] {
        for options in [0, 4, 40] {
            for fragment in [0, 0x2000, 0x4000, 0x00b9] {
                packets.push(ipv4_with(a4, b4, proto, l4, &V4 { options: vec![1; options], fragment }));
            }
        }
    }
    let chains: [Vec<(u8, Vec<u8>)>; 9] = [
        vec![],
        vec![(0, extension(0))],
        vec![(0, extension(0)), (43, extension(2)), (60, extension(1))],
        vec![(44, fragment_header(0, true))],
        vec![(60, extension(0)), (44, fragment_header(100, false))],
        vec![(51, vec![0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
        vec![(135, extension(0)), (139, extension(1)), (140, extension(0))],
        vec![(60, extension(0)); 8],
        vec![(60, extension(0)); 9],
    ];
    for chain in &chains {
        for (proto, l4) in [(TCP, &t), (UDP, &u), (ICMPV6, &icmp(135, 0)), (ICMPV6, &icmp(1, 4)), (59, &vec![])] {
            packets.push(ipv6_with(a6, b6, chain, proto, l4));
        }
    }
    let tags: [&[(u16, u16)]; 5] = [
        &[],
        &[(0x8100, 5)],
        &[(0x88a8, 100), (0x8100, 0xf065)],
        &[(0x9100, 2), (0x8100, 3)],
        &[(0x88a8, 1), (0x8100, 2), (0x8100, 3)],
    ];
    packets.iter().flat_map(|p| tags.iter().map(|t| frame(t, p))).collect()
}

/// Changes what a parser looks at.
fn mutate(frame: &mut Vec<u8>, rng: &mut SmallRng) {
    const TELLING: [u8; 16] = [0, 1, 4, 5, 6, 17, 43, 44, 51, 58, 60, 0x40, 0x45, 0x4f, 0x60, 0xff];
    for _ in 0..rng.random_range(0..5) {
        let end = frame.len().min(100);
        let at = rng.random_range(12..end.max(13));
        match rng.random_range(0..8) {
            0..3 if at < frame.len() => frame[at] = rng.random(),
            3 | 4 if at < frame.len() => frame[at] = TELLING[rng.random_range(0..TELLING.len())],
            5 if at < frame.len() => frame[at] ^= 1 << rng.random_range(0..8),
            // The kernel takes no test frame without an Ethernet header.
            6 => frame.truncate(rng.random_range(14..frame.len().max(15))),
            _ => {
                let byte = rng.random();
                frame.insert(at.min(frame.len()), byte);
            }
        }
    }
}

/// What the program must have counted for a batch, by the shared parser.
#[derive(Default)]
struct Expected {
    flows: HashMap<FlowKey, FlowStats>,
    not_ip: u64,
    malformed: u64,
    address_only: u64,
}

fn first_difference(expected: &HashMap<FlowKey, FlowStats>, found: &HashMap<FlowKey, FlowStats>) -> String {
    for (k, v) in expected {
        if found.get(k) != Some(v) {
            return format!("{k:?}\nexpected {v:?}\nfound    {:?}", found.get(k));
        }
    }
    let extra = found.iter().find(|(k, _)| !expected.contains_key(*k));
    format!("not expected: {extra:?}")
}

#[test]
fn xdp_parses_a_million_mutated_frames_as_the_reference_does() {
    if !ready("xdp_parses_a_million_mutated_frames_as_the_reference_does") {
        return;
    }
    let capacity = Capacity { flows: 1 << 15, ..small() };
    let mut loaded = Loaded::new(Options { capacity, ..test_clock() });
    let mut rng = SmallRng::seed_from_u64(SEED);
    let base = base();
    let mut by_definition = ByDefinition::default();
    let (mut not_ip, mut malformed, mut address_only) = (0, 0, 0);
    for batch in 0..FRAMES / BATCH {
        let now_us = 1_000_000 * (batch as u64 + 1);
        loaded.set_clock_us(now_us);
        let mut expected = Expected::default();
        for _ in 0..BATCH {
            let mut frame = base[rng.random_range(0..base.len())].clone();
            mutate(&mut frame, &mut rng);
            let shared = parse(frame.as_slice(), frame.len() as u32, 0);
            assert_eq!(
                shared.as_ref().map(Seen::of).map_err(|e| *e),
                reference::parse(&frame, &mut by_definition),
                "seed {SEED:#x}, frame {frame:02x?}"
            );
            match shared {
                Ok(meta) => {
                    let (key, dir) = meta.key();
                    let mut packet = meta.packet(Offload::default());
                    (packet.dir, packet.now_us, packet.from_outside) = (dir, now_us, 1);
                    expected.flows.entry(key).or_insert(FlowStats::EMPTY).update(&packet);
                    expected.address_only += u64::from(meta.depth == Depth::AddressOnly);
                }
                Err(NotParsed::NotIp) => expected.not_ip += 1,
                Err(NotParsed::Malformed) => expected.malformed += 1,
            }
            assert_eq!(loaded.xdp(&frame), XDP_PASS, "{frame:02x?}");
        }
        let found = loaded.drain();
        assert!(found == expected.flows, "batch {batch}: {}", first_difference(&expected.flows, &found));
        not_ip += expected.not_ip;
        malformed += expected.malformed;
        address_only += expected.address_only;
        assert_eq!(loaded.packets(Reason::InNotIp), not_ip);
        assert_eq!(loaded.packets(Reason::InMalformed), malformed);
        assert_eq!(loaded.packets(Reason::InAddressOnly), address_only);
    }
    assert_eq!(loaded.packets(Reason::InPass), FRAMES as u64 - not_ip - malformed);
    // Each kind must really have been met.
    assert!(not_ip > 1000 && malformed > 1000 && address_only > 1000, "{not_ip} {malformed} {address_only}");
    eprintln!("{FRAMES} frames, no difference; different by definition: {by_definition:?}");
}
