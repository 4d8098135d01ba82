//! What is typed about the state of a host.

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(super) const DOCTOR: &str = "Exit status: 0 nothing worse than a note, 3 warnings, 4 errors, 5 nothing wrong but not everything could be \
checked; 1 and 2 as of every command: failed itself, wrong usage. Nothing is changed on the host. As root it sees everything.";

pub(super) const DUMP: &str = "Keys, tokens, passwords and addresses of webhooks are never in the archive. With --mask, IPv4, IPv6 and MAC addresses and \
names of hosts are pseudonyms: the same one has the same pseudonym throughout, under a key that is kept nowhere. MANIFEST.json in the \
archive lists what is inside, and what is missing and why.";

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// An interface to look at; may be repeated [default: the running agent's, else `interface` of the configuration]
    #[arg(short, long = "interface", value_name = "INTERFACE")]
    pub interfaces: Vec<String>,
    /// Configuration file [default: /etc/weir/weir.yaml, where it exists]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum SupportCmd {
    /// Collect what a maintainer needs in one archive, without secrets
    #[command(after_help = DUMP)]
    Dump {
        #[command(flatten)]
        of: DoctorArgs,
        /// Where the archive goes [default: weir-support-TIME.tar.gz in this folder]; a file that exists stays as it is
        #[arg(long, value_name = "FILE.tar.gz")]
        out: Option<PathBuf>,
        /// Replace addresses and names of hosts by pseudonyms
        #[arg(long)]
        mask: bool,
    },
}
