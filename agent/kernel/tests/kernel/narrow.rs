//! Entries that are narrower than a host: one flow, and the port that a host sends from. (Ports of ours: `verdicts`.)

use std::net::IpAddr;
use std::time::{Duration, Instant};

use weir_common::counters::Reason;
use weir_common::entry::{Entry, FlowTarget, MAX_FLOW_TARGETS, action, side};
use weir_common::limit::Unit;
use weir_kernel::lists::{Key, List};
use weir_kernel::pins::Capacity;
use weir_kernel::{KernelError, Options, sys};

use crate::frames::*;
use crate::support::*;

/// A datagram.
fn datagram(from: (IpAddr, u16), to: (IpAddr, u16)) -> Vec<u8> {
    frame(&[], &ip(from.0, to.0, UDP, &udp(from.1, to.1, 1)))
}

fn flow(remote: (IpAddr, u16), ours: (IpAddr, u16), proto: u8) -> Key {
    let (far_port, port) = (remote.1, ours.1);
    Key::Flow(FlowTarget { remote: mapped(remote.0), ours: mapped(ours.0), far_port, port, proto })
}

/// What a key stops, in and out, and what is as near to that as can be.
struct Case {
    key: Key,
    stopped: [Vec<u8>; 2],
    passing: Vec<[Vec<u8>; 2]>,
}

fn cases(six: bool) -> [Case; 2] {
    let (us, bad, near) = hosts(six);
    let also_us = if six { v6("fd00::2") } else { v4("192.0.2.2") };
    // To and from, between a remote end and one of ours.
    let both = |remote, ours| [datagram(remote, ours), datagram(ours, remote)];
    let tcp_between = |r: (IpAddr, u16), o: (IpAddr, u16)| {
        let one = |a: (IpAddr, u16), b: (IpAddr, u16)| frame(&[], &ip(a.0, b.0, TCP, &tcp(a.1, b.1, ACK, 1, 1, 1)));
        [one(r, o), one(o, r)]
    };
    let (remote, ours) = ((bad, 53), (us, 4000));
    let far_port = Case {
        key: Key::far_port(mapped(bad), UDP, 53),
        stopped: both(remote, ours),
        passing: vec![both((bad, 54), (us, 53)), both((near, 53), ours), tcp_between(remote, ours)],
    };
    let flow = Case {
        key: flow(remote, ours, UDP),
        stopped: both(remote, ours),
        passing: vec![
            both((bad, 54), ours),
            both(remote, (us, 4001)),
            both(remote, (also_us, 4000)),
            both((near, 53), ours),
            both((bad, 4000), (us, 53)),
            tcp_between(remote, ours),
        ],
    };
    [far_port, flow]
}

#[test]
fn a_flow_and_a_port_of_theirs_are_stopped_in_out_or_both_and_what_is_near_passes() {
    let test = "a_flow_and_a_port_of_theirs_are_stopped_in_out_or_both_and_what_is_near_passes";
    let Some(mut l) = loaded(test) else { return };
    for case in cases(false).into_iter().chain(cases(true)) {
        let verdicts = |l: &Loaded, frames: &[Vec<u8>; 2]| (l.xdp(&frames[0]), l.tc(&frames[1]));
        let key = case.key;
        assert_eq!(verdicts(&l, &case.stopped), (XDP_PASS, TC_NEXT), "before: {key:?}");
        for (sides, xdp, tc) in
            [(side::IN, XDP_DROP, TC_NEXT), (side::OUT, XDP_PASS, TC_SHOT), (side::IN | side::OUT, XDP_DROP, TC_SHOT)]
        {
            l.set(List::Block, key, Entry { sides, ..dropping() });
            let hits = l.hits(key);
            assert_eq!(verdicts(&l, &case.stopped), (xdp, tc), "sides {sides}: {key:?}");
            assert_eq!(l.hits(key) - hits, u64::from(sides.count_ones()), "sides {sides}: {key:?}");
            for passing in &case.passing {
                assert_eq!(verdicts(&l, passing), (XDP_PASS, TC_NEXT), "sides {sides}, beside {key:?}: {passing:02x?}");
            }
            // The far end is the source of what comes in, and the destination of what goes out.
            let turned = [case.stopped[1].clone(), case.stopped[0].clone()];
            assert_eq!(verdicts(&l, &turned), (XDP_PASS, TC_NEXT), "sides {sides}: {key:?}");
        }
        // Whatever its VLAN, as for any other target.
        let tagged = frame(&[(0x8100, 7)], &case.stopped[0][14..]);
        assert_eq!(l.xdp(&tagged), XDP_DROP);
        assert_eq!(l.datapath.lists.remove(List::Block, &[key]).unwrap(), 1);
        assert_eq!(verdicts(&l, &case.stopped), (XDP_PASS, TC_NEXT), "after: {key:?}");
    }
}

