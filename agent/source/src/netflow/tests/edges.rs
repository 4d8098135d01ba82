//! What the formats allow and exporters do, each by a few bytes.

use weir_core::record::{FlowState, Have};

use super::address;
use super::build::*;
use crate::netflow::{Collector, Decoder, ExportedFlow, Limits, Opener};
use crate::{Observation, Report};

fn decode(datagrams: &[Vec<u8>]) -> (Decoder, Vec<ExportedFlow>) {
    let (mut decoder, mut flows) = (Decoder::new(Limits::default()), Vec::new());
    for d in datagrams {
        decoder.datagram(address(1), 0, d, &mut flows);
    }
    (decoder, flows)
}

fn collect(datagrams: &[Vec<u8>]) -> (Collector, Vec<Observation>) {
    let mut collector = Collector::new(Limits::default(), weir_core::home::Home::default());
    let mut flows = Vec::new();
    for d in datagrams {
        collector.ingest(d, address(1), 0, &mut flows);
    }
    collector.finish(&mut flows);
    (collector, flows)
}

fn report(collector: &Collector) -> Report {
    let mut report = Report::default();
    collector.report(&mut report);
    report
}

fn flow_template(version_set: u16) -> Vec<u8> {
    set(version_set, &template(256, &FLOW))
}

#[test]
fn two_records_of_one_direction_make_a_flow_seen_from_its_client() {
    // The server's record comes first.
    let data = set(256, &[ASK.answer().record(), ASK.record()].concat());
    let (_, flows) = collect(&[v9(0, 0, &[flow_template(0), data])]);
    let [flow] = &flows[..] else { panic!("{flows:?}") };
    let r = &flow.record;
    assert_eq!((r.client.to_string(), r.client_port), ("10.0.0.1".into(), 40_000));
    assert_eq!((r.server.to_string(), r.server_port), ("10.0.0.2".into(), 80));
    assert_eq!((r.fwd.packets, r.fwd.bytes, r.bwd.packets, r.bwd.bytes), (5, 500, 4, 4000));
    assert_eq!((r.state, r.proven), (FlowState::Closed, false));
    assert_eq!(r.have, Have::ALL.without(Have::STATS).without(Have::PAYLOAD));
    assert_eq!(r.duration_us(), 1_000_000);
    assert_eq!(r.end_us, u64::from(EXPORTED) * 1_000_000 - 1_000_000);
    assert_eq!(flow.seen_at.as_deref(), Some("192.0.2.1"));
}

#[test]
fn v5_gives_the_same_flow() {
    let (_, flows) = collect(&[ASK.v5(0, 0), ASK.answer().v5(1, 0)]);
    let (_, v9) = collect(&[v9(0, 0, &[flow_template(0), set(256, &[ASK.record(), ASK.answer().record()].concat())])]);
    assert_eq!(flows, v9);
}

#[test]
fn an_answer_pairs_with_the_record_of_its_time_and_not_with_a_later_one_of_the_same_ports() {
    let later = |f: Flow, ms| Flow { first: f.first + ms, last: f.last + ms, ..f };
    let early = Flow { first: 0, last: 1000, ..ASK };
    let data = [early, later(early, 60_000), later(early, 60_000).answer(), later(early, 120_000).answer()];
    let data: Vec<u8> = data.iter().flat_map(Flow::record).collect();
    let (_, flows) = collect(&[v9(0, 0, &[flow_template(0), set(256, &data)])]);
    let got: Vec<_> = flows.iter().map(|o| (o.record.fwd.packets, o.record.bwd.packets)).collect();
    // The pair, then what stayed alone: the first, and an answer whose question was not reported.
    assert_eq!(got, [(5, 4), (5, 0), (4, 0)]);
    assert_eq!(flows[0].record.duration_us(), 1_000_000);
}

