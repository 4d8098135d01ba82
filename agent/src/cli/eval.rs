//! `weir eval`: how well a bundle tells labelled attacks from benign flows, at thresholds frozen when it was calibrated.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};
use weir_core::addr::Addr;
use weir_core::event::Mode;

use super::args::{DecideArgs, EvalArgs};
use super::decisions::{settings, unknown};
use super::flows::{bundle, reading};
use super::output::{Output, Table};
use crate::human::grouped;
use crate::offline::Reading;
use crate::offline::decide::{Counts, Deciding, Settings, can_decide};
use crate::offline::eval::drift::Drift;
use crate::offline::eval::measure::{FalseAlarms, Judged, Measured, mean, measure};
use crate::offline::eval::report::{Shown, page};
use crate::offline::eval::sources::{SourceRun, SourceWatch, Sources};
use crate::offline::eval::words::{self, count};
use crate::offline::eval::{ByBundle, Divided, Taken, parts};
use crate::offline::output::{clean_lines, share};
use crate::offline::progress::Progress;
use crate::offline::signals;
use crate::offline::tally::Tally;
use crate::pipeline::Model;

/// Sources named in the text.
const NAMED: usize = 10;

/// What an evaluation came to.
struct Report {
    /// What judged, in words.
    by: String,
    /// The same for programs.
    how: Value,
    taken: Taken,
    /// Benign flows that were judged, in one run.
    judged: usize,
    measured: Vec<Measured>,
    /// Each with its seed.
    runs: Vec<Value>,
    /// What plots show: the first run.
    plotted: Judged,
    drifts: Vec<Drift>,
    /// Benign flows within the time that the bundle was trained on.
    known_time: u64,
    /// What became of sources, or why that cannot be said; and what the inputs did not tell for it.
    sources: Result<Sources, String>,
    unknown: String,
}

