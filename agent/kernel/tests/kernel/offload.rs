//! Packets that the network card would cut up: what egress counts is what the other end's native XDP sees come in.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use weir_common::counters::Reason;
use weir_common::flow::{FlowKey, FlowStats};
use weir_kernel::datapath::TcMode;
use weir_kernel::pins::Pins;
use weir_kernel::{AttachedMode, Datapath, Options, sys};

use crate::frames::*;
use crate::raw;
use crate::support::*;

const BYTES: usize = 20 << 20;

fn attached(netns: &Netns, tc: TcMode) -> (Datapath, PinGuard) {
    netns.enter(|| {
        let mut d = Datapath::open("weir0", Options { capacity: small(), tc, ..Options::default() }).unwrap();
        let pins = PinGuard(Pins::of(d.ifindex()).unwrap());
        assert_eq!(d.attach().unwrap(), AttachedMode::Native);
        (d, pins)
    })
}

fn set_option(socket: &impl AsRawFd, option: i32, value: i32) {
    // SAFETY: passes one integer.
    let r = unsafe {
        let at = (&raw const value).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, at, size_of::<i32>() as u32)
    };
    assert_eq!(r, 0, "{}", std::io::Error::last_os_error());
}

/// Sends `BYTES` from a client in one namespace to a server in the other. In small steps: the link's ring is short, and
/// what it drops has left one end and never reached the other.
fn transfer(client: &Netns, server: &Netns) {
    let listener = server.enter(|| TcpListener::bind("10.99.0.2:5001").unwrap());
    std::thread::scope(|s| {
        s.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let (mut total, mut buffer) = (0, vec![0u8; 64 << 10]);
            while total < BYTES {
                let n = stream.read(&mut buffer).unwrap();
                assert_ne!(n, 0, "closed after {total} bytes");
                total += n;
            }
            stream.write_all(b"thanks").unwrap();
        });
        let mut stream = client.enter(|| TcpStream::connect("10.99.0.2:5001").unwrap());
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        set_option(&stream, libc::SO_SNDBUF, 100_000);
        let chunk = vec![7u8; 32 << 10];
        for _ in 0..BYTES / chunk.len() {
            stream.write_all(&chunk).unwrap();
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"thanks");
    });
    // The last acknowledgement.
    std::thread::sleep(Duration::from_millis(300));
}

/// Packets and bytes per flow and direction.
fn sums(flows: &HashMap<FlowKey, FlowStats>) -> HashMap<FlowKey, [(u64, u64); 2]> {
    flows
        .iter()
        .filter(|(k, _)| k.family == 4 && k.proto == TCP)
        .map(|(k, s)| (*k, s.dir.map(|d| (d.packets, d.bytes))))
        .collect()
}

fn pair() -> (Netns, Netns) {
    let (near, far) = (Netns::new("near"), Netns::new("far"));
    veth_pair(&near, &far, 1500);
    ip_command(&format!("-n {} addr add 10.99.0.1/24 dev weir0", near.name()));
    ip_command(&format!("-n {} addr add 10.99.0.2/24 dev weir0", far.name()));
    (near, far)
}

fn offloads(near: &Netns, far: &Netns) {
    for n in [near, far] {
        n.enter(|| {
            // A busy machine answers so late that TCP sends a segment again to ask for it (RFC 8985, tail loss probe), which
            // both ends then count, and rightly.
            std::fs::write("/proc/sys/net/ipv4/tcp_early_retrans", "0").unwrap();
            let _ = Command::new("ethtool").args(["-K", "weir0", "tso", "on", "gso", "on", "gro", "on"]).output();
        });
    }
}

/// Packets that a full ring dropped, both ends.
fn dropped(near: &Netns, far: &Netns) -> u64 {
    near.statistic("weir0", "dropped") + far.statistic("weir0", "dropped")
}

