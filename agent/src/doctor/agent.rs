//! What a running agent says: capacity against what is seen, mode, drift, losses, warnings. Without one, what its maps tell.

use weir_common::names::FLOW_RECORDS;
use weir_kernel::pins;

use super::finding::{Check, Finding};
use crate::command::{MapUse, StatusReport, XdpMode};
use crate::config::Config;
use crate::human;

const RUNNING: Check = Check {
    id: "agent.running",
    title: "agent",
    why: "entries stay without it until they expire, and nothing new is found or decided",
};
const VERSION: Check = Check {
    id: "agent.version",
    title: "version of the agent",
    why: "commands of another version may know other things than the agent",
};
const MODE: Check = Check {
    id: "agent.mode",
    title: "mode",
    why: "what is configured and what holds differ until a model was learned and promoted",
};
const GENERIC: Check = Check {
    id: "agent.xdp",
    title: "how the XDP program runs",
    why: "in generic mode each packet costs more, and sizes of what GRO has joined are not those of the wire",
};
const FLOWS: Check = Check {
    id: "capacity.flows",
    title: "room for flows",
    why: "packets of flows for which there is no room are let pass by the same rules, and counted in no flow",
};
const ENTRIES: Check = Check {
    id: "capacity.entries",
    title: "room for entries",
    why: "where there is no room, what is decided cannot be enforced",
};
const LOST: Check =
    Check { id: "agent.lost", title: "losses", why: "what was lost is in no alert, no record and no log" };
const DRAIN: Check = Check {
    id: "agent.drain",
    title: "time to read the counts",
    why: "an epoch whose counts take longer to read than it lasts delays every decision",
};
const DRIFT: Check = Check {
    id: "model.drift",
    title: "drift",
    why: "where what is seen is not what was learned any more, nothing is dropped automatically",
};
const THRESHOLDS: Check = Check {
    id: "model.thresholds",
    title: "thresholds",
    why: "a rate of false alerts that the calibration is too short to vouch for is a guess",
};
const WARNINGS: Check =
    Check { id: "agent.warnings", title: "warnings of the agent", why: "the agent says what an operator should know" };

/// Thresholds of the bundle that serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Certified {
    pub certified: bool,
    pub budget_per_day: f64,
    pub windows: u64,
    pub note: String,
}

/// How the agent answers.
#[derive(Clone, Debug)]
pub enum Agent {
    Runs(Box<StatusReport>),
    /// There is none.
    Absent(String),
    /// It may run, and this process may not ask.
    Unknown(String),
}

#[derive(Clone, Debug)]
pub struct Reading<'a> {
    pub agent: &'a Agent,
    pub config: &'a Config,
    pub interfaces: &'a [String],
    pub thresholds: Option<Certified>,
    /// Packets for which there was no room, by interface, as maps without an agent tell.
    pub overflow: Vec<(String, u64)>,
}

pub fn judge(r: &Reading<'_>) -> Vec<Finding> {
    let mut all = match r.agent {
        Agent::Runs(status) => running(status, r.config),
        Agent::Absent(why) => {
            let found = RUNNING.note(why.lines().next().unwrap_or_default());
            let mut all = vec![match r.interfaces.first() {
                Some(name) => found.mend(format!("weir run -i {name}")),
                None => found.mend("ip -br link; weir run -i INTERFACE"),
            }];
            all.extend(r.overflow.iter().map(|(name, packets)| flows_without_agent(name, *packets, r.config)));
            all
        }
        Agent::Unknown(why) => vec![RUNNING.unknown(why.lines().next().unwrap_or_default()).mend("sudo weir doctor")],
    };
    all.extend(r.thresholds.as_ref().map(thresholds));
    all
}

