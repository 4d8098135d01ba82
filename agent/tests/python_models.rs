//! Models of scikit-learn and PyTorch, from flows to a bundle that serves. Needs Python with the packages of
//! `models/python/requirements.txt`: `WEIR_PYTHON`, or `venv/bin/python` in the target directory.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{WEIR, file, ok, run, str, strange, text, usual};
use weir_models::Bundle;
use weir_source::write::Form;

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/python")
}

fn interpreter() -> Result<PathBuf, String> {
    if let Some(p) = std::env::var_os("WEIR_PYTHON") {
        return Ok(p.into());
    }
    // target/debug/weir
    let target =
        Path::new(WEIR).ancestors().nth(2).ok_or("the target directory cannot be told from where weir lies")?;
    let python = target.join("venv/bin/python");
    if python.exists() {
        Ok(python)
    } else {
        Err(format!("{} does not exist and WEIR_PYTHON is not set", python.display()))
    }
}

/// Python with the package in its path, if what it imports is there; else says what is missing.
fn python(test: &str) -> Option<Command> {
    let skip = |why: String| eprintln!("SKIP {test}: {why}");
    let interpreter = interpreter().map_err(skip).ok()?;
    let command = || {
        let mut command = Command::new(&interpreter);
        command.env("PYTHONPATH", package()).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    };
    let tried = command().args(["-c", "import weir_models"]).output();
    let tried = tried.map_err(|e| skip(format!("{} does not run: {e}", interpreter.display()))).ok()?;
    if !tried.status.success() {
        let said = text(&tried.stderr);
        skip(format!("{} lacks packages: {}", interpreter.display(), said.lines().last().unwrap_or_default()));
        return None;
    }
    Some(command())
}

/// Floods are found, and usual flows are usual.
fn works(bundle: &Path, dir: &Path) {
    let fresh = file(dir, "fresh.json", Form::Json, (10_000..10_400).map(usual).chain((0..5).map(strange)));
    let out = run(&["replay", str(&fresh), "--bundle", str(bundle), "--only-anomalies", "--explain", "-o", "json"]);
    let odd: Vec<_> = ok(&out).lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()).collect();
    let floods: Vec<_> = odd.iter().filter(|f| f["label"] == "Flood").collect();
    assert!(floods.len() == 5 && odd.len() < 5 + 30, "{} floods of {} anomalies", floods.len(), odd.len());
    assert!(!floods[0]["anomaly"]["reasons"].as_array().unwrap().is_empty(), "{}", floods[0]);
}

#[test]
fn scikit_learn_makes_a_bundle_of_flows_that_serves() {
    let Some(mut python) = python("scikit_learn_makes_a_bundle_of_flows_that_serves") else { return };
    let dir = tempfile::tempdir().unwrap();
    let flows = (0..3_000).map(usual).chain((0..40).map(strange));
    let input = file(dir.path(), "flows.parquet", Form::Parquet, flows);
    let bundle = dir.path().join("bundle");
    let out = python.args(["-m", "weir_models", str(&input), "--out", str(&bundle), "--weir", WEIR]).output().unwrap();
    let said = ok(&out);
    assert!(said.contains("core: 1800 rows") && said.contains("left out: 40 flows labelled Flood"), "{said}");
    let loaded = Bundle::load(&bundle).unwrap();
    let names: Vec<_> = loaded.profiles().map(|p| p.name()).collect();
    assert_eq!(names, ["core", "source"]);
    assert!(loaded.manifest().provenance.source.starts_with("models made elsewhere; calibrated on 3000 flows"));
    assert!(loaded.manifest().evidence.as_ref().is_some_and(|e| e.benign_windows > 0), "thresholds come with it");
    works(&bundle, dir.path());
}

