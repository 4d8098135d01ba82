//! A million mutated frames: the XDP program does what the shared parser says, and the shared parser what etherparse says.
//! `WEIR_PACKETS` asks for another number of them (`cargo xtask fuzz --packets N`), each run with frames of its own.

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
/// Frames of captures that are mutated beside our own, and the longest that is taken.
const CAPTURED: usize = 5_000;
const LONGEST: usize = 1514;
/// From so many frames on, every rule must have been needed: one that is not excuses nothing and should go.
const ENOUGH: usize = 1_000_000;

/// How many frames, and where chance begins: the same for the usual number, so that a failure can be repeated.
fn wanted() -> (usize, u64) {
    let Ok(text) = std::env::var("WEIR_PACKETS") else { return (FRAMES, SEED) };
    let frames = text.parse().unwrap_or_else(|_| panic!("WEIR_PACKETS is `{text}`, which is no number of frames"));
    let seed = std::env::var("WEIR_PACKETS_SEED").ok().and_then(|t| t.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        now.as_nanos() as u64
    });
    (frames, seed)
}

/// Ethernet frames of the public captures, a few of each, as far as there are any.
fn captured() -> Vec<Vec<u8>> {
    const EACH: usize = 50;
    let mut frames = Vec::new();
    for file in captures() {
        let Ok(reader) = std::fs::File::open(&file).map(std::io::BufReader::new) else { continue };
        let Ok(mut reader) = pcap_file::pcap::PcapReader::new(reader) else { continue };
        if reader.header().datalink != pcap_file::DataLink::ETHERNET {
            continue;
        }
        for _ in 0..EACH {
            let Some(Ok(packet)) = reader.next_raw_packet() else { break };
            if (14..=LONGEST).contains(&packet.data.len()) {
                frames.push(packet.data.to_vec());
            }
        }
        if frames.len() >= CAPTURED {
            break;
        }
    }
    frames
}

/// Classic captures of the corpus, in a fixed order.
fn captures() -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(corpus().join("pcap/ndpi/pcap")).into_iter().flatten().flatten().map(|e| e.path());
    let mut files: Vec<_> = files.filter(|f| f.extension().is_some_and(|x| x == "pcap")).collect();
    files.sort();
    files
}

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
    let (frames, seed) = wanted();
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut base = base();
    let captured = captured();
    eprintln!("seed {seed}; {} frames of our own and {} of captures are mutated", base.len(), captured.len());
    base.extend(captured);
    let mut by_definition = ByDefinition::default();
    let (mut not_ip, mut malformed, mut address_only) = (0, 0, 0);
    for batch in 0..frames.div_ceil(BATCH) {
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
                "seed {seed}, frame {frame:02x?}"
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
    assert_eq!(loaded.packets(Reason::InPass), (frames.div_ceil(BATCH) * BATCH) as u64 - not_ip - malformed);
    // Each kind must really have been met.
    assert!(not_ip > 1000 && malformed > 1000 && address_only > 1000, "{not_ip} {malformed} {address_only}");
    eprintln!(
        "{frames} frames, no unexplained difference; {not_ip} not IP, {malformed} malformed, {address_only} by address alone"
    );
    for (rule, met) in by_definition.rules() {
        eprintln!("  rule {rule}: {met}");
        assert!(met > 0 || frames < ENOUGH, "rule {rule} explains nothing in {frames} frames");
    }
}
