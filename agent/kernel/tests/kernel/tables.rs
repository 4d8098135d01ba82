//! Many entries: they come, go and change, one by one and all at once, while packets are judged.

use std::os::fd::AsFd;

use weir_common::entry::{Entry, MAX_LENGTHS, action};
use weir_kernel::lists::{Key, List};
use weir_kernel::{KernelError, sys};

use crate::frames::*;
use crate::support::*;

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
