//! `sinks`: who is told of what happens.

mod show;

use std::path::PathBuf;
use std::time::Duration;

use weir_core::decisions::lists::is_name;
use weir_core::event::Severity;

use super::feeds::fields;
use super::setting::{Item, Setting, Shown, Word, choice, choices, name_of};
use super::tree::{Kind as NodeKind, Node};
use super::{Config, Problem};
use crate::http_client::Url;
use crate::human;
use crate::sink::journald;
use crate::sinks::notice::Kind;
use crate::sinks::queue::WhenFull;
use crate::sinks::settings::{
    Address, Compress, Content, Destination, EventRate, Facility, Kafka, LogFile, Login, MAX_SINKS, Mechanism,
    SinkConfig, Syslog, Template, Transport, Webhook,
};
use crate::tls_client::{Trust, host_port};

const FULL: &[(&str, WhenFull)] = &[("drop_oldest", WhenFull::DropOldest), ("drop_newest", WhenFull::DropNewest)];
const COMPRESS: &[(&str, Compress)] = &[("none", Compress::None), ("gzip", Compress::Gzip), ("zstd", Compress::Zstd)];
const TYPES: [&str; 6] = ["eve", "syslog", "journald", "webhook", "kafka", "cef"];

choices!(impl Severity, "low, medium or high", &Severity::NAMES);
choices!(impl WhenFull, "drop_oldest or drop_newest", FULL);
choices!(impl Compress, "none, gzip or zstd", COMPRESS);
choices!(impl Kind, "flow, source, alert, decision, hits, question or agent", Kind::ALL);
choices!(impl Transport, "udp, tcp or tls", Transport::ALL);
choices!(impl Facility, "a facility of syslog such as daemon or local0", Facility::ALL);
choices!(impl Content, "line or json", Content::ALL);
choices!(impl Template, "json, slack, teams, pagerduty or alertmanager", Template::ALL);
choices!(impl Mechanism, "plain, scram-sha-256 or scram-sha-512", Mechanism::ALL);

impl Item for Kind {
    fn item(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        Setting::read(node, path, problems)
    }
    fn show_item(&self) -> Shown {
        self.show()
    }
}

const PERIODS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];

impl Word for EventRate {
    const EXPECTED: &'static str = "a number of events and a time, such as 10/s, 60/m or 500/h";
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no rate; expected {}", Self::EXPECTED);
        let (events, per) = text.split_once('/').ok_or_else(wrong)?;
        let events = human::parse_count(events).map_err(|_| wrong())?;
        let (_, s) = PERIODS.iter().find(|(name, _)| *name == per).ok_or_else(wrong)?;
        if !(1..=1_000_000).contains(&events) {
            return Err(format!("`{text}`: allowed are 1 to 1,000,000 events; to send none, remove the sink"));
        }
        Ok(Self { events, per: Duration::from_secs(*s) })
    }
    fn word(&self) -> String {
        let per = PERIODS.iter().find(|(_, s)| Duration::from_secs(*s) == self.per).map_or("s", |(name, _)| name);
        format!("{}/{per}", human::count(self.events))
    }
}

const COMMON: [&str; 9] =
    ["name", "type", "kinds", "min_severity", "rate", "dedup", "queue_size", "queue_full", "retry_max"];
const FILE: [&str; 5] = ["path", "max_size", "max_age", "keep", "compress"];
const SYSLOG: [&str; 6] = ["server", "transport", "facility", "ca_file", "cert", "key"];
const WEBHOOK: [&str; 8] =
    ["url", "url_file", "template", "secret_file", "token_file", "key_file", "ca_file", "timeout"];
const KAFKA: [&str; 8] = ["brokers", "topic", "tls", "ca_file", "user", "password_file", "mechanism", "timeout"];

/// The keys of a sink of this type.
fn keys_of(kind: &str) -> Vec<&'static str> {
    let own: Vec<&[&str]> = match kind {
        "eve" => vec![&FILE],
        "syslog" => vec![&SYSLOG, &["content"]],
        "journald" => vec![&["socket"]],
        "webhook" => vec![&WEBHOOK],
        "kafka" => vec![&KAFKA],
        "cef" => vec![&FILE, &SYSLOG],
        _ => vec![],
    };
    COMMON.iter().copied().chain(own.concat()).collect()
}

