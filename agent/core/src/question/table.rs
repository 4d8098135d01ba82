//! The questions there are, within bounds.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{Given, NewQuestion, Question, State};
use crate::decision::Target;
use crate::decisions::remaining_us;
use crate::record::TimeUs;
use crate::render::rfc3339;

/// Open questions; one more is not asked, and counted.
pub const MAX_OPEN: usize = 500;
/// Closed ones that are remembered; the oldest goes first.
pub const MAX_CLOSED: usize = 1000;

/// What became of a [`NewQuestion`].
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    New(Box<Question>),
    /// It is open already, and was updated.
    Again,
    /// A person said not to ask about it for now.
    Quiet,
    /// There are [`MAX_OPEN`] open ones.
    Full,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    #[error("there is no question {0}; `weir review list --all` shows those that are kept")]
    Unknown(u64),
    #[error("question {id} is not open any more: it was answered {}, {came_to}; `weir review undo {id}` takes that back", rfc3339(*.at_us))]
    Answered { id: u64, at_us: TimeUs, came_to: String },
    #[error("question {id} is not open any more: nobody answered until {}", rfc3339(*.at_us))]
    Expired { id: u64, at_us: TimeUs },
    #[error("question {id} is not open any more: its answer was taken back {} by {by}, after its time", rfc3339(*.at_us))]
    Undone { id: u64, at_us: TimeUs, by: String },
    #[error("question {0} has no answer that could be taken back")]
    NotAnswered(u64),
}

/// What is stored of [`Questions`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QuestionsSnapshot {
    /// Wall clock, µs.
    pub taken_us: TimeUs,
    pub next_id: u64,
    pub questions: Vec<Question>,
}

/// See [`super`].
#[derive(Clone, Debug)]
pub struct Questions {
    next_id: u64,
    all: BTreeMap<u64, Question>,
    open: usize,
    /// The last question about each target.
    by_target: HashMap<Target, u64>,
    not_asked: u64,
    changes: u64,
}

impl Default for Questions {
    fn default() -> Self {
        Self { next_id: 1, all: BTreeMap::new(), open: 0, by_target: HashMap::new(), not_asked: 0, changes: 0 }
    }
}

