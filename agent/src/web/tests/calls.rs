//! REST as the page uses it: the same commands as by gRPC, answers in JSON.

use std::sync::Mutex;

use tokio_rustls::TlsConnector;
use weir_core::decision::{Action, Decision, Origin, Sides};

use super::*;
use crate::command::{CommandError, DecisionReport, LiveCommand};
use crate::live::tests::score;
use crate::proto::TrafficPoint;

fn report(id: u64, reason: &str) -> DecisionReport {
    DecisionReport {
        decision: Decision {
            id,
            target: "203.0.113.9".parse().unwrap(),
            action: Action::Drop,
            limit: None,
            sides: Sides::Both,
            origin: Origin::Manual,
            created_us: 5,
            expires_us: None,
            reason: reason.into(),
            instead_of: None,
            alert_id: None,
        },
        enforced: true,
        awaiting_confirmation: false,
        packets: 7,
        bytes: 420,
        last_hit_us: None,
        note: String::new(),
        course: None,
    }
}

#[tokio::test]
async fn what_the_page_asks_for_is_the_same_command_with_the_session_as_its_caller() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let site = site(move |command| match command {
        Command::AddDecision { new, reply } => {
            log.lock().unwrap().push(format!(
                "{} {} by {}: {}",
                new.target,
                new.lifetime.unwrap().as_secs(),
                new.by,
                new.reason
            ));
            drop(reply.send(Ok(report(9, &new.reason_with_caller()))));
        }
        Command::DeleteDecision { which, by, reply } => {
            log.lock().unwrap().push(format!("{which} by {by} ({})", by.role));
            drop(reply.send(Ok(vec![report(9, "").decision])));
        }
        Command::ConfirmDecision { id, reply, .. } => {
            drop(reply.send(Err(CommandError::Refused(format!("decision {id} does not await confirmation")))));
        }
        Command::GetAlert { id, reply } => {
            drop(reply.send(Err(CommandError::NotFound(format!("there is no alert {id}")))))
        }
        other => panic!("{other:?}"),
    })
    .await;
    let user = site.log_in(Role::Operator).await;
    let body = r#"{"target":"203.0.113.9","action":"ACTION_DROP","lifetime_us":3600000000,"reason":"scan"}"#;
    let added = site.as_user(&user, "POST", "/api/v1/decisions", body).await;
    assert_eq!((added.status, added.header("content-type")), (200, "application/json"), "{added:?}");
    let decision = &added.json()["decision"];
    assert_eq!(decision["decision"]["reason"], "scan, by web:alice");
    assert_eq!((&decision["enforced"], &decision["packets"], &decision["note"]), (&true.into(), &7.into(), &"".into()));
    let gone = site.as_user(&user, "DELETE", "/api/v1/decisions/9", "").await;
    assert_eq!((gone.status, &gone.json()["deleted"][0]["id"]), (200, &9.into()), "{gone:?}");
    assert_eq!(*seen.lock().unwrap(), ["203.0.113.9 3600 by web:alice: scan", "decision 9 by web:alice (operator)"]);

    let refused = site.as_user(&user, "POST", "/api/v1/decisions/8/confirm", "").await;
    assert_eq!(refused.error(), (409, "failed_precondition".into()), "{refused:?}");
    assert!(refused.body.contains("decision 8 does not await confirmation"));
    assert_eq!(site.as_user(&user, "GET", "/api/v1/alerts/7", "").await.error(), (404, "not_found".into()));
    assert_eq!(site.as_user(&user, "GET", "/api/v1/alerts/x", "").await.error(), (400, "invalid_argument".into()));
    assert_eq!(site.as_user(&user, "GET", "/api/v1/nothing", "").await.error(), (404, "not_found".into()));
    let wrong = site.as_user(&user, "DELETE", "/api/v1/status", "").await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, "GET"));
    for bad in ["{", "[]", r#"{"target":5}"#, r#"{"colour":"red"}"#, r#"{"target":"x","action":"ACTION_DROP"}"#] {
        assert_eq!(site.as_user(&user, "POST", "/api/v1/decisions", bad).await.error().0, 400, "{bad}");
    }
}

#[tokio::test]
async fn script_in_what_is_shown_stays_text_in_json() {
    const EVIL: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>";
    let site = site(|command| match command {
        Command::ListDecisions { reply } => drop(reply.send(Ok(vec![report(1, EVIL)]))),
        Command::GetAlert { reply, .. } => drop(reply.send(Err(CommandError::NotFound(EVIL.into())))),
        other => panic!("{other:?}"),
    })
    .await;
    let user = site.log_in(Role::Viewer).await;
    let listed = site.as_user(&user, "GET", "/api/v1/decisions", "").await;
    assert_eq!(listed.json()["decisions"][0]["decision"]["reason"], EVIL, "as it is");
    let failed = site.as_user(&user, "GET", "/api/v1/alerts/1", "").await;
    assert_eq!(failed.json()["error"]["message"], EVIL);
    let page = site.as_user(&user, "GET", "/api/v1/%3Cscript%3Ealert(1)%3C%2Fscript%3E", "").await;
    for answer in [listed, failed, page] {
        assert_eq!(
            (answer.header("content-type"), answer.header("x-content-type-options")),
            ("application/json", "nosniff")
        );
    }
}

