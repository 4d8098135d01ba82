//! The wanted state: which decisions hold, until when. The reconciler makes the kernel equal to it.
//!
//! Bounded by [`Limits`]: a full table refuses, it never drops a decision to make room for another.

pub mod lists;
mod restore;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use weir_common::entry::MAX_FLOW_TARGETS;

use crate::addr::Prefix;
use crate::decision::{Action, Decision, Origin, Sides, Target};
use crate::guard::{Allow, AllowFull, Guard, Protected, Safe};
use crate::rate::RateLimit;
use crate::record::TimeUs;

use lists::{List, Remasked};
pub use restore::{Snapshot, Stored, remaining_us};
pub use wanted::{Held, Touched, Wanted};

/// Packets in the last span of this length extend an automatic decision, µs: 60 s.
pub const EXTEND_WITHIN_US: u64 = 60_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max: usize,
    /// Of these, automatic ones.
    pub max_automatic: usize,
    /// Of these, on single flows: no more than the kernel side has room for.
    pub max_flows: usize,
    /// Shortest prefix that may be stopped.
    pub min_len_v4: u8,
    pub min_len_v6: u8,
    /// An automatic decision is not extended beyond this age, µs.
    pub max_extended_us: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max: 1_000_000,
            max_automatic: 10_000,
            max_flows: MAX_FLOW_TARGETS as usize,
            min_len_v4: 8,
            min_len_v6: 19,
            max_extended_us: 86_400_000_000,
        }
    }
}

/// A decision to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewDecision {
    pub target: Target,
    pub action: Action,
    /// With [`Action::Limit`].
    pub limit: Option<RateLimit>,
    pub sides: Sides,
    pub origin: Origin,
    /// µs from now; `None`: until deleted.
    pub ttl_us: Option<u64>,
    pub reason: String,
    pub instead_of: Option<Action>,
    pub alert_id: Option<u64>,
    /// It lapses after this many µs unless [`Decisions::confirm`] is called: for blocks that could lock people out.
    pub confirm_within_us: Option<u64>,
}

/// Why a decision was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Protected(#[from] Protected),
    #[error("{target} is too wide: a prefix of at least /{min} is needed to stop anyone")]
    TooWide { target: Prefix, min: u8 },
    #[error("there are {max} decisions, the most that are kept; delete some, or raise the limit and the map sizes")]
    Full { max: usize },
    #[error("there are {max} automatic decisions, the most that are kept; until some expire, only people may add more")]
    AutomaticFull { max: usize },
    #[error("there are decisions on {max} single flows, the most that are kept; decide on hosts or ports instead")]
    FlowsFull { max: usize },
    #[error("{why}; the far end of a flow comes first: is {instead} meant?")]
    Reversed { why: Protected, instead: Target },
    #[error("a decision to limit needs a rate, and no other has one; for example `--limit 100pps`")]
    Rate,
    #[error("a decision with a lifetime of 0 would never hold; give a longer one, such as 1h")]
    NoLifetime,
    #[error("no decision has the id {0}; `weir decisions list` shows those that hold")]
    Unknown(u64),
    #[error("decision {0} awaits no confirmation")]
    NotAwaiting(u64),
}

/// What became of a [`NewDecision`].
#[derive(Clone, Debug, PartialEq)]
pub enum Added {
    New(Decision),
    /// The same was already decided; it now lasts as long as the longer of the two.
    Extended(Decision),
    /// The same was already decided, and for longer.
    Unchanged(Decision),
}

