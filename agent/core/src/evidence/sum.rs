//! One decaying sum of one source.

use super::looks::Looks;
use crate::record::TimeUs;

/// Half-life of the fast memory, µs: 10 minutes.
pub const FAST_HALF_LIFE_US: f64 = 600e6;
/// Half-life of the slow memory, µs: 24 hours.
pub const SLOW_HALF_LIFE_US: f64 = 86_400e6;
/// What the slow memory counts for, beside the fast one: who spreads an attack over a day is convicted by twice the
/// evidence that convicts in minutes.
pub const SLOW_WEIGHT: f64 = 0.5;

/// Evidence in windows: entering a window fixes what was before (`fast`, `slow`), and the window adds what it shows
/// less the allowance, never going below zero. What a window shows may still change while it lasts.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum {
    fast: f64,
    slow: f64,
    at_us: TimeUs,
    window: Option<u64>,
    pub(super) flows: Looks,
    /// Surprise of this source's own window rows delivered in this window.
    pub(super) rows: f64,
    /// The last two windows with rows: start, and the largest surprise they gave. Two, because the final row of one may
    /// come after the early row of the next.
    row_best: [Option<(TimeUs, f64)>; 2],
    /// Rows of several addresses, where the source is a prefix.
    pub(super) member_rows: Looks,
    /// Windows before this one and what they showed in all.
    windows: u32,
    shown: f64,
}

impl Sum {
    /// Makes `window` the current one, at `now`.
    pub(super) fn enter(&mut self, now: TimeUs, window: u64, allowance: f64) {
        if self.window == Some(window) {
            return;
        }
        let (fast, slow) = self.parts(now, allowance);
        if self.window.is_some() {
            self.windows = self.windows.saturating_add(1);
            self.shown += self.current();
        }
        (self.fast, self.slow) = (fast, slow);
        self.at_us = now;
        self.window = Some(window);
        self.flows = Looks::default();
        self.member_rows = Looks::default();
        self.rows = 0.0;
    }

    /// A row of this source's own: an early and a final row of one window count as the larger of the two.
    pub(super) fn row(&mut self, start_us: TimeUs, surprise: f64) {
        let mut known = self.row_best.iter_mut().flatten().find(|(start, _)| *start == start_us);
        let before = known.as_ref().map_or(0.0, |(_, best)| *best);
        self.rows += (surprise - before).max(0.0);
        match &mut known {
            Some((_, best)) => *best = best.max(surprise),
            None => self.row_best = [Some((start_us, surprise)), self.row_best[0]],
        }
    }

    /// What the current window shows so far, nats.
    fn current(&self) -> f64 {
        self.flows.value() + self.rows.max(self.member_rows.value())
    }

    fn parts(&self, now: TimeUs, allowance: f64) -> (f64, f64) {
        let net = if self.window.is_some() { self.current() - allowance } else { 0.0 };
        let age = now.saturating_sub(self.at_us) as f64;
        let decayed = |v: f64, half_life: f64| (v + net).max(0.0) * (-age / half_life).exp2();
        (decayed(self.fast, FAST_HALF_LIFE_US), decayed(self.slow, SLOW_HALF_LIFE_US))
    }

    /// Evidence at `now`, nats.
    pub(super) fn level(&self, now: TimeUs, allowance: f64) -> f64 {
        let (fast, slow) = self.parts(now, allowance);
        fast.max(SLOW_WEIGHT * slow)
    }

    /// What a window shows on average, nats, leaning towards 0 while there are few.
    pub(super) fn mean_shown(&self) -> f64 {
        const PRIOR_WINDOWS: f64 = 10.0;
        (self.shown + self.current()) / (f64::from(self.windows) + 1.0 + PRIOR_WINDOWS)
    }
}
