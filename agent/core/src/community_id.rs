//! Community ID v1: the flow hash that Zeek, Suricata and others agree on
//! (<https://github.com/corelight/community-id-spec>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use weir_common::flow::ip_proto;

use crate::addr::Addr;

const SCTP: u8 = 132;

/// ICMP types that have a counterpart, as they lie in the ports of the two endpoints.
const ICMP_PAIRS: [(u16, u16); 5] = [(8, 0), (13, 14), (15, 16), (17, 18), (10, 9)];
const ICMPV6_PAIRS: [(u16, u16); 6] = [(128, 129), (133, 134), (135, 136), (130, 131), (139, 140), (144, 145)];

/// The identifier of a flow, seed 0. For ICMP the ports hold type and code as the specification maps them, which is how
/// flow keys hold them.
pub fn community_id(src: (Addr, u16), dst: (Addr, u16), proto: u8) -> String {
    let (mut a, mut b) = (src, dst);
    if b < a && !one_way(proto, src.1, dst.1) {
        std::mem::swap(&mut a, &mut b);
    }
    let mut hash = Sha1::new();
    hash.update([0, 0]);
    for addr in [a.0, b.0] {
        hash.update(if addr.is_v4() { &addr.0[12..] } else { &addr.0[..] });
    }
    hash.update([proto, 0]);
    if matches!(proto, ip_proto::TCP | ip_proto::UDP | ip_proto::ICMP | ip_proto::ICMPV6 | SCTP) {
        hash.update(a.1.to_be_bytes());
        hash.update(b.1.to_be_bytes());
    }
    let mut id = String::with_capacity(30);
    id.push_str("1:");
    STANDARD.encode_string(hash.finalize(), &mut id);
    id
}

/// Type and code of ICMP or ICMPv6 (by `proto`) as the ports of who sent it: a type that has a counterpart meets it in one
/// flow.
pub fn icmp_ports(proto: u8, kind: u8, code: u8) -> (u16, u16) {
    let kind = u16::from(kind);
    let pairs: &[(u16, u16)] = if proto == ip_proto::ICMPV6 { &ICMPV6_PAIRS } else { &ICMP_PAIRS };
    let other = pairs.iter().find_map(|&(x, y)| match kind {
        k if k == x => Some(y),
        k if k == y => Some(x),
        _ => None,
    });
    (kind, other.unwrap_or(u16::from(code)))
}

/// An ICMP message without a counterpart keeps its direction.
pub(crate) fn one_way(proto: u8, src_port: u16, dst_port: u16) -> bool {
    let pairs: &[(u16, u16)] = match proto {
        ip_proto::ICMP => &ICMP_PAIRS,
        ip_proto::ICMPV6 => &ICMPV6_PAIRS,
        _ => return false,
    };
    !pairs.iter().any(|&(x, y)| (src_port, dst_port) == (x, y) || (src_port, dst_port) == (y, x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_meet_their_counterparts() {
        assert_eq!(icmp_ports(1, 8, 0), (8, 0));
        assert_eq!(icmp_ports(1, 0, 0), (0, 8));
        assert_eq!(icmp_ports(1, 3, 4), (3, 4));
        assert_eq!(icmp_ports(58, 136, 0), (136, 135));
        assert_eq!(icmp_ports(58, 8, 1), (8, 1));
    }

    /// Vectors of the specification's baseline, seed 0.
    #[test]
    fn matches_the_published_vectors() {
        let id = |s: &str, sp, d: &str, dp, proto| {
            let (s, d): (Addr, Addr) = (s.parse().unwrap(), d.parse().unwrap());
            let there = community_id((s, sp), (d, dp), proto);
            if !one_way(proto, sp, dp) {
                assert_eq!(there, community_id((d, dp), (s, sp), proto), "both directions have one identifier");
            }
            there
        };
        assert_eq!(id("128.232.110.120", 34855, "66.35.250.204", 80, 6), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        assert_eq!(id("192.168.1.52", 54585, "8.8.8.8", 53, 17), "1:d/FP5EW3wiY1vCndhwleRRKHowQ=");
        assert_eq!(id("192.168.0.89", 8, "192.168.0.1", 0, 1), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=");
    }
}
