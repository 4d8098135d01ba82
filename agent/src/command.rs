//! What can be asked of the event loop, and the plain values it answers with.
//!
//! The API server is the only one that makes commands from outside; nobody but the event loop holds state.

mod caller;
mod lists;
mod live;
mod recorded;
mod review;
mod sinks;
mod status;
mod watched;

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::ser::SerializeStruct;
use tokio::sync::{mpsc, oneshot};
use weir_core::addr::Prefix;
use weir_core::decision::{Action, Decision, Sides, Target};
use weir_core::decisions::Refusal;
use weir_core::rate::RateLimit;
use weir_core::record::TimeUs;
use weir_core::render::Rfc3339;

use crate::enforce::{HIT_STEP_US, HitCourse};
use crate::model::Staging;
use crate::proto as pb;
use crate::store::StoreError;
pub use caller::{Caller, Identity, Role};
pub use lists::{ListReport, ListTaken, ListsCommand};
pub use live::{LiveCommand, WebLogin};
pub use recorded::Recorded;
pub use review::{FeedbackCommand, LabelScope, NewAnswer, ReviewCommand};
pub use sinks::{SinkTest, SinksCommand};
pub use status::{
    Counter, DecisionCount, InterfaceReport, MapUse, NamedCount, NetflowReport, Packets, StatusReport, XdpMode,
};
pub use watched::{
    AlertReason, AlertReport, DriftStatus, EvidencePoint, FeatureDriftReport, RecordReport, RoleDriftReport,
};

/// Where the event loop puts its answer. A caller that hung up is no error.
pub type Reply<T> = oneshot::Sender<Result<T, CommandError>>;

#[derive(Debug)]
pub enum Command {
    Status {
        reply: Reply<StatusReport>,
    },
    /// For metrics.
    Measure {
        reply: Reply<Box<crate::metrics::Reading>>,
    },
    ListDecisions {
        reply: Reply<Vec<DecisionReport>>,
    },
    AddDecision {
        new: NewDecision,
        reply: Reply<DecisionReport>,
    },
    /// Keeps a decision that would lapse unconfirmed.
    ConfirmDecision {
        id: u64,
        by: Caller,
        reply: Reply<DecisionReport>,
    },
    DeleteDecision {
        which: DecisionRef,
        by: Caller,
        reply: Reply<Vec<Decision>>,
    },
    AllowList {
        reply: Reply<Vec<AllowReport>>,
    },
    AllowAdd {
        prefix: Prefix,
        comment: String,
        /// `None`: until it is removed.
        lifetime: Option<Duration>,
        by: Caller,
        reply: Reply<AllowAdded>,
    },
    AllowRemove {
        prefix: Prefix,
        by: Caller,
        reply: Reply<AllowReport>,
    },
    /// Every entry, of the list or of the safe set, that overlaps the prefix.
    AllowCheck {
        prefix: Prefix,
        reply: Reply<Vec<AllowReport>>,
    },
    /// Starts learning; `None` takes the configured value.
    Learn {
        duration: Option<Duration>,
        min_flows: Option<u64>,
        from: LearnFrom,
        by: Caller,
        reply: Reply<LearnReport>,
    },
    /// Every bundle there is, the current one first.
    ModelStatus {
        reply: Reply<Vec<BundleReport>>,
    },
    /// What a bundle is, in full.
    ModelInspect {
        id: String,
        reply: Reply<pb::BundleDetail>,
    },
    /// A folder to write a bundle into.
    ModelStage {
        reply: Reply<Staging>,
    },
    /// Checks a bundle that was written there, and uses it.
    ModelLoad {
        staged: Staging,
        purpose: Purpose,
        by: Caller,
        reply: Reply<BundleReport>,
    },
    /// `None`: the current bundle.
    ModelPromote {
        id: Option<String>,
        by: Caller,
        reply: Reply<BundleReport>,
    },
    /// The bundle that served so many steps ago serves again.
    ModelRollBack {
        steps: usize,
        by: Caller,
        reply: Reply<BundleReport>,
    },
    /// Lets a bundle score silently.
    ModelChallenge {
        id: String,
        by: Caller,
        reply: Reply<BundleReport>,
    },
    /// Ends that; the id of the one that challenged.
    ModelUnchallenge {
        by: Caller,
        reply: Reply<String>,
    },
    ModelCompare {
        reply: Reply<pb::Comparison>,
    },
    /// Closes the open file of recorded flows.
    FlushRecord {
        reply: Reply<RecordReport>,
    },
    /// The latest first.
    ListAlerts {
        within: Option<Prefix>,
        since_us: TimeUs,
        limit: usize,
        reply: Reply<Vec<AlertReport>>,
    },
    GetAlert {
        id: u64,
        reply: Reply<AlertReport>,
    },
    ModelDrift {
        reply: Reply<DriftStatus>,
    },
    Lists(ListsCommand),
    ReloadConfig {
        by: Caller,
        reply: Reply<ReloadReport>,
    },
    /// Questions to people.
    Review(ReviewCommand),
    /// What people say about alerts.
    Feedback(FeedbackCommand),
    Recorded(Recorded),
    /// What goes on, and logins to the web page.
    Live(LiveCommand),
    Sinks(SinksCommand),
}

