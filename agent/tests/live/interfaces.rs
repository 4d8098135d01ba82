//! Several interfaces that come, go and change while the agent runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;
use weir_kernel::link;
use weir_kernel::pins::Pins;

use crate::join::{Join, MEMBERS};
use crate::site::*;
use crate::support::*;

/// On the first interface: who is to be blocked, and its neighbour.
const BAD: &str = "10.77.0.66";
const GOOD: &str = "10.77.0.67";

/// A site whose agent watches more than one interface.
struct Yard {
    site: Site,
}

/// Another network of the host, behind an interface of its own.
struct Wing<'y> {
    yard: &'y Yard,
    name: String,
    /// The third byte of its addresses.
    net: u8,
    far: Netns,
}

impl Yard {
    fn new(interfaces: &str) -> Self {
        Self::of(Site::new(&[BAD, GOOD]), interfaces)
    }

    fn of(site: Site, interfaces: &str) -> Self {
        let yard = Self { site };
        yard.configure(interfaces, "flow: {idle: 1s, active: 1s}\n");
        yard
    }

    /// With devices that not every kernel has; says why there is none.
    fn joined(test: &str, join: Join, interfaces: &str) -> Option<Self> {
        if !ready(test) {
            return None;
        }
        let site = Site::joined(join, &[BAD, GOOD]).inspect_err(|missing| eprintln!("SKIP {test}: {missing}"));
        Some(Self::of(site.ok()?, interfaces))
    }

    /// Holds a conversation with the host and waits until its flow has ended: packets each way, wherever they were seen.
    fn counted(&self, port: u16, packets: u32) -> (u64, u64) {
        converse(&self.site.peer, GOOD, &self.site.server, SERVER_V4, port, packets);
        wait_for("the flow's end", PATIENCE, || {
            let flows = self.flows_to(port);
            let sums = flows.values().fold((0, 0), |all, f| (all.0 + f.0, all.1 + f.1));
            (sums.0 >= packets.into()).then_some(sums)
        })
    }

    fn configure(&self, interfaces: &str, more: &str) {
        self.site.configure("enforce", more);
        let path = self.site.path("weir.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace(&format!("interface: {INTERFACE}\n"), &format!("interfaces: {interfaces}\n"));
        std::fs::write(path, text.replace("log:\n", "log:\n  flows: true\n")).unwrap();
    }

    fn ip(&self, arguments: &str) {
        ip_command(&format!("-n {} {arguments}", self.site.server.name()));
    }

    /// A new interface with the network 10.NET.0.0/24 behind it: .1 is the host, .66 and .67 are there.
    fn wing(&self, name: &str, net: u8) -> Wing<'_> {
        let far = Netns::new("far");
        let (server, there) = (self.site.server.name(), far.name());
        ip_command(&format!("-n {there} link add weirf type veth peer name {name} netns {server}"));
        for host in [66, 67] {
            ip_command(&format!("-n {there} addr add 10.{net}.0.{host}/24 dev weirf"));
        }
        ip_command(&format!("-n {there} link set weirf up"));
        ip_command(&format!("-n {there} route add default via 10.{net}.0.1"));
        self.ip(&format!("addr add 10.{net}.0.1/24 dev {name}"));
        self.ip(&format!("link set {name} up"));
        Wing { yard: self, name: name.to_owned(), net, far }
    }

    /// What the status says of an interface, by its name.
    fn state(&self, name: &str) -> Option<Value> {
        let status = self.site.status();
        status["interfaces"].as_array().unwrap().iter().find(|i| i["name"] == name).cloned()
    }

    fn protected(&self, name: &str) -> bool {
        self.state(name).is_some_and(|i| i["protected"] == true)
    }

    fn wait_until_protected(&self, name: &str) -> Duration {
        let begin = Instant::now();
        wait_for("an interface with programs", PATIENCE, || self.protected(name).then_some(()));
        begin.elapsed()
    }

    fn index_of(&self, name: &str) -> u32 {
        self.site.server.enter(|| link::index_of(name).unwrap())
    }

