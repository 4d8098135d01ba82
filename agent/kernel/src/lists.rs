//! Block and allow entries: the table of them, and the bitmaps and length lists that make looking cheap.
//!
//! The order of writes keeps every packet's verdict right meanwhile: to add, lengths and bitmap come before the entry; to
//! remove, the entry goes first.

use std::collections::BTreeMap;

use foldhash::{HashMap, HashMapExt};
use weir_common::address::Address;
use weir_common::entry::{
    Entry, EntryKey, EntryRecord, Hits, Lengths, Lists, MAX_FLOW_TARGETS, MAX_LENGTHS, V4_CELL_PREFIX, V4_CELLS,
    V6_CELL_PREFIX, V6_CELLS, direct, narrow, v4_cell, v6_cell, verdict,
};
use weir_common::table::Line;

use crate::KernelError;
use crate::entries::{EntryMaps, Store, settle};
use crate::mapped::Mapped;
use crate::neighbourhood::Neighbourhood;
use ends::Ends;
pub(crate) use key::Whole;
pub use key::{Key, List};
use key::{Span, V4_BITS};

mod ends;
mod key;
#[cfg(test)]
mod tests;

/// The maps behind the lists.
#[derive(Debug)]
pub(crate) struct ListMaps {
    pub entries: EntryMaps,
    pub v4_bitmap: Mapped<u64>,
    pub v6_bitmap: Mapped<u64>,
}

/// An entry that this table has written or adopted.
#[derive(Clone, Copy, Debug)]
struct Known {
    entry: Entry,
    /// Its record's number.
    record: u32,
    /// The comparison in which it was last met.
    met: u32,
}

/// How what is wanted differs from what a list holds.
#[derive(Debug)]
pub struct Difference {
    /// Those of the wanted, by index, that it lacks or holds otherwise.
    pub stale: Vec<usize>,
    /// How many it holds that nobody wants: see [`EntryTable::surplus`].
    pub surplus: usize,
}

/// What is enforced, as the kernel holds it.
#[derive(Debug)]
pub struct EntryTable {
    maps: EntryMaps,
    store: Store,
    v4: Neighbourhood,
    v6: Neighbourhood,
    /// How many entries have which length: `[list][family]`, family 0 is IPv4.
    lengths: [[BTreeMap<u8, u32>; 2]; 2],
    /// How many are narrower than a host: ports of ours, ports of theirs, flows.
    narrow: [u32; 3],
    ends: Ends,
    known: HashMap<(List, Key), Known>,
    /// Which comparison is the latest.
    round: u32,
    written: Lists,
    blocks: u32,
    allows: u32,
}

impl EntryTable {
    /// Takes over what the maps hold, and makes bitmaps and length lists agree with it.
    pub(crate) fn adopt(maps: ListMaps, blocks: u32, allows: u32) -> Result<Self, KernelError> {
        if maps.entries.mend()? {
            log::warn!(
                "what the kernel holds of entries was written over by somebody else; all of them are written again"
            );
        }
        let (held, tombstones) = maps.entries.read();
        let store = Store::adopt(&maps.entries, held.iter().map(|(n, _)| *n), tombstones);
        let mut table = Self {
            written: maps.entries.live().0,
            maps: maps.entries,
            store,
            v4: Neighbourhood::new(maps.v4_bitmap, V4_CELLS),
            v6: Neighbourhood::new(maps.v6_bitmap, V6_CELLS),
            lengths: Default::default(),
            narrow: [0; 3],
            ends: Ends::default(),
            known: HashMap::with_capacity(held.len()),
            round: 0,
            blocks,
            allows,
        };
        for (record, r) in held {
            let Some((list, key)) = Key::of(&table.maps.whole(&r.key)) else {
                log::warn!("an entry of no list in the kernel is removed: {:?}", r.key);
                let hash = table.maps.hash(&table.maps.whole(&r.key));
                table.store.retire(&table.maps, record, hash);
                continue;
            };
            let entry = EntryRecord::entry(r.verdict, r.note);
            match table.known.insert((list, key), Known { entry, record, met: 0 }) {
                None => table.note_added(list, &key),
                // Two agents at once, or somebody else. (Of a flow, an end may stay in use: no other record must get it.)
                Some(other) => {
                    let hash = table.maps.hash(&key.whole(list));
                    table.store.retire(&table.maps, other.record, hash);
                }
            }
            if let Key::Flow(flow) = key {
                table.ends.adopt(flow, r.key.flow_end());
            }
        }
        table.ends.adopted();
        table.v4.publish();
        table.v6.publish();
        table.write_lists(false)?;
        Ok(table)
    }

