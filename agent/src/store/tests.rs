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

fn table(state: &State) -> Decisions {
    Decisions::restore(state.table.clone(), Limits::default(), Vec::new(), NOW, Some(0)).0
}

/// As the agent saves: all that is in the table.
fn save(store: &mut Store, state: &State) {
    let mut table = table(state);
    store.save(state, &mut table, NOW).unwrap();
    assert_eq!(table.unstored().count(), 0);
}

/// The journal has written what it was given.
fn ask<T: Send + 'static>(store: &Store, read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static) -> T {
    let (tx, rx) = std::sync::mpsc::channel();
    store.journal().ask(move |db| tx.send(db.map(|db| read(db).unwrap())).unwrap());
    rx.recv().unwrap().unwrap()
}

fn alert(id: u64, source: &str) -> AlertReport {
    AlertReport { id, time_us: NOW + id * 1_000_000, source: source.parse().unwrap(), ..AlertReport::default() }
}

fn called(n: u64) -> Row {
    Row::Audit(Audited {
        time_us: NOW + n,
        caller: "uid 0 (root)".into(),
        call: "decisions add".into(),
        subject: format!("call {n}"),
        ok: true,
        result: "done".into(),
    })
}

#[test]
fn what_is_saved_is_there_after_a_restart() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("weir");
    let mut first = open(&dir);
    assert_eq!((first.state.table.next_id, first.warning, first.incomplete), (1, None, true));
    save(&mut first.store, &state());
    drop(first.store);
    let again = open(&dir);
    assert_eq!((again.state, again.warning, again.incomplete), (state(), None, false));
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    for file in fs::read_dir(&dir).unwrap().flatten().filter(|f| f.file_name().to_string_lossy().starts_with("weir.db"))
    {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
}

