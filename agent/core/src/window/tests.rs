use super::*;
use crate::feature::{source_matrix, source_row};
use crate::profile::ProfileId;
use crate::record::{FlowState, Totals};
use crate::testkit::{S, addr};
use proptest::prelude::*;

const W: u64 = 10 * S;
/// When the rows of the first window are due.
const DUE: u64 = W + ANSWER_GRACE_US;

fn touched(flow_id: u64, start_us: u64, client: &str, server: &str, port: u16) -> Touched {
    Touched {
        flow_id,
        client: addr(client),
        server: addr(server),
        client_port: 40_000,
        server_port: port,
        proto: 6,
        direction: Direction::In,
        start_us,
        last_us: start_us + 1000,
        fwd: Totals { packets: 1, bytes: 60, payload: 0 },
        bwd: Totals::default(),
        state: FlowState::Unanswered,
        bare_syn: true,
        proven: false,
        new: true,
        seen_at: 0,
    }
}

fn proven(t: Touched) -> Touched {
    Touched {
        proven: true,
        bare_syn: false,
        state: FlowState::Established,
        fwd: Totals { packets: 5, bytes: 500, payload: 0 },
        bwd: Totals { packets: 4, bytes: 1000, payload: 0 },
        ..t
    }
}

fn windows() -> SourceWindows {
    SourceWindows::new(W, WindowCaps::default())
}

fn value(w: &SourceWindow, name: &str) -> Option<f32> {
    let i = ProfileId::Source.features().iter().position(|f| f.name == name).unwrap();
    source_row(&w.summary)[i]
}

#[test]
fn an_unanswered_syn_shows_in_its_window_not_two_minutes_later() {
    let mut w = windows();
    let mut out = Vec::new();
    w.epoch(S, &[touched(1, 10, "192.0.2.1", "10.0.0.1", 22)], &mut out);
    assert!(out.is_empty());
    w.epoch(DUE, &[], &mut out);
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].role, out[0].start_us, out[0].end_us, out[0].early), (Role::SourceAll, 0, W, false));
    assert!(out[0].remote);
    assert_eq!(value(&out[0], "unanswered_share"), Some(1.0));
    assert_eq!(value(&out[0], "bare_syn_share"), Some(1.0));
    assert_eq!(value(&out[0], "gap_mean"), None);
    assert_eq!(value(&out[0], "byte_ratio"), Some(0.0));
    w.epoch(W + DUE, &[], &mut out);
    assert_eq!(out.len(), 1, "a source that began nothing gives no row");
}

#[test]
fn a_flow_counts_as_it_stands_at_the_windows_end_and_only_in_its_window() {
    let mut w = windows();
    let mut out = Vec::new();
    let t = touched(1, 9 * S, "192.0.2.1", "10.0.0.1", 22);
    w.epoch(9 * S + 1, &[t], &mut out);
    w.epoch(DUE, &[Touched { new: false, ..proven(t) }], &mut out);
    assert_eq!(out.iter().map(|r| r.role).collect::<Vec<_>>(), [Role::SourceAll, Role::SourceProven]);
    assert_eq!(value(&out[0], "unanswered_share"), Some(0.0));
    assert_eq!(value(&out[1], "bytes_mean"), Some(1500.0));
    w.epoch(11 * S, &[Touched { new: false, ..proven(t) }], &mut out);
    w.epoch(20 * S, &[], &mut out);
    assert_eq!(out.len(), 2);
}

#[test]
fn a_flow_that_only_just_began_is_not_unanswered_yet() {
    let mut w = windows();
    let mut out = Vec::new();
    let flows: Vec<Touched> =
        (0..EARLY_FLOWS).map(|i| touched(i, W - 1 - i, "192.0.2.1", "10.0.0.1", i as u16)).collect();
    w.epoch(W, &flows, &mut out);
    w.epoch(DUE - 1, &[], &mut out);
    assert_eq!(out.iter().map(|r| r.early).collect::<Vec<_>>(), [true], "the window stays open for answers");
    w.epoch(DUE, &[], &mut out);
    assert_eq!(out.iter().map(|r| value(r, "unanswered_share")).collect::<Vec<_>>(), [Some(0.0), Some(1.0)]);
    assert_eq!(out.iter().map(|r| value(r, "bare_syn_share")).collect::<Vec<_>>(), [Some(0.0), Some(1.0)]);
}

#[test]
fn the_row_describes_what_the_source_did() {
    let mut w = windows();
    let mut out = Vec::new();
    let flows: Vec<Touched> = (0..10)
        .map(|i| touched(i, i * S / 2, "192.0.2.1", if i < 5 { "10.0.0.1" } else { "10.0.0.2" }, 22 + (i % 2) as u16))
        .collect();
    w.epoch(DUE, &flows, &mut out);
    let v = |n| value(&out[0], n).unwrap();
    assert_eq!((v("flows"), v("hosts"), v("ports"), v("host_ports")), (10.0, 2.0, 2.0, 4.0));
    assert_eq!(v("busiest_share"), 0.3);
    assert_eq!((v("gap_mean"), v("gap_cv")), (0.5, 0.0));
    assert_eq!((v("bytes_mean"), v("bytes_std"), v("one_packet_share")), (60.0, 0.0, 1.0));
    assert_eq!(out[0].ports, [22, 23]);
}

