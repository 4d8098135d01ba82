//! Lock files: one holder at a time, gone with the process.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{what} is in use by {}; stop it first, or see `weir status` and `weir doctor`", name_holder(.pid))]
    Held { what: String, pid: Option<i32> },
    #[error("cannot lock {}: {cause}{}", path.display(), crate::store::room(cause.kind() == io::ErrorKind::StorageFull))]
    Io { path: PathBuf, cause: io::Error },
}

fn name_holder(pid: &Option<i32>) -> String {
    pid.map_or("another process".into(), |p| format!("process {p}"))
}

/// Held until dropped. The file stays, unless it is discarded.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock at `path`, or says who holds `what`.
    pub fn acquire(path: &Path, what: &str) -> Result<Lock, LockError> {
        let io = |cause| LockError::Io { path: path.to_owned(), cause };
        // Held for reading alone: an operator can make the file system read-only meanwhile.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_CREAT).mode(0o600).open(path).map_err(io)?;
        let opened = file.metadata().map_err(io)?.ino();
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            // Whoever held it has discarded it meanwhile: this is nobody's lock any more.
            Ok(_) if !std::fs::metadata(path).is_ok_and(|m| m.ino() == opened) => Self::acquire(path, what),
            Ok(file) => {
                let mut note = OpenOptions::new().write(true).truncate(true).open(path).map_err(io)?;
                writeln!(note, "{}", std::process::id()).map_err(io)?;
                Ok(Lock { _file: file, path: path.to_owned() })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                // Only for the message.
                let _ = file.read_to_string(&mut text);
                Err(LockError::Held { what: what.to_owned(), pid: text.trim().parse().ok() })
            }
            Err((_, errno)) => Err(io(errno.into())),
        }
    }

    /// Gives it up for good: the file goes too.
    pub fn discard(self) {
        // While it is held: whoever has opened it and waits to lock it looks again.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_holder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("eth0.lock");
        let first = Lock::acquire(&path, "interface eth0").unwrap();
        let refused = Lock::acquire(&path, "interface eth0").unwrap_err().to_string();
        assert_eq!(
            refused,
            format!(
                "interface eth0 is in use by process {}; stop it first, or see `weir status` and `weir doctor`",
                std::process::id()
            )
        );
        drop(first);
        let again = Lock::acquire(&path, "interface eth0").unwrap();
        again.discard();
        assert!(!path.exists());
        Lock::acquire(&path, "interface eth0").unwrap();
    }
}
