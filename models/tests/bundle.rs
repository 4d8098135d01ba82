//! Bundles on disk: what is written is read back, and whatever does not fit together is refused with words that help.

mod common;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::{benign, config, scans, trained};
use sha2::{Digest, Sha256};
use weir_core::busy::Carrier;
use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;
use weir_core::role::Role;
use weir_models::*;

const AUTOENCODER: &str = "core.autoencoder.onnx";
const FOREST: &str = "source.isolation_forest.onnx";

/// A directory with a fresh copy of one trained bundle.
fn bundle_dir() -> (tempfile::TempDir, PathBuf) {
    static TRAINED: OnceLock<TrainedBundle> = OnceLock::new();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("bundle");
    TRAINED.get_or_init(|| trained(1_500)).write(&path).expect("writes");
    (dir, path)
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(dir)
        .expect("a directory")
        .map(|e| {
            let e = e.expect("an entry");
            (e.file_name().into_string().expect("UTF-8"), fs::read(e.path()).expect("a file"))
        })
        .collect();
    all.sort();
    all
}

/// The message with which a bundle is refused after `spoil`.
fn refusal(spoil: impl FnOnce(&Path)) -> String {
    let (_guard, dir) = bundle_dir();
    spoil(&dir);
    Bundle::load(&dir).expect_err("a spoilt bundle is refused").to_string()
}

fn edit(dir: &Path, f: impl FnOnce(String) -> String) {
    let path = dir.join(MANIFEST_FILE);
    let text = fs::read_to_string(&path).expect("a manifest");
    let new = f(text.clone());
    assert_ne!(text, new, "the edit changed nothing");
    fs::write(path, new).expect("writes");
}

/// Changes the parsed manifest.
fn change(dir: &Path, f: impl FnOnce(&mut Manifest)) {
    edit(dir, |text| {
        let mut m: Manifest = serde_yaml::from_str(&text).expect("a manifest");
        f(&mut m);
        serde_yaml::to_string(&m).expect("a manifest")
    });
}

/// Replaces a model and makes the manifest's hash fit.
fn replace_model(dir: &Path, file: &str, bytes: &[u8]) {
    fs::write(dir.join(file), bytes).expect("writes");
    let hash: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    change(dir, |m| {
        for p in &mut m.profiles {
            for e in [&mut p.models.autoencoder, &mut p.models.isolation_forest] {
                if e.file == file {
                    e.sha256 = hash.clone();
                }
            }
        }
    });
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is missing in: {message}");
    }
}

#[test]
fn the_same_rows_and_seed_give_the_same_bytes() {
    let dirs = [0, 1].map(|_| tempfile::tempdir().expect("a temporary directory"));
    for dir in &dirs {
        trained(1_000).write(&dir.path().join("b")).expect("writes");
    }
    let [a, b] = [files(&dirs[0].path().join("b")), files(&dirs[1].path().join("b"))];
    assert_eq!(a.len(), 5);
    assert!(a == b);
    let sets = [benign(ProfileId::Core, 1_000, 11), benign(ProfileId::Source, 1_000, 12)];
    let other = train(&sets, &TrainConfig { seed: 2, ..config() }, &mut |_| {}).expect("trains");
    other.write(&dirs[1].path().join("b")).expect("replaces the bundle");
    assert!(files(&dirs[1].path().join("b")) != a);
}

#[test]
fn a_written_bundle_scores_as_before() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("deep/er/bundle");
    let mut trained = trained(1_000);
    let without = trained.bundle().id().to_owned();
    let evidence = EvidenceThresholds {
        alert: 12.5,
        drop: 30.0,
        allowance: [1.0; 2],
        budget_per_day: 1.0,
        certified: false,
        benign_windows: 400,
        benign_sources: 64,
        strange: Vec::new(),
        carriers: Vec::new(),
        note: "too few windows to certify one alert a day".to_owned(),
    };
    trained.set_evidence(Some(evidence.clone())).expect("a manifest");
    trained.write(&path).expect("writes");
    trained.write(&path).expect("replaces");
    let beside = fs::read_dir(path.parent().expect("a parent")).expect("a directory").count();
    assert_eq!(beside, 1, "nothing is left beside the bundle");
    let loaded = Bundle::load(&path).expect("loads");
    assert_eq!(loaded.manifest(), trained.manifest());
    assert_eq!(loaded.manifest().evidence, Some(evidence));
    assert_eq!((loaded.id(), loaded.id().len()), (trained.bundle().id(), 12));
    assert_ne!(loaded.id(), without);
    let rows = benign(ProfileId::Source, 300, 4).matrix;
    assert_eq!(loaded.score(&rows), trained.bundle().score(&rows));
    assert_eq!(loaded.profiles().collect::<Vec<_>>(), common::TRAINED);
}

