//! `weir policy test` and `weir config check`, as people run them.

mod common;

use std::path::{Path, PathBuf};

use common::{file, ok, run, str, text, usual};
use serde_json::Value;
use weir_core::record::{FlowState, Totals};
use weir_source::Observation;
use weir_source::write::Form;

const GUESSER: &str = "203.0.113.77";
const SCANNER: &str = "203.0.113.9";

fn bundle(dir: &Path) -> PathBuf {
    let history = file(dir, "history.json", Form::Json, (0..6_000).map(usual));
    let bundle = dir.join("bundle");
    ok(&run(&["train", str(&history), "--out", str(&bundle)]));
    bundle
}

/// Logins that hardly differ from one another, twenty a second, each complete.
fn guess(n: u64) -> Observation {
    let mut o = usual(3_000_000);
    o.label = Some("Bruteforce".into());
    let r = &mut o.record;
    r.flow_id = 5_000_000 + n;
    r.client = GUESSER.parse().unwrap();
    (r.server_port, r.client_port) = (22, 10_000 + (n % 50_000) as u16);
    r.start_us = usual(20_000).record.start_us + n * 50_000;
    r.end_us = r.start_us + 20_000;
    r.proven = true;
    o
}

/// Ten probes a second that nobody answers.
fn probe(n: u64) -> Observation {
    let mut o = usual(1_000_000 + n);
    o.label = Some("Scan".into());
    let r = &mut o.record;
    r.client = SCANNER.parse().unwrap();
    (r.server_port, r.client_port) = (1 + (n % 60_000) as u16, 50_000);
    r.start_us = usual(20_000).record.start_us + n * 100_000;
    r.end_us = r.start_us;
    r.fwd = Totals { packets: 1, bytes: 40, payload: 0 };
    (r.bwd, r.state, r.proven) = (Totals::default(), FlowState::Unanswered, false);
    o
}

fn today(dir: &Path) -> PathBuf {
    let mut flows: Vec<_> =
        (20_000..23_000).map(usual).chain((0..1_200).map(guess)).chain((0..600).map(probe)).collect();
    flows.sort_by_key(|o| o.record.end_us);
    file(dir, "today.json", Form::Json, flows)
}

fn config(dir: &Path, name: &str, rules: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, format!("policy:\n  rules:\n{rules}")).unwrap();
    path
}

#[test]
fn a_policy_is_tried_on_recorded_flows_rule_by_rule_and_beside_another() {
    let dir = tempfile::tempdir().unwrap();
    let (bundle, input) = (bundle(dir.path()), today(dir.path()));
    let strict = config(
        dir.path(),
        "strict.yaml",
        "    - {name: guessing, when: {proven: true, port: 22}, action: drop, for: 10m}\n    \
             - {name: floods, when: {proven: false}, action: limit 2pps burst 5, for: 10m}\n",
    );
    let mild = config(dir.path(), "mild.yaml", "    - {name: tell, action: alert}\n");
    let base = ["policy", "test", "--record", str(&input), "--bundle", str(&bundle), "--config", str(&strict)];
    let with = |more: &[&str]| run(&[&base[..], more].concat());

    let out = with(&["--against", str(&mild), "-o", "json"]);
    let said: Value = serde_json::from_str(&ok(&out)).unwrap();
    let report = &said["policy"]["report"];
    let rule = |name: &str| {
        let rules = report["rules"].as_array().unwrap();
        rules.iter().find(|r| r["name"] == name).cloned().unwrap_or_else(|| panic!("{name} is not in {rules:#?}"))
    };
    let guessing = rule("guessing");
    assert!(guessing["matches"].as_u64() >= Some(1) && guessing["drops"].as_u64() == Some(1), "{guessing:#}");
    assert!(guessing["cut"]["attacks"].as_u64() > Some(100) && guessing["cut"]["benign"] == 0, "{guessing:#}");
    let floods = rule("floods");
    let (met, stopped) = (floods["cut"]["packets"].as_u64().unwrap(), floods["cut"]["stopped"].as_u64().unwrap());
    assert!(floods["limits"].as_u64() >= Some(1) && floods["drops"] == 0, "{floods:#}");
    assert!(stopped > 0 && stopped < met, "a limit lets through what its rate allows: {floods:#}");
    // Who, when, for how long, by which rule.
    let decisions = report["decisions"].as_array().unwrap();
    let dropped = decisions.iter().find(|d| d["source"] == GUESSER).expect("a decision on the guesser");
    assert_eq!((&dropped["rule"], &dropped["action"]), (&"guessing".into(), &"drop".into()), "{dropped:#}");
    assert!(dropped["timestamp"].is_string() && dropped["seconds"].as_u64() >= Some(600), "{dropped:#}");
    assert!(decisions.iter().all(|d| d["source"] == GUESSER || d["source"] == SCANNER), "{decisions:#?}");
    // The other one only tells.
    assert_eq!(said["against"]["report"]["drops"], 0);
    assert_eq!(said["against"]["report"]["decisions"], serde_json::json!([]));
    let differ = said["differences"].as_array().unwrap();
    assert!(
        differ.iter().any(|d| d["target"] == GUESSER && d["ours"] == "drop" && d["theirs"].is_null()),
        "{differ:#?}"
    );

    let out = with(&["--against", str(&mild)]);
    let table = ok(&out);
    for part in ["Rule ", "guessing", "Side by side", "targets decided differently", "labelled benign", "(no rule)"] {
        assert!(table.contains(part) || part == "(no rule)", "`{part}` is not in\n{table}");
    }
    assert!(text(&out.stderr).contains("mode enforce"), "{}", text(&out.stderr));
    // Who is allowed is not stopped, and in mode observe nobody is.
    for more in [&["--allow", GUESSER][..], &["--mode", "observe"]] {
        let said: Value = serde_json::from_str(&ok(&with(&[more, &["-o", "json"]].concat()))).unwrap();
        assert_eq!(said["policy"]["report"]["drops"], 0, "{more:?}");
    }
}

#[test]
fn a_policy_is_explained_and_its_dead_rules_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(
        dir.path(),
        "dead.yaml",
        "    - {name: all, action: alert}\n    - {name: dead, when: {proven: true}, action: drop}\n",
    );
    let said = ok(&run(&["config", "check", str(&path)]));
    assert!(said.contains("1. all: Whatever it is: alert only."), "{said}");
    assert!(said.contains("warning: policy.rules[1] (dead) can never match: rule `all` before it"), "{said}");
    let shown = ok(&run(&["config", "show", str(&path)]));
    let again = dir.path().join("again.yaml");
    std::fs::write(&again, &shown).unwrap();
    assert_eq!(ok(&run(&["config", "show", str(&again)])), shown, "what is shown reads back as the same");
    let json: Value = serde_json::from_str(&ok(&run(&["config", "check", "-o", "json", str(&path)]))).unwrap();
    assert_eq!(json["rules"][1]["name"], "dead");
    assert_eq!(json["warnings"].as_array().map(Vec::len), Some(1));
    // The control: without the first one, it is no dead rule.
    let alive = config(dir.path(), "alive.yaml", "    - {name: dead, when: {proven: true}, action: drop}\n");
    assert!(!ok(&run(&["config", "check", str(&alive)])).contains("warning"));
    let wrong = config(dir.path(), "wrong.yaml", "    - {name: a, action: block}\n");
    let out = run(&["config", "check", str(&wrong)]);
    assert_eq!(out.status.code(), Some(2));
    assert!(
        text(&out.stderr).contains("wrong.yaml:3:25: policy.rules[0].action: `block` is no action"),
        "{}",
        text(&out.stderr)
    );
}
