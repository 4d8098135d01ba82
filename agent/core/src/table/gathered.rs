//! Statistics per flow of one epoch, by key: what the kernel's maps hold, of packets that no kernel counted.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use weir_common::flow::{FlowKey, FlowStats, Packet};
use weir_common::near;

use super::slots;

/// See the module. Memory: 0.4 KiB per flow, kept for the next epoch.
#[derive(Default)]
pub struct Gathered {
    /// In the order of their first packets: the order does not depend on the hashes.
    flows: Vec<(FlowKey, FlowStats)>,
    index: HashTable<u32>,
    /// Seeded at random: who makes up addresses and ports cannot make them collide.
    hasher: RandomState,
}

/// Of a key in [`Gathered`].
#[derive(Clone, Copy, Default)]
pub struct Spot {
    hash: u64,
    likely: u32,
}

impl Gathered {
    /// An epoch with this many flows is worked off before its end.
    pub const MANY: usize = 1 << 18;

    pub fn len(&self) -> usize {
        self.flows.len()
    }
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }
    pub fn get(&self, at: u32) -> Option<&(FlowKey, FlowStats)> {
        self.flows.get(at as usize)
    }
    /// All of them, to be read or taken; [`Gathered::clear`] comes next.
    pub fn flows_mut(&mut self) -> &mut Vec<(FlowKey, FlowStats)> {
        &mut self.flows
    }
    pub fn clear(&mut self) {
        self.flows.clear();
        self.index.clear();
    }

    /// Where the flow of a key probably lies, with memory asked for it: [`Gathered::count`] looks there first.
    #[inline]
    pub fn ask_for(&self, key: &FlowKey) -> Spot {
        let hash = slots::hash(&self.hasher, key);
        let likely = self.index.iter_hash(hash).next().copied().unwrap_or(u32::MAX);
        if let Some(flow) = self.get(likely) {
            near::ask_for(flow);
        }
        Spot { hash, likely }
    }

    /// Counts a packet. The position of its flow, where this is the flow's first.
    #[inline]
    pub fn count(&mut self, spot: Spot, key: &FlowKey, packet: &Packet) -> Option<u32> {
        if let Some((k, stats)) = self.flows.get_mut(spot.likely as usize)
            && k.is(key)
        {
            stats.update(packet);
            return None;
        }
        let flows = &self.flows;
        let same = |&i: &u32| flows.get(i as usize).is_some_and(|(k, _)| k.is(key));
        let (at, new) = match self.index.find(spot.hash, same) {
            Some(&at) => (at, false),
            None => (self.insert(spot.hash, key), true),
        };
        if let Some((_, stats)) = self.flows.get_mut(at as usize) {
            stats.update(packet);
        }
        new.then_some(at)
    }

    fn insert(&mut self, hash: u64, key: &FlowKey) -> u32 {
        let at = self.flows.len() as u32;
        self.flows.push((*key, FlowStats::EMPTY));
        let (flows, hasher) = (&self.flows, &self.hasher);
        let again = |&i: &u32| flows.get(i as usize).map_or(0, |(k, _)| slots::hash(hasher, k));
        self.index.insert_unique(hash, at, again);
        at
    }
}
