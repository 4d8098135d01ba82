//! One event, and the observation it makes.

use std::borrow::Cow;

use serde::Deserialize;
use weir_common::flow::{ip_proto, tcp_flag};
use weir_core::community_id::icmp_ports;
use weir_core::record::{FlowRecord, FlowState, Have};

use crate::Observation;
use crate::text::json::{Plain, Text};
use crate::text::rows::{Bad, answered, blank};
use crate::text::{numbers, protocols};

/// Bytes of a frame before the IP header, and of each VLAN tag.
const ETHERNET: u64 = 14;
const TAG: u64 = 4;

#[derive(Debug, Default, PartialEq, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    flow_id: Option<u64>,
    #[serde(borrow)]
    src_ip: Option<Text<'a>>,
    src_port: Option<u16>,
    #[serde(borrow)]
    dest_ip: Option<Text<'a>>,
    dest_port: Option<u16>,
    #[serde(borrow)]
    proto: Option<Text<'a>>,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
    /// Outer tag first.
    #[serde(default)]
    vlan: Vec<u16>,
    #[serde(borrow)]
    in_iface: Option<Text<'a>>,
    #[serde(borrow)]
    flow: Option<Flow<'a>>,
    #[serde(borrow)]
    netflow: Option<NetFlow<'a>>,
    #[serde(borrow)]
    tcp: Option<Tcp<'a>>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
struct Flow<'a> {
    pkts_toserver: Option<u64>,
    pkts_toclient: Option<u64>,
    bytes_toserver: Option<u64>,
    bytes_toclient: Option<u64>,
    #[serde(borrow)]
    start: Option<Text<'a>>,
    #[serde(borrow)]
    end: Option<Text<'a>>,
    #[serde(borrow)]
    state: Option<Text<'a>>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
struct NetFlow<'a> {
    pkts: Option<u64>,
    bytes: Option<u64>,
    #[serde(borrow)]
    start: Option<Text<'a>>,
    #[serde(borrow)]
    end: Option<Text<'a>>,
}

/// Flags in hexadecimal: of both sides, to the server, to the client.
#[derive(Debug, Default, PartialEq, Deserialize)]
struct Tcp<'a> {
    #[serde(borrow)]
    tcp_flags: Option<Text<'a>>,
    #[serde(borrow)]
    tcp_flags_ts: Option<Text<'a>>,
    #[serde(borrow)]
    tcp_flags_tc: Option<Text<'a>>,
}

/// Flags that a side has shown.
fn flags(text: &Option<Text<'_>>) -> Option<u8> {
    u8::from_str_radix(text.as_deref()?, 16).ok()
}

/// Puts a value where none is yet.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

