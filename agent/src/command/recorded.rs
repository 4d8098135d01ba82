//! Questions about what happened. They are answered from the store, off the event loop.

use weir_core::decision::Target;
use weir_core::record::TimeUs;

use super::Reply;
use crate::store::{AuditLine, HistoryLine, ProofLine, Which};

#[derive(Debug)]
pub enum Recorded {
    /// What happened to decisions, the latest first; only on this target or within it, where one is given.
    History { target: Option<Target>, since_us: TimeUs, limit: usize, reply: Reply<Vec<HistoryLine>> },
    /// Calls that changed something, the latest first.
    Audit { since_us: TimeUs, limit: usize, reply: Reply<Vec<AuditLine>> },
    /// Evidence that is kept, the latest first.
    Evidence { since_us: TimeUs, limit: usize, reply: Reply<Vec<ProofLine>> },
    /// One document of evidence.
    GetEvidence { which: Which, reply: Reply<String> },
}
