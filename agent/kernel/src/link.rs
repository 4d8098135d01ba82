//! What the kernel says of an interface (rtnetlink(7), RTM_GETLINK; the `netdev` family of generic netlink).

use std::ffi::CString;
use std::io;

use serde::Serialize;

use crate::KernelError;
use crate::netlink::{DUMP, Socket, attribute, attributes, generic, text_of, u16_of, u32_of};

/// An interface and how it is built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    /// Other names that it answers to.
    pub alternative: Vec<String>,
    /// As `ip -d link` names it ("veth", "bond", "bridge", "vlan", ...); `None`: of a driver that does not say, as network cards.
    pub kind: Option<String>,
    /// Tag of a VLAN device.
    pub vlan: Option<u16>,
    /// Index of what it is a part of.
    pub master: Option<u32>,
    /// As what: "bond", "bridge".
    pub part_of: Option<String>,
    /// Index of the interface below, in the same network namespace: what a VLAN lies on, the other end of a veth pair.
    pub below: Option<u32>,
    pub mtu: u32,
    /// It is administratively up.
    pub up: bool,
    /// A cable, or what stands for it.
    pub carrier: bool,
    /// Frames begin with an Ethernet header.
    pub ethernet: bool,
    pub loopback: bool,
    /// Queues that the driver has set up for what comes in.
    pub rx_queues: u32,
    pub xdp: Vec<Attached>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Attached {
    pub program: u32,
    pub mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Native,
    Generic,
    /// On the card itself.
    Offloaded,
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
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_CARRIER: u16 = 33;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_VLAN_ID: u16 = 1;
/// Ids of programs by mode.
const IFLA_XDP_IDS: [(u16, Mode); 3] = [(5, Mode::Native), (6, Mode::Generic), (7, Mode::Offloaded)];
/// `struct ifinfomsg`.
const IFINFO: usize = 16;

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

/// A `struct ifinfomsg` and the attributes behind it.
fn parse(message: &[u8]) -> Option<Interface> {
    let hardware = u16_of(message.get(2..)?)?;
    let index = u32_of(message.get(4..)?)?;
    let flags = u32_of(message.get(8..)?)?;
    let has = |flag: libc::c_int| flags & flag as u32 != 0;
    let mut of = Interface {
        index,
        up: has(libc::IFF_UP),
        loopback: has(libc::IFF_LOOPBACK),
        ethernet: matches!(hardware, libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK),
        ..Interface::default()
    };
    let mut elsewhere = false;
    for (kind, value) in attributes(message.get(IFINFO..)?) {
        match kind {
            IFLA_IFNAME => of.name = text_of(value),
            IFLA_MTU => of.mtu = u32_of(value)?,
            IFLA_LINK => of.below = u32_of(value).filter(|i| *i != 0 && *i != index),
            IFLA_LINK_NETNSID => elsewhere = true,
            IFLA_MASTER => of.master = u32_of(value).filter(|i| *i != 0),
            IFLA_NUM_RX_QUEUES => of.rx_queues = u32_of(value)?,
            IFLA_CARRIER => of.carrier = value.first() == Some(&1),
            IFLA_LINKINFO => of.built(value),
            IFLA_PROP_LIST => {
                let names = attributes(value).filter(|(k, _)| *k == IFLA_ALT_IFNAME);
                of.alternative = names.map(|(_, v)| text_of(v)).collect();
            }
            IFLA_XDP => {
                let attached = |(id, mode): &(u16, Mode)| {
                    let (_, value) = attributes(value).find(|(k, _)| k == id)?;
                    u32_of(value).filter(|p| *p != 0).map(|program| Attached { program, mode: *mode })
                };
                of.xdp = IFLA_XDP_IDS.iter().filter_map(attached).collect();
            }
            _ => {}
        }
    }
    if elsewhere {
        of.below = None;
    }
    Some(of)
}

impl Interface {
    /// It is a member of a bond.
    pub fn in_bond(&self) -> bool {
        self.part_of.as_deref() == Some("bond")
    }

    /// Takes what IFLA_LINKINFO says; the kind comes before what is particular to it.
    fn built(&mut self, info: &[u8]) {
        for (kind, value) in attributes(info) {
            match kind {
                IFLA_INFO_KIND => self.kind = Some(text_of(value)),
                IFLA_INFO_SLAVE_KIND => self.part_of = Some(text_of(value)),
                IFLA_INFO_DATA if self.kind.as_deref() == Some("vlan") => {
                    self.vlan = attributes(value).find(|(k, _)| *k == IFLA_VLAN_ID).and_then(|(_, v)| u16_of(v));
                }
                _ => {}
            }
        }
    }
}

/// What the driver can do natively (`enum netdev_xdp_act` of linux/netdev.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct XdpFeatures(pub u64);

impl XdpFeatures {
    /// Run a program.
    pub fn basic(self) -> bool {
        self.0 & 1 != 0
    }
    /// Show a program frames that lie in several buffers, as those of a large MTU do.
    pub fn several_buffers(self) -> bool {
        self.0 & 1 << 5 != 0
    }
}

/// Asks the driver; `None` where the kernel is too old to tell (before 6.3).
pub fn xdp_features(index: u32) -> io::Result<Option<XdpFeatures>> {
    const DEV_GET: u8 = 1;
    const IFINDEX: u16 = 1;
    const XDP_FEATURES: u16 = 3;
    let Some(answers) = generic("netdev", DEV_GET, &attribute(IFINDEX, &index.to_ne_bytes()))? else {
        return Ok(None);
    };
    let value = answers.first().and_then(|a| attributes(a).find(|(k, _)| *k == XDP_FEATURES)?.1.first_chunk().copied());
    Ok(value.map(|b| XdpFeatures(u64::from_ne_bytes(b))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_an_interface_with_an_mtu_that_runs_no_native_program() {
        let index = index_of("lo").unwrap();
        let lo = query(index).unwrap();
        assert_eq!(lo.index, index);
        assert!(lo.mtu >= 1500 && lo.name == "lo" && lo.loopback && lo.ethernet && lo.kind.is_none(), "{lo:?}");
        assert!(list().unwrap().contains(&lo));
        assert!(matches!(index_of("no-such-if"), Err(KernelError::NoInterface(n)) if n == "no-such-if"));
        if let Some(features) = xdp_features(index).unwrap() {
            assert!(!features.basic(), "{features:?}");
        }
    }

    #[test]
    fn a_message_that_is_cut_off_is_left_out_or_read_in_part() {
        assert_eq!(parse(&[0; 8]), None);
        let read = parse(&[&[0u8; IFINFO][..], &attribute(IFLA_IFNAME, b"x0\0"), &[9, 0]].concat()).unwrap();
        assert_eq!(read.name, "x0");
    }

    #[test]
    fn what_lies_below_counts_in_the_same_namespace_only() {
        let below = attribute(IFLA_LINK, &7u32.to_ne_bytes());
        let message = [&[0u8; IFINFO][..], &below].concat();
        assert_eq!(parse(&message).unwrap().below, Some(7));
        let message = [message, attribute(IFLA_LINK_NETNSID, &0u32.to_ne_bytes())].concat();
        assert_eq!(parse(&message).unwrap().below, None);
    }
}
