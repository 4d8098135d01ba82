//! Captures and packets, built.

/// Byte order to write in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Little,
    Big,
}
pub use End::{Big, Little};

impl End {
    pub fn u16(self, v: u16) -> [u8; 2] {
        if self == Little { v.to_le_bytes() } else { v.to_be_bytes() }
    }
    pub fn u32(self, v: u32) -> [u8; 4] {
        if self == Little { v.to_le_bytes() } else { v.to_be_bytes() }
    }
}

pub fn pcap_header(end: End, nanos: bool, link: u32) -> Vec<u8> {
    let magic = if nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4u32 };
    [end.u32(magic).as_slice(), &end.u16(2), &end.u16(4), &[0; 8], &end.u32(65_535), &end.u32(link)].concat()
}

pub fn pcap_record(end: End, seconds: u32, fraction: u32, data: &[u8], wire_len: u32) -> Vec<u8> {
    [end.u32(seconds).as_slice(), &end.u32(fraction), &end.u32(data.len() as u32), &end.u32(wire_len), data].concat()
}

/// A little-endian capture in µs, with a packet per second from 1000 s on.
pub fn pcap(link: u32, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = pcap_header(Little, false, link);
    for (i, p) in packets.iter().enumerate() {
        file.extend(pcap_record(Little, 1000 + i as u32, 0, p, p.len() as u32));
    }
    file
}

pub fn block(end: End, kind: u32, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let total = end.u32(body.len() as u32 + 12);
    [end.u32(kind).as_slice(), &total, &body, &total].concat()
}

pub fn section(end: End) -> Vec<u8> {
    block(end, 0x0a0d_0d0a, &[end.u32(0x1a2b_3c4d).as_slice(), &end.u16(1), &end.u16(0), &[0xff; 8]].concat())
}

pub fn interface(end: End, link: u16, snaplen: u32, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = [end.u16(link).as_slice(), &[0, 0], &end.u32(snaplen)].concat();
    for (code, value) in options {
        body.extend(end.u16(*code));
        body.extend(end.u16(value.len() as u16));
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    if !options.is_empty() {
        body.extend([0; 4]);
    }
    block(end, 1, &body)
}

pub fn enhanced(end: End, interface: u32, ticks: u64, data: &[u8], wire_len: u32) -> Vec<u8> {
    let body = [
        end.u32(interface).as_slice(),
        &end.u32((ticks >> 32) as u32),
        &end.u32(ticks as u32),
        &end.u32(data.len() as u32),
        &end.u32(wire_len),
        data,
    ]
    .concat();
    block(end, 6, &body)
}

pub fn ethernet(ether_type: u16, inside: &[u8]) -> Vec<u8> {
    [[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2].as_slice(), &ether_type.to_be_bytes(), inside].concat()
}

pub fn ipv4_at(src: [u8; 4], dst: [u8; 4], proto: u8, inside: &[u8]) -> Vec<u8> {
    let total = (20 + inside.len()) as u16;
    [[0x45, 0].as_slice(), &total.to_be_bytes(), &[0, 1, 0, 0, 64, proto, 0, 0], &src, &dst, inside].concat()
}

pub fn ipv4(proto: u8, inside: &[u8]) -> Vec<u8> {
    ipv4_at([10, 0, 0, 1], [10, 0, 0, 2], proto, inside)
}

pub fn ipv6(next: u8, inside: &[u8]) -> Vec<u8> {
    let (mut src, mut dst) = ([0u8; 16], [0u8; 16]);
    (src[0], src[15], dst[0], dst[15]) = (0xfd, 1, 0xfd, 2);
    [[0x60, 0, 0, 0].as_slice(), &(inside.len() as u16).to_be_bytes(), &[next, 64], &src, &dst, inside].concat()
}

pub fn udp(from: u16, to: u16, inside: &[u8]) -> Vec<u8> {
    let length = (8 + inside.len()) as u16;
    [from.to_be_bytes(), to.to_be_bytes(), length.to_be_bytes(), [0, 0]]
        .concat()
        .into_iter()
        .chain(inside.iter().copied())
        .collect()
}

/// UDP 1111 to 53 over IPv4, with `n` bytes of payload.
pub fn small(n: usize) -> Vec<u8> {
    ipv4(17, &udp(1111, 53, &vec![0x61; n]))
}