    fn pins_of(&self, index: u32) -> PathBuf {
        self.site.server.enter(|| Pins::of(index).unwrap().dir().to_owned())
    }

    /// The flows to a port as they were recorded: packets to the server and to the client, and where they were seen.
    fn flows_to(&self, port: u16) -> BTreeMap<String, (u64, u64)> {
        let mut flows: BTreeMap<u64, (String, u64, u64)> = BTreeMap::new();
        let log = std::fs::read_to_string(self.site.path("events.json")).unwrap_or_default();
        for event in log.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()) {
            if event["event_type"] == "flow" && event["dest_port"] == port {
                let n = |what: &str| event["flow"][what].as_u64().unwrap();
                let seen = event["in_iface"].as_str().unwrap_or_default().to_owned();
                let id = event["flow_id"].as_u64().unwrap();
                flows.insert(id, (seen, n("pkts_toserver"), n("pkts_toclient")));
            }
        }
        let mut by_place = BTreeMap::new();
        for (seen, to, back) in flows.into_values() {
            let sum: &mut (u64, u64) = by_place.entry(seen).or_default();
            *sum = (sum.0 + to, sum.1 + back);
        }
        by_place
    }

    fn events(&self, words: &str) -> usize {
        let log = std::fs::read_to_string(self.site.path("events.json")).unwrap_or_default();
        log.lines().filter(|l| l.contains("\"agent\"") && l.contains(words)).count()
    }
}

impl Wing<'_> {
    fn host(&self, host: u8) -> String {
        format!("10.{}.0.{host}", self.net)
    }

    /// Whether a datagram gets from one of its hosts to a port of the server.
    fn passes(&self, host: u8) -> bool {
        let to: SocketAddr = format!("{}:5353", self.host(1)).parse().unwrap();
        let receiver = self.yard.site.server.udp(to);
        arrives(&self.far, &self.host(host), to, &receiver)
    }
}

fn arrives(from: &Netns, address: &str, to: SocketAddr, receiver: &std::net::UdpSocket) -> bool {
    receiver.set_read_timeout(Some(Duration::from_millis(120))).unwrap();
    let sender = from.udp(SocketAddr::new(address.parse::<IpAddr>().unwrap(), 0));
    (0..3).any(|_| sender.send_to(b"weir", to).is_ok() && receiver.recv(&mut [0; 16]).is_ok())
}

/// A conversation of numbered datagrams over several epochs: so many there, and an answer to every second one.
fn converse(client: &Netns, from: &str, server: &Netns, at: &str, port: u16, packets: u32) {
    let to = SocketAddr::new(at.parse().unwrap(), port);
    let receiver = server.udp(to);
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let sender = client.udp(SocketAddr::new(from.parse().unwrap(), 0));
    sender.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for n in 0..packets {
        sender.send_to(&n.to_be_bytes(), to).unwrap();
        let (_, back) = receiver.recv_from(&mut [0; 4]).unwrap();
        if n % 2 == 0 {
            receiver.send_to(&n.to_be_bytes(), back).unwrap();
            sender.recv(&mut [0; 4]).unwrap();
        }
        std::thread::sleep(Duration::from_millis(7));
    }
}

