//! Per-reason packet and byte counters.

use std::os::fd::{AsFd, OwnedFd};

use weir_common::counters::{Counter, Reason};

use crate::{KernelError, sys};

#[derive(Debug)]
pub struct Counters {
    map: OwnedFd,
    cpus: usize,
}

impl Counters {
    pub(crate) fn new(map: OwnedFd) -> Result<Self, KernelError> {
        let cpus = sys::possible_cpus().map_err(KernelError::refused("the number of processors"))?;
        Ok(Self { map, cpus })
    }

    /// Totals since the maps were made, one per reason, in the order of [`Reason::ALL`].
    pub fn read(&self) -> Result<Vec<(Reason, Counter)>, KernelError> {
        Reason::ALL
            .iter()
            .map(|&reason| {
                let per_cpu: Vec<Counter> = sys::lookup_percpu(self.map.as_fd(), reason as u32, self.cpus)
                    .map_err(KernelError::refused("reading the counters"))?;
                let sum = per_cpu.iter().fold(Counter::default(), |a, c| Counter {
                    packets: a.packets.wrapping_add(c.packets),
                    bytes: a.bytes.wrapping_add(c.bytes),
                });
                Ok((reason, sum))
            })
            .collect()
    }
}
