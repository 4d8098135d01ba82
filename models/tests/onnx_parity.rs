//! The exported graphs are ONNX as others understand it: onnx accepts them and onnxruntime gives the same scores as tract.
//!
//! Needs Python with the packages of `python/requirements.txt`: `WEIR_PYTHON`, or `venv/bin/python` in the target directory.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{TRAINED, benign, config, scans, trained};
use weir_core::matrix::FeatureMatrix;
use weir_core::profile::ProfileId;
use weir_models::{ForeignModels, Scored, TrainSet, calibrate_foreign};

fn python() -> Result<PathBuf, String> {
    if let Some(p) = std::env::var_os("WEIR_PYTHON") {
        return Ok(p.into());
    }
    // target/debug/deps/this-test
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let target = exe.ancestors().nth(3).ok_or("the target directory cannot be told from the test's own path")?;
    let python = target.join("venv/bin/python");
    if python.exists() {
        Ok(python)
    } else {
        Err(format!("{} does not exist and WEIR_PYTHON is not set", python.display()))
    }
}

/// Benign rows, strange ones, rows of extreme values, and every tenth row with gaps.
fn rows(profile: ProfileId) -> FeatureMatrix {
    let mut all = benign(profile, 400, 8).matrix;
    if profile == ProfileId::Source {
        let strange = scans(50, 8);
        (0..50).for_each(|i| all.push_from(&strange, i));
    }
    for v in [0.0, 1e-6, 1.0, 1e9, -5.0, 3e38] {
        all.push(&vec![Some(v); profile.width()], all.role(0)).expect("finite");
    }
    let mut out = FeatureMatrix::new(profile);
    for i in 0..all.len() {
        let gap = if i % 10 == 0 { 0b1001u64 << (i / 10 % 14) } else { 0 };
        let present = all.present(i) & !gap;
        let row: Vec<_> = all.row(i).iter().enumerate().map(|(j, v)| (present >> j & 1 == 1).then_some(*v)).collect();
        out.push(&row, all.role(i)).expect("finite");
    }
    out.push(&vec![None; profile.width()], all.role(0)).expect("finite");
    out
}

fn floats(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).expect("what the script wrote");
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Runs a script of `models/python`; `None`, and a word on standard error, if Python or a package is missing.
fn run_script(script: &str, args: &[&Path]) -> Option<String> {
    let skip = |why: String| eprintln!("SKIP onnx_parity: {why}");
    let python = python().map_err(skip).ok()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
    let run = Command::new(&python).arg(script).args(args).output();
    let output = run.map_err(|e| skip(format!("{} does not run: {e}", python.display()))).ok()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) {
        skip(format!("{} lacks packages: {}", python.display(), stderr.trim()));
        return None;
    }
    assert!(output.status.success(), "{stderr}");
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Rows without missing values: scikit-learn's models know none.
fn gapless(rows: usize, seed: u64) -> TrainSet {
    let set = benign(ProfileId::Source, rows, seed);
    let mut matrix = FeatureMatrix::new(ProfileId::Source);
    for i in 0..set.matrix.len() {
        let row: Vec<_> = set.matrix.row(i).iter().map(|v| Some(*v)).collect();
        matrix.push(&row, set.matrix.role(i)).expect("finite");
    }
    TrainSet { matrix, ..set }
}

fn write_rows(path: &Path, set: &TrainSet) {
    let head = [set.matrix.len() as f32, ProfileId::Source.width() as f32];
    let bytes: Vec<u8> = head.iter().chain(set.matrix.data()).flat_map(|v| v.to_le_bytes()).collect();
    fs::write(path, bytes).expect("writes");
}

/// Perceptrons of scikit-learn, forests and boosted trees as regressors and classifiers, and trees at random that use every
/// comparison, missing values and aggregate, in both generations of the operator.
#[test]
fn models_of_many_makes_score_as_in_onnxruntime() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let set = gapless(1_200, 7);
    write_rows(&dir.join("rows"), &set);
    if run_script("zoo.py", &[&dir.join("rows"), dir]).is_none() {
        return;
    }
    trained(600).write(&dir.join("bundle")).expect("writes");
    let own = |name| fs::read(dir.join("bundle").join(format!("source.{name}.onnx"))).expect("a model");
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("a directory")
        .filter_map(|e| Some(e.expect("an entry").file_name().to_str()?.strip_suffix(".onnx")?.to_owned()))
        .collect();
    names.sort();
    assert!(names.len() >= 18, "{names:?}");
    for name in names {
        let given = fs::read(dir.join(format!("{name}.onnx"))).expect("a model");
        let mut models = ForeignModels { autoencoder: own("autoencoder"), isolation_forest: own("isolation_forest") };
        let encodes = name.starts_with("autoencoder");
        *if encodes { &mut models.autoencoder } else { &mut models.isolation_forest } = given;
        let given = [(ProfileId::Source, models)].into();
        let bundle = calibrate_foreign(std::slice::from_ref(&set), &given, &config(), &mut |_| {});
        let scored = bundle.unwrap_or_else(|e| panic!("{name}: {e}")).bundle().score(&set.matrix).expect("scores");
        let expected = floats(&dir.join(format!("{name}.scores")));
        assert_eq!(scored.len(), expected.len());
        let raw = |s: &Scored| if encodes { s.raw_autoencoder } else { s.raw_isolation_forest };
        let off = |(s, e): (&Scored, &f32)| (raw(s) - e).abs() / e.abs().max(1.0);
        let worst = scored.iter().zip(&expected).map(off).fold(0.0, f32::max);
        println!("{name}: largest relative difference to onnxruntime {worst:e}");
        assert!(worst <= 1e-5, "{name}: differs from onnxruntime by {worst}");
    }
}

