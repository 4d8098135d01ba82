//! Epochs of event time, and what the flow table makes of them.

use std::collections::BTreeMap;

use weir_common::flow::{FlowKey, FlowStats};

use super::*;
use crate::sink::Stop;

const S: u64 = 1_000_000;

/// Keeps what it is given: (end, keys' ports and packets in order).
#[derive(Default)]
struct Kept {
    epochs: Vec<(u64, Vec<(u16, u64)>)>,
    whole: BTreeMap<FlowKey, FlowStats>,
}

impl Sink for Kept {
    fn epoch(&mut self, end_us: u64, drained: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), Stop> {
        for (key, stats) in drained.iter() {
            self.whole.entry(*key).or_insert(FlowStats::EMPTY).merge(stats);
            assert!(stats.dir.iter().all(|d| d.packets == 0 || d.last_us <= end_us));
        }
        let ports = drained.iter().map(|(k, s)| (k.port_a.min(k.port_b), s.packets())).collect();
        self.epochs.push((end_us, ports));
        Ok(())
    }
    fn flow(&mut self, _flow: Observation) -> Result<(), Stop> {
        unreachable!("a capture has packets")
    }
    fn end(&mut self) -> Result<(), Stop> {
        Ok(())
    }
}

/// UDP between ports 9999 and `port`, at `us`.
fn at(us: u64, port: u16) -> Vec<u8> {
    let packet = ipv4(17, &udp(9999, port, b"x"));
    pcap_record(Little, (us / S) as u32, (us % S) as u32, &packet, packet.len() as u32)
}

fn epochs(packets: &[(u64, u16)], epoch_us: u64) -> (Kept, Report) {
    let mut file = pcap_header(Little, false, 101);
    for (us, port) in packets {
        file.extend(at(*us, *port));
    }
    let options = Options { epoch_us, ..Options::default() };
    let mut kept = Kept::default();
    let input = Input::new(std::io::Cursor::new(file), "test".into(), None, &options).unwrap();
    let (report, result) = input.read(&options, &mut kept);
    result.unwrap();
    (kept, report)
}

#[test]
fn epochs_end_at_multiples_and_keep_the_order_of_first_packets() {
    let p = [(10 * S + 5, 7), (10 * S + 6, 3), (10 * S + 999_999, 7), (11 * S, 5), (11 * S + 1, 3)];
    let (kept, _) = epochs(&p, S);
    assert_eq!(kept.epochs, [(11 * S, vec![(7, 2), (3, 1)]), (12 * S, vec![(5, 1), (3, 1)])]);
    let (kept, _) = epochs(&p, 5 * S);
    assert_eq!(kept.epochs, [(15 * S, vec![(7, 2), (3, 2), (5, 1)])]);
    // An epoch of no length is none.
    assert_eq!(epochs(&p, 0).0.whole, kept.whole);
}

#[test]
fn the_clock_never_runs_back_and_a_packet_from_the_past_keeps_its_time() {
    let (kept, _) = epochs(&[(10 * S, 7), (12 * S, 7), (3 * S, 7), (12 * S + 10, 7), (11 * S, 8)], S);
    let ends: Vec<u64> = kept.epochs.iter().map(|e| e.0).collect();
    assert_eq!(ends, [11 * S, 12 * S, 13 * S]);
    assert!(ends.is_sorted());
    let late = kept.whole.values().find(|s| s.packets() == 4).unwrap();
    let dir = late.dir.iter().find(|d| d.packets > 0).unwrap();
    // 2 s, then back (no gap), then 9 s and 10 µs.
    assert_eq!((dir.gap_min, dir.gap_max), (0, 9_000_010));
    assert_eq!((dir.first_us, dir.last_us), (10 * S, 12 * S + 10));
}

#[test]
fn a_silence_of_years_is_one_step() {
    let far = 4_000_000_000 * S;
    let (kept, report) = epochs(&[(10 * S, 7), (far, 7), (far + 1, 8), (11 * S, 8)], S);
    let ends: Vec<u64> = kept.epochs.iter().map(|e| e.0).collect();
    assert_eq!((ends, report.warnings), (vec![11 * S, far, far + S], Vec::new()));
    // The latest time that there can be.
    let mut file = [section(Little), interface(Little, 101, 0, &[])].concat();
    file.extend(enhanced(Little, 0, u64::MAX, &small(1), 29));
    file.extend(enhanced(Little, 0, 5, &small(1), 29));
    let (records, _, result) = read_file(&file, false);
    result.unwrap();
    assert_eq!(records.iter().map(|o| o.record.fwd.packets).sum::<u64>(), 2);
    assert!(records.iter().all(|o| o.record.end_us <= LATEST_US));
}

