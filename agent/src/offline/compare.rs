//! Two bundles over what is read: epochs of packets as they come, flows that others counted in the order of their ends.

use std::collections::BTreeMap;

use weir_core::record::{FlowRecord, Have, TimeUs};
use weir_core::table::Touched;
use weir_core::window::SourceWindow;
use weir_source::label::{Verdict, verdict};
use weir_source::{Observation, Stop, Taker};

use super::windows::Windows;
use crate::compare::{Comparison, Epoch};
use crate::learn::sample_of;
use crate::pipeline::scorable;

const SECOND_US: u64 = 1_000_000;
/// Records of others that wait to be put in order; of more, whole blocks of sources are left out at random.
const MAX_TOLD: usize = 400_000;
/// Records without a time that are scored at once.
const BATCH: usize = 1024;

/// Takes what is read.
pub struct Over {
    comparison: Comparison,
    window_us: u64,
    windows: Windows,
    /// The epoch of packets that is being read.
    open: Epoch,
    packets: bool,
    told: Vec<(FlowRecord, bool)>,
    thinning: u64,
    /// Flows without a time: no source can answer for them, but they have p-values.
    timeless: Epoch,
    /// Flows that cannot be scored.
    pub unscored: u64,
    failed: Option<String>,
}

impl Over {
    pub fn new(comparison: Comparison, window_us: u64) -> Self {
        Self {
            comparison,
            window_us,
            windows: Windows::new(window_us),
            open: Epoch::default(),
            packets: false,
            told: Vec::new(),
            thinning: 1,
            timeless: Epoch::default(),
            unscored: 0,
            failed: None,
        }
    }

    /// Everything was read: the comparison, and one block of a source in how many it has of flows that others counted.
    pub fn close(mut self) -> anyhow::Result<(Comparison, u64)> {
        self.flush_timeless();
        let told = std::mem::take(&mut self.told);
        let mut epochs: BTreeMap<TimeUs, Epoch> = BTreeMap::new();
        let mut windows = std::mem::replace(&mut self.windows, Windows::new(self.window_us));
        for (record, attack) in told {
            windows.told(&record);
            let now = (record.end_us / SECOND_US + 1) * SECOND_US;
            let epoch = epochs.entry(now).or_default();
            epoch.records.push(record);
            epoch.attacks.push(attack);
        }
        windows.end(&mut |now, rows| epochs.entry(now).or_default().rows.extend_from_slice(rows));
        for (now, epoch) in epochs {
            self.compare(Epoch { now, ..epoch });
        }
        match self.failed {
            Some(why) => anyhow::bail!(why),
            None => Ok((self.comparison, self.thinning)),
        }
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
        let mut r = flow.record;
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
        let window_us = self.window_us;
        let kept = move |r: &FlowRecord, thinning| sample_of(r.client, r.start_us, window_us).is_multiple_of(thinning);
        if kept(&r, self.thinning) {
            self.told.push((r, attack));
        }
        if self.told.len() > MAX_TOLD {
            self.thinning *= 2;
            let thinning = self.thinning;
            self.told.retain(|(r, _)| kept(r, thinning));
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
