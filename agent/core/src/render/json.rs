//! The JSON object of an event.

use std::borrow::Cow;

use serde::Serialize;
use weir_common::flow::ip_proto;

use super::whole::{WholePart, whole_part};
use super::{Context, Rfc3339, proto_name, score};
use crate::addr::Addr;
use crate::community_id::community_id;
use crate::decision::{Action, Decision, Origin, Sides, Target};
use crate::event::{Alert, Anomaly, DecisionChange, Event, Level, Mode, Reason, Severity};
use crate::question::{Question, QuestionChange, Unanswered};
use crate::rate::RateLimit;
use crate::record::{EndReason, FlowRecord, FlowState, Have};
use crate::role::Role;

/// Absent parts are left out of the object.
#[derive(Serialize)]
pub(super) struct Eve<'a> {
    /// Absent where the input of a flow has no time.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Rfc3339>,
    event_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    community_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_iface: Option<&'a str>,
    /// Outer tag first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vlan: Vec<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_ip: Option<Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dest_ip: Option<Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dest_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proto: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_type: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_code: Option<u16>,
    #[serde(flatten)]
    part: Part<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anomaly: Option<AnomalyPart<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weir: Option<WholePart>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Part<'a> {
    Flow(FlowPart),
    Source(SourcePart),
    Alert(AlertPart<'a>),
    Decision(DecisionPart<'a>),
    Hits(HitsPart),
    Question(QuestionPart<'a>),
    Agent(AgentPart<'a>),
}

#[derive(Serialize)]
struct FlowPart {
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pkts_toserver: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pkts_toclient: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_toserver: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_toclient: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<FlowState>,
    end_reason: EndReason,
    /// The client showed that it hears the server.
    proven: bool,
}

#[derive(Serialize)]
struct SourcePart {
    flows: u64,
    /// Over its proven flows alone.
    proven: bool,
}

#[derive(Serialize)]
struct AnomalyPart<'a> {
    score: f32,
    p_value: f32,
    is_anomaly: bool,
    profile: &'static str,
    role: Role,
    actionable: bool,
    /// Only where it is so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    extrapolated: bool,
    /// Likewise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default_bundle: bool,
    detectors: Detectors,
    reasons: &'a [Reason],
}

/// A p-value each.
#[derive(Serialize)]
struct Detectors {
    autoencoder: f32,
    isolation_forest: f32,
}

#[derive(Serialize)]
struct AlertPart<'a> {
    id: u64,
    severity: Severity,
    evidence: f64,
    evidence_proven: f64,
    alert_threshold: f64,
    drop_threshold: f64,
    ports: &'a [u16],
    flows: u64,
    since: Rfc3339,
    outcome: &'a str,
    mode: Mode,
    shadow: bool,
}

#[derive(Serialize)]
struct DecisionPart<'a> {
    id: u64,
    change: DecisionChange,
    target: String,
    action: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<RateLimit>,
    sides: Sides,
    origin: Origin,
    created: Rfc3339,
    /// Absent: until deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Rfc3339>,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instead_of: Option<Action>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert_id: Option<u64>,
    mode: Mode,
    /// Nothing is dropped because of it: it counts what it would have dropped.
    shadow: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    note: &'a str,
}

#[derive(Serialize)]
struct HitsPart {
    decision_id: u64,
    target: String,
    action: Action,
    packets: u64,
    bytes: u64,
    shadow: bool,
}

#[derive(Serialize)]
struct QuestionPart<'a> {
    id: u64,
    change: QuestionChange,
    /// "open", "answered", "unanswered", "undone".
    state: &'static str,
    why: &'a str,
    target: String,
    action: Action,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert_id: Option<u64>,
    asked: Rfc3339,
    expires: Rfc3339,
    /// What happens then.
    unanswered: Unanswered,
    count: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    note: &'a str,
}

#[derive(Serialize)]
struct AgentPart<'a> {
    level: Level,
    kind: &'static str,
    message: &'a str,
}

