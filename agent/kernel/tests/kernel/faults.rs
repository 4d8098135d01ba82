//! What must hold when something is too much, too often, or not as it was left.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use weir_common::counters::Reason;
use weir_common::names;
use weir_kernel::lists::List;
use weir_kernel::pins::{Capacity, Pins};
use weir_kernel::{Datapath, KernelError, Options, datapath, link, sys};

use crate::frames::*;
use crate::raw;
use crate::support::*;

/// Flow `n` of many, from all over.
fn flow(n: u32) -> Vec<u8> {
    let port = 1024 + (n % 60_000) as u16;
    frame(&[], &ip(far(n), v4("192.0.2.1"), UDP, &udp(port, 443, 8)))
}

#[test]
fn a_flow_map_filled_twice_over_changes_no_verdict_and_every_packet_is_accounted_for() {
    let test = "a_flow_map_filled_twice_over_changes_no_verdict_and_every_packet_is_accounted_for";
    if !ready(test) {
        return;
    }
    const CAPACITY: u32 = 8192;
    const EACH: u32 = 3;
    // One in sixteen is blocked; of the others there are twice as many as there is room for, and some.
    const FLOWS: u32 = 2 * CAPACITY + CAPACITY / 4;
    let mut l = Loaded::new(Options { capacity: Capacity { flows: CAPACITY, ..small() }, ..Options::default() });
    let blocked = |n: u32| n.is_multiple_of(16);
    let entries: Vec<_> = (0..FLOWS).filter(|n| blocked(*n)).map(|n| (host(far(n)), dropping())).collect();
    l.datapath.lists.set(List::Block, &entries).unwrap();
    let (mut counted, sent_each) = (0u64, u64::from(2 * FLOWS * EACH));
    for epoch in 1..=2u64 {
        let dropped = AtomicU64::new(0);
        // Two processors at once, each from its own end.
        std::thread::scope(|s| {
            for turned in [false, true] {
                let (xdp, dropped) = (l.xdp.as_fd(), &dropped);
                s.spawn(move || {
                    for n in 0..FLOWS {
                        let n = if turned { FLOWS - 1 - n } else { n };
                        let frame = flow(n);
                        for _ in 0..EACH {
                            let verdict = sys::test_run(xdp, &frame, &[], 1, 0).unwrap().verdict;
                            assert_eq!(verdict, if blocked(n) { XDP_DROP } else { XDP_PASS }, "flow {n}");
                            dropped.fetch_add(u64::from(verdict == XDP_DROP), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let flows = l.drain();
        counted += flows.values().map(|s| s.packets()).sum::<u64>();
        let [all_dropped, passed, overflow] =
            [Reason::InDropped, Reason::InPass, Reason::InOverflow].map(|r| l.packets(r));
        assert_eq!(all_dropped, epoch * dropped.into_inner());
        assert_eq!(
            all_dropped + passed + overflow,
            epoch * sent_each,
            "dropped, counted or overflowed: all that was sent"
        );
        assert_eq!(passed, counted, "what counts as passed is in a flow");
        // Where both began the same flow at once, a record stays empty.
        let full = CAPACITY as usize - 16..=CAPACITY as usize;
        assert!(full.contains(&flows.len()), "{} flows", flows.len());
        assert!(overflow > epoch * u64::from(CAPACITY * EACH), "{overflow}");
    }
}

#[test]
fn a_flood_of_new_flows_takes_no_more_memory_and_the_old_flows_stay_counted() {
    let test = "a_flood_of_new_flows_takes_no_more_memory_and_the_old_flows_stay_counted";
    if !ready(test) {
        return;
    }
    const EPOCHS: u32 = 6;
    const PER_EPOCH: u32 = 60_000;
    let mut l = Loaded::new(Options { capacity: small(), ..Options::default() });
    let capacity = small().flows as usize;
    let honest = segment(v4("203.0.113.7"), v4("192.0.2.1"), 443);
    let mut out = Vec::new();
    for epoch in 0..EPOCHS {
        let mut sent_honest = 0u64;
        for n in 0..PER_EPOCH {
            // 19 of 20 packets begin a flow that nobody has seen.
            if n % 20 == 0 {
                assert_eq!(l.xdp(&honest), XDP_PASS);
                sent_honest += 1;
            } else {
                assert_eq!(l.xdp(&flow(epoch * PER_EPOCH + n)), XDP_PASS);
            }
        }
        out.clear();
        l.datapath.epochs.drain(&mut out).unwrap();
        assert_eq!(out.len(), capacity, "an epoch holds what it was made for");
        let counted: u64 = out.iter().map(|(_, s)| s.packets()).sum();
        let overflow = l.packets(Reason::InOverflow) + l.packets(Reason::InPass);
        assert_eq!(overflow, u64::from((epoch + 1) * PER_EPOCH), "every packet is accounted for");
        let old =
            out.iter().find(|(k, _)| k.addr_a == mapped(v4("203.0.113.7")) || k.addr_b == mapped(v4("203.0.113.7")));
        assert_eq!(old.unwrap().1.packets(), sent_honest, "the flow that was there first is counted in full");
        assert!(counted >= capacity as u64 + sent_honest - 1);
    }
    for spec in &names::MAPS {
        let info = sys::map_info(l.datapath.pins.open(spec.name).unwrap().as_fd()).unwrap();
        assert_eq!(info.max_entries, spec.max_entries(&small()), "{}", spec.name);
    }
    assert!(out.capacity() < 2 * capacity, "{}", out.capacity());
}

/// A namespace of a host, one of a neighbour, and the pins of the host's interface.
struct Pair {
    host: Netns,
    peer: Netns,
    pins: PinGuard,
}

fn pair() -> Pair {
    let (host, peer) = (Netns::new("host"), Netns::new("peer"));
    veth_pair(&host, &peer, 1500);
    let pins = host.enter(|| PinGuard(Pins::of(link::index_of("weir0").unwrap()).unwrap()));
    Pair { host, peer, pins }
}

fn options() -> Options {
    Options { capacity: small(), ..Options::default() }
}

#[test]
fn two_hundred_replacements_of_the_programs_let_no_blocked_packet_through() {
    let test = "two_hundred_replacements_of_the_programs_let_no_blocked_packet_through";
    if !ready(test) {
        return;
    }
    const REPLACEMENTS: u32 = 200;
    const LONGEST: Duration = Duration::from_secs(60);
    let p = pair();
    for (netns, address) in [(&p.host, "10.98.0.1/24"), (&p.peer, "10.98.0.2/24"), (&p.peer, "10.98.0.3/24")] {
        ip_command(&format!("-n {} addr add {address} dev weir0", netns.name()));
    }
    let mut d = p.host.enter(|| Datapath::open("weir0", options())).unwrap();
    p.host.enter(|| d.attach()).unwrap();
    // Programs of another load, over the same maps.
    let mut first = p.host.enter(|| Datapath::open("weir0", options())).unwrap();
    let bad = v4("10.98.0.3");
    d.lists.set(List::Block, &[(host(bad), dropping())]).unwrap();
    // What gets through is heard by a socket, which knows nothing of Weir.
    let heard = p.host.enter(|| std::net::UdpSocket::bind("10.98.0.1:9000").unwrap());
    nix::sys::socket::setsockopt(&heard, nix::sys::socket::sockopt::RcvBufForce, &(32 << 20)).unwrap();
    heard.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let [good, evil] = ["10.98.0.2:0", "10.98.0.3:0"].map(|at| p.peer.enter(|| std::net::UdpSocket::bind(at).unwrap()));
    let (stop, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let begin = Instant::now();
    let (replaced, sent, got) = std::thread::scope(|s| {
        let senders = [&good, &evil].map(|socket| {
            let stop = &stop;
            s.spawn(move || {
                let mut sent = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    sent += u64::from(socket.send_to(b"x", "10.98.0.1:9000").is_ok());
                    // Within what the ring of a veth holds.
                    std::thread::sleep(Duration::from_micros(50));
                }
                sent
            })
        });
        let receiver = {
            let (heard, done) = (&heard, &done);
            s.spawn(move || {
                let (mut from_good, mut from_bad, mut buffer) = (0u64, 0u64, [0; 8]);
                loop {
                    match heard.recv_from(&mut buffer) {
                        Ok((_, from)) if from.ip() == bad => from_bad += 1,
                        Ok(_) => from_good += 1,
                        Err(_) if done.load(Ordering::Relaxed) => return (from_good, from_bad),
                        Err(_) => {}
                    }
                }
            })
        };
        let mut replaced = 0;
        while replaced < REPLACEMENTS && begin.elapsed() < LONGEST {
            if replaced % 50 == 0 {
                // As an upgrade does: another load adopts the pins and takes the place of the programs through the links.
                d = p.host.enter(|| {
                    let mut next = Datapath::open("weir0", options()).unwrap();
                    next.attach().unwrap();
                    next
                });
            } else {
                // The last step of that alone: loading takes the verifier a second on a busy machine.
                let programs = if replaced % 2 == 0 { first.programs() } else { d.programs() }.unwrap();
                for (pin, program) in [(p.pins.0.link_xdp(), &programs.0), (p.pins.0.link_tc(), &programs.1)] {
                    raw::link_update(sys::obj_get(&pin).unwrap().as_fd(), program.as_fd()).unwrap();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            replaced += 1;
        }
        stop.store(true, Ordering::Relaxed);
        let sent = senders.map(|s| s.join().unwrap());
        done.store(true, Ordering::Relaxed);
        (replaced, sent, receiver.join().unwrap())
    });
    let ring = p.peer.statistic("weir0", "dropped");
    eprintln!("{replaced} replacements in {:?}: {sent:?} sent, {got:?} arrived, {ring} ring drops", begin.elapsed());
    assert_eq!(replaced, REPLACEMENTS, "within {LONGEST:?}");
    let ([good_sent, bad_sent], (good_got, bad_got)) = (sent, got);
    assert_eq!(bad_got, 0, "of {bad_sent} blocked packets");
    assert!(good_sent > 1000 && bad_sent > 1000, "there was traffic all the time: {sent:?}");
    assert!(
        good_sent - good_got <= ring,
        "{} allowed packets are lost, and the ring dropped {ring}",
        good_sent - good_got
    );
    let hits = d.lists.hits(List::Block, &host(bad)).unwrap().packets;
    assert!(hits <= bad_sent && hits + ring >= bad_sent, "{bad_sent} were sent, the entry met {hits}");
}

#[test]
fn pins_that_were_damaged_are_refused_with_what_helps_or_mended_and_never_pass_for_enforcement() {
    let test = "pins_that_were_damaged_are_refused_with_what_helps_or_mended_and_never_pass_for_enforcement";
    if !ready(test) {
        return;
    }
    let p = pair();
    let bad = v4("198.51.100.66");
    let blocked = segment(bad, v4("192.0.2.1"), 443);
    let open = || p.host.enter(|| Datapath::open("weir0", options()));
    let enforces = |d: &mut Datapath| {
        let (xdp, _) = d.programs().unwrap();
        sys::test_run(xdp.as_fd(), &blocked, &[], 1, 0).unwrap().verdict == XDP_DROP
    };
    let begin = || {
        let mut d = open().unwrap();
        p.host.enter(|| d.attach()).unwrap();
        d.lists.set(List::Block, &[(host(bad), dropping())]).unwrap();
        assert!(enforces(&mut d));
    };
    let unload = || p.host.enter(|| datapath::unload(&p.pins.0)).unwrap();
    let refused = |what: &str| {
        let e = open().err().unwrap_or_else(|| panic!("{what}: it started")).to_string();
        assert!(e.contains("weir unload -i weir0"), "{what}: {e}");
        e
    };
    // A pin of each name that is missing, or another kind of map; put back, nothing is wrong.
    begin();
    let stranger = raw::hash(4, 8, 16).unwrap();
    for spec in &names::MAPS {
        let (path, ours) = (p.pins.0.map(spec.name), p.pins.0.open(spec.name).unwrap());
        std::fs::remove_file(&path).unwrap();
        if spec.name == names::META {
            assert!(p.pins.0.meta().unwrap().is_none());
        }
        refused(spec.name);
        raw::pin(stranger.as_raw_fd(), path.to_str().unwrap()).unwrap();
        refused(spec.name);
        std::fs::remove_file(&path).unwrap();
        raw::pin(ours.as_raw_fd(), path.to_str().unwrap()).unwrap();
    }
    assert!(enforces(&mut open().unwrap()), "all is as it was");
    unload();
    // A link that is none.
    for path in [p.pins.0.link_xdp(), p.pins.0.link_tc()] {
        begin();
        // Where there is no TCX, the egress side is a filter and no link.
        if !path.exists() && path == p.pins.0.link_tc() {
            unload();
            continue;
        }
        std::fs::remove_file(&path).unwrap();
        raw::pin(stranger.as_raw_fd(), path.to_str().unwrap()).unwrap();
        let attached = open().and_then(|mut d| p.host.enter(|| d.attach().map(drop)));
        assert!(attached.is_err(), "{}: it went on", path.display());
        unload();
    }
    // Entries that say what none of ours says are taken out; the others hold.
    begin();
    {
        let records = p.pins.0.open(names::ENTRIES).unwrap();
        let mut record: weir_common::entry::EntryRecord = sys::lookup(records.as_fd(), &0u32).unwrap().unwrap();
        record.key = weir_common::entry::EntryKey::net(1, 2, 77, 3);
        sys::update(records.as_fd(), &0u32, &record, sys::ANY).unwrap();
    }
    let mut d = open().unwrap();
    p.host.enter(|| d.attach()).unwrap();
    assert_eq!(d.lists.read_back().unwrap().len(), 0, "what is of no list is gone");
    d.lists.set(List::Block, &[(host(bad), dropping())]).unwrap();
    assert!(enforces(&mut d), "and what is set again holds");
    // The description of the lists overwritten with noise: read as what it is not, and made right or refused.
    drop(d);
    for noise in [0xffu8, 0x5a, 0x00] {
        let lists = p.pins.0.open(names::LISTS).unwrap();
        let garbage: weir_common::entry::LiveLists =
            bytemuck::pod_read_unaligned(&[noise; size_of::<weir_common::entry::LiveLists>()]);
        sys::update(lists.as_fd(), &0u32, &garbage, sys::ANY).unwrap();
        match open() {
            Ok(mut d) => {
                p.host.enter(|| d.attach()).unwrap();
                d.lists.set(List::Block, &[(host(bad), dropping())]).unwrap();
                assert!(enforces(&mut d), "after {noise:#x}");
            }
            Err(e) => {
                assert!(matches!(e, KernelError::ForeignPins { .. }), "after {noise:#x}: {e}");
                unload();
                begin();
            }
        }
    }
}
