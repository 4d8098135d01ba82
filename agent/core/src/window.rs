//! Source windows: what each source began within a span of wall time, as it stands at the span's end.
//!
//! A source is the client of flows. Each active one gives up to two rows per window: over all its flows, and over its
//! proven flows alone. Anyone can forge the former in someone else's name; nobody can forge the latter.
//!
//! An IPv6 /64 of which several addresses were active is one source more, where none of them began more than half of the
//! flows: a client may have as many addresses as connections. Its rows bear the address that stands for it
//! ([`Addr::net6`]); they are given at the window's end only.
//!
//! Memory is bounded. Per source, role and window at most [`WindowCaps::flows_per_source`] flows are followed; of more,
//! an unbiased sample of that size (the flows whose mixed identifier is smallest), so that nobody hides by being early
//! or late. The number of all flows and the span of their starts stay exact, that of proven flows is estimated; shares,
//! means and deviations are those of the sample; distinct hosts and ports are what it shows, a lower bound. Once
//! [`WindowCaps::flows`] are followed in all, each source keeps [`FAIR_FLOWS`]; once [`WindowCaps::sources`] are open,
//! only sources with a proven flow are still added (up to a quarter more), the rest is counted as dropped.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use weir_common::flow::ip_proto;

use crate::addr::Addr;
use crate::feature::Moments;
use crate::record::TimeUs;
use crate::role::{Direction, Role};
use crate::table::Touched;

/// A source's window gives an early row once it holds this many flows.
pub const EARLY_FLOWS: u64 = 64;
/// How long a flow may wait for its answer before it counts as unanswered, and how long after their end windows stay open,
/// µs: well above round trips, or every window would show flows that only just began.
pub const ANSWER_GRACE_US: u64 = 500_000;
/// Flows that every source may have followed, however many others there are.
pub const FAIR_FLOWS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowCaps {
    pub flows_per_source: usize,
    /// Followed flows of all sources in one window.
    pub flows: usize,
    /// Sources in one window.
    pub sources: usize,
}

impl Default for WindowCaps {
    fn default() -> Self {
        Self { flows_per_source: 4096, flows: 262_144, sources: 65_536 }
    }
}

/// What is known of a source's window. Everything but `flows` and the starts is over the sampled flows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceSummary {
    /// Flows started.
    pub flows: u64,
    /// Of these, flows that the rest is computed from.
    pub sampled: u64,
    pub hosts: u64,
    pub ports: u64,
    pub host_ports: u64,
    /// Neither answered nor rejected for [`ANSWER_GRACE_US`].
    pub unanswered: u64,
    pub rejected: u64,
    /// A single packet of the client and nothing else from it.
    pub one_packet: u64,
    /// Flows to the busiest host:port.
    pub busiest: u64,
    /// SYN and never an ACK for [`ANSWER_GRACE_US`].
    pub bare_syn: u64,
    pub icmp: u64,
    pub bytes_from_source: u64,
    pub bytes_to_source: u64,
    /// Bytes per flow, both directions.
    pub bytes: Moments,
    /// Packets per flow, both directions.
    pub packets: Moments,
    /// Durations, seconds.
    pub seconds: Moments,
    /// Gaps between flow starts, seconds.
    pub gaps_s: Moments,
    pub first_start_us: TimeUs,
    pub last_start_us: TimeUs,
}

/// One row to be.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceWindow {
    /// A host, or the address that stands for a /64.
    pub source: Addr,
    /// At least one of its flows came from a remote host towards home: decisions about it are possible.
    pub remote: bool,
    /// [`Role::SourceAll`] or [`Role::SourceProven`].
    pub role: Role,
    pub start_us: TimeUs,
    pub end_us: TimeUs,
    /// Given at the 64th flow; a row over the whole window follows.
    pub early: bool,
    pub summary: SourceSummary,
    /// Server ports, most used first, at most 8.
    pub ports: Vec<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowCounts {
    pub rows: u64,
    /// Flows that were counted but not followed, because a cap was reached.
    pub unsampled: u64,
    /// Flows of sources that no window was opened for.
    pub dropped: u64,
}

#[derive(Clone, Copy)]
struct Sample {
    server: Addr,
    port: u16,
    proto: u8,
    start_us: TimeUs,
    last_us: TimeUs,
    bytes_from: u64,
    bytes_to: u64,
    packets_from: u64,
    packets_to: u64,
    answered: bool,
    rejected: bool,
    bare_syn: bool,
}

