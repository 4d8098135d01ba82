//! Spans on their way to the collector, many at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::Span;
use super::wire::{self, EXPORT, ExportResponse};

/// Spans of one request.
const BATCH: usize = 512;
/// Spans wait this long for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A request that failed is sent again after each of these; then its spans are lost.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// Sends until every sender is gone.
pub async fn run(endpoint: Endpoint, url: String, mut spans: mpsc::Receiver<Span>, lost: Arc<AtomicU64>) {
    let channel = endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT).connect_lazy();
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
                    log::warn!("traces do not reach {url}: {}; they are counted as lost until they do", e.message());
                }
            }
        }
    }
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

async fn attempt(channel: &Channel, request: wire::ExportRequest) -> Result<ExportResponse, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let codec: ProstCodec<wire::ExportRequest, ExportResponse> = ProstCodec::default();
    let path = PathAndQuery::from_static(EXPORT);
    client.unary(Request::new(request), path, codec).await.map(tonic::Response::into_inner)
}
