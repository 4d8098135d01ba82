//! The lease: how long entries are obeyed without a sign of life from the agent.

/// What becomes of entries that drop or limit once the lease has lapsed.
pub mod policy {
    /// They go on as they are.
    pub const KEEP: u32 = 0;
    /// They count what they would have stopped.
    pub const SHADOW: u32 = 1;
    /// They do nothing.
    pub const PASS: u32 = 2;
}

/// Lies in the `LEASE` map. All zero: nothing lapses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Lease {
    /// Last sign of life, CLOCK_MONOTONIC, ns.
    pub beat_ns: u64,
    /// How long it holds, ns.
    pub timeout_ns: u64,
    /// One of [`policy`].
    pub policy: u32,
    pub reserved: u32,
}

impl Lease {
    /// Whether it has lapsed, by a clock that may be a tick behind.
    #[inline(always)]
    pub const fn lapsed(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.beat_ns) > self.timeout_ns
    }
}
