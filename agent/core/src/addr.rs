//! Addresses and prefixes in the form the kernel keys use: 16 bytes, IPv4 as IPv4-mapped IPv6.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use weir_common::flow::V4_MAPPED_PREFIX;

/// An IP address as it lies in kernel keys.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Addr(pub [u8; 16]);

/// As bytes are ordered; as one word, since bytes would be compared through a call.
impl Ord for Addr {
    fn cmp(&self, other: &Self) -> Ordering {
        u128::from_be_bytes(self.0).cmp(&u128::from_be_bytes(other.0))
    }
}
impl PartialOrd for Addr {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Addr {
    /// As one word: an array of bytes would be hashed with its length, through a call.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(u128::from_ne_bytes(self.0));
    }
}

impl Addr {
    pub fn is_v4(self) -> bool {
        self.0[..12] == V4_MAPPED_PREFIX
    }
    pub fn ip(self) -> IpAddr {
        Ipv6Addr::from(self.0).to_canonical()
    }
    /// The address that stands for the /64 around an IPv6 address: that with an interface identifier of 0, which belongs to the
    /// network's routers (RFC 4291, 2.6.1) and which no host sends from.
    pub fn net6(self) -> Option<Self> {
        (!self.is_v4()).then(|| Prefix::new(self, NET6_LEN).addr())
    }
    /// Who is meant by it as a source: its host, or the /64 that it stands for ([`Addr::net6`]).
    pub fn subject(self) -> Prefix {
        if self.net6() == Some(self) { Prefix::new(self, NET6_LEN) } else { Prefix::host(self) }
    }
}

/// Length of the IPv6 prefix that counts as one source beside its hosts: what one customer is commonly given (RFC 6177).
pub const NET6_LEN: u8 = 64;

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Addr(v4.to_ipv6_mapped().octets()),
            IpAddr::V6(v6) => Addr(v6.octets()),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}
impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An IP prefix, host bits zero. `len` counts in the address's own family (0 to 32, or 0 to 128).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    addr: Addr,
    len: u8,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PrefixError {
    #[error("`{0}` is no IP address or prefix; expected for example 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")]
    Syntax(String),
    #[error("prefix length {len} of `{text}` is too large; at most {max}")]
    Length { text: String, len: u32, max: u8 },
}

impl Prefix {
    /// The prefix of `len` bits that holds `addr`; host bits are cleared, `len` is capped at the family's width.
    pub fn new(addr: Addr, len: u8) -> Self {
        let (width, offset) = if addr.is_v4() { (32, 96) } else { (128, 0) };
        let len = len.min(width);
        let bits = u128::from_be_bytes(addr.0);
        let keep = u32::from(len) + offset;
        let mask = if keep == 0 { 0 } else { u128::MAX << (128 - keep) };
        Self { addr: Addr((bits & mask).to_be_bytes()), len }
    }
    pub fn host(addr: Addr) -> Self {
        Self::new(addr, 128)
    }
    pub fn addr(self) -> Addr {
        self.addr
    }
    #[expect(clippy::len_without_is_empty, reason = "the length of the prefix in bits, not a number of elements")]
    pub fn len(self) -> u8 {
        self.len
    }
    pub fn is_v4(self) -> bool {
        self.addr.is_v4()
    }
    pub fn is_host(self) -> bool {
        self.len == if self.is_v4() { 32 } else { 128 }
    }
    pub fn contains(self, addr: Addr) -> bool {
        addr.is_v4() == self.is_v4() && Prefix::new(addr, self.len) == self
    }
    /// Whether the two prefixes have an address in common.
    pub fn overlaps(self, other: Prefix) -> bool {
        self.is_v4() == other.is_v4()
            && if self.len <= other.len { self.contains(other.addr) } else { other.contains(self.addr) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() { write!(f, "{}", self.addr) } else { write!(f, "{}/{}", self.addr, self.len) }
    }
}
impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;
    fn from_str(s: &str) -> Result<Self, PrefixError> {
        let syntax = || PrefixError::Syntax(s.to_owned());
        let (ip, len) = match s.split_once('/') {
            Some((ip, len)) => (ip, Some(len.parse::<u32>().map_err(|_| syntax())?)),
            None => (s, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| syntax())?;
        let max = if ip.is_ipv4() { 32 } else { 128 };
        let len = len.unwrap_or(u32::from(max));
        match u8::try_from(len) {
            Ok(l) if l <= max => Ok(Prefix::new(ip.into(), l)),
            _ => Err(PrefixError::Length { text: s.to_owned(), len, max }),
        }
    }
}

macro_rules! serde_as_text {
    ($t:ty) => {
        impl serde::Serialize for $t {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $t {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let s = String::deserialize(d)?;
                s.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
impl FromStr for Addr {
    type Err = PrefixError;
    fn from_str(s: &str) -> Result<Self, PrefixError> {
        s.parse::<IpAddr>().map(Addr::from).map_err(|_| PrefixError::Syntax(s.to_owned()))
    }
}
serde_as_text!(Prefix);
serde_as_text!(Addr);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_the_order_of_their_bytes() {
        let all = ["::", "::1", "0.0.0.1", "1.0.0.0", "2001:db8::1", "2001:db8:0:1::", "ff02::1"];
        let mut all = all.map(|a| a.parse::<Addr>().unwrap());
        all.sort_unstable();
        assert!(all.is_sorted_by_key(|a| a.0), "{all:?}");
    }

    #[test]
    fn prefixes_clear_host_bits_and_hold_their_addresses() {
        let p: Prefix = "10.1.2.3/24".parse().unwrap();
        assert_eq!(p.to_string(), "10.1.2.0/24");
        assert!(p.contains("10.1.2.255".parse().unwrap()));
        assert!(!p.contains("10.1.3.0".parse().unwrap()));
        assert!(!p.contains("::ffff".parse().unwrap()));
        let all: Prefix = "0.0.0.0/0".parse().unwrap();
        assert!(all.overlaps(p) && p.overlaps(all) && !all.contains("2001:db8::1".parse().unwrap()));
        assert_eq!("2001:db8::7".parse::<Prefix>().unwrap().to_string(), "2001:db8::7");
        assert_eq!(
            "10.0.0.0/33".parse::<Prefix>(),
            Err(PrefixError::Length { text: "10.0.0.0/33".into(), len: 33, max: 32 })
        );
        assert!("10.0.0/8".parse::<Prefix>().is_err());
    }
}
