//! The page's files, which the program carries. They are compressed once, when the first of them is asked for.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header;
use http::{HeaderMap, Method, StatusCode};
use sha2::{Digest as _, Sha256};
use tonic::Code;

use super::{guard, rest};

include!(concat!(env!("OUT_DIR"), "/page.rs"));

const INDEX: &str = "index.html";
/// Vite names what lies here by a hash of its contents.
const HASHED: &str = "assets/";

const NO_PAGE: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Weir</title><h1>Built without the page</h1>\
    <p>This agent was built without its web page; the API below <code>/api/v1/</code> works all the same. With Node.js, \
    <code>cargo xtask dashboard</code> builds the page, and the next build of the agent carries it.</p></html>";

static PAGE: LazyLock<Vec<Asset>> = LazyLock::new(|| assets(FILES));

/// A file in the forms in which it is served.
struct Asset {
    name: &'static str,
    plain: &'static [u8],
    /// `None`: it would hardly be smaller.
    gzip: Option<Vec<u8>>,
    /// Of the plain form, without quotes.
    tag: String,
}

fn assets(files: &[(&'static str, &'static [u8])]) -> Vec<Asset> {
    let asset = |(name, plain): &(&'static str, &'static [u8])| {
        let tag = Sha256::digest(plain).iter().take(12).map(|b| format!("{b:02x}")).collect();
        Asset { name, plain, gzip: smaller(plain), tag }
    };
    files.iter().map(asset).collect()
}

fn smaller(plain: &[u8]) -> Option<Vec<u8>> {
    let mut to = GzEncoder::new(Vec::new(), Compression::best());
    // Memory takes all that is written.
    to.write_all(plain).ok()?;
    to.finish().ok().filter(|packed| packed.len() < plain.len() / 10 * 9)
}

/// Any path that is nothing else: a file of the page, or the page itself, which knows its own paths.
pub(super) async fn file(request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return rest::refuse(Code::NotFound, "there is nothing to change here; the API lies below /api/v1/");
    }
    let path = request.uri().path().trim_start_matches('/');
    answer(&PAGE, path, request.headers())
}

fn answer(page: &'static [Asset], path: &str, asked: &HeaderMap) -> Response {
    let find = |path: &str| page.iter().find(|a| a.name == path);
    if let Some(asset) = find(path) {
        return served(asset, asked);
    }
    let of_page = !path.rsplit('/').next().is_some_and(|last| last.contains('.'));
    match find(INDEX) {
        Some(asset) if of_page => served(asset, asked),
        None if of_page => guard::html(StatusCode::OK, NO_PAGE),
        _ => rest::refuse(Code::NotFound, "the page has no such file"),
    }
}

fn served(asset: &'static Asset, asked: &HeaderMap) -> Response {
    let kept = if asset.name.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let packed = asset.gzip.as_deref().filter(|_| takes_gzip(asked));
    // Each form has a tag of its own: a cache must not take one for the other.
    let tag = format!("\"{}{}\"", asset.tag, if packed.is_some() { "-gz" } else { "" });
    let mut headers = vec![(header::CACHE_CONTROL, kept), (header::ETAG, tag.as_str())];
    if asset.gzip.is_some() {
        headers.push((header::VARY, "accept-encoding"));
    }
    if knows(asked, &tag) {
        return guard::answer(StatusCode::NOT_MODIFIED, &headers, Body::empty());
    }
    headers.push((header::CONTENT_TYPE, kind(asset.name)));
    if packed.is_some() {
        headers.push((header::CONTENT_ENCODING, "gzip"));
    }
    guard::answer(StatusCode::OK, &headers, Body::from(packed.unwrap_or(asset.plain)))
}

/// Whether the client names gzip, or anything, as what it takes (RFC 9110, 12.5.3).
fn takes_gzip(asked: &HeaderMap) -> bool {
    let (mut gzip, mut any) = (None, None);
    for coding in listed(asked, header::ACCEPT_ENCODING) {
        let mut parts = coding.split(';').map(str::trim);
        let to = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => &mut gzip,
            "*" => &mut any,
            _ => continue,
        };
        let weight = parts.find_map(|p| p.strip_prefix("q=").or(p.strip_prefix("Q=")));
        // What is no number is no wish for it.
        *to = Some(weight.is_none_or(|q| q.trim().parse::<f32>().is_ok_and(|q| q > 0.0)));
    }
    gzip.or(any).unwrap_or(false)
}

/// Whether the client has exactly this already (RFC 9110, 13.1.2).
fn knows(asked: &HeaderMap, tag: &str) -> bool {
    listed(asked, header::IF_NONE_MATCH).any(|t| t == "*" || t.trim_start_matches("W/") == tag)
}

