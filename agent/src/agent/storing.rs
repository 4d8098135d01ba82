//! What is stored, and when: decisions before anybody is told that they hold, everything else as it happens.

use tokio::sync::oneshot;
use weir_core::addr::Addr;
use weir_core::event::{DecisionChange, Event};
use weir_core::record::TimeUs;

use super::Agent;
use crate::clock::wall_us;
use crate::command::{
    Caller, Command, CommandError, FeedbackCommand, Identity, ListsCommand, LiveCommand, Recorded, Reply,
    ReviewCommand, SinksCommand,
};
use crate::deciding::Acted;
use crate::evidence::{Case, Document};
use crate::store::{Audited, Happened, Journal, Proof, Row, Saved, read};

/// Changes are stored at most this often.
const SAVE_EVERY_US: u64 = 1_000_000;
/// Longer results are cut: they are for people.
const MAX_RESULT: usize = 500;

impl Agent {
    pub(super) fn save(&mut self, now: TimeUs, at_once: bool) {
        if !at_once && (!self.unsaved || now.saturating_sub(self.saved_us) < SAVE_EVERY_US && now >= self.saved_us) {
            return;
        }
        self.saved_us = now;
        match Saved::now() {
            Ok(saved) => self.state.saved = saved,
            Err(e) => return self.warn("state", format!("the state was not stored: {e}")),
        }
        self.state.next_alert_id = self.pipeline.policy.next_alert_id();
        self.store_review(now);
        match self.store.save(&self.state, &mut self.decisions, now) {
            Ok(()) => {
                self.unsaved = false;
                if self.unstored {
                    self.unstored = false;
                    self.warnings.remove("state");
                    log::info!("the state is stored again");
                }
            }
            Err(e) => {
                self.unsaved = true;
                self.unstored = true;
                *self.lost.entry("attempts to store decisions").or_default() += 1;
                let words = "what is blocked stays blocked; what was decided since is not kept over a restart";
                self.warn("state", format!("the state was not stored: {e}; {words}"));
            }
        }
    }

    /// Keeps what an alert or an automatic decision rests on.
    pub(super) fn prove(&self, now: TimeUs, source: Addr, acted: &Acted) {
        let alert = acted.events.iter().find_map(|e| match e {
            Event::Alert(a) => Some(&**a),
            _ => None,
        });
        let decision = acted.events.iter().find_map(|e| match e {
            Event::Decision { change: DecisionChange::Added, decision, .. } => Some(&**decision),
            _ => None,
        });
        if alert.is_none() && decision.is_none() {
            return;
        }
        let (Some(model), Some(exhibits)) = (self.pipeline.serving(), &self.pipeline.exhibits) else { return };
        let since_us = alert.map_or(0, |a| a.since_us);
        let within = decision.map_or(source.subject(), |d| d.target.prefix());
        let document = Document::new(Case {
            now,
            source,
            mode: self.mode().name(),
            alert,
            decision,
            model,
            config: &self.config,
            shown: exhibits.of(within, since_us),
        });
        self.store.journal().add(Row::Evidence(Box::new(Proof {
            time_us: now,
            source: source.to_string(),
            alert_id: alert.map(|a| a.id).or(decision.and_then(|d| d.alert_id)),
            decision_id: decision.map(|d| d.id),
            body: document.seal(),
        })));
    }

    /// Whoever is told that something holds is told where it would not hold over a restart.
    pub(super) fn unstored_note(&self, note: String) -> String {
        if !self.unsaved {
            return note;
        }
        let words = "it holds, but could not be stored: it may end with a restart (`weir status` says why)";
        if note.is_empty() { words.to_owned() } else { format!("{note}; {words}") }
    }

