//! Two records of one direction each, brought together.
//!
//! A record waits for the one of the other direction; of several, it meets the one whose time overlaps most. What has
//! waited in vain goes on alone, and is a flow that nothing answered. Where one record tells of both directions, or can
//! have no answer (no ports, to a group), nothing waits.

use std::collections::{HashMap, VecDeque};

use weir_common::flow::ip_proto::{TCP, UDP};
use weir_core::addr::Addr;

use super::Limits;
use super::record::ExportedFlow;

/// Records of one direction may lie so far apart in time from those of the other, µs.
const SLACK_US: i64 = 10_000_000;
/// Records of one 5-tuple that wait at a time.
const MAX_PER_KEY: usize = 16;
const NONE: u32 = u32::MAX;

/// What became of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Paired {
    /// The record that came first.
    pub one: ExportedFlow,
    pub other: Option<ExportedFlow>,
    /// Nothing is missing: both directions are here, or the other one had its time to come.
    pub settled: bool,
}

/// Both directions of a flow of one exporter. Not the VLAN: a router may have each direction in its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    a: (Addr, u16),
    b: (Addr, u16),
    proto: u8,
    exporter: u32,
}

struct Slot {
    flow: Option<ExportedFlow>,
    key: Key,
    serial: u64,
    /// The next one of this key.
    next: u32,
}

pub struct Pairer {
    index: HashMap<Key, u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// By age: slot, serial, arrival. Entries of slots that were taken are stale.
    order: VecDeque<(u32, u64, u64)>,
    serial: u64,
    max: usize,
    wait_us: u64,
    /// Records that went on early because too many waited.
    pub crowded_out: u64,
}

/// The key, and whether the source is its end `a`. `None` where no other record can belong to it.
fn key(flow: &ExportedFlow) -> Option<(Key, bool)> {
    let (source, destination, proto) = (flow.source?, flow.destination?, flow.proto?);
    if flow.back.is_some() || destination.ip().is_multicast() {
        return None;
    }
    let ports = match proto {
        TCP | UDP => (flow.source_port?, flow.destination_port?),
        _ => (flow.source_port.unwrap_or(0), flow.destination_port.unwrap_or(0)),
    };
    let (x, y) = ((source, ports.0), (destination, ports.1));
    let forward = x <= y;
    let (a, b) = if forward { (x, y) } else { (y, x) };
    // Both ends alike: its directions cannot be told apart.
    (a != b).then_some((Key { a, b, proto, exporter: flow.exporter }, forward))
}

/// Time that both cover, µs; negative is the gap between them.
fn overlap_us(x: &ExportedFlow, y: &ExportedFlow) -> i64 {
    let (Some(xs), Some(xe), Some(ys), Some(ye)) = (x.start_us, x.end_us, y.start_us, y.end_us) else { return 0 };
    let (from, to) = (xs.max(ys), xe.min(ye));
    i64::try_from(to.abs_diff(from)).map_or(i64::MIN, |d| if to >= from { d } else { -d })
}

impl Pairer {
    pub fn new(limits: &Limits) -> Self {
        Self {
            index: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            serial: 0,
            max: limits.unpaired.clamp(1, NONE as usize - 1),
            wait_us: limits.pair_wait_us,
            crowded_out: 0,
        }
    }

