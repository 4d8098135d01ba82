//! What may be answered, and what that comes to.

use serde::{Deserialize, Serialize};

use super::Question;
use crate::addr::Prefix;
use crate::decision::{Action, Origin, Target};
use crate::decisions::NewDecision;
use crate::evidence::NET6_LEN;
use crate::policy::duration_words;
use crate::rate::{RateLimit, RateUnit};
use crate::suppression;

/// Length of the IPv4 prefix that is offered.
const NET4_LEN: u8 = 24;
/// An answer holds at most this long, µs: a year.
pub const MAX_ANSWER_US: u64 = 365 * 86_400_000_000;
/// How long "ignore" lasts where nobody says, µs.
const IGNORE_US: u64 = 3_600_000_000;
/// Likewise "suppress".
const SUPPRESS_US: u64 = 7 * 86_400_000_000;
/// The rate that is offered where nobody names one, packets a second.
const OFFERED_RATE: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Nothing is done, and it is not asked again for a while.
    Ignore,
    /// This is normal: no evidence of it for a while.
    Suppress,
    /// A shadow entry: it counts.
    Watch,
    Limit,
    Block,
}

impl Choice {
    pub const NAMES: [(&'static str, Choice); 5] = [
        ("ignore", Self::Ignore),
        ("suppress", Self::Suppress),
        ("watch", Self::Watch),
        ("limit", Self::Limit),
        ("drop", Self::Block),
    ];
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, c)| *c == self).map_or("?", |(n, _)| n)
    }
}

/// Of the offender, how much is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Width {
    /// One conversation.
    Flow,
    /// The port of ours that it went for the most.
    Port,
    Host,
    /// The /24 or /64 around it.
    Prefix,
}

impl Width {
    pub const NAMES: [(&'static str, Width); 4] =
        [("flow", Self::Flow), ("port", Self::Port), ("host", Self::Host), ("prefix", Self::Prefix)];
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, w)| *w == self).map_or("?", |(n, _)| n)
    }
}

/// What a person answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub choice: Choice,
    /// `None`: as it was proposed.
    pub width: Option<Width>,
    /// With [`Choice::Limit`]; `None`: the rate that is offered.
    pub limit: Option<RateLimit>,
    /// µs; `None`: as long as is offered.
    pub ttl_us: Option<u64>,
    pub comment: String,
    /// Who, in words.
    pub by: String,
}

/// A possible answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    pub choice: Choice,
    pub width: Option<Width>,
    /// What would be stopped or counted; `None` where nothing would.
    pub target: Option<Target>,
    pub limit: Option<RateLimit>,
    pub ttl_us: u64,
    /// In words: "block 192.0.2.7".
    pub words: String,
}

/// What an answer comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolved {
    /// It is not asked about again for so long, µs.
    Ignore {
        ttl_us: u64,
    },
    Suppress {
        prefix: Prefix,
        ports: Vec<u16>,
        ttl_us: u64,
    },
    /// To be given to [`crate::decisions::Decisions::add`].
    Decide(NewDecision),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("no {width} can be meant by question {id}: {why}")]
    NoTarget { id: u64, width: &'static str, why: &'static str },
    #[error("a rate belongs to `limit` alone; `{0}` has none")]
    Rate(&'static str),
    #[error("an answer holds for 1s to {}", duration_words(*.max_us))]
    Time { max_us: u64 },
}

fn target(q: &Question, width: Option<Width>) -> Result<Target, AnswerError> {
    let none = |width: Width, why| AnswerError::NoTarget { id: q.id, width: width.name(), why };
    let Some(width) = width else { return Ok(q.proposed.target) };
    match width {
        Width::Flow => {
            let why = "none of its strange flows was known to go on; choose port or host";
            q.flow.map(Target::Flow).ok_or_else(|| none(width, why))
        }
        Width::Port if !q.source.subject().is_host() => {
            Err(none(width, "it is the network as a whole that is strange; choose host for all of it"))
        }
        Width::Port => {
            let port = q.ports.first().copied().filter(|p| *p != 0);
            // Who is asked about has proven flows, and those are TCP.
            let made = |port| Target::Port { host: q.source, proto: 6, port };
            port.map(made).ok_or_else(|| none(width, "the ports that it went for are not known; choose host"))
        }
        Width::Host => Ok(Target::Net(q.source.subject())),
        Width::Prefix => Ok(Target::Net(around(q))),
    }
}

