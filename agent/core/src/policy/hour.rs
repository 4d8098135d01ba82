//! What happened within the last hour.

use std::collections::VecDeque;

use super::HOUR_US;
use crate::record::TimeUs;

/// Times of the last hour; as many as the policy's caps let in.
#[derive(Default)]
pub(super) struct Hour(VecDeque<TimeUs>);

impl Hour {
    pub fn add(&mut self, now: TimeUs) {
        self.0.push_back(now);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The wall clock was set by `step_us`, µs.
    pub fn clock_stepped(&mut self, step_us: i64) {
        self.0.iter_mut().for_each(|at| *at = at.saturating_add_signed(step_us));
    }

    pub fn forget_old(&mut self, now: TimeUs) {
        while self.0.front().is_some_and(|t| t.saturating_add(HOUR_US) <= now) {
            self.0.pop_front();
        }
    }
}
