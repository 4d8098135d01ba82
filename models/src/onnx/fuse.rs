//! What tract is given of a checked graph: what the wanted outputs need, and our own operator in place of the steps that make the
//! score of a mixture of linear autoencoders.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

use super::graph::{int, int_of, ints_of, tensor};
use crate::parts::OPERATOR;

/// The model without what none of `outputs` needs, in their order; its inputs stay as they are.
pub(crate) fn only(model: &ModelProto, outputs: &[&str]) -> ModelProto {
    let mut model = model.clone();
    let Some(graph) = &mut model.graph else { return model };
    let mut wanted: HashSet<String> = outputs.iter().map(|o| (*o).to_owned()).collect();
    // Every name is made before it is read.
    let mut kept: Vec<NodeProto> = Vec::new();
    for node in graph.node.drain(..).rev() {
        if node.output.iter().any(|o| wanted.contains(o)) {
            wanted.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.initializer.retain(|t| wanted.contains(&t.name));
    let infos: HashMap<_, _> = graph.output.drain(..).map(|o| (o.name.clone(), o)).collect();
    graph.output = outputs.iter().filter_map(|o| infos.get(*o).cloned()).collect();
    model
}

/// Puts [`OPERATOR`] in the place of the steps that it does at once. A graph that has no such steps, one after the other and each
/// for the next one alone, stays as it is.
pub(crate) fn fuse(model: &mut ModelProto) {
    let Some(graph) = &mut model.graph else { return };
    let Some((steps, fused)) = find(graph) else { return };
    let last = steps[0];
    graph.node[last] = fused;
    let gone: HashSet<usize> = steps[1..].iter().copied().collect();
    let mut at = 0;
    graph.node.retain(|_| {
        at += 1;
        !gone.contains(&(at - 1))
    });
}

/// The steps, the last one first, and the node that does them.
fn find(graph: &GraphProto) -> Option<(Vec<usize>, NodeProto)> {
    let makers: HashMap<&str, usize> =
        graph.node.iter().enumerate().flat_map(|(i, n)| n.output.iter().map(move |o| (o.as_str(), i))).collect();
    let constants: HashMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut reads: HashMap<&str, usize> = HashMap::new();
    for name in graph.node.iter().flat_map(|n| &n.input).chain(graph.output.iter().map(|o| &o.name)) {
        *reads.entry(name).or_default() += 1;
    }
    // The maker of a value that is read `times` times.
    let made = |name: &str, op: &str, times: usize| -> Option<usize> {
        let at = *makers.get(name)?;
        let node = &graph.node[at];
        (node.op_type == op && node.output.len() == 1 && reads.get(name) == Some(&times)).then_some(at)
    };
    let input = |at: usize, i: usize| graph.node[at].input.get(i).map(String::as_str);
    let floats = |name: &str| floats_of(constants.get(name)?);
    let is_1 = |name: &str| int64s_of(constants.get(name)?).filter(|v| *v == [1]);

    let min = graph.node.iter().position(|n| n.op_type == "ReduceMin")?;
    let whole = &graph.node[min];
    let by_columns = whole.input.len() == 1 && ints_of(whole, "axes") == Some(&[1]);
    if !by_columns || int_of(whole, "keepdims").unwrap_or(1) != 1 {
        return None;
    }
    let sum = made(input(min, 0)?, "ReduceSum", 1)?;
    let reshape = made(input(sum, 0)?, "Reshape", 1)?;
    let square = made(input(reshape, 0)?, "Mul", 1)?;
    let product = input(square, 0).filter(|a| input(square, 1) == Some(*a))?;
    let gemm = made(product, "Gemm", 2)?;
    is_1(input(sum, 1)?)?;
    if int_of(&graph.node[sum], "keepdims").unwrap_or(1) != 0 || !graph.node[gemm].attribute.is_empty() {
        return None;
    }
    let (weights, bias) = (input(gemm, 1)?, input(gemm, 2)?);
    let &[inputs, columns] = constants.get(weights)?.dims.as_slice() else { return None };
    let split = int64s_of(constants.get(input(reshape, 1)?)?)?;
    let &[-1, _, parts] = split.as_slice() else { return None };
    let fits = parts > 0
        && inputs > 0
        && columns % parts == 0
        && constants.get(bias)?.dims == [columns]
        && split == [-1, columns / parts, parts];
    if !fits {
        return None;
    }
    let attribute = |name: &str, constant: &str| -> Option<AttributeProto> {
        floats(constant)?;
        Some(tensor(name, constants.get(constant).copied()?.clone()))
    };
    let fused = NodeProto {
        op_type: OPERATOR.to_owned(),
        name: graph.node[min].name.clone(),
        input: vec![input(gemm, 0)?.to_owned()],
        output: graph.node[min].output.clone(),
        attribute: vec![attribute("weights", weights)?, attribute("bias", bias)?, int("parts", parts)],
        ..Default::default()
    };
    Some((vec![min, sum, reshape, square, gemm], fused))
}

/// The floats of a tensor whose size was checked.
pub(crate) fn floats_of(t: &TensorProto) -> Option<Vec<f32>> {
    use tract_onnx::pb::tensor_proto::DataType;
    if t.data_type != DataType::Float as i32 {
        return None;
    }
    if t.raw_data.is_empty() {
        return Some(t.float_data.clone());
    }
    Some(t.raw_data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

fn int64s_of(t: &TensorProto) -> Option<Vec<i64>> {
    use tract_onnx::pb::tensor_proto::DataType;
    if t.data_type != DataType::Int64 as i32 {
        return None;
    }
    if t.raw_data.is_empty() {
        return Some(t.int64_data.clone());
    }
    Some(t.raw_data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect())
}
