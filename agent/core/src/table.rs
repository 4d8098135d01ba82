//! The flow table: drained statistics in, flow records out, epoch by epoch.
//!
//! Everything is decided at epoch ends, for live traffic as for captures: direction, end, port reuse, timeouts and
//! checkpoints. Work per epoch is in proportion to the flows touched and the deadlines that come up. Memory is bounded
//! by `max_flows` (about 0.5 KiB each): a full table ends the oldest unanswered flow, or else the one whose deadline
//! comes first, with a record of its own and a count.

mod judge;
mod timer;

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use weir_common::flow::{DirStats, FlowKey, FlowStats};
use weir_common::near;

use crate::addr::Addr;
use crate::context::{Begun, Context, ContextCaps, Contexts, Start};
use crate::home::Home;
use crate::record::{EndReason, FlowRecord, FlowState, Have, TimeUs, Totals};
use crate::role::Direction;
use timer::Timers;

#[derive(Clone, Debug)]
pub struct TableConfig {
    /// A flow without packets for this long is over, µs.
    pub idle_us: u64,
    /// A flow that lives longer gives a checkpoint record each time this passes, µs, with the next packets that it has:
    /// a flow that has gone quiet has nothing to add but its end.
    pub active_us: u64,
    /// An ended TCP flow waits this long after its last packet for stragglers, µs.
    pub linger_us: u64,
    /// Packets (both directions) after which a flow gives a checkpoint record at the epoch's end. Ascending.
    pub checkpoints: [u64; 3],
    pub max_flows: usize,
    /// Bounds of what records tell of their source (see [`crate::context`]); `None`: nothing, for who needs no profile
    /// `full`.
    pub context: Option<ContextCaps>,
    /// Whether [`EpochOutput::touched`] is wanted: who makes no source windows does without.
    pub touched: bool,
    pub home: Home,
    /// Identifier of the first flow. An agent that restarts continues where nothing was used yet.
    pub first_flow_id: u64,
}

impl Default for TableConfig {
    fn default() -> Self {
        Self {
            idle_us: 120_000_000,
            active_us: 60_000_000,
            linger_us: 5_000_000,
            checkpoints: [8, 64, 512],
            max_flows: 1_000_000,
            context: Some(ContextCaps::default()),
            touched: true,
            home: Home::default(),
            first_flow_id: 1,
        }
    }
}

/// What one epoch gave.
#[derive(Clone, Debug, Default)]
pub struct EpochOutput {
    /// Ended flows and checkpoints, in the order in which they were decided.
    pub records: Vec<FlowRecord>,
    /// Every flow that had packets in this epoch, as it stands at the epoch's end. Empty unless [`TableConfig::touched`].
    pub touched: Vec<Touched>,
    /// Flows ended in this epoch to make room.
    pub evicted: u64,
}

impl EpochOutput {
    /// Empties it for the next epoch and keeps its memory.
    pub fn clear(&mut self) {
        self.records.clear();
        self.touched.clear();
        self.evicted = 0;
    }
}

/// A flow as it stands at an epoch's end: what source windows need without waiting for the flow to end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Touched {
    pub flow_id: u64,
    pub client: Addr,
    pub server: Addr,
    pub client_port: u16,
    pub server_port: u16,
    pub proto: u8,
    pub direction: Direction,
    pub start_us: TimeUs,
    /// Time of the last packet so far.
    pub last_us: TimeUs,
    /// Cumulative, client to server.
    pub fwd: Totals,
    /// Cumulative, server to client.
    pub bwd: Totals,
    pub state: FlowState,
    /// TCP: the client sent SYN and never an ACK.
    pub bare_syn: bool,
    /// The client acknowledged our SYN-ACK's sequence number plus one.
    pub proven: bool,
    /// The flow began in this epoch.
    pub new: bool,
}

impl Touched {
    /// Something came back that was no refusal.
    pub fn answered(&self) -> bool {
        !matches!(self.state, FlowState::Unanswered | FlowState::Rejected)
    }
    /// The server refused it with RST. (ICMP errors are flows of their own and do not show here.)
    pub fn rejected(&self) -> bool {
        self.state == FlowState::Rejected
    }
}

