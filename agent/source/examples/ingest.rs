//! How fast captures are read, on one thread, flow table included.
//!
//! ```text
//! cargo run --release -p weir-source --example ingest -- make FILE [PACKETS [FLOWS]]   a capture, the same each time
//! cargo run --release -p weir-source --example ingest -- read FILE [packets|epochs|plain|flows]   one line of figures
//! cargo run --release -p weir-source --example ingest -- repeat FILE GIGABYTES   such a capture again and again, to stdout
//! ```
//! `packets` stops at the packets, `epochs` before the flow table, and `plain` makes flows without what their sources were doing
//! (see `weir_core::context`), as other tools do; `-` is standard input. Peak memory is that of the whole
//! process. `repeat` lets time go on and gives each round clients of its own, so that no flow comes twice.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use weir_common::flow::{FlowKey, FlowStats};
use weir_core::table::TableConfig;
use weir_source::pcap::Packets;
use weir_source::{Flows, Input, Observation, Options, Sink, Stop};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match *args.as_slice() {
        ["make", file] => make(Path::new(file), 2_000_000, 200_000),
        ["make", file, packets] => make(Path::new(file), packets.parse()?, packets.parse::<u64>()? / 10),
        ["make", file, packets, flows] => make(Path::new(file), packets.parse()?, flows.parse()?),
        ["read", file] | ["read", file, "flows"] => read(Path::new(file), Some(TableConfig::default())),
        ["read", file, "plain"] => read(Path::new(file), Some(TableConfig { context: None, ..TableConfig::default() })),
        ["read", file, "epochs"] => read(Path::new(file), None),
        ["read", file, "packets"] => packets(Path::new(file)),
        ["repeat", file, gigabytes] => repeat(Path::new(file), gigabytes.parse()?),
        _ => Err("ingest make FILE [PACKETS [FLOWS]] | ingest read FILE [packets|epochs|plain|flows] | \
                ingest repeat FILE GIGABYTES"
            .into()),
    }
}

/// Takes epochs and counts.
#[derive(Default)]
struct Count {
    entries: u64,
    packets: u64,
    bytes: u64,
}

impl Sink for Count {
    fn epoch(&mut self, _end_us: u64, drained: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), Stop> {
        self.entries += drained.len() as u64;
        for dir in drained.iter().flat_map(|(_, s)| &s.dir) {
            self.packets += dir.packets;
            self.bytes += dir.bytes;
        }
        Ok(())
    }
    fn flow(&mut self, _flow: Observation) -> Result<(), Stop> {
        Ok(())
    }
    fn end(&mut self) -> Result<(), Stop> {
        Ok(())
    }
}

fn read(file: &Path, table: Option<TableConfig>) -> Outcome {
    let start = Instant::now();
    let options = Options::default();
    let input = Input::open(file, &options)?;
    let mut total = Count::default();
    let entries = if table.is_some() { "flows" } else { "entries of epochs" };
    let (report, result) = if let Some(config) = table {
        let mut sink = Flows::new(config, false, |o: Observation| {
            total.entries += 1;
            total.packets += o.record.fwd.packets + o.record.bwd.packets;
            total.bytes += o.record.fwd.bytes + o.record.bwd.bytes;
            Ok(())
        });
        input.read(&options, &mut sink)
    } else {
        input.read(&options, &mut total)
    };
    let seconds = start.elapsed().as_secs_f64();
    result?;
    println!(
        "{} read: {:.0} packets/s, {seconds:.3} s ({:.3} s of a processor), peak {} KiB, {} {}, {} packets, {} IP bytes",
        report.read,
        report.read as f64 / seconds,
        processor_seconds()?,
        peak_kib()?,
        total.entries,
        entries,
        total.packets,
        total.bytes
    );
    Ok(())
}

