//! Modes, and changing them while the agent runs.

use nix::sys::signal::Signal;

use crate::site::*;
use crate::support::*;

const BAD: &str = "10.77.0.66";

#[test]
fn a_changed_mode_turns_drops_into_shadow_entries_and_back() {
    if !ready("a_changed_mode_turns_drops_into_shadow_entries_and_back") {
        return;
    }
    let site = Site::new(&[BAD]);
    let agent = site.start();
    site.ok(&format!("decisions add {BAD} --for 1h"));
    assert!(!site.passes(BAD, 5353));
    let hits = || site.decision(BAD)["packets"].as_u64().unwrap();
    let dropped = hits();

    site.configure("shadow", "");
    assert_eq!(site.ok("config reload"), "in force now: mode\n");
    assert!(site.passes(BAD, 5353), "a shadow entry drops nothing");
    assert_eq!(hits(), dropped + 1, "it counts what it would have dropped, behind what it did drop");
    let status = site.status();
    assert_eq!(status["mode_effective"], "shadow", "{status}");
    let id = site.decision(BAD)["id"].clone();

    site.configure("observe", "");
    site.ok("config reload");
    assert!(site.passes(BAD, 5353));
    assert_eq!(site.decision(BAD)["enforced"], false);

    site.configure("enforce", "");
    agent.signal(Signal::SIGHUP);
    wait_for("SIGHUP to bring the drop back", PATIENCE, || (!site.passes(BAD, 5353)).then_some(()));
    assert_eq!(site.decision(BAD)["id"], id, "the decision was the same all along");

    // A file with a mistake changes nothing.
    site.configure("shadow", "hom: []\n");
    let out = site.weir("config reload");
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains(": hom: unknown key"), "{}", text(&out.stderr));
    assert!(!site.passes(BAD, 5353));
    agent.stop();
}

#[test]
fn an_agent_without_a_mode_counts_and_drops_nothing() {
    if !ready("an_agent_without_a_mode_counts_and_drops_nothing") {
        return;
    }
    let site = Site::new(&[BAD]);
    let config = std::fs::read_to_string(site.path("weir.yaml")).unwrap();
    std::fs::write(site.path("weir.yaml"), config.replace("mode: enforce\n", "")).unwrap();
    let _agent = site.start();
    let added = site.ok(&format!("decisions add {BAD}"));
    assert!(added.contains("mode shadow: it counts what it would have dropped, and drops nothing"), "{added}");
    assert!(site.passes(BAD, 5353));
    assert_eq!(site.decision(BAD)["packets"], 1);
}
