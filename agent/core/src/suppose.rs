//! What a row would have been had one thing about it been otherwise.
//!
//! Features hang together: a flow of fewer packets has fewer bytes and another rate, a source that tried fewer ports began
//! fewer flows. A row in which one number alone is changed would be stranger than before, whatever the number.

use crate::profile::{Feature, ProfileId};

/// The column of a name, found when this is compiled.
const fn column(profile: ProfileId, name: &str) -> usize {
    const fn same(a: &[u8], b: &[u8]) -> bool {
        let mut i = 0;
        while i < a.len() && i < b.len() && a[i] == b[i] {
            i += 1;
        }
        i == a.len() && i == b.len()
    }
    let features: &[Feature] = profile.features();
    let mut i = 0;
    while !same(features[i].name.as_bytes(), name.as_bytes()) {
        i += 1;
    }
    i
}

macro_rules! columns {
    ($profile:ident: $($name:ident = $text:literal),+ $(,)?) => {
        $(const $name: usize = column(ProfileId::$profile, $text);)+
    };
}

mod flow {
    use super::{ProfileId, column};
    use crate::feature::MIN_RATE_SECONDS;

    columns!(Full:
        DURATION = "duration", FWD_PACKETS = "fwd_packets", BWD_PACKETS = "bwd_packets", FWD_BYTES = "fwd_bytes",
        BWD_BYTES = "bwd_bytes", FWD_SIZE = "fwd_mean_size", BWD_SIZE = "bwd_mean_size", PACKETS_PER_S = "packets_per_s",
        BYTES_PER_S = "bytes_per_s", PACKET_RATIO = "packet_ratio", BYTE_RATIO = "byte_ratio", IAT_MEAN = "iat_mean",
        CTX_FLOWS = "ctx_flows", CTX_PORTS = "ctx_ports", CTX_HOSTS = "ctx_hosts", CTX_SAME = "ctx_same_service",
    );

    /// `row` is of `core`, or of `full`, which begins like it. `false` where the rest of the row cannot be told.
    pub(super) fn suppose(row: &mut [f32], present: u64, feature: usize, value: f32) -> bool {
        let has = |j: usize| present >> j & 1 == 1;
        if (CTX_FLOWS..=CTX_SAME).contains(&feature) {
            context(row, feature, value);
            return true;
        }
        let of = |row: &[f32], j: usize| f64::from(row[j]);
        let v = f64::from(value);
        let (mut seconds, mut fp, mut bp) = (of(row, DURATION), of(row, FWD_PACKETS), of(row, BWD_PACKETS));
        let (mut fb, mut bb) = (of(row, FWD_BYTES), of(row, BWD_BYTES));
        let bytes_per_packet = |bytes: f64, packets: f64| if packets > 0.0 { bytes / packets } else { 0.0 };
        let (fs, bs) = (bytes_per_packet(fb, fp), bytes_per_packet(bb, bp));
        match feature {
            DURATION => seconds = v,
            FWD_PACKETS => (fp, fb) = (v, v * fs),
            FWD_BYTES => fb = v,
            FWD_SIZE => fb = v * fp,
            // Of an answer that never came nobody knows how large it would have been.
            BWD_PACKETS | BWD_BYTES | BWD_SIZE | PACKET_RATIO | BYTE_RATIO if bp <= 0.0 => return false,
            BWD_PACKETS => (bp, bb) = (v, v * bs),
            BWD_BYTES => bb = v,
            BWD_SIZE => bb = v * bp,
            PACKET_RATIO => (bp, bb) = (v * fp, v * fp * bs),
            BYTE_RATIO => bb = v * fb,
            PACKETS_PER_S | BYTES_PER_S if v <= 0.0 => return false,
            PACKETS_PER_S => seconds = (fp + bp) / v,
            BYTES_PER_S => seconds = (fb + bb) / v,
            IAT_MEAN => seconds = v * (fp + bp - 1.0),
            _ => {
                row[feature] = value;
                return true;
            }
        }
        if fp <= 0.0 || bp < 0.0 {
            return false;
        }
        let floored = seconds.max(MIN_RATE_SECONDS);
        let derived = [
            (DURATION, seconds),
            (FWD_PACKETS, fp),
            (BWD_PACKETS, bp),
            (FWD_BYTES, fb),
            (BWD_BYTES, bb),
            (FWD_SIZE, fb / fp),
            (BWD_SIZE, bytes_per_packet(bb, bp)),
            (PACKETS_PER_S, (fp + bp) / floored),
            (BYTES_PER_S, (fb + bb) / floored),
            (PACKET_RATIO, bp / fp),
            (BYTE_RATIO, if fb > 0.0 { bb / fb } else { 0.0 }),
            (IAT_MEAN, if fp + bp > 1.0 { seconds / (fp + bp - 1.0) } else { 0.0 }),
        ];
        for (j, v) in derived {
            if has(j) {
                row[j] = v as f32;
            }
        }
        true
    }

    /// What the source began in the last seconds: fewer ports or hosts are fewer flows.
    fn context(row: &mut [f32], feature: usize, value: f32) {
        let before = row[feature].max(1.0);
        row[feature] = value;
        if feature != CTX_FLOWS && feature != CTX_SAME && value < before {
            row[CTX_FLOWS] *= value / before;
        }
        let flows = row[CTX_FLOWS].max(row[CTX_PORTS].min(before)).max(1.0);
        if feature == CTX_FLOWS {
            for j in [CTX_PORTS, CTX_HOSTS, CTX_SAME] {
                row[j] = row[j].min(value.max(1.0));
            }
        } else {
            row[CTX_FLOWS] = flows.max(value);
            row[CTX_HOSTS] = row[CTX_HOSTS].min(row[CTX_FLOWS]);
            row[CTX_SAME] = row[CTX_SAME].min(row[CTX_FLOWS]);
        }
    }
}

