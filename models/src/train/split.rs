//! Dealing rows out to the parts of training.

use std::collections::BTreeMap;

use super::RowInfo;
use crate::rng::Rng;

/// What a row is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The models' weights and the normaliser.
    Fit,
    /// When to stop, and the benign error variance.
    EarlyStop,
    /// The detectors' p-values.
    Calibration1,
    /// The fused p-value.
    Calibration2,
}

impl Part {
    /// Every part with its share of the rows.
    pub(crate) const SHARES: [(Part, f64); 4] =
        [(Part::Fit, 0.5), (Part::EarlyStop, 0.1), (Part::Calibration1, 0.2), (Part::Calibration2, 0.2)];
}

/// The part of each row. Rows of one source in one block of time stay together; blocks follow each other through the parts, so that
/// all see the same mix of times and sources. Rows of which neither is known are dealt out one by one behind the blocks.
pub(crate) fn split(rows: &[Option<RowInfo>], first_us: u64, block_us: u64, rng: &mut Rng) -> Vec<Part> {
    let mut blocks: BTreeMap<u64, BTreeMap<u64, Vec<usize>>> = BTreeMap::new();
    for (i, r) in rows.iter().enumerate() {
        let (block, group) = match r {
            Some(r) => (r.time_us.saturating_sub(first_us) / block_us.max(1), r.group),
            None => (u64::MAX, i as u64),
        };
        blocks.entry(block).or_default().entry(group).or_default().push(i);
    }
    let mut parts = vec![Part::Fit; rows.len()];
    let mut have = [0.0f64; 4];
    let mut dealt = 0.0;
    for cells in blocks.into_values() {
        let mut cells: Vec<Vec<usize>> = cells.into_values().collect();
        // In a fixed order, a source could meet the same part in every block.
        rng.shuffle(&mut cells);
        for cell in cells {
            dealt += cell.len() as f64;
            // To whoever lacks most of its share.
            let lacks = |k: usize| Part::SHARES[k].1 * dealt - have[k];
            let to = (0..4).max_by(|a, b| lacks(*a).total_cmp(&lacks(*b)).then(b.cmp(a))).unwrap_or(0);
            have[to] += cell.len() as f64;
            for i in cell {
                parts[i] = Part::SHARES[to].0;
            }
        }
    }
    parts
}

/// Length of a block: fine enough for a hundred blocks or more, at least a source window, at most ten minutes.
pub(crate) fn block_length(span_us: u64, window_us: u64) -> u64 {
    (span_us / 200).clamp(window_us.max(1), 600_000_000.max(window_us))
}
