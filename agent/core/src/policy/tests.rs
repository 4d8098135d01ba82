use super::*;
use crate::busy::Carrier;
use crate::decision::Sides;
use crate::decisions::Limits;
use crate::event::{Anomaly, Mode, Reason};
use crate::guard::{Allow, Guard, Safe};
use crate::profile::ProfileId;
use crate::question::Unanswered;
use crate::role::{Direction, ProtoClass, Role, ServiceClass};
use crate::testkit::{S, addr, prefix};

pub(super) const NOW: TimeUs = 1_000_000 * S;
const LOGIN: Role = Role::Flow(ProtoClass::Tcp, Direction::In, ServiceClass::Login);

pub(super) fn thresholds() -> Thresholds {
    Thresholds { alert: 10.0, drop: 15.0, benign_windows: 2000, ..Thresholds::uncalibrated() }
}

pub(super) fn anomaly() -> Anomaly {
    Anomaly {
        profile: "source",
        p_value: 0.001,
        autoencoder: 0.002,
        isolation_forest: 0.001,
        role: LOGIN,
        actionable: true,
        extrapolated: false,
        default_bundle: false,
        reasons: vec![Reason {
            feature: "ports",
            words: "distinct ports contacted 47 (usually 1 to 3)".into(),
            observed: 47.0,
            usual_low: 1.0,
            usual_high: 3.0,
            nearest_usual: 3.0,
            share: 0.8,
            unless: vec![],
        }],
    }
}

pub(super) fn level(all: f64, proven: f64) -> Level {
    Level {
        all,
        proven,
        since_us: NOW - 60 * S,
        last_us: NOW,
        flows: 31,
        remote: true,
        ports: vec![22],
        proto: None,
        worst: Some(anomaly()),
        proven_by: Some(Place { profile: ProfileId::Source, role: LOGIN }),
        going_on: [None; 2],
        offenders: [0, 0],
    }
}

pub(super) fn enforce() -> PolicyConfig {
    PolicyConfig { mode: Mode::Enforce, promoted: true, ..PolicyConfig::default() }
}

pub(super) fn empty() -> Decisions {
    Decisions::new(Limits::default(), Guard::default(), 1)
}

fn judge(p: &mut Policy, source: &str, l: &Level, d: &Decisions) -> Verdict {
    let case = Case { source: addr(source), level: l, net: None, busy_share: 0.0, busy: None, interface: None };
    p.judge(NOW, &case, &thresholds(), d)
}

#[test]
fn proven_evidence_above_the_threshold_blocks_the_remote_host() {
    let mut p = Policy::new(enforce(), 1);
    let v = judge(&mut p, "203.0.113.5", &level(20.0, 16.0), &empty());
    let d = v.decision.unwrap();
    assert_eq!((d.target.to_string(), d.action, d.sides), ("203.0.113.5".to_owned(), Action::Drop, Sides::In));
    assert_eq!((d.ttl_us, d.instead_of, d.alert_id), (Some(3600 * S), None, Some(1)));
    let a = v.alert.unwrap();
    assert_eq!((a.severity, a.outcome.as_str(), a.mode), (Severity::High, "blocked for 1h", Mode::Enforce));
    assert!(d.reason.contains("port 22") && d.reason.contains("distinct ports contacted 47"), "{}", d.reason);
}

#[test]
fn below_the_alert_threshold_nothing_happens() {
    let v = judge(&mut Policy::new(enforce(), 1), "203.0.113.5", &level(9.9, 9.9), &empty());
    assert_eq!(v, Verdict::default());
}

#[test]
fn unproven_evidence_never_drops_however_large() {
    let config = PolicyConfig { unproven_ttl_us: 9999 * S, ..enforce() };
    let v = judge(&mut Policy::new(config, 1), "203.0.113.5", &level(1e6, 14.9), &empty());
    let d = v.decision.unwrap();
    assert_eq!((d.action, d.instead_of, d.ttl_us), (Action::Shadow, None, Some(600 * S)));
    assert!(v.note.contains("forged"), "{}", v.note);
}

#[test]
fn home_hosts_are_alerted_about_and_never_stopped() {
    let l = Level { remote: false, ..level(100.0, 100.0) };
    let v = judge(&mut Policy::new(enforce(), 1), "10.0.0.7", &l, &empty());
    assert!(v.alert.is_some() && v.decision.is_none());
    assert!(v.note.contains("home host"));
}

