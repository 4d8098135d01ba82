//! What goes on right now, for those who look: rates second by second and a sample of scores.
//!
//! The event loop puts one point of each second in here and never waits for a reader; readers copy what they want. Memory is
//! bounded: [`SECONDS`] points of traffic and twice [`SCORES`] scores.

pub mod gauge;
pub mod search;

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use weir_core::addr::Addr;
use weir_core::record::TimeUs;

use crate::proto::TrafficPoint;

/// Points of traffic that are kept, one a second.
pub const SECONDS: usize = 300;
/// Scores that are kept of strange flows, and as many of others.
pub const SCORES: usize = 2000;

/// A flow that was scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    pub time_us: TimeUs,
    pub p_value: f32,
    pub source: Addr,
    pub server: Addr,
    pub port: u16,
    pub proto: u8,
    pub actionable: bool,
    pub flow_id: u64,
}

#[derive(Debug)]
pub struct Live {
    rings: Mutex<Rings>,
    /// The time of the last point; its sender is here.
    last: watch::Sender<TimeUs>,
}

#[derive(Debug, Default)]
struct Rings {
    traffic: VecDeque<TrafficPoint>,
    /// Strange ones and others, each by time.
    scores: [VecDeque<Score>; 2],
}

impl Default for Live {
    fn default() -> Self {
        Self { rings: Mutex::default(), last: watch::Sender::new(0) }
    }
}

impl Live {
    /// Takes the point of a second with a sample of its scores, strange ones first and the others second.
    pub fn second(&self, point: TrafficPoint, scores: [Vec<Score>; 2]) {
        {
            let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
            push(&mut rings.traffic, SECONDS, [point]);
            for (ring, new) in rings.scores.iter_mut().zip(scores) {
                push(ring, SCORES, new);
            }
        }
        self.last.send_replace(point.time_us);
    }

    /// Tells of each second's point, by its time.
    pub fn seconds(&self) -> watch::Receiver<TimeUs> {
        self.last.subscribe()
    }

    /// Points after `since_us`, the oldest first.
    pub fn traffic(&self, since_us: TimeUs) -> Vec<TrafficPoint> {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        rings.traffic.iter().filter(|p| p.time_us > since_us).copied().collect()
    }

    /// Scores after `since_us`, the latest `limit` of them, the oldest first.
    pub fn scores(&self, since_us: TimeUs, limit: usize) -> Vec<Score> {
        let mut all: Vec<Score> = {
            let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
            rings.scores.iter().flatten().filter(|s| s.time_us > since_us).copied().collect()
        };
        all.sort_by_key(|s| s.time_us);
        all.split_off(all.len().saturating_sub(limit))
    }
}

fn push<T>(ring: &mut VecDeque<T>, max: usize, new: impl IntoIterator<Item = T>) {
    for one in new {
        if ring.len() == max {
            ring.pop_front();
        }
        ring.push_back(one);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn score(time_us: TimeUs, p_value: f32) -> Score {
        let (source, server) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        Score { time_us, p_value, source, server, port: 22, proto: 6, actionable: true, flow_id: time_us }
    }

    #[test]
    fn the_last_minutes_are_kept_and_strange_scores_are_not_washed_out_by_others() {
        let live = Live::default();
        let mut seconds = live.seconds();
        for t in 1..=5000 {
            let strange = if t % 100 == 0 { vec![score(t, 0.001)] } else { Vec::new() };
            live.second(TrafficPoint { time_us: t, ..Default::default() }, [strange, vec![score(t, 0.5)]]);
        }
        let traffic = live.traffic(0);
        assert_eq!((traffic.len(), traffic[0].time_us, live.traffic(4990).len()), (SECONDS, 4701, 10));
        let all = live.scores(0, usize::MAX);
        assert_eq!(all.iter().filter(|s| s.p_value < 0.01).count(), 50, "none of them is gone");
        assert!(all.len() == SCORES + 50 && all.is_sorted_by_key(|s| s.time_us));
        assert_eq!(live.scores(0, 3).iter().map(|s| s.time_us).collect::<Vec<_>>(), [4999, 5000, 5000]);
        assert_eq!(*seconds.borrow_and_update(), 5000);
    }
}
