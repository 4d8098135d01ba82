//! Bundles: a directory with models and the manifest that makes them safe to use.

mod child;
mod error;
mod inspect;
mod load;
mod manifest;
mod models;
mod write;

pub use child::{ChildLimits, REFUSED, verify_in_child};
pub use error::BundleError;
pub use inspect::{FileState, Inspected, InspectedFile};
pub(crate) use load::LoadedProfile;
pub(crate) use load::sha256_hex;
pub use load::{Bundle, GOLDEN_TOLERANCE, MANIFEST_FILE, MAX_MANIFEST_BYTES};
pub use manifest::{
    BUNDLE_VERSION, Corpus, EvidenceThresholds, FeatureEntry, Golden, Manifest, ModelEntry, Models, ProfileEntry,
    Provenance, RoleCalibration, TrainingSummary, Usual,
};
pub(crate) use models::{ProfileModels, RawRow};
pub use write::check_vacant;
pub(crate) use write::write;
