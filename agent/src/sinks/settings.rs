//! What a sink is configured to be.

use std::path::PathBuf;
use std::time::Duration;

use weir_core::event::Severity;

use super::gate;
use super::notice::Kind;
use super::queue::{Bounds, WhenFull};
use crate::tls_client::Trust;

/// Sinks of one agent, at most: each has a thread.
pub const MAX_SINKS: usize = 32;

#[derive(Clone, Debug, PartialEq)]
pub struct SinkConfig {
    pub name: String,
    pub kinds: Vec<Kind>,
    pub min_severity: Severity,
    /// `None`: any number.
    pub rate: Option<EventRate>,
    /// One event per source and reason in this time; 0: all.
    pub dedup: Duration,
    /// Bytes of the queue on disk.
    pub queue_size: u64,
    pub queue_full: WhenFull,
    /// The longest pause between attempts.
    pub retry_max: Duration,
    pub to: Destination,
}

impl SinkConfig {
    pub fn rules(&self) -> gate::Rules {
        let us = |d: Duration| d.as_micros() as u64;
        gate::Rules {
            kinds: self.kinds.iter().fold(0, |all, k| all | k.bit()),
            min_severity: self.min_severity,
            window_us: us(self.dedup),
            rate: self.rate.map(|r| (r.events, us(r.per))),
        }
    }

    pub fn bounds(&self) -> Bounds {
        Bounds { size: self.queue_size, full: self.queue_full }
    }
}

/// So many events in a time, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRate {
    pub events: u64,
    pub per: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Destination {
    Eve(LogFile),
    Syslog(Syslog, Content),
    Journald(PathBuf),
    Webhook(Webhook),
    Kafka(Kafka),
    CefFile(LogFile),
    CefSyslog(Syslog),
}

impl Destination {
    /// As `type` names it.
    pub fn name(&self) -> &'static str {
        match self {
            Destination::Eve(_) => "eve",
            Destination::Syslog(..) => "syslog",
            Destination::Journald(_) => "journald",
            Destination::Webhook(_) => "webhook",
            Destination::Kafka(_) => "kafka",
            Destination::CefFile(_) | Destination::CefSyslog(_) => "cef",
        }
    }

    /// Where it goes, for people; nothing secret.
    pub fn words(&self) -> String {
        match self {
            Destination::Eve(f) | Destination::CefFile(f) => f.path.display().to_string(),
            Destination::Syslog(s, _) | Destination::CefSyslog(s) => {
                format!("{}:{} over {}", s.host, s.port, s.transport.name())
            }
            Destination::Journald(path) => path.display().to_string(),
            Destination::Webhook(w) => match &w.url {
                Address::Url(url) => {
                    crate::http_client::Url::parse(url).map_or_else(|e| e.to_owned(), |u| u.to_string())
                }
                Address::File(path) => format!("the address in {}", path.display()),
            },
            Destination::Kafka(k) => {
                let at: Vec<String> = k.brokers.iter().map(|(h, p)| format!("{h}:{p}")).collect();
                format!("topic {} at {}", k.topic, at.join(", "))
            }
        }
    }
}

/// A file that is rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    pub path: PathBuf,
    /// Bytes after which a new one is begun; 0: never.
    pub max_size: u64,
    /// Age at which a new one is begun; 0: never.
    pub max_age: Duration,
    /// Rotated files that are kept.
    pub keep: u32,
    pub compress: Compress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    None,
    Gzip,
    Zstd,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    pub host: String,
    pub port: u16,
    pub transport: Transport,
    pub facility: Facility,
    pub trust: Trust,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    pub const ALL: &[(&str, Transport)] = &[("udp", Transport::Udp), ("tcp", Transport::Tcp), ("tls", Transport::Tls)];

    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }

    /// Registered for it.
    pub fn port(self) -> u16 {
        match self {
            Transport::Udp => 514,
            Transport::Tcp => 601,
            Transport::Tls => 6514,
        }
    }
}

/// Of syslog, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(pub u8);

impl Facility {
    pub const ALL: &[(&str, Facility)] = &[
        ("user", Facility(1)),
        ("daemon", Facility(3)),
        ("auth", Facility(4)),
        ("authpriv", Facility(10)),
        ("local0", Facility(16)),
        ("local1", Facility(17)),
        ("local2", Facility(18)),
        ("local3", Facility(19)),
        ("local4", Facility(20)),
        ("local5", Facility(21)),
        ("local6", Facility(22)),
        ("local7", Facility(23)),
    ];
}

/// What the message of a syslog record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// One line for a person.
    Line,
    /// The EVE object.
    Json,
}

impl Content {
    pub const ALL: &[(&str, Content)] = &[("line", Content::Line), ("json", Content::Json)];
}

#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    pub url: Address,
    pub template: Template,
    /// Its contents sign what is sent.
    pub secret_file: Option<PathBuf>,
    /// Its contents go along as `Authorization: Bearer`.
    pub token_file: Option<PathBuf>,
    /// Integration key of PagerDuty.
    pub key_file: Option<PathBuf>,
    pub trust: Trust,
    pub timeout: Duration,
}

/// An address may itself be the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Url(String),
    File(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    Json,
    Slack,
    Teams,
    PagerDuty,
    Alertmanager,
}

impl Template {
    pub const ALL: &[(&str, Template)] = &[
        ("json", Template::Json),
        ("slack", Template::Slack),
        ("teams", Template::Teams),
        ("pagerduty", Template::PagerDuty),
        ("alertmanager", Template::Alertmanager),
    ];
}

#[derive(Clone, Debug, PartialEq)]
pub struct Kafka {
    pub brokers: Vec<(String, u16)>,
    pub topic: String,
    /// `None`: without TLS.
    pub trust: Option<Trust>,
    pub login: Option<Login>,
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub mechanism: Mechanism,
    pub user: String,
    pub password_file: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Mechanism {
    pub const ALL: &[(&str, Mechanism)] = &[
        ("plain", Mechanism::Plain),
        ("scram-sha-256", Mechanism::ScramSha256),
        ("scram-sha-512", Mechanism::ScramSha512),
    ];
}
