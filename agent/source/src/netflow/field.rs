//! The information elements that Weir uses, by their numbers in the IANA registry "IPFIX Information Elements". NetFlow
//! v9 uses the same numbers for the fields they share (RFC 7012, section 2.3).

/// What a field of a record means. Everything else is [`Field::Skip`], of any vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Field {
    Skip,
    Source4,
    Destination4,
    Source6,
    Destination6,
    SourcePort,
    DestinationPort,
    Protocol,
    TcpFlags,
    /// Type in the high byte, code in the low one.
    IcmpTypeCode,
    IcmpType,
    IcmpCode,
    Vlan,
    InnerVlan,
    Octets,
    Packets,
    OctetsTotal,
    PacketsTotal,
    PostOctets,
    PostPackets,
    PostOctetsTotal,
    PostPacketsTotal,
    /// Layer-4 payload of each side of a session (firewalls).
    InitiatorOctets,
    ResponderOctets,
    InitiatorPackets,
    ResponderPackets,
    StartUptime,
    EndUptime,
    StartSeconds,
    EndSeconds,
    StartMillis,
    EndMillis,
    StartMicros,
    EndMicros,
    StartNanos,
    EndNanos,
    StartDeltaMicros,
    EndDeltaMicros,
    DurationMillis,
    DurationMicros,
    SystemInitMillis,
    BiflowDirection,
    FirewallEvent,
    NatEvent,
    /// One packet in so many.
    SamplingInterval,
    SamplerId,
    SamplingPacketInterval,
    SamplingPacketSpace,
    SamplingSize,
    SamplingPopulation,
    SamplingProbability,
}

/// Private enterprise number of reversed elements (RFC 5103, section 6.1).
const REVERSE: u32 = 29_305;
/// CERT/CC: the exporter `yaf` puts TCP flags into elements of its own, reversed ones with bit 14 set.
const CERT: u32 = 6_871;

impl Field {
    /// The field, and whether it counts the reverse direction.
    pub fn of(enterprise: u32, id: u16) -> (Field, bool) {
        match enterprise {
            0 => (Self::iana(id), false),
            REVERSE => (Self::iana(id), true),
            CERT => match id & 0x3fff {
                // initialTCPFlags and unionTCPFlags (of the further packets).
                14 | 15 => (Field::TcpFlags, id & 0x4000 != 0),
                _ => (Field::Skip, false),
            },
            _ => (Field::Skip, false),
        }
    }

    fn iana(id: u16) -> Field {
        match id {
            1 => Field::Octets,
            2 => Field::Packets,
            4 => Field::Protocol,
            6 => Field::TcpFlags,
            7 | 180 | 182 => Field::SourcePort,
            8 => Field::Source4,
            11 | 181 | 183 => Field::DestinationPort,
            12 => Field::Destination4,
            21 => Field::EndUptime,
            22 => Field::StartUptime,
            23 => Field::PostOctets,
            24 => Field::PostPackets,
            27 => Field::Source6,
            28 => Field::Destination6,
            32 | 139 => Field::IcmpTypeCode,
            34 | 50 => Field::SamplingInterval,
            48 | 302 => Field::SamplerId,
            58 | 243 => Field::Vlan,
            85 => Field::OctetsTotal,
            86 => Field::PacketsTotal,
            150 => Field::StartSeconds,
            151 => Field::EndSeconds,
            152 => Field::StartMillis,
            153 => Field::EndMillis,
            154 => Field::StartMicros,
            155 => Field::EndMicros,
            156 => Field::StartNanos,
            157 => Field::EndNanos,
            158 => Field::StartDeltaMicros,
            159 => Field::EndDeltaMicros,
            160 => Field::SystemInitMillis,
            161 => Field::DurationMillis,
            162 => Field::DurationMicros,
            171 => Field::PostOctetsTotal,
            172 => Field::PostPacketsTotal,
            176 | 178 => Field::IcmpType,
            177 | 179 => Field::IcmpCode,
            230 => Field::NatEvent,
            231 => Field::InitiatorOctets,
            232 => Field::ResponderOctets,
            233 => Field::FirewallEvent,
            239 => Field::BiflowDirection,
            245 => Field::InnerVlan,
            298 => Field::InitiatorPackets,
            299 => Field::ResponderPackets,
            305 => Field::SamplingPacketInterval,
            306 => Field::SamplingPacketSpace,
            309 => Field::SamplingSize,
            310 => Field::SamplingPopulation,
            311 => Field::SamplingProbability,
            _ => Field::Skip,
        }
    }
}