impl Sample {
    fn of(t: &Touched) -> Self {
        Self {
            server: t.server,
            port: t.server_port,
            proto: t.proto,
            start_us: t.start_us,
            last_us: t.last_us,
            bytes_from: t.fwd.bytes,
            bytes_to: t.bwd.bytes,
            packets_from: t.fwd.packets,
            packets_to: t.bwd.packets,
            answered: t.answered(),
            rejected: t.rejected(),
            bare_syn: t.bare_syn,
        }
    }
}

/// The flows of one source in one role.
#[derive(Default)]
struct Flows {
    /// By mixed identifier: the largest is the one to leave.
    sample: BTreeMap<u64, Sample>,
    /// The largest identifier ever kept out; `None` while the sample is everything.
    cut: Option<u64>,
    early_given: bool,
}

impl Flows {
    fn put(&mut self, mixed: u64, flow: Sample, cap: usize, followed: &mut usize) {
        if let Some(sample) = self.sample.get_mut(&mixed) {
            *sample = flow;
            return;
        }
        if self.cut.is_some_and(|cut| mixed >= cut) {
            return;
        }
        self.sample.insert(mixed, flow);
        *followed += 1;
        if self.sample.len() > cap.max(1)
            && let Some((out, _)) = self.sample.pop_last()
        {
            self.cut = Some(out);
            *followed -= 1;
        }
    }

    /// The flows of several sources as those of one.
    fn together<'a>(parts: impl Iterator<Item = &'a Self> + Clone, cap: usize) -> Self {
        let cut = parts.clone().filter_map(|p| p.cut).min();
        let mut all = Self { cut, ..Self::default() };
        for (mixed, flow) in parts.flat_map(|p| &p.sample) {
            all.put(*mixed, *flow, cap, &mut 0);
        }
        all
    }

    /// How many distinct flows were offered: exact while all are followed, else estimated from how densely the sample
    /// fills the space of identifiers (error about 1/sqrt(sample)).
    fn offered(&self) -> u64 {
        match self.cut {
            None => self.sample.len() as u64,
            Some(cut) => (self.sample.len() as f64 / (cut as f64 / u64::MAX as f64)) as u64,
        }
    }
}

#[derive(Default)]
struct Source {
    remote: bool,
    /// Flows started, exact.
    started: u64,
    first_us: TimeUs,
    last_us: TimeUs,
    all: Flows,
    proven: Flows,
    /// It is already noted for this epoch.
    noted: bool,
}

#[derive(Default)]
struct Window {
    sources: HashMap<Addr, Source>,
    followed: usize,
}

/// See the module.
pub struct SourceWindows {
    window_us: u64,
    caps: WindowCaps,
    /// Open windows by number (wall time / `window_us`).
    open: BTreeMap<u64, Window>,
    /// Windows below this number are closed.
    closed: u64,
    counts: WindowCounts,
}

impl SourceWindows {
    /// Windows of `window_us` of wall time (at least 1 ms), aligned to multiples of it.
    pub fn new(window_us: u64, caps: WindowCaps) -> Self {
        Self {
            window_us: window_us.max(1_000),
            caps,
            open: BTreeMap::new(),
            closed: 0,
            counts: WindowCounts::default(),
        }
    }

    pub fn window_us(&self) -> u64 {
        self.window_us
    }
    pub fn counts(&self) -> WindowCounts {
        self.counts
    }
    /// No window is open: time alone brings no more rows.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes the flows touched in an epoch that ended at `end_us` (wall clock) and appends the rows that are due: early
    /// ones, then those of the windows that have ended, by source in ascending order. Epochs are expected to be shorter
    /// than windows; a row shows each flow as it stood at the first epoch end at least [`ANSWER_GRACE_US`] behind the
    /// window's end: every flow had that long to grow.
    pub fn epoch(&mut self, end_us: TimeUs, touched: &[Touched], out: &mut Vec<SourceWindow>) {
        self.epoch_with(end_us, touched, &[], out);
    }

