//! From records to feature rows, exactly in the order of [`crate::profile`].
//!
//! A value that cannot be computed is `None`; nothing here gives NaN, infinity or a stand-in number.

use weir_common::flow::ip_proto;

use crate::matrix::FeatureMatrix;
use crate::profile::ProfileId;
use crate::record::{FlowRecord, Have};
use crate::role::{ProtoClass, Role, ServiceClass};
use crate::window::{SourceSummary, SourceWindow};

/// Shortest duration that a rate is computed over, seconds: two packets a microsecond apart are no million packets/s.
pub const MIN_RATE_SECONDS: f64 = 1e-3;

const US: f64 = 1e-6;

pub fn proto_class(proto: u8) -> ProtoClass {
    match proto {
        ip_proto::TCP => ProtoClass::Tcp,
        ip_proto::UDP => ProtoClass::Udp,
        ip_proto::ICMP | ip_proto::ICMPV6 => ProtoClass::Icmp,
        _ => ProtoClass::Other,
    }
}

/// The benign flows that this one is compared with.
pub fn role_of(record: &FlowRecord) -> Role {
    let proto = proto_class(record.proto);
    let service = match proto {
        ProtoClass::Tcp | ProtoClass::Udp => ServiceClass::of_port(record.server_port),
        ProtoClass::Icmp | ProtoClass::Other => ServiceClass::Other,
    };
    Role::Flow(proto, record.direction, service)
}

/// One row of profile `core`. What the origin of the record could not tell is missing.
pub fn core_row(record: &FlowRecord) -> [Option<f32>; 16] {
    let given = |what: Have, v: Option<f64>| v.filter(|_| record.have.has(what));
    let proto = proto_class(record.proto);
    let flag = |p: ProtoClass| given(Have::PROTO, Some(f64::from(u8::from(proto == p))));
    let (fwd, bwd) = (&record.fwd, &record.bwd);
    let (fp, bp, fb, bb) = (fwd.packets as f64, bwd.packets as f64, fwd.bytes as f64, bwd.bytes as f64);
    let seconds = record.duration_us() as f64 * US;
    let floored = seconds.max(MIN_RATE_SECONDS);
    let (packets, bytes, time) = (Have::PACKETS, Have::BYTES, Have::DURATION);
    let both = packets.with(bytes);
    [
        flag(ProtoClass::Tcp),
        flag(ProtoClass::Udp),
        flag(ProtoClass::Icmp),
        given(time, Some(seconds)),
        given(packets, Some(fp)),
        given(packets, Some(bp)),
        given(bytes, Some(fb)),
        given(bytes, Some(bb)),
        given(both, ratio(fb, fp)),
        given(both, ratio(bb, bp)),
        given(packets.with(time), Some((fp + bp) / floored)),
        given(bytes.with(time), Some((fb + bb) / floored)),
        given(packets, ratio(bp, fp)),
        given(bytes, ratio(bb, fb)),
        given(packets.with(time), ratio(seconds, fp + bp - 1.0)),
        given(Have::STATE, Some(f64::from(record.state as u8))),
    ]
    .map(|v| v.map(|v| v as f32))
}

/// One row of profile `source`.
pub fn source_row(s: &SourceSummary) -> [Option<f32>; 18] {
    let counted = s.sampled as f64;
    let share = |n: u64| ratio(n as f64, counted).map(|v| v.min(1.0));
    let some = |n: u64| (s.sampled > 0).then_some(n as f64);
    let gaps = s.flows.saturating_sub(1) as f64;
    let span_s = s.last_start_us.saturating_sub(s.first_start_us) as f64 * US;
    [
        Some(s.flows as f64),
        some(s.hosts),
        some(s.ports),
        some(s.host_ports),
        share(s.unanswered),
        share(s.rejected),
        share(s.one_packet),
        s.bytes.mean(),
        s.bytes.deviation(),
        s.packets.mean(),
        s.packets.deviation(),
        ratio(s.bytes_to_source as f64, s.bytes_from_source as f64),
        share(s.busiest),
        ratio(span_s, gaps),
        s.gaps_s.variation(),
        share(s.bare_syn),
        share(s.icmp),
        s.seconds.mean(),
    ]
    .map(|v| v.map(|v| v as f32))
}

/// `None` where the divisor is not positive.
fn ratio(a: f64, b: f64) -> Option<f64> {
    (b > 0.0).then(|| a / b)
}

/// Rows of profile `core`, in the order of the records.
pub fn core_matrix<'a>(records: impl IntoIterator<Item = &'a FlowRecord>) -> FeatureMatrix {
    let mut m = FeatureMatrix::new(ProfileId::Core);
    for r in records {
        m.push(&core_row(r), role_of(r)).expect("rows of `core_row` have 16 finite values");
    }
    m
}

