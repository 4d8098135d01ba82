//! The kernel side on a real kernel: root, BPF and the embedded object are needed, and named where they are missing.

mod differential;
mod epochs;
mod faults;
#[path = "../../../../common/tests/frames/mod.rs"]
mod frames;
mod lifecycle;
mod limits;
mod matching;
mod members;
mod narrow;
mod offload;
mod parity;
mod precedence;
#[expect(dead_code, reason = "the benchmark uses the rest")]
mod raw;
mod reference;
mod replay;
mod support;
mod tables;
mod verdicts;
mod verifier;
