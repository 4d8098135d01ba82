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

pub(super) struct Held<K, V> {
    /// The source, and what it has seen.
    key: (u32, K),
    /// The latest second that it was seen in.
    last: u64,
    value: V,
}

/// What is probably held of a key; nothing surely is not.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a, K, V>(Option<&'a Held<K, V>>);

/// Things whose memory is asked for at a time.
const AHEAD: usize = 32;

/// A set per source (by its slot), in one map for all of them.
pub(super) struct Seen<K, V> {
    held: HashTable<Held<K, V>>,
    hasher: RandomState,
    wheel: Wheel<(u32, K)>,
}

impl<K, V> Default for Seen<K, V> {
    fn default() -> Self {
        Self { held: HashTable::default(), hasher: RandomState::default(), wheel: Wheel::default() }
    }
}

impl<K: Copy + Eq + Hash, V: Default> Seen<K, V> {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }
    pub(super) fn clear(&mut self) {
        // A burst's memory goes with it.
        *self = Self::default();
    }

    /// Source `slot` sees `key`. `count` is how many it holds, of at most `cap`; `None` where it holds as many already.
    pub(super) fn see(&mut self, slot: u32, key: K, second: u64, count: &mut u32, cap: u32) -> Option<&mut V> {
        let (key, hasher) = ((slot, key), &self.hasher);
        match self.held.entry(hasher.hash_one(key), |h| h.key == key, |h| hasher.hash_one(h.key)) {
            Entry::Occupied(e) => {
                let held = e.into_mut();
                held.last = held.last.max(second);
                Some(&mut held.value)
            }
            Entry::Vacant(_) if *count >= cap => None,
            Entry::Vacant(e) => {
                *count += 1;
                self.wheel.put(second, key);
                Some(&mut e.insert(Held { key, last: second, value: V::default() }).into_mut().value)
            }
        }
    }

    pub(super) fn get(&self, key: (u32, K)) -> Option<&V> {
        self.held.find(self.hasher.hash_one(key), |h| h.key == key).map(|h| &h.value)
    }

    /// Asks memory for what is held of `key`, if anything is: to be given to [`Seen::asked`].
    #[inline]
    pub(super) fn ask(&self, key: (u32, K)) -> Asked<'_, K, V> {
        let likely = self.held.iter_hash(self.hasher.hash_one(key)).next();
        likely.inspect(|held| near::ask_for(*held));
        Asked(likely)
    }

    /// [`Seen::get`] of what was asked for.
    #[inline]
    pub(super) fn asked<'a>(&'a self, asked: Asked<'a, K, V>, key: (u32, K)) -> Option<&'a V> {
        match asked.0? {
            held if held.key == key => Some(&held.value),
            _ => self.get(key),
        }
    }

    /// Second `now` begins: what was last seen ten seconds before it leaves, and its source is told.
    pub(super) fn leave(&mut self, now: u64, mut gone: impl FnMut(u32)) {
        let left = self.wheel.take(now);
        for ahead in left.chunks(AHEAD) {
            for &key in ahead {
                self.ask(key);
            }
            for &key in ahead {
                let Ok(held) = self.held.find_entry(self.hasher.hash_one(key), |h| h.key == key) else { continue };
                let last = held.get().last;
                if last + SPAN as u64 > now {
                    self.wheel.put(last, key);
                } else {
                    held.remove();
                    gone(key.0);
                }
            }
        }
    }
}
