//! Profiles: named, ordered lists of features. This file is the one place that names them.

use std::fmt;

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
    /// One row per active source and window.
    Source,
}

impl ProfileId {
    pub const ALL: [ProfileId; 2] = [ProfileId::Core, ProfileId::Source];

    pub const fn name(self) -> &'static str {
        match self {
            ProfileId::Core => "core",
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
            ProfileId::Source => &SOURCE,
        }
    }

    /// Number of columns.
    pub const fn width(self) -> usize {
        self.features().len()
    }
}

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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
