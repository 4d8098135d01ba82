//! Flows that several interfaces have counted.
//!
//! A packet that is forwarded crosses two interfaces: it comes in at one and goes out at another, and both count it. So the interface that
//! saw a direction of a flow first owns that direction until the flow ends, and what others counted of it is left out, and counted as seen
//! twice. Times are those of one clock, and a packet is seen where it comes in before it is where it goes out. An owner that has
//! been silent for [`TAKE_OVER_US`] while another counts has lost the flow to it: no packet is under way inside a host for so long.
//! Packets of one direction that take turns over several interfaces count at one of them.
//!
//! **Proof.** A SYN-ACK of ours proves something only where it goes out to where the client's packets come in: that interface's view
//! of it counts, whoever owns the direction. One that went out elsewhere may be somebody's forgery on its way through.

use weir_common::flow::{DirStats, FlowKey, FlowStats, seen};

use super::slots::Place;
use super::{EpochOutput, FlowTable};

/// How long an owner may be silent before another interface that counts takes over, µs.
pub const TAKE_OVER_US: u64 = 1_000_000;

/// A run of flows that one interface has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its index; 0: not told.
    pub interface: u32,
    pub flows: usize,
}

/// What others counted of packets that their owner has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeenTwice {
    pub packets: u64,
    pub bytes: u64,
}

/// The owners of a flow's directions: indices of interfaces, 0: nobody yet; those with [`GONE`] own nothing any more.
pub(super) type Owners = [u32; 2];

/// The kernel's indices are positive integers of 32 bits.
pub(super) const GONE: u32 = 1 << 31;

/// A flow as one interface saw it in an epoch.
struct View {
    interface: u32,
    stats: FlowStats,
}

const NONE: u32 = u32::MAX;

impl FlowTable {
    /// [`FlowTable::epoch`] for what several interfaces have counted: `parts` say which of `drained` is whose, in order. What they do
    /// not cover is of an interface that is not told. Of one interface, a key may occur more than once, in the order of time.
    pub fn epoch_on(
        &mut self,
        end_us: u64,
        wall_offset_us: i64,
        drained: &[(FlowKey, FlowStats)],
        parts: &[Part],
        out: &mut EpochOutput,
    ) {
        let mut counting = parts.iter().filter(|p| p.flows > 0).map(|p| p.interface);
        let first = counting.next().unwrap_or(0);
        self.several |= counting.any(|other| other != first) || (first != 0 && self.only != 0 && self.only != first);
        if first != 0 {
            self.only = first;
        }
        self.neighbours.advance(end_us, self.next_id, self.counts.finished);
        if self.several {
            self.take_views(end_us, wall_offset_us, drained, parts, out);
        } else {
            for (key, stats) in drained {
                let owners = [0, 1].map(|d| if stats.dir[d].is_empty() { 0 } else { first });
                self.take(end_us, wall_offset_us, self.slots.place(key), key, stats, owners, out);
            }
        }
        self.work_off(end_us, out);
    }

    /// An interface is gone: what it owned belongs to whoever counts next.
    pub fn forget_interface(&mut self, interface: u32) {
        for flow in self.slots.iter_mut() {
            for owner in flow.owners.iter_mut().filter(|o| **o == interface) {
                *owner |= GONE;
            }
        }
    }

    /// What was left out because another interface had counted it.
    pub fn seen_twice(&self) -> SeenTwice {
        self.seen_twice
    }

