//! Adding a packet to a flow's statistics: one implementation for cells that one thread owns and for cells that several
//! processors share.

use crate::flow::{DirStats, FlowStats, Packet, seen, tcp_flag};

/// How `update` writes its cells: [`Plain`] where one thread owns the record, atomic ones in the kernel.
///
/// # Safety
/// Implementations may assume that the pointers are valid, aligned and live for the call.
pub unsafe trait Cells {
    /// Whether one thread owns the cells. Then nothing that a packet brings decides over a branch: which way it goes is a guess
    /// that the processor gets wrong at every third packet, and each wrong one costs as much as everything else.
    ///
    /// Where several share them, each addition costs as much as all the rest of a packet's arithmetic. So counts that others imply are
    /// left out: `packets` counts those of more than 1,024 bytes alone, and `data_packets` those without payload.
    /// [`DirStats::completed`] puts them right.
    const OWNED: bool = false;

    /// # Safety
    /// See the trait.
    unsafe fn add64(cell: *mut u64, v: u64);
    /// # Safety
    /// See the trait.
    unsafe fn add32(cell: *mut u32, v: u32);
    /// # Safety
    /// See the trait.
    unsafe fn or32(cell: *mut u32, v: u32);
    /// Replaces `*cell` by `new` if it is still `old`; returns what it held.
    /// # Safety
    /// See the trait.
    unsafe fn swap32(cell: *mut u32, old: u32, new: u32) -> u32;
    /// Replaces `*cell` by `new` if it is still `old`; returns what it held.
    /// # Safety
    /// See the trait.
    unsafe fn swap64(cell: *mut u64, old: u64, new: u64) -> u64;
}

/// Cells that one thread owns.
pub struct Plain;

// SAFETY: plain reads and writes through pointers that the trait's contract makes valid.
unsafe impl Cells for Plain {
    const OWNED: bool = true;
    #[inline(always)]
    unsafe fn add64(cell: *mut u64, v: u64) {
        // SAFETY: the trait's contract.
        unsafe { *cell = (*cell).saturating_add(v) }
    }
    #[inline(always)]
    unsafe fn add32(cell: *mut u32, v: u32) {
        // SAFETY: the trait's contract.
        unsafe { *cell = (*cell).saturating_add(v) }
    }
    #[inline(always)]
    unsafe fn or32(cell: *mut u32, v: u32) {
        // SAFETY: the trait's contract.
        unsafe { *cell |= v }
    }
    #[inline(always)]
    unsafe fn swap32(cell: *mut u32, old: u32, new: u32) -> u32 {
        // SAFETY: the trait's contract.
        unsafe {
            let held = *cell;
            if held == old {
                *cell = new;
            }
            held
        }
    }
    #[inline(always)]
    unsafe fn swap64(cell: *mut u64, old: u64, new: u64) -> u64 {
        // SAFETY: the trait's contract.
        unsafe {
            let held = *cell;
            if held == old {
                *cell = new;
            }
            held
        }
    }
}

/// Tries of a compare-and-swap before the smaller evil: an extreme that another processor has just moved as well.
const SWAP_TRIES: u32 = 4;

#[inline(always)]
unsafe fn lower32<C: Cells>(cell: *mut u32, v: u32) {
    // SAFETY: passed on from the caller.
    unsafe {
        let mut held = *cell;
        let mut tries = 0;
        while v < held && tries < SWAP_TRIES {
            let was = C::swap32(cell, held, v);
            if was == held {
                break;
            }
            held = was;
            tries += 1;
        }
    }
}

#[inline(always)]
unsafe fn raise32<C: Cells>(cell: *mut u32, v: u32) {
    // SAFETY: passed on from the caller.
    unsafe {
        let mut held = *cell;
        let mut tries = 0;
        while v > held && tries < SWAP_TRIES {
            let was = C::swap32(cell, held, v);
            if was == held {
                break;
            }
            held = was;
            tries += 1;
        }
    }
}

#[inline(always)]
const fn bin_of(size: u32) -> usize {
    if size <= 128 {
        0
    } else if size <= 512 {
        1
    } else if size <= 1024 {
        2
    } else {
        3
    }
}

