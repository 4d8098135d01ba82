//! Live and from a file, the same packets give the same records and the same rows of `core` and `full`. The file is read as
//! `weir flows FILE --checkpoints` reads it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io::Cursor;
use std::rc::Rc;
use std::time::Instant;

use weir_common::flow::{FlowKey, FlowStats, seen};
use weir_common::parse::parse;
use weir_core::feature::{core_row, full_row};
use weir_core::profile::ProfileId;
use weir_core::record::{EndReason, FlowRecord};
use weir_core::table::{EpochOutput, FlowTable, TableConfig};
use weir_kernel::Options;
use weir_kernel::pins::Capacity;
use weir_source::{Flows, Input, Observation, Sink, Stop};

use crate::replay::{captures, name};
use crate::support::*;

/// Who sent a frame, if it is IP.
fn sender(data: &[u8]) -> Option<[u8; 16]> {
    let meta = parse(data, data.len() as u32, 0).ok()?;
    let (key, dir) = meta.key();
    Some(if dir == 0 { key.addr_a } else { key.addr_b })
}

/// Reads a capture as `weir flows` does, and gives its epochs to `sink`. What is warned of is returned.
fn read(input: Result<Input, weir_source::SourceError>, sink: &mut dyn Sink) -> Vec<String> {
    let (report, result) = input.unwrap().read(&weir_source::Options::default(), sink);
    result.unwrap();
    report.warnings
}

/// A capture file of Ethernet frames, as it lies on disk: little-endian, µs.
fn pcap<'a>(frames: impl IntoIterator<Item = (u64, &'a [u8])>) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 1] {
        file.extend(u32::to_le_bytes(word));
    }
    for (at_us, data) in frames {
        let n = data.len() as u32;
        for word in [(at_us / 1_000_000) as u32, (at_us % 1_000_000) as u32, n, n] {
            file.extend(word.to_le_bytes());
        }
        file.extend(data);
    }
    file
}

/// The statistics of a whole capture.
#[derive(Default)]
struct Whole(HashMap<FlowKey, FlowStats>);

impl Sink for Whole {
    fn epoch(&mut self, _: u64, drained: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), Stop> {
        for (key, stats) in drained.iter() {
            self.0.entry(*key).or_insert(FlowStats::EMPTY).merge(stats);
        }
        Ok(())
    }
    fn flow(&mut self, flow: Observation) -> Result<(), Stop> {
        panic!("a capture has packets: {flow:?}");
    }
    fn end(&mut self) -> Result<(), Stop> {
        Ok(())
    }
}

/// Who answers connections: their frames leave through the egress program, as those of the host do that Weir runs on.
fn servers(frames: &[Captured]) -> HashSet<[u8; 16]> {
    let mut file = Whole::default();
    let bytes = pcap(frames.iter().map(|f| (f.at_us, f.data.as_slice())));
    read(Input::new(Cursor::new(bytes), "frames".into(), None, &weir_source::Options::default()), &mut file);
    let answers = |s: &FlowStats, d: usize| s.dir[d].seen & seen::SYN_ACK != 0;
    let ends = |(k, s): (&FlowKey, &FlowStats)| {
        [answers(s, 0).then_some(k.addr_a), answers(s, 1).then_some(k.addr_b)].into_iter().flatten().collect::<Vec<_>>()
    };
    file.0.iter().flat_map(ends).collect()
}

/// The kernel's side and the file's, epoch by epoch. The reader is asked for the next epoch, and its frames go through the
/// programs, whose counts become records as in the agent.
struct Both<'a, F> {
    what: &'a str,
    frames: std::iter::Peekable<std::slice::Iter<'a, Captured>>,
    servers: HashSet<[u8; 16]>,
    loaded: &'a mut Loaded,
    live: (FlowTable, EpochOutput),
    /// What the reader's records go through, and where they end up.
    file: Flows<F>,
    from_file: Rc<RefCell<Vec<FlowRecord>>>,
    all: &'a mut Compared,
    epochs: usize,
}