#[test]
fn forged_flows_do_not_touch_the_row_over_proven_ones() {
    let row = |forged: u64| {
        let mut w = windows();
        let mut out = Vec::new();
        let mut flows = vec![proven(touched(1, 0, "192.0.2.1", "10.0.0.1", 443))];
        flows.extend((0..forged).map(|i| touched(100 + i, i, "192.0.2.1", "10.0.0.1", i as u16)));
        w.epoch(DUE, &flows, &mut out);
        let row = out.iter().rfind(|r| r.role == Role::SourceProven).unwrap().summary.clone();
        (row, out)
    };
    let (alone, _) = row(0);
    let (flooded, all) = row(20_000);
    assert_eq!(alone, flooded);
    assert_eq!(
        all.iter().filter(|r| r.role == Role::SourceAll && !r.early).map(|r| r.summary.flows).sum::<u64>(),
        20_001
    );
}

#[test]
fn a_busy_source_gives_an_early_row_once() {
    let mut w = windows();
    let mut out = Vec::new();
    for s in 0..10u64 {
        let flows: Vec<Touched> =
            (0..20).map(|i| touched(s * 20 + i, s * S, "192.0.2.1", "10.0.0.1", i as u16)).collect();
        w.epoch((s + 1) * S, &flows, &mut out);
    }
    w.epoch(DUE, &[], &mut out);
    let seen: Vec<(bool, u64)> = out.iter().map(|r| (r.early, r.summary.flows)).collect();
    assert_eq!(seen, [(true, 80), (false, 200)]);
}

#[test]
fn caps_bound_memory_and_keep_the_count() {
    let caps = WindowCaps { flows_per_source: 100, flows: 150, sources: 3 };
    let mut w = SourceWindows::new(W, caps);
    let mut out = Vec::new();
    let flood: Vec<Touched> = (0..10_000).map(|i| touched(i, i, "192.0.2.1", "10.0.0.1", i as u16)).collect();
    w.epoch(S, &flood, &mut out);
    let others: Vec<Touched> =
        (0..1000).map(|i| touched(20_000 + i, i, &format!("198.51.100.{}", i % 5), "10.0.0.1", 80)).collect();
    w.epoch(2 * S, &others, &mut out);
    let late = proven(touched(50_000, 5, "203.0.113.1", "10.0.0.1", 80));
    w.epoch(DUE, &[late], &mut out);
    let last: Vec<&SourceWindow> = out.iter().filter(|r| !r.early && r.role == Role::SourceAll).collect();
    assert_eq!(last.len(), 3, "three sources, the proven newcomer finds no quarter of three");
    let flood = last.iter().find(|r| r.source == addr("192.0.2.1")).unwrap();
    assert_eq!((flood.summary.flows, flood.summary.sampled), (10_000, 100));
    assert!(flood.summary.ports > 90, "an even sample: {}", flood.summary.ports);
    assert!(last.iter().all(|r| r.summary.sampled <= 100));
    assert!(w.counts().dropped > 0 && w.counts().unsampled > 9_000);
}

#[test]
fn proven_sources_find_room_among_forged_ones() {
    let mut w = SourceWindows::new(W, WindowCaps { sources: 8, ..WindowCaps::default() });
    let mut out = Vec::new();
    let forged: Vec<Touched> = (0..100).map(|i| touched(i, i, &format!("198.51.100.{i}"), "10.0.0.1", 80)).collect();
    w.epoch(S, &forged, &mut out);
    w.epoch(DUE, &[proven(touched(500, 7, "203.0.113.1", "10.0.0.1", 80))], &mut out);
    assert!(out.iter().any(|r| r.source == addr("203.0.113.1") && r.role == Role::SourceProven));
    assert_eq!(w.counts().dropped, 92);
}

#[test]
fn a_clock_that_leaps_opens_no_thousand_windows_and_loses_no_flow() {
    let mut w = windows();
    let mut out = Vec::new();
    w.epoch(100 * W, &[touched(1, 500 * W, "192.0.2.1", "10.0.0.1", 22)], &mut out);
    w.epoch(101 * W, &[touched(2, 3, "192.0.2.1", "10.0.0.1", 22)], &mut out);
    w.flush(&mut out);
    assert_eq!(out.iter().map(|r| r.summary.flows).sum::<u64>(), 2);
}

