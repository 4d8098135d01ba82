//! Flows that exporters told of, on their way into the pipeline beside those that the kernel counted.
//!
//! Nothing they tell is proven, whatever they say: whoever can send a datagram can make it up. So they can add to the
//! evidence that leads to alerts, and never to the sum that may lead to a drop.

use std::sync::Arc;

use weir_common::flow::ip_proto;
use weir_core::profile::ProfileId;
use weir_core::record::{FlowRecord, FlowState, Have, TimeUs};
use weir_core::table::Touched;
use weir_source::Observation;

/// The kernel's flows have numbers below, those of exporters from here on.
pub const FIRST_ID: u64 = 1 << 63;

/// What a record must tell to be scored: everything that profile `core` needs, and about whom it is.
pub const SCORED: Have = ProfileId::Core.needs().with(Have::ADDRESSES);
/// What it must tell to count for or against a source: also who opened the flow.
pub const ACCOUNTABLE: Have = SCORED.with(Have::SIDES);

/// The flows of one epoch after the other.
pub struct Exported {
    next_id: u64,
    /// Of the first flow of this epoch.
    first_id: u64,
    /// Who told of each, in the order of their numbers, and one in how many packets they looked at.
    seen_at: Vec<(Option<Arc<str>>, u32)>,
    /// What source windows take of this epoch.
    pub touched: Vec<Touched>,
    /// Flows that told too little to be scored, so far.
    pub unscored: u64,
}

impl Exported {
    /// `first` is a number that no earlier run has given.
    pub fn new(first: u64) -> Self {
        let next_id = FIRST_ID | first;
        Self { next_id, first_id: next_id, seen_at: Vec::new(), touched: Vec::new(), unscored: 0 }
    }

    /// Takes what came until `now` and adds the records to `records`. What came before is forgotten.
    pub fn take(&mut self, flows: Vec<Observation>, now: TimeUs, records: &mut Vec<FlowRecord>) {
        self.first_id = self.next_id;
        self.seen_at.clear();
        self.touched.clear();
        for flow in flows {
            let mut record = flow.record;
            record.flow_id = self.next_id;
            record.proven = false;
            // Over the top it goes on where it began: never below.
            self.next_id = FIRST_ID | self.next_id.wrapping_add(1);
            self.seen_at.push((flow.seen_at, flow.sampling));
            self.unscored += u64::from(!record.have.has(SCORED));
            if record.have.has(ProfileId::Source.needs()) {
                self.touched.push(touched(&record, now));
            }
            records.push(record);
        }
    }

    /// Who told of a flow of this epoch; `None` for the kernel's.
    pub fn seen_at(&self, flow_id: u64) -> Option<Arc<str>> {
        self.told(flow_id)?.0.clone()
    }

    /// Who told of a flow of this epoch, and one in how many packets they looked at; `None` for the kernel's.
    fn told(&self, flow_id: u64) -> Option<&(Option<Arc<str>>, u32)> {
        let at = flow_id.checked_sub(self.first_id)?;
        self.seen_at.get(usize::try_from(at).ok()?)
    }

    /// A flow of this epoch as it was told of, or as it was seen at `here`.
    pub fn observation(&self, record: FlowRecord, here: Option<&Arc<str>>) -> Observation {
        let (seen_at, sampling) = match self.told(record.flow_id) {
            Some((seen_at, sampling)) => (seen_at.clone(), *sampling),
            None => (here.cloned(), 1),
        };
        Observation { seen_at, sampling, ..record.into() }
    }
}

/// A flow that was told of at `now`, as source windows count it: as it ended.
pub fn touched(r: &FlowRecord, now: TimeUs) -> Touched {
    Touched {
        flow_id: r.flow_id,
        client: r.client,
        server: r.server,
        client_port: r.client_port,
        server_port: r.server_port,
        proto: r.proto,
        direction: r.direction,
        // An exporter's clock may be ahead: a flow that begins after it was told of would wait for answers for ever.
        start_us: r.start_us.min(now),
        last_us: r.end_us.min(now),
        fwd: r.fwd,
        bwd: r.bwd,
        state: r.state,
        // Its opener is known, and nothing came back that could be acknowledged.
        bare_syn: r.proto == ip_proto::TCP && matches!(r.state, FlowState::Unanswered | FlowState::Rejected),
        proven: r.proven,
        new: true,
        seen_at: r.seen_at,
    }
}
