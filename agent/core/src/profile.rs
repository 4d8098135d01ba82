//! Profiles: named, ordered lists of features. This file is the one place that names them.

use std::fmt;

use crate::record::Have;

/// How a value is prepared for the models (inside the exported graph, so that models take raw features).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transform {
    /// Standardised as it is.
    Identity,
    /// `ln(1 + x)` first: for heavy-tailed counts, sizes, times and rates. Values are non-negative.
    Log1p,
}

/// One column of a profile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Feature {
    pub name: &'static str,
    /// Unit of the raw value: `s`, `packets`, `bytes`, `1/s`, `ratio`, `flag`, ...
    pub unit: &'static str,
    /// What the value is computed from.
    pub source: &'static str,
    pub transform: Transform,
    /// The feature in words, as reasons print it: "bytes per second".
    pub words: &'static str,
}

/// A profile that Weir can compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProfileId {
    /// One row per flow; what every source of flows can supply.
    Core,
    /// One row per flow; what only packets can tell (live traffic and captures).
    Full,
    /// One row per active source and window.
    Source,
}

impl ProfileId {
    pub const ALL: [ProfileId; 3] = [ProfileId::Core, ProfileId::Full, ProfileId::Source];

    pub const fn name(self) -> &'static str {
        match self {
            ProfileId::Core => "core",
            ProfileId::Full => "full",
            ProfileId::Source => "source",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }

    /// The columns, in order.
    pub const fn features(self) -> &'static [Feature] {
        match self {
            ProfileId::Core => &CORE,
            ProfileId::Full => &FULL,
            ProfileId::Source => &SOURCE,
        }
    }

    /// What a record must tell for every feature to come from what was seen; contexts and windows take more than one
    /// record.
    pub const fn needs(self) -> Have {
        let core = Have::PROTO.with(Have::DURATION).with(Have::PACKETS).with(Have::BYTES).with(Have::STATE);
        match self {
            ProfileId::Core => core,
            ProfileId::Full => core.with(Have::PAYLOAD).with(Have::STATS).with(Have::SIDES),
            ProfileId::Source => core.with(Have::TIME).with(Have::ADDRESSES).with(Have::SIDES),
        }
    }

    /// Number of columns.
    pub const fn width(self) -> usize {
        self.features().len()
    }
}

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

const fn raw(name: &'static str, unit: &'static str, source: &'static str, words: &'static str) -> Feature {
    Feature { name, unit, source, transform: Transform::Identity, words }
}

const fn log(name: &'static str, unit: &'static str, source: &'static str, words: &'static str) -> Feature {
    Feature { name, unit, source, transform: Transform::Log1p, words }
}

/// Per flow. `fwd` is client to server, `bwd` server to client. Bytes are IP-layer bytes.
const CORE: [Feature; 16] = [
    raw("proto_tcp", "flag", "IP protocol", "is TCP"),
    raw("proto_udp", "flag", "IP protocol", "is UDP"),
    raw("proto_icmp", "flag", "IP protocol", "is ICMP"),
    log("duration", "s", "last - first packet", "duration"),
    log("fwd_packets", "packets", "counted", "packets sent by the client"),
    log("bwd_packets", "packets", "counted", "packets sent by the server"),
    log("fwd_bytes", "bytes", "counted", "bytes sent by the client"),
    log("bwd_bytes", "bytes", "counted", "bytes sent by the server"),
    log("fwd_mean_size", "bytes", "fwd_bytes / fwd_packets", "mean packet size of the client"),
    log("bwd_mean_size", "bytes", "bwd_bytes / bwd_packets", "mean packet size of the server"),
    log("packets_per_s", "1/s", "packets / max(duration, 1 ms)", "packets per second"),
    log("bytes_per_s", "bytes/s", "bytes / max(duration, 1 ms)", "bytes per second"),
    log("packet_ratio", "ratio", "bwd_packets / fwd_packets", "answer packets per packet sent"),
    log("byte_ratio", "ratio", "bwd_bytes / fwd_bytes", "answer bytes per byte sent"),
    log("iat_mean", "s", "duration / (packets - 1)", "mean time between packets"),
    raw("end_state", "ordinal", "unanswered 0, established 1, closed 2, reset 3, rejected 4", "how the flow ended"),
];

/// [`CORE`], then [`FULL_ONLY`].
const FULL: [Feature; 44] = {
    let mut all = [CORE[0]; 44];
    let mut i = 0;
    while i < CORE.len() {
        all[i] = CORE[i];
        i += 1;
    }
    let mut i = 0;
    while i < FULL_ONLY.len() {
        all[CORE.len() + i] = FULL_ONLY[i];
        i += 1;
    }
    all
};

