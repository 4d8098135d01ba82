//! The page, over HTTP/1.1: one request per connection, few of them at once, none for longer than a few seconds.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};

use super::process::Process;
use super::reading::Reading;
use super::tally::ApiCalls;
use super::text::{self, Format};
use crate::api::limits::Slots;
use crate::command::{AskError, Command, ask};

/// Connections at once: in all, and from one address.
const CONNECTIONS: (usize, usize) = (32, 16);
/// How long a connection may take, from the request's first byte to the page's last.
const DEADLINE: Duration = Duration::from_secs(5);
/// Bytes of a request's head, of which more are refused.
const MAX_HEAD: usize = 16 << 10;
/// Scrapes that follow sooner get the same values: the event loop is asked no more often.
const SAME: Duration = Duration::from_millis(200);
/// After a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// The address is taken; nothing is served before [`Server::run`].
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

struct Shared {
    commands: mpsc::Sender<Command>,
    calls: Arc<ApiCalls>,
    /// Whoever comes while the loop is being asked waits here, and takes the same values.
    last: Mutex<Option<(Instant, Arc<Reading>)>>,
}

impl Server {
    pub async fn bind(at: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(at).await? })
    }

    #[cfg(test)]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the task is dropped.
    pub async fn run(self, commands: mpsc::Sender<Command>, calls: Arc<ApiCalls>) {
        let shared = Arc::new(Shared { commands, calls, last: Mutex::new(None) });
        let slots = Slots::new(CONNECTIONS.0, CONNECTIONS.1, 0);
        // They end with this task.
        let mut scrapes = tokio::task::JoinSet::new();
        loop {
            let (stream, from) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(e) => {
                    log::warn!("the metrics port cannot take a connection: {e}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            while scrapes.try_join_next().is_some() {}
            let Ok(slot) = slots.take(&from.ip().to_canonical().to_string(), false) else {
                log::debug!("too many connections for metrics; one from {from} was closed");
                continue;
            };
            let shared = shared.clone();
            scrapes.spawn(async move {
                // Who does not ask, or does not read, in time is cut off.
                if tokio::time::timeout(DEADLINE, serve(stream, shared)).await.is_err() {
                    log::debug!("metrics: {from} took longer than {DEADLINE:?} and was cut off");
                }
                drop(slot);
            });
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(&request, &shared).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(DEADLINE)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(e) = served {
        log::debug!("metrics: {e}");
    }
}

async fn answer(request: &Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "metrics are only read\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => {}
        "/" => return plain(StatusCode::OK, "Weir's metrics are at /metrics\n".to_owned()),
        _ => return plain(StatusCode::NOT_FOUND, "there is only /metrics\n".to_owned()),
    }
    let reading = match shared.reading().await {
        Ok(reading) => reading,
        Err(e) => {
            let mut busy = plain(StatusCode::SERVICE_UNAVAILABLE, format!("{e}\n"));
            busy.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return busy;
        }
    };
    let accept = request.headers().get_all(ACCEPT).iter().filter_map(|a| a.to_str().ok()).collect::<Vec<_>>().join(",");
    let format = Format::wanted(&accept);
    let page = text::write(&reading.samples(&Process::read(), &shared.calls.read()), format);
    let mut page = Response::new(Full::new(Bytes::from(page)));
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

fn plain(status: StatusCode, words: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(words)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

impl Shared {
    async fn reading(&self) -> Result<Arc<Reading>, AskError> {
        let mut last = self.last.lock().await;
        if let Some((_, reading)) = last.as_ref().filter(|(at, _)| at.elapsed() < SAME) {
            return Ok(reading.clone());
        }
        let reading = Arc::new(*ask(&self.commands, |reply| Command::Measure { reply }).await?);
        *last = Some((Instant::now(), reading.clone()));
        Ok(reading)
    }
}
