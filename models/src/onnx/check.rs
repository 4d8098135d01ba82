//! What an ONNX file must be before tract sees it.
//!
//! tract is made for models one trusts: a graph output that no node makes, a tensor shorter than its shape or a subgraph that
//! never ends would panic or hang it. So the file is checked here, and operators are limited to those that scorers are made of.

use std::collections::HashSet;

use prost::Message;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto, ValueInfoProto};

use super::{INPUT_FEATURES, INPUT_PRESENT};

/// Largest model file.
pub const MAX_MODEL_BYTES: u64 = 64 << 20;
const MAX_GRAPH_NODES: usize = 20_000;
const OPSETS: std::ops::RangeInclusive<i64> = 9..=21;

/// Operators a model may use.
const OPERATORS: [&str; 73] = [
    "Abs",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Constant",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Flatten",
    "Floor",
    "Gather",
    "Gemm",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LabelEncoder",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "MatMul",
    "Max",
    "Mean",
    "Min",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pow",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Round",
    "Selu",
    "Shape",
    "Sigmoid",
    "Sign",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
    "Unsqueeze",
    "Where",
];

/// Why a model file was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GraphError {
    #[error("this is no ONNX file: {0}")]
    Decode(String),
    #[error("the file has no graph: export the model again")]
    NoGraph,
    #[error("operator set {found} is not supported, use {low} to {high}")]
    Opset { found: i64, low: i64, high: i64 },
    #[error("the graph has {found} nodes, at most {max} are supported")]
    TooManyNodes { found: usize, max: usize },
    #[error("operator `{operator}` (node `{node}`) is not supported: rebuild the model from {supported}")]
    Operator { operator: String, node: String, supported: String },
    #[error("node `{node}` holds a subgraph: scoring models need no control flow, export without it")]
    Subgraph { node: String },
    #[error("tensor `{tensor}` lies in another file: export the model as a single file")]
    External { tensor: String },
    #[error("tensor `{tensor}` of shape {shape:?} and type {kind} has {found} bytes or values, expected {expected}")]
    Tensor { tensor: String, shape: Vec<i64>, kind: String, found: usize, expected: String },
    #[error("node `{node}` reads `{name}`, which nothing before it makes")]
    Unknown { node: String, name: String },
    #[error("the name `{name}` is given twice")]
    Twice { name: String },
    #[error("graph output `{name}` is made by no node")]
    NoOutput { name: String },
    #[error("graph inputs are [{found}], expected `features` and optionally `present`, each float32 [N, {width}]")]
    Inputs { found: String, width: usize },
    #[error("graph outputs are [{found}], expected among them [{expected}]")]
    Outputs { found: String, expected: String },
    #[error("the model uses {what}, which is not supported: export it as a plain graph")]
    Feature { what: &'static str },
}

/// A checked model.
#[derive(Clone, Debug)]
pub struct Graph {
    pub(crate) proto: ModelProto,
    /// Whether there is an input `present`, and the order of the two.
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    pub(crate) opset: i64,
}

/// Decodes and checks a model for `width` features that must have the outputs `expected`.
pub(crate) fn parse(bytes: &[u8], width: usize, expected: &[&str]) -> Result<Graph, GraphError> {
    let proto = ModelProto::decode(bytes).map_err(|e| GraphError::Decode(e.to_string()))?;
    if !proto.functions.is_empty() {
        return Err(GraphError::Feature { what: "model-local functions" });
    }
    let graph = proto.graph.as_ref().ok_or(GraphError::NoGraph)?;
    let opset =
        proto.opset_import.iter().find(|o| o.domain.is_empty() || o.domain == "ai.onnx").map_or(0, |o| o.version);
    if !OPSETS.contains(&opset) {
        return Err(GraphError::Opset { found: opset, low: *OPSETS.start(), high: *OPSETS.end() });
    }
    check_nodes(graph)?;
    check_names(graph)?;
    let inputs = check_inputs(graph, width)?;
    let outputs: Vec<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    if expected.iter().any(|e| !outputs.iter().any(|o| o == e)) {
        return Err(GraphError::Outputs { found: outputs.join(", "), expected: expected.join(", ") });
    }
    Ok(Graph { inputs, outputs, opset, proto })
}

/// A value of an ONNX file's metadata; `None` where it has none, or is no ONNX file.
pub fn metadata(bytes: &[u8], key: &str) -> Option<String> {
    let proto = ModelProto::decode(bytes).ok()?;
    proto.metadata_props.into_iter().find(|p| p.key == key).map(|p| p.value)
}

fn check_nodes(graph: &GraphProto) -> Result<(), GraphError> {
    if graph.node.len() > MAX_GRAPH_NODES {
        return Err(GraphError::TooManyNodes { found: graph.node.len(), max: MAX_GRAPH_NODES });
    }
    if !graph.sparse_initializer.is_empty() {
        return Err(GraphError::Feature { what: "sparse tensors" });
    }
    for t in &graph.initializer {
        check_tensor(t)?;
    }
    for n in &graph.node {
        if !OPERATORS.contains(&n.op_type.as_str()) {
            return Err(GraphError::Operator {
                operator: n.op_type.clone(),
                node: n.name.clone(),
                supported: OPERATORS.join(", "),
            });
        }
        for a in &n.attribute {
            if a.g.is_some() || !a.graphs.is_empty() {
                return Err(GraphError::Subgraph { node: n.name.clone() });
            }
            if a.sparse_tensor.is_some() || !a.sparse_tensors.is_empty() {
                return Err(GraphError::Feature { what: "sparse tensors" });
            }
            for t in a.t.iter().chain(&a.tensors) {
                check_tensor(t)?;
            }
        }
    }
    Ok(())
}

