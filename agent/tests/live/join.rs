//! What joins the host with its neighbour.

use crate::support::*;

/// On both ends. `weir0` is what the agent runs on.
#[derive(Clone, Copy, Debug)]
pub enum Join {
    Veth,
    /// Two network cards that are cabled together, as `WEIR_TEST_NICS` names them: two hardware addresses with a comma between.
    Cards,
    /// Tagged traffic through `weir0`, whose addresses are on a VLAN device above it.
    Tagged,
    /// `weir0` is a VLAN device.
    Vlan,
    /// `weir0` is a bond of two veth devices, one of which is idle.
    Bond,
}

/// Above or below `weir0`.
pub const MEMBERS: [&str; 2] = ["member0", "member1"];

impl Join {
    /// Makes it, up. Returns the device that is to have the addresses, or what is missing for it here.
    pub fn make(self, server: &Netns, peer: &Netns) -> Result<&'static str, String> {
        let both = [server, peer];
        match self {
            Self::Veth => veth("weir0", both),
            Self::Cards => {
                let cards = cards()?;
                for (netns, mac) in both.into_iter().zip(&cards) {
                    let name = wait_for("the card", std::time::Duration::from_secs(30), || with_address(mac));
                    ip_command(&format!("link set {name} netns {} name weir0", netns.name()));
                }
            }
            Self::Tagged | Self::Vlan => {
                let (below, above) =
                    if matches!(self, Self::Vlan) { ("member0", "weir0") } else { ("weir0", "tagged0") };
                veth(below, both);
                for netns in both {
                    let n = netns.name();
                    made("VLAN", &format!("-n {n} link add {above} link {below} type vlan id 5"))?;
                    up(netns, &[below, above]);
                }
                return Ok(above);
            }
            Self::Bond => {
                for netns in both {
                    let n = netns.name();
                    made("bonding", &format!("-n {n} link add weir0 type bond mode active-backup miimon 20"))?;
                }
                for member in MEMBERS {
                    veth(member, both);
                    for netns in both {
                        ip_command(&format!("-n {} link set {member} master weir0", netns.name()));
                    }
                }
                for netns in both {
                    up(netns, &MEMBERS);
                }
            }
        }
        for netns in both {
            up(netns, &["weir0"]);
        }
        Ok("weir0")
    }

    /// Before the namespaces end: cards go back to where they came from, with whatever name they have.
    pub fn part(self, server: &Netns, peer: &Netns) {
        if matches!(self, Self::Cards) {
            for (n, netns) in [server, peer].into_iter().enumerate() {
                let _ = ip_tried(&format!("-n {} link set weir0 down", netns.name()));
                let _ = ip_tried(&format!("-n {} link set weir0 name card{n}", netns.name()));
            }
        }
    }
}

fn veth(name: &str, [a, b]: [&Netns; 2]) {
    ip_command(&format!("link add {name} netns {} type veth peer name {name} netns {}", a.name(), b.name()));
}

fn up(netns: &Netns, devices: &[&str]) {
    for device in devices {
        ip_command(&format!("-n {} link set {device} up", netns.name()));
    }
}

/// A device of a kind that not every kernel has.
fn made(kind: &str, arguments: &str) -> Result<(), String> {
    match ip_tried(arguments) {
        Ok(()) => Ok(()),
        Err(said) if said.contains("Unknown device type") || said.contains("not supported") => {
            Err(format!("this kernel has no {kind} devices (`cargo xtask vm` boots some that have)"))
        }
        Err(said) => panic!("ip {arguments}: {said}"),
    }
}

fn cards() -> Result<[String; 2], String> {
    let named = std::env::var("WEIR_TEST_NICS")
        .map_err(|_| "no cards in WEIR_TEST_NICS (`cargo xtask vm` boots machines that have two)".to_owned())?;
    let (a, b) = named.split_once(',').ok_or(format!("WEIR_TEST_NICS is `{named}`, not two addresses"))?;
    Ok([a.to_owned(), b.to_owned()])
}

/// The interface with this hardware address. It comes back from a namespace that ended, under any name.
fn with_address(mac: &str) -> Option<String> {
    let all = std::fs::read_dir("/sys/class/net").unwrap();
    all.flatten()
        .find(|e| std::fs::read_to_string(e.path().join("address")).is_ok_and(|a| a.trim() == mac))
        .map(|e| e.file_name().to_string_lossy().into_owned())
}