impl<'a> Event<'a> {
    /// The event in a line that has nothing unusual: four times as fast as by way of serde, to which all other lines go.
    pub(super) fn plain(line: &'a [u8]) -> Option<Self> {
        let text = |v: &mut Plain<'a>| v.str().map(Text::from);
        let mut e = Event::default();
        let (mut kind, mut vlan) = (None, None);
        let mut plain = Plain::new(line)?;
        plain.object(|v, key| match key {
            "event_type" => once(&mut kind, v.str()?),
            "flow_id" => once(&mut e.flow_id, v.number()?),
            "src_ip" => once(&mut e.src_ip, text(v)?),
            "src_port" => once(&mut e.src_port, v.number()?),
            "dest_ip" => once(&mut e.dest_ip, text(v)?),
            "dest_port" => once(&mut e.dest_port, v.number()?),
            "proto" => once(&mut e.proto, text(v)?),
            "icmp_type" => once(&mut e.icmp_type, v.number()?),
            "icmp_code" => once(&mut e.icmp_code, v.number()?),
            "vlan" => {
                let mut tags = Vec::new();
                v.array(|v| v.number().map(|tag| tags.push(tag)))?;
                once(&mut vlan, tags)
            }
            "in_iface" => once(&mut e.in_iface, text(v)?),
            "flow" => {
                let mut f = Flow::default();
                v.object(|v, key| match key {
                    "pkts_toserver" => once(&mut f.pkts_toserver, v.number()?),
                    "pkts_toclient" => once(&mut f.pkts_toclient, v.number()?),
                    "bytes_toserver" => once(&mut f.bytes_toserver, v.number()?),
                    "bytes_toclient" => once(&mut f.bytes_toclient, v.number()?),
                    "start" => once(&mut f.start, text(v)?),
                    "end" => once(&mut f.end, text(v)?),
                    "state" => once(&mut f.state, text(v)?),
                    _ => v.skip(),
                })?;
                once(&mut e.flow, f)
            }
            "netflow" => {
                let mut n = NetFlow::default();
                v.object(|v, key| match key {
                    "pkts" => once(&mut n.pkts, v.number()?),
                    "bytes" => once(&mut n.bytes, v.number()?),
                    "start" => once(&mut n.start, text(v)?),
                    "end" => once(&mut n.end, text(v)?),
                    _ => v.skip(),
                })?;
                once(&mut e.netflow, n)
            }
            "tcp" => {
                let mut t = Tcp::default();
                v.object(|v, key| match key {
                    "tcp_flags" => once(&mut t.tcp_flags, text(v)?),
                    "tcp_flags_ts" => once(&mut t.tcp_flags_ts, text(v)?),
                    "tcp_flags_tc" => once(&mut t.tcp_flags_tc, text(v)?),
                    _ => v.skip(),
                })?;
                once(&mut e.tcp, t)
            }
            _ => v.skip(),
        })?;
        e.event_type = Cow::Borrowed(kind?);
        e.vlan = vlan.unwrap_or_default();
        plain.is_over().then_some(e)
    }

    pub(super) fn kind(&self) -> &str {
        &self.event_type
    }
    pub(super) fn flow_id(&self) -> u64 {
        self.flow_id.unwrap_or(0)
    }
    pub(super) fn interface(&self) -> Option<&str> {
        self.in_iface.as_deref()
    }

