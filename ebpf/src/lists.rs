//! The allow list, then the block list.

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_loop};
use aya_ebpf::maps::Array;
use weir_common::address::Address;
use weir_common::entry::{
    CELLS_PER_WORD, EntryKey, FLOW_MASK, FlowEnd, Lengths, Lists, MAX_LENGTHS, action, cell, direct, kind, masked,
    narrow, side, v4_cell, v6_cell, verdict,
};
use weir_common::hash::hash;
use weir_common::parse::PacketMeta;
use weir_common::table::{NONE, STEPS, Step, find_step, glance, record};

use crate::index::Lines;
use crate::maps::{ENTRIES, ENTRY_INDEX, FLOW_ENDS, LISTS, TICK, V4_BITMAP, V6_BITMAP, seed, sizes};

/// What the lists say of a packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Found {
    /// 0 where nothing matches, else one of [`action`], or [`ALLOWED`].
    pub action: u32,
    /// The record to be credited.
    pub record: u32,
}

/// An allow entry covers the remote address.
pub const ALLOWED: u32 = 255;

const NOTHING: Found = Found { action: 0, record: NONE };

/// Whether the entry means this side and has not expired.
#[inline(always)]
fn live(v: u64, side: u8) -> bool {
    if verdict::sides(v) & side == 0 {
        return false;
    }
    verdict::never_expires(v) || !verdict::expired(v, coarse_ns())
}

/// The coarse clock. It moves on with `jiffies`, which costs nothing to read: asked once per tick and processor, it costs
/// next to nothing as well, and is at most one tick behind.
#[inline(always)]
pub fn coarse_ns() -> u64 {
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

#[inline(always)]
fn entries(lists: &Lists) -> Lines {
    Lines { map: &ENTRY_INDEX, first: lists.first, lines: lists.lines, mask: sizes().entry_mask }
}

/// The verdict of the record of this number, if it is the key's.
#[inline(always)]
fn verdict_of(n: u32, key: &EntryKey) -> Option<u64> {
    let record = ENTRIES.get_ptr(n)?;
    // SAFETY: a value of the map. Its key stays as it is for as long as any program may have found it; the verdict is one word.
    unsafe {
        let (held, words) = ((*record).key.words(), key.words());
        let different = (held[0] ^ words[0]) | (held[1] ^ words[1]) | (held[2] ^ words[2]);
        if different == 0 { Some((&raw const (*record).verdict).read_volatile()) } else { None }
    }
}

/// The same for a flow.
#[inline(always)]
fn verdict_of_flow(n: u32, key: &EntryKey, ours: FlowEnd) -> Option<u64> {
    let record = ENTRIES.get_ptr(n)?;
    // SAFETY: as above; a flow's end stays for as long as its record may be found.
    unsafe {
        let (held, words) = ((*record).key.words(), key.words());
        if (held[0] ^ words[0]) | (held[1] ^ words[1]) | ((held[2] ^ words[2]) & FLOW_MASK) != 0 {
            return None;
        }
        let (hi, lo) = (*FLOW_ENDS.get_ptr((*record).key.flow_end())?).halves();
        let (our_hi, our_lo) = ours.halves();
        if (hi ^ our_hi) | (lo ^ our_lo) == 0 { Some((&raw const (*record).verdict).read_volatile()) } else { None }
    }
}

/// The search for an entry where a glance did not tell, as its steps are called back.
struct Exact<'a> {
    lists: &'a Lists,
    key: EntryKey,
    hash: u64,
    record: u32,
}

extern "C" fn exact_step(step: u32, exact: *mut Exact<'_>) -> i64 {
    // SAFETY: what `exact` passes on, and nobody else uses meanwhile.
    let e = unsafe { &mut *exact };
    let key = e.key;
    match find_step(&entries(e.lists), e.hash, step, |n| verdict_of(n, &key).map(|_| n)) {
        Step::On => 0,
        Step::Nothing => 1,
        Step::Found(n) => {
            e.record = n;
            1
        }
    }
}

/// The same for a flow.
struct ExactFlow<'a> {
    lists: &'a Lists,
    key: EntryKey,
    ours: FlowEnd,
    hash: u64,
    record: u32,
}

extern "C" fn exact_flow_step(step: u32, exact: *mut ExactFlow<'_>) -> i64 {
    // SAFETY: what `exact_flow` passes on, and nobody else uses meanwhile.
    let e = unsafe { &mut *exact };
    let (key, ours) = (e.key, e.ours);
    match find_step(&entries(e.lists), e.hash, step, |n| verdict_of_flow(n, &key, ours).map(|_| n)) {
        Step::On => 0,
        Step::Nothing => 1,
        Step::Found(n) => {
            e.record = n;
            1
        }
    }
}

