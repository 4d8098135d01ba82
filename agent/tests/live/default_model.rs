//! The bundle that came with the program, until one is learned here.

use serde_json::Value;
use weir_source::write::Form;

use crate::common;
use crate::site::*;
use crate::support::*;

/// What tests usually run with is too short for that bundle.
fn configure(site: &Site, more: &str) {
    site.configure("enforce", more);
    let config = std::fs::read_to_string(site.path("weir.yaml")).unwrap();
    std::fs::write(site.path("weir.yaml"), config.replace("window: 1s", "window: 10s")).unwrap();
}

fn default_serves(site: &Site) -> Value {
    wait_for("the default bundle", PATIENCE, || Some(site.status()).filter(|s| s["bundle"]["id"] == "default"))
}

#[test]
fn the_default_bundle_serves_while_learning_goes_on_and_is_named_everywhere() {
    if !ready("the_default_bundle_serves_while_learning_goes_on_and_is_named_everywhere") {
        return;
    }
    let site = Site::new(&["10.77.0.66"]);
    configure(&site, "");
    let agent = site.start();
    let status = default_serves(&site);
    assert_eq!((&status["bundle"]["promoted"], &status["bundle"]["current"]), (&false.into(), &true.into()));
    assert_eq!(status["learning"]["phase"], "collecting", "it does not stand in the way of learning: {status}");
    assert_eq!(status["mode_effective"], "shadow", "{status}");
    let reason = status["mode_reason"].as_str().unwrap();
    assert!(reason.contains("nothing was learned here yet"), "{reason}");
    let words = "the default bundle, not learned here";
    for said in [site.ok("status"), site.ok("model status"), agent.own_log()] {
        assert!(said.contains(words) && said.contains("alerts alone"), "{said}");
    }
    let log = std::fs::read_to_string(site.path("events.json")).unwrap_or_default();
    assert!(log.contains(words), "{log}");
    // What a person decides holds all the same.
    site.ok("decisions add 10.77.0.66 --for 1h");
    assert!(!site.passes("10.77.0.66", 5353));
    let refused = site.fails("model promote");
    assert!(refused.contains("there is no bundle yet"), "{refused}");
    let refused = site.weir("model promote default");
    assert!(!refused.status.success() && text(&refused.stderr).contains("default_model"), "{}", text(&refused.stderr));

    configure(&site, "default_model: off\n");
    assert_eq!(site.ok("config reload"), "in force now: default_model\n");
    let status = site.status();
    assert_eq!((&status["bundle"], &status["learning"]["phase"]), (&Value::Null, &"collecting".into()), "{status}");
    assert!(site.json("model status").is_empty());
    configure(&site, "default_model: enforce\n");
    site.ok("config reload");
    let status = default_serves(&site);
    assert_eq!((&status["mode_effective"], &status["mode_reason"]), (&"enforce".into(), &"".into()), "{status}");
    agent.stop();

    // Windows of another length are another thing.
    site.configure("enforce", "");
    let agent = site.start();
    assert!(
        agent.own_log().contains("the default bundle is not used: it is made for windows of 10s"),
        "{}",
        agent.own_log()
    );
    assert!(site.status()["bundle"].is_null());
    agent.stop();
}

#[test]
fn a_bundle_challenges_the_default_one_and_waits_while_nothing_serves() {
    if !ready("a_bundle_challenges_the_default_one_and_waits_while_nothing_serves") {
        return;
    }
    let site = Site::new(&["10.77.0.66"]);
    configure(&site, "learn:\n  duration: 1d\n");
    let own = site.path("own");
    let input = common::file(&site.path("."), "usual.json", Form::Json, (0..3_000).map(common::usual));
    let words = ["train", common::str(&input), "--out", common::str(&own), "--window", "10s"];
    common::ok(&common::run(&words));
    let agent = site.start();
    default_serves(&site);
    let challenger = site.json(&format!("model challenge {}", own.display())).remove(0);
    assert_eq!((&challenger["challenger"], &challenger["current"]), (&true.into(), &false.into()), "{challenger}");
    // Both score what comes.
    let compared = || {
        wait_for("flows that both have scored", PATIENCE, || {
            site.passes("10.77.0.66", 5353);
            let c = site.json("model compare").remove(0);
            (c["profiles"][0]["rows"].as_u64() > Some(0)).then_some(c)
        })
    };
    let c = compared();
    assert_eq!((&c["a"]["id"], &c["b"]["id"]), (&"default".into(), &challenger["id"]), "{c}");
    assert!(c["notes"].to_string().contains("A is the default bundle"), "{c}");
    let status = site.status();
    assert_eq!((&status["bundle"]["id"], &status["learning"]["phase"]), (&"default".into(), &"collecting".into()));

    // Nothing serves: it waits, and goes on once something does, also after a restart.
    let challenges = || {
        wait_for("the challenger's return", PATIENCE, || {
            site.status()["challenger"]["id"].as_str().filter(|c| challenger["id"] == **c).map(drop)
        })
    };
    configure(&site, "learn:\n  duration: 1d\ndefault_model: off\n");
    site.ok("config reload");
    assert!(site.status()["challenger"].is_null());
    assert!(agent.own_log().contains("waits to challenge until a bundle serves"), "{}", agent.own_log());
    configure(&site, "learn:\n  duration: 1d\n");
    site.ok("config reload");
    challenges();
    agent.stop();
    let agent = site.start();
    challenges();
    compared();
    // Of two that learned nothing here, the one that a person loads serves, and is no challenger any more.
    site.ok(&format!("model load {}", own.display()));
    assert_eq!((&site.status()["bundle"]["id"], &site.status()["challenger"]), (&challenger["id"], &Value::Null));
    agent.stop();
}
