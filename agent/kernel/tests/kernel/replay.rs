//! Real captures through the programs: what is drained is what the same code computes from the file.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use weir_common::counters::Reason;
use weir_common::flow::{FlowKey, FlowStats};
use weir_common::parse::{Offload, parse};
use weir_kernel::pins::{Capacity, Pins};
use weir_kernel::{AttachedMode, Datapath, Options, link};

use crate::parity;
use crate::support::*;

/// A scan, password guessing, web traffic, and what has IPv6, VLAN tags, fragments or tunnels.
const CAPTURES: [&str; 13] = [
    "pcap/ndpi/pcap/synscan.pcap",
    "pcap/try-zeek/manager/static/pcaps/ssh.pcap",
    "pcap/try-zeek/manager/static/pcaps/http.pcap",
    "pcap/ndpi/pcap/http_ipv6.pcap",
    "pcap/ndpi/pcap/dns_fragmented.pcap",
    "pcap/ndpi/pcap/ip_fragmented_garbage.pcap",
    "pcap/ndpi/pcap/1kxun.pcap",
    "pcap/ndpi/pcap/bot.pcap",
    "pcap/ndpi/pcap/linecall_falsepositve.pcap",
    "pcap/ndpi/pcap/gnutella.pcap",
    "pcap/ndpi/pcap/4in6tunnel.pcap",
    "pcap/ndpi/pcap/malformed_icmp.pcap",
    "pcap/ndpi/pcap/fuzz-2006-06-26-2594.pcap",
];

pub fn captures(test: &str) -> Vec<(PathBuf, Vec<Captured>)> {
    let mut all = Vec::new();
    for name in CAPTURES {
        let path = corpus().join(name);
        if !path.exists() {
            skip(test, format_args!("no {} (WEIR_CORPUS names the folder of captures)", path.display()));
            continue;
        }
        let frames = read_pcap(&path).unwrap();
        assert!(!frames.is_empty(), "{name}");
        all.push((path, frames));
    }
    all
}

pub fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The flows of frames by the shared code, and how many frames were not IP.
fn fold<'a>(frames: impl IntoIterator<Item = &'a Captured>) -> (HashMap<FlowKey, FlowStats>, u64) {
    let (mut flows, mut others) = (HashMap::new(), 0);
    for f in frames {
        let Ok(meta) = parse(f.data.as_slice(), f.data.len() as u32, 0) else {
            others += 1;
            continue;
        };
        let (key, dir) = meta.key();
        let mut packet = meta.packet(Offload::default());
        (packet.dir, packet.now_us, packet.from_outside) = (dir, f.at_us, 1);
        flows.entry(key).or_insert(FlowStats::EMPTY).update(&packet);
    }
    (flows, others)
}

#[test]
fn captures_give_the_same_flows_in_the_kernel_as_from_the_file_timing_included() {
    let test = "captures_give_the_same_flows_in_the_kernel_as_from_the_file_timing_included";
    if !ready(test) {
        return;
    }
    let capacity = Capacity { flows: 1 << 15, ..small() };
    let mut loaded = Loaded::new(Options { capacity, ..test_clock() });
    for (path, mut frames) in captures(test) {
        frames.retain(|f| f.data.len() >= 14);
        let (mut expected, _) = fold(&frames);
        // Two epochs: their merge is the whole.
        let mut found: HashMap<FlowKey, FlowStats> = HashMap::new();
        let halves = frames.split_at(frames.len() / 2);
        for half in [halves.0, halves.1] {
            for f in half {
                loaded.set_clock_us(f.at_us);
                assert_eq!(loaded.xdp(&f.data), XDP_PASS);
            }
            for (key, later) in loaded.drain() {
                found.entry(key).or_insert(FlowStats::EMPTY).merge(&later);
            }
        }
        assert_eq!(found.len(), expected.len(), "{}", path.display());
        for (key, stats) in &found {
            assert_eq!(Some(*stats), expected.remove(key), "{}: {key:?}", path.display());
        }
        eprintln!("{}: {} frames, {} flows equal", name(&path), frames.len(), found.len());
    }
}