#[test]
fn a_ping_is_a_flow_of_both_directions() {
    let Some(mut l) = loaded("a_ping_is_a_flow_of_both_directions") else { return };
    let (us, bad, near) = hosts(false);
    let ping = |from, to, kind| frame(&[], &ip(from, to, ICMP, &icmp(kind, 0)));
    l.set(List::Block, flow((bad, 8), (us, 0), ICMP), dropping());
    assert_eq!((l.xdp(&ping(bad, us, 8)), l.tc(&ping(us, bad, 0))), (XDP_DROP, TC_SHOT), "their pings, our answers");
    assert_eq!((l.tc(&ping(us, bad, 8)), l.xdp(&ping(bad, us, 0))), (TC_NEXT, XDP_PASS), "our pings, their answers");
    assert_eq!(l.xdp(&ping(near, us, 8)), XDP_PASS);
}

#[test]
fn a_shadow_entry_of_a_flow_or_port_counts_and_lets_pass_and_a_limit_holds_it_to_its_rate() {
    let test = "a_shadow_entry_of_a_flow_or_port_counts_and_lets_pass_and_a_limit_holds_it_to_its_rate";
    let Some(mut l) = loaded(test) else { return };
    for case in cases(false).into_iter().chain(cases(true)) {
        let key = case.key;
        let shadowed = l.packets(Reason::InShadowed) + l.packets(Reason::OutShadowed);
        l.set(List::Block, key, entry(action::SHADOW));
        assert_eq!((l.xdp(&case.stopped[0]), l.tc(&case.stopped[1])), (XDP_PASS, TC_NEXT));
        assert_eq!(l.hits(key), 2);
        assert_eq!(l.packets(Reason::InShadowed) + l.packets(Reason::OutShadowed), shadowed + 2);
        l.datapath.lists.remove(List::Block, &[key]).unwrap();

        // Both directions count towards one rate.
        l.set(List::Block, key, limiting(Unit::Packets, 1, 20));
        let begin = Instant::now();
        let passed = (0..50)
            .filter(|n| match n % 2 {
                0 => l.xdp(&case.stopped[0]) == XDP_PASS,
                _ => l.tc(&case.stopped[1]) == TC_NEXT,
            })
            .count();
        let most = 20 + begin.elapsed().as_secs() as usize + 1;
        assert!((20..=most).contains(&passed), "{passed} of 50 passed: {key:?}");
        assert_eq!(l.hits(key), 50 - passed as u64, "its hits are what it has stopped");
        for passing in &case.passing {
            assert!((0..50).all(|_| l.xdp(&passing[0]) == XDP_PASS), "what is beside {key:?} is not limited");
        }
        l.datapath.lists.remove(List::Block, &[key]).unwrap();
        assert!((0..50).all(|_| l.xdp(&case.stopped[0]) == XDP_PASS), "lifted");
    }
}

#[test]
fn a_limit_on_a_flow_lets_no_more_pass_than_rate_times_time_and_burst() {
    let Some(mut l) = loaded("a_limit_on_a_flow_lets_no_more_pass_than_rate_times_time_and_burst") else { return };
    const RATE: u64 = 50_000;
    const BURST: u64 = 500;
    const EACH: u32 = 1_000_000;
    let (us, bad, _) = hosts(true);
    let (remote, ours) = ((bad, 53), (us, 4000));
    let key = flow(remote, ours, UDP);
    l.set(List::Block, key, limiting(Unit::Packets, RATE, BURST));
    let (comes, goes) = (datagram(remote, ours), datagram(ours, remote));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        use std::os::fd::AsFd;
        scope.spawn(|| sys::test_run(l.xdp.as_fd(), &comes, &[], EACH, 0).unwrap());
        scope.spawn(|| sys::test_run(l.tc.as_fd(), &goes, &[], EACH, 0).unwrap());
    });
    let took = begin.elapsed().as_secs_f64();
    let passed = 2 * u64::from(EACH) - l.hits(key);
    let most = took * RATE as f64 + BURST as f64;
    assert!(passed as f64 <= most && passed >= BURST, "{passed} passed in {took:.3} s, {most:.0} are allowed");
}