fn packets(file: &Path) -> Outcome {
    let start = Instant::now();
    let mut packets = Packets::new(File::open(file)?)?;
    let (mut n, mut bytes) = (0u64, 0u64);
    while let Some(p) = packets.next_packet()? {
        n += 1;
        bytes += u64::from(p.wire_len);
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{n} read: {:.0} packets/s, {seconds:.3} s, {bytes} bytes on the wire", n as f64 / seconds);
    Ok(())
}

/// Says on stderr how many rounds there were.
fn repeat(file: &Path, gigabytes: f64) -> Outcome {
    const HEADER: usize = 24;
    let mut capture = std::fs::read(file)?;
    let (header, records) = capture.split_at_mut_checked(HEADER).ok_or("no capture")?;
    // Where each packet's seconds lie, and what tells its client from that of another round.
    let (mut places, mut seconds, mut at) = (Vec::new(), Vec::new(), 0);
    while let Some(record) = records.get(at..at + 16) {
        let word = |i: usize| u32::from_le_bytes([record[i], record[i + 1], record[i + 2], record[i + 3]]);
        let (when, length) = (word(0), word(8) as usize);
        let frame = records.get(at + 16..at + 16 + length).ok_or("the capture is cut short")?;
        // Where the last four bytes of the two addresses lie. Clients have 10 there (see `make`), servers have not.
        let ends = if frame[12..14] == [0x86, 0xdd] { [14 + 20, 14 + 36] } else { [14 + 12, 14 + 16] };
        let client = ends.into_iter().find(|&end| frame[end] == 10).ok_or("not a capture of `make`")?;
        places.push((at, at + 16 + client + 1));
        seconds.push(when);
        at += 16 + length;
    }
    let first = seconds.iter().min().ok_or("no packets")?;
    let span = seconds.iter().max().unwrap_or(first) - first + 1;
    let rounds = ((gigabytes * 1e9) / records.len() as f64).ceil() as u32;
    if rounds > u32::from(u16::MAX) {
        return Err("more than 65535 rounds: begin with a larger capture".into());
    }
    let mut out = io::stdout().lock();
    out.write_all(header)?;
    for round in 0..rounds {
        for (&(time, client), when) in places.iter().zip(&seconds) {
            records[time..time + 4].copy_from_slice(&(when + round * span).to_le_bytes());
            records[client..client + 2].copy_from_slice(&(round as u16).to_be_bytes());
        }
        out.write_all(records)?;
    }
    out.flush()?;
    eprintln!("{rounds} rounds");
    Ok(())
}

/// The most memory that this process has had.
fn peak_kib() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse().unwrap_or(0))
}

/// Time that this process's first thread has run: on a busy machine less than has passed.
fn processor_seconds() -> io::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/schedstat")?;
    Ok(stat.split(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1e9)
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    /// Exponential with this mean.
    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - (self.next() >> 11) as f64 / (1u64 << 53) as f64).ln()
    }
}

/// A conversation that is still to send `left` packets.
struct Talk {
    client: [u8; 16],
    server: [u8; 16],
    ports: [u16; 2],
    proto: u8,
    v6: bool,
    sent: u32,
    left: u32,
    /// Mean pause between packets, µs.
    pause: f64,
}

/// Two minutes of a network: 70% of the flows are TCP (handshake, data with an acknowledgement for each two segments,
/// FIN or RST), 28% UDP (mostly DNS), 2% ICMP; one in seven is IPv6. Lengths have a heavy tail. Every flow has a
/// 5-tuple of its own.
fn make(file: &Path, packets: u64, flows: u64) -> Outcome {
    const SPAN_US: u64 = 120_000_000;
    const START_US: u64 = 1_700_000_000_000_000;
    let mut random = Random(7);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    out.write_all(&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0])?;
    let lengths = lengths(packets, flows, &mut random);
    let mut talks: Vec<Talk> = Vec::with_capacity(lengths.len());
    let mut due: BinaryHeap<Reverse<(u64, u32)>> = BinaryHeap::with_capacity(lengths.len());
    for (i, length) in lengths.into_iter().enumerate() {
        let v6 = i % 7 == 3;
        // Client and source port follow from the number of the flow: no two are alike.
        let (client, port) = (i as u32 / 1000, 20_000 + (i % 1000) as u16);
        let server = random.below(5000) as u16;
        let (proto, service) = match random.below(100) {
            _ if length > 40 => (6, 443),
            0..70 => (6, [443, 80, 22, 25][random.below(4) as usize]),
            70..98 => (17, if length <= 4 { 53 } else { 443 }),
            _ => (if v6 { 58 } else { 1 }, 0),
        };
        let span = (SPAN_US / 4) as f64 * random.exponential(0.15);
        talks.push(Talk {
            client: address(v6, 0x0a00_0000 | client),
            // Pings have no ports to tell them apart.
            server: match proto {
                6 | 17 => address(v6, 0xc0a8_0000 | u32::from(server)),
                _ => address(v6, 0xac10_0000 | (i as u32 % 1000)),
            },
            ports: [port, service],
            proto,
            v6,
            sent: 0,
            left: length,
            pause: span / f64::from(length),
        });
        due.push(Reverse((random.below(SPAN_US), i as u32)));
    }
    let payload = [0x5au8; 1460];
    let mut written = 0u64;
    while let Some(Reverse((at, i))) = due.pop() {
        let talk = &mut talks[i as usize];
        let frame = talk.frame(&mut random, &payload);
        let us = START_US + at;
        for field in [(us / 1_000_000) as u32, (us % 1_000_000) as u32, frame.len() as u32, frame.len() as u32] {
            out.write_all(&field.to_le_bytes())?;
        }
        out.write_all(&frame)?;
        written += 1;
        talk.sent += 1;
        talk.left -= 1;
        if talk.left > 0 {
            due.push(Reverse((at + 1 + random.exponential(talk.pause) as u64, i)));
        }
    }
    out.flush()?;
    println!("{written} packets in {} flows: {}", talks.len(), file.display());
    Ok(())
}

