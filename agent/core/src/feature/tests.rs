use proptest::prelude::*;
use weir_common::flow::{FlowStats, Packet, tcp_flag};

use super::*;
use crate::record::{EndReason, FlowState};
use crate::role::Direction;

fn record(proto: u8, start: u64, end: u64, fwd: (u64, u64), bwd: (u64, u64)) -> FlowRecord {
    FlowRecord {
        flow_id: 1,
        client: "192.0.2.1".parse().unwrap(),
        server: "10.0.0.1".parse().unwrap(),
        client_port: 40000,
        server_port: 443,
        proto,
        vlan_outer: 0,
        vlan_inner: 0,
        start_us: start,
        end_us: end,
        fwd: Totals { packets: fwd.0, bytes: fwd.1, payload: 0 },
        bwd: Totals { packets: bwd.0, bytes: bwd.1, payload: 0 },
        stats: FlowStats::EMPTY,
        state: FlowState::Unanswered,
        end_reason: EndReason::Idle,
        have: Have::ALL,
        direction: Direction::In,
        proven: false,
        first_record: true,
        context: None,
        seen_at: 0,
    }
}

fn named(row: &[Option<f32>], profile: ProfileId, name: &str) -> Option<f32> {
    row[profile.features().iter().position(|f| f.name == name).expect("a feature of the profile")]
}

#[test]
fn an_unanswered_packet_has_no_answer_features() {
    let row = core_row(&record(6, 5, 5, (1, 60), (0, 0)));
    let f = |n| named(&row, ProfileId::Core, n);
    assert_eq!(f("proto_tcp"), Some(1.0));
    assert_eq!(f("bwd_mean_size"), None);
    assert_eq!(f("iat_mean"), None);
    assert_eq!(f("packet_ratio"), Some(0.0));
    assert_eq!(f("packets_per_s"), Some(1000.0), "a duration below 1 ms counts as 1 ms");
    assert_eq!(f("end_state"), Some(0.0));
}

#[test]
fn a_conversation_has_every_feature() {
    let row = core_row(&record(17, 1_000_000, 3_000_000, (2, 200), (3, 3000)));
    let f = |n| named(&row, ProfileId::Core, n).unwrap();
    assert_eq!(f("duration"), 2.0);
    assert_eq!(f("fwd_mean_size"), 100.0);
    assert_eq!(f("bwd_mean_size"), 1000.0);
    assert_eq!(f("packets_per_s"), 2.5);
    assert_eq!(f("bytes_per_s"), 1600.0);
    assert_eq!(f("packet_ratio"), 1.5);
    assert_eq!(f("byte_ratio"), 15.0);
    assert_eq!(f("iat_mean"), 0.5);
}

/// A packet: time in µs, direction, size, payload, TCP flags.
type Sent = (u64, u32, u32, u32, u8);

fn counted(packets: &[Sent]) -> FlowRecord {
    let mut stats = FlowStats::EMPTY;
    for &(now_us, dir, len, payload, tcp_flags) in packets {
        stats.update(&Packet {
            now_us,
            dir,
            segs: 1,
            seg_len: len,
            last_len: len,
            payload,
            tcp_flags,
            ..Packet::default()
        });
    }
    let totals = |d: usize| {
        let d = &stats.dir[d];
        Totals { packets: d.packets, bytes: d.bytes, payload: d.payload }
    };
    let (first, last) = (packets[0].0, packets[packets.len() - 1].0);
    FlowRecord { fwd: totals(0), bwd: totals(1), stats, ..record(6, first, last, (0, 0), (0, 0)) }
}

