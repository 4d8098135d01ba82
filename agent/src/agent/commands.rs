//! Commands of people, carried out one at a time.

use std::time::Duration;

use weir_core::decision::{Decision, Origin, Target};
use weir_core::decisions::{Added, NewDecision as Wanted};
use weir_core::event::{DecisionChange, Level, Mode};
use weir_core::guard::Allow;
use weir_core::home::Home;

use super::{Agent, host_of};
use crate::clock::wall_us;
use crate::command::{
    AllowAdded, AllowReport, Caller, Command, CommandError, DecisionRef, DecisionReport, NewDecision, ReloadReport,
};
use crate::surroundings;
use weir_core::addr::Prefix;

/// Carries out a command and answers. Whoever asked may have hung up, which is no error.
pub(super) fn carry_out(agent: &mut Agent, command: Command) {
    match command {
        Command::Status { reply } => drop(reply.send(agent.status())),
        Command::Measure { reply } => drop(reply.send(agent.reading())),
        Command::ListDecisions { reply } => drop(reply.send(Ok(agent.list_decisions()))),
        Command::AddDecision { new, reply } => drop(reply.send(agent.add_decision(new))),
        Command::ConfirmDecision { id, by, reply } => drop(reply.send(agent.confirm_decision(id, &by))),
        Command::DeleteDecision { which, by, reply } => drop(reply.send(agent.delete_decision(which, &by))),
        Command::AllowList { reply } => drop(reply.send(Ok(agent.allow_list()))),
        Command::AllowAdd { prefix, comment, lifetime, by, reply } => {
            drop(reply.send(agent.allow_add(prefix, &comment, lifetime, &by)));
        }
        Command::AllowRemove { prefix, by, reply } => drop(reply.send(agent.allow_remove(prefix, &by))),
        Command::AllowCheck { prefix, reply } => {
            let covering = agent.allow_list().into_iter().filter(|a| a.prefix.overlaps(prefix)).collect();
            drop(reply.send(Ok(covering)));
        }
        Command::Learn { duration, min_flows, from, by, reply } => {
            drop(reply.send(agent.learn_anew(duration, min_flows, from, &by, wall_us())));
        }
        Command::FlushRecord { reply } => agent.flush_record(reply),
        Command::ListAlerts { within, since_us, limit, reply } => {
            agent.list_alerts(within, since_us, limit, reply);
        }
        Command::GetAlert { id, reply } => agent.get_alert(id, reply),
        Command::ModelDrift { reply } => drop(reply.send(Ok(agent.drift_status()))),
        Command::ModelStatus { reply } => agent.bundles(reply),
        Command::ModelInspect { id, reply } => agent.inspect(&id, reply),
        Command::ModelStage { reply } => drop(reply.send(agent.stage())),
        Command::ModelLoad { staged, purpose, by, reply } => agent.load(staged, purpose, by, reply),
        Command::ModelPromote { id, by, reply } => agent.promote(id.as_deref(), by, reply),
        Command::ModelRollBack { steps, by, reply } => agent.roll_back(steps, by, reply),
        Command::ModelChallenge { id, by, reply } => agent.challenge(&id, by, reply),
        Command::ModelUnchallenge { by, reply } => drop(reply.send(agent.unchallenge(&by))),
        Command::ModelCompare { reply } => agent.compare(reply),
        Command::Review(command) => super::reviewing::carry_out(agent, command),
        Command::Feedback(command) => super::feedback::carry_out(agent, command),
        Command::Lists(command) => agent.lists_command(command),
        Command::Recorded(question) => agent.look_up(question),
        Command::Live(command) => super::looking::carry_out(agent, command),
        Command::Sinks(command) => agent.sinks_command(command),
        Command::ReloadConfig { by, reply } => drop(reply.send(agent.reload_by(&by))),
    }
}

impl Agent {
    fn list_decisions(&self) -> Vec<DecisionReport> {
        self.decisions.iter().map(|d| self.report(d.clone(), String::new())).collect()
    }

