//! What the kernel says of an interface (rtnetlink(7), RTM_GETLINK).

use std::ffi::CString;
use std::io;

use crate::KernelError;
use crate::netlink::{Socket, attributes};

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
    // struct ifinfomsg.
    let mut request = [0u8; 16];
    request[4..8].copy_from_slice(&index.to_ne_bytes());
    let answers = Socket::open(libc::NETLINK_ROUTE)?.ask(libc::RTM_GETLINK, 0, &request)?;
    let answer = answers.first().and_then(|a| a.get(request.len()..)).unwrap_or_default();
    Ok(parse(index, answer))
}

fn parse(index: u32, answer: &[u8]) -> Interface {
    let mut interface = Interface { index, ..Interface::default() };
    for (kind, value) in attributes(answer) {
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
    interface
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
