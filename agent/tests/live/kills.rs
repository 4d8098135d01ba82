//! `kill -9` again and again while packets come in.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir_common::counters::Reason;

use crate::flood::{Flood, Mix, counter};
use crate::site::*;
use crate::support::*;

const PORT: u16 = 7777;
const KILLS: u32 = 50;
/// One in so many waits until the agent runs; the others are killed as they start.
const RUNNING: u32 = 5;
/// Between two packets of a source.
const PACE: Duration = Duration::from_micros(500);

/// Numbered packets of one source at a steady pace, until dropped.
struct Sender {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sender {
    fn start(socket: UdpSocket, to: SocketAddr) -> Self {
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopping) = (sent.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut due = Instant::now();
            while !stopping.load(Ordering::Acquire) {
                // Counted first: whoever reads the count knows that no later number was under way then.
                let number = count.fetch_add(1, Ordering::AcqRel);
                socket.send_to(&number.to_be_bytes(), to).unwrap();
                due += PACE;
                match due.checked_duration_since(Instant::now()) {
                    Some(left) => std::thread::sleep(left),
                    // Held up by a busy machine: no burst to make up for it, which a ring would not hold.
                    None => due = Instant::now(),
                }
            }
        });
        Self { sent, stop, thread: Some(thread) }
    }

    /// The number that the next packet gets.
    fn next(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    fn finish(mut self) -> u64 {
        self.end();
        self.next()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.end();
    }
}

/// Everything that arrives: who, and which number.
struct Receiver {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<(IpAddr, u64)>>>,
}