fn running(s: &StatusReport, config: &Config) -> Vec<Finding> {
    let mut all = vec![RUNNING.ok(format!("runs since {}", human::rough(human::micros(s.uptime_us))))];
    all.push(match s.version == env!("CARGO_PKG_VERSION") {
        true => VERSION.ok(s.version.clone()),
        false => VERSION
            .warning(format!("the agent is {}, this command {}", s.version, env!("CARGO_PKG_VERSION")))
            .mend("systemctl restart weir"),
    });
    all.push(match s.mode_reason.is_empty() {
        true => MODE.ok(s.mode_effective.name()),
        false => MODE.note(format!(
            "{} holds, {} is configured: {}",
            s.mode_effective.name(),
            s.mode_configured.name(),
            s.mode_reason
        )),
    });
    all.extend(s.xdp_mode.map(|mode| match mode {
        XdpMode::Native => GENERIC.ok("native"),
        XdpMode::Generic => {
            let mend = "systemctl restart weir   # after what the other findings name is mended";
            GENERIC.warning(format!("generic: {}", s.xdp_cause)).mend(mend)
        }
    }));
    let overflow: u64 = s.counters.iter().filter(|c| c.name.ends_with("_overflow")).map(|c| c.packets).sum();
    for map in &s.maps {
        all.push(match map.name == FLOW_RECORDS {
            true => flows(map, overflow, config),
            false => entries(map),
        });
    }
    let lost: Vec<_> =
        s.lost.iter().filter(|l| l.count > 0).map(|l| format!("{} {}", human::grouped(l.count), l.name)).collect();
    all.push(match lost.is_empty() {
        true => LOST.ok("none"),
        false => LOST.warning(lost.join(", ")).mend("weir status"),
    });
    let epoch = config.epoch.as_micros() as u64;
    let drained =
        format!("{} of an epoch of {}", human::rough(human::micros(s.drain_last_us)), human::duration(config.epoch));
    all.push(match s.drain_last_us * 2 > epoch {
        true => DRAIN
            .warning(drained)
            .mend("${EDITOR:-vi} /etc/weir/weir.yaml   # a longer epoch, or a smaller capacity.flows"),
        false => DRAIN.ok(drained),
    });
    all.push(match s.drifted.is_empty() {
        true => DRIFT.ok("none"),
        false => DRIFT.warning(s.drifted.join(", ")).mend("weir model drift; weir learn"),
    });
    match s.warnings.is_empty() {
        true => all.push(WARNINGS.ok("none")),
        false => all.extend(s.warnings.iter().map(|w| WARNINGS.warning(w.clone()).mend("weir status"))),
    }
    all
}

/// Twice as much as now, and more than was seen.
fn larger(config: &Config, most: u64) -> String {
    let wanted = (most * 2).next_multiple_of(1000);
    let file = crate::config::DEFAULT_PATH;
    let memory = pins::flow_bytes(&pins::Capacity {
        flows: u32::try_from(wanted).unwrap_or(u32::MAX),
        ..crate::app::capacity(config)
    });
    format!(
        "${{EDITOR:-vi}} {file}   # capacity: {{flows: {}}}, which takes {}; then: systemctl restart weir",
        human::count(wanted),
        human::bytes(memory)
    )
}

fn flows(map: &MapUse, overflow: u64, config: &Config) -> Finding {
    let share = 100 * map.entries / map.max_entries.max(1);
    let seen =
        format!("{} of {} in the last epoch ({share}%)", human::grouped(map.entries), human::grouped(map.max_entries));
    let full = format!("{seen}, and {} packets found no room since the maps were made", human::grouped(overflow));
    match (share, overflow) {
        (100.., _) => FLOWS.error(full).mend(larger(config, map.max_entries)),
        (_, 1..) => FLOWS.warning(full).mend(larger(config, map.max_entries)),
        (80.., _) => FLOWS.warning(seen).mend(larger(config, map.max_entries)),
        _ => FLOWS.ok(seen),
    }
}

fn flows_without_agent(interface: &str, overflow: u64, config: &Config) -> Finding {
    let most = u64::from(config.capacity.flows);
    match overflow {
        0 => FLOWS.ok("no packet was without room since the maps were made"),
        n => FLOWS
            .note(format!(
                "{} packets found no room since the maps were made; without an agent nobody makes any",
                human::grouped(n)
            ))
            .mend(larger(config, most)),
    }
    .on(interface)
}

fn entries(map: &MapUse) -> Finding {
    let share = 100 * map.entries / map.max_entries.max(1);
    let seen = format!("{} of {} ({share}%)", human::grouped(map.entries), human::grouped(map.max_entries));
    let mend = format!(
        "${{EDITOR:-vi}} {}   # a larger capacity.blocks; then: systemctl restart weir",
        crate::config::DEFAULT_PATH
    );
    match share {
        95.. => ENTRIES.error(seen).mend(mend),
        80.. => ENTRIES.warning(seen).mend(mend),
        _ => ENTRIES.ok(seen),
    }
}

