//! Which of an epoch's strange rows get reasons: explaining takes a run of both models, and a flood has more rows than time.
//!
//! What a person reads is an alert, which shows the strangest observation of its source. So each source's strangest flow and window
//! come first, those of sources with most against them before the others; the rest follows while there is time.

use weir_core::addr::Addr;
use weir_core::event::Anomaly;
use weir_core::matrix::FeatureMatrix;
use weir_models::{Bundle, ScoreError};

use crate::scoring::{self, ANOMALY_P, Depth};

/// Explanations per epoch.
const MAX_EXPLAINED: usize = 256;
/// Of these, those told what would have made them no anomaly.
const MAX_UNLESS: usize = 32;

/// The rows of one profile, their anomalies in the same order, and whose they are.
pub struct Rows<'a> {
    pub matrix: &'a FeatureMatrix,
    pub anomalies: &'a mut [Anomaly],
    pub sources: &'a dyn Fn(usize) -> Addr,
}

/// A row with a p-value that makes an anomaly.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Strange {
    source: Addr,
    /// Which of the rows' profiles, and which row.
    at: (usize, usize),
    /// What is held against the source and what this row would add, nats.
    weight: f64,
    /// How many of the source's rows in this profile are stranger.
    rank: usize,
}

/// Gives reasons to the anomalies that somebody may read; `against`: the evidence there is against a source, nats.
pub fn explain(bundle: &Bundle, rows: &mut [Rows<'_>], against: impl Fn(Addr) -> f64) -> Result<(), ScoreError> {
    let mut strange = Vec::new();
    for (of, r) in rows.iter().enumerate() {
        let odd = r.anomalies.iter().enumerate().filter(|(_, a)| a.p_value <= ANOMALY_P);
        strange.extend(odd.map(|(row, a)| {
            let source = (r.sources)(row);
            let weight = against(source) - f64::from(a.p_value).ln();
            Strange { source, at: (of, row), weight, rank: 0 }
        }));
    }
    put_in_order(&mut strange);
    for (n, s) in strange.iter().take(MAX_EXPLAINED).enumerate() {
        let r = &mut rows[s.at.0];
        let depth = if n < MAX_UNLESS { Depth::Unless } else { Depth::Reasons };
        scoring::explain(bundle, r.matrix, s.at.1, &mut r.anomalies[s.at.1], (ANOMALY_P, depth))?;
    }
    Ok(())
}

fn put_in_order(strange: &mut [Strange]) {
    // The order of rows decides where nothing else does: the same input gives the same reasons.
    strange.sort_unstable_by(|a, b| {
        (a.source, a.at.0).cmp(&(b.source, b.at.0)).then(b.weight.total_cmp(&a.weight)).then(a.at.cmp(&b.at))
    });
    let mut before = None;
    for s in strange.iter_mut() {
        s.rank = match before {
            Some((whose, rank)) if whose == (s.source, s.at.0) => rank + 1,
            _ => 0,
        };
        before = Some(((s.source, s.at.0), s.rank));
    }
    strange.sort_unstable_by(|a, b| a.rank.cmp(&b.rank).then(b.weight.total_cmp(&a.weight)).then(a.at.cmp(&b.at)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(source: &str, at: (usize, usize), weight: f64) -> Strange {
        Strange { source: source.parse().unwrap(), at, weight, rank: 9 }
    }

    #[test]
    fn the_strangest_of_each_source_comes_before_the_second_of_any() {
        let flood = (0..1000).map(|i| row("192.0.2.1", (0, i), 20.0 + i as f64 / 1e3));
        let mut all: Vec<_> = flood.collect();
        all.push(row("192.0.2.2", (0, 1000), 6.0));
        all.push(row("192.0.2.1", (1, 0), 18.0));
        all.push(row("192.0.2.2", (1, 1), 30.0));
        put_in_order(&mut all);
        let first: Vec<_> = all.iter().map(|s| s.at).take(6).collect();
        assert_eq!(first, [(1, 1), (0, 999), (1, 0), (0, 1000), (0, 998), (0, 997)]);
    }
}
