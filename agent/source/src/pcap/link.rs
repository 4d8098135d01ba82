//! Link types, and where the network layer begins behind each.

use std::fmt;

/// A link type of a capture (the registry of draft-ietf-opsawg-pcaplinktype, `LINKTYPE_` values).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkType(pub u32);

impl LinkType {
    pub const NULL: Self = Self(0);
    pub const ETHERNET: Self = Self(1);
    pub const PPP: Self = Self(9);
    /// Raw IP, as OpenBSD and others number it in their files.
    pub const RAW_12: Self = Self(12);
    pub const RAW_14: Self = Self(14);
    pub const PPP_HDLC: Self = Self(50);
    pub const RAW: Self = Self(101);
    pub const C_HDLC: Self = Self(104);
    pub const LOOP: Self = Self(108);
    pub const LINUX_SLL: Self = Self(113);
    pub const IPV4: Self = Self(228);
    pub const IPV6: Self = Self(229);
    pub const LINUX_SLL2: Self = Self(276);

    /// Names of the link types that are read, and of others that are met.
    const NAMES: [(u32, &'static str); 32] = [
        (0, "BSD loopback"),
        (1, "Ethernet"),
        (6, "Token Ring"),
        (8, "SLIP"),
        (9, "PPP"),
        (12, "raw IP"),
        (14, "raw IP"),
        (50, "PPP in HDLC framing"),
        (51, "PPPoE"),
        (100, "ATM"),
        (101, "raw IP"),
        (104, "Cisco HDLC"),
        (105, "802.11"),
        (107, "Frame Relay"),
        (108, "OpenBSD loopback"),
        (113, "Linux cooked v1"),
        (119, "802.11 with Prism header"),
        (127, "802.11 with radiotap header"),
        (147, "private use"),
        (163, "802.11 with AVS header"),
        (187, "Bluetooth"),
        (189, "USB"),
        (192, "Per-Packet Information"),
        (195, "802.15.4"),
        (201, "Bluetooth"),
        (220, "USB"),
        (228, "raw IPv4"),
        (229, "raw IPv6"),
        (239, "NFLOG"),
        (249, "USB"),
        (252, "Wireshark upper PDU"),
        (276, "Linux cooked v2"),
    ];

    /// Whether [`network`] knows it.
    #[inline]
    pub fn is_read(self) -> bool {
        matches!(
            self,
            Self::NULL
                | Self::ETHERNET
                | Self::PPP
                | Self::RAW_12
                | Self::RAW_14
                | Self::PPP_HDLC
                | Self::RAW
                | Self::C_HDLC
                | Self::LOOP
                | Self::LINUX_SLL
                | Self::IPV4
                | Self::IPV6
                | Self::LINUX_SLL2
        )
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(n, _)| *n == self.0) {
            Some((n, name)) => write!(f, "{n} ({name})"),
            None => write!(f, "{}", self.0),
        }
    }
}

pub(super) mod ether_type {
    pub const IPV4: u16 = 0x0800;
    pub const IPV6: u16 = 0x86dd;
    pub const VLAN: u16 = 0x8100;
    pub const QINQ: u16 = 0x88a8;
    pub const QINQ_OLD: u16 = 0x9100;
    pub const PPPOE: u16 = 0x8864;
    pub const MPLS: u16 = 0x8847;
    pub const MPLS_MULTICAST: u16 = 0x8848;
    pub const BRIDGED: u16 = 0x6558;
    pub const PPP: u16 = 0x880b;
}

/// Why a packet is in no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// A link type that is not read.
    LinkType,
    /// No IP inside, or behind more than two VLAN tags.
    NotIp,
    /// IP behind MPLS labels: read with `decap`.
    Mpls,
    /// Ended before both addresses, or the IP version is not what is said of it.
    Malformed,
}

impl LeftOut {
    /// In words, for [`crate::Report::left_out`].
    pub const fn reason(self) -> &'static str {
        match self {
            LeftOut::LinkType => "link type not read",
            LeftOut::NotIp => "no IP inside",
            LeftOut::Mpls => "MPLS (what it carries is read with --decap)",
            LeftOut::Malformed => "cut short or malformed before both addresses",
        }
    }
}

/// Where the network layer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    /// What it is, as an EtherType.
    pub ether_type: u16,
    pub at: usize,
    /// Outer and inner VLAN identifiers, 0 where absent.
    pub vlans: [u16; 2],
}

#[inline(always)]
pub(super) fn array<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..)?.first_chunk().copied()
}

#[inline(always)]
pub(super) fn be16(data: &[u8], at: usize) -> Option<u16> {
    array(data, at).map(u16::from_be_bytes)
}

