//! How the agent is.

use serde::Serialize;
use weir_core::decision::{Action, Origin};
use weir_core::event::Mode;

use super::watched::RecordReport;
use super::{BundleReport, ChallengerReport, LearnReport};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum XdpMode {
    Native,
    Generic,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusReport {
    pub version: String,
    /// Empty: only a collector.
    pub interface: String,
    pub ifindex: u32,
    pub mode_configured: Mode,
    pub mode_effective: Mode,
    /// Why the two differ; empty where they do not.
    pub mode_reason: String,
    /// `None`: no program is attached.
    pub xdp_mode: Option<XdpMode>,
    /// Why it is not native; empty where it is.
    pub xdp_cause: String,
    pub uptime_us: u64,
    pub bundle: Option<BundleReport>,
    pub learning: Option<LearnReport>,
    pub flows_live: u64,
    pub flows_last_epoch: u64,
    pub epochs: u64,
    pub drain_last_us: u64,
    pub drain_max_us: u64,
    /// What was lost: epoch records, events, writes of the log.
    pub lost: Vec<NamedCount>,
    /// As the kernel counts them, by reason.
    pub counters: Vec<Counter>,
    pub decisions: Vec<DecisionCount>,
    pub maps: Vec<MapUse>,
    pub warnings: Vec<String>,
    /// `None`: no collector.
    pub netflow: Option<NetflowReport>,
    /// `None`: no bundle challenges the one that serves.
    pub challenger: Option<ChallengerReport>,
    /// `None`: flows are not recorded.
    pub record: Option<RecordReport>,
    /// Roles that have drifted: no new automatic drops by them.
    pub drifted: Vec<String>,
    /// By index; those that are named outright and not there come last.
    pub interfaces: Vec<InterfaceReport>,
    /// What an interface counted that another had counted, and is left out.
    pub seen_twice: Packets,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Packets {
    pub packets: u64,
    pub bytes: u64,
}

/// An interface that is to be watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InterfaceReport {
    pub name: String,
    /// 0: there is no such interface.
    pub ifindex: u32,
    /// Weir's programs are on it.
    pub protected: bool,
    pub xdp_mode: Option<XdpMode>,
    /// Why it is not protected, or not in native mode.
    pub cause: String,
    pub up: bool,
    pub mtu: u32,
    /// Flows per epoch that it has room for.
    pub flows: u32,
    /// How often the programs were attached again.
    pub reattached: u64,
    pub packets_passed: u64,
    pub packets_dropped: u64,
    pub packets_limited: u64,
}

/// The collector of NetFlow and IPFIX.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetflowReport {
    pub listen: String,
    /// Exporters that are heard; empty: all.
    pub allowed: Vec<String>,
    pub datagrams: u64,
    /// Of flows; often one for each direction.
    pub records: u64,
    pub flows: u64,
    /// Flows that told too little to be scored.
    pub unscored: u64,
    /// Known now, by address and port.
    pub exporters: u64,
    pub templates: u64,
    /// Records that wait for their other direction.
    pub unpaired: u64,
    /// Data that waits for its template.
    pub waiting_bytes: u64,
    /// Bytes of memory for all of that.
    pub memory: u64,
    /// What was given up or never came, by reason.
    pub dropped: Vec<NamedCount>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedCount {
    pub name: String,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counter {
    pub name: String,
    pub packets: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DecisionCount {
    pub action: Action,
    pub origin: Origin,
    pub count: u64,
}

/// One kernel map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapUse {
    pub name: String,
    pub entries: u64,
    pub max_entries: u64,
    pub bytes: u64,
}
