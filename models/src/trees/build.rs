//! From the parallel arrays of an ONNX node to a [`Forest`], with every check that makes the latter safe to run.

use std::collections::HashMap;

use super::flat::{Forest, Node, Tree};
use super::{MAX_DEPTH, MAX_FEATURES, MAX_NODES, MAX_TREE_NODES, MAX_TREES};

/// What a node does with its feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To the true child if `x <= value`.
    Leq,
    /// To the true child if `x < value`.
    Lt,
    /// To the true child if `x >= value`.
    Gte,
    /// To the true child if `x > value`.
    Gt,
    Leaf,
}

impl Mode {
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Leq => "BRANCH_LEQ",
            Mode::Lt => "BRANCH_LT",
            Mode::Gte => "BRANCH_GTE",
            Mode::Gt => "BRANCH_GT",
            Mode::Leaf => "LEAF",
        }
    }

    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Mode::Leq, Mode::Lt, Mode::Gte, Mode::Gt, Mode::Leaf].into_iter().find(|m| m.name().as_bytes() == name)
    }
}

/// How the trees' values become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    Sum,
    Average,
}

/// A `TreeEnsembleRegressor` (ai.onnx.ml) of one target as ONNX stores it: one entry per node, one per leaf weight.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeArrays {
    pub nodes_treeids: Vec<i64>,
    pub nodes_nodeids: Vec<i64>,
    pub nodes_featureids: Vec<i64>,
    pub nodes_modes: Vec<Mode>,
    pub nodes_values: Vec<f32>,
    pub nodes_truenodeids: Vec<i64>,
    pub nodes_falsenodeids: Vec<i64>,
    pub target_treeids: Vec<i64>,
    pub target_nodeids: Vec<i64>,
    pub target_weights: Vec<f32>,
    pub base_value: f32,
    pub aggregate: Aggregate,
}

/// Why a tree ensemble was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TreeError {
    #[error("tree ensemble: `{array}` has {got} entries, expected {expected} as in `{like}`: export the model again")]
    Length { array: &'static str, got: usize, expected: usize, like: &'static str },
    #[error("tree ensemble without nodes: export a fitted model")]
    Empty,
    #[error("tree ensemble has {got} {what}, at most {max} are supported: train a smaller model")]
    TooLarge { what: &'static str, got: usize, max: usize },
    #[error("tree {tree}, node {node}: {what} is {value}, only finite numbers are supported")]
    NotFinite { tree: i64, node: i64, what: &'static str, value: f32 },
    #[error("tree {tree}, node {node}: feature {feature} is outside 0..{max}")]
    Feature { tree: i64, node: i64, feature: i64, max: usize },
    #[error("tree {tree}: node id {node} occurs more than once")]
    DuplicateNode { tree: i64, node: i64 },
    #[error("tree {tree}, node {node}: child {child} does not exist in this tree")]
    NoSuchChild { tree: i64, node: i64, child: i64 },
    #[error("tree {tree}: node {node} is a child of more than one node, so this is no tree")]
    TwoParents { tree: i64, node: i64 },
    #[error(
        "tree {tree} has {roots} nodes without a parent, expected one root: the nodes form a cycle or several trees"
    )]
    Roots { tree: i64, roots: usize },
    #[error("tree {tree}: only {reached} of {nodes} nodes can be reached from the root: the others form a cycle")]
    Unreachable { tree: i64, reached: usize, nodes: usize },
    #[error("a target weight is for tree {tree}, node {node}, which is no leaf of the ensemble")]
    NoSuchLeaf { tree: i64, node: i64 },
    #[error("attribute `{attribute}` is {value}, supported: {supported}")]
    Unsupported { attribute: &'static str, value: String, supported: &'static str },
    #[error("rows have {got} features, the trees read feature {feature}: the model was made for other features")]
    Width { got: usize, feature: usize },
    #[error("the input of the trees has {got} values, which is no multiple of its {width} columns")]
    Shape { got: usize, width: usize },
    #[error("row {row}, feature {feature} of the trees' input is NaN")]
    NanInput { row: usize, feature: usize },
}

