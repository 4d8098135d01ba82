//! What people say about alerts: labels, and suppressions of what is normal here.

use weir_core::decision::Origin;
use weir_core::event::{DecisionChange, Level};
use weir_core::label::{Label, LabelError, NewLabel, Truth};
use weir_core::profile::ProfileId;
use weir_core::record::TimeUs;
use weir_core::render::rfc3339;
use weir_core::suppression::{DEFAULT_TTL_US, NewSuppression, Scope, Suppression, SuppressionError};

use super::Agent;
use crate::api::review;
use crate::command::{AlertReport, Caller, CommandError, FeedbackCommand, LabelScope};
use crate::proto as pb;

impl From<LabelError> for CommandError {
    fn from(e: LabelError) -> Self {
        let words = e.to_string();
        match e {
            LabelError::Full => CommandError::Full(words),
            LabelError::Unknown(_) => CommandError::NotFound(words),
            LabelError::Labelled { .. } | LabelError::Undone { .. } => CommandError::Refused(words),
        }
    }
}

impl From<SuppressionError> for CommandError {
    fn from(e: SuppressionError) -> Self {
        let words = e.to_string();
        match e {
            SuppressionError::Full => CommandError::Full(words),
            SuppressionError::Unknown(_) => CommandError::NotFound(words),
            SuppressionError::TooWide { .. } | SuppressionError::Time | SuppressionError::TooMany => {
                CommandError::Invalid(words)
            }
        }
    }
}

pub(super) fn carry_out(agent: &mut Agent, command: FeedbackCommand) {
    let us = |d: std::time::Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    match command {
        FeedbackCommand::Label { alert_id, truth, scope, lifetime, comment, by, reply } => {
            let now = agent.now();
            let labelled = agent.label(alert_id, truth, scope, lifetime.map(us), &comment, &by, now);
            drop(reply.send(labelled.map(|(label, made)| {
                agent.close_questions_of(&label, &by, now);
                agent.settle(now);
                pb::LabelAlertResponse {
                    label: Some(review::label(&label)),
                    suppression: made.as_ref().map(review::suppression),
                }
            })));
        }
        FeedbackCommand::Labels { reply } => {
            drop(reply.send(Ok(agent.review.labels.iter().rev().map(review::label).collect())));
        }
        FeedbackCommand::UndoLabel { id, by, reply } => drop(reply.send(agent.undo_label(id, &by))),
        FeedbackCommand::Suppressions { reply } => {
            drop(reply.send(Ok(agent.pipeline.suppressions.live().iter().map(review::suppression).collect())));
        }
        FeedbackCommand::Suppress { scope, lifetime, comment, by, reply } => {
            let now = agent.now();
            let made = scope_of(scope, None, &[])
                .and_then(|scope| agent.suppress(scope, lifetime.map(us), &comment, &by, String::new(), now));
            drop(reply.send(made.map(|s| {
                agent.settle(now);
                review::suppression(&s)
            })));
        }
        FeedbackCommand::Unsuppress { id, by, reply } => drop(reply.send(agent.unsuppress(id, &by))),
    }
}

