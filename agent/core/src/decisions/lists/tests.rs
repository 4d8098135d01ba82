use super::*;
use crate::addr::Addr;
use crate::decision::{Action, Origin, Sides};
use crate::decisions::{Limits, NewDecision};
use crate::guard::{Allow, Guard, Safe};
use crate::testkit::{S, prefix};
use proptest::prelude::*;

const HOUR: u64 = 3600 * S;
const NOW: TimeUs = 1_000_000 * S;
const DROP: Rule = Rule { action: Action::Drop, limit: None, sides: Sides::Both };
const SHADOW: Rule = Rule { action: Action::Shadow, ..DROP };

fn table() -> Decisions {
    let safe = Safe { prefix: prefix("198.51.100.1"), why: "default gateway of eth0".into() };
    Decisions::new(Limits::default(), Guard::new(Vec::new(), vec![safe]), 1)
}

fn draft(name: &str, rule: Rule, members: &[(&str, TimeUs)]) -> Draft {
    let mut d = Draft::new(name.into(), From::Import, "a test".into());
    let rule = d.rule(rule).unwrap();
    for (p, expires_us) in members {
        d.push(prefix(p), rule, 0, *expires_us);
    }
    d
}

fn allow(p: &str) -> Allow {
    Allow { prefix: prefix(p), created_us: NOW, expires_us: None, comment: "a friend".into() }
}

fn by_hand(target: &str, ttl_s: u64) -> NewDecision {
    NewDecision {
        target: target.parse().unwrap(),
        action: Action::Drop,
        limit: None,
        sides: Sides::Both,
        origin: Origin::Manual,
        ttl_us: Some(ttl_s * S),
        reason: String::new(),
        instead_of: None,
        alert_id: None,
        confirm_within_us: None,
    }
}

fn wanted(t: &Decisions, now: TimeUs) -> Vec<String> {
    t.wanted(now).map(|w| format!("{} {:?} {}", w.target, w.decision.action, w.decisions)).collect()
}

#[test]
fn a_list_is_replaced_as_a_whole_and_what_stays_keeps_its_number() {
    let mut t = table();
    let first = t.take_list(draft("a", DROP, &[("203.0.113.1", NEVER), ("203.0.113.2", NEVER)]), Take::Replace, NOW);
    assert_eq!((first.as_ref().unwrap().added, first.unwrap().members), (2, 2));
    let id = t.wanted_on("203.0.113.2".parse().unwrap(), NOW).unwrap().id;
    let next =
        draft("a", DROP, &[("203.0.113.9", NEVER), ("203.0.113.2", NOW + HOUR), ("203.0.113.2", NOW + 2 * HOUR)]);
    let change = t.take_list(next, Take::Replace, NOW).unwrap();
    assert_eq!((change.members, change.added, change.kept, change.removed), (2, 1, 1, 1));
    assert_eq!(wanted(&t, NOW), ["203.0.113.2 Drop 1", "203.0.113.9 Drop 1"]);
    let held = t.wanted_on("203.0.113.2".parse().unwrap(), NOW).unwrap();
    assert_eq!((held.id, held.expires_us), (id, Some(NOW + 2 * HOUR)), "of two the longer");
    let told: Vec<_> = change.told.iter().map(|(new, d)| (*new, d.target.to_string())).collect();
    assert_eq!(told, [(true, "203.0.113.9".to_owned()), (false, "203.0.113.1".to_owned())]);
    let joined = t.take_list(draft("a", SHADOW, &[("203.0.113.7", NEVER)]), Take::Join, NOW).unwrap();
    assert_eq!((joined.members, joined.added, joined.kept, joined.removed), (3, 1, 2, 0));
    assert_eq!(t.remove_list("a").unwrap().len(), 3);
    assert!(wanted(&t, NOW).is_empty());
    assert!(matches!(t.remove_list("a"), Err(ListRefusal::Unknown(_))));
}

#[test]
fn a_target_is_held_as_long_as_a_list_or_a_person_holds_it() {
    let mut t = table();
    let target: Target = "203.0.113.5".parse().unwrap();
    t.take_list(draft("a", DROP, &[("203.0.113.5", NOW + HOUR)]), Take::Replace, NOW).unwrap();
    t.take_list(draft("b", SHADOW, &[("203.0.113.5", NEVER), ("203.0.113.0/24", NEVER)]), Take::Replace, NOW).unwrap();
    let id = t.add(by_hand("203.0.113.5", 60), NOW).unwrap().decision().id;
    assert_eq!(wanted(&t, NOW), ["203.0.113.0/24 Shadow 1", "203.0.113.5 Drop 3"]);
    t.delete(id).unwrap();
    assert_eq!(t.wanted_on(target, NOW).unwrap().action, Action::Drop, "list a holds it still");
    assert_eq!(t.wanted_on(target, NOW + HOUR).unwrap().action, Action::Shadow, "then list b does");
    assert_eq!(t.lists_with(target), ["a", "b"]);
    let gone = t.expire_lists(NOW + HOUR);
    assert_eq!((gone.len(), gone[0].0.as_str(), gone[0].2), (1, "a", 1));
    assert!(t.list("a").unwrap().is_empty());
    t.remove_list("b").unwrap();
    assert_eq!(t.wanted_on(target, NOW), None);
    assert!(wanted(&t, NOW).is_empty());
}