#[test]
fn what_waits_for_its_answer_goes_on_alone_in_time() {
    let limits = Limits { pair_wait_us: 30_000_000, ..Limits::default() };
    let mut collector = Collector::new(limits, weir_core::home::Home::default());
    let mut flows = Vec::new();
    let syn = Flow { flags: 2, ..ASK };
    collector.ingest(&syn.v5(0, 0), address(1), 5_000_000, &mut flows);
    collector.flush(34_000_000, &mut flows);
    assert!(flows.is_empty() && collector.pairer().len() == 1);
    collector.flush(35_000_000, &mut flows);
    let r = &flows[0].record;
    assert_eq!((r.state, r.have.has(Have::STATE), r.have.has(Have::SIDES)), (FlowState::Unanswered, true, true));
    assert!(collector.pairer().is_empty());
}

#[test]
fn too_many_that_wait_push_out_the_oldest_which_claims_no_state() {
    let limits = Limits { unpaired: 3, ..Limits::default() };
    let mut collector = Collector::new(limits, weir_core::home::Home::default());
    let mut flows = Vec::new();
    for port in 0..5 {
        collector.ingest(&Flow { from: (1, port), ..ASK }.v5(u32::from(port), 0), address(1), 0, &mut flows);
    }
    assert_eq!(flows.iter().map(|o| o.record.client_port).collect::<Vec<_>>(), [0, 1]);
    assert!(!flows[0].record.have.has(Have::STATE));
    assert!(report(&collector).warnings[0].contains("2 flows did not wait"), "{:?}", report(&collector).warnings);
}

#[test]
fn refused_reset_and_scanned_connections_have_the_states_of_their_flags() {
    let ask = |flags| Flow { flags, ..ASK };
    for (there, back, bytes, state) in [
        (0x02, 0x14, 160, FlowState::Rejected),
        (0x06, 0x12, 160, FlowState::Reset),
        (0x1b, 0x1b, 4000, FlowState::Closed),
        (0x1a, 0x1a, 4000, FlowState::Established),
        // The tail of a connection with data, that ends in a reset: no refusal.
        (0x10, 0x14, 4000, FlowState::Reset),
    ] {
        let answer = Flow { flags: back, bytes, ..ask(0).answer() };
        let (_, flows) = collect(&[ask(there).v5(0, 0), answer.v5(1, 0)]);
        assert_eq!(flows[0].record.state, state, "{there:#x} {back:#x}");
        assert_eq!(flows[0].record.client_port, 40_000);
    }
}

#[test]
fn a_lone_syn_ack_was_sent_by_the_server() {
    let (_, flows) = collect(&[Flow { flags: 0x12, packets: 1, ..ASK.answer() }.v5(0, 0)]);
    let r = &flows[0].record;
    assert_eq!((r.client_port, r.fwd.packets, r.bwd.packets), (40_000, 0, 1));
}

#[test]
fn pings_meet_and_who_asks_is_the_client() {
    let ping = Flow { proto: 1, from: (1, 0), to: (2, 8 << 8), flags: 0, ..ASK };
    let pong = Flow { from: (2, 0), to: (1, 0), ..ping };
    let (_, flows) = collect(&[pong.v5(0, 0), ping.v5(1, 0)]);
    let [flow] = &flows[..] else { panic!("{flows:?}") };
    let r = &flow.record;
    assert_eq!((r.client.to_string(), r.client_port, r.server_port), ("10.0.0.1".into(), 8, 0));
    assert_eq!(r.state, FlowState::Established);
}

#[test]
fn records_that_come_before_their_template_are_read_when_it_comes() {
    let data = set(256, &ASK.record());
    let (mut decoder, mut flows) = (Decoder::new(Limits::default()), Vec::new());
    decoder.datagram(address(1), 0, &v9(0, 7, std::slice::from_ref(&data)), &mut flows);
    // Another domain's and another exporter's template is not theirs.
    decoder.datagram(address(1), 0, &v9(0, 8, &[flow_template(0)]), &mut flows);
    decoder.datagram(address(2), 0, &v9(0, 7, &[flow_template(0)]), &mut flows);
    assert!(flows.is_empty());
    decoder.datagram(address(1), 0, &v9(1, 7, &[flow_template(0)]), &mut flows);
    assert_eq!((flows.len(), decoder.counts().records_late, decoder.sets_dropped()), (1, 1, 0));
}

