//! What flows are compared by, and what is known of a tool.

use std::fmt;
use std::net::IpAddr;

use weir_common::parse::PacketMeta;
use weir_core::addr::Addr;
use weir_core::record::FlowRecord;

use crate::capture::{Capture, Packet, key_of, tag};

/// What a tool does otherwise than Weir, in words.
pub type Rule = &'static str;

pub type End = (IpAddr, u16);

/// What tools tell flows apart by. Ends in ascending order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub proto: u8,
    pub ends: [End; 2],
    /// 0 where there is none, or the tool does not tell.
    pub vlan: u16,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(a, p), (b, q)] = self.ends;
        write!(f, "{} {a} {p} / {b} {q}", self.proto)?;
        if self.vlan != 0 { write!(f, " vlan {}", self.vlan) } else { Ok(()) }
    }
}

/// Both ends in order, and which of them is `first`.
pub fn order(first: End, second: End) -> ([End; 2], usize) {
    let sort = |(ip, port): End| (Addr::from(ip), port);
    if sort(first) <= sort(second) { ([first, second], 0) } else { ([second, first], 1) }
}

/// What one end sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub packets: u64,
    pub bytes: u64,
}

impl Sent {
    pub fn add(&mut self, other: Sent) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

#[derive(Clone, Debug)]
pub struct Flow {
    pub key: Key,
    /// By end, as in `key`.
    pub sent: [Sent; 2],
    /// The end that is said to be the client.
    pub client: usize,
    /// The tool says that it turned the flow around.
    pub turned: bool,
    /// The tool says what makes it stop counting.
    pub stopped: bool,
}

impl Flow {
    /// A flow as a tool tells it: client first.
    pub fn told(proto: u8, client: End, server: End, vlan: u16, to_server: Sent, to_client: Sent) -> Self {
        let (ends, at) = order(client, server);
        let sent = if at == 0 { [to_server, to_client] } else { [to_client, to_server] };
        Self { key: Key { proto, ends, vlan }, sent, client: at, turned: false, stopped: false }
    }
}

/// A packet as a tool counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub key: Key,
    pub sender: usize,
    pub bytes: u64,
}

/// What a tool does with a packet: where it counts it, and by which rules that is not what Weir does.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    pub counted: Vec<Counted>,
    /// Flows that it belongs to and is not counted in.
    pub left_out: Vec<Key>,
    pub rules: Vec<Rule>,
}

/// How a tool goes about it.
pub trait Tool {
    const NAME: &'static str;
    /// Who it says is the client, where that is not what Weir says.
    const CLIENT_RULE: Rule;
    /// What makes it stop counting a flow.
    const STOP_RULE: Rule = "stops counting";

    /// Weir's records with the tool's timeouts.
    fn records(&self, capture: &Capture) -> Vec<FlowRecord>;
    /// Bytes of a packet as the tool measures them. `ip_len` is what Weir counts.
    fn size(&self, packet: &Packet, meta: &PacketMeta) -> u64;
    /// Ways in which it may have been run, which its results do not tell: all flows of a capture are read in one.
    const VARIANTS: usize = 1;
    /// What the tool does with each packet.
    fn read(&self, capture: &Capture, variant: usize) -> Vec<Reading>;
    /// The end that the tool takes for the client of `flow`, which has these packets.
    fn client(&self, flow: &Flow, packets: &[(&Packet, Counted)]) -> Option<usize>;
    /// Its flows are told apart by their VLAN.
    const VLAN: bool;

    fn tag(&self, meta: &PacketMeta) -> u16 {
        if Self::VLAN { tag(meta) } else { 0 }
    }

    /// A packet as Weir counts it, in the tool's measure.
    fn plain(&self, packet: &Packet) -> Option<Counted> {
        let meta = packet.outer.ok()?.meta;
        let (key, sender) = key_of(&meta, self.tag(&meta));
        Some(Counted { key, sender, bytes: self.size(packet, &meta) })
    }
}
