//! Detection by source: what an agent would have said and done about whom, beside what the labels say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use weir_core::addr::{Addr, Prefix};
use weir_core::decision::Action;
use weir_core::event::{DecisionChange, Event};
use weir_core::record::TimeUs;
use weir_core::render::Rfc3339;
use weir_core::table::Touched;
use weir_source::Stop;
use weir_source::label::{Verdict, verdict};

use crate::offline::decide::Watcher;

/// Labels kept of a source.
const MAX_LABELS: usize = 8;
/// Malicious sources, and false alarms, that are named.
const MAX_NAMED: usize = 10_000;
const DAY_US: f64 = 86_400e6;

/// Whose sources benign ones are judged; of the others, a model was trained on theirs.
pub type Judges<'a> = &'a dyn Fn(Addr) -> bool;

/// When something happened to a source, counted from its first malicious flow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Until {
    /// Flows begun by then.
    pub flows: u64,
    /// Of these, flows begun before the epoch at whose end it happened. Nothing happens but at the end of an epoch, so nothing
    /// could have happened with as many, or fewer.
    pub flows_before: u64,
    pub seconds: f64,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    flows: u64,
    attack_flows: u64,
    labelled: u64,
    labels: BTreeSet<Arc<str>>,
    /// Start of the first malicious flow.
    first_us: Option<TimeUs>,
    /// Flows begun since, that one included.
    since: u64,
    /// End of the latest epoch in which flows began, and `since` before that.
    epoch_us: TimeUs,
    before: u64,
    alerted: Option<Until>,
    blocked: Option<Until>,
    alerts: u64,
    blocks: u64,
}

impl Seen {
    fn until(&self, now: TimeUs) -> Until {
        let seconds = self.first_us.map_or(0.0, |first| now.saturating_sub(first) as f64 / 1e6);
        let flows_before = if self.epoch_us == now { self.before } else { self.since };
        Until { flows: self.since, flows_before, seconds }
    }
}

/// Something said or done about a benign source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FalseAlarm {
    pub timestamp: Rfc3339,
    pub source: String,
    /// `alert` or `drop`.
    pub action: &'static str,
    pub why: String,
}

/// Watches a replay. Rows labelled as attacks make their client malicious, and so does a prefix that is named.
pub struct SourceWatch<'a> {
    malicious: &'a [Prefix],
    judges: Judges<'a>,
    timeline: u32,
    seen: BTreeMap<(u32, Addr), Seen>,
    happened: Vec<(u32, Addr, FalseAlarm)>,
}

/// What became of a source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Malicious {
    pub source: String,
    pub labels: Vec<String>,
    pub flows: u64,
    pub malicious_flows: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alerted: Option<Until>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Until>,
}

/// One replay.
#[derive(Clone, Debug, Default)]
pub struct SourceRun {
    pub malicious: Vec<Malicious>,
    pub false_alarms: Vec<FalseAlarm>,
    benign_sources: u64,
    unlabelled_sources: u64,
    benign_flows: u64,
    alerts: u64,
    alerted: u64,
    blocks: u64,
    blocked: u64,
    span_us: u64,
}

impl<'a> SourceWatch<'a> {
    pub fn new(malicious: &'a [Prefix], judges: Judges<'a>) -> Self {
        Self { malicious, judges, timeline: 0, seen: BTreeMap::new(), happened: Vec::new() }
    }

    fn named(&self, source: Addr) -> bool {
        self.malicious.iter().any(|p| p.contains(source))
    }

    fn note(&mut self, source: Addr, now: TimeUs, action: &'static str, why: String) {
        if self.happened.len() < MAX_NAMED {
            let alarm = FalseAlarm { timestamp: Rfc3339(now), source: source.to_string(), action, why };
            self.happened.push((self.timeline, source, alarm));
        }
    }

    fn blocked(&mut self, prefix: Prefix, now: TimeUs) -> Vec<Addr> {
        let timeline = self.timeline;
        let mut hit = Vec::new();
        for ((_, addr), seen) in self.seen.range_mut((timeline, Addr([0; 16]))..=(timeline, Addr([255; 16]))) {
            if prefix.contains(*addr) {
                seen.blocks += 1;
                let until = seen.until(now);
                seen.blocked.get_or_insert(until);
                hit.push(*addr);
            }
        }
        hit
    }

