//! Before any handler: may this caller make this call, and is there room for it?

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body::{Frame, SizeHint};
use prost::bytes::Bytes;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::access::{Access, Peer};
use super::limits::{Budget, Full, Held, Slot, Slots};
use super::rights::{self, Right};
use crate::command::Caller;
use crate::metrics::CallOutcome;
use crate::traces::{Span, Value};

/// Calls at once, streams of events among them: in all, of one caller, and of these only root's.
const CALLS: (usize, usize, usize) = (512, 128, 64);
/// Calls at once that bring a bundle.
const UPLOADS: (usize, usize, usize) = (4, 2, 1);
/// Bytes of requests that are held at once.
const REQUEST_BYTES: usize = 32 << 20;
/// A call that names no deadline ends after this, or its request has not come by then.
const DEADLINE: Duration = Duration::from_secs(60);
/// Of one that brings a bundle, which is checked then.
const UPLOAD_DEADLINE: Duration = Duration::from_secs(600);
/// Refusals are logged at most this often.
const QUIET: Duration = Duration::from_secs(10);

/// Calls whose requests are read part by part and held by their own bounds.
const UPLOAD: [&str; 2] = ["/weir.v1.Weir/LoadModel", "/weir.v1.Weir/ImportList"];

#[derive(Clone)]
pub(crate) struct Gate(Arc<Shared>);

struct Shared {
    access: Arc<Access>,
    calls: Arc<Slots>,
    uploads: Arc<Slots>,
    bytes: Arc<Budget>,
    refused: Refusals,
}

impl Gate {
    pub(crate) fn new(access: Arc<Access>) -> Self {
        let slots = |(all, each, reserve)| Slots::new(all, each, reserve);
        Self(Arc::new(Shared {
            access,
            calls: slots(CALLS),
            uploads: slots(UPLOADS),
            bytes: Budget::new(REQUEST_BYTES),
            refused: Refusals::default(),
        }))
    }

    /// The caller and a place, or why not.
    pub(crate) fn admit(&self, peer: Option<&Peer>, path: &str) -> Result<(Caller, [Option<Slot>; 2]), Status> {
        let peer = peer.ok_or_else(|| Status::unauthenticated("nobody knows who you are"))?;
        let role = self.0.access.role(peer).map_err(|e| Status::permission_denied(e.to_string()))?;
        let right = rights::needed(path).ok_or_else(|| Status::unimplemented(format!("there is no call {path}")))?;
        let caller = Caller { who: peer.0.who.clone(), role };
        if !role.may(right) {
            debug_assert_eq!(right, Right::Operate);
            let name = path.rsplit('/').next().unwrap_or(path);
            return Err(Status::permission_denied(format!(
                "{caller} may only look ({role}), and {name} changes something: ask an operator"
            )));
        }
        let full = |what: &str, e: Full| {
            Status::resource_exhausted(match e {
                Full::Each(n) => format!("{caller} has {n} {what} open, as many as one may; end some and try again"),
                Full::All(n) => format!("{n} {what} are open, as many as there may be; try again later"),
            })
        };
        let upload = match path {
            path if UPLOAD.contains(&path) => {
                Some(self.0.uploads.take(&peer.key(), peer.is_root()).map_err(|e| full("uploads", e))?)
            }
            _ => None,
        };
        let call = self.0.calls.take(&peer.key(), peer.is_root()).map_err(|e| full("calls", e))?;
        Ok((caller, [Some(call), upload]))
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;
    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.clone(), inner }
    }
}

