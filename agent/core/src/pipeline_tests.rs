//! The parts together, packets to decisions, as the agent wires them. Scores come from a stand-in for the models.

mod attacks;

use crate::addr::Addr;
use crate::busy::Busy;
use crate::decision::Action;
use crate::decisions::{Decisions, Limits, NewDecision};
use crate::event::{Alert, Anomaly, Event, Mode};
use crate::evidence::{Evidence, EvidenceConfig, Thresholds};
use crate::feature::{core_matrix, source_matrix};
use crate::guard::Guard;
use crate::policy::rule::{Act, Rule, Then, When, Width};
use crate::policy::{Case, Policy, PolicyConfig};
use crate::profile::ProfileId;
use crate::question::NewQuestion;
use crate::render;
use crate::role::Role;
use crate::table::{EpochOutput, FlowTable, TableConfig};
use crate::testkit::*;
use crate::window::{SourceWindows, WindowCaps};

const WALL: u64 = 1_735_689_600 * S;

fn anomaly(profile: ProfileId, p: f64, role: Role) -> Anomaly {
    let p = p as f32;
    Anomaly {
        profile: profile.name(),
        p_value: p,
        autoencoder: p,
        isolation_forest: p,
        role,
        actionable: true,
        extrapolated: false,
        default_bundle: false,
        reasons: Vec::new(),
    }
}

struct Agent {
    table: FlowTable,
    windows: SourceWindows,
    evidence: Evidence,
    busy: Busy,
    policy: Policy,
    decisions: Decisions,
    thresholds: Thresholds,
    alerts: Vec<Alert>,
    questions: Vec<NewQuestion>,
    /// Every decision that was ever made.
    made: Vec<NewDecision>,
}

impl Agent {
    fn new() -> Self {
        let thresholds = Thresholds {
            alert: 10.0,
            drop: 15.0,
            allowance: [0.5; 2],
            benign_windows: 2000,
            ..Thresholds::uncalibrated()
        };
        let policy = PolicyConfig { mode: Mode::Enforce, promoted: true, ..PolicyConfig::default() };
        Self {
            table: FlowTable::new(TableConfig { home: home(), ..TableConfig::default() }),
            windows: SourceWindows::new(2 * S, WindowCaps::default()),
            evidence: Evidence::new(EvidenceConfig::new(2 * S, &thresholds)),
            busy: Busy::new(),
            policy: Policy::new(policy, 1),
            decisions: Decisions::new(Limits::default(), Guard::default(), 1),
            thresholds,
            alerts: Vec::new(),
            questions: Vec::new(),
            made: Vec::new(),
        }
    }

    /// One epoch. `source_p` scores a row of profile `source`, by how many flows it saw.
    fn epoch(&mut self, end_us: u64, packets: &[Pkt], source_p: impl Fn(f32) -> f64) {
        self.epoch_with(end_us, packets, |_| 0.3, |flows, _| source_p(flows));
    }

    /// One epoch. `flow_p` scores a flow by whether it is proven; `source_p` a source's row by how many flows it saw, and its
    /// role.
    fn epoch_with(
        &mut self,
        end_us: u64,
        packets: &[Pkt],
        flow_p: impl Fn(bool) -> f64,
        source_p: impl Fn(f32, Role) -> f64,
    ) {
        let now = end_us + WALL;
        let mut out = EpochOutput::default();
        self.table.epoch(end_us, WALL as i64, drain(packets).into_iter(), &mut out);
        let mut rows = Vec::new();
        self.windows.epoch(now, &out.touched, &mut rows);

        let flows = core_matrix(&out.records);
        for (i, r) in out.records.iter().enumerate() {
            self.evidence.add_flow(now, r, &anomaly(ProfileId::Core, flow_p(r.proven), flows.role(i)));
        }
        let sources = source_matrix(&rows);
        for (i, row) in rows.iter().enumerate() {
            let p = source_p(sources.row(i)[0], sources.role(i));
            self.evidence.add_window(now, row, &anomaly(ProfileId::Source, p, sources.role(i)));
        }
        for source in self.evidence.take_changed() {
            let Some(level) = self.evidence.level(source, now) else { continue };
            let net = self.evidence.net_level(source, now);
            let (busy_share, busy) = (self.busy.share(source), Some(&self.busy));
            let case = Case { source, level: &level, net: net.as_ref(), busy_share, busy, interface: None };
            let verdict = self.policy.judge(now, &case, &self.thresholds, &self.decisions);
            self.alerts.extend(verdict.alert);
            self.questions.extend(verdict.question);
            if let Some(new) = verdict.decision {
                self.made.push(new.clone());
                // A table that is full refuses.
                let _ = self.decisions.add(new, now);
            }
        }
        self.decisions.expire(now);
    }

