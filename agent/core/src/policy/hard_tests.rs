//! What no rule can lift, tried with rules at random; and what single rules say.

use proptest::prelude::*;

use super::rule::{Ask, Detectors, Lasts, Measure, When};
use super::tests::{NOW, anomaly, empty, enforce, level, thresholds};
use super::time::{ALL_DAYS, Hours, Zone};
use super::*;
use crate::decision::Sides;
use crate::decisions::Limits;
use crate::event::Mode;
use crate::guard::{Allow, Guard, Safe};
use crate::home::Home;
use crate::question::Unanswered;
use crate::role::Role;
use crate::testkit::{S, addr, prefix};

fn rule(when: When, then: Then) -> Rule {
    Rule { name: "r".into(), when, then }
}

fn with(rules: Vec<Rule>) -> PolicyConfig {
    PolicyConfig { rules: rules.into(), home: Home::new([prefix("10.0.0.0/8")]), ..enforce() }
}

fn judge_at(p: &mut Policy, now: TimeUs, source: &str, l: &Level, d: &Decisions) -> Verdict {
    let case = Case { source: addr(source), level: l, net: None, busy_share: 0.0, busy: None, interface: None };
    p.judge(now, &case, &thresholds(), d)
}

fn judge(p: &mut Policy, source: &str, l: &Level) -> Verdict {
    judge_at(p, NOW, source, l, &empty())
}

fn limit() -> Act {
    Act::Limit("100pps".parse().unwrap())
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![1 => Just(Act::None), 1 => Just(Act::Alert), 1 => Just(Act::Shadow), 1 => Just(limit()), 3 => Just(Act::Drop)]
}

fn widths() -> impl Strategy<Value = Width> {
    let net = (0u8..=32, 0u8..=128).prop_map(|(v4, v6)| Width::Net { v4, v6 });
    prop_oneof![Just(Width::Auto), Just(Width::Host), Just(Width::Port), Just(Width::Flow), net]
}

fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![1 => Just(Mode::Observe), 1 => Just(Mode::Shadow), 1 => Just(Mode::Review), 4 => Just(Mode::Enforce)]
}

prop_compose! {
    fn whens()(
        evidence in prop::option::of(prop_oneof![
            (0.0..50.0f64).prop_map(Measure::Nats), (1.0..4.0f64).prop_map(Measure::Alert), (1.0..2.0f64).prop_map(Measure::Drop),
        ]),
        proven in prop::option::of(any::<bool>()),
        detectors in prop::option::of(Just(Detectors::Both)),
        direction in prop::option::of(prop_oneof![Just(Way::In), Just(Way::Out)]),
        sources in prop_oneof![Just(vec![]), Just(vec![prefix("203.0.113.0/24")])],
        ports in prop_oneof![Just(vec![]), Just(vec![(20, 30)])],
        hours in prop::option::of((0u16..1440, 0u16..1440, 0u8..=ALL_DAYS)
            .prop_map(|(a, b, days)| Hours { span: Some((a, b)), days, zone: Zone::utc() })),
    ) -> When {
        When { evidence, proven, detectors, direction, sources, ports, hours, ..When::default() }
    }
}

prop_compose! {
    fn rules()(rules in prop::collection::vec(
        (whens(), acts(), widths(), prop::option::of(prop::collection::vec(0u64..u64::MAX, 1..4)),
         prop::option::of((0u64..u64::MAX, any::<bool>())), prop::option::of(modes())), 0..6)
    ) -> Vec<Rule> {
        rules.into_iter().map(|(when, act, width, lasts, ask, mode)| rule(when, Then {
            width,
            lasts: lasts.map(|steps_us| Lasts { steps_us, within_us: 86_400 * S }),
            ask: ask.map(|(ttl_us, act)| Ask { ttl_us, unanswered: if act { Unanswered::Act } else { Unanswered::Nothing } }),
            mode,
            ..Then::new(act)
        })).collect()
    }
}

#[derive(Clone, Debug)]
struct Any {
    source: Addr,
    level: Level,
    net: Option<Level>,
    busy_share: f64,
    later_us: u64,
}

