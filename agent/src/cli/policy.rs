//! `weir policy test`: what a policy would have done to what was recorded.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;
use weir_core::addr::Prefix;
use weir_core::event::Mode;
use weir_core::policy::duration_words;

use super::args::{DecideArgs, InputArgs, mode, prefix, source_format};
use super::decisions::{settings, unknown};
use super::flows::{bundle, reading};
use super::output::{Output, Table};
use super::usage;
use crate::config::{Config, DEFAULT_PATH};
use crate::human::{self, grouped};
use crate::offline::decide::book::Book;
use crate::offline::decide::{Counts, Cut, Deciding};
use crate::offline::output::clean_lines;
use crate::offline::policy::{self, PolicyReport};
use crate::offline::progress::Progress;
use crate::offline::signals;
use crate::offline::tally::Tally;
use crate::pipeline::Model;

const TEST: &str = "Reads whatever `weir replay` reads. The agent is taken to be in mode enforce with a promoted model (or in the mode \
that --mode says), so that what rules would do is seen; modes of rules hold. A limit is reckoned by packets, and takes no flow out \
of what follows; a drop does.";

#[derive(Debug, Subcommand)]
pub enum PolicyCmd {
    /// What the policy would have done to recorded flows: by rule, whom it would have stopped, and what that would have cut
    #[command(after_help = TEST)]
    Test(TestArgs),
}

#[derive(Debug, Args)]
pub struct TestArgs {
    /// Files: captures, flow logs and exports, Weir's own; - is standard input
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "recorded")]
    pub record: Vec<PathBuf>,
    /// Instead: what the agent on this machine has recorded
    #[arg(long, conflicts_with_all = ["record", "read_as", "decap"])]
    pub recorded: bool,
    /// Of the record, only the last so long
    #[arg(long, value_name = "TIME", value_parser = human::parse_duration, requires = "recorded")]
    pub since: Option<Duration>,
    /// The configuration whose policy is tested [default: /etc/weir/weir.yaml, where it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Another configuration, to have the two side by side
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// The mode that the agent is in
    #[arg(long, value_name = "MODE", default_value = "enforce", value_parser = mode)]
    pub mode: Mode,
    /// Never stopped
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', value_parser = prefix)]
    pub allow: Vec<Prefix>,
    /// Folder of the model [default: the one that serves, in the state directory; else the one that came with Weir]
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// The inner flows of tunnels instead of the outer ones
    #[arg(long)]
    pub decap: bool,
    /// What the inputs are, where it is not recognised
    #[arg(long = "format", value_name = "FORMAT", value_parser = source_format)]
    pub read_as: Option<weir_source::Format>,
    /// Networks that are protected [default: `home` of the configuration, else private addresses]
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', value_parser = prefix)]
    pub home: Vec<Prefix>,
    /// Take complete TCP handshakes that a log tells of for proof of the client's address
    #[arg(long)]
    pub trust_sources: bool,
}

/// One policy over all inputs.
struct Run {
    name: String,
    report: PolicyReport,
    warnings: Vec<String>,
    counts: Counts,
    tally: Tally,
}

