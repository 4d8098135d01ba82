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
    /// RFC 8086.
    GreInUdp,
    /// VXLAN with a next protocol (draft-ietf-nvo3-vxlan-gpe), read by that field alone.
    VxlanGpe,
    /// Network Service Header (RFC 8300) as an EtherType.
    Nsh,
    /// Cisco MetaData.
    MetaData,
    /// TaZmen Sniffer Protocol.
    Tzsp,
    /// RFC 5415, data of 802.11.
    Capwap,
}

const RAW: LinkType = LinkType::RAW;
const ETHERNET: LinkType = LinkType::ETHERNET;

impl Inside {
    /// Where what is inside begins, and what that is.
    pub fn behind(self, p: &Packet, l: Option<&Layers>) -> Option<(usize, LinkType)> {
        match self {
            Self::FabricPath => (frame_of(p, l)? == 0x8903).then_some((16, ETHERNET)),
            Self::Pbb => match frame_of(p, l)? {
                0x88e7 => Some((18, ETHERNET)),
                0x8100 | 0x88a8 if p.be16(16)? == 0x88e7 => Some((22, ETHERNET)),
                _ => None,
            },
            // As if the addresses began later: the EtherType is where one of Ethernet would be.
            Self::VnTag => match frame_of(p, l)? {
                0x8926 => Some((6, ETHERNET)),
                0x8100 if p.be16(16)? == 0x8926 => Some((10, ETHERNET)),
                _ => None,
            },
            Self::Erspan => match l {
                None => (frame_of(p, l)? == 0x88be).then_some((22, ETHERNET)),
                Some(l) => erspan(p, l),
            },
            Self::Nsh if frame_of(p, l)? == 0x894f => {
                let behind = 14 + usize::from(p.byte(15)? & 0x3f) * 4;
                Some((behind, if p.byte(17)? == 3 { ETHERNET } else { RAW }))
            }
            Self::Nsh => None,
            Self::MetaData => (frame_of(p, l)? == 0x8909).then_some((22, RAW)),
            Self::GreInUdp => {
                let at = udp(l?, 4754)?;
                let flags = p.be16(at)?;
                let options = [0x8000, 0x2000, 0x1000].iter().filter(|f| flags & *f != 0).count();
                Some((at + 4 + options * 4, if p.be16(at + 2)? == 0x6558 { ETHERNET } else { RAW }))
            }
            Self::VxlanGpe => {
                let at = udp(l?, 4790).filter(|_| l.is_some_and(|l| l.meta.dst_port == 4790))?;
                match p.byte(at + 3)? {
                    1 | 2 => Some((at + 8, RAW)),
                    3 => Some((at + 8, ETHERNET)),
                    _ => None,
                }
            }
            Self::Geneve => {
                let at = udp(l?, 6081)?;
                let behind = at + 8 + usize::from(p.byte(at)? & 0x3f) * 4;
                Some((behind, if p.be16(at + 2)? == 0x6558 { ETHERNET } else { RAW }))
            }
            Self::Teredo => {
                let l = l?;
                let Some(mut at) = udp(l, 3544) else {
                    // Between peers the ports are anything, the addresses are Teredo's, and the lengths fit.
                    let at = udp(l, l.meta.dst_port)?;
                    let inside = usize::from(p.be16(at + 4)?) + 40;
                    let of_teredo = |at: usize| p.be16(at) == Some(0x2001) && p.be16(at + 2) == Some(0);
                    let right = p.byte(at)? >> 4 == 6
                        && l.ip_at + l.meta.ip_len as usize == at + inside
                        && (of_teredo(at + 8) || of_teredo(at + 24));
                    return right.then_some((at, RAW));
                };
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

/// The IP packets that a tool passes on its way into a frame, outermost first, which knows `known` besides what Weir knows.
/// The last is the innermost.
pub fn look(p: &Packet, known: &[Inside]) -> Vec<Layers> {
    let mut all: Vec<Layers> = Vec::new();
    let pass = |outer: Option<Layers>, inner: Option<Layers>, at: usize, all: &mut Vec<Layers>| {
        for l in [outer, inner].into_iter().flatten() {
            let l = Layers { ip_at: l.ip_at + at, ..l };
            if all.last().is_none_or(|last| last.ip_at != l.ip_at) {
                all.push(l);
            }
        }
    };
    pass(p.outer.ok(), p.inner.ok(), 0, &mut all);
    for _ in 0..4 {
        let Some((at, link)) = known.iter().find_map(|k| k.behind(p, all.last())) else { break };
        let Some(data) = p.data.get(at..) else { break };
        let wire_len = p.wire_len.saturating_sub(at as u32);
        let frame = Frame { at_us: p.at_us, link, data, wire_len, offset: 0 };
        let Ok(inner) = Layers::innermost(&frame) else { break };
        pass(Layers::of(&frame).ok(), Some(inner), at, &mut all);
    }
    all
}
