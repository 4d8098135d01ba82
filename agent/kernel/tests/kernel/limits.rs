//! Rate limits and the lease, by `BPF_PROG_TEST_RUN`.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use weir_common::counters::Reason;
use weir_common::entry::{Entry, action};
use weir_common::limit::{Limit, Unit};
use weir_kernel::lease::Lapse;
use weir_kernel::lists::List;
use weir_kernel::sys;

use crate::frames::*;
use crate::support::*;

fn hosts() -> (IpAddr, IpAddr, IpAddr) {
    crate::support::hosts(false)
}

#[test]
fn a_limit_lets_its_burst_pass_and_stops_the_rest_and_nobody_else() {
    let Some(mut l) = loaded("a_limit_lets_its_burst_pass_and_stops_the_rest_and_nobody_else") else { return };
    let (us, bad, near) = hosts();
    // One a second: however slow this machine is, the burst is not filled up again meanwhile by more than what is allowed for.
    l.set(List::Block, host(bad), limiting(Unit::Packets, 1, 20));
    let begin = Instant::now();
    let passed = (0..50).filter(|_| l.xdp(&segment(bad, us, 443)) == XDP_PASS).count();
    let most = 20 + begin.elapsed().as_secs() as usize + 1;
    assert!((20..=most).contains(&passed), "{passed} of 50 passed");
    let stopped = 50 - passed as u64;
    assert_eq!((l.hits(host(bad)), l.packets(Reason::InLimited), l.packets(Reason::InDropped)), (stopped, stopped, 0));
    assert!((0..50).all(|_| l.xdp(&segment(near, us, 443)) == XDP_PASS), "the neighbour is not limited");
    // What it does may be changed; its hits and what it has let through stay.
    l.set(
        List::Block,
        host(bad),
        Entry { expires_ns: sys::monotonic_ns() + 3_600_000_000_000, ..limiting(Unit::Packets, 1, 20) },
    );
    assert_eq!(l.xdp(&segment(bad, us, 443)), XDP_DROP);
    l.datapath.lists.remove(List::Block, &[host(bad)]).unwrap();
    assert!((0..50).all(|_| l.xdp(&segment(bad, us, 443)) == XDP_PASS), "lifted");
    // At egress as well.
    l.set(List::Block, host(bad), limiting(Unit::Packets, 1, 3));
    let out = (0..20).filter(|_| l.tc(&segment(us, bad, 443)) == TC_SHOT).count() as u64;
    assert!(out >= 20 - 3 - 2 && l.packets(Reason::OutLimited) == out, "{out}");
}

#[test]
fn a_limit_of_bytes_counts_bytes_and_the_stronger_entry_decides() {
    let Some(mut l) = loaded("a_limit_of_bytes_counts_bytes_and_the_stronger_entry_decides") else { return };
    let (us, bad, _) = hosts();
    let frame = segment(bad, us, 443);
    let ip_len = frame.len() as u64 - 14;
    l.set(List::Block, host(bad), limiting(Unit::Bytes, 1, 65_535));
    let passed = (0..3000).filter(|_| l.xdp(&frame) == XDP_PASS).count() as u64;
    let kept = Limit::new(Unit::Bytes, 1, 65_535).unwrap().burst();
    assert!(passed * ip_len <= kept + 60 && (passed + 1) * ip_len > kept, "{passed} of {ip_len} bytes");
    // Stronger than shadow, weaker than drop, whatever is narrower.
    l.set(List::Block, net(v4("198.51.100.0"), 24), entry(action::SHADOW));
    assert_eq!(l.xdp(&frame), XDP_DROP);
    l.set(List::Block, host(bad), entry(action::SHADOW));
    l.set(List::Block, net(v4("198.51.100.0"), 24), limiting(Unit::Packets, 1, 1));
    assert_eq!([l.xdp(&frame), l.xdp(&frame)], [XDP_PASS, XDP_DROP]);
    l.set(List::Block, host(bad), dropping());
    let dropped = l.packets(Reason::InDropped);
    assert_eq!((l.xdp(&frame), l.packets(Reason::InDropped)), (XDP_DROP, dropped + 1));
    l.set(List::Allow, host(bad), dropping());
    assert_eq!(l.xdp(&frame), XDP_PASS);
}

#[test]
fn two_processors_at_once_get_no_more_than_rate_times_time_and_burst() {
    let Some(mut l) = loaded("two_processors_at_once_get_no_more_than_rate_times_time_and_burst") else { return };
    let (us, bad, _) = hosts();
    const RATE: u64 = 100_000;
    const BURST: u64 = 1000;
    const EACH: u32 = 2_000_000;
    l.set(List::Block, host(bad), limiting(Unit::Packets, RATE, BURST));
    let frame = segment(bad, us, 443);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| sys::test_run(l.xdp.as_fd(), &frame, &[], EACH, 0).unwrap());
        }
    });
    let took = begin.elapsed().as_secs_f64();
    let passed = 2 * u64::from(EACH) - l.hits(host(bad));
    let most = took * RATE as f64 + BURST as f64;
    assert!(passed as f64 <= most, "{passed} passed in {took:.3} s, {most:.0} are allowed");
    assert!(passed >= BURST, "{passed}");
    assert_eq!(passed, l.packets(Reason::InPass) + l.packets(Reason::InOverflow));
}

#[test]
fn entries_are_obeyed_as_the_lease_says_once_the_agent_is_silent() {
    let Some(mut l) = loaded("entries_are_obeyed_as_the_lease_says_once_the_agent_is_silent") else { return };
    let (us, bad, _) = hosts();
    let frame = segment(bad, us, 443);
    l.set(List::Block, host(bad), dropping());
    let counts = |l: &Loaded| [Reason::InDropped, Reason::InShadowed, Reason::InLapsed].map(|r| l.packets(r));
    // Nobody has spoken of a lease: nothing lapses.
    assert_eq!((l.xdp(&frame), counts(&l)), (XDP_DROP, [1, 0, 0]));
    // While it holds, and again as soon as there is a sign of life.
    let (short, long) = (Duration::from_millis(50), Duration::from_secs(3600));
    for (lapse, silent, stopped) in
        [(Lapse::Keep, XDP_DROP, [1, 0, 0]), (Lapse::Shadow, XDP_PASS, [0, 1, 1]), (Lapse::Pass, XDP_PASS, [0, 0, 1])]
    {
        l.datapath.lease.set(lapse, long);
        assert_eq!(l.xdp(&frame), XDP_DROP, "{lapse:?}, held");
        l.datapath.lease.set(lapse, short);
        std::thread::sleep(short * 3);
        let (before, hits) = (counts(&l), l.hits(host(bad)));
        assert_eq!(l.xdp(&frame), silent, "{lapse:?}, silent");
        let after = counts(&l);
        assert_eq!(std::array::from_fn::<u64, 3, _>(|i| after[i] - before[i]), stopped, "{lapse:?}");
        assert_eq!(l.hits(host(bad)) - hits, stopped[0] + stopped[1], "{lapse:?}");
        l.datapath.lease.set(lapse, long);
        assert_eq!(l.xdp(&frame), XDP_DROP, "{lapse:?}, alive again");
    }
    // A limit's rest is passed on as well; what it lets through stays uncounted.
    l.set(List::Block, host(bad), limiting(Unit::Packets, 1, 1));
    l.datapath.lease.set(Lapse::Pass, short);
    std::thread::sleep(short * 3);
    assert!((0..10).all(|_| l.xdp(&frame) == XDP_PASS));
    l.datapath.lease.set(Lapse::Pass, long);
    assert_eq!(l.xdp(&frame), XDP_DROP);
}
