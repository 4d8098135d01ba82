#!/bin/sh
# RUSTC_WRAPPER of `cargo xtask build-ebpf` and `dist`: keeps the folders of this machine out of what is built. Flags in RUSTFLAGS
# would not do: cargo names folders by a hash of these, and the names of folders get into what is built.
# The last prefix that fits counts.
#
# Cargo tells crates of the same name apart by a hash, which for a crate beside its workspace, not in it, is one of the folder it lies in;
# and that gets into the names of functions. For those that WEIR_REMAP_NAMES lists, which are there once, it is their name.
rustc=$1
shift
crate='' last=''
for word; do
    shift
    [ "$last" = --crate-name ] && crate=$word
    last=$word
    case "$word, ${WEIR_REMAP_NAMES:-} " in
    metadata=*,*" $crate "*) word="metadata=$crate" ;;
    esac
    set -- "$@" "$word"
done
exec "$rustc" "$@" \
    --remap-path-prefix "${WEIR_REMAP_RUST:-/nowhere}=/rust" \
    --remap-path-prefix "${WEIR_REMAP_CARGO:-/nowhere}=/cargo" \
    --remap-path-prefix "${WEIR_REMAP_ROOT:-/nowhere}=/weir" \
    --remap-path-prefix "${WEIR_REMAP_TARGET:-/nowhere}=/weir/target"