#[test]
fn what_is_protected_is_left_out_and_holds_once_it_is_not() {
    let mut t = table();
    t.allow(allow("192.0.2.0/28")).unwrap();
    let members = [("192.0.2.5", NEVER), ("192.0.2.0/24", NEVER), ("198.51.100.0/24", NEVER), ("203.0.113.5", NEVER)];
    let change = t.take_list(draft("a", DROP, &members), Take::Replace, NOW).unwrap();
    assert_eq!((change.members, change.protected), (2, 2));
    assert!(change.named.iter().any(|(p, why)| *p == prefix("198.51.100.0/24") && why.contains("default gateway")));
    // Wider than the allowed prefix: the kernel lets those pass first.
    assert_eq!(wanted(&t, NOW), ["192.0.2.0/24 Drop 1", "203.0.113.5 Drop 1"]);
    t.allow(allow("203.0.113.5")).unwrap();
    assert_eq!(wanted(&t, NOW), ["192.0.2.0/24 Drop 1"]);
    assert_eq!(t.take_remasked(), [Remasked { name: "a".into(), lifted: 1, back: 0 }]);
    t.unallow(prefix("192.0.2.0/28"));
    assert_eq!(wanted(&t, NOW), ["192.0.2.0/24 Drop 1", "192.0.2.5 Drop 1"]);
    t.set_safe(Vec::new());
    assert_eq!(wanted(&t, NOW).len(), 3);
    t.set_safe(vec![Safe { prefix: prefix("192.0.2.77"), why: "a name server".into() }]);
    assert_eq!(wanted(&t, NOW), ["192.0.2.5 Drop 1", "198.51.100.0/24 Drop 1"], "nothing reaches into the safe set");
}

#[test]
fn a_list_that_does_not_fit_changes_nothing() {
    let mut t = Decisions::new(Limits { max: 100, ..Limits::default() }, Guard::default(), 1);
    t.take_list(draft("a", DROP, &[("203.0.113.5", NEVER)]), Take::Replace, NOW).unwrap();
    let mut large = Draft::new("a".into(), From::Import, String::new());
    let rule = large.rule(DROP).unwrap();
    for n in 0..91u8 {
        large.push(Prefix::host(std::net::IpAddr::from([10, 0, 0, n]).into()), rule, 0, NEVER);
    }
    let refused = t.take_list(large.clone(), Take::Replace, NOW).unwrap_err();
    assert!(matches!(refused, ListRefusal::Full { entries: 91, room: 90, .. }), "{refused}");
    assert_eq!(wanted(&t, NOW), ["203.0.113.5 Drop 1"]);
    large.members.pop();
    t.take_list(large, Take::Replace, NOW).unwrap();
    for n in 0..10 {
        t.add(by_hand(&format!("203.0.113.{n}"), 60), NOW).expect("there is room for people");
    }
    let other = Draft { from: From::Source("/etc/a".into()), ..draft("a", DROP, &[]) };
    assert!(matches!(t.take_list(other, Take::Replace, NOW), Err(ListRefusal::Owned { .. })));
    assert!(matches!(t.take_list(draft("../a", DROP, &[]), Take::Replace, NOW), Err(ListRefusal::Name(_))));
}

#[test]
fn too_wide_members_are_refused_one_by_one_and_named() {
    let mut t = table();
    let members = [("0.0.0.0/0", NEVER), ("10.0.0.0/7", NEVER), ("2000::/3", NEVER), ("10.0.0.0/8", NEVER)];
    let change = t.take_list(draft("a", DROP, &members), Take::Replace, NOW).unwrap();
    assert_eq!((change.members, change.too_wide), (1, 3));
    assert_eq!(wanted(&t, NOW), ["10.0.0.0/8 Drop 1"]);
    let mut t = table();
    let many: Vec<String> = (30..60).map(|len| format!("2001:db8::/{len}")).collect();
    let many: Vec<(&str, TimeUs)> = many.iter().map(|p| (p.as_str(), NEVER)).collect();
    assert_eq!(t.take_list(draft("a", DROP, &many), Take::Replace, NOW), Err(ListRefusal::Lengths(30)));
}