#[test]
fn a_template_that_never_comes_is_counted_and_its_records_take_bounded_memory() {
    let limits = Limits { waiting_bytes: 100_000, waiting_bytes_per_exporter: 40_000, ..Limits::default() };
    let mut collector = Collector::new(limits.clone(), weir_core::home::Home::default());
    let mut flows = Vec::new();
    let empty = Collector::new(limits, weir_core::home::Home::default()).memory();
    for n in 0..1000 {
        collector.ingest(&v9(n, 0, &[set(300, &[7; 1000])]), address(n % 5), 0, &mut flows);
        assert!(collector.memory() < empty + 120_000, "{}", collector.memory());
    }
    // And not for ever.
    collector.ingest(&ASK.v5(0, 0), address(9), 400_000_000, &mut flows);
    assert_eq!(collector.decoder().sets_dropped(), 1000);
    assert_eq!(report(&collector).left_out["data set whose template did not come"], 1000);
}

#[test]
fn a_withdrawn_template_is_gone_and_one_not_announced_for_a_day_as_well() {
    let announce = ipfix(0, 1, &[flow_template(2)]);
    let data = ipfix(0, 1, &[set(256, &ASK.record())]);
    let one = ipfix(0, 1, &[set(2, &[1, 0, 0, 0])]);
    let all = ipfix(0, 1, &[set(2, &[0, 2, 0, 0])]);
    for withdrawal in [one, all] {
        let (_, flows) = decode(&[announce.clone(), withdrawal, data.clone()]);
        assert!(flows.is_empty());
    }
    let other = ipfix(0, 1, &[set(2, &[1, 1, 0, 0])]);
    assert_eq!(decode(&[announce.clone(), other, data.clone()]).1.len(), 1);

    let (mut decoder, mut flows) = (Decoder::new(Limits::default()), Vec::new());
    decoder.datagram(address(1), 0, &announce, &mut flows);
    decoder.datagram(address(1), 24 * 3600 * 1_000_000 - 1, &data, &mut flows);
    assert_eq!(flows.len(), 1);
    decoder.datagram(address(1), 24 * 3600 * 1_000_000, &data, &mut flows);
    assert_eq!(flows.len(), 1);
}

#[test]
fn fields_of_variable_and_reduced_length_and_of_other_makers_are_stepped_over_or_read() {
    let fields = [(8, 4), (9 << 16 | 1, 65_535), (12, 4), (96, 65_535), (2, 3), (1, 5), (29_305 << 16 | 2, 1), (4, 1)];
    let mut record = vec![10, 0, 0, 1, 3, b'a', b'b', b'c', 10, 0, 0, 2, 255, 1, 4];
    record.extend([9; 260]);
    record.extend([1, 0, 0, 0, 0, 1, 0, 0, 7, 17]);
    let data = set(256, &[record.clone(), record, vec![0, 0]].concat());
    let (decoder, flows) = decode(&[ipfix(0, 0, &[set(2, &template(256, &fields)), data])]);
    assert_eq!((flows.len(), decoder.counts().malformed), (2, 0));
    let f = &flows[1];
    assert_eq!((f.there.packets, f.there.bytes, f.proto), (Some(65_536), Some(65_536), Some(17)));
    assert_eq!(f.back.unwrap().packets, Some(7));
}