impl Questions {
    pub fn get(&self, id: u64) -> Result<&Question, QuestionError> {
        self.all.get(&id).ok_or(QuestionError::Unknown(id))
    }
    /// By number.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Question> {
        self.all.values()
    }
    pub fn open(&self) -> usize {
        self.open
    }
    /// Questions that found no room.
    pub fn not_asked(&self) -> u64 {
        self.not_asked
    }
    /// Rises with every change that is worth storing.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// `ports` are those that the source went for, as far as they are known.
    pub fn ask(&mut self, new: NewQuestion, ports: &[u16], now: TimeUs) -> Asked {
        let target = new.proposed.target;
        if let Some(q) = self.by_target.get(&target).and_then(|id| self.all.get_mut(id)) {
            match &q.state {
                State::Open if q.expires_us > now => {
                    q.last_us = now;
                    q.count += 1;
                    // The evidence has grown; what is waited for stays as it was.
                    q.proposed = new.proposed;
                    q.why = new.why;
                    q.flow = new.flow.or(q.flow);
                    if !ports.is_empty() {
                        q.ports = ports.to_vec();
                    }
                    self.changes += 1;
                    return Asked::Again;
                }
                State::Answered(given) if given.quiet_until_us > now => return Asked::Quiet,
                _ => {}
            }
        }
        if self.open >= MAX_OPEN {
            self.not_asked += 1;
            return Asked::Full;
        }
        let question = Question {
            id: self.next_id,
            source: new.source,
            proposed: new.proposed,
            why: new.why,
            flow: new.flow,
            ports: ports.to_vec(),
            asked_us: now,
            last_us: now,
            count: 1,
            expires_us: now.saturating_add(new.ttl_us.max(1)),
            unanswered: new.unanswered,
            state: State::Open,
        };
        self.next_id += 1;
        self.changes += 1;
        self.insert(question.clone());
        self.forget_old();
        Asked::New(Box::new(question))
    }

    /// The question, if it can be answered now.
    pub fn answerable(&self, id: u64, now: TimeUs) -> Result<&Question, QuestionError> {
        let q = self.get(id)?;
        match &q.state {
            State::Open if q.expires_us > now => Ok(q),
            State::Open => Err(QuestionError::Expired { id, at_us: q.expires_us }),
            State::Answered(g) => Err(QuestionError::Answered { id, at_us: g.at_us, came_to: g.came_to.clone() }),
            State::Unanswered { at_us, .. } => Err(QuestionError::Expired { id, at_us: *at_us }),
            State::Undone { at_us, by } => Err(QuestionError::Undone { id, at_us: *at_us, by: by.clone() }),
        }
    }

    /// Closes a question with its answer, which was carried out.
    pub fn answer(&mut self, id: u64, given: Given) -> Result<&Question, QuestionError> {
        self.answerable(id, given.at_us)?;
        self.close(id, State::Answered(given));
        self.get(id)
    }

    /// Takes out of the open ones those whose time is over; each is to be given to [`Questions::lapse`] with what came of it.
    pub fn due(&self, now: TimeUs) -> Vec<Question> {
        self.all.values().filter(|q| q.is_open() && q.expires_us <= now).cloned().collect()
    }

    /// Nobody answered.
    pub fn lapse(&mut self, id: u64, now: TimeUs, decision_id: Option<u64>, note: String) -> Option<&Question> {
        self.close(id, State::Unanswered { at_us: now, decision_id, note });
        self.all.get(&id)
    }

    /// What an answer made, to be lifted by [`Questions::undo`]'s caller.
    pub fn answered(&self, id: u64) -> Result<&Given, QuestionError> {
        match &self.get(id)?.state {
            State::Answered(given) => Ok(given),
            _ => Err(QuestionError::NotAnswered(id)),
        }
    }

    /// Takes an answer back: the question is open again if there is time left and nothing else was asked about its target since.
    pub fn undo(&mut self, id: u64, by: &str, now: TimeUs) -> Result<&Question, QuestionError> {
        self.answered(id)?;
        let latest = self.get(id).ok().and_then(|q| self.by_target.get(&q.proposed.target)).copied();
        let room = self.open < MAX_OPEN;
        if let Some(q) = self.all.get_mut(&id) {
            let reopens = q.expires_us > now && latest == Some(id) && room;
            q.state = if reopens { State::Open } else { State::Undone { at_us: now, by: by.to_owned() } };
            self.open += usize::from(reopens);
            self.changes += 1;
        }
        self.get(id)
    }

    /// The wall clock was set by `step_us`, µs: what is left of each one's time stays what it was.
    pub fn clock_stepped(&mut self, step_us: i64) {
        for q in self.all.values_mut() {
            q.expires_us = q.expires_us.saturating_add_signed(step_us);
            if let State::Answered(given) = &mut q.state {
                given.quiet_until_us = given.quiet_until_us.saturating_add_signed(step_us);
            }
        }
        self.changes += u64::from(!self.all.is_empty());
    }

    fn close(&mut self, id: u64, state: State) {
        let Some(q) = self.all.get_mut(&id) else { return };
        self.open -= usize::from(q.is_open());
        q.state = state;
        self.changes += 1;
        self.forget_old();
    }

    fn insert(&mut self, q: Question) {
        self.open += usize::from(q.is_open());
        self.by_target.insert(q.proposed.target, q.id);
        self.all.insert(q.id, q);
    }

    fn forget_old(&mut self) {
        while self.all.len() - self.open > MAX_CLOSED {
            let Some(id) = self.all.values().find(|q| !q.is_open()).map(|q| q.id) else { return };
            if let Some(q) = self.all.remove(&id)
                && self.by_target.get(&q.proposed.target) == Some(&id)
            {
                self.by_target.remove(&q.proposed.target);
            }
        }
    }

    pub fn snapshot(&self, now: TimeUs) -> QuestionsSnapshot {
        QuestionsSnapshot { taken_us: now, next_id: self.next_id, questions: self.all.values().cloned().collect() }
    }

    /// As stored, with what is left of each open question's time: see [`remaining_us`].
    pub fn restore(snapshot: QuestionsSnapshot, now: TimeUs, elapsed_us: Option<u64>) -> Self {
        let mut all = Self { next_id: snapshot.next_id.max(1), ..Self::default() };
        let left = |end: TimeUs| {
            let stored = end.saturating_sub(snapshot.taken_us);
            if stored == 0 {
                return end.min(now);
            }
            now.saturating_add(remaining_us(Some(stored), Some(end), now, elapsed_us).unwrap_or(0))
        };
        for mut q in snapshot.questions {
            q.expires_us = left(q.expires_us);
            if let State::Answered(given) = &mut q.state {
                given.quiet_until_us = left(given.quiet_until_us);
            }
            all.next_id = all.next_id.max(q.id + 1);
            all.insert(q);
        }
        all.forget_old();
        all
    }
}
