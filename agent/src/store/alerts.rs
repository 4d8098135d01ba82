//! The last alerts, at hand, whatever the disk does; all that are kept are in the store.

use std::collections::{HashMap, VecDeque};

use weir_core::addr::{Addr, Prefix};
use weir_core::record::TimeUs;

use super::journal::Journal;
use super::rows::Row;
use crate::command::{AlertReport, EvidencePoint};

/// Alerts that are at hand.
pub const MAX_ALERTS: usize = 1000;
/// Points of an alert's course, and the time between two.
const MAX_POINTS: usize = 120;
const POINT_US: u64 = 5_000_000;

/// The alerts of one agent.
#[derive(Debug)]
pub struct Alerts {
    journal: Journal,
    kept: VecDeque<AlertReport>,
    /// The last alert about each source.
    last: HashMap<Addr, u64>,
    /// There may be earlier ones in the store.
    more: bool,
}

impl Alerts {
    /// `latest` as the store has them, the latest first.
    pub fn new(journal: Journal, latest: Vec<AlertReport>) -> Self {
        let mut alerts =
            Self { journal, kept: VecDeque::new(), last: HashMap::new(), more: latest.len() >= MAX_ALERTS };
        latest.into_iter().rev().for_each(|a| alerts.keep(a));
        alerts
    }

    fn keep(&mut self, alert: AlertReport) {
        self.last.insert(alert.source, alert.id);
        self.kept.push_back(alert);
        if self.kept.len() > MAX_ALERTS
            && let Some(old) = self.kept.pop_front()
        {
            self.more = true;
            if self.last.get(&old.source) == Some(&old.id) {
                self.last.remove(&old.source);
            }
        }
    }

    /// Keeps an alert.
    pub fn push(&mut self, alert: AlertReport) {
        self.journal.add(Row::Alert(Box::new(alert.clone())));
        self.keep(alert);
    }

    /// Evidence over all and over proven flows went on for a source that was alerted about.
    pub fn note(&mut self, source: Addr, time_us: TimeUs, [all, proven]: [f64; 2]) {
        let Some(id) = self.last.get(&source) else { return };
        let Some(alert) = self.kept.binary_search_by_key(id, |a| a.id).ok().and_then(|i| self.kept.get_mut(i)) else {
            return;
        };
        let due = alert.history.last().is_none_or(|p| time_us.saturating_sub(p.time_us) >= POINT_US);
        if due && alert.history.len() < MAX_POINTS {
            let point = EvidencePoint { time_us, all, proven };
            alert.history.push(point);
            self.journal.add(Row::Course { alert_id: *id, point });
        }
    }

    pub fn get(&self, id: u64) -> Option<&AlertReport> {
        self.kept.iter().find(|a| a.id == id)
    }

    /// The latest first, as far as they are at hand, and whether the store may have more that are asked for.
    pub fn list(&self, within: Option<Prefix>, since_us: TimeUs, limit: usize) -> (Vec<AlertReport>, bool) {
        let wanted = |a: &&AlertReport| a.time_us >= since_us && within.is_none_or(|p| p.contains(a.source));
        let all: Vec<AlertReport> = self.kept.iter().rev().filter(wanted).take(limit).cloned().collect();
        let earlier = self.more && self.kept.front().is_some_and(|a| a.time_us >= since_us);
        let more = earlier && all.len() < limit;
        (all, more)
    }

    /// Those at hand that are not older, the latest first.
    pub fn since(&self, since_us: TimeUs) -> impl Iterator<Item = &AlertReport> {
        self.kept.iter().rev().take_while(move |a| a.time_us >= since_us)
    }

    /// Whether the store may have an alert of this number.
    pub fn may_be_stored(&self, id: u64) -> bool {
        self.more && self.kept.front().is_some_and(|a| id < a.id)
    }

    /// The first and the last number that are at hand.
    pub fn numbers(&self) -> Option<(u64, u64)> {
        Some((self.kept.front()?.id, self.kept.back()?.id))
    }
}
