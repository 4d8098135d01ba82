//! Flow records: what the flow table hands on.

use serde::Serialize;

use crate::addr::Addr;
use crate::role::Direction;

/// Microseconds since the Unix epoch (live: wall clock; offline: the capture's clock).
pub type TimeUs = u64;

/// Why a record was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// FIN from both sides, or RST, and the linger after it.
    Ended,
    /// Nothing seen for the idle timeout.
    Idle,
    /// Still alive: the active timeout passed, or the 8th, 64th or 512th packet was seen.
    Checkpoint,
    /// The same 5-tuple was opened anew.
    Reused,
    /// The table was full or the agent stopped.
    Flushed,
}

/// How far the conversation got. The numeric value is the feature `end_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowState {
    /// Nothing came back.
    Unanswered = 0,
    /// Packets both ways.
    Established = 1,
    /// FIN both ways.
    Closed = 2,
    /// Reset after an answer.
    Reset = 3,
    /// The opening packet was answered by RST.
    Rejected = 4,
}

/// One side's totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub packets: u64,
    pub bytes: u64,
    pub payload: u64,
}

/// One flow, seen from its client. Cumulative: a checkpoint holds everything since the flow began.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowRecord {
    /// Stable over the checkpoints of one flow.
    pub flow_id: u64,
    pub client: Addr,
    pub server: Addr,
    pub client_port: u16,
    pub server_port: u16,
    pub proto: u8,
    pub vlan_outer: u16,
    pub vlan_inner: u16,
    pub start_us: TimeUs,
    pub end_us: TimeUs,
    pub fwd: Totals,
    pub bwd: Totals,
    /// Everything else that was counted, `dir[0]` = client to server.
    pub stats: weir_common::flow::FlowStats,
    pub state: FlowState,
    pub end_reason: EndReason,
    pub direction: Direction,
    /// The client acknowledged our SYN-ACK's sequence number plus one.
    pub proven: bool,
    /// First record of this flow (a later one repeats its flow).
    pub first_record: bool,
}

impl FlowRecord {
    /// Duration in microseconds.
    pub fn duration_us(&self) -> u64 {
        self.end_us.saturating_sub(self.start_us)
    }
}
