//! The configuration as YAML, JSON and words.

use std::fmt::Write;

use weir_core::event::Mode;
use weir_kernel::lease::Lapse;

use super::keys::{Apply, KEYS};
use super::setting::Shown;
use super::{Config, DefaultModel, EventTarget, OnStop};
use crate::http_client::Url;
use crate::human;
use crate::sinks::settings::{Address, Destination, Webhook};

/// Stands in for what is secret.
pub const SECRET: &str = "(set, not shown)";

impl Config {
    /// What may be shown to anybody: without keys, and without the paths of webhooks, by which who knows them may write.
    pub fn without_secrets(&self) -> Config {
        let mut shown = self.clone();
        shown.crowdsec.api_key = shown.crowdsec.api_key.map(|_| SECRET.to_owned());
        for sink in &mut shown.sinks {
            if let Destination::Webhook(Webhook { url: Address::Url(url), .. }) = &mut sink.to {
                *url = match Url::parse(url) {
                    Ok(u) if u.path == "/" => u.to_string(),
                    Ok(u) => format!("{u}/{SECRET}"),
                    Err(_) => SECRET.to_owned(),
                };
            }
        }
        shown
    }

    /// The whole configuration as a file that reads back as the same, each key with its meaning.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for key in KEYS {
            let (parent, name) = key.path.split_once('.').unwrap_or(("", key.path));
            if parent != section {
                section = parent;
                if !parent.is_empty() {
                    let _ = writeln!(out, "{parent}:");
                }
            }
            let indent = if parent.is_empty() { "" } else { "  " };
            let restart = if key.apply == Apply::Restart { " (needs a restart)" } else { "" };
            let _ = writeln!(out, "{indent}# {}{restart}", key.help);
            let _ = write!(out, "{indent}{name}:");
            write_value(&mut out, &(key.show)(self), indent);
        }
        out
    }

    /// The same as one JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        let mut root = serde_json::Map::new();
        for key in KEYS {
            let value = json((key.show)(self));
            match key.path.split_once('.') {
                None => drop(root.insert(key.path.into(), value)),
                Some((parent, name)) => {
                    let section = root.entry(parent).or_insert_with(|| serde_json::Map::new().into());
                    section[name] = value;
                }
            }
        }
        root.into()
    }

    /// What the configuration means, in a few lines.
    pub fn summary(&self) -> String {
        let d = human::duration;
        let mut lines = Vec::new();
        let watched = self.watched();
        let interface = match watched.sole() {
            Some(interface) => format!("interface {interface}"),
            None if watched.is_empty() => "the interface named by `weir run -i`".into(),
            None => format!("the interfaces {watched}"),
        };
        let mode = match self.mode {
            Mode::Observe => "observe: it alerts and makes no entries",
            Mode::Shadow => "shadow: entries count what they would have dropped, and drop nothing",
            Mode::Review => {
                "review: what people decide is enforced, and a person is asked before anything is dropped automatically"
            }
            Mode::Enforce => "enforce: what is blocked is dropped",
        };
        let netflow = &self.netflow;
        if netflow.enabled && watched.is_empty() {
            lines.push(
                "Watches no interface (unless `weir run -i` names one): what it finds leads to alerts alone.".into(),
            );
        } else {
            lines.push(format!("Watches {interface} in mode {mode}."));
        }
        if netflow.enabled {
            let from = match netflow.exporters.as_slice() {
                [] => "anybody".to_owned(),
                some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            };
            lines.push(format!("Collects NetFlow and IPFIX on {} from {from}.", netflow.listen));
        }
        for s in &self.sources {
            let action = super::setting::Word::word(&s.action);
            lines.push(format!("Takes the list {} from {}, to {action}.", s.name, s.path.display()));
        }
        if let Some(url) = &self.crowdsec.url {
            lines.push(format!("Asks CrowdSec at {url} every {} what is decided.", d(self.crowdsec.interval)));
        }
        for s in &self.sinks {
            let kinds: Vec<_> = s.kinds.iter().map(|k| k.name()).collect();
            lines.push(format!("Tells {} ({}, {}) of {}.", s.name, s.to.name(), s.to.words(), kinds.join(", ")));
        }
        if netflow.enabled && netflow.reachable() {
            lines.push(
                "Warning: exporters are not authenticated; whoever reaches that address can make flows up, and teach by them."
                    .into(),
            );
        }
        if netflow.enabled && !watched.is_empty() {
            lines.push("Note: flows that an exporter and the interface both see are counted twice.".into());
        }
        lines.push(if self.home.is_empty() && netflow.enabled && watched.is_empty() {
            "Protects this host and the private networks.".into()
        } else if self.home.is_empty() {
            "Protects the host's own and connected networks.".into()
        } else {
            format!("Protects {}.", self.home.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        });
        lines.push(format!(
            "Learns for {} and until {} flows and {} source windows were seen; thresholds allow {} false alerts a day.",
            d(self.learn.duration),
            human::grouped(self.learn.min_flows),
            human::grouped(self.learn.min_windows),
            self.alert_budget_per_day
        ));
        lines.push(match self.default_model {
            DefaultModel::Off => "Until then nothing is scored.".into(),
            DefaultModel::Alert => "Until then the default bundle, not learned here, leads to alerts alone.".into(),
            DefaultModel::Shadow => {
                "Until then the default bundle, not learned here, may lead to shadow entries.".into()
            }
            DefaultModel::Enforce => {
                "Until then the default bundle, not learned here, may lead to whatever the mode allows, drops included."
                    .into()
            }
        });
        lines.push(match self.record.enabled {
            true => format!(
                "Records flows for {}, in at most {}.",
                d(self.record.max_age),
                human::bytes(self.record.max_size)
            ),
            false => "Records no flows.".into(),
        });
        lines.push(format!(
            "Keeps alerts, evidence, the history of decisions and the audit of calls for {}, in at most {}.",
            d(self.store.max_age),
            human::bytes(self.store.max_size)
        ));
        lines.push(format!(
            "Automatic drops last {}, shadow entries {}, at most {} decisions an hour.",
            d(self.policy.drop_ttl),
            d(self.policy.shadow_ttl),
            self.policy.max_decisions_per_hour
        ));
        lines.extend(self.rule_lines());
        lines.push(match self.allow.len() {
            0 => "The allow list names nobody; own addresses, gateways and the like are safe by themselves.".into(),
            1 => format!("{} is never blocked.", self.allow[0].target),
            n => format!("{n} addresses and prefixes are never blocked."),
        });
        lines.push(format!(
            "Room for {} flows per epoch of {}, {} blocked and {} allowed targets.",
            human::grouped(self.capacity.flows.into()),
            d(self.epoch),
            human::grouped(self.capacity.blocks.into()),
            human::grouped(self.capacity.allow.into())
        ));
        let events = match &self.log.events {
            EventTarget::File(path) => format!("go to {}", path.display()),
            EventTarget::Journald => "go to the journal".into(),
            EventTarget::Stderr => "go to stderr".into(),
            EventTarget::None => "are not logged".into(),
        };
        let flows = if self.log.flows { ", flows among them" } else { "" };
        lines.push(format!(
            "Events {events}{flows}. State in {}, socket {}.",
            self.state_dir.display(),
            self.socket.display()
        ));
        lines.push(self.api.words(self.group.as_deref(), self.read_group.as_deref()));
        lines.push(self.web.words());
        lines.push(self.metrics.words());
        lines.extend(self.tracing.words());
        let silent = format!("Once the agent is silent for {}, ", d(self.lease.timeout));
        lines.push(match self.lease.lapse {
            Lapse::Keep => "If the agent is silent, entries stay until they expire.".to_owned(),
            Lapse::Shadow => silent + "entries only count, until it is back.",
            Lapse::Pass => silent + "entries do nothing, until it is back.",
        });
        if self.on_stop == OnStop::Unload {
            lines.push("When the agent is told to stop, programs and entries are removed.".to_owned());
        }
        lines.join("\n")
    }
}

