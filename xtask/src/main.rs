//! Development tasks of Weir. `cargo xtask check` and `cargo xtask test` are all that CI runs, besides the lab.

mod bench;
mod check;
mod dashboard;
mod dist;
mod ebpf;
mod eval;
mod fuzz;
mod host;
mod lab;
mod needs;
mod remap;
mod sanitize;
mod setup;
mod sh;
mod suite;
mod train_default;
mod vm;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development tasks of Weir", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing on this machine, saying what and why (the other tasks do this themselves)
    Setup {
        /// Only say what is there and what is missing; exit 1 if something is missing
        #[arg(long)]
        dry_run: bool,
    },
    /// Build the kernel programs into target/bpf/weir-ebpf.o
    BuildEbpf {
        /// Which compiler to use
        #[arg(long, value_enum, default_value_t, env = "WEIR_BPF_COMPILER")]
        compiler: ebpf::Choice,
    },
    /// Build the web page into agent/dashboard/dist, where its sources have changed
    Dashboard,
    /// Formatting, lints, licences, documentation, and the rules of this repository
    Check {
        /// Only the steps with this in their name, such as `rules` or `clippy`
        #[arg(long, value_name = "WORD")]
        only: Option<String>,
    },
    /// Build everything and run every test
    Test {
        /// Passed on to the test binaries, such as a part of a test's name
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// See Weir at work: three hosts, honest traffic, five attacks, and what became of them
    Lab(lab::Options),
    /// Benchmarks
    Bench {
        #[command(subcommand)]
        what: bench::What,
    },
    /// Detection and false alarms on public data sets, beside what others reach on them
    Eval(eval::Options),
    /// Train the bundle that comes with the program, from the corpora of models/default/corpora.yaml
    TrainDefault(train_default::Options),
    /// Boot older kernels of Debian in qemu and run the tests that make sense there
    Vm(vm::Options),
    /// Build what a release is made of into target/dist: program, packages, chart, image, bill of materials
    Dist(dist::Options),
    /// Fuzz whatever reads what others wrote: input formats, packets, the API, configuration, lists, models
    Fuzz(fuzz::Options),
    /// Run the tests of unsafe code under AddressSanitizer, Miri and valgrind
    Sanitize(sanitize::Options),
    /// A part of the lab: one host's processes
    #[command(hide = true)]
    LabRole {
        #[command(subcommand)]
        role: lab::roles::Role,
    },
}

fn main() -> std::process::ExitCode {
    let result = match Cli::parse().task {
        Task::Setup { dry_run: true } => setup::report(),
        Task::Setup { dry_run: false } => setup::ensure(needs::Use::ALL),
        Task::BuildEbpf { compiler } => setup::ensure(&[needs::Use::BuildEbpf]).and_then(|()| ebpf::build(compiler)),
        Task::Dashboard => dashboard::run(),
        Task::Check { only } => check::run(only.as_deref()),
        Task::Test { args } => suite::run(&args),
        Task::Lab(options) => lab::run(&options),
        Task::Bench { what } => bench::run(&what),
        Task::Eval(options) => eval::run(&options),
        Task::TrainDefault(options) => train_default::run(&options),
        Task::Vm(options) => vm::run(&options),
        Task::Dist(options) => dist::run(&options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Sanitize(options) => sanitize::main(&options),
        Task::LabRole { role } => lab::roles::run(role),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
