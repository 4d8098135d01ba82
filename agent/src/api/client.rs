//! The CLI's side of the control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use weir_core::addr::Prefix;
use weir_core::decision::{Action, Decision, Sides, Target};
use weir_core::rate::RateLimit;

use super::convert::{Malformed, action_out, learn_from_out, sides_out};
use super::upload;
use crate::command::{
    AlertReport, AllowAdded, AllowReport, BundleReport, DecisionRef, DecisionReport, DriftStatus, LearnFrom,
    LearnReport, Purpose, RecordReport, ReloadReport, StatusReport,
};
use crate::proto::weir_client::WeirClient;
use crate::proto::{self as pb};

/// A full block list is a long answer.
const MAX_ANSWER: usize = 1 << 30;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "no agent is running here: there is no socket {}\n\
         start one with `weir run -i INTERFACE` (or `systemctl start weir`), or name its socket with --socket",
        .0.display()
    )]
    NotRunning(PathBuf),
    #[error(
        "no agent answers at {}: the socket was left behind by one that ended\n\
         start one with `weir run -i INTERFACE` (or `systemctl start weir`)",
        .0.display()
    )]
    Stale(PathBuf),
    #[error(
        "you may not use the agent's socket {}: run this as root, or as a member of the group that `group` in the \
         configuration names",
        .0.display()
    )]
    Denied(PathBuf),
    #[error("cannot reach the agent at {}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("cannot speak with the agent at {}: {cause}", path.display())]
    Transport { path: PathBuf, cause: tonic::transport::Error },
    #[error("the agent did not answer as expected ({0}); are `weir` and the agent of the same version?")]
    Malformed(#[from] Malformed),
    /// A bundle could not be read here.
    #[error("{0}")]
    Bundle(String),
    #[error("{}", words(.0))]
    Status(Box<Status>),
}

fn words(s: &Status) -> String {
    match s.code() {
        Code::Unimplemented => "the running agent is older than this `weir` and does not know this command".into(),
        _ if s.message().is_empty() => format!("the agent answered `{}`", s.code()),
        _ => s.message().to_owned(),
    }
}

impl From<Status> for ClientError {
    fn from(s: Status) -> Self {
        ClientError::Status(Box::new(s))
    }
}

impl ClientError {
    /// Whether the request itself was wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, ClientError::Status(s) if s.code() == Code::InvalidArgument)
    }
}

