//! The life of bundles in a running agent: loaded, refused, promoted, rolled back, challenged.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use serde_json::Value;
use weir_source::write::Form;

use crate::common::{self, crafted};
use crate::site::*;
use crate::support::*;

/// Nothing is learned meanwhile, and flows end when they end.
const QUIET: &str = "flow:\n  linger: 0s\nlearn:\n  duration: 1d\n";

/// A bundle for agents, trained once.
fn bundle() -> &'static Path {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle");
        let input = common::file(dir.path(), "usual.json", Form::Json, (0..3_000).map(common::usual));
        common::ok(&common::run(&["train", common::str(&input), "--out", common::str(&path), "--window", "1s"]));
        (dir, path)
    });
    path
}

/// The same models with another number in the manifest, and so another id.
fn variant(site: &Site, name: &str, change: impl FnOnce(String) -> String) -> PathBuf {
    let path = site.path(name);
    if !path.exists() {
        crafted::copy(bundle(), path.clone());
        crafted::edit(&path, change);
    }
    path
}

fn seeded(site: &Site, seed: u64) -> PathBuf {
    variant(site, &format!("seed-{seed}"), |t| t.replace("seed: 1\n", &format!("seed: {seed}\n")))
}

fn load(site: &Site, path: &Path, more: &str) -> Value {
    site.json(&format!("model load {} {more}", path.display())).remove(0)
}

/// What serves: id, and whether it is promoted.
fn serving(site: &Site) -> (String, bool) {
    let b = &site.status()["bundle"];
    (b["id"].as_str().unwrap_or("none").to_owned(), b["promoted"] == true)
}

fn id(bundle: &Value) -> String {
    bundle["id"].as_str().unwrap().to_owned()
}

#[test]
fn bundles_are_loaded_promoted_rolled_back_and_serve_over_a_kill() {
    if !ready("bundles_are_loaded_promoted_rolled_back_and_serve_over_a_kill") {
        return;
    }
    let site = Site::new(&["10.77.0.10"]);
    site.configure("enforce", QUIET);
    let agent = site.start();
    assert!(site.fails("model rollback").contains("no way back by 1 steps"));
    let first = load(&site, bundle(), "");
    let inspected = site.json(&format!("model inspect {}", bundle().display())).remove(0);
    assert_eq!(
        (&first["id"], &first["promoted"], &first["current"]),
        (&inspected["hash"], &false.into(), &true.into())
    );
    assert!(agent.own_log().contains("learning ends, since a bundle was loaded"), "{}", agent.own_log());
    let status = site.status();
    assert_eq!((&status["mode_effective"], &status["learning"]), (&"shadow".into(), &Value::Null), "{status}");
    // By its id the agent is asked, and says the same; the beginning of an id will do.
    assert_eq!(site.json(&format!("model inspect {}", &id(&first)[..6])).remove(0), inspected);

    site.ok("model promote");
    let second = load(&site, &seeded(&site, 2), "--promote");
    assert_eq!((serving(&site), &site.status()["mode_effective"]), ((id(&second), true), &"enforce".into()));
    let third = load(&site, &seeded(&site, 3), "");
    assert_eq!(serving(&site), (id(&third), false), "a new bundle is promoted by a person, not by the one before");
    let listed = site.json("model list");
    let steps: Vec<_> = listed.iter().map(|b| (id(b), b["steps_back"].as_u64())).collect();
    assert_eq!(steps[0], (id(&third), Some(0)));
    assert!(steps.contains(&(id(&second), Some(1))) && steps.contains(&(id(&first), Some(2))), "{steps:?}");

    agent.kill();
    let agent = site.start();
    assert_eq!(serving(&site), (id(&third), false));
    let back = site.json("model rollback").remove(0);
    assert_eq!((id(&back), &back["promoted"]), (id(&second), &true.into()), "it was promoted when it served");
    agent.kill();
    let agent = site.start();
    assert_eq!((serving(&site), &site.status()["mode_effective"]), ((id(&second), true), &"enforce".into()));
    site.ok("model rollback");
    assert_eq!(serving(&site), (id(&first), true));
    assert!(site.fails("model rollback").contains("0 bundles are remembered"));
    // What was left is still there, and can be chosen.
    site.ok(&format!("model promote {}", id(&third)));
    assert_eq!(serving(&site), (id(&third), true));
    site.ok("model rollback");
    assert_eq!(serving(&site), (id(&first), true));

    // A bundle that was damaged on the way does not come back, and the one that serves goes on.
    load(&site, &seeded(&site, 2), "");
    let model = site.path("state").join("bundles").join(id(&first)).join("core.autoencoder.onnx");
    std::fs::write(&model, "nothing").unwrap();
    let words = site.fails("model rollback");
    assert!(words.contains(&id(&first)) && words.contains("SHA-256"), "{words}");
    assert_eq!(serving(&site), (id(&second), false));
    // Loading it again mends it.
    load(&site, bundle(), "");
    assert_eq!(serving(&site), (id(&first), false));
    drop(agent);
}

