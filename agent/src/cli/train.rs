//! `weir train`: a bundle from files.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use weir_core::evidence::Thresholds;
use weir_core::profile::ProfileId;
use weir_core::role::Role;
use weir_models::{
    ACTIONABLE_MIN_ROWS, BundleError, Corpus, ProfileEntry, RoleCalibration, TrainError, TrainedBundle,
    TrainingSummary, check_vacant,
};

use super::args::TrainArgs;
use super::flows::reading;
use super::output::Output;
use super::usage;
use crate::human::grouped;
use crate::learn::{Baseline, LearnError, carry, said, to_manifest};
use crate::offline::Reading;
use crate::offline::corpora::{Corpora, Resolved};
use crate::offline::output::{clean_lines, share};
use crate::offline::progress::Progress;
use crate::offline::signals;
use crate::offline::tally::Tally;
use crate::offline::train::{Gathering, MIN_ROWS, Used};

pub fn run(args: TrainArgs, out: &Output) -> anyhow::Result<ExitCode> {
    let reading = reading(args.input)?;
    // Better now than after an hour.
    vacant(&args.out)?;
    let listed = args.corpora.as_deref().map(|list| resolve(list, &reading)).transpose()?;
    signals::watch().context("cannot wait for signals")?;
    // One choice of `all` takes all of them; else each that is named must be there.
    let named: Vec<ProfileId> = args.profile.iter().map(|choice| choice.0).collect::<Option<_>>().unwrap_or_default();
    let wanted = if named.is_empty() { ProfileId::ALL.to_vec() } else { named.clone() };
    let window_us = args.window.as_micros() as u64;
    let mut gathering = match &listed {
        Some(_) => Gathering::apart(&wanted, window_us),
        None => Gathering::new(&wanted, window_us),
    };
    let progress = Progress::new(false);
    let mut tally = Tally::default();
    let corpora = match &listed {
        Some(listed) => read_corpora(listed, &reading, &progress, &mut tally, &mut gathering),
        None => {
            reading.read_into(&progress, &mut tally, &mut gathering);
            Vec::new()
        }
    };
    if let Some(signal) = signals::received() {
        drop(progress);
        signals::end_by(signal);
        return Ok(ExitCode::FAILURE);
    }
    if !tally.failed.is_empty() {
        drop(progress);
        tell(&tally);
        anyhow::bail!("nothing was trained: leave out the inputs that cannot be read, or mend them");
    }
    let (mut baseline, used, thinning) = gathering.close(args.alert_budget);
    let left_out = match choose(&mut baseline, &used, &named) {
        Ok(left_out) => left_out,
        Err(e) => {
            drop(progress);
            tell(&tally);
            return Err(e);
        }
    };
    let trained = baseline.train(args.seed, &mut |p| {
        progress.stage(&format!("profile {}: {} {} of {}", p.profile, p.stage, p.done, p.total));
    });
    let (mut trained, mut thresholds) = trained.map_err(|e| explained(e, &baseline))?;
    if listed.is_some() {
        // It is made to be passed on.
        thresholds.forget_sources();
        if trained.manifest().evidence.is_some() {
            trained.set_evidence(Some(to_manifest(&thresholds, args.alert_budget)))?;
        }
        trained.set_corpora(corpora)?;
    }
    trained.write(&args.out)?;
    drop(progress);
    tell(&tally);
    let report = Report { trained: &trained, thresholds: &thresholds, used: &used, left_out: &left_out, thinning };
    if out.json() {
        out.object(&report.json(&args.out))?
    } else {
        out.text(&report.text(&args.out))?
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a bundle can be written there.
pub fn vacant(dir: &Path) -> anyhow::Result<()> {
    check_vacant(dir).map_err(|e| match e {
        BundleError::Occupied { .. } => usage(e.to_string()),
        e => e.into(),
    })
}

/// The files of a list of corpora.
fn resolve(list: &Path, reading: &Reading) -> anyhow::Result<Resolved> {
    let corpora = Corpora::read(list)?;
    match reading.inputs.as_slice() {
        [root] if root.is_dir() => Ok(corpora.resolve(root)?),
        _ => Err(usage("with --corpora, INPUT is the one folder below which the corpora lie")),
    }
}

/// Reads file after file, and counts the flows of each corpus.
fn read_corpora(
    listed: &Resolved,
    reading: &Reading,
    progress: &Progress,
    tally: &mut Tally,
    gathering: &mut Gathering,
) -> Vec<Corpus> {
    let mut rows = vec![0; listed.corpora.len()];
    for (number, path) in &listed.inputs {
        let before = gathering.used.flows();
        Reading { inputs: vec![path.clone()], ..reading.clone() }.read_into(progress, tally, gathering);
        rows[*number] += gathering.used.flows() - before;
    }
    listed.corpora.iter().zip(rows).map(|(found, rows)| found.described(rows)).collect()
}

/// Says on stderr what was read.
pub fn tell(tally: &Tally) {
    // Nobody is left to tell where it is closed.
    let _ = io::Write::write_all(&mut io::stderr(), tally.summary().as_bytes());
}

/// Leaves out the profiles that there are too few rows for, and says why. One that was named must be there.
pub fn choose(baseline: &mut Baseline, used: &Used, named: &[ProfileId]) -> anyhow::Result<Vec<(ProfileId, String)>> {
    let mut left_out = Vec::new();
    let rows: Vec<_> =
        baseline.profiles.iter().map(|rows| (rows.profile(), rows.len(), baseline.model_rows(rows))).collect();
    for (profile, all, models) in rows {
        let why = match (all, models) {
            (0, _) => used.why_none(profile),
            (all, models) if models < MIN_ROWS => {
                let held_back = match all - models {
                    0 => String::new(),
                    n => format!(" ({n} more are held back for the thresholds on evidence)"),
                };
                format!("{models} benign rows are too few, at least {MIN_ROWS} are needed{held_back}: train on more")
            }
            _ => continue,
        };
        if named.contains(&profile) {
            anyhow::bail!("profile `{profile}` cannot be trained: {why}");
        }
        left_out.push((profile, why));
    }
    baseline.profiles.retain(|rows| left_out.iter().all(|(p, _)| *p != rows.profile()));
    if baseline.profiles.is_empty() {
        let why: Vec<_> = left_out.iter().map(|(p, why)| format!("profile `{p}`: {why}")).collect();
        anyhow::bail!("there is nothing to train on: {}", why.join("; "));
    }
    Ok(left_out)
}

pub fn explained(e: LearnError, baseline: &Baseline) -> anyhow::Error {
    if let LearnError::Train(TrainError::TooFewBlocks { profile, .. }) = &e
        && *profile == ProfileId::Source
        && baseline.profiles.len() > 1
    {
        return anyhow::anyhow!("{e}; or leave that profile out with --profile core");
    }
    e.into()
}

/// What came of it.
pub struct Report<'a> {
    pub trained: &'a TrainedBundle,
    pub thresholds: &'a Thresholds,
    pub used: &'a Used,
    pub left_out: &'a [(ProfileId, String)],
    pub thinning: u64,
}

impl Report<'_> {
    pub fn text(&self, dir: &Path) -> String {
        let (m, u) = (self.trained.manifest(), self.used);
        let mut out = format!("{}: bundle {}, seed {}\n", dir.display(), self.trained.bundle().id(), m.provenance.seed);
        let _ = writeln!(
            out,
            "used: {} flows labelled as benign, {} without a label, {} source windows",
            grouped(u.benign),
            grouped(u.unlabelled),
            grouped(u.windows)
        );
        for c in &m.provenance.corpora {
            let note = c.note.as_ref().map_or_else(String::new, |n| format!("; {n}"));
            let _ = writeln!(out, "corpus {}: {} flows ({}){note}", c.name, grouped(c.rows), c.licence);
        }
        if self.thinning > 1 {
            let _ = writeln!(
                out,
                "used: one block of a source in {}, at random: there were more rows than needed",
                self.thinning
            );
        }
        for (label, n) in &u.attacks {
            let _ = writeln!(out, "left out: {} flows labelled {label}", grouped(*n));
        }
        if u.housekeeping > 0 {
            let _ = writeln!(
                out,
                "left out: {} flows of DHCP and neighbour discovery, which are never scored",
                grouped(u.housekeeping)
            );
        }
        let trained = |p: ProfileId| self.left_out.iter().all(|(q, _)| *q != p);
        for ((profile, what), n) in u.lacking.iter().filter(|((p, _), _)| trained(*p)) {
            let _ = writeln!(out, "left out of profile {profile}: {} flows that do not tell {what}", grouped(*n));
        }
        for (profile, why) in self.left_out {
            let _ = writeln!(out, "profile {profile} is not trained: {why}");
        }
        let mut said = said(self.trained, self.thresholds);
        let thresholds = said.pop();
        for (line, p) in said.iter().zip(&m.profiles) {
            let _ = writeln!(out, "{line}");
            let dealt = match m.provenance.corpora.is_empty() {
                true => split(&p.training, m.provenance.block_us),
                false => "rows dealt out file by file".to_owned(),
            };
            let _ = writeln!(out, "{}: {dealt}", p.name);
            let _ = writeln!(out, "{}: {}", p.name, certified(p));
        }
        match (&m.evidence, thresholds) {
            (Some(e), _) if e.benign_sources == 0 => {
                let _ = writeln!(
                    out,
                    "thresholds: none, since with under {ACTIONABLE_MIN_ROWS} rows to calibrate nothing leads to an action: \
                     train on more"
                );
            }
            (Some(_), Some(line)) => {
                let _ = writeln!(out, "{line}");
            }
            _ => {
                out += "thresholds: none, since no flow tells when it was and who began it: this model scores, and leads to no \
                        alert about a source\n";
            }
        }
        if let Some(line) = carry(self.thresholds) {
            let _ = writeln!(out, "{line}");
        }
        clean_lines(&out)
    }

    pub fn json(&self, dir: &Path) -> serde_json::Value {
        let (m, u) = (self.trained.manifest(), self.used);
        let lacking: Vec<_> = u
            .lacking
            .iter()
            .map(|((p, what), n)| serde_json::json!({ "profile": p.name(), "lacks": what, "flows": n }))
            .collect();
        let left_out: serde_json::Map<_, _> =
            self.left_out.iter().map(|(p, why)| (p.name().to_owned(), why.as_str().into())).collect();
        let profiles: serde_json::Map<_, _> = m
            .profiles
            .iter()
            .map(|p| {
                let t = &p.training;
                let roles: serde_json::Map<_, _> =
                    p.calibration.iter().map(|c| (c.role.to_string(), c.certified_rate().into())).collect();
                let said = serde_json::json!({
                    "rows": t.rows, "fit": t.fit_rows, "fit_duplicates": t.fit_duplicates, "fit_recurring": t.fit_recurring,
                    "fit_left_out": t.fit_left_out, "early_stop": t.early_stop_rows,
                    "calibration_1": t.calibration_1_rows, "calibration_2": t.calibration_2_rows,
                    "rows_at_random": t.rows_alone, "epochs": t.epochs, "certified_rates": roles,
                });
                (p.name.clone(), said)
            })
            .collect();
        serde_json::json!({
            "bundle": self.trained.bundle().id(),
            "path": dir.display().to_string(),
            "seed": m.provenance.seed,
            "used": { "benign": u.benign, "unlabelled": u.unlabelled, "source_windows": u.windows, "one_block_in": self.thinning },
            "left_out": { "attacks": u.attacks, "housekeeping": u.housekeeping, "lacking": lacking, "profiles": left_out },
            "block_us": m.provenance.block_us,
            "corpora": m.provenance.corpora,
            "profiles": profiles,
            "thresholds": m.evidence,
        })
    }
}

/// Which split was taken, in words.
fn split(t: &TrainingSummary, block_us: u64) -> String {
    let blocks = || format!("by blocks of {} s and source", block_us / 1_000_000);
    match t.rows_alone {
        0 => format!("rows dealt out {}", blocks()),
        n if n == t.rows => "rows dealt out one by one at random: their time or source is not known".to_owned(),
        n => format!(
            "rows dealt out {}; {} whose time or source is not known one by one at random",
            blocks(),
            grouped(n)
        ),
    }
}

/// How small a false-alarm rate the calibration rows can show, in words.
fn certified(p: &ProfileEntry) -> String {
    let all = p.calibration.iter().find(|c| c.role == Role::All).map_or(1.0, RoleCalibration::certified_rate);
    let widest = p.calibration.iter().map(RoleCalibration::certified_rate).fold(all, f64::max);
    let roles = if widest > all { format!(", {} in the smallest role", share(widest)) } else { String::new() };
    format!("false-alarm rates down to {} are certified{roles}; smaller ones follow a fitted tail", share(all))
}