/// What the table has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCounts {
    pub opened: u64,
    pub finished: u64,
    pub checkpoints: u64,
    /// Of `finished`, those that ended to make room.
    pub evicted: u64,
    /// Drained entries without a packet.
    pub empty: u64,
    /// Flows that their source's context left out, because too many sources were active.
    pub without_context: u64,
}

struct Flow {
    key: FlowKey,
    id: u64,
    /// Cumulative, oriented as the key.
    stats: FlowStats,
    /// Added to monotonic times to give wall times. Fixed at the start, so that a clock step does not stretch a flow.
    offset_us: i64,
    /// Monotonic, µs.
    next_active_us: u64,
    recorded: bool,
    /// How many of the packet checkpoints are behind it.
    passed: u8,
    queued_tick: u64,
    /// As of the last epoch in which it had packets.
    context: Option<Context>,
    /// It has packets in this epoch, at whose end its context is taken.
    fresh: bool,
    /// The direction whose sender's context counts it as unanswered.
    waits: Option<u8>,
}

struct Slot {
    generation: u32,
    flow: Option<Flow>,
}

pub struct FlowTable {
    config: TableConfig,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots by key. The keys lie in the slots: a lookup then costs one place far away instead of two.
    index: HashTable<u32>,
    /// Seeded at random: who makes up addresses and ports cannot make them collide.
    hasher: RandomState,
    timers: Timers,
    /// Flows that were unanswered when they began, oldest first: the first to go when the table is full, so that a
    /// flood of forged SYNs pushes out itself. Entries may be stale.
    unanswered: VecDeque<(u32, u32)>,
    contexts: Option<Contexts>,
    /// Flows of this epoch that are new: slot, direction of the client, and what the contexts are told.
    begins: Vec<(u32, u8, Start)>,
    /// Fresh flows: slot, identifier, and what their contexts ask.
    fresh: Vec<(u32, u64, Begun)>,
    /// Records of fresh flows, by their place in the output, and the starts of these flows (monotonic).
    early: Vec<(usize, u64)>,
    next_id: u64,
    counts: TableCounts,
}

