//! What else the source of a flow was doing: the five context features of profile `full`.
//!
//! A source is the client of flows. At each epoch's end [`Contexts`] knows, per source, the flows that it began in the
//! last 10 seconds of event time, and every flow that had packets in the epoch is given the [`Context`] of its client
//! as it then stands. So a record tells what its source was doing when the flow was last seen, not when its timeout
//! came up two minutes later.
//!
//! **The last 10 seconds**: the ten whole seconds of the flows' clock, the last of them the one that the epoch ended in.
//! A flow belongs to the second of its first packet; one that turns up later than ten seconds does not count. Where epochs
//! end at whole seconds that is the last 10 s to the microsecond, else between 9 and 10 s. A flow counts for who was its
//! client at the end of its first epoch.
//!
//! **Bounds.** At most [`ContextCaps::sources`] sources are watched, a quarter more if they have a proven flow (nobody can
//! forge those): flows of others have no context, rather than a wrong one. Flows per source are counted exactly. Distinct
//! ports, hosts and host:port pairs are exact up to [`ContextCaps::per_source`] each; once [`ContextCaps::keys`] are held
//! for all sources together, up to [`FAIR_KEYS`] each. Beyond that they are lower bounds, and flows to a host:port that is
//! not held count as the flow alone. Below the caps nothing depends on the order of flows within an epoch.
//!
//! Work per epoch is in proportion to the flows touched. Nothing is kept per flow here.

mod ring;
mod seen;

use std::collections::HashMap;

// Seeded at random: who makes up addresses and ports cannot make them collide.
use foldhash::fast::RandomState;
use weir_common::near;

use crate::addr::Addr;
use ring::Ring;
use seen::{Seen, Wheel};

/// Seconds that the context looks back.
pub const CONTEXT_SECONDS: u64 = ring::SPAN as u64;
/// Distinct ports, hosts and pairs that every source may have held, however many others there are.
pub const FAIR_KEYS: u32 = 4;

const SECOND_US: u64 = 1_000_000;

/// What the client of a flow began in the last 10 seconds.
///
/// Features only: no decision may follow from them for a single flow, because anyone can raise the counts of an innocent
/// source by flows forged in its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Context {
    /// Flows that the source began.
    pub flows: u32,
    /// Distinct server ports of these.
    pub ports: u32,
    /// Distinct server addresses.
    pub hosts: u32,
    /// Flows without a packet back so far.
    pub unanswered: u32,
    /// Flows to the same server address and port as this flow's.
    pub same_service: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextCaps {
    /// Sources at a time; a quarter more for those with a proven flow.
    pub sources: usize,
    /// Distinct ports, hosts and host:port pairs (each) of one source.
    pub per_source: u32,
    /// Distinct ports, hosts and pairs (each) of all sources.
    pub keys: usize,
}

impl Default for ContextCaps {
    /// About 100 MB at worst, and a few kB for a hundred sources.
    fn default() -> Self {
        Self { sources: 65_536, per_source: 4096, keys: 262_144 }
    }
}

/// One flow as the context sees it.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    pub client: Addr,
    pub server: Addr,
    pub server_port: u16,
    /// Time of its first packet, µs, on the clock of the epochs.
    pub start_us: u64,
}

/// A flow that has just begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub begun: Begun,
    /// Something came back.
    pub answered: bool,
    pub proven: bool,
}

/// Flows whose memory is asked for at a time.
const AHEAD: usize = 32;

/// Where a flow's source and the service that it spoke to lay when they were last looked for: looked at first, and never believed.
/// One word, the source's place in its lower half: two halves that are written apart are waited for when read as one.
#[derive(Clone, Copy, Debug)]
pub struct Link(u64);

impl Link {
    pub(crate) const NOWHERE: Self = Self(u64::MAX);

