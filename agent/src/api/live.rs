//! What goes on: rates, scores, sources, recorded flows; what belongs to an alert; the configuration; logins to the web page.

use std::collections::HashMap;

use tonic::{Request, Response, Status};
use weir_core::addr::{Addr, Prefix};
use weir_core::decision::Target;

use super::convert::text;
use super::service::{Service, caller};
use crate::clock::wall_us;
use crate::command::{
    AlertReport, Command, FeedbackCommand, Identity, LiveCommand, Recorded, ReviewCommand, Role, WebLogin,
};
use crate::live::Score;
use crate::live::search::{FoundFlow, MAX_FLOWS, Query};
use crate::proto as pb;

/// Without a limit, µs: a day.
const SPAN_US: u64 = 86_400_000_000;
const FLOWS: usize = 100;
const TOP: usize = 20;
/// Of an alert's context.
const SIMILAR: usize = 20;
const HISTORY: usize = 50;
/// Alerts that are looked through for similar ones.
const COMPARED: usize = 1000;
/// Flows up to so long after an alert are behind it, µs: what was under way then.
const AFTER_US: u64 = 60_000_000;
/// Addresses of a context's answer.
const MAX_NAME: usize = 64;

pub(super) async fn traffic(
    s: &Service,
    request: Request<pb::TrafficRequest>,
) -> Result<Response<pb::TrafficResponse>, Status> {
    Ok(Response::new(pb::TrafficResponse { points: s.live().traffic(request.into_inner().since_us) }))
}

pub(super) async fn scores(
    s: &Service,
    request: Request<pb::ScoresRequest>,
) -> Result<Response<pb::ScoresResponse>, Status> {
    let r = request.into_inner();
    let limit = super::record::limit(r.limit);
    let points = s.live().scores(r.since_us, limit).iter().map(Into::into).collect();
    Ok(Response::new(pb::ScoresResponse { points }))
}

impl From<&Score> for pb::ScorePoint {
    fn from(s: &Score) -> Self {
        Self {
            time_us: s.time_us,
            p_value: s.p_value,
            score: 1.0 - s.p_value,
            source: s.source.to_string(),
            server: s.server.to_string(),
            port: s.port.into(),
            proto: s.proto.into(),
            actionable: s.actionable,
            flow_id: s.flow_id,
        }
    }
}

pub(super) async fn top_sources(
    s: &Service,
    request: Request<pb::TopSourcesRequest>,
) -> Result<Response<pb::TopSourcesResponse>, Status> {
    let limit = match request.into_inner().limit {
        0 => TOP,
        n => n as usize,
    };
    Ok(Response::new(s.ask(|reply| Command::Live(LiveCommand::TopSources { limit, reply })).await?))
}

/// What is asked for, or what is wrong with it.
fn query(r: &pb::SearchFlowsRequest, now: u64) -> Result<Query, Status> {
    let invalid = |words: String| Err(Status::invalid_argument(words));
    let port = match r.port.map(u16::try_from) {
        Some(Err(_)) => return invalid(format!("`port` is {}; ports are 0 to 65535", r.port.unwrap_or(0))),
        port => port.and_then(Result::ok),
    };
    let proto = match r.proto.map(u8::try_from) {
        Some(Err(_)) => return invalid(format!("`proto` is {}; protocol numbers are 0 to 255", r.proto.unwrap_or(0))),
        proto => proto.and_then(Result::ok),
    };
    if let Some(score) = r.min_score.filter(|s| !(0.0..=1.0).contains(s)) {
        return invalid(format!("`min_score` is {score}; scores are 0 to 1"));
    }
    let limit = match r.limit as usize {
        0 => FLOWS,
        n if n > MAX_FLOWS => return invalid(format!("`limit` is {n}; at most {MAX_FLOWS}")),
        n => n,
    };
    let until_us = if r.until_us == 0 { now } else { r.until_us };
    let since_us = if r.since_us == 0 { until_us.saturating_sub(SPAN_US) } else { r.since_us };
    if since_us > until_us {
        return invalid(format!("`since_us` ({since_us}) is after `until_us` ({until_us})"));
    }
    let within = if r.address.is_empty() { None } else { Some(text::<Prefix>(&r.address)?) };
    Ok(Query { within, port, proto, since_us, until_us, min_score: r.min_score, limit })
}

