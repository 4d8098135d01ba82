//! `weir flows` and `weir replay` as people run them.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command as Process, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir_core::feature::core_matrix;
use weir_core::record::Have;
use weir_models::{RowInfo, TrainConfig, TrainSet, train};
use weir_source::write::Form;

use common::{WEIR, dhcp, file, ok, run, str, strange, text, usual, without};

fn piped(args: &[&str], input: &[u8]) -> Output {
    let mut child = Process::new(WEIR)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feed = std::thread::spawn(move || stdin.write_all(&input));
    let out = child.wait_with_output().unwrap();
    let _ = feed.join().unwrap();
    out
}

#[test]
fn what_was_written_reads_back_the_same_from_files_pipes_and_parquet() {
    let dir = tempfile::tempdir().unwrap();
    let json = file(dir.path(), "a.json", Form::Json, (0..100).map(usual));
    let wanted = std::fs::read_to_string(&json).unwrap();
    let out = run(&["flows", str(&json), "-o", "json"]);
    assert_eq!(ok(&out), wanted);
    assert_eq!(text(&out.stderr).lines().last().unwrap().split(", ").next(), Some("1 input read: 100 flows"));

    // Through Parquet, named by its ending, and back.
    let parquet = dir.path().join("b.parquet");
    ok(&run(&["flows", str(&json), "--out", str(&parquet)]));
    assert_eq!(ok(&run(&["flows", str(&parquet), "-o", "json"])), wanted);
    assert_eq!(ok(&piped(&["flows", "-", "-o", "json"], &std::fs::read(&parquet).unwrap())), wanted);

    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(wanted.as_bytes()).unwrap();
    assert_eq!(ok(&piped(&["flows", "-", "-o", "json"], &gz.finish().unwrap())), wanted);

    let table = ok(&run(&["flows", str(&json)]));
    assert!(table.starts_with("Timestamp ") && table.lines().count() == 101, "{table}");
    let csv = ok(&run(&["flows", str(&json), "-o", "csv"]));
    assert!(csv.starts_with("flow_id,start,end,") && csv.lines().count() == 101, "{csv}");
    // Nothing unfinished is left.
    let mut names: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.json", "b.parquet"]);
}

#[test]
fn a_bad_file_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let first = file(dir.path(), "1.json", Form::Json, (0..10).map(usual));
    let bad = dir.path().join("bad");
    std::fs::write(&bad, "neither this nor that\n").unwrap();
    let cut = file(dir.path(), "cut.json", Form::Json, (0..10).map(usual));
    let bytes = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() - 9]).unwrap();
    let last = file(dir.path(), "2.parquet", Form::Parquet, (0..10).map(usual));
    let missing = dir.path().join("missing");

    let out = run(&["flows", str(&first), str(&bad), str(&missing), str(&cut), str(&last), "-o", "json"]);
    assert_eq!(out.status.code(), Some(1));
    let flows: Vec<serde_json::Value> = text(&out.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(flows.len(), 29);
    let mut ids: Vec<_> = flows.iter().map(|f| f["flow_id"].as_u64().unwrap()).collect();
    ids.dedup();
    assert!(ids.len() == 29 && ids.is_sorted(), "flows of several inputs have numbers of their own: {ids:?}");
    let words = text(&out.stderr);
    for part in [
        &format!("error: {}: is none of the formats", bad.display()),
        &format!("error: {}: cannot read", missing.display()),
        &format!("warning: {}: line 10 is cut short", cut.display()),
        "3 inputs read (1 cut short), 2 failed: 29 flows, ",
    ] {
        assert!(words.contains(part), "`{part}` is not in\n{words}");
    }
}

