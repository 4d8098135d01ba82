//! The table for people. Widths are settled by the first rows; a later cell that is wider shifts its own line alone.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};

use weir_core::record::Have;
use weir_core::render::{Rfc3339, proto_name, score};

use super::{Row, Shape, Writer};
use crate::columns::reasons;

/// Rows that settle the widths.
const SAMPLE: usize = 500;
/// Longest label and reason shown.
const MAX_TEXT: usize = 300;

struct Column {
    head: &'static str,
    /// Figures are aligned to the right.
    right: bool,
    cell: fn(&Row<'_>) -> String,
}

const fn left(head: &'static str, cell: fn(&Row<'_>) -> String) -> Column {
    Column { head, right: false, cell }
}
const fn right(head: &'static str, cell: fn(&Row<'_>) -> String) -> Column {
    Column { head, right: true, cell }
}

const TIMESTAMP: Column = left("Timestamp", |r| told(r, Have::TIME, || Rfc3339(r.flow.record.start_us).to_string()));
const SRC_IP: Column = left("Src IP", |r| told(r, Have::ADDRESSES, || r.flow.record.client.to_string()));
const DST_IP: Column = left("Dst IP", |r| told(r, Have::ADDRESSES, || r.flow.record.server.to_string()));
const PROTOCOL: Column = left("Protocol", |r| told(r, Have::PROTO, || proto_name(r.flow.record.proto).into()));

const FLOWS: [Column; 14] = [
    TIMESTAMP,
    SRC_IP,
    right("Src Port", |r| told(r, Have::CLIENT_PORT, || r.flow.record.client_port.to_string())),
    DST_IP,
    right("Dst Port", |r| told(r, Have::SERVER_PORT, || r.flow.record.server_port.to_string())),
    PROTOCOL,
    right("Pkts Out", |r| told(r, Have::PACKETS, || r.flow.record.fwd.packets.to_string())),
    right("Pkts In", |r| told(r, Have::PACKETS, || r.flow.record.bwd.packets.to_string())),
    right("Bytes Out", |r| told(r, Have::BYTES, || r.flow.record.fwd.bytes.to_string())),
    right("Bytes In", |r| told(r, Have::BYTES, || r.flow.record.bwd.bytes.to_string())),
    right("Seconds", |r| told(r, Have::DURATION, || seconds(r.flow.record.duration_us()))),
    left("State", |r| told(r, Have::STATE, || r.flow.record.state.name().into())),
    left("End", |r| r.flow.record.end_reason.name().into()),
    left("Label", |r| r.flow.label.as_deref().map(shown).unwrap_or_default()),
];

const SCORED: [Column; 7] = [
    TIMESTAMP,
    SRC_IP,
    DST_IP,
    PROTOCOL,
    right("Score", |r| {
        r.anomaly.map_or("-".into(), |a| match score(a) {
            // 0.99996 must not read as 1.
            s if s < 1.0 && s > 0.9999 => "0.9999".into(),
            s => format!("{s:.4}"),
        })
    }),
    left("Anomaly", |r| r.is_anomaly().map_or("-", |yes| if yes { "yes" } else { "no" }).into()),
    left("Reasons", |r| match r.anomaly {
        Some(a) if r.is_anomaly() == Some(true) => shown(&reasons(a)),
        _ => String::new(),
    }),
];

fn told(row: &Row<'_>, what: Have, text: impl FnOnce() -> String) -> String {
    if row.flow.record.have.has(what) { text() } else { "-".into() }
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// Without control characters: what a terminal shows must not be steered by an input.
fn shown(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

pub(super) struct Table<W: Write> {
    out: BufWriter<W>,
    columns: &'static [Column],
    /// Rows that wait for the widths; empty once these are settled.
    waiting: Vec<Vec<String>>,
    widths: Option<Vec<usize>>,
}

impl<W: Write> Table<W> {
    pub(super) fn new(out: W, shape: Shape) -> Self {
        let columns: &'static [Column] = match shape {
            Shape { scored: false, .. } => &FLOWS,
            Shape { explained: true, .. } => &SCORED,
            Shape { .. } => &SCORED[..6],
        };
        Self { out: BufWriter::with_capacity(1 << 16, out), columns, waiting: Vec::new(), widths: None }
    }

    fn settle(&mut self) -> io::Result<()> {
        let widths: Vec<usize> = (self.columns.iter().enumerate())
            .map(|(i, c)| {
                let cells = self.waiting.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count());
                cells.chain([c.head.len()]).max().unwrap_or(0)
            })
            .collect();
        self.line(self.columns.iter().map(|c| c.head), &widths)?;
        for row in std::mem::take(&mut self.waiting) {
            self.line(row.iter().map(String::as_str), &widths)?;
        }
        self.widths = Some(widths);
        Ok(())
    }

    fn line<'c>(&mut self, cells: impl Iterator<Item = &'c str>, widths: &[usize]) -> io::Result<()> {
        let mut text = String::new();
        for (i, ((cell, column), &w)) in cells.zip(self.columns).zip(widths).enumerate() {
            if i > 0 {
                text.push_str("  ");
            }
            let _ = if column.right { write!(text, "{cell:>w$}") } else { write!(text, "{cell:<w$}") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        self.out.write_all(text.as_bytes())
    }
}

impl<W: Write> Writer for Table<W> {
    fn write(&mut self, row: &Row<'_>) -> io::Result<()> {
        let cells: Vec<String> = self.columns.iter().map(|c| (c.cell)(row)).collect();
        if let Some(widths) = self.widths.take() {
            let written = self.line(cells.iter().map(String::as_str), &widths);
            self.widths = Some(widths);
            return written;
        }
        self.waiting.push(cells);
        if self.waiting.len() >= SAMPLE { self.settle() } else { Ok(()) }
    }

    fn finish(&mut self) -> io::Result<()> {
        if self.widths.is_none() {
            self.settle()?;
        }
        self.out.flush()
    }
}
