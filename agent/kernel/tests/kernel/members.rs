//! Several interfaces that look at the same entries.

use std::os::fd::AsFd;

use weir_common::counters::Reason;
use weir_kernel::flows::drain_all;
use weir_kernel::lists::List;
use weir_kernel::pins::Pins;
use weir_kernel::{Datapath, Hold, Member, Options, Shared, link, sys};

use crate::frames::*;
use crate::support::*;

fn options() -> Options {
    Options { capacity: small(), ..Options::default() }
}

fn pins() -> PinGuard {
    PinGuard(Pins::named(&format!("test-{}", unique())))
}

fn run(member: &mut Member, frame: &[u8]) -> u32 {
    let (xdp, _) = member.programs().unwrap();
    sys::test_run(xdp.as_fd(), frame, &[], 1, 0).unwrap().verdict
}

fn load(pins: &PinGuard, shared: &Shared) -> Member {
    Member::load(pins.0.clone(), "none", 0, options(), shared).unwrap()
}

#[test]
fn an_entry_is_written_once_and_holds_on_every_member_and_on_those_who_come() {
    if !ready("an_entry_is_written_once_and_holds_on_every_member_and_on_those_who_come") {
        return;
    }
    let (us, bad, near) = (v4("192.0.2.1"), v4("198.51.100.66"), v4("198.51.100.67"));
    let (bad, near, key) = (segment(bad, us, 443), segment(near, us, 443), host(bad));
    let all = [pins(), pins(), pins()];
    let shared = Shared::create(&small()).unwrap();
    let mut table = shared.table(&small()).unwrap();
    let (mut a, mut b) = (load(&all[0], &shared), load(&all[1], &shared));
    assert_eq!([run(&mut a, &bad), run(&mut b, &bad)], [XDP_PASS; 2]);
    table.set(List::Block, &[(key, dropping())]).unwrap();
    let mut c = load(&all[2], &shared);
    for member in [&mut a, &mut b, &mut c] {
        assert_eq!([run(member, &bad), run(member, &near)], [XDP_DROP, XDP_PASS]);
    }
    assert_eq!(table.hits(List::Block, &key).unwrap().packets, 3, "hits are those of all");
    // Flows and verdicts are each one's own, and are read together.
    let (mut flows, mut counts) = (Vec::new(), Vec::new());
    let report = drain_all([&mut a.epochs, &mut b.epochs, &mut c.epochs].into_iter(), &mut flows, &mut counts).unwrap();
    assert_eq!((report.flows, flows.len(), counts), (5, 5, vec![2, 2, 1]));
    let dropped =
        |m: &Member| m.counters.read().unwrap().iter().find(|(r, _)| *r == Reason::InDropped).unwrap().1.packets;
    assert_eq!([&a, &b, &c].map(dropped), [1; 3]);
    // One that goes takes nothing along.
    drop(a);
    weir_kernel::datapath::unload(&all[0].0).unwrap();
    assert_eq!([run(&mut b, &bad), run(&mut b, &near)], [XDP_DROP, XDP_PASS]);
    table.remove(List::Block, &[key]).unwrap();
    assert_eq!([run(&mut b, &bad), run(&mut c, &bad)], [XDP_PASS; 2]);
}

#[test]
fn two_agents_interfaces_become_one_agents_without_a_gap() {
    if !ready("two_agents_interfaces_become_one_agents_without_a_gap") {
        return;
    }
    let (us, bad, worse) = (v4("192.0.2.1"), v4("198.51.100.66"), v4("198.51.100.67"));
    let all = [pins(), pins()];
    let mut first = Datapath::load(all[0].0.clone(), "none", 0, options()).unwrap();
    let mut second = Datapath::load(all[1].0.clone(), "none", 0, options()).unwrap();
    first.lists.set(List::Block, &[(host(bad), dropping())]).unwrap();
    second.lists.set(List::Block, &[(host(worse), dropping())]).unwrap();
    assert_eq!(run(&mut second, &segment(us, v4("203.0.113.1"), 443)), XDP_PASS);
    drop((first, second));
    // Hashed with different seeds, both sets of maps are replaced by one; what the second had counted is not lost.
    let shared = all[0].0.shared("none", &small()).unwrap();
    let mut table = shared.table(&small()).unwrap();
    let mut members = [&all[0], &all[1]].map(|pins| load(pins, &shared));
    for member in &mut members {
        assert_eq!(run(member, &segment(bad, us, 443)), XDP_DROP);
        assert_eq!(run(member, &segment(worse, us, 443)), XDP_PASS);
    }
    table.set(List::Block, &[(host(worse), dropping())]).unwrap();
    for member in &mut members {
        assert_eq!(run(member, &segment(worse, us, 443)), XDP_DROP);
    }
}