    /// Every entry, from the kernel itself.
    pub fn read_back(&self) -> Result<Vec<(List, Key, Entry)>, KernelError> {
        let (held, _) = self.maps.read();
        let read = |r: &EntryRecord| {
            let (list, key) = Key::of(&self.maps.whole(&r.key))?;
            Some((list, key, EntryRecord::entry(r.verdict, r.note)))
        };
        Ok(held.iter().filter_map(|(_, r)| read(r)).collect())
    }

    /// What this table has written or adopted.
    pub fn known(&self) -> impl Iterator<Item = (List, &Key, &Entry)> {
        self.known.iter().map(|((list, key), known)| (*list, key, &known.entry))
    }

    /// What this table has written or adopted under a key.
    pub fn known_entry(&self, list: List, key: &Key) -> Option<&Entry> {
        self.known.get(&(list, *key)).map(|known| &known.entry)
    }

    /// Compares the list with what is wanted, each key once; `same` says where two entries need no writing.
    pub fn compare(
        &mut self,
        list: List,
        wanted: &[(Key, Entry)],
        same: impl Fn(&Entry, &Entry) -> bool,
    ) -> Difference {
        self.begin_round();
        let (mut stale, mut met) = (Vec::new(), 0);
        for (n, (key, entry)) in wanted.iter().enumerate() {
            let known = self.known.get_mut(&(list, *key));
            if let Some(known) = known {
                known.met = self.round;
                met += 1;
                if same(&known.entry, entry) {
                    continue;
                }
            }
            stale.push(n);
        }
        Difference { stale, surplus: self.len(list).saturating_sub(met) }
    }

    /// What the last comparison did not meet on this list.
    pub fn surplus(&self, list: List) -> impl Iterator<Item = &Key> {
        self.known.iter().filter(move |((l, _), known)| *l == list && known.met != self.round).map(|((_, key), _)| key)
    }

    fn begin_round(&mut self) {
        self.round = self.round.wrapping_add(1);
        // Once in four thousand million: what was met that long ago must not pass for met now.
        if self.round == 0 {
            self.round = 1;
            self.known.values_mut().for_each(|known| known.met = 0);
        }
    }

    /// Entries on `list`.
    pub fn len(&self, list: List) -> usize {
        let nets: u32 = self.lengths[list as usize].iter().flat_map(BTreeMap::values).sum();
        let narrow: u32 = if list == List::Block { self.narrow.iter().sum() } else { 0 };
        (nets + narrow) as usize
    }

    /// One entry, read from the kernel itself.
    pub fn get(&self, list: List, key: &Key) -> Result<Option<Entry>, KernelError> {
        Ok(self.maps.find(&key.whole(list)).map(|(_, r)| EntryRecord::entry(r.verdict, r.note)))
    }

    fn note_added(&mut self, list: List, key: &Key) {
        match key {
            Key::V4(k) => *self.lengths[list as usize][0].entry(k.len as u8).or_default() += 1,
            Key::V6(k) => *self.lengths[list as usize][1].entry(k.len as u8).or_default() += 1,
            Key::Port(_) => self.narrow[0] += 1,
            Key::FarPort(_) => self.narrow[1] += 1,
            Key::Flow(_) => self.narrow[2] += 1,
        }
        match key.span() {
            Span::V4(k) => {
                let from = v4_cell(u32::from_be_bytes(k.addr));
                if k.len >= u32::from(V4_CELL_PREFIX) {
                    self.v4.mark(from, list);
                } else {
                    self.v4.mark_range(from, from + ((1 << (u32::from(V4_CELL_PREFIX) - k.len)) - 1), list);
                }
            }
            Span::V6(k) if k.len >= u32::from(V6_CELL_PREFIX) => {
                self.v6.mark(v6_cell(Address::from(k.addr).halves().0), list)
            }
            // Wider ones are looked for whatever the bitmap says: see `Lengths::wide`.
            Span::V6(_) => {}
        }
    }

