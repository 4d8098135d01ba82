//! Flow records: what the flow table hands on.

use serde::Serialize;

use crate::addr::Addr;
use crate::context::Context;
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
    /// Another tool's record: why it ended the flow there is its own affair.
    Exported,
}

impl EndReason {
    pub const NAMES: [(&'static str, EndReason); 6] = [
        ("ended", Self::Ended),
        ("idle", Self::Idle),
        ("checkpoint", Self::Checkpoint),
        ("reused", Self::Reused),
        ("flushed", Self::Flushed),
        ("exported", Self::Exported),
    ];

    /// As JSON has it.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, r)| *r == self).map_or("?", |(n, _)| n)
    }
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|(_, r)| *r)
    }
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

impl FlowState {
    pub const NAMES: [(&'static str, FlowState); 5] = [
        ("unanswered", Self::Unanswered),
        ("established", Self::Established),
        ("closed", Self::Closed),
        ("reset", Self::Reset),
        ("rejected", Self::Rejected),
    ];

    /// As JSON has it.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, s)| *s == self).map_or("?", |(n, _)| n)
    }
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|(_, s)| *s)
    }
}

/// One side's totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub packets: u64,
    pub bytes: u64,
    pub payload: u64,
}

/// What the origin of a record could tell. What it could not is 0 in the record and a missing value as a feature.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Have(u16);

impl Have {
    /// Both addresses.
    pub const ADDRESSES: Have = Have(1 << 0);
    pub const CLIENT_PORT: Have = Have(1 << 1);
    pub const SERVER_PORT: Have = Have(1 << 2);
    pub const PROTO: Have = Have(1 << 3);
    /// `start_us` and `end_us` are times of day. Without, only their difference means something.
    pub const TIME: Have = Have(1 << 4);
    /// `end_us - start_us`.
    pub const DURATION: Have = Have(1 << 5);
    /// Packets of both directions.
    pub const PACKETS: Have = Have(1 << 6);
    /// IP-layer bytes of both directions.
    pub const BYTES: Have = Have(1 << 7);
    /// Layer-4 payload bytes of both directions.
    pub const PAYLOAD: Have = Have(1 << 8);
    pub const STATE: Have = Have(1 << 9);
    /// `stats`: the packets themselves were seen.
    pub const STATS: Have = Have(1 << 10);
    /// Who opened the flow was seen or told, not guessed.
    pub const SIDES: Have = Have(1 << 11);

    pub const NONE: Have = Have(0);
    /// Everything: the packets were seen.
    pub const ALL: Have = Have((1 << 12) - 1);

    const NAMES: [(&'static str, Have); 12] = [
        ("addresses", Self::ADDRESSES),
        ("client port", Self::CLIENT_PORT),
        ("server port", Self::SERVER_PORT),
        ("protocol", Self::PROTO),
        ("time", Self::TIME),
        ("duration", Self::DURATION),
        ("packets", Self::PACKETS),
        ("bytes", Self::BYTES),
        ("payload", Self::PAYLOAD),
        ("state", Self::STATE),
        ("packet statistics", Self::STATS),
        ("client and server", Self::SIDES),
    ];

    pub const fn with(self, other: Have) -> Have {
        Have(self.0 | other.0)
    }
    pub const fn without(self, other: Have) -> Have {
        Have(self.0 & !other.0)
    }
    pub const fn has(self, all: Have) -> bool {
        self.0 & all.0 == all.0
    }
    pub const fn bits(self) -> u16 {
        self.0
    }
    /// Bits that nothing is known of are left out.
    pub const fn from_bits(bits: u16) -> Have {
        Have(bits & Self::ALL.0)
    }
    /// The parts, in words.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(_, h)| self.has(*h)).map(|(n, _)| n)
    }
}

impl std::fmt::Debug for Have {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
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
    /// What the origin of the record could tell.
    pub have: Have,
    pub direction: Direction,
    /// The client acknowledged our SYN-ACK's sequence number plus one.
    pub proven: bool,
    /// First record of this flow (a later one repeats its flow).
    pub first_record: bool,
    /// What else its client began when the flow last had packets; `None` where nobody watched.
    pub context: Option<Context>,
    /// Index of the interface that counted the client's packets; 0: not told.
    pub seen_at: u32,
}

impl FlowRecord {
    /// Duration in microseconds.
    pub fn duration_us(&self) -> u64 {
        self.end_us.saturating_sub(self.start_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_json_and_read_back() {
        for (name, r) in EndReason::NAMES {
            assert_eq!((r.name(), EndReason::from_name(name)), (name, Some(r)));
            assert_eq!(serde_json::to_value(r).unwrap(), name);
        }
        for (name, s) in FlowState::NAMES {
            assert_eq!((s.name(), FlowState::from_name(name)), (name, Some(s)));
            assert_eq!(serde_json::to_value(s).unwrap(), name);
        }
        assert_eq!((EndReason::from_name("?"), FlowState::from_name("")), (None, None));
    }
}
