//! `weir flows` and `weir replay`: what other tools have recorded, as flows, written or scored.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use weir_core::policy::DEFAULT_BUNDLE;
use weir_core::profile::ProfileId;
use weir_models::Bundle;
use weir_source::profiles::{Offer, Told};
use weir_source::write::{Form, Row, Shape};
use weir_source::{Observation, Stop};

use super::args::{FlowsArgs, Format, InputArgs, ReplayArgs};
use super::usage;
use crate::config::Config;
use crate::default_bundle;
use crate::human::grouped;
use crate::model;
use crate::offline::output::{Output, clean_lines, to_terminal};
use crate::offline::progress::Progress;
use crate::offline::replay::{BATCH, Replay};
use crate::offline::tally::Tally;
use crate::offline::{Reading, signals};

/// As asked for, else as the name of the file says, else a table.
pub fn form(asked: Option<Format>, to: Option<&Path>) -> Form {
    let by_name = || match to?.extension()?.to_str()? {
        "json" | "jsonl" | "ndjson" => Some(Format::Json),
        "csv" => Some(Format::Csv),
        "parquet" | "pq" => Some(Format::Parquet),
        _ => None,
    };
    match asked.or_else(by_name).unwrap_or(Format::Table) {
        Format::Table => Form::Table,
        Format::Json => Form::Json,
        Format::Csv => Form::Csv,
        Format::Parquet => Form::Parquet,
    }
}

/// What to read.
pub fn reading(args: InputArgs) -> anyhow::Result<Reading> {
    let InputArgs { inputs, decap, read_as, home, checkpoints, trust_sources, recorded, since, socket } = args;
    let plain = Reading {
        inputs,
        format: read_as,
        decap,
        home,
        checkpoints,
        trust_sources,
        malicious: Vec::new(),
        recorded_since: None,
        without_context: false,
    };
    if recorded {
        let recorded = super::recorded::open(socket.as_deref(), since)?;
        let (inputs, recorded_since) = (recorded.files, Some(recorded.since_us));
        return Ok(Reading { inputs, format: None, recorded_since, ..plain });
    }
    if plain.inputs.iter().filter(|p| p.as_os_str() == "-").count() > 1 {
        return Err(usage("standard input (`-`) can be read once"));
    }
    Ok(plain)
}

fn open(to: Option<&Path>, asked: Option<Format>, shape: Shape) -> anyhow::Result<(Output, Progress)> {
    let form = form(asked, to);
    if form == Form::Parquet && to_terminal(to) {
        return Err(usage("Parquet is no text for a terminal: name a file with --out FILE, or pipe it on"));
    }
    signals::watch().context("cannot wait for signals")?;
    Ok((Output::open(to, form, shape)?, Progress::new(to_terminal(to))))
}

