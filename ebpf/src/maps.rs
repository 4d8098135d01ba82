//! Every map of the kernel side. Names, sizes and capacities are weir-common's (`names::MAPS`), held equal by a test.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray};
use weir_common::counters::{Counter, Reason};
use weir_common::entry::{CELLS_PER_WORD, EntryRecord, FlowEnd, LiveLists, MAX_FLOW_TARGETS, V4_CELLS, V6_CELLS};
use weir_common::flow::{FlowRecord, KeyWords, Packet};
use weir_common::hash::Seed;
use weir_common::lease::Lease;
use weir_common::names::{Capacity, MAPPED, Meta, Sizes, Used, switch};
use weir_common::parse::PacketMeta;
use weir_common::table::{Line, lines_for};

/// Bytes that a header copied out of a fragmented frame may take.
pub const SCRATCH_LEN: usize = 256;

const SIZE: Capacity = Capacity::DEFAULT;

#[map]
pub static FLOW_INDEX: Array<Line> = Array::with_max_entries(2 * lines_for(SIZE.flows), MAPPED);
#[map]
pub static FLOW_RECORDS: Array<FlowRecord> = Array::with_max_entries(2 * SIZE.flows, MAPPED);
#[map]
pub static FLOWS_USED: Array<Used> = Array::with_max_entries(2, MAPPED);
#[map]
pub static SWITCHES: Array<u32> = Array::with_max_entries(switch::COUNT, 0);
#[map]
pub static COUNTERS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(Reason::COUNT, 0);
#[map]
pub static LISTS: Array<LiveLists> = Array::with_max_entries(1, MAPPED);
#[map]
pub static V4_BITMAP: Array<u64> = Array::with_max_entries(V4_CELLS / CELLS_PER_WORD, MAPPED);
#[map]
pub static V6_BITMAP: Array<u64> = Array::with_max_entries(V6_CELLS / CELLS_PER_WORD, MAPPED);
#[map]
pub static ENTRY_INDEX: Array<Line> = Array::with_max_entries(2 * lines_for(SIZE.entries()), MAPPED);
#[map]
pub static ENTRIES: Array<EntryRecord> = Array::with_max_entries(SIZE.entries(), MAPPED);
#[map]
pub static FLOW_ENDS: Array<FlowEnd> = Array::with_max_entries(MAX_FLOW_TARGETS, MAPPED);
#[map]
pub static LEASE: Array<Lease> = Array::with_max_entries(1, MAPPED);
#[map]
pub static META: Array<Meta> = Array::with_max_entries(1, 0);
/// Time in ns, for tests that set `USE_TEST_CLOCK`.
#[map]
pub static TEST_CLOCK: Array<u64> = Array::with_max_entries(1, 0);

/// The epoch whose overflow has been reported, plus one. Not pinned.
#[map]
pub static REPORTED: Array<u32> = Array::with_max_entries(1, 0);
/// The coarse clock as it was when `jiffies` was this.
pub struct Tick {
    pub jiffies: u64,
    pub ns: u64,
}

/// Not pinned.
#[map]
pub static TICK: PerCpuArray<Tick> = PerCpuArray::with_max_entries(1, 0);
/// What a program works on: its stack is too small for it and for what it calls.
pub struct Work {
    pub meta: PacketMeta,
    pub packet: Packet,
    pub key: KeyWords,
}

/// One at ingress, one at egress. Not pinned.
#[map]
pub static WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(2, 0);
/// Headers that do not lie in a frame's linear part. Not pinned.
#[map]
pub static SCRATCH: PerCpuArray<[u8; SCRATCH_LEN]> = PerCpuArray::with_max_entries(1, 0);

/// Set by the loader.
#[unsafe(no_mangle)]
static SEED: Seed = [0; _];
/// Set by the loader.
#[unsafe(no_mangle)]
static SIZES: Sizes = Sizes::of(&SIZE);

/// A constant that the loader may have replaced, so that its value is not known to the compiler.
macro_rules! loaded {
    ($name:ident, $type:ty) => {{
        let mut at: *const $type = &raw const $name;
        // SAFETY: a move onto itself.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) at, options(pure, readonly, nostack)) };
        // SAFETY: the static itself, which nobody writes while the program is loaded.
        let loaded: &'static $type = unsafe { &*at };
        loaded
    }};
}

#[inline(always)]
pub fn seed() -> &'static Seed {
    loaded!(SEED, Seed)
}

#[inline(always)]
pub fn sizes() -> &'static Sizes {
    loaded!(SIZES, Sizes)
}
