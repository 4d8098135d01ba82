//! One record: the fields that count, put together into what was reported of one flow.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use weir_common::flow::ip_proto::{ICMP, ICMPV6};
use weir_common::parse::{icmp_ports, icmpv6_ports};
use weir_core::addr::Addr;

use super::bytes::uint;
use super::field::Field;
use super::sampling::{Rate, SamplerFields};

/// Seconds from 1900 (NTP era 0) to 1970.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// What was reported of one direction of a flow. `None` where the record does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    pub packets: Option<u64>,
    /// IP-layer bytes.
    pub bytes: Option<u64>,
    /// Layer-4 payload bytes.
    pub payload: Option<u64>,
    /// Union of the TCP flags.
    pub tcp_flags: Option<u8>,
}

/// Who opened a flow, where the record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    Unknown,
    Source,
    Destination,
}

/// One record of an exporter: one direction of a flow, or both. Counts are scaled by the sampling already.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportedFlow {
    /// Distinguishes exporters of one decoder.
    pub exporter: u32,
    /// Address of the exporter.
    pub seen_at: Option<Arc<str>>,
    pub source: Option<Addr>,
    pub destination: Option<Addr>,
    /// For ICMP the type and code as Community ID v1 maps them.
    pub source_port: Option<u16>,
    pub destination_port: Option<u16>,
    pub proto: Option<u8>,
    /// VLAN identifiers, 0 where there is none.
    pub vlan_outer: u16,
    pub vlan_inner: u16,
    /// Time of day of the first and last packet, µs.
    pub start_us: Option<u64>,
    pub end_us: Option<u64>,
    /// Known also where no clock ties the flow to a time of day, µs.
    pub duration_us: Option<u64>,
    /// Source to destination.
    pub there: Way,
    /// Destination to source, where one record tells of both (RFC 5103, firewalls).
    pub back: Option<Way>,
    pub opener: Opener,
    /// One in so many packets was looked at.
    pub sampling: u32,
    /// When the record was exported, µs.
    pub exported_us: u64,
}

/// Why a record is no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoFlow {
    /// No IP addresses and no protocol: of a layer-2 switch, a radio client, an application table.
    NoIp,
    /// Tells that a session or a translation began, not what it carried.
    Event,
    /// Counted nothing.
    Empty,
}

/// The clock of one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub exported_us: u64,
    /// Time of day when the exporter's uptime was 0, µs.
    pub boot_us: Option<i64>,
}

