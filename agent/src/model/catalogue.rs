//! What is known of the stored bundles. A manifest can be megabytes long: each is read once, and not in the event loop.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use weir_core::record::TimeUs;
use weir_models::{Bundle, Inspected, Manifest};

use crate::command::BundleReport;
use crate::store::BundleDir;

/// What a bundle is, in short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The id that its contents give.
    pub hash: String,
    pub origin: String,
    pub created_us: TimeUs,
    pub flows: u64,
    pub windows: u64,
    pub profiles: Vec<String>,
    pub bytes: u64,
}

impl Summary {
    /// Of a bundle that was loaded from `dir`.
    pub fn of(bundle: &Bundle, dir: &Path) -> Self {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let bytes = entries.filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum();
        Self::from_manifest(bundle.id(), bundle.manifest(), bytes)
    }

    /// Of one that was not; `None` where it cannot be read.
    fn read(dir: &Path) -> Option<Self> {
        let found = Inspected::read(dir).ok()?;
        Some(Self::from_manifest(&found.id, &found.manifest, found.bytes()))
    }

    fn from_manifest(id: &str, m: &Manifest, bytes: u64) -> Self {
        let rows = |name: &str| m.profiles.iter().filter(|p| p.name == name).map(|p| p.training.rows).sum();
        Self {
            hash: id.to_owned(),
            origin: m.provenance.source.clone(),
            created_us: m.provenance.trained_at_us.unwrap_or(0),
            flows: rows("core"),
            windows: rows("source"),
            profiles: m.profiles.iter().map(|p| p.name.clone()).collect(),
            bytes,
        }
    }
}

/// Shared between the event loop and the threads that read. A bundle never changes under its id.
#[derive(Clone, Debug, Default)]
pub struct Catalogue(Arc<Mutex<HashMap<String, Summary>>>);

impl Catalogue {
    pub fn put(&self, id: &str, summary: Summary) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), summary);
    }

    pub fn get(&self, id: &str) -> Option<Summary> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// What is known of the bundles, reading those that were not read yet; the others are forgotten. For a thread: it takes its
    /// time.
    pub fn read_all(&self, dirs: &[BundleDir]) {
        let unknown: Vec<_> = dirs.iter().filter(|d| self.get(&d.id).is_none()).collect();
        for dir in unknown {
            if let Some(summary) = Summary::read(&dir.path) {
                self.put(&dir.id, summary);
            }
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| dirs.iter().any(|d| d.id == *id));
    }

    /// `serving`: the id of the one that serves, whatever was chosen.
    pub fn describe(&self, dir: &BundleDir, serving: Option<&str>) -> BundleReport {
        let summary = self.get(&dir.id);
        let readable = summary.is_some();
        let s = summary.unwrap_or_default();
        BundleReport {
            id: dir.id.clone(),
            promoted: dir.promoted,
            origin: if readable { s.origin } else { "unreadable".to_owned() },
            created_us: s.created_us,
            flows: s.flows,
            windows: s.windows,
            profiles: s.profiles,
            current: serving == Some(&dir.id),
            hash: s.hash,
            bytes: s.bytes,
            challenger: dir.challenger,
            steps_back: dir.steps_back.map(|n| n as u32),
            since_us: dir.since_us.filter(|t| *t > 0),
        }
    }
}
