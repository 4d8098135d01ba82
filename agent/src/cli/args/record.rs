//! What happened: the history of decisions, the audit of calls, evidence.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use weir_core::decision::Target;

use super::words::target;
use crate::human;
use crate::store::Which;

fn which(text: &str) -> Result<Which, String> {
    text.parse()
}

#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Only about this target, or targets within this prefix
    #[arg(short, long, value_name = "TARGET", value_parser = target)]
    pub target: Option<Target>,
    #[command(flatten)]
    pub span: Span,
}

#[derive(Debug, Args)]
pub struct Span {
    /// Only of the last so long, for example 1d
    #[arg(long, value_name = "TIME", value_parser = human::parse_duration)]
    pub since: Option<Duration>,
    /// At most so many; 0 is all that are kept
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100)]
    pub limit: u32,
}

#[derive(Debug, Subcommand)]
pub enum AuditCmd {
    /// The last calls that changed something, the latest first
    List(Span),
}

#[derive(Debug, Subcommand)]
pub enum EvidenceCmd {
    /// What is kept, the latest first
    List(Span),
    /// Write what an alert or an automatic decision rests on, as one JSON document
    Export {
        /// A number of `weir evidence list`, alert:N or decision:N
        #[arg(value_name = "ID", value_parser = which)]
        id: Which,
        /// [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Compute the scores of such a document again, and say whether they agree; needs no agent
    Verify {
        file: PathBuf,
        /// Where the models lie [default: the bundle of that id in the state directory, or the one that came with Weir]
        #[arg(long, value_name = "DIR")]
        bundle: Option<PathBuf>,
    },
}
