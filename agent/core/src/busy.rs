//! Which sources carry a good part of what is normal here: a proxy, a NAT, a crawler one wants.
//!
//! Two things tell: the proven flows of the last hour or so that turned out benign, and those that the bundle in service was
//! made of ([`carriers`]). The first follow what changes; the second hold from an agent's first moment on, and where somebody
//! who carries much falls silent for a while.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::addr::{Addr, Prefix};
use crate::policy::rule::NET_LENS;
use crate::record::TimeUs;

/// How long a proven flow waits before it counts as benign, µs: 5 minutes. It counts only if its source has no
/// evidence against it by then, so that an attack cannot make itself indispensable.
pub const DELAY_US: u64 = 300_000_000;
/// Half-life of what counts as recent, µs: 1 hour.
pub const RECENT_HALF_LIFE_US: u64 = 3_600_000_000;
/// Flows a source must have among the recent benign ones before a share means anything.
pub const MIN_FLOWS: f64 = 50.0;
/// Sources that are counted apart; more than 20 of them cannot have over 5%.
pub const MAX_SOURCES: usize = 4096;
/// The smallest share of a baseline that is remembered, 0 to 1.
pub const MIN_CARRIED: f64 = 0.01;
/// So many can have that share: hosts, and as many networks.
pub const MAX_CARRIERS: usize = 200;
/// Span that waiting flows are gathered over, µs.
const SPAN_US: u64 = 10_000_000;

/// A host, or a network of several (a /24, an IPv6 /64), and its share of the proven flows of a baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carrier {
    pub net: Prefix,
    /// 0 to 1.
    pub share: f64,
}

/// Who carried at least [`MIN_CARRIED`] of a baseline, and [`MIN_FLOWS`] flows, in descending order of share: hosts, and networks
/// of which several hosts had a part. `clients`: of its proven flows, one per flow. At most [`MAX_CARRIERS`].
pub fn carriers(clients: impl IntoIterator<Item = Addr>) -> Vec<Carrier> {
    let mut hosts: BTreeMap<Addr, u64> = BTreeMap::new();
    clients.into_iter().for_each(|c| *hosts.entry(c).or_default() += 1);
    let total = hosts.values().sum::<u64>() as f64;
    let mut nets: BTreeMap<Prefix, (u64, usize)> = BTreeMap::new();
    for (host, n) in &hosts {
        let (flows, members) = nets.entry(net_of(*host)).or_default();
        *flows += n;
        *members += 1;
    }
    let hosts = hosts.into_iter().map(|(host, n)| (Prefix::host(host), n));
    let nets = nets.into_iter().filter(|(_, (_, members))| *members > 1).map(|(net, (n, _))| (net, n));
    let mut all: Vec<Carrier> = hosts
        .chain(nets)
        .filter(|(_, n)| *n as f64 >= MIN_FLOWS)
        .map(|(net, n)| Carrier { net, share: n as f64 / total })
        .filter(|c| c.share >= MIN_CARRIED)
        .collect();
    all.sort_by(|a, b| b.share.total_cmp(&a.share).then(a.net.cmp(&b.net)));
    all
}

/// The network around a host that rules are about where they name no other.
fn net_of(host: Addr) -> Prefix {
    let (v4, v6) = NET_LENS;
    Prefix::new(host, if host.is_v4() { v4 } else { v6 })
}

/// Share of a baseline that lies in `net`.
fn carried(carriers: &[Carrier], net: Prefix) -> f64 {
    let whole = |c: &Carrier| c.net.len() >= net.len() && net.contains(c.net.addr());
    // A network that is counted as one holds the hosts that are counted beside it, and more.
    let around = |o: &Carrier, c: &Carrier| o.net.len() < c.net.len() && o.net.contains(c.net.addr());
    let within = |c: &Carrier| whole(c) && !carriers.iter().any(|o| whole(o) && around(o, c));
    carriers.iter().filter(|c| within(c)).map(|c| c.share).sum::<f64>().min(1.0)
}

#[derive(Debug, Default)]
struct Waiting {
    span: u64,
    sources: HashMap<Addr, u64>,
    /// Flows of sources beyond the cap: they count in the total alone.
    others: u64,
}

