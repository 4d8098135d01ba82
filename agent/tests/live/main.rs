//! The agent as a whole: the real binary on a real kernel, in network namespaces of the test's own. Root, BPF and the embedded
//! kernel programs are needed, and named where they are missing.

mod allow;
mod api;
#[path = "../common/mod.rs"]
mod common;
#[path = "../../../xtask/src/lab/roles/crowdsec.rs"]
mod crowdsec;
mod default_model;
mod devices;
mod doctor;
mod flood;
mod interfaces;
mod join;
mod kills;
mod learning;
mod limits;
mod lists;
mod metrics;
mod models;
mod modes;
mod netflow;
#[expect(dead_code, reason = "the kernel tests use the rest")]
#[path = "../../kernel/tests/kernel/raw.rs"]
mod raw;
mod record;
mod restart;
mod review;
mod service;
mod site;
mod store;
mod strangers;
mod support;
mod targets;
mod unblock;
mod unload;
mod watch;
mod web;
