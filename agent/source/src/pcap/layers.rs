//! A captured packet as the shared parser reads it, and which bytes are whose.

use weir_common::flow::VLAN_NONE;
use weir_common::parse::{NotParsed, PacketMeta, parse_into, parse_ip_into};

use super::decap;
use super::link::{LeftOut, LinkType, Network, ether_type, network};
use super::packets::Packet;

/// What a packet says of its flow, and where its IP header begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    pub meta: PacketMeta,
    /// Offset of the IP header in [`Packet::data`].
    pub ip_at: usize,
}

impl Layers {
    /// The outermost IP packet.
    pub fn of(packet: &Packet<'_>) -> Result<Self, LeftOut> {
        outer(packet.link, packet.data, packet.wire_len)
    }

    /// The innermost IP packet of tunnels that are known (IP in IP, GRE, VXLAN, GTP-U, MPLS), at most eight of them. A
    /// fragment is not looked into.
    pub fn innermost(packet: &Packet<'_>) -> Result<Self, LeftOut> {
        decap::innermost(packet.link, packet.data, packet.wire_len)
    }

    /// The layer-4 payload, as far as it was captured; without padding behind the IP packet.
    pub fn payload<'a>(&self, packet: &Packet<'a>) -> &'a [u8] {
        let m = &self.meta;
        let end = self.ip_at.saturating_add(m.ip_len as usize).min(packet.data.len());
        let begin = self.ip_at + (m.l3_len + m.l4_len) as usize;
        packet.data.get(begin..end).unwrap_or_default()
    }
}

/// What the packet says of its flow, into `meta`: the hot path, without offsets and copies.
#[inline(always)]
pub(super) fn meta_into(packet: &Packet<'_>, meta: &mut PacketMeta) -> Result<(), LeftOut> {
    if packet.link == LinkType::ETHERNET {
        *meta = PacketMeta::EMPTY;
        match parse_into(packet.data, packet.wire_len, VLAN_NONE, meta) {
            Ok(()) => return Ok(()),
            Err(NotParsed::Malformed) => return Err(LeftOut::Malformed),
            // PPPoE perhaps.
            Err(NotParsed::NotIp) => {}
        }
    }
    *meta = Layers::of(packet)?.meta;
    Ok(())
}

pub(super) fn outer(link: LinkType, data: &[u8], wire_len: u32) -> Result<Layers, LeftOut> {
    ip(&network(link, data)?, data, wire_len)
}

/// The IP packet that `n` announces.
pub(super) fn ip(n: &Network, data: &[u8], wire_len: u32) -> Result<Layers, LeftOut> {
    let mut meta = PacketMeta { vlan_outer: n.vlans[0], vlan_inner: n.vlans[1], ..PacketMeta::EMPTY };
    match parse_ip_into(data, n.at, n.ether_type, wire_len, &mut meta) {
        Ok(()) => Ok(Layers { meta, ip_at: n.at }),
        Err(NotParsed::Malformed) => Err(LeftOut::Malformed),
        Err(NotParsed::NotIp) if matches!(n.ether_type, ether_type::MPLS | ether_type::MPLS_MULTICAST) => {
            Err(LeftOut::Mpls)
        }
        Err(NotParsed::NotIp) => Err(LeftOut::NotIp),
    }
}
