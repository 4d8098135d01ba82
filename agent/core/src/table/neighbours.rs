//! What the sources of flows were doing: which flows are to be told of, and when (see [`crate::context`]).

use weir_common::flow::FlowStats;
use weir_common::near;

use super::slots::Slots;
use super::told::{begun, ends};
use super::{AHEAD, judge};
use crate::context::{Begun, ContextCaps, Contexts, Start};
use crate::record::{FlowRecord, FlowState};

/// The contexts of all sources, and the flows whose own context is due at the epoch's end.
pub(super) struct Neighbours {
    contexts: Option<Contexts>,
    /// Flows of this epoch that are new: slot, direction of the client, and what the contexts are told.
    begins: Vec<(u32, u8, Start)>,
    /// Fresh flows: slot, identifier, and what their contexts ask.
    fresh: Vec<(u32, u64, Begun)>,
    /// Records of fresh flows, by their place in the output, and the starts of these flows (monotonic).
    early: Vec<(usize, u64)>,
}

impl Neighbours {
    pub(super) fn new(caps: Option<ContextCaps>) -> Self {
        Self { contexts: caps.map(Contexts::new), begins: Vec::new(), fresh: Vec::new(), early: Vec::new() }
    }

    /// Whether anything is to be told at all.
    pub(super) fn wanted(&self) -> bool {
        self.contexts.is_some()
    }

    /// Flows left out because too many sources were active.
    pub(super) fn refused(&self) -> u64 {
        self.contexts.as_ref().map_or(0, Contexts::refused)
    }

    /// A new epoch.
    pub(super) fn advance(&mut self, end_us: u64) {
        if let Some(contexts) = &mut self.contexts {
            contexts.advance(end_us);
        }
    }

    /// A fresh flow's record is about to be made, at `at` in the output, before its context is known.
    pub(super) fn before(&mut self, at: usize, stats: &FlowStats) {
        self.early.push((at, judge::first_us(stats)));
    }

    /// Tells the contexts of a flow that has just had packets.
    pub(super) fn tell(&mut self, slots: &mut Slots, slot: u32, client: usize, new: bool) {
        let Some(contexts) = &mut self.contexts else { return };
        let Some(flow) = slots.get_mut(slot) else { return };
        let [fwd, bwd] = [&flow.stats.dir[client], &flow.stats.dir[1 - client]];
        let answered = judge::state(flow.key.proto, fwd, bwd) != FlowState::Unanswered;
        let begun = begun(flow, client);
        self.fresh.push((slot, flow.id, begun));
        if new {
            let proven = judge::proven(flow.key.proto, fwd, bwd);
            self.begins.push((slot, client as u8, Start { answered, proven, begun }));
        } else if answered && let Some(waits) = flow.waits.take() {
            let start_us = judge::first_us(&flow.stats);
            contexts.answered(ends(&flow.key, usize::from(waits)).0.0, start_us);
        }
    }

    /// Every flow of the epoch is known: what their sources were doing can be told.
    pub(super) fn take(&mut self, slots: &mut Slots, records: &mut [FlowRecord]) {
        let Some(contexts) = &mut self.contexts else { return };
        contexts.begin_each(self.begins.iter().map(|(.., start)| start), |i, counted| {
            let (slot, client, start) = &self.begins[i];
            // Where the flow has ended meanwhile nobody asks.
            if let Some(flow) = slots.get_mut(*slot) {
                flow.waits = (counted && !start.answered).then_some(*client);
            }
        });
        self.begins.clear();
        for ahead in self.fresh.chunks(AHEAD) {
            for (slot, ..) in ahead {
                if let Some(flow) = slots.get(*slot) {
                    near::ask_for(&flow.context);
                    near::ask_for(&flow.id);
                }
            }
            contexts.of_each(ahead.iter().map(|(.., begun)| begun), |i, context| {
                // The flow may have ended meanwhile, and another one begun in its place.
                let (slot, id, _) = ahead[i];
                if let Some(flow) = slots.get_mut(slot).filter(|f| f.id == id) {
                    flow.fresh = false;
                    flow.context = context;
                }
            });
        }
        self.fresh.clear();
        for (at, start_us) in self.early.drain(..) {
            let Some(r) = records.get_mut(at) else { continue };
            let (client, server, server_port) = (r.client, r.server, r.server_port);
            r.context = contexts.of(&Begun { client, server, server_port, start_us });
        }
    }
}
