use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::record::{EndReason, FlowRecord};
use crate::table::{EpochOutput, FlowTable, TableConfig};
use crate::testkit::*;

fn small() -> ContextCaps {
    ContextCaps { sources: 100, per_source: 50, keys: 300 }
}

fn source(i: u32) -> Addr {
    Addr((0x2001_0db8_0000_0000_0000_0000_0000_0000u128 + u128::from(i)).to_be_bytes())
}

fn begun(client: u32, server: u32, server_port: u16, start_us: u64) -> Begun {
    Begun { client: source(client), server: source(server), server_port, start_us }
}

/// Feeds packets in epochs of a second until `until_us`, then ends everything.
fn records(packets: &[Pkt], until_us: u64) -> Vec<FlowRecord> {
    let mut t = FlowTable::new(TableConfig { home: home(), ..TableConfig::default() });
    let mut out = EpochOutput::default();
    for end in (1..=until_us / S).map(|s| s * S) {
        let epoch: Vec<Pkt> = packets.iter().filter(|p| p.at >= end - S && p.at < end).copied().collect();
        t.epoch(end, 0, drain(&epoch).into_iter(), &mut out);
    }
    t.flush(EndReason::Flushed, &mut out);
    out.records
}

#[test]
fn a_scan_shows_in_every_probe_though_its_timeout_comes_much_later() {
    let probes: Vec<Pkt> = (0..200u16)
        .map(|i| Tcp::new("192.0.2.7", 40_000, "10.0.0.1", 1 + i).fwd(u64::from(i) * S / 100, SYN, 60))
        .collect();
    let all = records(&probes, 200 * S);
    assert_eq!(all.len(), 200);
    for r in &all {
        let c = r.context.unwrap();
        // The first hundred ports were probed in the first epoch, the others in the second.
        let seen = if r.server_port <= 100 { 100 } else { 200 };
        assert_eq!((c.flows, c.ports, c.hosts, c.unanswered, c.same_service), (seen, seen, 1, seen, 1));
        assert_eq!(r.end_reason, EndReason::Idle, "decided two minutes later");
    }
}

#[test]
fn guessing_passwords_shows_as_flows_to_one_service_that_are_answered() {
    let tries: Vec<Pkt> = (0..30u16)
        .flat_map(|i| Tcp::new("192.0.2.7", 40_000 + i, "10.0.0.1", 22).whole(u64::from(i) * 10_000))
        .collect();
    let all = records(&tries, 20 * S);
    assert_eq!(all.len(), 30);
    for r in &all {
        let c = r.context.unwrap();
        assert_eq!((c.flows, c.ports, c.hosts, c.unanswered, c.same_service), (30, 1, 1, 0, 30));
    }
}

#[test]
fn checkpoints_tell_of_the_moment_and_the_end_of_the_last_packets() {
    let mut packets = Vec::new();
    let long = Tcp::new("192.0.2.7", 40_000, "10.0.0.1", 22);
    packets.extend(long.handshake(0));
    // Eight packets by second 3, in which the client also begins five flows.
    packets.extend((0..8).map(|i| long.fwd(3 * S + i, ACK, 100)));
    packets.extend((0..5u16).map(|i| Tcp::new("192.0.2.7", 50_000 + i, "10.0.0.1", 80).fwd(3 * S + 500, SYN, 60)));
    packets.push(long.fwd(15 * S, ACK, 100));
    let all = records(&packets, 30 * S);
    let long: Vec<Context> = all.iter().filter(|r| r.server_port == 22).map(|r| r.context.unwrap()).collect();
    assert_eq!(long.len(), 2);
    assert_eq!((long[0].flows, long[0].ports, long[0].unanswered, long[0].same_service), (6, 2, 5, 1));
    // All of that was over ten seconds ago when the last packet came.
    assert_eq!(long[1], Context::default());
}

#[test]
fn an_answer_in_a_later_epoch_counts_and_so_does_one_after_the_sides_were_turned() {
    let late = Tcp::new("192.0.2.7", 40_000, "10.0.0.1", 80);
    let other = Tcp::new("192.0.2.7", 40_001, "10.0.0.1", 80);
    // Who opened it shows only in the second epoch.
    let turned = Tcp::new("192.0.2.7", 40_002, "10.0.0.1", 8080);
    let p = [
        late.fwd(0, SYN, 60),
        other.fwd(0, SYN, 60),
        turned.bwd(10, ACK, 60),
        late.bwd(S + 1, SYN_ACK, 60),
        turned.bwd(S + 2, SYN_ACK, 60),
        turned.fwd(S + 3, ACK, 60),
        other.fwd(2 * S + 1, SYN, 60),
    ];
    let all = records(&p, 5 * S);
    let of = |port: u16| all.iter().find(|r| r.client_port == port).unwrap().context.unwrap();
    assert_eq!((of(40_000).flows, of(40_000).unanswered), (2, 1));
    assert_eq!((of(40_001).flows, of(40_001).unanswered), (2, 1));
    // It counts for who seemed to have begun it at first.
    assert_eq!((of(40_002).flows, of(40_002).ports), (2, 1));
    assert_eq!(all.len(), 3);
}

#[test]
fn without_caps_records_have_no_context() {
    let mut t = FlowTable::new(TableConfig { context: None, ..TableConfig::default() });
    let mut out = EpochOutput::default();
    t.epoch(S, 0, drain(&Tcp::new("192.0.2.7", 1, "10.0.0.1", 80).whole(0)).into_iter(), &mut out);
    t.flush(EndReason::Flushed, &mut out);
    assert_eq!(out.records[0].context, None);
}

