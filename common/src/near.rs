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
