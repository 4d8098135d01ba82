//! What the sources of flows were doing: which flows are to be told of, and when (see [`crate::context`]).

use weir_common::flow::FlowStats;

use super::slots::Slots;
use super::told::{begun, ends};
use super::{AHEAD, judge};
use crate::context::{Begun, ContextCaps, Contexts, Start};
use crate::record::{FlowRecord, FlowState};

/// The contexts of all sources, and the flows whose own context is due at the epoch's end.
pub(super) struct Neighbours {
    contexts: Option<Contexts>,
    /// The first identifier of a flow that began in this epoch.
    first_new: u64,
    /// Flows of this epoch that are new: slot and generation, and what the contexts are told.
    begins: Vec<(u32, u32, Start)>,
    /// Flows that had packets: slot and generation, and what their contexts ask.
    fresh: Vec<(u32, u32, Begun)>,
    /// Flows that had finished before this epoch.
    finished: u64,
    /// Records of fresh flows, by their place in the output, and the starts of these flows (monotonic).
    early: Vec<(usize, u64)>,
}

impl Neighbours {
    pub(super) fn new(caps: Option<ContextCaps>) -> Self {
        Self {
            contexts: caps.map(Contexts::new),
            first_new: 0,
            begins: Vec::new(),
            fresh: Vec::new(),
            finished: 0,
            early: Vec::new(),
        }
    }

    /// Flows left out because too many sources were active.
    pub(super) fn refused(&self) -> u64 {
        self.contexts.as_ref().map_or(0, Contexts::refused)
    }

    /// A new epoch, whose first new flow gets the identifier `next_id`; so many flows have finished before it.
    pub(super) fn advance(&mut self, end_us: u64, next_id: u64, finished: u64) {
        (self.first_new, self.finished) = (next_id, finished);
        if let Some(contexts) = &mut self.contexts {
            contexts.advance(end_us);
        }
    }

    /// The record of a flow that has had packets in this epoch is about to be made, at `at` in the output, before its context is known.
    pub(super) fn before(&mut self, at: usize, stats: &FlowStats) {
        if self.contexts.is_some() {
            self.early.push((at, judge::first_us(stats)));
        }
    }

    /// Tells the contexts of a flow that has just had packets.
    pub(super) fn tell(&mut self, slots: &mut Slots, slot: u32, client: usize, new: bool) {
        let Some(contexts) = &mut self.contexts else { return };
        let Some(flow) = slots.get_mut(slot) else { return };
        let generation = flow.generation();
        let [fwd, bwd] = [&flow.stats.dir[client], &flow.stats.dir[1 - client]];
        let answered = judge::state(flow.key.proto, fwd, bwd) != FlowState::Unanswered;
        let begun = begun(flow, client);
        self.fresh.push((slot, generation, begun));
        if new {
            let proven = judge::proven(flow.key.proto, fwd, bwd);
            self.begins.push((slot, generation, Start { answered, proven, begun }));
            flow.waits = (!answered).then_some(client != 0);
        } else if answered
            // One that is answered in the epoch that it began in is told of with the next.
            && flow.id < self.first_new
            && let Some(waits) = flow.waits.take()
        {
            let start_us = judge::first_us(&flow.stats);
            contexts.answered(ends(&flow.key, usize::from(waits)).0.0, start_us);
        }
    }

    /// Every flow of the epoch is known: what their sources were doing can be told. So many have finished until now.
    pub(super) fn take(&mut self, slots: &mut Slots, finished: u64, records: &mut [FlowRecord]) {
        let Some(contexts) = &mut self.contexts else { return };
        // Otherwise a flow may have ended meanwhile, and another one begun in its place.
        let all_there = finished == self.finished;
        contexts.begin_each(self.begins.iter().map(|(.., start)| start), |i, link| {
            let (slot, generation, _) = self.begins[i];
            match link {
                Some(link) if all_there || slots.of_generation(slot, generation).is_some() => {
                    slots.set_context(slot, None, link);
                }
                Some(_) => {}
                None => {
                    if let Some(flow) = slots.of_generation_mut(slot, generation) {
                        flow.waits = None;
                    }
                }
            }
        });
        self.begins.clear();
        for ahead in self.fresh.chunks(AHEAD) {
            for &(slot, ..) in ahead {
                slots.ask_for_context(slot);
            }
            for &(slot, ..) in ahead {
                contexts.ask(slots.link(slot));
            }
            for (slot, generation, begun) in ahead {
                if all_there || slots.of_generation(*slot, *generation).is_some() {
                    let (context, link) = contexts.of_linked(begun, slots.link(*slot));
                    slots.set_context(*slot, context, link);
                }
            }
        }
        self.fresh.clear();
        for (at, start_us) in self.early.drain(..) {
            let Some(r) = records.get_mut(at) else { continue };
            let (client, server, server_port) = (r.client, r.server, r.server_port);
            r.context = contexts.of(&Begun { client, server, server_port, start_us });
        }
    }
}
