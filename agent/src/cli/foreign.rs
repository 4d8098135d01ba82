//! `weir model features` and `weir model calibrate`: models that are fitted elsewhere, to rows that Weir makes and with p-values
//! that Weir calibrates.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use weir_core::profile::ProfileId;
use weir_models::{ForeignModels, MAX_MODEL_BYTES, METADATA_SPLIT, metadata};

use super::args::{InputArgs, ProfileChoice, budget, train_profile, window};
use super::flows::reading;
use super::output::Output;
use super::train::{Report, choose, explained, tell, vacant};
use super::usage;
use crate::config::DEFAULT_ALERT_BUDGET;
use crate::human::grouped;
use crate::learn::{Baseline, Dealt};
use crate::model;
use crate::offline::output::clean_lines;
use crate::offline::progress::Progress;
use crate::offline::tally::Tally;
use crate::offline::train::{Gathering, Used};
use crate::offline::{features, signals};

#[derive(Debug, Args)]
pub struct FeaturesArgs {
    #[command(flatten)]
    pub input: InputArgs,
    /// Folder for the files NAME.parquet, one for each profile
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// core, full, source, or all: every profile that the inputs can supply
    #[arg(long, value_name = "PROFILE", default_value = "all", value_parser = train_profile)]
    pub profile: ProfileChoice,
    /// Deals the rows out to fit and to calibrate; to be given to `weir model calibrate` as well
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// Length of source windows: `window` of the agent that is to use the bundle
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = window)]
    pub window: Duration,
}

#[derive(Debug, Args)]
pub struct CalibrateArgs {
    /// The same that the models were fitted to
    #[command(flatten)]
    pub input: InputArgs,
    /// Folder with NAME.autoencoder.onnx and NAME.isolation_forest.onnx for each profile (core, full, source)
    #[arg(long, value_name = "DIR")]
    pub models: PathBuf,
    /// Folder of the new bundle; a bundle that lies there is replaced
    #[arg(long, value_name = "BUNDLE")]
    pub out: PathBuf,
    /// As given to `weir model features`
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// Length of source windows, as given to `weir model features`
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = window)]
    pub window: Duration,
    /// False alerts about sources that the thresholds on evidence may cost per day
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT_ALERT_BUDGET, value_parser = budget)]
    pub alert_budget: f64,
    /// The models have seen none of these inputs: for those that do not say which rows they were fitted to
    #[arg(long)]
    pub unseen: bool,
}

/// Benign rows of the inputs; `None` where a signal ended it.
fn gather(
    input: InputArgs,
    wanted: &[ProfileId],
    window: Duration,
    budget: f64,
) -> anyhow::Result<Option<(Baseline, Used, u64)>> {
    let reading = reading(input)?;
    signals::watch().context("cannot wait for signals")?;
    let mut gathering = Gathering::new(wanted, window.as_micros() as u64);
    let progress = Progress::new(false);
    let mut tally = Tally::default();
    reading.read_into(&progress, &mut tally, &mut gathering);
    drop(progress);
    if let Some(signal) = signals::received() {
        signals::end_by(signal);
        return Ok(None);
    }
    tell(&tally);
    if !tally.failed.is_empty() {
        anyhow::bail!("nothing was made: leave out the inputs that cannot be read, or mend them");
    }
    Ok(Some(gathering.close(budget)))
}