impl TreeArrays {
    /// Validates and flattens. Takes time linear in the number of nodes, whatever they contain.
    pub fn build(&self) -> Result<Forest, TreeError> {
        self.check_lengths()?;
        let order = self.trees()?;
        let leaf_weights = self.leaf_weights()?;
        let mut forest = Forest::empty(self.aggregate, self.base_value);
        for (tree, members) in &order {
            self.flatten(*tree, members, &leaf_weights, &mut forest)?;
        }
        if let Some(((tree, node), _)) =
            leaf_weights.iter().filter(|(_, (_, used))| !used.get()).min_by_key(|(k, _)| **k)
        {
            return Err(TreeError::NoSuchLeaf { tree: *tree, node: *node });
        }
        Ok(forest)
    }

    fn check_lengths(&self) -> Result<(), TreeError> {
        let n = self.nodes_nodeids.len();
        if n == 0 {
            return Err(TreeError::Empty);
        }
        if n > MAX_NODES {
            return Err(TreeError::TooLarge { what: "nodes", got: n, max: MAX_NODES });
        }
        let like = "nodes_nodeids";
        for (array, got) in [
            ("nodes_treeids", self.nodes_treeids.len()),
            ("nodes_featureids", self.nodes_featureids.len()),
            ("nodes_modes", self.nodes_modes.len()),
            ("nodes_values", self.nodes_values.len()),
            ("nodes_truenodeids", self.nodes_truenodeids.len()),
            ("nodes_falsenodeids", self.nodes_falsenodeids.len()),
        ] {
            if got != n {
                return Err(TreeError::Length { array, got, expected: n, like });
            }
        }
        let m = self.target_nodeids.len();
        let like = "target_nodeids";
        for (array, got) in
            [("target_treeids", self.target_treeids.len()), ("target_weights", self.target_weights.len())]
        {
            if got != m {
                return Err(TreeError::Length { array, got, expected: m, like });
            }
        }
        if !self.base_value.is_finite() {
            let what = "the base value";
            return Err(TreeError::NotFinite { tree: 0, node: 0, what, value: self.base_value });
        }
        Ok(())
    }

    /// The entries of each tree, trees in order of their first entry.
    fn trees(&self) -> Result<Vec<(i64, Vec<usize>)>, TreeError> {
        let mut place: HashMap<i64, usize> = HashMap::new();
        let mut trees: Vec<(i64, Vec<usize>)> = Vec::new();
        for (i, &tree) in self.nodes_treeids.iter().enumerate() {
            let at = *place.entry(tree).or_insert_with(|| {
                trees.push((tree, Vec::new()));
                trees.len() - 1
            });
            trees[at].1.push(i);
        }
        if trees.len() > MAX_TREES {
            return Err(TreeError::TooLarge { what: "trees", got: trees.len(), max: MAX_TREES });
        }
        Ok(trees)
    }

    /// Sum of the weights of each leaf, and whether a leaf took it.
    #[allow(clippy::type_complexity, reason = "private, used once")]
    fn leaf_weights(&self) -> Result<HashMap<(i64, i64), (f32, std::cell::Cell<bool>)>, TreeError> {
        let mut weights: HashMap<(i64, i64), (f32, std::cell::Cell<bool>)> = HashMap::new();
        for ((&tree, &node), &w) in self.target_treeids.iter().zip(&self.target_nodeids).zip(&self.target_weights) {
            let sum = &mut weights.entry((tree, node)).or_default().0;
            *sum += w;
            if !sum.is_finite() {
                return Err(TreeError::NotFinite { tree, node, what: "the leaf weight", value: *sum });
            }
        }
        Ok(weights)
    }

