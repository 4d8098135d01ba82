//! The wanted state over restarts.

use serde::{Deserialize, Serialize};

use super::{Decisions, Entry, Limits};
use crate::decision::{Decision, Target};
use crate::guard::{Allow, Guard, Safe};
use crate::record::TimeUs;

/// What is stored of a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    pub decision: Decision,
    /// Lifetime left when it was stored, µs; `None`: until deleted.
    pub remaining_us: Option<u64>,
    /// Lifetime it was made with, µs.
    pub ttl_us: Option<u64>,
    /// Unconfirmed: the lifetime that it gets when it is confirmed.
    pub awaiting: Option<Option<u64>>,
}

/// What is stored of [`Decisions`]. The safe set is not: it is found anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Wall clock, µs.
    pub taken_us: TimeUs,
    pub next_id: u64,
    pub decisions: Vec<Stored>,
    pub allow: Vec<Allow>,
}

/// What is left of a stored lifetime, µs. `expires_us` and `now` are wall times.
///
/// `elapsed_us` is the time since it was stored by a clock that cannot be set, where there is one: the boot-time clock,
/// as long as the boot id is the stored one. After a reboot there is none, and the smaller of the stored remainder and
/// the wall-clock remainder holds: a clock that was set back must not prolong a block, nor one that was wrong when it
/// was stored.
pub fn remaining_us(
    stored_us: Option<u64>,
    expires_us: Option<TimeUs>,
    now: TimeUs,
    elapsed_us: Option<u64>,
) -> Option<u64> {
    let stored = stored_us?;
    Some(match elapsed_us {
        Some(elapsed) => stored.saturating_sub(elapsed),
        None => stored.min(expires_us.map_or(stored, |e| e.saturating_sub(now))),
    })
}

impl Entry {
    fn stored(&self, now: TimeUs) -> Stored {
        Stored {
            decision: self.decision.clone(),
            remaining_us: self.decision.expires_us.map(|x| x.saturating_sub(now)),
            ttl_us: self.ttl_us,
            awaiting: self.awaiting,
        }
    }
}

impl Decisions {
    /// Ids of decisions that came, changed or went since [`Decisions::note_stored`], in ascending order.
    pub fn unstored(&self) -> impl Iterator<Item = u64> {
        self.unstored.iter().copied()
    }

    /// Everything is stored as it is now.
    pub fn note_stored(&mut self) {
        self.unstored.clear();
    }

    /// What is to be stored of one decision; `None`: there is none any more.
    pub fn stored(&self, id: u64, now: TimeUs) -> Option<Stored> {
        self.entries.get(&id).map(|e| e.stored(now))
    }

    /// The wall clock was set by `step_us`, µs: ends move with it, so that what is left of each lifetime stays what it was.
    /// All are stored anew: a reboot goes by the wall clock.
    pub fn clock_stepped(&mut self, step_us: i64) {
        for e in self.entries.values_mut() {
            let d = &mut e.decision;
            d.created_us = d.created_us.saturating_add_signed(step_us);
            d.expires_us = d.expires_us.map(|x| x.saturating_add_signed(step_us));
        }
        self.expiries = self.entries.values().filter_map(|e| Some((e.decision.expires_us?, e.decision.id))).collect();
        self.unstored.extend(self.entries.keys());
        self.guard.clock_stepped(step_us);
    }

    pub fn snapshot(&self, now: TimeUs) -> Snapshot {
        Snapshot {
            taken_us: now,
            next_id: self.next_id,
            decisions: self.entries.values().map(|e| e.stored(now)).collect(),
            allow: self.guard.allow().to_vec(),
        }
    }

    /// The state as stored, with what is left of each lifetime (see [`remaining_us`]), and the decisions that are not
    /// taken over: those that lapsed meanwhile, and those that the allow list, the safe set or the limits now forbid.
    pub fn restore(
        snapshot: Snapshot,
        limits: Limits,
        safe: Vec<Safe>,
        now: TimeUs,
        elapsed_us: Option<u64>,
    ) -> (Self, Vec<Decision>) {
        let mut allow = snapshot.allow;
        for a in &mut allow {
            let left = a.expires_us.map(|e| e.saturating_sub(snapshot.taken_us));
            a.expires_us = remaining_us(left, a.expires_us, now, elapsed_us).map(|r| now.saturating_add(r));
        }
        let largest = snapshot.decisions.iter().map(|s| s.decision.id + 1).max().unwrap_or(1);
        let mut table = Decisions::new(limits, Guard::new(allow, safe), snapshot.next_id.max(largest));
        let mut left_out = Vec::new();
        for s in snapshot.decisions {
            let remaining = remaining_us(s.remaining_us, s.decision.expires_us, now, elapsed_us);
            let flow = matches!(s.decision.target, Target::Flow(_));
            let full = table.entries.len() >= table.limits.max
                || (flow && table.flows >= table.limits.max_flows)
                || table.entries.contains_key(&s.decision.id);
            if remaining == Some(0) || full || table.check(s.decision.target, now).is_err() {
                left_out.push(s.decision);
                continue;
            }
            let expires_us = remaining.map(|r| now.saturating_add(r));
            let decision = Decision { expires_us, ..s.decision };
            table.insert(Entry { decision, ttl_us: s.ttl_us, awaiting: s.awaiting });
        }
        // The rest is as it was stored.
        table.unstored = left_out.iter().map(|d| d.id).collect();
        (table, left_out)
    }
}
