//! Two interfaces that see the same packets.

use proptest::prelude::*;
use weir_common::flow::{FlowKey, FlowStats};

use super::*;
use crate::testkit::*;

const OUTSIDE: u32 = 2;
const INSIDE: u32 = 3;

fn table() -> FlowTable {
    FlowTable::new(TableConfig { home: home(), max_flows: 1000, ..TableConfig::default() })
}

/// What an interface counts of packets that pass it `later` µs behind their time.
fn view(packets: &[Pkt], later: u64, from: u64, until: u64) -> Vec<(FlowKey, FlowStats)> {
    let moved = packets.iter().map(|p| Pkt { at: p.at + later, ..*p });
    drain(&moved.filter(|p| p.at >= from && p.at < until).collect::<Vec<_>>())
}

/// Epochs of one second of several interfaces, each with what it sees, until `until_us`.
fn run(t: &mut FlowTable, seen: &[(u32, &[Pkt], u64)], until_us: u64) -> EpochOutput {
    let mut out = EpochOutput::default();
    for end in (1..=until_us / S).map(|n| n * S) {
        let (mut all, mut parts) = (Vec::new(), Vec::new());
        for &(interface, packets, later) in seen {
            let flows = view(packets, later, end - S, end);
            parts.push(Part { interface, flows: flows.len() });
            all.extend(flows);
        }
        t.epoch_on(end, 0, &all, &parts, &mut out);
    }
    out
}

fn web(port: u16) -> Tcp {
    Tcp::new("192.0.2.7", port, "10.0.0.1", 443)
}

#[test]
fn what_is_forwarded_counts_once_and_the_rest_is_seen_twice() {
    let mut t = table();
    let packets = web(40000).whole(10);
    // Requests come in at the outside first, answers at the inside first.
    let (requests, answers): (Vec<Pkt>, Vec<Pkt>) = packets.iter().partition(|p| p.dst.1 == 443);
    let mut seen_outside = requests.clone();
    seen_outside.extend(answers.iter().map(|p| Pkt { at: p.at + 7, ..*p }));
    let mut seen_inside: Vec<Pkt> = requests.iter().map(|p| Pkt { at: p.at + 7, ..*p }).collect();
    seen_inside.extend(answers);
    for all in [&mut seen_outside, &mut seen_inside] {
        all.sort_by_key(|p| p.at);
    }
    let out = run(&mut t, &[(OUTSIDE, &seen_outside, 0), (INSIDE, &seen_inside, 0)], 7 * S);
    let [r] = out.records.as_slice() else { panic!("{:?}", out.records) };
    assert_eq!((r.fwd.packets, r.bwd.packets, r.fwd.bytes, r.bwd.bytes), (4, 3, 664, 1612));
    assert_eq!((r.start_us, r.seen_at), (10, OUTSIDE));
    assert_eq!(t.seen_twice(), SeenTwice { packets: 7, bytes: 664 + 1612 });
}

#[test]
fn a_flow_that_changes_its_way_goes_on_where_it_is() {
    let mut t = table();
    let at = |from: u64| -> Vec<Pkt> { (0..10).map(|n| web(40001).fwd(from + n * 1000, 0x10, 100)).collect() };
    let (before, after) = (at(100), at(3 * S));
    run(&mut t, &[(OUTSIDE, &before, 0), (INSIDE, &after, 0)], 4 * S);
    assert_eq!((t.live().next().unwrap().fwd.packets, t.seen_twice().packets), (20, 0));
    assert_eq!(t.live().next().unwrap().seen_at, INSIDE);
}

#[test]
fn an_interface_that_is_gone_owns_nothing() {
    let mut t = table();
    let at = |from: u64| -> Vec<Pkt> { (0..10).map(|n| web(40002).fwd(from + n * 1000, 0x10, 100)).collect() };
    let mut out = EpochOutput::default();
    let first = drain(&at(100));
    t.epoch_on(S, 0, &first, &[Part { interface: OUTSIDE, flows: 1 }], &mut out);
    t.forget_interface(OUTSIDE);
    let second = drain(&at(S + 10));
    t.epoch_on(2 * S, 0, &second, &[Part { interface: INSIDE, flows: 1 }], &mut out);
    assert_eq!(t.live().next().unwrap().fwd.packets, 20);
}

