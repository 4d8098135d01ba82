//! [`Cells`] that several processors share.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_or, atomic_xadd};

use weir_common::flow::Cells;

pub struct Atomic;

const RELAXED: AtomicOrdering = AtomicOrdering::Relaxed;

// SAFETY: the intrinsics are atomic accesses through pointers that the trait's contract makes valid.
unsafe impl Cells for Atomic {
    #[inline(always)]
    unsafe fn add64(cell: *mut u64, v: u64) {
        // SAFETY: the trait's contract.
        unsafe { atomic_xadd::<u64, u64, RELAXED>(cell, v) };
    }
    #[inline(always)]
    unsafe fn add32(cell: *mut u32, v: u32) {
        // SAFETY: the trait's contract.
        unsafe { atomic_xadd::<u32, u32, RELAXED>(cell, v) };
    }
    #[inline(always)]
    unsafe fn or32(cell: *mut u32, v: u32) {
        // SAFETY: the trait's contract.
        unsafe { atomic_or::<u32, u32, RELAXED>(cell, v) };
    }
    #[inline(always)]
    unsafe fn swap32(cell: *mut u32, old: u32, new: u32) -> u32 {
        // SAFETY: the trait's contract.
        unsafe { atomic_cxchg::<u32, RELAXED, RELAXED>(cell, old, new).0 }
    }
    #[inline(always)]
    unsafe fn swap64(cell: *mut u64, old: u64, new: u64) -> u64 {
        // SAFETY: the trait's contract.
        unsafe { atomic_cxchg::<u64, RELAXED, RELAXED>(cell, old, new).0 }
    }
}
