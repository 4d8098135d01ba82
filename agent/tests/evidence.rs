//! `weir evidence verify` as people run it: without an agent.

mod common;

use std::path::Path;

use common::{file, ok, run, str, strange, text, usual};
use weir_agent::config::Config;
use weir_agent::evidence::gather::Exhibits;
use weir_agent::evidence::{Case, Document};
use weir_agent::pipeline::Model;
use weir_agent::scoring::{ANOMALY_P, Depth, explain};
use weir_core::feature::core_matrix;
use weir_core::record::FlowRecord;
use weir_models::Bundle;
use weir_source::write::Form;

const NOW: u64 = 1_800_000_000_000_000;

fn train(dir: &Path, name: &str, seed: &str) -> std::path::PathBuf {
    let input = file(dir, "day.json", Form::Json, (0..3_000).map(usual));
    let bundle = dir.join(name);
    ok(&run(&["train", str(&input), "--out", str(&bundle), "--profile", "core", "--seed", seed]));
    bundle
}

/// What an agent would have kept of some floods, scored by this model.
fn evidence(model: &Model) -> String {
    let records: Vec<FlowRecord> =
        (0..5).map(|n| FlowRecord { client: usual(0).record.client, ..strange(n).record }).collect();
    let matrix = core_matrix(&records);
    let mut scored = model.anomalies(&matrix).unwrap();
    for (i, anomaly) in scored.iter_mut().enumerate() {
        explain(&model.bundle, &matrix, i, anomaly, (ANOMALY_P, Depth::Reasons)).unwrap();
    }
    let mut exhibits = Exhibits::default();
    for (i, (record, anomaly)) in records.iter().zip(&scored).enumerate() {
        exhibits.flow(NOW + i as u64, record, anomaly, &matrix, i);
    }
    let source = records[0].client;
    let shown = exhibits.of(weir_core::addr::Prefix::host(source), 0);
    assert_eq!(shown.rows.len(), 5);
    let config = Config::default();
    let case = Case { now: NOW, source, mode: "enforce", alert: None, decision: None, model, config: &config, shown };
    Document::new(case).seal() + "\n"
}

#[test]
fn what_was_exported_agrees_what_was_changed_does_not_and_other_models_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (train(dir.path(), "ours", "1"), train(dir.path(), "other", "2"));
    let whole = evidence(&Model::new(Bundle::load(&ours).unwrap()));
    let path = dir.path().join("evidence.json");
    let verify = |text: &str, bundle: &Path| {
        std::fs::write(&path, text).unwrap();
        run(&["evidence", "verify", str(&path), "--bundle", str(bundle)])
    };
    let said = ok(&verify(&whole, &ours));
    assert!(said.contains("all 5 rows agree, and the document is as it was sealed"), "{said}");

    // A number of one row, and nothing else.
    let changed = whole.replacen("\"name\":\"pkts_fwd\",\"value\":900000.0", "\"name\":\"pkts_fwd\",\"value\":9.0", 1);
    let changed = if changed == whole { whole.replacen("900000.0", "9.0", 1) } else { changed };
    assert_ne!(changed, whole);
    let out = verify(&changed, &ours);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    let said = text(&out.stdout);
    assert!(said.contains("CHANGED since it was sealed"), "{said}");
    let json = run(&["evidence", "verify", str(&path), "--bundle", str(&ours), "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["agrees"], &json["intact"]), (&false.into(), &false.into()));

    let out = verify(&whole, &other);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("is another one (SHA-256"), "{}", text(&out.stderr));
    for (wrong, words) in [
        ("{}", "is no evidence"),
        ("no json", "it is no JSON"),
        (&whole.replacen("\"version\":1", "\"version\":7", 1), "version 7"),
    ] {
        let out = verify(wrong, &ours);
        assert_eq!(out.status.code(), Some(1));
        assert!(text(&out.stderr).contains(words), "{}", text(&out.stderr));
    }
}

#[test]
fn the_bundle_that_came_with_the_program_is_found_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let whole = evidence(&Model::built_in(weir_agent::default_bundle::load().unwrap()));
    let path = dir.path().join("evidence.json");
    std::fs::write(&path, whole).unwrap();
    let said = ok(&run(&["evidence", "verify", str(&path)]));
    assert!(said.contains("all 5 rows agree"), "{said}");
}
