//! Addresses as the kernel programs handle them: by words, never by bytes. What is written by bytes and then read by words
//! waits until the last byte has left the processor's store buffer, for longer than everything else about a packet takes.

/// An IPv6 address, or an IPv4-mapped one. In memory the sixteen bytes as they go over the wire.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Network byte order.
    words: [u64; 2],
}

impl Address {
    pub const UNSPECIFIED: Self = Self { words: [0; 2] };

    /// From two numbers that compare as the bytes do.
    #[inline(always)]
    pub const fn new(hi: u64, lo: u64) -> Self {
        Self { words: [hi.to_be(), lo.to_be()] }
    }

    /// Two numbers that compare as the bytes do.
    #[inline(always)]
    pub const fn halves(&self) -> (u64, u64) {
        (u64::from_be(self.words[0]), u64::from_be(self.words[1]))
    }

    /// The sixteen bytes as two words, in memory order.
    #[inline(always)]
    pub(crate) const fn words(&self) -> [u64; 2] {
        self.words
    }

    pub const fn bytes(&self) -> [u8; 16] {
        let (hi, lo) = self.halves();
        ((hi as u128) << 64 | lo as u128).to_be_bytes()
    }
}

impl From<[u8; 16]> for Address {
    fn from(bytes: [u8; 16]) -> Self {
        let all = u128::from_be_bytes(bytes);
        Self::new((all >> 64) as u64, all as u64)
    }
}

impl PartialEq<[u8; 16]> for Address {
    fn eq(&self, bytes: &[u8; 16]) -> bool {
        self.bytes() == *bytes
    }
}