impl Added {
    pub fn decision(&self) -> &Decision {
        match self {
            Added::New(d) | Added::Extended(d) | Added::Unchanged(d) => d,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    decision: Decision,
    /// Lifetime it was made with, µs.
    ttl_us: Option<u64>,
    /// Unconfirmed: the lifetime it gets when it is confirmed.
    awaiting: Option<Option<u64>>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Decisions {
    limits: Limits,
    guard: Guard,
    next_id: u64,
    entries: BTreeMap<u64, Entry>,
    by_target: BTreeMap<Target, Vec<u64>>,
    expiries: BTreeSet<(TimeUs, u64)>,
    automatic: usize,
    flows: usize,
    lists: Vec<List>,
    touched: Touched,
    remasked: Vec<Remasked>,
    /// Ids of what is not as it was stored last: see [`Decisions::unstored`].
    unstored: BTreeSet<u64>,
}

impl Decisions {
    /// `next_id` is one more than the largest identifier ever given, as the caller has stored it.
    pub fn new(limits: Limits, guard: Guard, next_id: u64) -> Self {
        Self {
            limits,
            guard,
            next_id: next_id.max(1),
            entries: BTreeMap::new(),
            by_target: BTreeMap::new(),
            expiries: BTreeSet::new(),
            automatic: 0,
            flows: 0,
            lists: Vec::new(),
            touched: Touched { all: true, ..Touched::default() },
            remasked: Vec::new(),
            unstored: BTreeSet::new(),
        }
    }

    pub fn next_id(&self) -> u64 {
        self.next_id
    }
    /// Decisions, members of lists not counted.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    pub fn guard(&self) -> &Guard {
        &self.guard
    }
    pub fn get(&self, id: u64) -> Option<&Decision> {
        self.entries.get(&id).map(|e| &e.decision)
    }
    /// All decisions but those of lists, by id. Expired ones stay until [`Decisions::expire`] takes them out.
    pub fn iter(&self) -> impl Iterator<Item = &Decision> {
        self.entries.values().map(|e| &e.decision)
    }

    /// Whether [`Decisions::add`] would refuse this target, and why.
    pub fn check(&self, target: Target, now: TimeUs) -> Result<(), Refusal> {
        let prefix = target.prefix();
        let min = self.least(prefix);
        if prefix.len() < min {
            return Err(Refusal::TooWide { target: prefix, min });
        }
        let checked = self.guard.check(prefix, now);
        if let (Err(why), Target::Flow(flow)) = (&checked, target)
            && self.guard.check(Prefix::host(flow.ours), now).is_ok()
        {
            return Err(Refusal::Reversed { why: why.clone(), instead: Target::Flow(flow.reversed()) });
        }
        Ok(checked?)
    }

    /// The shortest prefix of this family that may be stopped.
    fn least(&self, prefix: Prefix) -> u8 {
        if prefix.is_v4() { self.limits.min_len_v4 } else { self.limits.min_len_v6 }
    }

    pub fn add(&mut self, new: NewDecision, now: TimeUs) -> Result<Added, Refusal> {
        if new.ttl_us == Some(0) || new.confirm_within_us == Some(0) {
            return Err(Refusal::NoLifetime);
        }
        if (new.action == Action::Limit) != new.limit.is_some() {
            return Err(Refusal::Rate);
        }
        self.check(new.target, now)?;
        let expires_us = new.ttl_us.map(|t| now.saturating_add(t));
        if let Some(added) = self.join(&new, expires_us, now) {
            return Ok(added);
        }
        if self.entries.len() + self.listed() >= self.limits.max {
            return Err(Refusal::Full { max: self.limits.max });
        }
        if new.origin == Origin::Automatic && self.automatic >= self.limits.max_automatic {
            return Err(Refusal::AutomaticFull { max: self.limits.max_automatic });
        }
        if matches!(new.target, Target::Flow(_)) && self.flows >= self.limits.max_flows {
            return Err(Refusal::FlowsFull { max: self.limits.max_flows });
        }
        let lapse = new.confirm_within_us.map(|c| now.saturating_add(c));
        let decision = Decision {
            id: self.next_id,
            target: new.target,
            action: new.action,
            limit: new.limit,
            sides: new.sides,
            origin: new.origin,
            created_us: now,
            expires_us: match (expires_us, lapse) {
                (Some(e), Some(l)) => Some(e.min(l)),
                (e, l) => e.or(l),
            },
            reason: new.reason,
            instead_of: new.instead_of,
            alert_id: new.alert_id,
        };
        self.next_id += 1;
        let awaiting = new.confirm_within_us.map(|_| new.ttl_us);
        self.insert(Entry { decision: decision.clone(), ttl_us: new.ttl_us, awaiting });
        Ok(Added::New(decision))
    }

    /// The same decision by the same kind of author lives already: it is extended rather than stacked.
    fn join(&mut self, new: &NewDecision, expires_us: Option<TimeUs>, now: TimeUs) -> Option<Added> {
        if new.confirm_within_us.is_some() {
            return None;
        }
        let id = self.by_target.get(&new.target)?.iter().copied().find(|id| {
            self.entries.get(id).is_some_and(|e| {
                let d = &e.decision;
                e.awaiting.is_none()
                    && live(d, now)
                    && (d.action, d.limit, d.sides, d.origin, d.instead_of)
                        == (new.action, new.limit, new.sides, new.origin, new.instead_of)
            })
        })?;
        let longer = later(self.get(id)?.expires_us, expires_us);
        if longer == self.get(id)?.expires_us {
            return self.get(id).cloned().map(Added::Unchanged);
        }
        self.set_expiry(id, longer);
        if let Some(e) = self.entries.get_mut(&id) {
            e.ttl_us = new.ttl_us;
        }
        self.get(id).cloned().map(Added::Extended)
    }

    /// Makes an unconfirmed decision hold for the lifetime it was made with.
    pub fn confirm(&mut self, id: u64, now: TimeUs) -> Result<Decision, Refusal> {
        let entry = self.entries.get_mut(&id).filter(|e| live(&e.decision, now)).ok_or(Refusal::Unknown(id))?;
        let ttl_us = entry.awaiting.take().ok_or(Refusal::NotAwaiting(id))?;
        self.set_expiry(id, ttl_us.map(|t| now.saturating_add(t)));
        self.get(id).cloned().ok_or(Refusal::Unknown(id))
    }

    /// Whether a decision lapses unless it is confirmed.
    pub fn awaits_confirmation(&self, id: u64) -> bool {
        self.entries.get(&id).is_some_and(|e| e.awaiting.is_some())
    }

    /// Moves the end of a decision; `None`: until deleted.
    pub fn extend(&mut self, id: u64, ttl_us: Option<u64>, now: TimeUs) -> Result<Decision, Refusal> {
        if ttl_us == Some(0) {
            return Err(Refusal::NoLifetime);
        }
        let target = self.get(id).filter(|d| live(d, now)).ok_or(Refusal::Unknown(id))?.target;
        self.check(target, now)?;
        self.set_expiry(id, ttl_us.map(|t| now.saturating_add(t)));
        if let Some(e) = self.entries.get_mut(&id) {
            e.ttl_us = ttl_us;
            e.awaiting = None;
        }
        self.get(id).cloned().ok_or(Refusal::Unknown(id))
    }

    pub fn delete(&mut self, id: u64) -> Result<Decision, Refusal> {
        self.remove(id).ok_or(Refusal::Unknown(id))
    }

    /// Deletes every decision on a target.
    pub fn delete_target(&mut self, target: Target) -> Vec<Decision> {
        let ids = self.by_target.get(&target).cloned().unwrap_or_default();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Takes out the automatic decisions on a target that are weaker than `than`: that takes their place.
    pub fn remove_weaker(&mut self, target: Target, than: Action) -> Vec<Decision> {
        let weaker = |d: &Decision| d.action < than && d.origin == Origin::Automatic;
        let mut ids = self.by_target.get(&target).cloned().unwrap_or_default();
        ids.retain(|id| self.get(*id).is_some_and(weaker));
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Takes out what has expired by `now`, earliest first, allow entries included.
    pub fn expire(&mut self, now: TimeUs) -> (Vec<Decision>, Vec<Allow>) {
        let mut gone = Vec::new();
        while let Some(&(at, id)) = self.expiries.first() {
            if at > now {
                break;
            }
            match self.remove(id) {
                Some(d) => gone.push(d),
                None => {
                    self.expiries.remove(&(at, id));
                }
            }
        }
        let allowed = self.guard.expire(now);
        if !allowed.is_empty() {
            self.remask();
        }
        (gone, allowed)
    }

    /// `packets` kept hitting a decision in the interval that ends at `now`. An automatic block in its last 60 s is
    /// extended by the lifetime it was made with, up to [`Limits::max_extended_us`] after it was made: who is blocked
    /// looks quiet otherwise. What rests on unproven traffic is not extended, or anyone could keep it alive with forged
    /// packets. Returns the decision if it was extended.
    pub fn on_hits(&mut self, id: u64, packets: u64, now: TimeUs) -> Option<Decision> {
        let entry = self.entries.get(&id)?;
        let d = &entry.decision;
        let block = d.action == Action::Drop || d.instead_of == Some(Action::Drop);
        let (expires, ttl) = (d.expires_us?, entry.ttl_us?);
        let close = live(d, now) && expires.saturating_sub(now) <= EXTEND_WITHIN_US;
        if packets == 0 || !block || !close || d.origin != Origin::Automatic || entry.awaiting.is_some() {
            return None;
        }
        let last = d.created_us.saturating_add(self.limits.max_extended_us);
        let until = expires.saturating_add(ttl).min(last);
        if until <= expires || self.check(d.target, now).is_err() {
            return None;
        }
        self.set_expiry(id, Some(until));
        self.get(id).cloned()
    }

    /// Adds an allow entry and deletes the decisions that it covers, whoever made them. Wider decisions stay: the
    /// kernel looks at the allow list first.
    pub fn allow(&mut self, entry: Allow) -> Result<Vec<Decision>, AllowFull> {
        let prefix = entry.prefix;
        self.guard.add_allow(entry)?;
        self.remask();
        Ok(self.purge(|target| prefix.overlaps(target) && prefix.len() <= target.len()))
    }

    pub fn unallow(&mut self, prefix: Prefix) -> Option<Allow> {
        let gone = self.guard.remove_allow(prefix);
        self.remask();
        gone
    }

    /// Replaces the safe set and deletes the decisions that reach into it.
    pub fn set_safe(&mut self, safe: Vec<Safe>) -> Vec<Decision> {
        let prefixes: Vec<Prefix> = safe.iter().map(|s| s.prefix).collect();
        if self.guard.set_safe(safe) {
            self.remask();
        }
        self.purge(|target| prefixes.iter().any(|p| p.overlaps(target)))
    }

    /// What is to pass now, whatever is decided: the live allow entries and the safe set.
    pub fn allowed(&self, now: TimeUs) -> impl Iterator<Item = (Prefix, Option<TimeUs>)> {
        let listed = self.guard.allow().iter().filter(move |a| a.expires_us.is_none_or(|e| e > now));
        listed.map(|a| (a.prefix, a.expires_us)).chain(self.guard.safe().iter().map(|s| (s.prefix, None)))
    }

    fn purge(&mut self, covered: impl Fn(Prefix) -> bool) -> Vec<Decision> {
        let ids: Vec<u64> = self.iter().filter(|d| covered(d.target.prefix())).map(|d| d.id).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    fn insert(&mut self, entry: Entry) {
        let d = &entry.decision;
        self.touched.note(d.target);
        self.by_target.entry(d.target).or_default().push(d.id);
        self.expiries.extend(d.expires_us.map(|e| (e, d.id)));
        self.automatic += usize::from(d.origin == Origin::Automatic);
        self.flows += usize::from(matches!(d.target, Target::Flow(_)));
        self.unstored.insert(d.id);
        self.entries.insert(d.id, entry);
    }

    fn set_expiry(&mut self, id: u64, expires_us: Option<TimeUs>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        self.touched.note(entry.decision.target);
        if let Some(old) = entry.decision.expires_us {
            self.expiries.remove(&(old, id));
        }
        self.expiries.extend(expires_us.map(|e| (e, id)));
        entry.decision.expires_us = expires_us;
        self.unstored.insert(id);
    }

    fn remove(&mut self, id: u64) -> Option<Decision> {
        let d = self.entries.remove(&id)?.decision;
        self.touched.note(d.target);
        self.unstored.insert(id);
        if let Some(e) = d.expires_us {
            self.expiries.remove(&(e, id));
        }
        if let Some(ids) = self.by_target.get_mut(&d.target) {
            ids.retain(|&i| i != id);
            if ids.is_empty() {
                self.by_target.remove(&d.target);
            }
        }
        self.automatic -= usize::from(d.origin == Origin::Automatic);
        self.flows -= usize::from(matches!(d.target, Target::Flow(_)));
        Some(d)
    }
}

fn live(d: &Decision, now: TimeUs) -> bool {
    d.expires_us.is_none_or(|e| e > now)
}

/// The later of two ends, where `None` is never.
fn later(a: Option<TimeUs>, b: Option<TimeUs>) -> Option<TimeUs> {
    Some(a?.max(b?))
}

#[cfg(test)]
mod tests;