#[test]
fn a_router_counts_what_it_forwards_once_and_a_block_holds_on_every_interface() {
    if !ready("a_router_counts_what_it_forwards_once_and_a_block_holds_on_every_interface") {
        return;
    }
    let yard = Yard::new("[weir0, weir1]");
    let inner = yard.wing("weir1", 78);
    yard.site.server.enter(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    ip_command(&format!("-n {} route add 10.78.0.0/24 via {SERVER_V4}", yard.site.peer.name()));
    let agent = yard.site.start();
    converse(&yard.site.peer, GOOD, &inner.far, &inner.host(67), 7300, 100);
    converse(&inner.far, &inner.host(67), &yard.site.peer, GOOD, 7301, 60);
    // What the host itself sends crosses one interface.
    converse(&yard.site.server, SERVER_V4, &yard.site.peer, GOOD, 7302, 40);
    let expected = |place: &str, to: u64, back: u64| BTreeMap::from([(place.to_owned(), (to, back))]);
    for (port, want) in
        [(7300, expected("weir0", 100, 50)), (7301, expected("weir1", 60, 30)), (7302, expected("weir0", 40, 20))]
    {
        let flows = wait_for("the flow's end", PATIENCE, || {
            let flows = yard.flows_to(port);
            (flows.values().map(|f| f.0).sum::<u64>() >= want.values().map(|f| f.0).sum()).then_some(flows)
        });
        assert_eq!(flows, want, "port {port}");
    }
    // Each forwarded packet was seen a second time, and is told apart.
    let status = yard.site.status();
    assert_eq!(status["seen_twice"]["packets"], 150 + 90, "{status}");
    // One wanted state for both.
    let far = inner.host(66);
    assert!(yard.site.passes(BAD, 5353) && inner.passes(66));
    yard.site.ok(&format!("decisions add {BAD} --for 1h"));
    yard.site.ok(&format!("decisions add {far} --for 1h"));
    assert!(!yard.site.passes(BAD, 5353) && yard.site.passes(GOOD, 5353));
    assert!(!inner.passes(66) && inner.passes(67));
    // Forwarded, too: it is stopped where it comes in.
    let at = SocketAddr::new(inner.host(67).parse().unwrap(), 5353);
    let receiver = inner.far.udp(at);
    assert!(!arrives(&yard.site.peer, BAD, at, &receiver) && arrives(&yard.site.peer, GOOD, at, &receiver));
    let dropped = |name: &str| yard.state(name).unwrap()["packets_dropped"].as_u64().unwrap();
    assert_eq!((dropped("weir0"), dropped("weir1")), (6, 3));
    assert_eq!(
        (yard.site.decision(BAD)["packets"].as_u64(), yard.site.decision(&far)["packets"].as_u64()),
        (Some(6), Some(3))
    );

    // And over a kill, with hits that go on.
    agent.kill();
    assert!(!yard.site.passes(BAD, 5353) && !inner.passes(66) && inner.passes(67));
    let agent = yard.site.start();
    assert!(!yard.site.passes(BAD, 5353) && !inner.passes(66) && inner.passes(67));
    assert_eq!(yard.site.decision(&far)["packets"], 9);
    yard.site.ok(&format!("decisions delete {far}"));
    assert!(inner.passes(66) && !yard.site.passes(BAD, 5353));
    agent.stop();
}

#[test]
fn bridge_ports_count_once_and_stop_what_is_bridged() {
    if !ready("bridge_ports_count_once_and_stop_what_is_bridged") {
        return;
    }
    let yard = Yard::new("[\"weir*\"]");
    let inner = yard.wing("weir1", 78);
    yard.ip("link add br0 type bridge");
    yard.ip("link set br0 up");
    for port in ["weir0", "weir1"] {
        yard.ip(&format!("link set {port} master br0"));
    }
    ip_command(&format!("-n {} addr add 10.77.0.90/24 dev weirf", inner.far.name()));
    let agent = yard.site.start();
    converse(&yard.site.peer, GOOD, &inner.far, "10.77.0.90", 7310, 80);
    let flows = wait_for("the flow's end", PATIENCE, || {
        let flows = yard.flows_to(7310);
        (flows.values().map(|f| f.0).sum::<u64>() >= 80).then_some(flows)
    });
    assert_eq!(flows, BTreeMap::from([("weir0".to_owned(), (80, 40))]));
    let at: SocketAddr = "10.77.0.90:5353".parse().unwrap();
    let receiver = inner.far.udp(at);
    assert!(arrives(&yard.site.peer, BAD, at, &receiver));
    yard.site.ok(&format!("decisions add {BAD} --for 1h"));
    assert!(!arrives(&yard.site.peer, BAD, at, &receiver) && arrives(&yard.site.peer, GOOD, at, &receiver));
    // Out of the bridge and into it again: the program stays.
    yard.ip("link set weir0 nomaster");
    yard.ip("link set weir0 master br0");
    wait_for("the neighbour over the bridge", PATIENCE, || arrives(&yard.site.peer, GOOD, at, &receiver).then_some(()));
    assert!(!arrives(&yard.site.peer, BAD, at, &receiver));
    yard.site.ok(&format!("decisions delete {BAD}"));
    assert!(arrives(&yard.site.peer, BAD, at, &receiver));
    agent.stop();
}

#[test]
fn what_comes_is_attached_to_under_traffic_with_every_block_in_force() {
    if !ready("what_comes_is_attached_to_under_traffic_with_every_block_in_force") {
        return;
    }
    let yard = Yard::new("[\"weir*\", \"!weir-lab*\"]");
    let agent = yard.site.start();
    assert!(yard.protected("weir0"));
    yard.site.ok("decisions add 10.79.0.66 --for 1h");
    let first = yard.wing("weir7", 79);
    let took = yard.wait_until_protected("weir7");
    eprintln!("attached, and seen to be by another program, {took:?} after the interface came up");
    // Blocked before it was there, and by nothing that was written since.
    assert!(!first.passes(66) && first.passes(67));
    let lab = yard.wing("weir-lab1", 80);
    yard.site.ok("decisions add 10.80.0.66 --for 1h");
    assert!(lab.passes(66) && yard.state("weir-lab1").is_none(), "left out");
    // Many at once.
    let many: Vec<Wing<'_>> = (0..6).map(|n| yard.wing(&format!("weirm{n}"), 100 + n)).collect();
    for wing in &many {
        yard.wait_until_protected(&wing.name);
        yard.site.ok(&format!("decisions add {} --for 1h", wing.host(66)));
        assert!(!wing.passes(66) && wing.passes(67), "{}", wing.name);
    }
    let indices: Vec<u32> = many.iter().map(|w| yard.index_of(&w.name)).collect();
    assert!(indices.iter().all(|i| yard.pins_of(*i).exists()));
    // They go with their namespaces, and nothing of them stays.
    drop(many);
    wait_for("pins that are removed", PATIENCE, || indices.iter().all(|i| !yard.pins_of(*i).exists()).then_some(()));
    let names: Vec<Value> =
        yard.site.status()["interfaces"].as_array().unwrap().iter().map(|i| i["name"].clone()).collect();
    assert_eq!(names, ["weir0", "weir7"]);
    assert!(yard.site.decision("10.100.0.66")["packets"].as_u64() == Some(3), "its hits stay");
    assert!(!first.passes(66) && first.passes(67));
    agent.stop();
}

#[test]
fn a_name_an_mtu_and_a_link_that_change_change_no_block() {
    if !ready("a_name_an_mtu_and_a_link_that_change_change_no_block") {
        return;
    }
    let yard = Yard::new("[weir0, \"web*\", \"weir1\"]");
    let wing = yard.wing("weir1", 81);
    let agent = yard.site.start();
    yard.site.ok("decisions add 10.81.0.66 --for 1h");
    let holds = || !wing.passes(66) && wing.passes(67);
    assert!(holds());
    let xdp = || {
        let index = yard.index_of("web9");
        yard.site.server.enter(|| link::query(index).unwrap().xdp)
    };
    yard.ip("link set weir1 down");
    yard.ip("link set weir1 name web9");
    yard.ip("link set web9 up");
    wait_for("the new name", PATIENCE, || yard.protected("web9").then_some(()));
    wait_for("the link", PATIENCE, || wing.passes(67).then_some(()));
    assert!(holds());
    let before = xdp();
    assert_eq!(before.len(), 1);
    assert!(yard.events("weir1 is called web9 now") == 1);
    // What is named outright and is not there is not hidden.
    let status = yard.site.status();
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("weir1 is NOT PROTECTED"), "{warnings}");
    for mtu in [9000, 1280, 1500] {
        yard.ip(&format!("link set web9 mtu {mtu}"));
        wait_for("the MTU", PATIENCE, || (yard.state("web9").unwrap()["mtu"] == mtu).then_some(()));
        assert!(holds(), "{mtu}");
    }
    yard.ip("link set web9 down");
    wait_for("the link to be down", PATIENCE, || (yard.state("web9").unwrap()["up"] == false).then_some(()));
    yard.ip("link set web9 up");
    wait_for("the link", PATIENCE, || wing.passes(67).then_some(()));
    assert!(holds());
    assert_eq!(xdp(), before, "it is the same program all the time");
    assert_eq!(yard.state("web9").unwrap()["reattached"], 0);
    agent.stop();
}

