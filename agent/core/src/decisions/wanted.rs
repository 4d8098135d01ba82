//! What is to hold, target by target: single decisions and the members of lists, folded into the strictest.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::collections::btree_map::Range;
use std::iter::Peekable;
use std::ops::Bound;

use super::lists::{List, Member};
use super::{Decisions, live};
use crate::decision::{Action, Decision, Origin, Sides, Target};
use crate::rate::RateLimit;
use crate::record::TimeUs;

/// What holds a target: a decision, or a member of a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Held {
    pub id: u64,
    pub action: Action,
    /// With [`Action::Limit`].
    pub limit: Option<RateLimit>,
    pub sides: Sides,
    pub origin: Origin,
    /// `None`: until deleted.
    pub expires_us: Option<TimeUs>,
    pub instead_of: Option<Action>,
}

impl From<&Decision> for Held {
    fn from(d: &Decision) -> Self {
        Held {
            id: d.id,
            action: d.action,
            limit: d.limit,
            sides: d.sides,
            origin: d.origin,
            expires_us: d.expires_us,
            instead_of: d.instead_of,
        }
    }
}

impl Held {
    fn lives(&self, now: TimeUs) -> bool {
        self.expires_us.is_none_or(|e| e > now)
    }

    /// The stricter of two on one target: drop before limit, of limits the lower, limit before shadow, shadow that stands for
    /// a drop before other ones, both sides before one, then the longest.
    fn stricter(self, other: Held) -> Held {
        let rank = |d: &Held| {
            let both = d.sides == Sides::Both;
            let meant = d.instead_of == Some(Action::Drop);
            (d.action, meant, both, d.expires_us.unwrap_or(TimeUs::MAX), Reverse(d.id))
        };
        let lower = |a: &Held, b: &Held| a.limit.zip(b.limit).is_some_and(|(a, b)| a.stricter_than(b));
        match (lower(&self, &other), lower(&other, &self)) {
            (true, _) => self,
            (_, true) => other,
            _ if rank(&other) > rank(&self) => other,
            _ => self,
        }
    }
}

/// What is to hold for one target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    pub target: Target,
    /// The strictest live one.
    pub decision: Held,
    /// Live decisions on the target and lists that it is on, this one included.
    pub decisions: usize,
}

/// Targets about which something has changed.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// Perhaps all of them.
    pub all: bool,
    pub targets: BTreeSet<Target>,
}

impl Touched {
    pub(super) fn note(&mut self, target: Target) {
        /// More are looked at together.
        const MANY: usize = 10_000;
        if self.all {
            return;
        }
        self.targets.insert(target);
        if self.targets.len() > MANY {
            *self = Touched { all: true, ..Touched::default() };
        }
    }
}

impl Decisions {
    /// What has changed since this was last asked. The allow list and the safe set are not in it.
    pub fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    /// Whether there is a decision on exactly this target that is no list's.
    pub fn has_single(&self, target: Target) -> bool {
        self.by_target.contains_key(&target)
    }

    /// The strictest live decision on exactly this target.
    pub fn wanted_on(&self, target: Target, now: TimeUs) -> Option<Held> {
        let single = self.by_target.get(&target).into_iter().flatten().filter_map(|id| self.held(*id, now));
        single.chain(self.members_on(target).filter(|h| h.lives(now))).reduce(Held::stricter)
    }

    fn held(&self, id: u64, now: TimeUs) -> Option<Held> {
        self.get(id).filter(|d| live(d, now)).map(Held::from)
    }

    /// What is to hold now, by target in ascending order: of several decisions on one target the strictest live one
    /// (drop before limit, of limits the lower, limit before shadow, shadow that stands for a drop before other ones, both sides before one, then the longest).
    pub fn wanted(&self, now: TimeUs) -> impl Iterator<Item = Wanted> {
        self.wanted_after(None, now)
    }

    /// The same, from the first target behind `after`.
    pub fn wanted_after(&self, after: Option<Target>, now: TimeUs) -> impl Iterator<Item = Wanted> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let singles = self.by_target.range((from, Bound::Unbounded)).peekable();
        Merged { decisions: self, now, singles, lists: self.members_after(after) }
    }
}

/// Singles and lists are each in order: one walk along all of them.
struct Merged<'a> {
    decisions: &'a Decisions,
    now: TimeUs,
    singles: Peekable<Range<'a, Target, Vec<u64>>>,
    lists: Vec<(&'a List, &'a [Member])>,
}

impl Iterator for Merged<'_> {
    type Item = Wanted;

    fn next(&mut self) -> Option<Wanted> {
        loop {
            let listed = self.lists.iter().filter_map(|(_, m)| m.first()).map(|m| m.prefix).min().map(Target::Net);
            let single = self.singles.peek().map(|(t, _)| **t);
            let target = [listed, single].into_iter().flatten().min()?;
            let (mut strictest, mut decisions): (Option<Held>, usize) = (None, 0);
            let mut take = |held: Held| {
                decisions += 1;
                strictest = Some(strictest.map_or(held, |s| s.stricter(held)));
            };
            if let Some((_, ids)) = self.singles.next_if(|(t, _)| **t == target) {
                ids.iter().filter_map(|id| self.decisions.held(*id, self.now)).for_each(&mut take);
            }
            for (list, rest) in &mut self.lists {
                while let Some((m, others)) = rest.split_first().filter(|(m, _)| Target::Net(m.prefix) == target) {
                    list.held(m).filter(|h| h.lives(self.now)).into_iter().for_each(&mut take);
                    *rest = others;
                }
            }
            if let Some(decision) = strictest {
                return Some(Wanted { target, decision, decisions });
            }
        }
    }
}
