//! Questions to people: asked, listed, answered, taken back, and what happens where nobody answers.

use weir_core::addr::Prefix;
use weir_core::decision::{Action, Decision, Origin, Target};
use weir_core::decisions::{Added, NewDecision, Refusal};
use weir_core::event::{DecisionChange, Event, Level, Mode};
use weir_core::label::{Labels, Truth};
use weir_core::policy::duration_words;
use weir_core::question::{
    Answer, AnswerError, Asked, Choice, Given, NewQuestion, Question, QuestionChange, QuestionError, Questions,
    Resolved, Unanswered, offers, resolve,
};
use weir_core::record::TimeUs;
use weir_core::suppression::Suppressions;

use super::{Agent, host_of};
use crate::api::review;
use crate::collateral::{self, Prediction, Readers};
use crate::command::{Caller, CommandError, LabelScope, NewAnswer, Reply, ReviewCommand};
use crate::proto as pb;
use crate::store::ReviewState;

/// What people were asked and what they said.
#[derive(Default)]
pub(super) struct Review {
    pub questions: Questions,
    pub labels: Labels,
    readers: Readers,
    /// Changes of labels that are stored.
    labels_stored: u64,
}

impl Review {
    pub(super) fn restore(state: ReviewState, now: TimeUs, elapsed_us: Option<u64>) -> (Self, Suppressions) {
        let review = Self {
            questions: Questions::restore(state.questions, now, elapsed_us),
            labels: Labels::restore(state.labels),
            ..Self::default()
        };
        (review, Suppressions::restore(state.suppressions, now, elapsed_us))
    }
}

impl From<QuestionError> for CommandError {
    fn from(e: QuestionError) -> Self {
        let words = e.to_string();
        match e {
            QuestionError::Unknown(_) => CommandError::NotFound(words),
            _ => CommandError::Refused(words),
        }
    }
}

impl From<AnswerError> for CommandError {
    fn from(e: AnswerError) -> Self {
        let words = e.to_string();
        match e {
            AnswerError::NoTarget { .. } => CommandError::Refused(words),
            AnswerError::Rate(_) | AnswerError::Time { .. } => CommandError::Invalid(words),
        }
    }
}

pub(super) fn carry_out(agent: &mut Agent, command: ReviewCommand) {
    match command {
        ReviewCommand::List { all, reply } => drop(reply.send(Ok(agent.list_questions(all)))),
        ReviewCommand::Get { id, reply } => agent.get_question(id, reply),
        ReviewCommand::Answer { id, answer, by, reply } => drop(reply.send(agent.answer_question(id, answer, &by))),
        ReviewCommand::Undo { id, by, reply } => drop(reply.send(agent.undo_answer(id, &by))),
    }
}

impl Agent {
    /// A policy wants to know. It is stored before it is told of: a kill does not lose what somebody has read.
    pub(super) fn ask_person(&mut self, now: TimeUs, new: NewQuestion) {
        if self.is_decided(new.proposed.target, now) {
            return;
        }
        let alert = new.proposed.alert_id.and_then(|id| self.alert_at_hand(id).ok());
        let ports = alert.map(|a| a.ports).unwrap_or_default();
        let before = self.review.questions.not_asked();
        match self.review.questions.ask(new, &ports, now) {
            Asked::New(question) => {
                self.save(now, true);
                self.tell(now, QuestionChange::Asked, &question, String::new());
            }
            Asked::Full => self.warn(
                "review",
                format!(
                    "{} questions wait for an answer, the most that are kept, and {} were not asked: `weir review`",
                    self.review.questions.open(),
                    before + 1
                ),
            ),
            Asked::Again | Asked::Quiet => {}
        }
    }

    /// Something on the target or around it drops already, or is what a person wants.
    fn is_decided(&self, target: Target, now: TimeUs) -> bool {
        let p = target.prefix();
        let around = (0..=p.len()).map(|len| Target::Net(Prefix::new(p.addr(), len)));
        around.chain([target]).filter_map(|t| self.decisions.wanted_on(t, now)).any(|d| {
            // Held in a mode that drops nothing, it is no answer to whether it should be dropped.
            d.origin == Origin::Manual || d.action == Action::Drop
        })
    }

    fn tell(&self, time_us: TimeUs, change: QuestionChange, question: &Question, note: String) {
        self.publish(Event::Question { time_us, change, question: Box::new(question.clone()), note });
    }

