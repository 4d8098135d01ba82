//! What a decision would have cut: conversations that are going on, and what was recorded. For a person who is asked.
//!
//! The record is read on a thread of its own, within a time and a number of rows; what was not read is said.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use weir_core::addr::Addr;
use weir_core::decision::Target;
use weir_core::record::{EndReason, FlowRecord, FlowState, Have, TimeUs};
use weir_core::table::Touched;
use weir_source::{FlowKey, FlowStats, Input, Observation, Options, Sink, Stop};

use crate::archive::{Flusher, files};
use crate::human::{grouped, micros, rough};
use crate::pipeline::{ANOMALY_P, Model, scorable};
use crate::proto as pb;
use weir_core::feature::core_matrix;

/// The record of the last so long is looked at, µs: a day.
pub const SPAN_US: u64 = 86_400_000_000;
/// Of it, what can be read in this time.
const TIME: Duration = Duration::from_secs(3);
const MAX_ROWS: u64 = 5_000_000;
/// Flows that are scored.
const MAX_SCORED: usize = 4096;
/// Hosts that are told apart for each target.
const MAX_HOSTS: usize = 100_000;
/// Predictions at a time.
const MAX_READERS: usize = 2;

/// Who has a port, of a flow.
#[derive(Clone, Copy)]
struct Ends {
    client: (Addr, u16),
    server: (Addr, u16),
    proto: u8,
}

impl Ends {
    /// The end that a decision on the target is about, if it touches this flow.
    fn cut_by(&self, target: Target) -> Option<Addr> {
        match target {
            Target::Net(p) => [self.client.0, self.server.0].into_iter().find(|a| p.contains(*a)),
            Target::Port { host, proto, port } => {
                let theirs = |from: Addr, to: (Addr, u16)| from == host && to.1 == port;
                let touched = theirs(self.client.0, self.server) || theirs(self.server.0, self.client);
                (touched && self.proto == proto).then_some(host)
            }
            Target::FarPort { host, proto, port } => {
                let touched = [self.client, self.server].contains(&(host, port));
                (touched && self.proto == proto).then_some(host)
            }
            Target::Flow(f) => {
                let (far, ours) = ((f.remote, f.remote_port), (f.ours, f.port));
                let touched = (self.client, self.server) == (far, ours) || (self.server, self.client) == (far, ours);
                (touched && self.proto == f.proto).then_some(f.remote)
            }
        }
    }
}

impl From<&Touched> for Ends {
    fn from(t: &Touched) -> Self {
        Self { client: (t.client, t.client_port), server: (t.server, t.server_port), proto: t.proto }
    }
}

impl From<&FlowRecord> for Ends {
    fn from(r: &FlowRecord) -> Self {
        Self { client: (r.client, r.client_port), server: (r.server, r.server_port), proto: r.proto }
    }
}

/// What one target would cut.
#[derive(Clone, Debug, Default)]
pub struct Cut {
    established: u64,
    ssh: u64,
    flows: u64,
    hosts: HashSet<Addr>,
    scored: u64,
    ordinary: u64,
}

/// Conversations that are going on, by target.
pub fn live(targets: &[Target], flows: impl Iterator<Item = Touched>) -> Vec<Cut> {
    let mut cuts = vec![Cut::default(); targets.len()];
    for flow in flows.filter(|f| f.state == FlowState::Established) {
        let ends = Ends::from(&flow);
        for (target, cut) in targets.iter().zip(&mut cuts) {
            if ends.cut_by(*target).is_some() {
                cut.established += 1;
                cut.ssh += u64::from(flow.proto == weir_common::flow::ip_proto::TCP && flow.server_port == 22);
            }
        }
    }
    cuts
}

/// What is needed to read the record.
pub struct Prediction {
    pub targets: Vec<Target>,
    pub cuts: Vec<Cut>,
    /// `None`: nothing is recorded.
    pub record: Option<(PathBuf, Flusher)>,
    pub model: Option<Model>,
    pub now: TimeUs,
}