/// Finishes the output, says what was read, and chooses the exit status.
fn end(output: Output, failed: Option<anyhow::Error>, tally: &Tally, more: &str) -> anyhow::Result<ExitCode> {
    if let Some(e) = failed {
        return Err(e);
    }
    output.finish()?;
    let text = tally.summary() + more;
    // Nobody is left to tell where stderr is closed.
    let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
    if let Some(signal) = signals::received() {
        signals::end_by(signal);
    }
    Ok(if tally.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub fn flows(args: FlowsArgs, asked: Option<Format>) -> anyhow::Result<ExitCode> {
    let (mut reading, to) = (reading(args.input)?, args.out);
    if args.explain_profile {
        return explain_profile(&reading, asked);
    }
    // No column of the table shows it.
    reading.without_context = form(asked, to.as_deref()) == Form::Table;
    let (mut output, progress) = open(to.as_deref(), asked, Shape::default())?;
    let (mut failed, mut tally) = (None, Tally::default());
    reading.read(&progress, &mut tally, |flow| {
        output.write(&Row { flow: &flow, anomaly: None, anomaly_p: 0.0 }).map_err(|e| {
            failed = Some(e.into());
            Stop
        })
    });
    drop(progress);
    end(output, failed, &tally, "")
}

/// Says of each input which profiles its flows can supply.
fn explain_profile(reading: &Reading, asked: Option<Format>) -> anyhow::Result<ExitCode> {
    if !matches!(asked, None | Some(Format::Table | Format::Json)) {
        return Err(usage("--explain-profile is written as a table or as JSON"));
    }
    signals::watch().context("cannot wait for signals")?;
    let progress = Progress::new(to_terminal(None));
    let mut tally = Tally::default();
    let mut text = String::new();
    for input in &reading.inputs {
        let mut told = Told::default();
        let opened = tally.formats.len();
        Reading { inputs: vec![input.clone()], ..reading.clone() }.read(&progress, &mut tally, |flow| {
            told.add(&flow.record);
            Ok(())
        });
        if let Some((name, format)) = tally.formats.get(opened) {
            let offers = told.explain(*format);
            text += &if asked == Some(Format::Json) {
                as_json(name, *format, &told, &offers) + "\n"
            } else {
                as_text(name, *format, &told, &offers)
            };
        }
    }
    drop(progress);
    io::Write::write_all(&mut io::stdout(), clean_lines(&text).as_bytes())?;
    let summary = tally.summary();
    let _ = io::Write::write_all(&mut io::stderr(), summary.as_bytes());
    Ok(if tally.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn as_text(name: &str, format: weir_source::Format, told: &Told, offers: &[(ProfileId, Offer, u64)]) -> String {
    let mut text = format!("{name}: {format}, {} flows\n", grouped(told.records()));
    for (profile, offer, complete) in offers {
        text += &format!("  {profile:<8}{offer} ({} flows have all of it)\n", grouped(*complete));
    }
    text
}

fn as_json(name: &str, format: weir_source::Format, told: &Told, offers: &[(ProfileId, Offer, u64)]) -> String {
    let profiles: serde_json::Map<_, _> = offers
        .iter()
        .map(|(profile, offer, complete)| {
            let offered = matches!(offer, Offer::Offered { .. });
            let said = serde_json::json!({ "offered": offered, "why": offer.to_string(), "complete_flows": complete });
            (profile.name().to_owned(), said)
        })
        .collect();
    serde_json::json!({ "input": name, "format": format.name(), "flows": told.records(), "profiles": profiles })
        .to_string()
}

/// The bundle that is named, the one that serves on this machine, or else the default bundle: `true`, and said on stderr.
pub fn bundle(named: Option<PathBuf>) -> anyhow::Result<(Bundle, bool)> {
    let dir = match named {
        Some(dir) => dir,
        None => {
            let state = Config::load(None).map_or_else(|_| Config::default().state_dir, |c| c.state_dir);
            let current = state.join("current");
            if !current.exists() {
                let words = format!(
                    "there is no model in {}: what follows is by {DEFAULT_BUNDLE}; name another with --bundle DIR, or make one \
                     with `weir learn` or `weir train`\n",
                    state.display()
                );
                // Nobody is left to tell where stderr is closed.
                let _ = io::Write::write_all(&mut io::stderr(), words.as_bytes());
                return Ok((default_bundle::load()?, true));
            }
            current
        }
    };
    // Compiling and running a model is what can hang: that is tried elsewhere first.
    model::check(&dir)?;
    Ok((model::load_here(&dir)?, false))
}

pub fn replay(args: ReplayArgs, asked: Option<Format>) -> anyhow::Result<ExitCode> {
    if args.decisions {
        return super::decisions::run(args, asked);
    }
    let (reading, to) = (reading(args.input)?, args.out);
    let (bundle, is_default) = bundle(args.bundle)?;
    let mut replay = Replay::new(bundle, args.profile, args.threshold, args.explain)?;
    replay.is_default = is_default;
    let shape = Shape { scored: true, explained: args.explain };
    let (mut output, progress) = open(to.as_deref(), asked, shape)?;
    let only_anomalies = args.only_anomalies;
    let mut waiting: Vec<Observation> = Vec::with_capacity(BATCH);
    let mut failed = None;
    let mut score = |waiting: &mut Vec<Observation>, replay: &mut Replay| -> anyhow::Result<()> {
        let scored = replay.score(waiting)?;
        for (flow, anomaly) in waiting.drain(..).zip(&scored) {
            let row = Row { flow: &flow, anomaly: anomaly.as_ref(), anomaly_p: replay.threshold() };
            if !only_anomalies || row.is_anomaly() == Some(true) {
                output.write(&row)?;
            }
        }
        Ok(())
    };
    let mut tally = Tally::default();
    reading.read(&progress, &mut tally, |flow| {
        waiting.push(flow);
        if waiting.len() < BATCH {
            return Ok(());
        }
        score(&mut waiting, &mut replay).map_err(|e| {
            failed = Some(e);
            Stop
        })
    });
    if failed.is_none() {
        failed = score(&mut waiting, &mut replay).err();
    }
    drop(progress);
    let more = replay.counts.summary(replay.threshold());
    end(output, failed, &tally, &more)
}
