//! What a list is: its members, where it comes from, how it changes.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_common::entry::MAX_LENGTHS;

use super::super::Held;
use crate::addr::Prefix;
use crate::decision::{Action, Decision, Origin, Sides, Target};
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
    pub(super) fn place(&self) -> (Prefix, u8) {
        (self.prefix, self.rule)
    }
    pub(super) fn lives(&self, now: TimeUs) -> bool {
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
    pub(super) members: Arc<Vec<Member>>,
    /// Protected: not enforced. In order.
    pub(super) masked: Arc<Vec<Member>>,
    /// The earliest end of any.
    pub(super) next_end: TimeUs,
    pub(super) swept_us: TimeUs,
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

    pub(super) fn find_end(&mut self) {
        let all = self.members.iter().chain(self.masked.iter());
        self.next_end = all.map(|m| m.expires_us).min().unwrap_or(NEVER);
    }

    pub(super) fn on(&self, prefix: Prefix) -> Range<usize> {
        let from = self.members.partition_point(|m| m.prefix < prefix);
        let to = from + self.members[from..].iter().take_while(|m| m.prefix == prefix).count();
        from..to
    }

    pub(super) fn after(&self, target: Option<Target>) -> &[Member] {
        let from = target.map_or(0, |t| self.members.partition_point(|m| Target::Net(m.prefix) <= t));
        &self.members[from..]
    }

    pub(in crate::decisions) fn held(&self, m: &Member) -> Option<Held> {
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
    pub(super) fn same_kind(&self, other: &From) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// Whether it may be the name of a list: it is a file name, too.
pub fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    name.len() <= 64 && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && name.bytes().all(plain)
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
