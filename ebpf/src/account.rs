//! Counting a packet in its flow.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::maps::HashMap;
use weir_common::flow::{FlowKey, FlowStats, KeyWords, Packet, update_cells};
use weir_common::names::switch;
use weir_common::parse::PacketMeta;

use crate::atomic::Atomic;
use crate::maps::{FLOWS_0, FLOWS_1, REPORTED, SWITCHES, TEST_CLOCK};

/// Set by tests at load time: the clock is the value of the `TEST_CLOCK` map.
#[unsafe(no_mangle)]
static USE_TEST_CLOCK: u8 = 0;

/// What a new flow starts from. Read-only data of the program, so that it costs no stack.
static EMPTY: FlowStats = FlowStats::EMPTY;

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

#[inline(always)]
fn slot(map: &HashMap<FlowKey, FlowStats>, key: &FlowKey) -> Option<*mut FlowStats> {
    if let Some(s) = map.get_ptr_mut(key) {
        return Some(s);
    }
    // Another processor may insert the same flow meanwhile: then its record is the one to use.
    #[expect(clippy::needless_borrows_for_generic_args, reason = "by value it would take 288 bytes of stack")]
    let _ = map.insert(key, &EMPTY, u64::from(BPF_NOEXIST));
    map.get_ptr_mut(key)
}

/// Counts `packet`, which still lacks direction and time, in its flow. `key` is where the flow's key is put together.
#[inline(always)]
pub fn account(meta: &PacketMeta, packet: &mut Packet, key: &mut KeyWords) -> Counted {
    packet.dir = meta.key_into(key);
    packet.now_us = now_us();
    let key = key.key();
    let epoch = SWITCHES.get(switch::EPOCH).copied().unwrap_or(0);
    let stats = if epoch & 1 == 0 { slot(&FLOWS_0, key) } else { slot(&FLOWS_1, key) };
    match stats {
        Some(stats) => {
            // SAFETY: a value of the map; cells are changed atomically.
            unsafe { update_cells::<Atomic>(stats, packet) };
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
