//! Commands that read files.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use weir_core::addr::Prefix;
use weir_core::event::Mode;
use weir_core::profile::ProfileId;

use super::words::{budget, flow_profile, mode, p_value, prefix, source_format, train_profile, train_share, window};
use crate::config::DEFAULT_ALERT_BUDGET;
use crate::human;
use crate::scoring::ANOMALY_P;

pub(super) const INPUTS: &str = "Inputs are recognised by their contents, also compressed with gzip or zstd. Without -o, the name of the \
--out file says how it is written (.json, .csv, .parquet).";

pub(super) const EVAL: &str = "Inputs are recognised by their contents, also compressed with gzip or zstd. Flows labelled BENIGN, Normal and the \
like, or not at all, count as benign; any other label names an attack.";

pub(super) const TRAIN: &str = "Inputs are recognised by their contents, also compressed with gzip or zstd. Use --checkpoints for a bundle \
that is to serve an agent: that scores flows that go on as well.";

/// What is read.
#[derive(Clone, Debug, Args)]
pub struct InputArgs {
    /// Files; - is standard input
    #[arg(required_unless_present = "recorded", value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Instead of files: what the agent on this machine has recorded
    #[arg(long, conflicts_with_all = ["inputs", "read_as", "decap"])]
    pub recorded: bool,
    /// Of the record, only the last so long
    #[arg(long, value_name = "TIME", value_parser = human::parse_duration, requires = "recorded")]
    pub since: Option<Duration>,
    /// Whose record
    #[arg(skip)]
    pub socket: Option<PathBuf>,
    /// The inner flows of tunnels instead of the outer ones
    #[arg(long)]
    pub decap: bool,
    /// What the inputs are, where it is not recognised
    #[arg(long = "format", value_name = "FORMAT", value_parser = source_format)]
    pub read_as: Option<weir_source::Format>,
    /// Networks that are protected, for who is inside and who outside [default: private addresses]
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', value_parser = prefix)]
    pub home: Vec<Prefix>,
    /// Also the records of flows that go on: after 8, 64 and 512 packets and each minute
    #[arg(long)]
    pub checkpoints: bool,
    /// Take complete TCP handshakes that a log tells of for proof of the client's address. Logs have no sequence numbers, so an
    /// agent would not: this shows what it would do had it seen the packets
    #[arg(long)]
    pub trust_sources: bool,
}

#[derive(Debug, Args)]
pub struct FlowsArgs {
    #[command(flatten)]
    pub input: InputArgs,
    /// Write to this file, which appears when it is whole [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Instead of flows: which profiles of features each input can supply, and why not the others
    #[arg(long, conflicts_with = "out")]
    pub explain_profile: bool,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    pub input: InputArgs,
    /// Write to this file, which appears when it is whole [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Folder of the model [default: the one that serves, in the state directory; else the one that came with Weir]
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Features to score by [default: for each flow the richest that the model has and the input can supply]
    #[arg(long, value_name = "PROFILE", value_parser = flow_profile)]
    pub profile: Option<ProfileId>,
    /// Call a flow an anomaly up to this p-value: the share of normal flows that would be called so
    #[arg(long, value_name = "P", default_value_t = ANOMALY_P, value_parser = p_value)]
    pub threshold: f32,
    /// Leave out what is no anomaly
    #[arg(long)]
    pub only_anomalies: bool,
    /// Say what was strange about each anomaly
    #[arg(long)]
    pub explain: bool,
    /// Instead of flows: who would have been alerted about and stopped, when, why and for how long, as an agent would have decided
    #[arg(long, conflicts_with_all = ["profile", "only_anomalies", "explain"])]
    pub decisions: bool,
    #[command(flatten)]
    pub decide: DecideArgs,
}

/// What an agent would go by.
#[derive(Clone, Debug, Args)]
pub struct DecideArgs {
    /// With --decisions: the mode that the agent is in; enforce is as if its model was promoted
    #[arg(long, value_name = "MODE", default_value = "enforce", requires = "decisions", value_parser = mode)]
    pub mode: Mode,
    /// With --decisions: never stopped
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', requires = "decisions", value_parser = prefix)]
    pub allow: Vec<Prefix>,
    /// With --decisions: the configuration whose policy, allow list, home and flow timeouts hold [default: all defaults]
    #[arg(long, value_name = "FILE", requires = "decisions")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub input: InputArgs,
    /// Folder of the new bundle; a bundle that lies there is replaced
    #[arg(long, value_name = "BUNDLE")]
    pub out: PathBuf,
    /// A list of corpora with origin and licence, which then stand in the manifest; INPUT is the one folder below which they
    /// lie. No row of a capture calibrates models that others of its rows were fitted to, and no address of it is kept
    #[arg(long, value_name = "FILE.yaml")]
    pub corpora: Option<PathBuf>,
    /// core, full, source, several of them with commas, or all: every profile that the inputs can supply
    #[arg(long, value_name = "PROFILE", default_value = "all", value_delimiter = ',', value_parser = train_profile)]
    pub profile: Vec<ProfileChoice>,
    /// The same inputs and seed give the same bundle, byte by byte
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// Length of source windows: `window` of the agent that is to use the bundle
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = window)]
    pub window: Duration,
    /// False alerts about sources that the thresholds on evidence may cost per day
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT_ALERT_BUDGET, value_parser = budget)]
    pub alert_budget: f64,
}

#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pub input: InputArgs,
    /// Folder of the model [default: the one that serves, in the state directory; else the one that came with Weir]
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Features to judge by
    #[arg(long, value_name = "PROFILE", default_value = "core", value_parser = flow_profile)]
    pub profile: ProfileId,
    /// Write a page with plots to this file: curves, calibration and distributions, of the first seed where there are several
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Every flow of this address or prefix is malicious, whatever its label; may be given several times
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', value_parser = prefix)]
    pub malicious: Vec<Prefix>,
    /// Judge flows one by one, and no sources
    #[arg(long)]
    pub flows_only: bool,
    /// Instead of a bundle: train on this share of the benign flows, and judge the others and all attacks
    #[arg(long, value_name = "SHARE", conflicts_with = "bundle", value_parser = train_share)]
    pub train_share: Option<f64>,
    /// How often to divide and train; the results are means over all
    #[arg(long, value_name = "COUNT", default_value_t = 1, requires = "train_share", value_parser = clap::value_parser!(u64).range(1..=100))]
    pub seeds: u64,
    /// The first seed; the same seed divides and trains the same
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "train_share")]
    pub seed: u64,
}

/// One profile, or all that there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileChoice(pub Option<ProfileId>);
