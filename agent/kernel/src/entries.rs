//! Entries as they lie in the kernel's memory: records, and two indices of them of which one is in use.
//!
//! This process is the only writer, and programs read in every moment. So a record is written in full before the index says
//! where it is, and changed later by single words; the record of an entry that was taken out is used again only when
//! no program can still hold it; and whatever cannot be done in place is done in the idle index, which is then switched to.

use std::sync::atomic::Ordering;

use weir_common::entry::{EntryKey, EntryRecord, FlowEnd, HitCells, Lists, LiveLists, MAX_LENGTHS};
use weir_common::hash::Seed;
use weir_common::table::{self, Index, Line, Owned, find, lines_for, mask_for, put};

use crate::lists::Whole;
use crate::mapped::{Mapped, word32, word64};
use crate::{KernelError, sys};

/// Entries that the smallest index has room for.
const FEWEST: u32 = 1024;

/// The maps behind the entries.
#[derive(Debug)]
pub(crate) struct EntryMaps {
    pub lists: Mapped<LiveLists>,
    pub index: Mapped<Line>,
    pub records: Mapped<EntryRecord>,
    pub ends: Mapped<FlowEnd>,
    pub seed: Seed,
}

/// A part of the index.
struct Part<'a> {
    index: &'a Mapped<Line>,
    first: u32,
    lines: u32,
    mask: u32,
}

// SAFETY: a line is a value of the mapping; slots are used as atomics by both sides.
unsafe impl Index for Part<'_> {
    fn lines(&self) -> u32 {
        self.lines
    }
    fn mask(&self) -> u32 {
        self.mask
    }
    fn line(&self, line: u32) -> Option<*mut u32> {
        self.index.at(self.first + line).map(<*mut Line>::cast)
    }
    unsafe fn load(slot: *const u32) -> u32 {
        // SAFETY: the trait's contract.
        unsafe { word32(slot.cast_mut()) }.load(Ordering::Acquire)
    }
    unsafe fn swap(slot: *mut u32, old: u32, new: u32) -> u32 {
        // SAFETY: the trait's contract.
        let slot = unsafe { word32(slot) };
        slot.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).unwrap_or_else(|held| held)
    }
}

// SAFETY: as above, in release order.
unsafe impl Owned for Part<'_> {
    unsafe fn store(slot: *mut u32, value: u32) {
        // SAFETY: the trait's contract.
        unsafe { word32(slot) }.store(value, Ordering::Release);
    }
}

/// Both words as they belong together.
///
/// # Safety
/// `cells` must be valid for reads; others may change them atomically meanwhile.
unsafe fn hits(cells: *mut HitCells) -> HitCells {
    // Moving a half over takes some nanoseconds, and happens once in millions of packets.
    const TRIES: usize = 1000;
    // SAFETY: the caller's.
    let (recent, folded) = unsafe { (word64(&raw mut (*cells).recent), word64(&raw mut (*cells).folded)) };
    let mut read = HitCells::default();
    for _ in 0..TRIES {
        read = HitCells { folded: folded.load(Ordering::Acquire), recent: recent.load(Ordering::Acquire) };
        if !read.in_motion() && folded.load(Ordering::Acquire) == read.folded {
            break;
        }
    }
    read
}

impl EntryMaps {
    /// The description that is live, and which of the two it is. None where what is there makes no sense.
    pub fn live(&self) -> (Lists, u64) {
        let (lists, live) = self.described();
        (if self.makes_sense(&lists) { lists } else { Lists::NONE }, live)
    }

    fn described(&self) -> (Lists, u64) {
        let Some(both) = self.lists.at(0) else { return (Lists::NONE, 0) };
        // SAFETY: this process is the only one that writes the map.
        unsafe {
            let live = word64(&raw mut (*both).live).load(Ordering::Acquire) & 1;
            ((*both).lists[live as usize], live)
        }
    }

    /// Whether a description is one of ours.
    fn makes_sense(&self, lists: &Lists) -> bool {
        let half = self.index.len() / 2;
        let place = (lists.first == 0 || lists.first == half)
            && (lists.lines == 0 || (table::LINES..=half).contains(&lists.lines))
            && lists.nought == 0;
        let of = [&lists.v4_block, &lists.v4_allow, &lists.v6_block, &lists.v6_allow];
        place && of.iter().all(|l| l.count as usize <= MAX_LENGTHS && l.len.iter().all(|len| *len <= 128))
    }

    /// Where the description makes no sense, somebody has written over it: programs find nothing by it, and it says of no entry
    /// where that lies. An empty one takes its place. Says whether that was so.
    pub fn mend(&self) -> Result<bool, KernelError> {
        if self.makes_sense(&self.described().0) {
            return Ok(false);
        }
        settle()?;
        self.switch(&Lists::NONE);
        Ok(true)
    }

