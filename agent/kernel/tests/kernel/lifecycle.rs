//! Pins, adoption, refusals, and what is left afterwards.

use std::os::fd::AsFd;
use std::path::Path;

use weir_common::ABI_VERSION;
use weir_common::counters::Reason;
use weir_common::entry::action;
use weir_common::flow::{FlowKey, FlowStats};
use weir_common::names::{self, Meta, switch};
use weir_kernel::datapath::TcMode;
use weir_kernel::lists::List;
use weir_kernel::pins::{Capacity, Pins};
use weir_kernel::{AttachedMode, Datapath, KernelError, Options, XdpMode, datapath, link, sys};

use crate::frames::*;
use crate::raw;
use crate::support::*;

fn options() -> Options {
    Options { capacity: small(), ..Options::default() }
}

/// A namespace with one end of a link, and the pins of that interface, gone at the end.
struct Host {
    netns: Netns,
    _other: Netns,
    pins: PinGuard,
    ifindex: u32,
}

impl Host {
    fn new() -> Self {
        let (netns, other) = (Netns::new("host"), Netns::new("other"));
        veth_pair(&netns, &other, 1500);
        let (pins, ifindex) = netns.enter(|| {
            let ifindex = link::index_of("weir0").unwrap();
            (PinGuard(Pins::of(ifindex).unwrap()), ifindex)
        });
        Self { netns, _other: other, pins, ifindex }
    }

    fn open(&self, options: Options) -> Result<Datapath, KernelError> {
        self.netns.enter(|| Datapath::open("weir0", options))
    }

    fn attach(&self, datapath: &mut Datapath) -> Result<AttachedMode, KernelError> {
        self.netns.enter(|| datapath.attach())
    }

    fn xdp(&self) -> Option<link::Attached> {
        self.netns.enter(|| link::query(self.ifindex).unwrap().xdp.first().copied())
    }