#[derive(Clone)]
pub(crate) struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let peer = request.extensions().get::<Peer>().cloned();
        let (caller, slots) = match self.gate.admit(peer.as_ref(), path) {
            Ok(admitted) => admitted,
            Err(status) => {
                self.gate.0.refused.tell(peer.as_ref(), path, &status);
                self.gate.0.access.calls.count(path, CallOutcome::of(status.code()));
                return Box::pin(async move { Ok(status.into_http()) });
            }
        };
        let mut ends =
            Ends { access: self.gate.0.access.clone(), path: path.to_owned(), outcome: None, began: Instant::now() };
        let (upload, watch) = (UPLOAD.contains(&path), is_endless(path));
        request.extensions_mut().insert(caller);
        let held = Arc::new(self.gate.0.bytes.hold());
        if !upload {
            let held = held.clone();
            request = request.map(|body| Body::new(Metered { body, held }));
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let deadline = if upload { UPLOAD_DEADLINE } else { DEADLINE };
            let response = match tokio::time::timeout(deadline, answer).await {
                Ok(response) => response?,
                Err(_) => Status::deadline_exceeded(format!("this took longer than {deadline:?}")).into_http(),
            };
            // An answer that nobody reads is no reason to keep it.
            ends.look_at(response.headers());
            let until = (!watch).then(|| Box::pin(tokio::time::sleep(deadline)));
            Ok(response.map(|body| Body::new(Counted { body, until, ends, _slots: slots, _held: held })))
        })
    }
}

/// Streams that end when the caller hangs up.
fn is_endless(path: &str) -> bool {
    matches!(path, "/weir.v1.Weir/WatchEvents" | "/grpc.health.v1.Health/Watch")
}

/// A request whose bytes are counted against what all requests may hold.
struct Metered {
    body: Body,
    held: Arc<Held>,
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let next = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &next
            && let Some(data) = frame.data_ref()
            && !self.held.more(data.len())
        {
            let words = "requests of others take all the room there is; try again later";
            return Poll::Ready(Some(Err(Status::resource_exhausted(words))));
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer that keeps its place until it is sent.
struct Counted {
    body: Body,
    until: Option<Pin<Box<tokio::time::Sleep>>>,
    ends: Ends,
    _slots: [Option<Slot>; 2],
    /// The request is not held longer than this.
    _held: Arc<Held>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(until) = &mut self.until
            && until.as_mut().poll(cx).is_ready()
        {
            self.ends.outcome = Some(CallOutcome::Failed);
            return Poll::Ready(Some(Err(Status::deadline_exceeded("the answer was not read in time"))));
        }
        let next = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &next {
            Some(Ok(frame)) => frame.trailers_ref().into_iter().for_each(|t| self.ends.look_at(t)),
            Some(Err(e)) => self.ends.outcome = Some(CallOutcome::of(e.code())),
            None => {}
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How a call ends, counted when it has.
struct Ends {
    access: Arc<Access>,
    path: String,
    /// `None`: nothing has said so yet.
    outcome: Option<CallOutcome>,
    began: Instant,
}

impl Ends {
    /// The status stands behind the answer, or in front of none.
    fn look_at(&mut self, headers: &http::HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.outcome = Some(CallOutcome::of(status.code()));
        }
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        let outcome = self.outcome.unwrap_or(CallOutcome::Cancelled);
        self.access.calls.count(&self.path, outcome);
        let tracer = &self.access.tracer;
        if tracer.is_on() {
            let span = Span::ended(self.path.trim_start_matches('/'), self.began.elapsed()).served();
            let failed = outcome == CallOutcome::Failed;
            tracer.record(span.failed(failed).with("outcome", Value::Word(outcome.name())));
        }
    }
}

/// Says who was refused, without letting them fill the log.
#[derive(Default)]
pub(super) struct Refusals {
    said: std::sync::Mutex<Option<Instant>>,
    silent: AtomicU64,
}

impl Refusals {
    fn tell(&self, peer: Option<&Peer>, path: &str, status: &Status) {
        let who = peer.map_or_else(|| "somebody".to_owned(), Peer::key);
        self.say(&format!("refused {path} to {who}: {}", status.message()));
    }

    pub(super) fn say(&self, words: &str) {
        let mut said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if said.is_some_and(|at| at.elapsed() < QUIET) {
            self.silent.fetch_add(1, Ordering::Relaxed);
            return;
        }
        *said = Some(Instant::now());
        match self.silent.swap(0, Ordering::Relaxed) {
            0 => log::warn!("{words}"),
            n => log::warn!("{words} (and {n} refusals before that)"),
        }
    }
}