    /// [`SourceWindows::epoch`], with flows that others told of in this epoch. Exporters tell long after a flow began: such
    /// flows belong to the window in which they were told of. Their times are those of the flows.
    pub fn epoch_with(&mut self, end_us: TimeUs, touched: &[Touched], told: &[Touched], out: &mut Vec<SourceWindow>) {
        let before = out.len();
        let newest = end_us / self.window_us;
        let mut hit: Vec<(u64, Addr)> = Vec::new();
        // An epoch that ends with a window belongs to that window.
        let current = (end_us.saturating_sub(1) / self.window_us).max(self.closed);
        for t in told {
            self.observe(current, t, &mut hit);
        }
        for t in touched {
            let number = t.start_us / self.window_us;
            if !t.new && number < self.closed {
                continue;
            }
            // A new flow that turns up late, or after the clock was set back, belongs to the oldest window that is
            // open; one from the future to the newest, or a leaping clock would open a thousand windows.
            let number = number.min(newest).max(self.closed);
            self.observe(number, t, &mut hit);
        }
        hit.sort_unstable();
        for (number, addr) in hit {
            let span = self.span(number);
            let Some(source) = self.open.get_mut(&number).and_then(|w| w.sources.get_mut(&addr)) else { continue };
            source.noted = false;
            source.early_rows(addr, span, end_us, out);
        }
        let due = end_us.saturating_sub(ANSWER_GRACE_US) / self.window_us;
        while let Some(first) = self.open.first_entry() {
            let number = *first.key();
            if number >= due {
                break;
            }
            let window = first.remove();
            self.close(number, window, end_us, out);
        }
        self.closed = self.closed.max(due);
        self.counts.rows += (out.len() - before) as u64;
    }

    /// Closes every window as it stands: the input has ended.
    pub fn flush(&mut self, out: &mut Vec<SourceWindow>) {
        let before = out.len();
        while let Some((number, window)) = self.open.pop_first() {
            self.close(number, window, TimeUs::MAX, out);
            self.closed = self.closed.max(number + 1);
        }
        self.counts.rows += (out.len() - before) as u64;
    }

    fn span(&self, number: u64) -> (TimeUs, TimeUs) {
        let start = number.saturating_mul(self.window_us);
        (start, start.saturating_add(self.window_us))
    }

    fn observe(&mut self, number: u64, t: &Touched, hit: &mut Vec<(u64, Addr)>) {
        let Window { sources, followed } = self.open.entry(number).or_default();
        let room = self.caps.sources + if t.proven { self.caps.sources / 4 } else { 0 };
        let full = sources.len() >= room;
        let source = match sources.entry(t.client) {
            Entry::Occupied(e) => e.into_mut(),
            Entry::Vacant(_) if full => {
                self.counts.dropped += u64::from(t.new);
                return;
            }
            Entry::Vacant(e) => e.insert(Source::default()),
        };
        if !source.noted {
            source.noted = true;
            hit.push((number, t.client));
        }
        let mixed = mix(t.flow_id);
        let cap = if *followed >= self.caps.flows { FAIR_FLOWS } else { self.caps.flows_per_source };
        let cap = |f: &Flows| cap.max(f.sample.len()).min(self.caps.flows_per_source);
        if t.new {
            source.remote |= t.direction == Direction::In;
            source.first_us = if source.started == 0 { t.start_us } else { source.first_us.min(t.start_us) };
            source.last_us = source.last_us.max(t.start_us);
            source.started += 1;
            self.counts.unsampled += u64::from(source.all.sample.len() >= cap(&source.all));
        }
        if t.new || source.all.sample.contains_key(&mixed) {
            let cap = cap(&source.all);
            source.all.put(mixed, Sample::of(t), cap, followed);
        }
        if t.proven {
            let cap = cap(&source.proven);
            source.proven.put(mixed, Sample::of(t), cap, followed);
        }
    }

    fn close(&self, number: u64, window: Window, now: TimeUs, out: &mut Vec<SourceWindow>) {
        let span = self.span(number);
        let mut sources: Vec<_> = window.sources.into_iter().collect();
        sources.sort_unstable_by_key(|(addr, _)| *addr);
        let together = |a: &(Addr, Source), b: &(Addr, Source)| a.0.net6().is_some_and(|net| b.0.net6() == Some(net));
        for group in sources.chunk_by(together) {
            if let ([_, _, ..], Some(net)) = (group, group[0].0.net6()) {
                Source::together(group, self.caps.flows_per_source).rows(net, span, now, out);
            }
            for (addr, source) in group {
                source.rows(*addr, span, now, out);
            }
        }
    }
}

impl Source {
    /// Sources as one, without what one of them did most of.
    fn together(group: &[(Addr, Source)], cap: usize) -> Self {
        let spread = |flows: &dyn Fn(&Source) -> u64| {
            let each = || group.iter().map(|(_, s)| flows(s));
            2 * each().max().unwrap_or(0) <= each().sum()
        };
        let mut all = Self::default();
        if spread(&|s| s.started) {
            for (_, s) in group.iter().filter(|(_, s)| s.started > 0) {
                all.first_us = if all.started == 0 { s.first_us } else { all.first_us.min(s.first_us) };
                all.last_us = all.last_us.max(s.last_us);
                all.started += s.started;
            }
            all.all = Flows::together(group.iter().map(|(_, s)| &s.all), cap);
        }
        if spread(&|s| s.proven.offered()) {
            all.proven = Flows::together(group.iter().map(|(_, s)| &s.proven), cap);
        }
        all.remote = group.iter().any(|(_, s)| s.remote);
        all
    }

