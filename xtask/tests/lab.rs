//! The lab cleans up after itself, however it ends. Runs it without Weir: this is about namespaces and processes. With Weir, the page that
//! it serves is there.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
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

/// Asks the page for a path, with a header; the whole answer.
fn get(at: &str, path: &str, header: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {at}\r\n{header}Connection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// As a user has it: the link that is printed lets somebody in, once, and Ctrl-C leaves nothing.
#[test]
fn the_page_of_the_lab_is_behind_the_link_that_it_prints() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    // SAFETY: geteuid takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return println!("SKIP: network namespaces need root");
    }
    let weir = Path::new(env!("CARGO_BIN_EXE_xtask")).with_file_name("weir");
    if !weir.exists() {
        return println!("SKIP: {} was not built; `cargo build` builds it", weir.display());
    }
    // What it learns first, the scenes of the lab use too.
    let mut child = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["lab", "--web", "--weir"])
        .arg(&weir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the lab starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output is a pipe"));
    let mut lab = Lab { child, name: String::new() };
    let link = loop {
        let mut line = String::new();
        assert_ne!(lines.read_line(&mut line).expect("its output is text"), 0, "the lab ended too early");
        // The last one named is the one that serves the page: another may have learned before.
        if let Some(at) = line.find("network namespaces weir-lab-") {
            let name = line[at..].split(' ').nth(2).expect("a name");
            lab.name = name.split("-server").next().expect("a name").to_owned();
        }
        if let Some(at) = line.find("http://").filter(|_| line.contains("/login?code=")) {
            break line[at..].trim().to_owned();
        }
    };
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    assert_eq!(namespaces(&lab.name).len(), 4, "{}", lab.name);
    let (at, path) = link.strip_prefix("http://").expect("it was found by that").split_once('/').expect("a path");
    let path = format!("/{path}");
    let login = get(at, &path, "").expect("the link is answered");
    let cookie = login.lines().find_map(|l| l.to_ascii_lowercase().starts_with("set-cookie:").then(|| &l[11..]));
    let cookie = cookie.unwrap_or_else(|| panic!("no login: {login}")).split(';').next().expect("a cookie").trim();
    let cookie = format!("Cookie: {cookie}\r\n");
    let session = get(at, "/api/v1/session", &cookie).expect("the session is answered");
    assert!(session.starts_with("HTTP/1.1 200") && session.contains("\"operator\""), "{session}");
    let page = get(at, "/", &cookie).expect("the page is answered");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<title>Weir</title>"), "{page}");
    let status = get(at, "/api/v1/status", &cookie).expect("the status is answered");
    assert!(status.contains("\"MODE_REVIEW\""), "{status}");
    let again = get(at, &path, "").expect("the link is answered again");
    assert!(!again.to_ascii_lowercase().contains("set-cookie:"), "a link is good once: {again}");
    signal(&lab.child, libc::SIGINT);
    assert!(lab.child.wait().expect("it ends").success(), "Ctrl-C is the way to end it");
    assert_eq!(namespaces(&lab.name), Vec::<String>::new());
    assert_eq!(processes(&lab.name), 0);
    assert!(!std::env::temp_dir().join(&lab.name).exists());
    assert!(TcpStream::connect(at).is_err(), "nothing answers at {at} any more");
}