#[test]
fn formats_are_refused_where_they_make_no_sense() {
    for args in [["status", "-o", "parquet"], ["status", "-o", "csv"], ["completions", "-o", "csv"]] {
        let mut args = args.to_vec();
        if args[0] == "completions" {
            args.insert(1, "bash");
        }
        let out = run(&args);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains("it has table, json"), "{args:?}: {}", text(&out.stderr));
    }
    let out = run(&["decisions", "list", "-o", "parquet"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("parquet is for `weir flows` and `weir replay`"), "{}", text(&out.stderr));
    for args in [
        vec!["flows"],
        vec!["flows", "-", "-"],
        vec!["flows", "-", "--format", "pcapx"],
        vec!["replay", "-", "--threshold", "0"],
        vec!["replay", "-", "--profile", "source"],
    ] {
        assert_eq!(run(&args).status.code(), Some(2), "{args:?}");
    }
    // A folder that is not there is no wrong usage.
    let out = piped(&["flows", "-", "--out", "/nowhere/x.json"], b"");
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("cannot write /nowhere/x.json"), "{}", text(&out.stderr));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let many = file(dir.path(), "a.json", Form::Json, (0..5_000).map(usual));
    for format in ["json", "csv", "table"] {
        let mut child = Process::new(WEIR)
            .args(["flows", str(&many), "-o", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut line).unwrap();
        assert!(!line.is_empty());
        drop(lines);
        assert_eq!(child.wait().unwrap().code(), Some(0), "{format}");
        let mut words = String::new();
        child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
        assert_eq!(words, "", "{format}");
    }
}

#[test]
fn ctrl_c_leaves_a_whole_file_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let input = file(dir.path(), "a.json", Form::Json, (0..2_000).map(usual));
    let input = std::fs::read(input).unwrap();
    let to = dir.path().join("out.json");
    // Whoever runs the tests in a shell's background has them deaf to Ctrl-C, and what they start.
    let mut child = Process::new("env")
        .args(["--default-signal=INT", WEIR, "flows", "-", "--out", str(&to)])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&input).unwrap();
    stdin.flush().unwrap();
    // It has begun once the unfinished file is there.
    let begin = Instant::now();
    while std::fs::read_dir(&dir).unwrap().count() < 2 {
        assert!(begin.elapsed() < Duration::from_secs(20), "no unfinished file");
        std::thread::sleep(Duration::from_millis(5));
    }
    // It waits for more input, which does not come.
    std::thread::sleep(Duration::from_millis(300));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let status = child.wait().unwrap();
    drop(stdin);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::SIGINT as i32), "{status:?}");
    let names: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["a.json"], "nothing half-written stays");
}

/// A small model of usual flows.
fn bundle() -> &'static Path {
    static BUNDLE: OnceLock<tempfile::TempDir> = OnceLock::new();
    BUNDLE
        .get_or_init(|| {
            let records: Vec<_> = (0..2_000).map(|n| usual(n).record).collect();
            let rows = records.iter().map(|r| Some(RowInfo { time_us: r.start_us, group: r.flow_id % 20 })).collect();
            let set = TrainSet { matrix: core_matrix(&records), rows };
            let config = TrainConfig { source: "synthetic flows".into(), ..TrainConfig::default() };
            let trained = train(&[set], &config, &mut |_| {}).unwrap();
            let dir = tempfile::tempdir().unwrap();
            trained.write(dir.path()).unwrap();
            dir
        })
        .path()
}

