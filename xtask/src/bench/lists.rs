//! A list of a million, as a user imports it: from the command line to the kernel and the disk.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::lab::agent::{Agent, Site};
use crate::lab::net::Net;
use crate::needs::Use;
use crate::sh::{is_root, root, sh, sudo_words, target_dir};

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Entries of a list
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=8_000_000))]
    entries: u32,
    /// The list is replaced so often
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// The program, built already
    #[arg(long, value_name = "FILE")]
    weir: Option<PathBuf>,
}

pub fn run(options: &Options) -> Result<()> {
    let weir = match &options.weir {
        Some(weir) => weir.clone(),
        None => {
            crate::setup::ensure(&[Use::Lab])?;
            crate::ebpf::build(crate::ebpf::Choice::Auto)?;
            sh("cargo", ["build", "--release", "--workspace", "--bin", "weir"]).dir(root()).loud().run()?;
            target_dir().join("release/weir")
        }
    };
    if is_root() { measure(options, &weir) } else { again_as_root(options, weir) }
}

/// Namespaces and XDP need root; what was built stays the caller's own.
fn again_as_root(options: &Options, weir: PathBuf) -> Result<()> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let mut words: Vec<OsString> = sudo_words();
    words.extend([own.into(), "bench".into(), "lists".into(), "--weir".into(), weir.into()]);
    for (name, n) in [("--entries", options.entries), ("--rounds", options.rounds)] {
        words.extend([name.into(), n.to_string().into()]);
    }
    sh(&words[0], &words[1..]).run()
}

/// Addresses all over IPv4, each once, and none of them special or in another file.
fn file(path: &Path, entries: u32, which: u32) -> Result<()> {
    let special = |ip: &Ipv4Addr| {
        ip.is_private() || ip.is_loopback() || ip.is_link_local() || matches!(ip.octets()[0], 0 | 224..=255)
    };
    let all = (0..u32::MAX).map(|n| (2 * n + which).wrapping_mul(2_654_435_761)).map(Ipv4Addr::from);
    let mut text = String::new();
    for ip in all.filter(|ip| !special(ip)).take(entries as usize) {
        let _ = writeln!(text, "{ip}");
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn measure(options: &Options, weir: &Path) -> Result<()> {
    let net = Net::make()?;
    let files = [0, 1].map(|which| net.dir.join(format!("list{which}.txt")));
    for (which, path) in (0..).zip(&files) {
        file(path, options.entries, which)?;
    }
    let more = format!("capacity: {{blocks: {}}}\n", 2 * u64::from(options.entries) + 1000);
    let agent = Agent::start(weir, &net, &Site { more, ..Site::learning(3600) })?;
    let held = || -> Result<u64> {
        let status = agent.ask_one(&["status"])?;
        let maps = status["maps"].as_array().map(Vec::as_slice).unwrap_or_default();
        let entries = maps.iter().find(|m| m["name"] == "ENTRIES").and_then(|m| m["entries"].as_u64());
        entries.context("`weir status` does not say how many entries the kernel holds")
    };
    // The allow list is there already.
    let wanted = held()? + u64::from(options.entries);
    let import = |path: &Path| -> Result<f64> {
        let begin = Instant::now();
        let words = ["decisions", "import", "--list", "bench", "--replace", "--socket"];
        sh(weir, words).arg(&agent.socket).arg(path).output()?;
        let taken = begin.elapsed().as_secs_f64();
        match held()? {
            held if held == wanted => Ok(taken),
            held => bail!("the kernel holds {held} entries, not {wanted}"),
        }
    };
    println!("{} entries, from the command line to the kernel and the disk:", options.entries);
    println!("{:<28} {:>6.2} s", "loaded", import(&files[0])?);
    println!("{:<28} {:>6.2} s", "the same again", import(&files[0])?);
    let replaced = (1..=options.rounds).map(|n| import(&files[n as usize % 2])).collect::<Result<Vec<f64>>>()?;
    for taken in &replaced {
        println!("{:<28} {taken:>6.2} s", "others in their place");
    }
    Ok(())
}
