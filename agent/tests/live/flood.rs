//! Packets made in the kernel, as many as it can, of who is blocked, who is not, and strangers of whom each is new; and a witness
//! behind the agent's program that counts what came through.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use weir_common::counters::{Counter, Reason};
use weir_common::names;
use weir_kernel::{link, pins, sys};

use crate::raw::{self, insn};
use crate::site::*;

/// Where all of it goes: nobody listens there.
pub const PORT: u16 = 7778;
/// Packets of one call, which begins and ends with tens of milliseconds of nothing.
const BURST: u32 = 64 * 2048;

/// Who sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub bad: u64,
    pub good: u64,
    pub strangers: u64,
    /// IP that is none of the flood.
    pub others: u64,
}

impl Counted {
    fn read(map: &OwnedFd) -> Self {
        let [bad, good, strangers, others] =
            [0u32, 1, 2, 3].map(|n| sys::lookup::<u32, u64>(map.as_fd(), &n).unwrap().unwrap());
        Self { bad, good, strangers, others }
    }

    pub fn all(&self) -> u64 {
        self.bad + self.good + self.strangers + self.others
    }
}

/// A datagram; its source is written by the program.
fn packet() -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    f.extend([0x45, 0, 0, 46, 0, 7, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0]);
    f.extend(SERVER_V4.parse::<Ipv4Addr>().unwrap().octets());
    f.extend(4000u16.to_be_bytes());
    f.extend(PORT.to_be_bytes());
    f.extend([0, 26, 0, 0]);
    f.resize(60, 0x63);
    f
}

/// As it lies in memory, and as a load by word gives it.
fn words(ip: &str) -> (i32, i32) {
    let octets = ip.parse::<Ipv4Addr>().unwrap().octets();
    (i32::from_ne_bytes(octets), i32::from_be_bytes(octets))
}

/// What becomes of 128 packets: so many are of who is bad, so many of who is good, and the others of strangers.
#[derive(Clone, Copy)]
pub struct Mix {
    pub bad: i32,
    pub good: i32,
}

/// Each packet goes out of the interface.
fn sender(bad: &str, good: &str, mix: Mix, ifindex: u32, sent: &OwnedFd) -> OwnedFd {
    const SOURCE: i16 = 26;
    const PRANDOM: i32 = 7;
    const REDIRECT: i32 = 23;
    let mut code = vec![
        insn(0x61, 8, 1, 0, 0),
        insn(0x61, 9, 1, 4, 0),
        insn(0xbf, 2, 8, 0, 0),
        insn(0x07, 2, 0, 0, i32::from(SOURCE) + 4),
        // Too short for an address, which it is not: dropped.
        insn(0xbd, 2, 9, 2, 0),
        insn(0xb7, 0, 0, 0, 1),
        insn(0x95, 0, 0, 0, 0),
        insn(0x85, 0, 0, 0, PRANDOM),
        insn(0xbf, 6, 0, 0, 0),
        insn(0x57, 6, 0, 0, 127),
        insn(0xb7, 7, 0, 0, 0),
        insn(0xb4, 0, 0, 0, words(bad).0),
        insn(0xa5, 6, 0, 7, mix.bad),
        insn(0xb7, 7, 0, 0, 1),
        insn(0xb4, 0, 0, 0, words(good).0),
        insn(0xa5, 6, 0, 4, mix.bad + mix.good),
        insn(0xb7, 7, 0, 0, 2),
        insn(0x85, 0, 0, 0, PRANDOM),
        insn(0x54, 0, 0, 0, !0xff),
        insn(0x44, 0, 0, 0, 11),
        insn(0x63, 8, 0, SOURCE, 0),
    ];
    code.extend(raw::count(sent));
    code.extend([
        insn(0xb7, 1, 0, 0, ifindex as i32),
        insn(0xb7, 2, 0, 0, 0),
        insn(0x85, 0, 0, 0, REDIRECT),
        insn(0x95, 0, 0, 0, 0),
    ]);
    raw::xdp_of("flood", &code).unwrap()
}

