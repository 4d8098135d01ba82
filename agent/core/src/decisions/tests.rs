use super::*;
use crate::testkit::{S, prefix};
use proptest::prelude::*;

const HOUR: u64 = 3600 * S;
const NOW: TimeUs = 1_000_000 * S;

fn new(target: &str, action: Action, origin: Origin, ttl_s: u64) -> NewDecision {
    NewDecision {
        limit: None,
        target: target.parse().unwrap(),
        action,
        sides: Sides::In,
        origin,
        ttl_us: Some(ttl_s * S),
        reason: "a reason".into(),
        instead_of: None,
        alert_id: None,
        confirm_within_us: None,
    }
}
fn manual(target: &str, ttl_s: u64) -> NewDecision {
    new(target, Action::Drop, Origin::Manual, ttl_s)
}
fn automatic(target: &str, ttl_s: u64) -> NewDecision {
    new(target, Action::Drop, Origin::Automatic, ttl_s)
}

fn allow(p: &str, expires_us: Option<u64>) -> Allow {
    Allow { prefix: prefix(p), created_us: NOW, expires_us, comment: "the office".into() }
}
fn safe(p: &str) -> Safe {
    Safe { prefix: prefix(p), why: "default gateway of eth0".into() }
}

fn table() -> Decisions {
    let guard = Guard::new(vec![allow("192.0.2.0/28", None)], vec![safe("198.51.100.1")]);
    Decisions::new(Limits::default(), guard, 1)
}

fn wanted(t: &Decisions, now: TimeUs) -> Vec<(String, Action, u64)> {
    t.wanted(now).map(|w| (w.target.to_string(), w.decision.action, w.decision.id)).collect()
}

#[test]
fn a_decision_holds_until_it_expires_and_its_id_is_never_used_again() {
    let mut t = table();
    let id = t.add(manual("203.0.113.5", 60), NOW).unwrap().decision().id;
    assert_eq!(wanted(&t, NOW + 59 * S), [("203.0.113.5".to_owned(), Action::Drop, id)]);
    assert!(t.expire(NOW + 59 * S).0.is_empty());
    assert!(wanted(&t, NOW + 60 * S).is_empty(), "an expired decision is not wanted, even before it is taken out");
    assert_eq!(t.expire(NOW + 60 * S).0.len(), 1);
    assert!(t.is_empty());
    assert_eq!(t.add(manual("203.0.113.5", 60), NOW).unwrap().decision().id, id + 1);
    assert_eq!(t.delete(id), Err(Refusal::Unknown(id)));
}

#[test]
fn a_flow_or_port_of_who_is_protected_is_refused_with_the_reason() {
    let mut t = table();
    for target in ["198.51.100.1/udp/from/53", "udp:198.51.100.1:53-10.0.0.1:4000"] {
        let e = t.add(manual(target, 60), NOW).unwrap_err();
        assert!(e.to_string().contains("must stay reachable: default gateway of eth0"), "{e}");
    }
    for target in ["192.0.2.7/tcp/from/443", "tcp:192.0.2.7:443-10.0.0.1:4000"] {
        let e = t.add(manual(target, 60), NOW).unwrap_err();
        assert!(e.to_string().contains("the office"), "{e}");
    }
    // Our own end may be protected, as it is on every host: it is not what is stopped.
    t.set_safe(vec![safe("10.0.0.1")]);
    t.add(manual("tcp:203.0.113.5:443-10.0.0.1:4000", 60), NOW).unwrap();
    let e = t.add(manual("tcp:10.0.0.1:4000-203.0.113.5:443", 60), NOW).unwrap_err();
    assert!(e.to_string().ends_with("is tcp:203.0.113.5:443-10.0.0.1:4000 meant?"), "{e}");
    // Who becomes protected is freed of what is narrower, too.
    t.add(manual("203.0.113.5/udp/from/53", 60), NOW).unwrap();
    assert_eq!(t.allow(allow("203.0.113.5", None)).unwrap().len(), 2);
    assert!(t.is_empty());
}

