//! HTTP/1.1 towards other people's servers, with TLS or without, bounded in time and size. Nothing is followed and nothing is cached:
//! an answer is what the server named in the configuration says.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use crate::tls_client::{self, Trust};

/// Where to ask. Its `Display` leaves out the path, which may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub https: bool,
    pub host: String,
    pub port: u16,
    /// As it stands in the URL, for the header `Host`.
    authority: String,
    /// With the query; never empty.
    pub path: String,
}

impl Url {
    /// The error says what is wrong and does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "it is no URL")?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("it does not begin with http:// or https://"),
        };
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("it holds a user or key, which belongs into a file");
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err("it names no host");
        }
        let port = match authority.port() {
            None if https => 443,
            None => 80,
            Some(p) if p.as_u16() != 0 => p.as_u16(),
            Some(_) => return Err("its port is 0"),
        };
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { https, host, port, authority: authority.as_str().to_owned(), path })
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

/// How long to wait, and how much to take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For the connection, for the handshake and for the answer's head, each.
    pub patience: Duration,
    /// For all of it.
    pub whole: Duration,
    /// Bytes of an answer's body.
    pub body: usize,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// One server, and the connection to it while it is open.
#[derive(Debug)]
pub struct Client {
    url: Url,
    trust: Trust,
    bounds: Bounds,
    kept: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    pub fn new(url: Url, trust: Trust, bounds: Bounds) -> Self {
        Self { url, trust, bounds, kept: None }
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Sends a request; `Host` and `User-Agent` are added. The connection is kept for the next one unless the server closes it.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let whole = self.bounds.whole;
        let answer = tokio::time::timeout(whole, self.exchange(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no whole answer within {whole:?}")));
        if answer.is_err() {
            // What may still come on it belongs to a request that is given up.
            self.kept = None;
        }
        answer
    }

    async fn exchange(&mut self, mut request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let headers = request.headers_mut();
        let host = self.url.authority.parse().map_err(|_| "the host cannot be sent as a header".to_owned())?;
        headers.insert(header::HOST, host);
        let agent = header::HeaderValue::from_static(concat!("weir/v", env!("CARGO_PKG_VERSION")));
        headers.entry(header::USER_AGENT).or_insert(agent);
        let mut kept = self.kept.take();
        if let Some(connection) = &mut kept
            && connection.sender.ready().await.is_err()
        {
            kept = None;
        }
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let patience = self.bounds.patience;
        let answer = tokio::time::timeout(patience, connection.sender.send_request(request)).await;
        let answer = answer
            .map_err(|_| format!("no answer within {patience:?}"))?
            .map_err(|e| format!("the connection broke off: {e}"))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, self.bounds.body).collect().await;
        let body = body.map_err(|e| format!("the answer broke off: {e}"))?.to_bytes();
        let closes = head.headers.get(header::CONNECTION).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"close"));
        if !closes {
            self.kept = Some(connection);
        }
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    async fn connect(&self) -> Result<Connection, String> {
        let url = &self.url;
        let trust = url.https.then_some(&self.trust);
        let stream = tls_client::connect(&url.host, url.port, trust, self.bounds.patience).await?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        // It ends with the connection.
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Connection { sender, driver })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_asked_is_taken_for_a_url() {
        for (text, port, path) in [
            ("http://127.0.0.1:8080", 8080, "/"),
            ("https://hooks.example.net/a/b?c=d", 443, "/a/b?c=d"),
            ("http://[::1]/crowdsec/", 80, "/crowdsec/"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.port, url.path.as_str()), (port, path), "{text}");
        }
        for bad in ["127.0.0.1:8080", "ftp://x", "http://", "http://key@host", "unix:///x", "", "http://h:0/", "/a"] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Url::parse("http://[::1]/").unwrap().host, "::1");
        let shown = Url::parse("https://hooks.example.net/services/SECRET").unwrap().to_string();
        assert_eq!(shown, "https://hooks.example.net");
    }
}
