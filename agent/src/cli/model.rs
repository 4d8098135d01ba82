//! `weir model`: what bundles are, which one serves, and what another one would do.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use serde_json::json;
use weir_core::guard::Guard;
use weir_core::policy::PolicyConfig;
use weir_core::suppression::Suppressions;
use weir_models::ChildLimits;

use super::args::{CompareArgs, InputArgs, ModelCmd};
use super::drift;
use super::flows::reading;
use super::output::{Output, clean};
use super::{render, render_model, suppressions, usage};
use crate::api::client::Client;
use crate::clock::wall_us;
use crate::command::{BundleReport, Purpose};
use crate::compare::{Comparison, Settings};
use crate::config::Config;
use crate::model::{self, fits_an_agent};
use crate::offline::compare::Over;
use crate::offline::output::clean_lines;
use crate::offline::progress::Progress;
use crate::offline::signals;
use crate::offline::tally::Tally;
use crate::pipeline::Model;

/// Whether a folder is meant, and not the id of a stored bundle.
pub fn is_path(which: &str) -> bool {
    which.contains('/') || Path::new(which).is_dir()
}

pub async fn ask(client: &mut Client, command: ModelCmd, out: &Output) -> anyhow::Result<ExitCode> {
    match command {
        ModelCmd::List => out.list(&client.model_status().await?, |l| render::bundles(l, wall_us()))?,
        ModelCmd::Inspect { which } => show(&client.inspect_model(&which).await?, out)?,
        ModelCmd::Load { path, promote } => {
            let purpose = if promote { Purpose::Promote } else { Purpose::Serve };
            served(&client.load_model(&path, purpose).await?, out)?;
        }
        ModelCmd::Promote { id } => {
            let bundle = client.promote_model(id.as_deref()).await?;
            said(&bundle, out, || "is promoted: it may lead to drops in mode enforce".to_owned())?;
        }
        ModelCmd::Rollback { steps } => served(&client.rollback_model(steps).await?, out)?,
        ModelCmd::Challenge { which: None, .. } => {
            client.challenge_model(None).await?;
            if out.json() {
                out.object(&json!({ "challenger": null }))?
            } else {
                out.text("no bundle challenges any more\n")?
            }
        }
        ModelCmd::Challenge { which: Some(which), .. } => {
            let bundle = if is_path(&which) {
                Some(client.load_model(which.as_ref(), Purpose::Challenge).await?)
            } else {
                client.challenge_model(Some(&which)).await?
            };
            if let Some(bundle) = bundle {
                said(&bundle, out, || {
                    "challenges: it scores silently, `weir model compare` tells what it would do".to_owned()
                })?;
            }
        }
        ModelCmd::Compare(_) => {
            let c = client.compare_models().await?;
            if out.json() { out.object(&c)? } else { out.text(&render_model::comparison(&c, wall_us()))? }
        }
        ModelCmd::Drift => drift::write(&client.model_drift().await?, out)?,
        ModelCmd::Verify { .. } | ModelCmd::Features(_) | ModelCmd::Calibrate(_) => {
            unreachable!("handled without an agent")
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One line about a bundle, or the bundle as JSON.
fn said(bundle: &BundleReport, out: &Output, words: impl FnOnce() -> String) -> io::Result<()> {
    if out.json() { out.object(bundle) } else { out.text(&format!("{} {}\n", clean(&bundle.id), words())) }
}

fn served(bundle: &BundleReport, out: &Output) -> io::Result<()> {
    said(bundle, out, || match bundle.promoted {
        true => "serves now, promoted: it may lead to drops in mode enforce".to_owned(),
        false => "serves now, for alerts and shadow entries; `weir model promote` lets it lead to drops".to_owned(),
    })
}

fn show(bundle: &crate::proto::BundleDetail, out: &Output) -> io::Result<()> {
    if out.json() { out.object(bundle) } else { out.text(&render_model::detail(bundle, wall_us())) }
}

/// Without an agent.
pub fn inspect(dir: &Path, out: &Output) -> anyhow::Result<()> {
    let bundle = model::inspect::inspect(dir).map_err(|e| anyhow::anyhow!("{}: {}", dir.display(), e.reason()))?;
    Ok(show(&bundle, out)?)
}

/// Without an agent, by the check that an agent makes.
pub fn verify(dir: &Path, out: &Output) -> anyhow::Result<ExitCode> {
    let begin = Instant::now();
    let checked = model::check_within(dir, ChildLimits::QUICK).and_then(|()| model::inspect::inspect(dir));
    let seconds = begin.elapsed().as_secs_f64();
    match checked {
        Ok(b) => {
            let profiles: Vec<_> = b.profiles.iter().map(|p| p.name.clone()).collect();
            let golden: u32 = b.profiles.iter().map(|p| p.golden_vectors).sum();
            if out.json() {
                out.object(&json!({
                    "path": dir, "ok": true, "hash": b.hash, "profiles": profiles, "golden_vectors": golden,
                    "unfit": b.unfit, "seconds": seconds,
                }))?;
            } else {
                let mut text = format!(
                    "{} is fine: bundle {}, profiles {}; the hashes and {golden} golden vectors are right ({seconds:.1} s)\n",
                    dir.display(),
                    b.hash,
                    profiles.join(", "),
                );
                if !b.unfit.is_empty() {
                    text += &format!("an agent cannot serve it: {}\n", b.unfit);
                }
                out.text(&clean_lines(&text))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(e) if out.json() => {
            out.object(&json!({ "path": dir, "ok": false, "reason": e.reason(), "seconds": seconds }))?;
            Ok(ExitCode::FAILURE)
        }
        Err(e) => anyhow::bail!("{} is refused: {}", dir.display(), e.reason()),
    }
}

/// A bundle by its folder, by its id in the state directory, or the one that serves.
fn bundle(named: Option<&PathBuf>) -> anyhow::Result<Model> {
    let state = || Config::load(None).map_or_else(|_| Config::default().state_dir, |c| c.state_dir);
    let dir = match named {
        Some(dir) if dir.is_dir() => dir.clone(),
        Some(id) if !is_path(&id.to_string_lossy()) => {
            let dir = state().join("bundles").join(id);
            if !dir.is_dir() {
                anyhow::bail!("{} is neither a folder nor a bundle in {}", id.display(), state().display());
            }
            dir
        }
        Some(dir) => anyhow::bail!("there is no folder {}", dir.display()),
        None => {
            let dir = state().join("current");
            if !dir.is_dir() {
                anyhow::bail!("no bundle serves here ({} is not there): name two", dir.display());
            }
            dir
        }
    };
    let said = |e: weir_models::BundleError| anyhow::anyhow!("{} is refused: {}", dir.display(), e.reason());
    model::check(&dir).map_err(said)?;
    let bundle = model::load_here(&dir).map_err(said)?;
    fits_an_agent(&bundle, None).map_err(|why| anyhow::anyhow!("{}: {why}", dir.display()))?;
    Ok(Model::new(bundle))
}

/// Without an agent, over files.
pub fn compare_over(args: CompareArgs, socket: Option<PathBuf>, out: &Output) -> anyhow::Result<ExitCode> {
    let (a, b) = match args.bundles.as_slice() {
        [a, b] => (bundle(Some(a))?, bundle(Some(b))?),
        [b] => (bundle(None)?, bundle(Some(b))?),
        _ => return Err(usage("name the bundles to compare: weir model compare A B --over INPUT")),
    };
    let window = |m: &Model| m.bundle.manifest().provenance.window_us;
    let window_us = window(&a);
    fits_an_agent(&b.bundle, Some(window_us)).map_err(|_| {
        let long = |us| crate::human::duration(crate::human::micros(us));
        let (a, b) = (long(window_us), long(window(&b)));
        anyhow::anyhow!(
            "the source windows of A are {a} long and those of B {b}: bundles can only be compared over the same"
        )
    })?;
    signals::watch().context("cannot wait for signals")?;
    let (suppressions, unknown) = match &args.suppressions {
        Some(file) => (suppressions::of_file(file)?, None),
        None if args.recorded => suppressions::of_agent(socket.as_deref())?,
        None => (Suppressions::default(), None),
    };
    let settings = Settings { window_us, policy: PolicyConfig::default(), guard: Guard::default(), suppressions };
    let mut over = Over::new(Comparison::new(a, b, &settings), window_us);
    let inputs = args.over.len();
    let recorded = args.recorded;
    let reading = reading(InputArgs {
        inputs: args.over,
        recorded,
        since: args.since,
        socket,
        decap: args.decap,
        read_as: args.read_as,
        home: args.home,
        // As a live agent scores flows that go on.
        checkpoints: true,
        trust_sources: false,
    })?;
    let (progress, mut tally) = (Progress::new(false), Tally::default());
    reading.read_into(&progress, &mut tally, &mut over);
    if let Some(signal) = signals::received() {
        signals::end_by(signal);
    }
    progress.stage("comparing");
    let (unscored, late) = (over.unscored, over.late);
    let comparison = over.close()?;
    drop(progress);
    let mut report = comparison.report(&match inputs {
        _ if recorded => "what the agent recorded".to_owned(),
        1 => "1 input".to_owned(),
        n => format!("{n} inputs"),
    });
    report.notes.extend(unknown);
    if unscored > 0 {
        report.notes.push(format!("{unscored} flow records do not tell what profile core needs, or are never scored"));
    }
    if late > 0 {
        report.notes.push(format!("{late} flow records came out of order and count when they came"));
    }
    if out.json() {
        out.object(&report)?
    } else {
        out.text(&render_model::comparison(&report, wall_us()))?
    }
    // Nobody is left to tell where stderr is closed.
    let _ = io::Write::write_all(&mut io::stderr(), tally.summary().as_bytes());
    Ok(if tally.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
