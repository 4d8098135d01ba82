//! Memory asked for before it is needed.

/// Asks for the cache lines that `what` lies in, and goes on at once: by the time they are read they are near. Several
/// such requests are under way together, where reads that depend on one another wait in turn. A hint: on processors that
/// have none that is known here, nothing.
#[inline(always)]
pub fn ask_for<T>(what: &T) {
    const LINE: usize = 64;
    let begin = core::ptr::from_ref(what).cast::<u8>();
    for at in (0..size_of::<T>()).step_by(LINE) {
        hint(begin.wrapping_add(at));
    }
    hint(begin.wrapping_add(size_of::<T>().saturating_sub(1)));
}

#[inline(always)]
fn hint(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint reads and writes nothing and never faults.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(at.cast())
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{0}]", in(reg) at, options(nostack, preserves_flags, readonly))
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// Asks for large pages behind memory that is about to be used, so that going anywhere in it costs no walk through page tables: for
/// tables of many megabytes. A hint: smaller pages serve as well.
#[cfg(feature = "user")]
pub fn ask_for_large_pages<T>(room: &mut [core::mem::MaybeUninit<T>]) {
    const LARGE: usize = 2 << 20;
    let begin = room.as_ptr().addr().next_multiple_of(LARGE);
    let end = (room.as_ptr().addr() + size_of_val(room)) / LARGE * LARGE;
    #[cfg(all(target_os = "linux", not(miri)))]
    if begin < end {
        use core::ffi::{c_int, c_void};
        const MADV_HUGEPAGE: c_int = 14;
        unsafe extern "C" {
            fn madvise(addr: *mut c_void, length: usize, advice: c_int) -> c_int;
        }
        // SAFETY: whole pages of memory that is exclusively borrowed, whose contents this advice leaves as they are. Where the kernel
        // does not take it, nothing is different.
        unsafe { madvise(room.as_mut_ptr().with_addr(begin).cast(), end - begin, MADV_HUGEPAGE) };
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = (begin, end);
}