#[test]
fn one_change_among_many_decisions_writes_one_row() {
    let tmp = tempfile::tempdir().unwrap();
    let mut opened = open(tmp.path());
    let mut all = state();
    all.table.decisions = (1..=20_000)
        .map(|id| {
            let mut s = state().table.decisions.remove(0);
            (s.decision.id, s.awaiting) = (id, None);
            s.decision.target = format!("198.{}.{}.{}", 18 + (id >> 16), (id >> 8) & 255, id & 255).parse().unwrap();
            s
        })
        .collect();
    let mut table = table(&all);
    opened.store.save(&all, &mut table, NOW).unwrap();
    let wal = || fs::metadata(tmp.path().join("weir.db-wal")).map_or(0, |m| m.len());
    // The log is worked in by whoever asks, so that its length begins anew.
    ask(&opened.store, |db| db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
    assert_eq!(wal(), 0);
    table.extend(77, Some(1_000_000_000), NOW).unwrap();
    table.delete(78).unwrap();
    opened.store.save(&all, &mut table, NOW).unwrap();
    assert!(wal() < 100_000, "{} bytes for two rows", wal());
    drop(opened);
    let again = open(tmp.path()).state.table;
    assert_eq!(again.decisions.len(), 19_999);
    let of = |id| again.decisions.iter().find(|s| s.decision.id == id);
    assert_eq!((of(77).unwrap().remaining_us, of(78)), (Some(1_000_000_000), None));
}

#[test]
fn a_lifetime_goes_on_over_restart_and_reboot() {
    let tmp = tempfile::tempdir().unwrap();
    let mut opened = open(tmp.path());
    save(&mut opened.store, &state());
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
fn what_is_left_at_a_reboot_is_what_was_left_when_anything_was_stored_last() {
    let tmp = tempfile::tempdir().unwrap();
    let mut opened = open(tmp.path());
    let mut table = table(&state());
    opened.store.save(&state(), &mut table, NOW).unwrap();
    // 25 s later something else is stored; the decision's row is not touched.
    let later = State { saved: Saved { boot_id: "b".into(), boottime_us: 77 + 25_000_000 }, ..state() };
    opened.store.save(&later, &mut table, NOW + 25_000_000).unwrap();
    drop(opened);
    // Another boot with a clock that was set back: it must not prolong the block.
    let mut opened = open(tmp.path());
    let found = opened.state;
    assert_eq!(found.table.decisions[0].remaining_us, Some(35_000_000));
    let (mut table, _) =
        Decisions::restore(found.table.clone(), Limits::default(), Vec::new(), NOW - 3_600_000_000, None);
    // From then on ends are on the new boot's clock.
    let rebooted = State { saved: Saved { boot_id: "c".into(), boottime_us: 5 }, ..found };
    opened.store.save(&rebooted, &mut table, NOW - 3_600_000_000).unwrap();
    drop(opened.store);
    let again = open(tmp.path()).state;
    assert_eq!((again.saved.boot_id.as_str(), again.table.decisions[0].remaining_us), ("c", Some(35_000_000)));
}

#[test]
fn a_store_that_is_damaged_is_set_aside_and_nothing_else_is_lost() {
    let tmp = tempfile::tempdir().unwrap();
    for (n, damage) in [&b"not a database, but some text"[..], &[0xff; 8192]].into_iter().enumerate() {
        let path = tmp.path().join("weir.db");
        let mut opened = open(tmp.path());
        save(&mut opened.store, &state());
        fs::create_dir_all(tmp.path().join("bundles/b1")).unwrap();
        drop(opened);
        fs::write(&path, damage).unwrap();

        let Opened { mut store, state: found, warning, incomplete, .. } = open(tmp.path());
        let warning = warning.expect("the operator is told");
        let aside = tmp.path().join(format!("weir.db.corrupt-{}", n + 1));
        assert!(warning.contains(&aside.display().to_string()), "{warning}");
        assert_eq!(fs::read(&aside).unwrap(), damage);
        assert!(incomplete && found.table.decisions.is_empty());
        assert!(found.table.next_id > 9 && found.next_alert_id > 4, "ids must not be used twice");
        assert_eq!(store.bundles().list().unwrap().len(), 1);
        save(&mut store, &state());
    }
}

#[test]
fn what_enforces_is_read_from_a_file_whose_record_is_damaged() {
    let tmp = tempfile::tempdir().unwrap();
    let mut opened = open(tmp.path());
    save(&mut opened.store, &state());
    (0..2000).for_each(|n| opened.store.journal().add(called(n)));
    let root: i64 = ask(&opened.store, |db| {
        db.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'audit'", [], |r| r.get(0))
    });
    drop(opened);
    let path = tmp.path().join("weir.db");
    let mut bytes = fs::read(&path).unwrap();
    let page = 4096 * (root as usize - 1);
    bytes[page..page + 4096].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    let opened = open(tmp.path());
    assert!(opened.warning.unwrap().contains("could be read and hold on"));
    assert_eq!((opened.state, opened.incomplete), (state(), true));
    drop(opened.store);
    assert_eq!(open(tmp.path()).state, state(), "it is in the new file");
}

/// Whatever a disk or a power cut makes of the files, an agent starts, says what is lost, and stores what it decides from then on.
#[test]
fn a_store_that_is_damaged_anywhere_lets_the_agent_start_and_store_again() {
    const DAMAGES: u64 = 150;
    let whole = tempfile::tempdir().unwrap();
    let mut opened = open(whole.path());
    save(&mut opened.store, &state());
    (0..300).for_each(|n| opened.store.journal().add(called(n)));
    (0..20).for_each(|n| opened.store.journal().add(Row::Alert(Box::new(alert(n, "192.0.2.7")))));
    ask(&opened.store, |_| Ok(()));
    // As a kill leaves them: the log of changes beside the file.
    let files: Vec<(&str, Vec<u8>)> =
        ["weir.db", "weir.db-wal"].map(|name| (name, fs::read(whole.path().join(name)).unwrap())).into();
    assert!(files.iter().all(|(_, bytes)| bytes.len() > 4096), "both hold something");
    drop(opened);

    let mut random = 0x5eed_u64;
    let mut dice = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below.max(1)
    };
    let (mut told, mut read) = (0, 0);
    for n in 0..DAMAGES {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in &files {
            let mut bytes = bytes.clone();
            match dice(6) {
                // Bits that turned.
                0 | 1 => (0..=dice(8)).for_each(|_| {
                    let at = dice(bytes.len());
                    bytes[at] ^= 1 << dice(8);
                }),
                // A sector that reads as zeroes, or as another one.
                2 | 3 => {
                    let (from, to) = (dice(bytes.len() / 512) * 512, dice(bytes.len() / 512) * 512);
                    let sector = if dice(2) == 0 { vec![0; 512] } else { bytes[from..from + 512].to_vec() };
                    bytes[to..to + 512].copy_from_slice(&sector);
                }
                // Writes that never came.
                4 => bytes.truncate(dice(bytes.len())),
                _ => {}
            }
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        let again =
            Store::open(dir.path(), NOW).unwrap_or_else(|e| panic!("damage {n}: the agent does not start: {e}"));
        told += u32::from(again.warning.is_some());
        read += u32::from(again.warning.is_none() && again.state == state());
        assert!(again.warning.is_none() || again.incomplete, "damage {n}: what is lost is known to be");
        // What is decided now holds over the next start.
        let mut store = again.store;
        let later = State { next_alert_id: again.state.next_alert_id + 1, ..again.state };
        save(&mut store, &later);
        store.journal().add(called(1));
        ask(&store, |_| Ok(()));
        drop(store);
        let last = Store::open(dir.path(), NOW).unwrap_or_else(|e| panic!("damage {n}: not a second time: {e}"));
        assert_eq!(last.warning, None, "damage {n}: it is mended once and for all");
        assert_eq!(last.state.table.decisions, later.table.decisions, "damage {n}");
        assert_eq!(last.state.next_alert_id, later.next_alert_id, "damage {n}");
    }
    eprintln!("{DAMAGES} damages: {told} told of, {read} that hurt nothing");
    assert!(told > 10 && read > 10, "{told} {read}");
}

#[test]
fn a_newer_file_is_not_touched() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("weir.db");
    let mut opened = open(tmp.path());
    save(&mut opened.store, &state());
    drop(opened);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let refused = Store::open(tmp.path(), NOW).unwrap_err().to_string();
    assert!(refused.contains("newer Weir (schema 99"), "{refused}");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", SCHEMA).unwrap();
    assert_eq!(open(tmp.path()).state, state());
}

#[test]
fn a_file_of_an_earlier_schema_is_brought_forward_with_what_it_holds() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("weir.db");
    let mut opened = open(tmp.path());
    save(&mut opened.store, &state());
    drop(opened);
    let next = [db::MIGRATIONS, &["ALTER TABLE audit ADD COLUMN role TEXT NOT NULL DEFAULT ''"]].concat();
    let mut db = Connection::open(&path).unwrap();
    db::migrate(&mut db, &next).unwrap();
    db::migrate(&mut db, &next).unwrap();
    let version: u32 = db.query_row("PRAGMA user_version", [], |r| r.get(0)).unwrap();
    assert_eq!(version, SCHEMA + 1);
    assert_eq!(super::table::read(&db).unwrap().unwrap(), state());
    // A step that fails leaves the version before.
    let wrong = [&next[..], &["CREATE TABLE half (x); CREATE TABLE audit (x)"]].concat();
    assert!(db::migrate(&mut db, &wrong).is_err());
    let half: u32 = db.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'half'", [], |r| r.get(0)).unwrap();
    assert_eq!(half, 0);
}

