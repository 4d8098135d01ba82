//! Every key of the configuration: what it means, how it is read and shown, and whether a reload suffices.
//!
//! This table is the one place that knows the keys; reading, showing, comparing and the documentation walk it.

use std::time::Duration;

use super::setting::{Setting, Shown};
use super::tree::{At, Kind, Node};
use super::{Config, Problem};

/// When a changed value comes into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// At SIGHUP or `weir config reload`.
    Reload,
    /// When the agent starts.
    Restart,
}

pub struct Key {
    /// With dots: `flow.idle`.
    pub path: &'static str,
    pub apply: Apply,
    pub help: &'static str,
    pub read: fn(&mut Config, &Node, &mut Vec<Problem>),
    pub show: fn(&Config) -> Shown,
}

macro_rules! keys {
    ($($path:literal, $apply:ident, [$($field:ident).+], $check:expr, $help:literal;)+) => {
        pub const KEYS: &[Key] = &[$(Key {
            path: $path,
            apply: Apply::$apply,
            help: $help,
            read: |config, node, problems| {
                if let Some(value) = Setting::read(node, $path, problems) {
                    match $check(&value) {
                        Ok(()) => config.$($field).+ = value,
                        Err(message) => problems.push(Problem::new(node.at, $path, message)),
                    }
                }
            },
            show: |config| config.$($field).+.show(),
        }),+];
    };
}

fn any<T>(_: &T) -> Result<(), String> {
    Ok(())
}

/// Between two values, both allowed.
fn within<T: Setting + PartialOrd>(low: T, high: T) -> impl Fn(&T) -> Result<(), String> {
    move |value| {
        if *value >= low && *value <= high {
            return Ok(());
        }
        let word = |v: &T| match v.show() {
            Shown::Scalar(s) => s,
            other => format!("{other:?}"),
        };
        Err(format!("{} is out of range; allowed are {} to {}", word(value), word(&low), word(&high)))
    }
}

fn name(value: &Option<String>) -> Result<(), String> {
    value.as_ref().map_or(Ok(()), |s| s.parse::<super::Selector>().map(drop))
}

const fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}
const DAY: u64 = 86_400;