impl FlowTable {
    pub fn new(config: TableConfig) -> Self {
        Self {
            next_id: config.first_flow_id,
            contexts: config.context.map(Contexts::new),
            begins: Vec::new(),
            fresh: Vec::new(),
            early: Vec::new(),
            config: TableConfig { max_flows: config.max_flows.clamp(1, u32::MAX as usize - 1), ..config },
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::default(),
            timers: Timers::default(),
            unanswered: VecDeque::new(),
            counts: TableCounts::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }
    pub fn counts(&self) -> TableCounts {
        let without_context = self.contexts.as_ref().map_or(0, Contexts::refused);
        TableCounts { without_context, ..self.counts }
    }
    /// The identifier that the next flow will get.
    pub fn next_flow_id(&self) -> u64 {
        self.next_id
    }
    /// Replaces the protected networks, from the next record on.
    pub fn set_home(&mut self, home: Home) {
        self.config.home = home;
    }

    /// Takes what was drained at `end_us` (monotonic, µs, not before any packet in `drained`) and adds what follows
    /// from it to `out`. Each key occurs at most once per epoch; epochs come in order. Records carry monotonic time
    /// plus `wall_offset_us`.
    pub fn epoch(
        &mut self,
        end_us: u64,
        wall_offset_us: i64,
        drained: impl Iterator<Item = (FlowKey, FlowStats)>,
        out: &mut EpochOutput,
    ) {
        if let Some(contexts) = &mut self.contexts {
            contexts.advance(end_us);
        }
        for (key, stats) in drained {
            let hash = hash(&self.hasher, &key);
            self.take(end_us, wall_offset_us, (hash, u32::MAX), &key, &stats, out);
        }
        self.work_off(end_us, out);
    }

    /// [`FlowTable::epoch`] for what lies in memory already: nothing is copied, and memory is asked for a few flows ahead.
    pub fn epoch_of(
        &mut self,
        end_us: u64,
        wall_offset_us: i64,
        drained: &[(FlowKey, FlowStats)],
        out: &mut EpochOutput,
    ) {
        if let Some(contexts) = &mut self.contexts {
            contexts.advance(end_us);
        }
        let mut places = [(0, u32::MAX); AHEAD];
        for ahead in drained.chunks(AHEAD) {
            // Step by step for all of them: what each step reads from memory then does not depend on the read before.
            for (place, (key, _)) in places.iter_mut().zip(ahead) {
                let hash = hash(&self.hasher, key);
                *place = (hash, self.index.iter_hash(hash).next().copied().unwrap_or(u32::MAX));
            }
            for &(_, slot) in &places[..ahead.len()] {
                self.ask_for(slot);
            }
            for (&place, (key, stats)) in places.iter().zip(ahead) {
                self.take(end_us, wall_offset_us, place, key, stats, out);
            }
        }
        self.work_off(end_us, out);
    }

    /// So that the flow is near by the time it is needed.
    #[inline]
    fn ask_for(&self, slot: u32) {
        if let Some(slot) = self.slots.get(slot as usize) {
            near::ask_for(slot);
        }
    }

    /// The deadlines that have come up.
    fn work_off(&mut self, end_us: u64, out: &mut EpochOutput) {
        self.take_contexts(out);
        while let Some((tick, due)) = self.timers.pop_due(end_us) {
            for ahead in due.chunks(AHEAD) {
                for &(slot, _) in ahead {
                    self.ask_for(slot);
                }
                for &(slot, generation) in ahead {
                    self.look(end_us, tick, slot, generation, out);
                }
            }
            // What this tick still has to come stays in it.
            if tick >= Timers::tick_of(end_us) {
                break;
            }
        }
    }

    /// `place`: the hash, and the slot that it probably is.
    #[inline]
    fn find(&self, (hash, likely): (u64, u32), key: &FlowKey) -> Option<u32> {
        let slots = &self.slots;
        let same = |&s: &u32| slots.get(s as usize).and_then(|s| s.flow.as_ref()).is_some_and(|f| f.key.is(key));
        if same(&likely) { Some(likely) } else { self.index.find(hash, same).copied() }
    }

    /// Ends every flow, oldest slot first: at the end of a capture ([`EndReason::Idle`] where it reads as a timeout)
    /// or when the agent stops ([`EndReason::Flushed`]). Flows that ended already keep [`EndReason::Ended`].
    pub fn flush(&mut self, reason: EndReason, out: &mut EpochOutput) {
        self.flush_each(reason, |record| out.records.push(record));
    }

    /// [`FlowTable::flush`] without room for all the records at once.
    pub fn flush_each(&mut self, reason: EndReason, mut each: impl FnMut(FlowRecord)) {
        self.index.clear();
        self.timers = Timers::default();
        self.unanswered.clear();
        for (at, slot) in self.slots.iter_mut().enumerate() {
            let Some(flow) = slot.flow.take() else { continue };
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(at as u32);
            self.counts.finished += 1;
            let reason = if judge::ended(&flow.key, &flow.stats) { EndReason::Ended } else { reason };
            each(record(&flow, &self.config.home, reason));
        }
    }

    /// Every flow of the epoch is known: what their sources were doing can be told.
    fn take_contexts(&mut self, out: &mut EpochOutput) {
        let Some(contexts) = &mut self.contexts else { return };
        contexts.begin_each(self.begins.iter().map(|(.., start)| start), |i, counted| {
            let (slot, client, start) = &self.begins[i];
            // Where the flow has ended meanwhile nobody asks.
            if let Some(flow) = &mut self.slots[*slot as usize].flow {
                flow.waits = (counted && !start.answered).then_some(*client);
            }
        });
        self.begins.clear();
        for ahead in self.fresh.chunks(AHEAD) {
            for (slot, ..) in ahead {
                if let Some(Slot { flow: Some(flow), .. }) = self.slots.get(*slot as usize) {
                    near::ask_for(&flow.context);
                    near::ask_for(&flow.id);
                }
            }
            contexts.of_each(ahead.iter().map(|(.., begun)| begun), |i, context| {
                // The flow may have ended meanwhile, and another one begun in its place.
                let (slot, id, _) = ahead[i];
                if let Some(flow) = self.slots[slot as usize].flow.as_mut().filter(|f| f.id == id) {
                    flow.fresh = false;
                    flow.context = context;
                }
            });
        }
        self.fresh.clear();
        for (at, start_us) in self.early.drain(..) {
            let Some(r) = out.records.get_mut(at) else { continue };
            let (client, server, server_port) = (r.client, r.server, r.server_port);
            r.context = contexts.of(&Begun { client, server, server_port, start_us });
        }
    }

    /// Tells the contexts of a flow that has just had packets.
    fn tell_contexts(&mut self, slot: u32, client: usize, new: bool) {
        let Some(contexts) = &mut self.contexts else { return };
        let Some(flow) = &mut self.slots[slot as usize].flow else { return };
        let [fwd, bwd] = [&flow.stats.dir[client], &flow.stats.dir[1 - client]];
        let answered = judge::state(flow.key.proto, fwd, bwd) != FlowState::Unanswered;
        let begun = begun(flow, client);
        self.fresh.push((slot, flow.id, begun));
        if new {
            let proven = judge::proven(flow.key.proto, fwd, bwd);
            self.begins.push((slot, client as u8, Start { answered, proven, begun }));
        } else if answered && let Some(waits) = flow.waits.take() {
            let start_us = judge::first_us(&flow.stats);
            contexts.answered(ends(&flow.key, usize::from(waits)).0.0, start_us);
        }
    }

    fn take(
        &mut self,
        end_us: u64,
        offset_us: i64,
        place: (u64, u32),
        key: &FlowKey,
        stats: &FlowStats,
        out: &mut EpochOutput,
    ) {
        if stats.is_empty() {
            self.counts.empty += 1;
            return;
        }
        let mut known = self.find(place, key);
        if let Some(slot) = known
            && let Some(reason) = self.over_before(slot, stats)
        {
            self.finish(slot, reason, out);
            known = None;
        }
        let new = known.is_none();
        let slot = match known {
            Some(slot) => {
                if let Some(flow) = &mut self.slots[slot as usize].flow {
                    flow.stats.merge(stats);
                }
                slot
            }
            None => self.open(offset_us, place.0, key, stats, out),
        };
        let Some(flow) = &mut self.slots[slot as usize].flow else { return };
        flow.fresh = self.contexts.is_some();
        let packets = flow.stats.packets();
        let passed = self.config.checkpoints.iter().filter(|&&c| packets >= c).count() as u8;
        let due = passed > flow.passed || end_us >= flow.next_active_us;
        flow.passed = flow.passed.max(passed);
        if due {
            self.checkpoint(end_us, slot, out);
        }
        let slot_ref = &self.slots[slot as usize];
        let generation = slot_ref.generation;
        let Some(flow) = &slot_ref.flow else { return };
        let deadline = deadline(&self.config, flow);
        let queued_tick = flow.queued_tick;
        let client = judge::client_dir(&flow.key, &flow.stats, &self.config.home);
        if self.config.touched {
            out.touched.push(touched(flow, client, &self.config.home, new));
        }
        self.tell_contexts(slot, client, new);

        if new || Timers::tick_of(deadline) < queued_tick {
            let tick = self.timers.queue(deadline, slot, generation);
            if let Some(flow) = &mut self.slots[slot as usize].flow {
                flow.queued_tick = tick;
            }
        }
    }

    /// Why the flow in `slot` was over before the packets in `later` came, if it was.
    fn over_before(&self, slot: u32, later: &FlowStats) -> Option<EndReason> {
        let flow = self.slots[slot as usize].flow.as_ref()?;
        let gap = judge::first_us(later).saturating_sub(judge::last_us(&flow.stats));
        if judge::ended(&flow.key, &flow.stats) {
            if judge::opens(&flow.key, later) {
                return Some(EndReason::Reused);
            }
            return (gap >= self.config.linger_us).then_some(EndReason::Ended);
        }
        (gap >= self.config.idle_us).then_some(EndReason::Idle)
    }

    fn open(&mut self, offset_us: i64, hash: u64, key: &FlowKey, stats: &FlowStats, out: &mut EpochOutput) -> u32 {
        if self.index.len() >= self.config.max_flows {
            self.evict(out);
        }
        let flow = Flow {
            key: *key,
            id: self.next_id,
            stats: *stats,
            offset_us,
            next_active_us: judge::first_us(stats).saturating_add(self.config.active_us),
            recorded: false,
            passed: 0,
            queued_tick: u64::MAX,
            context: None,
            fresh: false,
            waits: None,
        };
        self.next_id = self.next_id.wrapping_add(1);
        self.counts.opened += 1;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(Slot { generation: 0, flow: None });
                (self.slots.len() - 1) as u32
            }
        };
        self.slots[slot as usize].flow = Some(flow);
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash =
            |&s: &u32| slots.get(s as usize).and_then(|s| s.flow.as_ref()).map_or(0, |f| self::hash(hasher, &f.key));
        self.index.insert_unique(hash, slot, rehash);
        if one_sided(stats) {
            // No more stale entries than live flows: memory follows those, however long the input is.
            if self.unanswered.len() > 2 * self.index.len().max(512) {
                let slots = &self.slots;
                self.unanswered.retain(|&(s, g)| slots[s as usize].generation == g);
            }
            self.unanswered.push_back((slot, self.slots[slot as usize].generation));
        }
        slot
    }

    fn evict(&mut self, out: &mut EpochOutput) {
        let mut victim = None;
        while let Some((slot, generation)) = self.unanswered.pop_front() {
            let s = &self.slots[slot as usize];
            if s.generation == generation && s.flow.as_ref().is_some_and(|f| one_sided(&f.stats)) {
                victim = Some(slot);
                break;
            }
        }
        while victim.is_none() {
            let Some((tick, slot, generation)) = self.timers.pop_first() else { return };
            let s = &self.slots[slot as usize];
            if s.generation == generation && s.flow.as_ref().is_some_and(|f| f.queued_tick == tick) {
                victim = Some(slot);
            }
        }
        if let Some(slot) = victim {
            self.counts.evicted += 1;
            out.evicted += 1;
            self.finish(slot, EndReason::Flushed, out);
        }
    }

    /// A deadline came up: ends the flow or waits on.
    fn look(&mut self, now_us: u64, tick: u64, slot: u32, generation: u32, out: &mut EpochOutput) {
        let s = &self.slots[slot as usize];
        let Some(flow) = s.flow.as_ref().filter(|f| s.generation == generation && f.queued_tick == tick) else {
            return;
        };
        let due = deadline(&self.config, flow);
        if due > now_us || Timers::tick_of(due) > tick {
            // Packets came meanwhile. In a silence whose epochs were left out it may come up in this very call: in its turn.
            let tick = self.timers.queue(due, slot, generation);
            if let Some(flow) = &mut self.slots[slot as usize].flow {
                flow.queued_tick = tick;
            }
            return;
        }
        let quiet_us = now_us.saturating_sub(judge::last_us(&flow.stats));
        let ended = judge::ended(&flow.key, &flow.stats) && quiet_us >= self.config.linger_us;
        self.finish(slot, if ended { EndReason::Ended } else { EndReason::Idle }, out);
    }

    fn checkpoint(&mut self, now_us: u64, slot: u32, out: &mut EpochOutput) {
        let Some(flow) = &mut self.slots[slot as usize].flow else { return };
        if now_us >= flow.next_active_us {
            flow.next_active_us = now_us.saturating_add(self.config.active_us);
        }
        if flow.fresh {
            self.early.push((out.records.len(), judge::first_us(&flow.stats)));
        }
        out.records.push(record(flow, &self.config.home, EndReason::Checkpoint));
        flow.recorded = true;
        self.counts.checkpoints += 1;
    }

    fn finish(&mut self, slot: u32, reason: EndReason, out: &mut EpochOutput) {
        let s = &mut self.slots[slot as usize];
        let Some(flow) = s.flow.take() else { return };
        s.generation = s.generation.wrapping_add(1);
        if let Ok(entry) = self.index.find_entry(hash(&self.hasher, &flow.key), |&other| other == slot) {
            entry.remove();
        }
        self.free.push(slot);
        self.counts.finished += 1;
        if flow.fresh {
            self.early.push((out.records.len(), judge::first_us(&flow.stats)));
        }
        out.records.push(record(&flow, &self.config.home, reason));
    }
}

