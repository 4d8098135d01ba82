//! What is typed about sinks.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum SinksCmd {
    /// Every sink of the configuration, and what it has delivered, queued and lost
    List,
    /// Send a marked event through a sink and wait until its receiver has it
    Test { name: String },
}