#[test]
fn a_flow_is_narrower_than_a_port_and_a_port_than_a_host_and_the_strongest_decides() {
    let test = "a_flow_is_narrower_than_a_port_and_a_port_than_a_host_and_the_strongest_decides";
    let Some(mut l) = loaded(test) else { return };
    for six in [false, true] {
        let (us, bad, _) = hosts(six);
        let (remote, ours) = ((bad, 53), (us, 4000));
        let packet = datagram(remote, ours);
        // From the narrowest on.
        let all = [
            flow(remote, ours, UDP),
            Key::port(mapped(bad), UDP, 4000),
            Key::far_port(mapped(bad), UDP, 53),
            host(bad),
        ];
        for (n, narrow) in all.iter().enumerate() {
            for wide in &all[n + 1..] {
                // Among equals the narrower is credited, in whichever order they came.
                for (first, second) in [(narrow, wide), (wide, narrow)] {
                    for strength in [action::SHADOW, action::DROP] {
                        l.set(List::Block, *first, entry(strength));
                        l.set(List::Block, *second, entry(strength));
                        assert_eq!(l.xdp(&packet), if strength == action::DROP { XDP_DROP } else { XDP_PASS });
                        assert_eq!((l.hits(*narrow), l.hits(*wide)), (1, 0), "{narrow:?} before {wide:?}");
                        l.datapath.lists.remove(List::Block, &all).unwrap();
                    }
                }
                // The stronger one decides, whichever is narrower.
                for (strong, weak) in [(narrow, wide), (wide, narrow)] {
                    for weaker in [entry(action::SHADOW), limiting(Unit::Packets, 1, 1)] {
                        l.set(List::Block, *strong, dropping());
                        l.set(List::Block, *weak, weaker);
                        assert_eq!([l.xdp(&packet), l.xdp(&packet)], [XDP_DROP, XDP_DROP]);
                        assert_eq!((l.hits(*strong), l.hits(*weak)), (2, 0));
                        l.datapath.lists.remove(List::Block, &all).unwrap();
                    }
                    l.set(List::Block, *strong, limiting(Unit::Packets, 1, 1));
                    l.set(List::Block, *weak, entry(action::SHADOW));
                    assert_eq!([l.xdp(&packet), l.xdp(&packet)], [XDP_PASS, XDP_DROP], "a limit before a shadow");
                    assert_eq!((l.hits(*strong), l.hits(*weak)), (1, 0));
                    l.datapath.lists.remove(List::Block, &all).unwrap();
                }
                // One that has ended hides nothing, on either side of it.
                for (ended, live) in [(narrow, wide), (wide, narrow)] {
                    l.set(List::Block, *ended, allow_expired_at(1));
                    assert_eq!(l.xdp(&packet), XDP_PASS);
                    l.set(List::Block, *live, dropping());
                    assert_eq!((l.xdp(&packet), l.hits(*live), l.hits(*ended)), (XDP_DROP, 1, 0));
                    l.datapath.lists.remove(List::Block, &all).unwrap();
                }
            }
            // And whoever is allowed passes.
            l.set(List::Block, *narrow, dropping());
            assert_eq!(l.xdp(&packet), XDP_DROP);
            l.set(List::Allow, host(bad), dropping());
            assert_eq!(l.xdp(&packet), XDP_PASS, "allow wins over {narrow:?}");
            l.datapath.lists.remove(List::Allow, &[host(bad)]).unwrap();
            l.datapath.lists.remove(List::Block, &all).unwrap();
        }
    }
}

