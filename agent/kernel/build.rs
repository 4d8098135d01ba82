//! Embeds the kernel programs if `cargo xtask build-ebpf` has made them.

use std::path::{Path, PathBuf};
use std::{env, fs};

const OBJECT_ENV: &str = "WEIR_EBPF_OBJECT";

/// Copies the kernel object to `OUT_DIR` and sets `cfg(weir_ebpf)`. Without an object the crate builds too, and says at
/// run time what it lacks.
fn main() {
    println!("cargo:rustc-check-cfg=cfg(weir_ebpf)");
    println!("cargo:rerun-if-env-changed={OBJECT_ENV}");
    let object = env::var_os(OBJECT_ENV).map_or_else(default_object, PathBuf::from);
    println!("cargo:rerun-if-changed={}", object.display());
    if !object.exists() {
        // Whoever names an object wants it embedded.
        assert!(env::var_os(OBJECT_ENV).is_none(), "{OBJECT_ENV} names {}, which does not exist", object.display());
        return;
    }
    let out = Path::new(&env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("weir-ebpf.o");
    fs::copy(&object, &out).unwrap_or_else(|e| panic!("cannot copy {} to {}: {e}", object.display(), out.display()));
    println!("cargo:rustc-cfg=weir_ebpf");
}

fn default_object() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    Path::new(&manifest).join("../../target/bpf/weir-ebpf.o")
}
