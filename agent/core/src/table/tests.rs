use proptest::prelude::*;

use super::*;
use crate::record::FlowState;
use crate::role::Direction;
use crate::testkit::*;

fn table() -> FlowTable {
    FlowTable::new(TableConfig { home: home(), max_flows: 1000, ..TableConfig::default() })
}

/// Feeds packets in epochs of one second until `until_us`.
fn run(t: &mut FlowTable, packets: &[Pkt], until_us: u64) -> EpochOutput {
    let mut out = EpochOutput::default();
    let mut end = S;
    while end <= until_us {
        let epoch: Vec<Pkt> = packets.iter().filter(|p| p.at >= end - S && p.at < end).copied().collect();
        t.epoch(end, 0, drain(&epoch).into_iter(), &mut out);
        end += S;
    }
    out
}

fn ssh() -> Tcp {
    Tcp::new("192.0.2.7", 40000, "10.0.0.1", 22)
}

#[test]
fn a_closed_flow_gives_one_record_after_the_linger() {
    let mut t = table();
    let out = run(&mut t, &ssh().whole(10), 5 * S);
    assert!(out.records.is_empty(), "it lingers for 5 s");
    assert_eq!(out.touched.len(), 1);
    let out = run(&mut t, &[], 7 * S);
    assert_eq!(out.records.len(), 1);
    let r = &out.records[0];
    assert_eq!((r.client, r.server_port, r.direction), (addr("192.0.2.7"), 22, Direction::In));
    assert_eq!((r.state, r.end_reason, r.proven, r.first_record), (FlowState::Closed, EndReason::Ended, true, true));
    assert_eq!((r.fwd.packets, r.bwd.packets, r.fwd.bytes, r.bwd.bytes), (4, 3, 664, 1612));
    assert_eq!((r.start_us, r.duration_us()), (10, 600));
    assert!(t.is_empty());
}

#[test]
fn records_carry_wall_time_and_a_clock_step_does_not_stretch_a_flow() {
    let mut t = table();
    let mut out = EpochOutput::default();
    t.epoch(S, 1_000 * S as i64, drain(&ssh().handshake(0)).into_iter(), &mut out);
    t.epoch(2 * S, 5_000 * S as i64, drain(&[ssh().fwd(S + 500, RST, 40)]).into_iter(), &mut out);
    t.epoch(20 * S, 5_000 * S as i64, std::iter::empty(), &mut out);
    let r = &out.records[0];
    assert_eq!((r.start_us, r.duration_us()), (1_000 * S, S + 500));
    assert_eq!(r.stats.dir[0].first_us, r.start_us);
    assert_eq!(r.state, FlowState::Reset);
}

#[test]
fn an_early_syn_ack_says_who_the_server_is() {
    let c = ssh();
    // The capture began between SYN and SYN-ACK.
    let out = run(&mut table(), &c.handshake(0)[1..], S);
    assert_eq!(out.touched[0].client, c.client.0);
    assert!(out.touched[0].proven);
}

#[test]
fn a_home_service_that_resumes_a_connection_stays_the_server_and_nobody_else_does() {
    // A retransmission to a client that is blocked by now, long after its flow was forgotten.
    let c = ssh();
    let out = run(&mut table(), &[c.bwd(10, ACK, 1500)], S);
    assert_eq!((out.touched[0].client, out.touched[0].direction), (c.client.0, Direction::In));
    // A remote host that sends from port 22 turns nothing around.
    let scan = Tcp::new("192.0.2.7", 22, "10.0.0.1", 5000);
    let out = run(&mut table(), &[scan.fwd(10, ACK, 40)], S);
    assert_eq!((out.touched[0].client, out.touched[0].direction), (addr("192.0.2.7"), Direction::In));
}

