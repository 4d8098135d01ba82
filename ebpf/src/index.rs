//! The indices of flows and entries, as the programs reach them.

use aya_ebpf::maps::Array;
use core::intrinsics::{AtomicOrdering, atomic_cxchg};
use weir_common::table::{Index, Line};

/// Lines of a map from `first` on.
pub struct Lines {
    pub map: &'static Array<Line>,
    pub first: u32,
    pub lines: u32,
    pub mask: u32,
}

// SAFETY: a line is a value of the map; words are loaded whole, and the swap is the processor's own, in full order.
unsafe impl Index for Lines {
    #[inline(always)]
    fn lines(&self) -> u32 {
        self.lines
    }

    #[inline(always)]
    fn mask(&self) -> u32 {
        self.mask
    }

    #[inline(always)]
    fn line(&self, line: u32) -> Option<*mut u32> {
        self.map.get_ptr_mut(self.first + line).map(<*mut Line>::cast)
    }

    #[inline(always)]
    unsafe fn load(slot: *const u32) -> u32 {
        // SAFETY: the trait's contract.
        unsafe { slot.read_volatile() }
    }

    #[inline(always)]
    unsafe fn swap(slot: *mut u32, old: u32, new: u32) -> u32 {
        // SAFETY: the trait's contract.
        unsafe { atomic_cxchg::<u32, { AtomicOrdering::AcqRel }, { AtomicOrdering::Acquire }>(slot, old, new).0 }
    }
}
