//! A hash table of numbers: an index of cache lines, sixteen slots to a line, that says under which number a key's record lies
//! in an array beside it.
//!
//! A slot holds the record's number plus one and, in the bits above, a part of the key's hash, so that another key's record
//! is seldom looked at. A search begins at the slot that the hash chooses, goes once round its line and then through the
//! lines behind it, [`LINES`] in all, until it meets the key or an empty slot. A key is met with one line of the index and one
//! of the record: the fewest that a table of any size can do with.
//!
//! Slots are filled by compare-and-swap, and never emptied while others fill them: whoever comes second finds what the first
//! put there. Where one side alone writes, it may also leave [`TOMBSTONE`]s behind, which searches pass over.

/// Slots of a line: a cache line of 64 bytes.
pub const SLOTS: u32 = 16;
/// Lines that a search looks through. With the index half full, it would want more of them once in 10^7 keys (the test
/// `a_full_table_finds_room_for_every_key` counts).
pub const LINES: u32 = 4;
/// No record, and no end of a search.
pub const TOMBSTONE: u32 = 1 << 31;
/// No record of this number.
pub const NONE: u32 = u32::MAX;

/// One line of an index.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
pub struct Line(pub [u32; SLOTS as usize]);

/// Lines of an index that is half full with `records`.
pub const fn lines_for(records: u32) -> u32 {
    let lines = records.div_ceil(SLOTS / 2);
    if lines < LINES { LINES } else { lines }
}

/// The bits of a slot in which the numbers of `records` lie, each plus one.
pub const fn mask_for(records: u32) -> u32 {
    (records + 1).next_power_of_two() - 1
}

/// What a slot holds.
#[inline(always)]
pub const fn slot(hash: u64, mask: u32, record: u32) -> u32 {
    (hash as u32 & !mask) | (record + 1)
}

/// The record of a slot, [`NONE`] for an empty one and for a tombstone.
#[inline(always)]
pub const fn record(slot: u32, mask: u32) -> u32 {
    (slot & mask).wrapping_sub(1)
}

/// Where a search begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    pub line: u32,
    pub at: u32,
}

/// Where the search for a key with this hash begins, in an index of so many lines.
#[inline(always)]
pub const fn start(hash: u64, lines: u32) -> Start {
    // The hash's upper half as a fraction of all slots.
    let slot = ((hash >> 32) * (lines as u64 * SLOTS as u64)) >> 32;
    Start { line: slot as u32 / SLOTS, at: slot as u32 % SLOTS }
}

/// An index in memory that several may use at once.
///
/// # Safety
/// The pointer that `line` returns must be good for [`SLOTS`] aligned slots while `self` is borrowed. `load` and `swap` must be
/// atomic, and what was written before a `swap` that succeeded must be there for whoever loads its result.
pub unsafe trait Index {
    /// Lines in use, at least [`LINES`].
    fn lines(&self) -> u32;
    /// The bits of a record's number: [`mask_for`] of what the table holds.
    fn mask(&self) -> u32;
    /// The slots of a line, `None` where there is no such line.
    fn line(&self, line: u32) -> Option<*mut u32>;
    /// # Safety
    /// See the trait.
    unsafe fn load(slot: *const u32) -> u32;
    /// Replaces `*slot` by `new` if it is still `old`; returns what it held.
    /// # Safety
    /// See the trait.
    unsafe fn swap(slot: *mut u32, old: u32, new: u32) -> u32;
}

/// A first look for a key with this hash, through one line: 0 where it is not there, else the slot that may be its own, or
/// [`TOMBSTONE`] where the line does not tell. If the record is another's, [`find`] knows more.
///
/// The kernel programs do this first, without a call: one line decides in 299 of 300 cases, and the verifier, which looks at
/// every slot for every prefix length that may be in use, sees a single branch for each.
#[inline(always)]
pub fn glance<I: Index>(index: &I, hash: u64) -> u32 {
    let Start { line, at } = start(hash, index.lines());
    let Some(slots) = index.line(line) else { return 0 };
    for i in 0..SLOTS {
        // SAFETY: within the line.
        let held = unsafe { I::load(slots.add(((at + i) % SLOTS) as usize)) };
        let differs = (held ^ hash as u32) & !index.mask();
        // Empty, or the same part of the hash.
        if u64::from(held) * u64::from(differs) == 0 {
            return held;
        }
    }
    TOMBSTONE
}

/// How many slots a search looks at.
pub const STEPS: u32 = LINES * SLOTS;

/// The slot that a search for a key with this hash comes to after `step` others, of [`STEPS`] in all. (A search goes step by
/// step, and not line by line, for the sake of the verifier: it follows a step that is called back once, and loops slot by
/// slot.)
#[inline(always)]
fn slot_at<I: Index>(index: &I, hash: u64, step: u32) -> Option<*mut u32> {
    let Start { line, at } = start(hash, index.lines());
    let mut line = line + step / SLOTS;
    if line >= index.lines() {
        line -= index.lines();
    }
    let at = (at + step) % SLOTS;
    // SAFETY: within the line.
    index.line(line).map(|slots| unsafe { slots.add(at as usize) })
}

/// What a step of a search has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<R> {
    /// Nothing that would end it.
    On,
    /// The key is not there.
    Nothing,
    Found(R),
}

