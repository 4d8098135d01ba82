//! Suricata's EVE: the events `flow` and `netflow`, one JSON object per line.
//!
//! What is read, and how (<https://docs.suricata.io/en/latest/output/eve/eve-json-format.html>):
//! - Suricata counts whole packets as they were captured (`GET_PKT_LEN` in its `flow.c`), that is frames. IP-layer bytes are
//!   taken to be those less an Ethernet header of 14 bytes and 4 per VLAN tag for each packet. The file does not say what
//!   link it was: on one without Ethernet headers this takes off too much, and the padding of short frames stays in. So the
//!   report has a warning; and bytes that cannot hold such frames are missing.
//! - `netflow` events tell one direction each. Suricata writes that of the client first, and behind it that of the server
//!   if there was any: the two are [paired](pair) by `flow_id` and addresses.
//! - State comes from the TCP flags of each side (`tcp_flags_ts`, `tcp_flags_tc`), or else from `state`. Who opened a TCP flow is
//!   known where one of them has a SYN; of others the sender of the first packet did.
//! - Payload is not told.
//!
//! All other events are counted and left out.

use std::borrow::Cow;
use std::io::BufRead;

use serde::Deserialize;
use weir_core::record::Have;

use crate::Options;
use crate::report::{Halt, Report};
use crate::sink::Sink;
use crate::text::json::from_line;
use crate::text::lines::{Line, each_line};
use crate::text::rows::{Bad, Names, Rows};

mod event;
mod pair;

use event::Event;
use pair::Pairs;

pub(crate) fn read(
    reader: &mut dyn BufRead,
    options: &Options,
    report: &mut Report,
    sink: &mut dyn Sink,
) -> Result<(), Halt> {
    let mut rows = Rows::new(&options.home, report, sink);
    let mut interfaces = Names::default();
    let mut pairs = Pairs::default();
    let mut said = Said::default();
    each_line(reader, |line| {
        if !rows.readable(&line) {
            return Ok(());
        }
        rows.report.read += 1;
        match Event::plain(line.text).map_or_else(|| from_line(line.text), Ok) {
            Ok(event) => take(&event, &line, &mut rows, &mut interfaces, &mut pairs, &mut said),
            Err(e) => {
                // Another event may have other things by the same names.
                let kind = serde_json::from_slice::<Kind<'_>>(line.text).ok().and_then(|k| left_out(&k.event_type));
                let reason =
                    kind.unwrap_or(if e.is_data() { "event that cannot be read" } else { "line that is no JSON" });
                rows.leave_out(&line, Bad::new(reason, e.to_string().as_bytes()));
                Ok(())
            }
        }
    })?;
    while let Some(flow) = pairs.next(true) {
        rows.hand_on(flow)?;
    }
    Ok(())
}

/// Which warnings were given.
#[derive(Default)]
struct Said {
    frames: bool,
    short: bool,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    event_type: Cow<'a, str>,
}

fn take(
    event: &Event<'_>,
    line: &Line<'_>,
    rows: &mut Rows<'_>,
    interfaces: &mut Names,
    pairs: &mut Pairs,
    said: &mut Said,
) -> Result<(), Halt> {
    if let Some(reason) = left_out(event.kind()) {
        // No bad row: nothing to warn of.
        rows.report.leave_out(reason);
        return Ok(());
    }
    let mut made = match event.observation() {
        Ok(made) => made,
        Err(bad) => {
            rows.leave_out(line, bad);
            return Ok(());
        }
    };
    if made.record.have.has(Have::BYTES) {
        if !std::mem::replace(&mut said.frames, true) {
            rows.report.warn(
                "Suricata counts the bytes of whole frames: 14 for an Ethernet header and 4 for each VLAN tag were taken off per packet",
            );
        }
    } else if made.record.have.has(Have::PACKETS) && !std::mem::replace(&mut said.short, true) {
        rows.report.warn("some flows have fewer bytes than Ethernet frames of their packets: their bytes are missing");
    }
    made.seen_at = event.interface().and_then(|name| interfaces.get(name.as_bytes()));
    if event.kind() == "netflow" {
        pairs.half(event.flow_id(), made);
    } else if pairs.is_empty() {
        return rows.hand_on(made);
    } else {
        pairs.whole(made);
    }
    while let Some(flow) = pairs.next(false) {
        rows.hand_on(flow)?;
    }
    Ok(())
}

/// Why an event is left out; `None` for the two that tell of flows.
fn left_out(event_type: &str) -> Option<&'static str> {
    Some(match event_type {
        "flow" | "netflow" => return None,
        "alert" => "event of type alert",
        "anomaly" => "event of type anomaly",
        "dhcp" => "event of type dhcp",
        "dns" => "event of type dns",
        "drop" => "event of type drop",
        "fileinfo" => "event of type fileinfo",
        "http" => "event of type http",
        "smb" => "event of type smb",
        "ssh" => "event of type ssh",
        "stats" => "event of type stats",
        "tls" => "event of type tls",
        _ => "event of another type",
    })
}

#[cfg(test)]
mod tests;
