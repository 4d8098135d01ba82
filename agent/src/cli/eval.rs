//! `weir eval`: how well a bundle tells labelled attacks from benign flows, at thresholds frozen when it was calibrated.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use super::args::EvalArgs;
use super::flows::{bundle, reading};
use super::output::{Output, Table};
use crate::human::grouped;
use crate::offline::Reading;
use crate::offline::eval::measure::{FalseAlarms, Judged, Measured, mean, measure};
use crate::offline::eval::report::page;
use crate::offline::eval::{ByBundle, Divided, Taken};
use crate::offline::output::{clean_lines, share};
use crate::offline::progress::Progress;
use crate::offline::signals;
use crate::offline::tally::Tally;

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
        let page = page(&report.words(), &report.measured, &report.plotted);
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

fn read(reading: &Reading, progress: &Progress, tally: &mut Tally, taker: &mut dyn weir_source::Taker) {
    reading.read_into(progress, tally, taker);
    if let Some(signal) = signals::received() {
        signals::end_by(signal);
    }
}

fn by_bundle(args: &EvalArgs, progress: &Progress, tally: &mut Tally) -> anyhow::Result<Report> {
    let reading = reading(args.input.clone())?;
    let (bundle, _) = bundle(args.bundle.clone())?;
    if !bundle.profiles().any(|p| p == args.profile) {
        let has: Vec<_> = bundle.profiles().map(|p| p.name()).collect();
        anyhow::bail!("bundle {} has no profile `{}`: it has {}", bundle.id(), args.profile, has.join(", "));
    }
    signals::watch().context("cannot wait for signals")?;
    let mut taker = ByBundle::new(&bundle, args.profile);
    read(&reading, progress, tally, &mut taker);
    let (judged, taken) = taker.close()?;
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
    })
}

fn by_parts(args: &EvalArgs, part: f64, progress: &Progress, tally: &mut Tally) -> anyhow::Result<Report> {
    let reading = reading(args.input.clone())?;
    signals::watch().context("cannot wait for signals")?;
    let mut divided = Divided::new(args.profile);
    read(&reading, progress, tally, &mut divided);
    if !tally.failed.is_empty() {
        let why: Vec<_> = tally.failed.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        anyhow::bail!("nothing was trained, since an input cannot be read: {}", why.join("; "));
    }
    something(divided.benign().len() + divided.taken.attacks.len(), &divided.taken, args)?;
    let (mut runs, mut all, mut judged, mut plotted) = (Vec::new(), Vec::new(), 0, None);
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
        plotted.get_or_insert(run.judged);
    }
    let seeds = if args.seeds == 1 { format!("seed {}", args.seed) } else { format!("mean of {} seeds", args.seeds) };
    Ok(Report {
        by: format!("models trained on {} of the benign flows, profile {}, {seeds}", share(part), args.profile),
        how: json!({ "train_share": part, "seeds": args.seeds, "profile": args.profile.name() }),
        taken: divided.taken,
        judged,
        measured: mean(&all),
        runs,
        plotted: plotted.unwrap_or_default(),
    })
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
            return clean_lines(&out);
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
        clean_lines(&out)
    }

    fn json(&self) -> Value {
        let t = &self.taken;
        json!({
            "by": self.how,
            "flows": { "benign": t.benign, "unlabelled": t.unlabelled, "attacks": t.attacks, "left_out": t.left_out },
            "benign_judged": self.judged,
            "detectors": self.measured,
            "runs": self.runs,
        })
    }
}

/// Means over runs need not be whole.
fn count(v: f64) -> String {
    if v.fract() == 0.0 { grouped(v as u64) } else { format!("{v:.1}") }
}

/// What to know about a rate that the calibration rows cannot show.
fn shown(f: &FalseAlarms, detector: &str) -> String {
    match (f.certified, detector) {
        (true, _) => String::new(),
        (false, "fused") => "too few calibration rows to show: a fitted tail".to_owned(),
        (false, _) => "too few calibration rows to show".to_owned(),
    }
}
