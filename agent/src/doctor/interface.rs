//! An interface: whether it is there, what it is built of, its name, MTU, and how XDP runs on it.

use weir_kernel::ethtool::Driver;
use weir_kernel::link::{Interface, Mode, XdpFeatures};

use super::finding::{Check, Finding, Read};

const THERE: Check = Check {
    id: "interface.exists",
    title: "interface",
    why: "the programs are attached to it by this name when the agent starts",
};
const UP: Check = Check { id: "interface.up", title: "state of the interface", why: "nothing passes where it is down" };
const KIND: Check = Check {
    id: "interface.kind",
    title: "kind of interface",
    why: "frames without an Ethernet header cannot be read, and what a bridge or bond is made of decides what is seen where",
};
const NAME: Check = Check {
    id: "interface.name",
    title: "name of the interface",
    why: "names that the kernel gives in the order of discovery may belong to another card after the next boot",
};
const MTU: Check = Check {
    id: "interface.mtu",
    title: "MTU",
    why: "drivers that cannot hand over a frame in several buffers refuse native XDP where a frame does not fit into a page",
};
const SUPPORT: Check = Check {
    id: "xdp.driver",
    title: "native XDP of the driver",
    why: "without it programs run in generic mode: behind the allocation of each packet, and behind GRO",
};
const MODE: Check = Check {
    id: "xdp.mode",
    title: "mode of the program",
    why: "in generic mode each packet costs more, and sizes of what GRO has joined are not those of the wire",
};

/// Frames of this MTU fit into a page of 4096 bytes beside the headroom (256), the `skb_shared_info` at the end (320) and the
/// headers of Ethernet with two VLAN tags (22).
pub const ONE_PAGE: u32 = 4096 - 256 - 320 - 22;

#[derive(Clone, Debug)]
pub struct Reading {
    pub name: String,
    /// Every interface of the namespace.
    pub all: Read<Vec<Interface>>,
    pub features: Read<Option<XdpFeatures>>,
    pub driver: Read<Driver>,
    /// The program that Weir has pinned for it.
    pub ours: Option<u32>,
    /// Other network namespaces are none of this process's, so a card may be there.
    pub configured: &'static str,
}

impl Reading {
    pub fn found(&self) -> Option<&Interface> {
        let named = |d: &&Interface| d.name == self.name || d.alternative.contains(&self.name);
        self.all.as_ref().ok()?.iter().find(named)
    }
}

pub fn judge(r: &Reading) -> Vec<Finding> {
    let all = match &r.all {
        Ok(all) => all,
        Err(why) => return vec![THERE.unknown(why.clone()).on(&r.name)],
    };
    let Some(d) = r.found() else {
        let names: Vec<_> = all.iter().filter(|d| !d.loopback).map(|d| d.name.as_str()).collect();
        let there = if names.is_empty() { "none but loopback".to_owned() } else { names.join(", ") };
        let seen = format!("there is no `{}` in this network namespace ({}); there is {there}", r.name, r.configured);
        return vec![THERE.error(seen).mend("ip -br link").on(&r.name)];
    };
    let driver = r.driver.as_ref().map(|d| d.name.clone()).unwrap_or_default();
    let words =
        [d.kind.as_deref().unwrap_or("card"), &driver].into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>();
    let mut found = vec![
        THERE.ok(format!("index {}, {}", d.index, words.join(", "))),
        up(d),
        kind(d, all),
        name(d, &r.name),
        mtu(d, &r.features),
        support(d, &r.features, &driver),
    ];
    if let Some(ours) = r.ours {
        found.extend(d.xdp.iter().find(|x| x.program == ours).map(|x| mode(d, x.mode)));
    }
    found.into_iter().map(|f| f.on(&r.name)).collect()
}

fn up(d: &Interface) -> Finding {
    match (d.up, d.carrier) {
        (true, true) => UP.ok("up"),
        (true, false) => UP.warning("up, and without a carrier").mend(format!("ip -d link show dev {}", d.name)),
        (false, _) => UP.warning("down").mend(format!("ip link set dev {} up", d.name)),
    }
}

fn named(all: &[Interface], index: Option<u32>) -> String {
    all.iter().find(|d| Some(d.index) == index).map_or_else(|| "another interface".into(), |d| d.name.clone())
}

