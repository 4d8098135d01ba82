//! Before any handler: is the request for us, does a page of ours send it, and who is logged in? And what every answer says to browsers.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use tonic::Code;

use super::login::Session;
use super::{Connection, Page, rest};
use crate::api::access::{Access, Peer};
use crate::config::Web;

const COOKIE: &str = "weir_session";
const CSRF: &str = "x-weir-csrf";
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// What every answer says, whatever it is.
const SAID: [(HeaderName, &str); 8] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (HeaderName::from_static("x-permitted-cross-domain-policies"), "none"),
];

/// The outermost layer.
pub(super) async fn check(State(page): State<Arc<Page>>, request: Request, next: Next) -> Response {
    let mut response = match admit(&page.access.web().config(), &request) {
        Ok(()) => next.run(request).await,
        Err(refused) => *refused,
    };
    let headers = response.headers_mut();
    for (name, value) in SAID {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn admit(config: &Web, request: &Request) -> Result<(), Box<Response>> {
    let Some(connection) = request.extensions().get::<Connection>() else {
        return Err(Box::new(rest::refuse(Code::Internal, "a request came past its connection")));
    };
    let headers = request.headers();
    let host = authority(request.uri(), headers)
        .ok_or_else(|| Box::new(rest::refuse(Code::InvalidArgument, "the request names no host, or several")))?;
    if !ours(host, config, connection) {
        let words = format!(
            "this is not {}; if browsers reach the page by that name, add it to `web.hosts` of the configuration",
            shown(host)
        );
        return Err(Box::new(rest::refused(StatusCode::MISDIRECTED_REQUEST, Code::PermissionDenied, &words)));
    }
    // What browsers say of themselves: no page elsewhere has business with the API, not even to look.
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let api = request.uri().path().starts_with("/api/");
    if api && !matches!(site, None | Some(b"same-origin" | b"none")) {
        return Err(Box::new(rest::refuse(Code::PermissionDenied, "a page of another site sends this")));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let origin = only(headers, &header::ORIGIN).and_then(|o| o.to_str().ok());
        if !origin.is_some_and(|origin| same_origin(origin, host, connection.tls)) {
            return Err(Box::new(rest::refuse(Code::PermissionDenied, "`Origin` is not that of this page")));
        }
    }
    Ok(())
}

/// The only value of a header; `None`: there is none, or there are several.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut all = headers.get_all(name).iter();
    all.next().filter(|_| all.next().is_none())
}

/// Whom the request is for: `Host`, and the same in the request line if that names anybody.
fn authority<'a>(uri: &Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let host = only(headers, &header::HOST)?.to_str().ok()?;
    uri.authority().is_none_or(|a| a.as_str() == host).then_some(host)
}

/// The host of an authority, without its port.
fn host_of(authority: &str) -> Option<String> {
    let parsed: http::uri::Authority = authority.parse().ok()?;
    if authority.contains('@') {
        return None;
    }
    Some(parsed.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase())
}

/// Whether somebody who asks for this host means us. A name that was bound to our address behind a browser's back is none of
/// these; ports do not matter, since tunnels change them.
fn ours(authority: &str, config: &Web, connection: &Connection) -> bool {
    let Some(host) = host_of(authority) else { return false };
    let known = config.hosts.iter().any(|h| h.eq_ignore_ascii_case(&host));
    let ip = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    known || host == "localhost" || ip.is_some_and(|ip| ip.is_loopback() || ip == connection.to.ip().to_canonical())
}

/// A tunnel or proxy in front may speak TLS where we do not, never the other way round.
fn same_origin(origin: &str, host: &str, tls: bool) -> bool {
    let of = |scheme: &str| origin.strip_prefix(scheme).is_some_and(|o| o.eq_ignore_ascii_case(host));
    of("https://") || !tls && of("http://")
}

/// For a message: what came, in bounds.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The session's token, where exactly one is sent.
fn token(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|c| c.to_str().ok()).flat_map(|c| c.split(';'));
    let mut ours = all.filter_map(|c| c.trim().strip_prefix(COOKIE)?.strip_prefix('='));
    ours.next().filter(|_| ours.next().is_none())
}

/// Who is logged in: with the session as a caller of the API. What changes something must show that a page of ours sends it.
pub(super) fn who(page: &Page, request: &Request) -> Result<(Arc<Session>, Peer), Box<Response>> {
    let words = "log in: `weir web login` on the agent's host prints a link";
    let session = token(request.headers()).and_then(|t| page.access.web().session(t));
    let session = session.ok_or_else(|| Box::new(rest::refuse(Code::Unauthenticated, words)))?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let given = request.headers().get(CSRF).and_then(|v| v.to_str().ok());
        if !given.is_some_and(|given| session.has_csrf(given)) {
            let words = "`X-Weir-Csrf` is missing or not that of the session: GET /api/v1/session tells it";
            return Err(Box::new(rest::refuse(Code::PermissionDenied, words)));
        }
    }
    let connection = request.extensions().get::<Connection>();
    let from = connection.map_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), |c| c.from.ip().to_canonical());
    session.seen(from);
    let peer = Access::logged_in(session.clone(), from);
    Ok((session, peer))
}

