//! The parts of a support archive.

use std::fs::File;
use std::io::{Read as _, Seek, SeekFrom};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use weir_common::ABI_VERSION;
use weir_common::names::MAPS;
use weir_kernel::ethtool::Ethtool;
use weir_kernel::pins::{self, Pins};
use weir_kernel::{link, strangers, sys};

use super::{Body, Missing, Part};
use crate::config::{Config, ConfigError, EventTarget};
use crate::doctor::agent::Agent;
use crate::doctor::configuration::CONFIG_FILE;
use crate::doctor::{Examined, host, render};
use crate::http_client::{self, Url};
use crate::sinks::settings::{Address, Destination, Syslog};

/// Lines of a log, and bytes of its end that are looked at for them.
const LINES: usize = 2000;
const TAIL: u64 = 4 << 20;
/// How long one part may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bundles whose manifests are taken, and bytes of one.
const BUNDLES: usize = 16;
const MANIFEST: u64 = 8 << 20;

#[derive(Default)]
struct Collected {
    parts: Vec<Part>,
    missing: Vec<Missing>,
}

impl Collected {
    fn json(&mut self, name: &str, what: &'static str, value: Value) {
        self.parts.push(Part { name: name.to_owned(), what, body: Body::Json(value) });
    }

    fn lines(&mut self, name: &str, what: &'static str, text: String) {
        self.parts.push(Part { name: name.to_owned(), what, body: Body::Lines(text) });
    }

    fn missing(&mut self, name: &str, why: impl std::fmt::Display) {
        self.missing.push(Missing { name: name.to_owned(), why: why.to_string() });
    }

    fn try_json(&mut self, name: &str, what: &'static str, value: Result<Value, impl std::fmt::Display>) {
        match value {
            Ok(value) => self.json(name, what, value),
            Err(why) => self.missing(name, why),
        }
    }
}

pub async fn all(e: &mut Examined) -> (Vec<Part>, Vec<Missing>) {
    let mut c = Collected::default();
    c.json("version.json", "version of Weir and the kernel", version());
    if e.configuration.config.is_err() {
        // What was written may be a secret at the wrong place: values are left out.
        for f in e.report.findings.iter_mut().filter(|f| f.id == CONFIG_FILE) {
            f.seen = unquoted(&f.seen);
        }
    }
    c.try_json("doctor.json", "findings of weir doctor", serde_json::to_value(&e.report));
    c.lines("doctor.txt", "the same, to be read", render::table(&e.report));
    configuration(&mut c, e);
    agent(&mut c, e).await;
    metrics(&mut c, &e.config).await;
    logs(&mut c, &e.config).await;
    models(&mut c, &e.config.state_dir);
    c.try_json("store.json", "schema and sizes of the tables of the store", store(&e.config.state_dir));
    kernel(&mut c);
    (c.parts, c.missing)
}

fn version() -> Value {
    let read = |path: &str| host::text(path).unwrap_or_default();
    let os = read("/etc/os-release");
    let name = os.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).map(|n| n.trim_matches('"').to_owned());
    json!({
        "weir": env!("CARGO_PKG_VERSION"),
        "build": {
            "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
            "architecture": std::env::consts::ARCH,
            "kernel_programs_bytes": weir_kernel::object::EBPF_OBJECT.map(<[u8]>::len),
            "abi": ABI_VERSION,
            "store_schema": crate::store::SCHEMA,
        },
        "kernel": { "release": read("/proc/sys/kernel/osrelease"), "version": read("/proc/sys/kernel/version") },
        "system": name,
        "processors": std::thread::available_parallelism().map(usize::from).ok(),
        "memory": read("/proc/meminfo").lines().next(),
    })
}

fn configuration(c: &mut Collected, e: &Examined) {
    match &e.configuration.config {
        Ok(config) => {
            c.lines("config.yaml", "the configuration, every key, without secrets", config.without_secrets().to_yaml());
        }
        Err(ConfigError::Invalid { problems, .. }) => {
            let line = |p: &crate::config::Problem| {
                format!("{}:{}: {}: {}\n", p.at.line, p.at.column, p.path, unquoted(&p.message))
            };
            c.lines(
                "config-mistakes.txt",
                "why the configuration cannot be read, without values",
                problems.iter().map(line).collect(),
            );
        }
        Err(why) => c.missing("config.yaml", why),
    }
}

