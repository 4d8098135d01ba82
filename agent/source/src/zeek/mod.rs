//! Zeek's `conn.log`: tab-separated with `#fields`, JSON lines, and its fields as CSV.
//!
//! What is read, and how (<https://docs.zeek.org/en/master/logs/conn.html>):
//! - `orig_pkts`, `resp_pkts`, `orig_ip_bytes`, `resp_ip_bytes` are packets and IP-layer bytes; `orig_bytes` and
//!   `resp_bytes` are payload, which Zeek takes from sequence numbers.
//! - Times are exact: `ts`, and `ts` plus `duration`. Zeek gives no duration for a flow of one packet: it is 0 there, and
//!   missing where there were more.
//! - `conn_state` and `history` give the [state](state::state), and whether who opened the flow [was seen](state::sides).
//! - For ICMP the ports hold type and code as Community ID maps them: Zeek's convention is where that comes from.
//! - `label` and `detailed-label`, which the IoT-23 and Stratosphere sets add, become one label, `Malicious/C&C`.

use std::io::BufRead;

use crate::Options;
use crate::input::Format;
use crate::report::{Halt, Report};
use crate::sink::Sink;

mod conn;
mod csv;
mod json;
mod state;
mod tsv;

pub(crate) fn read(
    reader: &mut dyn BufRead,
    format: Format,
    options: &Options,
    report: &mut Report,
    sink: &mut dyn Sink,
) -> Result<(), Halt> {
    let rows = crate::text::rows::Rows::new(&options.home, report, sink);
    match format {
        Format::ZeekJson => json::read(reader, rows),
        Format::ZeekCsv => csv::read(reader, rows),
        _ => tsv::read(reader, rows),
    }
}

#[cfg(test)]
mod tests;
