//! The page as a scraper gets it, the documents that name metrics, and what an impatient or slow scraper can do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_common::counters::Reason;
use weir_core::drift::{DriftReport, DriftState, Place, RoleDrift};
use weir_core::profile::ProfileId;
use weir_core::role::Role;

use super::process::Process as Own;
use super::samples::Samples;
use super::table::{self, ALL, Kind};
use super::tally::{ACTIONS, ApiCalls, CallOutcome, Counted, ORIGINS};
use super::text::{Format, write};
use super::*;
use crate::api::rights::{RIGHTS, SERVICE};
use crate::command::{ChallengerReport, Command, Counter, DecisionCount, MapUse, NamedCount, queue};

/// Every role that a calibration can have.
fn roles() -> Vec<Role> {
    let mut all = vec![Role::All];
    for p in ["tcp", "udp", "icmp", "other"] {
        all.push(p.parse().unwrap());
        for d in ["in", "out", "lateral"] {
            all.push(format!("{p}/{d}").parse().unwrap());
            for s in ["web", "name", "login", "mail", "other"] {
                all.push(format!("{p}/{d}/{s}").parse().unwrap());
            }
        }
    }
    all
}

/// An agent in which everything that can be has happened, with as much of it as the bounds allow.
fn fullest() -> Reading {
    let mut status = crate::api::tests::full_status();
    let counter = |r: &Reason| Counter { name: r.name().into(), packets: *r as u64 + 1, bytes: 100 };
    status.counters = Reason::ALL.iter().map(counter).collect();
    status.challenger = Some(ChallengerReport {
        id: "challenger".into(),
        since_us: 0,
        flows: 0,
        epochs_left_out: 0,
        cpu_us: 0,
        differing_sources: 0,
        failed: String::new(),
    });
    let map = |n| MapUse { name: format!("MAP_{n}"), entries: 1, max_entries: 2, bytes: 3 };
    status.maps = (0..8).map(map).collect();
    let count = |(origin, action)| DecisionCount { origin, action, count: 3 };
    let kinds = ORIGINS.iter().flat_map(|(o, _)| ACTIONS.iter().map(|(a, _)| (*o, *a)));
    status.decisions = kinds.map(count).collect();
    let losses = |what: &str| -> Vec<NamedCount> {
        (0..table::LOSSES).map(|n| NamedCount { name: format!("{what} {n}"), count: 1 }).collect()
    };
    if let Some(n) = &mut status.netflow {
        n.dropped = losses("dropped");
    }
    let interface = status.interfaces.remove(0);
    let named = |n: usize| crate::command::InterfaceReport { name: format!("eth{n}"), ..interface.clone() };
    status.interfaces = (0..table::INTERFACES).map(named).collect();
    let mut p_values = PValues::default();
    let mut drift = DriftReport::default();
    let flows = roles().into_iter().map(|role| Place { profile: ProfileId::Core, role });
    let windows = [Role::All, Role::SourceAll, Role::SourceProven];
    for place in flows.chain(windows.map(|role| Place { profile: ProfileId::Source, role })) {
        p_values.add(place.profile, place.role, 0.5);
        drift.roles.push(RoleDrift {
            place,
            state: DriftState::Fine,
            voters: 12,
            withheld: 0,
            effect: 0.1,
            too_much: 0.25,
            at_5_percent: 0.06,
            leads_to_drops: true,
        });
    }
    let delivery = Some(Delivery { delivered: 4, retried: 2, failing: true });
    let sink = |n| SinkUse { name: format!("sink-{n}"), queued: 1, fill: 0.5, lost: 3, delivery };
    Reading {
        status,
        sole: Some("eth0".into()),
        attachments: Some(Attachments {
            attached: 3,
            again: 2,
            let_go: 1,
            failed: crate::fleet::Failure::ALL.map(|(_, name)| (name, 1)).into(),
        }),
        counted: Tally::default().read(),
        drained_flows: 9,
        epochs_failed: 1,
        flows_capacity: 256_000,
        drain: Histogram::seconds(),
        epoch: Histogram::seconds(),
        features: Histogram::seconds(),
        scoring: Histogram::seconds(),
        policy: Histogram::seconds(),
        p_values,
        drift,
        lost: losses("lost"),
        store_lost: losses("rows"),
        store_queue: 4,
        sinks: (0..table::SINKS).map(sink).collect(),
        watchers: 2,
        entries: Entries { written: 5, removed: 4, drift: 1, failures: 0 },
        kernel_entries: Some([7, 8]),
        lease: Some((Duration::from_millis(200), Duration::from_secs(30))),
        questions_open: 1,
        breaker_tripped: false,
        alert_budget_per_day: 10.0,
        alerts_last_day: [3, 1],
    }
}

