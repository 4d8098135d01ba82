//! Following events, and the event log.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::site::*;
use crate::support::*;

/// `weir watch`; ended at the end.
struct Watcher {
    child: Child,
    lines: Receiver<String>,
}

impl Watcher {
    fn start(site: &Site, arguments: &str) -> Self {
        let mut command = Command::new(WEIR);
        command.arg("--socket").arg(site.path("weir.sock")).arg("watch").args(arguments.split_whitespace());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (to, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|l| to.send(l)));
        Self { child, lines }
    }

    /// The next line that tells of this decision and change.
    fn decision(&self, target: &str, change: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("{change} of {target}: {e}"));
            if is_decision(&line, target, change) {
                return line;
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_decision(line: &str, target: &str, change: &str) -> bool {
    let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    event["event_type"] == "decision" && event["decision"]["target"] == target && event["decision"]["change"] == change
}

#[test]
fn decisions_are_seen_by_watchers_and_in_the_event_log_which_can_be_rotated() {
    if !ready("decisions_are_seen_by_watchers_and_in_the_event_log_which_can_be_rotated") {
        return;
    }
    let site = Site::new(&["10.77.0.66"]);
    let agent = site.start();
    let watcher = Watcher::start(&site, "-k decision -o json");
    // It does not say when it listens: until it is heard.
    let mut n = 0;
    wait_for("the watcher to listen", PATIENCE, || {
        n += 1;
        site.ok(&format!("decisions add 10.88.0.{n} -a shadow"));
        watcher.lines.try_recv().ok()
    });
    site.ok("decisions add 10.77.0.66 --for 1h --reason scans");
    let added = watcher.decision("10.77.0.66", "added");
    let enforced = watcher.decision("10.77.0.66", "enforced");
    site.ok("decisions delete 10.77.0.66");
    let deleted = watcher.decision("10.77.0.66", "deleted");
    let event: Value = serde_json::from_str(&added).unwrap();
    assert_eq!((&event["in_iface"], &event["decision"]["action"]), (&"weir0".into(), &"drop".into()));
    assert!(event["decision"]["reason"].as_str().unwrap().starts_with("scans, by uid 0"), "{event}");

    let file = site.path("events.json");
    let in_file = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    wait_for("the event log", PATIENCE, || in_file(&file).lines().any(|l| l == deleted).then_some(()));
    let log = in_file(&file);
    assert!(log.lines().any(|l| l == added) && log.lines().any(|l| l == enforced), "{log}");

    // As log rotation does it.
    let rotated = site.path("events.json.1");
    std::fs::rename(&file, &rotated).unwrap();
    site.ok("decisions add 10.77.0.66");
    wait_for("the last line of the old file", PATIENCE, || {
        in_file(&rotated).lines().any(|l| is_decision(l, "10.77.0.66", "added") && l != added).then_some(())
    });
    agent.signal(Signal::SIGHUP);
    wait_for("the new file", PATIENCE, || {
        let reloaded = |l: &str| serde_json::from_str::<Value>(l).unwrap()["agent"]["kind"] == "reloaded";
        in_file(&file).lines().any(reloaded).then_some(())
    });
    let closed = in_file(&rotated);
    site.ok("decisions delete 10.77.0.66");
    wait_for("an event in the new file", PATIENCE, || {
        in_file(&file).lines().any(|l| is_decision(l, "10.77.0.66", "deleted")).then_some(())
    });
    assert_eq!(in_file(&rotated), closed, "the old file is let go");
    // People see one line without any of that.
    let people = Watcher::start(&site, "");
    let line = wait_for("a line for people", PATIENCE, || {
        n += 1;
        site.ok(&format!("decisions add 10.88.0.{n} -a shadow"));
        people.lines.try_recv().ok()
    });
    assert!(line.contains("10.88.0.") && !line.starts_with('{'), "{line}");
    agent.stop();
}

#[test]
fn watchers_wait_for_an_agent_that_was_restarted_and_miss_nothing_that_it_tells() {
    if !ready("watchers_wait_for_an_agent_that_was_restarted_and_miss_nothing_that_it_tells") {
        return;
    }
    let site = Site::new(&["10.77.0.66"]);
    let agent = site.start();
    let (stays, ends) = (Watcher::start(&site, "-k decision -o json"), Watcher::start(&site, "--no-reconnect -o json"));
    let mut n = 0;
    for watcher in [&stays, &ends] {
        wait_for("the watcher to listen", PATIENCE, || {
            n += 1;
            site.ok(&format!("decisions add 10.88.0.{n} -a shadow"));
            watcher.lines.try_recv().ok()
        });
    }
    let mut ends = ends;
    agent.kill();
    let ended = wait_for("the one that is not to wait", PATIENCE, || ends.child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(1));
    let _agent = site.start();
    // Told before the watcher has found the agent again, as likely as not.
    site.ok("decisions add 10.77.0.66 --for 1h");
    stays.decision("10.77.0.66", "added");
    stays.decision("10.77.0.66", "enforced");
}