#[inline(always)]
unsafe fn count_size<C: Cells>(dir: *mut DirStats, size: u32, n: u64) {
    // SAFETY: passed on from the caller.
    unsafe {
        C::add64(&raw mut (*dir).size_sq, u64::from(size) * u64::from(size) * n);
        let bins = (&raw mut (*dir).size_bins).cast::<u64>();
        match bin_of(size) {
            0 => C::add64(bins, n),
            1 => C::add64(bins.add(1), n),
            2 => C::add64(bins.add(2), n),
            _ => C::add64(&raw mut (*dir).packets, n),
        }
        lower32::<C>(&raw mut (*dir).size_min, size);
        raise32::<C>(&raw mut (*dir).size_max, size);
    }
}

/// A gap in µs as it is kept: backward time gives 0, the largest is `u32::MAX` (71 minutes), whose square still fits.
#[inline(always)]
pub(crate) const fn gap(earlier_us: u64, later_us: u64) -> u32 {
    let g = later_us.saturating_sub(earlier_us);
    if g > u32::MAX as u64 { u32::MAX } else { g as u32 }
}

/// Adds one packet to `stats`: XDP, TC, captures and tests all run this. Where several share the cells, what comes out is to be
/// [`DirStats::completed`]; that it is then what one owner counts is held by a test.
///
/// # Safety
/// `stats` must be valid for reads and writes; with [`Plain`] nobody else may touch it meanwhile.
#[inline(always)]
pub unsafe fn update_cells<C: Cells>(stats: *mut FlowStats, p: &Packet) {
    let d = (p.dir & 1) as usize;
    // SAFETY: `d` is 0 or 1, and the caller vouches for `stats`.
    unsafe {
        let dirs = (&raw mut (*stats).dir).cast::<DirStats>();
        update_dirs::<C>(dirs.add(d), dirs.add(1 - d), p);
    }
}

/// [`update_cells`] for the packet's direction and the other one, wherever they lie.
///
/// # Safety
/// See there.
#[inline(always)]
pub(crate) unsafe fn update_dirs<C: Cells>(dir: *mut DirStats, other: *mut DirStats, p: &Packet) {
    if C::OWNED {
        // SAFETY: the caller vouches for both, which are the two directions of one record.
        let (dir, other) = unsafe { (&mut *dir, &*other) };
        return update_owned(dir, other, p);
    }
    // SAFETY: passed on from the caller.
    unsafe {
        let first = (*dir).first_us;
        if first == u64::MAX {
            C::swap64(&raw mut (*dir).first_us, u64::MAX, p.now_us);
            if (*other).first_us == u64::MAX {
                C::or32(&raw mut (*dir).seen, seen::OPENER);
            }
        } else {
            let g = gap((*dir).last_us, p.now_us);
            C::add64(&raw mut (*dir).gap_sq, u64::from(g) * u64::from(g));
            lower32::<C>(&raw mut (*dir).gap_min, g);
            raise32::<C>(&raw mut (*dir).gap_max, g);
        }
        (*dir).last_us = p.now_us;

        let segs = u64::from(p.segs);
        if p.segs > 1 {
            C::add64(&raw mut (*dir).extra_segs, segs - 1);
            count_size::<C>(dir, p.seg_len, segs - 1);
        }
        count_size::<C>(dir, p.last_len, 1);
        C::add64(&raw mut (*dir).bytes, u64::from(p.bytes()));
        if p.payload != 0 {
            C::add64(&raw mut (*dir).payload, u64::from(p.payload));
        } else {
            C::add64(&raw mut (*dir).data_packets, segs);
        }

        let mut now_seen = u32::from(p.tcp_flags);
        if p.fragment != 0 {
            now_seen |= seen::FRAGMENT;
        }
        if p.tcp_flags != 0 {
            now_seen |= update_tcp::<C>(dir, other, p);
        }
        if now_seen & !(*dir).seen != 0 {
            C::or32(&raw mut (*dir).seen, now_seen);
        }
    }
}