#[test]
fn modes_decide_what_an_entry_may_do() {
    let strong = level(20.0, 16.0);
    let shadow = PolicyConfig { mode: Mode::Shadow, ..enforce() };
    let v = judge(&mut Policy::new(shadow, 1), "203.0.113.5", &strong, &empty());
    let d = v.decision.unwrap();
    assert_eq!((d.action, d.instead_of), (Action::Shadow, Some(Action::Drop)));
    assert!(v.note.contains("shadow only") && v.note.contains("would be blocked"), "{}", v.note);

    let observe = PolicyConfig { mode: Mode::Observe, ..enforce() };
    let v = judge(&mut Policy::new(observe, 1), "203.0.113.5", &strong, &empty());
    assert!(v.alert.is_some() && v.decision.is_none());

    let unpromoted = PolicyConfig { promoted: false, ..enforce() };
    let v = judge(&mut Policy::new(unpromoted, 1), "203.0.113.5", &strong, &empty());
    assert_eq!(v.decision.unwrap().instead_of, Some(Action::Drop));
    assert!(v.note.contains("weir model promote"), "{}", v.note);
    assert_eq!(v.alert.unwrap().mode, Mode::Shadow, "the mode that held, not the one that was asked for");
}

#[test]
pub(super) fn thresholds_from_too_little_data_lead_to_alerts_alone() {
    let mut p = Policy::new(enforce(), 1);
    let l = level(50.0, 50.0);
    let case = Case { source: addr("203.0.113.5"), level: &l, net: None, busy_share: 0.0, busy: None, interface: None };
    let v = p.judge(NOW, &case, &Thresholds { benign_windows: 199, ..thresholds() }, &empty());
    assert!(v.alert.is_some() && v.decision.is_none() && v.note.contains("199"), "{}", v.note);
}

#[test]
fn a_rule_is_about_the_interface_where_the_source_is_seen() {
    let when = rule::When { interfaces: vec!["veth7".into()], ..rule::When::default() };
    let rules = vec![Rule { name: "guests".into(), when, then: rule::Then::new(rule::Act::Drop) }];
    let mut p = Policy::new(PolicyConfig { rules: rules.into(), ..enforce() }, 1);
    let l = level(50.0, 50.0);
    for (interface, dropped) in [(Some("eth0"), false), (None, false), (Some("veth7"), true)] {
        let source = addr(if dropped { "203.0.113.6" } else { "203.0.113.5" });
        let case = Case { source, level: &l, net: None, busy_share: 0.0, busy: None, interface };
        let v = p.judge(NOW, &case, &thresholds(), &empty());
        assert_eq!(v.decision.is_some(), dropped, "{interface:?}: {}", v.note);
    }
}

#[test]
fn a_busy_source_is_asked_about_never_dropped() {
    let mut p = Policy::new(enforce(), 1);
    let l = level(500.0, 500.0);
    let case =
        Case { source: addr("203.0.113.5"), level: &l, net: None, busy_share: 0.12, busy: None, interface: None };
    let v = p.judge(NOW, &case, &thresholds(), &empty());
    assert!(v.decision.is_none());
    assert!(v.alert.unwrap().outcome.contains("12%"));
    let v = p.judge(NOW, &Case { busy_share: 0.05, ..case }, &thresholds(), &empty());
    assert_eq!(v.decision.unwrap().action, Action::Drop);
}

#[test]
fn a_source_that_was_strange_while_learning_is_asked_about() {
    let mut p = Policy::new(enforce(), 1);
    let l = level(50.0, 50.0);
    let case = Case { source: addr("203.0.113.5"), level: &l, net: None, busy_share: 0.0, busy: None, interface: None };
    let t = Thresholds { strange: vec![addr("203.0.113.5")], ..thresholds() };
    let v = p.judge(NOW, &case, &t, &empty());
    assert!(v.decision.is_none() && v.alert.unwrap().outcome.contains("asks a person"));
}

#[test]
fn the_allow_list_and_the_safe_set_win_and_the_alert_says_so() {
    let guard = Guard::new(
        vec![Allow { prefix: prefix("203.0.113.0/28"), created_us: 0, expires_us: None, comment: "the office".into() }],
        vec![Safe { prefix: prefix("203.0.113.99"), why: "name server".into() }],
    );
    let d = Decisions::new(Limits::default(), guard, 1);
    let mut p = Policy::new(enforce(), 1);
    for (source, why) in [("203.0.113.5", "the office"), ("203.0.113.99", "name server")] {
        let v = judge(&mut p, source, &level(100.0, 100.0), &d);
        assert!(v.decision.is_none());
        assert!(v.alert.unwrap().outcome.contains(why));
    }
    assert!(judge(&mut p, "203.0.113.98", &level(100.0, 100.0), &d).decision.is_some(), "the neighbour");
}

