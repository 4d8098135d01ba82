//! `weir replay --decisions`: who would have been alerted about and stopped, when, why, and for how long.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use anyhow::Context;
use weir_core::addr::Prefix;
use weir_core::event::Mode;
use weir_core::guard::{Allow, Safe};
use weir_core::policy::{PolicyConfig, duration_words};
use weir_source::write::Form;

use super::args::{DecideArgs, Format, ReplayArgs};
use super::flows::{bundle, form, reading};
use super::output::{Table, csv};
use super::usage;
use crate::agent;
use crate::config::Config;
use crate::human::{grouped, micros, rough};
use crate::offline::decide::book::{Book, Line};
use crate::offline::decide::{Counts, Deciding, Settings};
use crate::offline::output::{clean_lines, to_terminal, whole};
use crate::offline::progress::Progress;
use crate::offline::tally::Tally;
use crate::offline::{Reading, signals};
use crate::pipeline::Model;

/// What an agent with this configuration would go by: the default one, unless a file is named.
pub fn settings(args: &DecideArgs, reading: &mut Reading) -> anyhow::Result<Settings> {
    let config = args.config.as_deref().map_or_else(|| Ok(Config::default()), |path| Config::load(Some(path)))?;
    if reading.home.is_empty() {
        reading.home.clone_from(&config.home);
    }
    // As if there were an interface, and a person had promoted the bundle.
    let policy = PolicyConfig { mode: args.mode, enters: true, home: reading.home(), ..agent::policy(&config, true) };
    let allow =
        |prefix: &Prefix| Allow { prefix: *prefix, created_us: 0, expires_us: None, comment: "--allow".to_owned() };
    let safe = config.allow.iter().map(|rule| Safe { prefix: rule.target, why: "`allow` of the configuration".into() });
    Ok(Settings {
        table: agent::table(&config, reading.home(), 1),
        policy,
        allow: args.allow.iter().map(allow).collect(),
        safe: safe.collect(),
        max_decisions: config.capacity.blocks as usize,
    })
}

pub fn run(args: ReplayArgs, asked: Option<Format>) -> anyhow::Result<ExitCode> {
    let format = form(asked, args.out.as_deref());
    if format == Form::Parquet {
        return Err(usage("decisions are written as a table, as JSON or as CSV; parquet is for flows"));
    }
    let mut reading = reading(args.input)?;
    let settings = settings(&args.decide, &mut reading)?;
    let model = match bundle(args.bundle)? {
        (bundle, true) => Model::built_in(bundle),
        (bundle, false) => Model::new(bundle),
    };
    signals::watch().context("cannot wait for signals")?;
    let progress = Progress::new(to_terminal(args.out.as_deref()));
    let mut tally = Tally::default();
    let mut book = Book::new(format == Form::Json);
    let mut deciding = Deciding::new(settings.clone(), model.clone(), &mut book, Some(&progress))?;
    reading.read_as_it_is(&progress, &mut tally, &mut deciding);
    let Ok(counts) = deciding.close() else { anyhow::bail!("the replay was stopped") };
    tally.counts = counts.read;
    drop(progress);
    book.met(&counts.met);
    let text = match format {
        Form::Json => book.json.iter().map(|l| l.clone() + "\n").collect(),
        Form::Csv => csv(&book.lines)?,
        Form::Table | Form::Parquet => table(&book.lines),
    };
    whole(args.out.as_deref(), &text)?;
    let said = tally.summary() + &summary(&book, &counts, &model, &settings, &reading);
    // Nobody is left to tell where stderr is closed.
    let _ = io::Write::write_all(&mut io::stderr(), clean_lines(&said).as_bytes());
    if let Some(signal) = signals::received() {
        signals::end_by(signal);
    }
    Ok(if tally.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn table(lines: &[Line]) -> String {
    let mut table =
        Table::new(&["Timestamp", "Source", "Action", ">For", "Proven", ">Evidence", ">Flows", ">Met", "Why"]);
    for l in lines {
        let lasts = l.seconds.map_or("-".to_owned(), |s| {
            let extended = if l.extended > 0 { format!(" ({} x extended)", l.extended) } else { String::new() };
            duration_words(s.saturating_mul(1_000_000)) + &extended
        });
        let action = match l.severity {
            Some(severity) if l.action == "alert" => format!("alert ({})", format!("{severity:?}").to_lowercase()),
            _ => l.action.to_owned(),
        };
        let why = [l.reasons.as_str(), l.outcome.as_str()];
        table.row(vec![
            l.timestamp.to_string(),
            l.source.clone(),
            action,
            lasts,
            if l.proven { "yes" } else { "no" }.to_owned(),
            l.evidence.map_or("-".to_owned(), |e| format!("{e:.1}")),
            l.flows.map_or("-".to_owned(), grouped),
            if l.is_entry() { grouped(l.packets_met) } else { "-".to_owned() },
            why.into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" => "),
        ]);
    }
    table.render()
}

/// What a reader of the lines should know, for stderr.
fn summary(book: &Book, counts: &Counts, model: &Model, settings: &Settings, reading: &Reading) -> String {
    let mut out = String::new();
    let t = &model.thresholds;
    let _ = writeln!(
        out,
        "bundle {}: alert at evidence {:.1}, drop at {:.1} from proven flows; from {} benign source windows of {} sources",
        model.bundle.id(),
        t.alert,
        t.drop,
        grouped(t.benign_windows),
        grouped(t.benign_sources)
    );
    let mode = settings.policy.mode;
    let meant = match mode {
        Mode::Enforce => "as if the bundle was promoted; what would have been dropped is taken out of what follows",
        Mode::Review => "a person is asked first: entries count and drop nothing meanwhile",
        Mode::Shadow => "entries count and drop nothing",
        Mode::Observe => "nothing is entered",
    };
    let _ = writeln!(out, "mode {}: {meant}", mode.name());
    out += &unknown(counts);
    let home = if reading.home.is_empty() { "the private networks; --home names others" } else { "as given" };
    let _ = writeln!(out, "home: {home}; who is at home is alerted about and never stopped");
    let (alerted, dropped) = book.sources();
    let _ = writeln!(
        out,
        "{} replayed: {} sources alerted about, {} of them dropped",
        rough(micros(counts.span_us / 1_000_000 * 1_000_000)),
        grouped(alerted as u64),
        grouped(dropped as u64),
    );
    if book.left_out > 0 {
        let _ = writeln!(out, "left out: {} lines more", grouped(book.left_out));
    }
    out
}

/// What the inputs could not tell, and what that means for decisions.
pub fn unknown(counts: &Counts) -> String {
    let mut out = String::new();
    if counts.unproven > 0 {
        let _ = writeln!(
            out,
            "unproven: {} answered TCP flows come without sequence numbers, so nothing shows that their clients are who \
             they say: they can raise alerts and lead to no drop (--trust-sources takes a log's complete handshakes for \
             proof)",
            grouped(counts.unproven)
        );
    }
    for (what, n) in &counts.lacking {
        let _ = writeln!(out, "left out of decisions: {} flows that do not tell {what}", grouped(*n));
    }
    if counts.late > 0 {
        let _ = writeln!(out, "late: {} flows came out of order and counted when they came", grouped(counts.late));
    }
    if counts.timelines > 1 {
        let _ = writeln!(
            out,
            "{} timelines: an input that begins before the one before it ended is replayed on its own",
            grouped(counts.timelines)
        );
    }
    if let Some((n, why)) = &counts.failed {
        let _ = writeln!(out, "not scored: {} epochs: {why}", grouped(*n));
    }
    out
}