#[test]
fn a_bundle_with_full_loads_scores_and_explains() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let sets = ProfileId::ALL.map(|p| benign(p, 2_000, 11));
    let trained = train(&sets, &config(), &mut |_| {}).expect("trains");
    trained.write(&dir.path().join("b")).expect("writes");
    let loaded = Bundle::load(&dir.path().join("b")).expect("loads");
    assert_eq!(loaded.profiles().collect::<Vec<_>>(), ProfileId::ALL);
    let benign = benign(ProfileId::Full, 400, 12).matrix;
    let scored = loaded.score(&benign).expect("scores");
    assert_eq!(scored, trained.bundle().score(&benign).expect("scores"));
    assert!(scored.iter().filter(|s| s.p <= 0.05).count() < 60, "benign rows are normal");
    // The same flows, from a source that has begun hundreds to as many ports.
    let column = |name: &str| ProfileId::Full.features().iter().position(|f| f.name == name).expect("a feature");
    let (flows, ports) = (column("ctx_flows"), column("ctx_ports"));
    let mut scan = FeatureMatrix::new(ProfileId::Full);
    for i in 0..benign.len() {
        let present = |j: usize| benign.present(i) >> j & 1 == 1;
        let mut row: Vec<_> = benign.row(i).iter().enumerate().map(|(j, v)| present(j).then_some(*v)).collect();
        (row[flows], row[ports]) = (Some(400.0), Some(400.0));
        scan.push(&row, benign.role(i)).expect("a row of 44 values");
    }
    let strange = loaded.score(&scan).expect("scores");
    assert!(strange.iter().filter(|s| s.p <= 0.05).count() > 390);
    let c = loaded.explain(ProfileId::Full, scan.row(0), scan.present(0)).expect("explains");
    assert!(c[..2].iter().all(|c| [flows, ports].contains(&c.feature)), "{:?}", &c[..3]);
}

#[test]
fn a_bundle_can_be_shared_between_threads() {
    fn shareable<T: Send + Sync + 'static>() {}
    shareable::<Bundle>();
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("letters.txt"), "dear").expect("writes");
    let error = trained(400).write(dir.path()).expect_err("occupied");
    says(&error.to_string(), &["exists and is no bundle"]);
    assert_eq!(files(dir.path()).len(), 1);
}

#[test]
fn training_says_what_it_did_and_what_it_lacks() {
    let mut set = benign(ProfileId::Core, 1_000, 11);
    // Every row once more: the same values at the same time and source.
    for i in 0..1_000 {
        let row = set.matrix.clone();
        set.matrix.push_from(&row, i);
        set.rows.push(set.rows[i]);
    }
    let mut stages = Vec::new();
    let trained = train(&[set.clone()], &config(), &mut |p| stages.push(p.stage)).expect("trains");
    stages.dedup();
    assert_eq!(stages, [Stage::Autoencoder, Stage::IsolationForest, Stage::Calibration]);
    let (name, s) = trained.summary().next().expect("one profile");
    assert_eq!((name, s.rows), ("core", 2_000));
    assert_eq!(s.fit_duplicates * 2, s.fit_rows, "each fit row was there twice");
    let all = s.fit_rows + s.early_stop_rows + s.calibration_1_rows + s.calibration_2_rows;
    assert_eq!(all, 2_000, "calibration keeps its duplicates");
    for (got, share) in
        [(s.fit_rows, 0.5), (s.early_stop_rows, 0.1), (s.calibration_1_rows, 0.2), (s.calibration_2_rows, 0.2)]
    {
        assert!((got as f64 / 2_000.0 - share).abs() < 0.03, "{got} of 2000, expected a share of {share}");
    }
    assert_eq!(s.roles.values().sum::<u64>(), 2_000);

    let block = trained.manifest().provenance.block_us;
    let first = trained.manifest().provenance.first_us;
    let mut cells = std::collections::HashMap::new();
    for (row, part) in set.rows.iter().zip(trained.parts(ProfileId::Core)) {
        let row = row.expect("each has a time and a source");
        let cell = ((row.time_us - first) / block, row.group);
        assert_eq!(*cells.entry(cell).or_insert(*part), *part, "one source in one block of time lies in two parts");
    }

    let fails = |sets: &[TrainSet], cfg: TrainConfig| {
        train(sets, &cfg, &mut |_| {}).expect_err("cannot be trained on").to_string()
    };
    says(&fails(&[benign(ProfileId::Core, 199, 1)], config()), &["199", "200", "`core`"]);
    says(&fails(&[], config()), &["nothing to train on"]);
    says(&fails(&[set.clone(), set.clone()], config()), &["`core`", "twice"]);
    let short = TrainSet { rows: set.rows[1..].to_vec(), ..set.clone() };
    says(&fails(&[short], config()), &["2000 rows", "1999"]);
    let mut lump = set.clone();
    lump.rows.iter_mut().for_each(|r| *r = Some(RowInfo { time_us: 5, group: 1 }));
    says(&fails(&[lump], config()), &["2000 rows", "1 blocks", "record for longer"]);
    let mut bad = config();
    bad.forest.trees = 0;
    says(&fails(&[set], bad), &["forest.trees", "0", "1 to 10000"]);
}