fn both_ends_agree(test: &str, tc: TcMode) {
    if !ready(test) {
        return;
    }
    let (near, far) = pair();
    let (mut ours, _a) = attached(&near, tc);
    let (mut theirs, _b) = attached(&far, tc);
    offloads(&near, &far);
    transfer(&near, &far);
    let lost = dropped(&near, &far);
    let (here, there) = (drain(&mut ours), drain(&mut theirs));
    let (here_sums, there_sums) = (sums(&here), sums(&there));
    assert_eq!(lost, 0, "the link's ring dropped packets, so the two ends cannot agree");
    assert_eq!(here_sums, there_sums);
    let (key, stats) = here.iter().find(|(k, _)| k.proto == TCP).expect("the transfer's flow");
    let bulk = stats.dir.iter().max_by_key(|d| d.bytes).unwrap();
    // TCP sends a segment again when its acknowledgement is late, as on a busy machine. Both ends count that one twice.
    let all = BYTES as u64;
    assert!((all..=all + all / 50).contains(&bulk.payload), "{} bytes of {all}", bulk.payload);
    assert_eq!(bulk.bytes, bulk.payload + bulk.packets * 52 + 8, "{key:?}: the SYN has 8 bytes more of options");
    // The point of it: far fewer skbs than packets went out.
    assert!(bulk.extra_segs * 2 > bulk.packets, "{} packets in {} arrivals", bulk.packets, bulk.gaps() + 1);
    assert_eq!(ours.counters.read().unwrap().len(), Reason::ALL.len());
    eprintln!(
        "{test}: {} packets out in {} skbs, {:?} and {:?} at the two ends",
        bulk.packets,
        bulk.gaps() + 1,
        here_sums.values().next(),
        there_sums.values().next()
    );
}

#[test]
fn a_transfer_through_tso_counts_as_the_other_ends_native_xdp_counted() {
    both_ends_agree("a_transfer_through_tso_counts_as_the_other_ends_native_xdp_counted", TcMode::Auto);
}

#[test]
fn a_transfer_through_tso_counts_the_same_with_a_clsact_filter() {
    both_ends_agree("a_transfer_through_tso_counts_the_same_with_a_clsact_filter", TcMode::Clsact);
}

#[test]
fn a_tag_in_the_metadata_of_an_egress_packet_is_its_vlan() {
    let test = "a_tag_in_the_metadata_of_an_egress_packet_is_its_vlan";
    if !ready(test) {
        return;
    }
    let (near, far) = pair();
    // A virtual link would carry the tag beside the data, where the other end's XDP does not see it.
    let off = near.enter(|| Command::new("ethtool").args(["-K", "weir0", "txvlan", "off"]).status());
    if !off.as_ref().is_ok_and(std::process::ExitStatus::success) {
        return skip(test, format_args!("ethtool -K weir0 txvlan off: {off:?}"));
    }
    // Ahead of ours, a filter that tags: as a VLAN device above would have done.
    let tag = PinnedFile::new(&raw::tc_push_vlan(77).unwrap());
    near.tc("qdisc add dev weir0 clsact");
    near.tc(&format!("filter add dev weir0 egress prio 1 handle 1 bpf direct-action object-pinned {}", tag.0));
    // The question for the neighbour would be tagged as well, and nobody would answer it.
    ip_command(&format!("-n {} neigh replace 10.99.0.2 lladdr 02:00:00:00:00:99 dev weir0", near.name()));
    let (mut ours, _a) = attached(&near, TcMode::Clsact);
    let (mut theirs, _b) = attached(&far, TcMode::Auto);
    near.enter(|| {
        let socket = std::net::UdpSocket::bind("10.99.0.1:7000").unwrap();
        socket.send_to(b"hello", "10.99.0.2:7001").unwrap();
    });
    std::thread::sleep(Duration::from_millis(300));
    let seen = |flows: HashMap<FlowKey, FlowStats>| -> Vec<_> {
        let udp = flows.into_iter().filter(|(k, _)| k.proto == UDP);
        udp.map(|(k, s)| (k.vlan_outer, k.vlan_inner, s.packets(), s.dir[0].bytes + s.dir[1].bytes)).collect()
    };
    assert_eq!(seen(drain(&mut ours)), [(77, 0, 1, 33)]);
    assert_eq!(seen(drain(&mut theirs)), [(77, 0, 1, 33)], "the other end sees the tag in the data");
}

#[test]
fn the_clock_of_the_kernel_is_the_one_of_entries() {
    // `bpf_ktime_get_ns` and CLOCK_MONOTONIC: a flow's times lie between two readings of the latter.
    if !ready("the_clock_of_the_kernel_is_the_one_of_entries") {
        return;
    }
    let mut l = Loaded::new(Options { capacity: small(), ..Options::default() });
    let before = sys::monotonic_ns() / 1000;
    l.xdp(&segment(v4("192.0.2.1"), v4("192.0.2.2"), 1));
    let after = sys::monotonic_ns() / 1000;
    let flows = l.drain();
    let d = flows.values().next().unwrap().dir;
    let at = d[0].first_us.min(d[1].first_us);
    assert!(before <= at && at <= after, "{before} {at} {after}");
}
