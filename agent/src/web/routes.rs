//! REST: which request stands for which call.

use http::Method;

/// Where the fields of a call's request come from that are not in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// The query, by name.
    Query,
    /// A JSON object.
    Body,
    /// Nowhere.
    Nothing,
}

/// A request and its call.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub method: Verb,
    /// Behind `/api/v1/`; `{field}` stands for a field of the call's request.
    pub path: &'static str,
    pub rpc: &'static str,
    pub takes: Takes,
    /// Names of the query that stand for fields of other names.
    pub alias: &'static [(&'static str, &'static str)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Post,
    Delete,
}

impl Verb {
    pub fn name(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Delete => "DELETE",
        }
    }

    fn is(self, method: &Method) -> bool {
        method.as_str() == self.name()
    }
}

const fn get(path: &'static str, rpc: &'static str) -> Route {
    Route { method: Verb::Get, path, rpc, takes: Takes::Query, alias: &[] }
}

const fn post(path: &'static str, rpc: &'static str) -> Route {
    Route { method: Verb::Post, path, rpc, takes: Takes::Body, alias: &[] }
}

const fn delete(path: &'static str, rpc: &'static str) -> Route {
    Route { method: Verb::Delete, path, rpc, takes: Takes::Nothing, alias: &[] }
}

/// Every route. Behind each stands the gate of gRPC, with its rights.
pub const ROUTES: &[Route] = &[
    get("status", "Status"),
    get("traffic", "Traffic"),
    get("sources", "TopSources"),
    get("scores", "Scores"),
    get("flows", "SearchFlows"),
    get("decisions", "ListDecisions"),
    post("decisions", "AddDecision"),
    get("decisions/history", "ListDecisionHistory"),
    delete("decisions/{id}", "DeleteDecision"),
    post("decisions/{id}/confirm", "ConfirmDecision"),
    get("allow", "ListAllow"),
    post("allow", "AddAllow"),
    Route { takes: Takes::Query, alias: &[("target", "prefix")], ..delete("allow", "RemoveAllow") },
    Route { alias: &[("target", "prefix")], ..get("allow/check", "CheckAllow") },
    get("alerts", "ListAlerts"),
    get("alerts/{id}", "GetAlert"),
    get("alerts/{alert_id}/context", "AlertContext"),
    post("alerts/{alert_id}/label", "LabelAlert"),
    get("questions", "ListQuestions"),
    get("questions/{id}", "GetQuestion"),
    post("questions/{id}/answer", "AnswerQuestion"),
    post("questions/{id}/undo", "UndoAnswer"),
    get("labels", "ListLabels"),
    post("labels/{id}/undo", "UndoLabel"),
    get("suppressions", "ListSuppressions"),
    post("suppressions", "AddSuppression"),
    delete("suppressions/{id}", "RemoveSuppression"),
    get("lists", "ListLists"),
    get("lists/{name}", "ShowList"),
    delete("lists/{name}", "RemoveList"),
    get("audit", "ListAudit"),
    get("evidence", "ListEvidence"),
    get("evidence/{id}", "GetEvidence"),
    get("model", "ModelStatus"),
    get("model/drift", "ModelDrift"),
    get("model/calibration", "ModelCalibration"),
    get("model/compare", "CompareModels"),
    get("model/bundles/{id}", "InspectModel"),
    post("model/bundles/{id}/promote", "PromoteModel"),
    post("model/rollback", "RollbackModel"),
    post("model/challenger", "ChallengeModel"),
    delete("model/challenger", "ChallengeModel"),
    post("learn", "Learn"),
    get("config", "ShowConfig"),
    post("config/reload", "ReloadConfig"),
    get("sinks", "ListSinks"),
    post("sinks/{name}/test", "TestSink"),
];

/// What a request stands for.
#[derive(Debug)]
pub enum Found {
    /// A call, with what the path says of fields.
    Route(&'static Route, Vec<(&'static str, String)>),
    /// The path is known, and only for these.
    Verbs(Vec<&'static str>),
    Nothing,
}

