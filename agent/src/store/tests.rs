use weir_core::decision::{Action, Decision, Origin, Sides};
use weir_core::decisions::{Decisions, Limits, Stored};
use weir_core::guard::Allow;

use super::*;

const NOW: TimeUs = 1_800_000_000_000_000;

fn state() -> State {
    let decision = Decision {
        limit: None,
        id: 8,
        target: "192.0.2.7/tcp/22".parse().unwrap(),
        action: Action::Drop,
        sides: Sides::In,
        origin: Origin::Automatic,
        created_us: NOW,
        expires_us: Some(NOW + 60_000_000),
        reason: "47 ports".into(),
        instead_of: None,
        alert_id: Some(3),
    };
    let allow = Allow {
        prefix: "10.0.0.0/8".parse().unwrap(),
        created_us: NOW,
        expires_us: None,
        comment: "ours, by uid 0 (root)".into(),
    };
    let stored = Stored { decision, remaining_us: Some(60_000_000), ttl_us: Some(60_000_000), awaiting: Some(Some(1)) };
    State {
        saved: Saved { boot_id: "b".into(), boottime_us: 77 },
        table: Snapshot { taken_us: NOW, next_id: 9, decisions: vec![stored], allow: vec![allow] },
        next_alert_id: 4,
        review: ReviewState::default(),
    }
}

fn open(dir: &Path) -> Opened {
    Store::open(dir, NOW).unwrap()
}

#[test]
fn what_is_saved_is_there_after_a_restart() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("weir");
    let first = open(&dir);
    assert_eq!((first.state.table.next_id, first.warning), (1, None));
    first.store.save(&state()).unwrap();
    drop(first.store);
    let again = open(&dir);
    assert_eq!((again.state, again.warning), (state(), None));
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(dir.join("state.json")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_lifetime_goes_on_over_restart_and_reboot() {
    let tmp = tempfile::tempdir().unwrap();
    let opened = open(tmp.path());
    opened.store.save(&state()).unwrap();
    drop(opened);
    let State { saved, table, .. } = open(tmp.path()).state;
    let expiry = |later: &Saved, now| {
        let (table, _) = Decisions::restore(table.clone(), Limits::default(), Vec::new(), now, saved.elapsed_us(later));
        table.get(8).map(|d| d.expires_us.unwrap() - now)
    };
    // The same boot, 20 s later; the wall clock was set back meanwhile.
    let restarted = Saved { boot_id: "b".into(), boottime_us: 77 + 20_000_000 };
    assert_eq!(expiry(&restarted, NOW - 3_600_000_000), Some(40_000_000));
    // Another boot: only the wall clock is left.
    let rebooted = Saved { boot_id: "c".into(), boottime_us: 5 };
    assert_eq!(expiry(&rebooted, NOW + 50_000_000), Some(10_000_000));
    assert_eq!(expiry(&rebooted, NOW + 61_000_000), None);
    let now = Saved::now().unwrap();
    assert!(now.elapsed_us(&Saved::now().unwrap()).is_some());
}

#[test]
fn a_damaged_file_is_set_aside_and_nothing_else_is_lost() {
    let tmp = tempfile::tempdir().unwrap();
    for (n, damage) in ["", "{\"schema\": 1, \"decis", "[]", "{\"schema\":1,\"table\":7}"].into_iter().enumerate() {
        let path = tmp.path().join("state.json");
        let opened = open(tmp.path());
        opened.store.save(&state()).unwrap();
        fs::create_dir_all(tmp.path().join("bundles/b1")).unwrap();
        drop(opened);
        fs::write(&path, damage).unwrap();

        let Opened { store, state, warning } = open(tmp.path());
        let warning = warning.expect("the operator is told");
        let aside = tmp.path().join(format!("state.json.corrupt-{}", n + 1));
        assert!(warning.contains(&aside.display().to_string()), "{warning}");
        assert_eq!(fs::read_to_string(&aside).unwrap(), damage);
        assert!(state.table.decisions.is_empty());
        assert!(state.table.next_id > 9 && state.next_alert_id > 4, "ids must not be used twice");
        assert_eq!(store.bundles().list().unwrap().len(), 1);
        store.save(&state).unwrap();
    }
}

#[test]
fn a_newer_file_is_not_touched() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("state.json");
    fs::write(&path, "{\"schema\": 99, \"decisions\": \"other\"}").unwrap();
    let refused = Store::open(tmp.path(), NOW).unwrap_err().to_string();
    assert!(refused.contains("newer Weir (schema 99"), "{refused}");
    assert!(path.exists());
}

#[test]
fn a_crash_between_write_and_rename_leaves_the_old_state() {
    let tmp = tempfile::tempdir().unwrap();
    let opened = open(tmp.path());
    opened.store.save(&state()).unwrap();
    drop(opened);
    // As the kill left it: the new file half-written beside the old one.
    fs::write(tmp.path().join("state.json.tmp"), "{\"schema\": 1, \"next_dec").unwrap();
    let opened = open(tmp.path());
    assert_eq!((opened.state, opened.warning), (state(), None));
    // And the leftover does not stop the next save.
    let newer = State { next_alert_id: 10, ..state() };
    opened.store.save(&newer).unwrap();
    drop(opened.store);
    assert_eq!(open(tmp.path()).state, newer);
}

