//! `weir train` as people run it.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{dhcp, file, ok, run, str, strange, text, usual, without};
use weir_core::record::Have;
use weir_source::Observation;
use weir_source::write::Form;

/// Usual flows of a minute, attacks among them, and what no profile can have.
fn day(dir: &Path, flows: u64) -> PathBuf {
    let mut all: Vec<_> = (0..flows).map(usual).collect();
    all.extend((0..40).map(strange));
    all.push(without(Have::DURATION));
    all.push(dhcp());
    file(dir, "day.json", Form::Json, all)
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap())).collect()
}

#[test]
fn a_bundle_is_trained_on_what_is_benign_and_finds_what_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let input = day(dir.path(), 3_000);
    let bundle = dir.path().join("bundle");
    let out = run(&["train", str(&input), "--out", str(&bundle)]);
    let said = ok(&out);
    for part in [
        "used: 3,001 flows labelled as benign, 0 without a label, ",
        "left out: 40 flows labelled Flood\n",
        "left out: 1 flows of DHCP",
        "left out of profile core: 1 flows that do not tell duration\n",
        "profile full is not trained: 3,001 flows do not tell all that it needs, 3,000 of them not packet statistics\n",
        "core: 1800 rows, of which ",
        "core: rows dealt out by blocks of 10 s and source\n",
        "core: false-alarm rates down to 0.",
        "source: ",
        "thresholds: ",
        "carry much: 192.0.2.0/24 (100%); above `policy.busy_share`, never dropped automatically\n",
    ] {
        assert!(said.contains(part), "`{part}` is not in\n{said}");
    }
    assert!(text(&out.stderr).contains("1 input read: 3,042 flows"), "{}", text(&out.stderr));

    let shown = ok(&run(&["model", "inspect", str(&bundle)]));
    assert!(shown.contains("carry much  192.0.2.0/24 (100%); above"), "{shown}");

    let fresh = file(dir.path(), "fresh.json", Form::Json, (10_000..10_400).map(usual).chain((0..5).map(strange)));
    let out = run(&["replay", str(&fresh), "--bundle", str(&bundle), "--only-anomalies", "-o", "json"]);
    let labels: Vec<_> = ok(&out).lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()).collect();
    let floods = labels.iter().filter(|f| f["label"] == "Flood").count();
    assert!(floods == 5 && labels.len() < 5 + 20, "{floods} floods of {} anomalies", labels.len());

    // It replaces a bundle, and says the same in JSON.
    let said = ok(&run(&["train", str(&input), "--out", str(&bundle), "--profile", "core", "-o", "json"]));
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["left_out"]["attacks"]["Flood"], 40);
    assert_eq!(said["profiles"]["core"]["rows"], 1800);
    assert!(said["profiles"].get("source").is_none() && said["thresholds"]["alert"].is_number(), "{said}");
    assert_eq!(files(&bundle).len(), 3);
}

#[test]
fn the_same_input_and_seed_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let input = day(dir.path(), 1_500);
    let train = |name: &str, seed: &str| {
        let bundle = dir.path().join(name);
        ok(&run(&["train", str(&input), "--out", str(&bundle), "--seed", seed]));
        files(&bundle)
    };
    let first = train("a", "7");
    assert!(first == train("b", "7"), "the same");
    assert!(first != train("c", "8"), "another seed");
}

#[test]
fn flows_without_times_are_dealt_out_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let timeless = |n| {
        let mut o: Observation = usual(n);
        o.record.have = o.record.have.without(Have::TIME.with(Have::ADDRESSES));
        o.label = None;
        o
    };
    let input = file(dir.path(), "flows.json", Form::Json, (0..1_000).map(timeless));
    let said = ok(&run(&["train", str(&input), "--out", str(&dir.path().join("bundle"))]));
    for part in [
        "used: 0 flows labelled as benign, 1,000 without a label, 0 source windows",
        "core: 1000 rows, of which 500 to fit",
        "core: rows dealt out one by one at random: their time or source is not known",
        "thresholds: none",
        "profile source is not trained: 1,000 flows do not tell addresses, time",
    ] {
        assert!(said.contains(part), "`{part}` is not in\n{said}");
    }
}

#[test]
fn what_cannot_be_trained_says_why_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let input = day(dir.path(), 1_000);
    let few = file(dir.path(), "few.json", Form::Json, (0..150).map(usual));
    let attacks = file(dir.path(), "attacks.json", Form::Json, (0..500).map(strange));
    let missing = dir.path().join("missing");
    let bundle = dir.path().join("bundle");
    let fails = |inputs: &[&Path], more: &[&str]| {
        let mut args = vec!["train", "--out", str(&bundle)];
        args.extend(inputs.iter().map(|p| str(p)));
        args.extend(more);
        let out = run(&args);
        assert!(!bundle.exists(), "{args:?} left something");
        (out.status.code().unwrap(), text(&out.stderr))
    };
    for (inputs, more, words) in [
        (
            vec![&*few],
            vec![],
            "profile `core`: 90 benign rows are too few, at least 200 are needed (60 more are held back",
        ),
        (
            vec![&*input],
            vec!["--profile", "full"],
            "profile `full` cannot be trained: 1,001 flows do not tell all that it needs",
        ),
        (vec![&*attacks], vec![], "profile `core`: there are no benign flows"),
        (vec![&*input, &*missing], vec![], "nothing was trained: leave out the inputs that cannot be read"),
    ] {
        let (code, said) = fails(&inputs, &more);
        assert!(code == 1 && said.contains(words), "`{words}` is not in\n{said}");
    }
    for more in [["--profile", "flow"], ["--window", "0.1s"], ["--alert-budget", "0"], ["-o", "csv"]] {
        assert_eq!(fails(&[&input], &more).0, 2, "{more:?}");
    }

    // A folder of something else stays as it is.
    std::fs::create_dir(&bundle).unwrap();
    std::fs::write(bundle.join("thesis.txt"), "years of work").unwrap();
    let out = run(&["train", str(&input), "--out", str(&bundle)]);
    assert_eq!(out.status.code(), Some(2), "{}", text(&out.stderr));
    assert_eq!(files(&bundle).into_keys().collect::<Vec<_>>(), ["thesis.txt"]);
}