fn anomaly_part<'a>(a: &'a Anomaly, context: &Context<'_>) -> AnomalyPart<'a> {
    AnomalyPart {
        score: score(a),
        p_value: a.p_value,
        is_anomaly: context.is_anomaly(a),
        profile: a.profile,
        role: a.role,
        actionable: a.actionable,
        extrapolated: a.extrapolated,
        default_bundle: a.default_bundle,
        detectors: Detectors { autoencoder: a.autoencoder, isolation_forest: a.isolation_forest },
        reasons: &a.reasons,
    }
}

impl<'a> Eve<'a> {
    pub(super) fn of(event: &'a Event, context: &Context<'a>) -> Self {
        match event {
            Event::Flow { record, seen_at, anomaly } => {
                let context = Context { in_iface: seen_at.as_deref().or(context.in_iface), ..*context };
                Self::flow(record, anomaly.as_ref(), &context)
            }
            Event::Source { time_us, source, proven, flows, anomaly } => Self {
                src_ip: Some(*source),
                anomaly: Some(anomaly_part(anomaly, context)),
                ..Self::bare(*time_us, "source", Part::Source(SourcePart { flows: *flows, proven: *proven }), context)
            },
            Event::Alert(a) => Self::alert(a, context),
            Event::Decision { time_us, change, decision, mode, note } => {
                let part = Part::Decision(decision_part(decision, *change, *mode, note));
                Self::bare(*time_us, "decision", part, context).aimed(decision.target)
            }
            Event::Hits { time_us, decision_id, target, action, packets, bytes } => {
                let part = HitsPart {
                    decision_id: *decision_id,
                    target: target.to_string(),
                    action: *action,
                    packets: *packets,
                    bytes: *bytes,
                    shadow: *action == Action::Shadow,
                };
                Self::bare(*time_us, "hits", Part::Hits(part), context).aimed(*target)
            }
            Event::Question { time_us, change, question, note } => Self {
                src_ip: Some(question.source),
                ..Self::bare(*time_us, "question", Part::Question(question_part(question, *change, note)), context)
            },
            Event::Agent { time_us, level, kind, message } => {
                Self::bare(*time_us, "agent", Part::Agent(AgentPart { level: *level, kind, message }), context)
            }
        }
    }

    fn bare(time_us: u64, event_type: &'static str, part: Part<'a>, context: &Context<'a>) -> Self {
        Self {
            timestamp: Some(Rfc3339(time_us)),
            event_type,
            flow_id: None,
            community_id: None,
            in_iface: context.in_iface,
            vlan: Vec::new(),
            src_ip: None,
            src_port: None,
            dest_ip: None,
            dest_port: None,
            proto: None,
            icmp_type: None,
            icmp_code: None,
            part,
            anomaly: None,
            label: context.label,
            weir: None,
        }
    }

    /// A single address also stands where other tools look for one.
    fn aimed(mut self, target: Target) -> Self {
        self.src_ip = target.prefix().is_host().then(|| target.prefix().addr());
        match target {
            Target::Net(_) => {}
            Target::Port { proto, port, .. } => {
                self.proto = Some(proto_name(proto));
                self.dest_port = Some(port);
            }
            Target::FarPort { proto, port, .. } => {
                self.proto = Some(proto_name(proto));
                self.src_port = Some(port);
            }
            Target::Flow(flow) => {
                self.proto = Some(proto_name(flow.proto));
                self.src_port = Some(flow.remote_port);
                self.dest_ip = Some(flow.ours);
                self.dest_port = Some(flow.port);
            }
        }
        self
    }