    /// Answers questions about what happened.
    pub(super) fn look_up(&self, question: Recorded) {
        match question {
            Recorded::History { target, since_us, limit, reply } => {
                self.ask_store(reply, move |db| read::history(db, target, since_us, limit).map(Ok));
            }
            Recorded::Audit { since_us, limit, reply } => {
                self.ask_store(reply, move |db| read::audit(db, since_us, limit).map(Ok));
            }
            Recorded::Evidence { since_us, limit, reply } => {
                self.ask_store(reply, move |db| read::proofs(db, since_us, limit).map(Ok));
            }
            Recorded::GetEvidence { which, reply } => self.ask_store(reply, move |db| {
                let none = || {
                    CommandError::NotFound(format!(
                        "there is no evidence {which}; `weir evidence list` shows what is kept"
                    ))
                };
                Ok(read::proof(db, which)?.ok_or_else(none))
            }),
        }
    }

    /// Hands over what belongs to the record.
    pub(super) fn remember(&self, event: &Event) {
        let Event::Decision { time_us, change, decision, mode, note } = event else { return };
        let over = matches!(change, DecisionChange::Expired | DecisionChange::Deleted | DecisionChange::Superseded);
        // Its entry is still there: entries are taken out behind the events.
        let hits = self.kernel.as_ref().filter(|_| over).map(|k| k.enforcer.hits(decision.target).0);
        self.store.journal().add(Row::History(Box::new(Happened {
            time_us: *time_us,
            change: change.name().to_owned(),
            decision: (**decision).clone(),
            mode: mode.name().to_owned(),
            note: note.clone(),
            hits: hits.map(|h| [h.packets, h.bytes]),
        })));
    }

    /// Asks the store, off the event loop.
    pub(super) fn ask_store<T: Send + 'static>(
        &self,
        reply: Reply<T>,
        read: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<Result<T, CommandError>> + Send + 'static,
    ) {
        self.store.journal().ask(move |db| {
            let answer = match db.map(read) {
                Ok(Ok(answer)) => answer,
                Ok(Err(e)) => Err(CommandError::Failed(format!("the store cannot be read: {e}"))),
                Err(why) => Err(CommandError::Failed(why)),
            };
            // Whoever asked may have hung up.
            drop(reply.send(answer));
        });
    }
}

