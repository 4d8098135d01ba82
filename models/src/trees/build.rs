//! From the parallel arrays of an ONNX node to a [`Forest`], with every check that makes the latter safe to run.

use std::collections::HashMap;

use super::flat::{EQUALITY, Forest, NAN_LEFT, Node, Tree};
use super::{MAX_DEPTH, MAX_FEATURES, MAX_NODES, MAX_TARGETS, MAX_TREE_NODES, MAX_TREES, MAX_VALUES};

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
    /// To the true child if `x == value`.
    Eq,
    /// To the true child if `x != value`.
    Neq,
    Leaf,
}

impl Mode {
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Leq => "BRANCH_LEQ",
            Mode::Lt => "BRANCH_LT",
            Mode::Gte => "BRANCH_GTE",
            Mode::Gt => "BRANCH_GT",
            Mode::Eq => "BRANCH_EQ",
            Mode::Neq => "BRANCH_NEQ",
            Mode::Leaf => "LEAF",
        }
    }

    /// All of them; the branching ones are in the order in which `TreeEnsemble` numbers them.
    pub const ALL: [Mode; 7] = [Mode::Leq, Mode::Lt, Mode::Gte, Mode::Gt, Mode::Eq, Mode::Neq, Mode::Leaf];

    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name().as_bytes() == name)
    }
}

/// How the trees' values become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregate {
    #[default]
    Sum,
    Average,
    Min,
    Max,
}

/// A tree ensemble (ai.onnx.ml) as ONNX stores it: one entry per node, one per weight of a leaf.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TreeArrays {
    pub nodes_treeids: Vec<i64>,
    pub nodes_nodeids: Vec<i64>,
    pub nodes_featureids: Vec<i64>,
    pub nodes_modes: Vec<Mode>,
    pub nodes_values: Vec<f32>,
    pub nodes_truenodeids: Vec<i64>,
    pub nodes_falsenodeids: Vec<i64>,
    /// Whether NaN goes to the true child; where it is empty, NaN goes where the comparison sends it.
    pub nodes_missing_value_tracks_true: Vec<i64>,
    pub target_treeids: Vec<i64>,
    pub target_nodeids: Vec<i64>,
    /// All 0 where it is empty.
    pub target_ids: Vec<i64>,
    pub target_weights: Vec<f32>,
    /// Values per row; 0 stands for 1.
    pub n_targets: i64,
    /// One for all targets, one each, or none.
    pub base_values: Vec<f32>,
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
    #[error("a weight of tree {tree}, node {node} is for target {target}, outside 0..{targets}")]
    Target { tree: i64, node: i64, target: i64, targets: usize },
}

impl TreeArrays {
    /// Validates and flattens. Takes time linear in the number of nodes (and of the logarithm of it), whatever they contain.
    pub fn build(&self) -> Result<Forest, TreeError> {
        let targets = self.check_lengths()?;
        let order = self.trees()?;
        let mut weights = self.leaf_weights(targets)?;
        let base = self.base_values.iter().copied().cycle().take(targets);
        let base = if self.base_values.is_empty() { vec![0.0; targets] } else { base.collect() };
        let mut forest = Forest::empty(self.aggregate, base);
        for (tree, members) in &order {
            self.flatten(*tree, members, &mut weights, &mut forest)?;
        }
        if let Some(&(tree, node)) = weights.by_leaf.keys().min() {
            return Err(TreeError::NoSuchLeaf { tree, node });
        }
        Ok(forest.finish())
    }

