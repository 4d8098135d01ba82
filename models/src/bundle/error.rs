use std::io;
use std::path::PathBuf;

use crate::onnx::GraphError;
use crate::runner::RunError;
use crate::trees::TreeError;

impl BundleError {
    /// The reason without the folder: for those who copied the bundle there, and whose caller knows it by another name.
    pub fn reason(&self) -> String {
        match self {
            BundleError::Refused { reason, .. } => reason.clone(),
            BundleError::Child { cause, .. } => format!("checking it in a child process failed: {cause}"),
            other => other.to_string(),
        }
    }
}

/// Why a bundle was refused or could not be written. The bundle in use, if any, goes on serving.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is no regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("{file} has {found} bytes, at most {max} are read")]
    TooLarge { file: String, found: u64, max: u64 },
    #[error("manifest.yaml does not parse: {0}")]
    Manifest(String),
    #[error("manifest.yaml is of bundle version {found}, this build reads version {expected}: train the bundle again")]
    Version { found: u32, expected: u32 },
    #[error("manifest.yaml, {place}: {what} is {found}, expected {expected}")]
    Mismatch { place: String, what: &'static str, found: String, expected: String },
    #[error(
        "{file} has SHA-256 {found}, the manifest says {expected}: the file was changed or belongs to another bundle"
    )]
    Hash { file: String, found: String, expected: String },
    #[error("{file}: {source}")]
    Graph { file: String, source: Box<GraphError> },
    #[error("{file}: {source}")]
    Trees { file: String, source: TreeError },
    #[error("{file}: {source}")]
    Run { file: String, source: RunError },
    #[error(
        "{file}: golden vector {index} scores {found}, expected {expected} within {tolerance} (relative): the file does not \
         belong to this manifest, or this machine computes otherwise than the one it was made on"
    )]
    Golden { file: String, index: usize, found: f32, expected: f32, tolerance: f32 },
    #[error("{} exists and is no bundle: choose another directory", path.display())]
    Occupied { path: PathBuf },
    /// What [`super::Bundle::load`] said in the child process.
    #[error("{} is refused: {reason}", dir.display())]
    Refused { dir: PathBuf, reason: String },
    #[error("checking {} in a child process failed: {cause}", dir.display())]
    Child { dir: PathBuf, cause: String },
}
