//! What a driver does before a program sees the packet: joins packets, strips tags, spreads them over queues.

use weir_kernel::ethtool::{Channels, Features};

use super::finding::{Check, Finding, Read};

const LRO: Check = Check {
    id: "offload.lro",
    title: "large receive offload",
    why: "drivers refuse native XDP with it, and what it has joined has not the sizes of the wire",
};
const GRO: Check = Check {
    id: "offload.gro",
    title: "generic receive offload",
    why: "in generic mode the program runs behind it, on what it has joined; in native mode it comes later and is harmless",
};
const GRO_HW: Check = Check {
    id: "offload.gro_hw",
    title: "receive offload in hardware",
    why: "the card joins packets before any program sees them, and some drivers refuse native XDP with it",
};
const VLAN: Check = Check {
    id: "offload.vlan",
    title: "VLAN offload",
    why: "the card takes the tag off before a program sees the packet, so flows of different VLANs are counted as one",
};
const QUEUES: Check = Check {
    id: "queues.count",
    title: "receive queues",
    why: "each queue is served by one processor: with one queue, one processor runs the program for every packet",
};
const SPREAD: Check = Check {
    id: "queues.spread",
    title: "receive side scaling",
    why: "queues that the table leaves out get nothing, and their processors do nothing",
};

#[derive(Clone, Debug)]
pub struct Reading {
    pub name: String,
    pub features: Read<Features>,
    /// `None`: the driver has no such thing.
    pub channels: Read<Option<Channels>>,
    pub spread: Read<Option<Vec<u32>>>,
    pub cpus: usize,
    /// VLANs that lie on the interface.
    pub vlans: Vec<String>,
    /// The program runs in generic mode, or would.
    pub generic: bool,
    /// A card, and not something made of software.
    pub card: bool,
}

pub fn judge(r: &Reading) -> Vec<Finding> {
    let mut all = match &r.features {
        Ok(features) => offloads(r, features),
        Err(why) => [LRO, GRO, GRO_HW, VLAN].map(|c| c.unknown(why.clone())).into(),
    };
    all.push(QUEUES.of(&r.channels, |c| match c {
        Some(c) => queues(r, *c),
        None => QUEUES.ok("the driver has no say in them"),
    }));
    all.push(SPREAD.of(&r.spread, |table| match table.as_deref() {
        None | Some([]) => SPREAD.ok("the driver has no table"),
        Some(table) => spread(r, table),
    }));
    all.into_iter().map(|f| f.on(&r.name)).collect()
}

fn offloads(r: &Reading, features: &Features) -> Vec<Finding> {
    let state = |name: &str| features.get(name).copied();
    let on = |name: &str| state(name).is_some_and(|f| f.on);
    let fixed = |name: &str| state(name).is_some_and(|f| f.fixed);
    let said = |name: &str| match state(name) {
        Some(f) if f.fixed => format!("{}, and cannot be changed", if f.on { "on" } else { "off" }),
        Some(f) => if f.on { "on" } else { "off" }.to_owned(),
        None => "the driver has none".to_owned(),
    };
    let turn_off = |f: Finding, name: &str, word: &str| match fixed(name) {
        true => f,
        false => f.mend(format!("ethtool -K {} {word} off", r.name)),
    };
    let lro = match on("rx-lro") {
        true => turn_off(LRO.warning(said("rx-lro")), "rx-lro", "lro"),
        false => LRO.ok(said("rx-lro")),
    };
    let gro = match on("rx-gro") {
        true if r.generic => turn_off(GRO.note("on, and the program runs behind it (generic mode)"), "rx-gro", "gro"),
        _ => GRO.ok(said("rx-gro")),
    };
    let gro_hw = match on("rx-gro-hw") {
        true => turn_off(GRO_HW.warning(said("rx-gro-hw")), "rx-gro-hw", "rx-gro-hw"),
        false => GRO_HW.ok(said("rx-gro-hw")),
    };
    let name = "rx-vlan-hw-parse";
    let vlan = match (on(name), r.vlans.as_slice()) {
        (false, _) => VLAN.ok(said(name)),
        (true, []) if r.card => {
            VLAN.note("on; no VLAN lies on this interface").mend(format!("ethtool -K {} rxvlan off", r.name))
        }
        (true, []) => VLAN.ok("on; no VLAN lies on this interface"),
        (true, vlans) => {
            turn_off(VLAN.warning(format!("on, and {} lie on this interface", vlans.join(", "))), name, "rxvlan")
        }
    };
    vec![lro, gro, gro_hw, vlan]
}