prop_compose! {
    fn cases()(
        host in prop_oneof![
            (0u8..=255).prop_map(|i| format!("203.0.113.{i}")),
            (0u8..8).prop_map(|i| format!("198.51.100.{i}")),
            (0u8..8).prop_map(|i| format!("10.0.0.{i}")),
            (0u16..6).prop_map(|i| format!("2001:db8:66:{:x}::{i:x}", i % 2)),
        ],
        (all, share) in (0.0..60.0f64, 0.0..1.0f64),
        (net_all, net_share, offenders) in (0.0..60.0f64, 0.0..1.0f64, 0usize..4),
        remote in prop::bool::weighted(0.9),
        busy_share in prop_oneof![4 => Just(0.0), 1 => 0.0..0.3f64],
        later_us in 0u64..1_800_000_000,
    ) -> Any {
        let level_of = |all: f64, share: f64| Level { remote, ..level(all, all * share) };
        let source = addr(&host);
        let net = (!source.is_v4()).then(|| Level { offenders: [offenders; 2], ..level_of(net_all, net_share) });
        Any { source, level: level_of(all, share), net, busy_share, later_us }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]
    #[test]
    fn no_rule_drops_who_is_unproven_reaches_who_is_protected_or_lasts_without_end(
        rules in rules(),
        cases in prop::collection::vec(cases(), 1..25),
        mode in modes(),
        promoted in prop::bool::weighted(0.8),
        (default_bundle, alerts_only) in (any::<bool>(), prop::bool::weighted(0.1)),
        max_per_hour in 0usize..12,
    ) {
        let safe = vec![Safe { prefix: prefix("203.0.113.1"), why: "gateway".into() }];
        let allow = ["198.51.100.4/30", "2001:db8:66:1::1"]
            .map(|p| Allow { prefix: prefix(p), created_us: 0, expires_us: None, comment: String::new() });
        let mut d = Decisions::new(Limits::default(), Guard::new(allow.to_vec(), safe), 1);
        let config = PolicyConfig { mode, promoted, default_bundle, alerts_only, max_per_hour, ..with(rules) };
        let mut p = Policy::new(config.clone(), 1);
        let t = thresholds();
        let mut now = NOW;
        // On proof, and without.
        let mut made: [Vec<TimeUs>; 2] = Default::default();
        for c in &cases {
            now += c.later_us;
            d.expire(now);
            let case = Case { source: c.source, level: &c.level, net: c.net.as_ref(), busy_share: c.busy_share, busy: None, interface: None };
            let v = p.judge(now, &case, &t, &d);
            let net_proven = c.net.as_ref().is_some_and(|n| n.proven >= t.drop && n.offenders[1] >= NET_OFFENDERS);
            let proves = |n: &NewDecision| {
                let whole = !n.target.prefix().is_v4() && n.target.prefix().len() <= 64;
                c.level.proven >= t.drop || (whole && net_proven)
            };
            let asked = v.question.as_ref().map(|q| &q.proposed);
            for n in v.decision.iter().chain(asked) {
                let drop = n.action == Action::Drop || n.instead_of == Some(Action::Drop);
                prop_assert!(!drop || proves(n), "unproven: {n:?}");
                let ttl = n.ttl_us.expect("an end");
                prop_assert!(ttl >= 1 && ttl <= if proves(n) { MAX_TTL_US } else { MAX_UNPROVEN_TTL_US }, "{n:?}");
                prop_assert!(d.check(n.target, now).is_ok(), "protected: {n:?}");
                prop_assert_eq!(n.limit.is_some(), n.action == Action::Limit);
                prop_assert_eq!(n.sides, Sides::In);
            }
            if let Some(n) = v.decision {
                prop_assert!(c.level.remote, "at home: {n:?}");
                prop_assert!(!n.target.prefix().overlaps(prefix("10.0.0.0/8")) || n.target.prefix().is_host(), "{n:?}");
                prop_assert!(!alerts_only && config.effective_mode() != Mode::Observe, "{n:?}");
                let real = n.action != Action::Shadow;
                prop_assert!(!real || config.effective_mode() == Mode::Enforce, "{n:?}");
                prop_assert!(!real || c.busy_share <= config.busy_share, "busy: {n:?}");
                prop_assert!(!real || !is_wide(n.target.prefix()), "wide: {n:?}");
                let proven = proves(&n);
                let made = &mut made[usize::from(!proven)];
                made.retain(|at| at + HOUR_US > now);
                prop_assert!((!real && proven) || made.len() < max_per_hour, "over the cap: {n:?}");
                prop_assert!(made.len() < 2 * max_per_hour, "twice over the cap: {n:?}");
                made.push(now);
                prop_assert!(d.add(n, now).is_ok());
            }
            if let Some(q) = v.question {
                let free = c.level.remote && promoted && c.busy_share <= config.busy_share;
                let free = free && proves(&q.proposed) && !is_wide(q.proposed.target.prefix());
                prop_assert!(q.unanswered == Unanswered::Nothing || free, "silence is no consent: {q:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 200_000, ..ProptestConfig::with_cases(500) })]
    #[test]
    fn a_rule_that_is_covered_by_an_earlier_one_never_matches(a in whens(), b in whens(), c in cases(), later in 0u64..604_800) {
        prop_assume!(a.covers(&b));
        let policy = |rules| Policy::new(with(rules), 1);
        let case = Case { source: c.source, level: &c.level, net: c.net.as_ref(), busy_share: 0.0, busy: None, interface: None };
        let now = NOW + later * S;
        let alone = policy(vec![rule(b.clone(), Then::new(Act::Alert))]).judge(now, &case, &thresholds(), &empty());
        let behind = policy(vec![rule(a, Then::new(Act::Alert)), rule(b, Then::new(Act::Alert))])
            .judge(now, &case, &thresholds(), &empty());
        prop_assert_ne!(behind.rule, Some(1));
        prop_assert!(alone.rule.is_none() || behind.rule == Some(0));
    }
}

#[test]
fn the_first_rule_that_matches_decides_and_is_named() {
    let guess = When { ports: vec![(22, 22)], proven: Some(true), ..When::default() };
    let mut limits = rule(guess, Then { lasts: Some(Lasts::once(1800 * S)), ..Then::new(limit()) });
    limits.name = "guesses".into();
    let mut p = Policy::new(with(vec![limits, rule(When::default(), Then::new(Act::Alert))]), 1);
    let v = judge(&mut p, "203.0.113.5", &level(20.0, 16.0));
    let d = v.decision.unwrap();
    assert_eq!((d.action, d.ttl_us, v.rule), (Action::Limit, Some(1800 * S), Some(0)));
    assert_eq!(v.note, "limited to 100 packets/s, 100 at once for 30m; by rule `guesses`");
    assert!(d.reason.starts_with("rule `guesses`: evidence 16.0 from proven flows"), "{}", d.reason);
    let v = judge(&mut p, "203.0.113.6", &Level { ports: vec![443], ..level(20.0, 16.0) });
    assert_eq!((v.decision, v.rule), (None, Some(1)));
    assert!(v.alert.is_some());
}

#[test]
fn what_no_rule_matches_is_alerted_about_and_what_a_rule_ignores_is_not() {
    let of = |act| rule(When { sources: vec![prefix("203.0.113.0/28")], ..When::default() }, Then::new(act));
    let mut p = Policy::new(with(vec![of(Act::None)]), 1);
    let v = judge(&mut p, "203.0.113.5", &level(90.0, 90.0));
    assert_eq!((v.rule, v.alert, v.decision, v.question), (Some(0), None, None, None));
    let v = judge(&mut p, "203.0.113.16", &level(90.0, 90.0));
    assert!(v.decision.is_none() && v.alert.unwrap().outcome.contains("no rule of the policy matches"));
}

#[test]
fn repeat_offenders_are_stopped_for_longer_each_time_and_forged_traffic_makes_nobody_one() {
    let lasts = Lasts { steps_us: [600, 3_600, 86_400].map(|s| s * S).to_vec(), within_us: 7 * 86_400 * S };
    let mut p = Policy::new(with(vec![rule(When::default(), Then { lasts: Some(lasts), ..Then::new(Act::Drop) })]), 1);
    let mut d = empty();
    let mut now = NOW;
    let mut again = |source: &str, l: &Level| {
        now += 2 * 86_400 * S;
        d.expire(now);
        let new = judge_at(&mut p, now, source, l, &d).decision.unwrap();
        d.add(new.clone(), now).unwrap();
        new.ttl_us.unwrap() / S
    };
    // Forged in its name three times: ten minutes each, and no repeat offender by that.
    let forged: Vec<u64> = (0..3).map(|_| again("203.0.113.5", &level(30.0, 0.0))).collect();
    assert_eq!(forged, [600, 600, 600]);
    let proven: Vec<u64> = (0..4).map(|_| again("203.0.113.5", &level(30.0, 30.0))).collect();
    assert_eq!(proven, [600, 3_600, 86_400, 86_400]);
    assert_eq!(again("203.0.113.6", &level(30.0, 30.0)), 600, "the neighbour");
    let mut p = Policy::new(p.config().clone(), 1);
    p.recall(d.iter());
    let first = judge_at(&mut p, now + 3_600 * S, "203.0.113.6", &level(30.0, 30.0), &empty()).decision.unwrap();
    assert_eq!(first.ttl_us, Some(3_600 * S), "what held at the end of an earlier run counts");
    let first = judge_at(&mut p, now + 30 * 86_400 * S, "203.0.113.6", &level(30.0, 30.0), &empty()).decision.unwrap();
    assert_eq!(first.ttl_us, Some(600 * S));
}

#[test]
fn a_rules_mode_is_never_stronger_than_the_agents() {
    let said = |agent: Mode, mode: Mode| {
        let rules = vec![rule(When::default(), Then { mode: Some(mode), ..Then::new(Act::Drop) })];
        let mut p = Policy::new(PolicyConfig { mode: agent, ..with(rules) }, 1);
        let v = judge(&mut p, "203.0.113.5", &level(30.0, 30.0));
        (v.decision.map(|d| d.action), v.question.is_some(), v.note)
    };
    let (action, asked, note) = said(Mode::Enforce, Mode::Shadow);
    assert_eq!((action, asked), (Some(Action::Shadow), false));
    assert!(note.starts_with("shadow only (mode shadow of the rule): it would be blocked for 1h"), "{note}");
    assert_eq!(said(Mode::Enforce, Mode::Observe).0, None);
    let (action, asked, _) = said(Mode::Enforce, Mode::Review);
    assert_eq!((action, asked), (Some(Action::Shadow), true));
    assert_eq!(said(Mode::Shadow, Mode::Enforce).0, Some(Action::Shadow));
    assert_eq!(said(Mode::Enforce, Mode::Enforce).0, Some(Action::Drop), "the control");
}

#[test]
fn a_network_is_the_target_where_several_of_it_offend_and_no_one_at_home_or_protected_is_in_it() {
    let net = |v4| vec![rule(When::default(), Then { width: Width::Net { v4, v6: 64 }, ..Then::new(Act::Drop) })];
    let target = |v: Verdict| v.decision.map(|d| (d.target.to_string(), d.action));
    let host = |a: &str| Some((a.to_owned(), Action::Drop));
    let mut p = Policy::new(with(net(24)), 1);
    assert_eq!(target(judge(&mut p, "203.0.113.5", &level(30.0, 30.0))), host("203.0.113.5"), "one alone");
    // A forged neighbour does not make two of them.
    judge(&mut p, "198.51.100.5", &level(30.0, 0.0));
    assert_eq!(target(judge(&mut p, "198.51.100.6", &level(30.0, 30.0))), host("198.51.100.6"));
    assert_eq!(target(judge(&mut p, "203.0.113.6", &level(30.0, 30.0))), host("203.0.113.0/24"));
    // A home host or somebody protected in it: the host alone.
    let mut p = Policy::new(PolicyConfig { home: Home::new([prefix("203.0.113.128/25")]), ..with(net(24)) }, 1);
    judge(&mut p, "203.0.113.5", &level(30.0, 30.0));
    assert_eq!(target(judge(&mut p, "203.0.113.6", &level(30.0, 30.0))), host("203.0.113.6"));
    let safe = vec![Safe { prefix: prefix("203.0.113.200"), why: "name server".into() }];
    let d = Decisions::new(Limits::default(), Guard::new(Vec::new(), safe), 1);
    let mut p = Policy::new(with(net(24)), 1);
    judge_at(&mut p, NOW, "203.0.113.5", &level(30.0, 30.0), &d);
    assert_eq!(target(judge_at(&mut p, NOW, "203.0.113.6", &level(30.0, 30.0), &d)), host("203.0.113.6"));
    // A wide one is asked about, and so is one with a proxy in it.
    let mut p = Policy::new(with(net(20)), 1);
    judge(&mut p, "203.0.113.5", &level(30.0, 30.0));
    let v = judge(&mut p, "203.0.114.6", &level(30.0, 30.0));
    assert!(v.decision.is_none() && v.question.is_some_and(|q| q.why.contains("wide")));
    let mut busy = Busy::new();
    (0..100).for_each(|_| busy.add(NOW - 600 * S, addr("203.0.113.80")));
    busy.advance(NOW, |_| false);
    let mut p = Policy::new(with(net(24)), 1);
    judge(&mut p, "203.0.113.5", &level(30.0, 30.0));
    let l = level(30.0, 30.0);
    let case =
        Case { source: addr("203.0.113.6"), level: &l, net: None, busy_share: 0.0, busy: Some(&busy), interface: None };
    let v = p.judge(NOW, &case, &thresholds(), &empty());
    assert!(v.decision.is_none() && v.question.is_some_and(|q| q.why.contains("this network carries 100%")));
}

#[test]
fn a_port_is_the_target_where_its_protocol_is_known() {
    let then = Then { width: Width::Port, ..Then::new(limit()) };
    let mut p = Policy::new(with(vec![rule(When { ports: vec![(1, 1000)], ..When::default() }, then)]), 1);
    let l = Level { ports: vec![8080, 25, 22], ..level(30.0, 30.0) };
    assert_eq!(judge(&mut p, "203.0.113.5", &l).decision.unwrap().target.to_string(), "203.0.113.5/tcp/25");
    // Of unproven flows it is that of the role, or unknown.
    let role = |role| Level { worst: Some(crate::event::Anomaly { role, ..anomaly() }), ..level(30.0, 0.0) };
    let udp = role("udp/in".parse().unwrap());
    assert_eq!(judge(&mut p, "203.0.113.6", &udp).decision.unwrap().target.to_string(), "203.0.113.6/udp/22");
    let udp = Level { proto: Some(17), ..role(Role::SourceAll) };
    assert_eq!(judge(&mut p, "203.0.113.8", &udp).decision.unwrap().target.to_string(), "203.0.113.8/udp/22");
    let v = judge(&mut p, "203.0.113.7", &role(Role::SourceAll));
    assert!(v.decision.is_none() && v.note.contains("several protocols"), "{}", v.note);
}

#[test]
fn a_flow_is_the_target_while_it_goes_on_and_never_an_unproven_one_of_a_proven_drop() {
    let flow = |text: &str| match text.parse() {
        Ok(Target::Flow(f)) => Some(f),
        other => panic!("{other:?}"),
    };
    let (udp, tcp) = ("udp:203.0.113.5:53-10.0.0.1:4000", "tcp:203.0.113.5:5555-10.0.0.1:22");
    let mut p = Policy::new(with(vec![rule(When::default(), Then { width: Width::Flow, ..Then::new(Act::Drop) })]), 1);
    let l = Level { going_on: [flow(udp), flow(tcp)], ..level(30.0, 30.0) };
    let d = judge(&mut p, "203.0.113.5", &l).decision.unwrap();
    assert_eq!((d.target.to_string().as_str(), d.action), (tcp, Action::Drop));
    let v = judge(&mut p, "203.0.113.5", &Level { going_on: [flow(udp), None], ..level(30.0, 30.0) });
    assert!(v.decision.is_none() && v.note.contains("none of the flows that were strange"), "{}", v.note);
    let d = judge(&mut p, "203.0.113.5", &Level { going_on: [flow(udp), None], ..level(30.0, 0.0) }).decision.unwrap();
    assert_eq!((d.target.to_string().as_str(), d.action), (udp, Action::Shadow));
}

#[test]
fn a_host_at_home_is_asked_about_where_a_rule_says_so_and_never_stopped() {
    let ask = Some(Ask { ttl_us: 60 * S, unanswered: Unanswered::Act });
    let out = When { direction: Some(Way::Out), ..When::default() };
    let home = Level { remote: false, ..level(30.0, 30.0) };
    let mut p = Policy::new(with(vec![rule(out.clone(), Then { ask, ..Then::new(Act::Drop) })]), 1);
    let v = judge(&mut p, "10.0.0.7", &home);
    assert_eq!((v.decision, v.question.map(|q| q.unanswered)), (None, Some(Unanswered::Nothing)));
    let v = judge(&mut Policy::new(with(vec![rule(out, Then::new(Act::Drop))]), 1), "10.0.0.7", &home);
    assert!(v.decision.is_none() && v.question.is_none() && v.alert.is_some());
}

#[test]
fn a_rule_asks_and_silence_does_what_it_says_where_the_agent_itself_might() {
    let ask = Some(Ask { ttl_us: 60 * S, unanswered: Unanswered::Act });
    let rules = vec![rule(When::default(), Then { ask, ..Then::new(Act::Drop) })];
    let asked = |config: PolicyConfig| {
        let v = judge(&mut Policy::new(config, 1), "203.0.113.5", &level(30.0, 30.0));
        assert!(v.decision.is_none(), "nothing is entered meanwhile");
        let q = v.question.unwrap();
        (q.proposed.action, q.ttl_us, q.unanswered)
    };
    assert_eq!(asked(with(rules.clone())), (Action::Drop, 60 * S, Unanswered::Act));
    assert_eq!(asked(PolicyConfig { promoted: false, ..with(rules.clone()) }).2, Unanswered::Nothing);
    assert_eq!(asked(PolicyConfig { max_per_hour: 0, ..with(rules) }).2, Unanswered::Nothing);
}

#[test]
fn the_night_is_limited_and_the_day_is_not() {
    // NOW is 1970-01-12, a Monday, 13:46:40 UTC.
    let hours = |from, to| Some(Hours { span: Some((from, to)), days: ALL_DAYS, zone: Zone::utc() });
    let of = |from, to| rule(When { hours: hours(from, to), ..When::default() }, Then::new(limit()));
    let did = |r: Rule| judge(&mut Policy::new(with(vec![r]), 1), "203.0.113.5", &level(30.0, 0.0)).decision;
    let d = did(of(13 * 60, 14 * 60)).unwrap();
    assert_eq!((d.action, d.ttl_us), (Action::Limit, Some(MAX_UNPROVEN_TTL_US)), "ten minutes at most");
    assert_eq!(did(of(22 * 60, 6 * 60)), None);
}

#[test]
fn a_limit_gives_way_to_a_lower_one_and_to_a_drop_and_not_to_the_same() {
    let of = |act| Policy::new(with(vec![rule(When::default(), Then::new(act))]), 1);
    let mut d = empty();
    let l = level(30.0, 30.0);
    let mut again = |act| {
        let new = judge_at(&mut of(act), NOW, "203.0.113.5", &l, &d).decision;
        new.clone().into_iter().for_each(|n| drop(d.add(n, NOW).unwrap()));
        new.is_some()
    };
    assert!(again(limit()) && !again(limit()) && !again(Act::Shadow));
    assert!(again(Act::Limit("10pps".parse().unwrap())) && !again(limit()));
    assert!(again(Act::Drop) && !again(limit()) && !again(Act::Drop));
}

#[test]
fn after_a_reboot_what_was_decided_is_not_decided_again_and_ends_in_time() {
    let mut p = Policy::new(enforce(), 1);
    let mut d = empty();
    let l = level(30.0, 30.0);
    d.add(judge_at(&mut p, NOW, "203.0.113.5", &l, &d).decision.unwrap(), NOW).unwrap();
    let stored = d.snapshot(NOW);
    // The machine was off for 50 minutes of the hour.
    let now = NOW + 3_000 * S;
    let mut d = Decisions::restore(stored, Limits::default(), Vec::new(), now, None).0;
    let mut p = Policy::new(enforce(), 9);
    let v = judge_at(&mut p, now, "203.0.113.5", &l, &d);
    assert!(v.decision.is_none() && v.note.contains("holds already"), "{}", v.note);
    assert_eq!(v.alert.unwrap().id, 9);
    d.expire(NOW + 3_601 * S);
    assert!(judge_at(&mut p, NOW + 3_601 * S, "203.0.113.5", &l, &d).decision.is_some());
}

#[test]
fn remarks_name_rules_that_never_match_and_what_does_nothing() {
    let named = |name: &str, when: When, then: Then| Rule { name: name.into(), when, then };
    let unproven = When { proven: Some(false), ..When::default() };
    let rules = [
        named("a", unproven.clone(), Then { lasts: Some(Lasts::once(3_600 * S)), ..Then::new(limit()) }),
        named("b", When { ports: vec![(22, 22)], ..unproven }, Then::new(Act::Drop)),
        named("c", When { interfaces: vec!["eth1".into()], ..When::default() }, Then::new(Act::Drop)),
        named("d", When::default(), Then { mode: Some(Mode::Enforce), ..Then::new(Act::Drop) }),
        named("e", When { severity: Some(Severity::High), ..When::default() }, Then::new(Act::Alert)),
    ];
    let said: Vec<_> = remarks(&rules, Mode::Shadow, Some("eth0")).into_iter().map(|r| (r.rule, r.words)).collect();
    assert_eq!(
        said,
        [
            (0, "lasts 10m at most, not 1h: what is not proven may be forged".to_owned()),
            (1, "can never match: rule `a` before it matches all of it".to_owned()),
            (2, "can never match: eth0 is watched, and nothing else".to_owned()),
            (3, "`mode: enforce` does nothing: the agent is in mode shadow".to_owned()),
            (4, "can never match: rule `d` before it matches all of it".to_owned()),
        ]
    );
    assert_eq!(
        rules[0].to_string(),
        "If proven flows alone do not reach the drop threshold: limit the host (the /64 where several of its addresses \
         offend) to 100 packets/s, 100 at once for 1h."
    );
}