/// Why a command was not carried out. The text is for the person who asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The request makes no sense as it stands.
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Exists(String),
    /// It makes sense, but not now or not for this target: protected, no model, already learning, ...
    #[error("{0}")]
    Refused(String),
    /// No room left.
    #[error("{0}")]
    Full(String),
    /// Weir's own failure.
    #[error("{0}")]
    Failed(String),
}

/// What is learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LearnFrom {
    /// The record, where it holds enough; else live traffic from now on.
    Auto,
    Live,
    /// Of this length of time up to now; `None`: as long as learning takes.
    Record {
        since: Option<Duration>,
    },
}

impl From<Refusal> for CommandError {
    fn from(r: Refusal) -> Self {
        let words = r.to_string();
        match r {
            Refusal::Full { .. } | Refusal::AutomaticFull { .. } | Refusal::FlowsFull { .. } => {
                CommandError::Full(words)
            }
            Refusal::NoLifetime | Refusal::Rate => CommandError::Invalid(words),
            Refusal::Unknown(_) => CommandError::NotFound(words),
            Refusal::Protected(_) | Refusal::Reversed { .. } | Refusal::TooWide { .. } | Refusal::NotAwaiting(_) => {
                CommandError::Refused(words)
            }
        }
    }
}

impl From<StoreError> for CommandError {
    fn from(e: StoreError) -> Self {
        let words = e.to_string();
        match e {
            StoreError::BundleId(_) => CommandError::Invalid(words),
            StoreError::NoBundle { .. } | StoreError::NoStep { .. } => CommandError::NotFound(words),
            StoreError::BundleExists(_) => CommandError::Exists(words),
            StoreError::InUse(_) | StoreError::Io { .. } | StoreError::Sql { .. } | StoreError::Newer { .. } => {
                CommandError::Failed(words)
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct NewDecision {
    pub target: Target,
    pub action: Action,
    /// With [`Action::Limit`].
    pub limit: Option<RateLimit>,
    pub sides: Sides,
    /// `None`: until deleted.
    pub lifetime: Option<Duration>,
    pub reason: String,
    /// It lapses after this unless it is confirmed.
    pub confirm_within: Option<Duration>,
    /// It is to last unconfirmed, however risky.
    pub no_confirm: bool,
    pub by: Caller,
}

impl NewDecision {
    /// The reason with who gave it: "port scan, by uid 0 (root)".
    pub fn reason_with_caller(&self) -> String {
        self.by.sign(&self.reason)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionRef {
    Id(u64),
    /// Every decision on exactly this target.
    Target(Target),
}

impl fmt::Display for DecisionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecisionRef::Id(id) => write!(f, "decision {id}"),
            DecisionRef::Target(target) => write!(f, "{target}"),
        }
    }
}

/// A decision and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionReport {
    pub decision: Decision,
    /// Read back from the kernel.
    pub enforced: bool,
    /// It lapses at its expiry unless it is confirmed.
    pub awaiting_confirmation: bool,
    pub packets: u64,
    pub bytes: u64,
    pub last_hit_us: Option<TimeUs>,
    pub note: String,
    /// How the packets came, in the last hour of this run of the agent.
    pub course: Option<HitCourse>,
}

/// One object, flat but for the course, with the target as people write it and times as RFC 3339.
impl Serialize for DecisionReport {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let d = &self.decision;
        let mut o = s.serialize_struct("decision", 18)?;
        o.serialize_field("id", &d.id)?;
        o.serialize_field("target", &d.target.to_string())?;
        o.serialize_field("action", &d.action)?;
        o.serialize_field("limit", &d.limit)?;
        o.serialize_field("direction", &d.sides)?;
        o.serialize_field("origin", &d.origin)?;
        o.serialize_field("created", &Rfc3339(d.created_us))?;
        o.serialize_field("expires", &d.expires_us.map(Rfc3339))?;
        o.serialize_field("reason", &d.reason)?;
        o.serialize_field("instead_of", &d.instead_of)?;
        o.serialize_field("alert_id", &d.alert_id)?;
        o.serialize_field("enforced", &self.enforced)?;
        o.serialize_field("awaiting_confirmation", &self.awaiting_confirmation)?;
        o.serialize_field("packets", &self.packets)?;
        o.serialize_field("bytes", &self.bytes)?;
        o.serialize_field("last_hit", &self.last_hit_us.map(Rfc3339))?;
        o.serialize_field("note", &self.note)?;
        o.serialize_field("hits", &self.course.as_ref().map(Hits))?;
        o.end()
    }
}

/// A course with its time as RFC 3339.
struct Hits<'a>(&'a HitCourse);

