//! `weir lists`, and the members of lists in `weir decisions list`.

use std::io;
use std::process::ExitCode;

use serde::Serialize;
use weir_core::decision::Origin;
use weir_core::record::TimeUs;
use weir_core::render::Rfc3339;

use super::args::{ListArgs, ListsCmd};
use super::output::{Output, Table, relative};
use super::render;
use crate::api::client::Client;
use crate::clock::wall_us;
use crate::command::{DecisionReport, ListReport};
use crate::human::grouped;

pub async fn run(client: &mut Client, command: ListsCmd, out: &Output) -> anyhow::Result<ExitCode> {
    match command {
        ListsCmd::List => {
            let all: Vec<Row> = client.list_lists().await?.into_iter().map(Row::from).collect();
            out.list(&all, |l| table(l, wall_us()))?;
        }
        ListsCmd::Show { name } => members(client, &name, out).await?,
        ListsCmd::Remove { name } => {
            let members = client.remove_list(&name).await?;
            if out.json() {
                out.object(&serde_json::json!({ "removed": name, "members": members }))?;
            } else {
                out.text(&format!("the list {name} is gone, with {} entries\n", grouped(members)))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `weir decisions list`: what people and the agent decided one by one, unless lists are asked for.
pub async fn decisions(client: &mut Client, args: ListArgs, out: &Output) -> anyhow::Result<()> {
    if let Some(name) = args.list {
        return members(client, &name, out).await;
    }
    if args.origin == Some(Origin::List) {
        for list in client.list_lists().await?.into_iter().filter(|l| l.members > 0) {
            members(client, &list.name, out).await?;
        }
        return Ok(());
    }
    let mut all = client.list_decisions().await?;
    all.retain(|d| args.origin.is_none_or(|o| d.decision.origin == o));
    out.list(&all, |l| render::decisions(l, wall_us()))?;
    let lists = client.list_lists().await.unwrap_or_default();
    let listed: u64 = lists.iter().map(|l| l.members).sum();
    if listed > 0 && args.origin.is_none() {
        let words = format!(
            "and {} on {} lists: `weir lists list`, `weir decisions list --list NAME`\n",
            grouped(listed),
            lists.len()
        );
        let _ = io::Write::write_all(&mut io::stderr(), words.as_bytes());
    }
    Ok(())
}

/// Part by part: a list may be long.
async fn members(client: &mut Client, name: &str, out: &Output) -> anyhow::Result<()> {
    let mut parts = client.show_list(name).await?;
    let mut first = true;
    while let Some(part) = parts.message().await.map_err(crate::api::client::ClientError::from)? {
        let part: Vec<DecisionReport> = part
            .members
            .into_iter()
            .map(TryInto::try_into)
            .collect::<Result<_, _>>()
            .map_err(crate::api::client::ClientError::Malformed)?;
        match out.format {
            // One header.
            super::args::Format::Csv if !first => {
                let text = super::output::csv(&part)?;
                out.text(text.split_once('\n').map_or("", |(_, rows)| rows))?;
            }
            _ => out.list(&part, |l| render::decisions(l, wall_us()))?,
        }
        first = false;
    }
    if first {
        out.list::<DecisionReport>(&[], |_| format!("the list {name} holds nothing that is enforced\n"))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Row {
    name: String,
    kind: String,
    members: u64,
    protected: u64,
    actions: String,
    created: Option<Rfc3339>,
    changed: Option<Rfc3339>,
    last_success: Option<Rfc3339>,
    error: String,
    left_out: String,
    comment: String,
}

impl From<ListReport> for Row {
    fn from(l: ListReport) -> Self {
        let time = |t: TimeUs| (t > 0).then_some(Rfc3339(t));
        Row {
            created: time(l.created_us),
            changed: time(l.replaced_us),
            last_success: l.last_success_us.map(Rfc3339),
            name: l.name,
            kind: l.kind,
            members: l.members,
            protected: l.protected,
            actions: l.actions,
            error: l.error,
            left_out: l.left_out,
            comment: l.comment,
        }
    }
}

fn table(lists: &[Row], now: TimeUs) -> String {
    if lists.is_empty() {
        return "no lists\n".into();
    }
    let mut t = Table::new(&["NAME", "FROM", ">ENTRIES", ">PROTECTED", "ACTION", "CHANGED", "LAST READ", "STATE"]);
    for l in lists {
        let time = |t: &Option<Rfc3339>| t.as_ref().map_or_else(|| "-".into(), |t| relative(t.0, now));
        let state = match (l.error.as_str(), l.left_out.as_str()) {
            ("", "") => l.comment.clone(),
            ("", left_out) => left_out.to_owned(),
            (error, _) => format!("failing: {error}"),
        };
        t.row(vec![
            l.name.clone(),
            l.kind.clone(),
            grouped(l.members),
            grouped(l.protected),
            l.actions.clone(),
            time(&l.changed),
            time(&l.last_success),
            state,
        ]);
    }
    t.render()
}
