//! A datapath for one test, network namespaces, captures; and the end of all of it when a test fails.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use weir_common::counters::Reason;
use weir_common::entry::{Entry, FOREVER, action, origin, side};
use weir_common::flow::{FlowKey, FlowStats};
use weir_common::limit::{Limit, Unit};
use weir_common::names;
use weir_kernel::lists::{Key, List};
use weir_kernel::pins::{Capacity, Pins};
use weir_kernel::{Datapath, Options, datapath, object, sys};

use crate::frames::{mapped, v4, v6};

pub const XDP_DROP: u32 = 1;
pub const XDP_PASS: u32 = 2;
pub const TC_NEXT: i32 = -1;
pub const TC_SHOT: i32 = 2;

/// Says why a test cannot run.
pub fn skip(test: &str, what: impl std::fmt::Display) {
    eprintln!("SKIP {test}: {what}");
}

/// What every test here needs. `false`, and said so, where it is not there.
pub fn ready(test: &str) -> bool {
    if object::EBPF_OBJECT.is_none() {
        skip(test, "built without the kernel programs (cargo xtask build-ebpf makes them)");
        return false;
    }
    if !nix::unistd::geteuid().is_root() {
        skip(test, "needs root");
        return false;
    }
    if !Path::new("/sys/fs/bpf").exists() {
        skip(test, "no /sys/fs/bpf (mount -t bpf bpf /sys/fs/bpf)");
        return false;
    }
    true
}

/// Different for every call on this machine.
pub fn unique() -> String {
    static N: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), N.fetch_add(1, Ordering::Relaxed))
}

/// Small maps: tests run side by side.
pub fn small() -> Capacity {
    Capacity { flows: 1 << 14, blocks: 4096, allows: 256 }
}

pub fn test_clock() -> Options {
    Options { capacity: small(), test_clock: true, ..Options::default() }
}

/// Takes pins away at the end of a test, however it ends.
pub struct PinGuard(pub Pins);

impl Drop for PinGuard {
    fn drop(&mut self) {
        if let Err(e) = datapath::unload(&self.0) {
            eprintln!("{e}");
        }
    }
}

/// A datapath on no interface, for test runs.
pub struct Loaded {
    pub datapath: Datapath,
    pub xdp: OwnedFd,
    pub tc: OwnedFd,
    clock: OwnedFd,
    _pins: PinGuard,
}

impl Loaded {
    pub fn new(options: Options) -> Self {
        let pins = PinGuard(Pins::named(&format!("test-{}", unique())));
        let mut datapath = Datapath::load(pins.0.clone(), "none", 0, options).unwrap();
        let (xdp, tc) = datapath.programs().unwrap();
        let clock = pins.0.open(names::TEST_CLOCK).unwrap();
        Self { datapath, xdp, tc, clock, _pins: pins }
    }

    pub fn set_clock_us(&self, us: u64) {
        sys::update(self.clock.as_fd(), &0u32, &(us * 1000), sys::ANY).unwrap();
    }

    pub fn xdp(&self, frame: &[u8]) -> u32 {
        sys::test_run(self.xdp.as_fd(), frame, &[], 1, 0).unwrap().verdict
    }

    pub fn tc(&self, frame: &[u8]) -> i32 {
        sys::test_run(self.tc.as_fd(), frame, &[], 1, 0).unwrap().verdict as i32
    }

    /// A super-packet at egress (`struct __sk_buff`: `gso_segs` at 164, `gso_size` at 176).
    pub fn tc_offloaded(&self, frame: &[u8], gso_size: u32, gso_segs: u32) -> i32 {
        let mut context = [0u8; 192];
        context[164..168].copy_from_slice(&gso_segs.to_ne_bytes());
        context[176..180].copy_from_slice(&gso_size.to_ne_bytes());
        sys::test_run(self.tc.as_fd(), frame, &context, 1, 0).unwrap().verdict as i32
    }

    pub fn drain(&mut self) -> HashMap<FlowKey, FlowStats> {
        drain(&mut self.datapath)
    }

    pub fn packets(&self, reason: Reason) -> u64 {
        packets(&self.datapath, reason)
    }

    pub fn set(&mut self, list: List, key: Key, entry: Entry) {
        self.datapath.lists.set(list, &[(key, entry)]).unwrap();
    }

    pub fn hits(&self, key: Key) -> u64 {
        self.datapath.lists.hits(List::Block, &key).unwrap().packets
    }
}

pub fn drain(datapath: &mut Datapath) -> HashMap<FlowKey, FlowStats> {
    let mut out = Vec::new();
    datapath.epochs.drain(&mut out).unwrap();
    let n = out.len();
    let flows: HashMap<_, _> = out.into_iter().collect();
    assert_eq!(flows.len(), n, "a flow was drained twice");
    flows
}

pub fn packets(datapath: &Datapath, reason: Reason) -> u64 {
    let counters = datapath.counters.read().unwrap();
    counters.iter().find(|(r, _)| *r == reason).unwrap().1.packets
}

/// A datapath of small maps, where the test can run.
pub fn loaded(test: &str) -> Option<Loaded> {
    ready(test).then(|| Loaded::new(Options { capacity: small(), ..Options::default() }))
}

