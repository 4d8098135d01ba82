//! Where flows lie, and how they are found.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use weir_common::flow::{FlowKey, FlowStats};
use weir_common::near;

use crate::context::{Context, Link};

/// Six cache lines. The first is what finds the flow and what its deadline asks; packets and their epoch's end touch the others.
#[repr(C, align(64))]
pub(super) struct Flow {
    pub(super) key: FlowKey,
    /// Rises with each flow that leaves the slot, so that what is remembered of the one before is known to be stale.
    generation: u32,
    pub(super) id: u64,
    pub(super) queued_tick: u64,
    /// Cumulative, oriented as the key.
    pub(super) stats: FlowStats,
    /// Monotonic, µs.
    pub(super) next_active_us: u64,
    /// Added to monotonic times to give wall times. Fixed at the start, so that a clock step does not stretch a flow.
    pub(super) offset_us: i64,
    /// Whose counts each direction's are, oriented as the key.
    pub(super) owners: super::Owners,
    /// The latest epoch in which it had packets, as the table numbers them.
    pub(super) epoch: u32,
    pub(super) recorded: bool,
    /// How many of the packet checkpoints are behind it.
    pub(super) passed: u8,
    /// Whether the direction whose sender's context counts it as unanswered is that of `b`; `None`: no context does.
    pub(super) waits: Option<bool>,
    alive: bool,
}

const _: () = assert!(size_of::<Flow>() == 6 * 64 && std::mem::offset_of!(Flow, stats) == 64);