impl<F: FnMut(Observation) -> Result<(), Stop>> Both<'_, F> {
    fn same_records(&mut self) {
        let theirs: Vec<FlowRecord> = self.from_file.borrow_mut().drain(..).collect();
        self.all.equal(self.what, &self.live.1.records, &theirs);
        self.live.1.clear();
    }
}

impl<F: FnMut(Observation) -> Result<(), Stop>> Sink for Both<'_, F> {
    fn epoch(&mut self, end_us: u64, drained: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), Stop> {
        let what = self.what;
        while let Some(f) = self.frames.next_if(|f| f.at_us < end_us) {
            self.loaded.set_clock_us(f.at_us);
            if sender(&f.data).is_some_and(|s| self.servers.contains(&s)) {
                assert_eq!(self.loaded.tc(&f.data), TC_NEXT, "{what}");
            } else {
                assert_eq!(self.loaded.xdp(&f.data), XDP_PASS, "{what}");
            }
        }
        let mut counted = self.loaded.drain();
        // In the reader's order: a hash table in the kernel has none, and flows are numbered as they come.
        let live: Vec<(FlowKey, FlowStats)> =
            drained.iter().filter_map(|(key, _)| counted.remove(key).map(|stats| (*key, stats))).collect();
        assert!(counted.is_empty(), "{what}: only in the kernel: {counted:?}");
        assert_eq!(live.len(), drained.len(), "{what}: only in the file, in the epoch until {end_us}");
        self.live.0.epoch_of(end_us, 0, &live, &mut self.live.1);
        self.file.epoch(end_us, drained)?;
        self.epochs += 1;
        self.same_records();
        Ok(())
    }

    fn flow(&mut self, flow: Observation) -> Result<(), Stop> {
        panic!("a capture has packets: {flow:?}");
    }

    fn end(&mut self) -> Result<(), Stop> {
        // What is left is no flow: an epoch of nothing else is none.
        assert!(
            self.frames.all(|f| sender(&f.data).is_none()),
            "{}: frames that the reader gave no epoch for",
            self.what
        );
        self.live.0.flush(EndReason::Idle, &mut self.live.1);
        self.file.end()?;
        self.same_records();
        Ok(())
    }
}

/// What was compared, so that a test can tell that it was not nothing.
#[derive(Debug, Default)]
struct Compared {
    records: usize,
    proven: usize,
    /// Of flows that were not their source's only one in ten seconds.
    with_context: usize,
}

impl Compared {
    fn equal(&mut self, what: &str, live: &[FlowRecord], file: &[FlowRecord]) {
        assert_eq!(live.len(), file.len(), "{what}: records");
        for (l, f) in live.iter().zip(file) {
            assert_eq!(l, f, "{what}");
            assert_eq!(core_row(l), core_row(f), "{what}: {l:?}");
            let row = full_row(l);
            assert_eq!(row, full_row(f), "{what}: {l:?}");
            self.records += 1;
            self.proven += usize::from(l.proven);
            self.with_context += usize::from(l.context.is_some_and(|c| c.flows > 1));
        }
    }
}

