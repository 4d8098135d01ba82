//! Of disks, files and certificates that the configuration names.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};

use super::failed;
use crate::api::tls;
use crate::api::x509::Holder;
use crate::config::{Config, EventTarget};
use crate::doctor::finding::Read;
use crate::doctor::storage::{Certificate, Guard, Guarded, Place, Room};
use crate::sinks::settings::{Address, Destination, Syslog};
use crate::tls_client::Trust;

/// The folder itself, or the nearest around it that is there.
fn there(path: &Path) -> &Path {
    path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"))
}

fn room(path: &Path) -> Read<Room> {
    let at = there(path);
    let s = statvfs(at).map_err(|e| failed(at.display(), &e.into()))?;
    Ok(Room {
        free: s.blocks_available() * s.fragment_size(),
        inodes: (s.files() > 0).then(|| s.files_available()),
        read_only: s.flags().contains(FsFlags::ST_RDONLY),
    })
}

/// Bytes of all files below a folder.
fn size(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(m) if m.is_dir() => sum += size(&entry.path()),
            Ok(m) => sum += m.len(),
            Err(_) => {}
        }
    }
    sum
}

pub fn places(config: &Config) -> Vec<Place> {
    let record = if config.record.enabled { config.record.max_size } else { 0 };
    let queues: u64 = config.sinks.iter().map(|s| s.queue_size).sum();
    let most = record + config.store.max_size + queues;
    let state = &config.state_dir;
    let mut all = vec![Place {
        what: "state_dir",
        path: state.clone(),
        room: room(state),
        may_come: most.saturating_sub(size(state)),
    }];
    if let EventTarget::File(path) = &config.log.events {
        let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
        all.push(Place { what: "log.events", room: room(&dir), path: dir, may_come: 0 });
    }
    all
}

fn found(path: &Path) -> Read<Option<(u32, u32)>> {
    match std::fs::metadata(path) {
        Ok(m) => Ok(Some((m.mode(), m.uid()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("it cannot be looked at", &e)),
    }
}

/// Files whose contents are secret, by the key that names them.
pub fn secrets(config: &Config) -> Vec<(String, PathBuf)> {
    let mut all = Vec::new();
    let mut add = |key: String, path: Option<&Path>| all.extend(path.map(|p| (key, p.to_owned())));
    add("crowdsec.api_key_file".into(), config.crowdsec.api_key_file.as_deref().map(Path::new));
    add("api.tls.key".into(), config.api.tls.as_ref().map(|t| t.key.as_path()));
    add("web.tls.key".into(), config.web.tls.as_ref().map(|t| t.key.as_path()));
    for (i, sink) in config.sinks.iter().enumerate() {
        let key = |name: &str| format!("sinks[{i}].{name}");
        add(key("key"), trust(&sink.to).and_then(|t| t.identity.as_ref()).map(|(_, k)| k.as_path()));
        match &sink.to {
            Destination::Webhook(w) => {
                if let Address::File(path) = &w.url {
                    add(key("url_file"), Some(path));
                }
                add(key("secret_file"), w.secret_file.as_deref());
                add(key("token_file"), w.token_file.as_deref());
                add(key("key_file"), w.key_file.as_deref());
            }
            Destination::Kafka(k) => add(key("password_file"), k.login.as_ref().map(|l| l.password_file.as_path())),
            _ => {}
        }
    }
    all
}

fn trust(to: &Destination) -> Option<&Trust> {
    match to {
        Destination::Syslog(Syslog { trust, .. }, _) | Destination::CefSyslog(Syslog { trust, .. }) => Some(trust),
        Destination::Webhook(w) => Some(&w.trust),
        Destination::Kafka(k) => k.trust.as_ref(),
        Destination::Eve(_) | Destination::CefFile(_) | Destination::Journald(_) => None,
    }
}

pub fn guards(config: &Config, file: &Path) -> Vec<Guard> {
    let guard = |what: &str, path: &Path, as_what, optional| Guard {
        what: what.to_owned(),
        path: path.to_owned(),
        as_what,
        found: found(path),
        optional,
    };
    let holds_secrets = *config != config.without_secrets();
    let as_what = if holds_secrets { Guarded::Secret } else { Guarded::Unwritable };
    let mut all = vec![
        guard("configuration", file, as_what, true),
        guard("state_dir", &config.state_dir, Guarded::Private, true),
    ];
    all.extend(secrets(config).iter().map(|(key, path)| guard(key, path, Guarded::Secret, false)));
    all.extend(config.sources.iter().enumerate().map(|(i, s)| {
        let what = format!("sources[{i}].path");
        guard(&what, &s.path, Guarded::Unwritable, false)
    }));
    all
}

pub fn groups(config: &Config) -> Vec<(&'static str, String, bool)> {
    let known = |name: &str| nix::unistd::Group::from_name(name).is_ok_and(|g| g.is_some());
    let named = [("group", &config.group), ("read_group", &config.read_group)];
    named.into_iter().filter_map(|(key, name)| name.as_ref().map(|n| (key, n.clone(), known(n)))).collect()
}

/// The time that all certificates of a file share.
fn validity(path: &Path) -> Read<(u64, u64)> {
    let all = tls::certificates(path).map_err(|e| e.to_string())?;
    let mut whole = (0, u64::MAX);
    for der in &all {
        let holder = Holder::of(der).ok_or("it cannot be understood")?;
        whole = (whole.0.max(holder.not_before), whole.1.min(holder.not_after));
    }
    Ok(whole)
}

/// Whether a key is that of a certificate.
fn pair(cert: &Path, key: &Path) -> Read<()> {
    let chain = tls::certificates(cert).map_err(|e| e.to_string())?;
    let key = match tls::key(key) {
        // What only root reads is the permissions' matter.
        Err(_) if !super::is_root() => return Ok(()),
        key => key.map_err(|e| e.to_string())?,
    };
    let server = rustls::ServerConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions();
    let server = server.map_err(|e| e.to_string())?.with_no_client_auth().with_single_cert(chain, key);
    server.map(drop).map_err(|e| format!("it does not fit its key: {e}"))
}

pub fn certificates(config: &Config) -> Vec<Certificate> {
    let mut all = Vec::new();
    let mut add = |what: String, cert: &Path, key: Option<&Path>| {
        let pair = key.map_or(Ok(()), |key| pair(cert, key));
        all.push(Certificate { what, path: cert.to_owned(), validity: validity(cert), pair });
    };
    if let Some(t) = &config.api.tls {
        add("api.tls.cert".into(), &t.cert, Some(&t.key));
        add("api.tls.client_ca".into(), &t.client_ca, None);
    }
    if let Some(t) = &config.web.tls {
        add("web.tls.cert".into(), &t.cert, Some(&t.key));
    }
    if let Some(ca) = &config.crowdsec.ca_file {
        add("crowdsec.ca_file".into(), ca, None);
    }
    if let Some(ca) = &config.tracing.ca_file {
        add("tracing.ca_file".into(), ca, None);
    }
    for (i, sink) in config.sinks.iter().enumerate() {
        let Some(trust) = trust(&sink.to) else { continue };
        if let Some((cert, key)) = &trust.identity {
            add(format!("sinks[{i}].cert"), cert, Some(key));
        }
        if let Some(ca) = &trust.ca_file {
            add(format!("sinks[{i}].ca_file"), ca, None);
        }
    }
    all
}
