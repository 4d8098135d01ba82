//! A folder of the store that a bundle from elsewhere is written into, file by file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_models::{MANIFEST_FILE, MAX_MANIFEST_BYTES, MAX_MODEL_BYTES};

/// Files of a bundle: the manifest, and two of each profile; there may be a few profiles more one day.
pub const MAX_FILES: usize = 16;
/// Bytes of all files of a bundle together.
pub const MAX_BUNDLE_BYTES: u64 = 256 << 20;

/// Largest file of this name.
pub fn max_bytes(file: &str) -> u64 {
    if file == MANIFEST_FILE { MAX_MANIFEST_BYTES } else { MAX_MODEL_BYTES }
}

/// The folder; gone when dropped, unless the bundle was moved into its place.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    /// How many of these there are is how many have this.
    _slot: Arc<()>,
}

impl Staging {
    pub fn new(path: PathBuf, slot: Arc<()>) -> Self {
        Self { path, _slot: slot }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.path)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            log::warn!("cannot remove {}: {e}", self.path.display());
        }
    }
}
