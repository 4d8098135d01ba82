//! JSON lines, one object a flow, as the agent writes its events.

use std::io::{self, BufWriter, Write};

use weir_core::render::{Context, Whole, eve_flow};

use super::{Row, Writer};

pub(super) struct Json<W: Write> {
    out: BufWriter<W>,
}

impl<W: Write> Json<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out: BufWriter::with_capacity(1 << 16, out) }
    }
}

impl<W: Write> Writer for Json<W> {
    fn write(&mut self, row: &Row<'_>) -> io::Result<()> {
        let context = Context {
            in_iface: row.flow.seen_at.as_deref(),
            label: row.flow.label.as_deref(),
            anomaly_p: row.anomaly_p,
            whole: Some(Whole { sampling: row.flow.sampling }),
        };
        serde_json::to_writer(&mut self.out, &eve_flow(&row.flow.record, row.anomaly, &context))?;
        self.out.write_all(b"\n")
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
