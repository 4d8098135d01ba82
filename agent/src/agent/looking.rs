//! For those who look: rates, top sources, recorded flows, the configuration in force, calibration, logins to the web page.

use weir_common::counters::{Counter, Reason};
use weir_core::addr::{Addr, Prefix};
use weir_core::decision::{Decision, Target};
use weir_core::label::Truth;
use weir_core::record::TimeUs;
use weir_models::metrics::wilson;

use super::Agent;
use crate::clock::{boottime_us, wall_us};
use crate::collateral::Readers;
use crate::command::{CommandError, LiveCommand, Reply};
use crate::compare;
use crate::live::search::{Found, Query, Search};
use crate::proto as pb;
use crate::store::MAX_ALERTS;

/// Sources of one answer.
const MAX_SOURCES: usize = 1000;
/// What was said of the top sources stands for so long: many may look.
const FRESH_US: u64 = 1_000_000;
/// The record's open file is closed for a search at most this often.
const FLUSH_EVERY_US: u64 = 5_000_000;

/// What the agent keeps for those who look.
#[derive(Default)]
pub(super) struct Looking {
    /// Counts at the last second, and when that was on the boot-time clock.
    before: Option<(u64, Counts)>,
    top: Option<(TimeUs, usize, pb::TopSourcesResponse)>,
    readers: Readers,
    flushed_us: TimeUs,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    passed: Counter,
    dropped: Counter,
    limited: Counter,
    shadowed: Counter,
    opened: u64,
}

impl Counts {
    fn add(&mut self, reason: Reason, n: Counter) {
        use Reason::*;
        let to = match reason {
            // What is counted in these has no other verdict; the rest says more about some of the same packets.
            InPass | OutPass | InOverflow | OutOverflow | InNotIp | OutNotIp | InMalformed | OutMalformed => {
                &mut self.passed
            }
            InDropped | OutDropped => &mut self.dropped,
            InLimited | OutLimited => &mut self.limited,
            InShadowed | OutShadowed => &mut self.shadowed,
            _ => return,
        };
        to.packets += n.packets;
        to.bytes += n.bytes;
    }
}

pub(super) fn carry_out(agent: &mut Agent, command: LiveCommand) {
    match command {
        LiveCommand::TopSources { limit, reply } => drop(reply.send(Ok(agent.top_sources(limit)))),
        LiveCommand::SearchFlows { query, reply } => agent.search(query, reply),
        LiveCommand::ShowConfig { reply } => drop(reply.send(Ok(agent.show_config()))),
        LiveCommand::ModelCalibration { reply } => drop(reply.send(Ok(agent.calibration()))),
        LiveCommand::WebLogin { name, role, by, reply } => {
            let made = agent.access.web().issue(&name, role, &by);
            drop(reply.send(made.map_err(CommandError::from)));
        }
    }
}

impl Agent {
    /// Every second: what went by since the last one.
    pub fn second(&mut self) {
        if self.moved {
            let now = self.now();
            self.follow_surroundings(now);
        }
        let (now, at) = (wall_us(), boottime_us());
        let mut counts = Counts { opened: self.pipeline.opened(), ..Counts::default() };
        match self.counted() {
            Ok(all) => all.into_iter().for_each(|(reason, n)| counts.add(reason, n)),
            // The status says so where it lasts.
            Err(e) => return log::debug!("the kernel's counters cannot be read: {e}"),
        }
        let scores = self.pipeline.gauge.as_mut().map(|g| g.take()).unwrap_or_default();
        let Some((before_at, before)) = self.looking.before.replace((at, counts)) else { return };
        let since = |now: Counter, then: Counter| {
            [now.packets.saturating_sub(then.packets), now.bytes.saturating_sub(then.bytes)]
        };
        let [packets_passed, bytes_passed] = since(counts.passed, before.passed);
        let [packets_dropped, bytes_dropped] = since(counts.dropped, before.dropped);
        let [packets_limited, bytes_limited] = since(counts.limited, before.limited);
        let [packets_shadowed, bytes_shadowed] = since(counts.shadowed, before.shadowed);
        let point = pb::TrafficPoint {
            time_us: now,
            interval_us: at.saturating_sub(before_at),
            packets_passed,
            bytes_passed,
            packets_dropped,
            bytes_dropped,
            packets_limited,
            bytes_limited,
            packets_shadowed,
            bytes_shadowed,
            flows_new: counts.opened.saturating_sub(before.opened),
            flows_live: self.pipeline.live_flows() as u64,
        };
        self.live.second(point, scores);
    }

    fn top_sources(&mut self, limit: usize) -> pb::TopSourcesResponse {
        let limit = limit.min(MAX_SOURCES);
        let now = wall_us();
        let fresh = |(at, n, _): &&(TimeUs, usize, _)| now.saturating_sub(*at) < FRESH_US && now >= *at && *n >= limit;
        let mut answer = match self.looking.top.as_ref().filter(fresh) {
            Some((.., answer)) => answer.clone(),
            None => {
                let answer = self.rank_sources(limit, now);
                self.looking.top = Some((now, limit, answer.clone()));
                answer
            }
        };
        answer.sources.truncate(limit);
        answer
    }