#[test]
fn one_alert_per_source_until_it_gets_worse_or_time_passes() {
    let mut p = Policy::new(PolicyConfig { mode: Mode::Observe, ..enforce() }, 1);
    let d = empty();
    let weak = level(11.0, 0.0);
    assert_eq!(judge(&mut p, "203.0.113.5", &weak, &d).alert.unwrap().severity, Severity::Low);
    assert!(judge(&mut p, "203.0.113.5", &weak, &d).alert.is_none());
    assert!(judge(&mut p, "203.0.113.6", &weak, &d).alert.is_some(), "another source");
    assert_eq!(judge(&mut p, "203.0.113.5", &level(21.0, 0.0), &d).alert.unwrap().severity, Severity::Medium);
    assert_eq!(judge(&mut p, "203.0.113.5", &level(21.0, 16.0), &d).alert.unwrap().severity, Severity::High);
    assert!(judge(&mut p, "203.0.113.5", &level(99.0, 99.0), &d).alert.is_none());
    let case =
        Case { source: addr("203.0.113.5"), level: &weak, net: None, busy_share: 0.0, busy: None, interface: None };
    assert_eq!(p.judge(NOW + 3600 * S, &case, &thresholds(), &d).alert.unwrap().id, 5);
}

#[test]
fn what_holds_already_is_not_decided_again() {
    let mut p = Policy::new(enforce(), 1);
    let mut d = empty();
    let v = judge(&mut p, "203.0.113.5", &level(12.0, 0.0), &d);
    d.add(v.decision.unwrap(), NOW).unwrap();
    let v = judge(&mut p, "203.0.113.5", &level(13.0, 0.0), &d);
    assert!(v.decision.is_none() && v.note.contains("holds already"), "{}", v.note);
    let v = judge(&mut p, "203.0.113.5", &level(20.0, 20.0), &d);
    assert_eq!(v.decision.as_ref().unwrap().action, Action::Drop, "a shadow entry does not stand in for a drop");
    d.add(v.decision.unwrap(), NOW).unwrap();
    assert!(judge(&mut p, "203.0.113.5", &level(30.0, 30.0), &d).decision.is_none());
}

#[test]
fn too_many_decisions_trip_the_breaker_to_shadow_and_then_to_nothing() {
    let mut p = Policy::new(PolicyConfig { max_per_hour: 5, ..enforce() }, 1);
    let d = empty();
    let verdicts: Vec<Verdict> =
        (0..12).map(|i| judge(&mut p, &format!("203.0.113.{i}"), &level(20.0, 20.0), &d)).collect();
    let actions: Vec<Option<Action>> = verdicts.iter().map(|v| v.decision.as_ref().map(|d| d.action)).collect();
    let expected = [vec![Some(Action::Drop); 5], vec![Some(Action::Shadow); 5], vec![None; 2]].concat();
    assert_eq!(actions, expected);
    assert_eq!(verdicts.iter().map(|v| v.tripped).filter(|t| *t).count(), 1);
    assert!(verdicts[5].note.contains("breaker tripped"), "{}", verdicts[5].note);
    assert!(verdicts[11].note.contains("held back") && p.tripped());
    assert_eq!(p.held_back(), 2);
    assert!(verdicts.iter().all(|v| v.alert.is_some()), "people still hear of all of them");

    let l = level(20.0, 20.0);
    let case =
        Case { source: addr("198.51.100.1"), level: &l, net: None, busy_share: 0.0, busy: None, interface: None };
    let v = p.judge(NOW + 3600 * S, &case, &thresholds(), &d);
    assert_eq!(v.decision.unwrap().action, Action::Drop, "an hour later it has closed again");
}

#[test]
fn a_clock_that_steps_neither_opens_the_breaker_nor_keeps_it_tripped() {
    const DAY: i64 = 86_400 * S as i64;
    for step in [DAY, -DAY] {
        let mut p = Policy::new(PolicyConfig { max_per_hour: 5, ..enforce() }, 1);
        (0..6).for_each(|i| drop(judge(&mut p, &format!("203.0.113.{i}"), &level(20.0, 20.0), &empty())));
        p.clock_stepped(step);
        let l = level(20.0, 20.0);
        let case =
            Case { source: addr("198.51.100.1"), level: &l, net: None, busy_share: 0.0, busy: None, interface: None };
        let mut after = |us: u64| {
            let now = NOW.saturating_add_signed(step) + us;
            p.judge(now, &case, &thresholds(), &empty()).decision.map(|d| d.action)
        };
        assert_eq!(after(60 * S), Some(Action::Shadow), "by {step}");
        assert_eq!(after(3601 * S), Some(Action::Drop), "by {step}");
    }
}