    const fn to(source: u32, pair: u32) -> Self {
        Self(source as u64 | (pair as u64) << 32)
    }
    const fn source(self) -> u32 {
        self.0 as u32
    }
    const fn pair(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl Begun {
    fn second(&self) -> u64 {
        self.start_us / SECOND_US
    }
}

/// A service that a source speaks to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Pair {
    server: Addr,
    port: u16,
}

struct Source {
    addr: Addr,
    begun: Ring,
    unanswered: Ring,
    /// The latest second that it began a flow in.
    last: u64,
    ports: u32,
    hosts: u32,
    pairs: u32,
}

/// See the module.
pub struct Contexts {
    caps: ContextCaps,
    /// The second that the latest epoch ended in.
    now: u64,
    index: HashMap<Addr, u32, RandomState>,
    sources: Vec<Source>,
    free: Vec<u32>,
    leaving: Wheel<u32>,
    ports: Seen<u16, ()>,
    hosts: Seen<Addr, ()>,
    pairs: Seen<Pair, Ring>,
    /// The latest second in which a source found no room.
    refused_at: Option<u64>,
    refused: u64,
}

impl Contexts {
    pub fn new(caps: ContextCaps) -> Self {
        Self {
            caps,
            now: 0,
            index: HashMap::default(),
            sources: Vec::new(),
            free: Vec::new(),
            leaving: Wheel::default(),
            ports: Seen::default(),
            hosts: Seen::default(),
            pairs: Seen::default(),
            refused_at: None,
            refused: 0,
        }
    }

    /// Sources that began a flow in the last 10 s.
    pub fn len(&self) -> usize {
        self.index.len()
    }
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }
    /// Flows whose source found no room, since this was made.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// An epoch ended at `end_us` (epochs come in order): what is older than 10 s leaves.
    pub fn advance(&mut self, end_us: u64) {
        let now = end_us.saturating_sub(1) / SECOND_US;
        if now.saturating_sub(self.now) >= CONTEXT_SECONDS {
            self.index.clear();
            self.sources.clear();
            self.free.clear();
            self.leaving.clear();
            self.ports.clear();
            self.hosts.clear();
            self.pairs.clear();
            self.now = now;
        }
        while self.now < now {
            self.now += 1;
            self.leave(self.now);
        }
    }

    /// Second `now` begins, and the one ten before it is over.
    fn leave(&mut self, now: u64) {
        let sources = &mut self.sources;
        let mut of = |slot: u32, count: fn(&mut Source) -> &mut u32| {
            if let Some(source) = sources.get_mut(slot as usize) {
                let n = count(source);
                *n = n.saturating_sub(1);
            }
        };
        self.ports.leave(now, |slot| of(slot, |s| &mut s.ports));
        self.hosts.leave(now, |slot| of(slot, |s| &mut s.hosts));
        self.pairs.leave(now, |slot| of(slot, |s| &mut s.pairs));
        // Last, since a source outlives all that it has seen.
        for slot in self.leaving.take(now) {
            let Some(source) = self.sources.get(slot as usize) else { continue };
            if source.last + CONTEXT_SECONDS > now {
                self.leaving.put(source.last, slot);
            } else {
                self.index.remove(&source.addr);
                self.free.push(slot);
            }
        }
    }

    /// A flow began in the epoch that [`Contexts::advance`] was told of. `None` where it does not count: its source found no
    /// room, or it began too long ago.
    #[inline]
    pub fn begin(&mut self, flow: &Begun, answered: bool, proven: bool) -> Option<Link> {
        let (now, second) = (self.now, flow.second().min(self.now));
        if second + CONTEXT_SECONDS <= now {
            return None;
        }
        let slot = match self.index.get(&flow.client) {
            Some(&slot) => slot,
            None => {
                let room = self.caps.sources + if proven { self.caps.sources / 4 } else { 0 };
                if self.index.len() >= room {
                    self.refused += 1;
                    self.refused_at = Some(now);
                    return None;
                }
                self.open(flow.client, second)
            }
        };
        let source = self.sources.get_mut(slot as usize)?;
        source.last = source.last.max(second);
        source.begun.add(now, second);
        if !answered {
            source.unanswered.add(now, second);
        }
        let ContextCaps { per_source, keys, .. } = self.caps;
        let cap = |held: usize| if held >= keys { FAIR_KEYS.min(per_source) } else { per_source };
        self.ports.see(slot, flow.server_port, second, &mut source.ports, cap(self.ports.len()));
        self.hosts.see(slot, flow.server, second, &mut source.hosts, cap(self.hosts.len()));
        let pair = Pair { server: flow.server, port: flow.server_port };
        let cap = cap(self.pairs.len());
        let held = self.pairs.see(slot, pair, second, &mut source.pairs, cap);
        if let Some(flows) = held.and_then(|at| self.pairs.value_mut(at)) {
            flows.add(now, second);
        }
        Some(Link::to(slot, held.unwrap_or(Link::NOWHERE.pair())))
    }

