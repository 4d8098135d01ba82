//! CIC-IDS2017, as CICFlowMeter wrote it: 79 columns, 85 columns, and the corrected set of 91 columns.
//!
//! What is read, and how (G. Engelen, V. Rimmer and W. Joosen, "Troubleshooting an intrusion detection dataset", 2021, is
//! about what is wrong in the first two, and made the third):
//! - Lengths are payload only: IP-layer bytes are payload, transport headers and 20 bytes of IPv4 header per packet. The
//!   header of UDP is 8 bytes per packet whatever the column says: the first two sets repeat there what a TCP packet
//!   had before. They also count the padding of short frames as payload, 6 bytes to a bare ACK: so their payload is not
//!   given out as such, and their bytes are those between the Ethernet header and its checksum.
//! - The 79 columns have neither protocol nor time nor addresses. The protocol follows from the client's TCP window
//!   and the TCP flags: see [`told_protocol`].
//! - State comes from flags in the corrected set alone. The other two count flags wrongly (`URG` on plain ACKs) and cut a
//!   connection at its first FIN: there a flow is answered or not.
//! - Who opened a flow is told by the corrected set, where it saw a SYN, and for UDP and ICMP. In the others the rest of a
//!   cut connection often begins with the server.
//! - Times: see [`dates`]. The 85 columns have whole minutes.
//! - Rates, which may be `Infinity` or `NaN`, are not read. Labels keep their words; what is not ASCII in them, the broken
//!   dash of the web attacks, becomes `-`.

use std::io::BufRead;

use weir_common::flow::ip_proto;
use weir_core::community_id::icmp_ports;
use weir_core::record::{FlowRecord, FlowState, Have, Totals};

use crate::report::{Halt, Report, SourceError};
use crate::sink::Sink;
use crate::text::fields::Fields;
use crate::text::numbers;
use crate::text::rows::{Bad, Rows, answered, blank, each_row};
use crate::{Observation, Options};

mod columns;
mod dates;

use columns::{Column, Columns};

/// Bytes per packet.
const UDP_HEADER: u64 = 8;
const TCP_HEADER: std::ops::RangeInclusive<u64> = 20..=60;
const IPV4_HEADER: u64 = 20;
const IPV6_HEADER: u64 = 40;

pub(crate) fn is_header(row: &Fields<'_>) -> bool {
    Columns::of_header(row).is_flows()
}

pub(crate) fn read(
    reader: &mut dyn BufRead,
    options: &Options,
    report: &mut Report,
    sink: &mut dyn Sink,
) -> Result<(), Halt> {
    let mut rows = Rows::new(&options.home, report, sink);
    let mut columns: Option<Columns> = None;
    let mut scratch = Vec::new();
    each_row(reader, &mut rows, |rows, line, row| {
        // Files put together have their headers in the middle. Rows begin with a number or an address.
        if row.get(0).is_some_and(|f| f.first().is_some_and(u8::is_ascii_alphabetic)) && is_header(&row) {
            let found = Columns::of_header(&row);
            if let Some(lacks) = found.lacks() {
                let why = format!("has no column `{lacks}`, without which no flow can be made of CICFlowMeter's rows");
                return Err(SourceError::Unknown(why).into());
            }
            columns = Some(found);
            return Ok(());
        }
        let Some(columns) = &columns else {
            return Err(SourceError::Unknown("has no header with CICFlowMeter's columns".into()).into());
        };
        rows.report.read += 1;
        let made = if row.iter().all(<[u8]>::is_empty) {
            Err(Bad::new("empty row", b""))
        } else if row.len() != columns.width() {
            Err(Bad::new("row with another number of columns than the header", line.text))
        } else {
            record(&row, columns)
        };
        match made {
            Ok((record, exact)) => {
                if !exact {
                    rows.report.warn("times are in whole minutes, as this set has them");
                }
                let label = columns.get(&row, Column::Label);
                let label = if label.is_ascii() {
                    rows.labels.get(label)
                } else {
                    plain(label, &mut scratch);
                    rows.labels.get(&scratch)
                };
                rows.hand_on(Observation { label, ..record.into() })
            }
            Err(bad) => {
                rows.leave_out(line, bad);
                Ok(())
            }
        }
    })
}

/// `label` with `-` for each run of bytes that are not ASCII: the dash was 0x96 once, and was broken in several ways since.
fn plain(label: &[u8], out: &mut Vec<u8>) {
    out.clear();
    for &b in label {
        if b.is_ascii() {
            out.push(b);
        } else if out.last() != Some(&b'-') {
            out.push(b'-');
        }
    }
}