#[test]
fn a_drifted_role_leads_to_no_automatic_drop() {
    let mut p = Policy::new(enforce(), 1);
    p.suspend(vec![Place { profile: ProfileId::Source, role: LOGIN }]);
    let v = judge(&mut p, "203.0.113.5", &level(20.0, 20.0), &empty());
    assert_eq!(v.decision.unwrap().action, Action::Shadow);
    assert!(v.note.contains("drifted"), "{}", v.note);
    p.suspend(vec![
        Place { profile: ProfileId::Core, role: LOGIN },
        Place { profile: ProfileId::Source, role: Role::All },
    ]);
    let v = judge(&mut p, "203.0.113.6", &level(20.0, 20.0), &empty());
    assert_eq!(v.decision.unwrap().action, Action::Drop);
}

#[test]
fn several_offenders_of_one_64_are_stopped_together_unless_it_holds_someone_protected() {
    let own = level(5.0, 5.0);
    let net = Level { offenders: [3, 3], ..level(40.0, 40.0) };
    let case = Case {
        source: addr("2001:db8:66:1::7"),
        level: &own,
        net: Some(&net),
        busy_share: 0.0,
        busy: None,
        interface: None,
    };
    let mut p = Policy::new(enforce(), 1);
    let v = p.judge(NOW, &case, &thresholds(), &empty());
    assert_eq!(v.decision.unwrap().target.to_string(), "2001:db8:66:1::/64");
    assert_eq!(v.alert.unwrap().evidence_proven, 40.0);

    // Another address of it is no news.
    let next = Case { source: addr("2001:db8:66:1::8"), ..case };
    assert!(p.judge(NOW, &next, &thresholds(), &empty()).alert.is_none());

    let one = Level { offenders: [1, 1], ..net.clone() };
    let v = Policy::new(enforce(), 1).judge(NOW, &Case { net: Some(&one), ..case }, &thresholds(), &empty());
    assert_eq!(v, Verdict::default(), "one offender is judged by its own evidence");

    let guard = Guard::new(Vec::new(), vec![Safe { prefix: prefix("2001:db8:66:1::1"), why: "router".into() }]);
    let d = Decisions::new(Limits::default(), guard, 1);
    let v = Policy::new(enforce(), 1).judge(NOW, &case, &thresholds(), &d);
    assert_eq!(v.decision.unwrap().target.to_string(), "2001:db8:66:1::7", "the host alone");
}

#[test]
fn a_64_that_carries_much_is_asked_about_and_its_own_offenders_are_stopped_alone() {
    let net = Level { offenders: [3, 3], ..level(40.0, 40.0) };
    let mut busy = Busy::new();
    let share = |share| vec![Carrier { net: prefix("2001:db8:66:1::/64"), share }];
    busy.set_carriers(share(0.25));
    let verdict = |own: &Level, busy: &Busy| {
        let source = addr("2001:db8:66:1::7");
        let case = Case { source, level: own, net: Some(&net), busy_share: 0.0, busy: Some(busy), interface: None };
        Policy::new(enforce(), 1).judge(NOW, &case, &thresholds(), &empty())
    };
    // Its hosts did a little each. The agent has only just started: what the baseline held is all that it knows.
    let v = verdict(&level(5.0, 5.0), &busy);
    assert!(v.decision.is_none(), "{v:?}");
    let asked = v.question.unwrap();
    assert!(asked.why.contains("this network carries 25% of what is normal here"), "{}", asked.why);
    assert_eq!(asked.proposed.target.to_string(), "2001:db8:66:1::/64");
    assert_eq!(asked.unanswered, Unanswered::Nothing);
    // One of them did enough by itself.
    let v = verdict(&level(40.0, 40.0), &busy);
    assert!(v.question.is_none());
    let d = v.decision.unwrap();
    assert_eq!((d.target.to_string(), d.action), ("2001:db8:66:1::7".to_owned(), Action::Drop));
    // The control: a network that carries little.
    busy.set_carriers(share(0.04));
    assert_eq!(verdict(&level(5.0, 5.0), &busy).decision.unwrap().target.to_string(), "2001:db8:66:1::/64");
}

