//! The record of flows in a running agent: read, learned from, and kept over a kill.

use serde_json::Value;

use crate::learning::Traffic;
use crate::site::*;
use crate::support::*;

/// The level that training gives way by, where it runs.
fn nice_of_training(pid: u32) -> Option<i64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    tasks.flatten().find_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        // Behind the name in parentheses; the 17th field from there is the level.
        let (head, rest) = stat.rsplit_once(") ")?;
        head.ends_with("(weir-train").then(|| rest.split(' ').nth(16)?.parse().ok()).flatten()
    })
}

#[test]
fn what_is_recorded_is_read_learned_from_and_outlives_a_kill() {
    if !ready("what_is_recorded_is_read_learned_from_and_outlives_a_kill") {
        return;
    }
    let addresses: Vec<String> = (10..34).map(|n| format!("10.77.0.{n}")).collect();
    let site = Site::new(&addresses.iter().map(String::as_str).collect::<Vec<_>>());
    site.configure("enforce", "flow:\n  linger: 0s\nlearn:\n  duration: 1h\n");
    let agent = site.start();
    assert!(site.fails("learn --recorded").contains("nothing is recorded of the last 1h"));
    assert!(site.fails("alerts show 1").contains("none was raised yet"));
    assert_eq!(site.ok("alerts list"), "no alerts\n");
    let traffic = Traffic::start(&site);
    wait_for("flows in the record", 2 * PATIENCE, || {
        let record = site.status()["record"].take();
        // Of windows, two fifths are held back for the thresholds.
        (record["flows"].as_u64() >= Some(1200) && record["windows"].as_u64() >= Some(600)).then_some(())
    });

    let flows = site.json("flows --recorded");
    let of = |f: &&Value| f["dest_port"] == 8080 && f["flow"]["proven"] == true && f["in_iface"] == INTERFACE;
    let read = flows.iter().filter(of).count();
    assert!(read >= 1000, "{read} of {}: {:?}", flows.len(), flows.first());
    assert!(site.json("flows --recorded --since 2s").len() < flows.len());
    let ids: std::collections::HashSet<u64> = flows.iter().map(|f| f["flow_id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), flows.len(), "each flow once");

    // Training gives way, and epochs go on meanwhile.
    let before = site.status();
    assert_eq!(before["learning"]["from"], "live traffic");
    let words = site.ok("learn --recorded --since 10m");
    assert!(words.contains("learning from the record of the last 10m"), "{words}");
    let (mut nice, mut epochs) = (None, Vec::new());
    wait_for("a bundle", 4 * PATIENCE, || {
        nice = nice.or_else(|| nice_of_training(agent.pid()).filter(|n| *n > 0));
        let status = site.status();
        if status["learning"]["phase"] == "training" {
            assert!(status["learning"]["from"].as_str().unwrap().starts_with("the record"), "{status}");
            epochs.push(status["epochs"].as_u64().unwrap());
        }
        assert!(!agent.own_log().contains("nothing was learned"), "{}", agent.own_log());
        (!status["bundle"].is_null()).then_some(())
    });
    drop(traffic);
    assert_eq!(nice, Some(19), "training gives way to everything else");
    if let [first, .., last] = epochs[..] {
        assert!(last > first, "epochs go on while training runs: {epochs:?}");
    }
    let status = site.status();
    assert!(status["learning"].is_null(), "what was being learned live is not needed any more: {status}");
    let origin = site.json("model status").remove(0)["origin"].as_str().unwrap().to_owned();
    assert!(origin.contains("source windows of the record"), "{origin}");
    wait_for("votes about drift", PATIENCE, || {
        let drift = site.json("model drift").remove(0);
        (!drift["bundle"].is_null()).then_some(())
    });

    agent.kill();
    let agent = site.start();
    wait_for("the record of before", PATIENCE, || {
        let record = site.status()["record"].clone();
        (record["flows"].as_u64().unwrap() >= read as u64).then_some(())
    });
    assert!(site.json("flows --recorded").len() >= read, "a kill loses the open file alone");
    agent.stop();
    let state = site.path("state").join("flows");
    let left: Vec<_> = std::fs::read_dir(state).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|n| !n.to_string_lossy().starts_with('.')), "{left:?}");
}
