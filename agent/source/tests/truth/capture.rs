//! Captures: where they are, their packets, and the records that Weir makes of them.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use weir_common::flow::ip_proto;
use weir_common::parse::{Depth, PacketMeta};
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
    let from = (Addr(m.src.bytes()).ip(), m.src_port);
    let to = (Addr(m.dst.bytes()).ip(), m.dst_port);
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
pub enum Piece {
    Whole,
    /// A fragment that does not complete its datagram, or whose datagram is never complete.
    Part,
    /// Completes this datagram: an IP packet with no link header.
    Last(Box<Packet>),
}

/// Puts together fragments of IPv4 (RFC 791) and IPv6 (RFC 8200), those of one datagram by its identification, in any
/// order. `layers`: the IP packet that counts of each packet.
pub fn pieces(packets: &[Packet], layers: &[Option<Layers>]) -> Vec<Piece> {
    #[derive(Default)]
    struct Datagram {
        header: Option<Vec<u8>>,
        payload: Vec<u8>,
        got: usize,
        length: Option<usize>,
    }
    let mut open: HashMap<([u8; 16], [u8; 16], u32, u8), Datagram> = HashMap::new();
    let mut all = Vec::with_capacity(packets.len());
    for (p, l) in packets.iter().zip(layers) {
        let Some((f, l)) = l.and_then(|l| Some((fragment(p, &l)?, l))) else {
            all.push(Piece::Whole);
            continue;
        };
        let id = (l.meta.src.bytes(), l.meta.dst.bytes(), f.id, l.meta.proto);
        let d = open.entry(id).or_default();
        let (begin, end) = (l.ip_at + f.header, l.ip_at + l.meta.ip_len as usize);
        let part = p.data.get(begin..end.min(p.data.len())).unwrap_or_default();
        let behind = f.offset + end.saturating_sub(begin);
        d.got += behind - f.offset;
        d.payload.resize(d.payload.len().max(behind), 0);
        d.payload[f.offset..f.offset + part.len()].copy_from_slice(part);
        if f.offset == 0 {
            d.header = p.data.get(l.ip_at..begin).map(<[u8]>::to_vec);
        }
        if !f.more {
            d.length = Some(behind);
        }
        if d.header.is_none() || d.length != Some(d.got) {
            all.push(Piece::Part);
            continue;
        }
        let d = open.remove(&id).unwrap_or_default();
        all.push(Piece::Last(Box::new(whole(p.at_us, l.meta.family, d.header.unwrap_or_default(), &d.payload))));
    }
    all
}

/// The datagram behind the header of its first fragment, which is made that of a whole one.
fn whole(at_us: u64, family: u8, mut header: Vec<u8>, payload: &[u8]) -> Packet {
    let length = |n: usize| u16::try_from(n).unwrap_or_default().to_be_bytes();
    if family == 4 {
        let total = length(header.len() + payload.len());
        header[2..4].copy_from_slice(&total);
        header[6..8].fill(0);
    } else {
        // The fragment header goes.
        header[6] = header[40];
        header.truncate(40);
        header[4..6].copy_from_slice(&length(payload.len()));
    }
    let data = [header.as_slice(), payload].concat();
    let wire_len = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let frame = weir_source::pcap::Packet { at_us, link: LinkType::RAW, data: &data, wire_len, offset: 0 };
    let (outer, inner) = (Layers::of(&frame), Layers::innermost(&frame));
    Packet { at_us, link: LinkType::RAW, data, wire_len, outer, inner }
}

struct Fragment {
    id: u32,
    /// Bytes.
    offset: usize,
    more: bool,
    /// Bytes of headers before the payload.
    header: usize,
}

/// `None`: no fragment.
fn fragment(p: &Packet, l: &Layers) -> Option<Fragment> {
    let at = l.ip_at;
    if l.meta.family == 4 {
        let bits = p.be16(at + 6)?;
        let (offset, more) = (usize::from(bits & 0x1fff) * 8, bits & 0x2000 != 0);
        let header = l.meta.l3_len as usize;
        return (more || offset != 0).then_some(Fragment { id: p.be16(at + 4)?.into(), offset, more, header });
    }
    if p.byte(at + 6)? != 44 {
        return None;
    }
    let bits = p.be16(at + 42)?;
    let id = u32::from(p.be16(at + 44)?) << 16 | u32::from(p.be16(at + 46)?);
    Some(Fragment { id, offset: usize::from(bits & 0xfff8), more: bits & 1 != 0, header: 48 })
}

/// The checksum of layer 4 (RFC 1071), or of an IPv4 header, is wrong. Only where all of it was captured.
pub fn bad_checksum(p: &Packet, l: &Layers) -> bool {
    let m = &l.meta;
    let end = l.ip_at + m.ip_len as usize;
    let l4 = l.ip_at + m.l3_len as usize;
    let (Some(header), Some(body)) = (p.data.get(l.ip_at..l4), p.data.get(l4..end)) else { return false };
    if m.depth != Depth::Full || m.fragment != 0 || fragment(p, l).is_some() {
        return false;
    }
    if m.family == 4 && sum(header, 0) != 0xffff {
        return true;
    }
    let (from, to) = (m.src.bytes(), m.dst.bytes());
    let (from, to) = if m.family == 4 { (&from[12..], &to[12..]) } else { (&from[..], &to[..]) };
    let pseudo = sum(from, 0) + sum(to, 0) + u32::from(m.proto) + body.len() as u32;
    let checked = match m.proto {
        ip_proto::ICMP if m.family == 4 => sum(body, 0),
        ip_proto::UDP if body.get(6..8) == Some(&[0, 0]) => 0xffff,
        ip_proto::TCP | ip_proto::UDP | ip_proto::ICMPV6 => sum(body, pseudo),
        _ => 0xffff,
    };
    checked != 0xffff
}

fn sum(bytes: &[u8], start: u32) -> u32 {
    let words = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)));
    let mut all = words.fold(u64::from(start), |all, w| all + u64::from(w));
    while all > 0xffff {
        all = (all & 0xffff) + (all >> 16);
    }
    all as u32
}
