//! Which agent is meant, and certificates for it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::command::Role;
use crate::human;

/// An agent on another host, and repeating.
#[derive(Clone, Debug, Default, Args)]
pub struct RemoteArgs {
    /// An agent on another host, instead of the socket; with --cert, --key and --ca [default port: 8471]
    #[arg(long, global = true, value_name = "HOST[:PORT]", help_heading = "Which agent")]
    pub host: Option<String>,
    /// With --host: our certificate, a PEM file
    #[arg(long, global = true, value_name = "FILE", help_heading = "Which agent")]
    pub cert: Option<PathBuf>,
    /// With --host: the key of our certificate, a PEM file
    #[arg(long, global = true, value_name = "FILE", help_heading = "Which agent")]
    pub key: Option<PathBuf>,
    /// With --host: the authority that the agent's certificate comes from, a PEM file
    #[arg(long, global = true, value_name = "FILE", help_heading = "Which agent")]
    pub ca: Option<PathBuf>,
    /// The agent that `weir context` knows by this name [default: WEIR_CONTEXT, else the one in use]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Which agent")]
    pub context: Option<String>,
    /// Show status or a list again and again
    #[arg(
        long,
        global = true,
        value_name = "INTERVAL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2s",
        value_parser = interval
    )]
    pub watch: Option<Duration>,
}

fn interval(text: &str) -> Result<Duration, String> {
    match human::parse_duration(text).map_err(|e| e.to_string())? {
        d if d < Duration::from_millis(100) => Err(format!("`{text}` is too often; at least 100ms")),
        d => Ok(d),
    }
}

#[derive(Debug, Subcommand)]
pub enum ContextCmd {
    /// Every agent that is known by a name
    List,
    /// Remember an agent: --host with --cert, --key and --ca, or --socket
    Add {
        name: String,
        /// And use it from now on
        #[arg(long = "use")]
        use_it: bool,
    },
    /// Commands are for this agent from now on, unless one says otherwise; `-` for the socket of this host
    Use { name: String },
    /// Forget an agent
    Remove { name: String },
}

#[derive(Debug, Subcommand)]
pub enum TlsCmd {
    /// Make a private authority and a certificate for the agent; nothing is overwritten
    Init {
        /// Where the files go
        #[arg(long, value_name = "DIR", default_value = "/etc/weir/tls")]
        dir: PathBuf,
        /// A name or address by which clients reach the agent; may be repeated [default: this host's name, localhost,
        /// 127.0.0.1, ::1]
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
        /// How many days the agent's certificate is good for; the authority's is for ten years
        #[arg(long, value_name = "DAYS", default_value_t = 397, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
    /// Make a new certificate for the agent: the old one must be moved away first
    Server {
        /// Where the authority is
        #[arg(long, value_name = "DIR", default_value = "/etc/weir/tls")]
        dir: PathBuf,
        /// As for `init`
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
        #[arg(long, value_name = "DAYS", default_value_t = 397, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
    /// Make a certificate for somebody who will use the agent
    Client {
        /// Who that is; the files are called after them
        name: String,
        /// viewer: may look; operator: may change what is enforced
        #[arg(long, value_enum)]
        role: RoleName,
        /// Where the authority is
        #[arg(long, value_name = "DIR", default_value = "/etc/weir/tls")]
        dir: PathBuf,
        /// Where the two files go [default: DIR]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        #[arg(long, value_name = "DAYS", default_value_t = 397, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum RoleName {
    Viewer,
    Operator,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Viewer => Role::Viewer,
            RoleName::Operator => Role::Operator,
        }
    }
}
