//! What people are asked, and what they say about it.

use std::time::Duration;

use weir_core::addr::Prefix;
use weir_core::label::Truth;
use weir_core::question::{Choice, Width};
use weir_core::rate::RateLimit;
use weir_core::role::Role;

use super::{Caller, Reply};
use crate::proto as pb;

#[derive(Debug)]
pub enum ReviewCommand {
    List {
        /// Also those that are not open any more.
        all: bool,
        reply: Reply<pb::ListQuestionsResponse>,
    },
    Get {
        id: u64,
        reply: Reply<pb::QuestionDetail>,
    },
    Answer {
        id: u64,
        answer: NewAnswer,
        by: Caller,
        reply: Reply<pb::Question>,
    },
    Undo {
        id: u64,
        by: Caller,
        reply: Reply<pb::UndoAnswerResponse>,
    },
}

/// What is not said is as it is offered.
#[derive(Clone, Debug, PartialEq)]
pub struct NewAnswer {
    pub choice: Choice,
    pub width: Option<Width>,
    pub limit: Option<RateLimit>,
    pub lifetime: Option<Duration>,
    pub comment: String,
}

#[derive(Debug)]
pub enum FeedbackCommand {
    Label {
        alert_id: u64,
        truth: Truth,
        scope: LabelScope,
        lifetime: Option<Duration>,
        comment: String,
        by: Caller,
        reply: Reply<pb::LabelAlertResponse>,
    },
    /// The latest first.
    Labels {
        reply: Reply<Vec<pb::Label>>,
    },
    UndoLabel {
        id: u64,
        by: Caller,
        reply: Reply<pb::Label>,
    },
    Suppressions {
        reply: Reply<Vec<pb::Suppression>>,
    },
    Suppress {
        scope: LabelScope,
        lifetime: Option<Duration>,
        comment: String,
        by: Caller,
        reply: Reply<pb::Suppression>,
    },
    Unsuppress {
        id: u64,
        by: Caller,
        reply: Reply<pb::Suppression>,
    },
}

/// What of a false alarm is normal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelScope {
    /// `None`: the source of the alert.
    pub prefix: Option<Prefix>,
    /// Server ports; empty: any.
    pub ports: Vec<u16>,
    pub role: Option<Role>,
    /// Features that may be strange; empty: those that the alert was strange by, where there is one.
    pub features: Vec<String>,
    /// Any may.
    pub any_feature: bool,
}