/// Without what stands in backquotes.
pub(super) fn unquoted(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(i, part)| if i % 2 == 0 { part } else { "`...`" }).collect()
}

async fn agent(c: &mut Collected, e: &mut Examined) {
    match &e.agent {
        Agent::Runs(status) => c.try_json("agent/status.json", "weir status", serde_json::to_value(status)),
        Agent::Absent(why) | Agent::Unknown(why) => return c.missing("agent/", why.lines().next().unwrap_or_default()),
    }
    let Some(client) = &mut e.client else { return };
    let value = |v: Result<Value, serde_json::Error>| v.map_err(|e| e.to_string());
    macro_rules! ask {
        ($name:literal, $what:literal, $call:expr, $convert:expr) => {
            match tokio::time::timeout(PATIENCE, $call).await {
                Ok(Ok(answer)) => c.try_json($name, $what, value(serde_json::to_value($convert(answer)))),
                Ok(Err(e)) => c.missing($name, e),
                Err(_) => c.missing($name, "the agent did not answer in time"),
            }
        };
    }
    ask!("agent/models.json", "weir model list", client.model_status(), |a| a);
    ask!("agent/drift.json", "weir model drift", client.model_drift(), |a| a);
    ask!("agent/lists.json", "weir lists list", client.list_lists(), |a| a);
    ask!("agent/sinks.json", "weir sinks list", client.list_sinks(), |a| a);
    match tokio::time::timeout(PATIENCE, client.show_config()).await {
        Ok(Ok(shown)) => c.lines("agent/config.yaml", "the configuration in force, without secrets", shown.yaml),
        Ok(Err(e)) => c.missing("agent/config.yaml", e),
        Err(_) => c.missing("agent/config.yaml", "the agent did not answer in time"),
    }
}

async fn metrics(c: &mut Collected, config: &Config) {
    let name = "metrics.txt";
    if !config.metrics.enabled {
        return c.missing(name, "metrics.enabled is false");
    }
    let mut at = config.metrics.listen.0;
    if at.ip().is_unspecified() {
        at.set_ip(if at.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    match page(&format!("http://{at}/metrics")).await {
        Ok(text) => c.lines(name, "the page of metrics", text),
        Err(why) => c.missing(name, format!("http://{at}/metrics: {why}")),
    }
}

async fn page(url: &str) -> Result<String, String> {
    let url = Url::parse(url)?;
    let request = Request::get(url.path.clone()).body(Full::new(Bytes::new())).map_err(|e| e.to_string())?;
    let bounds = http_client::Bounds { patience: PATIENCE, whole: PATIENCE, body: 16 << 20 };
    let answer = http_client::Client::new(url, Default::default(), bounds).send(request).await?;
    match answer.status.is_success() {
        true => Ok(String::from_utf8_lossy(&answer.body).into_owned()),
        false => Err(format!("answered {}", answer.status)),
    }
}

/// The last lines of a file.
fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<_> = text.lines().rev().take(LINES).collect();
    if size > TAIL && lines.len() < LINES {
        // The first one was cut.
        lines.pop();
    }
    Ok(lines.into_iter().rev().map(|l| format!("{l}\n")).collect())
}

async fn logs(c: &mut Collected, config: &Config) {
    let name = "logs/events.jsonl";
    match &config.log.events {
        EventTarget::File(path) => match tail(path) {
            Ok(text) => c.lines(name, "the last events", text),
            Err(e) => c.missing(name, host::failed(path.display(), &e)),
        },
        other => c.missing(name, format!("events are not in a file (log.events: {other:?})")),
    }
    let name = "logs/agent.txt";
    let journal = tokio::process::Command::new("journalctl")
        .args(["--no-pager", "-q", "-o", "short-iso", "-n", "2000", "-u", "weir"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(PATIENCE, journal).await {
        Ok(Ok(out)) if out.status.success() && !out.stdout.is_empty() => {
            c.lines(
                name,
                "the last lines of the agent's log, from the journal",
                String::from_utf8_lossy(&out.stdout).into_owned(),
            );
        }
        Ok(Ok(_)) => c.missing(name, "the journal has nothing of the unit weir"),
        Ok(Err(e)) => c.missing(name, format!("journalctl: {e}")),
        Err(_) => c.missing(name, "journalctl did not end in time"),
    }
}

fn models(c: &mut Collected, state_dir: &Path) {
    if let Ok(text) = std::fs::read_to_string(state_dir.join("models.json")) {
        c.lines("models/models.json", "which bundles served", text);
    }
    let dir = state_dir.join("bundles");
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) => return c.missing("models/", host::failed(dir.display(), &e)),
    };
    let bundles = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).take(BUNDLES);
    for bundle in bundles {
        let name = format!("models/{}/manifest.yaml", bundle.file_name().to_string_lossy());
        let path = bundle.path().join("manifest.yaml");
        let small = std::fs::metadata(&path).is_ok_and(|m| m.len() <= MANIFEST);
        match std::fs::read_to_string(&path) {
            Ok(text) if small => c.lines(&name, "manifest of a bundle", text),
            Ok(_) => c.missing(&name, "it is too large"),
            Err(e) => c.missing(&name, e),
        }
    }
}

