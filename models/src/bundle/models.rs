//! The compiled models of one profile.

use weir_core::matrix::FeatureMatrix;

use super::error::BundleError;
use super::manifest::ModelEntry;
use crate::calibrate::Raw;
use crate::isolation::mean_path;
use crate::onnx::{self, OUTPUT_ERRORS, OUTPUT_SCORE};
use crate::runner::{RunError, Runner};
use crate::trees::Forest;

/// A row as the models take it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawRow<'a> {
    pub(crate) features: &'a [f32],
    pub(crate) present: u64,
}

/// A forest that can tell which features shortened a row's paths.
#[derive(Debug)]
struct Paths {
    forest: Forest,
    /// Mean path length below each node.
    means: Vec<f32>,
}

#[derive(Debug)]
pub(crate) struct ProfileModels {
    autoencoder: Runner,
    /// The same model, for its errors per feature: only who explains a row wants them.
    errors: Runner,
    isolation_forest: Runner,
    paths: Option<Paths>,
    fill: Vec<f32>,
    pub(crate) files: [String; 2],
}

impl ProfileModels {
    /// Checks and compiles two model files, given with their names. Also returns the manifest entries that describe them.
    pub(crate) fn compile(
        autoencoder: (&str, &[u8]),
        isolation_forest: (&str, &[u8]),
        fill: &[f32],
    ) -> Result<(Self, [ModelEntry; 2]), BundleError> {
        let width = fill.len();
        let parse = |(file, bytes): (&str, &[u8]), outputs: &[(&str, usize)], must_have: &[&str]| {
            let graph = onnx::parse(bytes, width, must_have)
                .map_err(|e| BundleError::Graph { file: file.to_owned(), source: Box::new(e) })?;
            let runner = Runner::new(&graph, outputs, fill)
                .map_err(|source| BundleError::Run { file: file.to_owned(), source })?;
            let entry = ModelEntry {
                file: file.to_owned(),
                sha256: super::sha256_hex(bytes),
                opset: graph.opset,
                outputs: graph.outputs.clone(),
            };
            Ok::<_, BundleError>((graph, runner, entry))
        };
        let score = [(OUTPUT_SCORE, 1)];
        let (graph, autoencoder_runner, a) = parse(autoencoder, &score, &[OUTPUT_SCORE, OUTPUT_ERRORS])?;
        let errors = Runner::for_batches(&[1], &graph, &[(OUTPUT_ERRORS, width)], fill)
            .map_err(|source| BundleError::Run { file: autoencoder.0.to_owned(), source })?;
        let (graph, forest_runner, f) = parse(isolation_forest, &score, &[OUTPUT_SCORE])?;
        let trees = |source| BundleError::Trees { file: isolation_forest.0.to_owned(), source };
        let forest = onnx::path_forest(&graph.proto).map_err(trees)?.filter(|f| f.width() <= width);
        let paths = forest.map(|forest| Paths { means: forest.node_means(rows_at_leaf), forest });
        let models = Self {
            autoencoder: autoencoder_runner,
            errors,
            isolation_forest: forest_runner,
            paths,
            fill: fill.to_vec(),
            files: [a.file.clone(), f.file.clone()],
        };
        Ok((models, [a, f]))
    }

    /// Raw scores of `rows`.
    pub(crate) fn run<'a>(&self, rows: impl Iterator<Item = RawRow<'a>>) -> Result<Vec<Raw>, (usize, RunError)> {
        let (mut features, mut masks) = (Vec::new(), Vec::new());
        for row in rows {
            features.extend_from_slice(row.features);
            masks.push(row.present);
        }
        self.run_rows(&features, masks.into_iter())
    }

    /// `features` is row-major, `masks` has one entry per row.
    fn run_rows(&self, features: &[f32], masks: impl Iterator<Item = u64>) -> Result<Vec<Raw>, (usize, RunError)> {
        let mut present = Vec::with_capacity(features.len());
        for mask in masks {
            present.extend(self.presence(mask));
        }
        let a = self.autoencoder.run(features, &present).map_err(|e| (0, e))?;
        let f = self.isolation_forest.run(features, &present).map_err(|e| (1, e))?;
        let rows = a[0].iter().zip(&f[0]);
        Ok(rows.map(|(a, f)| Raw { autoencoder: *a, isolation_forest: *f }).collect())
    }

    /// 1 where a feature is present.
    fn presence(&self, mask: u64) -> impl Iterator<Item = f32> {
        (0..self.fill.len()).map(move |j| (mask >> j & 1) as f32)
    }

    /// Raw scores of all rows of a matrix.
    pub(crate) fn run_matrix(&self, m: &FeatureMatrix) -> Result<Vec<Raw>, (usize, RunError)> {
        self.run_rows(m.data(), (0..m.len()).map(|i| m.present(i)))
    }

    /// The autoencoder's error of each feature.
    pub(crate) fn errors(&self, row: RawRow<'_>) -> Result<Vec<f32>, (usize, RunError)> {
        let present: Vec<f32> = self.presence(row.present).collect();
        let mut out = self.errors.run(row.features, &present).map_err(|e| (0, e))?;
        Ok(out.swap_remove(0))
    }

    /// How much each feature shortened the row's paths, in splits summed over the trees (Saabas: "Interpreting random forests",
    /// 2014, on path lengths). `None` if the model's trees don't compare the features themselves.
    pub(crate) fn shortening(&self, row: RawRow<'_>) -> Option<Vec<f32>> {
        let paths = self.paths.as_ref()?;
        let of = |(j, x): (usize, &f32)| if row.present >> j & 1 == 1 { *x } else { self.fill[j] };
        let filled: Vec<f32> = row.features.iter().enumerate().map(of).collect();
        let mut out = vec![0.0f32; filled.len()];
        paths.forest.walk(&filled, |step| out[step.feature] += paths.means[step.from] - paths.means[step.to]);
        // A missing value was no reason, and a lengthened path is none either.
        for (j, v) in out.iter_mut().enumerate() {
            *v = if row.present >> j & 1 == 1 { v.max(0.0) } else { 0.0 };
        }
        Some(out)
    }
}

/// How many training rows ended in a leaf whose value is depth plus `c(n)`; 1 for leaves of other making.
fn rows_at_leaf(depth: usize, value: f32) -> f64 {
    let c = f64::from(value) - depth as f64;
    if !(0.0..20.0).contains(&c) {
        return 1.0;
    }
    let (mut low, mut high) = (1usize, 1 << 16);
    while low < high {
        let middle = (low + high) / 2;
        if mean_path(middle) < c - 1e-3 {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low as f64
}