#[test]
fn a_lone_time_far_ahead_does_not_stop_the_clock() {
    const YEARS: u64 = 10 * 365 * 86_400 * S;
    let stray =
        "1 packets have a time more than an hour ahead of the packets around them: they count at the time of those";
    let normal = [(10 * S, 1), (11 * S + 5, 2), (12 * S, 1), (200 * S, 3)];
    let ends = |kept: &Kept| kept.epochs.iter().map(|e| e.0).collect::<Vec<_>>();
    let clock = ends(&epochs(&normal, S).0);
    for at in 0..normal.len() {
        let mut packets = normal.to_vec();
        packets.insert(at, (normal[at].0 + YEARS, 9));
        let (kept, report) = epochs(&packets, S);
        assert_eq!(ends(&kept), clock, "ahead at {at}");
        let lone = kept.whole.iter().find(|(k, _)| k.port_a.min(k.port_b) == 9).unwrap().1;
        let begun = lone.dir.iter().find(|d| d.packets > 0).unwrap().first_us;
        assert!(begun <= normal[at].0 && begun + 2 * S > normal[at.saturating_sub(1)].0, "at {at}: {begun}");
        assert_eq!(report.warnings, [stray], "at {at}");
    }
    // The flows behind it time out as if it were not there.
    let mut file = pcap_header(Little, false, 101);
    for (us, port) in [(10 * S, 1), (10 * S + YEARS, 9), (11 * S, 2), (300 * S, 3), (301 * S, 1)] {
        file.extend(at(us, port));
    }
    let (records, ..) = read_file(&file, false);
    let mut packets: Vec<_> =
        records.iter().map(|o| (o.record.server_port.min(o.record.client_port), o.record.fwd.packets)).collect();
    packets.sort_unstable();
    assert_eq!(packets, [(1, 1), (1, 1), (2, 1), (3, 1), (9, 1)]);
    assert!(records.iter().all(|o| o.record.end_us <= 301 * S));
}

#[test]
fn long_silences_between_single_packets_are_believed() {
    let hours = |n: u64| 10 * S + n * 3600 * S;
    let beacon = [(hours(0), 1), (hours(2), 1), (hours(4), 1), (hours(4000), 1)];
    let (kept, report) = epochs(&beacon, S);
    let ends: Vec<u64> = kept.epochs.iter().filter(|e| !e.1.is_empty()).map(|e| e.0 - S).collect();
    assert_eq!((ends, report.warnings), (beacon.map(|b| b.0).to_vec(), Vec::new()));
}

#[test]
fn more_flows_than_an_epoch_holds_are_handed_on_before_it_ends() {
    let n = 300_000u32;
    let mut file = pcap_header(Little, false, 101);
    for i in 0..n {
        let packet = ipv4_at((0x0a00_0000 + i).to_be_bytes(), [192, 168, 0, 1], 17, &udp(5, 53, b"x"));
        file.extend(pcap_record(Little, 7, 0, &packet, packet.len() as u32));
    }
    let mut kept = Kept::default();
    let options = Options::default();
    let input = Input::new(std::io::Cursor::new(file), "test".into(), None, &options).unwrap();
    input.read(&options, &mut kept).1.unwrap();
    assert_eq!(kept.epochs.iter().map(|e| e.0).collect::<Vec<_>>(), [8 * S, 8 * S]);
    assert_eq!((kept.whole.len(), kept.epochs[0].1.len()), (n as usize, 1 << 18));
}

/// The records of packets whose silent epochs are all ended, one by one, as the live agent ends them.
fn as_live(packets: &[(u64, u16)]) -> Vec<Observation> {
    let mut records = Vec::new();
    let mut sink = Flows::new(TableConfig::default(), false, |o| {
        records.push(o);
        Ok(())
    });
    let mut drained: Vec<(FlowKey, FlowStats)> = Vec::new();
    let mut end = packets[0].0 / S * S + S;
    let last = packets.last().unwrap().0;
    while end <= last + 2 * S {
        for (us, port) in packets.iter().filter(|(us, _)| *us < end && *us >= end - S) {
            let ip = ipv4(17, &udp(9999, *port, b"x"));
            let packet = Packet { at_us: *us, link: LinkType::RAW, data: &ip, wire_len: ip.len() as u32, offset: 0 };
            let meta = Layers::of(&packet).unwrap().meta;
            let (key, dir) = meta.key();
            let mut p = meta.packet(weir_common::parse::Offload::default());
            (p.dir, p.now_us) = (dir, *us);
            match drained.iter_mut().find(|(k, _)| *k == key) {
                Some((_, s)) => s.update(&p),
                None => {
                    let mut s = FlowStats::EMPTY;
                    s.update(&p);
                    drained.push((key, s));
                }
            }
        }
        sink.epoch(end, &mut drained).unwrap();
        drained.clear();
        end += S;
    }
    sink.end().unwrap();
    drop(sink);
    records
}

#[test]
fn timeouts_in_silence_give_the_records_that_the_live_agent_gives() {
    let cases: [&[(u64, u16)]; 4] = [
        // Two flows run out in one long silence, and one of them comes back.
        &[(10 * S + 300_000, 1), (11 * S, 2), (40 * S, 1), (500 * S + 7, 1), (501 * S, 3)],
        // The silence is just short of the timeout, and just as long.
        &[(10 * S + 500_000, 1), (130 * S + 400_000, 1), (10 * S + 250_400_000, 1)],
        &[(10 * S, 1), (129 * S, 2), (131 * S, 1), (251 * S, 2), (900 * S, 9)],
        &[(10 * S, 1), (10 * S, 2), (70 * S, 2), (131 * S, 3), (260 * S, 1)],
    ];
    for packets in cases {
        let mut file = pcap_header(Little, false, 101);
        for (us, port) in packets {
            file.extend(at(*us, *port));
        }
        let (found, ..) = read_file(&file, false);
        assert_eq!(found, as_live(packets), "{packets:?}");
    }
}
