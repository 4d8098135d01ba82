//! Doing what the lists say of a packet.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::helpers::bpf_ktime_get_ns;
use weir_common::counters::Reason;
use weir_common::entry::{EntryRecord, HitCells, action, exempt};
use weir_common::flow::Cells;
use weir_common::lease::policy;
use weir_common::limit::Admitted;
use weir_common::parse::PacketMeta;

use crate::atomic::Atomic;
use crate::count::count;
use crate::lists::{ALLOWED, Found, coarse_ns};
use crate::maps::{ENTRIES, LEASE};

/// Whether the packet (of `packets` segments and `bytes` in all) is to be stopped. Counts why, and credits the entry.
#[inline(always)]
pub fn stops(found: Found, meta: &PacketMeta, egress: bool, packets: u32, bytes: u32) -> bool {
    if found.action == 0 {
        return false;
    }
    if found.action == ALLOWED {
        count(Reason::InAllowed, egress, packets, bytes);
        return false;
    }
    if found.action == u32::from(action::SHADOW) {
        hit(found.record, packets, bytes);
        count(Reason::InShadowed, egress, packets, bytes);
        return false;
    }
    if exempt(meta.proto, meta.family, meta.src_port, meta.dst_port, meta.fragment != 0) {
        count(Reason::InExempt, egress, packets, bytes);
        return false;
    }
    let limits = found.action == u32::from(action::LIMIT);
    if limits {
        match admits(found.record, packets, bytes) {
            Admitted::Yes => return false,
            Admitted::Over => {}
            Admitted::Contended => count(Reason::InContended, egress, packets, bytes),
        }
    }
    let lapsed = lapsed();
    if lapsed != policy::KEEP {
        count(Reason::InLapsed, egress, packets, bytes);
        if lapsed == policy::SHADOW {
            hit(found.record, packets, bytes);
            count(Reason::InShadowed, egress, packets, bytes);
        }
        return false;
    }
    hit(found.record, packets, bytes);
    count(if limits { Reason::InLimited } else { Reason::InDropped }, egress, packets, bytes);
    true
}

/// What the agent's lease says: [`policy::KEEP`] while it holds.
#[inline(always)]
fn lapsed() -> u32 {
    let Some(lease) = LEASE.get_ptr(0) else { return policy::KEEP };
    // SAFETY: the map's value; words that the agent writes whole.
    unsafe {
        let what = (&raw const (*lease).policy).read_volatile();
        if what == policy::KEEP || !lease.read_volatile().lapsed(coarse_ns()) { policy::KEEP } else { what }
    }
}

/// Asks the limit of an entry.
#[inline(always)]
fn admits(record: u32, packets: u32, bytes: u32) -> Admitted {
    let Some(r) = ENTRIES.get_ptr_mut(record) else { return Admitted::Yes };
    // SAFETY: the map's value; the note is one word, the state is changed atomically.
    unsafe {
        let limit = EntryRecord::limit((&raw const (*r).note).read_volatile());
        limit.admits::<Atomic>(&raw mut (*r).limit_state, bpf_ktime_get_ns(), packets, bytes)
    }
}

/// Credits the entry that decided.
#[inline(always)]
fn hit(record: u32, packets: u32, bytes: u32) {
    if let Some(r) = ENTRIES.get_ptr_mut(record) {
        // SAFETY: the map's value, changed atomically. Not relaxed: of a relaxed addition the compiler takes no result.
        unsafe {
            let (recent, add) = (&raw mut (*r).hits.recent, HitCells::addend(packets, bytes));
            let before = atomic_xadd::<u64, u64, { AtomicOrdering::AcqRel }>(recent, add);
            let (less, more) = HitCells::fold(before, before.wrapping_add(add));
            if less != 0 {
                Atomic::add64(&raw mut (*r).hits.folded, more);
                Atomic::add64(recent, less.wrapping_neg());
            }
        }
    }
}