#[test]
fn rows_without_a_time_are_dealt_out_one_by_one() {
    let mut set = benign(ProfileId::Core, 1_000, 11);
    set.rows.iter_mut().for_each(|r| *r = None);
    let trained = train(&[set.clone()], &config(), &mut |_| {}).expect("trains");
    let (_, s) = trained.summary().next().expect("one profile");
    assert_eq!((s.rows_alone, s.fit_rows, s.early_stop_rows), (1_000, 500, 100));
    assert_eq!((s.calibration_1_rows, s.calibration_2_rows), (200, 200));
    let parts = trained.parts(ProfileId::Core);
    let longest = parts.chunk_by(|a, b| a == b).map(<[_]>::len).max();
    assert!(longest < Some(30), "in the order of the input, but at random: a run of {longest:?}");

    // Some with a time: those still stay together.
    let like = benign(ProfileId::Core, 1_000, 11);
    set.rows[..500].copy_from_slice(&like.rows[..500]);
    let trained = train(&[set], &config(), &mut |_| {}).expect("trains");
    let p = &trained.manifest().provenance;
    assert_eq!(trained.summary().next().expect("one profile").1.rows_alone, 500);
    assert_eq!(p.first_us, 1_000_000, "of the rows that have one");
}

#[test]
fn what_comes_again_later_is_not_learned_by_heart() {
    let mut set = benign(ProfileId::Core, 1_000, 11);
    // The values of one row in ten are those of the row 500 before it.
    let mut matrix = FeatureMatrix::new(ProfileId::Core);
    for i in 0..1_000 {
        let from = if i >= 500 && i % 10 == 0 { i - 500 } else { i };
        matrix.push_from(&set.matrix, from);
    }
    set.matrix = matrix;
    let trained = train(&[set.clone()], &config(), &mut |_| {}).expect("trains");
    let (_, s) = trained.summary().next().expect("one profile");
    let parts = trained.parts(ProfileId::Core);
    let key = |i: usize| set.matrix.row(i).iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let of = |fit: bool| (0..1_000).filter(|i| (parts[*i] == Part::Fit) == fit).map(key).collect::<HashSet<_>>();
    let both = of(true).intersection(&of(false)).count();
    assert!(both > 10, "{both}");
    assert_eq!(s.fit_recurring, both as u64);
}

#[test]
fn columns_without_values_are_trained_around() {
    let mut set = benign(ProfileId::Source, 600, 3);
    let mut matrix = FeatureMatrix::new(ProfileId::Source);
    for i in 0..600 {
        let mut row: Vec<Option<f32>> = set.matrix.row(i).iter().map(|v| Some(*v)).collect();
        row[7] = None;
        matrix.push(&row, set.matrix.role(i)).expect("finite");
    }
    set.matrix = matrix;
    let trained = train(&[set.clone()], &config(), &mut |_| {}).expect("trains");
    assert!(trained.bundle().score(&set.matrix).expect("scores").iter().all(|s| s.raw_autoencoder.is_finite()));
    let nothing = trained.bundle().explain(ProfileId::Source, &[0.0; 18], 0).expect("explains");
    assert!(nothing.is_empty(), "of a row without values nothing can be said");
}

