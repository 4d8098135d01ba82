//! The CLI's side of the control socket.

mod live;

use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, Chain, Join, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use weir_core::addr::Prefix;
use weir_core::decision::{Action, Decision, Sides, Target};
use weir_core::rate::RateLimit;

use super::convert::{Malformed, action_out, learn_from_out, sides_out};
use super::tls::{self, TlsError};
use super::upload;
use crate::command::{
    AlertReport, AllowAdded, AllowReport, BundleReport, DecisionRef, DecisionReport, DriftStatus, LearnFrom,
    LearnReport, ListReport, ListTaken, Purpose, RecordReport, ReloadReport, SinkTest, StatusReport,
};
use crate::lists::format::Parsed;
use crate::proto::weir_client::WeirClient;
use crate::proto::{self as pb};
use crate::sinks::state::SinkState;

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
        "you may not use the agent's socket {}: run this with sudo, or {}",
        path.display(),
        match group {
            Some(group) => format!("have an administrator add you to the group {group} (`usermod -aG {group} USER`)"),
            None => "have an administrator set `group` in the agent's configuration to one of yours".into(),
        }
    )]
    Denied { path: PathBuf, group: Option<String> },
    #[error(
        "cannot reach the agent at {at}: {cause}; does it run with `api.listen`, and does a firewall let you through?"
    )]
    Unreachable { at: String, cause: io::Error },
    #[error("{at}: {words}")]
    Tls { at: String, words: String },
    #[error(transparent)]
    Files(#[from] TlsError),
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

/// The group that a socket is for, where it is not root's alone.
fn group_of(socket: &Path) -> Option<String> {
    let gid = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(socket).ok()?);
    nix::unistd::Group::from_gid(gid.into()).ok().flatten().map(|g| g.name).filter(|_| gid != 0)
}

/// An agent on another host, and what is shown to it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    /// A name or an address, as in the agent's certificate.
    pub host: String,
    pub port: u16,
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Where the agent's certificate comes from.
    pub ca: PathBuf,
}

