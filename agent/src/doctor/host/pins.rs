//! Of what lies in the bpf file system.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use weir_common::ABI_VERSION;
use weir_common::counters::Reason;
use weir_kernel::link::Interface;
use weir_kernel::pins::{self, Pins};

use crate::doctor::finding::Read;
use crate::doctor::programs::{PinState, Pinned};

/// Network namespaces that somebody is in or that have a name; not all of them without root.
fn namespaces() -> BTreeSet<u64> {
    let inode = |path: &Path| std::fs::metadata(path).map(|m| m.ino()).ok();
    let list = |dir: &str| std::fs::read_dir(dir).into_iter().flatten().flatten();
    let processes = list("/proc").filter_map(|p| inode(&p.path().join("ns/net")));
    let named = ["/run/netns", "/var/run/docker/netns"].into_iter().flat_map(list).filter_map(|n| inode(&n.path()));
    processes.chain(named).collect()
}

/// Whether an agent holds the lock of an interface.
fn held(namespace: u64, ifindex: u32) -> bool {
    let path = crate::store::interface_lock(crate::app::RUN_DIR.as_ref(), namespace, ifindex);
    let Ok(file) = std::fs::File::open(path) else { return false };
    Flock::lock(file, FlockArg::LockSharedNonblock).is_err()
}

fn state(pins: &Pins, here: u64, links: &[Interface], namespaces: &BTreeSet<u64>) -> Read<PinState> {
    let (Some(namespace), Some(ifindex)) = (pins.namespace(), pins.ifindex()) else {
        return Ok(PinState::Strange);
    };
    if held(namespace, ifindex) {
        return Ok(PinState::Used);
    }
    if namespace != here {
        let alive = namespaces.contains(&namespace);
        return Ok(if alive { PinState::Elsewhere } else { PinState::NoNamespace });
    }
    if !links.iter().any(|d| d.index == ifindex) {
        return Ok(PinState::NoInterface);
    }
    let said = |e: weir_kernel::KernelError| e.to_string();
    if pins.unfinished().map_err(said)? {
        return Ok(PinState::Unfinished);
    }
    match pins.meta().map_err(said)? {
        Some(meta) if meta.abi_version == ABI_VERSION => Ok(PinState::Unattended),
        meta => Ok(PinState::Foreign(meta.map_or(0, |m| m.abi_version))),
    }
}

pub fn read(links: &Read<Vec<Interface>>) -> Read<Vec<Pinned>> {
    let links = links.as_ref().map_err(Clone::clone)?;
    let said = |e: weir_kernel::KernelError| match &e {
        weir_kernel::KernelError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            format!("{e} (takes root)")
        }
        _ => e.to_string(),
    };
    let all = Pins::all().map_err(said)?;
    if !all.is_empty() && !super::is_root() {
        return Err(format!("looking into the {} below {} takes root", all.len(), pins::ROOT));
    }
    let (here, namespaces) = (pins::netns().map_err(said)?, namespaces());
    let mut found = Vec::new();
    for pins in all {
        let interface = pins.meta().ok().flatten().map(|m| pins::interface_name(&m)).unwrap_or_default();
        // Only root opens what is pinned.
        let state = state(&pins, here, links, &namespaces)?;
        found.push(Pinned { dir: pins.dir().to_owned(), interface, state });
    }
    Ok(found)
}

/// Packets for which there was no room, as the maps of the interface have counted; `None` where there are none to ask.
pub fn overflow(ifindex: u32) -> Option<u64> {
    let all = Pins::of(ifindex).ok()?.counters().ok()?.read().ok()?;
    let lost = all.iter().filter(|(r, _)| matches!(r, Reason::InOverflow | Reason::OutOverflow));
    Some(lost.map(|(_, c)| c.packets).sum())
}