#[test]
fn traffic_that_never_varies_can_be_learned() {
    let like = benign(ProfileId::Source, 1_200, 3);
    let mut matrix = FeatureMatrix::new(ProfileId::Source);
    (0..1_200).for_each(|_| matrix.push_from(&like.matrix, 0));
    let set = TrainSet { matrix, rows: like.rows };
    let trained = train(std::slice::from_ref(&set), &config(), &mut |_| {}).expect("trains");
    assert!(trained.bundle().score(&set.matrix).expect("scores").iter().all(|s| s.p == 1.0));
    let floor = 1.0 / 200.0;
    assert!(trained.bundle().score(&scans(5, 1)).expect("scores").iter().all(|s| s.p < floor));
}

#[test]
fn damaged_files_are_refused() {
    says(&refusal(|d| fs::remove_file(d.join(AUTOENCODER)).expect("removes")), &[AUTOENCODER, "No such file"]);
    says(&refusal(|d| fs::remove_file(d.join(MANIFEST_FILE)).expect("removes")), &[MANIFEST_FILE, "No such file"]);
    let flip = |d: &Path| {
        let mut bytes = fs::read(d.join(FOREST)).expect("a model");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(d.join(FOREST), bytes).expect("writes");
    };
    says(&refusal(flip), &[FOREST, "SHA-256", "changed"]);
    says(&refusal(|d| replace_model(d, AUTOENCODER, b"not protobuf at all")), &[AUTOENCODER, "no ONNX file"]);
    says(&refusal(|d| replace_model(d, AUTOENCODER, b"")), &[AUTOENCODER, "no graph"]);
    let huge = |d: &Path| {
        let f = fs::File::options().write(true).open(d.join(FOREST)).expect("opens");
        f.set_len(MAX_MODEL_BYTES + 1).expect("grows");
    };
    says(&refusal(huge), &[FOREST, "67108865 bytes", "67108864"]);
    let huge = |d: &Path| {
        let f = fs::File::options().write(true).open(d.join(MANIFEST_FILE)).expect("opens");
        f.set_len(MAX_MANIFEST_BYTES + 1).expect("grows");
    };
    says(&refusal(huge), &[MANIFEST_FILE, "at most 67108864"]);
    let directory = |d: &Path| {
        fs::remove_file(d.join(FOREST)).expect("removes");
        fs::create_dir(d.join(FOREST)).expect("creates");
    };
    says(&refusal(directory), &[FOREST, "no regular file"]);
}

#[test]
fn truncated_models_never_panic() {
    let (_guard, dir) = bundle_dir();
    for file in [AUTOENCODER, FOREST] {
        let whole = fs::read(dir.join(file)).expect("a model");
        for n in (1..40).map(|k| whole.len() * k / 40) {
            replace_model(&dir, file, &whole[..n]);
            assert!(Bundle::load(&dir).is_err(), "{file} cut to {n} bytes was accepted");
        }
        replace_model(&dir, file, &whole);
    }
    assert!(Bundle::load(&dir).is_ok());
}

