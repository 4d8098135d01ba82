//! From records to feature rows, exactly in the order of [`crate::profile`].
//!
//! A value that cannot be computed is `None`; nothing here gives NaN, infinity or a stand-in number.

use weir_common::flow::{DirStats, ip_proto, seen};

use crate::context::Context;
use crate::matrix::FeatureMatrix;
use crate::profile::ProfileId;
use crate::record::{FlowRecord, Have, Totals};
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

/// One row of profile `full`: that of `core`, and what only packets and their neighbours in time can tell.
pub fn full_row(record: &FlowRecord) -> [Option<f32>; 44] {
    let mut row = [None; 44];
    row[..16].copy_from_slice(&core_row(record));
    row[16..].copy_from_slice(&packet_features(record).map(|v| v.map(|v| v as f32)));
    row
}

fn packet_features(record: &FlowRecord) -> [Option<f64>; 28] {
    let stats = record.have.has(Have::STATS).then_some(&record.stats.dir);
    let payload = |t: Totals| record.have.has(Have::PAYLOAD).then_some(t.payload as f64);
    let of = |d: usize, f: &dyn Fn(&DirStats) -> Option<f64>| stats.and_then(|s| f(&s[d]));
    let sum = |f: &dyn Fn(&DirStats) -> u64| stats.map(|s| f(&s[0]) as f64 + f(&s[1]) as f64);
    let packets = sum(&|d| d.packets).unwrap_or(0.0);
    let bin = |i: usize| sum(&|d: &DirStats| d.size_bins[i]);
    let share = |n: Option<f64>| n.and_then(|n| ratio(n, packets)).map(|v| v.min(1.0));
    let binned = bin(0).zip(bin(1)).zip(bin(2)).map(|((a, b), c)| a + b + c);
    let sized = || stats.into_iter().flatten().filter(|d| !d.is_empty());
    let gapped = || stats.into_iter().flatten().filter(|d| d.gaps() > 0);
    let seconds = |us: u32| f64::from(us) * US;
    let context = record.context.as_ref();
    let count = |f: fn(&Context) -> u32| context.map(|c| f64::from(f(c)));
    [
        payload(record.fwd),
        payload(record.bwd),
        of(0, &|d| Some(d.data_packets as f64)),
        of(1, &|d| Some(d.data_packets as f64)),
        of(0, &|d| deviation(d.packets, d.bytes, d.size_sq)),
        of(1, &|d| deviation(d.packets, d.bytes, d.size_sq)),
        sized().map(|d| d.size_min).min().map(f64::from),
        sized().map(|d| d.size_max).max().map(f64::from),
        share(bin(0)),
        share(bin(1)),
        share(bin(2)),
        share(binned.map(|n| (packets - n).max(0.0))),
        of(0, &mean_gap),
        of(0, &|d| deviation(d.gaps(), span_us(d), d.gap_sq).map(|v| v * US)),
        of(1, &mean_gap),
        of(1, &|d| deviation(d.gaps(), span_us(d), d.gap_sq).map(|v| v * US)),
        gapped().map(|d| d.gap_min).min().map(seconds),
        gapped().map(|d| d.gap_max).max().map(seconds),
        sum(&|d| u64::from(d.syn)),
        sum(&|d| u64::from(d.fin)),
        of(0, &|d| Some(f64::from(d.rst))),
        of(1, &|d| Some(f64::from(d.rst))),
        stats.and_then(syn_ack_seconds),
        count(|c| c.flows),
        count(|c| c.ports),
        count(|c| c.hosts),
        context.and_then(|c| ratio(f64::from(c.unanswered), f64::from(c.flows))),
        count(|c| c.same_service),
    ]
}

/// Time from the first arrival of a direction to its last, µs: the sum of its gaps.
fn span_us(d: &DirStats) -> u64 {
    d.last_us.saturating_sub(d.first_us)
}

/// Seconds.
fn mean_gap(d: &DirStats) -> Option<f64> {
    ratio(span_us(d) as f64 * US, d.gaps() as f64)
}

/// Population standard deviation of `n` integers from their sum and sum of squares; `None` for none. The difference is
/// taken in integers, so that equal values give exactly 0, however many and large they are.
fn deviation(n: u64, sum: u64, squares: u64) -> Option<f64> {
    let spread = (u128::from(n) * u128::from(squares)).saturating_sub(u128::from(sum) * u128::from(sum));
    (n > 0).then(|| (spread as f64).sqrt() / n as f64)
}

/// From the client's first SYN to the server's first SYN-ACK. Not known where the SYN was not seen, or only one behind it
/// (a repeated one, the capture having begun in between).
fn syn_ack_seconds([client, server]: &[DirStats; 2]) -> Option<f64> {
    let opened = client.seen & seen::SYN_ONLY != 0 && client.seen & seen::SYN_ACK == 0;
    let answered = server.seen & seen::SYN_ACK != 0 && server.seen & seen::SYN_ONLY == 0;
    (opened && answered).then(|| server.syn_us.checked_sub(client.syn_us))?.map(|us| us as f64 * US)
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

/// Rows of profile `full`, in the order of the records, whose origin must offer it ([`ProfileId::needs`]): of another, all but
/// the values of `core` are missing.
pub fn full_matrix<'a>(records: impl IntoIterator<Item = &'a FlowRecord>) -> FeatureMatrix {
    let mut m = FeatureMatrix::new(ProfileId::Full);
    for r in records {
        m.push(&full_row(r), role_of(r)).expect("rows of `full_row` have 44 finite values");
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
mod tests;