pub fn run(args: EvalArgs, out: &Output) -> anyhow::Result<ExitCode> {
    let progress = Progress::new(false);
    let mut tally = Tally::default();
    let report = match args.train_share {
        Some(share) => by_parts(&args, share, &progress, &mut tally)?,
        None => by_bundle(&args, &progress, &mut tally)?,
    };
    drop(progress);
    if let Some(path) = &args.report {
        let sources = report.sources.as_ref().map_err(String::as_str);
        let page = page(&Shown {
            words: &report.words(),
            measured: &report.measured,
            judged: &report.plotted,
            drifts: &report.drifts,
            sources,
        });
        std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if out.json() {
        out.object(&report.json())?
    } else {
        out.text(&report.text())?
    }
    let _ = io::Write::write_all(&mut io::stderr(), tally.summary().as_bytes());
    Ok(if tally.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(
    reading: &Reading,
    progress: &Progress,
    tally: &mut Tally,
    taker: &mut dyn weir_source::Taker,
    beside: Option<&mut dyn weir_source::Sink>,
) {
    reading.read_beside(progress, tally, taker, beside);
    if let Some(signal) = signals::received() {
        signals::end_by(signal);
    }
}

fn by_bundle(args: &EvalArgs, progress: &Progress, tally: &mut Tally) -> anyhow::Result<Report> {
    let (reading, settings) = prepare(args)?;
    let model = Model::new(bundle(args.bundle.clone())?.0);
    let bundle = &*model.bundle;
    if !bundle.profiles().any(|p| p == args.profile) {
        let has: Vec<_> = bundle.profiles().map(|p| p.name()).collect();
        anyhow::bail!("bundle {} has no profile `{}`: it has {}", bundle.id(), args.profile, has.join(", "));
    }
    signals::watch().context("cannot wait for signals")?;
    let mut taker = ByBundle::new(bundle, args.profile);
    let everybody = |_: Addr| true;
    let mut watch = SourceWatch::new(&args.malicious, &everybody);
    let why_not = match args.flows_only {
        true => Err("--flows-only".to_owned()),
        false => can_decide(bundle).map_err(|e| e.to_string()),
    };
    let (sources, unknown) = match why_not {
        Err(why) => {
            read(&reading, progress, tally, &mut taker, None);
            (Err(why), String::new())
        }
        Ok(()) => {
            let mut deciding = Deciding::new(settings, model.clone(), &mut watch, None)?;
            read(&reading, progress, tally, &mut taker, Some(&mut deciding));
            let counts = stopped(deciding)?;
            let run = watch.close(counts.span_us);
            (judge(&[run], &counts), unknown(&counts))
        }
    };
    taker.close()?;
    let ByBundle { judged, taken, drift, known_time, .. } = taker;
    something(judged.benign.len() + judged.attacks.len(), &taken, args)?;
    let trained = &bundle.manifest().provenance.source;
    Ok(Report {
        by: format!("bundle {} (trained on {trained}), profile {}", bundle.id(), args.profile),
        how: json!({ "bundle": bundle.id(), "profile": args.profile.name() }),
        judged: judged.benign.len(),
        taken,
        measured: measure(&judged),
        runs: Vec::new(),
        plotted: judged,
        drifts: drift.drifts(args.profile),
        known_time,
        sources,
        unknown,
    })
}

fn by_parts(args: &EvalArgs, part: f64, progress: &Progress, tally: &mut Tally) -> anyhow::Result<Report> {
    let (reading, settings) = prepare(args)?;
    signals::watch().context("cannot wait for signals")?;
    let mut divided = Divided::new(args.profile);
    read(&reading, progress, tally, &mut divided, None);
    if !tally.failed.is_empty() {
        let why: Vec<_> = tally.failed.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        anyhow::bail!("nothing was trained, since an input cannot be read: {}", why.join("; "));
    }
    something(divided.benign().len() + divided.taken.attacks.len(), &divided.taken, args)?;
    let (mut runs, mut all, mut judged, mut plotted, mut drifts) = (Vec::new(), Vec::new(), 0, None, None);
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        let run = divided.run(part, seed, &mut |p| {
            progress.stage(&format!("seed {seed}, profile {}: {} {} of {}", p.profile, p.stage, p.done, p.total));
        })?;
        let measured = measure(&run.judged);
        judged = run.judged.benign.len();
        runs.push(json!({
            "seed": seed, "trained_on": run.trained, "benign_judged": judged, "recurring": run.recurring,
            "detectors": measured,
        }));
        all.push(measured);
        drifts.get_or_insert_with(|| run.drift.drifts(args.profile));
        plotted.get_or_insert(run.judged);
    }
    let (sources, unknown) = match sources_by_parts(args, part, &reading, &settings, progress) {
        Ok((runs, counts)) => (judge(&runs, &counts), unknown(&counts)),
        Err(why) => (Err(format!("{why:#}")), String::new()),
    };
    let seeds = if args.seeds == 1 { format!("seed {}", args.seed) } else { format!("mean of {} seeds", args.seeds) };
    Ok(Report {
        by: format!("models trained on {} of the benign flows, profile {}, {seeds}", share(part), args.profile),
        how: json!({ "train_share": part, "seeds": args.seeds, "profile": args.profile.name() }),
        taken: divided.taken,
        judged,
        measured: mean(&all),
        runs,
        plotted: plotted.unwrap_or_default(),
        drifts: drifts.unwrap_or_default(),
        known_time: 0,
        sources,
        unknown,
    })
}

/// What an agent would go by, beside what is read.
fn prepare(args: &EvalArgs) -> anyhow::Result<(Reading, Settings)> {
    let mut reading = reading(args.input.clone())?;
    reading.malicious.clone_from(&args.malicious);
    let decide = DecideArgs { mode: Mode::Enforce, allow: Vec::new(), config: None };
    let settings = settings(&decide, &mut reading)?;
    Ok((reading, settings))
}

fn stopped(deciding: Deciding<'_>) -> anyhow::Result<Counts> {
    deciding.close().map_err(|_| anyhow::anyhow!("the replay was stopped"))
}

/// What the replays came to; nothing where no source answers for anything.
fn judge(runs: &[SourceRun], counts: &Counts) -> Result<Sources, String> {
    if counts.timelines == 0 {
        let why: Vec<_> = counts.lacking.iter().map(|(what, n)| format!("{n} do not tell {what}")).collect();
        let why = if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) };
        return Err(format!("no flow tells when it was and who began it{why}"));
    }
    Ok(Sources::of(runs))
}

/// Trains on the benign flows of some sources, replays everything and judges the other benign sources, for each seed.
fn sources_by_parts(
    args: &EvalArgs,
    part: f64,
    reading: &Reading,
    settings: &Settings,
    progress: &Progress,
) -> anyhow::Result<(Vec<SourceRun>, Counts)> {
    if args.flows_only {
        anyhow::bail!("--flows-only");
    }
    if reading.inputs.iter().any(|p| p.as_os_str() == "-") {
        anyhow::bail!("standard input can be read once, and each seed reads anew to train on other sources");
    }
    let (mut runs, mut last) = (Vec::new(), Counts::default());
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        let model = parts::train(reading, &args.malicious, part, seed, progress)?;
        let judges = |source| !parts::teaches(source, part, seed);
        let mut watch = SourceWatch::new(&args.malicious, &judges);
        let mut deciding = Deciding::new(settings.clone(), model, &mut watch, None)?;
        reading.read_as_it_is(progress, &mut Tally::default(), &mut deciding);
        last = stopped(deciding)?;
        runs.push(watch.close(last.span_us));
    }
    Ok((runs, last))
}