#[test]
fn a_link_that_flaps_and_an_interface_made_anew_over_and_over_change_no_block_and_leave_nothing_behind() {
    if !ready("a_link_that_flaps_and_an_interface_made_anew_over_and_over_change_no_block_and_leave_nothing_behind") {
        return;
    }
    const FLAPS: usize = 50;
    const ANEW: usize = 12;
    let yard = Yard::new("[weir0, \"weir1\"]");
    let mut wing = yard.wing("weir1", 86);
    let agent = yard.site.start();
    yard.site.ok("decisions add 10.86.0.66 --for 1h");
    assert!(!wing.passes(66) && wing.passes(67));
    let before = yard.state("weir1").unwrap();

    // Who is blocked sends all the time.
    let to: SocketAddr = "10.86.0.1:5354".parse().unwrap();
    let receiver = yard.site.server.udp(to);
    let stop = AtomicBool::new(false);
    let sent = std::thread::scope(|s| {
        let sender = wing.far.udp("10.86.0.66:0".parse().unwrap());
        let stop = &stop;
        let sending = s.spawn(move || {
            let begin = Instant::now();
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) && begin.elapsed() < PATIENCE {
                // While the link is down nothing can be sent.
                sent += u32::from(sender.send_to(b"weir", to).is_ok());
                std::thread::sleep(Duration::from_millis(1));
            }
            sent
        });
        for _ in 0..FLAPS {
            yard.ip("link set weir1 down");
            yard.ip("link set weir1 up");
        }
        wait_for("the link", PATIENCE, || wing.passes(67).then_some(()));
        stop.store(true, Ordering::Relaxed);
        sending.join().unwrap()
    });
    receiver.set_nonblocking(true).unwrap();
    let came = std::iter::from_fn(|| receiver.recv(&mut [0; 16]).ok()).count();
    assert!(sent > 100, "only {sent} datagrams could be sent");
    assert_eq!(came, 0, "of {sent} datagrams of who is blocked, {came} came in while the link flapped");
    let after = yard.state("weir1").unwrap();
    assert_eq!((&after["reattached"], &after["protected"]), (&before["reattached"], &before["protected"]));

    // Deleted and made anew, sometimes before the agent has looked.
    let files = || std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count();
    let (held, mut indices) = (files(), Vec::new());
    for round in 0..ANEW {
        indices.push(yard.index_of("weir1"));
        yard.ip("link del weir1");
        drop(wing);
        wing = yard.wing("weir1", 86);
        if round % 3 == 0 {
            yard.wait_until_protected("weir1");
            assert!(!wing.passes(66) && wing.passes(67), "round {round}");
        }
    }
    wait_for("the last one with programs", PATIENCE, || {
        (yard.state("weir1")?["ifindex"] == yard.index_of("weir1") && yard.protected("weir1")).then_some(())
    });
    assert!(!wing.passes(66) && wing.passes(67));
    wait_for("pins that are removed", PATIENCE, || indices.iter().all(|i| !yard.pins_of(*i).exists()).then_some(()));
    wait_for("descriptors that are closed", PATIENCE, || (files() <= held + 2).then_some(()));
    agent.stop();
}

