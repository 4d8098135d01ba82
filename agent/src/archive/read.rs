//! Learning from the record: what was recorded, without what must not be learned from.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use weir_core::addr::{Addr, Prefix};
use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;
use weir_core::record::{EndReason, FlowRecord, TimeUs};
use weir_source::{FlowKey, FlowStats, Input, Observation, Options, Sink, Stop};

use super::files::{self, Segment};
use super::side::{self, Line};
use crate::config::{Config, FlowTimes};
use crate::exported::{FIRST_ID, SCORED};
use crate::learn::{Labelled, LeftOut, Recorded, Recording, RecordingOf, Said, flow_matrix, taken};
use crate::scoring::housekeeping;

/// Flows turned into rows at once.
const BATCH: usize = 1024;
/// Flows, and windows, of false alarms that are kept to choose from.
const MAX_VOUCHED: usize = 20_000;

/// What to learn from.
#[derive(Clone, Debug)]
pub struct Span {
    pub dir: PathBuf,
    pub since_us: TimeUs,
    pub until_us: TimeUs,
    pub flow: FlowTimes,
    /// Whose flows are left out whatever they did then: there are decisions about them.
    pub against: Vec<Prefix>,
    /// What people said of it.
    pub labelled: Labelled,
    /// Whose exports are taken today; `None`: nobody's.
    pub exporters: Option<Vec<Prefix>>,
    pub window_us: u64,
    pub alert_budget_per_day: f64,
}

impl Span {
    /// As configured today.
    pub fn new(config: &Config, dir: &Path, since_us: TimeUs, until_us: TimeUs) -> Self {
        Self {
            dir: dir.to_owned(),
            since_us,
            until_us,
            flow: config.flow.clone(),
            against: Vec::new(),
            labelled: Labelled::default(),
            exporters: config.netflow.enabled.then(|| config.netflow.exporters.clone()),
            window_us: config.window.as_micros() as u64,
            alert_budget_per_day: config.alert_budget_per_day,
        }
    }

    fn takes(&self, exporter: Option<&str>) -> bool {
        let Some(allowed) = &self.exporters else { return false };
        let from = || exporter.and_then(|e| e.parse::<Addr>().ok());
        allowed.is_empty() || from().is_some_and(|a| allowed.iter().any(|p| p.contains(a)))
    }

    /// Reads it all. Takes a while: for a thread of its own.
    pub fn recording(&self) -> Result<Recording, String> {
        let said = |e: &dyn std::fmt::Display| format!("the record in {} cannot be read: {e}", self.dir.display());
        let all = files::list(&self.dir).map_err(|e| said(&e))?;
        let segments: Vec<Segment> =
            all.into_iter().filter(|s| s.end_us > self.since_us && s.begin_us < self.until_us).collect();
        if segments.is_empty() {
            return Err(format!("nothing of that time is recorded in {}", self.dir.display()));
        }
        let notes = Notes::read(&segments, &self.against);
        let mut taker = Learner {
            from: self,
            notes: &notes,
            recorded: Recorded::new(&[ProfileId::Core, ProfileId::Source], self.window_us),
            batch: Vec::with_capacity(BATCH),
            counts: Counts::default(),
            left_out: LeftOut { degraded_us: notes.degraded_us(self.since_us, self.until_us), ..LeftOut::default() },
            sources: HashSet::new(),
            strangers: HashSet::new(),
            vouched_flows: Vec::new(),
            vouched_windows: Vec::new(),
        };
        for segment in &segments {
            if notes.unreadable.contains(&segment.path) {
                taker.left_out.unreadable += 1;
                continue;
            }
            let options = Options::default();
            let read = Input::open(&segment.path, &options).and_then(|input| input.read(&options, &mut taker).1);
            if let Err(e) = read {
                // Too old, and gone meanwhile; or damaged. The others are as good as before.
                log::warn!("{} is not learned from: {e}", segment.path.display());
                taker.left_out.unreadable += 1;
            }
            taker.add_batch();
        }
        taker.add_windows(&segments);
        let vouched = taker.add_vouched();
        let Learner { recorded, counts, mut left_out, sources, .. } = taker;
        left_out.sources = sources.len();
        Ok(Recording::of(RecordingOf {
            recorded,
            flows: counts.flows,
            windows: counts.windows,
            exported: counts.exported,
            vouched,
            left_out,
            started_us: self.since_us.max(segments[0].begin_us),
            until_us: self.until_us,
            window_us: self.window_us,
            alert_budget_per_day: self.alert_budget_per_day,
            of: "the record",
        }))
    }
}

