//! A bundle on its way to the agent, file by file. The client reads what its user may read, wherever that is mounted; the agent
//! reads no path that a client names.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use weir_models::{FileState, Inspected, MANIFEST_FILE};

use super::client::ClientError;
use crate::command::Purpose;
use crate::model::{MAX_BUNDLE_BYTES, MAX_FILES, max_bytes};
use crate::proto::load_model_request::Part;
use crate::proto::{self as pb, LoadPurpose};

/// Bytes of a message.
const CHUNK: usize = 256 << 10;
/// Of one that others send.
const MAX_CHUNK: usize = 1 << 20;
/// A client that sends nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The files of the bundle in `dir`, the manifest first. What cannot be sent is an error here, with words that help.
pub fn files(dir: &Path) -> Result<Vec<(String, PathBuf)>, ClientError> {
    let failed = |why: String| ClientError::Bundle(format!("{} is no bundle: {why}", dir.display()));
    if !dir.is_dir() {
        let why = format!("there is no such folder; a bundle is a folder with {MANIFEST_FILE} and its models in it");
        return Err(failed(why));
    }
    let found = Inspected::read(dir).map_err(|e| failed(e.reason()))?;
    let mut files = vec![(MANIFEST_FILE.to_owned(), dir.join(MANIFEST_FILE))];
    for f in found.files {
        if let FileState::Unreadable(why) = f.state {
            return Err(failed(why));
        }
        // Two profiles may name one file.
        if !files.iter().any(|(name, _)| *name == f.file) {
            files.push((f.file.clone(), dir.join(&f.file)));
        }
    }
    Ok(files)
}

/// The messages, read while they are sent. What goes wrong on the way is left in `failed`.
pub fn parts(
    files: Vec<(String, PathBuf)>,
    purpose: Purpose,
    failed: Arc<Mutex<Option<String>>>,
) -> ReceiverStream<pb::LoadModelRequest> {
    let (to, stream) = mpsc::channel(2);
    let send = move |part: Part| to.blocking_send(pb::LoadModelRequest { part: Some(part) }).is_ok();
    std::thread::spawn(move || {
        let purpose = match purpose {
            Purpose::Serve => LoadPurpose::Unspecified,
            Purpose::Promote => LoadPurpose::Promote,
            Purpose::Challenge => LoadPurpose::Challenge,
        };
        if !send(Part::Start(pb::LoadModelStart { purpose: purpose.into() })) {
            return;
        }
        for (name, path) in files {
            let pass = || -> std::io::Result<bool> {
                let mut file = std::fs::File::open(&path)?;
                let mut more = send(Part::File(name.clone()));
                while more {
                    let mut data = Vec::with_capacity(CHUNK);
                    if file.by_ref().take(CHUNK as u64).read_to_end(&mut data)? == 0 {
                        break;
                    }
                    more = send(Part::Data(data));
                }
                Ok(more)
            };
            match pass() {
                Ok(true) => {}
                // The agent hung up, and says why.
                Ok(false) => return,
                Err(e) => {
                    let words = format!("cannot read {}: {e}", path.display());
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
                    return;
                }
            }
        }
    });
    ReceiverStream::new(stream)
}

/// A file name, and no path.
fn plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Writes what comes into the folder, within bounds.
pub async fn receive(mut stream: Streaming<pb::LoadModelRequest>, into: &Path) -> Result<Purpose, Status> {
    let invalid = Status::invalid_argument;
    let broken = |e: std::io::Error| Status::internal(format!("cannot write into {}: {e}", into.display()));
    let mut purpose = None;
    let mut file: Option<(tokio::fs::File, String, u64)> = None;
    let (mut files, mut total) = (0, 0u64);
    loop {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await;
        let next = next.map_err(|_| Status::deadline_exceeded(format!("nothing came for {PATIENCE:?}")))??;
        let Some(part) = next.map(|m| m.part) else { break };
        match part {
            Some(Part::Start(start)) if purpose.is_none() => {
                purpose = Some(match LoadPurpose::try_from(start.purpose) {
                    Ok(LoadPurpose::Unspecified) => Purpose::Serve,
                    Ok(LoadPurpose::Promote) => Purpose::Promote,
                    Ok(LoadPurpose::Challenge) => Purpose::Challenge,
                    Err(e) => return Err(invalid(format!("`purpose`: {e}"))),
                });
            }
            Some(Part::File(name)) if purpose.is_some() => {
                if let Some((mut done, ..)) = file.take() {
                    done.flush().await.map_err(broken)?;
                }
                files += 1;
                if !plain(&name) || files > MAX_FILES {
                    let words = format!(
                        "`{name}`: a bundle has at most {MAX_FILES} files with plain names of letters, digits, `.`, `_` and `-`"
                    );
                    return Err(invalid(words));
                }
                let created = tokio::fs::File::options().write(true).create_new(true).open(into.join(&name)).await;
                file = Some((created.map_err(broken)?, name, 0));
            }
            Some(Part::Data(data)) if data.len() > MAX_CHUNK => {
                let words = format!("a message has {} bytes of the file; send at most {MAX_CHUNK} at once", data.len());
                return Err(invalid(words));
            }
            Some(Part::Data(data)) => {
                let Some((out, name, bytes)) = &mut file else {
                    return Err(invalid("bytes came before the name of their file".to_owned()));
                };
                *bytes += data.len() as u64;
                total += data.len() as u64;
                if *bytes > max_bytes(name) {
                    return Err(invalid(format!(
                        "{name} has more than {} bytes, the most that are read",
                        max_bytes(name)
                    )));
                }
                if total > MAX_BUNDLE_BYTES {
                    return Err(invalid(format!(
                        "the bundle has more than {MAX_BUNDLE_BYTES} bytes, the most that are read"
                    )));
                }
                out.write_all(&data).await.map_err(broken)?;
            }
            _ => return Err(invalid("the first message says what the bundle is for, and only that one".to_owned())),
        }
    }
    if let Some((mut done, ..)) = file {
        done.flush().await.map_err(broken)?;
    }
    match purpose {
        Some(purpose) if files > 0 => Ok(purpose),
        _ => Err(invalid("no file came: a bundle is its manifest and its models".to_owned())),
    }
}
