//! The agent as a whole: the real binary on a real kernel, in network namespaces of the test's own. Root, BPF and the embedded
//! kernel programs are needed, and named where they are missing.

mod allow;
#[path = "../common/mod.rs"]
mod common;
mod default_model;
mod kills;
mod learning;
mod limits;
mod models;
mod modes;
mod netflow;
#[expect(dead_code, reason = "the kernel tests use the rest")]
#[path = "../../kernel/tests/kernel/raw.rs"]
mod raw;
mod record;
mod restart;
mod site;
mod store;
mod support;
mod unblock;
mod unload;
mod watch;