    pub(super) fn report(&self, decision: Decision, note: String) -> DecisionReport {
        let enforcer = self.kernel.as_ref().map(|k| &k.enforcer);
        let (hits, last_hit_us) = enforcer.map(|e| e.hits(decision.target)).unwrap_or_default();
        let course = enforcer.and_then(|e| e.course(decision.target, wall_us()));
        // An error reads as not enforced, which is what the list is looked at for.
        let enforced = enforcer.is_some_and(|e| e.holds(decision.target).unwrap_or(false)) && self.protects_any();
        let awaiting_confirmation = self.decisions.awaits_confirmation(decision.id);
        DecisionReport {
            decision,
            enforced,
            awaiting_confirmation,
            packets: hits.packets,
            bytes: hits.bytes,
            last_hit_us,
            note,
            course,
        }
    }

    fn add_decision(&mut self, mut new: NewDecision) -> Result<DecisionReport, CommandError> {
        if self.kernel.is_none() {
            let words = "this agent has no interface, so it can stop nothing; set `interface`, or run it with -i";
            return Err(CommandError::Refused(words.to_owned()));
        }
        let risky = self.confirm_risky(&mut new);
        let now = self.now();
        let reason = new.reason_with_caller();
        let us = |d: std::time::Duration| d.as_micros() as u64;
        let added = self.decisions.add(
            Wanted {
                target: self.oriented(new.target),
                action: new.action,
                limit: new.limit,
                sides: new.sides,
                origin: Origin::Manual,
                ttl_us: new.lifetime.map(us),
                reason,
                instead_of: None,
                alert_id: None,
                confirm_within_us: new.confirm_within.map(us),
            },
            now,
        )?;
        let mut note = match self.config.mode {
            Mode::Review | Mode::Enforce => String::new(),
            Mode::Shadow => "mode shadow: it counts what it would have dropped, and drops nothing".to_owned(),
            Mode::Observe => "mode observe: nothing is entered".to_owned(),
        };
        if let Some(risky) = risky {
            note = if note.is_empty() { risky } else { format!("{risky}; {note}") };
        }
        let change = match &added {
            Added::New(_) => DecisionChange::Added,
            Added::Extended(_) => DecisionChange::Extended,
            Added::Unchanged(d) => return Ok(self.report(d.clone(), note)),
        };
        let decision = added.decision().clone();
        self.unwritten = true;
        self.unconfirmed.push(decision.id);
        self.decided(now, change, decision.clone(), note.clone());
        // Before it is answered: "enforced" is what the kernel says.
        self.settle(now);
        Ok(self.report(decision, self.unstored_note(note)))
    }

    fn confirm_decision(&mut self, id: u64, by: &Caller) -> Result<DecisionReport, CommandError> {
        let now = self.now();
        let decision = self.decisions.confirm(id, now)?;
        self.unwritten = true;
        self.decided(now, DecisionChange::Extended, decision.clone(), by.sign("confirmed"));
        self.settle(now);
        Ok(self.report(decision, self.unstored_note(String::new())))
    }

    /// The far end of a flow first, however it was copied from a list of flows.
    fn oriented(&self, target: Target) -> Target {
        // Others have no ends to turn; the host need not be asked for its addresses.
        if !matches!(target, Target::Flow(_)) {
            return target;
        }
        let (home, own) = (super::home(&self.config), Home::new(surroundings::home(|_| false)));
        target.oriented(|addr| home.contains(addr)).oriented(|addr| own.contains(addr))
    }