fn kind(d: &Interface, all: &[Interface]) -> Finding {
    let parts = || {
        let of = all.iter().filter(|p| p.master == Some(d.index)).map(|p| p.name.as_str()).collect::<Vec<_>>();
        if of.is_empty() { "nothing yet".to_owned() } else { of.join(", ") }
    };
    if !d.ethernet {
        let seen =
            format!("{} carries no Ethernet frames: nothing on it can be counted", d.kind.as_deref().unwrap_or("it"));
        return KIND.error(seen).mend("ip -br link");
    }
    let above = named(all, d.master);
    match (d.kind.as_deref(), d.part_of.as_deref()) {
        (_, Some("bond" | "team")) => KIND
            .warning(format!("a part of {above}: it sees a share of each peer's packets, and {above} takes no native program while a part has one"))
            .mend(format!("weir run -i {above}")),
        (_, Some("bridge")) => KIND.ok(format!("a port of the bridge {above}: what is forwarded through it is seen")),
        (_, Some("vrf")) => KIND.ok(format!("a part of the VRF {above}")),
        (Some("bridge"), _) => KIND
            .warning(format!(
                "a bridge of {}: it sees what is for this host alone, in generic mode; its ports see what is forwarded",
                parts()
            ))
            .mend(format!("ip -br link show master {}", d.name)),
        (Some("bond" | "team"), _) => KIND.note(format!("made of {}: native XDP takes drivers that all have it", parts())),
        (Some("vlan"), _) => KIND
            .note(format!("a VLAN on {}: programs run in generic mode here; on {} they see every VLAN", named(all, d.below), named(all, d.below))),
        (Some(kind @ ("macvlan" | "ipvlan" | "vxlan" | "geneve" | "dummy" | "ifb")), _) => {
            KIND.note(format!("{kind}: programs run in generic mode here"))
        }
        (kind, _) if d.loopback => KIND.note(format!("{}: what this host says to itself", kind.unwrap_or("loopback"))),
        (kind, _) => KIND.ok(kind.unwrap_or("a network card")),
    }
}

/// `eth0`, `wlan1`: given by the kernel in the order of discovery.
fn given_in_order(name: &str) -> bool {
    ["eth", "wlan", "wwan", "usb"]
        .iter()
        .any(|p| name.strip_prefix(p).is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit())))
}

fn name(d: &Interface, asked: &str) -> Finding {
    if d.name != asked {
        return NAME.note(format!("`{asked}` is another name of {}; events and pins name that one", d.name));
    }
    let lasting =
        if d.alternative.is_empty() { String::new() } else { format!("; it is also {}", d.alternative.join(", ")) };
    match given_in_order(&d.name) && d.kind.is_none() {
        true => {
            let found = NAME.note(format!("{} may be another card's after a boot{lasting}", d.name));
            match d.alternative.first() {
                Some(other) => found.mend(format!("weir run -i {other}")),
                None => found,
            }
        }
        false => NAME.ok(d.name.clone()),
    }
}

fn mtu(d: &Interface, features: &Read<Option<XdpFeatures>>) -> Finding {
    if d.mtu <= ONE_PAGE || d.loopback {
        return MTU.ok(d.mtu.to_string());
    }
    let mend = format!("ip link set dev {} mtu {ONE_PAGE}", d.name);
    match features {
        Ok(Some(f)) if !f.basic() => MTU.ok(format!("{}; the driver has no native XDP anyway", d.mtu)),
        Ok(Some(f)) if f.several_buffers() => {
            MTU.ok(format!("{}: the driver hands frames over in several buffers", d.mtu))
        }
        Ok(Some(_)) => MTU
            .warning(format!(
                "{} is too large for native XDP: the driver hands over frames of up to {ONE_PAGE} bytes",
                d.mtu
            ))
            .mend(mend),
        Ok(None) => MTU
            .note(format!("{}; this kernel does not tell whether the driver takes more than {ONE_PAGE}", d.mtu))
            .mend(mend),
        Err(why) => MTU.unknown(format!("{}; whether the driver takes it is not known: {why}", d.mtu)),
    }
}

fn support(d: &Interface, features: &Read<Option<XdpFeatures>>, driver: &str) -> Finding {
    let driver = if driver.is_empty() { "the driver" } else { driver };
    SUPPORT.of(features, |f| match f {
        Some(f) if f.basic() => SUPPORT.ok(format!("{driver} has it")),
        Some(_) if d.kind.is_none() && !d.loopback => SUPPORT
            .warning(format!("{driver} has none, or has it turned off (too few queues, LRO)"))
            .mend(format!("ethtool -i {}; ethtool -l {}", d.name, d.name)),
        Some(_) => SUPPORT.note(format!("{driver} has none: programs run in generic mode")),
        None => SUPPORT.unknown("this kernel does not tell (Linux 6.3 and later do)"),
    })
}

