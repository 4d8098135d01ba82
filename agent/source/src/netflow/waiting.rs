//! Data sets that came before their template.

use std::collections::{HashMap, VecDeque};

use super::record::Clock;
use super::{Limits, Version};

/// Which template a set waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub exporter: u32,
    pub version: Version,
    pub domain: u32,
    pub template: u16,
}

pub(super) struct Set {
    serial: u64,
    since_us: u64,
    pub clock: Clock,
    pub bytes: Box<[u8]>,
}

/// Bounded in all and per exporter; the oldest give way.
#[derive(Default)]
pub(super) struct Waiting {
    sets: HashMap<Wanted, VecDeque<Set>>,
    /// By age. Entries whose set was taken are stale.
    order: VecDeque<(u64, Wanted)>,
    by_exporter: HashMap<u32, usize>,
    bytes: usize,
    live: usize,
    next: u64,
    /// Sets given up.
    pub dropped: u64,
}

/// Memory of a set beside its bytes: its place in the queue, the order and the maps.
const OVERHEAD: usize =
    size_of::<Set>() + 2 * size_of::<(u64, Wanted)>() + 2 * size_of::<(Wanted, VecDeque<Set>)>() + 64;

impl Waiting {
    pub fn memory(&self) -> usize {
        self.bytes
    }

    pub fn push(&mut self, wanted: Wanted, clock: Clock, set: &[u8], now_us: u64, limits: &Limits) {
        let cost = set.len() + OVERHEAD;
        let of_exporter = self.by_exporter.get(&wanted.exporter).copied().unwrap_or(0);
        if of_exporter + cost > limits.waiting_bytes_per_exporter || cost > limits.waiting_bytes {
            self.dropped += 1;
            return;
        }
        while self.bytes + cost > limits.waiting_bytes && self.drop_oldest() {}
        self.bytes += cost;
        self.live += 1;
        *self.by_exporter.entry(wanted.exporter).or_default() += cost;
        let serial = self.next;
        self.next += 1;
        self.order.push_back((serial, wanted));
        self.sets.entry(wanted).or_default().push_back(Set { serial, since_us: now_us, clock, bytes: set.into() });
        // Sets that were taken in time leave their places behind.
        if self.order.len() > 2 * self.live + 64 {
            let sets = &self.sets;
            self.order.retain(|(serial, wanted)| {
                sets.get(wanted).is_some_and(|q| q.front().is_some_and(|s| s.serial <= *serial))
            });
        }
    }

    /// The sets that waited for a template that has come, in their order.
    pub fn take(&mut self, wanted: Wanted) -> VecDeque<Set> {
        if self.live == 0 {
            return VecDeque::new();
        }
        let sets = self.sets.remove(&wanted).unwrap_or_default();
        for set in &sets {
            self.forget(wanted.exporter, set);
        }
        sets
    }

    /// Gives up what has waited too long.
    pub fn expire(&mut self, now_us: u64, limits: &Limits) {
        while let Some((serial, wanted)) = self.order.front() {
            let set = self.sets.get(wanted).and_then(|q| q.front());
            match set {
                Some(set) if set.serial == *serial => {
                    if now_us.saturating_sub(set.since_us) < limits.waiting_us {
                        return;
                    }
                    self.drop_oldest();
                }
                _ => {
                    self.order.pop_front();
                }
            }
        }
    }

    /// Gives up everything: the input has ended.
    pub fn give_up(&mut self) {
        while self.drop_oldest() {}
    }

    fn drop_oldest(&mut self) -> bool {
        while let Some((serial, wanted)) = self.order.pop_front() {
            let Some(queue) = self.sets.get_mut(&wanted) else { continue };
            if queue.front().is_none_or(|s| s.serial != serial) {
                continue;
            }
            let set = queue.pop_front();
            if queue.is_empty() {
                self.sets.remove(&wanted);
            }
            if let Some(set) = set {
                self.forget(wanted.exporter, &set);
                self.dropped += 1;
                return true;
            }
        }
        false
    }

    fn forget(&mut self, exporter: u32, set: &Set) {
        let cost = set.bytes.len() + OVERHEAD;
        self.bytes = self.bytes.saturating_sub(cost);
        self.live = self.live.saturating_sub(1);
        if let Some(of_exporter) = self.by_exporter.get_mut(&exporter) {
            *of_exporter = of_exporter.saturating_sub(cost);
            if *of_exporter == 0 {
                self.by_exporter.remove(&exporter);
            }
        }
    }
}
