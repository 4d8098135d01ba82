//! What an entry is about, as the agent names it and as the kernel holds it.

use std::hash::{Hash, Hasher};

use weir_common::address::Address;
use weir_common::entry::{EntryKey, FlowEnd, FlowTarget, PortKey, V4Key, V6Key, kind};
use weir_common::flow::{V4_MAPPED_PREFIX, v4_mapped};
use weir_common::hash::{Seed, hash};

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum List {
    Block,
    Allow,
}

/// What an entry is about. Host bits of prefixes must be zero; `len` counts in the family's own width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    V4(V4Key),
    V6(V6Key),
    /// One protocol and port of ours, for one remote host. Block list only, as all that follow.
    Port(PortKey),
    /// One protocol and port of the remote host's own.
    FarPort(PortKey),
    Flow(FlowTarget),
}

/// In whole words, for books of a million keys: byte by byte, hashing would cost more than looking.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut words = |kind: u64, rest: u64, addr: [u8; 16]| {
            let (hi, lo) = Address::from(addr).halves();
            state.write_u64(hi);
            state.write_u64(lo);
            state.write_u64(kind << 56 | rest);
        };
        match self {
            Key::V4(k) => state.write_u64(u64::from(k.len) << 32 | u64::from(u32::from_be_bytes(k.addr))),
            Key::V6(k) => words(1, k.len.into(), k.addr),
            Key::Port(k) => words(2, u64::from(k.proto) << 16 | u64::from(k.port), k.addr),
            Key::FarPort(k) => words(3, u64::from(k.proto) << 16 | u64::from(k.port), k.addr),
            Key::Flow(k) => {
                words(4, u64::from(k.proto) << 32 | u64::from(k.far_port) << 16 | u64::from(k.port), k.remote);
                words(4, 0, k.ours);
            }
        }
    }
}

impl Key {
    /// The prefix `addr/len`, where `addr` is 16 bytes, IPv4 as IPv4-mapped.
    pub fn net(addr: [u8; 16], len: u8) -> Self {
        if addr[..12] == V4_MAPPED_PREFIX {
            Key::V4(V4Key { addr: [addr[12], addr[13], addr[14], addr[15]], len: u32::from(len) })
        } else {
            Key::V6(V6Key { addr, len: u32::from(len) })
        }
    }

    /// One protocol and port of ours, for one remote host.
    pub fn port(addr: [u8; 16], proto: u8, port: u16) -> Self {
        Key::Port(PortKey { addr, port, proto })
    }

    /// One protocol and port of the remote host's own.
    pub fn far_port(addr: [u8; 16], proto: u8, port: u16) -> Self {
        Key::FarPort(PortKey { addr, port, proto })
    }

    /// The key as packets are looked for.
    pub(crate) fn whole(&self, list: List) -> Whole {
        let allow = if list == List::Allow { kind::ALLOW } else { 0 };
        let halves = |addr: [u8; 16]| Address::from(addr).halves();
        let mut ours = FlowEnd::default();
        let key = match self {
            Key::V4(k) => {
                let (hi, lo) = halves(v4_mapped(k.addr));
                EntryKey::net(hi, lo, kind::V4 | allow, V4_BITS + k.len)
            }
            Key::V6(k) => {
                let (hi, lo) = halves(k.addr);
                EntryKey::net(hi, lo, kind::V6 | allow, k.len)
            }
            Key::Port(k) => {
                let (hi, lo) = halves(k.addr);
                EntryKey::port(hi, lo, k.proto, k.port)
            }
            Key::FarPort(k) => {
                let (hi, lo) = halves(k.addr);
                EntryKey::far_port(hi, lo, k.proto, k.port)
            }
            Key::Flow(f) => {
                let (our_hi, our_lo) = halves(f.ours);
                ours = FlowEnd::new(our_hi, our_lo);
                let (hi, lo) = halves(f.remote);
                EntryKey::flow(hi, lo, f.proto, f.far_port, f.port, 0)
            }
        };
        Whole { key, ours }
    }

    /// The other way round; `None` where the words are none of ours.
    pub(crate) fn of(whole: &Whole) -> Option<(List, Self)> {
        let (hi, lo) = whole.key.halves();
        let (what, len, port) = whole.key.parts();
        let addr = Address::new(hi, lo).bytes();
        let list = if what & kind::ALLOW != 0 { List::Allow } else { List::Block };
        let key = match what & !kind::ALLOW {
            kind::V4 => {
                let v4 = [addr[12], addr[13], addr[14], addr[15]];
                Key::V4(V4Key { addr: v4, len: u32::from(len).checked_sub(V4_BITS)? })
            }
            kind::V6 => Key::V6(V6Key { addr, len: len.into() }),
            kind::PORT => Key::port(addr, len, port),
            kind::FAR_PORT => Key::far_port(addr, len, port),
            kind::FLOW => {
                let (our_hi, our_lo) = whole.ours.halves();
                let ours = Address::new(our_hi, our_lo).bytes();
                Key::Flow(FlowTarget { remote: addr, ours, far_port: port, port: whole.key.flow_port(), proto: len })
            }
            _ => return None,
        };
        // Everything that the words say is in the key.
        (key.whole(list) == *whole).then_some((list, key))
    }

    /// The prefix whose neighbourhood is marked: address bytes, length, whether IPv4.
    pub(super) fn span(&self) -> Span {
        let host = |addr| match Key::net(addr, 128) {
            Key::V4(k) => Span::V4(V4Key { len: 32, ..k }),
            _ => Span::V6(V6Key { addr, len: 128 }),
        };
        match *self {
            Key::V4(k) => Span::V4(k),
            Key::V6(k) => Span::V6(k),
            Key::Port(p) | Key::FarPort(p) => host(p.addr),
            Key::Flow(f) => host(f.remote),
        }
    }
}

/// Bits before an IPv4-mapped address's own.
pub(super) const V4_BITS: u32 = 96;

#[derive(Clone, Copy)]
pub(super) enum Span {
    V4(V4Key),
    V6(V6Key),
}

/// A key with all that belongs to it: of a flow, our address too, and no number of where that lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub key: EntryKey,
    pub ours: FlowEnd,
}

impl Whole {
    pub fn hash(&self, seed: &Seed) -> u64 {
        if self.key.is_flow() { hash(seed, &self.key.flow_words(self.ours)) } else { hash(seed, self.key.words()) }
    }
}