/// How many packets each flow has: `packets` in all, few flows with many.
fn lengths(packets: u64, flows: u64, random: &mut Random) -> Vec<u32> {
    let mut lengths: Vec<u32> = (0..flows)
        .map(|_| {
            let u = 1.0 - (random.next() >> 11) as f64 / (1u64 << 53) as f64;
            (1.4 / u.powf(0.75)).clamp(1.0, 4000.0) as u32
        })
        .collect();
    let mut sum: u64 = lengths.iter().map(|&n| u64::from(n)).sum();
    // The rest goes to every flow alike, which moves the mean and leaves the tail.
    while sum < packets {
        let i = random.below(flows) as usize;
        lengths[i] += 1;
        sum += 1;
    }
    while sum > packets.max(flows) {
        let i = random.below(flows) as usize;
        if lengths[i] > 1 {
            lengths[i] -= 1;
            sum -= 1;
        }
    }
    lengths
}

fn address(v6: bool, n: u32) -> [u8; 16] {
    let [a, b, c, d] = n.to_be_bytes();
    let mut address = [0; 16];
    if v6 {
        address[..2].copy_from_slice(&[0xfd, 0]);
    }
    address[12..].copy_from_slice(&[a, b, c, d]);
    address
}

impl Talk {
    fn frame(&self, random: &mut Random, filler: &[u8]) -> Vec<u8> {
        let last = self.left == 1;
        // A TCP conversation: SYN, SYN-ACK, ACK, request, then two segments and their acknowledgement; FINs at the end.
        let (backward, flags, size) = match (self.proto, self.sent) {
            (6, 0) => (false, 0x02, 0),
            (6, 1) => (true, 0x12, 0),
            (6, 2) => (false, 0x10, 0),
            (6, 3) => (false, 0x18, 100 + random.below(500) as usize),
            (6, _) if last => (false, 0x11, 0),
            (6, _) if self.left == 2 => (true, 0x11, 0),
            (6, n) if n % 3 == 0 => (false, 0x10, 0),
            (6, _) => (true, 0x18, if random.below(3) == 0 { 1460 } else { random.below(700) as usize }),
            (_, n) => (n % 2 == 1, 0, 40 + random.below(160) as usize),
        };
        let (from, to) = if backward { (self.server, self.client) } else { (self.client, self.server) };
        let [mut source, mut target] = self.ports;
        if backward {
            std::mem::swap(&mut source, &mut target);
        }
        let mut l4: Vec<u8> = Vec::with_capacity(1500);
        match self.proto {
            6 => {
                l4.extend([source.to_be_bytes(), target.to_be_bytes()].concat());
                l4.extend(if backward { [0, 0, 0x10, 0] } else { [0, 0, 0x20, 0] });
                l4.extend(if backward { [0, 0, 0x20, 1] } else { [0, 0, 0x10, 1] });
                l4.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            }
            17 => {
                l4.extend([source.to_be_bytes(), target.to_be_bytes()].concat());
                l4.extend(((8 + size) as u16).to_be_bytes());
                l4.extend([0, 0]);
            }
            proto => {
                let kind = match (proto, backward) {
                    (1, false) => 8,
                    (1, true) => 0,
                    (_, false) => 128,
                    (_, true) => 129,
                };
                l4.extend([kind, 0, 0, 0]);
                l4.extend([self.ports[0].to_be_bytes(), [0, 1]].concat());
            }
        }
        l4.extend(&filler[..size]);
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if self.v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((l4.len() as u16).to_be_bytes());
            frame.extend([self.proto, 64]);
            frame.extend(from);
            frame.extend(to);
        } else {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend(((20 + l4.len()) as u16).to_be_bytes());
            frame.extend([0, 1, 0x40, 0, 64, self.proto, 0, 0]);
            frame.extend(&from[12..]);
            frame.extend(&to[12..]);
        }
        frame.extend(l4);
        // Ethernet pads to 60 bytes.
        frame.resize(frame.len().max(60), 0);
        frame
    }
}
