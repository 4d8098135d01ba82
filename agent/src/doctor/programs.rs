//! Programs of others, pins that nobody uses, and other firewalls.

use std::path::PathBuf;

use weir_kernel::link::Attached;
use weir_kernel::strangers::{Filter, Side};

use super::finding::{Check, Finding, Read};

const XDP: Check = Check {
    id: "programs.xdp",
    title: "XDP programs of others",
    why: "an interface runs one XDP program, and Weir never replaces another's",
};
const TC: Check = Check {
    id: "programs.tc",
    title: "TC programs of others",
    why: "a program that runs before Weir's may drop, redirect or pass what Weir then does not see at egress",
};
const PINS: Check = Check {
    id: "pins.stale",
    title: "pins",
    why: "pins hold maps in memory, and programs on their interface, whether an agent runs or not",
};
const FIREWALLS: Check = Check {
    id: "firewalls",
    title: "other firewalls",
    why: "Weir sees packets before netfilter does: what that drops is counted all the same, and looks as if nobody answered",
};

/// Programs on one interface.
#[derive(Clone, Debug)]
pub struct OnInterface {
    pub name: String,
    pub xdp: Read<Vec<(Attached, String)>>,
    pub filters: Read<Vec<Filter>>,
    /// Ids of our own, as far as pins tell.
    pub ours: Vec<u32>,
    /// Names of our own programs, for classic filters, which have no pin.
    pub our_names: [&'static str; 2],
}

pub fn judge_interface(r: &OnInterface) -> Vec<Finding> {
    let foreign = |(a, _): &&(Attached, String)| !r.ours.contains(&a.program);
    let xdp = XDP.of(&r.xdp, |all| match all.iter().find(foreign) {
        None => XDP.ok(if all.is_empty() { "none" } else { "none but Weir's" }),
        Some((a, name)) => {
            let known = match name.as_str() {
                "xdp_dispatcher" => " (libxdp's: several programs may share the interface behind it)",
                n if n.starts_with("cil_") => " (of Cilium)",
                _ => "",
            };
            let name =
                if name.is_empty() { "a program whose name only root sees".to_owned() } else { format!("`{name}`") };
            // `xdp off` alone leaves a generic program of a driver that has native XDP where it is.
            let (mode, word) = match a.mode {
                weir_kernel::link::Mode::Native => ("native", "xdp"),
                weir_kernel::link::Mode::Generic => ("generic", "xdpgeneric"),
                weir_kernel::link::Mode::Offloaded => ("on the card", "xdpoffload"),
            };
            XDP.error(format!("{name}{known}, id {}, {mode}", a.program))
                .mend(format!("ip link set dev {} {word} off", r.name))
        }
    });
    let tc = TC.of(&r.filters, |all| {
        let ours =
            |f: &&Filter| !f.program.is_some_and(|p| r.ours.contains(&p)) && !r.our_names.contains(&f.name.as_str());
        let foreign: Vec<_> = all.iter().filter(ours).collect();
        let words = |f: &&Filter| {
            let side = if f.side == Side::Ingress { "ingress" } else { "egress" };
            let id = f.program.map_or(String::new(), |p| format!(", id {p}"));
            format!("`{}`{id} at {side}", f.name)
        };
        match foreign.is_empty() {
            true => TC.ok("none"),
            false => TC
                .note(foreign.iter().map(words).collect::<Vec<_>>().join("; "))
                .mend(format!("tc filter show dev {0} egress; bpftool net show dev {0}", r.name)),
        }
    });
    vec![xdp.on(&r.name), tc.on(&r.name)]
}

/// Pins of one interface, as they lie in the bpf file system.
#[derive(Clone, Debug, PartialEq)]
pub struct Pinned {
    pub dir: PathBuf,
    /// As META says; empty: it says nothing.
    pub interface: String,
    pub state: PinState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinState {
    /// An agent uses them.
    Used,
    /// They enforce, and no agent runs.
    Unattended,
    /// Their interface is gone.
    NoInterface,
    /// Their network namespace is gone, as far as can be seen.
    NoNamespace,
    /// Of another version of Weir.
    Foreign(u32),
    /// Of a start that did not come to its end.
    Unfinished,
    /// Of a network namespace that this process is not in.
    Elsewhere,
    /// No folder that Weir makes.
    Strange,
}

pub fn judge_pins(pins: &Read<Vec<Pinned>>) -> Vec<Finding> {
    let all = match pins {
        Ok(all) => all,
        Err(why) => return vec![PINS.unknown(why.clone())],
    };
    let mut found = Vec::new();
    for p in all {
        let dir = p.dir.display();
        let named = if p.interface.is_empty() { String::new() } else { format!(" ({})", p.interface) };
        let said = |words: &str| format!("{dir}{named}: {words}");
        let remove = format!("rm -r {dir}");
        let unload = match p.interface.is_empty() {
            true => remove.clone(),
            false => format!("weir unload -i {}", p.interface),
        };
        found.push(match p.state {
            PinState::Used | PinState::Elsewhere => continue,
            PinState::Unattended => PINS
                .note(said("what is blocked stays blocked, and no agent runs"))
                .mend(format!("weir run -i {0}   # or, to block nothing any more: weir unload -i {0}", p.interface)),
            PinState::NoInterface => {
                PINS.warning(said("the interface is gone, and its maps stay in memory")).mend(remove)
            }
            PinState::NoNamespace => {
                PINS.warning(said("the network namespace is gone, and its maps stay in memory")).mend(remove)
            }
            PinState::Foreign(abi) => {
                let ours = weir_common::ABI_VERSION;
                PINS.error(said(&format!("of another version of Weir (ABI {abi}, this one has {ours})"))).mend(unload)
            }
            PinState::Unfinished => {
                PINS.note(said("of a start that did not come to its end; the next one removes them")).mend(unload)
            }
            PinState::Strange => PINS.warning(said("nothing that this version makes")).mend(remove),
        });
    }
    if found.is_empty() {
        let used = all.iter().filter(|p| p.state == PinState::Used).count();
        let elsewhere = all.iter().filter(|p| p.state == PinState::Elsewhere).count();
        let words = match (used, elsewhere) {
            (0, 0) => "none".to_owned(),
            (n, 0) => format!("{n} in use"),
            (n, m) => format!("{n} in use, {m} of other network namespaces"),
        };
        found.push(PINS.ok(words));
    }
    found
}

/// Whatever else filters packets.
#[derive(Clone, Debug)]
pub struct Filters {
    /// Tables of nftables.
    pub tables: Read<Vec<String>>,
    /// Tables of the iptables that are no nftables.
    pub legacy: Read<Vec<String>>,
    /// Programs that are known to filter, and run.
    pub programs: Vec<String>,
}

pub fn judge_firewalls(r: &Filters) -> Finding {
    let mut parts = Vec::new();
    let mut unknown = Vec::new();
    for (what, read) in [("nftables", &r.tables), ("iptables (legacy)", &r.legacy)] {
        match read {
            Ok(names) if names.is_empty() => {}
            Ok(names) => parts.push(format!("{what}: {}", names.join(", "))),
            Err(why) => unknown.push(format!("{what}: {why}")),
        }
    }
    if !r.programs.is_empty() {
        parts.push(format!("running: {}", r.programs.join(", ")));
    }
    match (parts.is_empty(), unknown.is_empty()) {
        (false, _) => FIREWALLS.note(parts.join("; ")).mend("nft list ruleset; iptables-save"),
        (true, false) => FIREWALLS.unknown(unknown.join("; ")),
        (true, true) => FIREWALLS.ok("none"),
    }
}

#[cfg(test)]
mod tests {
    use weir_kernel::link::Mode;

