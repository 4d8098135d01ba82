//! As a service: what the service manager is told, and what stopping leaves.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::site::*;
use crate::support::*;

const PING: &str = "WATCHDOG=1\n";

/// The service manager's end of sd_notify(3).
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        Self(UnixDatagram::bind(path).unwrap())
    }

    /// The next message, or `None` when nothing comes for so long.
    fn next(&self, patience: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 4096];
        self.0.recv(&mut buffer).ok().map(|n| text(&buffer[..n]))
    }

    /// The next message that is no ping.
    fn news(&self) -> String {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            match self.next(PATIENCE) {
                Some(message) if message != PING => return message,
                _ => {}
            }
        }
        panic!("the service manager heard nothing new");
    }
}

#[test]
fn the_service_manager_hears_of_start_reload_and_end_and_of_a_loop_that_hangs() {
    if !ready("the_service_manager_hears_of_start_reload_and_end_and_of_a_loop_that_hangs") {
        return;
    }
    let site = Site::new(&["10.77.0.66"]);
    let socket = site.path("notify");
    let manager = Manager::at(&socket);
    let patience = Duration::from_millis(200);
    let micros = patience.as_micros().to_string();
    let agent = site.spawn_with(&[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", Path::new(&micros))]);
    let ready = manager.news();
    assert!(ready.starts_with("READY=1\nSTATUS=running on weir0, mode enforce"), "{ready}");
    assert!(!site.status().is_null(), "who is ready answers");
    assert_eq!(manager.next(PATIENCE).as_deref(), Some(PING));

    for by_signal in [false, true] {
        match by_signal {
            true => agent.signal(Signal::SIGHUP),
            false => assert!(site.ok("config reload").contains("nothing has changed")),
        }
        let words = manager.news();
        assert!(words.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{words}");
        assert_eq!(manager.news(), "READY=1\n");
    }

    // A loop that waits for something else does not say that it goes round.
    let mut db = rusqlite::Connection::open(site.path("state/weir.db")).unwrap();
    let held = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    std::thread::scope(|s| {
        s.spawn(|| site.weir("decisions add 10.77.0.66 --for 1h"));
        // Pings that were under way may still come.
        wait_for("silence", PATIENCE, || manager.next(5 * patience).is_none().then_some(()));
        held.rollback().unwrap();
    });
    assert_eq!(manager.next(PATIENCE).as_deref(), Some(PING), "and once it goes round again, it says so");

    agent.signal(Signal::SIGTERM);
    assert!(manager.news().starts_with("STOPPING=1\n"));
}

#[test]
fn stopping_keeps_or_unloads_as_configured_and_a_kill_always_keeps() {
    if !ready("stopping_keeps_or_unloads_as_configured_and_a_kill_always_keeps") {
        return;
    }
    let (bad, good) = ("10.77.0.66", "10.77.0.68");
    let site = Site::new(&[bad, good]);
    site.configure("enforce", "on_stop: unload\n");
    let agent = site.start();
    site.ok(&format!("decisions add {bad} --for 1h"));
    assert!(!site.passes(bad, 5353) && site.passes(good, 5353));
    agent.stop();
    assert!(site.passes(bad, 5353), "nothing is blocked any more: {}", site.log());
    assert!(site.xdp().is_none() && !site.pins().exists(), "and nothing is left in the kernel");

    // The decision is the agent's: the next one writes it again. Whoever falls over goes on enforcing.
    let agent = site.start();
    assert!(!site.passes(bad, 5353));
    agent.kill();
    assert!(!site.passes(bad, 5353) && site.pins().exists() && site.passes(good, 5353));

    let agent = site.start();
    site.configure("enforce", "on_stop: keep\n");
    assert!(site.ok("config reload").contains("on_stop"));
    agent.stop();
    assert!(!site.passes(bad, 5353) && site.xdp().is_some() && site.passes(good, 5353));
}
