//! What can be asked about lists.

use serde::Serialize;
use weir_core::decision::Target;
use weir_core::decisions::lists::{Draft, ListRefusal, Take};
use weir_core::record::TimeUs;

use super::{Caller, CommandError, DecisionReport, Reply};

#[derive(Debug)]
pub enum ListsCommand {
    Take {
        draft: Draft,
        take: Take,
        dry_run: bool,
        by: Caller,
        reply: Reply<ListTaken>,
    },
    List {
        reply: Reply<Vec<ListReport>>,
    },
    /// Some members, those behind a target.
    Show {
        name: String,
        after: Option<Target>,
        reply: Reply<Vec<DecisionReport>>,
    },
    /// The number of members that are gone.
    Remove {
        name: String,
        by: Caller,
        reply: Reply<u64>,
    },
}

/// What became of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ListTaken {
    /// Enforced afterwards.
    pub members: u64,
    pub added: u64,
    pub removed: u64,
    pub kept: u64,
    pub protected: u64,
    pub too_wide: u64,
    /// Some that are not enforced, with the reason.
    pub named: Vec<String>,
    pub note: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListReport {
    pub name: String,
    pub kind: String,
    pub comment: String,
    pub members: u64,
    pub protected: u64,
    pub actions: String,
    pub created_us: TimeUs,
    pub replaced_us: TimeUs,
    pub last_success_us: Option<TimeUs>,
    pub error: String,
    pub left_out: String,
}

impl From<ListRefusal> for CommandError {
    fn from(r: ListRefusal) -> Self {
        let words = r.to_string();
        match r {
            ListRefusal::Name(_) | ListRefusal::Rules => CommandError::Invalid(words),
            ListRefusal::Owned { .. } => CommandError::Refused(words),
            ListRefusal::Full { .. } | ListRefusal::TooMany | ListRefusal::Lengths(_) => CommandError::Full(words),
            ListRefusal::Unknown(_) => CommandError::NotFound(words),
        }
    }
}