impl Clock {
    /// Time of day of an uptime, µs. Uptimes are milliseconds modulo 2³² (49.7 days): of the times that it may mean, the
    /// one nearest to the export.
    fn of_uptime(&self, boot_us: i64, ms: u32) -> u64 {
        const WRAP_US: i64 = (1 << 32) * 1000;
        let first = boot_us.saturating_add(i64::from(ms) * 1000);
        let exported = i64::try_from(self.exported_us).unwrap_or(i64::MAX);
        let wraps = exported.saturating_sub(first).saturating_add(WRAP_US / 2).div_euclid(WRAP_US);
        u64::try_from(first.saturating_add(wraps.saturating_mul(WRAP_US))).unwrap_or(0)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    octets: Option<u64>,
    packets: Option<u64>,
    octets_total: Option<u64>,
    packets_total: Option<u64>,
    post_octets: Option<u64>,
    post_packets: Option<u64>,
    payload: Option<u64>,
    session_packets: Option<u64>,
    tcp_flags: Option<u8>,
    start_us: Option<u64>,
    end_us: Option<u64>,
}

impl Counters {
    /// The counts since the last report win over those since the flow began, those where it came in over those where it
    /// went out: of these, exporters that count on one side leave the other 0 or repeat it.
    fn way(&self) -> Way {
        let first = |counts: [Option<u64>; 4]| {
            let some = counts.into_iter().flatten();
            some.clone().find(|&n| n > 0).or(some.clone().next())
        };
        Way {
            packets: first([self.packets, self.packets_total, self.session_packets, self.post_packets]),
            bytes: first([self.octets, self.octets_total, self.post_octets, None]),
            payload: self.payload,
            tcp_flags: self.tcp_flags,
        }
    }
    fn is_empty(&self) -> bool {
        let w = self.way();
        w.packets.is_none() && w.bytes.is_none() && w.payload.is_none()
    }
}

/// A record while its fields come in.
#[derive(Debug, Default)]
pub(super) struct Raw {
    source: Option<Addr>,
    destination: Option<Addr>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
    proto: Option<u8>,
    icmp_type_code: Option<u16>,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
    vlan_outer: u16,
    vlan_inner: u16,
    there: Counters,
    back: Counters,
    reversed: bool,
    start_uptime: Option<u32>,
    end_uptime: Option<u32>,
    system_init_us: Option<u64>,
    duration_us: Option<u64>,
    biflow: Option<u64>,
    firewall_event: Option<u64>,
    nat_event: bool,
    pub sampler: SamplerFields,
}

fn v4(bytes: &[u8]) -> Option<Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(|b| Addr(Ipv4Addr::from(b).to_ipv6_mapped().octets()))
}
fn v6(bytes: &[u8]) -> Option<Addr> {
    <[u8; 16]>::try_from(bytes).ok().map(|b| Addr(Ipv6Addr::from(b).octets()))
}
/// Templates for both families at once carry the other one's address as zeros.
fn address(slot: &mut Option<Addr>, new: Option<Addr>) {
    let Some(new) = new else { return };
    if slot.is_none_or(|old| old.ip().is_unspecified()) {
        *slot = Some(new);
    }
}
fn small(bytes: &[u8]) -> Option<u16> {
    uint(bytes).and_then(|v| u16::try_from(v).ok())
}
fn byte(bytes: &[u8]) -> Option<u8> {
    uint(bytes).map(|v| v as u8)
}

/// A time in NTP format, 2³²ths of a second since 1900 (RFC 7011, 6.1.9 and 6.1.10). Some exporters send plain units since
/// 1970 instead (`per_second` of them a second): the reading that lies nearer to the export is taken.
fn ntp_us(raw: u64, per_second: u64, exported_us: u64) -> u64 {
    let (seconds, fraction) = (raw >> 32, raw & 0xffff_ffff);
    let ntp = seconds.saturating_sub(NTP_TO_UNIX).saturating_mul(1_000_000) + ((fraction * 1_000_000) >> 32);
    let plain = raw / (per_second / 1_000_000);
    if plain.abs_diff(exported_us) < ntp.abs_diff(exported_us) { plain } else { ntp }
}

