//! TC at egress: the verdict of entries that mean `out`, and accounting of what leaves.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_pull_data;
use aya_ebpf::programs::TcContext;
use aya_log_ebpf::warn;
use weir_common::counters::Reason;
use weir_common::entry::side;
use weir_common::flow::VLAN_NONE;
use weir_common::parse::{Depth, NotParsed, Offload, PacketMeta, parse_into};

use crate::account::{Counted, account};
use crate::count::{count, count_not_parsed};
use crate::ingress::{Linear, cut_short};
use crate::lists::look_up;
use crate::maps::{SCRATCH_LEN, WORK, Work};
use crate::obey::stops;

/// Index into [`WORK`].
const AT_EGRESS: u32 = 1;

/// TC_ACT_UNSPEC and TCX_NEXT: the next filter decides. (TC_ACT_OK would end other people's filters.)
const NEXT: i32 = -1;
/// TC_ACT_SHOT and TCX_DROP.
const SHOT: i32 = 2;

#[inline(always)]
fn linear(skb: *const __sk_buff) -> Linear {
    // SAFETY: the program's own context.
    unsafe { Linear { start: (*skb).data as usize, end: (*skb).data_end as usize } }
}

/// Makes the headers directly readable and parses again. Returns 0, or 1 + [`NotParsed`].
#[inline(never)]
fn parse_pulled(skb: *mut __sk_buff, total: u32, tag: u32, meta: &mut PacketMeta) -> u32 {
    let want = if total as usize > SCRATCH_LEN { SCRATCH_LEN as u32 } else { total };
    // SAFETY: the program's own context.
    unsafe { bpf_skb_pull_data(skb, want) };
    match parse_into(&linear(skb), total, tag as u16, meta) {
        Ok(()) => 0,
        Err(why) => 1 + why as u32,
    }
}

#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    let skb: *mut __sk_buff = ctx.as_ptr().cast();
    // SAFETY: the program's own context.
    let (total, tag, offload) = unsafe {
        let tag = if (*skb).vlan_present != 0 { (*skb).vlan_tci as u16 & 0xfff } else { VLAN_NONE };
        ((*skb).len, tag, Offload { gso_size: (*skb).gso_size, gso_segs: (*skb).gso_segs })
    };
    let bytes = linear(skb);
    let Some(work) = WORK.get_ptr_mut(AT_EGRESS) else { return NEXT };
    // SAFETY: the map's value; only this program uses it, and never interrupted by another run of itself.
    let Work { meta, packet, key } = unsafe { &mut *work };
    *meta = PacketMeta::EMPTY;
    let mut parsed = parse_into(&bytes, total, tag, meta);
    if cut_short(parsed, meta) && total as usize > bytes.end - bytes.start {
        *meta = PacketMeta::EMPTY;
        parsed = match parse_pulled(skb, total, u32::from(tag), meta) {
            0 => Ok(()),
            1 => Err(NotParsed::NotIp),
            _ => Err(NotParsed::Malformed),
        };
    }
    if let Err(why) = parsed {
        count_not_parsed(why, true, total);
        return NEXT;
    }

    *packet = meta.packet(offload);
    let (segs, length) = (packet.segs, packet.bytes());
    let found = look_up(meta, side::OUT);
    if stops(found, meta, true, segs, length) {
        return SHOT;
    }
    if meta.depth == Depth::AddressOnly {
        count(Reason::InAddressOnly, true, segs, length);
    }
    let counted = account(meta, packet, key);
    if counted == Counted::Yes {
        count(Reason::InPass, true, segs, length);
    } else {
        count(Reason::InOverflow, true, segs, length);
        if counted == Counted::FirstOverflow {
            warn!(ctx, "flow map of this epoch is full: packets of further flows are counted as out_overflow");
        }
    }
    NEXT
}
