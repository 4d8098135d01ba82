//! Looking at a bundle without compiling or running anything of it: to describe it, not to trust it.

use std::path::Path;

use super::error::BundleError;
use super::load::{MANIFEST_FILE, MAX_MANIFEST_BYTES, check_file_name, id_of, parse_manifest, read, sha256_hex};
use super::manifest::Manifest;
use crate::onnx::MAX_MODEL_BYTES;

/// What lies in a bundle's directory.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspected {
    /// As [`super::Bundle::id`] gives it.
    pub id: String,
    pub manifest: Manifest,
    pub manifest_bytes: u64,
    /// The model files in the order of the manifest: autoencoder and isolation forest of each profile.
    pub files: Vec<InspectedFile>,
}

/// A model file that the manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedFile {
    /// Index of the profile in the manifest.
    pub profile: usize,
    /// `autoencoder` or `isolation_forest`.
    pub detector: &'static str,
    pub file: String,
    /// Bytes; 0 where it cannot be read.
    pub bytes: u64,
    pub state: FileState,
}

/// Whether a file is the one that the manifest means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    Matches,
    /// It has another SHA-256, which is given.
    Differs(String),
    /// Why it could not be read.
    Unreadable(String),
}

impl Inspected {
    /// Reads the manifest in `dir`, which must be a manifest of this version, and the hashes of its files.
    pub fn read(dir: &Path) -> Result<Self, BundleError> {
        let bytes = read(dir, MANIFEST_FILE, MAX_MANIFEST_BYTES)?;
        let manifest = parse_manifest(&bytes)?;
        let mut files = Vec::new();
        for (profile, p) in manifest.profiles.iter().enumerate() {
            let models = [("autoencoder", &p.models.autoencoder), ("isolation_forest", &p.models.isolation_forest)];
            for (detector, entry) in models {
                check_file_name(profile, entry)?;
                let (bytes, state) = match read(dir, &entry.file, MAX_MODEL_BYTES) {
                    Ok(bytes) => {
                        let found = sha256_hex(&bytes);
                        let state = if found == entry.sha256 { FileState::Matches } else { FileState::Differs(found) };
                        (bytes.len() as u64, state)
                    }
                    Err(e) => (0, FileState::Unreadable(e.to_string())),
                };
                files.push(InspectedFile { profile, detector, file: entry.file.clone(), bytes, state });
            }
        }
        Ok(Self { id: id_of(&bytes), manifest, manifest_bytes: bytes.len() as u64, files })
    }

    /// Bytes of the manifest and the model files.
    pub fn bytes(&self) -> u64 {
        self.manifest_bytes + self.files.iter().map(|f| f.bytes).sum::<u64>()
    }
}
