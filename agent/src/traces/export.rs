//! Spans on their way to the collector, many at a time.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::Span;
use super::wire::{self, EXPORT, ExportResponse};
use crate::http_client::Url;
use crate::tls_client::{self, Trust};

/// Spans of one request.
const BATCH: usize = 512;
/// Spans wait this long for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A request that failed is sent again after each of these; then its spans are lost.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// What leads to the collector; it connects when there is something to send, and again after it broke off.
pub fn channel(url: &str, ca_file: Option<&Path>) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|e| why(&e))?;
    let endpoint = endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT);
    let to = Url::parse(url)?;
    if !to.https {
        return Ok(endpoint.connect_lazy());
    }
    if let Some(path) = ca_file {
        tls_client::check_ca(path).map_err(|e| format!("`tracing.ca_file`: {e}"))?;
    }
    let trust = Trust { ca_file: ca_file.map(Path::to_owned), identity: None };
    let connect = tower::service_fn(move |_| {
        let (to, trust) = (to.clone(), trust.clone());
        async move {
            let stream = tls_client::connect_http2(&to.host, to.port, &trust, TIMEOUT).await;
            stream.map(TokioIo::new).map_err(std::io::Error::other)
        }
    });
    Ok(endpoint.connect_with_connector_lazy(connect))
}

/// The innermost reason: those around it say no more than that there is one.
fn why(e: &(dyn Error + 'static)) -> String {
    let mut inner = e;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}

/// Sends until every sender is gone.
pub async fn run(channel: Channel, url: String, mut spans: mpsc::Receiver<Span>, lost: Arc<AtomicU64>) {
    let mut failing = false;
    while let Some(first) = spans.recv().await {
        let mut batch = vec![first];
        // What is late comes with the next request; an end of the queue shows there too.
        let _ = tokio::time::timeout(GATHER, async {
            while batch.len() < BATCH && spans.recv_many(&mut batch, BATCH).await > 0 {}
        })
        .await;
        let count = batch.len() as u64;
        match deliver(&channel, batch).await {
            Ok(rejected) => {
                lost.fetch_add(rejected, Ordering::Relaxed);
                if std::mem::take(&mut failing) {
                    log::info!("traces reach {url} again");
                }
            }
            Err(e) => {
                lost.fetch_add(count, Ordering::Relaxed);
                if !std::mem::replace(&mut failing, true) {
                    log::warn!("traces do not reach {url}: {}; they are counted as lost until they do", reason(&e));
                }
            }
        }
    }
}

/// What the collector said, or why it was not reached.
pub(super) fn reason(e: &Status) -> String {
    if e.source().is_some() { why(e) } else { e.message().to_owned() }
}

/// Spans that the collector rejected.
async fn deliver(channel: &Channel, batch: Vec<Span>) -> Result<u64, Status> {
    let request = wire::request(batch);
    let mut waits = AGAIN.iter();
    loop {
        match attempt(channel, request.clone()).await {
            Ok(answer) => {
                let rejected = answer.partial_success.map_or(0, |p| p.rejected_spans);
                return Ok(u64::try_from(rejected).unwrap_or(0));
            }
            Err(e) => match waits.next() {
                Some(wait) => tokio::time::sleep(*wait).await,
                None => return Err(e),
            },
        }
    }
}

pub(super) async fn attempt(channel: &Channel, request: wire::ExportRequest) -> Result<ExportResponse, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.map_err(|e| Status::unavailable(why(&e)))?;
    let codec: ProstCodec<wire::ExportRequest, ExportResponse> = ProstCodec::default();
    let path = PathAndQuery::from_static(EXPORT);
    client.unary(Request::new(request), path, codec).await.map(tonic::Response::into_inner)
}
