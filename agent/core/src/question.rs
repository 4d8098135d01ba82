//! Questions to a person: what the policy would do, but asks about first.

use crate::addr::Addr;
use crate::decisions::NewDecision;

/// What happens to a question that nobody answered in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unanswered {
    /// It lapses, and nothing is done.
    #[default]
    Nothing,
    /// What was proposed is carried out.
    Act,
}

/// A question to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewQuestion {
    pub source: Addr,
    /// What the policy would decide if it needed to ask nobody.
    pub proposed: NewDecision,
    /// Why a person is asked, in words: the mode, a rule, a source that carries much of what is normal.
    pub why: String,
    /// How long it waits for an answer, µs.
    pub ttl_us: u64,
    pub unanswered: Unanswered,
}