#[test]
fn files_of_versions_before_are_read_once_and_moved_aside() {
    let tmp = tempfile::tempdir().unwrap();
    let mut old = serde_json::to_value(state()).unwrap();
    old["schema"] = 1.into();
    fs::write(tmp.path().join("state.json"), old.to_string()).unwrap();
    let lines = [1, 2].map(|id| serde_json::to_string(&alert(id, "192.0.2.1")).unwrap()).join("\n");
    fs::write(tmp.path().join("alerts.jsonl"), format!("{lines}\n{{\"id\": 3, \"tim")).unwrap();
    for _ in 0..2 {
        let opened = open(tmp.path());
        assert_eq!((opened.state, opened.warning, opened.incomplete), (state(), None, false));
        assert_eq!(opened.alerts.iter().map(|a| a.id).collect::<Vec<_>>(), [2, 1]);
    }
    assert!(!tmp.path().join("state.json").exists() && tmp.path().join("state.json.imported-1").exists());
    assert!(tmp.path().join("alerts.jsonl.imported-1").exists());
}

#[test]
fn an_old_file_that_is_damaged_is_set_aside_and_one_that_is_newer_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    fs::write(tmp.path().join("state.json"), "{\"schema\": 1, \"decis").unwrap();
    let opened = open(tmp.path());
    assert!(opened.warning.unwrap().contains("state.json.corrupt-1"));
    assert!(opened.incomplete && opened.state.table.next_id > 9);
    let tmp = tempfile::tempdir().unwrap();
    fs::write(tmp.path().join("state.json"), "{\"schema\": 99}").unwrap();
    let refused = Store::open(tmp.path(), NOW).unwrap_err().to_string();
    assert!(refused.contains("newer Weir (schema 99"), "{refused}");
}

