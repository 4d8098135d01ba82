//! Who must never be stopped: the allow list that people keep, and the safe set that the agent finds by itself.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::addr::Prefix;
use crate::record::TimeUs;

/// Most allow entries that are kept.
pub const MAX_ALLOW: usize = 65_536;

/// An entry of the allow list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allow {
    pub prefix: Prefix,
    pub created_us: TimeUs,
    /// `None`: until removed.
    pub expires_us: Option<TimeUs>,
    pub comment: String,
}

/// A member of the safe set, with the reason in words: "default gateway of eth0".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Safe {
    pub prefix: Prefix,
    pub why: String,
}

/// Why a prefix may not be stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Protected {
    #[error("{target} covers {prefix}, which must stay reachable: {why}")]
    Safe { target: Prefix, prefix: Prefix, why: String },
    #[error(
        "{target} covers {prefix} on the allow list (comment: {comment:?}); \
         if that is no longer wanted: `weir allowlist remove {prefix}`"
    )]
    Allowed { target: Prefix, prefix: Prefix, comment: String },
}

/// The allow list and the safe set. At most [`MAX_ALLOW`] allow entries; the safe set is as large as the host's own
/// configuration makes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Guard {
    allow: Vec<Allow>,
    safe: Vec<Safe>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the allow list is full ({MAX_ALLOW} entries); join neighbouring entries to a prefix or remove some")]
pub struct AllowFull;

impl Guard {
    pub fn new(allow: Vec<Allow>, safe: Vec<Safe>) -> Self {
        Self { allow, safe }
    }

    pub fn allow(&self) -> &[Allow] {
        &self.allow
    }
    pub fn safe(&self) -> &[Safe] {
        &self.safe
    }

    /// Adds an entry; one on the same prefix is replaced.
    pub fn add_allow(&mut self, entry: Allow) -> Result<(), AllowFull> {
        if let Some(old) = self.allow.iter_mut().find(|a| a.prefix == entry.prefix) {
            *old = entry;
            return Ok(());
        }
        if self.allow.len() >= MAX_ALLOW {
            return Err(AllowFull);
        }
        self.allow.push(entry);
        Ok(())
    }

    pub fn remove_allow(&mut self, prefix: Prefix) -> Option<Allow> {
        let i = self.allow.iter().position(|a| a.prefix == prefix)?;
        Some(self.allow.swap_remove(i))
    }

    /// Says whether anything is different from before.
    pub fn set_safe(&mut self, safe: Vec<Safe>) -> bool {
        let prefixes = |all: &[Safe]| all.iter().map(|s| s.prefix).collect::<BTreeSet<_>>();
        let changed = prefixes(&self.safe) != prefixes(&safe);
        self.safe = safe;
        changed
    }

    /// The same for many questions.
    pub fn spans(&self) -> Spans {
        Spans {
            safe: Span::joined(self.safe.iter().map(|s| s.prefix)),
            allow: Span::joined(self.allow.iter().map(|a| a.prefix)),
        }
    }

    /// The wall clock was set by `step_us`: what is left of each lifetime stays what it was.
    pub fn clock_stepped(&mut self, step_us: i64) {
        for a in &mut self.allow {
            a.created_us = a.created_us.saturating_add_signed(step_us);
            a.expires_us = a.expires_us.map(|e| e.saturating_add_signed(step_us));
        }
    }

    /// Takes out what has expired.
    pub fn expire(&mut self, now: TimeUs) -> Vec<Allow> {
        let (gone, kept) = std::mem::take(&mut self.allow).into_iter().partition(|a| !live(a, now));
        self.allow = kept;
        gone
    }

    /// Whether something protected has an address in common with `target`; the safe set first, because nobody can
    /// take anything out of it.
    pub fn check(&self, target: Prefix, now: TimeUs) -> Result<(), Protected> {
        if let Some(s) = self.safe.iter().find(|s| s.prefix.overlaps(target)) {
            return Err(Protected::Safe { target, prefix: s.prefix, why: s.why.clone() });
        }
        match self.allow.iter().find(|a| live(a, now) && a.prefix.overlaps(target)) {
            Some(a) => Err(Protected::Allowed { target, prefix: a.prefix, comment: a.comment.clone() }),
            None => Ok(()),
        }
    }
}

/// What is protected, in order: for lists of a million targets.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    safe: Vec<Span>,
    allow: Vec<Span>,
}

/// First and last address, both within one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    v4: bool,
    first: u128,
    last: u128,
}

impl Span {
    fn of(p: Prefix) -> Self {
        let first = u128::from_be_bytes(p.addr().0);
        let host = if p.is_v4() { 32 - u32::from(p.len()) } else { 128 - u32::from(p.len()) };
        let last = if host == 128 { u128::MAX } else { first | ((1 << host) - 1) };
        Self { v4: p.is_v4(), first, last }
    }

    /// In order, those that overlap or touch made one.
    fn joined(all: impl Iterator<Item = Prefix>) -> Vec<Span> {
        let mut spans: Vec<Span> = all.map(Span::of).collect();
        spans.sort_unstable();
        let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
        for s in spans {
            match joined.last_mut() {
                Some(l) if l.v4 == s.v4 && s.first <= l.last.saturating_add(1) => l.last = l.last.max(s.last),
                _ => joined.push(s),
            }
        }
        joined
    }

    /// The first of them that ends at or behind the beginning of `s`, if it begins before the end of `s`.
    fn met(spans: &[Span], s: Span) -> Option<Span> {
        let at = spans.partition_point(|x| (x.v4, x.last) < (s.v4, s.first));
        spans.get(at).copied().filter(|x| x.v4 == s.v4 && x.first <= s.last)
    }
}

impl Spans {
    /// Whether a member of a list must not be enforced: it reaches into the safe set, or the allow list covers it. One that
    /// is wider than what the allow list has of it is enforced: the kernel looks at the allow list first.
    pub fn protect(&self, prefix: Prefix) -> bool {
        let s = Span::of(prefix);
        let covers = |a: Span| a.first <= s.first && a.last >= s.last;
        Span::met(&self.safe, s).is_some() || Span::met(&self.allow, s).is_some_and(covers)
    }
}

fn live(a: &Allow, now: TimeUs) -> bool {
    a.expires_us.is_none_or(|e| e > now)
}