pub(super) async fn search_flows(
    s: &Service,
    request: Request<pb::SearchFlowsRequest>,
) -> Result<Response<pb::SearchFlowsResponse>, Status> {
    let query = query(&request.into_inner(), wall_us())?;
    let found = s.ask(|reply| Command::Live(LiveCommand::SearchFlows { query, reply })).await?;
    Ok(Response::new(pb::SearchFlowsResponse {
        flows: found.flows.into_iter().map(Into::into).collect(),
        more: found.more,
        note: found.note,
        from_us: found.from_us,
        scanned: found.scanned,
    }))
}

impl From<FoundFlow> for pb::RecordedFlow {
    fn from(f: FoundFlow) -> Self {
        let r = f.record;
        Self {
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
            state: r.state.name().to_owned(),
            end_reason: r.end_reason.name().to_owned(),
            seen_at: f.seen_at.as_deref().unwrap_or_default().to_owned(),
            p_value: f.p_value,
        }
    }
}

pub(super) async fn alert_context(
    s: &Service,
    request: Request<pb::AlertContextRequest>,
) -> Result<Response<pb::AlertContextResponse>, Status> {
    let id = request.into_inner().alert_id;
    let alert = s.ask(|reply| Command::GetAlert { id, reply }).await?;
    let all = s.ask(|reply| Command::ListAlerts { within: None, since_us: 0, limit: COMPARED, reply }).await?;
    let labels = s.ask(|reply| Command::Feedback(FeedbackCommand::Labels { reply })).await?;
    let questions = s.ask(|reply| Command::Review(ReviewCommand::List { all: true, reply })).await?;
    let host = Prefix::host(alert.source);
    let history = |reply| Recorded::History { target: Some(Target::Net(host)), since_us: 0, limit: HISTORY, reply };
    let decisions = s.ask(|reply| Command::Recorded(history(reply))).await?;
    let query = Query {
        within: Some(host),
        since_us: alert.since_us,
        until_us: alert.time_us.saturating_add(AFTER_US),
        limit: MAX_FLOWS,
        ..Query::default()
    };
    let found = s.ask(|reply| Command::Live(LiveCommand::SearchFlows { query, reply })).await;
    let (flows, flows_note) = match found {
        Ok(found) => (strangest(found.flows), found.note),
        // The alert is worth showing without them.
        Err(why) => (Vec::new(), why.message().to_owned()),
    };
    let truth: HashMap<u64, &str> =
        labels.iter().filter(|l| l.undone_us == 0).map(|l| (l.alert_id, l.truth.as_str())).collect();
    Ok(Response::new(pb::AlertContextResponse {
        flows,
        flows_note,
        similar: similar(&alert, &all, &truth),
        decisions: decisions.into_iter().map(Into::into).collect(),
        labels: labels.iter().filter(|l| l.alert_id == id).cloned().collect(),
        question: questions.questions.into_iter().find(|q| q.alert_id == id),
    }))
}

fn strangest(mut flows: Vec<FoundFlow>) -> Vec<pb::RecordedFlow> {
    let p = |f: &FoundFlow| f.p_value.unwrap_or(f32::INFINITY);
    flows.sort_by(|a, b| p(a).total_cmp(&p(b)).then(b.record.end_us.cmp(&a.record.end_us)));
    flows.into_iter().take(FLOWS).map(Into::into).collect()
}

/// Of the same source, or strange by the same features; the most alike first.
fn similar(alert: &AlertReport, all: &[AlertReport], truth: &HashMap<u64, &str>) -> Vec<pb::SimilarAlert> {
    let of = |other: &AlertReport, source: Addr| other.source == source;
    let mut found: Vec<pb::SimilarAlert> = all
        .iter()
        .filter(|other| other.id != alert.id)
        .filter_map(|other| {
            let shared = |f: &&str| alert.profile == other.profile && alert.reasons.iter().any(|r| r.feature == **f);
            let features: Vec<String> =
                other.reasons.iter().map(|r| r.feature.as_str()).filter(shared).map(str::to_owned).collect();
            let same_source = of(other, alert.source);
            (same_source || !features.is_empty()).then(|| pb::SimilarAlert {
                id: other.id,
                time_us: other.time_us,
                source: other.source.to_string(),
                severity: other.severity.clone(),
                evidence: other.evidence,
                outcome: other.outcome.clone(),
                same_source,
                features,
                truth: truth.get(&other.id).map(|t| (*t).to_owned()).unwrap_or_default(),
            })
        })
        .collect();
    let rank = |a: &pb::SimilarAlert| std::cmp::Reverse((2 * usize::from(a.same_source) + a.features.len(), a.time_us));
    found.sort_by_key(rank);
    found.truncate(SIMILAR);
    found
}

