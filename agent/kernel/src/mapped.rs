//! Maps whose memory this process shares with the kernel programs (BPF_F_MMAPABLE).

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytemuck::Pod;

use crate::sys;

/// The values of an array map. Programs read and write them meanwhile: whole values are only to be read and written where the
/// owner knows that no program does, and single words by the atomics below.
#[derive(Debug)]
pub(crate) struct Mapped<T> {
    at: NonNull<T>,
    len: u32,
    value: PhantomData<T>,
}

// SAFETY: the mapping belongs to the process, and what is in it is plain data.
unsafe impl<T: Pod + Send> Send for Mapped<T> {}

impl<T: Pod> Mapped<T> {
    /// Maps all values of a map whose values are `T`, a multiple of eight bytes long.
    pub fn new(map: impl AsFd) -> io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        let info = sys::map_info(map.as_fd())?;
        if info.value_size as usize != size_of::<T>() {
            let what = format!("a map with values of {} bytes instead of {}", info.value_size, size_of::<T>());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let (all, bytes) = (libc::PROT_READ | libc::PROT_WRITE, info.max_entries as usize * size_of::<T>());
        // SAFETY: a new mapping wherever there is room.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, all, libc::MAP_SHARED, map.as_fd().as_raw_fd(), 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { at, len: info.max_entries, value: PhantomData })
    }

    pub fn len(&self) -> u32 {
        self.len
    }

    /// Where a value lies.
    pub fn at(&self, index: u32) -> Option<*mut T> {
        // SAFETY: within the mapping.
        (index < self.len).then(|| unsafe { self.at.as_ptr().add(index as usize) })
    }

    /// Sets values to zero, as far as there are any.
    ///
    /// # Safety
    /// No program may use them meanwhile.
    pub unsafe fn clear(&self, from: u32, count: u32) {
        let count = count.min(self.len.saturating_sub(from));
        if let Some(at) = self.at(from) {
            // SAFETY: within the mapping; zeroes are a value of plain data.
            unsafe { at.write_bytes(0, count as usize) };
        }
    }
}

#[cfg(test)]
impl<T: Pod> Mapped<T> {
    /// So many values of zeroes in memory of this process alone, for tests without a kernel to share it with.
    pub fn anonymous(len: u32) -> Self {
        let (all, how) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping wherever there is room.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len as usize * size_of::<T>(), all, how, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED, "{}", io::Error::last_os_error());
        Self { at: NonNull::new(at.cast()).expect("a place in memory"), len, value: PhantomData }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, which nobody refers to any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len as usize * size_of::<T>()) };
    }
}

/// A word that a program may look at in the same moment.
///
/// # Safety
/// The word must stay mapped, and be used as an atomic by everybody.
pub(crate) unsafe fn word32<'a>(at: *mut u32) -> &'a AtomicU32 {
    // SAFETY: the caller's.
    unsafe { AtomicU32::from_ptr(at) }
}

/// [`word32`] of eight bytes.
///
/// # Safety
/// As there.
pub(crate) unsafe fn word64<'a>(at: *mut u64) -> &'a AtomicU64 {
    // SAFETY: the caller's.
    unsafe { AtomicU64::from_ptr(at) }
}

impl Mapped<u64> {
    /// Sets a word of the map.
    pub fn store(&self, index: u32, value: u64) {
        if let Some(at) = self.at(index) {
            // SAFETY: a word of the mapping, read whole by the programs.
            unsafe { word64(at) }.store(value, Ordering::Release);
        }
    }
}