    /// Of a `netflow` event the record has one direction alone, in `fwd`, and the flags of that one.
    pub(super) fn observation(&self) -> Result<Observation, Bad<'_>> {
        let (src, dst) = (self.src_ip.as_deref().unwrap_or_default(), self.dest_ip.as_deref().unwrap_or_default());
        let mut r = blank();
        r.client = numbers::addr(src.as_bytes()).ok_or(Bad::new("address that is none", src.as_bytes()))?;
        r.server = numbers::addr(dst.as_bytes()).ok_or(Bad::new("address that is none", dst.as_bytes()))?;
        let mut have = Have::ADDRESSES;
        let name = self.proto.as_deref().unwrap_or_default().as_bytes();
        if let Some(proto) = protocols::number(name) {
            r.proto = proto;
            have = have.with(Have::PROTO);
        }
        let icmp = matches!(r.proto, ip_proto::ICMP | ip_proto::ICMPV6);
        let ports = if icmp {
            self.icmp_type.zip(self.icmp_code).map(|(kind, code)| icmp_ports(r.proto, kind, code))
        } else {
            self.src_port.zip(self.dest_port)
        };
        if let Some(ports) = ports {
            (r.client_port, r.server_port) = ports;
            have = have.with(Have::CLIENT_PORT).with(Have::SERVER_PORT);
        }
        r.vlan_outer = self.vlan.first().copied().unwrap_or(0);
        r.vlan_inner = self.vlan.get(1).copied().unwrap_or(0);
        r.have = have;
        if self.event_type == "netflow" {
            self.half(&mut r)?
        } else {
            self.whole(&mut r)?
        }
        Ok(r.into())
    }

    fn whole(&self, r: &mut FlowRecord) -> Result<(), Bad<'_>> {
        let flow = self.flow.as_ref().ok_or(Bad::new("flow event without `flow`", b""))?;
        self.times(r, &flow.start, &flow.end)?;
        let packets = flow.pkts_toserver.zip(flow.pkts_toclient);
        let Some((fwd, bwd)) = packets else { return Ok(()) };
        (r.fwd.packets, r.bwd.packets) = (fwd, bwd);
        r.have = r.have.with(Have::PACKETS);
        let ip = |bytes: Option<u64>, packets| bytes.and_then(|b| self.ip_bytes(b, packets, r.client.is_v4()));
        if let Some((f, b)) = ip(flow.bytes_toserver, fwd).zip(ip(flow.bytes_toclient, bwd)) {
            (r.fwd.bytes, r.bwd.bytes) = (f, b);
            r.have = r.have.with(Have::BYTES);
        }
        let sides = self.tcp.as_ref().and_then(|t| flags(&t.tcp_flags_ts).zip(flags(&t.tcp_flags_tc)));
        if let Some(state) = state(r, sides, flow.state.as_deref()) {
            r.state = state;
            r.have = r.have.with(Have::STATE);
        }
        let opened = sides.is_some_and(|(ts, tc)| (ts | tc) & tcp_flag::SYN != 0);
        if r.have.has(Have::PROTO) && (r.proto != ip_proto::TCP || opened) {
            r.have = r.have.with(Have::SIDES);
        }
        Ok(())
    }

    fn half(&self, r: &mut FlowRecord) -> Result<(), Bad<'_>> {
        let half = self.netflow.as_ref().ok_or(Bad::new("netflow event without `netflow`", b""))?;
        self.times(r, &half.start, &half.end)?;
        let Some(packets) = half.pkts else { return Ok(()) };
        r.fwd.packets = packets;
        r.have = r.have.with(Have::PACKETS);
        if let Some(bytes) = half.bytes.and_then(|b| self.ip_bytes(b, packets, r.client.is_v4())) {
            r.fwd.bytes = bytes;
            r.have = r.have.with(Have::BYTES);
        }
        // The flags of this direction wait in the statistics until both are there.
        if let Some(flags) = self.tcp.as_ref().and_then(|t| flags(&t.tcp_flags)) {
            r.stats.dir[0].seen = u32::from(flags);
        }
        Ok(())
    }

    fn times(&self, r: &mut FlowRecord, start: &'a Option<Text<'_>>, end: &'a Option<Text<'_>>) -> Result<(), Bad<'_>> {
        let (Some(start), Some(end)) = (start, end) else { return Ok(()) };
        let time = |text: &'a str| numbers::iso(text.as_bytes()).ok_or(Bad::new("time that is none", text.as_bytes()));
        r.start_us = time(start)?;
        r.end_us = time(end)?.max(r.start_us);
        r.have = r.have.with(Have::TIME).with(Have::DURATION);
        Ok(())
    }

    /// `None` where so many packets cannot be IP in Ethernet.
    fn ip_bytes(&self, bytes: u64, packets: u64, v4: bool) -> Option<u64> {
        let tags = TAG.saturating_mul(self.vlan.len() as u64);
        let header = if v4 { 20 } else { 40_u64 };
        let ip = bytes.checked_sub(packets.checked_mul(ETHERNET.saturating_add(tags))?)?;
        (ip >= packets.checked_mul(header)?).then_some(ip)
    }
}

/// `sides` are the flags to the server and to the client; `word` is Suricata's.
pub(super) fn state(r: &FlowRecord, sides: Option<(u8, u8)>, word: Option<&str>) -> Option<FlowState> {
    if !r.have.has(Have::PROTO.with(Have::PACKETS)) {
        return None;
    }
    let by_packets = answered(r.fwd.packets, r.bwd.packets);
    if r.proto != ip_proto::TCP || r.bwd.packets == 0 {
        return Some(by_packets);
    }
    Some(match (sides, word) {
        // A server that sends RST and no SYN-ACK to a client that sent a SYN.
        (Some((ts, tc)), _)
            if tc & tcp_flag::RST != 0
                && tc & (tcp_flag::SYN | tcp_flag::FIN | tcp_flag::PSH) == 0
                && (ts & tcp_flag::SYN != 0 || r.bwd.packets == 1) =>
        {
            FlowState::Rejected
        }
        (Some((ts, tc)), _) if ts & tc & tcp_flag::FIN != 0 => FlowState::Closed,
        (Some((ts, tc)), _) if (ts | tc) & tcp_flag::RST != 0 => FlowState::Reset,
        (None, Some("closed")) => FlowState::Closed,
        _ => by_packets,
    })
}