#[test]
fn forests_of_scikit_learn_score_as_there() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let set = gapless(1_200, 6);
    write_rows(&dir.join("rows"), &set);
    if run_script("sklearn_forest.py", &[&dir.join("rows"), dir]).is_none() {
        return;
    }
    let own = trained(600);
    own.write(&dir.join("bundle")).expect("writes");
    let autoencoder = fs::read(dir.join("bundle/source.autoencoder.onnx")).expect("a model");
    let expected = floats(&dir.join("expected.scores"));
    // skl2onnx adds up rounded path lengths.
    for (name, tolerance) in [("ours", 2e-7), ("skl2onnx", 2e-6)] {
        let isolation_forest = fs::read(dir.join(format!("{name}.onnx"))).expect("a model");
        let models = ForeignModels { autoencoder: autoencoder.clone(), isolation_forest };
        let given = [(ProfileId::Source, models)].into();
        let bundle = calibrate_foreign(std::slice::from_ref(&set), &given, &config(), &mut |_| {});
        let scored = bundle.unwrap_or_else(|e| panic!("{name}: {e}")).bundle().score(&set.matrix).expect("scores");
        let off = scored.iter().zip(&expected).map(|(s, e)| (s.raw_isolation_forest - e).abs()).fold(0.0, f32::max);
        println!("{name}: largest difference to scikit-learn {off:e}");
        assert!(off <= tolerance, "{name}: differs from scikit-learn by {off}");
    }
}

#[test]
fn onnxruntime_agrees_with_tract() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().join("bundle");
    let bundle = trained(1_500);
    bundle.write(&dir).expect("writes");
    for profile in TRAINED {
        let m = rows(profile);
        let head = [m.len() as f32, profile.width() as f32];
        let mask = (0..m.len()).flat_map(|i| (0..profile.width()).map(move |j| (i, j)));
        let mask = mask.map(|(i, j)| (m.present(i) >> j & 1) as f32);
        let all = head.into_iter().chain(m.data().iter().copied()).chain(mask);
        let bytes: Vec<u8> = all.flat_map(f32::to_le_bytes).collect();
        fs::write(dir.join(format!("{profile}.rows")), bytes).expect("writes");
    }
    let Some(said) = run_script("check_onnx.py", &[&dir]) else { return };
    println!("{said}");

    for profile in TRAINED {
        let m = rows(profile);
        let tract = bundle.bundle().score(&m).expect("scores");
        let autoencoder = floats(&dir.join(format!("{profile}.autoencoder.scores")));
        let forest = floats(&dir.join(format!("{profile}.isolation_forest.scores")));
        assert_eq!((autoencoder.len(), forest.len()), (m.len() * (1 + profile.width()), m.len()));
        let mut worst = [0.0f32; 2];
        for (i, s) in tract.iter().enumerate() {
            for (k, (ours, theirs)) in
                [(s.raw_autoencoder, autoencoder[i]), (s.raw_isolation_forest, forest[i])].into_iter().enumerate()
            {
                // Relative, and in units of what normal traffic scores below that.
                let usual = if k == 0 { 1.0 } else { 0.5 };
                let off = (ours - theirs).abs() / theirs.abs().max(usual);
                worst[k] = worst[k].max(off);
                // Far from all parts, large numbers are added up, here in one order and there in another.
                let tolerance = if k == 0 { 3e-5 } else { 1e-5 };
                assert!(off <= tolerance, "{profile}, row {i}, detector {k}: {ours} instead of {theirs}");
            }
        }
        println!("{profile}: {} rows, largest relative difference {:e} and {:e}", m.len(), worst[0], worst[1]);
    }
}