    fn flatten(
        &self,
        tree: i64,
        members: &[usize],
        weights: &HashMap<(i64, i64), (f32, std::cell::Cell<bool>)>,
        forest: &mut Forest,
    ) -> Result<(), TreeError> {
        if members.len() > MAX_TREE_NODES {
            return Err(TreeError::TooLarge { what: "nodes in one tree", got: members.len(), max: MAX_TREE_NODES });
        }
        let mut by_id: HashMap<i64, usize> = HashMap::with_capacity(members.len());
        for (local, &i) in members.iter().enumerate() {
            let node = self.nodes_nodeids[i];
            if by_id.insert(node, local).is_some() {
                return Err(TreeError::DuplicateNode { tree, node });
            }
        }
        let mut has_parent = vec![false; members.len()];
        // Per entry: (taken if x <= threshold, taken if x > threshold, threshold).
        let mut branches: Vec<Option<(usize, usize, f32)>> = Vec::with_capacity(members.len());
        for &i in members {
            let node = self.nodes_nodeids[i];
            let mode = self.nodes_modes[i];
            if mode == Mode::Leaf {
                branches.push(None);
                continue;
            }
            let feature = self.nodes_featureids[i];
            if !(0..MAX_FEATURES as i64).contains(&feature) {
                return Err(TreeError::Feature { tree, node, feature, max: MAX_FEATURES });
            }
            let value = self.nodes_values[i];
            if !value.is_finite() {
                return Err(TreeError::NotFinite { tree, node, what: "the threshold", value });
            }
            let mut child = |child: i64| -> Result<usize, TreeError> {
                let local = *by_id.get(&child).ok_or(TreeError::NoSuchChild { tree, node, child })?;
                if std::mem::replace(&mut has_parent[local], true) {
                    return Err(TreeError::TwoParents { tree, node: child });
                }
                Ok(local)
            };
            let yes = child(self.nodes_truenodeids[i])?;
            let no = child(self.nodes_falsenodeids[i])?;
            // For floats, x < v is x <= the next float below v.
            branches.push(Some(match mode {
                Mode::Leq => (yes, no, value),
                Mode::Lt => (yes, no, value.next_down()),
                Mode::Gt => (no, yes, value),
                _ => (no, yes, value.next_down()),
            }));
        }
        let roots = has_parent.iter().filter(|p| !**p).count();
        let Some(root) = has_parent.iter().position(|p| !p).filter(|_| roots == 1) else {
            return Err(TreeError::Roots { tree, roots });
        };

        // Breadth first, so that the two children of a node are neighbours. One parent each and one root: no node comes twice.
        let start = forest.nodes.len();
        let mut queue = vec![(root, 0usize)];
        let mut depth = 0;
        let mut at = 0;
        while let Some(&(local, level)) = queue.get(at) {
            depth = depth.max(level);
            if level > MAX_DEPTH {
                return Err(TreeError::TooLarge { what: "levels in one tree", got: level, max: MAX_DEPTH });
            }
            match branches[local] {
                Some((left, right, threshold)) => {
                    let feature = self.nodes_featureids[members[local]] as u16;
                    forest.nodes.push(Node { threshold, feature, left: queue.len() as u16 });
                    forest.values.push(0.0);
                    forest.width = forest.width.max(usize::from(feature) + 1);
                    queue.push((left, level + 1));
                    queue.push((right, level + 1));
                }
                None => {
                    let weight = weights.get(&(tree, self.nodes_nodeids[members[local]])).map_or(0.0, |(w, used)| {
                        used.set(true);
                        *w
                    });
                    forest.nodes.push(Node { threshold: f32::INFINITY, feature: 0, left: at as u16 });
                    forest.values.push(weight);
                }
            }
            at += 1;
        }
        if queue.len() != members.len() {
            return Err(TreeError::Unreachable { tree, reached: queue.len(), nodes: members.len() });
        }
        forest.trees.push(Tree { start: start as u32, nodes: queue.len() as u32, depth: depth as u32 });
        Ok(())
    }
}