#[test]
fn packets_give_every_feature_of_full() {
    use tcp_flag::{ACK, FIN, RST, SYN};
    let mut r = counted(&[
        (0, 0, 60, 0, SYN),
        (4_000, 1, 60, 0, SYN | ACK),
        (5_000, 0, 52, 0, ACK),
        (6_000, 0, 552, 500, ACK),
        (10_000, 1, 1052, 1000, ACK),
        (10_000, 1, 1052, 1000, ACK),
        (20_000, 0, 52, 0, FIN | ACK),
        (21_000, 1, 40, 0, RST),
    ]);
    r.context = Some(Context { flows: 40, ports: 3, hosts: 2, unanswered: 10, same_service: 30 });
    let row = full_row(&r);
    assert_eq!(row[..16], core_row(&r));
    let f = |n| named(&row, ProfileId::Full, n).unwrap();
    assert_eq!((f("fwd_payload"), f("bwd_payload")), (500.0, 2000.0));
    assert_eq!((f("fwd_data_packets"), f("bwd_data_packets")), (1.0, 2.0));
    // 60, 52, 552, 52: mean 179, squares of the differences 14161 + 16129 + 139129 + 16129, a quarter of it 46387.
    assert!((f("fwd_size_std") - 46_387f32.sqrt()).abs() < 1e-3);
    assert_eq!((f("size_min"), f("size_max")), (40.0, 1052.0));
    let shares = ["size_128_share", "size_512_share", "size_1024_share", "size_more_share"].map(f);
    assert_eq!(shares, [0.625, 0.0, 0.125, 0.25]);
    // Gaps of the client 5, 1, 14 ms; of the server 6, 0, 11 ms.
    assert!((f("fwd_iat_mean") - 0.02 / 3.0).abs() < 1e-8);
    assert!((f("fwd_iat_std") - (29.555_556f32).sqrt() * 1e-3).abs() < 1e-6);
    assert!((f("bwd_iat_mean") - 0.017 / 3.0).abs() < 1e-8);
    assert!((f("bwd_iat_std") - (20.222_222f32).sqrt() * 1e-3).abs() < 1e-6);
    assert_eq!((f("iat_min"), f("iat_max")), (0.0, 0.014));
    assert_eq!((f("syn"), f("fin"), f("fwd_rst"), f("bwd_rst")), (2.0, 1.0, 0.0, 1.0));
    assert_eq!(f("syn_ack_time"), 0.004);
    assert_eq!((f("ctx_flows"), f("ctx_ports"), f("ctx_hosts"), f("ctx_same_service")), (40.0, 3.0, 2.0, 30.0));
    assert_eq!(f("ctx_unanswered_share"), 0.25);
}

#[test]
fn what_one_packet_cannot_tell_is_missing() {
    let row = full_row(&counted(&[(5, 0, 60, 0, tcp_flag::SYN)]));
    let f = |n| named(&row, ProfileId::Full, n);
    for missing in ["bwd_size_std", "fwd_iat_mean", "fwd_iat_std", "bwd_iat_mean", "iat_min", "iat_max", "syn_ack_time"]
    {
        assert_eq!(f(missing), None, "{missing}");
    }
    for missing in ["ctx_flows", "ctx_ports", "ctx_hosts", "ctx_unanswered_share", "ctx_same_service"] {
        assert_eq!(f(missing), None, "{missing}: nobody watched the source");
    }
    assert_eq!((f("fwd_size_std"), f("size_min"), f("size_128_share")), (Some(0.0), Some(60.0), Some(1.0)));
    // A source that began nothing lately has no share of unanswered flows.
    let quiet = FlowRecord { context: Some(Context::default()), ..counted(&[(5, 0, 60, 0, 0)]) };
    let row = full_row(&quiet);
    assert_eq!(named(&row, ProfileId::Full, "ctx_flows"), Some(0.0));
    assert_eq!(named(&row, ProfileId::Full, "ctx_unanswered_share"), None);
}

#[test]
fn a_syn_ack_is_timed_only_where_its_syn_was_seen() {
    use tcp_flag::{ACK, SYN};
    let time = |p: &[Sent]| named(&full_row(&counted(p)), ProfileId::Full, "syn_ack_time");
    assert_eq!(time(&[(0, 0, 60, 0, SYN), (500, 1, 60, 0, SYN | ACK)]), Some(0.0005));
    assert_eq!(time(&[(0, 1, 60, 0, SYN | ACK), (500, 0, 60, 0, SYN)]), None, "a repeated SYN");
    assert_eq!(time(&[(0, 1, 60, 0, SYN | ACK)]), None);
    assert_eq!(time(&[(0, 0, 60, 0, SYN), (500, 1, 60, 0, SYN)]), None, "both open");
}

#[test]
fn equal_sizes_have_no_spread_however_many() {
    let mut r = counted(&[(0, 0, 1500, 1460, 0)]);
    let d = &mut r.stats.dir[0];
    (d.packets, d.bytes, d.size_sq) = (3_000_000_000, 3_000_000_000 * 1499, 3_000_000_000 * 1499 * 1499);
    assert_eq!(named(&full_row(&r), ProfileId::Full, "fwd_size_std"), Some(0.0));
}