    /// What it came to, over `span_us` of replayed time.
    pub fn close(self, span_us: u64) -> SourceRun {
        let mut run = SourceRun { span_us, ..SourceRun::default() };
        let mut benign = BTreeSet::new();
        for (at, s) in &self.seen {
            let source = at.1;
            if s.attack_flows > 0 {
                run.malicious.push(Malicious {
                    source: source.to_string(),
                    labels: s.labels.iter().map(|l| l.to_string()).collect(),
                    flows: s.flows,
                    malicious_flows: s.attack_flows,
                    alerted: s.alerted,
                    blocked: s.blocked,
                });
            } else if (self.judges)(source) {
                benign.insert(*at);
                run.benign_sources += 1;
                run.unlabelled_sources += u64::from(s.labelled == 0);
                run.benign_flows += s.flows;
                run.alerts += s.alerts;
                run.alerted += u64::from(s.alerts > 0);
                run.blocks += s.blocks;
                run.blocked += u64::from(s.blocks > 0);
            }
        }
        // Who did most comes first.
        run.malicious.sort_by_key(|m| std::cmp::Reverse(m.malicious_flows));
        let false_ones = self.happened.into_iter().filter(|(t, a, _)| benign.contains(&(*t, *a)));
        run.false_alarms = false_ones.map(|(_, _, alarm)| alarm).collect();
        run
    }
}

