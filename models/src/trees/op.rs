//! The tree ensemble operators for tract: running the [`Forest`] of an ONNX node.

use std::sync::Arc;

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Forest;
use super::attributes::{arrays_of_node, classifier};
use super::classify::Classifier;

/// Makes tract know the operators of this module, in place of its own where it has one.
pub(crate) fn register(register: &mut OnnxOpRegister) {
    register.insert("TreeEnsembleRegressor", regression);
    register.insert("TreeEnsemble", regression);
    register.insert("TreeEnsembleClassifier", classification);
    register.insert("LabelEncoder", super::labels::label_encoder);
}

fn regression(_: &ParsingContext<'_>, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let forest = Arc::new(arrays_of_node(node)?.build()?);
    Ok((expand(TreeEnsemble { forest, classifier: None }), vec![]))
}

fn classification(_: &ParsingContext<'_>, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let (arrays, classifier) = classifier(node)?;
    let forest = Arc::new(arrays.build()?);
    Ok((expand(TreeEnsemble { forest, classifier: Some(Arc::new(classifier)) }), vec![]))
}

/// Input: f32 `[N, width]`, `width` at least the forest's. Outputs: f32 `[N, targets]`; of a classifier, i64 `[N]` labels and f32
/// `[N, classes]`.
#[derive(Debug, Clone)]
struct TreeEnsemble {
    forest: Arc<Forest>,
    classifier: Option<Arc<Classifier>>,
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
        "TreeEnsemble".into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(if self.classifier.is_some() { 2 } else { 1 })
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, self.nboutputs()?)?;
        s.equals(&inputs[0].rank, 2)?;
        let scores = &outputs[outputs.len() - 1];
        s.equals(&scores.datum_type, f32::datum_type())?;
        s.equals(&scores.rank, 2)?;
        s.equals(&scores.shape[0], &inputs[0].shape[0])?;
        s.equals(&scores.shape[1], self.forest.targets().to_dim())?;
        if self.classifier.is_some() {
            s.equals(&outputs[0].datum_type, i64::datum_type())?;
            s.equals(&outputs[0].rank, 1)?;
            s.equals(&outputs[0].shape[0], &inputs[0].shape[0])?;
        }
        Ok(())
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?;
        ensure!(
            fact.datum_type == f32::datum_type(),
            "the input of a tree ensemble is {:?}, only float32 is supported",
            fact.datum_type
        );
        if let Ok(width) = fact.shape[1].to_usize() {
            ensure!(
                width >= self.forest.width(),
                "a tree ensemble reads feature {}, its input has {width} columns",
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
        ensure!(view.ndim() == 2, "the input of a tree ensemble has shape {:?}, expected [N, F]", view.shape());
        let (rows, width) = (view.shape()[0], view.shape()[1]);
        let mut out = match view.as_slice() {
            Some(x) => self.forest.predict(x, width)?,
            None => self.forest.predict(&view.iter().copied().collect::<Vec<f32>>(), width)?,
        };
        let mut values = tvec!();
        if let Some(classifier) = &self.classifier {
            let labels: Vec<i64> = out.chunks_mut(classifier.classes()).map(|row| classifier.finish(row)).collect();
            values.push(Tensor::from_shape(&[rows], &labels)?.into_tvalue());
        }
        values.push(Tensor::from_shape(&[rows, self.forest.targets()], &out)?.into_tvalue());
        Ok(values)
    }
}

impl TypedOp for TreeEnsemble {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let rows = inputs[0].shape[0].clone();
        let mut facts = tvec!();
        if self.classifier.is_some() {
            facts.push(i64::fact([rows.clone()]));
        }
        facts.push(f32::fact([rows, self.forest.targets().to_dim()]));
        Ok(facts)
    }

    as_op!();
}
