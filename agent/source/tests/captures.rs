//! Every public capture: read without harm, with the same packets that another reader finds, and with none lost on the
//! way to a record.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use weir_common::flow::{FlowKey, FlowStats};
use weir_common::parse::Offload;
use weir_core::table::TableConfig;
use weir_source::pcap::{Layers, Packets};
use weir_source::{Flows, Format, Input, Observation, Options, Sink, Stop};

/// The folder of captures, `None` (and said so) where it is absent.
fn corpus(test: &str) -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder = std::env::var_os("WEIR_CORPUS").map_or(default, PathBuf::from).join("pcap");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIP {test}: no {} (WEIR_CORPUS names the folder of captures)", folder.display());
    None
}

/// Every file that begins as a capture does, in order.
fn captures(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if matches!(
                Input::open(&path, &Options::default()).map(|i| i.format()),
                Ok(Format::Pcap | Format::PcapNg)
            ) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Packets and captured bytes as the crate `pcap-file` counts them, `None` for a file that it refuses.
fn by_another_reader(path: &Path) -> Option<(u64, u64)> {
    let mut magic = [0; 4];
    File::open(path).ok()?.read_exact(&mut magic).ok()?;
    let file = BufReader::new(File::open(path).ok()?);
    let (mut packets, mut bytes) = (0, 0);
    let mut count = |data: &[u8]| {
        packets += 1;
        bytes += data.len() as u64;
    };
    if magic == [0x0a, 0x0d, 0x0d, 0x0a] {
        use pcap_file::pcapng::{Block, PcapNgReader};
        let mut reader = PcapNgReader::new(file).ok()?;
        while let Some(block) = reader.next_block() {
            match block.ok()? {
                Block::EnhancedPacket(p) => count(&p.data),
                Block::SimplePacket(p) => count(&p.data),
                Block::Packet(p) => count(&p.data),
                _ => {}
            }
        }
    } else {
        let mut reader = pcap_file::pcap::PcapReader::new(file).ok()?;
        while let Some(packet) = reader.next_packet() {
            count(&packet.ok()?.data);
        }
    }
    Some((packets, bytes))
}

/// Whole-file statistics by flow, epochs merged.
#[derive(Default)]
struct Merged(HashMap<FlowKey, FlowStats>);

impl Sink for Merged {
    fn epoch(&mut self, _end_us: u64, drained: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), Stop> {
        for (key, stats) in drained.drain(..) {
            self.0.entry(key).or_insert(FlowStats::EMPTY).merge(&stats);
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

/// The flows of a file's packets by the shared code, with neither epochs nor table.
fn folded(path: &Path) -> HashMap<FlowKey, FlowStats> {
    let mut flows = HashMap::new();
    let mut packets = Packets::new(File::open(path).unwrap()).unwrap();
    while let Ok(Some(packet)) = packets.next_packet() {
        let Ok(layers) = Layers::of(&packet) else { continue };
        let (key, dir) = layers.meta.key();
        let mut p = layers.meta.packet(Offload::default());
        (p.dir, p.now_us) = (dir, packet.at_us);
        flows.entry(key).or_insert(FlowStats::EMPTY).update(&p);
    }
    flows
}

#[derive(Default)]
struct Line {
    files: u64,
    packets: u64,
    flows: u64,
    compared: u64,
    left_out: BTreeMap<&'static str, u64>,
    truncated: u64,
    /// Captures with a packet whose time is far ahead of those around it.
    disbelieved: u64,
    corrupt: u64,
}

#[test]
fn every_capture_gives_the_packets_that_another_reader_finds_and_loses_none_on_the_way() {
    let Some(folder) = corpus("every_capture_gives_the_packets_that_another_reader_finds_and_loses_none_on_the_way")
    else {
        return;
    };
    let mut table: BTreeMap<String, Line> = BTreeMap::new();
    for path in captures(&folder) {
        let shown = path.display();
        let group = path.strip_prefix(&folder).unwrap().components().next().unwrap();
        let line = table.entry(group.as_os_str().to_string_lossy().into_owned()).or_default();
        line.files += 1;

        let (mut packets, mut bytes, mut broken) = (0, 0, None);
        let mut reader = Packets::new(File::open(&path).unwrap()).unwrap();
        loop {
            match reader.next_packet() {
                Ok(Some(p)) => {
                    assert!(p.data.len() <= p.wire_len as usize, "{shown}");
                    packets += 1;
                    bytes += p.data.len() as u64;
                }
                Ok(None) => break,
                Err(e) => {
                    broken = Some(e);
                    break;
                }
            }
        }
        if let Some(other) = by_another_reader(&path) {
            assert_eq!((packets, bytes), other, "{shown}");
            line.compared += 1;
        }
        if let Some(e) = &broken {
            eprintln!("{shown}: {e}");
            line.corrupt += 1;
        }

        for decap in [false, true] {
            let options = Options { decap, ..Options::default() };
            let mut counted = 0;
            let mut records = 0;
            let mut sink = Flows::new(TableConfig::default(), false, |o: Observation| {
                counted += o.record.fwd.packets + o.record.bwd.packets;
                records += 1;
                Ok(())
            });
            let (report, result) = Input::open(&path, &options).unwrap().read(&options, &mut sink);
            drop(sink);
            assert_eq!(result.is_err(), broken.is_some(), "{shown}");
            let left_out: u64 = report.left_out.values().sum();
            assert_eq!((report.read, counted + left_out), (packets, packets), "{shown}: {report}");
            if !decap {
                line.packets += packets;
                line.flows += records;
                line.truncated += u64::from(report.truncated);
                for (reason, n) in report.left_out {
                    *line.left_out.entry(reason).or_default() += n;
                }
            }
        }

        let mut merged = Merged::default();
        let (report, _) = Input::open(&path, &Options::default()).unwrap().read(&Options::default(), &mut merged);
        // Packets whose time was not believed count at another one, and the report says so; all else stays the same.
        let believed = !report.warnings.iter().any(|w| w.contains("ahead of the packets around them"));
        line.disbelieved += u64::from(!believed);
        let mut expected = folded(&path);
        assert_eq!(merged.0.len(), expected.len(), "{shown}");
        for (key, mut stats) in merged.0 {
            let mut other = expected.remove(&key).unwrap();
            // A proof whose handshake lies across a split may be missed by `merge`, and is never invented.
            for (s, o) in stats.dir.iter_mut().zip(&mut other.dir) {
                assert_eq!(s.seen & !o.seen & !weir_common::flow::seen::ACKED, 0, "{shown}: {key:?}");
                for d in [s, o] {
                    d.seen &= weir_common::flow::seen::TCP_FLAGS;
                    d.ack_first = 0;
                    if !believed {
                        (d.first_us, d.last_us, d.syn_us) = (0, 0, 0);
                        (d.gap_sq, d.gap_min, d.gap_max) = (0, 0, 0);
                    }
                }
            }
            assert_eq!(stats, other, "{shown}: {key:?}");
        }
    }
    assert!(!table.is_empty());
    eprintln!(
        "{:<12} {:>5} {:>9} {:>7} {:>8} {:>9} {:>7} {:>11}  left out",
        "folder", "files", "packets", "flows", "compared", "truncated", "corrupt", "disbelieved"
    );
    for (group, l) in table {
        let left_out: Vec<String> = l.left_out.iter().map(|(r, n)| format!("{n} {r}")).collect();
        eprintln!(
            "{group:<12} {:>5} {:>9} {:>7} {:>8} {:>9} {:>7} {:>11}  {}",
            l.files,
            l.packets,
            l.flows,
            l.compared,
            l.truncated,
            l.corrupt,
            l.disbelieved,
            left_out.join(", ")
        );
    }
}
