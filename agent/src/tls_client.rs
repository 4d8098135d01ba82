//! TLS towards other people's servers: syslog collectors, webhooks, brokers, CrowdSec, collectors of traces.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::api::tls::{certificates, key, provider, roots};

/// Whom to trust, and what to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// PEM file with the authorities that are trusted; `None`: those of this host.
    pub ca_file: Option<PathBuf>,
    /// PEM files with our certificate and its key, for servers that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Reads the files anew each time, since they are replaced while the agent runs. Blocks for some small files.
fn connector(trust: &Trust, protocols: &[&[u8]]) -> Result<TlsConnector, String> {
    let roots = match &trust.ca_file {
        Some(path) => certificates(path).and_then(|c| roots(c, path)).map_err(|e| e.to_string())?,
        None => host_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be set up: {e}"))?
        .with_root_certificates(roots);
    let mut config = match &trust.identity {
        None => builder.with_no_client_auth(),
        Some((cert, key_file)) => {
            let chain = certificates(cert).map_err(|e| e.to_string())?;
            let key = key(key_file).map_err(|e| e.to_string())?;
            let wrong = |e| format!("{} and {}: {e}", cert.display(), key_file.display());
            builder.with_client_auth_cert(chain, key).map_err(wrong)?
        }
    };
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The authorities that this host trusts (OpenSSL's folders, or `SSL_CERT_FILE` and `SSL_CERT_DIR`).
fn host_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|e| format!(" ({e})")).unwrap_or_default();
        return Err(format!(
            "this host has no list of trusted authorities{why}; install ca-certificates, or name a `ca_file`"
        ));
    }
    Ok(roots)
}

/// Does the handshake. `host` is the name or address that the certificate must be for.
pub async fn handshake(trust: &Trust, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
    shake(trust, host, stream, &[]).await
}

/// `protocols` are those that are offered within TLS (ALPN); none: it is not asked about.
async fn shake(
    trust: &Trust,
    host: &str,
    stream: TcpStream,
    protocols: &[&[u8]],
) -> Result<TlsStream<TcpStream>, String> {
    let connector = connector(trust, protocols)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("`{host}` is no name for a certificate"))?;
    connector.connect(name, stream).await.map_err(|e| format!("TLS: {}", words(&e)))
}

/// What the handshake found wrong, with what helps.
fn words(e: &std::io::Error) -> String {
    use rustls::{CertificateError, Error};
    match e.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            "the server's certificate comes from an authority that is not trusted; name its PEM file as `ca_file`"
                .into()
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "the server's certificate is for other names than the one that was asked for".into(),
        Some(Error::InvalidMessage(_)) => "what answers there does not speak TLS".into(),
        _ => e.to_string(),
    }
}

/// Connects over TCP within `patience`.
pub async fn tcp(host: &str, port: u16, patience: Duration) -> Result<TcpStream, String> {
    let connect = tokio::time::timeout(patience, TcpStream::connect((host, port)));
    let stream = connect.await.map_err(|_| format!("no connection within {patience:?}"))?.map_err(|e| e.to_string())?;
    // What is sent is whole messages: nothing is gained by gathering them.
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    Ok(stream)
}

/// A connection, with TLS or without.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects, and does the handshake where there is `trust`; each within `patience`.
pub async fn connect(
    host: &str,
    port: u16,
    trust: Option<&Trust>,
    patience: Duration,
) -> Result<Box<dyn Stream>, String> {
    let stream = tcp(host, port, patience).await?;
    let Some(trust) = trust else { return Ok(Box::new(stream)) };
    let shaken = tokio::time::timeout(patience, handshake(trust, host, stream)).await;
    let stream = shaken.map_err(|_| format!("TLS: no handshake within {patience:?}"))??;
    Ok(Box::new(stream))
}

/// Connects to a server of HTTP/2, as those of gRPC are: the connection and the handshake each within `patience`.
pub async fn connect_http2(
    host: &str,
    port: u16,
    trust: &Trust,
    patience: Duration,
) -> Result<TlsStream<TcpStream>, String> {
    let stream = tcp(host, port, patience).await?;
    let shaken = tokio::time::timeout(patience, shake(trust, host, stream, &[b"h2"])).await;
    // A server that does not speak it refuses the handshake; one that says nothing is one that speaks nothing else.
    shaken.unwrap_or_else(|_| Err(format!("TLS: no handshake within {patience:?}")))
}

/// `HOST:PORT`, `HOST` or `[IPV6]:PORT` taken apart; a port of 0 or what is no host is refused.
pub fn host_port(text: &str, default_port: u16) -> Result<(String, u16), String> {
    let wrong =
        || format!("`{text}` names no server; write HOST:PORT, for example collector.example.net:{default_port}");
    let plain =
        |h: &str| !h.is_empty() && !h.contains(|c: char| c.is_whitespace() || c.is_control() || "/@[]".contains(c));
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
        (host, rest.strip_prefix(':').or(rest.is_empty().then_some("")).ok_or_else(wrong)?)
    } else if text.parse::<std::net::Ipv6Addr>().is_ok() {
        (text, "")
    } else {
        text.split_once(':').unwrap_or((text, ""))
    };
    if !plain(host) {
        return Err(wrong());
    }
    let port = if port.is_empty() { default_port } else { port.parse().map_err(|_| wrong())? };
    if port == 0 { Err(wrong()) } else { Ok((host.to_owned(), port)) }
}

/// Whether a file holds certificates that can be trusted: said at the start rather than at the first connection.
pub fn check_ca(path: &Path) -> Result<(), String> {
    certificates(path).and_then(|c| roots(c, path)).map(drop).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_by_host_and_port() {
        let read = |t| host_port(t, 514).map(|(h, p)| format!("{h} {p}"));
        assert_eq!(read("logs.example.net:6514").unwrap(), "logs.example.net 6514");
        assert_eq!(read("192.0.2.1").unwrap(), "192.0.2.1 514");
        assert_eq!(read("2001:db8::1").unwrap(), "2001:db8::1 514");
        assert_eq!(read("[2001:db8::1]:99").unwrap(), "2001:db8::1 99");
        for bad in ["", ":514", "host:0", "host:x", "host:70000", "a b", "user@host", "[::1", "http://host", "[::1]9"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
