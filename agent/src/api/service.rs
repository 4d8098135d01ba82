//! Each call becomes one [`Command`]; the answer goes back as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status, Streaming};
use weir_core::decision::Sides;

use super::convert::{self, Malformed, text};
use super::{events, record, upload};
use crate::bus::{EventBus, Item};
use crate::command::{AskError, Caller, Command, CommandError, DecisionRef, NewDecision, Recorded, Reply, ask};
use crate::proto::weir_server::Weir;
use crate::proto::{self as pb, watch_events_response};
use crate::sink::Render;

/// What the server needs of the agent.
#[derive(Clone)]
pub struct Service {
    commands: mpsc::Sender<Command>,
    bus: EventBus,
    render: Arc<dyn Render>,
    /// Turns true when the server stops: streams end then.
    stop: watch::Receiver<bool>,
}

impl Service {
    pub(super) fn new(
        commands: mpsc::Sender<Command>,
        bus: EventBus,
        render: Arc<dyn Render>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { commands, bus, render, stop }
    }

    async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Command) -> Result<T, Status> {
        ask(&self.commands, make).await.map_err(status)
    }
}

fn status(e: AskError) -> Status {
    let words = e.to_string();
    match e {
        AskError::Busy => Status::resource_exhausted(words),
        AskError::Stopping => Status::unavailable(words),
        AskError::Command(e) => match e {
            CommandError::Invalid(_) => Status::invalid_argument(words),
            CommandError::NotFound(_) => Status::not_found(words),
            CommandError::Exists(_) => Status::already_exists(words),
            CommandError::Refused(_) => Status::failed_precondition(words),
            CommandError::Full(_) => Status::resource_exhausted(words),
            CommandError::Failed(_) => Status::internal(words),
        },
    }
}

impl From<Malformed> for Status {
    fn from(e: Malformed) -> Self {
        Status::invalid_argument(e.to_string())
    }
}

/// Who is at the other end, as the kernel says.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let cred = request
        .extensions()
        .get::<UdsConnectInfo>()
        .and_then(|info| info.peer_cred)
        .ok_or_else(|| Status::unauthenticated("the kernel did not say who you are (SO_PEERCRED)"))?;
    let user = nix::unistd::User::from_uid(cred.uid().into()).ok().flatten().map(|u| u.name);
    Ok(Caller { uid: cred.uid(), user, pid: cred.pid() })
}

/// Longer reasons and comments are refused: they are stored, logged and shown in tables.
const MAX_TEXT: usize = 500;

fn short(field: &'static str, value: String) -> Result<String, Status> {
    if value.chars().count() > MAX_TEXT {
        return Err(Status::invalid_argument(format!("`{field}` is longer than {MAX_TEXT} characters")));
    }
    if value.contains(char::is_control) {
        return Err(Status::invalid_argument(format!("`{field}` holds control characters; write it on one line")));
    }
    Ok(value)
}

