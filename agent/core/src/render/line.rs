//! One line per event, for people.

use std::fmt::Write as _;

use weir_common::flow::ip_proto;

use super::{Context, proto_name, rfc3339, score};
use crate::addr::Addr;
use crate::decision::{Action, Decision, Origin, Sides};
use crate::event::{Alert, Anomaly, DecisionChange, Event, Level, Mode};
use crate::policy::duration_words;
use crate::question::{Question, QuestionChange};
use crate::record::{EndReason, FlowRecord, FlowState};

/// Reasons in a line: three, and what would have made it no anomaly.
const SAID: usize = 4;

/// The event as one line, without a line break or any other control character: comments and reasons are other people's
/// text, and terminals obey control characters.
pub fn line(event: &Event) -> String {
    words(event).replace(char::is_control, " ")
}

fn words(event: &Event) -> String {
    match event {
        Event::Flow { record, anomaly, .. } => flow(record, anomaly.as_ref()),
        Event::Source { time_us, source, proven, flows, anomaly } => {
            let what = if *proven { "proven flows" } else { "flows" };
            let source = source.subject();
            format!("{} source {source} {flows} {what}{}", rfc3339(*time_us), anomaly_words(anomaly))
        }
        Event::Alert(a) => alert(a),
        Event::Decision { time_us, change, decision, mode, note } => {
            format!("{} {}", rfc3339(*time_us), decision_words(decision, *change, *mode, note))
        }
        Event::Hits { time_us, decision_id, target, action, packets, bytes } => {
            let did = match action {
                Action::Drop => "dropped",
                Action::Limit => "dropped (beyond the limit)",
                Action::Shadow => "would have dropped (shadow)",
            };
            format!(
                "{} hits decision {decision_id} on {target} {did} {packets} packets, {}",
                rfc3339(*time_us),
                bytes_words(*bytes)
            )
        }
        Event::Question { time_us, change, question, note } => {
            format!("{} {}", rfc3339(*time_us), question_words(question, *change, note))
        }
        Event::Agent { time_us, level, kind, message } => {
            let level = match level {
                Level::Info => "info",
                Level::Warning => "WARNING",
                Level::Error => "ERROR",
            };
            format!("{} agent {level} {kind}: {message}", rfc3339(*time_us))
        }
    }
}

/// `192.0.2.7:22`, `[2001:db8::7]:22`.
fn endpoint(addr: Addr, port: u16) -> String {
    std::net::SocketAddr::new(addr.ip(), port).to_string()
}

fn flow(r: &FlowRecord, anomaly: Option<&Anomaly>) -> String {
    let (client, server) = match r.proto {
        ip_proto::TCP | ip_proto::UDP => (endpoint(r.client, r.client_port), endpoint(r.server, r.server_port)),
        ip_proto::ICMP | ip_proto::ICMPV6 => (format!("{} type {}", r.client, r.client_port), r.server.to_string()),
        _ => (r.client.to_string(), r.server.to_string()),
    };
    let state = match r.state {
        FlowState::Unanswered => "unanswered",
        FlowState::Established => "established",
        FlowState::Closed => "closed",
        FlowState::Reset => "reset",
        FlowState::Rejected => "rejected",
    };
    let going_on = if r.end_reason == EndReason::Checkpoint { ", going on" } else { "" };
    let mut text = format!(
        "{} flow {client} -> {server} {} {state}{going_on}, {}/{} packets, {}/{}, {:.3} s",
        rfc3339(r.end_us),
        proto_name(r.proto),
        r.fwd.packets,
        r.bwd.packets,
        bytes_words(r.fwd.bytes),
        bytes_words(r.bwd.bytes),
        r.duration_us() as f64 / 1e6,
    );
    if let Some(a) = anomaly {
        text += &anomaly_words(a);
    }
    text
}

