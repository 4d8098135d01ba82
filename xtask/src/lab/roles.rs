//! What the processes of the lab's hosts do. Each reports in JSON lines on standard output until it is ended.

mod attack;
mod clients;
pub mod crowdsec;
mod local_api;
pub mod random;
mod raw;
mod server;
pub mod wire;

use anyhow::Result;

#[derive(Clone, Debug, clap::Subcommand)]
pub enum Role {
    /// The services
    Server,
    /// The honest clients
    Clients,
    /// One attack
    Attack(attack::Options),
    /// A local API of CrowdSec
    LocalApi(local_api::Options),
}

pub fn run(role: Role) -> Result<()> {
    match role {
        Role::Server => server::run(),
        Role::Clients => clients::run(),
        Role::Attack(options) => attack::run(&options),
        Role::LocalApi(options) => local_api::run(&options),
    }
}
