//! Builds whose result does not tell where they were made.

use std::path::{Path, PathBuf};

use crate::sh::{Sh, root};

/// Where cargo keeps what it downloaded.
fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo");
    std::env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

/// Has cargo call the compiler through `xtask/rustc-remap.sh`, for a build of this workspace.
pub fn here(cargo: Sh, sysroot: &str, target: &Path) -> Sh {
    at(cargo, root(), sysroot, target)
}

/// The same for a build of the workspace that lies at `workspace`.
pub fn at(cargo: Sh, workspace: &Path, sysroot: &str, target: &Path) -> Sh {
    cargo
        .env("RUSTC_WRAPPER", workspace.join("xtask/rustc-remap.sh"))
        .env("WEIR_REMAP_RUST", sysroot)
        .env("WEIR_REMAP_CARGO", cargo_home())
        .env("WEIR_REMAP_ROOT", workspace)
        .env("WEIR_REMAP_TARGET", target)
}

/// Flags of C compilers for the same, as libraries in C are built by build scripts.
pub fn c_flags(workspace: &Path, target: &Path) -> String {
    let map = |from: &Path, to: &str| format!("-ffile-prefix-map={}={to}", from.display());
    [map(&cargo_home(), "/cargo"), map(workspace, "/weir"), map(target, "/weir/target")].join(" ")
}