/// What the notes beside the flows say.
#[derive(Default)]
struct Notes {
    hosts: HashSet<Addr>,
    wider: Vec<Prefix>,
    /// From and to, by time, apart from each other.
    degraded: Vec<(TimeUs, TimeUs)>,
    /// Nobody knows what must not be learned of them.
    unreadable: HashSet<PathBuf>,
}

impl Notes {
    fn read(segments: &[Segment], against: &[Prefix]) -> Self {
        let mut notes = Self::default();
        against.iter().for_each(|p| notes.hold_against(*p));
        for segment in segments {
            let read = side::read(&segment.side(), &mut |line| match line {
                Line::Against(p) => notes.hold_against(p),
                Line::Degraded { from_us, to_us, .. } => notes.degraded.push((from_us, to_us)),
                _ => {}
            });
            if let Err(e) = read {
                log::warn!("{} is not learned from: its notes cannot be read: {e}", segment.path.display());
                notes.unreadable.insert(segment.path.clone());
            }
        }
        notes.degraded.sort_unstable();
        let mut apart: Vec<(TimeUs, TimeUs)> = Vec::new();
        for (from, to) in notes.degraded.drain(..) {
            match apart.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => apart.push((from, to)),
            }
        }
        notes.degraded = apart;
        notes
    }

    fn hold_against(&mut self, p: Prefix) {
        if p.is_host() {
            self.hosts.insert(p.addr());
        } else if !self.wider.contains(&p) {
            self.wider.push(p);
        }
    }

    fn against(&self, source: Addr) -> bool {
        self.hosts.contains(&source) || self.wider.iter().any(|p| p.contains(source))
    }

    /// Whether any of the time between was degraded.
    fn degraded(&self, from: TimeUs, to: TimeUs) -> bool {
        let next = self.degraded.partition_point(|(_, end)| *end < from);
        self.degraded.get(next).is_some_and(|(begin, _)| *begin <= to)
    }

    fn degraded_us(&self, since: TimeUs, until: TimeUs) -> u64 {
        self.degraded.iter().map(|(from, to)| (*to).min(until).saturating_sub((*from).max(since))).sum()
    }
}

#[derive(Default)]
struct Counts {
    flows: u64,
    exported: u64,
    windows: u64,
}

struct Learner<'a> {
    from: &'a Span,
    notes: &'a Notes,
    recorded: Recorded,
    batch: Vec<(Option<TimeUs>, FlowRecord)>,
    counts: Counts,
    left_out: LeftOut,
    /// Left out for what was held against them.
    sources: HashSet<Addr>,
    /// Told of by exporters that are not listened to any more: their windows are mixed with that.
    strangers: HashSet<Addr>,
    /// Of false alarms, with when they became known.
    vouched_flows: Vec<(TimeUs, FlowRecord)>,
    vouched_windows: Vec<side::Window>,
}

/// When the agent knew of a record: the timeouts say how long it waited.
fn known(r: &FlowRecord, times: &FlowTimes) -> TimeUs {
    let waited = match r.end_reason {
        EndReason::Ended => times.linger,
        EndReason::Idle => times.idle,
        EndReason::Checkpoint | EndReason::Reused | EndReason::Flushed | EndReason::Exported => return r.end_us,
    };
    r.end_us.saturating_add(waited.as_micros() as u64)
}

