//! The configuration: `/etc/weir/weir.yaml`, checked as a whole, every mistake named with its place.

mod api;
mod feeds;
mod interfaces;
mod keys;
mod metrics;
mod rules;
mod setting;
mod show;
mod sinks;
mod tracing;
pub mod tree;
mod useless;
mod web;
mod zone;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_core::addr::Prefix;
use weir_core::event::Mode;
use weir_core::policy::rule::Rule;
use weir_core::question::Unanswered;
use weir_kernel::lease::Lapse;

use crate::sinks::settings::SinkConfig;
pub use api::{Api, ApiTls};
pub use feeds::{Act, CrowdSec, Remedies, Source};
pub use interfaces::{Selection, Selector};
pub use keys::{Apply, KEYS, Key};
pub use metrics::{Metrics, MetricsAt};
pub use setting::{LEVELS, MODES, Shown};
pub use show::SECRET;
pub use tracing::Tracing;
use tree::At;
pub use useless::Useless;
pub use web::{Web, WebListen, WebTls};

pub const DEFAULT_PATH: &str = "/etc/weir/weir.yaml";
pub const DEFAULT_SOCKET: &str = "/run/weir/weir.sock";
/// False alerts about sources per day.
pub const DEFAULT_ALERT_BUDGET: f64 = 10.0;
pub const DEFAULT_STATE_DIR: &str = "/var/lib/weir";
/// Where exporters commonly send to; on loopback, because nobody can tell who sent a datagram.
pub const DEFAULT_NETFLOW: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2055);

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `None`: named on the command line or by `interfaces`, or there is only a collector. See [`Config::watched`].
    pub interface: Option<String>,
    /// Names and patterns of more of them.
    pub interfaces: Vec<Selector>,
    pub mode: Mode,
    /// Empty: own and connected networks.
    pub home: Vec<Prefix>,
    pub state_dir: PathBuf,
    pub socket: PathBuf,
    pub group: Option<String>,
    /// Its members may look and change nothing.
    pub read_group: Option<String>,
    pub epoch: Duration,
    pub window: Duration,
    pub alert_budget_per_day: f64,
    pub allow: Vec<AllowRule>,
    pub capacity: Capacity,
    pub flow: FlowTimes,
    pub learn: Learn,
    pub default_model: DefaultModel,
    pub record: Record,
    pub store: Store,
    pub policy: Policy,
    pub review: Review,
    pub lease: Lease,
    pub on_stop: OnStop,
    pub log: Log,
    pub xdp: Xdp,
    pub netflow: NetFlow,
    /// Lists in files.
    pub sources: Vec<Source>,
    pub crowdsec: CrowdSec,
    pub api: Api,
    pub web: Web,
    pub metrics: Metrics,
    /// Who is told of what happens, beside the event log.
    pub sinks: Vec<SinkConfig>,
    pub tracing: Tracing,
}

/// What the bundle that came with the program may lead to, until one was learned here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultModel {
    /// It is not used.
    Off,
    Alert,
    /// Shadow entries as well.
    Shadow,
    /// As a bundle that was learned here and promoted.
    Enforce,
}

/// The collector of NetFlow and IPFIX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetFlow {
    /// Naming the section in the file turns it on.
    pub enabled: bool,
    pub listen: SocketAddr,
    /// Empty: anybody.
    pub exporters: Vec<Prefix>,
}

impl NetFlow {
    /// Others than this host's own processes can send to it.
    pub fn reachable(&self) -> bool {
        setting::beyond_loopback(self.listen)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowRule {
    pub target: Prefix,
    pub comment: String,
}

/// Sizes of the kernel maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub flows: u32,
    pub blocks: u32,
    pub allow: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowTimes {
    pub idle: Duration,
    pub active: Duration,
    pub linger: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learn {
    pub duration: Duration,
    pub min_flows: u64,
    pub min_windows: u64,
}

/// The record of flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub enabled: bool,
    /// Bytes of all files.
    pub max_size: u64,
    pub max_age: Duration,
}

/// What happened, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Bytes of the store.
    pub max_size: u64,
    pub max_age: Duration,
}

impl Store {
    pub fn bounds(&self) -> crate::store::Bounds {
        crate::store::Bounds { max_age: self.max_age, max_size: self.max_size }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub drop_ttl: Duration,
    pub shadow_ttl: Duration,
    pub max_decisions_per_hour: u32,
    pub busy_share: f64,
    /// Empty: the built-in ones.
    pub rules: Vec<Rule>,
}

/// Questions to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// How long a question waits for an answer.
    pub ttl: Duration,
    pub unanswered: Unanswered,
}

/// What entries that drop do once the agent has been silent for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub lapse: Lapse,
    pub timeout: Duration,
}

