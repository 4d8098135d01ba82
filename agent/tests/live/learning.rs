//! Learning in place, promotion, and a bundle that was damaged.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::site::*;
use crate::support::*;

const PORT: u16 = 8080;
const CLIENTS: u8 = 24;
const LEARN: &str = "flow:\n  linger: 0s\nlearn:\n  duration: 10s\n  min_flows: 200\n  min_windows: 0\n";

/// Requests of varying size from many addresses, a few at a time, until dropped.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    pub fn start(site: &Site) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let to = SocketAddr::new(SERVER_V4.parse().unwrap(), PORT);
        let listener = site.server.enter(|| TcpListener::bind(to)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stopping = stop.clone();
        let mut threads = vec![std::thread::spawn(move || {
            while !stopping.load(Ordering::Acquire) {
                match listener.accept() {
                    Ok((stream, _)) => drop(std::thread::spawn(move || answer(stream))),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        })];
        for worker in 0..3u8 {
            let (stopping, path) = (stop.clone(), PathBuf::from("/run/netns").join(site.peer.name()));
            threads.push(std::thread::spawn(move || {
                setns(std::fs::File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
                for n in 0u32.. {
                    if stopping.load(Ordering::Acquire) {
                        return;
                    }
                    let host = 10 + (n as u8 % (CLIENTS / 3)) * 3 + worker;
                    // A listener that has just closed refuses.
                    let _ = ask(IpAddr::from([10, 77, 0, host]), to, n);
                    std::thread::sleep(Duration::from_millis(10 + u64::from(n * 7 % 13)));
                }
            }));
        }
        Self { stop, threads }
    }
}

fn ask(from: IpAddr, to: SocketAddr, n: u32) -> std::io::Result<()> {
    let mut stream = connect_from(from, to)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(&vec![b'q'; 60 + (n as usize * 37) % 400])?;
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

fn answer(mut stream: TcpStream) {
    let mut request = Vec::new();
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    if stream.read_to_end(&mut request).is_ok() {
        // Whoever asked may have gone.
        let _ = stream.write_all(&vec![b'a'; 200 + request.len() * 17 % 3000]);
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn flip_a_byte(site: &Site, id: &str) {
    let bundle = site.path("state").join("bundles").join(id);
    let models = std::fs::read_dir(bundle).unwrap().map(|e| e.unwrap().path());
    let model = models.filter(|p| p.extension().is_some_and(|e| e == "onnx")).min().expect("a model file");
    let mut bytes = std::fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(model, bytes).unwrap();
}

#[test]
fn a_learned_bundle_serves_once_promoted_and_is_refused_once_damaged() {
    if !ready("a_learned_bundle_serves_once_promoted_and_is_refused_once_damaged") {
        return;
    }
    let mut addresses: Vec<String> = (10..10 + CLIENTS).map(|n| format!("10.77.0.{n}")).collect();
    addresses.push("10.77.0.66".into());
    let site = Site::new(&addresses.iter().map(String::as_str).collect::<Vec<_>>());
    site.configure("enforce", LEARN);
    let agent = site.start();
    site.ok("decisions add 10.77.0.66 --for 1h");
    let status = site.status();
    assert_eq!((&status["mode_configured"], &status["mode_effective"]), (&"enforce".into(), &"shadow".into()));
    assert_eq!((&status["mode_reason"], &status["bundle"]), (&"nothing was learned yet".into(), &().into()));
    assert_eq!(status["learning"]["phase"], "collecting");
    assert!(site.fails("model promote").contains("there is no bundle yet"));

    let traffic = Traffic::start(&site);
    wait_for("a bundle", 3 * PATIENCE, || {
        let status = site.status();
        let failed = agent.own_log().contains("nothing was learned");
        assert!(!failed, "{status}");
        (!status["bundle"].is_null()).then_some(())
    });
    drop(traffic);
    let bundles = site.json("model status");
    assert_eq!(bundles.len(), 1, "{bundles:?}");
    assert_eq!((&bundles[0]["promoted"], &bundles[0]["current"]), (&false.into(), &true.into()));
    assert!(bundles[0]["flows"].as_u64().unwrap() > 0 && bundles[0]["windows"].as_u64().unwrap() > 0, "{bundles:?}");
    let id = bundles[0]["id"].as_str().unwrap().to_owned();
    let status = site.status();
    assert_eq!(status["mode_effective"], "shadow");
    assert_eq!(status["mode_reason"], "the bundle has not been promoted: `weir model promote`");
    assert!(!site.passes("10.77.0.66", 5353), "what a person blocks is blocked all along");

    site.ok("model promote");
    let promoted = || {
        let status = site.status();
        assert_eq!((&status["mode_effective"], &status["mode_reason"]), (&"enforce".into(), &"".into()), "{status}");
        assert_eq!((status["bundle"]["id"].as_str(), &status["bundle"]["promoted"]), (Some(&*id), &true.into()));
        assert!(status["learning"].is_null(), "{status}");
    };
    promoted();
    agent.kill();
    let agent = site.start();
    promoted();
    agent.stop();

    flip_a_byte(&site, &id);
    let agent = site.start();
    let log = agent.own_log();
    assert!(log.contains(&format!("bundle {id} cannot be used, learning anew")), "{log}");
    let status = site.status();
    assert!(status["warnings"].as_array().unwrap().iter().any(|w| w.as_str().unwrap().contains(&id)), "{status}");
    assert_eq!((&status["mode_effective"], &status["learning"]["phase"]), (&"shadow".into(), &"collecting".into()));
    assert!(status["bundle"].is_null(), "none serves: {status}");
    let listed = site.json("model status").remove(0);
    assert_eq!((listed["id"].as_str(), &listed["current"]), (Some(&*id), &false.into()), "it does not serve");
    let words = site.fails(&format!("model promote {id}"));
    assert!(words.contains(&id), "{words}");
    assert!(!site.passes("10.77.0.66", 5353) && site.passes("10.77.0.10", 5353), "entries go on");
    assert_eq!(site.decision("10.77.0.66")["enforced"], true);
    drop(agent);
}
