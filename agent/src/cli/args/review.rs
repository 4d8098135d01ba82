//! Questions, labels and suppressions on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use weir_core::addr::Prefix;
use weir_core::label::Truth;
use weir_core::question::{Choice, Width};
use weir_core::rate::RateLimit;
use weir_core::role::Role;

use super::words::{named, prefix, rate};
use crate::human;

#[derive(Debug, Args)]
pub struct ReviewArgs {
    /// Without a command: ask even where standard input is no terminal
    #[arg(long)]
    pub plain: bool,
    #[command(subcommand)]
    pub command: Option<ReviewCmd>,
}

#[derive(Debug, Subcommand)]
pub enum ReviewCmd {
    /// The open questions, the latest first
    List {
        /// Also those that were answered or are over
        #[arg(short, long)]
        all: bool,
    },
    /// A question, what may be answered, and what each answer would have cut
    Show { id: u64 },
    /// Do what was proposed, or something milder
    Approve {
        id: u64,
        /// drop, limit or watch: only count
        #[arg(short, long, value_name = "ACTION", default_value = "drop", value_parser = action)]
        action: Choice,
        /// With --action limit: the rate, for example 10pps or 2MBps
        #[arg(short, long, value_name = "RATE", value_parser = rate)]
        limit: Option<RateLimit>,
        /// host, prefix (the /24 or /64 around it), port or flow [default: what was proposed]
        #[arg(short, long, value_name = "WIDTH", value_parser = width)]
        target: Option<Width>,
        /// How long [default: as proposed]
        #[arg(short = 'f', long = "for", value_name = "TIME", value_parser = human::parse_duration)]
        lifetime: Option<Duration>,
        /// Why, for those who read it later
        #[arg(short, long, value_name = "TEXT", default_value = "")]
        comment: String,
    },
    /// Do nothing, and do not ask again for a while
    Reject {
        id: u64,
        /// How long not to ask again [default: 1h]
        #[arg(short = 'f', long = "for", value_name = "TIME", conflicts_with = "suppress", value_parser = human::parse_duration)]
        lifetime: Option<Duration>,
        /// It is normal: for so long the same is not held against the source [default: 7d]
        #[arg(short, long, value_name = "TIME", num_args = 0..=1, default_missing_value = "7d", value_parser = human::parse_duration)]
        suppress: Option<Duration>,
        /// Why, for those who read it later
        #[arg(short, long, value_name = "TEXT", default_value = "")]
        comment: String,
    },
    /// Take an answer back and lift what it made; the question is open again if there is time left
    Undo { id: u64 },
}

#[derive(Debug, Args)]
pub struct LabelArgs {
    pub id: u64,
    /// true: it was an attack; false: it is normal here; unsure
    #[arg(value_name = "TRUTH", value_parser = truth)]
    pub truth: Truth,
    /// With `false`, what is normal: source, prefix[=P] (the /24 or /64 around it), port[=N] (those of the alert), role[=R] (that of
    /// the alert), any-feature; several may be given [default: source, strange as it was]
    #[arg(short, long, value_name = "SCOPE", value_delimiter = ',', value_parser = scope_part)]
    pub scope: Vec<ScopePart>,
    /// With `false`, how long that is not held against anyone [default: 30d]
    #[arg(short = 'f', long = "for", value_name = "TIME", value_parser = human::parse_duration)]
    pub lifetime: Option<Duration>,
    /// Why, for those who read it later
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub comment: String,
}

/// `None`: as in the alert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScopePart {
    Source,
    Prefix(Option<Prefix>),
    Port(Option<u16>),
    Role(Option<Role>),
    AnyFeature,
}

#[derive(Debug, Subcommand)]
pub enum LabelsCmd {
    /// What was said about alerts, by whom and when
    List,
    /// The recorded flows behind labelled alerts, labelled, for `weir train` and other tools
    Export {
        /// Write to a file; its name says the form [default: standard output, as JSON lines]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Take a label back, and the suppression that it made
    Undo { id: u64 },
}

#[derive(Debug, Subcommand)]
pub enum SuppressionsCmd {
    /// What is not held against anyone now, and how often it was not
    List,
    /// Do not hold something against an address or prefix for a while
    Add {
        /// At most a /16, or a /48
        #[arg(value_name = "PREFIX", value_parser = prefix)]
        prefix: Prefix,
        /// Only what goes to these ports and to no other
        #[arg(short, long, value_name = "PORT", value_delimiter = ',')]
        port: Vec<u16>,
        /// Only in this calibration role, for example tcp/in/login or source-proven
        #[arg(long, value_name = "ROLE", value_parser = role)]
        role: Option<Role>,
        /// Only where one of these features is the strangest, for example ports
        #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
        feature: Vec<String>,
        /// How long, at most 90d [default: 30d]
        #[arg(short = 'f', long = "for", value_name = "TIME", value_parser = human::parse_duration)]
        lifetime: Option<Duration>,
        /// Why, for those who read it later
        #[arg(short, long, value_name = "TEXT", default_value = "")]
        comment: String,
    },
    /// End a suppression
    #[command(alias = "delete")]
    Remove { id: u64 },
}

fn action(s: &str) -> Result<Choice, String> {
    let all: Vec<_> =
        Choice::NAMES.into_iter().filter(|(_, c)| !matches!(c, Choice::Ignore | Choice::Suppress)).collect();
    named(s, &all)
}

fn width(s: &str) -> Result<Width, String> {
    named(s, &Width::NAMES)
}

fn truth(s: &str) -> Result<Truth, String> {
    named(s, &Truth::WORDS)
}

fn role(s: &str) -> Result<Role, String> {
    s.parse().map_err(|e: weir_core::role::UnknownRole| e.to_string())
}

fn scope_part(s: &str) -> Result<ScopePart, String> {
    let (name, value) = s.split_once('=').map_or((s, None), |(n, v)| (n, Some(v)));
    Ok(match (name, value) {
        ("source", None) => ScopePart::Source,
        ("any-feature", None) => ScopePart::AnyFeature,
        ("prefix", v) => ScopePart::Prefix(v.map(prefix).transpose()?),
        ("port", v) => {
            let port = |v: &str| v.parse().map_err(|_| format!("`{v}` is no port; expected 0 to 65535"));
            ScopePart::Port(v.map(port).transpose()?)
        }
        ("role", v) => ScopePart::Role(v.map(role).transpose()?),
        _ => return Err("expected source, prefix[=P], port[=N], role[=R] or any-feature".into()),
    })
}