/// What `full` adds. Sizes are IP-layer bytes of a packet as it goes over the wire; `iat` (inter-arrival time) is the gap
/// between two arrivals of one direction; `ctx` is what the client began in the last 10 s (see [`crate::context`]).
const FULL_ONLY: [Feature; 28] = [
    log("fwd_payload", "bytes", "layer-4 payload, counted", "payload sent by the client"),
    log("bwd_payload", "bytes", "layer-4 payload, counted", "payload sent by the server"),
    log("fwd_data_packets", "packets", "packets with payload, counted", "packets with payload from the client"),
    log("bwd_data_packets", "packets", "packets with payload, counted", "packets with payload from the server"),
    log("fwd_size_std", "bytes", "standard deviation of packet sizes", "spread of packet sizes of the client"),
    log("bwd_size_std", "bytes", "standard deviation of packet sizes", "spread of packet sizes of the server"),
    log("size_min", "bytes", "smallest packet of both directions", "smallest packet"),
    log("size_max", "bytes", "largest packet of both directions", "largest packet"),
    raw("size_128_share", "ratio", "packets of at most 128 bytes / packets", "share of packets of at most 128 bytes"),
    raw("size_512_share", "ratio", "packets of 129 to 512 bytes / packets", "share of packets of 129 to 512 bytes"),
    raw("size_1024_share", "ratio", "packets of 513 to 1024 bytes / packets", "share of packets of 513 to 1024 bytes"),
    raw("size_more_share", "ratio", "packets of over 1024 bytes / packets", "share of packets of over 1024 bytes"),
    log("fwd_iat_mean", "s", "mean gap between arrivals", "mean time between packets of the client"),
    log("fwd_iat_std", "s", "standard deviation of gaps", "spread of the times between packets of the client"),
    log("bwd_iat_mean", "s", "mean gap between arrivals", "mean time between packets of the server"),
    log("bwd_iat_std", "s", "standard deviation of gaps", "spread of the times between packets of the server"),
    log("iat_min", "s", "smallest gap of either direction", "shortest time between packets of one side"),
    log("iat_max", "s", "largest gap of either direction", "longest time between packets of one side"),
    log("syn", "packets", "packets with SYN, both directions", "packets with SYN"),
    log("fin", "packets", "packets with FIN, both directions", "packets with FIN"),
    log("fwd_rst", "packets", "packets with RST", "packets with RST from the client"),
    log("bwd_rst", "packets", "packets with RST", "packets with RST from the server"),
    log("syn_ack_time", "s", "the server's first SYN-ACK - the client's first SYN", "time from SYN to SYN-ACK"),
    log("ctx_flows", "flows", "flows that the client began", "flows begun by the source in 10 s"),
    log("ctx_ports", "ports", "distinct server ports of these", "distinct ports contacted by the source in 10 s"),
    log("ctx_hosts", "hosts", "distinct server addresses of these", "distinct hosts contacted by the source in 10 s"),
    raw(
        "ctx_unanswered_share",
        "ratio",
        "of these, those without a packet back / these",
        "share of the source's flows of 10 s without an answer",
    ),
    log(
        "ctx_same_service",
        "flows",
        "of these, those to the flow's own host:port",
        "flows of the source to the same host:port in 10 s",
    ),
];

/// Per source and window (10 s unless configured), over the flows that the source started in it.
const SOURCE: [Feature; 18] = [
    log("flows", "flows", "flows started in the window", "flows started"),
    log("hosts", "hosts", "distinct server addresses", "distinct hosts contacted"),
    log("ports", "ports", "distinct server ports", "distinct ports contacted"),
    log("host_ports", "pairs", "distinct server host:port pairs", "distinct host:port pairs contacted"),
    raw("unanswered_share", "ratio", "flows without an answer for 0.5 s / flows", "share of flows without an answer"),
    raw("rejected_share", "ratio", "flows answered by a reset or ICMP error / flows", "share of flows rejected"),
    raw("one_packet_share", "ratio", "flows of a single client packet / flows", "share of one-packet flows"),
    log("bytes_mean", "bytes", "mean bytes per flow", "mean bytes per flow"),
    log("bytes_std", "bytes", "standard deviation of bytes per flow", "spread of bytes per flow"),
    log("packets_mean", "packets", "mean packets per flow", "mean packets per flow"),
    log("packets_std", "packets", "standard deviation of packets per flow", "spread of packets per flow"),
    log("byte_ratio", "ratio", "bytes to the source / bytes from it", "answer bytes per byte sent"),
    raw("busiest_share", "ratio", "flows to the busiest host:port / flows", "share of the busiest host:port"),
    log("gap_mean", "s", "mean time between flow starts", "mean time between flows"),
    log("gap_cv", "ratio", "coefficient of variation of those gaps", "irregularity of the gaps between flows"),
    raw(
        "bare_syn_share",
        "ratio",
        "TCP flows with SYN and no ACK for 0.5 s / flows",
        "share of SYNs never followed by an ACK",
    ),
    raw("icmp_share", "ratio", "ICMP flows / flows", "share of ICMP flows"),
    log("flow_seconds", "s", "mean duration of the flows", "mean flow duration"),
];
