//! The two epochs' flows: one epoch is written by the programs, the other is drained.
//!
//! An epoch's records lie one behind the other, as they were taken; an index says where a key's record is
//! ([`weir_common::table`]). So a drain reads the records from memory, one after the other, and clears the index.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use weir_common::flow::{FlowKey, FlowRecord, FlowStats};
use weir_common::names::{Used, switch};
use weir_common::table::Line;

use crate::mapped::{Mapped, word32};
use crate::{KernelError, sys};

/// Flows as they leave the kernel.
pub type Drained = Vec<(FlowKey, FlowStats)>;

/// The maps of both epochs.
#[derive(Debug)]
pub(crate) struct FlowMaps {
    index: Mapped<Line>,
    records: Mapped<FlowRecord>,
    used: Mapped<Used>,
}

impl FlowMaps {
    pub fn new(index: OwnedFd, records: OwnedFd, used: OwnedFd) -> Result<Self, KernelError> {
        let refused = || KernelError::refused("mapping the flows");
        Ok(Self {
            index: Mapped::new(index).map_err(refused())?,
            records: Mapped::new(records).map_err(refused())?,
            used: Mapped::new(used).map_err(refused())?,
        })
    }

    /// Takes an epoch's flows out. No program may write it.
    pub fn take(&mut self, odd: u32, out: &mut Drained) -> usize {
        let (lines, records) = (self.index.len() / 2, self.records.len() / 2);
        let Some(used) = self.used.at(odd) else { return 0 };
        // SAFETY: a word that programs count up atomically.
        let used = unsafe { word32(&raw mut (*used).records) };
        let taken = used.load(Ordering::Acquire).min(records);
        let before = out.len();
        out.reserve(taken as usize);
        for n in odd * records..odd * records + taken {
            let Some(record) = self.records.at(n) else { break };
            // SAFETY: a value of the mapping, which no program writes.
            let record = unsafe { &*record };
            let stats = record.stats();
            // A record whose flow another processor began in the same moment was never used.
            if !stats.is_empty() {
                out.push((*record.key.key(), stats));
            }
        }
        if taken > 0 {
            // The number of records comes last: whoever is killed in between has lost nothing.
            // SAFETY: no program uses this epoch.
            unsafe { self.index.clear(odd * lines, lines) };
            used.store(0, Ordering::Release);
        }
        out.len() - before
    }
}

#[derive(Debug)]
pub struct Epochs {
    maps: FlowMaps,
    switches: OwnedFd,
    epoch: u32,
}

/// How a drain went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    pub flows: usize,
    /// CLOCK_MONOTONIC at the swap, µs: nothing in the drained epoch is later.
    pub end_us: u64,
    /// Until no program could still write the old epoch.
    pub settle: Duration,
    pub read: Duration,
}

impl Epochs {
    pub(crate) fn new(maps: FlowMaps, switches: OwnedFd) -> Result<Self, KernelError> {
        let epoch = sys::lookup::<u32, u32>(switches.as_fd(), &switch::EPOCH)
            .map_err(KernelError::refused("reading the epoch"))?
            .unwrap_or(0);
        Ok(Self { maps, switches, epoch })
    }

    /// What lies in the idle epoch: left behind by an agent that was killed while draining. To be called before the first
    /// [`Epochs::drain`], which relies on an empty idle epoch.
    pub fn drain_idle(&mut self, out: &mut Drained) -> usize {
        self.maps.take((self.epoch & 1) ^ 1, out)
    }

    /// Begins a new epoch and appends the flows of the old one to `out`. Packets that arrive meanwhile count in the new
    /// epoch; none is lost.
    pub fn drain(&mut self, out: &mut Drained) -> Result<DrainReport, KernelError> {
        let old = self.swap()?;
        let start = Instant::now();
        sys::wait_for_programs().map_err(KernelError::refused(BARRIER))?;
        let settled = Instant::now();
        let end_us = sys::monotonic_ns() / 1000;
        let flows = self.maps.take(old, out);
        Ok(DrainReport { flows, end_us, settle: settled - start, read: settled.elapsed() })
    }

    /// Begins a new epoch; returns the old one, which programs may write for a little while yet.
    fn swap(&mut self) -> Result<u32, KernelError> {
        let old = self.epoch & 1;
        let next = self.epoch.wrapping_add(1);
        sys::update(self.switches.as_fd(), &switch::EPOCH, &next, sys::ANY)
            .map_err(KernelError::refused("the swap of epochs"))?;
        self.epoch = next;
        Ok(old)
    }
}

const BARRIER: &str = "membarrier(MEMBARRIER_CMD_GLOBAL)";

/// [`Epochs::drain`] for several interfaces at once: all epochs end before any is read, and programs are waited for once. Adds to
/// `counts` how many flows each had, in order. An interface that fails has none, and goes on with its epoch; an error is
/// returned where all fail.
pub fn drain_all<'e>(
    all: impl Iterator<Item = &'e mut Epochs>,
    out: &mut Drained,
    counts: &mut Vec<usize>,
) -> Result<DrainReport, KernelError> {
    let (mut swapped, mut failed) = (Vec::new(), None);
    for epochs in all {
        let old = epochs.swap().map_err(|e| log::warn!("{e}; these packets count in the next epoch")).ok();
        failed = failed.or_else(|| {
            old.is_none().then(|| KernelError::Refused {
                what: "the swap of epochs".to_owned(),
                source: std::io::Error::other("on every interface"),
            })
        });
        swapped.push((epochs, old));
    }
    if let Some(e) = failed.filter(|_| swapped.iter().all(|(_, old)| old.is_none())) {
        return Err(e);
    }
    let start = Instant::now();
    if !swapped.is_empty() {
        sys::wait_for_programs().map_err(KernelError::refused(BARRIER))?;
    }
    let settled = Instant::now();
    let end_us = sys::monotonic_ns() / 1000;
    let before = out.len();
    for (epochs, old) in swapped {
        counts.push(old.map_or(0, |old| epochs.maps.take(old, out)));
    }
    Ok(DrainReport { flows: out.len() - before, end_us, settle: settled - start, read: settled.elapsed() })
}