/// Rows of profile `source`, in the order of the windows.
pub fn source_matrix<'a>(windows: impl IntoIterator<Item = &'a SourceWindow>) -> FeatureMatrix {
    let mut m = FeatureMatrix::new(ProfileId::Source);
    for w in windows {
        m.push(&source_row(&w.summary), w.role).expect("rows of `source_row` have 18 finite values");
    }
    m
}

/// Count, sum and sum of squares: enough for a mean and a population deviation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    n: f64,
    mean: f64,
    /// Sum of squared differences from the mean (Welford, so that large equal values give exactly 0).
    m2: f64,
}

impl Moments {
    pub fn add(&mut self, v: f64) {
        self.n += 1.0;
        let d = v - self.mean;
        self.mean += d / self.n;
        self.m2 += d * (v - self.mean);
    }
    /// `None` without values.
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0.0).then_some(self.mean)
    }
    /// Population standard deviation: 0 for one value, `None` without values.
    pub fn deviation(&self) -> Option<f64> {
        (self.n > 0.0).then(|| (self.m2.max(0.0) / self.n).sqrt())
    }
    /// Coefficient of variation; `None` for fewer than two values, or where their mean is 0.
    pub fn variation(&self) -> Option<f64> {
        if self.n < 2.0 || self.mean <= 0.0 {
            return None;
        }
        self.deviation().map(|d| d / self.mean)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_common::flow::FlowStats;

    use super::*;
    use crate::record::{EndReason, FlowState, Totals};
    use crate::role::Direction;

    fn record(proto: u8, start: u64, end: u64, fwd: (u64, u64), bwd: (u64, u64)) -> FlowRecord {
        FlowRecord {
            flow_id: 1,
            client: "192.0.2.1".parse().unwrap(),
            server: "10.0.0.1".parse().unwrap(),
            client_port: 40000,
            server_port: 443,
            proto,
            vlan_outer: 0,
            vlan_inner: 0,
            start_us: start,
            end_us: end,
            fwd: Totals { packets: fwd.0, bytes: fwd.1, payload: 0 },
            bwd: Totals { packets: bwd.0, bytes: bwd.1, payload: 0 },
            stats: FlowStats::EMPTY,
            state: FlowState::Unanswered,
            end_reason: EndReason::Idle,
            have: Have::ALL,
            direction: Direction::In,
            proven: false,
            first_record: true,
            context: None,
        }
    }

    fn named(row: &[Option<f32>], profile: ProfileId, name: &str) -> Option<f32> {
        row[profile.features().iter().position(|f| f.name == name).expect("a feature of the profile")]
    }

    #[test]
    fn an_unanswered_packet_has_no_answer_features() {
        let row = core_row(&record(6, 5, 5, (1, 60), (0, 0)));
        let f = |n| named(&row, ProfileId::Core, n);
        assert_eq!(f("proto_tcp"), Some(1.0));
        assert_eq!(f("bwd_mean_size"), None);
        assert_eq!(f("iat_mean"), None);
        assert_eq!(f("packet_ratio"), Some(0.0));
        assert_eq!(f("packets_per_s"), Some(1000.0), "a duration below 1 ms counts as 1 ms");
        assert_eq!(f("end_state"), Some(0.0));
    }

    #[test]
    fn a_conversation_has_every_feature() {
        let row = core_row(&record(17, 1_000_000, 3_000_000, (2, 200), (3, 3000)));
        let f = |n| named(&row, ProfileId::Core, n).unwrap();
        assert_eq!(f("duration"), 2.0);
        assert_eq!(f("fwd_mean_size"), 100.0);
        assert_eq!(f("bwd_mean_size"), 1000.0);
        assert_eq!(f("packets_per_s"), 2.5);
        assert_eq!(f("bytes_per_s"), 1600.0);
        assert_eq!(f("packet_ratio"), 1.5);
        assert_eq!(f("byte_ratio"), 15.0);
        assert_eq!(f("iat_mean"), 0.5);
    }

    #[test]
    fn roles_follow_protocol_direction_and_server_port() {
        assert_eq!(role_of(&record(6, 0, 0, (1, 1), (0, 0))).to_string(), "tcp/in/web");
        assert_eq!(role_of(&record(58, 0, 0, (1, 1), (0, 0))).to_string(), "icmp/in/other");
        assert_eq!(role_of(&record(47, 0, 0, (1, 1), (0, 0))).to_string(), "other/in/other");
    }

    proptest! {
        #[test]
        fn any_record_gives_a_row_of_finite_values(
            proto: u8, start: u64, len: u64, fp: u64, fb: u64, bp: u64, bb: u64,
        ) {
            let r = record(proto, start, start.saturating_add(len), (fp, fb), (bp, bb));
            prop_assert!(core_row(&r).iter().flatten().all(|v| v.is_finite() && *v >= 0.0));
            prop_assert_eq!(core_matrix([&r]).len(), 1);
        }
    }
}
