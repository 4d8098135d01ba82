//! XDP: the verdict, and accounting of what passes.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::warn;
use weir_common::bytes::Bytes;
use weir_common::counters::Reason;
use weir_common::entry::side;
use weir_common::flow::VLAN_NONE;
use weir_common::parse::{Depth, NotParsed, Offload, PacketMeta, parse_into};

use crate::account::{Counted, account};
use crate::count::{count, count_not_parsed};
use crate::lists::look_up;
use crate::maps::{SCRATCH, SCRATCH_LEN, WORK, Work};
use crate::obey::stops;

/// Index into [`WORK`].
const AT_INGRESS: u32 = 0;

/// Reads by words, wherever they begin: the compiler takes single bytes where it knows of no alignment, while the machines
/// that Weir runs on (and the verifier on them) allow any.
macro_rules! words {
    () => {
        #[inline(always)]
        unsafe fn read16<const AT: usize>(p: *const u8) -> u16 {
            let word: u64;
            // SAFETY: the trait's contract.
            unsafe {
                core::arch::asm!("{0} = *(u16 *)({1} + {2})", lateout(reg) word, in(reg) p, const AT,
                    options(pure, readonly, nostack));
            }
            word as u16
        }

        #[inline(always)]
        unsafe fn read32<const AT: usize>(p: *const u8) -> u32 {
            let word: u64;
            // SAFETY: the trait's contract.
            unsafe {
                core::arch::asm!("{0} = *(u32 *)({1} + {2})", lateout(reg) word, in(reg) p, const AT,
                    options(pure, readonly, nostack));
            }
            word as u32
        }

        #[inline(always)]
        unsafe fn read64<const AT: usize>(p: *const u8) -> u64 {
            let word: u64;
            // SAFETY: the trait's contract.
            unsafe {
                core::arch::asm!("{0} = *(u64 *)({1} + {2})", lateout(reg) word, in(reg) p, const AT,
                    options(pure, readonly, nostack));
            }
            word
        }

        #[inline(always)]
        fn opaque(&self, x: u64) -> u64 {
            unknown(x)
        }
    };
}

/// The directly readable part of a packet.
pub struct Linear {
    pub start: usize,
    pub end: usize,
}

// SAFETY: `at` checks against the packet's end, in the form that the verifier follows; the packet stays where it is while
// nothing pulls or adjusts it.
unsafe impl Bytes for Linear {
    #[inline(always)]
    fn at<const N: usize>(&self, offset: usize) -> Option<*const u8> {
        let at = self.start + offset;
        if at + N > self.end { None } else { Some(at as *const u8) }
    }

    words!();
}

/// `x`, as a number of which the verifier knows nothing.
#[inline(always)]
fn unknown(x: u64) -> u64 {
    // SAFETY: a helper without arguments.
    let mut r = u64::from(unsafe { bpf_get_prandom_u32() });
    let hidden = x ^ r;
    // SAFETY: a move onto itself; the compiler may not conclude that `r` is still what it was.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) r) };
    hidden ^ r
}

/// A copy of the first bytes of a packet.
struct Scratch<'a> {
    bytes: &'a [u8; SCRATCH_LEN],
    len: usize,
}

// SAFETY: `at` checks against the copy's end.
unsafe impl Bytes for Scratch<'_> {
    #[inline(always)]
    fn at<const N: usize>(&self, offset: usize) -> Option<*const u8> {
        if offset > SCRATCH_LEN - N || offset + N > self.len {
            return None;
        }
        // SAFETY: `offset + N` was just checked to lie within the buffer.
        Some(unsafe { self.bytes.as_ptr().add(offset) })
    }

    words!();
}

/// Parses a frame whose headers do not all lie in its first buffer. Returns 0, or 1 + [`NotParsed`].
#[inline(never)]
fn parse_copied(ctx: *mut xdp_md, total: u32, meta: &mut PacketMeta) -> u32 {
    let Some(buffer) = SCRATCH.get_ptr_mut(0) else { return 1 + NotParsed::Malformed as u32 };
    let len = if total as usize > SCRATCH_LEN { SCRATCH_LEN } else { total as usize };
    // Not zero, in a form that Linux 6.1's verifier follows as well. (Nothing would become all, which cannot be loaded.)
    let len = (len.wrapping_sub(1) & (SCRATCH_LEN - 1)) + 1;
    // SAFETY: the map's value, which only this processor uses.
    let bytes = unsafe {
        if bpf_xdp_load_bytes(ctx, 0, buffer.cast(), len as u32) != 0 {
            return 1 + NotParsed::Malformed as u32;
        }
        Scratch { bytes: &*buffer, len }
    };
    match parse_into(&bytes, total, VLAN_NONE, meta) {
        Ok(()) => 0,
        Err(why) => 1 + why as u32,
    }
}

/// Whether more of the packet could tell more.
#[inline(always)]
pub fn cut_short(parsed: Result<(), NotParsed>, meta: &PacketMeta) -> bool {
    match parsed {
        Ok(()) => meta.depth == Depth::AddressOnly,
        Err(why) => why == NotParsed::Malformed,
    }
}

#[inline(always)]
pub fn run(ctx: &XdpContext) -> u32 {
    let linear = Linear { start: ctx.data(), end: ctx.data_end() };
    let Some(work) = WORK.get_ptr_mut(AT_INGRESS) else { return XDP_PASS };
    // SAFETY: the map's value; only this program uses it, and never interrupted by another run of itself.
    let Work { meta, packet, key } = unsafe { &mut *work };
    *meta = PacketMeta::EMPTY;
    let readable = (linear.end - linear.start) as u32;
    let mut parsed = parse_into(&linear, readable, VLAN_NONE, meta);
    let cut = cut_short(parsed, meta);
    if cut || parsed.is_err() || meta.goes_on() {
        // Only a frame of several buffers is longer than what is readable; only here is it worth asking.
        // SAFETY: the program's own context.
        let total = unsafe { bpf_xdp_get_buff_len(ctx.ctx) } as u32;
        if cut && total > readable {
            *meta = PacketMeta::EMPTY;
            parsed = match parse_copied(ctx.ctx, total, meta) {
                0 => Ok(()),
                1 => Err(NotParsed::NotIp),
                _ => Err(NotParsed::Malformed),
            };
        } else if total > readable {
            meta.extend(total - readable);
        }
        if let Err(why) = parsed {
            count_not_parsed(why, false, total);
            return XDP_PASS;
        }
    }

    let found = look_up(meta, side::IN);
    if stops(found, meta, false, 1, meta.ip_len) {
        return XDP_DROP;
    }
    if meta.depth == Depth::AddressOnly {
        count(Reason::InAddressOnly, false, 1, meta.ip_len);
    }
    *packet = meta.packet(Offload::default());
    packet.from_outside = 1;
    let counted = account(meta, packet, key);
    if counted == Counted::Yes {
        count(Reason::InPass, false, 1, meta.ip_len);
    } else {
        count(Reason::InOverflow, false, 1, meta.ip_len);
        if counted == Counted::FirstOverflow {
            warn!(ctx, "flow map of this epoch is full: packets of further flows are counted as in_overflow");
        }
    }
    XDP_PASS
}
