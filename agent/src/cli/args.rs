//! The command line.

mod access;
mod doctor;
mod files;
mod lists;
mod model;
mod record;
mod review;
mod sinks;
mod top;
mod words;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use weir_core::addr::Prefix;
use weir_core::decision::{Action, Sides, Target};
use weir_core::event::Mode;
use weir_core::rate::RateLimit;

use super::policy::PolicyCmd;
use super::web::WebCmd;
use crate::command::DecisionRef;
use crate::config::Selector;
use crate::human;

pub use access::{ContextCmd, RemoteArgs, RoleName, TlsCmd};
use doctor::DOCTOR;
pub use doctor::{DoctorArgs, SupportCmd};
pub use files::{DecideArgs, EvalArgs, FlowsArgs, InputArgs, ProfileChoice, ReplayArgs, TrainArgs};
use files::{EVAL, INPUTS, TRAIN};
pub use lists::{ImportArgs, ListArgs, ListsCmd};
pub use model::{CompareArgs, ModelCmd};
pub use record::{AuditCmd, EvidenceCmd, HistoryArgs, Span};
pub use review::{LabelArgs, LabelsCmd, ReviewArgs, ReviewCmd, ScopePart, SuppressionsCmd};
pub use sinks::SinksCmd;
pub use top::{TopArgs, WatchArgs};
pub use words::{Lifetime, budget, mode, prefix, source_format, train_profile, window};
use words::{action, confirm_within, decision_ref, level, lifetime, listen, rate, sides, target};