impl Raw {
    /// Takes one field. A value of impossible length is as if it were not there.
    #[inline]
    pub fn set(&mut self, field: Field, reverse: bool, bytes: &[u8], clock: &Clock) {
        self.reversed |= reverse;
        let way = if reverse { &mut self.back } else { &mut self.there };
        match field {
            Field::Skip => {}
            Field::Source4 => address(&mut self.source, v4(bytes)),
            Field::Destination4 => address(&mut self.destination, v4(bytes)),
            Field::Source6 => address(&mut self.source, v6(bytes)),
            Field::Destination6 => address(&mut self.destination, v6(bytes)),
            Field::SourcePort => self.source_port = small(bytes),
            Field::DestinationPort => self.destination_port = small(bytes),
            Field::Protocol => self.proto = byte(bytes),
            // Twice in a record: the flags of the first packet and of the others.
            Field::TcpFlags => way.tcp_flags = byte(bytes).map(|f| f | way.tcp_flags.unwrap_or(0)),
            Field::IcmpTypeCode => self.icmp_type_code = small(bytes).or(self.icmp_type_code),
            Field::IcmpType => self.icmp_type = byte(bytes),
            Field::IcmpCode => self.icmp_code = byte(bytes),
            Field::Vlan => self.vlan_outer = small(bytes).unwrap_or(0) & 0xfff,
            Field::InnerVlan => self.vlan_inner = small(bytes).unwrap_or(0) & 0xfff,
            Field::Octets => way.octets = uint(bytes),
            Field::Packets => way.packets = uint(bytes),
            Field::OctetsTotal => way.octets_total = uint(bytes),
            Field::PacketsTotal => way.packets_total = uint(bytes),
            Field::PostOctets | Field::PostOctetsTotal => way.post_octets = uint(bytes).or(way.post_octets),
            Field::PostPackets | Field::PostPacketsTotal => way.post_packets = uint(bytes).or(way.post_packets),
            Field::InitiatorOctets => self.there.payload = uint(bytes),
            Field::ResponderOctets => self.back.payload = uint(bytes),
            Field::InitiatorPackets => self.there.session_packets = uint(bytes),
            Field::ResponderPackets => self.back.session_packets = uint(bytes),
            Field::StartUptime => self.start_uptime = uint(bytes).map(|v| v as u32),
            Field::EndUptime => self.end_uptime = uint(bytes).map(|v| v as u32),
            Field::StartSeconds => way.start_us = uint(bytes).map(|v| v.saturating_mul(1_000_000)),
            Field::EndSeconds => way.end_us = uint(bytes).map(|v| v.saturating_mul(1_000_000)),
            Field::StartMillis => way.start_us = uint(bytes).map(|v| v.saturating_mul(1000)),
            Field::EndMillis => way.end_us = uint(bytes).map(|v| v.saturating_mul(1000)),
            Field::StartMicros => way.start_us = uint(bytes).map(|v| ntp_us(v, 1_000_000, clock.exported_us)),
            Field::EndMicros => way.end_us = uint(bytes).map(|v| ntp_us(v, 1_000_000, clock.exported_us)),
            Field::StartNanos => way.start_us = uint(bytes).map(|v| ntp_us(v, 1_000_000_000, clock.exported_us)),
            Field::EndNanos => way.end_us = uint(bytes).map(|v| ntp_us(v, 1_000_000_000, clock.exported_us)),
            Field::StartDeltaMicros => way.start_us = uint(bytes).map(|v| clock.exported_us.saturating_sub(v)),
            Field::EndDeltaMicros => way.end_us = uint(bytes).map(|v| clock.exported_us.saturating_sub(v)),
            Field::DurationMillis => self.duration_us = uint(bytes).map(|v| v.saturating_mul(1000)),
            Field::DurationMicros => self.duration_us = uint(bytes),
            Field::SystemInitMillis => self.system_init_us = uint(bytes).map(|v| v.saturating_mul(1000)),
            Field::BiflowDirection => self.biflow = uint(bytes),
            Field::FirewallEvent => self.firewall_event = uint(bytes),
            Field::NatEvent => self.nat_event = true,
            Field::SamplingInterval
            | Field::SamplerId
            | Field::SamplingPacketInterval
            | Field::SamplingPacketSpace
            | Field::SamplingSize
            | Field::SamplingPopulation
            | Field::SamplingProbability => self.sampler.set(field, bytes),
        }
    }

    /// The exporter's start, where an options record tells it, µs.
    pub fn system_init_us(&self) -> Option<u64> {
        self.system_init_us
    }

    fn ports(&self) -> (Option<u16>, Option<u16>) {
        let ports = match self.proto {
            Some(ICMP) => icmp_ports as fn(u8, u8) -> (u16, u16),
            Some(ICMPV6) => icmpv6_ports,
            _ => return (self.source_port, self.destination_port),
        };
        // NetFlow v5 and many a v9 exporter put type and code into the destination port.
        let type_code = match (self.icmp_type_code, self.destination_port) {
            (Some(0) | None, Some(port)) if self.icmp_type.is_none() => Some(port),
            (given, _) => given,
        };
        let kind = self.icmp_type.or(type_code.map(|v| (v >> 8) as u8));
        let code = self.icmp_code.or(type_code.map(|v| v as u8));
        match kind {
            Some(kind) => {
                let (source, destination) = ports(kind, code.unwrap_or(0));
                (Some(source), Some(destination))
            }
            None => (None, None),
        }
    }