    /// [`Contexts::begin`] for many flows, each with its place among them: memory is asked for some of them at a time.
    pub(crate) fn begin_each<'a>(
        &mut self,
        mut flows: impl Iterator<Item = &'a Start> + Clone,
        mut each: impl FnMut(usize, Option<Link>),
    ) {
        let mut at = 0;
        loop {
            let ahead = flows.clone().take(AHEAD);
            for Start { begun: flow, .. } in ahead {
                if let Some(&slot) = self.index.get(&flow.client) {
                    self.ports.ask((slot, flow.server_port));
                    self.hosts.ask((slot, flow.server));
                    self.pairs.ask(pair(slot, flow));
                }
            }
            let before = at;
            for start in flows.by_ref().take(AHEAD) {
                each(at, self.begin(&start.begun, start.answered, start.proven));
                at += 1;
            }
            if at == before {
                return;
            }
        }
    }

    fn open(&mut self, addr: Addr, second: u64) -> u32 {
        let source = Source {
            addr,
            begun: Ring::default(),
            unanswered: Ring::default(),
            last: second,
            ports: 0,
            hosts: 0,
            pairs: 0,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.sources[slot as usize] = source;
                slot
            }
            None => {
                self.sources.push(source);
                (self.sources.len() - 1) as u32
            }
        };
        self.index.insert(addr, slot);
        self.leaving.put(second, slot);
        slot
    }

    /// A flow that had begun unanswered has got its first packet back.
    pub fn answered(&mut self, client: Addr, start_us: u64) {
        let second = (start_us / SECOND_US).min(self.now);
        if let Some(&slot) = self.index.get(&client)
            && let Some(source) = self.sources.get_mut(slot as usize)
        {
            source.unanswered.take_away(self.now, second);
        }
    }

    /// The context of a flow as of the latest epoch; `None` where its source may have begun flows that found no room.
    pub fn of(&self, flow: &Begun) -> Option<Context> {
        self.of_linked(flow, Link::NOWHERE).0
    }

    /// So that what a flow's context is made of is near by the time it is asked for.
    #[inline]
    pub(crate) fn ask(&self, link: Link) {
        if let Some(source) = self.sources.get(link.source() as usize) {
            near::ask_for(source);
        }
        self.pairs.ask_at(link.pair());
    }

    /// [`Contexts::of`] for a flow that was linked when it began or was last asked about, and the link for the next time.
    #[inline(always)]
    pub(crate) fn of_linked(&self, flow: &Begun, link: Link) -> (Option<Context>, Link) {
        let now = self.now;
        // Who has left lies there still, until the slot is taken.
        let is = |s: &&Source| s.addr == flow.client && s.last + CONTEXT_SECONDS > now;
        let slot = match self.sources.get(link.source() as usize).filter(is) {
            Some(_) => Some(link.source()),
            None => self.index.get(&flow.client).copied(),
        };
        let Some((slot, source)) = slot.and_then(|slot| Some((slot, self.sources.get(slot as usize)?))) else {
            let unsure = self.refused_at.is_some_and(|at| at + CONTEXT_SECONDS > now);
            return ((!unsure).then(Context::default), Link::NOWHERE);
        };
        let held = self.pairs.get(pair(slot, flow), link.pair(), now);
        let flows = source.begun.sum(now);
        let itself = u32::from(flow.second() + CONTEXT_SECONDS > now);
        let context = Context {
            flows,
            ports: source.ports,
            hosts: source.hosts,
            unanswered: source.unanswered.sum(now).min(flows),
            same_service: held.map_or(itself, |(_, ring)| ring.sum(now)).min(flows),
        };
        (Some(context), Link::to(slot, held.map_or(Link::NOWHERE.pair(), |(at, _)| at)))
    }
}

fn pair(slot: u32, flow: &Begun) -> (u32, Pair) {
    (slot, Pair { server: flow.server, port: flow.server_port })
}

#[cfg(test)]
mod tests;