#[test]
fn what_is_too_old_or_too_much_goes_and_what_enforces_stays() {
    let tmp = tempfile::tempdir().unwrap();
    let mut opened = open(tmp.path());
    save(&mut opened.store, &state());
    let journal = opened.store.journal().clone();
    (0..3000).for_each(|n| journal.add(called(n)));
    (1..=600).for_each(|id| journal.add(Row::Alert(Box::new(alert(id, "192.0.2.1")))));
    journal.add(Row::Course { alert_id: 1, point: crate::command::EvidencePoint::default() });
    let bounds = Bounds { max_size: u64::MAX, max_age: std::time::Duration::from_secs(300) };
    let now = NOW + 600_000_000;
    let count = |db: &Connection, table: &str| {
        db.query_row(&format!("SELECT count(*) FROM {table}"), [], |r| r.get::<_, u32>(0).map(u64::from))
    };
    let left = ask(&opened.store, move |db| {
        retention::prune(db, bounds, now)?;
        Ok((count(db, "audit")?, count(db, "alert")?, count(db, "course")?))
    });
    // Alerts come one a second.
    assert_eq!(left, (0, 301, 0));

    for n in 0..400 {
        let body = "x".repeat(20_000);
        let proof = Proof { time_us: now + n, source: "192.0.2.1".into(), alert_id: Some(n), decision_id: None, body };
        journal.add(Row::Evidence(Box::new(proof)));
        if n % 100 == 99 {
            ask(&opened.store, |_| Ok(()));
        }
    }
    let bounds = Bounds { max_size: 1_000_000, ..bounds };
    let (kept, alerts, pages) = ask(&opened.store, move |db| {
        retention::prune(db, bounds, now)?;
        let pages = db.query_row("PRAGMA page_count", [], |r| r.get::<_, u32>(0).map(u64::from))?;
        Ok((read::proofs(db, 0, usize::MAX)?, count(db, "alert")?, pages))
    });
    assert!(alerts == 0 && kept.len() < 60, "{alerts} alerts, {} documents", kept.len());
    assert!(pages * 4096 < 3_000_000, "{pages} pages: the room is given back");
    drop((opened, journal));
    assert_eq!(open(tmp.path()).state, state());
}

#[test]
fn documents_of_a_kind_are_put_replaced_removed_and_kept() {
    const NOTES: Kind<Vec<String>> = Kind::new("note");
    const OTHER: Kind<u32> = Kind::new("other");
    let tmp = tempfile::tempdir().unwrap();
    let mut store = open(tmp.path()).store;
    let note = |id, text: &str| Document { id, time_us: NOW, subject: "192.0.2.1".into(), body: vec![text.to_owned()] };
    store.put(NOTES, &note(7, "one")).unwrap();
    store.put(NOTES, &note(3, "two")).unwrap();
    store.put(OTHER, &Document { id: 7, time_us: NOW, subject: String::new(), body: 9 }).unwrap();
    store.put(NOTES, &note(7, "three")).unwrap();
    assert!(store.remove(OTHER, 7).unwrap() && !store.remove(OTHER, 7).unwrap());
    drop(store);
    let mut store = open(tmp.path()).store;
    assert_eq!(store.all(NOTES).unwrap(), [note(3, "two"), note(7, "three")]);
    assert!(store.all(OTHER).unwrap().is_empty());
}