/// The network layer behind a link header.
pub(super) fn network(link: LinkType, data: &[u8]) -> Result<Network, LeftOut> {
    let found = match link {
        LinkType::ETHERNET => ethernet(data, 0),
        LinkType::RAW | LinkType::RAW_12 | LinkType::RAW_14 => ip_by_version(data, 0),
        LinkType::IPV4 => Some(plain(ether_type::IPV4, 0)),
        LinkType::IPV6 => Some(plain(ether_type::IPV6, 0)),
        LinkType::LINUX_SLL => be16(data, 14).and_then(|t| behind_ether_type(data, t, 16)),
        LinkType::LINUX_SLL2 => be16(data, 0).and_then(|t| behind_ether_type(data, t, 20)),
        LinkType::NULL | LinkType::LOOP => null(data),
        LinkType::PPP | LinkType::PPP_HDLC => match data {
            // Cisco HDLC: unicast or multicast address. (As PPP these would be protocols 0x0f and 0x8f, which are none.)
            [0x0f | 0x8f, ..] => cisco_hdlc(data),
            _ => ppp_framed(data),
        },
        LinkType::C_HDLC => cisco_hdlc(data),
        _ => return Err(LeftOut::LinkType),
    };
    found.ok_or(LeftOut::Malformed)
}

fn plain(ether_type: u16, at: usize) -> Network {
    Network { ether_type, at, vlans: [0; 2] }
}

/// Behind an Ethernet header at `at`.
pub(super) fn ethernet(data: &[u8], at: usize) -> Option<Network> {
    behind_ether_type(data, be16(data, at.checked_add(12)?)?, at.checked_add(14)?)
}

/// What an EtherType announces at `at`: tags and PPPoE are passed, as the shared parser does it (two tags at most).
fn behind_ether_type(data: &[u8], mut ether_type: u16, mut at: usize) -> Option<Network> {
    let mut vlans = [0; 2];
    for vlan in &mut vlans {
        if !matches!(ether_type, ether_type::VLAN | ether_type::QINQ | ether_type::QINQ_OLD) {
            break;
        }
        *vlan = be16(data, at)? & 0xfff;
        ether_type = be16(data, at + 2)?;
        at += 4;
    }
    if ether_type == ether_type::PPPOE {
        // RFC 2516: version and type 1, code 0 (session data), session, length.
        let [0x11, 0, ..] = array::<6>(data, at)? else { return Some(Network { ether_type, at, vlans }) };
        return ppp(data, at + 6).map(|n| Network { vlans, ..n });
    }
    Some(Network { ether_type, at, vlans })
}

pub(super) fn ip_by_version(data: &[u8], at: usize) -> Option<Network> {
    let ether_type = match data.get(at)? >> 4 {
        4 => ether_type::IPV4,
        6 => ether_type::IPV6,
        _ => 0,
    };
    Some(plain(ether_type, at))
}

/// An address family in the byte order of the machine that captured (`LOOP`: big-endian).
fn null(data: &[u8]) -> Option<Network> {
    let family = match array(data, 0)? {
        [a, b, 0, 0] => u16::from_le_bytes([a, b]),
        [0, 0, a, b] => u16::from_be_bytes([a, b]),
        _ => 0,
    };
    let ether_type = match family {
        2 => ether_type::IPV4,
        // Linux, Windows, NetBSD and OpenBSD, FreeBSD, macOS.
        10 | 23 | 24 | 28 | 30 => ether_type::IPV6,
        _ => 0,
    };
    Some(plain(ether_type, 4))
}

/// PPP with or without address and control (RFC 1662).
fn ppp_framed(data: &[u8]) -> Option<Network> {
    match data {
        [0xff, 0x03, ..] => ppp(data, 2),
        _ => ppp(data, 0),
    }
}

/// A PPP protocol field at `at`, of one byte where it is odd (RFC 1661, 6.5).
pub(super) fn ppp(data: &[u8], at: usize) -> Option<Network> {
    let first = *data.get(at)?;
    let (protocol, behind) = if first & 1 == 1 { (u16::from(first), at + 1) } else { (be16(data, at)?, at + 2) };
    let ether_type = match protocol {
        0x0021 => ether_type::IPV4,
        0x0057 => ether_type::IPV6,
        0x0281 => ether_type::MPLS,
        0x0283 => ether_type::MPLS_MULTICAST,
        _ => 0,
    };
    Some(plain(ether_type, behind))
}

/// Address, control, EtherType.
fn cisco_hdlc(data: &[u8]) -> Option<Network> {
    behind_ether_type(data, be16(data, 2)?, 4)
}
