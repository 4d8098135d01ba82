//! Whoever has no business here: no or stale sessions, other sites, other names, too much, too slow.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::web::routes::{ROUTES, Verb};

/// Counts the commands that came through.
async fn counted() -> (Site, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    let count_one = move |_| {
        seen.fetch_add(1, Ordering::SeqCst);
    };
    let site = site(count_one).await;
    (site, count)
}

#[tokio::test]
async fn without_a_login_every_route_is_refused_and_nothing_is_carried_out() {
    let (site, count) = counted().await;
    let origin = format!("http://{}", site.at);
    let paths = ROUTES.iter().map(|r| (r.method.name(), format!("/api/v1/{}", r.path.replace(['{', '}'], ""))));
    let others = ["session", "events", "openapi.json", "nothing"].map(|p| ("GET", format!("/api/v1/{p}")));
    for (method, path) in paths.chain(others) {
        for cookie in ["", "weir_session=", "weir_session=0000"] {
            let headers = [("cookie", cookie), ("origin", &origin), ("x-weir-csrf", "0")];
            let answer = site.ask(method, &path, &headers, "").await;
            assert_eq!(answer.error(), (401, "unauthenticated".into()), "{method} {path}");
        }
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_link_is_good_once_and_sets_a_cookie_that_scripts_and_other_sites_do_not_get() {
    let (site, _) = counted().await;
    let path = format!("/login?code={}", site.code(Role::Viewer));
    assert_eq!(site.ask("HEAD", &path, &[], "").await.status, 405, "a preview of the link does not use it up");
    let first = site.get(&path, &[]).await;
    let cookie = first.header("set-cookie");
    assert_eq!((first.status, first.header("location")), (303, "/"));
    assert!(
        cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict") && cookie.contains("; Path=/"),
        "{cookie}"
    );
    assert!(!cookie.contains("Secure"), "without TLS a browser would throw it away");
    for used in [path.as_str(), "/login", "/login?code=", "/login?code=abc"] {
        let again = site.get(used, &[]).await;
        assert_eq!((again.status, again.header("set-cookie")), (401, ""), "{used}");
        assert!(again.body.contains("used or too old") && again.header("content-type").starts_with("text/html"));
    }
}

#[tokio::test]
async fn who_logs_out_is_out_at_once() {
    let (site, count) = counted().await;
    let user = site.log_in(Role::Operator).await;
    let out = site.as_user(&user, "DELETE", "/api/v1/session", "").await;
    assert!(out.status == 204 && out.header("set-cookie").contains("Max-Age=0"), "{out:?}");
    let stale = site.as_user(&user, "POST", "/api/v1/decisions", "{}").await;
    assert_eq!((stale.error().0, count.load(Ordering::SeqCst)), (401, 0));
}

#[tokio::test]
async fn other_sites_change_nothing_whatever_the_browser_sends_along() {
    let (site, count) = counted().await;
    let user = site.log_in(Role::Operator).await;
    let (own, other) = (format!("http://{}", site.at), format!("http://127.0.0.1:{}", site.at.port() ^ 1));
    let wrong = "0".repeat(64);
    let cases: [(&str, Vec<(&str, &str)>); 8] = [
        ("no origin", vec![("x-weir-csrf", &user.csrf)]),
        ("another origin", vec![("origin", "https://evil.example"), ("x-weir-csrf", &user.csrf)]),
        ("another port", vec![("origin", &other), ("x-weir-csrf", &user.csrf)]),
        ("an opaque origin", vec![("origin", "null"), ("x-weir-csrf", &user.csrf)]),
        ("two origins", vec![("origin", &own), ("origin", "https://evil.example"), ("x-weir-csrf", &user.csrf)]),
        ("no token", vec![("origin", &own)]),
        ("a wrong token", vec![("origin", &own), ("x-weir-csrf", &wrong)]),
        (
            "another site's request",
            vec![("origin", &own), ("sec-fetch-site", "same-site"), ("x-weir-csrf", &user.csrf)],
        ),
    ];
    for (what, mut headers) in cases {
        headers.extend([("cookie", user.cookie.as_str()), ("content-type", "application/json")]);
        let answer = site.ask("POST", "/api/v1/config/reload", &headers, "{}").await;
        assert_eq!(answer.error(), (403, "permission_denied".into()), "{what}");
    }
    let looked = site.get("/api/v1/session", &[("cookie", &user.cookie), ("sec-fetch-site", "cross-site")]).await;
    assert_eq!(looked.status, 403, "nor do they see the token");
    // What a plain form of another site could send.
    let form = [
        ("origin", own.as_str()),
        ("cookie", &user.cookie),
        ("x-weir-csrf", &user.csrf),
        ("content-type", "text/plain"),
    ];
    assert_eq!(site.ask("POST", "/api/v1/config/reload", &form, "{}").await.error().0, 400);
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_that_was_bound_to_our_address_is_refused_and_a_configured_one_is_not() {
    let web = Web { hosts: vec!["weir.example.net".into()], ..Web::default() };
    let site = site_with(web, 8, |_| {}).await;
    let user = site.log_in(Role::Viewer).await;
    for (host, status) in [
        ("evil.example", 421),
        ("evil.example:8470", 421),
        ("192.0.2.1", 421),
        ("", 421),
        ("localhost", 200),
        ("localhost:1234", 200),
        ("weir.example.net", 200),
    ] {
        let answer = site.get("/api/v1/session", &[("host", host), ("cookie", &user.cookie)]).await;
        assert_eq!(answer.status, status, "{host}");
        assert_eq!(site.get("/", &[("host", host)]).await.status, status, "{host}");
    }
    let twice =
        site.get("/api/v1/session", &[("host", "localhost"), ("host", "evil.example"), ("cookie", &user.cookie)]).await;
    assert_eq!(twice.status, 400);
    let absolute =
        site.get("http://evil.example/api/v1/session", &[("host", "localhost"), ("cookie", &user.cookie)]).await;
    assert_eq!(absolute.status, 400);
}

#[tokio::test]
async fn a_viewer_looks_and_changes_nothing() {
    let (site, count) = counted().await;
    let viewer = site.log_in(Role::Viewer).await;
    for route in ROUTES.iter().filter(|r| r.method != Verb::Get) {
        let path =
            format!("/api/v1/{}", route.path.replace(['{', '}'], "").replace("/id", "/1").replace("alert_id", "1"));
        let path = if route.path == "allow" { format!("{path}?target=192.0.2.1") } else { path };
        let answer =
            site.as_user(&viewer, route.method.name(), &path, if route.method == Verb::Post { "{}" } else { "" }).await;
        assert_eq!(answer.error(), (403, "permission_denied".into()), "{} {path}: {answer:?}", route.method.name());
        assert!(answer.body.contains("web:alice may only look"), "{answer:?}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_is_too_large_is_refused_however_it_comes() {
    let (site, count) = counted().await;
    let user = site.log_in(Role::Operator).await;
    let large = format!("{{\"reason\":\"{}\"}}", "x".repeat(100 << 10));
    let told = site.as_user(&user, "POST", "/api/v1/decisions", &large).await;
    assert_eq!(told.error(), (413, "invalid_argument".into()));
    // Its length is not told beforehand.
    let mut stream = TcpStream::connect(site.at).await.unwrap();
    let head = format!(
        "POST /api/v1/decisions HTTP/1.1\r\nhost: {0}\r\norigin: http://{0}\r\ncookie: {1}\r\nx-weir-csrf: {2}\r\n\
         content-type: application/json\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n",
        site.at, user.cookie, user.csrf
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..9 {
        let chunk = format!("2000\r\n{}\r\n", "x".repeat(0x2000));
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let answer = read(&mut stream).await;
    assert_eq!(answer.status, 413, "{answer:?}");
    let long = format!("/api/v1/status?{}", "x".repeat(64 << 10));
    let head = site.get(&long, &[("cookie", &user.cookie)]).await;
    assert!([400, 414, 431].contains(&head.status), "{head:?}");
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

/// As many as one address may have send their request byte by byte: others are served meanwhile, and the slow ones are closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_closed_and_keep_nobody_else_waiting() {
    let (site, _) = counted().await;
    let mut slow = Vec::new();
    for _ in 0..crate::web::CONNECTIONS.1 {
        let mut stream = connect_from("127.0.0.7", site.at).await;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: loc").await.unwrap();
        slow.push(stream);
    }
    // One more from there is closed without a word, from elsewhere it is served at once.
    let mut more = connect_from("127.0.0.7", site.at).await;
    let begun = std::time::Instant::now();
    assert_eq!(read(&mut more).await.status, 0);
    assert_eq!(site.get("/", &[]).await.status, 200);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let dripping = tokio::spawn(async move {
        let mut gone = 0;
        for mut stream in slow {
            let _ = stream.write_all(b"a").await;
            let mut all = Vec::new();
            let ended =
                tokio::time::timeout(crate::web::HEAD + Duration::from_secs(5), stream.read_to_end(&mut all)).await;
            gone += usize::from(ended.is_ok());
        }
        gone
    });
    assert_eq!(dripping.await.unwrap(), crate::web::CONNECTIONS.1, "every one of them was closed");
    let mut back = connect_from("127.0.0.7", site.at).await;
    back.write_all(format!("GET / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", site.at).as_bytes())
        .await
        .unwrap();
    assert_eq!(read(&mut back).await.status, 200, "and their places are free again");
}

#[tokio::test]
async fn every_answer_says_that_nothing_of_elsewhere_runs_here() {
    let (site, _) = counted().await;
    let user = site.log_in(Role::Viewer).await;
    let answers = [
        site.get("/", &[]).await,
        site.get("/nothing.js", &[]).await,
        site.get("/login?code=x", &[]).await,
        site.get("/api/v1/session", &[("cookie", &user.cookie)]).await,
        site.get("/api/v1/status", &[]).await,
        site.get("/", &[("host", "evil.example")]).await,
        site.ask("POST", "/", &[], "").await,
    ];
    for answer in answers {
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{answer:?}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("x-frame-options"), "DENY");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert!(!answer.header("cache-control").is_empty(), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
}