impl Watcher for SourceWatch<'_> {
    fn began(&mut self, now: TimeUs, flow: &Touched, label: Option<&Arc<str>>) {
        let said = verdict(label.map(|l| &**l));
        let attack = said == Verdict::Attack || self.named(flow.client);
        let seen = self.seen.entry((self.timeline, flow.client)).or_default();
        if seen.epoch_us != now {
            (seen.epoch_us, seen.before) = (now, seen.since);
        }
        seen.flows += 1;
        seen.labelled += u64::from(said != Verdict::Unlabelled);
        if attack {
            seen.attack_flows += 1;
            seen.first_us.get_or_insert(flow.start_us);
            if let Some(label) = label.filter(|_| said == Verdict::Attack && seen.labels.len() < MAX_LABELS) {
                seen.labels.insert(label.clone());
            }
        }
        seen.since += u64::from(seen.first_us.is_some());
    }

    fn happened(&mut self, now: TimeUs, event: Event) -> Result<(), Stop> {
        match event {
            Event::Alert(a) => {
                let seen = self.seen.entry((self.timeline, a.source)).or_default();
                seen.alerts += 1;
                let until = seen.until(now);
                seen.alerted.get_or_insert(until);
                let mut why = format!("evidence {:.1} (alert at {:.1})", a.evidence, a.alert_threshold);
                a.anomaly.reasons.iter().for_each(|r| why += &format!("; {}", r.words));
                self.note(a.source, now, "alert", why);
            }
            Event::Decision { change: DecisionChange::Added, decision, .. } if decision.action == Action::Drop => {
                for source in self.blocked(decision.target.prefix(), now) {
                    self.note(source, now, "drop", decision.reason.clone());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn afresh(&mut self) {
        self.timeline += 1;
    }
}

/// Of several sources.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub flows_median: f64,
    pub flows_worst: u64,
    /// Of the source with most of them, see [`Until::flows_before`].
    pub flows_before_worst: u64,
    pub seconds_median: f64,
    pub seconds_worst: f64,
}

impl Spread {
    fn of(all: impl Iterator<Item = Until>) -> Option<Self> {
        let all: Vec<Until> = all.collect();
        if all.is_empty() {
            return None;
        }
        let median = |of: &dyn Fn(&Until) -> f64| {
            let mut v: Vec<f64> = all.iter().map(of).collect();
            v.sort_by(f64::total_cmp);
            (v[(v.len() - 1) / 2] + v[v.len() / 2]) / 2.0
        };
        Some(Self {
            flows_median: median(&|u| u.flows as f64),
            flows_worst: all.iter().map(|u| u.flows).max().unwrap_or(0),
            flows_before_worst: all.iter().map(|u| u.flows_before).max().unwrap_or(0),
            seconds_median: median(&|u| u.seconds),
            seconds_worst: all.iter().map(|u| u.seconds).fold(0.0, f64::max),
        })
    }
}

/// How an agent would have done. Counts are means over the runs where there are several; times are of all of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sources {
    pub runs: usize,
    pub days: f64,
    pub malicious: f64,
    pub alerted: f64,
    pub blocked: f64,
    /// Of these alerted, sources that were alerted about before their first malicious flow.
    pub alerted_before: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_alerted: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_blocked: Option<Spread>,
    pub benign: f64,
    /// Of the benign, sources that no flow of has a label: taken as benign.
    pub unlabelled: f64,
    pub benign_flows: f64,
    pub false_alerts: f64,
    pub falsely_alerted: f64,
    pub false_alerts_per_day: f64,
    pub false_blocks: f64,
    pub falsely_blocked: f64,
    pub false_blocks_per_day: f64,
    pub false_blocks_per_benign_source: f64,
    /// Of the first run.
    pub each_malicious: Vec<Malicious>,
    pub each_false_alarm: Vec<FalseAlarm>,
}

impl Sources {
    pub fn of(runs: &[SourceRun]) -> Self {
        let n = runs.len().max(1) as f64;
        let mean = |of: &dyn Fn(&SourceRun) -> f64| runs.iter().map(of).sum::<f64>() / n;
        let all = || runs.iter().flat_map(|r| &r.malicious);
        let days = mean(&|r| r.span_us as f64) / DAY_US;
        let per_day = |v: f64| if days > 0.0 { v / days } else { 0.0 };
        let count = |of: &dyn Fn(&Malicious) -> bool| mean(&|r| r.malicious.iter().filter(|m| of(m)).count() as f64);
        let (alerts, blocks, benign) =
            (mean(&|r| r.alerts as f64), mean(&|r| r.blocks as f64), mean(&|r| r.benign_sources as f64));
        let first = runs.first();
        Self {
            runs: runs.len(),
            days,
            malicious: count(&|_| true),
            alerted: count(&|m| m.alerted.is_some()),
            blocked: count(&|m| m.blocked.is_some()),
            alerted_before: count(&|m| m.alerted.is_some_and(|u| u.flows == 0)),
            until_alerted: Spread::of(all().filter_map(|m| m.alerted)),
            until_blocked: Spread::of(all().filter_map(|m| m.blocked)),
            benign,
            unlabelled: mean(&|r| r.unlabelled_sources as f64),
            benign_flows: mean(&|r| r.benign_flows as f64),
            false_alerts: alerts,
            falsely_alerted: mean(&|r| r.alerted as f64),
            false_alerts_per_day: per_day(alerts),
            false_blocks: blocks,
            falsely_blocked: mean(&|r| r.blocked as f64),
            false_blocks_per_day: per_day(blocks),
            false_blocks_per_benign_source: if benign > 0.0 { blocks / benign } else { 0.0 },
            each_malicious: first.map_or_else(Vec::new, |r| r.malicious.iter().take(MAX_NAMED).cloned().collect()),
            each_false_alarm: first.map_or_else(Vec::new, |r| r.false_alarms.clone()),
        }
    }

    /// Share of the malicious sources that were alerted about (or blocked) by so many seconds, as points.
    pub fn detected(&self, blocked: bool) -> Vec<(f64, f64)> {
        let of = |m: &Malicious| if blocked { m.blocked } else { m.alerted };
        let mut seconds: Vec<f64> = self.each_malicious.iter().filter_map(of).map(|u| u.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let n = self.each_malicious.len().max(1) as f64;
        let mut points = Vec::new();
        for (i, s) in seconds.iter().enumerate() {
            points.extend([(*s, i as f64 / n), (*s, (i + 1) as f64 / n)]);
        }
        points
    }
}