#[test]
fn a_stored_list_comes_back_with_its_numbers_and_what_is_left_of_its_time() {
    let mut t = table();
    let members = [("203.0.113.1", NOW + HOUR), ("203.0.113.2", NEVER), ("198.51.100.1", NEVER)];
    t.take_list(draft("a", DROP, &members), Take::Replace, NOW).unwrap();
    let list = t.list("a").unwrap();
    let all = list.members().iter().chain(list.masked().iter()).copied().collect();
    let draft = Draft { members: all, ..draft("a", DROP, &[]) };
    let stored = StoredList { draft, created_us: NOW, replaced_us: NOW, taken_us: NOW };
    let mut again = table();
    again.restore_list(stored.clone(), NOW + HOUR / 2, Some(HOUR / 2)).unwrap();
    assert_eq!(wanted(&again, NOW + HOUR / 2), ["203.0.113.1 Drop 1", "203.0.113.2 Drop 1"]);
    assert_eq!(again.list("a").unwrap().masked().len(), 1);
    let id = |t: &Decisions, target: &str| t.wanted_on(target.parse().unwrap(), NOW).unwrap().id;
    assert_eq!(id(&again, "203.0.113.2"), id(&t, "203.0.113.2"));
    assert_eq!(again.next_id(), t.next_id());
    let mut late = table();
    late.restore_list(stored, NOW + 2 * HOUR, Some(2 * HOUR)).unwrap();
    assert_eq!(wanted(&late, NOW + 2 * HOUR), ["203.0.113.2 Drop 1"]);
}

proptest! {
    /// Lists and single decisions against what they mean: each target in order, with the strictest that lives.
    #[test]
    fn what_is_wanted_is_the_strictest_of_all_that_hold(
        members in proptest::collection::vec((0u8..3, 0u8..8, 24u8..=32, any::<bool>(), 0u64..4), 0..60),
        hand in proptest::collection::vec((0u8..8, 1u64..4), 0..8),
        after in 0u8..8,
    ) {
        let mut t = table();
        let mut meant = std::collections::BTreeMap::<Target, Vec<(Action, TimeUs)>>::new();
        for name in 0..3 {
            let mut d = Draft::new(format!("l{name}"), From::Import, String::new());
            let rules = [d.rule(DROP).unwrap(), d.rule(SHADOW).unwrap()];
            for (_, host, len, drop, hours) in members.iter().filter(|m| m.0 == name) {
                let p = Prefix::new(std::net::IpAddr::from([203, 0, 113, host * 32]).into(), *len);
                let end = if *hours == 0 { NEVER } else { NOW + hours * HOUR };
                d.push(p, rules[usize::from(!drop)], 0, end);
                meant.entry(Target::Net(p)).or_default().push((if *drop { Action::Drop } else { Action::Shadow }, end));
            }
            t.take_list(d, Take::Replace, NOW).unwrap();
        }
        for (host, hours) in hand {
            let target: Target = format!("203.0.113.{}", u32::from(host) * 32).parse().unwrap();
            t.add(by_hand(&target.to_string(), hours * 3600), NOW).unwrap();
            meant.entry(target).or_default().push((Action::Drop, NOW + hours * HOUR));
        }
        for now in [NOW, NOW + HOUR, NOW + 3 * HOUR] {
            let strictest = |all: &Vec<(Action, TimeUs)>| all.iter().copied().filter(|(_, end)| *end > now).max();
            let expected: Vec<_> = meant.iter().filter_map(|(t, all)| Some((*t, strictest(all)?))).collect();
            let found: Vec<_> = t
                .wanted(now)
                .map(|w| (w.target, (w.decision.action, w.decision.expires_us.unwrap_or(NEVER))))
                .collect();
            prop_assert_eq!(&found, &expected);
            for (target, strictest) in &expected {
                let on = t.wanted_on(*target, now).unwrap();
                prop_assert_eq!((on.action, on.expires_us.unwrap_or(NEVER)), *strictest);
            }
            let from: Target = format!("203.0.113.{}", u32::from(after) * 32).parse().unwrap();
            let rest: Vec<_> = t.wanted_after(Some(from), now).map(|w| w.target).collect();
            let expected: Vec<_> = expected.iter().map(|(t, _)| *t).filter(|t| *t > from).collect();
            prop_assert_eq!(rest, expected);
        }
    }

    #[test]
    fn protection_of_many_is_that_of_one(
        safe in proptest::collection::vec((any::<u8>(), 20u8..=32), 0..6),
        allowed in proptest::collection::vec((any::<u8>(), 20u8..=32), 0..6),
        asked in (any::<u8>(), 20u8..=32),
    ) {
        let p = |(n, len): (u8, u8)| Prefix::new(std::net::IpAddr::from([10, 0, n / 16, n]).into(), len);
        let safe: Vec<Safe> = safe.into_iter().map(|s| Safe { prefix: p(s), why: String::new() }).collect();
        let allowed: Vec<Allow> = allowed.into_iter().map(|a| Allow { prefix: p(a), ..allow("10.0.0.0/8") }).collect();
        let asked = p(asked);
        let first = u128::from_be_bytes(asked.addr().0);
        let mut each = (0..1u128 << (32 - asked.len())).map(|n| Addr((first + n).to_be_bytes()));
        let all_allowed = each.all(|addr| allowed.iter().any(|a| a.prefix.contains(addr)));
        let expected = safe.iter().any(|s| s.prefix.overlaps(asked)) || all_allowed;
        prop_assert_eq!(Guard::new(allowed, safe).spans().protect(asked), expected);
    }
}