    /// Writes the idle description and switches to it. No program may still read it.
    pub fn switch(&self, lists: &Lists) {
        let (_, live) = self.live();
        let Some(both) = self.lists.at(0) else { return };
        // SAFETY: the caller's word that nobody reads it.
        unsafe {
            (&raw mut (*both).lists[live as usize ^ 1]).write(*lists);
            word64(&raw mut (*both).live).store(live ^ 1, Ordering::Release);
        }
    }

    fn part(&self, first: u32, lines: u32) -> Part<'_> {
        Part { index: &self.index, first, lines, mask: mask_for(self.records.len()) }
    }

    pub fn hash(&self, key: &Whole) -> u64 {
        key.hash(&self.seed)
    }

    /// A record's key with what it refers to.
    pub fn whole(&self, key: &EntryKey) -> Whole {
        let mut ours = FlowEnd::default();
        if key.is_flow()
            && let Some(end) = self.ends.at(key.flow_end())
        {
            // SAFETY: a value of the mapping, which this process alone writes.
            ours = unsafe { end.read() };
        }
        Whole { key: key.without_end(), ours }
    }

    /// Writes our address of a flow that nobody finds yet.
    pub fn write_end(&self, number: u32, ours: FlowEnd) {
        if let Some(end) = self.ends.at(number) {
            // SAFETY: a value of the mapping that no record in any index refers to.
            unsafe { end.write(ours) };
        }
    }

    /// Record numbers and what they hold, as the live index has them, and how many tombstones it has.
    pub fn read(&self) -> (Vec<(u32, EntryRecord)>, u32) {
        let (lists, _) = self.live();
        let part = self.part(lists.first, lists.lines);
        let (mut all, mut tombstones) = (Vec::new(), 0);
        for line in (0..part.lines).filter_map(|n| part.line(n)) {
            for at in 0..table::SLOTS as usize {
                // SAFETY: a slot of the line.
                let held = unsafe { Part::load(line.add(at)) };
                tombstones += u32::from(held == table::TOMBSTONE);
                let n = table::record(held, part.mask);
                all.extend(self.record(n).map(|r| (n, r)));
            }
        }
        (all, tombstones)
    }

    /// A record, word by word: programs count its hits.
    pub fn record(&self, n: u32) -> Option<EntryRecord> {
        let r = self.records.at(n)?;
        // SAFETY: a value of the mapping; only its hits and the state of its limit are ever written by others, by whole words.
        unsafe {
            Some(EntryRecord {
                key: (*r).key,
                verdict: (*r).verdict,
                hits: hits(&raw mut (*r).hits),
                note: (*r).note,
                limit_state: word64(&raw mut (*r).limit_state).load(Ordering::Relaxed),
            })
        }
    }

    /// The record under a key.
    pub fn find(&self, key: &Whole) -> Option<(u32, EntryRecord)> {
        let (lists, _) = self.live();
        if lists.lines == 0 {
            return None;
        }
        let part = self.part(lists.first, lists.lines);
        find(&part, self.hash(key), |n| self.record(n).filter(|r| self.whole(&r.key) == *key).map(|r| (n, r)))
    }

    /// Fills maps that nobody reads yet with these records.
    pub fn fill(&self, lists: Lists, records: &[EntryRecord]) -> Result<(), KernelError> {
        if records.len() > self.records.len() as usize {
            return Err(KernelError::TooSmall { entries: records.len(), room: self.records.len() });
        }
        let mut store = Store::adopt(self, std::iter::empty(), 0);
        for record in records {
            let n = store.take(self)?;
            store.write(self, n, record);
        }
        let all: Vec<(u32, u64)> = (0..).zip(records.iter().map(|r| self.hash(&self.whole(&r.key)))).collect();
        let lists = store.build(self, all.into_iter(), lists)?;
        self.switch(&lists);
        Ok(())
    }
}

/// Which records are free, and how full the live index is.
#[derive(Debug)]
pub(crate) struct Store {
    free: Vec<u32>,
    /// Taken out, and perhaps still in some program's hands.
    limbo: Vec<u32>,
    next: u32,
    /// Entries taken out of the live index since it was built: no fewer than it has tombstones.
    taken_out: u32,
}

