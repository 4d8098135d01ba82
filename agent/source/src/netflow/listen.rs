//! A collector on a UDP socket, in a thread of its own.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use weir_core::addr::{Addr, Prefix};
use weir_core::home::Home;

use super::{Collector, Limits};
use crate::report::Report;
use crate::sink::Observation;

/// How long the thread waits for a datagram before it looks for what else is due, and for the word to stop.
const WAIT: Duration = Duration::from_millis(250);
/// Batches of flows that may lie unread.
const BATCHES: usize = 64;
/// Flows of one batch: as many are handed over at once, or fewer after [`WAIT`].
const BATCH: usize = 4096;

/// Where to listen, and to whom.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Anybody who reaches this address can make flows up: the loopback address, or a network that is trusted.
    pub listen: SocketAddr,
    /// Whose datagrams are taken; empty: everybody's.
    pub exporters: Vec<Prefix>,
    pub home: Home,
    pub limits: Limits,
}

/// What the thread counts while it runs.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    datagrams: AtomicU64,
    refused: AtomicU64,
    unread: AtomicU64,
}

/// A thread that collects. Dropping it ends the thread.
pub struct Listener {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Report>>,
    local: SocketAddr,
}

impl Listener {
    /// Binds the socket and starts the thread. Flows come out of the receiver in batches; the one who reads too slowly
    /// loses flows, which are counted, and no datagrams.
    ///
    /// # Errors
    /// The address cannot be bound, or no thread be started.
    pub fn start(options: ListenOptions) -> io::Result<(Self, Receiver<Vec<Observation>>)> {
        let socket = UdpSocket::bind(options.listen)?;
        socket.set_read_timeout(Some(WAIT))?;
        let local = socket.local_addr()?;
        let (send, receive) = sync_channel(BATCHES);
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = thread::Builder::new()
            .name("netflow".into())
            .spawn(move || Loop { socket, options, shared: theirs, send }.run())?;
        Ok((Self { shared, thread: Some(thread), local }, receive))
    }

    /// Where it listens: the port, where port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
    /// Datagrams taken so far.
    pub fn datagrams(&self) -> u64 {
        self.shared.datagrams.load(Ordering::Relaxed)
    }
    /// Datagrams of senders that are not allowed.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
    /// Flows lost because nobody read them in time.
    pub fn unread(&self) -> u64 {
        self.shared.unread.load(Ordering::Relaxed)
    }

    /// Ends the thread. What waits for its other direction comes out before, as the last batches. The report of it all.
    pub fn stop(mut self) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|t| t.join().ok()).unwrap_or_default()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

struct Loop {
    socket: UdpSocket,
    options: ListenOptions,
    shared: Arc<Shared>,
    send: SyncSender<Vec<Observation>>,
}

impl Loop {
    fn run(self) -> Report {
        let mut collector = Collector::new(self.options.limits.clone(), self.options.home.clone());
        let (mut flows, mut report) = (Vec::new(), Report::default());
        let mut datagram = vec![0; 65_536];
        let (mut alive, mut handed_over) = (true, Instant::now());
        while alive && !self.shared.stop.load(Ordering::Relaxed) {
            match self.socket.recv_from(&mut datagram) {
                Ok((n, from)) => {
                    let datagram = datagram.get(..n).unwrap_or_default();
                    if self.allowed(from.ip()) {
                        report.read += 1;
                        self.shared.datagrams.fetch_add(1, Ordering::Relaxed);
                        collector.ingest(datagram, Some(from), now_us(), &mut flows);
                    } else {
                        self.shared.refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                    collector.flush(now_us(), &mut flows);
                }
                Err(e) => {
                    // Such errors pass (memory, a network that goes down); a busy loop would not help.
                    report.warn(format!("the socket for NetFlow failed to receive: {e}"));
                    thread::sleep(WAIT);
                }
            }
            if flows.len() >= BATCH || handed_over.elapsed() >= WAIT {
                alive = self.hand_over(&mut flows, &mut report);
                handed_over = Instant::now();
            }
        }
        collector.finish(&mut flows);
        self.hand_over(&mut flows, &mut report);
        collector.report(&mut report);
        let refused = self.shared.refused.load(Ordering::Relaxed);
        if refused > 0 {
            *report.left_out.entry("datagram of a sender that is not allowed").or_default() += refused;
        }
        let unread = self.shared.unread.load(Ordering::Relaxed);
        if unread > 0 {
            report.warn(format!("{unread} flows were given up because nobody took them in time"));
        }
        report
    }

    fn allowed(&self, from: IpAddr) -> bool {
        let allowed = &self.options.exporters;
        let from = Addr::from(from.to_canonical());
        allowed.is_empty() || allowed.iter().any(|p| p.contains(from))
    }

    /// Whether somebody still reads.
    fn hand_over(&self, flows: &mut Vec<Observation>, report: &mut Report) -> bool {
        while !flows.is_empty() {
            let rest = flows.split_off(flows.len().min(BATCH));
            let batch = std::mem::replace(flows, rest);
            let n = batch.len() as u64;
            match self.send.try_send(batch) {
                Ok(()) => report.flows += n,
                Err(TrySendError::Full(_)) => {
                    self.shared.unread.fetch_add(n, Ordering::Relaxed);
                }
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
        true
    }
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
}