#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version,
    about = "Counts every flow in the kernel, learns what is normal, and blocks what is not",
    after_help = "Exit status: 0 fine, 1 failed, 2 wrong usage or configuration; of `weir doctor` also 3 warnings, 4 errors, 5 not all \
                  could be checked. Where something does not work, `weir doctor` says why.",
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
    #[command(flatten)]
    pub remote: RemoteArgs,
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
            Cmd::Flows(_) | Cmd::Replay(_) | Cmd::Labels(LabelsCmd::Export { .. }) => {
                &[Format::Table, Format::Json, Format::Csv, Format::Parquet]
            }
            Cmd::Decisions(DecisionsCmd::List(_) | DecisionsCmd::History(_))
            | Cmd::Lists(ListsCmd::List | ListsCmd::Show { .. })
            | Cmd::Sinks(SinksCmd::List)
            | Cmd::Audit(_)
            | Cmd::Evidence(EvidenceCmd::List(_) | EvidenceCmd::Verify { .. })
            | Cmd::Allowlist(AllowCmd::List)
            | Cmd::Alerts(AlertsCmd::List { .. } | AlertsCmd::Show { .. })
            | Cmd::Review(ReviewArgs { command: Some(ReviewCmd::List { .. }), .. })
            | Cmd::Labels(LabelsCmd::List)
            | Cmd::Suppressions(SuppressionsCmd::List)
            | Cmd::Context(ContextCmd::List)
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
    Watch(WatchArgs),
    /// Rates, sources, alerts and questions on one screen, with keys; or line by line for pipes
    Top(TopArgs),
    /// What is blocked, until when and why
    #[command(subcommand, alias = "decision")]
    Decisions(DecisionsCmd),
    /// Lists of targets that come, change and go as a whole
    #[command(subcommand, alias = "list")]
    Lists(ListsCmd),
    /// Other systems that are told of what happens
    #[command(subcommand, alias = "sink")]
    Sinks(SinksCmd),
    /// What was found, and why: the last alerts
    #[command(subcommand, alias = "alert")]
    Alerts(AlertsCmd),
    /// Answer what the agent asks before it drops anybody; without a command, one question after another
    Review(ReviewArgs),
    /// What was said about alerts
    #[command(subcommand, alias = "label")]
    Labels(LabelsCmd),
    /// What is normal here and not held against anyone, for a while
    #[command(subcommand, alias = "suppression")]
    Suppressions(SuppressionsCmd),
    /// Who is never blocked
    #[command(subcommand)]
    Allowlist(AllowCmd),
    /// Who changed what, and what came of it
    #[command(subcommand)]
    Audit(AuditCmd),
    /// What alerts and automatic decisions rest on, to be shown and checked
    #[command(subcommand)]
    Evidence(EvidenceCmd),
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
    /// Try a policy on recorded flows
    #[command(subcommand)]
    Policy(PolicyCmd),
    /// Check, show or reload the configuration
    #[command(subcommand)]
    Config(ConfigCmd),
    /// Look at this host, the configuration and the agent: what stands in the way, why it matters, and what mends it
    #[command(after_help = DOCTOR)]
    Doctor(DoctorArgs),
    /// What a maintainer needs when something is wrong
    #[command(subcommand)]
    Support(SupportCmd),
    /// The web page that the agent serves
    #[command(subcommand)]
    Web(WebCmd),
    /// Agents on other hosts, by a name
    #[command(subcommand)]
    Context(ContextCmd),
    /// Certificates, for reaching an agent from other hosts
    #[command(subcommand)]
    Tls(TlsCmd),
    /// Print a completion script for a shell
    Completions { shell: Shell },
    /// Write a man page for every command into a folder; packages are made with it
    #[command(hide = true)]
    ManPages { dir: PathBuf },
    /// Load a bundle and say whether it may serve; the agent runs this before it trusts one
    #[command(name = crate::model::CHECK_COMMAND, hide = true)]
    CheckBundle { dir: PathBuf },
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Interface to watch, or a pattern such as 'veth*', whose interfaces are attached to as they come; may be given several times, and
    /// '!PATTERN' leaves some out [default: `interface` and `interfaces` of the configuration]
    #[arg(short, long = "interface", value_name = "INTERFACE")]
    pub interfaces: Vec<Selector>,
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
    /// Every decision, newest last; those of lists by --list and --origin list
    List(ListArgs),
    /// Take a list of targets: as a whole or not at all
    Import(ImportArgs),
    /// What happened to decisions, also to those that are over; the latest first
    History(HistoryArgs),
    /// Block a target
    Add {
        /// ADDRESS, ADDRESS/LENGTH, ADDRESS/tcp|udp/PORT (a port of ours), ADDRESS/tcp|udp/from/PORT (the port it sends
        /// from), or a flow: tcp|udp:ADDRESS:PORT-ADDRESS:PORT, IPv6 in brackets
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
        /// Let it last unconfirmed. Without, a wide target (shorter than /24, IPv6 /48), one that has a management session open
        /// and one that carries much of what is normal are lifted after a minute unless `weir decisions confirm` follows
        #[arg(long, conflicts_with = "confirm_within")]
        no_confirm: bool,
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
    /// Say whether an alert was right: `false` ends it for a while, and both teach
    Label(LabelArgs),
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
        /// How long, for example 1h, 1d, or `ever`
        #[arg(short = 'f', long = "for", value_name = "TIME", default_value = "ever", value_parser = lifetime)]
        lifetime: Lifetime,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::EventKind;
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
            (run.interfaces, run.mode, run.config),
            (vec!["eth0".parse().unwrap()], Some(Mode::Enforce), Some("/x.yaml".into()))
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
        let Cmd::Watch(WatchArgs { kind, .. }) = parse("weir watch --kind alert,decision -k agent").unwrap().command
        else {
            panic!()
        };
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
            ("weir watch --kind drops", "expected one of flow, source, alert, decision, hits, agent, question"),
            ("weir run -i eth0 --mode block", "expected one of observe, shadow, review, enforce"),
            ("weir run --netflow somewhere", "is nowhere to listen"),
            ("weir allowlist add 10.0.0.0/40", "at most 32"),
            ("weir allowlist add 10.0.0.1 --for 0s", "write `ever`"),
            ("weir decisions add tcp:10.0.0.1-10.0.0.2", "its far end first"),
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
