//! The flow table: drained statistics in, flow records out, epoch by epoch.
//!
//! Everything is decided at epoch ends, for live traffic as for captures: direction, end, port reuse, timeouts and
//! checkpoints. Work per epoch is in proportion to the flows touched and the deadlines that come up. Memory is bounded
//! by `max_flows` (about 0.5 KiB each): a full table ends the oldest unanswered flow, or else the one whose deadline
//! comes first, with a record of its own and a count.

mod config;
mod gathered;
mod judge;
mod members;
mod neighbours;
mod packets;
mod slots;
mod timer;
mod told;

use std::collections::VecDeque;

use weir_common::flow::{FlowKey, FlowStats};

use crate::home::Home;
use crate::record::{EndReason, FlowRecord};
pub use config::{TableConfig, TableCounts};
pub use gathered::{Gathered, Spot};
use members::Owners;
pub use members::{Part, SeenTwice, TAKE_OVER_US, say_who_opened};
use neighbours::Neighbours;
use packets::UnderWay;
use slots::{Flow, Place, Slots};
use timer::Timers;
pub use told::{EpochOutput, Touched};
use told::{record, touched};

pub struct FlowTable {
    config: TableConfig,
    slots: Slots,
    timers: Timers,
    /// Flows that were unanswered when they began, oldest first: the first to go when the table is full, so that a
    /// flood of forged SYNs pushes out itself. Entries may be stale.
    unanswered: VecDeque<(u32, u32)>,
    neighbours: Neighbours,
    next_id: u64,
    /// Numbers the epochs, so that a flow tells whether it has had packets in this one ([`Flow::epoch`]). 0 is none of them.
    epoch: u32,
    under_way: UnderWay,
    counts: TableCounts,
    /// More than one interface has counted flows so far; until then, which one.
    several: bool,
    only: u32,
    seen_twice: SeenTwice,
}

impl FlowTable {
    pub fn new(config: TableConfig) -> Self {
        Self {
            next_id: config.first_flow_id,
            neighbours: Neighbours::new(config.context),
            config: TableConfig { max_flows: config.max_flows.clamp(1, u32::MAX as usize - 1), ..config },
            slots: Slots::default(),
            timers: Timers::default(),
            unanswered: VecDeque::new(),
            epoch: 1,
            under_way: UnderWay::default(),
            counts: TableCounts::default(),
            several: false,
            only: 0,
            seen_twice: SeenTwice::default(),
        }
    }

