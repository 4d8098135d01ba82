//! Verdicts by `BPF_PROG_TEST_RUN`. Every block has a neighbour that still passes, and passes again once lifted.

use std::net::IpAddr;

use weir_common::counters::Reason;
use weir_common::entry::{Entry, action, side};
use weir_kernel::lists::{Key, List};

use crate::frames::*;
use crate::support::*;

/// Blocks `key`: what `stopped` says is dropped with a hit counted, `neighbour` passes, and both pass once it is lifted.
fn blocks(l: &mut Loaded, key: Key, stopped: &[u8], neighbour: &[u8]) {
    assert_eq!((l.xdp(stopped), l.xdp(neighbour)), (XDP_PASS, XDP_PASS), "before: {key:?}");
    let before = l.packets(Reason::InDropped);
    l.set(List::Block, key, dropping());
    assert_eq!((l.xdp(stopped), l.xdp(neighbour)), (XDP_DROP, XDP_PASS), "while blocked: {key:?}");
    assert_eq!(l.hits(key), 1, "{key:?}");
    assert_eq!(l.packets(Reason::InDropped), before + 1);
    assert_eq!(l.datapath.lists.remove(List::Block, &[key]).unwrap(), 1);
    assert_eq!((l.xdp(stopped), l.xdp(neighbour)), (XDP_PASS, XDP_PASS), "after: {key:?}");
}

#[test]
fn hosts_networks_and_ports_are_blocked_and_their_neighbours_pass() {
    let Some(mut l) = loaded("hosts_networks_and_ports_are_blocked_and_their_neighbours_pass") else { return };
    for six in [false, true] {
        let (us, bad, near) = hosts(six);
        let (stopped, passes) = (segment(bad, us, 443), segment(near, us, 443));
        blocks(&mut l, host(bad), &stopped, &passes);
        // A /31 or /127 that the neighbour is outside of.
        let lens: &[u8] = if six { &[127, 64, 48, 47, 32, 3] } else { &[31, 24, 23, 16, 8, 1] };
        let elsewhere = if six { v6("fe00::1") } else { v4("10.0.0.1") };
        for &len in lens {
            let bits = if six { 128 } else { 32 };
            let mut address = mapped(bad);
            for bit in 0..bits - u32::from(len) {
                address[15 - (bit / 8) as usize] &= !(1 << (bit % 8));
            }
            let key = Key::net(address, len);
            blocks(&mut l, key, &stopped, &segment(elsewhere, us, 443));
        }
        // One service of ours, for one host: its other traffic passes.
        let key = Key::port(mapped(bad), TCP, 443);
        blocks(&mut l, key, &stopped, &segment(bad, us, 80));
        blocks(&mut l, key, &stopped, &frame(&[], &ip(bad, us, UDP, &udp(40_000, 443, 1))));
        blocks(&mut l, key, &stopped, &passes);
    }
}

#[test]
fn a_prefix_of_length_zero_means_everybody_of_its_family() {
    let Some(mut l) = loaded("a_prefix_of_length_zero_means_everybody_of_its_family") else { return };
    let (us4, bad4, _) = hosts(false);
    let (us6, bad6, _) = hosts(true);
    blocks(&mut l, net(v4("0.0.0.0"), 0), &segment(bad4, us4, 1), &segment(bad6, us6, 1));
    blocks(&mut l, net(v6("::"), 0), &segment(bad6, us6, 1), &segment(bad4, us4, 1));
}

#[test]
fn a_shadow_entry_counts_and_lets_pass() {
    let Some(mut l) = loaded("a_shadow_entry_counts_and_lets_pass") else { return };
    let (us, bad, near) = hosts(false);
    l.set(List::Block, host(bad), entry(action::SHADOW));
    assert_eq!(l.xdp(&segment(bad, us, 443)), XDP_PASS);
    assert_eq!(l.xdp(&segment(near, us, 443)), XDP_PASS);
    assert_eq!((l.hits(host(bad)), l.packets(Reason::InShadowed), l.packets(Reason::InDropped)), (1, 1, 0));
    // Shadowed traffic is still traffic.
    assert_eq!(l.drain().len(), 2);
}