#[test]
fn a_save_that_fails_keeps_the_old_state() {
    let tmp = tempfile::tempdir().unwrap();
    let opened = open(tmp.path());
    opened.store.save(&state()).unwrap();
    // A folder with something in it can neither be opened as a file nor be removed as one.
    fs::create_dir_all(tmp.path().join("state.json.tmp/x")).unwrap();
    let e = opened.store.save(&State::fresh(1, NOW)).unwrap_err().to_string();
    assert!(e.starts_with("cannot write ") && e.contains("state.json"), "{e}");
    drop(opened.store);
    assert_eq!(open(tmp.path()).state, state());
}

#[test]
fn one_agent_per_state_directory_and_per_interface() {
    let tmp = tempfile::tempdir().unwrap();
    let _first = open(tmp.path());
    let refused = Store::open(tmp.path(), NOW).unwrap_err().to_string();
    assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
    let _lock = lock_interface(tmp.path(), "eth0", 2).unwrap();
    let refused = lock_interface(tmp.path(), "eth0", 2).unwrap_err().to_string();
    assert!(refused.starts_with("interface eth0 is in use by process"), "{refused}");
    lock_interface(tmp.path(), "eth1", 3).unwrap();
}

fn put(bundles: &Bundles, id: &str) {
    fs::write(bundles.stage(id).unwrap().join("manifest.yaml"), id).unwrap();
    bundles.install(id).unwrap();
}

#[test]
fn a_bundle_is_staged_installed_activated_and_promoted() {
    let tmp = tempfile::tempdir().unwrap();
    let opened = open(tmp.path());
    let bundles = opened.store.bundles();
    assert_eq!(bundles.current(), None);
    for id in ["learned-1", "learned-2"] {
        fs::write(bundles.stage(id).unwrap().join("manifest.yaml"), id).unwrap();
        assert!(bundles.list().unwrap().iter().all(|b| b.id != id), "a staged bundle is none yet");
        bundles.install(id).unwrap();
        assert!(bundles.activate(id).unwrap().current);
    }
    let current = bundles.current().unwrap();
    assert_eq!((current.id.as_str(), current.promoted), ("learned-2", false));
    assert_eq!(fs::read_to_string(tmp.path().join("current/manifest.yaml")).unwrap(), "learned-2");

    let promoted = bundles.promote("learned-1").unwrap();
    assert!(promoted.promoted && promoted.current, "who promotes a bundle lets it serve");
    bundles.promote("learned-2").unwrap();
    assert!(bundles.activate("learned-2").unwrap().promoted, "it serves already");
    let listed: Vec<_> = bundles.list().unwrap().into_iter().map(|b| (b.id, b.promoted, b.current)).collect();
    assert_eq!(listed, [("learned-2".into(), true, true), ("learned-1".into(), true, false)]);

    let e = bundles.promote("learned-3").unwrap_err().to_string();
    assert_eq!(e, "there is no bundle `learned-3`; there are learned-2, learned-1");
    assert!(bundles.stage("../x").unwrap_err().to_string().contains("is no bundle id"));
    bundles.stage("learned-1").unwrap();
    assert!(bundles.install("learned-1").is_err(), "an installed bundle is never overwritten");
}

#[test]
fn one_goes_back_step_by_step_over_restarts_and_what_was_promoted_is_again() {
    let tmp = tempfile::tempdir().unwrap();
    let opened = open(tmp.path());
    let bundles = opened.store.bundles().clone();
    for id in ["a", "b", "c", "d"] {
        put(&bundles, id);
    }
    assert!(bundles.roll_back(1).unwrap_err().to_string().contains("0 bundles are remembered"));
    bundles.promote("a").unwrap();
    bundles.activate("b").unwrap();
    bundles.set_challenger(Some("d")).unwrap();
    bundles.promote("c").unwrap();
    drop(opened);

    let opened = open(tmp.path());
    let bundles = opened.store.bundles().clone();
    let at = |b: BundleDir| (b.id, b.promoted);
    assert_eq!(at(bundles.current().unwrap()), ("c".into(), true));
    assert_eq!(bundles.challenger().map(|b| b.id).as_deref(), Some("d"));
    assert_eq!(at(bundles.roll_back(1).unwrap()), ("b".into(), false));
    // Going back is no step by itself: the next one goes on to the one before.
    assert_eq!(bundles.back(1).unwrap().id, "a");
    drop(opened);
    let opened = open(tmp.path());
    let bundles = opened.store.bundles().clone();
    assert_eq!(at(bundles.roll_back(1).unwrap()), ("a".into(), true));
    assert!(bundles.roll_back(1).unwrap_err().to_string().contains("weir model promote ID"));
    assert_eq!(fs::read_to_string(tmp.path().join("current/manifest.yaml")).unwrap(), "a");

    // Promotion belongs to the time that it served: another time begins without.
    assert!(!bundles.activate("c").unwrap().promoted);
    bundles.activate("b").unwrap();
    assert_eq!(at(bundles.roll_back(2).unwrap()), ("a".into(), true));
    bundles.promote("d").unwrap();
    assert_eq!(bundles.challenger(), None, "what serves challenges nobody");
}

