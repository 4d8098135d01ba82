//! The two epoch maps: one is written by the programs, the other is drained.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use weir_common::flow::{FlowKey, FlowStats};
use weir_common::names::switch;

use crate::{KernelError, sys};

/// Flows as they leave the kernel.
pub type Drained = Vec<(FlowKey, FlowStats)>;

#[derive(Debug)]
pub struct Epochs {
    maps: [OwnedFd; 2],
    switches: OwnedFd,
    epoch: u32,
    batch: sys::Batch<FlowKey, FlowStats>,
}

/// How a drain went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    pub flows: usize,
    /// CLOCK_MONOTONIC at the swap, µs: nothing in the drained epoch is later.
    pub end_us: u64,
    /// Until no program could still write the old map.
    pub settle: Duration,
    pub read: Duration,
}

impl Epochs {
    pub(crate) fn new(maps: [OwnedFd; 2], switches: OwnedFd) -> Result<Self, KernelError> {
        let epoch = sys::lookup::<u32, u32>(switches.as_fd(), &switch::EPOCH)
            .map_err(KernelError::refused("reading the epoch"))?
            .unwrap_or(0);
        Ok(Self { maps, switches, epoch, batch: sys::Batch::default() })
    }

    /// What lies in the idle map: left behind by an agent that was killed while draining. To be called before the first
    /// [`Epochs::drain`], which relies on an empty idle map.
    pub fn drain_idle(&mut self, out: &mut Drained) -> Result<usize, KernelError> {
        let idle = 1 - (self.epoch & 1) as usize;
        self.take(idle, out)
    }

    /// Begins a new epoch and appends the flows of the old one to `out`. Packets that arrive meanwhile count in the new
    /// epoch; none is lost.
    pub fn drain(&mut self, out: &mut Drained) -> Result<DrainReport, KernelError> {
        let old = (self.epoch & 1) as usize;
        let next = self.epoch.wrapping_add(1);
        sys::update(self.switches.as_fd(), &switch::EPOCH, &next, sys::ANY)
            .map_err(KernelError::refused("the swap of epochs"))?;
        self.epoch = next;
        let start = Instant::now();
        sys::wait_for_programs().map_err(KernelError::refused("membarrier(MEMBARRIER_CMD_GLOBAL)"))?;
        let settled = Instant::now();
        let end_us = sys::monotonic_ns() / 1000;
        let flows = self.take(old, out)?;
        Ok(DrainReport { flows, end_us, settle: settled - start, read: settled.elapsed() })
    }

    fn take(&mut self, map: usize, out: &mut Drained) -> Result<usize, KernelError> {
        self.batch
            .for_all(self.maps[map].as_fd(), true, |k, v| out.push((*k, *v)))
            .map_err(KernelError::refused("draining the flow map"))
    }
}