    use super::super::finding::Severity;
    use super::*;

    fn on(xdp: Vec<(Attached, String)>, filters: Vec<Filter>) -> Vec<Finding> {
        let our_names = ["weir_ingress", "weir_egress"];
        judge_interface(&OnInterface {
            name: "eth0".into(),
            xdp: Ok(xdp),
            filters: Ok(filters),
            ours: vec![5, 6],
            our_names,
        })
    }

    #[test]
    fn strangers_are_named_and_our_own_programs_are_not() {
        let at = |program| Attached { program, mode: Mode::Native };
        let filter = |program, name: &str| Filter { side: Side::Egress, program, name: name.into(), tcx: true };
        for all in [
            on(vec![], vec![]),
            on(vec![(at(5), "weir".into())], vec![filter(Some(6), "x"), filter(Some(9), "weir_egress")]),
        ] {
            assert!(all.iter().all(|f| f.severity == Severity::Ok), "{all:?}");
        }
        let all = on(vec![(at(7), "stranger".into())], vec![filter(Some(8), "other")]);
        assert_eq!((all[0].severity, all[1].severity), (Severity::Error, Severity::Note));
        assert_eq!(all[0].seen, "`stranger`, id 7, native");
        assert_eq!(all[0].command.as_deref(), Some("ip link set dev eth0 xdp off"));
        assert_eq!(all[1].seen, "`other`, id 8 at egress");
    }

    #[test]
    fn pins_that_nobody_uses_are_found_with_what_removes_them() {
        let pins = |state| {
            let p = Pinned { dir: "/sys/fs/bpf/weir/1-2".into(), interface: "eth0".into(), state };
            judge_pins(&Result::Ok(vec![p])).remove(0)
        };
        use Severity::*;
        for (state, severity, command) in [
            (PinState::Used, Ok, None),
            (PinState::Elsewhere, Ok, None),
            (PinState::NoInterface, Warning, Some("rm -r /sys/fs/bpf/weir/1-2")),
            (PinState::NoNamespace, Warning, Some("rm -r /sys/fs/bpf/weir/1-2")),
            (PinState::Foreign(1), Error, Some("weir unload -i eth0")),
            (PinState::Unfinished, Note, Some("weir unload -i eth0")),
            (PinState::Strange, Warning, Some("rm -r /sys/fs/bpf/weir/1-2")),
        ] {
            let found = pins(state);
            assert_eq!((found.severity, found.command.as_deref()), (severity, command), "{found:?}");
        }
        assert!(pins(PinState::Unattended).command.unwrap().starts_with("weir run -i eth0"));
        assert_eq!(judge_pins(&Err("takes root".into()))[0].severity, Unknown);
        assert_eq!(judge_pins(&Result::Ok(Vec::new()))[0].seen, "none");
    }

    #[test]
    fn other_firewalls_are_noted_and_what_was_not_looked_at_is_not_none() {
        let of = |tables: Read<Vec<String>>, programs: &[&str]| {
            let programs = programs.iter().map(|p| (*p).to_owned()).collect();
            judge_firewalls(&Filters { tables, legacy: Ok(Vec::new()), programs })
        };
        assert_eq!(of(Ok(vec![]), &[]).severity, Severity::Ok);
        let found = of(Ok(vec!["inet filter".into()]), &["firewalld"]);
        assert_eq!(
            (found.severity, found.seen.as_str()),
            (Severity::Note, "nftables: inet filter; running: firewalld")
        );
        assert_eq!(of(Err("takes root".into()), &[]).severity, Severity::Unknown);
    }
}
