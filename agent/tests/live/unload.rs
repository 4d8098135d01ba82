//! Taking everything off the host again, and who must not be in the way.

use std::os::fd::AsFd;

use crate::raw;
use crate::site::*;
use crate::support::*;

#[test]
fn unload_removes_everything_and_refuses_while_an_agent_runs() {
    if !ready("unload_removes_everything_and_refuses_while_an_agent_runs") {
        return;
    }
    let bad = "10.77.0.66";
    let site = Site::new(&[bad]);
    let agent = site.start();
    site.ok(&format!("decisions add {bad} --for 1h"));
    let blocked = || !site.passes(bad, 5353) && !site.leaves(bad);
    assert!(blocked());
    let pins = site.pins();
    let held = || (pins.exists(), site.xdp().is_some(), site.egress_programs());
    assert_eq!(held(), (true, true, 1));

    for arguments in ["unload -i weir0", "unload --all"] {
        let words = site.fails(arguments);
        assert!(words.contains(&format!("process {}", agent.pid())), "{words}");
        assert!(blocked() && held() == (true, true, 1), "refused, and nothing was begun");
    }
    agent.kill();
    assert!(blocked() && held() == (true, true, 1));
    let words = site.ok("unload -i weir0");
    assert!(words.contains("weir0: programs detached, pins removed"), "{words}");
    assert_eq!(held(), (false, false, 0));
    assert!(!site.tc("qdisc show dev weir0").contains("clsact"));
    assert!(site.passes(bad, 5353) && site.leaves(bad));
    for arguments in ["unload -i weir0", "unload --all"] {
        assert!(site.ok(arguments).contains("nothing of Weir is loaded"));
    }
    assert!(site.fails("unload -i none0").contains("`none0`"));

    // Decisions are the agent's: the next one writes them again.
    let _agent = site.start();
    assert!(blocked());
}

#[test]
fn one_agent_per_interface() {
    if !ready("one_agent_per_interface") {
        return;
    }
    let site = Site::new(&["10.77.0.66"]);
    let first = site.start();
    site.ok("decisions add 10.77.0.66");
    // Another state and socket make no difference.
    let config = std::fs::read_to_string(site.path("weir.yaml")).unwrap();
    let other = config.replace("/state\n", "/state2\n").replace("weir.sock", "weir2.sock");
    std::fs::write(site.path("weir.yaml"), other).unwrap();
    let (code, words) = site.refused();
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("interface weir0") && words.contains(&format!("process {}", first.pid())), "{words}");
    assert!(!site.passes("10.77.0.66", 5353) && site.decision("10.77.0.66")["enforced"] == true);
}

#[test]
fn a_foreign_xdp_program_is_named_and_left_alone() {
    if !ready("a_foreign_xdp_program_is_named_and_left_alone") {
        return;
    }
    const XDP_PASS: u32 = 2;
    let site = Site::new(&["10.77.0.66"]);
    let stranger = raw::xdp_return("stranger", XDP_PASS).unwrap();
    let link = site.server.enter(|| {
        let index = weir_kernel::link::index_of(INTERFACE).unwrap();
        raw::attach_xdp(stranger.as_fd(), index).unwrap()
    });
    let there = site.xdp().unwrap();
    let (code, words) = site.refused();
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("weir0 already runs another XDP program (`stranger`"), "{words}");
    assert_eq!((site.xdp(), site.egress_programs(), site.pins().exists()), (Some(there), 0, false));
    drop(link);
    let _agent = site.start();
    assert_ne!(site.xdp(), Some(there));
}
