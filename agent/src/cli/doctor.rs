//! `weir doctor` and `weir support dump`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::args::{DoctorArgs, SupportCmd};
use super::output::{Output, clean};
use crate::doctor::{self, Asked, render};
use crate::human;
use crate::support::{self, Dumped, Options};

fn asked(args: DoctorArgs, socket: Option<PathBuf>) -> Asked {
    Asked { interfaces: args.interfaces, config: args.config, socket }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// The exit status says the worst that was found.
pub fn run(args: DoctorArgs, socket: Option<PathBuf>, out: &Output) -> anyhow::Result<ExitCode> {
    let report = runtime()?.block_on(doctor::examine(&asked(args, socket))).report;
    if out.json() {
        out.object(&report)?;
    } else {
        out.text(&clean_lines(&render::table(&report)))?;
    }
    Ok(report.worst.exit_code().into())
}

pub fn support(command: SupportCmd, socket: Option<PathBuf>, out: &Output) -> anyhow::Result<ExitCode> {
    let SupportCmd::Dump { of, out: file, mask } = command;
    let options = Options { asked: asked(of, socket), out: file, mask };
    let dumped = runtime()?.block_on(support::dump(&options))?;
    if out.json() {
        out.object(&dumped)?;
    } else {
        out.text(&clean_lines(&words(&dumped)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn words(d: &Dumped) -> String {
    let masked = match d.masked {
        true => "addresses and names of hosts are pseudonyms",
        false => "addresses are as they are (--mask replaces them)",
    };
    let mut text = format!(
        "{}: {} parts in {}; secrets are removed, {masked}\n",
        d.file.display(),
        d.parts,
        human::bytes(d.bytes)
    );
    for m in &d.missing {
        text += &format!("missing: {}: {}\n", m.name, m.why);
    }
    text + "Look through it before you give it away: MANIFEST.json lists what is inside.\n"
}

/// What the host and the agent say must not steer the terminal.
fn clean_lines(text: &str) -> String {
    text.lines().map(|l| clean(l) + "\n").collect()
}
