//! Block and allow entries: the hashes, and the bitmaps and length lists that make looking cheap.
//!
//! The order of writes keeps every packet's verdict right meanwhile: to add, lengths and bitmap come before the entry; to
//! remove, the entry goes first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use weir_common::address::Address;
use weir_common::entry::{
    Entry, Hits, Lengths, Lists, MAX_LENGTHS, NO_SLOT, PortKey, V4_CELL_PREFIX, V4_CELLS, V4Key, V6_CELL_PREFIX,
    V6_CELLS, V6Key, v4_cell, v6_cell,
};
use weir_common::flow::V4_MAPPED_PREFIX;
use weir_common::names::switch;

use crate::neighbourhood::Neighbourhood;
use crate::{KernelError, sys};

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum List {
    Block,
    Allow,
}

/// What an entry is about. Host bits of prefixes must be zero; `len` counts in the family's own width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    V4(V4Key),
    V6(V6Key),
    /// Block list only.
    Port(PortKey),
}

impl Key {
    /// The prefix `addr/len`, where `addr` is 16 bytes, IPv4 as IPv4-mapped.
    pub fn net(addr: [u8; 16], len: u8) -> Self {
        if addr[..12] == V4_MAPPED_PREFIX {
            Key::V4(V4Key { addr: [addr[12], addr[13], addr[14], addr[15]], len: u32::from(len) })
        } else {
            Key::V6(V6Key { addr, len: u32::from(len) })
        }
    }

    /// One protocol and port of ours, for one remote host.
    pub fn port(addr: [u8; 16], proto: u8, port: u16) -> Self {
        Key::Port(PortKey { addr, port, proto, reserved: 0 })
    }

    /// The prefix whose neighbourhood is marked: address bytes, length, whether IPv4.
    fn span(&self) -> Span {
        match *self {
            Key::V4(k) => Span::V4(k),
            Key::V6(k) => Span::V6(k),
            Key::Port(p) => match Key::net(p.addr, 128) {
                Key::V4(k) => Span::V4(V4Key { len: 32, ..k }),
                _ => Span::V6(V6Key { addr: p.addr, len: 128 }),
            },
        }
    }
}

#[derive(Clone, Copy)]
enum Span {
    V4(V4Key),
    V6(V6Key),
}

/// The maps behind the lists.
#[derive(Debug)]
pub(crate) struct ListMaps {
    pub v4_block: OwnedFd,
    pub v6_block: OwnedFd,
    pub port_block: OwnedFd,
    pub v4_allow: OwnedFd,
    pub v6_allow: OwnedFd,
    pub v4_bitmap: OwnedFd,
    pub v6_bitmap: OwnedFd,
    pub lists: OwnedFd,
    pub switches: OwnedFd,
    pub hits: OwnedFd,
}

/// What is enforced, as the kernel holds it.
#[derive(Debug)]
pub struct EntryTable {
    v4_block: OwnedFd,
    v6_block: OwnedFd,
    port_block: OwnedFd,
    v4_allow: OwnedFd,
    v6_allow: OwnedFd,
    lists: OwnedFd,
    switches: OwnedFd,
    hits: OwnedFd,
    v4: Neighbourhood,
    v6: Neighbourhood,
    /// How many entries have which length: `[list][family]`, family 0 is IPv4.
    lengths: [[BTreeMap<u8, u32>; 2]; 2],
    ports: u32,
    known: HashMap<(List, Key), Entry>,
    written: Lists,
    free: Vec<u32>,
    next_slot: u32,
    blocks: u32,
    allows: u32,
}

impl EntryTable {
    /// Takes over what the maps hold, and makes bitmaps and length lists agree with it.
    pub(crate) fn adopt(maps: ListMaps, blocks: u32, allows: u32) -> Result<Self, KernelError> {
        let active = sys::lookup::<u32, u32>(maps.switches.as_fd(), &switch::LISTS)
            .map_err(KernelError::refused("reading the live lists"))?
            .unwrap_or(0);
        let written = sys::lookup::<u32, Lists>(maps.lists.as_fd(), &(active & 1))
            .map_err(KernelError::refused("reading the live lists"))?
            .unwrap_or(Lists::NONE);
        let mut table = Self {
            v4_block: maps.v4_block,
            v6_block: maps.v6_block,
            port_block: maps.port_block,
            v4_allow: maps.v4_allow,
            v6_allow: maps.v6_allow,
            lists: maps.lists,
            switches: maps.switches,
            hits: maps.hits,
            v4: Neighbourhood::new(maps.v4_bitmap, V4_CELLS),
            v6: Neighbourhood::new(maps.v6_bitmap, V6_CELLS),
            lengths: Default::default(),
            ports: 0,
            known: HashMap::new(),
            written,
            free: Vec::new(),
            next_slot: 0,
            blocks,
            allows,
        };
        let found = table.read_back()?;
        let mut used = BTreeSet::new();
        for (list, key, entry) in found {
            table.note_added(list, &key);
            if entry.slot != NO_SLOT {
                used.insert(entry.slot);
            }
            table.known.insert((list, key), entry);
        }
        table.next_slot = used.last().map_or(0, |s| s + 1);
        table.free = (0..table.next_slot).filter(|s| !used.contains(s)).collect();
        table.v4.rewrite()?;
        table.v6.rewrite()?;
        table.write_lengths()?;
        Ok(table)
    }

