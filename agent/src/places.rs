//! Where flows are seen: the interfaces by name, and at which of them a source was seen last.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use weir_core::addr::Addr;
use weir_core::record::TimeUs;
use weir_core::table::Touched;

/// Interfaces that are gone, whose names are kept for flows that end later.
const GONE: usize = 1024;
/// A source is remembered for so many windows after it was seen.
const WINDOWS: u64 = 3;

/// Names of interfaces by index; without any, flows are seen nowhere in particular.
#[derive(Debug, Default)]
pub struct Places {
    /// The one interface that is watched, where it is one for good.
    sole: Option<Arc<str>>,
    names: HashMap<u32, Arc<str>>,
    gone: VecDeque<u32>,
    sources: HashMap<Addr, (u32, TimeUs)>,
    pruned_us: TimeUs,
}

impl Places {
    pub fn only(sole: Option<&str>) -> Self {
        Self { sole: sole.map(Into::into), ..Self::default() }
    }

    /// An interface is there, or has got another name.
    pub fn name(&mut self, interface: u32, name: &Arc<str>) {
        self.gone.retain(|i| *i != interface);
        self.names.insert(interface, name.clone());
    }

    pub fn leave(&mut self, interface: u32) {
        self.gone.push_back(interface);
        if self.gone.len() > GONE
            && let Some(oldest) = self.gone.pop_front()
        {
            self.names.remove(&oldest);
        }
    }

    /// Where a flow of the kernel's is seen.
    pub fn of(&self, interface: u32) -> Option<&Arc<str>> {
        self.sole.as_ref().or_else(|| self.names.get(&interface))
    }

    /// The same, where it does not go without saying.
    pub fn told(&self, interface: u32) -> Option<&Arc<str>> {
        self.of(interface).filter(|_| self.sole.is_none())
    }

    /// Where a source was seen last; `None`: not lately, or there is one interface alone.
    pub fn source(&self, source: Addr) -> Option<&Arc<str>> {
        self.sources.get(&source).and_then(|(interface, _)| self.told(*interface))
    }

    /// These flows had packets until `now`. Sources that were not seen for some windows are forgotten.
    pub fn note(&mut self, now: TimeUs, window_us: u64, touched: &[Touched]) {
        if self.sole.is_some() || self.names.len() < 2 {
            return;
        }
        for t in touched.iter().filter(|t| t.seen_at != 0) {
            self.sources.insert(t.client, (t.seen_at, now));
        }
        let kept = WINDOWS * window_us;
        if now.abs_diff(self.pruned_us) > window_us {
            self.pruned_us = now;
            self.sources.retain(|_, (_, at)| now.abs_diff(*at) <= kept);
        }
    }
}