#[test]
fn a_reused_port_is_a_flow_of_whoever_sees_it_first() {
    let mut t = table();
    let (mut all, again) = (web(40003).whole(10), web(40003).whole(20 * S));
    all.extend(again);
    let out = run(&mut t, &[(OUTSIDE, &all[..7], 0), (INSIDE, &all, 5)], 40 * S);
    let seen: Vec<_> = out.records.iter().map(|r| (r.fwd.packets, r.seen_at)).collect();
    assert_eq!(seen, [(4, OUTSIDE), (4, INSIDE)]);
}

/// Views of a handshake: whether each SYN-ACK that left was ours to send.
fn sent(packets: &[Pkt], yes: bool) -> Vec<(FlowKey, FlowStats)> {
    let mut all = drain(packets);
    for (_, stats) in &mut all {
        for dir in stats.dir.iter_mut().filter(|_| !yes) {
            dir.seen &= !(weir_common::flow::seen::SYN_ACK_SENT | weir_common::flow::seen::PROVEN);
        }
    }
    all
}

#[test]
fn a_client_proves_itself_where_our_answer_goes_out_to_it() {
    let c = web(40004);
    let [syn, syn_ack, ack] = c.handshake(10)[..] else { panic!() };
    // The answer comes in from the server at the inside, and goes out to the client at the outside.
    let later = Pkt { at: syn_ack.at + 5, ..syn_ack };
    for (wrong_side, proven) in [(false, true), (true, false)] {
        let mut t = table();
        let mut out = EpochOutput::default();
        // The forger's client: the answer left by a third interface, where nothing of it came in.
        let (outside, third) = if wrong_side { (vec![syn], vec![later]) } else { (vec![syn, later], vec![]) };
        let views = [(OUTSIDE, sent(&outside, true)), (INSIDE, sent(&[syn_ack], false)), (9, sent(&third, true))];
        let all: Vec<_> = views.iter().flat_map(|(_, v)| v.clone()).collect();
        let parts = views.map(|(interface, v)| Part { interface, flows: v.len() });
        t.epoch_on(S, 0, &all, &parts, &mut out);
        // The acknowledgement comes in the next epoch.
        let acked = drain(&[Pkt { at: S + ack.at, ..ack }]);
        t.epoch_on(2 * S, 0, &acked, &[Part { interface: OUTSIDE, flows: 1 }], &mut out);
        let flow = t.live().next().unwrap();
        assert_eq!((flow.proven, flow.fwd.packets, flow.bwd.packets), (proven, 2, 1), "{wrong_side}");
    }
}

proptest! {
    /// Whatever the packets and the ends of epochs, forwarded packets count as one interface counts them.
    #[test]
    fn two_views_of_the_same_packets_count_as_one(
        packets in prop::collection::vec((0u64..8_000_000, 0u16..6, any::<bool>(), 40u32..1500), 1..200),
        delay in 0u64..300_000,
    ) {
        let mut packets: Vec<Pkt> = packets
            .into_iter()
            .map(|(at, port, fwd, len)| match fwd {
                true => web(50_000 + port).fwd(at, 0x10, len),
                false => web(50_000 + port).bwd(at, 0x10, len),
            })
            .collect();
        packets.sort_by_key(|p| p.at);
        let (mut one, mut two) = (table(), table());
        run(&mut one, &[(OUTSIDE, &packets, 0)], 10 * S);
        run(&mut two, &[(OUTSIDE, &packets, 0), (INSIDE, &packets, delay)], 10 * S);
        let counts = |t: &FlowTable| {
            let mut all: Vec<_> = t.live().map(|f| (f.client_port, f.server_port, f.fwd, f.bwd, f.seen_at)).collect();
            all.sort_by_key(|f| (f.0, f.1));
            all
        };
        prop_assert_eq!(counts(&one), counts(&two));
        prop_assert_eq!(two.seen_twice().packets, packets.len() as u64);
        prop_assert_eq!(one.seen_twice().packets, 0);
    }
}
