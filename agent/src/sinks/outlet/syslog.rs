//! Syslog of RFC 5424 over UDP (RFC 5426), TCP with octet counting (RFC 6587) and TLS (RFC 5425).
//!
//! None of them has acknowledgements of its own. Over TCP and TLS a batch counts as delivered once the receiver's kernel has
//! acknowledged every byte of it; what the receiver itself loses after that, when it crashes, nobody can tell. Over UDP, sent is all
//! that can be said.

use std::fmt::Write as _;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use weir_core::event::Severity;
use weir_core::render::rfc3339;

use super::{Failed, Numbered, Origin, cef};
use crate::sinks::notice::Notice;
use crate::sinks::settings::{Content, Syslog, Transport};
use crate::tls_client::{self, Stream};

/// For a connection, and for a batch.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a receiver's word, or the refusal of a datagram, is waited for. Not zero: the runtime must get to ask the kernel.
const LOOK: Duration = Duration::from_millis(2);
/// Bytes of a datagram that fit anywhere; longer ones are sent as a line, cut off.
const MAX_DATAGRAM: usize = 65_000;
/// The number of documentation in RFC 5612, since Weir has none of its own.
const SD_ID: &str = "weir@32473";

pub struct Sender {
    to: Syslog,
    /// `None`: CEF.
    content: Option<Content>,
    origin: Origin,
    open: Option<Open>,
}

enum Open {
    Udp(UdpSocket),
    /// With the descriptor of the socket below.
    Stream(Box<dyn Stream>, RawFd),
}

impl Sender {
    pub fn new(to: Syslog, content: Option<Content>, origin: Origin) -> Self {
        Self { to, content, origin, open: None }
    }

    pub async fn deliver(&mut self, batch: &[Numbered]) -> Result<(), Failed> {
        let result = match tokio::time::timeout(PATIENCE * 3, self.send(batch)).await {
            Ok(result) => result,
            Err(_) => Err(Failed::retry(0, "it takes nothing")),
        };
        if result.as_ref().is_err_and(|f| f.then != super::Then::GiveUp) {
            self.open = None;
        }
        result.map_err(|f| Failed { why: format!("{}:{}: {}", self.to.host, self.to.port, f.why), ..f })
    }

    async fn send(&mut self, batch: &[Numbered]) -> Result<(), Failed> {
        let retry = |e: String| Failed::retry(0, e);
        if let Some(Open::Stream(stream, _)) = &mut self.open
            && let Err(e) = still_open(stream).await
        {
            log::debug!("{}:{}: {e}; connecting anew", self.to.host, self.to.port);
            self.open = None;
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => self.connect().await.map_err(retry)?,
        };
        let messages: Vec<String> = batch.iter().map(|n| self.message(&n.notice)).collect();
        match self.open.insert(open) {
            Open::Udp(socket) => send_datagrams(socket, &messages, batch).await,
            Open::Stream(stream, fd) => send_frames(stream, *fd, &messages).await.map_err(retry),
        }
    }