/// Passes a command on whose outcome is put on record, if it is one that changes something. Every command is named here, so that none is
/// forgotten.
pub(super) fn audited(journal: &Journal, command: Command) -> Command {
    let to = |by: &Caller, call: &'static str, subject: String| Call {
        journal: journal.clone(),
        caller: who(by),
        call,
        subject,
    };
    match command {
        Command::AddDecision { new, reply } => {
            let mut subject = format!("{} {}", word(&new.action), new.target);
            if let Some(limit) = new.limit {
                subject += &format!(" ({limit})");
            }
            subject +=
                &new.lifetime.map_or(", until deleted".to_owned(), |d| format!(", for {}", crate::human::rough(d)));
            if !new.reason.is_empty() {
                subject += &format!(", because {:?}", new.reason);
            }
            let call = to(&new.by, "decisions add", subject);
            Command::AddDecision { reply: call.watch(reply), new }
        }
        Command::ConfirmDecision { id, by, reply } => {
            let reply = to(&by, "decisions confirm", format!("decision {id}")).watch(reply);
            Command::ConfirmDecision { id, by, reply }
        }
        Command::DeleteDecision { which, by, reply } => {
            let reply = to(&by, "decisions delete", which.to_string()).watch(reply);
            Command::DeleteDecision { which, by, reply }
        }
        Command::AllowAdd { prefix, comment, lifetime, by, reply } => {
            let subject = if comment.is_empty() { prefix.to_string() } else { format!("{prefix} ({comment})") };
            let reply = to(&by, "allowlist add", subject).watch(reply);
            Command::AllowAdd { prefix, comment, lifetime, by, reply }
        }
        Command::AllowRemove { prefix, by, reply } => {
            let reply = to(&by, "allowlist remove", prefix.to_string()).watch(reply);
            Command::AllowRemove { prefix, by, reply }
        }
        Command::Learn { duration, min_flows, from, by, reply } => {
            let reply = to(&by, "learn", String::new()).watch(reply);
            Command::Learn { duration, min_flows, from, by, reply }
        }
        Command::ModelLoad { staged, purpose, by, reply } => {
            let reply = to(&by, "model load", format!("{purpose:?}").to_lowercase()).watch(reply);
            Command::ModelLoad { staged, purpose, by, reply }
        }
        Command::ModelPromote { id, by, reply } => {
            let subject = id.clone().unwrap_or_else(|| "the current bundle".to_owned());
            let reply = to(&by, "model promote", subject).watch(reply);
            Command::ModelPromote { id, by, reply }
        }
        Command::ModelRollBack { steps, by, reply } => {
            let reply = to(&by, "model rollback", format!("{steps} steps")).watch(reply);
            Command::ModelRollBack { steps, by, reply }
        }
        Command::ModelChallenge { id, by, reply } => {
            let reply = to(&by, "model challenge", id.clone()).watch(reply);
            Command::ModelChallenge { id, by, reply }
        }
        Command::ModelUnchallenge { by, reply } => {
            let reply = to(&by, "model challenge", "none".to_owned()).watch(reply);
            Command::ModelUnchallenge { by, reply }
        }
        Command::ReloadConfig { by, reply } => {
            let reply = to(&by, "config reload", String::new()).watch(reply);
            Command::ReloadConfig { by, reply }
        }
        Command::Review(command) => Command::Review(audited_review(&to, command)),
        Command::Feedback(command) => Command::Feedback(audited_feedback(&to, command)),
        Command::Lists(command) => Command::Lists(audited_lists(&to, command)),
        Command::Live(command) => Command::Live(audited_live(&to, command)),
        Command::Sinks(SinksCommand::Test { name, by, reply }) => {
            let reply = to(&by, "sinks test", format!("sink {name}")).watch(reply);
            Command::Sinks(SinksCommand::Test { name, by, reply })
        }
        // These change nothing; a staged bundle is a folder that goes again unless it is loaded.
        other @ (Command::Status { .. }
        | Command::Measure { .. }
        | Command::ListDecisions { .. }
        | Command::AllowList { .. }
        | Command::AllowCheck { .. }
        | Command::ModelStatus { .. }
        | Command::ModelInspect { .. }
        | Command::ModelStage { .. }
        | Command::ModelCompare { .. }
        | Command::FlushRecord { .. }
        | Command::ListAlerts { .. }
        | Command::GetAlert { .. }
        | Command::ModelDrift { .. }
        | Command::Sinks(SinksCommand::List { .. })
        | Command::Recorded(_)) => other,
    }
}

type To<'a> = dyn Fn(&Caller, &'static str, String) -> Call + 'a;

fn audited_review(to: &To<'_>, command: ReviewCommand) -> ReviewCommand {
    match command {
        ReviewCommand::Answer { id, answer, by, reply } => {
            let mut subject = format!("question {id}: {}", word(&answer.choice));
            if !answer.comment.is_empty() {
                subject += &format!(" ({})", answer.comment);
            }
            let reply = to(&by, "review answer", subject).watch(reply);
            ReviewCommand::Answer { id, answer, by, reply }
        }
        ReviewCommand::Undo { id, by, reply } => {
            let reply = to(&by, "review undo", format!("question {id}")).watch(reply);
            ReviewCommand::Undo { id, by, reply }
        }
        other @ (ReviewCommand::List { .. } | ReviewCommand::Get { .. }) => other,
    }
}