fn whole_us(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

type Result<T, E = ClientError> = std::result::Result<T, E>;

pub struct Client(WeirClient<Channel>);

impl Client {
    pub async fn connect(socket: &Path) -> Result<Client> {
        // A connection of our own first: tonic would hide why it failed.
        let stream = UnixStream::connect(socket).await.map_err(|cause| {
            let path = socket.to_owned();
            match cause.kind() {
                io::ErrorKind::NotFound => ClientError::NotRunning(path),
                io::ErrorKind::ConnectionRefused => ClientError::Stale(path),
                io::ErrorKind::PermissionDenied => ClientError::Denied(path),
                _ => ClientError::Io { path, cause },
            }
        })?;
        let mut first = Some(stream);
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let (stream, path) = (first.take(), path.clone());
            async move {
                let stream = match stream {
                    Some(stream) => stream,
                    None => UnixStream::connect(path).await?,
                };
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        // The address is required and never used.
        let channel = Endpoint::from_static("http://weir.invalid")
            .connect_with_connector(connector)
            .await
            .map_err(|cause| ClientError::Transport { path: socket.to_owned(), cause })?;
        Ok(Client(WeirClient::new(channel).max_decoding_message_size(MAX_ANSWER)))
    }

    /// What the calls go through, for those that are elsewhere.
    pub(super) fn grpc(&mut self) -> &mut WeirClient<Channel> {
        &mut self.0
    }

    pub async fn status(&mut self) -> Result<StatusReport> {
        Ok(self.0.status(pb::StatusRequest {}).await?.into_inner().try_into()?)
    }

    pub async fn watch(&mut self, kinds: &[pb::EventKind]) -> Result<Streaming<pb::WatchEventsResponse>> {
        let kinds = kinds.iter().map(|k| *k as i32).collect();
        Ok(self.0.watch_events(pb::WatchEventsRequest { kinds }).await?.into_inner())
    }

    pub async fn list_decisions(&mut self) -> Result<Vec<DecisionReport>> {
        let answer = self.0.list_decisions(pb::ListDecisionsRequest {}).await?.into_inner();
        Ok(answer.decisions.into_iter().map(TryInto::try_into).collect::<Result<_, Malformed>>()?)
    }

    /// The limit belongs to [`Action::Limit`] alone.
    pub async fn add_decision(
        &mut self,
        target: Target,
        (action, limit): (Action, Option<RateLimit>),
        sides: Sides,
        lifetime: Option<Duration>,
        reason: &str,
        confirm_within: Option<Duration>,
    ) -> Result<DecisionReport> {
        let request = pb::AddDecisionRequest {
            target: target.to_string(),
            action: action_out(action),
            limit: limit.map(Into::into),
            sides: sides_out(sides),
            lifetime_us: lifetime.map(whole_us),
            reason: reason.to_owned(),
            confirm_within_us: confirm_within.map(whole_us),
        };
        let answer = self.0.add_decision(request).await?.into_inner();
        Ok(answer.decision.ok_or(Malformed::Missing { field: "decision" })?.try_into()?)
    }

    pub async fn confirm_decision(&mut self, id: u64) -> Result<DecisionReport> {
        let answer = self.0.confirm_decision(pb::ConfirmDecisionRequest { id }).await?.into_inner();
        Ok(answer.decision.ok_or(Malformed::Missing { field: "decision" })?.try_into()?)
    }

    pub async fn delete_decision(&mut self, which: DecisionRef) -> Result<Vec<Decision>> {
        use pb::delete_decision_request::Which;
        let which = match which {
            DecisionRef::Id(id) => Which::Id(id),
            DecisionRef::Target(target) => Which::Target(target.to_string()),
        };
        let answer = self.0.delete_decision(pb::DeleteDecisionRequest { which: Some(which) }).await?.into_inner();
        Ok(answer.deleted.into_iter().map(TryInto::try_into).collect::<Result<_, Malformed>>()?)
    }

    pub async fn list_allow(&mut self) -> Result<Vec<AllowReport>> {
        let answer = self.0.list_allow(pb::ListAllowRequest {}).await?.into_inner();
        Ok(answer.entries.into_iter().map(TryInto::try_into).collect::<Result<_, Malformed>>()?)
    }

    pub async fn add_allow(&mut self, prefix: Prefix, comment: &str) -> Result<AllowAdded> {
        let request = pb::AddAllowRequest { prefix: prefix.to_string(), comment: comment.to_owned() };
        Ok(self.0.add_allow(request).await?.into_inner().try_into()?)
    }

    pub async fn remove_allow(&mut self, prefix: Prefix) -> Result<AllowReport> {
        let answer = self.0.remove_allow(pb::RemoveAllowRequest { prefix: prefix.to_string() }).await?.into_inner();
        Ok(answer.removed.ok_or(Malformed::Missing { field: "removed" })?.try_into()?)
    }

    /// Every entry that protects some of the prefix.
    pub async fn check_allow(&mut self, prefix: Prefix) -> Result<Vec<AllowReport>> {
        let answer = self.0.check_allow(pb::CheckAllowRequest { prefix: prefix.to_string() }).await?.into_inner();
        Ok(answer.protected_by.into_iter().map(TryInto::try_into).collect::<Result<_, Malformed>>()?)
    }

    pub async fn learn(
        &mut self,
        duration: Option<Duration>,
        min_flows: Option<u64>,
        from: LearnFrom,
    ) -> Result<LearnReport> {
        let duration_us = duration.map(whole_us);
        let (from, since_us) = learn_from_out(from);
        let request = pb::LearnRequest { duration_us, min_flows, from, since_us };
        let answer = self.0.learn(request).await?.into_inner();
        Ok(answer.progress.ok_or(Malformed::Missing { field: "progress" })?.into())
    }

    pub async fn model_status(&mut self) -> Result<Vec<BundleReport>> {
        let answer = self.0.model_status(pb::ModelStatusRequest {}).await?.into_inner();
        Ok(answer.bundles.into_iter().map(Into::into).collect())
    }

    /// `None`: the current one.
    pub async fn promote_model(&mut self, id: Option<&str>) -> Result<BundleReport> {
        let request = pb::PromoteModelRequest { id: id.unwrap_or_default().to_owned() };
        let answer = self.0.promote_model(request).await?.into_inner();
        Ok(answer.bundle.ok_or(Malformed::Missing { field: "bundle" })?.into())
    }

    pub async fn inspect_model(&mut self, id: &str) -> Result<pb::BundleDetail> {
        let answer = self.0.inspect_model(pb::InspectModelRequest { id: id.to_owned() }).await?.into_inner();
        Ok(answer.bundle.ok_or(Malformed::Missing { field: "bundle" })?)
    }

    /// Sends the bundle in `dir`, as far as this process can read it.
    pub async fn load_model(&mut self, dir: &Path, purpose: Purpose) -> Result<BundleReport> {
        let files = upload::files(dir)?;
        let failed = Arc::new(Mutex::new(None));
        let parts = upload::parts(files, purpose, failed.clone());
        let answer = self.0.load_model(parts).await;
        // The agent only sees that no more came.
        if let Some(cause) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(ClientError::Bundle(cause));
        }
        Ok(answer?.into_inner().bundle.ok_or(Malformed::Missing { field: "bundle" })?.into())
    }

    pub async fn rollback_model(&mut self, steps: u32) -> Result<BundleReport> {
        let answer = self.0.rollback_model(pb::RollbackModelRequest { steps }).await?.into_inner();
        Ok(answer.bundle.ok_or(Malformed::Missing { field: "bundle" })?.into())
    }

    /// `None` ends the challenge.
    pub async fn challenge_model(&mut self, id: Option<&str>) -> Result<Option<BundleReport>> {
        let request = pb::ChallengeModelRequest { id: id.unwrap_or_default().to_owned() };
        Ok(self.0.challenge_model(request).await?.into_inner().bundle.map(Into::into))
    }

    pub async fn compare_models(&mut self) -> Result<pb::Comparison> {
        let answer = self.0.compare_models(pb::CompareModelsRequest {}).await?.into_inner();
        Ok(answer.comparison.ok_or(Malformed::Missing { field: "comparison" })?)
    }

    pub async fn model_drift(&mut self) -> Result<DriftStatus> {
        Ok(self.0.model_drift(pb::ModelDriftRequest {}).await?.into_inner().into())
    }

    /// The latest first; `limit` 0 means all.
    pub async fn list_alerts(&mut self, source: Option<Prefix>, since_us: u64, limit: u32) -> Result<Vec<AlertReport>> {
        let source = source.map_or_else(String::new, |p| p.to_string());
        let answer = self.0.list_alerts(pb::ListAlertsRequest { limit, source, since_us }).await?.into_inner();
        Ok(answer.alerts.into_iter().map(TryInto::try_into).collect::<Result<_, Malformed>>()?)
    }

    pub async fn get_alert(&mut self, id: u64) -> Result<AlertReport> {
        let answer = self.0.get_alert(pb::GetAlertRequest { id }).await?.into_inner();
        Ok(answer.alert.ok_or(Malformed::Missing { field: "alert" })?.try_into()?)
    }

    /// Everything recorded until now is in files then.
    pub async fn flush_record(&mut self) -> Result<RecordReport> {
        let answer = self.0.flush_record(pb::FlushRecordRequest {}).await?.into_inner();
        Ok(answer.record.ok_or(Malformed::Missing { field: "record" })?.into())
    }

    pub async fn reload_config(&mut self) -> Result<ReloadReport> {
        Ok(self.0.reload_config(pb::ReloadConfigRequest {}).await?.into_inner().into())
    }
}