#[test]
fn a_stray_syn_ack_that_is_refused_makes_nobody_a_client() {
    let c = ssh();
    let refused = [c.bwd(0, SYN_ACK, 60), c.fwd(100, RST, 40)];
    let out = run(&mut table(), &refused, S);
    assert_eq!(out.touched[0].client, c.server.0, "the sender of the SYN-ACK is who turned up unasked");
    let opener_too = [c.bwd(0, SYN_ACK, 60), c.bwd(100, SYN, 60)];
    assert_eq!(run(&mut table(), &opener_too, S).touched[0].client, c.server.0);
}

#[test]
fn a_late_syn_ack_changes_no_sides() {
    let c = ssh();
    let p = [c.fwd(0, ACK, 60), c.fwd(11 * S, SYN_ACK, 60), c.bwd(11 * S + 1, ACK, 60)];
    let out = run(&mut table(), &p, 12 * S);
    assert!(out.touched.iter().all(|t| t.client == c.client.0));
}

#[test]
fn who_asks_by_icmp_is_the_client() {
    let ask = Pkt {
        at: 0,
        src: (addr("192.0.2.9"), 8),
        dst: (addr("10.0.0.1"), 0),
        proto: 1,
        flags: 0,
        seq: 0,
        ack: 0,
        len: 84,
    };
    let answer = Pkt { at: 5, src: ask.dst, dst: ask.src, ..ask };
    let out = run(&mut table(), &[ask, answer], S);
    assert_eq!(out.touched[0].client, addr("192.0.2.9"));
    // The answer was seen first, because the capture began in between.
    let again = Pkt { at: 9, ..ask };
    assert_eq!(run(&mut table(), &[answer, again], S).touched[0].client, addr("192.0.2.9"));
    // Answers that nobody asked for are their sender's own doing.
    let unasked = Pkt { at: 5, src: (addr("192.0.2.9"), 0), dst: (addr("10.0.0.1"), 8), ..ask };
    assert_eq!(run(&mut table(), &[unasked], S).touched[0].client, addr("192.0.2.9"));
}

#[test]
fn an_unanswered_syn_is_seen_at_once_and_ends_idle() {
    let mut t = table();
    let out = run(&mut t, &[ssh().fwd(0, SYN, 60)], S);
    let seen = out.touched[0];
    assert!(seen.new && seen.bare_syn && !seen.answered() && !seen.rejected() && !seen.proven);
    let out = run(&mut t, &[], 121 * S);
    assert_eq!((out.records.len(), out.records[0].end_reason), (1, EndReason::Idle));
    assert_eq!(out.records[0].state, FlowState::Unanswered);
    assert!(out.touched.is_empty());
}

#[test]
fn a_refused_syn_is_rejected() {
    let out = run(&mut table(), &[ssh().fwd(0, SYN, 60), ssh().bwd(50, RST | ACK, 40)], 7 * S);
    assert!(out.touched[0].rejected());
    assert_eq!((out.records[0].state, out.records[0].end_reason), (FlowState::Rejected, EndReason::Ended));
}

#[test]
fn blind_acks_prove_nothing() {
    let c = ssh();
    let guess = |at, ack| Pkt { ack, ..c.fwd(at, ACK, 52) };
    // A forger sends SYN and ACKs in someone's name; our SYN-ACK goes to that someone.
    let forged = [c.fwd(0, SYN, 60), guess(50, 1), c.bwd(100, SYN_ACK, 60), guess(150, 12345), guess(1_500_000, 99)];
    for split in [false, true] {
        let mut t = table();
        let out = if split {
            run(&mut t, &forged, 200 * S)
        } else {
            let mut out = EpochOutput::default();
            t.epoch(2 * S, 0, drain(&forged).into_iter(), &mut out);
            t.epoch(200 * S, 0, std::iter::empty(), &mut out);
            out
        };
        assert!(out.touched.iter().all(|t| !t.proven), "split: {split}");
        assert!(out.records.iter().all(|r| !r.proven), "split: {split}");
    }
}

