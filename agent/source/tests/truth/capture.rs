//! Captures: where they are, their packets, and the records that Weir makes of them.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use weir_common::parse::PacketMeta;
use weir_core::addr::Addr;
use weir_core::record::FlowRecord;
use weir_core::table::TableConfig;
use weir_source::pcap::{Layers, LeftOut, LinkType, packets};
use weir_source::{Flows, Input, Observation, Options};

use crate::engine::{Key, order};

/// The folder of public captures, or `None` behind a visible SKIP.
pub fn corpus(test: &str, part: &str) -> Option<PathBuf> {
    let root = std::env::var_os("WEIR_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let path = root.join(part);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIP {test}: no {} (WEIR_CORPUS names the folder of captures)", path.display());
    None
}

/// One packet of a capture and what Weir reads in it.
pub struct Packet {
    pub at_us: u64,
    pub link: LinkType,
    pub data: Vec<u8>,
    pub wire_len: u32,
    pub outer: Result<Layers, LeftOut>,
    /// With `decap`.
    pub inner: Result<Layers, LeftOut>,
}

impl Packet {
    pub fn byte(&self, at: usize) -> Option<u8> {
        self.data.get(at).copied()
    }
    pub fn be16(&self, at: usize) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte(at)?, self.byte(at + 1)?]))
    }
    /// Not all of it was captured.
    pub fn cut(&self) -> bool {
        (self.data.len() as u64) < u64::from(self.wire_len)
    }
}

/// A capture: its packets, as far as it can be read.
pub struct Capture {
    pub path: PathBuf,
    pub packets: Vec<Packet>,
}

impl Capture {
    pub fn open(path: &Path) -> Self {
        let mut all = Vec::new();
        let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if let Ok(mut from) = packets(file) {
            while let Ok(Some(p)) = from.next_packet() {
                all.push(Packet {
                    at_us: p.at_us,
                    link: p.link,
                    data: p.data.to_vec(),
                    wire_len: p.wire_len,
                    outer: Layers::of(&p),
                    inner: Layers::innermost(&p),
                });
            }
        }
        Self { path: path.to_path_buf(), packets: all }
    }

    /// Weir's own records, each flow once, where flows of a protocol are over after a silence of `idle_us`.
    pub fn records(&self, idle_us: impl Fn(u8) -> u64) -> Vec<FlowRecord> {
        let mut all = Vec::new();
        let timeouts: BTreeSet<u64> = (0..=u8::MAX).map(&idle_us).collect();
        for t in timeouts {
            all.extend(self.records_with(t).into_iter().filter(|r| idle_us(r.proto) == t));
        }
        all
    }

    fn records_with(&self, idle_us: u64) -> Vec<FlowRecord> {
        let mut records = Vec::new();
        let config = TableConfig { idle_us, ..TableConfig::default() };
        let options = Options::default();
        let Ok(input) = Input::open(&self.path, &options) else { return records };
        let mut flows = Flows::new(config, false, |o: Observation| {
            records.push(o.record);
            Ok(())
        });
        // A file that breaks off gives what came before: the packets above break off in the same place.
        let _ = input.read(&options, &mut flows);
        records
    }
}

/// The innermost tag: the tools know one at most.
pub fn tag(m: &PacketMeta) -> u16 {
    if m.vlan_inner != 0 { m.vlan_inner } else { m.vlan_outer }
}

/// Endpoints and protocol of a packet, and which end sent it.
pub fn key_of(m: &PacketMeta, vlan: u16) -> (Key, usize) {
    let from = (Addr(m.src).ip(), m.src_port);
    let to = (Addr(m.dst).ip(), m.dst_port);
    let (ends, sender) = order(from, to);
    (Key { proto: m.proto, ends, vlan }, sender)
}

/// The files of a folder, in the order of their names.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut all: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_file()).collect();
    all.sort();
    all
}

pub fn text(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    String::from_utf8_lossy(&bytes).into_owned()
}


/// What a packet is to a tool that puts IP fragments together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    Whole,
    /// A fragment that does not complete its datagram, or whose datagram is never complete.
    Part,
    /// Completes a datagram that begins with packet `first` and is `ip_len` long, header included.
    Last { first: usize, ip_len: u64 },
}

/// Puts together fragments of IPv4 (RFC 791) and IPv6 (RFC 8200). `layers`: the IP packet that counts of each packet.
pub fn pieces(packets: &[Packet], layers: &[Option<Layers>]) -> Vec<Piece> {
    #[derive(Default)]
    struct Datagram {
        first: Option<(usize, u64)>,
        payload: u64,
        length: Option<u64>,
    }
    let mut open: HashMap<([u8; 16], [u8; 16], u32, u8), Datagram> = HashMap::new();
    let mut all = Vec::with_capacity(packets.len());
    for (i, (p, l)) in packets.iter().zip(layers).enumerate() {
        let Some((id, offset, more, header)) = l.and_then(|l| fragment(p, &l)) else {
            all.push(Piece::Whole);
            continue;
        };
        let Some(m) = l.map(|l| l.meta) else { continue };
        let d = open.entry((m.src, m.dst, id, m.proto)).or_default();
        let payload = u64::from(m.ip_len).saturating_sub(header);
        d.payload += payload;
        if offset == 0 {
            d.first = Some((i, header));
        }
        if !more {
            d.length = Some(offset + payload);
        }
        match (d.first, d.length) {
            (Some((first, header)), Some(length)) if length == d.payload => {
                open.remove(&(m.src, m.dst, id, m.proto));
                all.push(Piece::Last { first, ip_len: header + length });
            }
            _ => all.push(Piece::Part),
        }
    }
    all
}

/// Identification, offset in bytes, whether more follow, and bytes of headers before the payload. `None`: no fragment.
fn fragment(p: &Packet, l: &Layers) -> Option<(u32, u64, bool, u64)> {
    let at = l.ip_at;
    if l.meta.family == 4 {
        let bits = p.be16(at + 6)?;
        let (offset, more) = (u64::from(bits & 0x1fff) * 8, bits & 0x2000 != 0);
        return (more || offset != 0).then_some((p.be16(at + 4)?.into(), offset, more, u64::from(l.meta.l3_len)));
    }
    if p.byte(at + 6)? != 44 {
        return None;
    }
    let bits = p.be16(at + 42)?;
    let id = u32::from(p.be16(at + 44)?) << 16 | u32::from(p.be16(at + 46)?);
    Some((id, u64::from(bits & 0xfff8), bits & 1 != 0, 48))
}
