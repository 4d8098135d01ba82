//! `weir model` as people run it without an agent: what bundles are, whether they may serve, and what one would do otherwise than
//! another.

mod common;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::{crafted, file, ok, run, str, text, usual};
use serde_json::Value;
use weir_core::record::{FlowState, Totals};
use weir_source::Observation;
use weir_source::write::Form;

/// A bundle of usual flows, trained once.
fn bundle() -> &'static Path {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle");
        train(dir.path(), "usual.json", (0..2_000).map(usual), &path);
        (dir, path)
    });
    path
}

fn train(dir: &Path, name: &str, flows: impl IntoIterator<Item = Observation>, out: &Path) {
    let input = file(dir, name, Form::Json, flows);
    ok(&run(&["train", str(&input), "--out", str(out), "--window", "1s"]));
}

fn json(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

#[test]
fn a_bundle_is_described_without_an_agent() {
    let said = ok(&run(&["model", "inspect", str(bundle())]));
    for part in [
        "origin      2000 flows and ",
        "windows     1s long\n",
        "evidence    alert at ",
        "for         an agent (`weir model load`) and files",
        "profile core: 16 features, ",
        "profile source: 18 features, ",
        "isolation_forest  core.isolation_forest.onnx",
        "SMALLEST RATE",
    ] {
        assert!(said.contains(part), "`{part}` is not in\n{said}");
    }
    let found = json(&ok(&run(&["model", "inspect", str(bundle()), "-o", "json"])));
    let core = &found["profiles"][0];
    assert_eq!((&found["window_us"], &core["features"][3]["transform"]), (&1_000_000.into(), &"log1p".into()));
    assert_eq!((&core["models"][0]["problem"], core["models"][0]["sha256"].as_str().unwrap().len()), (&"".into(), 64));
    let rate = core["roles"][0]["smallest_rate"].as_f64().unwrap();
    assert!((rate * (core["roles"][0]["calibration_2"].as_f64().unwrap() + 1.0) - 1.0).abs() < 1e-9, "{core}");

    let dir = tempfile::tempdir().unwrap();
    let damaged = crafted::copy(bundle(), dir.path().join("damaged"));
    std::fs::write(damaged.join("core.autoencoder.onnx"), "nothing").unwrap();
    let said = ok(&run(&["model", "inspect", str(&damaged)]));
    assert!(said.contains("for         no agent: core.autoencoder.onnx: it has SHA-256"), "{said}");
    let out = run(&["model", "inspect", str(dir.path())]);
    assert!(out.status.code() == Some(1) && text(&out.stderr).contains("manifest.yaml"), "{}", text(&out.stderr));
}

#[test]
fn whatever_could_harm_an_agent_is_refused_within_5_s_with_the_reason() {
    let said = ok(&run(&["model", "verify", str(bundle())]));
    assert!(said.contains(" is fine: bundle ") && said.contains("profiles core, source; the hashes and "), "{said}");
    let dir = tempfile::tempdir().unwrap();
    for (name, spoil, words) in crafted::refused() {
        let spoilt = crafted::copy(bundle(), dir.path().join(name.replace(' ', "-")));
        spoil(&spoilt);
        let begin = Instant::now();
        let out = run(&["model", "verify", str(&spoilt)]);
        let (took, said) = (begin.elapsed(), text(&out.stderr));
        assert_eq!(out.status.code(), Some(1), "{name}: {said}{}", text(&out.stdout));
        for part in words {
            assert!(said.contains(part), "{name}: `{part}` is not in\n{said}");
        }
        assert!(took < Duration::from_secs(5), "{name} took {took:?}: {said}");
        if name == "corrupt" {
            let out = run(&["model", "verify", str(&spoilt), "-o", "json"]);
            let said = json(&text(&out.stdout));
            assert_eq!((out.status.code(), &said["ok"]), (Some(1), &false.into()), "{said}");
        }
    }
}

/// Requests of `client` to one port after the other, none answered: 40 a second from the given one on.
fn scan(client: impl Fn(u64) -> String, from_s: u64, seconds: u64) -> impl Iterator<Item = Observation> {
    (0..40 * seconds).map(move |n| {
        let mut o = usual(n);
        let r = &mut o.record;
        r.start_us = 1_735_689_600_000_000 + from_s * 1_000_000 + n * 25_000;
        r.end_us = r.start_us + 1_000;
        (r.flow_id, r.client, r.server_port) = (1_000_000 + n, client(n).parse().unwrap(), 1 + n as u16);
        (r.client_port, r.state) = (50_000, FlowState::Unanswered);
        (r.fwd, r.bwd) = (Totals { packets: 1, bytes: 60, payload: 0 }, Totals::default());
        o.label = None;
        o
    })
}

#[test]
fn two_bundles_are_compared_over_what_was_recorded() {
    let dir = tempfile::tempdir().unwrap();
    // The other one was taught that such requests are usual, from everybody now and then.
    let other = dir.path().join("other");
    let flows = (0..2_000).map(usual).chain(scan(|n| format!("192.0.2.{}", n % 250), 0, 40));
    train(dir.path(), "with-scans.json", flows, &other);
    // To a third one, no evidence is ever enough.
    let deaf = crafted::copy(bundle(), dir.path().join("deaf"));
    crafted::deafen(&deaf);
    // Somebody scans for 20 s; a flood is labelled as what it is.
    let labelled = (0..20).map(common::strange);
    let one = |_| "192.0.2.9".to_owned();
    let day =
        file(dir.path(), "day.json", Form::Json, (5_000..7_000).map(usual).chain(scan(one, 110, 20)).chain(labelled));

    let compare =
        |a: &Path, b: &Path| json(&ok(&run(&["model", "compare", str(a), str(b), "--over", str(&day), "-o", "json"])));
    let c = compare(bundle(), &other);
    let profile = |name: &str| c["profiles"].as_array().unwrap().iter().find(|p| p["name"] == name).unwrap().clone();
    let core = profile("core");
    assert_eq!(
        (&core["rows"], &core["attacks"], &core["attacks_a"]),
        (&2_800.into(), &20.into(), &20.into()),
        "{core}"
    );
    // 800 of them: to one model stranger than anything it has seen, to the other nothing new.
    assert!(core["anomalies_a"].as_u64() > Some(600) && core["shift"].as_f64() > Some(0.2), "{core}");
    let at = &core["rates"][1];
    assert!(at["a"].as_f64() > Some(0.25) && at["b"].as_f64() < Some(0.1), "{core}");
    assert!(profile("source")["rows"].as_u64() > Some(100), "{c}");

    let c = compare(bundle(), &deaf);
    let sources = &c["sources"];
    // The scanner, and the 20 that flood, one of which is the scanner.
    assert_eq!((&sources["alerted_a"], &sources["alerted_b"]), (&20.into(), &0.into()), "{c}");
    assert_eq!((&sources["dropped_a"], &sources["differing"]), (&1.into(), &20.into()), "{c}");
    let d = &c["differences"][0];
    assert_eq!((&d["source"], &d["b"]["outcome"]), (&"192.0.2.9".into(), &"nothing".into()), "{d}");
    assert!(d["a"]["outcome"] == "drop" && d["a"]["evidence"].as_f64() > Some(10.0), "{d}");
    assert!(!d["a"]["reasons"].as_array().unwrap().is_empty(), "{d}");

    let said = ok(&run(&["model", "compare", str(bundle()), str(&deaf), "--over", str(&day)]));
    for part in [
        "over 1 input, ",
        "sources alerted about  20  0     0\n",
        "profile core: 2,800 flow records\n",
        "labelled as attacks, in none of these rates: 20, of which A finds 20",
        "Sources about which they differ: 20\n",
        "192.0.2.9",
    ] {
        assert!(said.contains(part), "`{part}` is not in\n{said}");
    }
    // A person called normal what the scanner does, on every port: that is held against nobody, on either side.
    let normal = dir.path().join("normal.json");
    std::fs::write(&normal, "{\"prefix\":\"192.0.2.9/32\"}\n").unwrap();
    let with = ["--suppressions", str(&normal), "-o", "json"];
    let words = ["model", "compare", str(bundle()), str(&deaf), "--over", str(&day)];
    let c = json(&ok(&run(&[&words[..], &with[..]].concat())));
    assert_eq!((&c["sources"]["alerted_a"], &c["sources"]["dropped_a"]), (&19.into(), &0.into()), "{c}");
    assert!(c["differences"].as_array().unwrap().iter().all(|d| d["source"] != "192.0.2.9"), "{c}");
    assert!(c["notes"].to_string().contains("1 alerts of A and 0 of B were not raised"), "{c}");
    // The other way round says the same of the other.
    let c = compare(&deaf, bundle());
    assert_eq!((&c["sources"]["alerted_a"], &c["sources"]["alerted_b"]), (&0.into(), &20.into()), "{c}");
}

#[test]
fn what_cannot_be_compared_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let longer = crafted::copy(bundle(), dir.path().join("longer"));
    crafted::edit(&longer, |t| t.replace("window_us: 1000000", "window_us: 10000000"));
    let input = file(dir.path(), "few.json", Form::Json, (0..10).map(usual));
    for (args, code, words) in [
        (
            vec!["model", "compare", str(bundle()), str(&longer), "--over", str(&input)],
            1,
            "A are 1s long and those of B 10s",
        ),
        (vec!["model", "compare", str(bundle()), "/nowhere", "--over", str(&input)], 1, "there is no folder /nowhere"),
        (vec!["model", "compare", str(bundle()), str(&longer)], 2, "--over"),
        (vec!["model", "compare", "--over", str(&input)], 2, "A B"),
        (vec!["model", "challenge"], 2, "PATH|ID"),
    ] {
        let out = run(&args);
        let said = text(&out.stderr);
        assert!(out.status.code() == Some(code) && said.contains(words), "{args:?}: {said}");
    }
}
