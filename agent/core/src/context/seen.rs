//! What sources have seen in the last ten seconds: each thing once per source, for as long as it is seen again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use foldhash::fast::RandomState;

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

struct Held<V> {
    /// The latest second that it was seen in.
    last: u64,
    value: V,
}

/// A set per source (by its slot), in one map for all of them.
pub(super) struct Seen<K, V> {
    held: HashMap<(u32, K), Held<V>, RandomState>,
    wheel: Wheel<(u32, K)>,
}

impl<K, V> Default for Seen<K, V> {
    fn default() -> Self {
        Self { held: HashMap::default(), wheel: Wheel::default() }
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
        match self.held.entry((slot, key)) {
            Entry::Occupied(e) => {
                let held = e.into_mut();
                held.last = held.last.max(second);
                Some(&mut held.value)
            }
            Entry::Vacant(_) if *count >= cap => None,
            Entry::Vacant(e) => {
                *count += 1;
                self.wheel.put(second, (slot, key));
                Some(&mut e.insert(Held { last: second, value: V::default() }).value)
            }
        }
    }

    pub(super) fn get(&self, slot: u32, key: K) -> Option<&V> {
        self.held.get(&(slot, key)).map(|h| &h.value)
    }

    /// Second `now` begins: what was last seen ten seconds before it leaves, and its source is told.
    pub(super) fn leave(&mut self, now: u64, mut gone: impl FnMut(u32)) {
        for (slot, key) in self.wheel.take(now) {
            let Some(held) = self.held.get(&(slot, key)) else { continue };
            if held.last + SPAN as u64 > now {
                self.wheel.put(held.last, (slot, key));
            } else {
                self.held.remove(&(slot, key));
                gone(slot);
            }
        }
    }
}
