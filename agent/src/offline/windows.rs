//! Source windows of what is read: of packets as live, epoch by epoch; of flows that others counted as they ended.

use weir_core::record::{FlowRecord, TimeUs};
use weir_core::table::Touched;
use weir_core::window::{ANSWER_GRACE_US, SourceWindow, SourceWindows, WindowCaps};

use crate::exported::touched;
use crate::learn::sample_of;
use crate::scoring::housekeeping;

const SECOND_US: u64 = 1_000_000;
/// Flows of others that wait for their turn; of more, whole blocks of sources are left out at random.
const MAX_TOLD: usize = 2_000_000;

/// Who takes windows, with the time at which they were known.
pub type Each<'a> = &'a mut dyn FnMut(TimeUs, &[SourceWindow]);

/// The windows of several inputs.
pub struct Windows {
    window_us: u64,
    /// Of packets; each input has a clock of its own.
    packets: Clocked,
    /// Flows of records: files are in no order, so they wait for the end.
    told: Vec<Touched>,
    /// One block of a source in this many is kept of those.
    thinning: u64,
}

impl Windows {
    pub fn new(window_us: u64) -> Self {
        Self { window_us, packets: Clocked::new(window_us), told: Vec::new(), thinning: 1 }
    }

    /// An epoch of packets.
    pub fn epoch(&mut self, end_us: TimeUs, touched: &[Touched], each: Each<'_>) {
        let counted = |t: &&Touched| !housekeeping(t.client, t.proto, t.client_port, t.server_port);
        let touched: Vec<Touched> = touched.iter().filter(counted).cloned().collect();
        self.packets.epoch(end_us, &touched, each);
    }

    /// An input has ended.
    pub fn end_of_input(&mut self, each: Each<'_>) {
        std::mem::replace(&mut self.packets, Clocked::new(self.window_us)).end(each);
    }

    /// A flow that somebody else counted, which tells what profile `source` needs.
    pub fn told(&mut self, r: &FlowRecord) {
        let kept = |t: &Touched, thinning| sample_of(t.client, t.start_us, self.window_us).is_multiple_of(thinning);
        let flow = touched(r, TimeUs::MAX);
        if !kept(&flow, self.thinning) {
            return;
        }
        self.told.push(flow);
        if self.told.len() > MAX_TOLD {
            self.thinning *= 2;
            self.told.retain(|t| kept(t, self.thinning));
        }
    }

    /// Every input was read: the windows of those flows, in the order of time.
    pub fn end(mut self, each: Each<'_>) {
        self.end_of_input(each);
        self.told.sort_by_key(|t| (t.start_us, t.flow_id));
        let mut windows = Clocked::new(self.window_us);
        for second in self.told.chunk_by(|a, b| a.start_us / SECOND_US == b.start_us / SECOND_US) {
            windows.epoch((second[0].start_us / SECOND_US + 1) * SECOND_US, second, each);
        }
        windows.end(each);
    }
}

/// Windows that close in time where epochs without flows are left out.
struct Clocked {
    windows: SourceWindows,
    last_us: TimeUs,
    rows: Vec<SourceWindow>,
}

impl Clocked {
    fn new(window_us: u64) -> Self {
        Self { windows: SourceWindows::new(window_us, WindowCaps::default()), last_us: 0, rows: Vec::new() }
    }

    fn step(&mut self, end_us: TimeUs, touched: &[Touched], each: Each<'_>) {
        self.rows.clear();
        self.windows.epoch(end_us, touched, &mut self.rows);
        if !self.rows.is_empty() {
            each(end_us, &self.rows);
        }
        self.last_us = end_us;
    }

    fn epoch(&mut self, end_us: TimeUs, touched: &[Touched], each: Each<'_>) {
        // At most two are open: the one of the last epoch, and the one before it within its grace.
        let newest = self.last_us / self.windows.window_us();
        for number in [newest.saturating_sub(1), newest] {
            let due = (number + 1) * self.windows.window_us() + ANSWER_GRACE_US;
            let due = due.div_ceil(SECOND_US) * SECOND_US;
            if self.last_us > 0 && self.last_us < due && due < end_us {
                self.step(due, &[], each);
            }
        }
        self.step(end_us, touched, each);
    }

    fn end(mut self, each: Each<'_>) {
        self.rows.clear();
        self.windows.flush(&mut self.rows);
        for row in &self.rows {
            each(row.end_us.max(self.last_us), std::slice::from_ref(row));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::record::{EndReason, FlowState, Have, Totals};
    use weir_core::role::Direction;

    fn record(n: u64, start_us: u64) -> FlowRecord {
        FlowRecord {
            flow_id: n + 1,
            client: "192.0.2.1".parse().unwrap(),
            server: "10.0.0.1".parse().unwrap(),
            client_port: 40_000 + n as u16,
            server_port: 443,
            proto: 6,
            vlan_outer: 0,
            vlan_inner: 0,
            start_us,
            end_us: start_us + 5_000_000,
            fwd: Totals { packets: 5, bytes: 500, payload: 200 },
            bwd: Totals { packets: 5, bytes: 5_000, payload: 4_000 },
            stats: weir_common::flow::FlowStats::EMPTY,
            state: FlowState::Closed,
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
    fn flows_of_others_give_windows_in_the_order_of_time_and_known_in_time() {
        let t0 = 1_700_000_000_000_000;
        let mut windows = Windows::new(10 * SECOND_US);
        // Two windows, an hour between them; the later file first.
        for n in [3, 4, 0, 1, 2] {
            let at = if n < 3 { n * SECOND_US } else { 3_600 * SECOND_US + n };
            windows.told(&record(n, t0 + at));
        }
        let mut got = Vec::new();
        windows.end(&mut |now, rows| {
            got.extend(rows.iter().map(|r| (now - t0, r.start_us - t0, r.summary.flows, r.summary.unanswered)));
        });
        let hour = 3_600 * SECOND_US;
        assert_eq!(got, [(11 * SECOND_US, 0, 3, 0), (hour + 10 * SECOND_US, hour, 2, 0)]);
    }
}
