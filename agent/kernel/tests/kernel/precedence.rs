//! Which of several entries decides, and for how long.

use weir_common::counters::Reason;
use weir_common::entry::{Entry, action};
use weir_kernel::lists::{Key, List};
use weir_kernel::sys;

use crate::frames::*;
use crate::support::*;

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
