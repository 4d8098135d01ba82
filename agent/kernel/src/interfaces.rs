//! Every interface of this network namespace, as the kernel describes it (rtnetlink(7), RTM_GETLINK; the `netdev` family of
//! generic netlink).

use std::io;

use serde::Serialize;

use crate::netlink::{DUMP, Socket, attribute, attributes, generic, text_of, u32_of};

/// An interface and how it is built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Details {
    pub index: u32,
    pub name: String,
    /// Other names that it answers to.
    pub alternative: Vec<String>,
    /// "veth", "bond", "bridge", "vlan", ...; `None`: of a driver that does not say, as network cards.
    pub kind: Option<String>,
    /// Of the interface that this one is a part of.
    pub master: Option<u32>,
    /// As what: "bond", "bridge".
    pub part_of: Option<String>,
    /// Of the interface below: what a VLAN lies on, the other end of a veth pair in the same namespace.
    pub below: Option<u32>,
    pub mtu: u32,
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

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_CARRIER: u16 = 33;
const IFLA_XDP: u16 = 43;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
/// Program ids by mode, where programs of several modes are attached.
const IFLA_XDP_IDS: [(u16, Mode); 3] = [(5, Mode::Native), (6, Mode::Generic), (7, Mode::Offloaded)];

/// Every interface of the namespace that this thread is in.
pub fn all() -> io::Result<Vec<Details>> {
    let socket = Socket::open(libc::NETLINK_ROUTE)?;
    let answers = socket.ask(libc::RTM_GETLINK, DUMP, &[0; 16])?;
    Ok(answers.iter().filter_map(|a| parse(a)).collect())
}

/// A `struct ifinfomsg` and the attributes behind it.
fn parse(message: &[u8]) -> Option<Details> {
    let kind = u16::from_ne_bytes(*message.get(2..)?.first_chunk()?);
    let index = u32_of(message.get(4..)?)?;
    let flags = u32_of(message.get(8..)?)?;
    let has = |flag: libc::c_int| flags & flag as u32 != 0;
    let mut d = Details {
        index,
        up: has(libc::IFF_UP),
        loopback: has(libc::IFF_LOOPBACK),
        ethernet: matches!(kind, libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK),
        ..Details::default()
    };
    for (kind, value) in attributes(message.get(16..)?) {
        match kind {
            IFLA_IFNAME => d.name = text_of(value),
            IFLA_MTU => d.mtu = u32_of(value)?,
            IFLA_LINK => d.below = u32_of(value).filter(|i| *i != 0 && *i != index),
            IFLA_MASTER => d.master = u32_of(value),
            IFLA_NUM_RX_QUEUES => d.rx_queues = u32_of(value)?,
            IFLA_CARRIER => d.carrier = value.first() == Some(&1),
            IFLA_LINKINFO => {
                for (kind, value) in attributes(value) {
                    match kind {
                        IFLA_INFO_KIND => d.kind = Some(text_of(value)),
                        IFLA_INFO_SLAVE_KIND => d.part_of = Some(text_of(value)),
                        _ => {}
                    }
                }
            }
            IFLA_PROP_LIST => {
                d.alternative =
                    attributes(value).filter(|(k, _)| *k == IFLA_ALT_IFNAME).map(|(_, v)| text_of(v)).collect();
            }
            IFLA_XDP => {
                let of = |(id, mode): &(u16, Mode)| {
                    let (_, value) = attributes(value).find(|(k, _)| k == id)?;
                    u32_of(value).filter(|p| *p != 0).map(|program| Attached { program, mode: *mode })
                };
                d.xdp = IFLA_XDP_IDS.iter().filter_map(of).collect();
            }
            _ => {}
        }
    }
    Some(d)
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
    fn loopback_is_there_and_runs_no_native_program() {
        let all = all().unwrap();
        let lo = all.iter().find(|d| d.name == "lo").expect("every namespace has it");
        assert!(lo.loopback && lo.ethernet && lo.mtu >= 1500 && lo.kind.is_none(), "{lo:?}");
        if let Some(features) = xdp_features(lo.index).unwrap() {
            assert!(!features.basic(), "{features:?}");
        }
    }

    #[test]
    fn a_message_that_is_cut_off_is_left_out_or_read_in_part() {
        assert_eq!(parse(&[0; 8]), None);
        let read = parse(&[&[0u8; 16][..], &attribute(IFLA_IFNAME, b"x0\0"), &[9, 0]].concat()).unwrap();
        assert_eq!(read.name, "x0");
    }
}