    fn list_questions(&self, all: bool) -> pb::ListQuestionsResponse {
        let (open, closed): (Vec<&Question>, Vec<&Question>) =
            self.review.questions.iter().rev().partition(|q| q.is_open());
        let closed = closed.into_iter().filter(|_| all);
        pb::ListQuestionsResponse {
            questions: open.into_iter().chain(closed).map(review::question).collect(),
            not_asked: self.review.questions.not_asked(),
        }
    }

    /// The answer comes from a thread: the record is read.
    fn get_question(&mut self, id: u64, reply: Reply<pb::QuestionDetail>) {
        let now = self.now();
        let q = match self.review.questions.get(id) {
            Ok(q) => q.clone(),
            Err(e) => return drop(reply.send(Err(e.into()))),
        };
        let offers = offers(&q);
        let targets: Vec<Target> = offers.iter().filter_map(|o| o.target).collect();
        let options = offers.iter().zip(1..).map(|(o, number)| pb::QuestionOption {
            number,
            choice: o.choice.name().to_owned(),
            width: o.width.map(|w| w.name().to_owned()).unwrap_or_default(),
            target: o.target.map(|t| t.to_string()).unwrap_or_default(),
            words: o.words.clone(),
            ttl_us: o.ttl_us,
            collateral: None,
            refused: o
                .target
                .and_then(|t| self.decisions.check(t, now).err())
                .map(|e| e.to_string())
                .unwrap_or_default(),
        });
        let alert = q.proposed.alert_id.and_then(|id| self.alert_at_hand(id).ok());
        let reasons = alert.map(|a| a.reasons.into_iter().map(|r| r.words).collect()).unwrap_or_default();
        let mut detail = pb::QuestionDetail {
            question: Some(review::question(&q)),
            reasons,
            options: options.collect(),
            basis: String::new(),
        };
        let prediction = Prediction {
            cuts: collateral::live(&targets, self.pipeline.live()),
            targets,
            record: self.archive.as_ref().filter(|a| a.enabled()).map(|a| (a.dir().to_owned(), a.flusher())),
            model: self.pipeline.model().or(self.pipeline.default_model()).cloned(),
            now,
        };
        let tell = move |cuts: Vec<pb::Collateral>, basis| {
            let aimed = detail.options.iter_mut().filter(|o| !o.target.is_empty());
            aimed.zip(cuts).for_each(|(o, cut)| o.collateral = Some(cut));
            detail.basis = basis;
            drop(reply.send(Ok(detail)));
        };
        if let Err(e) = prediction.start(&self.review.readers, tell) {
            // The reply is gone with the thread that was not started: the caller is told that no answer came.
            self.warn("review", format!("what answers would cut could not be predicted: {e}"));
        }
    }

