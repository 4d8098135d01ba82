//! A frame through the parser that runs in the kernel, and through the reference: they agree, or one of the reference's rules says why not.

use weir_common::parse::{Offload, parse};

use crate::frames::{self, V4};
use crate::reference::{self, ByDefinition, Seen};

pub fn run(frame: &[u8]) {
    let ours = parse(frame, frame.len() as u32, 0);
    let theirs = reference::parse(frame, &mut ByDefinition::default());
    assert_eq!(ours.as_ref().map(Seen::of).map_err(|e| *e), theirs, "{frame:02x?}");
    let Ok(meta) = ours else { return };
    // However it was offloaded, what goes out is no less than what came.
    for (gso_size, gso_segs) in [(0, 0), (1, 0), (100, 3), (1448, 0), (u32::from(u16::MAX), u32::from(u16::MAX))] {
        let p = meta.packet(Offload { gso_size, gso_segs });
        let sent = u64::from(p.segs - 1) * u64::from(p.seg_len) + u64::from(p.last_len);
        assert!(p.segs >= 1 && sent >= u64::from(meta.ip_len), "{p:?} of {meta:?}");
    }
    let mut turned = meta;
    (turned.src, turned.dst) = (meta.dst, meta.src);
    (turned.src_port, turned.dst_port) = (meta.dst_port, meta.src_port);
    if meta.proto != frames::ICMP && meta.proto != frames::ICMPV6 {
        assert_eq!(meta.key().0, turned.key().0, "both directions meet in one flow");
    }
}

/// A frame of each common shape.
pub fn samples() -> Vec<Vec<u8>> {
    let (a4, b4) = (frames::v4("192.0.2.1"), frames::v4("198.51.100.7"));
    let (a6, b6) = (frames::v6("2001:db8::1"), frames::v6("2001:db8:1::7"));
    let mut packets = Vec::new();
    for (src, dst, icmp) in [(a4, b4, frames::ICMP), (a6, b6, frames::ICMPV6)] {
        packets.push(frames::ip(src, dst, frames::TCP, &frames::tcp(40_000, 443, frames::SYN, 7, 0, 20)));
        packets.push(frames::ip(src, dst, frames::UDP, &frames::udp(5353, 53, 30)));
        packets.push(frames::ip(src, dst, icmp, &frames::icmp(8, 0)));
    }
    let options = V4 { options: vec![1; 8], fragment: 0x00b9 };
    packets.push(frames::ipv4_with("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap(), 6, &[0; 40], &options));
    let chain = [(0, frames::extension(0)), (60, frames::extension(1)), (44, frames::fragment_header(0, true))];
    let (s, d) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
    packets.push(frames::ipv6_with(s, d, &chain, 17, &frames::udp(1, 2, 3)));
    let tags: [&[(u16, u16)]; 3] = [&[], &[(0x8100, 5)], &[(0x88a8, 100), (0x8100, 5)]];
    packets.iter().flat_map(|p| tags.iter().map(|t| frames::frame(t, p))).collect()
}