#[test]
fn only_who_saw_the_packets_offers_full() {
    let r = counted(&[(5, 0, 60, 0, 0)]);
    assert!(r.have.has(ProfileId::Full.needs()));
    let told = FlowRecord { have: Have::ALL.without(Have::STATS), ..r };
    assert!(!told.have.has(ProfileId::Full.needs()));
    // Even so, nothing is made up.
    let row = full_row(&told);
    assert_eq!(row[..16], core_row(&told));
    assert_eq!(row[18..].iter().flatten().count(), 0);
}

#[test]
fn profiles_name_each_column_once() {
    for (profile, width) in [(ProfileId::Core, 16), (ProfileId::Full, 44), (ProfileId::Source, 18)] {
        let names: std::collections::HashSet<_> = profile.features().iter().map(|f| f.name).collect();
        assert_eq!((names.len(), profile.width()), (width, width));
        assert_eq!(ProfileId::from_name(profile.name()), Some(profile));
    }
    assert_eq!(ProfileId::Full.features()[..16], *ProfileId::Core.features());
}

#[test]
fn roles_follow_protocol_direction_and_server_port() {
    assert_eq!(role_of(&record(6, 0, 0, (1, 1), (0, 0))).to_string(), "tcp/in/web");
    assert_eq!(role_of(&record(58, 0, 0, (1, 1), (0, 0))).to_string(), "icmp/in/other");
    assert_eq!(role_of(&record(47, 0, 0, (1, 1), (0, 0))).to_string(), "other/in/other");
}

proptest! {
    #[test]
    fn any_record_gives_a_row_of_finite_values(
        proto: u8, start: u64, len: u64, fp: u64, fb: u64, bp: u64, bb: u64,
    ) {
        let r = record(proto, start, start.saturating_add(len), (fp, fb), (bp, bb));
        prop_assert!(core_row(&r).iter().flatten().all(|v| v.is_finite() && *v >= 0.0));
        prop_assert_eq!(core_matrix([&r]).len(), 1);
    }

    #[test]
    fn any_statistics_give_a_full_row_of_finite_values(
        words in prop::collection::vec(any::<u64>(), 2 * size_of::<FlowStats>() / 16),
        context in prop::option::of((any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>())),
    ) {
        let stats: FlowStats = *bytemuck::from_bytes(bytemuck::cast_slice(&words));
        let context = context.map(|(flows, ports, hosts, unanswered, same_service)| {
            Context { flows, ports, hosts, unanswered: unanswered.min(flows), same_service }
        });
        let r = FlowRecord { stats, context, ..record(6, 0, u64::MAX, (u64::MAX, u64::MAX), (0, 1)) };
        prop_assert!(full_row(&r).iter().flatten().all(|v| v.is_finite() && *v >= 0.0));
        prop_assert_eq!(full_matrix([&r]).len(), 1);
    }

    #[test]
    fn full_is_right_for_any_packets(
        packets in prop::collection::vec((0u64..2_000_000, 0u32..2, 40u32..1500), 1..50),
    ) {
        let mut at = 0;
        let sent: Vec<Sent> = packets.iter().map(|&(gap, dir, len)| {
            at += gap;
            (at, dir, len, 0, 0)
        }).collect();
        let row = full_row(&counted(&sent));
        let f = |n: &str| named(&row, ProfileId::Full, n);
        let near = |a: Option<f32>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => (f64::from(a) - b).abs() <= 1e-5 * b.max(1e-3),
            (a, b) => a.is_none() && b.is_none(),
        };
        let mut gaps = [Moments::default(), Moments::default()];
        let mut all_gaps = Vec::new();
        for (dir, side) in ["fwd", "bwd"].into_iter().enumerate() {
            let own: Vec<&Sent> = sent.iter().filter(|p| p.1 as usize == dir).collect();
            let mut sizes = Moments::default();
            own.iter().for_each(|p| sizes.add(f64::from(p.2)));
            for pair in own.windows(2) {
                let gap = (pair[1].0 - pair[0].0) as f64 * US;
                gaps[dir].add(gap);
                all_gaps.push(gap);
            }
            let name = |what: &str| f(&format!("{side}_{what}"));
            prop_assert!(near(name("size_std"), sizes.deviation()));
            prop_assert!(near(name("iat_mean"), gaps[dir].mean()));
            prop_assert!(near(name("iat_std"), gaps[dir].deviation()));
        }
        prop_assert!(near(f("iat_min"), all_gaps.iter().copied().reduce(f64::min)));
        prop_assert!(near(f("iat_max"), all_gaps.iter().copied().reduce(f64::max)));
        let total = ["size_128_share", "size_512_share", "size_1024_share", "size_more_share"].map(|n| f(n).unwrap());
        prop_assert!((total.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
}
