//! Against the public datagrams and exports, and against bytes made to hurt.

mod corpus;

use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    std::env::var_os("WEIR_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from)
        .join("netflow")
}

/// The folder of NetFlow data, or a visible word that the test cannot run.
fn corpus_or_skip(test: &str) -> Option<PathBuf> {
    let path = corpus();
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIP {test}: no {} (WEIR_CORPUS names the folder of captures)", path.display());
    None
}