impl Flow {
    pub(super) fn new(key: FlowKey, stats: FlowStats) -> Self {
        Self {
            key,
            generation: 0,
            id: 0,
            queued_tick: u64::MAX,
            stats,
            next_active_us: u64::MAX,
            offset_us: 0,
            owners: [0; 2],
            epoch: 0,
            recorded: false,
            passed: 0,
            waits: None,
            alive: true,
        }
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    fn leave(&mut self) {
        self.alive = false;
        self.generation = self.generation.wrapping_add(1);
    }
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

/// What the source of a flow was doing as of the last epoch in which it had packets, and where to look for that.
#[derive(Clone, Copy)]
struct OfSource {
    context: Option<Context>,
    link: Link,
}

impl OfSource {
    const UNKNOWN: Self = Self { context: None, link: Link::NOWHERE };
}

/// Flows that lie together: a table that grows moves none of them. 12 MiB, so that large pages find room in it.
const TOGETHER: usize = 1 << 15;

/// Flows by slot, and slots by key.
#[derive(Default)]
pub(super) struct Slots {
    /// Each but the last has [`TOGETHER`] flows.
    slots: Vec<Vec<Flow>>,
    /// By slot: written by itself, at epochs' ends.
    contexts: Vec<OfSource>,
    free: Vec<u32>,
    /// The keys lie in the slots: a lookup then costs one place far away instead of two.
    index: HashTable<u32>,
    /// Seeded at random: who makes up addresses and ports cannot make them collide.
    hasher: RandomState,
}

#[inline]
fn at(slots: &[Vec<Flow>], slot: u32) -> Option<&Flow> {
    slots.get(slot as usize / TOGETHER)?.get(slot as usize % TOGETHER)
}

#[inline]
fn at_mut(slots: &mut [Vec<Flow>], slot: u32) -> Option<&mut Flow> {
    slots.get_mut(slot as usize / TOGETHER)?.get_mut(slot as usize % TOGETHER)
}

impl Slots {
    /// Flows.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Where the flow of a key is, given where it probably is.
    #[inline]
    pub(super) fn find(&self, Place { hash, likely }: Place, key: &FlowKey) -> Option<u32> {
        let same = |&s: &u32| at(&self.slots, s).is_some_and(|f| f.alive && f.key.is(key));
        if same(&likely) { Some(likely) } else { self.index.find(hash, same).copied() }
    }

    /// Where the flow of a key probably is, without a look at the flow there.
    #[inline]
    pub(super) fn place(&self, key: &FlowKey) -> Place {
        let hash = hash(&self.hasher, key);
        Place { hash, likely: self.index.iter_hash(hash).next().copied().unwrap_or(u32::MAX) }
    }

    /// So that the flow is near by the time it is needed.
    #[inline]
    pub(super) fn ask_for(&self, slot: u32) {
        if let Some(flow) = at(&self.slots, slot) {
            near::ask_for(flow);
        }
    }

    /// So that what finds the flow in the slot is near by the time the flow leaves.
    #[inline]
    pub(super) fn ask_for_way(&self, slot: u32) {
        if let Some(flow) = at(&self.slots, slot)
            && let Some(way) = self.index.iter_hash(hash(&self.hasher, &flow.key)).next()
        {
            near::ask_for(way);
        }
    }

    #[inline]
    pub(super) fn ask_for_context(&self, slot: u32) {
        if let Some(context) = self.contexts.get(slot as usize) {
            near::ask_for(context);
        }
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&Flow> {
        at(&self.slots, slot).filter(|f| f.alive)
    }
    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Flow> {
        at_mut(&mut self.slots, slot).filter(|f| f.alive)
    }

    #[inline]
    pub(super) fn context(&self, slot: u32) -> Option<Context> {
        self.contexts.get(slot as usize).and_then(|of| of.context)
    }
    #[inline]
    pub(super) fn link(&self, slot: u32) -> Link {
        self.contexts.get(slot as usize).map_or(Link::NOWHERE, |of| of.link)
    }
    #[inline]
    pub(super) fn set_context(&mut self, slot: u32, context: Option<Context>, link: Link) {
        if let Some(of) = self.contexts.get_mut(slot as usize) {
            *of = OfSource { context, link };
        }
    }

    /// In the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.slots.iter().flatten().filter(|f| f.alive)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Flow> {
        self.slots.iter_mut().flatten().filter(|f| f.alive)
    }

    #[inline]
    pub(super) fn generation(&self, slot: u32) -> Option<u32> {
        at(&self.slots, slot).map(|f| f.generation)
    }
    /// The flow in the slot, if it is still the one of then.
    #[inline]
    pub(super) fn of_generation(&self, slot: u32, generation: u32) -> Option<&Flow> {
        self.get(slot).filter(|f| f.generation == generation)
    }
    #[inline]
    pub(super) fn of_generation_mut(&mut self, slot: u32, generation: u32) -> Option<&mut Flow> {
        self.get_mut(slot).filter(|f| f.generation == generation)
    }

    /// Puts a flow of a new key into a slot, which it returns.
    pub(super) fn insert(&mut self, hash: u64, flow: Flow) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = at_mut(&mut self.slots, slot) {
                    *place = Flow { generation: place.generation, ..flow };
                }
                slot
            }
            None => {
                if self.slots.last().is_none_or(|s| s.len() == TOGETHER) {
                    let mut together = Vec::with_capacity(TOGETHER);
                    near::ask_for_large_pages(together.spare_capacity_mut());
                    self.slots.push(together);
                }
                if let Some(last) = self.slots.last_mut() {
                    last.push(flow);
                }
                self.contexts.push(OfSource::UNKNOWN);
                (self.contexts.len() - 1) as u32
            }
        };
        self.set_context(slot, None, Link::NOWHERE);
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, slot, |&s| at(slots, s).map_or(0, |f| self::hash(hasher, &f.key)));
        slot
    }

    /// Takes all flows out, in the order of their slots, after a last look at each where it lies.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&Flow, Option<Context>)) {
        self.index.clear();
        let slots = self.slots.iter_mut().flatten().zip(&self.contexts).enumerate();
        for (at, (flow, of)) in slots.filter(|(_, (flow, _))| flow.alive) {
            each(flow, of.context);
            flow.leave();
            self.free.push(at as u32);
        }
    }

    /// Takes the flow out of its slot.
    pub(super) fn remove(&mut self, slot: u32) {
        let Some(flow) = at_mut(&mut self.slots, slot).filter(|f| f.alive) else { return };
        flow.leave();
        if let Ok(entry) = self.index.find_entry(hash(&self.hasher, &flow.key), |&other| other == slot) {
            entry.remove();
        }
        self.free.push(slot);
    }
}

#[inline]
pub(super) fn hash(state: &RandomState, key: &FlowKey) -> u64 {
    let mut h = state.build_hasher();
    key.words().into_iter().for_each(|w| h.write_u128(w));
    h.finish()
}