pub fn run(command: PolicyCmd, socket: Option<PathBuf>, out: &Output) -> anyhow::Result<ExitCode> {
    let PolicyCmd::Test(args) = command;
    if args.against.is_some() && args.record.iter().any(|p| p.as_os_str() == "-") {
        return Err(usage("standard input (`-`) can be read once, and two policies read everything twice"));
    }
    let model = match bundle(args.bundle.clone())? {
        (bundle, true) => Model::built_in(bundle),
        (bundle, false) => Model::new(bundle),
    };
    signals::watch().context("cannot wait for signals")?;
    let ours = args.config.clone().or_else(|| Path::new(DEFAULT_PATH).exists().then(|| DEFAULT_PATH.into()));
    let first = replay(&args, ours, socket.as_deref(), &model)?;
    let second = args.against.clone().map(|other| replay(&args, Some(other), socket.as_deref(), &model)).transpose()?;
    if out.json() {
        let differences = second.as_ref().map(|s| policy::differences(&first.report, &s.report));
        let of = |r: &Run| json!({ "config": r.name, "report": r.report, "warnings": r.warnings });
        out.object(&json!({
            "mode": args.mode.name(), "bundle": model.bundle.id(), "policy": of(&first), "against": second.as_ref().map(of),
            "differences": differences,
        }))?;
    } else {
        out.text(&clean_lines(&text(&first, second.as_ref())))?;
    }
    let mut said = first.tally.summary();
    said += &unknown(&first.counts);
    for r in [Some(&first), second.as_ref()].into_iter().flatten() {
        r.warnings.iter().for_each(|w| said += &format!("warning: {}: {w}\n", r.name));
    }
    let _ = writeln!(said, "mode {}, bundle {}", args.mode.name(), model.bundle.id());
    // Nobody is left to tell where stderr is closed.
    let _ = io::Write::write_all(&mut io::stderr(), clean_lines(&said).as_bytes());
    if let Some(signal) = signals::received() {
        signals::end_by(signal);
    }
    Ok(if first.tally.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn replay(args: &TestArgs, config: Option<PathBuf>, socket: Option<&Path>, model: &Model) -> anyhow::Result<Run> {
    let mut reading = reading(InputArgs {
        inputs: args.record.clone(),
        recorded: args.recorded,
        since: args.since,
        socket: socket.map(Path::to_owned),
        decap: args.decap,
        read_as: args.read_as,
        home: args.home.clone(),
        checkpoints: true,
        trust_sources: args.trust_sources,
    })?;
    let name = config.as_ref().map_or("the defaults".to_owned(), |p| p.display().to_string());
    let warnings = match &config {
        Some(path) => Config { mode: args.mode, ..Config::load(Some(path))? }.warnings(),
        None => Vec::new(),
    };
    let decide = DecideArgs { mode: args.mode, allow: args.allow.clone(), config };
    let settings = settings(&decide, &mut reading)?;
    let progress = Progress::new(false);
    let mut tally = Tally::default();
    let mut book = Book::new(false);
    let mut deciding = Deciding::new(settings.clone(), model.clone(), &mut book, Some(&progress))?;
    reading.read_as_it_is(&progress, &mut tally, &mut deciding);
    let Ok(counts) = deciding.close() else { anyhow::bail!("the replay was stopped") };
    tally.counts = counts.read;
    book.met(&counts.met);
    let report = policy::report(&settings.policy.rules_in_force(), &book, &counts);
    Ok(Run { name, report, warnings, counts, tally })
}

fn text(first: &Run, second: Option<&Run>) -> String {
    let mut out = String::new();
    for r in [Some(first), second].into_iter().flatten() {
        let _ = writeln!(out, "policy of {}\n", r.name);
        out += &rules(&r.report);
        out.push('\n');
        out += &decisions(&r.report);
        let _ = writeln!(out, "{}\n", total(&r.report));
    }
    if let Some(second) = second {
        out += &beside(first, second);
    }
    out
}

fn rules(report: &PolicyReport) -> String {
    let mut t = Table::new(&[
        "Rule",
        ">Matched",
        ">Alerts",
        ">Asked",
        ">Drops",
        ">Limits",
        ">Shadows",
        ">Flows cut",
        ">Benign",
        ">Attacks",
        ">Packets",
    ]);
    for r in report.rules.iter().filter(|r| r.matches > 0 || r.name != "(no rule)") {
        let n = [r.matches, r.alerts, r.asked, r.drops, r.limits, r.shadows, r.cut.flows, r.cut.benign, r.cut.attacks];
        let figures = n.into_iter().chain([r.cut.stopped]).map(grouped);
        t.row(std::iter::once(r.name.clone()).chain(figures).collect());
    }
    t.render()
}

fn decisions(report: &PolicyReport) -> String {
    if report.decisions.is_empty() {
        return "nothing would have been decided\n".to_owned();
    }
    let mut t = Table::new(&[
        "Timestamp",
        "Target",
        "Action",
        ">For",
        "Rule",
        ">Flows met",
        ">Established",
        ">Benign",
        ">Packets stopped",
        "Why",
    ]);
    for d in &report.decisions {
        let (l, c) = (&d.line, &d.cut);
        t.row(vec![
            l.timestamp.to_string(),
            l.source.clone(),
            l.action.to_owned(),
            l.seconds.map_or("-".to_owned(), |s| duration_words(s.saturating_mul(1_000_000))),
            d.rule.clone().unwrap_or_default(),
            grouped(c.flows),
            grouped(c.established),
            grouped(c.benign),
            grouped(c.stopped),
            l.outcome.clone(),
        ]);
    }
    let more =
        if report.left_out > 0 { format!("and {} lines more\n", grouped(report.left_out)) } else { String::new() };
    t.render() + &more
}

fn total(r: &PolicyReport) -> String {
    let Cut { flows, established, benign, attacks, stopped, .. } = &r.cut;
    let labels = if benign + attacks > 0 {
        format!("{} of them labelled benign, {} attacks", grouped(*benign), grouped(*attacks))
    } else {
        "none of them labelled".to_owned()
    };
    format!(
        "{} sources alerted about, {} asked about, {} drops, {} limits, {} shadow entries; drops and limits would have met {} \
         flows ({labels}; {} with both sides taking part) and stopped {} packets",
        grouped(r.sources_alerted),
        grouped(r.sources_asked),
        grouped(r.drops),
        grouped(r.limits),
        grouped(r.shadows),
        grouped(*flows),
        grouped(*established),
        grouped(*stopped),
    )
}

/// Two policies side by side.
fn beside(first: &Run, second: &Run) -> String {
    let (a, b) = (&first.report, &second.report);
    let mut t = Table::new(&["Side by side", ">This", ">Against"]);
    type Figure = fn(&PolicyReport) -> u64;
    let rows: [(&str, Figure); 10] = [
        ("sources alerted about", |r| r.sources_alerted),
        ("sources asked about", |r| r.sources_asked),
        ("drops", |r| r.drops),
        ("limits", |r| r.limits),
        ("shadow entries", |r| r.shadows),
        ("flows met by drops and limits", |r| r.cut.flows),
        ("  labelled benign", |r| r.cut.benign),
        ("  labelled attacks", |r| r.cut.attacks),
        ("  both sides taking part", |r| r.cut.established),
        ("packets stopped", |r| r.cut.stopped),
    ];
    for (name, of) in rows {
        t.row(vec![name.to_owned(), grouped(of(a)), grouped(of(b))]);
    }
    let mut out = t.render();
    let differences = policy::differences(a, b);
    let _ = writeln!(out, "\n{} targets decided differently", grouped(differences.len() as u64));
    if !differences.is_empty() {
        let mut t = Table::new(&["Target", "This", "Against"]);
        for d in &differences {
            let word = |w: Option<&str>| w.unwrap_or("nothing").to_owned();
            t.row(vec![d.target.clone(), word(d.ours), word(d.theirs)]);
        }
        out += &t.render();
    }
    out
}