    async fn connect(&self) -> Result<Open, String> {
        let (host, port) = (self.to.host.as_str(), self.to.port);
        if self.to.transport == Transport::Udp {
            let at = tokio::net::lookup_host((host, port)).await.map_err(|e| e.to_string())?.next();
            let at = at.ok_or("the name has no address")?;
            let any: std::net::SocketAddr = if at.is_ipv4() {
                (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
            } else {
                (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
            };
            let socket = UdpSocket::bind(any).await.map_err(|e| e.to_string())?;
            socket.connect(at).await.map_err(|e| e.to_string())?;
            return Ok(Open::Udp(socket));
        }
        let stream = tls_client::tcp(host, port, PATIENCE).await?;
        let fd = stream.as_raw_fd();
        if self.to.transport == Transport::Tcp {
            return Ok(Open::Stream(Box::new(stream), fd));
        }
        let shaken = tokio::time::timeout(PATIENCE, tls_client::handshake(&self.to.trust, host, stream)).await;
        let stream: tokio_rustls::client::TlsStream<TcpStream> =
            shaken.map_err(|_| format!("TLS: no handshake within {PATIENCE:?}"))??;
        Ok(Open::Stream(Box::new(stream), fd))
    }

    /// A whole record of RFC 5424.
    fn message(&self, notice: &Notice) -> String {
        let head = &notice.head;
        let severity = match head.severity {
            Severity::High => 2,
            Severity::Medium => 4,
            Severity::Low => 6,
        };
        let priority = u32::from(self.to.facility.0) * 8 + severity;
        let time = rfc3339(head.time_us);
        let (host, pid, kind) = (&self.origin.host, std::process::id(), head.kind.name());
        let mut out = format!("<{priority}>1 {time} {host} weir {pid} {kind} ");
        let _ = write!(out, "[{SD_ID} severity=\"{}\"", head.severity.name());
        for (name, value) in [("source", &head.source), ("reason", &head.reason)] {
            if !value.is_empty() {
                let _ = write!(out, " {name}=\"{}\"", parameter(value));
            }
        }
        if head.repeated > 0 {
            let _ = write!(out, " repeated=\"{}\"", head.repeated);
        }
        out.push_str("] ");
        match self.content {
            Some(Content::Line) => out.push_str(&one_line(&notice.line)),
            Some(Content::Json) => out.push_str(&json_line(&notice.event)),
            None => out.push_str(&cef::render(notice, &self.origin)),
        }
        out
    }
}

/// The value of a parameter: `"`, `\` and `]` are escaped, control characters are none of it.
fn parameter(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '"' | '\\' | ']' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Collectors write a line per message, whatever framed it.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Such characters stand in JSON within texts alone, where they can be written otherwise.
fn json_line(json: &str) -> String {
    if !json.contains(char::is_control) {
        return json.to_owned();
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            c if c.is_control() => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

async fn send_datagrams(socket: &UdpSocket, messages: &[String], batch: &[Numbered]) -> Result<(), Failed> {
    for (i, message) in messages.iter().enumerate() {
        if message.len() > MAX_DATAGRAM {
            let number = batch[i].number;
            return Err(Failed::give_up(
                i,
                format!("event {number} has {} bytes, too many for a datagram", message.len()),
            ));
        }
        // An error of an earlier datagram ("connection refused") is told at the next.
        match socket.send(message.as_bytes()).await {
            Ok(_) => {}
            Err(e) if e.raw_os_error() == Some(libc::EMSGSIZE) => {
                return Err(Failed::give_up(i, format!("{} bytes are too many for a datagram here", message.len())));
            }
            Err(e) => return Err(Failed::retry(i.saturating_sub(1), e.to_string())),
        }
    }
    // The refusal of the last one, on this host or a near one.
    tokio::time::sleep(LOOK).await;
    match socket.take_error() {
        Ok(None) => Ok(()),
        Ok(Some(e)) | Err(e) => Err(Failed::retry(messages.len() - 1, e.to_string())),
    }
}

async fn send_frames(stream: &mut Box<dyn Stream>, fd: RawFd, messages: &[String]) -> Result<(), String> {
    let mut frames = Vec::new();
    for message in messages {
        frames.extend_from_slice(format!("{} ", message.len()).as_bytes());
        frames.extend_from_slice(message.as_bytes());
    }
    let write = async {
        stream.write_all(&frames).await?;
        stream.flush().await
    };
    match tokio::time::timeout(PATIENCE, write).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => return Err(format!("the connection broke off: {e}")),
        Err(_) => return Err(format!("nothing was taken for {PATIENCE:?}")),
    }
    let all = async {
        while unacknowledged(fd).map_err(|e| e.to_string())? > 0 {
            still_open(stream).await?;
        }
        Ok::<_, String>(())
    };
    let all = tokio::time::timeout(PATIENCE, all).await;
    all.map_err(|_| format!("nothing was acknowledged for {PATIENCE:?}"))??;
    // A receiver that refuses us says so behind the handshake.
    still_open(stream).await
}

/// Reads what a receiver says, which is nothing unless it ends the connection.
async fn still_open(stream: &mut Box<dyn Stream>) -> Result<(), String> {
    let mut buffer = [0; 256];
    loop {
        match tokio::time::timeout(LOOK, stream.read(&mut buffer)).await {
            Err(_) => return Ok(()),
            Ok(Ok(0)) => return Err("the receiver closed the connection".into()),
            Ok(Ok(_)) => {}
            Ok(Err(e)) => return Err(format!("the connection broke off: {e}")),
        }
    }
}

/// Bytes that the other end's kernel has not acknowledged.
fn unacknowledged(fd: RawFd) -> std::io::Result<i32> {
    let mut n: libc::c_int = 0;
    // SAFETY: the descriptor is that of a stream that the caller holds, and the call writes one int (tcp(7), SIOCOUTQ).
    if unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &mut n) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(n)
}

#[cfg(test)]
#[path = "syslog_tests.rs"]
mod tests;
