//! What is blocked stops, its neighbours do not, and it passes again once it is released.

use crate::site::*;
use crate::support::*;

/// An address and a port of ours.
type Peer = (&'static str, u16);

#[test]
fn blocking_stops_the_target_alone_and_deleting_lets_it_pass_again() {
    if !ready("blocking_stops_the_target_alone_and_deleting_lets_it_pass_again") {
        return;
    }
    let site = Site::new(&["10.77.0.66", "10.77.0.67", "10.77.0.130", "2001:db8:77::66", "2001:db8:77::1:67"]);
    let agent = site.start();
    // What is blocked; who is stopped by it; who is not.
    let cases: [(&str, Peer, Peer); 6] = [
        ("10.77.0.66", ("10.77.0.66", 5353), ("10.77.0.67", 5353)),
        ("10.77.0.64/26", ("10.77.0.67", 5353), ("10.77.0.130", 5353)),
        ("10.77.0.66/udp/5353", ("10.77.0.66", 5353), ("10.77.0.66", 5354)),
        ("2001:db8:77::66", ("2001:db8:77::66", 5353), ("2001:db8:77::1:67", 5353)),
        ("2001:db8:77::1:0/112", ("2001:db8:77::1:67", 5353), ("2001:db8:77::66", 5353)),
        ("2001:db8:77::66/udp/5353", ("2001:db8:77::66", 5353), ("2001:db8:77::66", 5354)),
    ];
    for (target, stopped, control) in cases {
        let passes = |(from, port)| site.passes(from, port);
        assert!(passes(stopped) && passes(control), "before the block of {target}");
        site.ok(&format!("decisions add {target} -a drop --for 1h"));
        assert!(!passes(stopped), "{target} is blocked");
        assert!(passes(control), "the neighbour of {target} passes");
        let decision = site.decision(target);
        assert_eq!((decision["enforced"].as_bool(), decision["packets"].as_u64()), (Some(true), Some(3)), "{decision}");
        site.ok(&format!("decisions delete {target}"));
        assert!(passes(stopped) && passes(control), "after the block of {target}");
    }
    assert!(site.json("decisions list").is_empty());
    agent.stop();
}

#[test]
fn hits_are_told_by_when_they_came_and_those_of_a_list_are_not() {
    if !ready("hits_are_told_by_when_they_came_and_those_of_a_list_are_not") {
        return;
    }
    let (single, listed) = ("10.77.0.66", "10.77.0.67");
    let site = Site::new(&[single, listed]);
    let agent = site.start();
    let file = site.path("list.txt");
    std::fs::write(&file, format!("{listed}\n")).unwrap();
    site.ok(&format!("decisions import {} --list ours", file.display()));
    site.ok(&format!("decisions add {single} -a drop --for 1h"));
    assert!(site.decision(single)["hits"].is_null(), "none yet");
    assert!(!site.passes(single, 5353) && !site.passes(listed, 5353));
    let packets = site.decision(single)["packets"].as_u64().unwrap();
    // They are looked at once an epoch.
    let hits = wait_for("the hits of the decision", PATIENCE, || {
        let hits = site.decision(single)["hits"].clone();
        let sum = hits["packets"].as_array().map(|p| p.iter().filter_map(|p| p.as_u64()).sum::<u64>());
        (sum == Some(packets)).then_some(hits)
    });
    assert_eq!(
        (hits["step_s"].as_u64(), hits["from"].as_str().map(|t| t.ends_with("Z"))),
        (Some(30), Some(true)),
        "{hits}"
    );
    let member = site.json("lists show ours").remove(0);
    assert!(member["packets"].as_u64() > Some(0) && member["hits"].is_null(), "{member}");
    agent.stop();
    let agent = site.start();
    let after = site.decision(single);
    assert_eq!(after["packets"].as_u64(), Some(packets), "the sum outlives the agent");
    assert!(after["hits"].is_null(), "what came before this run is not told as if it came now: {after}");
    agent.stop();
}

#[test]
fn a_direction_stops_that_direction_alone() {
    if !ready("a_direction_stops_that_direction_alone") {
        return;
    }
    let site = Site::new(&["10.77.0.66", "10.77.0.67"]);
    let _agent = site.start();
    for (direction, passes, leaves) in [("in", false, true), ("out", true, false), ("both", false, false)] {
        site.ok(&format!("decisions add 10.77.0.66 -a drop --for 1h --direction {direction}"));
        assert_eq!((site.passes("10.77.0.66", 5353), site.leaves("10.77.0.66")), (passes, leaves), "{direction}");
        assert!(site.passes("10.77.0.67", 5353) && site.leaves("10.77.0.67"), "the neighbour, {direction}");
        site.ok("decisions delete 10.77.0.66");
        assert!(site.passes("10.77.0.66", 5353) && site.leaves("10.77.0.66"), "after {direction}");
    }
}
