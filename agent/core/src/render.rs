//! The one rendering of [`Event`]: a JSON object in the style of Suricata's EVE, and a line for people. Log, API and
//! web page all show these, so that they cannot say different things.

mod json;
mod line;
mod time;
mod whole;

use serde::Serialize;

use crate::event::{Anomaly, Event};
use crate::record::FlowRecord;

pub use line::line;
pub use time::{Rfc3339, rfc3339};
pub use whole::{WHOLE_VERSION, Whole};

/// What an event does not know of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Context<'a> {
    /// Interface the flow was seen on, where there is one.
    pub in_iface: Option<&'a str>,
    /// The label that the input gave the flow, where it has labels.
    pub label: Option<&'a str>,
    /// P-values up to this are called anomalies.
    pub anomaly_p: f32,
    /// Adds the object `weir` to flows, with which they read back as they were.
    pub whole: Option<Whole>,
}

impl Default for Context<'_> {
    fn default() -> Self {
        Self { in_iface: None, label: None, anomaly_p: 0.01, whole: None }
    }
}

impl Context<'_> {
    pub fn is_anomaly(&self, a: &Anomaly) -> bool {
        a.p_value <= self.anomaly_p
    }
}

/// The score as people see it: "stranger than this share of what is normal", 0 to 1.
pub fn score(a: &Anomaly) -> f32 {
    let s = 1.0 - a.p_value;
    if s.is_nan() { 0.0 } else { s.clamp(0.0, 1.0) }
}

/// The event in a form that serialises to the JSON object.
pub fn eve<'a>(event: &'a Event, context: &Context<'a>) -> impl Serialize + use<'a> {
    json::Eve::of(event, context)
}

/// A flow in a form that serialises to the JSON object of [`Event::Flow`].
pub fn eve_flow<'a>(
    record: &'a FlowRecord,
    anomaly: Option<&'a Anomaly>,
    context: &Context<'a>,
) -> impl Serialize + use<'a> {
    json::Eve::flow(record, anomaly, context)
}

/// The JSON object, without a line break.
pub fn json(event: &Event, context: &Context<'_>) -> String {
    serde_json::to_string(&eve(event, context)).expect("keys are strings and nothing in an event fails to serialise")
}

/// `tcp`, `udp`, `icmp`, `icmpv6`, or the number.
pub fn proto_name(proto: u8) -> std::borrow::Cow<'static, str> {
    use weir_common::flow::ip_proto;
    match proto {
        ip_proto::TCP => "tcp".into(),
        ip_proto::UDP => "udp".into(),
        ip_proto::ICMP => "icmp".into(),
        ip_proto::ICMPV6 => "icmpv6".into(),
        n => n.to_string().into(),
    }
}

#[cfg(test)]
mod tests;