keys! {
    "interface", Restart, [interface], name, "interface to watch; `weir run -i` overrides it and `interfaces`";
    "interfaces", Restart, [interfaces], super::interfaces::some_wanted, "more of them, by name or pattern, such as [eth0, veth*, !veth-lab*]: those that are named must be there, those that match are attached to as they come";
    "mode", Reload, [mode], any, "observe: no entries; shadow: count what would be dropped; review: ask a person first; enforce: drop";
    "home", Reload, [home], any, "networks being protected; empty: own and connected ones";
    "state_dir", Restart, [state_dir], any, "decisions, allow list and models";
    "socket", Restart, [socket], any, "control socket, mode 0660";
    "group", Restart, [group], any, "group that may use the control socket; none: root's";
    "read_group", Restart, [read_group], any, "group that may look through the control socket and change nothing; with it, the socket is 0666 and credentials alone decide";
    "epoch", Restart, [epoch], within(Duration::from_millis(100), secs(60)), "how often the kernel's counts are read";
    "window", Restart, [window], within(secs(1), secs(300)), "length of a source's window";
    "alert_budget_per_day", Reload, [alert_budget_per_day], within(0.01, 1e6), "false alerts a day that are bearable; sets the thresholds";
    "allow", Reload, [allow], any, "addresses and prefixes that are never blocked, each alone or with a comment";
    "default_model", Reload, [default_model], any, "the bundle that came with Weir, until one was learned here: alert, shadow entries as well, enforce (drops too, in mode enforce), or off";
    "capacity.flows", Restart, [capacity.flows], within(1024, 64_000_000), "flows per epoch";
    "capacity.blocks", Restart, [capacity.blocks], within(16, 64_000_000), "blocked targets";
    "capacity.allow", Restart, [capacity.allow], within(16, 1_000_000), "allowed targets";
    "flow.idle", Restart, [flow.idle], within(secs(1), secs(DAY)), "a silent flow ends after this";
    "flow.active", Restart, [flow.active], within(secs(1), secs(DAY)), "a long flow is reported this often";
    "flow.linger", Restart, [flow.linger], within(Duration::ZERO, secs(300)), "a closed flow is kept this long";
    "learn.duration", Reload, [learn.duration], within(secs(10), secs(90 * DAY)), "how long to learn what is normal";
    "learn.min_flows", Reload, [learn.min_flows], within(200, 1_000_000_000), "learn on until so many flows were seen";
    "learn.min_windows", Reload, [learn.min_windows], within(0, 1_000_000_000), "learn on until so many source windows were seen";
    "record.enabled", Reload, [record.enabled], any, "flows are recorded in the state directory, for learning and evidence";
    "record.max_size", Reload, [record.max_size], within(16_000_000, 1 << 50), "bytes that the record may take; the oldest goes first";
    "record.max_age", Reload, [record.max_age], within(secs(60), secs(3650 * DAY)), "flows are recorded this long";
    "store.max_size", Reload, [store.max_size], within(8_000_000, 1 << 50), "bytes that alerts, evidence, history and audit may take; the oldest goes first";
    "store.max_age", Reload, [store.max_age], within(secs(3600), secs(3650 * DAY)), "alerts, evidence, history and audit are kept this long";
    "policy.drop_ttl", Reload, [policy.drop_ttl], within(secs(1), secs(365 * DAY)), "lifetime of an automatic drop";
    "policy.shadow_ttl", Reload, [policy.shadow_ttl], within(secs(1), secs(365 * DAY)), "lifetime of an automatic shadow entry";
    "policy.max_decisions_per_hour", Reload, [policy.max_decisions_per_hour], within(0, 1_000_000), "automatic decisions an hour; beyond it only alerts";
    "policy.busy_share", Reload, [policy.busy_share], within(0.0, 1.0), "a source with more of the benign flows is never dropped automatically";
    "policy.rules", Reload, [policy.rules], super::rules::fit, "what is to happen to whom, in order: the first that matches decides; empty: proven attackers are dropped, others counted";
    "review.ttl", Reload, [review.ttl], within(secs(1), secs(30 * DAY)), "how long a question to a person waits for an answer (`weir review`)";
    "review.unanswered", Reload, [review.unanswered], any, "what happens to a question that nobody answered in time: nothing, or act (what was proposed is done)";
    "lease.lapse", Reload, [lease.lapse], any, "what entries do once the agent is silent: keep (until they expire), shadow (only count) or pass (nothing)";
    "lease.timeout", Reload, [lease.timeout], within(secs(1), secs(DAY)), "how long the agent may be silent";
    "on_stop", Reload, [on_stop], any, "what becomes of programs and entries when the agent is told to stop: keep (they go on enforcing) or unload (nothing is blocked any more)";
    "log.level", Reload, [log.level], any, "error, warn, info, debug or trace";
    "log.to", Restart, [log.to], any, "the agent's own log: auto, stderr or journald";
    "log.events", Reload, [log.events], any, "events as JSON lines: a path, journald, stderr or none";
    "log.flows", Reload, [log.flows], any, "write flows to the event log too, not only alerts, anomalous sources and decisions";
    "xdp.mode", Restart, [xdp.mode], any, "auto: native where the driver can, else generic";
    "netflow.enabled", Restart, [netflow.enabled], any, "collect NetFlow v5, v9 and IPFIX, beside an interface or without one; true where the section is written";
    "netflow.listen", Restart, [netflow.listen], any, "where exporters send to; beyond loopback anybody who reaches it can make flows up";
    "netflow.exporters", Reload, [netflow.exporters], any, "addresses and prefixes whose datagrams are taken; empty: anybody's";
    "sources", Reload, [sources], any, "files with lists of targets, each with name, path, format (auto, plain, csv, json), action (drop, shadow or a rate), for, interval and max_shrink";
    "crowdsec.url", Reload, [crowdsec.url], any, "local API of CrowdSec, such as http://127.0.0.1:8080 or https://crowdsec.example.net:8080; none: it is not asked";
    "crowdsec.api_key", Reload, [crowdsec.api_key], any, "key of this bouncer";
    "crowdsec.api_key_file", Reload, [crowdsec.api_key_file], any, "or a file with nothing but the key";
    "crowdsec.ca_file", Reload, [crowdsec.ca_file], any, "PEM file with the authorities that are trusted where the URL begins with https; none: those of this host";
    "crowdsec.interval", Reload, [crowdsec.interval], within(secs(1), secs(3600)), "how often it is asked what is new";
    "crowdsec.actions", Reload, [crowdsec.actions], any, "what becomes of each type of decision: drop, shadow, a rate such as 100pps, or none";
    "crowdsec.origins", Reload, [crowdsec.origins], any, "origins whose decisions are taken, such as crowdsec, cscli, CAPI or lists; empty: all";
    "crowdsec.max_shrink", Reload, [crowdsec.max_shrink], within(0.0, 1.0), "what a full answer may lack of what is held; of one that lacks more nothing is lifted";
    "sinks", Reload, [sinks], any, "who is told of what happens: each with name, type (eve, syslog, journald, webhook, kafka, cef), kinds, min_severity, rate, dedup, queue_size, queue_full, retry_max and what its type needs";
    "api.listen", Restart, [api.listen], any, "addresses for clients on other hosts, with certificates on both sides; [] for none";
    "api.tls", Reload, [api.tls], any, "cert, key and client_ca (PEM files, read again when they change), and roles by a name in the client's certificate: {NAME: operator|viewer}; without roles, those of `weir tls client` hold";
    "web.enabled", Restart, [web.enabled], any, "serve the web page";
    "web.listen", Restart, [web.listen], any, "where the page is served; beyond loopback only with web.tls";
    "web.tls", Restart, [web.tls], any, "cert and key (PEM files, read again when they change) for the page";
    "web.hosts", Reload, [web.hosts], super::web::hosts, "names by which browsers reach the page, besides loopback and the address that it listens at; requests that name another host are refused";
    "web.session", Reload, [web.session], within(secs(60), secs(30 * DAY)), "how long a login lasts";
    "web.idle", Reload, [web.idle], within(secs(60), secs(30 * DAY)), "who does nothing for so long is logged out";
    "web.role", Reload, [web.role], any, "what a login may that does not say so (`weir web login --role`): viewer or operator";
    "metrics.enabled", Restart, [metrics.enabled], any, "metrics for Prometheus at http://ADDRESS:PORT/metrics";
    "metrics.listen", Restart, [metrics.listen], any, "where they are served; beyond loopback whoever reaches it can read them";
    "tracing.otlp", Restart, [tracing.otlp], super::tracing::collector, "collector of OTLP over gRPC, such as http://127.0.0.1:4317 or https://otel.example.net:4317, for traces of the agent itself; none: there are none";
    "tracing.ca_file", Restart, [tracing.ca_file], any, "PEM file with the authorities that are trusted where the collector's URL begins with https; none: those of this host";
}

