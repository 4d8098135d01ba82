//! Lists: many targets decided at once, which come, change and go as a whole.
//!
//! A member costs [`Member`]'s size and no more: what it has in common with others (what is done, why) is kept once per list.
//! What the guard protects stays on its list without being enforced, so that it holds once the protection is gone.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_common::entry::MAX_LENGTHS;

use super::{Decisions, Held, remaining_us};
use crate::addr::Prefix;
use crate::decision::{Action, Decision, Origin, Sides, Target};
use crate::guard::Spans;
use crate::rate::RateLimit;
use crate::record::TimeUs;

/// No end.
pub const NEVER: TimeUs = TimeUs::MAX;
/// Kinds of action on one list.
pub const MAX_RULES: usize = 32;
/// Reasons that a list keeps apart; members with others have the list's own.
pub const MAX_REASONS: usize = 4096;
/// Lists that are kept at once.
pub const MAX_LISTS: usize = 64;
/// Lengths of IPv6 prefixes that lists may have in all: the kernel looks for [`MAX_LENGTHS`], and single decisions need some.
pub const MAX_LIST_LENGTHS: usize = MAX_LENGTHS - 8;
/// Refused and protected members that are named.
const NAMED: usize = 5;

/// What is done to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub action: Action,
    /// With [`Action::Limit`].
    pub limit: Option<RateLimit>,
    pub sides: Sides,
}

/// One target of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub prefix: Prefix,
    /// Index into the list's rules.
    pub rule: u8,
    /// Index into the list's reasons.
    pub why: u16,
    /// Wall clock, µs; [`NEVER`] for no end.
    pub expires_us: TimeUs,
    pub id: u64,
}

impl Member {
    fn place(&self) -> (Prefix, u8) {
        (self.prefix, self.rule)
    }
    fn lives(&self, now: TimeUs) -> bool {
        self.expires_us > now
    }
}

/// Where a list comes from: only the same may replace it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "of")]
pub enum From {
    /// A person, by command.
    Import,
    /// A file that the configuration names.
    Source(String),
    /// A CrowdSec local API that the configuration names.
    CrowdSec(String),
}

/// A list to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub name: String,
    pub from: From,
    /// Who or what brought it, in words.
    pub comment: String,
    pub rules: Vec<Rule>,
    /// The first is the list's own.
    pub reasons: Vec<String>,
    /// Identifiers are given when it is taken. In order, and one of each target and rule: see [`Draft::sort`].
    pub members: Vec<Member>,
}

impl Draft {
    pub fn new(name: String, from: From, comment: String) -> Self {
        Self { name, from, comment, rules: Vec::new(), reasons: vec![String::new()], members: Vec::new() }
    }

    /// The index of a rule; `None` where there are too many.
    pub fn rule(&mut self, rule: Rule) -> Option<u8> {
        let at = self.rules.iter().position(|r| *r == rule).or_else(|| {
            self.rules.push(rule);
            (self.rules.len() <= MAX_RULES).then(|| self.rules.len() - 1)
        })?;
        Some(at as u8)
    }

    pub fn push(&mut self, prefix: Prefix, rule: u8, why: u16, expires_us: TimeUs) {
        self.members.push(Member { prefix, rule, why, expires_us, id: 0 });
    }

    /// Puts the members in order; of two of the same target and rule the one that lasts longer stays. Says how many went.
    pub fn sort(&mut self) -> usize {
        let before = self.members.len();
        self.members.sort_unstable_by_key(|m| (m.place(), std::cmp::Reverse(m.expires_us)));
        self.members.dedup_by_key(|m| m.place());
        before - self.members.len()
    }
}

/// A list as it is enforced.
#[derive(Clone, Debug, PartialEq)]
pub struct List {
    pub name: String,
    pub from: From,
    pub comment: String,
    pub rules: Arc<Vec<Rule>>,
    pub reasons: Arc<Vec<String>>,
    pub created_us: TimeUs,
    /// When it last came.
    pub replaced_us: TimeUs,
    members: Arc<Vec<Member>>,
    /// Protected: not enforced. In order.
    masked: Arc<Vec<Member>>,
    /// The earliest end of any.
    next_end: TimeUs,
    swept_us: TimeUs,
}

