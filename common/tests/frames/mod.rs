//! Frames of every shape, byte by byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;

pub const SYN: u8 = 2;
pub const ACK: u8 = 16;

pub fn v4(text: &str) -> IpAddr {
    IpAddr::V4(text.parse().unwrap())
}

pub fn v6(text: &str) -> IpAddr {
    IpAddr::V6(text.parse().unwrap())
}

/// 16 bytes, IPv4 as IPv4-mapped.
pub fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    }
}

pub fn tcp(src: u16, dst: u16, flags: u8, seq: u32, ack: u32, data: usize) -> Vec<u8> {
    let mut h = Vec::with_capacity(20 + data);
    h.extend(src.to_be_bytes());
    h.extend(dst.to_be_bytes());
    h.extend(seq.to_be_bytes());
    h.extend(ack.to_be_bytes());
    h.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    h.resize(20 + data, 0x61);
    h
}

pub fn udp(src: u16, dst: u16, data: usize) -> Vec<u8> {
    let mut h = Vec::with_capacity(8 + data);
    h.extend(src.to_be_bytes());
    h.extend(dst.to_be_bytes());
    h.extend((8 + data as u16).to_be_bytes());
    h.extend([0, 0]);
    h.resize(8 + data, 0x62);
    h
}

pub fn icmp(kind: u8, code: u8) -> Vec<u8> {
    vec![kind, code, 0, 0, 0, 1, 0, 1, 9, 9, 9, 9]
}

/// What else an IPv4 header says.
#[derive(Clone, Default)]
pub struct V4 {
    pub options: Vec<u8>,
    /// Flags and offset in units of 8 bytes.
    pub fragment: u16,
}

pub fn ipv4_with(src: Ipv4Addr, dst: Ipv4Addr, proto: u8, payload: &[u8], how: &V4) -> Vec<u8> {
    assert_eq!(how.options.len() % 4, 0);
    let header = 20 + how.options.len();
    let mut h = vec![0x40 | (header / 4) as u8, 0];
    h.extend(((header + payload.len()) as u16).to_be_bytes());
    h.extend([0, 7]);
    h.extend(how.fragment.to_be_bytes());
    h.extend([64, proto, 0, 0]);
    h.extend(src.octets());
    h.extend(dst.octets());
    h.extend(&how.options);
    h.extend(payload);
    h
}

/// `headers` lie between the IPv6 header and the payload: their protocol number and bytes, whose first is set here.
pub fn ipv6_with(src: Ipv6Addr, dst: Ipv6Addr, headers: &[(u8, Vec<u8>)], proto: u8, payload: &[u8]) -> Vec<u8> {
    let between: usize = headers.iter().map(|(_, b)| b.len()).sum();
    let mut h = vec![0x60, 0, 0, 0];
    h.extend(((between + payload.len()) as u16).to_be_bytes());
    h.push(headers.first().map_or(proto, |(p, _)| *p));
    h.push(64);
    h.extend(src.octets());
    h.extend(dst.octets());
    for (i, (_, bytes)) in headers.iter().enumerate() {
        h.push(headers.get(i + 1).map_or(proto, |(p, _)| *p));
        h.extend(&bytes[1..]);
    }
    h.extend(payload);
    h
}

pub fn ip(src: IpAddr, dst: IpAddr, proto: u8, payload: &[u8]) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => ipv4_with(s, d, proto, payload, &V4::default()),
        (IpAddr::V6(s), IpAddr::V6(d)) => ipv6_with(s, d, &[], proto, payload),
        _ => panic!("one family"),
    }
}

/// Extension headers: routing, destination options and the like, of `8 * (1 + units)` bytes.
pub fn extension(units: u8) -> Vec<u8> {
    let mut h = vec![0, units, 0, 0];
    h.resize(8 * (1 + usize::from(units)), 0);
    h
}

/// A fragment header with the offset in units of 8 bytes.
pub fn fragment_header(offset: u16, more: bool) -> Vec<u8> {
    let o = (offset << 3 | u16::from(more)).to_be_bytes();
    vec![0, 0, o[0], o[1], 0, 0, 0, 9]
}

/// An Ethernet frame around `packet`, with VLAN tags (EtherType, identifier).
pub fn frame(tags: &[(u16, u16)], packet: &[u8]) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (kind, id) in tags {
        f.extend(kind.to_be_bytes());
        f.extend(id.to_be_bytes());
    }
    f.extend(if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] });
    f.extend(packet);
    f
}

/// An untagged TCP segment with one byte of data.
pub fn segment(src: IpAddr, dst: IpAddr, port: u16) -> Vec<u8> {
    frame(&[], &ip(src, dst, TCP, &tcp(40_000, port, ACK, 1, 1, 1)))
}