    /// One entry less of its length.
    fn uncount(&mut self, list: List, key: &Key) {
        let drop_one = |m: &mut BTreeMap<u8, u32>, len: u8| {
            if let Some(n) = m.get_mut(&len) {
                *n -= 1;
                if *n == 0 {
                    m.remove(&len);
                }
            }
        };
        match key {
            Key::V4(k) => drop_one(&mut self.lengths[list as usize][0], k.len as u8),
            Key::V6(k) => drop_one(&mut self.lengths[list as usize][1], k.len as u8),
            Key::Port(_) => self.narrow[0] -= 1,
            Key::FarPort(_) => self.narrow[1] -= 1,
            Key::Flow(_) => self.narrow[2] -= 1,
        }
    }

    /// One entry less in its neighbourhood.
    fn unmark(&mut self, list: List, key: &Key) {
        match key.span() {
            Span::V4(k) => {
                let from = v4_cell(u32::from_be_bytes(k.addr));
                if k.len >= u32::from(V4_CELL_PREFIX) {
                    self.v4.unmark(from, list);
                } else {
                    self.v4.unmark_range(from, from + ((1 << (u32::from(V4_CELL_PREFIX) - k.len)) - 1), list);
                }
            }
            Span::V6(k) if k.len >= u32::from(V6_CELL_PREFIX) => {
                self.v6.unmark(v6_cell(Address::from(k.addr).halves().0), list)
            }
            Span::V6(_) => {}
        }
    }

    fn lengths_of(counts: &BTreeMap<u8, u32>, v6: bool) -> Lengths {
        let mut l = Lengths::NONE;
        for (i, (&len, _)) in counts.iter().rev().enumerate().take(MAX_LENGTHS) {
            l.len[i] = if v6 { len } else { V4_BITS as u8 + len };
            l.count = i as u32 + 1;
            l.wide |= u32::from(v6 && len < V6_CELL_PREFIX);
        }
        l
    }

    /// What the lists are now, in the index that is live.
    fn lists(&self) -> Lists {
        let [[b4, b6], [a4, a6]] = &self.lengths;
        let kinds = self.narrow.iter().zip([narrow::PORT, narrow::FAR_PORT, narrow::FLOW]);
        Lists {
            v4_block: Self::lengths_of(b4, false),
            v4_allow: Self::lengths_of(a4, false),
            v6_block: Self::lengths_of(b6, true),
            v6_allow: Self::lengths_of(a6, true),
            narrow: kinds.filter(|(n, _)| **n > 0).map(|(_, bit)| bit).sum(),
            direct: self.direct(self.written.lines),
            ..self.written
        }
    }

    /// Families that need no bitmap with this index: see [`direct`]. An index of 2 MiB is half the IPv4 bitmap.
    fn direct(&self, lines: u32) -> u32 {
        const FEW_LOOKUPS: usize = 2;
        const SMALL: u32 = (2 << 20) / size_of::<Line>() as u32;
        let [[b4, b6], [a4, a6]] = &self.lengths;
        let narrow = self.narrow.iter().filter(|n| **n > 0).count();
        let few = |nets: usize| lines <= SMALL && nets + narrow <= FEW_LOOKUPS;
        let bit = |yes: bool, bit: u32| if yes { bit } else { 0 };
        bit(few(b4.len() + a4.len()), direct::V4) | bit(few(b6.len() + a6.len()), direct::V6)
    }

    /// Writes the idle description and switches to it, where anything changed. `rebuild`: into a new index as well.
    fn write_lists(&mut self, rebuild: bool) -> Result<(), KernelError> {
        let mut lists = self.lists();
        if lists == self.written && !rebuild {
            return Ok(());
        }
        // A program that still reads the idle description, or the idle index, since the switch before would see it change.
        settle()?;
        if rebuild {
            let hash = |(list, key): &(List, Key)| self.maps.hash(&key.whole(*list));
            let all: Vec<(u32, u64)> = self.known.iter().map(|(key, known)| (known.record, hash(key))).collect();
            lists = self.store.build(&self.maps, all.into_iter(), lists)?;
            lists.direct = self.direct(lists.lines);
        }
        self.maps.switch(&lists);
        self.written = lists;
        Ok(())
    }

