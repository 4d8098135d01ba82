//! The page's files, which the program carries.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header;
use http::{Method, StatusCode};
use tonic::Code;

use super::{guard, rest};

include!(concat!(env!("OUT_DIR"), "/page.rs"));

const INDEX: &str = "index.html";
/// Vite names what lies here by a hash of its contents.
const HASHED: &str = "assets/";

const NO_PAGE: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Weir</title><h1>Built without the page</h1>\
    <p>This agent was built without its web page; the API below <code>/api/v1/</code> works all the same. With Node.js, \
    <code>cargo xtask dashboard</code> builds the page, and the next build of the agent carries it.</p></html>";

/// Any path that is nothing else: a file of the page, or the page itself, which knows its own paths.
pub(super) async fn file(request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return rest::refuse(Code::NotFound, "there is nothing to change here; the API lies below /api/v1/");
    }
    let path = request.uri().path().trim_start_matches('/');
    answer(FILES, path)
}

fn answer(files: &[(&str, &'static [u8])], path: &str) -> Response {
    let find = |path: &str| files.iter().find(|(name, _)| *name == path);
    if let Some((name, bytes)) = find(path) {
        return served(name, bytes);
    }
    let of_page = !path.rsplit('/').next().is_some_and(|last| last.contains('.'));
    match find(INDEX) {
        Some((name, bytes)) if of_page => served(name, bytes),
        None if of_page => guard::html(StatusCode::OK, NO_PAGE),
        _ => rest::refuse(Code::NotFound, "the page has no such file"),
    }
}

fn served(name: &str, bytes: &'static [u8]) -> Response {
    let kept = if name.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    guard::answer(
        StatusCode::OK,
        &[(header::CONTENT_TYPE, kind(name)), (header::CACHE_CONTROL, kept)],
        Body::from(bytes),
    )
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &[(&str, &[u8])] = &[("index.html", b"<!doctype html>"), ("assets/index-abc.js", b"1")];

    #[test]
    fn hashed_files_are_kept_and_the_page_is_asked_for_anew() {
        let of = |path: &str| {
            let r = answer(PAGE, path);
            let header = |h| r.headers().get(h).map_or("", |v| v.to_str().unwrap()).to_owned();
            (r.status().as_u16(), header(header::CONTENT_TYPE), header(header::CACHE_CONTROL))
        };
        assert_eq!(
            of("assets/index-abc.js"),
            (200, "text/javascript; charset=utf-8".into(), "public, max-age=31536000, immutable".into())
        );
        for own in ["", "index.html", "alerts/7"] {
            assert_eq!(of(own), (200, "text/html; charset=utf-8".into(), "no-cache".into()), "{own}");
        }
        assert_eq!(of("assets/gone.js").0, 404);
        assert_eq!(of("../Cargo.toml").0, 404);
    }

    #[test]
    fn without_the_page_the_agent_says_how_to_build_it() {
        let r = answer(&[], "");
        assert_eq!((r.status(), NO_PAGE.contains("cargo xtask dashboard")), (StatusCode::OK, true));
    }
}
