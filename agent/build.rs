//! Compiles the protobuf definitions (without an installed protoc).

const PROTO: &str = "proto/weir/v1/weir.proto";

fn main() {
    println!("cargo:rerun-if-changed={PROTO}");
    let descriptors = protox::compile([PROTO], ["proto"]).unwrap_or_else(|e| panic!("{PROTO}: {e:?}"));
    tonic_prost_build::configure()
        .compile_fds(descriptors)
        .unwrap_or_else(|e| panic!("cannot generate code from {PROTO}: {e}"));
}
