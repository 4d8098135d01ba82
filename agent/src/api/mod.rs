//! The gRPC server on the control socket and, with certificates on both sides, on TCP; and its client.
//!
//! The server holds no state of the agent: it sends commands to the event loop and subscribes to events. Who may do what is
//! decided in one place before any handler (`gate`), by one table (`rights`).

pub mod access;
pub mod client;
pub mod convert;
pub mod events;
pub(crate) mod gate;
pub(crate) mod limits;
mod listen;
pub mod lists;
mod live;
mod record;
pub(crate) mod resume;
pub mod review;
pub mod rights;
mod service;
mod sinks;
mod socket;
pub mod tls;
mod upload;
pub mod x509;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use crate::bus::EventBus;
use crate::command::Command;
use crate::config::Web;
use crate::live::Live;
use crate::proto::weir_server::WeirServer;
use crate::sink::Render;
use crate::web;
use access::Access;
use gate::Gate;
use listen::Door;
pub use socket::{BindError, ControlSocket};

/// Clients that do not finish within this after the stop are cut off.
const GRACE: Duration = Duration::from_secs(2);
/// The largest message that is taken; of LoadModel, see `upload`.
pub const MAX_MESSAGE: usize = 4 << 20;
/// Calls at once on one connection.
const STREAMS: u32 = 64;
/// Bytes of a call's headers.
const MAX_HEADERS: u32 = 16 << 10;
/// A silent connection is asked for a sign of life this often, and closed when it gives none for so long.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// Every call, behind the gate.
pub(crate) type Inner = gate::Gated<WeirServer<service::Service>>;

/// Where clients come in.
pub struct Doors {
    pub socket: ControlSocket,
    pub tcp: Vec<TcpListener>,
    pub access: Arc<Access>,
    /// What goes on.
    pub live: Arc<Live>,
    /// Where the web page is served, if it is.
    pub web: Option<Web>,
}

impl Doors {
    /// Listens on the addresses as well, for clients with certificates.
    pub async fn open(socket: ControlSocket, listen: &[SocketAddr], access: Arc<Access>) -> Result<Self, BindError> {
        let mut tcp = Vec::with_capacity(listen.len());
        for at in listen {
            tcp.push(TcpListener::bind(at).await.map_err(|cause| BindError::Tcp { at: *at, cause })?);
        }
        Ok(Self { socket, tcp, access, live: Arc::default(), web: None })
    }
}

impl From<ControlSocket> for Doors {
    /// For root and the agent's own user.
    fn from(socket: ControlSocket) -> Self {
        Self { socket, tcp: Vec::new(), access: Arc::default(), live: Arc::default(), web: None }
    }
}

/// Serves until `shutdown` is done; then streams end, calls under way finish, and the socket is removed.
pub async fn serve(
    doors: impl Into<Doors>,
    commands: mpsc::Sender<Command>,
    bus: EventBus,
    render: Arc<dyn Render>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let Doors { socket, tcp, access, live, web: page } = doors.into();
    let (listener, _cleanup) = socket.split();
    let (stop, stopped) = watch::channel(false);
    let (to, incoming) = mpsc::channel(16);
    let door = Door::new(access.clone(), to);
    // They end with this set, listening sockets and all.
    let mut tasks = tokio::task::JoinSet::new();
    if !tcp.is_empty() {
        tasks.spawn(listen::follow_files(access.clone()));
    }
    for listener in tcp {
        tasks.spawn(door.clone().remote(listener));
    }
    tasks.spawn(door.local(listener));

    // What the numbers of events are good for.
    let run: Arc<str> = format!("{:x}", crate::clock::wall_us()).into();
    let shared = (access.clone(), live.clone());
    let service = service::Service::new(commands, bus.clone(), render.clone(), shared, run.clone(), stopped.clone());
    let service = WeirServer::new(service).max_decoding_message_size(MAX_MESSAGE);
    let gate = Gate::new(access.clone());
    if let Some(config) = page {
        let inner = tower::Layer::layer(&gate, service.clone());
        let page = web::Page::new(inner, gate.clone(), access, live, bus, render, run, stopped.clone());
        tasks.spawn(web::serve(config, Arc::new(page)));
    }
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<WeirServer<service::Service>>().await;
    let mut ended = stopped.clone();
    let server = Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .layer(gate)
        .add_service(health_service)
        .add_service(service)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), async move {
            // An error means that the sender is gone, which is a stop too.
            let _ = ended.wait_for(|s| *s).await;
        });
    tokio::pin!(server);
    tokio::select! {
        result = &mut server => return result,
        () = shutdown => {}
    }
    // Watchers of the health are told, and end.
    health.set_not_serving::<WeirServer<service::Service>>().await;
    // Somebody listens: `service` holds a receiver.
    let _ = stop.send(true);
    tasks.shutdown().await;
    tokio::time::timeout(GRACE, server).await.unwrap_or_else(|_| {
        log::warn!("a client of the API did not hang up within {GRACE:?}; cutting it off");
        Ok(())
    })
}

/// The calls behind the gate, and what the page is made of, without a socket in front. The last one ends streams when it is dropped.
#[cfg(fuzzing)]
pub(crate) fn in_memory(
    commands: mpsc::Sender<Command>,
    bus: EventBus,
    render: Arc<dyn Render>,
    access: Arc<Access>,
    live: Arc<Live>,
) -> (Inner, web::Page, watch::Sender<bool>) {
    let (stop, stopped) = watch::channel(false);
    let run: Arc<str> = "1".into();
    let shared = (access.clone(), live.clone());
    let service = service::Service::new(commands, bus.clone(), render.clone(), shared, run.clone(), stopped.clone());
    let service = WeirServer::new(service).max_decoding_message_size(MAX_MESSAGE);
    let gate = Gate::new(access.clone());
    let inner = tower::Layer::layer(&gate, service);
    let page = web::Page::new(inner.clone(), gate, access, live, bus, render, run, stopped);
    (inner, page, stop)
}

#[cfg(test)]
pub(crate) mod tests;
