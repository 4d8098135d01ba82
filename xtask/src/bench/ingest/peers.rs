//! The tools that Weir is measured against.

use std::path::Path;

use anyhow::Result;

use crate::host::Host;
use crate::setup::venv::MODELS;
use crate::sh::{Sh, sh};

/// Bytes that Ethernet adds to each packet: tools that count frames count them too.
pub const LINK_HEADER: u64 = 14;

/// A tool that reads captures.
pub struct Peer {
    pub name: &'static str,
    /// Debian's packages.
    pub package: &'static str,
    pub program: &'static str,
    pub command: fn(&Host, &Path, &Path) -> Result<Sh>,
    /// Packets and bytes, from what it printed.
    pub totals: fn(&str) -> Option<(u64, u64)>,
    /// Its bytes are those of frames.
    pub frames: bool,
}

pub const PEERS: &[Peer] = &[
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
        package: "python3",
        program: "python3",
        command: |host, file, _| {
            crate::setup::venv(host, &MODELS)?;
            let python = MODELS.python(host);
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
    }
}
