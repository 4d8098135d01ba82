//! What reading an input came to.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use crate::sink::Stop;

/// Why an input could not be read, or not to its end. Everything before the fault was handed on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// Not one of the formats, or not the one it was said to be.
    #[error("{0}")]
    Unknown(String),
    /// A known format, with contents that cannot be gone on with.
    #[error("{what} at byte {offset}: {why}")]
    Corrupt { what: &'static str, offset: u64, why: String },
}

/// How a read ended early.
#[derive(Debug)]
pub enum Halt {
    /// The sink wants no more: no error.
    Stopped,
    Failed(SourceError),
}
impl From<Stop> for Halt {
    fn from(_: Stop) -> Self {
        Halt::Stopped
    }
}
impl From<SourceError> for Halt {
    fn from(e: SourceError) -> Self {
        Halt::Failed(e)
    }
}
impl From<io::Error> for Halt {
    fn from(e: io::Error) -> Self {
        Halt::Failed(e.into())
    }
}

/// Counts of one input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Packets, lines, rows or datagrams read.
    pub read: u64,
    /// Flows handed on by sources that count flows themselves (for captures the flow table counts).
    pub flows: u64,
    /// What was left out, by reason in words: "no IP inside", "row without a protocol".
    pub left_out: BTreeMap<&'static str, u64>,
    /// What a person should know, each once: the input is cut short, was sampled, lacks a column.
    pub warnings: Vec<String>,
    /// The input ended in the middle of something. What was complete was handed on.
    pub truncated: bool,
}

impl Report {
    pub fn leave_out(&mut self, reason: &'static str) {
        *self.left_out.entry(reason).or_default() += 1;
    }

    /// Keeps at most 100 warnings, each once.
    pub fn warn(&mut self, warning: impl Into<String>) {
        let warning = warning.into();
        if self.warnings.len() < 100 && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} read", self.read)?;
        for (reason, n) in &self.left_out {
            write!(f, ", {n} left out: {reason}")?;
        }
        Ok(())
    }
}