/// What follows `prefix` in the table, in its order, each name once. `""` is the top.
fn names_below(prefix: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in KEYS {
        let rest = if prefix.is_empty() {
            key.path
        } else {
            match key.path.strip_prefix(prefix).and_then(|r| r.strip_prefix('.')) {
                Some(rest) => rest,
                None => continue,
            }
        };
        let name = rest.split('.').next().unwrap_or(rest);
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
    names
}

/// Where each key stood that was set.
pub type Places = Vec<(&'static str, At)>;

/// Walks the tree along the table.
pub fn read_tree(root: &Node, config: &mut Config, problems: &mut Vec<Problem>) -> Places {
    let mut places = Places::new();
    read_section(root, "", config, problems, &mut places);
    places
}

fn read_section(node: &Node, prefix: &str, config: &mut Config, problems: &mut Vec<Problem>, places: &mut Places) {
    let entries = match &node.kind {
        Kind::Null => return,
        Kind::Map(entries) => entries,
        _ => {
            let names = names_below(prefix).join(", ");
            let message = format!("expected a mapping with the keys {names}; found {}", node.describe());
            return problems.push(Problem::new(node.at, prefix, message));
        }
    };
    for (i, (name, at, value)) in entries.iter().enumerate() {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if let Some((_, first, _)) = entries[..i].iter().find(|(n, ..)| n == name) {
            problems.push(Problem::new(*at, &path, format!("set twice; the first is in line {}", first.line)));
            continue;
        }
        // A dot in a name would reach into another section.
        let known = !name.contains('.');
        if let Some(key) = KEYS.iter().find(|k| known && k.path == path) {
            if value.kind != Kind::Null {
                places.push((key.path, value.at));
                (key.read)(config, value, problems);
            }
        } else if known && !names_below(&path).is_empty() {
            read_section(value, &path, config, problems, places);
        } else {
            problems.push(super::setting::unknown(*at, &path, &names_below(prefix), name));
        }
    }
}