    /// Adds or replaces entries. A replaced entry keeps its hits.
    pub fn set(&mut self, list: List, entries: &[(Key, Entry)]) -> Result<(), KernelError> {
        self.check_room(list, entries.iter().map(|(key, _)| key), true)?;
        let (mut added, mut changed) = (Vec::new(), Vec::new());
        for (key, entry) in entries {
            match self.known.get_mut(&(list, *key)) {
                Some(known) => {
                    known.entry = entry.kept();
                    changed.push((*key, *known));
                }
                None => {
                    let known = self.prepare(list, key, entry)?;
                    added.push((*key, known));
                }
            }
        }
        if self.store.wants_another(&self.maps, self.known.len()) {
            // The new ones come with the new index, and others with it.
            self.write_lists(true)?;
        } else {
            self.write_lists(false)?;
            for (key, known) in added {
                self.publish(list, &key, known.record)?;
            }
        }
        for (key, known) in changed {
            self.change(list, &key, known)?;
        }
        Ok(())
    }

    /// Makes a list exactly this, however long: each packet meets the old list as a whole or the new one, which is built
    /// beside it. An entry that is on both keeps its hits; what it does is changed right behind the switch. Each key must be
    /// there once, and there must be room for the old and the new entries at once.
    pub fn replace(&mut self, list: List, entries: &[(Key, Entry)]) -> Result<(), KernelError> {
        self.check_room(list, entries.iter().map(|(key, _)| key), false)?;
        let surplus = self.compare(list, entries, |_, _| true).surplus;
        let new = entries.len() + surplus - self.len(list);
        if new > self.store.room(&self.maps) {
            let room = self.maps.records.len();
            return Err(KernelError::TooSmall { entries: self.known.len() + new, room });
        }
        // Out of the books first, so that neither the new index nor the new lengths know them and the books need no room for
        // both; marks in the bitmap stay until nobody looks for them.
        let mut gone: Vec<(Key, u32)> = Vec::with_capacity(surplus);
        let round = self.round;
        self.known.retain(|(l, key), known| {
            let stays = *l != list || known.met == round;
            if !stays {
                gone.push((*key, known.record));
            }
            stays
        });
        // In the order in which records are given out again: those that follow one another were written one after the other.
        gone.sort_unstable_by_key(|(_, record)| std::cmp::Reverse(*record));
        gone.iter().for_each(|(key, _)| self.uncount(list, key));
        self.known.reserve(new);
        let mut changed = Vec::new();
        // In the order of `entries`: records that follow one another are written one after the other.
        for (key, entry) in entries {
            match self.known.get_mut(&(list, *key)) {
                Some(known) if known.entry == entry.kept() => {}
                Some(known) => {
                    known.entry = entry.kept();
                    changed.push((*key, *known));
                }
                None => {
                    self.prepare(list, key, entry)?;
                }
            }
        }
        self.write_lists(true)?;
        for (key, record) in gone {
            self.unmark(list, &key);
            self.give_back(&key, record);
        }
        for (key, known) in changed {
            self.change(list, &key, known)?;
        }
        Ok(())
    }

    /// A record for a new entry, with everything that must be there before it can be found. It is known from now on.
    fn prepare(&mut self, list: List, key: &Key, entry: &Entry) -> Result<Known, KernelError> {
        let record = self.store.take(&self.maps)?;
        if let Key::Flow(flow) = key
            && let Err(e) = self.ends.take(*flow)
        {
            self.store.give_back(record);
            return Err(e);
        }
        self.write(list, key, entry, record);
        let known = Known { entry: entry.kept(), record, met: 0 };
        self.known.insert((list, *key), known);
        self.note_added(list, key);
        Ok(known)
    }

    /// Writes a record that nobody finds, and what belongs to it.
    fn write(&self, list: List, key: &Key, entry: &Entry, record: u32) {
        let words = self.words(list, key);
        if words.is_flow() {
            self.maps.write_end(words.flow_end(), key.whole(list).ours);
        }
        self.store.write(&self.maps, record, &EntryRecord::new(words, entry, Hits::default()));
    }

    /// The key of a known entry as it lies in its record.
    fn words(&self, list: List, key: &Key) -> EntryKey {
        let words = key.whole(list).key;
        match key {
            Key::Flow(flow) => words.with_end(self.ends.number(flow).unwrap_or_default()),
            _ => words,
        }
    }

