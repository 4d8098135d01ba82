//! Map names and sizes, in one place. The kernel object's definitions are held against this table by a test.

use crate::counters::{Counter, Reason};
use crate::entry::{CELLS_PER_WORD, Entry, Hits, Lists, PortKey, V4_CELLS, V4Key, V6_CELLS, V6Key};
use crate::flow::{FlowKey, FlowStats};

/// Kernel map types (linux/bpf.h, enum bpf_map_type).
pub mod map_type {
    pub const HASH: u32 = 1;
    pub const ARRAY: u32 = 2;
    pub const PERCPU_ARRAY: u32 = 6;
}

/// One map as both sides know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSpec {
    pub name: &'static str,
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    /// As compiled; where `sized` is set the agent's configuration replaces it at load time.
    pub max_entries: u32,
    pub sized: Sized,
}

/// What decides a map's capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sized {
    Fixed,
    /// Flows per epoch.
    Flows,
    /// Block entries.
    Blocks,
    /// Allow entries.
    Allows,
}

/// Default capacities.
pub const DEFAULT_FLOWS: u32 = 128 << 10;
pub const DEFAULT_BLOCKS: u32 = 1 << 20;
pub const DEFAULT_ALLOWS: u32 = 16 << 10;

pub const FLOWS_0: &str = "FLOWS_0";
pub const FLOWS_1: &str = "FLOWS_1";
pub const SWITCHES: &str = "SWITCHES";
pub const COUNTERS: &str = "COUNTERS";
pub const LISTS: &str = "LISTS";
pub const V4_BITMAP: &str = "V4_BITMAP";
pub const V6_BITMAP: &str = "V6_BITMAP";
pub const V4_BLOCK: &str = "V4_BLOCK";
pub const V6_BLOCK: &str = "V6_BLOCK";
pub const PORT_BLOCK: &str = "PORT_BLOCK";
pub const V4_ALLOW: &str = "V4_ALLOW";
pub const V6_ALLOW: &str = "V6_ALLOW";
pub const HITS: &str = "HITS";
pub const META: &str = "META";
pub const TEST_CLOCK: &str = "TEST_CLOCK";

/// Indices into the `SWITCHES` map.
pub mod switch {
    /// Which epoch map is written: `FLOWS_0` for even, `FLOWS_1` for odd.
    pub const EPOCH: u32 = 0;
    /// Which element of `LISTS` is live (lowest bit).
    pub const LISTS: u32 = 1;
    pub const COUNT: u32 = 2;
}

/// Names of the programs in the object.
pub const PROGRAM_XDP: &str = "weir_xdp";
pub const PROGRAM_TC: &str = "weir_tc";
/// Constants of the programs that the loader may set.
pub const GLOBAL_USE_TEST_CLOCK: &str = "USE_TEST_CLOCK";

/// Who owns the pins: lies in the `META` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Meta {
    pub abi_version: u32,
    pub ifindex: u32,
    /// Interface name, zero-terminated (bpffs refuses some names, so it cannot be the pin's).
    pub ifname: [u8; 16],
}

const fn spec(name: &'static str, map_type: u32, key: usize, value: usize, max_entries: u32, sized: Sized) -> MapSpec {
    MapSpec { name, map_type, key_size: key as u32, value_size: value as u32, max_entries, sized }
}

/// Every pinned map.
pub const MAPS: [MapSpec; 15] = {
    use map_type::{ARRAY, HASH, PERCPU_ARRAY};
    [
        spec(FLOWS_0, HASH, size_of::<FlowKey>(), size_of::<FlowStats>(), DEFAULT_FLOWS, Sized::Flows),
        spec(FLOWS_1, HASH, size_of::<FlowKey>(), size_of::<FlowStats>(), DEFAULT_FLOWS, Sized::Flows),
        spec(SWITCHES, ARRAY, 4, 4, switch::COUNT, Sized::Fixed),
        spec(COUNTERS, PERCPU_ARRAY, 4, size_of::<Counter>(), Reason::COUNT, Sized::Fixed),
        spec(LISTS, ARRAY, 4, size_of::<Lists>(), 2, Sized::Fixed),
        spec(V4_BITMAP, ARRAY, 4, 8, V4_CELLS / CELLS_PER_WORD, Sized::Fixed),
        spec(V6_BITMAP, ARRAY, 4, 8, V6_CELLS / CELLS_PER_WORD, Sized::Fixed),
        spec(V4_BLOCK, HASH, size_of::<V4Key>(), size_of::<Entry>(), DEFAULT_BLOCKS, Sized::Blocks),
        spec(V6_BLOCK, HASH, size_of::<V6Key>(), size_of::<Entry>(), DEFAULT_BLOCKS, Sized::Blocks),
        spec(PORT_BLOCK, HASH, size_of::<PortKey>(), size_of::<Entry>(), DEFAULT_BLOCKS, Sized::Blocks),
        spec(V4_ALLOW, HASH, size_of::<V4Key>(), size_of::<Entry>(), DEFAULT_ALLOWS, Sized::Allows),
        spec(V6_ALLOW, HASH, size_of::<V6Key>(), size_of::<Entry>(), DEFAULT_ALLOWS, Sized::Allows),
        spec(HITS, ARRAY, 4, size_of::<Hits>(), DEFAULT_BLOCKS, Sized::Blocks),
        spec(META, ARRAY, 4, size_of::<Meta>(), 1, Sized::Fixed),
        spec(TEST_CLOCK, ARRAY, 4, 8, 1, Sized::Fixed),
    ]
};

const _: () = {
    assert!(size_of::<FlowKey>() == 44);
    assert!(size_of::<FlowStats>() == 288);
    assert!(size_of::<Entry>() == 24);
    assert!(size_of::<Lists>().is_multiple_of(8));
};
