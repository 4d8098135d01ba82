//! The bundle that comes with the program: `models/default/bundle`, made by `cargo xtask train-default` and embedded by the
//! build script. It was not learned here, and everything that comes of it says so.

use std::sync::OnceLock;

use weir_models::{Bundle, BundleError, MANIFEST_FILE, Manifest};

use crate::model;

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/default_bundle.rs"));
}

/// What it is called where bundles have names; no bundle of the store can have it.
pub const ID: &str = "default";

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DefaultError {
    #[error("this program was built without a default bundle: `cargo xtask train-default` makes it")]
    Absent,
    #[error("the default bundle could not be unpacked: {0}")]
    Unpack(#[from] std::io::Error),
    #[error("the default bundle cannot be used: {0}")]
    Bundle(#[from] BundleError),
}

/// The files, by name.
pub fn files() -> &'static [(&'static str, &'static [u8])] {
    embedded::FILES
}

/// What it says of itself; `None` where there is none that this version can read.
pub fn manifest() -> Option<&'static Manifest> {
    static MANIFEST: OnceLock<Option<Manifest>> = OnceLock::new();
    let read = || {
        let (_, text) = files().iter().find(|(name, _)| *name == MANIFEST_FILE)?;
        Manifest::parse(text).ok()
    };
    MANIFEST.get_or_init(read).as_ref()
}

/// Loads it as any other bundle: in a child process with limits first. Takes a second or more.
pub fn load() -> Result<Bundle, DefaultError> {
    if files().is_empty() {
        return Err(DefaultError::Absent);
    }
    let dir = tempfile::Builder::new().prefix("weir-default-").tempdir()?;
    for (name, bytes) in files() {
        std::fs::write(dir.path().join(name), bytes)?;
    }
    model::check(dir.path())?;
    Ok(model::load_here(dir.path())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded() -> Bundle {
        let (manifests, models): (Vec<_>, Vec<_>) = files().iter().partition(|(name, _)| *name == MANIFEST_FILE);
        let models = models.into_iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        Bundle::from_parts(manifests[0].1, &models).unwrap()
    }

    #[test]
    fn what_is_embedded_loads_says_where_it_comes_from_and_holds_no_address() {
        let bundle = loaded();
        let names: Vec<_> = bundle.profiles().map(|p| p.name()).collect();
        assert!(names.contains(&"core") && names.contains(&"source"), "{names:?}");
        let m = bundle.manifest();
        let used: Vec<_> = m.provenance.corpora.iter().filter(|c| c.rows > 0).collect();
        let permissive = ["BSD-3-Clause", "Apache-2.0", "LGPL-3.0"];
        assert!(!used.is_empty() && used.iter().all(|c| permissive.contains(&c.licence.as_str())), "{used:?}");
        let left_out = m.provenance.corpora.iter().filter(|c| c.rows == 0);
        assert!(left_out.clone().count() > 0 && left_out.clone().all(|c| c.note.is_some()), "each with its reason");
        assert!(m.evidence.as_ref().is_some_and(|e| e.strange.is_empty() && e.benign_windows >= 200));
        let bytes: usize = files().iter().map(|(_, b)| b.len()).sum();
        assert!(bytes < 2 << 20, "{bytes} bytes");
        assert_eq!(manifest(), Some(m));
    }

    #[test]
    fn every_p_value_of_the_default_bundle_says_so() {
        use weir_core::matrix::FeatureMatrix;
        use weir_core::profile::ProfileId;
        use weir_core::role::Role;

        let mut rows = FeatureMatrix::new(ProfileId::Core);
        rows.push(&[Some(1.0); 16], Role::All).unwrap();
        let of = |model: crate::pipeline::Model| model.anomalies(&rows).unwrap();
        assert!(of(crate::pipeline::Model::built_in(loaded())).iter().all(|a| a.default_bundle));
        assert!(of(crate::pipeline::Model::new(loaded())).iter().all(|a| !a.default_bundle));
    }
}
