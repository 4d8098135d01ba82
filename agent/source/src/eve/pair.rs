//! The two halves of a `netflow` flow brought together.

use std::collections::{HashMap, VecDeque};

use weir_common::flow::ip_proto;
use weir_core::record::{FlowRecord, Have};

use super::event::state;
use crate::Observation;

/// How many flows a first half may be behind before its other half is no longer waited for. Suricata writes the two in one
/// go; only other threads' lines come between.
const WAIT: usize = 4096;

type Key = (u64, FlowEnds);
type FlowEnds = (weir_core::addr::Addr, u16, weir_core::addr::Addr, u16, u8);

enum Waiting {
    /// Nothing more is to come.
    Whole(Observation),
    Half(Key, Observation),
}

/// Flows in the order of their first lines.
#[derive(Default)]
pub(super) struct Pairs {
    queue: VecDeque<Waiting>,
    /// Of each half: how many had been put into the queue before it.
    halves: HashMap<Key, u64>,
    /// How many have left the queue.
    left: u64,
}

fn ends(r: &FlowRecord) -> FlowEnds {
    (r.client, r.client_port, r.server, r.server_port, r.proto)
}

impl Pairs {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn whole(&mut self, flow: Observation) {
        self.queue.push_back(Waiting::Whole(flow));
    }

    pub(super) fn half(&mut self, flow_id: u64, half: Observation) {
        let (client, client_port, server, server_port, proto) = ends(&half.record);
        let other = (flow_id, (server, server_port, client, client_port, proto));
        if let Some(put) = self.halves.remove(&other)
            && let Some(slot) = put.checked_sub(self.left).and_then(|i| self.queue.get_mut(i as usize))
            && let Waiting::Half(_, first) = slot
        {
            let mut flow = first.clone();
            join(&mut flow.record, &half.record);
            *slot = Waiting::Whole(flow);
            return;
        }
        let key = (flow_id, ends(&half.record));
        self.halves.insert(key, self.left + self.queue.len() as u64);
        self.queue.push_back(Waiting::Half(key, half));
    }

    /// The next flow that is whole, or has waited long enough, or at the `end` any.
    pub(super) fn next(&mut self, end: bool) -> Option<Observation> {
        match self.queue.front()? {
            Waiting::Half(..) if !end && self.queue.len() <= WAIT => return None,
            _ => {}
        }
        let flow = match self.queue.pop_front()? {
            Waiting::Whole(flow) => flow,
            Waiting::Half(key, mut flow) => {
                if self.halves.get(&key) == Some(&self.left) {
                    self.halves.remove(&key);
                }
                settle(&mut flow.record, None);
                flow
            }
        };
        self.left += 1;
        Some(flow)
    }
}

fn join(r: &mut FlowRecord, back: &FlowRecord) {
    r.bwd = back.fwd;
    r.start_us = r.start_us.min(back.start_us);
    r.end_us = r.end_us.max(back.end_us);
    // What is told of both directions is told.
    r.have = Have::from_bits(r.have.bits() & back.have.bits());
    settle(r, Some(back.stats.dir[0].seen));
}

/// State and sides, once it is clear what came back. Suricata writes no second half where nothing did.
fn settle(r: &mut FlowRecord, back: Option<u32>) {
    let flags = |seen: u32| (seen & weir_common::flow::seen::TCP_FLAGS) as u8;
    let (ts, tc) = (flags(r.stats.dir[0].seen), flags(back.unwrap_or(0)));
    r.stats = weir_common::flow::FlowStats::EMPTY;
    if let Some(state) = state(r, Some((ts, tc)), None) {
        r.state = state;
        r.have = r.have.with(Have::STATE);
    }
    let opened = (ts | tc) & weir_common::flow::tcp_flag::SYN != 0;
    if r.have.has(Have::PROTO) && (r.proto != ip_proto::TCP || opened) {
        r.have = r.have.with(Have::SIDES);
    }
}
