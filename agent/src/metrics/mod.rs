//! Metrics for Prometheus, at an address of their own.
//!
//! One table ([`table::ALL`]) knows every metric; `deploy/METRICS.md` is held against it. A scrape sends one command into the event loop,
//! which costs it what `weir status` does; the text is made by the task that serves it. However many scrape, the loop is
//! asked only so often. No label holds an address, and the number of series is bounded by the table.

mod histogram;
mod process;
mod reading;
mod samples;
mod serve;
mod table;
mod tally;
mod text;

pub use histogram::{Histogram, PValues};
pub use reading::{Attachments, Delivery, Entries, Reading, SinkUse, verdict};
pub use serve::Server;
pub use tally::{ApiCalls, CallOutcome, Tally};

#[cfg(test)]
mod tests;
