//! Questions to a person: what the policy would do, but asks about first; what may be answered, and what an answer comes to.
//!
//! - One open question per target: asking again updates it.
//! - Numbers are never used twice, also over restarts.
//! - A question that nobody answers in time ends as it was asked to: nothing is done, or what was proposed.
//! - An answer is a decision like any other that a person makes: the guard may refuse it, and then the question stays open.

mod answer;
mod table;

use serde::{Deserialize, Serialize};

use crate::addr::Addr;
use crate::decision::Flow;
use crate::decisions::NewDecision;
use crate::record::TimeUs;

pub use answer::{Answer, AnswerError, Choice, MAX_ANSWER_US, Offer, Resolved, Width, offers, resolve};
pub use table::{Asked, MAX_CLOSED, MAX_OPEN, QuestionError, Questions, QuestionsSnapshot};

/// What happens to a question that nobody answered in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// A strange flow of it that was still going on.
    pub flow: Option<Flow>,
    /// What the policy would decide if it needed to ask nobody.
    pub proposed: NewDecision,
    /// Why a person is asked, in words: the mode, a rule, a source that carries much of what is normal.
    pub why: String,
    /// How long it waits for an answer, µs.
    pub ttl_us: u64,
    pub unanswered: Unanswered,
}

/// A question, open or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    pub id: u64,
    pub source: Addr,
    /// The last strange flow of it that was still going on when it was asked.
    #[serde(default)]
    pub flow: Option<Flow>,
    pub proposed: NewDecision,
    pub why: String,
    /// Server ports that the source went for, most used first; empty where nobody knows.
    pub ports: Vec<u16>,
    pub asked_us: TimeUs,
    /// When it was asked the last time, and how often in all.
    pub last_us: TimeUs,
    pub count: u64,
    pub expires_us: TimeUs,
    pub unanswered: Unanswered,
    pub state: State,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Open,
    Answered(Given),
    /// Nobody answered in time. `decision_id`: what was proposed was carried out.
    Unanswered {
        at_us: TimeUs,
        decision_id: Option<u64>,
        /// What came of it, in words.
        note: String,
    },
    /// It was answered, and the answer was taken back when its time was over.
    Undone {
        at_us: TimeUs,
        by: String,
    },
}

/// An answer, and what it made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Given {
    pub at_us: TimeUs,
    pub answer: Answer,
    /// In words.
    pub came_to: String,
    /// The decision that holds because of it; `made`: this answer made it, and undoing lifts it.
    pub decision_id: Option<u64>,
    pub made: bool,
    pub suppression_id: Option<u64>,
    /// Until then its target is not asked about again.
    pub quiet_until_us: TimeUs,
}

impl Question {
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// "open", "answered", "unanswered", "undone".
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Open => "open",
            State::Answered(_) => "answered",
            State::Unanswered { .. } => "unanswered",
            State::Undone { .. } => "undone",
        }
    }

    /// What was done about it, in words; empty while it is open.
    pub fn came_to(&self) -> String {
        match &self.state {
            State::Open => String::new(),
            State::Answered(g) => g.came_to.clone(),
            State::Unanswered { note, .. } => note.clone(),
            State::Undone { by, .. } => format!("the answer was taken back by {by}"),
        }
    }
}

/// What happened to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionChange {
    Asked,
    Answered,
    Expired,
    /// An answer was taken back.
    Undone,
}

impl QuestionChange {
    pub const fn name(self) -> &'static str {
        match self {
            QuestionChange::Asked => "asked",
            QuestionChange::Answered => "answered",
            QuestionChange::Expired => "expired",
            QuestionChange::Undone => "undone",
        }
    }
}

#[cfg(test)]
mod tests;