/// What becomes of the kernel's part when the agent is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStop {
    /// It goes on enforcing; entries end when they expire, or as the lease says.
    Keep,
    /// Programs, maps and pins are removed: nothing is blocked any more.
    Unload,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: log::LevelFilter,
    pub to: LogTarget,
    pub events: EventTarget,
    pub flows: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// journald if the agent was started by systemd, else stderr.
    Auto,
    Stderr,
    Journald,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventTarget {
    File(PathBuf),
    Journald,
    Stderr,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xdp {
    pub mode: XdpChoice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpChoice {
    Auto,
    Native,
    Generic,
}

impl Default for Config {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Config {
            interface: None,
            interfaces: Vec::new(),
            mode: Mode::Shadow,
            home: Vec::new(),
            state_dir: DEFAULT_STATE_DIR.into(),
            socket: DEFAULT_SOCKET.into(),
            group: None,
            read_group: None,
            epoch: secs(1),
            window: secs(10),
            alert_budget_per_day: DEFAULT_ALERT_BUDGET,
            allow: Vec::new(),
            capacity: Capacity { flows: 128_000, blocks: 1_000_000, allow: 16_000 },
            flow: FlowTimes { idle: secs(120), active: secs(60), linger: secs(5) },
            learn: Learn { duration: secs(24 * 3600), min_flows: 2000, min_windows: 200 },
            default_model: DefaultModel::Alert,
            record: Record { enabled: true, max_size: 1_000_000_000, max_age: secs(7 * 24 * 3600) },
            store: Store { max_size: 500_000_000, max_age: secs(90 * 24 * 3600) },
            policy: Policy {
                drop_ttl: secs(3600),
                shadow_ttl: secs(600),
                max_decisions_per_hour: 60,
                busy_share: 0.05,
                rules: Vec::new(),
            },
            review: Review { ttl: secs(3600), unanswered: Unanswered::Nothing },
            lease: Lease { lapse: Lapse::Keep, timeout: secs(30) },
            on_stop: OnStop::Keep,
            log: Log {
                level: log::LevelFilter::Info,
                to: LogTarget::Auto,
                events: EventTarget::File("/var/log/weir/events.json".into()),
                flows: false,
            },
            xdp: Xdp { mode: XdpChoice::Auto },
            netflow: NetFlow { enabled: false, listen: DEFAULT_NETFLOW, exporters: Vec::new() },
            sources: Vec::new(),
            crowdsec: CrowdSec::default(),
            api: Api::default(),
            web: Web::default(),
            metrics: Metrics::default(),
            sinks: Vec::new(),
            tracing: Tracing::default(),
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub at: At,
    /// `policy.drop_ttl`, `allow[2].target`; empty for the file as a whole.
    pub path: String,
    pub message: String,
}

impl Problem {
    fn new(at: At, path: &str, message: String) -> Self {
        Problem { at, path: path.to_owned(), message }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}: {cause}", path.display())]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("{}", Listed(path, problems))]
    Invalid { path: PathBuf, problems: Vec<Problem> },
    #[error(
        "no interface: name one with `weir run -i INTERFACE` or set `interface` or `interfaces` in {}; to collect NetFlow alone, \
         `weir run --netflow` or set `netflow`",
        .0.display()
    )]
    NoInterface(PathBuf),
}

/// The port of the API over TCP where none is named.
pub const fn api_port() -> u16 {
    api::DEFAULT_PORT
}

/// A rate of events, as the configuration writes it.
pub fn rate_word(rate: &crate::sinks::settings::EventRate) -> String {
    setting::Word::word(rate)
}

/// An address to listen at, as the configuration and the command line take it.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    <SocketAddr as setting::Word>::parse(text)
}

