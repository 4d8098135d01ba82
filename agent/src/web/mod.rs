//! The web page and REST, on the runtime that serves gRPC.
//!
//! A request is looked at from the outside in: is it for us (`guard`), who sends it (`login`), which call it stands for (`routes`).
//! The call itself goes through the same gate as gRPC, as the session's name and role (`rest`). What one client may take up is
//! bounded: connections, the time for each part of a request, its size, streams of events.

mod assets;
pub(crate) mod descriptor;
mod events;
mod guard;
mod io;
pub mod login;
mod openapi;
mod rest;
pub mod routes;
#[cfg(test)]
mod tests;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware;
use axum::response::Response;
use axum::routing::{any, get};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::api::Inner;
use crate::api::access::Access;
use crate::api::gate::Gate;
use crate::api::limits::Slots;
use crate::bus::EventBus;
use crate::config::Web;
use crate::live::Live;
use crate::sink::Render;

/// Connections at once: in all, from one address.
const CONNECTIONS: (usize, usize) = (256, 64);
/// Connections at once that have not finished TLS.
const GREETING: (usize, usize) = (64, 16);
/// Streams of events at once: in all, of one session.
const STREAMS: (usize, usize) = (64, 4);
/// How long TLS may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long the head of a request may take, and how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// After a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// An address that is taken, or not there yet, is tried again after this.
const BIND_PAUSE: Duration = Duration::from_secs(5);

/// What the page needs of the agent.
pub(crate) struct Page {
    /// Every call of gRPC, behind the gate.
    pub inner: Inner,
    pub gate: Gate,
    pub access: Arc<Access>,
    pub live: Arc<Live>,
    pub bus: EventBus,
    pub render: Arc<dyn Render>,
    /// What the numbers of events are good for: this run of the agent.
    pub run: Arc<str>,
    /// Turns true when the agent stops.
    pub stop: watch::Receiver<bool>,
    streams: Arc<Slots>,
}

impl Page {
    #[expect(clippy::too_many_arguments, reason = "each is a part of the agent, and named where it is made")]
    pub(crate) fn new(
        inner: Inner,
        gate: Gate,
        access: Arc<Access>,
        live: Arc<Live>,
        bus: EventBus,
        render: Arc<dyn Render>,
        run: Arc<str>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { inner, gate, access, live, bus, render, run, stop, streams: Slots::new(STREAMS.0, STREAMS.1, 0) }
    }
}

/// What is known of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub tls: bool,
}

/// Serves until it is aborted. What keeps the page from being served stands in the status, and is tried again.
pub(crate) async fn serve(config: Web, page: Arc<Page>) {
    let at = config.listen.0;
    let listener = loop {
        match TcpListener::bind(at).await {
            Ok(listener) => break listener,
            Err(e) => {
                let why = format!("cannot listen on {at}: {e}; another agent may (`web.listen`, `web.enabled: false`)");
                if page.access.web().problem().as_ref() != Some(&why) {
                    log::warn!("the web page is not served: {why}");
                }
                page.access.web().served(Err(why));
                tokio::time::sleep(BIND_PAUSE).await;
            }
        }
    };
    serve_on(listener, config, page).await;
}

/// The same on a socket that listens already.
pub(crate) async fn serve_on(listener: TcpListener, config: Web, page: Arc<Page>) {
    let tls = loop {
        match config.tls.as_ref().map(tls::Certificates::load).transpose() {
            Ok(tls) => break tls,
            Err(e) => {
                let why = format!("`web.tls`: {e}");
                if page.access.web().problem().as_ref() != Some(&why) {
                    log::warn!("the web page is not served: {why}");
                }
                page.access.web().served(Err(why));
                tokio::time::sleep(BIND_PAUSE).await;
            }
        }
    };
    let at = listener.local_addr().unwrap_or(config.listen.0);
    page.access.web().served(Ok(at));
    log::info!("web page on {}", config.base(at));
    let door = Door {
        router: router(page),
        tls: tls.map(Arc::new),
        connections: Slots::new(CONNECTIONS.0, CONNECTIONS.1, 0),
        greeting: Slots::new(GREETING.0, GREETING.1, 0),
    };
    // They end with this set.
    let mut clients = JoinSet::new();
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                log::warn!("the web page's port cannot take a connection: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while clients.try_join_next().is_some() {}
        let key = network(from);
        // Whoever has too many is closed without a word: words would take as long as a client likes.
        let Ok(slot) = door.connections.take(&key, false) else { continue };
        let door = door.clone();
        clients.spawn(async move {
            // A client that hangs up or breaks the protocol harms nobody else.
            if let Err(e) = door.client(stream, from, &key).await {
                log::debug!("a connection of the web page from {from} ended: {e}");
            }
            drop(slot);
        });
    }
}

#[derive(Clone)]
struct Door {
    router: Router,
    tls: Option<Arc<tls::Certificates>>,
    connections: Arc<Slots>,
    greeting: Arc<Slots>,
}

impl Door {
    async fn client(&self, stream: TcpStream, from: SocketAddr, key: &str) -> Result<(), String> {
        let to = stream.local_addr().map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let info = Connection { from, to, tls: self.tls.is_some() };
        match &self.tls {
            None => self.speak(io::Patient::new(stream), info).await,
            Some(certificates) => {
                let slot = self.greeting.take(key, false).map_err(|e| e.to_string())?;
                let greeted = tokio::time::timeout(HANDSHAKE, certificates.acceptor().accept(stream)).await;
                drop(slot);
                let stream = greeted.map_err(|_| "TLS took too long".to_owned())?.map_err(|e| e.to_string())?;
                self.speak(io::Patient::new(stream), info).await
            }
        }
    }

    async fn speak<S>(&self, stream: S, info: Connection) -> Result<(), String>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let router = self.router.clone();
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(info);
            router.clone().oneshot(request)
        });
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(MAX_HEAD)
            .half_close(false)
            .serve_connection(TokioIo::new(stream), service)
            .await
            .map_err(|e| e.to_string())
    }
}

/// Whose connections are counted together: an address, or the /64 that one customer has.
fn network(from: SocketAddr) -> String {
    match from.ip().to_canonical() {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("{:x}", u128::from(ip) >> 64),
    }
}

pub(crate) fn router(page: Arc<Page>) -> Router {
    Router::new()
        .route("/login", get(guard::log_in))
        .route("/api/v1/session", get(guard::session).delete(guard::log_out))
        .route("/api/v1/events", get(events::stream))
        .route("/api/v1/openapi.json", get(document))
        .route("/api/{*path}", any(rest::call))
        .fallback(assets::file)
        .layer(middleware::from_fn_with_state(page.clone(), guard::check))
        .with_state(page)
}

async fn document(State(page): State<Arc<Page>>, request: Request) -> Response {
    match guard::who(&page, &request) {
        Ok(_) => rest::json(http::StatusCode::OK, Body::from(openapi::text())),
        Err(refused) => *refused,
    }
}
