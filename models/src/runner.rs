//! Running a checked ONNX model through tract at fixed batch sizes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::logic::Iff;

use crate::bundle::BundleError;
use crate::onnx::{Graph, INPUT_FEATURES, INPUT_PRESENT, fuse, only};
use crate::{parts, trees};

/// Compiled batch sizes, ascending. A symbolic batch was measured to be 3.3 times slower.
pub const BATCHES: [usize; 3] = [1, 64, 1024];

/// Why a model could not be compiled or run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RunError {
    #[error("the model does not compile: {0}")]
    Compile(String),
    #[error("the model failed on a batch of {rows} rows: {cause}")]
    Run { rows: usize, cause: String },
    #[error("output `{output}` has shape {found:?}, expected [{rows}, {columns}]")]
    Shape { output: String, found: Vec<usize>, rows: usize, columns: usize },
    #[error("output `{output}` is {value} for row {row}, expected finite numbers")]
    NotFinite { output: String, row: usize, value: f32 },
}

/// A model compiled for some batch sizes.
pub(crate) struct Runner {
    plans: Vec<(usize, Arc<TypedSimplePlan>)>,
    inputs: Vec<String>,
    /// Name and columns of the outputs.
    outputs: Vec<(String, usize)>,
    width: usize,
    /// What stands in for a missing value where the model has no input `present`.
    fill: Vec<f32>,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("inputs", &self.inputs).field("outputs", &self.outputs).finish_non_exhaustive()
    }
}

/// Turns a panic of tract into an error: a bad model must not end the agent.
fn guarded<T>(f: impl FnOnce() -> TractResult<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(v)) => Ok(v),
        Ok(Err(e)) => Err(short(&format!("{e:#}"))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(short(&format!("tract panicked: {text}")))
        }
    }
}

/// tract may print whole graphs into an error.
fn short(message: &str) -> String {
    const MAX: usize = 400;
    match message.char_indices().nth(MAX) {
        Some((end, _)) => format!("{} ...", &message[..end]),
        None => message.to_owned(),
    }
}

/// Most bytes of constants that [`widen`] adds to a plan.
const MAX_WIDENED: usize = 8 << 20;

/// Repeats constants of one row for each row of the batch where they meet a whole batch element by element: tract has vector code
/// for operands of equal shape, and walks the others number by number.
fn widen(model: &mut TypedModel, rows: usize) -> TractResult<()> {
    let mut left = MAX_WIDENED;
    for id in 0..model.nodes.len() {
        let node = &model.nodes[id];
        let Some(row) = node.op_as::<Const>().map(|c| c.val().clone()) else { continue };
        let &[1, columns] = row.shape() else { continue };
        let bytes = rows * columns * row.datum_type().size_of();
        let wide = |n: &TypedNode| {
            (n.op_is::<TypedBinOp>() || n.op_is::<Iff>())
                && n.outputs[0].fact.shape.as_concrete().is_some_and(|s| s == [rows, columns])
        };
        let users = &node.outputs[0].successors;
        if rows == 1
            || columns == 1
            || bytes > left
            || users.is_empty()
            || !users.iter().all(|u| wide(&model.nodes[u.node]))
        {
            continue;
        }
        left -= bytes;
        let whole = row.broadcast_to_shape(&[rows, columns])?.into_arc_tensor();
        model.nodes[id].outputs[0].fact = TypedFact::try_from(&whole)?;
        model.nodes[id].op = Box::new(Const::new(whole)?);
    }
    Ok(())
}

impl Runner {
    /// Compiles `graph` for rows of `fill.len()` features. `outputs`: name and number of columns of what [`Runner::run`] returns;
    /// what none of them needs is left out.
    pub(crate) fn new(graph: &Graph, outputs: &[(&str, usize)], fill: &[f32]) -> Result<Self, RunError> {
        Self::for_batches(&BATCHES, graph, outputs, fill)
    }

    /// As [`Runner::new`], for other batch sizes, ascending.
    pub(crate) fn for_batches(
        batches: &[usize],
        graph: &Graph,
        outputs: &[(&str, usize)],
        fill: &[f32],
    ) -> Result<Self, RunError> {
        let width = fill.len();
        let names: Vec<&str> = outputs.iter().map(|(name, _)| *name).collect();
        if let Some(name) = names.iter().find(|name| !graph.outputs.iter().any(|o| o == *name)) {
            return Err(RunError::Compile(format!("there is no output `{name}`")));
        }
        let mut proto = only(&graph.proto, &names);
        fuse(&mut proto);
        let model = guarded(|| {
            let mut onnx = tract_onnx::onnx();
            trees::register(&mut onnx.op_register);
            parts::register(&mut onnx.op_register);
            onnx.model_for_proto_model(&proto)
        })
        .map_err(RunError::Compile)?;
        let mut plans = Vec::with_capacity(batches.len());
        for &rows in batches {
            let plan = guarded(|| {
                let mut model = model.clone();
                for i in 0..graph.inputs.len() {
                    model = model.with_input_fact(i, f32::fact([rows, width]).into())?;
                }
                let mut model = model.into_typed()?.into_decluttered()?;
                widen(&mut model, rows)?;
                model.into_optimized()?.into_runnable()
            })
            .map_err(|e| RunError::Compile(format!("for batches of {rows} rows: {e}")))?;
            plans.push((rows, plan));
        }
        let outputs = outputs.iter().map(|(name, columns)| ((*name).to_owned(), *columns)).collect();
        Ok(Self { plans, inputs: graph.inputs.clone(), outputs, width, fill: fill.to_vec() })
    }

