//! Connections on their way in: who they are from is known, and how many there may be, before HTTP/2 begins.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::access::{self, Access, Peer};
use super::gate::Refusals;
use super::limits::{Slot, Slots};
use super::tls;

/// Connections at once: in all, of one caller, and of these only root's.
const CONNECTIONS: (usize, usize, usize) = (256, 64, 16);
/// Of those who may do nothing, for as long as it takes to tell them.
const STRANGERS: (usize, usize, usize) = (16, 4, 0);
/// Connections at once that have not shown a certificate yet: in all, from one address (of IPv6, one /64).
const UNKNOWN: (usize, usize, usize) = (128, 16, 0);
/// How long a certificate may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a refusal may take to arrive.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long HTTP/2 may take to begin; then its own pings take over.
const OPENING: Duration = Duration::from_secs(10);
/// What HTTP/2 begins with, bytes.
const PREFACE: usize = 24;
/// After a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// What all listeners share.
#[derive(Clone)]
pub(super) struct Door {
    pub access: Arc<Access>,
    connections: Arc<Slots>,
    strangers: Arc<Slots>,
    unknown: Arc<Slots>,
    refused: Arc<Refusals>,
    to: mpsc::Sender<io::Result<Io>>,
}

impl Door {
    pub(super) fn new(access: Arc<Access>, to: mpsc::Sender<io::Result<Io>>) -> Self {
        let slots = |(all, each, reserve)| Slots::new(all, each, reserve);
        Self {
            access,
            connections: slots(CONNECTIONS),
            strangers: slots(STRANGERS),
            unknown: slots(UNKNOWN),
            refused: Arc::default(),
            to,
        }
    }

    /// Takes connections from the socket until nobody serves them any more.
    pub(super) async fn local(self, listener: UnixListener) {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(e) => {
                    // Out of file descriptors, most likely: asking again at once would only spin.
                    log::warn!("the control socket cannot take a connection: {e}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match self.access.local(&stream) {
                Ok(peer) => {
                    if self.pass(peer, Stream::Unix(stream)).await.is_err() {
                        return;
                    }
                }
                // Who hung up already has no credentials.
                Err(e) => log::debug!("the kernel did not say who connected: {e}"),
            }
        }
    }

    /// The same over TCP. Nothing of a connection is looked at before its certificate is verified.
    pub(super) async fn remote(self, listener: TcpListener) {
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(e) => {
                    log::warn!("the API's TCP port cannot take a connection: {e}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if self.to.is_closed() {
                return;
            }
            let Ok(slot) = self.unknown.take(&network(from.ip()), false) else {
                self.refused.say(&format!("too many connections from {} wait to show a certificate", from.ip()));
                continue;
            };
            let door = self.clone();
            tokio::spawn(async move {
                let greeted = tokio::time::timeout(HANDSHAKE, door.greet(stream, from)).await;
                drop(slot);
                match greeted {
                    Ok(Ok((peer, stream))) => drop(door.pass(peer, stream).await),
                    Ok(Err(e)) => door.refused.say(&format!("a connection from {} was refused: {e}", from.ip())),
                    Err(_) => {
                        door.refused
                            .say(&format!("{} connected and showed no certificate within {HANDSHAKE:?}", from.ip()));
                    }
                }
            });
        }
    }

    async fn greet(&self, stream: TcpStream, from: SocketAddr) -> io::Result<(Peer, Stream)> {
        let trust = self.access.trust().ok_or_else(|| io::Error::other("TLS is not configured any more"))?;
        stream.set_nodelay(true)?;
        let stream = match TlsAcceptor::from(trust.server.clone()).accept(stream).into_fallible().await {
            Ok(stream) => stream,
            Err((e, stream)) => {
                let _ = tokio::time::timeout(LAST_WORDS, hang_up(stream)).await;
                return Err(e);
            }
        };
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let peer = certificate.and_then(|c| self.access.remote(c, from.ip().to_canonical(), &trust));
        let peer = peer.ok_or_else(|| io::Error::other("the certificate names nobody"))?;
        Ok((peer, Stream::Tls(Box::new(stream))))
    }

    /// Hands a connection to the server, if there is a place for it. An error: nobody serves any more.
    async fn pass(&self, peer: Peer, stream: Stream) -> Result<(), ()> {
        let role = self.access.role(&peer);
        let slots = if role.is_ok() { &self.connections } else { &self.strangers };
        let slot = match slots.take(&peer.key(), peer.is_root()) {
            Ok(slot) => slot,
            Err(full) => {
                self.refused.say(&format!("a connection of {} was closed: {full}", peer.key()));
                return Ok(());
            }
        };
        let connected = role.ok().and_then(|_| self.access.connected(&peer));
        let opening = Some((0, Box::pin(tokio::time::sleep(OPENING))));
        let io = Io { stream, peer, opening, _slot: slot, _connected: connected };
        self.to.send(Ok(io)).await.map_err(drop)
    }
}

/// Closes a connection so that the last words arrive: what came and was not read would have them thrown away.
async fn hang_up(mut stream: TcpStream) {
    const MAX: u64 = 64 << 10;
    if stream.shutdown().await.is_ok() {
        // Whatever comes: it is only waited for.
        let _ = tokio::io::copy(&mut stream.take(MAX), &mut tokio::io::sink()).await;
    }
}

/// Whose half-open connections are counted together.
fn network(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("{:x}", u128::from(ip) >> 64),
    }
}

enum Stream {
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection with who is at its other end.
pub(super) struct Io {
    stream: Stream,
    peer: Peer,
    /// Bytes that came, and until when HTTP/2 must have begun; `None`: it has.
    opening: Option<(usize, Pin<Box<Sleep>>)>,
    _slot: Slot,
    _connected: Option<access::Connected>,
}

impl Connected for Io {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = match &mut this.stream {
            Stream::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_read(cx, buf),
        };
        if let Some((bytes, until)) = &mut this.opening {
            *bytes += buf.filled().len() - before;
            if *bytes >= PREFACE {
                this.opening = None;
            } else if polled.is_pending() && until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        polled
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Unix(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(s) => Pin::new(s).poll_flush(cx),
            Stream::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

/// Reads certificates again when their files change.
pub(super) async fn follow_files(access: Arc<Access>) {
    const EVERY: Duration = Duration::from_secs(5);
    let mut failed = None;
    loop {
        tokio::time::sleep(EVERY).await;
        let access = access.clone();
        let refreshed = tokio::task::spawn_blocking(move || access.refresh()).await;
        match refreshed {
            Ok(Ok(true)) => log::info!("read the API's certificates again"),
            Ok(Ok(false)) => continue,
            Ok(Err(e)) => {
                let words = tls::TlsError::to_string(&e);
                if failed.as_ref() != Some(&words) {
                    log::warn!("the API's new certificates are not in force: {words}");
                    failed = Some(words);
                }
                continue;
            }
            Err(e) => log::error!("reading certificates failed: {e}"),
        }
        failed = None;
    }
}
