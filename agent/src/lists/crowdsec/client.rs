//! One question to the API over HTTP, bounded in time and size.

use std::fs;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::config::CrowdSec;

/// For the connection, and for the answer's head.
const PATIENCE: Duration = Duration::from_secs(10);
/// For the whole answer.
const WHOLE: Duration = Duration::from_secs(120);
/// Bytes of an answer: more than a million decisions.
const MAX_BODY: usize = 512 << 20;
const MAX_KEY: usize = 4096;

#[derive(Debug)]
pub struct Client {
    uri: Uri,
    host: String,
    port: u16,
    key: String,
}

/// Whether it can be asked at all.
pub fn check_url(url: &str) -> Result<(), String> {
    parse(url).map(|_| ())
}

fn parse(url: &str) -> Result<(Uri, String, u16), String> {
    let wrong = |why: &str| format!("`{url}` cannot be asked: {why}; write for example http://127.0.0.1:8080");
    let uri: Uri = url.parse().map_err(|_| wrong("it is no URL"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(wrong("this build speaks plain HTTP alone; let a local proxy or tunnel speak TLS"));
        }
        _ => return Err(wrong("it does not begin with http://")),
    }
    let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("a key belongs into `crowdsec.api_key_file`"));
    }
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let port = authority.port_u16().unwrap_or(80);
    Ok((uri.clone(), host, port))
}

impl Client {
    pub fn new(config: &CrowdSec) -> Result<Self, String> {
        let (uri, host, port) = parse(config.url.as_deref().unwrap_or_default())?;
        let key = match (&config.api_key, &config.api_key_file) {
            (Some(key), _) => key.clone(),
            (None, Some(path)) => {
                fs::read_to_string(path).map_err(|e| format!("the key in {path} cannot be read: {e}"))?
            }
            (None, None) => return Err("no key is configured".to_owned()),
        };
        let key = key.trim().to_owned();
        if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("the configured key is none: it is one word".to_owned());
        }
        Ok(Self { uri, host, port, key })
    }

    /// What is decided: everything, or what has changed since the last question.
    pub async fn stream(&self, whole: bool) -> Result<Vec<u8>, String> {
        let at = format!("{}:{}", self.host, self.port);
        let all = tokio::time::timeout(WHOLE, self.get(whole));
        all.await
            .map_err(|_| format!("no whole answer came from {at} within {WHOLE:?}"))?
            .map_err(|e| format!("{at}: {e}"))
    }

    async fn get(&self, whole: bool) -> Result<Vec<u8>, String> {
        let connect = tokio::time::timeout(PATIENCE, TcpStream::connect((self.host.as_str(), self.port)));
        let stream =
            connect.await.map_err(|_| format!("no connection within {PATIENCE:?}"))?.map_err(|e| e.to_string())?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let driven = tokio::spawn(connection);
        let answer = self.ask(&mut sender, whole).await;
        driven.abort();
        answer
    }

    async fn ask(
        &self,
        sender: &mut hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
        whole: bool,
    ) -> Result<Vec<u8>, String> {
        let base = self.uri.path().trim_end_matches('/');
        let path = format!("{base}/v1/decisions/stream?startup={whole}");
        let host = self.uri.authority().map(|a| a.as_str()).unwrap_or_default();
        let request = Request::get(path)
            .header(header::HOST, host)
            .header(header::USER_AGENT, concat!("weir/v", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json")
            .header(header::CONNECTION, "close")
            .header("X-Api-Key", &self.key)
            .body(Empty::new())
            .map_err(|e| e.to_string())?;
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request));
        let answer = answer.await.map_err(|_| format!("no answer within {PATIENCE:?}"))?.map_err(|e| e.to_string())?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                return Err(format!("it refuses the key ({}); `cscli bouncers add weir` makes one", answer.status()));
            }
            other => return Err(format!("it answers {other}")),
        }
        let body = Limited::new(answer.into_body(), MAX_BODY)
            .collect()
            .await
            .map_err(|e| format!("the answer broke off: {e}"))?;
        Ok(body.to_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_asked_is_taken_for_a_url() {
        assert!(check_url("http://127.0.0.1:8080").is_ok() && check_url("http://[::1]:8080/crowdsec/").is_ok());
        for bad in ["127.0.0.1:8080", "ftp://x", "http://", "http://key@host", "unix:///x", ""] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
        assert!(check_url("https://127.0.0.1").unwrap_err().contains("plain HTTP"));
        assert_eq!(parse("http://[::1]/").unwrap().1, "::1");
    }
}