/// Calls of every name, with every outcome.
fn every_call() -> ApiCalls {
    let calls = ApiCalls::default();
    let names = RIGHTS.iter().map(|(n, _)| format!("/{SERVICE}/{n}")).chain(["/grpc.health.v1.Health/Check".into()]);
    for name in names {
        CallOutcome::ALL.iter().for_each(|(outcome, _)| calls.count(&name, *outcome));
    }
    calls
}

fn full_samples() -> Samples {
    fullest().samples(&Own::read(), &every_call().read())
}

/// Lines of samples by metric.
fn series(page: &str) -> BTreeMap<&str, usize> {
    let mut of = BTreeMap::new();
    for line in page.lines().filter(|l| !l.starts_with('#')) {
        *of.entry(line.split(['{', ' ']).next().unwrap()).or_default() += 1;
    }
    of
}

#[test]
fn series_stay_below_two_thousand_whatever_there_is_to_tell() {
    let most: usize = ALL.iter().map(|m| m.series()).sum();
    assert!(most < 2000, "{most} by the table");
    let samples = full_samples();
    assert_eq!(samples.left_out(), 0, "no metric has more than its table says");
    let page = write(&samples, Format::Prometheus);
    let all: usize = series(&page).values().sum();
    assert!(all < 2000 && all > 800, "{all} series");
    for (metric, samples) in samples.iter() {
        assert!(!samples.is_empty(), "{} is never served", metric.name);
    }
    // A configuration beyond that is cut, and says so.
    let mut more = fullest();
    more.sinks.extend((0..5).map(|n| SinkUse {
        name: format!("more-{n}"),
        queued: 0,
        fill: 0.0,
        lost: 0,
        delivery: None,
    }));
    assert_eq!(more.samples(&Own::default(), &[]).left_out(), 15);
}

#[test]
fn no_label_tells_an_address() {
    let forbidden = ["address", "source", "target", "ip", "host", "client", "server", "peer", "exporter"];
    for m in ALL {
        assert!(m.labels.iter().all(|l| !forbidden.contains(l)), "{}: {:?}", m.name, m.labels);
    }
    let page = write(&full_samples(), Format::Prometheus);
    let status = crate::api::tests::full_status();
    let exporters = status.netflow.iter().flat_map(|n| &n.allowed);
    for address in exporters.map(String::as_str).chain(["192.0.2.", "203.0.113.", "10.0.0.", "2001:db8"]) {
        assert!(!page.contains(address), "{address} is on the page");
    }
}

