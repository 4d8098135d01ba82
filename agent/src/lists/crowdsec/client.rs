//! One question to the API over HTTP, bounded in time and size.

use std::fs;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};

use crate::config::CrowdSec;
use crate::http_client::{self, Bounds, Url};
use crate::tls_client::Trust;

const BOUNDS: Bounds = Bounds {
    patience: Duration::from_secs(10),
    whole: Duration::from_secs(120),
    // More than a million decisions.
    body: 512 << 20,
};
const MAX_KEY: usize = 4096;

#[derive(Debug)]
pub struct Client {
    http: http_client::Client,
    key: String,
}

/// Whether it can be asked at all.
pub fn check_url(url: &str) -> Result<(), String> {
    parse(url).map(|_| ())
}

fn parse(url: &str) -> Result<Url, String> {
    Url::parse(url).map_err(|why| {
        format!(
            "`{url}` cannot be asked: {why}; write for example http://127.0.0.1:8080, and the key into `crowdsec.api_key_file`"
        )
    })
}

impl Client {
    pub fn new(config: &CrowdSec) -> Result<Self, String> {
        let url = parse(config.url.as_deref().unwrap_or_default())?;
        let trust = Trust { ca_file: config.ca_file.clone(), identity: None };
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
        Ok(Self { http: http_client::Client::new(url, trust, BOUNDS), key })
    }

    /// What is decided: everything, or what has changed since the last question.
    pub async fn stream(&mut self, whole: bool) -> Result<Vec<u8>, String> {
        let url = self.http.url();
        let at = format!("{}:{}", url.host, url.port);
        self.get(whole).await.map_err(|e| format!("{at}: {e}"))
    }

    async fn get(&mut self, whole: bool) -> Result<Vec<u8>, String> {
        let path = self.http.url().path.split('?').next().unwrap_or_default();
        let path = format!("{}/v1/decisions/stream?startup={whole}", path.trim_end_matches('/'));
        let request = Request::get(path)
            .header(header::ACCEPT, "application/json")
            .header(header::CONNECTION, "close")
            .header("X-Api-Key", &self.key)
            .body(Full::<Bytes>::default())
            .map_err(|e| e.to_string())?;
        let answer = self.http.send(request).await?;
        match answer.status {
            StatusCode::OK => Ok(answer.body.into()),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                Err(format!("it refuses the key ({}); `cscli bouncers add weir` makes one", answer.status))
            }
            other => Err(format!("it answers {other}")),
        }
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
        assert!(check_url("https://127.0.0.1").is_ok());
    }
}
