//! The part of OTLP (`opentelemetry/proto/collector/trace/v1`, version 1) that is sent.

use std::collections::HashMap;

use super::{Span, Value};

/// What is called.
pub const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

#[derive(Clone, PartialEq, prost::Message)]
pub struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub error_message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<WireSpan>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Scope {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct WireSpan {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    /// 1: internal, 2: server.
    #[prost(int32, tag = "6")]
    pub kind: i32,
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    pub status: Option<WireStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct WireStatus {
    /// 2: error.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AnyValue {
    #[prost(oneof = "OneValue", tags = "1, 3")]
    pub value: Option<OneValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum OneValue {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Int(i64),
}

fn attribute(key: &str, value: OneValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

impl From<Span> for WireSpan {
    fn from(s: Span) -> Self {
        let attributes = s.attributes.into_iter().map(|(key, value)| match value {
            Value::Int(n) => attribute(key, OneValue::Int(i64::try_from(n).unwrap_or(i64::MAX))),
            Value::Word(w) => attribute(key, OneValue::Text(w.to_owned())),
        });
        Self {
            trace_id: s.trace.to_be_bytes().to_vec(),
            span_id: s.id.to_be_bytes().to_vec(),
            parent_span_id: if s.parent == 0 { Vec::new() } else { s.parent.to_be_bytes().to_vec() },
            name: s.name,
            kind: if s.served { 2 } else { 1 },
            start_time_unix_nano: s.start_ns,
            end_time_unix_nano: s.end_ns,
            attributes: attributes.collect(),
            status: s.failed.then_some(WireStatus { code: 2 }),
        }
    }
}

/// A request with these spans, of this program on this host.
pub fn request(spans: Vec<Span>) -> ExportRequest {
    let version = env!("CARGO_PKG_VERSION");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let about: HashMap<&str, String> =
        HashMap::from([("service.name", "weir".into()), ("service.version", version.into()), ("host.name", host)]);
    let attributes = about.into_iter().map(|(k, v)| attribute(k, OneValue::Text(v))).collect();
    let scope = Some(Scope { name: "weir".to_owned(), version: version.to_owned() });
    let spans = spans.into_iter().map(Into::into).collect();
    let scope_spans = vec![ScopeSpans { scope, spans }];
    ExportRequest { resource_spans: vec![ResourceSpans { resource: Some(Resource { attributes }), scope_spans }] }
}
