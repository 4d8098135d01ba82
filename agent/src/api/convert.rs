//! Between the plain values of [`crate::command`] and their protobuf messages, both ways.

use weir_core::addr::Prefix;
use weir_core::decision::{Action, Decision, Origin, Sides};
use weir_core::event::Mode;
use weir_core::rate::{RateLimit, RateUnit};

use crate::command::{
    AlertReason, AlertReport, AllowAdded, AllowReport, BundleReport, ChallengerReport, Counter, DecisionCount,
    DecisionReport, DriftStatus, EvidencePoint, FeatureDriftReport, InterfaceReport, LearnFrom, LearnReport, MapUse,
    NamedCount, NetflowReport, Packets, RecordReport, ReloadReport, RoleDriftReport, StatusReport, XdpMode,
};
use crate::enforce::{HIT_STEP_US, HitCourse};
use crate::proto as pb;

/// A message that does not mean anything to this version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Malformed {
    #[error("`{field}` is missing")]
    Missing { field: &'static str },
    #[error("{value} is no value of `{field}` that this version knows")]
    Unknown { field: &'static str, value: i32 },
    #[error("{0}")]
    Text(String),
}

/// A pair of functions for an enum and the protobuf enum of the same names.
macro_rules! enums {
    ($to:ident, $from:ident, $field:literal, $ours:ident, $theirs:ident, [$($v:ident),+]) => {
        pub fn $to(v: $ours) -> i32 {
            match v {
                $($ours::$v => pb::$theirs::$v as i32),+
            }
        }
        pub fn $from(v: i32) -> Result<$ours, Malformed> {
            match pb::$theirs::try_from(v) {
                $(Ok(pb::$theirs::$v) => Ok($ours::$v),)+
                Ok(pb::$theirs::Unspecified) => Err(Malformed::Missing { field: $field }),
                Err(_) => Err(Malformed::Unknown { field: $field, value: v }),
            }
        }
    };
}
enums!(mode_out, mode_in, "mode", Mode, Mode, [Observe, Shadow, Review, Enforce]);
enums!(action_out, action_in, "action", Action, Action, [Shadow, Limit, Drop]);
enums!(sides_out, sides_in, "sides", Sides, Sides, [In, Out, Both]);
enums!(origin_out, origin_in, "origin", Origin, Origin, [Manual, Automatic, List]);
enums!(xdp_out, xdp_in, "xdp_mode", XdpMode, XdpMode, [Native, Generic]);

/// A text field that has a syntax of its own.
pub fn text<T: std::str::FromStr<Err: std::fmt::Display>>(s: &str) -> Result<T, Malformed> {
    s.parse().map_err(|e: T::Err| Malformed::Text(e.to_string()))
}

fn need<T>(v: Option<T>, field: &'static str) -> Result<T, Malformed> {
    v.ok_or(Malformed::Missing { field })
}

fn each<T: Into<U>, U>(v: Vec<T>) -> Vec<U> {
    v.into_iter().map(Into::into).collect()
}

fn try_each<T: TryInto<U, Error = Malformed>, U>(v: Vec<T>) -> Result<Vec<U>, Malformed> {
    v.into_iter().map(TryInto::try_into).collect()
}

enums!(unit_out, unit_in, "unit", RateUnit, RateUnit, [Packets, Bytes]);

impl From<RateLimit> for pb::RateLimit {
    fn from(l: RateLimit) -> Self {
        pb::RateLimit { unit: unit_out(l.unit()), per_second: l.per_second(), burst: Some(l.burst()) }
    }
}
impl TryFrom<pb::RateLimit> for RateLimit {
    type Error = Malformed;
    fn try_from(l: pb::RateLimit) -> Result<Self, Malformed> {
        RateLimit::new(unit_in(l.unit)?, l.per_second, l.burst).map_err(|e| Malformed::Text(e.to_string()))
    }
}

impl From<Decision> for pb::Decision {
    fn from(d: Decision) -> Self {
        pb::Decision {
            id: d.id,
            target: d.target.to_string(),
            action: action_out(d.action),
            sides: sides_out(d.sides),
            origin: origin_out(d.origin),
            created_us: d.created_us,
            expires_us: d.expires_us,
            reason: d.reason,
            instead_of: d.instead_of.map(action_out),
            alert_id: d.alert_id,
            limit: d.limit.map(Into::into),
        }
    }
}
impl TryFrom<pb::Decision> for Decision {
    type Error = Malformed;
    fn try_from(d: pb::Decision) -> Result<Self, Malformed> {
        Ok(Decision {
            id: d.id,
            target: text(&d.target)?,
            action: action_in(d.action)?,
            limit: d.limit.map(TryInto::try_into).transpose()?,
            sides: sides_in(d.sides)?,
            origin: origin_in(d.origin)?,
            created_us: d.created_us,
            expires_us: d.expires_us,
            reason: d.reason,
            instead_of: d.instead_of.map(action_in).transpose()?,
            alert_id: d.alert_id,
        })
    }
}

impl From<DecisionReport> for pb::DecisionState {
    fn from(r: DecisionReport) -> Self {
        pb::DecisionState {
            decision: Some(r.decision.into()),
            enforced: r.enforced,
            awaiting_confirmation: r.awaiting_confirmation,
            packets: r.packets,
            bytes: r.bytes,
            last_hit_us: r.last_hit_us,
            note: r.note,
            course: r.course.map(|c| pb::HitCourse { start_us: c.start_us, step_us: HIT_STEP_US, packets: c.packets }),
        }
    }
}
impl TryFrom<pb::DecisionState> for DecisionReport {
    type Error = Malformed;
    fn try_from(r: pb::DecisionState) -> Result<Self, Malformed> {
        Ok(DecisionReport {
            decision: need(r.decision, "decision")?.try_into()?,
            enforced: r.enforced,
            awaiting_confirmation: r.awaiting_confirmation,
            packets: r.packets,
            bytes: r.bytes,
            last_hit_us: r.last_hit_us,
            note: r.note,
            course: r.course.map(|c| HitCourse { start_us: c.start_us, packets: c.packets }),
        })
    }
}

impl From<AllowReport> for pb::AllowEntry {
    fn from(r: AllowReport) -> Self {
        pb::AllowEntry {
            prefix: r.prefix.to_string(),
            comment: r.comment,
            origin: r.origin,
            removable: r.removable,
            expires_us: r.expires_us,
        }
    }
}
impl TryFrom<pb::AllowEntry> for AllowReport {
    type Error = Malformed;
    fn try_from(r: pb::AllowEntry) -> Result<Self, Malformed> {
        Ok(AllowReport {
            prefix: text::<Prefix>(&r.prefix)?,
            comment: r.comment,
            origin: r.origin,
            removable: r.removable,
            expires_us: r.expires_us,
        })
    }
}

impl From<AllowAdded> for pb::AddAllowResponse {
    fn from(r: AllowAdded) -> Self {
        pb::AddAllowResponse { entry: Some(r.entry.into()), lifted: each(r.lifted) }
    }
}
impl TryFrom<pb::AddAllowResponse> for AllowAdded {
    type Error = Malformed;
    fn try_from(r: pb::AddAllowResponse) -> Result<Self, Malformed> {
        Ok(AllowAdded { entry: need(r.entry, "entry")?.try_into()?, lifted: try_each(r.lifted)? })
    }
}

/// Messages whose fields are the same on both sides.
macro_rules! same_fields {
    ($ours:ident, $theirs:ident, [$($field:ident),+]) => {
        impl From<$ours> for pb::$theirs {
            fn from(r: $ours) -> Self {
                pb::$theirs { $($field: r.$field),+ }
            }
        }
        impl From<pb::$theirs> for $ours {
            fn from(r: pb::$theirs) -> Self {
                $ours { $($field: r.$field),+ }
            }
        }
    };
}
same_fields!(
    BundleReport,
    Bundle,
    [
        id, promoted, origin, created_us, flows, windows, profiles, current, hash, bytes, challenger, steps_back,
        since_us
    ]
);
same_fields!(
    ChallengerReport,
    ChallengerStatus,
    [id, since_us, flows, epochs_left_out, cpu_us, differing_sources, failed]
);
same_fields!(
    LearnReport,
    LearnProgress,
    [started_us, duration_us, elapsed_us, flows, min_flows, windows, min_windows, phase, from]
);
same_fields!(
    RecordReport,
    RecordStatus,
    [enabled, dir, files, bytes, max_bytes, max_age_us, oldest_us, newest_us, flows, windows, lost, failing]
);
same_fields!(AlertReason, AlertReason, [feature, words, observed, usual_low, usual_high, share, nearest_usual]);
same_fields!(EvidencePoint, EvidencePoint, [time_us, all, proven]);
same_fields!(
    RoleDriftReport,
    RoleDrift,
    [profile, role, state, voters, withheld, effect, too_much, at_5_percent, leads_to_drops]
);
same_fields!(
    FeatureDriftReport,
    FeatureDrift,
    [profile, feature, words, moved, voters, below_usual, above_usual, below_median, above_median, effect]
);
same_fields!(NamedCount, NamedCount, [name, count]);
same_fields!(Counter, Counter, [name, packets, bytes]);
same_fields!(MapUse, MapUse, [name, entries, max_entries, bytes]);
same_fields!(ReloadReport, ReloadConfigResponse, [applied, needs_restart]);

impl From<AlertReport> for pb::Alert {
    fn from(r: AlertReport) -> Self {
        pb::Alert {
            id: r.id,
            time_us: r.time_us,
            source: r.source.to_string(),
            severity: r.severity,
            evidence: r.evidence,
            evidence_proven: r.evidence_proven,
            alert_threshold: r.alert_threshold,
            drop_threshold: r.drop_threshold,
            profile: r.profile,
            role: r.role,
            p_value: r.p_value,
            ports: r.ports.into_iter().map(u32::from).collect(),
            flows: r.flows,
            since_us: r.since_us,
            outcome: r.outcome,
            mode: r.mode,
            reasons: each(r.reasons),
            history: each(r.history),
            json: r.json,
            unless: r.unless,
        }
    }
}
impl TryFrom<pb::Alert> for AlertReport {
    type Error = Malformed;
    fn try_from(r: pb::Alert) -> Result<Self, Malformed> {
        let port = |p: u32| u16::try_from(p).map_err(|_| Malformed::Text(format!("{p} is no port")));
        Ok(AlertReport {
            id: r.id,
            time_us: r.time_us,
            source: text(&r.source)?,
            severity: r.severity,
            evidence: r.evidence,
            evidence_proven: r.evidence_proven,
            alert_threshold: r.alert_threshold,
            drop_threshold: r.drop_threshold,
            profile: r.profile,
            role: r.role,
            p_value: r.p_value,
            ports: r.ports.into_iter().map(port).collect::<Result<_, _>>()?,
            flows: r.flows,
            since_us: r.since_us,
            outcome: r.outcome,
            mode: r.mode,
            reasons: each(r.reasons),
            history: each(r.history),
            json: r.json,
            unless: r.unless,
        })
    }
}

impl From<DriftStatus> for pb::ModelDriftResponse {
    fn from(r: DriftStatus) -> Self {
        pb::ModelDriftResponse {
            bundle: r.bundle.unwrap_or_default(),
            roles: each(r.roles),
            features: each(r.features),
        }
    }
}
impl From<pb::ModelDriftResponse> for DriftStatus {
    fn from(r: pb::ModelDriftResponse) -> Self {
        let bundle = Some(r.bundle).filter(|b| !b.is_empty());
        DriftStatus { bundle, roles: each(r.roles), features: each(r.features) }
    }
}

/// What is learned from; a length of time is for the record alone.
pub fn learn_from_out(from: LearnFrom) -> (i32, Option<u64>) {
    match from {
        LearnFrom::Auto => (pb::LearnFrom::Unspecified as i32, None),
        LearnFrom::Live => (pb::LearnFrom::Live as i32, None),
        LearnFrom::Record { since } => {
            let us = since.map(|d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX));
            (pb::LearnFrom::Record as i32, us)
        }
    }
}
pub fn learn_from_in(from: i32, since_us: Option<u64>) -> Result<LearnFrom, Malformed> {
    let since = since_us.map(std::time::Duration::from_micros);
    match pb::LearnFrom::try_from(from) {
        Ok(pb::LearnFrom::Unspecified) => Ok(LearnFrom::Auto),
        Ok(pb::LearnFrom::Live) => Ok(LearnFrom::Live),
        Ok(pb::LearnFrom::Record) => Ok(LearnFrom::Record { since }),
        Err(_) => Err(Malformed::Unknown { field: "from", value: from }),
    }
}

