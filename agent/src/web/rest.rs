//! A request of REST becomes a call of gRPC: JSON into the call's message, through the same gate, and the answer back.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{self, HeaderMap};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value as Field,
};
use serde_json::{Map, Value};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};

use super::routes::{self, Found, Route, Takes};
use super::{Page, descriptor, guard};
use crate::api::access::Peer;
use crate::api::rights::SERVICE;

/// Bytes of a request's body.
pub const MAX_BODY: usize = 64 << 10;
/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(15);
/// Bytes of an answer.
const MAX_ANSWER: usize = 256 << 20;
/// Of a stream of parts, so many members are answered with.
pub const MAX_MEMBERS: usize = 10_000;
const PREFIX: &str = "/api/v1/";

/// Everything below `/api/` that is nothing else.
pub(super) async fn call(State(page): State<Arc<Page>>, request: Request) -> Response {
    let peer = match guard::who(&page, &request) {
        Ok((_, peer)) => peer,
        Err(refused) => return *refused,
    };
    match answer(&page, peer, request).await {
        Ok(response) => response,
        Err(status) => refuse(status.code(), status.message()),
    }
}

async fn answer(page: &Page, peer: Peer, request: Request) -> Result<Response, Status> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let found = path.strip_prefix(PREFIX).map_or(Found::Nothing, |p| routes::find(&parts.method, p));
    let (route, fields) = match found {
        Found::Route(route, fields) => (route, fields),
        Found::Verbs(verbs) => {
            let words = format!("{} is not for {}; it is for {}", parts.method, clip(path), verbs.join(", "));
            let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, &words);
            if let Ok(allow) = verbs.join(", ").parse() {
                response.headers_mut().insert(header::ALLOW, allow);
            }
            return Ok(response);
        }
        Found::Nothing => {
            let words = format!("there is no {}; /api/v1/openapi.json tells what there is", clip(path));
            return Err(Status::not_found(words));
        }
    };
    let method = descriptor::method(route.rpc).ok_or_else(|| Status::internal(format!("no call {}", route.rpc)))?;
    let given = match route.takes {
        Takes::Body => match object(&parts.method, &parts.headers, body).await? {
            Some(object) => object,
            None => return Ok(too_large()),
        },
        Takes::Query => query(route, &method.input(), parts.uri.query().unwrap_or_default())?,
        Takes::Nothing => Map::new(),
    };
    let message = message(&method.input(), given, fields)?;
    let json = ask(page, peer, &method, message).await?;
    Ok(self::json(StatusCode::OK, Body::from(json)))
}

fn too_large() -> Response {
    let words = format!("the body is larger than {MAX_BODY} bytes");
    refused(StatusCode::PAYLOAD_TOO_LARGE, Code::InvalidArgument, &words)
}

fn clip(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The body as an object, an empty one where there is none; `None`: it is too large.
async fn object(method: &Method, headers: &HeaderMap, body: Body) -> Result<Option<Map<String, Value>>, Status> {
    let whole = match tokio::time::timeout(BODY_TIME, read(body)).await {
        Ok(Ok(Some(whole))) => whole,
        Ok(Ok(None)) => return Ok(None),
        Ok(Err(e)) => return Err(Status::invalid_argument(format!("the body did not come: {e}"))),
        Err(_) => return Err(Status::deadline_exceeded(format!("the body did not come within {BODY_TIME:?}"))),
    };
    if whole.is_empty() {
        return Ok(Some(Map::new()));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|t| t.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err(Status::invalid_argument(format!("{method} takes application/json, not `{}`", clip(kind))));
    }
    let object = serde_json::from_slice(&whole);
    object.map(Some).map_err(|e| Status::invalid_argument(format!("the body is no JSON object: {e}")))
}

/// All of a body; `None`: it is too large.
async fn read(mut body: Body) -> Result<Option<Vec<u8>>, axum::Error> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if whole.len() + data.len() > MAX_BODY {
            throw_away(body).await;
            return Ok(None);
        }
        whole.extend_from_slice(&data);
    }
    Ok(Some(whole))
}

/// Takes some of what is too much in: a client that is still sending when the connection closes never sees the answer.
async fn throw_away(mut body: Body) {
    const BYTES: usize = 1 << 20;
    const TIME: Duration = Duration::from_secs(1);
    let some = async {
        let mut left = BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.into_data().map_or(0, |d| d.len()));
            if left == 0 {
                return;
            }
        }
    };
    // Whatever came in that time is enough.
    let _ = tokio::time::timeout(TIME, some).await;
}