impl List {
    /// What is enforced, in order.
    pub fn members(&self) -> &Arc<Vec<Member>> {
        &self.members
    }
    /// What the allow list or the safe set protects.
    pub fn masked(&self) -> &Arc<Vec<Member>> {
        &self.masked
    }
    /// Members, enforced or not.
    pub fn len(&self) -> usize {
        self.members.len() + self.masked.len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find_end(&mut self) {
        let all = self.members.iter().chain(self.masked.iter());
        self.next_end = all.map(|m| m.expires_us).min().unwrap_or(NEVER);
    }

    fn on(&self, prefix: Prefix) -> Range<usize> {
        let from = self.members.partition_point(|m| m.prefix < prefix);
        let to = from + self.members[from..].iter().take_while(|m| m.prefix == prefix).count();
        from..to
    }

    fn after(&self, target: Option<Target>) -> &[Member] {
        let from = target.map_or(0, |t| self.members.partition_point(|m| Target::Net(m.prefix) <= t));
        &self.members[from..]
    }

    pub(super) fn held(&self, m: &Member) -> Option<Held> {
        let rule = self.rules.get(usize::from(m.rule))?;
        Some(Held {
            id: m.id,
            action: rule.action,
            limit: rule.limit,
            sides: rule.sides,
            origin: Origin::List,
            expires_us: (m.expires_us != NEVER).then_some(m.expires_us),
            instead_of: None,
        })
    }

    /// A member as a decision of its own.
    pub fn decision(&self, m: &Member) -> Option<Decision> {
        let held = self.held(m)?;
        let why = self.reasons.get(usize::from(m.why)).map_or("", String::as_str);
        let reason = if why.is_empty() { format!("list {}", self.name) } else { format!("list {}: {why}", self.name) };
        Some(Decision {
            id: m.id,
            target: Target::Net(m.prefix),
            action: held.action,
            limit: held.limit,
            sides: held.sides,
            origin: Origin::List,
            created_us: self.replaced_us,
            expires_us: held.expires_us,
            reason,
            instead_of: None,
            alert_id: None,
        })
    }
}

/// What became of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Enforced afterwards.
    pub members: usize,
    pub added: usize,
    /// On the list before and not any more.
    pub removed: usize,
    /// On it before and after.
    pub kept: usize,
    /// Not enforced, because they reach what must stay reachable.
    pub protected: usize,
    /// Refused.
    pub too_wide: usize,
    /// Some of both, with the reason.
    pub named: Vec<(Prefix, String)>,
    /// Enforced members that are new, and those that went: where they are few.
    pub told: Vec<(bool, Decision)>,
}

/// Why a list was not taken. What was there before stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListRefusal {
    #[error(
        "`{0}` is no name of a list; at most 64 letters, digits, `.`, `_` and `-`, beginning with a letter or digit"
    )]
    Name(String),
    #[error("the list {name} comes from {from}; choose another name, or change it there")]
    Owned { name: String, from: String },
    #[error(
        "the list has {entries} entries, and there is room for {room}: lists may take {most} of the {max} targets, the rest is \
         kept for people and the agent; raise `capacity.blocks`"
    )]
    Full { entries: usize, room: usize, most: usize, max: usize },
    #[error("there are {MAX_LISTS} lists, the most that are kept; remove one, or join some")]
    TooMany,
    #[error(
        "lists would have IPv6 prefixes of {0} different lengths, and the kernel looks for at most {MAX_LIST_LENGTHS} of them"
    )]
    Lengths(usize),
    #[error("there is no list {0}; `weir lists list` shows all")]
    Unknown(String),
    #[error("a list has at most {MAX_RULES} kinds of action")]
    Rules,
}

/// How a draft meets the list of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// In its place.
    Replace,
    /// Beside what is on it.
    Join,
}

/// What a list lost or won when the guard changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remasked {
    pub name: String,
    pub lifted: usize,
    pub back: usize,
}

impl From {
    /// In words.
    pub fn words(&self) -> String {
        match self {
            From::Import => "an import by hand".to_owned(),
            From::Source(path) => format!("`sources` of the configuration ({path})"),
            From::CrowdSec(url) => format!("`crowdsec` of the configuration ({url})"),
        }
    }
    fn same_kind(&self, other: &From) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// Whether it may be the name of a list: it is a file name, too.
pub fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    name.len() <= 64 && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && name.bytes().all(plain)
}

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

/// A list as it was stored, its members with their numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredList {
    pub draft: Draft,
    pub created_us: TimeUs,
    pub replaced_us: TimeUs,
    /// Wall clock when it was stored, µs.
    pub taken_us: TimeUs,
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