#[test]
fn manifests_that_do_not_fit_are_refused() {
    let put = |d: &Path, text: &str| fs::write(d.join(MANIFEST_FILE), text).expect("writes");
    says(&refusal(|d| put(d, "]")), &["manifest.yaml", "parse"]);
    says(&refusal(|d| put(d, "")), &["manifest.yaml", "parse"]);
    says(&refusal(|d| put(d, "bundle_version: 9\nnews: 1\n")), &["version 9", "version 2", "train"]);
    says(&refusal(|d| edit(d, |t| t.replace("seed:", "sead:"))), &["sead"]);
    says(&refusal(|d| edit(d, |t| format!("{t}surprise: 1\n"))), &["surprise"]);
    let c = |f: fn(&mut Manifest)| refusal(move |d| change(d, f));
    says(&c(|m| m.profiles.clear()), &["profiles", "empty"]);
    says(&c(|m| m.profiles[1] = m.profiles[0].clone()), &["core", "given twice"]);
    says(&c(|m| m.profiles[0].name = "wide".to_owned()), &["wide", "core, full, source"]);
    says(&c(|m| m.profiles[0].name = "full".to_owned()), &["full", "number of features", "16", "44"]);
    says(&c(|m| m.profiles[0].features.swap(1, 2)), &["feature 1", "proto_icmp", "proto_udp"]);
    says(&c(|m| shorten(&mut m.profiles[0].features)), &["number of features", "15", "16"]);
    says(
        &c(|m| m.profiles[0].features[3].transform = weir_core::profile::Transform::Identity),
        &["feature 3", "identity", "log1p"],
    );
    says(&c(|m| m.profiles[0].features[0].mean = f32::NAN), &["feature 0", "mean", "NaN"]);
    says(&c(|m| m.profiles[0].features[0].std = 0.0), &["feature 0", "std", "above 0"]);
    says(&c(|m| m.profiles[0].features[3].usual.low = 1e9), &["feature 3", "usual", "ascending"]);
    says(&c(|m| m.profiles[0].models.autoencoder.opset = 13), &[AUTOENCODER, "opset", "13", "17"]);
    says(
        &c(|m| m.profiles[0].models.autoencoder.outputs.reverse()),
        &[AUTOENCODER, "outputs", "[score, feature_errors]"],
    );
    says(
        &c(|m| m.profiles[0].models.autoencoder.file = "../../etc/shadow".to_owned()),
        &["../../etc/shadow", "plain file name"],
    );
    says(
        &c(|m| m.profiles[0].calibration[0].autoencoder.reverse()),
        &["calibration of all", "autoencoder", "ascending"],
    );
    says(&c(|m| m.profiles[0].calibration[0].fused[0] = f32::NEG_INFINITY), &["calibration of all", "fused", "-inf"]);
    says(&c(|m| m.profiles[0].calibration[0].fused.clear()), &["calibration of all", "fused", "0 scores"]);
    says(&c(|m| shorten(&mut m.profiles[0].calibration[0].autoencoder)), &["calibration of all", "equal numbers"]);
    says(&c(|m| m.profiles[0].calibration[0].role = Role::SourceAll), &["calibration", "`all`"]);
    says(&c(|m| m.profiles[0].golden.clear()), &["golden", "0"]);
    says(
        &c(|m| m.profiles[0].golden[2].isolation_forest *= 1.001),
        &["core.isolation_forest.onnx", "golden vector 2", "0.0001"],
    );
    says(&c(|m| shorten(&mut m.profiles[0].golden[2].features)), &["golden vector 2", "15", "16"]);
    let evidence = |spoil: fn(&mut EvidenceThresholds)| {
        let spoilt = move |m: &mut Manifest| {
            let mut e = EvidenceThresholds {
                alert: 1.0,
                drop: 1.0,
                allowance: [1.0; 2],
                budget_per_day: 1.0,
                certified: true,
                benign_windows: 1,
                benign_sources: 64,
                strange: Vec::new(),
                carriers: vec![Carrier { net: "2001:db8::/64".parse().expect("a prefix"), share: 0.25 }],
                note: String::new(),
            };
            spoil(&mut e);
            m.evidence = Some(e);
        };
        refusal(move |d| change(d, spoilt))
    };
    says(&evidence(|e| e.alert = f64::NAN), &["evidence", "alert", "NaN"]);
    says(&evidence(|e| e.carriers[0].share = 1.5), &["evidence", "2001:db8::/64", "1.5", "0 to 1"]);
    says(&evidence(|e| e.carriers[0].share = f64::NAN), &["evidence", "2001:db8::/64", "NaN"]);
    says(&evidence(|e| e.carriers = vec![e.carriers[0].clone(); 201]), &["evidence", "carriers", "201", "200"]);
}