/// `GET /login?code=...`: uses the code up.
pub(super) async fn log_in(State(page): State<Arc<Page>>, request: Request) -> Response {
    // A program that only looks where a link leads must not use it up.
    if request.method() != Method::GET {
        return html(StatusCode::METHOD_NOT_ALLOWED, "");
    }
    let query = request.uri().query().unwrap_or_default();
    let code = query.split('&').find_map(|p| p.strip_prefix("code=")).unwrap_or_default();
    let Some((token, session)) = page.access.web().redeem(code) else {
        let words = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Weir</title><h1>This link is used or too old</h1>\
                     <p>Run <code>weir web login</code> again: each link is good once, for two minutes.</p></html>";
        return html(StatusCode::UNAUTHORIZED, words);
    };
    let connection = request.extensions().get::<Connection>();
    log::info!(
        "{} logged in to the web page as {}{}",
        session.name,
        session.role,
        connection.map_or(String::new(), |c| format!(", from {}", c.from.ip().to_canonical()))
    );
    let secure = if connection.is_some_and(|c| c.tls) { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict{secure}");
    answer(StatusCode::SEE_OTHER, &[(header::LOCATION, "/"), (header::SET_COOKIE, &cookie)], Body::empty())
}

/// `GET /api/v1/session`.
pub(super) async fn session(State(page): State<Arc<Page>>, request: Request) -> Response {
    let (session, _) = match who(&page, &request) {
        Ok(found) => found,
        Err(refused) => return *refused,
    };
    let body = serde_json::json!({
        "name": session.name,
        "role": session.role.name(),
        "csrf": session.csrf,
        "expires_us": session.expires_us,
    });
    rest::json(StatusCode::OK, Body::from(body.to_string()))
}

/// `DELETE /api/v1/session`: logs out.
pub(super) async fn log_out(State(page): State<Arc<Page>>, request: Request) -> Response {
    if let Err(refused) = who(&page, &request) {
        return *refused;
    }
    if let Some(token) = token(request.headers()) {
        page.access.web().end(token);
    }
    let gone = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    answer(StatusCode::NO_CONTENT, &[(header::SET_COOKIE, &gone)], Body::empty())
}

pub(super) fn html(status: StatusCode, text: &'static str) -> Response {
    answer(status, &[(header::CONTENT_TYPE, "text/html; charset=utf-8")], Body::from(text))
}

pub(super) fn answer(status: StatusCode, headers: &[(HeaderName, &str)], body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in headers {
        // Ours are always plain text.
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_ours_are_answered_whatever_the_port() {
        let config = Web { hosts: vec!["Weir.example.net".into()], ..Web::default() };
        let to = |a: &str| Connection { from: "192.0.2.1:5".parse().unwrap(), to: a.parse().unwrap(), tls: false };
        let here = to("127.0.0.1:8470");
        for fine in ["localhost", "localhost:9000", "127.0.0.1:8470", "[::1]:8470", "LOCALHOST", "weir.example.net:443"]
        {
            assert!(ours(fine, &config, &here), "{fine}");
        }
        for foreign in
            ["evil.example", "127.0.0.1.evil.example", "192.0.2.7", "a@localhost", "", "localhost.evil.example"]
        {
            assert!(!ours(foreign, &config, &here), "{foreign}");
        }
        assert!(ours("192.0.2.7:8470", &config, &to("192.0.2.7:8470")), "the address that it was reached by");
    }

    #[test]
    fn origins_are_ours_where_scheme_and_host_are() {
        assert!(same_origin("http://localhost:8470", "localhost:8470", false));
        assert!(same_origin("https://weir.example.net", "weir.example.net", false), "a proxy may speak TLS");
        for bad in [
            "http://localhost:8471",
            "null",
            "",
            "http://localhost:8470/",
            "http://evil.example",
            "ftp://localhost:8470",
        ] {
            assert!(!same_origin(bad, "localhost:8470", false), "{bad}");
        }
        assert!(!same_origin("http://localhost:8470", "localhost:8470", true));
    }

    #[test]
    fn a_session_is_taken_from_one_cookie_alone() {
        let headers = |all: &[&str]| {
            let mut map = HeaderMap::new();
            all.iter().for_each(|c| assert!(map.append(header::COOKIE, c.parse().unwrap()) || map.len() == 1));
            map
        };
        assert_eq!(token(&headers(&["a=b; weir_session=x; c=d"])), Some("x"));
        assert_eq!(token(&headers(&["weir_session=x; weir_session=y"])), None, "one of them may be somebody else's");
        assert_eq!(token(&headers(&["weir_session=x", "weir_session=y"])), None);
        assert_eq!(token(&headers(&["weir_sessions=x"])), None);
    }
}
