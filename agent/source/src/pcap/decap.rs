//! What tunnels carry: IP in IP (RFC 2003, 2473, 4213), GRE (RFC 2784, 2890, 2637), VXLAN (RFC 7348), GTP-U (3GPP TS
//! 29.281) and MPLS (RFC 3032, 4385).

use weir_common::flow::ip_proto;
use weir_common::parse::Depth;

use super::layers::{Layers, ip};
use super::link::{LeftOut, LinkType, Network, array, be16, ether_type, ethernet, ip_by_version, network, ppp};

/// Tunnels inside tunnels that are followed.
const MAX_NESTING: usize = 8;
/// Labels of one MPLS stack that are followed.
const MAX_LABELS: usize = 16;
/// GTP-U extension headers that are followed.
const MAX_EXTENSIONS: usize = 16;

const IP_IN_IP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;
const VXLAN_PORT: u16 = 4789;
const GTP_U_PORT: u16 = 2152;

/// The innermost IP packet. Where something inside cannot be read, the packet is what carries it.
pub(super) fn innermost(link: LinkType, data: &[u8], wire_len: u32) -> Result<Layers, LeftOut> {
    let mut found = carried(link, data, wire_len)?;
    for _ in 0..MAX_NESTING {
        let Some(next) = inside(&found, data) else { break };
        found = next;
    }
    Ok(found)
}

/// The outermost IP packet, also behind MPLS labels.
fn carried(link: LinkType, data: &[u8], wire_len: u32) -> Result<Layers, LeftOut> {
    let mut n = network(link, data)?;
    for _ in 0..MAX_NESTING {
        match unlabelled(data, &n) {
            Some(next) => n = next,
            None => break,
        }
    }
    ip(&n, data, wire_len)
}

/// One tunnel further in.
fn inside(outer: &Layers, data: &[u8]) -> Option<Layers> {
    // What lies behind the IP packet (padding) is not carried by it.
    let end = outer.ip_at.checked_add(outer.meta.ip_len as usize)?;
    let data = data.get(..end.min(data.len()))?;
    let mut n = next(outer, data)?;
    for _ in 0..MAX_NESTING {
        match unlabelled(data, &n) {
            Some(next) => n = next,
            None => break,
        }
    }
    ip(&n, data, u32::try_from(end).ok()?).ok()
}

fn next(outer: &Layers, data: &[u8]) -> Option<Network> {
    let m = &outer.meta;
    if m.depth != Depth::Full || m.fragment != 0 || more_fragments(outer, data) {
        return None;
    }
    let l4 = outer.ip_at.checked_add(m.l3_len as usize)?;
    let vlans = [m.vlan_outer, m.vlan_inner];
    let same_link = |ether_type| Some(Network { ether_type, at: l4, vlans });
    match m.proto {
        IP_IN_IP => same_link(ether_type::IPV4),
        IPV6_IN_IP => same_link(ether_type::IPV6),
        GRE => gre(data, l4, vlans),
        ip_proto::UDP if m.dst_port == VXLAN_PORT => vxlan(data, l4 + 8),
        ip_proto::UDP if m.dst_port == GTP_U_PORT || m.src_port == GTP_U_PORT => {
            gtp_u(data, l4 + 8).map(|n| Network { vlans, ..n })
        }
        _ => None,
    }
}

/// A first fragment: what it carries is cut, and the rest cannot be told apart.
fn more_fragments(outer: &Layers, data: &[u8]) -> bool {
    let at = outer.ip_at;
    if outer.meta.family == 4 {
        return data.get(at + 6).is_some_and(|b| b & 0x20 != 0);
    }
    // The shared parser has been along these headers: they end at `l3_len`.
    let end = at.saturating_add(outer.meta.l3_len as usize);
    let mut next = data.get(at + 6).copied();
    let mut here = at + 40;
    while here < end {
        let Some([following, units, _, bits]) = array::<4>(data, here) else { return false };
        here += match next {
            Some(44) => return bits & 1 != 0,
            Some(51) => (usize::from(units) + 2) * 4,
            _ => (usize::from(units) + 1) * 8,
        };
        next = Some(following);
    }
    false
}

