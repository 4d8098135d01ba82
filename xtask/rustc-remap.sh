#!/bin/sh
# RUSTC_WRAPPER of `cargo xtask build-ebpf` and `dist`: keeps the folders of this machine out of what is built. Flags in RUSTFLAGS
# would not do: cargo names folders by a hash of these, and the names of folders get into what is built.
# The last prefix that fits counts.
rustc=$1
shift
exec "$rustc" "$@" \
    --remap-path-prefix "${WEIR_REMAP_RUST:-/nowhere}=/rust" \
    --remap-path-prefix "${WEIR_REMAP_CARGO:-/nowhere}=/cargo" \
    --remap-path-prefix "${WEIR_REMAP_ROOT:-/nowhere}=/weir" \
    --remap-path-prefix "${WEIR_REMAP_TARGET:-/nowhere}=/weir/target"
