//! Every source of flows beside the kernel: captures, Zeek, NetFlow and IPFIX, EVE, the public data sets, and Weir's own
//! files. A source reads bytes and hands on either epochs of packets, as the kernel drains them, or flows that another
//! tool counted. Everything from there on is the code that live traffic takes.
//!
//! ```text
//! path or stdin -> input (decompress, recognise) -> one module per format -> Sink
//!                                                                            `- Flows: epochs -> FlowTable -> records
//! ```
#![forbid(unsafe_code)]

mod cic;
mod columns;
mod eve;
pub mod flows;
pub mod input;
pub mod label;
pub mod netflow;
pub mod own;
pub mod pcap;
pub mod profiles;
mod recognise;
pub mod report;
pub mod sink;
#[cfg(test)]
mod testkit;
mod text;
mod unsw;
pub mod write;
mod zeek;

pub use flows::{Flows, Taker};
pub use input::{Format, Input};
pub use report::{Report, SourceError};
pub use sink::{Observation, Sink, Stop};
pub use weir_common::flow::{FlowKey, FlowStats};

/// How sources are read.
#[derive(Clone, Debug)]
pub struct Options {
    /// Take the inner flow of tunnels instead of the outer one.
    pub decap: bool,
    /// Length of an epoch of event time, µs.
    pub epoch_us: u64,
    /// Format to read as, where it cannot be recognised.
    pub format: Option<Format>,
    /// The networks that are protected: who is client of what.
    pub home: weir_core::home::Home,
}

impl Default for Options {
    fn default() -> Self {
        Self { decap: false, epoch_us: 1_000_000, format: None, home: weir_core::home::Home::default() }
    }
}
