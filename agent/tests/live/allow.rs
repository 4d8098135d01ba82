//! Who is never blocked.

use crate::site::*;
use crate::support::*;

#[test]
fn an_allowed_host_passes_through_the_block_of_its_prefix() {
    if !ready("an_allowed_host_passes_through_the_block_of_its_prefix") {
        return;
    }
    let site = Site::new(&["10.77.0.66", "10.77.0.67"]);
    let _agent = site.start();
    site.ok("decisions add 10.77.0.64/26 --for 1h");
    assert!(!site.passes("10.77.0.66", 5353));
    site.ok("allowlist add 10.77.0.66 --comment office");
    assert!(site.passes("10.77.0.66", 5353), "allow wins over the wider block");
    assert!(!site.passes("10.77.0.67", 5353), "the block of the prefix still holds");
    assert_eq!(site.json("decisions list").len(), 1);
    site.ok("allowlist remove 10.77.0.66");
    assert!(!site.passes("10.77.0.66", 5353));
}

#[test]
fn allowing_a_host_lifts_its_block_and_refuses_the_next() {
    if !ready("allowing_a_host_lifts_its_block_and_refuses_the_next") {
        return;
    }
    let site = Site::new(&["10.77.0.66", "10.77.0.67"]);
    let agent = site.start();
    for bad in ["10.77.0.66", "10.77.0.67"] {
        site.ok(&format!("decisions add {bad} --for 1h"));
        assert!(!site.passes(bad, 5353));
    }
    let words = site.ok("allowlist add 10.77.0.66 --comment office");
    assert!(words.contains("lifted decision 1 (drop 10.77.0.66)"), "{words}");
    assert!(site.passes("10.77.0.66", 5353) && !site.passes("10.77.0.67", 5353));
    let targets: Vec<_> = site.json("decisions list").into_iter().map(|d| d["target"].clone()).collect();
    assert_eq!(targets, ["10.77.0.67"]);
    for target in ["10.77.0.66", "10.77.0.66/udp/5353"] {
        let words = site.fails(&format!("decisions add {target}"));
        assert!(words.contains("10.77.0.66") && words.contains("allow"), "{words}");
    }
    // Said and done: a kill right behind the answer forgets neither.
    agent.kill();
    let _agent = site.start();
    assert!(site.passes("10.77.0.66", 5353) && !site.passes("10.77.0.67", 5353));
    assert!(site.fails("decisions add 10.77.0.66").contains("office"));
}

#[test]
fn the_safe_set_is_refused_with_the_reason() {
    if !ready("the_safe_set_is_refused_with_the_reason") {
        return;
    }
    let site = Site::new(&["10.77.0.66", "10.77.0.200"]);
    site.configure("enforce", "allow:\n- 10.77.0.200\n- target: 2001:db8:77::/80\n  comment: our own\n");
    let _agent = site.start();
    for (target, why) in [
        (SERVER_V4, "own address on weir0"),
        (SERVER_V6, "own address on weir0"),
        ("10.77.0.0/24", "own address on weir0"),
        ("127.0.0.1", "own address on lo"),
        ("10.77.0.200", "`allow` of the configuration"),
        ("10.77.0.200/tcp/22", "`allow` of the configuration"),
        ("2001:db8:77::66", "`allow` of the configuration: our own"),
    ] {
        let words = site.fails(&format!("decisions add {target}"));
        assert!(words.contains(why), "{target}: {words}");
    }
    assert!(site.json("decisions list").is_empty());
    assert!(site.passes("10.77.0.200", 5353));
    let words = site.fails("allowlist remove 10.77.0.200");
    assert!(words.contains("`allow` of the configuration"), "{words}");

    // What the configuration protects from now on is released.
    site.ok("decisions add 10.77.0.66");
    assert!(!site.passes("10.77.0.66", 5353));
    site.configure("enforce", "allow:\n- 10.77.0.66\n");
    site.ok("config reload");
    assert!(site.passes("10.77.0.66", 5353));
    assert!(site.json("decisions list").is_empty());
}