mod source {
    use super::{ProfileId, column};
    columns!(Source:
        FLOWS = "flows", HOSTS = "hosts", PORTS = "ports", HOST_PORTS = "host_ports", BUSIEST = "busiest_share",
        GAP_MEAN = "gap_mean",
    );

    pub(super) fn suppose(row: &mut [f32], present: u64, feature: usize, value: f32) {
        let before = row[feature].max(1.0);
        row[feature] = value;
        if !(FLOWS..=HOST_PORTS).contains(&feature) {
            return;
        }
        let value = value.max(1.0);
        let (flows, busiest) = (row[FLOWS], row[BUSIEST] * if feature == FLOWS { before } else { row[FLOWS] });
        let flows_before = if feature == FLOWS { before } else { flows.max(1.0) };
        if feature == FLOWS {
            for j in [HOSTS, PORTS, HOST_PORTS] {
                row[j] = row[j].min(value);
            }
        } else {
            // Flows to what was left out were not begun; to what was added, one each at least.
            let share = (value / before).min(1.0);
            if feature != HOST_PORTS {
                row[HOST_PORTS] = (row[HOST_PORTS] * share).max(value);
            }
            row[FLOWS] = (row[FLOWS] * share).max(row[HOST_PORTS]);
            for j in [HOSTS, PORTS].into_iter().filter(|j| *j != feature) {
                row[j] = row[j].min(row[HOST_PORTS]);
            }
        }
        let now = row[FLOWS].max(1.0);
        row[BUSIEST] = (busiest / now).clamp(1.0 / now, 1.0);
        if present >> GAP_MEAN & 1 == 1 && now > 1.0 && flows_before > 1.0 {
            row[GAP_MEAN] *= (flows_before - 1.0) / (now - 1.0);
        }
    }
}

/// Changes `row`, raw and as wide as the profile, to what it would have been with `value` in the place of one feature. Bit `j` of
/// `present` is set where feature `j` is present; what is missing stays so. `false`, and a row of no meaning, where that cannot be
/// told: the size of an answer that never came.
pub fn suppose(profile: ProfileId, row: &mut [f32], present: u64, feature: usize, value: f32) -> bool {
    match profile {
        ProfileId::Core | ProfileId::Full => flow::suppose(row, present, feature, value),
        ProfileId::Source => {
            source::suppose(row, present, feature, value);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(profile: ProfileId, name: &str) -> usize {
        column(profile, name)
    }

    #[test]
    fn a_flow_of_other_length_or_time_has_the_rates_and_sizes_of_it() {
        let of = |name: &str| at(ProfileId::Core, name);
        // TCP, 2 s, 10 and 20 packets, 1,000 and 20,000 bytes.
        let flow =
            [1.0, 0.0, 0.0, 2.0, 10.0, 20.0, 1e3, 2e4, 100.0, 1e3, 15.0, 10_500.0, 2.0, 20.0, 2.0 / 29.0, 2.0f32];
        let with = |name: &str, value: f32| {
            let mut row = flow;
            assert!(suppose(ProfileId::Core, &mut row, u64::MAX, of(name), value));
            row
        };
        let near = |a: f32, b: f32| assert!((a - b).abs() <= 1e-5 * b.abs(), "{a}, expected {b}");
        let row = with("fwd_packets", 5.0);
        near(row[of("fwd_bytes")], 500.0);
        near(row[of("fwd_mean_size")], 100.0);
        near(row[of("packets_per_s")], 12.5);
        near(row[of("byte_ratio")], 40.0);
        let row = with("bytes_per_s", 21_000.0);
        near(row[of("duration")], 1.0);
        near(row[of("packets_per_s")], 30.0);
        near(row[of("iat_mean")], 1.0 / 29.0);
        let row = with("byte_ratio", 2.0);
        near(row[of("bwd_bytes")], 2e3);
        near(row[of("bwd_mean_size")], 100.0);
        assert_eq!(with("end_state", 1.0)[15], 1.0);
        let mut alone = flow;
        (alone[of("bwd_packets")], alone[of("bwd_bytes")]) = (0.0, 0.0);
        assert!(!suppose(ProfileId::Core, &mut alone, u64::MAX, of("bwd_packets"), 3.0), "no answer has no size");
    }

    #[test]
    fn fewer_ports_are_fewer_flows() {
        let of = |name: &str| at(ProfileId::Source, name);
        let mut row =
            [200.0, 1.0, 200.0, 200.0, 1.0, 0.0, 1.0, 44.0, 0.0, 1.0, 0.0, 0.0, 0.005, 0.05, 0.1, 1.0, 0.0, 0.0];
        assert!(suppose(ProfileId::Source, &mut row, u64::MAX, of("ports"), 10.0));
        assert_eq!(
            [row[of("flows")], row[of("ports")], row[of("host_ports")], row[of("hosts")]],
            [10.0, 10.0, 10.0, 1.0]
        );
        assert!((row[of("busiest_share")] - 0.1).abs() < 1e-6, "one flow each, as before");
        assert!((row[of("gap_mean")] - 0.05 * 199.0 / 9.0).abs() < 1e-4, "over the same time");
        let of = |name: &str| at(ProfileId::Full, name);
        let mut row = [1.0f32; 44];
        (row[of("ctx_flows")], row[of("ctx_ports")]) = (300.0, 300.0);
        assert!(suppose(ProfileId::Full, &mut row, u64::MAX, of("ctx_ports"), 3.0));
        assert_eq!((row[of("ctx_flows")], row[of("ctx_ports")]), (3.0, 3.0));
    }
}