/// The TCP part of [`update_cells`]; returns the bits of [`seen`] that the packet sets.
#[inline(always)]
unsafe fn update_tcp<C: Cells>(dir: *mut DirStats, other: *mut DirStats, p: &Packet) -> u32 {
    use tcp_flag::{ACK, FIN, RST, SYN};
    let mut now_seen = 0;
    // SAFETY: passed on from the caller.
    unsafe {
        if p.tcp_flags & SYN != 0 {
            C::add32(&raw mut (*dir).syn, 1);
            if (*dir).syn_us == u64::MAX {
                C::swap64(&raw mut (*dir).syn_us, u64::MAX, p.now_us);
            }
            if p.tcp_flags & ACK != 0 {
                now_seen |= seen::SYN_ACK;
                if p.from_outside == 0 {
                    (*dir).syn_ack_seq = p.seq;
                    now_seen |= seen::SYN_ACK_SENT;
                    // The other direction's line may be far away, or another processor's: who answers need not look at ours.
                    C::or32(&raw mut (*other).seen, seen::ANSWERED);
                }
            } else {
                now_seen |= seen::SYN_ONLY;
            }
        } else if p.tcp_flags & (ACK | RST) == ACK {
            if (*dir).seen & seen::ANSWERED != 0 {
                if p.ack == (*other).syn_ack_seq.wrapping_add(1) {
                    now_seen |= seen::PROVEN;
                }
            } else if (*dir).seen & seen::ACKED == 0 {
                (*dir).ack_first = p.ack;
                now_seen |= seen::ACKED;
            }
        }
        if p.tcp_flags & FIN != 0 {
            C::add32(&raw mut (*dir).fin, 1);
        }
        if p.tcp_flags & RST != 0 {
            C::add32(&raw mut (*dir).rst, 1);
        }
    }
    now_seen
}

/// [`update_dirs`] without branches that depend on the packet, where nobody else writes.
#[inline(always)]
fn update_owned(dir: &mut DirStats, other: &DirStats, p: &Packet) {
    use tcp_flag::{ACK, FIN, RST, SYN};
    let now = p.now_us;
    let first = dir.first_us == u64::MAX;
    let g = if first { 0 } else { gap(dir.last_us, now) };
    dir.gap_sq = dir.gap_sq.saturating_add(u64::from(g) * u64::from(g));
    dir.gap_min = dir.gap_min.min(if first { u32::MAX } else { g });
    dir.gap_max = dir.gap_max.max(g);
    dir.first_us = if first { now } else { dir.first_us };
    dir.last_us = now;

    let segs = u64::from(p.segs);
    if p.segs > 1 {
        dir.extra_segs = dir.extra_segs.saturating_add(segs - 1);
        size_owned(dir, p.seg_len, segs - 1);
    }
    size_owned(dir, p.last_len, 1);
    // 32 bits more at each packet: 64 are not filled by 2^32 packets.
    dir.packets = dir.packets.wrapping_add(segs);
    dir.bytes = dir.bytes.wrapping_add(u64::from(p.bytes()));
    dir.payload = dir.payload.wrapping_add(u64::from(p.payload));
    dir.data_packets = dir.data_packets.wrapping_add(segs * u64::from(p.payload != 0));

    // Of a packet without flags nothing of this holds.
    let has = |flag: u8| p.tcp_flags & flag != 0;
    let (syn, ack) = (has(SYN), has(ACK));
    dir.syn = dir.syn.saturating_add(u32::from(syn));
    dir.fin = dir.fin.saturating_add(u32::from(has(FIN)));
    dir.rst = dir.rst.saturating_add(u32::from(has(RST)));
    dir.syn_us = if syn & (dir.syn_us == u64::MAX) { now } else { dir.syn_us };
    let sent = syn & ack & (p.from_outside == 0);
    dir.syn_ack_seq = if sent { p.seq } else { dir.syn_ack_seq };
    let acks = !syn & ack & !has(RST);
    let answered = other.seen & seen::SYN_ACK_SENT != 0;
    let proven = acks & answered & (p.ack == other.syn_ack_seq.wrapping_add(1));
    let waits = acks & !answered & (dir.seen & seen::ACKED == 0);
    dir.ack_first = if waits { p.ack } else { dir.ack_first };
    let bit = |holds: bool, bit: u32| u32::from(holds) * bit;
    dir.seen |= u32::from(p.tcp_flags)
        | bit(first & (other.first_us == u64::MAX), seen::OPENER)
        | bit(p.fragment != 0, seen::FRAGMENT)
        | bit(syn & !ack, seen::SYN_ONLY)
        | bit(syn & ack, seen::SYN_ACK)
        | bit(sent, seen::SYN_ACK_SENT)
        | bit(proven, seen::PROVEN)
        | bit(waits, seen::ACKED);
}

#[inline(always)]
fn size_owned(dir: &mut DirStats, size: u32, n: u64) {
    dir.size_sq = dir.size_sq.saturating_add((u64::from(size) * u64::from(size)).wrapping_mul(n));
    let bin = usize::from(size > 128) + usize::from(size > 512) + usize::from(size > 1024);
    for (i, held) in dir.size_bins.iter_mut().enumerate() {
        *held = held.wrapping_add(if i == bin { n } else { 0 });
    }
    dir.size_min = dir.size_min.min(size);
    dir.size_max = dir.size_max.max(size);
}
