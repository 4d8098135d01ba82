//! Packets for tests, as the kernel would have counted them.

use std::collections::BTreeMap;

use weir_common::flow::{FlowKey, FlowStats, KeyWords, Packet, tcp_flag};

use crate::addr::{Addr, Prefix};
use crate::home::Home;

pub(crate) const SYN: u8 = tcp_flag::SYN;
pub(crate) const ACK: u8 = tcp_flag::ACK;
pub(crate) const SYN_ACK: u8 = SYN | ACK;
pub(crate) const FIN_ACK: u8 = tcp_flag::FIN | ACK;
pub(crate) const RST: u8 = tcp_flag::RST;
pub(crate) const S: u64 = 1_000_000;

pub(crate) fn addr(s: &str) -> Addr {
    s.parse().unwrap()
}
pub(crate) fn prefix(s: &str) -> Prefix {
    s.parse().unwrap()
}
pub(crate) fn home() -> Home {
    Home::new([prefix("10.0.0.0/8"), prefix("2001:db8:1::/48")])
}

/// A packet between two endpoints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pkt {
    pub at: u64,
    pub src: (Addr, u16),
    pub dst: (Addr, u16),
    pub proto: u8,
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub len: u32,
}

impl Pkt {
    fn key(&self) -> (FlowKey, u32) {
        let ((a, b), dir) = if self.src <= self.dst { ((self.src, self.dst), 0) } else { ((self.dst, self.src), 1) };
        let key = FlowKey {
            addr_a: a.0.0,
            addr_b: b.0.0,
            port_a: a.1,
            port_b: b.1,
            proto: self.proto,
            family: if a.0.is_v4() { 4 } else { 6 },
            ..FlowKey::default()
        };
        (key, dir)
    }

    fn packet(&self) -> Packet {
        Packet {
            now_us: self.at,
            dir: self.key().1,
            segs: 1,
            seg_len: self.len,
            last_len: self.len,
            payload: self.len.saturating_sub(40),
            seq: self.seq,
            ack: self.ack,
            tcp_flags: self.flags,
            ..Packet::default()
        }
    }

    /// As it is counted at once.
    pub fn words(&self) -> (KeyWords, Packet) {
        let (key, _) = self.key();
        let mut words = KeyWords::default();
        let shorts = [key.port_a, key.port_b, key.vlan_outer, key.vlan_inner];
        words.set(&key.addr_a.into(), &key.addr_b.into(), shorts, key.proto, key.family);
        assert_eq!(*words.key(), key);
        (words, self.packet())
    }
}

/// What one drain of these packets gives, in the order of keys.
pub(crate) fn drain(packets: &[Pkt]) -> Vec<(FlowKey, FlowStats)> {
    let mut flows: BTreeMap<FlowKey, FlowStats> = BTreeMap::new();
    for p in packets {
        flows.entry(p.key().0).or_insert(FlowStats::EMPTY).update(&p.packet());
    }
    flows.into_iter().collect()
}

/// [`drain`] in the order of first packets.
pub(crate) fn drain_in_turn(packets: &[Pkt]) -> Vec<(FlowKey, FlowStats)> {
    let mut flows = drain(packets);
    flows.sort_by_key(|(key, _)| packets.iter().position(|p| p.key().0 == *key));
    flows
}

/// A TCP conversation in the making.
#[derive(Clone, Copy)]
pub(crate) struct Tcp {
    pub client: (Addr, u16),
    pub server: (Addr, u16),
}

/// The server's initial sequence number in these conversations.
const ISN: u32 = 7_000;

impl Tcp {
    pub fn new(client: &str, client_port: u16, server: &str, server_port: u16) -> Self {
        Self { client: (addr(client), client_port), server: (addr(server), server_port) }
    }
    pub fn fwd(&self, at: u64, flags: u8, len: u32) -> Pkt {
        Pkt { at, src: self.client, dst: self.server, proto: 6, flags, seq: 1, ack: ISN + 1, len }
    }
    pub fn bwd(&self, at: u64, flags: u8, len: u32) -> Pkt {
        Pkt { at, src: self.server, dst: self.client, proto: 6, flags, seq: ISN, ack: 2, len }
    }
    pub fn handshake(&self, at: u64) -> Vec<Pkt> {
        vec![self.fwd(at, SYN, 60), self.bwd(at + 100, SYN_ACK, 60), self.fwd(at + 200, ACK, 52)]
    }
    /// Handshake, a request, an answer, FIN both ways.
    pub fn whole(&self, at: u64) -> Vec<Pkt> {
        let mut p = self.handshake(at);
        p.extend([
            self.fwd(at + 300, ACK, 500),
            self.bwd(at + 400, ACK, 1500),
            self.fwd(at + 500, FIN_ACK, 52),
            self.bwd(at + 600, FIN_ACK, 52),
        ]);
        p
    }
}