#[test]
fn what_moves_to_another_namespace_is_let_go_and_protected_again_when_it_is_back() {
    if !ready("what_moves_to_another_namespace_is_let_go_and_protected_again_when_it_is_back") {
        return;
    }
    let yard = Yard::new("[weir0, weir1]");
    let wing = yard.wing("weir1", 82);
    let agent = yard.site.start();
    yard.site.ok("decisions add 10.82.0.66 --for 1h");
    assert!(!wing.passes(66) && wing.passes(67));
    let index = yard.index_of("weir1");
    let away = Netns::new("away");
    yard.ip(&format!("link set weir1 netns {}", away.name()));
    wait_for("the program to be gone", PATIENCE, || {
        away.enter(|| link::list().unwrap().iter().find(|l| l.name == "weir1").is_some_and(|l| l.xdp.is_empty()))
            .then_some(())
    });
    wait_for("the pins to be gone", PATIENCE, || (!yard.pins_of(index).exists()).then_some(()));
    let said = wait_for("the warning", PATIENCE, || {
        let warnings = yard.site.status()["warnings"].to_string();
        warnings.contains("weir1 is NOT PROTECTED").then_some(warnings)
    });
    assert!(yard.events("weir1 has moved to another network namespace") == 1, "{said}");
    // The others stay as they were.
    assert!(yard.site.passes(BAD, 5353));
    ip_command(&format!("-n {} link set weir1 netns {}", away.name(), yard.site.server.name()));
    yard.wait_until_protected("weir1");
    yard.ip("addr add 10.82.0.1/24 dev weir1");
    yard.ip("link set weir1 up");
    wait_for("the link", PATIENCE, || wing.passes(67).then_some(()));
    assert!(!wing.passes(66));
    let warnings = yard.site.status()["warnings"].to_string();
    assert!(!warnings.contains("NOT PROTECTED"), "{warnings}");
    agent.stop();
}