/// Flows whose memory is asked for at a time.
const AHEAD: usize = 32;

#[inline]
fn hash(state: &RandomState, key: &FlowKey) -> u64 {
    let mut h = state.build_hasher();
    key.words().into_iter().for_each(|w| h.write_u128(w));
    h.finish()
}

fn one_sided(s: &FlowStats) -> bool {
    s.dir[0].is_empty() || s.dir[1].is_empty()
}

/// When the flow must be looked at next, monotonic µs.
fn deadline(config: &TableConfig, flow: &Flow) -> u64 {
    let wait = if judge::ended(&flow.key, &flow.stats) { config.linger_us } else { config.idle_us };
    judge::last_us(&flow.stats).saturating_add(wait.min(config.idle_us))
}

fn wall(us: u64, offset_us: i64) -> TimeUs {
    us.saturating_add_signed(offset_us)
}

/// Client-to-server first, times on the wall clock.
fn oriented(flow: &Flow, home: &Home) -> (FlowStats, usize) {
    let client = judge::client_dir(&flow.key, &flow.stats, home);
    let turn = |d: usize| {
        let mut dir = flow.stats.dir[d];
        if !dir.is_empty() {
            dir.first_us = wall(dir.first_us, flow.offset_us);
            dir.last_us = wall(dir.last_us, flow.offset_us);
        }
        if dir.syn_us != u64::MAX {
            dir.syn_us = wall(dir.syn_us, flow.offset_us);
        }
        dir
    };
    (FlowStats { dir: [turn(client), turn(1 - client)] }, client)
}