/// Reads without locking anybody out.
fn store(state_dir: &Path) -> Result<Value, String> {
    let path = state_dir.join("weir.db");
    let said = |e: rusqlite::Error| format!("{}: {e}", path.display());
    if !path.exists() {
        return Err(format!("there is no {}, or it takes root to see it", path.display()));
    }
    let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(said)?;
    let number = |name: &str| db.query_row(&format!("PRAGMA {name}"), [], |r| r.get::<_, i64>(0)).map_err(said);
    let mut tables = serde_json::Map::new();
    let mut names = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").map_err(said)?;
    let names: Vec<String> =
        names.query_map([], |r| r.get(0)).and_then(|rows| rows.collect::<Result<_, _>>()).map_err(said)?;
    for name in names {
        // A name of our own schema, or of SQLite's.
        let quoted = name.replace('"', "\"\"");
        let rows = db.query_row(&format!("SELECT count(*) FROM \"{quoted}\""), [], |r| r.get::<_, i64>(0));
        tables.insert(name, rows.map_or_else(|e| e.to_string().into(), Into::into));
    }
    let (size, pages, free) = (number("page_size")?, number("page_count")?, number("freelist_count")?);
    Ok(json!({
        "schema": number("user_version")?, "known_schema": crate::store::SCHEMA,
        "bytes": size * pages, "free_bytes": size * free, "rows": tables,
    }))
}

fn kernel(c: &mut Collected) {
    match link::list() {
        Ok(all) => {
            let ethtool = Ethtool::open().ok();
            let one = |d: &link::Interface| {
                json!({
                    "link": d,
                    "driver": ethtool.as_ref().and_then(|e| e.driver(&d.name).ok()),
                    "channels": ethtool.as_ref().and_then(|e| e.channels(&d.name).ok()),
                    "features": ethtool.as_ref().and_then(|e| e.features(&d.name).ok()),
                    "xdp_features": link::xdp_features(d.index).ok().flatten(),
                    "filters": strangers::filters(d.index).ok(),
                })
            };
            c.json("kernel/interfaces.json", "interfaces, their drivers and programs", all.iter().map(one).collect());
        }
        Err(e) => c.missing("kernel/interfaces.json", e),
    }
    match Pins::all_here() {
        Ok(all) => {
            let value: serde_json::Map<String, Value> =
                all.iter().map(|p| (p.dir().display().to_string(), pinned(p))).collect();
            c.json("kernel/maps.json", "maps and counters of what is pinned in this network namespace", value.into());
        }
        Err(e) => c.missing("kernel/maps.json", e),
    }
}