#[test]
fn each_side_is_enforced_on_its_own() {
    let Some(mut l) = loaded("each_side_is_enforced_on_its_own") else { return };
    for six in [false, true] {
        let (us, bad, near) = hosts(six);
        let (comes, goes) = (segment(bad, us, 443), segment(us, bad, 443));
        for (sides, xdp, tc) in
            [(side::IN, XDP_DROP, TC_NEXT), (side::OUT, XDP_PASS, TC_SHOT), (side::IN | side::OUT, XDP_DROP, TC_SHOT)]
        {
            l.set(List::Block, host(bad), Entry { sides, ..dropping() });
            assert_eq!((l.xdp(&comes), l.tc(&goes)), (xdp, tc), "sides {sides}");
            // The address counts where it is the far end: source at ingress, destination at egress.
            assert_eq!((l.xdp(&goes), l.tc(&comes)), (XDP_PASS, TC_NEXT), "sides {sides}");
            assert_eq!((l.xdp(&segment(near, us, 443)), l.tc(&segment(us, near, 443))), (XDP_PASS, TC_NEXT));
        }
        l.datapath.lists.remove(List::Block, &[host(bad)]).unwrap();
        assert_eq!((l.xdp(&comes), l.tc(&goes)), (XDP_PASS, TC_NEXT));
        // A port entry names the port on our side: destination at ingress, source at egress.
        let key = Key::port(mapped(bad), TCP, 443);
        l.set(List::Block, key, dropping());
        let answer = frame(&[], &ip(us, bad, TCP, &tcp(443, 40_000, ACK, 1, 1, 1)));
        assert_eq!((l.xdp(&comes), l.tc(&answer), l.tc(&goes)), (XDP_DROP, TC_SHOT, TC_NEXT));
        l.datapath.lists.remove(List::Block, &[key]).unwrap();
    }
    assert!(l.packets(Reason::OutDropped) > 0);
}

#[test]
fn tags_options_and_extension_headers_are_no_way_round_a_block() {
    let Some(mut l) = loaded("tags_options_and_extension_headers_are_no_way_round_a_block") else { return };
    let t = tcp(40_000, 443, ACK, 1, 1, 1);
    for six in [false, true] {
        let (us, bad, near) = hosts(six);
        let mut shapes: Vec<Box<dyn Fn(IpAddr) -> Vec<u8>>> = Vec::new();
        for tags in [&[(0x8100, 7)][..], &[(0x88a8, 7), (0x8100, 8)], &[(0x9100, 7), (0x8100, 8)]] {
            let t = t.clone();
            shapes.push(Box::new(move |from| frame(tags, &ip(from, us, TCP, &t))));
        }
        for n in [1usize, 8, 9, 40] {
            let t = t.clone();
            shapes.push(Box::new(move |from| match (from, us) {
                (IpAddr::V4(from), IpAddr::V4(us)) => {
                    let how = V4 { options: vec![1; 4 * n.min(10)], fragment: 0 };
                    frame(&[], &ipv4_with(from, us, TCP, &t, &how))
                }
                (IpAddr::V6(from), IpAddr::V6(us)) => {
                    frame(&[], &ipv6_with(from, us, &vec![(60, extension(0)); n], TCP, &t))
                }
                _ => unreachable!(),
            }));
        }
        // Cut short behind the addresses, and an IPv4 header length that is none.
        let packet = move |from| frame(&[], &ip(from, us, TCP, &[]));
        shapes.push(Box::new(packet));
        if !six {
            shapes.push(Box::new(move |from| {
                let mut f = packet(from);
                f[14] = 0x41;
                f
            }));
        }
        for shape in shapes {
            blocks(&mut l, host(bad), &shape(bad), &shape(near));
        }
    }
    // Two real tags at egress, too.
    let (us, bad, near) = hosts(false);
    l.set(List::Block, host(bad), dropping());
    let tags = [(0x88a8, 7), (0x8100, 8)];
    assert_eq!(l.tc(&frame(&tags, &ip(us, bad, TCP, &t))), TC_SHOT);
    assert_eq!(l.tc(&frame(&tags, &ip(us, near, TCP, &t))), TC_NEXT);
}

#[test]
fn fragments_match_by_address_and_not_by_port() {
    let Some(mut l) = loaded("fragments_match_by_address_and_not_by_port") else { return };
    let u = udp(40_000, 443, 16);
    let four = |from: IpAddr, us: IpAddr, offset: u16| match (from, us) {
        (IpAddr::V4(f), IpAddr::V4(u4)) => {
            frame(&[], &ipv4_with(f, u4, UDP, &u, &V4 { fragment: offset, ..V4::default() }))
        }
        (IpAddr::V6(f), IpAddr::V6(u6)) => {
            frame(&[], &ipv6_with(f, u6, &[(44, fragment_header(offset, true))], UDP, &u))
        }
        _ => unreachable!(),
    };
    for six in [false, true] {
        let (us, bad, near) = hosts(six);
        // Payload that looks like a port is no port.
        blocks(&mut l, host(bad), &four(bad, us, 100), &four(near, us, 100));
        blocks(&mut l, Key::port(mapped(bad), UDP, 443), &four(bad, us, 0), &four(bad, us, 100));
    }
}