/// What is meant, as it is kept. Without features, an alert's own are: what else is strange about its source stays evidence.
pub(super) fn scope_of(
    scope: LabelScope,
    alert: Option<&AlertReport>,
    strange: &[&'static str],
) -> Result<Scope, CommandError> {
    let invalid = |words: String| Err(CommandError::Invalid(words));
    let prefix = match (scope.prefix, alert) {
        (None, None) => return invalid("a prefix is needed: who is meant".to_owned()),
        (None, Some(a)) => a.source.subject(),
        (Some(p), Some(a)) if !p.contains(a.source) => {
            return invalid(format!("alert {} is about {}, which does not lie in {p}", a.id, a.source));
        }
        (Some(p), _) => p,
    };
    let known = |name: &str| ProfileId::ALL.iter().any(|p| p.features().iter().any(|f| f.name == name));
    if let Some(bad) = scope.features.iter().find(|f| !known(f)) {
        return invalid(format!("`{bad}` is no feature; `weir alerts show ID -o json` names those of an alert"));
    }
    let features = match alert {
        Some(a) if scope.features.is_empty() && !scope.any_feature => {
            let named = a.reasons.iter().map(|r| r.feature.clone()).filter(|f| known(f));
            named.chain(strange.iter().map(|f| (*f).to_owned())).collect()
        }
        _ => scope.features,
    };
    Ok(Scope { prefix, ports: scope.ports, role: scope.role, features })
}

impl Agent {
    /// Says what an alert was. A false alarm makes a suppression and lifts what was decided automatically because of it.
    #[expect(clippy::too_many_arguments, reason = "each is something that the person said")]
    pub(super) fn label(
        &mut self,
        alert_id: u64,
        truth: Truth,
        scope: LabelScope,
        ttl_us: Option<u64>,
        comment: &str,
        by: &Caller,
        now: TimeUs,
    ) -> Result<(Label, Option<Suppression>), CommandError> {
        let alert = self.alert_at_hand(alert_id)?;
        self.review.labels.check(alert_id)?;
        if truth != Truth::FalseAlarm && (scope != LabelScope::default() || ttl_us.is_some()) {
            let words = "a scope and a time say what a false alarm suppresses; nothing is suppressed here";
            return Err(CommandError::Invalid(words.to_owned()));
        }
        let made = match truth {
            Truth::FalseAlarm => {
                let scope = scope_of(scope, Some(&alert), self.pipeline.evidence().strange(alert.source))?;
                Some(self.suppress(scope, ttl_us, comment, by, format!("alert {alert_id}"), now)?)
            }
            Truth::Attack => {
                self.pipeline.leave_out(alert.source);
                None
            }
            Truth::Unsure => None,
        };
        let label = self.review.labels.add(
            NewLabel {
                alert_id,
                source: alert.source,
                from_us: alert.since_us,
                to_us: alert.history.last().map_or(alert.time_us, |p| p.time_us.max(alert.time_us)),
                ports: made.as_ref().map(|s| s.scope.ports.clone()).unwrap_or_default(),
                truth,
                comment: comment.to_owned(),
                by: by.to_string(),
                suppression_id: made.as_ref().map(|s| s.id),
            },
            now,
        )?;
        if truth == Truth::FalseAlarm {
            self.lift_because_of(alert_id, by, now);
        }
        self.unsaved = true;
        let what = format!("alert {alert_id} about {} is labelled: {}", alert.source, truth.name());
        self.news(now, Level::Info, "label", by.sign(&what));
        Ok((label, made))
    }

    fn close_questions_of(&mut self, label: &Label, by: &Caller, now: TimeUs) {
        if label.truth == Truth::FalseAlarm {
            self.close_questions(label.alert_id, label.suppression_id, by, now);
        }
    }

    fn lift_because_of(&mut self, alert_id: u64, by: &Caller, now: TimeUs) {
        let meant = |d: &&weir_core::decision::Decision| d.alert_id == Some(alert_id) && d.origin == Origin::Automatic;
        let ids: Vec<u64> = self.decisions.iter().filter(meant).map(|d| d.id).collect();
        for id in ids {
            if let Ok(d) = self.decisions.delete(id) {
                self.unwritten = true;
                self.decided(now, DecisionChange::Deleted, d, by.sign(&format!("alert {alert_id} was a false alarm")));
            }
        }
    }

    pub(super) fn suppress(
        &mut self,
        scope: Scope,
        ttl_us: Option<u64>,
        comment: &str,
        by: &Caller,
        came_of: String,
        now: TimeUs,
    ) -> Result<Suppression, CommandError> {
        let new = NewSuppression {
            scope,
            ttl_us: ttl_us.unwrap_or(DEFAULT_TTL_US),
            comment: comment.to_owned(),
            by: by.to_string(),
            came_of,
        };
        let made = self.pipeline.suppressions.add(new, now)?.clone();
        // What was gathered until now was of that kind, and a person has looked at it.
        self.pipeline.begin_anew(made.scope.prefix);
        self.unsaved = true;
        let words = format!("suppression {} of {} until {}", made.id, made.scope.prefix, rfc3339(made.expires_us));
        self.news(now, Level::Info, "suppression", by.sign(&words));
        Ok(made)
    }

    fn unsuppress(&mut self, id: u64, by: &Caller) -> Result<pb::Suppression, CommandError> {
        let now = self.now();
        let gone = self.end_suppression(id, by, now)?;
        self.settle(now);
        Ok(review::suppression(&gone))
    }

    fn end_suppression(&mut self, id: u64, by: &Caller, now: TimeUs) -> Result<Suppression, SuppressionError> {
        let gone = self.pipeline.suppressions.remove(id, now)?;
        self.pipeline.begin_anew(gone.scope.prefix);
        self.unsaved = true;
        let words = format!("suppression {id} of {} was taken back", gone.scope.prefix);
        self.news(now, Level::Info, "suppression", by.sign(&words));
        Ok(gone)
    }

    /// With the label that made it, if one did; in words.
    pub(super) fn take_back_suppression(&mut self, id: u64, by: &Caller, now: TimeUs) -> String {
        let label = self.review.labels.live().find(|l| l.suppression_id == Some(id)).map(|l| l.id);
        if let Some(label) = label {
            // It holds, as was just seen.
            let _ = self.review.labels.undo(label, by.to_string(), now);
        }
        match self.end_suppression(id, by, now) {
            Ok(gone) => format!("suppression {id} of {} is lifted", gone.scope.prefix),
            Err(_) => format!("suppression {id} had ended already"),
        }
    }

    fn undo_label(&mut self, id: u64, by: &Caller) -> Result<pb::Label, CommandError> {
        let now = self.now();
        let label = self.review.labels.undo(id, by.to_string(), now)?;
        if let Some(suppression) = label.suppression_id {
            // It may have ended by itself.
            let _ = self.end_suppression(suppression, by, now);
        }
        self.unsaved = true;
        self.news(
            now,
            Level::Info,
            "label",
            by.sign(&format!("label {id} of alert {} was taken back", label.alert_id)),
        );
        self.settle(now);
        Ok(review::label(&label))
    }
}