struct Listed<'a>(&'a Path, &'a [Problem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, p) in self.1.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:{}:{}: ", self.0.display(), p.at.line, p.at.column)?;
            if !p.path.is_empty() {
                write!(f, "{}: ", p.path)?;
            }
            f.write_str(&p.message)?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads `path`, or the default path; there a missing file means the defaults.
    pub fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        match std::fs::read_to_string(file) {
            Ok(text) => {
                Config::parse(&text).map_err(|problems| ConfigError::Invalid { path: file.to_owned(), problems })
            }
            Err(e) if path.is_none() && e.kind() == std::io::ErrorKind::NotFound => Ok(Config::default()),
            Err(cause) => Err(ConfigError::Read { path: file.to_owned(), cause }),
        }
    }

    /// Reads YAML; every mistake is listed, in the order of the file.
    pub fn parse(text: &str) -> Result<Config, Vec<Problem>> {
        let mut config = Config::default();
        let mut problems = Vec::new();
        let root = tree::parse(text).map_err(|(at, message)| vec![Problem::new(at, "", message)])?;
        // The section says that it is wanted, whatever is in it.
        config.netflow.enabled = root.has_section("netflow");
        let places = keys::read_tree(&root, &mut config, &mut problems);
        rules::name(&mut config.policy.rules);
        if problems.is_empty() {
            config.check_together(&places, &mut problems);
        }
        problems.sort_by_key(|p| p.at);
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// What no key can say alone.
    fn check_together(&self, places: &keys::Places, problems: &mut Vec<Problem>) {
        let mut wrong = |paths: [&'static str; 2], message: String| {
            // At least one of them was set: the defaults fit together.
            let set = places.iter().find(|(p, _)| paths.contains(p));
            let (path, at) = set.copied().unwrap_or((paths[0], At { line: 1, column: 1 }));
            problems.push(Problem::new(at, path, message));
        };
        self.check_feeds(|path, message| wrong([path, path], message));
        self.check_sinks(|message| wrong(["sinks", "sinks"], message));
        let word = crate::human::duration;
        for (path, value) in [("flow.idle", self.flow.idle), ("flow.active", self.flow.active)] {
            if value < self.epoch {
                let message = format!("{path} ({}) must be at least one epoch ({})", word(value), word(self.epoch));
                wrong([path, "epoch"], message);
            }
        }
        // A sign of life is given once per epoch, and one may be late.
        let least = 3 * self.epoch;
        if self.lease.lapse != Lapse::Keep && self.lease.timeout < least {
            let (timeout, least, epoch) = (word(self.lease.timeout), word(least), word(self.epoch));
            wrong(
                ["lease.timeout", "epoch"],
                format!("lease.timeout ({timeout}) must be at least three epochs of {epoch} ({least})"),
            );
        }
        if !self.api.listen.is_empty() && self.api.tls.is_none() {
            let message = "TCP is for mutual TLS alone: add `api.tls` with cert, key and client_ca (`weir tls init` makes \
                           them), or use the socket";
            wrong(["api.listen", "api.tls"], message.into());
        }
        if self.web.enabled && self.web.reachable() && self.web.tls.is_none() {
            let message = format!(
                "beyond loopback the page is served with TLS alone, and {} is beyond: add `web.tls` with cert and key, or listen on \
                 127.0.0.1 and come in by a tunnel (`ssh -L`)",
                self.web.listen.0
            );
            wrong(["web.listen", "web.tls"], message);
        }
        if self.web.idle > self.web.session {
            let (idle, session) = (word(self.web.idle), word(self.web.session));
            let message = format!("web.idle ({idle}) is longer than web.session ({session}), so it would end nothing");
            wrong(["web.idle", "web.session"], message);
        }
        if !self.window.as_micros().is_multiple_of(self.epoch.as_micros()) {
            let message =
                format!("window ({}) must be a whole number of epochs ({})", word(self.window), word(self.epoch));
            wrong(["window", "epoch"], message);
        }
    }

    /// Keys that differ, each with when its new value comes into force.
    pub fn diff(&self, new: &Config) -> Vec<&'static Key> {
        KEYS.iter().filter(|k| (k.show)(self) != (k.show)(new)).collect()
    }

    /// Keys that differ and whose new value only a restart brings into force.
    pub fn diff_needs_restart(&self, new: &Config) -> Vec<&'static str> {
        self.diff(new).into_iter().filter(|k| k.apply == Apply::Restart).map(|k| k.path).collect()
    }

    /// `new`, with the values that need a restart kept as they are: what a reload brings into force.
    pub fn reloaded(&self, new: &Config) -> Config {
        Config {
            interface: self.interface.clone(),
            interfaces: self.interfaces.clone(),
            state_dir: self.state_dir.clone(),
            socket: self.socket.clone(),
            group: self.group.clone(),
            read_group: self.read_group.clone(),
            epoch: self.epoch,
            window: self.window,
            capacity: self.capacity.clone(),
            flow: self.flow.clone(),
            xdp: self.xdp.clone(),
            netflow: NetFlow { exporters: new.netflow.exporters.clone(), ..self.netflow.clone() },
            log: Log { to: self.log.to, ..new.log.clone() },
            metrics: self.metrics.clone(),
            tracing: self.tracing.clone(),
            api: Api { listen: self.api.listen.clone(), ..new.api.clone() },
            web: Web {
                enabled: self.web.enabled,
                listen: self.web.listen,
                tls: self.web.tls.clone(),
                ..new.web.clone()
            },
            ..new.clone()
        }
    }
}

#[cfg(test)]
mod tests;
