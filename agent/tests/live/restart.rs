//! What an agent finds of the one before it.

use std::time::{Duration, Instant};

use crate::site::*;
use crate::support::*;

/// Seconds of the day.
fn seconds(rfc3339: &serde_json::Value) -> f64 {
    let text = rfc3339.as_str().unwrap();
    let clock = text.split_once('T').unwrap().1.trim_end_matches('Z');
    clock.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
}

#[test]
fn a_restart_takes_over_decisions_with_hits_and_what_is_left_of_their_time() {
    if !ready("a_restart_takes_over_decisions_with_hits_and_what_is_left_of_their_time") {
        return;
    }
    let (long, short) = ("10.77.0.66", "10.77.0.67");
    let site = Site::new(&[long, short, "10.77.0.68"]);
    let agent = site.start();
    site.ok(&format!("decisions add {long} --for 1h --reason scans"));
    assert!(!site.passes(long, 5353));
    let before = site.decision(long);
    assert_eq!((before["packets"].as_u64(), before["enforced"].as_bool()), (Some(3), Some(true)));
    let program = site.xdp().unwrap();
    site.ok(&format!("decisions add {short} --for 3s"));
    let (added, short_id) = (Instant::now(), site.decision(short)["id"].clone());
    // At once: whoever was told that it is blocked may rely on it.
    agent.kill();

    assert_eq!(site.xdp(), Some(program), "nobody runs, and the program does");
    assert!(!site.passes(short, 5353) && !site.passes(long, 5353), "a dead agent keeps enforcing");
    assert!(site.passes("10.77.0.68", 5353), "and lets pass");
    std::thread::sleep(Duration::from_millis(3300).saturating_sub(added.elapsed()));
    assert!(site.passes(short, 5353), "its time is over, agent or not");
    assert!(!site.passes(long, 5353));

    let agent = site.start();
    assert!(agent.own_log().contains("took over"), "{}", agent.own_log());
    assert_ne!(site.xdp(), Some(program), "the new agent's program runs");
    wait_for("two epochs", PATIENCE, || (site.status()["epochs"].as_u64().unwrap() >= 2).then_some(()));
    let after = site.decision(long);
    assert!(after["last_hit"].is_null(), "hits that an earlier agent left are no new ones: {after}");
    for field in ["id", "target", "action", "direction", "origin", "created", "reason"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!((after["packets"].as_u64(), after["enforced"].as_bool()), (Some(9), Some(true)));
    let moved = (seconds(&after["expires"]) - seconds(&before["expires"])).rem_euclid(86_400.0);
    assert!(moved.min(86_400.0 - moved) < 1.0, "{} was {}", after["expires"], before["expires"]);
    assert_eq!(site.json("decisions list").len(), 1, "the other is gone");
    let expired = std::fs::read_to_string(site.path("events.json")).unwrap();
    let expired = expired.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()).any(|e| {
        e["event_type"] == "decision" && e["decision"]["id"] == short_id && e["decision"]["change"] == "expired"
    });
    assert!(expired, "and that is on record");
    assert!(site.passes(short, 5353) && !site.passes(long, 5353));
    wait_for("the new hits", PATIENCE, || (!site.decision(long)["last_hit"].is_null()).then_some(()));

    // An orderly end changes nothing about that.
    agent.stop();
    assert!(!site.passes(long, 5353));
    let _agent = site.start();
    let again = site.decision(long);
    assert_eq!((&again["id"], again["packets"].as_u64()), (&before["id"], Some(15)));
    site.ok(&format!("decisions delete {long}"));
    assert!(site.passes(long, 5353));
}

#[test]
fn what_was_deleted_stays_deleted_over_a_kill() {
    if !ready("what_was_deleted_stays_deleted_over_a_kill") {
        return;
    }
    let site = Site::new(&["10.77.0.66"]);
    let agent = site.start();
    site.ok("decisions add 10.77.0.66 --for 1h");
    assert!(!site.passes("10.77.0.66", 5353));
    site.ok("decisions delete 10.77.0.66");
    agent.kill();
    let _agent = site.start();
    assert!(site.json("decisions list").is_empty());
    assert!(site.passes("10.77.0.66", 5353));
}
