//! Rate limits by command, and the lease of an agent that is stopped or killed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::site::*;
use crate::support::*;

const BAD: &str = "10.77.0.66";
const GOOD: &str = "10.77.0.67";
const PORT: u16 = 7100;

/// How many of `count` datagrams arrive.
fn arriving(site: &Site, from: &str, count: u32) -> u32 {
    let to = SocketAddr::new(SERVER_V4.parse().unwrap(), PORT);
    let receiver = site.server.udp(to);
    let sender = site.peer.udp(SocketAddr::new(from.parse().unwrap(), 0));
    receiver.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for n in 0..count {
        sender.send_to(&n.to_be_bytes(), to).unwrap();
        // Slowly enough for any ring.
        std::thread::sleep(Duration::from_millis(1));
    }
    (0..count).take_while(|_| receiver.recv(&mut [0; 16]).is_ok()).count() as u32
}

#[test]
fn a_limit_holds_its_target_to_the_rate_and_nobody_else_and_ends_when_it_is_lifted() {
    if !ready("a_limit_holds_its_target_to_the_rate_and_nobody_else_and_ends_when_it_is_lifted") {
        return;
    }
    let site = Site::new(&[BAD, GOOD]);
    let _agent = site.start();
    assert_eq!(arriving(&site, BAD, 100), 100, "before");
    let begin = Instant::now();
    let said = site.ok(&format!("decisions add {BAD} --limit 2pps --burst 20"));
    assert!(said.contains("limit 2 packets/s, 20 at once"), "{said}");
    let through = arriving(&site, BAD, 200);
    let most = 20 + 2 * begin.elapsed().as_secs() as u32 + 2;
    assert!((20..=most).contains(&through), "{through} of 200, at most {most}");
    assert_eq!(arriving(&site, GOOD, 100), 100, "the neighbour");
    let d = site.decision(BAD);
    assert_eq!((d["action"].as_str(), d["limit"]["per_second"].as_u64()), (Some("limit"), Some(2)));
    assert_eq!(d["packets"].as_u64(), Some(u64::from(200 - through)), "its hits are what it has stopped");
    assert_eq!((d["limit"]["unit"].as_str(), d["enforced"].as_bool()), (Some("packets"), Some(true)));
    // A stricter decision on the same target decides while it is there.
    site.ok(&format!("decisions add {BAD} --for 1h"));
    assert!(!site.passes(BAD, PORT));
    site.ok(&format!("decisions delete {BAD}"));
    assert_eq!(arriving(&site, BAD, 100), 100, "lifted");
    let refused = site.weir(&format!("decisions add {BAD} --limit 1kBps --burst 1500"));
    assert!(text(&refused.stderr).contains("at least 65535"), "{}", text(&refused.stderr));
}

/// The same with each policy: a stopped agent, one that goes on, and one that was killed.
#[test]
fn a_silent_agents_entries_do_as_its_lease_says() {
    if !ready("a_silent_agents_entries_do_as_its_lease_says") {
        return;
    }
    let site = Site::new(&[BAD, GOOD]);
    for (lapse, silent) in [("keep", false), ("shadow", true), ("pass", true)] {
        site.configure("enforce", &format!("lease: {{lapse: {lapse}, timeout: 1s}}\n"));
        let agent = site.start();
        site.ok(&format!("decisions add {BAD} --for 1h"));
        // Longer than the lease: as long as the agent lives, nothing lapses.
        let end = Instant::now() + Duration::from_millis(2500);
        while Instant::now() < end {
            assert!(!site.passes(BAD, PORT), "{lapse}: while the agent lives");
        }
        agent.signal(Signal::SIGSTOP);
        if silent {
            wait_for("the lease to lapse", PATIENCE, || site.passes(BAD, PORT).then_some(()));
        } else {
            std::thread::sleep(Duration::from_millis(2500));
            assert!(!site.passes(BAD, PORT), "kept while the agent is stopped");
        }
        assert!(site.passes(GOOD, PORT), "{lapse}: the neighbour");
        agent.signal(Signal::SIGCONT);
        wait_for("the block to hold again", PATIENCE, || (!site.passes(BAD, PORT)).then_some(()));
        agent.kill();
        if silent {
            wait_for("the lease to lapse", PATIENCE, || site.passes(BAD, PORT).then_some(()));
        } else {
            std::thread::sleep(Duration::from_millis(2500));
            assert!(!site.passes(BAD, PORT), "kept after the agent was killed");
        }
        // The next agent takes it over and enforces at once.
        let next = site.start();
        wait_for("the next agent to enforce", PATIENCE, || (!site.passes(BAD, PORT)).then_some(()));
        site.ok(&format!("decisions delete {BAD}"));
        assert!(site.passes(BAD, PORT), "{lapse}: lifted");
        next.stop();
    }
}
