//! From the attributes of ONNX nodes to [`TreeArrays`].

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

use super::classify::{Classifier, Post};
use super::{Aggregate, MAX_NODES, Mode, TreeArrays, TreeError};

const NODES: [&str; 9] = [
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_nodeids",
    "nodes_treeids",
    "nodes_truenodeids",
    "nodes_values",
];
const REGRESSOR: [&str; 8] = [
    "aggregate_function",
    "base_values",
    "n_targets",
    "post_transform",
    "target_ids",
    "target_nodeids",
    "target_treeids",
    "target_weights",
];
const CLASSIFIER: [&str; 7] = [
    "base_values",
    "class_ids",
    "class_nodeids",
    "class_treeids",
    "class_weights",
    "classlabels_int64s",
    "post_transform",
];
const ENSEMBLE: [&str; 16] = [
    "aggregate_function",
    "leaf_targetids",
    "leaf_weights",
    "n_targets",
    "nodes_falseleafs",
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_splits",
    "nodes_trueleafs",
    "nodes_truenodeids",
    "post_transform",
    "tree_roots",
    "membership_values",
];

fn unsupported(attribute: &'static str, value: impl Into<String>, supported: &'static str) -> TreeError {
    TreeError::Unsupported { attribute, value: value.into(), supported }
}

/// The attributes of a node.
struct Attributes<'a>(&'a NodeProto);