    fn answer_question(&mut self, id: u64, new: NewAnswer, by: &Caller) -> Result<pb::Question, CommandError> {
        let now = self.now();
        let q = self.review.questions.answerable(id, now)?.clone();
        let answer = Answer {
            choice: new.choice,
            width: new.width,
            limit: new.limit,
            ttl_us: new.lifetime.map(|d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX)),
            comment: new.comment,
            by: by.to_string(),
        };
        let mut given = Given {
            at_us: now,
            answer,
            came_to: String::new(),
            decision_id: None,
            made: false,
            suppression_id: None,
            quiet_until_us: now,
        };
        let done = match resolve(&q, &given.answer)? {
            Resolved::Ignore { ttl_us } => {
                given.quiet_until_us = now.saturating_add(ttl_us);
                format!("ignored, and not asked again for {}", duration_words(ttl_us))
            }
            Resolved::Suppress { prefix, ports, ttl_us } => {
                let scope = LabelScope { prefix: Some(prefix), ports, ..LabelScope::default() };
                let comment = &given.answer.comment;
                let suppression = self.suppress_for(&q, scope, ttl_us, comment, by, now)?;
                given.suppression_id = Some(suppression);
                given.quiet_until_us = now.saturating_add(ttl_us);
                format!("normal for {} (suppression {suppression})", duration_words(ttl_us))
            }
            Resolved::Decide(wanted) => {
                let (decision, made) = self.enter(now, wanted)?;
                (given.decision_id, given.made) = (Some(decision.id), made);
                decided_words(&decision, self.config.mode)
            }
        };
        given.came_to = format!("{done}, by {}", given.answer.by);
        let note = given.came_to.clone();
        let q = self.review.questions.answer(id, given)?.clone();
        // Before it is answered: it holds over a kill, and the kernel has it.
        self.unsaved = true;
        self.settle(now);
        self.tell(now, QuestionChange::Answered, &q, note);
        Ok(review::question(&q))
    }

    /// A suppression, and the label that it rests on where the alert is known and has none yet.
    fn suppress_for(
        &mut self,
        q: &Question,
        scope: LabelScope,
        ttl_us: u64,
        comment: &str,
        by: &Caller,
        now: TimeUs,
    ) -> Result<u64, CommandError> {
        let alert_id = q.proposed.alert_id.filter(|id| self.alert_at_hand(*id).is_ok());
        let alert_id = alert_id.filter(|id| self.review.labels.check(*id).is_ok());
        let comment = if comment.is_empty() { format!("answer to question {}", q.id) } else { comment.to_owned() };
        if let Some(alert_id) = alert_id {
            let (_, made) = self.label(alert_id, Truth::FalseAlarm, scope.clone(), Some(ttl_us), &comment, by, now)?;
            if let Some(made) = made {
                return Ok(made.id);
            }
        }
        let scope = super::feedback::scope_of(scope, None, &[])?;
        self.suppress(scope, Some(ttl_us), &comment, by, format!("question {}", q.id), now).map(|s| s.id)
    }

    /// A decision of a person, or one that a question came to; whether it is a new one.
    fn enter(&mut self, now: TimeUs, wanted: NewDecision) -> Result<(Decision, bool), CommandError> {
        if self.kernel.is_none() {
            let words = "this agent has no interface, so it can stop nothing; set `interface`, or run it with -i";
            return Err(CommandError::Refused(words.to_owned()));
        }
        Ok(self.enter_into(now, wanted)?)
    }

    fn enter_into(&mut self, now: TimeUs, wanted: NewDecision) -> Result<(Decision, bool), Refusal> {
        let added = self.decisions.add(wanted, now)?;
        let decision = added.decision().clone();
        let change = match added {
            Added::New(_) => DecisionChange::Added,
            Added::Extended(_) => DecisionChange::Extended,
            Added::Unchanged(_) => return Ok((decision, false)),
        };
        self.unwritten = true;
        self.unconfirmed.push(decision.id);
        self.decided(now, change, decision.clone(), String::new());
        Ok((decision, change == DecisionChange::Added))
    }

    fn undo_answer(&mut self, id: u64, by: &Caller) -> Result<pb::UndoAnswerResponse, CommandError> {
        let now = self.now();
        let given = self.review.questions.answered(id)?.clone();
        let mut lifted = Vec::new();
        if let Some(decision) = given.decision_id {
            lifted.push(match given.made.then(|| self.decisions.delete(decision)) {
                None => format!("decision {decision} stays: it held before"),
                Some(Err(_)) => format!("decision {decision} had ended already"),
                Some(Ok(d)) => {
                    self.unwritten = true;
                    // As where a person deletes it: the evidence of before must not bring it back at once.
                    if let Some(host) = host_of(d.target) {
                        self.pipeline.forgive(host);
                    }
                    let words = format!("decision {decision} on {} is lifted", d.target);
                    self.decided(now, DecisionChange::Deleted, d, by.sign(&format!("question {id} undone")));
                    words
                }
            });
        }
        if let Some(suppression) = given.suppression_id {
            lifted.push(self.take_back_suppression(suppression, by, now));
        }
        let q = self.review.questions.undo(id, &by.to_string(), now)?.clone();
        self.unsaved = true;
        self.settle(now);
        let lifted = lifted.join("; ");
        let open = if q.is_open() { "it is open again" } else { "its time is over" };
        let note = [lifted.as_str(), open].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join("; ");
        self.tell(now, QuestionChange::Undone, &q, by.sign(&note));
        Ok(pb::UndoAnswerResponse { question: Some(review::question(&q)), lifted })
    }

    /// Ends what nobody answered, as it was to end.
    pub(super) fn lapse_questions(&mut self, now: TimeUs) {
        for q in self.review.questions.due(now) {
            let (decision_id, note) = match self.act_unanswered(&q, now) {
                None => (None, "nobody answered: nothing is done".to_owned()),
                Some(Ok(d)) => {
                    let words = decided_words(&d, self.config.mode);
                    (Some(d.id), format!("nobody answered: {words}"))
                }
                Some(Err(why)) => (None, format!("nobody answered, and nothing is done: {why}")),
            };
            self.unsaved = true;
            if let Some(q) = self.review.questions.lapse(q.id, now, decision_id, note.clone()).cloned() {
                self.tell(now, QuestionChange::Expired, &q, note);
            }
        }
        for s in self.pipeline.suppressions.expire(now) {
            self.unsaved = true;
            self.pipeline.begin_anew(s.scope.prefix);
            let words =
                format!("suppression {} of {} is over: {} alerts were not raised", s.id, s.scope.prefix, s.alerts);
            self.news(now, Level::Info, "suppression", words);
        }
    }

    /// `None`: it was asked to lapse. Silence does no more than what the agent might do by itself now.
    fn act_unanswered(&mut self, q: &Question, now: TimeUs) -> Option<Result<Decision, String>> {
        if q.unanswered == Unanswered::Nothing {
            return None;
        }
        let suppressed = self.pipeline.suppressions.live().iter().find(|s| s.scope.prefix.contains(q.source));
        let why = if !matches!(self.mode(), Mode::Review | Mode::Enforce) {
            format!("the mode is {} now", self.mode().name())
        } else if self.pipeline.policy.tripped() {
            "the breaker has tripped".to_owned()
        } else if let Some(s) = suppressed {
            format!("suppression {} holds", s.id)
        } else {
            let id = q.id;
            let reason = format!("nobody answered question {id}; {}", q.proposed.reason);
            let wanted = NewDecision { origin: Origin::Automatic, reason, ..q.proposed.clone() };
            return Some(self.enter(now, wanted).map(|(d, _)| d).map_err(|e| e.to_string()));
        };
        Some(Err(why))
    }

    /// Closes the open questions that rest on an alert that was none.
    pub(super) fn close_questions(&mut self, alert_id: u64, suppression_id: Option<u64>, by: &Caller, now: TimeUs) {
        let about = |q: &&Question| q.is_open() && q.proposed.alert_id == Some(alert_id);
        let ids: Vec<u64> = self.review.questions.iter().filter(about).map(|q| q.id).collect();
        for id in ids {
            let answer = Answer {
                choice: Choice::Suppress,
                width: None,
                limit: None,
                ttl_us: None,
                comment: String::new(),
                by: by.to_string(),
            };
            let came_to = format!("alert {alert_id} is a false alarm, by {by}");
            let given = Given {
                at_us: now,
                answer,
                came_to: came_to.clone(),
                decision_id: None,
                made: false,
                suppression_id,
                quiet_until_us: now,
            };
            if let Ok(q) = self.review.questions.answer(id, given).cloned() {
                self.tell(now, QuestionChange::Answered, &q, came_to);
            }
        }
    }

    /// What is stored of it all.
    pub(super) fn store_review(&mut self, now: TimeUs) {
        let r = &mut self.review;
        // What is left of a time is counted from when it was stored: those with times are stored each time.
        self.state.review.questions = r.questions.snapshot(now);
        self.state.review.suppressions = self.pipeline.suppressions.snapshot(now);
        if r.labels.changes() != r.labels_stored {
            self.state.review.labels = r.labels.snapshot();
            r.labels_stored = r.labels.changes();
        }
    }
}

fn decided_words(d: &Decision, mode: Mode) -> String {
    let action = match d.action {
        Action::Drop => "drop".to_owned(),
        Action::Limit => format!("limit to {}", d.limit.map(|l| l.to_string()).unwrap_or_default()),
        Action::Shadow => "watch".to_owned(),
    };
    let held =
        d.expires_us.map(|e| format!(" for {}", duration_words(e.saturating_sub(d.created_us)))).unwrap_or_default();
    let dry = match mode {
        Mode::Review | Mode::Enforce => "",
        Mode::Shadow => " (mode shadow: it drops nothing)",
        Mode::Observe => " (mode observe: nothing is entered)",
    };
    format!("{action} {}{held} (decision {}){dry}", d.target, d.id)
}