/// Every key that any type has, as it was read.
#[derive(Default)]
struct Raw {
    name: Option<String>,
    kinds: Option<Vec<Kind>>,
    min_severity: Option<Severity>,
    rate: Option<EventRate>,
    dedup: Option<Duration>,
    queue_size: Option<u64>,
    queue_full: Option<WhenFull>,
    retry_max: Option<Duration>,
    path: Option<PathBuf>,
    max_size: Option<u64>,
    max_age: Option<Duration>,
    keep: Option<u32>,
    compress: Option<Compress>,
    server: Option<String>,
    transport: Option<Transport>,
    facility: Option<Facility>,
    content: Option<Content>,
    ca_file: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    socket: Option<PathBuf>,
    url: Option<String>,
    url_file: Option<PathBuf>,
    template: Option<Template>,
    secret_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    timeout: Option<Duration>,
    brokers: Option<Vec<String>>,
    topic: Option<String>,
    tls: Option<bool>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    mechanism: Option<Mechanism>,
}

impl Raw {
    fn take(&mut self, key: &str, node: &Node, path: &str, problems: &mut Vec<Problem>) {
        macro_rules! take {
            ($($field:ident),+) => {
                match key {
                    $(stringify!($field) => self.$field = Setting::read(node, path, problems),)+
                    "name" => self.name = text(node, path, problems),
                    "server" => self.server = text(node, path, problems),
                    "url" => self.url = text(node, path, problems),
                    "topic" => self.topic = text(node, path, problems),
                    "user" => self.user = text(node, path, problems),
                    // The type is read before.
                    _ => {}
                }
            };
        }
        take!(
            kinds,
            min_severity,
            rate,
            dedup,
            queue_size,
            queue_full,
            retry_max,
            path,
            max_size,
            max_age,
            keep,
            compress,
            transport,
            facility,
            content,
            ca_file,
            cert,
            key,
            socket,
            url_file,
            template,
            secret_file,
            token_file,
            key_file,
            timeout,
            brokers,
            tls,
            password_file,
            mechanism
        );
    }

