//! NetFlow v5 (Cisco), v9 (RFC 3954) and IPFIX (RFC 7011): flows that routers, firewalls and probes have counted.
//!
//! ```text
//! datagram -> Decoder (templates, samplers, numbering per exporter) -> Pairer -> observe -> Observation
//! ```
//! [`Decoder`] and [`Pairer`] are pure; [`Collector`] is both, for files, captures and sockets alike; [`Listener`] gives it a
//! socket and a thread.
//!
//! The decoder is our own. The crate `netflow_parser` (1.0.6) gives up a whole v9 datagram at fill bytes or fields of
//! variable length and cannot read two of the public IPFIX cases at all, bounds its memory by counts alone, and expires
//! templates by the wall clock, which means nothing in a capture.
//!
//! What is assumed, where the formats leave it open:
//! - Templates belong to the exporter's address and port and its observation domain (source id, engine).
//! - A template withdrawal is honoured over UDP too.
//! - Counts of whole packets and bytes since the last report go before counts since the flow began, those before a middlebox
//!   before those behind it. Counts "out" of one record are the same packets where they leave, not the other direction's.
//!   Firewalls' initiator and responder octets are payload (as IANA defines them), not IP bytes.
//! - A router that reports each packet twice, where it comes in and where it goes out, gives two flows.
//!
//! Records are never proven: whoever can send a datagram can make them up.

mod bytes;
mod clocks;
mod collector;
mod decoder;
mod exporters;
mod field;
mod listen;
mod observe;
mod pair;
mod read;
mod record;
mod sampling;
mod sequence;
mod template;
mod v5;
mod waiting;

pub use clocks::Clocks;
pub use collector::Collector;
pub use decoder::{Counts, Decoder};
pub use listen::{ListenOptions, Listener, Tally};
pub use pair::{Paired, Pairer};
pub(crate) use read::read;
pub use record::{ExportedFlow, Opener, Way};

/// Of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Version {
    V5,
    V9,
    Ipfix,
}

/// Bounds on what is remembered. What goes beyond is counted and given up.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Exporters by address and port.
    pub exporters: usize,
    pub domains_per_exporter: usize,
    /// Over all its domains.
    pub templates_per_exporter: usize,
    pub fields_per_template: usize,
    /// A template not announced for this long is forgotten, µs.
    pub template_lifetime_us: u64,
    /// Memory for everything that is known of exporters, bytes.
    pub state_bytes: usize,
    /// Memory for data sets that wait for their templates, bytes: in all, and of one exporter.
    pub waiting_bytes: usize,
    pub waiting_bytes_per_exporter: usize,
    /// How long they wait, µs.
    pub waiting_us: u64,
    /// Records of one direction that wait for the other.
    pub unpaired: usize,
    /// How long they wait, µs of arrival.
    pub pair_wait_us: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            exporters: 1024,
            domains_per_exporter: 256,
            templates_per_exporter: 2048,
            fields_per_template: 1024,
            template_lifetime_us: 24 * 3600 * 1_000_000,
            state_bytes: 32 << 20,
            waiting_bytes: 8 << 20,
            waiting_bytes_per_exporter: 1 << 20,
            waiting_us: 300 * 1_000_000,
            unpaired: 1 << 18,
            pair_wait_us: 30 * 1_000_000,
        }
    }
}

#[cfg(test)]
mod tests;