/// A step of the search for a key with this hash; `same` looks at a record and gives it back if it is the key's.
#[inline(always)]
pub fn find_step<I: Index, R>(index: &I, hash: u64, step: u32, same: impl FnOnce(u32) -> Option<R>) -> Step<R> {
    let Some(slot) = slot_at(index, hash, step) else { return Step::Nothing };
    // SAFETY: a slot of the index.
    let held = unsafe { I::load(slot) };
    if held == 0 {
        return Step::Nothing;
    }
    if (held ^ hash as u32) & !index.mask() == 0
        && let Some(found) = same(record(held, index.mask()))
    {
        return Step::Found(found);
    }
    Step::On
}

/// The record under a key with this hash.
#[inline(always)]
pub fn find<I: Index, R>(index: &I, hash: u64, mut same: impl FnMut(u32) -> Option<R>) -> Option<R> {
    for step in 0..STEPS {
        match find_step(index, hash, step, &mut same) {
            Step::On => {}
            Step::Nothing => return None,
            Step::Found(r) => return Some(r),
        }
    }
    None
}

/// A step of the search for a key with this hash that ends with a record in any case. Where there is none yet, `make` gives
/// the number of a new one, written and ready to be found by others; it is kept in `new`, [`NONE`] at first, so that it is
/// made once at most. It stays unused where somebody else was faster.
#[inline(always)]
pub fn insert_step<I: Index>(
    index: &I,
    hash: u64,
    step: u32,
    new: &mut u32,
    same: impl FnOnce(u32) -> bool,
    make: impl FnOnce() -> u32,
) -> Step<u32> {
    let Some(place) = slot_at(index, hash, step) else { return Step::Nothing };
    // SAFETY: a slot of the index.
    let mut held = unsafe { I::load(place) };
    if held == 0 {
        if *new == NONE {
            *new = make();
            if *new == NONE {
                return Step::Nothing;
            }
        }
        // SAFETY: a slot of the index.
        held = unsafe { I::swap(place, 0, slot(hash, index.mask(), *new)) };
        if held == 0 {
            return Step::Found(*new);
        }
    }
    let n = record(held, index.mask());
    if (held ^ hash as u32) & !index.mask() == 0 && same(n) { Step::Found(n) } else { Step::On }
}

/// The record under a key with this hash, a new one if there was none: see [`insert_step`]. [`NONE`] where `make` gave none,
/// and where every slot that the key could lie in is taken.
pub fn find_or_insert<I: Index>(
    index: &I,
    hash: u64,
    mut same: impl FnMut(u32) -> bool,
    mut make: impl FnMut() -> u32,
) -> u32 {
    let mut new = NONE;
    for step in 0..STEPS {
        match insert_step(index, hash, step, &mut new, &mut same, &mut make) {
            Step::On => {}
            Step::Nothing => return NONE,
            Step::Found(n) => return n,
        }
    }
    NONE
}

/// An index that one side alone writes, while others search.
///
/// # Safety
/// What was written before a `store` must be there for whoever loads its value.
pub unsafe trait Owned: Index {
    /// # Safety
    /// See [`Index`].
    unsafe fn store(slot: *mut u32, value: u32);
}

/// Calls `each` with the slots that a key with this hash may lie in, in the order of a search, with their line and their place
/// in it, until it gives something.
fn walk<I: Index, R>(index: &I, hash: u64, mut each: impl FnMut(*mut u32, u32) -> Option<R>) -> Option<R> {
    let at = start(hash, index.lines()).at;
    for step in 0..STEPS {
        let slot = slot_at(index, hash, step)?;
        let at = (at + step) % SLOTS;
        // SAFETY: the line that the slot is in.
        if let Some(r) = each(unsafe { slot.sub(at as usize) }, at) {
            return Some(r);
        }
    }
    None
}

/// Puts the number of a record under its key, which is not there yet. `false` where every slot that the key could lie in is
/// taken.
pub fn put<I: Owned>(index: &I, hash: u64, record: u32) -> bool {
    walk(index, hash, |slots, at| {
        // SAFETY: `at` is a place of the line.
        unsafe {
            let place = slots.add(at as usize);
            let held = I::load(place);
            (held == 0 || held == TOMBSTONE).then(|| I::store(place, slot(hash, index.mask(), record)))
        }
    })
    .is_some()
}

/// Whether the record is to be found under its key.
pub fn is_put<I: Index>(index: &I, hash: u64, record: u32) -> bool {
    let wanted = slot(hash, index.mask(), record);
    walk(index, hash, |slots, at| {
        // SAFETY: `at` is a place of the line.
        match unsafe { I::load(slots.add(at as usize)) } {
            0 => Some(false),
            held if held == wanted => Some(true),
            _ => None,
        }
    })
    .unwrap_or(false)
}

/// Takes a record's number out. `false` where it was not there.
///
/// What is left is a tombstone, unless no search goes on behind the slot: then the slot is empty again, and so are the
/// tombstones before it.
pub fn take_out<I: Owned>(index: &I, hash: u64, record: u32) -> bool {
    let wanted = slot(hash, index.mask(), record);
    walk(index, hash, |slots, at| {
        // SAFETY: `at` and what is computed from it are places of the line.
        unsafe {
            let slot = |at: u32| slots.add((at % SLOTS) as usize);
            match I::load(slot(at)) {
                0 => return Some(false),
                held if held != wanted => return None,
                _ => {}
            }
            if I::load(slot(at + 1)) != 0 {
                I::store(slot(at), TOMBSTONE);
                return Some(true);
            }
            // From the last to the first, so that what is behind an empty slot is never still looked for.
            let mut at = at;
            loop {
                I::store(slot(at), 0);
                at = (at + SLOTS - 1) % SLOTS;
                if I::load(slot(at)) != TOMBSTONE {
                    return Some(true);
                }
            }
        }
    })
    .unwrap_or(false)
}

#[cfg(test)]
mod tests;
