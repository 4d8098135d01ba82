//! Verdicts by `BPF_PROG_TEST_RUN`. Every block has a neighbour that still passes, and passes again once lifted.

use std::net::IpAddr;
use std::os::fd::AsFd;

use weir_common::counters::Reason;
use weir_common::entry::{Entry, MAX_LENGTHS, action, side};
use weir_kernel::lists::{Key, List};
use weir_kernel::{KernelError, Options, sys};

use crate::frames::*;
use crate::support::*;

fn loaded(test: &str) -> Option<Loaded> {
    ready(test).then(|| Loaded::new(Options { capacity: small(), ..Options::default() }))
}

/// Ours, a stranger to be blocked, and the stranger's neighbour.
fn hosts(six: bool) -> (IpAddr, IpAddr, IpAddr) {
    if six {
        (v6("fd00::1"), v6("2001:db8:5:6::66"), v6("2001:db8:5:6::67"))
    } else {
        (v4("192.0.2.1"), v4("198.51.100.66"), v4("198.51.100.67"))
    }
}

fn allow_expired_at(ns: u64) -> Entry {
    Entry { expires_ns: ns, ..entry(action::DROP) }
}

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
fn allow_wins_over_block_however_wide_or_narrow() {
    let Some(mut l) = loaded("allow_wins_over_block_however_wide_or_narrow") else { return };
    for six in [false, true] {
        let (us, bad, near) = hosts(six);
        let wide = if six { net(v6("2001:db8::"), 32) } else { net(v4("198.51.0.0"), 16) };
        for (allowed, blocked) in [(host(bad), wide), (wide, host(bad)), (host(bad), host(bad))] {
            l.set(List::Block, blocked, dropping());
            assert_eq!(l.xdp(&segment(bad, us, 443)), XDP_DROP);
            let before = l.packets(Reason::InAllowed);
            l.set(List::Allow, allowed, dropping());
            assert_eq!(l.xdp(&segment(bad, us, 443)), XDP_PASS, "{allowed:?} over {blocked:?}");
            assert_eq!(l.packets(Reason::InAllowed), before + 1);
            if allowed == host(bad) && blocked == wide {
                assert_eq!(l.xdp(&segment(near, us, 443)), XDP_DROP, "the neighbour is not allowed");
            }
            // An allow entry that has ended allows nothing.
            l.set(List::Allow, allowed, allow_expired_at(1));
            assert_eq!(l.xdp(&segment(bad, us, 443)), XDP_DROP);
            l.datapath.lists.remove(List::Allow, &[allowed]).unwrap();
            l.datapath.lists.remove(List::Block, &[blocked]).unwrap();
            assert_eq!(l.xdp(&segment(bad, us, 443)), XDP_PASS);
        }
    }
}

#[test]
fn the_strongest_action_decides_and_the_narrowest_entry_is_credited() {
    let Some(mut l) = loaded("the_strongest_action_decides_and_the_narrowest_entry_is_credited") else { return };
    for six in [false, true] {
        let (us, bad, _) = hosts(six);
        let packet = segment(bad, us, 443);
        let (narrow, middle, wide) = if six {
            (host(bad), net(v6("2001:db8:5:6::"), 64), net(v6("2001:db8::"), 32))
        } else {
            (host(bad), net(v4("198.51.100.0"), 24), net(v4("198.51.0.0"), 16))
        };
        let port = Key::port(mapped(bad), TCP, 443);
        l.set(List::Block, wide, dropping());
        l.set(List::Block, middle, dropping());
        l.set(List::Block, narrow, entry(action::SHADOW));
        // Drop over shadow, although the shadow entry is narrower; of the two drops the narrower.
        assert_eq!(l.xdp(&packet), XDP_DROP);
        assert_eq!((l.hits(narrow), l.hits(middle), l.hits(wide)), (0, 1, 0));
        // The narrowest of all is host, protocol and port.
        l.set(List::Block, port, dropping());
        assert_eq!(l.xdp(&packet), XDP_DROP);
        assert_eq!((l.hits(port), l.hits(middle)), (1, 1));
        // Replaced entries keep their hits.
        l.set(List::Block, middle, entry(action::SHADOW));
        l.set(List::Block, wide, entry(action::SHADOW));
        l.set(List::Block, port, entry(action::SHADOW));
        assert_eq!(l.xdp(&packet), XDP_PASS);
        assert_eq!((l.hits(port), l.hits(narrow), l.hits(middle), l.hits(wide)), (2, 0, 1, 0));
        l.datapath.lists.remove(List::Block, &[narrow, middle, wide, port]).unwrap();
    }
}

