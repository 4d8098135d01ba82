//! Lists: read from files, kept on disk, and fed by what the configuration names.
//!
//! Whoever reads a list (a person's import, a file that is watched, CrowdSec) makes a [`Draft`] away from the event loop; the loop
//! alone takes it. What cannot be read, is empty all at once or shrinks by too much is told, and the list before stays in force.

pub mod crowdsec;
pub mod duration;
pub mod format;
pub mod range;
pub mod sources;
pub mod store;

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use weir_core::decision::{Action, Sides};
use weir_core::decisions::lists::{Draft, NEVER, Rule};
use weir_core::record::TimeUs;

use format::Parsed;

/// What a feed brings to the event loop.
#[derive(Debug)]
pub struct Arrived {
    pub name: String,
    /// `None`: nothing has changed.
    pub what: Result<Option<Brought>, String>,
}

#[derive(Debug)]
pub struct Brought {
    pub draft: Draft,
    /// The list may lose this share of its entries at once; `None`: as many as it likes.
    pub max_shrink: Option<f64>,
    /// What was left out on the way, in words.
    pub left_out: String,
    /// What an operator should know of a full answer; empty: all is well. `None`: it is none, and leaves it as it was.
    pub warning: Option<String>,
}

/// How a list is fed, for those who look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedState {
    pub last_success_us: Option<TimeUs>,
    /// Why the last try failed; empty: it did not.
    pub error: String,
    pub left_out: String,
}

enum Running {
    Source(sources::Handle),
    CrowdSec(crowdsec::Handle),
}

/// The feeds that run, by the name of their list.
pub struct Feeds {
    to: mpsc::Sender<Arrived>,
    running: BTreeMap<String, (Wanted, Running)>,
    pub states: BTreeMap<String, FeedState>,
}

/// What the configuration wants to run.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    Source(crate::config::Source),
    CrowdSec(crate::config::CrowdSec),
}

impl Wanted {
    pub fn name(&self) -> &str {
        match self {
            Wanted::Source(s) => &s.name,
            Wanted::CrowdSec(_) => crowdsec::LIST,
        }
    }
}

/// Every feed of a configuration.
pub fn wanted(config: &crate::config::Config) -> Vec<Wanted> {
    let sources = config.sources.iter().cloned().map(Wanted::Source);
    sources.chain(config.crowdsec.url.is_some().then(|| Wanted::CrowdSec(config.crowdsec.clone()))).collect()
}

impl Feeds {
    /// Nothing runs yet. What feeds bring comes out of the other end.
    pub fn new() -> (Self, mpsc::Receiver<Arrived>) {
        let (to, arrived) = mpsc::channel(4);
        (Self { to, running: BTreeMap::new(), states: BTreeMap::new() }, arrived)
    }

    /// Runs what is wanted and nothing else; what runs already looks again at once. `held` gives what is on a list.
    pub fn configure(&mut self, wanted: Vec<Wanted>, mut held: impl FnMut(&str) -> Option<Draft>) {
        self.running.retain(|_, (runs, _)| wanted.contains(runs));
        let running = &self.running;
        self.states.retain(|name, _| running.contains_key(name));
        for w in wanted {
            let name = w.name().to_owned();
            if self.running.contains_key(&name) {
                self.poke(&name, false);
                continue;
            }
            let started = match &w {
                Wanted::Source(s) => sources::start(s.clone(), self.to.clone()).map(Running::Source),
                Wanted::CrowdSec(c) => crowdsec::start(c.clone(), held(&name), self.to.clone()).map(Running::CrowdSec),
            };
            let state = self.states.entry(name.clone()).or_default();
            match started {
                Ok(handle) => drop(self.running.insert(name, (w, handle))),
                Err(e) => state.error = format!("it could not be started: {e}"),
            }
        }
    }

    /// Looks again now; `afresh`: as if nothing had come yet.
    pub fn poke(&self, name: &str, afresh: bool) {
        match self.running.get(name) {
            Some((_, Running::Source(handle))) => handle.poke(),
            Some((_, Running::CrowdSec(handle))) => handle.poke(afresh),
            None => {}
        }
    }
}

/// What a list does with its members.
pub fn rule(act: crate::config::Act) -> Rule {
    use crate::config::Act;
    let (action, limit) = match act {
        Act::Drop => (Action::Drop, None),
        Act::Shadow => (Action::Shadow, None),
        Act::Limit(limit) => (Action::Limit, Some(limit)),
    };
    Rule { action, limit, sides: Sides::Both }
}

/// Puts what a file holds into a list. `ttl_us` is for entries that say nothing, or for all.
pub fn fill(draft: &mut Draft, parsed: Parsed, rule: Rule, ttl_us: Option<u64>, all: bool, now: TimeUs) {
    let (Some(own), Some(shadow)) =
        (draft.rule(rule), draft.rule(Rule { action: Action::Shadow, limit: None, ..rule }))
    else {
        return;
    };
    draft.reasons = parsed.reasons;
    draft.members.reserve(parsed.entries.len());
    for e in parsed.entries {
        let ttl = if all { ttl_us } else { e.ttl_us.or(ttl_us) };
        let expires_us = ttl.map_or(NEVER, |t| now.saturating_add(t));
        draft.push(e.prefix, if e.shadow { shadow } else { own }, e.why, expires_us);
    }
    draft.sort();
}
