use super::*;
use crate::event::Reason;
use crate::role::{Direction, ProtoClass, ServiceClass};

const S: u64 = 1_000_000;

fn anomaly(role: Role, p_value: f32, strangest: Option<&'static str>) -> Anomaly {
    let reason = |feature, share| Reason {
        feature,
        words: String::new(),
        observed: 1.0,
        usual_low: 0.0,
        usual_high: 0.0,
        nearest_usual: 0.0,
        share,
        unless: Vec::new(),
    };
    Anomaly {
        profile: "source",
        p_value,
        autoencoder: p_value,
        isolation_forest: p_value,
        role,
        actionable: true,
        extrapolated: false,
        default_bundle: false,
        reasons: strangest.map(|f| vec![reason("flows", 0.2), reason(f, 0.7)]).unwrap_or_default(),
    }
}

fn scope(prefix: &str) -> Scope {
    Scope { prefix: prefix.parse().unwrap(), ports: Vec::new(), role: None, features: Vec::new() }
}

fn new(scope: Scope) -> NewSuppression {
    NewSuppression { scope, ttl_us: 100 * S, comment: "backup".into(), by: "me".into(), came_of: String::new() }
}

fn with(scope: Scope) -> Suppressions {
    let mut all = Suppressions::default();
    all.add(new(scope), S).unwrap();
    all
}

fn covers(all: &mut Suppressions, source: &str, ports: &[u16], a: &Anomaly) -> bool {
    let seen = Seen { source: source.parse().unwrap(), ports: Some(ports), anomaly: a, explained_p: 0.01 };
    all.covers(&seen, 2 * S)
}

#[test]
fn it_covers_its_prefix_alone_counts_and_ends() {
    let a = anomaly(Role::SourceProven, 0.001, Some("ports"));
    let mut all = with(scope("192.0.2.0/24"));
    assert!(covers(&mut all, "192.0.2.7", &[80], &a) && covers(&mut all, "192.0.2.8", &[22], &a));
    assert!(!covers(&mut all, "192.0.3.7", &[80], &a) && !covers(&mut all, "2001:db8::7", &[80], &a));
    assert_eq!((all.live()[0].observations, all.live()[0].last_us), (2, Some(2 * S)));
    let seen = Seen { source: "192.0.2.7".parse().unwrap(), ports: None, anomaly: &a, explained_p: 0.01 };
    assert!(!all.covers(&seen, 101 * S), "its time is over, even before it is taken out");
    assert_eq!(all.expire(101 * S).len(), 1);
    assert_eq!((all.live().len(), all.ended().next().unwrap().ended_us), (0, Some(101 * S)));
}

#[test]
fn what_also_reached_another_port_is_evidence() {
    let a = anomaly(Role::SourceProven, 0.001, None);
    let mut all = with(Scope { ports: vec![873, 22], ..scope("192.0.2.7") });
    assert!(covers(&mut all, "192.0.2.7", &[22], &a) && covers(&mut all, "192.0.2.7", &[22, 873], &a));
    assert!(!covers(&mut all, "192.0.2.7", &[22, 80], &a) && !covers(&mut all, "192.0.2.7", &[], &a));
    let seen = Seen { source: "192.0.2.7".parse().unwrap(), ports: None, anomaly: &a, explained_p: 0.01 };
    assert!(!all.covers(&seen, 2 * S), "not all ports are known");
}

#[test]
fn what_is_strange_in_another_way_is_evidence() {
    let mut all = with(Scope { features: vec!["bytes_mean".into()], ..scope("192.0.2.7") });
    let is =
        |all: &mut Suppressions, p, feature| covers(all, "192.0.2.7", &[80], &anomaly(Role::SourceAll, p, feature));
    assert!(is(&mut all, 0.001, Some("bytes_mean")));
    assert!(!is(&mut all, 0.001, Some("ports")), "the same source scans");
    assert!(is(&mut all, 0.03, None), "too little to be explained");
    assert!(!is(&mut all, 0.001, None), "very strange, and nobody knows how");
}

#[test]
fn a_role_covers_those_below_it() {
    let login = Role::Flow(ProtoClass::Tcp, Direction::In, ServiceClass::Login);
    let mut all = with(Scope { role: Some("tcp/in".parse().unwrap()), ..scope("192.0.2.7") });
    assert!(covers(&mut all, "192.0.2.7", &[22], &anomaly(login, 0.001, None)));
    assert!(!covers(&mut all, "192.0.2.7", &[22], &anomaly(Role::SourceProven, 0.001, None)));
}

