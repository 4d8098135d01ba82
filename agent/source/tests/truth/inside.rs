//! Encapsulations that other tools look into and Weir does not, so that what the tools count in them can be foretold.
//! What is inside is handed to Weir's own reader.

use weir_common::flow::ip_proto;
use weir_common::parse::Depth;
use weir_source::pcap::{Layers, LinkType, Packet as Frame};

use crate::capture::Packet;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Inside {
    /// Cisco FabricPath: 16 bytes before the frame.
    FabricPath,
    /// Provider backbone bridges (802.1ah).
    Pbb,
    /// Cisco VN-Tag (802.1Qbh).
    VnTag,
    /// Mirrored frames in GRE, types I to III.
    Erspan,
    /// RFC 8926.
    Geneve,
    /// RFC 4380.
    Teredo,
    Ayiya,
    /// TaZmen Sniffer Protocol.
    Tzsp,
    /// RFC 5415, data of 802.11.
    Capwap,
}

const RAW: LinkType = LinkType::RAW;
const ETHERNET: LinkType = LinkType::ETHERNET;

impl Inside {
    /// Where what is inside begins, and what that is.
    fn behind(self, p: &Packet, l: Option<&Layers>) -> Option<(usize, LinkType)> {
        match self {
            Self::FabricPath => (frame_of(p, l)? == 0x8903).then_some((16, ETHERNET)),
            Self::Pbb => match frame_of(p, l)? {
                0x88e7 => Some((18, ETHERNET)),
                0x88a8 if p.be16(16)? == 0x88e7 => Some((22, ETHERNET)),
                _ => None,
            },
            // As if the addresses began later: the EtherType is where one of Ethernet would be.
            Self::VnTag => (frame_of(p, l)? == 0x8926).then_some((6, ETHERNET)),
            Self::Erspan => erspan(p, l?),
            Self::Geneve => {
                let at = udp(l?, 6081)?;
                let behind = at + 8 + usize::from(p.byte(at)? & 0x3f) * 4;
                Some((behind, if p.be16(at + 2)? == 0x6558 { ETHERNET } else { RAW }))
            }
            Self::Teredo => {
                let mut at = udp(l?, 3544)?;
                if p.be16(at)? == 1 {
                    at += 13 + usize::from(p.byte(at + 2)?) + usize::from(p.byte(at + 3)?);
                }
                if p.be16(at)? == 0 {
                    at += 8;
                }
                (p.byte(at)? >> 4 == 6).then_some((at, RAW))
            }
            Self::Ayiya => {
                let at = udp(l?, 5072)?;
                let identity = 1usize << (p.byte(at)? >> 4);
                let signature = usize::from(p.byte(at + 1)? >> 4) * 4;
                (p.byte(at + 3)? == 41).then_some((at + 8 + identity + signature, RAW))
            }
            Self::Tzsp => {
                let mut at = udp(l?, 37008)?;
                if [p.byte(at)?, p.byte(at + 1)?] != [1, 0] || p.be16(at + 2)? != 1 {
                    return None;
                }
                at += 4;
                loop {
                    match p.byte(at)? {
                        0 => at += 1,
                        1 => return Some((at + 1, ETHERNET)),
                        _ => at += 2 + usize::from(p.byte(at + 1)?),
                    }
                }
            }
            Self::Capwap => {
                let at = udp(l?, 5247)?;
                if p.byte(at)? & 0x0f != 0 {
                    return None;
                }
                // The header's length in words; then 24 bytes of an 802.11 data frame and 8 of LLC and SNAP.
                let wifi = at + usize::from((p.byte(at + 1)? & 0xf8) >> 1);
                (p.byte(wifi + 1)? == 8).then_some((wifi + 32, RAW))
            }
        }
    }
}

/// The EtherType of a frame in which Weir found no IP.
fn frame_of(p: &Packet, l: Option<&Layers>) -> Option<u16> {
    if l.is_some() || p.link != ETHERNET { None } else { p.be16(12) }
}

/// Behind a UDP header to or from `port`.
fn udp(l: &Layers, port: u16) -> Option<usize> {
    let m = &l.meta;
    let right = m.proto == ip_proto::UDP
        && m.depth == Depth::Full
        && m.fragment == 0
        && (m.dst_port == port || m.src_port == port);
    right.then(|| l.ip_at + m.l3_len as usize + 8)
}

fn erspan(p: &Packet, l: &Layers) -> Option<(usize, LinkType)> {
    if l.meta.proto != 47 || l.meta.fragment != 0 {
        return None;
    }
    let at = l.ip_at + l.meta.l3_len as usize;
    let numbered = p.be16(at)? & 0x1000 != 0;
    let behind = match p.be16(at + 2)? {
        0x88be if numbered => at + 16,
        0x88be => at + 4,
        0x22eb => at + 20 + if p.byte(at + 19)? & 1 != 0 { 8 } else { 0 },
        _ => return None,
    };
    Some((behind, ETHERNET))
}

/// The innermost IP packet that a tool sees which knows `known` besides what Weir knows, with every one that it passed on
/// the way, outermost first.
pub fn look(p: &Packet, known: &[Inside]) -> Vec<Layers> {
    let mut all: Vec<Layers> = p.inner.ok().into_iter().collect();
    for _ in 0..4 {
        let Some((at, link)) = known.iter().find_map(|k| k.behind(p, all.last())) else { break };
        let Some(data) = p.data.get(at..) else { break };
        let wire_len = p.wire_len.saturating_sub(at as u32);
        let frame = Frame { at_us: p.at_us, link, data, wire_len, offset: 0 };
        let Ok(inner) = Layers::innermost(&frame) else { break };
        all.push(Layers { ip_at: inner.ip_at + at, ..inner });
    }
    all
}
