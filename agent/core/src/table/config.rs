//! How long flows live, how many there may be, and what was done with them.

use crate::context::ContextCaps;
use crate::home::Home;

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
    /// Whether [`super::EpochOutput::touched`] is wanted: who makes no source windows does without.
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
