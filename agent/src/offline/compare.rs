//! Two bundles over what is read: epochs of packets as they come, flows that others counted in the order of time, as
//! [`super::decide`] has them.

use std::sync::Arc;

use weir_core::record::{Have, TimeUs};
use weir_core::table::Touched;
use weir_core::window::SourceWindow;
use weir_source::label::{Verdict, verdict};
use weir_source::{Observation, Stop, Taker};

use super::decide::told::Waiting;
use super::windows::Windows;
use crate::compare::{Comparison, Epoch};
use crate::pipeline::scorable;

/// Records without a time that are scored at once.
const BATCH: usize = 1024;

/// Takes what is read.
pub struct Over {
    comparison: Comparison,
    windows: Windows,
    /// Of flows that others counted.
    told_windows: Windows,
    waiting: Waiting,
    /// The epoch of packets that is being read.
    open: Epoch,
    packets: bool,
    /// Flows without a time: no source can answer for them, but they have p-values.
    timeless: Epoch,
    /// Flows that cannot be scored.
    pub unscored: u64,
    /// Flows told of after their time was over: they count when they come.
    pub late: u64,
    failed: Option<String>,
}

impl Over {
    pub fn new(comparison: Comparison, window_us: u64) -> Self {
        Self {
            comparison,
            windows: Windows::new(window_us),
            told_windows: Windows::new(window_us),
            waiting: Waiting::default(),
            open: Epoch::default(),
            packets: false,
            timeless: Epoch::default(),
            unscored: 0,
            late: 0,
            failed: None,
        }
    }

    /// Everything was read.
    pub fn close(mut self) -> anyhow::Result<Comparison> {
        self.flush_timeless();
        self.hand_on(TimeUs::MAX);
        let mut rows = Vec::new();
        self.told_windows.end_of_input(&mut |now, r| rows.push((now, r.to_vec())));
        for (now, rows) in rows {
            self.compare(Epoch { now, rows, ..Epoch::default() });
        }
        match self.failed {
            Some(why) => anyhow::bail!(why),
            None => Ok(self.comparison),
        }
    }

    /// Compares the flows that others counted up to a time.
    fn hand_on(&mut self, until_us: TimeUs) {
        for turn in self.waiting.until(until_us) {
            // Nothing is stopped here: both sides see everything.
            let step = self.waiting.take(&turn, |_, _| false);
            let attack = |label: Option<&Arc<str>>| verdict(label.map(|l| &**l)) == Verdict::Attack;
            let touched: Vec<Touched> = step.begun.into_iter().map(|(t, _)| t).collect();
            let mut rows = Vec::new();
            self.told_windows.epoch(turn.second_us, &touched, &mut |now, r| rows.push((now, r.to_vec())));
            let (mut epoch, mut earlier) = (Epoch { now: turn.second_us, ..Epoch::default() }, Vec::new());
            for (now, more) in rows {
                if now == epoch.now { epoch.rows.extend(more) } else { earlier.push((now, more)) }
            }
            for (now, rows) in earlier {
                self.compare(Epoch { now, rows, ..Epoch::default() });
            }
            for (record, label) in step.ended {
                epoch.attacks.push(attack(label.as_ref()));
                epoch.records.push(record);
            }
            self.compare(epoch);
        }
        self.waiting.clear();
    }

    fn compare(&mut self, epoch: Epoch) {
        if self.failed.is_none() {
            self.failed = self.comparison.epoch(epoch).err();
        }
    }

    fn flush_timeless(&mut self) {
        let epoch = std::mem::take(&mut self.timeless);
        if !epoch.records.is_empty() {
            self.compare(epoch);
        }
    }

    /// The epoch of packets is over.
    fn flush_open(&mut self) {
        let epoch = std::mem::take(&mut self.open);
        if epoch.now > 0 {
            self.compare(epoch);
        }
    }

    /// Rows that were known before the epoch that is open come first.
    fn rows(&mut self, rows: Vec<(TimeUs, Vec<SourceWindow>)>) {
        for (now, rows) in rows {
            if now == self.open.now {
                self.open.rows.extend(rows);
            } else {
                self.compare(Epoch { now, rows, ..Epoch::default() });
            }
        }
    }
}

impl Taker for Over {
    fn record(&mut self, flow: Observation) -> Result<(), Stop> {
        if self.failed.is_some() {
            return Err(Stop);
        }
        let attack = verdict(flow.label.as_deref()) == Verdict::Attack;
        let mut r = flow.record.clone();
        if !scorable(&r) {
            self.unscored += 1;
            return Ok(());
        }
        if self.packets {
            self.open.records.push(r);
            self.open.attacks.push(attack);
            return Ok(());
        }
        if !r.have.has(Have::TIME) {
            r.have = r.have.without(Have::SIDES);
            self.timeless.records.push(r);
            self.timeless.attacks.push(attack);
            if self.timeless.records.len() >= BATCH {
                self.flush_timeless();
            }
            return Ok(());
        }
        self.late += u64::from(self.waiting.is_late(&r));
        if self.waiting.push(Observation { record: r, ..flow }) {
            let until = self.waiting.middle();
            self.hand_on(until);
        }
        Ok(())
    }

    fn epoch(&mut self, end_us: u64, touched: &[Touched]) {
        self.flush_open();
        self.packets = true;
        self.open.now = end_us;
        let mut rows = Vec::new();
        self.windows.epoch(end_us, touched, &mut |now, r| rows.push((now, r.to_vec())));
        self.rows(rows);
    }

    fn end(&mut self) {
        self.flush_open();
        self.packets = false;
        let mut rows = Vec::new();
        self.windows.end_of_input(&mut |now, r| rows.push((now, r.to_vec())));
        self.rows(rows);
    }
}