#[test]
fn no_more_flows_are_decided_on_than_the_kernel_has_room_for_and_others_still_are() {
    let limits = Limits { max_flows: 2, ..Limits::default() };
    let mut t = Decisions::new(limits.clone(), Guard::default(), 1);
    let flow = |port| manual(&format!("tcp:203.0.113.5:{port}-10.0.0.1:80"), 60);
    let first = t.add(flow(1), NOW).unwrap().decision().id;
    t.add(flow(2), NOW).unwrap();
    assert_eq!(t.add(flow(3), NOW), Err(Refusal::FlowsFull { max: 2 }));
    t.add(flow(2), NOW).unwrap();
    t.add(manual("203.0.113.5/tcp/from/3", 60), NOW).unwrap();
    let stored = t.snapshot(NOW);
    let fewer = Limits { max_flows: 1, ..limits };
    let (restored, left_out) = Decisions::restore(stored, fewer, Vec::new(), NOW, None);
    assert_eq!((restored.len(), left_out.len()), (2, 1));
    t.delete(first).unwrap();
    t.add(flow(3), NOW).unwrap();
}

#[test]
fn the_allow_list_and_the_safe_set_always_win_and_say_why() {
    let mut t = table();
    for target in ["192.0.2.5", "192.0.2.0/24", "192.0.2.5/tcp/22", "192.0.0.0/8"] {
        let e = t.add(manual(target, 60), NOW).unwrap_err();
        assert!(e.to_string().contains("the office") && e.to_string().contains("weir allowlist remove"), "{e}");
    }
    for target in ["198.51.100.1", "198.51.100.0/24"] {
        let e = t.add(automatic(target, 60), NOW).unwrap_err();
        assert!(e.to_string().contains("default gateway of eth0"), "{e}");
    }
    assert!(t.add(manual("192.0.2.99", 60), NOW).is_ok(), "the neighbour can be stopped");
}

#[test]
fn an_allow_entry_purges_the_bans_it_covers() {
    let mut t = table();
    let a = t.add(manual("203.0.113.5", 60), NOW).unwrap().decision().id;
    let b = t.add(automatic("203.0.113.6", 60), NOW).unwrap().decision().id;
    let c = t.add(manual("203.0.113.7/tcp/22", 60), NOW).unwrap().decision().id;
    t.add(manual("203.0.114.7", 60), NOW).unwrap();
    t.add(manual("203.0.0.0/16", 60), NOW).unwrap();
    let mut gone: Vec<u64> = t.allow(allow("203.0.113.0/24", None)).unwrap().iter().map(|d| d.id).collect();
    gone.sort();
    assert_eq!(gone, [a, b, c]);
    assert_eq!(t.len(), 2, "the neighbour and the wider ban stay");
    assert!(t.allowed(NOW).any(|(p, _)| p == prefix("203.0.113.0/24")));
    t.unallow(prefix("203.0.113.0/24")).unwrap();
    assert!(t.add(manual("203.0.113.5", 60), NOW).is_ok());
}

#[test]
fn a_new_safe_set_frees_who_is_in_it() {
    let mut t = table();
    t.add(manual("203.0.113.0/24", 60), NOW).unwrap();
    assert_eq!(t.set_safe(vec![safe("203.0.113.254")]).len(), 1);
    assert!(t.is_empty());
}

#[test]
fn an_expired_allow_entry_protects_no_longer() {
    let mut t = table();
    t.allow(allow("203.0.113.5", Some(NOW + HOUR))).unwrap();
    assert!(t.add(manual("203.0.113.5", 60), NOW).is_err());
    assert!(t.add(manual("203.0.113.5", 60), NOW + HOUR).is_ok());
    assert_eq!(t.expire(NOW + HOUR).1.len(), 1);
}

#[test]
fn several_decisions_on_one_target_fold_into_the_strictest_live_one() {
    let mut t = table();
    let shadow = t.add(new("203.0.113.5", Action::Shadow, Origin::Manual, 7200), NOW).unwrap().decision().id;
    let drop = t.add(automatic("203.0.113.5", 60), NOW).unwrap().decision().id;
    assert_eq!(wanted(&t, NOW)[0].2, drop);
    assert_eq!(t.wanted(NOW).next().unwrap().decisions, 2);
    assert_eq!(wanted(&t, NOW + 61 * S)[0].2, shadow);
    assert_eq!(t.delete_target("203.0.113.5".parse().unwrap()).len(), 2);
}

