//! REST as an OpenAPI document, made of `weir.proto` and the table of routes: nothing in it is written by hand twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use super::descriptor;
use super::rest::{ID, MAX_MEMBERS, query_fields};
#[cfg(test)]
use super::routes;
use super::routes::{ROUTES, Route, Takes, Verb};

static TEXT: LazyLock<String> = LazyLock::new(|| {
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
});

/// The document, as it is served and kept at `agent/dashboard/openapi.json`.
pub fn text() -> &'static str {
    &TEXT
}

/// What is described so far: messages of requests and of answers apart, since an answer leaves nothing out.
#[derive(Default)]
struct Schemas {
    done: BTreeMap<String, Value>,
    begun: BTreeSet<String>,
}

fn document() -> Value {
    let mut schemas = Schemas::default();
    let mut paths: BTreeMap<String, BTreeMap<&'static str, Value>> = BTreeMap::new();
    for route in ROUTES {
        let operation = operation(route, &mut schemas);
        paths.entry(format!("/api/v1/{}", route.path)).or_default().insert(verb(route.method), operation);
    }
    for (path, verb, operation) in others(&mut schemas) {
        paths.entry(path.to_owned()).or_default().insert(verb, operation);
    }
    schemas.done.insert(
        "Error".into(),
        json!({
            "type": "object",
            "description": "Why a request was not carried out.",
            "required": ["error"],
            "properties": { "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": { "type": "string", "description": "As in gRPC, such as not_found or failed_precondition." },
                    "message": { "type": "string", "description": "In words, for a person." },
                },
            }},
        }),
    );
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weir",
            "version": "1",
            "description": "The calls of weir.v1.Weir as REST. Times are microseconds since the Unix epoch, lengths of time microseconds. \
                            Log in with the link that `weir web login` prints; it sets the cookie. Whatever is not a GET carries \
                            `X-Weir-Csrf` as `GET /api/v1/session` tells it, and an `Origin` of the page.",
        },
        "paths": paths,
        "security": [{ "session": [] }],
        "components": {
            "schemas": schemas.done,
            "securitySchemes": { "session": { "type": "apiKey", "in": "cookie", "name": "weir_session" } },
        },
    })
}

fn verb(v: Verb) -> &'static str {
    match v {
        Verb::Get => "get",
        Verb::Post => "post",
        Verb::Delete => "delete",
    }
}

fn csrf() -> Value {
    json!({ "name": "X-Weir-Csrf", "in": "header", "required": true, "schema": { "type": "string" },
            "description": "As GET /api/v1/session tells it." })
}

fn answers(schema: &Value) -> Value {
    json!({
        "200": { "description": "Done.", "content": { "application/json": { "schema": schema } } },
        "default": error(),
    })
}

fn error() -> Value {
    let schema = json!({ "$ref": "#/components/schemas/Error" });
    json!({ "description": "It was not carried out.", "content": { "application/json": { "schema": schema } } })
}

fn operation(route: &Route, schemas: &mut Schemas) -> Value {
    let Some(method) = descriptor::method(route.rpc) else { return Value::Null };
    let (input, output) = (method.input(), method.output());
    let mut parameters = Vec::new();
    for name in route.path.split('/').filter_map(|p| p.strip_prefix('{')?.strip_suffix('}')) {
        let Some(field) = input.get_field_by_name(name) else { continue };
        parameters.push(parameter(name, "path", &field, schemas));
    }
    for (name, field) in query_fields(route, &input) {
        parameters.push(parameter(&name, "query", &field, schemas));
    }
    if route.method != Verb::Get {
        parameters.push(csrf());
    }
    let answer = schemas.message(&output, false);
    if method.is_server_streaming()
        && let Some(properties) = schemas.done.get_mut(output.name()).and_then(|s| s.get_mut("properties"))
    {
        let words = format!("There are more than {MAX_MEMBERS}, which are not here.");
        properties["more"] = json!({ "type": "boolean", "description": words });
    }
    let first = ROUTES.iter().find(|r| r.rpc == route.rpc).is_some_and(|r| r.method == route.method);
    let id = if first { route.rpc.to_owned() } else { format!("{}{}", route.rpc, route.method.name()) };
    let mut operation = json!({
        "operationId": id,
        "summary": descriptor::comment(method.path()),
        "parameters": parameters,
        "responses": answers(&answer),
    });
    if route.takes == Takes::Body {
        let in_path: Vec<&str> = route.path.split('/').filter_map(|p| p.strip_prefix('{')?.strip_suffix('}')).collect();
        let schema = schemas.body(&input, &in_path);
        operation["requestBody"] = json!({ "content": { "application/json": { "schema": schema } } });
    }
    operation
}

