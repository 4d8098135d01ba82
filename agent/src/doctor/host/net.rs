//! Of interfaces, their drivers and programs, and of other firewalls.

use weir_common::names::{PROGRAM_TC, PROGRAM_XDP};
use weir_kernel::ethtool::Ethtool;
use weir_kernel::link::{self, Interface, Mode};
use weir_kernel::netlink::{DUMP, Socket, attributes, text_of};
use weir_kernel::pins::Pins;
use weir_kernel::strangers;

use super::{failed, text};
use crate::doctor::finding::Read;
use crate::doctor::{interface, offload, programs};

pub fn all() -> Read<Vec<Interface>> {
    link::list().map_err(|e| failed("asking for the interfaces", &e))
}

/// Ids of the programs that Weir has pinned for an interface.
fn ours(index: u32) -> [Option<u32>; 2] {
    match Pins::of(index) {
        Ok(pins) => [pins.program_of(&pins.link_xdp()), pins.program_of(&pins.link_tc())],
        Err(_) => [None; 2],
    }
}

pub fn interface(name: &str, all: &Read<Vec<Interface>>, configured: &'static str) -> interface::Reading {
    let mut r = interface::Reading {
        name: name.to_owned(),
        all: all.clone(),
        features: Err("there is no such interface".into()),
        driver: Err("there is no such interface".into()),
        ours: None,
        configured,
    };
    if let Some(d) = r.found().cloned() {
        r.features = link::xdp_features(d.index).map_err(|e| failed("asking what the driver can do", &e));
        r.driver = Ethtool::open().and_then(|e| e.driver(&d.name)).map_err(|e| failed("asking the driver", &e));
        r.ours = ours(d.index)[0];
    }
    r
}

/// `None` where the driver has no such thing.
fn optional<T>(what: &str, read: std::io::Result<T>) -> Read<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL)) => Ok(None),
        Err(e) => Err(failed(what, &e)),
    }
}

/// `native`: whether the driver has native XDP.
pub fn offload(d: &Interface, all: &[Interface], native: Option<bool>) -> offload::Reading {
    let ethtool = Ethtool::open();
    let ask = |e: &std::io::Error| failed("asking the driver", e);
    let vlan = |v: &&Interface| v.below == Some(d.index) && v.kind.as_deref() == Some("vlan");
    let attached = d.xdp.first().map(|x| x.mode == Mode::Generic);
    offload::Reading {
        name: d.name.clone(),
        features: ethtool.as_ref().map_err(ask).and_then(|e| e.features(&d.name).map_err(|e| ask(&e))),
        channels: ethtool.as_ref().map_err(ask).and_then(|e| optional("asking for queues", e.channels(&d.name))),
        spread: ethtool.as_ref().map_err(ask).and_then(|e| optional("asking how flows are spread", e.spread(&d.name))),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        vlans: all.iter().filter(vlan).map(|v| v.name.clone()).collect(),
        generic: attached.unwrap_or(native == Some(false)),
        card: d.kind.is_none() && !d.loopback,
    }
}

pub fn programs(d: &Interface) -> programs::OnInterface {
    programs::OnInterface {
        name: d.name.clone(),
        xdp: Ok(d.xdp.iter().map(|x| (*x, strangers::name(x.program))).collect()),
        filters: strangers::filters(d.index).map_err(|e| failed("asking for programs of traffic control", &e)),
        ours: ours(d.index).into_iter().flatten().collect(),
        our_names: [PROGRAM_XDP, PROGRAM_TC],
    }
}

/// Tables of nftables, by family and name (linux/netfilter/nf_tables.h, NFT_MSG_GETTABLE).
fn tables() -> Read<Vec<String>> {
    const NFNL_SUBSYS_NFTABLES: u16 = 10 << 8;
    const GETTABLE: u16 = 1;
    const TABLE_NAME: u16 = 1;
    let said = |e: std::io::Error| failed("asking for nftables", &e);
    let answers = match Socket::open(libc::NETLINK_NETFILTER).map_err(said)?.ask(
        NFNL_SUBSYS_NFTABLES | GETTABLE,
        DUMP,
        &[0; 4],
    ) {
        // Not in this kernel, or not loaded: there are none.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT)) => {
            return Ok(Vec::new());
        }
        answers => answers.map_err(said)?,
    };
    let family = |f: u8| match i32::from(f) {
        1 => "inet",
        libc::AF_INET => "ip",
        libc::AF_INET6 => "ip6",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        _ => "other",
    };
    let table = |a: &Vec<u8>| {
        let name = attributes(a.get(4..)?).find(|(k, _)| *k == TABLE_NAME)?.1;
        Some(format!("{} {}", family(*a.first()?), text_of(name)))
    };
    Ok(answers.iter().filter_map(table).collect())
}

/// Tables of the iptables that are no nftables; files that are not there say that there are none.
fn legacy() -> Read<Vec<String>> {
    let mut all = Vec::new();
    for (file, name) in [("/proc/net/ip_tables_names", "IPv4"), ("/proc/net/ip6_tables_names", "IPv6")] {
        match std::fs::read_to_string(file) {
            Ok(names) => all.extend(names.split_whitespace().map(|n| format!("{name} {n}"))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(file, &e)),
        }
    }
    Ok(all)
}

/// Programs that filter packets or have others do it, as processes call themselves (15 bytes).
const FILTERING: [&str; 10] = [
    "firewalld",
    "fail2ban-server",
    "crowdsec",
    "crowdsec-firewa",
    "cilium-agent",
    "calico-node",
    "suricata",
    "Suricata-Main",
    "fastnetmon",
    "bpfman",
];

pub fn firewalls() -> programs::Filters {
    let mut running = std::collections::BTreeSet::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        if process.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit())
            && let Ok(name) = text(process.path().join("comm"))
            && FILTERING.contains(&name.as_str())
        {
            running.insert(name);
        }
    }
    programs::Filters { tables: tables(), legacy: legacy(), programs: running.into_iter().collect() }
}