fn gre(data: &[u8], at: usize, vlans: [u16; 2]) -> Option<Network> {
    const CHECKSUM: u16 = 0x8000;
    const ROUTING: u16 = 0x4000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    /// Version 1 only.
    const ACKNOWLEDGEMENT: u16 = 0x0080;
    let flags = be16(data, at)?;
    let protocol = be16(data, at + 2)?;
    if flags & ROUTING != 0 {
        return None;
    }
    let mut behind = at + 4;
    for flag in [CHECKSUM, KEY, SEQUENCE] {
        behind += if flags & flag != 0 { 4 } else { 0 };
    }
    match (flags & 7, protocol) {
        (0, ether_type::BRIDGED) => ethernet(data, behind),
        (0, ether_type) => Some(Network { ether_type, at: behind, vlans }),
        (1, ether_type::PPP) => {
            behind += if flags & ACKNOWLEDGEMENT != 0 { 4 } else { 0 };
            let framing = if array(data, behind) == Some([0xff, 0x03]) { 2 } else { 0 };
            ppp(data, behind + framing).map(|n| Network { vlans, ..n })
        }
        _ => None,
    }
}

fn vxlan(data: &[u8], at: usize) -> Option<Network> {
    const HAS_IDENTIFIER: u8 = 0x08;
    let header = array::<8>(data, at)?;
    if header[0] & HAS_IDENTIFIER == 0 {
        return None;
    }
    ethernet(data, at + 8)
}

fn gtp_u(data: &[u8], at: usize) -> Option<Network> {
    const G_PDU: u8 = 0xff;
    const EXTENSION: u8 = 0x04;
    const ANY_OPTION: u8 = 0x07;
    let [flags, message, ..] = array::<8>(data, at)?;
    // Version 1, protocol type GTP.
    if flags & 0xf0 != 0x30 || message != G_PDU {
        return None;
    }
    let mut behind = at + 8;
    if flags & ANY_OPTION != 0 {
        let [_, _, _, mut next] = array::<4>(data, behind)?;
        behind += 4;
        if flags & EXTENSION != 0 {
            for _ in 0..MAX_EXTENSIONS {
                if next == 0 {
                    break;
                }
                let length = usize::from(*data.get(behind)?) * 4;
                if length == 0 {
                    return None;
                }
                behind += length;
                next = *data.get(behind - 1)?;
            }
        }
    }
    ip_by_version(data, behind).filter(|n| n.ether_type != 0)
}

/// What a stack of labels carries; `None` where there is none. Nothing names it but its first bits: IPv4, IPv6, an
/// Ethernet frame behind a control word, or an Ethernet frame.
fn unlabelled(data: &[u8], n: &Network) -> Option<Network> {
    if !matches!(n.ether_type, ether_type::MPLS | ether_type::MPLS_MULTICAST) {
        return None;
    }
    const BOTTOM: u8 = 1;
    let mut at = n.at;
    let mut labels = 0;
    loop {
        let [_, _, bits, _] = array::<4>(data, at)?;
        at += 4;
        labels += 1;
        if bits & BOTTOM != 0 {
            break;
        }
        if labels == MAX_LABELS {
            return None;
        }
    }
    match data.get(at)? >> 4 {
        4 => Some(Network { ether_type: ether_type::IPV4, at, vlans: n.vlans }),
        6 => Some(Network { ether_type: ether_type::IPV6, at, vlans: n.vlans }),
        // An address may begin like a control word.
        0 => ethernet(data, at + 4).filter(is_ip).or_else(|| ethernet(data, at)),
        _ => ethernet(data, at),
    }
}

fn is_ip(n: &Network) -> bool {
    matches!(n.ether_type, ether_type::IPV4 | ether_type::IPV6)
}