impl From<DecisionCount> for pb::DecisionCount {
    fn from(r: DecisionCount) -> Self {
        pb::DecisionCount { action: action_out(r.action), origin: origin_out(r.origin), count: r.count }
    }
}
impl TryFrom<pb::DecisionCount> for DecisionCount {
    type Error = Malformed;
    fn try_from(r: pb::DecisionCount) -> Result<Self, Malformed> {
        Ok(DecisionCount { action: action_in(r.action)?, origin: origin_in(r.origin)?, count: r.count })
    }
}

impl From<NetflowReport> for pb::NetflowStatus {
    fn from(r: NetflowReport) -> Self {
        pb::NetflowStatus {
            listen: r.listen,
            allowed: r.allowed,
            datagrams: r.datagrams,
            records: r.records,
            flows: r.flows,
            unscored: r.unscored,
            exporters: r.exporters,
            templates: r.templates,
            unpaired: r.unpaired,
            waiting_bytes: r.waiting_bytes,
            memory: r.memory,
            dropped: each(r.dropped),
        }
    }
}
impl From<pb::NetflowStatus> for NetflowReport {
    fn from(r: pb::NetflowStatus) -> Self {
        NetflowReport {
            listen: r.listen,
            allowed: r.allowed,
            datagrams: r.datagrams,
            records: r.records,
            flows: r.flows,
            unscored: r.unscored,
            exporters: r.exporters,
            templates: r.templates,
            unpaired: r.unpaired,
            waiting_bytes: r.waiting_bytes,
            memory: r.memory,
            dropped: each(r.dropped),
        }
    }
}

