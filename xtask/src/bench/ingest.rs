//! `cargo xtask bench ingest`: the same capture through Weir and through other tools that make flows of packets, one after the
//! other in one run, with what each says the capture holds.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::host::Host;
use crate::sh::{Sh, sh, target_dir};

/// Bytes that Ethernet adds to each packet: tools that count frames count them too.
const LINK_HEADER: u64 = 14;

/// A tool that reads captures.
struct Peer {
    name: &'static str,
    /// Debian's package, or PyPI's.
    package: &'static str,
    program: &'static str,
    command: fn(&Host, &Path, &Path) -> Result<Sh>,
    /// Packets and bytes, from what it printed.
    totals: fn(&str) -> Option<(u64, u64)>,
    /// Its bytes are those of frames.
    frames: bool,
}

const PEERS: &[Peer] = &[
    Peer {
        name: "nfpcapd",
        package: "nfdump",
        program: "nfpcapd",
        command: |host, file, dir| Ok(host.command("nfpcapd", &["-S", "0", "-r"])?.arg(file).arg("-w").arg(dir)),
        totals: |said| Some((number(said, "Packets:")?, number(said, "Bytes:")?)),
        frames: false,
    },
    Peer {
        name: "softflowd",
        package: "softflowd",
        program: "softflowd",
        // Exports to the discard port of this machine.
        command: |host, file, _| {
            Ok(host.command("softflowd", &["-d", "-c", "none", "-m", "4000000", "-n", "127.0.0.1:9", "-r"])?.arg(file))
        },
        totals: |said| Some((number(said, "Packets processed:")?, protocol_bytes(said)?)),
        frames: false,
    },
    Peer {
        name: "argus",
        package: "argus-server argus-client",
        program: "argus",
        command: |host, file, dir| {
            Ok(host.command("argus", &["-F", "/dev/null", "-r"])?.arg(file).arg("-w").arg(dir.join("argus.out")))
        },
        totals: |said| {
            let sum = said.lines().find(|l| l.trim_start().starts_with("sum "))?;
            let mut words = sum.split_whitespace().skip(2);
            let packets = words.next()?.parse().ok()?;
            Some((packets, words.nth(2)?.parse().ok()?))
        },
        frames: true,
    },
    Peer {
        name: "tshark",
        package: "tshark",
        program: "tshark",
        command: |host, file, _| {
            let statistics = ["-q", "-z", "io,stat,0", "-z", "conv,tcp", "-z", "conv,udp", "-r"];
            Ok(host.command("tshark", &statistics)?.arg(file))
        },
        totals: |said| {
            // | 0.0 <> 19.9 |  20000 | 2840000 |
            let row = said.lines().find(|l| l.starts_with('|') && l.contains("<>"))?;
            let cells: Vec<_> = row.split('|').map(str::trim).filter(|c| !c.is_empty()).collect();
            Some((cells.get(1)?.parse().ok()?, cells.get(2)?.parse().ok()?))
        },
        frames: true,
    },
    Peer {
        name: "NFStream",
        package: "nfstream (PyPI)",
        program: "python3",
        command: |host, file, _| {
            let python = crate::setup::venv::python(host);
            if sh(&python, ["-c", "import nfstream"]).output().is_err() {
                sh(&python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "nfstream"])
                    .loud()
                    .run()?;
            }
            Ok(sh(&python, ["-c", NFSTREAM]).arg(file))
        },
        totals: |said| Some((number(said, "packets")?, number(said, "bytes")?)),
        frames: true,
    },
];

const NFSTREAM: &str = "
import sys
from nfstream import NFStreamer
if __name__ == '__main__':
    p = b = 0
    for f in NFStreamer(source=sys.argv[1], statistical_analysis=False, n_dissections=0, n_meters=1):
        p += f.bidirectional_packets
        b += f.bidirectional_bytes
    print('packets', p, 'bytes', b)
";

/// The whole number behind `word`.
fn number(said: &str, word: &str) -> Option<u64> {
    let rest = said.rsplit_once(word)?.1.trim_start();
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// The sum of softflowd's bytes per protocol: `udp (17): OCTETS PACKETS ...`.
fn protocol_bytes(said: &str) -> Option<u64> {
    let table = said.rsplit_once("Per-protocol statistics:")?.1;
    let rows = table.lines().filter_map(|l| l.split_once("):"));
    Some(rows.filter_map(|(_, numbers)| numbers.split_whitespace().next()?.parse::<u64>().ok()).sum())
}

/// What a run took.
struct Taken {
    seconds: f64,
    peak_kib: u64,
    said: String,
}

/// Runs a command to its end and measures it.
fn measure(command: Sh) -> Result<Taken> {
    let words = command.words();
    let mut command = command.into_command();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start `{words}`"))?;
    // Both pipes are read at once: a full one would stop the program.
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let read = |pipe: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = std::io::Read::read_to_end(&mut pipe, &mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let out = read(out.map(|p| Box::new(p) as _));
    let err = read(err.map(|p| Box::new(p) as _));
    let (status, peak_kib) = wait(child.id())?;
    let seconds = start.elapsed().as_secs_f64();
    let said = out.join().unwrap_or_default() + &err.join().unwrap_or_default();
    if !status.success() {
        bail!("`{words}` failed ({status}): {}", said.lines().last().unwrap_or_default());
    }
    Ok(Taken { seconds, peak_kib, said })
}

/// Waits for a child of ours; its status and the most memory that it had, KiB.
fn wait(pid: u32) -> Result<(ExitStatus, u64)> {
    let mut status = 0;
    // SAFETY: plain data that the call fills; zero is a valid value of each field.
    let (done, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid as libc::pid_t, &mut status, 0, &mut usage), usage)
    };
    if done < 0 {
        return Err(std::io::Error::last_os_error()).context("cannot wait for a program");
    }
    Ok((ExitStatus::from_raw(status), usage.ru_maxrss as u64))
}

