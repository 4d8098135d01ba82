//! The allow list, then the block list.

use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use aya_ebpf::maps::{Array, HashMap};
use weir_common::address::Address;
use weir_common::entry::{
    CELLS_PER_WORD, Entry, FOREVER, Lengths, Lists, MAX_LENGTHS, NO_SLOT, PortKey, V4Key, V6Key, action, cell, side,
    v4_cell, v4_masked, v6_cell, v6_masked,
};
use weir_common::flow::Cells;
use weir_common::names::switch;
use weir_common::parse::PacketMeta;

use crate::atomic::Atomic;
use crate::maps::{
    HITS, LISTS, PORT_BLOCK, SWITCHES, TICK, V4_ALLOW, V4_BITMAP, V4_BLOCK, V6_ALLOW, V6_BITMAP, V6_BLOCK,
};

/// What the lists say of a packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Found {
    /// 0 where nothing matches, else one of [`action`], or [`ALLOWED`].
    pub action: u32,
    pub slot: u32,
}

/// An allow entry covers the remote address.
pub const ALLOWED: u32 = 255;

const NOTHING: Found = Found { action: 0, slot: NO_SLOT };

/// Whether `entry` means this side and has not expired.
#[inline(always)]
fn live(entry: &Entry, side: u8) -> bool {
    if entry.sides & side == 0 {
        return false;
    }
    entry.expires_ns == FOREVER || coarse_ns() < entry.expires_ns
}

/// The coarse clock. It moves on with `jiffies`, which costs nothing to read: asked once per tick and processor, it costs
/// next to nothing as well, and is at most one tick behind.
#[inline(always)]
fn coarse_ns() -> u64 {
    // SAFETY: helpers without arguments, and the map's value, which only this processor uses.
    unsafe {
        let Some(tick) = TICK.get_ptr_mut(0) else { return bpf_ktime_get_coarse_ns() };
        let jiffies = bpf_jiffies64();
        if (*tick).jiffies != jiffies {
            (*tick).ns = bpf_ktime_get_coarse_ns();
            (*tick).jiffies = jiffies;
        }
        (*tick).ns
    }
}

/// Bits of the neighbourhood bitmap.
#[inline(always)]
fn neighbourhood(map: &Array<u64>, index: u32) -> u64 {
    match map.get(index / CELLS_PER_WORD) {
        Some(word) => *word >> ((index % CELLS_PER_WORD) * 2),
        None => 0,
    }
}

/// What a search has found so far, and what it looks for.
struct Search {
    /// The remote address, IPv4 in the lowest half of `lo`.
    hi: u64,
    lo: u64,
    found: Found,
    side: u8,
}

impl Search {
    /// Takes `entry` into account: the strongest live one counts, among equals the narrowest, which comes first.
    /// `true` where nothing can be stronger.
    #[inline(always)]
    fn decided<const ALLOW: bool>(&mut self, entry: &Entry) -> bool {
        if !live(entry, self.side) {
            return false;
        }
        if ALLOW {
            self.found.action = ALLOWED;
            return true;
        }
        if u32::from(entry.action) > self.found.action {
            self.found.action = u32::from(entry.action);
            self.found.slot = entry.slot;
        }
        entry.action == action::DROP
    }

    /// One hash, once per prefix length in use. A loop, not `bpf_loop`: its call back would be an indirect one, which costs
    /// more than the search.
    #[inline(always)]
    fn v4<const ALLOW: bool>(&mut self, map: &HashMap<V4Key, Entry>, lengths: &Lengths) {
        let addr = (self.lo as u32).to_be_bytes();
        for i in 0..MAX_LENGTHS {
            if i as u32 >= lengths.count {
                break;
            }
            let len = u32::from(lengths.len[i]);
            let key = V4Key { addr: v4_masked(addr, len), len };
            // SAFETY: entries are replaced whole; a reader keeps the one it found.
            if let Some(entry) = unsafe { map.get(key) }
                && self.decided::<ALLOW>(entry)
            {
                break;
            }
        }
    }