/// Recent benign proven flows per source, and who carried the baseline. At most [`MAX_SOURCES`] sources per 10 s of waiting
/// flows, and as many that are counted.
#[derive(Debug, Default)]
pub struct Busy {
    carriers: Vec<Carrier>,
    waiting: VecDeque<Waiting>,
    counted: HashMap<Addr, f64>,
    total: f64,
    at_us: TimeUs,
}

impl Busy {
    pub fn new() -> Self {
        Self::default()
    }

    /// Who carried the baseline of the bundle in service.
    pub fn set_carriers(&mut self, carriers: Vec<Carrier>) {
        self.carriers = carriers;
    }

    /// A proven flow of `source` gave its last record at `now`.
    pub fn add(&mut self, now: TimeUs, source: Addr) {
        let span = now / SPAN_US;
        if self.waiting.back().is_none_or(|w| w.span < span) {
            self.waiting.push_back(Waiting { span, ..Waiting::default() });
        }
        let Some(w) = self.waiting.back_mut() else { return };
        if w.sources.len() >= MAX_SOURCES && !w.sources.contains_key(&source) {
            w.others += 1;
        } else {
            *w.sources.entry(source).or_default() += 1;
        }
    }

    /// Counts the flows that have waited long enough, but those of sources that `suspicious` says have evidence against
    /// them. (Ask for the proven sum: forged traffic must not make an honest source lose its standing.)
    pub fn advance(&mut self, now: TimeUs, mut suspicious: impl FnMut(Addr) -> bool) {
        let age = now.saturating_sub(self.at_us);
        if age >= SPAN_US {
            let keep = (-(age as f64) / RECENT_HALF_LIFE_US as f64).exp2();
            self.total *= keep;
            self.counted.values_mut().for_each(|n| *n *= keep);
            self.counted.retain(|_, n| *n >= 0.5);
            self.at_us = now;
        }
        while self.waiting.front().is_some_and(|w| (w.span + 1) * SPAN_US + DELAY_US <= now) {
            let Some(w) = self.waiting.pop_front() else { break };
            self.total += w.others as f64;
            for (source, n) in w.sources {
                if !suspicious(source) {
                    self.total += n as f64;
                    *self.counted.entry(source).or_default() += n as f64;
                }
            }
        }
        if self.counted.len() > MAX_SOURCES {
            let mut counts: Vec<f64> = self.counted.values().copied().collect();
            counts.sort_unstable_by(f64::total_cmp);
            // Half of them at once, so that the sort is paid rarely; ties go together.
            let least = counts[counts.len() / 2];
            self.counted.retain(|_, n| *n > least);
        }
    }

    /// No flow waits to be counted.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Share of `source` in the recent benign proven flows, or in those of the baseline, whichever is larger, 0 to 1; 0 for one
    /// with fewer than [`MIN_FLOWS`] of them.
    pub fn share(&self, source: Addr) -> f64 {
        self.share_within(Prefix::host(source))
    }

