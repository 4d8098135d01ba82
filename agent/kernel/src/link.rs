//! What the kernel says of an interface (rtnetlink(7), RTM_GETLINK).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::KernelError;
use crate::netlink::attributes;

/// An interface as far as Weir cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
    pub mtu: u32,
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

const IFLA_MTU: u16 = 4;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const XDP_ATTACHED_SKB: u8 = 2;

/// Asks the kernel about the interface with this index.
pub fn query(index: u32) -> io::Result<Interface> {
    // SAFETY: opens a socket; the descriptor is fresh.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    // struct nlmsghdr (16 bytes) and struct ifinfomsg (16 bytes).
    let mut request = [0u8; 32];
    request[0..4].copy_from_slice(&32u32.to_ne_bytes());
    request[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    request[20..24].copy_from_slice(&index.to_ne_bytes());
    let mut answer = vec![0u8; 64 << 10];
    // SAFETY: both buffers are valid for their lengths.
    let n = unsafe {
        if libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
    };
    if n < 0 {
        return Err(io::Error::last_os_error());
    }
    parse(index, &answer[..n as usize])
}

fn parse(index: u32, answer: &[u8]) -> io::Result<Interface> {
    let short = || io::Error::new(io::ErrorKind::InvalidData, "a netlink answer was cut short");
    let kind = u16::from_ne_bytes(*answer.get(4..).and_then(|b| b.first_chunk()).ok_or_else(short)?);
    if kind == libc::NLMSG_ERROR as u16 {
        let errno = i32::from_ne_bytes(*answer.get(16..).and_then(|b| b.first_chunk()).ok_or_else(short)?);
        return Err(io::Error::from_raw_os_error(-errno));
    }
    let mut interface = Interface { index, ..Interface::default() };
    for (kind, value) in attributes(answer.get(32..).ok_or_else(short)?) {
        match kind {
            IFLA_MTU => interface.mtu = value.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b)),
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
    Ok(interface)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_an_interface_with_an_mtu() {
        let index = index_of("lo").unwrap();
        let lo = query(index).unwrap();
        assert_eq!(lo.index, index);
        assert!(lo.mtu >= 1500, "{lo:?}");
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