#[test]
fn whoever_takes_the_programs_off_finds_them_back() {
    if !ready("whoever_takes_the_programs_off_finds_them_back") {
        return;
    }
    let yard = Yard::new("[weir0, \"weir1\"]");
    let wing = yard.wing("weir1", 83);
    let agent = yard.site.start();
    yard.site.ok("decisions add 10.83.0.66 --for 1h");
    assert!(!wing.passes(66) && wing.passes(67));
    let pins = Pins::clone(&yard.site.server.enter(|| Pins::of(yard.index_of("weir1")).unwrap()));
    for (times, pin) in [(1, pins.link_xdp()), (2, pins.link_tc())] {
        if pin.exists() {
            let link = weir_kernel::sys::obj_get(&pin).unwrap();
            weir_kernel::sys::link_detach(link.as_fd()).unwrap();
        } else {
            // Without TCX there is no link to detach.
            yard.site.tc("filter del dev weir1 egress");
        }
        let begin = Instant::now();
        wait_for("the programs to be back", PATIENCE, || (yard.state("weir1")?["reattached"] == times).then_some(()));
        eprintln!("back after {:?}", begin.elapsed());
        assert!(!wing.passes(66) && wing.passes(67));
        assert_eq!(yard.state("weir1").unwrap()["xdp_mode"], "native");
    }
    assert_eq!(yard.events("by somebody else; attached again"), 2);
    // Without its pin a link would end with the agent; and while it runs nothing happens at all.
    std::fs::remove_file(pins.link_xdp()).unwrap();
    wait_for("the pin to be back", PATIENCE, || pins.link_xdp().exists().then_some(()));
    assert_eq!(yard.state("weir1").unwrap()["reattached"], 2);
    agent.kill();
    assert!(!wing.passes(66) && wing.passes(67));
}

#[test]
fn what_matches_and_cannot_be_protected_is_said_until_it_is() {
    if !ready("what_matches_and_cannot_be_protected_is_said_until_it_is") {
        return;
    }
    let yard = Yard::new("[\"weir*\"]");
    let wing = yard.wing("weir1", 84);
    // Another agent's lock.
    let path = format!("/run/weir/{}-{}.lock", yard.site.server.inode(), yard.index_of("weir1"));
    std::fs::create_dir_all("/run/weir").unwrap();
    let file = std::fs::File::create(&path).unwrap();
    let other = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
    let agent = yard.site.start();
    yard.site.ok("decisions add 10.84.0.66 --for 1h");
    let status = yard.site.status();
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("weir1 is NOT PROTECTED: interface weir1 is in use by another process"), "{warnings}");
    assert!(yard.protected("weir0") && !yard.protected("weir1"));
    let table = yard.site.ok("status");
    assert!(table.contains("on 1 of 2 interfaces") && table.contains("NOT PROTECTED"), "{table}");
    assert!(wing.passes(66), "nobody stops it");
    drop(other);
    yard.wait_until_protected("weir1");
    assert!(!wing.passes(66) && wing.passes(67));
    assert!(!yard.site.status()["warnings"].to_string().contains("NOT PROTECTED"));
    agent.stop();
}

