//! UNSW-NB15: the partition of 45 columns with a header, and the raw set of 49 columns, with a header or without.
//!
//! What is read, and how:
//! - The set was counted by Argus. `sbytes` and `dbytes` are IP-layer bytes: TCP flows in it average down to 44 bytes per
//!   packet, where a frame has 54 at least, and OSPF hellos have 64, as in IP, not 78.
//! - `dur` is exact to the microsecond. `Stime` (raw set only) is in whole seconds.
//! - `state` is Argus's, see [`state`]. Who opened a flow is known where the set-up time of TCP was measured (`synack`) or
//!   nothing came back, and for other IP protocols by who spoke first.
//! - ICMP flows have no type and code: Argus's fields hold something else in the place of ports.
//! - `attack_cat` becomes the label, without blanks, `Backdoors` as `Backdoor`; `Normal` where it is empty and `label` is 0.
//!   The column `label` (0, 1) stands in only where there is no `attack_cat`.

use std::io::BufRead;

use weir_common::flow::ip_proto;
use weir_core::record::{FlowRecord, FlowState, Have, Totals};

use crate::report::{Halt, Report, SourceError};
use crate::sink::Sink;
use crate::text::fields::Fields;
use crate::text::rows::{Bad, Rows, answered, blank, each_row};
use crate::text::{numbers, protocols};
use crate::{Observation, Options};

/// Columns that are read, by name in lower case, with their place in the raw set of 49.
const COLUMNS: [(&str, usize); 15] = [
    ("srcip", 0),
    ("sport", 1),
    ("dstip", 2),
    ("dsport", 3),
    ("proto", 4),
    ("state", 5),
    ("dur", 6),
    ("sbytes", 7),
    ("dbytes", 8),
    ("spkts", 16),
    ("dpkts", 17),
    ("stime", 28),
    ("synack", 33),
    ("attack_cat", 47),
    ("label", 48),
];

const RAW_WIDTH: usize = 49;

/// Where each column that is read lies.
struct Columns {
    width: usize,
    at: [Option<usize>; COLUMNS.len()],
}

/// `name` is one of [`COLUMNS`].
const fn index(name: &str) -> usize {
    let mut i = 0;
    while i < COLUMNS.len() {
        if equal(COLUMNS[i].0, name) {
            return i;
        }
        i += 1;
    }
    panic!("no such column")
}