fn query(route: &Route, input: &MessageDescriptor, text: &str) -> Result<Map<String, Value>, Status> {
    let mut given = Map::new();
    for pair in text.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |t: &str| {
            let words = || Status::invalid_argument(format!("`{}` is not %-encoded text", clip(t)));
            routes::decoded(&t.replace('+', " ")).ok_or_else(words)
        };
        let (name, value) = (plain(name)?, plain(value)?);
        let aliased = route.alias.iter().find(|(a, _)| *a == name).map_or(name.as_str(), |(_, f)| f);
        let in_path = route.path.split('/').any(|p| p == format!("{{{aliased}}}"));
        let field = input.get_field_by_name(aliased).filter(|f| !in_path && !matches!(f.kind(), Kind::Message(_)));
        let field = field.ok_or_else(|| {
            let names: Vec<String> = query_fields(route, input).map(|(n, _)| n).collect();
            let known = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            Status::invalid_argument(format!("there is no `{}` to ask for here; there is {known}", clip(&name)))
        })?;
        // A field of a form that was left empty.
        if value.is_empty() {
            continue;
        }
        let value = if field.is_list() {
            let mut all = given.get(aliased).and_then(Value::as_array).cloned().unwrap_or_default();
            for one in value.split(',') {
                all.push(scalar(&field, one)?);
            }
            Value::Array(all)
        } else {
            scalar(&field, &value)?
        };
        given.insert(aliased.to_owned(), value);
    }
    Ok(given)
}

/// What a route takes of the query, by the name that it has there.
pub(super) fn query_fields<'a>(
    route: &'a Route,
    input: &'a MessageDescriptor,
) -> impl Iterator<Item = (String, FieldDescriptor)> + 'a {
    let fields = input.fields().filter(move |_| route.takes == Takes::Query);
    fields
        .filter(move |f| !matches!(f.kind(), Kind::Message(_)) && !route.path.contains(&format!("{{{}}}", f.name())))
        .map(move |f| {
            let name = route.alias.iter().find(|(_, field)| *field == f.name()).map_or(f.name(), |(a, _)| a);
            (name.to_owned(), f)
        })
}

/// Text of a path or query as the JSON that stands for the field's kind.
fn scalar(field: &FieldDescriptor, text: &str) -> Result<Value, Status> {
    let wrong =
        |what: &str| Status::invalid_argument(format!("`{}` is `{}`, and not {what}", field.name(), clip(text)));
    match field.kind() {
        Kind::Bool => text.parse::<bool>().map(Value::from).map_err(|_| wrong("true or false")),
        Kind::Float | Kind::Double => {
            let number = text.parse::<f64>().ok().filter(|n| n.is_finite());
            number.map(Value::from).ok_or_else(|| wrong("a number"))
        }
        Kind::String | Kind::Bytes | Kind::Enum(_) => Ok(text.into()),
        Kind::Message(_) => Err(wrong("something that fits here")),
        // The message says what is out of range.
        _ => text.parse::<i128>().map(|_| text.into()).map_err(|_| wrong("a whole number")),
    }
}