#[test]
fn an_expired_entry_never_hides_a_live_wider_one() {
    let Some(mut l) = loaded("an_expired_entry_never_hides_a_live_wider_one") else { return };
    for six in [false, true] {
        let (us, bad, _) = hosts(six);
        let wide = if six { net(v6("2001:db8:5::"), 48) } else { net(v4("198.51.100.0"), 24) };
        let port = Key::port(mapped(bad), TCP, 443);
        l.set(List::Block, host(bad), allow_expired_at(1));
        l.set(List::Block, port, allow_expired_at(1));
        assert_eq!(l.xdp(&segment(bad, us, 443)), XDP_PASS, "all have ended");
        l.set(List::Block, wide, dropping());
        assert_eq!(l.xdp(&segment(bad, us, 443)), XDP_DROP);
        assert_eq!((l.hits(port), l.hits(host(bad)), l.hits(wide)), (0, 0, 1));
        l.datapath.lists.remove(List::Block, &[wide, host(bad), port]).unwrap();
    }
}

#[test]
fn the_kernel_itself_ends_an_entry() {
    let Some(mut l) = loaded("the_kernel_itself_ends_an_entry") else { return };
    let (us, bad, near) = hosts(false);
    let ends = sys::monotonic_ns() + 400_000_000;
    l.set(List::Block, host(bad), Entry { expires_ns: ends, ..dropping() });
    let mut dropped = 0;
    loop {
        let before = sys::monotonic_ns();
        let verdict = l.xdp(&segment(bad, us, 443));
        let after = sys::monotonic_ns();
        // The coarse clock is up to a tick (10 ms at HZ=100) behind.
        if after < ends {
            assert_eq!(verdict, XDP_DROP);
            dropped += 1;
        } else if before > ends + 20_000_000 {
            assert_eq!(verdict, XDP_PASS);
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(dropped > 10, "{dropped}");
    assert_eq!(l.xdp(&segment(near, us, 443)), XDP_PASS);
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
fn lengths_come_and_go_while_others_stay_enforced() {
    let Some(mut l) = loaded("lengths_come_and_go_while_others_stay_enforced") else { return };
    for six in [false, true] {
        let (us, bad, near) = hosts(six);
        let packet = segment(bad, us, 443);
        l.set(List::Block, host(bad), dropping());
        // Prefixes of every other length, none of which covers the two.
        let bits: u8 = if six { 128 } else { 32 };
        let keys: Vec<Key> = (8..bits)
            .step_by(if six { 5 } else { 1 })
            .map(|len| if six { net(v6("fc00::"), len) } else { net(v4("10.0.0.0"), len) })
            .collect();
        for key in &keys {
            l.set(List::Block, *key, dropping());
            assert_eq!(l.xdp(&packet), XDP_DROP, "with {key:?}");
        }
        for key in &keys {
            l.datapath.lists.remove(List::Block, &[*key]).unwrap();
            assert_eq!(l.xdp(&packet), XDP_DROP, "without {key:?}");
            assert_eq!(l.xdp(&segment(near, us, 443)), XDP_PASS);
        }
        assert_eq!(l.hits(host(bad)), 2 * keys.len() as u64);
        l.datapath.lists.remove(List::Block, &[host(bad)]).unwrap();
        assert_eq!(l.xdp(&packet), XDP_PASS);
    }
}

#[test]
fn one_length_too_many_is_refused_with_a_reason_and_changes_nothing() {
    let Some(mut l) = loaded("one_length_too_many_is_refused_with_a_reason_and_changes_nothing") else { return };
    for len in 0..MAX_LENGTHS as u8 {
        l.set(List::Block, net(v6("::"), 95 + len), dropping());
    }
    let e = l.datapath.lists.set(List::Block, &[(net(v6("::"), 64), dropping())]).unwrap_err();
    assert!(matches!(e, KernelError::TooManyLengths { .. }), "{e}");
    assert!(e.to_string().contains("merge some"), "{e}");
    assert_eq!(l.datapath.lists.len(List::Block), MAX_LENGTHS);
    let capacity = small().allows;
    let many: Vec<(Key, Entry)> = (0..=capacity)
        .map(|i| (Key::net(mapped(v4("10.0.0.0")), 32), i))
        .map(|(k, i)| match k {
            Key::V4(mut k) => {
                k.addr[2..].copy_from_slice(&(i as u16).to_be_bytes());
                (Key::V4(k), dropping())
            }
            k => (k, dropping()),
        })
        .collect();
    let e = l.datapath.lists.set(List::Allow, &many).unwrap_err();
    assert!(e.to_string().contains("capacity.allows"), "{e}");
    assert_eq!(l.datapath.lists.len(List::Allow), 0);
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

/// Hosts of different networks.
fn far(n: u32) -> IpAddr {
    let [a, b, c, d] = n.wrapping_mul(0x9e37_79b1).to_be_bytes();
    v4(&format!("{}.{b}.{c}.{d}", 11 + a % 150))
}

#[test]
fn every_one_of_many_entries_drops_and_nobody_else_while_they_come_and_go() {
    let Some(mut l) = loaded("every_one_of_many_entries_drops_and_nobody_else_while_they_come_and_go") else { return };
    let us = v4("192.0.2.1");
    let capacity = small().blocks;
    // To the last entry that there is room for: lines of the index are full, and more than one is searched.
    let all: Vec<(Key, Entry)> = (0..capacity).map(|n| (host(far(n)), dropping())).collect();
    l.datapath.lists.set(List::Block, &all).unwrap();
    let check = |l: &Loaded, gone: &dyn Fn(u32) -> bool, when: &str| {
        for n in (0..capacity).step_by(7) {
            let expected = if gone(n) { XDP_PASS } else { XDP_DROP };
            assert_eq!(l.xdp(&segment(far(n), us, 443)), expected, "{when}: {}", far(n));
            assert_eq!(l.xdp(&segment(far(n + capacity), us, 443)), XDP_PASS, "{when}: a stranger");
        }
    };
    check(&l, &|_| false, "full");
    let e = l.datapath.lists.set(List::Block, &[(host(us), dropping())]).unwrap_err();
    assert!(e.to_string().contains("capacity.blocks"), "{e}");
    // Taken out and put back, again and again: tombstones, and records that are used again.
    for round in 0..6 {
        let gone = |n: u32| n % 3 == round % 3;
        let keys: Vec<Key> = (0..capacity).filter(|n| gone(*n)).map(|n| host(far(n))).collect();
        assert_eq!(l.datapath.lists.remove(List::Block, &keys).unwrap(), keys.len());
        check(&l, &gone, "while some are lifted");
        let back: Vec<(Key, Entry)> = keys.iter().map(|k| (*k, dropping())).collect();
        l.datapath.lists.set(List::Block, &back).unwrap();
        assert!(keys.iter().all(|k| l.hits(*k) == 0), "a record that is used again begins with no hits");
        check(&l, &|_| false, "with all back");
    }
    assert_eq!(l.datapath.lists.read_back().unwrap().len(), capacity as usize);
}

#[test]
fn extending_or_changing_an_entry_keeps_its_hits() {
    let Some(mut l) = loaded("extending_or_changing_an_entry_keeps_its_hits") else { return };
    let (us, bad, _) = hosts(false);
    let in_an_hour = sys::monotonic_ns() + 3_600_000_000_000;
    l.set(List::Block, host(bad), Entry { expires_ns: in_an_hour, ..dropping() });
    for (n, expires_ns) in (1..=5).zip([in_an_hour + 1, u64::MAX, in_an_hour, in_an_hour * 2, in_an_hour]) {
        assert_eq!(l.xdp(&segment(bad, us, 443)), XDP_DROP);
        let changed = Entry { expires_ns, ..dropping() };
        l.set(List::Block, host(bad), changed);
        assert_eq!(l.hits(host(bad)), n);
        assert_eq!(l.datapath.lists.get(List::Block, &host(bad)).unwrap(), Some(changed.kept()));
    }
}

#[test]
fn hits_are_exact_when_two_processors_count_more_than_a_word_has_room_for() {
    let Some(mut l) = loaded("hits_are_exact_when_two_processors_count_more_than_a_word_has_room_for") else { return };
    let (us, bad, _) = hosts(false);
    l.set(List::Block, host(bad), dropping());
    // Both together go beyond the 2^25 packets at which half of the word is moved over.
    const EACH: u32 = (1 << 24) + 100_001;
    let frame = segment(bad, us, 443);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(sys::test_run(l.xdp.as_fd(), &frame, &[], EACH, 0).unwrap().verdict, XDP_DROP));
        }
    });
    let hits = l.datapath.lists.hits(List::Block, &host(bad)).unwrap();
    let ip_len = frame.len() as u64 - 14;
    assert_eq!((hits.packets, hits.bytes), (2 * u64::from(EACH), 2 * u64::from(EACH) * ip_len));
}