#[test]
fn replay_finds_what_is_strange_and_counts_by_label() {
    let dir = tempfile::tempdir().unwrap();
    let mut flows: Vec<_> = (10_000..10_400).map(usual).collect();
    flows.extend((0..5).map(strange));
    // Whatever cannot be told is not made up.
    flows.push(without(Have::DURATION));
    flows.push(dhcp());
    let input = file(dir.path(), "a.json", Form::Json, flows);
    let bundle = str(bundle());

    let out = run(&["replay", str(&input), "--bundle", bundle]);
    let table = ok(&out);
    let mut lines = table.lines();
    assert_eq!(
        lines.next().unwrap().split("  ").filter(|w| !w.is_empty()).map(str::trim).collect::<Vec<_>>(),
        ["Timestamp", "Src IP", "Dst IP", "Protocol", "Score", "Anomaly"]
    );
    assert_eq!(lines.count(), 407);
    let words = text(&out.stderr);
    for part in [
        "1 input read: 407 flows, ",
        "not scored: 1 flows: profile `core` needs what the input does not tell: duration",
        "not scored: 1 flows: DHCP and neighbour discovery are never scored",
        "405 flows scored by profile core, ",
        "1 % asked for of normal traffic",
        "label Flood: 5 flows, 5 anomalies (100 %)",
        "label Benign: 402 flows, ",
    ] {
        assert!(words.contains(part), "`{part}` is not in\n{words}");
    }

    let json = ok(&run(&["replay", str(&input), "--bundle", bundle, "--only-anomalies", "--explain", "-o", "json"]));
    let all: Vec<serde_json::Value> = json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(all.iter().all(|f| f["anomaly"]["is_anomaly"] == true));
    let floods: Vec<_> = all.iter().filter(|f| f["label"] == "Flood").collect();
    assert_eq!(floods.len(), 5);
    assert!(!floods[0]["anomaly"]["reasons"].as_array().unwrap().is_empty());
    assert!(all.len() < 5 + 40, "usual flows are usual: {} anomalies", all.len());

    // Scored files hold the flows as they were.
    let scored = dir.path().join("scored.parquet");
    ok(&run(&["replay", str(&input), "--bundle", bundle, "--out", str(&scored)]));
    assert_eq!(ok(&run(&["flows", str(&scored), "-o", "json"])), ok(&run(&["flows", str(&input), "-o", "json"])));
    let csv = ok(&run(&["replay", str(&input), "--bundle", bundle, "-o", "csv", "--threshold", "1"]));
    assert!(csv.lines().next().unwrap().contains(",score,p_value,is_anomaly,"), "{csv}");
    assert_eq!(csv.lines().filter(|l| l.contains(",true,core,")).count(), 405);
}

#[test]
fn replay_without_a_model_uses_the_default_bundle_and_says_so() {
    if Path::new("/var/lib/weir/current").exists() || Path::new("/etc/weir/weir.yaml").exists() {
        eprintln!(
            "SKIP replay_without_a_model_uses_the_default_bundle_and_says_so: this machine has a Weir of its own"
        );
    } else {
        let dir = tempfile::tempdir().unwrap();
        let flows = (0..200).map(usual).chain((0..5).map(strange));
        let input = file(dir.path(), "a.json", Form::Json, flows);
        let out = run(&["replay", str(&input), "-o", "json"]);
        let all: Vec<serde_json::Value> = ok(&out).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let words = text(&out.stderr);
        assert!(words.contains("by the default bundle, not learned here") && words.contains("--bundle DIR"), "{words}");
        assert!(words.contains("205 flows scored"), "{words}");
        assert!(all.iter().all(|f| f["anomaly"]["default_bundle"] == true), "each says so");
        let (floods, usual): (Vec<_>, Vec<_>) = all.iter().partition(|f| f["label"] == "Flood");
        let mean = |of: &[&serde_json::Value]| {
            of.iter().map(|f| f["anomaly"]["score"].as_f64().unwrap()).sum::<f64>() / of.len() as f64
        };
        assert!(mean(&floods) > mean(&usual) && mean(&floods) > 0.95, "{} and {}", mean(&floods), mean(&usual));
        // A model that is named says nothing of the kind.
        let out = run(&["replay", str(&input), "--bundle", str(bundle()), "-o", "json"]);
        assert!(
            !ok(&out).contains("default_bundle") && !text(&out.stderr).contains("default"),
            "{}",
            text(&out.stderr)
        );
    }
    let empty = tempfile::tempdir().unwrap();
    let out = run(&["replay", "-", "--bundle", str(empty.path())]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("manifest.yaml"), "{}", text(&out.stderr));
}
