//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use weir_core::addr::Prefix;
use weir_core::decision::{Action, Sides, Target};
use weir_core::event::Mode;
use weir_core::profile::ProfileId;
use weir_core::rate::RateLimit;

use crate::api::events::KINDS;
use crate::command::DecisionRef;
use crate::config::{DEFAULT_ALERT_BUDGET, LEVELS, MODES};
use crate::human;
use crate::proto::EventKind;
use crate::scoring::ANOMALY_P;

#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version,
    about = "Counts every flow in the kernel, learns what is normal, and blocks what is not",
    after_help = "Exit status: 0 fine, 1 failed, 2 wrong usage or configuration.",
    arg_required_else_help = true,
    max_term_width = 120
)]
pub struct Cli {
    /// The agent's control socket [default: `socket` of /etc/weir/weir.yaml, else /run/weir/weir.sock]
    #[arg(long, global = true, value_name = "PATH", env = "WEIR_SOCKET")]
    pub socket: Option<PathBuf>,
    /// How lists and reports are written [default: table]; json is one object per line, csv is for lists and flows, parquet
    /// for flows
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum)]
    pub output: Option<Format>,
    #[command(subcommand)]
    pub command: Cmd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Csv,
    Parquet,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Format::Table => "table",
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Parquet => "parquet",
        }
    }
}

impl Cli {
    /// How the command writes; a format that it does not have is wrong usage.
    pub fn format(&self) -> Result<Format, String> {
        let asked = self.output.unwrap_or(Format::Table);
        let able: &[Format] = match self.command {
            Cmd::Flows(_) | Cmd::Replay(_) => &[Format::Table, Format::Json, Format::Csv, Format::Parquet],
            Cmd::Decisions(DecisionsCmd::List)
            | Cmd::Allowlist(AllowCmd::List)
            | Cmd::Alerts(_)
            | Cmd::Model(ModelCmd::List | ModelCmd::Drift) => &[Format::Table, Format::Json, Format::Csv],
            _ => &[Format::Table, Format::Json],
        };
        if able.contains(&asked) {
            return Ok(asked);
        }
        let names: Vec<_> = able.iter().map(|f| f.name()).collect();
        let hint = if asked == Format::Parquet { "; parquet is for `weir flows` and `weir replay`" } else { "" };
        Err(format!("this command cannot write {}: it has {}{hint}", asked.name(), names.join(", ")))
    }
}