#[test]
fn no_model_is_calibrated_by_rows_that_it_was_fitted_to() {
    let Some(mut python) = python("no_model_is_calibrated_by_rows_that_it_was_fitted_to") else { return };
    let dir = tempfile::tempdir().unwrap();
    let input = file(dir.path(), "flows.parquet", Form::Parquet, (0..1_500).map(usual));
    let (rows, models, bundle) = (dir.path().join("rows"), dir.path().join("models"), dir.path().join("bundle"));
    let said = ok(&run(&["model", "features", str(&input), "--profile", "core", "--out", str(&rows), "-o", "json"]));
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let counted: u64 = said["rows"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!((counted, said["rows"]["thresholds"].as_u64()), (1_500, Some(600)), "{said}");

    std::fs::create_dir(&models).unwrap();
    let script = "
import sys, numpy, onnx, weir_models
from weir_models import forest, read, save
rows = read(sys.argv[1])
assert rows.x.shape == (1500, 16) and rows.features[0] == 'proto_tcp' and rows.log1p[3] and not rows.log1p[0]
assert rows.x.dtype == numpy.float32 and rows.present.all()
fit, _ = rows.of('fit')
assert 0 < len(fit) <= (rows.part == 'fit').sum()
save(weir_models.autoencoder.to_weir(weir_models.autoencoder.fit(rows, epochs=30)), rows, sys.argv[2] + '/core.autoencoder.onnx')
made = forest.to_weir(*forest.fit(rows))
onnx.save(made, sys.argv[3])
save(made, rows, sys.argv[2] + '/core.isolation_forest.onnx')
";
    let silent = dir.path().join("silent.onnx");
    let core = rows.join("core.parquet");
    ok(&python.args(["-c", script, str(&core), str(&models), str(&silent)]).output().unwrap());

    let calibrate = |more: &[&str]| {
        let mut args = vec!["model", "calibrate", str(&input), "--models", str(&models), "--out", str(&bundle)];
        args.extend(more);
        run(&args)
    };
    let refused = |more: &[&str], words: &str| {
        let out = calibrate(more);
        let said = text(&out.stderr);
        assert!(out.status.code() == Some(1) && said.contains(words), "`{words}` is not in\n{said}");
        assert!(!bundle.exists());
    };
    refused(&["--seed", "2"], "was fitted to the division");
    let forest = models.join("core.isolation_forest.onnx");
    let named = std::fs::read(&forest).unwrap();
    std::fs::copy(&silent, &forest).unwrap();
    refused(&[], "does not say which rows it was fitted to");
    ok(&calibrate(&["--unseen"]));
    works(&bundle, dir.path());
    std::fs::remove_dir_all(&bundle).unwrap();
    // As it should be; and one of two is no profile.
    std::fs::write(&forest, named).unwrap();
    ok(&calibrate(&[]));
    std::fs::remove_file(&forest).unwrap();
    let out = calibrate(&[]);
    assert_eq!(out.status.code(), Some(2), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("and not core.isolation_forest.onnx"), "{}", text(&out.stderr));
}

#[test]
fn the_example_of_pytorch_makes_models_that_serve() {
    let test = "the_example_of_pytorch_makes_models_that_serve";
    let Some(mut python) = python(test) else { return };
    let dir = tempfile::tempdir().unwrap();
    let input = file(dir.path(), "flows.parquet", Form::Parquet, (0..3_000).map(usual));
    let (rows, models, bundle) = (dir.path().join("rows"), dir.path().join("models"), dir.path().join("bundle"));
    ok(&run(&["model", "features", str(&input), "--profile", "core", "--out", str(&rows)]));
    let example = package().join("examples/torch_autoencoder.py");
    let core = rows.join("core.parquet");
    let out = python.args([str(&example), str(&core), str(&models)]).output().unwrap();
    if out.status.code() == Some(3) {
        eprintln!("SKIP {test}: {}", text(&out.stderr).trim());
        return;
    }
    ok(&out);
    ok(&run(&["model", "calibrate", str(&input), "--models", str(&models), "--out", str(&bundle)]));
    works(&bundle, dir.path());
}
