//! The clsact qdisc that carries the egress filter where there is no TCX, and its end (rtnetlink(7), tc(8)).

use std::io;

use aya::programs::tc;

use crate::netlink::{DUMP, Socket, attributes, text_of};

/// Gives the interface a clsact qdisc. `false` where it has one already, which is somebody else's or an earlier agent's.
pub fn add(interface: &str) -> Result<bool, tc::TcError> {
    match tc::qdisc_add_clsact(interface) {
        Ok(()) => Ok(true),
        Err(tc::TcError::AlreadyAttached) => Ok(false),
        // What aya passes on where the qdisc is there already.
        Err(tc::TcError::NetlinkError(e)) if e.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(e) => Err(e),
    }
}

const TC_H_CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
/// Parent of the filters at egress (`TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)`).
const EGRESS: u32 = 0xffff_fff3;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
/// `struct tcmsg`.
const TCMSG: usize = 20;

/// `struct tcmsg`: family, index, handle, parent, info.
fn tcmsg(ifindex: u32, handle: u32, parent: u32) -> [u8; TCMSG] {
    let mut message = [0; TCMSG];
    message[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    message[8..12].copy_from_slice(&handle.to_ne_bytes());
    message[12..16].copy_from_slice(&parent.to_ne_bytes());
    message
}

fn filters(ifindex: u32, parent: u32) -> io::Result<Vec<Vec<u8>>> {
    Socket::open(libc::NETLINK_ROUTE)?.ask(libc::RTM_GETTFILTER, DUMP, &tcmsg(ifindex, 0, parent))
}

/// Whether the interface has a filter at egress whose program has this name (there is no link to ask).
pub fn has_filter(ifindex: u32, program: &str) -> io::Result<bool> {
    Ok(filters(ifindex, EGRESS)?.iter().any(|message| {
        let options = attributes(message.get(TCMSG..).unwrap_or_default());
        let mut names = options.filter(|(k, _)| *k == TCA_OPTIONS).flat_map(|(_, v)| attributes(v));
        names.any(|(k, name)| k == TCA_BPF_NAME && text_of(name).starts_with(program))
    }))
}

/// Takes the qdisc away, unless somebody has put a filter on either side. Says whether it went.
pub fn remove_if_unused(ifindex: u32) -> io::Result<bool> {
    for parent in [INGRESS, EGRESS] {
        if !filters(ifindex, parent)?.is_empty() {
            return Ok(false);
        }
    }
    let acknowledged = libc::NLM_F_ACK as u16;
    let message = tcmsg(ifindex, CLSACT_HANDLE, TC_H_CLSACT);
    Socket::open(libc::NETLINK_ROUTE)?.ask(libc::RTM_DELQDISC, acknowledged, &message)?;
    Ok(true)
}