    fn trust(&self) -> Result<Trust, (&'static str, String)> {
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => return Err(("key", "`cert` needs the `key` that belongs to it".into())),
            (None, Some(_)) => return Err(("cert", "`key` needs the `cert` that belongs to it".into())),
        };
        Ok(Trust { ca_file: self.ca_file.clone(), identity })
    }

    fn file(&self) -> Result<LogFile, (&'static str, String)> {
        let path = self.path.clone().ok_or(("path", "`path` is missing; it names the file".to_owned()))?;
        if path.file_name().is_none() {
            return Err(("path", format!("`{}` names no file", path.display())));
        }
        let max_size = self.max_size.unwrap_or(100_000_000);
        if max_size != 0 && max_size < 1000 {
            return Err(("max_size", "expected at least 1000 bytes, or 0 for any size".into()));
        }
        let max_age = self.max_age.unwrap_or(Duration::from_secs(86_400));
        if max_age != Duration::ZERO && max_age < Duration::from_secs(1) {
            return Err(("max_age", "expected at least 1s, or 0 for any age".into()));
        }
        let (keep, compress) = (self.keep.unwrap_or(7), self.compress.unwrap_or(Compress::None));
        Ok(LogFile { path, max_size, max_age, keep, compress })
    }

    fn syslog(&self) -> Result<Syslog, (&'static str, String)> {
        let transport = self.transport.unwrap_or(Transport::Udp);
        let server = self.server.as_deref();
        let server = server.ok_or(("server", "`server` is missing; write HOST or HOST:PORT".to_owned()))?;
        let (host, port) = host_port(server, transport.port()).map_err(|e| ("server", e))?;
        let trust = self.trust()?;
        if transport != Transport::Tls && trust != Trust::default() {
            return Err(("transport", "certificates are for `transport: tls`".into()));
        }
        Ok(Syslog { host, port, transport, facility: self.facility.unwrap_or(Facility(16)), trust })
    }

    fn timeout(&self) -> Result<Duration, (&'static str, String)> {
        let timeout = self.timeout.unwrap_or(Duration::from_secs(10));
        if !(Duration::from_millis(100)..=Duration::from_secs(300)).contains(&timeout) {
            return Err(("timeout", "allowed are 100ms to 5m".into()));
        }
        Ok(timeout)
    }

    fn webhook(&self) -> Result<Webhook, (&'static str, String)> {
        let template = self.template.unwrap_or(Template::Json);
        let url = match (&self.url, &self.url_file) {
            (Some(_), Some(_)) => return Err(("url", "either `url` or `url_file`".into())),
            (Some(url), None) => {
                let wrong =
                    |e| ("url", format!("nothing can be sent there: {e}; a secret address belongs into `url_file`"));
                Url::parse(url).map_err(wrong)?;
                Address::Url(url.clone())
            }
            (None, Some(path)) => Address::File(path.clone()),
            (None, None) if template == Template::PagerDuty => {
                Address::Url("https://events.pagerduty.com/v2/enqueue".into())
            }
            (None, None) => return Err(("url", "`url` or `url_file` is missing; it says where to send".into())),
        };
        match (template, &self.key_file) {
            (Template::PagerDuty, None) => {
                return Err(("key_file", "PagerDuty wants `key_file`, a file with its integration key".into()));
            }
            (Template::PagerDuty, _) | (_, None) => {}
            _ => return Err(("key_file", "`key_file` is for `template: pagerduty`".into())),
        }
        Ok(Webhook {
            url,
            template,
            secret_file: self.secret_file.clone(),
            token_file: self.token_file.clone(),
            key_file: self.key_file.clone(),
            trust: self.trust()?,
            timeout: self.timeout()?,
        })
    }

    fn kafka(&self) -> Result<Kafka, (&'static str, String)> {
        let tls = self.tls.unwrap_or(false);
        let default = if tls { 9093 } else { 9092 };
        let named = self.brokers.as_deref().unwrap_or_default();
        let brokers: Result<Vec<_>, _> = named.iter().map(|b| host_port(b, default)).collect();
        let brokers = brokers.map_err(|e| ("brokers", e))?;
        if brokers.is_empty() {
            return Err(("brokers", "`brokers` is missing; name at least one as HOST:PORT".into()));
        }
        let topic = self.topic.clone().ok_or(("topic", "`topic` is missing".to_owned()))?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if topic.is_empty() || topic.len() > 249 || !topic.bytes().all(plain) || matches!(topic.as_str(), "." | "..") {
            let words = format!("`{topic}` is no topic: at most 249 letters, digits, `.`, `_` and `-`");
            return Err(("topic", words));
        }
        if !tls && self.ca_file.is_some() {
            return Err(("ca_file", "`ca_file` is for `tls: true`".into()));
        }
        let login = match (&self.user, &self.password_file) {
            (Some(user), Some(path)) => {
                let mechanism = self.mechanism.unwrap_or(Mechanism::ScramSha256);
                if mechanism == Mechanism::Plain && !tls {
                    return Err(("mechanism", "plain sends the password as it is: it needs `tls: true`".into()));
                }
                Some(Login { mechanism, user: user.clone(), password_file: path.clone() })
            }
            (None, None) if self.mechanism.is_none() => None,
            _ => return Err(("user", "`user` and `password_file` belong together".into())),
        };
        let trust = tls.then(|| Trust { ca_file: self.ca_file.clone(), identity: None });
        Ok(Kafka { brokers, topic, trust, login, timeout: self.timeout()? })
    }

    fn destination(&self, kind: &str) -> Result<Destination, (&'static str, String)> {
        Ok(match kind {
            "eve" => Destination::Eve(self.file()?),
            "syslog" => Destination::Syslog(self.syslog()?, self.content.unwrap_or(Content::Json)),
            "journald" => Destination::Journald(self.socket.clone().unwrap_or_else(|| journald::SOCKET.into())),
            "webhook" => Destination::Webhook(self.webhook()?),
            "kafka" => Destination::Kafka(self.kafka()?),
            _ => match (&self.path, &self.server) {
                (Some(_), None) => Destination::CefFile(self.file()?),
                (None, Some(_)) => Destination::CefSyslog(self.syslog()?),
                _ => return Err(("path", "a sink of CEF has either a `path` or a `server`".into())),
            },
        })
    }
}