    fn has_clsact(&self) -> bool {
        let out = std::process::Command::new("tc")
            .args(["-n", self.netns.name(), "qdisc", "show", "dev", "weir0"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).contains("qdisc clsact")
    }

    /// The filters at egress, as `tc` and `bpftool` would list them.
    fn clsact(&self) -> String {
        let out = std::process::Command::new("tc")
            .args(["-n", self.netns.name(), "filter", "show", "dev", "weir0", "egress"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

fn run_xdp(datapath: &mut Datapath, frame: &[u8]) -> u32 {
    let (xdp, _) = datapath.programs().unwrap();
    sys::test_run(xdp.as_fd(), frame, &[], 1, 0).unwrap().verdict
}

#[test]
fn a_restart_adopts_pins_entries_and_hits() {
    if !ready("a_restart_adopts_pins_entries_and_hits") {
        return;
    }
    let h = Host::new();
    let (us, bad, near) = (v4("192.0.2.1"), v4("198.51.100.66"), v4("198.51.100.67"));
    let mut first = h.open(options()).unwrap();
    assert!(!first.take_adoption().existed);
    assert_eq!(h.attach(&mut first).unwrap(), AttachedMode::Native);
    first
        .lists
        .set(List::Block, &[(host(bad), dropping()), (net(v6("2001:db8::"), 32), entry(action::SHADOW))])
        .unwrap();
    first.lists.set(List::Allow, &[(host(v4("10.0.0.1")), dropping())]).unwrap();
    assert_eq!(run_xdp(&mut first, &segment(bad, us, 443)), XDP_DROP);
    let before = h.xdp().unwrap();
    drop(first);
    // Nobody is there, and the program still is.
    assert_eq!(h.xdp(), Some(before));

    let mut second = h.open(options()).unwrap();
    let adoption = second.take_adoption();
    assert!(adoption.existed && adoption.resized.is_empty());
    assert_eq!(adoption.entries, 3);
    assert_eq!(h.attach(&mut second).unwrap(), AttachedMode::Native);
    assert_ne!(h.xdp().unwrap().program, before.program, "the new program runs");
    assert_eq!(second.lists.hits(List::Block, &host(bad)).unwrap().packets, 1);
    assert_eq!(run_xdp(&mut second, &segment(bad, us, 443)), XDP_DROP);
    assert_eq!(run_xdp(&mut second, &segment(near, us, 443)), XDP_PASS);
    assert_eq!(second.lists.hits(List::Block, &host(bad)).unwrap().packets, 2);
    assert_eq!(packets(&second, Reason::InDropped), 2, "counters go on");
    // A new entry gets a slot of its own.
    second.lists.set(List::Block, &[(host(near), dropping())]).unwrap();
    assert_eq!(second.lists.hits(List::Block, &host(near)).unwrap().packets, 0);
    second.lists.remove(List::Block, &[host(bad)]).unwrap();
    assert_eq!(run_xdp(&mut second, &segment(bad, us, 443)), XDP_PASS);
}

#[test]
fn another_capacity_carries_entries_hits_and_flows_over() {
    if !ready("another_capacity_carries_entries_hits_and_flows_over") {
        return;
    }
    let h = Host::new();
    let (us, bad, good) = (v4("192.0.2.1"), v4("198.51.100.66"), v4("203.0.113.1"));
    let mut first = h.open(options()).unwrap();
    h.attach(&mut first).unwrap();
    first.lists.set(List::Block, &[(host(bad), dropping())]).unwrap();
    assert_eq!(run_xdp(&mut first, &segment(bad, us, 443)), XDP_DROP);
    assert_eq!(run_xdp(&mut first, &segment(good, us, 443)), XDP_PASS);
    drop(first);

    let capacity = Capacity { flows: 1 << 10, blocks: 8192, allows: 512 };
    let mut second = h.open(Options { capacity, ..options() }).unwrap();
    h.attach(&mut second).unwrap();
    let adoption = second.take_adoption();
    let mut resized = adoption.resized.clone();
    resized.sort_unstable();
    assert_eq!(resized, ["ENTRIES", "ENTRY_INDEX", "FLOWS_USED", "FLOW_INDEX", "FLOW_RECORDS", "LISTS"]);
    assert_eq!(adoption.flows.iter().map(|(_, s)| s.packets()).sum::<u64>(), 1, "what the first had counted");
    assert_eq!(second.lists.hits(List::Block, &host(bad)).unwrap().packets, 1);
    assert_eq!(run_xdp(&mut second, &segment(bad, us, 443)), XDP_DROP);
    assert_eq!(run_xdp(&mut second, &segment(good, us, 443)), XDP_PASS);
    assert_eq!(drain(&mut second).len(), 1);
    for spec in &names::MAPS {
        let info = sys::map_info(h.pins.0.open(spec.name).unwrap().as_fd()).unwrap();
        assert_eq!(info.max_entries, spec.max_entries(&capacity), "{}", spec.name);
        assert!(!h.pins.0.successor(spec.name).exists());
    }
    drop(second);

    // Too small for what is there: refused, and everything stays as it was.
    let mut third = h.open(Options { capacity, ..options() }).unwrap();
    let more: Vec<_> = (0..20u8).map(|i| (host(v4(&format!("10.0.0.{i}"))), dropping())).collect();
    third.lists.set(List::Block, &more).unwrap();
    drop(third);
    let e = h.open(Options { capacity: Capacity { blocks: 4, allows: 16, ..capacity }, ..options() }).unwrap_err();
    assert!(e.to_string().contains("room for 20, and 21 are to lie in it; raise `capacity.blocks`"), "{e}");
    let mut fourth = h.open(Options { capacity, ..options() }).unwrap();
    h.attach(&mut fourth).unwrap();
    assert_eq!(fourth.take_adoption().entries, 21);
    assert_eq!(run_xdp(&mut fourth, &segment(bad, us, 443)), XDP_DROP);
}

#[test]
fn a_foreign_xdp_program_refuses_the_start_and_is_named() {
    if !ready("a_foreign_xdp_program_refuses_the_start_and_is_named") {
        return;
    }
    let h = Host::new();
    let stranger = raw::xdp_return("stranger", XDP_PASS).unwrap();
    let link = h.netns.enter(|| raw::attach_xdp(stranger.as_fd(), h.ifindex).unwrap());
    let there = h.xdp().unwrap();
    let e = h.open(options()).unwrap_err();
    assert!(matches!(e, KernelError::ForeignXdp { .. }));
    assert!(e.to_string().contains("`stranger`") && e.to_string().contains("weir0"), "{e}");
    assert_eq!(h.xdp(), Some(there), "it stays");
    assert!(!h.pins.0.dir().exists(), "nothing was begun");
    drop(link);
    // The kernel detaches a little after the last descriptor is closed.
    let start = std::time::Instant::now();
    while h.xdp().is_some() && start.elapsed() < std::time::Duration::from_secs(5) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut ours = h.open(options()).unwrap();
    assert_eq!(h.attach(&mut ours).unwrap(), AttachedMode::Native);
}

#[test]
fn pins_of_another_version_are_refused_with_the_command_that_helps() {
    if !ready("pins_of_another_version_are_refused_with_the_command_that_helps") {
        return;
    }
    let h = Host::new();
    drop(h.open(options()).unwrap());
    let map = h.pins.0.open(names::META).unwrap();
    let meta: Meta = sys::lookup(map.as_fd(), &0u32).unwrap().unwrap();
    assert_eq!((meta.abi_version, meta.ifindex, &meta.ifname[..6]), (ABI_VERSION, h.ifindex, &b"weir0\0"[..]));
    sys::update(map.as_fd(), &0u32, &Meta { abi_version: ABI_VERSION + 1, ..meta }, sys::ANY).unwrap();
    let e = h.open(options()).unwrap_err();
    assert!(matches!(e, KernelError::ForeignPins { .. }));
    assert!(e.to_string().contains("weir unload -i weir0"), "{e}");
    // So do pins that lack a map.
    sys::update(map.as_fd(), &0u32, &meta, sys::ANY).unwrap();
    std::fs::remove_file(h.pins.0.map(names::ENTRIES)).unwrap();
    let e = h.open(options()).unwrap_err();
    assert!(e.to_string().contains("without map ENTRIES"), "{e}");
    // The command does help.
    datapath::unload(&h.pins.0).unwrap();
    h.open(options()).unwrap();
}

#[test]
fn what_a_killed_drain_left_behind_is_drained_at_adoption() {
    if !ready("what_a_killed_drain_left_behind_is_drained_at_adoption") {
        return;
    }
    let h = Host::new();
    let (us, a, b) = (v4("192.0.2.1"), v4("203.0.113.1"), v4("203.0.113.2"));
    let mut first = h.open(options()).unwrap();
    h.attach(&mut first).unwrap();
    run_xdp(&mut first, &segment(a, us, 443));
    // Killed behind the swap: the idle map is not empty.
    let switches = h.pins.0.open(names::SWITCHES).unwrap();
    sys::update(switches.as_fd(), &switch::EPOCH, &1u32, sys::ANY).unwrap();
    run_xdp(&mut first, &segment(b, us, 443));
    drop(first);
    let mut second = h.open(options()).unwrap();
    let left: Vec<(FlowKey, FlowStats)> = second.take_adoption().flows;
    assert_eq!(left.iter().map(|(_, s)| s.packets()).collect::<Vec<_>>(), [1]);
    assert!(left[0].0.addr_a == mapped(a) || left[0].0.addr_b == mapped(a));
    // The live epoch goes on.
    let live = drain(&mut second);
    assert!(live.keys().all(|k| k.addr_a == mapped(b) || k.addr_b == mapped(b)) && live.len() == 1);
}

#[test]
fn unload_leaves_nothing() {
    if !ready("unload_leaves_nothing") {
        return;
    }
    for tc in [TcMode::Auto, TcMode::Clsact] {
        let h = Host::new();
        let mut d = h.open(Options { tc, ..options() }).unwrap();
        h.attach(&mut d).unwrap();
        assert!(h.xdp().is_some());
        // Where there is no TCX, it is a filter that Weir falls back to.
        let filter = !h.pins.0.link_tc().exists();
        assert!(filter || tc == TcMode::Auto);
        assert_eq!(h.clsact().contains("weir_tc"), filter, "{}", h.clsact());
        drop(d);
        assert!(h.xdp().is_some(), "a dead agent keeps enforcing");
        assert_eq!(h.clsact().contains("weir_tc"), filter);
        h.netns.enter(|| datapath::unload(&h.pins.0)).unwrap();
        assert_eq!(h.xdp(), None);
        assert!(!h.clsact().contains("weir_tc"), "{}", h.clsact());
        assert!(!h.pins.0.dir().exists());
        // A second time is no error.
        h.netns.enter(|| datapath::unload(&h.pins.0)).unwrap();
    }
}

#[test]
fn unload_takes_the_clsact_qdisc_away_only_where_it_is_weirs_and_nobody_else_uses_it() {
    if !ready("unload_takes_the_clsact_qdisc_away_only_where_it_is_weirs_and_nobody_else_uses_it") {
        return;
    }
    let h = Host::new();
    let options = || Options { tc: TcMode::Clsact, ..options() };
    let runs_twice = || {
        for _ in 0..2 {
            let mut d = h.open(options()).unwrap();
            h.attach(&mut d).unwrap();
            assert!(h.has_clsact());
        }
    };
    let unload = || h.netns.enter(|| datapath::unload(&h.pins.0)).unwrap();
    runs_twice();
    unload();
    assert!(!h.has_clsact(), "Weir's own");

    runs_twice();
    let other = PinnedFile::new(&raw::tc_return(TC_NEXT).unwrap());
    h.netns
        .tc(&format!("filter add dev weir0 ingress prio 7 protocol all bpf direct-action object-pinned {}", other.0));
    unload();
    assert!(h.has_clsact() && !h.clsact().contains("weir_tc"), "somebody's filter hangs on it");

    h.netns.tc("qdisc del dev weir0 clsact");
    h.netns.tc("qdisc add dev weir0 clsact");
    runs_twice();
    unload();
    assert!(h.has_clsact(), "somebody made it");
}

#[test]
fn a_clsact_filter_enforces_and_is_replaced_by_the_next_agent() {
    if !ready("a_clsact_filter_enforces_and_is_replaced_by_the_next_agent") {
        return;
    }
    let h = Host::new();
    ip_command(&format!("-n {} addr add 10.98.0.1/24 dev weir0", h.netns.name()));
    for far in ["10.98.0.2", "10.98.0.3"] {
        ip_command(&format!("-n {} neigh replace {far} lladdr 02:00:00:00:00:09 dev weir0", h.netns.name()));
    }
    let send = || {
        h.netns.enter(|| {
            let socket = std::net::UdpSocket::bind("10.98.0.1:0").unwrap();
            for far in ["10.98.0.2:9", "10.98.0.3:9"] {
                // A drop at egress is reported to the sender.
                let _ = socket.send_to(b"x", far);
            }
        });
    };
    for (agent, mode) in [TcMode::Clsact, TcMode::Clsact, TcMode::Clsact].into_iter().enumerate() {
        let mut d = h.open(Options { tc: mode, ..options() }).unwrap();
        h.attach(&mut d).unwrap();
        assert_eq!(h.clsact().matches("name weir_tc").count(), 1, "{}", h.clsact());
        d.lists.set(List::Block, &[(host(v4("10.98.0.2")), dropping())]).unwrap();
        send();
        let n = agent as u64 + 1;
        assert_eq!(d.lists.hits(List::Block, &host(v4("10.98.0.2"))).unwrap().packets, n);
        assert_eq!((packets(&d, Reason::OutDropped), packets(&d, Reason::OutPass)), (n, n));
    }
}

#[test]
fn an_egress_filter_of_ours_lets_the_next_filter_decide() {
    if !ready("an_egress_filter_of_ours_lets_the_next_filter_decide") {
        return;
    }
    let h = Host::new();
    let mut d = h.open(options()).unwrap();
    h.attach(&mut d).unwrap();
    ip_command(&format!("-n {} addr add 10.98.0.1/24 dev weir0", h.netns.name()));
    ip_command(&format!("-n {} neigh replace 10.98.0.2 lladdr 02:00:00:00:00:09 dev weir0", h.netns.name()));
    // Where there is no TCX, Weir has made one.
    if !h.has_clsact() {
        h.netns.tc("qdisc add dev weir0 clsact");
    }
    let shot = PinnedFile::new(&raw::tc_return(TC_SHOT).unwrap());
    h.netns
        .tc(&format!("filter add dev weir0 egress prio 60000 protocol ip bpf direct-action object-pinned {}", shot.0));
    let before = h._other.statistic("weir0", "packets");
    h.netns.enter(|| {
        let socket = std::net::UdpSocket::bind("10.98.0.1:0").unwrap();
        let _ = socket.send_to(b"x", "10.98.0.2:9");
    });
    assert_eq!(packets(&d, Reason::OutPass), 1);
    assert_eq!(h._other.statistic("weir0", "packets"), before, "the filter behind ours dropped it");
}

#[test]
fn where_native_is_refused_generic_takes_over_with_the_cause() {
    if !ready("where_native_is_refused_generic_takes_over_with_the_cause") {
        return;
    }
    // The loopback of a namespace of the test's own has no native XDP.
    let netns = Netns::new("lo");
    ip_command(&format!("-n {} link set lo up", netns.name()));
    netns.enter(|| {
        let pins = PinGuard(Pins::of(link::index_of("lo").unwrap()).unwrap());
        let mut d = Datapath::open("lo", Options { xdp: XdpMode::Native, ..options() }).unwrap();
        let e = d.attach().unwrap_err();
        assert!(e.to_string().contains("native XDP") && e.to_string().contains("xdp.mode: auto"), "{e}");
        drop(d);
        let mut d = Datapath::open("lo", options()).unwrap();
        let AttachedMode::Generic(cause) = d.attach().unwrap() else { panic!("native on a loopback device") };
        assert!(cause.contains("MTU (65536)"), "{cause}");
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        assert!(packets(&d, Reason::InPass) >= 1 && packets(&d, Reason::OutPass) >= 1);
        datapath::unload(&pins.0).unwrap();
    });
}

#[test]
fn a_missing_interface_is_named() {
    let e = Datapath::open("no-such-if0", options()).unwrap_err();
    assert!(e.to_string().contains("`no-such-if0`"), "{e}");
    assert!(!Path::new("/sys/fs/bpf/weir/no-such-if0").exists());
}
