//! `weir doctor`: looks at the host, the configuration and the running agent, and says what stands in the way and what mends it.
//!
//! Each family of checks is a module of pure judgements over a reading; [`host`] makes the readings and changes nothing.

pub mod agent;
pub mod clock;
pub mod configuration;
pub mod finding;
pub mod host;
pub mod interface;
pub mod kernel;
pub mod offload;
pub mod programs;
pub mod render;
pub mod storage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use weir_core::render::Rfc3339;

use crate::api::client::{Client, ClientError};
use crate::clock::wall_us;
use crate::config::Config;
use agent::{Agent, Certified};
use configuration::Reading;
use finding::{Finding, Severity};

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Empty: those of the configuration, or that a running agent watches.
    pub interfaces: Vec<String>,
    /// `None`: the default path, which may be missing.
    pub config: Option<PathBuf>,
    /// `None`: that of the configuration.
    pub socket: Option<PathBuf>,
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub version: &'static str,
    /// RFC 3339.
    pub time: String,
    pub interfaces: Vec<String>,
    pub agent_runs: bool,
    pub worst: Severity,
    pub findings: Vec<Finding>,
}

/// How long a running agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was learned on the way, for those who need more than findings.
pub struct Examined {
    pub report: Report,
    pub configuration: Reading,
    /// That of the file, or the defaults where it cannot be read.
    pub config: Config,
    pub agent: Agent,
    pub client: Option<Client>,
}

/// Interfaces that the configuration names, and those there are that match its patterns.
fn configured(config: &Config) -> Vec<String> {
    let watched = config.watched();
    let mut names: Vec<String> = watched.names().map(str::to_owned).collect();
    if watched.has_patterns() {
        let there = weir_kernel::link::list().unwrap_or_default();
        names.extend(there.into_iter().filter(|i| watched.wants(&i.name, i.loopback)).map(|i| i.name));
        names.sort_unstable();
        names.dedup();
    }
    names
}

/// Looks at everything.
pub async fn examine(asked: &Asked) -> Examined {
    let configuration = Reading::load(asked.config.as_deref());
    let config = configuration.config();
    let socket = asked.socket.clone().unwrap_or_else(|| config.socket.clone());
    let (agent, mut client) = ask(&socket).await;
    let (interfaces, from) = choose(asked, &config, &agent);
    let runs = matches!(agent, Agent::Runs(_));
    let in_force = match &mut client {
        Some(client) => within(client.show_config()).await.map(|c| c.yaml),
        None => None,
    };
    let thresholds = thresholds(&config, &agent, client.as_mut()).await;

    let mut findings = configuration::judge(&configuration, in_force.as_deref());
    findings.extend(kernel::judge(&host::kernel::read(&config, runs)));
    findings.extend(clock::judge(&host::kernel::clock()));
    let links = host::net::all();
    let mut overflow = Vec::new();
    for name in &interfaces {
        let reading = host::net::interface(name, &links, from);
        findings.extend(interface::judge(&reading));
        if let (Some(d), Ok(all)) = (reading.found(), &links) {
            let native = reading.features.as_ref().ok().and_then(|f| f.map(|f| f.basic()));
            findings.extend(offload::judge(&host::net::offload(d, all, native)));
            findings.extend(programs::judge_interface(&host::net::programs(d)));
            overflow.extend(host::pins::overflow(d.index).map(|n| (name.clone(), n)));
        }
    }
    findings.extend(programs::judge_pins(&host::pins::read(&links)));
    findings.push(programs::judge_firewalls(&host::net::firewalls()));
    let reading = agent::Reading { agent: &agent, config: &config, interfaces: &interfaces, thresholds, overflow };
    findings.extend(agent::judge(&reading));
    findings.extend(files(&config, &configuration.path));

    let worst = findings.iter().map(|f| f.severity).max().unwrap_or(Severity::Ok);
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        time: Rfc3339(wall_us()).to_string(),
        interfaces,
        agent_runs: runs,
        worst,
        findings,
    };
    Examined { report, configuration, config, agent, client }
}

/// Disk, permissions and certificates.
fn files(config: &Config, file: &Path) -> Vec<Finding> {
    let us = nix::unistd::geteuid().as_raw();
    let mut found: Vec<_> = host::files::places(config).iter().map(storage::judge_place).collect();
    found.extend(storage::judge_guards(&host::files::guards(config, file), us));
    found.extend(storage::judge_groups(&host::files::groups(config)));
    let now = wall_us() / 1_000_000;
    found.extend(host::files::certificates(config).iter().map(|c| storage::judge_certificate(c, now)));
    found
}

async fn within<T>(answer: impl Future<Output = Result<T, ClientError>>) -> Option<T> {
    tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
}

async fn ask(socket: &Path) -> (Agent, Option<Client>) {
    let asked = async {
        let mut client = Client::connect(socket).await?;
        let status = client.status().await?;
        Ok::<_, ClientError>((status, client))
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok((status, client))) => (Agent::Runs(Box::new(status)), Some(client)),
        Ok(Err(e @ (ClientError::NotRunning(_) | ClientError::Stale(_)))) => (Agent::Absent(e.to_string()), None),
        Ok(Err(e)) => (Agent::Unknown(e.to_string()), None),
        Err(_) => {
            (Agent::Unknown(format!("the agent at {} did not answer within {PATIENCE:?}", socket.display())), None)
        }
    }
}

fn choose(asked: &Asked, config: &Config, agent: &Agent) -> (Vec<String>, &'static str) {
    if !asked.interfaces.is_empty() {
        return (asked.interfaces.clone(), "as asked for");
    }
    if let Agent::Runs(status) = agent
        && !status.interfaces.is_empty()
    {
        return (status.interfaces.iter().map(|i| i.name.clone()).collect(), "as the agent says");
    }
    (configured(config), "as configured")
}

/// Of the bundle that serves: as the agent says, or as it lies in the state directory.
async fn thresholds(config: &Config, agent: &Agent, client: Option<&mut Client>) -> Option<Certified> {
    if let (Agent::Runs(status), Some(client)) = (agent, client) {
        let bundle = status.bundle.as_ref().filter(|b| b.id != crate::default_bundle::ID)?;
        let e = within(client.inspect_model(&bundle.id)).await?.evidence?;
        return Some(Certified {
            certified: e.certified,
            budget_per_day: e.budget_per_day,
            windows: e.benign_windows,
            note: e.note,
        });
    }
    let manifest = weir_models::Inspected::read(&config.state_dir.join("bundles").join("current")).ok()?.manifest;
    manifest.evidence.map(|e| Certified {
        certified: e.certified,
        budget_per_day: e.budget_per_day,
        windows: e.benign_windows,
        note: e.note,
    })
}