fn text(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<String> {
    Option::<String>::read(node, path, problems).flatten()
}

impl Item for SinkConfig {
    fn item(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let before = problems.len();
        let kind = match &node.kind {
            NodeKind::Map(entries) => entries.iter().find(|(k, ..)| k == "type"),
            _ => None,
        };
        let kind = match kind {
            Some((_, _, Node { kind: NodeKind::Scalar(kind, _), .. })) if TYPES.contains(&kind.as_str()) => {
                kind.clone()
            }
            Some((_, _, value)) => {
                let words = format!("expected one of {}; found {}", TYPES.join(", "), value.describe());
                problems.push(Problem::new(value.at, &format!("{path}.type"), words));
                return None;
            }
            None => {
                let words = format!("`type` is missing; write one of {}", TYPES.join(", "));
                problems.push(Problem::new(node.at, path, words));
                return None;
            }
        };
        let mut raw = Raw::default();
        fields(node, path, &keys_of(&kind), problems, |key, value, path, problems| {
            raw.take(key, value, path, problems);
        });
        let mut wrong = |key: &str, m: String| problems.push(Problem::new(node.at, &format!("{path}.{key}"), m));
        match &raw.name {
            Some(n) if !is_name(n) => {
                wrong(
                    "name",
                    format!("`{n}` cannot be the name of a sink: at most 64 letters, digits, `.`, `_` and `-`"),
                );
            }
            None => wrong("name", "`name` is missing; it names the sink".into()),
            _ => {}
        }
        let queue_size = raw.queue_size.unwrap_or(64_000_000);
        if !(64_000..=1 << 40).contains(&queue_size) {
            wrong("queue_size", format!("{} is out of range; allowed are 64k to 1T", human::count(queue_size)));
        }
        let retry_max = raw.retry_max.unwrap_or(Duration::from_secs(60));
        if !(Duration::from_millis(100)..=Duration::from_secs(86_400)).contains(&retry_max) {
            wrong("retry_max", "allowed are 100ms to 1d".into());
        }
        if raw.kinds.as_ref().is_some_and(Vec::is_empty) {
            wrong("kinds", "an empty list would send nothing; leave it out for what people are told of".into());
        }
        let dedup = raw.dedup.unwrap_or(Duration::ZERO);
        if dedup > Duration::from_secs(86_400) {
            wrong("dedup", "allowed are 0 to 1d".into());
        }
        let to = match raw.destination(&kind) {
            Ok(to) => Some(to),
            // What could not be read is said already.
            Err(_) if problems.len() > before => None,
            Err((key, words)) => {
                problems.push(Problem::new(node.at, &format!("{path}.{key}"), words));
                None
            }
        };
        if problems.len() > before {
            return None;
        }
        Some(SinkConfig {
            name: raw.name?,
            kinds: raw.kinds.unwrap_or_else(|| Kind::USUAL.to_vec()),
            min_severity: raw.min_severity.unwrap_or(Severity::Low),
            rate: raw.rate,
            dedup,
            queue_size,
            queue_full: raw.queue_full.unwrap_or(WhenFull::DropOldest),
            retry_max,
            to: to?,
        })
    }

    fn show_item(&self) -> Shown {
        let mut all = vec![
            ("name", Shown::Scalar(self.name.clone())),
            ("type", Shown::Scalar(self.to.name().into())),
            ("kinds", self.kinds.show()),
            ("min_severity", self.min_severity.show()),
            ("dedup", self.dedup.show()),
            ("queue_size", self.queue_size.show()),
            ("queue_full", self.queue_full.show()),
            ("retry_max", self.retry_max.show()),
        ];
        if let Some(rate) = &self.rate {
            all.push(("rate", rate.show()));
        }
        show::destination(&self.to, &mut all);
        Shown::Map(all)
    }
}

impl Config {
    /// What sinks say wrongly together.
    pub(super) fn check_sinks(&self, mut wrong: impl FnMut(String)) {
        if self.sinks.len() > MAX_SINKS {
            wrong(format!("{} sinks are too many; at most {MAX_SINKS}", self.sinks.len()));
        }
        let file = |s: &SinkConfig| match &s.to {
            Destination::Eve(f) | Destination::CefFile(f) => Some(f.path.clone()),
            _ => None,
        };
        for (i, s) in self.sinks.iter().enumerate() {
            let before = &self.sinks[..i];
            if before.iter().any(|o| o.name == s.name) {
                wrong(format!("two sinks have the name {}; sinks are told apart by their names", s.name));
            }
            if let Some(path) = file(s)
                && before.iter().any(|o| file(o).as_ref() == Some(&path))
            {
                wrong(format!("two sinks write to {}; each needs a file of its own", path.display()));
            }
        }
    }
}