#[test]
fn its_influence_is_bounded() {
    let mut all = Suppressions::default();
    let mut refused = |s: NewSuppression| all.add(s, S).unwrap_err().to_string();
    assert!(refused(new(scope("10.0.0.0/15"))).contains("at most a /16"));
    assert!(refused(new(scope("2001:db8::/47"))).contains("at most a /48"));
    assert!(refused(NewSuppression { ttl_us: MAX_TTL_US + 1, ..new(scope("192.0.2.7")) }).contains("1s to 90d"));
    assert!(refused(NewSuppression { ttl_us: 0, ..new(scope("192.0.2.7")) }).contains("1s to 90d"));
    let many = Scope { ports: (0..17).collect(), ..scope("192.0.2.7") };
    assert_eq!(all.add(new(many), S).unwrap_err(), SuppressionError::TooMany);
    for i in 0..MAX_LIVE {
        all.add(new(scope(&format!("10.0.{}.{}", i >> 8, i & 255))), S).unwrap();
    }
    assert_eq!(all.add(new(scope("192.0.2.7")), S).unwrap_err(), SuppressionError::Full);
    all.remove(7, S).unwrap();
    assert_eq!(all.add(new(scope("192.0.2.7")), S).unwrap().id, MAX_LIVE as u64 + 1, "numbers are never used twice");
}

#[test]
fn alerts_are_counted_for_the_narrowest_once_in_a_while() {
    let mut all = with(scope("192.0.2.0/24"));
    all.add(NewSuppression { ttl_us: 9000 * S, ..new(scope("192.0.2.7")) }, S).unwrap();
    let (host, other) = ("192.0.2.7".parse().unwrap(), "192.0.2.9".parse().unwrap());
    assert_eq!(all.alert(host, 2 * S).map(|s| s.id), Some(2));
    assert_eq!(all.alert(host, 3 * S), None, "an alert would not be raised again so soon");
    assert_eq!(all.alert(other, 3 * S).map(|s| s.id), Some(1));
    assert_eq!(all.alert(host, 3602 * S).map(|s| s.alerts), Some(2));
    let mut restored = Suppressions::restore(all.snapshot(3602 * S), 10 * S, Some(S));
    assert_eq!(restored.get(2).unwrap().expires_us, 10 * S + (9001 - 3602 - 1) * S);
    assert_eq!(restored.expire(10 * S).len(), 1, "the other had ended");
}

#[test]
fn a_clock_that_steps_by_a_day_neither_ends_nor_prolongs_it() {
    const DAY: i64 = 86_400 * S as i64;
    for step in [DAY, -DAY] {
        let start = 10 * DAY as u64;
        let mut all = Suppressions::default();
        all.add(new(scope("192.0.2.0/24")), start).unwrap();
        all.clock_stepped(step);
        let now = start.saturating_add_signed(step);
        assert!(all.expire(now + 99 * S).is_empty(), "by {step}");
        assert_eq!(all.expire(now + 100 * S).len(), 1, "by {step}");
    }
}

#[test]
fn who_follows_has_the_same_suppressions_and_learns_whom_a_change_is_about() {
    let mut live = with(scope("192.0.2.0/24"));
    let mut own = Suppressions::default();
    let prefixes = |all: &[&str]| all.iter().map(|p| p.parse().unwrap()).collect::<Vec<Prefix>>();
    assert_eq!(own.follow(&live), prefixes(&["192.0.2.0/24"]));
    let odd = anomaly(Role::SourceAll, 0.001, None);
    assert!(covers(&mut own, "192.0.2.9", &[80], &odd) && !covers(&mut own, "198.51.100.9", &[80], &odd));
    assert_eq!(own.follow(&live), [], "counts alone are no change");
    live.remove(1, 2 * S).unwrap();
    live.add(new(scope("198.51.100.9")), 2 * S).unwrap();
    assert_eq!(own.follow(&live), prefixes(&["192.0.2.0/24", "198.51.100.9"]));
    assert!(!covers(&mut own, "192.0.2.9", &[80], &odd) && covers(&mut own, "198.51.100.9", &[80], &odd));
}

#[test]
fn what_holds_throughout_holds_at_any_time_and_within_the_same_bounds() {
    let mut all = Suppressions::throughout([scope("192.0.2.9")]).unwrap();
    assert!(covers(&mut all, "192.0.2.9", &[80], &anomaly(Role::SourceAll, 0.001, None)));
    assert_eq!((all.expire(u64::MAX - 1).len(), all.live().len()), (0, 1));
    assert!(matches!(Suppressions::throughout([scope("10.0.0.0/8")]), Err(SuppressionError::TooWide { .. })));
}