#[test]
fn of_limits_the_lower_holds_and_a_drop_goes_before_them() {
    let mut t = table();
    let limit = |rate: &str| NewDecision {
        limit: Some(rate.parse().unwrap()),
        ..new("203.0.113.5", Action::Limit, Origin::Manual, 7200)
    };
    t.add(new("203.0.113.5", Action::Shadow, Origin::Manual, 7200), NOW).unwrap();
    let wide = t.add(limit("100pps"), NOW).unwrap().decision().id;
    assert_eq!(wanted(&t, NOW)[0].2, wide);
    let narrow = t.add(limit("10pps"), NOW).unwrap().decision().id;
    assert!(wide != narrow, "another rate is another decision");
    assert_eq!(wanted(&t, NOW)[0].2, narrow);
    t.add(limit("50pps"), NOW).unwrap();
    assert_eq!(wanted(&t, NOW)[0].2, narrow);
    let drop = t.add(automatic("203.0.113.5", 60), NOW).unwrap().decision().id;
    assert_eq!(wanted(&t, NOW)[0].2, drop);
    assert_eq!(wanted(&t, NOW + 61 * S)[0].2, narrow);
    let without = NewDecision { limit: None, ..limit("1pps") };
    assert_eq!(t.add(without, NOW), Err(Refusal::Rate));
    assert_eq!(t.add(NewDecision { action: Action::Drop, ..limit("1pps") }, NOW), Err(Refusal::Rate));
}

#[test]
fn the_same_decision_again_extends_and_never_shortens() {
    let mut t = table();
    t.add(automatic("203.0.113.5", 600), NOW).unwrap();
    assert!(matches!(t.add(automatic("203.0.113.5", 60), NOW).unwrap(), Added::Unchanged(_)));
    let Added::Extended(d) = t.add(automatic("203.0.113.5", 900), NOW).unwrap() else { panic!("extended") };
    assert_eq!((d.expires_us, t.len()), (Some(NOW + 900 * S), 1));
}

#[test]
fn too_wide_too_many_and_too_short_are_refused() {
    let limits = Limits { max: 3, max_automatic: 2, ..Limits::default() };
    let mut t = Decisions::new(limits, Guard::default(), 1);
    assert!(matches!(t.add(manual("0.0.0.0/7", 60), NOW), Err(Refusal::TooWide { min: 8, .. })));
    assert!(matches!(t.add(manual("2001:d00::/18", 60), NOW), Err(Refusal::TooWide { min: 19, .. })));
    assert_eq!(t.add(manual("203.0.113.5", 0), NOW), Err(Refusal::NoLifetime));
    t.add(automatic("203.0.113.1", 60), NOW).unwrap();
    t.add(automatic("203.0.113.2", 60), NOW).unwrap();
    assert_eq!(t.add(automatic("203.0.113.3", 60), NOW), Err(Refusal::AutomaticFull { max: 2 }));
    t.add(manual("203.0.113.3", 60), NOW).unwrap();
    assert_eq!(t.add(manual("203.0.113.4", 60), NOW), Err(Refusal::Full { max: 3 }));
    t.expire(NOW + HOUR);
    assert!(t.add(automatic("203.0.113.4", 60), NOW + HOUR).is_ok());
}

#[test]
fn who_keeps_hitting_a_block_stays_blocked_up_to_a_day() {
    let mut t = table();
    let id = t.add(automatic("203.0.113.5", 3600), NOW).unwrap().decision().id;
    assert_eq!(t.on_hits(id, 10, NOW + HOUR / 2), None, "not in its last minute");
    assert_eq!(t.on_hits(id, 0, NOW + HOUR - S), None, "nothing came");
    let mut end = NOW + HOUR;
    while let Some(d) = t.on_hits(id, 1, end - S) {
        assert!(d.expires_us.unwrap() > end);
        end = d.expires_us.unwrap();
    }
    assert_eq!(end, NOW + 24 * HOUR);
    assert_eq!(t.expire(end).0.len(), 1);
}