fn parameter(name: &str, place: &str, field: &FieldDescriptor, schemas: &mut Schemas) -> Value {
    let schema = schemas.field(field, true);
    json!({
        "name": name,
        "in": place,
        "required": place == "path",
        "description": descriptor::comment(field.path()),
        "schema": schema,
    })
}

/// What is no call of gRPC.
fn others(schemas: &mut Schemas) -> Vec<(&'static str, &'static str, Value)> {
    let session = json!({
        "type": "object",
        "required": ["name", "role", "csrf", "expires_us"],
        "properties": {
            "name": { "type": "string", "description": "Who is logged in." },
            "role": { "type": "string", "enum": ["viewer", "operator"] },
            "csrf": { "type": "string", "description": "For `X-Weir-Csrf`." },
            "expires_us": { "type": "integer", "format": "int64", "description": "When the login ends at the latest." },
        },
    });
    schemas.done.insert("Session".into(), session);
    for name in ["Event", "TrafficPoint", "ScoresResponse"] {
        if let Some(message) = descriptor::pool().get_message_by_name(&format!("weir.v1.{name}")) {
            schemas.message(&message, false);
        }
    }
    let kinds: Vec<&str> = crate::api::events::KINDS.iter().map(|(n, _)| *n).collect();
    let words = "Server-sent events until the client hangs up. `id:` goes on behind what came last, also as `Last-Event-ID`. Each \
                 event has its kind as `event:` and an Event as `data:`; of flows, sources and hits a sample is sent. Once a second: \
                 `traffic` (a TrafficPoint) and `scores` (a ScoresResponse, at most 50 points). `lost` ({\"count\":N}): so many were \
                 left out. `restarted`: the agent did, and what it did since follows.";
    let text = |name: &str, words: &str| json!({ "name": name, "in": "query", "required": false, "description": words, "schema": { "type": "string" } });
    let stream = json!({
        "operationId": "Events",
        "summary": "What happens from now on.",
        "description": words,
        "parameters": [
            text("kinds", &format!("Of {}; separated by commas. Empty: all.", kinds.join(", "))),
            text("resume_token", "To go on where another stream was."),
        ],
        "responses": {
            "200": { "description": "The stream.", "content": { "text/event-stream": { "schema": { "type": "string" } } } },
            "default": error(),
        },
    });
    vec![
        (
            "/api/v1/session",
            "get",
            json!({
                "operationId": "Session",
                "summary": "Who is logged in.",
                "responses": answers(&json!({ "$ref": "#/components/schemas/Session" })),
            }),
        ),
        (
            "/api/v1/session",
            "delete",
            json!({
                "operationId": "LogOut",
                "summary": "Logs out.",
                "parameters": [csrf()],
                "responses": { "204": { "description": "Done." }, "default": error() },
            }),
        ),
        ("/api/v1/events", "get", stream),
    ]
}