#[test]
fn every_packet_counts_once() {
    let page = write(&full_samples(), Format::Prometheus);
    let reasons = |metric: &str| -> BTreeSet<String> {
        let of = page.lines().filter(|l| l.starts_with(&format!("{metric}{{")));
        of.map(|l| l.split("reason=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()).collect()
    };
    let (once, marked) = (reasons("weir_packets_total"), reasons("weir_marked_packets_total"));
    assert!(once.is_disjoint(&marked));
    assert_eq!(once.len() + marked.len(), Reason::ALL.len());
    for side in ["in", "out"] {
        for what in ["pass", "overflow", "not_ip", "malformed", "dropped", "limited"] {
            assert!(once.contains(&format!("{side}_{what}")), "{side}_{what}");
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The table of the document, as the code has it.
fn documented() -> String {
    let mut out = String::from("| metric | type | labels | series at most | what it tells |\n|---|---|---|---|---|\n");
    for m in ALL {
        let kind = match m.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
            Kind::Info => "info",
        };
        let labels: Vec<String> = m.labels.iter().map(|l| format!("`{l}`")).collect();
        out += &format!("| `{}` | {kind} | {} | {} | {} |\n", m.name, labels.join(", "), m.series(), m.help);
    }
    out
}

#[test]
fn every_metric_is_documented_and_nothing_else_is() {
    let path = repository().join("deploy/METRICS.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- the table is made by the test that holds it -->\n", "<!-- end of the table -->\n");
    let (head, rest) = page.split_once(begin).expect("the mark of the table's begin");
    let (written, tail) = rest.split_once(end).expect("the mark of the table's end");
    if std::env::var_os("WEIR_WRITE_SNAPSHOT").is_some() {
        return std::fs::write(&path, format!("{head}{begin}{}{end}{tail}", documented())).unwrap();
    }
    for line in documented().lines() {
        assert!(
            written.lines().any(|l| l == line),
            "not as documented (WEIR_WRITE_SNAPSHOT=1 rewrites the table): {line}"
        );
    }
    for line in written.lines() {
        assert!(documented().lines().any(|l| l == line), "documented, and not in the code: {line}");
    }
    // What the text around it names exists as well.
    unknown_names(&format!("{head}{tail}"), "deploy/METRICS.md");
}

/// Names that samples have.
fn sample_names() -> BTreeSet<String> {
    let of = |m: &&table::Metric| match m.kind {
        Kind::Histogram(_) => ["_bucket", "_sum", "_count", ""].map(|s| format!("{}{s}", m.name)).to_vec(),
        _ => vec![m.name.to_owned()],
    };
    ALL.iter().flat_map(of).collect()
}

fn unknown_names(text: &str, place: &str) {
    let known = sample_names();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named: BTreeSet<&str> = words.filter(|w| w.starts_with("weir_") || w.starts_with("process_")).collect();
    for name in named {
        assert!(known.contains(name), "{place} names {name}, which is no metric");
    }
}

fn expressions(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => fields.iter().for_each(|(k, v)| match v.as_str() {
            Some(text) if k == "expr" => into.push(text.to_owned()),
            _ => expressions(v, into),
        }),
        serde_json::Value::Array(items) => items.iter().for_each(|v| expressions(v, into)),
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let text = std::fs::read_to_string(repository().join("deploy/grafana/weir.json")).unwrap();
    let board: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut all = Vec::new();
    expressions(&board["panels"], &mut all);
    let asked = board["templating"]["list"].as_array().unwrap().iter().filter(|v| v["type"] == "query");
    all.extend(asked.map(|v| v["query"].as_str().unwrap().to_owned()));
    assert!(all.len() > 15, "{all:?}");
    for e in &all {
        unknown_names(e, "deploy/grafana/weir.json");
        assert!(e.contains("weir_") || e.contains("process_"), "{e}");
    }
    let panels = board["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|p| p["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "panels have numbers of their own");
    assert!(panels.iter().all(|p| !p["title"].as_str().unwrap().is_empty()));
}

#[test]
fn alerts_ask_for_metrics_that_exist_and_say_what_to_do() {
    let text = std::fs::read_to_string(repository().join("deploy/prometheus/alerts.yml")).unwrap();
    unknown_names(&text, "deploy/prometheus/alerts.yml");
    let rules: serde_json::Value = serde_yaml::from_str(&text).unwrap();
    let all = rules["groups"].as_array().unwrap().iter().flat_map(|g| g["rules"].as_array().unwrap());
    let mut names = BTreeSet::new();
    for rule in all {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name), "{name} twice");
        let annotations = &rule["annotations"];
        assert!(annotations["summary"].as_str().is_some_and(|s| !s.is_empty()), "{name}");
        assert!(annotations["description"].as_str().is_some_and(|s| s.contains("`")), "{name} names no command");
        assert!(matches!(rule["labels"]["severity"].as_str(), Some("critical" | "warning" | "info")), "{name}");
    }
    let cases = std::fs::read_to_string(repository().join("deploy/prometheus/alerts_test.yml")).unwrap();
    for name in names {
        assert!(cases.contains(&format!("alertname: {name}\n")), "no case shows {name}");
    }
}

#[test]
fn promtool_finds_nothing_wrong_with_page_and_rules() {
    let promtool = |args: &[&str], input: Option<&str>| {
        use std::io::Write;
        use std::process::Stdio;
        let folder = repository().join("deploy/prometheus");
        let mut command = Process::new("promtool");
        command.args(args).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().ok()?;
        child.stdin.take().unwrap().write_all(input.unwrap_or_default().as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        Some((out.status.success(), said))
    };
    if promtool(&["--version"], None).is_none() {
        eprintln!("SKIP: promtool_finds_nothing_wrong_with_page_and_rules: no promtool (Debian: prometheus)");
        return;
    }
    for args in [&["check", "rules", "alerts.yml"][..], &["test", "rules", "alerts_test.yml"]] {
        let (fine, said) = promtool(args, None).unwrap();
        assert!(fine, "promtool {args:?}: {said}");
    }
    let page = write(&full_samples(), Format::Prometheus);
    let (fine, said) = promtool(&["check", "metrics"], Some(&page)).unwrap();
    assert!(fine, "promtool check metrics: {said}");
}

/// A server, and how often the event loop was asked.
async fn serving(answer: impl Fn(Command) + Send + 'static) -> (std::net::SocketAddr, Arc<AtomicU32>) {
    let (commands, mut waiting) = queue();
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Some(command) = waiting.recv().await {
            count.fetch_add(1, Ordering::Relaxed);
            answer(command);
        }
    });
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let at = server.local_addr().unwrap();
    tokio::spawn(server.run(commands, Arc::default()));
    (at, asked)
}

fn at_once(command: Command) {
    let Command::Measure { reply } = command else { panic!("{command:?}") };
    drop(reply.send(Ok(Box::new(fullest()))));
}

async fn get(at: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_scraper_gets_the_page_in_the_format_that_it_asks_for() {
    let (at, _) = serving(at_once).await;
    let page = get(at, "GET /metrics HTTP/1.1\r\nHost: weir\r\n\r\n").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("content-type: text/plain; version=0.0.4"), "{page}");
    assert!(
        page.contains("weir_packets_total{interface=\"eth0\",verdict=\"drop\",reason=\"in_dropped\"} 5\n"),
        "{page}"
    );
    let open = "GET /metrics HTTP/1.1\r\nHost: weir\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n";
    let page = get(at, open).await;
    assert!(page.contains("content-type: application/openmetrics-text; version=1.0.0"), "{page}");
    assert!(page.ends_with("# EOF\n") && page.contains("# TYPE weir_packets counter\n"));
    for (request, status) in [
        ("POST /metrics HTTP/1.1\r\nHost: weir\r\nContent-Length: 0\r\n\r\n", "405"),
        ("GET /metrics/../etc/passwd HTTP/1.1\r\nHost: weir\r\n\r\n", "404"),
        ("GET / HTTP/1.1\r\nHost: weir\r\n\r\n", "200"),
        ("HEAD /metrics HTTP/1.1\r\nHost: weir\r\n\r\n", "200"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let answer = get(at, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
    let huge = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(20 << 10));
    assert!(get(at, &huge).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn many_scrapers_ask_the_event_loop_once() {
    let (at, asked) = serving(at_once).await;
    let began = Instant::now();
    let all = (0..10).map(|_| tokio::spawn(get(at, "GET /metrics HTTP/1.1\r\nHost: weir\r\n\r\n")));
    for page in all.collect::<Vec<_>>() {
        assert!(page.await.unwrap().starts_with("HTTP/1.1 200"));
    }
    let most = 1 + began.elapsed().as_millis() / 200;
    assert!(u128::from(asked.load(Ordering::Relaxed)) <= most, "{asked:?} in {:?}", began.elapsed());
}

#[tokio::test]
async fn an_event_loop_that_has_no_time_is_not_waited_for_and_says_so() {
    // Nobody takes commands, and there is no room for more.
    let (commands, _waiting) = queue();
    while commands.try_send(Command::Status { reply: tokio::sync::oneshot::channel().0 }).is_ok() {}
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let at = server.local_addr().unwrap();
    tokio::spawn(server.run(commands, Arc::default()));
    let answer = get(at, "GET /metrics HTTP/1.1\r\nHost: weir\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("try again"), "{answer}");
}

#[tokio::test]
async fn who_asks_too_slowly_is_cut_off_and_others_get_their_page() {
    let (at, _) = serving(at_once).await;
    // As many as one address may have, none of which ever finishes its request.
    let mut slow = Vec::new();
    for _ in 0..15 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").await.unwrap();
        slow.push(stream);
    }
    let page = get(at, "GET /metrics HTTP/1.1\r\nHost: weir\r\n\r\n").await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    let began = Instant::now();
    for mut stream in slow {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "a slow scraper is still connected after {:?}", began.elapsed());
    }
    // And one that never reads.
    let mut deaf = TcpStream::connect(at).await.unwrap();
    deaf.write_all(b"GET /metrics HTTP/1.1\r\nHost: weir\r\n\r\n").await.unwrap();
    let page = get(at, "GET /metrics HTTP/1.1\r\nHost: weir\r\n\r\n").await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
}

#[test]
fn what_happens_is_counted() {
    use weir_core::event::{Event, Level};
    let tally = Tally::default();
    tally.event(&Event::Agent { time_us: 1, level: Level::Info, kind: "test", message: String::new() });
    let Counted { kinds, alerts, decisions, questions } = tally.read();
    assert_eq!(kinds.iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>(), [&("agent", 1)]);
    assert_eq!((alerts.len(), decisions.len(), questions.len()), (3, 63, 4));
    let calls = ApiCalls::default();
    calls.count("/weir.v1.Weir/Status", CallOutcome::Ok);
    calls.count("/weir.v1.Weir/Nothing", CallOutcome::of(tonic::Code::Unimplemented));
    assert_eq!(calls.read(), [("Status", "ok", 1), ("other", "refused", 1)]);
}
