//! What sources have seen in the last ten seconds: each thing once per source, for as long as it is seen again.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use weir_common::near;

use super::ring::SPAN;

/// Things by the second that they are looked at again: ten after the one they were put in.
#[derive(Debug)]
pub(super) struct Wheel<T>([Vec<T>; SPAN]);

impl<T> Default for Wheel<T> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Vec::new()))
    }
}

impl<T> Wheel<T> {
    fn spoke(&mut self, second: u64) -> &mut Vec<T> {
        &mut self.0[(second % SPAN as u64) as usize]
    }
    pub(super) fn put(&mut self, second: u64, what: T) {
        self.spoke(second).push(what);
    }
    /// What was put in ten seconds before `now`.
    pub(super) fn take(&mut self, now: u64) -> Vec<T> {
        std::mem::take(self.spoke(now))
    }
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

struct Held<K, V> {
    /// The source, and what it has seen.
    key: (u32, K),
    /// The latest second that it was seen in. It leaves ten seconds later.
    last: u64,
    value: V,
}

/// Things whose memory is asked for at a time.
const AHEAD: usize = 32;

/// A set per source (by its slot), in one for all of them. What is held keeps its place for as long as it is.
pub(super) struct Seen<K, V> {
    held: Vec<Held<K, V>>,
    free: Vec<u32>,
    /// Places by key.
    index: HashTable<u32>,
    hasher: RandomState,
    /// Each place that is in use, once.
    wheel: Wheel<u32>,
}

impl<K, V> Default for Seen<K, V> {
    fn default() -> Self {
        Self {
            held: Vec::new(),
            free: Vec::new(),
            index: HashTable::default(),
            hasher: RandomState::default(),
            wheel: Wheel::default(),
        }
    }
}

impl<K: Copy + Eq + Hash, V: Default> Seen<K, V> {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
    pub(super) fn clear(&mut self) {
        // A burst's memory goes with it.
        *self = Self::default();
    }

    /// Source `slot` sees `key`: where that is held. `count` is how many it holds, of at most `cap`; `None` where it holds as many
    /// already.
    pub(super) fn see(&mut self, slot: u32, key: K, second: u64, count: &mut u32, cap: u32) -> Option<u32> {
        let (key, hasher, held) = ((slot, key), &self.hasher, &mut self.held);
        let same = |&at: &u32| held.get(at as usize).is_some_and(|h| h.key == key);
        let hash = |&at: &u32| held.get(at as usize).map_or(0, |h| hasher.hash_one(h.key));
        match self.index.entry(hasher.hash_one(key), same, hash) {
            Entry::Occupied(e) => {
                let at = *e.get();
                if let Some(h) = held.get_mut(at as usize) {
                    h.last = h.last.max(second);
                }
                Some(at)
            }
            Entry::Vacant(_) if *count >= cap => None,
            Entry::Vacant(e) => {
                *count += 1;
                let new = Held { key, last: second, value: V::default() };
                let at = match self.free.pop() {
                    Some(at) => {
                        if let Some(place) = held.get_mut(at as usize) {
                            *place = new;
                        }
                        at
                    }
                    None => {
                        held.push(new);
                        (held.len() - 1) as u32
                    }
                };
                e.insert(at);
                self.wheel.put(second, at);
                Some(at)
            }
        }
    }

    pub(super) fn value_mut(&mut self, at: u32) -> Option<&mut V> {
        self.held.get_mut(at as usize).map(|h| &mut h.value)
    }

    /// Where `key` is held in second `now`, and its value. `likely` is where it was.
    #[inline]
    pub(super) fn get(&self, key: (u32, K), likely: u32, now: u64) -> Option<(u32, &V)> {
        // What has left lies there still, until its place is taken.
        let is = |h: &&Held<K, V>| h.key == key && h.last + SPAN as u64 > now;
        if let Some(h) = self.held.get(likely as usize).filter(is) {
            return Some((likely, &h.value));
        }
        let at = *self
            .index
            .find(self.hasher.hash_one(key), |&at| self.held.get(at as usize).is_some_and(|h| h.key == key))?;
        self.held.get(at as usize).map(|h| (at, &h.value))
    }

    /// So that what lies in a place is near by the time it is needed.
    #[inline]
    pub(super) fn ask_at(&self, at: u32) {
        if let Some(h) = self.held.get(at as usize) {
            near::ask_for(h);
        }
    }

    /// So that what finds `key` is near by the time it is seen.
    #[inline]
    pub(super) fn ask(&self, key: (u32, K)) {
        if let Some(&at) = self.index.iter_hash(self.hasher.hash_one(key)).next() {
            self.ask_at(at);
        }
    }

    /// Second `now` begins: what was last seen ten seconds before it leaves, and its source is told.
    pub(super) fn leave(&mut self, now: u64, mut gone: impl FnMut(u32)) {
        for ahead in self.wheel.take(now).chunks(AHEAD) {
            ahead.iter().for_each(|&at| self.ask_at(at));
            for &at in ahead {
                let Some(&Held { key, last, .. }) = self.held.get(at as usize) else { continue };
                if last + SPAN as u64 > now {
                    self.wheel.put(last, at);
                    continue;
                }
                if let Ok(entry) = self.index.find_entry(self.hasher.hash_one(key), |&other| other == at) {
                    entry.remove();
                }
                self.free.push(at);
                gone(key.0);
            }
        }
    }
}