fn around(q: &Question) -> Prefix {
    Prefix::new(q.source, if q.source.is_v4() { NET4_LEN } else { NET6_LEN })
}

fn offered_limit() -> Option<RateLimit> {
    RateLimit::new(RateUnit::Packets, OFFERED_RATE, None).ok()
}

/// Everything that may be answered, in the order in which it is shown.
pub fn offers(q: &Question) -> Vec<Offer> {
    let host = Target::Net(q.source.subject());
    let ttl_us = q.proposed.ttl_us.unwrap_or(IGNORE_US);
    let mut all = vec![
        Offer {
            choice: Choice::Ignore,
            width: None,
            target: None,
            limit: None,
            ttl_us: IGNORE_US,
            words: "ignore: do nothing, and do not ask again for a while".to_owned(),
        },
        Offer {
            choice: Choice::Suppress,
            width: Some(Width::Host),
            target: None,
            limit: None,
            ttl_us: SUPPRESS_US,
            words: format!("suppress: this is normal for {}; the same is not held against it for a while", q.source),
        },
    ];
    let mut offer = |choice: Choice, width: Width, target: Target, words: String| {
        let limit = if choice == Choice::Limit { offered_limit() } else { None };
        all.push(Offer { choice, width: Some(width), target: Some(target), limit, ttl_us, words });
    };
    offer(Choice::Watch, Width::Host, host, format!("watch {host}: count its packets, drop none"));
    if let Some(limit) = offered_limit() {
        offer(Choice::Limit, Width::Host, host, format!("limit {host} to {limit}"));
    }
    for (width, what) in [
        (Width::Flow, "the flow"),
        (Width::Port, "what it sends to one port:"),
        (Width::Host, "the host"),
        (Width::Prefix, "the network"),
    ] {
        if let Ok(t) = target(q, Some(width)) {
            offer(Choice::Block, width, t, format!("block {what} {t}"));
        }
    }
    all
}

/// What an answer to this question comes to.
pub fn resolve(q: &Question, a: &Answer) -> Result<Resolved, AnswerError> {
    let max_us = if a.choice == Choice::Suppress { suppression::MAX_TTL_US } else { MAX_ANSWER_US };
    if a.ttl_us.is_some_and(|t| t < 1_000_000 || t > max_us) {
        return Err(AnswerError::Time { max_us });
    }
    if a.limit.is_some() && a.choice != Choice::Limit {
        return Err(AnswerError::Rate(a.choice.name()));
    }
    let action = match a.choice {
        Choice::Ignore => return Ok(Resolved::Ignore { ttl_us: a.ttl_us.unwrap_or(IGNORE_US) }),
        Choice::Suppress => {
            let ttl_us = a.ttl_us.unwrap_or(SUPPRESS_US);
            let (prefix, ports) = match target(q, a.width.or(Some(Width::Host)))? {
                Target::Port { host, port, .. } => (Prefix::host(host), vec![port]),
                // What is normal is a kind of flow, never one alone.
                Target::Flow(f) => (Prefix::host(f.remote), vec![f.port]),
                other => (other.prefix(), Vec::new()),
            };
            return Ok(Resolved::Suppress { prefix, ports, ttl_us });
        }
        Choice::Watch => Action::Shadow,
        Choice::Limit => Action::Limit,
        Choice::Block => Action::Drop,
    };
    let alert = q.proposed.alert_id.map(|id| format!(", alert {id}")).unwrap_or_default();
    let said = if a.comment.is_empty() { String::new() } else { format!(": {}", a.comment) };
    let limit = if action == Action::Limit { a.limit.or_else(offered_limit) } else { None };
    Ok(Resolved::Decide(NewDecision {
        target: target(q, a.width)?,
        action,
        limit,
        sides: q.proposed.sides,
        origin: Origin::Manual,
        ttl_us: Some(a.ttl_us.or(q.proposed.ttl_us).unwrap_or(IGNORE_US)),
        reason: format!("answer to question {}{alert}{said}, by {}; {}", q.id, a.by, q.proposed.reason),
        instead_of: None,
        alert_id: q.proposed.alert_id,
        confirm_within_us: None,
    }))
}