#[test]
fn the_kernel_itself_ends_entries_of_flows_and_ports() {
    let Some(mut l) = loaded("the_kernel_itself_ends_entries_of_flows_and_ports") else { return };
    let all: Vec<Case> = cases(false).into_iter().chain(cases(true)).collect();
    let ends = sys::monotonic_ns() + 400_000_000;
    // Those of one family share their packets; so one kind at a time would hide the other. All end at once.
    for case in &all {
        l.set(List::Block, case.key, Entry { expires_ns: ends, ..dropping() });
    }
    let mut dropped = 0;
    loop {
        let before = sys::monotonic_ns();
        let verdicts: Vec<u32> = all.iter().map(|case| l.xdp(&case.stopped[0])).collect();
        if sys::monotonic_ns() < ends {
            assert_eq!(verdicts, vec![XDP_DROP; all.len()]);
            dropped += 1;
        } else if before > ends + 20_000_000 {
            // The coarse clock is up to a tick behind.
            assert_eq!(verdicts, vec![XDP_PASS; all.len()]);
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(dropped > 5, "{dropped}");
}

#[test]
fn later_fragments_match_no_flow_and_no_port() {
    let Some(mut l) = loaded("later_fragments_match_no_flow_and_no_port") else { return };
    for six in [false, true] {
        let (us, bad, _) = hosts(six);
        let data = udp(53, 4000, 16);
        let fragment = |offset: u16| match (bad, us) {
            (IpAddr::V4(f), IpAddr::V4(t)) => {
                frame(&[], &ipv4_with(f, t, UDP, &data, &V4 { fragment: offset, ..V4::default() }))
            }
            (IpAddr::V6(f), IpAddr::V6(t)) => {
                frame(&[], &ipv6_with(f, t, &[(44, fragment_header(offset, true))], UDP, &data))
            }
            _ => unreachable!(),
        };
        let zero = [flow((bad, 0), (us, 0), UDP), Key::far_port(mapped(bad), UDP, 0), Key::port(mapped(bad), UDP, 0)];
        let keys = [flow((bad, 53), (us, 4000), UDP), Key::far_port(mapped(bad), UDP, 53)];
        for key in keys {
            l.set(List::Block, key, dropping());
            assert_eq!((l.xdp(&fragment(0)), l.xdp(&fragment(100))), (XDP_DROP, XDP_PASS), "{key:?}");
            l.datapath.lists.remove(List::Block, &[key]).unwrap();
        }
        // Nor those on port 0, which is what the flow of a fragment shows.
        for key in zero {
            l.set(List::Block, key, dropping());
            assert_eq!(l.xdp(&fragment(100)), XDP_PASS, "{key:?}");
            l.datapath.lists.remove(List::Block, &[key]).unwrap();
        }
        l.set(List::Block, host(bad), dropping());
        assert_eq!(l.xdp(&fragment(100)), XDP_DROP, "the address still does");
        l.datapath.lists.remove(List::Block, &[host(bad)]).unwrap();
    }
}

#[test]
fn as_many_flows_as_can_be_are_each_stopped_and_one_more_is_refused_with_a_reason() {
    let test = "as_many_flows_as_can_be_are_each_stopped_and_one_more_is_refused_with_a_reason";
    if !ready(test) {
        return;
    }
    let capacity = Capacity { blocks: MAX_FLOW_TARGETS + 1000, ..small() };
    let mut l = Loaded::new(Options { capacity, ..Options::default() });
    let us = v4("192.0.2.1");
    // Many flows of few hosts, towards two ports of ours.
    let ends = |n: u32| ((far(n % 50), (n / 50) as u16), (us, if n & 1 == 0 { 80 } else { 443 }));
    let key = |n: u32| flow(ends(n).0, ends(n).1, UDP);
    let verdict = |l: &Loaded, n: u32| l.xdp(&datagram(ends(n).0, ends(n).1));
    let all: Vec<(Key, Entry)> = (0..MAX_FLOW_TARGETS).map(|n| (key(n), dropping())).collect();
    l.datapath.lists.set(List::Block, &all).unwrap();
    let refused = l.datapath.lists.set(List::Block, &[(key(MAX_FLOW_TARGETS), dropping())]).unwrap_err();
    assert!(matches!(refused, KernelError::TooManyFlows { .. }) && refused.to_string().contains("65536"), "{refused}");
    for n in (0..MAX_FLOW_TARGETS).step_by(97) {
        assert_eq!(verdict(&l, n), XDP_DROP, "{:?}", key(n));
        let ((remote, port), (ours, our_port)) = ends(n);
        assert_eq!(l.xdp(&datagram((remote, port), (ours, our_port + 1))), XDP_PASS);
    }
    assert_eq!(verdict(&l, MAX_FLOW_TARGETS), XDP_PASS, "what was refused");
    // Others are taken all the same, and what is given back is given out again, to another flow.
    l.datapath.lists.set(List::Block, &[(host(v4("203.0.113.9")), dropping())]).unwrap();
    let gone: Vec<Key> = (0..MAX_FLOW_TARGETS).filter(|n| n % 3 == 0).map(key).collect();
    assert_eq!(l.datapath.lists.remove(List::Block, &gone).unwrap(), gone.len());
    let new: Vec<(Key, Entry)> = (0..gone.len() as u32).map(|n| (key(MAX_FLOW_TARGETS + n), dropping())).collect();
    l.datapath.lists.set(List::Block, &new).unwrap();
    for n in (0..MAX_FLOW_TARGETS + gone.len() as u32).step_by(89) {
        let expected = if n < MAX_FLOW_TARGETS && n % 3 == 0 { XDP_PASS } else { XDP_DROP };
        assert_eq!(verdict(&l, n), expected, "{:?}", key(n));
    }
    assert_eq!(l.datapath.lists.read_back().unwrap().len(), MAX_FLOW_TARGETS as usize + 1);
    // Replaced as a whole, too: there is no room for all old and all new ones at once, and that is said.
    let e = l.datapath.lists.replace(List::Block, &all).unwrap_err();
    assert!(matches!(e, KernelError::TooManyFlows { .. } | KernelError::TooSmall { .. }), "{e}");
    assert_eq!(verdict(&l, 1), XDP_DROP);
    let some: Vec<(Key, Entry)> = (1..100).filter(|n| n % 3 != 0).map(|n| (key(n), dropping())).collect();
    l.datapath.lists.replace(List::Block, &some).unwrap();
    assert_eq!([1, 98, 100, MAX_FLOW_TARGETS].map(|n| verdict(&l, n)), [XDP_DROP, XDP_DROP, XDP_PASS, XDP_PASS]);
    l.datapath.lists.replace(List::Block, &[]).unwrap();
    assert_eq!(verdict(&l, 0), XDP_PASS);
}

#[test]
fn another_load_takes_over_flows_and_ports_with_their_hits_and_other_capacities_carry_them_over() {
    let test = "another_load_takes_over_flows_and_ports_with_their_hits_and_other_capacities_carry_them_over";
    if !ready(test) {
        return;
    }
    use std::os::fd::AsFd;
    use weir_kernel::Datapath;
    let pins = PinGuard(weir_kernel::pins::Pins::named(&format!("test-{}", unique())));
    let open = |capacity| {
        let options = Options { capacity, ..Options::default() };
        let mut d = Datapath::load(pins.0.clone(), "none", 0, options).unwrap();
        let (xdp, _) = d.programs().unwrap();
        (d, xdp)
    };
    let all: Vec<Case> = cases(false).into_iter().chain(cases(true)).collect();
    let run = |xdp: &std::os::fd::OwnedFd, f: &[u8]| sys::test_run(xdp.as_fd(), f, &[], 1, 0).unwrap().verdict;
    let (mut first, xdp) = open(small());
    // Some come and go before, so that numbers are not those that a fresh table would give.
    let (us, bad, _) = hosts(false);
    let gone: Vec<Key> = (0..50).map(|n| flow((bad, n), (us, 9), UDP)).collect();
    let entries: Vec<(Key, Entry)> = gone.iter().map(|k| (*k, dropping())).collect();
    first.lists.set(List::Block, &entries).unwrap();
    first.lists.set(List::Block, &all.iter().map(|c| (c.key, dropping())).collect::<Vec<_>>()).unwrap();
    first.lists.remove(List::Block, &gone).unwrap();
    let hits = |d: &Datapath, key: &Key| d.lists.hits(List::Block, key).unwrap().packets;
    // What is beside a port of theirs is beside their flow as well.
    let beside: Vec<&[Vec<u8>; 2]> =
        all.iter().filter(|c| matches!(c.key, Key::FarPort(_))).flat_map(|c| &c.passing).collect();
    all.iter().for_each(|c| assert_eq!(run(&xdp, &c.stopped[0]), XDP_DROP));
    let last: Vec<u64> = all.iter().map(|c| hits(&first, &c.key)).collect();
    assert_eq!(last, [0, 2, 0, 2], "the flows were credited");
    drop((first, xdp));
    let (second, xdp) = open(small());
    for (c, before) in all.iter().zip(&last) {
        assert_eq!(hits(&second, &c.key), *before, "{:?}", c.key);
        assert_eq!(second.lists.get(List::Block, &c.key).unwrap(), Some(dropping()));
    }
    all.iter().for_each(|c| assert_eq!(run(&xdp, &c.stopped[0]), XDP_DROP));
    beside.iter().for_each(|p| assert_eq!(run(&xdp, &p[0]), XDP_PASS));
    drop((second, xdp));
    let (mut third, xdp) = open(Capacity { blocks: 8192, ..small() });
    assert_eq!(third.lists.read_back().unwrap().len(), all.len());
    // One more gets an end of its own and takes away nobody else's.
    third.lists.set(List::Block, &entries).unwrap();
    all.iter().for_each(|c| assert_eq!(run(&xdp, &c.stopped[0]), XDP_DROP, "{:?}", c.key));
    beside.iter().for_each(|p| assert_eq!(run(&xdp, &p[0]), XDP_PASS));
    third.lists.remove(List::Block, &all.iter().map(|c| c.key).collect::<Vec<_>>()).unwrap();
    assert!(all.iter().all(|c| run(&xdp, &c.stopped[0]) == XDP_PASS));
}