#[test]
fn a_bundle_that_was_not_learned_here_alerts_and_does_no_more_than_it_may() {
    let foreign = PolicyConfig { mode: Mode::Enforce, default_bundle: true, ..PolicyConfig::default() };
    let said = |config: PolicyConfig| {
        let v = judge(&mut Policy::new(config, 1), "203.0.113.5", &level(40.0, 40.0), &empty());
        let outcome = v.alert.expect("an alert").outcome;
        assert!(outcome.ends_with("; by the default bundle, not learned here"), "{outcome}");
        (v.decision.map(|d| d.action), outcome)
    };
    let (action, outcome) = said(PolicyConfig { alerts_only: true, promoted: true, ..foreign.clone() });
    assert!(action.is_none() && outcome.starts_with("alert only: `default_model` allows no more"), "{outcome}");
    let (action, outcome) = said(foreign.clone());
    assert_eq!(action, Some(Action::Shadow));
    assert!(outcome.starts_with("shadow only (`default_model` allows no drops)"), "{outcome}");
    let (action, outcome) = said(PolicyConfig { promoted: true, ..foreign });
    assert_eq!(action, Some(Action::Drop), "{outcome}");
    // The control: a bundle that was learned here says nothing of it.
    let v = judge(&mut Policy::new(enforce(), 1), "203.0.113.5", &level(40.0, 40.0), &empty());
    assert_eq!(v.alert.unwrap().outcome, "blocked for 1h");
}

#[test]
fn a_flood_in_made_up_names_neither_trips_the_breaker_nor_buries_people_in_alerts() {
    let mut p = Policy::new(PolicyConfig { max_per_hour: 5, ..enforce() }, 1);
    let d = empty();
    let forged: Vec<Verdict> =
        (0..1000u32).map(|i| judge(&mut p, &format!("203.{}.{}.1", i / 250, i % 250), &level(20.0, 0.0), &d)).collect();
    assert_eq!(forged.iter().filter(|v| v.decision.is_some()).count(), 5);
    assert_eq!(forged.iter().filter(|v| v.alert.is_some()).count(), 5);
    assert_eq!(forged.iter().filter(|v| v.flooded).count(), 1, "people are told once that there are more");
    assert_eq!((p.held_back(), p.unalerted(), p.tripped()), (995, 995, false));
    let real = judge(&mut p, "192.0.2.7", &level(20.0, 20.0), &d);
    assert_eq!(real.decision.unwrap().action, Action::Drop, "who is real is dropped all the same");
    assert!(real.alert.is_some() && real.alert.unwrap().id == 6);
    // An hour later there is room again.
    let l = level(20.0, 0.0);
    let case = Case { source: addr("203.0.113.9"), level: &l, net: None, busy_share: 0.0, busy: None, interface: None };
    let v = p.judge(NOW + 3600 * S, &case, &thresholds(), &d);
    assert!(v.alert.is_some() && v.decision.is_some());
}

#[test]
fn silence_never_drops_who_may_well_be_normal() {
    use crate::question::Unanswered;
    let acting = PolicyConfig { unanswered: Unanswered::Act, question_ttl_us: 7, ..enforce() };
    let l = level(50.0, 50.0);
    let case =
        Case { source: addr("203.0.113.5"), level: &l, net: None, busy_share: 0.12, busy: None, interface: None };
    let busy = Policy::new(acting.clone(), 1).judge(NOW, &case, &thresholds(), &empty()).question.unwrap();
    assert_eq!((busy.unanswered, busy.proposed.action, busy.ttl_us), (Unanswered::Nothing, Action::Drop, 7));
    let t = Thresholds { strange: vec![case.source], ..thresholds() };
    let usual = Case { busy_share: 0.0, ..case };
    let strange = Policy::new(acting.clone(), 1).judge(NOW, &usual, &t, &empty()).question.unwrap();
    assert_eq!(strange.unanswered, Unanswered::Nothing);
    // Whom the agent would drop by itself it may drop unanswered, if it was configured so.
    let mut review = Policy::new(PolicyConfig { mode: Mode::Review, ..acting }, 1);
    let mut decisions = empty();
    let v = review.judge(NOW, &usual, &thresholds(), &decisions);
    assert_eq!(v.question.as_ref().map(|q| q.unanswered), Some(Unanswered::Act));
    let shadow = v.decision.unwrap();
    assert_eq!((shadow.action, shadow.alert_id), (Action::Shadow, v.question.unwrap().proposed.alert_id));
    // The open question hears of more, while the shadow entry holds; one that drops leaves nothing to ask.
    decisions.add(shadow, NOW).unwrap();
    let v = review.judge(NOW + 1, &usual, &thresholds(), &decisions);
    assert!(v.decision.is_none() && v.question.is_some(), "{}", v.note);
    let dropped = NewDecision { origin: Origin::Manual, action: Action::Drop, ..v.question.unwrap().proposed };
    decisions.add(dropped, NOW + 2).unwrap();
    assert!(review.judge(NOW + 3, &usual, &thresholds(), &decisions).question.is_none());
}