/// The number of the key's record.
#[inline(always)]
fn exact(lists: &Lists, key: EntryKey, hash: u64) -> u32 {
    let mut exact = Exact { lists, key, hash, record: NONE };
    // SAFETY: the context outlives the call.
    unsafe { bpf_loop(STEPS, exact_step as *mut c_void, (&raw mut exact).cast(), 0) };
    exact.record
}

/// What a search has found so far, and what it looks for.
struct Search<'a> {
    lists: &'a Lists,
    /// The remote address.
    hi: u64,
    lo: u64,
    found: Found,
    side: u8,
}

/// What looking for one entry has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    /// Nothing that decides.
    Nothing,
    /// Nothing can be stronger.
    Decided,
    /// The first line does not tell.
    Unclear,
}

impl Search<'_> {
    /// Takes the entry under `key` into account, as far as a glance tells.
    #[inline(always)]
    fn glance<const ALLOW: bool>(&mut self, key: EntryKey) -> Met {
        let index = entries(self.lists);
        let held = glance(&index, hash(seed(), key.words()));
        if held == 0 {
            return Met::Nothing;
        }
        let n = record(held, index.mask);
        match verdict_of(n, &key) {
            Some(v) => self.weigh::<ALLOW>(n, v),
            None => Met::Unclear,
        }
    }

    /// Takes the entry under `key` into account.
    #[inline(always)]
    fn exact<const ALLOW: bool>(&mut self, key: EntryKey) -> Met {
        let n = exact(self.lists, key, hash(seed(), key.words()));
        match verdict_of(n, &key) {
            Some(v) => self.weigh::<ALLOW>(n, v),
            None => Met::Nothing,
        }
    }

    /// Takes the entry of a flow into account.
    #[inline(always)]
    fn flow(&mut self, key: EntryKey, ours: FlowEnd) {
        let (index, hash) = (entries(self.lists), hash(seed(), &key.flow_words(ours)));
        let held = glance(&index, hash);
        if held == 0 {
            return;
        }
        let n = record(held, index.mask);
        if let Some(v) = verdict_of_flow(n, &key, ours) {
            self.weigh::<false>(n, v);
            return;
        }
        let mut exact = ExactFlow { lists: self.lists, key, ours, hash, record: NONE };
        // SAFETY: the context outlives the call.
        unsafe { bpf_loop(STEPS, exact_flow_step as *mut c_void, (&raw mut exact).cast(), 0) };
        if let Some(v) = verdict_of_flow(exact.record, &key, ours) {
            self.weigh::<false>(exact.record, v);
        }
    }

    /// Takes the entry of a port into account.
    #[inline(always)]
    fn port(&mut self, key: EntryKey) {
        if self.glance::<false>(key) == Met::Unclear {
            self.exact::<false>(key);
        }
    }

    /// Whether nothing can be stronger than what was found.
    #[inline(always)]
    fn decided(&self) -> bool {
        self.found.action == u32::from(action::DROP)
    }

    /// The strongest live entry counts, among equals the narrowest, which comes first.
    #[inline(always)]
    fn weigh<const ALLOW: bool>(&mut self, n: u32, v: u64) -> Met {
        if !live(v, self.side) {
            return Met::Nothing;
        }
        if ALLOW {
            self.found.action = ALLOWED;
            return Met::Decided;
        }
        let action = verdict::action(v);
        if action > self.found.action {
            self.found = Found { action, record: n };
        }
        if action == u32::from(action::DROP) { Met::Decided } else { Met::Nothing }
    }

    /// The key of this search for a prefix length.
    #[inline(always)]
    fn net(&self, kind: u64, len: u8) -> EntryKey {
        let (hi, lo) = masked(self.hi, self.lo, len.into());
        EntryKey::net(hi, lo, kind, len.into())
    }

    /// One list, once per prefix length in use. A loop for the first ones: `bpf_loop` calls back indirectly, which costs more
    /// than the search. The rest, and what a glance does not tell, is left to it all the same: the verifier would have to
    /// look at too much.
    #[inline(always)]
    fn nets<const ALLOW: bool>(&mut self, family: u64, lengths: &Lengths) {
        let kind = if ALLOW { family | kind::ALLOW } else { family };
        let mut i = 0;
        while i < AT_A_GLANCE {
            if i as u32 >= lengths.count {
                return;
            }
            match self.glance::<ALLOW>(self.net(kind, lengths.len[i])) {
                Met::Decided => return,
                Met::Nothing => {}
                Met::Unclear => break,
            }
            i += 1;
        }
        let count = lengths.count;
        let i = i as u32 | nought(self.lists);
        if i >= count || count as usize > MAX_LENGTHS {
            return;
        }
        let mut rest = Rest { search: self, lengths, kind, from: i };
        let step = if ALLOW { rest_step::<true> } else { rest_step::<false> };
        // SAFETY: the context outlives the call.
        unsafe { bpf_loop(count - i, step as *mut c_void, (&raw mut rest).cast(), 0) };
    }
}

