//! `weir replay --decisions` and the sources of `weir eval`, as people run them.

mod common;

use std::path::{Path, PathBuf};

use common::{file, ok, run, str, text, usual};
use serde_json::Value;
use weir_core::record::{FlowState, Totals};
use weir_source::Observation;
use weir_source::write::Form;

const SCANNER: &str = "203.0.113.9";

/// A bundle of usual flows.
fn bundle(dir: &Path) -> PathBuf {
    let history = file(dir, "history.json", Form::Json, (0..6_000).map(usual));
    let bundle = dir.join("bundle");
    ok(&run(&["train", str(&history), "--out", str(&bundle)]));
    bundle
}

/// One of ten probes a second, each to another port, most of them unanswered.
fn probe(n: u64) -> Observation {
    let mut o = usual(1_000_000 + n);
    o.label = None;
    let r = &mut o.record;
    r.client = SCANNER.parse().unwrap();
    (r.server_port, r.client_port) = (1 + (n % 60_000) as u16, 50_000);
    r.start_us = usual(20_000).record.start_us + n * 100_000;
    r.end_us = r.start_us;
    r.fwd = Totals { packets: 1, bytes: 40, payload: 0 };
    (r.bwd, r.state, r.proven) = (Totals::default(), FlowState::Unanswered, false);
    o
}

/// Connections that hardly differ from one another, many from one address.
fn hammer(n: u64, proven: bool) -> Observation {
    let mut o = usual(3_000_000);
    o.label = Some("Bruteforce".into());
    let r = &mut o.record;
    r.flow_id = 5_000_000 + n;
    r.client = "203.0.113.77".parse().unwrap();
    (r.server_port, r.client_port) = (22, 10_000 + (n % 50_000) as u16);
    r.start_us = usual(20_000).record.start_us + n * 50_000;
    r.end_us = r.start_us + 20_000;
    r.proven = proven;
    o
}

fn today(dir: &Path, attack: impl Iterator<Item = Observation>) -> PathBuf {
    let mut flows: Vec<_> = (20_000..23_000).map(usual).chain(attack).collect();
    flows.sort_by_key(|o| o.record.end_us);
    file(dir, "today.json", Form::Json, flows)
}

fn lines(said: &str) -> Vec<Value> {
    said.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn a_scan_among_usual_clients_is_alerted_about_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path());
    let input = today(dir.path(), (0..400).map(probe));
    let replay = |more: &[&str]| {
        let mut args = vec!["replay", "--decisions", str(&input), "--bundle", str(&bundle)];
        args.extend(more);
        run(&args)
    };
    let out = replay(&["-o", "json"]);
    let events = lines(&ok(&out));
    let alerts: Vec<_> = events.iter().filter(|e| e["event_type"] == "alert").collect();
    assert!(!alerts.is_empty() && alerts.iter().all(|a| a["src_ip"] == SCANNER), "{events:#?}");
    let reasons = alerts[0]["anomaly"]["reasons"].as_array().unwrap();
    assert!(!reasons.is_empty() && reasons[0]["words"].as_str().is_some_and(|w| w.contains("usually")), "{alerts:#?}");
    // Unanswered probes prove nothing about who sent them: they are counted and not dropped.
    let decisions: Vec<_> = events.iter().filter(|e| e["event_type"] == "decision").collect();
    assert!(!decisions.is_empty() && decisions.iter().all(|d| d["decision"]["action"] == "shadow"), "{events:#?}");

    let out = replay(&[]);
    let table = ok(&out);
    let row = table.lines().find(|l| l.contains(SCANNER)).expect("a row for the scanner");
    assert!(table.starts_with("Timestamp") && row.contains("shadow") && row.contains("usually"), "{table}");
    assert!(!table.contains("192.0.2."), "{table}");
    let said = text(&out.stderr);
    for part in ["mode enforce: as if the bundle was promoted", "replayed: 1 sources alerted about, 0 of them dropped"]
    {
        assert!(said.contains(part), "`{part}` is not in\n{said}");
    }
    let csv = ok(&replay(&["-o", "csv"]));
    assert!(csv.starts_with("action,evidence,") && csv.contains(SCANNER), "{csv}");
    let kept = dir.path().join("decisions.json");
    assert_eq!(ok(&replay(&["--out", str(&kept)])), "");
    assert_eq!(lines(&std::fs::read_to_string(kept).unwrap()), events, "the name says how it is written");
    // In mode observe nothing is entered, and whoever is at home is never stopped.
    for more in [&["--mode", "observe"][..], &["--home", "203.0.113.0/24"]] {
        let table = ok(&replay(more));
        assert!(table.contains("alert (") && !table.contains("shadow "), "{table}");
    }
}

#[test]
fn proof_is_what_the_input_shows_or_what_a_person_takes_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path());
    let actions = |proven: bool, more: &[&str]| {
        let input = today(dir.path(), (0..1_200).map(|n| hammer(n, proven)));
        let mut args = vec!["replay", "--decisions", str(&input), "--bundle", str(&bundle), "-o", "json"];
        args.extend(more);
        let out = run(&args);
        let events = lines(&ok(&out));
        let of = |e: &&Value| e["event_type"] == "decision" && e["decision"]["change"] == "added";
        let added: Vec<_> = events.iter().filter(of).map(|e| e["decision"].clone()).collect();
        assert!(events.iter().any(|e| e["event_type"] == "alert"), "{events:#?}");
        (added, text(&out.stderr))
    };
    let drops = |added: &[Value]| added.iter().filter(|d| d["action"] == "drop").count();
    let (added, _) = actions(true, &[]);
    assert_eq!(drops(&added), 1, "{added:#?}");
    assert_eq!(added.iter().find(|d| d["action"] == "drop").unwrap()["target"], "203.0.113.77");
    let (added, said) = actions(false, &[]);
    assert_eq!(drops(&added), 0, "{added:#?}");
    assert!(said.contains("answered TCP flows come without sequence numbers"), "{said}");
    let (added, said) = actions(false, &["--trust-sources"]);
    assert_eq!(drops(&added), 1, "{added:#?}");
    assert!(!said.contains("without sequence numbers"), "{said}");
    let (added, _) = actions(true, &["--allow", "203.0.113.77"]);
    assert!(added.is_empty(), "{added:#?}");
}