#[test]
fn captures_give_the_same_records_and_rows_in_the_kernel_as_from_the_file_epoch_by_epoch() {
    let test = "captures_give_the_same_records_and_rows_in_the_kernel_as_from_the_file_epoch_by_epoch";
    if !ready(test) {
        return;
    }
    let capacity = Capacity { flows: 1 << 15, ..small() };
    let mut loaded = Loaded::new(Options { capacity, ..test_clock() });
    let mut all = Compared::default();
    for (path, mut frames) in captures(test) {
        frames.retain(|f| f.data.len() >= 14);
        let what = name(&path);
        let from_file = Rc::new(RefCell::new(Vec::new()));
        let records = from_file.clone();
        let each = move |flow: Observation| {
            records.borrow_mut().push(flow.record);
            Ok(())
        };
        let mut both = Both {
            what: &what,
            frames: frames.iter().peekable(),
            servers: servers(&frames),
            loaded: &mut loaded,
            live: (FlowTable::new(TableConfig::default()), EpochOutput::default()),
            file: Flows::new(TableConfig::default(), true, each),
            from_file,
            all: &mut all,
            epochs: 0,
        };
        let before = both.all.records;
        let warnings = read(Input::open(&path, &weir_source::Options::default()), &mut both);
        let (epochs, equal) = (both.epochs, both.all.records - before);
        eprintln!("{what}: {} frames, {epochs} epochs, {equal} records equal {warnings:?}", frames.len());
    }
    eprintln!("{all:?}");
    if corpus().exists() {
        assert!(all.records > 0 && all.proven > 0 && all.with_context > 0, "{all:?}");
    }
}

/// Columns that depend on when packets came.
fn timed(column: &str) -> bool {
    ["duration", "_per_s", "iat", "time"].iter().any(|part| column.contains(part))
}

/// Records and rows of what came over a link since `start`, and of the same frames in the file, but for their times.
pub fn same_but_for_time(what: &str, start: Instant, live: &HashMap<FlowKey, FlowStats>, frames: &[&Captured]) {
    let bytes = pcap(frames.iter().map(|f| (1, f.data.as_slice())));
    let from_file = RefCell::new(Vec::new());
    let mut file = Flows::new(TableConfig::default(), false, |flow: Observation| {
        from_file.borrow_mut().push(flow.record);
        Ok(())
    });
    // Numbered in the order that the reader has.
    let mut order = Order(Vec::new(), &mut file);
    read(Input::new(Cursor::new(bytes), what.into(), None, &weir_source::Options::default()), &mut order);
    let ours: Vec<_> = order.0.iter().filter_map(|key| live.get(key).map(|stats| (*key, *stats))).collect();
    let config = TableConfig { checkpoints: [u64::MAX; 3], active_us: u64::MAX, ..TableConfig::default() };
    let (mut table, mut out) = (FlowTable::new(config), EpochOutput::default());
    table.epoch_of(weir_kernel::sys::monotonic_ns() / 1000, 0, &ours, &mut out);
    table.flush(EndReason::Idle, &mut out);
    // The link may have taken longer than the context looks back.
    let context = start.elapsed().as_secs() < 8;
    if !context {
        eprintln!("{what}: the link took {:?}: contexts not compared", start.elapsed());
    }
    let (ours, theirs) = (out.records, from_file.take());
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (o, t) in ours.iter().zip(&theirs) {
        assert_eq!(
            (o.flow_id, o.client, o.server, o.client_port, o.server_port, o.proto, o.fwd, o.bwd, o.state),
            (t.flow_id, t.client, t.server, t.client_port, t.server_port, t.proto, t.fwd, t.bwd, t.state),
            "{what}"
        );
        // Everything came in over the link: a SYN-ACK that is not ours proves nothing, while a file does not tell.
        assert!(!o.proven, "{what}: {o:?}");
        for ((column, a), b) in ProfileId::Full.features().iter().zip(full_row(o)).zip(full_row(t)) {
            if timed(column.name) || (column.name.starts_with("ctx_") && !context) {
                continue;
            }
            assert_eq!(a, b, "{what}: {} of {o:?} and {t:?}", column.name);
        }
    }
}

/// Passes epochs on, and keeps the order of their flows.
struct Order<'a, S>(Vec<FlowKey>, &'a mut S);

impl<S: Sink> Sink for Order<'_, S> {
    fn epoch(&mut self, end_us: u64, drained: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), Stop> {
        self.0.extend(drained.iter().map(|(key, _)| *key));
        self.1.epoch(end_us, drained)
    }
    fn flow(&mut self, flow: Observation) -> Result<(), Stop> {
        self.1.flow(flow)
    }
    fn end(&mut self) -> Result<(), Stop> {
        self.1.end()
    }
}
