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

    /// A local API behind TLS, with a certificate for 127.0.0.1; the PEM of who has signed it.
    async fn behind_tls() -> (u16, String, tokio::sync::mpsc::Receiver<String>) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(crate::api::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (to, asked) = tokio::sync::mpsc::channel(8);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = vec![0; 4096];
                let n = stream.read(&mut request).await.unwrap();
                to.send(String::from_utf8_lossy(&request[..n]).into_owned()).await.unwrap();
                let body = "{\"new\": [], \"deleted\": []}";
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                stream.shutdown().await.ok();
            }
        });
        (port, made.cert.pem(), asked)
    }

    #[tokio::test]
    async fn https_is_spoken_with_whom_the_authority_vouches_for_and_nobody_else() {
        use sha2::Digest as _;
        let dir = tempfile::tempdir().unwrap();
        let (port, pem, mut asked) = behind_tls().await;
        let (_, other, _) = behind_tls().await;
        let config = |host: &str, ca: Option<&str>| {
            let ca_file = ca.map(|text| {
                let path = dir.path().join(format!("{:x}.pem", sha2::Sha256::digest(text)));
                fs::write(&path, text).unwrap();
                path
            });
            let (url, api_key) = (Some(format!("https://{host}:{port}/")), Some("KEY".to_owned()));
            CrowdSec { url, api_key, ca_file, ..CrowdSec::default() }
        };
        let ask = async |config: CrowdSec| Client::new(&config).unwrap().stream(true).await;
        let answer = ask(config("127.0.0.1", Some(&pem))).await.unwrap();
        assert_eq!(answer, b"{\"new\": [], \"deleted\": []}");
        let request = asked.recv().await.unwrap().to_lowercase();
        assert!(request.starts_with("get /v1/decisions/stream?startup=true http/1.1"), "{request}");
        assert!(
            request.contains("x-api-key: key") && request.contains(&format!("host: 127.0.0.1:{port}")),
            "{request}"
        );
        for (config, words) in [
            (config("127.0.0.1", Some(&other)), "an authority that is not trusted"),
            (config("localhost", Some(&pem)), "is for other names"),
            (config("127.0.0.1", Some("no pem")), "holds no certificate in PEM"),
        ] {
            let refused = ask(config).await.unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
        assert!(asked.try_recv().is_err(), "no key went to anybody else");
    }
}
