//! The page's certificate, read again when its files change.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use crate::api::tls::{self, TlsError};
use crate::config::WebTls;

/// Files are looked at this often.
const EVERY: Duration = Duration::from_secs(5);

type Stamps = [Option<SystemTime>; 2];

pub(super) struct Certificates {
    config: WebTls,
    held: Mutex<Held>,
}

struct Held {
    server: Arc<ServerConfig>,
    stamps: Stamps,
    looked: Instant,
}

fn stamps(config: &WebTls) -> Stamps {
    let changed = |p: &PathBuf| std::fs::metadata(p).and_then(|m| m.modified()).ok();
    [changed(&config.cert), changed(&config.key)]
}

fn load(config: &WebTls) -> Result<Arc<ServerConfig>, TlsError> {
    tls::closed_to_others(&config.key)?;
    let (chain, key) = (tls::certificates(&config.cert)?, tls::key(&config.key)?);
    let unusable =
        |e: rustls::Error| TlsError::Unusable(format!("{} and {}: {e}", config.cert.display(), config.key.display()));
    let mut server = ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}

impl Certificates {
    pub fn load(config: &WebTls) -> Result<Self, TlsError> {
        let stamps = stamps(config);
        let held = Held { server: load(config)?, stamps, looked: Instant::now() };
        Ok(Self { config: config.clone(), held: Mutex::new(held) })
    }

    /// For the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.looked.elapsed() >= EVERY {
            held.looked = Instant::now();
            let now = stamps(&self.config);
            if now != held.stamps {
                match load(&self.config) {
                    Ok(server) => {
                        (held.server, held.stamps) = (server, now);
                        log::info!("read the web page's certificate again");
                    }
                    // What was in force stays.
                    Err(e) => log::warn!("the web page's new certificate is not in force: {e}"),
                }
            }
        }
        TlsAcceptor::from(held.server.clone())
    }
}
