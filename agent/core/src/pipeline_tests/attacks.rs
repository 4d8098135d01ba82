//! Attackers who know the policy, and try to have others stopped or not to be stopped themselves.

use super::*;
use crate::guard::Safe;
use crate::policy::MAX_UNPROVEN_TTL_US;
use crate::policy::rule::{Act, Ask, Lasts, Notify, Rule, Then, When, Width};
use crate::question::Unanswered;

const GATEWAY: &str = "192.0.2.254";
const DNS: &str = "198.51.100.53";
const OPERATOR: &str = "203.0.113.7";

/// As a person would write who wants everything stopped for good.
fn stop_all(act: Act, width: Width) -> Vec<Rule> {
    let then = Then {
        width,
        lasts: Some(Lasts::once(365 * 86_400 * S)),
        mode: Some(Mode::Enforce),
        notify: Notify::Always,
        ..Then::new(act)
    };
    vec![Rule { name: "stop everything".into(), when: When::default(), then }]
}

fn agent(rules: Vec<Rule>) -> Agent {
    let mut agent = Agent::new();
    let safe = |a: &str, why: &str| Safe { prefix: prefix(a), why: why.to_owned() };
    let safe = vec![safe(GATEWAY, "gateway"), safe(DNS, "name server"), safe(OPERATOR, "login session of root")];
    agent.decisions = Decisions::new(Limits::default(), Guard::new(Vec::new(), safe), 1);
    // No breaker that would help.
    let config =
        PolicyConfig { rules: rules.into(), max_per_hour: 1_000_000, home: home(), ..agent.policy.config().clone() };
    agent.policy.set_config(config);
    agent
}

/// Ten thousand innocent addresses, and those that must stay reachable.
fn innocents() -> Vec<String> {
    let many = (0..10_000u32).map(|i| format!("192.0.{}.{}", 3 + i / 250, 1 + i % 250));
    many.chain([GATEWAY, DNS, OPERATOR].map(str::to_owned)).collect()
}

#[derive(Clone, Copy, Debug)]
enum Flood {
    Syn,
    BlindAck,
    Udp,
}

/// What the flood looks like is as strange as can be, to both detectors.
fn flooded(flood: Flood, rules: Vec<Rule>) -> Agent {
    let mut agent = agent(rules);
    let innocents = innocents();
    for s in 0..8u64 {
        let at = s * S;
        let mut p = Vec::new();
        for (i, source) in innocents.iter().enumerate() {
            let forged = Tcp::new(source, 20_000 + s as u16, "10.0.0.1", 80);
            match flood {
                Flood::Syn => p.push(forged.fwd(at, SYN, 60)),
                Flood::BlindAck => {
                    p.extend([forged.fwd(at, SYN, 60), forged.bwd(at + 1, SYN_ACK, 60)]);
                    p.push(Pkt { ack: 4711, ..forged.fwd(at + 2, ACK, 52) });
                }
                Flood::Udp => p.push(Pkt { proto: 17, flags: 0, ..forged.fwd(at, 0, 400) }),
            }
            // Every fortieth has real sessions going on, and so do those who must stay reachable.
            if i % 40 == 0 || i >= 10_000 {
                p.extend(Tcp::new(source, 1_000 + s as u16, "10.0.0.1", 443).whole(at));
            }
        }
        // One who really guesses passwords meanwhile.
        for i in 0..25u16 {
            p.extend(Tcp::new("203.0.114.66", 2_000 + s as u16 * 25 + i, "10.0.0.1", 22).whole(at + u64::from(i)));
        }
        p.sort_by_key(|p| p.at);
        let flow_p = |proven| if proven { 0.5 } else { 1e-5 };
        agent.epoch_with(at + S, &p, flow_p, |flows, role| match role {
            Role::SourceProven if flows <= 20.0 => 0.5,
            _ => 1e-5,
        });
    }
    agent
}

#[test]
fn whoever_a_flood_is_forged_from_is_never_dropped_whatever_the_rules_say() {
    let limit = Act::Limit("1pps".parse().unwrap());
    let rules = [
        Vec::new(),
        stop_all(Act::Drop, Width::Auto),
        stop_all(Act::Drop, Width::Net { v4: 24, v6: 48 }),
        stop_all(limit, Width::Port),
        stop_all(limit, Width::Host),
    ];
    for flood in [Flood::Syn, Flood::BlindAck, Flood::Udp] {
        for rules in &rules {
            let agent = flooded(flood, rules.clone());
            let said = format!("{flood:?} with {:?}", rules.iter().map(ToString::to_string).collect::<Vec<_>>());
            let least = match rules.first().map(|r| r.then.width) {
                Some(Width::Net { .. }) => 40,
                // Of those of whom only windows are known yet, nobody knows the protocol.
                Some(Width::Port) => 200,
                _ => 5_000,
            };
            assert!(agent.made.len() > least, "{said}: only {} decisions, so nothing is shown", agent.made.len());
            let attacker = addr("203.0.114.66");
            for d in &agent.made {
                if d.target.prefix().contains(attacker) {
                    continue;
                }
                assert_ne!(d.action, Action::Drop, "{said}: {d:?}");
                assert_ne!(d.instead_of, Some(Action::Drop), "{said}: {d:?}");
                assert!(d.ttl_us.is_some_and(|t| t <= MAX_UNPROVEN_TTL_US), "{said}: {d:?}");
                for safe in [GATEWAY, DNS, OPERATOR] {
                    assert!(!d.target.prefix().contains(addr(safe)), "{said}: {d:?}");
                }
            }
            // The control: the one who proved himself is stopped as the rule says.
            let stopped: Vec<_> = agent.made.iter().filter(|d| d.target.prefix().contains(attacker)).collect();
            let expected = rules.first().map_or(Some(Action::Drop), |r| r.then.act.action());
            assert!(stopped.iter().any(|d| Some(d.action) == expected), "{said}: {stopped:?}");
        }
    }
}