/// The record, and whether its time is better than to the minute (or missing).
fn record<'a>(row: &Fields<'a>, columns: &Columns) -> Result<(FlowRecord, bool), Bad<'a>> {
    let get = |column: Column| columns.get(row, column);
    let number =
        |column: Column, reason: &'static str| numbers::count(get(column)).ok_or_else(|| Bad::new(reason, get(column)));
    let mut r = blank();
    let mut have = Have::PACKETS.with(Have::PROTO).with(Have::DURATION).with(Have::STATE);

    r.fwd.packets = number(Column::FwdPackets, "packets that are no number")?;
    r.bwd.packets = number(Column::BwdPackets, "packets that are no number")?;
    let (fwd, bwd) = (r.fwd.packets, r.bwd.packets);
    let duration_us = number(Column::Duration, "duration that is negative or no number")?;

    let (src, dst) = (get(Column::SrcIp), get(Column::DstIp));
    if !src.is_empty() && !dst.is_empty() {
        r.client = numbers::addr(src).ok_or(Bad::new("address that is none", src))?;
        r.server = numbers::addr(dst).ok_or(Bad::new("address that is none", dst))?;
        have = have.with(Have::ADDRESSES);
    }
    for (column, what) in [(Column::SrcPort, Have::CLIENT_PORT), (Column::DstPort, Have::SERVER_PORT)] {
        let text = get(column);
        if !text.is_empty() {
            let port = numbers::port(text).ok_or(Bad::new("port that is none", text))?;
            *if what == Have::CLIENT_PORT { &mut r.client_port } else { &mut r.server_port } = port;
            have = have.with(what);
        }
    }
    r.proto = protocol(row, columns, r.server_port)?;

    let totals = |packets, payload, header: u64, ip: u64| Totals {
        packets,
        payload,
        bytes: payload.saturating_add(header).saturating_add(packets.saturating_mul(ip)),
    };
    let ip = if have.has(Have::ADDRESSES) && !r.client.is_v4() { IPV6_HEADER } else { IPV4_HEADER };
    if let ip_proto::TCP | ip_proto::UDP = r.proto {
        let fwd_payload = number(Column::FwdPayload, "payload that is negative or no number")?;
        let bwd_payload = number(Column::BwdPayload, "payload that is negative or no number")?;
        let header = |packets: u64, column: Column| {
            if r.proto == ip_proto::UDP {
                return Ok(packets.saturating_mul(UDP_HEADER));
            }
            // 16-bit sums overflow in all three sets.
            numbers::count(get(column))
                .filter(|&h| {
                    h >= packets.saturating_mul(*TCP_HEADER.start()) && h <= packets.saturating_mul(*TCP_HEADER.end())
                })
                .ok_or_else(|| Bad::new("TCP headers of a length that cannot be", get(column)))
        };
        r.fwd = totals(fwd, fwd_payload, header(fwd, Column::FwdHeader)?, ip);
        r.bwd = totals(bwd, bwd_payload, header(bwd, Column::BwdHeader)?, ip);
        have = have.with(Have::BYTES);
        if columns.corrected() {
            have = have.with(Have::PAYLOAD);
        }
    } else if let ip_proto::ICMP | ip_proto::ICMPV6 = r.proto {
        // CICFlowMeter gives ICMP no lengths at all, and type and code in columns of their own.
        have = have.without(Have::CLIENT_PORT).without(Have::SERVER_PORT);
        (r.client_port, r.server_port) = (0, 0);
        let byte = |column| numbers::count(get(column)).and_then(|v| u8::try_from(v).ok());
        if let Some((kind, code)) = byte(Column::IcmpType).zip(byte(Column::IcmpCode)) {
            (r.client_port, r.server_port) = icmp_ports(r.proto, kind, code);
            have = have.with(Have::CLIENT_PORT).with(Have::SERVER_PORT);
        }
    }

    let mut exact = true;
    let text = get(Column::Timestamp);
    if !text.is_empty() {
        let time = dates::read(text).ok_or(Bad::new("time that is none", text))?;
        r.start_us = time.us;
        exact = time.seconds;
        have = have.with(Have::TIME);
    }
    r.end_us = r.start_us.saturating_add(duration_us);

    r.state = answered(fwd, bwd);
    if columns.corrected() {
        let flags = |column| numbers::count(get(column)).unwrap_or(0);
        if r.proto == ip_proto::TCP {
            let (fwd_rst, bwd_rst) = (flags(Column::FwdRst), flags(Column::BwdRst));
            r.state = match () {
                () if bwd == 0 => FlowState::Unanswered,
                () if bwd_rst == bwd => FlowState::Rejected,
                // One from each side, as far as a sum of both can tell.
                () if flags(Column::Fin) >= 2 => FlowState::Closed,
                () if fwd_rst > 0 || bwd_rst > 0 => FlowState::Reset,
                () => answered(fwd, bwd),
            };
        }
        if r.proto != ip_proto::TCP || flags(Column::Syn) > 0 {
            have = have.with(Have::SIDES);
        }
    }
    r.have = have;
    Ok((r, exact))
}

fn protocol<'a>(row: &Fields<'a>, columns: &Columns, server_port: u16) -> Result<u8, Bad<'a>> {
    let told = columns.get(row, Column::Protocol);
    if told.is_empty() {
        return told_protocol(row, columns, server_port)
            .ok_or(Bad::new("row without a protocol that its columns tell", b""));
    }
    match numbers::count(told).and_then(|n| u8::try_from(n).ok()) {
        // CICFlowMeter's word for ARP and the like: its addresses there are parts of other headers.
        Some(0) => Err(Bad::new("flow that is not IP", told)),
        Some(n) => Ok(n),
        None => Err(Bad::new("protocol that is none", told)),
    }
}

/// The protocol where no column names it.
///
/// CICFlowMeter gives ports to TCP and UDP alone. `Init_Win_bytes_forward` is -1 unless the client's first packet was
/// TCP, and flags are counted only there: on the 85 columns, which name the protocol, the two together are right in each
/// row. The length of headers per packet is not to be gone by (8 would be UDP, 20 and more TCP): in these sets UDP flows
/// mostly have 20 or 32, what a TCP packet before them had.
fn told_protocol(row: &Fields<'_>, columns: &Columns, server_port: u16) -> Option<u8> {
    const FLAGS: [Column; 6] = [Column::Fin, Column::Syn, Column::Rst, Column::Psh, Column::Ack, Column::Urg];
    let flagged = FLAGS.iter().any(|&c| numbers::count(columns.get(row, c)).is_some_and(|n| n > 0));
    match (columns.get(row, Column::Window), flagged) {
        (b"-1" | b"-1.0", false) if server_port != 0 => Some(ip_proto::UDP),
        (window, true) if numbers::count(window).is_some() => Some(ip_proto::TCP),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
