//! `weir model`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use weir_core::addr::Prefix;

use super::words::{prefix, source_format};
use crate::cli::foreign;
use crate::human;

const FOREIGN: &str = "Only benign rows are written and calibrated by; flows labelled as attacks are left out. Give both \
commands the same inputs, seed and window: then each row is in the same part, and no model is calibrated by rows that it was \
fitted to. models/README.md in the sources says what the models must look like.";

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
    Features(foreign::FeaturesArgs),
    /// Make a bundle of models that were fitted elsewhere
    #[command(after_help = FOREIGN)]
    Calibrate(foreign::CalibrateArgs),
}

const COMPARE: &str = "Without --over and --recorded: the challenger of the running agent beside the bundle that serves. Everything that \
`weir flows` reads can be compared over, without an agent. Both bundles begin with nothing held against anyone and are taken as \
promoted in mode enforce. Flows labelled as attacks are counted apart from the rates. What people called normal is held against nobody on either side: a challenger and --recorded follow the suppressions of the agent.";

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Folders of two bundles, or ids in the state directory; one alone is compared with the one that serves
    #[arg(value_name = "A B", num_args = 0..=2, requires = "input")]
    pub bundles: Vec<PathBuf>,
    /// Files to compare over; - is standard input
    #[arg(long, value_name = "INPUT", num_args = 1.., group = "input", requires = "bundles")]
    pub over: Vec<PathBuf>,
    /// Compare over what the agent on this machine has recorded
    #[arg(long, group = "input", requires = "bundles", conflicts_with = "over")]
    pub recorded: bool,
    /// Of the record, only the last so long
    #[arg(long, value_name = "TIME", value_parser = human::parse_duration, requires = "recorded")]
    pub since: Option<Duration>,
    /// A file that `weir suppressions list -o json` wrote: what they cover is held against nobody, whenever it was [default: with
    /// --recorded, those of the agent; else none]
    #[arg(long, value_name = "FILE", requires = "input")]
    pub suppressions: Option<PathBuf>,
    /// The inner flows of tunnels instead of the outer ones
    #[arg(long, requires = "over")]
    pub decap: bool,
    /// What the inputs are, where it is not recognised
    #[arg(long = "format", value_name = "FORMAT", value_parser = source_format, requires = "over")]
    pub read_as: Option<weir_source::Format>,
    /// Networks that are protected, for who is inside and who outside [default: private addresses]
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', value_parser = prefix, requires = "input")]
    pub home: Vec<Prefix>,
}

impl CompareArgs {
    /// Over files or the record, and not of the running agent's challenger.
    pub fn is_offline(&self) -> bool {
        self.recorded || !self.over.is_empty()
    }
}
