//! What the sources of flows were doing: which flows are to be told of, and when (see [`crate::context`]).

use weir_common::flow::FlowStats;

use super::judge;
use super::slots::Slots;
use super::told::{begun, ends};
use crate::context::{Begun, ContextCaps, Contexts};
use crate::home::Home;
use crate::record::{FlowRecord, FlowState};

/// The contexts of all sources, and the flows whose own context is due at the epoch's end.
pub(super) struct Neighbours {
    contexts: Option<Contexts>,
    /// Slots of flows that have packets in this epoch.
    fresh: Vec<u32>,
    /// Records of fresh flows, by their place in the output, and the starts of these flows (monotonic).
    early: Vec<(usize, u64)>,
}

impl Neighbours {
    pub(super) fn new(caps: Option<ContextCaps>) -> Self {
        Self { contexts: caps.map(Contexts::new), fresh: Vec::new(), early: Vec::new() }
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

    /// The flow has packets in this epoch.
    #[inline]
    pub(super) fn freshen(&mut self, slot: u32, fresh: &mut bool) {
        if self.contexts.is_some() && !*fresh {
            *fresh = true;
            self.fresh.push(slot);
        }
    }

    /// A fresh flow's record is about to be made, at `at` in the output, before its context is known.
    pub(super) fn before(&mut self, at: usize, stats: &FlowStats) {
        self.early.push((at, judge::first_us(stats)));
    }

    /// Tells the contexts of a flow that has just had packets.
    pub(super) fn tell(
        &mut self,
        slots: &mut Slots,
        slot: u32,
        client: usize,
        new: bool,
        state: FlowState,
        proven: bool,
    ) {
        let Some(contexts) = &mut self.contexts else { return };
        let Some(flow) = slots.get_mut(slot) else { return };
        let answered = state != FlowState::Unanswered;
        if new {
            let counted = contexts.begin(&begun(flow, client), answered, proven);
            flow.waits = (counted && !answered).then_some(client as u8);
        } else if answered && let Some(waits) = flow.waits.take() {
            let start_us = judge::first_us(&flow.stats);
            contexts.answered(ends(&flow.key, usize::from(waits)).0.0, start_us);
        }
    }

    /// Every flow of the epoch is known: what their sources were doing can be told.
    pub(super) fn take(&mut self, slots: &mut Slots, home: &Home, records: &mut [FlowRecord]) {
        let Some(contexts) = &self.contexts else { return };
        for slot in self.fresh.drain(..) {
            let Some(flow) = slots.get_mut(slot).filter(|f| f.fresh) else { continue };
            flow.fresh = false;
            let client = judge::client_dir(&flow.key, &flow.stats, home);
            flow.context = contexts.of(&begun(flow, client));
        }
        for (at, start_us) in self.early.drain(..) {
            let Some(r) = records.get_mut(at) else { continue };
            let (client, server, server_port) = (r.client, r.server, r.server_port);
            r.context = contexts.of(&Begun { client, server, server_port, start_us });
        }
    }
}
