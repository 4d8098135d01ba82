//! What the agent remembers when the disk, the store or the clock is not as it should be; and what it has on record.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::site::*;
use crate::support::*;

const BAD: &str = "10.77.0.66";
const OTHER: &str = "10.77.0.67";
const GOOD: &str = "10.77.0.68";

fn lost(site: &Site, name: &str) -> u64 {
    let status = site.status();
    let all = status["lost"].as_array().unwrap();
    all.iter().find(|c| c["name"] == name).map_or(0, |c| c["count"].as_u64().unwrap())
}

fn warned(site: &Site, words: &str) -> bool {
    site.status()["warnings"].as_array().unwrap().iter().any(|w| w.as_str().unwrap().contains(words))
}

#[test]
fn what_the_store_has_lost_the_kernel_still_holds_and_the_agent_takes_over() {
    if !ready("what_the_store_has_lost_the_kernel_still_holds_and_the_agent_takes_over") {
        return;
    }
    let site = Site::new(&[BAD, OTHER, GOOD]);
    let wreck: [&dyn Fn(&std::path::Path); 2] = [
        &|state| {
            // What was written last lies beside the file, and would still tell.
            let _ = fs::remove_file(state.join("weir.db-wal"));
            fs::write(state.join("weir.db"), b"no database any more").unwrap();
        },
        &|state| fs::remove_dir_all(state).unwrap(),
    ];
    for (n, wreck) in wreck.iter().enumerate() {
        let agent = site.start();
        site.ok(&format!("decisions add {BAD} --for 1h"));
        site.ok(&format!("decisions add {OTHER}/tcp/22 --limit 7pps --direction in --for ever"));
        site.ok("allowlist add 10.77.0.99 --comment office");
        assert!(!site.passes(BAD, 5353) && site.passes(GOOD, 5353));
        let before = site.decision(BAD);
        agent.kill();
        wreck(&site.path("state"));

        let agent = site.start();
        assert!(!site.passes(BAD, 5353), "{n}: it is never let in");
        assert!(site.passes(GOOD, 5353) && site.passes(OTHER, 5353));
        assert!(agent.own_log().contains("found in the kernel"), "{}", agent.own_log());
        assert!(warned(&site, "2 entries found in the kernel hold on as decisions"), "{}", site.status());
        let found = site.decision(BAD);
        assert_eq!((&found["action"], &found["enforced"]), (&"drop".into(), &true.into()));
        assert!(found["reason"].as_str().unwrap().contains("found in the kernel"), "{found}");
        let minutes = |d: &Value| d["expires"].as_str().unwrap()[..16].to_owned();
        let near = [minutes(&before), minutes(&found)];
        assert!(near[0] <= near[1], "its end is what it was: {near:?}");
        let limited = site.decision(&format!("{OTHER}/tcp/22"));
        assert_eq!((&limited["limit"]["per_second"], &limited["expires"]), (&7.into(), &Value::Null), "{limited}");
        assert!(site.ok("allowlist list").contains("10.77.0.99"), "who might pass goes on to");
        site.ok(&format!("decisions delete {BAD}"));
        assert!(site.passes(BAD, 5353));
        // It is known now: the next start finds nothing.
        agent.kill();
        let agent = site.start();
        assert!(!agent.own_log().contains("found in the kernel hold on"), "{}", agent.own_log());
        assert!(site.passes(BAD, 5353));
        agent.stop();
        site.ok("unload --all");
        fs::remove_dir_all(site.path("state")).unwrap();
    }
}

/// An agent whose state lies on a small file system of its own, in a mount namespace of its own.
fn on_a_small_disk(site: &Site) -> (Agent, PathBuf) {
    let state = site.path("state");
    fs::create_dir_all(&state).unwrap();
    let mut agent = site.spawn_behind(&format!("mount -t tmpfs -o size=3m weir-small {}", state.display()));
    agent.wait_until_running();
    // As the agent sees it.
    let inside = PathBuf::from(format!("/proc/{}/root{}", agent.pid(), state.display()));
    assert!(inside.join("weir.db").exists() && !state.join("weir.db").exists());
    (agent, inside)
}

fn remount(site: &Site, agent: &Agent, how: &str) -> bool {
    let pid = agent.pid().to_string();
    let state = site.path("state");
    let mut mount = Command::new("nsenter");
    mount.args(["-t", &pid, "-m", "mount", "-o", &format!("remount,{how}")]).arg(state);
    mount.output().unwrap().status.success()
}

/// Ends the filling, however the test ends.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn on_a_full_disk(site: &Site) {
    wait_for("the disk to be missed", PATIENCE, || {
        // Each change takes some of the room that the store had left.
        let added = site.json(&format!("decisions add {OTHER} --for 1h")).remove(0);
        if added["note"].as_str().unwrap().contains("could not be stored") {
            return Some(());
        }
        site.ok(&format!("decisions delete {OTHER}"));
        None
    });
    assert_eq!(site.decision(OTHER)["enforced"], true);
    assert!(!site.passes(OTHER, 5353) && !site.passes(BAD, 5353) && site.passes(GOOD, 5353));
    assert!(lost(site, "attempts to store decisions") > 0 && warned(site, "was not stored"), "{}", site.status());
}