#[test]
fn steps_are_remembered_up_to_a_number() {
    let tmp = tempfile::tempdir().unwrap();
    let opened = open(tmp.path());
    let bundles = opened.store.bundles();
    for n in 0..2 * MAX_STEPS {
        put(bundles, &format!("b{n}"));
        bundles.activate(&format!("b{n}")).unwrap();
    }
    assert_eq!(bundles.list().unwrap().iter().filter(|b| b.steps_back.is_some()).count(), MAX_STEPS);
    assert_eq!(bundles.roll_back(MAX_STEPS - 1).unwrap().id, format!("b{MAX_STEPS}"));
    assert!(bundles.roll_back(1).is_err());
}

#[test]
fn a_kill_between_the_steps_of_a_swap_leaves_the_old_or_the_new_bundle() {
    let tmp = tempfile::tempdir().unwrap();
    let opened = open(tmp.path());
    let bundles = opened.store.bundles().clone();
    put(&bundles, "old");
    put(&bundles, "new");
    bundles.promote("old").unwrap();
    let before = fs::read(tmp.path().join("models.json")).unwrap();
    bundles.activate("new").unwrap();
    let after = fs::read(tmp.path().join("models.json")).unwrap();
    drop(opened);
    let serves = |state: &[u8], link: &str, leftovers: bool| {
        fs::write(tmp.path().join("models.json"), state).unwrap();
        fs::remove_file(tmp.path().join("current")).unwrap();
        std::os::unix::fs::symlink(format!("bundles/{link}"), tmp.path().join("current")).unwrap();
        if leftovers {
            fs::write(tmp.path().join("models.json.tmp"), &after[..after.len() / 2]).unwrap();
            let _ = std::os::unix::fs::symlink("bundles/none", tmp.path().join("current.tmp"));
        }
        let opened = open(tmp.path());
        let current = opened.store.bundles().current().unwrap();
        let linked = fs::read_to_string(tmp.path().join("current/manifest.yaml")).unwrap();
        assert_eq!(linked, current.id, "the link follows");
        (current.id, current.promoted)
    };
    // Killed while the new file was written; before the link was set; and with what an earlier kill left.
    assert_eq!(serves(&before, "old", true), ("old".into(), true));
    assert_eq!(serves(&after, "old", false), ("new".into(), false));
    assert_eq!(serves(&after, "old", true), ("new".into(), false));
    // And the leftovers do not stand in the way of the next swap.
    let opened = open(tmp.path());
    assert_eq!(opened.store.bundles().roll_back(1).unwrap().id, "old");
}

#[test]
fn a_store_of_an_earlier_version_goes_on_with_what_served() {
    let tmp = tempfile::tempdir().unwrap();
    let opened = open(tmp.path());
    let bundles = opened.store.bundles().clone();
    put(&bundles, "a");
    put(&bundles, "b");
    drop(opened);
    std::os::unix::fs::symlink("bundles/a", tmp.path().join("current")).unwrap();
    fs::write(tmp.path().join("promoted"), "a\n").unwrap();
    let opened = open(tmp.path());
    let bundles = opened.store.bundles().clone();
    assert!(bundles.current().is_some_and(|b| b.id == "a" && b.promoted));
    bundles.activate("b").unwrap();
    assert!(bundles.roll_back(1).is_ok_and(|b| b.id == "a" && b.promoted));
    drop(opened);
    // A file that cannot be read is set aside: the link says what served, and nobody vouches for it.
    fs::write(tmp.path().join("models.json"), "{\"steps\": 7").unwrap();
    fs::remove_file(tmp.path().join("promoted")).unwrap();
    let opened = open(tmp.path());
    assert!(opened.store.bundles().current().is_some_and(|b| b.id == "a" && !b.promoted));
    assert!(tmp.path().join("models.json.corrupt-1").exists());
}

#[test]
fn half_made_and_old_bundles_go() {
    let tmp = tempfile::tempdir().unwrap();
    let opened = open(tmp.path());
    let bundles = opened.store.bundles().clone();
    for id in ["a", "b", "c", "d", "e", "f", "g"] {
        put(&bundles, id);
    }
    bundles.activate("a").unwrap();
    bundles.promote("b").unwrap();
    bundles.set_challenger(Some("c")).unwrap();
    // Kept: what serves, what served, the challenger, the one that is spared, and the newest other one.
    assert_eq!(bundles.prune(1, Some("d")).unwrap(), ["f", "e"]);
    bundles.stage("h").unwrap();
    drop(opened);
    open(tmp.path());
    assert!(!tmp.path().join("bundles/.new-h").exists());
    assert_eq!(bundles.list().unwrap().len(), 5);
}