#[test]
fn what_could_harm_the_agent_is_refused_while_epochs_go_on_and_the_old_bundle_serves() {
    if !ready("what_could_harm_the_agent_is_refused_while_epochs_go_on_and_the_old_bundle_serves") {
        return;
    }
    let site = Site::new(&["10.77.0.10"]);
    site.configure("shadow", QUIET);
    let _agent = site.start();
    let good = load(&site, bundle(), "");
    for (name, spoil, words) in crafted::refused() {
        let spoilt = crafted::copy(bundle(), site.path(&name.replace(' ', "-")));
        spoil(&spoilt);
        let refused = AtomicBool::new(false);
        let (took, said, slowest) = std::thread::scope(|s| {
            let loading = s.spawn(|| {
                let begin = Instant::now();
                let said = site.fails(&format!("model load {}", spoilt.display()));
                refused.store(true, Ordering::Release);
                (begin.elapsed(), said)
            });
            // Meanwhile an epoch ends five times a second, and the old bundle serves.
            let (mut last, mut changed, mut slowest) = (0, Instant::now(), Duration::ZERO);
            while !refused.load(Ordering::Acquire) {
                let status = site.status();
                assert_eq!(status["bundle"]["id"], good["id"], "{name}: {status}");
                let epochs = status["epochs"].as_u64().unwrap();
                if epochs != last {
                    (last, changed) = (epochs, Instant::now());
                }
                slowest = slowest.max(changed.elapsed());
                std::thread::sleep(Duration::from_millis(50));
            }
            let (took, said) = loading.join().unwrap();
            (took, said, slowest)
        });
        for part in words {
            assert!(said.contains(part), "{name}: `{part}` is not in\n{said}");
        }
        assert!(took < Duration::from_secs(5), "{name} took {took:?}");
        // The check of the endless one takes 3 s: an agent that waited for it would end no epoch in that time.
        assert!(slowest < Duration::from_millis(2_000), "{name}: no epoch ended for {slowest:?}");
    }
    // What would serve no agent is refused as well.
    let words = site.fails(&format!(
        "model load {}",
        variant(&site, "longer", |t| t.replace("window_us: 1000000", "window_us: 10000000")).display()
    ));
    assert!(words.contains("--window 1s") && words.contains("10s long"), "{words}");
    let left: Vec<_> = std::fs::read_dir(site.path("state/bundles")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [id(&good).as_str()], "nothing is left of what was refused");
    assert_eq!(serving(&site).0, id(&good));
}

