//! What verdicts come to: decisions taken, and the events that tell of them. The running agent and a replay of files go this
//! same way; only what is done about it differs.

use weir_core::addr::Addr;
use weir_core::decision::Decision;
use weir_core::decisions::{Added, Decisions};
use weir_core::event::{DecisionChange, Event, Level, Mode};
use weir_core::policy::Verdict;
use weir_core::record::TimeUs;

/// What something came to.
#[derive(Debug, Default)]
pub struct Acted {
    /// To be told, in order.
    pub events: Vec<Event>,
    /// Decisions that are new: the kernel is to hold them.
    pub new: Vec<u64>,
    /// What is wanted of the kernel is something else than before.
    pub changed: bool,
}

/// When it happens, and the mode that is in force then.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now: TimeUs,
    pub mode: Mode,
}

impl Acted {
    fn decided(&mut self, at: Moment, change: DecisionChange, decision: Decision, note: String) {
        self.events.push(Event::Decision {
            time_us: at.now,
            change,
            decision: Box::new(decision),
            mode: at.mode,
            note,
        });
    }
}

/// Carries out what the policy says about a source.
pub fn act(decisions: &mut Decisions, at: Moment, source: Addr, verdict: Verdict) -> Acted {
    let mut acted = Acted::default();
    acted.events.extend(verdict.alert.map(|a| Event::Alert(Box::new(a))));
    let Some(new) = verdict.decision else { return acted };
    let target = new.target;
    match decisions.add(new, at.now) {
        Ok(Added::New(d)) => {
            acted.changed = true;
            acted.new.push(d.id);
            acted.decided(at, DecisionChange::Added, d.clone(), verdict.note);
            supersede(decisions, at, &d, &mut acted);
        }
        Ok(Added::Extended(d)) => {
            acted.changed = true;
            acted.decided(at, DecisionChange::Extended, d, verdict.note);
        }
        Ok(Added::Unchanged(_)) => {}
        Err(why) => acted.events.push(Event::Agent {
            time_us: at.now,
            level: Level::Warning,
            kind: "refused",
            message: format!("{source}: {target} was not decided: {why}"),
        }),
    }
    acted
}

/// A decision takes the place of the weaker automatic ones on its target: one word lifts it.
fn supersede(decisions: &mut Decisions, at: Moment, by: &Decision, acted: &mut Acted) {
    for d in decisions.remove_weaker(by.target, by.action) {
        acted.decided(at, DecisionChange::Superseded, d, format!("decision {} takes its place", by.id));
    }
}

/// Ends what is over by now.
pub fn expire(decisions: &mut Decisions, at: Moment) -> Acted {
    let (gone, allowed) = decisions.expire(at.now);
    let mut acted = Acted { changed: !gone.is_empty() || !allowed.is_empty(), ..Acted::default() };
    for d in gone {
        acted.decided(at, DecisionChange::Expired, d, String::new());
    }
    acted.events.extend(allowed.into_iter().map(|a| Event::Agent {
        time_us: at.now,
        level: Level::Info,
        kind: "allow",
        message: format!("{} is off the allow list: its time is over", a.prefix),
    }));
    acted
}

/// An entry met `packets` since the last time.
pub fn met(decisions: &mut Decisions, at: Moment, id: u64, packets: u64) -> Acted {
    let mut acted = Acted::default();
    if let Some(d) = decisions.on_hits(id, packets, at.now) {
        acted.changed = true;
        acted.decided(at, DecisionChange::Extended, d, "it is still being hit".to_owned());
    }
    acted
}