#[test]
fn a_name_must_be_there_at_the_start_and_a_pattern_waits() {
    if !ready("a_name_must_be_there_at_the_start_and_a_pattern_waits") {
        return;
    }
    let yard = Yard::new("[weir0, weir-none]");
    let (code, log) = yard.site.refused();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("there is no interface `weir-none`"), "{log}");
    yard.configure("[\"late*\"]", "");
    let agent = yard.site.start();
    assert!(agent.own_log().contains("running on no interface yet; waiting for late*"), "{}", agent.own_log());
    // What is decided meanwhile is in force where it can be.
    yard.site.ok("decisions add 10.85.0.66 --for 1h");
    let wing = yard.wing("late0", 85);
    yard.wait_until_protected("late0");
    assert!(!wing.passes(66) && wing.passes(67));
    agent.stop();
}

#[test]
fn a_vlan_device_and_what_it_lies_on_count_each_packet_once() {
    let test = "a_vlan_device_and_what_it_lies_on_count_each_packet_once";
    let Some(yard) = Yard::joined(test, Join::Vlan, "[weir0, \"member*\"]") else { return };
    let agent = yard.site.start();
    yard.wait_until_protected("weir0");
    yard.wait_until_protected(MEMBERS[0]);
    assert_eq!(yard.counted(7310, 60), (60, 30));
    // Besides the conversation's there are the neighbours' own messages.
    let twice = yard.site.status()["seen_twice"]["packets"].as_u64().unwrap();
    assert!((90..110).contains(&twice), "{twice} were seen twice");
    yard.site.ok(&format!("decisions add {BAD} --for 1h"));
    assert!(!yard.site.passes(BAD, 5353) && yard.site.passes(GOOD, 5353));
    assert_eq!(yard.site.decision(BAD)["packets"], 3, "stopped below, so met once");
    // The lower one gets its programs back while the upper one has them.
    let index = yard.index_of(MEMBERS[0]);
    let pins = yard.site.server.enter(|| Pins::of(index).unwrap());
    weir_kernel::sys::link_detach(weir_kernel::sys::obj_get(&pins.link_xdp()).unwrap().as_fd()).unwrap();
    let again = || yard.state(MEMBERS[0]).is_some_and(|i| i["reattached"] == 1 && i["protected"] == true);
    wait_for("the programs to be back", PATIENCE, || again().then_some(()));
    wait_for("both to be protected", PATIENCE, || yard.protected("weir0").then_some(()));
    assert!(!yard.site.passes(BAD, 5353) && yard.site.passes(GOOD, 5353));
    agent.stop();
}

#[test]
fn what_a_bond_has_programs_for_needs_none_of_its_own() {
    let test = "what_a_bond_has_programs_for_needs_none_of_its_own";
    let Some(yard) = Yard::joined(test, Join::Bond, "[weir0, \"member*\"]") else { return };
    let agent = yard.site.start();
    yard.wait_until_protected("weir0");
    let status = yard.site.status();
    assert!(!status["warnings"].to_string().contains("NOT PROTECTED"), "{status}");
    assert_eq!(yard.events("is a part of the bond weir0, whose programs see its packets"), 2);
    assert_eq!(yard.counted(7320, 60), (60, 30));
    assert_eq!(yard.site.status()["seen_twice"]["packets"], 0);
    yard.site.ok(&format!("decisions add {BAD} --for 1h"));
    yard.ip(&format!("link set {} down", MEMBERS[0]));
    wait_for("the other member", PATIENCE, || yard.site.passes(GOOD, 5353).then_some(()));
    assert!(!yard.site.passes(BAD, 5353) && !yard.site.leaves(BAD));
    // A member on its own is no part of anything: it gets programs.
    yard.ip(&format!("link set {} nomaster", MEMBERS[0]));
    yard.wait_until_protected(MEMBERS[0]);
    agent.stop();
}
