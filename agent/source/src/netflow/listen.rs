//! A collector on a UDP socket, in a thread of its own.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use weir_core::addr::{Addr, Prefix};
use weir_core::home::Home;

use super::{Clocks, Collector, Limits};
use crate::report::Report;
use crate::sink::Observation;

/// How long the thread waits for a datagram before it looks for what else is due, and for the word to stop.
const WAIT: Duration = Duration::from_millis(250);
/// Batches of flows that may lie unread.
const BATCHES: usize = 16;
/// Flows of one batch: as many are handed over at once, or fewer after [`WAIT`].
const BATCH: usize = 4096;

const REFUSED: &str = "datagram of a sender that is not allowed";

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

/// What a listener has come to so far; at most a quarter of a second old.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Taken, whatever was in them.
    pub datagrams: u64,
    /// Records that tell of flows.
    pub records: u64,
    /// Flows handed over: of two records, one for each direction, comes one flow.
    pub flows: u64,
    /// Exporters known now, by address and port.
    pub exporters: usize,
    /// Templates known now.
    pub templates: usize,
    /// Records that wait for the other direction.
    pub unpaired: usize,
    /// Bytes of data sets that wait for their template.
    pub waiting_bytes: usize,
    /// Bytes of memory for all of that.
    pub memory: usize,
    /// What was given up or never came, by reason in words.
    pub dropped: BTreeMap<&'static str, u64>,
    pub clocks: Clocks,
    /// Records that name a sampler which no options record describes: counted as they are.
    pub sampler_unknown: u64,
    /// The largest sampling seen: one in so many packets was looked at.
    pub sampling: u32,
}

/// What the thread and its owner tell each other.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    datagrams: AtomicU64,
    refused: AtomicU64,
    unread: AtomicU64,
    tally: Mutex<Tally>,
    /// Other exporters and another home, from the next datagram on.
    settings: Mutex<Option<(Vec<Prefix>, Home)>>,
    changed: AtomicBool,
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
        Self::on(UdpSocket::bind(options.listen)?, options)
    }

    /// [`Listener::start`] on a socket that is bound already; `options.listen` is not looked at.
    ///
    /// # Errors
    /// The socket takes no timeout, or no thread can be started.
    pub fn on(socket: UdpSocket, options: ListenOptions) -> io::Result<(Self, Receiver<Vec<Observation>>)> {
        socket.set_read_timeout(Some(WAIT))?;
        let local = socket.local_addr()?;
        let (send, receive) = sync_channel(BATCHES);
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = thread::Builder::new()
            .name("netflow".into())
            .spawn(move || Loop { socket, options, shared: theirs, send, handed: 0, sampling: 1 }.run())?;
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

    /// What has come and what became of it.
    pub fn tally(&self) -> Tally {
        self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hears others from now on, and sees them from another home.
    pub fn configure(&self, exporters: Vec<Prefix>, home: Home) {
        *self.shared.settings.lock().unwrap_or_else(PoisonError::into_inner) = Some((exporters, home));
        self.shared.changed.store(true, Ordering::Release);
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
    handed: u64,
    sampling: u32,
}

impl Loop {
    fn run(mut self) -> Report {
        let mut collector = Collector::live(self.options.limits.clone(), self.options.home.clone());
        let (mut flows, mut report) = (Vec::new(), Report::default());
        let mut datagram = vec![0; 65_536];
        let (mut alive, mut handed_over) = (true, Instant::now());
        while alive && !self.shared.stop.load(Ordering::Relaxed) {
            let received = self.socket.recv_from(&mut datagram);
            if self.shared.changed.swap(false, Ordering::Acquire) {
                self.settle(&mut collector);
            }
            match received {
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
                // Datagrams without end leave no silence to look for what has waited long enough.
                collector.flush(now_us(), &mut flows);
                alive = self.hand_over(&mut flows);
                self.publish(&collector);
                handed_over = Instant::now();
            }
        }
        collector.finish(&mut flows);
        self.hand_over(&mut flows);
        self.publish(&collector);
        collector.report(&mut report);
        report.flows = self.handed;
        let refused = self.shared.refused.load(Ordering::Relaxed);
        if refused > 0 {
            *report.left_out.entry(REFUSED).or_default() += refused;
        }
        let unread = self.shared.unread.load(Ordering::Relaxed);
        if unread > 0 {
            report.warn(format!("{unread} flows were given up because nobody took them in time"));
        }
        report
    }

    /// Takes new settings.
    fn settle(&mut self, collector: &mut Collector) {
        let new = self.shared.settings.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((exporters, home)) = new {
            self.options.exporters = exporters;
            collector.set_home(home);
        }
    }

    fn publish(&self, collector: &Collector) {
        let counts = collector.counts();
        let (mut records, mut datagrams) = (0, 0);
        for (_, r, d) in collector.decoder().losses() {
            (records, datagrams) = (records + r, datagrams + d);
        }
        let more = [
            (REFUSED, self.shared.refused.load(Ordering::Relaxed)),
            ("flow that nobody took in time", self.shared.unread.load(Ordering::Relaxed)),
            ("record lost on the way, by the exporter's numbering", records),
            ("datagram lost on the way, by the exporter's numbering", datagrams),
            ("exporter forgotten to make room", collector.decoder().exporters_forgotten()),
            ("flow that could not wait for its other direction", collector.pairer().crowded_out),
        ];
        let tally = Tally {
            datagrams: self.shared.datagrams.load(Ordering::Relaxed),
            records: counts.records,
            flows: self.handed,
            exporters: collector.decoder().exporters(),
            templates: collector.decoder().templates(),
            unpaired: collector.pairer().len(),
            waiting_bytes: collector.decoder().waiting(),
            memory: collector.memory(),
            dropped: collector.left_out().chain(more).filter(|(_, n)| *n > 0).collect(),
            clocks: collector.clocks(),
            sampler_unknown: counts.sampler_unknown,
            sampling: self.sampling,
        };
        *self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner) = tally;
    }

    fn allowed(&self, from: IpAddr) -> bool {
        let allowed = &self.options.exporters;
        let from = Addr::from(from.to_canonical());
        allowed.is_empty() || allowed.iter().any(|p| p.contains(from))
    }

    /// Whether somebody still reads.
    fn hand_over(&mut self, flows: &mut Vec<Observation>) -> bool {
        while !flows.is_empty() {
            let rest = flows.split_off(flows.len().min(BATCH));
            let batch = std::mem::replace(flows, rest);
            let n = batch.len() as u64;
            self.sampling = batch.iter().map(|f| f.sampling).fold(self.sampling, u32::max);
            match self.send.try_send(batch) {
                Ok(()) => self.handed += n,
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
