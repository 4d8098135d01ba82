//! Lists: many targets decided at once, which come, change and go as a whole.
//!
//! A member costs [`Member`]'s size and no more: what it has in common with others (what is done, why) is kept once per list.
//! What the guard protects stays on its list without being enforced, so that it holds once the protection is gone.

mod list;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Decisions, Held, remaining_us};
use crate::addr::Prefix;
use crate::decision::{Decision, Target};
use crate::guard::Spans;
use crate::record::TimeUs;

pub use list::{
    Change, Draft, From, List, ListRefusal, MAX_LIST_LENGTHS, MAX_LISTS, MAX_REASONS, MAX_RULES, Member, NEVER,
    Remasked, Rule, StoredList, Take, is_name,
};

/// Refused and protected members that are named.
const NAMED: usize = 5;

impl Decisions {
    pub fn lists(&self) -> &[List] {
        &self.lists
    }
    pub fn list(&self, name: &str) -> Option<&List> {
        self.lists.iter().find(|l| l.name == name)
    }
    /// Members of all lists, enforced or not.
    pub fn listed(&self) -> usize {
        self.lists.iter().map(List::len).sum()
    }
    /// Names of the lists that a target is on as it is.
    pub fn lists_with(&self, target: Target) -> Vec<&str> {
        let Target::Net(prefix) = target else { return Vec::new() };
        self.lists.iter().filter(|l| !l.on(prefix).is_empty()).map(|l| l.name.as_str()).collect()
    }
    /// The list with the member of this number.
    pub fn list_of(&self, id: u64) -> Option<&List> {
        self.lists.iter().find(|l| l.members.iter().chain(l.masked.iter()).any(|m| m.id == id))
    }

    pub(super) fn members_on(&self, target: Target) -> impl Iterator<Item = Held> {
        let prefix = match target {
            Target::Net(p) => Some(p),
            _ => None,
        };
        let on = move |l: &List| prefix.map_or(0..0, |p| l.on(p));
        self.lists.iter().flat_map(move |l| l.members[on(l)].iter().filter_map(|m| l.held(m)))
    }

    pub(super) fn members_after(&self, after: Option<Target>) -> Vec<(&List, &[Member])> {
        self.lists.iter().map(|l| (l, l.after(after))).filter(|(_, m)| !m.is_empty()).collect()
    }

    /// Most entries that lists may have: some are kept for people and the agent.
    fn list_room(&self) -> usize {
        self.limits.max - self.limits.max_automatic.min(self.limits.max / 10)
    }

    /// What [`Decisions::take_list`] would do; nothing changes.
    pub fn plan_list(&self, draft: Draft, take: Take, now: TimeUs) -> Result<Change, ListRefusal> {
        self.plan(draft, take, now).map(|(_, change)| change)
    }

    /// Takes a list as a whole or not at all.
    pub fn take_list(&mut self, draft: Draft, take: Take, now: TimeUs) -> Result<Change, ListRefusal> {
        let (list, change) = self.plan(draft, take, now)?;
        self.next_id += change.added as u64;
        self.put(list);
        Ok(change)
    }

    fn put(&mut self, list: List) {
        self.touched.all = true;
        match self.lists.iter_mut().find(|l| l.name == list.name) {
            Some(old) => *old = list,
            None => self.lists.push(list),
        }
    }

    fn plan(&self, draft: Draft, take: Take, now: TimeUs) -> Result<(List, Change), ListRefusal> {
        if !is_name(&draft.name) {
            return Err(ListRefusal::Name(draft.name));
        }
        let old = self.list(&draft.name);
        if let Some(old) = old.filter(|old| !old.from.same_kind(&draft.from)) {
            return Err(ListRefusal::Owned { name: draft.name, from: old.from.words() });
        }
        if old.is_none() && self.lists.len() >= MAX_LISTS {
            return Err(ListRefusal::TooMany);
        }
        let mut change = Change::default();
        let mut draft = draft;
        draft.members.retain(|m| m.lives(now));
        let too_wide = |p: Prefix| p.len() < self.least(p);
        for m in draft.members.iter().filter(|m| too_wide(m.prefix)) {
            change.too_wide += 1;
            if change.named.len() < NAMED {
                let words =
                    format!("too wide: a prefix of at least /{} is needed to stop anyone", self.least(m.prefix));
                change.named.push((m.prefix, words));
            }
        }
        draft.members.retain(|m| !too_wide(m.prefix));
        if let Some(old) = old.filter(|_| take == Take::Join) {
            join(&mut draft, old, now)?;
        }
        draft.sort();
        let spans = self.guard.spans();
        let mut list = List {
            created_us: old.map_or(now, |o| o.created_us),
            replaced_us: now,
            rules: Arc::new(draft.rules),
            reasons: Arc::new(draft.reasons),
            members: Arc::default(),
            masked: Arc::default(),
            next_end: NEVER,
            swept_us: now,
            name: draft.name,
            from: draft.from,
            comment: draft.comment,
        };
        self.number(&mut draft.members, &list.rules, old, &mut change);
        let total = draft.members.len();
        let (members, masked) = split(draft.members, &spans);
        change.members = members.len();
        change.protected = masked.len();
        for m in masked.iter().take(NAMED) {
            let why = self.guard.check(m.prefix, now).err().map_or_else(String::new, |p| p.to_string());
            change.named.push((m.prefix, why));
        }
        (list.members, list.masked) = (Arc::new(members), Arc::new(masked));
        list.find_end();
        self.check_room(&list, total)?;
        self.tell(old, &list, &mut change);
        Ok((list, change))
    }