#[test]
fn a_million_forged_sources_stay_bounded_and_take_nothing_from_who_is_proven() {
    let caps = ContextCaps { sources: 1000, per_source: 50, keys: 2000 };
    let mut c = Contexts::new(caps);
    for second in 0..20 {
        c.advance((second + 1) * S);
        for i in 0..50_000 {
            let forged = begun(second as u32 * 50_000 + i, 1, 80, second * S);
            assert_eq!(c.begin(&forged, false, false).is_some(), c.of(&forged).is_some());
        }
        let honest = begun(u32::MAX, 1, 443, second * S);
        assert!(c.begin(&honest, true, true).is_some());
        let flows = second.min(9) as u32 + 1;
        assert_eq!(c.of(&honest), Some(Context { flows, ports: 1, hosts: 1, unanswered: 0, same_service: flows }));
        assert!(c.len() <= 1250 && c.sources.len() <= 1250, "{} sources", c.len());
        for held in [c.ports.len(), c.hosts.len(), c.pairs.len()] {
            assert!(held <= caps.keys + 1250 * FAIR_KEYS as usize);
        }
    }
    assert!(c.refused() > 900_000);
    // Who was not watched is not called quiet.
    assert_eq!(c.of(&begun(7, 1, 80, 19 * S)), None);
    c.advance(40 * S);
    assert!(c.is_empty() && c.pairs.len() == 0);
    assert_eq!(c.of(&begun(7, 1, 80, 0)), Some(Context::default()));
}

#[test]
fn distinct_counts_saturate_and_flows_do_not() {
    let mut c = Contexts::new(small());
    c.advance(S);
    for port in 1..=1000 {
        assert!(c.begin(&begun(1, 2, port, 0), false, false).is_some());
    }
    let of = c.of(&begun(1, 2, 1000, 0)).unwrap();
    assert_eq!((of.flows, of.ports, of.hosts, of.unanswered), (1000, 50, 1, 1000));
    assert_eq!(of.same_service, 1, "not held: the flow itself");
    // However much others hold, each source has a few.
    for client in 10..90 {
        for port in 1..=20 {
            c.begin(&begun(client, 2, port, 0), false, false);
        }
    }
    assert!(c.ports.len() <= 300 + 80 * FAIR_KEYS as usize);
    let late = c.of(&begun(89, 2, 1, 0)).unwrap();
    assert_eq!((late.flows, late.ports), (20, FAIR_KEYS));
}

#[test]
fn ports_do_not_outlive_ten_seconds_and_slots_are_used_again_clean() {
    let mut c = Contexts::new(small());
    for second in 0..50u64 {
        c.advance((second + 1) * S);
        // Another source each second, a new port each second from one that stays.
        c.begin(&begun(100 + second as u32, 2, 7, second * S), true, false);
        c.begin(&begun(1, 2, second as u16, second * S), true, false);
        let of = c.of(&begun(1, 2, second as u16, second * S)).unwrap();
        assert_eq!((of.flows, of.ports), (second.min(9) as u32 + 1, second.min(9) as u32 + 1));
        assert!(c.sources.len() <= 12, "slots of {} sources", c.sources.len());
    }
}

/// What the module says, computed the slow way.
fn plainly(flows: &[(Begun, bool)], of: &Begun, now: u64) -> Context {
    let counted: Vec<_> = flows
        .iter()
        .filter(|(f, _)| f.client == of.client && f.second() <= now && f.second() + CONTEXT_SECONDS > now)
        .collect();
    Context {
        flows: counted.len() as u32,
        ports: counted.iter().map(|(f, _)| f.server_port).collect::<HashSet<_>>().len() as u32,
        hosts: counted.iter().map(|(f, _)| f.server).collect::<HashSet<_>>().len() as u32,
        unanswered: counted.iter().filter(|(_, answered)| !answered).count() as u32,
        same_service: counted.iter().filter(|(f, _)| (f.server, f.server_port) == (of.server, of.server_port)).count()
            as u32,
    }
}

proptest! {
    #[test]
    fn counts_are_those_of_the_flows_themselves_whatever_the_times(
        steps in prop::collection::vec((0u64..6, 0u32..3, 0u32..4, 0u16..4, any::<bool>(), 0u64..3, any::<bool>()), 1..120),
        leap in 0u64..40,
    ) {
        let mut c = Contexts::new(small());
        let (mut now, mut flows) = (50u64, Vec::<(Begun, bool)>::new());
        let mut links = Vec::new();
        for (n, (gap, client, server, port, answered, late, answer)) in steps.into_iter().enumerate() {
            now += if n == 60 { leap } else { gap / 4 };
            c.advance((now + 1) * S);
            let flow = begun(client, server, port, (now - late) * S + 17);
            let link = c.begin(&flow, answered, false);
            prop_assert!(link.is_some());
            links.extend(link);
            flows.push((flow, answered));
            if answer && let Some(i) = flows.iter().rposition(|(_, answered)| !answered) {
                flows[i].1 = true;
                c.answered(flows[i].0.client, flows[i].0.start_us);
            }
            // A link says the same as none, be it old, just made, or another flow's.
            for (i, (f, _)) in flows.iter().enumerate().rev().step_by(3) {
                let context = Some(plainly(&flows, f, now));
                let (linked, link) = c.of_linked(f, links[i]);
                prop_assert_eq!((c.of(f), linked, c.of_linked(f, link).0), (context, context, context));
                prop_assert_eq!(c.of_linked(f, links[i / 2]).0, context);
                if answer {
                    links[i] = link;
                }
            }
        }
    }
}