    /// Every entry, from the kernel itself.
    pub fn read_back(&self) -> Result<Vec<(List, Key, Entry)>, KernelError> {
        let mut all = Vec::new();
        let read = KernelError::refused;
        for (list, fd) in [(List::Block, &self.v4_block), (List::Allow, &self.v4_allow)] {
            sys::Batch::<V4Key, Entry>::default()
                .for_all(fd.as_fd(), false, |k, e| all.push((list, Key::V4(*k), *e)))
                .map_err(read("reading entries back"))?;
        }
        for (list, fd) in [(List::Block, &self.v6_block), (List::Allow, &self.v6_allow)] {
            sys::Batch::<V6Key, Entry>::default()
                .for_all(fd.as_fd(), false, |k, e| all.push((list, Key::V6(*k), *e)))
                .map_err(read("reading entries back"))?;
        }
        sys::Batch::<PortKey, Entry>::default()
            .for_all(self.port_block.as_fd(), false, |k, e| all.push((List::Block, Key::Port(*k), *e)))
            .map_err(read("reading entries back"))?;
        Ok(all)
    }

    /// What this table has written or adopted.
    pub fn known(&self) -> impl Iterator<Item = (List, &Key, &Entry)> {
        self.known.iter().map(|((list, key), entry)| (*list, key, entry))
    }

    /// Entries on `list`.
    pub fn len(&self, list: List) -> usize {
        let nets: u32 = self.lengths[list as usize].iter().flat_map(BTreeMap::values).sum();
        nets as usize + if list == List::Block { self.ports as usize } else { 0 }
    }

    /// One entry, read from the kernel itself.
    pub fn get(&self, list: List, key: &Key) -> Result<Option<Entry>, KernelError> {
        let r = match key {
            Key::V4(k) => sys::lookup(self.hash(list, key), k),
            Key::V6(k) => sys::lookup(self.hash(list, key), k),
            Key::Port(k) => sys::lookup(self.hash(list, key), k),
        };
        r.map_err(KernelError::refused("reading an entry back"))
    }

