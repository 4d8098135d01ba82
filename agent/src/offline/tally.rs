//! What reading several inputs came to.

use std::collections::BTreeMap;
use std::fmt::Write;

use weir_core::record::{EndReason, FlowRecord};
use weir_source::{Format, Observation, Report, SourceError};

use crate::human::grouped;

/// Warnings told; more are counted.
const MAX_WARNINGS: usize = 50;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Flows, each once.
    pub flows: u64,
    pub packets: u64,
    /// Records of flows that went on.
    pub checkpoints: u64,
}

impl Counts {
    pub fn add(&mut self, flow: &Observation) {
        self.add_record(&flow.record);
    }

    pub fn add_record(&mut self, r: &FlowRecord) {
        // A checkpoint's packets come again in the flow's last record.
        if r.end_reason == EndReason::Checkpoint {
            self.checkpoints += 1;
            return;
        }
        self.flows += 1;
        self.packets = self.packets.saturating_add(r.fwd.packets).saturating_add(r.bwd.packets);
    }
}

#[derive(Debug, Default)]
pub struct Tally {
    /// Inputs that could be opened, and what they are.
    pub formats: Vec<(String, Format)>,
    /// Inputs read to their end.
    pub whole: u64,
    /// Inputs that ended in the middle of something.
    pub truncated: u64,
    /// With the reason.
    pub failed: Vec<(String, String)>,
    pub counts: Counts,
    pub left_out: BTreeMap<&'static str, u64>,
    pub warnings: Vec<String>,
    unsaid: u64,
    /// Ended early, by a signal or because nobody reads on.
    pub stopped: bool,
}

impl Tally {
    pub fn add(&mut self, name: &str, report: Report, result: Result<(), SourceError>) {
        match result {
            Ok(()) if report.truncated => self.truncated += 1,
            Ok(()) => self.whole += 1,
            Err(e) => self.failed(name, &e),
        }
        for (reason, n) in report.left_out {
            *self.left_out.entry(reason).or_default() += n;
        }
        for w in report.warnings {
            if self.warnings.len() < MAX_WARNINGS {
                self.warnings.push(format!("{name}: {w}"));
            } else {
                self.unsaid += 1;
            }
        }
    }

    pub fn failed(&mut self, name: &str, e: &SourceError) {
        self.failed.push((name.to_owned(), e.to_string()));
    }

    /// Nothing failed and nothing was cut short.
    pub fn is_fine(&self) -> bool {
        self.failed.is_empty() && self.truncated == 0
    }

    /// Lines for stderr.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        for (name, why) in &self.failed {
            let _ = writeln!(out, "error: {name}: {why}");
        }
        for w in &self.warnings {
            let _ = writeln!(out, "warning: {w}");
        }
        if self.unsaid > 0 {
            let _ = writeln!(out, "warning: and {} more", grouped(self.unsaid));
        }
        for (reason, n) in &self.left_out {
            let _ = writeln!(out, "left out: {} {reason}", grouped(*n));
        }
        let read = self.whole + self.truncated;
        let mut files = format!("{} {} read", grouped(read), if read == 1 { "input" } else { "inputs" });
        if self.truncated > 0 {
            let _ = write!(files, " ({} cut short)", grouped(self.truncated));
        }
        if !self.failed.is_empty() {
            let _ = write!(files, ", {} failed", grouped(self.failed.len() as u64));
        }
        let _ = write!(out, "{files}: {} flows, {} packets", grouped(self.counts.flows), grouped(self.counts.packets));
        if self.counts.checkpoints > 0 {
            let _ = write!(out, ", {} checkpoints", grouped(self.counts.checkpoints));
        }
        out.push_str(if self.stopped { "; stopped before the end\n" } else { "\n" });
        super::output::clean_lines(&out)
    }
}