#[test]
fn a_list_is_replaced_as_a_whole_and_what_stays_keeps_its_hits() {
    let Some(mut l) = loaded("a_list_is_replaced_as_a_whole_and_what_stays_keeps_its_hits") else { return };
    let us = v4("192.0.2.1");
    let hosts = |from: u32, to: u32| (from..to).map(|n| (host(far(n)), dropping())).collect::<Vec<_>>();
    let verdict = |l: &Loaded, n: u32| l.xdp(&segment(far(n), us, 443));
    l.datapath.lists.replace(List::Block, &hosts(0, 1500)).unwrap();
    l.datapath.lists.set(List::Allow, &[(host(far(1400)), dropping())]).unwrap();
    assert_eq!([0, 1499, 1400, 1500].map(|n| verdict(&l, n)), [XDP_DROP, XDP_DROP, XDP_PASS, XDP_PASS]);
    // A third is new, of another length as well; one of those that stay changes what it does.
    let mut next = hosts(500, 2000);
    next.push((net(v4("203.0.113.0"), 24), dropping()));
    next[10].1 = entry(action::SHADOW);
    assert_eq!(verdict(&l, 1000), XDP_DROP);
    l.datapath.lists.replace(List::Block, &next).unwrap();
    let after = [0, 499, 500, 510, 1999, 1400, 2000].map(|n| verdict(&l, n));
    assert_eq!(after, [XDP_PASS, XDP_PASS, XDP_DROP, XDP_PASS, XDP_DROP, XDP_PASS, XDP_PASS]);
    assert_eq!(l.xdp(&segment(v4("203.0.113.77"), us, 1)), XDP_DROP);
    assert_eq!((l.hits(host(far(1000))), l.hits(host(far(510))), l.hits(host(far(0)))), (1, 1, 0));
    assert_eq!((l.datapath.lists.len(List::Block), l.datapath.lists.len(List::Allow)), (1501, 1));
    // No room for both at once: refused, and nothing has changed.
    l.datapath.lists.replace(List::Block, &hosts(10_000, 12_000)).unwrap();
    let e = l.datapath.lists.replace(List::Block, &hosts(20_000, 24_000)).unwrap_err();
    assert!(e.to_string().contains("raise `capacity.blocks`"), "{e}");
    assert_eq!([10_000, 11_999, 20_000, 23_999].map(|n| verdict(&l, n)), [XDP_DROP, XDP_DROP, XDP_PASS, XDP_PASS]);
    l.datapath.lists.replace(List::Block, &[]).unwrap();
    assert_eq!(verdict(&l, 10_000), XDP_PASS);
    assert_eq!(l.datapath.lists.read_back().unwrap().len(), 1, "the allow list stays");
}

