//! Datagrams from two neighbours of the machine: one that is blocked in time, and one that must always pass.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::BAD;
use super::machine::Machine;
use crate::lab::net::in_namespace;

pub const GOOD: &str = "10.79.0.68";
const SERVER: &str = "10.79.0.1:5353";
/// Between two datagrams of one sender.
const PACE: Duration = Duration::from_millis(2);

pub struct Traffic {
    server: UdpSocket,
    senders: [UdpSocket; 2],
}

#[derive(Debug, Default)]
pub struct Counts {
    pub bad_sent: u64,
    pub bad_arrived: u64,
    pub good_sent: u64,
    pub good_arrived: u64,
}

impl Traffic {
    pub fn new(machine: &Machine) -> Result<Self> {
        let server = in_namespace(&machine.inside, || UdpSocket::bind(SERVER))?
            .context("cannot listen in the machine's namespace")?;
        server.set_read_timeout(Some(Duration::from_millis(500)))?;
        let sender = |from: &str| -> Result<UdpSocket> {
            let socket = in_namespace(&machine.peer, || UdpSocket::bind((from, 0)))?
                .with_context(|| format!("cannot send from {from}"))?;
            socket.connect(SERVER)?;
            Ok(socket)
        };
        Ok(Self { server, senders: [sender(BAD)?, sender(GOOD)?] })
    }

    /// Sends from both while `work` goes on, and until a moment after.
    pub fn during(&self, work: impl FnOnce() -> Result<()>) -> Result<Counts> {
        let stop = AtomicBool::new(false);
        let sent = [AtomicU64::new(0), AtomicU64::new(0)];
        let mut arrived = BTreeMap::new();
        let worked = std::thread::scope(|s| {
            let sending = s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for (socket, sent) in self.senders.iter().zip(&sent) {
                        if socket.send(b"weir").is_ok() {
                            sent.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    std::thread::sleep(PACE);
                }
            });
            let server = &self.server;
            let receiving = s.spawn(move || {
                let mut arrived: BTreeMap<IpAddr, u64> = BTreeMap::new();
                let mut buffer = [0; 16];
                // Ends in a silence, once nothing is sent any more.
                loop {
                    match server.recv_from(&mut buffer) {
                        Ok((_, from)) => *arrived.entry(from.ip()).or_default() += 1,
                        Err(_) if sending.is_finished() => return arrived,
                        Err(_) => {}
                    }
                }
            });
            let worked = work();
            std::thread::sleep(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
            arrived = receiving.join().unwrap_or_default();
            worked
        });
        worked?;
        let of =
            |address: &str| address.parse().ok().and_then(|a: IpAddr| arrived.get(&a)).copied().unwrap_or_default();
        let [bad_sent, good_sent] = sent.map(AtomicU64::into_inner);
        Ok(Counts { bad_sent, bad_arrived: of(BAD), good_sent, good_arrived: of(GOOD) })
    }

    pub fn expect(&self, bad: bool, good: bool, when: &str) -> Result<()> {
        let counts = self.during(|| Ok(()))?;
        let all = |arrived: u64, sent: u64, passes: bool| sent > 0 && arrived == if passes { sent } else { 0 };
        ensure!(
            all(counts.bad_arrived, counts.bad_sent, bad) && all(counts.good_arrived, counts.good_sent, good),
            "{when}, {counts:?}: expected {BAD} to {} and {GOOD} to {}",
            if bad { "pass" } else { "be stopped" },
            if good { "pass" } else { "be stopped" }
        );
        Ok(())
    }
}