struct Row {
    name: String,
    taken: Taken,
    packets: Option<u64>,
    /// IP-layer bytes.
    bytes: Option<u64>,
}

pub fn run(packets: u64, flows: u64) -> Result<()> {
    let words = ["build", "--release", "-p", "weir-source", "--example", "ingest"];
    sh("cargo", words).dir(crate::sh::root()).loud().run()?;
    let ours = target_dir().join("release/examples/ingest");
    let dir = target_dir().join("bench");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let file = dir.join(format!("ingest-{packets}-{flows}.pcap"));
    let made = sh(&ours, ["make"]).arg(&file).arg(packets.to_string()).arg(flows.to_string()).output()?;
    println!("{made}");
    // Once through the page cache, so that nobody pays for the disk.
    std::io::copy(&mut std::fs::File::open(&file)?, &mut std::io::sink())?;

    let host = Host::this();
    let mut rows = Vec::new();
    let mut skips = Vec::new();
    for round in 1..=2 {
        // First and last, so that a machine that grows slower shows.
        if round == 2 {
            for peer in PEERS {
                match ask(&host, peer, &file, &dir) {
                    Ok(row) => rows.push(row),
                    Err(e) => skips.push(format!("SKIP {}: {e:#}", peer.name)),
                }
            }
        }
        let taken = measure(sh(&ours, ["read"]).arg(&file))?;
        let (packets, bytes) = weir_totals(&taken.said).context("cannot read what the example printed")?;
        rows.push(Row { name: format!("weir ({round})"), taken, packets: Some(packets), bytes: Some(bytes) });
    }
    show(&rows, packets);
    skips.iter().for_each(|s| println!("{s}"));
    let wrong = rows.iter().find(|r| r.name.starts_with("weir") && r.packets != Some(packets));
    if let Some(row) = wrong {
        bail!("{} counted {:?} packets of {packets}", row.name, row.packets);
    }
    Ok(())
}

/// `..., N packets, M IP bytes`.
fn weir_totals(said: &str) -> Option<(u64, u64)> {
    let before = |word: &str| said.rsplit_once(word)?.0.split_whitespace().next_back()?.parse().ok();
    Some((before(" packets,")?, before(" IP bytes")?))
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
        taken,
    })
}

fn show(rows: &[Row], packets: u64) {
    let fastest = rows.iter().filter(|r| !r.name.starts_with("weir")).map(|r| r.taken.seconds).min_by(f64::total_cmp);
    println!(
        "\n{:<12} {:>12} {:>10} {:>12} {:>14}  against the fastest peer",
        "", "packets/s", "peak MiB", "packets", "IP bytes"
    );
    for r in rows {
        let said = |n: Option<u64>| n.map_or("?".into(), |n| n.to_string());
        println!(
            "{:<12} {:>12.0} {:>10.1} {:>12} {:>14}  {}",
            r.name,
            packets as f64 / r.taken.seconds,
            r.taken.peak_kib as f64 / 1024.0,
            said(r.packets),
            said(r.bytes),
            fastest.map_or(String::new(), |f| format!("{:.2}x", f / r.taken.seconds))
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_tool_prints_is_understood() {
        let peer = |name: &str| PEERS.iter().find(|p| p.name == name).unwrap().totals;
        let said = "Ident: 'none' Flows: 20000, Packets: 20000, Bytes: 2560000\nTotal: Processed: 20000, skipped: 0\n";
        assert_eq!(peer("nfpcapd")(said), Some((20_000, 2_560_000)));
        let said = "Packets processed: 30\nFragments: 0\n\nPer-protocol statistics:     Octets      Packets   Avg Life\n\
                    \u{20}          udp (17):        2560         20       0.01s       0.01s\n\
                    \u{20}           tcp (6):         440         10       0.01s       0.01s\n\n";
        assert_eq!(peer("softflowd")(said), Some((30, 3000)));
        let said = "racount   records     total_pkts     src_pkts       dst_pkts       total_bytes        src_bytes\n\
                    \u{20}   sum   2001        20000          10000          10000          2840000            1420000\n";
        assert_eq!(peer("argus")(said), Some((20_000, 2_840_000)));
        assert_eq!(peer("tshark")("| 0.000 <> 19.998 |  20000 | 2840000 |\n"), Some((20_000, 2_840_000)));
        assert_eq!(peer("NFStream")("packets 20000 bytes 2840000\n"), Some((20_000, 2_840_000)));
        let said = "2 read: 9 packets/s, 1.0 s (0.9 s of a processor), peak 5 KiB, 1 flows, 20000 packets, 77 IP bytes";
        assert_eq!(weir_totals(said), Some((20_000, 77)));
    }
}