type Watch = Pin<Box<dyn Stream<Item = Result<pb::WatchEventsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Weir for Service {
    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        let report = self.ask(|reply| Command::Status { reply }).await?;
        Ok(Response::new(report.into()))
    }

    type WatchEventsStream = Watch;

    async fn watch_events(&self, request: Request<pb::WatchEventsRequest>) -> Result<Response<Watch>, Status> {
        let wanted = request.into_inner().kinds;
        if let Some(bad) = wanted.iter().find(|k| !events::KINDS.iter().any(|(_, known)| *known as i32 == **k)) {
            return Err(Malformed::Unknown { field: "kinds", value: *bad }.into());
        }
        let mut subscription = self.bus.subscribe();
        let mut stop = self.stop.clone();
        let render = self.render.clone();
        // Two items: what a client does not read stays on the bus, where it can be counted as missed.
        let (items, stream) = mpsc::channel(2);
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    next = subscription.next() => next,
                    _ = stop.wait_for(|stopped| *stopped) => None,
                    () = items.closed() => None,
                };
                let item = match next {
                    Some(Item::Event(event)) => {
                        if !wanted.is_empty() && !wanted.contains(&(events::kind(&event) as i32)) {
                            continue;
                        }
                        watch_events_response::Item::Event(events::message(&event, &*render))
                    }
                    Some(Item::Missed(n)) => watch_events_response::Item::Lost(n),
                    None => return,
                };
                if items.send(Ok(pb::WatchEventsResponse { item: Some(item) })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn list_decisions(
        &self,
        _: Request<pb::ListDecisionsRequest>,
    ) -> Result<Response<pb::ListDecisionsResponse>, Status> {
        let decisions = self.ask(|reply| Command::ListDecisions { reply }).await?;
        Ok(Response::new(pb::ListDecisionsResponse { decisions: decisions.into_iter().map(Into::into).collect() }))
    }

    async fn add_decision(
        &self,
        request: Request<pb::AddDecisionRequest>,
    ) -> Result<Response<pb::AddDecisionResponse>, Status> {
        let by = caller(&request)?;
        let r = request.into_inner();
        let sides = if r.sides == pb::Sides::Unspecified as i32 { Sides::Both } else { convert::sides_in(r.sides)? };
        for (field, value) in [("lifetime_us", r.lifetime_us), ("confirm_within_us", r.confirm_within_us)] {
            if value == Some(0) {
                return Err(Status::invalid_argument(format!("`{field}` is 0; leave it out for no such limit")));
            }
        }
        let new = NewDecision {
            target: text(&r.target)?,
            action: convert::action_in(r.action)?,
            limit: r.limit.map(TryInto::try_into).transpose()?,
            sides,
            lifetime: r.lifetime_us.map(Duration::from_micros),
            reason: short("reason", r.reason)?,
            confirm_within: r.confirm_within_us.map(Duration::from_micros),
            by,
        };
        let decision = self.ask(|reply| Command::AddDecision { new, reply }).await?;
        Ok(Response::new(pb::AddDecisionResponse { decision: Some(decision.into()) }))
    }

    async fn confirm_decision(
        &self,
        request: Request<pb::ConfirmDecisionRequest>,
    ) -> Result<Response<pb::ConfirmDecisionResponse>, Status> {
        let by = caller(&request)?;
        let id = request.into_inner().id;
        let decision = self.ask(|reply| Command::ConfirmDecision { id, by, reply }).await?;
        Ok(Response::new(pb::ConfirmDecisionResponse { decision: Some(decision.into()) }))
    }

    async fn delete_decision(
        &self,
        request: Request<pb::DeleteDecisionRequest>,
    ) -> Result<Response<pb::DeleteDecisionResponse>, Status> {
        use pb::delete_decision_request::Which;
        let by = caller(&request)?;
        let which = match request.into_inner().which {
            Some(Which::Id(id)) => DecisionRef::Id(id),
            Some(Which::Target(target)) => DecisionRef::Target(text(&target)?),
            None => return Err(Malformed::Missing { field: "which" }.into()),
        };
        let deleted = self.ask(|reply| Command::DeleteDecision { which, by, reply }).await?;
        Ok(Response::new(pb::DeleteDecisionResponse { deleted: deleted.into_iter().map(Into::into).collect() }))
    }

    async fn list_allow(&self, _: Request<pb::ListAllowRequest>) -> Result<Response<pb::ListAllowResponse>, Status> {
        let entries = self.ask(|reply| Command::AllowList { reply }).await?;
        Ok(Response::new(pb::ListAllowResponse { entries: entries.into_iter().map(Into::into).collect() }))
    }

    async fn add_allow(&self, request: Request<pb::AddAllowRequest>) -> Result<Response<pb::AddAllowResponse>, Status> {
        let by = caller(&request)?;
        let r = request.into_inner();
        let (prefix, comment) = (text(&r.prefix)?, short("comment", r.comment)?);
        let added = self.ask(|reply| Command::AllowAdd { prefix, comment, by, reply }).await?;
        Ok(Response::new(added.into()))
    }

    async fn remove_allow(
        &self,
        request: Request<pb::RemoveAllowRequest>,
    ) -> Result<Response<pb::RemoveAllowResponse>, Status> {
        let by = caller(&request)?;
        let prefix = text(&request.into_inner().prefix)?;
        let removed = self.ask(|reply| Command::AllowRemove { prefix, by, reply }).await?;
        Ok(Response::new(pb::RemoveAllowResponse { removed: Some(removed.into()) }))
    }

    async fn check_allow(
        &self,
        request: Request<pb::CheckAllowRequest>,
    ) -> Result<Response<pb::CheckAllowResponse>, Status> {
        let prefix = text(&request.into_inner().prefix)?;
        let entries = self.ask(|reply| Command::AllowCheck { prefix, reply }).await?;
        Ok(Response::new(pb::CheckAllowResponse { protected_by: entries.into_iter().map(Into::into).collect() }))
    }

    async fn learn(&self, request: Request<pb::LearnRequest>) -> Result<Response<pb::LearnResponse>, Status> {
        let by = caller(&request)?;
        let r = request.into_inner();
        let duration = r.duration_us.map(Duration::from_micros);
        let from = convert::learn_from_in(r.from, r.since_us)?;
        let learn = |reply| Command::Learn { duration, min_flows: r.min_flows, from, by, reply };
        let progress = self.ask(learn).await?;
        Ok(Response::new(pb::LearnResponse { progress: Some(progress.into()) }))
    }

    async fn model_status(
        &self,
        _: Request<pb::ModelStatusRequest>,
    ) -> Result<Response<pb::ModelStatusResponse>, Status> {
        let bundles = self.ask(|reply| Command::ModelStatus { reply }).await?;
        Ok(Response::new(pb::ModelStatusResponse { bundles: bundles.into_iter().map(Into::into).collect() }))
    }

    async fn inspect_model(
        &self,
        request: Request<pb::InspectModelRequest>,
    ) -> Result<Response<pb::InspectModelResponse>, Status> {
        let id = request.into_inner().id;
        let bundle = self.ask(|reply| Command::ModelInspect { id, reply }).await?;
        Ok(Response::new(pb::InspectModelResponse { bundle: Some(bundle) }))
    }

    async fn load_model(
        &self,
        request: Request<Streaming<pb::LoadModelRequest>>,
    ) -> Result<Response<pb::LoadModelResponse>, Status> {
        let by = caller(&request)?;
        let staged = self.ask(|reply| Command::ModelStage { reply }).await?;
        let purpose = upload::receive(request.into_inner(), staged.path()).await?;
        let bundle = self.ask(|reply| Command::ModelLoad { staged, purpose, by, reply }).await?;
        Ok(Response::new(pb::LoadModelResponse { bundle: Some(bundle.into()) }))
    }

    async fn rollback_model(
        &self,
        request: Request<pb::RollbackModelRequest>,
    ) -> Result<Response<pb::RollbackModelResponse>, Status> {
        let by = caller(&request)?;
        let steps = request.into_inner().steps.max(1) as usize;
        let bundle = self.ask(|reply| Command::ModelRollBack { steps, by, reply }).await?;
        Ok(Response::new(pb::RollbackModelResponse { bundle: Some(bundle.into()) }))
    }

    async fn challenge_model(
        &self,
        request: Request<pb::ChallengeModelRequest>,
    ) -> Result<Response<pb::ChallengeModelResponse>, Status> {
        let by = caller(&request)?;
        let id = request.into_inner().id;
        let bundle = if id.is_empty() {
            self.ask(|reply| Command::ModelUnchallenge { by, reply }).await?;
            None
        } else {
            Some(self.ask(|reply| Command::ModelChallenge { id, by, reply }).await?.into())
        };
        Ok(Response::new(pb::ChallengeModelResponse { bundle }))
    }

    async fn compare_models(
        &self,
        _: Request<pb::CompareModelsRequest>,
    ) -> Result<Response<pb::CompareModelsResponse>, Status> {
        let comparison = self.ask(|reply| Command::ModelCompare { reply }).await?;
        Ok(Response::new(pb::CompareModelsResponse { comparison: Some(comparison) }))
    }

    async fn promote_model(
        &self,
        request: Request<pb::PromoteModelRequest>,
    ) -> Result<Response<pb::PromoteModelResponse>, Status> {
        let by = caller(&request)?;
        let id = Some(request.into_inner().id).filter(|id| !id.is_empty());
        let bundle = self.ask(|reply| Command::ModelPromote { id, by, reply }).await?;
        Ok(Response::new(pb::PromoteModelResponse { bundle: Some(bundle.into()) }))
    }

    async fn model_drift(&self, _: Request<pb::ModelDriftRequest>) -> Result<Response<pb::ModelDriftResponse>, Status> {
        let drift = self.ask(|reply| Command::ModelDrift { reply }).await?;
        Ok(Response::new(drift.into()))
    }

    async fn list_alerts(
        &self,
        request: Request<pb::ListAlertsRequest>,
    ) -> Result<Response<pb::ListAlertsResponse>, Status> {
        let r = request.into_inner();
        let within = if r.source.is_empty() { None } else { Some(text(&r.source)?) };
        let limit = if r.limit == 0 { usize::MAX } else { r.limit as usize };
        let list = |reply| Command::ListAlerts { within, since_us: r.since_us, limit, reply };
        let alerts = self.ask(list).await?;
        Ok(Response::new(pb::ListAlertsResponse { alerts: alerts.into_iter().map(Into::into).collect() }))
    }

    async fn get_alert(&self, request: Request<pb::GetAlertRequest>) -> Result<Response<pb::GetAlertResponse>, Status> {
        let id = request.into_inner().id;
        let alert = self.ask(|reply| Command::GetAlert { id, reply }).await?;
        Ok(Response::new(pb::GetAlertResponse { alert: Some(alert.into()) }))
    }

    async fn flush_record(
        &self,
        _: Request<pb::FlushRecordRequest>,
    ) -> Result<Response<pb::FlushRecordResponse>, Status> {
        let record = self.ask(|reply| Command::FlushRecord { reply }).await?;
        Ok(Response::new(pb::FlushRecordResponse { record: Some(record.into()) }))
    }

    async fn reload_config(
        &self,
        request: Request<pb::ReloadConfigRequest>,
    ) -> Result<Response<pb::ReloadConfigResponse>, Status> {
        let by = caller(&request)?;
        let report = self.ask(|reply| Command::ReloadConfig { by, reply }).await?;
        Ok(Response::new(report.into()))
    }

    async fn list_decision_history(
        &self,
        request: Request<pb::ListDecisionHistoryRequest>,
    ) -> Result<Response<pb::ListDecisionHistoryResponse>, Status> {
        let r = request.into_inner();
        let target = if r.target.is_empty() { None } else { Some(text(&r.target)?) };
        let limit = record::limit(r.limit);
        let question = |reply| Recorded::History { target, since_us: r.since_us, limit, reply };
        let entries = self.ask(|reply| Command::Recorded(question(reply))).await?;
        Ok(Response::new(pb::ListDecisionHistoryResponse { entries: entries.into_iter().map(Into::into).collect() }))
    }

    async fn list_audit(
        &self,
        request: Request<pb::ListAuditRequest>,
    ) -> Result<Response<pb::ListAuditResponse>, Status> {
        let r = request.into_inner();
        let question = |reply| Recorded::Audit { since_us: r.since_us, limit: record::limit(r.limit), reply };
        let entries = self.ask(|reply| Command::Recorded(question(reply))).await?;
        Ok(Response::new(pb::ListAuditResponse { entries: entries.into_iter().map(Into::into).collect() }))
    }

    async fn list_evidence(
        &self,
        request: Request<pb::ListEvidenceRequest>,
    ) -> Result<Response<pb::ListEvidenceResponse>, Status> {
        let r = request.into_inner();
        let question = |reply| Recorded::Evidence { since_us: r.since_us, limit: record::limit(r.limit), reply };
        let entries = self.ask(|reply| Command::Recorded(question(reply))).await?;
        Ok(Response::new(pb::ListEvidenceResponse { entries: entries.into_iter().map(Into::into).collect() }))
    }

    async fn get_evidence(
        &self,
        request: Request<pb::GetEvidenceRequest>,
    ) -> Result<Response<pb::GetEvidenceResponse>, Status> {
        let which = request.into_inner().id.parse().map_err(|e: String| Status::invalid_argument(e))?;
        let question = |reply| Recorded::GetEvidence { which, reply };
        let json = self.ask(|reply| Command::Recorded(question(reply))).await?;
        Ok(Response::new(pb::GetEvidenceResponse { json }))
    }
}