/// Looks a path up, `decisions/7`.
pub fn find(method: &Method, path: &str) -> Found {
    let given: Vec<&str> = path.split('/').collect();
    let mut verbs = Vec::new();
    let mut best: Option<(&'static Route, Vec<(&'static str, String)>)> = None;
    for route in ROUTES {
        let Some(fields) = matches(route.path, &given) else { continue };
        if !route.method.is(method) {
            verbs.push(route.method.name());
            continue;
        }
        // `decisions/history` before `decisions/{id}`.
        if best.as_ref().is_none_or(|(_, f)| fields.len() < f.len()) {
            best = Some((route, fields));
        }
    }
    match best {
        Some((route, fields)) => Found::Route(route, fields),
        None if verbs.is_empty() => Found::Nothing,
        None => Found::Verbs(verbs),
    }
}

fn matches(pattern: &'static str, given: &[&str]) -> Option<Vec<(&'static str, String)>> {
    let mut fields = Vec::new();
    let mut parts = pattern.split('/');
    for part in given {
        let wanted = parts.next()?;
        match wanted.strip_prefix('{').and_then(|w| w.strip_suffix('}')) {
            Some(field) => fields.push((field, decoded(part).filter(|v| !v.is_empty())?)),
            None if wanted == *part => {}
            None => return None,
        }
    }
    parts.next().is_none().then_some(fields)
}

/// Undoes %-encoding; `None`: it is none, or no text.
pub fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        let digits = std::str::from_utf8(&digits).ok().filter(|d| d.chars().all(|c| c.is_ascii_hexdigit()))?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::descriptor;

    #[test]
    fn every_route_is_of_a_call_and_its_names_are_fields() {
        for route in ROUTES {
            let method = descriptor::method(route.rpc).unwrap_or_else(|| panic!("there is no call {}", route.rpc));
            let input = method.input();
            let fields = route.path.split('/').filter_map(|p| p.strip_prefix('{')?.strip_suffix('}'));
            for field in fields.chain(route.alias.iter().map(|(_, f)| *f)) {
                assert!(input.get_field_by_name(field).is_some(), "{}: {} has no {field}", route.path, input.name());
            }
            assert!(!method.is_client_streaming(), "{}", route.rpc);
            let same = ROUTES.iter().filter(|r| r.path == route.path && r.method == route.method);
            assert_eq!(same.count(), 1, "{} {}", route.method.name(), route.path);
        }
    }

    /// What no page asks for, and why.
    #[test]
    fn every_call_has_a_route_unless_it_is_for_the_command_line() {
        let elsewhere = ["WatchEvents", "LoadModel", "ImportList", "FlushRecord", "CreateWebLogin"];
        for (call, _) in crate::api::rights::RIGHTS {
            let routed = ROUTES.iter().any(|r| r.rpc == *call);
            assert!(routed != elsewhere.contains(call), "{call}");
        }
    }

    #[test]
    fn paths_are_found_with_their_fields_and_wrong_verbs_are_told() {
        let look = |m: Method, p: &str| match find(&m, p) {
            Found::Route(r, f) => format!("{} {f:?}", r.rpc),
            Found::Verbs(v) => v.join(","),
            Found::Nothing => "nothing".into(),
        };
        assert_eq!(look(Method::GET, "decisions/history"), "ListDecisionHistory []");
        assert_eq!(look(Method::DELETE, "decisions/7"), "DeleteDecision [(\"id\", \"7\")]");
        assert_eq!(look(Method::GET, "evidence/alert%3A7"), "GetEvidence [(\"id\", \"alert:7\")]");
        assert_eq!(look(Method::PUT, "decisions"), "GET,POST");
        for nothing in ["", "decisions/", "decisions/7/confirm/x", "evidence/%zz", "..", "decision"] {
            assert_eq!(look(Method::DELETE, nothing), "nothing", "{nothing}");
        }
    }
}