    fn delete_decision(&mut self, which: DecisionRef, by: &Caller) -> Result<Vec<Decision>, CommandError> {
        let now = self.now();
        let gone = match which {
            DecisionRef::Id(id) => vec![self.decisions.delete(id).map_err(|e| match self.decisions.list_of(id) {
                Some(list) => CommandError::Refused(on_list(&list.name)),
                None => e.into(),
            })?],
            DecisionRef::Target(target) => self.decisions.delete_target(self.oriented(target)),
        };
        if let (true, DecisionRef::Target(target)) = (gone.is_empty(), which)
            && let Some(name) = self.decisions.lists_with(target).first()
        {
            return Err(CommandError::Refused(on_list(name)));
        }
        if gone.is_empty() {
            return Err(CommandError::NotFound(format!(
                "there is no decision on {which}; `weir decisions list` shows all"
            )));
        }
        self.unwritten = true;
        for d in &gone {
            // A person released it: the evidence of before must not block it again at once.
            if let Some(host) = host_of(d.target) {
                self.pipeline.forgive(host);
            }
            self.decided(now, DecisionChange::Deleted, d.clone(), by.sign(""));
        }
        self.settle(now);
        Ok(gone)
    }

    fn allow_list(&self) -> Vec<AllowReport> {
        let guard = self.decisions.guard();
        let listed = guard.allow().iter().map(|a| AllowReport {
            prefix: a.prefix,
            comment: a.comment.clone(),
            origin: "added by command".to_owned(),
            removable: true,
            expires_us: a.expires_us,
        });
        let safe = guard.safe().iter().map(|s| AllowReport {
            prefix: s.prefix,
            comment: String::new(),
            origin: s.why.clone(),
            removable: false,
            expires_us: None,
        });
        listed.chain(safe).collect()
    }

    fn allow_add(
        &mut self,
        prefix: Prefix,
        comment: &str,
        lifetime: Option<Duration>,
        by: &Caller,
    ) -> Result<AllowAdded, CommandError> {
        let now = self.now();
        if lifetime.is_some_and(|l| l.as_micros() == 0) {
            let words = "an allow entry with a lifetime of 0 would never hold; give a longer one, such as 1h";
            return Err(CommandError::Invalid(words.to_owned()));
        }
        let expires_us = lifetime.map(|l| now.saturating_add(l.as_micros() as u64));
        let allow = Allow { prefix, created_us: now, expires_us, comment: by.sign(comment) };
        let lifted = self.decisions.allow(allow).map_err(|e| CommandError::Full(e.to_string()))?;
        self.unwritten = true;
        self.unsaved = true;
        for d in &lifted {
            self.decided(now, DecisionChange::Deleted, d.clone(), format!("{prefix} is on the allow list now"));
        }
        self.news(now, Level::Info, "allow", by.sign(&format!("{prefix} is on the allow list")));
        self.settle(now);
        let entry = self.allow_list().into_iter().find(|a| a.removable && a.prefix == prefix);
        let entry = entry.ok_or_else(|| CommandError::Failed(format!("{prefix} did not get onto the allow list")))?;
        Ok(AllowAdded { entry, lifted })
    }

    fn allow_remove(&mut self, prefix: Prefix, by: &Caller) -> Result<AllowReport, CommandError> {
        let now = self.now();
        match self.decisions.unallow(prefix) {
            Some(a) => {
                self.unwritten = true;
                self.unsaved = true;
                self.news(now, Level::Info, "allow", by.sign(&format!("{prefix} is off the allow list")));
                self.settle(now);
                let origin = "added by command".to_owned();
                Ok(AllowReport { prefix, comment: a.comment, origin, removable: true, expires_us: a.expires_us })
            }
            None => match self.decisions.guard().safe().iter().find(|s| s.prefix == prefix) {
                Some(s) => Err(CommandError::Refused(format!("{prefix} cannot be taken out: {}", s.why))),
                None => Err(CommandError::NotFound(format!("{prefix} is not on the allow list"))),
            },
        }
    }

    fn reload_by(&mut self, by: &Caller) -> Result<ReloadReport, CommandError> {
        let report = self.reload().map_err(|e| CommandError::Invalid(format!("{e:#}")))?;
        self.news(wall_us(), Level::Info, "reloaded", by.sign(&super::report_words(&report)));
        Ok(report)
    }
}

/// A list is a unit: what frees one of its members.
fn on_list(name: &str) -> String {
    format!("it is on the list {name}: `weir allowlist add` exempts it, `weir lists remove {name}` ends the whole list")
}
