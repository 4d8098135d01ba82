//! Compiles the protobuf definitions (without an installed protoc).

const PROTO: &str = "proto/weir/v1/weir.proto";

/// Reports that are made to be read: nothing else is computed from them, so these messages are the only form they have.
const REPORTS: [&str; 15] = [
    "BundleDetail",
    "CorpusDetail",
    "EvidenceDetail",
    "ProfileDetail",
    "FeatureDetail",
    "ModelFile",
    "TrainingDetail",
    "RoleDetail",
    "Comparison",
    "ComparedBundle",
    "ComparedProfile",
    "RealisedRate",
    "SourceCounts",
    "SourceDifference",
    "SourceOutcome",
];

fn main() {
    println!("cargo:rerun-if-changed={PROTO}");
    let descriptors = protox::compile([PROTO], ["proto"]).unwrap_or_else(|e| panic!("{PROTO}: {e:?}"));
    let mut config = tonic_prost_build::configure();
    for report in REPORTS {
        config = config.message_attribute(format!("weir.v1.{report}"), "#[derive(serde::Serialize)]");
    }
    config.compile_fds(descriptors).unwrap_or_else(|e| panic!("cannot generate code from {PROTO}: {e}"));
}
