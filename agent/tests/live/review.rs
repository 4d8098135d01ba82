//! A person is asked before anything is dropped, answers, and takes it back.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::learning::Traffic;
use crate::site::*;
use crate::support::*;

/// Whoever attacks, and a neighbour who does nothing strange.
const BAD: &str = "10.77.0.66";
const GOOD: &str = "10.77.0.10";
const PORT: u16 = 8080;

fn settings(review: &str) -> String {
    format!(
        "home: [{SERVER_V4}/32]\nalert_budget_per_day: 1000\nflow:\n  linger: 0s\nlearn:\n  duration: 20s\n  min_flows: 1000\n  min_windows: 2400\npolicy:\n  busy_share: 100%\n{review}"
    )
}

fn site() -> Site {
    let mut addresses: Vec<String> = (10..34).map(|n| format!("10.77.0.{n}")).collect();
    addresses.push(BAD.into());
    Site::new(&addresses.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Accepts what is connected, until dropped.
struct Listener {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    fn start(site: &Site) -> Self {
        let to = SocketAddr::new(SERVER_V4.parse().unwrap(), PORT);
        let listener = site.server.enter(|| TcpListener::bind(to)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut held = VecDeque::new();
            while !stopping.load(Ordering::Acquire) {
                match listener.accept() {
                    Ok((stream, _)) => held.push_back(stream),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
                if held.len() > 100 {
                    held.pop_front();
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An agent in mode review whose model was learned and promoted. It starts anew behind that, and nobody but the test sends to it:
/// on a busy machine the pace of the others would change, which is drift.
fn taught(site: &Site, review: &str) -> (Agent, Listener) {
    site.configure("review", &settings(review));
    let agent = site.start();
    let traffic = Traffic::start(site);
    wait_for("a bundle", 8 * PATIENCE, || {
        assert!(!agent.own_log().contains("nothing was learned"), "{}", agent.own_log());
        (!site.status()["bundle"].is_null()).then_some(())
    });
    drop(traffic);
    site.ok("model promote");
    agent.stop();
    let agent = site.start();
    let status = site.status();
    assert_eq!((&status["mode_effective"], &status["mode_reason"]), (&"review".into(), &"".into()), "{status}");
    (agent, Listener::start(site))
}

/// Connections to many ports, most of them refused, and real ones to the one that listens.
fn attack(site: &Site, rounds: u32) {
    let from: std::net::IpAddr = BAD.parse().unwrap();
    site.peer.enter(|| {
        for n in 0..rounds {
            let mut held = Vec::new();
            for k in 0..40u16 {
                let port = if k % 2 == 0 { PORT } else { 9000 + (n as u16 * 20 + k) % 900 };
                let to = SocketAddr::new(SERVER_V4.parse().unwrap(), port);
                if let Ok(mut stream) = connect_from(from, to) {
                    let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
                    let _ = stream.write_all(b"root:123456");
                    held.push(stream);
                }
            }
            drop(held);
            std::thread::sleep(Duration::from_millis(150));
        }
    });
}

/// Attacks until the agent asks about it.
fn question(site: &Site) -> Value {
    wait_for("a question", 4 * PATIENCE, || {
        attack(site, 5);
        // One that waits for seconds alone may be over by now.
        site.json("review list --all").into_iter().find(|q| q["source"] == BAD)
    })
}

fn id(q: &Value) -> u64 {
    q["id"].as_u64().unwrap()
}

/// The command with these lines as its standard input.
fn typed(site: &Site, args: &str, lines: &str) -> Output {
    let mut command = site.server.command(WEIR);
    command.arg("--socket").arg(site.path("weir.sock")).args(args.split_whitespace());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn events(site: &Site, change: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(site.path("events.json")).unwrap_or_default();
    let all = log.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    all.filter(|e| e["event_type"] == "question" && e["question"]["change"] == change).collect()
}

#[test]
fn an_attack_is_asked_about_and_what_is_answered_holds_until_it_is_taken_back() {
    if !ready("an_attack_is_asked_about_and_what_is_answered_holds_until_it_is_taken_back") {
        return;
    }
    let site = site();
    let (agent, _listener) = taught(&site, "");
    assert_eq!(site.ok("review list"), "no open questions\n");
    assert!(site.fails("review show 1").contains("there is no question 1"));
    let asked = question(&site);
    let n = id(&asked);
    assert_eq!(
        (&asked["target"], &asked["action"], &asked["unanswered"]),
        (&BAD.into(), &"drop".into(), &"nothing".into())
    );
    assert!(site.passes(BAD, 5353) && site.passes(GOOD, 5353), "nothing is dropped before it is answered");
    wait_for("the event", PATIENCE, || {
        (events(&site, "asked").iter().filter(|e| e["question"]["id"] == n).count() == 1).then_some(())
    });

    let shown = site.json(&format!("review show {n}")).remove(0);
    let options = shown["options"].as_array().unwrap();
    let host = options.iter().find(|o| o["choice"] == "drop" && o["width"] == "host").unwrap();
    assert!(host["collateral"]["flows"].as_u64().unwrap() > 0, "{shown}");
    let prefix = options.iter().find(|o| o["width"] == "prefix").unwrap();
    let of = |o: &Value, what: &str| o["collateral"][what].as_u64().unwrap();
    assert!(of(prefix, "flows") > of(host, "flows") && of(prefix, "hosts") > 20, "{shown}");
    let ordinary = |o: &Value| o["collateral"]["ordinary"].as_f64().unwrap();
    assert!(ordinary(prefix) > ordinary(host), "{shown}");
    assert!(shown["basis"].as_str().unwrap().contains("the record of the last"), "{shown}");
    let words = site.ok(&format!("review show {n}"));
    assert!(words.contains("would have cut:") && words.contains("why it is strange"), "{words}");

    // A kill between asking and answering loses nothing.
    agent.kill();
    let agent = site.start();
    let kept = site.json("review list").into_iter().find(|q| id(q) == n).expect("the question of before");
    assert_eq!((&kept["evidence"].as_str().map(|e| e.len() > 10), &kept["asked"]), (&Some(true), &asked["asked"]));

    // The network holds the host itself: the guard refuses, and the question stays open.
    let refused = site.fails(&format!("review approve {n} --target prefix"));
    assert!(refused.contains("10.77.0.0/24"), "{refused}");
    let answered = site.ok(&format!("review approve {n} --target host --for 1h --comment scan"));
    assert!(answered.contains(&format!("question {n}: drop {BAD} for 1h")), "{answered}");
    assert!(!site.passes(BAD, 5353) && site.passes(GOOD, 5353), "who was meant is dropped, and nobody else");
    let second = site.fails(&format!("review reject {n}"));
    assert!(second.contains("is not open any more: it was answered") && second.contains("review undo"), "{second}");
    let list = site.json("decisions list");
    let made = list.iter().find(|d| d["origin"] == "manual").unwrap();
    assert_eq!((&made["target"], &made["action"], &made["enforced"]), (&BAD.into(), &"drop".into(), &true.into()));
    let reason = made["reason"].as_str().unwrap();
    assert!(reason.contains(&format!("question {n}, alert")) && reason.contains("scan, by uid 0"), "{reason}");

    // What was answered holds over a kill, and so does its way back.
    agent.kill();
    let agent = site.start();
    assert!(!site.passes(BAD, 5353) && site.passes(GOOD, 5353));
    let undone = site.ok(&format!("review undo {n}"));
    assert!(undone.contains("is lifted; it is open again"), "{undone}");
    assert!(site.passes(BAD, 5353) && site.passes(GOOD, 5353), "it passes again");
    assert!(site.fails(&format!("review undo {n}")).contains("no answer that could be taken back"));

    // One after another, by lines.
    let no_terminal = typed(&site, "review", "q\n");
    assert_eq!(no_terminal.status.code(), Some(2), "{}", text(&no_terminal.stderr));
    assert!(text(&no_terminal.stderr).contains("standard input is none"), "{}", text(&no_terminal.stderr));
    let drop_host = host["number"].as_u64().unwrap();
    let out = typed(&site, "review --plain", &format!("99\n{drop_host}\nsoon\n2h\nby hand\n"));
    let said = text(&out.stdout);
    assert!(
        out.status.success() && said.contains("`99` is none of them") && said.contains("is no length of time"),
        "{said}"
    );
    assert!(said.contains(&format!("drop {BAD} for 2h")), "{said}");
    assert!(!site.passes(BAD, 5353) && site.passes(GOOD, 5353));
    let changes =
        ["asked", "answered", "undone"].map(|c| events(&site, c).iter().filter(|e| e["question"]["id"] == n).count());
    assert_eq!(changes, [1, 2, 1]);
    agent.stop();
}

#[test]
fn silence_does_what_it_was_to_do_and_a_false_alarm_ends_the_alerts() {
    if !ready("silence_does_what_it_was_to_do_and_a_false_alarm_ends_the_alerts") {
        return;
    }
    let site = site();
    let (agent, _listener) = taught(&site, "review: {ttl: 3s, unanswered: nothing}\n");
    let first = id(&question(&site));
    let lapsed = |n: u64| {
        wait_for("the question's end", PATIENCE, || {
            let all = site.json("review list --all");
            all.into_iter().find(|q| id(q) == n && q["state"] == "unanswered")
        })
    };
    assert_eq!(lapsed(first)["came_to"], "nobody answered: nothing is done");
    assert!(site.passes(BAD, 5353) && site.passes(GOOD, 5353), "silence is no answer");
    let late = site.fails(&format!("review approve {first}"));
    assert!(late.contains("nobody answered until"), "{late}");

    site.configure("review", &settings("review: {ttl: 3s, unanswered: act}\n"));
    site.ok("config reload");
    let second = id(&wait_for("a question that is carried out", 4 * PATIENCE, || {
        attack(&site, 5);
        let all = site.json("review list --all");
        all.into_iter().find(|q| q["source"] == BAD && q["unanswered"] == "act")
    }));
    let done = lapsed(second);
    assert!(done["came_to"].as_str().unwrap().contains(&format!("nobody answered: drop {BAD} for 1h")), "{done}");
    wait_for("the drop", PATIENCE, || (!site.passes(BAD, 5353)).then_some(()));
    assert!(site.passes(GOOD, 5353));

    // It was a false alarm after all: what was decided because of it is lifted, and the same is not held against it.
    let alert = done["alert_id"].as_u64().unwrap();
    let labelled =
        site.ok(&format!("alerts label {alert} false --scope source,any-feature --for 1d --comment load-test"));
    assert!(
        labelled.contains("is labelled: false alarm") && labelled.contains(&format!("suppression 1: {BAD}")),
        "{labelled}"
    );
    assert!(site.passes(BAD, 5353) && site.passes(GOOD, 5353), "the drop is lifted");
    assert!(site.fails(&format!("alerts label {alert} true")).contains("labelled already"));
    let raised = || site.json(&format!("alerts list {BAD}")).len();
    let before = raised();
    wait_for("an alert that is not raised", 4 * PATIENCE, || {
        attack(&site, 5);
        let s = site.json("suppressions list").remove(0);
        (s["alerts"].as_u64() >= Some(1)).then_some(())
    });
    assert_eq!(raised(), before, "the same traffic again raises none");
    assert!(site.passes(BAD, 5353));
    assert!(site.ok("suppressions list").contains("suppressed 1 since"), "{}", site.ok("suppressions list"));

    let exported = site.ok("labels export");
    let flows: Vec<Value> = exported.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(
        !flows.is_empty() && flows.iter().all(|f| f["label"] == "Benign" && f["src_ip"] == BAD),
        "{:?}",
        flows.first()
    );
    // It is what `weir train` takes, beside flows that nobody has said anything about.
    let [labelled, others] = ["labelled.json", "others.json"].map(|name| site.path(name));
    std::fs::write(&labelled, &exported).unwrap();
    let recorded = site.ok("flows --recorded -o json");
    std::fs::write(&others, recorded.lines().filter(|l| !l.contains(BAD)).collect::<Vec<_>>().join("\n")).unwrap();
    let bundle = site.path("anew");
    let [a, b, out] = [&labelled, &others, &bundle].map(|p| p.display());
    let trained = site.ok(&format!("train {a} {b} --profile core --out {out}"));
    let used = format!("used: {} flows labelled as benign, ", flows.len());
    assert!(trained.contains(&used) && !trained.contains(", 0 without a label"), "`{used}` is not in\n{trained}");

    // Both outlive a kill; taking the label back ends the suppression.
    agent.kill();
    let agent = site.start();
    assert_eq!(site.json("suppressions list").len(), 1);
    let label = site.json("labels list").remove(0);
    assert_eq!(
        (&label["truth"], &label["comment"], &label["alert_id"]),
        (&"false alarm".into(), &"load-test".into(), &alert.into())
    );
    site.ok(&format!("labels undo {}", label["id"]));
    assert_eq!(site.ok("suppressions list"), "no suppressions\n");
    wait_for("an alert once more", 4 * PATIENCE, || {
        attack(&site, 5);
        (raised() > before).then_some(())
    });
    agent.stop();
}