fn anomaly_words(a: &Anomaly) -> String {
    let mut text = format!(", score {:.4}", score(a));
    if a.default_bundle {
        text += " (default bundle)";
    }
    if Context::default().is_anomaly(a) {
        text += " ANOMALY";
        for (i, r) in a.reasons.iter().take(SAID).enumerate() {
            let _ = write!(text, "{} {}", if i == 0 { ":" } else { ";" }, r.words);
        }
    }
    text
}

fn alert(a: &Alert) -> String {
    let severity = a.severity.name();
    let mut text = format!(
        "{} ALERT {} {severity} {}: evidence {:.1} (alert at {:.1}), proven {:.1} (drop at {:.1}), {} flow{}",
        rfc3339(a.time_us),
        a.id,
        a.source.subject(),
        a.evidence,
        a.alert_threshold,
        a.evidence_proven,
        a.drop_threshold,
        a.flows,
        if a.flows == 1 { "" } else { "s" },
    );
    if !a.ports.is_empty() {
        let ports: Vec<String> = a.ports.iter().map(u16::to_string).collect();
        let _ = write!(text, " to port {}", ports.join(", "));
    }
    for r in a.anomaly.reasons.iter().take(SAID) {
        let _ = write!(text, "; {}", r.words);
    }
    let _ = write!(text, " => {}", a.outcome);
    if a.mode != Mode::Enforce {
        let _ = write!(text, " [mode {}]", a.mode.name());
    }
    text
}

fn decision_words(d: &Decision, change: DecisionChange, mode: Mode, note: &str) -> String {
    let change = if change == DecisionChange::Refused { "REFUSED" } else { change.name() };
    let action = match (d.action, d.instead_of) {
        (Action::Drop, _) => "drop".to_owned(),
        (Action::Limit, _) => format!("limit to {}", d.limit.map(|l| l.to_string()).unwrap_or_default()),
        (Action::Shadow, Some(Action::Drop)) => "shadow (would drop, drops nothing)".to_owned(),
        (Action::Shadow, _) => "shadow (counts only, drops nothing)".to_owned(),
    };
    let sides = match d.sides {
        Sides::In => "in",
        Sides::Out => "out",
        Sides::Both => "in and out",
    };
    let origin = match d.origin {
        Origin::Manual => "by hand",
        Origin::Automatic => "automatic",
        Origin::List => "by a list",
    };
    let until = match d.expires_us {
        Some(e) => {
            format!("until {} ({} in all)", rfc3339(e), duration_words(e.saturating_sub(d.created_us)))
        }
        None => "until deleted".to_owned(),
    };
    let mut text = format!("decision {} {change}: {action} {} {sides}, {origin}, {until}", d.id, d.target);
    for part in [d.reason.as_str(), note] {
        if !part.is_empty() {
            let _ = write!(text, "; {part}");
        }
    }
    if mode != Mode::Enforce {
        let _ = write!(text, " [mode {}]", mode.name());
    }
    text
}

fn question_words(q: &Question, change: QuestionChange, note: &str) -> String {
    let action = match q.proposed.action {
        Action::Drop => "drop",
        Action::Limit => "limit",
        Action::Shadow => "watch",
    };
    let mut text = format!("QUESTION {} {}: {action} {}?", q.id, change.name(), q.proposed.target);
    let why = if change == QuestionChange::Asked { q.why.as_str() } else { "" };
    for part in [q.proposed.reason.as_str(), why, note] {
        if !part.is_empty() {
            let _ = write!(text, "; {part}");
        }
    }
    if q.is_open() {
        let _ = write!(text, "; `weir review show {}`, until {}", q.id, rfc3339(q.expires_us));
    }
    text
}

/// `512 B`, `1.5 kB`, `2.0 GB` (powers of 1000).
fn bytes_words(n: u64) -> String {
    let mut v = n as f64;
    if n < 1000 {
        return format!("{n} B");
    }
    for unit in ["kB", "MB", "GB", "TB", "PB"] {
        v /= 1000.0;
        if v < 999.95 {
            return format!("{v:.1} {unit}");
        }
    }
    format!("{:.1} EB", v / 1000.0)
}
