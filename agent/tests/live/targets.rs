//! Targets that are narrower than a host, by command; and allow entries for a time.

use std::net::SocketAddr;
use std::time::Duration;

use crate::site::*;
use crate::support::*;

const BAD: &str = "10.77.0.66";
const BAD_V6: &str = "2001:db8:77::66";

/// Whether a datagram gets from a port of the neighbour to one of the host's, and whether an answer gets back.
fn exchange(site: &Site, from: &str, far_port: u16, port: u16) -> (bool, bool) {
    let server = if from.contains(':') { SERVER_V6 } else { SERVER_V4 };
    let (far, near) =
        (SocketAddr::new(from.parse().unwrap(), far_port), SocketAddr::new(server.parse().unwrap(), port));
    let (theirs, ours) = (site.peer.udp(far), site.server.udp(near));
    let arrives = |sender: &std::net::UdpSocket, to, receiver: &std::net::UdpSocket| {
        receiver.set_read_timeout(Some(Duration::from_millis(120))).unwrap();
        (0..3).any(|_| sender.send_to(b"weir", to).is_ok() && receiver.recv(&mut [0; 16]).is_ok())
    };
    (arrives(&theirs, near, &ours), arrives(&ours, far, &theirs))
}

#[test]
fn a_flow_or_a_port_that_a_host_sends_from_is_blocked_by_command_and_what_is_beside_it_passes() {
    if !ready("a_flow_or_a_port_that_a_host_sends_from_is_blocked_by_command_and_what_is_beside_it_passes") {
        return;
    }
    let site = Site::new(&[BAD, BAD_V6]);
    let agent = site.start();
    for (bad, server) in [(BAD, SERVER_V4), (BAD_V6, SERVER_V6)] {
        let end = |ip: &str, port: u16| SocketAddr::new(ip.parse().unwrap(), port).to_string();
        let from_53 = format!("{bad}/udp/from/53");
        let one = format!("udp:{}-{}", end(bad, 5300), end(server, 7000));
        // Written the other way round, as it may stand in a list of flows: the far end is found out.
        let turned = format!("udp:{}-{}", end(server, 7000), end(bad, 5300));
        for (typed, target, far_port, beside) in [
            (&from_53, &from_53, 53, (54, 7000)),
            (&one, &one, 5300, (5300, 7001)),
            (&turned, &one, 5300, (5301, 7000)),
        ] {
            assert_eq!(exchange(&site, bad, far_port, 7000), (true, true), "before {typed}");
            for (direction, passes) in [("in", (false, true)), ("out", (true, false)), ("both", (false, false))] {
                let said = site.ok(&format!("decisions add {typed} --direction {direction} --for 1h"));
                assert!(said.contains(target.as_str()), "{said}");
                assert_eq!(exchange(&site, bad, far_port, 7000), passes, "{typed}, {direction}");
                assert_eq!(exchange(&site, bad, beside.0, beside.1), (true, true), "beside {typed}");
                let d = site.decision(target);
                assert_eq!((d["enforced"].as_bool(), d["direction"].as_str()), (Some(true), Some(direction)));
                assert!(d["packets"].as_u64() > Some(0), "{d}");
                site.ok(&format!("decisions delete {typed}"));
            }
            assert_eq!(exchange(&site, bad, far_port, 7000), (true, true), "after {typed}");
        }
        // Who must stay reachable is protected from these as well.
        for target in [format!("{server}/udp/from/53"), format!("udp:{}-{}", end(server, 53), end("127.0.0.1", 1))] {
            if target.contains("127.0.0.1") && bad.contains(':') {
                continue;
            }
            let words = site.fails(&format!("decisions add {target}"));
            assert!(words.contains("own address on weir0"), "{target}: {words}");
        }
        site.ok(&format!("decisions add {one}"));
        site.ok(&format!("decisions add {from_53} --limit 1pps --burst 10"));
    }
    // Over a kill, and over another capacity.
    agent.kill();
    site.configure("enforce", "");
    let agent = site.start();
    for bad in [BAD, BAD_V6] {
        assert_eq!(exchange(&site, bad, 5300, 7000), (false, false));
        assert_eq!(exchange(&site, bad, 5300, 7001), (true, true));
        assert_eq!(site.decision(&format!("{bad}/udp/from/53"))["enforced"], true);
    }
    assert_eq!(site.json("decisions list").iter().filter(|d| d["enforced"] == true).count(), 4);
    // In shadow, nothing is stopped, and it is counted.
    site.configure("shadow", "");
    site.ok("config reload");
    assert_eq!(exchange(&site, BAD, 5300, 7000), (true, true));
    // Who is allowed is freed of them.
    let words = site.ok(&format!("allowlist add {BAD}"));
    assert!(words.matches("lifted decision").count() == 2, "{words}");
    agent.stop();
}

#[test]
fn an_allow_entry_for_a_time_ends_and_the_block_around_it_holds_again() {
    if !ready("an_allow_entry_for_a_time_ends_and_the_block_around_it_holds_again") {
        return;
    }
    let site = Site::new(&[BAD, "10.77.0.67"]);
    let agent = site.start();
    site.ok("decisions add 10.77.0.64/26 --for 1h");
    assert!(!site.passes(BAD, 5353));
    let words = site.ok(&format!("allowlist add {BAD} --for 3s --comment visitor"));
    assert!(words.contains("is never blocked from now on, which ends in"), "{words}");
    assert!(site.passes(BAD, 5353) && !site.passes("10.77.0.67", 5353));
    let listed = site.json("allowlist list").into_iter().find(|a| a["prefix"] == BAD).unwrap();
    assert!(listed["expires"].is_string(), "{listed}");
    // Agent or not: the kernel ends it.
    agent.kill();
    wait_for("the entry's end", PATIENCE, || (!site.passes(BAD, 5353)).then_some(()));
    let _agent = site.start();
    wait_for("the list to say so", PATIENCE, || {
        site.json("allowlist list").iter().all(|a| a["prefix"] != BAD).then_some(())
    });
    assert!(!site.passes(BAD, 5353));
    site.ok(&format!("decisions add {BAD}"));
}