#[derive(Debug, Subcommand)]
pub enum Cmd {
    /// Run the agent on an interface, on exported flows, or both
    Run(RunArgs),
    /// Detach the kernel programs and remove what they leave: nothing is blocked any more
    Unload(UnloadArgs),
    /// What the agent does right now
    Status,
    /// Follow events as they happen
    Watch {
        /// Only these kinds: flow, source, alert, decision, hits, agent
        #[arg(short, long, value_name = "KIND", value_delimiter = ',', value_parser = kind)]
        kind: Vec<EventKind>,
    },
    /// What is blocked, until when and why
    #[command(subcommand, alias = "decision")]
    Decisions(DecisionsCmd),
    /// What was found, and why: the last alerts
    #[command(subcommand, alias = "alert")]
    Alerts(AlertsCmd),
    /// Who is never blocked
    #[command(subcommand)]
    Allowlist(AllowCmd),
    /// Learn what is normal on this network
    Learn(LearnArgs),
    /// Read captures and flow records of other tools as flows
    #[command(after_help = INPUTS)]
    Flows(FlowsArgs),
    /// Read captures and flow records of other tools, and score their flows
    #[command(after_help = INPUTS)]
    Replay(ReplayArgs),
    /// Train a model on files of benign traffic; flows labelled as attacks are left out
    #[command(after_help = TRAIN)]
    Train(TrainArgs),
    /// Judge a model by labelled flows: detection and false alarms at thresholds frozen at its calibration
    #[command(after_help = EVAL)]
    Eval(EvalArgs),
    /// The models that score flows
    #[command(subcommand)]
    Model(ModelCmd),
    /// Check, show or reload the configuration
    #[command(subcommand)]
    Config(ConfigCmd),
    /// Print a completion script for a shell
    Completions { shell: Shell },
    /// Load a bundle and say whether it may serve; the agent runs this before it trusts one
    #[command(name = crate::model::CHECK_COMMAND, hide = true)]
    CheckBundle { dir: PathBuf },
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Interface to watch [default: `interface` of the configuration]
    #[arg(short, long, value_name = "INTERFACE")]
    pub interface: Option<String>,
    /// Configuration file [default: /etc/weir/weir.yaml, where it exists]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// observe: no entries; shadow: count what would be dropped; enforce: drop
    #[arg(short, long, value_name = "MODE", value_parser = mode)]
    pub mode: Option<Mode>,
    /// Collect NetFlow v5, v9 and IPFIX at this address, port or both [default: 127.0.0.1:2055]; without an interface, the
    /// agent then runs without kernel programs, and what it finds leads to alerts alone
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = "127.0.0.1:2055", value_parser = listen)]
    pub netflow: Option<SocketAddr>,
    /// Where decisions, allow list and models are kept
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub log_level: Option<log::LevelFilter>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct UnloadArgs {
    #[arg(short, long, value_name = "INTERFACE")]
    pub interface: Option<String>,
    /// Every interface in this network namespace
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Subcommand)]
pub enum DecisionsCmd {
    /// Every decision, newest last
    List,
    /// Block a target
    Add {
        /// ADDRESS, ADDRESS/LENGTH or ADDRESS/tcp|udp/PORT
        #[arg(value_name = "TARGET", value_parser = target)]
        target: Target,
        /// drop, or shadow: only count what would be dropped
        #[arg(short, long, value_name = "ACTION", default_value = "drop", value_parser = action)]
        action: Action,
        /// Instead: drop what is beyond this rate, for example 100pps or 2MBps
        #[arg(short, long, value_name = "RATE", conflicts_with = "action", value_parser = rate)]
        limit: Option<RateLimit>,
        /// What may come at once, packets or bytes as the rate [default: what comes in a second, and at least ten packets]
        #[arg(long, value_name = "COUNT", requires = "limit")]
        burst: Option<u64>,
        /// How long, for example 90s, 4h, 1d, or `ever`
        #[arg(short = 'f', long = "for", value_name = "TIME", default_value = "4h", value_parser = lifetime)]
        lifetime: Lifetime,
        /// Packets from the target (in), to it (out), or both
        #[arg(short, long, value_name = "DIRECTION", default_value = "both", value_parser = sides)]
        direction: Sides,
        /// Why, for those who read the list later
        #[arg(short, long, value_name = "TEXT", default_value = "")]
        reason: String,
        /// Lift it after this time unless `weir decisions confirm` follows: for blocks that might lock you out
        #[arg(long, value_name = "TIME", value_parser = confirm_within)]
        confirm_within: Option<Duration>,
    },
    /// Keep a decision that was made with --confirm-within
    Confirm { id: u64 },
    /// Lift a decision
    #[command(alias = "remove")]
    Delete {
        /// The number of a decision, or a target: then every decision on exactly that target
        #[arg(value_name = "ID|TARGET", value_parser = decision_ref)]
        which: DecisionRef,
    },
}

#[derive(Debug, Subcommand)]
pub enum AlertsCmd {
    /// The last alerts, the latest first
    List {
        /// Only about sources in this address or prefix
        #[arg(value_name = "PREFIX", value_parser = prefix)]
        source: Option<Prefix>,
        /// Only those of the last so long
        #[arg(long, value_name = "TIME", value_parser = human::parse_duration)]
        since: Option<Duration>,
        /// At most so many; 0 is all that are kept
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50)]
        limit: u32,
    },
    /// What was strange about a source, in words, and its flows from the record
    Show {
        id: u64,
        /// At most so many flows
        #[arg(long, value_name = "COUNT", default_value_t = 10)]
        flows: usize,
    },
}

#[derive(Debug, Subcommand)]
pub enum AllowCmd {
    /// Every entry: of the configuration, added here, and found by the agent itself
    List,
    /// Never block an address or prefix; lifts what blocks it now
    Add {
        #[arg(value_name = "PREFIX", value_parser = prefix)]
        prefix: Prefix,
        /// Who that is
        #[arg(short, long, value_name = "TEXT", default_value = "")]
        comment: String,
    },
    /// Take an entry off the list
    #[command(alias = "delete")]
    Remove {
        #[arg(value_name = "PREFIX", value_parser = prefix)]
        prefix: Prefix,
    },
    /// Whether an address or prefix would be protected, and by what
    Check {
        #[arg(value_name = "PREFIX", value_parser = prefix)]
        prefix: Prefix,
    },
}

