//! The gRPC server on the control socket, and its client.
//!
//! The server holds no state of the agent: it sends commands to the event loop and subscribes to events.

pub mod client;
pub mod convert;
pub mod events;
mod record;
mod service;
mod socket;
mod upload;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::bus::EventBus;
use crate::command::Command;
use crate::proto::weir_server::WeirServer;
use crate::sink::Render;
pub use socket::{BindError, ControlSocket};

/// Clients that do not finish within this after the stop are cut off.
const GRACE: Duration = Duration::from_secs(2);
/// After a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Serves until `shutdown` is done; then streams end, calls under way finish, and the socket is removed.
pub async fn serve(
    socket: ControlSocket,
    commands: mpsc::Sender<Command>,
    bus: EventBus,
    render: Arc<dyn Render>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), tonic::transport::Error> {
    let (listener, _cleanup) = socket.split();
    let (stop, stopped) = watch::channel(false);
    let service = service::Service::new(commands, bus, render, stopped.clone());
    let mut ended = stopped.clone();
    let incoming = UnixListenerStream::new(listener).then(|accepted| async {
        if let Err(e) = &accepted {
            // Out of file descriptors, most likely: asking again at once would only spin.
            log::warn!("the control socket cannot take a connection: {e}");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        accepted
    });
    let server =
        Server::builder().add_service(WeirServer::new(service)).serve_with_incoming_shutdown(incoming, async move {
            // An error means that the sender is gone, which is a stop too.
            let _ = ended.wait_for(|s| *s).await;
        });
    tokio::pin!(server);
    tokio::select! {
        result = &mut server => return result,
        () = shutdown => {}
    }
    // Somebody listens: `service` holds a receiver.
    let _ = stop.send(true);
    tokio::time::timeout(GRACE, server).await.unwrap_or_else(|_| {
        log::warn!("a client of the control socket did not hang up within {GRACE:?}; cutting it off");
        Ok(())
    })
}

#[cfg(test)]
pub(crate) mod tests;