#[test]
fn what_is_loaded_ahead_is_given_to_an_interface_and_looked_after_there() {
    if !ready("what_is_loaded_ahead_is_given_to_an_interface_and_looked_after_there") {
        return;
    }
    let (here, there) = (Netns::new("here"), Netns::new("there"));
    veth_pair(&here, &there, 1500);
    let shared = Shared::create(&small()).unwrap();
    let mut table = shared.table(&small()).unwrap();
    here.enter(|| {
        let index = link::index_of("weir0").unwrap();
        let spare = Pins::spare(std::process::id(), 7).unwrap();
        assert_eq!((spare.spare_of(), spare.ifindex()), (Some(std::process::id()), None));
        let ahead = PinGuard(spare);
        let mut member = load(&ahead, &shared);
        let of = PinGuard(Pins::of(index).unwrap());
        assert_eq!(of.0.spare_of(), None);
        member.give_to(of.0.clone(), "weir0", index).unwrap();
        assert!(!ahead.0.dir().exists());
        member.attach().unwrap();
        let meta = of.0.meta().unwrap().unwrap();
        assert_eq!((meta.ifindex, weir_kernel::pins::interface_name(&meta).as_str()), (index, "weir0"));
        table.set(List::Block, &[(host(v4("198.51.100.66")), dropping())]).unwrap();
        let (_, _, mut programs) = member.into_parts();
        assert_eq!(programs.look(), Hold::Holds);
        let before = link::query(index).unwrap().xdp;
        assert_eq!(before.len(), 1);
        for pin in [of.0.link_xdp(), of.0.link_tc()] {
            sys::link_detach(sys::obj_get(&pin).unwrap().as_fd()).unwrap();
            assert!(matches!(programs.look(), Hold::Lost(_)));
            programs.attach().unwrap();
            assert_eq!(programs.look(), Hold::Holds);
        }
        assert_eq!(link::query(index).unwrap().xdp, before, "the same program");
        // A pin that is taken away ends nothing, and is put back.
        std::fs::remove_file(of.0.link_xdp()).unwrap();
        assert_eq!(programs.look(), Hold::Holds);
        assert!(of.0.link_xdp().exists() && link::query(index).unwrap().xdp == before);
        assert!(programs.interface_lives());
        programs.let_go().unwrap();
        assert!(link::query(index).unwrap().xdp.is_empty() && !of.0.dir().exists());
    });
}

#[test]
fn an_egress_filter_without_a_link_is_missed_too() {
    if !ready("an_egress_filter_without_a_link_is_missed_too") {
        return;
    }
    let (here, there) = (Netns::new("here"), Netns::new("there"));
    veth_pair(&here, &there, 1500);
    let clsact = Options { tc: weir_kernel::datapath::TcMode::Clsact, ..options() };
    let (_pins, mut programs) = here.enter(|| {
        let mut d = Datapath::open("weir0", clsact).unwrap();
        let pins = PinGuard(d.pins.clone());
        d.attach().unwrap();
        (pins, d.into_parts().4)
    });
    assert_eq!(here.enter(|| programs.look()), Hold::Holds);
    let out = std::process::Command::new("tc")
        .args(["-n", here.name(), "filter", "del", "dev", "weir0", "egress"])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(matches!(here.enter(|| programs.look()), Hold::Lost(_)));
    here.enter(|| programs.attach()).unwrap();
    assert_eq!(here.enter(|| programs.look()), Hold::Holds);
}