    /// [`Search::v4`] for IPv6.
    #[inline(always)]
    fn v6<const ALLOW: bool>(&mut self, map: &HashMap<V6Key, Entry>, lengths: &Lengths) {
        for i in 0..MAX_LENGTHS {
            if i as u32 >= lengths.count {
                break;
            }
            let len = u32::from(lengths.len[i]);
            let (hi, lo) = v6_masked(self.hi, self.lo, len);
            let mut key = V6Key { addr: [0; 16], len };
            set_halves(&mut key.addr, hi, lo);
            // SAFETY: as in `v4`.
            if let Some(entry) = unsafe { map.get(key) }
                && self.decided::<ALLOW>(entry)
            {
                break;
            }
        }
    }
}

#[inline(always)]
fn set_halves(addr: &mut [u8; 16], hi: u64, lo: u64) {
    let (first, second) = addr.split_at_mut(8);
    first.copy_from_slice(&hi.to_be_bytes());
    second.copy_from_slice(&lo.to_be_bytes());
}

/// The live description of the lists.
#[inline(always)]
fn live_lists() -> Option<&'static Lists> {
    let active = SWITCHES.get(switch::LISTS)?;
    LISTS.get(*active & 1)
}

/// Whether any entry may concern `remote`: bits of [`cell`].
#[inline(always)]
fn near(lists: &Lists, v4: bool, remote: &Address) -> u64 {
    let any = if v4 {
        lists.v4_block.count | lists.v4_allow.count | lists.ports
    } else {
        lists.v6_block.count | lists.v6_allow.count | lists.ports
    };
    if any == 0 {
        return 0;
    }
    let (hi, lo) = remote.halves();
    let bits = if v4 {
        neighbourhood(&V4_BITMAP, v4_cell(lo as u32))
    } else {
        let wide = |l: &Lengths, bit| if l.wide != 0 { bit } else { 0 };
        neighbourhood(&V6_BITMAP, v6_cell(hi)) | wide(&lists.v6_allow, cell::ALLOW) | wide(&lists.v6_block, cell::BLOCK)
    };
    bits & (cell::ALLOW | cell::BLOCK)
}

/// What the lists say of a packet that comes in from its source, or goes out to its destination. Most packets have nobody
/// on a list anywhere near.
#[inline(always)]
pub fn look_up(meta: &PacketMeta, side: u8) -> Found {
    // The far end's address, and the port on our side.
    let (remote, port) = if side == side::IN { (&meta.src, meta.dst_port) } else { (&meta.dst, meta.src_port) };
    let Some(lists) = live_lists() else { return NOTHING };
    let v4 = meta.family == 4;
    let near = near(lists, v4, remote);
    let (hi, lo) = remote.halves();
    let mut s = Search { hi, lo, found: NOTHING, side };
    if near & cell::ALLOW != 0 {
        if v4 {
            s.v4::<true>(&V4_ALLOW, &lists.v4_allow);
        } else {
            s.v6::<true>(&V6_ALLOW, &lists.v6_allow);
        }
        if s.found.action == ALLOWED {
            return s.found;
        }
    }
    if near & cell::BLOCK != 0 {
        search_port(lists, meta, port, &mut s);
        if s.found.action != u32::from(action::DROP) {
            if v4 {
                s.v4::<false>(&V4_BLOCK, &lists.v4_block);
            } else {
                s.v6::<false>(&V6_BLOCK, &lists.v6_block);
            }
        }
    }
    s.found
}

#[inline(always)]
fn search_port(lists: &Lists, meta: &PacketMeta, port: u16, s: &mut Search) {
    if lists.ports == 0 || meta.fragment != 0 {
        return;
    }
    let mut key = PortKey { addr: [0; 16], port, proto: meta.proto, reserved: 0 };
    set_halves(&mut key.addr, s.hi, s.lo);
    // SAFETY: as in `Search::v4`.
    if let Some(entry) = unsafe { PORT_BLOCK.get(key) } {
        s.decided::<false>(entry);
    }
}

/// Credits the entry that decided.
#[inline(always)]
pub fn hit(slot: u32, packets: u32, bytes: u32) {
    if let Some(h) = HITS.get_ptr_mut(slot) {
        // SAFETY: the map's value, changed atomically.
        unsafe {
            Atomic::add64(&raw mut (*h).packets, u64::from(packets));
            Atomic::add64(&raw mut (*h).bytes, u64::from(bytes));
        }
    }
}
