//! How the parser reads: each side brings its own bounds check and its own loads.

use core::marker::PhantomData;

/// Bytes of a frame, from its first on.
///
/// # Safety
/// The pointer that [`Bytes::at`] returns must be good for reading `N` bytes while `self` is borrowed.
pub unsafe trait Bytes {
    /// Where the `N` bytes at `offset` lie, `None` where they are not all there.
    fn at<const N: usize>(&self, offset: usize) -> Option<*const u8>;

    /// Two bytes at `p + AT`, as they lie in memory.
    /// # Safety
    /// They must be readable.
    #[inline(always)]
    unsafe fn read16<const AT: usize>(p: *const u8) -> u16 {
        // SAFETY: the method's contract.
        unsafe { p.add(AT).cast::<u16>().read_unaligned() }
    }

    /// Four bytes.
    /// # Safety
    /// See [`Bytes::read16`].
    #[inline(always)]
    unsafe fn read32<const AT: usize>(p: *const u8) -> u32 {
        // SAFETY: the method's contract.
        unsafe { p.add(AT).cast::<u32>().read_unaligned() }
    }

    /// Eight bytes.
    /// # Safety
    /// See [`Bytes::read16`].
    #[inline(always)]
    unsafe fn read64<const AT: usize>(p: *const u8) -> u64 {
        // SAFETY: the method's contract.
        unsafe { p.add(AT).cast::<u64>().read_unaligned() }
    }

    /// `x`, without its value being known beforehand. The kernel side hides it from the verifier, which otherwise looks at
    /// every path through the extension headers of a packet for every offset that it can compute.
    #[inline(always)]
    fn opaque(&self, x: u64) -> u64 {
        x
    }
}

// SAFETY: the bounds are those of the slice.
unsafe impl Bytes for [u8] {
    #[inline(always)]
    fn at<const N: usize>(&self, offset: usize) -> Option<*const u8> {
        Some(self.get(offset..)?.first_chunk::<N>()?.as_ptr())
    }
}

/// `N` bytes that are there, read as big-endian numbers. Places are checked when the program is compiled.
pub(crate) struct Header<'a, B: ?Sized, const N: usize> {
    at: *const u8,
    bytes: PhantomData<&'a B>,
}

impl<'a, B: Bytes + ?Sized, const N: usize> Header<'a, B, N> {
    #[inline(always)]
    pub fn new(bytes: &'a B, offset: usize) -> Option<Self> {
        Some(Self { at: bytes.at::<N>(offset)?, bytes: PhantomData })
    }

    #[inline(always)]
    pub fn byte<const AT: usize>(&self) -> u8 {
        const { assert!(AT < N) };
        // SAFETY: `at` is good for `N` bytes.
        unsafe { *self.at.add(AT) }
    }

    #[inline(always)]
    pub fn be16<const AT: usize>(&self) -> u16 {
        const { assert!(AT + 2 <= N) };
        // SAFETY: `at` is good for `N` bytes.
        u16::from_be(unsafe { B::read16::<AT>(self.at) })
    }

    #[inline(always)]
    pub fn be32<const AT: usize>(&self) -> u32 {
        const { assert!(AT + 4 <= N) };
        // SAFETY: `at` is good for `N` bytes.
        u32::from_be(unsafe { B::read32::<AT>(self.at) })
    }

    #[inline(always)]
    pub fn be64<const AT: usize>(&self) -> u64 {
        const { assert!(AT + 8 <= N) };
        // SAFETY: `at` is good for `N` bytes.
        u64::from_be(unsafe { B::read64::<AT>(self.at) })
    }
}