    fn take_views(
        &mut self,
        end_us: u64,
        wall_offset_us: i64,
        drained: &[(FlowKey, FlowStats)],
        parts: &[Part],
        out: &mut EpochOutput,
    ) {
        // Where each key occurs first, and from there each time again.
        let mut index = hashbrown::HashTable::<u32>::with_capacity(drained.len());
        let mut next = vec![NONE; drained.len()];
        let mut last: Vec<u32> = (0..).take(drained.len()).collect();
        let mut firsts: Vec<(u32, Place)> = Vec::with_capacity(drained.len());
        for (n, (key, _)) in (0u32..).zip(drained) {
            let place = self.slots.place(key);
            let same = |&m: &u32| drained[m as usize].0.is(key);
            match index.find(place.hash, same) {
                Some(&first) => {
                    let tail = std::mem::replace(&mut last[first as usize], n);
                    next[tail as usize] = n;
                }
                None => {
                    let slots = &self.slots;
                    index.insert_unique(place.hash, n, |&m| slots.place(&drained[m as usize].0).hash);
                    firsts.push((n, place));
                }
            }
        }
        let mut whose = Vec::with_capacity(drained.len());
        for part in parts {
            whose.resize(whose.len() + part.flows, part.interface);
        }
        whose.resize(drained.len(), 0);
        let mut views: Vec<View> = Vec::new();
        for (first, place) in firsts {
            views.clear();
            let mut at = first;
            while at != NONE {
                let (interface, stats) = (whose[at as usize], &drained[at as usize].1);
                match views.iter_mut().find(|v| v.interface == interface) {
                    Some(view) => view.stats.merge(stats),
                    None => views.push(View { interface, stats: *stats }),
                }
                at = next[at as usize];
            }
            let key = &drained[first as usize].0;
            let (stats, owners) = self.owned(place, key, &views, out);
            if !stats.is_empty() {
                // An earlier key may have moved it.
                self.take(end_us, wall_offset_us, self.slots.place(key), key, &stats, owners, out);
            }
        }
    }

    /// What counts of these views, and whose it is.
    fn owned(&mut self, place: Place, key: &FlowKey, views: &[View], out: &mut EpochOutput) -> (FlowStats, Owners) {
        let begins = |v: &&View| super::judge::first_us(&v.stats);
        let earliest = views.iter().min_by_key(begins);
        let mut known = self.slots.find(place, key);
        if let (Some(slot), Some(view)) = (known, earliest)
            && let Some(reason) = self.over_before(slot, &view.stats)
        {
            self.finish(slot, reason, out);
            known = None;
        }
        let flow = known.and_then(|slot| self.slots.get(slot));
        let (mut owners, last_us) = flow.map_or(([0; 2], [0; 2]), |f| (f.owners, f.stats.dir.map(|d| d.last_us)));
        let mut stats = FlowStats::EMPTY;
        for d in [0, 1] {
            let of = |v: &&View| !v.stats.dir[d].is_empty();
            let first = views.iter().filter(of).min_by_key(|v| v.stats.dir[d].first_us);
            let owner = views.iter().filter(of).find(|v| v.interface == owners[d] && owners[d] != 0);
            let silent = |v: &&View| v.stats.dir[d].first_us >= last_us[d].saturating_add(TAKE_OVER_US);
            let nobody = owners[d] == 0 || owners[d] & GONE != 0;
            let owner = owner.or_else(|| first.filter(|v| nobody || silent(v)));
            if let Some(view) = owner {
                owners[d] = view.interface;
                stats.dir[d] = view.stats.dir[d];
            }
            for other in views.iter().filter(of).filter(|v| owner.is_none_or(|o| o.interface != v.interface)) {
                let left_out = &other.stats.dir[d];
                self.seen_twice.packets = self.seen_twice.packets.saturating_add(left_out.packets);
                self.seen_twice.bytes = self.seen_twice.bytes.saturating_add(left_out.bytes);
            }
        }
        for d in [0, 1] {
            let client = owners[1 - d];
            if owners[d] != client && client != 0 && client & GONE == 0 && !stats.dir[d].is_empty() {
                let there = views.iter().find(|v| v.interface == client).map(|v| &v.stats.dir[d]);
                answer_as_seen_by_the_client(&mut stats.dir[d], there);
            }
        }
        if owners[0] != owners[1] {
            say_who_opened(&mut stats);
        }
        (stats, owners)
    }
}

fn answer_as_seen_by_the_client(answer: &mut DirStats, there: Option<&DirStats>) {
    answer.seen &= !seen::SYN_ACK_SENT;
    if let Some(there) = there.filter(|t| t.seen & seen::SYN_ACK_SENT != 0) {
        answer.seen |= seen::SYN_ACK_SENT;
        answer.syn_ack_seq = there.syn_ack_seq;
    }
}

/// Of several views or halves, each of which has a first packet of its own: says whose was the first of all.
pub fn say_who_opened(stats: &mut FlowStats) {
    let opener = usize::from(stats.dir[1].first_us < stats.dir[0].first_us);
    for (d, dir) in stats.dir.iter_mut().enumerate().filter(|(_, dir)| !dir.is_empty()) {
        dir.seen = if d == opener { dir.seen | seen::OPENER } else { dir.seen & !seen::OPENER };
    }
}