/// Counts what the agent's program let pass, and takes the flood out behind it.
fn witness(bad: &str, good: &str, seen: &OwnedFd) -> OwnedFd {
    let mut code = vec![
        insn(0xbf, 6, 1, 0, 0),
        // The EtherType: IPv6 is others', what is no IP counts nowhere.
        insn(0x28, 0, 0, 0, 12),
        insn(0xb7, 7, 0, 0, 3),
        insn(0x15, 0, 0, 12, 0x86dd),
        insn(0x55, 0, 0, 25, 0x0800),
        // The destination port, and UDP.
        insn(0x28, 0, 0, 0, 36),
        insn(0x55, 0, 0, 9, i32::from(PORT)),
        insn(0x20, 0, 0, 0, 26),
        insn(0xb7, 7, 0, 0, 0),
        insn(0x15, 0, 0, 4, words(bad).1),
        insn(0xb7, 7, 0, 0, 1),
        insn(0x15, 0, 0, 2, words(good).1),
        insn(0xb7, 7, 0, 0, 2),
        insn(0x05, 0, 0, 0, 0),
        insn(0xb7, 8, 0, 0, 2),
        insn(0x05, 0, 0, 1, 0),
        insn(0xb7, 8, 0, 0, -1),
    ];
    code.extend(raw::count(seen));
    code.extend([insn(0xbf, 0, 8, 0, 0), insn(0x95, 0, 0, 0, 0), insn(0xb7, 0, 0, 0, -1), insn(0x95, 0, 0, 0, 0)]);
    // Where the EtherType's jump goes: the last two instructions.
    let pass = code.len() - 2;
    code[4] = insn(0x55, 0, 0, (pass - 5) as i16, 0x0800);
    raw::tc_of("witness", &code).unwrap()
}

/// The flood, until it is dropped.
pub struct Flood {
    sent: OwnedFd,
    seen: OwnedFd,
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    begin: Instant,
    /// What the agent's program had let pass before the witness was there.
    before: u64,
    thread: Option<JoinHandle<()>>,
    _pinned: Pinned,
}

struct Pinned(String);

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Flood {
    /// The agent's program must be attached: a veth takes no packets from a program for an end without one.
    pub fn start(site: &Site, bad: &str, good: &str, mix: Mix) -> Self {
        let (sent, seen) = (raw::counters(4).unwrap(), raw::counters(4).unwrap());
        let pinned = Pinned(format!("/sys/fs/bpf/weir-witness-{}", site.server.inode()));
        raw::pin(witness(bad, good, &seen).as_raw_fd(), &pinned.0).unwrap();
        for command in [
            format!("qdisc add dev {INTERFACE} clsact"),
            format!("filter add dev {INTERFACE} ingress bpf direct-action object-pinned {}", pinned.0),
        ] {
            // Not `tc -n`, whose mounts are its own: it would see no pins.
            let out = site.server.command("tc").args(command.split_whitespace()).output().unwrap();
            assert!(out.status.success(), "tc {command}: {}", text(&out.stderr));
        }
        // Some chatter of the namespaces' own may be under way.
        let before = loop {
            let (a, seen, b) = (let_pass(site), Counted::read(&seen).all(), let_pass(site));
            if a == b {
                break a - seen;
            }
        };
        let ifindex = site.peer.enter(|| link::index_of(INTERFACE).unwrap());
        let program = sender(bad, good, mix, ifindex, &sent);
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopping, called) = (stop.clone(), calls.clone());
        let namespace = site.peer.file();
        let thread = std::thread::spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let packet = packet();
            while !stopping.load(Ordering::Acquire) {
                sys::test_run(program.as_fd(), &packet, &[], BURST, sys::LIVE_FRAMES).unwrap();
                called.fetch_add(1, Ordering::AcqRel);
            }
        });
        Self { sent, seen, stop, calls, begin: Instant::now(), before, thread: Some(thread), _pinned: pinned }
    }

    /// What the agent's program has let pass since the witness was there.
    pub fn let_pass(&self, site: &Site) -> u64 {
        let_pass(site) - self.before
    }

    /// What came through so far.
    pub fn seen(&self) -> Counted {
        Counted::read(&self.seen)
    }

    /// Waits until everything that is under way has come or not: two calls that began after this one.
    pub fn settle(&self) {
        let from = self.calls.load(Ordering::Acquire);
        crate::support::wait_for("the flood to go on", PATIENCE, || {
            (self.calls.load(Ordering::Acquire) >= from + 3).then_some(())
        });
    }

    /// What was sent, and how many packets a second.
    pub fn finish(&mut self) -> (Counted, f64) {
        self.end();
        let sent = Counted::read(&self.sent);
        (sent, sent.all() as f64 / self.begin.elapsed().as_secs_f64())
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end();
    }
}

fn let_pass(site: &Site) -> u64 {
    counter(site, Reason::InPass) + counter(site, Reason::InOverflow)
}

/// The kernel's own counters of the site's interface, agent or not.
pub fn counter(site: &Site, reason: Reason) -> u64 {
    site.server.enter(|| {
        let pins = pins::Pins::of(link::index_of(INTERFACE).unwrap()).unwrap();
        let map = pins.open(names::COUNTERS).unwrap();
        let cpus = sys::possible_cpus().unwrap();
        let per_cpu: Vec<Counter> = sys::lookup_percpu(map.as_fd(), reason as u32, cpus).unwrap();
        per_cpu.iter().map(|c| c.packets).sum()
    })
}