impl Learner<'_> {
    fn add_batch(&mut self) {
        self.recorded.add_flows(ProfileId::Core, self.batch.iter().map(|(t, r)| (*t, r)));
        self.batch.clear();
    }

    /// Rows that people vouched for, within their share; how many.
    fn add_vouched(&mut self) -> u64 {
        let (flows, windows) = (std::mem::take(&mut self.vouched_flows), std::mem::take(&mut self.vouched_windows));
        let chosen: Vec<&(TimeUs, FlowRecord)> =
            taken(flows.len(), self.recorded.rows(ProfileId::Core)).map(|i| &flows[i]).collect();
        let places: Vec<(TimeUs, Addr)> = chosen.iter().map(|(at, r)| (*at, r.client)).collect();
        self.recorded.add_vouched(&flow_matrix(ProfileId::Core, chosen.iter().map(|(_, r)| r)), &places);
        let (mut matrix, mut of_windows) = (FeatureMatrix::new(ProfileId::Source), Vec::new());
        for w in taken(windows.len(), self.recorded.rows(ProfileId::Source)).map(|i| &windows[i]) {
            if w.add_to(&mut matrix).is_some() {
                of_windows.push((w.known_us, w.source));
            }
        }
        self.recorded.add_vouched(&matrix, &of_windows);
        let n = places.len() + of_windows.len();
        self.left_out.false_alarms += (flows.len() + windows.len() - n) as u64;
        n as u64
    }

    /// What people said of these rows, where that decides: whether they are done with.
    fn is_said(&mut self, source: Addr, port: Option<u16>, from: TimeUs, to: TimeUs) -> Option<Said> {
        let said = self.from.labelled.of(source, port, from, to)?;
        match said {
            Said::Attack => self.left_out.attacks += 1,
            Said::Suppressed => self.left_out.suppressed += 1,
            Said::FalseAlarm => {}
        }
        Some(said)
    }

    /// The windows of all files, now that it is known whose must not be learned from.
    fn add_windows(&mut self, segments: &[Segment]) {
        for segment in segments.iter().filter(|s| !self.notes.unreadable.contains(&s.path)) {
            let (mut matrix, mut observations) = (FeatureMatrix::new(ProfileId::Source), Vec::new());
            let read = side::read(&segment.side(), &mut |line| {
                let Line::Window(w) = line else { return };
                if w.known_us <= self.from.since_us || w.known_us > self.from.until_us {
                    return;
                }
                match self.is_said(w.source, None, w.start_us, w.known_us) {
                    Some(Said::FalseAlarm) if self.notes.degraded(w.start_us, w.known_us) => {
                        self.left_out.degraded_rows += 1;
                        return;
                    }
                    Some(Said::FalseAlarm) if self.vouched_windows.len() < MAX_VOUCHED => {
                        return self.vouched_windows.push(w);
                    }
                    Some(Said::FalseAlarm) => {
                        self.left_out.false_alarms += 1;
                        return;
                    }
                    Some(_) => return,
                    None => {}
                }
                if self.notes.against(w.source) {
                    self.sources.insert(w.source);
                    self.left_out.rows += 1;
                } else if self.notes.degraded(w.start_us, w.known_us) {
                    self.left_out.degraded_rows += 1;
                } else if self.strangers.contains(&w.source) {
                    self.left_out.exported += 1;
                } else if let Some(o) = w.add_to(&mut matrix) {
                    self.counts.windows += 1;
                    observations.push(o);
                }
            });
            match read {
                Ok(strange) => self.left_out.other_columns += strange,
                Err(e) => log::warn!("windows beside {} are not all learned from: {e}", segment.path.display()),
            }
            self.recorded.add_observed(&matrix, observations);
        }
    }
}

impl Sink for Learner<'_> {
    fn epoch(&mut self, _: u64, _: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), Stop> {
        // The record holds flows, no packets.
        Ok(())
    }

    fn flow(&mut self, flow: Observation) -> Result<(), Stop> {
        let r = &flow.record;
        let at = known(r, &self.from.flow);
        let plain = !r.have.has(SCORED) || housekeeping(r.client, r.proto, r.client_port, r.server_port);
        if plain || at <= self.from.since_us || at > self.from.until_us {
            return Ok(());
        }
        let told = r.flow_id >= FIRST_ID;
        let (client, port, start_us) = (r.client, r.server_port, r.start_us);
        match self.is_said(client, Some(port), start_us, at) {
            // Whoever sends datagrams is not whom somebody has looked at.
            Some(Said::FalseAlarm) if told || self.vouched_flows.len() >= MAX_VOUCHED => {
                self.left_out.false_alarms += 1;
                return Ok(());
            }
            Some(Said::FalseAlarm) if self.notes.degraded(start_us, at) => {
                self.left_out.degraded_rows += 1;
                return Ok(());
            }
            Some(Said::FalseAlarm) => {
                self.vouched_flows.push((at, flow.record));
                return Ok(());
            }
            Some(_) => return Ok(()),
            None => {}
        }
        if self.notes.against(r.client) {
            self.sources.insert(r.client);
            self.left_out.rows += 1;
        } else if self.notes.degraded(r.start_us, at) {
            self.left_out.degraded_rows += 1;
        } else if told && !self.from.takes(flow.seen_at.as_deref()) {
            self.strangers.insert(r.client);
            self.left_out.exported += 1;
        } else {
            self.counts.flows += u64::from(r.first_record);
            self.counts.exported += u64::from(told && r.first_record);
            self.batch.push((Some(at), flow.record));
            if self.batch.len() >= BATCH {
                self.add_batch();
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Stop> {
        Ok(())
    }
}
