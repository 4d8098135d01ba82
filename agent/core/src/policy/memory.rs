//! What the policy remembers of whom, within bounds.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use crate::addr::{Addr, Prefix};
use crate::decision::Target;
use crate::event::Severity;
use crate::evidence::NET6_LEN;
use crate::record::TimeUs;

/// Sources whose last alert is remembered.
pub const MAX_ALERTED: usize = 65_536;
/// Targets whose earlier decisions are remembered.
pub const MAX_REPEATERS: usize = 65_536;
/// Of one target, so many decisions.
const MAX_TIMES: usize = 16;

#[derive(Clone, Copy)]
pub(super) struct Alerted {
    pub at_us: TimeUs,
    pub severity: Severity,
    /// `None`: nobody was to be told.
    pub id: Option<u64>,
}

/// Whom people were alerted about. At most [`MAX_ALERTED`].
#[derive(Default)]
pub(super) struct AlertedSources(BTreeMap<Addr, Alerted>);

impl AlertedSources {
    pub fn get(&self, subject: Addr) -> Option<Alerted> {
        self.0.get(&subject).copied()
    }

    pub fn remember(&mut self, subject: Addr, alerted: Alerted) {
        if self.0.len() >= MAX_ALERTED && !self.0.contains_key(&subject) {
            // All of them recent: the least severe, oldest goes. It may be alerted about again too soon.
            let least = self.0.iter().min_by_key(|(a, x)| (x.severity, x.at_us, **a)).map(|(a, _)| *a);
            if let Some(least) = least {
                self.0.remove(&least);
            }
        }
        self.0.insert(subject, alerted);
    }

    /// Forgets the addresses of a prefix, and the /64 around it.
    pub fn forget(&mut self, within: Prefix) {
        let around = Prefix::new(within.addr(), NET6_LEN);
        self.0.retain(|a, _| !within.contains(*a) && Prefix::new(*a, NET6_LEN) != around);
    }

    /// The wall clock was set by `step_us`, µs.
    pub fn clock_stepped(&mut self, step_us: i64) {
        self.0.values_mut().for_each(|a| a.at_us = a.at_us.saturating_add_signed(step_us));
    }

    /// Forgets what is older than `age_us`, once there are many.
    pub fn forget_old(&mut self, now: TimeUs, age_us: u64) {
        if self.0.len() >= MAX_ALERTED {
            self.0.retain(|_, a| a.at_us.saturating_add(age_us) > now);
        }
    }

    /// Whether at least `n` addresses of a network, but those in `but`, were alerted about in the last `age_us` as severely as that.
    pub fn several(&self, net: Prefix, but: Prefix, n: usize, at_least: Severity, now: TimeUs, age_us: u64) -> bool {
        let from = (Bound::Included(net.addr()), Bound::Unbounded);
        let inside = self.0.range(from).take_while(|(a, _)| net.contains(**a));
        let counts = |(a, x): &(&Addr, &Alerted)| {
            !but.contains(**a) && x.severity >= at_least && x.at_us.saturating_add(age_us) > now
        };
        inside.filter(counts).take(n).count() >= n
    }
}

/// Earlier decisions by target; those on proven evidence apart, or forged traffic would make honest people repeat
/// offenders. At most [`MAX_REPEATERS`].
#[derive(Default)]
pub(super) struct Repeaters {
    times: HashMap<(Target, bool), VecDeque<TimeUs>>,
    /// In the order in which they came first.
    order: VecDeque<(Target, bool)>,
}

impl Repeaters {
    /// How often something was decided about a target in the last `within_us`.
    pub fn earlier(&self, target: Target, proven: bool, now: TimeUs, within_us: u64) -> usize {
        let times = self.times.get(&(target, proven));
        times.map_or(0, |t| t.iter().filter(|at| at.saturating_add(within_us) > now).count())
    }

    /// The wall clock was set by `step_us`, µs.
    pub fn clock_stepped(&mut self, step_us: i64) {
        self.times.values_mut().flatten().for_each(|at| *at = at.saturating_add_signed(step_us));
    }

    pub fn add(&mut self, target: Target, proven: bool, now: TimeUs) {
        let key = (target, proven);
        let times = self.times.entry(key).or_insert_with(|| {
            self.order.push_back(key);
            VecDeque::new()
        });
        if times.len() >= MAX_TIMES {
            times.pop_front();
        }
        times.push_back(now);
        if self.times.len() > MAX_REPEATERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.times.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{S, addr, prefix};

    #[test]
    fn memory_of_sources_and_targets_stays_bounded() {
        let mut alerted = AlertedSources::default();
        let mut repeaters = Repeaters::default();
        for i in 0..70_000u32 {
            let a = Addr::from(std::net::IpAddr::from(i.to_be_bytes()));
            if i < 66_000 && i > 64_000 || i < 100 {
                alerted.remember(a, Alerted { at_us: u64::from(i), severity: Severity::Low, id: Some(1) });
            }
            repeaters.add(Target::Net(Prefix::host(a)), true, u64::from(i));
        }
        assert!(alerted.0.len() <= MAX_ALERTED);
        assert_eq!((repeaters.times.len(), repeaters.order.len()), (MAX_REPEATERS, MAX_REPEATERS));
    }

    #[test]
    fn several_are_others_of_the_network_and_recent() {
        let mut alerted = AlertedSources::default();
        let mut tell = |a: &str, at_us, severity| alerted.remember(addr(a), Alerted { at_us, severity, id: Some(1) });
        tell("203.0.113.5", 100 * S, Severity::High);
        tell("203.0.113.200", 100 * S, Severity::Low);
        tell("203.0.114.1", 100 * S, Severity::High);
        let net = prefix("203.0.113.0/24");
        let several = |but: &str, n, s, now| alerted.several(net, prefix(but), n, s, now, 60 * S);
        assert!(several("203.0.113.9", 1, Severity::High, 110 * S));
        assert!(
            several("203.0.113.9", 2, Severity::Low, 110 * S) && !several("203.0.113.9", 3, Severity::Low, 110 * S)
        );
        assert!(!several("203.0.113.5", 1, Severity::High, 110 * S), "itself does not count");
        assert!(!several("203.0.113.9", 1, Severity::High, 170 * S), "an hour later it is over");
    }
}