    fn hash(&self, list: List, key: &Key) -> BorrowedFd<'_> {
        match (list, key) {
            (List::Block, Key::V4(_)) => self.v4_block.as_fd(),
            (List::Block, Key::V6(_)) => self.v6_block.as_fd(),
            (List::Allow, Key::V4(_)) => self.v4_allow.as_fd(),
            (List::Allow, Key::V6(_)) => self.v6_allow.as_fd(),
            (_, Key::Port(_)) => self.port_block.as_fd(),
        }
    }

    fn note_added(&mut self, list: List, key: &Key) {
        match key {
            Key::V4(k) => *self.lengths[list as usize][0].entry(k.len as u8).or_default() += 1,
            Key::V6(k) => *self.lengths[list as usize][1].entry(k.len as u8).or_default() += 1,
            Key::Port(_) => self.ports += 1,
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

    fn note_removed(&mut self, list: List, key: &Key) {
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
            Key::Port(_) => self.ports = self.ports.saturating_sub(1),
        }
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
            l.len[i] = len;
            l.count = i as u32 + 1;
            l.wide |= u32::from(v6 && len < V6_CELL_PREFIX);
        }
        l
    }

    /// Writes the idle length lists and switches, where anything changed.
    fn write_lengths(&mut self) -> Result<(), KernelError> {
        let [[b4, b6], [a4, a6]] = &self.lengths;
        let lists = Lists {
            v4_block: Self::lengths_of(b4, false),
            v4_allow: Self::lengths_of(a4, false),
            v6_block: Self::lengths_of(b6, true),
            v6_allow: Self::lengths_of(a6, true),
            ports: self.ports,
            reserved: 0,
        };
        if lists == self.written {
            return Ok(());
        }
        let refused = || KernelError::refused("switching the lists");
        let active = sys::lookup::<u32, u32>(self.switches.as_fd(), &switch::LISTS).map_err(refused())?.unwrap_or(0);
        let idle = (active & 1) ^ 1;
        // A program that still reads the idle element since the switch before would see it change.
        let shape_changes = Lists { ports: 0, ..lists } != Lists { ports: 0, ..self.written };
        if shape_changes {
            sys::wait_for_programs().map_err(refused())?;
        }
        sys::update(self.lists.as_fd(), &idle, &lists, sys::ANY).map_err(refused())?;
        sys::update(self.switches.as_fd(), &switch::LISTS, &idle, sys::ANY).map_err(refused())?;
        self.written = lists;
        Ok(())
    }

    /// Hit counter for a new block entry, at zero.
    fn take_slot(&mut self) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.next_slot < self.blocks => {
                self.next_slot += 1;
                self.next_slot - 1
            }
            None => return None,
        };
        Some(slot)
    }

    /// Adds or replaces entries. The slot of each `Entry` is set here: a replaced entry keeps its own, and with it its hits.
    pub fn set(&mut self, list: List, entries: &[(Key, Entry)]) -> Result<(), KernelError> {
        self.check_room(list, entries)?;
        let (mut slots, mut ready) = (Vec::new(), Vec::with_capacity(entries.len()));
        for (key, entry) in entries {
            let slot = match (self.known.get(&(list, *key)), list) {
                (Some(old), _) => old.slot,
                (None, List::Allow) => NO_SLOT,
                (None, List::Block) => {
                    let slot = self.take_slot().ok_or(self.full(list))?;
                    slots.push(slot);
                    slot
                }
            };
            let entry = Entry { slot, ..*entry };
            if self.known.insert((list, *key), entry).is_none() {
                self.note_added(list, key);
            }
            ready.push((*key, entry));
        }
        if !slots.is_empty() {
            sys::update_batch(self.hits.as_fd(), &slots, &vec![Hits::default(); slots.len()])
                .map_err(|(_, e)| KernelError::refused("clearing hit counters")(e))?;
        }
        self.write_lengths()?;
        self.v4.flush()?;
        self.v6.flush()?;
        self.write_hash(list, &ready)
    }

    fn full(&self, list: List) -> KernelError {
        match list {
            List::Block => KernelError::Full { list: "block", capacity: self.blocks, key: "blocks" },
            List::Allow => KernelError::Full { list: "allow", capacity: self.allows, key: "allows" },
        }
    }

    fn check_room(&self, list: List, entries: &[(Key, Entry)]) -> Result<(), KernelError> {
        let new: Vec<&Key> =
            entries.iter().map(|(k, _)| k).filter(|k| !self.known.contains_key(&(list, **k))).collect();
        let capacity = match list {
            List::Block => self.blocks,
            List::Allow => self.allows,
        };
        if !new.is_empty() && self.len(list) + new.len() > capacity as usize {
            return Err(self.full(list));
        }
        for (family, v6) in [("IPv4", false), ("IPv6", true)] {
            let counts = &self.lengths[list as usize][usize::from(v6)];
            let mut lens: BTreeSet<u8> = counts.keys().copied().collect();
            for key in &new {
                let len = match (key, v6) {
                    (Key::V4(k), false) => k.len as u8,
                    (Key::V6(k), true) => k.len as u8,
                    _ => continue,
                };
                lens.insert(len);
                if lens.len() > MAX_LENGTHS {
                    let list = if list == List::Block { "block" } else { "allow" };
                    return Err(KernelError::TooManyLengths { family, list, max: MAX_LENGTHS, len });
                }
            }
        }
        Ok(())
    }

    fn write_hash(&self, list: List, entries: &[(Key, Entry)]) -> Result<(), KernelError> {
        let (mut v4, mut v6, mut port) = <(Vec<_>, Vec<_>, Vec<_>)>::default();
        let (mut e4, mut e6, mut ep) = <(Vec<_>, Vec<_>, Vec<_>)>::default();
        for (key, entry) in entries {
            match key {
                Key::V4(k) => {
                    v4.push(*k);
                    e4.push(*entry);
                }
                Key::V6(k) => {
                    v6.push(*k);
                    e6.push(*entry);
                }
                Key::Port(k) => {
                    port.push(*k);
                    ep.push(*entry);
                }
            }
        }
        let (h4, h6) = match list {
            List::Block => (&self.v4_block, &self.v6_block),
            List::Allow => (&self.v4_allow, &self.v6_allow),
        };
        let refused = |(_, e)| KernelError::refused("writing entries")(e);
        sys::update_batch(h4.as_fd(), &v4, &e4).map_err(refused)?;
        sys::update_batch(h6.as_fd(), &v6, &e6).map_err(refused)?;
        sys::update_batch(self.port_block.as_fd(), &port, &ep).map_err(refused)
    }

    /// Takes entries away. Says how many there were.
    pub fn remove(&mut self, list: List, keys: &[Key]) -> Result<usize, KernelError> {
        let mut removed = 0;
        for key in keys {
            let refused = KernelError::refused("removing an entry");
            let fd = self.hash(list, key);
            let was = match key {
                Key::V4(k) => sys::delete(fd, k),
                Key::V6(k) => sys::delete(fd, k),
                Key::Port(k) => sys::delete(fd, k),
            };
            was.map_err(refused)?;
            if let Some(entry) = self.known.remove(&(list, *key)) {
                self.note_removed(list, key);
                if entry.slot != NO_SLOT {
                    self.free.push(entry.slot);
                }
                removed += 1;
            }
        }
        self.v4.flush()?;
        self.v6.flush()?;
        self.write_lengths()?;
        Ok(removed)
    }

    /// What an entry has stopped, or would have.
    pub fn hits(&self, list: List, key: &Key) -> Result<Hits, KernelError> {
        match self.known.get(&(list, *key)) {
            Some(e) if e.slot != NO_SLOT => sys::lookup(self.hits.as_fd(), &e.slot)
                .map(Option::unwrap_or_default)
                .map_err(KernelError::refused("reading hits")),
            _ => Ok(Hits::default()),
        }
    }
}