#[test]
fn an_evaluation_says_when_sources_are_found_and_who_is_accused_wrongly() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path());
    let input = today(dir.path(), (0..400).map(probe).chain((0..1_200).map(|n| hammer(n, true))));
    let eval = |more: &[&str]| {
        let mut args = vec!["eval", str(&input), "--bundle", str(&bundle)];
        args.extend(more);
        ok(&run(&args))
    };
    let said: Value = serde_json::from_str(&eval(&["--malicious", SCANNER, "-o", "json"])).unwrap();
    let s = &said["sources"];
    assert_eq!((s["malicious"].as_f64(), s["alerted"].as_f64()), (Some(2.0), Some(2.0)), "{s:#}");
    assert_eq!((s["blocked"].as_f64(), s["benign"].as_f64()), (Some(1.0), Some(250.0)), "{s:#}");
    assert_eq!((s["false_alerts"].as_f64(), s["false_blocks"].as_f64()), (Some(0.0), Some(0.0)), "{s:#}");
    let u = &s["until_alerted"];
    assert!(u["flows_worst"].as_u64() < Some(400) && u["seconds_worst"].as_f64() < Some(40.0), "{u}");
    assert!(u["flows_median"].as_f64() > Some(1.0) && u["seconds_median"].as_f64() > Some(0.0), "{u}");
    assert_eq!(said["flows"]["attacks"]["(named malicious)"], 400, "its flows are attacks one by one as well");
    let drifts = said["drift"].as_array().unwrap();
    assert!(drifts.len() == 16 && drifts.iter().all(|d| d["distance"].as_f64() < Some(0.1)), "{drifts:?}");
    assert_eq!(said["trained_on_time_of"], 0);

    // Nobody said that the scanner is malicious: then it is a false alarm, by name.
    let page = dir.path().join("report.html");
    let table = eval(&["--report", str(&page)]);
    for part in [
        "malicious sources alerted about: 1 of 1; until then median ",
        "251 benign ones (1 of them without any label)",
        "false alert: 2025-01-01T00:0",
        &format!(" {SCANNER}: evidence "),
        "of 16 features of the benign flows have moved by 0.1 or more since training",
    ] {
        assert!(table.contains(part), "`{part}` is not in\n{table}");
    }
    let page = std::fs::read_to_string(page).unwrap();
    for part in ["Time to detect", "Drift of benign flows since training", "203.0.113.77", "alerted (1 of 1)"] {
        assert!(page.contains(part), "`{part}` is not in the page");
    }
    // What it was trained on is known again by its time.
    let history = dir.path().join("history.json");
    let again = ok(&run(&["eval", str(&history), "--bundle", str(&bundle)]));
    assert!(again.contains("of the benign flows lie in the time that the bundle was trained on"), "{again}");
}

#[test]
fn sources_are_divided_anew_with_each_seed_or_it_is_said_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let input = today(dir.path(), (0..400).map(probe).chain((0..1_200).map(|n| hammer(n, true))));
    let args = ["eval", str(&input), "--train-share", "0.6", "--seeds", "2", "--malicious", SCANNER, "-o", "json"];
    let said: Value = serde_json::from_str(&ok(&run(&args))).unwrap();
    let s = &said["sources"];
    assert_eq!((s["runs"].as_u64(), s["alerted"].as_f64()), (Some(2), Some(2.0)), "{said:#}");
    let benign = s["benign"].as_f64().unwrap();
    assert!((60.0..140.0).contains(&benign), "40% of 250 sources are judged, not {benign}");

    let timeless = (0..1_000).map(|n| {
        let mut o = usual(n);
        o.record.have = o.record.have.without(weir_core::record::Have::TIME);
        o
    });
    let input = file(dir.path(), "timeless.json", Form::Json, timeless);
    let table = ok(&run(&["eval", str(&input), "--train-share", "0.5"]));
    assert!(table.contains("Sources are not judged: ") && table.contains("do not tell time"), "{table}");
    let table = ok(&run(&["eval", str(&input), "--train-share", "0.5", "--flows-only"]));
    assert!(table.contains("Sources are not judged: --flows-only"), "{table}");
}

#[test]
fn what_cannot_be_replayed_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let flows = file(dir.path(), "flows.json", Form::Json, (0..3_000).map(usual));
    let core = dir.path().join("core");
    ok(&run(&["train", str(&flows), "--profile", "core", "--out", str(&core)]));
    for (args, code, words) in [
        (vec!["--decisions", "--bundle", str(&core)], 1, "it has no profile `source`"),
        (vec!["--decisions", "--bundle", str(&core), "-o", "parquet"], 2, "parquet is for flows"),
        (vec!["--decisions", "--only-anomalies"], 2, "cannot be used with"),
        (vec!["--mode", "shadow"], 2, "--decisions"),
        (vec!["--decisions", "--config", "/nowhere.yaml"], 2, "/nowhere.yaml"),
    ] {
        let mut all = vec!["replay", str(&flows)];
        all.extend(args);
        let out = run(&all);
        let said = text(&out.stderr);
        assert!(out.status.code() == Some(code) && said.contains(words), "{all:?}: `{words}` is not in\n{said}");
    }
}