impl From<StatusReport> for pb::StatusResponse {
    fn from(r: StatusReport) -> Self {
        pb::StatusResponse {
            version: r.version,
            interface: r.interface,
            ifindex: r.ifindex,
            mode_configured: mode_out(r.mode_configured),
            mode_effective: mode_out(r.mode_effective),
            mode_reason: r.mode_reason,
            xdp_mode: r.xdp_mode.map_or(pb::XdpMode::Unspecified as i32, xdp_out),
            xdp_cause: r.xdp_cause,
            uptime_us: r.uptime_us,
            bundle: r.bundle.map(Into::into),
            learning: r.learning.map(Into::into),
            flows_live: r.flows_live,
            flows_last_epoch: r.flows_last_epoch,
            epochs: r.epochs,
            drain_last_us: r.drain_last_us,
            drain_max_us: r.drain_max_us,
            lost: each(r.lost),
            counters: each(r.counters),
            decisions: each(r.decisions),
            maps: each(r.maps),
            warnings: r.warnings,
            netflow: r.netflow.map(Into::into),
            challenger: r.challenger.map(Into::into),
            record: r.record.map(Into::into),
            drifted: r.drifted,
            interfaces: each(r.interfaces),
            seen_twice_packets: r.seen_twice.packets,
            seen_twice_bytes: r.seen_twice.bytes,
        }
    }
}
impl From<InterfaceReport> for pb::InterfaceStatus {
    fn from(r: InterfaceReport) -> Self {
        pb::InterfaceStatus {
            name: r.name,
            ifindex: r.ifindex,
            protected: r.protected,
            xdp_mode: r.xdp_mode.map_or(pb::XdpMode::Unspecified as i32, xdp_out),
            cause: r.cause,
            up: r.up,
            mtu: r.mtu,
            flows: r.flows,
            reattached: r.reattached,
            packets_passed: r.packets_passed,
            packets_dropped: r.packets_dropped,
            packets_limited: r.packets_limited,
        }
    }
}
impl TryFrom<pb::InterfaceStatus> for InterfaceReport {
    type Error = Malformed;
    fn try_from(r: pb::InterfaceStatus) -> Result<Self, Malformed> {
        let attached = r.xdp_mode != pb::XdpMode::Unspecified as i32;
        Ok(InterfaceReport {
            name: r.name,
            ifindex: r.ifindex,
            protected: r.protected,
            xdp_mode: attached.then(|| xdp_in(r.xdp_mode)).transpose()?,
            cause: r.cause,
            up: r.up,
            mtu: r.mtu,
            flows: r.flows,
            reattached: r.reattached,
            packets_passed: r.packets_passed,
            packets_dropped: r.packets_dropped,
            packets_limited: r.packets_limited,
        })
    }
}
impl TryFrom<pb::StatusResponse> for StatusReport {
    type Error = Malformed;
    fn try_from(r: pb::StatusResponse) -> Result<Self, Malformed> {
        let attached = r.xdp_mode != pb::XdpMode::Unspecified as i32;
        Ok(StatusReport {
            version: r.version,
            interface: r.interface,
            ifindex: r.ifindex,
            mode_configured: mode_in(r.mode_configured)?,
            mode_effective: mode_in(r.mode_effective)?,
            mode_reason: r.mode_reason,
            xdp_mode: attached.then(|| xdp_in(r.xdp_mode)).transpose()?,
            xdp_cause: r.xdp_cause,
            uptime_us: r.uptime_us,
            bundle: r.bundle.map(Into::into),
            learning: r.learning.map(Into::into),
            flows_live: r.flows_live,
            flows_last_epoch: r.flows_last_epoch,
            epochs: r.epochs,
            drain_last_us: r.drain_last_us,
            drain_max_us: r.drain_max_us,
            lost: each(r.lost),
            counters: each(r.counters),
            decisions: try_each(r.decisions)?,
            maps: each(r.maps),
            warnings: r.warnings,
            netflow: r.netflow.map(Into::into),
            challenger: r.challenger.map(Into::into),
            record: r.record.map(Into::into),
            drifted: r.drifted,
            interfaces: try_each(r.interfaces)?,
            seen_twice: Packets { packets: r.seen_twice_packets, bytes: r.seen_twice_bytes },
        })
    }
}