/// A packet socket bound to an interface of this namespace.
struct Sender(OwnedFd);

impl Sender {
    fn new(interface: &str) -> io::Result<Self> {
        // SAFETY: plain system calls; the descriptor is fresh.
        unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            let socket = OwnedFd::from_raw_fd(fd);
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_ifindex = link::index_of(interface).map_err(io::Error::other)? as i32;
            let length = size_of::<libc::sockaddr_ll>() as u32;
            if libc::bind(fd, (&raw const address).cast(), length) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(socket))
        }
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the buffer is valid for its length.
        let n = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if n < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Frames that the program has seen come in.
fn arrived(datapath: &Datapath) -> u64 {
    [Reason::InPass, Reason::InNotIp, Reason::InMalformed].iter().map(|r| packets(datapath, *r)).sum()
}

#[test]
fn captures_replayed_over_a_veth_pair_give_the_same_packets_and_bytes_flow_by_flow() {
    let test = "captures_replayed_over_a_veth_pair_give_the_same_packets_and_bytes_flow_by_flow";
    if !ready(test) {
        return;
    }
    let (near, far) = (Netns::new("near"), Netns::new("far"));
    veth_pair(&near, &far, 9000);
    let sender = near.enter(|| Sender::new("weir0").unwrap());
    let (mut datapath, _pins) = far.enter(|| {
        let capacity = Capacity { flows: 1 << 15, ..small() };
        let mut d = Datapath::open("weir0", Options { capacity, ..Options::default() }).unwrap();
        let pins = PinGuard(Pins::of(d.ifindex()).unwrap());
        assert_eq!(d.attach().unwrap(), AttachedMode::Native);
        (d, pins)
    });
    for (path, frames) in captures(test) {
        let (start, before) = (Instant::now(), arrived(&datapath));
        let mut accepted = Vec::new();
        for f in &frames {
            // Too short or too long for the link.
            if sender.send(&f.data).is_ok() {
                accepted.push(f);
            }
            // The link's ring is short, and a full one drops.
            if accepted.len() % 64 == 0 {
                wait_for(&datapath, before + accepted.len() as u64);
            }
        }
        wait_for(&datapath, before + accepted.len() as u64);
        assert!(accepted.len() * 10 >= frames.len() * 9, "{}: {} of {}", path.display(), accepted.len(), frames.len());
        let (expected, _) = fold(accepted.iter().copied());
        let found = drain(&mut datapath);
        assert_eq!(found.len(), expected.len(), "{}", path.display());
        for (key, stats) in &expected {
            let f = found.get(key).unwrap_or_else(|| panic!("{}: no {key:?}", path.display()));
            for (d, e) in f.dir.iter().zip(&stats.dir) {
                assert_eq!((d.packets, d.bytes), (e.packets, e.bytes), "{}: {key:?}", path.display());
                assert_eq!(
                    (d.payload, d.syn, d.fin, d.rst, d.seen),
                    (e.payload, e.syn, e.fin, e.rst, e.seen),
                    "{key:?}"
                );
            }
        }
        parity::same_but_for_time(&name(&path), start, &found, &accepted);
        eprintln!(
            "{}: {} of {} frames accepted by the link, {} flows equal",
            name(&path),
            accepted.len(),
            frames.len(),
            found.len()
        );
    }
}

fn wait_for(datapath: &Datapath, total: u64) {
    let start = Instant::now();
    while arrived(datapath) < total {
        assert!(start.elapsed() < Duration::from_secs(5), "{} of {total} frames arrived", arrived(datapath));
        std::thread::sleep(Duration::from_micros(100));
    }
    assert_eq!(arrived(datapath), total, "somebody else sent");
}
