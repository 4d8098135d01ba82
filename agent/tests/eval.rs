//! `weir eval` as people run it.

mod common;

use common::{file, ok, run, str, strange, text, usual, without};
use serde_json::Value;
use weir_core::record::Have;
use weir_source::write::Form;

fn json(args: &[&str]) -> Value {
    let mut all = vec!["eval", "-o", "json"];
    all.extend(args);
    serde_json::from_str(&ok(&run(&all))).unwrap()
}

fn detection<'v>(said: &'v Value, label: &str) -> &'v Value {
    said["detectors"][0]["detection"].as_array().unwrap().iter().find(|d| d["label"] == label).unwrap()
}

#[test]
fn a_bundle_is_judged_on_flows_it_has_not_seen() {
    let dir = tempfile::tempdir().unwrap();
    let history = file(dir.path(), "history.json", Form::Json, (0..6_000).map(usual));
    let bundle = dir.path().join("bundle");
    ok(&run(&["train", str(&history), "--out", str(&bundle)]));

    // Floods, and an attack that looks like everything else.
    let mut flows: Vec<_> = (20_000..22_000).map(usual).collect();
    flows.extend((0..50).map(strange));
    flows.extend((30_000..30_050).map(|n| {
        let mut o = usual(n);
        o.label = Some("Hidden".into());
        o
    }));
    flows.push(without(Have::BYTES));
    let input = file(dir.path(), "today.json", Form::Json, flows);
    let said = json(&[str(&input), "--bundle", str(&bundle)]);
    assert_eq!(said["benign_judged"], 2_000);
    assert_eq!(said["flows"]["attacks"], serde_json::json!({ "Flood": 50, "Hidden": 50 }));
    let (flood, hidden) = (detection(&said, "Flood"), detection(&said, "Hidden"));
    assert!(flood["roc_auc"].as_f64() > Some(0.99) && flood["tpr"][0] == 1.0, "{flood}");
    // What nobody can tell is not told: neither by an area nor at a threshold.
    let auc = hidden["roc_auc"].as_f64().unwrap();
    assert!((0.35..0.65).contains(&auc) && hidden["tpr"][0].as_f64() < Some(0.15), "{hidden}");
    let mean = (flood["roc_auc"].as_f64().unwrap() + auc) / 2.0;
    assert!((detection(&said, "(macro)")["roc_auc"].as_f64().unwrap() - mean).abs() < 1e-9);

    let alarms = &said["detectors"][0]["false_alarms"][0];
    let (realised, low, high) = (&alarms["realised"], &alarms["low"], &alarms["high"]);
    assert!(realised.as_f64() < Some(0.025), "{alarms}");
    assert!(low.as_f64() <= realised.as_f64() && realised.as_f64() < high.as_f64(), "{alarms}");
    // What `weir replay` calls an anomaly is what is counted here.
    let replayed = ok(&run(&["replay", str(&input), "--bundle", str(&bundle), "-o", "json", "--only-anomalies"]));
    let benign = replayed.lines().filter(|l| l.contains("\"label\":\"Benign\"")).count();
    assert_eq!(alarms["alarms"].as_f64(), Some(benign as f64));

    let page = dir.path().join("report.html");
    let table = ok(&run(&["eval", str(&input), "--bundle", str(&bundle), "--report", str(&page)]));
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(
        page.matches("<svg").count(),
        7,
        "ROC twice, precision and recall, calibration, distributions, time to detect, drift"
    );
    for outside in ["http", "src=", "<script", "@import", "url("] {
        assert!(!page.contains(outside), "the page loads something: {outside}");
    }
    for part in [
        "judged: 2,000 benign flows (2,000 labelled so, 0 without a label in the input), 100 flows of 2 attacks",
        "left out: 1 flows: profile `core` needs what the input does not tell: bytes",
        "False alarms on benign flows, at p-values frozen at calibration\nDetector ",
        "isolation_forest  (macro)",
    ] {
        assert!(table.contains(part), "`{part}` is not in\n{table}");
    }
}

#[test]
fn one_input_is_divided_and_the_same_seed_divides_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let flows = (0..3_000).map(usual).chain((0..40).map(strange));
    let input = file(dir.path(), "day.json", Form::Json, flows);
    let args = [str(&input), "--train-share", "0.6", "--seeds", "2"];
    let said = json(&args);
    assert_eq!(said, json(&args), "the same again");
    let runs = said["runs"].as_array().unwrap();
    assert_eq!(runs.iter().map(|r| r["seed"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    for r in runs {
        let (trained, judged) = (r["trained_on"].as_u64().unwrap(), r["benign_judged"].as_u64().unwrap());
        assert_eq!(trained + judged, 3_000, "each row is on one side");
        assert!((1_500..2_100).contains(&trained), "{trained}");
    }
    assert!(runs[0]["detectors"] != runs[1]["detectors"], "other rows, other results");
    let flood = detection(&said, "Flood");
    let each = runs.iter().map(|r| r["detectors"][0]["detection"][0]["roc_auc"].as_f64().unwrap());
    assert!((flood["roc_auc"].as_f64().unwrap() - each.sum::<f64>() / 2.0).abs() < 1e-9, "{flood}");
    assert!(flood["spread"][0].as_f64() >= Some(0.0), "{flood}");
    assert_eq!(json(&[str(&input), "--train-share", "0.6", "--seed", "2"])["runs"][0], runs[1]);
}

#[test]
fn what_cannot_be_judged_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let input = file(dir.path(), "flows.json", Form::Json, (0..300).map(usual));
    for (args, code, words) in [
        (vec!["--train-share", "1"], 2, "between 0 and 1"),
        (vec!["--seeds", "3"], 2, "--train-share"),
        (vec!["--train-share", "0.5", "--bundle", "x"], 2, "cannot be used with"),
        (vec!["--train-share", "0.5", "-o", "csv"], 2, "it has table, json"),
        (vec!["--train-share", "0.5"], 1, "at least 200 are needed"),
        (vec!["--train-share", "0.5", "--profile", "full"], 1, "needs what the input does not tell: packet statistics"),
        (vec!["--bundle", "/nowhere"], 1, "/nowhere"),
    ] {
        let mut all = vec!["eval", str(&input)];
        all.extend(args);
        let out = run(&all);
        let said = text(&out.stderr);
        assert!(out.status.code() == Some(code) && said.contains(words), "{all:?}: `{words}` is not in\n{said}");
    }
}
