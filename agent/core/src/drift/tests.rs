use super::*;
use crate::record::{EndReason, FlowState, Have, Totals};
use crate::testkit::{S, addr};

const WEB: Role = Role::Flow(ProtoClass::Tcp, Direction::In, crate::role::ServiceClass::Web);
const DNS: Role = Role::Flow(ProtoClass::Udp, Direction::In, crate::role::ServiceClass::Name);
const HOUR: u64 = 3600 * S;

fn drift() -> Drift {
    let range = UsualRange { low: 1.0, median: 10.0, high: 100.0 };
    let usual = BTreeMap::from([(ProfileId::Core, vec![range; ProfileId::Core.width()])]);
    Drift::new(DriftConfig::default(), usual)
}

fn flow(client: Addr, proven: bool) -> FlowRecord {
    FlowRecord {
        flow_id: 1,
        client,
        server: addr("10.0.0.1"),
        client_port: 40_000,
        server_port: 443,
        proto: 6,
        vlan_outer: 0,
        vlan_inner: 0,
        start_us: 0,
        end_us: S,
        fwd: Totals::default(),
        bwd: Totals::default(),
        stats: weir_common::flow::FlowStats::EMPTY,
        state: FlowState::Closed,
        end_reason: EndReason::Ended,
        have: Have::ALL,
        direction: Direction::In,
        proven,
        first_record: true,
        context: None,
        seen_at: 0,
    }
}

fn source(i: u32) -> Addr {
    Addr::from(std::net::IpAddr::from(std::net::Ipv4Addr::from(0xc633_6400 + i)))
}

/// Without a pattern, but the same each time, in (0, 1].
fn dice(n: u64) -> f32 {
    let h = mix(source(n as u32), n ^ 77);
    ((h >> 40) as f32 + 1.0) / (1u64 << 24) as f32
}

/// `each` p-values of every source, at each second, `value` in all columns.
fn feed(d: &mut Drift, from: u64, seconds: u64, sources: u32, role: Role, value: f32, p: impl Fn(u32, u64) -> f32) {
    for t in 0..seconds {
        for i in 0..sources {
            let now = from + t * S;
            let row = vec![value; ProfileId::Core.width()];
            d.flow(now, &flow(source(i), true), ProfileId::Core, role, p(i, t), &row, u64::MAX >> 48);
        }
    }
}

fn nobody(_: Addr) -> Option<TimeUs> {
    None
}

#[test]
fn uniform_p_values_are_no_drift_however_long_they_are_watched() {
    let mut d = drift();
    for hour in 0..20 {
        feed(&mut d, hour * HOUR, 60, 30, WEB, 10.0, |i, t| dice(u64::from(i) * 7919 + t + hour * 131));
        assert_eq!(d.count(hour * HOUR + 60 * S, nobody), [], "hour {hour}: {:?}", d.report().roles);
    }
    assert_eq!(d.report().roles[0].state, DriftState::Fine);
    assert!(d.report().features.iter().all(|f| !f.moved));
}

#[test]
fn one_attacker_is_one_vote_and_with_evidence_none() {
    let mut d = drift();
    feed(&mut d, 0, 60, 12, WEB, 10.0, |i, t| dice(u64::from(i) * 7919 + t));
    // As many flows as all others together, a thousand times over.
    for t in 0..12_000 {
        let row = vec![1e6; 16];
        d.flow(60 * S + t, &flow(addr("203.0.113.66"), true), ProfileId::Core, WEB, 1e-6, &row, u64::MAX >> 48);
    }
    let before = {
        let mut quiet = drift();
        feed(&mut quiet, 0, 60, 12, WEB, 10.0, |i, t| dice(u64::from(i) * 7919 + t));
        quiet.count(61 * S, nobody);
        quiet.report().roles[0].effect
    };
    assert_eq!(d.count(61 * S, nobody), []);
    let with = d.report().roles[0].effect;
    assert!(with - before <= 1.0 / 12.0, "{with} was {before}");
    let evidence = |a: Addr| (a == addr("203.0.113.66")).then_some(60 * S);
    assert_eq!(d.count(62 * S, evidence), []);
    let role = &d.report().roles[0];
    assert_eq!((role.voters, role.withheld), (12, 1));
    assert!((role.effect - before).abs() < 1e-3, "{} was {before}", role.effect);
}

#[test]
fn a_crowd_of_new_attackers_does_not_switch_drops_off() {
    let mut d = drift();
    feed(&mut d, 0, 60, 20, WEB, 10.0, |i, t| dice(u64::from(i) * 7919 + t));
    feed(&mut d, HOUR, 60, 20, WEB, 10.0, |i, t| dice(u64::from(i) * 104_729 + t));
    for i in 1000..1500 {
        let row = vec![1e6; 16];
        d.flow(HOUR + 60 * S, &flow(source(i), true), ProfileId::Core, WEB, 1e-4, &row, u64::MAX >> 48);
    }
    let new = |a: Addr| (a >= source(1000) && a < source(1500)).then_some(HOUR + 60 * S);
    assert_eq!(d.count(HOUR + 61 * S, new), []);
    assert_eq!((d.report().roles[0].voters, d.report().roles[0].withheld), (20, 500));
}

