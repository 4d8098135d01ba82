use weir_core::decisions::Limits;
use weir_core::feature::source_matrix;
use weir_core::guard::Guard;
use weir_core::record::{FlowState, Have};
use weir_core::role::{Direction, Role};

use super::*;
use crate::exported::FIRST_ID;

const NOW: u64 = 1_800_000_000_000_000;
const S: u64 = 1_000_000;

fn pipeline() -> Pipeline {
    let table = TableConfig { first_flow_id: NOW, ..TableConfig::default() };
    let config =
        PipelineConfig { table, window_us: 10 * S, policy: PolicyConfig::default(), next_alert_id: 1, drift_seed: 1 };
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
        seen_at: 0,
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

/// Home host `i` fetches something from a web server; the `n`th time, without a pattern but the same each time.
fn fetch(i: u8, n: u64, now: u64, times: u64) -> Observation {
    let dice = |k: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ k.wrapping_mul(0xbf58_476d_1ce4_e5b9)) >> 40;
    let mut o = told(443);
    let r = &mut o.record;
    r.client = format!("10.0.0.{}", 10 + i).parse().unwrap();
    r.server = "198.51.100.7".parse().unwrap();
    (r.direction, r.state) = (Direction::Out, FlowState::Closed);
    (r.start_us, r.end_us) = (now - 900_000 - dice(3) % 90_000, now - dice(4) % 90_000);
    (r.fwd.packets, r.bwd.packets) = (6 + dice(1) % 10, times * (8 + dice(2) % 14));
    (r.fwd.bytes, r.bwd.bytes) = (r.fwd.packets * (90 + dice(5) % 60), r.bwd.packets * (700 + dice(6) % 400));
    o
}

/// Epochs of flows of every host, from `from` for `seconds`; all that became of drift meanwhile.
fn fetches(p: &mut Pipeline, from: u64, seconds: u64, hosts: u8, times: impl Fn(u8) -> u64) -> Vec<DriftChange> {
    let mut changes = Vec::new();
    for t in 0..seconds {
        let now = from + t * S;
        let some = (0..hosts).filter(|i| (u64::from(*i) + t).is_multiple_of(4));
        let flows = some.map(|i| fetch(i, now / S * 251 + u64::from(i), now, times(i))).collect();
        changes.extend(p.epoch(&[], flows, now - NOW + S, (NOW - S) as i64, &decisions()).drift);
    }
    changes
}

#[test]
fn what_drifts_suspends_drops_until_another_model_serves_and_one_source_drifts_nothing() {
    const HOSTS: u8 = 24;
    let (mut p, dir) = taught(HOSTS);
    let then = NOW + 700 * S;
    assert_eq!(fetches(&mut p, then, 60, HOSTS, |_| 1), []);
    // A host that fetches more than anybody ever did.
    let after = then + 2000 * S;
    assert_eq!(fetches(&mut p, after, 120, HOSTS, |i| if i == 0 { 50 } else { 1 }), []);
    assert!(!p.drift().report().roles.is_empty() && p.drift().bad().count() == 0);

    let changes = fetches(&mut p, after + 200 * S, 180, HOSTS, |_| 50);
    let bad: Vec<_> = p.drift().bad().collect();
    assert!(!bad.is_empty() && changes.iter().any(|c| c.bad && c.place == bad[0]), "{:?}", p.drift().report().roles);
    let moved: Vec<_> = p.drift().report().features.iter().filter(|f| f.moved).map(|f| f.feature).collect();
    assert!(moved.contains(&"bwd_bytes") && !moved.contains(&"fwd_packets"), "{moved:?}");

    p.serve(learned(&dir));
    assert_eq!(p.drift().bad().count(), 0, "votes are about one model");
}

/// A pipeline with a model of what hosts usually fetch, and the folder that it lies in.
fn taught(hosts: u8) -> (Pipeline, tempfile::TempDir) {
    let mut p = pipeline();
    p.record(Recorder::new(ten_minutes(), NOW));
    fetches(&mut p, NOW + S, 600, hosts, |_| 1);
    let dir = tempfile::tempdir().unwrap();
    let recording = p.take_recorder().unwrap().close(NOW + 601 * S);
    recording.train(dir.path().join("bundle"), 1).unwrap();
    p.serve(learned(&dir));
    (p, dir)
}

