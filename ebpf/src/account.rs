//! Counting a packet in its flow.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_loop};
use weir_common::flow::{DirStats, FlowRecord, KeyWords, Packet};
use weir_common::hash::hash;
use weir_common::names::switch;
use weir_common::parse::PacketMeta;
use weir_common::table::{NONE, STEPS, Step, TOMBSTONE, glance, insert_step, record};

use crate::atomic::Atomic;
use crate::index::Lines;
use crate::maps::{FLOW_INDEX, FLOW_RECORDS, FLOWS_USED, REPORTED, SWITCHES, TEST_CLOCK, seed, sizes};

/// Set by tests at load time: the clock is the value of the `TEST_CLOCK` map.
#[unsafe(no_mangle)]
static USE_TEST_CLOCK: u8 = 0;

/// What a new flow starts from. Read-only data of the program, so that it costs no stack.
static EMPTY: DirStats = DirStats::EMPTY;

#[inline(always)]
fn now_us() -> u64 {
    // SAFETY: a constant that the loader may have replaced.
    let ns = if unsafe { core::ptr::read_volatile(&raw const USE_TEST_CLOCK) } != 0 {
        TEST_CLOCK.get(0).copied().unwrap_or(0)
    } else {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_ns() }
    };
    ns / 1000
}

/// Whether the packet was counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    Yes,
    /// The epoch's map is full.
    Overflow,
    /// The epoch's map is full, and nobody has said so yet in this epoch.
    FirstOverflow,
}

/// The flows of an epoch.
#[inline(always)]
fn flows(epoch: u32) -> (Lines, u32) {
    let (odd, sizes) = (epoch & 1, sizes());
    let index =
        Lines { map: &FLOW_INDEX, first: odd * sizes.flow_lines, lines: sizes.flow_lines, mask: sizes.flow_mask };
    (index, odd * sizes.flows)
}

/// The record of this number, if it is the key's.
#[inline(always)]
fn if_same(record: u32, key: &KeyWords) -> Option<*mut FlowRecord> {
    let record = FLOW_RECORDS.get_ptr_mut(record)?;
    // SAFETY: a value of the map. Its key was written before the record could be found.
    let (held, key) = unsafe { ((*record).key.words(), key.words()) };
    let different = (held[0] ^ key[0])
        | (held[1] ^ key[1])
        | (held[2] ^ key[2])
        | (held[3] ^ key[3])
        | (held[4] ^ key[4])
        | (held[5] ^ key[5]);
    if different == 0 { Some(record) } else { None }
}

/// A new record of the epoch, with this key and no packet; [`NONE`] where all are taken.
#[inline(always)]
fn make(odd: u32, key: &KeyWords) -> u32 {
    let capacity = sizes().flows;
    let Some(used) = FLOWS_USED.get_ptr_mut(odd) else { return NONE };
    // SAFETY: the map's value, changed atomically. Looked at first, so that a full epoch does not count on and on. Not relaxed:
    // of a relaxed addition the compiler takes no result, used or not.
    let taken = unsafe {
        if (&raw const (*used).records).read_volatile() >= capacity {
            return NONE;
        }
        atomic_xadd::<u32, u32, { AtomicOrdering::AcqRel }>(&raw mut (*used).records, 1)
    };
    if taken >= capacity {
        return NONE;
    }
    let Some(record) = FLOW_RECORDS.get_ptr_mut(odd * capacity + taken) else { return NONE };
    // SAFETY: the map's value, which is this processor's alone until the index says where it is.
    unsafe {
        (*record).key = *key;
        (*record).a_to_b = EMPTY;
        (*record).b_to_a = EMPTY;
    }
    taken
}

/// The search for a flow that is to begin, as its steps are called back.
struct Begin<'a> {
    key: &'a KeyWords,
    hash: u64,
    epoch: u32,
    new: u32,
    record: u32,
}

extern "C" fn begin_step(step: u32, begin: *mut Begin<'_>) -> i64 {
    // SAFETY: what `begin` passes on, and nobody else uses meanwhile.
    let b = unsafe { &mut *begin };
    let (index, first) = flows(b.epoch);
    let key = b.key;
    let same = |n| if_same(first + n, key).is_some();
    match insert_step(&index, b.hash, step, &mut b.new, same, || make(b.epoch & 1, key)) {
        Step::On => 0,
        Step::Nothing => 1,
        Step::Found(n) => {
            b.record = n;
            1
        }
    }
}

/// Finds the flow once more, or begins it: for the first packet of a flow, and where a glance did not tell.
#[inline(always)]
fn begin(epoch: u32, key: &KeyWords, hash: u64) -> u32 {
    let mut begin = Begin { key, hash, epoch, new: NONE, record: NONE };
    // SAFETY: the context outlives the call.
    unsafe { bpf_loop(STEPS, begin_step as *mut c_void, (&raw mut begin).cast(), 0) };
    begin.record
}

/// Counts `packet`, which still lacks direction and time, in its flow. `key` is where the flow's key is put together.
#[inline(always)]
pub fn account(meta: &PacketMeta, packet: &mut Packet, key: &mut KeyWords) -> Counted {
    packet.dir = meta.key_into(key);
    packet.now_us = now_us();
    let hash = hash(seed(), key.words());
    let epoch = SWITCHES.get(switch::EPOCH).copied().unwrap_or(0);
    let (index, first) = flows(epoch);
    let held = glance(&index, hash);
    let mut found = None;
    if held != 0 && held != TOMBSTONE {
        found = if_same(first + record(held, index.mask), key);
    }
    if found.is_none() {
        let new = begin(epoch, key, hash);
        if new != NONE {
            found = FLOW_RECORDS.get_ptr_mut(first + new);
        }
    }
    match found {
        Some(record) => {
            // SAFETY: a value of the map; cells are changed atomically.
            unsafe { FlowRecord::update::<Atomic>(record, packet) };
            Counted::Yes
        }
        None if first_in(epoch) => Counted::FirstOverflow,
        None => Counted::Overflow,
    }
}

/// Whether nobody has reported an overflow of this epoch.
#[inline(always)]
fn first_in(epoch: u32) -> bool {
    match REPORTED.get_ptr_mut(0) {
        Some(reported) => {
            let mark = epoch.wrapping_add(1);
            // SAFETY: the map's value; a race costs a second line in the log.
            unsafe {
                let first = *reported != mark;
                *reported = mark;
                first
            }
        }
        None => false,
    }
}
