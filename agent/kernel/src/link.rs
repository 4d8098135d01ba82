//! What the kernel says of an interface (rtnetlink(7), RTM_GETLINK).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::KernelError;
use crate::netlink::{DUMP, Socket, attributes, text_of};

/// An interface as far as Weir cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    pub mtu: u32,
    /// It is administratively up.
    pub up: bool,
    pub loopback: bool,
    /// What it is a part of, such as a bridge or a bond: index, 0: nothing.
    pub master: u32,
    /// What it is made on, in the same network namespace: index, 0: nothing.
    pub parent: u32,
    /// As `ip -d link` names it (`veth`, `bridge`, `vlan`, ...); empty for hardware.
    pub kind: String,
    /// Tag of a VLAN device.
    pub vlan: Option<u16>,
    /// Attached XDP program: id, and whether it runs in generic (skb) mode.
    pub xdp: Option<(u32, bool)>,
}

/// Index of the interface `name` in this network namespace.
pub fn index_of(name: &str) -> Result<u32, KernelError> {
    let missing = || KernelError::NoInterface(name.to_owned());
    let c = CString::new(name).map_err(|_| missing())?;
    // SAFETY: a valid C string.
    match unsafe { libc::if_nametoindex(c.as_ptr()) } {
        0 => Err(missing()),
        index => Ok(index),
    }
}

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const XDP_ATTACHED_SKB: u8 = 2;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
/// Parent of the filters at egress (`TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)`).
const EGRESS: u32 = 0xffff_fff3;
/// `struct ifinfomsg`.
const IFINFO: usize = 16;
/// `struct tcmsg`.
const TCMSG: usize = 20;

fn open(groups: u32, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: opens a socket; the descriptor is fresh.
    let socket = unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | flags;
        let fd = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    if groups != 0 {
        // SAFETY: plain data.
        let mut at: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        at.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        at.nl_groups = groups;
        // SAFETY: an address of that size.
        let bound = unsafe {
            libc::bind(socket.as_raw_fd(), (&raw const at).cast(), size_of::<libc::sockaddr_nl>() as libc::socklen_t)
        };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(socket)
}

fn receive<'b>(socket: &OwnedFd, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    loop {
        // SAFETY: the buffer is valid for its length.
        let n = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if n >= 0 {
            return Ok(&buffer[..n as usize]);
        }
        let e = io::Error::last_os_error();
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(e);
        }
    }
}

/// Asks the kernel about the interface with this index.
pub fn query(index: u32) -> io::Result<Interface> {
    let mut body = [0u8; IFINFO];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    let answers = Socket::open(libc::NETLINK_ROUTE)?.ask(libc::RTM_GETLINK, 0, &body)?;
    let short = || io::Error::new(io::ErrorKind::InvalidData, "a netlink answer was cut short");
    answers.first().and_then(|a| parse(a)).ok_or_else(short)
}

/// Every interface of this network namespace.
pub fn list() -> io::Result<Vec<Interface>> {
    let answers = Socket::open(libc::NETLINK_ROUTE)?.ask(libc::RTM_GETLINK, DUMP, &[0; IFINFO])?;
    Ok(answers.iter().filter_map(|a| parse(a)).collect())
}

/// Whether the interface has a filter at egress whose program has this name (clsact: there is no link to ask).
pub fn has_filter(index: u32, program: &str) -> io::Result<bool> {
    let mut body = [0u8; TCMSG];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[12..16].copy_from_slice(&EGRESS.to_ne_bytes());
    let answers = Socket::open(libc::NETLINK_ROUTE)?.ask(libc::RTM_GETTFILTER, DUMP, &body)?;
    Ok(answers.iter().any(|message| {
        let options = attributes(message.get(TCMSG..).unwrap_or_default());
        let mut names = options.filter(|(k, _)| *k == TCA_OPTIONS).flat_map(|(_, v)| attributes(v));
        names.any(|(k, name)| k == TCA_BPF_NAME && text_of(name).starts_with(program))
    }))
}

/// A socket on which the kernel says that interfaces have changed.
#[derive(Debug)]
pub struct Changes {
    socket: OwnedFd,
    wake: Arc<OwnedFd>,
}

/// What [`Changes::wait`] waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Something about some interface: all of them are to be asked for, since messages may have been lost.
    Changed {
        /// An address of one may be new, or gone.
        addresses: bool,
    },
    InTime,
    /// By a [`Waker`].
    Stopped,
}

/// Ends a wait for changes.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    pub fn wake(&self) {
        // SAFETY: eight bytes, as an eventfd wants them. It cannot fail but for a counter that is full, which wakes too.
        let _ = unsafe { libc::write(self.0.as_raw_fd(), (&raw const ONE).cast(), 8) };
    }
}

static ONE: u64 = 1;

