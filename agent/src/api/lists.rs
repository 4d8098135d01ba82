//! Lists on their way to the agent and back, in messages of bounded size.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Status, Streaming};
use weir_core::decision::{Action, Sides, Target};
use weir_core::decisions::lists::{Draft, From, MAX_REASONS, NEVER, Rule, Take};

use super::convert::{self, Malformed, action_out, text};
use crate::clock::wall_us;
use crate::command::{ListReport, ListTaken};
use crate::lists::format::{MAX_ENTRIES, Parsed};
use crate::proto as pb;
use crate::proto::import_list_request::Part;

/// Entries of a message.
pub const CHUNK: usize = 5_000;
/// A client that sends nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_TEXT: usize = 500;

/// What a client wants to be taken.
pub struct Import {
    pub draft: Draft,
    pub take: Take,
    pub dry_run: bool,
}

/// Reads a list from a client.
pub async fn receive(mut stream: Streaming<pb::ImportListRequest>) -> Result<Import, Status> {
    let invalid = Status::invalid_argument;
    let mut next = async || -> Result<Option<Part>, Status> {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await;
        let next = next.map_err(|_| Status::deadline_exceeded(format!("nothing came for {PATIENCE:?}")))??;
        next.map(|m| m.part.ok_or_else(|| Malformed::Missing { field: "part" }.into())).transpose()
    };
    let Some(Part::Start(start)) = next().await? else {
        return Err(invalid("the first message says what the list is".to_owned()));
    };
    if start.comment.chars().count() > MAX_TEXT || start.comment.contains(char::is_control) {
        return Err(invalid(format!("`comment` is longer than {MAX_TEXT} characters, or holds control characters")));
    }
    let limit = start.limit.map(TryInto::try_into).transpose()?;
    let action = convert::action_in(start.action)?;
    if (action == Action::Limit) != limit.is_some() {
        return Err(invalid("a list that limits needs a rate, and no other has one".to_owned()));
    }
    let sides =
        if start.sides == pb::Sides::Unspecified as i32 { Sides::Both } else { convert::sides_in(start.sides)? };
    let rule = Rule { action, limit, sides };
    let mut draft = Draft::new(start.name, From::Import, start.comment);
    let (Some(own), Some(shadow)) = (draft.rule(rule), draft.rule(Rule { action: Action::Shadow, limit: None, sides }))
    else {
        return Err(Status::internal("no room for two rules"));
    };
    let mut reasons: HashMap<String, u16> = HashMap::from([(String::new(), 0)]);
    let now = wall_us();
    while let Some(part) = next().await? {
        let Part::Entries(entries) = part else {
            return Err(invalid("only the first message says what the list is".to_owned()));
        };
        if draft.members.len() + entries.entries.len() > MAX_ENTRIES {
            return Err(Status::resource_exhausted(format!("a list has at most {MAX_ENTRIES} entries")));
        }
        for e in entries.entries {
            let prefix = text(&e.target)?;
            if e.lifetime_us == Some(0) {
                return Err(invalid(format!("{}: `lifetime_us` is 0; leave it out for no end", e.target)));
            }
            let why = match reasons.get(&e.reason) {
                Some(why) => *why,
                None if reasons.len() < MAX_REASONS => {
                    if e.reason.chars().count() > MAX_TEXT || e.reason.contains(char::is_control) {
                        return Err(invalid(format!(
                            "{}: its reason is too long, or holds control characters",
                            e.target
                        )));
                    }
                    let at = reasons.len() as u16;
                    draft.reasons.push(e.reason.clone());
                    reasons.insert(e.reason, at);
                    at
                }
                None => 0,
            };
            let expires_us = e.lifetime_us.map_or(NEVER, |t| now.saturating_add(t));
            draft.push(prefix, if e.shadow { shadow } else { own }, why, expires_us);
        }
    }
    let sorted = tokio::task::spawn_blocking(move || {
        draft.sort();
        draft
    });
    let draft = sorted.await.map_err(|e| Status::internal(e.to_string()))?;
    let take = if start.replace { Take::Replace } else { Take::Join };
    Ok(Import { draft, take, dry_run: start.dry_run })
}

/// What a client sends, made while it is sent.
pub fn parts(
    start: pb::ImportListStart,
    parsed: Vec<(Parsed, Option<u64>, bool)>,
) -> impl Stream<Item = pb::ImportListRequest> {
    let (to, stream) = mpsc::channel(4);
    std::thread::spawn(move || {
        let send = |part| to.blocking_send(pb::ImportListRequest { part: Some(part) }).is_ok();
        if !send(Part::Start(start)) {
            return;
        }
        for (p, ttl, all) in &parsed {
            for chunk in p.entries.chunks(CHUNK) {
                let entry = |e: &crate::lists::format::Entry| pb::ImportListEntry {
                    target: e.prefix.to_string(),
                    lifetime_us: if *all { *ttl } else { e.ttl_us.or(*ttl) },
                    shadow: e.shadow,
                    reason: p.reasons[usize::from(e.why)].clone(),
                };
                let entries = chunk.iter().map(entry).collect();
                if !send(Part::Entries(pb::ImportListEntries { entries })) {
                    return;
                }
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(stream)
}

/// The action of a list, for the wire.
pub fn rule_out(rule: Rule) -> (i32, Option<pb::RateLimit>) {
    (action_out(rule.action), rule.limit.map(Into::into))
}

/// Behind which target the next members are.
pub fn last(members: &[crate::command::DecisionReport]) -> Option<Target> {
    members.last().map(|m| m.decision.target)
}

impl std::convert::From<ListTaken> for pb::ImportListResponse {
    fn from(t: ListTaken) -> Self {
        let ListTaken { members, added, removed, kept, protected, too_wide, named, note } = t;
        Self { members, added, removed, kept, protected, too_wide, named, note }
    }
}
impl std::convert::From<pb::ImportListResponse> for ListTaken {
    fn from(t: pb::ImportListResponse) -> Self {
        let pb::ImportListResponse { members, added, removed, kept, protected, too_wide, named, note } = t;
        Self { members, added, removed, kept, protected, too_wide, named, note }
    }
}
macro_rules! same_fields {
    ($a:ty, $b:ty, [$($f:ident),+]) => {
        impl std::convert::From<$a> for $b {
            fn from(l: $a) -> Self {
                Self { $($f: l.$f),+ }
            }
        }
        impl std::convert::From<$b> for $a {
            fn from(l: $b) -> Self {
                Self { $($f: l.$f),+ }
            }
        }
    };
}
same_fields!(
    ListReport,
    pb::ListState,
    [name, kind, comment, members, protected, actions, created_us, replaced_us, last_success_us, error, left_out]
);
