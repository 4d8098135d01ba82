//! Map names and sizes, in one place. The kernel object's definitions are held against this table by a test.

use crate::counters::{Counter, Reason};
use crate::entry::{CELLS_PER_WORD, EntryRecord, FlowEnd, LiveLists, MAX_FLOW_TARGETS, V4_CELLS, V6_CELLS};
use crate::flow::{FlowKey, FlowRecord, FlowStats};
use crate::hash::Seed;
use crate::lease::Lease;
use crate::table::{Line, lines_for, mask_for};

/// Kernel map types (linux/bpf.h, enum bpf_map_type).
pub mod map_type {
    pub const ARRAY: u32 = 2;
    pub const PERCPU_ARRAY: u32 = 6;
}

/// BPF_F_MMAPABLE: userspace reads and writes the map's memory itself.
pub const MAPPED: u32 = 1 << 10;

/// One map as both sides know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSpec {
    pub name: &'static str,
    pub map_type: u32,
    pub value_size: u32,
    /// 0 or [`MAPPED`].
    pub flags: u32,
    pub sized: Sized,
}

/// Every map is an array.
pub const KEY_SIZE: u32 = 4;

impl MapSpec {
    pub const fn max_entries(&self, of: &Capacity) -> u32 {
        match self.sized {
            Sized::Fixed(n) => n,
            Sized::FlowIndex => 2 * lines_for(of.flows),
            Sized::FlowRecords => 2 * of.flows,
            Sized::EntryIndex => 2 * lines_for(of.entries()),
            Sized::EntryRecords => of.entries(),
            Sized::FlowsUsed => 2,
            Sized::EntryLists => 1,
        }
    }
}

impl MapSpec {
    /// Whether all interfaces of an agent look at one such map: entries, what makes looking for them cheap, and the lease. The others
    /// are each interface's own.
    pub fn is_shared(&self) -> bool {
        self.sized.holds_entries() || [V4_BITMAP, V6_BITMAP, FLOW_ENDS, LEASE].contains(&self.name)
    }
}

/// What decides how many values a map has. Maps that belong together are replaced together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sized {
    Fixed(u32),
    FlowIndex,
    FlowRecords,
    FlowsUsed,
    EntryIndex,
    EntryRecords,
    EntryLists,
}

impl Sized {
    pub const fn holds_flows(self) -> bool {
        matches!(self, Self::FlowIndex | Self::FlowRecords | Self::FlowsUsed)
    }
    pub const fn holds_entries(self) -> bool {
        matches!(self, Self::EntryIndex | Self::EntryRecords | Self::EntryLists)
    }
}

/// Capacities that configuration decides. The maps are compiled with the default ones, and made with the agent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Flows per epoch.
    pub flows: u32,
    pub blocks: u32,
    pub allows: u32,
}

impl Capacity {
    pub const DEFAULT: Self = Self { flows: DEFAULT_FLOWS, blocks: DEFAULT_BLOCKS, allows: DEFAULT_ALLOWS };

    /// Entries of both lists.
    pub const fn entries(&self) -> u32 {
        self.blocks + self.allows
    }
}

impl Default for Capacity {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Default capacities.
pub const DEFAULT_FLOWS: u32 = 128 << 10;
pub const DEFAULT_BLOCKS: u32 = 1 << 20;
pub const DEFAULT_ALLOWS: u32 = 16 << 10;

/// Lines of both epochs' indices, the even one first.
pub const FLOW_INDEX: &str = "FLOW_INDEX";
/// Records of both epochs, the even one's first.
pub const FLOW_RECORDS: &str = "FLOW_RECORDS";
/// Records in use in either epoch, each in a line of its own.
pub const FLOWS_USED: &str = "FLOWS_USED";
pub const SWITCHES: &str = "SWITCHES";
pub const COUNTERS: &str = "COUNTERS";
pub const LISTS: &str = "LISTS";
pub const V4_BITMAP: &str = "V4_BITMAP";
pub const V6_BITMAP: &str = "V6_BITMAP";
/// Two indices of entries, of which one is in use: [`crate::entry::Lists::first`].
pub const ENTRY_INDEX: &str = "ENTRY_INDEX";
pub const ENTRIES: &str = "ENTRIES";
/// Our addresses of the flows that are entries, by the number in their keys.
pub const FLOW_ENDS: &str = "FLOW_ENDS";
/// A [`Lease`].
pub const LEASE: &str = "LEASE";
pub const META: &str = "META";
pub const TEST_CLOCK: &str = "TEST_CLOCK";

/// Indices into the `SWITCHES` map.
pub mod switch {
    /// Which epoch is written: its lowest bit.
    pub const EPOCH: u32 = 0;
    pub const COUNT: u32 = 1;
}

/// How many records of an epoch are taken.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Used {
    /// May be larger than there are records, by as many as there are processors.
    pub records: u32,
    pub reserved: [u32; 15],
}