fn message(
    input: &MessageDescriptor,
    mut given: Map<String, Value>,
    fields: Vec<(&'static str, String)>,
) -> Result<DynamicMessage, Status> {
    for (name, text) in fields {
        let field = input.get_field_by_name(name).ok_or_else(|| Status::internal(format!("no field {name}")))?;
        if given.insert(name.to_owned(), scalar(&field, &text)?).is_some() {
            return Err(Status::invalid_argument(format!("`{name}` stands in the path already")));
        }
    }
    DynamicMessage::deserialize(input.clone(), Value::Object(given))
        .map_err(|e| Status::invalid_argument(e.to_string()))
}

/// Makes the call as the peer; the answer as JSON.
async fn ask(page: &Page, peer: Peer, method: &MethodDescriptor, message: DynamicMessage) -> Result<Vec<u8>, Status> {
    let mut grpc = tonic::client::Grpc::new(page.inner.clone()).max_decoding_message_size(MAX_ANSWER);
    grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let mut request = tonic::Request::new(message);
    request.extensions_mut().insert(peer);
    let path =
        PathAndQuery::try_from(format!("/{SERVICE}/{}", method.name())).map_err(|e| Status::internal(e.to_string()))?;
    let codec = Dynamic(method.output());
    if !method.is_server_streaming() {
        let answer = grpc.unary(request, path, codec).await?.into_inner();
        return to_json(&answer);
    }
    let mut stream = grpc.server_streaming(request, path, codec).await?.into_inner();
    let mut members: Vec<Field> = Vec::new();
    let mut more = false;
    while let Some(part) = stream.message().await? {
        if let Some(Field::List(some)) = part.get_field_by_name(MEMBERS).map(std::borrow::Cow::into_owned) {
            members.extend(some);
        }
        if members.len() > MAX_MEMBERS {
            more = true;
            members.truncate(MAX_MEMBERS);
            break;
        }
    }
    let mut whole = DynamicMessage::new(method.output());
    let set = whole.try_set_field_by_name(MEMBERS, Field::List(members));
    set.map_err(|e| Status::internal(format!("{}: {e}", method.name())))?;
    let mut json = to_json(&whole)?;
    // The object goes on with what no message says.
    json.pop();
    json.extend_from_slice(format!(",\"more\":{more}}}").as_bytes());
    Ok(json)
}

/// The field of each part of an answer that comes in parts.
const MEMBERS: &str = "members";

/// Messages whose kind is known at run time alone.
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Encode;
    type Decoder = Decode;
    fn encoder(&mut self) -> Encode {
        Encode
    }
    fn decoder(&mut self) -> Decode {
        Decode(self.0.clone())
    }
}

struct Encode;

impl Encoder for Encode {
    type Item = DynamicMessage;
    type Error = Status;
    fn encode(&mut self, item: DynamicMessage, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::Message::encode(&item, into).map_err(|e| Status::internal(e.to_string()))
    }
}

struct Decode(MessageDescriptor);

impl Decoder for Decode {
    type Item = DynamicMessage;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), from);
        message.map(Some).map_err(|e| Status::internal(e.to_string()))
    }
}

/// Protobuf's JSON with the names of `weir.proto`, nothing left out but what is absent, and 64-bit integers as numbers; flow ids, which use
/// all 64 bits, as text.
pub(super) fn to_json(message: &DynamicMessage) -> Result<Vec<u8>, Status> {
    let options = prost_reflect::SerializeOptions::new()
        .stringify_64_bit_integers(false)
        .use_proto_field_name(true)
        .skip_default_fields(false);
    let mut out = Vec::new();
    let mut to = serde_json::Serializer::with_formatter(&mut out, Ids::default());
    message.serialize_with_options(&mut to, &options).map_err(|e| Status::internal(e.to_string()))?;
    Ok(out)
}

/// A message of `weir.proto` as JSON.
pub(super) fn typed_json(pool: &DescriptorPool, name: &str, message: &impl prost::Message) -> Result<Vec<u8>, Status> {
    let descriptor = pool.get_message_by_name(name).ok_or_else(|| Status::internal(format!("no message {name}")))?;
    let bytes = message.encode_to_vec();
    let message = DynamicMessage::decode(descriptor, bytes.as_slice()).map_err(|e| Status::internal(e.to_string()))?;
    to_json(&message)
}

/// Writes 64-bit identifiers in quotes: as numbers, JavaScript would round them.
#[derive(Default)]
struct Ids {
    in_key: bool,
    is_id: bool,
}

pub(super) const ID: &str = "flow_id";

impl serde_json::ser::Formatter for Ids {
    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, to: &mut W, first: bool) -> std::io::Result<()> {
        (self.in_key, self.is_id) = (true, false);
        if first { Ok(()) } else { to.write_all(b",") }
    }
    fn end_object_key<W: ?Sized + std::io::Write>(&mut self, _: &mut W) -> std::io::Result<()> {
        self.in_key = false;
        Ok(())
    }
    fn write_string_fragment<W: ?Sized + std::io::Write>(&mut self, to: &mut W, text: &str) -> std::io::Result<()> {
        if self.in_key {
            self.is_id = text == ID;
        }
        to.write_all(text.as_bytes())
    }
    fn write_u64<W: ?Sized + std::io::Write>(&mut self, to: &mut W, value: u64) -> std::io::Result<()> {
        if self.is_id { write!(to, "\"{value}\"") } else { write!(to, "{value}") }
    }
}