    /// Returns the number of targets.
    fn check_lengths(&self) -> Result<usize, TreeError> {
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
        for (array, got, expected, like) in [
            ("nodes_missing_value_tracks_true", self.nodes_missing_value_tracks_true.len(), n, "nodes_nodeids"),
            ("target_ids", self.target_ids.len(), m, "target_nodeids"),
        ] {
            if got != 0 && got != expected {
                return Err(TreeError::Length { array, got, expected, like });
            }
        }
        let targets = usize::try_from(self.n_targets.max(1)).unwrap_or(usize::MAX);
        if targets > MAX_TARGETS {
            return Err(TreeError::TooLarge { what: "targets", got: targets, max: MAX_TARGETS });
        }
        if ![0, 1, targets].contains(&self.base_values.len()) {
            let got = self.base_values.len();
            return Err(TreeError::Length { array: "base_values", got, expected: targets, like: "n_targets" });
        }
        if let Some(value) = self.base_values.iter().copied().find(|v| !v.is_finite()) {
            return Err(TreeError::NotFinite { tree: 0, node: 0, what: "the base value", value });
        }
        Ok(targets)
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

    /// The weights of each leaf, by target.
    fn leaf_weights(&self, targets: usize) -> Result<Weights, TreeError> {
        // A target that a leaf says nothing of adds nothing, but is not the smallest or the largest value either.
        let nothing = if matches!(self.aggregate, Aggregate::Min | Aggregate::Max) { f32::NAN } else { 0.0 };
        let mut out = Weights { by_leaf: HashMap::new(), values: vec![], nothing, targets };
        for (i, (&tree, &node)) in self.target_treeids.iter().zip(&self.target_nodeids).enumerate() {
            let row = *out.by_leaf.entry((tree, node)).or_insert(out.values.len() / targets);
            if row * targets == out.values.len() {
                let values = out.values.len() + targets;
                if values > MAX_VALUES {
                    return Err(TreeError::TooLarge { what: "leaf values", got: values, max: MAX_VALUES });
                }
                out.values.resize(values, nothing);
            }
            let target = self.target_ids.get(i).copied().unwrap_or(0);
            let at = usize::try_from(target).ok().filter(|t| *t < targets);
            let at = at.ok_or(TreeError::Target { tree, node, target, targets })?;
            let sum = &mut out.values[row * targets + at];
            // Whoever gives a target several weights in one leaf wants their sum.
            *sum = if sum.is_nan() { 0.0 } else { *sum } + self.target_weights[i];
            if !sum.is_finite() {
                return Err(TreeError::NotFinite { tree, node, what: "the leaf weight", value: *sum });
            }
        }
        Ok(out)
    }

    fn flatten(
        &self,
        tree: i64,
        members: &[usize],
        weights: &mut Weights,
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
        let mut branches: Vec<Option<Branch>> = Vec::with_capacity(members.len());
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
            // What comparisons with NaN give: false, except for `!=`.
            let tracks = self.nodes_missing_value_tracks_true.get(i).is_some_and(|v| *v != 0);
            let nan = if tracks || mode == Mode::Neq { yes } else { no };
            // For floats, x < v is x <= the next float below v.
            let (left, right, threshold) = match mode {
                Mode::Leq => (yes, no, value),
                Mode::Lt => (yes, no, value.next_down()),
                Mode::Gt => (no, yes, value),
                Mode::Eq => (yes, no, value),
                Mode::Neq => (no, yes, value),
                _ => (no, yes, value.next_down()),
            };
            let equality = matches!(mode, Mode::Eq | Mode::Neq);
            let flags = if equality { EQUALITY } else { 0 } | if nan == left { NAN_LEFT } else { 0 };
            forest.has_equality |= equality;
            branches.push(Some(Branch { left, right, threshold, flags }));
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
                Some(Branch { left, right, threshold, flags }) => {
                    let feature = self.nodes_featureids[members[local]] as u16;
                    forest.nodes.push(Node { threshold, feature, left: queue.len() as u16 });
                    forest.flags.push(flags);
                    forest.leaf_of.push(0);
                    forest.width = forest.width.max(usize::from(feature) + 1);
                    queue.push((left, level + 1));
                    queue.push((right, level + 1));
                }
                None => {
                    forest.nodes.push(Node { threshold: f32::INFINITY, feature: 0, left: at as u16 });
                    forest.flags.push(0);
                    forest.leaf_of.push((forest.values.len() / weights.targets) as u32);
                    weights.take((tree, self.nodes_nodeids[members[local]]), &mut forest.values)?;
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

/// A node's children by position among its tree's entries.
#[derive(Clone, Copy)]
struct Branch {
    /// Taken if `x <= threshold`, or if they are equal.
    left: usize,
    right: usize,
    threshold: f32,
    flags: u8,
}

/// The weights that no leaf took yet.
struct Weights {
    /// Row of `values`.
    by_leaf: HashMap<(i64, i64), usize>,
    /// Row-major, `targets` columns.
    values: Vec<f32>,
    /// What a leaf without a weight has.
    nothing: f32,
    targets: usize,
}

impl Weights {
    /// Moves a leaf's weights to the end of `out`.
    fn take(&mut self, leaf: (i64, i64), out: &mut Vec<f32>) -> Result<(), TreeError> {
        let values = out.len() + self.targets;
        if values > MAX_VALUES {
            return Err(TreeError::TooLarge { what: "leaf values", got: values, max: MAX_VALUES });
        }
        match self.by_leaf.remove(&leaf) {
            Some(row) => out.extend_from_slice(&self.values[row * self.targets..][..self.targets]),
            None => out.resize(values, self.nothing),
        }
        Ok(())
    }
}