    fn rows(&self, addr: Addr, span: (TimeUs, TimeUs), now: TimeUs, out: &mut Vec<SourceWindow>) {
        if self.started > 0 {
            out.push(self.row(addr, span, now, Role::SourceAll, false));
        }
        if !self.proven.sample.is_empty() {
            out.push(self.row(addr, span, now, Role::SourceProven, false));
        }
    }

    fn early_rows(&mut self, addr: Addr, span: (TimeUs, TimeUs), now: TimeUs, out: &mut Vec<SourceWindow>) {
        if !self.all.early_given && self.started >= EARLY_FLOWS {
            self.all.early_given = true;
            out.push(self.row(addr, span, now, Role::SourceAll, true));
        }
        if !self.proven.early_given && self.proven.offered() >= EARLY_FLOWS {
            self.proven.early_given = true;
            out.push(self.row(addr, span, now, Role::SourceProven, true));
        }
    }

    fn row(
        &self,
        source: Addr,
        (start_us, end_us): (TimeUs, TimeUs),
        now: TimeUs,
        role: Role,
        early: bool,
    ) -> SourceWindow {
        let proven = role == Role::SourceProven;
        let sample = if proven { &self.proven.sample } else { &self.all.sample };
        let (mut summary, ports) = summarise(sample, now);
        if proven {
            summary.flows = self.proven.offered();
        } else {
            summary.flows = self.started;
            summary.first_start_us = self.first_us;
            summary.last_start_us = self.last_us;
        }
        SourceWindow { source, remote: self.remote, role, start_us, end_us, early, summary, ports }
    }
}

/// `now` is when the row is given.
fn summarise(sample: &BTreeMap<u64, Sample>, now: TimeUs) -> (SourceSummary, Vec<u16>) {
    let mut s = SourceSummary { sampled: sample.len() as u64, ..SourceSummary::default() };
    let mut hosts = HashSet::new();
    let mut ports: HashMap<u16, u64> = HashMap::new();
    let mut pairs: HashMap<(Addr, u16), u64> = HashMap::new();
    let mut starts = Vec::with_capacity(sample.len());
    for f in sample.values() {
        hosts.insert(f.server);
        *ports.entry(f.port).or_default() += 1;
        *pairs.entry((f.server, f.port)).or_default() += 1;
        starts.push(f.start_us);
        let waited = now.saturating_sub(f.start_us) >= ANSWER_GRACE_US;
        s.unanswered += u64::from(waited && !f.answered && !f.rejected);
        s.rejected += u64::from(f.rejected);
        s.one_packet += u64::from(f.packets_from == 1);
        s.bare_syn += u64::from(waited && f.bare_syn);
        s.icmp += u64::from(matches!(f.proto, ip_proto::ICMP | ip_proto::ICMPV6));
        s.bytes_from_source = s.bytes_from_source.saturating_add(f.bytes_from);
        s.bytes_to_source = s.bytes_to_source.saturating_add(f.bytes_to);
        s.bytes.add(f.bytes_from as f64 + f.bytes_to as f64);
        s.packets.add(f.packets_from as f64 + f.packets_to as f64);
        s.seconds.add(f.last_us.saturating_sub(f.start_us) as f64 * 1e-6);
    }
    starts.sort_unstable();
    for pair in starts.windows(2) {
        s.gaps_s.add((pair[1] - pair[0]) as f64 * 1e-6);
    }
    s.first_start_us = starts.first().copied().unwrap_or(0);
    s.last_start_us = starts.last().copied().unwrap_or(0);
    s.hosts = hosts.len() as u64;
    s.ports = ports.len() as u64;
    s.host_ports = pairs.len() as u64;
    s.busiest = pairs.values().copied().max().unwrap_or(0);
    let mut top: Vec<(u16, u64)> = ports.into_iter().collect();
    top.sort_unstable_by_key(|&(port, n)| (std::cmp::Reverse(n), port));
    top.truncate(8);
    (s, top.into_iter().map(|(port, _)| port).collect())
}

/// A bijection that scatters consecutive identifiers (the finaliser of SplitMix64), so that "the smallest" is a fair
/// sample.
fn mix(id: u64) -> u64 {
    let mut z = id.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
