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

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::record::{FlowState, Totals};
    use weir_core::role::Direction;

    fn touched(client: &str, seen_at: u32) -> Touched {
        Touched {
            flow_id: 1,
            client: client.parse().unwrap(),
            server: "10.0.0.1".parse().unwrap(),
            client_port: 40_000,
            server_port: 443,
            proto: 6,
            direction: Direction::In,
            start_us: 0,
            last_us: 0,
            fwd: Totals::default(),
            bwd: Totals::default(),
            state: FlowState::Unanswered,
            bare_syn: false,
            proven: false,
            new: true,
            seen_at,
        }
    }

    #[test]
    fn a_source_is_where_it_was_seen_last_and_names_outlive_interfaces() {
        let mut places = Places::default();
        places.name(2, &"eth0".into());
        places.name(3, &"veth7".into());
        let source: Addr = "203.0.113.5".parse().unwrap();
        places.note(1000, 10, &[touched("203.0.113.5", 2)]);
        places.note(1001, 10, &[touched("203.0.113.5", 3)]);
        assert_eq!(places.source(source).map(|n| &**n), Some("veth7"));
        places.leave(3);
        assert_eq!(places.of(3).map(|n| &**n), Some("veth7"), "flows of it end later");
        places.note(2000, 10, &[]);
        assert_eq!(places.source(source), None);
        for n in 100..2000 {
            places.name(n, &"veth".into());
            places.leave(n);
        }
        assert_eq!((places.of(100), places.names.len()), (None, GONE + 1));
    }

    #[test]
    fn one_interface_goes_without_saying() {
        let mut places = Places::only(Some("eth0"));
        places.name(2, &"eth0".into());
        assert_eq!((places.of(0).map(|n| &**n), places.told(2)), (Some("eth0"), None));
    }
}
