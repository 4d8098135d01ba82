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

#[test]
fn a_bundle_is_staged_installed_activated_and_promoted() {
    let tmp = tempfile::tempdir().unwrap();
    let opened = open(tmp.path());
    let bundles = opened.store.bundles();
    assert_eq!((bundles.current(), bundles.promoted_id()), (None, None));
    for id in ["learned-1", "learned-2"] {
        fs::write(bundles.stage(id).unwrap().join("manifest.yaml"), id).unwrap();
        assert!(bundles.list().unwrap().iter().all(|b| b.id != id), "a staged bundle is none yet");
        bundles.install(id).unwrap();
        assert!(bundles.activate(id).unwrap().current);
    }
    let current = bundles.current().unwrap();
    assert_eq!((current.id.as_str(), current.promoted), ("learned-2", false));
    assert_eq!(fs::read_to_string(tmp.path().join("current/manifest.yaml")).unwrap(), "learned-2");

    assert!(bundles.promote("learned-1").unwrap().promoted);
    assert!(!bundles.current().unwrap().promoted);
    bundles.promote("learned-2").unwrap();
    let listed: Vec<_> = bundles.list().unwrap().into_iter().map(|b| (b.id, b.promoted, b.current)).collect();
    assert_eq!(listed, [("learned-2".into(), true, true), ("learned-1".into(), false, false)]);

    let e = bundles.promote("learned-3").unwrap_err().to_string();
    assert_eq!(e, "there is no bundle `learned-3`; there are learned-2, learned-1");
    assert!(bundles.stage("../x").unwrap_err().to_string().contains("is no bundle id"));
    bundles.stage("learned-1").unwrap();
    assert!(bundles.install("learned-1").is_err(), "an installed bundle is never overwritten");
}

#[test]
fn half_made_and_old_bundles_go() {
    let tmp = tempfile::tempdir().unwrap();
    let opened = open(tmp.path());
    let bundles = opened.store.bundles().clone();
    for id in ["a", "b", "c", "d"] {
        bundles.stage(id).unwrap();
        bundles.install(id).unwrap();
    }
    bundles.activate("a").unwrap();
    bundles.promote("b").unwrap();
    assert_eq!(bundles.prune(1).unwrap(), ["c"]);
    bundles.stage("e").unwrap();
    drop(opened);
    open(tmp.path());
    assert!(!tmp.path().join("bundles/.new-e").exists());
    assert_eq!(bundles.list().unwrap().len(), 3);
}