    /// Puts the record together. `rate` is what its counts are to be multiplied by.
    pub fn finish(
        &self,
        clock: &Clock,
        rate: Rate,
        exporter: u32,
        seen_at: &Option<Arc<str>>,
    ) -> Result<ExportedFlow, NoFlow> {
        if self.source.is_none() && self.destination.is_none() {
            return Err(NoFlow::NoIp);
        }
        let of_session = |c: &Counters| c.payload.is_some() || c.session_packets.is_some();
        let mut session = of_session(&self.there) && of_session(&self.back);
        let both = session || (self.reversed && !self.back.is_empty());
        let scaled = |w: Way| Way {
            packets: w.packets.map(|n| rate.scale(n)),
            bytes: w.bytes.map(|n| rate.scale(n)),
            payload: w.payload.map(|n| rate.scale(n)),
            tcp_flags: w.tcp_flags,
        };
        let mut there = scaled(self.there.way());
        let mut back = both.then(|| scaled(self.back.way()));
        // Firewalls report sessions, older ones with one sum of both directions: that says nothing of either.
        if self.firewall_event.is_some() && !both && there.packets.is_none() {
            session = true;
            back = Some(Way::default());
        }
        let none = |w: &Way| w.packets.or(w.bytes).or(w.payload).unwrap_or(0) == 0 && w.bytes.unwrap_or(0) == 0;
        if none(&there) && back.as_ref().is_none_or(none) {
            // 1: created; what it carries is reported later. Address translations come and go without counts.
            if self.firewall_event == Some(1) || self.nat_event {
                return Err(NoFlow::Event);
            }
            // A session that was denied has no counts, and is a flow all the same.
            if there.packets.or(there.bytes).is_some() && !session {
                return Err(NoFlow::Empty);
            }
        }
        if session && !both {
            there = Way { tcp_flags: there.tcp_flags, ..Way::default() };
        }

        let boot_us = self.system_init_us.and_then(|v| i64::try_from(v).ok()).or(clock.boot_us);
        let uptime = |t: Option<u32>| Some(clock.of_uptime(boot_us?, t?));
        let earliest = [self.there.start_us, self.back.start_us].into_iter().flatten().min();
        let latest = [self.there.end_us, self.back.end_us].into_iter().flatten().max();
        let mut start_us = earliest.or_else(|| uptime(self.start_uptime));
        let mut end_us = latest.or_else(|| uptime(self.end_uptime));
        let between_uptimes = self.start_uptime.zip(self.end_uptime).map(|(s, e)| {
            // Wrapped in between, or a clock that ran backward by a little.
            u64::try_from(e.wrapping_sub(s).cast_signed()).unwrap_or(0) * 1000
        });
        let duration_us = match (start_us, end_us) {
            (Some(s), Some(e)) => Some(e.saturating_sub(s)),
            _ => self.duration_us.or(between_uptimes),
        };
        match (start_us, end_us, duration_us) {
            (Some(s), None, d) => end_us = Some(s.saturating_add(d.unwrap_or(0))),
            (None, Some(e), d) => start_us = Some(e.saturating_sub(d.unwrap_or(0))),
            _ => {}
        }

        let (source_port, destination_port) = self.ports();
        Ok(ExportedFlow {
            exporter,
            seen_at: seen_at.clone(),
            source: self.source,
            destination: self.destination,
            source_port,
            destination_port,
            proto: self.proto,
            vlan_outer: self.vlan_outer,
            vlan_inner: self.vlan_inner,
            start_us,
            end_us: end_us.map(|e| e.max(start_us.unwrap_or(0))),
            duration_us,
            there,
            back,
            // RFC 5103, section 6.3: 1 the source opened it, 2 the destination did; 0 and 3 do not say.
            opener: match self.biflow {
                Some(1) => Opener::Source,
                Some(2) => Opener::Destination,
                _ if session => Opener::Source,
                _ => Opener::Unknown,
            },
            sampling: rate.one_in(),
            exported_us: clock.exported_us,
        })
    }
}