#[test]
fn who_changes_the_address_within_a_64_is_stopped_with_all_of_it_and_the_neighbour_is_not() {
    let mut agent = agent(Vec::new());
    for s in 0..16u64 {
        let mut p = Vec::new();
        for i in 0..25u16 {
            let from = format!("2001:db8:66:1::{:x}", 1 + s);
            p.extend(Tcp::new(&from, 2_000 + s as u16 * 25 + i, "2001:db8:1::1", 22).whole(s * S + u64::from(i)));
        }
        p.extend(Tcp::new("2001:db8:66:2::1", 1_000 + s as u16, "2001:db8:1::1", 443).whole(s * S));
        p.sort_by_key(|p| p.at);
        agent.epoch((s + 1) * S, &p, |flows| if flows > 20.0 { 1e-5 } else { 0.5 });
    }
    let stopped = agent.stopped(16 * S);
    assert!(stopped.contains(&("2001:db8:66:1::/64".to_owned(), Action::Drop)), "{stopped:?}");
    assert!(!stopped.iter().any(|(t, _)| t.starts_with("2001:db8:66:2")), "{stopped:?}");
}

#[test]
fn who_has_an_address_of_a_64_for_every_connection_is_stopped_with_all_of_it() {
    for proven in [true, false] {
        let mut agent = agent(Vec::new());
        for s in 0..60u64 {
            let mut p = Vec::new();
            for i in 0..25u64 {
                let login = Tcp::new(&format!("2001:db8:66:1::{:x}", 1 + s * 25 + i), 2_000, "2001:db8:1::1", 22);
                match proven {
                    true => p.extend(login.whole(s * S + i)),
                    false => p.push(login.fwd(s * S + i, SYN, 60)),
                }
            }
            // A household with as many honest connections of two hosts, and one that is quiet.
            for i in 0..12u64 {
                p.extend(
                    Tcp::new(&format!("2001:db8:66:2::{}", 1 + i % 2), (s * 12 + i) as u16, "2001:db8:1::1", 443)
                        .whole(s * S + i),
                );
            }
            p.extend(Tcp::new("2001:db8:66:3::1", 1_000 + s as u16, "2001:db8:1::1", 443).whole(s * S));
            p.sort_by_key(|p| p.at);
            agent.epoch((s + 1) * S, &p, |flows| if flows > 30.0 { 1e-5 } else { 0.5 });
        }
        let stopped = agent.stopped(60 * S);
        let expected = ("2001:db8:66:1::/64".to_owned(), if proven { Action::Drop } else { Action::Shadow });
        assert_eq!(stopped, [expected], "proven: {proven}");
        let alert = agent.alerts.iter().map(|a| render::line(&Event::Alert(Box::new(a.clone())))).next_back().unwrap();
        assert!(alert.contains(" 2001:db8:66:1::/64: evidence") && alert.contains("to port 22"), "{alert}");
    }
}

#[test]
fn a_proxy_with_many_honest_users_is_asked_about_however_bad_it_looks_and_silence_stops_nobody() {
    let ask = Some(Ask { ttl_us: 60 * S, unanswered: Unanswered::Act });
    let limit = Act::Limit("1pps".parse().unwrap());
    for act in [Act::Drop, limit] {
        let mut rules = stop_all(act, Width::Auto);
        rules[0].then.ask = ask;
        let mut agent = agent(rules);
        let visit = |s: u64| {
            let mut p = Vec::new();
            for i in 0..5u16 {
                p.extend(
                    Tcp::new("203.0.113.80", 1_000 + (s * 5) as u16 + i, "10.0.0.1", 443).whole(s * S + u64::from(i)),
                );
            }
            p.extend(Tcp::new("192.0.2.10", 1_000 + s as u16, "10.0.0.1", 443).whole(s * S));
            p.sort_by_key(|p| p.at);
            p
        };
        // An hour's standing, in short: what its users do is counted after a while.
        for s in 0..40 {
            agent.epoch((s + 1) * S, &visit(s), |_| 0.5);
            (0..5).for_each(|_| agent.busy.add((s + 1) * S + WALL, addr("203.0.113.80")));
            agent.busy.add((s + 1) * S + WALL, addr("192.0.2.10"));
        }
        agent.busy.advance(400 * S + WALL, |_| false);
        assert!(agent.busy.share(addr("203.0.113.80")) > 0.5);
        for s in 400..420 {
            agent.epoch((s + 1) * S, &visit(s), |flows| if flows > 8.0 { 1e-5 } else { 0.5 });
        }
        assert!(!agent.questions.is_empty(), "{act:?}");
        for q in &agent.questions {
            assert_eq!((q.source, q.unanswered), (addr("203.0.113.80"), Unanswered::Nothing), "{q:?}");
            assert!(q.why.contains("proxy"), "{q:?}");
        }
        assert!(agent.made.iter().all(|d| d.action == Action::Shadow), "{:?}", agent.made);
    }
}