    /// Members that were there before keep their numbers, and so their history; the others get the next ones.
    fn number(&self, members: &mut [Member], rules: &[Rule], old: Option<&List>, change: &mut Change) {
        let mut next = self.next_id;
        let was: Vec<Option<u8>> = match old {
            Some(old) => rules.iter().map(|r| old.rules.iter().position(|o| o == r).map(|at| at as u8)).collect(),
            None => vec![None; rules.len()],
        };
        let empty = Vec::new();
        let (enforced, masked) = old.map_or((&empty, &empty), |o| (&*o.members, &*o.masked));
        // All are in order by prefix: one walk along them.
        let mut behind = [enforced.as_slice(), masked.as_slice()];
        for m in members {
            let rule = was.get(usize::from(m.rule)).copied().flatten();
            let known = behind.iter_mut().find_map(|all| {
                let passed = all.iter().take_while(|old| old.prefix < m.prefix).count();
                *all = &all[passed..];
                let mut here = all.iter().take_while(|old| old.prefix == m.prefix);
                here.find(|old| Some(old.rule) == rule).map(|old| old.id)
            });
            m.id = known.unwrap_or(next);
            if known.is_some() {
                change.kept += 1;
            } else {
                next += 1;
                change.added += 1;
            }
        }
        change.removed = (enforced.len() + masked.len()).saturating_sub(change.kept);
    }

    fn check_room(&self, list: &List, total: usize) -> Result<(), ListRefusal> {
        let others: usize = self.lists.iter().filter(|l| l.name != list.name).map(List::len).sum();
        let (most, max) = (self.list_room(), self.limits.max);
        let room = most.min(max.saturating_sub(self.entries.len())).saturating_sub(others);
        if total > room {
            return Err(ListRefusal::Full { entries: total, room, most, max });
        }
        let lens = |l: &List| -> BTreeSet<u8> {
            l.members.iter().filter(|m| !m.prefix.is_v4()).map(|m| m.prefix.len()).collect()
        };
        let others = self.lists.iter().filter(|l| l.name != list.name);
        let all: BTreeSet<u8> = others.flat_map(lens).chain(lens(list)).collect();
        if all.len() > MAX_LIST_LENGTHS {
            return Err(ListRefusal::Lengths(all.len()));
        }
        Ok(())
    }

    /// The members that came and went, where they are few.
    fn tell(&self, old: Option<&List>, new: &List, change: &mut Change) {
        const FEW: usize = 100;
        if change.added + change.removed > FEW {
            return;
        }
        let ids = |l: &List| {
            let mut ids: Vec<u64> = l.members.iter().map(|m| m.id).collect();
            ids.sort_unstable();
            ids
        };
        let (before, after) = (old.map(ids).unwrap_or_default(), ids(new));
        let missing = |l: &List, ids: &[u64]| -> Vec<Decision> {
            let missing = l.members.iter().filter(|m| ids.binary_search(&m.id).is_err());
            missing.filter_map(|m| l.decision(m)).collect()
        };
        change.told.extend(missing(new, &before).into_iter().map(|d| (true, d)));
        if let Some(old) = old {
            change.told.extend(missing(old, &after).into_iter().map(|d| (false, d)));
        }
    }

    /// Ends a list: all its members with it.
    pub fn remove_list(&mut self, name: &str) -> Result<List, ListRefusal> {
        let at = self.lists.iter().position(|l| l.name == name);
        let at = at.ok_or_else(|| ListRefusal::Unknown(name.to_owned()))?;
        self.touched.all = true;
        Ok(self.lists.remove(at))
    }

    /// Members that have ended, by list. Those of long lists are taken out less often: the kernel ends them by itself.
    pub fn expire_lists(&mut self, now: TimeUs) -> Vec<(String, Vec<Decision>, usize)> {
        const TOLD: usize = 100;
        let mut all = Vec::new();
        for list in &mut self.lists {
            let pause = 10 * list.members.len() as u64;
            if list.next_end > now || now.saturating_sub(list.swept_us) < pause {
                continue;
            }
            let ended = |m: &&Member| !m.lives(now);
            let told = list.members.iter().filter(ended).take(TOLD).filter_map(|m| list.decision(m)).collect();
            let before = list.len();
            Arc::make_mut(&mut list.members).retain(|m| m.lives(now));
            Arc::make_mut(&mut list.masked).retain(|m| m.lives(now));
            list.swept_us = now;
            list.find_end();
            self.touched.all = true;
            all.push((list.name.clone(), told, before - list.len()));
        }
        all
    }

