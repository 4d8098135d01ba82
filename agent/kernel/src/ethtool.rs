//! What a network driver says of itself (linux/ethtool.h, the ioctl SIOCETHTOOL).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use serde::Serialize;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Driver {
    pub name: String,
    pub version: String,
    pub firmware: String,
    /// Where the device is plugged in; empty: nowhere.
    pub bus: String,
}

/// One of what `ethtool -k` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Feature {
    pub on: bool,
    /// Nobody can change it.
    pub fixed: bool,
}

/// Queues: those in use, and the most that there can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Channels {
    pub rx: u32,
    pub combined: u32,
    pub max_rx: u32,
    pub max_combined: u32,
}

/// Features by the names that `ethtool -K` takes.
pub type Features = BTreeMap<String, Feature>;

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const GDRVINFO: u32 = 0x03;
const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
const GRXFHINDIR: u32 = 0x38;
const GFEATURES: u32 = 0x3a;
const GFLAGS: u32 = 0x25;
const FLAG_RXVLAN: u32 = 1 << 8;
const GCHANNELS: u32 = 0x3c;
const SS_FEATURES: u32 = 4;
const NAME: usize = 32;

/// A socket by which drivers of this network namespace are asked.
#[derive(Debug)]
pub struct Ethtool(OwnedFd);

#[repr(C)]
struct Request {
    name: [u8; 16],
    data: *mut libc::c_void,
    rest: [u8; 16],
}

impl Ethtool {
    pub fn open() -> io::Result<Self> {
        // SAFETY: opens a socket; the descriptor is fresh.
        unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
            if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(OwnedFd::from_raw_fd(fd))) }
        }
    }

    /// `data` begins with the command, and has room for what the kernel writes for it.
    fn ask(&self, interface: &str, data: &mut [u32]) -> io::Result<()> {
        let mut request = Request { name: [0; 16], data: data.as_mut_ptr().cast(), rest: [0; 16] };
        if interface.len() > 15 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        request.name[..interface.len()].copy_from_slice(interface.as_bytes());
        // SAFETY: a `struct ifreq`; its pointer is to memory as large as the command needs, as the callers here see to.
        let r = unsafe { libc::ioctl(self.0.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    pub fn driver(&self, interface: &str) -> io::Result<Driver> {
        // struct ethtool_drvinfo: 196 bytes.
        let mut data = vec![0u32; 49];
        data[0] = GDRVINFO;
        self.ask(interface, &mut data)?;
        let text = |at: usize| text(&data[1 + at * NAME / 4..][..NAME / 4]);
        Ok(Driver { name: text(0), version: text(1), firmware: text(2), bus: text(3) })
    }

    pub fn features(&self, interface: &str) -> io::Result<Features> {
        // struct ethtool_sset_info: command, reserved, mask (64 bits), counts.
        let mut data = vec![GSSET_INFO, 0, 1 << SS_FEATURES, 0, 0];
        self.ask(interface, &mut data)?;
        let count = data[4] as usize;
        // struct ethtool_gstrings: command, set, count, names.
        let mut names = vec![0u32; 3 + count * NAME / 4];
        (names[0], names[1], names[2]) = (GSTRINGS, SS_FEATURES, count as u32);
        self.ask(interface, &mut names)?;
        // struct ethtool_gfeatures: command, blocks, and of each block what is available, requested, active, never changed.
        let blocks = count.div_ceil(32);
        let mut bits = vec![0u32; 2 + blocks * 4];
        (bits[0], bits[1]) = (GFEATURES, blocks as u32);
        self.ask(interface, &mut bits)?;
        let named = (0..count).map(|i| {
            let block = &bits[2 + i / 32 * 4..][..4];
            let bit = |n: usize| block[n] & 1 << (i % 32) != 0;
            let name = text(&names[3 + i * NAME / 4..][..NAME / 4]);
            (name, Feature { on: bit(2), fixed: !bit(0) || bit(3) })
        });
        Ok(named.filter(|(name, _)| !name.is_empty()).collect())
    }

    /// Whether the driver takes VLAN tags off what comes in, so that programs do not see them (`rxvlan`).
    pub fn strips_tags(&self, interface: &str) -> io::Result<bool> {
        // struct ethtool_value: command, flags (enum ethtool_flags).
        let mut data = [GFLAGS, 0];
        self.ask(interface, &mut data)?;
        Ok(data[1] & FLAG_RXVLAN != 0)
    }

    pub fn channels(&self, interface: &str) -> io::Result<Channels> {
        let mut data = vec![0u32; 9];
        data[0] = GCHANNELS;
        self.ask(interface, &mut data)?;
        Ok(Channels { max_rx: data[1], max_combined: data[4], rx: data[5], combined: data[8] })
    }

    /// The queue for each slot of the table by which flows are spread.
    pub fn spread(&self, interface: &str) -> io::Result<Vec<u32>> {
        let mut data = vec![GRXFHINDIR, 0];
        self.ask(interface, &mut data)?;
        // No driver has more than 4096.
        let size = data[1].min(1 << 16);
        let mut data = vec![0u32; 2 + size as usize];
        (data[0], data[1]) = (GRXFHINDIR, size);
        self.ask(interface, &mut data)?;
        Ok(data.split_off(2))
    }
}

/// A C string in words of memory.
fn text(words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).take_while(|b| *b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_features_and_no_channels() {
        let ethtool = Ethtool::open().unwrap();
        let features = ethtool.features("lo").unwrap();
        let vlan = features.get("rx-vlan-hw-parse").expect("every interface has the names");
        assert!(!vlan.on && vlan.fixed, "{vlan:?}");
        assert_eq!(ethtool.channels("lo").unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
        assert!(ethtool.driver("no-such-if").is_err());
    }
}
