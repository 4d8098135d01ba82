//! Packets that are counted where their flows lie, as they come: for who has the packets themselves.
//!
//! An epoch decides by all of a flow's packets in it, so most of what follows from them waits for its end. A packet counts at once where
//! its flow is new, or was certain to go on whatever else the epoch brings. Packets of flows that had ended, or had been silent for
//! so long that they time out, and of new flows while the table is full, are counted beside it, and taken when the epoch ends.

use weir_common::flow::{FlowKey, FlowStats, KeyWords, Packet};

use super::slots::{Flow, Place};
use super::{AHEAD, EpochOutput, FlowTable, Gathered, judge};

/// What the epoch that is under way has brought so far.
#[derive(Default)]
pub(super) struct UnderWay {
    /// In the order of their first packets.
    joined: Vec<Joined>,
    beside: Gathered,
}

#[derive(Clone, Copy)]
enum Joined {
    /// Slot and generation.
    Known(u32, u32),
    /// Slot. It has no identifier yet, and nothing knows of it: nobody can make it leave.
    New(u32),
    Beside(u32),
}

impl UnderWay {
    pub(super) fn is_empty(&self) -> bool {
        self.joined.is_empty()
    }
}

impl FlowTable {
    /// Counts packets of the epoch under way, in the order in which they came: [`FlowTable::epoch_of`] ends it. `false`: the epoch
    /// must be worked off, by the same, before more packets come.
    #[must_use]
    pub fn count(&mut self, packets: &[(KeyWords, Packet)]) -> bool {
        let mut places = [Place::NOWHERE; AHEAD];
        for ahead in packets.chunks(AHEAD) {
            for (place, (key, _)) in places.iter_mut().zip(ahead) {
                *place = self.slots.place(key.key());
            }
            for place in &places[..ahead.len()] {
                self.slots.ask_for(place.likely);
            }
            for (&place, (key, packet)) in places.iter().zip(ahead) {
                self.count_one(place, key.key(), packet);
            }
        }
        self.under_way.beside.len() < Gathered::MANY
    }

    #[inline]
    fn count_one(&mut self, place: Place, key: &FlowKey, packet: &Packet) {
        let epoch = self.epoch;
        let Some(slot) = self.slots.find(place, key) else { return self.begin(place.hash, key, packet) };
        let Some(flow) = self.slots.get_mut(slot) else { return };
        if flow.epoch != epoch {
            let gap = packet.now_us.saturating_sub(judge::last_us(&flow.stats));
            if judge::ended(&flow.key, &flow.stats) || gap >= self.config.idle_us {
                return self.count_beside(key, packet);
            }
            flow.epoch = epoch;
            self.under_way.joined.push(Joined::Known(slot, flow.generation()));
        }
        flow.stats.update(packet);
    }

    fn begin(&mut self, hash: u64, key: &FlowKey, packet: &Packet) {
        if self.len() >= self.config.max_flows {
            return self.count_beside(key, packet);
        }
        let slot = self.slots.insert(hash, Flow::new(*key, FlowStats::EMPTY));
        if let Some(flow) = self.slots.get_mut(slot) {
            flow.epoch = self.epoch;
            flow.stats.update(packet);
        }
        self.under_way.joined.push(Joined::New(slot));
    }

    #[cold]
    fn count_beside(&mut self, key: &FlowKey, packet: &Packet) {
        let UnderWay { joined, beside } = &mut self.under_way;
        let spot = beside.ask_for(key);
        joined.extend(beside.count(spot, key, packet).map(Joined::Beside));
    }

    /// The epoch that is under way goes no further: it ends with its last packet.
    pub(super) fn break_off(&mut self, out: &mut EpochOutput) {
        let UnderWay { joined, beside } = &self.under_way;
        let stats = |joined: &Joined| match *joined {
            Joined::Known(slot, _) | Joined::New(slot) => self.slots.get(slot).map(|flow| &flow.stats),
            Joined::Beside(at) => beside.get(at).map(|(_, stats)| stats),
        };
        let end_us = joined.iter().filter_map(stats).map(judge::last_us).max().unwrap_or_default();
        self.epoch_of(end_us, 0, &[], out);
    }

    /// The epoch has ended: what it brought counts.
    pub(super) fn work_off_counted(&mut self, end_us: u64, offset_us: i64, out: &mut EpochOutput) {
        let mut under_way = std::mem::take(&mut self.under_way);
        for ahead in under_way.joined.chunks(AHEAD) {
            for joined in ahead {
                if let Joined::Known(slot, _) | Joined::New(slot) = joined {
                    self.slots.ask_for(*slot);
                }
            }
            for &joined in ahead {
                match joined {
                    Joined::Known(slot, generation) => {
                        // Unless it had to make room for another.
                        if self.slots.of_generation(slot, generation).is_some() {
                            self.settle(end_us, slot, false, out);
                        }
                    }
                    Joined::New(slot) => {
                        self.opened(offset_us, slot);
                        self.settle(end_us, slot, true, out);
                    }
                    Joined::Beside(at) => {
                        if let Some((key, stats)) = under_way.beside.get(at) {
                            self.take(end_us, offset_us, self.slots.place(key), key, stats, [0; 2], out);
                        }
                    }
                }
            }
        }
        under_way.joined.clear();
        under_way.beside.clear();
        self.under_way = under_way;
    }
}