/// Ours, a stranger to be blocked, and the stranger's neighbour.
pub fn hosts(six: bool) -> (IpAddr, IpAddr, IpAddr) {
    if six {
        (v6("fd00::1"), v6("2001:db8:5:6::66"), v6("2001:db8:5:6::67"))
    } else {
        (v4("192.0.2.1"), v4("198.51.100.66"), v4("198.51.100.67"))
    }
}

/// Hosts of different networks.
pub fn far(n: u32) -> IpAddr {
    let [a, b, c, d] = n.wrapping_mul(0x9e37_79b1).to_be_bytes();
    v4(&format!("{}.{b}.{c}.{d}", 11 + a % 150))
}

pub fn allow_expired_at(ns: u64) -> Entry {
    Entry { expires_ns: ns, ..entry(action::DROP) }
}

pub fn limiting(unit: Unit, rate: u64, burst: u64) -> Entry {
    Entry { limit: Limit::new(unit, rate, burst).unwrap(), ..entry(action::LIMIT) }
}

pub fn entry(action: u8) -> Entry {
    Entry {
        expires_ns: FOREVER,
        reason: 0,
        action,
        sides: side::IN | side::OUT,
        origin: origin::MANUAL,
        limit: Limit::NONE,
    }
}

pub fn dropping() -> Entry {
    entry(action::DROP)
}

pub fn host(ip: IpAddr) -> Key {
    Key::net(mapped(ip), if ip.is_ipv4() { 32 } else { 128 })
}

pub fn net(ip: IpAddr, len: u8) -> Key {
    Key::net(mapped(ip), len)
}

/// Network namespaces joined by veth pairs; gone at the end.
pub struct Netns {
    name: String,
}

fn run(command: &mut Command) {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

pub fn ip_command(arguments: &str) {
    run(Command::new("ip").args(arguments.split_whitespace()));
}

impl Netns {
    /// Without IPv6, whose own chatter would be counted.
    pub fn new(role: &str) -> Self {
        let name = format!("weir-{role}-{}", unique());
        ip_command(&format!("netns add {name}"));
        let netns = Self { name };
        netns.enter(|| {
            for what in ["all", "default"] {
                let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{what}/disable_ipv6"), "1");
            }
        });
        netns
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `f` on a thread inside; the mounts, and with them the pins, stay those of outside.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
        std::thread::scope(|s| {
            let inside = s.spawn(move || {
                nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                f()
            });
            inside.join().unwrap_or_else(|p| std::panic::resume_unwind(p))
        })
    }

    pub fn tc(&self, arguments: &str) {
        // Not `tc -n`, whose mounts are its own: it would see no pins.
        self.enter(|| run(Command::new("tc").args(arguments.split_whitespace())));
    }

    /// `field` of an interface's statistics, both directions.
    pub fn statistic(&self, interface: &str, field: &str) -> u64 {
        let out = Command::new("ip").args(["-n", &self.name, "-s", "-j", "link", "show", interface]).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let marker = format!("\"{field}\":");
        text.match_indices(&marker)
            .map(|(i, m)| text[i + m.len()..].chars().take_while(char::is_ascii_digit).collect::<String>())
            .filter_map(|n| n.parse::<u64>().ok())
            .sum()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// A program pinned for `tc`, until the end of the test.
pub struct PinnedFile(pub String);

impl PinnedFile {
    pub fn new(program: &impl AsRawFd) -> Self {
        let path = format!("/sys/fs/bpf/weir-test-{}", unique());
        crate::raw::pin(program.as_raw_fd(), &path).unwrap();
        Self(path)
    }
}

impl Drop for PinnedFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A veth pair `weir0` in each of two namespaces, up. (The same name in both, as it occurs on real hosts.)
pub fn veth_pair(a: &Netns, b: &Netns, mtu: u32) {
    ip_command(&format!(
        "link add weir0 netns {} mtu {mtu} type veth peer name weir0 netns {} mtu {mtu}",
        a.name, b.name
    ));
    for n in [a, b] {
        ip_command(&format!("-n {} link set weir0 up", n.name));
        ip_command(&format!("-n {} link set lo up", n.name));
    }
}

/// A folder of public captures, where there is one.
pub fn corpus() -> PathBuf {
    std::env::var_os("WEIR_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from)
}

/// One captured frame.
pub struct Captured {
    pub at_us: u64,
    pub data: Vec<u8>,
}

/// Ethernet frames of a capture in the pcap format.
pub fn read_pcap(path: &Path) -> io::Result<Vec<Captured>> {
    let invalid = |e: pcap_file::PcapError| io::Error::new(io::ErrorKind::InvalidData, e.to_string());
    let mut reader = pcap_file::pcap::PcapReader::new(File::open(path)?).map_err(invalid)?;
    assert_eq!(reader.header().datalink, pcap_file::DataLink::ETHERNET, "{}", path.display());
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(invalid)?;
        frames.push(Captured { at_us: packet.timestamp.as_micros() as u64, data: packet.data.into_owned() });
    }
    Ok(frames)
}