/// 0, which the verifier does not know: for each value that it knows, it looks at what follows once more.
#[inline(always)]
fn nought(lists: &Lists) -> u32 {
    // SAFETY: a value of the map that is always 0.
    unsafe { (&raw const lists.nought).read_volatile() }
}

/// Prefix lengths that are looked for without a call.
const AT_A_GLANCE: usize = 6;

/// The rest of a list, as it is called back for each prefix length.
struct Rest<'a, 'b> {
    search: &'a mut Search<'b>,
    lengths: &'a Lengths,
    kind: u64,
    from: u32,
}

extern "C" fn rest_step<const ALLOW: bool>(i: u32, rest: *mut Rest<'_, '_>) -> i64 {
    // SAFETY: what `nets` passes on, and nobody else uses meanwhile.
    let r = unsafe { &mut *rest };
    let at = (r.from + i) as usize;
    if at >= MAX_LENGTHS {
        return 1;
    }
    let key = r.search.net(r.kind, r.lengths.len[at]);
    match r.search.exact::<ALLOW>(key) {
        Met::Decided => 1,
        _ => 0,
    }
}

/// The live description of the lists.
#[inline(always)]
fn live_lists() -> Option<&'static Lists> {
    let both = LISTS.get(0)?;
    // SAFETY: the map's value; the switch is one word.
    let live = unsafe { (&raw const both.live).read_volatile() };
    Some(&both.lists[(live & 1) as usize])
}

/// Whether any entry may concern `remote`: bits of [`cell`].
#[inline(always)]
fn near(lists: &Lists, v4: bool, remote: &Address) -> u64 {
    let any = if v4 {
        lists.v4_block.count | lists.v4_allow.count | lists.narrow
    } else {
        lists.v6_block.count | lists.v6_allow.count | lists.narrow
    };
    if any == 0 {
        return 0;
    }
    if lists.direct & (if v4 { direct::V4 } else { direct::V6 }) != 0 {
        return cell::ALLOW | cell::BLOCK;
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
/// on a list anywhere near. Narrower entries come first: a flow, a port of ours for a host, a port of the host's own, then
/// prefixes, the longest first.
#[inline(always)]
pub fn look_up(meta: &PacketMeta, side: u8) -> Found {
    // The far end's address and port, and ours.
    let (remote, far_port, ours, port) = if side == side::IN {
        (&meta.src, meta.src_port, &meta.dst, meta.dst_port)
    } else {
        (&meta.dst, meta.dst_port, &meta.src, meta.src_port)
    };
    let Some(lists) = live_lists() else { return NOTHING };
    let v4 = meta.family == 4;
    let near = near(lists, v4, remote);
    let (hi, lo) = remote.halves();
    let mut s = Search { lists, hi, lo, found: Found { action: nought(lists), record: NONE }, side };
    let family = if v4 { kind::V4 } else { kind::V6 };
    if near & cell::ALLOW != 0 {
        s.nets::<true>(family, if v4 { &lists.v4_allow } else { &lists.v6_allow });
        if s.found.action == ALLOWED {
            return s.found;
        }
    }
    if near & cell::BLOCK != 0 {
        let narrow = lists.narrow;
        if narrow != 0 && meta.fragment == 0 {
            if narrow & narrow::FLOW != 0 {
                let (our_hi, our_lo) = ours.halves();
                s.flow(EntryKey::flow(hi, lo, meta.proto, far_port, port, 0), FlowEnd::new(our_hi, our_lo));
            }
            if narrow & narrow::PORT != 0 && !s.decided() {
                s.port(EntryKey::port(hi, lo, meta.proto, port));
            }
            if narrow & narrow::FAR_PORT != 0 && !s.decided() {
                s.port(EntryKey::far_port(hi, lo, meta.proto, far_port));
            }
        }
        if !s.decided() {
            s.nets::<false>(family, if v4 { &lists.v4_block } else { &lists.v6_block });
        }
    }
    s.found
}
