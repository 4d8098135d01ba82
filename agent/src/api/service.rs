//! Each call becomes one [`Command`]; the answer goes back as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weir_core::decision::Sides;

use super::access::{Access, Peer};
use super::convert::{self, Malformed, text};
use super::{events, lists, live, record, resume, review, upload};
use crate::bus::{EventBus, Item};
use crate::command::{
    AskError, Caller, Command, CommandError, DecisionRef, ListsCommand, NewDecision, Recorded, Reply, ask,
};
use crate::live::Live;
use crate::proto::weir_server::Weir;
use crate::proto::{self as pb, watch_events_response};
use crate::sink::Render;

/// What the server needs of the agent.
#[derive(Clone)]
pub struct Service {
    commands: mpsc::Sender<Command>,
    bus: EventBus,
    render: Arc<dyn Render>,
    access: Arc<Access>,
    live: Arc<Live>,
    /// What the numbers of events are good for: this run of the agent.
    run: Arc<str>,
    /// Turns true when the server stops: streams end then.
    stop: watch::Receiver<bool>,
}

impl Service {
    pub(super) fn new(
        commands: mpsc::Sender<Command>,
        bus: EventBus,
        render: Arc<dyn Render>,
        (access, live): (Arc<Access>, Arc<Live>),
        run: Arc<str>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { commands, bus, render, access, live, run, stop }
    }

    pub(super) fn live(&self) -> &Live {
        &self.live
    }

    pub(super) async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Command) -> Result<T, Status> {
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

/// Who calls, as the gate found.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request.extensions().get().cloned().ok_or_else(|| Status::internal("a call came past the gate"))
}

/// Longer reasons and comments are refused: they are stored, logged and shown in tables.
const MAX_TEXT: usize = 500;