/// Connections to ports that nobody listens on, until dropped.
fn scan(site: &Site, from: &str, stop: &AtomicBool) {
    let path = PathBuf::from("/run/netns").join(site.peer.name());
    setns(std::fs::File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
    for n in 0u16.. {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let to = SocketAddr::new(SERVER_V4.parse().unwrap(), 1_000 + n % 4_000);
        let _ = connect_from(from.parse().unwrap(), to);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Says so when it goes.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_challenger_tells_what_it_would_do_and_does_nothing() {
    if !ready("a_challenger_tells_what_it_would_do_and_does_nothing") {
        return;
    }
    let site = Site::new(&["10.77.0.10", "10.77.0.66"]);
    site.configure("enforce", QUIET);
    let agent = site.start();
    // The same models, but no evidence is ever enough for the one that serves.
    let deaf = crafted::copy(bundle(), site.path("deaf"));
    crafted::deafen(&deaf);
    assert!(site.fails("model compare").contains("no bundle challenges"));
    let words = site.fails(&format!("model challenge {}", bundle().display()));
    assert!(words.contains("no bundle serves yet"), "{words}");
    let serves = load(&site, &deaf, "--promote");
    let challenger = site.json(&format!("model challenge {}", bundle().display())).remove(0);
    assert_eq!((&challenger["challenger"], &challenger["current"]), (&true.into(), &false.into()), "{challenger}");
    assert_eq!(serving(&site), (id(&serves), true));
    assert!(site.fails(&format!("model challenge {}", id(&serves))).contains("compared with itself"));

    let compared = |what: &str| {
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            let scanning = s.spawn(|| scan(&site, "10.77.0.66", &stop));
            // However this ends: a scan that goes on would keep the test from saying what it waited for.
            let ending = Ending(&stop);
            let found = wait_for(what, PATIENCE, || {
                let c = site.json("model compare").remove(0);
                let d = c["differences"].as_array()?.iter().find(|d| d["source"] == "10.77.0.66")?.clone();
                Some((c, d))
            });
            drop(ending);
            scanning.join().unwrap();
            found
        })
    };
    let (c, d) = compared("an alert of the challenger");
    assert_eq!((&c["a"]["id"], &c["b"]["id"]), (&serves["id"], &challenger["id"]));
    assert_eq!(
        (&d["a"]["outcome"], &c["a"]["alerts"], &c["sources"]["alerted_a"]),
        (&"nothing".into(), &0.into(), &0.into())
    );
    assert!(d["b"]["outcome"] != "nothing" && d["b"]["evidence"].as_f64() > Some(10.0), "{d}");
    assert!(c["profiles"][0]["rows"].as_u64() > Some(0) && c["cpu_us"].as_u64() > Some(0), "{c}");
    // None of it happens: no decision, and nothing in the log of events.
    assert!(site.json("decisions list").is_empty());
    let events = std::fs::read_to_string(site.path("events.json")).unwrap();
    assert!(
        !events.contains("\"event_type\":\"alert\"") && !events.contains("\"event_type\":\"decision\""),
        "{events}"
    );
    let status = site.status();
    assert_eq!(
        (&status["challenger"]["id"], &status["challenger"]["failed"]),
        (&challenger["id"], &"".into()),
        "{status}"
    );
    assert!(site.ok("status").contains("challenger") && site.ok("model list").contains("challenges"));

    // What a person calls normal meanwhile is held against nobody by the challenger either, and counts from there on.
    site.ok("suppressions add 10.77.0.66 --for 1h");
    site.ok(&format!("model challenge {}", id(&challenger)));
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        let scanning = s.spawn(|| scan(&site, "10.77.0.66", &stop));
        let c = wait_for("an alert that the challenger would not raise", PATIENCE, || {
            let c = site.json("model compare").remove(0);
            c["notes"].to_string().contains("suppressions hold for both").then_some(c)
        });
        assert_eq!((&c["b"]["alerts"], &c["differences"]), (&0.into(), &Value::Array(vec![])), "{c}");
        // Taken back while it challenges, it counts again.
        let listed = site.json("suppressions list").remove(0);
        site.ok(&format!("suppressions remove {}", listed["id"]));
        wait_for("an alert of the challenger", PATIENCE, || {
            (site.json("model compare").remove(0)["b"]["alerts"].as_u64() > Some(0)).then_some(())
        });
        stop.store(true, Ordering::Release);
        scanning.join().unwrap();
    });

    // Over the record it is the same: the agent is asked what people call normal.
    let over_record = format!("model compare {} {} --recorded", bundle().display(), deaf.display());
    wait_for("the scan in the record", PATIENCE, || {
        (site.json(&over_record).remove(0)["a"]["alerts"].as_u64() > Some(0)).then_some(())
    });
    site.ok("suppressions add 10.77.0.66 --for 1h");
    let c = site.json(&over_record).remove(0);
    assert_eq!((&c["a"]["alerts"], &c["differences"]), (&0.into(), &Value::Array(vec![])), "{c}");
    assert!(c["notes"].to_string().contains("suppressions hold for both"), "{c}");
    let listed = site.json("suppressions list").remove(0);
    site.ok(&format!("suppressions remove {}", listed["id"]));

    // It goes on after a restart, and begins anew.
    agent.stop();
    let agent = site.start();
    wait_for("the challenger's return", PATIENCE, || {
        site.status()["challenger"]["id"].as_str().filter(|c| *c == id(&challenger)).map(drop)
    });
    // Once it is promoted it acts, and challenges nobody.
    site.ok(&format!("model promote {}", id(&challenger)));
    assert_eq!((serving(&site), &site.status()["challenger"]), ((id(&challenger), true), &Value::Null));
    site.ok(&format!("model challenge {}", id(&serves)));
    let (_, d) = compared("an alert of what serves");
    assert_eq!(d["b"]["outcome"], "nothing", "{d}");
    wait_for("the alert itself", PATIENCE, || {
        let events = std::fs::read_to_string(site.path("events.json")).unwrap();
        events.contains("\"event_type\":\"alert\"").then_some(())
    });
    site.ok("model challenge --stop");
    assert!(site.status()["challenger"].is_null());
    assert!(site.fails("model compare").contains("weir model challenge"));
    drop(agent);
}