impl<'a> Attributes<'a> {
    /// Refuses attributes that are not read, as ignoring them would change the result.
    fn of(node: &'a NodeProto, known: &[&[&str]], supported: &'static str) -> Result<Self, TreeError> {
        match node.attribute.iter().find(|a| !known.iter().any(|k| k.contains(&a.name.as_str()))) {
            Some(a) => Err(unsupported("(unknown)", a.name.clone(), supported)),
            None => Ok(Self(node)),
        }
    }
    fn get(&self, name: &str) -> Option<&'a AttributeProto> {
        self.0.attribute.iter().find(|a| a.name == name)
    }
    fn int(&self, name: &str, default: i64) -> i64 {
        self.get(name).map_or(default, |a| a.i)
    }
    fn ints(&self, name: &str) -> Vec<i64> {
        self.get(name).map(|a| a.ints.clone()).unwrap_or_default()
    }
    fn floats(&self, name: &str) -> Vec<f32> {
        self.get(name).map(|a| a.floats.clone()).unwrap_or_default()
    }
    fn tensor(&self, name: &str) -> Option<&'a TensorProto> {
        self.get(name).and_then(|a| a.t.as_ref())
    }
    /// `None` if it is not given.
    fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|a| String::from_utf8_lossy(&a.s).into_owned())
    }

    /// The arrays that `TreeEnsembleRegressor` and `TreeEnsembleClassifier` share.
    fn nodes(&self) -> Result<TreeArrays, TreeError> {
        let modes = self.get("nodes_modes").map_or(&[][..], |a| &a.strings);
        let nodes_modes = modes
            .iter()
            .map(|m| {
                Mode::from_name(m).ok_or_else(|| {
                    let supported = "BRANCH_LEQ, BRANCH_LT, BRANCH_GTE, BRANCH_GT, BRANCH_EQ, BRANCH_NEQ, LEAF";
                    unsupported("nodes_modes", String::from_utf8_lossy(m), supported)
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(TreeArrays {
            nodes_treeids: self.ints("nodes_treeids"),
            nodes_nodeids: self.ints("nodes_nodeids"),
            nodes_featureids: self.ints("nodes_featureids"),
            nodes_modes,
            nodes_values: self.floats("nodes_values"),
            nodes_truenodeids: self.ints("nodes_truenodeids"),
            nodes_falsenodeids: self.ints("nodes_falsenodeids"),
            nodes_missing_value_tracks_true: self.ints("nodes_missing_value_tracks_true"),
            base_values: self.floats("base_values"),
            ..TreeArrays::default()
        })
    }
}

const SINGLE: &str = "those of ai.onnx.ml version 1 to 3, in single precision, labels as integers";

/// Reads the attributes of a `TreeEnsembleRegressor` (ai.onnx.ml 1 to 3) or a `TreeEnsemble` (5).
pub(crate) fn arrays_of_node(node: &NodeProto) -> Result<TreeArrays, TreeError> {
    if node.op_type == "TreeEnsemble" {
        return ensemble(node);
    }
    let a = Attributes::of(node, &[&NODES, &REGRESSOR], SINGLE)?;
    if let Some(post) = a.text("post_transform").filter(|p| p != "NONE") {
        // onnxruntime leaves LOGISTIC and SOFTMAX out where there is one target; the specification does not.
        return Err(unsupported("post_transform", post, "NONE"));
    }
    let aggregate = match a.text("aggregate_function").as_deref() {
        None | Some("SUM") => Aggregate::Sum,
        Some("AVERAGE") => Aggregate::Average,
        Some("MIN") => Aggregate::Min,
        Some("MAX") => Aggregate::Max,
        Some(other) => return Err(unsupported("aggregate_function", other, "SUM, AVERAGE, MIN, MAX")),
    };
    Ok(TreeArrays {
        target_treeids: a.ints("target_treeids"),
        target_nodeids: a.ints("target_nodeids"),
        target_ids: a.ints("target_ids"),
        target_weights: a.floats("target_weights"),
        n_targets: a.int("n_targets", 1),
        aggregate,
        ..a.nodes()?
    })
}

/// Reads the attributes of a `TreeEnsembleClassifier`.
pub(super) fn classifier(node: &NodeProto) -> Result<(TreeArrays, Classifier), TreeError> {
    let a = Attributes::of(node, &[&NODES, &CLASSIFIER], SINGLE)?;
    let post = match a.text("post_transform").as_deref() {
        None | Some("NONE") => Post::None,
        Some("LOGISTIC") => Post::Logistic,
        Some("SOFTMAX") => Post::Softmax,
        Some(other) => return Err(unsupported("post_transform", other, "NONE, LOGISTIC, SOFTMAX")),
    };
    let labels = a.ints("classlabels_int64s");
    let mut arrays = TreeArrays {
        target_treeids: a.ints("class_treeids"),
        target_nodeids: a.ints("class_nodeids"),
        target_ids: a.ints("class_ids"),
        target_weights: a.floats("class_weights"),
        n_targets: labels.len() as i64,
        ..a.nodes()?
    };
    let base = std::mem::take(&mut arrays.base_values);
    let classifier = Classifier::new(labels, post, base, &arrays.target_ids, &arrays.target_weights)?;
    Ok((arrays, classifier))
}

/// `TreeEnsemble` (ai.onnx.ml 5): inner nodes and leaves in lists of their own, trees by the positions of their roots.
fn ensemble(node: &NodeProto) -> Result<TreeArrays, TreeError> {
    let a = Attributes::of(node, &[&ENSEMBLE], "those of ai.onnx.ml version 5")?;
    if a.get("membership_values").is_some() {
        return Err(unsupported("membership_values", "given", "comparisons only, without BRANCH_MEMBER"));
    }
    if a.int("post_transform", 0) != 0 {
        return Err(unsupported("post_transform", a.int("post_transform", 0).to_string(), "0 (NONE)"));
    }
    let aggregate = match a.int("aggregate_function", 1) {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => return Err(unsupported("aggregate_function", other.to_string(), "0 to 3")),
    };
    let from = Ensemble {
        feature: a.ints("nodes_featureids"),
        mode: modes(a.tensor("nodes_modes"))?,
        split: singles("nodes_splits", a.tensor("nodes_splits"))?,
        child: [a.ints("nodes_truenodeids"), a.ints("nodes_falsenodeids")],
        leaf: [a.ints("nodes_trueleafs"), a.ints("nodes_falseleafs")],
        nan_true: a.ints("nodes_missing_value_tracks_true"),
        weight: singles("leaf_weights", a.tensor("leaf_weights"))?,
        target: a.ints("leaf_targetids"),
    };
    from.check()?;
    let mut out = TreeArrays { aggregate, n_targets: a.int("n_targets", 1), ..TreeArrays::default() };
    let mut seen = vec![false; from.feature.len()];
    for (tree, root) in a.ints("tree_roots").into_iter().enumerate() {
        from.unfold(tree as i64, root, &mut seen, &mut out)?;
    }
    Ok(out)
}

struct Ensemble {
    feature: Vec<i64>,
    mode: Vec<Mode>,
    split: Vec<f32>,
    /// Of the true and the false branch; likewise `leaf`.
    child: [Vec<i64>; 2],
    leaf: [Vec<i64>; 2],
    nan_true: Vec<i64>,
    weight: Vec<f32>,
    target: Vec<i64>,
}

impl Ensemble {
    fn check(&self) -> Result<(), TreeError> {
        let n = self.feature.len();
        if n > MAX_NODES {
            return Err(TreeError::TooLarge { what: "nodes", got: n, max: MAX_NODES });
        }
        for (array, got, expected, like) in [
            ("nodes_modes", self.mode.len(), n, "nodes_featureids"),
            ("nodes_splits", self.split.len(), n, "nodes_featureids"),
            ("nodes_truenodeids", self.child[0].len(), n, "nodes_featureids"),
            ("nodes_falsenodeids", self.child[1].len(), n, "nodes_featureids"),
            ("nodes_trueleafs", self.leaf[0].len(), n, "nodes_featureids"),
            ("nodes_falseleafs", self.leaf[1].len(), n, "nodes_featureids"),
            ("leaf_targetids", self.target.len(), self.weight.len(), "leaf_weights"),
        ] {
            if got != expected {
                return Err(TreeError::Length { array, got, expected, like });
            }
        }
        if !self.nan_true.is_empty() && self.nan_true.len() != n {
            let (array, like) = ("nodes_missing_value_tracks_true", "nodes_featureids");
            return Err(TreeError::Length { array, got: self.nan_true.len(), expected: n, like });
        }
        Ok(())
    }

    /// Appends the tree below `root`. An inner node belongs to one place in one tree, so this ends; leaves may serve several
    /// places. Inner nodes keep their position as id, leaves get ids below 0.
    fn unfold(&self, tree: i64, root: i64, seen: &mut [bool], out: &mut TreeArrays) -> Result<(), TreeError> {
        let mut parents = vec![(root, root)];
        let mut leaves = 0;
        while let Some((parent, node)) = parents.pop() {
            let at = usize::try_from(node).ok().filter(|i| *i < self.feature.len());
            let at = at.ok_or(TreeError::NoSuchChild { tree, node: parent, child: node })?;
            if std::mem::replace(&mut seen[at], true) {
                return Err(TreeError::TwoParents { tree, node });
            }
            let mut children = [0i64; 2];
            for (side, child) in children.iter_mut().enumerate() {
                *child = self.child[side][at];
                if self.leaf[side][at] == 0 {
                    parents.push((node, *child));
                    continue;
                }
                let leaf = usize::try_from(*child).ok().filter(|i| *i < self.weight.len());
                let leaf = leaf.ok_or(TreeError::NoSuchChild { tree, node, child: *child })?;
                leaves += 1;
                *child = -leaves;
                push(out, (tree, *child, 0, Mode::Leaf, 0.0, [0; 2], 0));
                out.target_treeids.push(tree);
                out.target_nodeids.push(*child);
                out.target_ids.push(self.target[leaf]);
                out.target_weights.push(self.weight[leaf]);
            }
            let nan_true = self.nan_true.get(at).copied().unwrap_or(0);
            push(out, (tree, node, self.feature[at], self.mode[at], self.split[at], children, nan_true));
        }
        Ok(())
    }
}

type Entry = (i64, i64, i64, Mode, f32, [i64; 2], i64);

fn push(out: &mut TreeArrays, (tree, node, feature, mode, value, children, nan_true): Entry) {
    out.nodes_treeids.push(tree);
    out.nodes_nodeids.push(node);
    out.nodes_featureids.push(feature);
    out.nodes_modes.push(mode);
    out.nodes_values.push(value);
    out.nodes_truenodeids.push(children[0]);
    out.nodes_falsenodeids.push(children[1]);
    out.nodes_missing_value_tracks_true.push(nan_true);
}

fn modes(t: Option<&TensorProto>) -> Result<Vec<Mode>, TreeError> {
    let Some(t) = t else { return Ok(vec![]) };
    if t.data_type != DataType::Uint8 as i32 {
        return Err(unsupported("nodes_modes", kind(t), "a tensor of UINT8"));
    }
    let numbers: Vec<i64> = if t.raw_data.is_empty() {
        t.int32_data.iter().map(|v| i64::from(*v)).collect()
    } else {
        t.raw_data.iter().map(|v| i64::from(*v)).collect()
    };
    let mode = |v: i64| usize::try_from(v).ok().and_then(|v| Mode::ALL.get(v).copied()).filter(|m| *m != Mode::Leaf);
    numbers
        .into_iter()
        .map(|v| mode(v).ok_or_else(|| unsupported("nodes_modes", v.to_string(), "0 to 5, without BRANCH_MEMBER")))
        .collect()
}

fn singles(name: &'static str, t: Option<&TensorProto>) -> Result<Vec<f32>, TreeError> {
    let Some(t) = t else { return Ok(vec![]) };
    if t.data_type != DataType::Float as i32 {
        return Err(unsupported(name, kind(t), "a tensor of FLOAT"));
    }
    if t.raw_data.is_empty() {
        return Ok(t.float_data.clone());
    }
    Ok(t.raw_data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

fn kind(t: &TensorProto) -> &'static str {
    DataType::try_from(t.data_type).unwrap_or(DataType::Undefined).as_str_name()
}