impl Changes {
    pub fn watch() -> io::Result<Self> {
        // SAFETY: opens a descriptor, which is fresh.
        let wake = unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        Ok(Self { socket: open(groups as u32, libc::SOCK_NONBLOCK)?, wake: Arc::new(wake) })
    }

    pub fn waker(&self) -> Waker {
        Waker(self.wake.clone())
    }

    /// Waits until something has changed, at most for so long.
    pub fn wait(&self, at_most: Duration) -> io::Result<Woken> {
        let poll = |fd: &OwnedFd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut both = [poll(&self.wake), poll(&self.socket)];
        let timeout = i32::try_from(at_most.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: two structures.
        if unsafe { libc::poll(both.as_mut_ptr(), 2, timeout) } < 0 {
            let e = io::Error::last_os_error();
            return if e.kind() == io::ErrorKind::Interrupted { Ok(Woken::InTime) } else { Err(e) };
        }
        if both[0].revents != 0 {
            return Ok(Woken::Stopped);
        }
        if both[1].revents == 0 {
            return Ok(Woken::InTime);
        }
        let (mut buffer, mut addresses) = ([0u8; 16 << 10], false);
        loop {
            match receive(&self.socket, &mut buffer) {
                Ok(message) => {
                    let kind = message.get(4..).and_then(|m| m.first_chunk()).map(|b| u16::from_ne_bytes(*b));
                    addresses |= matches!(kind, Some(libc::RTM_NEWADDR | libc::RTM_DELADDR));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Woken::Changed { addresses }),
                // Some were lost, which is as good as any.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => addresses = true,
                Err(e) => return Err(e),
            }
        }
    }
}

fn word(value: &[u8]) -> u32 {
    value.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b))
}

/// What follows the header of an RTM_NEWLINK message.
fn parse(message: &[u8]) -> Option<Interface> {
    let info = message.get(..IFINFO)?;
    let flags = word(&info[8..]) as i32;
    let mut interface = Interface {
        index: word(&info[4..]),
        up: flags & libc::IFF_UP != 0,
        loopback: flags & libc::IFF_LOOPBACK != 0,
        ..Interface::default()
    };
    let mut elsewhere = false;
    for (kind, value) in attributes(message.get(IFINFO..)?) {
        match kind {
            IFLA_IFNAME => interface.name = text_of(value),
            IFLA_MTU => interface.mtu = word(value),
            IFLA_LINK => interface.parent = word(value),
            IFLA_MASTER => interface.master = word(value),
            IFLA_LINK_NETNSID => elsewhere = true,
            IFLA_LINKINFO => {
                for (kind, value) in attributes(value) {
                    match kind {
                        IFLA_INFO_KIND => interface.kind = text_of(value),
                        IFLA_INFO_DATA if interface.kind == "vlan" => {
                            let tag = attributes(value).find(|(k, _)| *k == IFLA_VLAN_ID);
                            interface.vlan = tag.and_then(|(_, v)| v.first_chunk()).map(|b| u16::from_ne_bytes(*b));
                        }
                        _ => {}
                    }
                }
            }
            IFLA_XDP => {
                let (mut mode, mut program) = (0u8, None);
                for (kind, value) in attributes(value) {
                    match kind {
                        IFLA_XDP_ATTACHED => mode = value.first().copied().unwrap_or(0),
                        IFLA_XDP_PROG_ID => program = value.first_chunk().map(|b| u32::from_ne_bytes(*b)),
                        _ => {}
                    }
                }
                interface.xdp = program.filter(|p| *p != 0).map(|p| (p, mode == XDP_ATTACHED_SKB));
            }
            _ => {}
        }
    }
    if elsewhere || interface.parent == interface.index {
        interface.parent = 0;
    }
    Some(interface)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_an_interface_with_an_mtu() {
        let index = index_of("lo").unwrap();
        let lo = query(index).unwrap();
        assert_eq!(lo.index, index);
        assert!(lo.mtu >= 1500 && lo.name == "lo" && lo.loopback, "{lo:?}");
        assert!(list().unwrap().contains(&lo));
        assert!(!has_filter(index, "weir_tc").unwrap());
        assert!(matches!(index_of("no-such-if"), Err(KernelError::NoInterface(n)) if n == "no-such-if"));
    }

    #[test]
    fn attributes_cut_short_end_the_list() {
        assert_eq!(attributes(&[8, 0, 4, 0, 1, 2, 3]).count(), 0);
        assert_eq!(attributes(&[0, 0, 4, 0]).count(), 0);
        assert_eq!(
            attributes(&[5, 0, 4, 0, 9, 0, 0, 0, 4, 0, 7, 0]).collect::<Vec<_>>(),
            [(4, &[9][..]), (7, &[][..])]
        );
    }
}