impl Schemas {
    /// A reference to the message, which is described with everything in it.
    fn message(&mut self, message: &MessageDescriptor, input: bool) -> Value {
        let name = if input { format!("{}Input", message.name()) } else { message.name().to_owned() };
        if self.begun.insert(name.clone()) {
            let schema = self.object(message, input, &[]);
            self.done.insert(name.clone(), schema);
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    /// The same of a request, without what stands in the path.
    fn body(&mut self, message: &MessageDescriptor, without: &[&str]) -> Value {
        let schema = self.object(message, true, without);
        self.done.insert(message.name().to_owned(), schema);
        json!({ "$ref": format!("#/components/schemas/{}", message.name()) })
    }

    fn object(&mut self, message: &MessageDescriptor, input: bool, without: &[&str]) -> Value {
        let mut properties = BTreeMap::new();
        let mut required = Vec::new();
        for field in message.fields().filter(|f| !without.contains(&f.name())) {
            let mut schema = self.field(&field, input);
            let mut words = descriptor::comment(field.path()).to_owned();
            if let Some(oneof) = field.containing_oneof().filter(|o| !o.is_synthetic()) {
                words += &format!(
                    " At most one of `{}` is set.",
                    oneof.fields().map(|f| f.name().to_owned()).collect::<Vec<_>>().join("`, `")
                );
            }
            schema["description"] = words.into();
            properties.insert(field.name().to_owned(), schema);
            if !input && !field.supports_presence() {
                required.push(field.name().to_owned());
            }
        }
        let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        schema["description"] = descriptor::comment(message.path()).into();
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        schema
    }

    fn field(&mut self, field: &FieldDescriptor, input: bool) -> Value {
        let one = match field.kind() {
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::Float | Kind::Double => json!({ "type": "number" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Message(message) => self.message(&message, input),
            Kind::Enum(e) => self.enumeration(&e),
            _ if field.name() == ID => json!({ "type": "string", "pattern": "^[0-9]+$" }),
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "integer", "format": "int64", "minimum": 0 }),
            Kind::Uint32 | Kind::Fixed32 => {
                json!({ "type": "integer", "format": "int64", "minimum": 0, "maximum": u32::MAX })
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({ "type": "integer", "format": "int64" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({ "type": "integer", "format": "int32" }),
        };
        if field.is_list() { json!({ "type": "array", "items": one }) } else { one }
    }

    fn enumeration(&mut self, e: &EnumDescriptor) -> Value {
        let name = e.name().to_owned();
        if self.begun.insert(name.clone()) {
            let values: Vec<String> = e.values().map(|v| v.name().to_owned()).collect();
            let each = e.values().map(|v| format!("{}: {}", v.name(), descriptor::comment(v.path())));
            let words = format!("{} {}", descriptor::comment(e.path()), each.collect::<Vec<_>>().join(" "));
            self.done.insert(name.clone(), json!({ "type": "string", "enum": values, "description": words }));
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    const COPY: &str = "dashboard/openapi.json";

    /// `WEIR_WRITE_SNAPSHOT=1` writes the copy anew.
    #[test]
    fn the_copy_of_the_document_that_the_page_is_built_from_is_what_is_served() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(COPY);
        if std::env::var_os("WEIR_WRITE_SNAPSHOT").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text()).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == text(), "agent/{COPY} is another one: write it anew with WEIR_WRITE_SNAPSHOT=1");
    }

    #[test]
    fn every_path_of_the_document_is_answered_and_every_reference_leads_somewhere() {
        let document: Value = serde_json::from_str(text()).unwrap();
        for (path, verbs) in document["paths"].as_object().unwrap() {
            let Some(path) = path.strip_prefix("/api/v1/").filter(|p| !matches!(*p, "session" | "events")) else {
                continue;
            };
            for (verb, operation) in verbs.as_object().unwrap() {
                let method: Method = verb.to_uppercase().parse().unwrap();
                let given = path.replace(['{', '}'], "");
                assert!(matches!(routes::find(&method, &given), routes::Found::Route(..)), "{verb} {path}");
                assert!(!operation["summary"].as_str().unwrap().is_empty(), "{verb} {path} is not explained");
            }
        }
        fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
            match value {
                Value::Object(o) => o.iter().for_each(|(k, v)| match v.as_str().filter(|_| k == "$ref") {
                    Some(to) => drop(found.insert(to)),
                    None => references(v, found),
                }),
                Value::Array(a) => a.iter().for_each(|v| references(v, found)),
                _ => {}
            }
        }
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for to in found {
            let pointer = to.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{to} leads nowhere");
        }
    }

    #[test]
    fn answers_leave_nothing_out_requests_may_and_ids_are_text() {
        let document: Value = serde_json::from_str(text()).unwrap();
        let schema = |name: &str| document["components"]["schemas"][name].clone();
        let point = schema("TrafficPoint");
        assert!(
            point["required"].as_array().unwrap().len() == point["properties"].as_object().unwrap().len(),
            "{point}"
        );
        assert!(schema("AddDecisionRequest").get("required").is_none());
        assert_eq!(schema("RecordedFlow")["properties"]["flow_id"]["type"], "string");
        assert_eq!(schema("RateLimitInput").get("required"), None);
        assert!(schema("RateLimit")["required"].as_array().unwrap().contains(&"per_second".into()));
        assert_eq!(schema("LabelAlertRequest")["properties"].get("alert_id"), None, "it stands in the path");
    }
}