#[test]
fn what_rests_on_unproven_traffic_or_was_made_by_hand_is_not_extended() {
    let mut t = table();
    let unproven = t.add(new("203.0.113.5", Action::Shadow, Origin::Automatic, 600), NOW).unwrap().decision().id;
    let by_hand = t.add(manual("203.0.113.6", 600), NOW).unwrap().decision().id;
    let stands_in =
        NewDecision { instead_of: Some(Action::Drop), ..new("203.0.113.7", Action::Shadow, Origin::Automatic, 600) };
    let stands_in = t.add(stands_in, NOW).unwrap().decision().id;
    let close = NOW + 599 * S;
    assert_eq!(t.on_hits(unproven, 1000, close), None);
    assert_eq!(t.on_hits(by_hand, 1000, close), None);
    assert_eq!(t.on_hits(stands_in, 1, close).unwrap().expires_us, Some(NOW + 1200 * S));
}

#[test]
fn a_risky_block_lapses_unless_it_is_confirmed() {
    let mut t = table();
    let risky = NewDecision { confirm_within_us: Some(30 * S), ..manual("203.0.0.0/16", 3600) };
    let id = t.add(risky.clone(), NOW).unwrap().decision().id;
    assert_eq!(t.expire(NOW + 30 * S).0[0].id, id);
    let id = t.add(risky, NOW).unwrap().decision().id;
    let d = t.confirm(id, NOW + 10 * S).unwrap();
    assert_eq!(d.expires_us, Some(NOW + 10 * S + HOUR));
    assert_eq!(t.confirm(id, NOW + 11 * S), Err(Refusal::NotAwaiting(id)));
}

#[test]
fn lifetimes_over_a_reboot_are_the_smaller_remainder() {
    let end = Some(NOW + HOUR);
    assert_eq!(remaining_us(Some(HOUR), end, NOW + HOUR / 4, None), Some(3 * HOUR / 4));
    assert_eq!(remaining_us(Some(HOUR), end, NOW - 9 * HOUR, None), Some(HOUR), "a clock set back prolongs nothing");
    assert_eq!(remaining_us(Some(HOUR), end, NOW + 9 * HOUR, None), Some(0));
    assert_eq!(remaining_us(None, None, NOW, None), None);
    assert_eq!(remaining_us(Some(HOUR), end, NOW + 9 * HOUR, Some(HOUR / 4)), Some(3 * HOUR / 4), "same boot");
}

#[test]
fn what_is_stored_comes_back() {
    let mut t = table();
    t.add(automatic("203.0.113.5", 3600), NOW).unwrap();
    let forever = NewDecision { ttl_us: None, ..manual("203.0.113.6/tcp/22", 1) };
    t.add(forever, NOW).unwrap();
    t.add(manual("203.0.113.7", 10), NOW).unwrap();
    t.allow(allow("10.9.0.0/16", Some(NOW + HOUR))).unwrap();
    let text = serde_json::to_string(&t.snapshot(NOW)).unwrap();
    let back: Snapshot = serde_json::from_str(&text).unwrap();
    let later = NOW + 60 * S;
    let (mut r, left_out) = Decisions::restore(back, Limits::default(), vec![safe("198.51.100.1")], later, None);
    assert_eq!(left_out.len(), 1, "one lapsed meanwhile");
    assert_eq!(wanted(&r, later).len(), 2);
    assert_eq!(r.get(1).unwrap().expires_us, Some(NOW + HOUR));
    assert_eq!(r.get(2).unwrap().expires_us, None);
    assert_eq!(r.add(manual("203.0.113.9", 1), later).unwrap().decision().id, 4);
    assert!(r.check("10.9.1.1".parse().unwrap(), later).is_err());
}