    fn stopped(&self, now: u64) -> Vec<(String, Action)> {
        self.decisions.wanted(now + WALL).map(|w| (w.target.to_string(), w.decision.action)).collect()
    }
}

#[test]
fn a_password_guesser_is_stopped_in_seconds_and_whose_name_is_forged_is_not() {
    let mut agent = Agent::new();
    let honest = "192.0.2.10";
    for s in 0..12u64 {
        let at = s * S;
        let mut p = Vec::new();
        for i in 0..20u16 {
            // Twenty logins a second, each complete.
            p.extend(Tcp::new("203.0.113.66", 2000 + s as u16 * 20 + i, "10.0.0.1", 22).whole(at + u64::from(i)));
            // As many forged SYNs in an honest client's name, with blind ACKs.
            let forged = Tcp::new(honest, 30_000 + s as u16 * 20 + i, "10.0.0.1", 80);
            p.extend([forged.fwd(at, SYN, 60), forged.bwd(at + 1, SYN_ACK, 60)]);
            p.push(Pkt { ack: 4711, ..forged.fwd(at + 2, ACK, 52) });
        }
        p.extend(Tcp::new(honest, 1000 + s as u16, "10.0.0.1", 443).whole(at));
        p.sort_by_key(|p| p.at);
        agent.epoch(at + S, &p, |flows| if flows > 20.0 { 1.0 / 801.0 } else { 0.5 });
    }
    let stopped = agent.stopped(12 * S);
    assert!(stopped.contains(&("203.0.113.66".to_owned(), Action::Drop)), "{stopped:?}");
    assert!(!stopped.contains(&(honest.to_owned(), Action::Drop)), "{stopped:?}");
    assert_eq!(agent.evidence.values(honest.parse::<Addr>().unwrap(), 12 * S + WALL)[1], 0.0);

    let alert = agent.alerts.iter().find(|a| a.source == addr("203.0.113.66")).unwrap();
    let text = render::line(&Event::Alert(Box::new(alert.clone())));
    assert!(text.contains("203.0.113.66") && text.contains("to port 22"), "{text}");

    // It lapses by itself.
    agent.epoch(2 * 3600 * S, &[], |_| 0.5);
    assert!(agent.stopped(2 * 3600 * S).is_empty());
}

#[test]
fn a_rule_stops_the_strange_flow_that_goes_on_and_leaves_its_host_the_others() {
    let mut agent = Agent::new();
    let then = Then { width: Width::Flow, ..Then::new(Act::Drop) };
    let rules = [Rule { name: "tunnel".into(), when: When::default(), then }];
    agent.policy.set_config(PolicyConfig { rules: rules.into(), ..agent.policy.config().clone() });
    let long = Tcp::new("203.0.113.66", 5555, "10.0.0.1", 443);
    let mut p = long.handshake(0);
    for s in 0..40u64 {
        let at = s * S;
        // One conversation that goes on, and short ones that are over as soon as they are looked at.
        p.extend((1..20).flat_map(|i| [long.fwd(at + 300 + i * 20, ACK, 900), long.bwd(at + 310 + i * 20, ACK, 900)]));
        let short = |i: u16| Tcp::new("203.0.113.66", 10_000 + s as u16 * 8 + i, "10.0.0.1", 443).whole(at + 700);
        p.extend((0..8).flat_map(short));
        if s == 39 {
            p.extend([long.fwd(at + 900, FIN_ACK, 52), long.bwd(at + 950, FIN_ACK, 52)]);
        }
        p.sort_by_key(|p| p.at);
        agent.epoch_with(at + S, &p, |_| 1e-4, |_, _| 1e-4);
        p.clear();
    }
    let (flow, drops) = ("tcp:203.0.113.66:5555-10.0.0.1:443", |d: &NewDecision| d.action == Action::Drop);
    assert!(agent.made.iter().all(|d| d.target.to_string() == flow), "{:?}", agent.made);
    assert_eq!(agent.made.iter().filter(|d| drops(d)).count(), 1, "{:?}", agent.made);
    let going_on = |agent: &Agent, s: u64| agent.evidence.level(addr("203.0.113.66"), s * S + WALL).unwrap().going_on;
    assert!(going_on(&agent, 40).iter().all(Option::is_some));
    agent.epoch(42 * S, &[], |_| 0.5);
    agent.epoch(60 * S, &[], |_| 0.5);
    assert_eq!(going_on(&agent, 60), [None; 2], "what has ended is no target");
}
