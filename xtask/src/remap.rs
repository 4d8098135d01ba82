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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sh::sh;

    #[test]
    fn crates_that_are_named_are_told_apart_by_name_and_no_others() {
        let told = |name: &str| {
            let words = ["echo", "--crate-name", name, "-C", "metadata=12ab", "-C", "extra-filename=-12ab", "a b"];
            let wrapper = sh(root().join("xtask/rustc-remap.sh"), words);
            wrapper.env("WEIR_REMAP_NAMES", "weir_common weir_ebpf").output().unwrap()
        };
        let begins = |name: &str, metadata: &str| {
            format!("--crate-name {name} -C metadata={metadata} -C extra-filename=-12ab a b --remap-path-prefix ")
        };
        assert!(told("weir_ebpf").starts_with(&begins("weir_ebpf", "weir_ebpf")));
        for other in ["weir", "core", "ebpf"] {
            assert!(told(other).starts_with(&begins(other, "12ab")), "{}", told(other));
        }
    }
}