#[test]
fn proof_holds_across_epochs() {
    let c = ssh();
    let mut p = c.handshake(0);
    p[2].at = 3 * S;
    let out = run(&mut table(), &p, 4 * S);
    assert_eq!(out.touched.iter().map(|t| t.proven).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_port_used_again_after_the_end_is_a_new_flow() {
    let c = ssh();
    let mut p = c.whole(0);
    p.extend(c.whole(2 * S));
    let out = run(&mut table(), &p, 20 * S);
    assert_eq!(
        out.records.iter().map(|r| (r.end_reason, r.first_record)).collect::<Vec<_>>(),
        [(EndReason::Reused, true), (EndReason::Ended, true)]
    );
    assert_ne!(out.records[0].flow_id, out.records[1].flow_id);
    assert!(out.records.iter().all(|r| r.fwd.packets == 4 && r.proven));
}

#[test]
fn a_repeated_syn_is_the_same_flow() {
    let c = ssh();
    let p = [c.fwd(0, SYN, 60), c.fwd(S, SYN, 60), c.fwd(3 * S, SYN, 60)];
    let out = run(&mut table(), &p, 200 * S);
    assert_eq!((out.records.len(), out.records[0].fwd.packets), (1, 3));
}

#[test]
fn silence_splits_and_packets_within_the_linger_do_not() {
    let c = ssh();
    let p = [c.fwd(0, ACK, 60), c.fwd(130 * S, ACK, 60)];
    assert_eq!(run(&mut table(), &p, 300 * S).records.len(), 2);
    // A forged RST does not cut a flow whose packets go on.
    let mut p = c.handshake(0);
    p.push(c.fwd(S, RST, 40));
    p.extend((2..40).map(|s| c.fwd(s * S, ACK, 100)));
    let out = run(&mut table(), &p, 300 * S);
    assert_eq!(out.records.iter().filter(|r| r.end_reason != EndReason::Checkpoint).count(), 1);
}

#[test]
fn checkpoints_are_cumulative_and_the_end_comes_once() {
    let c = ssh();
    let mut p = c.handshake(0);
    // 10 packets/s for 100 s.
    p.extend((0..1000).map(|i| c.fwd(S / 2 + i * S / 10, ACK, 100)));
    let out = run(&mut table(), &p, 400 * S);
    let seen: Vec<(EndReason, u64, bool)> =
        out.records.iter().map(|r| (r.end_reason, r.fwd.packets + r.bwd.packets, r.first_record)).collect();
    use EndReason::{Checkpoint, Idle};
    assert_eq!(
        seen.iter().map(|s| (s.0, s.2)).collect::<Vec<_>>(),
        [(Checkpoint, true), (Checkpoint, false), (Checkpoint, false), (Checkpoint, false), (Idle, false)]
    );
    assert!(seen[0].1 >= 8 && seen[1].1 >= 64 && seen[2].1 >= 512, "{seen:?}");
    assert_eq!(seen[4].1, 1003);
    assert!(out.records.iter().all(|r| r.flow_id == out.records[0].flow_id));
}

#[test]
fn an_idle_flow_gives_no_checkpoint_without_news() {
    let c = ssh();
    // Keepalives each 100 s.
    let p: Vec<Pkt> = (0..4).map(|i| c.fwd(i * 100 * S, ACK, 60)).collect();
    let out = run(&mut table(), &p, 600 * S);
    let totals: Vec<u64> = out.records.iter().map(|r| r.fwd.packets).collect();
    assert!(totals.windows(2).all(|w| w[0] < w[1] || out.records.last().unwrap().fwd.packets == w[1]));
    assert_eq!(out.records.iter().filter(|r| r.end_reason == EndReason::Idle).count(), 1);
}

#[test]
fn a_full_table_ends_forged_syns_first_and_counts_them() {
    let mut t = FlowTable::new(TableConfig { max_flows: 10, home: home(), ..TableConfig::default() });
    let mut out = EpochOutput::default();
    t.epoch(S, 0, drain(&ssh().handshake(0)).into_iter(), &mut out);
    for port in 1..=50u16 {
        let syn = Tcp::new("198.51.100.1", port, "10.0.0.1", 80).fwd(S + 1, SYN, 60);
        t.epoch(2 * S, 0, drain(&[syn]).into_iter(), &mut out);
    }
    assert_eq!(t.len(), 10);
    assert_eq!((out.evicted, t.counts().evicted), (41, 41));
    assert_eq!(out.records.iter().filter(|r| r.end_reason == EndReason::Flushed).count(), 41);
    assert!(out.records.iter().all(|r| r.client == addr("198.51.100.1")));
    t.flush(EndReason::Flushed, &mut out);
    assert!(t.is_empty());
    assert_eq!(t.counts().opened, t.counts().finished);
    // Where nothing is unanswered, the flow whose deadline comes first goes.
    for port in 1..=12u16 {
        let whole = Tcp::new("198.51.100.2", port, "10.0.0.1", 80).handshake(3 * S + u64::from(port));
        t.epoch(4 * S, 0, drain(&whole).into_iter(), &mut out);
    }
    assert_eq!(t.len(), 10);
}

#[test]
fn flushing_says_why_and_leaves_nothing() {
    let mut t = table();
    let mut out = run(&mut t, &ssh().handshake(0), S);
    run(&mut t, &Tcp::new("192.0.2.8", 1, "10.0.0.1", 80).whole(0), S);
    t.flush(EndReason::Flushed, &mut out);
    let mut ends: Vec<_> = out.records.iter().map(|r| r.end_reason).collect();
    ends.sort_by_key(|e| *e as u8);
    assert_eq!(ends, [EndReason::Ended, EndReason::Flushed]);
    let mut later = EpochOutput::default();
    t.epoch(500 * S, 0, std::iter::empty(), &mut later);
    assert!(later.records.is_empty());
}

/// A conversation of any shape: who sends what when, with pauses below the timeouts.
fn packets() -> impl Strategy<Value = Vec<Pkt>> {
    let kinds = prop::collection::vec((0u64..1_500_000, any::<bool>(), 0usize..5, 40u32..1500), 1..60);
    kinds.prop_map(|steps| {
        let c = ssh();
        let mut p = c.handshake(0);
        let mut at = 1000;
        for (gap, forward, kind, len) in steps {
            at += gap;
            let flags = [ACK, ACK, ACK, ACK | tcp_flag_psh(), FIN_ACK][kind];
            p.push(if forward { c.fwd(at, flags, len) } else { c.bwd(at, flags, len) });
        }
        p
    })
}

fn tcp_flag_psh() -> u8 {
    weir_common::flow::tcp_flag::PSH
}

#[test]
fn an_epoch_with_more_flows_than_there_is_room_beside_the_table_is_worked_off_before_its_end() {
    let mut t = FlowTable::new(TableConfig { max_flows: 1, context: None, touched: false, ..TableConfig::default() });
    let (mut out, mut counted, mut packets) = (EpochOutput::default(), 0, 0);
    for host in 0..5u32 {
        let server = std::net::Ipv4Addr::from(0x0a00_0000 + host).to_string();
        let all: Vec<_> =
            (1..=u16::MAX).map(|p| Tcp::new("192.0.2.7", p, &server, 80).fwd(5, SYN, 60).words()).collect();
        counted += all.len() as u64;
        if !t.count(&all) {
            t.epoch_of(S, 0, &[], &mut out);
            packets += out.records.drain(..).map(|r| r.fwd.packets).sum::<u64>();
            assert!(packets > 1 << 18 && t.len() == 1, "{packets}");
        }
    }
    t.epoch_of(S, 0, &[], &mut out);
    t.flush(EndReason::Flushed, &mut out);
    packets += out.records.iter().map(|r| r.fwd.packets).sum::<u64>();
    assert_eq!(packets, counted);
}

#[test]
fn an_epoch_that_is_broken_off_counts_as_far_as_it_went() {
    let mut t = table();
    let mut out = EpochOutput::default();
    let all: Vec<_> = ssh().whole(10).iter().map(Pkt::words).collect();
    assert!(t.count(&all[..4]));
    t.epoch_of(S, 0, &[], &mut out);
    let other = Tcp::new("192.0.2.7", 40_001, "10.0.0.1", 80);
    assert!(t.count(&all[4..]) && t.count(&[other.fwd(S + 5, SYN, 60).words()]));
    t.flush(EndReason::Flushed, &mut out);
    let of: Vec<_> =
        out.records.iter().map(|r| (r.flow_id, r.server_port, r.fwd.packets + r.bwd.packets, r.end_reason)).collect();
    assert_eq!(of, [(1, 22, 7, EndReason::Ended), (2, 80, 1, EndReason::Flushed)]);
}

proptest! {
    #[test]
    fn any_split_into_epochs_gives_the_same_final_record(
        p in packets(),
        cuts in prop::collection::vec(1u64..4 * S, 1..80),
    ) {
        let whole = {
            let mut t = table();
            let mut out = EpochOutput::default();
            t.epoch(p.last().unwrap().at + 1, 0, drain(&p).into_iter(), &mut out);
            t.flush(EndReason::Flushed, &mut out);
            out
        };
        let mut t = table();
        let mut out = EpochOutput::default();
        let (mut from, mut cut) = (0, cuts.iter().cycle());
        while from <= p.last().unwrap().at {
            let end = from + cut.next().unwrap();
            let epoch: Vec<Pkt> = p.iter().filter(|p| p.at >= from && p.at < end).copied().collect();
            t.epoch(end, 0, drain(&epoch).into_iter(), &mut out);
            from = end;
        }
        t.flush(EndReason::Flushed, &mut out);
        let last = |o: &EpochOutput| {
            let mut r = o.records.iter().filter(|r| r.end_reason != EndReason::Checkpoint).cloned().collect::<Vec<_>>();
            assert_eq!(r.len(), 1, "one final record");
            let r = r.remove(0);
            (r.client, r.fwd, r.bwd, r.state, r.proven, r.start_us, r.end_us, r.stats.dir[0].gap_sq)
        };
        prop_assert_eq!(last(&whole), last(&out));
        let finals = out.records.iter().filter(|r| r.first_record).count();
        prop_assert_eq!(finals, 1, "one first record");
    }

    #[test]
    fn no_packet_is_lost_whatever_the_ports_and_the_room(
        sends in prop::collection::vec((0u64..300, 0u16..8, any::<bool>(), 0u8..32), 1..200),
        max_flows in 1usize..6,
    ) {
        let mut sends = sends;
        sends.sort();
        let mut t = FlowTable::new(TableConfig { max_flows, home: home(), ..TableConfig::default() });
        let mut out = EpochOutput::default();
        let p: Vec<Pkt> = sends.iter().map(|&(s, port, forward, flags)| {
            let c = Tcp::new("192.0.2.7", 1000 + port, "10.0.0.1", 80);
            if forward { c.fwd(s * S, flags, 100) } else { c.bwd(s * S, flags, 100) }
        }).collect();
        for end in 1..=302 {
            let epoch: Vec<Pkt> = p.iter().filter(|p| p.at / S == end - 1).copied().collect();
            t.epoch(end * S, 0, drain(&epoch).into_iter(), &mut out);
            prop_assert!(t.len() <= max_flows);
        }
        t.flush(EndReason::Flushed, &mut out);
        let total: u64 = out.records.iter().filter(|r| r.end_reason != EndReason::Checkpoint)
            .map(|r| r.fwd.packets + r.bwd.packets).sum();
        prop_assert_eq!(total, p.len() as u64);
        prop_assert_eq!(t.counts().opened, t.counts().finished);
    }

    /// Packets that go straight to their flows give what packets give that were counted elsewhere first.
    #[test]
    fn where_packets_are_counted_makes_no_difference(
        sends in sends(),
        idle in 3u64..40,
        linger in 1u64..6,
    ) {
        let config = TableConfig {
            home: home(), idle_us: idle * S, linger_us: linger * S, checkpoints: [4, 9, 20], ..TableConfig::default()
        };
        let (mut aside, mut at_once) = (FlowTable::new(config.clone()), FlowTable::new(config));
        let (mut a, mut b) = (EpochOutput::default(), EpochOutput::default());
        for (end, epoch) in epochs(&sends) {
            aside.epoch(end, 5, drain_in_turn(&epoch).into_iter(), &mut a);
            for part in epoch.chunks(7) {
                prop_assert!(at_once.count(&part.iter().map(Pkt::words).collect::<Vec<_>>()));
            }
            at_once.epoch_of(end, 5, &[], &mut b);
            prop_assert_eq!(&a.records, &b.records);
            prop_assert_eq!(&a.touched, &b.touched);
            a.clear();
            b.clear();
        }
        prop_assert_eq!((aside.len(), aside.counts()), (at_once.len(), at_once.counts()));
        aside.flush(EndReason::Flushed, &mut a);
        at_once.flush(EndReason::Flushed, &mut b);
        prop_assert_eq!(&a.records, &b.records);
    }

    #[test]
    fn no_packet_that_is_counted_at_once_is_lost_whatever_the_room(sends in sends(), max_flows in 1usize..6) {
        let mut t = FlowTable::new(TableConfig { max_flows, home: home(), ..TableConfig::default() });
        let mut out = EpochOutput::default();
        for (end, epoch) in epochs(&sends) {
            prop_assert!(t.count(&epoch.iter().map(Pkt::words).collect::<Vec<_>>()));
            prop_assert!(t.len() <= max_flows);
            t.epoch_of(end, 0, &[], &mut out);
            prop_assert!(t.len() <= max_flows);
        }
        t.flush(EndReason::Flushed, &mut out);
        let last = out.records.iter().filter(|r| r.end_reason != EndReason::Checkpoint);
        prop_assert_eq!(last.map(|r| r.fwd.packets + r.bwd.packets).sum::<u64>(), sends.len() as u64);
        prop_assert_eq!(t.counts().opened, t.counts().finished);
        let mut ids: Vec<u64> = out.records.iter().filter(|r| r.first_record).map(|r| r.flow_id).collect();
        ids.sort_unstable();
        prop_assert_eq!(ids, (1..=t.counts().opened).collect::<Vec<_>>());
    }
}

/// Tenths of a second, ports, directions and flags.
fn sends() -> impl Strategy<Value = Vec<(u64, u16, bool, u8)>> {
    let flags = prop_oneof![Just(SYN), Just(SYN_ACK), Just(ACK), Just(FIN_ACK), Just(RST), 0u8..64];
    prop::collection::vec((0u64..900, 0u16..8, any::<bool>(), flags), 1..300).prop_map(|mut sends| {
        sends.sort_by_key(|(at, ..)| *at);
        sends
    })
}

/// The packets of each second, and some seconds more.
fn epochs(sends: &[(u64, u16, bool, u8)]) -> impl Iterator<Item = (u64, Vec<Pkt>)> {
    let packets: Vec<Pkt> = sends
        .iter()
        .map(|&(at, port, forward, flags)| {
            let c = Tcp::new("192.0.2.7", 1000 + port, "10.0.0.1", 80);
            let at = at * S / 10;
            if forward { c.fwd(at, flags, 100) } else { c.bwd(at, flags, 100) }
        })
        .collect();
    (1..=100).map(move |end| (end * S, packets.iter().filter(|p| p.at / S == end - 1).copied().collect()))
}