impl Store {
    /// Takes over what an earlier agent left.
    pub fn adopt(maps: &EntryMaps, used: impl Iterator<Item = u32>, tombstones: u32) -> Self {
        let mut taken = vec![false; maps.records.len() as usize];
        let mut next = 0;
        for n in used {
            taken[n as usize] = true;
            next = next.max(n + 1);
        }
        let free = (0..next).filter(|n| !taken[*n as usize]).collect();
        Self { free, limbo: Vec::new(), next, taken_out: tombstones }
    }

    /// Records that can be taken.
    pub fn room(&self, maps: &EntryMaps) -> usize {
        self.free.len() + self.limbo.len() + (maps.records.len() - self.next) as usize
    }

    /// The number of a record that nobody uses.
    pub fn take(&mut self, maps: &EntryMaps) -> Result<u32, KernelError> {
        if let Some(n) = self.free.pop() {
            return Ok(n);
        }
        if self.next < maps.records.len() {
            self.next += 1;
            return Ok(self.next - 1);
        }
        settle()?;
        self.free.append(&mut self.limbo);
        self.free
            .pop()
            .ok_or(KernelError::TooSmall { entries: maps.records.len() as usize + 1, room: maps.records.len() })
    }

    /// Gives back a record that was never found by anybody, or that is in no index any more.
    pub fn give_back(&mut self, n: u32) {
        self.limbo.push(n);
    }

    /// Writes a record that nobody finds yet.
    pub fn write(&self, maps: &EntryMaps, n: u32, record: &EntryRecord) {
        if let Some(at) = maps.records.at(n) {
            // SAFETY: a value of the mapping that is in no index, and in no program's hands.
            unsafe { at.write(*record) };
        }
    }

    /// Lines for so many entries and as many again, within the map.
    fn lines(maps: &EntryMaps, entries: u32) -> u32 {
        lines_for(entries.max(FEWEST).next_power_of_two()).min(maps.index.len() / 2)
    }

    /// Whether so many entries want another index than the live one, or what was taken out does.
    pub fn wants_another(&self, maps: &EntryMaps, entries: usize) -> bool {
        let (lists, _) = maps.live();
        let slots = lists.lines as usize * table::SLOTS as usize;
        let largest = lists.lines >= maps.index.len() / 2;
        (!largest && entries * 2 > slots) || self.taken_out as usize * 8 > slots
    }

    /// Builds an index of these records, each with its key's hash, in the half that is not in use. Returns `lists` with the place of that index, to be
    /// switched to.
    pub fn build(
        &mut self,
        maps: &EntryMaps,
        records: impl ExactSizeIterator<Item = (u32, u64)>,
        lists: Lists,
    ) -> Result<Lists, KernelError> {
        let half = maps.index.len() / 2;
        let entries = records.len() as u32;
        let (now, _) = maps.live();
        let first = if now.first == 0 { half } else { 0 };
        let lines = Self::lines(maps, entries);
        // SAFETY: no program has used this half since the last switch but one.
        unsafe { maps.index.clear(first, half) };
        let part = maps.part(first, lines);
        for (n, hash) in records {
            if !put(&part, hash, n) {
                return Err(KernelError::Crowded);
            }
        }
        self.taken_out = 0;
        Ok(Lists { first, lines, ..lists })
    }

    /// Lets a record be found.
    pub fn publish(&self, maps: &EntryMaps, n: u32, hash: u64) -> Result<(), KernelError> {
        let (lists, _) = maps.live();
        let part = maps.part(lists.first, lists.lines);
        // It may be there: then somebody else has written over the record.
        if table::is_put(&part, hash, n) {
            return Ok(());
        }
        if !put(&part, hash, n) {
            return Err(KernelError::Crowded);
        }
        Ok(())
    }

    /// Takes a record out of the index. It may be used again in a while.
    pub fn retire(&mut self, maps: &EntryMaps, n: u32, hash: u64) {
        let (lists, _) = maps.live();
        if table::take_out(&maps.part(lists.first, lists.lines), hash, n) {
            self.taken_out += 1;
        }
    }

    /// Changes what an entry does, at once.
    pub fn change(&self, maps: &EntryMaps, n: u32, verdict: u64, note: u64) {
        if let Some(r) = maps.records.at(n) {
            // SAFETY: words of the mapping.
            unsafe {
                word64(&raw mut (*r).note).store(note, Ordering::Relaxed);
                word64(&raw mut (*r).verdict).store(verdict, Ordering::Release);
            }
        }
    }
}

/// Waits until no program holds what was taken out, and none reads the idle description or index.
pub(crate) fn settle() -> Result<(), KernelError> {
    // Which runs no programs, and knows no such system call.
    if cfg!(miri) {
        return Ok(());
    }
    sys::wait_for_programs().map_err(KernelError::refused("membarrier(MEMBARRIER_CMD_GLOBAL)"))
}