fn mode(d: &Interface, mode: Mode) -> Finding {
    match mode {
        Mode::Native => MODE.ok("native"),
        Mode::Offloaded => MODE.ok("on the card"),
        Mode::Generic => MODE.warning("generic").mend(format!(
            "weir unload -i {0} && weir run -i {0}   # after what the other findings name is mended",
            d.name
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn card(name: &str) -> Interface {
        Interface {
            index: 2,
            name: name.into(),
            mtu: 1500,
            up: true,
            carrier: true,
            ethernet: true,
            ..Interface::default()
        }
    }

    fn judged(change: impl FnOnce(&mut Interface, &mut Reading)) -> Vec<Finding> {
        let mut d = card("enp1s0");
        let mut r = Reading {
            name: "enp1s0".into(),
            all: Ok(Vec::new()),
            features: Ok(Some(XdpFeatures(0b10_0111))),
            driver: Ok(Driver { name: "ixgbe".into(), ..Driver::default() }),
            ours: None,
            configured: "as configured",
        };
        change(&mut d, &mut r);
        if let Ok(all) = &mut r.all {
            let bond = Interface { index: 9, name: "bond0".into(), kind: Some("bond".into()), ..card("bond0") };
            all.extend([d, bond]);
        }
        judge(&r)
    }

    #[track_caller]
    fn is(change: impl FnOnce(&mut Interface, &mut Reading), id: &str, severity: Severity, command: Option<&str>) {
        let all = judged(change);
        let found = all.iter().find(|f| f.id == id).unwrap_or_else(|| panic!("{all:?}"));
        assert_eq!((found.severity, found.command.as_deref()), (severity, command), "{found:?}");
    }

    #[test]
    fn a_good_card_is_fine_and_a_missing_one_is_an_error_that_names_those_there_are() {
        let good = judged(|_, _| {});
        assert!(
            good.iter().all(|f| f.severity == Severity::Ok && f.interface.as_deref() == Some("enp1s0")),
            "{good:?}"
        );
        let all = judged(|_, r| r.name = "eth7".into());
        assert_eq!((all.len(), all[0].severity), (1, Severity::Error));
        assert!(all[0].seen.contains("enp1s0, bond0"), "{all:?}");
        let all = judged(|_, r| r.all = Err("no netlink".into()));
        assert_eq!((all[0].severity, all[0].seen.as_str()), (Severity::Unknown, "no netlink"));
    }

    #[test]
    fn what_it_is_built_of_is_judged() {
        use Severity::{Error, Note, Ok, Warning};
        is(|d, _| d.up = false, "interface.up", Warning, Some("ip link set dev enp1s0 up"));
        is(|d, _| d.carrier = false, "interface.up", Warning, Some("ip -d link show dev enp1s0"));
        is(|d, _| d.ethernet = false, "interface.kind", Error, Some("ip -br link"));
        is(
            |d, _| (d.master, d.part_of) = (Some(9), Some("bond".into())),
            "interface.kind",
            Warning,
            Some("weir run -i bond0"),
        );
        is(|d, _| d.part_of = Some("bridge".into()), "interface.kind", Ok, None);
        is(|d, _| d.kind = Some("bridge".into()), "interface.kind", Warning, Some("ip -br link show master enp1s0"));
        is(|d, _| d.kind = Some("vlan".into()), "interface.kind", Note, None);
        is(
            |d, r| {
                (d.name, r.name) = ("eth0".into(), "eth0".into());
                d.alternative = vec!["enp9s0".into()];
            },
            "interface.name",
            Note,
            Some("weir run -i enp9s0"),
        );
        is(|d, r| (d.alternative, r.name) = (vec!["uplink".into()], "uplink".into()), "interface.name", Note, None);
    }

    #[test]
    fn a_large_mtu_is_too_large_where_the_driver_hands_over_one_buffer() {
        use Severity::*;
        let one = |f: u64| Result::Ok(Some(XdpFeatures(f)));
        is(|d, _| d.mtu = 9000, "interface.mtu", Ok, None);
        is(
            |d, r| (d.mtu, r.features) = (9000, one(0b111)),
            "interface.mtu",
            Warning,
            Some("ip link set dev enp1s0 mtu 3498"),
        );
        is(|d, r| (d.mtu, r.features) = (3498, one(0b111)), "interface.mtu", Ok, None);
        is(|d, r| (d.mtu, r.features) = (9000, one(0)), "interface.mtu", Ok, None);
        is(|d, r| (d.mtu, r.features) = (9000, Err("x".into())), "interface.mtu", Unknown, None);
    }

    #[test]
    fn generic_mode_is_warned_about_and_drivers_without_native_xdp_are_named() {
        use Severity::*;
        let attached = |mode| vec![weir_kernel::link::Attached { program: 7, mode }];
        is(|d, r| (d.xdp, r.ours) = (attached(Mode::Native), Some(7)), "xdp.mode", Ok, None);
        let all = judged(|d, r| (d.xdp, r.ours) = (attached(Mode::Generic), Some(7)));
        assert!(all.iter().any(|f| f.id == "xdp.mode" && f.severity == Warning), "{all:?}");
        // A stranger's mode is no matter of ours.
        assert!(!judged(|d, _| d.xdp = attached(Mode::Generic)).iter().any(|f| f.id == "xdp.mode"));
        is(
            |_, r| r.features = Result::Ok(Some(XdpFeatures(0))),
            "xdp.driver",
            Warning,
            Some("ethtool -i enp1s0; ethtool -l enp1s0"),
        );
        is(|_, r| r.features = Result::Ok(None), "xdp.driver", Unknown, None);
    }
}