#[test]
fn alerts_are_at_hand_and_all_that_are_kept_are_in_the_store() {
    let tmp = tempfile::tempdir().unwrap();
    let opened = open(tmp.path());
    let mut alerts = Alerts::new(opened.store.journal().clone(), opened.alerts);
    let n = MAX_ALERTS as u64 + 200;
    (1..=n).for_each(|id| alerts.push(alert(id, if id % 2 == 0 { "192.0.2.1" } else { "198.51.100.7" })));
    for t in 0..1000 {
        alerts.note("192.0.2.1".parse().unwrap(), NOW + t * 1_000_000, [12.0, 3.0]);
    }
    let ids = |list: &[AlertReport]| list.iter().map(|a| a.id).collect::<Vec<_>>();
    let (last, more) = alerts.list(None, 0, 3);
    assert_eq!((ids(&last), more), (vec![n, n - 1, n - 2], false));
    assert_eq!(alerts.numbers(), Some((201, n)));
    let (all, more) = alerts.list(None, 0, usize::MAX);
    assert_eq!((all.len(), more, alerts.may_be_stored(7)), (MAX_ALERTS, true, true));
    let within = Some("198.51.100.0/24".parse().unwrap());
    let (within, first) =
        ask(&opened.store, move |db| Ok((read::alerts(db, within, NOW + 1_100_000_000, 9)?, read::get_alert(db, 1)?)));
    assert_eq!(ids(&within), [1199, 1197, 1195, 1193, 1191, 1189, 1187, 1185, 1183]);
    assert_eq!(first.unwrap().id, 1);
    drop((opened.store, alerts));
    let again = open(tmp.path());
    let last = &again.alerts[0];
    assert_eq!((again.alerts.len(), last.id, last.history.len()), (MAX_ALERTS, n, 120));
    assert_eq!(last.history[1].time_us - last.history[0].time_us, 5_000_000);
}

#[test]
fn history_and_audit_are_read_by_target_and_time() {
    let tmp = tempfile::tempdir().unwrap();
    let opened = open(tmp.path());
    let mut decision = state().table.decisions.remove(0).decision;
    for (n, target) in ["192.0.2.7/tcp/22", "192.0.2.7", "192.0.2.0/24", "203.0.113.9"].into_iter().enumerate() {
        decision.target = target.parse().unwrap();
        opened.store.journal().add(Row::History(Box::new(Happened {
            time_us: NOW + n as u64,
            change: "expired".into(),
            decision: decision.clone(),
            mode: "enforce".into(),
            note: "over".into(),
            hits: Some([5, 500]),
        })));
    }
    (0..5).for_each(|n| opened.store.journal().add(called(n)));
    let of = |target: &str, since| {
        let target = Some(target.parse().unwrap());
        let lines = ask(&opened.store, move |db| read::history(db, target, since, 9));
        lines.into_iter().map(|h| h.target).collect::<Vec<_>>()
    };
    assert_eq!(of("192.0.2.0/24", 0), ["192.0.2.0/24", "192.0.2.7", "192.0.2.7/tcp/22"]);
    assert_eq!(of("192.0.2.7", 0), ["192.0.2.7", "192.0.2.7/tcp/22"]);
    assert_eq!(of("192.0.2.7/tcp/22", 0), ["192.0.2.7/tcp/22"]);
    assert!(of("192.0.2.7/tcp/22", NOW + 1).is_empty());
    let calls = ask(&opened.store, |db| read::audit(db, NOW + 2, 2));
    assert_eq!(calls.iter().map(|c| c.subject.as_str()).collect::<Vec<_>>(), ["call 4", "call 3"]);
}

#[test]
fn a_disk_that_cannot_be_written_costs_what_is_counted_by_kind_and_holds_nobody_up() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("weir.db");
    let opened = open(tmp.path());
    ask(&opened.store, |_| Ok(()));
    // Another process that never lets go of the file is as bad as a full disk.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = std::time::Instant::now();
    (0..40_000).for_each(|n| opened.store.journal().add(called(n)));
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "{:?}", began.elapsed());
    let lost = opened.store.journal().lost()["audit of calls not stored"];
    assert!((20_000..30_000).contains(&lost), "{lost}");
    other.execute_batch("ROLLBACK").unwrap();
    let there = ask(&opened.store, |db| db.query_row("SELECT count(*) FROM audit", [], |r| r.get::<_, u32>(0)));
    assert_eq!(u64::from(there) + lost, 40_000, "all that was not lost is written");
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