    /// Lets an entry be found that is known already.
    fn publish(&mut self, list: List, key: &Key, record: u32) -> Result<(), KernelError> {
        match self.store.publish(&self.maps, record, self.maps.hash(&key.whole(list))) {
            // Whatever is known comes into the new index.
            Err(KernelError::Crowded) => self.write_lists(true),
            other => other,
        }
    }

    /// Changes what an entry does that is known already, and writes it again where somebody else has taken it out.
    fn change(&mut self, list: List, key: &Key, known: Known) -> Result<(), KernelError> {
        let (words, whole) = (self.words(list, key), key.whole(list));
        let held = self.maps.record(known.record);
        if held.is_none_or(|r| r.key != words || self.maps.whole(&r.key) != whole) {
            self.write(list, key, &known.entry, known.record);
        }
        self.store.change(&self.maps, known.record, verdict::of(&known.entry), EntryRecord::note(&known.entry));
        self.publish(list, key, known.record)
    }

    /// What an entry took that is in no index any more.
    fn give_back(&mut self, key: &Key, record: u32) {
        self.store.give_back(record);
        if let Key::Flow(flow) = key {
            self.ends.give_back(flow);
        }
    }

    fn full(&self, list: List) -> KernelError {
        match list {
            List::Block => KernelError::Full { list: "block", capacity: self.blocks, key: "blocks" },
            List::Allow => KernelError::Full { list: "allow", capacity: self.allows, key: "allows" },
        }
    }

    /// Whether the list has room for `keys`, beside the others on it or instead of them.
    fn check_room<'a>(&self, list: List, keys: impl Iterator<Item = &'a Key>, beside: bool) -> Result<(), KernelError> {
        let new: Vec<&Key> = keys.filter(|k| !beside || !self.known.contains_key(&(list, **k))).collect();
        let capacity = match list {
            List::Block => self.blocks,
            List::Allow => self.allows,
        };
        let others = if beside { self.len(list) } else { 0 };
        if !new.is_empty() && others + new.len() > capacity as usize {
            return Err(self.full(list));
        }
        let flows = new.iter().filter(|k| matches!(k, Key::Flow(_)) && !self.known.contains_key(&(list, ***k))).count();
        if flows > self.ends.room() {
            return Err(KernelError::TooManyFlows { max: MAX_FLOW_TARGETS });
        }
        for (family, v6) in [("IPv4", false), ("IPv6", true)] {
            let counts = &self.lengths[list as usize][usize::from(v6)];
            let (mut lens, mut used) = ([false; 129], 0);
            if beside {
                counts.keys().for_each(|len| lens[usize::from(*len)] = true);
                used = counts.len();
            }
            for key in &new {
                let len = match (key, v6) {
                    (Key::V4(k), false) => k.len as u8,
                    (Key::V6(k), true) => k.len as u8,
                    _ => continue,
                };
                used += usize::from(!std::mem::replace(&mut lens[usize::from(len)], true));
                if used > MAX_LENGTHS {
                    let list = if list == List::Block { "block" } else { "allow" };
                    return Err(KernelError::TooManyLengths { family, list, max: MAX_LENGTHS, len });
                }
            }
        }
        Ok(())
    }

    /// Takes entries away. Says how many there were.
    pub fn remove(&mut self, list: List, keys: &[Key]) -> Result<usize, KernelError> {
        let mut removed = 0;
        for key in keys {
            let whole = key.whole(list);
            let hash = self.maps.hash(&whole);
            match self.known.remove(&(list, *key)) {
                Some(known) => {
                    self.store.retire(&self.maps, known.record, hash);
                    self.give_back(key, known.record);
                    self.uncount(list, key);
                    self.unmark(list, key);
                    removed += 1;
                }
                // Somebody else's, whose record is not ours to give out.
                None => {
                    if let Some((record, _)) = self.maps.find(&whole) {
                        self.store.retire(&self.maps, record, hash);
                    }
                }
            }
        }
        let rebuild = self.store.wants_another(&self.maps, self.known.len());
        self.write_lists(rebuild)?;
        Ok(removed)
    }

    /// What an entry has stopped, or would have.
    pub fn hits(&self, list: List, key: &Key) -> Result<Hits, KernelError> {
        let record = self.known.get(&(list, *key)).and_then(|known| self.maps.record(known.record));
        Ok(record.map(|r| r.hits.hits()).unwrap_or_default())
    }
}