fn audited_feedback(to: &To<'_>, command: FeedbackCommand) -> FeedbackCommand {
    match command {
        FeedbackCommand::Label { alert_id, truth, scope, lifetime, comment, by, reply } => {
            let reply = to(&by, "alerts label", format!("alert {alert_id}: {}", word(&truth))).watch(reply);
            FeedbackCommand::Label { alert_id, truth, scope, lifetime, comment, by, reply }
        }
        FeedbackCommand::UndoLabel { id, by, reply } => {
            let reply = to(&by, "labels undo", format!("label {id}")).watch(reply);
            FeedbackCommand::UndoLabel { id, by, reply }
        }
        FeedbackCommand::Suppress { scope, lifetime, comment, by, reply } => {
            let of = scope.prefix.map_or_else(|| "anybody".to_owned(), |p| p.to_string());
            let reply = to(&by, "suppressions add", of).watch(reply);
            FeedbackCommand::Suppress { scope, lifetime, comment, by, reply }
        }
        FeedbackCommand::Unsuppress { id, by, reply } => {
            let reply = to(&by, "suppressions remove", format!("suppression {id}")).watch(reply);
            FeedbackCommand::Unsuppress { id, by, reply }
        }
        other @ (FeedbackCommand::Labels { .. } | FeedbackCommand::Suppressions { .. }) => other,
    }
}

fn audited_lists(to: &To<'_>, command: ListsCommand) -> ListsCommand {
    match command {
        ListsCommand::Take { draft, take, dry_run: false, by, reply } => {
            let reply = to(&by, "decisions import", format!("list {}", draft.name)).watch(reply);
            ListsCommand::Take { draft, take, dry_run: false, by, reply }
        }
        ListsCommand::Remove { name, by, reply } => {
            let reply = to(&by, "lists remove", name.clone()).watch(reply);
            ListsCommand::Remove { name, by, reply }
        }
        other @ (ListsCommand::Take { dry_run: true, .. } | ListsCommand::List { .. } | ListsCommand::Show { .. }) => {
            other
        }
    }
}

fn audited_live(to: &To<'_>, command: LiveCommand) -> LiveCommand {
    match command {
        LiveCommand::WebLogin { name, role, by, reply } => {
            let role_words = role.map_or("the configured role", crate::command::Role::name);
            let subject = if name.is_empty() { role_words.to_owned() } else { format!("{name} ({role_words})") };
            let reply = to(&by, "web login", subject).watch(reply);
            LiveCommand::WebLogin { name, role, by, reply }
        }
        other @ (LiveCommand::TopSources { .. }
        | LiveCommand::SearchFlows { .. }
        | LiveCommand::ShowConfig { .. }
        | LiveCommand::ModelCalibration { .. }) => other,
    }
}

/// With the process, which people can look for, or where the certificate was used from.
fn who(by: &Caller) -> String {
    match &by.who {
        Identity::Local { pid: Some(pid), .. } => format!("{by}, process {pid}"),
        Identity::Local { .. } => by.to_string(),
        Identity::Certificate { from, .. } | Identity::Web { from, .. } => format!("{by}, from {from}"),
    }
}

fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|v| Some(v.as_str()?.to_owned())).unwrap_or_default()
}

/// A call that changes something.
struct Call {
    journal: Journal,
    caller: String,
    call: &'static str,
    subject: String,
}

impl Call {
    /// An answer to the reply that is given back is put on record, then passed on to `reply`.
    fn watch<T: Send + 'static>(self, reply: Reply<T>) -> Reply<T> {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            self.note(None);
            return reply;
        };
        let (inner, answer) = oneshot::channel::<Result<T, CommandError>>();
        runtime.spawn(async move {
            match answer.await {
                Ok(answer) => {
                    let failed = answer.as_ref().err();
                    self.note(Some(failed));
                    drop(reply.send(answer));
                }
                // It ended without an answer: whoever asked sees the same.
                Err(_) => self.note(None),
            }
        });
        inner
    }

    /// `None`: no answer is known.
    fn note(self, outcome: Option<Option<&CommandError>>) {
        let (ok, result) = match outcome {
            Some(None) => (true, "done".to_owned()),
            Some(Some(e)) => (false, e.to_string().chars().take(MAX_RESULT).collect()),
            None => (false, "no answer: the agent ended meanwhile".to_owned()),
        };
        self.journal.add(Row::Audit(Audited {
            time_us: wall_us(),
            caller: self.caller,
            call: self.call.to_owned(),
            subject: self.subject,
            ok,
            result,
        }));
    }
}
