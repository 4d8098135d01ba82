//! `TreeEnsembleRegressor` for tract: reading the ONNX node and running the [`Forest`].

use std::sync::Arc;

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::{AttributeProto, NodeProto};
use tract_onnx::tract_hir::internal::*;

use super::{Aggregate, Forest, Mode, TreeArrays, TreeError};

/// Makes tract know the operators of this module.
pub(crate) fn register(register: &mut OnnxOpRegister) {
    register.insert("TreeEnsembleRegressor", regressor);
    register.insert("LabelEncoder", super::labels::label_encoder);
}

/// Attributes that the operator has and that are read here; any other is refused, as ignoring it would change the result.
const KNOWN: [&str; 17] = [
    "aggregate_function",
    "base_values",
    "n_targets",
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_nodeids",
    "nodes_treeids",
    "nodes_truenodeids",
    "nodes_values",
    "post_transform",
    "target_ids",
    "target_nodeids",
    "target_treeids",
    "target_weights",
];

/// Reads the attributes of a `TreeEnsembleRegressor` node.
pub(crate) fn arrays_of_node(node: &NodeProto) -> Result<TreeArrays, TreeError> {
    if let Some(a) = node.attribute.iter().find(|a| !KNOWN.contains(&a.name.as_str())) {
        let value = a.name.clone();
        return Err(TreeError::Unsupported {
            attribute: "(unknown)",
            value,
            supported: "those of ai.onnx.ml version 1 to 3, in single precision",
        });
    }
    let attr = |name: &str| node.attribute.iter().find(|a| a.name == name);
    let ints = |name: &str| attr(name).map(|a| a.ints.clone()).unwrap_or_default();
    let floats = |name: &str| attr(name).map(|a| a.floats.clone()).unwrap_or_default();
    let text = |a: &AttributeProto| String::from_utf8_lossy(&a.s).into_owned();

    let unsupported = |attribute, value: String, supported| TreeError::Unsupported { attribute, value, supported };
    // Old exporters leave it out where it is 1.
    let targets = attr("n_targets").map_or(1, |a| a.i);
    if targets != 1 {
        return Err(unsupported("n_targets", targets.to_string(), "1"));
    }
    if let Some(id) = ints("target_ids").into_iter().find(|id| *id != 0) {
        return Err(unsupported("target_ids", id.to_string(), "0, as there is one target"));
    }
    if let Some(a) = attr("post_transform").filter(|a| a.s != b"NONE") {
        return Err(unsupported("post_transform", text(a), "NONE"));
    }
    let aggregate = match attr("aggregate_function") {
        None => Aggregate::Sum,
        Some(a) if a.s == b"SUM" => Aggregate::Sum,
        Some(a) if a.s == b"AVERAGE" => Aggregate::Average,
        Some(a) => return Err(unsupported("aggregate_function", text(a), "SUM, AVERAGE")),
    };
    let base = floats("base_values");
    if base.len() > 1 {
        return Err(TreeError::Length { array: "base_values", got: base.len(), expected: 1, like: "n_targets" });
    }
    let modes = attr("nodes_modes").map_or(&[][..], |a| &a.strings);
    let nodes_modes = modes
        .iter()
        .map(|m| {
            Mode::from_name(m).ok_or_else(|| {
                let value = String::from_utf8_lossy(m).into_owned();
                unsupported("nodes_modes", value, "BRANCH_LEQ, BRANCH_LT, BRANCH_GTE, BRANCH_GT, LEAF")
            })
        })
        .collect::<Result<_, _>>()?;
    // What `nodes_missing_value_tracks_true` says concerns NaN alone, and NaN is refused at run time.
    Ok(TreeArrays {
        nodes_treeids: ints("nodes_treeids"),
        nodes_nodeids: ints("nodes_nodeids"),
        nodes_featureids: ints("nodes_featureids"),
        nodes_modes,
        nodes_values: floats("nodes_values"),
        nodes_truenodeids: ints("nodes_truenodeids"),
        nodes_falsenodeids: ints("nodes_falsenodeids"),
        target_treeids: ints("target_treeids"),
        target_nodeids: ints("target_nodeids"),
        target_weights: floats("target_weights"),
        base_value: base.first().copied().unwrap_or(0.0),
        aggregate,
    })
}

fn regressor(_: &ParsingContext<'_>, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let forest = Arc::new(arrays_of_node(node)?.build()?);
    Ok((expand(TreeEnsemble { forest }), vec![]))
}

/// Input: f32 `[N, width]`, `width` at least the forest's; output: f32 `[N, 1]`.
#[derive(Debug, Clone)]
struct TreeEnsemble {
    forest: Arc<Forest>,
}

// The same ensemble, not an equal one: comparing millions of nodes is not worth what tract gains from it.
impl PartialEq for TreeEnsemble {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.forest, &other.forest)
    }
}
impl Eq for TreeEnsemble {}

impl Expansion for TreeEnsemble {
    fn name(&self) -> StaticName {
        "TreeEnsembleRegressor".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].rank, 2)?;
        s.equals(&outputs[0].datum_type, f32::datum_type())?;
        s.equals(&outputs[0].rank, 2)?;
        s.equals(&outputs[0].shape[0], &inputs[0].shape[0])?;
        s.equals(&outputs[0].shape[1], 1.to_dim())?;
        Ok(())
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?;
        ensure!(
            fact.datum_type == f32::datum_type(),
            "the input of a TreeEnsembleRegressor is {:?}, only float32 is supported",
            fact.datum_type
        );
        if let Ok(width) = fact.shape[1].to_usize() {
            ensure!(
                width >= self.forest.width(),
                "a TreeEnsembleRegressor reads feature {}, its input has {width} columns",
                self.forest.width() - 1
            );
        }
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for TreeEnsemble {
    fn name(&self) -> StaticName {
        "WeirTreeEnsemble".into()
    }

    op_as_typed_op!();
}

impl EvalOp for TreeEnsemble {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let view = input.to_plain_array_view::<f32>()?;
        ensure!(view.ndim() == 2, "the input of a TreeEnsembleRegressor has shape {:?}, expected [N, F]", view.shape());
        let (rows, width) = (view.shape()[0], view.shape()[1]);
        let out = match view.as_slice() {
            Some(x) => self.forest.predict(x, width)?,
            None => self.forest.predict(&view.iter().copied().collect::<Vec<f32>>(), width)?,
        };
        Ok(tvec!(Tensor::from_shape(&[rows, 1], &out)?.into_tvalue()))
    }
}

impl TypedOp for TreeEnsemble {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact([inputs[0].shape[0].clone(), 1.to_dim()])))
    }

    as_op!();
}