fn write_value(out: &mut String, value: &Shown, indent: &str) {
    match value {
        Shown::Null => out.push_str(" ~\n"),
        Shown::Scalar(s) => {
            let _ = writeln!(out, " {}", scalar(s));
        }
        Shown::List(items) if items.is_empty() => out.push_str(" []\n"),
        Shown::List(items) => {
            out.push('\n');
            for item in items {
                let _ = writeln!(out, "{indent}  - {}", flow(item));
            }
        }
        Shown::Map(_) | Shown::Named(_) => {
            let _ = writeln!(out, " {}", flow(value));
        }
    }
}

/// On one line.
fn flow(value: &Shown) -> String {
    let fields = |all: Vec<String>| format!("{{{}}}", all.join(", "));
    match value {
        Shown::Null => "~".into(),
        Shown::Scalar(s) => scalar(s),
        Shown::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Shown::Map(entries) => fields(entries.iter().map(|(k, v)| format!("{k}: {}", flow(v))).collect()),
        // Always quoted: a name may be `true`.
        Shown::Named(entries) => fields(
            entries.iter().map(|(k, v)| format!("{}: {}", serde_json::Value::from(k.as_str()), scalar(v))).collect(),
        ),
    }
}

/// Quoted unless it is surely a plain word.
fn scalar(s: &str) -> String {
    let plain = s.chars().all(|c| c.is_ascii_alphanumeric() || "/._-:".contains(c))
        && s.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && !s.ends_with(':')
        && !matches!(s, "null" | "Null" | "NULL");
    if plain { s.to_owned() } else { serde_json::Value::from(s).to_string() }
}

fn json(value: Shown) -> serde_json::Value {
    match value {
        Shown::Null => serde_json::Value::Null,
        Shown::Scalar(s) => match s.as_str() {
            "true" => true.into(),
            "false" => false.into(),
            _ => s.into(),
        },
        Shown::List(items) => items.into_iter().map(json).collect(),
        Shown::Named(entries) => {
            entries.into_iter().map(|(k, v)| (k, v.into())).collect::<serde_json::Map<_, _>>().into()
        }
        Shown::Map(entries) => {
            entries.into_iter().map(|(k, v)| (k.to_owned(), json(v))).collect::<serde_json::Map<_, _>>().into()
        }
    }
}
