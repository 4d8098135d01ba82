//! A capture far larger than memory, streamed through standard input: peak memory is that of the flows alive at a time.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::measure::{Taken, measure_reading};
use super::{Totals, totals};
use crate::sh::sh;

/// Packets and flows of the small capture, some 20 MB.
const PACKETS: u64 = 65_000;
const FLOWS: u64 = 6_500;

pub fn run(gigabytes: f64, ours: &Path, dir: &Path) -> Result<()> {
    let file = dir.join("ingest-small.pcap");
    sh(ours, ["make"]).arg(&file).arg(PACKETS.to_string()).arg(FLOWS.to_string()).output()?;
    let size = std::fs::metadata(&file)?.len();
    println!(
        "{:>10} {:>12} {:>10} {:>12} {:>12} {:>16}",
        "GB", "packets/s", "peak MiB", "flows", "packets", "IP bytes"
    );
    let mut one = Totals::default();
    for (i, gigabytes) in [size as f64 / 1e9, gigabytes].into_iter().enumerate() {
        let (rounds, taken) = stream(ours, &file, if i == 0 { 1e-9 } else { gigabytes })?;
        let read = totals(&taken.said).context("cannot read what the example printed")?;
        println!(
            "{gigabytes:>10.3} {:>12.0} {:>10.1} {:>12} {:>12} {:>16}",
            read.packets as f64 / taken.seconds,
            taken.peak_kib as f64 / 1024.0,
            read.flows,
            read.packets,
            read.bytes
        );
        if i == 0 {
            one = read;
        }
        let expected = Totals { flows: one.flows * rounds, packets: one.packets * rounds, bytes: one.bytes * rounds };
        if read != expected || read.packets != PACKETS * rounds {
            bail!("{rounds} rounds came to {read:?}, and {expected:?} were sent");
        }
    }
    Ok(())
}

/// Rounds of the small capture until there are so many gigabytes, through a pipe.
fn stream(ours: &Path, file: &Path, gigabytes: f64) -> Result<(u64, Taken)> {
    let mut maker = sh(ours, ["repeat"]).arg(file).arg(gigabytes.to_string()).into_command();
    let mut maker = maker.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot start the example")?;
    let stream = maker.stdout.take().context("no pipe")?;
    let taken = measure_reading(sh(ours, ["read", "-"]), stream.into());
    let made = maker.wait_with_output()?;
    let said = String::from_utf8_lossy(&made.stderr);
    let rounds = said.strip_suffix(" rounds\n").and_then(|n| n.parse().ok());
    Ok((rounds.with_context(|| format!("the capture could not be made: {said}"))?, taken?))
}
