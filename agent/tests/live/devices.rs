//! The agent on the devices that hosts have besides veth, and on kernels that lack something.

use std::net::SocketAddr;
use std::time::Duration;

use crate::join::{Join, MEMBERS};
use crate::site::*;
use crate::support::*;

const BAD: &str = "10.77.0.66";
const GOOD: &str = "10.77.0.67";
const PORT: u16 = 7100;
/// As many as wait in a socket where each takes a page, as behind native XDP.
const COUNT: u32 = 40;

/// How many of [`COUNT`] datagrams arrive.
fn arriving(site: &Site, from: &str) -> u32 {
    let to = SocketAddr::new(SERVER_V4.parse().unwrap(), PORT);
    let receiver = site.server.udp(to);
    let sender = site.peer.udp(SocketAddr::new(from.parse().unwrap(), 0));
    receiver.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    for n in 0..COUNT {
        sender.send_to(&n.to_be_bytes(), to).unwrap();
        // Slowly enough for any ring.
        std::thread::sleep(Duration::from_millis(1));
    }
    (0..COUNT).take_while(|_| receiver.recv(&mut [0; 16]).is_ok()).count() as u32
}

fn in_pass(site: &Site) -> u64 {
    let status = site.status();
    let counters = status["counters"].as_array().unwrap();
    counters.iter().find(|c| c["name"] == "in_pass").unwrap()["packets"].as_u64().unwrap()
}

/// A block, its control, counts to the packet, its end, and nothing that stays.
fn enforces_and_leaves_nothing(site: &Site, mode: &str) {
    let agent = site.start();
    assert_eq!(site.status()["xdp_mode"], mode);
    assert_eq!(site.egress_programs(), 1);
    let everybody = || [BAD, GOOD].iter().all(|h| site.passes(h, PORT) && site.leaves(h));
    assert!(everybody(), "before");
    let before = in_pass(site);
    assert_eq!(arriving(site, GOOD), COUNT);
    // Besides these there are the neighbours' own messages.
    let counted = in_pass(site) - before;
    assert!((u64::from(COUNT)..u64::from(COUNT) + 50).contains(&counted), "{counted} were counted of {COUNT}");
    site.ok(&format!("decisions add {BAD} -a drop --for 1h"));
    assert_eq!(arriving(site, BAD), 0, "blocked");
    assert_eq!(site.decision(BAD)["packets"], COUNT, "and each was a hit");
    assert!(!site.leaves(BAD), "the other way");
    assert!(site.passes(GOOD, PORT) && site.leaves(GOOD), "the neighbour");
    agent.kill();
    assert!(!site.passes(BAD, PORT) && !site.leaves(BAD), "without an agent");
    let agent = site.start();
    assert!(agent.own_log().contains("took over"), "{}", agent.own_log());
    assert_eq!((site.status()["xdp_mode"].as_str(), site.egress_programs()), (Some(mode), 1));
    assert!(!site.passes(BAD, PORT) && !site.leaves(BAD) && site.passes(GOOD, PORT), "with the next one");
    site.ok(&format!("decisions delete {BAD}"));
    assert!(everybody(), "after");
    agent.stop();
    site.ok(&format!("unload -i {INTERFACE}"));
    assert_eq!((site.xdp(), site.egress_programs(), site.pins().exists()), (None, 0, false));
    assert!(!site.tc("qdisc show dev weir0").contains("clsact"));
    assert!(everybody(), "without Weir");
}

/// A site for the test, or the reason why there is none.
fn site(test: &str, join: Join) -> Option<Site> {
    if !ready(test) {
        return None;
    }
    match Site::joined(join, &[BAD, GOOD]) {
        Ok(site) => Some(site),
        Err(missing) => {
            eprintln!("SKIP {test}: {missing}");
            None
        }
    }
}

#[test]
fn a_veth_device_in_generic_mode_is_enforced_on() {
    let Some(site) = site("a_veth_device_in_generic_mode_is_enforced_on", Join::Veth) else { return };
    site.configure("enforce", "xdp: {mode: generic}\n");
    enforces_and_leaves_nothing(&site, "generic");
}

#[test]
fn network_cards_of_virtio_run_native_xdp_and_are_enforced_on() {
    let test = "network_cards_of_virtio_run_native_xdp_and_are_enforced_on";
    let Some(site) = site(test, Join::Cards) else { return };
    enforces_and_leaves_nothing(&site, "native");
}

#[test]
fn network_cards_of_virtio_in_generic_mode_are_enforced_on() {
    let Some(site) = site("network_cards_of_virtio_in_generic_mode_are_enforced_on", Join::Cards) else { return };
    site.configure("enforce", "xdp: {mode: generic}\n");
    enforces_and_leaves_nothing(&site, "generic");
}

#[test]
fn tagged_traffic_is_blocked_and_counted_below_its_vlan_device() {
    let test = "tagged_traffic_is_blocked_and_counted_below_its_vlan_device";
    let Some(site) = site(test, Join::Tagged) else { return };
    enforces_and_leaves_nothing(&site, "native");
}

#[test]
fn a_vlan_device_itself_is_enforced_on_in_generic_mode() {
    let Some(site) = site("a_vlan_device_itself_is_enforced_on_in_generic_mode", Join::Vlan) else { return };
    enforces_and_leaves_nothing(&site, "generic");
}

#[test]
fn a_bond_is_enforced_on_and_blocks_hold_when_its_active_member_fails() {
    let test = "a_bond_is_enforced_on_and_blocks_hold_when_its_active_member_fails";
    let Some(site) = site(test, Join::Bond) else { return };
    enforces_and_leaves_nothing(&site, "native");
    let agent = site.start();
    site.ok(&format!("decisions add {BAD} -a drop --for 1h"));
    ip_command(&format!("-n {} link set {} down", site.server.name(), MEMBERS[0]));
    wait_for("the other member", PATIENCE, || site.passes(GOOD, PORT).then_some(()));
    assert!(!site.passes(BAD, PORT) && !site.leaves(BAD) && site.leaves(GOOD), "through the other member");
    agent.stop();
}

/// Linux 5.18 is the oldest that takes the programs.
#[test]
fn an_agent_starts_or_says_what_this_kernel_lacks() {
    let test = "an_agent_starts_or_says_what_this_kernel_lacks";
    let Some(site) = site(test, Join::Veth) else { return };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let version: Vec<u32> = release.split('.').take(2).map(|n| n.parse().unwrap()).collect();
    if version >= vec![5, 18] {
        let agent = site.start();
        assert_eq!(agent.own_log().contains("egress goes through a clsact filter"), version < vec![6, 6]);
        agent.stop();
        return;
    }
    let (code, words) = site.refused();
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains(&format!("Linux {} is too old", release.trim())), "{words}");
    assert!(words.contains("need 5.18 or later") && words.contains("bpf_loop"), "{words}");
    assert!(words.lines().count() < 20, "and is brief: {words}");
    assert_eq!((site.xdp(), site.egress_programs(), site.pins().exists()), (None, 0, false));
}