#[tokio::test]
async fn rates_and_scores_come_from_memory_and_never_bother_the_event_loop() {
    let site = site(|command| panic!("{command:?}")).await;
    let user = site.log_in(Role::Viewer).await;
    for t in 1..=3 {
        let point = TrafficPoint { time_us: t, packets_passed: 10 * t, flows_live: 4, ..Default::default() };
        site.live.second(point, [vec![score(t, 0.001)], vec![score(t, 0.5)]]);
    }
    let traffic = site.as_user(&user, "GET", "/api/v1/traffic?since_us=1", "").await.json();
    let passed: Vec<_> =
        traffic["points"].as_array().unwrap().iter().map(|p| p["packets_passed"].as_u64().unwrap()).collect();
    assert_eq!((passed, &traffic["points"][0]["bytes_dropped"]), (vec![20, 30], &0.into()));
    let scores = site.as_user(&user, "GET", "/api/v1/scores?limit=2", "").await.json();
    assert_eq!(scores["points"].as_array().unwrap().len(), 2);
    assert_eq!((&scores["points"][0]["flow_id"], &scores["points"][0]["source"]), (&"3".into(), &"192.0.2.1".into()));
    let document = site.as_user(&user, "GET", "/api/v1/openapi.json", "").await;
    assert_eq!(document.json()["openapi"], "3.1.0");
}

#[tokio::test]
async fn the_record_is_asked_with_what_the_page_filled_in_and_empty_fields_are_none() {
    let asked = Arc::new(Mutex::new(None));
    let to = asked.clone();
    let site = site(move |command| match command {
        Command::Live(LiveCommand::SearchFlows { query, reply }) => {
            *to.lock().unwrap() = Some(query);
            drop(reply.send(Ok(crate::live::search::Found { more: true, note: "cut".into(), ..Default::default() })));
        }
        other => panic!("{other:?}"),
    })
    .await;
    let user = site.log_in(Role::Viewer).await;
    let found = site
        .as_user(&user, "GET", "/api/v1/flows?address=10.0.0.0%2F8&port=443&proto=&min_score=0.99&until_us=90", "")
        .await;
    assert_eq!((&found.json()["more"], &found.json()["note"]), (&true.into(), &"cut".into()));
    let query = asked.lock().unwrap().take().unwrap();
    assert_eq!((query.within, query.port, query.proto), (Some("10.0.0.0/8".parse().unwrap()), Some(443), None));
    assert_eq!((query.min_score, query.until_us, query.limit), (Some(0.99), 90, 100));
}

/// Only those on this host make logins, and not through the page.
#[tokio::test]
async fn the_page_makes_no_logins() {
    let site = site(|command| panic!("{command:?}")).await;
    let user = site.log_in(Role::Operator).await;
    for path in ["/api/v1/web/login", "/api/v1/login", "/weir.v1.Weir/CreateWebLogin"] {
        assert!(site.as_user(&user, "POST", path, "{}").await.status >= 400, "{path}");
    }
}

#[tokio::test]
async fn with_tls_the_page_is_served_by_it_alone_and_the_cookie_stays_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, root_der) = certificate(dir.path());
    let site = site_with(Web { tls: Some(tls), ..Web::default() }, 8, |_| {}).await;
    let login = site.access.web().issue("alice", None, &root()).unwrap();
    assert!(login.url.starts_with("https://127.0.0.1:"), "{}", login.url);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root_der.into()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(crate::api::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(site.at).await.unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    let code = login.url.rsplit_once("code=").unwrap().1;
    let text = format!("GET /login?code={code} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let answer = read(&mut stream).await;
    assert!(answer.status == 303 && answer.header("set-cookie").contains("; Secure"), "{answer:?}");
    assert_eq!(site.get("/", &[]).await.status, 0, "nothing without TLS");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_told_and_nothing_is_served() {
    let web = Web {
        tls: Some(WebTls { cert: "/nonexistent/c.pem".into(), key: "/nonexistent/k.pem".into() }),
        ..Web::default()
    };
    let (commands, _waiting) = queue();
    let dir = tempfile::tempdir().unwrap();
    let mut doors = Doors::from(ControlSocket::bind(&dir.path().join("weir.sock"), None).unwrap());
    doors.web = Some(Web { listen: WebListen("127.0.0.1:0".parse().unwrap()), ..web });
    let access = doors.access.clone();
    tokio::spawn(crate::api::serve(doors, commands, EventBus::new(8), Arc::new(Plain), std::future::pending()));
    for _ in 0..200 {
        if access.web().problem().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let e = access.web().issue("x", None, &root()).unwrap_err().to_string();
    assert!(e.contains("the web page is not served: `web.tls`") && e.contains("/nonexistent/c.pem"), "{e}");
}