#[test]
fn enforcement_goes_on_over_a_full_and_a_read_only_disk_and_writing_resumes() {
    if !ready("enforcement_goes_on_over_a_full_and_a_read_only_disk_and_writing_resumes") {
        return;
    }
    let site = Site::new(&[BAD, OTHER, GOOD]);
    site.configure("enforce", "record:\n  enabled: false\n");
    let (agent, state) = on_a_small_disk(&site);
    site.ok(&format!("decisions add {BAD} --for 1h"));
    assert!(!site.passes(BAD, 5353) && site.passes(GOOD, 5353));

    // Full to the last page, also where the store gives some back.
    let (filling, done) = (fs::File::create(state.join("filling")).unwrap(), AtomicBool::new(false));
    std::thread::scope(|s| {
        s.spawn(|| {
            let (page, mut at) = ([0x5a; 4096], 0);
            while !done.load(Ordering::Acquire) {
                match filling.write_all_at(&page, at) {
                    Ok(()) => at += 4096,
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        let _done = Done(&done);
        on_a_full_disk(&site);
    });
    drop(filling);
    let epochs = site.status()["epochs"].as_u64().unwrap();

    // An operator looks after the file system: nothing of the agent stands in the way.
    wait_for("nobody to write", PATIENCE, || remount(&site, &agent, "ro").then_some(()));
    site.ok(&format!("decisions delete {OTHER}"));
    assert!(site.passes(OTHER, 5353), "deleting holds as well");
    site.ok(&format!("decisions add {OTHER} --for 2h"));
    assert!(!site.passes(OTHER, 5353) && !site.passes(BAD, 5353) && site.passes(GOOD, 5353));
    wait_for("epochs to go on", PATIENCE, || (site.status()["epochs"].as_u64().unwrap() > epochs + 2).then_some(()));

    assert!(remount(&site, &agent, "rw"));
    fs::remove_file(state.join("filling")).unwrap();
    wait_for("the state to be stored again", PATIENCE, || (!warned(&site, "was not stored")).then_some(()));
    // What waited in memory is on record, in order.
    let history = wait_for("the history", PATIENCE, || {
        let history = site.json(&format!("decisions history --target {OTHER}"));
        (history.iter().filter(|h| h["change"] == "added").count() >= 2).then_some(history)
    });
    assert_eq!((&history[0]["change"], &history[1]["change"]), (&"enforced".into(), &"added".into()), "{history:?}");
    let calls = site.json("audit list");
    assert!(calls.iter().filter(|c| c["call"] == "decisions delete").count() >= 1, "{calls:?}");
    // And the state is: another agent finds it.
    agent.signal(nix::sys::signal::Signal::SIGSTOP);
    let copy = site.path("copy");
    fs::create_dir(&copy).unwrap();
    for file in ["weir.db", "weir.db-wal"] {
        if state.join(file).exists() {
            fs::copy(state.join(file), copy.join(file)).unwrap();
        }
    }
    agent.kill();
    for file in fs::read_dir(&copy).unwrap().flatten() {
        fs::copy(file.path(), site.path("state").join(file.file_name())).unwrap();
    }
    let _agent = site.start();
    assert_eq!(site.json("decisions list").len(), 2);
    assert!(!site.passes(OTHER, 5353) && !site.passes(BAD, 5353) && site.passes(GOOD, 5353));
}

#[test]
fn an_agent_does_not_start_on_a_full_disk_and_what_the_kernel_holds_stays() {
    if !ready("an_agent_does_not_start_on_a_full_disk_and_what_the_kernel_holds_stays") {
        return;
    }
    let site = Site::new(&[BAD, GOOD]);
    let agent = site.start();
    site.ok(&format!("decisions add {BAD} --for 1h"));
    assert!(!site.passes(BAD, 5353) && site.passes(GOOD, 5353));
    agent.kill();
    let state = site.path("state").display().to_string();
    let fill = format!("mount -t tmpfs -o size=64k weir-full {state} && ! cat /dev/zero 2>&- > {state}/filling");
    let mut agent = site.spawn_behind(&fill);
    let code = agent.ends();
    assert_eq!(code, Some(1));
    let log = agent.own_log();
    assert!(log.contains("No space left on device") && log.contains("make room there"), "{log}");
    assert!(!site.passes(BAD, 5353) && site.passes(GOOD, 5353), "no agent, and no gap");
    // With room it goes on from what was stored.
    let _agent = site.start();
    assert_eq!(site.decision(BAD)["enforced"], true);
    site.ok(&format!("decisions delete {BAD}"));
    assert!(site.passes(BAD, 5353));
}

/// Lets a program see another wall clock: a library that the loader puts in front of the system's.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
static const volatile long *step;
__attribute__((constructor)) static void look(void) {
    int file = open(getenv("WEIR_TEST_CLOCK"), O_RDONLY);
    void *at = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (file < 0 || at == MAP_FAILED) abort();
    step = at;
}
int clock_gettime(clockid_t clock, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(clock, t);
    if (!done && clock == CLOCK_REALTIME && step) t->tv_sec += *step;
    return done;
}
"#;

#[test]
fn a_wall_clock_that_steps_by_a_day_neither_ends_nor_prolongs_entries() {
    if !ready("a_wall_clock_that_steps_by_a_day_neither_ends_nor_prolongs_entries") {
        return;
    }
    let site = Site::new(&[BAD, OTHER, GOOD]);
    let (source, shim, clock) = (site.path("shim.c"), site.path("shim.so"), site.path("clock"));
    fs::write(&source, SHIM).unwrap();
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&shim, &source]).arg("-ldl").output();
    let cc = cc.expect("a C compiler, which building needs too");
    assert!(cc.status.success(), "{}", text(&cc.stderr));
    let step = |seconds: i64| {
        let file = fs::File::options().create(true).truncate(false).write(true).open(&clock).unwrap();
        file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    };
    const DAY: i64 = 86_400;
    step(0);
    let agent = site.spawn_with(&[("LD_PRELOAD", &shim), ("WEIR_TEST_CLOCK", &clock)]);
    let epochs = |more| {
        let now = site.status()["epochs"].as_u64().unwrap();
        wait_for("epochs", PATIENCE, || (site.status()["epochs"].as_u64().unwrap() >= now + more).then_some(()));
    };
    site.ok(&format!("decisions add {BAD} --for 1h"));
    let before = site.decision(BAD);
    for (to, way) in [(DAY, "forward by 1d"), (-DAY, "back by 2d"), (0, "forward by 1d")] {
        let short = Instant::now();
        site.ok(&format!("decisions add {OTHER} --for 4s"));
        step(to);
        epochs(3);
        assert!(agent.own_log().contains(&format!("the wall clock was set {way}")), "{}", agent.own_log());
        assert!(!site.passes(BAD, 5353), "{way}: it has not ended");
        assert_eq!(site.decision(BAD)["enforced"], true);
        if short.elapsed() < Duration::from_secs(3) {
            assert!(!site.passes(OTHER, 5353), "{way}: its time is not over");
        }
        std::thread::sleep(Duration::from_millis(4300).saturating_sub(short.elapsed()));
        assert!(site.passes(OTHER, 5353), "{way}: it is not prolonged");
        epochs(2);
        assert_eq!(site.json("decisions list").len(), 1, "{way}");
        assert!(site.passes(GOOD, 5353));
    }
    // Back where it was, so is the end.
    let minute = |d: &Value| d["expires"].as_str().unwrap()[..16].to_owned();
    assert_eq!(minute(&site.decision(BAD)), minute(&before));
    agent.kill();
    let _agent = site.start();
    assert!(!site.passes(BAD, 5353));
    assert_eq!(minute(&site.decision(BAD)), minute(&before));
}

#[test]
fn what_happened_to_decisions_and_who_asked_for_it_is_on_record_over_a_kill() {
    if !ready("what_happened_to_decisions_and_who_asked_for_it_is_on_record_over_a_kill") {
        return;
    }
    let site = Site::new(&[BAD, OTHER]);
    let agent = site.start();
    assert_eq!(site.ok("decisions history"), "nothing happened to any decision\n");
    site.ok(&format!("decisions add {BAD} --for 1h --reason scans"));
    assert!(!site.passes(BAD, 5353));
    site.ok(&format!("decisions delete {BAD}"));
    site.ok(&format!("decisions add {OTHER} --for 1s"));
    site.fails("decisions delete 4711");
    site.ok("allowlist add 10.77.0.99 --comment office");
    wait_for("its end", PATIENCE, || {
        let history = site.json(&format!("decisions history --target {OTHER}"));
        history.iter().any(|h| h["change"] == "expired").then_some(())
    });
    agent.kill();
    let _agent = site.start();
    let history = site.json(&format!("decisions history --target {BAD} --since 1h"));
    let changes: Vec<&str> = history.iter().rev().map(|h| h["change"].as_str().unwrap()).collect();
    assert_eq!(changes, ["added", "enforced", "deleted"]);
    assert_eq!(history[0]["packets"], 3, "what it met in all: {}", history[0]);
    assert!(history[0]["note"].as_str().unwrap().contains("by uid 0"), "{}", history[0]);
    let calls = site.json("audit list --since 1h");
    let told: Vec<(&str, bool)> =
        calls.iter().rev().map(|c| (c["call"].as_str().unwrap(), c["ok"].as_bool().unwrap())).collect();
    let expected = [
        ("decisions add", true),
        ("decisions delete", true),
        ("decisions add", true),
        ("decisions delete", false),
        ("allowlist add", true),
    ];
    assert_eq!(told, expected);
    assert!(calls.iter().all(|c| c["caller"].as_str().unwrap().starts_with("uid 0")), "{calls:?}");
    assert!(calls[1]["result"].as_str().unwrap().contains("4711"), "{calls:?}");
    let csv = site.ok("audit list -o csv");
    assert_eq!(csv.lines().next(), Some("call,caller,ok,result,subject,time"));
    assert!(site.ok("audit list").contains("refused: "));
}
