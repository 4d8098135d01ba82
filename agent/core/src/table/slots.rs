//! Where flows lie, and how they are found.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use weir_common::flow::{FlowKey, FlowStats};
use weir_common::near;

use crate::context::Context;

pub(super) struct Flow {
    pub(super) key: FlowKey,
    pub(super) id: u64,
    /// Cumulative, oriented as the key.
    pub(super) stats: FlowStats,
    /// Added to monotonic times to give wall times. Fixed at the start, so that a clock step does not stretch a flow.
    pub(super) offset_us: i64,
    /// Monotonic, µs.
    pub(super) next_active_us: u64,
    pub(super) recorded: bool,
    /// How many of the packet checkpoints are behind it.
    pub(super) passed: u8,
    pub(super) queued_tick: u64,
    /// Whose counts each direction's are, oriented as the key.
    pub(super) owners: super::Owners,
    /// As of the last epoch in which it had packets.
    pub(super) context: Option<Context>,
    /// It has packets in this epoch, at whose end its context is taken.
    pub(super) fresh: bool,
    /// The direction whose sender's context counts it as unanswered.
    pub(super) waits: Option<u8>,
}

struct Slot {
    /// Rises with each flow that leaves, so that what is remembered of the one before is known to be stale.
    generation: u32,
    flow: Option<Flow>,
}

/// Where a flow is looked for.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) hash: u64,
    /// The first slot with this hash; none where there is no such slot.
    pub(super) likely: u32,
}

impl Place {
    pub(super) const NOWHERE: Self = Self { hash: 0, likely: u32::MAX };
}

/// Flows by slot, and slots by key.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The keys lie in the slots: a lookup then costs one place far away instead of two.
    index: HashTable<u32>,
    /// Seeded at random: who makes up addresses and ports cannot make them collide.
    hasher: RandomState,
}

impl Slots {
    /// Flows.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    #[inline]
    fn hash(&self, key: &FlowKey) -> u64 {
        hash(&self.hasher, key)
    }

    /// Where the flow of a key is, given where it probably is.
    #[inline]
    pub(super) fn find(&self, Place { hash, likely }: Place, key: &FlowKey) -> Option<u32> {
        let slots = &self.slots;
        let same = |&s: &u32| slots.get(s as usize).and_then(|s| s.flow.as_ref()).is_some_and(|f| f.key.is(key));
        if same(&likely) { Some(likely) } else { self.index.find(hash, same).copied() }
    }

    /// Where the flow of a key probably is, without a look at the flow there.
    #[inline]
    pub(super) fn place(&self, key: &FlowKey) -> Place {
        let hash = self.hash(key);
        Place { hash, likely: self.index.iter_hash(hash).next().copied().unwrap_or(u32::MAX) }
    }

    /// So that the flow is near by the time it is needed.
    #[inline]
    pub(super) fn ask_for(&self, slot: u32) {
        if let Some(slot) = self.slots.get(slot as usize) {
            near::ask_for(slot);
        }
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&Flow> {
        self.slots.get(slot as usize).and_then(|s| s.flow.as_ref())
    }
    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Flow> {
        self.slots.get_mut(slot as usize).and_then(|s| s.flow.as_mut())
    }

    /// In the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.slots.iter().filter_map(|s| s.flow.as_ref())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Flow> {
        self.slots.iter_mut().filter_map(|s| s.flow.as_mut())
    }

    #[inline]
    pub(super) fn generation(&self, slot: u32) -> Option<u32> {
        self.slots.get(slot as usize).map(|s| s.generation)
    }
    /// The flow in the slot, if it is still the one of then.
    #[inline]
    pub(super) fn of_generation(&self, slot: u32, generation: u32) -> Option<&Flow> {
        self.slots.get(slot as usize).filter(|s| s.generation == generation).and_then(|s| s.flow.as_ref())
    }

    /// Puts a flow of a new key into a slot, which it returns with its generation.
    pub(super) fn insert(&mut self, hash: u64, flow: Flow) -> (u32, u32) {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(Slot { generation: 0, flow: None });
                (self.slots.len() - 1) as u32
            }
        };
        let place = &mut self.slots[slot as usize];
        place.flow = Some(flow);
        let generation = place.generation;
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash =
            |&s: &u32| slots.get(s as usize).and_then(|s| s.flow.as_ref()).map_or(0, |f| self::hash(hasher, &f.key));
        self.index.insert_unique(hash, slot, rehash);
        (slot, generation)
    }

    /// Takes all flows out, in the order of their slots, after a last look at each where it lies.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&Flow)) {
        self.index.clear();
        for (at, place) in self.slots.iter_mut().enumerate() {
            let Some(flow) = &place.flow else { continue };
            each(flow);
            place.flow = None;
            place.generation = place.generation.wrapping_add(1);
            self.free.push(at as u32);
        }
    }

    /// Takes the flow out of its slot.
    pub(super) fn remove(&mut self, slot: u32) {
        let Some(place) = self.slots.get_mut(slot as usize) else { return };
        let Some(Flow { key, .. }) = place.flow else { return };
        place.flow = None;
        place.generation = place.generation.wrapping_add(1);
        if let Ok(entry) = self.index.find_entry(hash(&self.hasher, &key), |&other| other == slot) {
            entry.remove();
        }
        self.free.push(slot);
    }
}

#[inline]
fn hash(state: &RandomState, key: &FlowKey) -> u64 {
    let mut h = state.build_hasher();
    key.words().into_iter().for_each(|w| h.write_u128(w));
    h.finish()
}
