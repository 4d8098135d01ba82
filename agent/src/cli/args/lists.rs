//! What is typed about lists.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use weir_core::decision::{Action, Origin};
use weir_core::rate::RateLimit;

use super::Lifetime;
use super::words::{action, lifetime, list_form, origin, rate};
use crate::lists::format::Form;

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only what comes from here: manual, automatic, or list: the members of every list, one by one
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    pub origin: Option<Origin>,
    /// The members of this list
    #[arg(long, value_name = "NAME", conflicts_with = "origin")]
    pub list: Option<String>,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Files with one address, network or range a line, CSV with a header, or JSON (a list or one a line; also of `cscli decisions
    /// list -o json` and of Weir); plain, gzip or zstd; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Name of the list that they come onto: it is shown, replaced and removed as a whole
    #[arg(short = 'n', long, value_name = "NAME", default_value = "imported")]
    pub list: String,
    /// drop, or shadow: only count what would be dropped
    #[arg(short, long, value_name = "ACTION", default_value = "drop", value_parser = action)]
    pub action: Action,
    /// Instead: drop what is beyond this rate, for each entry, for example 100pps or 2MBps
    #[arg(short, long, value_name = "RATE", conflicts_with = "action", value_parser = rate)]
    pub limit: Option<RateLimit>,
    /// How long, or `ever`, whatever the files say [default: as they say, else 4h]
    #[arg(short = 'f', long = "for", value_name = "TIME", value_parser = lifetime)]
    pub lifetime: Option<Lifetime>,
    /// In the place of what is on the list, instead of beside it
    #[arg(long)]
    pub replace: bool,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// auto, plain, csv or json
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = list_form)]
    pub format: Form,
    /// Why, for those who read the list later
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

#[derive(Debug, Subcommand)]
pub enum ListsCmd {
    /// Every list: imported, from the `sources` of the configuration, and of CrowdSec; and whether they could be read
    List,
    /// The members of a list that are enforced
    Show { name: String },
    /// End a list and all that it holds; one that the configuration names comes again as it is then
    #[command(alias = "delete")]
    Remove { name: String },
}