#[test]
fn malformed_and_foreign_frames_pass_and_are_counted() {
    let Some(l) = loaded("malformed_and_foreign_frames_pass_and_are_counted") else { return };
    let (us, bad, _) = hosts(false);
    let whole = segment(bad, us, 443);
    let mut version = whole.clone();
    version[14] = 0x65;
    for f in [&whole[..14 + 19], &whole[..14], &version[..]] {
        assert_eq!(l.xdp(f), XDP_PASS);
    }
    // The kernel makes no test packet of a frame that ends within its IP header.
    assert_eq!(l.tc(&version), TC_NEXT);
    assert_eq!((l.packets(Reason::InMalformed), l.packets(Reason::OutMalformed)), (3, 1));
    let mut arp = vec![0xff; 12];
    arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.resize(60, 0);
    let three = frame(&[(0x88a8, 1), (0x8100, 2), (0x8100, 3)], &whole[14..]);
    for f in [&arp, &three] {
        assert_eq!((l.xdp(f), l.tc(f)), (XDP_PASS, TC_NEXT));
    }
    assert_eq!((l.packets(Reason::InNotIp), l.packets(Reason::OutNotIp)), (2, 2));
    // Addresses, and nothing behind them.
    let f = &whole[..14 + 20];
    assert_eq!((l.xdp(f), l.tc(f)), (XDP_PASS, TC_NEXT));
    assert_eq!((l.packets(Reason::InAddressOnly), l.packets(Reason::OutAddressOnly)), (1, 1));
    assert_eq!((l.packets(Reason::InPass), l.packets(Reason::OutPass)), (1, 1));
}

#[test]
fn dhcp_and_neighbour_discovery_are_never_dropped() {
    let Some(mut l) = loaded("dhcp_and_neighbour_discovery_are_never_dropped") else { return };
    let (us4, bad4, _) = hosts(false);
    let (us6, bad6, _) = hosts(true);
    l.set(List::Block, host(bad4), dropping());
    l.set(List::Block, host(bad6), dropping());
    let dhcp = |from, to, a, b| frame(&[], &ip(from, to, UDP, &udp(a, b, 10)));
    let mut exempt = vec![dhcp(bad4, us4, 67, 68), dhcp(bad4, us4, 68, 67), dhcp(bad6, us6, 547, 546)];
    for kind in 133..=137 {
        exempt.push(frame(&[], &ip(bad6, us6, ICMPV6, &icmp(kind, 0))));
    }
    for (n, f) in exempt.iter().enumerate() {
        assert_eq!(l.xdp(f), XDP_PASS);
        assert_eq!(l.packets(Reason::InExempt), n as u64 + 1);
    }
    assert_eq!((l.hits(host(bad4)), l.hits(host(bad6))), (0, 0));
    // What only resembles them is dropped.
    let pretends = [
        dhcp(bad4, us4, 67, 443),
        dhcp(bad4, us4, 546, 547),
        dhcp(bad6, us6, 67, 68),
        frame(&[], &ip(bad6, us6, ICMPV6, &icmp(128, 0))),
        frame(&[], &ip(bad6, us6, ICMPV6, &icmp(138, 0))),
        frame(&[], &ip(bad4, us4, ICMP, &icmp(134, 0))),
        frame(&[], &ip(bad4, us4, TCP, &tcp(67, 68, SYN, 1, 0, 0))),
    ];
    for f in &pretends {
        assert_eq!(l.xdp(f), XDP_DROP, "{f:02x?}");
    }
    // At egress, towards who is blocked.
    assert_eq!(l.tc(&dhcp(us4, bad4, 68, 67)), TC_NEXT);
    assert_eq!(l.tc(&dhcp(us4, bad4, 68, 66)), TC_SHOT);
    assert_eq!(l.packets(Reason::OutExempt), 1);
}

#[test]
fn a_super_packet_at_egress_counts_as_its_segments() {
    let Some(mut l) = loaded("a_super_packet_at_egress_counts_as_its_segments") else { return };
    let (us, them, _) = hosts(false);
    let f = frame(&[], &ip(us, them, TCP, &tcp(443, 40_000, ACK, 1, 1, 3000)));
    // 1000 bytes of payload per segment, counted by the kernel or not.
    for (segs, expected) in [(3, 3), (0, 3)] {
        assert_eq!(l.tc_offloaded(&f, 1000, segs), TC_NEXT);
        let flows = l.drain();
        let stats = flows.values().next().unwrap();
        let d = stats.dir.iter().find(|d| !d.is_empty()).unwrap();
        assert_eq!((d.packets, d.bytes, d.payload), (expected, 3000 + expected * 40, 3000));
        assert_eq!((d.size_min, d.size_max, d.gaps()), (1040, 1040, 0));
    }
    l.set(List::Block, host(them), dropping());
    assert_eq!(l.tc_offloaded(&f, 1000, 3), TC_SHOT);
    assert_eq!((l.hits(host(them)), l.packets(Reason::OutDropped)), (3, 3));
}
