//! Benchmarks: programs of the crates they measure, run as root.

mod ingest;
mod lists;
mod scoring;

use std::ffi::OsString;

use anyhow::Result;
use clap::Subcommand;

use crate::needs::Use;
use crate::sh::{sh, sudo_words};

#[derive(Subcommand)]
pub enum What {
    /// Cost per packet of the kernel programs over a floor that only passes or drops, and the drain
    Datapath {
        /// Passed on to the benchmark
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// The same capture through Weir, nfpcapd, softflowd, Argus, tshark and NFStream, and the rates of the other formats
    Ingest(ingest::Options),
    /// The same models through Weir, onnxruntime and scikit-learn on one thread, and each step from a record to evidence
    Scoring {
        /// Each tool is measured so often, in turn
        #[arg(long, default_value_t = 2)]
        rounds: u32,
    },
    /// A list of a million entries, imported and replaced as a user does it
    Lists(lists::Options),
    /// What the agent takes at a rate of new flows, in all and beside that for the record, and its memory
    Agent {
        /// New flows a second
        #[arg(long, default_value_t = 100_000)]
        flows: u64,
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
}

pub fn run(what: &What) -> Result<()> {
    match what {
        What::Datapath { args } => datapath(args),
        What::Ingest(options) => ingest::run(options),
        What::Lists(options) => lists::run(options),
        What::Scoring { rounds } => scoring::run(*rounds),
        What::Agent { flows, seconds } => {
            let words = ["run", "--release", "-p", "weir-agent", "--example", "agent_bench", "--"];
            sh("cargo", words).arg(flows.to_string()).arg(seconds.to_string()).dir(crate::sh::root()).loud().run()
        }
    }
}

fn datapath(args: &[String]) -> Result<()> {
    crate::setup::ensure(&[Use::BuildEbpf])?;
    crate::ebpf::build(crate::ebpf::Choice::Auto)?;
    let words = ["run", "--release", "-p", "weir-kernel", "--example", "datapath_bench", "--"];
    let mut command = sh("cargo", words.iter().copied().chain(args.iter().map(String::as_str)));
    if let Some((name, value)) = runner() {
        command = command.env(&name, value);
    }
    command.loud().run()
}

/// Lets cargo start what it built through sudo when we are not root, so that building stays the user's own.
pub fn runner() -> Option<(String, OsString)> {
    let words = sudo_words();
    if words.is_empty() {
        return None;
    }
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH).to_uppercase().replace('-', "_");
    Some((format!("CARGO_TARGET_{target}_RUNNER"), words.join(&OsString::from(" "))))
}