pub(super) fn short(field: &'static str, value: String) -> Result<String, Status> {
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
        let peer = request.extensions().get::<Peer>().cloned();
        let pb::WatchEventsRequest { kinds: wanted, resume_token } = request.into_inner();
        if let Some(bad) = wanted.iter().find(|k| !events::KINDS.iter().any(|(_, known)| *known as i32 == **k)) {
            return Err(Malformed::Unknown { field: "kinds", value: *bad }.into());
        }
        let resume = resume::parse(&resume_token)?;
        let (mut subscription, mut restarted) = match &resume {
            None => (self.bus.subscribe(), false),
            Some((run, last)) if **run == *self.run => (self.bus.subscribe_from(last.saturating_add(1)), false),
            // Everything of this run is new to who knows the one before.
            Some(_) => (self.bus.subscribe_from(1), true),
        };
        let (mut stop, render, access, run) =
            (self.stop.clone(), self.render.clone(), self.access.clone(), self.run.clone());
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
                    Some(Item::Event(_, event)) => {
                        if !wanted.is_empty() && !wanted.contains(&(events::kind(&event) as i32)) {
                            continue;
                        }
                        watch_events_response::Item::Event(events::message(&event, &*render))
                    }
                    Some(Item::Missed(n)) => watch_events_response::Item::Lost(n),
                    None => return,
                };
                // A role that was taken away, or a certificate that ran out, ends what was begun with it.
                if let Some(Err(denied)) = peer.as_ref().map(|peer| access.role(peer)) {
                    let _ = items.send(Err(Status::permission_denied(denied.to_string()))).await;
                    return;
                }
                let resume_token = resume::token(&run, subscription.last());
                let answer = pb::WatchEventsResponse { item: Some(item), resume_token, restarted };
                restarted = false;
                if items.send(Ok(answer)).await.is_err() {
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
            no_confirm: r.no_confirm,
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
        if r.lifetime_us == Some(0) {
            return Err(Status::invalid_argument("`lifetime_us` is 0; leave it out for no such limit"));
        }
        let lifetime = r.lifetime_us.map(Duration::from_micros);
        let added = self.ask(|reply| Command::AllowAdd { prefix, comment, lifetime, by, reply }).await?;
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

    async fn list_questions(
        &self,
        request: Request<pb::ListQuestionsRequest>,
    ) -> Result<Response<pb::ListQuestionsResponse>, Status> {
        review::list_questions(self, request).await
    }

    async fn get_question(
        &self,
        request: Request<pb::GetQuestionRequest>,
    ) -> Result<Response<pb::GetQuestionResponse>, Status> {
        review::get_question(self, request).await
    }

    async fn answer_question(
        &self,
        request: Request<pb::AnswerQuestionRequest>,
    ) -> Result<Response<pb::AnswerQuestionResponse>, Status> {
        review::answer_question(self, request).await
    }

    async fn undo_answer(
        &self,
        request: Request<pb::UndoAnswerRequest>,
    ) -> Result<Response<pb::UndoAnswerResponse>, Status> {
        review::undo_answer(self, request).await
    }

    async fn label_alert(
        &self,
        request: Request<pb::LabelAlertRequest>,
    ) -> Result<Response<pb::LabelAlertResponse>, Status> {
        review::label_alert(self, request).await
    }

    async fn list_labels(
        &self,
        request: Request<pb::ListLabelsRequest>,
    ) -> Result<Response<pb::ListLabelsResponse>, Status> {
        review::list_labels(self, request).await
    }

    async fn undo_label(
        &self,
        request: Request<pb::UndoLabelRequest>,
    ) -> Result<Response<pb::UndoLabelResponse>, Status> {
        review::undo_label(self, request).await
    }

    async fn list_suppressions(
        &self,
        request: Request<pb::ListSuppressionsRequest>,
    ) -> Result<Response<pb::ListSuppressionsResponse>, Status> {
        review::list_suppressions(self, request).await
    }

    async fn add_suppression(
        &self,
        request: Request<pb::AddSuppressionRequest>,
    ) -> Result<Response<pb::AddSuppressionResponse>, Status> {
        review::add_suppression(self, request).await
    }

    async fn remove_suppression(
        &self,
        request: Request<pb::RemoveSuppressionRequest>,
    ) -> Result<Response<pb::RemoveSuppressionResponse>, Status> {
        review::remove_suppression(self, request).await
    }

    async fn import_list(
        &self,
        request: Request<Streaming<pb::ImportListRequest>>,
    ) -> Result<Response<pb::ImportListResponse>, Status> {
        let by = caller(&request)?;
        let lists::Import { draft, take, dry_run } = lists::receive(request.into_inner()).await?;
        let command = |reply| Command::Lists(ListsCommand::Take { draft, take, dry_run, by, reply });
        Ok(Response::new(self.ask(command).await?.into()))
    }

    async fn list_lists(&self, _: Request<pb::ListListsRequest>) -> Result<Response<pb::ListListsResponse>, Status> {
        let all = self.ask(|reply| Command::Lists(ListsCommand::List { reply })).await?;
        Ok(Response::new(pb::ListListsResponse { lists: all.into_iter().map(Into::into).collect() }))
    }

    type ShowListStream = Pin<Box<dyn Stream<Item = Result<pb::ShowListResponse, Status>> + Send>>;

    async fn show_list(&self, request: Request<pb::ShowListRequest>) -> Result<Response<Self::ShowListStream>, Status> {
        let name = request.into_inner().name;
        let part = |name: &str, after| {
            let name = name.to_owned();
            self.ask(move |reply| Command::Lists(ListsCommand::Show { name, after, reply }))
        };
        let mut members = part(&name, None).await?;
        let (items, stream) = mpsc::channel(2);
        let service = self.clone();
        tokio::spawn(async move {
            while let Some(after) = lists::last(&members) {
                let part = pb::ShowListResponse { members: members.into_iter().map(Into::into).collect() };
                if items.send(Ok(part)).await.is_err() {
                    return;
                }
                let name = name.clone();
                let next = |reply| Command::Lists(ListsCommand::Show { name, after: Some(after), reply });
                members = match service.ask(next).await {
                    Ok(members) => members,
                    Err(e) => return drop(items.send(Err(e)).await),
                };
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn remove_list(
        &self,
        request: Request<pb::RemoveListRequest>,
    ) -> Result<Response<pb::RemoveListResponse>, Status> {
        let by = caller(&request)?;
        let name = request.into_inner().name;
        let members = self.ask(|reply| Command::Lists(ListsCommand::Remove { name, by, reply })).await?;
        Ok(Response::new(pb::RemoveListResponse { members }))
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

    async fn traffic(&self, request: Request<pb::TrafficRequest>) -> Result<Response<pb::TrafficResponse>, Status> {
        live::traffic(self, request).await
    }

    async fn top_sources(
        &self,
        request: Request<pb::TopSourcesRequest>,
    ) -> Result<Response<pb::TopSourcesResponse>, Status> {
        live::top_sources(self, request).await
    }

    async fn scores(&self, request: Request<pb::ScoresRequest>) -> Result<Response<pb::ScoresResponse>, Status> {
        live::scores(self, request).await
    }

    async fn search_flows(
        &self,
        request: Request<pb::SearchFlowsRequest>,
    ) -> Result<Response<pb::SearchFlowsResponse>, Status> {
        live::search_flows(self, request).await
    }

    async fn alert_context(
        &self,
        request: Request<pb::AlertContextRequest>,
    ) -> Result<Response<pb::AlertContextResponse>, Status> {
        live::alert_context(self, request).await
    }

    async fn show_config(
        &self,
        request: Request<pb::ShowConfigRequest>,
    ) -> Result<Response<pb::ShowConfigResponse>, Status> {
        live::show_config(self, request).await
    }

    async fn model_calibration(
        &self,
        request: Request<pb::ModelCalibrationRequest>,
    ) -> Result<Response<pb::ModelCalibrationResponse>, Status> {
        live::model_calibration(self, request).await
    }

    async fn create_web_login(
        &self,
        request: Request<pb::CreateWebLoginRequest>,
    ) -> Result<Response<pb::CreateWebLoginResponse>, Status> {
        live::create_web_login(self, request).await
    }
}