impl Receiver {
    fn start(socket: UdpSocket) -> Self {
        // A receiver that waits for the processor must not lose what the agent let through.
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(32 << 20)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut got, mut buffer) = (Vec::new(), [0; 8]);
            loop {
                match socket.recv_from(&mut buffer) {
                    Ok((8, from)) => got.push((from.ip(), u64::from_be_bytes(buffer))),
                    Ok(other) => panic!("{other:?}"),
                    // Silence behind the end of the senders: that was all.
                    Err(_) if stopping.load(Ordering::Acquire) => return got,
                    Err(_) => {}
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }

    fn finish(mut self) -> Vec<(IpAddr, u64)> {
        self.stop.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// Up to `max_ms`; the sequence is another one each time, and said.
struct Delays(u64);

impl Delays {
    fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = now.as_nanos() as u64 | 1;
        eprintln!("delays from seed {seed}");
        Self(seed)
    }

    fn next(&mut self, max_ms: u64) -> Duration {
        // xorshift64 (Marsaglia 2003).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(self.0 % max_ms)
    }
}

#[test]
fn fifty_kills_let_no_blocked_packet_in_and_lose_no_allowed_one() {
    if !ready("fifty_kills_let_no_blocked_packet_in_and_lose_no_allowed_one") {
        return;
    }
    let (good, bad) = ("10.77.0.67", "10.77.0.66");
    let site = Site::new(&[good, bad]);
    let agent = site.start();
    let server = SocketAddr::new(SERVER_V4.parse().unwrap(), PORT);
    let receiver = Receiver::start(site.server.udp(server));
    // Both have the host's hardware address before the pace begins: a queue that waits for one is short.
    assert!(site.passes(good, 5353) && site.passes(bad, 5353));
    let before = site.peer.ring_drops(INTERFACE);
    let from = |ip: &str| site.peer.udp(SocketAddr::new(ip.parse().unwrap(), 0));
    let senders = [good, bad].map(|ip| Sender::start(from(ip), server));
    std::thread::sleep(Duration::from_millis(200));

    site.ok(&format!("decisions add {bad} -a drop --for 1h"));
    let blocked_from = senders[1].next();
    agent.kill();
    let mut delays = Delays::new();
    for n in 1..KILLS {
        let mut agent = site.spawn();
        // Some while they start, some while they run.
        if n % RUNNING == 0 {
            agent.wait_until_running();
        }
        std::thread::sleep(delays.next(300));
        agent.kill();
    }
    let last = site.start();
    let decision = site.decision(bad);
    let [good_sent, bad_sent] = senders.map(Sender::finish);
    let got = receiver.finish();
    let ring = site.peer.ring_drops(INTERFACE) - before;

    let of = |ip: &str| {
        let ip: IpAddr = ip.parse().unwrap();
        let mut numbers: Vec<u64> = got.iter().filter(|(from, _)| *from == ip).map(|(_, n)| *n).collect();
        numbers.sort_unstable();
        numbers
    };
    let (arrived, leaked) = (of(good), of(bad));
    eprintln!(
        "allowed: {good_sent} sent, {} arrived; blocked: {bad_sent} sent, {} arrived, all before the block; {ring} ring drops",
        arrived.len(),
        leaked.len()
    );
    assert!(!leaked.is_empty(), "nothing but the block stopped it");
    let behind: Vec<_> = leaked.iter().filter(|n| **n >= blocked_from).collect();
    assert!(behind.is_empty(), "{} packets behind the block (number {blocked_from}): {behind:?}", behind.len());
    let lost = good_sent - arrived.len() as u64;
    assert!(lost <= ring, "{lost} allowed packets are lost, and the ring dropped {ring}");
    assert!(good_sent > 2000, "there was traffic all the time: {good_sent}");

    // Every one of them met the entry: none was counted twice, and no restart set the count back.
    assert_eq!(decision["enforced"], true);
    let hits = site.decision(bad)["packets"].as_u64().unwrap();
    let stopped = bad_sent - leaked.len() as u64;
    assert!(hits <= stopped && hits + ring >= stopped, "{stopped} did not arrive, the entry met {hits}");
    last.stop();
}

#[test]
fn fifty_kills_under_a_flood_let_no_blocked_packet_in_and_lose_none_that_passed() {
    if !ready("fifty_kills_under_a_flood_let_no_blocked_packet_in_and_lose_none_that_passed") {
        return;
    }
    let (good, bad) = ("10.77.0.67", "10.77.0.66");
    let site = Site::new(&[good, bad]);
    let agent = site.start();
    let mut flood = Flood::start(&site, bad, good, Mix { bad: 104, good: 8 });
    flood.settle();
    assert!(flood.seen().bad > 0, "nothing but the block stops it");
    site.ok(&format!("decisions add {bad} -a drop --for 1h"));
    flood.settle();
    let (blocked, begin) = (flood.seen(), Instant::now());
    agent.kill();
    let mut delays = Delays::new();
    for n in 1..KILLS {
        let mut agent = site.spawn();
        if n % RUNNING == 0 {
            agent.wait_until_running();
        }
        std::thread::sleep(delays.next(200));
        agent.kill();
    }
    let took = begin.elapsed();
    let (sent, rate) = flood.finish();
    // What lies in the ring still comes in.
    std::thread::sleep(Duration::from_millis(300));
    let seen = flood.seen();
    eprintln!(
        "{KILLS} kills in {took:?} under {:.2} million packets/s: {sent:?} sent, {seen:?} came through",
        rate / 1e6
    );
    assert_eq!(seen.bad, blocked.bad, "packets of who is blocked, behind the block");
    // The agent's program counts what it lets pass, and the witness behind it counts what came: none passed without it, and
    // none was lost behind it.
    assert_eq!(flood.let_pass(&site), seen.all(), "let pass, and come through");
    assert!(seen.good > blocked.good && seen.good <= sent.good, "{seen:?} of {sent:?}");
    let dropped = counter(&site, Reason::InDropped);
    assert!(dropped > 10_000 && dropped <= sent.bad, "{dropped} dropped of {}", sent.bad);
    assert!(rate > 50_000.0, "only {rate:.0} packets/s");
    let last = site.start();
    assert_eq!(site.decision(bad)["packets"].as_u64(), Some(dropped), "and every drop is a hit of the decision");
    last.stop();
}

#[test]
fn a_kill_during_the_first_start_does_not_stand_in_the_way_of_the_next() {
    if !ready("a_kill_during_the_first_start_does_not_stand_in_the_way_of_the_next") {
        return;
    }
    let site = Site::new(&["10.77.0.66"]);
    let mut delays = Delays::new();
    // As soon as the first pin is there, a little later, and anywhere in the rest of the start.
    for longest in [1, 1, 5, 5, 20, 500, 500, 500, 500] {
        let agent = site.spawn();
        let pins = site.pins();
        wait_for("the first pins", PATIENCE, || pins.exists().then_some(()));
        let delay = delays.next(longest);
        std::thread::sleep(delay);
        agent.kill();
        if delay.as_millis() % 3 == 2 {
            // Somebody cleans up first.
            site.ok("unload --all");
            assert!(!pins.exists(), "killed {delay:?} behind the first pin");
        }
        let next = site.start();
        site.ok("decisions add 10.77.0.66");
        assert!(!site.passes("10.77.0.66", 5353), "killed {delay:?} behind the first pin");
        drop(next);
        site.ok("unload --all");
        std::fs::remove_dir_all(site.path("state")).unwrap();
    }
}