impl Serialize for Hits<'_> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut o = s.serialize_struct("hits", 3)?;
        o.serialize_field("from", &Rfc3339(self.0.start_us))?;
        o.serialize_field("step_s", &(HIT_STEP_US / 1_000_000))?;
        o.serialize_field("packets", &self.0.packets)?;
        o.end()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AllowReport {
    pub prefix: Prefix,
    pub comment: String,
    /// "configuration", "added by uid 0 (root)", "gateway", ...
    pub origin: String,
    pub removable: bool,
    /// `None`: until it is removed.
    #[serde(rename = "expires", serialize_with = "rfc3339_or_null")]
    pub expires_us: Option<TimeUs>,
}

fn rfc3339_or_null<S: serde::Serializer>(at: &Option<TimeUs>, s: S) -> Result<S::Ok, S::Error> {
    at.map(Rfc3339).serialize(s)
}

#[derive(Clone, Debug, PartialEq)]
pub struct AllowAdded {
    pub entry: AllowReport,
    /// Decisions that went because the entry covers them.
    pub lifted: Vec<Decision>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BundleReport {
    pub id: String,
    pub promoted: bool,
    /// "learned here", "built in", ...
    pub origin: String,
    pub created_us: TimeUs,
    pub flows: u64,
    pub windows: u64,
    pub profiles: Vec<String>,
    /// Whether this is the one that serves.
    pub current: bool,
    /// The id that its contents give: the same wherever it lies.
    pub hash: String,
    /// Of all its files.
    pub bytes: u64,
    /// It scores silently beside the one that serves.
    pub challenger: bool,
    /// After so many steps back it serves again; `None`: no step leads to it.
    pub steps_back: Option<u32>,
    /// When it was chosen to serve, the last time.
    pub since_us: Option<TimeUs>,
}

/// What a bundle is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Alerts and shadow entries.
    Serve,
    /// Also drops.
    Promote,
    Challenge,
}

/// The bundle that scores silently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChallengerReport {
    pub id: String,
    pub since_us: TimeUs,
    /// Flows that both bundles have scored.
    pub flows: u64,
    /// Epochs that the comparison was too slow for.
    pub epochs_left_out: u64,
    /// Processor time of the whole comparison.
    pub cpu_us: u64,
    /// Sources about which the two bundles differ.
    pub differing_sources: u64,
    /// Why it compares no more; empty while it does.
    pub failed: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LearnReport {
    pub started_us: TimeUs,
    pub duration_us: u64,
    pub elapsed_us: u64,
    pub flows: u64,
    pub min_flows: u64,
    pub windows: u64,
    pub min_windows: u64,
    /// "collecting", "training", "checking".
    pub phase: String,
    /// In words: live traffic, or the record of some time.
    pub from: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReloadReport {
    /// Keys whose new value is in force.
    pub applied: Vec<String>,
    pub needs_restart: Vec<String>,
}

/// Commands that may wait for the event loop; one more is refused.
pub const QUEUE: usize = 64;

/// The two ends of the queue.
pub fn queue() -> (mpsc::Sender<Command>, mpsc::Receiver<Command>) {
    mpsc::channel(QUEUE)
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("{QUEUE} commands are waiting for the agent; try again in a moment")]
    Busy,
    #[error("the agent is stopping")]
    Stopping,
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// Sends a command and waits for the answer; a full queue refuses at once.
pub async fn ask<T>(queue: &mpsc::Sender<Command>, make: impl FnOnce(Reply<T>) -> Command) -> Result<T, AskError> {
    let (reply, answer) = oneshot::channel();
    queue.try_send(make(reply)).map_err(|e| match e {
        mpsc::error::TrySendError::Full(_) => AskError::Busy,
        mpsc::error::TrySendError::Closed(_) => AskError::Stopping,
    })?;
    // A dropped sender: the loop ended before it answered.
    Ok(answer.await.map_err(|_| AskError::Stopping)??)
}