proptest! {
    #[test]
    fn any_flows_give_finite_rows_and_shares_within_0_and_1(
        flows in prop::collection::vec((0u64..30 * S, 0u8..4, any::<u16>(), any::<bool>(), any::<u32>()), 1..200),
    ) {
        let mut w = windows();
        let mut out = Vec::new();
        let touched: Vec<Touched> = flows.iter().enumerate().map(|(i, &(start, host, port, is_proven, bytes))| {
            let t = touched(i as u64, start, &format!("192.0.2.{host}"), "10.0.0.1", port);
            let t = if is_proven { proven(t) } else { t };
            Touched { fwd: Totals { bytes: bytes.into(), ..t.fwd }, ..t }
        }).collect();
        w.epoch(30 * S, &touched, &mut out);
        w.flush(&mut out);
        prop_assert_eq!(source_matrix(&out).len(), out.len());
        let total: u64 = out.iter().filter(|r| r.role == Role::SourceAll && !r.early).map(|r| r.summary.flows).sum();
        prop_assert_eq!(total, flows.len() as u64);
        for r in &out {
            for (f, v) in ProfileId::Source.features().iter().zip(source_row(&r.summary)) {
                if f.name.ends_with("_share") {
                    prop_assert!(v.is_none_or(|v| (0.0..=1.0).contains(&v)), "{} is {v:?}", f.name);
                }
            }
        }
    }
}

#[test]
fn flows_that_others_told_of_belong_to_the_window_they_were_told_of_in() {
    let mut w = windows();
    let mut out = Vec::new();
    // An exporter tells of them a minute after they began; one clock is ahead.
    let told = |at: u64| touched(at, at, "192.0.2.1", "10.0.0.1", 22);
    w.epoch_with(100 * S, &[], &[told(40 * S), told(42 * S)], &mut out);
    w.epoch_with(101 * S, &[touched(7, 100 * S + 5, "192.0.2.9", "10.0.0.1", 22)], &[told(43 * S)], &mut out);
    w.epoch(100 * S + DUE, &[], &mut out);
    let rows: Vec<_> = out.iter().map(|r| (r.source.to_string(), r.end_us / S, r.summary.flows)).collect();
    // What came until 100 s is of the window that ended then.
    assert_eq!(rows, [("192.0.2.1".into(), 100, 2), ("192.0.2.1".into(), 110, 1), ("192.0.2.9".into(), 110, 1)]);
    assert_eq!(value(&out[0], "gap_mean"), Some(2.0), "gaps are those of the flows");
    assert_eq!(value(&out[0], "unanswered_share"), Some(1.0));
}

#[test]
fn a_64_whose_addresses_share_what_it_does_is_a_source_of_its_own() {
    let rows = |flows: Vec<Touched>| {
        let mut w = windows();
        let mut out = Vec::new();
        w.epoch(S, &flows, &mut out);
        w.epoch(DUE, &[], &mut out);
        out
    };
    let nets = |out: &[SourceWindow]| -> Vec<SourceWindow> {
        out.iter().filter(|r| !r.source.subject().is_host()).cloned().collect()
    };
    let from = |id: u64, host: u64| touched(id, id, &format!("2001:db8:5::{host:x}"), "2001:db8:1::1", 22);
    // As many addresses as flows, half of them proven.
    let out = rows((1..=40).map(|i| if i % 2 == 0 { proven(from(i, i)) } else { from(i, i) }).collect());
    assert_eq!(out.len(), 40 + 20 + 2);
    let [all, of_proven] = &nets(&out)[..] else { panic!("{:?}", nets(&out)) };
    assert_eq!((all.role, of_proven.role), (Role::SourceAll, Role::SourceProven));
    assert_eq!((all.source, all.remote, &all.ports[..]), (addr("2001:db8:5::"), true, &[22][..]));
    assert_eq!((all.summary.flows, all.summary.sampled, all.summary.busiest), (40, 40, 40));
    assert_eq!((all.summary.first_start_us, all.summary.last_start_us), (1, 40));
    assert_eq!((of_proven.summary.flows, of_proven.summary.unanswered), (20, 0));
    // One of them does most: it answers for itself.
    assert!(nets(&rows((1..=40).map(|i| from(i, if i < 22 { 1 } else { i })).collect())).is_empty());
    // Other networks are others, and an IPv4 network is none.
    let apart = |i| touched(i, i, &format!("2001:db8:5:{i:x}::1"), "2001:db8:1::1", 22);
    assert!(nets(&rows((1..=40).map(apart).collect())).is_empty());
    assert_eq!(rows((1..=40).map(|i| touched(i, i, &format!("192.0.2.{i}"), "10.0.0.1", 22)).collect()).len(), 40);
}

#[test]
fn a_64_of_thousands_is_sampled_as_one_source() {
    let caps = WindowCaps { flows_per_source: 100, ..WindowCaps::default() };
    let mut w = SourceWindows::new(W, caps);
    let mut out = Vec::new();
    let from = |i: u64| touched(i, i, &format!("2001:db8:5::{:x}", 1 + i % 3000), "2001:db8:1::1", 22);
    w.epoch(S, &(0..9000).map(|i| proven(from(i))).collect::<Vec<_>>(), &mut out);
    w.epoch(DUE, &[], &mut out);
    let nets: Vec<_> = out.iter().filter(|r| !r.source.subject().is_host()).collect();
    let [all, of_proven] = nets[..] else { panic!("{} rows", nets.len()) };
    assert_eq!((all.summary.flows, all.summary.sampled), (9000, 100));
    let estimated = of_proven.summary.flows as f64 / 9000.0;
    assert!((0.7..1.4).contains(&estimated), "{estimated}");
}
