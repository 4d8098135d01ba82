//! What each call needs. A call that is not in this table is refused to everybody, and a test holds that none is missing.

use crate::command::Role;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// It only looks.
    Read,
    /// It changes something: what is enforced, what is learned, what is stored.
    Operate,
}

use Right::{Operate, Read};

pub const SERVICE: &str = "weir.v1.Weir";

/// Every call of [`SERVICE`], by its name in `weir.proto`.
pub const RIGHTS: &[(&str, Right)] = &[
    ("Status", Read),
    ("WatchEvents", Read),
    ("ListDecisions", Read),
    ("AddDecision", Operate),
    ("ConfirmDecision", Operate),
    ("DeleteDecision", Operate),
    ("ListAllow", Read),
    ("AddAllow", Operate),
    ("RemoveAllow", Operate),
    ("CheckAllow", Read),
    ("Learn", Operate),
    ("ModelStatus", Read),
    ("ModelDrift", Read),
    ("InspectModel", Read),
    ("LoadModel", Operate),
    ("PromoteModel", Operate),
    ("RollbackModel", Operate),
    ("ChallengeModel", Operate),
    ("CompareModels", Read),
    ("ListAlerts", Read),
    ("GetAlert", Read),
    // It ends a file of the record.
    ("FlushRecord", Operate),
    ("ReloadConfig", Operate),
    ("ListQuestions", Read),
    // It reads the record, and flushes it for that.
    ("GetQuestion", Read),
    ("AnswerQuestion", Operate),
    ("UndoAnswer", Operate),
    ("LabelAlert", Operate),
    ("ListLabels", Read),
    ("UndoLabel", Operate),
    ("ListSuppressions", Read),
    ("AddSuppression", Operate),
    ("RemoveSuppression", Operate),
    ("ImportList", Operate),
    ("ListLists", Read),
    ("ShowList", Read),
    ("RemoveList", Operate),
    ("ListDecisionHistory", Read),
    ("ListAudit", Read),
    ("ListEvidence", Read),
    ("GetEvidence", Read),
    ("Traffic", Read),
    ("TopSources", Read),
    ("Scores", Read),
    // These read the record, and flush it for that.
    ("SearchFlows", Read),
    ("AlertContext", Read),
    ("ShowConfig", Read),
    ("ModelCalibration", Read),
    ("CreateWebLogin", Operate),
];

/// The health service, which is not ours to describe.
const HEALTH: &str = "grpc.health.v1.Health";

/// What the call at this path (`/weir.v1.Weir/Status`) needs; `None`: there is no such call.
pub fn needed(path: &str) -> Option<Right> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    match service {
        SERVICE => RIGHTS.iter().find(|(name, _)| *name == method).map(|(_, right)| *right),
        HEALTH if matches!(method, "Check" | "Watch" | "List") => Some(Read),
        _ => None,
    }
}

impl Role {
    pub fn may(self, right: Right) -> bool {
        match right {
            Read => self >= Role::Viewer,
            Operate => self >= Role::Operator,
        }
    }
}
