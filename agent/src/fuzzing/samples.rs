//! Requests that mean something, for every call: what mutation begins with.

use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

use crate::api::rights::RIGHTS;
use crate::web::descriptor;
use crate::web::routes::{ROUTES, Takes};

/// How deep messages are filled; some hold themselves.
const DEPTH: usize = 4;

/// See [`super::Site::grpc`]: every call with an empty request and with two full ones.
pub fn grpc() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (n, (call, _)) in (0u8..).zip(RIGHTS) {
        let Some(method) = descriptor::method(call) else { continue };
        all.push(vec![n, 0]);
        for variant in 0..2 {
            let request = filled(&method.input(), variant, DEPTH).encode_to_vec();
            all.push([&[n, 0][..], &request].concat());
            if method.is_client_streaming() {
                // Each part of its oneof in a message of its own.
                let of = method.input();
                let parts = of.fields().map(|f| {
                    let mut message = DynamicMessage::new(of.clone());
                    message.set_field(&f, value(&f, variant, DEPTH));
                    message.encode_to_vec()
                });
                let framed = parts.flat_map(|p| [&(p.len() as u16).to_be_bytes()[..], &p].concat());
                all.push([n, 1].into_iter().chain(framed).collect());
            }
        }
    }
    all
}

/// See [`super::Site::rest`]: every route, bare and with everything that it takes.
pub fn rest() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for route in ROUTES {
        let Some(method) = descriptor::method(route.rpc) else { continue };
        let path: Vec<&str> = route.path.split('/').map(|p| if p.starts_with('{') { "1" } else { p }).collect();
        let line = format!("{} {}", route.method.name(), path.join("/"));
        all.push(line.clone().into_bytes());
        let full = filled(&method.input(), 1, DEPTH);
        let Ok(json) = serde_json::to_value(&full) else { continue };
        all.push(match route.takes {
            Takes::Body => format!("{line}\n{json}").into_bytes(),
            Takes::Nothing => continue,
            Takes::Query => {
                let plain = |v: &serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                let fields = json.as_object().into_iter().flatten();
                let pairs: Vec<String> = fields.map(|(name, v)| format!("{name}={}", plain(v))).collect();
                format!("{line}?{}", pairs.join("&")).into_bytes()
            }
        });
    }
    all
}

fn filled(of: &MessageDescriptor, variant: usize, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    if depth > 0 {
        for field in of.fields() {
            message.set_field(&field, value(&field, variant, depth));
        }
    }
    message
}

fn value(field: &FieldDescriptor, variant: usize, depth: usize) -> Value {
    let one = single(field, &field.kind(), variant, depth);
    if field.is_map() {
        return Value::Map([(MapKey::String("name".into()), Value::String("value".into()))].into());
    }
    if field.is_list() { Value::List(vec![one]) } else { one }
}

fn single(field: &FieldDescriptor, kind: &Kind, variant: usize, depth: usize) -> Value {
    const SECOND: u64 = 1_000_000;
    let number = [1, 3_600 * SECOND][variant];
    match kind {
        Kind::Double => Value::F64(0.01),
        Kind::Float => Value::F32(0.01),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(1),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number as i64),
        Kind::Uint32 | Kind::Fixed32 => Value::U32([1, 100][variant]),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(number),
        Kind::Bool => Value::Bool(variant == 1),
        Kind::Bytes => Value::Bytes(b"bytes".as_slice().into()),
        Kind::String => Value::String(text(field.name(), variant).into()),
        Kind::Enum(_) => Value::EnumNumber([1, 2][variant]),
        Kind::Message(of) => Value::Message(filled(of, variant, depth - 1)),
    }
}

fn text(field: &str, variant: usize) -> &'static str {
    match field {
        "target" => ["203.0.113.9", "203.0.113.9:443/tcp"][variant],
        "prefix" | "source" | "within" => ["192.0.2.0/24", "2001:db8::/48"][variant],
        _ => ["name", "1"][variant],
    }
}