#[derive(Debug, Args)]
pub struct LearnArgs {
    /// How long to learn [default: `learn.duration` of the configuration]
    #[arg(short, long, value_name = "TIME", value_parser = human::parse_duration)]
    pub duration: Option<Duration>,
    /// Learn on until so many flows were seen [default: `learn.min_flows`]
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = human::parse_count)]
    pub min_flows: Option<u64>,
    /// Learn from the record of flows, however much it holds [default: where it holds enough, else from now on]
    #[arg(long)]
    pub recorded: bool,
    /// With --recorded: of the last so long [default: --duration]
    #[arg(long, value_name = "TIME", value_parser = human::parse_duration, requires = "recorded")]
    pub since: Option<Duration>,
    /// Learn from now on, whatever is recorded
    #[arg(long, conflicts_with = "recorded")]
    pub live: bool,
    /// Wait until the new model serves
    #[arg(short, long)]
    pub wait: bool,
}

const INPUTS: &str = "Inputs are recognised by their contents, also compressed with gzip or zstd. Without -o, the name of the \
--out file says how it is written (.json, .csv, .parquet).";

const EVAL: &str = "Inputs are recognised by their contents, also compressed with gzip or zstd. Flows labelled BENIGN, Normal and the \
like, or not at all, count as benign; any other label names an attack.";

const TRAIN: &str = "Inputs are recognised by their contents, also compressed with gzip or zstd. Use --checkpoints for a bundle \
that is to serve an agent: that scores flows that go on as well.";

const FOREIGN: &str = "Only benign rows are written and calibrated by; flows labelled as attacks are left out. Give both \
commands the same inputs, seed and window: then each row is in the same part, and no model is calibrated by rows that it was \
fitted to. models/README.md in the sources says what the models must look like.";

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

#[derive(Debug, Subcommand)]
pub enum ModelCmd {
    /// Every bundle; the one that serves first
    #[command(alias = "status")]
    List,
    /// Whether what is seen is still what the model was learned from
    Drift,
    /// What a bundle is: profiles, training, calibration, thresholds, where it comes from
    Inspect {
        /// A folder, or the id of a stored bundle (then the agent is asked)
        #[arg(value_name = "PATH|ID")]
        which: String,
    },
    /// Check a bundle as an agent does before it serves: hashes and golden vectors, in a process with limits
    Verify {
        #[arg(value_name = "PATH")]
        path: PathBuf,
    },
    /// Give the agent a bundle from a folder, to serve for alerts and shadow entries
    Load {
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// Let it lead to drops as well, where the mode is enforce
        #[arg(long)]
        promote: bool,
    },
    /// Let a bundle lead to drops, and serve if another one does
    Promote {
        /// [default: the one that serves]
        id: Option<String>,
    },
    /// Let the bundle serve again that served before; promoted, if it was
    Rollback {
        /// How many steps back
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        steps: u32,
    },
    /// Let a second bundle score the same traffic silently: `weir model compare` tells what it would do otherwise
    Challenge {
        /// A folder, or the id of a stored bundle
        #[arg(value_name = "PATH|ID", required_unless_present = "stop")]
        which: Option<String>,
        /// End it
        #[arg(long, conflicts_with = "which")]
        stop: bool,
    },
    /// What two bundles would alert about and decide differently: of the challenger so far, or over recorded flows
    #[command(after_help = COMPARE)]
    Compare(CompareArgs),
    /// Write the rows of features of files, for models that are fitted elsewhere
    #[command(after_help = FOREIGN)]
    Features(super::foreign::FeaturesArgs),
    /// Make a bundle of models that were fitted elsewhere
    #[command(after_help = FOREIGN)]
    Calibrate(super::foreign::CalibrateArgs),
}

const COMPARE: &str = "Without --over: the challenger of the running agent beside the bundle that serves. With it, everything that \
`weir flows` reads can be compared over, without an agent. Both bundles begin with nothing held against anyone and are taken as \
promoted in mode enforce. Flows labelled as attacks are counted apart from the rates.";

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Folders of two bundles, or ids in the state directory; one alone is compared with the one that serves
    #[arg(value_name = "A B", num_args = 0..=2, requires = "over")]
    pub bundles: Vec<PathBuf>,
    /// Files to compare over; - is standard input
    #[arg(long, value_name = "INPUT", num_args = 1.., requires = "bundles")]
    pub over: Vec<PathBuf>,
    /// The inner flows of tunnels instead of the outer ones
    #[arg(long, requires = "over")]
    pub decap: bool,
    /// What the inputs are, where it is not recognised
    #[arg(long = "format", value_name = "FORMAT", value_parser = source_format, requires = "over")]
    pub read_as: Option<weir_source::Format>,
    /// Networks that are protected, for who is inside and who outside [default: private addresses]
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', value_parser = prefix, requires = "over")]
    pub home: Vec<Prefix>,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCmd {
    /// Check a file, name every mistake, and say what it means
    Check {
        /// [default: /etc/weir/weir.yaml]
        file: Option<PathBuf>,
    },
    /// Print the whole configuration with its defaults, as a file
    Show {
        /// [default: /etc/weir/weir.yaml]
        file: Option<PathBuf>,
    },
    /// Have the running agent read its file again, as SIGHUP does
    Reload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    Ever,
    For(Duration),
}

