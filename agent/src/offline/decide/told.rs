//! Flows that others counted, waiting for their turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_core::record::{FlowRecord, TimeUs};
use weir_core::table::Touched;
use weir_source::Observation;

use super::site::EPOCH_US;
use crate::exported::touched;

/// Flows that wait, about 0.6 KiB each; of more, the half that ended first is replayed.
const MOST: usize = 250_000;

struct Told {
    record: FlowRecord,
    label: Option<Arc<str>>,
    begun: bool,
    /// An entry would have stopped it at its beginning.
    stopped: bool,
    ended: bool,
}

#[derive(Default)]
pub struct Waiting {
    flows: Vec<Told>,
    /// Up to here everything was replayed.
    until_us: TimeUs,
    /// Something was replayed already.
    replayed: bool,
}

/// The flows of one epoch, by their places.
pub struct Turn {
    /// End of the epoch.
    pub second_us: TimeUs,
    begin: Vec<usize>,
    end: Vec<usize>,
}

/// What an epoch brings.
pub struct Step {
    pub ended: Vec<(FlowRecord, Option<Arc<str>>)>,
    pub begun: Vec<(Touched, Option<Arc<str>>)>,
}

fn second(us: TimeUs) -> TimeUs {
    (us / EPOCH_US).saturating_add(1).saturating_mul(EPOCH_US)
}

impl Waiting {
    /// Whether it is time to replay some.
    pub fn push(&mut self, flow: Observation) -> bool {
        let begun = !flow.record.first_record;
        self.flows.push(Told { record: flow.record, label: flow.label, begun, stopped: false, ended: false });
        self.flows.len() >= MOST
    }

    pub fn is_first(&self) -> bool {
        !self.replayed
    }

    pub fn is_late(&self, r: &FlowRecord) -> bool {
        r.end_us < self.until_us
    }

    /// When half of the flows have ended.
    pub fn middle(&self) -> TimeUs {
        let mut ends: Vec<TimeUs> = self.flows.iter().map(|t| t.record.end_us).collect();
        let half = ends.len() / 2;
        let (_, middle, _) = ends.select_nth_unstable(half);
        second(*middle)
    }

    /// What happens before a time, epoch by epoch.
    pub fn until(&mut self, until_us: TimeUs) -> Vec<Turn> {
        let mut turns: BTreeMap<TimeUs, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for (i, t) in self.flows.iter().enumerate() {
            if !t.begun && t.record.start_us < until_us {
                turns.entry(second(t.record.start_us)).or_default().0.push(i);
            }
            if t.record.end_us < until_us {
                turns.entry(second(t.record.end_us)).or_default().1.push(i);
            }
        }
        self.until_us = until_us;
        let flows = &self.flows;
        let turn = |(second_us, (mut begin, mut end)): (TimeUs, (Vec<usize>, Vec<usize>))| {
            begin.sort_by_key(|i| (flows[*i].record.start_us, flows[*i].record.flow_id));
            end.sort_by_key(|i| (flows[*i].record.end_us, flows[*i].record.flow_id));
            Turn { second_us, begin, end }
        };
        turns.into_iter().map(turn).collect()
    }

    /// Takes an epoch's flows. Those that `stops` says are stopped as they begin do not take place.
    pub fn take(&mut self, turn: &Turn, mut stops: impl FnMut(&FlowRecord, Option<&Arc<str>>) -> bool) -> Step {
        self.replayed = true;
        let mut step = Step { ended: Vec::new(), begun: Vec::new() };
        for &i in &turn.begin {
            let t = &mut self.flows[i];
            t.begun = true;
            t.stopped = stops(&t.record, t.label.as_ref());
            if !t.stopped {
                step.begun.push((touched(&t.record, TimeUs::MAX), t.label.clone()));
            }
        }
        for &i in &turn.end {
            let t = &mut self.flows[i];
            t.ended = true;
            if !t.stopped {
                step.ended.push((t.record.clone(), t.label.clone()));
            }
        }
        step
    }

    /// What has ended is gone.
    pub fn clear(&mut self) {
        self.flows.retain(|t| !t.ended);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use weir_core::record::{EndReason, FlowState, Have, Totals};
    use weir_core::role::Direction;

    /// A TCP flow of five seconds that another tool counted.
    pub fn record(start_us: TimeUs, state: FlowState) -> FlowRecord {
        FlowRecord {
            flow_id: 1,
            client: "192.0.2.1".parse().unwrap(),
            server: "10.0.0.1".parse().unwrap(),
            client_port: 40_000,
            server_port: 443,
            proto: 6,
            vlan_outer: 0,
            vlan_inner: 0,
            start_us,
            end_us: start_us + 5 * EPOCH_US,
            fwd: Totals { packets: 5, bytes: 500, payload: 200 },
            bwd: Totals { packets: 5, bytes: 5_000, payload: 4_000 },
            stats: weir_common::flow::FlowStats::EMPTY,
            state,
            end_reason: EndReason::Exported,
            have: Have::ALL.without(Have::STATS),
            direction: Direction::In,
            proven: false,
            first_record: true,
            context: None,
            seen_at: 0,
        }
    }

    #[test]
    fn flows_begin_and_end_in_their_seconds_whatever_the_order_of_the_file() {
        let t0 = 1_700_000_000 * EPOCH_US;
        let mut waiting = Waiting::default();
        for (id, s) in [(1, 7), (2, 0), (3, 3)] {
            let mut r = record(t0 + s * EPOCH_US + 5, FlowState::Closed);
            r.flow_id = id;
            assert!(!waiting.push(r.into()));
        }
        let ids = |flows: &[usize]| flows.iter().map(|i| waiting.flows[*i].record.flow_id).collect::<Vec<_>>();
        let shown: Vec<_> = {
            let mut copy = Waiting::default();
            for t in &waiting.flows {
                copy.push(t.record.clone().into());
            }
            let turns = copy.until(TimeUs::MAX);
            turns.into_iter().map(|t| (t.second_us / EPOCH_US - 1_700_000_000, ids(&t.begin), ids(&t.end))).collect()
        };
        let none = Vec::<u64>::new;
        assert_eq!(
            shown,
            [
                (1, vec![2], none()),
                (4, vec![3], none()),
                (6, none(), vec![2]),
                (8, vec![1], none()),
                (9, none(), vec![3]),
                (13, none(), vec![1]),
            ]
        );
        // Up to a time: what goes on stays, and has begun.
        assert_eq!(waiting.middle(), t0 + 9 * EPOCH_US);
        let early = waiting.until(t0 + 4 * EPOCH_US);
        assert_eq!(early.len(), 2);
        assert!(waiting.is_late(&record(t0 - 9 * EPOCH_US, FlowState::Closed)));
    }
}