pub(super) fn json(status: StatusCode, body: Body) -> Response {
    guard::answer(status, &[(header::CONTENT_TYPE, "application/json")], body)
}

/// By the code of gRPC.
pub(super) fn refuse(code: Code, words: &str) -> Response {
    refused(status_of(code), code, words)
}

pub(super) fn refused(status: StatusCode, code: Code, words: &str) -> Response {
    let body = serde_json::json!({ "error": { "code": code_name(code), "message": words } });
    json(status, Body::from(body.to_string()))
}

fn status_of(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        // It makes sense, but not as things stand.
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled | Code::DataLoss | Code::Unknown | Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto as pb;

    fn of(name: &str, message: &impl prost::Message) -> Value {
        serde_json::from_slice(&typed_json(descriptor::pool(), name, message).unwrap()).unwrap()
    }

    #[test]
    fn json_has_the_names_of_the_interface_nothing_left_out_and_ids_that_no_browser_rounds() {
        let flow = pb::FlowEvent { flow_id: u64::MAX, start_us: 1_700_000_000_000_000, ..Default::default() };
        let event = pb::Event {
            kind: pb::EventKind::Flow.into(),
            body: Some(pb::event::Body::Flow(flow)),
            ..Default::default()
        };
        let json = of("weir.v1.Event", &event);
        assert_eq!(json["kind"], "EVENT_KIND_FLOW");
        assert_eq!((&json["time_us"], &json["json"]), (&0.into(), &"".into()), "defaults are there");
        assert_eq!(
            (&json["flow"]["flow_id"], &json["flow"]["start_us"]),
            (&"18446744073709551615".into(), &1_700_000_000_000_000u64.into())
        );
        assert!(
            json["flow"].get("anomaly").is_none() && json.get("alert").is_none(),
            "what is absent is absent: {json}"
        );
        let point = pb::ScorePoint { p_value: 0.001, ..Default::default() };
        assert_eq!(of("weir.v1.ScorePoint", &point)["p_value"].to_string(), "0.001", "as short as it is");
    }

    #[test]
    fn what_a_query_says_becomes_fields_and_what_is_none_is_refused() {
        let input = descriptor::method("SearchFlows").unwrap().input();
        let route = routes::ROUTES.iter().find(|r| r.rpc == "SearchFlows").unwrap();
        let ask = |q: &str| query(route, &input, q).and_then(|g| message(&input, g, Vec::new()));
        let m = ask("address=10.0.0.0%2F8&port=22&min_score=0.9&limit=&proto=6").unwrap();
        let read: pb::SearchFlowsRequest = m.transcode_to().unwrap();
        assert_eq!((read.address.as_str(), read.port, read.proto, read.limit), ("10.0.0.0/8", Some(22), Some(6), 0));
        for bad in ["colour=red", "port=x", "port=-1", "port=99999999999", "address=%zz", "min_score=inf"] {
            assert_eq!(ask(bad).unwrap_err().code(), Code::InvalidArgument, "{bad}");
        }
        let allow = routes::ROUTES.iter().find(|r| r.rpc == "RemoveAllow").unwrap();
        let given = query(allow, &descriptor::method("RemoveAllow").unwrap().input(), "target=192.0.2.1").unwrap();
        assert_eq!(given["prefix"], "192.0.2.1");
    }

    #[test]
    fn a_body_with_unknown_fields_or_one_that_the_path_says_already_is_refused() {
        let input = descriptor::method("LabelAlert").unwrap().input();
        let with = |v: Value| message(&input, v.as_object().unwrap().clone(), vec![("alert_id", "7".into())]);
        let m: pb::LabelAlertRequest =
            with(serde_json::json!({"truth": "ALERT_TRUTH_TRUE"})).unwrap().transcode_to().unwrap();
        assert_eq!((m.alert_id, m.truth()), (7, pb::AlertTruth::True));
        for bad in
            [serde_json::json!({"alert_id": 8}), serde_json::json!({"colour": 1}), serde_json::json!({"truth": "NO"})]
        {
            assert_eq!(with(bad).unwrap_err().code(), Code::InvalidArgument);
        }
    }
}