pub fn features(args: FeaturesArgs, out: &Output) -> anyhow::Result<ExitCode> {
    let wanted: Vec<_> = args.profile.0.map_or(ProfileId::ALL.to_vec(), |p| vec![p]);
    let Some((mut baseline, used, _)) = gather(args.input, &wanted, args.window, DEFAULT_ALERT_BUDGET)? else {
        return Ok(ExitCode::FAILURE);
    };
    let left_out = choose(&mut baseline, &used, args.profile.0.as_slice())?;
    let written = features::write(&baseline, args.seed, &args.out)?;
    if out.json() {
        for w in &written {
            let path = w.path.display().to_string();
            out.object(&serde_json::json!({
                "profile": w.profile.name(), "path": path, "split": w.split, "seed": args.seed, "rows": w.parts,
            }))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for (label, n) in &used.attacks {
        text += &format!("left out: {} flows labelled {label}\n", grouped(*n));
    }
    for (profile, why) in &left_out {
        text += &format!("profile {profile} is left out: {why}\n");
    }
    for w in &written {
        let parts: Vec<_> = w.parts.iter().map(|(name, n)| format!("{} {name}", grouped(*n))).collect();
        text += &format!("{}: rows for {}; division {}\n", w.path.display(), parts.join(", "), w.split);
    }
    text += "fit models to the rows of the parts fit and early_stop alone, and give the division to their metadata as \
             `weir.split`\n";
    out.text(&clean_lines(&text))?;
    Ok(ExitCode::SUCCESS)
}

pub fn calibrate(args: CalibrateArgs, out: &Output) -> anyhow::Result<ExitCode> {
    vacant(&args.out)?;
    let models = models_in(&args.models)?;
    let wanted: Vec<_> = models.keys().copied().collect();
    let Some((mut baseline, used, thinning)) = gather(args.input, &wanted, args.window, args.alert_budget)? else {
        return Ok(ExitCode::FAILURE);
    };
    if let Some((profile, why)) = choose(&mut baseline, &used, &[])?.first() {
        anyhow::bail!("the models of profile `{profile}` cannot be calibrated: {why}");
    }
    if !args.unseen {
        for (rows, dealt) in baseline.profiles.iter().zip(baseline.deal(args.seed)?) {
            unseen(&args.models, rows.profile(), &models, &dealt)?;
        }
    }
    baseline.origin = format!("models made elsewhere; calibrated on {}", baseline.origin);
    let calibrated = baseline.calibrate(&models, args.seed, &mut |_| {});
    let (bundle, thresholds) = calibrated.map_err(|e| explained(e, &baseline))?;
    bundle.write(&args.out)?;
    // As an agent will meet it: in a process with limits.
    model::check(&args.out)?;
    let report = Report { trained: &bundle, thresholds: &thresholds, used: &used, left_out: &[], thinning };
    if out.json() {
        out.object(&report.json(&args.out))?
    } else {
        out.text(&report.text(&args.out))?
    }
    Ok(ExitCode::SUCCESS)
}

fn file_names(profile: ProfileId) -> [String; 2] {
    ["autoencoder", "isolation_forest"].map(|kind| format!("{profile}.{kind}.onnx"))
}

/// The models of every profile that the folder has both of.
fn models_in(dir: &Path) -> anyhow::Result<BTreeMap<ProfileId, ForeignModels>> {
    let mut all = BTreeMap::new();
    for profile in ProfileId::ALL {
        let names = file_names(profile);
        let there: Vec<_> = names.iter().filter(|n| dir.join(n).exists()).collect();
        match there.as_slice() {
            [] => continue,
            [_, _] => {}
            [one, ..] => {
                let missing = names.iter().find(|n| *n != *one).map_or("", String::as_str);
                return Err(usage(format!("{} has {one} and not {missing}: a profile takes both", dir.display())));
            }
        }
        let [autoencoder, isolation_forest] = names;
        let (autoencoder, isolation_forest) = (read(&dir.join(autoencoder))?, read(&dir.join(isolation_forest))?);
        all.insert(profile, ForeignModels { autoencoder, isolation_forest });
    }
    if all.is_empty() {
        let names = ProfileId::ALL.map(|p| file_names(p).join(" and "));
        return Err(usage(format!("{} holds no models: expected {}", dir.display(), names.join(", or "))));
    }
    Ok(all)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let said = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    File::open(path).with_context(said)?.take(MAX_MODEL_BYTES + 1).read_to_end(&mut bytes).with_context(said)?;
    if bytes.len() as u64 > MAX_MODEL_BYTES {
        anyhow::bail!("{} has more than {MAX_MODEL_BYTES} bytes, the most that a model may have", path.display());
    }
    Ok(bytes)
}

/// Whether both models of a profile say that they were fitted to this division of the rows: calibrated by rows that they know,
/// they would take everybody else's for strange.
fn unseen(
    dir: &Path,
    profile: ProfileId,
    models: &BTreeMap<ProfileId, ForeignModels>,
    dealt: &Dealt,
) -> anyhow::Result<()> {
    let Some(both) = models.get(&profile) else { return Ok(()) };
    for (name, bytes) in file_names(profile).iter().zip([&both.autoencoder, &both.isolation_forest]) {
        let file = dir.join(name);
        match metadata(bytes, METADATA_SPLIT) {
            Some(id) if id == dealt.id => {}
            Some(id) => anyhow::bail!(
                "{} was fitted to the division {id} of rows, this is {}: give the inputs, --seed, --window and profiles \
                 that `weir model features` was given, or say with --unseen that it has seen none of these inputs",
                file.display(),
                dealt.id
            ),
            None => anyhow::bail!(
                "{} does not say which rows it was fitted to (`{METADATA_SPLIT}` in its metadata), so it may know those \
                 that are to calibrate it: fit it to the parts fit and early_stop of `weir model features`, or say \
                 with --unseen that it has seen none of these inputs",
                file.display()
            ),
        }
    }
    Ok(())
}