pub(super) async fn show_config(
    s: &Service,
    _: Request<pb::ShowConfigRequest>,
) -> Result<Response<pb::ShowConfigResponse>, Status> {
    Ok(Response::new(s.ask(|reply| Command::Live(LiveCommand::ShowConfig { reply })).await?))
}

pub(super) async fn model_calibration(
    s: &Service,
    _: Request<pb::ModelCalibrationRequest>,
) -> Result<Response<pb::ModelCalibrationResponse>, Status> {
    Ok(Response::new(s.ask(|reply| Command::Live(LiveCommand::ModelCalibration { reply })).await?))
}

pub(super) async fn create_web_login(
    s: &Service,
    request: Request<pb::CreateWebLoginRequest>,
) -> Result<Response<pb::CreateWebLoginResponse>, Status> {
    let by = caller(&request)?;
    if !matches!(by.who, Identity::Local { .. }) {
        let words = "logins to the web page are made on the agent's host alone: `weir web login` there";
        return Err(Status::permission_denied(words));
    }
    let r = request.into_inner();
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "._-@".contains(c));
    if r.name.len() > MAX_NAME || r.name.contains(odd) {
        let words = format!("`name` is at most {MAX_NAME} letters, digits, `.`, `_`, `-` and `@`");
        return Err(Status::invalid_argument(words));
    }
    let role = match pb::WebRole::try_from(r.role) {
        Ok(pb::WebRole::Unspecified) => None,
        Ok(pb::WebRole::Viewer) => Some(Role::Viewer),
        Ok(pb::WebRole::Operator) => Some(Role::Operator),
        Err(_) => return Err(Status::invalid_argument(format!("`role` is {}, which is no role", r.role))),
    };
    let login = s.ask(|reply| Command::Live(LiveCommand::WebLogin { name: r.name, role, by, reply })).await?;
    Ok(Response::new(login.into()))
}

impl From<WebLogin> for pb::CreateWebLoginResponse {
    fn from(l: WebLogin) -> Self {
        let role = match l.role {
            Role::Viewer => pb::WebRole::Viewer,
            Role::Operator => pb::WebRole::Operator,
        };
        Self { url: l.url, expires_us: l.expires_us, name: l.name, role: role.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::AlertReason;

    fn alert(id: u64, source: &str, features: &[&str]) -> AlertReport {
        let reasons = features.iter().map(|f| AlertReason { feature: (*f).into(), ..AlertReason::default() });
        AlertReport {
            id,
            time_us: id,
            source: source.parse().unwrap(),
            reasons: reasons.collect(),
            ..Default::default()
        }
    }

    #[test]
    fn similar_alerts_are_of_the_source_or_strange_alike_the_most_alike_first() {
        let this = alert(9, "192.0.2.1", &["ports", "flows"]);
        let all = [
            this.clone(),
            alert(8, "192.0.2.9", &["bytes"]),
            alert(7, "192.0.2.2", &["ports"]),
            alert(6, "192.0.2.1", &["bytes"]),
            alert(5, "192.0.2.1", &["ports", "flows"]),
        ];
        let found = similar(&this, &all, &HashMap::from([(5, "attack")]));
        let got: Vec<_> = found.iter().map(|a| (a.id, a.same_source, a.features.len(), a.truth.as_str())).collect();
        assert_eq!(got, [(5, true, 2, "attack"), (6, true, 0, ""), (7, false, 1, "")]);
    }

    #[test]
    fn what_cannot_be_looked_for_is_refused_with_the_value() {
        let ask = |r: pb::SearchFlowsRequest| query(&r, 1_000 + SPAN_US);
        let default = ask(pb::SearchFlowsRequest::default()).unwrap();
        assert_eq!((default.since_us, default.until_us, default.limit), (1_000, 1_000 + SPAN_US, FLOWS));
        for (bad, words) in [
            (pb::SearchFlowsRequest { port: Some(70_000), ..Default::default() }, "70000"),
            (pb::SearchFlowsRequest { proto: Some(256), ..Default::default() }, "256"),
            (pb::SearchFlowsRequest { min_score: Some(f32::NAN), ..Default::default() }, "NaN"),
            (pb::SearchFlowsRequest { limit: 1001, ..Default::default() }, "1001"),
            (pb::SearchFlowsRequest { since_us: 9, until_us: 8, ..Default::default() }, "after"),
            (pb::SearchFlowsRequest { address: "x".into(), ..Default::default() }, "x"),
        ] {
            let e = ask(bad).unwrap_err();
            assert!(e.code() == tonic::Code::InvalidArgument && e.message().contains(words), "{e}");
        }
    }
}