proptest! {
    #[test]
    fn the_books_balance_whatever_happens(
        steps in prop::collection::vec((0u8..6, 0u8..6, any::<bool>(), 1u64..100), 1..120),
    ) {
        let mut t = Decisions::new(Limits { max: 12, max_automatic: 5, ..Limits::default() }, Guard::default(), 1);
        let mut now = NOW;
        let mut ids = BTreeSet::new();
        for (what, host, flag, n) in steps {
            let target = format!("203.0.113.{host}");
            match what {
                0 | 1 => {
                    let origin = if flag { Origin::Automatic } else { Origin::Manual };
                    let action = if n % 2 == 0 { Action::Drop } else { Action::Shadow };
                    if let Ok(Added::New(d)) = t.add(new(&target, action, origin, n), now) {
                        prop_assert!(ids.insert(d.id), "an id was used twice");
                    }
                }
                2 => { t.delete_target(target.parse().unwrap()); }
                3 => { now += n * S; t.expire(now); }
                4 => { for id in &ids { t.on_hits(*id, n, now); } }
                _ => {
                    t.allow(allow(&target, None)).unwrap();
                    prop_assert!(t.iter().all(|d| d.target.to_string() != target));
                    t.unallow(prefix(&target));
                }
            }
            prop_assert!(t.len() <= 12);
            prop_assert_eq!(t.automatic, t.iter().filter(|d| d.origin == Origin::Automatic).count());
            prop_assert_eq!(t.by_target.values().map(Vec::len).sum::<usize>(), t.len());
            prop_assert_eq!(t.expiries.len(), t.len());
        }
    }
}

#[test]
fn a_drop_takes_the_place_of_the_agents_own_shadow_entries_alone() {
    let mut t = table();
    let mut add = |d| t.add(d, NOW).unwrap().decision().id;
    let shadow = add(new("203.0.113.9", Action::Shadow, Origin::Automatic, 600));
    let by_hand = add(new("203.0.113.9", Action::Shadow, Origin::Manual, 600));
    let neighbour = add(new("203.0.113.10", Action::Shadow, Origin::Automatic, 600));
    let drop = add(automatic("203.0.113.9", 3600));
    let gone = t.remove_weaker("203.0.113.9".parse().unwrap(), Action::Drop);
    assert_eq!(gone.iter().map(|d| d.id).collect::<Vec<_>>(), [shadow]);
    assert_eq!(t.iter().map(|d| d.id).collect::<Vec<_>>(), [by_hand, neighbour, drop]);
}

#[test]
fn what_changed_since_it_was_stored_is_known_and_nothing_else() {
    let mut t = table();
    let ids: Vec<u64> =
        (1..5).map(|n| t.add(manual(&format!("203.0.113.{n}"), 60), NOW).unwrap().decision().id).collect();
    assert_eq!(t.unstored().collect::<Vec<_>>(), ids);
    t.note_stored();
    assert_eq!(t.unstored().count(), 0);
    t.extend(ids[1], Some(HOUR), NOW).unwrap();
    t.delete(ids[2]).unwrap();
    assert_eq!(t.unstored().collect::<Vec<_>>(), [ids[1], ids[2]]);
    assert_eq!(t.stored(ids[1], NOW + S).unwrap().remaining_us, Some(HOUR - S));
    assert_eq!(t.stored(ids[2], NOW), None, "it is gone");
    let (again, _) = Decisions::restore(t.snapshot(NOW), Limits::default(), vec![safe("203.0.113.1")], NOW, Some(0));
    assert_eq!(again.unstored().collect::<Vec<_>>(), [ids[0]], "what is protected now is to go from the store too");
}

#[test]
fn a_clock_that_steps_by_a_day_neither_ends_nor_prolongs_anything() {
    const DAY: i64 = 24 * HOUR as i64;
    for step in [DAY, -DAY] {
        let mut t = table();
        let id = t.add(automatic("203.0.113.5", 60), NOW).unwrap().decision().id;
        let ever = t.add(NewDecision { ttl_us: None, ..manual("203.0.113.6", 1) }, NOW).unwrap().decision().id;
        t.allow(allow("192.0.2.128/28", Some(NOW + 90 * S))).unwrap();
        let now = NOW.saturating_add_signed(step);
        t.clock_stepped(step);
        assert_eq!(t.stored(id, now).unwrap().remaining_us, Some(60 * S));
        assert_eq!((t.get(ever).unwrap().expires_us, t.wanted(now).count()), (None, 2));
        assert_eq!(t.expire(now + 59 * S), (Vec::new(), Vec::new()), "by {step}");
        assert_eq!(t.on_hits(id, 1, now + 59 * S).unwrap().expires_us, Some(now + 120 * S), "its age is what it was");
        assert_eq!(t.expire(now + 90 * S).1.len(), 1, "the allow entry's time is over");
        assert_eq!(t.expire(now + 120 * S).0.len(), 1);
    }
}
