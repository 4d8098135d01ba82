//! Decisions: what is to happen to whom, until when, and why.

mod target;

use serde::{Deserialize, Serialize};

use crate::rate::RateLimit;
use crate::record::TimeUs;

pub use target::{Flow, Target, TargetError};

/// In order of strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Counts what it would have dropped.
    Shadow,
    /// Drops what is beyond [`Decision::limit`].
    Limit,
    Drop,
}

/// Who made a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A person, by CLI or API.
    Manual,
    /// The agent, from evidence.
    Automatic,
    /// A list that came as a whole.
    List,
}

/// Which packets of the target are meant, as seen from the protected host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sides {
    In,
    Out,
    Both,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Unique and never used again, also over restarts.
    pub id: u64,
    pub target: Target,
    pub action: Action,
    /// With [`Action::Limit`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<RateLimit>,
    pub sides: Sides,
    pub origin: Origin,
    pub created_us: TimeUs,
    /// `None`: until deleted.
    pub expires_us: Option<TimeUs>,
    /// In words; for an automatic decision with the evidence that led to it.
    pub reason: String,
    /// The action that the policy would have taken in mode `enforce`, where the mode took a weaker one.
    pub instead_of: Option<Action>,
    /// The alert that led to it.
    pub alert_id: Option<u64>,
}
