//! What is counted as it happens: events, and calls of the API.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use weir_core::decision::{Action, Origin};
use weir_core::event::{DecisionChange, Event, Severity};
use weir_core::question::QuestionChange;

use crate::api::rights::{RIGHTS, SERVICE};

pub const CHANGES: [DecisionChange; 7] = [
    DecisionChange::Added,
    DecisionChange::Enforced,
    DecisionChange::Extended,
    DecisionChange::Expired,
    DecisionChange::Deleted,
    DecisionChange::Superseded,
    DecisionChange::Refused,
];
pub const ACTIONS: [(Action, &str); 3] = [(Action::Shadow, "shadow"), (Action::Limit, "limit"), (Action::Drop, "drop")];
pub const ORIGINS: [(Origin, &str); 3] =
    [(Origin::Manual, "manual"), (Origin::Automatic, "automatic"), (Origin::List, "list")];
pub const QUESTIONS: [QuestionChange; 4] =
    [QuestionChange::Asked, QuestionChange::Answered, QuestionChange::Expired, QuestionChange::Undone];
/// Of events, as JSON names their types.
pub const KINDS: [&str; 7] = ["flow", "source", "alert", "decision", "hits", "question", "agent"];

/// Events since the start. The event loop counts, and nobody waits.
#[derive(Debug)]
pub struct Tally {
    kinds: [AtomicU64; KINDS.len()],
    alerts: [AtomicU64; Severity::NAMES.len()],
    /// By change, origin and action.
    decisions: [AtomicU64; CHANGES.len() * ORIGINS.len() * ACTIONS.len()],
    questions: [AtomicU64; QUESTIONS.len()],
}

impl Default for Tally {
    fn default() -> Self {
        fn zeros<const N: usize>() -> [AtomicU64; N] {
            std::array::from_fn(|_| AtomicU64::new(0))
        }
        Self { kinds: zeros(), alerts: zeros(), decisions: zeros(), questions: zeros() }
    }
}

/// Adds one where `wanted` stands in `all`.
fn count<T: PartialEq>(cells: &[AtomicU64], mut all: impl Iterator<Item = T>, wanted: &T) {
    if let Some(cell) = all.position(|t| t == *wanted).and_then(|i| cells.get(i)) {
        cell.fetch_add(1, Relaxed);
    }
}

/// In the order of their cells: what is counted, and its names.
fn decisions() -> impl Iterator<Item = ((DecisionChange, Origin, Action), [&'static str; 3])> {
    CHANGES.into_iter().flat_map(|c| {
        ORIGINS
            .into_iter()
            .flat_map(move |(o, origin)| ACTIONS.map(|(a, action)| ((c, o, a), [c.name(), origin, action])))
    })
}

impl Tally {
    pub fn event(&self, event: &Event) {
        let kind = match event {
            Event::Flow { .. } => 0,
            Event::Source { .. } => 1,
            Event::Alert(alert) => {
                count(&self.alerts, Severity::NAMES.into_iter().map(|(_, s)| s), &alert.severity);
                2
            }
            Event::Decision { change, decision, .. } => {
                count(&self.decisions, decisions().map(|(d, _)| d), &(*change, decision.origin, decision.action));
                3
            }
            Event::Hits { .. } => 4,
            Event::Question { change, .. } => {
                count(&self.questions, QUESTIONS.into_iter(), change);
                5
            }
            Event::Agent { .. } => 6,
        };
        self.kinds[kind].fetch_add(1, Relaxed);
    }

    /// Plain counts, as they stand.
    pub fn read(&self) -> Counted {
        fn of(cells: &[AtomicU64]) -> impl Iterator<Item = u64> {
            cells.iter().map(|c| c.load(Relaxed))
        }
        Counted {
            kinds: KINDS.into_iter().zip(of(&self.kinds)).collect(),
            alerts: Severity::NAMES.into_iter().map(|(n, _)| n).zip(of(&self.alerts)).collect(),
            decisions: decisions().map(|(_, names)| names).zip(of(&self.decisions)).collect(),
            questions: QUESTIONS.into_iter().map(QuestionChange::name).zip(of(&self.questions)).collect(),
        }
    }
}

/// What a [`Tally`] held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub kinds: Vec<(&'static str, u64)>,
    pub alerts: Vec<(&'static str, u64)>,
    /// By change, origin and action.
    pub decisions: Vec<([&'static str; 3], u64)>,
    pub questions: Vec<(&'static str, u64)>,
}

/// How a call of the API ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    Ok,
    /// By what the caller is or asked for.
    Refused,
    /// By the agent.
    Failed,
    /// The caller hung up first.
    Cancelled,
}

impl CallOutcome {
    pub const ALL: [(CallOutcome, &'static str); 4] = [
        (CallOutcome::Ok, "ok"),
        (CallOutcome::Refused, "refused"),
        (CallOutcome::Failed, "failed"),
        (CallOutcome::Cancelled, "cancelled"),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    pub fn of(code: tonic::Code) -> Self {
        use tonic::Code;
        match code {
            Code::Ok => Self::Ok,
            Code::Cancelled => Self::Cancelled,
            Code::Unknown | Code::DeadlineExceeded | Code::Internal | Code::Unavailable | Code::DataLoss => {
                Self::Failed
            }
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => Self::Refused,
        }
    }
}

/// Calls that are none of ours: the health service, and what does not exist.
const OTHER: &str = "other";
/// Names that a call may have here.
pub const CALLS: usize = RIGHTS.len() + 1;

/// Calls of the API since the start.
#[derive(Debug)]
pub struct ApiCalls([[AtomicU64; CallOutcome::ALL.len()]; CALLS]);

impl Default for ApiCalls {
    fn default() -> Self {
        Self(std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))))
    }
}

impl ApiCalls {
    /// Counts a call of `/weir.v1.Weir/NAME`.
    pub fn count(&self, path: &str, outcome: CallOutcome) {
        let ours = path.strip_prefix('/').and_then(|p| p.strip_prefix(SERVICE)?.strip_prefix('/'));
        let at = ours.and_then(|name| RIGHTS.iter().position(|(n, _)| *n == name)).unwrap_or(RIGHTS.len());
        self.0[at][outcome as usize].fetch_add(1, Relaxed);
    }

    /// Calls that have been made: name, how they ended, how many.
    pub fn read(&self) -> Vec<(&'static str, &'static str, u64)> {
        let names = RIGHTS.iter().map(|(name, _)| *name).chain([OTHER]);
        let each = names.zip(&self.0).flat_map(|(name, cells)| {
            CallOutcome::ALL.iter().zip(cells).map(move |((_, outcome), n)| (name, *outcome, n.load(Relaxed)))
        });
        each.filter(|(.., n)| *n > 0).collect()
    }
}