fn thresholds(t: &Certified) -> Finding {
    let seen = format!(
        "{} false alerts a day, from {} windows of benign traffic",
        t.budget_per_day,
        human::grouped(t.windows)
    );
    match t.certified {
        true => THRESHOLDS.ok(format!("certified: {seen}")),
        false => THRESHOLDS.note(format!("not certified: {seen}; {}", t.note)).mend("weir learn --duration 7d"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity::{self, *};
    use super::*;
    use crate::command::{Counter, NamedCount};

    fn status() -> StatusReport {
        StatusReport {
            version: env!("CARGO_PKG_VERSION").into(),
            interface: "eth0".into(),
            ifindex: 2,
            interfaces: Vec::new(),
            seen_twice: Default::default(),
            mode_configured: weir_core::event::Mode::Shadow,
            mode_effective: weir_core::event::Mode::Shadow,
            mode_reason: String::new(),
            xdp_mode: Some(XdpMode::Native),
            xdp_cause: String::new(),
            uptime_us: 1,
            bundle: None,
            learning: None,
            flows_live: 0,
            flows_last_epoch: 10,
            epochs: 1,
            drain_last_us: 10,
            drain_max_us: 10,
            lost: vec![NamedCount { name: "events".into(), count: 0 }],
            counters: vec![Counter { name: "in_overflow".into(), packets: 0, bytes: 0 }],
            decisions: Vec::new(),
            maps: vec![
                MapUse { name: FLOW_RECORDS.into(), entries: 10, max_entries: 1000, bytes: 0 },
                MapUse { name: "ENTRIES".into(), entries: 10, max_entries: 1000, bytes: 0 },
            ],
            warnings: Vec::new(),
            netflow: None,
            challenger: None,
            record: None,
            drifted: Vec::new(),
        }
    }

    fn judged(agent: Agent, thresholds: Option<Certified>, overflow: Vec<(String, u64)>) -> Vec<Finding> {
        let config = Config::default();
        judge(&Reading { agent: &agent, config: &config, interfaces: &["eth0".into()], thresholds, overflow })
    }

    #[track_caller]
    fn is(change: impl FnOnce(&mut StatusReport), id: &str, severity: Severity, words: &str) {
        let mut s = status();
        change(&mut s);
        let all = judged(Agent::Runs(Box::new(s)), None, Vec::new());
        let found = all.iter().find(|f| f.id == id).unwrap_or_else(|| panic!("{all:?}"));
        assert!(found.severity == severity && found.seen.contains(words), "{found:?}");
        assert!(all.iter().all(|f| f.id == id || f.severity == Ok), "{all:?}");
        assert!(severity <= Note || found.command.is_some(), "{found:?}");
    }

    #[test]
    fn capacity_is_held_against_what_was_seen() {
        is(|_| {}, "capacity.flows", Ok, "10 of 1,000");
        is(|s| s.maps[0].entries = 850, "capacity.flows", Warning, "85%");
        is(|s| s.maps[0].entries = 1000, "capacity.flows", Error, "100%");
        is(|s| s.counters[0].packets = 4, "capacity.flows", Warning, "4 packets found no room");
        is(|s| s.maps[1].entries = 900, "capacity.entries", Warning, "90%");
        is(|s| s.maps[1].entries = 990, "capacity.entries", Error, "99%");
    }

    #[test]
    fn what_the_agent_says_of_itself_is_passed_on() {
        is(|s| s.version = "0.0.1".into(), "agent.version", Warning, "0.0.1");
        is(|s| s.mode_reason = "nothing was learned yet".into(), "agent.mode", Note, "nothing was learned");
        is(
            |s| (s.xdp_mode, s.xdp_cause) = (Some(XdpMode::Generic), "no ndo_bpf".into()),
            "agent.xdp",
            Warning,
            "no ndo_bpf",
        );
        is(|s| s.lost[0].count = 3, "agent.lost", Warning, "3 events");
        is(|s| s.drain_last_us = 600_000, "agent.drain", Warning, "epoch of 1s");
        is(|s| s.drifted = vec!["web".into()], "model.drift", Warning, "web");
        is(|s| s.warnings = vec!["the disk is full".into()], "agent.warnings", Warning, "the disk is full");
    }

    #[test]
    fn without_an_agent_the_maps_tell_and_who_may_not_ask_does_not_know() {
        let all =
            judged(Agent::Absent("no agent\nstart one".into()), None, vec![("eth0".into(), 7), ("eth1".into(), 0)]);
        let severities: Vec<_> = all.iter().map(|f| f.severity).collect();
        assert_eq!(severities, [Note, Note, Ok], "{all:?}");
        assert_eq!(all[0].command.as_deref(), Some("weir run -i eth0"));
        assert_eq!(judged(Agent::Unknown("denied".into()), None, Vec::new())[0].severity, Unknown);
    }

    #[test]
    fn thresholds_that_the_calibration_cannot_vouch_for_are_noted() {
        let of = |certified| {
            let t = Certified { certified, budget_per_day: 0.01, windows: 200, note: "extrapolated".into() };
            judged(Agent::Absent(String::new()), Some(t), Vec::new()).pop().unwrap()
        };
        assert_eq!((of(true).severity, of(false).severity), (Ok, Note));
        assert_eq!(of(false).command.as_deref(), Some("weir learn --duration 7d"));
    }
}