fn pinned(p: &Pins) -> Value {
    use std::os::fd::AsFd;
    let map = |spec: &weir_common::names::MapSpec| {
        let info = p
            .open(spec.name)
            .map_err(|e| e.to_string())
            .and_then(|fd| sys::map_info(fd.as_fd()).map_err(|e| e.to_string()));
        let value = match info {
            Ok(i) => json!({
                "type": i.map_type, "id": i.id, "key_size": i.key_size, "value_size": i.value_size,
                "max_entries": i.max_entries, "flags": i.map_flags,
            }),
            Err(why) => json!({ "error": why }),
        };
        (spec.name.to_owned(), value)
    };
    let counters = p.counters().and_then(|c| c.read()).map(|all| {
        let each = all
            .into_iter()
            .map(|(reason, n)| (reason.name().to_owned(), json!({ "packets": n.packets, "bytes": n.bytes })));
        each.collect::<serde_json::Map<_, _>>()
    });
    json!({
        "meta": p.meta().ok().flatten().map(|m| json!({
            "abi": m.abi_version, "ifindex": m.ifindex, "interface": pins::interface_name(&m),
        })),
        "programs": { "xdp": p.program_of(&p.link_xdp()), "tc": p.program_of(&p.link_tc()) },
        "maps": MAPS.iter().map(map).collect::<serde_json::Map<_, _>>(),
        "counters": counters.map_or_else(|e| json!({ "error": e.to_string() }), Into::into),
    })
}

/// Names of hosts that this host and its configuration know, and domains whose hosts are masked whatever they are called.
pub fn known_hosts(config: &Config) -> (Vec<String>, Vec<String>) {
    let mut names = config.web.hosts.clone();
    let url = |u: &str| Url::parse(u).ok().map(|u| u.host);
    names.extend(config.crowdsec.url.as_deref().and_then(url));
    names.extend(config.tracing.otlp.as_deref().and_then(url));
    for sink in &config.sinks {
        match &sink.to {
            Destination::Syslog(Syslog { host, .. }, _) | Destination::CefSyslog(Syslog { host, .. }) => {
                names.push(host.clone())
            }
            Destination::Webhook(w) => {
                if let Address::Url(u) = &w.url {
                    names.extend(url(u));
                }
            }
            Destination::Kafka(k) => names.extend(k.brokers.iter().map(|(host, _)| host.clone())),
            Destination::Eve(_) | Destination::CefFile(_) | Destination::Journald(_) => {}
        }
    }
    if let Ok(own) = host::text("/proc/sys/kernel/hostname") {
        names.extend(own.split_once('.').map(|(first, _)| first.to_owned()));
        names.push(own);
    }
    let hosts = host::text("/etc/hosts").unwrap_or_default();
    for line in hosts.lines() {
        let words = line.split('#').next().unwrap_or_default().split_whitespace().skip(1);
        names.extend(words.filter(|w| !w.starts_with("ip6-") && !w.starts_with("localhost")).map(str::to_owned));
    }
    let resolver = host::text("/etc/resolv.conf").unwrap_or_default();
    let search = |l: &str| l.strip_prefix("search ").or_else(|| l.strip_prefix("domain ")).map(str::to_owned);
    let domains =
        resolver.lines().filter_map(search).flat_map(|l| l.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    (names, domains.filter(|d| d != ".").collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_messages_are_left_out() {
        assert_eq!(
            unquoted("`hunter2` is no absolute path; start it with `/`"),
            "`...` is no absolute path; start it with `...`"
        );
        assert_eq!(unquoted("set twice"), "set twice");
    }

    #[test]
    fn the_end_of_a_log_is_its_last_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, (0..3000).map(|n| format!("line {n}\n")).collect::<String>()).unwrap();
        let text = tail(&path).unwrap();
        assert_eq!((text.lines().count(), text.lines().last()), (LINES, Some("line 2999")));
        let long = format!("{}\nlast\n", "x".repeat(TAIL as usize));
        std::fs::write(&path, long).unwrap();
        assert_eq!(tail(&path).unwrap(), "last\n");
    }
}
