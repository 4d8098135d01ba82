//! Recorded flows by what somebody looks for. The record is read on a thread of its own, the latest file first, within a time and
//! a number of records; what was not read is said.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_core::addr::{Addr, Prefix};
use weir_core::feature::core_matrix;
use weir_core::record::{FlowRecord, Have, TimeUs};
use weir_source::{FlowKey, FlowStats, Input, Observation, Options, Sink, Stop};

use crate::archive::{Flusher, files};
use crate::collateral::Readers;
use crate::human::grouped;
use crate::pipeline::{Model, scorable};

/// The record is read for so long at most.
const TIME: Duration = Duration::from_secs(5);
/// Of the record, so much is looked at.
const MAX_ROWS: u64 = 5_000_000;
/// Flows that are scored at once.
const BATCH: usize = 1024;
/// Flows of an answer.
pub const MAX_FLOWS: usize = 1000;

/// What is looked for; what is `None` matches everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// One of the ends lies in it.
    pub within: Option<Prefix>,
    /// Of one of the ends.
    pub port: Option<u16>,
    pub proto: Option<u8>,
    /// Last seen from this time on.
    pub since_us: TimeUs,
    /// Begun up to this time.
    pub until_us: TimeUs,
    /// At least this score.
    pub min_score: Option<f32>,
    /// 1 to [`MAX_FLOWS`].
    pub limit: usize,
}

/// A flow that was found.
#[derive(Clone, Debug)]
pub struct FoundFlow {
    pub record: FlowRecord,
    pub seen_at: Option<Arc<str>>,
    /// `None`: no bundle serves, or the flow tells too little.
    pub p_value: Option<f32>,
}

#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The latest first, each flow once.
    pub flows: Vec<FoundFlow>,
    pub more: bool,
    /// What was left out, in words; empty where nothing was.
    pub note: String,
    /// From when on the record was read; 0: nothing was.
    pub from_us: TimeUs,
    pub scanned: u64,
}

/// What is needed to read the record.
pub struct Search {
    pub query: Query,
    pub dir: PathBuf,
    /// `None`: what is not in a file yet was asked for a moment ago.
    pub flusher: Option<Flusher>,
    pub model: Option<Model>,
}

impl Search {
    /// Reads on a thread of its own, then gives what was found to `tell`. An error: others are reading, or there is no thread.
    pub fn start(
        self,
        readers: &Readers,
        tell: impl FnOnce(Result<Found, String>) + Send + 'static,
    ) -> std::io::Result<()> {
        let seat = readers.enter();
        std::thread::Builder::new()
            .name("weir-search".into())
            .spawn(move || {
                let found = match &seat {
                    Some(_) => self.read(TIME),
                    None => Err("others are reading the record; ask again in a moment".to_owned()),
                };
                drop(seat);
                tell(found);
            })
            .map(drop)
    }

    fn read(self, time: Duration) -> Result<Found, String> {
        let Self { query, dir, flusher, model } = self;
        if let Some(Err(e)) = flusher.map(|f| f.flush()) {
            log::debug!("what is not in a file yet is not looked at: {e}");
        }
        if query.min_score.is_some() && model.is_none() {
            return Err("nothing is scored: no bundle serves, so there are no flows of at least some score".to_owned());
        }
        let mut segments = files::list(&dir).map_err(|e| format!("{} cannot be read: {e}", dir.display()))?;
        segments.retain(|s| s.end_us > query.since_us && s.begin_us <= query.until_us);
        let mut reader = Reader::new(query, model, Instant::now() + time);
        let mut damaged = 0u64;
        for segment in segments.iter().rev() {
            let options = Options::default();
            let read = Input::open(&segment.path, &options).and_then(|input| input.read(&options, &mut reader).1);
            if let Err(e) = read {
                // Too old, and gone meanwhile; or damaged.
                log::warn!("{} is not looked at: {e}", segment.path.display());
                damaged += 1;
                continue;
            }
            if reader.stopped {
                break;
            }
            reader.from_us = segment.begin_us.max(reader.query.since_us);
            // Earlier files hold flows that were last seen earlier.
            if reader.cut > 0 {
                break;
            }
        }
        Ok(reader.finish(damaged))
    }
}

struct Reader {
    query: Query,
    model: Option<Model>,
    until: Instant,
    scanned: u64,
    stopped: bool,
    from_us: TimeUs,
    /// Matching flows that have not been scored yet.
    waiting: Vec<Observation>,
    /// By when they were last seen; at most `limit`.
    found: BTreeMap<(TimeUs, u64), FoundFlow>,
    /// When the flows that were found were last seen: a flow has several records.
    last: HashMap<u64, TimeUs>,
    /// Flows that there was no room for.
    cut: u64,
    /// Flows that could not be scored.
    failed: Option<String>,
}

impl Reader {
    fn new(query: Query, model: Option<Model>, until: Instant) -> Self {
        Self {
            query,
            model,
            until,
            scanned: 0,
            stopped: false,
            from_us: 0,
            waiting: Vec::new(),
            found: BTreeMap::new(),
            last: HashMap::new(),
            cut: 0,
            failed: None,
        }
    }

    fn matches(&self, r: &FlowRecord) -> bool {
        let q = &self.query;
        let within =
            |p: Prefix| r.have.has(Have::ADDRESSES) && [r.client, r.server].iter().any(|a: &Addr| p.contains(*a));
        r.end_us >= q.since_us
            && r.start_us <= q.until_us
            && q.proto.is_none_or(|p| r.proto == p)
            && q.port.is_none_or(|p| r.client_port == p || r.server_port == p)
            && q.within.is_none_or(within)
    }