    /// Flows that may be alive at once.
    pub fn max_flows(&self) -> usize {
        self.config.max_flows
    }
    pub fn len(&self) -> usize {
        self.slots.len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn counts(&self) -> TableCounts {
        TableCounts { without_context: self.neighbours.refused(), ..self.counts }
    }
    /// The identifier that the next flow will get.
    pub fn next_flow_id(&self) -> u64 {
        self.next_id
    }
    /// Replaces the protected networks, from the next record on.
    pub fn set_home(&mut self, home: Home) {
        self.config.home = home;
    }

    /// Every flow that is alive, as it stands.
    pub fn live(&self) -> impl Iterator<Item = Touched> {
        self.slots.iter().map(|flow| {
            let client = judge::client_dir(&flow.key, &flow.stats, &self.config.home);
            touched(flow, client, &self.config.home, false)
        })
    }

    /// Takes what was drained at `end_us` (monotonic, µs, not before any packet in `drained`) and adds what follows
    /// from it to `out`. Each key occurs at most once per epoch; epochs come in order. Records carry monotonic time
    /// plus `wall_offset_us`.
    pub fn epoch(
        &mut self,
        end_us: u64,
        wall_offset_us: i64,
        drained: impl Iterator<Item = (FlowKey, FlowStats)>,
        out: &mut EpochOutput,
    ) {
        self.neighbours.advance(end_us, self.next_id, self.counts.finished);
        for (key, stats) in drained {
            self.take(end_us, wall_offset_us, self.slots.place(&key), &key, &stats, [0; 2], out);
        }
        self.work_off(end_us, out);
    }

    /// [`FlowTable::epoch`] for what [`FlowTable::count`] has taken, and for what lies in memory already: nothing is copied, and memory
    /// is asked for a few flows ahead.
    pub fn epoch_of(
        &mut self,
        end_us: u64,
        wall_offset_us: i64,
        drained: &[(FlowKey, FlowStats)],
        out: &mut EpochOutput,
    ) {
        self.neighbours.advance(end_us, self.next_id, self.counts.finished);
        if !self.under_way.is_empty() {
            self.work_off_counted(end_us, wall_offset_us, out);
        }
        let mut places = [Place::NOWHERE; AHEAD];
        for ahead in drained.chunks(AHEAD) {
            // Step by step for all of them: what each step reads from memory then does not depend on the read before.
            for (place, (key, _)) in places.iter_mut().zip(ahead) {
                *place = self.slots.place(key);
            }
            for place in &places[..ahead.len()] {
                self.slots.ask_for(place.likely);
            }
            for (&place, (key, stats)) in places.iter().zip(ahead) {
                self.take(end_us, wall_offset_us, place, key, stats, [0; 2], out);
            }
        }
        self.work_off(end_us, out);
    }

    /// The deadlines that have come up.
    fn work_off(&mut self, end_us: u64, out: &mut EpochOutput) {
        self.neighbours.take(&mut self.slots, self.counts.finished, &mut out.records);
        self.epoch = self.epoch.wrapping_add(1).max(1);
        while let Some((tick, due)) = self.timers.pop_due(end_us) {
            for ahead in due.chunks(AHEAD) {
                for &(slot, _) in ahead {
                    self.slots.ask_for(slot);
                }
                for &(slot, _) in ahead {
                    self.slots.ask_for_way(slot);
                }
                for &(slot, generation) in ahead {
                    self.look(end_us, tick, slot, generation, out);
                }
            }
            // What this tick still has to come stays in it.
            if tick >= Timers::tick_of(end_us) {
                break;
            }
        }
    }

    /// Ends every flow, oldest slot first: at the end of a capture ([`EndReason::Idle`] where it reads as a timeout)
    /// or when the agent stops ([`EndReason::Flushed`]). Flows that ended already keep [`EndReason::Ended`].
    pub fn flush(&mut self, reason: EndReason, out: &mut EpochOutput) {
        self.flush_each(reason, |record| out.records.push(record));
    }

    /// [`FlowTable::flush`] without room for all the records at once.
    pub fn flush_each(&mut self, reason: EndReason, mut each: impl FnMut(FlowRecord)) {
        if !self.under_way.is_empty() {
            let mut out = EpochOutput::default();
            self.break_off(&mut out);
            out.records.into_iter().for_each(&mut each);
        }
        self.timers = Timers::default();
        self.unanswered.clear();
        let (counts, home) = (&mut self.counts, &self.config.home);
        self.slots.drain(|flow, context| {
            counts.finished += 1;
            let reason = if judge::ended(&flow.key, &flow.stats) { EndReason::Ended } else { reason };
            each(record(flow, context, home, reason));
        });
    }

    #[expect(clippy::too_many_arguments, reason = "what one drained flow is, and when")]
    fn take(
        &mut self,
        end_us: u64,
        offset_us: i64,
        place: Place,
        key: &FlowKey,
        stats: &FlowStats,
        owners: Owners,
        out: &mut EpochOutput,
    ) {
        if stats.is_empty() {
            self.counts.empty += 1;
            return;
        }
        let mut known = self.slots.find(place, key);
        if let Some(slot) = known
            && let Some(reason) = self.over_before(slot, stats)
        {
            self.finish(slot, reason, out);
            known = None;
        }
        let slot = match known {
            Some(slot) => slot,
            None => self.open(offset_us, place.hash, key, stats, out),
        };
        let Some(flow) = self.slots.get_mut(slot) else { return };
        if known.is_some() {
            flow.stats.merge(stats);
        }
        for (owner, new) in flow.owners.iter_mut().zip(owners).filter(|(_, new)| *new != 0) {
            *owner = new;
        }
        flow.epoch = self.epoch;
        self.settle(end_us, slot, known.is_none(), out);
    }

    /// All packets that a flow had in the epoch are counted: what follows from them at once.
    fn settle(&mut self, end_us: u64, slot: u32, new: bool, out: &mut EpochOutput) {
        let Some(flow) = self.slots.get_mut(slot) else { return };
        let packets = flow.stats.packets();
        let passed = self.config.checkpoints.iter().filter(|&&c| packets >= c).count() as u8;
        let due = passed > flow.passed || end_us >= flow.next_active_us;
        flow.passed = flow.passed.max(passed);
        if due {
            self.checkpoint(end_us, slot, out);
        }
        let Some(flow) = self.slots.get(slot) else { return };
        let generation = flow.generation();
        let deadline = deadline(&self.config, flow);
        let queued_tick = flow.queued_tick;
        let client = judge::client_dir(&flow.key, &flow.stats, &self.config.home);
        if self.config.touched {
            out.touched.push(touched(flow, client, &self.config.home, new));
        }
        self.neighbours.tell(&mut self.slots, slot, client, new);

        if new || Timers::tick_of(deadline) < queued_tick {
            let tick = self.timers.queue(deadline, slot, generation);
            if let Some(flow) = self.slots.get_mut(slot) {
                flow.queued_tick = tick;
            }
        }
    }

    /// Why the flow in `slot` was over before the packets in `later` came, if it was.
    fn over_before(&self, slot: u32, later: &FlowStats) -> Option<EndReason> {
        let flow = self.slots.get(slot)?;
        let gap = judge::first_us(later).saturating_sub(judge::last_us(&flow.stats));
        if judge::ended(&flow.key, &flow.stats) {
            if judge::opens(&flow.key, later) {
                return Some(EndReason::Reused);
            }
            return (gap >= self.config.linger_us).then_some(EndReason::Ended);
        }
        (gap >= self.config.idle_us).then_some(EndReason::Idle)
    }

    fn open(&mut self, offset_us: i64, hash: u64, key: &FlowKey, stats: &FlowStats, out: &mut EpochOutput) -> u32 {
        if self.len() >= self.config.max_flows {
            self.evict(out);
        }
        let slot = self.slots.insert(hash, Flow::new(*key, *stats));
        self.opened(offset_us, slot);
        slot
    }

    /// A new flow lies in its slot.
    fn opened(&mut self, offset_us: i64, slot: u32) {
        let Some(flow) = self.slots.get_mut(slot) else { return };
        flow.id = self.next_id;
        flow.offset_us = offset_us;
        flow.next_active_us = judge::first_us(&flow.stats).saturating_add(self.config.active_us);
        let (generation, one_sided) = (flow.generation(), one_sided(&flow.stats));
        self.next_id = self.next_id.wrapping_add(1);
        self.counts.opened += 1;
        if one_sided {
            // No more stale entries than live flows: memory follows those, however long the input is.
            if self.unanswered.len() > 2 * self.slots.len().max(512) {
                let slots = &self.slots;
                self.unanswered.retain(|&(s, g)| slots.generation(s) == Some(g));
            }
            self.unanswered.push_back((slot, generation));
        }
    }

    fn evict(&mut self, out: &mut EpochOutput) {
        let mut victim = None;
        while let Some((slot, generation)) = self.unanswered.pop_front() {
            if self.slots.of_generation(slot, generation).is_some_and(|f| one_sided(&f.stats)) {
                victim = Some(slot);
                break;
            }
        }
        while victim.is_none() {
            let Some((tick, slot, generation)) = self.timers.pop_first() else { return };
            if self.slots.of_generation(slot, generation).is_some_and(|f| f.queued_tick == tick) {
                victim = Some(slot);
            }
        }
        if let Some(slot) = victim {
            self.counts.evicted += 1;
            out.evicted += 1;
            self.finish(slot, EndReason::Flushed, out);
        }
    }

    /// A deadline came up: ends the flow or waits on.
    fn look(&mut self, now_us: u64, tick: u64, slot: u32, generation: u32, out: &mut EpochOutput) {
        let Some(flow) = self.slots.of_generation(slot, generation).filter(|f| f.queued_tick == tick) else { return };
        let due = deadline(&self.config, flow);
        if due > now_us || Timers::tick_of(due) > tick {
            // Packets came meanwhile. In a silence whose epochs were left out it may come up in this very call: in its turn.
            let tick = self.timers.queue(due, slot, generation);
            if let Some(flow) = self.slots.get_mut(slot) {
                flow.queued_tick = tick;
            }
            return;
        }
        let quiet_us = now_us.saturating_sub(judge::last_us(&flow.stats));
        let ended = judge::ended(&flow.key, &flow.stats) && quiet_us >= self.config.linger_us;
        self.finish(slot, if ended { EndReason::Ended } else { EndReason::Idle }, out);
    }

    fn checkpoint(&mut self, now_us: u64, slot: u32, out: &mut EpochOutput) {
        let context = self.slots.context(slot);
        let Some(flow) = self.slots.get_mut(slot) else { return };
        if now_us >= flow.next_active_us {
            flow.next_active_us = now_us.saturating_add(self.config.active_us);
        }
        if flow.epoch == self.epoch {
            self.neighbours.before(out.records.len(), &flow.stats);
        }
        out.records.push(record(flow, context, &self.config.home, EndReason::Checkpoint));
        flow.recorded = true;
        self.counts.checkpoints += 1;
    }

    fn finish(&mut self, slot: u32, reason: EndReason, out: &mut EpochOutput) {
        let Some(flow) = self.slots.get(slot) else { return };
        self.counts.finished += 1;
        if flow.epoch == self.epoch {
            self.neighbours.before(out.records.len(), &flow.stats);
        }
        out.records.push(record(flow, self.slots.context(slot), &self.config.home, reason));
        self.slots.remove(slot);
    }
}

/// Flows whose memory is asked for at a time.
const AHEAD: usize = 32;

fn one_sided(s: &FlowStats) -> bool {
    s.dir[0].is_empty() || s.dir[1].is_empty()
}

/// When the flow must be looked at next, monotonic µs.
fn deadline(config: &TableConfig, flow: &Flow) -> u64 {
    let wait = if judge::ended(&flow.key, &flow.stats) { config.linger_us } else { config.idle_us };
    judge::last_us(&flow.stats).saturating_add(wait.min(config.idle_us))
}

#[cfg(test)]
mod members_tests;
#[cfg(test)]
mod tests;
