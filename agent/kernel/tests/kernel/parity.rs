//! Live and from a file, the same packets give the same records and the same rows of `core` and `full`.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use weir_common::flow::{FlowKey, FlowStats, seen};
use weir_common::parse::{Offload, parse};
use weir_core::feature::{core_row, full_row};
use weir_core::profile::ProfileId;
use weir_core::record::{EndReason, FlowRecord};
use weir_core::table::{EpochOutput, FlowTable, TableConfig};
use weir_kernel::Options;
use weir_kernel::pins::Capacity;

use crate::replay::{captures, name};
use crate::support::*;

const SECOND_US: u64 = 1_000_000;

/// Statistics by flow, and the addresses that a frame came from.
#[derive(Default)]
struct File(HashMap<FlowKey, FlowStats>);

impl File {
    fn add(&mut self, data: &[u8], at_us: u64, from_outside: bool) {
        let Ok(meta) = parse(data, data.len() as u32, 0) else { return };
        let (key, dir) = meta.key();
        let mut packet = meta.packet(Offload::default());
        (packet.dir, packet.now_us, packet.from_outside) = (dir, at_us, u8::from(from_outside));
        self.0.entry(key).or_insert(FlowStats::EMPTY).update(&packet);
    }
}

/// Who sent a frame, if it is IP.
fn sender(data: &[u8]) -> Option<[u8; 16]> {
    let meta = parse(data, data.len() as u32, 0).ok()?;
    let (key, dir) = meta.key();
    Some(if dir == 0 { key.addr_a } else { key.addr_b })
}

/// Who answers connections: their frames leave through the egress program, as those of the host do that Weir runs on.
fn servers(frames: &[Captured]) -> HashSet<[u8; 16]> {
    let mut file = File::default();
    for f in frames {
        file.add(&f.data, f.at_us, false);
    }
    let answers = |s: &FlowStats, d: usize| s.dir[d].seen & seen::SYN_ACK != 0;
    let ends = |(k, s): (&FlowKey, &FlowStats)| {
        [answers(s, 0).then_some(k.addr_a), answers(s, 1).then_some(k.addr_b)].into_iter().flatten().collect::<Vec<_>>()
    };
    file.0.iter().flat_map(ends).collect()
}

/// A flow table, and its input in an order of its own: a hash table in the kernel and one here have none in common, and
/// flows are numbered as they come.
struct Table(FlowTable, EpochOutput);

impl Table {
    fn new() -> Self {
        Self(FlowTable::new(TableConfig::default()), EpochOutput::default())
    }
    fn epoch(&mut self, end_us: u64, flows: &mut HashMap<FlowKey, FlowStats>) -> &EpochOutput {
        let mut flows: Vec<_> = flows.drain().collect();
        flows.sort_unstable_by_key(|(k, _)| *k);
        self.1.clear();
        self.0.epoch(end_us, 0, flows.into_iter(), &mut self.1);
        &self.1
    }
    fn flush(&mut self) -> &[FlowRecord] {
        self.1.clear();
        self.0.flush(EndReason::Flushed, &mut self.1);
        &self.1.records
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
    let captures = captures(test);
    for (path, mut frames) in captures {
        frames.retain(|f| f.data.len() >= 14);
        let (what, servers) = (name(&path), servers(&frames));
        let (mut live, mut from_file) = (Table::new(), Table::new());
        let (mut end_us, mut epoch, mut epochs) = (0, File::default(), 0);
        for f in &frames {
            if f.at_us >= end_us {
                if end_us > 0 {
                    let ours = live.epoch(end_us, &mut loaded.drain());
                    let theirs = from_file.epoch(end_us, &mut epoch.0);
                    assert_eq!(ours.touched, theirs.touched, "{what}");
                    all.equal(&what, &ours.records, &theirs.records);
                    epochs += 1;
                }
                end_us = (f.at_us / SECOND_US + 1) * SECOND_US;
            }
            loaded.set_clock_us(f.at_us);
            if sender(&f.data).is_some_and(|s| servers.contains(&s)) {
                assert_eq!(loaded.tc(&f.data), TC_NEXT, "{what}");
            } else {
                assert_eq!(loaded.xdp(&f.data), XDP_PASS, "{what}");
            }
            epoch.add(&f.data, f.at_us, false);
        }
        let ours = live.epoch(end_us, &mut loaded.drain());
        let theirs = from_file.epoch(end_us, &mut epoch.0);
        all.equal(&what, &ours.records, &theirs.records);
        let before = all.records;
        all.equal(&what, live.flush(), from_file.flush());
        eprintln!(
            "{what}: {} frames, {} epochs, {} flows at the end equal",
            frames.len(),
            epochs + 1,
            all.records - before
        );
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
    let mut file = File::default();
    for f in frames {
        file.add(&f.data, 1, true);
    }
    let (mut ours, mut theirs) = (Table::new(), Table::new());
    ours.epoch(weir_kernel::sys::monotonic_ns() / 1000, &mut live.clone());
    theirs.epoch(SECOND_US, &mut file.0);
    // The link may have taken longer than the context looks back.
    let context = start.elapsed().as_secs() < 8;
    if !context {
        eprintln!("{what}: the link took {:?}: contexts not compared", start.elapsed());
    }
    let (ours, theirs) = (ours.flush(), theirs.flush());
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (o, t) in ours.iter().zip(theirs) {
        assert_eq!(
            (o.flow_id, o.client, o.server, o.client_port, o.server_port, o.proto, o.fwd, o.bwd, o.state, o.proven),
            (t.flow_id, t.client, t.server, t.client_port, t.server_port, t.proto, t.fwd, t.bwd, t.state, t.proven),
            "{what}"
        );
        for ((column, a), b) in ProfileId::Full.features().iter().zip(full_row(o)).zip(full_row(t)) {
            if timed(column.name) || (column.name.starts_with("ctx_") && !context) {
                continue;
            }
            assert_eq!(a, b, "{what}: {} of {o:?} and {t:?}", column.name);
        }
    }
}