    /// Scores what waits, and keeps what is wanted of it.
    fn settle(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let scored = self.score(&waiting);
        let least = self.query.min_score;
        for (o, p_value) in waiting.into_iter().zip(scored) {
            if least.is_none_or(|least| p_value.is_some_and(|p| 1.0 - p >= least)) {
                self.keep(FoundFlow { record: o.record, seen_at: o.seen_at, p_value });
            }
        }
    }

    fn score(&mut self, flows: &[Observation]) -> Vec<Option<f32>> {
        let mut all = vec![None; flows.len()];
        let Some(model) = &self.model else { return all };
        let which: Vec<usize> = (0..flows.len()).filter(|i| scorable(&flows[*i].record)).collect();
        let matrix = core_matrix(which.iter().map(|i| &flows[*i].record));
        match model.anomalies(&matrix) {
            Ok(scored) => which.iter().zip(scored).for_each(|(i, a)| all[*i] = Some(a.p_value)),
            Err(e) => self.failed = Some(e.to_string()),
        }
        all
    }

    fn keep(&mut self, flow: FoundFlow) {
        let (id, end) = (flow.record.flow_id, flow.record.end_us);
        match self.last.get(&id) {
            // A later record of it is known.
            Some(last) if *last >= end => return,
            Some(last) => drop(self.found.remove(&(*last, id))),
            None => {}
        }
        self.last.insert(id, end);
        self.found.insert((end, id), flow);
        if self.found.len() > self.query.limit {
            self.cut += 1;
            if let Some(((_, id), _)) = self.found.pop_first() {
                self.last.remove(&id);
            }
        }
    }

    fn finish(mut self, damaged: u64) -> Found {
        self.settle();
        let mut notes = Vec::new();
        if self.cut > 0 {
            notes.push(format!("the latest {} are shown; there are more", grouped(self.found.len() as u64)));
        }
        if self.stopped {
            notes.push(format!(
                "not all could be read in time: {} records were looked at; ask for a shorter time or for less",
                grouped(self.scanned)
            ));
        }
        if damaged > 0 {
            notes.push(format!("{damaged} files of the record could not be read"));
        }
        if let Some(why) = self.failed {
            notes.push(format!("some were not scored: {why}"));
        }
        Found {
            flows: self.found.into_values().rev().collect(),
            more: self.cut > 0 || self.stopped,
            note: notes.join("; "),
            from_us: self.from_us,
            scanned: self.scanned,
        }
    }
}

impl Sink for Reader {
    fn epoch(&mut self, _: u64, _: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), Stop> {
        Ok(())
    }

    fn flow(&mut self, flow: Observation) -> Result<(), Stop> {
        self.scanned += 1;
        if self.scanned > MAX_ROWS || (self.scanned.is_multiple_of(1024) && Instant::now() >= self.until) {
            self.stopped = true;
            return Err(Stop);
        }
        if self.matches(&flow.record) {
            self.waiting.push(flow);
            if self.waiting.len() >= BATCH {
                self.settle();
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Stop> {
        self.settle();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(id: u64, end_us: TimeUs, port: u16) -> Observation {
        let mut r = crate::archive::tests::record(id, end_us - 10, end_us);
        (r.client, r.server) = ("192.0.2.7".parse().unwrap(), "10.0.0.1".parse().unwrap());
        (r.client_port, r.server_port, r.proto) = (40_000, port, 6);
        r.into()
    }

    fn search(query: Query, flows: impl IntoIterator<Item = Observation>) -> Found {
        let query = Query { until_us: TimeUs::MAX, limit: if query.limit == 0 { 100 } else { query.limit }, ..query };
        let mut reader = Reader::new(query, None, Instant::now() + TIME);
        flows.into_iter().for_each(|f| reader.flow(f).unwrap());
        reader.finish(0)
    }

    fn ids(found: &Found) -> Vec<u64> {
        found.flows.iter().map(|f| f.record.flow_id).collect()
    }

    #[test]
    fn flows_are_found_by_either_end_port_protocol_and_time() {
        let all = || [flow(1, 1000, 22), flow(2, 2000, 80), flow(3, 3000, 22)];
        let by = |q: Query| ids(&search(q, all()));
        assert_eq!(by(Query::default()), [3, 2, 1], "the latest first");
        assert_eq!(by(Query { port: Some(22), ..Query::default() }), [3, 1]);
        assert_eq!(by(Query { port: Some(40_000), ..Query::default() }).len(), 3);
        assert_eq!(by(Query { proto: Some(17), ..Query::default() }).len(), 0);
        assert_eq!(by(Query { since_us: 2000, ..Query::default() }), [3, 2]);
        for (prefix, n) in [("10.0.0.0/8", 3), ("192.0.2.7", 3), ("192.0.2.8", 0)] {
            assert_eq!(by(Query { within: Some(prefix.parse().unwrap()), ..Query::default() }).len(), n, "{prefix}");
        }
    }

    #[test]
    fn a_flow_with_several_records_is_one_and_what_does_not_fit_is_said() {
        let all = [flow(1, 1000, 22), flow(1, 2000, 22), flow(2, 1500, 22), flow(3, 1200, 22)];
        let found = search(Query { limit: 2, ..Query::default() }, all);
        assert_eq!((ids(&found), found.flows[0].record.end_us), (vec![1, 2], 2000));
        assert!(found.more && found.note.contains("the latest 2"), "{}", found.note);
    }

    #[test]
    fn reading_ends_in_time_and_says_so() {
        let mut reader = Reader::new(Query { limit: 1, ..Query::default() }, None, Instant::now());
        assert!((1..4096).any(|i| reader.flow(flow(i, 1000, 22)).is_err()));
        let found = reader.finish(0);
        assert!(found.more && found.note.contains("not all could be read in time"), "{}", found.note);
    }
}