/// Names of the programs in the object.
pub const PROGRAM_XDP: &str = "weir_xdp";
pub const PROGRAM_TC: &str = "weir_tc";
/// Constants of the programs that the loader may set.
pub const GLOBAL_USE_TEST_CLOCK: &str = "USE_TEST_CLOCK";
/// A [`Seed`].
pub const GLOBAL_SEED: &str = "SEED";
/// The [`Sizes`] of the maps.
pub const GLOBAL_SIZES: &str = "SIZES";

/// What the programs must know of the maps' sizes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Sizes {
    /// Flows per epoch.
    pub flows: u32,
    pub flow_lines: u32,
    pub flow_mask: u32,
    pub entry_mask: u32,
}

impl Sizes {
    pub const fn of(capacity: &Capacity) -> Self {
        Self {
            flows: capacity.flows,
            flow_lines: lines_for(capacity.flows),
            flow_mask: mask_for(capacity.flows),
            entry_mask: mask_for(capacity.entries()),
        }
    }
}

/// Who owns the pins: lies in the `META` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Meta {
    pub abi_version: u32,
    pub ifindex: u32,
    /// Interface name, zero-terminated (bpffs refuses some names, so it cannot be the pin's).
    pub ifname: [u8; 16],
    /// What the programs' hashes are keyed with, for as long as the maps live.
    pub seed: Seed,
}

const fn spec(name: &'static str, map_type: u32, value: usize, flags: u32, sized: Sized) -> MapSpec {
    MapSpec { name, map_type, value_size: value as u32, flags, sized }
}

/// Every pinned map.
pub const MAPS: [MapSpec; 14] = {
    use map_type::{ARRAY, PERCPU_ARRAY};
    [
        spec(FLOW_INDEX, ARRAY, size_of::<Line>(), MAPPED, Sized::FlowIndex),
        spec(FLOW_RECORDS, ARRAY, size_of::<FlowRecord>(), MAPPED, Sized::FlowRecords),
        spec(FLOWS_USED, ARRAY, size_of::<Used>(), MAPPED, Sized::FlowsUsed),
        spec(SWITCHES, ARRAY, 4, 0, Sized::Fixed(switch::COUNT)),
        spec(COUNTERS, PERCPU_ARRAY, size_of::<Counter>(), 0, Sized::Fixed(Reason::COUNT)),
        spec(LISTS, ARRAY, size_of::<LiveLists>(), MAPPED, Sized::EntryLists),
        spec(V4_BITMAP, ARRAY, 8, MAPPED, Sized::Fixed(V4_CELLS / CELLS_PER_WORD)),
        spec(V6_BITMAP, ARRAY, 8, MAPPED, Sized::Fixed(V6_CELLS / CELLS_PER_WORD)),
        spec(ENTRY_INDEX, ARRAY, size_of::<Line>(), MAPPED, Sized::EntryIndex),
        spec(ENTRIES, ARRAY, size_of::<EntryRecord>(), MAPPED, Sized::EntryRecords),
        spec(FLOW_ENDS, ARRAY, size_of::<FlowEnd>(), MAPPED, Sized::Fixed(MAX_FLOW_TARGETS)),
        spec(LEASE, ARRAY, size_of::<Lease>(), MAPPED, Sized::Fixed(1)),
        spec(META, ARRAY, size_of::<Meta>(), 0, Sized::Fixed(1)),
        spec(TEST_CLOCK, ARRAY, 8, 0, Sized::Fixed(1)),
    ]
};

const _: () = {
    assert!(size_of::<FlowKey>() == 44);
    assert!(size_of::<FlowStats>() == 288);
    assert!(size_of::<LiveLists>().is_multiple_of(8));
};