const fn equal(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

impl Columns {
    fn of_header(row: &Fields<'_>) -> Self {
        let at = COLUMNS.map(|(name, _)| row.iter().position(|n| n.eq_ignore_ascii_case(name.as_bytes())));
        Self { width: row.len(), at }
    }
    fn raw() -> Self {
        Self { width: RAW_WIDTH, at: COLUMNS.map(|(_, at)| Some(at)) }
    }
    fn complete(&self) -> bool {
        const NEEDED: [usize; 6] =
            [index("proto"), index("dur"), index("spkts"), index("dpkts"), index("sbytes"), index("dbytes")];
        NEEDED.iter().all(|&c| self.at[c].is_some())
    }
}

pub(crate) fn is_header(row: &Fields<'_>) -> bool {
    Columns::of_header(row).complete()
}

/// A row of the raw set, which comes without a header: addresses at both ends, and a label of 0 or 1.
pub(crate) fn is_raw_row(row: &Fields<'_>) -> bool {
    let is = |i: usize, what: fn(&[u8]) -> bool| row.get(i).is_some_and(what);
    row.len() == RAW_WIDTH
        && is(0, |v| numbers::addr(v).is_some())
        && is(2, |v| numbers::addr(v).is_some())
        && is(7, |v| numbers::count(v).is_some())
        && is(48, |v| matches!(v, b"0" | b"1"))
}

pub(crate) fn read(
    reader: &mut dyn BufRead,
    options: &Options,
    report: &mut Report,
    sink: &mut dyn Sink,
) -> Result<(), Halt> {
    let mut rows = Rows::new(&options.home, report, sink);
    let mut columns: Option<Columns> = None;
    each_row(reader, &mut rows, |rows, line, row| {
        // Rows begin with a number or an address.
        if row.get(0).is_some_and(|f| f.first().is_some_and(u8::is_ascii_alphabetic)) && is_header(&row) {
            columns = Some(Columns::of_header(&row));
            return Ok(());
        }
        if columns.is_none() && is_raw_row(&row) {
            columns = Some(Columns::raw());
        }
        let Some(columns) = &columns else {
            let why = "has neither a header with UNSW-NB15's columns nor rows of its raw set (49 columns)";
            return Err(SourceError::Unknown(why.into()).into());
        };
        rows.report.read += 1;
        let made = if row.len() == columns.width {
            record(&row, columns)
        } else {
            Err(Bad::new("row with another number of columns than the others", line.text))
        };
        match made {
            Ok(record) => {
                let label = label(&row, columns).and_then(|l| rows.labels.get(l));
                rows.hand_on(Observation { label, ..record.into() })
            }
            Err(bad) => {
                rows.leave_out(line, bad);
                Ok(())
            }
        }
    })
}

fn record<'a>(row: &Fields<'a>, columns: &Columns) -> Result<FlowRecord, Bad<'a>> {
    let get = |column: usize| columns.at[column].and_then(|at| row.get(at)).unwrap_or_default();
    let number =
        |column: usize, reason: &'static str| numbers::count(get(column)).ok_or_else(|| Bad::new(reason, get(column)));
    let name = get(const { index("proto") });
    if ["arp", "rarp", "llc", "stp-llc"].iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes())) {
        return Err(Bad::new("flow that is not IP", name));
    }
    let mut r = blank();
    let mut have = Have::PACKETS.with(Have::BYTES).with(Have::DURATION).with(Have::STATE);
    // Argus says `unas` for numbers that belong to nobody, and `any` for several: then which one is not told.
    if let Some(proto) = protocols::number(name) {
        r.proto = proto;
        have = have.with(Have::PROTO);
    }
    let packets = "packets that are no number";
    let bytes = "bytes that are no number";
    let fwd = number(const { index("spkts") }, packets)?;
    let bwd = number(const { index("dpkts") }, packets)?;
    r.fwd = Totals { packets: fwd, bytes: number(const { index("sbytes") }, bytes)?, payload: 0 };
    r.bwd = Totals { packets: bwd, bytes: number(const { index("dbytes") }, bytes)?, payload: 0 };
    let duration = get(const { index("dur") });
    let duration_us = numbers::micros(duration).ok_or(Bad::new("duration that is no number of seconds", duration))?;

    let (src, dst) = (get(const { index("srcip") }), get(const { index("dstip") }));
    if !src.is_empty() && !dst.is_empty() {
        r.client = numbers::addr(src).ok_or(Bad::new("address that is none", src))?;
        r.server = numbers::addr(dst).ok_or(Bad::new("address that is none", dst))?;
        have = have.with(Have::ADDRESSES);
    }
    if matches!(r.proto, ip_proto::TCP | ip_proto::UDP) {
        for (column, what) in
            [(const { index("sport") }, Have::CLIENT_PORT), (const { index("dsport") }, Have::SERVER_PORT)]
        {
            // `-` and hexadecimal numbers are about; they tell no port.
            if let Some(port) = numbers::port(get(column)) {
                *if what == Have::CLIENT_PORT { &mut r.client_port } else { &mut r.server_port } = port;
                have = have.with(what);
            }
        }
    }
    let start = get(const { index("stime") });
    if !start.is_empty() {
        r.start_us = numbers::micros(start).ok_or(Bad::new("time that is none", start))?;
        have = have.with(Have::TIME);
    }
    r.end_us = r.start_us.saturating_add(duration_us);
    r.state = state(r.proto, fwd, bwd, get(const { index("state") }));
    let set_up = numbers::micros(get(const { index("synack") })).is_some_and(|us| us > 0);
    let known = match r.proto {
        _ if !have.has(Have::PROTO) => false,
        ip_proto::TCP => set_up || bwd == 0,
        _ => true,
    };
    r.have = if known { have.with(Have::SIDES) } else { have };
    Ok(r)
}

/// `FIN` and `CLO` are closed connections, `RST` reset ones: rejected where one packet met one answer. The rest (`ACC`,
/// `CON`, `INT`, `REQ`, `ECO`, `URH`, ...) says no more than the packets do.
fn state(proto: u8, fwd: u64, bwd: u64, state: &[u8]) -> FlowState {
    if proto != ip_proto::TCP || bwd == 0 {
        return answered(fwd, bwd);
    }
    match state {
        b"FIN" | b"CLO" => FlowState::Closed,
        b"RST" if fwd <= 1 && bwd == 1 => FlowState::Rejected,
        b"RST" => FlowState::Reset,
        _ => answered(fwd, bwd),
    }
}

fn label<'a>(row: &Fields<'a>, columns: &Columns) -> Option<&'a [u8]> {
    let get = |column: usize| columns.at[column].and_then(|at| row.get(at));
    let attack = get(const { index("label") });
    match (get(const { index("attack_cat") }), attack) {
        (Some(b"Backdoors"), _) => Some(b"Backdoor"),
        (Some(name), _) if !name.is_empty() && name != b"-" => Some(name),
        (_, Some(b"0")) => Some(b"Normal"),
        (_, Some(b"1")) => Some(b"Attack"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
