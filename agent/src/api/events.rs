//! Events as protobuf messages.

use weir_core::event::{Alert, Anomaly, Event, Level};
use weir_core::record::FlowRecord;

use super::convert::{action_out, mode_out};
use crate::proto::{self as pb, EventKind, event::Body};
use crate::sink::Render;

/// The kinds, as they are called on the command line and in the log.
pub const KINDS: [(&str, EventKind); 7] = [
    ("flow", EventKind::Flow),
    ("source", EventKind::Source),
    ("alert", EventKind::Alert),
    ("decision", EventKind::Decision),
    ("hits", EventKind::Hits),
    ("agent", EventKind::Agent),
    ("question", EventKind::Question),
];

pub fn kind(event: &Event) -> EventKind {
    match event {
        Event::Flow { .. } => EventKind::Flow,
        Event::Source { .. } => EventKind::Source,
        Event::Alert(_) => EventKind::Alert,
        Event::Decision { .. } => EventKind::Decision,
        Event::Hits { .. } => EventKind::Hits,
        Event::Agent { .. } => EventKind::Agent,
        Event::Question { .. } => EventKind::Question,
    }
}

pub fn message(event: &Event, render: &dyn Render) -> pb::Event {
    let body = match event {
        Event::Flow { record, anomaly: a, .. } => Body::Flow(flow(record, a.as_ref())),
        Event::Source { source, proven, flows, anomaly: a, .. } => Body::Source(pb::SourceEvent {
            source: source.to_string(),
            proven: *proven,
            flows: *flows,
            anomaly: Some(anomaly(a)),
        }),
        Event::Alert(a) => Body::Alert(alert(a)),
        Event::Decision { change, decision, mode, note, .. } => Body::Decision(pb::DecisionEvent {
            change: change.name().into(),
            decision: Some((**decision).clone().into()),
            mode: mode_out(*mode),
            note: note.clone(),
        }),
        Event::Hits { decision_id, target, action, packets, bytes, .. } => Body::Hits(pb::HitsEvent {
            decision_id: *decision_id,
            target: target.to_string(),
            action: action_out(*action),
            packets: *packets,
            bytes: *bytes,
        }),
        Event::Question { change, question, note, .. } => Body::Question(pb::QuestionEvent {
            change: change.name().into(),
            question: Some(super::review::question(question)),
            note: note.clone(),
        }),
        Event::Agent { level, kind, message, .. } => Body::Agent(pb::AgentEvent {
            level: level_name(*level).into(),
            kind: (*kind).into(),
            message: message.clone(),
        }),
    };
    pb::Event {
        time_us: event.time_us(),
        kind: kind(event) as i32,
        json: render.json(event),
        line: render.line(event),
        body: Some(body),
    }
}

fn flow(r: &FlowRecord, a: Option<&Anomaly>) -> pb::FlowEvent {
    pb::FlowEvent {
        flow_id: r.flow_id,
        client: r.client.to_string(),
        server: r.server.to_string(),
        client_port: r.client_port.into(),
        server_port: r.server_port.into(),
        proto: r.proto.into(),
        start_us: r.start_us,
        end_us: r.end_us,
        packets_to_server: r.fwd.packets,
        packets_to_client: r.bwd.packets,
        bytes_to_server: r.fwd.bytes,
        bytes_to_client: r.bwd.bytes,
        proven: r.proven,
        anomaly: a.map(anomaly),
    }
}

fn anomaly(a: &Anomaly) -> pb::Anomaly {
    pb::Anomaly {
        profile: a.profile.into(),
        p_value: a.p_value,
        autoencoder: a.autoencoder,
        isolation_forest: a.isolation_forest,
        role: a.role.to_string(),
        actionable: a.actionable,
        extrapolated: a.extrapolated,
        default_bundle: a.default_bundle,
        reasons: a.reasons.iter().map(|r| r.words.clone()).collect(),
    }
}

fn alert(a: &Alert) -> pb::AlertEvent {
    pb::AlertEvent {
        id: a.id,
        source: a.source.to_string(),
        severity: a.severity.name().into(),
        evidence: a.evidence,
        evidence_proven: a.evidence_proven,
        alert_threshold: a.alert_threshold,
        drop_threshold: a.drop_threshold,
        ports: a.ports.iter().map(|p| u32::from(*p)).collect(),
        flows: a.flows,
        since_us: a.since_us,
        outcome: a.outcome.clone(),
        mode: mode_out(a.mode),
        anomaly: Some(anomaly(&a.anomaly)),
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    }
}
