//! The observations that evidence rests on, kept for a while as they were scored: what led to a decision can be shown.
//!
//! Memory: at most [`MAX_SOURCES`] sources with [`MAX_ROWS`] rows each, about 1 KiB per row at the most.

use std::collections::{HashMap, VecDeque};

use weir_core::addr::{Addr, Prefix};
use weir_core::event::Anomaly;
use weir_core::evidence::surprise;
use weir_core::matrix::FeatureMatrix;
use weir_core::record::{FlowRecord, TimeUs};
use weir_core::role::Role;
use weir_core::window::SourceWindow;

/// Sources whose rows are kept; when there are more, the eighth that was heard of longest ago goes.
const MAX_SOURCES: usize = 2048;
/// Rows of a source, of flows and of windows each; the strangest are kept.
pub const MAX_ROWS: usize = 16;
/// Rows are no part of new evidence after this, µs.
const MAX_AGE_US: u64 = 24 * 3_600_000_000;

/// One row as it was scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Exhibit {
    pub time_us: TimeUs,
    pub source: Addr,
    /// Raw features; what is missing is not marked in `present`.
    pub features: Vec<f32>,
    pub present: u64,
    /// As the row named it; [`Anomaly::role`] is whom it was compared with.
    pub role: Role,
    pub anomaly: Anomaly,
    pub what: What,
}

/// What a row is of.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Flow(Box<FlowRecord>),
    Window { start_us: TimeUs, end_us: TimeUs, flows: u64, proven: bool },
}

#[derive(Debug, Default)]
struct Rows {
    flows: VecDeque<Exhibit>,
    windows: VecDeque<Exhibit>,
    last_us: TimeUs,
    /// Rows with evidence that found no room.
    left_out: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Exhibits {
    sources: HashMap<Addr, Rows>,
}

/// The rows about a source, and how many more there were.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    pub rows: Vec<Exhibit>,
    pub left_out: u64,
}

impl Exhibits {
    /// A scored flow that somebody answers for.
    pub fn flow(&mut self, now: TimeUs, record: &FlowRecord, anomaly: &Anomaly, matrix: &FeatureMatrix, row: usize) {
        if tells(anomaly) {
            let what = What::Flow(Box::new(record.clone()));
            self.add(now, record.client, anomaly, matrix, row, what);
        }
    }

    pub fn window(
        &mut self,
        now: TimeUs,
        window: &SourceWindow,
        anomaly: &Anomaly,
        matrix: &FeatureMatrix,
        row: usize,
    ) {
        if tells(anomaly) {
            let what = What::Window {
                start_us: window.start_us,
                end_us: window.end_us,
                flows: window.summary.flows,
                proven: window.role == Role::SourceProven,
            };
            self.add(now, window.source, anomaly, matrix, row, what);
        }
    }

    fn add(&mut self, now: TimeUs, source: Addr, anomaly: &Anomaly, matrix: &FeatureMatrix, row: usize, what: What) {
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            self.make_room();
        }
        let rows = self.sources.entry(source).or_default();
        rows.last_us = now;
        let kept = if matches!(what, What::Flow(_)) { &mut rows.flows } else { &mut rows.windows };
        while kept.front().is_some_and(|e| now.saturating_sub(e.time_us) > MAX_AGE_US) {
            kept.pop_front();
        }
        if kept.len() >= MAX_ROWS {
            rows.left_out += 1;
            let p = |e: &Exhibit| e.anomaly.p_value;
            let Some((dullest, _)) = kept.iter().enumerate().max_by(|a, b| p(a.1).total_cmp(&p(b.1))) else { return };
            if p(&kept[dullest]) <= anomaly.p_value {
                return;
            }
            kept.remove(dullest);
        }
        kept.push_back(Exhibit {
            time_us: now,
            source,
            features: matrix.row(row).to_vec(),
            present: matrix.present(row),
            role: matrix.role(row),
            anomaly: anomaly.clone(),
            what,
        });
    }

    fn make_room(&mut self) {
        let mut by_age: Vec<(TimeUs, Addr)> = self.sources.iter().map(|(a, r)| (r.last_us, *a)).collect();
        by_age.sort_unstable();
        for (_, addr) in &by_age[..MAX_SOURCES / 8] {
            self.sources.remove(addr);
        }
    }

    /// The rows of the sources in a prefix from `since_us` on, in the order of their times.
    pub fn of(&self, within: Prefix, since_us: TimeUs) -> Shown {
        let mut shown = Shown::default();
        let of: Vec<&Rows> = if within.is_host() {
            self.sources.get(&within.addr()).into_iter().collect()
        } else {
            self.sources.iter().filter(|(a, _)| within.contains(**a)).map(|(_, r)| r).collect()
        };
        for rows in of {
            let all = rows.flows.iter().chain(&rows.windows);
            shown.rows.extend(all.filter(|e| e.time_us >= since_us).cloned());
            shown.left_out += rows.left_out;
        }
        shown.rows.sort_by_key(|e| (e.time_us, e.source));
        let most = 4 * MAX_ROWS;
        if shown.rows.len() > most {
            // The latest are what tipped the scales.
            shown.left_out += (shown.rows.len() - most) as u64;
            shown.rows.drain(..shown.rows.len() - most);
        }
        shown
    }

    /// Another model scores: rows of the one before prove nothing by it.
    pub fn clear(&mut self) {
        self.sources.clear();
    }

    pub fn forget(&mut self, source: Addr) {
        self.sources.remove(&source);
    }
}

/// Whether it is evidence at all.
fn tells(anomaly: &Anomaly) -> bool {
    anomaly.actionable && surprise(f64::from(anomaly.p_value)) > 0.0
}