    /// What the record's origin could not tell is left out.
    pub(super) fn flow(r: &'a FlowRecord, anomaly: Option<&'a Anomaly>, context: &Context<'a>) -> Self {
        let icmp = matches!(r.proto, ip_proto::ICMP | ip_proto::ICMPV6);
        let has = |what: Have| r.have.has(what);
        let identified = Have::ADDRESSES.with(Have::PROTO).with(Have::CLIENT_PORT).with(Have::SERVER_PORT);
        let part = FlowPart {
            start: has(Have::TIME).then_some(Rfc3339(r.start_us)),
            end: has(Have::TIME).then_some(Rfc3339(r.end_us)),
            duration_us: has(Have::DURATION).then(|| r.duration_us()),
            pkts_toserver: has(Have::PACKETS).then_some(r.fwd.packets),
            pkts_toclient: has(Have::PACKETS).then_some(r.bwd.packets),
            bytes_toserver: has(Have::BYTES).then_some(r.fwd.bytes),
            bytes_toclient: has(Have::BYTES).then_some(r.bwd.bytes),
            state: has(Have::STATE).then_some(r.state),
            end_reason: r.end_reason,
            proven: r.proven,
        };
        Self {
            timestamp: has(Have::TIME).then_some(Rfc3339(r.end_us)),
            flow_id: Some(r.flow_id),
            community_id: has(identified)
                .then(|| community_id((r.client, r.client_port), (r.server, r.server_port), r.proto)),
            vlan: [r.vlan_outer, r.vlan_inner].into_iter().filter(|&v| v != 0).collect(),
            src_ip: has(Have::ADDRESSES).then_some(r.client),
            src_port: (has(Have::CLIENT_PORT) && !icmp).then_some(r.client_port),
            dest_ip: has(Have::ADDRESSES).then_some(r.server),
            dest_port: (has(Have::SERVER_PORT) && !icmp).then_some(r.server_port),
            proto: has(Have::PROTO).then(|| proto_name(r.proto)),
            icmp_type: (has(Have::CLIENT_PORT) && icmp).then_some(r.client_port),
            icmp_code: (has(Have::SERVER_PORT) && icmp).then(|| icmp_code(r)),
            anomaly: anomaly.map(|a| anomaly_part(a, context)),
            weir: context.whole.map(|w| whole_part(r, w)),
            ..Self::bare(r.end_us, "flow", Part::Flow(part), context)
        }
    }

    fn alert(a: &'a Alert, context: &Context<'a>) -> Self {
        let part = AlertPart {
            id: a.id,
            severity: a.severity,
            evidence: a.evidence,
            evidence_proven: a.evidence_proven,
            alert_threshold: a.alert_threshold,
            drop_threshold: a.drop_threshold,
            ports: &a.ports,
            flows: a.flows,
            since: Rfc3339(a.since_us),
            outcome: &a.outcome,
            mode: a.mode,
            shadow: a.mode == Mode::Shadow,
        };
        Self {
            src_ip: Some(a.source),
            anomaly: Some(anomaly_part(&a.anomaly, context)),
            ..Self::bare(a.time_us, "alert", Part::Alert(part), context)
        }
    }
}

fn decision_part<'a>(d: &'a Decision, change: DecisionChange, mode: Mode, note: &'a str) -> DecisionPart<'a> {
    DecisionPart {
        id: d.id,
        change,
        target: d.target.to_string(),
        action: d.action,
        limit: d.limit,
        sides: d.sides,
        origin: d.origin,
        created: Rfc3339(d.created_us),
        expires: d.expires_us.map(Rfc3339),
        reason: &d.reason,
        instead_of: d.instead_of,
        alert_id: d.alert_id,
        mode,
        shadow: d.action == Action::Shadow,
        note,
    }
}

fn question_part<'a>(q: &'a Question, change: QuestionChange, note: &'a str) -> QuestionPart<'a> {
    QuestionPart {
        id: q.id,
        change,
        state: q.state_name(),
        why: &q.why,
        target: q.proposed.target.to_string(),
        action: q.proposed.action,
        reason: &q.proposed.reason,
        alert_id: q.proposed.alert_id,
        asked: Rfc3339(q.asked_us),
        expires: Rfc3339(q.expires_us),
        unanswered: q.unanswered,
        count: q.count,
        note,
    }
}

/// Where a type has a counterpart, the server's port is the counterpart's type and the code is 0.
fn icmp_code(r: &FlowRecord) -> u16 {
    if crate::community_id::one_way(r.proto, r.client_port, r.server_port) { r.server_port } else { 0 }
}
