//! The control socket: mode 0660, an optional group, one agent on it, no leftovers in the way.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Group, chown};
use tokio::net::UnixListener;

use crate::lock::{Lock, LockError};

/// `sun_path` holds 108 bytes with its terminating zero.
const MAX_PATH: usize = 107;

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(transparent)]
    InUse(#[from] LockError),
    #[error("{} exists and is no socket; move it away or set `socket` to another path", .0.display())]
    NotASocket(PathBuf),
    #[error("the socket path {} is too long: {} bytes, at most {}", .0.display(), .0.as_os_str().len(), MAX_PATH - SUFFIX.len())]
    TooLong(PathBuf),
    #[error("there is no group `{0}`; create it with `groupadd --system {0}` or change `group` in the configuration")]
    NoGroup(String),
    #[error("cannot listen on {at}: {cause}; `api.listen` names an address of this host that no other program uses")]
    Tcp { at: std::net::SocketAddr, cause: io::Error },
    #[error("cannot {doing} {}: {cause}", path.display())]
    Io { doing: &'static str, path: PathBuf, cause: io::Error },
}

/// Appended while the socket is not yet as it should be.
const SUFFIX: &str = ".new";

/// A bound socket; dropping it removes the path if it is still ours.
#[derive(Debug)]
pub struct ControlSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    inode: u64,
    _lock: Lock,
}

impl ControlSocket {
    /// Binds beside the path, sets mode and group, and renames into place: nobody ever meets a half-made socket, and a
    /// stale one is replaced. Needs a tokio runtime.
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Self, BindError> {
        Self::bind_for(path, group, false)
    }

    /// With `open`, everybody on this host may connect, and credentials alone decide: one file cannot be for two groups.
    pub fn bind_for(path: &Path, group: Option<&str>, open: bool) -> Result<Self, BindError> {
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |cause| BindError::Io { doing, path, cause }
        };
        if path.as_os_str().len() + SUFFIX.len() > MAX_PATH {
            return Err(BindError::TooLong(path.to_owned()));
        }
        let gid = match group {
            Some(name) => {
                let found = Group::from_name(name).map_err(|e| io("look up the group of", path)(e.into()))?;
                Some(found.ok_or_else(|| BindError::NoGroup(name.to_owned()))?.gid)
            }
            None => None,
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io("create the folder", parent))?;
        }
        let lock = Lock::acquire(&with_suffix(path, ".lock"), &format!("the socket {}", path.display()))?;
        match fs::symlink_metadata(path) {
            Ok(meta) if !meta.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
            // Holding the lock, we know that nobody serves it.
            Ok(_) => log::info!("replacing {}, which an agent left behind", path.display()),
            Err(_) => {}
        }
        let new = with_suffix(path, SUFFIX);
        match fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io("remove", &new)(e)),
            _ => {}
        }
        let listener = UnixListener::bind(&new).map_err(io("bind", &new))?;
        if let Some(gid) = gid {
            chown(&new, None, Some(gid)).map_err(|e| io("set the group of", &new)(e.into()))?;
        }
        let mode = if open { 0o666 } else { 0o660 };
        fs::set_permissions(&new, Permissions::from_mode(mode)).map_err(io("set the mode of", &new))?;
        fs::rename(&new, path).map_err(io("put into place", path))?;
        let inode = fs::symlink_metadata(path).map_err(io("look at", path))?.ino();
        Ok(Self { listener, path: path.to_owned(), inode, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What serves connections, and what cleans up when dropped.
    pub(super) fn split(self) -> (UnixListener, Cleanup) {
        let Self { listener, path, inode, _lock } = self;
        (listener, Cleanup { path, inode, _lock })
    }
}

#[derive(Debug)]
pub(super) struct Cleanup {
    path: PathBuf,
    inode: u64,
    _lock: Lock,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode);
        if ours && let Err(e) = fs::remove_file(&self.path) {
            log::warn!("cannot remove the socket {}: {e}", self.path.display());
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
