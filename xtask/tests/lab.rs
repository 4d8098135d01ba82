//! The lab cleans up after itself, however it ends. Runs it without Weir: this is about namespaces and processes.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A lab that starts removes what killed ones left, so only one test at a time.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

struct Lab {
    child: Child,
    name: String,
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Where the test went well it has ended; where not, SIGINT lets it clean up.
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(&self.child, libc::SIGINT);
            let _ = self.child.wait();
        }
    }
}

/// Starts a lab and waits until its clients run. `None`, and a line that says so, where it cannot run.
fn start() -> Option<Lab> {
    // SAFETY: geteuid takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        println!("SKIP: network namespaces need root");
        return None;
    }
    if Command::new("ip").arg("-V").output().is_err() {
        println!("SKIP: no `ip` in PATH (package iproute2)");
        return None;
    }
    let child = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["lab", "--without-weir"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the lab starts");
    let mut lab = Lab { child, name: String::new() };
    let mut lines = BufReader::new(lab.child.stdout.take().expect("its output is a pipe"));
    loop {
        let mut line = String::new();
        assert_ne!(lines.read_line(&mut line).expect("its output is text"), 0, "the lab ended too early");
        if let Some(at) = line.find("weir-lab-") {
            lab.name = line[at..].split("-server").next().expect("a name").to_owned();
        }
        if line.contains("honest clients, IPv4") {
            assert!(!lab.name.is_empty(), "the lab did not name its namespaces");
            // Read on, so that it never waits for us.
            std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
            return Some(lab);
        }
    }
}

fn namespaces(lab: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Vec::new() };
    let names = entries.filter_map(Result::ok).map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|n| n.starts_with(lab)).collect()
}

/// Processes of any lab role whose network namespace is one of this lab's cannot be told by name; those that hold its
/// folder's logs open can.
fn processes(lab: &str) -> usize {
    let folder = std::env::temp_dir().join(lab);
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let holds = |dir: &Path| {
        let stderr = std::fs::read_link(dir.join("fd/2")).unwrap_or_default();
        stderr.starts_with(&folder)
    };
    entries.filter_map(Result::ok).filter(|e| holds(&e.path())).count()
}

fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(child: &Child, signal: libc::c_int) {
    // SAFETY: kill takes no pointers, and the child has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
}

#[test]
fn a_signal_ends_the_lab_and_leaves_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    for number in [libc::SIGINT, libc::SIGTERM] {
        let Some(mut lab) = start() else { return };
        assert_eq!(namespaces(&lab.name).len(), 4);
        assert!(processes(&lab.name) >= 2, "server and clients run");
        signal(&lab.child, number);
        assert!(!lab.child.wait().expect("it ends").success(), "an interrupted lab is no success");
        assert_eq!(namespaces(&lab.name), Vec::<String>::new());
        assert_eq!(processes(&lab.name), 0);
        assert!(!std::env::temp_dir().join(&lab.name).exists());
    }
}

#[test]
fn what_a_killed_lab_leaves_is_removed_by_the_next() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let Some(mut killed) = start() else { return };
    signal(&killed.child, libc::SIGKILL);
    killed.child.wait().expect("it ends");
    // The kernel ends its processes with it.
    until("the killed lab's processes are gone", || processes(&killed.name) == 0);
    assert_eq!(namespaces(&killed.name).len(), 4, "nobody could remove them");
    let Some(mut next) = start() else { return };
    assert_eq!(namespaces(&killed.name), Vec::<String>::new());
    assert!(!std::env::temp_dir().join(&killed.name).exists());
    signal(&next.child, libc::SIGINT);
    next.child.wait().expect("it ends");
    assert_eq!(namespaces(&next.name), Vec::<String>::new());
}
