//! Certificates of the TCP side: the server's own, and the authority that clients' must come from.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::config::ApiTls;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {}: {cause}", path.display())]
    Read { path: PathBuf, cause: io::Error },
    #[error("{} is too large for a certificate: {size} bytes, at most {MAX_FILE}", path.display())]
    Large { path: PathBuf, size: u64 },
    #[error("{} holds no {what} in PEM; `weir tls init` makes them", path.display())]
    Pem { path: PathBuf, what: &'static str },
    #[error("everybody on this host can read the key {}; run `chmod 600` on it", .0.display())]
    Readable(PathBuf),
    #[error("the certificates cannot be used: {0}")]
    Unusable(String),
}

const MAX_FILE: u64 = 1 << 20;

/// What a file was when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(u64, u64, i64, i64);

fn stamp(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).ok().map(|m| Stamp(m.ino(), m.size(), m.mtime(), m.mtime_nsec()))
}

/// What the server shows and trusts.
#[derive(Debug)]
pub struct Trust {
    pub(super) config: ApiTls,
    pub(super) server: Arc<ServerConfig>,
    /// Of the authority's certificates: the same for the same contents.
    pub(super) authority: u64,
    stamps: [Option<Stamp>; 3],
}

impl Trust {
    pub fn load(config: &ApiTls) -> Result<Self, TlsError> {
        let paths = [&config.cert, &config.key, &config.client_ca];
        // Before the contents: what changes in between is read again.
        let stamps = paths.map(|p| stamp(p));
        closed_to_others(&config.key)?;
        let chain = certificates(&config.cert)?;
        let key = key(&config.key)?;
        let trusted = certificates(&config.client_ca)?;
        let mut hasher = DefaultHasher::new();
        trusted.hash(&mut hasher);
        let unusable = |e: &dyn std::fmt::Display| TlsError::Unusable(e.to_string());
        let roots = Arc::new(roots(trusted, &config.client_ca)?);
        let provider = provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build();
        let verifier = verifier.map_err(|e| unusable(&e))?;
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
        let mut server = builder
            .map_err(|e| unusable(&e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|e| unusable(&format!("{} and {}: {e}", config.cert.display(), config.key.display())))?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        // Every connection shows its certificate anew.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self { config: config.clone(), server: Arc::new(server), authority: hasher.finish(), stamps })
    }

    /// The files are not those that were read.
    pub(super) fn changed(&self) -> bool {
        [&self.config.cert, &self.config.key, &self.config.client_ca].map(|p| stamp(p)) != self.stamps
    }
}

/// A key that everybody can read is none.
pub fn closed_to_others(key: &Path) -> Result<(), TlsError> {
    match std::fs::metadata(key) {
        Ok(meta) if meta.permissions().mode() & 0o007 != 0 => Err(TlsError::Readable(key.to_owned())),
        // What cannot be looked at cannot be read either, which says more.
        _ => Ok(()),
    }
}

pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |cause| TlsError::Read { path: path.to_owned(), cause };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_FILE {
        return Err(TlsError::Large { path: path.to_owned(), size });
    }
    std::fs::read(path).map_err(failed)
}

pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let wrong = || TlsError::Pem { path: path.to_owned(), what: "certificate" };
    let all: Vec<_> = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|_| wrong())?;
    if all.is_empty() { Err(wrong()) } else { Ok(all) }
}

pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| TlsError::Pem { path: path.to_owned(), what: "private key" })
}

pub fn roots(certificates: Vec<CertificateDer<'static>>, path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|e| TlsError::Unusable(format!("{}: {e}", path.display())))?;
    }
    Ok(roots)
}

/// What TLS found wrong, somewhere below an error, in words for whoever connected.
pub fn words(e: &(dyn std::error::Error + 'static)) -> Option<String> {
    use rustls::{AlertDescription, CertificateError, Error};
    let mut next = Some(e);
    while let Some(e) = next {
        let inner = e.downcast_ref::<io::Error>().and_then(io::Error::get_ref).and_then(|e| e.downcast_ref::<Error>());
        if let Some(found) = inner.or_else(|| e.downcast_ref::<Error>()) {
            let ours = "the certificate that we showed";
            return Some(match found {
                Error::AlertReceived(AlertDescription::CertificateRequired) => {
                    "the agent wants a certificate; name one with --cert and --key".into()
                }
                Error::AlertReceived(AlertDescription::CertificateExpired) => {
                    format!("{ours} has expired; ask for a new one (`weir tls client NAME` on the agent's host)")
                }
                Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::DecryptError) => {
                    format!(
                        "the agent does not trust the authority of {ours}; it must come from the agent's `api.tls.client_ca`"
                    )
                }
                Error::AlertReceived(
                    alert @ (AlertDescription::BadCertificate
                    | AlertDescription::UnsupportedCertificate
                    | AlertDescription::CertificateRevoked
                    | AlertDescription::CertificateUnknown),
                ) => format!("the agent refuses {ours} ({alert:?}); is it a client's certificate?"),
                Error::AlertReceived(alert) => format!("the agent ended TLS ({alert:?})"),
                Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                    "the agent's certificate comes from another authority than --ca names".into()
                }
                Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                    "the agent's certificate has expired; make a new one there (`weir tls server`)".into()
                }
                Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                ) => {
                    "the agent's certificate is for other names; use one of them as --host, or make one for this name \
                      there (`weir tls server --name NAME`)"
                        .into()
                }
                Error::InvalidMessage(_) => {
                    "what answers there does not speak TLS; is it the agent's `api.listen`?".into()
                }
                other => format!("TLS: {other}"),
            });
        }
        // An error that wraps another as its source, or an I/O error as its inner one.
        next = match e.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => e.source(),
        };
    }
    None
}
