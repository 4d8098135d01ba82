//! Packets of which nearly each begins a flow that nobody has seen.

use std::time::{Duration, Instant};

use weir_common::counters::Reason;

use crate::flood::{Flood, Mix, counter};
use crate::site::*;
use crate::support::*;

/// Resident memory of a process, bytes.
fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn a_flood_of_which_95_percent_are_new_flows_leaves_memory_bounded_and_decisions_obeyed() {
    if !ready("a_flood_of_which_95_percent_are_new_flows_leaves_memory_bounded_and_decisions_obeyed") {
        return;
    }
    const GROWTH: u64 = 48 << 20;
    let (good, bad) = ("10.77.0.67", "10.77.0.66");
    let site = Site::new(&[good, bad]);
    let agent = site.start();
    let mut flood = Flood::start(&site, bad, good, Mix { bad: 3, good: 3 });
    let epochs = |site: &Site| site.status()["epochs"].as_u64().unwrap();
    let pass_time = |epochs_more: u64| {
        let until = epochs(&site) + epochs_more;
        wait_for("epochs to go on", PATIENCE, || (epochs(&site) >= until).then_some(()));
    };
    // Until whatever is kept of the last ten seconds is full.
    let begin = Instant::now();
    pass_time(55);
    let early = resident(agent.pid());
    site.ok(&format!("decisions add {bad} --for 1h"));
    flood.settle();
    let blocked = flood.seen();
    assert!(blocked.bad > 0, "before the block it came through");
    pass_time(20);
    let late = resident(agent.pid());
    let (sent, rate) = flood.finish();
    std::thread::sleep(Duration::from_millis(300));
    let seen = flood.seen();
    eprintln!(
        "{sent:?} sent in {:?}, {:.2} million packets/s; {seen:?} came through; {} MiB, then {} MiB; {} beyond the flow map",
        begin.elapsed(),
        rate / 1e6,
        early >> 20,
        late >> 20,
        counter(&site, Reason::InOverflow),
    );
    assert!(sent.strangers * 100 > sent.all() * 94, "{sent:?}");
    assert_eq!((seen.bad, seen.good > blocked.good), (blocked.bad, true), "who is blocked, and who is not");
    assert_eq!(flood.let_pass(&site), seen.all(), "every packet that was let pass came through");
    assert!(late < early + GROWTH, "{early} bytes after 55 epochs, {late} after 75");
    agent.stop();
}