/// Whether there is anything to tell.
fn something(rows: usize, taken: &Taken, args: &EvalArgs) -> anyhow::Result<()> {
    if rows > 0 {
        return Ok(());
    }
    let why: Vec<_> = taken.left_out.iter().map(|(why, n)| format!("{n} flows: {why}")).collect();
    let why = if why.is_empty() { "the inputs hold no flows".to_owned() } else { why.join("; ") };
    anyhow::bail!("no flow can be judged by profile `{}`: {why}", args.profile)
}

impl Report {
    /// What was judged, by what, and what could not be.
    fn words(&self) -> String {
        let t = &self.taken;
        let mut out = format!("by {}\n", self.by);
        let attacks: u64 = t.attacks.values().sum();
        let _ = writeln!(
            out,
            "judged: {} benign flows ({} labelled so, {} without a label in the input), {} flows of {} attacks",
            grouped(self.judged as u64),
            grouped(t.benign),
            grouped(t.unlabelled),
            grouped(attacks),
            t.attacks.len()
        );
        for (why, n) in &t.left_out {
            let _ = writeln!(out, "left out: {} flows: {why}", grouped(*n));
        }
        if self.known_time > 0 {
            let _ = writeln!(
                out,
                "warning: {} of the benign flows lie in the time that the bundle was trained on: where it is the same \
                 traffic, false alarms are fewer here than they will be",
                grouped(self.known_time)
            );
        }
        out += &words::drift(&self.drifts);
        out
    }

    fn text(&self) -> String {
        let mut out = self.words();
        out += "\nFalse alarms on benign flows, at p-values frozen at calibration\n";
        let mut table = Table::new(&["Detector", ">Asked", ">Realised", ">95 % interval", ">Alarms", ""]);
        for m in &self.measured {
            for f in &m.false_alarms {
                table.row(vec![
                    m.detector.to_owned(),
                    share(f.asked),
                    share(f.realised),
                    format!("{} to {}", share(f.low), share(f.high)),
                    format!("{} of {}", count(f.alarms), count(f.benign)),
                    shown(f, m.detector),
                ]);
            }
        }
        out += &table.render();
        if self.measured.iter().all(|m| m.detection.is_empty()) {
            out += "\nNo attacks to compare with benign flows.\n";
            return clean_lines(&(out + &self.about_sources()));
        }
        out += "\nDetection, at the same p-values\n";
        let mut table = Table::new(&[
            "Detector",
            "Label",
            ">Flows",
            ">ROC AUC",
            ">PR AUC",
            ">TPR at 1 %",
            ">at 0.1 %",
            ">at 0.01 %",
        ]);
        for m in &self.measured {
            for d in &m.detection {
                let plus = |v: f64, k: usize| d.spread.map_or(format!("{v:.3}"), |s| format!("{v:.3} ±{:.3}", s[k]));
                table.row(vec![
                    m.detector.to_owned(),
                    d.label.clone(),
                    grouped(d.flows as u64),
                    plus(d.roc_auc, 0),
                    format!("{:.3}", d.pr_auc),
                    plus(d.tpr[0], 1),
                    format!("{:.3}", d.tpr[1]),
                    format!("{:.3}", d.tpr[2]),
                ]);
            }
        }
        out += &table.render();
        clean_lines(&(out + &self.about_sources()))
    }

    fn about_sources(&self) -> String {
        match &self.sources {
            Err(why) => format!("\nSources are not judged: {why}\n"),
            Ok(s) => {
                let mut out = "\nSources, as an agent in mode enforce would have judged them\n".to_owned();
                out += &words::sources(s);
                for f in s.each_false_alarm.iter().take(NAMED) {
                    let _ = writeln!(out, "  false {}: {} {}: {}", f.action, f.timestamp, f.source, f.why);
                }
                let missed = s.each_malicious.iter().filter(|m| m.alerted.is_none());
                for m in missed.take(NAMED) {
                    let n = grouped(m.malicious_flows);
                    let _ = writeln!(out, "  missed: {} with {n} malicious flows of {}", m.source, grouped(m.flows));
                }
                out + &self.unknown
            }
        }
    }

    fn json(&self) -> Value {
        let t = &self.taken;
        json!({
            "by": self.how,
            "flows": { "benign": t.benign, "unlabelled": t.unlabelled, "attacks": t.attacks, "left_out": t.left_out },
            "benign_judged": self.judged,
            "detectors": self.measured,
            "runs": self.runs,
            "drift": self.drifts,
            "trained_on_time_of": self.known_time,
            "sources": self.sources.as_ref().ok(),
            "sources_not_judged": self.sources.as_ref().err(),
        })
    }
}

/// What to know about a rate that the calibration rows cannot show.
fn shown(f: &FalseAlarms, detector: &str) -> String {
    match (f.certified, detector) {
        (true, _) => String::new(),
        (false, "fused") => "too few calibration rows to show: a fitted tail".to_owned(),
        (false, _) => "too few calibration rows to show".to_owned(),
    }
}
