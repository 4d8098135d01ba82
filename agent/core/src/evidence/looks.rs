//! How surprising a handful of p-values is, given how many were looked at.

/// What is taken off -ln p before anything counts, nats: p-values above 5% say nothing.
pub const SURPRISE_FLOOR: f64 = 3.0;
/// The most that one observation can count, nats. It is reached at p = e^-9 (about 1 in 8,100), so that a larger
/// calibration set does not make a single observation weigh ever more.
pub const SURPRISE_CAP: f64 = 6.0;

/// `max(0, -ln p - 3)`, capped, nats. 0 for what is no number.
pub fn surprise(p: f64) -> f64 {
    // e^-3, rounded up: a logarithm for every ordinary flow would be a good part of what it costs.
    if p.is_nan() || p >= 0.049_788 {
        return 0.0;
    }
    (-p.max(f64::MIN_POSITIVE).ln() - SURPRISE_FLOOR).clamp(0.0, SURPRISE_CAP)
}

const BINS: usize = 24;
const BIN: f64 = SURPRISE_CAP / BINS as f64;

/// P-values of one source in one window: how many, and how many reached each surprise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    looks: u32,
    best: f64,
    bins: [u16; BINS],
}

impl Default for Looks {
    fn default() -> Self {
        Self { looks: 0, best: 0.0, bins: [0; BINS] }
    }
}

fn bin(surprise: f64) -> Option<usize> {
    (surprise > 0.0).then(|| ((surprise / BIN) as usize).min(BINS - 1))
}

impl Looks {
    pub(super) fn add(&mut self, surprise: f64) {
        self.looks = self.looks.saturating_add(1);
        self.raise(surprise);
    }

    /// The same observation again, now with a larger surprise.
    pub(super) fn replace(&mut self, old: f64, new: f64) {
        if let Some(b) = bin(old) {
            self.bins[b] = self.bins[b].saturating_sub(1);
        }
        self.raise(new);
    }

    fn raise(&mut self, surprise: f64) {
        self.best = self.best.max(surprise);
        if let Some(b) = bin(surprise) {
            self.bins[b] = self.bins[b].saturating_add(1);
        }
    }

    /// The surprise of the whole by Simes' inequality: the smallest of `looks / k` times the k-th smallest p-value is
    /// itself a p-value, also for positively dependent ones. One flow in a thousand that is as rare as one in a
    /// thousand counts nothing; a handful of flows that are all that rare count in full. Rounded down by at most a
    /// quarter of a nat beyond the largest.
    pub(super) fn value(&self) -> f64 {
        if self.best <= 0.0 {
            return 0.0;
        }
        let ln_looks = f64::from(self.looks.max(1)).ln();
        let mut top = self.best - ln_looks;
        let mut count = 0u32;
        for b in (0..BINS).rev() {
            count += u32::from(self.bins[b]);
            if count > 1 {
                top = top.max((b as f64 * BIN).min(self.best) + f64::from(count).ln() - ln_looks);
            }
        }
        top.clamp(0.0, self.best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_p_values_say_nothing_and_rare_ones_are_capped() {
        assert_eq!(surprise(1.0), 0.0);
        assert_eq!(surprise(0.06), 0.0);
        assert!((surprise(1e-3) - 3.9078).abs() < 1e-3);
        assert_eq!(surprise(0.0), SURPRISE_CAP);
        assert_eq!(surprise(f64::NAN), 0.0);
    }

    #[test]
    fn one_rare_flow_among_many_counts_nothing_and_many_rare_ones_count_once() {
        let mut one = Looks::default();
        one.add(4.0);
        assert_eq!(one.value(), 4.0);
        (0..100).for_each(|_| one.add(0.0));
        assert_eq!(one.value(), 0.0);
        let mut all = Looks::default();
        (0..100).for_each(|_| all.add(4.0));
        assert_eq!(all.value(), 4.0);
        let mut half = Looks::default();
        (0..100).for_each(|i| half.add(if i % 2 == 0 { 4.0 } else { 0.0 }));
        assert!((half.value() - (4.0 - 2f64.ln())).abs() < 1e-9);
    }
}