fn totals(d: &DirStats) -> Totals {
    Totals { packets: d.packets, bytes: d.bytes, payload: d.payload }
}

fn ends(key: &FlowKey, client: usize) -> ((Addr, u16), (Addr, u16)) {
    let a = (Addr(key.addr_a), key.port_a);
    let b = (Addr(key.addr_b), key.port_b);
    if client == 0 { (a, b) } else { (b, a) }
}

fn record(flow: &Flow, home: &Home, end_reason: EndReason) -> FlowRecord {
    let (stats, client) = oriented(flow, home);
    let ((client, client_port), (server, server_port)) = ends(&flow.key, client);
    FlowRecord {
        flow_id: flow.id,
        client,
        server,
        client_port,
        server_port,
        proto: flow.key.proto,
        vlan_outer: flow.key.vlan_outer,
        vlan_inner: flow.key.vlan_inner,
        start_us: judge::first_us(&stats),
        end_us: judge::last_us(&stats),
        fwd: totals(&stats.dir[0]),
        bwd: totals(&stats.dir[1]),
        state: judge::state(flow.key.proto, &stats.dir[0], &stats.dir[1]),
        end_reason,
        have: Have::ALL,
        direction: home.direction(client, server),
        proven: judge::proven(flow.key.proto, &stats.dir[0], &stats.dir[1]),
        first_record: !flow.recorded,
        context: flow.context,
        stats,
    }
}

fn begun(flow: &Flow, client: usize) -> Begun {
    let ((client, _), (server, server_port)) = ends(&flow.key, client);
    Begun { client, server, server_port, start_us: judge::first_us(&flow.stats) }
}

fn touched(flow: &Flow, client_dir: usize, home: &Home, new: bool) -> Touched {
    let [fwd, bwd] = [&flow.stats.dir[client_dir], &flow.stats.dir[1 - client_dir]];
    let ((client, client_port), (server, server_port)) = ends(&flow.key, client_dir);
    Touched {
        flow_id: flow.id,
        client,
        server,
        client_port,
        server_port,
        proto: flow.key.proto,
        direction: home.direction(client, server),
        start_us: wall(judge::first_us(&flow.stats), flow.offset_us),
        last_us: wall(judge::last_us(&flow.stats), flow.offset_us),
        fwd: totals(fwd),
        bwd: totals(bwd),
        state: judge::state(flow.key.proto, fwd, bwd),
        bare_syn: judge::bare_syn(flow.key.proto, fwd),
        proven: judge::proven(flow.key.proto, fwd, bwd),
        new,
    }
}

#[cfg(test)]
mod tests;
