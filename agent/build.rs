//! Compiles the protobuf definitions (without an installed protoc), and embeds the default bundle.

use std::fmt::Write as _;
use std::path::Path;

const PROTO: &str = "proto/weir/v1/weir.proto";
/// Made by `cargo xtask train-default`.
const BUNDLE: &str = "../models/default/bundle";

/// Reports that are made to be read: nothing else is computed from them, so these messages are the only form they have.
const REPORTS: [&str; 21] = [
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
    "Question",
    "QuestionDetail",
    "QuestionOption",
    "Collateral",
    "Label",
    "Suppression",
];

/// Their times of day, which are written as such; 0 is none.
const TIMES: [&str; 11] = [
    "Question.asked_us",
    "Question.last_us",
    "Question.expires_us",
    "Question.answered_us",
    "Label.from_us",
    "Label.to_us",
    "Label.at_us",
    "Label.undone_us",
    "Suppression.created_us",
    "Suppression.expires_us",
    "Suppression.last_us",
];

fn main() {
    println!("cargo:rerun-if-changed={PROTO}");
    let descriptors = protox::compile([PROTO], ["proto"]).unwrap_or_else(|e| panic!("{PROTO}: {e:?}"));
    let mut config = tonic_prost_build::configure();
    for report in REPORTS {
        config = config.message_attribute(format!("weir.v1.{report}"), "#[derive(serde::Serialize)]");
    }
    for time in TIMES {
        let name = time.rsplit_once('.').map_or(time, |(_, field)| field).trim_end_matches("_us");
        let rfc3339 = format!("#[serde(rename = \"{name}\", serialize_with = \"crate::render::rfc3339_or_null\")]");
        config = config.field_attribute(format!("weir.v1.{time}"), &rfc3339);
    }
    config.compile_fds(descriptors).unwrap_or_else(|e| panic!("cannot generate code from {PROTO}: {e}"));
    embed();
}

/// Lists the files of the bundle with their contents.
fn embed() {
    println!("cargo:rerun-if-changed={BUNDLE}");
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join(BUNDLE);
    let mut files = Vec::new();
    // Without it, the program says what it lacks.
    if let Ok(entries) = std::fs::read_dir(&folder) {
        for entry in entries {
            let entry = entry.unwrap_or_else(|e| panic!("cannot read {}: {e}", folder.display()));
            files.push((entry.file_name().into_string().expect("names of a bundle are plain"), entry.path()));
        }
    }
    files.sort();
    let mut code = String::from("pub const FILES: &[(&str, &[u8])] = &[\n");
    for (name, path) in files {
        println!("cargo:rerun-if-changed={}", path.display());
        let _ = writeln!(code, "    ({name:?}, include_bytes!({path:?})),");
    }
    code += "];\n";
    let out = Path::new(&std::env::var("OUT_DIR").expect("cargo sets it")).join("default_bundle.rs");
    std::fs::write(&out, code).unwrap_or_else(|e| panic!("cannot write {}: {e}", out.display()));
}