impl Remote {
    /// HOST:PORT.
    pub fn at(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// With paths that hold wherever it is used from.
    pub fn absolute(self) -> io::Result<Self> {
        let absolute = |p: PathBuf| std::path::absolute(p);
        Ok(Self { cert: absolute(self.cert)?, key: absolute(self.key)?, ca: absolute(self.ca)?, ..self })
    }
}

/// How long reaching an agent on another host may take.
const CONNECT: Duration = Duration::from_secs(10);

/// A connection whose first bytes were read already.
type Begun = Join<Chain<Cursor<Vec<u8>>, ReadHalf<TlsStream<TcpStream>>>, WriteHalf<TlsStream<TcpStream>>>;

async fn tls_stream(remote: &Remote) -> Result<Begun> {
    let at = remote.at();
    let unusable = |e: rustls::Error| ClientError::Tls { at: at.clone(), words: tls::words(&e).unwrap_or_default() };
    let roots = tls::roots(tls::certificates(&remote.ca)?, &remote.ca)?;
    let mut config = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_client_auth_cert(tls::certificates(&remote.cert)?, tls::key(&remote.key)?)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = rustls::pki_types::ServerName::try_from(remote.host.clone())
        .map_err(|_| ClientError::Tls { at: at.clone(), words: "that is neither a name nor an address".into() })?;
    let reach = async {
        let stream = TcpStream::connect((remote.host.as_str(), remote.port)).await;
        let stream = stream.map_err(|cause| ClientError::Unreachable { at: at.clone(), cause })?;
        stream.set_nodelay(true).map_err(|cause| ClientError::Unreachable { at: at.clone(), cause })?;
        let failed = |cause: io::Error| match tls::words(&cause) {
            Some(words) => ClientError::Tls { at: at.clone(), words },
            None if cause.kind() == io::ErrorKind::UnexpectedEof => {
                let words = "the agent hung up at once; it may have as many connections as it takes".into();
                ClientError::Tls { at: at.clone(), words }
            }
            None => ClientError::Unreachable { at: at.clone(), cause },
        };
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(failed)?;
        // With TLS 1.3 our certificate is looked at after the connection seems to stand. The agent's settings come first if it
        // is taken, and HTTP/2 would hide why it is not.
        let mut first = vec![0; 1];
        stream.read_exact(&mut first).await.map_err(failed)?;
        let (read, write) = tokio::io::split(stream);
        Ok(tokio::io::join(Cursor::new(first).chain(read), write))
    };
    let late = io::Error::from(io::ErrorKind::TimedOut);
    tokio::time::timeout(CONNECT, reach).await.unwrap_or(Err(ClientError::Unreachable { at: at.clone(), cause: late }))
}

type Result<T, E = ClientError> = std::result::Result<T, E>;

#[derive(Clone)]
pub struct Client(WeirClient<Channel>);

impl Client {
    pub async fn connect(socket: &Path) -> Result<Client> {
        // A connection of our own first: tonic would hide why it failed.
        let stream = UnixStream::connect(socket).await.map_err(|cause| {
            let path = socket.to_owned();
            match cause.kind() {
                io::ErrorKind::NotFound => ClientError::NotRunning(path),
                io::ErrorKind::ConnectionRefused => ClientError::Stale(path),
                io::ErrorKind::PermissionDenied => ClientError::Denied { group: group_of(&path), path },
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

    /// Over TCP, with certificates on both sides.
    pub async fn connect_tls(remote: &Remote) -> Result<Client> {
        let mut first = Some(tls_stream(remote).await?);
        let to = remote.clone();
        let connector = tower::service_fn(move |_| {
            let (stream, to) = (first.take(), to.clone());
            async move {
                let stream = match stream {
                    Some(stream) => stream,
                    None => tls_stream(&to).await.map_err(io::Error::other)?,
                };
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::from_static("http://weir.invalid").http2_keep_alive_interval(Duration::from_secs(30));
        let channel = endpoint.connect_with_connector(connector).await.map_err(|cause| match tls::words(&cause) {
            Some(words) => ClientError::Tls { at: remote.at(), words },
            None => ClientError::Transport { path: remote.at().into(), cause },
        })?;
        Ok(Client(WeirClient::new(channel).max_decoding_message_size(MAX_ANSWER)))
    }

    /// What the calls go through, for those that are elsewhere.
    pub(crate) fn grpc(&mut self) -> &mut WeirClient<Channel> {
        &mut self.0
    }

    pub async fn status(&mut self) -> Result<StatusReport> {
        Ok(self.0.status(pb::StatusRequest {}).await?.into_inner().try_into()?)
    }

    /// Events behind the one that the token came with; without one (`""`), from now on.
    pub async fn watch(&mut self, kinds: &[pb::EventKind], token: &str) -> Result<Streaming<pb::WatchEventsResponse>> {
        let kinds = kinds.iter().map(|k| *k as i32).collect();
        let request = pb::WatchEventsRequest { kinds, resume_token: token.to_owned() };
        Ok(self.0.watch_events(request).await?.into_inner())
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
        (confirm_within, no_confirm): (Option<Duration>, bool),
    ) -> Result<DecisionReport> {
        let request = pb::AddDecisionRequest {
            target: target.to_string(),
            action: action_out(action),
            limit: limit.map(Into::into),
            sides: sides_out(sides),
            lifetime_us: lifetime.map(whole_us),
            reason: reason.to_owned(),
            confirm_within_us: confirm_within.map(whole_us),
            no_confirm,
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

    /// `lifetime`: `None` until it is removed.
    pub async fn add_allow(&mut self, prefix: Prefix, comment: &str, lifetime: Option<Duration>) -> Result<AllowAdded> {
        let (prefix, comment) = (prefix.to_string(), comment.to_owned());
        let request = pb::AddAllowRequest { prefix, comment, lifetime_us: lifetime.map(whole_us) };
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

    /// The open questions, or `all` that are kept.
    pub async fn list_questions(&mut self, all: bool) -> Result<pb::ListQuestionsResponse> {
        Ok(self.0.list_questions(pb::ListQuestionsRequest { all }).await?.into_inner())
    }

    pub async fn get_question(&mut self, id: u64) -> Result<pb::QuestionDetail> {
        let answer = self.0.get_question(pb::GetQuestionRequest { id }).await?.into_inner();
        Ok(answer.question.ok_or(Malformed::Missing { field: "question" })?)
    }

    pub async fn answer_question(&mut self, request: pb::AnswerQuestionRequest) -> Result<pb::Question> {
        let answer = self.0.answer_question(request).await?.into_inner();
        Ok(answer.question.ok_or(Malformed::Missing { field: "question" })?)
    }

    pub async fn undo_answer(&mut self, id: u64) -> Result<pb::UndoAnswerResponse> {
        Ok(self.0.undo_answer(pb::UndoAnswerRequest { id }).await?.into_inner())
    }

    pub async fn label_alert(&mut self, request: pb::LabelAlertRequest) -> Result<pb::LabelAlertResponse> {
        Ok(self.0.label_alert(request).await?.into_inner())
    }

    /// The latest first.
    pub async fn list_labels(&mut self) -> Result<Vec<pb::Label>> {
        Ok(self.0.list_labels(pb::ListLabelsRequest {}).await?.into_inner().labels)
    }

    pub async fn undo_label(&mut self, id: u64) -> Result<pb::Label> {
        let answer = self.0.undo_label(pb::UndoLabelRequest { id }).await?.into_inner();
        Ok(answer.label.ok_or(Malformed::Missing { field: "label" })?)
    }

    pub async fn list_suppressions(&mut self) -> Result<Vec<pb::Suppression>> {
        Ok(self.0.list_suppressions(pb::ListSuppressionsRequest {}).await?.into_inner().suppressions)
    }

    pub async fn add_suppression(&mut self, request: pb::AddSuppressionRequest) -> Result<pb::Suppression> {
        let answer = self.0.add_suppression(request).await?.into_inner();
        Ok(answer.suppression.ok_or(Malformed::Missing { field: "suppression" })?)
    }

    pub async fn remove_suppression(&mut self, id: u64) -> Result<pb::Suppression> {
        let answer = self.0.remove_suppression(pb::RemoveSuppressionRequest { id }).await?.into_inner();
        Ok(answer.suppression.ok_or(Malformed::Missing { field: "suppression" })?)
    }

    /// What files hold, each with the lifetime of entries that say nothing, or of all.
    pub async fn import_list(
        &mut self,
        start: pb::ImportListStart,
        parsed: Vec<(Parsed, Option<u64>, bool)>,
    ) -> Result<ListTaken> {
        Ok(self.0.import_list(super::lists::parts(start, parsed)).await?.into_inner().into())
    }

    pub async fn list_lists(&mut self) -> Result<Vec<ListReport>> {
        let answer = self.0.list_lists(pb::ListListsRequest {}).await?.into_inner();
        Ok(answer.lists.into_iter().map(Into::into).collect())
    }

    /// Its members, part by part.
    pub async fn show_list(&mut self, name: &str) -> Result<Streaming<pb::ShowListResponse>> {
        Ok(self.0.show_list(pb::ShowListRequest { name: name.to_owned() }).await?.into_inner())
    }

    /// How many members went.
    pub async fn remove_list(&mut self, name: &str) -> Result<u64> {
        Ok(self.0.remove_list(pb::RemoveListRequest { name: name.to_owned() }).await?.into_inner().members)
    }

    pub async fn list_sinks(&mut self) -> Result<Vec<SinkState>> {
        let answer = self.0.list_sinks(pb::ListSinksRequest {}).await?.into_inner();
        Ok(answer.sinks.into_iter().map(Into::into).collect())
    }

    pub async fn test_sink(&mut self, name: &str) -> Result<SinkTest> {
        Ok(self.0.test_sink(pb::TestSinkRequest { name: name.to_owned() }).await?.into_inner().into())
    }
}
