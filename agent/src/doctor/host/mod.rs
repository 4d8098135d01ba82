//! Reading the host: what the judgements are made of. Nothing here is changed, and what cannot be read says why.

pub mod files;
pub mod kernel;
pub mod net;
pub mod pins;

use std::io;
use std::path::Path;

use super::finding::Read;

/// What a file says, without the white space around it.
pub fn text(path: impl AsRef<Path>) -> Read<String> {
    let path = path.as_ref();
    std::fs::read_to_string(path).map(|t| t.trim().to_owned()).map_err(|e| failed(path.display(), &e))
}

/// Why something could not be read, with what would help.
pub fn failed(what: impl std::fmt::Display, e: &io::Error) -> String {
    let hint = match e.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => " (takes root)",
        _ => "",
    };
    format!("{what}: {e}{hint}")
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
