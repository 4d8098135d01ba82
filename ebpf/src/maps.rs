//! Every map of the kernel side. Names, sizes and capacities are weir-common's (`names::MAPS`), held equal by a test.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use weir_common::counters::{Counter, Reason};
use weir_common::entry::{CELLS_PER_WORD, Entry, Hits, Lists, PortKey, V4_CELLS, V4Key, V6_CELLS, V6Key};
use weir_common::flow::{FlowKey, FlowStats, KeyWords, Packet};
use weir_common::names::{DEFAULT_ALLOWS, DEFAULT_BLOCKS, DEFAULT_FLOWS, Meta, switch};
use weir_common::parse::PacketMeta;

/// Bytes that a header copied out of a fragmented frame may take.
pub const SCRATCH_LEN: usize = 256;

#[map]
pub static FLOWS_0: HashMap<FlowKey, FlowStats> = HashMap::with_max_entries(DEFAULT_FLOWS, 0);
#[map]
pub static FLOWS_1: HashMap<FlowKey, FlowStats> = HashMap::with_max_entries(DEFAULT_FLOWS, 0);
#[map]
pub static SWITCHES: Array<u32> = Array::with_max_entries(switch::COUNT, 0);
#[map]
pub static COUNTERS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(Reason::COUNT, 0);
#[map]
pub static LISTS: Array<Lists> = Array::with_max_entries(2, 0);
#[map]
pub static V4_BITMAP: Array<u64> = Array::with_max_entries(V4_CELLS / CELLS_PER_WORD, 0);
#[map]
pub static V6_BITMAP: Array<u64> = Array::with_max_entries(V6_CELLS / CELLS_PER_WORD, 0);
#[map]
pub static V4_BLOCK: HashMap<V4Key, Entry> = HashMap::with_max_entries(DEFAULT_BLOCKS, BPF_F_NO_PREALLOC);
#[map]
pub static V6_BLOCK: HashMap<V6Key, Entry> = HashMap::with_max_entries(DEFAULT_BLOCKS, BPF_F_NO_PREALLOC);
#[map]
pub static PORT_BLOCK: HashMap<PortKey, Entry> = HashMap::with_max_entries(DEFAULT_BLOCKS, BPF_F_NO_PREALLOC);
#[map]
pub static V4_ALLOW: HashMap<V4Key, Entry> = HashMap::with_max_entries(DEFAULT_ALLOWS, BPF_F_NO_PREALLOC);
#[map]
pub static V6_ALLOW: HashMap<V6Key, Entry> = HashMap::with_max_entries(DEFAULT_ALLOWS, BPF_F_NO_PREALLOC);
#[map]
pub static HITS: Array<Hits> = Array::with_max_entries(DEFAULT_BLOCKS, 0);
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
