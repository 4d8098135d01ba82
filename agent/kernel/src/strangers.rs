//! Programs that others have attached to an interface.

use std::io;

use aya::programs::loaded_programs;
use bytemuck::{Pod, Zeroable};
use serde::Serialize;

use crate::netlink::{DUMP, Socket, attributes, text_of, u32_of};
use crate::sys;

/// Which way packets go at a hook of traffic control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Ingress,
    Egress,
}

/// What runs at a hook of traffic control, in the order in which it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Filter {
    pub side: Side,
    /// Of a BPF program.
    pub program: Option<u32>,
    /// Of the program, or the kind of the filter.
    pub name: String,
    /// By TCX (since Linux 6.6), and not as a classic filter.
    pub tcx: bool,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct QueryAttr {
    ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    pad: u32,
    program_flags: u64,
    link_ids: u64,
    link_flags: u64,
    revision: u64,
}

/// Most programs that are looked at per hook.
const MOST: usize = 64;

/// Ids of the programs at a TCX hook; none where the kernel has no such hooks.
fn tcx(ifindex: u32, side: Side) -> io::Result<Vec<u32>> {
    const PROG_QUERY: u32 = 16;
    let attach_type = match side {
        Side::Ingress => 46,
        Side::Egress => 47,
    };
    let mut ids = vec![0u32; MOST];
    let mut attr =
        QueryAttr { ifindex, attach_type, ids: ids.as_mut_ptr() as u64, count: MOST as u32, ..QueryAttr::zeroed() };
    match sys::bpf(PROG_QUERY, &mut attr) {
        Ok(_) => {
            ids.truncate(attr.count as usize);
            Ok(ids)
        }
        // Older kernels know no such type; more than the room are as good as all.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) || e.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
        Err(e) if e.raw_os_error() == Some(libc::ENOSPC) => Ok(ids),
        Err(e) => Err(e),
    }
}

/// Filters of the clsact qdisc.
fn classic(ifindex: u32, side: Side) -> io::Result<Vec<Filter>> {
    const RTM_GETTFILTER: u16 = 46;
    const TCA_KIND: u16 = 1;
    const TCA_OPTIONS: u16 = 2;
    const TCA_BPF_NAME: u16 = 7;
    const TCA_BPF_ID: u16 = 11;
    let parent: u32 = match side {
        Side::Ingress => 0xffff_fff2,
        Side::Egress => 0xffff_fff3,
    };
    // struct tcmsg: family and padding, interface, handle, parent, info.
    let mut request = [0u8; 20];
    request[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    request[12..16].copy_from_slice(&parent.to_ne_bytes());
    let answers = match Socket::open(libc::NETLINK_ROUTE)?.ask(RTM_GETTFILTER, DUMP, &request) {
        // There is no such qdisc.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOENT | libc::EOPNOTSUPP)) => {
            return Ok(Vec::new());
        }
        answers => answers?,
    };
    let read = |message: &Vec<u8>| {
        let (mut kind, mut program, mut name) = (String::new(), None, String::new());
        for (id, value) in attributes(message.get(20..)?) {
            match id {
                TCA_KIND => kind = text_of(value),
                TCA_OPTIONS => {
                    for (id, value) in attributes(value) {
                        match id {
                            TCA_BPF_NAME => name = text_of(value),
                            TCA_BPF_ID => program = u32_of(value),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        // The head of a chain comes as a message of its own.
        let bare = kind == "bpf" && program.is_none() && name.is_empty();
        let name = if name.is_empty() { kind } else { name };
        (!bare && !name.is_empty()).then_some(Filter { side, program, name, tcx: false })
    };
    Ok(answers.iter().filter_map(read).collect())
}

/// What runs at the hooks of traffic control of an interface. Programs are named where this process may look.
pub fn filters(ifindex: u32) -> io::Result<Vec<Filter>> {
    let mut all = Vec::new();
    for side in [Side::Ingress, Side::Egress] {
        let ids = tcx(ifindex, side)?;
        all.extend(ids.into_iter().map(|id| Filter { side, program: Some(id), name: name(id), tcx: true }));
        all.extend(classic(ifindex, side)?);
    }
    Ok(all)
}

/// Name of a loaded program; empty where it has none, is gone or may not be looked at.
pub fn name(id: u32) -> String {
    let found = loaded_programs().filter_map(Result::ok).find(|p| p.id() == id);
    found.and_then(|p| p.name_as_str().map(str::to_owned)).unwrap_or_default()
}