fn lifetime(s: &str) -> Result<Lifetime, String> {
    match s {
        "ever" | "forever" => Ok(Lifetime::Ever),
        _ => match human::parse_duration(s) {
            Ok(Duration::ZERO) => Err("0 would end at once; for no end write `ever`".into()),
            Ok(d) => Ok(Lifetime::For(d)),
            Err(e) => Err(e.to_string()),
        },
    }
}

fn confirm_within(s: &str) -> Result<Duration, String> {
    match lifetime(s)? {
        Lifetime::For(d) => Ok(d),
        Lifetime::Ever => Err("a time is needed, for example 30s".into()),
    }
}

fn named<T: Copy>(s: &str, all: &[(&str, T)]) -> Result<T, String> {
    all.iter().find(|(n, _)| *n == s).map(|(_, v)| *v).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|(n, _)| *n).collect();
        format!("expected one of {}", names.join(", "))
    })
}

fn source_format(s: &str) -> Result<weir_source::Format, String> {
    let all = weir_source::Format::ALL.map(|(f, name)| (name, f));
    named(s, &all)
}
fn flow_profile(s: &str) -> Result<ProfileId, String> {
    let all: Vec<_> = ProfileId::ALL.into_iter().filter(|p| *p != ProfileId::Source).map(|p| (p.name(), p)).collect();
    named(s, &all)
}
pub fn train_profile(s: &str) -> Result<ProfileChoice, String> {
    let one = ProfileId::ALL.map(|p| (p.name(), ProfileChoice(Some(p))));
    let all: Vec<_> = one.into_iter().chain([("all", ProfileChoice(None))]).collect();
    named(s, &all)
}
fn train_share(s: &str) -> Result<f64, String> {
    match s.parse() {
        Ok(v) if v > 0.0 && v < 1.0 => Ok(v),
        _ => Err("expected a number between 0 and 1, for example 0.75".into()),
    }
}
pub fn window(s: &str) -> Result<Duration, String> {
    match human::parse_duration(s) {
        Ok(d) if d >= Duration::from_secs(1) => Ok(d),
        Ok(_) => Err("expected at least 1s, the length of an epoch".into()),
        Err(e) => Err(e.to_string()),
    }
}
pub fn budget(s: &str) -> Result<f64, String> {
    match s.parse() {
        Ok(n) if n > 0.0 && f64::is_finite(n) => Ok(n),
        _ => Err("expected a number above 0, for example 2".into()),
    }
}
fn p_value(s: &str) -> Result<f32, String> {
    match s.parse() {
        Ok(p) if p > 0.0 && p <= 1.0 => Ok(p),
        _ => Err("expected a number above 0 and at most 1, for example 0.01".into()),
    }
}
fn listen(s: &str) -> Result<SocketAddr, String> {
    crate::config::parse_listen(s)
}
fn mode(s: &str) -> Result<Mode, String> {
    named(s, MODES)
}
fn level(s: &str) -> Result<log::LevelFilter, String> {
    named(s, LEVELS)
}
fn kind(s: &str) -> Result<EventKind, String> {
    named(s, &KINDS)
}
fn action(s: &str) -> Result<Action, String> {
    named(s, &[("drop", Action::Drop), ("shadow", Action::Shadow)])
}
fn rate(s: &str) -> Result<RateLimit, String> {
    s.parse().map_err(|e: weir_core::rate::RateError| e.to_string())
}
fn sides(s: &str) -> Result<Sides, String> {
    named(s, &[("in", Sides::In), ("out", Sides::Out), ("both", Sides::Both)])
}
fn target(s: &str) -> Result<Target, String> {
    s.parse().map_err(|e: weir_core::decision::TargetError| e.to_string())
}
fn prefix(s: &str) -> Result<Prefix, String> {
    s.parse().map_err(|e: weir_core::addr::PrefixError| e.to_string())
}
fn decision_ref(s: &str) -> Result<DecisionRef, String> {
    if s.chars().all(|c| c.is_ascii_digit()) && !s.is_empty() {
        return s.parse().map(DecisionRef::Id).map_err(|_| format!("`{s}` is too large for the number of a decision"));
    }
    target(s).map(DecisionRef::Target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_are_understood_as_documented() {
        let Cmd::Run(run) = parse("weir run -i eth0 --mode enforce --config /x.yaml --socket /s").unwrap().command
        else {
            panic!()
        };
        assert_eq!(
            (run.interface.as_deref(), run.mode, run.config),
            (Some("eth0"), Some(Mode::Enforce), Some("/x.yaml".into()))
        );

        for (line, at) in [
            ("weir run", None),
            ("weir run --netflow", Some("127.0.0.1:2055")),
            ("weir run --netflow -i eth0", Some("127.0.0.1:2055")),
            ("weir run --netflow 9995", Some("127.0.0.1:9995")),
            ("weir run --netflow=[::]:2055", Some("[::]:2055")),
        ] {
            let Cmd::Run(run) = parse(line).unwrap().command else { panic!() };
            assert_eq!(run.netflow.map(|a| a.to_string()).as_deref(), at, "{line}");
        }

        let cli = parse("weir decisions add 192.0.2.7/tcp/22 --action shadow --for 90s --reason x -o json").unwrap();
        assert_eq!(cli.format(), Ok(Format::Json));
        let Cmd::Decisions(DecisionsCmd::Add { target, action, lifetime, direction, .. }) = cli.command else {
            panic!()
        };
        assert_eq!(target.to_string(), "192.0.2.7/tcp/22");
        assert_eq!(
            (action, lifetime, direction),
            (Action::Shadow, Lifetime::For(Duration::from_secs(90)), Sides::Both)
        );

        let cli = parse("weir decisions add 192.0.2.7 --limit 100pps --burst 500").unwrap();
        let Cmd::Decisions(DecisionsCmd::Add { limit: Some(limit), burst, .. }) = cli.command else { panic!() };
        assert_eq!((limit.to_string().as_str(), burst), ("100 packets/s, 100 at once", Some(500)));

        for (text, expected) in
            [("17", DecisionRef::Id(17)), ("10.0.0.0/8", DecisionRef::Target("10.0.0.0/8".parse().unwrap()))]
        {
            let Cmd::Decisions(DecisionsCmd::Delete { which }) =
                parse(&format!("weir decisions delete {text}")).unwrap().command
            else {
                panic!()
            };
            assert_eq!(which, expected);
        }
        let Cmd::Watch { kind } = parse("weir watch --kind alert,decision -k agent").unwrap().command else { panic!() };
        assert_eq!(kind, [EventKind::Alert, EventKind::Decision, EventKind::Agent]);
        let Cmd::Learn(learn) = parse("weir learn --duration 1h30m --min-flows 5k --wait").unwrap().command else {
            panic!()
        };
        assert_eq!((learn.duration, learn.min_flows, learn.wait), (Some(Duration::from_secs(5400)), Some(5000), true));
    }

    #[test]
    fn wrong_usage_ends_with_2_and_says_what_is_expected() {
        for (line, words) in [
            ("weir decisions add 10.0.0.300", "is no target; expected ADDRESS"),
            ("weir decisions add 10.0.0.1 --for 5", "is no length of time"),
            ("weir decisions add 10.0.0.1 --for 0s", "write `ever`"),
            ("weir decisions add 10.0.0.1 --limit 5", "is no rate"),
            ("weir decisions add 10.0.0.1 --limit 5pps --action drop", "cannot be used with"),
            ("weir decisions add 10.0.0.1 --burst 5", "--limit"),
            ("weir decisions add 10.0.0.1 --action block", "expected one of drop, shadow"),
            ("weir watch --kind drops", "expected one of flow, source, alert, decision, hits, agent"),
            ("weir run -i eth0 --mode block", "expected one of observe, shadow, enforce"),
            ("weir run --netflow somewhere", "is nowhere to listen"),
            ("weir allowlist add 10.0.0.0/40", "at most 32"),
            ("weir unload", "--all"),
            ("weir unload -i eth0 --all", "cannot be used with"),
            ("weir frobnicate", "unrecognized subcommand"),
        ] {
            let e = parse(line).expect_err(line);
            assert_eq!(e.exit_code(), 2, "{line}");
            assert!(e.to_string().contains(words), "{line}: {e}");
        }
    }
}