    /// The guard has changed: what is protected now is not enforced, and what is no more is enforced again.
    pub(super) fn remask(&mut self) {
        let spans = self.guard.spans();
        let room = self.limits.max.saturating_sub(self.entries.len());
        for list in &mut self.lists {
            let back = list.masked.iter().any(|m| !spans.protect(m.prefix));
            let lift = list.members.iter().any(|m| spans.protect(m.prefix));
            if !(lift || back && list.len() <= room) {
                continue;
            }
            let before: usize = list.members.len();
            let all = list.members.iter().chain(list.masked.iter()).copied();
            let (mut members, mut masked) = split(all.collect(), &spans);
            members.sort_unstable_by_key(Member::place);
            masked.sort_unstable_by_key(Member::place);
            let (lifted, back) = (before.saturating_sub(members.len()), members.len().saturating_sub(before));
            (list.members, list.masked) = (Arc::new(members), Arc::new(masked));
            list.find_end();
            self.touched.all = true;
            self.remasked.push(Remasked { name: list.name.clone(), lifted, back });
        }
    }

    /// What changes of the guard did to lists since this was last asked.
    pub fn take_remasked(&mut self) -> Vec<Remasked> {
        std::mem::take(&mut self.remasked)
    }

    /// A stored list with what is left of its members' lifetimes (see [`remaining_us`]). Numbers stay as they were.
    pub fn restore_list(
        &mut self,
        stored: StoredList,
        now: TimeUs,
        elapsed_us: Option<u64>,
    ) -> Result<usize, ListRefusal> {
        let StoredList { draft, created_us, replaced_us, taken_us } = stored;
        if self.list(&draft.name).is_some() || self.lists.len() >= MAX_LISTS {
            return Err(ListRefusal::TooMany);
        }
        let mut all = draft.members;
        for m in &mut all {
            let end = (m.expires_us != NEVER).then_some(m.expires_us);
            let left = remaining_us(end.map(|e| e.saturating_sub(taken_us)), end, now, elapsed_us);
            m.expires_us = left.map_or(NEVER, |left| now.saturating_add(left));
        }
        let largest = all.iter().map(|m| m.id + 1).max().unwrap_or(1);
        let least = |p: Prefix| self.least(p);
        all.retain(|m| m.lives(now) && m.prefix.len() >= least(m.prefix) && usize::from(m.rule) < draft.rules.len());
        all.sort_unstable_by_key(Member::place);
        all.dedup_by_key(|m| m.place());
        let total = all.len();
        let (members, masked) = split(all, &self.guard.spans());
        let mut list = List {
            name: draft.name,
            from: draft.from,
            comment: draft.comment,
            rules: Arc::new(draft.rules),
            reasons: Arc::new(draft.reasons),
            created_us,
            replaced_us,
            members: Arc::new(members),
            masked: Arc::new(masked),
            next_end: NEVER,
            swept_us: now,
        };
        list.find_end();
        self.check_room(&list, total)?;
        self.next_id = self.next_id.max(largest);
        self.put(list);
        Ok(total)
    }
}

/// What is enforced, and what is protected; both in the order they had.
fn split(all: Vec<Member>, spans: &Spans) -> (Vec<Member>, Vec<Member>) {
    let mut masked = Vec::new();
    let mut members = all;
    members.retain(|m| {
        let protected = spans.protect(m.prefix);
        if protected {
            masked.push(*m);
        }
        !protected
    });
    (members, masked)
}

/// Puts what is on a list already beside what comes.
fn join(draft: &mut Draft, old: &List, now: TimeUs) -> Result<(), ListRefusal> {
    let mut rules = Vec::new();
    for rule in old.rules.iter() {
        rules.push(draft.rule(*rule).ok_or(ListRefusal::Rules)?);
    }
    let mut whys = Vec::new();
    for reason in old.reasons.iter() {
        let at = draft.reasons.iter().position(|r| r == reason);
        let at = at.unwrap_or_else(|| {
            if draft.reasons.len() >= MAX_REASONS {
                return 0;
            }
            draft.reasons.push(reason.clone());
            draft.reasons.len() - 1
        });
        whys.push(at as u16);
    }
    for m in old.members.iter().chain(old.masked.iter()).filter(|m| m.lives(now)) {
        let rule = rules.get(usize::from(m.rule)).copied().unwrap_or_default();
        let why = whys.get(usize::from(m.why)).copied().unwrap_or_default();
        draft.push(m.prefix, rule, why, m.expires_us);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
