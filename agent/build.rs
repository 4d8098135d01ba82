//! Compiles the protobuf definitions (without an installed protoc), and embeds the default bundle.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const PROTO: &str = "proto/weir/v1/weir.proto";
/// Made by `cargo xtask dashboard`, which touches [`PAGE_SOURCE`] when there is a new one.
const PAGE: &str = "dashboard/dist";
const PAGE_SOURCE: &str = "dashboard/package.json";
/// Made by `cargo xtask train-default`.
const BUNDLE: &str = "../models/default/bundle";

/// Reports that are made to be read: nothing else is computed from them, so these messages are the only form they have.
const REPORTS: [&str; 22] = [
    "BundleDetail",
    "CorpusDetail",
    "CarrierDetail",
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
    // With the comments: REST describes itself by them.
    let described = prost::Message::encode_to_vec(&descriptors);
    write("weir.binpb", &described);
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
    embed_page();
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
    list("default_bundle.rs", "pub const FILES", files);
}

/// Lists the files of the web page with their contents; none where it was not built.
fn embed_page() {
    fn below(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("cannot read {}: {e}", folder.display()));
        for entry in entries {
            let entry = entry.unwrap_or_else(|e| panic!("cannot read {}: {e}", folder.display()));
            let name = entry.file_name().into_string().expect("names of the page's files are plain");
            match entry.path() {
                path if path.is_dir() => below(&path, &format!("{prefix}{name}/"), files),
                path => files.push((format!("{prefix}{name}"), path)),
            }
        }
    }
    // What is not there would have this script run, and the crate built, again and again.
    for watched in [PAGE, PAGE_SOURCE].iter().filter(|p| Path::new(p).exists()) {
        println!("cargo:rerun-if-changed={watched}");
    }
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join(PAGE);
    let mut files = Vec::new();
    if folder.is_dir() {
        below(&folder, "", &mut files);
    }
    list("page.rs", "const FILES", files);
}

/// Writes code that holds the files.
fn list(to: &str, name: &str, mut files: Vec<(String, PathBuf)>) {
    files.sort();
    let mut code = format!("{name}: &[(&str, &[u8])] = &[\n");
    for (name, path) in files {
        println!("cargo:rerun-if-changed={}", path.display());
        let _ = writeln!(code, "    ({name:?}, include_bytes!({path:?})),");
    }
    code += "];\n";
    write(to, code.as_bytes());
}

fn write(name: &str, bytes: &[u8]) {
    let out = Path::new(&std::env::var("OUT_DIR").expect("cargo sets it")).join(name);
    std::fs::write(&out, bytes).unwrap_or_else(|e| panic!("cannot write {}: {e}", out.display()));
}