#[test]
fn captures_give_every_profile_and_data_sets_what_they_tell() {
    let (Some(captures), Some(unsw)) = (corpus("pcap/ndpi/pcap"), corpus("unsw-nb15/unsw_nb15_45col_dedup.csv")) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("bundle");
    let inputs = ["1kxun.pcap", "alexa-app.pcapng", "opera-vpn.pcapng"].map(|name| captures.join(name));
    let mut args = vec!["train", "--checkpoints", "--window", "1s", "--out", str(&bundle), "-o", "json"];
    args.extend(inputs.iter().map(|p| str(p)));
    let said: serde_json::Value = serde_json::from_str(&ok(&run(&args))).unwrap();
    let profiles: Vec<_> = said["profiles"].as_object().unwrap().keys().collect();
    assert_eq!(profiles, ["core", "full", "source"]);
    assert_eq!(said["profiles"]["full"]["rows_at_random"], 0);

    let said: serde_json::Value =
        serde_json::from_str(&ok(&run(&["train", str(&unsw), "--out", str(&bundle), "-o", "json"]))).unwrap();
    assert_eq!(said["left_out"]["attacks"]["Exploits"], 4_617);
    assert_eq!(said["profiles"]["core"]["rows"], said["profiles"]["core"]["rows_at_random"]);
    assert!(said["left_out"]["profiles"]["full"].as_str().unwrap().contains("packet statistics"), "{said}");
}

/// A folder of the corpus, or a word that it is not there.
fn corpus(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("WEIR_CORPUS").map_or_else(|| "../../shared/data".into(), PathBuf::from);
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIP: {} is not there: set WEIR_CORPUS", path.display());
    None
}

#[test]
fn corpora_stand_in_the_manifest_and_no_address_of_them_does() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("corpora");
    for folder in ["one", "two"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    // Captures of many days, of which each is a network of its own.
    for k in 0..16u64 {
        let folder = root.join(if k % 4 == 0 { "two" } else { "one" });
        let flows = (0..150).map(|n| {
            let mut o = usual(k * 150 + n);
            o.record.start_us += k * 86_400_000_000;
            o.record.end_us += k * 86_400_000_000;
            o
        });
        file(&folder, &format!("{k}.json"), Form::Json, flows);
    }
    file(&root.join("one"), "PortScan.json", Form::Json, (0..40).map(strange));
    let list = dir.path().join("corpora.yaml");
    std::fs::write(
        &list,
        "corpora:
  - {name: One, from: https://example.org/one, licence: BSD-3-Clause, folder: one, files: [.json]}
  - {name: Two, from: https://example.org/two, licence: Apache-2.0, folder: two, files: [.json]}
  - {name: Three, from: a paper, licence: research only, left_out: it may not be passed on}
leave_out:
  - {why: attacks, words: [scan]}
",
    )
    .unwrap();
    let train = |name: &str| {
        let bundle = dir.path().join(name);
        let said = ok(&run(&["train", str(&root), "--corpora", str(&list), "--out", str(&bundle)]));
        (files(&bundle), said)
    };
    let (first, said) = train("a");
    assert!(said.contains("corpus Two: 600 flows (Apache-2.0)\n"), "{said}");
    assert!(said.contains("corpus One: 1,800 flows (BSD-3-Clause); left out: 1 files of attacks\n"), "{said}");
    assert!(said.contains("core: rows dealt out file by file\n"), "{said}");
    assert!(first == train("b").0, "the same");
    let manifest = text(&first["manifest.yaml"]);
    for part in ["name: Three", "licence: research only", "rows: 1800", "left out: it may not be passed on"] {
        assert!(manifest.contains(part), "`{part}` is not in\n{manifest}");
    }
    assert!(!manifest.contains("192.0.2.") && !manifest.contains("strange:"), "{manifest}");
    // Sixteen captures of three seconds are no fifteen days.
    let loaded = weir_models::Bundle::load(&dir.path().join("a")).unwrap();
    let p = &loaded.manifest().provenance;
    assert!(p.last_us - p.first_us < 3_600_000_000, "{} s", (p.last_us - p.first_us) / 1_000_000);
    let out = run(&["train", str(&list), "--corpora", str(&list), "--out", str(&dir.path().join("c"))]);
    assert_eq!(out.status.code(), Some(2), "{}", text(&out.stderr));
}
