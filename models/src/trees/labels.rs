//! `LabelEncoder` (ai.onnx.ml) for tract, numbers only: skl2onnx maps leaves to path lengths with it.

use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

/// Most entries of a table.
const MAX_LABELS: usize = 1 << 20;

pub(super) fn label_encoder(
    _: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    const KNOWN: [&str; 6] =
        ["keys_floats", "keys_int64s", "values_floats", "values_int64s", "default_float", "default_int64"];
    if let Some(a) = node.attribute.iter().find(|a| !KNOWN.contains(&a.name.as_str())) {
        bail!("LabelEncoder attribute `{}` is not supported; supported: {}", a.name, KNOWN.join(", "));
    }
    let attr = |name: &str| node.attribute.iter().find(|a| a.name == name);
    let (float_keys, keys): (bool, Vec<u64>) = match (attr("keys_floats"), attr("keys_int64s")) {
        (Some(k), None) => (true, k.floats.iter().map(|v| key_of_float(*v)).collect()),
        (None, Some(k)) => (false, k.ints.iter().map(|v| *v as u64).collect()),
        _ => bail!("LabelEncoder needs exactly one of `keys_floats` and `keys_int64s`"),
    };
    let (values, default) = match (attr("values_floats"), attr("values_int64s")) {
        (Some(v), None) => {
            let default = attr("default_float").map_or(-0.0, |a| a.f);
            (Values::Float(v.floats.clone()), Default::Float(default.to_bits()))
        }
        (None, Some(v)) => (Values::Int(v.ints.clone()), Default::Int(attr("default_int64").map_or(-1, |a| a.i))),
        _ => bail!("LabelEncoder needs exactly one of `values_floats` and `values_int64s`"),
    };
    let n = match &values {
        Values::Float(v) => v.len(),
        Values::Int(v) => v.len(),
    };
    ensure!(n == keys.len(), "LabelEncoder has {} keys and {n} values, expected as many of both", keys.len());
    ensure!(n <= MAX_LABELS, "LabelEncoder has {n} keys, at most {MAX_LABELS} are supported");
    let index = keys.iter().enumerate().map(|(i, k)| (*k, i)).collect();
    Ok((expand(LabelEncoder { float_keys, default, table: Arc::new(Table { index, values }) }), vec![]))
}

/// Equal floats have equal keys.
fn key_of_float(v: f32) -> u64 {
    u64::from(if v == 0.0 { 0 } else { v.to_bits() })
}

#[derive(Debug)]
enum Values {
    Float(Vec<f32>),
    Int(Vec<i64>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Default {
    Float(u32),
    Int(i64),
}

#[derive(Debug)]
struct Table {
    index: HashMap<u64, usize>,
    values: Values,
}

#[derive(Debug, Clone)]
struct LabelEncoder {
    float_keys: bool,
    default: Default,
    table: Arc<Table>,
}

impl PartialEq for LabelEncoder {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.table, &other.table)
    }
}
impl Eq for LabelEncoder {}

impl LabelEncoder {
    fn input_type(&self) -> DatumType {
        if self.float_keys { f32::datum_type() } else { i64::datum_type() }
    }
    fn output_type(&self) -> DatumType {
        match self.default {
            Default::Float(_) => f32::datum_type(),
            Default::Int(_) => i64::datum_type(),
        }
    }
}

impl Expansion for LabelEncoder {
    fn name(&self) -> StaticName {
        "LabelEncoder".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, self.output_type())?;
        s.equals(&outputs[0].shape, &inputs[0].shape)?;
        Ok(())
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let got = model.outlet_fact(inputs[0])?.datum_type;
        // tract turns a cast to int64 into its own type of dimensions.
        if got == TDim::datum_type() && !self.float_keys {
            let cast = tract_onnx::tract_core::ops::cast::cast(i64::datum_type());
            let inputs = model.wire_node(format!("{prefix}.cast"), cast, inputs)?;
            return model.wire_node(prefix, self.clone(), &inputs);
        }
        ensure!(got == self.input_type(), "LabelEncoder has {:?} keys and {got:?} input", self.input_type());
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for LabelEncoder {
    fn name(&self) -> StaticName {
        "WeirLabelEncoder".into()
    }

    op_as_typed_op!();
}

impl EvalOp for LabelEncoder {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let keys: Vec<u64> = if self.float_keys {
            input.to_plain_array_view::<f32>()?.iter().map(|v| key_of_float(*v)).collect()
        } else {
            input.to_plain_array_view::<i64>()?.iter().map(|v| *v as u64).collect()
        };
        let found = keys.iter().map(|k| self.table.index.get(k).copied());
        let out = match (&self.table.values, self.default) {
            (Values::Float(values), Default::Float(default)) => {
                let default = f32::from_bits(default);
                let out: Vec<f32> = found.map(|i| i.map_or(default, |i| values[i])).collect();
                Tensor::from_shape(input.shape(), &out)?
            }
            (Values::Int(values), Default::Int(default)) => {
                let out: Vec<i64> = found.map(|i| i.map_or(default, |i| values[i])).collect();
                Tensor::from_shape(input.shape(), &out)?
            }
            _ => bail!("LabelEncoder's default and values are of different types"),
        };
        Ok(tvec!(out.into_tvalue()))
    }
}

impl TypedOp for LabelEncoder {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(self.output_type().fact(inputs[0].shape.clone())))
    }

    as_op!();
}
