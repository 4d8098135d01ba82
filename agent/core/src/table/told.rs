//! What is told of a flow: its record, how it stands at an epoch's end, and when it began.

use weir_common::flow::{DirStats, FlowKey, FlowStats};

use super::judge;
use super::members::GONE;
use super::slots::Flow;
use crate::addr::Addr;
use crate::context::{Begun, Context};
use crate::home::Home;
use crate::record::{EndReason, FlowRecord, FlowState, Have, TimeUs, Totals};
use crate::role::Direction;

/// What one epoch gave.
#[derive(Clone, Debug, Default)]
pub struct EpochOutput {
    /// Ended flows and checkpoints, in the order in which they were decided.
    pub records: Vec<FlowRecord>,
    /// Every flow that had packets in this epoch, as it stands at the epoch's end. Empty unless [`super::TableConfig::touched`].
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
    /// Index of the interface that counts the client's packets; 0: not told.
    pub seen_at: u32,
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

pub(super) fn ends(key: &FlowKey, client: usize) -> ((Addr, u16), (Addr, u16)) {
    let a = (Addr(key.addr_a), key.port_a);
    let b = (Addr(key.addr_b), key.port_b);
    if client == 0 { (a, b) } else { (b, a) }
}

pub(super) fn record(flow: &Flow, context: Option<Context>, home: &Home, end_reason: EndReason) -> FlowRecord {
    let (stats, turn) = oriented(flow, home);
    let ((client, client_port), (server, server_port)) = ends(&flow.key, turn);
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
        context,
        seen_at: seen_at(flow, turn),
        stats,
    }
}

pub(super) fn begun(flow: &Flow, client: usize) -> Begun {
    let ((client, _), (server, server_port)) = ends(&flow.key, client);
    Begun { client, server, server_port, start_us: judge::first_us(&flow.stats) }
}

/// `client_dir`: the direction whose sender is the client.
pub(super) fn touched(flow: &Flow, client_dir: usize, home: &Home, new: bool) -> Touched {
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
        seen_at: seen_at(flow, client_dir),
    }
}

/// Where the client's packets are counted, or else the answers.
fn seen_at(flow: &Flow, client: usize) -> u32 {
    let owner = match flow.owners[client] {
        0 => flow.owners[1 - client],
        owner => owner,
    };
    owner & !GONE
}