/// Bounds how many read the record at a time.
#[derive(Clone, Debug, Default)]
pub struct Readers(Arc<AtomicUsize>);

/// A reader's place; free again when dropped.
#[derive(Debug)]
pub struct Seat(Arc<AtomicUsize>);

impl Readers {
    /// `None`: as many read as may.
    pub fn enter(&self) -> Option<Seat> {
        let taken = self.0.fetch_add(1, Ordering::AcqRel);
        let seat = Seat(self.0.clone());
        (taken < MAX_READERS).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Prediction {
    /// Reads the record on a thread of its own, then gives what each target would cut, and what that rests on, to `tell`.
    pub fn start(
        self,
        readers: &Readers,
        tell: impl FnOnce(Vec<pb::Collateral>, String) + Send + 'static,
    ) -> std::io::Result<()> {
        let seat = readers.enter();
        std::thread::Builder::new()
            .name("weir-predict".into())
            .spawn(move || {
                let (cuts, basis) = self.read(seat.is_some());
                drop(seat);
                tell(cuts, basis);
            })
            .map(drop)
    }

    fn read(self, may: bool) -> (Vec<pb::Collateral>, String) {
        let Self { targets, cuts, record, model, now } = self;
        let mut reader = Reader {
            targets,
            cuts,
            since_us: now.saturating_sub(SPAN_US),
            until: Instant::now() + TIME,
            rows: 0,
            seen: HashSet::new(),
            sample: Vec::new(),
            stride: 1,
            matched: 0,
            stopped: false,
        };
        let recorded = match record {
            None => Err("no flows are recorded".to_owned()),
            Some(_) if !may => Err("others are reading it; ask again in a moment".to_owned()),
            Some((dir, flusher)) => reader.read(&dir, &flusher),
        };
        reader.score(model.as_ref());
        let basis = match &recorded {
            Ok(from) => {
                let whole = if reader.stopped { ", which is all that could be read in time" } else { "" };
                let span = rough(micros(now.saturating_sub((*from).max(reader.since_us))));
                format!("the flows that are alive, and the record of the last {span}{whole}")
            }
            Err(why) => format!("the flows that are alive; not the record: {why}"),
        };
        let span = recorded.ok().map(|from| rough(micros(now.saturating_sub(from.max(reader.since_us)))));
        (reader.cuts.iter().map(|c| c.report(span.as_deref())).collect(), basis)
    }
}

impl Cut {
    fn report(&self, span: Option<&str>) -> pb::Collateral {
        let ordinary = (self.scored > 0).then(|| self.ordinary as f64 / self.scored as f64);
        pb::Collateral {
            established: self.established,
            established_ssh: self.ssh,
            flows: self.flows,
            hosts: self.hosts.len() as u64,
            ordinary,
            words: self.words(span, ordinary),
        }
    }

    fn words(&self, span: Option<&str>, ordinary: Option<f64>) -> String {
        let flows = |n: u64| format!("{} flow{}", grouped(n), if n == 1 { "" } else { "s" });
        let mut words = match (self.established, self.ssh) {
            (0, _) => "no established flow".to_owned(),
            (n, 0) => format!("{} that are established", flows(n)),
            (n, ssh) => format!("{} that are established, {} of them SSH", flows(n), grouped(ssh)),
        };
        if let Some(span) = span {
            let hosts = self.hosts.len() as u64;
            let s = if hosts == 1 { "" } else { "s" };
            words += &match self.flows {
                0 => format!("; none in the last {span}"),
                n => format!("; {} of {} host{s} in the last {span}", flows(n), grouped(hosts)),
            };
            if let Some(share) = ordinary {
                words += &format!(", {:.0}% of them ordinary", 100.0 * share);
            }
        }
        words
    }
}

struct Reader {
    targets: Vec<Target>,
    cuts: Vec<Cut>,
    since_us: TimeUs,
    until: Instant,
    rows: u64,
    /// Flows of which a checkpoint was counted: a flow counts once.
    seen: HashSet<u64>,
    /// Every `stride`th flow that matched, with the targets that it matched.
    sample: Vec<(FlowRecord, u32)>,
    stride: u64,
    matched: u64,
    stopped: bool,
}

impl Reader {
    /// The latest first; from when on it was read.
    fn read(&mut self, dir: &std::path::Path, flusher: &Flusher) -> Result<TimeUs, String> {
        if let Err(e) = flusher.flush() {
            log::debug!("what is not in a file yet is not looked at: {e}");
        }
        let mut segments = files::list(dir).map_err(|e| format!("{} cannot be read: {e}", dir.display()))?;
        segments.retain(|s| s.end_us > self.since_us);
        let mut from = segments.last().map(|s| s.end_us).ok_or("nothing was recorded of that time")?;
        for segment in segments.iter().rev() {
            let options = Options::default();
            let read = Input::open(&segment.path, &options).and_then(|input| input.read(&options, self).1);
            if self.stopped {
                break;
            }
            match read {
                Ok(()) => from = segment.begin_us,
                // Too old, and gone meanwhile; or damaged.
                Err(e) => log::warn!("{} is not looked at: {e}", segment.path.display()),
            }
        }
        Ok(from)
    }

    fn keep(&mut self, record: FlowRecord, targets: u32) {
        self.matched += 1;
        if !self.matched.is_multiple_of(self.stride) || !scorable(&record) {
            return;
        }
        self.sample.push((record, targets));
        if self.sample.len() > MAX_SCORED {
            self.stride *= 2;
            let mut n = 0;
            self.sample.retain(|_| {
                n += 1;
                n % 2 == 0
            });
        }
    }

    fn score(&mut self, model: Option<&Model>) {
        let Some(model) = model else { return };
        let matrix = core_matrix(self.sample.iter().map(|(r, _)| r));
        let scored = match model.anomalies(&matrix) {
            Ok(scored) => scored,
            Err(e) => return log::warn!("what would have been cut was not scored: {e}"),
        };
        for ((_, targets), anomaly) in self.sample.iter().zip(scored) {
            for (i, cut) in self.cuts.iter_mut().enumerate().filter(|(i, _)| targets >> i & 1 == 1) {
                debug_assert!(i < 32);
                cut.scored += 1;
                cut.ordinary += u64::from(anomaly.p_value > ANOMALY_P);
            }
        }
    }
}

impl Sink for Reader {
    fn epoch(&mut self, _: u64, _: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), Stop> {
        Ok(())
    }

    fn flow(&mut self, flow: Observation) -> Result<(), Stop> {
        self.rows += 1;
        if self.rows > MAX_ROWS || (self.rows.is_multiple_of(1024) && Instant::now() >= self.until) {
            self.stopped = true;
            return Err(Stop);
        }
        let r = &flow.record;
        if r.end_us < self.since_us || !r.have.has(Have::ADDRESSES) {
            return Ok(());
        }
        let ends = Ends::from(r);
        let mut matched = 0u32;
        let mut hosts = Vec::new();
        for (i, target) in self.targets.iter().enumerate().take(32) {
            if let Some(host) = ends.cut_by(*target) {
                matched |= 1 << i;
                hosts.push((i, host));
            }
        }
        if matched == 0 || (r.end_reason == EndReason::Checkpoint || !r.first_record) && !self.seen.insert(r.flow_id) {
            return Ok(());
        }
        for (i, host) in hosts {
            let cut = &mut self.cuts[i];
            cut.flows += 1;
            if cut.hosts.len() < MAX_HOSTS {
                cut.hosts.insert(host);
            }
        }
        self.keep(flow.record, matched);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Stop> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(s: &str) -> Target {
        s.parse().unwrap()
    }

    fn record(id: u64, client: &str, server_port: u16) -> FlowRecord {
        let mut r = crate::archive::tests::record(id, 1_000_000, 2_000_000);
        (r.client, r.server_port, r.proto) = (client.parse().unwrap(), server_port, 6);
        r
    }

    fn reader(targets: &[&str]) -> Reader {
        let targets: Vec<Target> = targets.iter().map(|t| target(t)).collect();
        Reader {
            cuts: vec![Cut::default(); targets.len()],
            targets,
            since_us: 0,
            until: Instant::now() + TIME,
            rows: 0,
            seen: HashSet::new(),
            sample: Vec::new(),
            stride: 1,
            matched: 0,
            stopped: false,
        }
    }

    #[test]
    fn wider_targets_cut_more_and_a_flow_counts_once() {
        let mut r = reader(&["192.0.2.7", "192.0.2.7/tcp/22", "192.0.2.0/24"]);
        let mut going_on = record(1, "192.0.2.7", 22);
        going_on.end_reason = EndReason::Checkpoint;
        for flow in [going_on.clone(), going_on, record(2, "192.0.2.7", 80), record(3, "192.0.2.9", 22)] {
            assert_eq!(r.flow(flow.into()), Ok(()));
        }
        assert_eq!(r.flow(record(4, "198.51.100.1", 22).into()), Ok(()));
        let counts: Vec<_> = r.cuts.iter().map(|c| (c.flows, c.hosts.len())).collect();
        assert_eq!(counts, [(2, 1), (1, 1), (3, 2)]);
        assert_eq!(
            r.cuts[2].words(Some("24h"), Some(0.666)),
            "no established flow; 3 flows of 2 hosts in the last 24h, 67% of them ordinary"
        );
    }

    #[test]
    fn reading_ends_in_time_and_says_so() {
        let mut r = reader(&["192.0.2.0/24"]);
        r.until = Instant::now();
        let stopped = (0..2048).find(|i| r.flow(record(*i, "192.0.2.7", 80).into()).is_err());
        assert!(stopped.is_some() && r.stopped);
    }

    #[test]
    fn what_is_scored_is_a_bounded_part_of_all() {
        let mut r = reader(&["192.0.2.0/24"]);
        for i in 0..3 * MAX_SCORED as u64 {
            r.flow(record(i, "192.0.2.7", 80).into()).unwrap();
        }
        assert!(r.sample.len() <= MAX_SCORED && r.sample.len() > MAX_SCORED / 4, "{}", r.sample.len());
        let ids: Vec<u64> = r.sample.iter().map(|(r, _)| r.flow_id).collect();
        assert!(ids.iter().any(|i| *i < MAX_SCORED as u64) && ids.iter().any(|i| *i > 2 * MAX_SCORED as u64));
    }

    #[test]
    fn two_read_the_record_at_a_time() {
        let readers = Readers::default();
        let (a, b) = (readers.enter(), readers.enter());
        assert!(a.is_some() && b.is_some() && readers.enter().is_none());
        drop(a);
        assert!(readers.enter().is_some());
    }

    #[test]
    fn established_flows_and_those_of_ssh_are_counted() {
        let flow = |port: u16, state: FlowState| Touched {
            flow_id: 1,
            client: "192.0.2.7".parse().unwrap(),
            server: "10.0.0.1".parse().unwrap(),
            client_port: 40_000,
            server_port: port,
            proto: 6,
            direction: weir_core::role::Direction::In,
            start_us: 0,
            last_us: 1,
            fwd: Default::default(),
            bwd: Default::default(),
            state,
            bare_syn: false,
            proven: true,
            new: false,
            seen_at: 0,
        };
        let flows = [(22, FlowState::Established), (80, FlowState::Established), (80, FlowState::Closed)];
        let cuts = live(&[target("192.0.2.7"), target("192.0.2.8")], flows.into_iter().map(|(p, s)| flow(p, s)));
        assert_eq!((cuts[0].established, cuts[0].ssh, cuts[1].established), (2, 1, 0));
        assert_eq!(cuts[0].words(None, None), "2 flows that are established, 1 of them SSH");
    }
}