#[test]
fn models_of_another_bundle_are_refused() {
    let (_guard, other) = bundle_dir();
    let other_source = fs::read(other.join("source.autoencoder.onnx")).expect("a model");
    says(&refusal(|d| replace_model(d, AUTOENCODER, &other_source)), &[AUTOENCODER, "[N, 18]", "[N, 16]"]);
    let sets = [benign(ProfileId::Core, 500, 99)];
    let dir = tempfile::tempdir().expect("a temporary directory");
    train(&sets, &config(), &mut |_| {}).expect("trains").write(&dir.path().join("b")).expect("writes");
    let other_core = fs::read(dir.path().join("b").join(AUTOENCODER)).expect("a model");
    says(&refusal(|d| replace_model(d, AUTOENCODER, &other_core)), &[AUTOENCODER, "golden vector 0", "belong"]);
    let forest = fs::read(other.join("core.isolation_forest.onnx")).expect("a model");
    says(&refusal(|d| replace_model(d, AUTOENCODER, &forest)), &[AUTOENCODER, "outputs", "feature_errors"]);
}

#[test]
fn a_profile_that_was_not_trained_cannot_be_scored() {
    let trained = train(&[benign(ProfileId::Core, 400, 1)], &config(), &mut |_| {}).expect("trains");
    let error = trained.bundle().score(&scans(1, 1)).expect_err("no such profile").to_string();
    says(&error, &["`source`", "it has core", trained.bundle().id()]);
    assert!(trained.bundle().explain(ProfileId::Core, &[0.0; 3], 1).is_err());
}

#[test]
fn models_from_elsewhere_are_calibrated_like_our_own() {
    let (_guard, dir) = bundle_dir();
    let model = |name: &str| fs::read(dir.join(name)).expect("a model");
    let models =
        ForeignModels { autoencoder: model(AUTOENCODER), isolation_forest: model("core.isolation_forest.onnx") };
    let sets = [benign(ProfileId::Core, 4_000, 31)];
    let given = [(ProfileId::Core, models)].into();
    let bundle = calibrate_foreign(&sets, &given, &config(), &mut |_| {}).expect("calibrates");
    let scored = bundle.bundle().score(&benign(ProfileId::Core, 4_000, 32).matrix).expect("scores");
    let rate = scored.iter().filter(|s| s.p <= 0.05).count() as f64 / 4_000.0;
    assert!((0.03..0.07).contains(&rate), "realised rate {rate} at 0.05");
    let error = calibrate_foreign(&[benign(ProfileId::Source, 400, 1)], &given, &config(), &mut |_| {});
    says(&error.expect_err("no models").to_string(), &["`source`"]);
}

#[test]
fn a_child_process_checks_within_limits() {
    let dir = Path::new("/some/bundle");
    let sh = Path::new("/bin/sh");
    let limits = ChildLimits { seconds: 1, memory_bytes: 1 << 30 };
    let run = |script: &str, limits| verify_in_child(sh, &["-c", script, "sh"], dir, limits);
    run("test \"$1\" = /some/bundle", limits).expect("the directory is the last argument");
    let says_no = run("echo golden vector 3 is off >&2; exit 4", limits).expect_err("exits with 4").to_string();
    says(&says_no, &["/some/bundle", "code 4", "golden vector 3 is off"]);
    let verdict = run("echo error: golden vector 3 is off >&2; exit 1", limits).expect_err("the child's verdict");
    assert_eq!(verdict.to_string(), "/some/bundle is refused: golden vector 3 is off");
    assert_eq!(verdict.reason(), "golden vector 3 is off");
    let abort = "echo memory allocation of 99 bytes failed >&2; kill -ABRT $$";
    says(&run(abort, limits).expect_err("aborts").to_string(), &["more than 1024 MiB of memory"]);

    let start = Instant::now();
    says(&run("sleep 60", limits).expect_err("too slow").to_string(), &["more than 1 s"]);
    says(&run("while :; do :; done", limits).expect_err("too slow").to_string(), &["1 s"]);
    assert!(start.elapsed() < Duration::from_secs(20));
    let greedy = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";
    let small = ChildLimits { seconds: 20, memory_bytes: 64 << 20 };
    run(greedy, small).expect_err("too large");
    let chatty =
        "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789 >&2; i=$((i+1)); done; exit 1";
    assert!(run(chatty, small).expect_err("exits with 1").to_string().len() < 20_000);
    let error = verify_in_child(Path::new("/nonexistent/weir"), &[], dir, limits).expect_err("does not start");
    says(&error.to_string(), &["/nonexistent/weir"]);
}

fn shorten<T>(list: &mut Vec<T>) {
    list.truncate(list.len() - 1);
}