#[test]
fn a_record_of_both_directions_needs_no_other_and_may_say_who_opened_it() {
    const REVERSE: u64 = 29_305 << 16;
    let fields =
        [(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (2, 4), (1, 4), (REVERSE | 2, 4), (REVERSE | 1, 4), (239, 1)];
    for (direction, client, opener) in [(1, "10.0.0.1", Opener::Source), (2, "10.0.0.2", Opener::Destination)] {
        let mut record = vec![10, 0, 0, 1, 10, 0, 0, 2, 0, 53, 0, 54, 17];
        for n in [1u32, 100, 2, 200] {
            record.extend(n.to_be_bytes());
        }
        record.push(direction);
        let datagram = ipfix(0, 0, &[set(2, &template(256, &fields)), set(256, &record)]);
        assert_eq!(decode(std::slice::from_ref(&datagram)).1[0].opener, opener);
        let (_, flows) = collect(&[datagram]);
        let r = &flows[0].record;
        assert_eq!(r.client.to_string(), client);
        assert_eq!(r.fwd.bytes, if direction == 1 { 100 } else { 200 });
        assert!(r.have.has(Have::SIDES.with(Have::STATE)) && !r.have.has(Have::TIME));
    }
}

#[test]
fn what_a_record_does_not_tell_is_not_claimed() {
    let fields = [(8, 4), (12, 4), (2, 4)];
    let mut record = vec![10, 0, 0, 1, 10, 0, 0, 2];
    record.extend(9u32.to_be_bytes());
    let (_, flows) = collect(&[ipfix(0, 0, &[set(2, &template(256, &fields)), set(256, &record)])]);
    assert_eq!(flows[0].record.have, Have::ADDRESSES.with(Have::PACKETS).with(Have::SIDES));
}

#[test]
fn sampled_counts_are_scaled_and_silence_then_tells_nothing() {
    // Mode 1, one in 100.
    let (_, flows) = collect(&[ASK.v5(0, 1 << 14 | 100)]);
    assert_eq!((flows[0].sampling, flows[0].record.fwd.packets, flows[0].record.fwd.bytes), (100, 500, 50_000));
    assert!(!flows[0].record.have.has(Have::STATE));

    // v9: sampler 3 takes one in 512; records name it. Scope, then options, in bytes.
    let mut options = vec![1, 1, 0, 4, 0, 8, 0, 1, 0, 4];
    options.extend(specs(&[(48, 1), (50, 4)]));
    let sampler = set(257, &[0, 0, 0, 0, 3, 0, 0, 2, 0]);
    let named: Vec<_> = FLOW.iter().copied().chain([(48, 1)]).collect();
    let record = |id| set(256, &[ASK.record(), vec![id]].concat());
    let template = set(0, &template(256, &named));
    let (decoder, flows) = decode(&[v9(0, 0, &[set(1, &options), sampler, template, record(3), record(0), record(4)])]);
    let got: Vec<_> = flows.iter().map(|f| (f.sampling, f.there.packets.unwrap())).collect();
    assert_eq!(got, [(512, 2560), (1, 5), (1, 5)]);
    assert_eq!((decoder.counts().sampler_unknown, decoder.counts().option_records), (1, 1));
}

#[test]
fn ipfix_selectors_scale_by_interval_population_or_probability() {
    let probability = 0.01f64.to_be_bytes().to_vec();
    for (fields, value, sampling) in [
        (vec![(305, 4), (306, 4)], [10u32.to_be_bytes(), 990u32.to_be_bytes()].concat(), 100),
        (vec![(309, 4), (310, 4)], [1u32.to_be_bytes(), 64u32.to_be_bytes()].concat(), 64),
        (vec![(311, 8)], probability, 100),
        // Nonsense is no rate.
        (vec![(309, 4), (310, 4)], [0u32.to_be_bytes(), 64u32.to_be_bytes()].concat(), 1),
    ] {
        let mut options = vec![1, 1, 0, fields.len() as u8 + 1, 0, 1];
        options.extend(specs(&[(149, 4)]));
        options.extend(specs(&fields));
        let told = set(257, &[vec![0; 4], value].concat());
        let sets = [set(3, &options), told, flow_template(2), set(256, &ASK.record())];
        let (_, flows) = decode(&[ipfix(0, 0, &sets)]);
        assert_eq!(
            (flows[0].sampling, flows[0].there.packets),
            (sampling, Some(5 * u64::from(sampling))),
            "{fields:?}"
        );
    }
}

#[test]
fn times_by_uptime_survive_its_wrap() {
    let (_, flows) = decode(&[Flow { first: u32::MAX - 499, last: 500, ..ASK }.v5(0, 0)]);
    let exported = u64::from(EXPORTED) * 1_000_000;
    assert_eq!(flows[0].start_us, Some(exported - u64::from(UPTIME) * 1000 - 500_000));
    assert_eq!(flows[0].duration_us, Some(1_000_000));
}

#[test]
fn absolute_times_of_every_unit_are_read() {
    let at = u64::from(EXPORTED) - 60;
    let ntp = |s: u64| ((s + 2_208_988_800) << 32 | 1 << 31).to_be_bytes().to_vec();
    let millis = (at * 1000 + 500).to_be_bytes().to_vec();
    for (field, value, half) in [
        (150, (at as u32).to_be_bytes().to_vec(), 0),
        (152, millis, 500_000),
        (154, ntp(at), 500_000),
        (156, ntp(at), 500_000),
        // Since 1970, as some send it.
        (154, (at * 1_000_000 + 500_000).to_be_bytes().to_vec(), 500_000),
        (158, 59_500_000u32.to_be_bytes().to_vec(), 500_000),
    ] {
        let fields = [(8, 4), (12, 4), (2, 4), (field, value.len() as u16)];
        let record = [vec![10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 1], value].concat();
        let (_, flows) = decode(&[ipfix(0, 0, &[set(2, &template(256, &fields)), set(256, &record)])]);
        assert_eq!(flows[0].start_us, Some(at * 1_000_000 + half), "element {field}");
    }
}

#[test]
fn gaps_in_the_numbering_are_losses_and_late_datagrams_none() {
    let v5 = |sequence| ASK.v5(sequence, 0);
    let lost = |datagrams: &[Vec<u8>]| {
        let (decoder, _) = decode(datagrams);
        decoder.losses().map(|(_, records, datagrams)| (records, datagrams)).next().unwrap_or_default()
    };
    assert_eq!(lost(&[v5(10), v5(11), v5(12)]), (0, 0));
    assert_eq!(lost(&[v5(10), v5(11), v5(15)]), (3, 0));
    assert_eq!(lost(&[v5(10), v5(12), v5(11), v5(13)]), (0, 0), "out of order");
    assert_eq!(lost(&[v5(900_000), v5(0), v5(1)]), (0, 0), "restarted");
    assert_eq!(lost(&[v5(u32::MAX), v5(0)]), (0, 0), "wrapped");
    assert_eq!(lost(&[v9(4, 0, &[]), v9(8, 0, &[])]), (0, 3));
    let data = |n: usize| set(256, &ASK.record().repeat(n));
    assert_eq!(lost(&[ipfix(0, 0, &[flow_template(2), data(2)]), ipfix(2, 0, &[data(3)]), ipfix(9, 0, &[])]), (4, 0));
    let (collector, _) = collect(&[v5(10), v5(15)]);
    assert_eq!(report(&collector).warnings, ["192.0.2.1: 4 flow records were lost on the way, by its own numbering"]);
}

#[test]
fn a_firewalls_sum_of_both_directions_is_claimed_of_neither() {
    let fields = [(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (233, 1), (85, 4)];
    let mut record = vec![10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 6, 2];
    record.extend(5000u32.to_be_bytes());
    let (_, flows) = collect(&[v9(0, 0, &[set(0, &template(256, &fields)), set(256, &record)])]);
    let have = flows[0].record.have;
    assert!(!have.has(Have::BYTES) && !have.has(Have::STATE) && have.has(Have::SIDES), "{have:?}");
}