/// The parts of a header that is a list; our own tags hold no commas.
fn listed(asked: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    let values = asked.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(str::trim).filter(|v| !v.is_empty())
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
    use std::io::Read as _;

    use http_body_util::BodyExt as _;

    use super::*;

    const SCRIPT: &[u8] = &[b'x'; 5000];

    fn page() -> &'static [Asset] {
        static PAGE: LazyLock<Vec<Asset>> = LazyLock::new(|| {
            assets(&[("index.html", b"<!doctype html>"), ("assets/index-abc.js", SCRIPT), ("assets/app-2.js", b"2")])
        });
        &PAGE
    }

    fn ask(path: &str, headers: &[(header::HeaderName, &str)]) -> Response {
        let pairs = headers.iter().map(|(n, v)| (n.clone(), v.parse().unwrap()));
        answer(page(), path, &pairs.collect())
    }

    fn header_of(r: &Response, name: header::HeaderName) -> &str {
        r.headers().get(name).map_or("", |v| v.to_str().unwrap())
    }

    #[test]
    fn hashed_files_are_kept_and_the_page_is_asked_for_anew() {
        let of = |path: &str| {
            let r = ask(path, &[]);
            let of = |h| header_of(&r, h).to_owned();
            (r.status().as_u16(), of(header::CONTENT_TYPE), of(header::CACHE_CONTROL))
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

    #[tokio::test]
    async fn who_takes_gzip_gets_it_and_caches_are_told_that_there_are_two_forms() {
        let file = "assets/index-abc.js";
        for (accept, packed) in [
            (None, false),
            (Some("gzip, deflate, br"), true),
            (Some("br;q=1.0, GZIP;q=0.5"), true),
            (Some("*"), true),
            (Some("gzip;q=0, *"), false),
            (Some("gzip;q=0.0"), false),
            (Some("deflate, br"), false),
            (Some("gzip;q=x"), false),
        ] {
            let asked: Vec<_> = accept.map(|a| (header::ACCEPT_ENCODING, a)).into_iter().collect();
            let r = ask(file, &asked);
            let words = format!("{accept:?}");
            assert_eq!(header_of(&r, header::CONTENT_ENCODING) == "gzip", packed, "{words}");
            assert_eq!(header_of(&r, header::VARY), "accept-encoding", "{words}");
            assert_eq!(header_of(&r, header::ETAG).ends_with("-gz\""), packed, "{words}");
            let body = r.into_body().collect().await.unwrap().to_bytes();
            let mut text = body.to_vec();
            if packed {
                assert!(body.len() < SCRIPT.len() / 10, "{} bytes", body.len());
                text.clear();
                flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut text).unwrap();
            }
            assert!(text == SCRIPT, "{words}");
        }
        // What would not get smaller has one form.
        let r = ask("assets/app-2.js", &[(header::ACCEPT_ENCODING, "gzip")]);
        assert_eq!((header_of(&r, header::CONTENT_ENCODING), header_of(&r, header::VARY)), ("", ""));
    }

    #[tokio::test]
    async fn who_has_a_form_of_a_file_is_told_that_it_is_still_that() {
        let gzip = (header::ACCEPT_ENCODING, "gzip");
        let [plain, packed] = [vec![], vec![gzip.clone()]].map(|asked| {
            let r = ask("assets/index-abc.js", &asked);
            header_of(&r, header::ETAG).to_owned()
        });
        assert!(plain != packed && ask("index.html", &[]).headers()[header::ETAG] != *plain);
        for (tag, known) in [
            (packed.clone(), true),
            (format!("W/{packed}"), true),
            (format!("\"other\", {packed}"), true),
            ("*".to_owned(), true),
            (plain, false),
            ("\"other\"".to_owned(), false),
        ] {
            let r = ask("assets/index-abc.js", &[gzip.clone(), (header::IF_NONE_MATCH, &tag)]);
            assert_eq!(r.status() == StatusCode::NOT_MODIFIED, known, "{tag}");
            assert_eq!((header_of(&r, header::ETAG), header_of(&r, header::VARY)), (&*packed, "accept-encoding"));
            let empty = r.into_body().collect().await.unwrap().to_bytes().is_empty();
            assert_eq!(empty, known, "{tag}");
        }
    }

    #[test]
    fn without_the_page_the_agent_says_how_to_build_it() {
        let r = answer(&[], "", &HeaderMap::new());
        assert_eq!((r.status(), NO_PAGE.contains("cargo xtask dashboard")), (StatusCode::OK, true));
    }
}
