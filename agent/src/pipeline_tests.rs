use weir_core::decisions::Limits;
use weir_core::guard::Guard;
use weir_core::record::{FlowState, Have};
use weir_core::role::Direction;

use super::*;
use crate::exported::FIRST_ID;

const NOW: u64 = 1_800_000_000_000_000;
const S: u64 = 1_000_000;

fn pipeline() -> Pipeline {
    let table = TableConfig { first_flow_id: NOW, ..TableConfig::default() };
    let config = PipelineConfig { table, window_us: 10 * S, policy: PolicyConfig::default(), next_alert_id: 1 };
    Pipeline { all_flows: true, ..Pipeline::new(config) }
}

fn decisions() -> Decisions {
    Decisions::new(Limits::default(), Guard::default(), 1)
}

/// What a firewall tells of a connection from 192.0.2.7: everything but the packets themselves.
fn told(server_port: u16) -> Observation {
    let mut record = FlowRecord {
        flow_id: 0,
        client: "192.0.2.7".parse().unwrap(),
        server: "10.0.0.1".parse().unwrap(),
        client_port: 40_000,
        server_port,
        proto: 6,
        vlan_outer: 0,
        vlan_inner: 0,
        start_us: NOW - 60 * S,
        end_us: NOW - 31 * S,
        fwd: Default::default(),
        bwd: Default::default(),
        stats: FlowStats::EMPTY,
        state: FlowState::Unanswered,
        end_reason: EndReason::Exported,
        have: Have::ALL.without(Have::STATS),
        direction: Direction::In,
        proven: false,
        first_record: true,
        context: None,
    };
    (record.fwd.packets, record.fwd.bytes) = (2, 120);
    Observation { seen_at: Some("198.51.100.1".into()), ..record.into() }
}

fn flows(outcome: &Outcome) -> Vec<(&FlowRecord, Option<&str>)> {
    let flow = outcome.events.iter().filter_map(|e| match e {
        Event::Flow { record, seen_at, .. } => Some((&**record, seen_at.as_deref())),
        _ => None,
    });
    flow.collect()
}

#[test]
fn exported_flows_have_numbers_of_their_own_and_say_who_told() {
    let mut p = pipeline();
    let first = p.epoch(&[], vec![told(22), told(23)], 50, (NOW - 50) as i64, &decisions());
    let second = p.epoch(&[], vec![told(25)], 50 + S, (NOW - 50) as i64, &decisions());
    let ids: Vec<u64> = flows(&first).into_iter().chain(flows(&second)).map(|(r, _)| r.flow_id).collect();
    assert_eq!(ids, [FIRST_ID + NOW, FIRST_ID + NOW + 1, FIRST_ID + NOW + 2]);
    assert!(flows(&second).iter().all(|(r, seen_at)| *seen_at == Some("198.51.100.1") && r.start_us == NOW - 60 * S));
}

#[test]
fn whatever_an_exporter_says_nothing_is_proven() {
    let mut p = pipeline();
    let mut boast = told(22);
    (boast.record.proven, boast.record.state) = (true, FlowState::Closed);
    boast.record.bwd.packets = 9;
    let outcome = p.epoch(&[], vec![boast; 100], 50, (NOW - 50) as i64, &decisions());
    assert_eq!(flows(&outcome).len(), 100);
    assert!(flows(&outcome).iter().all(|(r, _)| !r.proven));
    p.epoch(&[], Vec::new(), 50 + 20 * S, (NOW - 50) as i64, &decisions());
    assert_eq!(p.rows.len(), 1, "one row over all flows, none over proven ones");
    assert_eq!((p.rows[0].role, p.rows[0].summary.flows), (Role::SourceAll, 100));
}

#[test]
fn what_tells_too_little_is_an_event_and_no_more() {
    let mut p = pipeline();
    let without = |what: Have| {
        let mut o = told(22);
        o.record.have = o.record.have.without(what);
        o
    };
    let lacking = [Have::PROTO, Have::DURATION, Have::PACKETS, Have::BYTES, Have::STATE, Have::ADDRESSES];
    let outcome = p.epoch(&[], lacking.map(without).into(), 50, (NOW - 50) as i64, &decisions());
    assert_eq!((flows(&outcome).len(), p.unscored()), (lacking.len(), lacking.len() as u64));
    // Without the time, or with guessed sides, it is scored, but no source answers for it in its windows.
    p.epoch(&[], vec![without(Have::TIME), without(Have::SIDES)], 50 + S, (NOW - 50) as i64, &decisions());
    assert_eq!(p.unscored(), lacking.len() as u64);
    p.epoch(&[], Vec::new(), 50 + 30 * S, (NOW - 50) as i64, &decisions());
    assert_eq!(p.rows.len(), 0);
}

#[test]
fn exported_flows_belong_to_the_window_they_were_told_of_in_and_none_opens_another() {
    let mut p = pipeline();
    let at = |start_us: u64, end_us: u64| {
        let mut o = told(22);
        (o.record.start_us, o.record.end_us) = (start_us, end_us);
        o
    };
    let times = [(0, 1), (NOW - 300 * S, NOW), (NOW + S, NOW + 2 * S), (u64::MAX - 1, u64::MAX), (NOW, 0)];
    p.epoch(&[], times.map(|(s, e)| at(s, e)).into(), 50, (NOW - 50) as i64, &decisions());
    p.epoch(&[], Vec::new(), 50 + 11 * S, (NOW - 50) as i64, &decisions());
    assert_eq!(p.rows.len(), 1);
    // The epoch ended with a window: it is of that window.
    assert_eq!((p.rows[0].start_us, p.rows[0].end_us, p.rows[0].summary.flows), (NOW - 10 * S, NOW, 5));
    let row = source_matrix(&p.rows);
    assert!(row.row(0).iter().all(|v| v.is_finite()));
    assert_eq!(p.windows.counts().rows, 1);
}