    /// The same of all sources in a network: of those with fewer than [`MIN_FLOWS`] flows together, 0.
    pub fn share_within(&self, net: Prefix) -> f64 {
        let n: f64 = if net.is_host() {
            self.counted.get(&net.addr()).copied().unwrap_or_default()
        } else {
            self.counted.iter().filter(|(a, _)| net.contains(**a)).map(|(_, n)| n).sum()
        };
        let recent = if n >= MIN_FLOWS && self.total > 0.0 { (n / self.total).min(1.0) } else { 0.0 };
        recent.max(carried(&self.carriers, net))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    fn a(i: u8) -> Addr {
        format!("192.0.2.{i}").parse().unwrap()
    }

    #[test]
    fn a_source_becomes_busy_only_after_the_delay() {
        let mut busy = Busy::new();
        for s in 0..100 {
            busy.add(s * S, a(1));
            busy.add(s * S, a(2));
        }
        busy.advance(100 * S, |_| false);
        assert_eq!(busy.share(a(1)), 0.0);
        busy.advance(500 * S, |_| false);
        assert!((busy.share(a(1)) - 0.5).abs() < 1e-9);
        assert_eq!(busy.share(a(3)), 0.0);
    }

    #[test]
    fn a_flood_cannot_make_itself_busy() {
        let mut busy = Busy::new();
        for s in 0..100 {
            busy.add(s * S, a(1));
            (0..100).for_each(|_| busy.add(s * S, a(66)));
        }
        busy.advance(500 * S, |s| s == a(66));
        assert_eq!(busy.share(a(66)), 0.0);
        assert_eq!(busy.share(a(1)), 1.0);
    }

    #[test]
    fn a_few_flows_on_a_quiet_network_are_no_standing() {
        let mut busy = Busy::new();
        (0..20).for_each(|s| busy.add(s * S, a(66)));
        busy.advance(500 * S, |_| false);
        assert_eq!(busy.share(a(66)), 0.0);
    }

    #[test]
    fn memory_stays_bounded() {
        let mut busy = Busy::new();
        for i in 0..50_000u32 {
            busy.add(0, Addr(u128::from(i).to_be_bytes()));
        }
        busy.advance(1000 * S, |_| false);
        assert!(busy.counted.len() <= MAX_SOURCES);
        assert_eq!(busy.total, 50_000.0);
    }

    #[test]
    fn who_carried_the_baseline_is_busy_from_the_first_moment_on() {
        let clients = |net: &str, hosts: u64, each: u64| {
            let base: Addr = net.parse().unwrap();
            let host = move |i| Addr((u128::from_be_bytes(base.0) + u128::from(i)).to_be_bytes());
            (1..=hosts).flat_map(move |i| (0..each).map(move |_| host(i)))
        };
        let proxy = clients("203.0.113.0", 1, 300);
        let campus = clients("2001:db8:77:c::", 16, 20);
        let others = (0..38).flat_map(|i| clients(&format!("198.51.{i}.0"), 1, 10));
        let found = carriers(proxy.chain(campus).chain(others));
        let named: Vec<String> = found.iter().map(|c| format!("{} {:.2}", c.net, c.share)).collect();
        assert_eq!(named, ["2001:db8:77:c::/64 0.32", "203.0.113.1 0.30"], "of the small ones, nobody is named");

        let mut busy = Busy::new();
        busy.set_carriers(found);
        let share = |busy: &Busy, net: &str| (100.0 * busy.share_within(net.parse().unwrap())).round();
        assert_eq!(share(&busy, "2001:db8:77:c::/64"), 32.0);
        assert_eq!(share(&busy, "2001:db8:77::/48"), 32.0, "a network around it");
        assert_eq!(share(&busy, "2001:db8:77:c::5"), 0.0, "one of its hosts is not the network");
        assert_eq!(share(&busy, "203.0.113.1"), 30.0);
        assert_eq!(share(&busy, "203.0.113.0/28"), 30.0);
        assert_eq!(share(&busy, "203.0.113.2"), 0.0);
        // What is seen counts as well, and whichever is more.
        (0..100).for_each(|_| busy.add(0, "203.0.113.2".parse().unwrap()));
        busy.advance(500 * S, |_| false);
        assert_eq!((share(&busy, "203.0.113.2"), share(&busy, "203.0.113.1")), (100.0, 30.0));
    }

    #[test]
    fn a_share_of_a_baseline_counts_once_where_a_host_and_its_network_are_named() {
        let many = |host: &str, n: usize| std::iter::repeat_n(host.parse::<Addr>().unwrap(), n);
        let found = carriers(many("192.0.2.1", 100).chain(many("192.0.2.2", 100)).chain(many("198.51.100.1", 200)));
        assert_eq!(found.len(), 4, "{found:?}");
        for (net, share) in [("192.0.2.0/24", 0.5), ("192.0.2.1", 0.25), ("192.0.0.0/16", 0.5), ("192.0.2.0/30", 0.5)] {
            assert_eq!(carried(&found, net.parse().unwrap()), share, "{net}");
        }
        assert!(carriers(many("192.0.2.1", 49)).is_empty(), "a few flows on a quiet network are no standing");
        assert!(carriers([]).is_empty());
    }
}
