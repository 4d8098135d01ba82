//! `weir decisions import`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use weir_core::decision::{Action, Sides};
use weir_core::decisions::lists::Rule;

use super::args::{ImportArgs, Lifetime};
use super::output::{Output, clean};
use crate::api::client::Client;
use crate::api::lists::rule_out;
use crate::clock::wall_us;
use crate::command::ListTaken;
use crate::human::grouped;
use crate::lists::format::{self, Parsed};
use crate::proto as pb;

/// Of entries that say nothing, without `--for`: as of a decision by hand.
const DEFAULT_TTL_US: u64 = 4 * 3600 * 1_000_000;

pub async fn run(client: &mut Client, args: ImportArgs, out: &Output) -> anyhow::Result<ExitCode> {
    let mut parsed = Vec::new();
    let mut said = String::new();
    for path in &args.files {
        let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
        let p = read(path, args.format).with_context(|| format!("{name}: nothing of it is imported"))?;
        said += &words(&name, &p);
        parsed.push(p);
    }
    let (mut bad, mut over) = (0, 0);
    for p in &parsed {
        (bad, over) = (bad + p.bad, over + p.over);
    }
    let entries: usize = parsed.iter().map(|p| p.entries.len()).sum();
    anyhow::ensure!(
        entries > 0,
        "{said}there are no entries to import; to end a list: `weir lists remove {}`",
        args.list
    );
    let (ttl_us, all) = match args.lifetime {
        None => (Some(DEFAULT_TTL_US), false),
        Some(Lifetime::Ever) => (None, true),
        Some(Lifetime::For(d)) => (Some(d.as_micros() as u64), true),
    };
    let action = if args.limit.is_some() { Action::Limit } else { args.action };
    let (action, limit) = rule_out(Rule { action, limit: args.limit, sides: Sides::Both });
    let start = pb::ImportListStart {
        name: args.list.clone(),
        action,
        limit,
        sides: pb::Sides::Both as i32,
        comment: args.reason,
        replace: args.replace,
        dry_run: args.dry_run,
    };
    if io::stderr().is_terminal() && entries > 100_000 {
        let _ = io::Write::write_all(
            &mut io::stderr(),
            format!("sending {} entries\n", grouped(entries as u64)).as_bytes(),
        );
    }
    let taken = client.import_list(start, parsed.into_iter().map(|p| (p, ttl_us, all)).collect()).await?;
    // What is left out is said whatever the format.
    said += &left_out(&taken);
    let _ = io::Write::write_all(&mut io::stderr(), said.as_bytes());
    if out.json() {
        out.object(&serde_json::json!({
            "list": args.list, "dry_run": args.dry_run, "result": taken, "bad_lines": bad, "already_over": over,
        }))?;
    } else {
        out.text(&result(&args.list, args.dry_run, &taken))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path, form: format::Form) -> anyhow::Result<Parsed> {
    let now = wall_us();
    let reader = if path == Path::new("-") {
        weir_source::input::decompressed(io::stdin())?.0
    } else {
        let file = File::open(path)?;
        anyhow::ensure!(!file.metadata()?.is_dir(), "is a directory; name the files in it");
        weir_source::input::decompressed(file)?.0
    };
    Ok(format::read(BufReader::new(reader), form, now)?)
}

/// What of a file is not taken.
fn words(name: &str, p: &Parsed) -> String {
    let mut text = String::new();
    if p.bad > 0 {
        let _ = writeln!(text, "{name}: {} lines are no entries and left out:", grouped(p.bad));
        for bad in &p.named {
            let _ = writeln!(text, "  {}", clean(&bad.to_string()));
        }
        if p.bad > p.named.len() as u64 {
            let _ = writeln!(text, "  and {} more", grouped(p.bad - p.named.len() as u64));
        }
    }
    if p.over > 0 {
        let _ = writeln!(text, "{name}: {} entries are left out: their time is over", grouped(p.over));
    }
    text
}

fn left_out(t: &ListTaken) -> String {
    let mut text = String::new();
    if t.protected + t.too_wide > 0 {
        let _ = writeln!(
            text,
            "not enforced: {} protected by the allow list or the safe set, {} too wide:",
            grouped(t.protected),
            grouped(t.too_wide)
        );
        for words in &t.named {
            let _ = writeln!(text, "  {}", clean(words));
        }
        if t.protected + t.too_wide > t.named.len() as u64 {
            let _ = writeln!(text, "  and {} more", grouped(t.protected + t.too_wide - t.named.len() as u64));
        }
    }
    text
}

fn result(name: &str, dry_run: bool, t: &ListTaken) -> String {
    let note = if t.note.is_empty() { String::new() } else { format!(" [{}]", t.note) };
    format!(
        "list {name}{}: {} entries, {} new, {} as before, {} gone{note}\n",
        if dry_run { " would have" } else { "" },
        grouped(t.members),
        grouped(t.added),
        grouped(t.kept),
        grouped(t.removed)
    )
}
