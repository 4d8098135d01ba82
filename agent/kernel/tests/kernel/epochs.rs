//! Swapping epochs under live load: packets counted are packets sent, to the packet. And what a full epoch does.

use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use weir_common::counters::Reason;
use weir_kernel::lists::List;
use weir_kernel::pins::Capacity;
use weir_kernel::{Options, sys};

use crate::frames::*;
use crate::support::*;

#[test]
fn swapping_epochs_under_live_load_loses_no_packet() {
    const SENDERS: usize = 2;
    const FLOWS: u16 = 40;
    /// Packets of one call: short, so that the swaps get their turn on a machine of few cores.
    const BURST: u32 = 5_000;
    const LEAST: u64 = 2_000_000;
    const SWAPS: u32 = 40;
    const LONGEST: Duration = Duration::from_secs(60);
    let test = "swapping_epochs_under_live_load_loses_no_packet";
    if !ready(test) {
        return;
    }
    // What passes goes up this namespace's own stack, which knows none of the addresses.
    let netns = Netns::new("live");
    let mut loaded = Loaded::new(Options { capacity: small(), ..Options::default() });
    let running = AtomicUsize::new(SENDERS);
    let (sent, swaps) = (AtomicU64::new(0), AtomicU32::new(0));
    let begin = Instant::now();
    let (xdp, datapath) = (loaded.xdp.as_fd(), &mut loaded.datapath);
    let (mut counted, mut bytes) = (0, 0u64);
    std::thread::scope(|s| {
        for sender in 0..SENDERS {
            let (netns, running, sent, swaps) = (&netns, &running, &sent, &swaps);
            s.spawn(move || {
                // Counted down also when a send fails: the other end must not wait for ever.
                struct Done<'a>(&'a AtomicUsize);
                impl Drop for Done<'_> {
                    fn drop(&mut self) {
                        self.0.fetch_sub(1, Ordering::Release);
                    }
                }
                let _done = Done(running);
                netns.enter(|| {
                    let enough = || {
                        let all = sent.load(Ordering::Relaxed) >= LEAST && swaps.load(Ordering::Relaxed) >= SWAPS;
                        all || begin.elapsed() > LONGEST
                    };
                    for port in (0..FLOWS).cycle() {
                        if enough() {
                            break;
                        }
                        // Both senders meet in every flow.
                        let (from, to) = (v4("192.0.2.1"), v4("198.51.100.1"));
                        let (from, to) = if sender == 0 { (from, to) } else { (to, from) };
                        let f = frame(&[], &ip(from, to, UDP, &udp(1000 + port, 1000 + port, 64)));
                        sys::test_run(xdp, &f, &[], BURST, sys::LIVE_FRAMES).unwrap();
                        sent.fetch_add(u64::from(BURST), Ordering::Relaxed);
                    }
                });
            });
        }
        loop {
            // Asked before the drain: the last one comes after the last packet.
            let last = running.load(Ordering::Acquire) == 0;
            let mut out = Vec::new();
            datapath.epochs.drain(&mut out).unwrap();
            counted += out.iter().map(|(_, s)| s.packets()).sum::<u64>();
            bytes += out.iter().map(|(_, s)| s.dir[0].bytes + s.dir[1].bytes).sum::<u64>();
            if last {
                break;
            }
            swaps.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let (sent, swaps) = (sent.into_inner(), swaps.into_inner());
    eprintln!("{sent} packets sent, {counted} counted, {swaps} swaps under way in {:?}", begin.elapsed());
    assert_eq!(counted, sent, "after {swaps} swaps");
    assert_eq!(bytes, sent * (20 + 8 + 64));
    assert_eq!(loaded.packets(Reason::InPass), sent);
    assert!(sent >= LEAST && swaps >= SWAPS, "only {sent} packets and {swaps} swaps in {LONGEST:?}");
}

/// Log lines of the programs.
struct Lines(Mutex<Vec<String>>);

impl log::Log for &'static Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(format!("{} {}", record.level(), record.args()));
    }
    fn flush(&self) {}
}

#[test]
fn a_full_epoch_keeps_verdicts_counts_the_rest_and_says_so_once() {
    static LINES: Lines = Lines(Mutex::new(Vec::new()));
    const CAPACITY: u32 = 100;
    let test = "a_full_epoch_keeps_verdicts_counts_the_rest_and_says_so_once";
    if !ready(test) {
        return;
    }
    let capacity = Capacity { flows: CAPACITY, ..small() };
    let mut l = Loaded::new(Options { capacity, ..Options::default() });
    let mut logger = l.datapath.take_logger(&LINES).expect("the programs' log");
    let (us, bad) = (v4("192.0.2.1"), v4("198.51.100.66"));
    l.set(List::Block, host(bad), dropping());
    let other = |i: u32| {
        let [_, _, c, d] = i.to_be_bytes();
        segment(v4(&format!("203.0.{c}.{d}")), us, 443)
    };
    for epoch in 1..=2u64 {
        for i in 0..CAPACITY + 50 {
            assert_eq!(l.xdp(&other(i)), XDP_PASS);
        }
        // Flows that are in stay counted, the rest is counted apart, verdicts stand.
        assert_eq!(l.xdp(&other(0)), XDP_PASS);
        assert_eq!(l.xdp(&segment(bad, us, 443)), XDP_DROP);
        assert_eq!(l.tc(&segment(us, v4("203.0.113.200"), 9)), TC_NEXT);
        assert_eq!(l.packets(Reason::InOverflow), 50 * epoch);
        assert_eq!(l.packets(Reason::OutOverflow), epoch);
        assert_eq!(l.packets(Reason::InPass), u64::from(CAPACITY + 1) * epoch);
        assert_eq!(l.packets(Reason::InDropped), epoch);
        assert_eq!(l.hits(host(bad)), epoch);
        let flows = l.drain();
        assert_eq!(flows.len(), CAPACITY as usize);
        assert_eq!(flows.values().map(|s| s.packets()).sum::<u64>(), u64::from(CAPACITY) + 1);
        logger.flush();
        let lines = LINES.0.lock().unwrap().clone();
        assert_eq!(lines.len() as u64, epoch, "{lines:?}");
        assert!(lines[0].starts_with("WARN flow map of this epoch is full"), "{lines:?}");
    }
}