    fn rank_sources(&self, limit: usize, now: TimeUs) -> pb::TopSourcesResponse {
        let evidence = self.pipeline.evidence();
        let sources = evidence.top(limit, now).into_iter().filter_map(|(source, [all, proven])| {
            let level = evidence.level(source, now)?;
            Some(pb::TopSource {
                source: source.to_string(),
                evidence: all,
                evidence_proven: proven,
                flows: level.flows,
                since_us: level.since_us,
                last_us: level.last_us,
                ports: level.ports.into_iter().map(u32::from).collect(),
                remote: level.remote,
                decided: self.decided_about(source, now),
            })
        });
        let thresholds = self.pipeline.serving().map(|m| &m.thresholds);
        pb::TopSourcesResponse {
            sources: sources.collect(),
            alert_threshold: thresholds.map(|t| t.alert),
            drop_threshold: thresholds.map(|t| t.drop),
            known: evidence.len() as u64,
        }
    }

    /// The strictest of what holds for a source: on its address, or on a network around it.
    fn decided_about(&self, source: Addr, now: TimeUs) -> Option<pb::Decision> {
        let around = (0..=Prefix::host(source).len()).rev().map(|len| Target::Net(Prefix::new(source, len)));
        let held = around.filter_map(|t| self.decisions.wanted_on(t, now).map(|h| (t, h)));
        let (target, held) = held.reduce(|a, b| if b.1.action > a.1.action { b } else { a })?;
        let single = self.decisions.get(held.id).cloned();
        let decision = single.unwrap_or_else(|| Decision {
            id: held.id,
            target,
            action: held.action,
            limit: held.limit,
            sides: held.sides,
            origin: held.origin,
            created_us: 0,
            expires_us: held.expires_us,
            reason: self.decisions.list_of(held.id).map(|l| format!("on the list {}", l.name)).unwrap_or_default(),
            instead_of: held.instead_of,
            alert_id: None,
        });
        Some(decision.into())
    }

    /// The answer comes from a thread: the record is read.
    fn search(&mut self, query: Query, reply: Reply<Found>) {
        let Some(archive) = self.archive.as_ref().filter(|a| a.enabled()) else {
            let words = "no flows are recorded; set `record.enabled` in the configuration";
            return drop(reply.send(Err(CommandError::Refused(words.to_owned()))));
        };
        let now = wall_us();
        let due = now.saturating_sub(self.looking.flushed_us) >= FLUSH_EVERY_US || now < self.looking.flushed_us;
        if due {
            self.looking.flushed_us = now;
        }
        let search = Search {
            query,
            dir: archive.dir().to_owned(),
            flusher: due.then(|| archive.flusher()),
            model: self.pipeline.serving().cloned(),
        };
        let tell = move |found: Result<Found, String>| drop(reply.send(found.map_err(CommandError::Refused)));
        if let Err(e) = search.start(&self.looking.readers, tell) {
            // The reply is gone with the thread that was not started: the caller is told that no answer came.
            self.warn("search", format!("the record could not be searched: {e}"));
        }
    }

    fn show_config(&self) -> pb::ShowConfigResponse {
        let shown = self.config.without_secrets();
        let changed = crate::config::Config::default().diff(&shown).into_iter().map(|k| k.path.to_owned()).collect();
        pb::ShowConfigResponse {
            yaml: shown.to_yaml(),
            summary: shown.summary().lines().map(str::to_owned).collect(),
            policy: shown.policy.rules.iter().map(|r| format!("{}: {r}", r.name)).collect(),
            warnings: shown.warnings(),
            changed,
        }
    }

    fn calibration(&self) -> pb::ModelCalibrationResponse {
        let (Some(model), Some(gauge)) = (self.pipeline.serving(), &self.pipeline.gauge) else {
            return pb::ModelCalibrationResponse::default();
        };
        let now = wall_us();
        let spread = &gauge.spread;
        let profiles = spread.profiles.iter().map(|(name, p)| {
            let certified = compare::certified(model, name);
            let points = p.values.curve().map(|(asked, n)| {
                let (low, high) = wilson(n as f64, p.rows as f64);
                let realised = n as f64 / p.rows.max(1) as f64;
                pb::CalibrationPoint { asked, realised, low, high, certified: certified <= asked }
            });
            pb::ProfileCalibration {
                profile: (*name).to_owned(),
                rows: p.rows,
                withheld: p.withheld,
                points: points.collect(),
                distance: p.values.distance_to_uniform(p.rows),
            }
        });
        let since_us = if spread.since_us == 0 { now } else { spread.since_us };
        pb::ModelCalibrationResponse {
            bundle: model.bundle.id().to_owned(),
            since_us,
            profiles: profiles.collect(),
            alerts: Some(self.alert_rate(since_us, now)),
        }
    }

    fn alert_rate(&self, since_us: TimeUs, now: TimeUs) -> pb::AlertRate {
        let (alerts, earlier) = self.alerts.list(None, since_us, MAX_ALERTS);
        // Of more alerts than are at hand, the time that those took.
        let from = alerts.last().filter(|_| earlier).map_or(since_us, |a| a.time_us);
        let over_us = now.saturating_sub(from);
        let said = |truth: Truth| {
            let labels = self.review.labels.iter().filter(|l| l.undone.is_none() && l.truth == truth);
            labels.filter(|l| alerts.iter().any(|a| a.id == l.alert_id)).count() as u64
        };
        let days = (over_us.max(1) as f64) / 86_400e6;
        pb::AlertRate {
            budget_per_day: self.config.alert_budget_per_day,
            alerts: alerts.len() as u64,
            over_us,
            per_day: alerts.len() as f64 / days,
            said_attack: said(Truth::Attack),
            said_false_alarm: said(Truth::FalseAlarm),
        }
    }
}