#[test]
fn who_is_on_the_old_and_the_new_list_is_dropped_at_every_moment_of_a_replacement() {
    let test = "who_is_on_the_old_and_the_new_list_is_dropped_at_every_moment_of_a_replacement";
    let Some(mut l) = loaded(test) else { return };
    let us = v4("192.0.2.1");
    let stays = |n: u32| far(1_000_000 + n);
    // Who stays, and 900 others of each generation; with lengths that come and go.
    let generation = |g: u32| {
        let mut all: Vec<(Key, Entry)> = (0..100).map(|n| (host(stays(n)), dropping())).collect();
        all.extend((0..900).map(|n| (host(far(g * 1000 + n)), dropping())));
        all.extend((0..g % 5).map(|n| (net(v4(&format!("10.{g}.{n}.0")), 24 + n as u8), dropping())));
        all
    };
    l.datapath.lists.replace(List::Block, &generation(0)).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (xdp, lists) = (&l.xdp, &mut l.datapath.lists);
    let looked = std::thread::scope(|s| {
        let watch = s.spawn(|| {
            let mut looked = 0u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let n = (looked % 100) as u32;
                let run = |from| sys::test_run(std::os::fd::AsFd::as_fd(xdp), &segment(from, us, 443), &[], 1, 0);
                assert_eq!(run(stays(n)).unwrap().verdict, XDP_DROP, "packet {looked}");
                assert_eq!(run(far(900_000 + n)).unwrap().verdict, XDP_PASS, "packet {looked}");
                looked += 1;
            }
            looked
        });
        for g in 1..60 {
            lists.replace(List::Block, &generation(g)).unwrap();
            // Single changes in between.
            let one = host(far(500_000 + g));
            lists.set(List::Block, &[(one, dropping())]).unwrap();
            lists.remove(List::Block, &[one]).unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        watch.join().unwrap()
    });
    assert!(looked > 1000, "only {looked} packets");
    let packets: u64 = (0..100).map(|n| l.hits(host(stays(n)))).sum();
    assert_eq!(packets, looked, "every hit is still there");
}