#[test]
fn forged_flows_have_no_vote_where_drops_rest_on_it() {
    let mut d = drift();
    feed(&mut d, 0, 60, 20, WEB, 10.0, |i, t| dice(u64::from(i) * 7919 + t));
    for i in 0..500 {
        d.flow(60 * S, &flow(source(i), false), ProfileId::Core, WEB, 1e-4, &[10.0; 16], u64::MAX >> 48);
        d.flow(60 * S, &flow(source(i), false), ProfileId::Core, DNS, 1e-4, &[10.0; 16], u64::MAX >> 48);
    }
    let changes = d.count(61 * S, nobody);
    let [only] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((only.place.role, only.bad), (DNS, true), "elsewhere anybody votes, and no drop rests on it");
    assert!(d.report().roles.iter().all(|r| r.leads_to_drops == (r.place.role == WEB)));
}

#[test]
fn a_population_that_shifts_is_bad_and_recovers_when_it_is_as_it_was() {
    let mut d = drift();
    feed(&mut d, 0, 60, 20, WEB, 10.0, |i, t| dice(u64::from(i) * 7919 + t));
    feed(&mut d, 0, 60, 20, DNS, 10.0, |i, t| dice(u64::from(i) * 7919 + t));
    assert_eq!(d.count(61 * S, nobody), []);
    // Not strange enough for evidence (p above 5%), but nobody is ordinary any more.
    feed(&mut d, 70 * S, 120, 20, WEB, 90.0, |i, t| 0.06 + 0.2 * dice(u64::from(i) * 31 + t));
    let changes = d.count(200 * S, nobody);
    let [change] = &changes[..] else { panic!("{changes:?}") };
    assert!(change.bad && change.place.role == WEB);
    assert!(change.words.contains("tcp/in/web (core)") && change.words.contains("what moved most"), "{}", change.words);
    assert_eq!(d.bad().map(|p| p.role).collect::<Vec<_>>(), [WEB], "that role alone");
    assert!(d.report().features.iter().any(|f| f.moved && f.above_median > 0.9));
    // Still bad is no news.
    assert_eq!(d.count(211 * S, nobody), []);
    feed(&mut d, 220 * S, 120, 20, WEB, 10.0, |i, t| dice(u64::from(i) * 7919 + t));
    let changes = d.count(350 * S, nobody);
    assert!(matches!(&changes[..], [c] if !c.bad && c.place.role == WEB), "{changes:?}");
    assert_eq!(d.bad().count(), 0);
}

#[test]
fn where_all_whom_we_knew_turn_strange_it_is_the_traffic_that_has_changed() {
    let mut d = drift();
    for hour in 0..2 {
        feed(&mut d, hour * HOUR, 60, 20, WEB, 10.0, |i, t| dice(u64::from(i) * 7919 + t + hour));
    }
    feed(&mut d, 2 * HOUR, 60, 20, WEB, 1e6, |_, _| 1e-4);
    let all = |_: Addr| Some(2 * HOUR);
    let changes = d.count(2 * HOUR + 61 * S, all);
    assert!(matches!(&changes[..], [c] if c.bad), "{changes:?} {:?}", d.report().roles);
    // The same of sources that came with it is an attack.
    let mut d = drift();
    feed(&mut d, 2 * HOUR, 60, 20, WEB, 1e6, |_, _| 1e-4);
    assert_eq!(d.count(2 * HOUR + 61 * S, all), []);
}

#[test]
fn a_few_sources_say_nothing_and_memory_is_bounded() {
    let mut d = drift();
    feed(&mut d, 0, 60, MIN_VOTERS as u32 - 1, WEB, 1e6, |_, _| 1e-4);
    assert_eq!(d.count(61 * S, nobody), []);
    assert_eq!(d.report().roles[0].state, DriftState::Unknown);
    for i in 0..50_000 {
        d.flow(62 * S, &flow(source(i), true), ProfileId::Core, WEB, 0.5, &[10.0; 16], u64::MAX >> 48);
    }
    let max = DriftConfig::default().max_voters;
    assert!(d.roles.values().all(|v| v.len() <= max) && d.features.values().all(|v| v.len() <= max));
    d.count(62 * S + 5 * HOUR, nobody);
    assert!(d.roles.is_empty(), "votes fade");
}

#[test]
fn what_few_sources_did_not_foretell_is_no_drift_and_a_great_change_still_is() {
    let watch = |calibrated_on, shift: f32| {
        let config = DriftConfig { calibrated_on, ..DriftConfig::default() };
        let mut d = Drift::new(config, BTreeMap::new());
        // A third of the sources has p-values below `shift` alone.
        let p = |i: u32, t| dice(u64::from(i) * 7919 + t) * if i.is_multiple_of(3) { shift } else { 1.0 };
        feed(&mut d, 0, 60, 63, WEB, 10.0, p);
        let changed = !d.count(61 * S, nobody).is_empty();
        let role = &d.report().roles[0];
        assert_eq!(changed, role.effect >= role.too_much);
        (changed, role.effect)
    };
    let (changed, effect) = watch(0, 0.1);
    assert!(changed && (0.25..0.4).contains(&effect), "{effect}");
    assert!(watch(10_000, 0.1).0 && !watch(24, 0.1).0);
    // Nobody is as ordinary as everybody was.
    let all = |calibrated_on| {
        let mut d = Drift::new(DriftConfig { calibrated_on, ..DriftConfig::default() }, BTreeMap::new());
        feed(&mut d, 0, 60, 63, WEB, 10.0, |i, t| 0.2 * dice(u64::from(i) * 7919 + t));
        d.count(61 * S, nobody).len()
    };
    assert_eq!((all(0), all(24)), (1, 1));
}