    /// Records that wait.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Bytes of memory, by its own account.
    pub fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
            + self.order.capacity() * size_of::<(u32, u64, u64)>()
            + self.index.capacity() * (size_of::<(Key, u32)>() + 1)
            + self.free.capacity() * size_of::<u32>()
    }

    /// Takes a record that came at `now_us` and adds to `out` what is settled by it.
    pub fn push(&mut self, flow: ExportedFlow, now_us: u64, out: &mut Vec<Paired>) {
        let Some((key, forward)) = key(&flow) else {
            let settled = flow.back.is_some() || flow.destination.is_some_and(|d| d.ip().is_multicast());
            out.push(Paired { one: flow, other: None, settled });
            return;
        };
        let (mut best, mut best_overlap, mut waiting) = (NONE, -SLACK_US, 0);
        let mut at = self.index.get(&key).copied().unwrap_or(NONE);
        let (mut last, oldest) = (NONE, at);
        while let Some(slot) = self.slots.get(at as usize) {
            waiting += 1;
            if let Some(w) = &slot.flow
                && (w.source == Some(key.a.0) && w.source_port.unwrap_or(0) == key.a.1) != forward
            {
                let overlap = overlap_us(w, &flow);
                if overlap > best_overlap || (overlap == best_overlap && best == NONE) {
                    (best, best_overlap) = (at, overlap);
                }
            }
            (last, at) = (at, slot.next);
        }
        if best != NONE {
            if let Some(one) = self.remove(best) {
                out.push(Paired { one, other: Some(flow), settled: true });
            }
            return;
        }
        if waiting >= MAX_PER_KEY {
            // Only one side of a long conversation is seen here: the oldest has waited long enough.
            if last == oldest {
                last = NONE;
            }
            if let Some(one) = self.remove(oldest) {
                out.push(Paired { one, other: None, settled: true });
            }
        }
        while self.len() >= self.max && self.pop_oldest(out, false) {}
        // Removing may have emptied the list of this key.
        if !self.index.contains_key(&key) {
            last = NONE;
        } else if self.slots.get(last as usize).is_none_or(|s| s.flow.is_none() || s.key != key) {
            last = self.last_of(&key);
        }
        self.insert(key, flow, last, now_us);
    }

    fn last_of(&self, key: &Key) -> u32 {
        let mut last = NONE;
        let mut at = self.index.get(key).copied().unwrap_or(NONE);
        while let Some(slot) = self.slots.get(at as usize) {
            (last, at) = (at, slot.next);
        }
        last
    }

    fn insert(&mut self, key: Key, flow: ExportedFlow, last: u32, now_us: u64) {
        let serial = self.serial;
        self.serial += 1;
        let slot = Slot { flow: Some(flow), key, serial, next: NONE };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        match self.slots.get_mut(last as usize) {
            Some(last) => last.next = at,
            None => {
                self.index.insert(key, at);
            }
        }
        self.order.push_back((at, serial, now_us));
        if self.order.len() > 2 * self.len() + 64 {
            let slots = &self.slots;
            self.order.retain(|&(at, serial, _)| {
                slots.get(at as usize).is_some_and(|s| s.serial == serial && s.flow.is_some())
            });
        }
    }

    /// Takes the record at `slot` out of its list.
    fn remove(&mut self, slot: u32) -> Option<ExportedFlow> {
        let taken = self.slots.get_mut(slot as usize)?;
        let flow = taken.flow.take()?;
        let (key, next) = (taken.key, taken.next);
        self.free.push(slot);
        let mut at = self.index.get(&key).copied()?;
        if at == slot {
            if next == NONE {
                self.index.remove(&key);
            } else {
                self.index.insert(key, next);
            }
            return Some(flow);
        }
        while let Some(s) = self.slots.get_mut(at as usize) {
            if s.next == slot {
                s.next = next;
                break;
            }
            at = s.next;
        }
        Some(flow)
    }

    /// Sends the oldest record on alone. `settled`: it has had its time.
    fn pop_oldest(&mut self, out: &mut Vec<Paired>, settled: bool) -> bool {
        while let Some((at, serial, _)) = self.order.pop_front() {
            if self.slots.get(at as usize).is_some_and(|s| s.serial == serial && s.flow.is_some())
                && let Some(one) = self.remove(at)
            {
                self.crowded_out += u64::from(!settled);
                out.push(Paired { one, other: None, settled });
                return true;
            }
        }
        false
    }

    /// Sends on what has waited long enough, oldest first.
    pub fn expire(&mut self, now_us: u64, out: &mut Vec<Paired>) {
        while let Some(&(at, serial, arrived_us)) = self.order.front() {
            let live = self.slots.get(at as usize).is_some_and(|s| s.serial == serial && s.flow.is_some());
            if live && now_us.saturating_sub(arrived_us) < self.wait_us {
                return;
            }
            if live {
                self.pop_oldest(out, true);
            } else {
                self.order.pop_front();
            }
        }
    }

    /// Sends everything on, oldest first: the input has ended.
    pub fn finish(&mut self, out: &mut Vec<Paired>) {
        while self.pop_oldest(out, true) {}
    }
}