#[test]
fn who_carried_the_baseline_is_known_as_soon_as_its_bundle_serves() {
    let mut p = pipeline();
    p.record(Recorder::new(ten_minutes(), NOW));
    // Of 24 visitors, 6 come from one site. What nobody proved, and what the hosts at home fetch, carries nothing.
    let visitor = |i: u8| match i {
        0..6 => format!("2001:db8:77:c::{i:x}"),
        _ => format!("203.0.{i}.7"),
    };
    for t in 0..600 {
        let now = NOW + S + t * S;
        let some = (0..24u8).filter(|i| (u64::from(*i) + t).is_multiple_of(4));
        let visits: Vec<FlowRecord> = some
            .map(|i| {
                let mut r = fetch(i, now / S * 251 + u64::from(i), now, 1).record;
                (r.client, r.server) = (visitor(i).parse().unwrap(), "10.0.0.1".parse().unwrap());
                (r.direction, r.proven) = (Direction::In, true);
                r
            })
            .collect();
        p.recorder.as_mut().unwrap().add(now, &visits, &[]);
        let others = (0..8).map(|i| fetch(i, now / S * 251 + 100 + u64::from(i), now, 1)).chain([told(443)]);
        p.epoch(&[], others.collect(), now - NOW + S, (NOW - S) as i64, &decisions());
    }
    let dir = tempfile::tempdir().unwrap();
    let learned_of = p.take_recorder().unwrap().close(NOW + 601 * S).train(dir.path().join("bundle"), 1).unwrap();
    let says = "carry much: 2001:db8:77:c::/64 (25%), ";
    assert!(learned_of.summary.contains(says), "{}", learned_of.summary);

    // An agent that has only just started.
    let mut p = pipeline();
    let share = |p: &Pipeline, net: &str| (100.0 * p.share_within(net.parse().unwrap())).round();
    assert_eq!(share(&p, "2001:db8:77:c::/64"), 0.0);
    p.serve(learned(&dir));
    assert_eq!(share(&p, "2001:db8:77:c::/64"), 25.0);
    assert_eq!((share(&p, "203.0.7.7"), share(&p, "10.0.0.0/24")), (4.0, 0.0));
}

fn ten_minutes() -> crate::learn::LearnConfig {
    crate::learn::LearnConfig {
        duration: std::time::Duration::from_secs(600),
        min_flows: 0,
        min_windows: 0,
        window_us: 10 * S,
        alert_budget_per_day: 10.0,
    }
}

fn learned(dir: &tempfile::TempDir) -> Model {
    Model::new(Bundle::load(&dir.path().join("bundle")).unwrap())
}

/// Epochs of what everybody usually fetches, and of what `more` says of each second; the alerts raised meanwhile.
fn alerts(
    p: &mut Pipeline,
    from: u64,
    seconds: u64,
    more: impl Fn(u64) -> Vec<Observation>,
) -> Vec<weir_core::event::Alert> {
    let mut alerts = Vec::new();
    for t in 0..seconds {
        let now = from + t * S;
        let some = (1..24u8).filter(|i| (u64::from(*i) + t).is_multiple_of(4));
        let mut flows: Vec<Observation> = some.map(|i| fetch(i, now / S * 251 + u64::from(i), now, 1)).collect();
        flows.extend(more(now));
        let outcome = p.epoch(&[], flows, now - NOW + S, (NOW - S) as i64, &decisions());
        alerts.extend(outcome.verdicts.into_iter().filter_map(|(_, v)| v.alert));
    }
    alerts
}

#[test]
fn a_false_alarm_ends_the_alerts_of_its_kind_alone_and_taking_it_back_brings_them_back() {
    use weir_core::suppression::{NewSuppression, Scope};
    let (mut p, _dir) = taught(24);
    let host: Addr = "10.0.0.10".parse().unwrap();
    let about = |all: &[weir_core::event::Alert]| all.iter().filter(|a| a.source == host).count();
    // A nightly job: one host fetches much more than anybody ever did.
    let job = |now: u64| vec![fetch(0, now / S * 251, now, 50)];
    let from = NOW + 2000 * S;
    let first = alerts(&mut p, from, 180, job);
    assert!(about(&first) > 0, "{:?}", p.evidence().values(host, from + 180 * S));
    let alert = first.iter().find(|a| a.source == host).unwrap();

    // A person says that this is normal: of this host, strange as it was.
    let named = alert.anomaly.reasons.iter().map(|r| r.feature);
    let features = named.chain(p.evidence().strange(host).iter().copied()).map(str::to_owned).collect();
    let scope = Scope { prefix: weir_core::addr::Prefix::host(host), ports: Vec::new(), role: None, features };
    let new = NewSuppression {
        scope,
        ttl_us: 86_400 * S,
        comment: "backup".into(),
        by: "me".into(),
        came_of: "alert 1".into(),
    };
    let id = p.suppressions.add(new, from + 181 * S).unwrap().id;
    p.begin_anew(weir_core::addr::Prefix::host(host));

    let from = from + 400 * S;
    let again = alerts(&mut p, from, 180, job);
    assert_eq!(about(&again), 0, "the same traffic again: {again:?}");
    let s = p.suppressions.get(id).unwrap();
    assert!(s.observations > 0 && s.alerts == 1, "counted, and visible: {s:?}");

    // The same host goes for many ports that nobody answers at: that is no backup.
    let from = from + 400 * S;
    let scan = |now: u64| {
        let port = |k: u64| {
            let mut o = told((now / S % 1000 * 40 + k) as u16 + 1000);
            (o.record.client, o.record.server) = (host, "198.51.100.7".parse().unwrap());
            o.record.direction = Direction::Out;
            (o.record.start_us, o.record.end_us) = (now - 900_000, now - 800_000);
            o
        };
        let mut all = job(now);
        all.extend((0..40).map(port));
        all
    };
    let scanned = alerts(&mut p, from, 180, scan);
    assert!(about(&scanned) > 0, "what else the source does is evidence as before");

    let gone = p.suppressions.remove(id, from + 181 * S).unwrap();
    p.begin_anew(gone.scope.prefix);
    let from = from + 4000 * S;
    let back = alerts(&mut p, from, 180, job);
    assert!(about(&back) > 0, "without the suppression it is raised again");
}
