//! The agent's sign of life, as the kernel programs look for it.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use weir_common::lease::{Lease as Cell, policy};

use crate::KernelError;
use crate::mapped::{Mapped, word32, word64};
use crate::sys;

/// What entries that drop or limit do once the agent has been silent for too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lapse {
    /// They go on as they are, until they expire.
    #[default]
    Keep,
    /// They count what they would have stopped.
    Shadow,
    /// They do nothing.
    Pass,
}

/// Writes the sign of life. Whoever drops this only stops writing.
#[derive(Debug)]
pub struct Lease(Mapped<Cell>);

impl Lease {
    pub(crate) fn new(map: impl AsFd) -> Result<Self, KernelError> {
        Mapped::new(map).map(Self).map_err(KernelError::refused("mapping the lease"))
    }

    /// From now on, silence of more than `timeout` means `lapse`. Counts as a sign of life.
    pub fn set(&self, lapse: Lapse, timeout: Duration) {
        let lapse = match lapse {
            Lapse::Keep => policy::KEEP,
            Lapse::Shadow => policy::SHADOW,
            Lapse::Pass => policy::PASS,
        };
        let Some(cell) = self.0.at(0) else { return };
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        self.beat();
        // SAFETY: words of the mapping, written whole; the policy last, since the programs look at it first.
        unsafe {
            word64(&raw mut (*cell).timeout_ns).store(timeout, Ordering::Release);
            word32(&raw mut (*cell).policy).store(lapse, Ordering::Release);
        }
    }

    /// Since the last sign of life; `None`: the mapping has no such word.
    pub fn age(&self) -> Option<Duration> {
        let cell = self.0.at(0)?;
        // SAFETY: a word of the mapping.
        let beat = unsafe { word64(&raw mut (*cell).beat_ns).load(Ordering::Acquire) };
        Some(Duration::from_nanos(sys::monotonic_ns().saturating_sub(beat)))
    }

    /// The agent is there.
    pub fn beat(&self) {
        if let Some(cell) = self.0.at(0) {
            // SAFETY: a word of the mapping.
            unsafe { word64(&raw mut (*cell).beat_ns).store(sys::monotonic_ns(), Ordering::Release) }
        }
    }
}
