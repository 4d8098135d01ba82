//! `cargo xtask bench ingest`: the same capture through Weir and through other tools that make flows of packets, in rounds in
//! turn, with what each says the capture holds; then the rates of the other formats; or, for itself, a capture far larger than
//! memory.

mod large;
mod measure;
mod peers;
mod records;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::host::Host;
use crate::sh::{sh, target_dir};
use measure::{Taken, measure};
use peers::{LINK_HEADER, PEERS, Peer};

/// Weir with all that its records hold, and with flows alone, as `weir flows` writes them as a table and the others make them: names
/// of rows, and what they are for the example.
const OURS: [(&str, &str); 2] = [("weir", "flows"), ("weir, flows alone", "plain")];

/// The best of several runs of one program, and what it said each time alike.
struct Row {
    name: String,
    best: Taken,
    packets: Option<u64>,
    /// IP-layer bytes.
    bytes: Option<u64>,
}

impl Row {
    /// The shortest time, and the least of the processor's: each run was held up by something else.
    fn add(&mut self, other: Row) {
        let best = &mut self.best;
        best.seconds = best.seconds.min(other.best.seconds);
        best.cpu_seconds = best.cpu_seconds.min(other.best.cpu_seconds);
        best.peak_kib = best.peak_kib.max(other.best.peak_kib);
    }
}

#[derive(clap::Args)]
pub struct Options {
    #[arg(long, default_value_t = 2_000_000)]
    packets: u64,
    #[arg(long, default_value_t = 200_000)]
    flows: u64,
    /// Runs of each program, in turn
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Rows of each text format
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Instead: so many gigabytes of capture through a pipe, and the memory that it takes beside a small one
    #[arg(long, value_name = "GB")]
    large: Option<f64>,
}

pub fn run(options: &Options) -> Result<()> {
    let words = ["build", "--release", "-p", "weir-source", "--example", "ingest"];
    sh("cargo", words).dir(crate::sh::root()).loud().run()?;
    let ours = target_dir().join("release/examples/ingest");
    let dir = target_dir().join("bench");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    if let Some(gigabytes) = options.large {
        return large::run(gigabytes, &ours, &dir);
    }
    records::build()?;
    captures(options, &ours, &dir)?;
    records::run(options.rows, options.rounds, &dir)
}

fn captures(options: &Options, ours: &Path, dir: &Path) -> Result<()> {
    let file = made(options, ours, dir)?;
    let host = Host::this();
    let mut rows: Vec<Row> = Vec::new();
    let mut skips = Vec::new();
    // In turn, so that a machine that grows slower or faster meanwhile does so for all.
    for round in 1..=options.rounds.max(1) {
        let mut one = OURS.iter().map(|(name, mode)| weir(ours, name, mode, &file)).collect::<Result<Vec<_>>>()?;
        if let Some(wrong) = one.iter().find(|r| r.packets != Some(options.packets)) {
            bail!("{} counted {:?} packets of {}", wrong.name, wrong.packets, options.packets);
        }
        for peer in PEERS.iter().filter(|p| round == 1 || rows.iter().any(|r| r.name == p.name)) {
            match ask(&host, peer, &file, dir) {
                Ok(row) => one.push(row),
                Err(e) => skips.push(format!("SKIP {}: {e:#}", peer.name)),
            }
        }
        for row in one {
            match rows.iter_mut().find(|r| r.name == row.name) {
                Some(known) => known.add(row),
                None => rows.push(row),
            }
        }
    }
    show(&rows, options);
    skips.iter().for_each(|s| println!("{s}"));
    Ok(())
}

/// The capture, in the page cache, so that nobody pays for the disk.
fn made(options: &Options, ours: &Path, dir: &Path) -> Result<PathBuf> {
    let (packets, flows) = (options.packets.to_string(), options.flows.to_string());
    let file = dir.join(format!("ingest-{packets}-{flows}.pcap"));
    println!("{}", sh(ours, ["make"]).arg(&file).arg(packets).arg(flows).output()?);
    std::io::copy(&mut std::fs::File::open(&file)?, &mut std::io::sink())?;
    Ok(file)
}

fn weir(ours: &Path, name: &str, mode: &str, file: &Path) -> Result<Row> {
    let taken = measure(sh(ours, ["read"]).arg(file).arg(mode))?;
    let read = totals(&taken.said).context("cannot read what the example printed")?;
    Ok(Row { name: name.into(), packets: Some(read.packets), bytes: Some(read.bytes), best: taken })
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    flows: u64,
    packets: u64,
    bytes: u64,
}

/// `..., L flows, N packets, M IP bytes`.
fn totals(said: &str) -> Option<Totals> {
    let before = |word: &str| said.rsplit_once(word)?.0.split_whitespace().next_back()?.parse().ok();
    Some(Totals { flows: before(" flows,")?, packets: before(" packets,")?, bytes: before(" IP bytes")? })
}

fn ask(host: &Host, peer: &Peer, file: &Path, dir: &Path) -> Result<Row> {
    if host.which(peer.program).is_err() {
        let packages: Vec<&str> = peer.package.split(' ').collect();
        crate::setup::apt(host, &packages)?;
    }
    let scratch = dir.join(peer.name);
    let _ = std::fs::remove_dir_all(&scratch);
    std::fs::create_dir_all(&scratch)?;
    let mut taken = measure((peer.command)(host, file, &scratch)?)?;
    if peer.name == "argus" {
        // Its own client adds up, outside the time taken.
        taken.said = host.command("racount", &["-r"])?.arg(scratch.join("argus.out")).output()?;
    }
    let totals = (peer.totals)(&taken.said);
    let _ = std::fs::remove_dir_all(&scratch);
    Ok(Row {
        name: peer.name.into(),
        packets: totals.map(|t| t.0),
        bytes: totals.map(|(p, b)| if peer.frames { b.saturating_sub(p * LINK_HEADER) } else { b }),
        best: taken,
    })
}

fn show(rows: &[Row], options: &Options) {
    let fastest = |of: fn(&Taken) -> f64| {
        let peer = |r: &&Row| OURS.iter().all(|(name, _)| r.name != *name);
        rows.iter().filter(peer).map(|r| of(&r.best)).min_by(f64::total_cmp).unwrap_or(f64::NAN)
    };
    let (wall, cpu) = (fastest(|t| t.seconds), fastest(|t| t.cpu_seconds));
    println!("\nThe best of {} rounds; \"times\" is against the fastest peer.", options.rounds);
    println!(
        "{:<17} {:>11} {:>6} {:>15} {:>6} {:>9} {:>10} {:>13}",
        "", "packets/s", "times", "per CPU second", "times", "peak MiB", "packets", "IP bytes"
    );
    for r in rows {
        let said = |n: Option<u64>| n.map_or("?".into(), |n| n.to_string());
        println!(
            "{:<17} {:>11.0} {:>6.2} {:>15.0} {:>6.2} {:>9.1} {:>10} {:>13}",
            r.name,
            options.packets as f64 / r.best.seconds,
            wall / r.best.seconds,
            options.packets as f64 / r.best.cpu_seconds,
            cpu / r.best.cpu_seconds,
            r.best.peak_kib as f64 / 1024.0,
            said(r.packets),
            said(r.bytes)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_example_prints_is_understood() {
        let said = "2 read: 9 packets/s, 1.0 s (0.9 s of a processor), peak 5 KiB, 1 flows, 20000 packets, 77 IP bytes";
        assert_eq!(totals(said), Some(Totals { flows: 1, packets: 20_000, bytes: 77 }));
    }
}