fn queues(r: &Reading, c: Channels) -> Finding {
    let (now, most) = (c.rx.max(c.combined), c.max_rx.max(c.max_combined));
    let seen = format!("{now} of at most {most}, {} processors", r.cpus);
    let wanted = most.min(r.cpus as u32);
    let word = if c.max_combined >= c.max_rx { "combined" } else { "rx" };
    let mend = format!("ethtool -L {} {word} {wanted}", r.name);
    match now {
        1 if wanted > 1 && r.card => QUEUES.warning(seen).mend(mend),
        n if n < wanted => QUEUES.note(seen).mend(mend),
        _ => QUEUES.ok(seen),
    }
}

fn spread(r: &Reading, table: &[u32]) -> Finding {
    let used: std::collections::BTreeSet<_> = table.iter().collect();
    let queues = match &r.channels {
        Ok(Some(c)) => c.rx.max(c.combined) as usize,
        _ => used.len(),
    };
    let seen = format!("{} of {queues} queues get packets", used.len());
    match used.len() < queues {
        true => SPREAD.warning(seen).mend(format!("ethtool -X {} equal {queues}", r.name)),
        false => SPREAD.ok(seen),
    }
}

#[cfg(test)]
mod tests {
    use weir_kernel::ethtool::Feature;

    use super::super::finding::Severity::{self, *};
    use super::*;

    fn judged(change: impl FnOnce(&mut Reading)) -> Vec<Finding> {
        let off = Feature { on: false, fixed: false };
        let names = ["rx-lro", "rx-gro", "rx-gro-hw", "rx-vlan-hw-parse"];
        let mut r = Reading {
            name: "eth0".into(),
            features: Result::Ok(names.map(|n| (n.to_owned(), off)).into()),
            channels: Result::Ok(Some(Channels { combined: 4, max_combined: 8, ..Channels::default() })),
            spread: Result::Ok(Some(vec![0, 1, 2, 3])),
            cpus: 4,
            vlans: Vec::new(),
            generic: false,
            card: true,
        };
        change(&mut r);
        judge(&r)
    }

    fn turn(r: &mut Reading, name: &str, on: bool, fixed: bool) {
        r.features.as_mut().unwrap().insert(name.into(), Feature { on, fixed });
    }

    #[track_caller]
    fn is(change: impl FnOnce(&mut Reading), id: &str, severity: Severity, command: Option<&str>) {
        let all = judged(change);
        let found = all.iter().find(|f| f.id == id).unwrap();
        assert_eq!((found.severity, found.command.as_deref()), (severity, command), "{found:?}");
        assert!(all.iter().all(|f| f.id == id || f.severity == Ok), "{all:?}");
    }

    #[test]
    fn what_joins_packets_or_strips_tags_is_named_with_what_turns_it_off() {
        is(|_| {}, "offload.lro", Ok, None);
        is(|r| turn(r, "rx-lro", true, false), "offload.lro", Warning, Some("ethtool -K eth0 lro off"));
        is(|r| turn(r, "rx-lro", true, true), "offload.lro", Warning, None);
        is(|r| turn(r, "rx-gro", true, false), "offload.gro", Ok, None);
        is(
            |r| {
                turn(r, "rx-gro", true, false);
                r.generic = true;
            },
            "offload.gro",
            Note,
            Some("ethtool -K eth0 gro off"),
        );
        is(|r| turn(r, "rx-gro-hw", true, false), "offload.gro_hw", Warning, Some("ethtool -K eth0 rx-gro-hw off"));
        is(|r| turn(r, "rx-vlan-hw-parse", true, false), "offload.vlan", Note, Some("ethtool -K eth0 rxvlan off"));
        is(
            |r| {
                turn(r, "rx-vlan-hw-parse", true, false);
                r.vlans = vec!["eth0.7".into()];
            },
            "offload.vlan",
            Warning,
            Some("ethtool -K eth0 rxvlan off"),
        );
    }

    #[test]
    fn queues_that_do_nothing_are_named() {
        let one = |r: &mut Reading| {
            r.channels = Result::Ok(Some(Channels { combined: 1, max_combined: 8, ..Channels::default() }));
            r.spread = Result::Ok(None);
        };
        is(one, "queues.count", Warning, Some("ethtool -L eth0 combined 4"));
        is(|r| r.channels = Result::Ok(None), "queues.count", Ok, None);
        is(
            |r| r.spread = Result::Ok(Some(vec![0, 1, 0, 1])),
            "queues.spread",
            Warning,
            Some("ethtool -X eth0 equal 4"),
        );
        is(|r| r.spread = Err("takes root".into()), "queues.spread", Unknown, None);
    }

    #[test]
    fn without_features_nothing_is_said_to_be_off() {
        let all = judged(|r| r.features = Err("no such ioctl".into()));
        assert_eq!(all.iter().filter(|f| f.severity == Unknown && f.seen == "no such ioctl").count(), 4);
    }
}