/// Shape and amount of data must agree.
fn check_tensor(t: &TensorProto) -> Result<(), GraphError> {
    if !t.external_data.is_empty() || t.data_location == Some(DataLocation::External as i32) {
        return Err(GraphError::External { tensor: t.name.clone() });
    }
    let kind = DataType::try_from(t.data_type).unwrap_or(DataType::Undefined);
    let fail = |found: usize, expected: String| GraphError::Tensor {
        tensor: t.name.clone(),
        shape: t.dims.clone(),
        kind: kind.as_str_name().to_owned(),
        found,
        expected,
    };
    let (size, typed) = match kind {
        DataType::Float => (4, t.float_data.len()),
        DataType::Double => (8, t.double_data.len()),
        DataType::Int32 => (4, t.int32_data.len()),
        DataType::Int64 => (8, t.int64_data.len()),
        DataType::Bool | DataType::Uint8 => (1, t.int32_data.len()),
        _ => return Err(fail(0, "one of the types FLOAT, DOUBLE, INT32, INT64, UINT8, BOOL".to_owned())),
    };
    let count = t
        .dims
        .iter()
        .try_fold(1usize, |n, d| n.checked_mul(usize::try_from(*d).ok()?))
        .filter(|n| n.checked_mul(size).is_some())
        .ok_or_else(|| fail(t.raw_data.len(), "a shape of non-negative sizes that fits in memory".to_owned()))?;
    if t.raw_data.is_empty() {
        if typed != count {
            return Err(fail(typed, format!("{count} values")));
        }
    } else if t.raw_data.len() != count * size {
        return Err(fail(t.raw_data.len(), format!("{} bytes", count * size)));
    }
    Ok(())
}

/// Every name is made once, and before it is read: so there is no cycle.
fn check_names(graph: &GraphProto) -> Result<(), GraphError> {
    let mut known: HashSet<&str> = HashSet::new();
    let given = graph.initializer.iter().map(|t| &t.name).chain(graph.input.iter().map(|i| &i.name));
    for name in given {
        if !known.insert(name) {
            return Err(GraphError::Twice { name: name.clone() });
        }
    }
    for n in &graph.node {
        if let Some(name) = n.input.iter().find(|i| !i.is_empty() && !known.contains(i.as_str())) {
            return Err(GraphError::Unknown { node: n.name.clone(), name: name.clone() });
        }
        for name in n.output.iter().filter(|o| !o.is_empty()) {
            if !known.insert(name) {
                return Err(GraphError::Twice { name: name.clone() });
            }
        }
    }
    let mut seen = HashSet::new();
    for o in &graph.output {
        if !known.contains(o.name.as_str()) {
            return Err(GraphError::NoOutput { name: o.name.clone() });
        }
        if !seen.insert(&o.name) {
            return Err(GraphError::Twice { name: o.name.clone() });
        }
    }
    Ok(())
}

fn check_inputs(graph: &GraphProto, width: usize) -> Result<Vec<String>, GraphError> {
    let fine = |i: &ValueInfoProto| {
        let Some(TypeValue::TensorType(t)) = i.r#type.as_ref().and_then(|t| t.value.as_ref()) else { return false };
        let dims = t.shape.as_ref().map_or(&[][..], |s| &s.dim);
        let columns = dims.get(1).and_then(|d| d.value.as_ref());
        t.elem_type == DataType::Float as i32
            && dims.len() == 2
            && !matches!(columns, Some(Dim::DimValue(v)) if *v != width as i64)
            && [INPUT_FEATURES, INPUT_PRESENT].contains(&i.name.as_str())
    };
    let names: Vec<String> = graph.input.iter().map(|i| i.name.clone()).collect();
    if !names.iter().any(|n| n == INPUT_FEATURES) || !graph.input.iter().all(fine) {
        let show = |i: &ValueInfoProto| {
            let Some(TypeValue::TensorType(t)) = i.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
                return format!("{} (no tensor)", i.name);
            };
            let kind = DataType::try_from(t.elem_type).unwrap_or(DataType::Undefined).as_str_name().to_lowercase();
            let dims = t.shape.as_ref().map_or(&[][..], |s| &s.dim).iter().map(|d| match &d.value {
                Some(Dim::DimValue(v)) => v.to_string(),
                Some(Dim::DimParam(p)) => p.clone(),
                None => "?".to_owned(),
            });
            format!("{} {kind} [{}]", i.name, dims.collect::<Vec<_>>().join(", "))
        };
        let found = graph.input.iter().map(show).collect::<Vec<_>>().join(", ");
        return Err(GraphError::Inputs { found, width });
    }
    Ok(names)
}