    /// Scores rows (`features` and `present` row-major `[rows, width]`, `present` 0 or 1); one vector per output, each
    /// `[rows, columns]`, finite.
    pub(crate) fn run(&self, features: &[f32], present: &[f32]) -> Result<Vec<Vec<f32>>, RunError> {
        let rows = features.len() / self.width;
        let mut out: Vec<Vec<f32>> = self.outputs.iter().map(|(_, c)| Vec::with_capacity(rows * c)).collect();
        let filled: Vec<f32>;
        let features = if self.inputs.iter().any(|i| i == INPUT_PRESENT) {
            features
        } else {
            let of = |(i, (x, p)): (usize, (&f32, &f32))| if *p > 0.5 { *x } else { self.fill[i % self.width] };
            filled = features.iter().zip(present).enumerate().map(of).collect();
            &filled
        };
        let mut at = 0;
        while at < rows {
            let left = rows - at;
            // The largest batch that is filled, or the smallest that holds the rest.
            let filled = self.plans.iter().rev().find(|(n, _)| *n <= left && (*n > 1 || left == 1));
            let Some((batch, plan)) = filled.or_else(|| self.plans.iter().find(|(n, _)| *n >= left)) else {
                return Err(RunError::Run { rows: left, cause: "no batch size was compiled".to_owned() });
            };
            let take = left.min(*batch);
            self.batch(plan, *batch, &features[at * self.width..], &present[at * self.width..], take, at, &mut out)?;
            at += take;
        }
        Ok(out)
    }

    #[allow(clippy::too_many_arguments, reason = "one call, splits a loop body off")]
    fn batch(
        &self,
        plan: &Arc<TypedSimplePlan>,
        batch: usize,
        features: &[f32],
        present: &[f32],
        rows: usize,
        first: usize,
        out: &mut [Vec<f32>],
    ) -> Result<(), RunError> {
        let values = guarded(|| {
            let mut inputs = tvec!();
            for name in &self.inputs {
                let data = if name == INPUT_FEATURES { features } else { present };
                let data = &data[..rows * self.width];
                let shape = [batch, self.width];
                let tensor = if rows == batch {
                    Tensor::from_shape(&shape, data)?
                } else {
                    let mut padded = data.to_vec();
                    padded.resize(batch * self.width, 0.0);
                    Tensor::from_shape(&shape, &padded)?
                };
                inputs.push(tensor.into_tvalue());
            }
            plan.run(inputs)
        })
        .map_err(|cause| RunError::Run { rows: batch, cause })?;
        for (at, ((name, columns), out)) in self.outputs.iter().zip(out).enumerate() {
            let wrong = |found: &[usize]| RunError::Shape {
                output: name.clone(),
                found: found.to_vec(),
                rows: batch,
                columns: *columns,
            };
            let tensor = values.get(at).ok_or_else(|| wrong(&[]))?;
            if tensor.shape() != [batch, *columns] {
                return Err(wrong(tensor.shape()));
            }
            let before = out.len();
            guarded(|| {
                let view = tensor.to_plain_array_view::<f32>()?;
                match view.as_slice() {
                    Some(values) => out.extend_from_slice(&values[..rows * columns]),
                    None => out.extend(view.iter().take(rows * columns)),
                }
                Ok(())
            })
            .map_err(|cause| RunError::Run { rows: batch, cause })?;
            let view = &out[before..];
            if let Some(i) = view.iter().position(|v| !v.is_finite()) {
                return Err(RunError::NotFinite { output: name.clone(), row: first + i / columns, value: view[i] });
            }
        }
        Ok(())
    }
}

/// One model by itself, checked and compiled as those of a bundle are: for benchmarks and tools. [`crate::Bundle`] runs two and makes
/// p-values of what they give.
#[derive(Debug)]
pub struct Scorer(Runner);

impl Scorer {
    /// Checks and compiles the model in `bytes` for rows of `fill.len()` features, where `fill` stands in for missing values if the
    /// model does not take `present`. `outputs`: name and number of columns of what [`Scorer::run`] returns.
    pub fn load(bytes: &[u8], fill: &[f32], outputs: &[(&str, usize)]) -> Result<Self, BundleError> {
        let file = || "the model".to_owned();
        let names: Vec<&str> = outputs.iter().map(|(name, _)| *name).collect();
        let graph = crate::onnx::parse(bytes, fill.len(), &names)
            .map_err(|e| BundleError::Graph { file: file(), source: Box::new(e) })?;
        let runner = Runner::new(&graph, outputs, fill).map_err(|source| BundleError::Run { file: file(), source })?;
        Ok(Self(runner))
    }

    /// Scores rows, row-major; `present` is 1 where `features` has a value and 0 where it is missing. One vector per output,
    /// `[rows, columns]`, finite.
    pub fn run(&self, features: &[f32], present: &[f32]) -> Result<Vec<Vec<f32>>, RunError> {
        self.0.run(features, present)
    }
}
